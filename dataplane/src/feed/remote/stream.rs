//! The same batches from a Redis stream, a few milliseconds after they are made. Nothing depends on it: whatever is wrong with it
//! or on it, the control plane is asked instead, and the stream is tried again after a while.
//!
//! Redis gives no warning when a stream was emptied, cut short or put back to an older state. Where nothing comes for a second,
//! the head that is kept beside it is looked at, and every few of them the control plane is asked all the same.

use std::time::{Duration, Instant};

use bytes::Bytes;
use godwit_engine::snapshot::Position;
use godwit_redis::{BadUrl, Connection, Place as Server, Timeouts};
use godwit_wire::feed::{Batch, Head, VerifyingKey};
use redis::Value;
use serde::{Deserialize, Serialize};

/// Before the first entry.
const BEGIN: &str = "0-0";
/// Field of an entry that holds the batch.
const BATCH: &str = "b";
/// How long nothing may come, in milliseconds.
const BLOCK_MS: usize = 1_000;
/// How long Redis may take to let us in, and to answer, that time included.
pub(super) const TIMEOUTS: Timeouts =
    Timeouts { connect: Duration::from_secs(4), response: Duration::from_secs(3) };
/// Entries that are read at once.
const COUNT: usize = 64;
/// The pause after something was wrong.
const AGAIN: Duration = Duration::from_secs(2);
/// After so many times that nothing came the control plane is asked.
const ASK_AFTER: u32 = 5;

/// Where the stream is, as the control plane says.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Place {
    /// URL of a user who can only read.
    pub url: String,
    /// Key of the stream.
    pub stream: String,
    /// Key of the latest head.
    pub head: String,
}

impl Place {
    /// What the URL says.
    ///
    /// # Errors
    /// It says no place.
    pub fn server(&self) -> Result<Server, BadUrl> {
        Server::parse(&self.url)
    }
}

/// See the module.
pub(super) struct Stream {
    place: Place,
    server: Server,
    connection: Option<Connection>,
    /// The id behind which to read on, and the sequence that it leads to.
    cursor: Option<(String, u64)>,
    not_before: Option<Instant>,
    silent: u32,
}

/// Id and fields.
type Entry = (String, Value);

/// Why the stream is of no use now.
#[derive(Debug, thiserror::Error)]
enum Useless {
    #[error(transparent)]
    Redis(#[from] redis::RedisError),
    #[error("entry {0} is not signed by a key of the deployment")]
    Unsigned(String),
    #[error("entry {0} is not what its id says")]
    Misplaced(String),
}

impl Stream {
    pub(super) fn new(place: Place) -> Result<Stream, BadUrl> {
        let server = place.server()?;
        Ok(Stream { place, server, connection: None, cursor: None, not_before: None, silent: 0 })
    }

    /// Batches after a position, or the head; `None`: ask the control plane.
    pub(super) async fn entries(&mut self, after: Position, keys: &[VerifyingKey]) -> Option<Vec<Bytes>> {
        if self.not_before.is_some_and(|moment| Instant::now() < moment) {
            return None;
        }
        match self.read(after, keys).await {
            Ok(entries) => entries,
            Err(error) => {
                tracing::warn!(%error, "the stream is of no use now; the control plane is asked instead");
                (self.connection, self.cursor) = (None, None);
                self.not_before = Some(Instant::now() + AGAIN);
                None
            }
        }
    }

    async fn read(&mut self, after: Position, keys: &[VerifyingKey]) -> Result<Option<Vec<Bytes>>, Useless> {
        let mut connection = match &self.connection {
            Some(connection) => connection.clone(),
            None => self.connection.insert(self.connect().await?).clone(),
        };
        let (mut id, mut wait) = match self.cursor.take_if(|(_, sequence)| *sequence == after.sequence) {
            Some((id, _)) => (id, Some(BLOCK_MS)),
            None => {
                let id = self.place(&mut connection, after).await?;
                let is_there = sequence_of(&id) == Some(after.sequence);
                (id, is_there.then_some(BLOCK_MS))
            }
        };
        loop {
            let entries = read_after(&mut connection, &self.place.stream, &id, wait).await?;
            if entries.is_empty() {
                if wait.is_none() {
                    // It does not come to where we are: whether there is more is for the control plane to say.
                    return Ok(None);
                }
                self.cursor = Some((id, after.sequence));
                return self.head(&mut connection, keys).await;
            }
            self.silent = 0;
            let mut batches = Vec::with_capacity(entries.len());
            let mut end = after.sequence;
            for (at, fields) in entries {
                let Some(octets) = batch_of(fields) else { return Err(Useless::Misplaced(at)) };
                Batch::verify(&octets, keys).map_err(|_| Useless::Unsigned(at.clone()))?;
                // Whoever applies it decodes the rest.
                let sequences = Batch::sequences_of(&octets).map_err(|_| Useless::Misplaced(at.clone()))?;
                if sequence_of(&at) != Some(*sequences.end()) {
                    return Err(Useless::Misplaced(at));
                }
                (id, wait) = (at, Some(BLOCK_MS));
                // A later term publishes again what an earlier one had, under ids above all of those: it is read past.
                if *sequences.end() <= after.sequence {
                    continue;
                }
                if batches.is_empty() && *sequences.start() > after.sequence.saturating_add(1) {
                    // What leads there is not on it any more: the control plane has it.
                    return Ok(None);
                }
                end = *sequences.end();
                batches.push(octets);
            }
            if !batches.is_empty() {
                self.cursor = Some((id, end));
                return Ok(Some(batches));
            }
        }
    }

    async fn connect(&self) -> redis::RedisResult<Connection> {
        let connection = self.server.connect(TIMEOUTS).await?;
        tracing::info!(stream = self.place.stream, "reading the stream");
        Ok(connection)
    }

    /// The last entry that is not behind a position, as far as its id says so; where there is none, before the first. Whether
    /// what follows leads on from the position shows in what is read.
    async fn place(&self, connection: &mut Connection, after: Position) -> Result<String, Useless> {
        let last: Vec<Entry> = redis::cmd("XREVRANGE")
            .arg(&self.place.stream)
            .arg(format!("{}-{}", after.epoch, after.sequence))
            .arg("-")
            .arg("COUNT")
            .arg(1)
            .query_async(connection)
            .await?;
        Ok(last.into_iter().next().map_or_else(|| BEGIN.to_owned(), |(id, _)| id))
    }

    /// The head beside the stream; now and then, and where there is none, the control plane is to be asked.
    async fn head(
        &mut self,
        connection: &mut Connection,
        keys: &[VerifyingKey],
    ) -> Result<Option<Vec<Bytes>>, Useless> {
        self.silent += 1;
        if self.silent >= ASK_AFTER {
            self.silent = 0;
            return Ok(None);
        }
        let octets: Option<Vec<u8>> = redis::cmd("GET").arg(&self.place.head).query_async(connection).await?;
        let Some(octets) = octets else { return Ok(None) };
        Head::verify(&octets, keys).map_err(|_| Useless::Unsigned(self.place.head.clone()))?;
        Ok(Some(vec![octets.into()]))
    }
}

/// The entries behind an id, waited for so many milliseconds.
async fn read_after(
    connection: &mut Connection,
    stream: &str,
    id: &str,
    wait: Option<usize>,
) -> redis::RedisResult<Vec<Entry>> {
    let mut command = redis::cmd("XREAD");
    command.arg("COUNT").arg(COUNT);
    if let Some(wait) = wait {
        command.arg("BLOCK").arg(wait);
    }
    command.arg("STREAMS").arg(stream).arg(id);
    let read: Option<Vec<(String, Vec<Entry>)>> = command.query_async(connection).await?;
    Ok(read.unwrap_or_default().into_iter().next().map(|(_, entries)| entries).unwrap_or_default())
}

/// The last sequence of the batch that stands under an id.
fn sequence_of(id: &str) -> Option<u64> {
    id.split_once('-').and_then(|(_, last)| last.parse().ok())
}

fn batch_of(fields: Value) -> Option<Bytes> {
    let fields: Vec<Vec<u8>> = redis::from_redis_value(fields).ok()?;
    match <[Vec<u8>; 2]>::try_from(fields) {
        Ok([name, octets]) if name == BATCH.as_bytes() => Some(octets.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
