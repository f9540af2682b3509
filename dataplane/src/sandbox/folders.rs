//! What of the file system a confined process still needs: worked out once, before it is closed.
//!
//! Folders and not files: a rule of landlock holds for the file that has the name now, and whoever writes a zone file, a
//! secret or a new version of this program well puts another file in its place.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::config::{Config, QueryLogMode, QueryLogTarget};
use crate::source::Sources;
use crate::sys::libraries;

/// Folders without links in them, by what may be done below them. None stands below another of its kind.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Folders {
    /// Files may be read and folders listed.
    pub read: Vec<PathBuf>,
    /// Files may be made, written, renamed and removed besides.
    pub write: Vec<PathBuf>,
    /// Files may be read and executed.
    pub execute: Vec<PathBuf>,
    /// TCP ports that may be connected to: where the query log is read, and where records come from.
    pub connect: Vec<u16>,
}

impl Folders {
    /// Of this configuration. `program`: what a handover starts; `elsewhere`: TCP ports
    /// that records come from.
    #[must_use]
    pub fn of(config: &Config, program: &Path, sources: Option<&mut Sources>, elsewhere: Vec<u16>) -> Self {
        let mut read = Set::default();
        // Those that the operator named first: often they cover all that follows.
        for path in &config.sandbox.read {
            read.add(path);
        }
        if let Some(list) = &config.zones.path {
            read.add(if list.is_dir() { list } else { folder_of(list) });
        }
        for file in sources.into_iter().flat_map(Sources::files) {
            read.add_folder_of(file);
        }
        // The file with the configuration is read again by a successor.
        for file in config.cookies.secrets_file.iter().chain(&config.file) {
            read.add_folder_of(file);
        }

        let mut write = Set::default();
        for path in config.sandbox.write.iter().chain(&config.server.state) {
            write.add(path);
        }
        let log = config.query_log.target.as_ref().filter(|_| config.query_log.mode != QueryLogMode::Off);
        let mut connect = elsewhere;
        match log {
            Some(QueryLogTarget::File(path) | QueryLogTarget::Unix(path)) => write.add_folder_of(path),
            Some(QueryLogTarget::Tcp(address)) => connect.push(address.port()),
            Some(QueryLogTarget::Stdout) | None => {}
        }

        let mut execute = Set::default();
        execute.add_folder_of(program);
        // The loader of a successor reads our libraries and is executed itself.
        for library in libraries::paths() {
            execute.add_folder_of(&library);
        }
        Folders { read: read.open, write: write.open, execute: execute.open, connect }
    }

    /// Whether a file at this path can be read, as far as the sandbox goes.
    #[must_use]
    pub fn cover(&self, path: &Path) -> bool {
        let folder = fs::canonicalize(path)
            .or_else(|_| fs::canonicalize(folder_of(path)))
            .unwrap_or_else(|_| path.to_owned());
        self.read.iter().chain(&self.write).chain(&self.execute).any(|open| folder.starts_with(open))
    }

    /// Whether all can be listed or written to as is needed, for who runs under rules that others made.
    ///
    /// # Errors
    /// Which cannot.
    pub fn are_open(&self) -> anyhow::Result<()> {
        for path in self.read.iter().chain(&self.write) {
            // A folder that we may not read for another reason is reported when its files are not read.
            if let Err(error) = fs::File::open(path)
                && error.kind() == io::ErrorKind::PermissionDenied
                && libraries::may_read(path)
            {
                bail!("{} cannot be opened", path.display());
            }
        }
        Ok(())
    }
}

/// The folder in which a file stands.
fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[derive(Default)]
struct Set {
    open: Vec<PathBuf>,
    /// What was added as it was written: files by the hundred thousand may stand in one folder, which is looked up once.
    added: HashSet<OsString>,
}

impl Set {
    /// Adds a folder, or a file that is meant itself. What is not there cannot be opened now, and not later either.
    fn add(&mut self, path: &Path) {
        if self.added.contains(path.as_os_str()) {
            return;
        }
        self.added.insert(path.into());
        match fs::canonicalize(path) {
            Ok(path) => self.insert(path),
            Err(error) => tracing::warn!(
                path = %path.display(),
                %error,
                "it is not there and stays closed until a restart"
            ),
        }
    }

    /// Adds the folder of a file; of a link, the folder of what it leads to as well.
    fn add_folder_of(&mut self, file: &Path) {
        self.add(folder_of(file));
        if file.is_symlink()
            && let Ok(target) = fs::canonicalize(file)
        {
            self.insert(folder_of(&target).to_owned());
        }
    }

    fn insert(&mut self, path: PathBuf) {
        if !self.open.iter().any(|open| path.starts_with(open)) {
            self.open.retain(|open| !open.starts_with(&path));
            self.open.push(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_folders_of_what_is_configured_and_where_links_lead() {
        let outer = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(outer.path()).unwrap();
        for folder in ["zones/below", "elsewhere", "state", "bin", "other", "settings"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        for file in ["zones/below/a.zone", "elsewhere/b", "other/c"] {
            fs::write(root.join(file), "").unwrap();
        }
        symlink(root.join("elsewhere/b"), root.join("zones/b.zone")).unwrap();
        let mut config = Config::default();
        config.zones.path = Some(root.join("zones"));
        config.zones.files.insert("a.example".to_owned(), root.join("zones/below/a.zone"));
        config.server.state = Some(root.join("state"));
        config.file = Some(root.join("settings/dataplane.toml"));
        let mut sources = Sources::new(&config.zones.files, config.zones.path.as_deref()).unwrap();
        let folders = Folders::of(&config, &root.join("bin/program"), Some(&mut sources), Vec::new());
        assert_eq!(folders.read, [root.join("zones"), root.join("elsewhere"), root.join("settings")]);
        assert_eq!(folders.write, [root.join("state")]);
        assert!(folders.execute.contains(&root.join("bin")), "{folders:?}");
        assert!(
            folders.cover(&root.join("zones/below/new.zone")) && folders.cover(&root.join("zones/b.zone"))
        );
        assert!(!folders.cover(&root.join("other/c")));
        folders.are_open().unwrap();
    }

    #[test]
    fn a_folder_above_takes_in_those_below() {
        let mut set = Set::default();
        for path in ["/a/b", "/a/c", "/a", "/a/d", "/ab"] {
            set.insert(path.into());
        }
        assert_eq!(set.open, [PathBuf::from("/a"), PathBuf::from("/ab")]);
    }
}
