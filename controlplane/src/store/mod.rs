//! The database: how it is opened, and the SQL, one file per table.
//!
//! Statements are constants in the dialect that SQLite and PostgreSQL share (`$1`, `ON CONFLICT`, times as integers);
//! [`statements`] lists them all, and a test prepares each. Functions here take a connection or a transaction of the
//! caller and open none: where a transaction starts and ends is decided in `commit/`. What is only written is put into a
//! [`batch`].

pub mod audit;
pub mod batch;
pub mod changes;
pub mod history;
pub mod idempotency;
pub mod relay;
pub mod rrsets;
pub mod sets;
pub mod tokens;
pub mod zones;

use std::path::Path;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection as _};

/// The connection that statements run on.
pub type Connection = sqlx::SqliteConnection;

/// The schema, in steps.
static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/sqlite");

/// How long a statement waits for a lock that another process holds. Inside the process there is one writer, so
/// this is for tools that have the file open.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Folds the write-ahead log into the file.
const CHECKPOINT: &str = "PRAGMA wal_checkpoint(TRUNCATE)";

/// How long somebody waits for a connection of a pool.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// An open database: one connection that writes, pools that read.
#[derive(Debug)]
pub struct Database {
    /// The only connection that writes.
    pub writer: Connection,
    /// Connections that cannot write.
    pub readers: SqlitePool,
    /// The same, for who reads long.
    pub exports: SqlitePool,
}

/// Why a row could not be read as what it must be.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{table}: {what} is damaged")]
pub struct Damaged {
    /// Table of the row.
    pub table: &'static str,
    /// Column, or what it holds.
    pub what: &'static str,
}

/// Wraps [`Damaged`] as the error of a read.
pub(crate) fn damaged(table: &'static str, what: &'static str) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(Damaged { table, what }))
}

impl Database {
    /// Opens the database file, makes it when it is not there, and brings its schema up to date.
    ///
    /// The caller holds the lock of the data folder: it keeps two processes from migrating at once.
    ///
    /// # Errors
    /// When the file cannot be opened, is no database, or its schema is newer than this program.
    pub async fn open(file: &Path, readers: u32, exports: u32) -> Result<Database, sqlx::Error> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // NORMAL would acknowledge before the disk has it.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .optimize_on_close(true, None)
            .disable_statement_logging();
        let mut writer = options.clone().connect().await?;
        MIGRATIONS
            .run_direct(None, &mut writer, false)
            .await
            .map_err(|error| sqlx::Error::Migrate(Box::new(error)))?;
        let read_only = options.read_only(true).create_if_missing(false);
        let pool = |most| SqlitePoolOptions::new().max_connections(most).acquire_timeout(ACQUIRE_TIMEOUT);
        let readers = pool(readers).connect_with(read_only.clone()).await?;
        let exports = pool(exports).connect_lazy_with(read_only);
        Ok(Database { writer, readers, exports })
    }

    /// Closes both sides; the readers first, so that the writer can fold the write-ahead log into the file.
    ///
    /// # Errors
    /// When the last write to the file fails. What was committed is safe in the log all the same.
    pub async fn close(mut self) -> Result<(), sqlx::Error> {
        self.exports.close().await;
        self.readers.close().await;
        // Closing does so too, but only where the threads of all readers have ended by then: said aloud, the file alone
        // is the whole database, also for who copies it.
        sqlx::query(CHECKPOINT).execute(&mut self.writer).await?;
        self.writer.close().await
    }
}

/// Every statement there is.
#[must_use]
pub fn statements() -> Vec<&'static str> {
    [
        audit::ALL,
        changes::ALL,
        history::ALL,
        idempotency::ALL,
        relay::ALL,
        rrsets::ALL,
        &rrsets::composed(),
        tokens::ALL,
        zones::ALL,
        crate::commit::TRANSACTION_STATEMENTS,
    ]
    .concat()
}

/// Microseconds since the epoch, from the clock.
#[must_use]
pub fn now_us() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::Executor as _;

    #[tokio::test]
    async fn every_statement_is_understood_by_the_database() {
        let folder = tempfile::tempdir().unwrap();
        let mut database = Database::open(&folder.path().join("t.sqlite"), 1, 1).await.unwrap();
        let statements = statements();
        assert!(statements.len() > 30);
        for statement in statements {
            if let Err(error) = database.writer.prepare(sqlx::SqlStr::from_static(statement)).await {
                panic!("{statement}: {error}");
            }
        }
        database.close().await.unwrap();
    }

    #[tokio::test]
    async fn acknowledged_means_synced_and_readers_cannot_write() {
        let folder = tempfile::tempdir().unwrap();
        let mut database = Database::open(&folder.path().join("t.sqlite"), 1, 1).await.unwrap();
        let synchronous: i64 =
            sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut database.writer).await.unwrap();
        assert_eq!(synchronous, 2, "FULL");
        let journal: String =
            sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut database.writer).await.unwrap();
        assert_eq!(journal, "wal");
        let keys: i64 =
            sqlx::query_scalar("PRAGMA foreign_keys").fetch_one(&mut database.writer).await.unwrap();
        assert_eq!(keys, 1);
        let written = sqlx::query("DELETE FROM zones").execute(&database.readers).await;
        assert!(written.is_err());
        database.close().await.unwrap();
    }

    #[tokio::test]
    async fn migrations_run_once_and_a_second_start_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("t.sqlite");
        let mut schemas = Vec::new();
        for _ in 0..2 {
            let mut database = Database::open(&file, 1, 1).await.unwrap();
            let schema: Vec<String> =
                sqlx::query_scalar("SELECT coalesce(sql, '') FROM sqlite_master WHERE name NOT LIKE 'sqlite_stat%' ORDER BY name")
                    .fetch_all(&mut database.writer)
                    .await
                    .unwrap();
            schemas.push(schema);
            database.close().await.unwrap();
        }
        assert_eq!(schemas[0], schemas[1]);
    }
}
