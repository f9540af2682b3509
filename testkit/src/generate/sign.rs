//! Makes a generated zone a signed one: right NSEC or NSEC3 chain, right RRSIG fields, signatures of random octets.
//!
//! To an authoritative server a signature is opaque, and making real ones would take most of the time of a run. Real
//! ones are made by `ldns-signzone` in the comparison with other servers.

use std::collections::{BTreeMap, BTreeSet};

use godwit_wire::name::Name;
use godwit_wire::rr::Rtype;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::rdata::child;
use crate::reference::{Zone, ZoneRecord, nsec3_hash};

/// How a zone is signed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Signing {
    /// Not at all.
    None,
    /// With NSEC (RFC 4035).
    Nsec,
    /// With NSEC3 (RFC 5155).
    Nsec3 {
        /// Insecure delegations are left out of the chain (RFC 5155 §6).
        opt_out: bool,
    },
}

/// Adds DNSKEY, the chain and the RRSIGs.
pub fn sign(random: &mut ChaCha8Rng, zone: &mut Zone, signing: Signing) {
    if signing == Signing::None {
        return;
    }
    let apex = zone.apex.clone();
    // Zone key, protocol 3, algorithm 13 (RFC 4034 §2.1, RFC 6605).
    let key = [&[1, 1, 3, 13][..], &[7; 64]].concat();
    push(zone, &apex, Rtype::DNSKEY, 3600, key);
    match signing {
        Signing::None => {}
        Signing::Nsec => nsec(zone),
        Signing::Nsec3 { opt_out } => {
            // RFC 9276 asks for no iterations and no salt; others are still met.
            let iterations = random.random_range(0..3);
            let salt: Vec<u8> = (0..random.random_range(0..3)).map(|_| random.random()).collect();
            nsec3(zone, opt_out, iterations, &salt);
        }
    }
    rrsigs(random, zone);
}

fn push(zone: &mut Zone, owner: &Name, rtype: Rtype, ttl: u32, rdata: Vec<u8>) {
    zone.records.push(ZoneRecord { owner: owner.clone(), rtype, ttl, rdata });
}

/// Owners that are authoritative here, cuts included, with their types that are signed or listed.
fn authoritative_names(zone: &Zone) -> BTreeMap<Name, BTreeSet<Rtype>> {
    let mut names: BTreeMap<Name, BTreeSet<Rtype>> = BTreeMap::new();
    for record in &zone.records {
        let cut = zone.cut_above(&record.owner);
        let below_dname = zone
            .path(&record.owner)
            .iter()
            .any(|above| *above != record.owner && zone.has(above, Rtype::DNAME));
        let here = match &cut {
            // RFC 4035 §2.2: at a cut only DS is signed; NS is listed.
            Some(cut) => *cut == record.owner && matches!(record.rtype, Rtype::NS | Rtype::DS),
            None => true,
        };
        if here && !below_dname {
            names.entry(record.owner.clone()).or_default().insert(record.rtype);
        }
    }
    names
}

/// RFC 2308 §4, RFC 9077: NSEC and NSEC3 live as long as negative answers.
fn negative_ttl(zone: &Zone) -> u32 {
    let soa = zone.soa();
    let minimum = &soa.rdata[soa.rdata.len() - 4..];
    soa.ttl.min(u32::from_be_bytes(minimum.try_into().expect("4 octets")))
}

fn nsec(zone: &mut Zone) {
    let names = authoritative_names(zone);
    let ttl = negative_ttl(zone);
    let owners: Vec<&Name> = names.keys().collect();
    for (at, owner) in owners.iter().enumerate() {
        // RFC 4034 §4.1.1: the last one points to the apex.
        let next = owners[(at + 1) % owners.len()];
        let mut types = names[*owner].clone();
        types.extend([Rtype::RRSIG, Rtype::NSEC]);
        let rdata = [next.as_wire(), &bitmap(&types)].concat();
        push(zone, owner, Rtype::NSEC, ttl, rdata);
    }
}

fn nsec3(zone: &mut Zone, opt_out: bool, iterations: u16, salt: &[u8]) {
    let mut parameters = vec![1, 0];
    parameters.extend_from_slice(&iterations.to_be_bytes());
    parameters.push(u8::try_from(salt.len()).expect("short salt"));
    parameters.extend_from_slice(salt);
    let apex = zone.apex.clone();
    push(zone, &apex, Rtype::NSEC3PARAM, 0, parameters.clone());
    let mut names = authoritative_names(zone);
    if opt_out {
        // RFC 5155 §7.1: delegations without DS need no NSEC3.
        names.retain(|_, types| {
            !types.contains(&Rtype::NS) || types.contains(&Rtype::DS) || types.contains(&Rtype::SOA)
        });
    }
    // RFC 5155 §7.1: empty non-terminals above those that are left have one too.
    for name in names.keys().cloned().collect::<Vec<_>>() {
        for above in zone.path(&name) {
            names.entry(above).or_default();
        }
    }
    let hashes: BTreeMap<Vec<u8>, &BTreeSet<Rtype>> =
        names.iter().map(|(name, types)| (nsec3_hash(name, iterations, salt), types)).collect();
    let ttl = negative_ttl(zone);
    let owners: Vec<&Vec<u8>> = hashes.keys().collect();
    for (at, hash) in owners.iter().enumerate() {
        let next = owners[(at + 1) % owners.len()];
        let mut types = hashes[*hash].clone();
        // A delegation without DS has nothing that is signed; neither has an empty non-terminal.
        let signed = types.iter().any(|rtype| *rtype != Rtype::NS) || types.contains(&Rtype::SOA);
        if signed {
            types.insert(Rtype::RRSIG);
        }
        let mut rdata = parameters.clone();
        rdata[1] = u8::from(opt_out);
        rdata.push(20);
        rdata.extend_from_slice(next);
        rdata.extend_from_slice(&bitmap(&types));
        let owner = child(&apex, encode_base32hex(hash).as_bytes()).expect("apexes are short");
        push(zone, &owner, Rtype::NSEC3, ttl, rdata);
    }
}

fn rrsigs(random: &mut ChaCha8Rng, zone: &mut Zone) {
    let mut signed: BTreeMap<(Name, Rtype), u32> = BTreeMap::new();
    for (owner, types) in authoritative_names(zone) {
        for rtype in types {
            let at_cut = rtype == Rtype::NS && owner != zone.apex;
            if !at_cut {
                signed.insert((owner.clone(), rtype), zone.rrset(&owner, rtype)[0].ttl);
            }
        }
        // The NSEC of a cut is this side's.
        if zone.has(&owner, Rtype::NSEC) {
            signed.insert((owner.clone(), Rtype::NSEC), zone.rrset(&owner, Rtype::NSEC)[0].ttl);
        }
    }
    let apex = zone.apex.clone();
    for ((owner, rtype), ttl) in signed {
        // RFC 4034 §3.1.3: the wildcard label is not counted.
        let labels = owner.as_ref().label_count() - usize::from(owner.as_ref().is_wildcard());
        let mut rdata = rtype.0.to_be_bytes().to_vec();
        rdata.extend_from_slice(&[13, u8::try_from(labels).expect("at most 127 labels")]);
        rdata.extend_from_slice(&ttl.to_be_bytes());
        rdata.extend_from_slice(&[0x7F, 0, 0, 0, 0x60, 0, 0, 0, 0x12, 0x34]);
        rdata.extend_from_slice(apex.as_wire());
        rdata.extend((0..64).map(|_| random.random::<u8>()));
        push(zone, &owner, Rtype::RRSIG, ttl, rdata);
    }
}

/// RFC 4034 §4.1.2: windows of 256 types, each with a bitmap as long as it must be.
fn bitmap(types: &BTreeSet<Rtype>) -> Vec<u8> {
    let mut windows: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
    for rtype in types {
        let [window, low] = rtype.0.to_be_bytes();
        let bits = windows.entry(window).or_default();
        let at = usize::from(low / 8);
        bits.resize(bits.len().max(at + 1), 0);
        bits[at] |= 0x80 >> (low % 8);
    }
    let mut octets = Vec::new();
    for (window, bits) in windows {
        octets.extend_from_slice(&[window, u8::try_from(bits.len()).expect("at most 32")]);
        octets.extend_from_slice(&bits);
    }
    octets
}

/// RFC 4648 §7, lower case, without padding.
fn encode_base32hex(octets: &[u8]) -> String {
    let mut text = String::new();
    let (mut bits, mut count) = (0u32, 0);
    for octet in octets {
        bits = (bits << 8) | u32::from(*octet);
        count += 8;
        while count >= 5 {
            count -= 5;
            text.push(char::from_digit((bits >> count) & 31, 32).expect("five bits"));
        }
        bits &= (1 << count) - 1;
    }
    if count > 0 {
        text.push(char::from_digit((bits << (5 - count)) & 31, 32).expect("five bits"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base32hex_is_that_of_the_rfc() {
        // RFC 4648 §10, lower case, 20 octets need no padding.
        assert_eq!(encode_base32hex(b"foobar"), "cpnmuoj1e8");
        assert_eq!(encode_base32hex(&[0xFF; 20]), "v".repeat(32));
    }

    #[test]
    fn bitmaps_are_those_of_the_rfc() {
        // RFC 4034 §4.3.
        let types = [1, 15, 46, 47, 1234].map(Rtype).into_iter().collect();
        let mut expected = vec![0, 6, 0x40, 1, 0, 0, 0, 3, 4, 27];
        expected.extend([0; 26]);
        expected.push(0x20);
        assert_eq!(bitmap(&types), expected);
    }
}
