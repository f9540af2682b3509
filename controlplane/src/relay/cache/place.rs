//! The cache as Redis has it: which keys, and writing to it only where nobody else has.

use godwit_redis::Connection;
use godwit_wire::feed::{CacheHead, CachedZone};
use godwit_wire::name::{Name, NameRef};
use redis::{Pipeline, Value};

use super::Stopped;

/// Fields that one reading of an index takes, about.
pub(super) const SCAN: usize = 1_000;

/// Where in Redis the cache is. The braces keep all of it on one server of a cluster, so that it changes together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Keys {
    /// A hash: apex in wire format, lower case → [`CachedZone`].
    pub(crate) index: String,
    /// The head whose sum the index adds up to.
    pub(crate) head: String,
    /// What keys of blobs begin with; the apex in wire format follows.
    pub(crate) zones: String,
    /// An index that is being put together.
    pub(super) next: String,
}

impl Keys {
    pub(crate) fn with_prefix(prefix: &str) -> Keys {
        let key = |name: &str| format!("{prefix}{{cache}}:{name}");
        Keys { index: key("index"), head: key("head"), zones: key("zone:"), next: key("next") }
    }

    /// Of a zone's blob.
    pub(super) fn zone(&self, apex: &[u8]) -> Vec<u8> {
        [self.zones.as_bytes(), apex].concat()
    }
}

/// What `head` is to be while we write: what we left there, or what was found there and is to be replaced.
pub(super) type Left = Option<Vec<u8>>;

/// The head in the cache.
pub(super) async fn head(connection: &mut Connection, keys: &Keys) -> redis::RedisResult<Left> {
    redis::cmd("GET").arg(&keys.head).query_async(connection).await
}

/// Does all of it at once, or nothing where the head is not what was left: another process has the term by now, or somebody
/// else writes here.
pub(super) async fn write(
    connection: &mut Connection,
    keys: &Keys,
    left: &Left,
    commands: &Pipeline,
) -> Result<(), Stopped> {
    redis::cmd("WATCH").arg(&keys.head).exec_async(connection).await?;
    if head(connection, keys).await? != *left {
        redis::cmd("UNWATCH").exec_async(connection).await?;
        return Err(Stopped::Foreign("the head is not the one that was left"));
    }
    let done: Option<Vec<Value>> = commands.query_async(connection).await?;
    done.map(|_| ()).ok_or(Stopped::Foreign("the head changed meanwhile"))
}

/// What an index lists of these zones.
pub(super) async fn listed(
    connection: &mut Connection,
    index: &str,
    apexes: &[Name],
) -> Result<Vec<Option<CachedZone>>, Stopped> {
    if apexes.is_empty() {
        return Ok(Vec::new());
    }
    let mut command = redis::cmd("HMGET");
    command.arg(index);
    for apex in apexes {
        command.arg(apex.as_wire());
    }
    let values: Vec<Option<Vec<u8>>> = command.query_async(connection).await?;
    let read = |value: Option<Vec<u8>>| match value {
        Some(octets) => {
            CachedZone::decode(&octets).map(Some).ok_or(Stopped::Foreign("an index of another form"))
        }
        None => Ok(None),
    };
    values.into_iter().map(read).collect()
}

/// Fields and values of a part of an index, and where the next part begins; "0" at the end.
pub(super) async fn scan(
    connection: &mut Connection,
    index: &str,
    cursor: &str,
    count: usize,
) -> redis::RedisResult<(String, Vec<(Vec<u8>, Vec<u8>)>)> {
    let mut command = redis::cmd("HSCAN");
    command.arg(index).arg(cursor).arg("COUNT").arg(count);
    command.query_async(connection).await
}

/// A zone of an index, as it stands there.
pub(super) fn entry<'a>(field: &'a [u8], value: &[u8]) -> Result<(NameRef<'a>, CachedZone), Stopped> {
    NameRef::from_wire(field)
        .ok()
        .zip(CachedZone::decode(value))
        .ok_or(Stopped::Foreign("an index of another form"))
}

/// A head that we have signed; `None` where there is none, or another's.
pub(super) fn signed(left: &Left, trusted: &[godwit_wire::feed::VerifyingKey]) -> Option<CacheHead> {
    let octets = left.as_deref()?;
    CacheHead::verify(octets, trusted).ok()?;
    CacheHead::decode(octets).ok()
}

#[cfg(test)]
mod tests {
    use godwit_redis::{Place, Timeouts};
    use godwit_testkit::servers::Redis;

    use super::*;

    /// One that was paused and comes back when another has the term writes nothing over what that one has written.
    #[tokio::test]
    async fn p8_who_is_deposed_overwrites_nothing() {
        let server = Redis::start(&[]).unwrap();
        let second = std::time::Duration::from_secs(10);
        let timeouts = Timeouts { connect: second, response: second };
        let mut connection = Place::parse(&server.url(0)).unwrap().connect(timeouts).await.unwrap();
        let keys = Keys::with_prefix("t:");
        let mut ours = redis::pipe();
        ours.atomic().cmd("SET").arg(&keys.head).arg("ours").cmd("SET").arg(keys.zone(b"x")).arg("ours");
        write(&mut connection, &keys, &None, &ours).await.unwrap();
        let left: Left = Some(b"ours".to_vec());
        write(&mut connection, &keys, &left, &ours).await.unwrap();
        server.command(0, &["SET", &keys.head, "of a later term"]).unwrap();
        for left in [None, left] {
            let refused = write(&mut connection, &keys, &left, &ours).await;
            assert!(matches!(refused, Err(Stopped::Foreign(_))), "{refused:?}");
            assert_eq!(server.command(0, &["GET", &keys.head]).unwrap().trim(), "of a later term");
        }
    }
}
