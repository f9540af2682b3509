//! The local snapshot: what a data plane starts from when nothing else can be reached (P1).
//!
//! A folder with `current.snapshot`, `previous.snapshot`, and the key of the digests. A snapshot is written whole to
//! a temporary file, synced, renamed, and the folder synced; the one before is kept, unless it is damaged. A damaged one
//! is passed over for the one before.
//!
//! - [`mod@file`]: the octets of one snapshot;
//! - [`keeper`]: when it is written.

pub mod file;
pub mod keeper;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail};
use godwit_engine::snapshot::{Snapshot, SnapshotOptions};
use godwit_wire::feed::digest::DigestKey;

pub use file::Origin;

const CURRENT: &str = "current.snapshot";
const PREVIOUS: &str = "previous.snapshot";
const TEMPORARY: &str = "snapshot.temporary";
const KEY: &str = "digest.key";
const LOCK: &str = "lock";

/// The folder of one data plane.
#[derive(Debug)]
pub struct State {
    folder: PathBuf,
    origin: Origin,
    /// Held while we may write. After a handover it is free once the process before us has ended.
    lock: File,
    locked: bool,
    /// `current` was read and found whole, or written, by us. Only then it may take the place of `previous`.
    current_is_good: AtomicBool,
}

/// A local snapshot that was found good.
pub struct Found {
    /// What it holds.
    pub snapshot: Snapshot,
    /// When it was last known to be current, in microseconds since the epoch.
    pub current_at_us: i64,
}

impl State {
    /// Opens the folder, and makes it when it is not there.
    ///
    /// # Errors
    /// When it cannot be made or is used by another process. `handover` says that this is expected: the process
    /// before us still has it, and writing waits until that has ended.
    pub fn open(folder: &Path, origin: Origin, handover: bool) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)
            .with_context(|| format!("making the state folder {}", folder.display()))?;
        let path = folder.join(LOCK);
        let lock = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("opening {}", path.display()))?;
        let mut state = State {
            folder: folder.to_owned(),
            origin,
            lock,
            locked: false,
            current_is_good: AtomicBool::new(false),
        };
        if !state.may_write() && !handover {
            bail!("the state folder {} is used by another process", folder.display());
        }
        Ok(state)
    }

    /// Whether nobody else writes here.
    fn may_write(&mut self) -> bool {
        if !self.locked {
            self.locked = self.lock.try_lock().is_ok();
        }
        self.locked
    }

    /// The key of the digests, made at the first start and kept: digests of one start must hold at the next.
    ///
    /// # Errors
    /// When it cannot be read or made.
    pub fn digest_key(&self) -> anyhow::Result<DigestKey> {
        let path = self.folder.join(KEY);
        match fs::read(&path) {
            Ok(octets) => match <[u8; 32]>::try_from(octets) {
                Ok(key) => Ok(DigestKey(key)),
                Err(octets) => bail!("{}: expected 32 octets, found {}", path.display(), octets.len()),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let mut key = [0; 32];
                getrandom::fill(&mut key).context("random octets for a digest key")?;
                self.put(&path, |file| file.write_all(&key))
                    .with_context(|| format!("writing {}", path.display()))?;
                Ok(DigestKey(key))
            }
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// The newest snapshot that is whole. Those that are not are reported to `damaged` and passed over.
    pub fn load(
        &self,
        options: &SnapshotOptions,
        mut damaged: impl FnMut(&Path, &anyhow::Error),
    ) -> Option<Found> {
        [CURRENT, PREVIOUS].into_iter().find_map(|name| {
            let path = self.folder.join(name);
            if !path.exists() {
                return None;
            }
            match file::read(&path, self.origin, options) {
                Ok(found) => {
                    self.current_is_good.store(name == CURRENT, Ordering::Relaxed);
                    Some(found)
                }
                Err(error) => {
                    damaged(&path, &error);
                    None
                }
            }
        })
    }

    /// Writes a snapshot; the one before is kept, if it is known to be whole. `Ok(false)`: another process still has the folder.
    ///
    /// # Errors
    /// When the disk does not take it. What was there before is whole.
    pub fn save(&mut self, snapshot: &Snapshot, current_at_us: i64) -> anyhow::Result<bool> {
        if !self.may_write() {
            return Ok(false);
        }
        let (current, previous) = (self.folder.join(CURRENT), self.folder.join(PREVIOUS));
        let origin = self.origin;
        let temporary = self.folder.join(TEMPORARY);
        write_synced(&temporary, |file| file::write(file, origin, snapshot, current_at_us))
            .with_context(|| format!("writing {}", temporary.display()))?;
        // A damaged one, or one that nobody has read, must not take the place of one that may be whole: ended between the
        // two renames, we would leave nothing to start from.
        if self.current_is_good.load(Ordering::Relaxed) && current.exists() {
            fs::rename(&current, &previous).context("keeping the snapshot before")?;
        }
        // Until this rename a start reads `previous`: what was `current` and whole, or what stood in for it.
        fs::rename(&temporary, &current).context("naming the new snapshot")?;
        self.current_is_good.store(true, Ordering::Relaxed);
        self.sync_folder()?;
        Ok(true)
    }

    fn put(&self, path: &Path, content: impl FnOnce(&mut File) -> std::io::Result<()>) -> anyhow::Result<()> {
        let temporary = path.with_extension("temporary");
        write_synced(&temporary, content)?;
        fs::rename(&temporary, path)?;
        self.sync_folder()
    }

    fn sync_folder(&self) -> anyhow::Result<()> {
        File::open(&self.folder).and_then(|folder| folder.sync_all()).context("syncing the state folder")
    }
}

/// Writes a file that only we may read, down to the disk.
fn write_synced(path: &Path, content: impl FnOnce(&mut File) -> std::io::Result<()>) -> std::io::Result<()> {
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path)?;
    content(&mut file)?;
    file.sync_all()
}
