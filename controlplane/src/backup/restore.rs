//! Puts a backup into a database, in one transaction that ends with a new generation of the feed: data planes that have seen
//! later changes follow it.

use std::fs::File;
use std::io::{BufReader, Seek as _};
use std::path::Path;

use anyhow::{Context as _, ensure};
use serde_json::Value as Json;

use super::check::{Line, Reader};
use super::{Summary, names, verify};
use crate::commit::{COMMIT, begin};
use crate::config::Store;
use crate::start::{begin_generation, lock_of, place, said};
use crate::store::{self, Connection, dump, now_us};

/// Rows that are written at once, at most.
const STEP: usize = 256;

/// Checks a backup and puts it into the database, which holds no zones or is to be replaced.
///
/// # Errors
/// When the backup is not whole, the database is in use or holds zones, or it cannot be written. It is as before then.
pub async fn restore(store: &Store, file: &Path, replace: bool) -> anyhow::Result<Summary> {
    let told = || format!("backup {}", file.display());
    let mut from = File::open(file).with_context(told)?;
    let checked = verify(BufReader::new(&from)).with_context(told)?;
    from.rewind().with_context(told)?;
    let place = place(store)?;
    let _lock = lock_of(&place, store)?;
    let in_database = || format!("database {place}");
    place.migrate().await.map_err(said).with_context(in_database)?;
    let mut connection = place.connect().await.map_err(said).with_context(in_database)?;
    dump::wait_for_others(&mut connection).await.with_context(in_database)?;
    connection.control(&[begin(connection.kind())]).await.with_context(in_database)?;
    let read = fill(&mut connection, BufReader::new(&from), replace).await.with_context(in_database)?;
    // Somebody may have written to the file since.
    ensure!(read == checked, "{}: it changed while it was read", told());
    connection.control(&[COMMIT]).await.with_context(in_database)?;
    connection.close().await.map_err(said).with_context(in_database)?;
    Ok(read)
}

/// In an open transaction.
pub(super) async fn fill(
    connection: &mut Connection,
    from: impl std::io::BufRead,
    replace: bool,
) -> anyhow::Result<Summary> {
    let tables = names();
    let is_in_use = dump::is_in_use(connection, &tables).await.context("a control plane may have it open")?;
    ensure!(!is_in_use, "a control plane has it open; stop all of them");
    let zones = store::zones::index(connection, None, 1).await?;
    ensure!(
        zones.is_empty() || replace,
        "it holds zones; --replace takes all that it holds away for what the backup has"
    );
    let before = store::relay::read(connection).await?.unwrap_or_default();
    let triggers = dump::without_triggers(connection, &tables).await?;
    dump::empty(connection, &tables).await?;
    let all = dump::columns(connection).await?;
    let mut reader = Reader::new(from)?;
    let mut columns = Vec::new();
    let mut rows: Vec<Vec<Json>> = Vec::new();
    let read = loop {
        let line = reader.next()?;
        let is_row = matches!(line, Line::Row(_));
        if !rows.is_empty() && (!is_row || rows.len() == STEP) {
            dump::insert(connection, &columns, &rows).await?;
            rows.clear();
        }
        match line {
            Line::Row(row) => rows.push(row),
            Line::Table(table, names) => {
                columns = all.iter().filter(|column| column.table == table).cloned().collect();
                let is_same = columns.iter().map(|column| &column.name).eq(&names);
                ensure!(
                    is_same,
                    "the backup is of another version of Godwit: its table {table} has other columns"
                );
            }
            Line::End(summary) => break summary,
        }
    };
    dump::with_triggers(connection, triggers).await?;
    dump::numbers_go_on(connection).await?;
    store::relay::put_back(connection, &before).await?;
    let after = store::relay::read(connection).await?.context("the backup has no state of the feed")?;
    let above = i64::try_from(before.generation.max(after.generation))?;
    let started = begin_generation(connection, now_us().max(above + 1)).await?;
    ensure!(started, "no new generation was begun");
    // What was taken, exchanged or ended since the backup was made must not be good again.
    store::registrations::drop_every_link(connection).await?;
    store::sessions::end_every(connection, now_us()).await?;
    Ok(read)
}
