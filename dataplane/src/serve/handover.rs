//! Sockets inherited and handed on, so that a restart loses no query: the new process reads the same sockets, with
//! what is queued in them, as soon as the old one has stopped to.
//!
//! Two ways in: a supervisor's `LISTEN_FDS`, `LISTEN_PID` and `LISTEN_FDNAMES` (a socket named `metrics` serves
//! metrics), and our own `GODWIT_HANDOVER=ready=N go=N dns=N,N,… metrics=N`, by which a running data plane passes its
//! descriptors to its successor. When the successor has loaded everything it writes one line on `ready`, and waits until
//! `go` is closed: then nobody answers from what was there before, so that no client sees a zone go back to an older
//! version. What comes in between waits in the sockets, some milliseconds. (A predecessor that knows no `go` stops
//! by itself when it reads the line.)

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::sockets::Inherited;
use crate::sys::inherit;

const VARIABLE: &str = "GODWIT_HANDOVER";
const READY: &str = "ready\n";

/// How long a successor that is ready waits for its predecessor to stop answering.
const GO_LIMIT: Duration = Duration::from_secs(10);
/// How often somebody who waits for a successor looks whether that was called off.
const CALL_OFF_LOOK: Duration = Duration::from_millis(20);

/// The process before us, on two pipes.
#[derive(Debug)]
pub struct Predecessor {
    ready: File,
    go: Option<File>,
}

impl Predecessor {
    /// Says that we are ready, and waits until the process before us no longer reads the sockets. Blocks.
    pub fn relieve(mut self) {
        if let Err(error) = self.ready.write_all(READY.as_bytes()) {
            tracing::warn!(%error, "the process before us is gone already");
            return;
        }
        let Some(mut go) = self.go else { return };
        let (closed, heard) = std::sync::mpsc::channel();
        let waiting = std::thread::Builder::new().name("handover".to_owned()).spawn(move || {
            // Nothing is ever written: it ends with the other end, which ends with its process at the latest.
            let _ = closed.send(go.read(&mut [0]));
        });
        if waiting.is_err() || heard.recv_timeout(GO_LIMIT).is_err() {
            tracing::warn!("the process before us does not stop answering; we begin beside it");
        }
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
    let (mut ready, mut go) = (None, None);
    for part in value.split_whitespace() {
        let Some((role, numbers)) = part.split_once('=') else {
            bail!("expected role=numbers, not \"{part}\"")
        };
        for number in numbers.split(',') {
            let number: RawFd = number.parse().with_context(|| format!("\"{number}\" is not a number"))?;
            let fd = inherit::take(number).with_context(|| format!("descriptor {number}"))?;
            match role {
                "ready" => ready = Some(File::from(fd)),
                "go" => go = Some(File::from(fd)),
                "dns" => inherited.dns.push(fd),
                "metrics" => inherited.metrics = Some(fd),
                // A newer predecessor may pass more than we know; what we do not use is closed.
                _ => {}
            }
        }
    }
    Ok((inherited, ready.map(|ready| Predecessor { ready, go })))
}

/// The process that is to replace us, on its way.
#[derive(Debug)]
pub struct Successor {
    child: Child,
    ready: PipeReader,
    go: PipeWriter,
}

/// A successor that has loaded everything and waits. Dropping this lets it begin.
#[derive(Debug)]
pub struct Waiting {
    id: u32,
    _go: PipeWriter,
}

impl Waiting {
    /// Its process number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }
}

impl Successor {
    /// Starts the program at `path` with our own arguments, and passes it the sockets.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(path: &Path, dns: &[OwnedFd], metrics: Option<BorrowedFd<'_>>) -> anyhow::Result<Self> {
        let (ready, tell) = std::io::pipe()?;
        let (wait, go) = std::io::pipe()?;
        let mut value = format!("ready={} go={}", tell.as_raw_fd(), wait.as_raw_fd());
        let numbers: Vec<String> = dns.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
        let _ = write!(value, " dns={}", numbers.join(","));
        if let Some(metrics) = metrics {
            let _ = write!(value, " metrics={}", metrics.as_raw_fd());
        }
        let passed: Vec<BorrowedFd<'_>> =
            dns.iter().map(AsFd::as_fd).chain(metrics).chain([tell.as_fd(), wait.as_fd()]).collect();
        for fd in &passed {
            inherit::set_inheritable(*fd, true)?;
        }
        let child = Command::new(path)
            .args(std::env::args_os().skip(1))
            .env(VARIABLE, value)
            .env_remove("LISTEN_FDS")
            .env_remove("LISTEN_PID")
            .env_remove("LISTEN_FDNAMES")
            .spawn();
        for fd in &passed {
            inherit::set_inheritable(*fd, false)?;
        }
        let child = child.with_context(|| format!("starting {}", path.display()))?;
        Ok(Successor { child, ready, go })
    }

    /// Its process number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it says that it is ready. Blocks.
    ///
    /// # Errors
    /// When it ends, is silent for `timeout`, or is called off (then it is ended): we go on.
    pub fn wait_ready(mut self, timeout: Duration, called_off: &AtomicBool) -> anyhow::Result<Waiting> {
        let (line, heard) = std::sync::mpsc::channel();
        let ready = self.ready;
        std::thread::Builder::new().name("handover".to_owned()).spawn(move || {
            let mut text = String::new();
            let _ = BufReader::new(ready).read_line(&mut text);
            let _ = line.send(text);
        })?;
        let deadline = Instant::now() + timeout;
        let problem = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match heard.recv_timeout(left.min(CALL_OFF_LOOK)) {
                Ok(text) if text == READY => return Ok(Waiting { id: self.child.id(), _go: self.go }),
                Ok(_) => break "ended before it was ready".to_owned(),
                Err(_) if called_off.load(Ordering::Relaxed) => break "was called off".to_owned(),
                Err(_) if left.is_zero() => {
                    break format!("was not ready within {} s", timeout.as_secs_f32());
                }
                Err(_) => {}
            }
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
        let error = Successor::start(Path::new("/nonexistent/program"), &[], None).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/program"), "{error}");
        let successor = Successor::start(Path::new("/bin/false"), &[], None).unwrap();
        let error = successor.wait_ready(Duration::from_secs(30), &AtomicBool::new(false)).unwrap_err();
        assert!(error.to_string().contains("ended before it was ready"), "{error}");
    }
}
