//! The threads that answer, and those beside them that log, watch the rate limits and serve metrics; how they begin, and
//! how they stop reading.

use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::watch;

use super::{Server, random};
use crate::observe::counter::WorkerCounters;
use crate::observe::endpoint;
use crate::observe::limited;
use crate::observe::metrics::{Beside, Sources as MetricSources};
use crate::observe::progress::Progress;
use crate::observe::query_log::{QueryLog, Recorder};
use crate::serve::engine::Engine;
use crate::serve::limit::Admission;
use crate::serve::rate::Limiter;
use crate::serve::sockets::Sockets;
use crate::serve::tcp::TcpWorker;
use crate::serve::udp::UdpWorker;
use crate::sys::{affinity, signal};

/// How often a worker is interrupted that is to stop and waits for a packet.
const INTERRUPT_PAUSE: Duration = Duration::from_micros(200);
/// How often it is looked whether connections have ended.
const DRAIN_PAUSE: Duration = Duration::from_millis(5);
/// How long workers that do not stop reading are waited for. A successor that begins beside them may for a while answer from
/// a newer zone than they do; one that never begins would be worse.
const STOP_READING_LIMIT: Duration = Duration::from_secs(3);

/// What the workers count, one entry for each.
pub(super) struct Counted {
    udp: Vec<WorkerCounters>,
    tcp: Vec<WorkerCounters>,
}

impl Counted {
    /// All are taken to have moved just now.
    pub(super) fn progress(&self) -> Progress {
        Progress::new(&self.udp, &self.tcp)
    }
}

impl Server {
    /// Makes the workers and starts all threads, which wait at the gate.
    pub(super) fn start_workers(
        &mut self,
        sockets: Sockets,
        cpus: &[usize],
        fed: bool,
        beside: Beside,
        stopping: watch::Receiver<bool>,
    ) -> anyhow::Result<Counted> {
        let admission = Admission::new(self.config.tcp.limits());
        let drain = Duration::from_millis(self.config.server.drain_timeout_ms);
        let inherited = sockets.inherited;
        let rate_limits = self.config.rate_limit.limits();
        let workers = sockets.workers.len();
        let (mut udp, mut tcp) = (Vec::new(), Vec::new());
        let mut recorders = self.start_query_log(workers)?;
        for (i, worker) in sockets.workers.into_iter().enumerate() {
            let engine = || Engine::new(&self.store, self.answering.store(), fed);
            let (counters, tcp_counters) = (WorkerCounters::default(), WorkerCounters::default());
            let mut datagrams = UdpWorker::new(
                worker.udp,
                inherited,
                engine(),
                Arc::clone(&counters),
                Arc::clone(&self.stop),
            )?;
            if let Some(limits) = &rate_limits {
                datagrams = datagrams.limited(Limiter::new(limits, workers, random_keys()?));
            }
            let mut connections = TcpWorker::new(
                worker.tcp,
                engine(),
                Arc::clone(&admission),
                Arc::clone(&tcp_counters),
                Arc::clone(&self.stop_tcp),
                drain,
            )?
            .accepting(Arc::clone(&self.accepting));
            if let (Some(udp), Some(tcp)) = (recorders.next(), recorders.next()) {
                datagrams.record(udp);
                connections.record(tcp);
            }
            let cpu = cpus[i % cpus.len()];
            let thread = self.spawn(format!("udp-{i}"), move || {
                if let Err(error) = affinity::pin(cpu) {
                    tracing::warn!(cpu, %error, "a worker could not be kept on its CPU");
                }
                affinity::run_at_once();
                datagrams.run();
            })?;
            self.udp_threads.push(thread);
            let thread = self.spawn(format!("tcp-{i}"), move || {
                affinity::give_way();
                connections.run();
            })?;
            self.tcp_threads.push(thread);
            udp.push(counters);
            tcp.push(tcp_counters);
        }
        if rate_limits.is_some() {
            let (stop, stopped) = mpsc::channel();
            let workers = udp.clone();
            let thread = self.spawn("limits".to_owned(), move || limited::watch(&workers, &stopped))?;
            self.threads.push(thread);
            self.stop_watch = Some(stop);
        }
        let counted = Counted { udp: udp.clone(), tcp: tcp.clone() };
        if let Some(listener) = &self.metrics_listener {
            let listener = listener.try_clone()?;
            let status = Arc::clone(&self.status);
            let query_log = self.query_log.as_ref().map(|log| Arc::clone(log.counts())).unwrap_or_default();
            let sources = MetricSources { udp, tcp, admission, status, query_log, beside };
            let thread = self.spawn("metrics".to_owned(), move || {
                if let Err(error) = endpoint::serve(listener, sources, stopping) {
                    tracing::error!(%error, "metrics are no longer served");
                }
            })?;
            self.threads.push(thread);
        }
        Ok(counted)
    }

    /// Starts the query log, unless it is off; a recorder for the UDP worker and one for the TCP worker of each number
    /// in turn, or none at all.
    fn start_query_log(&mut self, workers: usize) -> anyhow::Result<std::vec::IntoIter<Recorder>> {
        let names: Vec<String> =
            (0..workers).flat_map(|i| [format!("udp-{i}"), format!("tcp-{i}")]).collect();
        let gate = self.gate.clone();
        let started = QueryLog::start(&self.config.query_log, &names, move || gate.pass())?;
        Ok(started
            .map_or_else(Vec::new, |(log, recorders)| {
                self.query_log = Some(log);
                recorders
            })
            .into_iter())
    }

    /// Starts a thread that works once the gate is open.
    fn spawn(&self, name: String, work: impl FnOnce() + Send + 'static) -> anyhow::Result<JoinHandle<()>> {
        let gate = self.gate.clone();
        let held_up = move || {
            if gate.pass() {
                work();
            }
        };
        std::thread::Builder::new().name(name).spawn(held_up).context("starting a thread")
    }

    /// Has the TCP workers stop: they answer what was asked, take no further connection, and end with the last one, or
    /// with the drain timeout.
    pub(super) fn end_connections(&mut self) {
        self.stop_tcp.store(true, Ordering::Relaxed);
        while self.tcp_threads.iter().any(|thread| !thread.is_finished()) {
            if self.is_accepting() {
                self.tcp_threads.iter().for_each(signal::interrupt);
                std::thread::sleep(INTERRUPT_PAUSE);
            } else {
                std::thread::sleep(DRAIN_PAUSE);
            }
        }
    }

    /// Tells all threads to stop, and waits until no worker takes a datagram or a connection any more.
    pub(super) fn stop_reading(&mut self) {
        self.tell_to_stop();
        let deadline = Instant::now() + STOP_READING_LIMIT;
        while self.is_reading() {
            if Instant::now() >= deadline {
                tracing::warn!("a worker does not stop reading");
                return;
            }
            // Those that wait for a packet would notice at the end of their time only, and whoever asks meanwhile would
            // wait too. Interrupted again and again, as one may have been about to wait when it was the first time.
            let waiting = self.udp_threads.iter().chain(&self.tcp_threads);
            waiting.filter(|thread| !thread.is_finished()).for_each(signal::interrupt);
            std::thread::sleep(INTERRUPT_PAUSE);
        }
    }

    fn is_reading(&self) -> bool {
        // TCP workers go on with the connections they have.
        self.udp_threads.iter().any(|thread| !thread.is_finished()) || self.is_accepting()
    }

    fn is_accepting(&self) -> bool {
        Arc::strong_count(&self.accepting) > 1
    }

    fn tell_to_stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.stop_tcp.store(true, Ordering::Relaxed);
        self.stop_tasks.send_replace(true);
        self.stop_watch = None;
        self.gate.close();
    }

    /// Waits for the end of all threads.
    pub(super) fn join(&mut self) {
        self.tell_to_stop();
        let workers = self.udp_threads.drain(..).chain(self.tcp_threads.drain(..));
        for thread in workers.chain(self.threads.drain(..)) {
            let _ = thread.join();
        }
        if let Some(log) = self.query_log.take() {
            log.stop();
        }
    }
}

fn random_keys() -> anyhow::Result<[u64; 4]> {
    Ok([random()?, random()?, random()?, random()?].map(u64::from_ne_bytes))
}
