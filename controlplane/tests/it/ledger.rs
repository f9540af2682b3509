//! Clients that write without pause, and a ledger of what they were told: what was acknowledged must be there, whatever
//! was killed meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::Client;

/// Clients that write at once.
const WRITERS: usize = 4;
/// How long a client waits after it was told to try again.
const AGAIN: Duration = Duration::from_millis(20);

/// The last acknowledged value of a name, and those sent since that may have become true or not.
#[derive(Clone, Default)]
struct Entry {
    acknowledged: Option<u32>,
    unsure: Vec<u32>,
}

/// What clients were told about `example.com.`
#[derive(Default)]
pub(crate) struct Ledger {
    entries: Mutex<BTreeMap<String, Entry>>,
    /// Names that are written to no more: a write whose client has gone may be carried out at any later moment, also one
    /// that the server has not even accepted the connection of.
    over: Mutex<BTreeSet<String>>,
    counter: AtomicU32,
    in_flight: AtomicUsize,
    refused: AtomicUsize,
    /// Begins the names that are written to: other ledgers have others.
    name: &'static str,
}

impl Ledger {
    /// One whose names begin with this.
    pub(crate) fn named(name: &'static str) -> Ledger {
        Ledger { name, ..Ledger::default() }
    }

    /// Starts clients; each ends when it gets no answer.
    pub(crate) fn write(self: &Arc<Self>, client: &Client) -> JoinSet<()> {
        let entries = self.entries.lock().unwrap();
        let unsure = entries.iter().filter(|(_, entry)| !entry.unsure.is_empty());
        self.over.lock().unwrap().extend(unsure.map(|(name, _)| name.clone()));
        drop(entries);
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let (ledger, client) = (self.clone(), client.clone());
            writers.spawn(async move { while ledger.write_one(&client, writer).await {} });
        }
        writers
    }

    async fn write_one(&self, client: &Client, writer: usize) -> bool {
        let number = self.counter.fetch_add(1, SeqCst);
        let name = self.next_name(&format!("{}{writer}-{}", self.name, number % 7));
        self.entries.lock().unwrap().entry(name.clone()).or_default().unsure.push(number);
        self.in_flight.fetch_add(1, SeqCst);
        let answer = try_put(client, &name, &number.to_string()).await;
        self.in_flight.fetch_sub(1, SeqCst);
        match answer {
            Some(200) => {
                let entry = Entry { acknowledged: Some(number), unsure: Vec::new() };
                self.entries.lock().unwrap().insert(name, entry);
            }
            // The database is not there; whether it took the change is not known.
            Some(503) => {
                self.refused.fetch_add(1, SeqCst);
                tokio::time::sleep(AGAIN).await;
            }
            Some(other) => panic!("{other}"),
            None => return false,
        }
        true
    }

    /// The name of this label, or of the first like it that is not over.
    fn next_name(&self, label: &str) -> String {
        let over = self.over.lock().unwrap();
        let mut names = (0..).map(|turn| format!("{label}-{turn}.example.com."));
        names.find(|name| !over.contains(name)).unwrap()
    }

    /// Waits until a write is under way; how many are.
    pub(crate) async fn under_way(&self) -> usize {
        loop {
            let in_flight = self.in_flight.load(SeqCst);
            if in_flight > 0 {
                return in_flight;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Compares with what is there, while nobody writes.
    pub(crate) async fn check(&self, client: &Client, seed: u64) {
        let entries = self.entries.lock().unwrap().clone();
        for (name, Entry { acknowledged, unsure }) in entries {
            let answer = client.get(&format!("/api/v1/records/{name}?type=TXT")).await;
            let found = (answer.status == 200).then(|| {
                let value = answer.json()["value"][0].as_str().unwrap().trim_matches('"').to_owned();
                value.parse::<u32>().unwrap()
            });
            // What was under way may be there or not; what was acknowledged must be, unless one of those came after it.
            assert!(
                found == acknowledged || found.is_some_and(|found| unsure.contains(&found)),
                "{name}: acknowledged {acknowledged:?}, unsure {unsure:?}, found {found:?}; seed {seed}"
            );
        }
    }

    /// How many names have a value that was acknowledged.
    pub(crate) fn acknowledged(&self) -> usize {
        self.entries.lock().unwrap().values().filter(|entry| entry.acknowledged.is_some()).count()
    }

    /// How many writes there were in all, and how many of them were refused for now.
    pub(crate) fn writes(&self) -> (u32, usize) {
        (self.counter.load(SeqCst), self.refused.load(SeqCst))
    }
}

/// A write; `None` when the connection ended without an answer.
async fn try_put(client: &Client, name: &str, value: &str) -> Option<u16> {
    let body = json!({"changes": [{"op": "put", "name": name, "type": "TXT", "value": [value]}]});
    try_change(client, &body).await.map(|(status, _)| status)
}

/// A change on a connection of its own: status and body of the answer; `None` when the connection ended without one.
pub(crate) async fn try_change(client: &Client, body: &Value) -> Option<(u16, Bytes)> {
    let stream = tokio::net::TcpStream::connect(client.address).await.ok()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method("POST")
        .uri("/api/v1/changes")
        .header("host", "x")
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {}", client.token))
        .body(Full::new(Bytes::from(body.to_string())))
        .unwrap();
    let response = sender.send_request(request).await.ok()?;
    let status = response.status().as_u16();
    // Acknowledged is what came whole.
    let octets = response.into_body().collect().await.ok()?.to_bytes();
    Some((status, octets))
}
