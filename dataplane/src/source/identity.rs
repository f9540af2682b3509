//! Whether a file is still the one that was read: by its metadata where they can be trusted, by its content where
//! they cannot.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::file::read_regular;

/// A file written so shortly before it was read may have been written again within the same tick of its file
/// system's clock, which is two seconds on the coarsest.
const TICK: Duration = Duration::from_secs(2);

/// A file as it was when it was read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Identity {
    path: PathBuf,
    stamp: Stamp,
    hash: blake3::Hash,
    /// Whether it was long unchanged when it was read, so that an equal stamp means equal content.
    settled: bool,
}

/// What the file system says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified_ns: i128,
    changed_ns: i128,
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let ns = |seconds: i64, ns: i64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
        Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    fn is_settled(&self, now: SystemTime) -> bool {
        let limit = now.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(TICK).as_nanos();
        let limit = i128::try_from(limit).unwrap_or(i128::MAX);
        self.modified_ns < limit && self.changed_ns < limit
    }
}

impl Identity {
    /// Of a file just read, by the path under which it is to be found again.
    pub(super) fn new(path: &Path, stamp: Stamp, octets: &[u8]) -> Self {
        let settled = stamp.is_settled(SystemTime::now());
        Identity { path: path.to_owned(), stamp, hash: blake3::hash(octets), settled }
    }

    /// The identity to compare with next time; `None` when the file changed.
    fn unchanged(&self) -> io::Result<Option<Identity>> {
        if self.settled && Stamp::of(&fs::metadata(&self.path)?) == self.stamp {
            return Ok(Some(self.clone()));
        }
        let now = read_regular(&self.path)?;
        let now = Identity::new(&self.path, now.stamp, &now.octets);
        Ok((now.hash == self.hash).then_some(now))
    }
}

/// The identities to compare with next time; `None` when one of the files changed or cannot be read.
pub(super) fn unchanged(identities: &[Identity]) -> Option<Vec<Identity>> {
    identities.iter().map(|identity| identity.unchanged().ok().flatten()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(path: &Path) -> Identity {
        let read = read_regular(path).unwrap();
        Identity::new(path, read.stamp, &read.octets)
    }

    #[test]
    fn the_same_content_is_no_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        fs::write(&path, "a").unwrap();
        let before = identity(&path);
        assert!(before.unchanged().unwrap().is_some());
        // Another file with the same content in its place.
        fs::write(folder.path().join("g"), "a").unwrap();
        fs::rename(folder.path().join("g"), &path).unwrap();
        let now = before.unchanged().unwrap().unwrap();
        assert_ne!(now.stamp, before.stamp);
    }

    #[test]
    fn other_content_under_an_equal_stamp_is_found_while_it_is_fresh() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        fs::write(&path, "a").unwrap();
        let mut before = identity(&path);
        assert!(!before.settled);
        fs::write(&path, "b").unwrap();
        // As if the clock of the file system had not moved.
        before.stamp = Stamp::of(&fs::metadata(&path).unwrap());
        assert!(before.unchanged().unwrap().is_none());
    }

    #[test]
    fn a_settled_file_is_not_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        fs::write(&path, "a").unwrap();
        let mut before = identity(&path);
        before.settled = true;
        // A wrong hash goes unseen, as only the stamp is looked at.
        before.hash = blake3::hash(b"other");
        assert!(before.unchanged().unwrap().is_some());
        fs::remove_file(&path).unwrap();
        assert!(unchanged(&[before]).is_none());
    }
}
