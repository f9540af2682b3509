//! One type of connection, statement and row for both databases, so that every function of the repository is written
//! once and runs on either.
//!
//! The text of a statement is the same for both but where a constant of its own says otherwise; values are encoded for
//! the database that the connection leads to.

use std::sync::Arc;
use std::time::Duration;

use sqlx::error::BoxDynError;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgConnection, PgPool, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqlitePool, SqliteRow};
use sqlx::{
    Arguments as _, AssertSqlSafe, ColumnIndex, Connection as _, Decode, Encode, Postgres, Row as _, SqlStr,
    Sqlite, Type,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use super::deadline::{self, Late};

/// How long a server on another machine may take for one statement. It has a shorter limit itself
/// ([`STATEMENT_LIMIT`]); this one is for a server that says nothing any more.
const ANSWER_LIMIT: Duration = Duration::from_secs(40);
/// After so long the server ends a statement.
pub(super) const STATEMENT_LIMIT: Duration = Duration::from_secs(30);

/// All that an export or a replay reads is one state of the database.
const BEGIN_READING_SQLITE: &str = "BEGIN";
const BEGIN_READING_POSTGRES: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
const END_READING: &str = "ROLLBACK";
/// For whom a connection acts; see the policies of the schema.
const ACT_FOR_HERE: &str = "SELECT set_config('godwit.account', $1, true)";
/// The same, and how long each statement may take from now on.
const ACT_FOR_WITHIN: &str =
    "SELECT set_config('godwit.account', $1, false), set_config('statement_timeout', $2, false)";

/// Statements of this file that PostgreSQL alone gets.
pub(super) const POSTGRES_ONLY: &[&str] = &[ACT_FOR_HERE, ACT_FOR_WITHIN];

/// Which database.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A file, of one process.
    Sqlite,
    /// A server.
    Postgres,
}

/// A connection to either database: one of its own, or one of a pool.
#[derive(Debug)]
pub struct Connection {
    held: Held,
    /// Of a pool's; given back once the connection is.
    _permit: Option<OwnedSemaphorePermit>,
    /// It sees what the policies of the database let an account see: see [`Connection::act_for`].
    guarded: bool,
}

#[derive(Debug)]
enum Held {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
    PooledSqlite(Pooled<Sqlite>),
    PooledPostgres(Pooled<Postgres>),
}

#[derive(Debug)]
struct Pooled<DB: sqlx::Database> {
    connection: PoolConnection<DB>,
    /// Nobody else is to have it: it broke, or a transaction is open on it.
    spoilt: bool,
}

impl<DB: sqlx::Database> Drop for Pooled<DB> {
    fn drop(&mut self) {
        if self.spoilt {
            self.connection.close_on_drop();
        }
    }
}

enum Inner<'c> {
    Sqlite(&'c mut SqliteConnection),
    /// And what is to be told when it breaks.
    Postgres(&'c mut PgConnection, Option<&'c mut bool>),
}

impl From<SqliteConnection> for Connection {
    fn from(connection: SqliteConnection) -> Connection {
        Connection { held: Held::Sqlite(connection), _permit: None, guarded: false }
    }
}

impl From<PgConnection> for Connection {
    fn from(connection: PgConnection) -> Connection {
        Connection { held: Held::Postgres(connection), _permit: None, guarded: false }
    }
}

impl Connection {
    /// Where it leads to.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.held {
            Held::Sqlite(_) | Held::PooledSqlite(_) => Kind::Sqlite,
            Held::Postgres(_) | Held::PooledPostgres(_) => Kind::Postgres,
        }
    }

    /// This, of a role that sees rows by policies.
    pub(super) fn guarded(self) -> Connection {
        Connection { guarded: true, ..self }
    }

    /// Whether the database shows it no more than an account may see.
    pub(crate) fn is_guarded(&self) -> bool {
        self.guarded
    }

    /// It sees and does what this account may until the transaction ends that is open.
    ///
    /// # Errors
    /// Of the database.
    pub(crate) async fn act_for(&mut self, account: Uuid) -> sqlx::Result<()> {
        self.query(ACT_FOR_HERE).bind(account.to_string().as_str()).fetch_value::<String>().await.map(|_| ())
    }

    /// The same from now on, for one of a pool, with a limit for each of its statements.
    async fn act_for_within(&mut self, account: Uuid, limit: Duration) -> sqlx::Result<()> {
        let limit_ms = milliseconds(limit).to_string();
        let query = self.query(ACT_FOR_WITHIN).bind(account.to_string().as_str()).bind(limit_ms.as_str());
        query.fetch_value::<String>().await.map(|_| ())
    }

    fn inner(&mut self) -> Inner<'_> {
        match &mut self.held {
            Held::Sqlite(connection) => Inner::Sqlite(connection),
            Held::Postgres(connection) => Inner::Postgres(connection, None),
            Held::PooledSqlite(pooled) => Inner::Sqlite(&mut pooled.connection),
            Held::PooledPostgres(pooled) => Inner::Postgres(&mut pooled.connection, Some(&mut pooled.spoilt)),
        }
    }

    /// A statement with its parameters `$1`, `$2` and so on, to be bound in this order.
    pub fn query(&mut self, statement: &'static str) -> Query<'_> {
        let typed = match self.inner() {
            Inner::Sqlite(connection) => Typed::Sqlite(connection, SqliteArguments::default()),
            Inner::Postgres(connection, spoilt) => {
                Typed::Postgres(connection, PgArguments::default(), spoilt)
            }
        };
        Query { typed, statement: SqlStr::from_static(statement), kept: true, failed: None }
    }

    /// A text that was composed, with its values; `kept`: whether it stays prepared, as it will come again.
    ///
    /// # Errors
    /// When the values are for another kind of database.
    pub(super) fn query_with(
        &mut self,
        statement: SqlStr,
        arguments: Arguments,
        kept: bool,
    ) -> sqlx::Result<Query<'_>> {
        let typed = match (self.inner(), arguments) {
            (Inner::Sqlite(connection), Arguments::Sqlite(arguments)) => Typed::Sqlite(connection, arguments),
            (Inner::Postgres(connection, spoilt), Arguments::Postgres(arguments)) => {
                Typed::Postgres(connection, arguments, spoilt)
            }
            _ => return Err(sqlx::Error::Encode("the values are for another kind of database".into())),
        };
        Ok(Query { typed, statement, kept, failed: None })
    }

    /// Statements without parameters and rows, at once: where transactions begin and end.
    ///
    /// # Errors
    /// Of the database.
    pub async fn control(&mut self, statements: &[&'static str]) -> sqlx::Result<()> {
        self.control_text(statements.join("; ")).await
    }

    /// The same as one text, made of constants and numbers.
    async fn control_text(&mut self, text: String) -> sqlx::Result<()> {
        let text = AssertSqlSafe(text);
        match self.inner() {
            Inner::Sqlite(connection) => {
                sqlx::query(text).execute(connection).await?;
            }
            Inner::Postgres(connection, spoilt) => {
                in_time(spoilt, sqlx::raw_sql(text).execute(connection)).await?;
            }
        }
        Ok(())
    }

    /// Checks that the database understands a statement, without running it.
    ///
    /// # Errors
    /// What it does not understand.
    #[cfg(test)]
    pub(crate) async fn prepare(&mut self, statement: &'static str) -> sqlx::Result<()> {
        use sqlx::Executor as _;
        let statement = SqlStr::from_static(statement);
        match self.inner() {
            Inner::Sqlite(connection) => drop(connection.prepare(statement).await?),
            Inner::Postgres(connection, _) => drop(connection.prepare(statement).await?),
        }
        Ok(())
    }

    /// Begins a transaction that reads, and sees one state of the database.
    ///
    /// # Errors
    /// Of the database.
    pub(crate) async fn begin_reading(&mut self) -> sqlx::Result<()> {
        let begin = match self.kind() {
            Kind::Sqlite => BEGIN_READING_SQLITE,
            Kind::Postgres => BEGIN_READING_POSTGRES,
        };
        self.control(&[begin]).await
    }

    /// Ends what [`Pool::begin`] began: nothing was written.
    ///
    /// # Errors
    /// Of the database.
    pub async fn end_reading(mut self) -> sqlx::Result<()> {
        self.control(&[END_READING]).await?;
        match &mut self.held {
            Held::PooledSqlite(pooled) => pooled.spoilt = false,
            Held::PooledPostgres(pooled) => pooled.spoilt = false,
            Held::Sqlite(_) | Held::Postgres(_) => {}
        }
        Ok(())
    }

    /// Closes a connection of its own; one of a pool goes back there. To a server there is nothing left to bring.
    ///
    /// # Errors
    /// When the last write to the file fails. What was committed is safe in the log all the same.
    pub(crate) async fn close(self) -> sqlx::Result<()> {
        match self.held {
            Held::Sqlite(connection) => connection.close().await,
            _ => Ok(()),
        }
    }
}

/// Connections that read. Who finds all of them busy waits for one; that none can be had is another matter, so how many
/// are taken is counted here.
#[derive(Clone, Debug)]
pub struct Pool {
    connections: Connections,
    free: Arc<Semaphore>,
    /// How long one is waited for.
    wait: Duration,
    /// Who has one reads longer than the request may take that took it.
    is_long: bool,
}

#[derive(Clone, Debug)]
enum Connections {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Pool {
    /// Of a file.
    pub(crate) fn sqlite(pool: SqlitePool, wait: Duration) -> Pool {
        let most = pool.options().get_max_connections();
        Pool::new(Connections::Sqlite(pool), most, wait)
    }

    /// Of a server.
    pub(crate) fn postgres(pool: PgPool, wait: Duration) -> Pool {
        let most = pool.options().get_max_connections();
        Pool::new(Connections::Postgres(pool), most, wait)
    }

    fn new(connections: Connections, most: u32, wait: Duration) -> Pool {
        let free = Arc::new(Semaphore::new(usize::try_from(most).unwrap_or(usize::MAX)));
        Pool { connections, free, wait, is_long: false }
    }

    /// The same, for who reads longer than a request may take.
    pub(super) fn long(self) -> Pool {
        Pool { is_long: true, ..self }
    }

    /// How long a statement may take in the server.
    fn limit(&self) -> Duration {
        let left = if self.is_long { None } else { deadline::left() };
        left.map_or(STATEMENT_LIMIT, |left| left.min(STATEMENT_LIMIT))
    }

    /// One of them, for one statement after another.
    ///
    /// # Errors
    /// [`sqlx::Error::PoolTimedOut`] when all are busy, or of the database.
    pub async fn acquire(&self) -> sqlx::Result<Connection> {
        let permit = self.permit().await?;
        let held = match &self.connections {
            Connections::Sqlite(pool) => {
                let connection = before_the_deadline(async { pool.acquire().await.map_err(away) }).await?;
                Held::PooledSqlite(Pooled { connection, spoilt: false })
            }
            Connections::Postgres(pool) => {
                let connection = before_the_deadline(async { pool.acquire().await.map_err(away) }).await?;
                Held::PooledPostgres(Pooled { connection, spoilt: false })
            }
        };
        Ok(Connection { held, _permit: Some(permit), guarded: false })
    }

    /// One of them, which sees one state of the database until it is dropped or [ended](Connection::end_reading).
    ///
    /// # Errors
    /// [`sqlx::Error::PoolTimedOut`] when all are busy, or of the database.
    pub async fn begin(&self) -> sqlx::Result<Connection> {
        self.begun(self.acquire().await?).await
    }

    /// The same with one of it that was acquired.
    async fn begun(&self, mut connection: Connection) -> sqlx::Result<Connection> {
        let begin = match &mut connection.held {
            Held::PooledSqlite(pooled) => {
                pooled.spoilt = true;
                BEGIN_READING_SQLITE.to_owned()
            }
            Held::PooledPostgres(pooled) => {
                pooled.spoilt = true;
                let limit_ms = milliseconds(self.limit());
                format!("{BEGIN_READING_POSTGRES}; SET LOCAL statement_timeout = {limit_ms}")
            }
            Held::Sqlite(_) | Held::Postgres(_) => return Ok(connection),
        };
        connection.control_text(begin).await?;
        Ok(connection)
    }

    /// One of them that sees what an account may. For PostgreSQL.
    ///
    /// # Errors
    /// As of [`Pool::acquire`].
    pub(super) async fn acquire_for(&self, account: Uuid) -> sqlx::Result<Connection> {
        let mut connection = self.acquire().await?.guarded();
        connection.act_for_within(account, self.limit()).await?;
        Ok(connection)
    }

    /// The same that sees one state of the database.
    ///
    /// # Errors
    /// As of [`Pool::begin`].
    pub(super) async fn begin_for(&self, account: Uuid) -> sqlx::Result<Connection> {
        self.begun(self.acquire_for(account).await?).await
    }

    async fn permit(&self) -> sqlx::Result<OwnedSemaphorePermit> {
        let wait = deadline::left().map_or(self.wait, |left| left.min(self.wait));
        let permit = tokio::time::timeout(wait, self.free.clone().acquire_owned()).await;
        permit.map_err(|_| sqlx::Error::PoolTimedOut)?.map_err(|_| sqlx::Error::PoolClosed)
    }

    pub(super) async fn close(&self) {
        match &self.connections {
            Connections::Sqlite(pool) => pool.close().await,
            Connections::Postgres(pool) => {
                // A server that says nothing is not waited for for ever.
                let _ = tokio::time::timeout(ANSWER_LIMIT, pool.close()).await;
            }
        }
    }
}

/// Who has a permit finds a connection or the pool makes one: when that takes too long, the database is away.
fn away(error: sqlx::Error) -> sqlx::Error {
    match error {
        sqlx::Error::PoolTimedOut => sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()),
        error => error,
    }
}

/// A value that both databases take.
pub trait Value<'v>: Encode<'v, Sqlite> + Type<Sqlite> + Encode<'v, Postgres> + Type<Postgres> {}

impl<'v, T: Encode<'v, Sqlite> + Type<Sqlite> + Encode<'v, Postgres> + Type<Postgres>> Value<'v> for T {}

/// A value that both databases give.
pub trait Stored<'r>: Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, Postgres> + Type<Postgres> {}

impl<'r, T: Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, Postgres> + Type<Postgres>> Stored<'r> for T {}

/// Values of statements.
#[derive(Debug)]
pub(super) enum Arguments {
    Sqlite(SqliteArguments),
    Postgres(PgArguments),
}

impl Arguments {
    pub(super) fn of(kind: Kind) -> Arguments {
        match kind {
            Kind::Sqlite => Arguments::Sqlite(SqliteArguments::default()),
            Kind::Postgres => Arguments::Postgres(PgArguments::default()),
        }
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Arguments::Sqlite(_) => Kind::Sqlite,
            Arguments::Postgres(_) => Kind::Postgres,
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Arguments::Sqlite(arguments) => arguments.len(),
            Arguments::Postgres(arguments) => arguments.len(),
        }
    }

    pub(super) fn add<'v>(&mut self, value: impl Value<'v>) -> Result<(), BoxDynError> {
        match self {
            Arguments::Sqlite(arguments) => arguments.add(value),
            Arguments::Postgres(arguments) => arguments.add(value),
        }
    }
}

/// A statement and its values, about to be run.
pub struct Query<'c> {
    typed: Typed<'c>,
    statement: SqlStr,
    kept: bool,
    /// The first value that could not be encoded.
    failed: Option<BoxDynError>,
}

enum Typed<'c> {
    Sqlite(&'c mut SqliteConnection, SqliteArguments),
    Postgres(&'c mut PgConnection, PgArguments, Option<&'c mut bool>),
}

impl Query<'_> {
    /// The next value.
    #[must_use]
    pub fn bind<'v>(mut self, value: impl Value<'v>) -> Self {
        let added = match &mut self.typed {
            Typed::Sqlite(_, arguments) => arguments.add(value),
            Typed::Postgres(_, arguments, _) => arguments.add(value),
        };
        if let Err(error) = added {
            self.failed.get_or_insert(error);
        }
        self
    }

    /// All rows.
    ///
    /// # Errors
    /// Of the database.
    pub async fn fetch_all(self) -> sqlx::Result<Vec<Row>> {
        let Query { typed, statement, kept, failed } = self;
        encoded(failed)?;
        Ok(match typed {
            Typed::Sqlite(connection, arguments) => {
                let query = sqlx::query_with(statement, arguments).persistent(kept);
                query.fetch_all(connection).await?.into_iter().map(Row::Sqlite).collect()
            }
            Typed::Postgres(connection, arguments, spoilt) => {
                let query = sqlx::query_with(statement, arguments).persistent(kept);
                in_time(spoilt, query.fetch_all(connection)).await?.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    /// The row, if there is one.
    ///
    /// # Errors
    /// Of the database.
    pub async fn fetch_optional(self) -> sqlx::Result<Option<Row>> {
        let Query { typed, statement, kept, failed } = self;
        encoded(failed)?;
        Ok(match typed {
            Typed::Sqlite(connection, arguments) => {
                let query = sqlx::query_with(statement, arguments).persistent(kept);
                query.fetch_optional(connection).await?.map(Row::Sqlite)
            }
            Typed::Postgres(connection, arguments, spoilt) => {
                let query = sqlx::query_with(statement, arguments).persistent(kept);
                in_time(spoilt, query.fetch_optional(connection)).await?.map(Row::Postgres)
            }
        })
    }

    /// The first column of the row that there must be.
    ///
    /// # Errors
    /// Of the database, also when there is no row.
    pub async fn fetch_value<T: for<'r> Stored<'r>>(self) -> sqlx::Result<T> {
        self.fetch_optional().await?.ok_or(sqlx::Error::RowNotFound)?.get(0)
    }

    /// Runs it; gives how many rows it changed.
    ///
    /// # Errors
    /// Of the database.
    pub async fn execute(self) -> sqlx::Result<u64> {
        let Query { typed, statement, kept, failed } = self;
        encoded(failed)?;
        Ok(match typed {
            Typed::Sqlite(connection, arguments) => {
                let query = sqlx::query_with(statement, arguments).persistent(kept);
                query.execute(connection).await?.rows_affected()
            }
            Typed::Postgres(connection, arguments, spoilt) => {
                let query = sqlx::query_with(statement, arguments).persistent(kept);
                in_time(spoilt, query.execute(connection)).await?.rows_affected()
            }
        })
    }
}

fn encoded(failed: Option<BoxDynError>) -> sqlx::Result<()> {
    failed.map_or(Ok(()), |error| Err(sqlx::Error::Encode(error)))
}

/// A row of either database.
#[derive(Debug)]
pub enum Row {
    /// Of the file.
    Sqlite(SqliteRow),
    /// Of the server.
    Postgres(PgRow),
}

impl Row {
    /// A column, by name or number.
    ///
    /// # Errors
    /// When there is no such column, or it holds something else.
    pub fn get<'r, T: Stored<'r>, I>(&'r self, column: I) -> sqlx::Result<T>
    where
        I: ColumnIndex<SqliteRow> + ColumnIndex<PgRow>,
    {
        match self {
            Row::Sqlite(row) => row.try_get(column),
            Row::Postgres(row) => row.try_get(column),
        }
    }
}

/// A number that `statement_timeout` takes: 0 would be no limit.
fn milliseconds(limit: Duration) -> u128 {
    limit.as_millis().max(1)
}

/// Work that is of no use once the request's time is over.
async fn before_the_deadline<T>(work: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    match deadline::left() {
        Some(left) => tokio::time::timeout(left, work).await.map_err(|_| Late)?,
        None => work.await,
    }
}

/// A server that does not answer is as good as gone; `spoilt` is told when the connection is not to be used again. Where nobody
/// waits any more, because the request's time is over or its caller went away, the server still works on the statement: a
/// connection that is closed is what ends it (`client_connection_check_interval`).
async fn in_time<T>(
    spoilt: Option<&mut bool>,
    work: impl Future<Output = sqlx::Result<T>>,
) -> sqlx::Result<T> {
    let mut unfinished = Unfinished(spoilt);
    let silent = || sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
    let answered = async { tokio::time::timeout(ANSWER_LIMIT, work).await.unwrap_or_else(|_| Err(silent())) };
    let done = before_the_deadline(answered).await;
    let is_known = !matches!(&done, Err(sqlx::Error::AnyDriverError(_)));
    if let Some(spoilt) = unfinished.0.take_if(|_| is_known)
        && let Err(error) = &done
    {
        *spoilt |= is_lost(error);
    }
    done
}

/// Says of a connection that it is not to be used again, where a statement was left before its answer had come.
struct Unfinished<'c>(Option<&'c mut bool>);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Some(spoilt) = self.0.take() {
            *spoilt = true;
        }
    }
}

/// Whether an error says that the database cannot be reached, or cannot be written to for now: the connection is of no use
/// any more, or the server takes no further one.
#[must_use]
pub fn is_away(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) if error.code().is_some_and(|code| code == "53300") => true,
        error => is_lost(error),
    }
}

/// Whether an error says that the connection is of no use any more.
#[must_use]
pub fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        // Connection exceptions; the server shuts down, crashed, or starts; it became a standby, which cannot write.
        sqlx::Error::Database(error) => error
            .code()
            .is_some_and(|code| code.starts_with("08") || code.starts_with("57P") || code == "25006"),
        _ => false,
    }
}
