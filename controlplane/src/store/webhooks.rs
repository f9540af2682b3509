//! `webhooks`, `deliveries` and `webhook_position`: who is told of changes, what is to be sent to them, and up to where it was
//! looked what that is. How it is told is decided in `webhooks/`.
//!
//! Whoever adds a delivery holds its webhook first, and so does whoever settles one: that nothing more waits is said by who has seen
//! all that do.

use std::collections::HashSet;

use godwit_wire::name::Name;
use uuid::Uuid;

use super::batch::Batch;
use super::{Connection, Row, damaged};
use crate::model::name_key;

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, tenant, url, topics, created_at_us, since_sequence, disabled_at_us, disabled_why, failures, failing_since_us FROM webhooks ",
            $rest
        )
    };
}

macro_rules! deliveries {
    ($rest:literal) => {
        concat!(
            "SELECT id, kind, sequence, state, attempts, status, error, created_at_us, tried_at_us FROM deliveries ",
            $rest
        )
    };
}

const INSERT: &str = "INSERT INTO webhooks (id, tenant, url, topics, created_at_us, since_sequence) VALUES ($1, $2, $3, $4, $5, $6)";
const SET_SECRET: &str = "UPDATE webhooks SET secret = $2 WHERE id = $1 AND secret IS NULL";
const BY_ID: &str = select!("WHERE id = $1");
const LIST: &str = select!("WHERE id > $1 ORDER BY id LIMIT $2");
const LIST_OF: &str = select!("WHERE tenant = $3 AND id > $1 ORDER BY id LIMIT $2");
const LIST_OPERATORS: &str = select!("WHERE tenant IS NULL AND id > $1 ORDER BY id LIMIT $2");
const COUNT_OF: &str = "SELECT count(*) FROM webhooks WHERE tenant = $1";
const COUNT_OPERATORS: &str = "SELECT count(*) FROM webhooks WHERE tenant IS NULL";
const CHANGE: &str = "UPDATE webhooks SET url = $2, topics = $3 WHERE id = $1";
const DISABLE: &str =
    "UPDATE webhooks SET disabled_at_us = $2, disabled_why = $3 WHERE id = $1 AND disabled_at_us IS NULL";
/// What waited goes on.
const ENABLE: &str = "UPDATE webhooks SET disabled_at_us = NULL, disabled_why = NULL, failures = 0, failing_since_us = NULL, since_sequence = $2 WHERE id = $1";
const DELETE: &str = "DELETE FROM webhooks WHERE id = $1";
const ENABLED: &str = "SELECT id, tenant, topics, since_sequence FROM webhooks WHERE disabled_at_us IS NULL AND secret IS NOT NULL ORDER BY id";
const GRANTED_TO: &str =
    "SELECT z.name_key, z.owner_number FROM grants g JOIN zones z ON z.id = g.zone_id WHERE g.tenant = $1";
/// Nobody else adds a delivery or settles one until the transaction ends.
const HOLD: &str = "UPDATE webhooks SET failures = failures WHERE id = $1";
const TO_SEND: &str = "SELECT w.url, w.secret, w.failures, w.failing_since_us, t.suspended_at_us, d.id, d.body, d.attempts FROM webhooks w LEFT JOIN tenants t ON t.number = w.tenant JOIN deliveries d ON d.webhook_id = w.id WHERE w.id = $1 AND d.state = 'waiting' AND w.disabled_at_us IS NULL ORDER BY d.id LIMIT 1";
const IS_WAITING: &str = "SELECT EXISTS (SELECT 1 FROM deliveries d JOIN webhooks w ON w.id = d.webhook_id WHERE d.webhook_id = $1 AND d.state = 'waiting' AND w.disabled_at_us IS NULL)";
const ADD: &str = "INSERT INTO deliveries (id, webhook_id, kind, body, state, created_at_us) VALUES ($1, $2, $3, $4, 'waiting', $5)";
/// Of no tenant: they tell of no changes.
const ADD_CHANGE: &str = "INSERT INTO deliveries (id, webhook_id, kind, sequence, body, state, created_at_us) VALUES ($1, $2, 'change', $3, $4, 'waiting', $5)";
const COUNT_WAITING: &str = "SELECT count(*) FROM (SELECT 1 FROM deliveries WHERE webhook_id = $1 AND state = 'waiting' ORDER BY id LIMIT $2) AS found";
const LATEST: &str = deliveries!("WHERE webhook_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3");
const TRIED: &str = "UPDATE deliveries SET state = $2, attempts = attempts + 1, status = $3, error = $4, tried_at_us = $5 WHERE id = $1 AND state = 'waiting'";
const WENT_WELL: &str = "UPDATE webhooks SET failures = 0, failing_since_us = NULL WHERE id = $1";
const FAILED: &str = "UPDATE webhooks SET failures = failures + 1, failing_since_us = coalesce(failing_since_us, $2) WHERE id = $1";
const POSITION: &str = "SELECT sequence FROM webhook_position WHERE id = 1";
const MOVE: &str = "UPDATE webhook_position SET sequence = $2 WHERE id = 1 AND sequence = $1";
const PRUNE: &str = "DELETE FROM deliveries WHERE id IN (SELECT id FROM deliveries WHERE created_at_us < $1 ORDER BY created_at_us LIMIT $2)";
/// Nobody was ever told the secret of these.
const PRUNE_BEGUN: &str = "DELETE FROM webhooks WHERE id IN (SELECT id FROM webhooks WHERE secret IS NULL AND created_at_us < $1 ORDER BY created_at_us LIMIT $2)";

/// Every statement of this file.
pub(super) const ALL: &[&str] = &[
    INSERT,
    SET_SECRET,
    BY_ID,
    LIST,
    LIST_OF,
    LIST_OPERATORS,
    COUNT_OF,
    COUNT_OPERATORS,
    CHANGE,
    DISABLE,
    ENABLE,
    DELETE,
    ENABLED,
    GRANTED_TO,
    HOLD,
    TO_SEND,
    IS_WAITING,
    ADD,
    ADD_CHANGE,
    COUNT_WAITING,
    LATEST,
    TRIED,
    WENT_WELL,
    FAILED,
    POSITION,
    MOVE,
    PRUNE,
    PRUNE_BEGUN,
];

/// A webhook, without its secret.
#[derive(Clone, Debug)]
pub(crate) struct Webhook {
    pub(crate) id: Uuid,
    /// Whose; 0: the operator's.
    pub(crate) tenant: u32,
    pub(crate) url: String,
    pub(crate) topics: String,
    pub(crate) created_at_us: i64,
    /// See the schema.
    pub(crate) since_sequence: u64,
    pub(crate) disabled_at_us: Option<i64>,
    pub(crate) disabled_why: Option<String>,
    pub(crate) failures: i64,
    pub(crate) failing_since_us: Option<i64>,
    /// When the job is due that sends what waits; filled in by who looks for that.
    pub(crate) next_at_us: Option<i64>,
}

/// Who is to be told of changes.
#[derive(Clone, Debug)]
pub(crate) struct Enabled {
    pub(crate) id: Uuid,
    pub(crate) tenant: u32,
    pub(crate) topics: String,
    pub(crate) since_sequence: u64,
}

/// The next delivery of one, and what it takes.
#[derive(Debug)]
pub(crate) struct ToSend {
    pub(crate) url: String,
    /// Sealed.
    pub(crate) secret: Vec<u8>,
    pub(crate) failures: i64,
    pub(crate) failing_since_us: Option<i64>,
    pub(crate) delivery: Uuid,
    pub(crate) body: String,
    pub(crate) attempts: i64,
    /// Its tenant is: nothing is to be sent.
    pub(crate) is_suspended: bool,
}

/// A delivery as it is listed.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) id: Uuid,
    pub(crate) kind: String,
    pub(crate) sequence: Option<u64>,
    pub(crate) state: String,
    pub(crate) attempts: i64,
    pub(crate) status: Option<i64>,
    pub(crate) error: Option<String>,
    pub(crate) created_at_us: i64,
    pub(crate) tried_at_us: Option<i64>,
}

/// What a delivery tells.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Told {
    /// The change of a sequence.
    Change(u64),
    /// No change: its kind is this one.
    Nothing(&'static str),
}

/// A delivery that is new.
#[derive(Clone, Debug)]
pub(crate) struct New {
    pub(crate) id: Uuid,
    pub(crate) webhook: Uuid,
    pub(crate) told: Told,
    pub(crate) body: String,
}

fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn sequence(row: &Row, column: &'static str) -> sqlx::Result<u64> {
    u64::try_from(row.get::<i64, _>(column)?).map_err(|_| damaged("webhooks", column))
}

fn owner(tenant: u32) -> Option<i64> {
    (tenant > 0).then_some(i64::from(tenant))
}

fn tenant(row: &Row) -> sqlx::Result<u32> {
    let tenant = row.get::<Option<i64>, _>("tenant")?.unwrap_or(0);
    u32::try_from(tenant).map_err(|_| damaged("webhooks", "tenant"))
}

fn webhook(row: &Row) -> sqlx::Result<Webhook> {
    Ok(Webhook {
        id: row.get("id")?,
        tenant: tenant(row)?,
        url: row.get("url")?,
        topics: row.get("topics")?,
        created_at_us: row.get("created_at_us")?,
        since_sequence: sequence(row, "since_sequence")?,
        disabled_at_us: row.get("disabled_at_us")?,
        disabled_why: row.get("disabled_why")?,
        failures: row.get("failures")?,
        failing_since_us: row.get("failing_since_us")?,
        next_at_us: None,
    })
}

/// Adds one, which is none before it has its secret.
///
/// # Errors
/// Of the database.
pub(crate) async fn insert(connection: &mut Connection, new: &Webhook) -> sqlx::Result<()> {
    let insert = connection.query(INSERT).bind(new.id).bind(owner(new.tenant));
    let insert = insert.bind(new.url.as_str()).bind(new.topics.as_str()).bind(new.created_at_us);
    insert.bind(stored(new.since_sequence)).execute().await.map(|_| ())
}

/// Gives one its secret, sealed; whether it is there and had none.
///
/// # Errors
/// Of the database.
pub(crate) async fn set_secret(connection: &mut Connection, id: Uuid, sealed: &[u8]) -> sqlx::Result<bool> {
    Ok(connection.query(SET_SECRET).bind(id).bind(sealed).execute().await? > 0)
}

/// One of them.
///
/// # Errors
/// Of the database.
pub(crate) async fn by_id(connection: &mut Connection, id: Uuid) -> sqlx::Result<Option<Webhook>> {
    connection.query(BY_ID).bind(id).fetch_optional().await?.as_ref().map(webhook).transpose()
}

/// Those behind one, by id; of one tenant, or of the operator (0), where that is said.
///
/// # Errors
/// Of the database.
pub(crate) async fn list(
    connection: &mut Connection,
    of: Option<u32>,
    after: Uuid,
    limit: i64,
) -> sqlx::Result<Vec<Webhook>> {
    let rows = match of.map(owner) {
        None => connection.query(LIST).bind(after).bind(limit),
        Some(None) => connection.query(LIST_OPERATORS).bind(after).bind(limit),
        Some(Some(tenant)) => connection.query(LIST_OF).bind(after).bind(limit).bind(tenant),
    };
    rows.fetch_all().await?.iter().map(webhook).collect()
}

/// How many a tenant has.
///
/// # Errors
/// Of the database.
pub(crate) async fn count_of(connection: &mut Connection, tenant: u32) -> sqlx::Result<i64> {
    match owner(tenant) {
        None => connection.query(COUNT_OPERATORS).fetch_value().await,
        Some(tenant) => connection.query(COUNT_OF).bind(tenant).fetch_value().await,
    }
}

/// Changes where it is told, and what.
///
/// # Errors
/// Of the database.
pub(crate) async fn change(
    connection: &mut Connection,
    id: Uuid,
    url: &str,
    topics: &str,
) -> sqlx::Result<()> {
    connection.query(CHANGE).bind(id).bind(url).bind(topics).execute().await.map(|_| ())
}

/// Tells it of nothing more; whether it was told until now.
///
/// # Errors
/// Of the database.
pub(crate) async fn disable(
    connection: &mut Connection,
    id: Uuid,
    now_us: i64,
    why: &str,
) -> sqlx::Result<bool> {
    Ok(connection.query(DISABLE).bind(id).bind(now_us).bind(why).execute().await? > 0)
}

/// Tells it again, of what comes behind a sequence.
///
/// # Errors
/// Of the database.
pub(crate) async fn enable(connection: &mut Connection, id: Uuid, since: u64) -> sqlx::Result<()> {
    connection.query(ENABLE).bind(id).bind(stored(since)).execute().await.map(|_| ())
}

/// Deletes one, and what it was to be sent.
///
/// # Errors
/// Of the database.
pub(crate) async fn delete(connection: &mut Connection, id: Uuid) -> sqlx::Result<()> {
    connection.query(DELETE).bind(id).execute().await.map(|_| ())
}

/// All that are to be told.
///
/// # Errors
/// Of the database.
pub(crate) async fn enabled(connection: &mut Connection) -> sqlx::Result<Vec<Enabled>> {
    let rows = connection.query(ENABLED).fetch_all().await?;
    let enabled = |row: &Row| {
        Ok(Enabled {
            id: row.get("id")?,
            tenant: tenant(row)?,
            topics: row.get("topics")?,
            since_sequence: sequence(row, "since_sequence")?,
        })
    };
    rows.iter().map(enabled).collect()
}

/// The zones that a tenant is granted something of, with their owners.
///
/// # Errors
/// Of the database.
pub(crate) async fn granted_to(
    connection: &mut Connection,
    tenant: u32,
) -> sqlx::Result<HashSet<(Name, u32)>> {
    let rows = connection.query(GRANTED_TO).bind(i64::from(tenant)).fetch_all().await?;
    let granted = |row: &Row| {
        let apex = name_key::decode(row.get("name_key")?).ok_or_else(|| damaged("zones", "name_key"))?;
        let owner = u32::try_from(row.get::<i64, _>("owner_number")?);
        Ok((apex, owner.map_err(|_| damaged("zones", "owner_number"))?))
    };
    rows.iter().map(granted).collect()
}

/// Adds something that a webhook is to be sent, in a transaction that holds it.
pub(crate) fn add(batch: &mut Batch, new: &New, now_us: i64) {
    let New { id, webhook, told, body } = new;
    match told {
        Told::Change(sequence) => {
            let add = batch.add(ADD_CHANGE).bind(*id).bind(*webhook).bind(stored(*sequence));
            add.bind(body.as_str()).bind(now_us);
        }
        Told::Nothing(kind) => {
            batch.add(ADD).bind(*id).bind(*webhook).bind(*kind).bind(body.as_str()).bind(now_us);
        }
    }
}

/// How many wait for a webhook; counted up to a number.
///
/// # Errors
/// Of the database.
pub(crate) async fn count_waiting(
    connection: &mut Connection,
    webhook: Uuid,
    most: i64,
) -> sqlx::Result<i64> {
    connection.query(COUNT_WAITING).bind(webhook).bind(most).fetch_value().await
}

/// The next delivery of a webhook, if it is told of anything.
///
/// # Errors
/// Of the database.
pub(crate) async fn to_send(connection: &mut Connection, webhook: Uuid) -> sqlx::Result<Option<ToSend>> {
    let Some(row) = connection.query(TO_SEND).bind(webhook).fetch_optional().await? else { return Ok(None) };
    Ok(Some(ToSend {
        url: row.get(0)?,
        secret: row.get::<Option<Vec<u8>>, _>(1)?.unwrap_or_default(),
        failures: row.get(2)?,
        failing_since_us: row.get(3)?,
        is_suspended: row.get::<Option<i64>, _>(4)?.is_some(),
        delivery: row.get(5)?,
        body: row.get(6)?,
        attempts: row.get(7)?,
    }))
}

/// Whether there is something to be sent to a webhook that is told of something.
///
/// # Errors
/// Of the database.
pub(crate) async fn is_waiting(connection: &mut Connection, webhook: Uuid) -> sqlx::Result<bool> {
    connection.query(IS_WAITING).bind(webhook).fetch_value().await
}

/// What becomes of a delivery that was tried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tried<'a> {
    pub(crate) webhook: Uuid,
    pub(crate) delivery: Uuid,
    /// `waiting`, `done` or `failed`.
    pub(crate) state: &'a str,
    pub(crate) status: Option<u16>,
    pub(crate) error: Option<&'a str>,
    pub(crate) at_us: i64,
}

/// Nobody else adds a delivery of a webhook, or settles one, until the transaction ends.
///
/// # Errors
/// Of the database.
pub(crate) async fn hold(connection: &mut Connection, webhook: Uuid) -> sqlx::Result<()> {
    connection.query(HOLD).bind(webhook).execute().await.map(|_| ())
}

/// Settles an attempt, of a webhook that is held.
///
/// # Errors
/// Of the database.
pub(crate) async fn settle(connection: &mut Connection, tried: Tried<'_>) -> sqlx::Result<()> {
    let Tried { webhook, delivery, state, status, error, at_us } = tried;
    let query = connection.query(TRIED).bind(delivery).bind(state).bind(status.map(i64::from)).bind(error);
    query.bind(at_us).execute().await?;
    if state == "done" {
        connection.query(WENT_WELL).bind(webhook).execute().await?;
    } else {
        connection.query(FAILED).bind(webhook).bind(at_us).execute().await?;
    }
    Ok(())
}

/// The latest deliveries of a webhook, before one.
///
/// # Errors
/// Of the database.
pub(crate) async fn latest(
    connection: &mut Connection,
    webhook: Uuid,
    before: Uuid,
    limit: i64,
) -> sqlx::Result<Vec<Delivery>> {
    let rows = connection.query(LATEST).bind(webhook).bind(before).bind(limit).fetch_all().await?;
    let delivery = |row: &Row| {
        let sequence = row.get::<Option<i64>, _>("sequence")?.map(u64::try_from).transpose();
        Ok(Delivery {
            id: row.get("id")?,
            kind: row.get("kind")?,
            sequence: sequence.map_err(|_| damaged("deliveries", "sequence"))?,
            state: row.get("state")?,
            attempts: row.get("attempts")?,
            status: row.get("status")?,
            error: row.get("error")?,
            created_at_us: row.get("created_at_us")?,
            tried_at_us: row.get("tried_at_us")?,
        })
    };
    rows.iter().map(delivery).collect()
}

/// Up to which sequence it was looked what has to be told.
///
/// # Errors
/// Of the database.
pub(crate) async fn position(connection: &mut Connection) -> sqlx::Result<u64> {
    let row = connection.query(POSITION).fetch_optional().await?;
    sequence(&row.ok_or(sqlx::Error::RowNotFound)?, "sequence")
}

/// Moves that on; whether it was where it was left.
///
/// # Errors
/// Of the database.
pub(crate) async fn go_on(connection: &mut Connection, from: u64, to: u64) -> sqlx::Result<bool> {
    Ok(connection.query(MOVE).bind(stored(from)).bind(stored(to)).execute().await? > 0)
}

/// Deletes some deliveries that are older, and webhooks that never were any; how many.
///
/// # Errors
/// Of the database.
pub(crate) async fn prune(connection: &mut Connection, before_us: i64, limit: i64) -> sqlx::Result<u64> {
    let deliveries = connection.query(PRUNE).bind(before_us).bind(limit).execute().await?;
    Ok(deliveries + connection.query(PRUNE_BEGUN).bind(before_us).bind(limit).execute().await?)
}
