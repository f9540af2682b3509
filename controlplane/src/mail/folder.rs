//! Messages as files in a folder: whole or not at all, and for nobody else to read.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::MailError;

/// Writes one, under a name of its own that ends in `.eml`; names are in the order of their times.
pub(super) async fn keep(folder: PathBuf, octets: Vec<u8>) -> Result<(), MailError> {
    let failed = |error: &dyn std::fmt::Display| {
        MailError::Passing(format!("the message cannot be kept in mail.folder: {error}"))
    };
    let written = tokio::task::spawn_blocking(move || write(&folder, &octets)).await;
    written.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
}

fn write(folder: &Path, octets: &[u8]) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let id = Uuid::now_v7();
    let part = folder.join(format!(".{id}.part"));
    let done = fill(&part, octets)
        .and_then(|()| std::fs::rename(&part, folder.join(format!("{id}.eml"))))
        .and_then(|()| File::open(folder)?.sync_all());
    if done.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    done
}

fn fill(part: &Path, octets: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(part)?;
    file.write_all(octets)?;
    file.sync_all()
}
