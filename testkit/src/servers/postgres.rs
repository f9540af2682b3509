//! PostgreSQL servers for tests: each with its data in a folder of its own, reached by a socket in that folder.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::keeper::Keeper;
use super::process::run;

/// How long a server may take until it answers, also after it was killed and has to recover.
const START_LIMIT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// What speeds up tests that are not about what survives.
const FORGETFUL: &[&str] = &["fsync=off", "full_page_writes=off", "synchronous_commit=off"];

/// A running server.
#[derive(Debug)]
pub struct Postgres {
    keeper: Keeper,
    programs: PathBuf,
    databases: AtomicU32,
    /// What was made ready once, to be copied.
    prepared: Mutex<Option<String>>,
}

impl Postgres {
    /// One for all tests of a process. It forgets what was committed when its machine fails: for tests that are not
    /// about that.
    #[must_use]
    #[expect(
        clippy::missing_panics_doc,
        reason = "without it the tests do not run; they are not to pass without"
    )]
    pub fn shared() -> &'static Postgres {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(|| match Postgres::start(FORGETFUL) {
            Ok(server) => server,
            Err(error) => panic!("{error:#}"),
        })
    }

    /// A server of its own, with settings as in `postgresql.conf`.
    ///
    /// # Errors
    /// When it is not installed, or does not start; its own words are in the error.
    pub fn start(settings: &[&str]) -> Result<Postgres> {
        let programs = programs()?;
        let folder = tempfile::tempdir().context("folder for a database server")?.keep();
        let mut user = Vec::new();
        if run(Command::new("id").arg("-u"))?.trim() == "0" {
            // It refuses to run as root.
            run(Command::new("chown").arg("postgres:").arg(&folder))?;
            user = vec!["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"];
        }
        let as_user = |program: &str| {
            let program = programs.join(program);
            let mut words: Vec<std::ffi::OsString> = user.iter().map(Into::into).collect();
            words.push(program.into());
            words
        };
        let data = folder.join("data");
        let mut words = as_user("initdb").into_iter();
        let mut initdb = Command::new(words.next().context("a program")?);
        initdb.args(words).args([
            "-A",
            "trust",
            "--no-sync",
            "-E",
            "UTF8",
            "--locale=C",
            "-U",
            "postgres",
            "-D",
        ]);
        run(initdb.arg(&data).current_dir(&folder))?;

        let mut words = as_user("postgres");
        words.push("-D".into());
        words.push(data.into());
        words.push("-k".into());
        words.push((&folder).into());
        for setting in ["listen_addresses=", "max_connections=400"].iter().chain(settings) {
            words.push("-c".into());
            words.push(setting.into());
        }
        let keeper = Keeper::start(&folder, words)?;
        let server = Postgres { keeper, programs, databases: AtomicU32::new(0), prepared: Mutex::default() };
        server.wait()?;
        Ok(server)
    }

    /// Makes a database; gives its URL.
    ///
    /// # Errors
    /// Of the server.
    pub fn create_database(&self) -> Result<String> {
        self.create("")
    }

    fn create(&self, how: &str) -> Result<String> {
        let name = format!("test{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("CREATE DATABASE {name} {how}"))?;
        let socket = self.keeper.folder().to_string_lossy();
        Ok(format!("postgres://postgres@localhost/{name}?host={socket}"))
    }

    /// Makes a database with the content of another, which nobody has open; gives its URL.
    ///
    /// # Errors
    /// Of the server.
    pub fn copy_database(&self, url: &str) -> Result<String> {
        self.create(&format!("TEMPLATE {}", database_of(url)?))
    }

    /// Makes a database as `prepare` leaves the one whose URL it is given, with no connection open: it is asked once, as copies are had
    /// sooner than schemas. Gives the URL of the copy.
    ///
    /// # Errors
    /// Of the server.
    pub fn create_prepared(&self, prepare: impl FnOnce(&str)) -> Result<String> {
        let mut prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        let url = match prepared.clone() {
            Some(url) => url,
            None => {
                let url = self.create_database()?;
                prepare(&url);
                prepared.insert(url).clone()
            }
        };
        drop(prepared);
        self.copy_database(&url)
    }

    /// All that is in a database, as text.
    ///
    /// # Errors
    /// Of the server.
    pub fn dump(&self, url: &str) -> Result<String> {
        let mut dump = Command::new(self.programs.join("pg_dump"));
        dump.args(["-U", "postgres", "-h"]).arg(self.keeper.folder()).arg(database_of(url)?);
        run(dump.current_dir(self.keeper.folder()))
    }

    /// What it said, on all connections.
    #[must_use]
    pub fn log(&self) -> String {
        self.keeper.log()
    }

    /// Runs statements in a database of the server; gives what they print.
    ///
    /// # Errors
    /// Of the server.
    pub fn psql(&self, database: &str, statements: &str) -> Result<String> {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database, "-h"]);
        run(psql.arg(self.keeper.folder()).args(["-c", statements]).current_dir(self.keeper.folder()))
    }

    /// Kills it: the machine goes on, connections end, and what was confirmed must be there after [`Postgres::again`].
    ///
    /// # Errors
    /// When its keeper is gone.
    pub fn kill(&self) -> Result<()> {
        self.keeper.say("kill")
    }

    /// Stops it, and all that it has started, in the middle of whatever it does: it takes connections and says nothing.
    ///
    /// # Errors
    /// When its keeper is gone.
    pub fn pause(&self) -> Result<()> {
        self.keeper.say("stop")
    }

    /// Lets it go on after [`Postgres::pause`].
    ///
    /// # Errors
    /// When its keeper is gone.
    pub fn go_on(&self) -> Result<()> {
        self.keeper.say("continue")
    }

    /// Starts it again after [`Postgres::kill`] and waits until it has recovered.
    ///
    /// # Errors
    /// When it does not start.
    pub fn again(&self) -> Result<()> {
        self.keeper.say("start")?;
        self.wait()
    }

    fn wait(&self) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        let mut started = Instant::now();
        while self.psql("postgres", "SELECT 1").is_err() {
            if Instant::now() >= deadline {
                anyhow::bail!("PostgreSQL did not start:\n{}", self.keeper.log());
            }
            // What a killed one left behind may have kept it from starting.
            if started.elapsed() > Duration::from_secs(2) && !self.is_there() {
                self.keeper.say("start")?;
                started = Instant::now();
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    fn is_there(&self) -> bool {
        let pid =
            std::fs::read_to_string(self.keeper.folder().join("data/postmaster.pid")).unwrap_or_default();
        pid.lines().next().is_some_and(|pid| Path::new("/proc").join(pid).exists())
    }
}

fn database_of(url: &str) -> Result<&str> {
    url.rsplit('/').find_map(|part| part.split_once("?host=")).map(|(name, _)| name).context("a URL of ours")
}

/// Where the newest installed version's programs are.
fn programs() -> Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(Result::ok);
    let found = versions.map(|entry| entry.path().join("bin")).filter(|bin| bin.join("postgres").exists());
    let number = |bin: &PathBuf| bin.iter().rev().nth(1)?.to_str()?.parse::<u32>().ok();
    let newest = found.max_by_key(number);
    ensure!(newest.is_some(), "the tests need PostgreSQL: install the package postgresql (Debian's name)");
    newest.context("a version")
}
