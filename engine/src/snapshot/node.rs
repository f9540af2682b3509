//! One owner name of one zone: its RRsets as images, and flags that were worked out when it was built.
//!
//! A node is one allocation behind a thin pointer, so that comparing its name and copying its answer touch the same
//! cache lines:
//!
//! ```text
//! | count | header | length | name | table: 8 octets for each image | images |
//! table entry: | u16 type | u16 0 | u32 where the image begins, from the name's first octet |, sorted by type
//! ```
//!
//! The first entry may have type 0: what was prepared for this name, which is the negative answer's SOA at an apex and
//! the referral at a zone cut.

use std::sync::Arc;

use godwit_wire::image::Image;
use godwit_wire::name::NameRef;
use godwit_wire::rr::Rtype;
use triomphe::ThinArc;

use super::index::Keyed;
use super::prefetch;
use super::zone::Zone;

/// What a look-up has to know about a name, found out when the node was built.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Flags(u8);

impl Flags {
    /// The apex of its zone.
    pub(crate) const APEX: Flags = Flags(1);
    /// Has NS and is not the apex: a zone cut (RFC 1034 §4.2).
    pub(crate) const CUT: Flags = Flags(2);
    /// Below a zone cut or a DNAME: not authoritative data (RFC 9499 §7).
    pub(crate) const OCCLUDED: Flags = Flags(4);
    /// `*` exists right below: a source of synthesis (RFC 4592 §2.1.1).
    pub(crate) const WILDCARD_CHILD: Flags = Flags(8);
    /// Has DNAME (RFC 6672).
    pub(crate) const DNAME: Flags = Flags(16);
    /// Has CNAME.
    pub(crate) const CNAME: Flags = Flags(32);
    /// Has NSEC3 and nothing else: no owner name that exists (RFC 5155 §7.2.8).
    pub(crate) const HASH_ONLY: Flags = Flags(64);
    /// A cut with NS targets that are in the zone, and not at or below the cut.
    pub(crate) const OTHER_TARGETS: Flags = Flags(128);

    pub(crate) fn has(self, any: Flags) -> bool {
        self.0 & any.0 != 0
    }

    #[must_use]
    pub(crate) fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    #[must_use]
    pub(crate) fn with_if(self, other: Flags, condition: bool) -> Flags {
        if condition { self.with(other) } else { self }
    }
}

/// The type under which what was prepared stands in the table. No record has it (RFC 6895 §3.1).
const PREPARED: Rtype = Rtype(0);
const TABLE_ENTRY_OCTETS: usize = 8;

#[derive(Clone)]
struct Header {
    /// At an apex, the zone.
    zone: Option<Arc<Zone>>,
    flags: Flags,
    name_octets: u8,
    /// The apex is the suffix of the name that begins here.
    apex_at: u8,
    images: u16,
}

/// An owner name of a zone. Cheap to clone: a count.
#[derive(Clone)]
pub(crate) struct Node(ThinArc<Header, u8>);

impl Keyed for Node {
    #[inline]
    fn key(&self) -> &[u8] {
        self.name().as_wire()
    }

    #[inline]
    fn prefetch(&self) {
        // Count, header, name and table, then the images: three lines hold most nodes.
        prefetch::prefetch_lines(self.0.as_ptr().cast(), 3);
    }
}

impl Node {
    #[inline]
    fn header(&self) -> &Header {
        &self.0.header.header
    }

    #[inline]
    fn octets(&self) -> &[u8] {
        &self.0.slice
    }

    /// The owner name.
    #[inline]
    pub(crate) fn name(&self) -> NameRef<'_> {
        NameRef::from_checked(self.octets().get(..usize::from(self.header().name_octets)).unwrap_or(&[0]))
    }

    /// The apex of the zone that the node belongs to.
    pub(crate) fn apex(&self) -> NameRef<'_> {
        NameRef::from_checked(self.name().as_wire().get(self.apex_at()..).unwrap_or(&[0]))
    }

    /// How many octets of the name come before the apex.
    pub(crate) fn apex_at(&self) -> usize {
        usize::from(self.header().apex_at)
    }

    #[inline]
    pub(crate) fn flags(&self) -> Flags {
        self.header().flags
    }

    /// The zone, at its apex.
    #[inline]
    pub(crate) fn zone(&self) -> Option<&Arc<Zone>> {
        self.header().zone.as_ref()
    }

    /// Whether there is no RRset: an empty non-terminal (RFC 4592 §2.2.2).
    pub(crate) fn is_empty(&self) -> bool {
        self.rrsets().next().is_none()
    }

    /// The image of the RRset of a type. What was prepared is none, whoever asks for type 0.
    #[inline]
    pub(crate) fn find(&self, rtype: Rtype) -> Option<Image<'_>> {
        if rtype == PREPARED { None } else { self.raw(rtype).map(Image::read) }
    }

    /// What was prepared: the negative answer's SOA at an apex, the referral at a cut.
    #[inline]
    pub(crate) fn prepared(&self) -> Option<Image<'_>> {
        self.raw(PREPARED).map(Image::read)
    }

    /// The octets of what was prepared.
    pub(crate) fn raw_prepared(&self) -> Option<&[u8]> {
        self.raw(PREPARED)
    }

    /// The octets of the image of a type.
    #[inline]
    pub(crate) fn raw(&self, rtype: Rtype) -> Option<&[u8]> {
        let octets = self.octets();
        let name_octets = usize::from(self.header().name_octets);
        let images = usize::from(self.header().images);
        let table = octets.get(name_octets..name_octets + images * TABLE_ENTRY_OCTETS)?;
        let mut entries = table.chunks_exact(TABLE_ENTRY_OCTETS);
        while let Some(entry) = entries.next() {
            let (here, start) = read_entry(entry)?;
            if here >= rtype {
                if here > rtype {
                    return None;
                }
                let end = entries.next().and_then(read_entry).map_or(octets.len(), |(_, end)| end);
                return octets.get(start..end);
            }
        }
        None
    }

    /// Each RRset's type and image octets, in order of type; what was prepared is not among them.
    pub(crate) fn raw_rrsets(&self) -> impl Iterator<Item = (Rtype, &[u8])> {
        let octets = self.octets();
        let name_octets = usize::from(self.header().name_octets);
        let images = usize::from(self.header().images);
        let table = octets.get(name_octets..name_octets + images * TABLE_ENTRY_OCTETS).unwrap_or_default();
        let mut entries = table.chunks_exact(TABLE_ENTRY_OCTETS).filter_map(read_entry).peekable();
        std::iter::from_fn(move || {
            loop {
                let (rtype, start) = entries.next()?;
                let end = entries.peek().map_or(octets.len(), |&(_, end)| end);
                if rtype != PREPARED {
                    return Some((rtype, octets.get(start..end).unwrap_or_default()));
                }
            }
        })
    }

    /// Each RRset's type and image, in order of type.
    pub(crate) fn rrsets(&self) -> impl Iterator<Item = (Rtype, Image<'_>)> {
        self.raw_rrsets().map(|(rtype, octets)| (rtype, Image::read(octets)))
    }

    /// Whether both hold the same records with the same flags, whatever their zone's state.
    pub(crate) fn same_content(&self, other: &Node) -> bool {
        self.flags() == other.flags() && self.apex_at() == other.apex_at() && self.octets() == other.octets()
    }

    /// The same node, at the apex of another state of its zone.
    pub(crate) fn with_zone(&self, zone: Arc<Zone>) -> Node {
        self.with_header(|header| header.zone = Some(zone))
    }

    /// The same node with other flags.
    pub(crate) fn with_flags(&self, flags: Flags) -> Node {
        self.with_header(|header| header.flags = flags)
    }

    fn with_header(&self, change: impl FnOnce(&mut Header)) -> Node {
        let mut header = self.header().clone();
        change(&mut header);
        Node(ThinArc::from_header_and_slice(header, self.octets()))
    }
}

fn read_entry(entry: &[u8]) -> Option<(Rtype, usize)> {
    let &[a, b, _, _, c, d, e, f] = entry.first_chunk::<TABLE_ENTRY_OCTETS>()?;
    let start = usize::try_from(u32::from_le_bytes([c, d, e, f])).ok()?;
    Some((Rtype(u16::from_le_bytes([a, b])), start))
}

/// Puts nodes together; its memory is used again for the next one.
#[derive(Default)]
pub(crate) struct NodeBuilder {
    images: Vec<u8>,
    /// Type, and where its image begins in `images`; in order of type.
    table: Vec<(Rtype, usize)>,
    octets: Vec<u8>,
}

/// Room that the nodes of most zones fit into.
const USUAL_NODE_OCTETS: usize = 512;
const USUAL_IMAGES: usize = 8;

impl NodeBuilder {
    /// With room for usual nodes: where zones are small, buffers that grow cost more than what is put into them.
    pub(crate) fn with_room() -> Self {
        NodeBuilder {
            images: Vec::with_capacity(USUAL_NODE_OCTETS),
            table: Vec::with_capacity(USUAL_IMAGES),
            octets: Vec::with_capacity(USUAL_NODE_OCTETS),
        }
    }

    /// Forgets the images of the node before.
    pub(crate) fn clear(&mut self) {
        self.images.clear();
        self.table.clear();
    }

    /// Adds an image that `write` appends. Types come in rising order, except what was prepared, which goes first
    /// whenever it comes.
    pub(crate) fn image<E>(
        &mut self,
        rtype: Rtype,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = self.images.len();
        write(&mut self.images)?;
        self.table.push((rtype, start));
        Ok(())
    }

    /// The types that were added.
    pub(crate) fn types(&self) -> impl Iterator<Item = Rtype> {
        self.table.iter().map(|&(rtype, _)| rtype)
    }

    /// Adds an image that is built already.
    pub(crate) fn raw(&mut self, rtype: Rtype, octets: &[u8]) {
        self.table.push((rtype, self.images.len()));
        self.images.extend_from_slice(octets);
    }

    /// The node of the images added. `apex_at`: how many octets of the name come before the apex.
    pub(crate) fn build(
        &mut self,
        name: NameRef<'_>,
        apex_at: usize,
        flags: Flags,
        prepared: Option<&[u8]>,
        zone: Option<Arc<Zone>>,
    ) -> Node {
        let count = self.table.len() + usize::from(prepared.is_some());
        let body_at = name.as_wire().len() + count * TABLE_ENTRY_OCTETS;
        self.octets.clear();
        self.octets.extend_from_slice(name.as_wire());
        let prepared = prepared.unwrap_or_default();
        if count > self.table.len() {
            self.push_entry(PREPARED, body_at);
        }
        for at in 0..self.table.len() {
            if let Some(&(rtype, start)) = self.table.get(at) {
                self.push_entry(rtype, body_at + prepared.len() + start);
            }
        }
        self.octets.extend_from_slice(prepared);
        self.octets.extend_from_slice(&self.images);
        let header = Header {
            zone,
            flags,
            // A name has at most 255 octets, and a zone's data at a name at most as many types as there are.
            name_octets: u8::try_from(name.as_wire().len()).unwrap_or(u8::MAX),
            apex_at: u8::try_from(apex_at).unwrap_or(u8::MAX),
            images: u16::try_from(count).unwrap_or(u16::MAX),
        };
        Node(ThinArc::from_header_and_slice(header, &self.octets))
    }

    fn push_entry(&mut self, rtype: Rtype, start: usize) {
        self.octets.extend_from_slice(&rtype.0.to_le_bytes());
        self.octets.extend_from_slice(&[0, 0]);
        self.octets.extend_from_slice(&u32::try_from(start).unwrap_or(u32::MAX).to_le_bytes());
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let types: Vec<String> = self.rrsets().map(|(rtype, _)| rtype.to_string()).collect();
        write!(f, "{} {:?} {}", self.name(), self.flags(), types.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use godwit_wire::image;
    use godwit_wire::name::Name;
    use godwit_wire::rr::Rrset;

    use super::*;

    #[test]
    fn images_are_found_by_type() {
        let name: Name = "www.example.".parse().unwrap();
        let sets = [
            Rrset::new(Rtype::A, 1, vec![[1, 2, 3, 4].into()], vec![]),
            Rrset::new(Rtype::TXT, 2, vec![[1, b'x'].into()], vec![]),
            Rrset::new(Rtype::AAAA, 3, vec![[7; 16].into()], vec![[9; 30].into()]),
        ];
        let mut builder = NodeBuilder::default();
        builder.clear();
        for set in &sets {
            builder.image(set.rtype, |out| image::build(name.as_ref(), set, out)).unwrap();
        }
        let node = builder.build(name.as_ref(), 4, Flags::CUT, Some(b"12345678"), None);
        assert_eq!(node.name(), name.as_ref());
        assert_eq!(node.apex().to_string(), "example.");
        for set in &sets {
            assert_eq!(node.find(set.rtype).unwrap().to_rrset(name.as_ref(), set.rtype), *set);
        }
        assert!(node.find(Rtype::MX).is_none() && node.find(Rtype::CAA).is_none());
        assert_eq!(node.raw(PREPARED), Some(&b"12345678"[..]));
        assert_eq!(
            node.rrsets().map(|(rtype, _)| rtype).collect::<Vec<_>>(),
            [Rtype::A, Rtype::TXT, Rtype::AAAA]
        );
        assert!(!node.is_empty());
    }
}
