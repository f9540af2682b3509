//! The scenarios against the reference: two texts written from the same RFCs must not contradict each other.

use godwit_testkit::reference::{self, Client, Expected, Unit};
use godwit_testkit::scenario::{self, Case, Reaction};

#[test]
fn the_reference_reacts_as_stated() {
    let scenarios = scenario::all().unwrap_or_else(|error| panic!("{error:#}"));
    let mut faults = Vec::new();
    for scenario in &scenarios {
        for case in &scenario.cases {
            let client = Client { address: scenario::CLIENT, transport: case.transport };
            let expected =
                reference::answer(&scenario.world, &scenario.settings, &client, scenario::NOW, &case.packet);
            let agrees = match (&expected, &case.reaction) {
                (None, None) => true,
                (Some(expected), Some(reaction)) => agree(expected, reaction, case),
                _ => false,
            };
            if !agrees {
                faults.push(format!(
                    "{}.scenario:{}: {}\nstated {:#?}\nreference {expected:#?}",
                    scenario.name, case.line, case.title, case.reaction
                ));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
}

/// All but what depends on how much fits, which the reference leaves to the comparison.
fn agree(expected: &Expected, stated: &Reaction, case: &Case) -> bool {
    let opt = match (&expected.opt, &stated.opt) {
        (None, None) => true,
        (Some(expected), Some(stated)) => {
            let mut options = Vec::new();
            options.extend(expected.nsid.clone().map(|value| (3, value)));
            options.extend(expected.keepalive.map(|value| (11, value.to_be_bytes().to_vec())));
            options.extend(expected.extended_error.map(|code| (15, code.to_be_bytes().to_vec())));
            expected.udp_payload_octets == stated.udp_payload_octets
                && expected.dnssec_ok == stated.dnssec_ok
                && expected.client_cookie.is_some() == stated.cookie
                && options == stated.options
        }
        _ => false,
    };
    let sections = [&expected.answer, &expected.authority, &expected.additional];
    let same = sections.into_iter().zip(&stated.sections).all(|(units, stated)| {
        let records: Vec<_> = units.iter().flat_map(|unit: &Unit| unit.records.clone()).collect();
        let mut required = units.iter().filter(|unit| unit.required).flat_map(|unit| &unit.records);
        match (stated_tsig(stated), &expected.tsig) {
            (true, tsig) => tsig.is_some(),
            _ if case.reaction.as_ref().is_some_and(|reaction| reaction.tc) => {
                stated.iter().all(|record| records.contains(record))
            }
            // What is not required may have found no room.
            _ => {
                stated.iter().all(|record| records.contains(record))
                    && required.all(|record| stated.contains(record))
            }
        }
    });
    expected.rcode == stated.rcode
        && expected.aa == stated.aa
        && expected.rd == stated.rd
        && expected.question.is_some() == stated.question
        && opt
        && same
}

fn stated_tsig(records: &[godwit_testkit::message::Record]) -> bool {
    records.iter().any(|record| record.rtype == godwit_wire::rr::Rtype::TSIG)
}
