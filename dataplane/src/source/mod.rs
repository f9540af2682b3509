//! Where records come from when there is no control plane: zone files, named one by one or by a list.
//!
//! [`Sources`] knows which zones are wanted and what was read for each; [`Sources::load`] reads them all,
//! [`Sources::reload`] those that changed. Both give zones for the snapshot and say what is wrong with the rest; they
//! never touch the snapshot, so that the caller decides when it swaps. [`check`] finds everything wrong with one
//! file.
//!
//! One bad zone hurts no other: it is reported and left out, and on a reload its last good version stays.

mod check;
mod error;
mod file;
mod identity;
mod list;
mod parallel;
mod place;
mod progress;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use check::{Report, check};
pub use error::ZoneError;
use file::ReadZone;
use godwit_engine::snapshot::LoadedZone;
use godwit_wire::name::Name;
use identity::Identity;
use list::{Wanted, ZoneList};
use progress::Progress;

/// The zones to serve, and what is known about their files.
#[derive(Debug)]
pub struct Sources {
    list: ZoneList,
    /// The list as [`Sources::files`] read it, until zones are read.
    listed: Option<Wanted>,
    /// What was read for each zone that is wanted, good or bad.
    held: BTreeMap<Name, Held>,
}

/// One zone's files as they were read last.
#[derive(Debug)]
struct Held {
    file: PathBuf,
    /// The zone file and all that it includes.
    identities: Vec<Identity>,
    /// Whether the last reading failed, so that it is tried again whether or not its files changed.
    failed: bool,
}

/// What a reload found.
#[derive(Default)]
pub struct Reload {
    /// Zones that are new or whose files changed.
    pub changed: Vec<LoadedZone>,
    /// Zones that are wanted no more.
    pub removed: Vec<Name>,
    /// What is wrong; the zones named in it stay as they were.
    pub errors: Vec<ZoneError>,
    /// How many zones have the files they had.
    pub unchanged: usize,
}

impl Sources {
    /// Zones given one by one, and a list of more: a file of `origin<TAB>zone file` lines or a folder of
    /// `ORIGIN.zone` files. Reads nothing yet.
    ///
    /// # Errors
    /// [`ZoneError`] for a name that is none.
    pub fn new(files: &BTreeMap<String, PathBuf>, path: Option<&Path>) -> Result<Self, ZoneError> {
        Ok(Sources { list: ZoneList::new(files, path)?, listed: None, held: BTreeMap::new() })
    }

    /// Where the zones that are wanted now have their files. Reads the list and no zone: they are to be read next, by the
    /// same list, and what is wrong with it is reported then.
    pub fn files(&mut self) -> impl Iterator<Item = &Path> {
        self.listed.insert(self.list.read()).zones.values().map(PathBuf::as_path)
    }

    /// Reads every zone. Blocks; uses as many threads as there are cores. Shows progress when it takes long.
    pub fn load(&mut self) -> (Vec<LoadedZone>, Vec<ZoneError>) {
        let reload = self.reload(true);
        (reload.changed, reload.errors)
    }

    /// Reads the list again and each zone of which a file changed since it was read, or whose last reading failed;
    /// with `force`, every zone. Blocks as [`Sources::load`] does.
    pub fn reload(&mut self, force: bool) -> Reload {
        let wanted = self.listed.take().unwrap_or_else(|| self.list.read());
        let mut reload = Reload::default();
        // A list with an error in it does not say what is no longer wanted.
        if wanted.errors.is_empty() {
            reload.removed = self.forget_all_but(&wanted.zones);
        }
        reload.errors = wanted.errors;

        let jobs: Vec<(Name, PathBuf)> = wanted.zones.into_iter().collect();
        let progress = Progress::new(jobs.len());
        let done = progress.show_while(|| {
            parallel::map(&jobs, |(apex, file)| {
                let outcome = self.read_one(apex, file, force, &progress);
                progress.zone_done();
                outcome
            })
        });
        let mut read = Vec::new();
        for ((apex, file), outcome) in jobs.into_iter().zip(done) {
            match outcome {
                Outcome::Unchanged(identities) => {
                    reload.unchanged += 1;
                    if let Some(held) = self.held.get_mut(&apex) {
                        held.identities = identities;
                    }
                }
                Outcome::Read(zone) => read.push((apex, reload.take(file, *zone))),
            }
        }
        // They are in order: put together in one go, and not each in its place.
        self.held.append(&mut read.into_iter().collect());
        reload
    }

    /// Says that the zone could not be used as it was read: the next reload reads it again.
    pub fn not_taken(&mut self, apex: &Name) {
        if let Some(held) = self.held.get_mut(apex) {
            held.failed = true;
        }
    }

    /// Says that these zones are served although no reading gave them: a reload with a good list that does not name them
    /// reports them as removed.
    pub fn adopt(&mut self, served: impl IntoIterator<Item = Name>) {
        for apex in served {
            let nothing_read = || Held { file: PathBuf::new(), identities: Vec::new(), failed: true };
            self.held.entry(apex).or_insert_with(nothing_read);
        }
    }

    /// Also names those that could never be read: what is served of them came from elsewhere, and is wanted no more.
    fn forget_all_but(&mut self, wanted: &BTreeMap<Name, PathBuf>) -> Vec<Name> {
        let gone: Vec<Name> = self.held.keys().filter(|apex| !wanted.contains_key(*apex)).cloned().collect();
        self.held.retain(|apex, _| wanted.contains_key(apex));
        gone
    }

    /// Runs on any thread.
    fn read_one(&self, apex: &Name, file: &Path, force: bool, progress: &Progress) -> Outcome {
        if let Some(held) = self.held.get(apex)
            && !force
            && !held.failed
            && held.file == file
            && let Some(identities) = identity::unchanged(&held.identities)
        {
            return Outcome::Unchanged(identities);
        }
        Outcome::Read(Box::new(file::read_zone(apex, file, progress)))
    }
}

impl Reload {
    /// Takes a zone as it was read, and gives what is remembered of it.
    fn take(&mut self, file: PathBuf, ReadZone { identities, zone }: ReadZone) -> Held {
        let failed = zone.is_err();
        match zone {
            Ok(zone) => self.changed.push(zone),
            Err(error) => self.errors.push(error),
        }
        Held { file, identities, failed }
    }
}

/// What became of one zone.
enum Outcome {
    /// Its files are what they were, as these identities say.
    Unchanged(Vec<Identity>),
    Read(Box<ReadZone>),
}
