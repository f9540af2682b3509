//! Where a list goes on: an opaque text that says behind which row. It stays right while rows come and go.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::error::{Code, Problem};
use crate::store::rrsets::Position;

/// Items of a page when nothing is said.
pub const DEFAULT_LIMIT: i64 = 100;
/// The most items of a page.
pub const MAX_LIMIT: i64 = 1_000;

/// One page of a list.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Page<T> {
    /// In order.
    pub items: Vec<T>,
    /// For `?cursor=`; null behind the last page.
    pub next: Option<String>,
}

/// Query parameters of a list.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    /// Items of a page: 1 to 1000, 100 when left out.
    pub limit: Option<i64>,
    /// `next` of the page before.
    pub cursor: Option<String>,
}

/// Reads `?limit=`.
///
/// # Errors
/// `MALFORMED_REQUEST` outside 1–1,000.
pub fn limit(limit: Option<i64>) -> Result<i64, Problem> {
    match limit.unwrap_or(DEFAULT_LIMIT) {
        limit @ 1..=MAX_LIMIT => Ok(limit),
        limit => Err(Problem::new(
            Code::MalformedRequest,
            format!("limit {limit} is not between 1 and {MAX_LIMIT}"),
        )),
    }
}

/// Behind which id a list that rises goes on.
///
/// # Errors
/// `MALFORMED_REQUEST`.
pub fn after(cursor: Option<&str>) -> Result<Uuid, Problem> {
    cursor.map_or(Ok(Uuid::nil()), id)
}

/// Before which id a list that falls goes on.
///
/// # Errors
/// `MALFORMED_REQUEST`.
pub fn before(cursor: Option<&str>) -> Result<Uuid, Problem> {
    cursor.map_or(Ok(Uuid::max()), id)
}

/// Writes a key as a cursor.
#[must_use]
pub fn of_key(key: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(key)
}

/// Reads a cursor of [`of_key`].
///
/// # Errors
/// `MALFORMED_REQUEST`.
pub fn key(cursor: &str) -> Result<Vec<u8>, Problem> {
    URL_SAFE_NO_PAD.decode(cursor).map_err(|_| malformed())
}

/// Writes a position as a cursor.
#[must_use]
pub fn of_position(position: &Position) -> String {
    let mut octets = position.zone_id.to_be_bytes().to_vec();
    octets.extend_from_slice(&position.rtype.to_be_bytes());
    octets.extend_from_slice(&position.owner_key);
    of_key(&octets)
}

/// Reads a cursor of [`of_position`].
///
/// # Errors
/// `MALFORMED_REQUEST`.
pub fn position(cursor: &str) -> Result<Position, Problem> {
    let octets = key(cursor)?;
    let (zone_id, rest) = octets.split_first_chunk::<8>().ok_or_else(malformed)?;
    let (rtype, owner_key) = rest.split_first_chunk::<8>().ok_or_else(malformed)?;
    Ok(Position {
        zone_id: i64::from_be_bytes(*zone_id),
        rtype: i64::from_be_bytes(*rtype),
        owner_key: owner_key.to_vec(),
    })
}

/// Reads a cursor of [`of_key`] that an id made.
///
/// # Errors
/// `MALFORMED_REQUEST`.
pub fn id(cursor: &str) -> Result<Uuid, Problem> {
    Uuid::from_slice(&key(cursor)?).map_err(|_| malformed())
}

/// Cuts rows, of which one more than the limit was asked for, to the limit; where the list goes on, by the cursor of a row.
pub(crate) fn cut<R>(rows: &mut Vec<R>, limit: i64, cursor: impl Fn(&R) -> String) -> Option<String> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = rows.len() > limit;
    rows.truncate(limit);
    rows.last().filter(|_| more).map(cursor)
}

/// A page of rows of which one more than the limit was asked for, and where the list goes on, by the ids of the rows.
pub(crate) fn by_id<R, T>(
    mut rows: Vec<R>,
    limit: i64,
    id: impl Fn(&R) -> Uuid,
    item: impl Fn(R) -> T,
) -> Page<T> {
    let next = cut(&mut rows, limit, |row| of_key(id(row).as_bytes()));
    Page { items: rows.into_iter().map(item).collect(), next }
}

/// Writes a number as a cursor.
#[must_use]
pub fn of_number(number: u64) -> String {
    of_key(&number.to_be_bytes())
}

/// Reads a cursor of [`of_number`].
///
/// # Errors
/// `MALFORMED_REQUEST`.
pub fn number(cursor: &str) -> Result<u64, Problem> {
    key(cursor)?.try_into().map(u64::from_be_bytes).map_err(|_| malformed())
}

/// Writes a position in a version as a cursor: the list goes on in that version, whatever becomes of the zone meanwhile.
#[must_use]
pub fn of_position_at(version: u64, position: &Position) -> String {
    let mut octets = version.to_be_bytes().to_vec();
    octets.extend_from_slice(&position.rtype.to_be_bytes());
    octets.extend_from_slice(&position.owner_key);
    of_key(&octets)
}

/// Reads a cursor of [`of_position_at`].
///
/// # Errors
/// `MALFORMED_REQUEST`.
pub fn position_at(cursor: &str) -> Result<(u64, Position), Problem> {
    let Position { zone_id, owner_key, rtype } = position(cursor)?;
    let version = u64::try_from(zone_id).map_err(|_| malformed())?;
    Ok((version, Position { zone_id: 0, owner_key, rtype }))
}

fn malformed() -> Problem {
    Problem::new(Code::MalformedRequest, "the cursor is not one that a list gave")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_read_back_and_others_are_refused() {
        let place = Position { zone_id: 7, owner_key: vec![b'a', 0, 0], rtype: 28 };
        assert_eq!(position(&of_position(&place)).unwrap(), place);
        for text in ["", "AAAA", "!", "zone"] {
            assert_eq!(position(text).unwrap_err().code, Code::MalformedRequest, "{text}");
        }
        assert!(limit(Some(0)).is_err() && limit(Some(1_001)).is_err());
        assert_eq!(limit(None), Ok(100));
    }
}
