//! How everything that runs hears that it is time to stop.

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// The exit code of who was stopped by a second signal, as shells report SIGINT.
const STOPPED_AT_ONCE: i32 = 130;

/// Becomes true when it is time to stop; also when its sender is gone.
pub type Stop = watch::Receiver<bool>;

/// Becomes true at the first SIGTERM or SIGINT; a second one ends the process where it stands, which loses nothing that was
/// acknowledged.
///
/// # Errors
/// When signals cannot be listened to.
///
/// # Panics
/// Outside a runtime.
pub fn on_signals() -> anyhow::Result<Stop> {
    let listen = |kind| signal(kind).context("listening for signals");
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let (stopping, stop) = watch::channel(false);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if stopping.send_replace(true) {
                tracing::warn!("a second signal: this ends at once, and waits for nothing");
                std::process::exit(STOPPED_AT_ONCE);
            }
            tracing::info!("stopping");
        }
    });
    Ok(stop)
}

/// Whether it is time to stop.
pub(crate) fn is_over(stop: &Stop) -> bool {
    *stop.borrow() || stop.has_changed().is_err()
}

/// Resolves when it is time to stop.
pub(crate) async fn stopped(mut stop: Stop) {
    let _ = stop.wait_for(|stop| *stop).await;
}
