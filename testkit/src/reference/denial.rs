//! Proofs that something is not there: NSEC (RFC 4035 §3.1.3) and NSEC3 (RFC 5155 §7.2), from the chain in the zone.

use godwit_wire::name::Name;
use godwit_wire::rr::Rtype;
use ring::digest;

use super::expected::Unit;
use super::zone::{Zone, ZoneRecord, wildcard_below};

/// The chain of a zone.
pub(super) struct Denial<'z> {
    zone: &'z Zone,
    chain: Chain,
}

enum Chain {
    /// Not signed, or DO not set: nothing is proven.
    None,
    Nsec,
    Nsec3(Nsec3Parameters),
}

/// RFC 5155 §4.1, without the flags.
#[derive(Eq, PartialEq)]
struct Nsec3Parameters {
    iterations: u16,
    salt: Vec<u8>,
}

impl<'z> Denial<'z> {
    pub(super) fn new(zone: &'z Zone, dnssec_ok: bool) -> Self {
        // RFC 5155 §4.1.2: NSEC3PARAM with flags other than 0 is not for servers.
        let mut parameters = zone.rrset(&zone.apex, Rtype::NSEC3PARAM);
        parameters.sort_by(|a, b| a.rdata.cmp(&b.rdata));
        let parameters = parameters.into_iter().find(|record| record.rdata[..2] == [1, 0]);
        let chain = match parameters {
            _ if !dnssec_ok => Chain::None,
            Some(record) => Chain::Nsec3(read_parameters(&record.rdata)),
            None if zone.has(&zone.apex, Rtype::NSEC) => Chain::Nsec,
            None => Chain::None,
        };
        Denial { zone, chain }
    }

    /// The name exists and lacks the type.
    pub(super) fn no_data(&self, name: &Name, _qtype: Rtype) -> Vec<Unit> {
        match &self.chain {
            Chain::None => Vec::new(),
            // RFC 4035 §3.1.3.1; an empty non-terminal has no NSEC of its own, but one that spans it.
            Chain::Nsec if self.zone.types(name).is_empty() => self.nsec_cover(name).into_iter().collect(),
            Chain::Nsec => self.nsec_match(name).into_iter().collect(),
            // RFC 5155 §7.2.3; §7.2.4 where opt-out left the name out of the chain.
            Chain::Nsec3(parameters) => match self.nsec3_match(parameters, name) {
                Some(unit) => vec![unit],
                None => self.closest_encloser_proof(parameters, name),
            },
        }
    }

    /// A delegation without DS (RFC 4035 §3.1.4.1, RFC 5155 §7.2.7).
    pub(super) fn no_ds(&self, cut: &Name) -> Vec<Unit> {
        self.no_data(cut, Rtype::DS)
    }

    /// Neither the name nor a wildcard for it exists (RFC 4035 §3.1.3.2, RFC 5155 §7.2.2).
    pub(super) fn nx_domain(&self, name: &Name) -> Vec<Unit> {
        let closest = self.zone.closest_encloser(name);
        match &self.chain {
            Chain::None => Vec::new(),
            Chain::Nsec => [Some(name.clone()), wildcard_below(closest.as_ref())]
                .iter()
                .flatten()
                .filter_map(|name| self.nsec_cover(name))
                .collect(),
            Chain::Nsec3(parameters) => {
                let mut units = self.closest_encloser_proof(parameters, name);
                // RFC 5155 §8.4: of the encloser that is proven.
                let proven = self.proven(parameters, name).unwrap_or(closest);
                let wildcard = wildcard_below(proven.as_ref());
                units.extend(wildcard.and_then(|wildcard| self.nsec3_cover(parameters, &wildcard)));
                units
            }
        }
    }

    /// An answer was made from a wildcard: the name itself does not exist (RFC 4035 §3.1.3.3, RFC 5155 §7.2.6).
    pub(super) fn wildcard_answer(&self, name: &Name) -> Vec<Unit> {
        match &self.chain {
            Chain::None => Vec::new(),
            Chain::Nsec => self.nsec_cover(name).into_iter().collect(),
            Chain::Nsec3(parameters) => {
                let encloser = self.zone.closest_encloser(name);
                self.nsec3_cover(parameters, &self.next_closer(name, &encloser)).into_iter().collect()
            }
        }
    }

    /// The wildcard lacks the type (RFC 4035 §3.1.3.4, RFC 5155 §7.2.5).
    pub(super) fn wildcard_no_data(&self, name: &Name, wildcard: &Name) -> Vec<Unit> {
        let mut units = match &self.chain {
            Chain::None => return Vec::new(),
            Chain::Nsec => self.nsec_cover(name).into_iter().collect(),
            Chain::Nsec3(parameters) => self.closest_encloser_proof(parameters, name),
        };
        match &self.chain {
            Chain::Nsec3(parameters) => units.extend(self.nsec3_match(parameters, wildcard)),
            _ => units.extend(self.no_data(wildcard, Rtype::ANY)),
        }
        units
    }

    fn nsec_match(&self, name: &Name) -> Option<Unit> {
        self.zone.has(name, Rtype::NSEC).then(|| Unit::new(self.zone, name, Rtype::NSEC, name, true))
    }

    /// The NSEC whose owner comes last before the name in canonical order (RFC 4034 §6.1).
    fn nsec_cover(&self, name: &Name) -> Option<Unit> {
        let owners = self.zone.records.iter().filter(|record| record.rtype == Rtype::NSEC);
        let owner = owners.map(|record| &record.owner).filter(|owner| *owner < name).max()?;
        self.nsec_match(owner)
    }

    /// RFC 5155 §7.2.1, from the closest encloser that the chain has.
    fn closest_encloser_proof(&self, parameters: &Nsec3Parameters, name: &Name) -> Vec<Unit> {
        let Some(encloser) = self.proven(parameters, name) else { return Vec::new() };
        self.nsec3_match(parameters, &encloser)
            .into_iter()
            .chain(self.nsec3_cover(parameters, &self.next_closer(name, &encloser)))
            .collect()
    }

    fn proven(&self, parameters: &Nsec3Parameters, name: &Name) -> Option<Name> {
        let enclosers = self.zone.path(name);
        let mut above = enclosers.into_iter().rev().skip(1);
        above.find(|above| self.zone.exists(above) && self.nsec3_match(parameters, above).is_some())
    }

    /// The name one label longer than the encloser (RFC 5155 §1.3).
    fn next_closer(&self, name: &Name, encloser: &Name) -> Name {
        let path = self.zone.path(name);
        path.into_iter().find(|below| below.as_ref().is_below(encloser.as_ref())).expect("name is below")
    }

    fn nsec3_match(&self, parameters: &Nsec3Parameters, name: &Name) -> Option<Unit> {
        let hash = hash(parameters, name);
        let (_, owner) = self.nsec3_owners(parameters).into_iter().find(|(owner, _)| *owner == hash)?;
        Some(Unit::new(self.zone, owner, Rtype::NSEC3, owner, true))
    }

    /// The NSEC3 whose owner hash comes last before the name's; before the first it is the last one, as the chain
    /// is a ring (RFC 5155 §3.1.7).
    fn nsec3_cover(&self, parameters: &Nsec3Parameters, name: &Name) -> Option<Unit> {
        let hash = hash(parameters, name);
        let owners = self.nsec3_owners(parameters);
        let before = owners.iter().filter(|(owner, _)| *owner < hash).max();
        let (_, owner) = before.or_else(|| owners.iter().max())?;
        Some(Unit::new(self.zone, owner, Rtype::NSEC3, owner, true))
    }

    /// Hash and owner of every NSEC3 of the chain.
    fn nsec3_owners(&self, parameters: &Nsec3Parameters) -> Vec<(Vec<u8>, &'z Name)> {
        let of_chain = |record: &&ZoneRecord| {
            record.rtype == Rtype::NSEC3
                && record.rdata[0] == 1
                && read_parameters(&record.rdata) == *parameters
                && record.owner.as_ref().parent() == Some(self.zone.apex.as_ref())
        };
        self.zone
            .records
            .iter()
            .filter(of_chain)
            .filter_map(|record| {
                Some((decode_base32hex(record.owner.as_ref().labels().next()?)?, &record.owner))
            })
            .collect()
    }
}

/// Algorithm, flags, iterations, salt: NSEC3 and NSEC3PARAM begin alike (RFC 5155 §3.2, §4.2).
fn read_parameters(rdata: &[u8]) -> Nsec3Parameters {
    let salt_len = usize::from(rdata[4]);
    Nsec3Parameters {
        iterations: u16::from_be_bytes([rdata[2], rdata[3]]),
        salt: rdata[5..5 + salt_len].to_vec(),
    }
}

fn hash(parameters: &Nsec3Parameters, name: &Name) -> Vec<u8> {
    nsec3_hash(name, parameters.iterations, &parameters.salt)
}

/// RFC 5155 §5.
pub(crate) fn nsec3_hash(name: &Name, iterations: u16, salt: &[u8]) -> Vec<u8> {
    let mut octets = name.as_wire().to_vec();
    for _ in 0..=iterations {
        octets.extend_from_slice(salt);
        octets = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &octets).as_ref().to_vec();
    }
    octets
}

/// RFC 4648 §7, without padding, in either case.
fn decode_base32hex(text: &[u8]) -> Option<Vec<u8>> {
    let mut octets = Vec::new();
    let (mut bits, mut count) = (0u32, 0);
    for character in text {
        let value = char::from(*character).to_digit(32)?;
        bits = (bits << 5) | value;
        count += 5;
        if count >= 8 {
            count -= 8;
            octets.push(u8::try_from((bits >> count) & 0xFF).expect("eight bits"));
        }
    }
    Some(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_rfc() {
        // RFC 5155 Appendix A.
        for (name, expected) in [
            ("example.", "0p9mhaveqvm6t7vbl5lop2u3t2rp3tom"),
            ("a.example.", "35mthgpgcu1qg68fab165klnsnk3dpvl"),
            ("*.w.example.", "r53bq7cc2uvmubfu5ocmm6pers9tk9en"),
        ] {
            let salt = [0xaa, 0xbb, 0xcc, 0xdd];
            let hash = nsec3_hash(&name.parse().unwrap(), 12, &salt);
            assert_eq!(decode_base32hex(expected.as_bytes()).unwrap(), hash, "{name}");
        }
    }
}
