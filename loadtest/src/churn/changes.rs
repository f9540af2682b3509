//! Changes through the API at a fixed rate, made on the generator's own thread between two batches of queries, so that two
//! threads do not fight for its CPU and what is measured is the server.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use serde::Serialize;

use super::{CHANGING, changing_name};
use crate::data::Source;
use crate::data::record::{Data, Record};
use crate::http::Connection;
use crate::load::udp::Beside;

/// Connections to the API; each has one request under way, so this is how many changes can be.
const CONNECTIONS: usize = 32;
/// How often responses are looked for.
const LOOK_EVERY: Duration = Duration::from_micros(100);
/// A change sent this long after it was due is late.
const LATE: Duration = Duration::from_millis(100);

/// The record of a changing name after so many changes.
#[must_use]
pub fn record(source: &Source, number: u32, version: u32) -> Record {
    // 198.18.0.0/15: benchmarks (RFC 2544).
    let address = Ipv4Addr::from(0xC612_0000 | (version & 0x1_FFFF));
    Record { owner: changing_name(source, number), ttl: 60, data: Data::A(address) }
}

/// The request that puts this record in the place of the one before.
#[must_use]
pub fn request(record: &Record) -> (String, String) {
    let body = serde_json::json!({ "type": "A", "ttl": record.ttl, "value": [record.data.to_string()] });
    (format!("/api/v1/records/{}", record.owner), body.to_string())
}

/// What the API said in a round.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Changes {
    /// Requests sent.
    pub sent: u64,
    /// Answered with 2xx.
    pub acknowledged: u64,
    /// Answered with anything else.
    pub refused: u64,
    /// The first of these answers.
    pub refusal: Option<String>,
    /// Sent later than due, because all connections waited for an answer.
    pub late: u64,
    /// From sending to the answer: median and 99th percentile in µs.
    pub acknowledged_us: [f64; 2],
}

impl Changes {
    /// What makes the run fail, if anything: a refused change, or a rate that was not reached.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        if self.refused > 0 {
            return Some(format!(
                "{} changes refused: {}",
                self.refused,
                self.refusal.as_deref().unwrap_or_default()
            ));
        }
        let late = self.late * 100 > self.sent;
        late.then(|| format!("{} of {} changes were late: the rate was not reached", self.late, self.sent))
    }
}

/// Makes changes while the generator runs.
#[derive(Debug)]
pub struct Changer {
    source: Source,
    api: SocketAddr,
    token: String,
    epoll: Epoll,
    /// Each with the time its request was sent.
    connections: Vec<(Connection, Option<Instant>)>,
    interval: Duration,
    next_due: Option<Instant>,
    next_look: Option<Instant>,
    number: u32,
    changes: Changes,
    histogram: Histogram<u64>,
}

impl Changer {
    /// Opens the connections; changes start with the first turn.
    ///
    /// # Errors
    /// The API does not take connections.
    pub fn connect(api: SocketAddr, token: &str, source: &Source, per_second: u32) -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("epoll")?;
        let mut connections = Vec::with_capacity(CONNECTIONS);
        for number in 0..CONNECTIONS as u64 {
            connections.push((open(api, token, &epoll, number)?, None));
        }
        Ok(Changer {
            source: *source,
            api,
            token: token.to_owned(),
            epoll,
            connections,
            interval: Duration::from_secs(1) / per_second.max(1),
            next_due: None,
            next_look: None,
            number: 0,
            changes: Changes::default(),
            histogram: Histogram::new_with_max(60_000_000_000, 3)?,
        })
    }

    /// Waits for the answers that are still to come and gives back the counts.
    ///
    /// # Errors
    /// The API closed a connection, or some answers did not come in ten seconds.
    pub fn finish(mut self) -> Result<Changes> {
        let end = Instant::now() + Duration::from_secs(10);
        while self.connections.iter().any(|(_, sent)| sent.is_some()) {
            anyhow::ensure!(Instant::now() < end, "changes without an answer from the API for 10 s");
            self.look(EpollTimeout::from(10_u8))?;
        }
        self.changes.acknowledged_us =
            [0.5, 0.99].map(|quantile| self.histogram.value_at_quantile(quantile) as f64 / 1_000.0);
        Ok(self.changes)
    }

    fn look(&mut self, timeout: EpollTimeout) -> Result<()> {
        let mut events = [EpollEvent::empty(); CONNECTIONS];
        let ready = match self.epoll.wait(&mut events, timeout) {
            Ok(ready) => ready,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(error) => return Err(error).context("epoll_wait"),
        };
        for event in &events[..ready] {
            let number = usize::try_from(event.data()).context("connection number")?;
            let (connection, sent) = &mut self.connections[number];
            let response = match connection.poll() {
                Ok(response) => response,
                // A server may close a connection that was idle for long (RFC 9112 §9.5).
                Err(_) if sent.is_none() => {
                    *connection = open(self.api, &self.token, &self.epoll, event.data())?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let Some(response) = response else { continue };
            let Some(sent) = sent.take() else { continue };
            self.histogram.saturating_record(sent.elapsed().as_nanos() as u64);
            match response.ok("change") {
                Ok(_) => self.changes.acknowledged += 1,
                Err(refusal) => {
                    self.changes.refused += 1;
                    self.changes.refusal.get_or_insert(refusal.to_string());
                }
            }
        }
        Ok(())
    }
}

fn open(api: SocketAddr, token: &str, epoll: &Epoll, number: u64) -> Result<Connection> {
    let connection = Connection::open(api, token)?;
    connection.set_nonblocking()?;
    epoll.add(connection.stream(), EpollEvent::new(EpollFlags::EPOLLIN, number))?;
    Ok(connection)
}

impl Beside for Changer {
    fn turn(&mut self, now: Instant) -> Result<()> {
        if self.next_look.is_none_or(|at| now >= at) {
            self.next_look = Some(now + LOOK_EVERY);
            self.look(EpollTimeout::ZERO)?;
        }
        let due = *self.next_due.get_or_insert(now);
        if now < due {
            return Ok(());
        }
        let Some((connection, sent)) = self.connections.iter_mut().find(|(_, sent)| sent.is_none()) else {
            return Ok(());
        };
        let record = record(&self.source, self.number % CHANGING, self.number / CHANGING + 1);
        let (path, body) = request(&record);
        connection.send("PUT", &path, &body)?;
        *sent = Some(now);
        self.number = self.number.wrapping_add(1);
        self.changes.sent += 1;
        self.changes.late += u64::from(now - due > LATE);
        self.next_due = Some(due + self.interval);
        Ok(())
    }
}
