//! Structured logs: text on a terminal, JSON otherwise.
//!
//! Never in a log: bodies, tokens, record names and values.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Sets up logging for the process, to standard error. `filter` is as in `RUST_LOG`.
///
/// # Errors
/// When the filter cannot be read, or logging is set up already.
pub fn start(filter: &str) -> anyhow::Result<()> {
    let filter =
        EnvFilter::try_new(filter).map_err(|error| anyhow::anyhow!("log filter \"{filter}\": {error}"))?;
    // A line that cannot be written is lost. To say so where it cannot be said would be a panic.
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    let started = if std::io::stderr().is_terminal() {
        builder.try_init()
    } else {
        builder.json().flatten_event(true).try_init()
    };
    started.map_err(|error| anyhow::anyhow!("logging cannot be started: {error}"))
}
