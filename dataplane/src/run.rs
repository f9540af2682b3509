//! The life of the `godwit-dataplane` process: start, signals, handover, stop.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::config::Config;
use crate::feed::remote::Remote;
use crate::feed::remote::join::{self, Join};
use crate::observe::watchdog::Watchdog;
use crate::sandbox::alarm::Alarm;
use crate::serve::handover::{self, Waiting};
use crate::server::{Records, Server, Start};
use crate::sys::signal;

/// How long a process looks for signals that are on their way to it: for a stop before it gives way to a successor, and for
/// a reload after it has. Whoever sent them did so before, and means the one who stays.
const LAST_LOOK: Duration = Duration::from_millis(100);

/// Asks a running data plane to stop. Clones ask the same one.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Sender<bool>);

impl Default for Shutdown {
    fn default() -> Self {
        Shutdown(watch::Sender::new(false))
    }
}

impl Shutdown {
    /// Asks, once and for all.
    pub fn trigger(&self) {
        self.0.send_replace(true);
    }

    /// Until it was asked.
    pub async fn triggered(&self) {
        // We hold a sender ourselves, so the channel cannot close.
        let _ = self.0.subscribe().wait_for(|asked| *asked).await;
    }
}

/// Serves until asked to stop, by `shutdown` or by a signal, or until a successor has taken over. Prints on standard
/// output where it listens.
///
/// # Errors
/// Why it cannot start, see [`Server::start`].
pub fn run(config: Config, shutdown: &Shutdown) -> anyhow::Result<()> {
    // First of all: descriptors named by the environment, before ours could take their numbers.
    let (inherited, predecessor) = handover::inherited()?;
    // While the file that we were started from still has its name.
    let program = std::env::current_exe().context("the path of this program")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handover_timeout = Duration::from_millis(config.server.handover_timeout_ms);
    let records = records(&config)?;
    let result = runtime.block_on(async {
        let mut signals = Signals::new()?;
        let confine = Some(program.clone());
        let start = Start { inherited, predecessor, confine, records, ..Start::default() };
        let server = Arc::new(Server::start(config, start)?);
        announce(&server);
        let successor = serve(&server, shutdown, &mut signals, &program, handover_timeout).await;
        if successor.is_none() {
            // With a successor the service goes on; a supervisor that hears of a stop would end it too.
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        }
        tracing::info!("stopping");
        match (Arc::into_inner(server), successor) {
            (Some(server), Some(successor)) => {
                let process = successor.id();
                server.give_way(successor);
                if tokio::time::timeout(LAST_LOOK, signals.hangup.recv()).await.is_ok() {
                    reload(process);
                }
            }
            (Some(server), None) => server.stop(),
            (None, _) => {}
        }
        Ok(())
    });
    runtime.shutdown_background();
    result
}

/// Where records come from: the control plane that this node was joined to, now or at an earlier start, or zone files.
fn records(config: &Config) -> anyhow::Result<Records> {
    let kept = config.server.state.as_ref().map(|folder| folder.join(join::FILE));
    let has_zone_files = !config.zones.files.is_empty() || config.zones.path.is_some();
    let join = match (&config.server.join, kept) {
        (Some(argument), _) => Join::of_argument(argument).context("server.join (--join)")?,
        (None, Some(kept)) if !has_zone_files && kept.exists() => Join::of_file(&kept)?,
        (None, _) => return Ok(Records::ZoneFiles),
    };
    tracing::info!(
        node = join.name,
        control_planes = join.control_planes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        "records come from the control plane"
    );
    Ok(Records::Remote(Remote::new(join, config.server.state.as_deref())?))
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    hand_over: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| tokio::signal::unix::signal(kind).context("listening for signals");
        Ok(Signals {
            hangup: listen(SignalKind::hangup())?,
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hand_over: listen(SignalKind::user_defined2())?,
        })
    }
}

/// Says where we listen, and that we do: to people and to the supervisor.
fn announce(server: &Server) {
    let status = server.status();
    let (zones, names) = (status.zones.load(Ordering::Relaxed), status.names.load(Ordering::Relaxed));
    let say = || -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        for address in server.addresses() {
            writeln!(out, "listening at {address} (UDP and TCP)")?;
        }
        if let Some(address) = server.metrics_address() {
            writeln!(out, "metrics at http://{address}/metrics")?;
        }
        writeln!(out, "serving {zones} zones with {names} names")?;
        out.flush()
    };
    // We answer already, and after a handover nobody else would: that nobody listens to us is no reason to end.
    if let Err(error) = say() {
        tracing::warn!(%error, "standard output is closed");
    }
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    tracing::info!(addresses = ?server.addresses(), zones, names, version = env!("CARGO_PKG_VERSION"), "started");
}

/// Until a stop is asked for, or a successor is ready, which is returned.
///
/// Reloads and handovers do not overlap: a successor reads the files anew, and what it read is not to be older than what
/// we serve when it begins. So a handover waits for the end of a reload, and a reload that is asked for during a
/// handover is left to the one who stays.
async fn serve(
    server: &Arc<Server>,
    shutdown: &Shutdown,
    signals: &mut Signals,
    program: &Path,
    handover_timeout: Duration,
) -> Option<Waiting> {
    let mut reload: Option<JoinHandle<()>> = None;
    let mut reload_again = false;
    let mut successor: Option<JoinHandle<anyhow::Result<Waiting>>> = None;
    let called_off = Arc::new(AtomicBool::new(false));
    let mut watchdog = Watchdog::new(sd_notify::watchdog_enabled());
    let mut alarm = Alarm::default();
    let mut look = tokio::time::interval(watchdog.interval());
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let ready = loop {
        tokio::select! {
            // In this order: a stop means a successor too that is ready at the same time.
            biased;
            () = asked_to_stop(shutdown, &mut signals.terminate, &mut signals.interrupt) => break None,
            _ = look.tick() => {
                let now = Instant::now();
                watchdog.beat(server.progress(), now, || {
                    let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
                });
                alarm.look(now);
            }
            _ = signals.hangup.recv() => {
                server.log_reopener().reopen();
                if reload.is_some() || successor.is_some() {
                    reload_again = true;
                } else {
                    reload = Some(start_reload(server));
                }
            }
            () = finished(&mut reload) => {
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
                reload = std::mem::take(&mut reload_again).then(|| start_reload(server));
            }
            _ = signals.hand_over.recv(), if reload.is_none() => {
                // One at a time; asked for again meanwhile, it is the same.
                if successor.is_none() {
                    successor = start_successor(server, program, handover_timeout, &called_off);
                }
            }
            outcome = finished(&mut successor) => {
                successor = None;
                match outcome {
                    Ok(waiting) => {
                        let stop = asked_to_stop(shutdown, &mut signals.terminate, &mut signals.interrupt);
                        if tokio::time::timeout(LAST_LOOK, stop).await.is_ok() {
                            call_off(waiting);
                            break None;
                        }
                        hand_over(&waiting, reload_again);
                        break Some(waiting);
                    }
                    Err(error) => tracing::error!(error = format!("{error:#}"), "handover failed; we go on"),
                }
                reload = std::mem::take(&mut reload_again).then(|| start_reload(server));
            }
        }
    };
    if let Some(reload) = reload {
        let _ = reload.await;
    }
    if let Some(successor) = successor {
        // Whoever stops us does not want another in our place.
        called_off.store(true, Ordering::Relaxed);
        match successor.await {
            Ok(Ok(waiting)) => call_off(waiting),
            Ok(Err(error)) => tracing::info!(error = format!("{error:#}"), "handover called off"),
            Err(_) => {}
        }
    }
    ready
}

/// Until somebody asks for a stop.
async fn asked_to_stop(shutdown: &Shutdown, terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        () = shutdown.triggered() => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Ends a successor that was ready.
fn call_off(successor: Waiting) {
    successor.end();
    tracing::info!("handover called off");
}

/// Tells the supervisor whom to watch from now on, and the new process what we were asked for and have left to it.
fn hand_over(successor: &Waiting, reload_too: bool) {
    let process = successor.id();
    tracing::info!(process, "the new process takes over");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::MainPid(process)]);
    if reload_too {
        reload(process);
    }
}

/// Asks our successor to reload. (Its number is nobody else's as long as we are its parent.)
fn reload(process: u32) {
    if let Err(error) = signal::hang_up(process) {
        tracing::error!(%error, "the new process could not be asked to reload");
    }
}

/// The outcome of a task, when there is one and it ends. A task of ours that panics is a fault of ours: it goes on
/// here.
async fn finished<T>(task: &mut Option<JoinHandle<T>>) -> T {
    match task {
        Some(task) => match task.await {
            Ok(outcome) => outcome,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        },
        None => std::future::pending().await,
    }
}

fn start_reload(server: &Arc<Server>) -> JoinHandle<()> {
    if let Ok(now) = sd_notify::NotifyState::monotonic_usec_now() {
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Reloading, now]);
    }
    let server = Arc::clone(server);
    tokio::task::spawn_blocking(move || server.reload())
}

fn start_successor(
    server: &Server,
    program: &Path,
    timeout: Duration,
    called_off: &Arc<AtomicBool>,
) -> Option<JoinHandle<anyhow::Result<Waiting>>> {
    match server.start_successor(program) {
        Ok(successor) => {
            tracing::info!(process = successor.id(), program = %program.display(), "handing over");
            let called_off = Arc::clone(called_off);
            Some(tokio::task::spawn_blocking(move || successor.wait_ready(timeout, &called_off)))
        }
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "handover failed; we go on");
            None
        }
    }
}
