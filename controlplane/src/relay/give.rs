//! Gives sequences: what is committed and has none gets the next ones, and a batch of it is added to the log, in one transaction that
//! holds the relay's row where the term is still ours.
//!
//! It is a transaction of its own. With the commit of a change, by the process whose term it is, it was measured to be slower: a
//! writer then holds the relay's row for the length of its commit, and what others have committed waits for that.

use super::batches::{self, Made};
use super::log::Log;
use crate::commit::{COMMIT, ROLLBACK, begin};
use crate::store::batch::Batch;
use crate::store::relay::FeedState;
use crate::store::{Connection, changes, log, now_us, relay};

/// What came of it.
#[derive(Debug)]
pub(crate) enum Given {
    /// Nothing waits.
    None,
    /// What waited has its sequence, or the first batch of it.
    Some,
    /// The term is over.
    Deposed,
    /// A data plane has what this database never knew.
    Overtaken,
}

/// One batch, in a transaction of its own.
///
/// # Errors
/// Of the database.
pub(super) async fn apart(connection: &mut Connection, log: &Log, epoch: u64) -> sqlx::Result<Given> {
    connection.control(&[begin(connection.kind())]).await?;
    let given = match relay::lock(connection, epoch).await? {
        None => Given::Deposed,
        Some(state) if state.is_overtaken() => Given::Overtaken,
        // What was there a moment ago is not any more: it was put back to an older copy under our feet.
        Some(state) if is_put_back(&state, &log.end()) => {
            relay::found_ahead(connection, log.end().sequence).await?;
            connection.control(&[COMMIT]).await?;
            return Ok(Given::Overtaken);
        }
        Some(mut state) => {
            let made = to_all(connection, &mut state, COMMIT).await?;
            let given = if made.is_empty() { Given::None } else { Given::Some };
            log.add(made, state);
            return Ok(given);
        }
    };
    connection.control(&[ROLLBACK]).await?;
    Ok(given)
}

fn is_put_back(state: &FeedState, known: &FeedState) -> bool {
    state.generation == known.generation && state.sequence < known.sequence
}

/// Gives what has no sequence its sequence, in the open transaction of `connection`: at most so many change sets as a batch takes. The
/// batches and the state after them; they hold once the transaction is committed.
///
/// # Errors
/// Of the database.
pub(crate) async fn to_all(
    connection: &mut Connection,
    state: &mut FeedState,
    control: &'static str,
) -> sqlx::Result<Vec<Made>> {
    let most = i64::try_from(batches::MAX_BATCH).unwrap_or(i64::MAX);
    let mut waiting = changes::unsequenced(connection, most).await?;
    for one in &mut waiting {
        one.payload = batches::readable(one.id, one.committed_at_us, std::mem::take(&mut one.payload));
    }
    let mut batch = Batch::of(connection);
    let at_us = now_us();
    let mut made = Vec::new();
    if !waiting.is_empty() {
        changes::give_sequences(&mut batch, connection, state.sequence, &waiting, at_us);
        made = batches::make(state, &waiting, at_us);
        for one in &made {
            log::append(&mut batch, &one.entry);
        }
        relay::write(&mut batch, state);
    }
    batch.control(control);
    batch.run(connection).await?;
    Ok(made)
}
