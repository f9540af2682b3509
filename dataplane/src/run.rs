//! The life of the `godwit-dataplane` process: start, signals, handover, stop.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::config::Config;
use crate::observe::watchdog::Watchdog;
use crate::sandbox::alarm::Alarm;
use crate::serve::handover::{self, Predecessor};
use crate::server::{Server, Start};

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
    let result = runtime.block_on(async {
        let mut signals = Signals::new()?;
        let confine = Some(program.clone());
        let server = Arc::new(Server::start(config, Start { inherited, confine, ..Start::default() })?);
        announce(&server, predecessor)?;
        serve(&server, shutdown, &mut signals, &program, handover_timeout).await;
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        tracing::info!("stopping");
        if let Some(server) = Arc::into_inner(server) {
            server.stop();
        }
        Ok(())
    });
    // A successor that is still being waited for must not keep us.
    runtime.shutdown_background();
    result
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    hand_over: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("listening for signals");
        Ok(Signals {
            hangup: listen(SignalKind::hangup())?,
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hand_over: listen(SignalKind::user_defined2())?,
        })
    }
}

/// Says where we listen, and that we do: to people, to the supervisor, and to the process before us.
fn announce(server: &Server, predecessor: Option<Predecessor>) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    for address in server.addresses() {
        writeln!(out, "listening at {address} (UDP and TCP)")?;
    }
    if let Some(address) = server.metrics_address() {
        writeln!(out, "metrics at http://{address}/metrics")?;
    }
    let status = server.status();
    let (zones, names) = (status.zones.load(Ordering::Relaxed), status.names.load(Ordering::Relaxed));
    writeln!(out, "serving {zones} zones with {names} names")?;
    out.flush()?;
    if let Some(predecessor) = predecessor
        && let Err(error) = predecessor.ready()
    {
        tracing::warn!(%error, "the process before us is gone already");
    }
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    tracing::info!(addresses = ?server.addresses(), zones, names, version = env!("CARGO_PKG_VERSION"), "started");
    Ok(())
}

/// Until a stop is asked for or a successor is ready.
async fn serve(
    server: &Arc<Server>,
    shutdown: &Shutdown,
    signals: &mut Signals,
    program: &Path,
    handover_timeout: Duration,
) {
    let mut reload: Option<JoinHandle<()>> = None;
    let mut reload_again = false;
    let mut successor: Option<JoinHandle<anyhow::Result<()>>> = None;
    let mut watchdog = Watchdog::new(sd_notify::watchdog_enabled());
    let mut alarm = Alarm::default();
    let mut look = tokio::time::interval(watchdog.interval());
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.triggered() => break,
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
            _ = look.tick() => {
                let now = Instant::now();
                watchdog.beat(server.progress(), now, || {
                    let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
                });
                alarm.look(now);
            }
            _ = signals.hangup.recv() => {
                server.log_reopener().reopen();
                if reload.is_some() {
                    reload_again = true;
                } else {
                    reload = Some(start_reload(server));
                }
            }
            () = finished(&mut reload) => {
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
                reload = std::mem::take(&mut reload_again).then(|| start_reload(server));
            }
            _ = signals.hand_over.recv(), if successor.is_none() => {
                successor = start_successor(server, program, handover_timeout);
            }
            outcome = finished(&mut successor) => {
                successor = None;
                match outcome {
                    Ok(()) => {
                        tracing::info!("the new process has taken over");
                        break;
                    }
                    Err(error) => tracing::error!(error = format!("{error:#}"), "handover failed; we go on"),
                }
            }
        }
    }
    if let Some(reload) = reload {
        let _ = reload.await;
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
) -> Option<JoinHandle<anyhow::Result<()>>> {
    match server.start_successor(program) {
        Ok(successor) => {
            let id = successor.id();
            tracing::info!(process = id, program = %program.display(), "handing over");
            Some(tokio::task::spawn_blocking(move || {
                successor.wait_ready(timeout)?;
                // The supervisor is to watch the new process from now on.
                let _ = sd_notify::notify(&[sd_notify::NotifyState::MainPid(id)]);
                Ok(())
            }))
        }
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "handover failed; we go on");
            None
        }
    }
}
