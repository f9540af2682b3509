//! The additional section: glue of referrals (RFC 9471), addresses beside positive answers (RFC 1034 §4.3.2 step 6).

use godwit_wire::name::{Name, wire_len};
use godwit_wire::rr::Rtype;

use super::chain::Search;
use super::expected::Unit;
use super::zone::Zone;
use crate::message::canonical_rdata;

/// RFC 9471 §3: addresses at or below the cut must be there; others that this zone has may.
pub(super) fn of_referral(zone: &Zone, cut: &Name, dnssec_ok: bool) -> Vec<Unit> {
    let mut units: Vec<Unit> = Vec::new();
    for in_domain in [true, false] {
        for target in name_server_names(zone, cut) {
            if target.as_ref().is_at_or_below(cut.as_ref()) != in_domain {
                continue;
            }
            for rtype in [Rtype::A, Rtype::AAAA] {
                if zone.has(&target, rtype) {
                    let mut unit = Unit::new(zone, &target, rtype, &target, dnssec_ok);
                    unit.required = in_domain;
                    units.push(unit);
                }
            }
        }
    }
    units
}

/// `docs/answers.md` §8. `already`: the answer section, which is not repeated.
pub(super) fn of_answer(
    search: &Search<'_>,
    zone: &Zone,
    source: &Name,
    owner: &Name,
    rtype: Rtype,
    already: &[Unit],
) -> Vec<Unit> {
    if !matches!(rtype, Rtype::NS | Rtype::MX | Rtype::SRV | Rtype::SVCB | Rtype::HTTPS) {
        return Vec::new();
    }
    let mut units: Vec<Unit> = Vec::new();
    for Target { name: target, is_alias } in targets(zone, source, owner, rtype) {
        let Some(home) = search.world.closest_zone(&target) else { continue };
        if super::without_data(search.world, search.settings, &target, rtype) {
            continue;
        }
        if home.owner_number != zone.owner_number || home.is_hidden(&target) {
            continue;
        }
        // RFC 9460 §4.1.
        let types = if is_alias { vec![Rtype::A, Rtype::AAAA, rtype] } else { vec![Rtype::A, Rtype::AAAA] };
        for rtype in types {
            if !home.has(&target, rtype) {
                continue;
            }
            let mut unit = Unit::new(home, &target, rtype, &target, search.dnssec_ok);
            unit.required = false;
            let there = already.iter().chain(&units).any(|other| other.records == unit.records);
            if !there {
                units.push(unit);
            }
        }
    }
    units
}

/// The targets of the NS at a cut, in canonical order.
fn name_server_names(zone: &Zone, cut: &Name) -> Vec<Name> {
    let ns = zone.rrset(cut, Rtype::NS);
    let mut targets: Vec<&[u8]> = ns.iter().map(|record| &record.rdata[..]).collect();
    targets.sort_unstable();
    targets.into_iter().map(|rdata| Name::from_wire(rdata).expect("RDATA of NS is a name")).collect()
}

/// A name that an RRset points to.
struct Target {
    name: Name,
    /// By SVCB or HTTPS in AliasMode (RFC 9460 §2.4.2).
    is_alias: bool,
}

/// The names that an RRset points to, in canonical order of the RDATA, each once, the root left out.
fn targets(zone: &Zone, source: &Name, owner: &Name, rtype: Rtype) -> Vec<Target> {
    let mut rdata: Vec<Vec<u8>> =
        zone.rrset(source, rtype).iter().map(|record| canonical_rdata(record.rtype, &record.rdata)).collect();
    rdata.sort();
    let mut targets: Vec<Target> = Vec::new();
    for rdata in rdata {
        let (priority, at) = match rtype {
            Rtype::NS => (0, 0),
            // Preference or priority, then the name.
            Rtype::MX | Rtype::SVCB | Rtype::HTTPS => (u16::from_be_bytes([rdata[0], rdata[1]]), 2),
            // Priority, weight, port, then the name (RFC 2782).
            Rtype::SRV => (0, 6),
            _ => unreachable!("only called for types with targets"),
        };
        let len = wire_len(&rdata[at..]).expect("RDATA was checked when generated");
        let mut name = Name::from_wire(&rdata[at..at + len]).expect("a name");
        let is_binding = matches!(rtype, Rtype::SVCB | Rtype::HTTPS);
        let is_alias = is_binding && priority == 0;
        if name.as_ref().is_root() {
            // RFC 9460 §2.5.2: in ServiceMode the owner itself.
            if is_alias || !is_binding {
                continue;
            }
            name = owner.clone();
        }
        if targets.iter().all(|target| target.name != name) {
            targets.push(Target { name, is_alias });
        }
    }
    targets
}
