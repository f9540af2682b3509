//! What is worked out of a zone's records when a node is built, so that no query has to.

use godwit_wire::feed::digest::{Digest, DigestKey, RrsetHasher};
use godwit_wire::image::{self, Glue, Image};
use godwit_wire::name::{self, NameRef};
use godwit_wire::rdata;
use godwit_wire::rr::{Rrset, Rtype};

use super::node::{Flags, Node, NodeBuilder};
use super::order::OrderedSet;
use super::zone::Nsec3Parameters;

/// The image of the SOA for negative answers: its TTL and that of its RRSIGs is the smaller of the SOA's own and its
/// MINIMUM (RFC 2308 §3, §5).
pub(crate) fn negative_soa(soa: Image<'_>) -> Option<Vec<u8>> {
    let [.., minimum] = soa_numbers(soa)?;
    Some(image::with_ttl(soa, soa.ttl().min(minimum)))
}

/// The serial of an SOA.
pub(crate) fn serial(soa: Image<'_>) -> Option<u32> {
    soa_numbers(soa).map(|[serial, ..]| serial)
}

/// SERIAL, REFRESH, RETRY, EXPIRE and MINIMUM (RFC 1035 §3.3.13): the end of an SOA, which looks the same in an image.
fn soa_numbers(soa: Image<'_>) -> Option<[u32; 5]> {
    let octets = image::records(soa.first().octets).next()?.rdata.last_chunk::<20>()?;
    let mut numbers = [0; 5];
    for (number, octets) in numbers.iter_mut().zip(octets.as_chunks::<4>().0) {
        *number = u32::from_be_bytes(*octets);
    }
    Some(numbers)
}

/// The NSEC3 parameters that an apex states (RFC 5155 §4.2), those with flags unset first.
pub(crate) fn nsec3_parameters(apex: &Node) -> Option<Nsec3Parameters> {
    let rrset = apex.find(Rtype::NSEC3PARAM)?.to_rrset(apex.name(), Rtype::NSEC3PARAM);
    rrset.rdata.iter().find_map(|rdata| {
        let (&[algorithm, flags, high, low, _], salt) = rdata.split_first_chunk::<5>()?;
        // RFC 5155 §4.1.2: records with other flags are not for answering; SHA-1 is the only algorithm.
        (algorithm == 1 && flags == 0)
            .then(|| Nsec3Parameters { iterations: u16::from_be_bytes([high, low]), salt: salt.into() })
    })
}

/// The referral image of a cut: NS, and the addresses of those targets that are at or below it (in-domain glue,
/// RFC 9471 §2.1). `node` finds names of the same zone.
pub(crate) fn referral<'n>(
    cut: NameRef<'_>,
    ns: Image<'_>,
    node: impl Fn(NameRef<'_>) -> Option<&'n Node>,
) -> Option<Vec<u8>> {
    let ns = ns.to_rrset(cut, Rtype::NS);
    let mut glue = Vec::new();
    for (index, target) in ns.rdata.iter().enumerate() {
        let Ok(target) = name::Name::from_wire(target) else { continue };
        if !target.as_ref().is_at_or_below(cut) {
            continue;
        }
        let Some(found) = node(target.as_ref()) else { continue };
        for rtype in [Rtype::A, Rtype::AAAA] {
            if let Some(image) = found.find(rtype) {
                glue.push(Glue { ns: index, rtype, image });
            }
        }
    }
    let mut octets = Vec::new();
    image::build_referral(cut, &ns, &glue, &mut octets).ok()?;
    Some(octets)
}

/// Whether NS targets of a cut are in its zone, and not at or below the cut.
fn has_other_targets(cut: &Node) -> bool {
    let ns = cut.find(Rtype::NS).map(|image| image.to_rrset(cut.name(), Rtype::NS));
    ns.is_some_and(|ns| {
        ns.rdata.iter().filter_map(|target| name::Name::from_wire(target).ok()).any(|target| {
            let target = target.as_ref();
            target.is_at_or_below(cut.apex()) && !target.is_at_or_below(cut.name())
        })
    })
}

/// The flags that follow from a node's own types.
pub(crate) fn own_flags(is_apex: bool, types: impl Iterator<Item = Rtype>) -> Flags {
    let mut flags = Flags::default().with_if(Flags::APEX, is_apex);
    let (mut hashes, mut others) = (false, false);
    for rtype in types {
        match rtype {
            Rtype::NSEC3 => hashes = true,
            Rtype::RRSIG => {}
            _ => others = true,
        }
        match rtype {
            Rtype::NS => flags = flags.with_if(Flags::CUT, !is_apex),
            Rtype::DNAME => flags = flags.with(Flags::DNAME),
            Rtype::CNAME => flags = flags.with(Flags::CNAME),
            _ => {}
        }
    }
    flags.with_if(Flags::HASH_ONLY, hashes && !others && !is_apex)
}

/// Whether names below a node with these flags are occluded (RFC 9499 §7; RFC 6672 §2.4 for DNAME).
pub(crate) fn occludes(flags: Flags) -> bool {
    flags.has(Flags::CUT) || flags.has(Flags::DNAME) || flags.has(Flags::OCCLUDED)
}

/// A node with the same RRsets, and its flags and what is prepared made anew.
///
/// `occluded` and `wildcard_child` are what the rest of the zone says of it; `node` finds other names of the zone.
pub(crate) fn rebuild<'n>(
    builder: &mut NodeBuilder,
    old: &Node,
    occluded: bool,
    wildcard_child: bool,
    node: impl Fn(NameRef<'_>) -> Option<&'n Node>,
) -> Node {
    let is_apex = old.apex_at() == 0;
    let flags = own_flags(is_apex, old.raw_rrsets().map(|(rtype, _)| rtype))
        .with_if(Flags::OCCLUDED, occluded)
        .with_if(Flags::WILDCARD_CHILD, wildcard_child);
    let flags = flags.with_if(Flags::OTHER_TARGETS, flags.has(Flags::CUT) && has_other_targets(old));
    let prepared = if is_apex {
        old.find(Rtype::SOA).and_then(negative_soa)
    } else if flags.has(Flags::CUT) && !occluded {
        old.find(Rtype::NS).and_then(|ns| referral(old.name(), ns, node))
    } else {
        None
    };
    builder.clear();
    for (rtype, octets) in old.raw_rrsets() {
        builder.raw(rtype, octets);
    }
    builder.build(old.name(), old.apex_at(), flags, prepared.as_deref(), old.zone().cloned())
}

/// A node whose RRsets are these changes over those of `old`; and whether its flags and what is prepared are right
/// already, because nothing that they follow from has changed.
///
/// # Errors
/// When an RRset is too large.
pub(crate) fn with_changes(
    builder: &mut NodeBuilder,
    name: NameRef<'_>,
    apex_at: usize,
    old: Option<&Node>,
    changes: &[(Rtype, Option<&Rrset>)],
) -> Result<(Node, bool), image::TooLarge> {
    builder.clear();
    let mut olds = old.into_iter().flat_map(Node::raw_rrsets).peekable();
    for &(rtype, rrset) in changes {
        while let Some((before, octets)) = olds.next_if(|&(old, _)| old < rtype) {
            builder.raw(before, octets);
        }
        let _replaced = olds.next_if(|&(old, _)| old == rtype);
        if let Some(rrset) = rrset {
            builder.image(rtype, |out| image::build(name, rrset, out))?;
        }
    }
    for (rtype, octets) in olds {
        builder.raw(rtype, octets);
    }
    let own = own_flags(apex_at == 0, builder.types());
    // At an apex the SOA is prepared, at a cut the NS with glue that may be at the cut itself.
    let prepared_stays =
        !own.has(Flags::CUT) && (apex_at > 0 || changes.iter().all(|&(rtype, _)| rtype != Rtype::SOA));
    match old {
        Some(old)
            if prepared_stays && own_flags(apex_at == 0, old.raw_rrsets().map(|(rtype, _)| rtype)) == own =>
        {
            let node = builder.build(name, apex_at, old.flags(), old.raw_prepared(), None);
            Ok((node, true))
        }
        _ => Ok((builder.build(name, apex_at, own, None, None), false)),
    }
}

/// Memory that is used again from digest to digest.
#[derive(Default)]
pub(crate) struct DigestScratch {
    /// RDATA as it is uncompressed.
    rdata: Vec<u8>,
    /// What is hashed.
    term: Vec<u8>,
}

/// The sum of the digests of a node's RRsets.
pub(crate) fn node_digest(key: &DigestKey, node: &Node, scratch: &mut DigestScratch) -> Digest {
    let mut sum = Digest::default();
    for (rtype, image) in node.rrsets() {
        sum.add(image_digest(key, node, rtype, image, scratch));
    }
    sum
}

/// The digest of one RRset of a node.
pub(crate) fn image_digest(
    key: &DigestKey,
    node: &Node,
    rtype: Rtype,
    image: Image<'_>,
    scratch: &mut DigestScratch,
) -> Digest {
    let DigestScratch { rdata: scratch, term } = scratch;
    let mut hasher = RrsetHasher::new(key, node.apex(), node.name(), rtype, image.ttl(), term);
    image.each_rdata(node.name(), scratch, |is_rrsig, rdata| {
        if is_rrsig {
            hasher.rrsig(&rdata::canonical(Rtype::RRSIG, rdata));
        } else {
            hasher.rdata(&rdata::canonical(rtype, rdata));
        }
    });
    hasher.finish()
}

/// Whether a node has NSEC3 of the chain with these parameters (RFC 5155 §3.2).
pub(crate) fn is_in_chain(node: &Node, parameters: Option<&Nsec3Parameters>) -> bool {
    let (Some(parameters), Some(image)) = (parameters, node.find(Rtype::NSEC3)) else { return false };
    image::records(image.first().octets).any(|record| {
        let Some((&[algorithm, _, high, low, salt_octets], rest)) = record.rdata.split_first_chunk::<5>()
        else {
            return false;
        };
        algorithm == 1
            && u16::from_be_bytes([high, low]) == parameters.iterations
            && rest.get(..usize::from(salt_octets)) == Some(&*parameters.salt)
    })
}

/// The NSEC3 chain of a zone, from its names in canonical order.
pub(crate) fn nsec3_chain<'n>(
    nodes: impl Iterator<Item = &'n Node>,
    parameters: Option<&Nsec3Parameters>,
) -> OrderedSet<Node> {
    if parameters.is_none() {
        return OrderedSet::new();
    }
    OrderedSet::from_sorted(nodes.filter(|node| is_in_chain(node, parameters)).cloned().collect())
}

/// Those names of a zone that have NSEC.
pub(crate) fn nsec_chain<'n>(nodes: impl Iterator<Item = &'n Node>) -> OrderedSet<Node> {
    OrderedSet::from_sorted(nodes.filter(|node| node.raw(Rtype::NSEC).is_some()).cloned().collect())
}
