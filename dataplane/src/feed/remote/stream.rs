//! The same batches from a Redis stream, a few milliseconds after they are made. Nothing depends on it: whatever is wrong with it
//! or on it, the control plane is asked instead, and the stream is tried again after a while.
//!
//! Redis gives no warning when a stream was emptied, cut short or put back to an older state. Where nothing comes for a second,
//! the head that is kept beside it is looked at, and every few of them the control plane is asked all the same.

use std::time::{Duration, Instant};

use bytes::Bytes;
use godwit_engine::snapshot::Position;
use godwit_wire::feed::{Batch, Head, VerifyingKey};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Value};
use serde::Deserialize;

/// Field of an entry that holds the batch.
const BATCH: &str = "b";
/// How long Redis may take to let us in.
const CONNECT: Duration = Duration::from_secs(2);
/// How long nothing may come, in milliseconds.
const BLOCK_MS: usize = 1_000;
/// How long an answer may take, that time included.
const RESPONSE: Duration = Duration::from_secs(3);
/// Entries that are read at once.
const COUNT: usize = 64;
/// The pause after something was wrong.
const AGAIN: Duration = Duration::from_secs(2);
/// After so many times that nothing came the control plane is asked.
const ASK_AFTER: u32 = 5;

/// Where the stream is, as the control plane says.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Place {
    /// URL of a user who can only read.
    pub url: String,
    /// Key of the stream.
    pub stream: String,
    /// Key of the latest head.
    pub head: String,
}

impl Place {
    /// The port to connect to; `None` for a socket.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        match redis::IntoConnectionInfo::into_connection_info(self.url.as_str()).ok()?.addr() {
            redis::ConnectionAddr::Tcp(_, port) | redis::ConnectionAddr::TcpTls { port, .. } => Some(*port),
            _ => None,
        }
    }
}

/// See the module.
pub(super) struct Stream {
    place: Place,
    client: redis::Client,
    connection: Option<MultiplexedConnection>,
    /// The id behind which to read on, and the sequence that it stands for.
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
    pub(super) fn new(place: Place) -> redis::RedisResult<Stream> {
        let client = redis::Client::open(place.url.as_str())?;
        Ok(Stream { place, client, connection: None, cursor: None, not_before: None, silent: 0 })
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
        let id = match self.cursor.take_if(|(_, sequence)| *sequence == after.sequence) {
            Some((id, _)) => id,
            // Where we stand in it is known when it ends there; until then the control plane brings us on.
            None => match self.end(&mut connection).await? {
                Some((id, sequence)) if sequence <= after.sequence => id,
                None => "0-0".to_owned(),
                Some(_) => return Ok(None),
            },
        };
        let read: Option<Vec<(String, Vec<Entry>)>> = redis::cmd("XREAD")
            .arg("COUNT")
            .arg(COUNT)
            .arg("BLOCK")
            .arg(BLOCK_MS)
            .arg("STREAMS")
            .arg(&self.place.stream)
            .arg(&id)
            .query_async(&mut connection)
            .await?;
        let entries =
            read.unwrap_or_default().into_iter().next().map(|(_, entries)| entries).unwrap_or_default();
        if entries.is_empty() {
            self.cursor = Some((id, after.sequence));
            return self.head(&mut connection, keys).await;
        }
        self.silent = 0;
        let mut batches = Vec::with_capacity(entries.len());
        for (id, fields) in entries {
            let Some(octets) = batch_of(fields) else { return Err(Useless::Misplaced(id)) };
            Batch::verify(&octets, keys).map_err(|_| Useless::Unsigned(id.clone()))?;
            let last = Batch::decode(&octets).map(|batch| batch.last_sequence());
            let said: Option<u64> = id.split_once('-').and_then(|(_, last)| last.parse().ok());
            match (last, said) {
                (Ok(last), Some(said)) if last == said => self.cursor = Some((id, last)),
                _ => return Err(Useless::Misplaced(id)),
            }
            batches.push(octets);
        }
        Ok(Some(batches))
    }

    async fn connect(&self) -> redis::RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(RESPONSE));
        let connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        tracing::info!(stream = self.place.stream, "reading the stream");
        Ok(connection)
    }

    /// Id and sequence of the last entry.
    async fn end(&self, connection: &mut MultiplexedConnection) -> Result<Option<(String, u64)>, Useless> {
        let last: Vec<Entry> = redis::cmd("XREVRANGE")
            .arg(&self.place.stream)
            .arg("+")
            .arg("-")
            .arg("COUNT")
            .arg(1)
            .query_async(connection)
            .await?;
        let Some((id, _)) = last.into_iter().next() else { return Ok(None) };
        match id.split_once('-').and_then(|(_, last)| last.parse().ok()) {
            Some(sequence) => Ok(Some((id, sequence))),
            None => Err(Useless::Misplaced(id)),
        }
    }

    /// The head beside the stream; now and then, and where there is none, the control plane is to be asked.
    async fn head(
        &mut self,
        connection: &mut MultiplexedConnection,
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

fn batch_of(fields: Value) -> Option<Bytes> {
    let fields: Vec<Vec<u8>> = redis::from_redis_value(fields).ok()?;
    match <[Vec<u8>; 2]>::try_from(fields) {
        Ok([name, octets]) if name == BATCH.as_bytes() => Some(octets.into()),
        _ => None,
    }
}
