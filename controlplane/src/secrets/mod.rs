//! The keys that all control planes of one database share, kept in it and sealed: with the database alone, or a copy of it,
//! nobody can sign a change or pass for the control plane. What they are sealed with is in a file: [`sealing`].
//!
//! | name | what it is |
//! |---|---|
//! | `feed_key` | the seed of the Ed25519 key that signs the feed |
//! | `feed_key_next` | that of the key after it, which data planes know already |
//! | `internal_key` | the key pair of the internal listener's certificate (PKCS #8) |
//! | `issuer_key` | the key pair that signs tokens of who has logged in (P-256, PKCS #8) |
//! | `refresh_key` | what makes refresh tokens, and knows them again |
//! | `audit_key` | what the audit log is chained with |
//!
//! What belongs to one row of another table is sealed there, bound to table, column and row ([`Vault::seal_row`]).

pub(crate) mod sealing;

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use godwit_wire::feed::{SigningKey, VerifyingKey};
use uuid::Uuid;

use crate::audit::ChainKey;
use crate::commit::{self, COMMIT, ROLLBACK};
use crate::store::{self, Connection, audit, damaged, nodes, now_us};
use sealing::SealingKey;

const FEED_KEY: &str = "feed_key";
const FEED_KEY_NEXT: &str = "feed_key_next";
const INTERNAL_KEY: &str = "internal_key";
const ISSUER_KEY: &str = "issuer_key";
const REFRESH_KEY: &str = "refresh_key";
const AUDIT_KEY: &str = "audit_key";
/// The most nodes that a sentence names.
const MOST_NAMED: usize = 5;

/// The secrets of an open database.
#[derive(Debug)]
pub(crate) struct Vault {
    sealing: SealingKey,
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
    /// Opens the secrets of a database with the key in a file; both are made where there were none. Of several control planes
    /// that start at once one makes them.
    ///
    /// # Errors
    /// When the database has secrets and the file is not there or does not open them, or of either.
    pub(crate) async fn open(connection: &mut Connection, file: &Path) -> anyhow::Result<Vault> {
        connection.control(&[commit::begin(connection.kind())]).await?;
        let opened = Vault::open_held(connection, file).await;
        let end = if opened.is_ok() { COMMIT } else { ROLLBACK };
        connection.control(&[end]).await?;
        opened
    }

    async fn open_held(connection: &mut Connection, file: &Path) -> anyhow::Result<Vault> {
        // Others that start at once wait here.
        store::relay::hold(connection).await?;
        let mut kept = Vec::new();
        let mut missing = Vec::new();
        for name in [FEED_KEY, FEED_KEY_NEXT, INTERNAL_KEY, ISSUER_KEY, REFRESH_KEY, AUDIT_KEY] {
            match store::secrets::read(connection, name).await? {
                Some(sealed) => kept.push((name, sealed)),
                None => missing.push(name),
            }
        }
        let there = SealingKey::read(file)?;
        let sealing = match there {
            Some(sealing) => sealing,
            // On disk before anything is sealed with it.
            None if kept.is_empty() => SealingKey::make(file)?,
            None => return Err(not_opened(file, "is not there")),
        };
        let opens = |(name, sealed): &(&str, Vec<u8>)| sealing.open(name, sealed).is_some();
        if !kept.iter().all(opens) {
            return Err(not_opened(file, "is the key of others"));
        }
        for name in missing {
            let secret = match name {
                // Both on P-256.
                INTERNAL_KEY | ISSUER_KEY => {
                    rcgen::KeyPair::generate().context("a key pair")?.serialize_der()
                }
                _ => sealing::random::<32>()?.to_vec(),
            };
            store::secrets::write(connection, name, &sealing.seal(name, &secret)?, now_us()).await?;
        }
        Ok(Vault { sealing })
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
        let signing = self.signing_key(FEED_KEY, &signing)?;
        let next = self.signing_key(FEED_KEY_NEXT, &next)?;
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
    /// When the file is not there or does not open it, or of the database.
    pub(crate) async fn audit_key_of(
        connection: &mut Connection,
        file: &Path,
    ) -> anyhow::Result<Option<ChainKey>> {
        let Some(sealed) = store::secrets::read(connection, AUDIT_KEY).await? else { return Ok(None) };
        let sealing = SealingKey::read(file)?.ok_or_else(|| not_opened(file, "is not there"))?;
        let opened = sealing.open(AUDIT_KEY, &sealed);
        Ok(Some(ChainKey::of(&opened.ok_or_else(|| not_opened(file, "is the key of others"))?)))
    }

    /// Seals what stands in a column of one row: in another row, or another column, it does not open.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub(crate) fn seal_row(&self, column: &str, row: Uuid, secret: &[u8]) -> anyhow::Result<Vec<u8>> {
        self.sealing.seal(&format!("{column} {row}"), secret)
    }

    /// Opens what was sealed for this column of this row.
    pub(crate) fn open_row(&self, column: &str, row: Uuid, sealed: &[u8]) -> Option<Vec<u8>> {
        self.sealing.open(&format!("{column} {row}"), sealed)
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
        store::secrets::write(connection, FEED_KEY, &self.sealing.seal(FEED_KEY, &next)?, now).await?;
        let sealed = self.sealing.seal(FEED_KEY_NEXT, &after_it)?;
        store::secrets::write(connection, FEED_KEY_NEXT, &sealed, now).await?;
        audit::note(connection, &audit::Who::local(), "feed_key.rotate", FEED_KEY).await?;
        Ok(())
    }

    fn signing_key(&self, name: &'static str, sealed: &[u8]) -> sqlx::Result<SigningKey> {
        let seed = self.sealing.open(name, sealed).ok_or_else(|| damaged("secrets", name))?;
        let seed: [u8; 32] = seed.try_into().map_err(|_| damaged("secrets", name))?;
        SigningKey::from_seed(&seed).map_err(|_| damaged("secrets", name))
    }

    async fn secret(&self, connection: &mut Connection, name: &'static str) -> sqlx::Result<Vec<u8>> {
        let sealed = store::secrets::read(connection, name).await?;
        let opened = sealed.and_then(|sealed| self.sealing.open(name, &sealed));
        opened.ok_or_else(|| damaged("secrets", name))
    }
}

fn not_opened(file: &Path, why: &str) -> anyhow::Error {
    anyhow::anyhow!(
        "the database has secrets that cannot be opened: {} {why}; copy secrets.key from the data folder of the control \
         plane that made them",
        file.display()
    )
}

#[cfg(test)]
mod tests;
