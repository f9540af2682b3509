//! The schema, in steps: the same numbers and names for both databases.

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{ConnectOptions as _, Connection as _, SqlStr};

use super::connection::Kind;
use super::place::{Place, connected};

// `SQLITE` and `POSTGRES`: number, name and SQL of each step. The macro of the library would have its drivers built a second time,
// for the compiler.
include!(concat!(env!("OUT_DIR"), "/migrations.rs"));

/// Which steps were applied, as the library keeps it, where it has done so before.
const STEPS: &str = "SELECT version FROM _sqlx_migrations WHERE success ORDER BY version";
const HAS_STEPS_SQLITE: &str =
    "SELECT count(*) > 0 FROM sqlite_master WHERE type = 'table' AND name = '_sqlx_migrations'";
const HAS_STEPS_POSTGRES: &str = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL";

/// Statements of this file, that both know and that one knows.
pub(super) const ALL: &[&str] = &[STEPS];
pub(super) const SQLITE_ONLY: &[&str] = &[HAS_STEPS_SQLITE];
pub(super) const POSTGRES_ONLY: &[&str] = &[HAS_STEPS_POSTGRES];

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

fn migrator(kind: Kind) -> Migrator {
    let steps = match kind {
        Kind::Sqlite => SQLITE,
        Kind::Postgres => POSTGRES,
    };
    let step = |&(number, name, sql): &(i64, &'static str, &'static str)| {
        Migration::new(number, name.into(), MigrationType::Simple, SqlStr::from_static(sql), false)
    };
    Migrator::with_migrations(steps.iter().map(step).collect())
}

impl Place {
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
                let migrated = migrator(Kind::Sqlite).run_direct(None, &mut connection, false).await;
                connection.close().await?;
                migrated
            }
            // Under a lock of the server's, which the library takes.
            Place::Server(server) => {
                let options = [
                    // A step may take long, and so may the wait for somebody else's.
                    ("statement_timeout", "0"),
                    ("lock_timeout", "0"),
                    // That the library's table is there already is nothing to tell at every start.
                    ("client_min_messages", "warning"),
                ];
                let mut connection = connected(Place::postgres(server).options(options)).await?;
                let migrated = migrator(Kind::Postgres).run_direct(None, &mut connection, false).await;
                connection.close().await?;
                migrated
            }
        };
        migrated.map_err(|error| sqlx::Error::Migrate(Box::new(error)))
    }

    /// The steps of the schema that this program knows, in order, and whether a database has them.
    ///
    /// # Errors
    /// When the database cannot be had.
    pub async fn steps(&self) -> sqlx::Result<Vec<Step>> {
        let is_there = match self.kind() {
            Kind::Sqlite => HAS_STEPS_SQLITE,
            Kind::Postgres => HAS_STEPS_POSTGRES,
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
        let migrator = migrator(self.kind());
        let steps = migrator.iter().map(|step| Step {
            number: step.version,
            name: step.description.to_string(),
            applied: applied.contains(&step.version),
        });
        Ok(steps.collect())
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::store::jobs::{self, FIRST};
    use crate::store::{tenants, testing};

    /// What a version sent by other means than jobs (before step 23) is sent by jobs, as those of today are.
    #[tokio::test]
    async fn what_waited_for_webhooks_is_taken_over_by_jobs() {
        for (mut connection, _place) in testing::connections().await {
            let steps = match connection.kind() {
                Kind::Sqlite => SQLITE,
                Kind::Postgres => POSTGRES,
            };
            let apply = |from: i64, to: i64| -> Vec<&'static str> {
                steps.iter().filter(|step| (from..=to).contains(&step.0)).map(|step| step.2).collect()
            };
            connection.control(&apply(1, 22)).await.unwrap();
            let tenant = tenants::insert(&mut connection, "x", 1).await.unwrap();
            let add = "INSERT INTO webhooks (id, tenant, url, topics, created_at_us, since_sequence, due_at_us) VALUES ($1, $2, 'https://a/', 'record', 1, 0, $3)";
            let (waits, of_operator) = (Uuid::now_v7(), Uuid::now_v7());
            for (id, tenant, due_at_us) in [
                (waits, Some(tenant), Some(5_i64)),
                (of_operator, None, Some(6)),
                (Uuid::now_v7(), Some(tenant), None),
            ] {
                connection
                    .query(add)
                    .bind(id)
                    .bind(tenant.map(i64::from))
                    .bind(due_at_us)
                    .execute()
                    .await
                    .unwrap();
            }
            connection.control(&apply(23, i64::MAX)).await.unwrap();
            let due = jobs::due(&mut connection, &jobs::kinds(["webhook.deliver"]), FIRST, 9).await.unwrap();
            let found: Vec<_> = due.iter().map(|due| (due.tenant, due.at_us)).collect();
            assert_eq!(found, [(Some(tenant), 5), (None, 6)]);
            for (due, webhook) in due.iter().zip([waits, of_operator]) {
                let job = jobs::by_id(&mut connection, due.id).await.unwrap().unwrap();
                assert_eq!(job.payload, format!("{{\"webhook\":\"{webhook}\"}}"));
                assert_eq!(job.once, Some(format!("webhook.deliver {webhook}")));
            }
        }
    }
}
