//! The file operations of the local snapshot, one function each. All of them pass through [`Disk`], so that a test can see
//! their order and let any one of them fail; in production nothing watches.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

/// Octets after which a file that is being written is brought down to the disk, so far. All of a large one at once keeps everybody
/// else on the file system waiting who syncs a little: a database on the same disk, for a second or two.
const PART: usize = 4 << 20;

/// One file operation that is about to be made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Operation<'a> {
    /// Opens a file to read it.
    Open(&'a Path),
    /// Reads from the file opened last.
    Read,
    /// Makes a file, or empties it.
    Create(&'a Path),
    /// Writes so many octets to the file made last.
    Write(usize),
    /// Brings a file's octets down to the disk.
    Sync(&'a Path),
    /// Brings down what was written to the file made last so far.
    SyncPart,
    /// Gives a file the name of another.
    Rename(&'a Path, &'a Path),
    /// Brings a folder's names down to the disk.
    SyncFolder(&'a Path),
    /// Removes a file.
    Remove(&'a Path),
}

/// What becomes of an operation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It is made.
    Go,
    /// It fails with this error number; of a write, the first half is made.
    Fail(i32),
    /// It is made and reported as failed all the same.
    FailAfter(i32),
}

type Watch = dyn Fn(Operation<'_>) -> Verdict + Send + Sync;

/// The file system, as far as the local snapshot needs it.
#[derive(Clone, Default)]
pub struct Disk(Option<Arc<Watch>>);

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Disk(watched)" } else { "Disk" })
    }
}

impl Disk {
    /// One that asks before each operation. For tests.
    pub fn watched(watch: impl Fn(Operation<'_>) -> Verdict + Send + Sync + 'static) -> Self {
        Disk(Some(Arc::new(watch)))
    }

    fn make<T>(&self, operation: Operation<'_>, make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        match self.0.as_ref().map_or(Verdict::Go, |watch| watch(operation)) {
            Verdict::Go => make(),
            Verdict::Fail(number) => Err(io::Error::from_raw_os_error(number)),
            Verdict::FailAfter(number) => make().and(Err(io::Error::from_raw_os_error(number))),
        }
    }

    pub(super) fn open(&self, path: &Path) -> io::Result<File> {
        self.make(Operation::Open(path), || fs::File::open(path)).map(|file| self.file(file))
    }

    /// A file that only we may read.
    pub(super) fn create(&self, path: &Path) -> io::Result<File> {
        let open = || OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path);
        self.make(Operation::Create(path), open).map(|file| self.file(file))
    }

    fn file(&self, file: fs::File) -> File {
        File { file, disk: self.clone(), unsynced: 0 }
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.make(Operation::Rename(from, to), || fs::rename(from, to))
    }

    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        self.make(Operation::Remove(path), || fs::remove_file(path))
    }

    pub(super) fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.make(Operation::SyncFolder(path), || fs::File::open(path)?.sync_all())
    }
}

/// A file that was opened or made.
pub struct File {
    file: fs::File,
    disk: Disk,
    /// Octets written since the last sync.
    unsynced: usize,
}

impl File {
    pub(super) fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    pub(super) fn sync(&self, path: &Path) -> io::Result<()> {
        self.disk.make(Operation::Sync(path), || self.file.sync_all())
    }
}

impl Read for File {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.disk.make(Operation::Read, || self.file.read(buffer))
    }
}

impl Write for File {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let result = self.disk.make(Operation::Write(octets.len()), || self.file.write(octets));
        if result.is_err() && self.disk.0.is_some() {
            // As a disk that became full on the way.
            self.file.write_all(&octets[..octets.len() / 2])?;
        }
        let written = result?;
        self.unsynced = self.unsynced.saturating_add(written);
        if self.unsynced >= PART {
            self.unsynced = 0;
            self.disk.make(Operation::SyncPart, || self.file.sync_data())?;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_large_file_is_brought_down_to_the_disk_in_parts() {
        let syncs = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&syncs);
        let disk = Disk::watched(move |operation| {
            seen.fetch_add(usize::from(operation == Operation::SyncPart), Ordering::Relaxed);
            Verdict::Go
        });
        let folder = tempfile::tempdir().unwrap();
        let mut file = disk.create(&folder.path().join("f")).unwrap();
        for written in 1..=10 {
            file.write_all(&vec![0; PART / 4]).unwrap();
            assert_eq!(syncs.load(Ordering::Relaxed), written / 4);
        }
    }
}
