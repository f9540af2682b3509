//! Puts the parts together: sockets, workers, the store, where records come from, and what is shown of it all. Has no
//! state outside of [`Server`], so that a process can hold several.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use godwit_engine::answer::{AnyPolicy, CookieSecrets, Settings};
use godwit_engine::snapshot::store::Store;
use godwit_engine::snapshot::{Snapshot, SnapshotOptions};
use godwit_wire::feed::DigestKey;
use godwit_wire::name::Name;
use tokio::sync::watch;

use crate::config::{Any, Config, DEFAULT_LISTEN, DEFAULT_METRICS, OrOff, Steering};
use crate::feed::Local;
use crate::feed::local::Follower;
use crate::observe::counter::WorkerCounters;
use crate::observe::endpoint;
use crate::observe::limited;
use crate::observe::metrics::{Beside, Sources as MetricSources};
use crate::observe::progress::Progress;
use crate::observe::query_log::{QueryLog, Recorder, Reopener};
use crate::observe::status::Status;
use crate::sandbox::folders::Folders;
use crate::sandbox::{self, Confinement};
use crate::serve::engine::{Answering, Engine};
use crate::serve::handover::Successor;
use crate::serve::limit::Admission;
use crate::serve::rate::Limiter;
use crate::serve::secrets::{self, Secrets};
use crate::serve::sockets::{Inherited, Sockets};
use crate::serve::tcp::TcpWorker;
use crate::serve::udp::UdpWorker;
use crate::source::{Reload, Sources, ZoneError};
use crate::state::keeper::{Hold, Keeper};
use crate::state::{Origin, State};
use crate::sys::{affinity, heap, limits, privilege, socket};

/// What a process gives a server besides its configuration.
#[derive(Debug, Default)]
pub struct Start {
    /// Sockets that were open before this process.
    pub inherited: Inherited,
    /// Records come from the feed of this process, not from zone files.
    pub feed: bool,
    /// The key of the deployment's digests. Without it, the state folder's own.
    pub digest_key: Option<DigestKey>,
    /// Metrics of another part of the process, to be shown with ours.
    pub beside: Beside,
    /// This server is all that the process does, so the process can be closed to everything else: the path of the program
    /// that a handover starts. `None`: others share the process, and it stays open.
    pub confine: Option<PathBuf>,
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
    /// How the workers answer; swapped when secrets change.
    answering: Arc<Store<Answering>>,
    status: Arc<Status>,
    /// Zone files; none with a feed.
    sources: Option<Mutex<Sources>>,
    /// What may be read and written, where that is enforced.
    folders: Option<Folders>,
    progress: Progress,
    keeper: Option<Keeper>,
    local: Option<Local>,
    stop: Arc<AtomicBool>,
    stop_tasks: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
    /// Dropped, it ends the watch over rate limits.
    stop_watch: Option<mpsc::Sender<()>>,
    /// Ends after the workers have.
    query_log: Option<QueryLog>,
}

impl Server {
    /// Binds, loads, and starts to answer. Blocks while zones are loaded.
    ///
    /// # Errors
    /// What cannot be had: an address, the user, the state folder. A zone that cannot be read is logged and left out.
    pub fn start(config: Config, start: Start) -> anyhow::Result<Self> {
        let cpus = affinity::allowed_cpus();
        let _ = limits::raise_open_files();
        let settings = settings(&config)?;
        let workers = config.server.workers.map_or(cpus.len(), std::num::NonZeroUsize::get);

        let handover = start.inherited.handover;
        let inherited_metrics = start.inherited.metrics.map(TcpListener::from);
        let inherited = Inherited { metrics: None, ..start.inherited };
        let default = DEFAULT_LISTEN.parse().context("the default address")?;
        let options = config.udp.options();
        let sockets = Sockets::open(&config.server.listen, default, inherited, workers, &options)?;
        steer(&config, &sockets, &cpus)?;
        let metrics_listener = metrics_listener(&config, inherited_metrics)?;

        // From here on nothing needs more than an ordinary user has.
        become_user(&config, handover)?;
        if start.confine.is_some() {
            sandbox::give_up_privileges(&config.sandbox)?;
        }

        let origin = if start.feed { Origin::Feed } else { Origin::ZoneFiles };
        let folder = config.server.state.as_deref();
        let state = folder.map(|folder| State::open(folder, origin, handover)).transpose()?;
        let sources = (!start.feed)
            .then(|| Sources::new(&config.zones.files, config.zones.path.as_deref()))
            .transpose()?;
        // Before anything is read that others wrote, and before any thread is started.
        let (confinement, folders) = confine(&config, start.confine.as_deref(), sources.as_ref(), handover)?;
        let options = SnapshotOptions {
            hash_key: random()?,
            digest_key: match (start.digest_key, &state) {
                (Some(key), _) => key,
                (None, Some(state)) => state.digest_key()?,
                (None, None) => DigestKey(random()?),
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
                let snapshot = load_zones(&mut sources, state.as_ref(), &options, &status);
                (snapshot, false, Some(Mutex::new(sources)))
            }
        };
        // A load takes for a moment more than it leaves.
        heap::give_back();
        show(&status, &snapshot, !start.feed || fresh);
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
            stop: Arc::new(AtomicBool::new(false)),
            stop_tasks,
            threads: Vec::new(),
            stop_watch: None,
            query_log: None,
            sources,
            config,
            store,
            answering: Store::new(Answering::new(settings)),
            status,
        };
        let hold = Arc::new(Hold::default());
        let (store, status) = (Arc::clone(&server.store), Arc::clone(&server.status));
        server.keeper = Some(Keeper::start(store, state, status, Arc::clone(&hold), fresh)?);
        server.start_workers(sockets, &cpus, start.feed, start.beside, stopping.clone())?;
        if start.feed {
            let (store, status) = (Arc::clone(&server.store), Arc::clone(&server.status));
            let (local, thread) = Follower { store, status, hold, stop: stopping }.start()?;
            server.local = Some(local);
            server.threads.push(thread);
        }
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

    /// The sender's side of the feed, once; `None` without a feed.
    pub fn take_feed(&mut self) -> Option<Local> {
        self.local.take()
    }

    /// What makes the query log go on with a new file where the old one was moved away; whoever gets SIGHUP calls it.
    #[must_use]
    pub fn log_reopener(&self) -> Reopener {
        self.query_log.as_ref().map(QueryLog::reopener).unwrap_or_default()
    }

    /// Reads the cookie secrets, and the zone files that changed, and swaps what differs. Blocks. With a feed there are no
    /// zone files.
    pub fn reload(&self) {
        self.reload_secrets();
        let Some(sources) = &self.sources else { return };
        let started = Instant::now();
        let mut sources = sources.lock().unwrap_or_else(PoisonError::into_inner);
        let Reload { changed, removed, errors, unchanged } = sources.reload(false);
        report(&errors, "it keeps its last good state");
        if let Some(folders) = &self.folders {
            report_closed(&errors, folders);
        }
        self.status.failed_zones.store(errors.len() as u64, Ordering::Relaxed);
        let (changed_count, removed_count) = (changed.len(), removed.len());
        if changed_count > 0 || removed_count > 0 {
            let next = self.store.load().replace_zones(changed).remove_zones(&removed);
            show(&self.status, &next, true);
            self.store.swap(next);
            heap::give_back();
        }
        if errors.is_empty() {
            self.status.mark_current();
        }
        tracing::info!(
            changed = changed_count,
            removed = removed_count,
            unchanged,
            failed = errors.len(),
            elapsed_ms = milliseconds_since(started),
            "reloaded"
        );
    }

    /// Both secrets change at once for whole batches; a file that is wrong changes nothing.
    fn reload_secrets(&self) {
        let cookies = &self.config.cookies;
        let Some(path) = cookies.secrets_file.as_ref().filter(|_| cookies.enabled) else { return };
        let secrets = match secrets::read(path) {
            Ok(secrets) => with_secrets(secrets, cookies.require),
            Err(error) => {
                self.status.cookie_secrets_failed.store(1, Ordering::Relaxed);
                tracing::error!("{error:#}; the cookie secrets stay as they are");
                return;
            }
        };
        self.status.cookie_secrets_failed.store(0, Ordering::Relaxed);
        let answering = self.answering.load();
        let before = answering.settings();
        if before.cookies.as_ref() != Some(&secrets) {
            self.answering.swap(Answering::new(Settings { cookies: Some(secrets), ..before.clone() }));
            tracing::info!("the cookie secrets have changed");
        }
        drop(answering);
        // What a worker still holds is freed at the next reload.
        self.answering.reap();
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

    /// Stops: answers what has come, lets TCP connections end, writes the local snapshot.
    pub fn stop(mut self) {
        // Listeners must not be kept open by our copies: who connects now is to find nobody, or our successor.
        self.sockets.clear();
        self.join();
        if let Some(keeper) = self.keeper.take() {
            keeper.stop();
        }
    }

    fn join(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.stop_tasks.send_replace(true);
        self.stop_watch = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        if let Some(log) = self.query_log.take() {
            log.stop();
        }
    }

    fn start_workers(
        &mut self,
        sockets: Sockets,
        cpus: &[usize],
        fed: bool,
        beside: Beside,
        stopping: watch::Receiver<bool>,
    ) -> anyhow::Result<()> {
        let admission = Admission::new(self.config.tcp.limits());
        let drain = Duration::from_millis(self.config.server.drain_timeout_ms);
        let inherited = sockets.inherited;
        let rate_limits = self.config.rate_limit.limits();
        let workers = sockets.workers.len();
        let (mut udp, mut tcp) = (Vec::new(), Vec::new());
        let mut recorders = self.start_query_log(workers)?;
        for (i, worker) in sockets.workers.into_iter().enumerate() {
            let engine = || Engine::new(&self.store, &self.answering, fed);
            let stop = || Arc::clone(&self.stop);
            let (counters, tcp_counters) = (WorkerCounters::default(), WorkerCounters::default());
            let mut datagrams =
                UdpWorker::new(worker.udp, inherited, engine(), Arc::clone(&counters), stop())?;
            if let Some(limits) = &rate_limits {
                datagrams = datagrams.limited(Limiter::new(limits, workers, random_keys()?));
            }
            let mut connections = TcpWorker::new(
                worker.tcp,
                engine(),
                Arc::clone(&admission),
                Arc::clone(&tcp_counters),
                stop(),
                drain,
            )?;
            if let (Some(udp), Some(tcp)) = (recorders.next(), recorders.next()) {
                datagrams.record(udp);
                connections.record(tcp);
            }
            let cpu = cpus[i % cpus.len()];
            self.threads.push(spawn(format!("udp-{i}"), move || {
                if let Err(error) = affinity::pin(cpu) {
                    tracing::warn!(cpu, %error, "a worker could not be kept on its CPU");
                }
                datagrams.run();
            })?);
            self.threads.push(spawn(format!("tcp-{i}"), move || connections.run())?);
            udp.push(counters);
            tcp.push(tcp_counters);
        }
        self.progress = Progress::new(&udp, &tcp);
        if rate_limits.is_some() {
            let (stop, stopped) = mpsc::channel();
            let workers = udp.clone();
            self.threads.push(spawn("limits".to_owned(), move || limited::watch(&workers, &stopped))?);
            self.stop_watch = Some(stop);
        }
        if let Some(listener) = &self.metrics_listener {
            let listener = listener.try_clone()?;
            let status = Arc::clone(&self.status);
            let query_log = self.query_log.as_ref().map(|log| Arc::clone(log.counts())).unwrap_or_default();
            let sources = MetricSources { udp, tcp, admission, status, query_log, beside };
            self.threads.push(spawn("metrics".to_owned(), move || {
                if let Err(error) = endpoint::serve(listener, sources, stopping) {
                    tracing::error!(%error, "metrics are no longer served");
                }
            })?);
        }
        Ok(())
    }
}

impl Server {
    /// Starts the query log, unless it is off; a recorder for the UDP worker and one for the TCP worker of each number
    /// in turn, or none at all.
    fn start_query_log(&mut self, workers: usize) -> anyhow::Result<std::vec::IntoIter<Recorder>> {
        let names: Vec<String> =
            (0..workers).flat_map(|i| [format!("udp-{i}"), format!("tcp-{i}")]).collect();
        let started = QueryLog::start(&self.config.query_log, &names)?;
        Ok(started
            .map_or_else(Vec::new, |(log, recorders)| {
                self.query_log = Some(log);
                recorders
            })
            .into_iter())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.join();
    }
}

fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> anyhow::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name).spawn(work).context("starting a thread")
}

fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut octets = [0; N];
    getrandom::fill(&mut octets).context("random octets")?;
    Ok(octets)
}

fn random_keys() -> anyhow::Result<[u64; 4]> {
    Ok([random()?, random()?, random()?, random()?].map(u64::from_ne_bytes))
}

/// Sets what of the sockets depends on the CPUs, after all are bound in their order.
fn steer(config: &Config, sockets: &Sockets, cpus: &[usize]) -> anyhow::Result<()> {
    if config.udp.steering != Steering::Cpu || sockets.inherited {
        return Ok(());
    }
    for (i, worker) in sockets.workers.iter().enumerate() {
        for udp in &worker.udp {
            socket::prefer_cpu(udp.as_fd(), cpus[i % cpus.len()])?;
            if i == 0 {
                socket::steer_by_cpu(udp.as_fd()).context("udp.steering = \"cpu\"")?;
            }
        }
    }
    Ok(())
}

/// Where metrics are served. An address that was asked for must be had; the default one may be taken, as by a second
/// data plane on the same machine.
fn metrics_listener(config: &Config, inherited: Option<TcpListener>) -> anyhow::Result<Option<TcpListener>> {
    if config.metrics.listen == Some(OrOff::Off) {
        return Ok(None);
    }
    if inherited.is_some() {
        return Ok(inherited);
    }
    match config.metrics.listen {
        Some(OrOff::At(address)) => {
            let listener =
                TcpListener::bind(address).with_context(|| format!("serving metrics at {address}"))?;
            Ok(Some(listener))
        }
        _ => Ok(TcpListener::bind(DEFAULT_METRICS)
            .inspect_err(|error| {
                tracing::warn!(address = DEFAULT_METRICS, %error, "metrics are not served; see --metrics");
            })
            .ok()),
    }
}

fn become_user(config: &Config, handover: bool) -> anyhow::Result<()> {
    if handover && !privilege::is_root() {
        // The process before us became who we are, and there is no way on from there.
        return Ok(());
    }
    let Some(name) = &config.server.user else {
        if privilege::is_root() {
            tracing::warn!("running as root; server.user (or --user) names a user to become");
        }
        return Ok(());
    };
    let user = privilege::user(name).context("server.user")?;
    if let Some(folder) = &config.server.state
        && !folder.exists()
    {
        // Made while we still may, for who we will be.
        std::fs::create_dir_all(folder)
            .and_then(|()| std::os::unix::fs::chown(folder, Some(user.uid), Some(user.gid)))
            .with_context(|| format!("making the state folder {}", folder.display()))?;
    }
    privilege::become_user(&user).with_context(|| format!("becoming user \"{name}\""))
}

/// Closes the process, when it is ours alone: what has taken effect, and which folders stay open.
fn confine(
    config: &Config,
    program: Option<&Path>,
    sources: Option<&Sources>,
    handover: bool,
) -> anyhow::Result<(Confinement, Option<Folders>)> {
    let Some(program) = program else {
        tracing::info!("not confined: this process does more than to answer queries");
        return Ok((Confinement::found(), None));
    };
    let folders = Folders::of(config, program, sources);
    let inherited = if handover { Confinement::inherited()? } else { None };
    let confinement = sandbox::close(&config.sandbox, &folders, inherited)?;
    Ok((confinement, (confinement.landlock > 0).then_some(folders)))
}

fn settings(config: &Config) -> anyhow::Result<Settings> {
    let text = |value: &Option<String>| value.as_ref().map(|text| text.as_bytes().into());
    let answers = &config.answers;
    Ok(Settings {
        any: match answers.any {
            Any::Minimal => AnyPolicy::Minimal,
            Any::AlwaysMinimal => AnyPolicy::AlwaysMinimal,
            Any::Full => AnyPolicy::Full,
        },
        nsid: text(&answers.nsid),
        cookies: if config.cookies.enabled { Some(cookies(config)?) } else { None },
        udp_payload_max: config.udp.payload_octets,
        resolve_cname_chain: answers.resolve_cname_chain,
        max_cname_depth: answers.max_cname_depth,
        version_bind: text(&answers.version_bind),
        id_server: text(&answers.id_server),
        // RFC 7828 §3.1: in units of 100 milliseconds.
        tcp_keepalive: Some(u16::try_from(config.tcp.idle_timeout_ms / 100).unwrap_or(u16::MAX)),
        ..Settings::default()
    })
}

fn cookies(config: &Config) -> anyhow::Result<CookieSecrets> {
    let secrets = match &config.cookies.secrets_file {
        Some(path) => secrets::read(path)?,
        None => Secrets { current: random()?, previous: None },
    };
    Ok(with_secrets(secrets, config.cookies.require))
}

fn with_secrets(secrets: Secrets, require: bool) -> CookieSecrets {
    CookieSecrets { current: secrets.current, previous: secrets.previous, require }
}

/// The newest local snapshot that is whole.
fn load_local(state: Option<&State>, options: &SnapshotOptions, status: &Status) -> Option<Snapshot> {
    let started = Instant::now();
    let found = state?.load(options, |path, error| {
        status.snapshot_errors.fetch_add(1, Ordering::Relaxed);
        let error = format!("{error:#}");
        tracing::error!(file = %path.display(), error, "a local snapshot is damaged; trying the one before");
    })?;
    status.current_at_us.store(found.current_at_us, Ordering::Relaxed);
    tracing::info!(
        sequence = found.snapshot.position().sequence,
        zones = found.snapshot.zone_count(),
        names = found.snapshot.name_count(),
        elapsed_ms = milliseconds_since(started),
        "read the local snapshot"
    );
    Some(found.snapshot)
}

/// Reads the zone files. What of them cannot be read is taken from the local snapshot, where there is one.
fn load_zones(
    sources: &mut Sources,
    state: Option<&State>,
    options: &SnapshotOptions,
    status: &Status,
) -> Snapshot {
    let started = Instant::now();
    let (zones, errors) = sources.load();
    let mut base = Snapshot::empty(options);
    if !errors.is_empty()
        && let Some(local) = load_local(state, options, status)
    {
        base = keep_failed(&local, &zones, &errors);
    }
    let kept_zones: Vec<Name> = base.zones().map(|zone| zone.apex().to_owned()).collect();
    let (left_out, kept): (Vec<ZoneError>, Vec<ZoneError>) = errors
        .into_iter()
        .partition(|error| error.zone.as_ref().is_none_or(|zone| !kept_zones.contains(zone)));
    report(&left_out, "it is left out");
    report(&kept, "it keeps its last good state, from the local snapshot");
    status.failed_zones.store((left_out.len() + kept.len()) as u64, Ordering::Relaxed);
    // Where the list could not be read, they include some that nobody may want: the next list decides.
    sources.adopt(kept_zones);
    let loaded = zones.len();
    let snapshot = base.replace_zones(zones);
    if left_out.is_empty() && kept.is_empty() {
        status.mark_current();
    }
    if loaded > 0 || !left_out.is_empty() {
        tracing::info!(
            zones = loaded,
            failed = left_out.len() + kept.len(),
            names = snapshot.name_count(),
            elapsed_ms = milliseconds_since(started),
            "read the zone files"
        );
    }
    snapshot
}

/// Of the local snapshot the zones that are wanted but could not be read now. When the list itself could not be read,
/// nobody knows what is wanted, and all of them are kept.
fn keep_failed(
    local: &Snapshot,
    zones: &[godwit_engine::snapshot::LoadedZone],
    errors: &[ZoneError],
) -> Snapshot {
    let list_failed = errors.iter().any(|error| error.zone.is_none());
    let read: std::collections::BTreeSet<Name> = zones.iter().map(|zone| zone.apex().to_owned()).collect();
    let failed: std::collections::BTreeSet<&Name> =
        errors.iter().filter_map(|error| error.zone.as_ref()).collect();
    let unwanted: Vec<Name> = local
        .zones()
        .map(|zone| zone.apex().to_owned())
        .filter(|apex| read.contains(apex) || !(list_failed || failed.contains(apex)))
        .collect();
    local.remove_zones(&unwanted)
}

fn report(errors: &[ZoneError], consequence: &str) {
    for error in errors {
        tracing::error!("{error}; {consequence}");
    }
}

/// Says of files that could not be read because nobody told us at the start that we would read there.
fn report_closed(errors: &[ZoneError], folders: &Folders) {
    for error in errors {
        if !folders.cover(Path::new(&error.file)) {
            let file = &error.file;
            tracing::warn!(
                file,
                "its folder was closed at the start; sandbox.read names folders to keep open"
            );
        }
    }
}

/// As a number that JSON can hold.
fn milliseconds_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn show(status: &Status, snapshot: &Snapshot, has_snapshot: bool) {
    status.sequence.store(snapshot.position().sequence, Ordering::Relaxed);
    status.zones.store(snapshot.zone_count() as u64, Ordering::Relaxed);
    status.names.store(snapshot.name_count() as u64, Ordering::Relaxed);
    status.has_snapshot.store(has_snapshot, Ordering::Relaxed);
}
