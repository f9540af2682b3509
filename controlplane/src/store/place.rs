//! Where a database is, and connections to it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};

use super::connection::{Connection, Kind, STATEMENT_LIMIT};

/// How long a statement waits for a lock that somebody else holds: of SQLite, where there is one writer inside the process,
/// a tool that has the database open.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a server may take to let us in.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a database is.
#[derive(Clone, Debug)]
pub enum Place {
    /// An SQLite file.
    File(PathBuf),
    /// A database of a PostgreSQL server.
    Server(Box<PgConnectOptions>),
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

    pub(super) fn sqlite(file: &std::path::Path) -> SqliteConnectOptions {
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

    pub(super) fn postgres(server: &PgConnectOptions) -> PgConnectOptions {
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
}

impl Place {
    /// A connection that cannot write, in a transaction that sees one state of the database. It may be in use.
    ///
    /// # Errors
    /// When there is none to be had.
    pub async fn connect_reading(&self) -> sqlx::Result<Connection> {
        let mut connection: Connection = match self {
            Place::File(file) => {
                Place::sqlite(file).read_only(true).create_if_missing(false).connect().await?.into()
            }
            Place::Server(server) => connected(Place::postgres(server)).await?.into(),
        };
        connection.begin_reading().await?;
        Ok(connection)
    }
}

/// A server that does not let us in is not waited for for ever.
pub(super) async fn connected(options: PgConnectOptions) -> sqlx::Result<PgConnection> {
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
