//! Where the chain stood, minute by minute, in a file outside of the database: with the database alone nobody sees that its end was
//! cut off. One JSON value a line:
//!
//! ```text
//! {"at":"2026-11-30T09:00:00.000001Z","number":4711,"hash":"hex"}
//! {"at":"…","number":100,"hash":"hex","begins_behind":true}       what is before was past its time
//! ```
//!
//! A hash cannot be made up without the key, so lines can be taken away and not be added. Copy them to another machine as they come:
//! each is in the log of the process too.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::hex;
use crate::store::audit_chain::Hash;

/// No line of ours is longer.
const LONGEST_LINE: u64 = 1_000;

/// A line.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Anchor {
    /// When it was written (RFC 3339).
    pub(crate) at: String,
    /// Of the last row of the chain.
    pub(crate) number: i64,
    /// Its hash.
    pub(crate) hash: String,
    /// It is the last of those that were deleted for their age.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) begins_behind: bool,
}

impl Anchor {
    /// Of now.
    pub(crate) fn now(number: i64, hash: &Hash) -> Anchor {
        let at = crate::api::v1::timestamp(crate::store::now_us());
        Anchor { at, number, hash: hex::encoded(hash), begins_behind: false }
    }
}

/// The file that a process writes.
#[derive(Clone, Debug)]
pub(crate) struct Anchors {
    path: PathBuf,
}

impl Anchors {
    pub(crate) fn at(path: PathBuf) -> Anchors {
        Anchors { path }
    }

    /// Adds one; it is on disk then. One that an interrupted write left half is ended first.
    pub(crate) fn add(&self, anchor: &Anchor) -> io::Result<()> {
        let mut file =
            OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&self.path)?;
        let mut line = serde_json::to_vec(anchor)?;
        line.push(b'\n');
        if file.seek(SeekFrom::End(0))? > 0 {
            file.seek(SeekFrom::End(-1))?;
            let mut last = [0];
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                line.insert(0, b'\n');
            }
        }
        file.write_all(&line)?;
        file.sync_all()
    }

    /// The last one; `None` where there is none.
    pub(crate) fn last(&self) -> io::Result<Option<Anchor>> {
        let mut file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let from = file.seek(SeekFrom::End(0))?.saturating_sub(4 * LONGEST_LINE);
        file.seek(SeekFrom::Start(from))?;
        let mut end = Vec::new();
        file.read_to_end(&mut end)?;
        Ok(end.rsplit(|&octet| octet == b'\n').find_map(|line| serde_json::from_slice(line).ok()))
    }

    /// Where it is.
    #[cfg(test)]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// All anchors of a file, by number. What is no anchor is counted and passed over: a write may have been interrupted.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn read(path: &Path, into: &mut BTreeMap<i64, String>) -> anyhow::Result<u64> {
    let told = || format!("anchors {}", path.display());
    let mut from = BufReader::new(File::open(path).with_context(told)?);
    let mut no_anchors = 0;
    loop {
        let mut line = Vec::new();
        if (&mut from).take(LONGEST_LINE).read_until(b'\n', &mut line).with_context(told)? == 0 {
            return Ok(no_anchors);
        }
        match serde_json::from_slice::<Anchor>(&line) {
            Ok(anchor) => {
                // Two of one number say the same, or one of them is right and the chain fails at the other.
                let known = into.entry(anchor.number).or_insert_with(|| anchor.hash.clone());
                if !known.contains(&anchor.hash) {
                    *known = format!("{known} and {}", anchor.hash);
                }
            }
            Err(_) if line.trim_ascii().is_empty() => {}
            Err(_) => no_anchors += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_read_back_behind_one_that_was_interrupted() {
        let folder = tempfile::tempdir().unwrap();
        let anchors = Anchors::at(folder.path().join("anchors.jsonl"));
        anchors.add(&Anchor::now(1, &[1; 32])).unwrap();
        let mut file = OpenOptions::new().append(true).open(anchors.path()).unwrap();
        file.write_all(b"{\"at\":\"2026").unwrap();
        anchors.add(&Anchor::now(9, &[9; 32])).unwrap();
        anchors.add(&Anchor::now(9, &[9; 32])).unwrap();
        assert_eq!(anchors.last().unwrap().unwrap().number, 9);
        let mut read_back = BTreeMap::new();
        assert_eq!(read(anchors.path(), &mut read_back).unwrap(), 1);
        let expected = [(1, hex::encoded(&[1; 32])), (9, hex::encoded(&[9; 32]))];
        assert_eq!(read_back, expected.into_iter().collect());
        anchors.add(&Anchor::now(9, &[8; 32])).unwrap();
        read(anchors.path(), &mut read_back).unwrap();
        assert!(read_back[&9].contains(" and "), "both are told");
        assert!(read(&folder.path().join("none"), &mut read_back).is_err());
    }
}
