//! The two servers of a run as processes that are killed, stopped, started again at the same addresses with the same data, and
//! hand over to a successor. What they print is kept, each start's behind the one before.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::attackers::FLOOD;
use super::outages::Side;
use crate::http::Connection;
use crate::server::bound::parent_bound;
use crate::server::kind::Kind;
use crate::server::{self, GENERATOR_CPU, SERVER_CPU};
use crate::{api, cpu};

/// Connections that a server may have: fewer than the flood of connections brings, more than everybody else.
const TCP_CONNECTIONS: usize = FLOOD * 2 / 3;
/// Everything but a line for each request: those of a day would fill a disk.
const LOG: &str = "info,godwit_controlplane::api=warn";
/// Asked to stop, it gets so long: connections may take five seconds to end, and the machine may be busy.
pub const STOP: Duration = Duration::from_secs(60);
/// Metrics come at once, or the server stands still.
const SCRAPE: Duration = Duration::from_secs(2);
/// How often what is waited for is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// One of the servers.
#[derive(Debug)]
pub struct Server {
    /// Which one.
    pub side: Side,
    /// Where it answers.
    pub dns: SocketAddr,
    /// Where its API is, if it has one.
    pub api: SocketAddr,
    /// Where its metrics are.
    pub metrics: SocketAddr,
    /// Its folder: data and logs.
    pub folder: PathBuf,
    program: PathBuf,
    process: Process,
}

/// The process that serves now.
#[derive(Debug)]
enum Process {
    None,
    /// Started by us.
    Child(Child),
    /// Started by its predecessor in a hand-over, and ours since that ended.
    Adopted(Pid),
}

impl Server {
    /// Where everything will be; nothing is started.
    ///
    /// # Errors
    /// The program is not beside this one, or there is no free port.
    pub fn new(side: Side, work: &Path) -> Result<Self> {
        let kind = if side == Side::Run { Kind::GodwitRun } else { Kind::Godwit };
        let program = kind.program().with_context(|| {
            format!(
                "{} is not beside this program: cargo build --release -p godwit -p godwit-dataplane",
                side.name()
            )
        })?;
        let folder = work.join(side.name().replace(' ', "-"));
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let port = server::free_port()?;
        let at = |offset: u16| SocketAddr::from(([127, 0, 0, 1], port + offset));
        Ok(Server { side, dns: at(0), api: at(1), metrics: at(2), folder, program, process: Process::None })
    }

    /// The data folder of `godwit run`, or the state folder of the data plane.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.join(if self.side == Side::Run { "data" } else { "state" })
    }

    /// The folder of the local snapshot.
    #[must_use]
    pub fn snapshots(&self) -> PathBuf {
        if self.side == Side::Run { self.data().join("snapshot") } else { self.data() }
    }

    /// The list of zones that the data plane serves.
    #[must_use]
    pub fn zone_list(&self) -> PathBuf {
        self.folder.join("zones.conf")
    }

    /// What it has printed so far, all starts.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// What it has printed so far.
    #[must_use]
    pub fn output(&self) -> String {
        fs::read(self.log()).map(|octets| String::from_utf8_lossy(&octets).into_owned()).unwrap_or_default()
    }

    /// Its version, one line.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn version(&self) -> Result<String> {
        Kind::Godwit.version(&self.program)
    }

    /// Starts it, on the servers' CPU, and does not wait for it. The thread that calls this must live as long as the run: the
    /// kernel ends the server with it.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&mut self) -> Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(self.log())?;
        let mut command = self.command();
        // Ctrl-C on a terminal is for the run alone, which ends its servers in order.
        command.process_group(0);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).current_dir(&self.folder);
        cpu::pin(SERVER_CPU)?;
        let spawned = command.spawn();
        cpu::pin(GENERATOR_CPU)?;
        self.process =
            Process::Child(spawned.with_context(|| format!("starting {}", self.program.display()))?);
        Ok(())
    }

    fn command(&self) -> Command {
        let mut command = parent_bound(&self.program, None);
        let data = self.data();
        match self.side {
            Side::Run => command.args(["run", "--dns"]).arg(self.dns.to_string()).arg("--data").arg(data),
            Side::Dataplane => command
                .arg("--listen")
                .arg(self.dns.to_string())
                .arg("--state")
                .arg(data)
                .arg("--zones")
                .arg(self.zone_list()),
        };
        if self.side == Side::Run {
            command.arg("--api").arg(self.api.to_string());
        }
        // Two workers, so that what one of them shows and the other not is seen.
        command.args(["--workers", "2", "--metrics"]).arg(self.metrics.to_string());
        command.env("GODWIT_TCP__MAX_CONNECTIONS", TCP_CONNECTIONS.to_string());
        command.env("GODWIT_LOG__LEVEL", LOG);
        command
    }

    /// The process that serves; none when none was started.
    #[must_use]
    pub fn pid(&self) -> Option<Pid> {
        match &self.process {
            Process::None => None,
            Process::Child(child) => i32::try_from(child.id()).ok().map(Pid::from_raw),
            Process::Adopted(pid) => Some(*pid),
        }
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// It is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.pid().context("no process")?;
        kill(pid, signal).with_context(|| format!("sending {signal} to {}", self.side.name()))
    }

    /// How it ended, if it did.
    fn ended(&mut self) -> Result<Option<String>> {
        match &mut self.process {
            Process::None => Ok(Some("was not started".to_owned())),
            Process::Child(child) => {
                let status = child.try_wait()?;
                Ok(status.map(|status| match (status.code(), status.signal()) {
                    (Some(0), _) => String::new(),
                    (_, Some(signal)) => format!("signal {signal}"),
                    _ => status.to_string(),
                }))
            }
            Process::Adopted(pid) => match waitpid(*pid, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => Ok(None),
                Ok(WaitStatus::Exited(_, 0)) => Ok(Some(String::new())),
                Ok(status) => Ok(Some(format!("{status:?}"))),
                Err(error) => Err(error).context("waiting for a successor"),
            },
        }
    }

    /// An error once it has ended by itself.
    ///
    /// # Errors
    /// It has.
    pub fn check_alive(&mut self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(how) => {
                self.process = Process::None;
                bail!("{} ended by itself ({how}); its log: {}", self.side.name(), self.log().display())
            }
        }
    }

    /// Waits for its end, which was asked for. An orderly stop must have the exit code 0.
    ///
    /// # Errors
    /// It does not end in time, or not as it should.
    pub fn wait_end(&mut self, orderly: bool) -> Result<()> {
        let end = Instant::now() + STOP;
        loop {
            if let Some(how) = self.ended()? {
                self.process = Process::None;
                anyhow::ensure!(!orderly || how.is_empty(), "{} was asked to stop: {how}", self.side.name());
                return Ok(());
            }
            anyhow::ensure!(Instant::now() < end, "{} did not end in {STOP:?}", self.side.name());
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// The data plane's successor after SIGUSR2: another process of the same program with the same folder, alone.
    ///
    /// # Errors
    /// It does not come in time.
    pub fn wait_successor(&mut self) -> Result<()> {
        let before = self.pid().context("no process")?;
        let end = Instant::now() + STOP;
        let mut over = false;
        loop {
            over = over || self.ended()?.is_some();
            let others: Vec<Pid> = self.processes()?.into_iter().filter(|pid| *pid != before).collect();
            if let ([pid], true) = (&others[..], over) {
                self.process = Process::Adopted(*pid);
                return Ok(());
            }
            anyhow::ensure!(
                Instant::now() < end,
                "{} was not succeeded in {STOP:?} (its end: {over}, others: {others:?})",
                self.side.name()
            );
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Processes that have this server's folder among their arguments.
    fn processes(&self) -> io::Result<Vec<Pid>> {
        let folder = self.data().display().to_string();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if arguments.split(|octet| *octet == 0).any(|argument| argument == folder.as_bytes()) {
                found.push(Pid::from_raw(pid));
            }
        }
        Ok(found)
    }

    /// The token of its first start, once it is printed.
    ///
    /// # Errors
    /// It ended, or printed none in time.
    pub fn token(&mut self) -> Result<String> {
        let end = Instant::now() + STOP;
        loop {
            crate::interrupt::check()?;
            if let Some(token) = api::token_in(&self.output()) {
                return Ok(token.to_owned());
            }
            self.check_alive()?;
            anyhow::ensure!(Instant::now() < end, "no admin token in {STOP:?}: {}", self.log().display());
            std::thread::sleep(LOOK_EVERY * 10);
        }
    }

    /// Asks it to stop and waits; what does not end is killed.
    ///
    /// # Errors
    /// It did not end as it should.
    pub fn stop(&mut self) -> Result<()> {
        if self.pid().is_none() {
            return Ok(());
        }
        // A stopped process takes no SIGTERM before it goes on.
        let asked = self.signal(Signal::SIGCONT).and_then(|()| self.signal(Signal::SIGTERM));
        asked.and_then(|()| self.wait_end(true))
    }
}

/// The metrics at an address, as text.
///
/// # Errors
/// Nobody answers in time.
pub fn scrape(metrics: SocketAddr) -> Result<String> {
    let response = Connection::open(metrics, "")?.ask_within("GET", "/metrics", "", SCRAPE)?;
    Ok(response.ok("metrics")?.text())
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("{}: {error:#}", self.side.name());
        }
        for pid in self.processes().unwrap_or_default() {
            let _ = kill(pid, Signal::SIGKILL);
            let _ = waitpid(pid, None);
        }
    }
}

/// When a file was last written, on the clock that everything here is measured by.
///
/// # Errors
/// It is not there.
pub fn written_at(path: &Path) -> Result<Instant> {
    let modified = File::open(path).and_then(|file| file.metadata()).and_then(|metadata| metadata.modified());
    let age =
        modified.with_context(|| format!("looking at {}", path.display()))?.elapsed().unwrap_or_default();
    Instant::now().checked_sub(age).context("a file from before the clock began")
}
