//! What is sealed stays so, and the first start and rotations leave nobody behind.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use godwit_wire::feed::{Digest, Head};
use uuid::Uuid;

use super::masters::digits;
use super::*;
use crate::error::Code;
use crate::hex;
use crate::store::data_keys::{RowId, SEALED, TOTP};
use crate::store::{Database, testing};

impl Vault {
    fn own(&self) -> String {
        self.masters().own.as_ref().unwrap().id.clone()
    }
}

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

/// Where the master key of a folder is.
fn places(folder: &Path) -> MasterPlaces {
    MasterPlaces { given: None, file: folder.join("secrets.key"), next: folder.join("secrets.key.next") }
}

#[test]
fn sealed_is_bound_to_its_name_and_key() {
    let (key, other) = (SealingKey::of(&[1; 32]), SealingKey::of(&[2; 32]));
    for by in [By::Master, By::Data(1), By::Data(i64::MAX)] {
        let sealed = key.seal(by, "a", b"secret").unwrap();
        assert_ne!(sealed, key.seal(by, "a", b"secret").unwrap(), "each has a nonce of its own");
        assert!(!sealed.windows(6).any(|part| part == b"secret"));
        assert_eq!(By::of(&sealed), Some(by));
        assert_eq!(key.open("a", &sealed).unwrap(), b"secret");
        assert_eq!(key.open("b", &sealed), None);
        assert_eq!(other.open("a", &sealed), None);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(key.open("a", &changed), None, "octet {at}");
            assert_eq!(key.open("a", &sealed[..at]), None, "{at} octets");
        }
    }
    // What older keys have sealed is found by how it begins.
    assert!(By::Master.begin() < By::Data(0).begin() && By::Data(255).begin() < By::Data(256).begin());
}

#[test]
fn master_keys_are_files_for_one_user_and_are_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made/secrets.key");
    assert!(Master::read(&path).unwrap().is_none());
    let made = make_master_key(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let octets = std::fs::read(&path).unwrap();
    assert_eq!((octets.len(), Master::read(&path).unwrap().unwrap().id), (32, made.clone()));
    assert!(make_master_key(&path).unwrap_err().to_string().contains("no key is written over"));
    assert_eq!(std::fs::read(&path).unwrap(), octets);
    let left: Vec<_> = std::fs::read_dir(path.parent().unwrap()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    // The same key as text.
    let hex = hex::encoded(&octets);
    std::fs::write(&path, format!("{hex}\n")).unwrap();
    assert_eq!(Master::read(&path).unwrap().unwrap().id, made);
    assert_eq!(digits(&hex.to_uppercase()).unwrap().to_vec(), octets);
    for wrong in ["short", "", &hex[1..], &format!("{hex}0"), &hex.replace(char::is_alphabetic, "g")] {
        std::fs::write(&path, wrong).unwrap();
        if wrong.len() == 64 && digits(wrong).is_some() {
            continue;
        }
        let error = Master::read(&path).unwrap_err().to_string();
        assert!(
            error.contains("32 octets, or of 64 hexadecimal digits") && !error.contains(&hex[..8]),
            "{error}"
        );
    }
    assert!(!made.contains(&hex[..8]) && made.len() == 16);
}

/// Of many that make one in the same place at once one does, and that is the one that is there.
#[test]
fn of_many_that_make_a_master_key_one_does() {
    const MANY: usize = 8;
    let folder = tempfile::tempdir().unwrap();
    for round in 0..50 {
        let path = folder.path().join(format!("{round}/secrets.key"));
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        let at_once = std::sync::Barrier::new(MANY);
        let make = || {
            at_once.wait();
            make_master_key(&path)
        };
        let made: Vec<String> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..MANY).map(|_| scope.spawn(make)).collect();
            all.into_iter().filter_map(|one| one.join().unwrap().ok()).collect()
        });
        assert_eq!(made, [Master::read(&path).unwrap().unwrap().id], "round {round}");
    }
}

/// A file beside the key, in which there is none, keeps nobody from starting; whoever wants to use it hears what is wrong.
#[tokio::test]
async fn a_next_master_key_that_cannot_be_used_stops_nothing() {
    for (mut database, _place) in testing::databases().await {
        begun(&mut database).await;
        let writer = &mut database.writer;
        let folder = tempfile::tempdir().unwrap();
        let places = places(folder.path());
        Vault::unlock(writer, places.clone()).await.unwrap();
        let good = make_master_key(&places.next).unwrap();
        let octets = std::fs::read(&places.next).unwrap();
        let broken = |what: &str| {
            let _ = std::fs::remove_dir(&places.next);
            let _ = std::fs::remove_file(&places.next);
            match what {
                "half of it" => std::fs::write(&places.next, &octets[..16]).unwrap(),
                // Reading it fails, whoever asks.
                _ => std::fs::create_dir(&places.next).unwrap(),
            }
        };
        for what in ["half of it", "a folder"] {
            broken(what);
            let vault = Vault::unlock(writer, places.clone()).await.unwrap();
            vault.feed_keys(writer).await.unwrap();
            let refused = vault.rewrap(writer).await.unwrap_err();
            assert!(
                refused.code == Code::Conflict
                    && refused.message.contains("cannot be used: secrets key ")
                    && refused.message.contains("secrets.key.next"),
                "{what}: {}",
                refused.message
            );
            // Nothing was begun with it.
            vault.leave_to_own(writer).await.unwrap();
        }
        // In the middle of a change it may be the one that is to count.
        let _ = std::fs::remove_dir(&places.next);
        std::fs::write(&places.next, &octets).unwrap();
        let vault = Vault::unlock(writer, places.clone()).await.unwrap();
        assert_eq!(vault.rewrap(writer).await.unwrap(), good);
        broken("half of it");
        for refused in
            [vault.leave_to_own(writer).await.unwrap_err(), vault.rotate_data_key(writer).await.unwrap_err()]
        {
            assert!(
                refused.message.contains(&good) && refused.message.contains("cannot be used: secrets key "),
                "{}",
                refused.message
            );
        }
        assert_eq!(data_keys::wrapped(writer).await.unwrap().len(), 2);
        Vault::unlock(writer, places.clone()).await.unwrap();
        // Without the one that counts it is all that there is.
        std::fs::remove_file(&places.file).unwrap();
        let error = Vault::unlock(writer, places).await.unwrap_err().to_string();
        assert!(error.contains("secrets.key.next") && error.contains("32 octets"), "{error}");
        database.close().await.unwrap();
    }
}

/// Nothing in the database shows a key, and whoever has the database alone cannot open it.
#[tokio::test]
async fn secrets_are_sealed_at_rest() {
    for (mut database, _place) in testing::databases().await {
        begun(&mut database).await;
        let writer = &mut database.writer;
        let folder = tempfile::tempdir().unwrap();
        let places = places(folder.path());
        let vault = Vault::unlock(writer, places.clone()).await.unwrap();
        let data_key = vault.data_key_octets(writer, 1).await.unwrap().unwrap();
        let mut stored: Vec<Vec<u8>> =
            data_keys::wrapped(writer).await.unwrap().into_iter().map(|wrapped| wrapped.sealed).collect();
        let mut secrets = vec![data_key.to_vec(), std::fs::read(&places.file).unwrap()];
        for name in NAMES {
            secrets.push(vault.secret(writer, name).await.unwrap());
            stored.push(store::secrets::read(writer, name).await.unwrap().unwrap());
        }
        for secret in &secrets {
            let shows =
                |sealed: &Vec<u8>| sealed.windows(8).any(|part| secret.windows(8).any(|own| own == part));
            assert!(secret.len() >= 32 && !stored.iter().any(shows), "a secret can be read in the database");
        }
        let before = vault.feed_keys(writer).await.unwrap();
        // The same keys with every start.
        let again = Vault::unlock(writer, places.clone()).await.unwrap();
        assert_eq!(again.feed_keys(writer).await.unwrap().trusted, before.trusted);
        let expected = vault.masters().own.as_ref().unwrap().id.clone();
        let other = Master::make(&folder.path().join("other")).unwrap().id;
        for make_wrong in [true, false] {
            if make_wrong {
                std::fs::copy(folder.path().join("other"), &places.file).unwrap();
            } else {
                std::fs::remove_file(&places.file).unwrap();
            }
            let error = Vault::unlock(writer, places.clone()).await.unwrap_err().to_string();
            assert!(error.contains("copy secrets.key") && !error.contains('\n'), "{error}");
            assert!(error.contains(&expected) && error.contains(&other) == make_wrong, "{error}");
            assert_eq!(places.file.exists(), make_wrong, "no other key is made");
        }
        // The key itself, from the environment.
        let given = MasterPlaces { given: Some(secrets[1].clone().try_into().unwrap()), ..places.clone() };
        let again = Vault::unlock(writer, given).await.unwrap();
        assert_eq!(again.feed_keys(writer).await.unwrap().trusted, before.trusted);
        let wrong = MasterPlaces { given: Some([7; 32]), ..places };
        let error = Vault::unlock(writer, wrong).await.unwrap_err().to_string();
        assert!(error.contains("store.secrets_key") && error.contains(&expected), "{error}");
        database.close().await.unwrap();
    }
}

async fn account(connection: &mut Connection, sealed: Option<&[u8]>) -> Uuid {
    let id = Uuid::now_v7();
    let account = store::accounts::Account {
        id,
        email: format!("{id}@example.org"),
        wanted_email: None,
        name: String::new(),
        password: None,
        is_operator: false,
        suspended_at_us: None,
        totp: None,
        totp_since_us: None,
        created_at_us: 1,
    };
    store::accounts::insert(connection, &account).await.unwrap();
    if let Some(sealed) = sealed {
        assert!(store::accounts::offer_totp(connection, id, sealed).await.unwrap());
    }
    id
}

async fn totp(connection: &mut Connection, id: Uuid) -> Vec<u8> {
    store::accounts::by_id(connection, id).await.unwrap().unwrap().totp.unwrap()
}

/// Whoever can write to the database, and open nothing, gains nothing by putting what is sealed somewhere else.
#[tokio::test]
async fn what_was_moved_does_not_open() {
    for (mut database, _place) in testing::databases().await {
        begun(&mut database).await;
        let writer = &mut database.writer;
        let folder = tempfile::tempdir().unwrap();
        let vault = Vault::unlock(writer, places(folder.path())).await.unwrap();
        let (anna, bert) = (Uuid::now_v7().to_string(), Uuid::now_v7().to_string());
        let sealed = vault.seal(writer, TOTP.name, &anna, b"secret").await.unwrap();
        let opened = vault.open(writer, TOTP.name, &anna, &sealed).await.unwrap();
        assert_eq!(opened.as_deref(), Some(&b"secret"[..]));
        for (column, row) in [(TOTP.name, &bert), (SECRETS.name, &anna), ("accounts.name", &anna)] {
            assert_eq!(vault.open(writer, column, row, &sealed).await.unwrap(), None, "{column} {row}");
        }
        // Of an older version, with the master key itself.
        let old = {
            let held = vault.masters();
            held.own.as_ref().unwrap().key.seal(By::Master, &format!("accounts.totp {anna}"), b"old").unwrap()
        };
        assert_eq!(vault.open(writer, TOTP.name, &anna, &old).await.unwrap().unwrap(), b"old");
        assert_eq!(vault.open(writer, TOTP.name, &bert, &old).await.unwrap(), None);
        // The feed key in the place of another: no start, no signature.
        let feed = store::secrets::read(writer, FEED_KEY).await.unwrap().unwrap();
        store::secrets::write(writer, REFRESH_KEY, &feed, 1).await.unwrap();
        assert!(vault.refresh_key(writer).await.is_err());
        let error = Vault::unlock(writer, places(folder.path())).await.unwrap_err().to_string();
        assert!(error.contains("refresh_key") && error.contains("damaged"), "{error}");
        // One data key in the place of another, which seals then.
        vault.add_data_key(writer, &[vault.own()]).await.unwrap();
        let first = data_keys::wrapped_of(writer, 1).await.unwrap().remove(0).sealed;
        writer.query("UPDATE wrapped_keys SET sealed = $1").bind(first).execute().await.unwrap();
        assert!(vault.data_key(writer, 2).await.unwrap().is_none());
        assert!(vault.seal(writer, TOTP.name, &anna, b"secret").await.is_err());
        database.close().await.unwrap();
    }
}

/// All that is sealed with an older key than the newest, through every column.
async fn older(vault: &Vault, connection: &mut Connection) -> usize {
    let newest = data_keys::newest(connection).await.unwrap().unwrap();
    let mut count = 0;
    for column in SEALED {
        let begin = By::Data(newest).begin();
        count += column.older(connection, &column.start(), &begin, 1_000).await.unwrap().len();
    }
    assert!(vault.data_key(connection, newest).await.unwrap().is_some());
    count
}

/// Once through every column, as the job does it.
async fn seal_anew(vault: &Vault, connection: &mut Connection) -> Vec<RowId> {
    let mut closed = Vec::new();
    for column in SEALED {
        let mut after = column.start();
        loop {
            connection.control(&[commit::begin(connection.kind())]).await.unwrap();
            let (last, unopened) = vault.seal_anew(connection, column, &after).await.unwrap();
            connection.control(&[COMMIT]).await.unwrap();
            closed.extend(unopened);
            match last {
                Some(last) => after = last,
                None => break,
            }
        }
    }
    closed
}

/// A database of a version that sealed with the master key itself goes on, and a rotation seals all of it with a data key. A row
/// that does not open keeps every older key.
#[tokio::test]
async fn what_older_versions_have_sealed_is_sealed_anew() {
    for (mut database, _place) in testing::databases().await {
        begun(&mut database).await;
        let writer = &mut database.writer;
        let folder = tempfile::tempdir().unwrap();
        let places = places(folder.path());
        let master = Master::make(&places.file).unwrap();
        let feed = SigningKey::from_seed(&[5; 32]).unwrap();
        for name in NAMES {
            let secret = match name {
                INTERNAL_KEY | ISSUER_KEY => rcgen::KeyPair::generate().unwrap().serialize_der(),
                _ => vec![5; 32],
            };
            let sealed = master.key.seal(By::Master, name, &secret).unwrap();
            store::secrets::write(writer, name, &sealed, 9).await.unwrap();
        }
        let mut people = Vec::new();
        for n in 0..70u8 {
            let id = account(writer, Some(&[0])).await;
            let sealed = master.key.seal(By::Master, &format!("accounts.totp {id}"), &[n; 20]).unwrap();
            writer
                .query("UPDATE accounts SET totp = $1 WHERE id = $2")
                .bind(sealed)
                .bind(id)
                .execute()
                .await
                .unwrap();
            people.push((id, n));
        }
        let wrong = MasterPlaces { given: Some([7; 32]), ..places.clone() };
        let error = Vault::unlock(writer, wrong).await.unwrap_err().to_string();
        assert!(error.contains("is the key of others"), "{error}");

        let vault = Vault::unlock(writer, places.clone()).await.unwrap();
        assert_eq!(vault.feed_keys(writer).await.unwrap().trusted[0], feed.verifying_key());
        assert_eq!(older(&vault, writer).await, NAMES.len() + 70);
        // The master key may not go while something is sealed with it alone.
        let refused = vault.leave_to_own(writer).await.unwrap_err();
        assert!(refused.message.contains("rotate the data key first"), "{}", refused.message);
        assert!(!vault.retire(writer).await.unwrap());
        // Nor is it changed: with the next one in its place nothing would open these.
        let next = make_master_key(&places.next).unwrap();
        let refused = vault.rewrap(writer).await.unwrap_err();
        assert!(
            refused.code == Code::Conflict && refused.message.contains("godwit keys rotate"),
            "{}",
            refused.message
        );
        let wrapped = data_keys::wrapped(writer).await.unwrap();
        assert!(wrapped.len() == 1 && wrapped[0].master == master.id, "{wrapped:?}");

        let damaged = people.pop().unwrap().0;
        writer
            .query("UPDATE accounts SET totp = $1 WHERE id = $2")
            .bind(vec![1u8; 40])
            .bind(damaged)
            .execute()
            .await
            .unwrap();
        assert_eq!(vault.add_data_key(writer, std::slice::from_ref(&master.id)).await.unwrap(), 2);
        assert_eq!(seal_anew(&vault, writer).await, [RowId::Id(damaged)]);
        assert_eq!(older(&vault, writer).await, 1);
        assert!(!vault.retire(writer).await.unwrap());
        assert_eq!(data_keys::list(writer).await.unwrap().len(), 2);
        store::accounts::end_totp(writer, damaged).await.unwrap();
        assert!(vault.retire(writer).await.unwrap());
        assert_eq!(older(&vault, writer).await, 0);
        let left: Vec<i64> = data_keys::list(writer).await.unwrap().into_iter().map(|(key, _)| key).collect();
        assert_eq!(left, [2]);
        assert_eq!(vault.leave_to_own(writer).await.unwrap(), master.id);
        assert_eq!(vault.rewrap(writer).await.unwrap(), next);
        std::fs::rename(&places.next, &places.file).unwrap();
        assert_eq!(vault.leave_to_own(writer).await.unwrap(), next);

        let again = Vault::unlock(writer, places).await.unwrap();
        let keys = again.feed_keys(writer).await.unwrap();
        assert_eq!((keys.trusted[0], keys.number), (feed.verifying_key(), 9));
        for (id, n) in people {
            let sealed = totp(writer, id).await;
            assert_eq!(By::of(&sealed), Some(By::Data(2)));
            let opened = again.open(writer, TOTP.name, &id.to_string(), &sealed).await.unwrap();
            assert_eq!(opened.unwrap(), [n; 20]);
        }
        database.close().await.unwrap();
    }
}

/// Another process opens what is sealed with a key that was made after it began, and the master key is changed under it.
#[tokio::test]
async fn the_master_key_is_changed_with_both_readable_meanwhile() {
    for (mut database, _place) in testing::databases().await {
        begun(&mut database).await;
        let writer = &mut database.writer;
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (ours, theirs) = (places(here.path()), places(there.path()));
        let vault = Vault::unlock(writer, ours.clone()).await.unwrap();
        std::fs::copy(&ours.file, &theirs.file).unwrap();
        let other = Vault::unlock(writer, theirs.clone()).await.unwrap();
        let before = vault.own();
        let refused = vault.rewrap(writer).await.unwrap_err();
        assert!(refused.message.contains("secrets.key.next"), "{}", refused.message);
        let next = make_master_key(&ours.next).unwrap();
        assert_eq!(vault.rewrap(writer).await.unwrap(), next);
        assert_eq!(vault.rewrap(writer).await.unwrap(), next, "again is the same");
        let masters: Vec<String> = data_keys::wrapped_of(writer, 1)
            .await
            .unwrap()
            .into_iter()
            .map(|wrapped| wrapped.master)
            .collect();
        assert!(masters.len() == 2 && masters.contains(&before) && masters.contains(&next));
        // Who does not have both makes no key that the other could not open.
        let refused = other.rotate_data_key(writer).await.unwrap_err();
        assert!(refused.message.contains(&next), "{}", refused.message);
        vault.add_data_key(writer, &masters).await.unwrap();
        let sealed = vault.seal(writer, TOTP.name, "x", b"secret").await.unwrap();
        assert_eq!(other.open(writer, TOTP.name, "x", &sealed).await.unwrap().unwrap(), b"secret");
        // A start with either.
        std::fs::copy(&ours.next, &theirs.next).unwrap();
        Vault::unlock(writer, theirs.clone()).await.unwrap();
        let alone = MasterPlaces { file: ours.next.clone(), ..theirs.clone() };
        Vault::unlock(writer, alone).await.unwrap();

        let refused = vault.leave_to_own(writer).await.unwrap_err();
        assert!(
            refused.message.contains("counts here is") && refused.message.contains(&before),
            "{}",
            refused.message
        );
        std::fs::rename(&ours.next, &ours.file).unwrap();
        if writer.kind() == store::Kind::Postgres {
            let holder = Uuid::now_v7();
            other.say(writer, holder).await.unwrap();
            let refused = vault.leave_to_own(writer).await.unwrap_err();
            assert!(refused.message.contains("that runs has the master key"), "{}", refused.message);
            std::fs::rename(&theirs.next, &theirs.file).unwrap();
            other.say(writer, holder).await.unwrap();
            other.leave(writer, holder).await.unwrap();
        } else {
            std::fs::rename(&theirs.next, &theirs.file).unwrap();
        }
        assert_eq!(vault.leave_to_own(writer).await.unwrap(), next);
        let kept = data_keys::wrapped(writer).await.unwrap();
        assert!(kept.len() == 2 && kept.iter().all(|wrapped| wrapped.master == next));
        // Who has not looked since looks again.
        vault.add_data_key(writer, std::slice::from_ref(&next)).await.unwrap();
        let sealed = vault.seal(writer, TOTP.name, "x", b"secret").await.unwrap();
        assert_eq!(other.open(writer, TOTP.name, "x", &sealed).await.unwrap().unwrap(), b"secret");
        std::fs::write(&theirs.file, [7; 32]).unwrap();
        let error = Vault::unlock(writer, theirs).await.unwrap_err().to_string();
        assert!(error.contains(&next) && !error.contains(&before), "{error}");
        database.close().await.unwrap();
    }
}

/// A key is not deleted under somebody who is about to commit what is sealed with it.
#[tokio::test]
async fn no_key_is_retired_under_who_seals_with_it() {
    let (mut database, place) = testing::database(store::Kind::Postgres).await;
    begun(&mut database).await;
    let writer = &mut database.writer;
    let folder = tempfile::tempdir().unwrap();
    let vault = Vault::unlock(writer, places(folder.path())).await.unwrap();
    let id = account(writer, None).await;
    let mut other = place.connect().await;
    other.control(&[commit::begin(store::Kind::Postgres)]).await.unwrap();
    let sealed = vault.seal(&mut other, TOTP.name, &id.to_string(), b"secret").await.unwrap();
    assert_eq!(By::of(&sealed), Some(By::Data(1)));

    vault.add_data_key(writer, &[vault.own()]).await.unwrap();
    assert_eq!(seal_anew(&vault, writer).await, []);
    let committing = async {
        // Long enough for the other to have asked for the lock.
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        assert!(store::accounts::offer_totp(&mut other, id, &sealed).await.unwrap());
        other.control(&[COMMIT]).await.unwrap();
    };
    writer.control(&[commit::begin(store::Kind::Postgres)]).await.unwrap();
    let (retired, ()) = tokio::join!(vault.retire(writer), committing);
    writer.control(&[COMMIT]).await.unwrap();
    assert!(!retired.unwrap(), "a key was deleted while something was being sealed with it");
    assert_eq!(seal_anew(&vault, writer).await, []);
    assert!(vault.retire(writer).await.unwrap());
    let sealed = totp(writer, id).await;
    let opened = vault.open(writer, TOTP.name, &id.to_string(), &sealed).await.unwrap();
    assert_eq!((By::of(&sealed), opened.unwrap()), (Some(By::Data(2)), b"secret".to_vec()));
    database.close().await.unwrap();
}

/// Nor under who goes through all keys: a start, or a change of the master key.
#[tokio::test]
async fn no_key_is_retired_under_who_goes_through_all() {
    let (mut database, place) = testing::database(store::Kind::Postgres).await;
    begun(&mut database).await;
    let writer = &mut database.writer;
    let folder = tempfile::tempdir().unwrap();
    let vault = Vault::unlock(writer, places(folder.path())).await.unwrap();
    vault.add_data_key(writer, &[vault.own()]).await.unwrap();
    assert_eq!(seal_anew(&vault, writer).await, []);
    let mut other = place.connect().await;
    other.control(&[commit::begin(store::Kind::Postgres)]).await.unwrap();
    store::relay::hold(&mut other).await.unwrap();
    let keys = data_keys::list(&mut other).await.unwrap();
    assert_eq!(keys.len(), 2);
    let going_through = async {
        // Long enough for the other to have deleted one.
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        for (key, _) in keys {
            let opened = vault.data_key_octets(&mut other, key).await.unwrap();
            assert!(opened.is_some(), "data key {key} was deleted meanwhile");
        }
        other.control(&[COMMIT]).await.unwrap();
    };
    let retiring = async {
        writer.control(&[commit::begin(store::Kind::Postgres)]).await.unwrap();
        let retired = vault.retire(writer).await.unwrap();
        writer.control(&[COMMIT]).await.unwrap();
        retired
    };
    let (retired, ()) = tokio::join!(retiring, going_through);
    assert!(retired);
    assert_eq!(data_keys::list(writer).await.unwrap().len(), 1);
    database.close().await.unwrap();
}

/// However many rows do not open, a sentence names five and counts the others.
#[test]
fn rows_that_do_not_open_are_named_up_to_five() {
    let mut unopened = rotation::Unopened::default();
    assert_eq!(unopened.said(), None);
    let rows: Vec<RowId> = ["a", "b", "c", "d"].map(|name| RowId::Name(name.to_owned())).into();
    unopened.add(&SECRETS, &rows);
    assert!(
        unopened.said().unwrap().ends_with(
            ": secrets.sealed of a, secrets.sealed of b, secrets.sealed of c, secrets.sealed of d"
        )
    );
    unopened.add(&SECRETS, &rows);
    unopened.add(&SECRETS, &rows);
    let said = unopened.said().unwrap();
    assert!(said.ends_with("secrets.sealed of d, secrets.sealed of a and 7 more"), "{said}");
}

/// Of many that start at once on one database one makes the secrets, and all have the same.
#[tokio::test]
async fn many_first_starts_make_one_set() {
    let (mut database, place) = testing::database(store::Kind::Postgres).await;
    begun(&mut database).await;
    let folder = tempfile::tempdir().unwrap();
    let places = places(folder.path());
    let mut starting = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (mut connection, places) = (place.connect().await, places.clone());
        starting.spawn(async move {
            let vault = Vault::unlock(&mut connection, places).await.unwrap();
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
        let vault = Vault::unlock(writer, places(folder.path())).await.unwrap();
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

/// The second would make a key that no job seals anew with, as the first one may have seen all rows already.
#[tokio::test]
async fn two_rotations_do_not_meet() {
    for (mut database, _place) in testing::databases().await {
        begun(&mut database).await;
        let writer = &mut database.writer;
        let folder = tempfile::tempdir().unwrap();
        let vault = Vault::unlock(writer, places(folder.path())).await.unwrap();
        let rotate = async |writer: &mut Connection| {
            writer.control(&[commit::begin(writer.kind())]).await.unwrap();
            let begun = vault.rotate_data_key(writer).await;
            writer.control(&[if begun.is_ok() { COMMIT } else { ROLLBACK }]).await.unwrap();
            begun
        };
        let begun = rotate(writer).await.unwrap();
        assert_eq!(begun.key, 2);
        let refused = rotate(writer).await.unwrap_err();
        assert!(refused.message.contains("under way"), "{}", refused.message);
        assert_eq!(data_keys::newest(writer).await.unwrap(), Some(2));
        // Whoever called it off can begin anew.
        assert!(store::jobs::cancel(writer, begun.job).await.unwrap());
        assert_eq!(rotate(writer).await.unwrap().key, 3);
        database.close().await.unwrap();
    }
}
