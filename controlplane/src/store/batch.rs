//! Statements that go to the database together.
//!
//! SQLite works in a thread of its own: each way there and back is two threads that wait for each other, which takes
//! longer than most statements do. To PostgreSQL it is the way through the system, mostly to another machine. A change of
//! one record is made of some fifteen.
//!
//! SQLite takes them one behind the other. PostgreSQL takes one statement with values at a time: they become one, each
//! part under a name of its own (`WITH`), and see the database as it was before all of them. So the statements of a batch
//! write different rows and do not read what others of it write.

use std::fmt::Write as _;

use sqlx::error::BoxDynError;
use sqlx::{AssertSqlSafe, SqlSafeStr as _};

use super::connection::{Arguments, Connection, Kind, Row, Value};

/// From so many statements on a batch is to be run before more is added: bounds what it holds.
const FULL: usize = 64;
/// Batches of at most so many statements are kept prepared: those of ordinary changes, which have the same shape again
/// and again.
const KEPT: usize = 16;

/// Statements that wait to be run, in order. See the module.
#[derive(Debug)]
pub struct Batch {
    text: String,
    arguments: Arguments,
    statements: usize,
    /// Those that give rows, by number.
    giving: Vec<usize>,
    /// What is run behind all of them, and has neither values nor rows.
    control: Vec<&'static str>,
    /// The first value that could not be encoded.
    failed: Option<BoxDynError>,
}

impl Batch {
    /// An empty one for the database that a connection leads to.
    #[must_use]
    pub fn of(connection: &Connection) -> Batch {
        Batch::new(connection.kind())
    }

    fn new(kind: Kind) -> Batch {
        Batch {
            text: String::new(),
            arguments: Arguments::of(kind),
            statements: 0,
            giving: Vec::new(),
            control: Vec::new(),
            failed: None,
        }
    }

    /// For which database it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.arguments.kind()
    }

    /// Adds a statement with its parameters `$1`, `$2` and so on, to be bound in this order. If it gives rows, they have
    /// one column, a number.
    pub fn add(&mut self, statement: &'static str) -> Values<'_> {
        debug_assert!(self.control.is_empty(), "what controls a transaction comes last");
        let kind = self.arguments.kind();
        self.statements += 1;
        if self.statements > 1 {
            self.text.push_str(match kind {
                Kind::Sqlite => "; ",
                Kind::Postgres => ", ",
            });
        }
        if kind == Kind::Postgres {
            let _ = write!(self.text, "s{} AS (", self.statements);
        }
        // Parameters are numbered through all statements of a text.
        let before = self.arguments.len();
        let mut parts = statement.split('$');
        self.text.push_str(parts.next().unwrap_or_default());
        for part in parts {
            let end = part.find(|next: char| !next.is_ascii_digit()).unwrap_or(part.len());
            let (number, rest) = part.split_at(end);
            let number: usize = number.parse().expect("our statements number their parameters");
            let _ = write!(self.text, "${}{rest}", before + number);
        }
        if kind == Kind::Postgres {
            self.text.push(')');
        }
        if statement.contains(" RETURNING ") {
            self.giving.push(self.statements);
        }
        Values(self)
    }

    /// Adds one that begins or ends a transaction or a part of it, behind all others.
    pub fn control(&mut self, statement: &'static str) {
        self.control.push(statement);
    }

    /// Whether it holds so much that it should be run before more is added.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.statements >= FULL
    }

    /// Runs all statements in order, up to the first that fails; afterwards it is empty. Gives the rows of all of them.
    ///
    /// # Errors
    /// Of the database. The statements before the one that failed may have been carried out: it is for a transaction.
    pub async fn run(&mut self, connection: &mut Connection) -> sqlx::Result<Vec<Row>> {
        let empty = Batch::new(self.arguments.kind());
        let Batch { text, arguments, statements, giving, control, failed } = std::mem::replace(self, empty);
        if let Some(error) = failed {
            return Err(sqlx::Error::Encode(error));
        }
        let kept = statements <= KEPT;
        let (text, control) = match arguments.kind() {
            Kind::Sqlite if control.is_empty() => (text, control),
            Kind::Sqlite if text.is_empty() => (control.join("; "), Vec::new()),
            Kind::Sqlite => (format!("{text}; {}", control.join("; ")), Vec::new()),
            Kind::Postgres if statements > 0 => (joined(&text, &giving), control),
            Kind::Postgres => (text, control),
        };
        let mut rows = Vec::new();
        if !text.is_empty() {
            // Made of statements that are constants, and of numbers.
            let text = AssertSqlSafe(text).into_sql_str();
            rows = connection.query_with(text, arguments, kept)?.fetch_all().await?;
        }
        if !control.is_empty() {
            connection.control(&control).await?;
        }
        Ok(rows)
    }
}

/// The parts as one statement that gives the rows of all.
fn joined(parts: &str, giving: &[usize]) -> String {
    let selects: Vec<String> = giving.iter().map(|number| format!("SELECT * FROM s{number}")).collect();
    let rows =
        if selects.is_empty() { "SELECT 1 WHERE FALSE".to_owned() } else { selects.join(" UNION ALL ") };
    format!("WITH {parts} {rows}")
}

/// Takes the values of the statement that was added last.
#[derive(Debug)]
pub struct Values<'a>(&'a mut Batch);

impl Values<'_> {
    /// The next value.
    pub fn bind<'v>(self, value: impl Value<'v>) -> Self {
        if let Err(error) = self.0.arguments.add(value) {
            self.0.failed.get_or_insert(error);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing;

    const INSERT: &str = "INSERT INTO t (a, b) VALUES ($1, $2) RETURNING a";
    const RENAME: &str = "UPDATE t SET b = $2 WHERE a = $1 AND b <> $2";

    async fn table() -> [(Connection, testing::Place); 2] {
        let mut connections = testing::connections().await;
        for (connection, _) in &mut connections {
            connection.query("CREATE TABLE t (a BIGINT PRIMARY KEY, b TEXT)").execute().await.unwrap();
        }
        connections
    }

    async fn named(connection: &mut Connection, a: i64) -> String {
        connection.query("SELECT b FROM t WHERE a = $1").bind(a).fetch_value().await.unwrap()
    }

    #[tokio::test]
    async fn each_statement_has_its_own_values_and_all_rows_come_back() {
        for (mut connection, _place) in table().await {
            // Twice: the second time from what was kept prepared.
            for first in [0i64, 100] {
                let mut batch = Batch::of(&connection);
                for n in first..first + 12 {
                    batch.add(INSERT).bind(n).bind(format!("name {n}"));
                }
                let rows = batch.run(&mut connection).await.unwrap();
                let numbers: Vec<i64> = rows.iter().map(|row| row.get(0).unwrap()).collect();
                assert_eq!(numbers, (first..first + 12).collect::<Vec<_>>());
                assert!(batch.run(&mut connection).await.unwrap().is_empty(), "nothing is run twice");
                batch.add(RENAME).bind(first + 11).bind("other");
                batch.add(RENAME).bind(first + 10).bind("another");
                assert!(batch.run(&mut connection).await.unwrap().is_empty());
            }
            assert_eq!(named(&mut connection, 109).await, "name 109");
            assert_eq!(named(&mut connection, 110).await, "another");
            assert_eq!(named(&mut connection, 111).await, "other");
        }
    }

    #[tokio::test]
    async fn what_fails_is_told_and_what_follows_is_not_run() {
        for (mut connection, _place) in table().await {
            let mut batch = Batch::of(&connection);
            for n in [1i64, 1, 2] {
                batch.add(INSERT).bind(n).bind("x");
            }
            assert!(batch.run(&mut connection).await.is_err());
            let count: i64 = connection.query("SELECT count(*) FROM t").fetch_value().await.unwrap();
            // One behind the other, or all as one.
            assert_eq!(count, if connection.kind() == Kind::Sqlite { 1 } else { 0 });
            // The connection goes on.
            batch.add(INSERT).bind(2i64).bind("y");
            assert_eq!(batch.run(&mut connection).await.unwrap().len(), 1);
        }
    }

    #[tokio::test]
    async fn what_fails_is_told_and_a_transaction_takes_all_of_it_back() {
        for (mut connection, _place) in table().await {
            let mut batch = Batch::of(&connection);
            batch.control("BEGIN");
            batch.run(&mut connection).await.unwrap();
            for n in [1i64, 1, 2] {
                batch.add(INSERT).bind(n).bind("x");
            }
            assert!(batch.run(&mut connection).await.is_err());
            batch.control("ROLLBACK");
            batch.run(&mut connection).await.unwrap();
            let count: i64 = connection.query("SELECT count(*) FROM t").fetch_value().await.unwrap();
            assert_eq!(count, 0);
            // The connection goes on, and what comes last in a batch comes last.
            connection.control(&["BEGIN"]).await.unwrap();
            batch.add(INSERT).bind(2i64).bind("y");
            batch.control("COMMIT");
            assert_eq!(batch.run(&mut connection).await.unwrap().len(), 1);
            assert_eq!(named(&mut connection, 2).await, "y");
        }
    }
}
