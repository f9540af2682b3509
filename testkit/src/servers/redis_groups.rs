//! Several Redis servers that are one to those who use them: a master that Sentinel looks after, and a cluster.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::free_port;
use super::keeper::Keeper;
use super::process::run;
use super::redis::Redis;

/// How long it may take until they are one.
const LIMIT: Duration = Duration::from_secs(60);
/// How often they are tried to be started.
const TRIES: u32 = 3;
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// The name under which Sentinel knows the master.
const MASTER: &str = "main";

/// A master, a replica of it, and the Sentinel that promotes the replica when the master is gone.
#[derive(Debug)]
pub struct Watched {
    /// The master and the replica, as they were when it started.
    pub servers: [Redis; 2],
    port: u16,
    /// Of the replica.
    second: String,
    _keeper: Keeper,
}

impl Watched {
    /// Starts all three.
    ///
    /// # Errors
    /// When one does not start.
    pub fn start() -> Result<Watched> {
        tried(Watched::try_start)
    }

    fn try_start() -> Result<Watched> {
        let [master, replica, port] = [free_port()?, free_port()?, free_port()?];
        let (first, second) = (master.to_string(), replica.to_string());
        // The replica takes over at once what the master has: nothing waits for more replicas.
        let servers = [
            Redis::start(&["--port", &first, "--repl-diskless-sync-delay", "0"])?,
            Redis::start(&[
                "--port",
                &second,
                "--repl-diskless-sync-delay",
                "0",
                "--replicaof",
                "127.0.0.1",
                &first,
            ])?,
        ];
        let folder = tempfile::tempdir().context("folder for a Sentinel")?.keep();
        let file = folder.join("sentinel.conf");
        let settings = format!(
            "port {port}\nsentinel monitor {MASTER} 127.0.0.1 {master} 1\nsentinel down-after-milliseconds {MASTER} 500\n\
             sentinel failover-timeout {MASTER} 3000\n"
        );
        std::fs::write(&file, settings).context("settings of a Sentinel")?;
        let words = ["redis-server".into(), file.into_os_string(), "--sentinel".into()];
        let watched = Watched { servers, port, second, _keeper: Keeper::start(&folder, words)? };
        until("Sentinel knows the replica", || {
            Ok(watched.ask(&["SENTINEL", "REPLICAS", MASTER])?.contains(&watched.second)
                && watched.servers[1].command(0, &["INFO", "replication"])?.contains("master_link_status:up"))
        })?;
        Ok(watched)
    }

    /// How to reach a database of the master, whoever that is.
    #[must_use]
    pub fn url(&self, database: u32) -> String {
        format!("redis+sentinel://127.0.0.1:{}/{MASTER}/{database}", self.port)
    }

    /// Kills the first master and waits until the other one is.
    ///
    /// # Errors
    /// When it does not become one.
    pub fn fail_over(&self) -> Result<()> {
        self.servers[0].kill()?;
        until("the replica is the master", || {
            let named = self.ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER])?;
            Ok(named.contains(&self.second) && self.servers[1].command(0, &["ROLE"])?.starts_with("master"))
        })
    }

    fn ask(&self, words: &[&str]) -> Result<String> {
        run(Command::new("redis-cli").args(["-e", "-p", &self.port.to_string()]).args(words))
    }
}

/// A cluster of three servers without replicas.
#[derive(Debug)]
pub struct Cluster {
    /// Its servers.
    pub servers: Vec<Redis>,
    ports: Vec<u16>,
}

impl Cluster {
    /// Starts them and makes them one.
    ///
    /// # Errors
    /// When one does not start, or they do not find each other.
    pub fn start() -> Result<Cluster> {
        tried(Cluster::try_start)
    }

    fn try_start() -> Result<Cluster> {
        let (mut servers, mut ports, mut buses) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..3 {
            let (port, bus) = (free_port()?, free_port()?);
            servers.push(Redis::start(&[
                "--port",
                &port.to_string(),
                "--cluster-enabled",
                "yes",
                "--cluster-port",
                &bus.to_string(),
            ])?);
            ports.push(port);
            buses.push(bus);
        }
        let cluster = Cluster { servers, ports };
        for (at, (server, (from, to))) in
            cluster.servers.iter().zip([("0", "5460"), ("5461", "10922"), ("10923", "16383")]).enumerate()
        {
            server.command(0, &["CLUSTER", "SET-CONFIG-EPOCH", &(at + 1).to_string()])?;
            server.command(0, &["CLUSTER", "ADDSLOTSRANGE", from, to])?;
            let (port, bus) = (cluster.ports[0].to_string(), buses[0].to_string());
            server.command(0, &["CLUSTER", "MEET", "127.0.0.1", &port, &bus])?;
        }
        until("the cluster is whole", || {
            let mut whole = true;
            for server in &cluster.servers {
                let info = server.command(0, &["CLUSTER", "INFO"])?;
                whole &= info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3");
            }
            Ok(whole)
        })?;
        Ok(cluster)
    }

    /// How to reach it.
    #[must_use]
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        format!("redis+cluster://{}", hosts.join(","))
    }

    /// Ports of all of them.
    #[must_use]
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }
}

/// Starts some: a port that was free may be another's by the time that it is bound.
fn tried<T>(start: fn() -> Result<T>) -> Result<T> {
    (1..TRIES).find_map(|_| start().ok()).map_or_else(start, Ok)
}

fn until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    loop {
        match is_so() {
            Ok(true) => return Ok(()),
            other => ensure!(Instant::now() < deadline, "never so: {what}: {other:?}"),
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}
