//! The threads that answer, and those beside them that log, watch the rate limits and serve metrics.

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

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
use crate::sys::affinity;

impl Server {
    pub(super) fn start_workers(
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

fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> anyhow::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name).spawn(work).context("starting a thread")
}

fn random_keys() -> anyhow::Result<[u64; 4]> {
    Ok([random()?, random()?, random()?, random()?].map(u64::from_ne_bytes))
}
