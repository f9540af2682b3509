//! Puts the parts together: sockets, workers, the store, where records come from, and what is shown of it all. Has no
//! state outside of [`Server`], so that a process can hold several.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
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
use crate::observe::metrics::{Beside, Sources as MetricSources};
use crate::observe::status::Status;
use crate::serve::engine::Engine;
use crate::serve::handover::{Predecessor, Successor, Waiting};
use crate::serve::limit::Admission;
use crate::serve::sockets::{Inherited, Sockets};
use crate::serve::tcp::TcpWorker;
use crate::serve::udp::UdpWorker;
use crate::source::{Reload, Sources, ZoneError};
use crate::state::keeper::{Hold, Keeper};
use crate::state::{Origin, State};
use crate::sys::{affinity, limits, privilege, signal, socket};

/// What a process gives a server besides its configuration.
#[derive(Debug, Default)]
pub struct Start {
    /// Sockets that were open before this process.
    pub inherited: Inherited,
    /// The process that reads them until we do.
    pub predecessor: Option<Predecessor>,
    /// Records come from the feed of this process, not from zone files.
    pub feed: bool,
    /// The key of the deployment's digests. Without it, the state folder's own.
    pub digest_key: Option<DigestKey>,
    /// Metrics of another part of the process, to be shown with ours.
    pub beside: Beside,
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
    status: Arc<Status>,
    /// Zone files; none with a feed.
    sources: Option<Mutex<Sources>>,
    keeper: Option<Keeper>,
    local: Option<Local>,
    stop: Arc<AtomicBool>,
    stop_tasks: watch::Sender<bool>,
    udp_threads: Vec<JoinHandle<()>>,
    tcp_threads: Vec<JoinHandle<()>>,
    /// Held by each TCP worker as long as it accepts.
    accepting: Arc<()>,
    threads: Vec<JoinHandle<()>>,
}

/// How often a worker is interrupted that is to stop and waits for a packet.
const INTERRUPT_PAUSE: Duration = Duration::from_micros(200);
/// How long a successor is kept waiting for TCP workers that do not stop accepting.
const ACCEPTING_LIMIT: Duration = Duration::from_secs(1);

impl Server {
    /// Binds, loads, and starts to answer. Blocks while zones are loaded.
    ///
    /// # Errors
    /// What cannot be had: an address, the user, the state folder. A zone that cannot be read is logged and left out.
    pub fn start(config: Config, start: Start) -> anyhow::Result<Self> {
        let cpus = affinity::allowed_cpus();
        let _ = limits::raise_open_files();
        signal::prepare_interrupts().context("signals")?;
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
        become_user(&config)?;

        let origin = if start.feed { Origin::Feed } else { Origin::ZoneFiles };
        let folder = config.server.state.as_deref();
        let state = folder.map(|folder| State::open(folder, origin, handover)).transpose()?;
        let options = SnapshotOptions {
            hash_key: random()?,
            digest_key: match (start.digest_key, &state) {
                (Some(key), _) => key,
                (None, Some(state)) => state.digest_key()?,
                (None, None) => DigestKey(random()?),
            },
        };
        let status = Arc::new(Status::default());
        let (snapshot, fresh, sources) = if start.feed {
            let found = load_local(state.as_ref(), &options, &status);
            let fresh = found.is_some();
            (found.unwrap_or_else(|| Snapshot::empty(&options)), fresh, None)
        } else {
            let mut sources = Sources::new(&config.zones.files, config.zones.path.as_deref())?;
            let snapshot = load_zones(&mut sources, state.as_ref(), &options, &status, handover)?;
            (snapshot, false, Some(Mutex::new(sources)))
        };
        show(&status, &snapshot, !start.feed || fresh);
        let store = Store::new(snapshot);

        let (stop_tasks, stopping) = watch::channel(false);
        let mut server = Server {
            addresses: sockets.addresses.clone(),
            metrics_address: metrics_listener.as_ref().map(TcpListener::local_addr).transpose()?,
            sockets: sockets.duplicate()?,
            metrics_listener,
            keeper: None,
            local: None,
            stop: Arc::new(AtomicBool::new(false)),
            stop_tasks,
            udp_threads: Vec::new(),
            tcp_threads: Vec::new(),
            accepting: Arc::default(),
            threads: Vec::new(),
            sources,
            config,
            store,
            status,
        };
        let hold = Arc::new(Hold::default());
        let (store, status) = (Arc::clone(&server.store), Arc::clone(&server.status));
        server.keeper = Some(Keeper::start(store, state, status, Arc::clone(&hold), fresh)?);
        let workers = server.workers(sockets, &settings, start.feed)?;
        // What could fail has not.
        if let Some(predecessor) = start.predecessor {
            predecessor.relieve();
        }
        server.start_workers(workers, &cpus, start.beside, stopping.clone())?;
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

    /// The store of snapshots, for whoever reads them beside the workers.
    #[must_use]
    pub fn store(&self) -> &Arc<Store<Snapshot>> {
        &self.store
    }

    /// The sender's side of the feed, once; `None` without a feed.
    pub fn take_feed(&mut self) -> Option<Local> {
        self.local.take()
    }

    /// Reads the zone files that changed and swaps what differs. Blocks. With a feed there is nothing to do.
    pub fn reload(&self) {
        let Some(sources) = &self.sources else { return };
        let started = Instant::now();
        let mut sources = sources.lock().unwrap_or_else(PoisonError::into_inner);
        let Reload { changed, removed, errors, unchanged } = sources.reload(false);
        report(&errors, "it keeps its last good state");
        self.status.failed_zones.store(errors.len() as u64, Ordering::Relaxed);
        let (changed_count, removed_count) = (changed.len(), removed.len());
        if changed_count > 0 || removed_count > 0 {
            let next = self.store.load().replace_zones(changed).remove_zones(&removed);
            show(&self.status, &next, true);
            self.store.swap(next);
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

    /// Starts the program at `path` to take our place. We go on until it says that it is ready.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_successor(&self, path: &Path) -> anyhow::Result<Successor> {
        Successor::start(path, &self.sockets, self.metrics_listener.as_ref().map(AsFd::as_fd))
    }

    /// Stops: answers what has come, lets TCP connections end, writes the local snapshot.
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
        self.stop_reading();
        drop(successor);
        self.join();
        if let Some(keeper) = self.keeper.take() {
            keeper.stop();
        }
    }

    /// Until no worker takes a datagram or a connection any more.
    fn stop_reading(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.stop_tasks.send_replace(true);
        let deadline = Instant::now() + ACCEPTING_LIMIT;
        let accepting = |server: &Self| Arc::strong_count(&server.accepting) > 1 && Instant::now() < deadline;
        while self.udp_threads.iter().any(|thread| !thread.is_finished()) || accepting(self) {
            // Those that wait for a packet would notice at the end of their time only.
            let waiting = self.udp_threads.iter().chain(&self.tcp_threads);
            waiting.filter(|thread| !thread.is_finished()).for_each(signal::interrupt);
            std::thread::sleep(INTERRUPT_PAUSE);
        }
    }

    fn join(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.stop_tasks.send_replace(true);
        let threads = self.udp_threads.drain(..).chain(self.tcp_threads.drain(..));
        for thread in threads.chain(self.threads.drain(..)) {
            let _ = thread.join();
        }
    }

    /// Makes the workers, so that only their threads are left to be started.
    fn workers(&self, sockets: Sockets, settings: &Settings, fed: bool) -> anyhow::Result<Workers> {
        let admission = Admission::new(self.config.tcp.limits());
        let drain = Duration::from_millis(self.config.server.drain_timeout_ms);
        let inherited = sockets.inherited;
        let mut workers = Workers { udp: Vec::new(), tcp: Vec::new(), admission };
        for worker in sockets.workers {
            let engine = || Engine::new(&self.store, settings.clone(), fed);
            let stop = || Arc::clone(&self.stop);
            let (counters, tcp_counters) = (WorkerCounters::default(), WorkerCounters::default());
            let datagrams = UdpWorker::new(worker.udp, inherited, engine(), Arc::clone(&counters), stop())?;
            let connections = TcpWorker::new(
                worker.tcp,
                engine(),
                Arc::clone(&workers.admission),
                Arc::clone(&tcp_counters),
                stop(),
                drain,
            )?;
            workers.udp.push((datagrams, counters));
            workers.tcp.push((connections.accepting(Arc::clone(&self.accepting)), tcp_counters));
        }
        Ok(workers)
    }

    fn start_workers(
        &mut self,
        workers: Workers,
        cpus: &[usize],
        beside: Beside,
        stopping: watch::Receiver<bool>,
    ) -> anyhow::Result<()> {
        let Workers { udp: udp_workers, tcp: tcp_workers, admission } = workers;
        let (mut udp, mut tcp) = (Vec::new(), Vec::new());
        for (i, (datagrams, counters)) in udp_workers.into_iter().enumerate() {
            let cpu = cpus[i % cpus.len()];
            self.udp_threads.push(spawn(format!("udp-{i}"), move || {
                if let Err(error) = affinity::pin(cpu) {
                    tracing::warn!(cpu, %error, "a worker could not be kept on its CPU");
                }
                datagrams.run();
            })?);
            udp.push(counters);
        }
        for (i, (connections, counters)) in tcp_workers.into_iter().enumerate() {
            self.tcp_threads.push(spawn(format!("tcp-{i}"), move || connections.run())?);
            tcp.push(counters);
        }
        if let Some(listener) = &self.metrics_listener {
            let listener = listener.try_clone()?;
            let sources = MetricSources { udp, tcp, admission, status: Arc::clone(&self.status), beside };
            self.threads.push(spawn("metrics".to_owned(), move || {
                if let Err(error) = endpoint::serve(listener, sources, stopping) {
                    tracing::error!(%error, "metrics are no longer served");
                }
            })?);
        }
        Ok(())
    }
}

/// Workers that have everything but a thread, each with its counts.
struct Workers {
    udp: Vec<(UdpWorker<Engine>, WorkerCounters)>,
    tcp: Vec<(TcpWorker<Engine>, WorkerCounters)>,
    admission: Arc<Admission>,
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

fn become_user(config: &Config) -> anyhow::Result<()> {
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
    let require = config.cookies.require;
    let Some(path) = &config.cookies.secrets_file else {
        return Ok(CookieSecrets { current: random()?, previous: None, require });
    };
    let place = || format!("cookies.secrets_file {}", path.display());
    let text = std::fs::read_to_string(path).with_context(place)?;
    let mut secrets = Vec::new();
    for (line, number) in text.lines().map(str::trim).zip(1..).filter(|(line, _)| !line.is_empty()) {
        // Never the line itself: it is a secret, or was meant to be.
        let secret = secret(line)
            .with_context(|| format!("{}, line {number}: expected 32 hexadecimal digits", place()))?;
        secrets.push(secret);
    }
    match secrets[..] {
        [current] => Ok(CookieSecrets { current, previous: None, require }),
        [current, previous] => Ok(CookieSecrets { current, previous: Some(previous), require }),
        _ => bail!("{}: expected one secret or two, found {}", place(), secrets.len()),
    }
}

fn secret(line: &str) -> Option<[u8; 16]> {
    let digits = line.as_bytes();
    let mut secret = [0; 16];
    if digits.len() != 32 {
        return None;
    }
    for (octet, pair) in secret.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *octet = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
    }
    Some(secret)
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

/// Reads the zone files. What of them cannot be read is taken from the local snapshot, where there is one. A zone that
/// is in neither is left out, but not at a handover: the process before us may still have it.
fn load_zones(
    sources: &mut Sources,
    state: Option<&State>,
    options: &SnapshotOptions,
    status: &Status,
    handover: bool,
) -> anyhow::Result<Snapshot> {
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
    if handover && let Some(error) = left_out.first() {
        report(&left_out, "nothing is taken over");
        bail!("{error} ({} such in all); the process before us goes on", left_out.len());
    }
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
    Ok(snapshot)
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
