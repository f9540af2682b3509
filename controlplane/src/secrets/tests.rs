//! What is sealed stays so, and the first start and rotations leave nobody behind.

use std::os::unix::fs::PermissionsExt as _;

use godwit_wire::feed::{Digest, Head};
use uuid::Uuid;

use super::*;
use crate::store::{Database, testing};

async fn begun(database: &mut Database) {
    let key = godwit_wire::feed::DigestKey([3; 32]);
    store::relay::start(&mut database.writer, &key, 7).await.unwrap();
}

fn signed(keys: &FeedKeys) -> Vec<u8> {
    let head = Head { generation: 1, epoch: 1, sequence: 0, chain: [0; 32], root_digest: Digest::default() };
    let mut octets = Vec::new();
    head.encode_signed(&keys.signing, &mut octets);
    octets
}

#[test]
fn sealed_is_bound_to_its_name_and_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made/secrets.key");
    assert!(SealingKey::read(&path).unwrap().is_none());
    let key = SealingKey::make(&path).unwrap();
    let sealed = key.seal("a", b"secret").unwrap();
    assert_ne!(sealed, key.seal("a", b"secret").unwrap(), "each has a nonce of its own");
    assert!(!sealed.windows(6).any(|part| part == b"secret"));
    let again = SealingKey::read(&path).unwrap().unwrap();
    assert_eq!(again.open("a", &sealed).unwrap(), b"secret");
    assert_eq!(again.open("b", &sealed), None);
    for at in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        assert_eq!(again.open("a", &changed), None, "octet {at}");
        assert_eq!(again.open("a", &sealed[..at]), None, "{at} octets");
    }
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read(&path).unwrap().len(), 32);
    std::fs::write(&path, b"short").unwrap();
    let error = SealingKey::read(&path).unwrap_err().to_string();
    assert!(error.contains("32 octets"), "{error}");
}

/// Nothing in the database shows a key, and whoever has the database alone cannot open it.
#[tokio::test]
async fn secrets_are_sealed_at_rest() {
    for (mut database, _place) in testing::databases().await {
        begun(&mut database).await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secrets.key");
        let vault = Vault::open(&mut database.writer, &file).await.unwrap();
        for name in [FEED_KEY, FEED_KEY_NEXT, INTERNAL_KEY] {
            let secret = vault.secret(&mut database.writer, name).await.unwrap();
            let sealed = store::secrets::read(&mut database.writer, name).await.unwrap().unwrap();
            let shows = sealed.windows(8).any(|part| secret.windows(8).any(|own| own == part));
            assert!(secret.len() >= 32 && !shows, "{name} can be read in the database");
        }
        let before = vault.feed_keys(&mut database.writer).await.unwrap();
        // The same keys with every start.
        let again = Vault::open(&mut database.writer, &file).await.unwrap();
        assert_eq!(again.feed_keys(&mut database.writer).await.unwrap().trusted, before.trusted);
        for make_wrong in [true, false] {
            if make_wrong {
                std::fs::write(&file, [7; 32]).unwrap();
            } else {
                std::fs::remove_file(&file).unwrap();
            }
            let error = Vault::open(&mut database.writer, &file).await.unwrap_err().to_string();
            assert!(error.contains("copy secrets.key") && !error.contains('\n'), "{error}");
            assert_eq!(file.exists(), make_wrong, "no other key is made");
        }
        database.close().await.unwrap();
    }
}

/// Of many that start at once on one database one makes the secrets, and all have the same.
#[tokio::test]
async fn many_first_starts_make_one_set() {
    let (mut database, place) = testing::database(store::Kind::Postgres).await;
    begun(&mut database).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secrets.key");
    let mut starting = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (mut connection, file) = (place.connect().await, file.clone());
        starting.spawn(async move {
            let vault = Vault::open(&mut connection, &file).await.unwrap();
            let keys = vault.feed_keys(&mut connection).await.unwrap().trusted;
            (keys, vault.internal_key(&mut connection).await.unwrap())
        });
    }
    let all = starting.join_all().await;
    assert!(all.iter().all(|keys| *keys == all[0]));
    database.close().await.unwrap();
}

/// A node that knows the two keys of one moment takes what is signed before and after a rotation. One more rotation would
/// leave it behind, unless it has learned the next key meanwhile.
#[tokio::test]
async fn rotations_leave_no_node_behind() {
    for (mut database, _place) in testing::databases().await {
        begun(&mut database).await;
        let writer = &mut database.writer;
        let folder = tempfile::tempdir().unwrap();
        let vault = Vault::open(writer, &folder.path().join("secrets.key")).await.unwrap();
        let before = vault.feed_keys(writer).await.unwrap();
        let node = |keys: &FeedKeys| nodes::Node {
            id: Uuid::now_v7(),
            name: "ns1".to_owned(),
            last_key: keys.trusted[1].0,
            created_at_us: 1,
        };
        let first = node(&before);
        nodes::insert(writer, &first, &[1; 32]).await.unwrap();
        assert_eq!(Head::verify(&signed(&before), &before.trusted), Ok(()));
        vault.rotate(writer).await.unwrap();
        let after = vault.feed_keys(writer).await.unwrap();
        assert_eq!(after.trusted[0], before.trusted[1]);
        assert!(!before.trusted.contains(&after.trusted[1]));
        assert_eq!(Head::verify(&signed(&after), &before.trusted), Ok(()));

        let error = vault.rotate(writer).await.unwrap_err().to_string();
        assert!(error.contains("ns1") && error.contains("add them again"), "{error}");
        assert_eq!(vault.feed_keys(writer).await.unwrap().trusted, after.trusted);
        assert!(nodes::remove(writer, first.id, 2).await.unwrap());
        nodes::insert(writer, &node(&after), &[2; 32]).await.unwrap();
        vault.rotate(writer).await.unwrap();
        let last = vault.feed_keys(writer).await.unwrap();
        assert_eq!(Head::verify(&signed(&last), &after.trusted), Ok(()));
        assert!(Head::verify(&signed(&last), &before.trusted).is_err());
        assert!(before.number < after.number && after.number < last.number);

        // As one that said so is noted; and whatever the clock says, a later announcement has a higher number.
        let second = nodes::by_name(writer, "ns1").await.unwrap().unwrap();
        assert!(vault.rotate(writer).await.is_err());
        nodes::learn(writer, second, &last.trusted[1].0).await.unwrap();
        let future = i64::try_from(last.number).unwrap() + 3_600_000_000;
        let query = writer.query("UPDATE secrets SET created_at_us = $1 WHERE name = $2");
        query.bind(future).bind(FEED_KEY_NEXT).execute().await.unwrap();
        vault.rotate(writer).await.unwrap();
        let number = vault.feed_keys(writer).await.unwrap().number;
        assert_eq!(number, u64::try_from(future).unwrap() + 1);
        database.close().await.unwrap();
    }
}
