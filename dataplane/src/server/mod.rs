//! Puts the parts together: sockets, workers, the store, where records come from, and what is shown of it all. Has no
//! state outside of [`Server`], so that a process can hold several.
//!
//! - `prepare`: what a process settles before it reads what others wrote;
//! - `load`: records, at the start and at a reload;
//! - `workers`: the threads; `gate`: what holds them up until they may work.

mod gate;
mod load;
mod prepare;
mod workers;

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use godwit_engine::snapshot::store::Store;
use godwit_engine::snapshot::{Snapshot, SnapshotOptions};
use godwit_wire::feed::DigestKey;
use tokio::sync::watch;

use self::gate::Gate;
use self::load::{load_local, load_zones, show};
use self::prepare::{Confine, become_user, confine, fit_open_files, metrics_listener, settings, steer};
use crate::config::{Config, DEFAULT_LISTEN};
use crate::feed::Local;
use crate::feed::attempts::Attempts;
use crate::feed::follower::Follower;
use crate::feed::machine::Seeds;
use crate::feed::remote::Remote;
use crate::observe::metrics::Beside;
use crate::observe::progress::Progress;
use crate::observe::query_log::{QueryLog, Reopener};
use crate::observe::status::Status;
use crate::sandbox;
use crate::sandbox::folders::Folders;
use crate::serve::engine::Current;
use crate::serve::handover::{Predecessor, Successor, Waiting};
use crate::serve::sockets::{Inherited, Sockets};
use crate::source::Sources;
use crate::state::keeper::Keeper;
use crate::state::{Origin, State};
use crate::sys::{affinity, heap, limits, signal};

/// How long we wait, when we could begin, for our predecessor to stop answering. Longer than it waits for a worker of its own
/// that does not stop.
const RELIEF_LIMIT: Duration = Duration::from_secs(6);

/// What a process gives a server besides its configuration.
#[derive(Debug, Default)]
pub struct Start {
    /// Sockets that were open before this process.
    pub inherited: Inherited,
    /// The process that reads them until we do.
    pub predecessor: Option<Predecessor>,
    /// Where records come from.
    pub records: Records,
    /// The key of the deployment's digests. Without it, the state folder's own.
    pub digest_key: Option<DigestKey>,
    /// Metrics of another part of the process, to be shown with ours.
    pub beside: Beside,
    /// This server is all that the process does, so the process can be closed to everything else: the path of the program
    /// that a handover starts. `None`: others share the process, and it stays open.
    pub confine: Option<PathBuf>,
}

/// Where records come from.
#[derive(Clone, Debug, Default)]
pub enum Records {
    /// Zone files.
    #[default]
    ZoneFiles,
    /// The feed of the same process.
    Local,
    /// The feed of a control plane elsewhere.
    Remote(Remote),
}

/// A running data plane. Dropping it stops it, without draining.
pub struct Server {
    config: Config,
    addresses: Vec<SocketAddr>,
    metrics_address: Option<SocketAddr>,
    /// Copies for a successor; what the workers hold is theirs.
    sockets: Vec<OwnedFd>,
    metrics_listener: Option<TcpListener>,
    store: Arc<Store<Snapshot>>,
    /// How the workers answer; changed with secrets, and with what is known of zones without data.
    answering: Arc<Current>,
    status: Arc<Status>,
    /// Zone files; none with a feed.
    sources: Option<Mutex<Sources>>,
    /// What may be read and written, where that is enforced.
    folders: Option<Folders>,
    progress: Progress,
    keeper: Option<Keeper>,
    local: Option<Local>,
    stop: Arc<AtomicBool>,
    /// The same for TCP workers: in a stop without a successor they end first.
    stop_tcp: Arc<AtomicBool>,
    stop_tasks: watch::Sender<bool>,
    udp_threads: Vec<JoinHandle<()>>,
    tcp_threads: Vec<JoinHandle<()>>,
    /// Held by each TCP worker as long as it accepts.
    accepting: Arc<()>,
    threads: Vec<JoinHandle<()>>,
    /// What all of them wait at until we may begin.
    gate: Gate,
    /// Dropped, it ends the watch over rate limits.
    stop_watch: Option<mpsc::Sender<()>>,
    /// Ends after the workers have.
    query_log: Option<QueryLog>,
}

impl Server {
    /// Binds, loads, and starts to answer. Blocks while zones are loaded.
    ///
    /// With a predecessor, everything that can fail comes before it is relieved: the sandbox that may deny what this
    /// configuration needs, the zones, the threads. Until then it answers, and when we fail it goes on; from then on
    /// nobody else would.
    ///
    /// # Errors
    /// What cannot be had: an address, the user, the state folder. A zone that cannot be read is logged and left out; at a
    /// handover it is an error.
    pub fn start(mut config: Config, start: Start) -> anyhow::Result<Self> {
        let cpus = affinity::allowed_cpus();
        let open_files = limits::raise_open_files();
        signal::prepare_interrupts().context("signals")?;
        let mut settings = settings(&config)?;
        let workers = config.server.workers.map_or(cpus.len(), std::num::NonZeroUsize::get);

        let handover = start.inherited.handover;
        let inherited_metrics = start.inherited.metrics.map(TcpListener::from);
        let inherited = Inherited { metrics: None, ..start.inherited };
        let default = DEFAULT_LISTEN.parse().context("the default address")?;
        let options = config.udp.options();
        let sockets = Sockets::open(&config.server.listen, default, inherited, workers, &options)?;
        fit_open_files(&mut config, open_files, &sockets);
        if !handover {
            // The process before us has done so, and its sandbox is closed.
            sockets.bound_waiting(config.tcp.limits().max_waiting()).context("TCP listeners")?;
        }
        steer(&config, &sockets, &cpus)?;
        let metrics_listener = metrics_listener(&config, inherited_metrics)?;

        // From here on nothing needs more than an ordinary user has.
        become_user(&config, handover)?;
        if start.confine.is_some() {
            sandbox::give_up_privileges(&config.sandbox)?;
        }

        let feed = !matches!(start.records, Records::ZoneFiles);
        let origin = if feed { Origin::Feed } else { Origin::ZoneFiles };
        let folder = config.server.state.as_deref();
        let mut state = folder.map(|folder| State::open(folder, origin, handover)).transpose()?;
        let attempts = match folder.filter(|_| feed) {
            Some(folder) => Attempts::open(folder, handover),
            None => Attempts::default(),
        };
        let mut sources =
            (!feed).then(|| Sources::new(&config.zones.files, config.zones.path.as_deref())).transpose()?;
        // Before anything is read that others wrote, and before any thread is started.
        let (join, elsewhere) = match &start.records {
            Records::Remote(remote) => (Some(remote.join()), remote.ports()),
            Records::ZoneFiles | Records::Local => (None, Vec::new()),
        };
        let confine_to = Confine { program: start.confine.as_deref(), elsewhere, handover };
        let (confinement, folders) = confine(&config, sources.as_mut(), confine_to)?;
        if let (Some(join), Some(state)) = (join, &mut state) {
            state.keep_join(join.text())?;
        }
        let options = SnapshotOptions {
            hash_key: random()?,
            digest_key: match (start.digest_key, &mut state) {
                (Some(key), _) => key,
                (None, Some(state)) => state.digest_key(join.map(|join| &join.digest_key))?,
                (None, None) => {
                    join.map_or_else(|| random().map(DigestKey), |join| Ok(join.digest_key.clone()))?
                }
            },
        };
        let status = Arc::new(Status { confinement: confinement.into(), ..Status::default() });
        let (snapshot, fresh, sources) = match sources {
            None => {
                let found = load_local(state.as_ref(), &options, &status);
                let fresh = found.is_some();
                (found.unwrap_or_else(|| Snapshot::empty(&options)), fresh, None)
            }
            Some(mut sources) => {
                let (snapshot, without_data) =
                    load_zones(&mut sources, state.as_ref(), &options, &status, handover)?;
                settings.without_data = without_data;
                (snapshot, false, Some(Mutex::new(sources)))
            }
        };
        // A load takes for a moment more than it leaves.
        heap::give_back();
        show(&status, &snapshot, !feed || fresh);
        let store = Store::new(snapshot);

        let (stop_tasks, stopping) = watch::channel(false);
        let mut server = Server {
            addresses: sockets.addresses.clone(),
            metrics_address: metrics_listener.as_ref().map(TcpListener::local_addr).transpose()?,
            sockets: sockets.duplicate()?,
            metrics_listener,
            folders,
            progress: Progress::new(&[], &[]),
            keeper: None,
            local: None,
            stop: Arc::default(),
            stop_tcp: Arc::default(),
            stop_tasks,
            udp_threads: Vec::new(),
            tcp_threads: Vec::new(),
            accepting: Arc::default(),
            threads: Vec::new(),
            gate: Gate::default(),
            stop_watch: None,
            query_log: None,
            sources,
            config,
            store,
            answering: Arc::new(Current::new(settings)),
            status,
        };
        let (store, status) = (Arc::clone(&server.store), Arc::clone(&server.status));
        server.keeper = Some(Keeper::start(store, state, status, fresh)?);
        let counted = server.start_workers(sockets, &cpus, feed, start.beside, stopping.clone())?;
        if feed {
            let (store, status) = (Arc::clone(&server.store), Arc::clone(&server.status));
            let answering = Arc::clone(&server.answering);
            let seeds = Seeds { hash_key: options.hash_key, pauses: u64::from_ne_bytes(random()?) };
            let bounds = server.config.feed.bounds();
            let follower = Follower { store, answering, status, seeds, attempts, bounds, stop: stopping };
            let thread = if let Records::Remote(remote) = &start.records {
                follower.start_remote(remote)?
            } else {
                let (local, thread) = follower.start()?;
                server.local = Some(local);
                thread
            };
            server.threads.push(thread);
        }
        // What could fail has not.
        if let Some(predecessor) = start.predecessor {
            predecessor.relieve(RELIEF_LIMIT);
        }
        // Only now, as until now nobody has moved, and that was as it should be.
        server.progress = counted.progress();
        server.gate.open();
        Ok(server)
    }

    /// Addresses answered at, ports filled in.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where metrics are served.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// What is served now.
    #[must_use]
    pub fn status(&self) -> &Arc<Status> {
        &self.status
    }

    /// Whether the workers make progress.
    #[must_use]
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The store of snapshots, for whoever reads them beside the workers.
    #[must_use]
    pub fn store(&self) -> &Arc<Store<Snapshot>> {
        &self.store
    }

    /// The other side of the feed, once; `None` without a feed.
    pub fn take_feed(&mut self) -> Option<Local> {
        self.local.take()
    }

    /// What makes the query log go on with a new file where the old one was moved away; whoever gets SIGHUP calls it.
    #[must_use]
    pub fn log_reopener(&self) -> Reopener {
        self.query_log.as_ref().map(QueryLog::reopener).unwrap_or_default()
    }

    /// Starts the program at `path` to take our place. We go on until it says that it is ready.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_successor(&self, path: &Path) -> anyhow::Result<Successor> {
        let confinement = self.status.confinement.get().copied().unwrap_or_default();
        let metrics = self.metrics_listener.as_ref().map(AsFd::as_fd);
        Successor::start(path, &self.sockets, metrics, &confinement)
    }

    /// Stops: lets TCP connections end, and goes on answering over UDP meanwhile; answers what has come, writes the local
    /// snapshot.
    pub fn stop(self) {
        self.end(None);
    }

    /// Stops likewise. The successor begins when nothing more is taken from the sockets.
    pub fn give_way(self, successor: Waiting) {
        self.end(Some(successor));
    }

    fn end(mut self, successor: Option<Waiting>) {
        // Listeners must not be kept open by our copies: who connects now is to find nobody, or our successor.
        self.sockets.clear();
        if let (Some(log), Some(_)) = (&self.query_log, &successor) {
            // Before it begins, as it has the same target.
            log.hand_over();
        }
        match successor {
            Some(successor) => {
                self.stop_reading();
                successor.begin();
            }
            None => {
                // Nobody answers in our place yet: a slow TCP client is no reason to keep those on UDP waiting.
                self.end_connections();
                self.stop_reading();
            }
        }
        self.join();
        if let Some(keeper) = self.keeper.take() {
            keeper.stop();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.join();
    }
}

fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut octets = [0; N];
    getrandom::fill(&mut octets).context("random octets")?;
    Ok(octets)
}
