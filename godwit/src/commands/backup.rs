//! `godwit backup`: straight from and into the database, so also while the API is down.

use std::fs::{DirBuilder, File};
use std::io::{BufReader, BufWriter, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use anyhow::Context as _;
use godwit_controlplane::backup::{self, Summary};
use godwit_controlplane::config::Store;

use super::progress::while_waiting;
use crate::cli::{Backup, Place};
use crate::output::{Output, Wrong};
use crate::run::config::Config;
use crate::run::lock::FolderLock;

/// Makes, checks or restores a backup.
pub(crate) fn main(command: Backup, output: Output) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match command {
        Backup::Create { out, place } => {
            let store = store(place)?;
            while_waiting("writing the backup", || runtime.block_on(create(&store, &out)))
        }
        Backup::Verify { file } => {
            let summary = while_waiting("checking the backup", || {
                let told = || format!("backup {}", file.display());
                backup::verify(BufReader::new(File::open(&file).with_context(told)?)).with_context(told)
            })?;
            print(&summary, "whole", output)
        }
        Backup::Restore { file, replace, place } => {
            let store = store(place)?;
            // As `godwit run` makes it, where there is none.
            let folder = &store.data;
            let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.with_context(|| format!("data folder {}", folder.display()))?;
            let _lock =
                FolderLock::take(folder).context("a backup is restored while the server is stopped")?;
            let restored = || runtime.block_on(backup::restore(&store, &file, replace));
            print(&while_waiting("restoring the backup", restored)?, "restored", output)
        }
    }
}

async fn create(store: &Store, out: &Path) -> anyhow::Result<()> {
    if out != Path::new("-") {
        return backup::create(store, out).await;
    }
    let mut out = BufWriter::new(std::io::stdout());
    backup::write(store, &mut out).await?;
    out.flush().context("standard output")
}

fn store(place: Place) -> Result<Store, Wrong> {
    Config::store(place.config, place.data).map_err(|error| Wrong(error.to_string()))
}

fn print(summary: &Summary, what: &str, output: Output) -> anyhow::Result<()> {
    let made = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(summary.made_at_us) * 1_000)
        .ok()
        .and_then(|at| at.format(&time::format_description::well_known::Rfc3339).ok())
        .unwrap_or_else(|| "at an unknown time".to_owned());
    output.result(summary, |out| {
        let Summary { zones, rrsets, rows, generation, sequence, .. } = summary;
        writeln!(out, "{what}: made {made}, {zones} zones, {rrsets} RRsets, {rows} rows")?;
        writeln!(out, "feed: generation {generation}, sequence {sequence}")?;
        writeln!(out, "sha256: {}", summary.sha256)
    })
}
