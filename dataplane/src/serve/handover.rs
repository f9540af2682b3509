//! Sockets inherited and handed on, so that a restart loses no query: the new process reads the same sockets, with
//! what is queued in them, before the old one stops.
//!
//! Two ways in: a supervisor's `LISTEN_FDS`, `LISTEN_PID` and `LISTEN_FDNAMES` (a socket named `metrics` serves
//! metrics), and our own `GODWIT_HANDOVER=ready=N dns=N,N,… metrics=N`, by which a running data plane passes its
//! descriptors to its successor; on `ready` the successor writes one line when it reads the sockets.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, PipeReader, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, bail};

use super::sockets::Inherited;
use crate::sandbox::{self, Confinement};
use crate::sys::inherit;

const VARIABLE: &str = "GODWIT_HANDOVER";
const READY: &str = "ready\n";

/// The pipe on which we tell the process before us that it may stop.
#[derive(Debug)]
pub struct Predecessor(std::fs::File);

impl Predecessor {
    /// Says that we read the sockets.
    ///
    /// # Errors
    /// When the process before us is gone; then there is nobody to tell.
    pub fn ready(mut self) -> std::io::Result<()> {
        self.0.write_all(READY.as_bytes())
    }
}

/// Takes over what the parent process left us. Call it once, first thing, before anything opens descriptors.
///
/// # Errors
/// When the environment names what is no open descriptor, or is malformed.
pub fn inherited() -> anyhow::Result<(Inherited, Option<Predecessor>)> {
    if let Ok(value) = std::env::var(VARIABLE) {
        return from_predecessor(&value).with_context(|| format!("{VARIABLE}={value}"));
    }
    let mut inherited = Inherited::default();
    for (number, name) in sd_notify::listen_fds_with_names().context("LISTEN_FDS")? {
        let fd = inherit::take(number).with_context(|| format!("LISTEN_FDS: descriptor {number}"))?;
        if name == "metrics" {
            inherited.metrics = Some(fd);
        } else {
            inherited.dns.push(fd);
        }
    }
    Ok((inherited, None))
}

fn from_predecessor(value: &str) -> anyhow::Result<(Inherited, Option<Predecessor>)> {
    let mut inherited = Inherited { handover: true, ..Inherited::default() };
    let mut ready = None;
    for part in value.split_whitespace() {
        let Some((role, numbers)) = part.split_once('=') else {
            bail!("expected role=numbers, not \"{part}\"")
        };
        for number in numbers.split(',') {
            let number: RawFd = number.parse().with_context(|| format!("\"{number}\" is not a number"))?;
            let fd = inherit::take(number).with_context(|| format!("descriptor {number}"))?;
            match role {
                "ready" => ready = Some(Predecessor(fd.into())),
                "dns" => inherited.dns.push(fd),
                "metrics" => inherited.metrics = Some(fd),
                // A newer predecessor may pass more than we know; what we do not use is closed.
                _ => {}
            }
        }
    }
    Ok((inherited, ready))
}

/// The process that is to replace us, on its way.
#[derive(Debug)]
pub struct Successor {
    child: Child,
    ready: PipeReader,
}

impl Successor {
    /// Starts the program at `path` with our own arguments, and passes it the sockets. It runs under `confinement`, as
    /// we do, and is told so.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(
        path: &Path,
        dns: &[OwnedFd],
        metrics: Option<BorrowedFd<'_>>,
        confinement: &Confinement,
    ) -> anyhow::Result<Self> {
        let (ready, tell) = std::io::pipe()?;
        let mut value = format!("ready={}", tell.as_raw_fd());
        let numbers: Vec<String> = dns.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
        let _ = write!(value, " dns={}", numbers.join(","));
        if let Some(metrics) = metrics {
            let _ = write!(value, " metrics={}", metrics.as_raw_fd());
        }
        let passed: Vec<BorrowedFd<'_>> =
            dns.iter().map(AsFd::as_fd).chain(metrics).chain([tell.as_fd()]).collect();
        for fd in &passed {
            inherit::set_inheritable(*fd, true)?;
        }
        let child = Command::new(path)
            .args(std::env::args_os().skip(1))
            .env(VARIABLE, value)
            .env(sandbox::VARIABLE, confinement.to_string())
            .env_remove("LISTEN_FDS")
            .env_remove("LISTEN_PID")
            .env_remove("LISTEN_FDNAMES")
            // It names us; without it, the watchdog is for whoever the supervisor watches.
            .env_remove("WATCHDOG_PID")
            .spawn();
        for fd in &passed {
            inherit::set_inheritable(*fd, false)?;
        }
        let child = child.with_context(|| format!("starting {}", path.display()))?;
        Ok(Successor { child, ready })
    }

    /// Its process number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it says that it is ready. Blocks.
    ///
    /// # Errors
    /// When it ends or is silent for `timeout` (then it is ended): we go on.
    pub fn wait_ready(mut self, timeout: Duration) -> anyhow::Result<()> {
        let (line, heard) = std::sync::mpsc::channel();
        let ready = self.ready;
        std::thread::Builder::new().name("handover".to_owned()).spawn(move || {
            let mut text = String::new();
            let _ = BufReader::new(ready).read_line(&mut text);
            let _ = line.send(text);
        })?;
        let problem = match heard.recv_timeout(timeout) {
            Ok(text) if text == READY => return Ok(()),
            Ok(_) => "ended before it was ready".to_owned(),
            Err(_) => format!("was not ready within {} s", timeout.as_secs()),
        };
        let _ = self.child.kill();
        let status = self.child.wait()?;
        bail!("the new process {problem} ({status})");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_environment_names_must_be_open() {
        for value in ["dns=x", "dns", "dns=999999", "ready=1"] {
            assert!(from_predecessor(value).is_err(), "{value}");
        }
    }

    #[test]
    fn a_successor_that_fails_is_reported() {
        let alone = Confinement::default();
        let error = Successor::start(Path::new("/nonexistent/program"), &[], None, &alone).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/program"), "{error}");
        let successor = Successor::start(Path::new("/bin/false"), &[], None, &alone).unwrap();
        let error = successor.wait_ready(Duration::from_secs(30)).unwrap_err();
        assert!(error.to_string().contains("ended before it was ready"), "{error}");
    }
}
