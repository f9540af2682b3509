//! The program itself, started on free ports.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::http::Api;

/// How long anything may take on a machine that does other things too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A command with nothing set by the environment that the tests run in.
pub(crate) fn godwit() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_godwit"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("GODWIT_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command to its end.
pub(crate) fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

/// Until something is there.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A running `godwit run`; ended when it is dropped.
pub(crate) struct Running {
    child: Child,
    folder: TempDir,
}

impl Running {
    /// Starts it with its data in `data`; does not wait for anything.
    pub(crate) fn launch(data: &Path, more: &[&str]) -> Self {
        Self::launch_in(data, more, &[])
    }

    /// The same in an environment of its own.
    pub(crate) fn launch_in(data: &Path, more: &[&str], environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| File::create(folder.path().join(name)).unwrap();
        let free = "127.0.0.1:0";
        let child = godwit()
            .args(["run", "--dns", free, "--api", free, "--metrics", free, "--data"])
            .arg(data)
            .args(["--workers", "1"].iter().filter(|_| !more.contains(&"--workers")))
            .args(more)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .spawn()
            .unwrap();
        Running { child, folder }
    }

    /// Starts it and waits until its API listens.
    pub(crate) fn start(data: &Path) -> Self {
        let running = Self::launch(data, &[]);
        running.api_address();
        running
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap()
    }

    /// Its whole standard output so far.
    pub(crate) fn stdout(&self) -> String {
        self.read("stdout")
    }

    /// Where it says that it listens, and its logs.
    pub(crate) fn stderr(&self) -> String {
        self.read("stderr")
    }

    /// The address in the line that starts so.
    fn address(&self, start: &str) -> Option<SocketAddr> {
        let stderr = self.stderr();
        // A line is whole when the next one began.
        let whole = &stderr[..stderr.rfind('\n')?];
        let line = whole.lines().find_map(|line| line.strip_prefix(start))?;
        line.split([' ', '/']).next().unwrap().parse().ok()
    }

    fn wait_address(&self, start: &str) -> SocketAddr {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(address) = self.address(start) {
                return address;
            }
            assert!(Instant::now() < deadline, "no line \"{start}…\" in\n{}", self.stderr());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn dns(&self) -> SocketAddr {
        self.wait_address("godwit: DNS at ")
    }

    pub(crate) fn metrics(&self) -> SocketAddr {
        self.wait_address("godwit: metrics at http://")
    }

    pub(crate) fn api_address(&self) -> SocketAddr {
        self.wait_address("godwit: API at http://")
    }

    /// Whether the API has come up.
    pub(crate) fn has_api(&self) -> bool {
        self.address("godwit: API at http://").is_some()
    }

    /// The token that the first start printed.
    pub(crate) fn token(&self) -> String {
        wait_for("the admin token", || {
            let stdout = self.stdout();
            Some(stdout.strip_prefix("admin token: ")?.strip_suffix('\n')?.to_owned())
        })
    }

    /// The API, asked with a token.
    pub(crate) fn api(&self, token: &str) -> Api {
        Api { address: self.api_address(), token: token.to_owned() }
    }

    /// A command for people, told where the API is and who asks.
    pub(crate) fn command(&self, token: &str) -> Command {
        let mut command = godwit();
        command.env("GODWIT_URL", format!("http://{}", self.api_address())).env("GODWIT_TOKEN", token);
        command
    }

    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args(["-s", signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Kills it where it stands.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Asks it to stop and waits for its end.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end: {}", self.stderr());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.stderr());
        }
    }
}

/// A started server with the folder of its data and its token.
pub(crate) struct Started {
    pub(crate) running: Running,
    pub(crate) token: String,
    pub(crate) folder: TempDir,
}

impl Started {
    /// A first start.
    pub(crate) fn first() -> Self {
        Started::first_with(&[])
    }

    /// A first start with more arguments.
    pub(crate) fn first_with(more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let running = Running::launch(&folder.path().join("data"), more);
        let token = running.token();
        Started { running, token, folder }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn api(&self) -> Api {
        self.running.api(&self.token)
    }

    pub(crate) fn command(&self) -> Command {
        self.running.command(&self.token)
    }
}
