//! The whole search for one query: zone after zone along CNAME and DNAME, then the sections.

use godwit_wire::name::Name;
use godwit_wire::rr::Rtype;

use super::additional;
use super::denial::Denial;
use super::expected::{Expected, Unit};
use super::lookup::{Found, find};
use super::zone::{World, Zone, covered_type};
use super::{Settings, rcode};

/// What stays the same along the chain.
pub(super) struct Search<'a> {
    pub(super) world: &'a World,
    pub(super) settings: &'a Settings,
    pub(super) qtype: Rtype,
    pub(super) dnssec_ok: bool,
    /// ANY and RRSIG give everything (`docs/answers.md` §10).
    pub(super) all_types: bool,
}

/// Where one step of the chain leads.
enum Step {
    /// The response is complete.
    End,
    /// On to this name.
    To(Name),
}

impl Search<'_> {
    /// Fills the sections, AA and RCODE. `qname` is in a zone that is held.
    pub(super) fn run(&self, qname: &Name, expected: &mut Expected) {
        let owner_number = self.world.zone_for(qname, self.qtype).expect("checked before").owner_number;
        let mut seen = vec![qname.clone()];
        let mut proofs = Vec::new();
        let mut links = 0;
        loop {
            let name = seen.last().expect("begins with QNAME").clone();
            let zone = self.world.zone_for(&name, self.qtype);
            // The border: not ours, another owner's, or without data.
            if super::without_data(self.world, self.settings, &name, self.qtype) {
                break;
            }
            let Some(zone) = zone.filter(|zone| zone.owner_number == owner_number) else { break };
            match self.step(zone, &name, expected, &mut proofs) {
                Step::End => break,
                Step::To(target) => {
                    links += 1;
                    let stop = !self.settings.resolve_cname_chain
                        || links >= self.settings.max_cname_depth
                        || seen.contains(&target);
                    if stop {
                        break;
                    }
                    seen.push(target);
                }
            }
        }
        // Proofs of the links, then of the end, all behind SOA or NS.
        expected.add_authority(proofs);
        // RFC 1035 §4.1.1: AA speaks for the first owner in the answer.
        let referral = expected.authority.first().is_some_and(|unit| unit.records[0].rtype == Rtype::NS);
        expected.aa = !(referral && expected.answer.is_empty());
    }

    fn step(&self, zone: &Zone, name: &Name, expected: &mut Expected, proofs: &mut Vec<Unit>) -> Step {
        let denial = Denial::new(zone, self.dnssec_ok);
        match find(zone, name, self.qtype) {
            Found::Referral(cut) => {
                self.refer(zone, &cut, expected, proofs);
                Step::End
            }
            Found::Dname(owner) => self.redirect(zone, &owner, name, expected),
            Found::Name => match self.take(zone, name, name, expected) {
                Some(step) => step,
                None => {
                    self.negative(zone, rcode::NOERROR, expected);
                    proofs.extend(denial.no_data(name, self.qtype));
                    Step::End
                }
            },
            Found::Wildcard(wildcard) => match self.take(zone, &wildcard, name, expected) {
                Some(step) => {
                    proofs.extend(denial.wildcard_answer(name));
                    step
                }
                None => {
                    self.negative(zone, rcode::NOERROR, expected);
                    proofs.extend(denial.wildcard_no_data(name, &wildcard));
                    Step::End
                }
            },
            Found::NxDomain => {
                self.negative(zone, rcode::NXDOMAIN, expected);
                proofs.extend(denial.nx_domain(name));
                Step::End
            }
        }
    }

    /// The data at `source`, answered with the owner `name`; `None` is NODATA.
    fn take(&self, zone: &Zone, source: &Name, name: &Name, expected: &mut Expected) -> Option<Step> {
        let unit = |rtype| Unit::new(zone, source, rtype, name, self.dnssec_ok);
        let mut units: Vec<Unit> = match self.qtype {
            Rtype::ANY => zone.types(source).into_iter().map(unit).collect(),
            Rtype::RRSIG => {
                let mut covered: Vec<Rtype> = zone
                    .at(source)
                    .filter(|record| record.rtype == Rtype::RRSIG)
                    .map(|record| covered_type(&record.rdata))
                    .collect();
                covered.sort_unstable();
                covered.dedup();
                covered.into_iter().map(|rtype| Unit::signatures(zone, source, rtype, name)).collect()
            }
            rtype if zone.has(source, rtype) => vec![unit(rtype)],
            _ => Vec::new(),
        };
        if matches!(self.qtype, Rtype::ANY | Rtype::RRSIG) && !self.all_types {
            units.truncate(1);
        }
        if !units.is_empty() {
            expected.answer.extend(units);
            let already: Vec<Unit> = expected.answer.clone();
            expected.additional = additional::of_answer(self, zone, source, name, self.qtype, &already);
            return Some(Step::End);
        }
        let cname = zone.rrset(source, Rtype::CNAME).first().map(|cname| &cname.rdata)?;
        expected.answer.push(unit(Rtype::CNAME));
        Some(Step::To(Name::from_wire(cname).expect("RDATA of a CNAME is a name")))
    }

    /// RFC 6672 §3.2 step 3c and §3.3.
    fn redirect(&self, zone: &Zone, owner: &Name, name: &Name, expected: &mut Expected) -> Step {
        let dname = Unit::new(zone, owner, Rtype::DNAME, owner, self.dnssec_ok);
        let ttl = dname.records[0].ttl;
        let target = &zone.rrset(owner, Rtype::DNAME)[0].rdata;
        if !expected.answer.contains(&dname) {
            expected.answer.push(dname);
        }
        // The labels of the name below the owner, then the target.
        let below = name.as_wire().len() - owner.as_wire().len();
        let substituted = [&name.as_wire()[..below], target].concat();
        let Ok(substituted) = Name::from_wire(&substituted) else {
            // RFC 6672 §2.2: too long.
            expected.rcode = rcode::YXDOMAIN;
            return Step::End;
        };
        expected.answer.push(Unit::synthesised_cname(name, &substituted, ttl));
        // RFC 1034 §4.3.2 step 3a: a CNAME that QTYPE matches is the answer.
        if matches!(self.qtype, Rtype::CNAME | Rtype::ANY) { Step::End } else { Step::To(substituted) }
    }

    fn refer(&self, zone: &Zone, cut: &Name, expected: &mut Expected, proofs: &mut Vec<Unit>) {
        // RFC 4035 §3.1.4: NS at a cut is not signed, DS is.
        expected.add_authority([Unit::new(zone, cut, Rtype::NS, cut, self.dnssec_ok)]);
        if self.dnssec_ok {
            if zone.has(cut, Rtype::DS) {
                expected.add_authority([Unit::new(zone, cut, Rtype::DS, cut, true)]);
            } else {
                proofs.extend(Denial::new(zone, true).no_ds(cut));
            }
        }
        expected.additional = additional::of_referral(zone, cut, self.dnssec_ok);
    }

    /// RFC 2308 §3: the SOA, for at most its MINIMUM.
    fn negative(&self, zone: &Zone, rcode: u16, expected: &mut Expected) {
        let soa = Unit::new(zone, &zone.apex, Rtype::SOA, &zone.apex, self.dnssec_ok);
        let rdata = &zone.soa().rdata;
        let minimum = u32::from_be_bytes(rdata[rdata.len() - 4..].try_into().expect("4 octets"));
        expected.add_authority([soa.with_ttl_at_most(minimum)]);
        expected.rcode = rcode;
    }
}
