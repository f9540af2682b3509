//! What the cluster holds: one large zone, many small ones, and one that is brought back.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use crate::cluster::{CONTROLS, Cluster};
use crate::data::record::{Data, Record};
use crate::http::Connection;
use crate::{api, interrupt};

/// Clients that fill.
const CLIENTS: usize = 8;
/// RRsets in a request.
const CHUNK: u32 = 1_000;

/// How often a write is sent where the database is busy, and the pause between.
const TRIES: usize = 20;
const AGAIN: Duration = Duration::from_millis(500);

/// The zone of many names.
pub const LARGE: &str = "large.recover.test.";
/// The zone that is brought back.
pub const BACK: &str = "back.recover.test.";

/// A name of a zone, and its address of a time.
#[must_use]
pub fn record(apex: &str, name: u32, time: u32) -> Record {
    // Of 198.18.0.0/15 (RFC 2544), as far as it goes.
    let address = 0xC612_0000 | (name.wrapping_add(time) & 0x1_FFFF);
    Record { owner: format!("n{name}.{apex}"), ttl: 60, data: Data::A(address.into()) }
}

/// Makes the zones of [`crate::propagate`] with these numbers, several at a time.
///
/// # Errors
/// One is refused.
pub fn zones(cluster: &Cluster, count: u32) -> Result<()> {
    in_turns(cluster, "zones", count, |connection, number| {
        let body = json!({ "name": crate::propagate::zone(number), "ns": ["ns1.hosting.test."] });
        patiently(connection, "/api/v1/domains", &body.to_string())
    })
}

/// Puts this many names into a zone, or changes those that are there.
///
/// # Errors
/// A change is refused.
pub fn names(cluster: &Cluster, apex: &str, count: u32, time: u32) -> Result<()> {
    in_turns(cluster, &format!("thousands of names of {apex}"), count.div_ceil(CHUNK), |connection, part| {
        let range = part * CHUNK..count.min((part + 1) * CHUNK);
        let puts: Vec<_> = range.map(|name| api::put(&[record(apex, name, time)])).collect();
        let body = json!({ "changes": puts }).to_string();
        let path = format!("/api/v1/changes?confirm={CHUNK}");
        patiently(connection, &path, &body)
    })
}

/// Sends a write again where the database is busy with others, as a client should.
fn patiently(connection: &mut Connection, path: &str, body: &str) -> Result<()> {
    let mut tries = 0;
    loop {
        let response = connection.ask("POST", path, body)?;
        tries += 1;
        if response.status != 503 || tries == TRIES {
            return response.ok(path).map(drop);
        }
        std::thread::sleep(AGAIN);
    }
}

/// Does something for each number below `count`, by several clients, and says how far it has come.
fn in_turns(
    cluster: &Cluster,
    what: &str,
    count: u32,
    work: impl Fn(&mut Connection, u32) -> Result<()> + Sync,
) -> Result<()> {
    let next = AtomicU32::new(0);
    let tenth = count.div_ceil(10).max(1);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (next, work) = (&next, &work);
                scope.spawn(move || {
                    let mut connection = cluster.connect(client % CONTROLS)?;
                    loop {
                        interrupt::check()?;
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= count {
                            return Ok(());
                        }
                        work(&mut connection, number)?;
                        if number > 0 && number % tenth == 0 {
                            eprintln!("{number} of {count} {what}");
                        }
                    }
                })
            })
            .collect();
        clients.into_iter().try_for_each(|client| client.join().ok().context("a client panicked")?)
    })
}
