//! `relay`: where the feed stands.

use super::batch::Batch;
use super::{Connection, damaged};

const READ: &str = "SELECT generation, epoch, sequence, chain, reserved, diverged FROM relay WHERE id = 1";
const START: &str = "INSERT INTO relay (id, generation, epoch, sequence, chain, reserved, diverged) VALUES (1, $1, 0, 0, $2, 0, FALSE)";
const WRITE: &str = "UPDATE relay SET epoch = $1, sequence = $2, chain = $3, reserved = $5, diverged = $6 WHERE id = 1 AND generation = $4 AND epoch <= $1 RETURNING id";
const NEW_GENERATION: &str =
    "UPDATE relay SET generation = $1, diverged = FALSE WHERE id = 1 AND generation < $1";

/// Every statement of this file.
pub const ALL: &[&str] = &[READ, START, WRITE, NEW_GENERATION];

/// Generation, epoch, sequence and chain hash of the last publication.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FeedState {
    /// One unbroken history.
    pub generation: u64,
    /// The relay's term.
    pub epoch: u64,
    /// The last sequence given.
    pub sequence: u64,
    /// After the batch that ended with it.
    pub chain: [u8; 32],
    /// Sequences up to this one may have gone to a sending of everything.
    pub reserved: u64,
    /// A data plane was found ahead of this database: nothing is published in this generation.
    pub diverged: bool,
}

fn number(value: i64) -> sqlx::Result<u64> {
    u64::try_from(value).map_err(|_| damaged("relay", "number"))
}

fn stored(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Reads where the feed stands; starts a new history in a new database.
///
/// # Errors
/// Of the database.
pub async fn read(connection: &mut Connection, now_us: i64) -> sqlx::Result<FeedState> {
    if let Some(row) = connection.query(READ).fetch_optional().await? {
        let chain: Vec<u8> = row.get("chain")?;
        return Ok(FeedState {
            generation: number(row.get("generation")?)?,
            epoch: number(row.get("epoch")?)?,
            sequence: number(row.get("sequence")?)?,
            chain: chain.try_into().map_err(|_| damaged("relay", "chain"))?,
            reserved: number(row.get("reserved")?)?,
            diverged: row.get("diverged")?,
        });
    }
    // The time of creation: larger than the generation of any history that was begun before on this machine.
    let generation = now_us.max(1);
    connection.query(START).bind(generation).bind(&[0u8; 32][..]).execute().await?;
    Ok(FeedState { generation: number(generation)?, ..FeedState::default() })
}

/// Writes where the feed stands. A row comes back when it was written: a relay whose term is over changes nothing.
pub fn write(batch: &mut Batch, state: &FeedState) {
    batch
        .add(WRITE)
        .bind(stored(state.epoch))
        .bind(stored(state.sequence))
        .bind(&state.chain[..])
        .bind(stored(state.generation))
        .bind(stored(state.reserved))
        .bind(state.diverged);
}

/// Starts a new generation: data planes take this database as the truth, though they have seen later changes.
///
/// # Errors
/// Of the database.
pub async fn new_generation(connection: &mut Connection, now_us: i64) -> sqlx::Result<bool> {
    Ok(connection.query(NEW_GENERATION).bind(now_us).execute().await? == 1)
}
