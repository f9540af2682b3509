//! One running control plane: what is opened in which order, and how it ends.

use std::fs::{DirBuilder, File, TryLockError};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot, watch};

use godwit_wire::name::Name;

use crate::api::admission::BodyRoom;
use crate::api::{self, App};
use crate::auth::{self, Authenticator, Token};
use crate::commit::plan::Plan;
use crate::commit::writer::{PRUNE_EVERY, Writer};
use crate::commit::{self, Handover, record};
use crate::config::{Config, Store};
use crate::model::change::{Operation, PutMode, PutZone, Request};
use crate::model::soa::{Soa, default_mailbox, ns_rrset};
use crate::observe::metrics::Metrics;
use crate::relay::progress::Progress;
use crate::relay::{FeedSink, HANDOVER, Relay};
use crate::store::batch::Batch;
use crate::store::database::Step;
use crate::store::relay::FeedState;
use crate::store::{self, Database, Place, now_us};
use crate::validate::{name, zone_file};

/// Database file in the data folder.
const DATABASE: &str = "godwit.sqlite";
/// Lock file in the data folder.
const LOCK: &str = "lock";

/// How long the relay gets, twice, when it is time to stop: to have begun, and to send what is left.
const RELAY_TIMEOUT: Duration = Duration::from_secs(5);

/// The zone that a first start may serve (names and addresses: RFC 2606, RFC 5737).
const EXAMPLE: &str = "$TTL 300\n@ IN SOA ns1 hostmaster 1 7200 3600 1209600 60\n@ IN NS ns1\nns1 IN A 192.0.2.53\nwww IN A 192.0.2.1\n";

/// Becomes true when it is time to stop; also when its sender is gone.
pub type Stop = watch::Receiver<bool>;

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

/// A control plane whose database is open and whose address is bound.
#[derive(Debug)]
pub struct Controlplane {
    config: Config,
    database: Database,
    state: FeedState,
    listener: TcpListener,
    new_token: Option<Token>,
    metrics: Metrics,
    /// Of the data folder, held as long as the database in it is open.
    _lock: Option<File>,
}

impl Controlplane {
    /// Locks the data folder, opens the database, makes what a first start needs, raises the relay's epoch, and binds the
    /// API's address.
    ///
    /// # Errors
    /// When any of it fails, with the path or address that it failed at.
    pub async fn open(config: Config, first: FirstStart) -> anyhow::Result<Controlplane> {
        let place = place(&config.store)?;
        let lock = lock_of(&place, &config.store)?;
        if let Place::File(file) = &place
            && first == FirstStart::Never
            && !file.try_exists().with_context(|| format!("database {place}"))?
        {
            return Err(gone(&place));
        }
        let mut database = open_database(place, config.store.readers, config.store.exports).await?;
        let new_token = first_start(&mut database, &config, first).await.context("first start")?;
        let state = begin_term(&mut database).await.context("state of the feed")?;
        let listen = config.api.listen;
        let listener = TcpListener::bind(listen).await.with_context(|| format!("API address {listen}"))?;
        Ok(Controlplane {
            config,
            database,
            state,
            listener,
            new_token,
            metrics: Metrics::default(),
            _lock: lock,
        })
    }

    /// Makes a token beside a control plane that does not run.
    ///
    /// # Errors
    /// When the folder is in use or the database cannot be opened.
    pub async fn create_token(store: &Store, scope: &str) -> anyhow::Result<Token> {
        anyhow::ensure!(scope == auth::ADMIN, "scope \"{scope}\": expected {}", auth::ADMIN);
        let (mut database, _lock) = open_beside(store).await?;
        let token = auth::create(&mut database.writer, scope).await?;
        database.close().await?;
        Ok(token)
    }

    /// Starts a new generation beside a control plane that does not run: data planes that have seen later changes than
    /// this database (a restored copy) take it as the truth all the same.
    ///
    /// # Errors
    /// When the folder is in use or the database cannot be opened.
    pub async fn start_generation(store: &Store) -> anyhow::Result<()> {
        let (mut database, _lock) = open_beside(store).await?;
        store::relay::read(&mut database.writer, now_us()).await?;
        let started = store::relay::new_generation(&mut database.writer, now_us()).await?;
        anyhow::ensure!(started, "the clock is behind the start of the present generation");
        database.close().await?;
        Ok(())
    }

    /// Brings the schema of a database up to date; gives its steps. A database of a server may be in use.
    ///
    /// # Errors
    /// When the folder is in use, the database cannot be had, or its schema is newer than this program.
    pub async fn migrate(store: &Store) -> anyhow::Result<Vec<Step>> {
        let place = place(store)?;
        let _lock = lock_of(&place, store)?;
        let done = async {
            place.migrate().await?;
            place.steps().await
        };
        done.await.map_err(said).with_context(|| format!("database {place}"))
    }

    /// The steps of the schema, and whether the database has them. It may be in use.
    ///
    /// # Errors
    /// When the database cannot be had.
    pub async fn schema(store: &Store) -> anyhow::Result<Vec<Step>> {
        let place = place(store)?;
        place.steps().await.map_err(said).with_context(|| format!("database {place}"))
    }

    /// The administrator's token that a first start made. It is not shown again: print it.
    #[must_use]
    pub fn new_token(&self) -> Option<&Token> {
        self.new_token.as_ref()
    }

    /// Where the API listens.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn api_address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Its counters, to be served.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// Serves until `stop` says so: first the listener ends, then the writer, then the relay, the database last.
    ///
    /// # Errors
    /// When the database does not close well; what was acknowledged is safe all the same.
    pub async fn serve(self, sink: Option<FeedSink>, stop: Stop) -> anyhow::Result<()> {
        let Controlplane { config, database, state, listener, metrics, .. } = self;
        let Database { place, writer, readers, exports } = database;
        let (committer, queues) = commit::channel();
        let (handover, committed, backlog) = Handover::new(HANDOVER);
        let (close, closed) = oneshot::channel();
        let progress = sink.as_ref().map(|sink| Arc::new(Progress::new(sink.applied.clone())));
        let app = Arc::new(App {
            committer: committer.clone(),
            readers: readers.clone(),
            exports: exports.clone(),
            progress: progress.clone(),
            metrics: metrics.clone(),
            authenticator: Authenticator::default(),
            request_timeout: Duration::from_millis(config.api.request_timeout_ms),
            body_timeout: Duration::from_millis(config.api.body_timeout_ms),
            export_timeout: Duration::from_millis(config.api.export_timeout_ms),
            in_flight: Arc::new(Semaphore::new(config.api.max_requests)),
            body_room: BodyRoom::new(config.api.max_body_octets, metrics.clone()),
            default_ns: config.defaults.ns.iter().filter_map(|text| name::absolute(text).ok()).collect(),
        });
        let history_kept = Duration::from_secs(u64::from(config.store.history_days) * 86_400);
        let writing = tokio::spawn(
            Writer {
                connection: writer,
                place: place.clone(),
                lost: false,
                queues,
                handover,
                closed,
                metrics: metrics.clone(),
                history_kept,
                prune_every: PRUNE_EVERY,
            }
            .run(),
        );
        let (tell_level, level) = oneshot::channel();
        let relaying = match (sink, progress) {
            (Some(sink), Some(progress)) => {
                let follower = progress.clone();
                tokio::spawn(async move { follower.follow().await });
                let notes = committer.notes();
                let relay = Relay {
                    state,
                    sink,
                    committed,
                    backlog,
                    readers: readers.clone(),
                    notes,
                    progress,
                    metrics: metrics.clone(),
                    last_commit: 0,
                    resyncs: 0,
                    level: Some(tell_level),
                };
                Some(tokio::spawn(relay.run()))
            }
            _ => {
                drop(tell_level);
                None
            }
        };
        api::server::serve(listener, api::router(app), limits(&config), metrics, stopped(stop)).await;
        // A stop that comes early lets the relay bring over what was there before, for which it needs the writer: a data plane
        // that never had anything would have nothing to start from. Without a relay this resolves at once.
        let _ = tokio::time::timeout(RELAY_TIMEOUT, level).await;
        drop(committer);
        // No request is let in any more: the writer ends when its queue is empty, the relay when the writer is gone and
        // everything is sent.
        let _ = close.send(());
        let writer = writing.await.context("the writer ended in a panic")?;
        if let Some(relaying) = relaying {
            let _ = tokio::time::timeout(RELAY_TIMEOUT, relaying).await;
        }
        Database { place, writer, readers, exports }.close().await.context("closing the database")?;
        tracing::info!("the control plane stopped");
        Ok(())
    }
}

/// Where the database is.
fn place(store: &Store) -> anyhow::Result<Place> {
    Ok(store.server()?.unwrap_or_else(|| Place::File(store.data.join(DATABASE))))
}

/// The lock of the database's folder, where it is a file.
fn lock_of(place: &Place, store: &Store) -> anyhow::Result<Option<File>> {
    match place {
        Place::File(_) => lock(&store.data).map(Some),
        Place::Server(_) => Ok(None),
    }
}

async fn open_database(place: Place, readers: u32, exports: u32) -> anyhow::Result<Database> {
    let told = place.to_string();
    Database::open(place, readers, exports).await.map_err(said).with_context(|| format!("database {told}"))
}

/// The library's errors say their cause themselves: without the chain it is not said twice.
fn said(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow::Error::msg(error.to_string())
}

/// A database that is gone is not a first start: the zones that are served would be replaced by an example.
fn gone(place: &Place) -> anyhow::Error {
    anyhow::anyhow!(
        "the database {place} is gone, but there is a local snapshot of its zones: put it back, or name another folder \
         with --data to begin anew"
    )
}

/// The database that nobody else has open.
async fn open_beside(store: &Store) -> anyhow::Result<(Database, Option<File>)> {
    let place = place(store)?;
    let is_there = !matches!(&place, Place::File(file) if !file.exists());
    anyhow::ensure!(is_there, "there is no database in {}; the first start makes one", store.data.display());
    let lock = lock_of(&place, store)?;
    Ok((open_database(place, 1, 1).await?, lock))
}

/// The limits of the listener.
fn limits(config: &Config) -> api::server::Limits {
    let api = &config.api;
    api::server::Limits {
        connections: api.max_connections,
        connections_per_client: api.max_connections_per_client,
        header_octets: api.max_header_octets,
        header_timeout: Duration::from_millis(api.header_timeout_ms),
        write_timeout: Duration::from_millis(api.write_timeout_ms),
        read_octets_per_s: api.read_octets_per_s,
        drain_timeout: Duration::from_millis(api.drain_timeout_ms),
    }
}

/// Resolves when it is time to stop.
pub(crate) async fn stopped(mut stop: Stop) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Keeps every other process out of the folder for as long as the file is open.
fn lock(data: &Path) -> anyhow::Result<File> {
    // Nobody else on the machine has business in it.
    let made = DirBuilder::new().recursive(true).mode(0o700).create(data);
    made.with_context(|| format!("data folder {}", data.display()))?;
    let path = data.join(LOCK);
    let file = File::create(&path).with_context(|| format!("lock {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            anyhow::bail!("the data folder {} is in use by another process", data.display())
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("lock {}", path.display())),
    }
}

/// In a database that never had a token: makes one, and the example zone where it is wanted; both or neither.
async fn first_start(
    database: &mut Database,
    config: &Config,
    first: FirstStart,
) -> anyhow::Result<Option<Token>> {
    let connection = &mut database.writer;
    if store::tokens::count(connection).await? > 0 {
        return Ok(None);
    }
    if first == FirstStart::Never {
        return Err(gone(&database.place));
    }
    connection.control(&[commit::begin(connection.kind())]).await?;
    let token = auth::create(connection, auth::ADMIN).await?;
    if first == FirstStart::ExampleZone {
        make_example(connection, config).await?;
    }
    connection.control(&[commit::COMMIT]).await?;
    Ok(Some(token))
}

async fn make_example(connection: &mut store::Connection, config: &Config) -> anyhow::Result<()> {
    let apex: Name = name::absolute("example.com.")?;
    let ns: Vec<Name> = config.defaults.ns.iter().filter_map(|text| name::absolute(text).ok()).collect();
    let put = PutZone {
        rrsets: zone_file::read(EXAMPLE.as_bytes(), &apex)?,
        mode: PutMode::Create,
        ttl_policy: None,
        default_soa: Soa::of_new_zone(Name::root(), default_mailbox(apex.as_ref())).rrset(),
        default_ns: ns_rrset(&ns),
        apex,
    };
    let request = Request {
        id: uuid::Uuid::now_v7(),
        actor: "local".to_owned(),
        request_id: String::new(),
        action: "domain.create",
        operations: vec![Operation::PutZone(put)],
        if_match: None,
        idempotency: None,
        dry_run: false,
    };
    let mut plan = Plan::make(connection, &request).await?;
    let mut batch = Batch::of(connection);
    record::write(&mut batch, connection, &request, &mut plan, now_us()).await?;
    batch.run(connection).await?;
    Ok(())
}

/// A new term: above every one that ever published, and on disk before anything is published in it.
async fn begin_term(database: &mut Database) -> anyhow::Result<FeedState> {
    let mut state = store::relay::read(&mut database.writer, now_us()).await?;
    state.epoch += 1;
    let mut batch = Batch::of(&database.writer);
    store::relay::write(&mut batch, &state);
    let written = batch.run(&mut database.writer).await?;
    anyhow::ensure!(!written.is_empty(), "another relay has taken over");
    Ok(state)
}
