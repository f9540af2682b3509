//! For tests: a database of each kind.

use tempfile::TempDir;

use godwit_testkit::servers::Postgres;

use super::{Connection, Database, Kind};

/// Where a test's database is; it goes with it.
#[derive(Debug)]
pub(crate) struct Place {
    pub(super) place: super::Place,
    _folder: TempDir,
}

impl Place {
    /// Opens the database, again after it was closed.
    pub(crate) async fn open(&self) -> Database {
        Database::open(self.place.clone(), 2, 1).await.unwrap()
    }

    /// Where it is.
    pub(crate) fn place(&self) -> &super::Place {
        &self.place
    }

    /// A connection beside those of the database.
    pub(crate) async fn connect(&self) -> Connection {
        self.place.connect().await.unwrap()
    }
}

/// An empty database.
pub(super) fn place(kind: Kind) -> Place {
    made(kind, || Postgres::shared().create_database())
}

/// A new database, open.
pub(crate) async fn database(kind: Kind) -> (Database, Place) {
    let place = made(kind, || Postgres::shared().create_prepared(migrate));
    (place.open().await, place)
}

fn made(kind: Kind, on_server: impl FnOnce() -> anyhow::Result<String>) -> Place {
    let folder = tempfile::tempdir().unwrap();
    let place = match kind {
        Kind::Sqlite => super::Place::File(folder.path().join("t.sqlite")),
        Kind::Postgres => super::Place::of_url(&on_server().unwrap()).unwrap(),
    };
    Place { place, _folder: folder }
}

/// Brings a database to our schema.
fn migrate(url: &str) {
    let place = super::Place::of_url(url).unwrap();
    let migrating = std::thread::spawn(move || {
        tokio::runtime::Runtime::new().unwrap().block_on(async { place.migrate().await })
    });
    migrating.join().unwrap().unwrap();
}

/// One of each kind.
pub(crate) async fn databases() -> [(Database, Place); 2] {
    [database(Kind::Sqlite).await, database(Kind::Postgres).await]
}

/// A connection to an empty database of each kind, without our tables.
pub(crate) async fn connections() -> [(Connection, Place); 2] {
    let [sqlite, postgres] = [place(Kind::Sqlite), place(Kind::Postgres)];
    [(sqlite.connect().await, sqlite), (postgres.connect().await, postgres)]
}
