//! How everything that runs hears that it is time to stop.

use tokio::sync::watch;

/// Becomes true when it is time to stop; also when its sender is gone.
pub type Stop = watch::Receiver<bool>;

/// Whether it is time to stop.
pub(crate) fn is_over(stop: &Stop) -> bool {
    *stop.borrow() || stop.has_changed().is_err()
}

/// Resolves when it is time to stop.
pub(crate) async fn stopped(mut stop: Stop) {
    let _ = stop.wait_for(|stop| *stop).await;
}
