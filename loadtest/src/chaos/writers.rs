//! Clients that change names of their own through the API, one request after another, through whichever control plane answers,
//! and keep the ledger.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use super::ledger::{self, address};
use super::shared::Shared;
use crate::data::draw::Draw;
use crate::http::{Connection, Response};

/// Writers.
pub const WRITERS: usize = 16;
/// Names that each has at first.
pub const NAMES: usize = 12;
/// A response may take so long: a database that recovers, or a process that is stopped for a while.
const PATIENCE: Duration = Duration::from_secs(12);
/// Before a connection that failed is tried again.
const AGAIN: Duration = Duration::from_millis(50);
/// Between two writes of a writer, at most: the machine is shared with what is tested.
const PAUSE_MS: u64 = 40;
/// Refusals that may be: too much to do, or no database.
const REFUSALS: [u16; 3] = [429, 503, 504];

/// Writes until it is over.
pub fn run(shared: &Shared, number: usize, seed: u64, mut names: Vec<u32>) {
    let mut draw = Draw::new(seed, "chaos writer", number as u64);
    let mut connection: Option<Connection> = None;
    let mut control = number;
    while shared.course.wait(Duration::from_millis(draw.below(PAUSE_MS))) {
        if shared.pause.load(Ordering::SeqCst) {
            continue;
        }
        shared.under_way.fetch_add(1, Ordering::SeqCst);
        // Looked at once more: whoever pauses us waits for this count.
        if !shared.pause.load(Ordering::SeqCst) {
            one(shared, &mut connection, &mut control, &mut draw, &mut names);
        }
        shared.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

fn one(
    shared: &Shared,
    connection: &mut Option<Connection>,
    control: &mut usize,
    draw: &mut Draw,
    names: &mut [u32],
) {
    let api = shared.apis[*control % shared.apis.len()];
    // A stop closes those that are idle; who does not look would take a request for lost that was never taken.
    let kept = connection.take().filter(|connection| !connection.is_closed());
    let Some(mut open) = kept.or_else(|| Connection::open(api, &shared.token).ok()) else {
        *control += 1;
        let _ = shared.course.wait(AGAIN);
        return;
    };
    // One or two names of different zones, which change together.
    let first = draw.below(names.len() as u64) as usize;
    let second = draw.below(names.len() as u64) as usize;
    let picked = if draw.below(4) == 0 && first != second { vec![first, second] } else { vec![first] };
    let writes: Vec<(u32, u32)> =
        picked.iter().map(|&at| (names[at], shared.ledger.next(names[at]))).collect();
    let changes: Vec<_> = writes.iter().map(|&(name, number)| put(name, number)).collect();
    let body = json!({ "changes": changes }).to_string();
    let answer = open.ask_within("POST", "/api/v1/changes", &body, PATIENCE);
    let forget = |names: &mut [u32]| picked.iter().for_each(|&at| names[at] = shared.ledger.take());
    match answer {
        Ok(response) => {
            *connection = Some(open);
            if !answered(shared, &writes, &response) {
                forget(names);
                *control += 1;
                *connection = None;
            }
        }
        Err(_) => {
            shared.ledger.doubts.fetch_add(1, Ordering::Relaxed);
            forget(names);
            *control += 1;
        }
    }
}

/// Notes an answer; whether its names may be written on.
fn answered(shared: &Shared, writes: &[(u32, u32)], response: &Response) -> bool {
    let mut statuses = shared.statuses.lock().unwrap_or_else(PoisonError::into_inner);
    *statuses.entry(response.status).or_default() += 1;
    drop(statuses);
    match response.status {
        200 | 201 | 204 => {
            writes.iter().for_each(|&(name, number)| shared.ledger.acknowledge(name, number));
            true
        }
        202 => {
            let change = response.header("Godwit-Change").unwrap_or_default();
            if change.is_empty() {
                shared.course.fail("202 without Godwit-Change");
            }
            writes.iter().for_each(|&(name, number)| shared.ledger.accept(name, number, change.to_owned()));
            false
        }
        status => {
            shared.ledger.refusals.fetch_add(1, Ordering::Relaxed);
            if !REFUSALS.contains(&status) {
                shared.course.fail(&format!("a change was refused: {status}: {}", response.text()));
            }
            // 503 says that nothing was done, and is held to it by the next look at the name; 504 says that nobody knows.
            status != 504
        }
    }
}

/// The step of a change that sets a name to the value of a write.
#[must_use]
pub fn put(name: u32, number: u32) -> serde_json::Value {
    json!({ "op": "put", "name": ledger::name(name), "type": "A", "ttl": 60, "value": [address(number).to_string()] })
}
