//! A requested change: what to do, under which preconditions, in whose name.

use std::sync::Arc;

use godwit_wire::name::Name;
use godwit_wire::rr::{Rrset, Rtype};

use super::soa::Soa;
use super::zone::TtlPolicy;
use crate::auth::access::Access;
use crate::auth::limits::Limits;
use crate::error::Problem;
use crate::past::At;
use crate::store::audit::Who;

/// One step of a change. All steps of a change commit together or not at all.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Writes one RRset.
    Put {
        /// Owner name.
        owner: Name,
        /// What it shall be; without signatures. A TTL of `None` keeps that of an existing set, or takes the default.
        rtype: Rtype,
        /// Seconds.
        ttl: Option<u32>,
        /// RDATA, at least one.
        rdata: Vec<Box<[u8]>>,
        /// What must be there before.
        mode: PutMode,
        /// The zone to write to; `None`: the longest match.
        zone: Option<Name>,
    },
    /// Adds records to an RRset, making it when it is not there; what is there already stays.
    AddValues {
        /// Owner name.
        owner: Name,
        /// Type of the set.
        rtype: Rtype,
        /// Seconds; `None` keeps that of an existing set.
        ttl: Option<u32>,
        /// RDATA to add.
        rdata: Vec<Box<[u8]>>,
        /// As in [`Operation::Put`].
        zone: Option<Name>,
    },
    /// Takes records out of an RRset; the last one out removes the set. What is not there is no error.
    RemoveValues {
        /// Owner name.
        owner: Name,
        /// Type of the set.
        rtype: Rtype,
        /// RDATA to take out.
        rdata: Vec<Box<[u8]>>,
        /// As in [`Operation::Put`].
        zone: Option<Name>,
    },
    /// Deletes one RRset, or all of an owner name.
    Delete {
        /// Owner name.
        owner: Name,
        /// `None`: all types.
        rtype: Option<Rtype>,
        /// As in [`Operation::Put`].
        zone: Option<Name>,
    },
    /// Writes a whole zone.
    PutZone(PutZone),
    /// Changes properties of a zone and leaves its records.
    PatchZone {
        /// The apex.
        apex: Name,
        /// New policy.
        ttl_policy: Option<TtlPolicy>,
        /// What becomes of its SOA.
        soa: Option<SoaChange>,
    },
    /// Deletes a zone with all its records.
    DeleteZone {
        /// The apex.
        apex: Name,
    },
    /// Deletes a zone that has been frozen since a time or longer; nobody but the control plane itself asks for that.
    ReleaseZone {
        /// The apex.
        apex: Name,
        /// Microseconds since the epoch.
        frozen_by_us: i64,
    },
    /// Makes a zone what it was.
    Rollback {
        /// The apex.
        apex: Name,
        /// Which state.
        to: At,
    },
    /// Makes everything what it was after a sequence, as far as one change can.
    RollbackAll {
        /// The sequence.
        to: u64,
        /// The most zones that are changed.
        max_zones: usize,
    },
}

impl Operation {
    /// Of an operation on records: the owner name, the type if it is about one, and the zone if the caller named it.
    #[must_use]
    pub fn of_records(&self) -> Option<(&Name, Option<Rtype>, Option<&Name>)> {
        match self {
            Operation::Put { owner, rtype, zone, .. }
            | Operation::AddValues { owner, rtype, zone, .. }
            | Operation::RemoveValues { owner, rtype, zone, .. } => {
                Some((owner, Some(*rtype), zone.as_ref()))
            }
            Operation::Delete { owner, rtype, zone } => Some((owner, *rtype, zone.as_ref())),
            Operation::PutZone(_)
            | Operation::PatchZone { .. }
            | Operation::DeleteZone { .. }
            | Operation::ReleaseZone { .. }
            | Operation::Rollback { .. }
            | Operation::RollbackAll { .. } => None,
        }
    }
}

/// Changes an SOA as it stands inside the transaction.
pub type ChangeSoa = Arc<dyn Fn(&mut Soa) -> Result<(), Problem> + Send + Sync>;

/// See [`Operation::PatchZone`].
#[derive(Clone)]
pub struct SoaChange(pub ChangeSoa);

impl std::fmt::Debug for SoaChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SoaChange")
    }
}

/// See [`Operation::PutZone`].
#[derive(Clone, Debug)]
pub struct PutZone {
    /// The apex.
    pub apex: Name,
    /// All its RRsets; SOA and NS may be left out, then they stay, or are those of a new zone.
    pub rrsets: Vec<(Name, Rrset)>,
    /// What must be there before.
    pub mode: PutMode,
    /// `None`: as it is, `Bounded` for a new zone.
    pub ttl_policy: Option<TtlPolicy>,
    /// Whose it is if it is new; `None`: of the only tenant for which who asks may make zones.
    pub tenant: Option<u32>,
    /// SOA for the case that `rrsets` has none and the zone is new.
    pub default_soa: Rrset,
    /// NS for the case that `rrsets` has none and the zone is new.
    pub default_ns: Rrset,
}

/// What a put expects to find.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PutMode {
    /// Nothing.
    Create,
    /// Something.
    Replace,
    /// Either.
    Upsert,
}

/// The value of `If-Match` (RFC 9110 §13.1.1).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum IfMatch {
    /// `*`: the zone exists.
    Any,
    /// Its version is one of these.
    Versions(Vec<u64>),
}

/// A write that may be sent again without happening again.
#[derive(Clone, Debug)]
pub struct Idempotency {
    /// `Idempotency-Key`.
    pub key: String,
    /// SHA-256 over method, path, query and body.
    pub request_hash: [u8; 32],
}

/// From so many steps on a change is long.
const LONG_STEPS: usize = 1_000;
/// The most operations of one that is [plain](Request::is_plain).
const PLAIN_STEPS: usize = 16;

/// A whole request to change something.
#[derive(Clone, Debug)]
pub struct Request {
    /// The id of the change: UUIDv7.
    pub id: uuid::Uuid,
    /// Who, and how they came.
    pub who: Who,
    /// What the audit says was done: `record.put`, `zone.import`, ….
    pub action: &'static str,
    /// What whoever asks is narrowed to.
    pub(crate) limits: Arc<Limits>,
    /// Which zones they see, and what they may there.
    pub(crate) access: Access,
    /// Steps, in order.
    pub operations: Vec<Operation>,
    /// Holds for the only zone that the operations name.
    pub if_match: Option<IfMatch>,
    /// Given when the caller sent a key.
    pub idempotency: Option<Idempotency>,
    /// Judge it, and change nothing.
    pub dry_run: bool,
    /// How many names the caller says that it costs, where a change has to be confirmed.
    pub confirm: Option<u64>,
}

impl Request {
    /// Whether it is a change of a few records that is meant to be made: all that it reads is what its owner names hold.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        let is_plain = |operation: &Operation| operation.of_records().is_some();
        !self.dry_run && self.operations.len() <= PLAIN_STEPS && self.operations.iter().all(is_plain)
    }

    /// Whether it may take the writer for long: it has many steps, or writes or deletes a zone of unknown size.
    #[must_use]
    pub fn is_long(&self) -> bool {
        let is_long = |operation: &Operation| match operation {
            Operation::PutZone(put) => put.mode != PutMode::Create || put.rrsets.len() >= LONG_STEPS,
            Operation::DeleteZone { .. }
            | Operation::ReleaseZone { .. }
            | Operation::Rollback { .. }
            | Operation::RollbackAll { .. } => true,
            _ => false,
        };
        self.operations.len() >= LONG_STEPS || self.operations.iter().any(is_long)
    }
}
