//! Opening the database: where it is, its schema, and who may use it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _};

use super::connection::{Connection, Kind, Pool, STATEMENT_LIMIT};

/// The schema, in steps: the same numbers and names for both.
static SQLITE: Migrator = sqlx::migrate!("../migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("../migrations/postgres");

/// How long a statement waits for a lock that another process holds. Inside the process there is one writer, so
/// this is for tools that have the database open.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a server may take to let us in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long somebody waits for a connection of a pool that others have.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a start waits for the session of one that ended just now to be forgotten by the server.
const SEAT_TIMEOUT: Duration = Duration::from_secs(5);
const SEAT_AGAIN: Duration = Duration::from_millis(100);

/// Folds the write-ahead log into the file.
const CHECKPOINT: &str = "PRAGMA wal_checkpoint(TRUNCATE)";
/// The right to write to a database of a server, held by the session of the writer: "godwit" as a number.
const TAKE_SEAT: &str = "SELECT pg_try_advisory_lock(113741857515892)";
/// What makes a commit that was confirmed survive the server's end.
const DURABLE: &str = "SELECT current_setting('fsync') = 'on' AND current_setting('full_page_writes') = 'on'";

/// Which steps of the schema were applied, as the library keeps it, where it has done so before.
const STEPS: &str = "SELECT version FROM _sqlx_migrations WHERE success ORDER BY version";
const HAS_STEPS_SQLITE: &str =
    "SELECT count(*) > 0 FROM sqlite_master WHERE type = 'table' AND name = '_sqlx_migrations'";
const HAS_STEPS_POSTGRES: &str = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL";

/// Statements of this file, that both know and that one knows.
pub(super) const ALL: &[&str] = &[STEPS];
pub(super) const SQLITE_ONLY: &[&str] = &[CHECKPOINT, HAS_STEPS_SQLITE];
pub(super) const POSTGRES_ONLY: &[&str] = &[TAKE_SEAT, DURABLE, HAS_STEPS_POSTGRES];

/// Where a database is.
#[derive(Clone, Debug)]
pub enum Place {
    /// An SQLite file.
    File(PathBuf),
    /// A database of a PostgreSQL server.
    Server(Box<PgConnectOptions>),
}

/// Why a database cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// What the database said, or that it said nothing.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// One control plane at a time.
    #[error("in use by another control plane")]
    InUse,
}

/// Without secrets.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File(file) => file.display().fmt(f),
            Place::Server(server) => {
                let database = server.get_database().unwrap_or_else(|| server.get_username());
                let host =
                    server.get_socket().map_or(server.get_host().into(), |path| path.to_string_lossy());
                write!(f, "{database} at {host}, port {}", server.get_port())
            }
        }
    }
}

impl Place {
    /// Reads `postgres://user:password@host:port/database`.
    ///
    /// # Errors
    /// What is wrong with it, without the text: it may hold a password.
    pub fn of_url(url: &str) -> Result<Place, &'static str> {
        let expected = "a URL like postgres://user@host:5432/database";
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(expected);
        }
        if url.contains("?password=") || url.contains("&password=") {
            return Err("the password before the @");
        }
        url.parse().map(|options| Place::Server(Box::new(options))).map_err(|_| expected)
    }

    /// Which kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Place::File(_) => Kind::Sqlite,
            Place::Server(_) => Kind::Postgres,
        }
    }

    fn sqlite(file: &std::path::Path) -> SqliteConnectOptions {
        SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // NORMAL would acknowledge before the disk has it.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .optimize_on_close(true, None)
            .disable_statement_logging()
    }

    fn postgres(server: &PgConnectOptions) -> PgConnectOptions {
        let limit_ms = STATEMENT_LIMIT.as_millis().to_string();
        let lock_ms = BUSY_TIMEOUT.as_millis().to_string();
        server
            .clone()
            .application_name("godwit")
            // Whatever the server or the role says: confirmed is on disk.
            .options([
                ("synchronous_commit", "on"),
                ("statement_timeout", limit_ms.as_str()),
                ("lock_timeout", lock_ms.as_str()),
                ("idle_in_transaction_session_timeout", "0"),
            ])
            .disable_statement_logging()
    }

    /// A connection that may write.
    ///
    /// # Errors
    /// When there is none to be had.
    pub async fn connect(&self) -> sqlx::Result<Connection> {
        match self {
            Place::File(file) => Ok(Place::sqlite(file).connect().await?.into()),
            Place::Server(server) => Ok(connected(Place::postgres(server)).await?.into()),
        }
    }

    /// The connection of the only writer: to a server it holds the seat that no second control plane gets.
    ///
    /// # Errors
    /// When there is none to be had, or another control plane has the seat.
    pub async fn connect_writer(&self) -> Result<Connection, OpenError> {
        let mut connection = self.connect().await?;
        if self.kind() == Kind::Postgres {
            let deadline = tokio::time::Instant::now() + SEAT_TIMEOUT;
            while !connection.query(TAKE_SEAT).fetch_value::<bool>().await? {
                if tokio::time::Instant::now() >= deadline {
                    return Err(OpenError::InUse);
                }
                tokio::time::sleep(SEAT_AGAIN).await;
            }
        }
        Ok(connection)
    }

    /// Brings the schema up to date. To a server any number may come at once: one does it, the others wait.
    ///
    /// For a file the caller holds the lock of its folder.
    ///
    /// # Errors
    /// When the database cannot be had, or its schema is newer than this program.
    pub async fn migrate(&self) -> sqlx::Result<()> {
        let migrated = match self {
            Place::File(file) => {
                let mut connection = Place::sqlite(file).connect().await?;
                let migrated = SQLITE.run_direct(None, &mut connection, false).await;
                connection.close().await?;
                migrated
            }
            // Under a lock of the server's, which the library takes.
            Place::Server(server) => {
                // A step may take long, and so may the wait for somebody else's.
                let unlimited = [("statement_timeout", "0"), ("lock_timeout", "0")];
                let mut connection = connected(Place::postgres(server).options(unlimited)).await?;
                let migrated = POSTGRES.run_direct(None, &mut connection, false).await;
                connection.close().await?;
                migrated
            }
        };
        migrated.map_err(|error| sqlx::Error::Migrate(Box::new(error)))
    }
}

/// A server that does not let us in is not waited for for ever.
async fn connected(options: PgConnectOptions) -> sqlx::Result<PgConnection> {
    let silent = |_| sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
    tokio::time::timeout(CONNECT_TIMEOUT, options.connect()).await.map_err(silent)?
}

/// A URL as it may be shown: without its password.
#[must_use]
pub fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let Some((user, host)) = authority.rsplit_once('@') else { return url.to_owned() };
    let user = user.split(':').next().unwrap_or_default();
    format!("{scheme}://{user}@{host}{rest}")
}

/// A step of the schema.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Step {
    /// Its place in the order.
    pub number: i64,
    /// What it is about.
    pub name: String,
    /// Whether the database has it.
    pub applied: bool,
}

impl Place {
    /// The steps of the schema that this program knows, in order, and whether a database has them.
    ///
    /// # Errors
    /// When the database cannot be had.
    pub async fn steps(&self) -> sqlx::Result<Vec<Step>> {
        let (migrator, is_there) = match self.kind() {
            Kind::Sqlite => (&SQLITE, HAS_STEPS_SQLITE),
            Kind::Postgres => (&POSTGRES, HAS_STEPS_POSTGRES),
        };
        let mut applied = Vec::new();
        // To ask does not make it.
        if !matches!(self, Place::File(file) if !file.exists()) {
            let mut connection = self.connect().await?;
            if connection.query(is_there).fetch_value::<bool>().await? {
                for row in connection.query(STEPS).fetch_all().await? {
                    applied.push(row.get::<i64, _>(0)?);
                }
            }
            connection.close().await?;
        }
        let steps = migrator.iter().map(|step| Step {
            number: step.version,
            name: step.description.to_string(),
            applied: applied.contains(&step.version),
        });
        Ok(steps.collect())
    }
}

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
}

impl Database {
    /// Opens a database and brings its schema up to date; makes a file that is not there.
    ///
    /// For a file the caller holds the lock of its folder.
    ///
    /// # Errors
    /// When it cannot be opened, is no database, is in use, or its schema is newer than this program.
    pub async fn open(place: Place, readers: u32, exports: u32) -> Result<Database, OpenError> {
        let mut writer = place.connect_writer().await?;
        place.migrate().await?;
        if place.kind() == Kind::Postgres && !writer.query(DURABLE).fetch_value::<bool>().await? {
            tracing::warn!(
                "THE DATABASE SERVER RUNS WITH fsync OR full_page_writes OFF: what was acknowledged is lost when its \
                 machine fails"
            );
        }
        let (readers, exports) = match &place {
            Place::File(file) => {
                let read_only = Place::sqlite(file).read_only(true).create_if_missing(false);
                let pool =
                    |most| SqlitePoolOptions::new().max_connections(most).acquire_timeout(CONNECT_TIMEOUT);
                let readers = pool(readers).connect_with(read_only.clone()).await?;
                let exports = pool(exports).connect_lazy_with(read_only);
                (Pool::sqlite(readers, ACQUIRE_TIMEOUT), Pool::sqlite(exports, ACQUIRE_TIMEOUT))
            }
            Place::Server(server) => {
                let read_only = Place::postgres(server).options([("default_transaction_read_only", "on")]);
                let pool = |most| PgPoolOptions::new().max_connections(most).acquire_timeout(CONNECT_TIMEOUT);
                let readers = pool(readers).connect_with(read_only.clone()).await?;
                let exports = pool(exports).connect_lazy_with(read_only);
                (Pool::postgres(readers, ACQUIRE_TIMEOUT), Pool::postgres(exports, ACQUIRE_TIMEOUT))
            }
        };
        Ok(Database { place, writer, readers, exports })
    }

    /// Closes both sides; the readers first, so that the writer can fold the write-ahead log into the file.
    ///
    /// # Errors
    /// When the last write to the file fails. What was committed is safe in the log all the same.
    pub async fn close(mut self) -> sqlx::Result<()> {
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
