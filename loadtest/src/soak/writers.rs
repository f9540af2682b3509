//! Changes through the API, all the time: records are created, replaced and deleted, singly and several zones in one change, each
//! write with its place in the ledger before it is sent. A write without a clear answer is looked up before the next one of its
//! names.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::ledger::State;
use super::outages::Side;
use super::questions::{self, changing_apex, changing_count, changing_name, record};
use super::shared::Shared;
use crate::api;
use crate::data::draw::Draw;
use crate::http::{Connection, Response};

/// Writers, each with a connection and names of its own.
pub const WRITERS: usize = 4;
/// A response takes no longer, with a database that is locked and a server that is stopped for some seconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// Before a connection that failed is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// Refusals that may be: 404 and 409 say that something is not there, or is, against the ledger, which the look-up then judges; the
/// others come from a database that is locked and a server that has much to do.
const REFUSALS: [u16; 6] = [404, 409, 423, 429, 503, 504];
/// One change in so many is over two names at once.
const TOGETHER: u64 = 8;

/// Where the API is, and what it is asked with.
#[derive(Clone, Debug)]
pub struct Access {
    /// Its address.
    pub api: SocketAddr,
    /// The bearer token.
    pub token: String,
}

impl Access {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn connect(&self) -> Result<Connection> {
        Connection::open(self.api, &self.token)
    }
}

/// What one write does.
struct Write {
    method: &'static str,
    path: String,
    body: String,
    /// Names and what they have afterwards.
    outcome: Vec<(usize, State)>,
}

/// Writes until it is over: `number` is below [`WRITERS`], `per_second` is this writer's own rate.
pub fn run(shared: &Shared, access: &Access, seed: u64, number: usize, per_second: f64) {
    let mut draw = Draw::new(seed, "writer", number as u64);
    let mut versions: BTreeMap<usize, u32> =
        (number..changing_count()).step_by(WRITERS).map(|name| (name, 0)).collect();
    let names: Vec<usize> = versions.keys().copied().collect();
    let mut connection = None;
    let mut due = Instant::now();
    let interval = Duration::from_secs_f64(1.0 / per_second);
    while shared.course.wait(due.saturating_duration_since(Instant::now())) {
        // After an outage the rate goes on; what was not written meanwhile is not made up for.
        due = (due + interval).max(Instant::now());
        shared.writers_busy.fetch_add(1, Ordering::SeqCst);
        if !shared.writers_pause.load(Ordering::SeqCst) {
            one(shared, access, &mut connection, &mut draw, &names, &mut versions);
        }
        shared.writers_busy.fetch_sub(1, Ordering::SeqCst);
    }
}

/// One write, if the API can be had.
fn one(
    shared: &Shared,
    access: &Access,
    connection: &mut Option<Connection>,
    draw: &mut Draw,
    names: &[usize],
    versions: &mut BTreeMap<usize, u32>,
) {
    let Some(mut open) = connection.take().or_else(|| access.connect().ok()) else {
        let _ = shared.course.wait(RETRY_AFTER);
        return;
    };
    let picked = pick(draw, names);
    // Doubt that is left over, from a connection that broke, ends first.
    if look_up_doubtful(shared, &mut open, &picked).is_err() {
        return;
    }
    let write = choose(shared, draw, &picked, versions);
    let asked = Instant::now();
    {
        let mut histories = shared.histories(Side::Run);
        write.outcome.iter().for_each(|&(name, state)| histories[name].ask(state, asked));
    }
    match open.ask_within(write.method, &write.path, &write.body, PATIENCE) {
        Ok(response) if (200..300).contains(&response.status) => {
            acknowledge(shared, &write, &response);
            let now = Instant::now();
            shared.measure(&mut shared.api(), now - asked, now);
            *connection = Some(open);
        }
        Ok(response) => {
            *shared.writes().refused.entry(response.status).or_default() += 1;
            let said =
                format!("{} {}: status {}: {}", write.method, write.path, response.status, response.text());
            if !REFUSALS.contains(&response.status) {
                shared.course.fail(&said);
            }
            match look_up_doubtful(shared, &mut open, &picked) {
                // 504 says that nobody knows.
                Ok(carried_out) if carried_out > 0 && response.status != 504 => {
                    shared.course.fail(&format!("refused, and carried out all the same: {said}"));
                }
                Ok(_) => *connection = Some(open),
                Err(_) => {}
            }
        }
        Err(_) => shared.writes().in_doubt += 1,
    }
}

/// One name of this writer, or two.
fn pick(draw: &mut Draw, names: &[usize]) -> Vec<usize> {
    let mut one = || names[draw.below(names.len() as u64) as usize];
    let (first, second) = (one(), one());
    if draw.below(TOGETHER) == 0 && first != second { vec![first, second] } else { vec![first] }
}

/// A random write to these names.
fn choose(shared: &Shared, draw: &mut Draw, picked: &[usize], versions: &mut BTreeMap<usize, u32>) -> Write {
    let mut next = |name: usize| {
        let version = versions.entry(name).or_default();
        *version += 1;
        questions::address(*version)
    };
    let [name] = *picked else {
        let outcome: Vec<(usize, State)> = picked.iter().map(|&name| (name, Some(next(name)))).collect();
        let changes: Vec<Value> = outcome.iter().map(|&(name, state)| put(name, state)).collect();
        let body = json!({ "changes": changes }).to_string();
        return Write { method: "POST", path: "/api/v1/changes?wait=applied".to_owned(), body, outcome };
    };
    let owner = changing_name(name);
    let is_there = shared.histories(Side::Run)[name].acknowledged().is_some();
    let body =
        |address: Ipv4Addr| json!({"name": owner, "type": "A", "ttl": 60, "value": [address.to_string()]});
    match (is_there, draw.below(5)) {
        (true, 0) => {
            let path = format!("/api/v1/records/{owner}?type=A&wait=applied");
            Write { method: "DELETE", path, body: String::new(), outcome: vec![(name, None)] }
        }
        (true, _) => {
            let address = next(name);
            let path = format!("/api/v1/records/{owner}?wait=applied");
            Write {
                method: "PUT",
                path,
                body: body(address).to_string(),
                outcome: vec![(name, Some(address))],
            }
        }
        (false, _) => {
            let address = next(name);
            let path = "/api/v1/records?wait=applied".to_owned();
            Write {
                method: "POST",
                path,
                body: body(address).to_string(),
                outcome: vec![(name, Some(address))],
            }
        }
    }
}

fn put(name: usize, state: State) -> Value {
    let address = state.expect("changes over two names put records");
    api::put(&[record(changing_name(name), address)])
}

fn acknowledge(shared: &Shared, write: &Write, response: &Response) {
    let served = response.header("godwit-applied").and_then(|applied| applied.split_once('/'));
    let served = served.is_some_and(|(some, all)| some == all && some != "0");
    let now = Instant::now();
    let mut histories = shared.histories(Side::Run);
    write.outcome.iter().for_each(|&(name, _)| histories[name].acknowledge(served, now));
    drop(histories);
    let mut writes = shared.writes();
    writes.acknowledged += 1;
    writes.served += u64::from(served);
}

/// Looks up those of these names whose last write has no clear answer, and says how many of these were carried out.
fn look_up_doubtful(shared: &Shared, connection: &mut Connection, names: &[usize]) -> Result<usize> {
    let mut carried_out = 0;
    for &name in names {
        if !shared.histories(Side::Run)[name].in_doubt() {
            continue;
        }
        let path = format!("/api/v1/records/{}?type=A", changing_name(name));
        let response = connection.ask_within("GET", &path, "", PATIENCE)?;
        let found = match response.status {
            404 => None,
            200 => address_in(&serde_json::from_slice(&response.body)?)?,
            status => anyhow::bail!("{path}: status {status}"),
        };
        carried_out += usize::from(settle(shared, name, found));
    }
    Ok(carried_out)
}

/// Compares what the API says of a name with the ledger, and says whether a write in doubt was carried out.
pub fn settle(shared: &Shared, name: usize, found: State) -> bool {
    let settled = shared.histories(Side::Run)[name].settle(found, Instant::now());
    let mut writes = shared.writes();
    writes.looked_up[0] += 1;
    match settled {
        Ok(carried_out) => {
            writes.carried_out += u64::from(carried_out);
            carried_out
        }
        Err(reason) => {
            writes.lost += 1;
            drop(writes);
            shared.course.fail(&format!(
                "an acknowledged write is lost: {} by the API: {reason}",
                changing_name(name)
            ));
            false
        }
    }
}

/// The one address of a record as the API shows it.
fn address_in(record: &Value) -> Result<State> {
    let text = record["value"][0].as_str().context("a record without a value")?;
    Ok(Some(text.parse().with_context(|| format!("an address like {text:?}"))?))
}

/// What the API says of all names that change, zone by zone.
///
/// # Errors
/// The API does not answer as described.
pub fn all_states(connection: &mut Connection) -> Result<Vec<State>> {
    let mut found: BTreeMap<String, State> = BTreeMap::new();
    let mut zones: Vec<&str> = (0..changing_count()).map(changing_apex).collect();
    zones.sort_unstable();
    zones.dedup();
    for zone in zones {
        let mut cursor = String::new();
        loop {
            let path = format!("/api/v1/records?zone={zone}&type=A&limit=1000{cursor}");
            let response = connection.ask_within("GET", &path, "", PATIENCE)?.ok(&path)?;
            let page: Value = serde_json::from_slice(&response.body)?;
            for item in page["items"].as_array().context("a list without items")? {
                let name = item["name"].as_str().context("a record without a name")?;
                // Others have several addresses, and are compared over DNS all the time.
                if name.starts_with('c') && item["ttl"] == 60 {
                    found.insert(name.to_owned(), address_in(item)?);
                }
            }
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
    }
    Ok((0..changing_count()).map(|name| found.get(&changing_name(name)).copied().flatten()).collect())
}
