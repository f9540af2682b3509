//! The keys that all control planes of one database share, kept in it and sealed: with the database alone, or a copy of it,
//! nobody can sign a change or pass for the control plane.
//!
//! | name | what it is |
//! |---|---|
//! | `feed_key` | the seed of the Ed25519 key that signs the feed |
//! | `feed_key_next` | that of the key after it, which data planes know already |
//! | `internal_key` | the key pair of the internal listener's certificate (PKCS #8) |
//! | `issuer_key` | the key pair that signs tokens of who has logged in (P-256, PKCS #8) |
//! | `refresh_key` | what makes refresh tokens and the cookies of sessions, and knows them again |
//! | `audit_key` | what the audit log is chained with |
//!
//! What belongs to one row of another table is sealed there. All of it is sealed with a data key, and that with a master key:
//!
//! - `sealing`: how;
//! - `masters`: what is never in the database;
//! - `rotation`: other data keys and other master keys while control planes run.

pub(crate) mod masters;
pub(crate) mod rotation;
pub(crate) mod sealing;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use anyhow::Context as _;
use godwit_wire::feed::{SigningKey, VerifyingKey};
use uuid::Uuid;

use crate::audit::ChainKey;
use crate::commit::{self, COMMIT, ROLLBACK};
use crate::store::data_keys::{self, SECRETS};
use crate::store::{self, Connection, audit, damaged, nodes, now_us};
pub(crate) use masters::MasterPlaces;
pub use masters::make_master_key;
use masters::{Master, Masters};
use rotation::place_of;
use sealing::{By, OCTETS, SealingKey};

const FEED_KEY: &str = "feed_key";
const FEED_KEY_NEXT: &str = "feed_key_next";
const INTERNAL_KEY: &str = "internal_key";
const ISSUER_KEY: &str = "issuer_key";
const REFRESH_KEY: &str = "refresh_key";
const AUDIT_KEY: &str = "audit_key";
const NAMES: [&str; 6] = [FEED_KEY, FEED_KEY_NEXT, INTERNAL_KEY, ISSUER_KEY, REFRESH_KEY, AUDIT_KEY];
/// The most nodes that a sentence names.
const MOST_NAMED: usize = 5;
/// What a control plane said of its master key is forgotten after a day.
const FORGOTTEN_US: i64 = 86_400_000_000;

/// The secrets of an open database.
#[derive(Debug)]
pub(crate) struct Vault {
    places: MasterPlaces,
    masters: RwLock<Masters>,
    /// Data keys that were opened. Another process may have made more: they are looked up when something is sealed with one.
    keys: RwLock<BTreeMap<i64, Arc<SealingKey>>>,
}

/// What the feed is signed with.
#[derive(Clone, Debug)]
pub(crate) struct FeedKeys {
    /// Signs.
    pub(crate) signing: Arc<SigningKey>,
    /// What data planes are given: the key that signs, and the next.
    pub(crate) trusted: [VerifyingKey; 2],
    /// Rises with every rotation: the time of the last, in microseconds since the epoch.
    pub(crate) number: u64,
}

impl Vault {
    /// Opens the secrets of a database with a master key; both are made where there were none. Of several control planes
    /// that start at once one makes them.
    ///
    /// # Errors
    /// When the database has secrets and the master key is not there or does not open them, or of either.
    pub(crate) async fn unlock(connection: &mut Connection, places: MasterPlaces) -> anyhow::Result<Vault> {
        connection.control(&[commit::begin(connection.kind())]).await?;
        let opened = Vault::open_held(connection, places).await;
        let end = if opened.is_ok() { COMMIT } else { ROLLBACK };
        connection.control(&[end]).await?;
        opened
    }

    async fn open_held(connection: &mut Connection, places: MasterPlaces) -> anyhow::Result<Vault> {
        // Others that start at once wait here.
        store::relay::hold(connection).await?;
        let mut kept = Vec::new();
        let mut missing = Vec::new();
        for name in NAMES {
            match store::secrets::read(connection, name).await? {
                Some(sealed) => kept.push((name, sealed)),
                None => missing.push(name),
            }
        }
        let wrapped = data_keys::wrapped(connection).await?;
        let mut masters = Masters::read(&places)?;
        masters.say_what_failed(None);
        if masters.own.is_none() && masters.next.is_none() {
            if !kept.is_empty() || !wrapped.is_empty() {
                return Err(not_opened(&places, "is not there", &wrapped));
            }
            // On disk before anything is sealed with it.
            masters.own = Some(Master::make(&places.file)?);
        }
        let vault = Vault { places, masters: RwLock::new(masters), keys: RwLock::default() };
        if wrapped.is_empty() {
            vault.begin(connection, &kept).await?;
        }
        for wrapped in &wrapped {
            if vault.data_key(connection, wrapped.key).await?.is_none() {
                let why = match vault.masters().own.as_ref() {
                    Some(own) => format!("has the key {}", own.id),
                    None => "is not there".to_owned(),
                };
                let of_it = data_keys::wrapped_of(connection, wrapped.key).await?;
                return Err(not_opened(&vault.places, &why, &of_it));
            }
        }
        for (name, sealed) in &kept {
            if vault.open(connection, SECRETS.name, name, sealed).await?.is_none() {
                anyhow::bail!("the secret {name} of the database does not open: it is damaged");
            }
        }
        for name in missing {
            let secret = match name {
                // Both on P-256.
                INTERNAL_KEY | ISSUER_KEY => {
                    rcgen::KeyPair::generate().context("a key pair")?.serialize_der()
                }
                _ => sealing::random::<32>()?.to_vec(),
            };
            let sealed = vault.seal(connection, SECRETS.name, name, &secret).await?;
            store::secrets::write(connection, name, &sealed, now_us()).await?;
        }
        Ok(vault)
    }

    /// Makes the first data key: of a new database, or of one whose secrets are sealed with the master key itself, by a version
    /// that knew no data keys.
    async fn begin(&self, connection: &mut Connection, kept: &[(&str, Vec<u8>)]) -> anyhow::Result<()> {
        let own = {
            let held = self.masters();
            let first = held.all().next().context("there is no master key")?;
            let opens = |(name, sealed): &(&str, Vec<u8>)| first.key.open(name, sealed).is_some();
            if !kept.iter().all(opens) {
                return Err(not_opened(&self.places, "is the key of others", &[]));
            }
            first.id.clone()
        };
        self.add_data_key(connection, &[own]).await?;
        Ok(())
    }

    fn masters(&self) -> RwLockReadGuard<'_, Masters> {
        self.masters.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks whether there are other master keys now. Where that cannot be found out, it goes on with those of before.
    fn look_again(&self) {
        match Masters::read(&self.places) {
            // Whoever takes both away has those that are in use still.
            Ok(found) if found.own.is_none() && found.next.is_none() => {}
            Ok(found) => {
                let mut held = self.masters.write().unwrap_or_else(PoisonError::into_inner);
                let id = |master: &Option<Master>| master.as_ref().map(|master| master.id.clone());
                if id(&held.own) != id(&found.own) {
                    tracing::info!(master = id(&found.own), "another master key counts from now on");
                }
                found.say_what_failed(held.next_failed.as_deref());
                *held = found;
            }
            Err(error) => tracing::error!(error = format!("{error:#}"), "a master key could not be read"),
        }
    }

    /// Says to the other control planes of the database which master key is here. For a connection of PostgreSQL.
    ///
    /// # Errors
    /// Of the database.
    pub(crate) async fn say(&self, connection: &mut Connection, ours: Uuid) -> sqlx::Result<()> {
        self.look_again();
        let own = self.masters().own.as_ref().map(|own| own.id.clone());
        data_keys::say(connection, ours, &own.unwrap_or_default()).await
    }

    /// Says that there is none here any more.
    ///
    /// # Errors
    /// Of the database.
    pub(crate) async fn leave(&self, connection: &mut Connection, ours: Uuid) -> sqlx::Result<()> {
        data_keys::leave(connection, ours, FORGOTTEN_US).await
    }

    /// A data key; `None` where no master key that is here opens it.
    async fn data_key(&self, connection: &mut Connection, key: i64) -> sqlx::Result<Option<Arc<SealingKey>>> {
        if let Some(known) = self.keys.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(Some(known.clone()));
        }
        let Some(octets) = self.data_key_octets(connection, key).await? else { return Ok(None) };
        let opened = Arc::new(SealingKey::of(&octets));
        self.keys.write().unwrap_or_else(PoisonError::into_inner).insert(key, opened.clone());
        Ok(Some(opened))
    }

    async fn data_key_octets(
        &self,
        connection: &mut Connection,
        key: i64,
    ) -> sqlx::Result<Option<[u8; OCTETS]>> {
        let wrapped = data_keys::wrapped_of(connection, key).await?;
        let open = || {
            let held = self.masters();
            wrapped.iter().find_map(|wrapped| {
                let master = held.get(&wrapped.master)?;
                let octets = master.key.open(&place_of(key, &wrapped.master), &wrapped.sealed)?;
                octets.try_into().ok()
            })
        };
        if let Some(octets) = open() {
            return Ok(Some(octets));
        }
        // They may have been changed a moment ago.
        self.look_again();
        let opened = open();
        if opened.is_none() {
            let expected: Vec<&str> = wrapped.iter().map(|wrapped| wrapped.master.as_str()).collect();
            tracing::error!(
                key,
                master = expected.join(" or "),
                "a data key cannot be opened: its master key is not here"
            );
        }
        Ok(opened)
    }

    /// Seals what stands in a column (`table.column`) of one row, in the transaction that writes it there: in another row, or
    /// another column, it does not open.
    ///
    /// # Errors
    /// Of the database, or when the system has no random numbers.
    pub(crate) async fn seal(
        &self,
        connection: &mut Connection,
        column: &str,
        row: &str,
        secret: &[u8],
    ) -> sqlx::Result<Vec<u8>> {
        let (newest, key) = self.sealing_key(connection).await?;
        key.seal(By::Data(newest), &format!("{column} {row}"), secret).map_err(not_sealed)
    }

    /// The data key that seals, which stays until the transaction ends, with its number.
    async fn sealing_key(&self, connection: &mut Connection) -> sqlx::Result<(i64, Arc<SealingKey>)> {
        let newest = data_keys::newest_held(connection).await?;
        let newest = newest.ok_or_else(|| damaged("data_keys", "the newest"))?;
        let key = self.data_key(connection, newest).await?;
        Ok((newest, key.ok_or_else(|| damaged("wrapped_keys", "sealed"))?))
    }

    /// Opens what was sealed for this column of this row; `None` when it was not.
    ///
    /// # Errors
    /// Of the database.
    pub(crate) async fn open(
        &self,
        connection: &mut Connection,
        column: &str,
        row: &str,
        sealed: &[u8],
    ) -> sqlx::Result<Option<Vec<u8>>> {
        let place = format!("{column} {row}");
        match By::of(sealed) {
            Some(By::Data(key)) => {
                let key = self.data_key(connection, key).await?;
                Ok(key.and_then(|key| key.open(&place, sealed)))
            }
            Some(By::Master) => {
                // These were bound to their name alone.
                let place = if column == SECRETS.name { row } else { &place };
                Ok(self.masters().all().find_map(|master| master.key.open(place, sealed)))
            }
            None => Ok(None),
        }
    }

    /// What the feed is signed with from now on.
    ///
    /// # Errors
    /// Of the database, also when what it has cannot be opened.
    pub(crate) async fn feed_keys(&self, connection: &mut Connection) -> sqlx::Result<FeedKeys> {
        // Both of one moment: a rotation between two readings would pair keys that never were a pair.
        let [signing, next] = store::secrets::read_two(connection, [FEED_KEY, FEED_KEY_NEXT]).await?;
        let (signing, _) = signing.ok_or_else(|| damaged("secrets", FEED_KEY))?;
        let (next, made_at_us) = next.ok_or_else(|| damaged("secrets", FEED_KEY_NEXT))?;
        let signing = self.signing_key(connection, FEED_KEY, &signing).await?;
        let next = self.signing_key(connection, FEED_KEY_NEXT, &next).await?;
        let trusted = [signing.verifying_key(), next.verifying_key()];
        let number = u64::try_from(made_at_us).map_err(|_| damaged("secrets", FEED_KEY_NEXT))?;
        Ok(FeedKeys { signing: Arc::new(signing), trusted, number })
    }

    /// The key pair of the internal listener (PKCS #8).
    ///
    /// # Errors
    /// Of the database, also when what it has cannot be opened.
    pub(crate) async fn internal_key(&self, connection: &mut Connection) -> sqlx::Result<Vec<u8>> {
        self.secret(connection, INTERNAL_KEY).await
    }

    /// The key pair that signs tokens of who has logged in (PKCS #8).
    ///
    /// # Errors
    /// Of the database, also when what it has cannot be opened.
    pub(crate) async fn issuer_key(&self, connection: &mut Connection) -> sqlx::Result<Vec<u8>> {
        self.secret(connection, ISSUER_KEY).await
    }

    /// What makes refresh tokens.
    ///
    /// # Errors
    /// Of the database, also when what it has cannot be opened.
    pub(crate) async fn refresh_key(&self, connection: &mut Connection) -> sqlx::Result<Vec<u8>> {
        self.secret(connection, REFRESH_KEY).await
    }

    /// What the audit log is chained with.
    ///
    /// # Errors
    /// Of the database, also when what it has cannot be opened.
    pub(crate) async fn audit_key(&self, connection: &mut Connection) -> sqlx::Result<ChainKey> {
        Ok(ChainKey::of(&self.secret(connection, AUDIT_KEY).await?))
    }

    /// The same for who only reads; `None` where nothing was ever chained.
    ///
    /// # Errors
    /// When no master key that is there opens it, or of the database.
    pub(crate) async fn audit_key_of(
        connection: &mut Connection,
        places: MasterPlaces,
    ) -> anyhow::Result<Option<ChainKey>> {
        let Some(sealed) = store::secrets::read(connection, AUDIT_KEY).await? else { return Ok(None) };
        let masters = Masters::read(&places)?;
        let wrapped = data_keys::wrapped(connection).await?;
        if masters.own.is_none() && masters.next.is_none() {
            return Err(not_opened(&places, "is not there", &wrapped));
        }
        let vault = Vault { places, masters: RwLock::new(masters), keys: RwLock::default() };
        let opened = vault.open(connection, SECRETS.name, AUDIT_KEY, &sealed).await?;
        let opened = opened.ok_or_else(|| not_opened(&vault.places, "is the key of others", &wrapped))?;
        Ok(Some(ChainKey::of(&opened)))
    }

    /// Makes the next key the one that signs, and another the next. Refused while a node does not know the key that would
    /// sign then: it would refuse everything from there on. It knows the two that it was given when it was added, and those
    /// that it has said since to have learned.
    ///
    /// # Errors
    /// When it is refused, or of the database.
    pub(crate) async fn rotate(&self, connection: &mut Connection) -> anyhow::Result<()> {
        connection.control(&[commit::begin(connection.kind())]).await?;
        let rotated = self.rotate_held(connection).await;
        let end = if rotated.is_ok() { COMMIT } else { ROLLBACK };
        connection.control(&[end]).await?;
        rotated
    }

    async fn rotate_held(&self, connection: &mut Connection) -> anyhow::Result<()> {
        store::relay::hold(connection).await?;
        let next = self.secret(connection, FEED_KEY_NEXT).await?;
        let before = self.feed_keys(connection).await?;
        let signs_then = before.trusted[1];
        let mut unaware: Vec<String> = nodes::list(connection)
            .await?
            .into_iter()
            .filter(|node| node.last_key != signs_then.0)
            .map(|node| node.name)
            .collect();
        if !unaware.is_empty() {
            let more = unaware.len().saturating_sub(MOST_NAMED);
            unaware.truncate(MOST_NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            anyhow::bail!(
                "nodes that have not said that they know the next key would refuse what is signed with it: {}{more}; wait until \
                 they live and have learned it (some seconds after the last rotation), or remove them and add them again",
                unaware.join(", ")
            );
        }
        // Whatever the clock says: nodes take what has the higher number.
        let now = now_us().max(i64::try_from(before.number).unwrap_or(i64::MAX).saturating_add(1));
        let after_it = sealing::random::<32>()?;
        let sealed = self.seal(connection, SECRETS.name, FEED_KEY, &next).await?;
        store::secrets::write(connection, FEED_KEY, &sealed, now).await?;
        let sealed = self.seal(connection, SECRETS.name, FEED_KEY_NEXT, &after_it).await?;
        store::secrets::write(connection, FEED_KEY_NEXT, &sealed, now).await?;
        audit::note(connection, &audit::Who::local(), "feed_key.rotate", FEED_KEY).await?;
        Ok(())
    }

    async fn signing_key(
        &self,
        connection: &mut Connection,
        name: &'static str,
        sealed: &[u8],
    ) -> sqlx::Result<SigningKey> {
        let seed = self.open(connection, SECRETS.name, name, sealed).await?;
        let seed: Option<[u8; 32]> = seed.and_then(|seed| seed.try_into().ok());
        let seed = seed.ok_or_else(|| damaged("secrets", name))?;
        SigningKey::from_seed(&seed).map_err(|_| damaged("secrets", name))
    }

    async fn secret(&self, connection: &mut Connection, name: &'static str) -> sqlx::Result<Vec<u8>> {
        let sealed = store::secrets::read(connection, name).await?.ok_or_else(|| damaged("secrets", name))?;
        let opened = self.open(connection, SECRETS.name, name, &sealed).await?;
        opened.ok_or_else(|| damaged("secrets", name))
    }
}

/// The system has no random numbers.
fn not_sealed(error: anyhow::Error) -> sqlx::Error {
    sqlx::Error::Encode(error.into())
}

fn not_opened(places: &MasterPlaces, why: &str, wrapped: &[data_keys::Wrapped]) -> anyhow::Error {
    let mut expected: Vec<&str> = wrapped.iter().map(|wrapped| wrapped.master.as_str()).collect();
    expected.sort_unstable();
    expected.dedup();
    let with = match expected.as_slice() {
        [] => String::new(),
        ids => format!(", as they are sealed with the master key {}", ids.join(" or ")),
    };
    let remedy = match places.given {
        Some(_) => "set it to the key of the control plane that made them",
        None => "copy secrets.key from the data folder of the control plane that made them",
    };
    let at = places.told();
    anyhow::anyhow!("the database has secrets that cannot be opened{with}: {at} {why}; {remedy}")
}

#[cfg(test)]
mod tests;
