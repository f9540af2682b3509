//! A whole zone from records in any order: collected compactly, checked for what serving needs, and built in one pass.

use std::cmp::Ordering;

use godwit_wire::image;
use godwit_wire::name::{Name, NameRef};
use godwit_wire::rdata;
use godwit_wire::rr::{Rrset, Rtype};

use super::derive;
use super::node::{Flags, Node, NodeBuilder};
use super::prefetch;
use super::tree::Tree;

/// The most additional hash iterations of NSEC3 that are served: more costs a denial too much time, and validators
/// may treat such zones as insecure (RFC 9276 §3.2). Above, the zone is refused.
pub const MAX_NSEC3_ITERATIONS: u16 = 50;
/// The most octets of an NSEC3 salt: it is hashed in every iteration, and serves nothing (RFC 9276 §2.4).
pub const MAX_NSEC3_SALT_OCTETS: usize = 32;

/// How many records ahead of the one at hand are asked for: sorted, they stand anywhere in the buffer.
const BUILT_AHEAD: usize = 16;
/// Cache lines that most records take.
const STORED_LINES: usize = 2;

/// Why records do not make a zone that can be served.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{owner}: {reason}")]
pub struct LoadError {
    /// The line that was given with the record at fault; 0 where no single record is.
    pub line: u32,
    /// The owner name in question.
    pub owner: Name,
    /// What is wrong.
    pub reason: LoadFault,
}

/// See [`LoadError`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LoadFault {
    /// The name is not at or below the apex.
    #[error("name is outside the zone")]
    OutOfZone,
    /// RDATA does not fit the type.
    #[error(transparent)]
    Rdata(#[from] rdata::RdataError),
    /// No SOA at the apex (RFC 1035 §5.2).
    #[error("zone has no SOA record at its apex")]
    NoSoa,
    /// More than one SOA (RFC 1035 §5.2).
    #[error("zone has more than one SOA record")]
    Soas,
    /// An SOA below the apex.
    #[error("SOA record below the apex")]
    SoaBelowApex,
    /// No NS at the apex (RFC 1034 §4.2.1).
    #[error("zone has no NS records at its apex")]
    NoNs,
    /// CNAME beside other data (RFC 2181 §10.1).
    #[error("CNAME record beside other data")]
    CnameAndOther,
    /// More than one CNAME (RFC 2181 §10.1).
    #[error("more than one CNAME record")]
    Cnames,
    /// More than one DNAME (RFC 6672 §2.4).
    #[error("more than one DNAME record")]
    Dnames,
    /// More iterations than [`MAX_NSEC3_ITERATIONS`], or a longer salt than [`MAX_NSEC3_SALT_OCTETS`].
    #[error("NSEC3 with more than 50 additional iterations, or a salt of more than 32 octets (RFC 9276)")]
    Nsec3Cost,
    /// An RRset larger than an image can be.
    #[error(transparent)]
    TooLarge(#[from] image::TooLarge),
}

/// Collects one zone's records in any order.
///
/// Shape: records stand one after another in one buffer; only 16 octets each are moved when they are sorted.
pub struct ZoneLoader {
    apex: Name,
    owner_number: u32,
    records: Vec<u8>,
    entries: Vec<Entry>,
}

/// A zone that was loaded, ready to be put into a snapshot.
#[derive(Clone)]
pub struct LoadedZone {
    pub(super) apex: Node,
    pub(super) owner_number: u32,
    pub(super) version: Option<u64>,
    /// Every other name in canonical order.
    pub(super) nodes: Vec<Node>,
}

/// A record in the buffer, and the beginning of its name's canonical sort key.
#[derive(Clone, Copy)]
struct Entry {
    key: u64,
    at: usize,
}

/// `| u8 name octets | name | u16 type | u32 TTL | u32 line | u32 RDATA octets | RDATA |`, native byte order.
#[derive(Clone, Copy)]
struct Stored<'a> {
    name: NameRef<'a>,
    rtype: Rtype,
    ttl: u32,
    line: u32,
    rdata: &'a [u8],
}

impl ZoneLoader {
    /// Begins a zone. `owner_number`: its tenant, 0 for the operator and zone files.
    #[must_use]
    pub fn new(apex: Name, owner_number: u32) -> Self {
        ZoneLoader { apex, owner_number, records: Vec::new(), entries: Vec::new() }
    }

    /// Makes room for what so many octets of a zone file are likely to hold, so that no buffer is copied while it grows.
    /// Room that is not used takes address space, not memory.
    pub fn reserve(&mut self, file_octets: usize) {
        // A record takes some 40 octets in a file as in here, whatever its type.
        self.records.reserve(file_octets);
        self.entries.reserve(file_octets / 32);
    }

    /// How many records were taken.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes a record; class IN. `line` comes back in errors.
    ///
    /// # Errors
    /// [`LoadFault::OutOfZone`] and [`LoadFault::Rdata`]; the record is then left out.
    pub fn record(
        &mut self,
        owner: NameRef<'_>,
        rtype: Rtype,
        ttl: u32,
        rdata: &[u8],
        line: u32,
    ) -> Result<(), LoadError> {
        let fail = |reason| LoadError { line, owner: owner.to_owned(), reason };
        if !owner.is_at_or_below(self.apex.as_ref()) {
            return Err(fail(LoadFault::OutOfZone));
        }
        rdata::validate(rtype, rdata).map_err(|error| fail(error.into()))?;
        let name = owner.as_wire();
        let below = name.len().saturating_sub(self.apex.as_wire().len());
        let key = sort_key(name.get(..below).unwrap_or_default());
        self.entries.push(Entry { key, at: self.records.len() });
        // Lengths fit: a name has at most 255 octets, validated RDATA at most 65,535.
        let [a, b] = rtype.0.to_ne_bytes();
        let [c, d, e, f] = ttl.to_ne_bytes();
        let [g, h, i, j] = line.to_ne_bytes();
        let [k, l, m, n] = u32::try_from(rdata.len()).unwrap_or(u32::MAX).to_ne_bytes();
        self.records.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        self.records.extend_from_slice(name);
        self.records.extend_from_slice(&[a, b, c, d, e, f, g, h, i, j, k, l, m, n]);
        self.records.extend_from_slice(rdata);
        Ok(())
    }

    /// Takes an RRset with its signatures.
    ///
    /// # Errors
    /// As [`ZoneLoader::record`], for the first of them.
    pub fn rrset(&mut self, owner: NameRef<'_>, rrset: &Rrset) -> Result<(), LoadError> {
        for rdata in &rrset.rdata {
            self.record(owner, rrset.rtype, rrset.ttl, rdata, 0)?;
        }
        for rrsig in &rrset.rrsigs {
            self.record(owner, Rtype::RRSIG, rrset.ttl, rrsig, 0)?;
        }
        Ok(())
    }

    /// Builds the zone.
    ///
    /// # Errors
    /// [`LoadError`] for the first fault, in canonical order of names.
    pub fn finish(mut self) -> Result<LoadedZone, LoadError> {
        let mut entries = std::mem::take(&mut self.entries);
        let order = |a: &Entry, b: &Entry| {
            a.key.cmp(&b.key).then_with(|| {
                let (first, second) = (self.stored(a.at), self.stored(b.at));
                // As a rule it is another record of the same name.
                let names =
                    if first.name == second.name { Ordering::Equal } else { first.name.cmp(&second.name) };
                names.then(first.rtype.cmp(&second.rtype)).then(a.at.cmp(&b.at))
            })
        };
        if !entries.is_sorted_by(|a, b| order(a, b).is_le()) {
            entries.sort_unstable_by(order);
        }
        let mut builder = NodeBuilder::with_room();
        let mut nodes = self.build(&entries, &mut builder)?;
        drop(entries);
        self.records = Vec::new();
        for at in 0..nodes.len() {
            self.prepare(&mut nodes, at, &mut builder);
        }
        let apex = nodes.remove(0);
        self.check_apex(&apex)?;
        Ok(LoadedZone { apex, owner_number: self.owner_number, version: None, nodes })
    }

    fn stored(&self, at: usize) -> Stored<'_> {
        let rest = self.records.get(at..).unwrap_or_default();
        let name_octets = rest.first().copied().map_or(0, usize::from);
        let (name, rest) =
            rest.get(1..).unwrap_or_default().split_at_checked(name_octets).unwrap_or_default();
        let Some((&[a, b, c, d, e, f, g, h, i, j, k, l, m, n], rest)) = rest.split_first_chunk::<14>() else {
            return Stored { name: NameRef::ROOT, rtype: Rtype(0), ttl: 0, line: 0, rdata: &[] };
        };
        let rdata_octets = usize::try_from(u32::from_ne_bytes([k, l, m, n])).unwrap_or(0);
        Stored {
            name: NameRef::from_checked(name),
            rtype: Rtype(u16::from_ne_bytes([a, b])),
            ttl: u32::from_ne_bytes([c, d, e, f]),
            line: u32::from_ne_bytes([g, h, i, j]),
            rdata: rest.get(..rdata_octets).unwrap_or_default(),
        }
    }

    /// The nodes of the zone in canonical order, the apex first and empty non-terminals added, without what is prepared.
    fn build(&self, entries: &[Entry], builder: &mut NodeBuilder) -> Result<Vec<Node>, LoadError> {
        let mut tree = Tree::new(self.apex.as_ref(), entries.len() + 1);
        let mut set = Set::default();
        // The records of one name.
        let mut run: Vec<Stored<'_>> = Vec::new();
        for (at, entry) in entries.iter().enumerate() {
            if let Some(record) = entries.get(at + BUILT_AHEAD).and_then(|ahead| self.records.get(ahead.at..))
            {
                prefetch::prefetch_lines(record.as_ptr(), STORED_LINES);
            }
            let record = self.stored(entry.at);
            if run.first().is_some_and(|first| first.name != record.name) {
                build_name(&run, &mut tree, &mut set, builder)?;
                run.clear();
            }
            run.push(record);
        }
        build_name(&run, &mut tree, &mut set, builder)?;
        Ok(tree.finish(builder))
    }

    /// Adds what is prepared to apexes and cuts, when all nodes are there to be looked at.
    fn prepare(&self, nodes: &mut [Node], at: usize, builder: &mut NodeBuilder) {
        let Some(node) = nodes.get(at) else { return };
        let flags = node.flags();
        if !flags.has(Flags::APEX) && (!flags.has(Flags::CUT) || flags.has(Flags::OCCLUDED)) {
            return;
        }
        let find = |name: NameRef<'_>| {
            let found = nodes.binary_search_by(|node| node.name().cmp(&name)).ok()?;
            nodes.get(found)
        };
        let (occluded, wildcard_child) = (flags.has(Flags::OCCLUDED), flags.has(Flags::WILDCARD_CHILD));
        let rebuilt = derive::rebuild(builder, node, occluded, wildcard_child, find);
        if let Some(node) = nodes.get_mut(at) {
            *node = rebuilt;
        }
    }

    fn check_apex(&self, apex: &Node) -> Result<(), LoadError> {
        let fail = |reason| LoadError { line: 0, owner: self.apex.clone(), reason };
        if apex.find(Rtype::SOA).is_none() {
            return Err(fail(LoadFault::NoSoa));
        }
        if apex.find(Rtype::NS).is_none() {
            return Err(fail(LoadFault::NoNs));
        }
        match derive::nsec3_parameters(apex) {
            Some(parameters) if !parameters.is_affordable() => Err(fail(LoadFault::Nsec3Cost)),
            _ => Ok(()),
        }
    }
}

/// RDATA of one RRset, in memory that serves for one after another.
#[derive(Default)]
struct Set<'r> {
    rdata: Vec<&'r [u8]>,
    rrsigs: Vec<&'r [u8]>,
}

/// Adds the node of a name. `run`: its records in order of type; none, no node.
fn build_name<'r>(
    run: &[Stored<'r>],
    tree: &mut Tree<'_>,
    set: &mut Set<'r>,
    builder: &mut NodeBuilder,
) -> Result<(), LoadError> {
    let Some(&Stored { name, line, .. }) = run.first() else { return Ok(()) };
    let flags = tree.open(name, run.iter().map(|record| record.rtype), builder);
    builder.clear();
    let mut types = 0;
    for records in run.chunk_by(|a, b| a.rtype == b.rtype) {
        // Signatures stand beside what they cover.
        let Some(first) = records.first().filter(|first| first.rtype != Rtype::RRSIG) else { continue };
        types += u32::from(!beside_cname(first.rtype));
        set.gather(first.rtype, records, run);
        set.build(flags, first, builder).map_err(|reason| LoadError {
            line: first.line,
            owner: name.to_owned(),
            reason,
        })?;
    }
    if flags.has(Flags::CNAME) && types > 0 {
        return Err(LoadError { line, owner: name.to_owned(), reason: LoadFault::CnameAndOther });
    }
    tree.put(name, flags, builder);
    Ok(())
}

impl<'r> Set<'r> {
    /// Takes these records of a type, and of all records of the name the signatures that cover it.
    fn gather(&mut self, rtype: Rtype, records: &[Stored<'r>], run: &[Stored<'r>]) {
        self.rdata.clear();
        self.rdata.extend(records.iter().map(|record| record.rdata));
        sort_canonical(rtype, &mut self.rdata);
        let covers = |record: &&Stored<'_>| {
            record.rtype == Rtype::RRSIG && record.rdata.first_chunk() == Some(&rtype.0.to_be_bytes())
        };
        self.rrsigs.clear();
        self.rrsigs.extend(run.iter().filter(covers).map(|record| record.rdata));
        sort_canonical(Rtype::RRSIG, &mut self.rrsigs);
    }

    /// Puts its image into the builder.
    fn build(&self, flags: Flags, first: &Stored<'_>, builder: &mut NodeBuilder) -> Result<(), LoadFault> {
        match first.rtype {
            Rtype::SOA if !flags.has(Flags::APEX) => return Err(LoadFault::SoaBelowApex),
            Rtype::SOA if self.rdata.len() > 1 => return Err(LoadFault::Soas),
            Rtype::CNAME if self.rdata.len() > 1 => return Err(LoadFault::Cnames),
            Rtype::DNAME if self.rdata.len() > 1 => return Err(LoadFault::Dnames),
            _ => {}
        }
        let (rdata, rrsigs) = (self.rdata.iter().copied(), self.rrsigs.iter().copied());
        // RFC 2181 §5.2: one TTL for the set; the first record's counts where a file has several.
        builder.image(first.rtype, |out| {
            image::build_from(first.name, first.rtype, first.ttl, rdata, rrsigs, out)
        })?;
        Ok(())
    }
}

impl LoadedZone {
    /// Sets the version that the zone has in the feed. Without, it is one more than that of the zone it replaces.
    #[must_use]
    pub fn with_version(mut self, version: u64) -> Self {
        self.version = Some(version);
        self
    }

    /// Its apex.
    #[must_use]
    pub fn apex(&self) -> NameRef<'_> {
        self.apex.name()
    }

    /// How many names it has, the apex and empty non-terminals included.
    #[must_use]
    pub fn name_count(&self) -> usize {
        self.nodes.len() + 1
    }
}

/// Whether a type may stand beside a CNAME: what signs and denies it (RFC 4034 §2.5, §3; RFC 2535 for KEY).
pub(super) fn beside_cname(rtype: Rtype) -> bool {
    matches!(rtype, Rtype::CNAME | Rtype::RRSIG | Rtype::NSEC | Rtype::KEY | Rtype::SIG | Rtype::NXT)
}

/// Canonical order without repeated records (RFC 4034 §6.3, RFC 2181 §5).
fn sort_canonical(rtype: Rtype, rdata: &mut Vec<&[u8]>) {
    if rdata.len() > 1 {
        rdata.sort_by(|a, b| rdata::canonical(rtype, a).cmp(&rdata::canonical(rtype, b)));
        rdata.dedup_by(|a, b| rdata::canonical(rtype, a) == rdata::canonical(rtype, b));
    }
}

/// The first octets of what canonical order compares, so that most comparisons are of two numbers. `below`: the labels
/// of a name before the apex.
///
/// These labels from the right, each octet plus one, each label ended by a zero. Where two keys differ, they are in
/// the names' order; where they are equal, the names decide. 0xFE and 0xFF cannot be told apart, so the key ends there.
fn sort_key(below: &[u8]) -> u64 {
    let mut labels = [&[][..]; 8];
    let mut count = 0;
    let mut rest = below;
    while let Some((&len, behind)) = rest.split_first()
        && let Some((label, behind)) = behind.split_at_checked(usize::from(len))
    {
        // The eight labels next to the apex are all that eight octets can tell of.
        if count == labels.len() {
            labels.rotate_left(1);
            count -= 1;
        }
        if let Some(slot) = labels.get_mut(count) {
            *slot = label;
        }
        count += 1;
        rest = behind;
    }
    let mut key = [0u8; 8];
    let mut at = key.iter_mut();
    'labels: for label in labels.iter().take(count).rev() {
        for &octet in *label {
            let Some(slot) = at.next() else { break 'labels };
            if octet >= 0xFE {
                *slot = 0xFF;
                at.for_each(|slot| *slot = 0xFF);
                break 'labels;
            }
            *slot = octet + 1;
        }
        if at.next().is_none() {
            break;
        }
    }
    u64::from_be_bytes(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn sort_keys_follow_canonical_order() {
        let apex = name("example.");
        let names: Vec<Name> = [
            "a",
            "b.a",
            "\\000.a",
            "a\\000",
            "a\\001",
            "ab",
            "b",
            "*",
            "\\255",
            "\\254",
            "z.\\254",
            "a.\\255",
            "\\254z",
            "\\255a",
            "*.b",
            "abcdefgh",
            "abcdefghi",
            "a.abcdefgh",
            "1.2.3.4.5.6.7.8.9.10",
            "2.2.3.4.5.6.7.8.9.10",
            "1.2.3.4.5.6.7.8.9.11",
        ]
        .iter()
        .map(|text| name(&format!("{text}.example.")))
        .collect();
        let key = |name: &Name| sort_key(&name.as_wire()[..name.as_wire().len() - apex.as_wire().len()]);
        for a in &names {
            for b in &names {
                let keys = key(a).cmp(&key(b));
                assert!(keys.is_eq() || keys == a.cmp(b), "{a} {b}");
            }
        }
    }
}
