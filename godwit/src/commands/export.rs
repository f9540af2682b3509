//! `godwit export`.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use serde_json::json;

use super::absolute;
use crate::cli::Export;
use crate::client::{Ask, Client, encoded};
use crate::output::Output;

/// Writes a zone as a zone file to standard output or to a file.
pub(crate) fn main(export: &Export, output: Output) -> anyhow::Result<()> {
    let apex = absolute(&export.zone);
    let answer =
        Client::new(&export.target)?.ask(&Ask::get(format!("/api/v1/domains/{}/export", encoded(&apex))))?;
    let Some(file) = &export.output else {
        if output.json {
            let text = String::from_utf8_lossy(&answer.body);
            return output.result(&json!({ "zone": apex, "text": text }), |_| Ok(()));
        }
        return output.write(|out| out.write_all(&answer.body));
    };
    replace(file, &answer.body).with_context(|| format!("writing {}", file.display()))?;
    let octets = answer.body.len();
    let value = json!({ "zone": apex, "file": file, "octets": octets });
    output.result(&value, |out| writeln!(out, "{apex} written to {} ({octets} octets)", file.display()))
}

/// A file that was there is replaced by a whole one or stays.
fn replace(path: &Path, content: &[u8]) -> std::io::Result<()> {
    // A device or a pipe is no file that could be replaced.
    if path.metadata().is_ok_and(|found| !found.is_file()) {
        return File::options().write(true).open(path)?.write_all(content);
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.temporary", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = File::create_new(&temporary)
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written
}
