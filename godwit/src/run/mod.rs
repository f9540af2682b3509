//! `godwit run`: both planes in one process, all data in one folder. The data plane first: it serves from its local
//! snapshot before the database is open, and goes on when the database cannot be opened at all.
//!
//! - [`config`]: what may be set;
//! - [`lock`]: one process per folder;
//! - [`planes`]: the control plane beside a running data plane.

pub(crate) mod config;
pub(crate) mod lock;
mod planes;

use std::convert::Infallible;
use std::fs::DirBuilder;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use godwit_controlplane::on_signals;
use godwit_dataplane::observe::log;
use godwit_dataplane::observe::metrics::Beside;
use godwit_dataplane::observe::query_log::Reopener;
use godwit_dataplane::sys::{affinity, privilege};
use godwit_dataplane::{Records, Server, Start};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli;
use crate::output::{Output, Wrong, say};
use config::Config;
use lock::FolderLock;
use planes::Planes;

/// How long tasks may take to end once everything that matters has.
const LEFTOVERS: Duration = Duration::from_secs(1);

/// Runs until a signal says stop, or checks the configuration.
pub(crate) fn main(arguments: cli::Run) -> anyhow::Result<()> {
    let check_config = arguments.check_config;
    let config = Config::load(arguments).map_err(|error| Wrong(error.to_string()))?;
    if check_config {
        return Output { json: false }.write(|out| writeln!(out, "{}", config.to_text()));
    }
    log::start(&config.log).map_err(|error| Wrong(format!("{error:#}")))?;
    make_folder(&config)?;
    // Before any address is bound: a second process must not take a single query of the first.
    let _lock = FolderLock::take(&config.store.data)?;
    api_address_is_free(&config)?;

    let beside = Beside::default();
    let start = Start { records: Records::Local, beside: beside.clone(), ..Start::default() };
    let mut server = Server::start(config.dataplane(), start)?;
    announce(&server);
    // The threads of the data plane have their places; whatever starts from here on steps back behind its workers.
    affinity::step_back();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .on_thread_start(affinity::step_back)
        .build()?;
    let feed = server.take_feed().context("the feed of the data plane")?;
    let reopener = server.log_reopener();
    let result = runtime.block_on(async {
        let stop = on_signals()?;
        let hangups = listen(SignalKind::hangup())?;
        let has_snapshot = server.status().has_snapshot.load(Ordering::Relaxed);
        tokio::select! {
            ended = Planes { config: config.controlplane(), has_snapshot, beside, stop }.run(feed) => ended,
            never = reload_on(hangups, &server, reopener) => match never {},
        }
    });
    server.stop();
    runtime.shutdown_timeout(LEFTOVERS);
    result
}

/// Makes the data folder, for the user that we are going to be.
fn make_folder(config: &Config) -> anyhow::Result<()> {
    let data = &config.store.data;
    if data.is_dir() {
        return Ok(());
    }
    let made = || -> io::Result<()> {
        if let Some(parent) = data.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent)?;
        }
        // What stands in it is nobody else's business.
        DirBuilder::new().mode(0o700).create(data)
    };
    made().with_context(|| format!("making the data folder {}", data.display()))?;
    if let Some(name) = &config.server.user {
        let user = privilege::user(name).context("server.user")?;
        let place = |path: &Path| format!("giving {} to user \"{name}\"", path.display());
        chown(data, Some(user.uid), Some(user.gid)).with_context(|| place(data))?;
    }
    Ok(())
}

/// A taken address is told at the start, not by a data plane that goes on without an API.
fn api_address_is_free(config: &Config) -> anyhow::Result<()> {
    let address = config.api.listen;
    TcpListener::bind(address)
        .map(drop)
        .with_context(|| format!("the API cannot listen at {address} (--api says where)"))
}

/// Says where the data plane listens, on standard error: standard output is for the token.
fn announce(server: &Server) {
    for address in server.addresses() {
        say(format_args!("godwit: DNS at {address} (UDP and TCP)"));
    }
    if let Some(address) = server.metrics_address() {
        say(format_args!("godwit: metrics at http://{address}/metrics"));
    }
    let status = server.status();
    let (zones, names) = (status.zones.load(Ordering::Relaxed), status.names.load(Ordering::Relaxed));
    tracing::info!(zones, names, version = env!("CARGO_PKG_VERSION"), "the data plane serves");
}

fn listen(kind: SignalKind) -> anyhow::Result<Signal> {
    signal(kind).context("listening for signals")
}

/// At each SIGHUP, reads again what the data plane has in files, the cookie secrets, and lets the query log go on in a
/// new file where the old one was moved away. Records come from the API, which reads its files again by itself.
async fn reload_on(mut hangups: Signal, server: &Server, reopener: Reopener) -> Infallible {
    loop {
        match hangups.recv().await {
            Some(()) => {
                reopener.reopen();
                tokio::task::block_in_place(|| server.reload());
            }
            None => std::future::pending().await,
        }
    }
}
