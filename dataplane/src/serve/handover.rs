//! Sockets inherited and handed on, so that a restart loses no query: the new process reads the same sockets, with
//! what is queued in them, as soon as the old one has stopped to.
//!
//! Two ways in: a supervisor's `LISTEN_FDS`, `LISTEN_PID` and `LISTEN_FDNAMES` (a socket named `metrics` serves
//! metrics), and our own `GODWIT_HANDOVER=ready=N go=N dns=N,N,… metrics=N`, by which a running data plane passes its
//! descriptors to its successor. When the successor is closed in, has loaded everything and has all its threads, it writes one
//! line on `ready`, and waits until `go` is closed: then nobody answers from what was there before, so that no client
//! sees a zone go back to an older version. What comes in between waits in the sockets, some milliseconds. (A
//! predecessor that knows no `go` stops by itself when it reads the line.)
//!
//! Whoever dies leaves the other with the sockets: a pipe ends with its process. A successor without a predecessor
//! begins, a predecessor without a successor goes on.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::sockets::Inherited;
use crate::sandbox::{self, Confinement};
use crate::sys::inherit;
use crate::sys::readiness::{Interest, wait_for};

const VARIABLE: &str = "GODWIT_HANDOVER";
/// Shorter than what a pipe keeps together: it is read whole or not at all.
const READY: &[u8] = b"ready\n";
/// How often somebody who waits for a successor looks whether that was called off.
const CALL_OFF_LOOK: Duration = Duration::from_millis(20);

/// The process before us, on two pipes.
#[derive(Debug)]
pub struct Predecessor {
    ready: File,
    go: Option<File>,
}

impl Predecessor {
    /// Says that we are ready, and waits until the process before us no longer reads the sockets, at most `limit`:
    /// one that hangs is no reason for nobody to answer. Blocks.
    pub fn relieve(mut self, limit: Duration) {
        if let Err(error) = self.ready.write_all(READY) {
            tracing::warn!(%error, "the process before us is gone already");
            return;
        }
        let Some(go) = self.go else { return };
        tracing::info!("ready; the process before us is to stop answering");
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // Nothing is ever written: what can be read is the end, which comes with that of its process at the latest.
            if wait_for(go.as_fd(), Interest::Read, left) {
                return;
            }
            if left.is_zero() {
                tracing::warn!("the process before us does not stop answering; we begin beside it");
                return;
            }
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

/// A successor that has loaded everything and waits. It begins at the latest when this is dropped.
#[derive(Debug)]
pub struct Waiting {
    child: Child,
    go: PipeWriter,
}

impl Waiting {
    /// Its process number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Lets it begin.
    pub fn begin(self) {
        drop(self.go);
    }

    /// Ends it, before it has answered anything.
    pub fn end(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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
        let deadline = Instant::now() + timeout;
        let problem = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if wait_for(self.ready.as_fd(), Interest::Read, left.min(CALL_OFF_LOOK)) {
                break match self.says_ready() {
                    // One that was killed since then does not take over.
                    true if self.child.try_wait()?.is_none() => {
                        return Ok(Waiting { child: self.child, go: self.go });
                    }
                    true => "ended when it was ready".to_owned(),
                    false => "ended before it was ready".to_owned(),
                };
            }
            if called_off.load(Ordering::Relaxed) {
                break "was called off".to_owned();
            }
            if left.is_zero() {
                break format!("was not ready within {} s", timeout.as_secs_f32());
            }
        };
        let _ = self.child.kill();
        let status = self.child.wait()?;
        bail!("the new process {problem} ({status})");
    }

    /// Whether what came is the line, and not its end or something else.
    fn says_ready(&mut self) -> bool {
        let mut line = [0; READY.len()];
        self.ready.read(&mut line).is_ok_and(|len| line[..len] == *READY)
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
        let error = successor.wait_ready(MINUTE, &AtomicBool::new(false)).unwrap_err();
        assert!(error.to_string().contains("ended before it was ready"), "{error}");
    }

    const MINUTE: Duration = Duration::from_mins(1);

    /// A process that says nothing, and the ends of the pipes by which it could.
    fn silent() -> (Successor, PipeWriter, PipeReader) {
        let (ready, tell) = std::io::pipe().unwrap();
        let (wait, go) = std::io::pipe().unwrap();
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        (Successor { child, ready, go }, tell, wait)
    }

    #[test]
    fn a_successor_that_is_not_ready_is_ended() {
        for (timeout, called_off, says, expected) in [
            (Duration::ZERO, false, &b""[..], "was not ready within 0 s"),
            (MINUTE, true, b"", "was called off"),
            (MINUTE, false, b"hello", "ended before it was ready"),
        ] {
            let (successor, mut tell, _wait) = silent();
            tell.write_all(says).unwrap();
            let error = successor.wait_ready(timeout, &AtomicBool::new(called_off)).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert!(error.to_string().contains("signal: 9"), "{error}");
        }
    }

    #[test]
    fn a_successor_that_ended_when_it_was_ready_is_not_waited_for() {
        let (mut successor, mut tell, _wait) = silent();
        tell.write_all(READY).unwrap();
        successor.child.kill().unwrap();
        // Not reaped, as it is not when nobody has looked.
        let stat = format!("/proc/{}/stat", successor.id());
        while !std::fs::read_to_string(&stat).unwrap().contains(") Z ") {
            std::thread::sleep(Duration::from_millis(1));
        }
        let error = successor.wait_ready(MINUTE, &AtomicBool::new(false)).unwrap_err();
        assert!(error.to_string().contains("ended when it was ready"), "{error}");
    }

    #[test]
    fn a_successor_begins_when_it_is_let_and_not_before() {
        let (successor, tell, wait) = silent();
        let (ready, go) = (File::from(OwnedFd::from(tell)), File::from(OwnedFd::from(wait)));
        let begun = std::sync::Arc::new(AtomicBool::new(false));
        let process = {
            let begun = std::sync::Arc::clone(&begun);
            std::thread::spawn(move || {
                Predecessor { ready, go: Some(go) }.relieve(MINUTE);
                begun.store(true, Ordering::Relaxed);
            })
        };
        let Waiting { mut child, go } = successor.wait_ready(MINUTE, &AtomicBool::new(false)).unwrap();
        assert!(!begun.load(Ordering::Relaxed));
        drop(go);
        process.join().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_successor_of_a_process_that_is_gone_or_hangs_begins() {
        // Gone, before it could be told or after; and hanging, until our patience ends.
        let pipes = || (std::io::pipe().unwrap(), std::io::pipe().unwrap());
        let predecessor = |tell: PipeWriter, wait: PipeReader| Predecessor {
            ready: OwnedFd::from(tell).into(),
            go: Some(OwnedFd::from(wait).into()),
        };
        let ((ready, tell), (wait, go)) = pipes();
        drop((ready, go));
        predecessor(tell, wait).relieve(MINUTE);
        let ((_ready, tell), (wait, go)) = pipes();
        drop(go);
        predecessor(tell, wait).relieve(MINUTE);
        let ((_ready, tell), (wait, _go)) = pipes();
        predecessor(tell, wait).relieve(Duration::from_millis(5));
    }
}
