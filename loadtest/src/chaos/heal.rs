//! What has to hold once a fault is over: every data plane has everything, and everything is what the ledger says.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use super::ledger::{self, ZONES, number_in, number_of};
use super::shared::Shared;
use super::watchers::{Asker, Said};
use crate::cluster::{CONTROLS, Cluster, LOOK_EVERY, level};
use crate::http::Connection;
use crate::interrupt;

/// Writers have their answers after this, or something is wrong.
const PAUSE: Duration = Duration::from_secs(60);
/// Everything is everywhere after this, or something is wrong.
const EQUAL: Duration = Duration::from_secs(60);
/// A question that was lost is asked again so often.
const TRIES: usize = 5;
/// How long a list of records may take.
const LIST: Duration = Duration::from_secs(20);

/// Has writers pause, and waits until they do.
///
/// # Errors
/// One has no answer in time.
pub fn pause(shared: &Shared) -> Result<()> {
    shared.pause.store(true, Ordering::SeqCst);
    let end = Instant::now() + PAUSE;
    while shared.under_way.load(Ordering::SeqCst) > 0 {
        interrupt::check()?;
        anyhow::ensure!(Instant::now() < end, "a write has no answer after {PAUSE:?}");
        std::thread::sleep(LOOK_EVERY / 10);
    }
    Ok(())
}

/// Waits until every data plane has everything that was committed, in one state. Nobody writes meanwhile.
///
/// # Errors
/// It takes too long.
pub fn await_equal(shared: &Shared, cluster: &mut Cluster) -> Result<()> {
    let end = Instant::now() + EQUAL;
    settle_accepted(shared, cluster, end)?;
    level::wait(cluster, end.saturating_duration_since(Instant::now()))
}

/// Follows what was accepted for later to its end.
fn settle_accepted(shared: &Shared, cluster: &Cluster, end: Instant) -> Result<()> {
    loop {
        interrupt::check()?;
        let mut accepted = shared.ledger.accepted();
        accepted.retain(|(name, number, change)| {
            let found = (0..CONTROLS)
                .find_map(|control| cluster.get(control, &format!("/api/v1/changes/{change}")).ok());
            let state = found.as_ref().and_then(|found| found["state"].as_str()).unwrap_or_default();
            match state {
                "committed" | "published" | "applied" => {
                    shared.ledger.acknowledge(*name, *number);
                    false
                }
                "conflict" | "refused" => {
                    shared
                        .course
                        .fail(&format!("accepted, and then refused: {}: {found:?}", ledger::name(*name)));
                    false
                }
                _ => true,
            }
        });
        let left = accepted.len();
        drop(accepted);
        if left == 0 {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < end, "{left} accepted writes are not settled");
        std::thread::sleep(LOOK_EVERY * 5);
    }
}

/// Sequences of the data planes by a list of them.
#[must_use]
pub fn sequences(nodes: &Value) -> Vec<f64> {
    let items = nodes["items"].as_array().into_iter().flatten();
    items.map(|node| node["sequence"].as_f64().unwrap_or_default()).collect()
}

/// Looks names up, through the API all of them, through DNS on every data plane those that the filter wants. Returns how many
/// look-ups there were.
///
/// # Errors
/// The API does not answer.
pub fn verify(shared: &Shared, cluster: &Cluster, wants: impl Fn(u32) -> bool) -> Result<u64> {
    let truth = values(cluster)?;
    let mut asked = 0;
    let mut askers = Vec::new();
    for node in &cluster.nodes {
        askers.push(Asker::connect(node.dns)?);
    }
    for name in 0..shared.ledger.used() {
        let (least, most) = shared.ledger.range(name);
        let value = truth.get(&name).copied().unwrap_or(0);
        if !(least..=most).contains(&value) {
            shared.course.fail(&format!(
                "LOST: {} is {value} through the API, acknowledged is {least}, asked for {most}",
                ledger::name(name)
            ));
        }
        if !wants(name) {
            continue;
        }
        for (index, asker) in askers.iter_mut().enumerate() {
            asked += 1;
            let said = (0..TRIES).map(|_| asker.ask(name)).find(|said| *said != Said::Lost);
            if !said.is_some_and(|said| agrees(said, value)) {
                shared.course.fail(&format!(
                    "node{} says {said:?} of {}, the API {value}",
                    index + 1,
                    ledger::name(name)
                ));
            }
        }
    }
    Ok(asked)
}

/// Whether a data plane says what the API says, which is 0 for a name that was never written.
fn agrees(said: Said, value: u32) -> bool {
    match said {
        Said::Number(number) => number == value && value > 0,
        // NXDOMAIN (RFC 1035 §4.1.1).
        Said::Other(3, 0) => value == 0,
        Said::Other(..) | Said::NotReady | Said::Lost => false,
    }
}

/// Takes what the API says for what was acknowledged: an operator has put the database back.
///
/// # Errors
/// The API does not answer.
pub fn take_as_truth(shared: &Shared, cluster: &Cluster) -> Result<()> {
    let truth = values(cluster)?;
    for name in 0..shared.ledger.used() {
        let value = truth.get(&name).copied().unwrap_or(0);
        shared.ledger.of(name).acknowledged.store(value, Ordering::SeqCst);
    }
    Ok(())
}

/// The number that each name has, through the API.
fn values(cluster: &Cluster) -> Result<HashMap<u32, u32>> {
    let mut connection = cluster.connect(0)?;
    let mut values = HashMap::new();
    for zone in 0..ZONES {
        let mut cursor = String::new();
        loop {
            let path = format!("/api/v1/records?zone={}&limit=1000{cursor}", ledger::zone(zone));
            let page = list(&mut connection, &path)?;
            for record in page["items"].as_array().context("no list of records")? {
                let name = record["name"].as_str().and_then(number_of);
                let number = record["value"][0].as_str().and_then(|text| number_in(text.parse().ok()?));
                if let (Some(name), Some(number)) = (name, number) {
                    values.insert(name, number);
                }
            }
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
    }
    Ok(values)
}

fn list(connection: &mut Connection, path: &str) -> Result<Value> {
    let response = connection.ask_within("GET", path, "", LIST)?.ok("listing records")?;
    Ok(serde_json::from_slice(&response.body)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_planes_have_to_say_what_the_api_says() {
        assert!(agrees(Said::Number(4), 4) && agrees(Said::Other(3, 0), 0));
        for (said, value) in [
            (Said::Number(3), 4),
            (Said::Number(5), 4),
            (Said::Other(3, 0), 4),
            (Said::NotReady, 4),
            (Said::NotReady, 0),
            (Said::Number(0), 0),
            (Said::Other(0, 0), 0),
        ] {
            assert!(!agrees(said, value), "{said:?} for {value}");
        }
    }
}
