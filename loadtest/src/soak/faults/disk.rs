//! A disk that is full: a small file system in memory, mounted where local snapshots are written, and filled on demand. Needs root.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// Room for the local snapshots of a run, several times over.
const SIZE: &str = "size=24m";
const FILLER: &str = "filler";
/// More than [`SIZE`].
const FILLED: usize = 32 << 20;

/// The mounted file system; dropping it takes it away. What was written there is gone then.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts it at this folder.
    ///
    /// # Errors
    /// We are not root, or may not mount.
    pub fn mount(at: &Path) -> Result<Self> {
        fs::create_dir_all(at).with_context(|| format!("making {}", at.display()))?;
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", SIZE, "none"]).arg(at);
        let output = command.output().context("running mount")?;
        anyhow::ensure!(output.status.success(), "mount: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(SmallDisk(at.to_owned()))
    }

    /// Takes all room that is left.
    ///
    /// # Errors
    /// It does not get full.
    pub fn fill(&self) -> Result<()> {
        let mut file = fs::File::create(self.0.join(FILLER)).context("making a filler")?;
        let chunk = vec![0xA5; 1 << 16];
        for _ in 0..FILLED / chunk.len() {
            if file.write_all(&chunk).is_err() {
                return Ok(());
            }
        }
        anyhow::bail!("{} does not get full", self.0.display())
    }

    /// Gives it back.
    ///
    /// # Errors
    /// The filler cannot be removed.
    pub fn empty(&self) -> Result<()> {
        fs::remove_file(self.0.join(FILLER)).context("removing the filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmount = |more: &[&str]| Command::new("umount").args(more).arg(&self.0).status();
        if !unmount(&[]).is_ok_and(|status| status.success()) {
            let _ = unmount(&["-l"]);
        }
    }
}
