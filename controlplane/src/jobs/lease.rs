//! That a job is held. The database decides; here it is known for how long that holds at least, by the clock of this process from
//! before the database was asked.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::Failure;
use crate::commit::Committer;
use crate::error::{Code, Problem};
use crate::observe::metrics::JobOutcome;
use crate::store::Connection;
use crate::store::jobs::{self, Attempt, End};

/// The pause before a renewal that failed is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// Of one attempt.
pub struct Lease {
    committer: Committer,
    attempt: Attempt,
    lasts: Duration,
    /// Until then nobody else can have it, whatever becomes of the database.
    until: Mutex<Instant>,
    /// Known to be somebody else's, or nobody's.
    lost: watch::Sender<bool>,
    /// A transaction of the kind's own may be about to end the attempt, or has.
    is_settling: AtomicBool,
    settled: OnceLock<JobOutcome>,
}

/// An attempt that is ended, or goes on, within a transaction of the kind's own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settling {
    attempt: Attempt,
    lasts: Duration,
}

impl Settling {
    /// Ends the attempt with the transaction.
    ///
    /// # Errors
    /// Of the database, and where the lease is lost: then the transaction must not be made.
    pub(crate) async fn end(self, connection: &mut Connection, end: End<'_>) -> Result<(), Problem> {
        if jobs::end(connection, self.attempt, end).await? { Ok(()) } else { Err(lost()) }
    }

    /// Makes sure that it goes on.
    ///
    /// # Errors
    /// Of the database, and where the lease is lost: then the transaction must not be made.
    pub(crate) async fn hold(self, connection: &mut Connection) -> Result<(), Problem> {
        if jobs::renew(connection, self.attempt, self.lasts).await? { Ok(()) } else { Err(lost()) }
    }
}

fn lost() -> Problem {
    Problem::new(Code::Conflict, LOST)
}

const LOST: &str = "the lease is lost";

impl Lease {
    pub(super) fn new(committer: Committer, attempt: Attempt, asked: Instant, lasts: Duration) -> Lease {
        let (until, lost) = (Mutex::new(asked + lasts), watch::Sender::new(false));
        let (is_settling, settled) = (AtomicBool::new(false), OnceLock::new());
        Lease { committer, attempt, lasts, until, lost, is_settling, settled }
    }

    /// For a transaction of the kind's own that writes down what came of the attempt, too: [`Lease::settled`] or [`Lease::goes_on`]
    /// says what became of that.
    pub(crate) fn settle(&self) -> Settling {
        self.is_settling.store(true, Ordering::SeqCst);
        Settling { attempt: self.attempt, lasts: self.lasts }
    }

    /// It has ended the attempt, so that the runner does not.
    pub(crate) fn settled(&self, outcome: JobOutcome) {
        let _ = self.settled.set(outcome);
    }

    /// It has not ended the attempt.
    pub(crate) fn goes_on(&self) {
        self.is_settling.store(false, Ordering::SeqCst);
    }

    /// How the kind has ended it.
    pub(super) fn outcome(&self) -> Option<JobOutcome> {
        self.settled.get().copied()
    }

    /// Makes sure that the job is still held, and for a whole lease from now on. For right before what is done outside.
    ///
    /// # Errors
    /// When it is not, or that cannot be found out now. What the attempt fails with then is of no account where it is lost.
    pub async fn hold(&self) -> Result<(), Failure> {
        if self.renew().await? {
            return Ok(());
        }
        Err(Failure::Passing(LOST.to_owned()))
    }

    /// Prolongs it again and again; ends when it is lost. `doubted`: has it looked at now.
    pub(super) async fn keep(&self, mut doubted: watch::Receiver<()>) {
        let mut lost = self.lost.subscribe();
        let mut pause = self.lasts / 3;
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                Ok(()) = doubted.changed() => {}
                _ = lost.wait_for(|lost| *lost) => return,
            }
            // Who is let wait too long has lost it.
            match tokio::time::timeout_at(self.until(), self.renew()).await {
                Ok(Ok(true)) => pause = self.lasts / 3,
                // The transaction that ends it is ours.
                Ok(Ok(false)) if self.is_settling.load(Ordering::SeqCst) && Instant::now() < self.until() => {
                    pause = AGAIN;
                }
                Ok(Err(_)) if Instant::now() < self.until() => pause = AGAIN,
                Ok(Ok(false) | Err(_)) | Err(_) => return,
            }
        }
    }

    pub(super) fn until(&self) -> Instant {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn attempt(&self) -> Attempt {
        self.attempt
    }

    async fn renew(&self) -> Result<bool, Problem> {
        let (attempt, lasts, asked) = (self.attempt, self.lasts, Instant::now());
        let renewed = self.committer.write(move |connection| {
            Box::pin(async move { Ok(jobs::renew(connection, attempt, lasts).await?) })
        });
        let held = renewed.await?;
        if held {
            *self.until.lock().unwrap_or_else(PoisonError::into_inner) = asked + lasts;
        } else if !self.is_settling.load(Ordering::SeqCst) {
            self.lost.send_replace(true);
        }
        Ok(held)
    }
}
