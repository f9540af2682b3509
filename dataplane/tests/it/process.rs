//! The program itself, started on free ports, and a small client.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_godwit-dataplane");

/// A zone with a few names of each kind.
pub(crate) const ZONE: &str = "\
$TTL 300
@ IN SOA ns1 hostmaster 1 7200 3600 1209600 60
@ IN NS ns1
ns1 IN A 192.0.2.1
www IN A 192.0.2.80
www IN AAAA 2001:db8::80
alias IN CNAME www
*.wild IN TXT \"wild\"
";

/// A running `godwit-dataplane`; ended when it is dropped.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) metrics: Option<SocketAddr>,
    /// Its logs.
    log: PathBuf,
    /// What it, and later processes of a handover, printed after it said that it serves.
    printed: Arc<Mutex<Vec<String>>>,
    _folder: TempDir,
}

/// A folder of zone files.
pub(crate) fn zone_folder(zones: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (origin, text) in zones {
        std::fs::write(folder.path().join(format!("{origin}.zone")), text).unwrap();
    }
    // Also for a process that has become another user.
    open_to_all(folder.path());
    folder
}

pub(crate) fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
}

/// Whether we run as root: who owns our entry in /proc is who we are in effect.
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

/// A command with nothing set by the environment that the tests run in.
pub(crate) fn command() -> Command {
    let mut command = Command::new(PROGRAM);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("GODWIT_") {
            command.env_remove(name);
        }
    }
    command
}

impl Process {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut command = command();
        command.args(arguments);
        Self::spawn(&mut command)
    }

    pub(crate) fn spawn(command: &mut Command) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let stderr = std::fs::File::create(&log).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        // A program that was just copied may still be open for writing: in a child that another test is about to start.
        let mut child = loop {
            match command.spawn() {
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
                other => break other.unwrap(),
            }
        };
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (mut addresses, mut metrics) = (Vec::new(), None);
        loop {
            let Some(Ok(line)) = lines.next() else {
                panic!("it ended: {}", std::fs::read_to_string(&log).unwrap_or_default());
            };
            if let Some(rest) = line.strip_prefix("listening at ") {
                addresses.push(rest.split(' ').next().unwrap().parse().unwrap());
            } else if let Some(rest) = line.strip_prefix("metrics at http://") {
                metrics = Some(rest.split('/').next().unwrap().parse().unwrap());
            } else if line.starts_with("serving ") {
                break;
            }
        }
        let printed = Arc::<Mutex<Vec<String>>>::default();
        let more = Arc::clone(&printed);
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| more.lock().unwrap().push(line));
        });
        Process { child, addresses, metrics, log, printed, _folder: folder }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// The lines on standard output so far, but for those that say where it listens.
    pub(crate) fn printed(&self) -> Vec<String> {
        self.printed.lock().unwrap().clone()
    }

    pub(crate) fn signal(&self, signal: &str) {
        send_signal(self.child.id(), signal);
    }

    /// Asks it to stop and waits for its end.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What an HTTP GET answers: status and body.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.metrics.unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let status = text.split(' ').nth(1).unwrap().parse().unwrap();
        (status, text.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    /// The value of a metric, labels written as they are shown.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.get("/metrics");
        let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("no {name} in\n{text}")).rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// What `dig +short` says.
    pub(crate) fn dig(&self, arguments: &[&str]) -> String {
        dig(self.address(), arguments)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn send_signal(process: u32, signal: &str) {
    let status = Command::new("kill").args([&format!("-{signal}"), &process.to_string()]).status().unwrap();
    assert!(status.success());
}

pub(crate) fn dig(address: SocketAddr, arguments: &[&str]) -> String {
    let output = Command::new("dig")
        .args([&format!("@{}", address.ip()), "-p", &address.port().to_string(), "+tries=1", "+timeout=5"])
        .args(arguments)
        .output()
        .expect("dig is installed");
    String::from_utf8(output.stdout).unwrap()
}

/// Sends a message over UDP and waits for the answer; `None`: none came within a second.
pub(crate) fn ask(address: SocketAddr, message: &[u8]) -> Option<Vec<u8>> {
    let client = UdpSocket::bind(if address.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }).unwrap();
    client.connect(address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    client.send(message).unwrap();
    let mut buffer = vec![0; 65_535];
    let len = client.recv(&mut buffer).ok()?;
    buffer.truncate(len);
    Some(buffer)
}
