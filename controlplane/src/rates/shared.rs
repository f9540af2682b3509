//! Buckets in Redis, which all control planes of it count in: one script for all buckets of a request, by the clock of Redis. Its
//! arithmetic is that of `local`.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use godwit_redis::{Connection, Place, Timeouts};
use redis::{ErrorKind, RedisError, RedisResult};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::bucket::{Answer, Bucket, Key, Of, Pace};
use crate::hex;
use crate::observe::metrics::Metrics;
use crate::stop::{Stop, stopped};

/// What is kept is the moment at which a bucket is full again, in microseconds of the clock of Redis, until then and no longer. One
/// that is further away than that of an empty bucket is of a clock that was put back, or of other settings: the bucket is empty.
const SCRIPT: &str = "\
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local kept = redis.call('MGET', unpack(KEYS))
local answer = {1}
local function keep(key, missing)
  redis.call('SET', key, string.format('%.0f', now + missing), 'PX', math.ceil(missing / 1000))
end
for i = 1, #KEYS do
  local interval, depth, takes = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  local missing = math.max(0, (tonumber(kept[i]) or now) - now)
  if missing > depth then
    missing = depth
    keep(KEYS[i], missing)
  end
  answer[i + 1] = missing
  if missing + takes * interval > depth then answer[1] = 0 end
end
if answer[1] == 1 then
  for i = 1, #KEYS do
    local missing = answer[i + 1] + tonumber(ARGV[3 * i]) * tonumber(ARGV[3 * i - 2])
    if missing > 0 then
      keep(KEYS[i], missing)
    else
      redis.call('DEL', KEYS[i])
    end
  end
end
return answer
";

/// What Redis knows the script by.
static NAME: LazyLock<String> = LazyLock::new(|| {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, SCRIPT.as_bytes());
    hex::encoded(hash.as_ref())
});

/// How long Redis may take to let us in.
const TIMEOUTS: Timeouts = Timeouts { connect: Duration::from_secs(2), response: Duration::from_secs(2) };
/// The pause after an error; doubles up to the longest.
const AGAIN: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(2);

/// See the module.
pub(super) struct Shared {
    slot: Mutex<Slot>,
    lost: Notify,
    /// What keys begin with, all in one slot of a cluster.
    prefix: String,
    timeout: Duration,
    metrics: Metrics,
}

/// The connection; `None` while Redis is away. Each has a number, so that an old one's error is not taken for that of the next.
#[derive(Default)]
struct Slot {
    connection: Option<Connection>,
    number: u64,
}

impl Shared {
    pub(super) fn new(prefix: &str, timeout: Duration, metrics: Metrics) -> Shared {
        Shared {
            slot: Mutex::default(),
            lost: Notify::new(),
            prefix: format!("{prefix}{{limits}}:"),
            timeout,
            metrics,
        }
    }

    /// Takes of all of them what each says, or of none where one has no room. `None` while Redis is away: nobody waits for it then.
    pub(super) async fn take(&self, buckets: &[Bucket]) -> Option<Answer> {
        let (mut connection, number) = {
            let slot = self.slot();
            (slot.connection.clone()?, slot.number)
        };
        match self.ask(&mut connection, buckets).await {
            Ok(answer) => Some(answer),
            Err(error) => {
                let mut slot = self.slot();
                if slot.number == number && slot.connection.take().is_some() {
                    self.metrics.rates_lost();
                    tracing::warn!(%error, "Redis does not count for the rate limits: this process does it alone until it is back");
                    self.lost.notify_one();
                }
                None
            }
        }
    }

    /// Keeps the connection until it is time to stop.
    pub(super) async fn keep(self: Arc<Self>, place: Place, stop: Stop) {
        let mut stop = std::pin::pin!(stopped(stop));
        let (mut pause, mut is_told) = (AGAIN, false);
        loop {
            let connected = tokio::select! {
                () = &mut stop => return,
                connected = self.connect(&place) => connected,
            };
            match connected {
                Ok(connection) => {
                    tracing::info!(%place, "Redis counts for the rate limits");
                    {
                        let mut slot = self.slot();
                        slot.connection = Some(connection);
                        slot.number += 1;
                    }
                    self.metrics.rates_shared(true);
                    let began = Instant::now();
                    tokio::select! {
                        () = &mut stop => return,
                        () = self.lost.notified() => {}
                    }
                    self.metrics.rates_shared(false);
                    // Who lost it has said so.
                    is_told = true;
                    // One that lets us in and fails at once is not asked ten times a second.
                    if began.elapsed() > AGAIN_MAX {
                        pause = AGAIN;
                    }
                }
                Err(error) => {
                    if !is_told {
                        self.metrics.rates_lost();
                        tracing::warn!(%place, %error, "Redis does not count for the rate limits: this process does it alone until it is there");
                        is_told = true;
                    }
                }
            }
            tokio::select! {
                () = &mut stop => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(AGAIN_MAX);
        }
    }

    /// A connection over which it counts: who may not, or answers too late, is not there.
    async fn connect(&self, place: &Place) -> RedisResult<Connection> {
        let mut connection = place.connect(TIMEOUTS).await?;
        // It takes something, for a millisecond: one that is full answers and writes nothing. Nobody else has the same.
        let pace = Pace { interval_us: 1_000, depth_us: 1_000 };
        let key: Key = *uuid::Uuid::new_v4().as_bytes();
        let trial = Bucket { of: Of::Address, key, pace, takes: 1 };
        self.ask(&mut connection, &[trial]).await?;
        Ok(connection)
    }

    async fn ask(&self, connection: &mut Connection, buckets: &[Bucket]) -> RedisResult<Answer> {
        let late = || RedisError::from((ErrorKind::Io, "no answer in time"));
        let asked = tokio::time::timeout(self.timeout, async {
            match self.run("EVALSHA", &NAME, connection, buckets).await {
                Err(error) if error.code() == Some("NOSCRIPT") => {
                    self.run("EVAL", SCRIPT, connection, buckets).await
                }
                answer => answer,
            }
        });
        let answer = asked.await.unwrap_or_else(|_| Err(late()))?;
        match answer.split_first() {
            Some((taken, missing_us)) if missing_us.len() == buckets.len() => {
                Ok(Answer { taken: *taken == 1, missing_us: missing_us.to_vec() })
            }
            _ => {
                Err(RedisError::from((ErrorKind::UnexpectedReturnType, "the script answers something else")))
            }
        }
    }

    async fn run(
        &self,
        command: &str,
        script: &str,
        connection: &mut Connection,
        buckets: &[Bucket],
    ) -> RedisResult<Vec<i64>> {
        let mut command = redis::cmd(command);
        command.arg(script).arg(buckets.len());
        for bucket in buckets {
            command.arg(format!("{}{}", self.prefix, URL_SAFE_NO_PAD.encode(bucket.key)));
        }
        for bucket in buckets {
            command.arg(bucket.pace.interval_us).arg(bucket.pace.depth_us).arg(bucket.takes);
        }
        command.query_async(connection).await
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use godwit_testkit::servers::{Cluster, Redis};
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::super::local::Local;
    use super::*;
    use crate::config::Rate;

    const PATIENCE: Duration = Duration::from_secs(60);

    async fn there() -> (Shared, Connection) {
        let redis = Redis::shared();
        let shared = Shared::new(&redis.prefix(), PATIENCE, Metrics::default());
        let connection = shared.connect(&Place::parse(&redis.url(2)).unwrap()).await.unwrap();
        (shared, connection)
    }

    fn bucket(n: u8, per_minute: u32, burst: u32, takes: i64) -> Bucket {
        let pace = Pace::of(Rate { per_minute, burst }).unwrap();
        Bucket { of: Of::Token, key: [n; 16], pace, takes }
    }

    /// It answers, and keeps nothing.
    #[tokio::test]
    async fn a_redis_that_is_full_does_not_count() {
        let redis = Redis::start(&["--maxmemory", "1", "--maxmemory-policy", "noeviction"]).unwrap();
        let shared = Shared::new("t:", PATIENCE, Metrics::default());
        let place = Place::parse(&redis.url(0)).unwrap();
        let Err(error) = shared.connect(&place).await else { panic!("it is taken for one that counts") };
        assert!(error.to_string().contains("OOM"), "{error}");
    }

    /// Slow buckets, so that it does not matter how long the test takes.
    #[tokio::test]
    async fn redis_counts_as_this_process_does() {
        let (shared, mut connection) = there().await;
        let local = Local::default();
        let seed = rand::random();
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        for step in 0..400 {
            let mut some = Vec::new();
            for n in 0..5 {
                if random.random_bool(0.5) {
                    let takes = [1, 1, 1, 0, -1][random.random_range(0..5)];
                    some.push(bucket(n, 1, 10 + u32::from(n), takes));
                }
            }
            if some.is_empty() {
                continue;
            }
            let there = shared.ask(&mut connection, &some).await.unwrap();
            let here = local.take(&some);
            assert_eq!(there.taken, here.taken, "step {step}, seed {seed}");
            for (bucket, (there, here)) in some.iter().zip(there.missing_us.iter().zip(&here.missing_us)) {
                // Within a tenth of one request.
                assert!((there - here).abs() < bucket.pace.interval_us / 10, "{there} {here}, seed {seed}");
            }
        }
    }

    /// All buckets of a request are on one of its servers.
    #[tokio::test]
    async fn a_cluster_counts_as_one_server_does() {
        let cluster = Cluster::start().unwrap();
        let shared = Shared::new("t:", PATIENCE, Metrics::default());
        let mut connection = shared.connect(&Place::parse(&cluster.url()).unwrap()).await.unwrap();
        let three: Vec<Bucket> = (1..4).map(|n| bucket(n, 1, 2, 1)).collect();
        for taken in [true, true, false] {
            assert_eq!(shared.ask(&mut connection, &three).await.unwrap().taken, taken);
        }
    }

    /// After a failover to a machine whose clock is behind, too.
    #[tokio::test]
    async fn a_clock_that_is_put_back_locks_nobody_out() {
        let (shared, mut connection) = there().await;
        let one = [bucket(9, 600, 2, 1)];
        let key = format!("{}{}", shared.prefix, URL_SAFE_NO_PAD.encode(one[0].key));
        let far = "9000000000000000";
        let () = redis::cmd("SET").arg(&key).arg(far).query_async(&mut connection).await.unwrap();
        assert!(!shared.ask(&mut connection, &one).await.unwrap().taken);
        let began = std::time::Instant::now();
        while !shared.ask(&mut connection, &one).await.unwrap().taken {
            assert!(began.elapsed() < Duration::from_secs(20), "it is refused for ever");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let left: i64 = redis::cmd("PTTL").arg(&key).query_async(&mut connection).await.unwrap();
        assert!((1..=200).contains(&left), "kept until it is full: {left} ms");
    }

    /// Whatever stands there, and when Redis has forgotten the script.
    #[tokio::test]
    async fn what_is_there_is_no_bucket_and_the_script_is_told_again() {
        let (shared, mut connection) = there().await;
        let one = [bucket(8, 1, 2, 1)];
        let key = format!("{}{}", shared.prefix, URL_SAFE_NO_PAD.encode(one[0].key));
        let () = redis::cmd("SET").arg(&key).arg("x").query_async(&mut connection).await.unwrap();
        assert_eq!(shared.ask(&mut connection, &one).await.unwrap().missing_us, [0]);
        let () = redis::cmd("SCRIPT").arg("FLUSH").query_async(&mut connection).await.unwrap();
        assert!(shared.ask(&mut connection, &one).await.unwrap().taken);
        assert!(!shared.ask(&mut connection, &one).await.unwrap().taken);
    }
}
