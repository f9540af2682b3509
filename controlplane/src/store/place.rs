//! Where a database is, and connections to it.

use std::fmt;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};

use super::connection::{Connection, Kind, STATEMENT_LIMIT};

/// How long a statement waits for a lock that somebody else holds: of SQLite, where there is one writer inside the process,
/// a tool that has the database open.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the server works on for who is gone, and for a control plane that is.
const GONE_CHECK_MS: &str = "1000";
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
                // PostgreSQL 14 and later; before, a server noticed that nobody listens when it had something to say.
                ("client_connection_check_interval", GONE_CHECK_MS),
                // Plans are made once, often while a table is small or was never analyzed, and kept: what was right then reads all
                // of a table for each change once that has grown. Ours name keys, and there is an index for each, so that
                // planning them again each time finds nothing better.
                ("plan_cache_mode", "force_generic_plan"),
                ("enable_seqscan", "off"),
                ("enable_hashjoin", "off"),
                ("enable_mergejoin", "off"),
                // Worth nothing for them; and a plan that cannot do without what is off would be compiled each time.
                ("jit", "off"),
            ])
            .disable_statement_logging()
    }

    /// A connection that may write, of a role that sees rows by policies; of a file, one like any other.
    ///
    /// # Errors
    /// When there is none to be had.
    pub(crate) async fn connect_guarded(&self) -> sqlx::Result<Connection> {
        match self {
            Place::File(_) => self.connect().await,
            Place::Server(server) => {
                let connection: Connection = connected(Place::guarded(server)).await?.into();
                Ok(connection.guarded())
            }
        }
    }

    /// As [`Place::postgres`], with the role of tenants.
    pub(super) fn guarded(server: &PgConnectOptions) -> PgConnectOptions {
        Place::postgres(server).options([("role", "godwit_tenant")])
    }

    /// A connection that may write.
    ///
    /// # Errors
    /// When there is none to be had.
    pub async fn connect(&self) -> sqlx::Result<Connection> {
        match self {
            Place::File(file) => {
                // For its user alone, as the files that SQLite puts beside it then are. What goes wrong, SQLite says.
                let made = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(file);
                drop(made);
                Ok(Place::sqlite(file).connect().await?.into())
            }
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
                let options = Place::sqlite(file).read_only(true).create_if_missing(false);
                // It would write.
                options.optimize_on_close(false, None).connect().await?.into()
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

#[cfg(test)]
mod tests {
    use super::super::{statements, testing};
    use super::*;

    /// What may read all of a table: one of few rows, or to empty it, or once at a start.
    const MAY: [&str; 7] = [
        // Once, behind a restore.
        "SELECT setval(",
        "SELECT id, name, removed_at_us, report, reported_to, (extract",
        "SELECT count(*) > 0 FROM relay WHERE lease_until_us",
        "DELETE FROM batches",
        // Once, behind a restore.
        "DELETE FROM links",
        "UPDATE sessions SET ended_at_us = $1 WHERE ended_at_us IS NULL AND expires_at_us > $1",
        "SELECT id, name_key FROM zones WHERE digest IS NULL",
    ];

    /// The tables are empty and nobody has counted them: here a plan that reads all of one looks best.
    #[tokio::test]
    async fn p7_no_statement_reads_all_of_a_table_because_it_was_small_once() {
        let (_database, place) = testing::database(Kind::Postgres).await;
        let mut connection = place.connect().await;
        connection.control(&["SET plan_cache_mode = force_generic_plan"]).await.unwrap();
        let mut read_all = Vec::new();
        for (at, statement) in statements(Kind::Postgres).into_iter().enumerate() {
            let verb = statement.split(' ').next().unwrap_or_default();
            if !["SELECT", "UPDATE", "DELETE", "INSERT"].contains(&verb) {
                continue;
            }
            let count = (1..).take_while(|n| statement.contains(&format!("${n}"))).count();
            let values =
                if count == 0 { String::new() } else { format!("({})", vec!["NULL"; count].join(", ")) };
            let prepare: &str = Box::leak(format!("PREPARE s{at} AS {statement}").into_boxed_str());
            let explain: &str =
                Box::leak(format!("EXPLAIN (COSTS OFF) EXECUTE s{at}{values}").into_boxed_str());
            connection.control(&[prepare]).await.unwrap();
            let plan: Vec<String> = connection
                .query(explain)
                .fetch_all()
                .await
                .unwrap()
                .iter()
                .map(|row| row.get(0).unwrap())
                .collect();
            let plan = plan.join("\n");
            if plan.contains("Seq Scan") && !MAY.iter().any(|may| statement.starts_with(may)) {
                read_all.push(format!("{statement}\n{plan}"));
            }
        }
        assert!(read_all.is_empty(), "{}", read_all.join("\n\n"));
    }
}
