//! Master keys: what data keys are sealed with. They are never in the database: one is in a file of 32 octets, or of 64
//! hexadecimal digits, which is to be backed up apart from it, or in the environment. While it is changed a second one
//! stands beside it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::sealing::{OCTETS, SealingKey, random};
use crate::hex;

/// The most that is read of a file: the digits, and the end of a line.
const MAX_FILE_OCTETS: u64 = 2 * OCTETS as u64 + 2;

/// Where master keys are.
#[derive(Clone)]
pub(crate) struct MasterPlaces {
    /// The key itself, where it was given in the environment; then no file is looked at for it.
    pub(crate) given: Option<[u8; OCTETS]>,
    /// The file of the one that counts.
    pub(crate) file: PathBuf,
    /// The file of the one that is to count.
    pub(crate) next: PathBuf,
}

impl std::fmt::Debug for MasterPlaces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MasterPlaces")
            .field("file", &self.file)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

/// A master key.
#[derive(Debug)]
pub(crate) struct Master {
    /// Names it, and says nothing of it.
    pub(crate) id: String,
    pub(crate) key: SealingKey,
}

/// Those that a control plane has.
#[derive(Debug, Default)]
pub(crate) struct Masters {
    /// The one that counts.
    pub(crate) own: Option<Master>,
    /// The one that is to count.
    pub(crate) next: Option<Master>,
    /// What is wrong with its file, where that is there and cannot be used.
    pub(crate) next_failed: Option<String>,
}

impl MasterPlaces {
    /// Where the one that counts is, for people.
    pub(crate) fn told(&self) -> String {
        match self.given {
            Some(_) => "store.secrets_key".to_owned(),
            None => self.file.display().to_string(),
        }
    }
}

impl Master {
    fn of(octets: &[u8; OCTETS]) -> Master {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, octets);
        let tag = ring::hmac::sign(&key, b"godwit master key id");
        let id = hex::encoded(&tag.as_ref()[..8]);
        Master { id, key: SealingKey::of(octets) }
    }

    /// Reads the file; `None` where there is none.
    ///
    /// # Errors
    /// When it cannot be read, or holds something else.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Option<Master>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("secrets key {}", path.display())),
        };
        let mut octets = Vec::new();
        let read = file.take(MAX_FILE_OCTETS + 1).read_to_end(&mut octets);
        read.with_context(|| format!("secrets key {}", path.display()))?;
        let expected = || {
            format!(
                "secrets key {}: expected a file of {OCTETS} octets, or of {} hexadecimal digits",
                path.display(),
                2 * OCTETS
            )
        };
        let octets = match <[u8; OCTETS]>::try_from(octets.as_slice()) {
            Ok(octets) => octets,
            Err(_) => std::str::from_utf8(&octets).ok().and_then(digits).with_context(expected)?,
        };
        Ok(Some(Master::of(&octets)))
    }

    /// Makes the file, which nobody else may read: it is there whole, on disk, or not at all.
    ///
    /// # Errors
    /// When there is one, or it cannot be written.
    pub(crate) fn make(path: &Path) -> anyhow::Result<Master> {
        let octets = random::<OCTETS>()?;
        write_whole(path, &octets).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                anyhow::anyhow!("{}: there is one already; no key is written over", path.display())
            }
            _ => anyhow::Error::new(error).context(format!("secrets key {}", path.display())),
        })?;
        Ok(Master::of(&octets))
    }
}

/// Makes a file with a master key where there is none, and gives its id.
///
/// # Errors
/// When there is one, or it cannot be written.
pub fn make_master_key(path: &Path) -> anyhow::Result<String> {
    Ok(Master::make(path)?.id)
}

/// A key as 64 hexadecimal digits.
pub(crate) fn digits(text: &str) -> Option<[u8; OCTETS]> {
    hex::decoded(text.trim_end_matches(['\r', '\n']))
}

impl Masters {
    /// Those that are there.
    ///
    /// # Errors
    /// When a file cannot be read, or holds something else; of the next one where there is no other: with the one that counts
    /// all goes on.
    pub(crate) fn read(places: &MasterPlaces) -> anyhow::Result<Masters> {
        // This one first: whoever moves the next one here meanwhile has taken it away there, and it is found here or there.
        let next = Master::read(&places.next);
        let own = match &places.given {
            Some(octets) => Some(Master::of(octets)),
            None => Master::read(&places.file)?,
        };
        match next {
            Err(error) if own.is_some() => {
                Ok(Masters { own, next: None, next_failed: Some(format!("{error:#}")) })
            }
            next => Ok(Masters { own, next: next?, next_failed: None }),
        }
    }

    /// Logs what is wrong with the next one, unless that is what was wrong before.
    pub(crate) fn say_what_failed(&self, before: Option<&str>) {
        if let Some(error) = self.next_failed.as_deref().filter(|error| before != Some(*error)) {
            tracing::warn!(error, "the next master key cannot be used; the one that counts is");
        }
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Master> {
        self.own.iter().chain(&self.next)
    }

    /// One of them by its id.
    pub(crate) fn get(&self, id: &str) -> Option<&Master> {
        self.all().find(|master| master.id == id)
    }
}

fn write_whole(path: &Path, octets: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    // A name of its own: whoever makes one for the same place at the same time writes another file.
    let own = hex::encoded(&random::<8>().map_err(io::Error::other)?);
    let unfinished = folder.join(format!("{}.{own}.new", name.to_string_lossy()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    let written = file.write_all(octets).and_then(|()| file.sync_all());
    // Unlike a rename this takes the place of nothing, whenever that came to be there.
    let placed = written.and_then(|()| std::fs::hard_link(&unfinished, path));
    std::fs::remove_file(&unfinished)?;
    placed?;
    File::open(folder)?.sync_all()
}
