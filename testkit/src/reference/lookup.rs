//! One search in one zone: RFC 1034 §4.3.2 step 3 with RFC 4592 and RFC 6672, from the apex down.

use godwit_wire::name::Name;
use godwit_wire::rr::Rtype;

use super::zone::{Zone, wildcard_below};

/// What the search finds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Found {
    /// The name is at or below this zone cut.
    Referral(Name),
    /// The name is below this owner of a DNAME.
    Dname(Name),
    /// The name exists.
    Name,
    /// The name does not exist, this wildcard does.
    Wildcard(Name),
    /// Neither exists.
    NxDomain,
}

/// Searches `zone` for `qname`, which is at or below its apex.
pub(crate) fn find(zone: &Zone, qname: &Name, qtype: Rtype) -> Found {
    for name in zone.path(qname) {
        // Step 3b: NS below the apex is a cut. RFC 4035 §3.1.4.1: DS is on this side of it.
        if name != zone.apex && zone.has(&name, Rtype::NS) && !(name == *qname && qtype == Rtype::DS) {
            return Found::Referral(name);
        }
        // RFC 6672 §3.2 step 3c: names below a DNAME are redirected, §2.4: whatever stands there.
        if name != *qname && zone.has(&name, Rtype::DNAME) {
            return Found::Dname(name);
        }
    }
    // Step 3a.
    if zone.exists(qname) {
        return Found::Name;
    }
    // Step 3c: the wildcard at the closest encloser and no other (RFC 4592 §3.3.1).
    match wildcard_below(zone.closest_encloser(qname).as_ref()).filter(|wildcard| zone.exists(wildcard)) {
        Some(wildcard) => Found::Wildcard(wildcard),
        None => Found::NxDomain,
    }
}
