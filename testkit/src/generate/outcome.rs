//! What kinds of answer a run of queries met, so that none of the hard ones is left out by chance.

use std::collections::BTreeMap;
use std::fmt;

use godwit_wire::name::Name;
use godwit_wire::rr::Rtype;

use super::query::GeneratedQuery;
use crate::compare::least_octets;
use crate::reference::{Expected, Found, World, Zone, find, rcode};

/// A kind of answer. One case can be of several.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Outcome {
    /// The RRset asked for, at the name.
    Hit,
    /// A CNAME to a name of the same zone.
    CnameWithinZone,
    /// A CNAME followed into another zone.
    CnameAcrossZones,
    /// Redirected by a DNAME.
    Dname,
    /// A referral with glue.
    ReferralWithGlue,
    /// A referral without glue.
    ReferralWithoutGlue,
    /// A referral whose required glue does not fit.
    ReferralWithTruncatedGlue,
    /// QTYPE DS at a zone cut.
    DsAtCut,
    /// A name whose data a cut or a DNAME hides.
    Occluded,
    /// Made from a wildcard.
    WildcardHit,
    /// A wildcard without the type.
    WildcardNoData,
    /// NXDOMAIN right below an empty non-terminal.
    BelowEmptyNonTerminal,
    /// An empty non-terminal.
    EmptyNonTerminal,
    /// A name with other types.
    NoData,
    /// No such name.
    NxDomain,
    /// QTYPE ANY.
    Any,
    /// A chain that comes back to itself or has too many links.
    Loop,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Outcome; 17] = [
        Outcome::Hit,
        Outcome::CnameWithinZone,
        Outcome::CnameAcrossZones,
        Outcome::Dname,
        Outcome::ReferralWithGlue,
        Outcome::ReferralWithoutGlue,
        Outcome::ReferralWithTruncatedGlue,
        Outcome::DsAtCut,
        Outcome::Occluded,
        Outcome::WildcardHit,
        Outcome::WildcardNoData,
        Outcome::BelowEmptyNonTerminal,
        Outcome::EmptyNonTerminal,
        Outcome::NoData,
        Outcome::NxDomain,
        Outcome::Any,
        Outcome::Loop,
    ];
}

/// How often each kind was met.
#[derive(Clone, Debug, Default)]
pub struct Census {
    counts: BTreeMap<Outcome, u64>,
    cases: u64,
    near: u64,
}

impl Census {
    /// Counts one case.
    pub fn count(&mut self, world: &World, query: &GeneratedQuery, expected: Option<&Expected>) {
        self.cases += 1;
        self.near += u64::from(query.near);
        for outcome in expected.map(|expected| classify(world, query, expected)).unwrap_or_default() {
            *self.counts.entry(outcome).or_default() += 1;
        }
    }

    /// How many cases were counted.
    #[must_use]
    pub fn cases(&self) -> u64 {
        self.cases
    }

    /// The kinds of which there was no case.
    #[must_use]
    pub fn missing(&self) -> Vec<Outcome> {
        Outcome::ALL.into_iter().filter(|outcome| !self.counts.contains_key(outcome)).collect()
    }

    /// Checks that four of five names are near the zones and each kind makes a hundredth of all cases.
    ///
    /// # Panics
    /// When not.
    pub fn assert_rich(&self) {
        assert!(self.near * 5 >= self.cases * 4, "too few names from the zones: {self}");
        for outcome in Outcome::ALL {
            let count = self.counts.get(&outcome).copied().unwrap_or_default();
            assert!(count * 100 >= self.cases, "{outcome:?} is less than 1 % of all cases: {self}");
        }
    }
}

impl fmt::Display for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cases, {} near a zone", self.cases, self.near)?;
        for outcome in Outcome::ALL {
            write!(f, ", {outcome:?} {}", self.counts.get(&outcome).copied().unwrap_or_default())?;
        }
        Ok(())
    }
}

/// The kinds that a case is of, by what the reference expects.
#[must_use]
pub fn classify(world: &World, query: &GeneratedQuery, expected: &Expected) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let Some(zone) = world.zone_for(&query.qname, query.qtype) else { return outcomes };
    let asked = expected.question.as_ref().is_some_and(|question| {
        question.qclass == 1
            && question.qtype == query.qtype.0
            && Name::from_wire(&question.qname).is_ok_and(|name| name == query.qname)
    });
    let about_data = expected.aa || expected.authority.iter().any(|unit| unit.records[0].rtype == Rtype::NS);
    if !asked || !about_data {
        return outcomes;
    }
    let found = find(zone, &query.qname, query.qtype);
    if query.qtype == Rtype::ANY {
        outcomes.push(Outcome::Any);
    }
    let types = |name: &Name| zone.types(name);
    match &found {
        Found::Referral(cut) => referral(zone, query, cut, expected, &mut outcomes),
        Found::Dname(owner) => {
            outcomes.push(Outcome::Dname);
            if zone.exists(&query.qname) && *owner != query.qname {
                outcomes.push(Outcome::Occluded);
            }
        }
        Found::Name if query.qtype == Rtype::DS && zone.has(&query.qname, Rtype::NS) => {
            outcomes.push(Outcome::DsAtCut);
        }
        Found::Name if types(&query.qname).is_empty() => outcomes.push(Outcome::EmptyNonTerminal),
        Found::Name if expected.answer.is_empty() => outcomes.push(Outcome::NoData),
        Found::Name if first_type(expected) == query.qtype => outcomes.push(Outcome::Hit),
        Found::Name => {}
        Found::Wildcard(_) if expected.answer.is_empty() => outcomes.push(Outcome::WildcardNoData),
        Found::Wildcard(_) => outcomes.push(Outcome::WildcardHit),
        Found::NxDomain => {
            outcomes.push(Outcome::NxDomain);
            let encloser = zone.closest_encloser(&query.qname);
            if types(&encloser).is_empty() {
                outcomes.push(Outcome::BelowEmptyNonTerminal);
            }
        }
    }
    chain(world, query, expected, &mut outcomes);
    outcomes
}

fn first_type(expected: &Expected) -> Rtype {
    expected.answer[0].records[0].rtype
}

fn referral(
    zone: &Zone,
    query: &GeneratedQuery,
    cut: &Name,
    expected: &Expected,
    outcomes: &mut Vec<Outcome>,
) {
    if query.qname != *cut && zone.exists(&query.qname) {
        outcomes.push(Outcome::Occluded);
    }
    if expected.additional.is_empty() {
        outcomes.push(Outcome::ReferralWithoutGlue);
        return;
    }
    let required_is_too_much =
        expected.additional.iter().any(|unit| unit.required) && least_octets(expected) > expected.limit;
    outcomes.push(if required_is_too_much {
        Outcome::ReferralWithTruncatedGlue
    } else {
        Outcome::ReferralWithGlue
    });
}

/// What the CNAMEs of the answer lead to.
fn chain(world: &World, query: &GeneratedQuery, expected: &Expected, outcomes: &mut Vec<Outcome>) {
    if matches!(query.qtype, Rtype::CNAME | Rtype::ANY | Rtype::RRSIG) {
        return;
    }
    let links: Vec<(Name, Name)> = expected
        .answer
        .iter()
        .map(|unit| &unit.records[0])
        .filter(|record| record.rtype == Rtype::CNAME)
        .map(|record| (record.owner.clone(), Name::from_wire(&record.rdata).expect("a name")))
        .collect();
    let zone_of = |name: &Name| world.zone_for(name, query.qtype).map(|zone| &zone.apex);
    if links.iter().any(|(owner, target)| zone_of(owner) == zone_of(target)) {
        outcomes.push(Outcome::CnameWithinZone);
    }
    if links.windows(2).any(|pair| zone_of(&pair[0].0) != zone_of(&pair[0].1)) {
        outcomes.push(Outcome::CnameAcrossZones);
    } else if let Some((owner, target)) = links.last()
        && zone_of(owner) != zone_of(target)
        && (first_type_last(expected) != Rtype::CNAME || !expected.authority.is_empty())
    {
        outcomes.push(Outcome::CnameAcrossZones);
    }
    if let Some((_, target)) = links.last()
        && expected.rcode == rcode::NOERROR
        && first_type_last(expected) == Rtype::CNAME
        && (links.len() >= 10 || links.iter().any(|(owner, _)| owner == target))
    {
        outcomes.push(Outcome::Loop);
    }
}

fn first_type_last(expected: &Expected) -> Rtype {
    expected.answer.last().map_or(Rtype(0), |unit| unit.records[0].rtype)
}
