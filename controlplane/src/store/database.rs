//! Opening the database: one connection that writes, pools that read.

use std::time::Duration;

use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::SqlitePoolOptions;

use uuid::Uuid;

use super::connection::{Connection, Kind, Pool};
use super::place::{CONNECT_TIMEOUT, Place};

/// How long somebody waits for a connection of a pool that others have.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// Folds the write-ahead log into the file.
const CHECKPOINT: &str = "PRAGMA wal_checkpoint(TRUNCATE)";
/// What makes a commit that was confirmed survive the server's end.
const DURABLE: &str = "SELECT current_setting('fsync') = 'on' AND current_setting('full_page_writes') = 'on'";

/// Statements of this file that one of them knows.
pub(super) const SQLITE_ONLY: &[&str] = &[CHECKPOINT];
pub(super) const POSTGRES_ONLY: &[&str] = &[DURABLE];

/// An open database: one connection that writes, pools that read.
#[derive(Debug)]
pub struct Database {
    /// Where it is.
    pub place: Place,
    /// The only connection that writes.
    pub writer: Connection,
    /// Connections that cannot write.
    pub readers: Pool,
    /// The same, for who reads long.
    pub exports: Pool,
    /// The same for tenants, of a role that sees rows by policies; `None` where the database has no such thing.
    pub(crate) guarded: Option<Guarded>,
}

/// Pools of a role that sees rows by policies.
#[derive(Clone, Debug)]
pub(crate) struct Guarded {
    readers: Pool,
    exports: Pool,
}

/// Connections for who asks: with an account, those that show no more than it may see.
#[derive(Clone, Debug)]
pub(crate) struct Views {
    readers: Pool,
    exports: Pool,
    guarded: Option<Guarded>,
}

impl Views {
    /// One for one statement after another.
    ///
    /// # Errors
    /// As of [`Pool::acquire`].
    pub(crate) async fn acquire(&self, account: Option<Uuid>) -> sqlx::Result<Connection> {
        match (account, &self.guarded) {
            (Some(account), Some(guarded)) => guarded.readers.acquire_for(account).await,
            _ => self.readers.acquire().await,
        }
    }

    /// One that sees one state of the database.
    ///
    /// # Errors
    /// As of [`Pool::begin`].
    pub(crate) async fn begin(&self, account: Option<Uuid>) -> sqlx::Result<Connection> {
        match (account, &self.guarded) {
            (Some(account), Some(guarded)) => guarded.readers.begin_for(account).await,
            _ => self.readers.begin().await,
        }
    }

    /// The same, for who reads long.
    ///
    /// # Errors
    /// As of [`Pool::begin`].
    pub(crate) async fn begin_long(&self, account: Option<Uuid>) -> sqlx::Result<Connection> {
        match (account, &self.guarded) {
            (Some(account), Some(guarded)) => guarded.exports.begin_for(account).await,
            _ => self.exports.begin().await,
        }
    }
}

impl Database {
    /// Opens a database and brings its schema up to date; makes a file that is not there.
    ///
    /// For a file the caller holds the lock of its folder.
    ///
    /// # Errors
    /// When it cannot be opened, is no database, or its schema is newer than this program.
    pub async fn open(place: Place, readers: u32, exports: u32) -> sqlx::Result<Database> {
        let most = readers;
        let mut writer = place.connect().await?;
        place.migrate().await?;
        if place.kind() == Kind::Postgres && !writer.query(DURABLE).fetch_value::<bool>().await? {
            tracing::warn!(
                "THE DATABASE SERVER RUNS WITH fsync OR full_page_writes OFF: what was acknowledged is lost when its \
                 machine fails"
            );
        }
        let (readers, exports, guarded) = match &place {
            Place::File(file) => {
                let read_only = Place::sqlite(file).read_only(true).create_if_missing(false);
                let pool =
                    |most| SqlitePoolOptions::new().max_connections(most).acquire_timeout(CONNECT_TIMEOUT);
                let readers = pool(readers).connect_with(read_only.clone()).await?;
                let exports = pool(exports).connect_lazy_with(read_only);
                let exports = Pool::sqlite(exports, ACQUIRE_TIMEOUT).long();
                (Pool::sqlite(readers, ACQUIRE_TIMEOUT), exports, None)
            }
            Place::Server(server) => {
                let only = [("default_transaction_read_only", "on")];
                let read_only = Place::postgres(server).options(only);
                let of_tenants = Place::guarded(server).options(only);
                let pool = |most| PgPoolOptions::new().max_connections(most).acquire_timeout(CONNECT_TIMEOUT);
                let readers = pool(readers).connect_with(read_only.clone()).await?;
                let guarded = Guarded {
                    readers: Pool::postgres(
                        pool(most).connect_lazy_with(of_tenants.clone()),
                        ACQUIRE_TIMEOUT,
                    ),
                    exports: Pool::postgres(pool(exports).connect_lazy_with(of_tenants), ACQUIRE_TIMEOUT)
                        .long(),
                };
                let exports = pool(exports).connect_lazy_with(read_only);
                let readers = Pool::postgres(readers, ACQUIRE_TIMEOUT);
                (readers, Pool::postgres(exports, ACQUIRE_TIMEOUT).long(), Some(guarded))
            }
        };
        Ok(Database { place, writer, readers, exports, guarded })
    }

    /// Connections that read, by who asks.
    pub(crate) fn views(&self) -> Views {
        let Database { readers, exports, guarded, .. } = self;
        Views { readers: readers.clone(), exports: exports.clone(), guarded: guarded.clone() }
    }

    /// Closes both sides; the readers first, so that the writer can fold the write-ahead log into the file.
    ///
    /// # Errors
    /// When the last write to the file fails. What was committed is safe in the log all the same.
    pub async fn close(mut self) -> sqlx::Result<()> {
        if let Some(guarded) = &self.guarded {
            guarded.exports.close().await;
            guarded.readers.close().await;
        }
        self.exports.close().await;
        self.readers.close().await;
        if self.writer.kind() == Kind::Sqlite {
            // Closing does so too, but only where the threads of all readers have ended by then: said aloud, the file alone
            // is the whole database, also for who copies it.
            self.writer.query(CHECKPOINT).execute().await?;
        }
        self.writer.close().await
    }
}
