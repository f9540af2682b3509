//! One program of a cluster as a process that is killed, stopped and started again with the same words.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::server::bound::parent_bound;

/// Asked to stop, a program gets so long.
const STOP: Duration = Duration::from_secs(60);
/// How often what is waited for is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// See the module. It ends when dropped.
#[derive(Debug)]
pub struct Process {
    /// What it is called here.
    pub name: String,
    log: PathBuf,
    words: Vec<OsString>,
    /// Another user that it runs as.
    user: Option<&'static str>,
    child: Option<Child>,
}

impl Process {
    /// Of this command line, with what it prints in a file of the folder; not started.
    #[must_use]
    pub fn new(name: &str, folder: &Path, words: Vec<OsString>) -> Process {
        let log = folder.join(format!("{name}.log"));
        Process { name: name.to_owned(), log, words, user: None, child: None }
    }

    /// Runs as another user, which only root may have it do.
    #[must_use]
    pub fn as_user(mut self, user: Option<&'static str>) -> Process {
        self.user = user;
        self
    }

    /// From the next start on it is this program, with the same arguments.
    pub fn become_program(&mut self, program: OsString) {
        self.words[0] = program;
    }

    /// Where what it printed is.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// What it has printed so far, all starts.
    #[must_use]
    pub fn output(&self) -> String {
        fs::read(&self.log).map(|octets| String::from_utf8_lossy(&octets).into_owned()).unwrap_or_default()
    }

    /// Starts it and does not wait for it. The kernel ends it with the thread that calls this.
    ///
    /// # Errors
    /// It cannot be started, or runs.
    pub fn start(&mut self) -> Result<()> {
        anyhow::ensure!(self.child.is_none(), "{} runs already", self.name);
        let (program, arguments) = self.words.split_first().context("no program")?;
        let mut command = parent_bound(Path::new(program), self.user);
        command.args(arguments);
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        self.child = Some(command.spawn().with_context(|| format!("starting {}", self.name))?);
        Ok(())
    }

    /// Whether it was started and not ended by us.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.child.is_some()
    }

    /// The process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        self.child.as_ref().and_then(|child| i32::try_from(child.id()).ok())
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// It is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.pid().with_context(|| format!("{} does not run", self.name))?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("sending {signal} to {}", self.name))
    }

    /// SIGKILL, and its end.
    ///
    /// # Errors
    /// It is gone already.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.child.take().context("no process")?.wait()?;
        Ok(())
    }

    /// Asks it to stop by SIGTERM (or what else it takes for that), and waits; what does not end is killed.
    ///
    /// # Errors
    /// It does not end as it should.
    pub fn stop(&mut self, signal: Signal) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let pid = Pid::from_raw(i32::try_from(child.id())?);
        let _ = kill(pid, Signal::SIGCONT);
        let _ = kill(pid, signal);
        let end = Instant::now() + STOP;
        while Instant::now() < end {
            if let Some(status) = child.try_wait()? {
                anyhow::ensure!(status.success(), "{} was asked to stop: {status}", self.name);
                return Ok(());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let _ = child.kill();
        let _ = child.wait();
        bail!("{} did not end in {STOP:?}", self.name)
    }

    /// An error once it has ended by itself.
    ///
    /// # Errors
    /// It has.
    pub fn check_alive(&mut self) -> Result<()> {
        let Some(child) = &mut self.child else { return Ok(()) };
        let Some(status) = child.try_wait()? else { return Ok(()) };
        self.child = None;
        let how = status.signal().map_or(status.to_string(), |signal| format!("signal {signal}"));
        bail!("{} ended by itself ({how}); its log: {}", self.name, self.log.display())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
