//! The database, SQLite or PostgreSQL: how it is opened, and the SQL, one file per table.
//!
//! Statements are constants in the dialect that the two share (`$1`, `ON CONFLICT`, times as integers); [`statements`]
//! lists them all, and a test prepares each on both. Functions here take a connection or a transaction of the
//! caller and open none: where a transaction starts and ends is decided in `commit/`. What is only written is put into a
//! [`batch`].

pub(crate) mod accounts;
pub mod audit;
pub(crate) mod audit_chain;
pub mod batch;
pub mod buffered;
pub mod changes;
pub(crate) mod claims;
pub mod connection;
pub(crate) mod data_keys;
pub mod database;
pub(crate) mod deadline;
pub(crate) mod dump;
pub mod history;
pub mod idempotency;
pub(crate) mod invitations;
pub mod jobs;
pub(crate) mod keys;
pub mod log;
pub mod nodes;
pub mod pace;
pub mod place;
pub(crate) mod quotas;
pub(crate) mod registrations;
pub mod relay;
pub(crate) mod revocations;
pub mod rrsets;
pub mod schema;
pub mod secrets;
pub(crate) mod sessions;
pub mod sets;
pub(crate) mod signals;
pub(crate) mod suffixes;
pub(crate) mod tenants;
#[cfg(test)]
pub(crate) mod testing;
pub mod tokens;
pub(crate) mod webhooks;
pub mod withheld;
pub mod zones;

use godwit_wire::name::Name;

use crate::hex;
use crate::model::name_key;

pub use connection::{Connection, Kind, Pool, Row};
pub use database::Database;
pub(crate) use database::Views;
pub use pace::Pace;
pub use place::Place;

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

/// Whether an error says that a row is not what it must be: the connection and its transaction go on.
pub(crate) fn is_damage(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. })
}

/// The keys of names as one value: each in hexadecimal behind an x, with commas between.
fn keys<'n>(names: impl IntoIterator<Item = &'n Name>) -> String {
    let mut keys = String::new();
    for name in names {
        keys.push_str(if keys.is_empty() { "x" } else { ",x" });
        keys.push_str(&hex::encoded(&name_key::encode(name.as_ref())));
    }
    keys
}

/// Every statement that a kind of database gets.
#[must_use]
pub fn statements(kind: Kind) -> Vec<&'static str> {
    let own: &[&[&'static str]] = match kind {
        Kind::Sqlite => &[
            database::SQLITE_ONLY,
            dump::SQLITE_ONLY,
            jobs::SQLITE_ONLY,
            quotas::SQLITE_ONLY,
            schema::SQLITE_ONLY,
        ],
        Kind::Postgres => &[
            accounts::POSTGRES_ONLY,
            buffered::POSTGRES_ONLY,
            audit_chain::POSTGRES_ONLY,
            zones::POSTGRES_ONLY,
            rrsets::POSTGRES_ONLY,
            nodes::POSTGRES_ONLY,
            changes::POSTGRES_ONLY,
            data_keys::POSTGRES_ONLY,
            relay::POSTGRES_ONLY,
            connection::POSTGRES_ONLY,
            database::POSTGRES_ONLY,
            dump::POSTGRES_ONLY,
            invitations::POSTGRES_ONLY,
            jobs::POSTGRES_ONLY,
            quotas::POSTGRES_ONLY,
            schema::POSTGRES_ONLY,
            signals::POSTGRES_ONLY,
            claims::POSTGRES_ONLY,
            suffixes::POSTGRES_ONLY,
            tenants::POSTGRES_ONLY,
        ],
    };
    [
        &own.concat(),
        schema::ALL,
        accounts::ALL,
        audit::ALL,
        audit_chain::ALL,
        buffered::ALL,
        changes::ALL,
        data_keys::ALL,
        claims::ALL,
        history::ALL,
        idempotency::ALL,
        invitations::ALL,
        jobs::ALL,
        keys::ALL,
        log::ALL,
        nodes::ALL,
        quotas::ALL,
        registrations::ALL,
        relay::ALL,
        revocations::ALL,
        rrsets::ALL,
        &rrsets::composed(),
        secrets::ALL,
        sessions::ALL,
        suffixes::ALL,
        tenants::ALL,
        tokens::ALL,
        webhooks::ALL,
        withheld::ALL,
        zones::ALL,
        crate::commit::TRANSACTION_STATEMENTS,
        &[crate::commit::begin(kind), crate::commit::begin_whole(kind)],
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

    #[tokio::test]
    async fn every_statement_is_understood_by_the_database() {
        for (mut database, _place) in testing::databases().await {
            let statements = statements(database.place.kind());
            assert!(statements.len() > 30);
            for statement in statements {
                if let Err(error) = database.writer.prepare(statement).await {
                    panic!("{statement}: {error}");
                }
            }
            database.close().await.unwrap();
        }
    }

    #[tokio::test]
    async fn acknowledged_means_synced_and_readers_cannot_write() {
        for (mut database, _place) in testing::databases().await {
            let writer = &mut database.writer;
            match writer.kind() {
                Kind::Sqlite => {
                    let synchronous: i64 = writer.query("PRAGMA synchronous").fetch_value().await.unwrap();
                    assert_eq!(synchronous, 2, "FULL");
                    let journal: String = writer.query("PRAGMA journal_mode").fetch_value().await.unwrap();
                    assert_eq!(journal, "wal");
                    let keys: i64 = writer.query("PRAGMA foreign_keys").fetch_value().await.unwrap();
                    assert_eq!(keys, 1);
                }
                Kind::Postgres => {
                    let commit: String = writer.query("SHOW synchronous_commit").fetch_value().await.unwrap();
                    assert_eq!(commit, "on", "the test's server says off");
                }
            }
            let mut reader = database.readers.acquire().await.unwrap();
            assert!(reader.query("DELETE FROM zones").execute().await.is_err());
            drop(reader);
            database.close().await.unwrap();
        }
    }

    /// Tables with their columns: name, kind of value, whether it may be NULL; and what is unique.
    async fn schema(database: &mut Database) -> Vec<String> {
        const SQLITE: &str = "SELECT m.name || '.' || c.name || ' ' || CASE upper(c.type) WHEN 'INTEGER' THEN 'BIGINT' ELSE upper(c.type) END || CASE WHEN c.\"notnull\" = 1 OR c.pk > 0 THEN ' NOT NULL' ELSE '' END FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' AND m.name <> '_sqlx_migrations'";
        const SQLITE_KEYS: &str = "SELECT m.name || CASE l.\"unique\" WHEN 1 THEN ' unique ' ELSE ' index ' END || (SELECT group_concat(name, ', ') FROM (SELECT name FROM pragma_index_info(l.name) ORDER BY seqno)) FROM sqlite_master m, pragma_index_list(m.name) l WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' AND m.name <> '_sqlx_migrations'";
        const SQLITE_ROWIDS: &str = "SELECT m.name || ' unique ' || c.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' AND m.name <> '_sqlx_migrations' AND c.pk > 0 AND c.type = 'INTEGER'";
        const POSTGRES: &str = "SELECT table_name || '.' || column_name || ' ' || CASE data_type WHEN 'bytea' THEN 'BLOB' WHEN 'uuid' THEN 'BLOB' ELSE upper(data_type) END || CASE is_nullable WHEN 'NO' THEN ' NOT NULL' ELSE '' END FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> '_sqlx_migrations'";
        const POSTGRES_KEYS: &str = "SELECT t.relname || CASE WHEN i.indisunique THEN ' unique ' ELSE ' index ' END || (SELECT string_agg(a.attname, ', ' ORDER BY k.n) FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, n) JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.attnum) FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace s ON s.oid = t.relnamespace WHERE s.nspname = 'public' AND t.relname <> '_sqlx_migrations'";
        let statements: &[&str] = match database.place.kind() {
            Kind::Sqlite => &[SQLITE, SQLITE_KEYS, SQLITE_ROWIDS],
            Kind::Postgres => &[POSTGRES, POSTGRES_KEYS],
        };
        let mut all = Vec::new();
        for statement in statements {
            let rows = database.writer.query(statement).fetch_all().await.unwrap();
            all.extend(rows.iter().map(|row| row.get::<String, _>(0).unwrap()));
        }
        all.sort();
        all
    }

    #[tokio::test]
    async fn migrations_run_once_and_both_databases_have_the_same_schema() {
        let mut schemas = Vec::new();
        for (mut database, place) in testing::databases().await {
            let first = schema(&mut database).await;
            assert!(first.len() > 50 && first.contains(&"zones unique name_key".to_owned()), "{first:#?}");
            database.close().await.unwrap();
            let mut again = place.open().await;
            assert_eq!(schema(&mut again).await, first);
            again.close().await.unwrap();
            schemas.push(first);
        }
        assert_eq!(schemas.len(), 2);
        assert_eq!(schemas[0], schemas[1]);
    }

    /// Replicas that start at once.
    #[tokio::test]
    async fn a_schema_that_many_bring_up_to_date_is_brought_once() {
        let place = testing::place(Kind::Postgres);
        let before = place.place.steps().await.unwrap();
        assert!(before.iter().all(|step| !step.applied));
        let mut starting = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let place = place.place.clone();
            starting.spawn(async move { place.migrate().await });
        }
        for migrated in starting.join_all().await {
            migrated.unwrap();
        }
        let after = place.place.steps().await.unwrap();
        assert!(after.len() == before.len() && after.iter().all(|step| step.applied));
    }

    /// A role that owns the database and may make no others: it is told what is missing, and with that all is well.
    #[tokio::test]
    async fn a_role_that_may_make_none_is_told_what_to_ask_for() {
        let server = godwit_testkit::servers::Postgres::shared();
        let url = server.create_database().unwrap();
        let (_, rest) = url.split_once("localhost/").unwrap();
        let (name, _) = rest.split_once('?').unwrap();
        let plain = format!("plain_{name}");
        server
            .psql("postgres", &format!("CREATE ROLE {plain} LOGIN; ALTER DATABASE {name} OWNER TO {plain}"))
            .unwrap();
        // Whether the role is there already depends on what else runs.
        let place = Place::of_url(&url.replace("postgres@", &format!("{plain}@"))).unwrap();
        let refused = place.migrate().await.unwrap_err().to_string();
        assert!(refused.contains(&format!("GRANT godwit_tenant TO {plain}")), "{refused}");
        let role = "DO $$ BEGIN CREATE ROLE godwit_tenant NOLOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$";
        server.psql("postgres", role).unwrap();
        server.psql("postgres", &format!("GRANT godwit_tenant TO {plain}")).unwrap();
        place.migrate().await.unwrap();
        let mut guarded = place.connect_guarded().await.unwrap();
        let role: String = guarded.query("SELECT current_user::TEXT").fetch_value().await.unwrap();
        assert_eq!(role, "godwit_tenant");
        assert!(zones::page(&mut guarded, None, 10).await.unwrap().is_empty());
        // What it has nothing to do with it cannot even ask for.
        for table in [
            "secrets",
            "nodes",
            "sessions",
            "keys",
            "tokens",
            "relay",
            "batches",
            "registrations",
            "links",
            "webhook_position",
        ] {
            let asked = format!("SELECT count(*) FROM {table}");
            let refused = guarded.query(Box::leak(asked.into_boxed_str())).execute().await.unwrap_err();
            assert_eq!(refused.as_database_error().unwrap().code().unwrap(), "42501", "{table}");
        }
    }

    #[test]
    fn a_place_is_shown_without_its_password() {
        let place =
            Place::of_url("postgres://dns:secret@db.example.net:5433/godwit?sslmode=require").unwrap();
        assert_eq!(place.to_string(), "godwit at db.example.net, port 5433");
        for (url, shown) in [
            ("postgres://dns:se@cr:et@db.test:5433/godwit?a=b@c", "postgres://dns@db.test:5433/godwit?a=b@c"),
            ("postgres://dns@db.test", "postgres://dns@db.test"),
            ("postgres://localhost/godwit?host=/run/a@b", "postgres://localhost/godwit?host=/run/a@b"),
            ("no URL", "no URL"),
        ] {
            assert_eq!(place::without_password(url), shown);
        }
        for url in ["mysql://x", "postgres://[", "godwit.sqlite", "postgres://a/b?password=c"] {
            assert!(Place::of_url(url).is_err(), "{url}");
        }
    }

    #[test]
    fn both_have_the_same_migrations() {
        let names = |folder: &str| {
            let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations").join(folder);
            let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
            entries.collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(names("sqlite"), names("postgres"));
    }
}
