//! PostgreSQL, Redis, two control planes and three data planes, on ports of their own, each a process that faults are made with.
//!
//! - [`process`]: one of them;
//! - [`level`]: whether all of them have everything.

pub mod level;
pub mod process;

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use redis::FromRedisValue;
use serde_json::{Value, json};

use self::process::Process;
use crate::http::Connection;
use crate::server::bound::parent_bound;
use crate::{api, interrupt, server};

/// Data planes.
pub const NODES: usize = 3;
/// Control planes.
pub const CONTROLS: usize = 2;
/// A program may take so long until it answers, on a busy machine.
pub const START: Duration = Duration::from_secs(60);
/// How often what is waited for is looked at.
pub const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long a look at a program may take.
const LOOK: Duration = Duration::from_secs(3);
/// A line for each request of a day would fill a disk.
const LOG: &str = "info,godwit_controlplane::api=warn";
const NODE: &str = "godwit-dataplane";
/// The program of a control plane.
const CONTROL: &str = "godwit-controlplane";
/// User of the data planes on Redis.
const READER: &str = "node:of-the-nodes";

/// One control plane.
#[derive(Debug)]
pub struct Control {
    /// Its process.
    pub process: Process,
    /// Its API.
    pub api: SocketAddr,
    /// Its metrics.
    pub metrics: SocketAddr,
    /// Its configuration.
    pub config: PathBuf,
}

/// One data plane.
#[derive(Debug)]
pub struct Node {
    /// Its process.
    pub process: Process,
    /// Where it answers.
    pub dns: SocketAddr,
    /// Its metrics.
    pub metrics: SocketAddr,
    /// Its state folder.
    pub state: PathBuf,
}

/// See the module. Parts end in the order of their fields.
#[derive(Debug)]
pub struct Cluster {
    /// The data planes.
    pub nodes: Vec<Node>,
    /// The control planes.
    pub controls: Vec<Control>,
    /// The stream.
    pub redis: Process,
    /// Port of Redis.
    pub redis_port: u16,
    /// The database.
    pub postgres: Process,
    /// Folder of the database, which its user must be able to reach.
    pub database: PathBuf,
    /// The administrator's token.
    pub token: String,
    /// Folder of everything else.
    pub work: PathBuf,
    programs: PathBuf,
    /// Those of another version, if any.
    other_programs: Option<PathBuf>,
    postgres_programs: PathBuf,
    database_user: Option<&'static str>,
}

impl Cluster {
    /// Starts all of it; programs of ours are in the folder given, those of another version in the other one.
    ///
    /// # Errors
    /// A program is missing, or does not come up in time.
    pub fn start(programs: &Path, other: Option<&Path>, work: &Path) -> Result<Cluster> {
        let both = [Some(programs), other].into_iter().flatten();
        let both = both.flat_map(|folder| [CONTROL, NODE].map(|program| folder.join(program)));
        for file in both.chain([programs.join("godwit")]) {
            anyhow::ensure!(file.is_file(), "{} is missing: cargo build --release", file.display());
        }
        let postgres_programs = postgres_programs()?;
        // It refuses to run as root.
        let is_root = fs::metadata("/proc/self")?.uid() == 0;
        let database_user = is_root.then_some("postgres");
        let database = std::env::temp_dir().join(format!("godwit-cluster-{}", std::process::id()));
        let mut ports = server::free_ports(1 + CONTROLS + NODES)?.into_iter();
        let mut port = move || ports.next().context("a port");
        let redis_port = port()?;
        let mut cluster = Cluster {
            nodes: Vec::new(),
            controls: Vec::new(),
            redis: redis(work, redis_port),
            redis_port,
            postgres: postgres(work, &postgres_programs, &database).as_user(database_user),
            database,
            token: String::new(),
            work: work.to_owned(),
            programs: programs.to_owned(),
            other_programs: other.map(Path::to_owned),
            postgres_programs,
            database_user,
        };
        cluster.make_database()?;
        cluster.redis.start()?;
        cluster.await_redis()?;
        for number in 1..=CONTROLS {
            let control = cluster.new_control(number, port()?)?;
            cluster.controls.push(control);
            cluster.controls[number - 1].process.start()?;
            cluster.await_ready(number - 1)?;
        }
        let printed = cluster.controls[0].process.output();
        cluster.token = api::token_in(&printed).context("the first start printed no token")?.to_owned();
        for number in 1..=NODES {
            let node = cluster.new_node(number, port()?)?;
            cluster.nodes.push(node);
            cluster.nodes[number - 1].process.start()?;
        }
        Ok(cluster)
    }

    fn make_database(&mut self) -> Result<()> {
        let folder = &self.database;
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        self.give_to_database(folder)?;
        let initdb = ["-A", "trust", "-E", "UTF8", "--locale=C", "-U", "postgres", "--no-sync", "-D"];
        let data = folder.join("data");
        self.database_program("initdb", initdb.iter().map(OsString::from).chain([data.into()]))?;
        self.postgres.start()?;
        self.await_database()?;
        self.sql("CREATE DATABASE godwit", "postgres").map(drop)
    }

    /// Has the database's user own a folder.
    fn give_to_database(&self, folder: &Path) -> Result<()> {
        let Some(user) = self.database_user else { return Ok(()) };
        let status = Command::new("chown").arg(format!("{user}:")).arg(folder).status()?;
        anyhow::ensure!(status.success(), "{} could not be given to {user}", folder.display());
        Ok(())
    }

    /// Runs a program of PostgreSQL; gives what it prints.
    ///
    /// # Errors
    /// Its own words.
    pub fn database_program(
        &self,
        program: &str,
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<String> {
        let mut command = parent_bound(&self.postgres_programs.join(program), self.database_user);
        printed(command.args(arguments).current_dir(&self.database)).with_context(|| program.to_owned())
    }

    /// Runs a statement; gives what it prints.
    ///
    /// # Errors
    /// Of the database.
    pub fn sql(&self, statement: &str, database: &str) -> Result<String> {
        let mut arguments: Vec<OsString> =
            ["-X", "-q", "-A", "-t", "-U", "postgres", "-d", database, "-h"].map(Into::into).into();
        arguments.extend([self.database.clone().into(), "-c".into(), statement.into()]);
        self.database_program("psql", arguments)
    }

    /// Waits until the database answers.
    ///
    /// # Errors
    /// It does not in time.
    pub fn await_database(&mut self) -> Result<()> {
        let end = Instant::now() + START;
        while let Err(error) = self.sql("SELECT 1", "postgres") {
            interrupt::check()?;
            anyhow::ensure!(Instant::now() < end, "PostgreSQL does not answer: {error:#}");
            // A killed one leaves memory behind that its last children hold on to for a moment.
            if self.postgres.check_alive().is_err() {
                self.postgres.start()?;
            }
            std::thread::sleep(LOOK_EVERY * 5);
        }
        Ok(())
    }

    fn new_control(&self, number: usize, port: u16) -> Result<Control> {
        let at = |offset: u16| SocketAddr::from(([127, 0, 0, 1], port + offset));
        let (api, internal, metrics) = (at(0), at(1), at(2));
        let data = self.work.join(format!("control{number}"));
        fs::create_dir_all(&data)?;
        let config = self.work.join(format!("control{number}.toml"));
        let port = self.redis_port;
        let text = format!(
            "[api]\nlisten = \"{api}\"\n[internal]\nlisten = \"{internal}\"\n[metrics]\nlisten = \"{metrics}\"\n\
             [store]\ndata = \"{}\"\nurl = \"postgres://postgres@localhost/godwit?host={}\"\n\
             secrets_key_file = \"{}\"\n[log]\nfilter = \"{LOG}\"\n\
             [redis]\nurl = \"redis://127.0.0.1:{port}\"\nnodes_url = \"redis://{READER}@127.0.0.1:{port}/1\"\n",
            data.display(),
            self.database.display(),
            self.work.join("secrets.key").display()
        );
        fs::write(&config, text).with_context(|| format!("writing {}", config.display()))?;
        let words = vec![self.program(CONTROL), "--config".into(), config.clone().into()];
        Ok(Control {
            process: Process::new(&format!("control{number}"), &self.work, words),
            api,
            metrics,
            config,
        })
    }

    fn new_node(&self, number: usize, port: u16) -> Result<Node> {
        let at = |offset: u16| SocketAddr::from(([127, 0, 0, 1], port + offset));
        let (dns, metrics) = (at(0), at(1));
        let state = self.work.join(format!("node{number}"));
        fs::create_dir_all(&state)?;
        fs::set_permissions(&state, fs::Permissions::from_mode(0o700))?;
        let name = format!("node{number}");
        // They take turns with the control planes.
        let mut connection = self.connect((number - 1) % CONTROLS)?;
        let added = connection.ask("POST", "/api/v1/nodes", &json!({ "name": name }).to_string())?;
        let added: Value = serde_json::from_slice(&added.ok("adding a node")?.body)?;
        let join = self.work.join(format!("{name}.join"));
        fs::write(&join, added["join"].as_str().context("no join string")?)?;
        fs::set_permissions(&join, fs::Permissions::from_mode(0o600))?;
        let mut words = vec![self.program(NODE), "--listen".into(), dns.to_string().into()];
        words.extend([
            "--state".into(),
            state.clone().into(),
            "--metrics".into(),
            metrics.to_string().into(),
        ]);
        words.extend(["--join".into(), format!("@{}", join.display()).into()]);
        words.extend(["--workers".into(), "1".into()]);
        Ok(Node { process: Process::new(&name, &self.work, words), dns, metrics, state })
    }

    fn program(&self, name: &str) -> OsString {
        self.programs.join(name).into()
    }

    /// Has a data plane be of the other version, or of this one, from its next start on.
    pub fn change_version_of_node(&mut self, node: usize, to_other: bool) {
        let program = self.version(to_other).join(NODE).into();
        self.nodes[node].process.become_program(program);
    }

    /// The same for a control plane.
    pub fn change_version_of_control(&mut self, control: usize, to_other: bool) {
        let program = self.version(to_other).join(CONTROL).into();
        self.controls[control].process.become_program(program);
    }

    /// Where the programs of the other version are, if there is one, or those of this one.
    fn version(&self, other: bool) -> &Path {
        self.other_programs.as_ref().filter(|_| other).unwrap_or(&self.programs)
    }

    /// Runs one of our programs to its end.
    ///
    /// # Errors
    /// Its own words.
    pub fn run(&self, program: &str, arguments: &[OsString]) -> Result<String> {
        let mut command = parent_bound(&self.programs.join(program), None);
        printed(command.args(arguments)).with_context(|| program.to_owned())
    }

    /// A connection to the API of control plane `index`.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn connect(&self, index: usize) -> Result<Connection> {
        Connection::open(self.controls[index].api, &self.token)
    }

    /// Asks a control plane for JSON.
    ///
    /// # Errors
    /// It does not answer in time, or with an error.
    pub fn get(&self, index: usize, path: &str) -> Result<Value> {
        let response = self.connect(index)?.ask_within("GET", path, "", LOOK)?.ok(path)?;
        Ok(serde_json::from_slice(&response.body)?)
    }

    /// Waits until a control plane is ready.
    ///
    /// # Errors
    /// It is not in time.
    pub fn await_ready(&mut self, index: usize) -> Result<()> {
        let end = Instant::now() + START;
        loop {
            interrupt::check()?;
            self.controls[index].process.check_alive()?;
            let ready = Connection::open(self.controls[index].api, "")
                .and_then(|mut connection| connection.ask_within("GET", "/ready", "", LOOK));
            if ready.is_ok_and(|response| response.status == 200) {
                return Ok(());
            }
            anyhow::ensure!(Instant::now() < end, "control{} is not ready in {START:?}", index + 1);
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Which control plane gives sequences, as they say themselves.
    #[must_use]
    pub fn leader(&self) -> Option<usize> {
        (0..self.controls.len()).find(|&index| self.leads(index))
    }

    /// Whether a control plane says that it gives sequences.
    #[must_use]
    pub fn leads(&self, index: usize) -> bool {
        self.controls[index].process.is_up()
            && metric(self.controls[index].metrics, "godwit_controlplane_relay_leader") == Some(1.0)
    }

    /// Waits until one gives sequences, and says which.
    ///
    /// # Errors
    /// None does in time.
    pub fn await_leader(&self) -> Result<usize> {
        let end = Instant::now() + START;
        loop {
            interrupt::check()?;
            if let Some(index) = self.leader() {
                return Ok(index);
            }
            anyhow::ensure!(Instant::now() < end, "no control plane leads in {START:?}");
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Runs a command of Redis, in the database of the streams, as one who may do everything.
    ///
    /// # Errors
    /// Its own words.
    pub fn redis_command<T: FromRedisValue>(&self, words: &[&[u8]]) -> Result<T> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}/1", self.redis_port))?;
        let mut connection = client.get_connection_with_timeout(LOOK)?;
        connection.set_read_timeout(Some(LOOK))?;
        let mut command = redis::Cmd::new();
        command.arg(words);
        Ok(command.query(&mut connection)?)
    }

    /// Waits until Redis answers.
    ///
    /// # Errors
    /// It does not in time.
    pub fn await_redis(&self) -> Result<()> {
        let end = Instant::now() + START;
        while let Err(error) = self.redis_command::<String>(&[b"PING"]) {
            interrupt::check()?;
            anyhow::ensure!(Instant::now() < end, "Redis does not answer: {error:#}");
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// An error once a part has ended that nobody ended.
    ///
    /// # Errors
    /// It has.
    pub fn check_alive(&mut self) -> Result<()> {
        let controls = self.controls.iter_mut().map(|control| &mut control.process);
        let nodes = self.nodes.iter_mut().map(|node| &mut node.process);
        controls.chain(nodes).chain([&mut self.redis, &mut self.postgres]).try_for_each(Process::check_alive)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            let _ = node.process.stop(Signal::SIGTERM);
        }
        for control in &mut self.controls {
            let _ = control.process.stop(Signal::SIGTERM);
        }
        let _ = self.postgres.stop(Signal::SIGQUIT);
        let _ = fs::remove_dir_all(&self.database);
    }
}

/// Does something in a folder of its own, which is kept where anything went wrong. What did is among the failures.
///
/// # Errors
/// The folder cannot be made.
pub fn in_folder<R: Default>(
    data: &Path,
    name: &str,
    failures: impl Fn(&mut R) -> &mut Vec<String>,
    work: impl FnOnce(&Path, &mut R) -> Result<()>,
) -> Result<R> {
    let folder = data.join(format!("{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let folder = folder.canonicalize()?;
    let mut results = R::default();
    if let Err(error) = work(&folder, &mut results) {
        failures(&mut results).push(format!("{error:#}"));
    }
    if interrupt::requested() {
        failures(&mut results).push("interrupted".to_owned());
    }
    if failures(&mut results).is_empty() {
        let _ = fs::remove_dir_all(&folder);
    } else {
        eprintln!("the logs are kept in {}", folder.display());
    }
    Ok(results)
}

/// What a command prints, once it has ended.
fn printed(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    anyhow::ensure!(output.status.success(), "{said}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn redis(work: &Path, port: u16) -> Process {
    let mut words: Vec<OsString> = vec!["redis-server".into(), "--port".into(), port.to_string().into()];
    words.extend(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"].map(Into::into));
    words.push(work.into());
    words.extend(["--maxmemory-policy", "noeviction"].map(Into::into));
    Process::new("redis", work, words)
}

fn postgres(work: &Path, programs: &Path, folder: &Path) -> Process {
    let mut words: Vec<OsString> = vec![programs.join("postgres").into(), "-D".into()];
    words.extend([folder.join("data").into(), "-k".into(), folder.into()]);
    words.extend(["-c", "listen_addresses=", "-c", "max_connections=100"].map(Into::into));
    Process::new("postgres", work, words)
}

/// The newest that is installed.
fn postgres_programs() -> Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|version| Some((version.file_name().to_str()?.parse().ok()?, version.path().join("bin"))))
        .filter(|(_, folder)| folder.join("postgres").is_file())
        .collect();
    found.sort();
    found.pop().map(|(_, folder)| folder).context("PostgreSQL is not installed: apt-get install postgresql")
}

/// The value of a metric without labels; nothing when nobody answers.
#[must_use]
pub fn metric(metrics: SocketAddr, name: &str) -> Option<f64> {
    let response = Connection::open(metrics, "").ok()?.ask_within("GET", "/metrics", "", LOOK).ok()?;
    let text = response.text();
    let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')))?;
    line.rsplit(' ').next()?.parse().ok()
}
