//! Whole tables, row by row, for a backup: which there are and what their columns hold is read from the schema of the
//! database itself, so that a column that a later migration adds is in the next backup.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value as Json;
use sqlx::{AssertSqlSafe, SqlSafeStr as _};
use uuid::Uuid;

use super::connection::{Arguments, Connection, Kind, Row};

const COLUMNS_SQLITE: &str = "SELECT m.name, c.name, upper(c.type) FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%'";
const COLUMNS_POSTGRES: &str = "SELECT table_name::TEXT, column_name::TEXT, upper(data_type)::TEXT FROM information_schema.columns WHERE table_schema = current_schema()";
const NUMBERS_GO_ON: &str = "SELECT setval(pg_get_serial_sequence('zones', 'id'), greatest(nextval(pg_get_serial_sequence('zones', 'id')), (SELECT coalesce(max(id), 1) FROM zones))), setval(pg_get_serial_sequence('outbox', 'commit_number'), greatest(nextval(pg_get_serial_sequence('outbox', 'commit_number')), (SELECT coalesce(max(commit_number), 1) FROM outbox))), setval(pg_get_serial_sequence('audit', 'id'), greatest(nextval(pg_get_serial_sequence('audit', 'id')), (SELECT coalesce(max(id), 1) FROM audit))), setval(pg_get_serial_sequence('tenants', 'number'), greatest(nextval(pg_get_serial_sequence('tenants', 'number')), (SELECT greatest(coalesce(max(number), 1), (SELECT coalesce(max(greatest(owner_number, before_owner_number)), 0) FROM history), (SELECT coalesce(max(owner_number), 0) FROM departed_zones)) FROM tenants)))";
/// No number of a tenant is given again of which something is kept.
const TENANTS_GO_ON: &str = "UPDATE sqlite_sequence SET seq = max(seq, (SELECT coalesce(max(max(owner_number, coalesce(before_owner_number, 0))), 0) FROM history), (SELECT coalesce(max(owner_number), 0) FROM departed_zones)) WHERE name = 'tenants'";
/// The row is there once there was a tenant.
const TENANTS_BEGIN: &str = "INSERT INTO sqlite_sequence (name, seq) SELECT 'tenants', 0 WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'tenants')";
/// What keeps rows apart that come one by one, in any order that is allowed; those of a backup were.
const TRIGGERS_SQLITE: &str = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' ORDER BY name";
/// How long who has just stopped may be seen; the lease of one that was killed lasts three seconds.
const LEAVE: Duration = Duration::from_secs(5);

/// Control planes that have the database open, but for who asks.
const OTHERS: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'godwit' AND backend_type = 'client backend'";
const LEASE_IS_HELD: &str = "SELECT count(*) > 0 FROM relay WHERE lease_until_us > (extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT";

/// Statements of this file that one of them knows.
pub(super) const SQLITE_ONLY: &[&str] = &[COLUMNS_SQLITE, TRIGGERS_SQLITE, TENANTS_BEGIN, TENANTS_GO_ON];
pub(super) const POSTGRES_ONLY: &[&str] = &[COLUMNS_POSTGRES, NUMBERS_GO_ON, OTHERS, LEASE_IS_HELD];

/// What a column holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Form {
    Integer,
    Boolean,
    Text,
    Octets,
    /// Of 16 octets; SQLite keeps them as such.
    Uuid,
}

/// A column of a table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Column {
    pub(crate) table: String,
    pub(crate) name: String,
    pub(crate) form: Form,
}

/// Columns of all tables, in order of their names.
///
/// # Errors
/// Of the database, and for a type that no backup knows.
pub(crate) async fn columns(connection: &mut Connection) -> sqlx::Result<Vec<Column>> {
    let statement = match connection.kind() {
        Kind::Sqlite => COLUMNS_SQLITE,
        Kind::Postgres => COLUMNS_POSTGRES,
    };
    let mut columns = Vec::new();
    for row in connection.query(statement).fetch_all().await? {
        let (table, name): (String, String) = (row.get(0)?, row.get(1)?);
        if table == "_sqlx_migrations" {
            continue;
        }
        let form = match row.get::<String, _>(2)?.as_str() {
            "INTEGER" | "BIGINT" => Form::Integer,
            "BOOLEAN" => Form::Boolean,
            "TEXT" => Form::Text,
            "BLOB" | "BYTEA" => Form::Octets,
            "UUID" => Form::Uuid,
            other => {
                let unknown = format!("{table}.{name}: no backup knows a column of type {other}");
                return Err(sqlx::Error::Decode(unknown.into()));
            }
        };
        columns.push(Column { table, name, form });
    }
    columns.sort_by(|a, b| (&a.table, &a.name).cmp(&(&b.table, &b.name)));
    Ok(columns)
}

/// Turns triggers off; gives what turns them on again, see [`with_triggers`]. In a transaction, as its owner.
///
/// # Errors
/// Of the database.
pub(crate) async fn without_triggers(
    connection: &mut Connection,
    tables: &[&'static str],
) -> sqlx::Result<Vec<String>> {
    let mut back = Vec::new();
    match connection.kind() {
        Kind::Sqlite => {
            for row in connection.query(TRIGGERS_SQLITE).fetch_all().await? {
                let name: String = row.get(0)?;
                run(connection, format!("DROP TRIGGER \"{name}\"")).await?;
                back.push(row.get(1)?);
            }
        }
        Kind::Postgres => {
            for table in tables {
                run(connection, format!("ALTER TABLE {table} DISABLE TRIGGER USER")).await?;
                back.push(format!("ALTER TABLE {table} ENABLE TRIGGER USER"));
            }
        }
    }
    Ok(back)
}

/// Turns them on again.
///
/// # Errors
/// Of the database.
pub(crate) async fn with_triggers(connection: &mut Connection, back: Vec<String>) -> sqlx::Result<()> {
    for statement in back {
        run(connection, statement).await?;
    }
    Ok(())
}

/// A text of ours, or of the schema's own.
async fn run(connection: &mut Connection, statement: String) -> sqlx::Result<()> {
    let none = Arguments::of(connection.kind());
    let text = AssertSqlSafe(statement).into_sql_str();
    connection.query_with(text, none, false)?.execute().await.map(|_| ())
}

/// Rows of a table behind one, in order of its key.
///
/// # Errors
/// Of the database.
pub(crate) async fn rows(
    connection: &mut Connection,
    table: &str,
    key: &[&str],
    columns: &[Column],
    after: Option<&[Json]>,
    limit: usize,
) -> sqlx::Result<Vec<Vec<Json>>> {
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    let mut text = format!("SELECT {} FROM {table}", names.join(", "));
    let mut arguments = Arguments::of(connection.kind());
    let key_text = key.join(", ");
    if let Some(after) = after {
        let parameters: Vec<String> = (1..=key.len()).map(|number| format!("${number}")).collect();
        let _ = write!(text, " WHERE ({key_text}) > ({})", parameters.join(", "));
        for name in key {
            let mut both = columns.iter().zip(after);
            let found = both.find(|(column, _)| column.name == *name);
            let (column, value) = found.ok_or_else(|| sqlx::Error::ColumnNotFound((*name).to_owned()))?;
            add(&mut arguments, column.form, value)?;
        }
    }
    let _ = write!(text, " ORDER BY {key_text} LIMIT {limit}");
    let text = AssertSqlSafe(text).into_sql_str();
    let rows = connection.query_with(text, arguments, true)?.fetch_all().await?;
    rows.iter().map(|row| values(row, columns)).collect()
}

fn values(row: &Row, columns: &[Column]) -> sqlx::Result<Vec<Json>> {
    let octets = |octets: &[u8]| Json::from(BASE64_STANDARD.encode(octets));
    let value = |(place, column): (usize, &Column)| {
        Ok(match column.form {
            Form::Integer => row.get::<Option<i64>, _>(place)?.map(Json::from),
            Form::Boolean => row.get::<Option<bool>, _>(place)?.map(Json::from),
            Form::Text => row.get::<Option<String>, _>(place)?.map(Json::from),
            Form::Octets => row.get::<Option<Vec<u8>>, _>(place)?.map(|value| octets(&value)),
            Form::Uuid => row.get::<Option<Uuid>, _>(place)?.map(|value| octets(value.as_bytes())),
        }
        .unwrap_or(Json::Null))
    };
    columns.iter().enumerate().map(value).collect()
}

/// The octets of a value.
pub(crate) fn octets(value: &Json) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(value.as_str()?).ok()
}

fn add(arguments: &mut Arguments, form: Form, value: &Json) -> sqlx::Result<()> {
    let unexpected = || sqlx::Error::Encode(format!("a value is not of the form {form:?}").into());
    let some = Some(value).filter(|value| !value.is_null());
    fn of<T>(some: Option<&Json>, read: impl Fn(&Json) -> Option<T>) -> Option<Option<T>> {
        some.map_or(Some(None), |value| read(value).map(Some))
    }
    let uuid = |value: &Json| octets(value).and_then(|octets| Uuid::from_slice(&octets).ok());
    match form {
        Form::Integer => arguments.add(of(some, Json::as_i64).ok_or_else(unexpected)?),
        Form::Boolean => arguments.add(of(some, Json::as_bool).ok_or_else(unexpected)?),
        Form::Text => arguments.add(of(some, |v| v.as_str().map(str::to_owned)).ok_or_else(unexpected)?),
        Form::Octets => arguments.add(of(some, octets).ok_or_else(unexpected)?),
        Form::Uuid => arguments.add(of(some, uuid).ok_or_else(unexpected)?),
    }
    .map_err(sqlx::Error::Encode)
}

/// Writes rows into a table.
///
/// # Errors
/// Of the database, and for a value of another form than its column.
pub(crate) async fn insert(
    connection: &mut Connection,
    columns: &[Column],
    rows: &[Vec<Json>],
) -> sqlx::Result<()> {
    let Some(first) = columns.first() else { return Ok(()) };
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    let own_numbers = if connection.kind() == Kind::Postgres { " OVERRIDING SYSTEM VALUE" } else { "" };
    let mut text = format!("INSERT INTO {} ({}){own_numbers} VALUES ", first.table, names.join(", "));
    let mut arguments = Arguments::of(connection.kind());
    for (place, row) in rows.iter().enumerate() {
        let parameters: Vec<String> =
            (1..=columns.len()).map(|number| format!("${}", place * columns.len() + number)).collect();
        let _ = write!(text, "{}({})", if place > 0 { ", " } else { "" }, parameters.join(", "));
        for (column, value) in columns.iter().zip(row) {
            add(&mut arguments, column.form, value)?;
        }
    }
    let text = AssertSqlSafe(text).into_sql_str();
    connection.query_with(text, arguments, false)?.execute().await.map(|_| ())
}

/// Takes all rows of tables, of which none but these refers to them; the first is referred to by those behind it.
///
/// # Errors
/// Of the database.
pub(crate) async fn empty(connection: &mut Connection, tables: &[&str]) -> sqlx::Result<()> {
    let statements = match connection.kind() {
        Kind::Sqlite => tables.iter().rev().map(|table| format!("DELETE FROM {table}")).collect(),
        // Without its head the audit log may go; SQLite comes by it first, as it stands behind the rest of the log.
        Kind::Postgres => {
            vec!["DELETE FROM audit_head".to_owned(), format!("TRUNCATE {}", tables.join(", "))]
        }
    };
    for text in statements {
        let none = Arguments::of(connection.kind());
        connection.query_with(AssertSqlSafe(text).into_sql_str(), none, false)?.execute().await?;
    }
    Ok(())
}

/// Numbers that a server gives go on above those that were written. What it gave is not given again, whether or not the
/// transaction is committed.
///
/// # Errors
/// Of the database.
pub(crate) async fn numbers_go_on(connection: &mut Connection) -> sqlx::Result<()> {
    match connection.kind() {
        Kind::Postgres => {
            connection.query(NUMBERS_GO_ON).fetch_optional().await?;
        }
        Kind::Sqlite => {
            connection.query(TENANTS_BEGIN).execute().await?;
            connection.query(TENANTS_GO_ON).execute().await?;
        }
    }
    Ok(())
}

/// Nobody but us gets at the tables of a server until the transaction ends. Whether a control plane has the database.
///
/// # Errors
/// Of the database; also where somebody has a table for longer than we wait.
pub(crate) async fn is_in_use(connection: &mut Connection, tables: &[&str]) -> sqlx::Result<bool> {
    if connection.kind() == Kind::Sqlite {
        return Ok(false);
    }
    let lock = format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", tables.join(", "));
    let none = Arguments::of(Kind::Postgres);
    connection.query_with(AssertSqlSafe(lock).into_sql_str(), none, false)?.execute().await?;
    is_open(connection).await
}

/// Waits a moment for control planes that have just stopped: the server sees a little later that they are gone.
///
/// # Errors
/// Of the database.
pub(crate) async fn wait_for_others(connection: &mut Connection) -> sqlx::Result<()> {
    let deadline = Instant::now() + LEAVE;
    while connection.kind() == Kind::Postgres && Instant::now() < deadline && is_open(connection).await? {
        tokio::time::sleep(LEAVE / 50).await;
    }
    Ok(())
}

async fn is_open(connection: &mut Connection) -> sqlx::Result<bool> {
    Ok(connection.query(OTHERS).fetch_value::<i64>().await? > 0
        || connection.query(LEASE_IS_HELD).fetch_value::<bool>().await?)
}
