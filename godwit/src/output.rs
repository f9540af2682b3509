//! What commands print: text for people, JSON with `--json`. Results go to standard output, errors to standard error.

use std::io::{self, Write};
use std::process::ExitCode;

use godwit_wire::presentation::Printable;
use serde::Serialize;
use serde_json::json;

use crate::client::ClientError;

/// How to print.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    pub(crate) json: bool,
}

/// Says a line on standard error. Whoever closed it does not want to know, which is no reason to stop.
pub(crate) fn say(line: impl std::fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Writes lines for people. What a server or a file says may have been written by anybody.
pub(crate) fn write_printable(text: &str, out: &mut dyn Write) -> io::Result<()> {
    text.lines().try_for_each(|line| writeln!(out, "{}", Printable(line)))
}

/// A wrong flag or configuration: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Wrong(pub(crate) String);

/// Everything was said already: exit code 1 and nothing more.
#[derive(Debug, thiserror::Error)]
#[error("failed")]
pub(crate) struct Said;

impl Output {
    /// Prints a result in the form that was asked for.
    pub(crate) fn result(
        self,
        value: &impl Serialize,
        text: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> anyhow::Result<()> {
        self.write(|out| {
            if self.json {
                serde_json::to_writer_pretty(&mut *out, value)?;
                writeln!(out)
            } else {
                let mut shown = Vec::new();
                text(&mut shown)?;
                write_printable(&String::from_utf8_lossy(&shown), out)
            }
        })
    }

    /// Writes to standard output. Who reads may have seen enough: that is no error.
    pub(crate) fn write(self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> anyhow::Result<()> {
        let mut out = io::BufWriter::new(io::stdout().lock());
        match write(&mut out).and_then(|()| out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => Ok(other?),
        }
    }

    /// Says why a command failed, and how the process ends.
    pub(crate) fn failed(self, error: &anyhow::Error) -> ExitCode {
        if error.is::<Said>() {
            return ExitCode::FAILURE;
        }
        if self.json {
            let (code, request_id) = match error.downcast_ref::<ClientError>() {
                Some(ClientError::Api { code, request_id, .. }) => (code.as_str(), request_id.as_deref()),
                Some(other) => (other.code(), None),
                None if error.is::<Wrong>() => ("WRONG_USAGE", None),
                None => ("FAILED", None),
            };
            say(json!({ "error": format!("{error:#}"), "code": code, "request_id": request_id }));
        } else {
            say(format_args!("godwit: {}", Printable(&format!("{error:#}"))));
        }
        ExitCode::from(if error.is::<Wrong>() { 2 } else { 1 })
    }
}
