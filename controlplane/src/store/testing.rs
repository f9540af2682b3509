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
    let folder = tempfile::tempdir().unwrap();
    let place = match kind {
        Kind::Sqlite => super::Place::File(folder.path().join("t.sqlite")),
        Kind::Postgres => super::Place::of_url(&Postgres::shared().create_database().unwrap()).unwrap(),
    };
    Place { place, _folder: folder }
}

/// A new database, open.
pub(crate) async fn database(kind: Kind) -> (Database, Place) {
    let place = place(kind);
    (place.open().await, place)
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
