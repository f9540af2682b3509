//! A change against the zone as it is: rules that hold between the records of a zone.

use std::collections::BTreeMap;

use godwit_wire::name::NameRef;
use godwit_wire::rr::{Rrset, Rtype};

use super::{
    MAX_DELEGATION_NS, MAX_NSEC3_ITERATIONS, MAX_NSEC3_SALT_OCTETS, MAX_RECORDS_PER_RRSET, MAX_RRSET_OCTETS,
    MAX_TYPES_PER_NAME,
};
use crate::error::{Code, Problem};

/// The RRsets of one owner name, by type.
pub type Sets = BTreeMap<Rtype, Rrset>;

/// Judges what an owner name holds after a change.
///
/// # Errors
/// The first rule that is broken.
pub fn owner(apex: NameRef<'_>, owner: NameRef<'_>, sets: &Sets) -> Result<(), Problem> {
    within_zone(apex, owner)?;
    alias_is_alone(owner, sets)?;
    single_values(owner, sets)?;
    limits(apex, owner, sets)?;
    if owner == apex {
        apex_is_whole(apex, sets)?;
    } else if sets.contains_key(&Rtype::SOA) {
        let message = format!("SOA stands at the apex {apex} only, not at {owner} (RFC 1035 §6.1)");
        return Err(Problem::new(Code::InvalidValue, message));
    }
    Ok(())
}

/// RFC 1034 §4.2: a zone holds names at and below its apex.
fn within_zone(apex: NameRef<'_>, owner: NameRef<'_>) -> Result<(), Problem> {
    if owner.is_at_or_below(apex) {
        return Ok(());
    }
    Err(Problem::new(Code::InvalidName, format!("{owner} is not in the zone {apex}")))
}

/// A CNAME stands alone (RFC 1034 §3.6.2, RFC 2181 §10.1), but for what signs it (RFC 4035 §2.5; KEY: RFC 2181 §10.1 by
/// way of RFC 2535 §2.3.5).
fn alias_is_alone(owner: NameRef<'_>, sets: &Sets) -> Result<(), Problem> {
    if !sets.contains_key(&Rtype::CNAME) {
        return Ok(());
    }
    let beside =
        sets.keys().find(|rtype| !matches!(**rtype, Rtype::CNAME | Rtype::NSEC | Rtype::KEY | Rtype::RRSIG));
    match beside {
        None => Ok(()),
        Some(other) => Err(Problem::new(
            Code::Conflict,
            format!("{owner} cannot have a CNAME beside its {other} records (RFC 2181 §10.1)"),
        )),
    }
}

/// One record at most: CNAME (RFC 2181 §10.1), DNAME (RFC 6672 §2.4), SOA (RFC 1035 §6.1).
fn single_values(owner: NameRef<'_>, sets: &Sets) -> Result<(), Problem> {
    for rtype in [Rtype::CNAME, Rtype::DNAME, Rtype::SOA] {
        if let Some(set) = sets.get(&rtype)
            && set.rdata.len() > 1
        {
            let message = format!("{owner} has {} {rtype} records; it can have one", set.rdata.len());
            return Err(Problem::new(Code::InvalidValue, message));
        }
    }
    Ok(())
}

fn limits(apex: NameRef<'_>, owner: NameRef<'_>, sets: &Sets) -> Result<(), Problem> {
    if sets.len() > MAX_TYPES_PER_NAME {
        let message = format!("{owner} has {} types; a name has at most {MAX_TYPES_PER_NAME}", sets.len());
        return Err(Problem::new(Code::InvalidValue, message));
    }
    for set in sets.values() {
        let (count, most) = (set.rdata.len(), MAX_RECORDS_PER_RRSET);
        if count > most {
            let message = format!("{owner} {} has {count} records; an RRset has at most {most}", set.rtype);
            return Err(Problem::new(Code::InvalidValue, message));
        }
        // Pointer to the owner, type, class, TTL and length stand before each RDATA (RFC 1035 §4.1.3).
        let records = set.rdata.iter().chain(&set.rrsigs);
        let octets: usize = records.map(|rdata| rdata.len() + 12).sum();
        if octets > MAX_RRSET_OCTETS {
            let message = format!(
                "{owner} {} takes {octets} octets; at most {MAX_RRSET_OCTETS} fit a message",
                set.rtype
            );
            return Err(Problem::new(Code::InvalidValue, message));
        }
    }
    iterations(owner, sets)?;
    if owner != apex
        && let Some(delegation) = sets.get(&Rtype::NS)
        && delegation.rdata.len() > MAX_DELEGATION_NS
    {
        let count = delegation.rdata.len();
        let message =
            format!("{owner} is delegated to {count} servers; at most {MAX_DELEGATION_NS} fit a referral");
        return Err(Problem::new(Code::InvalidValue, message));
    }
    Ok(())
}

/// RFC 9276 §3.2. Iterations stand behind algorithm and flags in both types (RFC 5155 §§3.2, 4.2).
fn iterations(owner: NameRef<'_>, sets: &Sets) -> Result<(), Problem> {
    let nsec3 = [Rtype::NSEC3, Rtype::NSEC3PARAM].into_iter().filter_map(|rtype| sets.get(&rtype));
    for rdata in nsec3.flat_map(|set| &set.rdata) {
        let count = rdata.get(2..4).map_or(0, |octets| u16::from_be_bytes([octets[0], octets[1]]));
        let salt_octets = rdata.get(4).copied().unwrap_or(0);
        if count > MAX_NSEC3_ITERATIONS || salt_octets > MAX_NSEC3_SALT_OCTETS {
            let message = format!(
                "{owner} has NSEC3 with {count} iterations and {salt_octets} octets of salt; at most \
                 {MAX_NSEC3_ITERATIONS} and {MAX_NSEC3_SALT_OCTETS} (RFC 9276)"
            );
            return Err(Problem::new(Code::InvalidValue, message));
        }
    }
    Ok(())
}

/// A zone has one SOA and at least one NS at its apex (RFC 1035 §6.1, RFC 1034 §4.2.1).
fn apex_is_whole(apex: NameRef<'_>, sets: &Sets) -> Result<(), Problem> {
    for rtype in [Rtype::SOA, Rtype::NS] {
        if !sets.contains_key(&rtype) {
            let message = format!("the apex {apex} must keep its {rtype} records; replace them instead");
            return Err(Problem::new(Code::Conflict, message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use godwit_wire::name::Name;

    fn sets(of: &[(Rtype, usize)]) -> Sets {
        of.iter()
            .map(|&(rtype, count)| {
                let rdata = (0..count).map(|n| vec![u8::try_from(n).unwrap(); 4].into()).collect();
                (rtype, Rrset { rtype, ttl: 300, rdata, rrsigs: vec![] })
            })
            .collect()
    }

    #[test]
    fn rules_of_a_name() {
        let apex: Name = "example.com.".parse().unwrap();
        let many: Vec<(Rtype, usize)> = (1000..1101).map(|number| (Rtype(number), 1)).collect();
        for (row, name, of, expected) in [
            ("plain", "a.example.com.", &[(Rtype::A, 2), (Rtype::MX, 1)][..], None),
            ("outside", "example.org.", &[(Rtype::A, 1)], Some(Code::InvalidName)),
            ("label border", "badexample.com.", &[(Rtype::A, 1)], Some(Code::InvalidName)),
            ("alias", "a.example.com.", &[(Rtype::CNAME, 1)], None),
            ("alias, signed", "a.example.com.", &[(Rtype::CNAME, 1), (Rtype::NSEC, 1)], None),
            ("alias beside", "a.example.com.", &[(Rtype::CNAME, 1), (Rtype::A, 1)], Some(Code::Conflict)),
            ("two aliases", "a.example.com.", &[(Rtype::CNAME, 2)], Some(Code::InvalidValue)),
            ("two DNAME", "a.example.com.", &[(Rtype::DNAME, 2)], Some(Code::InvalidValue)),
            ("SOA below", "a.example.com.", &[(Rtype::SOA, 1)], Some(Code::InvalidValue)),
            ("apex", "example.com.", &[(Rtype::SOA, 1), (Rtype::NS, 2)], None),
            ("apex without NS", "example.com.", &[(Rtype::SOA, 1)], Some(Code::Conflict)),
            ("apex without SOA", "example.com.", &[(Rtype::NS, 1)], Some(Code::Conflict)),
            (
                "apex alias",
                "example.com.",
                &[(Rtype::SOA, 1), (Rtype::NS, 1), (Rtype::CNAME, 1)],
                Some(Code::Conflict),
            ),
            ("13 NS", "a.example.com.", &[(Rtype::NS, 13)], None),
            ("14 NS", "a.example.com.", &[(Rtype::NS, 14)], Some(Code::InvalidValue)),
            ("14 NS at the apex", "example.com.", &[(Rtype::SOA, 1), (Rtype::NS, 14)], None),
            ("100 records", "a.example.com.", &[(Rtype::A, 100)], None),
            ("101 records", "a.example.com.", &[(Rtype::A, 101)], Some(Code::InvalidValue)),
            ("100 types", "a.example.com.", &many[..100], None),
            ("101 types", "a.example.com.", &many, Some(Code::InvalidValue)),
        ] {
            let name: Name = name.parse().unwrap();
            let judged = owner(apex.as_ref(), name.as_ref(), &sets(of));
            assert_eq!(judged.err().map(|problem| problem.code), expected, "{row}");
        }
    }

    #[test]
    fn what_no_message_can_hold_is_refused() {
        let apex: Name = "example.com.".parse().unwrap();
        let judge = |rtype, rdata: Vec<Box<[u8]>>| {
            let sets = Sets::from([(rtype, Rrset { rtype, ttl: 300, rdata, rrsigs: vec![] })]);
            let name: Name = "a.example.com.".parse().unwrap();
            owner(apex.as_ref(), name.as_ref(), &sets).is_ok()
        };
        let large = |octets: usize| -> Vec<Box<[u8]>> { vec![vec![0; octets].into()] };
        assert!(judge(Rtype(65280), large(MAX_RRSET_OCTETS - 12)));
        assert!(!judge(Rtype(65280), large(MAX_RRSET_OCTETS - 11)));
        assert!(judge(Rtype::NSEC3PARAM, vec![Box::new([1, 0, 0, 50, 0])]));
        assert!(!judge(Rtype::NSEC3PARAM, vec![Box::new([1, 0, 0, 51, 0])]));
        let salted = |octets: u8| [vec![1, 0, 0, 0, octets], vec![7; usize::from(octets)]].concat().into();
        assert!(judge(Rtype::NSEC3PARAM, vec![salted(32)]));
        assert!(!judge(Rtype::NSEC3PARAM, vec![salted(33)]));
    }
}
