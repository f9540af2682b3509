//! `godwit export`: a zone as it comes, so that memory does not follow its size.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::json;

use super::absolute;
use crate::cli::Export;
use crate::client::{Ask, Client, encoded};
use crate::output::Output;

/// Writes a zone as a zone file to standard output or to a file.
pub(crate) fn main(export: &Export, output: Output) -> anyhow::Result<()> {
    let apex = absolute(&export.zone)?;
    let mut client = Client::new(&export.target)?;
    let at = export.at.as_deref().map_or(String::new(), |at| format!("?at={}", encoded(at)));
    let ask = Ask::get(format!("/api/v1/domains/{}/export{at}", encoded(&apex)));
    let Some(file) = &export.output else {
        return to_standard_output(&mut client, &ask, &apex, output);
    };
    let mut octets = 0;
    replace(file, |out| {
        client.fetch(&ask, |piece| {
            octets += piece.len();
            out.write_all(piece)
        })
    })
    .map_err(|error| match error.downcast::<io::Error>() {
        Ok(error) => anyhow::Error::new(error).context(format!("writing {}", file.display())),
        Err(error) => error,
    })?;
    let value = json!({ "zone": apex, "file": file, "octets": octets });
    output.result(&value, |out| writeln!(out, "{apex} written to {} ({octets} octets)", file.display()))
}

fn to_standard_output(client: &mut Client, ask: &Ask, apex: &str, output: Output) -> anyhow::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut begun = false;
    let fetched = client.fetch(ask, |piece| {
        if !output.json {
            return out.write_all(piece);
        }
        if !std::mem::replace(&mut begun, true) {
            write!(out, "{{\n  \"zone\": {},\n  \"text\": \"", json!(apex))?;
        }
        // A zone file is ASCII: no character is in two pieces.
        let text = serde_json::to_string(&String::from_utf8_lossy(piece))?;
        out.write_all(&text.as_bytes()[1..text.len() - 1])
    });
    let done = fetched.and_then(|()| {
        if output.json {
            out.write_all(b"\"\n}\n")?;
        }
        Ok(out.flush()?)
    });
    match done {
        // Who reads has seen enough.
        Err(error) if is_broken_pipe(&error) => Ok(()),
        other => other,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// A file that was there is replaced by a whole one or stays.
fn replace(path: &Path, fill: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>) -> anyhow::Result<()> {
    // A device or a pipe is no file that could be replaced.
    if path.metadata().is_ok_and(|found| !found.is_file()) {
        return fill(&mut File::options().write(true).open(path)?);
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.temporary", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = File::create_new(&temporary).map_err(anyhow::Error::from).and_then(|file| {
        let mut out = BufWriter::new(file);
        fill(&mut out)?;
        out.into_inner()?.sync_all()?;
        Ok(std::fs::rename(&temporary, path)?)
    });
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written
}
