//! A real Redis that is emptied, cut short, written to by others, held and killed. What is read from it leads on from where we
//! stand or is not given; the control plane is asked meanwhile, and the stream is gone back to.

use godwit_engine::snapshot::{Snapshot, SnapshotOptions};
use godwit_testkit::servers::Redis;
use godwit_wire::feed::{ChangeSet, DigestKey, SigningKey};

use super::*;
use crate::feed::machine::{Got, Machine, Seeds, Want};
use crate::feed::source::{Entries, Joined};

const SOON: Duration = Duration::from_secs(60);
const STREAM: &str = "t:stream";
const HEAD: &str = "t:head";

fn key(octet: u8) -> SigningKey {
    SigningKey::from_seed(&[octet; 32]).unwrap()
}

/// One batch of a log, signed.
struct Made {
    last: u64,
    chain: [u8; 32],
    octets: Vec<u8>,
}

/// The log of a control plane, the Redis that it is published to, and a node that reads.
struct World {
    redis: Redis,
    writer: redis::Client,
    log: Vec<Made>,
    stream: Stream,
    machine: Machine,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum From {
    Stream,
    ControlPlane,
}

/// A batch behind another one, with so many change sets that change nothing.
fn batch_behind(last: Option<&Made>, count: u64, by: u8) -> Made {
    let change_set = ChangeSet { id: [1; 16], committed_at_us: 1, zones: Vec::new() };
    let batch = Batch {
        generation: 1,
        epoch: 1,
        first_sequence: last.map_or(0, |made| made.last) + 1,
        previous_chain: last.map_or([0; 32], |made| made.chain),
        change_sets: vec![change_set; usize::try_from(count).unwrap()],
    };
    let mut octets = Vec::new();
    batch.encode_signed(&key(by), &mut octets);
    Made { last: batch.last_sequence(), chain: batch.chain(), octets }
}

impl World {
    fn new() -> World {
        let redis = Redis::start(&[]).unwrap();
        let url = redis.url(1);
        let place = Place { url: url.clone(), stream: STREAM.to_owned(), head: HEAD.to_owned() };
        let options = SnapshotOptions { hash_key: [1; 16], digest_key: DigestKey([2; 32]) };
        let position = Position { generation: 1, epoch: 1, sequence: 0, chain: [0; 32] };
        let snapshot = Snapshot::empty(&options).with_position(position);
        let mut machine = Machine::new(snapshot, Seeds { hash_key: [1; 16], pauses: 7 });
        machine.took(Got::Joined(Joined { digest_key: options.digest_key }), Instant::now());
        World {
            redis,
            writer: redis::Client::open(url).unwrap(),
            log: Vec::new(),
            stream: Stream::new(place).unwrap(),
            machine,
        }
    }

    fn make(&mut self, count: u64) {
        let made = batch_behind(self.log.last(), count, 1);
        self.log.push(made);
    }

    /// Writes one entry, as whoever can.
    async fn put(&self, id: &str, field: &str, octets: &[u8]) {
        let mut connection = self.writer.get_multiplexed_async_connection().await.unwrap();
        let mut add = redis::cmd("XADD");
        add.arg(STREAM).arg(id).arg(field).arg(octets).exec_async(&mut connection).await.unwrap();
    }

    /// Publishes the log from a batch on, and its head.
    async fn publish(&self, from: usize) {
        for made in &self.log[from..] {
            self.put(&format!("1-{}", made.last), BATCH, &made.octets).await;
        }
        let mut connection = self.writer.get_multiplexed_async_connection().await.unwrap();
        redis::cmd("SET").arg(HEAD).arg(self.head()).exec_async(&mut connection).await.unwrap();
    }

    fn head(&self) -> Vec<u8> {
        let (sequence, chain) = self.end();
        let root_digest = self.machine.snapshot().root_digest();
        let mut octets = Vec::new();
        Head { generation: 1, epoch: 1, sequence, chain, root_digest }.encode_signed(&key(1), &mut octets);
        octets
    }

    fn end(&self) -> (u64, [u8; 32]) {
        self.log.last().map_or((0, [0; 32]), |made| (made.last, made.chain))
    }

    fn at(&self) -> (u64, [u8; 32]) {
        let position = self.machine.snapshot().position();
        (position.sequence, position.chain)
    }

    /// Asks once, as the source does: the stream, and where that has nothing to say the control plane.
    async fn step(&mut self) -> From {
        let want = self.machine.want(Instant::now());
        let Want::Entries(after) = want else { panic!("it does not follow any more: {want:?}") };
        let keys = [key(1).verifying_key(), key(2).verifying_key()];
        let (from, entries) = match self.stream.entries(after, &keys).await {
            Some(entries) => (From::Stream, entries),
            None => {
                let behind = self.log.iter().filter(|made| made.last > after.sequence);
                let entries = behind.map(|made| made.octets.clone().into()).chain([self.head().into()]);
                (From::ControlPlane, entries.collect())
            }
        };
        self.machine.took(Got::Entries(Entries::Next(entries)), Instant::now());
        let at = self.at();
        let is_ours = at.0 == 0 || self.log.iter().any(|made| (made.last, made.chain) == at);
        assert!(is_ours, "it stands where the log never was: {}", at.0);
        from
    }

    /// Until it has everything, at last from there.
    async fn until_level(&mut self, by: From) {
        let deadline = Instant::now() + SOON;
        loop {
            let from = self.step().await;
            if self.at() == self.end() && from == by {
                return;
            }
            assert!(Instant::now() < deadline, "never level by {by:?}");
        }
    }

    /// New batches come by the stream again.
    async fn until_back(&mut self) {
        let deadline = Instant::now() + SOON;
        loop {
            let from = self.log.len();
            self.make(1);
            self.publish(from).await;
            let mut last = None;
            while self.at() != self.end() {
                last = Some(self.step().await);
                assert!(Instant::now() < deadline, "it does not go back to the stream");
            }
            if last == Some(From::Stream) {
                return;
            }
        }
    }
}

async fn following() -> World {
    let mut world = World::new();
    for count in [1, 3, 1] {
        world.make(count);
    }
    world.publish(0).await;
    world.until_level(From::Stream).await;
    world
}

#[tokio::test]
async fn what_comes_on_the_stream_comes_from_there() {
    let mut world = following().await;
    for count in [1, 2, 1_000] {
        let from = world.log.len();
        world.make(count);
        world.make(1);
        world.publish(from).await;
        while world.at() != world.end() {
            assert_eq!(world.step().await, From::Stream);
        }
    }
    // Where nothing comes, heads do, and now and then the control plane is asked all the same.
    let mut heads = 0;
    while world.step().await == From::Stream {
        heads += 1;
    }
    assert_eq!(heads, ASK_AFTER - 1);
}

#[tokio::test]
async fn a_stream_that_was_emptied_is_gone_back_to() {
    let mut world = following().await;
    world.redis.command(1, &["FLUSHALL"]).unwrap();
    assert_eq!(world.step().await, From::ControlPlane, "there is no head");
    world.make(1);
    world.until_level(From::ControlPlane).await;
    // The publisher puts it right.
    world.publish(1).await;
    world.until_back().await;
}

#[tokio::test]
async fn p8_what_was_trimmed_past_us_comes_from_the_control_plane() {
    let mut world = following().await;
    let from = world.log.len();
    for _ in 0..5 {
        world.make(2);
    }
    world.publish(from).await;
    let oldest = format!("1-{}", world.end().0);
    world.redis.command(1, &["XTRIM", STREAM, "MINID", &oldest]).unwrap();
    assert_eq!(world.step().await, From::ControlPlane, "what is on the stream does not lead on from here");
    assert_eq!(world.at(), world.end());
    world.until_back().await;
}

/// Who takes over publishes again what is not on the stream, under ids of the new term, which are above every position of the one before.
#[tokio::test]
async fn p8_what_a_later_term_publishes_again_is_read_past() {
    let mut world = following().await;
    let emptied = async |world: &World| {
        let mut connection = world.writer.get_multiplexed_async_connection().await.unwrap();
        redis::cmd("DEL").arg(STREAM).exec_async(&mut connection).await.unwrap();
    };
    for _ in 0..3 * COUNT {
        world.make(1);
    }
    world.publish(3).await;
    world.until_level(From::Stream).await;
    emptied(&world).await;
    world.stream.cursor = None;
    world.make(1);
    for made in &world.log {
        world.put(&format!("2-{}", made.last), BATCH, &made.octets).await;
    }
    world.until_level(From::Stream).await;
}

#[tokio::test]
async fn p9_what_others_write_to_the_stream_is_not_taken() {
    let mut world = following().await;
    for what in
        ["forged", "not signed", "an old one", "the last one", "another id", "another field", "nonsense"]
    {
        let next = world.end().0 + 1;
        let forged = batch_behind(world.log.last(), 1, 9).octets;
        let (first, last) = (world.log[0].octets.clone(), world.log.last().unwrap().octets.clone());
        let mut unsigned = Vec::new();
        Batch::decode(&forged).unwrap().encode(&mut unsigned);
        let (id, field, octets) = match what {
            "forged" => (format!("1-{next}"), BATCH, forged),
            "not signed" => (format!("1-{next}"), BATCH, unsigned),
            "an old one" => (format!("1-{next}"), BATCH, first),
            "the last one" => (format!("1-{}", next + 7), BATCH, last),
            "another id" => ("2-0".to_owned(), BATCH, last),
            "another field" => (format!("1-{next}"), "x", last),
            _ => (format!("1-{next}"), BATCH, b"GDWT".to_vec()),
        };
        world.put(&id, field, &octets).await;
        assert_eq!(world.step().await, From::ControlPlane, "{what}");
        assert_eq!(world.at(), world.end(), "{what}");
        // The publisher begins it anew.
        world.redis.command(1, &["DEL", STREAM]).unwrap();
        world.publish(0).await;
        world.until_back().await;
    }
    // A head that is not ours, and one of before.
    let mut forged = Vec::new();
    let root_digest = world.machine.snapshot().root_digest();
    let ahead = Head { generation: 9, epoch: 9, sequence: 1_000_000, chain: [9; 32], root_digest };
    ahead.encode_signed(&key(9), &mut forged);
    let mut connection = world.writer.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("SET").arg(HEAD).arg(forged).exec_async(&mut connection).await.unwrap();
    assert_eq!(world.step().await, From::ControlPlane, "a forged head");
    let before = world.head();
    world.until_back().await;
    redis::cmd("SET").arg(HEAD).arg(before).exec_async(&mut connection).await.unwrap();
    for _ in 0..=ASK_AFTER {
        world.step().await;
        assert_eq!(world.at(), world.end(), "a head of before");
    }
}

#[tokio::test]
async fn p1_a_redis_that_is_silent_or_dead_keeps_nobody_waiting() {
    let mut world = following().await;
    world.redis.pause().unwrap();
    world.make(1);
    let asked = Instant::now();
    assert_eq!(world.step().await, From::ControlPlane);
    assert!(asked.elapsed() < Duration::from_secs(40), "{:?}", asked.elapsed());
    assert_eq!(world.at(), world.end());
    world.redis.go_on().unwrap();
    let last = world.log.len() - 1;
    world.publish(last).await;
    world.until_back().await;

    world.redis.kill().unwrap();
    world.make(1);
    world.until_level(From::ControlPlane).await;
    // It comes back with nothing.
    world.redis.again().unwrap();
    world.publish(0).await;
    world.until_back().await;
}
