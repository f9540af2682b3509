//! Work outside of the request that causes it. A job is written down in the transaction that causes it
//! ([`enqueue`](crate::store::jobs::enqueue)), so there is the one with the other or neither; any control plane of the database does it
//! then, at least once.
//!
//! - [`Kind`]: what does jobs of a kind; they are registered in [`Kinds`];
//! - [`Lease`]: that a job is held, and whether it still is;
//! - [`Lane`]: of which kinds so many are done at once;
//! - `runner`: claims jobs, has them done, and writes down how they ended;
//! - [`schedule`]: when a job's next time is;
//! - `backoff`: how long a failed attempt is rested from.
//!
//! What is written goes through the one writer of the process, as its file of SQLite takes no second one; between changes of
//! records it waits for one of them at most, which a lease has the time for.

pub(crate) mod backoff;
mod lease;
pub(crate) mod runner;
pub mod schedule;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use crate::error::Problem;
use crate::store::jobs::New;

pub use lease::Lease;
pub(crate) use lease::Settling;

/// What a kind does with a job.
pub type Work<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send + 'a>>;

/// Does jobs of a kind.
pub trait Kind: Send + Sync {
    /// As jobs name it: small letters, digits and dots.
    fn name(&self) -> &'static str;

    /// The times of the clock for which one always waits, where there are any: see [`schedule`].
    fn schedule(&self) -> Option<&'static str> {
        None
    }

    /// Does one. It may be done more than once, and is dropped at any `await` once its lease is lost, so what it does outside comes
    /// right behind [`Lease::hold`]. It must not keep its thread: the lease is prolonged between its steps.
    fn run<'a>(&'a self, job: &'a Claimed, lease: &'a Lease) -> Work<'a>;
}

/// Why an attempt failed. The sentence is shown to whoever may see the job, so it holds no secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Failure {
    /// Another attempt may succeed.
    Passing(String),
    /// None will.
    Final(String),
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Failure {
        if problem.is_open() { Failure::Passing(problem.message) } else { Failure::Final(problem.message) }
    }
}

/// A job that is to be done.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// Names it.
    pub id: Uuid,
    /// For whom it is.
    pub account: Option<Uuid>,
    /// Which attempt it is, from 1.
    pub attempt: i64,
    payload: String,
}

impl Claimed {
    /// What it was added with.
    ///
    /// # Errors
    /// [`Failure::Final`] when it is something else.
    pub fn payload<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_str(&self.payload)
            .map_err(|error| Failure::Final(format!("the payload cannot be read: {error}")))
    }
}

/// What this process can do, by name. Jobs of other kinds are left alone: another version may know them.
#[derive(Clone, Default)]
pub struct Kinds(BTreeMap<&'static str, Arc<dyn Kind>>);

impl Kinds {
    /// These, and another one.
    #[must_use]
    pub fn with(mut self, kind: impl Kind + 'static) -> Kinds {
        let before = self.0.insert(kind.name(), Arc::new(kind));
        debug_assert!(before.is_none(), "a kind has one that does it");
        self
    }

    fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.0.keys().copied()
    }

    /// A job of each that is done by the clock.
    fn regular(&self) -> Vec<New> {
        let regular = |kind: &Arc<dyn Kind>| {
            let pattern = kind.schedule()?;
            Some(New {
                once: Some(kind.name().to_owned()),
                schedule: Some(pattern.to_owned()),
                after: schedule::wait(pattern).unwrap_or_default(),
                ..New::plain(kind.name(), "{}".to_owned())
            })
        };
        self.0.values().filter_map(regular).collect()
    }

    fn get(&self, name: &str) -> Option<Arc<dyn Kind>> {
        self.0.get(name).cloned()
    }
}

/// Jobs that are done beside each other, and take no worker from those of another lane.
#[derive(Clone)]
pub struct Lane {
    /// Which.
    pub kinds: Kinds,
    /// How many at once.
    pub at_once: usize,
    /// Of those, for one tenant, or for none: nobody's keep others from being done.
    pub of_a_tenant: usize,
    /// Of those, such as have failed: however many there are, others are done.
    pub doubtful: usize,
}

impl Lane {
    /// One in which a job is as good as another one.
    #[must_use]
    pub fn plain(kinds: Kinds, at_once: usize) -> Lane {
        Lane { kinds, at_once, of_a_tenant: at_once, doubtful: at_once }
    }
}

/// Tells the runner of the same process what it would find out a moment later by itself.
#[derive(Clone, Debug)]
pub struct Handle {
    added: Arc<Notify>,
    doubted: watch::Sender<()>,
}

impl Default for Handle {
    fn default() -> Handle {
        Handle { added: Arc::default(), doubted: watch::Sender::new(()) }
    }
}

impl Handle {
    /// A job was committed that can be done now.
    pub fn wake(&self) {
        self.added.notify_one();
    }

    /// A job was cancelled: whether leases are held is looked at.
    pub fn doubt(&self) {
        self.doubted.send_replace(());
    }
}
