//! Judges change sets before they are published (R6): a child process of the same program applies them with the data planes' own
//! code. One at which the child ends, does not come to an end, or takes too much memory, is withheld: it gets its sequence, and what
//! is published under it names no zone. Its zones are given to nobody until a later change of them passes.
//!
//! - [`child`]: the other side; the only code of the control plane, besides `compare/`, that asks the engine;
//! - `frames`: what is said between the two;
//! - `process`: starts it, asks it, and sees to its end;
//! - `held`: which zones it has; `pauses`: when one that is withheld is judged again;
//! - `read`: zones that it lacks, from the database, as many as it may;
//! - `planted`: harm for tests.
//!
//! A child may end for another reason, so nothing is withheld at its first end: change sets that were judged together are then
//! judged one by one, and the one at which a child ends again is withheld. What the engine refuses is no harm: data planes refuse it
//! as well, and keep the zone as it is. Where no child can be started, change sets are published unjudged.
//!
//! **Not judged**: change sets larger than the bound of zones; of zones that are larger than 64 KiB when they are first seen, or that
//! are changed in turns with more others than the child may have, all but the records that a change puts.
//! A zone that the child does not have is loaded as it is now, with the change in it: that applying the change alone does harm is
//! not seen then. Nor is the removal of a zone that it does not have.

pub mod child;
mod frames;
mod held;
mod pauses;
#[cfg(debug_assertions)]
mod planted;
mod process;
mod read;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use godwit_wire::feed::{ChangeSet, Digest, ZoneChange, ZoneChangeKind};
use godwit_wire::name::Name;
use tokio::time::Instant;
use uuid::Uuid;

use super::batches;
use crate::config;
use crate::observe::metrics::Metrics;
use crate::store::changes::Waiting;
use crate::store::withheld::WithheldZone;
use crate::store::{Connection, Place, now_us, withheld};
use frames::{Asked, Message};
use held::Held;
use pauses::Pauses;
pub use process::Program;
use process::{Child, Ended};
use read::Reading;

/// The pause before another child is started where one did not start.
const START_AGAIN: Duration = Duration::from_secs(10);

/// A larger zone is not read for one change of it: that would keep everybody waiting who has changed something else.
const LOADED: u64 = 64 << 10;

/// Change sets with what became of them.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    /// As they are to be published, in their order.
    pub(crate) change_sets: Vec<Waiting>,
    /// Zones that are given to nobody from now on, or still are not.
    pub(crate) withheld: Vec<WithheldZone>,
    /// Zones that were not given, and are again.
    pub(crate) lifted: Vec<Name>,
    /// Zones at which the shadow ended.
    ended: Vec<Name>,
}

impl Judged {
    /// Those that nobody judges.
    pub(crate) fn unjudged(change_sets: Vec<Waiting>) -> Judged {
        Judged { change_sets, ..Judged::default() }
    }
}

/// What became of one.
#[derive(Clone, Debug)]
enum Verdict {
    Passed,
    /// The reason.
    Withheld(String),
    /// The reason.
    Unjudged(&'static str),
}

/// What a change set says of one zone.
struct Named {
    zone: Name,
    version: u64,
    /// It is gone then.
    is_removed: bool,
    /// What is there now does not matter.
    is_whole: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Shadow {
    /// `None`: it is turned off, and what is not judged passes.
    judge: Option<Judge>,
    /// As the database has it.
    withheld: BTreeMap<Name, WithheldZone>,
    /// Of change sets that have no sequence yet.
    verdicts: HashMap<Uuid, Verdict>,
    pauses: Pauses,
    metrics: Metrics,
}

impl Shadow {
    /// Nothing is judged.
    pub(crate) fn off(metrics: Metrics) -> Shadow {
        let (withheld, verdicts, pauses) = (BTreeMap::new(), HashMap::new(), Pauses::default());
        Shadow { judge: None, withheld, verdicts, pauses, metrics }
    }

    /// Judged by a program; `place`: where zones are read from that it lacks.
    pub(crate) fn of(program: Program, settings: &config::Relay, place: Place, metrics: Metrics) -> Shadow {
        let judge = Judge {
            program,
            settings: settings.clone(),
            reading: Reading::new(place, settings.shadow_zones_octets, metrics.clone()),
            child: None,
            start_at: None,
            held: Held::default(),
            metrics: metrics.clone(),
        };
        Shadow { judge: Some(judge), ..Shadow::off(metrics) }
    }

    /// A term begins: what the database knows is read, and the child is started before there is something to judge.
    ///
    /// # Errors
    /// Of the database.
    pub(crate) async fn begin(&mut self, connection: &mut Connection) -> sqlx::Result<()> {
        let withheld = withheld::list(connection).await?;
        self.withheld = withheld.into_iter().map(|zone| (zone.apex.clone(), zone)).collect();
        self.metrics.withheld_zones(self.withheld.len());
        self.verdicts.clear();
        self.pauses = Pauses::default();
        for (place, zone) in (0..).zip(self.withheld.keys()) {
            self.pauses.found(zone, place, Instant::now());
        }
        if let Some(judge) = &mut self.judge {
            judge.start();
        }
        Ok(())
    }

    /// A term is over.
    pub(crate) fn end(&mut self) {
        self.verdicts.clear();
        self.withheld.clear();
        self.pauses = Pauses::default();
        self.metrics.withheld_zones(0);
        if let Some(judge) = &mut self.judge {
            judge.end();
        }
    }

    /// Judges change sets, in their order. Where this is dropped before it is ready, [`Shadow::end`] is next.
    ///
    /// # Errors
    /// Of the database.
    pub(crate) async fn judge(&mut self, mut waiting: Vec<Waiting>) -> sqlx::Result<Judged> {
        let named: Vec<Vec<Named>> = waiting.iter().map(|one| named(&one.payload)).collect();
        match &mut self.judge {
            Some(judge) => {
                let now = Instant::now();
                let mut removed = BTreeSet::new();
                for (one, named) in waiting.iter().zip(&named) {
                    let is_paused = |named: &Named| {
                        let zone = &named.zone;
                        !named.is_whole && !removed.contains(zone) && self.pauses.is_paused(zone, now)
                    };
                    if named.iter().any(is_paused) {
                        self.verdicts.entry(one.id).or_insert(Verdict::Unjudged(PAUSED));
                    }
                    removed.extend(named.iter().filter(|named| named.is_removed).map(|named| &named.zone));
                }
                // What was judged and could not be given is not judged again.
                let is_new = |one: &Waiting| !self.verdicts.contains_key(&one.id);
                let all = waiting.iter().zip(&named).filter(|(one, _)| is_new(one));
                let new: Vec<(&Waiting, &[Named])> =
                    all.map(|(one, named)| (one, named.as_slice())).collect();
                let verdicts = judge.verdicts(&new).await?;
                self.verdicts.extend(new.iter().map(|(one, _)| one.id).zip(verdicts));
            }
            None => self.verdicts.clear(),
        }
        let mut ended = Vec::new();
        let mut zones: BTreeMap<&Name, Option<WithheldZone>> = BTreeMap::new();
        for (one, named) in waiting.iter_mut().zip(&named) {
            let verdict = self.verdicts.get(&one.id).cloned().unwrap_or(Verdict::Passed);
            let is_withheld = |zone: &Name| match zones.get(zone) {
                Some(zone) => zone.is_some(),
                None => self.withheld.contains_key(zone),
            };
            if matches!(verdict, Verdict::Withheld(_)) {
                ended.extend(named.iter().map(|named| named.zone.clone()));
            }
            let verdict = match verdict {
                // It has what was withheld in it.
                Verdict::Unjudged(why)
                    if named.iter().any(|one| !one.is_removed && is_withheld(&one.zone)) =>
                {
                    Verdict::Withheld(format!("of a zone that is withheld, and not judged: {why}"))
                }
                verdict => verdict,
            };
            let lifted: Vec<&Named> = named.iter().filter(|one| is_withheld(&one.zone)).collect();
            match verdict {
                Verdict::Withheld(reason) => {
                    for Named { zone, version, is_removed, .. } in named {
                        let since_us = self.withheld.get(zone).map_or_else(now_us, |zone| zone.since_us);
                        let (apex, version, reason) = (zone.clone(), *version, reason.clone());
                        let withheld = WithheldZone { apex, version, since_us, reason };
                        zones.insert(zone, (!is_removed).then_some(withheld));
                    }
                    one.payload = batches::without_zones(one.id, one.committed_at_us);
                    one.withheld = true;
                }
                Verdict::Passed => zones.extend(lifted.iter().map(|one| (&one.zone, None))),
                Verdict::Unjudged(_) => {
                    self.metrics.shadow_unjudged();
                    zones.extend(lifted.iter().filter(|one| one.is_removed).map(|one| (&one.zone, None)));
                }
            }
        }
        let mut judged = Judged { change_sets: waiting, ended, ..Judged::default() };
        for (apex, zone) in zones {
            match zone {
                Some(zone) => judged.withheld.push(zone),
                None if self.withheld.contains_key(apex) => judged.lifted.push(apex.clone()),
                None => {}
            }
        }
        Ok(judged)
    }

    /// They have their sequences, and the database knows what became of them.
    pub(crate) fn given(&mut self, judged: &Judged) {
        for one in &judged.change_sets {
            self.verdicts.remove(&one.id);
            if one.withheld {
                tracing::error!(
                    change = %one.id,
                    "A CHANGE IS WITHHELD: the code of data planes fails at it; its zones keep what they have until a later \
                     change of them passes"
                );
            }
        }
        for zone in &judged.withheld {
            tracing::error!(zone = %zone.apex, version = zone.version, reason = zone.reason, "THE ZONE IS WITHHELD");
            match judged.ended.contains(&zone.apex) {
                true => self.pauses.ended(&zone.apex, Instant::now()),
                false => self.pauses.skipped(&zone.apex, Instant::now()),
            }
            self.withheld.insert(zone.apex.clone(), zone.clone());
        }
        judged.lifted.iter().for_each(|apex| self.lifted(apex));
        self.metrics.withheld_zones(self.withheld.len());
    }

    /// The database knows that a zone is withheld no longer.
    pub(crate) fn lifted(&mut self, apex: &Name) {
        tracing::info!(zone = %apex, "the zone is withheld no longer");
        self.pauses.lifted(apex);
        self.withheld.remove(apex);
        self.metrics.withheld_zones(self.withheld.len());
    }

    /// A zone that is withheld, of which a change was not judged, and that is to be judged now.
    pub(crate) fn due(&self) -> Option<Name> {
        self.judge.as_ref().and_then(|_| self.pauses.due(Instant::now()))
    }

    /// Judges such a zone as it is now; whether it passes. Where this is dropped before it is ready, [`Shadow::end`] is next.
    ///
    /// # Errors
    /// Of the database.
    pub(crate) async fn judge_zone(&mut self, zone: &Name) -> sqlx::Result<bool> {
        let Some(judge) = &mut self.judge else { return Ok(false) };
        let named = Named { zone: zone.clone(), version: 0, is_removed: false, is_whole: false };
        let nothing = Waiting {
            commit_number: 0,
            id: Uuid::nil(),
            committed_at_us: 0,
            payload: batches::without_zones(Uuid::nil(), 0),
            root_change: Digest::default(),
            withheld: false,
        };
        let tried = judge.first_of(&[(&nothing, std::slice::from_ref(&named))]).await?;
        match tried {
            Tried::Judged(_) => return Ok(true),
            Tried::Ended { .. } => {
                self.pauses.ended(zone, Instant::now());
                self.pauses.skipped(zone, Instant::now());
            }
            Tried::Unavailable => self.pauses.later(zone, Instant::now()),
        }
        Ok(false)
    }
}

/// The zones of a change set: nobody reads one that cannot be decoded.
fn named(payload: &[u8]) -> Vec<Named> {
    let zones = ChangeSet::decode(payload).map(|set| set.zones).unwrap_or_default();
    let named = |change: ZoneChange| {
        let is_removed = matches!(change.kind, ZoneChangeKind::Remove);
        let is_whole = is_removed || change.base_version == 0;
        Named { zone: change.zone, version: change.version, is_removed, is_whole }
    };
    zones.into_iter().map(named).collect()
}

/// The asking side.
#[derive(Debug)]
struct Judge {
    program: Program,
    settings: config::Relay,
    reading: Reading,
    child: Option<Child>,
    /// Not before, where the last one did not start.
    start_at: Option<Instant>,
    held: Held,
    metrics: Metrics,
}

const PAUSED: &str = "the shadow has ended at it again and again; it is tried again later";
const UNAVAILABLE: &str = "there is no shadow";
const TOO_LARGE: &str = "it is too large";

/// What came of trying the first of some change sets.
enum Tried {
    /// What became of so many.
    Judged(Vec<Verdict>),
    /// The child ended at one of so many.
    Ended { count: usize, reason: String },
    /// No child is to be had.
    Unavailable,
}

impl Judge {
    /// Starts a child, unless there is one. That it cannot run shows when it is asked.
    fn start(&mut self) {
        if self.child.is_some() || self.start_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        self.held.clear();
        match Child::start(&self.program, self.settings.shadow_memory_octets) {
            Ok(child) => self.child = Some(child),
            Err(error) => self.not_started(&error.to_string()),
        }
    }

    fn not_started(&mut self, error: &str) {
        self.end();
        self.start_at = Some(Instant::now() + START_AGAIN);
        tracing::error!(error, "THE SHADOW DOES NOT START: change sets are published unjudged");
    }

    fn end(&mut self) {
        self.child = None;
        self.held.clear();
        self.reading.end();
        self.metrics.shadow_runs(false);
    }

    async fn verdicts(&mut self, sets: &[(&Waiting, &[Named])]) -> sqlx::Result<Vec<Verdict>> {
        let mut verdicts = Vec::with_capacity(sets.len());
        while let Some(left) = sets.get(verdicts.len()..).filter(|left| !left.is_empty()) {
            match self.first_of(left).await? {
                Tried::Judged(some) => verdicts.extend(some),
                Tried::Unavailable => verdicts.extend(left.iter().map(|_| Verdict::Unjudged(UNAVAILABLE))),
                Tried::Ended { count, .. } => {
                    for one in left.chunks(1).take(count) {
                        verdicts.extend(match self.first_of(one).await? {
                            Tried::Judged(one) => one,
                            Tried::Ended { reason, .. } => vec![Verdict::Withheld(reason)],
                            Tried::Unavailable => vec![Verdict::Unjudged(UNAVAILABLE)],
                        });
                    }
                }
            }
        }
        Ok(verdicts)
    }

    /// Has the first of these judged together, as many as fit into one message; one at least.
    async fn first_of(&mut self, sets: &[(&Waiting, &[Named])]) -> sqlx::Result<Tried> {
        self.start();
        if self.child.is_none() {
            return Ok(Tried::Unavailable);
        }
        let (message, mut verdicts) = self.message(sets).await?;
        let Some(child) = &mut self.child else { return Ok(Tried::Unavailable) };
        let seconds = message.octets() >> 20;
        let patience = Duration::from_millis(self.settings.shadow_timeout_ms) + Duration::from_secs(seconds);
        match child.ask(&message, patience).await {
            Ok(answers) => {
                self.metrics.shadow_runs(true);
                for (said, error) in message.asked.iter().zip(answers) {
                    if !error.is_empty() {
                        self.refused(said, sets, &error);
                    }
                }
                self.held.bound(self.settings.shadow_zones_octets);
                verdicts.truncate(sets.len());
                Ok(Tried::Judged(verdicts))
            }
            Err(Ended::NotStarted(error)) => {
                self.not_started(&error);
                Ok(Tried::Unavailable)
            }
            Err(Ended::During(reason)) => {
                self.end();
                self.metrics.shadow_end();
                tracing::error!(change_sets = verdicts.len(), reason, "the shadow ended");
                Ok(Tried::Ended { count: verdicts.len(), reason })
            }
        }
    }

    /// The child refused something, as a data plane will.
    fn refused(&mut self, asked: &Asked, sets: &[(&Waiting, &[Named])], error: &str) {
        match asked {
            Asked::Zone(zone) => {
                tracing::error!(%zone, error, "the shadow cannot load a zone");
                self.held.remove(zone);
            }
            Asked::ChangeSet(place) => {
                let Some((one, named)) = sets.get(*place) else { return };
                tracing::error!(change = %one.id, error, "the shadow cannot apply a change set");
                named.iter().for_each(|one| self.held.forget(&one.zone));
            }
        }
        self.metrics.shadow_error();
    }

    /// What is sent of the first of these, and what is to be said of them when the answer is there.
    async fn message(&mut self, sets: &[(&Waiting, &[Named])]) -> sqlx::Result<(Message, Vec<Verdict>)> {
        let bound = self.settings.shadow_zones_octets;
        let lacking = |named: &&Named| !named.is_whole && !self.held.has(&named.zone);
        let names: BTreeSet<Name> = sets
            .iter()
            .flat_map(|(_, named)| named.iter().filter(lacking).map(|named| named.zone.clone()))
            .collect();
        let mut found = self.reading.find(&names).await?;
        found.retain(|zone, (_, octets)| {
            let fits = *octets <= bound.min(LOADED);
            if !fits {
                self.held.put_large(zone);
            }
            fits
        });
        // As many as take half of the bound together.
        let (mut count, mut octets, mut wanted) = (0, 0, BTreeSet::new());
        for (one, named) in sets {
            let zones = named.iter().map(|named| &named.zone).filter(|zone| !wanted.contains(*zone));
            let zones: BTreeSet<&Name> = zones.filter(|zone| found.contains_key(*zone)).collect();
            octets += one.payload.len() as u64
                + zones.iter().map(|zone| found.get(*zone).map_or(0, |(_, octets)| *octets)).sum::<u64>();
            if count > 0 && octets > bound / 2 {
                break;
            }
            count += 1;
            wanted.extend(zones);
        }
        found.retain(|zone, _| wanted.contains(zone));
        let mut blobs = self.reading.blobs(found).await?;
        let mut message = Message::default();
        for zone in self.held.take_forgotten() {
            message.forget(&zone);
        }
        let mut verdicts = Vec::with_capacity(count);
        for (place, (one, named)) in sets.iter().enumerate().take(count) {
            if one.payload.len() as u64 > bound {
                named.iter().for_each(|one| self.held.forget(&one.zone));
                verdicts.push(Verdict::Unjudged(TOO_LARGE));
                continue;
            }
            for named in *named {
                if let Some(blob) = blobs.remove(&named.zone) {
                    self.held.put(&named.zone, blob.len() as u64);
                    message.zone(&named.zone, &blob);
                }
                match named {
                    Named { zone, is_removed: true, .. } => self.held.remove(zone),
                    Named { zone, is_whole: true, .. } => self.held.put(zone, one.payload.len() as u64),
                    Named { zone, .. } => self.held.grow(zone, one.payload.len() as u64),
                }
            }
            message.change_set(place, &one.payload);
            verdicts.push(Verdict::Passed);
        }
        Ok((message, verdicts))
    }
}
