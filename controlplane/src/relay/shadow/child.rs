//! The child: applies what it is told with the data planes' own code, and asks for the names that were changed. It ends with its
//! input, and with its parent.

use std::collections::BTreeSet;
use std::io::{self, BufReader, Write as _};
use std::os::unix::process::parent_id;
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use godwit_engine::answer::{Answerer, Client, Settings, Transport};
use godwit_engine::snapshot::{Snapshot, SnapshotOptions, ZoneLoader};
use godwit_wire::feed::{
    ChangeSet, DigestKey, OwnedRrset, RrsetChange, ZoneBlobReader, ZoneChange, ZoneChangeKind,
};
use godwit_wire::message::MAX_MESSAGE_OCTETS;
use godwit_wire::name::{Name, NameRef};
use godwit_wire::rr::{Rrset, Rtype};
use nix::sys::resource::{Resource, setrlimit};

use super::frames::{self, Kind};
#[cfg(debug_assertions)]
use super::planted::Planted;

/// Half of what a data plane's thread has: what overflows there overflows here.
const STACK: usize = 1 << 20;
/// How often it is looked whether the parent is still there.
const LOOK: Duration = Duration::from_secs(1);
/// The most questions about one change set.
const MOST_QUESTIONS: usize = 100_000;
/// RDATA of an SOA that says nothing.
const SOA: [u8; 22] = [0; 22];

/// Runs until the input ends, or the parent does. Standard input and output are the parent's; the memory of the process is bounded.
#[must_use]
pub fn main(memory_octets: u64) -> ExitCode {
    let parent = parent_id();
    let (done, ended) = mpsc::channel();
    let working = std::thread::Builder::new().stack_size(STACK).spawn(move || {
        let _ = done.send(work(memory_octets));
    });
    let orphaned = || io::Error::other("the control plane is gone");
    let result = working.and_then(|_| {
        loop {
            match ended.recv_timeout(LOOK) {
                Ok(result) => return result,
                // Who is at something without end does not read that the input has one.
                Err(RecvTimeoutError::Timeout) if parent_id() != parent => return Err(orphaned()),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(io::Error::other("it panicked")),
            }
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "godwit: the shadow ends: {error}");
            ExitCode::from(101)
        }
    }
}

fn work(memory_octets: u64) -> io::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    setrlimit(Resource::RLIMIT_AS, memory_octets, memory_octets)?;
    let mut copy = Copy::new();
    let (mut input, mut output) = (BufReader::new(io::stdin()), io::stdout());
    let mut say = |kind, octets: &[u8]| {
        let mut frame = Vec::with_capacity(octets.len() + 8);
        frames::put(&mut frame, kind, octets);
        output.write_all(&frame)?;
        output.flush()
    };
    say(Kind::Ready, &[])?;
    let mut answers = Vec::new();
    while let Some((kind, octets)) = frames::read(&mut input)? {
        match kind {
            Kind::Zone => frames::put_answer(&mut answers, copy.zone(&octets).err().as_deref()),
            Kind::ChangeSet => frames::put_answer(&mut answers, copy.change_set(&octets).err().as_deref()),
            Kind::Forget => copy.forget(&octets),
            Kind::Judge => {
                say(Kind::Answers, &answers)?;
                answers.clear();
            }
            Kind::Ready | Kind::Answers => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
    Ok(())
}

/// What a data plane would hold of some zones.
struct Copy {
    snapshot: Snapshot,
    answerer: Answerer,
    settings: Settings,
    out: Vec<u8>,
    #[cfg(debug_assertions)]
    planted: Option<Planted>,
}

impl Copy {
    fn new() -> Copy {
        Copy {
            snapshot: Snapshot::empty(&options()),
            answerer: Answerer::new(),
            settings: Settings::default(),
            out: vec![0; MAX_MESSAGE_OCTETS],
            #[cfg(debug_assertions)]
            planted: Planted::of_environment(),
        }
    }

    /// Takes a whole zone (`ZoneBlob`), whatever was there before.
    fn zone(&mut self, octets: &[u8]) -> Result<(), String> {
        let mut reader = ZoneBlobReader::new(octets).map_err(|error| error.to_string())?;
        let apex = reader.zone().to_owned();
        self.forget(apex.as_wire());
        let mut loader = ZoneLoader::new(apex, reader.owner());
        while let Some((owner, rrset)) = reader.next_rrset().map_err(|error| error.to_string())? {
            self.strike(owner);
            loader.rrset(owner, &rrset).map_err(|error| error.to_string())?;
        }
        let zone = loader.finish().map_err(|error| error.to_string())?.with_version(reader.version());
        self.snapshot = self.snapshot.replace_zones(vec![zone]);
        Ok(())
    }

    fn forget(&mut self, apex: &[u8]) {
        if let Ok(apex) = Name::from_wire(apex) {
            self.snapshot = self.snapshot.remove_zones(&[apex]);
        }
    }

    /// Applies a change set, as a data plane does: what a zone has already is stepped over. Of zones that are not here only the
    /// records that are put are looked at.
    fn change_set(&mut self, octets: &[u8]) -> Result<(), String> {
        let set = ChangeSet::decode(octets).map_err(|error| error.to_string())?;
        puts(&set.zones).for_each(|put| self.strike(put.owner.as_ref()));
        let (mut made, mut here, mut elsewhere) = (BTreeSet::new(), Vec::new(), Vec::new());
        for change in &set.zones {
            let held = self.snapshot.zone(change.zone.as_ref()).map(|zone| zone.version());
            if made.contains(&change.zone) || (held.is_none() && change.base_version == 0) {
                made.insert(&change.zone);
                here.push(change.clone());
            } else if held.is_none() {
                elsewhere.push(change);
            } else if held < Some(change.version) {
                made.insert(&change.zone);
                here.push(change.clone());
            }
        }
        for change in elsewhere {
            self.alone(change);
        }
        let here = ChangeSet { zones: here, ..set.clone() };
        let next = self.snapshot.apply(&here).map_err(|error| error.to_string())?;
        self.ask(&next, &set.zones);
        self.snapshot = next;
        Ok(())
    }

    /// Looks at the records that a change puts, in a zone of their own; whether they make one does not matter.
    fn alone(&mut self, change: &ZoneChange) {
        let mut records: Vec<OwnedRrset> = puts(std::slice::from_ref(change)).cloned().collect();
        let apex = &change.zone;
        if !records.iter().any(|one| one.owner == *apex && one.rrset.rtype == Rtype::SOA) {
            let rdata = vec![SOA.into()];
            let rrset = Rrset { rtype: Rtype::SOA, ttl: 0, rdata, rrsigs: Vec::new() };
            records.push(OwnedRrset { owner: apex.clone(), rrset });
        }
        let kind = ZoneChangeKind::Replace(records);
        let zones = vec![ZoneChange { base_version: 0, version: 1, kind, ..change.clone() }];
        let alone = Snapshot::empty(&options());
        if let Ok(alone) = alone.apply(&ChangeSet { id: [0; 16], committed_at_us: 0, zones }) {
            self.ask(&alone, std::slice::from_ref(change));
        }
    }

    /// Asks for what was changed.
    fn ask(&mut self, snapshot: &Snapshot, changes: &[ZoneChange]) {
        let put = puts(changes).map(|put| (&put.owner, put.rrset.rtype));
        let questions: BTreeSet<(&Name, Rtype)> = put.chain(deletes(changes)).take(MOST_QUESTIONS).collect();
        let client = Client { address: [127, 0, 0, 1].into(), transport: Transport::Tcp };
        for (name, rtype) in questions {
            let mut packet = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            packet.extend_from_slice(name.as_wire());
            packet.extend_from_slice(&rtype.0.to_be_bytes());
            packet.extend_from_slice(&[0, 1]);
            let Copy { answerer, settings, out, .. } = self;
            answerer.answer(snapshot, settings, &client, 0, &packet, out);
        }
    }

    /// Harm that a test has planted for this owner name.
    #[cfg(debug_assertions)]
    fn strike(&self, owner: NameRef<'_>) {
        if let Some(planted) = &self.planted {
            planted.strike(owner);
        }
    }

    /// In a release there is none.
    #[cfg(not(debug_assertions))]
    fn strike(&self, _: NameRef<'_>) {}
}

/// Nobody else sees it: nothing is to be kept from anybody.
fn options() -> SnapshotOptions {
    SnapshotOptions { hash_key: [0; 16], digest_key: DigestKey([0; 32]) }
}

fn puts(changes: &[ZoneChange]) -> impl Iterator<Item = &OwnedRrset> {
    changes.iter().flat_map(|change| {
        let (whole, steps) = match &change.kind {
            ZoneChangeKind::Replace(sets) => (sets.as_slice(), [].as_slice()),
            ZoneChangeKind::Update(steps) => ([].as_slice(), steps.as_slice()),
            ZoneChangeKind::Remove => ([].as_slice(), [].as_slice()),
        };
        whole.iter().chain(steps.iter().filter_map(|step| match step {
            RrsetChange::Put(put) => Some(put),
            RrsetChange::Delete { .. } => None,
        }))
    })
}

fn deletes(changes: &[ZoneChange]) -> impl Iterator<Item = (&Name, Rtype)> {
    changes.iter().flat_map(|change| {
        let steps = match &change.kind {
            ZoneChangeKind::Update(steps) => steps.as_slice(),
            ZoneChangeKind::Replace(_) | ZoneChangeKind::Remove => [].as_slice(),
        };
        steps.iter().filter_map(|step| match step {
            RrsetChange::Put(_) => None,
            RrsetChange::Delete { owner, rtype } => Some((owner, *rtype)),
        })
    })
}
