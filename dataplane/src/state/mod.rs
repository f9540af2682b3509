//! The local snapshot: what a data plane starts from when nothing else can be reached (P1).
//!
//! A folder with `current.snapshot`, `previous.snapshot`, the keys of their digests, and what a node was joined with and has
//! learned since. A snapshot is written whole to
//! a temporary file, synced, renamed, and the folder synced; the one before is kept, unless it is damaged (which is looked up once, when nobody has read it). A damaged one
//! is passed over for the one before.
//!
//! - `file`: what is written and read;
//! - [`disk`]: the file operations;
//! - [`keeper`]: when it is written.

pub mod disk;
mod file;
pub mod keeper;
mod pace;

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, bail};
use godwit_engine::snapshot::{Snapshot, SnapshotOptions};
use godwit_wire::feed::DigestKey;

pub use godwit_wire::feed::Origin;

use crate::feed::remote::join;
use disk::{Disk, File};

const CURRENT: &str = "current.snapshot";
const PREVIOUS: &str = "previous.snapshot";
const TEMPORARY: &str = "snapshot.temporary";
const KEY: &str = "digest.key";
const LOCK: &str = "lock";
/// Octets of one key.
const KEY_OCTETS: usize = 32;

/// The folder of one data plane.
#[derive(Debug)]
pub struct State {
    folder: PathBuf,
    origin: Origin,
    disk: Disk,
    /// Held while we may write. After a handover it is free once the process before us has ended.
    lock: fs::File,
    locked: bool,
    /// The key of the next snapshot, and of the one before when it was another; none where we were given one.
    keys: Vec<DigestKey>,
    /// Whether `current` is whole, once that is known: it was read by us, or written. Only then it may take the place of
    /// `previous`.
    current_is_good: OnceLock<bool>,
}

/// A local snapshot that was found good.
pub struct Found {
    /// What it holds.
    pub snapshot: Snapshot,
    /// When it was last known to be current, in microseconds since the epoch.
    pub current_at_us: i64,
}

impl Drop for State {
    fn drop(&mut self) {
        // Closing would not do while a child that is being started still has a copy of the descriptor, for a moment.
        if self.locked {
            let _ = self.lock.unlock();
        }
    }
}

impl State {
    /// Opens the folder, and makes it when it is not there.
    ///
    /// # Errors
    /// When it cannot be made or is used by another process. `handover` says that this is expected: the process
    /// before us still has it, and writing waits until that has ended.
    pub fn open(folder: &Path, origin: Origin, handover: bool) -> anyhow::Result<Self> {
        Self::open_on(Disk::default(), folder, origin, handover)
    }

    /// [`State::open`] with file operations that a test watches.
    ///
    /// # Errors
    /// As [`State::open`].
    pub fn open_on(disk: Disk, folder: &Path, origin: Origin, handover: bool) -> anyhow::Result<Self> {
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
            disk,
            lock,
            locked: false,
            keys: Vec::new(),
            current_is_good: OnceLock::new(),
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

    /// The key of the digests, kept from the first start: digests of one start must hold at the next. There it is that of the
    /// deployment, or made.
    ///
    /// # Errors
    /// When it cannot be read or made.
    pub fn digest_key(&mut self, deployment: Option<&DigestKey>) -> anyhow::Result<DigestKey> {
        let path = self.folder.join(KEY);
        let mut octets = Vec::new();
        let read = self.disk.open(&path).and_then(|mut file| file.read_to_end(&mut octets));
        match read {
            Ok(_) => match octets.as_chunks::<KEY_OCTETS>() {
                (&[key], []) => self.keys = vec![DigestKey(key)],
                (&[key, before], []) => self.keys = vec![DigestKey(key), DigestKey(before)],
                _ => bail!("{}: expected 32 octets, found {}", path.display(), octets.len()),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let mut key = [0; KEY_OCTETS];
                match deployment {
                    Some(deployment) => key = deployment.0,
                    None => getrandom::fill(&mut key).context("random octets for a digest key")?,
                }
                self.keep_keys(vec![DigestKey(key)])?;
            }
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        }
        self.keys.first().cloned().context("a digest key")
    }

    /// Keeps what the node was joined with, so that it need not be said at the next start.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_join(&self, text: &str) -> anyhow::Result<()> {
        let path = self.folder.join(join::FILE);
        if fs::read_to_string(&path).is_ok_and(|kept| kept.trim() == text) {
            return Ok(());
        }
        put(&self.disk, &path, |file| writeln!(file, "{text}"))
            .with_context(|| format!("writing {}", path.display()))
    }

    /// Keeps keys beside the snapshots: that of the next one, and that of the one before, which may be needed still.
    fn keep_keys(&mut self, keys: Vec<DigestKey>) -> anyhow::Result<()> {
        let path = self.folder.join(KEY);
        let octets: Vec<u8> = keys.iter().flat_map(|key| key.0).collect();
        put(&self.disk, &path, |file| file.write_all(&octets))
            .with_context(|| format!("writing {}", path.display()))?;
        self.keys = keys;
        Ok(())
    }

    /// A deployment's key takes the place of our own before the first snapshot under it is written. Without keys of our
    /// own there is none to be replaced: whoever starts us knows it.
    fn keep_key_of(&mut self, snapshot: &Snapshot) -> anyhow::Result<()> {
        let key = snapshot.digest_key();
        match self.keys.first() {
            Some(current) if current.0 != key.0 => {
                let keys = vec![key.clone(), current.clone()];
                self.keep_keys(keys)
            }
            _ => Ok(()),
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
            match self.read(&path, options) {
                Ok(found) => {
                    if name == CURRENT {
                        let _ = self.current_is_good.set(found.is_some());
                    }
                    found
                }
                Err(error) => {
                    if name == CURRENT {
                        let _ = self.current_is_good.set(false);
                    }
                    damaged(&path, &error);
                    None
                }
            }
        })
    }

    /// Reads one, under the key that it may have been written with.
    fn read(&self, path: &Path, options: &SnapshotOptions) -> anyhow::Result<Option<Found>> {
        let found = file::read(&self.disk, path, self.origin, options);
        let other = self.keys.iter().find(|key| key.0 != options.digest_key.0);
        match (found, other) {
            (Err(error), Some(key)) => {
                let options = SnapshotOptions { digest_key: key.clone(), ..options.clone() };
                file::read(&self.disk, path, self.origin, &options).map_err(|_| error)
            }
            (found, _) => found,
        }
    }

    /// Writes a snapshot; the one before is kept, if it is known to be whole. `Ok(false)`: another process still has the folder.
    ///
    /// # Errors
    /// When the disk does not take it. What was there before is whole.
    pub fn save(&mut self, snapshot: &Snapshot, current_at_us: i64) -> anyhow::Result<bool> {
        self.save_resting(snapshot, current_at_us, &mut |_| {})
    }

    /// The same; `rest` is told after each part how long that has taken, and may take its time.
    pub(super) fn save_resting(
        &mut self,
        snapshot: &Snapshot,
        current_at_us: i64,
        rest: &mut dyn FnMut(Duration),
    ) -> anyhow::Result<bool> {
        if !self.may_write() {
            return Ok(false);
        }
        let (current, previous) = (self.folder.join(CURRENT), self.folder.join(PREVIOUS));
        self.keep_key_of(snapshot)?;
        let origin = self.origin;
        let temporary = self.folder.join(TEMPORARY);
        write_synced(&self.disk, &temporary, |file| file::write(file, origin, snapshot, current_at_us, rest))
            .with_context(|| format!("writing {}", temporary.display()))?;
        // A damaged one must not take the place of one that may be whole: ended between the two renames, we would leave
        // nothing to start from.
        let is_good = || file::check(&self.disk, &current, origin).is_ok();
        if *self.current_is_good.get_or_init(is_good) {
            match self.disk.rename(&current, &previous) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                other => other.context("keeping the snapshot before")?,
            }
        }
        // Until this rename a start reads `previous`: what was `current` and whole, or what stood in for it.
        self.disk.rename(&temporary, &current).context("naming the new snapshot")?;
        self.current_is_good = OnceLock::from(true);
        self.sync_folder()?;
        Ok(true)
    }

    fn sync_folder(&self) -> anyhow::Result<()> {
        self.disk.sync_folder(&self.folder).context("syncing the state folder")
    }
}

/// Puts a file in the place of one of its name: all of it or nothing, and down to the disk.
///
/// # Errors
/// When the disk does not take it. What was there before is whole.
pub(crate) fn put(
    disk: &Disk,
    path: &Path,
    content: impl FnOnce(&mut File) -> io::Result<()>,
) -> anyhow::Result<()> {
    let temporary = path.with_extension("temporary");
    write_synced(disk, &temporary, content)?;
    disk.rename(&temporary, path)?;
    disk.sync_folder(path.parent().unwrap_or(path)).context("syncing the state folder")
}

/// Writes a file down to the disk. One that is not whole is removed: it would keep a full disk full.
fn write_synced(
    disk: &Disk,
    path: &Path,
    content: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let written = disk.create(path).and_then(|mut file| {
        content(&mut file)?;
        file.sync(path)
    });
    written.inspect_err(|_| {
        let _ = disk.remove(path);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_was_given_up_is_free_whoever_has_a_copy_of_its_lock() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path(), Origin::ZoneFiles, false).unwrap();
        assert!(State::open(folder.path(), Origin::ZoneFiles, false).is_err());
        // As a child has it between its beginning and its program.
        let _copy = state.lock.try_clone().unwrap();
        drop(state);
        State::open(folder.path(), Origin::ZoneFiles, false).unwrap();
    }
}
