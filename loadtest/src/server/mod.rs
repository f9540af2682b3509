//! Servers as processes of this run: started pinned, waited for until they answer rightly, ended with it.

pub mod bound;
pub mod echo;
pub mod kind;
pub mod probe;
pub mod setup;

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use self::kind::Kind;
use self::setup::Setup;
use crate::data::files::ZoneFile;
use crate::{cpu, interrupt};

/// The CPU of the server under test.
pub const SERVER_CPU: usize = 0;
/// The CPU of the generator.
pub const GENERATOR_CPU: usize = 1;
/// The slowest peer loads the largest data in a tenth of this.
const START: Duration = Duration::from_secs(180);
/// After SIGTERM.
const STOP: Duration = Duration::from_secs(10);

/// A server that answers. Dropping it ends it and removes its folder.
#[derive(Debug)]
pub struct Running {
    /// Which one.
    pub kind: Kind,
    /// Where it listens, UDP and TCP.
    pub address: SocketAddr,
    /// From start to the first right answers.
    pub load_seconds: f64,
    /// Its command and configuration.
    pub configuration: String,
    child: Child,
    folder: PathBuf,
}

impl Running {
    /// Starts the server on [`SERVER_CPU`] with these zones and waits until it gives the right answer to every probe.
    ///
    /// # Errors
    /// It cannot be started, ends by itself, or gives no right answer in time: with the end of what it printed.
    pub fn start(
        kind: Kind,
        program: &Path,
        work: &Path,
        zones: &[ZoneFile],
        probes: &[probe::Probe],
    ) -> Result<Running> {
        let started = Instant::now();
        let mut running = Running::launch(kind, program, work, &Setup::local(zones))?;
        running.await_answers(started, probes)?;
        running.load_seconds = started.elapsed().as_secs_f64();
        Ok(running)
    }

    /// Starts the server on [`SERVER_CPU`] and does not wait for it.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn launch(kind: Kind, program: &Path, work: &Path, setup: &Setup<'_>) -> Result<Running> {
        Running::launch_with(kind, program, work, setup, &[])
    }

    /// Likewise, with these variables in its environment.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn launch_with(
        kind: Kind,
        program: &Path,
        work: &Path,
        setup: &Setup<'_>,
        environment: &[(&str, &str)],
    ) -> Result<Running> {
        let port = free_port()?;
        let folder = work.join(format!("{}-{port}", kind.name().replace(' ', "-").to_lowercase()));
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let folder = folder.canonicalize()?;
        let (mut command, configuration) = kind.prepare(program, &folder, port, setup)?;
        if kind == Kind::Powerdns && setup.signed() {
            setup::presign(&folder, setup.zones)?;
        }
        let output = File::create(folder.join("output"))?;
        command.stdout(output.try_clone()?).stderr(output).current_dir(&folder);
        command.envs(environment.iter().copied());
        // Affinity is inherited: the server is born on its CPU.
        cpu::pin(SERVER_CPU)?;
        let spawned = command.spawn();
        cpu::pin(GENERATOR_CPU)?;
        let child = spawned.with_context(|| format!("starting {}", program.display()))?;
        let address = SocketAddr::from((setup.address, port));
        Ok(Running { kind, address, load_seconds: 0.0, configuration, child, folder })
    }

    /// Waits until every probe is answered rightly.
    ///
    /// # Errors
    /// The server ends by itself or gives no right answer in time; the user interrupted.
    pub fn await_answers(&mut self, started: Instant, probes: &[probe::Probe]) -> Result<()> {
        let mut prober = probe::Prober::connect(self.address)?;
        for one in probes {
            loop {
                interrupt::check()?;
                let verdict = if self.kind == Kind::Echo { prober.any(one) } else { prober.right(one) };
                let reason = match verdict {
                    Ok(()) => break,
                    Err(reason) => reason,
                };
                self.check_alive()?;
                if started.elapsed() > START {
                    bail!(
                        "{} gave no right answer to {} {} in {START:?}: {reason}\n{}",
                        self.kind.name(),
                        one.question.name,
                        one.question.qtype,
                        self.output_end()
                    );
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    }

    /// An error with the end of its output once the server has ended by itself.
    ///
    /// # Errors
    /// It has.
    pub fn check_alive(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended with {status}:\n{}", self.kind.name(), self.output_end());
        }
        Ok(())
    }

    /// All its processes.
    #[must_use]
    pub fn processes(&self) -> Vec<i32> {
        i32::try_from(self.child.id()).map(cpu::tree).unwrap_or_default()
    }

    /// What it has printed so far.
    #[must_use]
    pub fn output(&self) -> String {
        let output = fs::read(self.folder.join("output")).unwrap_or_default();
        String::from_utf8_lossy(&output).into_owned()
    }

    fn output_end(&self) -> String {
        let output = self.output();
        let lines: Vec<&str> = output.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let processes = self.processes();
        let root = processes.first().copied().unwrap_or_default();
        if root > 0 && matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill(Pid::from_raw(root), Signal::SIGTERM);
            let end = Instant::now() + STOP;
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(10));
            }
            if matches!(self.child.try_wait(), Ok(None)) {
                eprintln!("{} did not end on SIGTERM and is killed", self.kind.name());
                for process in processes {
                    let _ = kill(Pid::from_raw(process), Signal::SIGKILL);
                }
                let _ = self.child.wait();
            }
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A port free for both UDP and TCP a moment ago, the two after it free for TCP, outside the range that connections take theirs from:
/// a server that is started again finds it free still.
///
/// # Errors
/// None is free.
pub fn free_port() -> Result<u16> {
    Ok(free_ports(1)?[0])
}

/// As many of them, each different.
///
/// # Errors
/// So many are not free.
pub fn free_ports(count: usize) -> Result<Vec<u16>> {
    // Each process starts elsewhere, so that two runs at the same time do not race for the same ports.
    let first = std::process::id() % 1_000;
    let free: Vec<u16> = (0..1_000)
        .filter_map(|step| u16::try_from(20_000 + (first * 7 + step) % 1_000 * 10).ok())
        .filter(|&port| {
            UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
                && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
                && TcpListener::bind((Ipv4Addr::LOCALHOST, port + 1)).is_ok()
                && TcpListener::bind((Ipv4Addr::LOCALHOST, port + 2)).is_ok()
        })
        .take(count)
        .collect();
    anyhow::ensure!(free.len() == count, "{count} ports are not free between 20000 and 30000");
    Ok(free)
}
