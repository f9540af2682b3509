//! Every scenario file against the engine: each query and its exact reaction.

use godwit_engine::answer::Answerer;
use godwit_testkit::scenario;

use crate::bridge;

#[test]
fn every_query_has_its_stated_reaction() {
    let scenarios = scenario::all().unwrap_or_else(|error| panic!("{error:#}"));
    let mut faults = Vec::new();
    let mut out = vec![0; 65_535];
    for scenario in &scenarios {
        let snapshot = bridge::snapshot(&scenario.world);
        let settings = bridge::settings(&scenario.settings);
        let mut answerer = Answerer::new();
        for case in &scenario.cases {
            let client = bridge::client(case.transport, scenario::CLIENT);
            let outcome =
                answerer.answer(&snapshot, &settings, &client, scenario::NOW, &case.packet, &mut out);
            let response = (outcome.len > 0).then(|| &out[..outcome.len]);
            faults.extend(case.check(&scenario.name, response).err());
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
}
