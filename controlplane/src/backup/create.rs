//! Makes a backup from one state of the database, which may be written to meanwhile.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{TABLES, VERSION};
use crate::config::Store;
use crate::hex;
use crate::start::{place, said};
use crate::store::{Connection, Place, dump, now_us};

/// Rows that are read at once.
const STEP: usize = 256;

/// Writes a backup to a file, which is there whole, on disk, or not at all.
///
/// # Errors
/// When the database cannot be read or the file cannot be written.
pub async fn create(store: &Store, out: &Path) -> anyhow::Result<()> {
    let told = || format!("backup {}", out.display());
    let name = out.file_name().with_context(told)?.to_string_lossy();
    let beside = out.with_file_name(format!(".{name}.{}.part", std::process::id()));
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // It has the hashes of tokens.
    let file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside).with_context(told)?;
    let done = async {
        let mut buffered = BufWriter::new(&file);
        write(store, &mut buffered).await?;
        buffered.flush().with_context(told)?;
        drop(buffered);
        file.sync_all().with_context(told)?;
        std::fs::rename(&beside, out).with_context(told)?;
        File::open(folder).and_then(|folder| folder.sync_all()).with_context(told)
    };
    let done = done.await;
    if done.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    done
}

/// Writes a backup.
///
/// # Errors
/// When the database cannot be read, or what is written to fails.
pub async fn write(store: &Store, out: &mut dyn Write) -> anyhow::Result<()> {
    let place = place(store)?;
    let is_there = !matches!(&place, Place::File(file) if !file.exists());
    anyhow::ensure!(is_there, "there is no database in {}", store.data.display());
    let told = || format!("database {place}");
    let steps = place.steps().await.map_err(said).with_context(told)?;
    let is_current = steps.iter().all(|step| step.applied);
    anyhow::ensure!(
        is_current,
        "database {place}: its schema is not this program's; bring it up to date (migrate up)"
    );
    let mut connection = place.connect_reading().await.map_err(said).with_context(told)?;
    of(&mut connection, out).await.with_context(told)
}

/// Of a connection whose transaction sees one state of the database.
async fn of(connection: &mut Connection, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut hash = Sha256::new();
    let mut say = |line: &serde_json::Value| {
        let mut line = line.to_string();
        line.push('\n');
        hash.update(line.as_bytes());
        out.write_all(line.as_bytes()).context("writing the backup")
    };
    let columns = dump::columns(connection).await?;
    for column in &columns {
        let is_known = TABLES.iter().any(|(table, _)| *table == column.table);
        anyhow::ensure!(is_known, "the table {} is not one of this program's", column.table);
    }
    say(&json!({ "godwit_backup": VERSION, "made_at_us": now_us() }))?;
    let mut rows = 0u64;
    for (table, key) in TABLES {
        let columns: Vec<_> = columns.iter().filter(|column| column.table == *table).cloned().collect();
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        say(&json!({ "table": table, "columns": names }))?;
        let mut after = None;
        loop {
            let step = dump::rows(connection, table, key, &columns, after.as_deref(), STEP).await?;
            rows += u64::try_from(step.len())?;
            for row in &step {
                say(&json!(row))?;
            }
            match step.into_iter().next_back() {
                Some(last) => after = Some(last),
                None => break,
            }
        }
    }
    let end = json!({ "rows": rows, "sha256": hex::encoded(&hash.finalize()) });
    writeln!(out, "{end}").context("writing the backup")
}
