//! That a job is held. The database decides; here it is known for how long that holds at least, by the clock of this process from
//! before the database was asked.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::Failure;
use crate::commit::Committer;
use crate::error::Problem;
use crate::store::jobs::{self, Attempt};

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
}

impl Lease {
    pub(super) fn new(committer: Committer, attempt: Attempt, asked: Instant, lasts: Duration) -> Lease {
        let (until, lost) = (Mutex::new(asked + lasts), watch::Sender::new(false));
        Lease { committer, attempt, lasts, until, lost }
    }

    /// Makes sure that the job is still held, and for a whole lease from now on. For right before what is done outside.
    ///
    /// # Errors
    /// When it is not, or that cannot be found out now. What the attempt fails with then is of no account where it is lost.
    pub async fn hold(&self) -> Result<(), Failure> {
        if self.renew().await? {
            return Ok(());
        }
        Err(Failure::Passing("the lease is lost".to_owned()))
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
        } else {
            self.lost.send_replace(true);
        }
        Ok(held)
    }
}
