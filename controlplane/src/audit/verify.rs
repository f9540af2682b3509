//! Whether the audit log is as it was written: each row against its hash, the rows against each other, their end against what was
//! written down outside of the database. It only reads, and the server may run.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use anyhow::Context as _;
use serde::Serialize;

use super::{ChainKey, anchors};
use crate::config::Store;
use crate::hex;
use crate::secrets::Vault;
use crate::start::{place, said};
use crate::store::audit::Audited;
use crate::store::audit_chain::{self, Chained, Hash, Head};
use crate::store::{Connection, now_us};

/// Rows that are read at once.
const STEP: i64 = 1_000;
/// For how long a row may wait to be chained, in seconds: a second is usual, and another process takes over within some.
const LONGEST_WAIT_S: u64 = 60;

/// What was found.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Report {
    /// All of it is as it was written.
    pub whole: bool,
    /// Rows that were checked.
    pub checked: u64,
    /// Of the last row that was deleted for its age; 0: none was.
    pub begins_behind: i64,
    /// Of the last row that is chained, and its hash.
    pub number: i64,
    /// See there.
    pub hash: String,
    /// Rows that are not chained yet.
    pub unchained: u64,
    /// Seconds since the first of them was written.
    pub unchained_for_s: u64,
    /// Anchors that were compared.
    pub anchors: u64,
    /// Lines of their files that are none.
    pub no_anchors: u64,
    /// The first that is wrong.
    pub wrong: Option<Wrong>,
}

/// What is wrong.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Wrong {
    /// A row is not what it was.
    Altered {
        /// Its number in the chain.
        number: i64,
        /// Its id.
        id: i64,
    },
    /// A row is gone.
    Missing {
        /// Its number in the chain.
        number: i64,
        /// Its id, where that is known.
        id: Option<i64>,
    },
    /// A row stands where another was.
    Order {
        /// The place.
        number: i64,
        /// The row that stands there.
        id: i64,
        /// The one that was there.
        was: i64,
    },
    /// A row stands beside the chain: it was put in later.
    Stray {
        /// Its id.
        id: i64,
    },
    /// The last rows are gone.
    Cut {
        /// Of the last row that is there.
        number: i64,
        /// Of one that was.
        was: i64,
        /// Who says so: the head in the database, or an anchor.
        by: &'static str,
    },
    /// The first rows are gone, and not for their age.
    Start {
        /// Behind which the chain is said to begin.
        number: i64,
    },
    /// An anchor has another hash: what is before it was written anew, or the anchor is of another database.
    Anchor {
        /// Of the row.
        number: i64,
    },
    /// The database does not say where the chain ends.
    Headless,
    /// The key that the chain was made with is gone from the database.
    Keyless,
    /// Rows are not chained for long: nobody does it, or somebody has seen to it that nobody can.
    Unchained {
        /// Seconds since the first of them was written.
        for_s: u64,
    },
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::Altered { number, id } => {
                write!(f, "row {number} (id {id}) was altered, or rows before it were taken out or put in")
            }
            Wrong::Missing { number, id: Some(id) } => write!(f, "row {number} (id {id}) was deleted"),
            Wrong::Missing { number, id: None } => write!(f, "row {number} was deleted"),
            Wrong::Order { number, id, was } => {
                write!(f, "rows were exchanged: id {id} stands at {number}, where id {was} was")
            }
            Wrong::Stray { id } => write!(f, "the row with the id {id} was put in beside the chain"),
            Wrong::Cut { number, was, by } => write!(
                f,
                "the end was cut off: the last row is {number}, and the {by} knows of {was} (or the database is an older copy)"
            ),
            Wrong::Start { number } => {
                write!(
                    f,
                    "the beginning was cut off: nothing vouches for it that rows up to {number} were past their time"
                )
            }
            Wrong::Anchor { number } => write!(
                f,
                "the anchor of row {number} has another hash: the log was written anew, or the anchor is of another database"
            ),
            Wrong::Headless => f.write_str("the head of the chain is gone from the database"),
            Wrong::Keyless => f.write_str("the key of the chain is gone from the database"),
            Wrong::Unchained { for_s } => write!(
                f,
                "rows wait to be chained for {for_s} s: no server has given sequences since, or its log says why it cannot"
            ),
        }
    }
}

/// Checks all of the audit log of a database, and that it has what the anchors in files say. `progress` is told how many rows are
/// done, and of how many.
///
/// # Errors
/// When the database, its key, or a file cannot be read.
pub async fn verify(
    store: &Store,
    files: &[PathBuf],
    mut progress: impl FnMut(u64, u64),
) -> anyhow::Result<Report> {
    // Before the database: what is written meanwhile is not asked for.
    let mut known = BTreeMap::new();
    let mut no_anchors = 0;
    for file in files {
        no_anchors += anchors::read(file, &mut known)?;
    }
    let place = place(store)?;
    let is_there = !matches!(&place, crate::store::Place::File(file) if !file.exists());
    anyhow::ensure!(is_there, "there is no database in {}", store.data.display());
    let told = || format!("database {place}");
    let steps = place.steps().await.map_err(said).with_context(told)?;
    anyhow::ensure!(
        steps.iter().all(|step| step.applied),
        "database {place}: its schema is older than this program; start the server once, or godwit-controlplane migrate up"
    );
    let mut reading = place.connect_reading().await.map_err(said).with_context(told)?;
    let key = Vault::audit_key_of(&mut reading, store.master_places()?).await?;
    let mut report = all(&mut reading, key.as_ref(), &known, &mut progress).await.map_err(said)?;
    report.no_anchors = no_anchors;
    reading.close().await.map_err(said).with_context(told)?;
    Ok(report)
}

/// The same in a transaction that sees one state of the database.
pub(super) async fn all(
    reading: &mut Connection,
    key: Option<&ChainKey>,
    known: &BTreeMap<i64, String>,
    progress: &mut impl FnMut(u64, u64),
) -> sqlx::Result<Report> {
    let mut report = Report::default();
    let Some(head) = audit_chain::head(reading).await? else {
        report.wrong = Some(Wrong::Headless);
        return Ok(report);
    };
    report.begins_behind = head.start_number;
    report.number = head.number;
    report.hash = hex::encoded(&head.hash);
    report.wrong = match key {
        Some(key) => chain(reading, key, &head, known, &mut report, progress).await?,
        // Nothing was ever chained, unless somebody outside of the database knows better.
        None if head.number == 0 && head.start_number == 0 && is_empty(reading).await? => {
            known.last_key_value().map(|(&was, _)| Wrong::Cut { number: 0, was, by: "anchor" })
        }
        None => Some(Wrong::Keyless),
    };
    if report.wrong.is_none() {
        report.wrong = beside(reading, &head, &mut report).await?;
    }
    report.whole = report.wrong.is_none();
    Ok(report)
}

/// Whether no row is chained.
async fn is_empty(reading: &mut Connection) -> sqlx::Result<bool> {
    Ok(audit_chain::chained(reading, i64::MIN, 1).await?.is_empty())
}

/// The rows of the chain, in their order.
async fn chain(
    reading: &mut Connection,
    key: &ChainKey,
    head: &Head,
    known: &BTreeMap<i64, String>,
    report: &mut Report,
    progress: &mut impl FnMut(u64, u64),
) -> sqlx::Result<Option<Wrong>> {
    let start = head.start_number;
    if !key.is_start(start, &head.start_hash, head.start_proof.as_deref()) {
        return Ok(Some(Wrong::Start { number: start }));
    }
    let all = u64::try_from(head.number.saturating_sub(start)).unwrap_or(0);
    let differs = |number: i64, hash: &Hash, report: &mut Report| {
        let Some(anchor) = known.get(&number) else { return false };
        report.anchors += 1;
        *anchor != hex::encoded(hash)
    };
    if start > 0 && differs(start, &head.start_hash, report) {
        return Ok(Some(Wrong::Anchor { number: start }));
    }
    let (mut number, mut hash) = (start, head.start_hash);
    loop {
        let step = audit_chain::chained(reading, number, STEP).await?;
        if step.is_empty() {
            break;
        }
        for (at, one) in step.iter().enumerate() {
            if one.number != number + 1 {
                return Ok(Some(Wrong::Missing { number: number + 1, id: None }));
            }
            let id = one.audit_id;
            let Some(row) = &one.row else {
                let number = one.number;
                return Ok(Some(if one.unreadable {
                    Wrong::Altered { number, id }
                } else {
                    Wrong::Missing { number, id: Some(id) }
                }));
            };
            if key.row(&hash, one.number, row) != one.hash {
                return Ok(Some(exchanged(key, &hash, one, &step[at..])));
            }
            (number, hash) = (one.number, one.hash);
            if differs(number, &hash, report) {
                return Ok(Some(Wrong::Anchor { number }));
            }
            report.checked += 1;
        }
        progress(report.checked, all.max(report.checked));
    }
    if number < head.number {
        return Ok(Some(Wrong::Cut { number, was: head.number, by: "head" }));
    }
    if let Some((&was, _)) = known.last_key_value().filter(|(was, _)| **was > number) {
        return Ok(Some(Wrong::Cut { number, was, by: "anchor" }));
    }
    // Where it says less than there is.
    let is_head = number == head.number && hash == head.hash;
    Ok((!is_head).then_some(Wrong::Anchor { number }))
}

/// Why a row does not fit its hash: one behind it may.
fn exchanged(key: &ChainKey, before: &Hash, one: &Chained, behind: &[Chained]) -> Wrong {
    let (number, id) = (one.number, one.audit_id);
    for other in behind {
        let Some(row) = &other.row else { continue };
        // Either the chain names another row, or the rows have taken each other's ids.
        for taken in [row.clone(), Audited { id, ..row.clone() }] {
            if other.audit_id != id && key.row(before, number, &taken) == one.hash {
                return Wrong::Order { number, id, was: other.audit_id };
            }
        }
    }
    Wrong::Altered { number, id }
}

/// Rows that are not in the chain: the last ones wait for it, and no others.
async fn beside(reading: &mut Connection, head: &Head, report: &mut Report) -> sqlx::Result<Option<Wrong>> {
    let (mut after, mut first_us) = (i64::MIN, None::<i64>);
    loop {
        let step = audit_chain::numbered(reading, after, STEP).await?;
        let Some((last, _, _)) = step.last() else { break };
        after = *last;
        for (id, at_us, number) in step {
            if number.is_some() {
                continue;
            }
            if id <= head.settled_id {
                return Ok(Some(Wrong::Stray { id }));
            }
            report.unchained += 1;
            first_us = Some(first_us.unwrap_or(i64::MAX).min(at_us));
        }
    }
    let waited_us = first_us.map_or(0, |first| now_us().saturating_sub(first));
    report.unchained_for_s = u64::try_from(waited_us / 1_000_000).unwrap_or(0);
    let for_s = report.unchained_for_s;
    Ok((for_s > LONGEST_WAIT_S).then_some(Wrong::Unchained { for_s }))
}
