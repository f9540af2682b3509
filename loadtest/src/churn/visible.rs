//! How soon one change is visible: from sending the request until a query over UDP is answered with the new record.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde::Serialize;

use super::channel::Channel;
use super::{Options, changes, changing_name};
use crate::data::record::{Record, rtype};
use crate::load::queries::Queries;
use crate::{interrupt, message};

/// A change must be visible after this.
const LIMIT: Duration = Duration::from_secs(5);
/// All of a server's single changes.
const TOGETHER: Duration = Duration::from_secs(30);
/// Between an answer with the old record and the next query.
const PAUSE: Duration = Duration::from_micros(20);

/// A query without an answer for so long is sent again.
const LOST: Duration = Duration::from_millis(100);

/// Median and 99th percentile in µs.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Visibility {
    /// How many changes.
    pub changes: u32,
    /// Until the answer to the change.
    pub acknowledged_us: [f64; 2],
    /// Until a query was answered with the new record.
    pub visible_us: [f64; 2],
}

/// Changes one record after another in a zone where nothing else happens, for at most half a minute.
///
/// # Errors
/// The server refuses a change, one is not visible in five seconds, or the user interrupted.
pub fn measure(server: SocketAddr, channel: &mut dyn Channel, options: &Options) -> Result<Visibility> {
    let name = changing_name(&options.source, 0);
    let mut watcher = Watcher::connect(server, &name)?;
    let mut acknowledged = Histogram::<u64>::new_with_max(10_000_000_000, 3)?;
    let mut visible = Histogram::<u64>::new_with_max(10_000_000_000, 3)?;
    let end = Instant::now() + TOGETHER;
    let mut count = 0;
    while count < options.singles && Instant::now() < end {
        interrupt::check()?;
        // Values that the run under load does not use, so that no old answer passes for a new one.
        let record = changes::record(&options.source, 0, 0x1_0000 + count);
        let started = Instant::now();
        channel.send(&record)?;
        let (mut is_acknowledged, mut is_visible) = (false, false);
        while !(is_acknowledged && is_visible) {
            if !is_acknowledged && let Some(verdict) = channel.poll()? {
                verdict.map_err(|refusal| anyhow::anyhow!("{record} was refused: {refusal}"))?;
                acknowledged.saturating_record(started.elapsed().as_nanos() as u64);
                is_acknowledged = true;
            }
            if !is_visible && watcher.sees(&record)? {
                visible.saturating_record(started.elapsed().as_nanos() as u64);
                is_visible = true;
            }
            anyhow::ensure!(
                started.elapsed() < LIMIT,
                "{record} was not acknowledged and visible in {LIMIT:?}"
            );
        }
        count += 1;
    }
    let figures = |histogram: &Histogram<u64>| {
        [0.5, 0.99].map(|quantile| histogram.value_at_quantile(quantile) as f64 / 1_000.0)
    };
    Ok(Visibility { changes: count, acknowledged_us: figures(&acknowledged), visible_us: figures(&visible) })
}

/// Asks for one name again and again, never waiting unless it is told to.
#[derive(Debug)]
pub struct Watcher {
    socket: UdpSocket,
    query: Vec<u8>,
    id: u16,
    /// When the query under way left.
    asked: Option<Instant>,
    not_before: Instant,
}

impl Watcher {
    /// Asks this server for the A records of a name.
    ///
    /// # Errors
    /// No socket to be had.
    pub fn connect(server: SocketAddr, name: &str) -> Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0").context("opening a UDP socket")?;
        socket.connect(server)?;
        socket.set_nonblocking(true)?;
        let query = Queries::new(false, [(name, rtype::A)].into_iter()).message(0).to_vec();
        Ok(Watcher { socket, query, id: 0, asked: None, not_before: Instant::now() })
    }

    /// One that waits for the answer to each query, until it counts as lost.
    ///
    /// # Errors
    /// Of the socket.
    pub fn waiting(self) -> Result<Self> {
        self.socket.set_nonblocking(false)?;
        self.socket.set_read_timeout(Some(LOST))?;
        Ok(self)
    }

    /// Sends a query if none is under way, takes in an answer if there is one, and says whether it holds the record.
    ///
    /// # Errors
    /// The server is gone, or an answer cannot be read.
    pub fn sees(&mut self, record: &Record) -> Result<bool> {
        let now = Instant::now();
        let lost = self.asked.is_some_and(|asked| now - asked >= LOST);
        if (self.asked.is_none() && now >= self.not_before) || lost {
            self.id = self.id.wrapping_add(1);
            self.query[..2].copy_from_slice(&self.id.to_be_bytes());
            self.socket.send(&self.query).context("asking for the changed record")?;
            self.asked = Some(now);
        }
        if self.asked.is_none() {
            return Ok(false);
        }
        let mut buffer = [0; 4_096];
        let len = match self.socket.recv(&mut buffer) {
            Ok(len) => len,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Ok(false);
            }
            Err(error) => return Err(error).context("receiving an answer"),
        };
        let answer =
            message::read(&buffer[..len]).map_err(|reason| anyhow::anyhow!("unreadable answer: {reason}"))?;
        if answer.id != self.id {
            return Ok(false);
        }
        self.asked = None;
        self.not_before = now + PAUSE;
        let wanted = record.data.wire();
        Ok(answer.answer.iter().any(|rr| rr.rtype == rtype::A && rr.rdata == wanted))
    }
}
