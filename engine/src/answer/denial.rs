//! Proofs of presigned zones that something does not exist: NSEC (RFC 4035 §3.1.3) and NSEC3 (RFC 5155 §7.2).

use arrayvec::ArrayVec;
use godwit_wire::image::Image;
use godwit_wire::name::{MAX_NAME_OCTETS, NameRef};
use godwit_wire::nsec3;
use godwit_wire::response::{Full, Section};
use godwit_wire::rr::Rtype;

use super::reply::{Reply, Subject};
use crate::snapshot::ZoneView;
use crate::snapshot::node::Node;
use crate::snapshot::zone::Nsec3Parameters;

/// What is to be proven of a name.
#[derive(Clone, Copy)]
pub(super) enum Proof<'s> {
    /// It exists, but not with this type: also that there is no DS at a cut.
    NoData {
        /// The name's node.
        node: Option<&'s Node>,
    },
    /// It does not exist, nor a wildcard for it.
    NxDomain {
        /// Its closest encloser.
        encloser: &'s Node,
    },
    /// It does not exist, so that this wildcard was right.
    WildcardAnswer {
        /// The wildcard.
        source: &'s Node,
    },
    /// As before, and the wildcard has not this type.
    WildcardNoData {
        /// The wildcard.
        source: &'s Node,
    },
}

/// Nodes of which something stands in the message already.
#[derive(Default)]
pub(super) struct Written<'s>(ArrayVec<&'s Node, MOST_WRITTEN>);

/// More than all links of a chain and its end can need, and than a message has room for targets.
const MOST_WRITTEN: usize = 64;

impl<'s> Written<'s> {
    /// Notes a node; false when it was noted before, or no more can be.
    pub(super) fn add(&mut self, node: &'s Node) -> bool {
        let known = self.0.iter().any(|known| std::ptr::eq(known.name().as_wire(), node.name().as_wire()));
        !known && self.0.try_push(node).is_ok()
    }
}

/// Writes what proves it, as far as the zone has it, into the authority section.
pub(super) fn prove<'s>(
    reply: &mut Reply<'_, 's>,
    zone: ZoneView<'s>,
    subject: Subject<'_>,
    proof: Proof<'s>,
) -> Result<(), Full> {
    if let Some(parameters) = &zone.zone.nsec3_parameters {
        return Hashed { reply, zone, subject, parameters }.prove(proof);
    }
    if zone.apex.find(Rtype::NSEC).is_none() {
        return Ok(());
    }
    let mut wildcard = [0u8; MAX_NAME_OCTETS + 2];
    match proof {
        Proof::NoData { node } => match node.filter(|node| node.find(Rtype::NSEC).is_some()) {
            Some(node) => write(reply, zone, subject, node, Rtype::NSEC),
            None => cover(reply, zone, subject, subject.name),
        },
        Proof::NxDomain { encloser } => {
            cover(reply, zone, subject, subject.name)?;
            match star(encloser.name(), &mut wildcard) {
                Some(star) => cover(reply, zone, subject, star),
                None => Ok(()),
            }
        }
        Proof::WildcardAnswer { .. } => cover(reply, zone, subject, subject.name),
        Proof::WildcardNoData { source } => {
            cover(reply, zone, subject, subject.name)?;
            match source.find(Rtype::NSEC) {
                Some(_) => write(reply, zone, subject, source, Rtype::NSEC),
                None => cover(reply, zone, subject, source.name()),
            }
        }
    }
}

/// `*.` and a name.
fn star<'b>(name: NameRef<'_>, buffer: &'b mut [u8; MAX_NAME_OCTETS + 2]) -> Option<NameRef<'b>> {
    let end = name.as_wire().len() + 2;
    if end > MAX_NAME_OCTETS {
        return None;
    }
    let (star, rest) = buffer.get_mut(..end)?.split_at_mut_checked(2)?;
    star.copy_from_slice(&[1, b'*']);
    rest.copy_from_slice(name.as_wire());
    Some(NameRef::from_checked(buffer.get(..end)?))
}

/// The NSEC of the owner before a name, in canonical order.
fn cover<'s>(
    reply: &mut Reply<'_, 's>,
    zone: ZoneView<'s>,
    subject: Subject<'_>,
    name: NameRef<'_>,
) -> Result<(), Full> {
    let node = zone.zone.nsec.floor(name).unwrap_or(zone.apex);
    write(reply, zone, subject, node, Rtype::NSEC)
}

/// Writes a denial record with its RRSIGs, once per message.
fn write<'s>(
    reply: &mut Reply<'_, 's>,
    zone: ZoneView<'s>,
    subject: Subject<'_>,
    node: &'s Node,
    rtype: Rtype,
) -> Result<(), Full> {
    let Some(image) = node.find(rtype) else { return Ok(()) };
    if !reply.written.add(node) {
        return Ok(());
    }
    put(reply, zone, subject, node, image)
}

/// The owner's last labels are those of the subject, or at least of the apex: they are pointed to.
fn put<'s>(
    reply: &mut Reply<'_, 's>,
    zone: ZoneView<'s>,
    subject: Subject<'_>,
    node: &'s Node,
    image: Image<'s>,
) -> Result<(), Full> {
    let owner = node.name();
    let mut shared = owner;
    while !subject.name.is_at_or_below(shared) {
        match shared.parent() {
            Some(parent) if shared != zone.apex() => shared = parent,
            _ => break,
        }
    }
    let anchor = subject.suffix(shared);
    if shared == owner {
        return reply.response.put(Section::Authority, owner, image, true, &anchor).map(|_| ());
    }
    let prefix_octets = owner.as_wire().len().saturating_sub(shared.as_wire().len());
    reply.response.put_with_new_owner(Section::Authority, owner, prefix_octets, image, &anchor)
}

/// Proofs with hashed names.
struct Hashed<'h, 'a, 's, 'n> {
    reply: &'h mut Reply<'a, 's>,
    zone: ZoneView<'s>,
    subject: Subject<'n>,
    parameters: &'s Nsec3Parameters,
}

impl<'s> Hashed<'_, '_, 's, '_> {
    fn prove(&mut self, proof: Proof<'s>) -> Result<(), Full> {
        let name = self.subject.name;
        let mut wildcard = [0u8; MAX_NAME_OCTETS + 2];
        match proof {
            // RFC 5155 §7.2.3, §7.2.4.
            Proof::NoData { .. } => match self.matching(name) {
                Some(node) => self.write(node),
                None => self.closest_encloser(name.parent()).map(|_| ()),
            },
            // §7.2.2.
            Proof::NxDomain { encloser } => {
                // Where opt-out leaves the encloser out, its wildcard is below what is proven not to be there: validators ask for the
                // wildcard of the encloser that is proven (§8.4).
                let proven = self.closest_encloser(Some(encloser.name()))?.unwrap_or(encloser.name());
                match star(proven, &mut wildcard).and_then(|star| self.covering(star)) {
                    Some(node) => self.write(node),
                    None => Ok(()),
                }
            }
            // §7.2.6.
            Proof::WildcardAnswer { source } => {
                let next_closer = source.name().parent().and_then(|encloser| next_closer(name, encloser));
                match next_closer.and_then(|name| self.covering(name)) {
                    Some(node) => self.write(node),
                    None => Ok(()),
                }
            }
            // §7.2.5.
            Proof::WildcardNoData { source } => {
                self.closest_encloser(source.name().parent())?;
                match self.matching(source.name()) {
                    Some(node) => self.write(node),
                    None => Ok(()),
                }
            }
        }
    }

    /// The NSEC3 of the longest name at or above `encloser` that has one, and the one that covers the next closer name (RFC 5155
    /// §7.2.1); gives that name.
    fn closest_encloser<'e>(&mut self, encloser: Option<NameRef<'e>>) -> Result<Option<NameRef<'e>>, Full> {
        let Some((proven, node)) = encloser.and_then(|encloser| self.proven(encloser)) else {
            return Ok(None);
        };
        self.write(node)?;
        if let Some(node) = next_closer(self.subject.name, proven).and_then(|name| self.covering(name)) {
            self.write(node)?;
        }
        Ok(Some(proven))
    }

    /// The longest name at or above `encloser` that has an NSEC3. What has one is below names that have one, up to the apex (RFC 5155
    /// §7.1): halving finds it with eight hashes at most, however many names opt-out has left out.
    fn proven<'e>(&self, encloser: NameRef<'e>) -> Option<(NameRef<'e>, &'s Node)> {
        if let Some(node) = self.matching(encloser) {
            return Some((encloser, node));
        }
        let mut found = None;
        // In labels that are taken away; all of them is the apex.
        let mut fewest = 1;
        let mut most = encloser.label_count().checked_sub(self.zone.apex().label_count())?;
        while fewest <= most {
            let middle = fewest.midpoint(most);
            let name = (0..middle).try_fold(encloser, |name, _| name.parent())?;
            match self.matching(name) {
                Some(node) => {
                    found = Some((name, node));
                    most = middle - 1;
                }
                None => fewest = middle + 1,
            }
        }
        found
    }

    fn matching(&self, name: NameRef<'_>) -> Option<&'s Node> {
        let mut owner = [0u8; MAX_NAME_OCTETS + 1];
        self.zone.zone.nsec3.get(self.owner(name, &mut owner)?)
    }

    fn covering(&self, name: NameRef<'_>) -> Option<&'s Node> {
        let mut owner = [0u8; MAX_NAME_OCTETS + 1];
        let owner = self.owner(name, &mut owner)?;
        let chain = &self.zone.zone.nsec3;
        // The last one covers what is before the first (RFC 5155 §3.1.7).
        chain.before(owner).or_else(|| chain.last())
    }

    /// The NSEC3 owner that a name has or would have.
    fn owner<'b>(&self, name: NameRef<'_>, buffer: &'b mut [u8; MAX_NAME_OCTETS + 1]) -> Option<NameRef<'b>> {
        let hash = nsec3::hash(name, &self.parameters.salt, self.parameters.iterations);
        let apex = self.zone.apex().as_wire();
        let end = 1 + nsec3::LABEL_OCTETS + apex.len();
        if end > MAX_NAME_OCTETS {
            return None;
        }
        let (first, rest) = buffer.split_first_mut()?;
        *first = u8::try_from(nsec3::LABEL_OCTETS).ok()?;
        let (label, rest) = rest.split_at_mut_checked(nsec3::LABEL_OCTETS)?;
        label.copy_from_slice(&nsec3::label(&hash));
        rest.get_mut(..apex.len())?.copy_from_slice(apex);
        Some(NameRef::from_checked(buffer.get(..end)?))
    }

    fn write(&mut self, node: &'s Node) -> Result<(), Full> {
        write(self.reply, self.zone, self.subject, node, Rtype::NSEC3)
    }
}

/// The name that is one label longer than `encloser` on the way to `name` (RFC 5155 §1.3).
fn next_closer<'n>(name: NameRef<'n>, encloser: NameRef<'_>) -> Option<NameRef<'n>> {
    let mut below = name;
    loop {
        let parent = below.parent()?;
        if parent == encloser {
            return Some(below);
        }
        below = parent;
    }
}
