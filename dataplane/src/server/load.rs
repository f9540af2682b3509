//! Records: read at the start, and read again at a reload. With what of them cannot be read, the last good state goes
//! on.

use std::path::Path;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::bail;
use godwit_engine::answer::{Settings, WithoutData};
use godwit_engine::snapshot::{Snapshot, SnapshotOptions};
use godwit_wire::name::Name;

use super::Server;
use super::prepare::with_secrets;
use crate::observe::status::Status;
use crate::sandbox::folders::Folders;
use crate::serve::secrets;
use crate::source::{Reload, Sources, ZoneError};
use crate::state::State;
use crate::sys::heap;

impl Server {
    /// Reads the cookie secrets, and the zone files that changed, and swaps what differs. Blocks. With a feed there are no
    /// zone files.
    pub fn reload(&self) {
        self.reload_secrets();
        let Some(sources) = &self.sources else { return };
        let started = Instant::now();
        let mut sources = sources.lock().unwrap_or_else(PoisonError::into_inner);
        let Reload { changed, removed, errors, unchanged } = sources.reload(false);
        let held = self.store.load();
        report_left(&errors, "it keeps its last good state", |zone| held.zone(zone.as_ref()).is_some());
        drop(held);
        if let Some(folders) = &self.folders {
            report_closed(&errors, folders);
        }
        self.status.failed_zones.store(errors.len() as u64, Ordering::Relaxed);
        let (changed_count, removed_count) = (changed.len(), removed.len());
        if changed_count > 0 || removed_count > 0 {
            let next = self.store.load().replace_zones(changed).remove_zones(&removed);
            show(&self.status, &next, true);
            self.store.swap(next);
            heap::give_back();
        }
        self.show_without_data(&errors);
        if errors.is_empty() {
            self.status.mark_current();
        }
        tracing::info!(
            changed = changed_count,
            removed = removed_count,
            unchanged,
            failed = errors.len(),
            elapsed_ms = milliseconds_since(started),
            "reloaded"
        );
    }

    /// Lets it be known which zones are without data. What was read is swapped in by now: a zone that is held and still named
    /// there counts as held.
    fn show_without_data(&self, errors: &[ZoneError]) {
        self.answering.change(|before| {
            let without_data = without_data(&self.store.load(), errors, &before.without_data);
            (before.without_data != without_data).then(|| Settings { without_data, ..before.clone() })
        });
    }

    /// Both secrets change at once for whole batches; a file that is wrong changes nothing.
    fn reload_secrets(&self) {
        let cookies = &self.config.cookies;
        let Some(path) = cookies.secrets_file.as_ref().filter(|_| cookies.enabled) else { return };
        let secrets = match secrets::read(path) {
            Ok(secrets) => with_secrets(secrets, cookies.require),
            Err(error) => {
                self.status.cookie_secrets_failed.store(1, Ordering::Relaxed);
                tracing::error!("{error:#}; the cookie secrets stay as they are");
                return;
            }
        };
        self.status.cookie_secrets_failed.store(0, Ordering::Relaxed);
        let changed = self.answering.change(|before| {
            let new = before.cookies.as_ref() != Some(&secrets);
            new.then(|| Settings { cookies: Some(secrets), ..before.clone() })
        });
        if changed {
            tracing::info!("the cookie secrets have changed");
        }
    }
}

/// The newest local snapshot that is whole.
pub(super) fn load_local(
    state: Option<&State>,
    options: &SnapshotOptions,
    status: &Status,
) -> Option<Snapshot> {
    let started = Instant::now();
    let found = state?.load(options, |path, error| {
        status.snapshot_errors.fetch_add(1, Ordering::Relaxed);
        let error = format!("{error:#}");
        tracing::error!(file = %path.display(), error, "a local snapshot is damaged; trying the one before");
    })?;
    status.current_at_us.store(found.current_at_us, Ordering::Relaxed);
    tracing::info!(
        sequence = found.snapshot.position().sequence,
        zones = found.snapshot.zone_count(),
        names = found.snapshot.name_count(),
        elapsed_ms = milliseconds_since(started),
        "read the local snapshot"
    );
    Some(found.snapshot)
}

/// The zones that are wanted and of which nothing is held. While the list of zones is wrong, nobody knows whether those
/// `before` are still wanted.
fn without_data(snapshot: &Snapshot, errors: &[ZoneError], before: &WithoutData) -> WithoutData {
    let list_failed = errors.iter().any(|error| error.zone.is_none());
    let failed = errors.iter().filter_map(|error| error.zone.as_ref());
    let wanted = failed.chain(before.apexes().iter().filter(|_| list_failed));
    WithoutData::new(wanted.filter(|apex| snapshot.zone(apex.as_ref()).is_none()).cloned())
}

/// Reads the zone files. What of them cannot be read is taken from the local snapshot, where there is one; of what is left there
/// is no data, only its names, which are given too.
///
/// # Errors
/// At a handover, what of them cannot be read: the process before us may have it, and have it newer than the local
/// snapshot, which is written some time after a change.
pub(super) fn load_zones(
    sources: &mut Sources,
    state: Option<&State>,
    options: &SnapshotOptions,
    status: &Status,
    handover: bool,
) -> anyhow::Result<(Snapshot, WithoutData)> {
    let started = Instant::now();
    let (zones, errors) = sources.load();
    if handover && let Some(first) = errors.first() {
        report(&errors, "nothing is taken over");
        bail!("{first} ({} such in all); the process before us goes on", errors.len());
    }
    let mut base = Snapshot::empty(options);
    if !errors.is_empty()
        && let Some(local) = load_local(state, options, status)
    {
        base = keep_failed(&local, &zones, &errors);
    }
    let kept_zones: Vec<Name> = base.zones().map(|zone| zone.apex().to_owned()).collect();
    let kept = "it keeps its last good state, from the local snapshot";
    let left_out = report_left(&errors, kept, |zone| kept_zones.contains(zone));
    status.failed_zones.store(errors.len() as u64, Ordering::Relaxed);
    // Where the list could not be read, they include some that nobody may want: the next list decides.
    sources.adopt(kept_zones);
    let loaded = zones.len();
    let snapshot = base.replace_zones(zones);
    if errors.is_empty() {
        status.mark_current();
    }
    if loaded > 0 || left_out > 0 {
        tracing::info!(
            zones = loaded,
            failed = errors.len(),
            names = snapshot.name_count(),
            elapsed_ms = milliseconds_since(started),
            "read the zone files"
        );
    }
    let without_data = without_data(&snapshot, &errors, &WithoutData::default());
    Ok((snapshot, without_data))
}

/// Of the local snapshot the zones that are wanted but could not be read now. When the list itself could not be read,
/// nobody knows what is wanted, and all of them are kept.
fn keep_failed(
    local: &Snapshot,
    zones: &[godwit_engine::snapshot::LoadedZone],
    errors: &[ZoneError],
) -> Snapshot {
    let list_failed = errors.iter().any(|error| error.zone.is_none());
    let read: std::collections::BTreeSet<Name> = zones.iter().map(|zone| zone.apex().to_owned()).collect();
    let failed: std::collections::BTreeSet<&Name> =
        errors.iter().filter_map(|error| error.zone.as_ref()).collect();
    let unwanted: Vec<Name> = local
        .zones()
        .map(|zone| zone.apex().to_owned())
        .filter(|apex| read.contains(apex) || !(list_failed || failed.contains(apex)))
        .collect();
    local.remove_zones(&unwanted)
}

fn report<'e>(errors: impl IntoIterator<Item = &'e ZoneError>, consequence: &str) {
    for error in errors {
        tracing::error!("{error}; {consequence}");
    }
}

/// Reports errors, those of zones that are held as `kept`; gives how many are left out.
fn report_left(errors: &[ZoneError], kept: &str, is_held: impl Fn(&Name) -> bool) -> usize {
    let (held, left_out): (Vec<&ZoneError>, Vec<&ZoneError>) =
        errors.iter().partition(|error| error.zone.as_ref().is_some_and(&is_held));
    report(held, kept);
    report(left_out.iter().copied(), "it is left out");
    left_out.len()
}

/// Says of files that could not be read because nobody told us at the start that we would read there.
fn report_closed(errors: &[ZoneError], folders: &Folders) {
    for error in errors {
        if !folders.cover(Path::new(&error.file)) {
            let file = &error.file;
            tracing::warn!(
                file,
                "its folder was closed at the start; sandbox.read names folders to keep open"
            );
        }
    }
}

/// As a number that JSON can hold.
fn milliseconds_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn show(status: &Status, snapshot: &Snapshot, has_snapshot: bool) {
    status.sequence.store(snapshot.position().sequence, Ordering::Relaxed);
    status.zones.store(snapshot.zone_count() as u64, Ordering::Relaxed);
    status.names.store(snapshot.name_count() as u64, Ordering::Relaxed);
    status.has_snapshot.store(has_snapshot, Ordering::Relaxed);
}
