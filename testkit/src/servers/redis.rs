//! Redis servers for tests: each with its files in a folder of its own, reached by a socket in that folder.

use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::keeper::Keeper;
use super::process::run;

/// How long a server may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A running server.
#[derive(Debug)]
pub struct Redis {
    keeper: Keeper,
    prefixes: AtomicU32,
}

impl Redis {
    /// One for all tests of a process, each with a [prefix](Redis::prefix) of its own.
    #[must_use]
    #[expect(
        clippy::missing_panics_doc,
        reason = "without it the tests do not run; they are not to pass without"
    )]
    pub fn shared() -> &'static Redis {
        static SHARED: OnceLock<Redis> = OnceLock::new();
        SHARED.get_or_init(|| match Redis::start(&[]) {
            Ok(server) => server,
            Err(error) => panic!("{error:#}"),
        })
    }

    /// A server of its own, which keeps nothing on disk but what it is told to; with settings as on its command line.
    ///
    /// # Errors
    /// When it is not installed, or does not start; its own words are in the error.
    pub fn start(settings: &[&str]) -> Result<Redis> {
        let installed = Command::new("redis-server").arg("--version").output().is_ok();
        ensure!(installed, "the tests need Redis: install the package redis-server (Debian's name)");
        let folder = tempfile::tempdir().context("folder for a Redis server")?.keep();
        let socket = folder.join("socket");
        let mut words: Vec<std::ffi::OsString> = vec!["redis-server".into()];
        words.extend(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"].map(Into::into));
        words.push(socket.into());
        words.extend(settings.iter().map(Into::into));
        let server = Redis { keeper: Keeper::start(&folder, words)?, prefixes: AtomicU32::new(0) };
        server.wait()?;
        Ok(server)
    }

    /// How to reach a database of it.
    #[must_use]
    pub fn url(&self, database: u32) -> String {
        format!("redis+unix://{}?db={database}", self.keeper.folder().join("socket").display())
    }

    /// What the keys of one test begin with.
    #[must_use]
    pub fn prefix(&self) -> String {
        format!("test{}:", self.prefixes.fetch_add(1, Ordering::Relaxed))
    }

    /// Runs a command; gives what it answers, as text.
    ///
    /// # Errors
    /// Of the server.
    pub fn command(&self, database: u32, words: &[&str]) -> Result<String> {
        let mut client = Command::new("redis-cli");
        client.arg("-s").arg(self.keeper.folder().join("socket")).args(["-e", "-n", &database.to_string()]);
        run(client.args(words))
    }

    /// Kills it: what it has not on disk is gone.
    ///
    /// # Errors
    /// When its keeper is gone.
    pub fn kill(&self) -> Result<()> {
        self.keeper.say("kill")
    }

    /// Stops it in the middle of whatever it does: it takes connections and says nothing.
    ///
    /// # Errors
    /// When its keeper is gone.
    pub fn pause(&self) -> Result<()> {
        self.keeper.say("stop")
    }

    /// Lets it go on after [`Redis::pause`].
    ///
    /// # Errors
    /// When its keeper is gone.
    pub fn go_on(&self) -> Result<()> {
        self.keeper.say("continue")
    }

    /// Starts it again after [`Redis::kill`].
    ///
    /// # Errors
    /// When it does not start.
    pub fn again(&self) -> Result<()> {
        self.keeper.say("start")?;
        self.wait()
    }

    fn wait(&self) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        while self.command(0, &["PING"]).is_err() {
            ensure!(Instant::now() < deadline, "Redis did not start:\n{}", self.keeper.log());
            std::thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }
}
