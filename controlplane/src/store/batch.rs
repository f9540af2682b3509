//! Statements that go to the database together.
//!
//! SQLite works in a thread of its own: each way there and back is two threads that wait for each other, which takes
//! longer than most statements do. A change of one record is made of some fifteen.

use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteRow};
use sqlx::{Arguments as _, AssertSqlSafe, Encode, Type};

use super::Connection;

/// From so many statements on a batch is to be run before more is added: bounds what it holds.
const FULL: usize = 64;
/// Batches of at most so many statements are kept prepared: those of ordinary changes, which have the same shape again
/// and again.
const KEPT: usize = 16;

/// Statements that wait to be run, in order. See the module.
#[derive(Debug, Default)]
pub struct Batch {
    text: String,
    arguments: SqliteArguments,
    statements: usize,
    /// The first value that could not be encoded.
    failed: Option<sqlx::error::BoxDynError>,
}

impl Batch {
    /// Adds a statement with its parameters `$1`, `$2` and so on, to be bound in this order.
    pub fn add(&mut self, statement: &'static str) -> Values<'_> {
        if self.statements > 0 {
            self.text.push_str("; ");
        }
        // Parameters are numbered through all statements of a text.
        let before = self.arguments.len();
        let mut parts = statement.split('$');
        self.text.push_str(parts.next().unwrap_or_default());
        for part in parts {
            let end = part.find(|next: char| !next.is_ascii_digit()).unwrap_or(part.len());
            let (number, rest) = part.split_at(end);
            let number: usize = number.parse().expect("our statements number their parameters");
            self.text.push('$');
            self.text.push_str(&(before + number).to_string());
            self.text.push_str(rest);
        }
        self.statements += 1;
        Values(self)
    }

    /// Whether it holds so much that it should be run before more is added.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.statements >= FULL
    }

    /// Runs all statements in order, up to the first that fails; afterwards it is empty. Gives the rows of all of them.
    ///
    /// # Errors
    /// Of the database. The statements before the one that failed have been carried out: it is for a transaction.
    pub async fn run(&mut self, connection: &mut Connection) -> sqlx::Result<Vec<SqliteRow>> {
        let Batch { text, arguments, statements, failed } = std::mem::take(self);
        if let Some(error) = failed {
            return Err(sqlx::Error::Encode(error));
        }
        if statements == 0 {
            return Ok(Vec::new());
        }
        // Made of statements that are constants, and of numbers.
        let query = sqlx::query_with(AssertSqlSafe(text), arguments);
        query.persistent(statements <= KEPT).fetch_all(connection).await
    }
}

/// Takes the values of the statement that was added last.
#[derive(Debug)]
pub struct Values<'a>(&'a mut Batch);

impl Values<'_> {
    /// The next value.
    pub fn bind<'v, T: Encode<'v, Sqlite> + Type<Sqlite>>(self, value: T) -> Self {
        if let Err(error) = self.0.arguments.add(value) {
            self.0.failed.get_or_insert(error);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use sqlx::Connection as _;
    use sqlx::Row as _;

    use super::*;

    async fn table() -> Connection {
        let mut connection = Connection::connect("sqlite::memory:").await.unwrap();
        sqlx::query("CREATE TABLE t (a BIGINT PRIMARY KEY, b TEXT)").execute(&mut connection).await.unwrap();
        connection
    }

    const INSERT: &str = "INSERT INTO t (a, b) VALUES ($1, $2) RETURNING a";
    const RENAME: &str = "UPDATE t SET b = $2 WHERE a = $1 AND b <> $2";

    #[tokio::test]
    async fn each_statement_has_its_own_values_and_all_rows_come_back() {
        let mut connection = table().await;
        // Twice: the second time from what was kept prepared.
        for first in [0i64, 100] {
            let mut batch = Batch::default();
            for n in first..first + 12 {
                batch.add(INSERT).bind(n).bind(format!("name {n}"));
            }
            batch.add(RENAME).bind(first + 11).bind("other");
            let rows = batch.run(&mut connection).await.unwrap();
            let numbers: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
            assert_eq!(numbers, (first..first + 12).collect::<Vec<_>>());
            assert!(batch.run(&mut connection).await.unwrap().is_empty(), "nothing is run twice");
        }
        let name: String =
            sqlx::query_scalar("SELECT b FROM t WHERE a = 110").fetch_one(&mut connection).await.unwrap();
        assert_eq!(name, "name 110");
        let name: String =
            sqlx::query_scalar("SELECT b FROM t WHERE a = 111").fetch_one(&mut connection).await.unwrap();
        assert_eq!(name, "other");
    }

    #[tokio::test]
    async fn what_fails_is_told_and_what_follows_is_not_run() {
        let mut connection = table().await;
        let mut batch = Batch::default();
        for n in [1i64, 1, 2] {
            batch.add(INSERT).bind(n).bind("x");
        }
        assert!(batch.run(&mut connection).await.is_err());
        let count: i64 =
            sqlx::query_scalar("SELECT count(*) FROM t").fetch_one(&mut connection).await.unwrap();
        assert_eq!(count, 1);
        // The connection goes on.
        batch.add(INSERT).bind(2i64).bind("y");
        assert_eq!(batch.run(&mut connection).await.unwrap().len(), 1);
    }
}
