//! Which zones are wanted: those named one by one, and those of a list, which is read anew each time.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use godwit_wire::name::Name;

use super::error::ZoneError;

/// What the operator gave.
#[derive(Debug)]
pub(super) struct ZoneList {
    files: BTreeMap<Name, PathBuf>,
    path: Option<PathBuf>,
}

/// The zones wanted now, each with its file.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) zones: BTreeMap<Name, PathBuf>,
    pub(super) errors: Vec<ZoneError>,
}

/// How file names of zones in a folder end.
const EXTENSION: &str = ".zone";

impl ZoneList {
    pub(super) fn new(files: &BTreeMap<String, PathBuf>, path: Option<&Path>) -> Result<Self, ZoneError> {
        let mut named = BTreeMap::new();
        for (text, file) in files {
            let apex: Name = text.parse().map_err(|_| {
                ZoneError::of_file(None, file, format!("\"{text}\" is not a domain name to serve it as"))
            })?;
            if let Some(other) = named.insert(apex.clone(), file.clone()) {
                let reason = format!("the zone is also given as {}", other.display());
                return Err(ZoneError::of_file(Some(&apex), file, reason));
            }
        }
        Ok(ZoneList { files: named, path: path.map(Path::to_owned) })
    }

    /// Reads the list. Zones named one by one stand before those of the list.
    pub(super) fn read(&self) -> Wanted {
        let mut wanted = Wanted { zones: self.files.clone(), errors: Vec::new() };
        let Some(path) = &self.path else { return wanted };
        if let Err(error) = read_path(path, &mut wanted) {
            let reason = format!("cannot read the list of zones: {error}");
            wanted.errors.push(ZoneError::of_file(None, path, reason));
        } else if wanted.zones.len() == self.files.len() && wanted.errors.is_empty() {
            // Nobody means that, and files of other names are passed over without a word.
            let (path, hint) =
                (path.display(), "a folder has its zones in files named ORIGIN.zone; a list names them");
            tracing::warn!(%path, hint, "no zone was found there");
        }
        wanted
    }
}

fn read_path(path: &Path, wanted: &mut Wanted) -> io::Result<()> {
    if fs::metadata(path)?.is_dir() { read_folder(path, wanted) } else { read_list(path, wanted) }
}

impl Wanted {
    fn add(&mut self, apex: Name, file: PathBuf, list: &Path, line: Option<u32>) {
        match self.zones.entry(apex) {
            Entry::Vacant(entry) => {
                entry.insert(file);
            }
            Entry::Occupied(entry) => {
                let reason =
                    format!("the zone is already served from {}; that one stays", entry.get().display());
                let error = ZoneError::of_file(Some(entry.key()), list, reason);
                self.errors.push(ZoneError { line, ..error });
            }
        }
    }
}

/// Every `ORIGIN.zone` of a folder. Hidden files are left alone: editors and tools make them in passing.
fn read_folder(folder: &Path, wanted: &mut Wanted) -> io::Result<()> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.push(entry?.file_name());
    }
    names.sort_unstable();
    for name in names {
        let octets = name.as_bytes();
        let Some(origin) = octets.strip_suffix(EXTENSION.as_bytes()) else { continue };
        if octets.first() == Some(&b'.') {
            continue;
        }
        let file = folder.join(&name);
        match str::from_utf8(origin).ok().and_then(|origin| origin.parse().ok()) {
            Some(apex) => wanted.add(apex, file.clone(), &file, None),
            None => wanted.errors.push(ZoneError::of_file(
                None,
                &file,
                "what stands before \".zone\" is not a domain name",
            )),
        }
    }
    Ok(())
}

/// Lines of origin, a tab or blanks, and a file, whose folder is that of the list unless it is absolute. Empty lines
/// and those that begin with `#` or `;` say nothing.
fn read_list(list: &Path, wanted: &mut Wanted) -> io::Result<()> {
    let text = super::file::read_regular(list)?.octets;
    let folder = list.parent().unwrap_or(Path::new(""));
    for (index, line) in text.split(|&octet| octet == b'\n').enumerate() {
        let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") || line.starts_with(b";") {
            continue;
        }
        let mut wrong = |token: &[u8], reason: &str| {
            wanted.errors.push(ZoneError {
                line: Some(number),
                token: Some(token.escape_ascii().to_string()),
                ..ZoneError::of_file(None, list, reason)
            });
        };
        let Some(blank) = line.iter().position(|octet| matches!(octet, b' ' | b'\t')) else {
            wrong(line, "expected a line of origin, tab and zone file");
            continue;
        };
        let (origin, file) = line.split_at(blank);
        match str::from_utf8(origin).ok().and_then(|origin| origin.parse().ok()) {
            Some(apex) => {
                let file = folder.join(OsStr::from_bytes(file.trim_ascii_start()));
                wanted.add(apex, file, list, Some(number));
            }
            None => wrong(origin, "expected a domain name"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> (Vec<(String, PathBuf)>, Vec<String>) {
        let files = BTreeMap::from([("one.example".to_owned(), PathBuf::from("one"))]);
        let wanted = ZoneList::new(&files, Some(path)).unwrap().read();
        let zones = wanted.zones.into_iter().map(|(apex, file)| (apex.to_string(), file)).collect();
        (zones, wanted.errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_list_is_lines_of_origin_and_file() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("list");
        let text = "# comment\r\n\n; another\nexample.org\ta.zone\r\nEXAMPLE.net.  /abs/b c.zone\nbad\n..\tx\n\
                    one.example\ttwo\nexample.org\tc\n";
        fs::write(&list, text).unwrap();
        let (zones, errors) = read(&list);
        assert_eq!(
            zones,
            [
                ("one.example.".to_owned(), PathBuf::from("one")),
                ("example.net.".to_owned(), PathBuf::from("/abs/b c.zone")),
                ("example.org.".to_owned(), folder.path().join("a.zone")),
            ]
        );
        let list = list.display();
        assert_eq!(
            errors,
            [
                format!("{list}:6: \"bad\": expected a line of origin, tab and zone file"),
                format!("{list}:7: \"..\": expected a domain name"),
                format!("zone one.example.: {list}:8: the zone is already served from one; that one stays"),
                format!(
                    "zone example.org.: {list}:9: the zone is already served from {}; that one stays",
                    folder.path().join("a.zone").display()
                ),
            ]
        );
    }

    #[test]
    fn a_folder_gives_its_zone_files() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.example.zone", "a.example.zone", "README", ".hidden.zone", "a..b.zone", "x.zone~"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let (zones, errors) = read(folder.path());
        let origins: Vec<&str> = zones.iter().map(|(origin, _)| origin.as_str()).collect();
        assert_eq!(origins, ["a.example.", "b.example.", "one.example."]);
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].contains("a..b.zone"), "{errors:?}");
    }

    #[test]
    fn names_given_one_by_one_must_be_names_and_differ() {
        let files = BTreeMap::from([("a..b".to_owned(), PathBuf::from("f"))]);
        assert!(ZoneList::new(&files, None).unwrap_err().to_string().contains("\"a..b\""));
        let files = BTreeMap::from([
            ("a.example".to_owned(), PathBuf::from("f")),
            ("A.example.".to_owned(), PathBuf::from("g")),
        ]);
        assert!(ZoneList::new(&files, None).unwrap_err().to_string().contains("also given as"));
    }
}
