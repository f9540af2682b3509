//! Gives sequences: what is committed and has none gets the next ones, and a batch of it is added to the log, in one statement that
//! does so only where the log ends where we think, and the term is still ours. Where it does not, or there is more to be written
//! (several batches, what became of judging it in `shadow`), it is a transaction that holds the relay's row and finds out why.
//!
//! It is apart from the change. With the commit of a change, by the process whose term it is, it was measured to be slower: a
//! writer then holds the relay's row for the length of its commit, and what others have committed waits for that.

use godwit_wire::name::Name;

use super::batches::{self, Made};
use super::log::Log;
use super::shadow::Judged;
use crate::commit::{COMMIT, ROLLBACK, begin};
use crate::store::batch::Batch;
use crate::store::changes::Waiting;
use crate::store::relay::FeedState;
use crate::store::signals::{self, Signal};
use crate::store::{Connection, changes, log, now_us, relay, withheld};

/// What came of it.
#[derive(Debug)]
pub(crate) enum Given {
    /// It has its sequence, or the first batch of it.
    Some,
    /// The log was not where it was thought to be; it is read again.
    Again,
    /// The term is over.
    Deposed,
    /// A data plane has what this database never knew.
    Overtaken,
}

/// What has no sequence yet, in the order of commits: at most so many change sets as a batch takes.
///
/// # Errors
/// Of the database.
pub(super) async fn waiting(connection: &mut Connection) -> sqlx::Result<Vec<Waiting>> {
    let most = i64::try_from(batches::MAX_BATCH).unwrap_or(i64::MAX);
    let mut waiting = changes::unsequenced(connection, most).await?;
    for one in &mut waiting {
        one.payload = batches::readable(one.id, one.committed_at_us, std::mem::take(&mut one.payload));
    }
    Ok(waiting)
}

/// Gives what was judged its sequences, and tells who listens. `log` is as it was when those that wait were read: where it is
/// elsewhere by now, some of them may have a sequence already, as the answer to an earlier commit may have been lost.
///
/// # Errors
/// Of the database.
pub(super) async fn apart(
    connection: &mut Connection,
    log: &Log,
    epoch: u64,
    judged: &Judged,
) -> sqlx::Result<Given> {
    let known = log.end();
    if at_once(connection, log, &known, epoch, judged).await? {
        return Ok(Given::Some);
    }
    connection.control(&[begin(connection.kind())]).await?;
    let given = match relay::lock(connection, epoch).await? {
        None => Given::Deposed,
        Some(state) if state.is_overtaken() => Given::Overtaken,
        // What was there a moment ago is not any more: it was put back to an older copy under our feet.
        Some(state) if is_put_back(&state, &known) => {
            relay::found_ahead(connection, known.sequence).await?;
            connection.control(&[COMMIT]).await?;
            return Ok(Given::Overtaken);
        }
        Some(state) if (state.generation, state.sequence) != (known.generation, known.sequence) => {
            connection.control(&[ROLLBACK]).await?;
            log.refresh(connection).await?;
            return Ok(Given::Again);
        }
        Some(mut state) => {
            let made = to(connection, &mut state, judged, COMMIT).await?;
            log.add(made, state);
            signals::tell(connection, Signal::Sequenced).await?;
            return Ok(Given::Some);
        }
    };
    connection.control(&[ROLLBACK]).await?;
    Ok(given)
}

/// The same in one statement, where that is all there is to do. Whether it was done.
async fn at_once(
    connection: &mut Connection,
    log: &Log,
    known: &FeedState,
    epoch: u64,
    judged: &Judged,
) -> sqlx::Result<bool> {
    let Judged { change_sets, withheld, lifted, .. } = judged;
    // A change may be withheld and no zone with it: where the next one removes that.
    if !withheld.is_empty() || !lifted.is_empty() || change_sets.iter().any(|one| one.withheld) {
        return Ok(false);
    }
    let mut state = FeedState { epoch, ..*known };
    let at_us = now_us();
    let made = batches::make(&mut state, change_sets, at_us);
    let numbers: Vec<i64> = change_sets.iter().map(|one| one.commit_number).collect();
    let done = made.len() == 1 && relay::go_on(connection, known, &state, at_us, &numbers).await?;
    if done {
        log.add(made, state);
    }
    Ok(done)
}

/// Lets a zone be given again that passes as it is; whether the term goes on.
///
/// # Errors
/// Of the database.
pub(super) async fn lift(connection: &mut Connection, epoch: u64, zone: &Name) -> sqlx::Result<bool> {
    connection.control(&[begin(connection.kind())]).await?;
    if relay::lock(connection, epoch).await?.is_none() {
        connection.control(&[ROLLBACK]).await?;
        return Ok(false);
    }
    let mut batch = Batch::of(connection);
    withheld::lift(&mut batch, zone.as_ref());
    batch.control(COMMIT);
    batch.run(connection).await.map(|_| true)
}

fn is_put_back(state: &FeedState, known: &FeedState) -> bool {
    state.generation == known.generation && state.sequence < known.sequence
}

/// Gives what has no sequence its sequence, unjudged, in the open transaction of `connection`: at most so many change sets as a batch
/// takes. The batches and the state after them; they hold once the transaction is committed.
///
/// # Errors
/// Of the database.
pub(crate) async fn to_all(
    connection: &mut Connection,
    state: &mut FeedState,
    control: &'static str,
) -> sqlx::Result<Vec<Made>> {
    let judged = Judged::unjudged(waiting(connection).await?);
    to(connection, state, &judged, control).await
}

async fn to(
    connection: &mut Connection,
    state: &mut FeedState,
    judged: &Judged,
    control: &'static str,
) -> sqlx::Result<Vec<Made>> {
    let Judged { change_sets, withheld, lifted, .. } = judged;
    let mut batch = Batch::of(connection);
    let at_us = now_us();
    let mut made = Vec::new();
    if !change_sets.is_empty() {
        changes::give_sequences(&mut batch, connection, state.sequence, change_sets, at_us);
        made = batches::make(state, change_sets, at_us);
        for one in &made {
            log::append(&mut batch, &one.entry);
        }
        relay::write(&mut batch, state);
        for zone in withheld {
            withheld::put(&mut batch, zone);
            if batch.is_full() {
                batch.run(connection).await?;
            }
        }
        for apex in lifted {
            withheld::lift(&mut batch, apex.as_ref());
            if batch.is_full() {
                batch.run(connection).await?;
            }
        }
    }
    batch.control(control);
    batch.run(connection).await?;
    Ok(made)
}
