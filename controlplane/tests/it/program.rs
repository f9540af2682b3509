//! The program itself: its command line, and that being killed loses nothing that was acknowledged.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use crate::concurrency::seed;
use crate::harness::{Client, URL_FILE, folder};
use crate::ledger::Ledger;

pub(crate) fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_godwit-controlplane"))
}

/// A running program. Killed when dropped.
pub(crate) struct Program {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
    token: Option<String>,
    metrics: SocketAddr,
    /// What it has said on standard error since it listens.
    lines: Arc<Mutex<Vec<String>>>,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(data: &Path) -> Program {
    start_with(data, &[])
}

/// The same with settings in its environment.
pub(crate) fn start_with(data: &Path, settings: &[(&str, &str)]) -> Program {
    let mut command = command();
    command.env("GODWIT_LOG__FILTER", "error").envs(settings.iter().copied());
    let url = data.join(URL_FILE);
    if url.exists() {
        command.env("GODWIT_STORE__URL_FILE", url);
    }
    let mut child = command
        .args(["--api", "127.0.0.1:0", "--internal", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--data"])
        .arg(data)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    // A warning may come before.
    let mut at = |prefix: &str| {
        let mut rest = lines.by_ref().map(Result::unwrap).skip_while(|line| line.contains("WARN"));
        let line = rest.next().expect("the program says where it listens");
        let address = line.strip_prefix(prefix).unwrap_or_else(|| panic!("{line}")).to_owned();
        address.trim_end_matches("/metrics").parse().unwrap()
    };
    let address = at("api: http://");
    let metrics = at("metrics: http://");
    // Read on, or a full pipe stops the program.
    let said = Arc::<Mutex<Vec<String>>>::default();
    let saying = said.clone();
    std::thread::spawn(move || lines.for_each(|line| saying.lock().unwrap().push(line.unwrap_or_default())));
    let token = data.join("token");
    let token = if token.exists() {
        Some(std::fs::read_to_string(token).unwrap())
    } else {
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let text = line.trim().strip_prefix("admin token: ").expect(&line).to_owned();
        std::fs::write(token, &text).unwrap();
        Some(text)
    };
    Program { child, address, token, metrics, lines: said }
}

impl Program {
    pub(crate) fn client(&self) -> Client {
        Client { address: self.address, token: self.token.clone().unwrap() }
    }

    /// Waits until it takes no further connection.
    pub(crate) async fn until_refusing(&self) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while tokio::net::TcpStream::connect(self.address).await.is_ok() {
            assert!(tokio::time::Instant::now() < deadline, "it goes on to listen");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until it has said something; all that it said.
    pub(crate) async fn said(&self, what: &str) -> String {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        loop {
            let said = self.lines.lock().unwrap().join("\n");
            if said.contains(what) {
                return said;
            }
            assert!(tokio::time::Instant::now() < deadline, "never said: {what}\n{said}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_kill_minus_9_loses_nothing_that_was_acknowledged() {
    let kills = if std::env::var_os("GODWIT_LONG").is_some() { 200 } else { 10 };
    let folder = folder();
    let mut program = start(folder.path());
    program.client().json("POST", "/api/v1/domains", &json!({"name": "example.com."})).await.expect(201);
    let seed = seed();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let ledger = Arc::new(Ledger::named("w"));
    let mut in_flight_at_kills = 0;
    for round in 0..kills {
        let writers = ledger.write(&program.client());
        // However slow the machine is: half of them when something is acknowledged, the others whenever.
        let before = ledger.acknowledged();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while round % 2 == 0 && ledger.acknowledged() == before && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(5..60))).await;
        in_flight_at_kills += ledger.under_way().await;
        program.kill();
        writers.join_all().await;
        program = start(folder.path());
        ledger.check(&program.client(), seed).await;
    }
    assert!(in_flight_at_kills >= kills);
    assert!(ledger.acknowledged() >= kills / 2, "nothing was acknowledged: this shows nothing");
    let (writes, refused) = ledger.writes();
    assert_eq!(refused, 0, "the database was there all the time");
    println!("{kills} kills with {in_flight_at_kills} writes under way, {writes} writes in all");
}

#[tokio::test]
async fn metrics_are_those_of_the_documentation() {
    let folder = folder();
    let program = start(folder.path());
    program.client().get("/api/v1/domains").await.expect(200);
    let scrape =
        Client { address: program.metrics, token: String::new() }.get("/metrics").await.expect(200).text;
    let documentation = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let documentation = std::fs::read_to_string(documentation).unwrap();
    let documented: std::collections::BTreeSet<&str> = documentation
        .lines()
        .filter_map(|line| line.strip_prefix("| `godwit_controlplane_")?.split(['{', '`']).next())
        .collect();
    let scraped: Vec<(&str, &str)> = scrape
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE godwit_controlplane_")?.split_once(' '))
        .collect();
    let scraped_names: Vec<String> = scraped
        .iter()
        .map(|(name, kind)| if *kind == "counter" { format!("{name}_total") } else { (*name).to_owned() })
        .collect();
    assert_eq!(
        scraped_names.iter().map(String::as_str).collect::<std::collections::BTreeSet<_>>(),
        documented
    );
    let counted = "godwit_controlplane_requests_total{route=\"/api/v1/domains\",status=\"200\"} 1";
    assert!(scrape.contains(counted), "{scrape}");
}

#[test]
fn a_wrong_flag_or_configuration_ends_with_code_2_and_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("controlplane.toml");
    std::fs::write(&file, "[api]\nlisten_adress = \"127.0.0.1:1\"\n").unwrap();
    let output = command().arg("--config").arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("controlplane.toml, line 2: api.listen_adress: unknown field"), "{text}");
    assert_eq!(command().arg("--api").arg("nowhere").output().unwrap().status.code(), Some(2));
    for flag in ["--help", "--version"] {
        assert!(command().arg(flag).output().unwrap().status.success());
    }
    std::fs::write(&file, "[api]\nlisten = \"127.0.0.1:1\"\n").unwrap();
    let output = command().arg("--check-config").arg("--config").arg(&file).output().unwrap();
    assert!(output.status.success());
    let values: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(values["api"]["listen"], "127.0.0.1:1");
}
