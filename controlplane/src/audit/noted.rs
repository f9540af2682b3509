//! What changes nothing and is in the audit log all the same: that somebody was refused, and that a key or a token was used.
//!
//! Nobody waits for it to be written, and it cannot fill the database. Of refusals so many are written down in a while, of one client
//! and of all, and then how many were left out. Of a key or a token it is its first use from an address within an hour that is
//! written down. What waits to be written is bounded too: what finds no room is counted by a metric.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use tokio::sync::mpsc;

use crate::api::server::client_of;
use crate::commit::Committer;
use crate::error::{Code, Problem};
use crate::observe::metrics::Metrics;
use crate::stop::{Stop, is_over};
use crate::store::audit::{self, Entry, Who};
use crate::store::batch::Batch;
use crate::store::now_us;

/// In so long so many are written down.
const WINDOW: Duration = Duration::from_secs(10);
/// Refusals of whom nobody knows: of one client, and of all.
const STRANGER: u64 = 5;
const STRANGERS: u64 = 10;
/// Refusals of whom nobody lets in from where they are, whoever they are: of one client, and of all. They hide nothing of the others.
const OUTSIDER: u64 = 1;
const OUTSIDERS: u64 = 5;
/// Refusals of who asks too often: of one, and of all. They hide nothing of the others either.
const LIMITED: u64 = 1;
const LIMITEDS: u64 = 5;
/// Refusals of who is known, of one and of all.
const CALLER: u64 = 10;
const CALLERS: u64 = 30;
/// Uses of keys and tokens, of one account and of all.
const USER: u64 = 10;
const USERS: u64 = 100;
/// A key that was used from an address is not told of again for so long.
const USED_FOR: Duration = Duration::from_secs(3_600);
/// Keys with addresses of which it is remembered.
const MOST_USED: usize = 16_384;
/// What waits to be written.
const QUEUE: usize = 256;
/// What is written together.
const AT_ONCE: usize = 32;
/// How often it is looked whether something was left out, and the pause after the database failed.
const LOOK: Duration = Duration::from_secs(1);
/// The most octets of a path that are kept.
const MOST_PATH: usize = 300;

/// What is written down.
#[derive(Clone, Debug)]
struct Note {
    at_us: i64,
    who: Who,
    action: &'static str,
    object: String,
    refused: Option<&'static str>,
    after: Option<Json>,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Noted {
    sender: mpsc::Sender<Note>,
    bounds: Arc<Mutex<Bounds>>,
    used: Arc<Mutex<Used>>,
    metrics: Metrics,
}

/// What was noted, to be written by [`keep`].
pub(crate) struct Queue {
    notes: mpsc::Receiver<Note>,
    bounds: Arc<Mutex<Bounds>>,
}

/// Both ends.
pub(crate) fn channel(metrics: Metrics) -> (Noted, Queue) {
    let (sender, notes) = mpsc::channel(QUEUE);
    let bounds = Arc::new(Mutex::new(Bounds::new(Instant::now())));
    (Noted { sender, bounds: bounds.clone(), used: Arc::default(), metrics }, Queue { notes, bounds })
}

impl Noted {
    /// A request was refused: to `who`, where that is known, or to whom nobody knows.
    pub(crate) fn refused(&self, who: Who, is_outside: bool, method: &str, path: &str, problem: &Problem) {
        let is_known = !who.actor.is_empty();
        let class = match problem.code.status().as_u16() {
            429 => Class::Limited,
            401 | 403 if is_known => Class::Caller,
            401 | 403 if is_outside => Class::Outsider,
            401 | 403 => Class::Stranger,
            _ => return,
        };
        let of = if is_known { who.actor.clone() } else { from(&who) };
        if !self.admit(class, of, Instant::now()) {
            return;
        }
        let about = problem.about.clone();
        let is_login = path == "/api/v1/auth/login" && who.actor.is_empty();
        let (action, object, came_with) = if is_login {
            ("login", about.unwrap_or_default(), None)
        } else {
            let end = path.floor_char_boundary(MOST_PATH);
            ("request", format!("{method} {}", &path[..end]), who.came_with.clone().or(about))
        };
        let who = Who { came_with, ..who };
        let _ = self.send(Note {
            at_us: now_us(),
            who,
            action,
            object,
            refused: Some(problem.code.as_str()),
            after: None,
        });
    }

    /// A key or a token was used.
    pub(crate) fn used(&self, who: &Who) {
        self.used_at(who, Instant::now());
    }

    fn used_at(&self, who: &Who, now: Instant) {
        let Some(brought) = who.came_with.clone() else { return };
        let (action, object) = match brought.split_once(' ') {
            Some(("key", id)) => ("key.use", id.to_owned()),
            Some(("token", id)) => ("token.use", id.to_owned()),
            _ => return,
        };
        let key = (brought, from(who));
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.is_known(&key, now) || !self.admit(Class::User, who.actor.clone(), now) {
            return;
        }
        let note = Note { at_us: now_us(), who: who.clone(), action, object, refused: None, after: None };
        // What was left out is told the next time.
        if self.send(note) {
            used.remember(key, now);
        }
    }

    fn admit(&self, class: Class, of: String, now: Instant) -> bool {
        self.bounds.lock().unwrap_or_else(PoisonError::into_inner).admit(class, of, now)
    }

    /// Whether there was room for it.
    fn send(&self, note: Note) -> bool {
        let is_sent = self.sender.try_send(note).is_ok();
        if !is_sent {
            self.metrics.audit_dropped();
        }
        is_sent
    }
}

/// The client that a request comes from, as text; of one that comes from nowhere none.
fn from(who: &Who) -> String {
    who.client.map(|client| client_of(client).to_string()).unwrap_or_default()
}

/// Keys and tokens that were used, each with the client that it came from, and when that was told.
#[derive(Debug, Default)]
struct Used {
    at: HashMap<(String, String), Instant>,
    /// The same, as they came: the first is the first that is forgotten, so that nobody looks through all of them.
    order: VecDeque<(String, String)>,
}

impl Used {
    fn is_known(&self, key: &(String, String), now: Instant) -> bool {
        self.at.get(key).is_some_and(|at| now.duration_since(*at) < USED_FOR)
    }

    /// Remembers one that is not known.
    fn remember(&mut self, key: (String, String), now: Instant) {
        while let Some(first) = self.order.front()
            && (self.at.len() >= MOST_USED || !self.is_known(first, now))
        {
            self.at.remove(first);
            self.order.pop_front();
        }
        self.at.insert(key.clone(), now);
        self.order.push_back(key);
    }
}

/// Of whom something is told.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Class {
    Outsider,
    Stranger,
    Caller,
    Limited,
    User,
}

impl Class {
    /// How many are written down in a while: of one, and of all.
    fn most(self) -> (u64, u64) {
        match self {
            Class::Outsider => (OUTSIDER, OUTSIDERS),
            Class::Stranger => (STRANGER, STRANGERS),
            Class::Caller => (CALLER, CALLERS),
            Class::Limited => (LIMITED, LIMITEDS),
            Class::User => (USER, USERS),
        }
    }
}

/// How many were written down in this while, and how many were not.
#[derive(Debug)]
struct Bounds {
    since: Instant,
    of_all: HashMap<Class, u64>,
    of_one: HashMap<(Class, String), u64>,
    left_out: HashMap<Class, u64>,
    /// Of the while before, to be told.
    untold: HashMap<Class, u64>,
}

impl Bounds {
    fn new(since: Instant) -> Bounds {
        Bounds {
            since,
            of_all: HashMap::new(),
            of_one: HashMap::new(),
            left_out: HashMap::new(),
            untold: HashMap::new(),
        }
    }

    fn admit(&mut self, class: Class, of: String, now: Instant) -> bool {
        self.turn(now);
        let (most_of_one, most) = class.most();
        let of_all = self.of_all.entry(class).or_default();
        let key = (class, of);
        if *of_all >= most || self.of_one.get(&key).is_some_and(|count| *count >= most_of_one) {
            *self.left_out.entry(class).or_default() += 1;
            return false;
        }
        *of_all += 1;
        *self.of_one.entry(key).or_default() += 1;
        true
    }

    fn turn(&mut self, now: Instant) {
        if now.duration_since(self.since) >= WINDOW {
            let left_out = std::mem::take(&mut self.left_out);
            for (class, count) in left_out {
                *self.untold.entry(class).or_default() += count;
            }
            self.of_all.clear();
            self.of_one.clear();
            self.since = now;
        }
    }

    /// What a row says of those that were left out; `all`: of this while too.
    fn untold(&mut self, now: Instant, all: bool) -> Option<Json> {
        self.turn(if all { self.since + WINDOW } else { now });
        if self.untold.is_empty() {
            return None;
        }
        let untold = std::mem::take(&mut self.untold);
        let count = |class: Class| untold.get(&class).copied().unwrap_or(0);
        Some(json!({
            "of_outsiders": count(Class::Outsider), "of_strangers": count(Class::Stranger),
            "of_callers": count(Class::Caller), "of_limits": count(Class::Limited), "uses": count(Class::User),
        }))
    }
}

/// Writes down what is noted until it is time to stop.
pub(crate) async fn keep(mut queue: Queue, committer: Committer, metrics: Metrics, mut stop: Stop) {
    loop {
        let first = tokio::select! {
            Some(note) = queue.notes.recv() => Some(note),
            _ = stop.wait_for(|stop| *stop) => None,
            () = tokio::time::sleep(LOOK) => None,
        };
        let is_last = is_over(&stop);
        let mut notes: Vec<Note> = first.into_iter().collect();
        while notes.len() < AT_ONCE || is_last {
            let Ok(note) = queue.notes.try_recv() else { break };
            notes.push(note);
        }
        let left_out = {
            let mut bounds = queue.bounds.lock().unwrap_or_else(PoisonError::into_inner);
            bounds.untold(Instant::now(), is_last)
        };
        notes.extend(left_out.map(|after| Note {
            at_us: now_us(),
            who: Who::itself(),
            action: "audit.left_out",
            object: String::new(),
            refused: None,
            after: Some(after),
        }));
        write(&committer, &notes, &metrics, &mut stop).await;
        if is_last {
            return;
        }
    }
}

/// Until it is written, or it is time to stop.
async fn write(committer: &Committer, notes: &[Note], metrics: &Metrics, stop: &mut Stop) {
    if notes.is_empty() {
        return;
    }
    let notes = Arc::new(notes.to_vec());
    loop {
        let written = notes.clone();
        let write = committer.write(move |connection| {
            Box::pin(async move {
                let mut batch = Batch::of(connection);
                for note in written.iter() {
                    let Note { at_us, who, action, object, refused, after } = note;
                    let entry = Entry {
                        at_us: *at_us,
                        refused: *refused,
                        after: after.clone(),
                        ..Entry::done(who, action, object)
                    };
                    audit::insert(&mut batch, &entry);
                    if batch.is_full() {
                        batch.run(connection).await?;
                    }
                }
                Ok(batch.run(connection).await.map(|_| ())?)
            })
        });
        let Err(problem) = write.await else { return };
        if is_over(stop) || problem.code == Code::Internal {
            tracing::warn!(%problem, notes = notes.len(), "refusals could not be written down");
            notes.iter().for_each(|_| metrics.audit_dropped());
            return;
        }
        tracing::debug!(%problem, "refusals wait to be written down");
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r20_a_flood_of_refusals_is_a_few_rows_and_how_many_were_left_out() {
        let start = Instant::now();
        let mut bounds = Bounds::new(start);
        let mut admitted = 0;
        let mut rows = 0;
        // A thousand a second, for ten minutes, from any number of clients.
        for n in 0..600_000_u64 {
            let now = start + Duration::from_millis(n);
            let client = format!("192.0.2.{}", n % 200);
            admitted += u64::from(bounds.admit(Class::Stranger, client, now));
            rows += u64::from(n % 1_000 == 0 && bounds.untold(now, false).is_some());
        }
        assert_eq!(admitted, 60 * STRANGERS);
        assert!(rows <= 60, "{rows}");
        let rest = bounds.untold(start + Duration::from_secs(600), true).unwrap();
        assert_eq!(rest["of_strangers"].as_u64().unwrap(), 10_000 - STRANGERS);
        // One client takes no more than its part, and strangers nothing of who is known.
        let mut bounds = Bounds::new(start);
        let one = (0..100).filter(|_| bounds.admit(Class::Stranger, "192.0.2.1".to_owned(), start)).count();
        assert_eq!(u64::try_from(one).unwrap(), STRANGER);
        assert!(bounds.admit(Class::Stranger, "192.0.2.2".to_owned(), start));
        assert!((0..CALLER).all(|_| bounds.admit(Class::Caller, "anna".to_owned(), start)));
        assert!(!bounds.admit(Class::Caller, "anna".to_owned(), start));
        assert!(bounds.admit(Class::Caller, "bert".to_owned(), start));
        let told = bounds.untold(start + WINDOW, false).unwrap();
        assert_eq!(
            told,
            json!({ "of_outsiders": 0, "of_strangers": 95, "of_callers": 1, "of_limits": 0, "uses": 0 })
        );
        assert!(bounds.untold(start + WINDOW, false).is_none());
        assert!(bounds.admit(Class::Caller, "anna".to_owned(), start + WINDOW));
    }

    #[test]
    fn a_key_is_told_of_once_an_hour_from_an_address_and_what_finds_no_room_is_counted() {
        let (noted, mut queue) = channel(Metrics::default());
        let who = |client: u8| Who {
            actor: format!("account {client}"),
            client: Some([192, 0, 2, client].into()),
            came_with: Some("key 1".to_owned()),
            ..Who::default()
        };
        noted.used(&who(1));
        noted.used(&who(1));
        noted.used(&who(2));
        let told: Vec<_> =
            std::iter::from_fn(|| queue.notes.try_recv().ok()).map(|note| note.who.client).collect();
        assert_eq!(told, [who(1).client, who(2).client]);
        for n in 0..QUEUE + 7 {
            let _ = noted.send(Note {
                at_us: 1,
                who: who(1),
                action: "request",
                object: n.to_string(),
                refused: None,
                after: None,
            });
        }
        assert_eq!(noted.metrics.audit_dropped_so_far(), 7);
        // Neither is one that found no room taken for one that was told.
        noted.used(&who(3));
        while queue.notes.try_recv().is_ok() {}
        noted.used(&who(3));
        assert_eq!(queue.notes.try_recv().unwrap().who.client, who(3).client);
    }

    #[test]
    fn a_first_use_that_was_left_out_is_told_the_next_time() {
        let (noted, mut queue) = channel(Metrics::default());
        let who = |client: u64| Who {
            actor: "anna".to_owned(),
            client: Some(std::net::Ipv4Addr::from_bits(u32::try_from(client).unwrap()).into()),
            came_with: Some("key 1".to_owned()),
            ..Who::default()
        };
        let start = Instant::now();
        for n in 0..USER + 1 {
            noted.used_at(&who(n), start);
        }
        let later = start + 2 * WINDOW;
        for n in 0..USER + 1 {
            noted.used_at(&who(n), later);
        }
        let told: Vec<_> =
            std::iter::from_fn(|| queue.notes.try_recv().ok()).map(|note| note.who.client).collect();
        let expected: Vec<_> = (0..USER + 1).map(|n| who(n).client).collect();
        assert_eq!(told, expected);
    }

    /// Whoever uses a key from ever other addresses takes no more memory, and what was told last stays known.
    #[test]
    fn what_was_used_is_remembered_up_to_a_number_and_the_oldest_are_forgotten() {
        let (mut used, start) = (Used::default(), Instant::now());
        let key = |n: usize| ("key 1".to_owned(), n.to_string());
        for n in 0..MOST_USED + 10 {
            assert!(!used.is_known(&key(n), start));
            used.remember(key(n), start);
            assert!(used.is_known(&key(n), start));
        }
        assert_eq!((used.at.len(), used.order.len()), (MOST_USED, MOST_USED));
        assert!(!used.is_known(&key(9), start) && used.is_known(&key(10), start));
        let later = start + USED_FOR;
        assert!(!used.is_known(&key(MOST_USED), later));
        used.remember(key(MOST_USED), later);
        assert_eq!((used.at.len(), used.order.len()), (1, 1), "what is past its time is forgotten");
    }

    /// Who asks too often is told of, once in a while, and hides nothing of the others; what is wrong with a request is not a refusal.
    #[test]
    fn r20_who_asks_too_often_is_told_of_and_hides_nothing() {
        let (noted, mut queue) = channel(Metrics::default());
        let anna = || Who { actor: "anna".to_owned(), client: Some([192, 0, 2, 1].into()), ..Who::default() };
        let stranger = |last: u8| Who { client: Some([192, 0, 2, last].into()), ..Who::default() };
        let limited = Problem::new(Code::RateLimited, "no");
        for n in 0..100 {
            noted.refused(anna(), false, "GET", "/api/v1/domains", &limited);
            noted.refused(stranger(n), false, "POST", "/api/v1/auth/login", &limited);
            noted.refused(anna(), false, "PUT", "/", &Problem::new(Code::InvalidValue, "no"));
        }
        noted.refused(anna(), false, "GET", "/api/v1/users", &Problem::new(Code::InsufficientScope, "no"));
        let told: Vec<_> = std::iter::from_fn(|| queue.notes.try_recv().ok())
            .map(|note| (note.who.actor, note.action, note.refused.unwrap()))
            .collect();
        let anna = |code| ("anna".to_owned(), "request", code);
        let login = (String::new(), "login", "RATE_LIMITED");
        let mut expected = vec![anna("RATE_LIMITED")];
        expected.extend(vec![login; 4]);
        expected.push(anna("INSUFFICIENT_SCOPE"));
        assert_eq!(told, expected);
        let left_out = queue.bounds.lock().unwrap().untold(Instant::now(), true).unwrap();
        assert_eq!(left_out["of_limits"], json!(200 - LIMITEDS));
    }

    /// Nor do those from where nobody is let in hide anything of the others.
    #[test]
    fn r20_who_is_let_in_from_nowhere_hides_nothing_of_who_is() {
        let (noted, mut queue) = channel(Metrics::default());
        let problem = Problem::new(Code::Forbidden, "no");
        let who = |client: u8| Who { client: Some([192, 0, 2, client].into()), ..Who::default() };
        for n in 0..100 {
            noted.refused(who(n % 50), true, "GET", "/", &problem);
        }
        noted.refused(who(99), false, "POST", "/api/v1/auth/login", &problem);
        let told: Vec<_> =
            std::iter::from_fn(|| queue.notes.try_recv().ok()).map(|note| note.action).collect();
        assert_eq!(told, ["request", "request", "request", "request", "request", "login"]);
    }
}
