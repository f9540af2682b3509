//! Ctrl-C and SIGTERM: a flag that every loop looks at, so that servers are ended and settings set back on the way out.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Sets the handler; once per process.
///
/// # Errors
/// Another handler is set.
pub fn install() -> Result<()> {
    ctrlc::set_handler(|| REQUESTED.store(true, Ordering::Relaxed)).context("setting the Ctrl-C handler")
}

/// Whether the user wants out.
#[must_use]
pub fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

/// An error once the user wants out.
///
/// # Errors
/// The user wants out.
pub fn check() -> Result<()> {
    if requested() {
        bail!("interrupted");
    }
    Ok(())
}
