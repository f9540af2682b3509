//! Somebody who listens: what they are told, and whether they still may be.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use uuid::Uuid;

use godwit_wire::name::Name;

use super::super::super::App;
use super::super::shown::Shown;
use super::EventParams;
use crate::auth::Caller;
use crate::error::{Code, Problem};
use crate::events::latest::Seen;
use crate::events::told::{Event, RESYNC, Topic, events};
use crate::events::{Message, Missed, Published};
use crate::observe::metrics::Limit;
use crate::places::{Full, Place};
use crate::stop::stopped;
use crate::store::revocations::Revoked;
use crate::validate::name;

/// How often something is said where nothing happens: what is between keeps the connection open, and who is gone is found out.
const BEAT: Duration = Duration::from_secs(15);
/// How often it is looked at whether who listens still may, where nothing was heard of; and once that could not be known.
const LOOK: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How often data planes and jobs are looked at.
const POLL: Duration = Duration::from_secs(1);

/// Who is told is gone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Gone;

/// The way to who listens.
pub(super) trait Tell: Send + Sized {
    /// Tells of something; it may be held back until there is more.
    fn event(&mut self, event: &Event) -> impl Future<Output = Result<(), Gone>> + Send;
    /// Holds nothing back any more.
    fn flush(&mut self) -> impl Future<Output = Result<(), Gone>> + Send;
    /// Nothing has happened, and who listens is still there.
    fn beat(&mut self) -> impl Future<Output = Result<(), Gone>> + Send;
    /// Resolves when they have gone.
    fn gone(&mut self) -> impl Future<Output = Gone> + Send;
    /// The end: of what they may, or else of this server.
    fn end(self, refused: Option<&Problem>) -> impl Future<Output = ()> + Send;
}

/// Somebody who listens from now on.
pub(super) struct Listener {
    app: Arc<App>,
    /// Shows again and again that they may.
    shown: Shown,
    caller: Caller,
    topics: Vec<Topic>,
    zone: Option<Name>,
    heard: broadcast::Receiver<Message>,
    news: broadcast::Receiver<Revoked>,
    /// What they came back for, and whether all of it is known.
    missed: Option<Option<Missed>>,
}

/// What a listener was told last.
#[derive(Debug, Default)]
struct Told {
    /// Sequence of the last change that they were told, or passed over.
    change: u64,
    planes: Vec<(String, u64)>,
    jobs: Option<Arc<[Seen]>>,
}

/// Why no more is told.
enum End {
    /// They are gone, or this server ends.
    Gone,
    /// They may not any more.
    Refused(Problem),
}

impl From<Gone> for End {
    fn from(_: Gone) -> End {
        End::Gone
    }
}

impl Listener {
    /// Somebody who asks to listen, and their place among those who do.
    ///
    /// # Errors
    /// Of what they ask for, `RATE_LIMITED` where too many listen, and the database's.
    pub(super) async fn new(
        app: &Arc<App>,
        shown: Shown,
        caller: Caller,
        params: &EventParams,
        came_back: Option<&str>,
    ) -> Result<(Listener, Place<String>), Problem> {
        let topics = topics(params.topics.as_deref(), &caller)?;
        let zone = params.zone.as_deref().map(name::absolute).transpose()?;
        if let Some(zone) = &zone {
            caller.limits.allow_zone(zone)?;
        }
        let after = after(params, came_back)?;
        let of = caller.account().map_or_else(|| caller.id.clone(), |account| account.to_string());
        let place = app.listeners.admit(of).map_err(|full| {
            app.metrics.limited(Limit::Listeners);
            let message = match full {
                Full::All => "as many listen as may; try again later",
                Full::Own => "as many listen with this account as may of one",
            };
            Problem::new(Code::RateLimited, message)
        })?;
        // Before what was missed is looked for: nothing falls in between.
        let (heard, news) = (app.hub.listen(), app.authenticator.news());
        let missed = match after {
            Some(change) => Some(app.hub.missed_since(&app.readers, change).await?),
            None => None,
        };
        Ok((Listener { app: app.clone(), shown, caller, topics, zone, heard, news, missed }, place))
    }

    /// Tells what happens until they are gone, may not hear it any more, or the server ends.
    pub(super) async fn run(mut self, mut to: impl Tell) {
        let stop = self.app.stop.clone();
        let told = tokio::select! {
            told = self.tell_all(&mut to) => told,
            () = stopped(stop) => Ok(()),
        };
        match told {
            Ok(()) => to.end(None).await,
            Err(End::Refused(problem)) => to.end(Some(&problem)).await,
            Err(End::Gone) => {}
        }
    }

    async fn tell_all(&mut self, to: &mut impl Tell) -> Result<(), End> {
        let mut told = Told::default();
        match self.missed.take() {
            Some(Some(missed)) => {
                told.change = missed.after;
                for change in &missed.changes {
                    self.change(to, &mut told, change).await?;
                }
            }
            Some(None) => resync(to, &mut told).await?,
            None => {}
        }
        let is_polled = self.topics.iter().any(|topic| matches!(topic, Topic::Node | Topic::Job));
        let [mut beat, mut look, mut poll] = [BEAT, LOOK, POLL].map(|every| {
            let mut interval = tokio::time::interval_at(Instant::now() + every, every);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        });
        // What was revoked after they were let in, and before it was listened to, is not heard.
        look.reset_immediately();
        self.poll(to, &mut told).await?;
        loop {
            tokio::select! {
                message = self.heard.recv() => match message {
                    Ok(Message::Change(change)) => self.change(to, &mut told, &change).await?,
                    Ok(Message::Gap) | Err(RecvError::Lagged(_)) => resync(to, &mut told).await?,
                    Err(RecvError::Closed) => return Ok(()),
                },
                // Something was revoked, or somebody may other things than before.
                revoked = self.news.recv() => match revoked {
                    Ok(revoked) if self.caller.is_concerned_by(&revoked) => self.look_again(&mut look).await?,
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => self.look_again(&mut look).await?,
                    Err(RecvError::Closed) => return Ok(()),
                },
                _ = look.tick() => self.look_again(&mut look).await?,
                _ = poll.tick(), if is_polled => self.poll(to, &mut told).await?,
                _ = beat.tick() => to.beat().await?,
                gone = to.gone() => return Err(gone.into()),
            }
        }
    }

    /// Whether they still may, and what.
    async fn look_again(&mut self, look: &mut Interval) -> Result<(), End> {
        match self.shown.again(&self.app, &self.caller).await {
            Ok(caller) => {
                self.caller = caller;
                self.topics.iter().try_for_each(|topic| may(&self.caller, *topic)).map_err(End::Refused)
            }
            // While the database is away what was known counts, as everywhere.
            Err(problem) if problem.is_open() => {
                look.reset_after(LOOK_AGAIN);
                Ok(())
            }
            Err(problem) => Err(End::Refused(problem)),
        }
    }

    async fn change(&self, to: &mut impl Tell, told: &mut Told, change: &Published) -> Result<(), End> {
        if change.sequence <= told.change {
            return Ok(());
        }
        told.change = change.sequence;
        let Caller { access, limits, .. } = &self.caller;
        for event in events(change, access, limits, &self.topics, self.zone.as_ref()) {
            to.event(&event).await?;
        }
        Ok(to.flush().await?)
    }

    /// What has become of data planes and jobs.
    async fn poll(&self, to: &mut impl Tell, told: &mut Told) -> Result<(), End> {
        if self.topics.contains(&Topic::Node) {
            let live = self.app.planes.live();
            let now: Vec<(String, u64)> =
                live.into_iter().map(|plane| (plane.name, plane.applied.sequence)).collect();
            for (name, sequence) in now.iter().filter(|plane| !told.planes.contains(plane)) {
                to.event(&node(name, "live", Some(*sequence))).await?;
            }
            for (name, _) in told.planes.iter().filter(|(name, _)| !now.iter().any(|(of, _)| of == name)) {
                to.event(&node(name, "gone", None)).await?;
            }
            told.planes = now;
        }
        // While the database is away nothing is known of them.
        if self.topics.contains(&Topic::Job)
            && let Some(now) = self.app.latest.jobs(&self.app.readers).await
        {
            // What was there before is no news.
            if let Some(before) = &told.jobs {
                for seen in now.iter().filter(|seen| !before.contains(seen)) {
                    to.event(&job(seen)).await?;
                }
            }
            told.jobs = Some(now);
        }
        Ok(to.flush().await?)
    }
}

/// What was missed is not known: from here on all is told again.
async fn resync(to: &mut impl Tell, told: &mut Told) -> Result<(), End> {
    told.change = 0;
    let data = json!({ "reason": "something may have been missed: read what you need anew" });
    to.event(&Event { name: RESYNC, id: None, data }).await?;
    Ok(to.flush().await?)
}

/// What ends it, as it is told.
pub(super) fn end(problem: &Problem) -> Event {
    let data = json!({ "error": problem.message, "code": problem.code.as_str() });
    Event { name: "end", id: None, data }
}

fn node(name: &str, state: &str, sequence: Option<u64>) -> Event {
    let data: Value = json!({ "node": name, "state": state, "sequence": sequence });
    Event { name: Topic::Node.as_str(), id: None, data }
}

fn job(seen: &Seen) -> Event {
    let Seen { id, kind, state, attempts } = seen;
    let data = json!({ "id": id, "kind": kind, "state": state.as_str(), "attempts": attempts });
    Event { name: Topic::Job.as_str(), id: None, data }
}

/// Whether somebody may listen to it.
fn may(caller: &Caller, topic: Topic) -> Result<(), Problem> {
    caller.scopes.require(topic.scope())?;
    match topic {
        // What is about everything.
        Topic::Node | Topic::Job => caller.limits.allow_everything(),
        _ => Ok(()),
    }
}

/// Those that are asked for, or all that somebody may.
fn topics(text: Option<&str>, caller: &Caller) -> Result<Vec<Topic>, Problem> {
    let Some(text) = text else {
        let topics: Vec<Topic> = Topic::ALL.into_iter().filter(|topic| may(caller, *topic).is_ok()).collect();
        let nothing = "the token may listen to nothing: that takes domains:read or records:read";
        return if topics.is_empty() {
            Err(Problem::new(Code::InsufficientScope, nothing))
        } else {
            Ok(topics)
        };
    };
    let topic = |word: &str| {
        let found = Topic::ALL.into_iter().find(|topic| topic.as_str() == word);
        let message = format!("\"topics\": {word} is none; expected zone, record, change, node, job");
        let found = found.ok_or_else(|| Problem::new(Code::InvalidValue, message))?;
        may(caller, found).map(|()| found)
    };
    text.split(',').map(topic).collect()
}

/// The change behind which they go on. A browser that comes back says it in a header.
fn after(params: &EventParams, came_back: Option<&str>) -> Result<Option<Uuid>, Problem> {
    let Some(text) = came_back.or(params.after.as_deref()) else { return Ok(None) };
    let message = "Last-Event-ID, or \"after\": expected the id of a change";
    text.parse().map(Some).map_err(|_| Problem::new(Code::InvalidValue, message))
}
