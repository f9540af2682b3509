//! What comes before a control plane serves: the folder is locked, the database opened, what a first start needs is made,
//! and the feed's history begun or gone on with.

use std::fs::{DirBuilder, File, TryLockError};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use godwit_wire::feed::DigestKey;
use godwit_wire::name::Name;
use tokio::time::Instant;

use crate::auth::{self, Access, Token};
use crate::commit::known::Known;
use crate::commit::plan::Plan;
use crate::commit::record::{self, With};
use crate::commit::{self, COMMIT};
use crate::config::{Config, Store};
use crate::model::change::{Operation, PutMode, PutZone, Request};
use crate::model::soa::{Soa, default_mailbox, ns_rrset};
use crate::names::Rules;
use crate::relay::{give, recount};
use crate::store::audit::Who;
use crate::store::batch::Batch;
use crate::store::connection::is_away;
use crate::store::log::Entry;
use crate::store::relay::FeedState;
use crate::store::{self, Connection, Database, Kind, Place, now_us};
use crate::validate::{name, zone_file};

/// Database file in the data folder.
const DATABASE: &str = "godwit.sqlite";
/// Lock file in the data folder.
const LOCK: &str = "lock";

/// The zone that a first start may serve (names and addresses: RFC 2606, RFC 5737).
const EXAMPLE: &str = "$TTL 300\n@ IN SOA ns1 hostmaster 1 7200 3600 1209600 60\n@ IN NS ns1\nns1 IN A 192.0.2.53\nwww IN A 192.0.2.1\n";

/// What a new database holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FirstStart {
    /// No zones.
    Empty,
    /// `example.com` with a `www` that has an address.
    ExampleZone,
    /// There must be one that is not new: a data plane has zones of it, which an empty one would take away.
    Never,
}

/// Where the database is.
pub(crate) fn place(store: &Store) -> anyhow::Result<Place> {
    Ok(store.server()?.unwrap_or_else(|| Place::File(store.data.join(DATABASE))))
}

/// The lock of the database's folder, where it is a file.
pub(crate) fn lock_of(place: &Place, store: &Store) -> anyhow::Result<Option<File>> {
    match place {
        Place::File(_) => lock(&store.data).map(Some),
        Place::Server(_) => Ok(None),
    }
}

/// Opens it.
pub(crate) async fn open_database(place: Place, readers: u32, exports: u32) -> anyhow::Result<Database> {
    let told = place.to_string();
    Database::open(place, readers, exports).await.map_err(said).with_context(|| format!("database {told}"))
}

/// Between two tries to reach a server that is not there yet.
const REACH_AGAIN: Duration = Duration::from_secs(1);

/// The same for a start, which may come before the server is there: for so long it is tried again. What a server that is there
/// says is final.
pub(crate) async fn await_database(
    place: Place,
    readers: u32,
    exports: u32,
    wait: Duration,
) -> anyhow::Result<Database> {
    let until = Instant::now() + wait;
    let mut is_told = false;
    loop {
        let error = match Database::open(place.clone(), readers, exports).await {
            Ok(database) => return Ok(database),
            Err(error) => error,
        };
        let may_come = place.kind() == Kind::Postgres && is_away(&error);
        if !may_come || Instant::now() + REACH_AGAIN >= until {
            let tried = if may_come { format!(", tried for {} s", wait.as_secs()) } else { String::new() };
            return Err(said(error)).with_context(|| format!("database {place}{tried}"));
        }
        if !std::mem::replace(&mut is_told, true) {
            let wait_s = wait.as_secs();
            tracing::warn!(%place, %error, wait_s, "the database cannot be reached yet; it is tried again");
        }
        tokio::time::sleep(REACH_AGAIN).await;
    }
}

/// The library's errors say their cause themselves: without the chain it is not said twice.
pub(crate) fn said(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow::Error::msg(error.to_string())
}

/// A database that is gone is not a first start: the zones that are served would be replaced by an example.
pub(crate) fn gone(place: &Place) -> anyhow::Error {
    anyhow::anyhow!(
        "the database {place} is gone, but there is a local snapshot of its zones: put it back, or name another folder \
         with --data to begin anew"
    )
}

/// The database that nobody else has open.
pub(crate) async fn open_beside(store: &Store) -> anyhow::Result<(Database, Option<File>)> {
    let place = place(store)?;
    let is_there = !matches!(&place, Place::File(file) if !file.exists());
    anyhow::ensure!(is_there, "there is no database in {}; the first start makes one", store.data.display());
    let lock = lock_of(&place, store)?;
    Ok((open_database(place, 1, 1).await?, lock))
}

/// How often, and after what pauses, a folder that is in use is tried again.
const LOCK_TRIES: u32 = 10;
const LOCK_AGAIN: Duration = Duration::from_millis(50);

/// Keeps every other process out of the folder for as long as the file is open.
fn lock(data: &Path) -> anyhow::Result<File> {
    // Nobody else on the machine has business in it.
    let made = DirBuilder::new().recursive(true).mode(0o700).create(data);
    made.with_context(|| format!("data folder {}", data.display()))?;
    let path = data.join(LOCK);
    let file = File::create(&path).with_context(|| format!("lock {}", path.display()))?;
    let mut tried = file.try_lock();
    // A child process of who has just stopped has the file open until it has become another program.
    for _ in 0..LOCK_TRIES {
        if !matches!(tried, Err(TryLockError::WouldBlock)) {
            break;
        }
        std::thread::sleep(LOCK_AGAIN);
        tried = file.try_lock();
    }
    match tried {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            anyhow::bail!("the data folder {} is in use by another process", data.display())
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("lock {}", path.display())),
    }
}

/// Begins the feed's history in a new database; gives what its digests are keyed with: `key` where nothing has been before.
/// Digests that are not kept yet are worked out.
pub(crate) async fn history(
    connection: &mut Connection,
    key: Option<DigestKey>,
) -> anyhow::Result<DigestKey> {
    let key = match key {
        Some(key) => key,
        None => {
            let mut octets = [0; 32];
            getrandom::fill(&mut octets).context("random octets from the system")?;
            DigestKey(octets)
        }
    };
    let key = store::relay::start(connection, &key, now_us()).await?;
    recount::fill(connection, &key).await?;
    recount::settle_root(connection, &key).await?;
    Ok(key)
}

/// Where the feed goes on from: in a new term where this process is the only one that has the database.
pub(crate) async fn go_on(connection: &mut Connection) -> anyhow::Result<FeedState> {
    if connection.kind() == Kind::Sqlite {
        begin_term(connection).await?;
        // Whoever had one was killed.
        store::jobs::take_from_all(connection).await?;
    }
    store::relay::read(connection).await?.context("the state of the feed is gone")
}

/// A new term: above every one that ever published, and on disk before anything is published in it. What was left without a
/// sequence, by a version that gave it later or while nothing was to be published, gets one.
async fn begin_term(connection: &mut Connection) -> anyhow::Result<()> {
    store::relay::raise_epoch(connection).await?;
    loop {
        connection.control(&[commit::begin_whole(connection.kind())]).await?;
        let mut state = store::relay::hold(connection).await?;
        if state.is_overtaken() {
            connection.control(&[commit::ROLLBACK]).await?;
            tracing::error!(
                "nothing will be published: a data plane has what this database never knew (an older copy was restored). Start \
                 a new generation to make this database the truth all the same"
            );
            return Ok(());
        }
        if give::to_all(connection, &mut state, COMMIT).await?.is_empty() {
            return Ok(());
        }
    }
}

/// Starts a new generation: its log goes on above all that a data plane was found to have. Whether it did.
pub(crate) async fn new_generation(connection: &mut Connection) -> anyhow::Result<bool> {
    connection.control(&[commit::begin_whole(connection.kind())]).await?;
    store::relay::hold(connection).await?;
    let started = begin_generation(connection, now_us()).await?;
    connection.control(&[if started { COMMIT } else { commit::ROLLBACK }]).await?;
    Ok(started)
}

/// The same in an open transaction, with the number of the new one.
pub(crate) async fn begin_generation(connection: &mut Connection, generation: i64) -> anyhow::Result<bool> {
    let started = store::relay::new_generation(connection, generation).await?;
    let state = store::relay::hold(connection).await?;
    let FeedState { sequence, epoch, chain, .. } = state;
    let (first_sequence, made_at_us) = (sequence + 1, now_us());
    let entry =
        Entry { last_sequence: sequence, first_sequence, epoch, previous_chain: chain, chain, made_at_us };
    store::log::begin_at(connection, &entry).await?;
    Ok(started)
}

/// In a database that never had a token: makes one, and the example zone where it is wanted; both or neither.
pub(crate) async fn first_start(
    database: &mut Database,
    config: &Config,
    first: FirstStart,
    digest_key: &DigestKey,
) -> anyhow::Result<Option<Token>> {
    let connection = &mut database.writer;
    if store::tokens::count(connection).await? > 0 {
        return Ok(None);
    }
    if first == FirstStart::Never {
        return Err(gone(&database.place));
    }
    connection.control(&[commit::begin(connection.kind())]).await?;
    // One of several that start at once.
    store::relay::hold(connection).await?;
    if store::tokens::count(connection).await? > 0 {
        connection.control(&[commit::ROLLBACK]).await?;
        return Ok(None);
    }
    let token = auth::create(connection, auth::ADMIN).await?;
    if first == FirstStart::ExampleZone {
        make_example(connection, config, digest_key).await?;
    }
    connection.control(&[COMMIT]).await?;
    Ok(Some(token))
}

async fn make_example(
    connection: &mut Connection,
    config: &Config,
    digest_key: &DigestKey,
) -> anyhow::Result<()> {
    let apex: Name = name::absolute("example.com.")?;
    let ns: Vec<Name> = config.defaults.ns.iter().filter_map(|text| name::absolute(text).ok()).collect();
    let put = PutZone {
        tenant: None,
        rrsets: zone_file::read(EXAMPLE.as_bytes(), &apex)?,
        mode: PutMode::Create,
        ttl_policy: None,
        default_soa: Soa::of_new_zone(Name::root(), default_mailbox(apex.as_ref())).rrset(),
        default_ns: ns_rrset(&ns),
        apex,
    };
    let request = Request {
        id: uuid::Uuid::now_v7(),
        who: Who::local(),
        action: "domain.create",
        limits: Arc::default(),
        access: Access::everything(),
        operations: vec![Operation::PutZone(put)],
        if_match: None,
        idempotency: None,
        dry_run: false,
        confirm: None,
    };
    let rules = Rules::of(&config.names)?;
    let mut plan = Plan::make(connection, &request, &Known::default(), &rules).await?;
    let mut batch = Batch::of(connection);
    let with = With { digest_key, sequence: None, rules: &rules, now_us: now_us() };
    record::write(&mut batch, connection, &request, &mut plan, with).await?;
    batch.run(connection).await?;
    Ok(())
}
