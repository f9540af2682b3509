//! `audit`: who did what to what.

use uuid::Uuid;

use super::batch::Batch;

const INSERT: &str =
    "INSERT INTO audit (at_us, actor, action, object, request_id, change_id) VALUES ($1, $2, $3, $4, $5, $6)";

/// Every statement of this file.
pub const ALL: &[&str] = &[INSERT];

/// The most octets of an object's description: a change may touch any number of zones.
const MAX_OBJECT_OCTETS: usize = 2_000;

/// One thing done.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// When.
    pub at_us: i64,
    /// Token's id, or `local` for the command line beside the data.
    pub actor: &'a str,
    /// What.
    pub action: &'a str,
    /// To what.
    pub object: &'a str,
    /// Of the HTTP request.
    pub request_id: &'a str,
    /// The change it made.
    pub change: Option<Uuid>,
}

/// Adds a row.
pub fn insert(batch: &mut Batch, entry: &Entry<'_>) {
    let end = entry.object.floor_char_boundary(MAX_OBJECT_OCTETS);
    batch
        .add(INSERT)
        .bind(entry.at_us)
        .bind(entry.actor)
        .bind(entry.action)
        .bind(&entry.object[..end])
        .bind(entry.request_id)
        .bind(entry.change);
}
