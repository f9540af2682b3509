//! `audit`: who did what to what, when, from where and with what, and what came of it. Rows are written in the transaction of what
//! they tell, and never change again; how they are chained is in `audit_chain.rs`.

use std::net::IpAddr;

use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::batch::Batch;
use super::connection::Query;
use super::{Connection, Row, now_us};

macro_rules! columns {
    () => {
        "audit.id, audit.at_us, audit.actor, audit.action, audit.object, audit.request_id, audit.change_id, audit.client, audit.came_with, audit.outcome, audit.code, audit.before, audit.after, audit.tenant"
    };
}
pub(super) use columns;

const INSERT: &str = "INSERT INTO audit (at_us, actor, action, object, request_id, change_id, client, came_with, outcome, code, before, after, tenant) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";

const OF_ACTOR: &str = "SELECT at_us, action, object, request_id FROM audit WHERE actor = $1 ORDER BY at_us DESC, id DESC LIMIT $2";

/// The objects of a row are words with spaces between.
macro_rules! filtered {
    () => {
        "(action = $5 OR $5 IS NULL) AND (outcome = $6 OR $6 IS NULL) AND (change_id = $7 OR $7 IS NULL) AND (replace(' ' || lower(object) || ' ', ' ' || lower($8) || ' ', '') <> ' ' || lower(object) || ' ' OR $8 IS NULL)"
    };
}
const WINDOW: &str = "SELECT at_us, id FROM audit WHERE (at_us, id) < ($1, $2) AND at_us >= $3 ORDER BY at_us DESC, id DESC LIMIT 1 OFFSET $4";
const LIST: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM audit WHERE (at_us, id) < ($1, $2) AND (at_us, id) >= ($3, $4) AND ",
    filtered!(),
    " ORDER BY at_us DESC, id DESC LIMIT $9"
);
const WINDOW_OF_ACTOR: &str = "SELECT at_us, id FROM audit WHERE actor = $5 AND (at_us, id) < ($1, $2) AND at_us >= $3 ORDER BY at_us DESC, id DESC LIMIT 1 OFFSET $4";
const LIST_OF_ACTOR: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM audit WHERE actor = $10 AND (at_us, id) < ($1, $2) AND (at_us, id) >= ($3, $4) AND ",
    filtered!(),
    " ORDER BY at_us DESC, id DESC LIMIT $9"
);

/// Every statement of this file.
pub const ALL: &[&str] = &[INSERT, OF_ACTOR, WINDOW, LIST, WINDOW_OF_ACTOR, LIST_OF_ACTOR];

/// The most octets of an object's description: a change may touch any number of zones.
const MAX_OBJECT_OCTETS: usize = 2_000;
/// The most octets of what something was, or became.
const MAX_STATE_OCTETS: usize = 4_000;
/// Rows that are looked at for one page, whether they are meant or not.
const WINDOW_ROWS: i64 = 10_000;

/// Who does something, and how they came: all that every row of one request has in common.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Who {
    /// The account's id, that of a token of nobody's account, `local` for the command line beside the data; empty for strangers.
    pub actor: String,
    /// The address that the request came from.
    pub client: Option<IpAddr>,
    /// The session, key or token that came with it: `key` and its id.
    pub came_with: Option<String>,
    /// Of the HTTP request.
    pub request_id: String,
    /// Of which tenant, where that is known.
    pub tenant: Option<i64>,
}

impl Who {
    /// The command line beside the data.
    #[must_use]
    pub fn local() -> Who {
        Who { actor: "local".to_owned(), ..Who::default() }
    }

    /// The control plane itself.
    #[must_use]
    pub fn itself() -> Who {
        Who { actor: "godwit".to_owned(), ..Who::default() }
    }
}

/// One thing done, or refused.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// When.
    pub at_us: i64,
    /// Who, and how they came.
    pub who: &'a Who,
    /// What.
    pub action: &'a str,
    /// To what.
    pub object: &'a str,
    /// The change it made.
    pub change: Option<Uuid>,
    /// The code of the error, where it was refused.
    pub refused: Option<&'a str>,
    /// The fields that changed, as they were, and as they are. Never a secret.
    pub before: Option<Json>,
    /// See there.
    pub after: Option<Json>,
}

impl<'a> Entry<'a> {
    /// Something done now that is no change of records.
    #[must_use]
    pub fn done(who: &'a Who, action: &'a str, object: &'a str) -> Entry<'a> {
        let (change, refused, before, after) = (None, None, None, None);
        Entry { at_us: now_us(), who, action, object, change, refused, before, after }
    }

    /// The same, with what it was and what it became.
    #[must_use]
    pub fn from_to(self, before: Json, after: Json) -> Entry<'a> {
        let some = |state: Json| Some(state).filter(|state| !state.is_null());
        Entry { before: some(before), after: some(after), ..self }
    }
}

/// Adds a row.
pub fn insert(batch: &mut Batch, entry: &Entry<'_>) {
    let end = entry.object.floor_char_boundary(MAX_OBJECT_OCTETS);
    let who = entry.who;
    batch
        .add(INSERT)
        .bind(entry.at_us)
        .bind(who.actor.as_str())
        .bind(entry.action)
        .bind(&entry.object[..end])
        .bind(who.request_id.as_str())
        .bind(entry.change)
        .bind(who.client.map(|client| client.to_string()))
        .bind(who.came_with.as_deref())
        .bind(if entry.refused.is_some() { REFUSED } else { DONE })
        .bind(entry.refused)
        .bind(entry.before.as_ref().map(state))
        .bind(entry.after.as_ref().map(state))
        .bind(who.tenant);
}

/// What came of it.
pub(crate) const DONE: &str = "done";
/// The same.
pub(crate) const REFUSED: &str = "refused";

/// JSON that is no longer than a row may be.
fn state(json: &Json) -> String {
    let text = json.to_string();
    if text.len() <= MAX_STATE_OCTETS { text } else { json!({ "octets": text.len() }).to_string() }
}

/// Writes down who did what that is no change of records, in the transaction of it.
///
/// # Errors
/// Of the database.
pub(crate) async fn note(
    connection: &mut Connection,
    who: &Who,
    action: &str,
    object: &str,
) -> sqlx::Result<()> {
    write(connection, &Entry::done(who, action, object)).await
}

/// The same for an entry that says more.
///
/// # Errors
/// Of the database.
pub(crate) async fn write(connection: &mut Connection, entry: &Entry<'_>) -> sqlx::Result<()> {
    let mut batch = Batch::of(connection);
    insert(&mut batch, entry);
    batch.run(connection).await.map(|_| ())
}

/// A row as it is kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Audited {
    pub(crate) id: i64,
    pub(crate) at_us: i64,
    pub(crate) actor: String,
    pub(crate) action: String,
    pub(crate) object: String,
    pub(crate) request_id: String,
    pub(crate) change: Option<Uuid>,
    pub(crate) client: Option<String>,
    pub(crate) came_with: Option<String>,
    pub(crate) outcome: String,
    pub(crate) code: Option<String>,
    pub(crate) before: Option<String>,
    pub(crate) after: Option<String>,
    pub(crate) tenant: Option<i64>,
}

pub(super) fn audited(row: &Row) -> sqlx::Result<Audited> {
    Ok(Audited {
        id: row.get("id")?,
        at_us: row.get("at_us")?,
        actor: row.get("actor")?,
        action: row.get("action")?,
        object: row.get("object")?,
        request_id: row.get("request_id")?,
        change: row.get("change_id")?,
        client: row.get("client")?,
        came_with: row.get("came_with")?,
        outcome: row.get("outcome")?,
        code: row.get("code")?,
        before: row.get("before")?,
        after: row.get("after")?,
        tenant: row.get("tenant")?,
    })
}

/// Which rows are meant.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) actor: Option<String>,
    pub(crate) action: Option<String>,
    /// One of the words of the object.
    pub(crate) object: Option<String>,
    pub(crate) outcome: Option<String>,
    pub(crate) change: Option<Uuid>,
    /// Not before.
    pub(crate) since_us: Option<i64>,
}

impl Filter {
    /// Whether it takes every row of its actor and its time, which an index finds.
    fn takes_all(&self) -> bool {
        let Filter { actor: _, action, object, outcome, change, since_us: _ } = self;
        action.is_none() && object.is_none() && outcome.is_none() && change.is_none()
    }
}

/// Behind which row a list goes on, the newest being first.
pub(crate) type At = (i64, i64);

/// Rows of before another, the newest first, at most `limit` of them, and behind which it goes on; `None` at the end. So many are
/// looked at that there may be fewer, or none, and more behind them.
///
/// # Errors
/// Of the database.
pub(crate) async fn list(
    connection: &mut Connection,
    filter: &Filter,
    before: At,
    limit: i64,
) -> sqlx::Result<(Vec<Audited>, Option<At>)> {
    within(connection, filter, before, limit, WINDOW_ROWS).await
}

/// The same with so many that are looked at.
async fn within(
    connection: &mut Connection,
    filter: &Filter,
    before: At,
    limit: i64,
    window_rows: i64,
) -> sqlx::Result<(Vec<Audited>, Option<At>)> {
    let since_us = filter.since_us.unwrap_or(i64::MIN);
    // Where every row that is looked at is meant, none is looked at but those of the page, and one to know whether there are more.
    let window_rows = if filter.takes_all() { limit + 1 } else { window_rows };
    let (window, rows) = match filter.actor {
        None => (WINDOW, LIST),
        Some(_) => (WINDOW_OF_ACTOR, LIST_OF_ACTOR),
    };
    let query = connection.query(window).bind(before.0).bind(before.1).bind(since_us).bind(window_rows - 1);
    let end = bound(query, filter).fetch_optional().await?;
    let end: Option<At> = end.map(|row| Ok::<At, sqlx::Error>((row.get(0)?, row.get(1)?))).transpose()?;
    let from = end.unwrap_or((since_us, i64::MIN));
    let query = connection
        .query(rows)
        .bind(before.0)
        .bind(before.1)
        .bind(from.0)
        .bind(from.1)
        .bind(filter.action.as_deref())
        .bind(filter.outcome.as_deref())
        .bind(filter.change)
        .bind(filter.object.as_deref())
        .bind(limit + 1);
    let mut found =
        bound(query, filter).fetch_all().await?.iter().map(audited).collect::<sqlx::Result<Vec<_>>>()?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let next = if found.len() > limit {
        found.truncate(limit);
        found.last().map(|last| (last.at_us, last.id))
    } else {
        end
    };
    Ok((found, next))
}

/// Binds whose rows are meant, where one is.
fn bound<'c>(query: Query<'c>, filter: &Filter) -> Query<'c> {
    match &filter.actor {
        None => query,
        Some(actor) => query.bind(actor.as_str()),
    }
}

/// An entry as its actor is given it.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) at_us: i64,
    pub(crate) action: String,
    pub(crate) object: String,
    pub(crate) request_id: String,
}

/// What somebody did, the newest first.
///
/// # Errors
/// Of the database.
pub(crate) async fn of_actor(
    connection: &mut Connection,
    actor: &str,
    limit: i64,
) -> sqlx::Result<Vec<Kept>> {
    let kept = |row: &Row| {
        Ok(Kept {
            at_us: row.get("at_us")?,
            action: row.get("action")?,
            object: row.get("object")?,
            request_id: row.get("request_id")?,
        })
    };
    connection.query(OF_ACTOR).bind(actor).bind(limit).fetch_all().await?.iter().map(kept).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing;

    /// Whatever is meant is found once, also where it is far behind what is not.
    #[tokio::test]
    async fn a_list_looks_at_so_many_rows_and_goes_on_behind_them() {
        for (mut database, _place) in testing::databases().await {
            let writer = &mut database.writer;
            for n in 0..40 {
                let who = Who { actor: format!("{}", n % 2), ..Who::default() };
                let action = if n % 13 == 0 { "rare" } else { "frequent" };
                let object = if n < 20 { "a.test. b.test." } else { "b.test." };
                // Several at the same time.
                write(writer, &Entry { at_us: n / 3, ..Entry::done(&who, action, object) }).await.unwrap();
            }
            let some = |text: &str| Some(text.to_owned());
            for (filter, count, most_pages) in [
                // Nothing is looked at in vain.
                (Filter::default(), 40, 20),
                (Filter { action: some("rare"), ..Filter::default() }, 4, 9),
                (Filter { actor: some("1"), ..Filter::default() }, 20, 10),
                (Filter { actor: some("1"), action: some("rare"), ..Filter::default() }, 2, 5),
                (Filter { object: some("A.test."), ..Filter::default() }, 20, 15),
                (Filter { object: some("test."), ..Filter::default() }, 0, 9),
                (Filter { since_us: Some(10), ..Filter::default() }, 10, 5),
                (Filter { outcome: some(REFUSED), ..Filter::default() }, 0, 9),
            ] {
                let (mut ids, mut pages, mut before) = (Vec::new(), 0, (i64::MAX, i64::MIN));
                loop {
                    let (rows, next) = within(writer, &filter, before, 2, 5).await.unwrap();
                    assert!(rows.len() <= 2);
                    ids.extend(rows.iter().map(|row| row.id));
                    pages += 1;
                    let Some(next) = next else { break };
                    assert!(next < before, "it goes on");
                    before = next;
                }
                assert!(ids.is_sorted_by(|a, b| a > b), "{filter:?}: {ids:?}");
                assert_eq!(ids.len(), count, "{filter:?}: {ids:?}");
                assert!(pages <= most_pages, "{filter:?}: {pages} pages");
            }
            // How many are looked at is the page itself where all are meant.
            for filter in [Filter::default(), Filter { actor: some("1"), ..Filter::default() }] {
                let (rows, next) = within(writer, &filter, (i64::MAX, i64::MIN), 2, 1).await.unwrap();
                assert_eq!((rows.len(), next), (2, Some((rows[1].at_us, rows[1].id))), "{filter:?}");
            }
        }
    }
}
