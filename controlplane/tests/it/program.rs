//! The program itself: its command line, and that being killed loses nothing that was acknowledged.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper_util::rt::TokioIo;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use crate::concurrency::seed;
use crate::harness::Client;

fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_godwit-controlplane"))
}

/// A running program. Killed when dropped.
struct Program {
    child: Child,
    address: SocketAddr,
    token: Option<String>,
    metrics: SocketAddr,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(data: &Path) -> Program {
    let mut child = command()
        .args(["--api", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--data"])
        .arg(data)
        .env("GODWIT_LOG__FILTER", "error")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut at = |prefix: &str| {
        let line = lines.next().expect("the program says where it listens").unwrap();
        let address = line.strip_prefix(prefix).unwrap_or_else(|| panic!("{line}")).to_owned();
        address.trim_end_matches("/metrics").parse().unwrap()
    };
    let address = at("api: http://");
    let metrics = at("metrics: http://");
    // Read on, or a full pipe stops the program.
    std::thread::spawn(move || lines.for_each(drop));
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
    Program { child, address, token, metrics }
}

impl Program {
    fn client(&self) -> Client {
        Client { address: self.address, token: self.token.clone().unwrap() }
    }
}

/// A write; `None` when the connection ended without an answer.
async fn try_put(client: &Client, name: &str, value: &str) -> Option<u16> {
    let body = json!({"changes": [{"op": "put", "name": name, "type": "TXT", "value": [value]}]});
    let stream = tokio::net::TcpStream::connect(client.address).await.ok()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method("POST")
        .uri("/api/v1/changes")
        .header("host", "x")
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {}", client.token))
        .body(Full::new(Bytes::from(body.to_string())))
        .unwrap();
    let response = sender.send_request(request).await.ok()?;
    let status = response.status().as_u16();
    // Acknowledged is what came whole.
    response.into_body().collect().await.ok()?;
    Some(status)
}

/// The last acknowledged value of a name, and those that were under way at kills since.
#[derive(Clone, Default)]
struct Entry {
    acknowledged: Option<u32>,
    unanswered: Vec<u32>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_kill_minus_9_loses_nothing_that_was_acknowledged() {
    const WRITERS: usize = 4;
    let kills = if std::env::var_os("GODWIT_LONG").is_some() { 200 } else { 10 };
    let folder = tempfile::tempdir().unwrap();
    let mut program = start(folder.path());
    program.client().json("POST", "/api/v1/domains", &json!({"name": "example.com."})).await.expect(201);
    let seed = seed();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let ledger: Arc<Mutex<BTreeMap<String, Entry>>> = Arc::default();
    let counter = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let mut in_flight_at_kills = 0;
    for _ in 0..kills {
        let client = program.client();
        let in_flight = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            let (client, ledger, counter, in_flight) =
                (client.clone(), ledger.clone(), counter.clone(), in_flight.clone());
            writers.spawn(async move {
                use std::sync::atomic::Ordering::SeqCst;
                loop {
                    let number = counter.fetch_add(1, SeqCst);
                    let name = format!("w{writer}-{}.example.com.", number % 7);
                    ledger.lock().unwrap().entry(name.clone()).or_default().unanswered.push(number);
                    in_flight.fetch_add(1, SeqCst);
                    let answer = try_put(&client, &name, &number.to_string()).await;
                    in_flight.fetch_sub(1, SeqCst);
                    match answer {
                        Some(200) => {
                            let entry = Entry { acknowledged: Some(number), unanswered: Vec::new() };
                            ledger.lock().unwrap().insert(name, entry);
                        }
                        Some(other) => panic!("{other}"),
                        None => return,
                    }
                }
            });
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(5..60))).await;
        while in_flight.load(std::sync::atomic::Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        in_flight_at_kills += in_flight.load(std::sync::atomic::Ordering::SeqCst);
        // SIGKILL.
        program.child.kill().unwrap();
        program.child.wait().unwrap();
        writers.join_all().await;
        program = start(folder.path());
        let client = program.client();
        let entries = ledger.lock().unwrap().clone();
        for (name, Entry { acknowledged, unanswered }) in entries {
            let answer = client.get(&format!("/api/v1/records/{name}?type=TXT")).await;
            let found = (answer.status == 200).then(|| {
                let value = answer.json()["value"][0].as_str().unwrap().trim_matches('"').to_owned();
                value.parse::<u32>().unwrap()
            });
            // What was under way may be there or not; what was acknowledged must be, unless one of those came after it.
            assert!(
                found == acknowledged || found.is_some_and(|found| unanswered.contains(&found)),
                "{name}: acknowledged {acknowledged:?}, under way {unanswered:?}, found {found:?}; seed {seed}"
            );
        }
    }
    assert!(in_flight_at_kills >= kills);
    let written = ledger.lock().unwrap().values().filter(|entry| entry.acknowledged.is_some()).count();
    assert!(written > 5, "nothing was acknowledged: this shows nothing");
    println!(
        "{kills} kills with {in_flight_at_kills} writes under way, {} writes in all",
        counter.load(std::sync::atomic::Ordering::SeqCst)
    );
}

#[tokio::test]
async fn metrics_are_those_of_the_documentation() {
    let folder = tempfile::tempdir().unwrap();
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
