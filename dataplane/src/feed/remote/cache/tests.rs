//! What is read is what was signed, at one place, whatever stands in Redis.

use godwit_testkit::servers::Redis;
use godwit_wire::feed::{IndexPlace, SigningKey};

use super::*;
use crate::feed::testing::name;

const KEY: DigestKey = DigestKey([1; 32]);

fn key(octet: u8) -> SigningKey {
    SigningKey::from_seed(&[octet; 32]).unwrap()
}

fn keys() -> [VerifyingKey; 1] {
    [key(1).verifying_key()]
}

fn place(server: &Redis) -> Place {
    let [index, head, zones] = ["{c}:index", "{c}:head", "{c}:zone:"].map(str::to_owned);
    Place { url: server.url(0), database: 0, index, head, zones }
}

/// A blob without records, which has a digest of its own for each version all the same.
fn blob(zone: &str, version: u64, signing: &SigningKey) -> (Vec<u8>, Digest) {
    let digest = Digest::from_bytes([u8::try_from(version).unwrap(); 32]);
    let mut octets = Vec::new();
    ZoneBlob { zone: name(zone), owner: 1, version, digest, rrsets: Vec::new() }
        .encode_signed(signing, &mut octets);
    (octets, digest)
}

/// A cache as the control plane leaves it.
struct Left {
    server: Redis,
    connection: Connection,
    sequence: u64,
}

impl Left {
    async fn new() -> Left {
        let server = Redis::start(&[]).unwrap();
        let connection = place(&server).server().unwrap().connect(TIMEOUTS).await.unwrap();
        let mut left = Left { server, connection, sequence: 0 };
        left.write(&[("a.test.", 1), ("b.test.", 2), ("c.test.", 3)], &key(1)).await;
        left
    }

    async fn write(&mut self, zones: &[(&str, u64)], signing: &SigningKey) {
        self.sequence += 1;
        let mut pipeline = redis::pipe();
        pipeline.atomic().del("{c}:index");
        let mut sum = Digest::default();
        for &(zone, version) in zones {
            let (octets, digest) = blob(zone, version, signing);
            let apex = name(zone);
            sum.add(zone_term(&KEY, apex.as_ref(), version, digest));
            let value = CachedZone { version, serial: 1, digest }.encode();
            pipeline.hset("{c}:index", apex.as_wire(), value);
            pipeline.set([b"{c}:zone:", apex.as_wire()].concat(), octets);
        }
        let mut head = Vec::new();
        let settled = self.sequence + 2;
        let place = IndexPlace { generation: 5, epoch: 1, sequence: self.sequence, chain: [4; 32], settled };
        CacheHead { place, sum }.encode_signed(signing, &mut head);
        pipeline.set("{c}:head", head);
        pipeline.exec_async(&mut self.connection).await.unwrap();
    }

    async fn run(&mut self, command: &redis::Cmd) {
        command.exec_async(&mut self.connection).await.unwrap();
    }

    async fn index(&self) -> Option<Index> {
        Cache::new(place(&self.server)).unwrap().index(&keys(), &KEY, 5).await
    }

    async fn zones(&self, index: &Index) -> Vec<String> {
        let apexes = ["a.test.", "b.test.", "c.test.", "d.test."].map(name);
        let mut cache = Cache::new(place(&self.server)).unwrap();
        let found = cache.zones(&apexes, &Listed::of(index.clone()), &keys()).await;
        let found: HashMap<Name, ZoneState> =
            found.into_iter().filter_map(|(apex, state)| Some((apex, state?))).collect();
        let mut names: Vec<String> = found.keys().map(ToString::to_string).collect();
        names.sort();
        for (apex, state) in &found {
            let read = ZoneBlob::decode(state.blob.as_ref().unwrap()).unwrap();
            let listed = index.zones.iter().find(|entry| entry.zone == *apex).unwrap();
            assert_eq!((&read.zone, read.version, read.digest), (apex, listed.version, listed.digest));
            assert_eq!((state.version, state.settled), (listed.version, index.place.settled));
        }
        names
    }
}

#[tokio::test]
async fn an_index_and_its_zones_are_read() {
    let left = Left::new().await;
    let index = left.index().await.unwrap();
    let place = IndexPlace { generation: 5, epoch: 1, sequence: 1, chain: [4; 32], settled: 3 };
    assert_eq!(index.place, place);
    let mut octets = Vec::new();
    index.encode(&mut octets);
    assert_eq!(Index::decode(&octets).unwrap(), index, "in canonical order");
    assert_eq!(left.zones(&index).await, ["a.test.", "b.test.", "c.test."]);
}

/// An index that is not what the head's digest says, in any part, is none.
#[tokio::test]
async fn p9_an_index_that_does_not_add_up_is_none() {
    let mut left = Left::new().await;
    let zone = |version, digest| CachedZone { version, serial: 1, digest }.encode();
    let good = Digest::from_bytes([1; 32]);
    let [a, d] = [name("a.test."), name("d.test.")];
    for (what, command) in [
        ("a later version", redis::cmd("HSET").arg("{c}:index").arg(a.as_wire()).arg(zone(9, good)).clone()),
        (
            "another digest",
            redis::cmd("HSET").arg("{c}:index").arg(a.as_wire()).arg(zone(1, Digest::default())).clone(),
        ),
        ("one more", redis::cmd("HSET").arg("{c}:index").arg(d.as_wire()).arg(zone(1, good)).clone()),
        ("one less", redis::cmd("HDEL").arg("{c}:index").arg(a.as_wire()).clone()),
        ("a value that is none", redis::cmd("HSET").arg("{c}:index").arg(a.as_wire()).arg("x").clone()),
        ("a name that is none", redis::cmd("HSET").arg("{c}:index").arg("x").arg(zone(1, good)).clone()),
        ("of another form", redis::cmd("SET").arg("{c}:index").arg("x").clone()),
        ("no index", redis::cmd("DEL").arg("{c}:index").clone()),
        ("no head", redis::cmd("DEL").arg("{c}:head").clone()),
        ("a head that is none", redis::cmd("SET").arg("{c}:head").arg("x").clone()),
    ] {
        assert!(left.index().await.is_some(), "before: {what}");
        left.run(&command).await;
        assert_eq!(left.index().await, None, "{what}");
        left.run(&redis::cmd("FLUSHALL")).await;
        left.write(&[("a.test.", 1), ("b.test.", 2)], &key(1)).await;
    }
    left.write(&[("a.test.", 1)], &key(2)).await;
    assert_eq!(left.index().await, None, "signed by somebody else");
    let mut cache = Cache::new(place(&left.server)).unwrap();
    left.write(&[("a.test.", 1)], &key(1)).await;
    assert_eq!(cache.index(&keys(), &KEY, 6).await, None, "of an earlier history");
}

/// A blob that was signed, but is not the one that the index has, is not taken: replayed, newer, of another zone; and what is
/// not there is asked of the control plane.
#[tokio::test]
async fn p8_a_blob_of_another_place_is_not_taken() {
    let mut left = Left::new().await;
    let index = left.index().await.unwrap();
    let at = |zone: &str| [b"{c}:zone:", name(zone).as_wire()].concat();
    for (what, octets) in [
        ("older", blob("b.test.", 1, &key(1)).0),
        ("newer", blob("b.test.", 3, &key(1)).0),
        ("of another zone", blob("x.test.", 2, &key(1)).0),
        ("of somebody else", blob("b.test.", 2, &key(2)).0),
        ("damaged", blob("b.test.", 2, &key(1)).0.split_last().unwrap().1.to_vec()),
        ("empty", Vec::new()),
    ] {
        left.run(redis::cmd("SET").arg(at("b.test.")).arg(octets)).await;
        assert_eq!(left.zones(&index).await, ["a.test.", "c.test."], "{what}");
    }
    left.run(redis::cmd("DEL").arg(at("b.test."))).await;
    assert_eq!(left.zones(&index).await, ["a.test.", "c.test."], "missing");
    left.server.kill().unwrap();
    assert!(left.zones(&index).await.is_empty());
    assert_eq!(left.index().await, None);
}
