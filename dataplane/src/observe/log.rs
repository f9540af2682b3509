//! Where logs go: text for people on a terminal, JSON for programs otherwise, always to standard error. Set up by
//! `main` alone; libraries only emit. Names asked for and clients' addresses are never logged.

use std::io::{IsTerminal, stderr};
use std::panic;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Starts logging for the whole process.
///
/// # Errors
/// When the filter does not parse, or logging was started before.
pub fn start(log: &Log) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&log.level).with_context(|| format!("log.level: \"{}\"", log.level))?;
    let json = match log.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !stderr().is_terminal(),
    };
    // A line that cannot be written is lost. To say so where it cannot be said would be a panic.
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr).log_internal_errors(false);
    let started = if json {
        builder.json().flatten_event(true).try_init()
    } else {
        builder.with_ansi(stderr().is_terminal()).with_target(false).try_init()
    };
    started.map_err(|error| anyhow::anyhow!("logging cannot be started: {error}"))?;
    log_panics();
    Ok(())
}

/// The least time between two log lines about panics: one query can cause one, and queries are free.
const PANIC_LOG_INTERVAL: Duration = Duration::from_secs(1);

/// Panics are logged like anything else, not more often than anybody can read; the metric counts them all.
fn log_panics() {
    let last: Mutex<Option<Instant>> = Mutex::new(None);
    panic::set_hook(Box::new(move |info| {
        let Ok(mut last) = last.try_lock() else { return };
        if last.is_some_and(|at| at.elapsed() < PANIC_LOG_INTERVAL) {
            return;
        }
        *last = Some(Instant::now());
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current();
        // Not the message: it may quote what a client sent.
        tracing::error!(place, thread = thread.name().unwrap_or("unnamed"), "panic");
    }));
}
