//! Where another server answers otherwise and both are right, or it is wrong: one row for each, with what decides.
//!
//! `docs/differences.md` is the same table for people.

use godwit_testkit::generate::GeneratedQuery;
use godwit_testkit::message::{Message, Record};
use godwit_testkit::reference::{Expected, World, Zone};
use godwit_testkit::servers::Peer;
use godwit_wire::name::Name;
use godwit_wire::rr::Rtype;

/// A tolerated difference.
pub(crate) struct Tolerated {
    /// Whose.
    pub(crate) peers: &'static [Peer],
    /// What the other server does, as in `docs/differences.md`.
    pub(crate) what: &'static str,
    /// What decides.
    pub(crate) decided_by: &'static str,
    /// Whether it explains the whole difference of a case.
    pub(crate) applies: fn(&Case<'_>) -> bool,
}

/// One answer beside the expectation.
pub(crate) struct Case<'a> {
    pub(crate) world: &'a World,
    pub(crate) query: &'a GeneratedQuery,
    pub(crate) expected: &'a Expected,
    pub(crate) got: &'a Message,
}

pub(crate) const ROWS: &[Tolerated] = &[
    Tolerated {
        peers: &[Peer::Knot, Peer::Bind],
        what: "ends a chain at the border of the zone in which it began",
        decided_by: "RFC 1034 §4.3.2",
        applies: |case| case.crosses_zones() && case.answer_is_part() && case.got.rcode == 0,
    },
    Tolerated {
        peers: &[Peer::Bind],
        what: "SERVFAIL for a chain that is a loop or has too many links",
        decided_by: "RFC 1034 §3.6.2",
        applies: |case| case.got.rcode == 2 && case.chain_is_cut_short() && case.answer_is_part(),
    },
    Tolerated {
        peers: &[Peer::Knot],
        what: "ends a chain after five links",
        decided_by: "RFC 1034 §3.6.2",
        applies: |case| case.links().len() > 5 && case.answer_is_part() && case.got.rcode == 0,
    },
    Tolerated {
        peers: &[Peer::Nsd, Peer::Bind],
        what: "follows more than ten links",
        decided_by: "RFC 1034 §3.6.2",
        applies: |case| case.links().len() == 10 && case.lacking(0).is_empty(),
    },
    Tolerated {
        peers: &[Peer::Knot, Peer::Bind],
        what: "looks for the DS of an alias's target only in the zone of the alias",
        decided_by: "RFC 4035 §3.1.4.1",
        applies: |case| case.query.qtype == Rtype::DS && !case.links().is_empty() && case.got.rcode == 0,
    },
    Tolerated {
        peers: &[Peer::Bind],
        what: "answers QTYPE NSEC at a zone cut",
        decided_by: "RFC 1034 §4.3.2",
        applies: |case| case.query.qtype == Rtype::NSEC && case.got.aa && !case.expected.aa,
    },
    Tolerated {
        peers: &[Peer::Nsd],
        what: "lets names that only an outer zone has below a nested apex exist in the nested zone",
        decided_by: "RFC 4592 §3.3",
        applies: |case| {
            let targets = case.links().into_iter().map(|(_, target)| target);
            targets.chain([case.query.qname.clone()]).any(|name| {
                let Some(home) = case.world.closest_zone(&name) else { return false };
                let mut outer =
                    case.world.zones.iter().filter(|zone| home.apex.as_ref().is_below(zone.apex.as_ref()));
                outer.any(|zone| {
                    home.path(&name).iter().any(|above| zone.exists(above) && !home.exists(above))
                })
            })
        },
    },
    Tolerated {
        peers: &[Peer::Knot],
        what: "leaves out the proof when a QNAME that begins with * is itself made from a wildcard",
        decided_by: "RFC 4035 §3.1.3.3",
        applies: |case| {
            case.query.qname.as_ref().is_wildcard()
                && case.zone().is_some_and(|zone| !zone.exists(&case.query.qname))
                && case.differences() == ["authority"]
                && case.more(1).is_empty()
        },
    },
    Tolerated {
        peers: &[Peer::Knot, Peer::Bind],
        what: "leaves out the proof that a wildcard is an empty non-terminal",
        decided_by: "RFC 4035 §3.1.3.4",
        applies: |case| {
            let wildcard = case.zone().and_then(|zone| {
                zone.closest_encloser(&case.last_name()).wildcard_child().map(|name| (zone, name))
            });
            wildcard.is_some_and(|(zone, name)| zone.exists(&name) && zone.types(&name).is_empty())
                && case.differences() == ["authority"]
                && case.more(1).is_empty()
        },
    },
    Tolerated {
        peers: &[Peer::Nsd],
        what: "leaves out the NSEC3 of the apex when the zone is nested in another",
        decided_by: "RFC 5155 §7.2.1",
        applies: |case| {
            let Some(home) = case.world.closest_zone(&case.last_name()) else { return false };
            let nested = case.world.zones.iter().any(|zone| home.apex.as_ref().is_below(zone.apex.as_ref()));
            let lacking = case.lacking(1);
            nested
                && case.differences() == ["authority"]
                && case.more(1).is_empty()
                && lacking.iter().all(|record| record.owner == lacking[0].owner && record.owner != home.apex)
        },
    },
    Tolerated {
        peers: &[Peer::Nsd],
        what: "NOERROR where a later substitution of a DNAME gets too long",
        decided_by: "RFC 6672 §2.2",
        applies: |case| case.expected.rcode == 6 && case.got.rcode == 0 && case.differences() == ["RCODE"],
    },
    Tolerated {
        peers: &[Peer::Nsd],
        what: "proves the wrong name when a DNAME leads to a wildcard without the type",
        decided_by: "RFC 4035 §3.1.3.4",
        applies: |case| {
            let dname = case.got.answer.iter().any(|record| record.rtype == Rtype::DNAME);
            let proof = |record: &Record| matches!(record.rtype, Rtype::NSEC | Rtype::NSEC3 | Rtype::RRSIG);
            dname
                && case.differences() == ["authority"]
                && case.lacking(1).iter().all(proof)
                && case.more(1).iter().all(proof)
        },
    },
    Tolerated {
        peers: &[Peer::Nsd, Peer::Bind],
        what: "leaves out glue that does not fit without setting TC",
        decided_by: "RFC 9471 §3.1",
        applies: |case| case.differences() == ["required glue"] && !case.got.tc,
    },
    Tolerated {
        peers: &[Peer::Nsd],
        what: "lets the owner of an NSEC3 exist",
        decided_by: "RFC 5155 §7.2.8",
        applies: |case| {
            case.zone().is_some_and(|zone| {
                let path = zone.path(&case.query.qname);
                path.iter().any(|above| zone.has(above, Rtype::NSEC3))
            })
        },
    },
    Tolerated {
        peers: &[Peer::Nsd],
        what: "proves NODATA at a name that begins with * as if it were made from a wildcard",
        decided_by: "RFC 5155 §7.2.3",
        applies: |case| {
            case.last_name().as_ref().is_wildcard()
                && case.lacking(1).is_empty()
                && case.more(1).iter().all(|record| matches!(record.rtype, Rtype::NSEC3 | Rtype::RRSIG))
                && case.differences() == ["authority"]
        },
    },
    Tolerated {
        peers: &[Peer::Nsd, Peer::Knot, Peer::Bind],
        what: "leaves the DS of an unsigned zone out of referrals",
        decided_by: "RFC 4035 §3.1.4",
        applies: |case| {
            let ds = |record: &&Record| record.rtype == Rtype::DS;
            let lacking: Vec<Record> = case.lacking(1);
            !lacking.is_empty()
                && lacking.iter().all(|record| ds(&record))
                && case.differences() == ["authority"]
                && case.zone().is_some_and(|zone| !is_signed(zone))
        },
    },
];

fn is_signed(zone: &Zone) -> bool {
    zone.has(&zone.apex, Rtype::DNSKEY)
}

impl Case<'_> {
    /// Which parts differ. Optional additional data is not compared, beyond that it must be true.
    pub(crate) fn differences(&self) -> Vec<&'static str> {
        let mut differences = Vec::new();
        if self.got.rcode != self.expected.rcode {
            differences.push("RCODE");
        }
        if self.got.aa != self.expected.aa {
            differences.push("AA");
        }
        for (place, what) in ["answer", "authority"].into_iter().enumerate() {
            if !self.lacking(place).is_empty() || !self.more(place).is_empty() {
                differences.push(what);
            }
        }
        if !self.lacking(2).is_empty() {
            differences.push("required glue");
        }
        if self.more(2).iter().any(|record| !self.is_true(record)) {
            differences.push("additional data that no zone has");
        }
        differences
    }

    fn wanted(&self, place: usize) -> Vec<Record> {
        let sections = [&self.expected.answer, &self.expected.authority, &self.expected.additional];
        let units = sections[place].iter().filter(|unit| unit.required);
        units.flat_map(|unit| unit.records.clone()).collect()
    }

    fn given(&self, place: usize) -> &[Record] {
        [&self.got.answer, &self.got.authority, &self.got.additional][place]
    }

    /// What is expected in a section and not there.
    pub(crate) fn lacking(&self, place: usize) -> Vec<Record> {
        let given = self.given(place);
        self.wanted(place).into_iter().filter(|record| !given.contains(record)).collect()
    }

    /// What is there and not expected.
    pub(crate) fn more(&self, place: usize) -> Vec<Record> {
        let wanted = self.wanted(place);
        self.given(place).iter().filter(|record| !wanted.contains(record)).cloned().collect()
    }

    /// Whether some zone has such a record.
    fn is_true(&self, record: &Record) -> bool {
        let has = |zone: &Zone| {
            zone.records.iter().any(|other| other.rtype == record.rtype && other.rdata == record.rdata)
        };
        self.world.zones.iter().any(has)
    }

    /// The zone that answers.
    pub(crate) fn zone(&self) -> Option<&Zone> {
        self.world.zone_for(&self.query.qname, self.query.qtype)
    }

    /// The CNAMEs expected: owner and target.
    pub(crate) fn links(&self) -> Vec<(Name, Name)> {
        self.wanted(0)
            .into_iter()
            .filter(|record| record.rtype == Rtype::CNAME)
            .map(|record| (record.owner, Name::from_wire(&record.rdata).expect("a name")))
            .collect()
    }

    /// The name that the chain ends at.
    fn last_name(&self) -> Name {
        self.links().pop().map_or_else(|| self.query.qname.clone(), |(_, target)| target)
    }

    /// Whether the chain leaves the zone in which it began for another.
    pub(crate) fn crosses_zones(&self) -> bool {
        let apex = |name: &Name| self.world.closest_zone(name).map(|zone| zone.apex.clone());
        let first = apex(&self.query.qname);
        self.links().iter().any(|(_, target)| apex(target).is_some() && apex(target) != first)
    }

    /// Whether the chain ends at its own beginning or at the limit of links.
    pub(crate) fn chain_is_cut_short(&self) -> bool {
        let links = self.links();
        let last = links.last().map(|(_, target)| target);
        links.len() >= 10 || links.iter().any(|(owner, _)| Some(owner) == last)
    }

    /// Whether everything in the answer section is expected there.
    pub(crate) fn answer_is_part(&self) -> bool {
        self.more(0).is_empty() && !self.got.answer.is_empty()
    }
}
