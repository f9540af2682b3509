//! Makes faults, one at a time, and undoes them. Kills and stops land while a write is under way.

use std::ffi::OsString;
use std::fs;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::faults::Fault;
use super::heal;
use super::shared::{Shared, Watched};
use super::watchers::{Asker, Said};
use crate::cluster::{CONTROLS, Cluster, LOOK_EVERY, NODES, START};
use crate::data::draw::Draw;
use crate::interrupt;
use crate::soak::faults::disk::SmallDisk;
use crate::soak::faults::stage::SNAPSHOTS;

/// Keys of the feed in Redis, with the prefix that is the default.
const STREAM: &[u8] = b"godwit:{feed}:stream";
const HEAD: &[u8] = b"godwit:{feed}:head";
/// Another control plane leads after this, or something is wrong.
const TAKE_OVER: Duration = Duration::from_secs(30);
/// Entries that are repeated and reordered.
const ENTRIES: &[u8] = b"6";

/// See the module.
#[derive(Debug)]
pub struct Stage<'a> {
    /// What all threads share.
    pub shared: &'a Shared,
    /// What faults are made with.
    pub cluster: &'a mut Cluster,
    draw: Draw,
    /// Whether all but the first of each kind are of the other version now, where there is one.
    is_other_version: bool,
    /// The small disk of the last data plane, where there is one.
    disk: Option<&'a SmallDisk>,
}

impl<'a> Stage<'a> {
    /// Faults drawn from this seed.
    pub fn new(shared: &'a Shared, cluster: &'a mut Cluster, disk: Option<&'a SmallDisk>, seed: u64) -> Self {
        Stage { shared, cluster, disk, is_other_version: false, draw: Draw::new(seed, "chaos stage", 0) }
    }

    /// Makes a fault, and undoes it.
    ///
    /// # Errors
    /// It cannot be made, or a part does not come back.
    pub fn make(&mut self, fault: Fault) -> Result<()> {
        // At a random moment.
        self.rest(0, 300)?;
        match fault {
            Fault::KillApi => self.kill_control(false),
            Fault::KillRelay => self.kill_control(true),
            Fault::KillRedis => self.kill_redis(),
            Fault::KillPostgres => self.kill_postgres(),
            Fault::KillNode => self.kill_node(),
            Fault::PauseLeader => self.pause_leader(),
            Fault::FlushRedis => self.redis(&[b"FLUSHALL"]),
            Fault::OlderRedis => self.older_redis(),
            Fault::TrimStream => self.trim_stream(),
            Fault::RedisFull => self.redis_full(),
            Fault::RedisReadOnly => self.redis_read_only(),
            Fault::PauseRedis => self.pause_redis(),
            Fault::Forge => self.forge(),
            Fault::SilentNode => self.silent_node(),
            Fault::Silence => self.silence(),
            Fault::AllGone => self.all_gone(),
            Fault::DamagedState => self.damaged_state(),
            Fault::DiskFull => self.disk_full(),
            Fault::Restarts => self.restarts(),
            Fault::RotateKey => self.rotate_key(),
            Fault::OlderDatabase => self.older_database(),
        }
        .with_context(|| format!("{fault}"))
    }

    /// Waits for a time between these, milliseconds.
    fn rest(&mut self, from: u64, to: u64) -> Result<()> {
        let time = from + self.draw.below(to - from);
        let _ = self.shared.course.wait(Duration::from_millis(time));
        interrupt::check()
    }

    /// Waits until a write is under way.
    fn mid_write(&self) {
        let end = Instant::now() + Duration::from_secs(5);
        while self.shared.under_way.load(Ordering::SeqCst) == 0 && Instant::now() < end {
            std::hint::spin_loop();
        }
    }

    fn redis(&self, words: &[&[u8]]) -> Result<()> {
        self.cluster.redis_command::<redis::Value>(words).map(drop)
    }

    fn kill_control(&mut self, leads: bool) -> Result<()> {
        let leader = self.cluster.await_leader()?;
        let index = if leads { leader } else { (leader + 1) % CONTROLS };
        self.mid_write();
        self.cluster.controls[index].process.kill()?;
        self.rest(0, 3_000)?;
        self.cluster.controls[index].process.start()?;
        self.cluster.await_ready(index)
    }

    fn kill_redis(&mut self) -> Result<()> {
        self.mid_write();
        self.cluster.redis.kill()?;
        self.rest(0, 2_000)?;
        let _ = fs::remove_file(self.cluster.work.join("dump.rdb"));
        self.cluster.redis.start()?;
        self.cluster.await_redis()
    }

    fn kill_postgres(&mut self) -> Result<()> {
        self.mid_write();
        self.cluster.postgres.kill()?;
        self.rest(0, 2_000)?;
        self.cluster.postgres.start()?;
        self.cluster.await_database()
    }

    fn kill_node(&mut self) -> Result<()> {
        let index = self.draw.below(NODES as u64) as usize;
        self.mid_write();
        self.node_down(index)?;
        self.rest(0, 1_000)?;
        self.node_up(index)
    }

    fn node_down(&mut self, index: usize) -> Result<()> {
        self.shared.nodes[index].down();
        self.cluster.nodes[index].process.kill()
    }

    /// Starts a data plane and waits until it answers.
    fn node_up(&mut self, index: usize) -> Result<()> {
        self.cluster.nodes[index].process.start()?;
        self.await_answers(index)
    }

    fn await_answers(&mut self, index: usize) -> Result<()> {
        let mut asker = Asker::connect(self.cluster.nodes[index].dns)?;
        let end = Instant::now() + START;
        while asker.ask(0) == Said::Lost {
            interrupt::check()?;
            self.cluster.nodes[index].process.check_alive()?;
            anyhow::ensure!(Instant::now() < end, "node{} does not answer", index + 1);
            std::thread::sleep(LOOK_EVERY);
        }
        self.shared.nodes[index].up();
        Ok(())
    }

    fn pause_leader(&mut self) -> Result<()> {
        let leader = self.cluster.await_leader()?;
        self.mid_write();
        self.cluster.controls[leader].process.signal(Signal::SIGSTOP)?;
        let other = (leader + 1) % CONTROLS;
        let end = Instant::now() + TAKE_OVER;
        while !self.cluster.leads(other) && Instant::now() < end && !interrupt::requested() {
            std::thread::sleep(LOOK_EVERY);
        }
        let is_over = self.cluster.leads(other);
        self.rest(0, 1_000)?;
        self.cluster.controls[leader].process.signal(Signal::SIGCONT)?;
        anyhow::ensure!(is_over, "no other control plane led after {TAKE_OVER:?}");
        Ok(())
    }

    fn older_redis(&mut self) -> Result<()> {
        self.redis(&[b"SAVE"])?;
        self.rest(1_000, 2_000)?;
        self.cluster.redis.kill()?;
        // What it saved is what it begins with.
        self.cluster.redis.start()?;
        self.cluster.await_redis()?;
        let _ = fs::remove_file(self.cluster.work.join("dump.rdb"));
        Ok(())
    }

    fn trim_stream(&mut self) -> Result<()> {
        let index = self.draw.below(NODES as u64) as usize;
        self.stopped(index, 1_000, 3_000, |stage| stage.redis(&[b"XTRIM", STREAM, b"MAXLEN", b"0"]))
    }

    /// A data plane is stopped for a while, at the end of which something else happens.
    fn stopped(
        &mut self,
        index: usize,
        from: u64,
        to: u64,
        then: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        self.shared.nodes[index].down();
        self.cluster.nodes[index].process.signal(Signal::SIGSTOP)?;
        let rested = self.rest(from, to);
        let done = rested.and_then(|()| then(self));
        self.cluster.nodes[index].process.signal(Signal::SIGCONT)?;
        done?;
        self.await_answers(index)
    }

    fn redis_full(&mut self) -> Result<()> {
        self.redis(&[b"CONFIG", b"SET", b"maxmemory", b"1"])?;
        self.rest(1_000, 4_000)?;
        self.redis(&[b"CONFIG", b"SET", b"maxmemory", b"0"])
    }

    fn redis_read_only(&mut self) -> Result<()> {
        self.redis(&[b"REPLICAOF", b"127.0.0.1", b"1"])?;
        self.rest(1_000, 4_000)?;
        self.redis(&[b"REPLICAOF", b"NO", b"ONE"])
    }

    fn pause_redis(&mut self) -> Result<()> {
        self.cluster.redis.signal(Signal::SIGSTOP)?;
        self.rest(1_000, 5_000)?;
        self.cluster.redis.signal(Signal::SIGCONT)
    }

    fn forge(&mut self) -> Result<()> {
        let head: Option<Vec<u8>> = self.cluster.redis_command(&[b"GET", HEAD])?;
        self.rest(500, 1_500)?;
        // What a script can do at once, the publisher cannot get between. The last of each line's variants is what is left.
        let scripts: [&str; 4] = [
            // Something that is no batch, as if it came next.
            "local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)\n\
             if #last == 0 then return 0 end\n\
             local epoch, sequence = string.match(last[1][1], '(%d+)-(%d+)')\n\
             redis.call('XADD', KEYS[1], epoch .. '-' .. (sequence + 1), 'b', 'forged')",
            // The last batch once more, as if it were the next.
            "local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)\n\
             if #last == 0 then return 0 end\n\
             local epoch, sequence = string.match(last[1][1], '(%d+)-(%d+)')\n\
             redis.call('XADD', KEYS[1], epoch .. '-' .. (sequence + 1), 'b', last[1][2][2])",
            // Other places for what is there.
            "local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', ARGV[1])\n\
             if #last < 2 then return 0 end\n\
             redis.call('DEL', KEYS[1])\n\
             for at = 1, #last do redis.call('XADD', KEYS[1], last[#last + 1 - at][1], 'b', last[at][2][2]) end",
            // A term that never was.
            "local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)\n\
             if #last == 0 then return 0 end\n\
             local epoch, sequence = string.match(last[1][1], '(%d+)-(%d+)')\n\
             redis.call('XADD', KEYS[1], (epoch + 1000) .. '-' .. sequence, 'b', last[1][2][2])",
        ];
        let script = scripts[self.draw.below(scripts.len() as u64) as usize];
        self.redis(&[b"EVAL", script.as_bytes(), b"1", STREAM, ENTRIES])?;
        head.map_or(Ok(()), |head| self.redis(&[b"SET", HEAD, &head]))
    }

    fn silent_node(&mut self) -> Result<()> {
        let index = self.draw.below(NODES as u64) as usize;
        self.stopped(index, 2_000, 8_000, |_| Ok(()))
    }

    fn silence(&mut self) -> Result<()> {
        self.mid_write();
        self.all_silent(Signal::SIGSTOP)?;
        let rested = self.rest(3_000, 9_000);
        self.all_silent(Signal::SIGCONT)?;
        rested
    }

    fn all_silent(&self, signal: Signal) -> Result<()> {
        let controls = self.cluster.controls.iter().map(|control| &control.process);
        controls.chain([&self.cluster.redis]).try_for_each(|process| process.signal(signal))
    }

    fn all_gone(&mut self) -> Result<()> {
        self.mid_write();
        for control in &mut self.cluster.controls {
            control.process.kill()?;
        }
        self.cluster.redis.kill()?;
        for index in 0..NODES {
            self.node_down(index)?;
            self.node_up(index)?;
        }
        // The watchers see what they answer.
        self.rest(1_000, 3_000)?;
        let _ = fs::remove_file(self.cluster.work.join("dump.rdb"));
        self.cluster.redis.start()?;
        for index in 0..CONTROLS {
            self.cluster.controls[index].process.start()?;
        }
        (0..CONTROLS).try_for_each(|index| self.cluster.await_ready(index))?;
        self.cluster.await_redis()
    }

    fn damaged_state(&mut self) -> Result<()> {
        let index = self.draw.below(NODES as u64) as usize;
        self.node_down(index)?;
        let state = self.cluster.nodes[index].state.clone();
        let [newest, previous] = SNAPSHOTS.map(|name| state.join(name));
        let is_empty = match self.draw.below(5) {
            0 => damage(&newest, &mut self.draw).map(|()| false),
            1 => cut(&newest, &mut self.draw).map(|()| false),
            2 => fs::remove_file(&newest).map(|()| false),
            // Nothing that it can begin with.
            3 => damage(&newest, &mut self.draw)
                .and_then(|()| damage(&previous, &mut self.draw))
                .map(|()| true),
            _ => {
                fs::write(&newest, b"something else").and_then(|()| fs::remove_file(&previous)).map(|()| true)
            }
        }
        .with_context(|| format!("damaging {}", state.display()))?;
        self.shared.nodes[index].may_be_empty.store(is_empty, Ordering::SeqCst);
        self.node_up(index)?;
        if is_empty {
            let mut asker = Asker::connect(self.cluster.nodes[index].dns)?;
            let end = Instant::now() + START;
            while asker.ask(0) == Said::NotReady {
                anyhow::ensure!(Instant::now() < end, "node{} has no data in {START:?}", index + 1);
                std::thread::sleep(LOOK_EVERY);
            }
            self.shared.nodes[index].may_be_empty.store(false, Ordering::SeqCst);
        }
        Ok(())
    }

    fn disk_full(&mut self) -> Result<()> {
        let Some(disk) = self.disk else { return Ok(()) };
        disk.fill()?;
        let index = NODES - 1;
        let rested = self.rest(1_000, 3_000);
        // Stopped in order, it tries to write what it has.
        self.shared.nodes[index].down();
        let stopped = self.cluster.nodes[index].process.stop(Signal::SIGTERM);
        let up = self.node_up(index);
        disk.empty()?;
        // That it says so with its status is all right.
        drop(stopped);
        rested.and(up)
    }

    fn restarts(&mut self) -> Result<()> {
        self.is_other_version = !self.is_other_version;
        // One of each stays as it is: versions work together.
        let is_other_version = self.is_other_version;
        let is_other = |index| is_other_version && index > 0;
        for index in 0..CONTROLS {
            self.cluster.change_version_of_control(index, is_other(index));
            self.cluster.controls[index].process.stop(Signal::SIGTERM)?;
            self.cluster.controls[index].process.start()?;
            self.cluster.await_ready(index)?;
        }
        for index in 0..NODES {
            self.cluster.change_version_of_node(index, is_other(index));
            self.shared.nodes[index].down();
            self.cluster.nodes[index].process.stop(Signal::SIGTERM)?;
            self.node_up(index)?;
        }
        Ok(())
    }

    fn rotate_key(&mut self) -> Result<()> {
        let config = self.cluster.controls[0].config.clone();
        let words: Vec<OsString> = vec!["rotate-feed-key".into(), "--config".into(), config.into()];
        match self.cluster.run("godwit-controlplane", &words) {
            Ok(_) => Ok(()),
            // Data planes that know only the key that signs now must be added again first: it says so, and changes nothing.
            Err(error)
                if format!("{error:#}").contains("does not know")
                    || format!("{error:#}").contains("do not know") =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// What was committed after the copy is lost, by the hand of whoever restored it: the ledger goes back with it.
    fn older_database(&mut self) -> Result<()> {
        let (data, copy) = (self.cluster.database.join("data"), self.cluster.database.join("copy"));
        let _ = fs::remove_dir_all(&copy);
        let mut words: Vec<OsString> =
            ["-U", "postgres", "-c", "fast", "-X", "stream", "-h"].map(Into::into).into();
        words.extend([self.cluster.database.clone().into(), "-D".into(), copy.clone().into()]);
        self.cluster.database_program("pg_basebackup", words)?;
        self.rest(1_500, 3_000)?;
        heal::pause(self.shared)?;
        heal::await_equal(self.shared, self.cluster)?;
        let before = self.cluster.get(0, "/api/v1/nodes")?;
        self.cluster.postgres.kill()?;
        fs::remove_dir_all(&data).context("removing the database")?;
        fs::rename(&copy, &data).context("putting the copy in its place")?;
        self.cluster.postgres.start()?;
        self.cluster.await_database()?;
        // Control planes go on by themselves; no data plane goes back, as the watchers see.
        let _ = self.shared.course.wait(Duration::from_secs(5));
        let told = heal::sequences(&before);
        for index in 0..NODES {
            let now = crate::cluster::metric(self.cluster.nodes[index].metrics, "godwit_dataplane_sequence");
            let was = told.get(index).copied().unwrap_or_default();
            anyhow::ensure!(
                now.is_some_and(|now| now >= was),
                "node{} went from {was} to {now:?}",
                index + 1
            );
        }
        for control in &mut self.cluster.controls {
            control.process.stop(Signal::SIGTERM)?;
        }
        self.shared.goes_back.store(true, Ordering::SeqCst);
        let config = self.cluster.controls[0].config.clone();
        let words: Vec<OsString> = vec!["--new-generation".into(), "--config".into(), config.into()];
        self.cluster.run("godwit-controlplane", &words)?;
        for index in 0..CONTROLS {
            self.cluster.controls[index].process.start()?;
            self.cluster.await_ready(index)?;
        }
        heal::take_as_truth(self.shared, self.cluster)?;
        heal::await_equal(self.shared, self.cluster)?;
        self.shared.nodes.iter().for_each(Watched::may_go_back);
        self.shared.goes_back.store(false, Ordering::SeqCst);
        self.shared.pause.store(false, Ordering::SeqCst);
        Ok(())
    }
}

fn damage(file: &std::path::Path, draw: &mut Draw) -> std::io::Result<()> {
    let mut octets = fs::read(file)?;
    let at = draw.below(octets.len() as u64) as usize;
    if let Some(octet) = octets.get_mut(at) {
        *octet ^= 1 << draw.below(8);
    }
    fs::write(file, octets)
}

fn cut(file: &std::path::Path, draw: &mut Draw) -> std::io::Result<()> {
    let octets = fs::read(file)?;
    fs::write(file, &octets[..draw.below(octets.len() as u64) as usize])
}
