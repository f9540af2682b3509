//! Clients with a ledger of what they were told, a database server and a control plane that are killed at random: each 202 is
//! made once, or reported.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use godwit_testkit::servers::Postgres;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::buffer::until_drained;
use crate::concurrency::seed;
use crate::harness::{Client, URL_FILE};
use crate::ledger::try_change;

const WRITERS: usize = 4;

/// A control plane as a process of its own. Killed when dropped.
struct Program {
    child: Child,
    client: Client,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `data`: where it finds its database, and the token is kept for the next start.
fn start(data: &Path) -> Option<Program> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_godwit-controlplane"));
    command
        .args(["--api", "127.0.0.1:0", "--internal", "127.0.0.1:0", "--metrics", "off", "--data"])
        .arg(data);
    started(command, data)
}

fn started(mut command: Command, data: &Path) -> Option<Program> {
    let mut child = command
        .env("GODWIT_STORE__URL_FILE", data.join(URL_FILE))
        .env("GODWIT_LOG__FILTER", "off")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let said = lines.next().and_then(Result::ok).unwrap_or_default();
    let Some(address) = said.strip_prefix("api: http://").map(|address| address.parse().unwrap()) else {
        // The database is not there yet.
        let _ = child.wait();
        return None;
    };
    std::thread::spawn(move || lines.for_each(drop));
    let token = data.join("token");
    if !token.exists() {
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        std::fs::write(&token, line.trim().strip_prefix("admin token: ").expect(&line)).unwrap();
    }
    Some(Program { child, client: Client { address, token: std::fs::read_to_string(token).unwrap() } })
}

/// What clients were told, by the number that they wrote.
#[derive(Default)]
struct Ledger {
    made: Mutex<Vec<u32>>,
    /// With the id of the change.
    accepted: Mutex<Vec<(u32, String)>>,
    next: std::sync::atomic::AtomicU32,
}

/// Adds one more value to a record; `None` when the connection ended without an answer.
async fn add(client: &Client, number: u32) -> Option<(u16, Value)> {
    let body = json!({"changes": [{"op": "add_value", "name": format!("n{}.example.com.", number % 211), "type": "TXT",
        "value": [number.to_string()]}]});
    let (status, octets) = try_change(client, &body).await?;
    Some((status, serde_json::from_slice(&octets).ok()?))
}

impl Ledger {
    fn write(self: &Arc<Self>, client: &Client) -> JoinSet<()> {
        let mut writers = JoinSet::new();
        for _ in 0..WRITERS {
            let (ledger, client) = (self.clone(), client.clone());
            writers.spawn(async move {
                loop {
                    let number = ledger.next.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    let Some((status, body)) = add(&client, number).await else { return };
                    match status {
                        200 => ledger.made.lock().unwrap().push(number),
                        202 => {
                            let change = body["id"].as_str().unwrap().to_owned();
                            ledger.accepted.lock().unwrap().push((number, change));
                        }
                        503 | 504 => tokio::time::sleep(Duration::from_millis(20)).await,
                        other => panic!("{other}: {body}"),
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            });
        }
        writers
    }

    /// Compares with what is there, once everything is settled: each value was added by one change, and each change is known.
    async fn check(&self, client: &Client, postgres: &Postgres, seed: u64) {
        let mut found = HashSet::new();
        for n in 0..211 {
            let answer = client.get(&format!("/api/v1/records/n{n}.example.com.?type=TXT")).await;
            if answer.status == 200 {
                let values = answer.json()["value"].as_array().unwrap().clone();
                found.extend(
                    values
                        .iter()
                        .map(|value| value.as_str().unwrap().trim_matches('"').parse::<u32>().unwrap()),
                );
            }
        }
        for number in &*self.made.lock().unwrap() {
            assert!(found.contains(number), "{number} was made and is gone; seed {seed}");
        }
        let accepted = self.accepted.lock().unwrap().clone();
        for (number, change) in &accepted {
            let state = client.get(&format!("/api/v1/changes/{change}")).await.expect(200).json();
            let is_conflict = state["state"] == "conflict";
            assert_eq!(found.contains(number), !is_conflict, "{number}: {state}; seed {seed}");
            assert!(is_conflict || state["committed_at"].is_string(), "{number}: {state}; seed {seed}");
        }
        // Each version of a zone stands for one change; the ids are those that clients know.
        let versions = postgres.psql("test0", "SELECT version - (SELECT count(*) FROM history h WHERE h.zone_key = z.name_key) FROM zones z").unwrap();
        assert!(versions.lines().all(|line| line == "0"), "{versions}; seed {seed}");
        let twice =
            postgres.psql("test0", "SELECT count(*) - count(DISTINCT change_id) FROM history").unwrap();
        assert_eq!(twice.trim(), "0", "seed {seed}");
    }
}

/// Any of the two may be killed, or the database fall silent, at any moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_each_accepted_change_is_made_once_or_reported_whatever_is_killed() {
    let rounds = if std::env::var_os("GODWIT_LONG").is_some() { 100 } else { 4 };
    let seed = seed();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let postgres = Postgres::start(&[]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(URL_FILE), postgres.create_database().unwrap()).unwrap();
    let mut program = start(folder.path()).expect("it starts");
    program.client.json("POST", "/api/v1/domains", &json!({"name": "example.com."})).await.expect(201);
    let ledger = Arc::new(Ledger::default());
    for round in 0..rounds {
        let mut writers = ledger.write(&program.client);
        tokio::time::sleep(Duration::from_millis(random.random_range(100..400))).await;
        let silent = random.random_ratio(1, 6);
        if silent {
            postgres.pause().unwrap();
        } else {
            postgres.kill().unwrap();
        }
        let accepted = ledger.accepted.lock().unwrap().len();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        while ledger.accepted.lock().unwrap().len() < accepted + 5 {
            assert!(tokio::time::Instant::now() < deadline, "nothing is accepted; seed {seed}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..500))).await;
        let kills = random.random_ratio(2, 3);
        let killed_away = kills && random.random_ratio(1, 2);
        if killed_away {
            program.child.kill().unwrap();
        }
        if silent {
            postgres.go_on().unwrap();
        } else {
            postgres.again().unwrap();
        }
        if kills && !killed_away {
            // While it makes what it holds.
            tokio::time::sleep(Duration::from_millis(random.random_range(0..400))).await;
            program.child.kill().unwrap();
        }
        if kills {
            while writers.join_next().await.is_some() {}
            program.child.wait().unwrap();
            program = loop {
                match start(folder.path()) {
                    Some(program) => break program,
                    None => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            };
        }
        until_drained(&program.client).await;
        writers.shutdown().await;
        until_drained(&program.client).await;
        ledger.check(&program.client, &postgres, seed).await;
        println!(
            "round {round}: {} made at once, {} accepted",
            ledger.made.lock().unwrap().len(),
            ledger.accepted.lock().unwrap().len()
        );
    }
    assert!(ledger.accepted.lock().unwrap().len() > 5 * rounds);
}

/// The disk of the buffer fills up: what is accepted is on it, what does not fit is refused, and goes on being refused until there is
/// room; all that was accepted is made. Needs root, for a file system of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_a_full_disk_under_the_buffer_loses_nothing_that_was_accepted() {
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        eprintln!("skipped: mounting a small file system needs root");
        return;
    }
    let postgres = Postgres::start(&[]).unwrap();
    let (folder, small) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(folder.path().join(URL_FILE), postgres.create_database().unwrap()).unwrap();
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c"])
        .arg("mount -t tmpfs -o size=8m none \"$2\" && exec \"$1\" --api 127.0.0.1:0 --internal 127.0.0.1:0 --metrics off --data \"$2\"")
        .args(["sh", env!("CARGO_BIN_EXE_godwit-controlplane")])
        .arg(small.path());
    let program = started(command, folder.path()).expect("it starts");
    let client = &program.client;
    client.json("POST", "/api/v1/domains", &json!({"name": "example.com."})).await.expect(201);
    let root = Path::new("/proc").join(program.child.id().to_string()).join("root");
    let filler = root.join(small.path().strip_prefix("/").unwrap()).join("filler");
    std::fs::File::create(&filler).unwrap().write_all(&vec![7; 2 << 20]).unwrap();
    postgres.kill().unwrap();
    while postgres.psql("postgres", "SELECT 1").is_ok() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let values: Vec<String> = (0..90).map(|n| format!("{n:0250}")).collect();
    let (mut accepted, mut refused) = (Vec::new(), 0);
    for n in 0..2_000 {
        let body = json!({"name": format!("n{n}.example.com."), "type": "TXT", "value": values});
        let answer = client.json("POST", "/api/v1/records", &body).await;
        if answer.status == 202 {
            accepted.push((n, answer.json()["id"].as_str().unwrap().to_owned()));
            continue;
        }
        assert_eq!(answer.expect(503).code(), "BUFFER_UNAVAILABLE");
        refused += 1;
        if refused == 5 {
            break;
        }
    }
    assert!(
        accepted.len() > 3 && refused == 5,
        "{} accepted, {refused} refused: the disk was never full",
        accepted.len()
    );
    std::fs::remove_file(&filler).unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    let after = json!({"name": "after.example.com.", "type": "A", "value": ["192.0.2.1"]});
    while client.json("POST", "/api/v1/records", &after).await.status != 202 {
        assert!(tokio::time::Instant::now() < deadline, "nothing is accepted any more");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    postgres.again().unwrap();
    until_drained(client).await;
    for (n, change) in &accepted {
        client.get(&format!("/api/v1/records/n{n}.example.com.")).await.expect(200);
        let state = client.get(&format!("/api/v1/changes/{change}")).await.expect(200).json();
        assert!(state["committed_at"].is_string(), "{state}");
    }
    client.get("/api/v1/records/after.example.com.").await.expect(200);
    // What was refused is not there behind the back of who was told so.
    let records = postgres.psql("test0", "SELECT count(*) FROM rrsets").unwrap();
    assert_eq!(records.trim(), (accepted.len() + 3).to_string());
}
