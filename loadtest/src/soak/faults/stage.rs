//! Makes the faults: opens the windows for what they excuse, does them, waits for what must come back, and looks up afterwards
//! whether everything that was acknowledged is there.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::disk::SmallDisk;
use super::lock::WriteLock;
use super::{Fault, Happened};
use crate::data::draw::Draw;
use crate::data::{Source, Workload};
use crate::server::probe::{Probe, Prober};
use crate::soak::attackers::{ConnectionFlood, FLOOD};
use crate::soak::outages::{Excuse, Side};
use crate::soak::questions;
use crate::soak::sampler::{Watched, metric};
use crate::soak::servers::{Server, scrape, written_at};
use crate::soak::shared::Shared;
use crate::soak::verify;
use crate::soak::writers::Access;

/// Whatever must come back comes back in this, on a busy machine too.
const BACK: Duration = Duration::from_secs(60);
/// A local snapshot is written twenty times as long after the one before as that took, which on a busy machine is minutes.
pub const NEXT_SNAPSHOT: Duration = Duration::from_secs(600);
/// How often a server is asked for its metrics that does not answer at once.
const TRIES: usize = 5;
/// How often what is waited for is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// A snapshot holds what was served when its writing began; the time of a file is that of its end.
pub const WRITING: Duration = Duration::from_secs(2);
/// Latencies count for nothing so long after a fault.
const CALM_AFTER: Duration = Duration::from_secs(2);
/// Octets of a snapshot that are damaged.
const DAMAGES: usize = 8;
/// Connections of a flood that ended, at most: those of everybody else.
const AFTER_FLOOD: f64 = 300.0;
/// A fault that lasts takes at most this share of the time from one to the next.
const SHARE: f64 = 0.3;

const CURRENT: &str = "current.snapshot";
const PREVIOUS: &str = "previous.snapshot";
/// The local snapshots, the newest first.
pub const SNAPSHOTS: [&str; 2] = [CURRENT, PREVIOUS];

/// Everything that faults are made with.
pub struct Stage<'a> {
    /// What threads share.
    pub shared: &'a Shared,
    /// Where the API is.
    pub access: &'a Access,
    /// What the sampler looks at.
    pub watched: &'a Watched,
    /// The word for the flood of connections.
    pub flood: &'a ConnectionFlood,
    /// `godwit run`, `godwit-dataplane`.
    pub servers: &'a mut [Server; 2],
    /// Where the snapshots of `godwit run` lie, when that may be filled.
    pub disk: Option<&'a SmallDisk>,
    /// Seconds from one fault to the next.
    pub period: f64,
    probe: Probe,
    version: u32,
    draw: Draw,
}

impl<'a> Stage<'a> {
    /// Before the first fault.
    #[expect(clippy::too_many_arguments, reason = "each is another thing to make faults with")]
    #[must_use]
    pub fn new(
        shared: &'a Shared,
        access: &'a Access,
        watched: &'a Watched,
        flood: &'a ConnectionFlood,
        servers: &'a mut [Server; 2],
        disk: Option<&'a SmallDisk>,
        period: f64,
        source: &Source,
    ) -> Self {
        let probe = Probe::spread(source, Workload::Small, 1).remove(0);
        let draw = Draw::new(source.seed, "stage", 0);
        Stage { shared, access, watched, flood, servers, disk, period, probe, version: 0, draw }
    }

    /// Makes one fault, and waits until everything is as before.
    ///
    /// # Errors
    /// Something did not come back, or a server ended by itself.
    pub fn make(&mut self, fault: Fault) -> Result<Happened> {
        let at = self.shared.course.started.elapsed().as_secs_f64();
        self.shared.quiet.store(false, Ordering::Relaxed);
        let [answered, whole] = match fault {
            Fault::Kill => self.kill(&[]),
            Fault::DamagedSnapshot => self.kill(&[CURRENT]),
            Fault::DamagedSnapshots => self.kill(&SNAPSHOTS),
            Fault::Terminate => self.terminate(),
            Fault::Handover => self.hand_over(),
            Fault::Pause => self.pause(),
            Fault::Reload => self.reload().map(|seconds| [seconds; 2]),
            Fault::BrokenZone => self.break_zone(),
            Fault::Connections => self.flood_connections(),
            Fault::DiskFull => self.fill_disk(),
            Fault::LockedDatabase => self.lock_database(),
        }
        .with_context(|| format!("{fault}"))?;
        let _ = self.shared.course.wait(CALM_AFTER);
        self.shared.quiet.store(true, Ordering::Relaxed);
        Ok(Happened { fault, at, answered, whole })
    }

    /// An error once a server has ended by itself.
    ///
    /// # Errors
    /// One has.
    pub fn check_alive(&mut self) -> Result<()> {
        self.servers.iter_mut().try_for_each(Server::check_alive)
    }

    fn server(&mut self, side: Side) -> &mut Server {
        &mut self.servers[side as usize]
    }

    /// How long a fault lasts that lasts: some seconds, less where faults follow each other closely.
    fn some_seconds(&mut self, most: u64) -> Duration {
        let drawn = 1.0 + self.draw.below(most.max(2) * 1_000 - 1_000) as f64 / 1_000.0;
        Duration::from_secs_f64(drawn.min((self.period * SHARE).max(1.0)))
    }

    fn either(&mut self) -> Side {
        Side::BOTH[self.draw.below(2) as usize]
    }

    /// Kills `godwit run`, damages these of its snapshots, and brings it back.
    fn kill(&mut self, damaged: &[&str]) -> Result<[f64; 2]> {
        let snapshots = self.server(Side::Run).snapshots();
        // Where two are to be damaged, two must be there.
        wait_long_for("a local snapshot", NEXT_SNAPSHOT, self.shared, || {
            let there = |name: &&str| snapshots.join(name).is_file();
            Ok(there(&CURRENT) && damaged.iter().all(there))
        })?;
        self.shared.outages.open(Side::Run, Excuse::Everything);
        self.watched.set(Side::Run, None);
        let began = Instant::now();
        self.server(Side::Run).signal(Signal::SIGKILL)?;
        self.server(Side::Run).wait_end(false)?;
        // A kill between two renames leaves the older one alone.
        let good = SNAPSHOTS.into_iter().filter(|name| !damaged.contains(name));
        let floor = good.map(|name| written_at(&snapshots.join(name))).find_map(Result::ok);
        let floor = floor.and_then(|at| at.checked_sub(WRITING));
        for name in damaged {
            self.damage(&snapshots.join(name))?;
        }
        self.shared.outages.begin_catch_up(floor);
        let times = self.bring_back(began)?;
        if !damaged.is_empty() {
            let errors = self.metric(Side::Run, "godwit_dataplane_snapshot_errors_total")?;
            if errors < 1.0 {
                self.shared.course.fail("a damaged snapshot, and no metric says so");
            }
        }
        Ok(times)
    }

    fn damage(&mut self, path: &Path) -> Result<()> {
        let mut octets = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        anyhow::ensure!(!octets.is_empty(), "{} is empty", path.display());
        for _ in 0..DAMAGES {
            let place = self.draw.below(octets.len() as u64) as usize;
            octets[place] ^= 1 << self.draw.below(8);
        }
        fs::write(path, octets).with_context(|| format!("damaging {}", path.display()))
    }

    fn terminate(&mut self) -> Result<[f64; 2]> {
        self.shared.outages.open(Side::Run, Excuse::Everything);
        self.watched.set(Side::Run, None);
        let began = Instant::now();
        self.server(Side::Run).signal(Signal::SIGTERM)?;
        self.server(Side::Run).wait_end(true)?;
        // What was served when it stopped is in its snapshot: nothing older is excused.
        self.bring_back(began)
    }

    /// Starts `godwit run` again, waits for DNS and for the API, and looks up everything that changes.
    fn bring_back(&mut self, began: Instant) -> Result<[f64; 2]> {
        self.server(Side::Run).start()?;
        let pid = self.server(Side::Run).pid();
        self.watched.set(Side::Run, pid);
        let answered = self.await_answer(Side::Run, began)?;
        self.shared.outages.close(Side::Run);
        let _paused = verify::pause_writers(self.shared);
        let access = self.access;
        wait_for("the API", self.shared, || {
            let reload = |mut connection: crate::http::Connection| {
                connection.ask_within("POST", "/api/v1/reload", "", BACK)?.ok("reload")
            };
            Ok(access.connect().and_then(reload).is_ok())
        })?;
        verify::all_is_served(self.shared);
        self.shared.outages.end_catch_up();
        let whole = began.elapsed().as_secs_f64();
        verify::everything(self.shared, access)?;
        Ok([answered, whole])
    }

    /// Until any answer comes.
    fn await_answer(&mut self, side: Side, began: Instant) -> Result<f64> {
        let mut prober = Prober::connect(self.shared.dns[side as usize])?;
        let (probe, shared) = (self.probe.clone(), self.shared);
        let server = self.server(side);
        wait_for("an answer", shared, || {
            server.check_alive()?;
            Ok(prober.any(&probe).is_ok())
        })?;
        Ok(began.elapsed().as_secs_f64())
    }

    fn hand_over(&mut self) -> Result<[f64; 2]> {
        let began = Instant::now();
        self.server(Side::Dataplane).signal(Signal::SIGUSR2)?;
        self.server(Side::Dataplane).wait_successor()?;
        let pid = self.server(Side::Dataplane).pid();
        self.watched.set(Side::Dataplane, pid);
        let alone = began.elapsed().as_secs_f64();
        self.await_answer(Side::Dataplane, began)?;
        let metrics = self.server(Side::Dataplane).metrics;
        wait_for("the successor's metrics", self.shared, || Ok(scrape(metrics).is_ok()))?;
        Ok([alone, began.elapsed().as_secs_f64()])
    }

    fn pause(&mut self) -> Result<[f64; 2]> {
        let side = self.either();
        let time = self.some_seconds(4);
        self.shared.outages.open(side, Excuse::Everything);
        self.server(side).signal(Signal::SIGSTOP)?;
        let _ = self.shared.course.wait(time);
        let began = Instant::now();
        self.server(side).signal(Signal::SIGCONT)?;
        let answered = self.await_answer(side, began)?;
        self.shared.outages.close(side);
        Ok([answered; 2])
    }

    /// Writes the next version of the zone file and waits until it is served.
    fn reload(&mut self) -> Result<f64> {
        self.version += 1;
        let address = questions::address(self.version);
        let began = Instant::now();
        self.shared.histories(Side::Dataplane)[0].ask(Some(address), began);
        let text = zone_text(self.version);
        self.write_zone(&text)?;
        self.server(Side::Dataplane).signal(Signal::SIGHUP)?;
        let mut eye = verify::Eye::on_zone_file(self.shared)?;
        wait_for("the zone file's new version", self.shared, || Ok(eye.sees(address)))?;
        let now = Instant::now();
        self.shared.histories(Side::Dataplane)[0].acknowledge(true, now);
        Ok((now - began).as_secs_f64())
    }

    fn break_zone(&mut self) -> Result<[f64; 2]> {
        // Were any of it served, it would be a state that never was.
        let broken = zone_text(self.version + 1_000) + "broken.reload.test. 60 IN A not-an-address\n";
        let began = Instant::now();
        self.write_zone(&broken)?;
        self.server(Side::Dataplane).signal(Signal::SIGHUP)?;
        self.await_metric(Side::Dataplane, "godwit_dataplane_failed_zones", BACK, |failed| failed >= 1.0)?;
        let said = began.elapsed().as_secs_f64();
        let time = self.some_seconds(3);
        let _ = self.shared.course.wait(time);
        let whole = self.reload()?;
        self.await_metric(Side::Dataplane, "godwit_dataplane_failed_zones", BACK, |failed| failed < 1.0)?;
        Ok([said, whole])
    }

    fn write_zone(&mut self, text: &str) -> Result<()> {
        let path = zone_path(&self.server(Side::Dataplane).folder);
        let temporary = path.with_extension("new");
        fs::write(&temporary, text).with_context(|| format!("writing {}", temporary.display()))?;
        fs::rename(&temporary, &path).with_context(|| format!("writing {}", path.display()))
    }

    fn flood_connections(&mut self) -> Result<[f64; 2]> {
        let side = self.either();
        let time = self.some_seconds(8);
        self.shared.outages.open(side, Excuse::Tcp);
        self.flood.set(side, true);
        let end = Instant::now() + time;
        let mut most = 0.0_f64;
        while Instant::now() < end && self.shared.course.wait(Duration::from_millis(200)) {
            most = most.max(self.metric(side, "godwit_dataplane_tcp_connections")?);
        }
        if most > (FLOOD * 2 / 3) as f64 {
            self.shared.course.fail(&format!("{most} TCP connections, more than the server may have"));
        }
        self.flood.set(side, false);
        let began = Instant::now();
        self.await_metric(side, "godwit_dataplane_tcp_connections", BACK, |open| open < AFTER_FLOOD)?;
        self.shared.outages.close(side);
        Ok([began.elapsed().as_secs_f64(); 2])
    }

    fn fill_disk(&mut self) -> Result<[f64; 2]> {
        let disk = self.disk.context("no small disk")?;
        let errors = self.metric(Side::Run, "godwit_dataplane_snapshot_errors_total")?;
        disk.fill()?;
        let noticed =
            self.await_metric(Side::Run, "godwit_dataplane_snapshot_errors_total", NEXT_SNAPSHOT, |count| {
                count > errors
            });
        let written = self.metric(Side::Run, "godwit_dataplane_snapshots_written_total")?;
        disk.empty()?;
        noticed?;
        let began = Instant::now();
        self.await_metric(Side::Run, "godwit_dataplane_snapshots_written_total", NEXT_SNAPSHOT, |count| {
            count > written
        })?;
        Ok([began.elapsed().as_secs_f64(); 2])
    }

    fn lock_database(&mut self) -> Result<[f64; 2]> {
        let database = self.server(Side::Run).data().join("godwit.sqlite");
        // Long enough that some writes are refused, where there is time for that: writers wait five seconds for the lock.
        let time = self.some_seconds(8);
        let lock = WriteLock::take(&database)?;
        let _ = self.shared.course.wait(time);
        drop(lock);
        let began = Instant::now();
        let before = self.shared.writes().acknowledged;
        wait_for("a write", self.shared, || Ok(self.shared.writes().acknowledged > before))?;
        Ok([began.elapsed().as_secs_f64(); 2])
    }

    fn metric(&mut self, side: Side, name: &str) -> Result<f64> {
        let metrics = self.server(side).metrics;
        let text = (0..TRIES).find_map(|_| scrape(metrics).ok());
        text.and_then(|text| metric(&text, name)).with_context(|| format!("no metric {name}"))
    }

    fn await_metric(
        &mut self,
        side: Side,
        name: &str,
        time: Duration,
        good: impl Fn(f64) -> bool,
    ) -> Result<()> {
        let metrics = self.server(side).metrics;
        wait_long_for(name, time, self.shared, || {
            let found = scrape(metrics).ok().and_then(|text| metric(&text, name));
            Ok(found.is_some_and(&good))
        })
    }
}

/// Where the zone file lies that changes, in the data plane's folder.
#[must_use]
pub fn zone_path(folder: &Path) -> PathBuf {
    folder.join("reload.zone")
}

/// The zone file that changes, as text.
#[must_use]
pub fn zone_text(version: u32) -> String {
    questions::reloaded_zone(version).iter().map(|record| format!("{record}\n")).collect()
}

/// The state of the zone file at the start of a run.
#[must_use]
pub fn first_address() -> Ipv4Addr {
    questions::address(0)
}

/// Looks until it is there; an end that the user asked for is an error, too.
fn wait_for(what: &str, shared: &Shared, look: impl FnMut() -> Result<bool>) -> Result<()> {
    wait_long_for(what, BACK, shared, look)
}

fn wait_long_for(
    what: &str,
    time: Duration,
    shared: &Shared,
    mut look: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let end = Instant::now() + time;
    while !look()? {
        anyhow::ensure!(Instant::now() < end, "{what} did not come in {time:?}");
        anyhow::ensure!(shared.course.wait(LOOK_EVERY), "interrupted");
    }
    Ok(())
}
