//! A zone as the snapshot holds it, and the view of it that others read.

use godwit_wire::feed::digest::Digest;
use godwit_wire::name::{Name, NameRef};
use godwit_wire::rr::{Rrset, Rtype};
use triomphe::ThinArc;

use super::index::Keyed;
use super::load::{MAX_NSEC3_ITERATIONS, MAX_NSEC3_SALT_OCTETS};
use super::node::Node;
use super::order::OrderedSet;

/// NSEC3 parameters of a zone (RFC 5155 §4).
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Nsec3Parameters {
    /// How many more times than once names are hashed.
    pub(crate) iterations: u16,
    /// Appended to what is hashed.
    pub(crate) salt: Box<[u8]>,
}

impl Nsec3Parameters {
    /// Whether hashing a name costs no more than a denial may.
    pub(crate) fn is_affordable(&self) -> bool {
        self.iterations <= MAX_NSEC3_ITERATIONS && self.salt.len() <= MAX_NSEC3_SALT_OCTETS
    }
}

/// What belongs to a zone as a whole. Hangs on the node of its apex.
///
/// The apex itself is in none of the sets: it holds this, and a count that holds itself would never be freed.
#[derive(Clone)]
pub(crate) struct Zone {
    /// The tenant that owns it; 0: the operator.
    pub(crate) owner_number: u32,
    pub(crate) version: u64,
    pub(crate) serial: u32,
    pub(crate) digest: Digest,
    /// Every name but the apex, empty non-terminals and occluded names too.
    pub(crate) order: OrderedSet<Node>,
    /// Those that have NSEC.
    pub(crate) nsec: OrderedSet<Node>,
    /// Those that have NSEC3.
    pub(crate) nsec3: OrderedSet<Node>,
    pub(crate) nsec3_parameters: Option<Nsec3Parameters>,
}

impl Zone {
    /// The node at a name, which is not the apex.
    pub(crate) fn get(&self, name: NameRef<'_>) -> Option<&Node> {
        self.order.get(name)
    }
}

/// An apex in the ordered set of all zones.
#[derive(Clone)]
pub(crate) struct ApexKey(ThinArc<(), u8>);

impl ApexKey {
    pub(crate) fn new(apex: NameRef<'_>) -> Self {
        ApexKey(ThinArc::from_header_and_slice((), apex.as_wire()))
    }

    pub(crate) fn name(&self) -> NameRef<'_> {
        NameRef::from_checked(&self.0.slice)
    }
}

impl Keyed for ApexKey {
    fn key(&self) -> &[u8] {
        &self.0.slice
    }

    fn prefetch(&self) {}
}

/// A zone of a snapshot, to look at.
#[derive(Clone, Copy)]
pub struct ZoneView<'s> {
    pub(crate) apex: &'s Node,
    pub(crate) zone: &'s Zone,
}

impl<'s> ZoneView<'s> {
    pub(crate) fn of(apex: &'s Node) -> Option<Self> {
        apex.zone().map(|zone| ZoneView { apex, zone })
    }

    /// Its apex.
    #[must_use]
    pub fn apex(&self) -> NameRef<'s> {
        self.apex.name()
    }

    /// Its version: rises by one or more with every change.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.zone.version
    }

    /// The serial of its SOA.
    #[must_use]
    pub fn serial(&self) -> u32 {
        self.zone.serial
    }

    /// The number of the tenant that owns it; 0 is the operator.
    #[must_use]
    pub fn owner_number(&self) -> u32 {
        self.zone.owner_number
    }

    /// The digest of its records.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.zone.digest
    }

    /// How many names it has, the apex and empty non-terminals included.
    #[must_use]
    pub fn name_count(&self) -> usize {
        self.zone.order.len() + 1
    }

    /// Its RRsets in canonical order of names, the apex first, each name's in order of type.
    pub fn rrsets(&self) -> impl Iterator<Item = (NameRef<'s>, Rrset)> + use<'s> {
        let apex: &'s Node = self.apex;
        let zone: &'s Zone = self.zone;
        std::iter::once(apex).chain(zone.order.iter()).flat_map(|node| {
            node.rrsets().map(|(rtype, image)| (node.name(), image.to_rrset(node.name(), rtype)))
        })
    }

    /// The RRset of a name and type.
    #[must_use]
    pub fn rrset(&self, owner: NameRef<'_>, rtype: Rtype) -> Option<Rrset> {
        let node = if owner == self.apex() { self.apex } else { self.zone.get(owner)? };
        Some(node.find(rtype)?.to_rrset(node.name(), rtype))
    }

    /// The apex, owned.
    #[must_use]
    pub fn name(&self) -> Name {
        self.apex().to_owned()
    }
}
