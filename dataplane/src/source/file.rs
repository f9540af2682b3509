//! Reads one zone from its file and what that includes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use godwit_engine::snapshot::{LoadError, LoadedZone, ZoneLoader};
use godwit_wire::name::{MAX_NAME_OCTETS, Name};
use godwit_wire::zonefile::{self, Includes, Options, Record};

use super::error::ZoneError;
use super::identity::{Identity, Stamp};
use super::place::Places;
use super::progress::Progress;

/// The owner number of zones that come from files (design: 0 is the operator's).
pub(super) const OPERATOR: u32 = 0;
/// The largest zone file: twice what the largest zone of the world takes as text.
const MAX_FILE_OCTETS: u64 = 64 << 30;
/// How often a file that changes while it is read is read again.
const ATTEMPTS: usize = 3;
/// So many names are counted before the shared counter moves.
const NAMES_AT_ONCE: u64 = 4096;

/// A zone, or what is wrong with it, and the files it was read from.
pub(super) struct ReadZone {
    pub(super) identities: Vec<Identity>,
    pub(super) zone: Result<LoadedZone, ZoneError>,
}

/// Reads a zone up to its first error.
pub(super) fn read_zone(apex: &Name, path: &Path, progress: &Progress) -> ReadZone {
    let mut includes = Confined::new(path);
    let text = match read_regular(path) {
        Ok(text) => text,
        Err(error) => {
            let error = ZoneError::of_file(Some(apex), path, error.to_string());
            return ReadZone { identities: Vec::new(), zone: Err(error) };
        }
    };
    // At once, as whether its stamp can be trusted depends on when it was read.
    includes.identities.push(Identity::new(path, text.stamp, &text.octets));
    let zone = load(apex, path, text.octets, &mut includes, progress);
    ReadZone { identities: includes.identities, zone }
}

fn load(
    apex: &Name,
    path: &Path,
    text: Vec<u8>,
    includes: &mut Confined,
    progress: &Progress,
) -> Result<LoadedZone, ZoneError> {
    let mut loader = ZoneLoader::new(apex.clone(), OPERATOR);
    loader.reserve(text.len());
    let mut places = Places::default();
    let mut names = NameCount::new();
    let options = Options::new(apex.clone(), path.to_string_lossy());
    let mut sink = |record: Record<'_>| {
        if names.count(record.owner.as_wire()) == NAMES_AT_ONCE {
            progress.add_names(std::mem::take(&mut names.names));
        }
        let line = places.number(record.file, record.line);
        loader
            .record(record.owner, record.rtype, record.ttl, record.rdata, line)
            .map_err(|error| error.to_string())
    };
    zonefile::read(&text, &options, includes, &mut sink).map_err(|error| ZoneError::of_text(apex, error))?;
    // Building the zone takes the most memory of all steps; the text need not be there any more.
    drop(text);
    progress.add_names(names.names);
    loader.finish().map_err(|error| placed(apex, path, &places, &error))
}

/// An error of the whole zone, put where its record stood.
pub(super) fn placed(apex: &Name, path: &Path, places: &Places, error: &LoadError) -> ZoneError {
    let whole = ZoneError::of_file(Some(apex), path, error.to_string());
    match places.find(error.line) {
        Some((file, line)) => ZoneError { file: file.to_owned(), line: Some(line), ..whole },
        None => whole,
    }
}

/// Counts names as they change from record to record: records of one name mostly stand together.
struct NameCount {
    last: Vec<u8>,
    names: u64,
}

impl NameCount {
    fn new() -> Self {
        NameCount { last: Vec::with_capacity(MAX_NAME_OCTETS), names: 0 }
    }

    fn count(&mut self, owner: &[u8]) -> u64 {
        if self.last != owner {
            self.last.clear();
            self.last.extend_from_slice(owner);
            self.names += 1;
        }
        self.names
    }
}

/// A file's content, and its stamp while it was that.
pub(super) struct Content {
    pub(super) octets: Vec<u8>,
    pub(super) stamp: Stamp,
}

/// Reads a regular file whole, as it was at one moment: one that changes meanwhile is read again.
///
/// # Errors
/// For what is no regular file: a pipe or a device could block or never end.
pub(super) fn read_regular(path: &Path) -> io::Result<Content> {
    read_opened(MAX_FILE_OCTETS, || open(path, 0))
}

fn open(path: &Path, flags: i32) -> io::Result<File> {
    // Without O_NONBLOCK, opening a pipe waits for who writes to it.
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | flags).open(path)
}

fn read_opened(most: u64, open: impl Fn() -> io::Result<File>) -> io::Result<Content> {
    for _ in 0..ATTEMPTS {
        let mut file = open()?;
        let before = file.metadata()?;
        if !before.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        if before.len() > most {
            return Err(io::Error::other(format!("larger than {} GiB", most >> 30)));
        }
        let mut octets = Vec::new();
        // What the machine cannot hold is an error of this file, not the end of the process.
        octets
            .try_reserve_exact(usize::try_from(before.len()).unwrap_or(usize::MAX))
            .map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        (&mut file).take(before.len()).read_to_end(&mut octets)?;
        let stamp = Stamp::of(&file.metadata()?);
        if stamp == Stamp::of(&before) {
            return Ok(Content { octets, stamp });
        }
    }
    Err(io::Error::other("it changes while it is read"))
}

/// Includes from the folder of the zone file and below, wherever links lead: whoever may write a zone file may not
/// read the rest of the machine through it. Relative names start at that folder.
pub(super) struct Confined {
    folder: PathBuf,
    /// Of the files included so far.
    pub(super) identities: Vec<Identity>,
}

impl Confined {
    pub(super) fn new(zone_file: &Path) -> Self {
        let folder = match zone_file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        Confined { folder: folder.to_owned(), identities: Vec::new() }
    }

    fn read(&self, path: &Path) -> io::Result<Content> {
        let folder = fs::canonicalize(&self.folder)?;
        let target = fs::canonicalize(path)?;
        if !target.starts_with(&folder) {
            return Err(io::Error::other(format!(
                "it lies outside {}, the folder of the zone file",
                self.folder.display()
            )));
        }
        // The path has no links left; one that is put there now is not followed.
        let most = u64::try_from(zonefile::MAX_INCLUDED_OCTETS).unwrap_or(u64::MAX);
        read_opened(most, || open(&target, libc::O_NOFOLLOW))
    }
}

impl Includes for Confined {
    fn open(&mut self, file: &str, _from: &str) -> Result<(String, Vec<u8>), String> {
        // Found again under the name it has here, so that a link turned elsewhere is noticed.
        let path = self.folder.join(file);
        let content = self.read(&path).map_err(|error| error.to_string())?;
        self.identities.push(Identity::new(&path, content.stamp, &content.octets));
        Ok((path.display().to_string(), content.octets))
    }
}
