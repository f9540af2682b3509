//! What every run of several processes stands on: two CPUs, sockets with room, and a folder for what servers write, which goes
//! when the run does.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::server::GENERATOR_CPU;
use crate::{cpu, sysctl};

/// Dropping it removes the folder and sets the socket buffers back. Servers that run in it must have ended before.
#[derive(Debug)]
pub struct Rig {
    work: PathBuf,
    keep: bool,
    _raised: sysctl::Raised,
}

impl Rig {
    /// Pins this thread to the generator's CPU and makes the folder, below the one for data.
    ///
    /// # Errors
    /// There is one CPU only, or the folder cannot be made.
    pub fn set_up(data: &Path) -> Result<Self> {
        anyhow::ensure!(cpu::count() >= 2, "two CPUs are needed: one for the server, one for the generator");
        cpu::pin(GENERATOR_CPU)?;
        let work = data.join(format!("work-{}", std::process::id()));
        fs::create_dir_all(&work).with_context(|| format!("making {}", work.display()))?;
        let work = work.canonicalize()?;
        Ok(Rig { work, keep: false, _raised: sysctl::Raised::raise() })
    }

    /// The folder, by its absolute path.
    #[must_use]
    pub fn work(&self) -> &Path {
        &self.work
    }

    /// The folder stays, because somebody will want to read the logs in it.
    pub fn keep(&mut self) {
        self.keep = true;
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if !self.keep {
            let _ = fs::remove_dir_all(&self.work);
        }
    }
}
