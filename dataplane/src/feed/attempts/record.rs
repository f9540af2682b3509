//! The note of what is being applied, and what notes of earlier processes say.
//!
//! Two files of the state folder. `applying` holds one line, written in place before and after each attempt: a process that
//! ends leaves it to the kernel, so it needs no sync. `crashes` is written when something of it changes, which is rare.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use godwit_wire::name::Name;

use super::{Frozen, FrozenZones, MOST};

const NOTE: &str = "applying";
const CRASHES: &str = "crashes";
/// Longer than any note: a name has at most 1,004 characters. Written once, so that a full disk has room for every note.
const NOTE_OCTETS: usize = 1_200;
/// Nothing is being applied.
const NOTHING: &[u8] = b"-\n";
/// Crashes that are remembered, the newest.
const MOST_REMEMBERED: usize = 64;

/// What is applied at once.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Unit {
    /// Change sets of a generation.
    Sequences { generation: u64, first: u64, last: u64 },
    /// A whole zone.
    Zone { zone: Name, version: u64 },
    /// Whole zones, each of which was read, are put in together. After a crash that is done one by one, until all of them were.
    Zones,
}

/// See the module. The default one keeps nothing on disk.
#[derive(Debug, Default)]
pub(super) struct Record {
    note: Option<File>,
    path: Option<PathBuf>,
    /// What processes ended at, and how often.
    crashes: Vec<(Unit, u32)>,
    frozen: FrozenZones,
}

impl Record {
    /// Reads what was left. A note is taken back: what it says is written down with the crashes. A disk that takes nothing costs
    /// the notes, and not the start.
    pub(super) fn open(folder: &Path, handover: bool, now_us: i64) -> Self {
        let path = folder.join(CRASHES);
        let mut record = Record { path: Some(path.clone()), ..Record::default() };
        match fs::read_to_string(&path) {
            Ok(text) => text.lines().for_each(|line| record.read(line)),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => tracing::error!(%error, "what earlier processes ended at cannot be read"),
        }
        match record.open_note(&folder.join(NOTE), handover, now_us) {
            Ok(note) => record.note = Some(note),
            Err(error) => tracing::error!(%error, "what is applied cannot be noted in the state folder"),
        }
        record
    }

    fn open_note(&mut self, path: &Path, handover: bool, now_us: i64) -> io::Result<File> {
        let mut note =
            OpenOptions::new().create(true).read(true).write(true).truncate(false).mode(0o600).open(path)?;
        let mut text = Vec::new();
        note.read_to_end(&mut text)?;
        if handover {
            return Ok(note);
        }
        if let Some((before, unit)) = std::str::from_utf8(&text).ok().and_then(read_note) {
            self.crashed(unit, before, now_us);
            self.keep();
        }
        let mut blank = vec![b' '; NOTE_OCTETS];
        blank[..NOTHING.len()].copy_from_slice(NOTHING);
        note.write_all_at(&blank, 0)?;
        Ok(note)
    }

    /// A process ended while it applied this, at which so many had before.
    fn crashed(&mut self, unit: Unit, before: u32, now_us: i64) {
        let crashes = self.crashes_at(&unit).max(before).saturating_add(1);
        tracing::error!(%unit, crashes, "an earlier process ended while it applied this");
        if let Unit::Zone { zone, version } = &unit {
            let before = self.frozen.get(zone).map_or(0, |frozen| frozen.crashes);
            if before > 0 || crashes >= MOST {
                let crashes = before.saturating_add(1).max(crashes);
                self.frozen.insert(zone.clone(), Frozen { version: *version, crashes, at_us: now_us });
            }
        }
        self.crashes.retain(|(other, _)| *other != unit);
        self.crashes.push((unit, crashes));
        let excess = self.crashes.len().saturating_sub(MOST_REMEMBERED);
        self.crashes.drain(..excess);
    }

    /// What is about to be applied.
    pub(super) fn note(&mut self, unit: &Unit) {
        if let Some(note) = &self.note
            && let Err(error) = note.write_all_at(format!("{} {unit}\n", self.crashes_at(unit)).as_bytes(), 0)
        {
            tracing::debug!(%error, "what is applied could not be noted");
        }
    }

    /// It was.
    pub(super) fn clear(&mut self) {
        if let Some(note) = &self.note
            && let Err(error) = note.write_all_at(NOTHING, 0)
        {
            tracing::debug!(%error, "a note could not be taken back");
        }
    }

    /// How often a process ended at this or at something that this is a part of or meets.
    pub(super) fn crashes_at(&self, unit: &Unit) -> u32 {
        self.crashes
            .iter()
            .filter(|(other, _)| other.meets(unit))
            .map(|(_, crashes)| *crashes)
            .max()
            .unwrap_or(0)
    }

    /// How often a process ended at exactly this.
    pub(super) fn crashes_of(&self, unit: &Unit) -> u32 {
        self.crashes.iter().find(|(other, _)| other == unit).map_or(0, |(_, crashes)| *crashes)
    }

    /// These were applied: that a process ended at one of them had another reason, but for those that are refused.
    pub(super) fn passed(&mut self, generation: u64, first: u64, last: u64) {
        let passed = Unit::Sequences { generation, first, last };
        self.retain(|unit, crashes| crashes >= MOST || !unit.meets(&passed));
    }

    /// All whole zones that were to be applied were, or are frozen.
    pub(super) fn zones_passed(&mut self) {
        self.retain(|unit, _| *unit != Unit::Zones);
    }

    fn retain(&mut self, is_kept: impl Fn(&Unit, u32) -> bool) {
        let before = self.crashes.len();
        self.crashes.retain(|(unit, crashes)| is_kept(unit, *crashes));
        if self.crashes.len() != before {
            self.keep();
        }
    }

    pub(super) fn freeze(&mut self, zone: &Name, frozen: Frozen) {
        let before = self.frozen.get(zone);
        if before.is_some_and(|before| before.version >= frozen.version) {
            return;
        }
        self.frozen.insert(zone.clone(), frozen);
        self.keep();
    }

    pub(super) fn thaw(&mut self, zone: &Name) {
        let before = self.crashes.len();
        let is_of_it = |unit: &Unit| matches!(unit, Unit::Zone { zone: other, .. } if other == zone);
        self.crashes.retain(|(unit, _)| !is_of_it(unit));
        let was_frozen = self.frozen.remove(zone).is_some();
        if was_frozen {
            tracing::info!(%zone, "the zone is no longer frozen");
        }
        if was_frozen || self.crashes.len() != before {
            self.keep();
        }
    }

    pub(super) fn frozen(&self) -> &FrozenZones {
        &self.frozen
    }

    /// Writes down what is known, whole or not at all.
    fn keep(&self) {
        let Some(path) = &self.path else { return };
        let mut text = String::new();
        for (unit, crashes) in &self.crashes {
            text.push_str(&format!("crashed {crashes} {unit}\n"));
        }
        for (zone, Frozen { version, crashes, at_us }) in &self.frozen {
            text.push_str(&format!("frozen {crashes} {at_us} {version} {zone}\n"));
        }
        let temporary = path.with_extension("temporary");
        let written = fs::write(&temporary, text).and_then(|()| fs::rename(&temporary, path));
        if let Err(error) = written {
            tracing::error!(%error, "what processes ended at could not be written down");
        }
    }

    /// One line of what [`Record::keep`] writes; what is none is passed over.
    fn read(&mut self, line: &str) {
        let read = || {
            let (kind, rest) = line.split_once(' ')?;
            let (crashes, rest) = rest.split_once(' ')?;
            let crashes = crashes.parse().ok()?;
            if kind == "crashed" {
                return Some((Some((Unit::read(rest)?, crashes)), None));
            }
            let (at_us, rest) = rest.split_once(' ')?;
            let (version, zone) = rest.split_once(' ')?;
            let (at_us, version) = (at_us.parse().ok()?, version.parse().ok()?);
            let frozen = Frozen { version, crashes, at_us };
            (kind == "frozen").then_some((None, Some((zone.parse().ok()?, frozen))))
        };
        let Some((crash, frozen)) = read() else { return };
        self.crashes.extend(crash);
        self.frozen.extend(frozen);
    }
}

/// How many crashes were known, so that they are known where a full disk takes nothing else, and what was being applied.
fn read_note(text: &str) -> Option<(u32, Unit)> {
    let (before, unit) = text.lines().next()?.split_once(' ')?;
    Some((before.parse().ok()?, Unit::read(unit)?))
}

impl Unit {
    fn meets(&self, other: &Unit) -> bool {
        match (self, other) {
            (
                Unit::Sequences { generation, first, last },
                Unit::Sequences { generation: its_generation, first: its_first, last: its_last },
            ) => generation == its_generation && first <= its_last && its_first <= last,
            _ => self == other,
        }
    }

    fn read(text: &str) -> Option<Unit> {
        if text == "zones" {
            return Some(Unit::Zones);
        }
        let (kind, rest) = text.split_once(' ')?;
        let mut words = rest.splitn(3, ' ');
        let number = |words: &mut std::str::SplitN<'_, char>| words.next()?.parse().ok();
        match kind {
            "sequences" => Some(Unit::Sequences {
                generation: number(&mut words)?,
                first: number(&mut words)?,
                last: number(&mut words)?,
            }),
            "zone" => {
                let (version, zone) = rest.split_once(' ')?;
                Some(Unit::Zone { zone: zone.parse().ok()?, version: version.parse().ok()? })
            }
            _ => None,
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unit::Sequences { generation, first, last } => write!(f, "sequences {generation} {first} {last}"),
            Unit::Zone { zone, version } => write!(f, "zone {version} {zone}"),
            Unit::Zones => f.write_str("zones"),
        }
    }
}
