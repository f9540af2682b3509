//! R6: one record at which the code of data planes fails. It fails in the shadow first: the change is withheld, everything else goes
//! on, and it stays so for everybody until a later change of the zone passes.
//!
//! The harm is planted in the environment of the shadow, in builds with debug assertions alone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use godwit_controlplane::{Config, Program};
use godwit_redis::{Place, Timeouts};
use godwit_testkit::servers::{Postgres, Redis};
use godwit_wire::feed::{Batch, ChangeSet, Entry, Index, ZoneBlob};
use serde_json::{Value, json};

use crate::harness::{Server, URL_FILE, folder, shadow};
use crate::node::{Node, hex};
use crate::replica::Replica;

const POISON: &str = "poison.bad.test.";
const SOON: Duration = Duration::from_secs(60);

/// A shadow with harm in it.
fn harmed(harm: &str) -> Program {
    let planted = format!("GODWIT_PLANTED={harm}:{POISON}");
    Program::new("/usr/bin/env", &[&planted, env!("CARGO_BIN_EXE_godwit-controlplane"), "shadow"])
}

fn bounds(config: &mut Config) {
    config.relay.shadow_timeout_ms = 2_000;
    config.relay.shadow_memory_octets = 512 << 20;
}

async fn start(folder: Arc<tempfile::TempDir>, token: Option<String>, shadow: Program) -> Server {
    Server::start_judged(folder, Replica::default(), None, token, shadow, bounds).await
}

fn address(name: &str, last: u8) -> Value {
    let step = json!({"op": "put", "name": name, "type": "A", "value": [format!("192.0.2.{last}")]});
    json!({ "changes": [step] })
}

/// Puts an address; gives the id of the change.
async fn put(server: &Server, name: &str, last: u8) -> String {
    let answer = server.client.json("POST", "/api/v1/changes", &address(name, last)).await.expect(200);
    answer.json()["id"].as_str().unwrap().to_owned()
}

async fn state(server: &Server, change: &str) -> Value {
    server.client.get(&format!("/api/v1/changes/{change}")).await.expect(200).json()
}

/// Waits until a change has its sequence; gives its state.
async fn published(server: &Server, change: &str) -> Value {
    let began = Instant::now();
    loop {
        let state = state(server, change).await;
        if state["sequence"].is_number() {
            return state;
        }
        assert!(began.elapsed() < SOON, "it is not published: {state}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// All batches of the log, as a node is given them.
async fn log(node: &Node) -> Vec<Bytes> {
    let index = Index::decode(&node.get("/internal/v1/index").await.expect(200).body).unwrap();
    let (mut sequence, mut chain, mut all) = (0, [0; 32], Vec::new());
    loop {
        let given =
            node.batches(index.place.generation, index.place.epoch, sequence, &chain).await.expect(200);
        let mut batches = 0;
        for octets in given.entries() {
            let Entry::Batch(batch) = Entry::decode(&octets).unwrap() else { continue };
            assert_eq!(
                (batch.first_sequence, batch.previous_chain),
                (sequence + 1, chain),
                "the chain is broken"
            );
            (sequence, chain) = (batch.last_sequence(), Batch::chain_of(&octets).unwrap());
            batches += 1;
            all.push(octets);
        }
        if batches == 0 {
            return all;
        }
    }
}

fn change_sets(log: &[Bytes]) -> Vec<ChangeSet> {
    log.iter().flat_map(|octets| Batch::decode(octets).unwrap().change_sets).collect()
}

/// The change set of a change.
fn of<'l>(log: &'l [ChangeSet], change: &str) -> &'l ChangeSet {
    let id = uuid::Uuid::parse_str(change).unwrap().into_bytes();
    log.iter().find(|set| set.id == id).expect("it is not in the log")
}

/// How many RRsets of a zone are given, and at which version.
async fn given(node: &Node, zone: &str) -> (usize, u64) {
    // With another, it is read in another way.
    let [alone, with_another] = [&[zone][..], &[zone, "other.test."]];
    let given = node.zones(alone).await.remove(0);
    assert_eq!(node.zones(with_another).await[0], given);
    let given = given.blob.unwrap();
    ZoneBlob::verify(&given, &node.feed_keys).unwrap();
    let blob = ZoneBlob::decode(&given).unwrap();
    (blob.rrsets.len(), blob.version)
}

async fn withheld_zones(server: &Server) -> i64 {
    let count = "SELECT count(*) FROM withheld_zones";
    server.beside().await.query(count).fetch_value().await.unwrap()
}

/// The node, which asks another control plane.
fn at(node: &Node, server: &Server) -> Node {
    Node { address: server.internal.unwrap(), ..node.clone() }
}

/// One tenant's poison between what others write; everybody who reads the log reads the same, for ever.
async fn is_withheld(harm: &str, reason: &str) {
    let server = start(folder(), None, harmed(harm)).await;
    let node = Node::add(&server, "ns1").await;
    for zone in ["bad.test.", "good.test.", "fine.test."] {
        server.client.json("POST", "/api/v1/domains", &json!({ "name": zone })).await.expect(201);
    }
    let before = put(&server, "before.good.test.", 1).await;
    published(&server, &before).await;
    // What is committed while somebody has the relay's row is one batch, but for the first.
    let mut holding = server.beside().await;
    holding.control(&["BEGIN"]).await.unwrap();
    holding.query("SELECT 1 FROM relay FOR UPDATE").fetch_all().await.unwrap();
    let mut together = vec![put(&server, "a.good.test.", 1).await];
    tokio::time::sleep(Duration::from_millis(100)).await;
    together.push(put(&server, "b.good.test.", 2).await);
    let poison = put(&server, POISON, 66).await;
    together.push(put(&server, "c.fine.test.", 3).await);
    holding.control(&["ROLLBACK"]).await.unwrap();
    let withheld = published(&server, &poison).await;
    for change in &together {
        assert_eq!(published(&server, change).await["state"], "published");
    }
    let after = put(&server, "after.good.test.", 4).await;
    published(&server, &after).await;
    // What is said of it.
    assert_eq!(withheld["state"], "withheld", "{withheld}");
    assert_eq!(withheld["withheld"][0]["zone"], "bad.test.");
    let said = withheld["withheld"][0]["reason"].as_str().unwrap();
    assert!(said.contains(reason), "{said}");
    let metrics = server.metrics();
    for line in ["withheld_zones 1", "shadow_ends_total 2", "shadow_errors_total 0", "shadow_running 1"] {
        assert!(metrics.contains(&format!("godwit_controlplane_{line}\n")), "{line}: {metrics}");
    }
    // A node that has all there is has not applied it.
    let first = log(&node).await;
    let last = Batch::decode(first.last().unwrap()).unwrap();
    let said = json!({
        "generation": last.generation, "epoch": last.epoch, "sequence": last.last_sequence(),
        "chain": hex(&last.chain()),
    });
    node.say(&said).await.expect(204);
    let shown = state(&server, &poison).await;
    assert_eq!(
        (&shown["state"], &shown["nodes"][0]["applied"]),
        (&json!("withheld"), &json!(false)),
        "{shown}"
    );
    assert_eq!(state(&server, &after).await["state"], "applied");
    // The same again, which waits for what is there.
    let path = "/api/v1/changes?wait=applied&timeout=20s";
    let answer = server.client.json("POST", path, &address(POISON, 66)).await.expect(200);
    assert_eq!(answer.header("godwit-applied"), "0/1");
    // The log: all of it, in order, and nothing of the poison.
    let sets = change_sets(&first);
    let index = |change: &str| sets.iter().position(|set| std::ptr::eq(set, of(&sets, change))).unwrap();
    assert!(index(&before) < index(&together[0]) && index(&poison) < index(&after));
    assert!(of(&sets, &poison).zones.is_empty());
    for change in together.iter().chain([&before, &after]) {
        assert_eq!(of(&sets, change).zones.len(), 1);
    }
    // The zone is given to nobody, the others are.
    assert_eq!(given(&node, "bad.test.").await, (0, 2));
    assert!(given(&node, "fine.test.").await.0 > 0);
    // Another process, and the next one.
    let token = server.client.token.clone();
    let second = start(server.folder.clone(), Some(token.clone()), harmed(harm)).await;
    let there = at(&node, &second);
    assert_eq!(log(&there).await, first, "another process makes other octets of it");
    assert_eq!(given(&there, "bad.test.").await, (0, 2));
    let (folder, ..) = server.stop().await;
    second.stop().await;
    let server = start(folder, Some(token), harmed(harm)).await;
    let here = at(&node, &server);
    assert_eq!(log(&here).await, first);
    assert_eq!(state(&server, &poison).await["state"], "withheld");
    assert_eq!(given(&here, "bad.test.").await, (0, 2));
    // One that takes it out does, and all of the zone is given again.
    let fix = server.client.delete(&format!("/api/v1/records/{POISON}?type=A")).await;
    let fix = fix.header("godwit-change").to_owned();
    assert_eq!(published(&server, &fix).await["state"], "published");
    assert_eq!(given(&here, "bad.test.").await, (2, 3), "SOA and NS");
    assert_eq!(withheld_zones(&server).await, 0);
    assert_ne!(state(&server, &poison).await["state"], "withheld", "what it was is behind it");
    assert_eq!(of(&change_sets(&log(&here).await), &fix).zones.len(), 1);
}

#[tokio::test]
async fn r6_a_change_that_panics_is_withheld() {
    is_withheld("panic", "exit status: 101").await;
}

#[tokio::test]
async fn r6_a_change_without_end_is_withheld() {
    is_withheld("loop", "longer than 2s").await;
}

#[tokio::test]
async fn r6_a_change_that_takes_memory_without_end_is_withheld() {
    is_withheld("memory", "SIGABRT").await;
}

#[tokio::test]
async fn r6_a_change_that_overflows_the_stack_is_withheld() {
    is_withheld("stack", "SIGABRT").await;
}

/// A zone that stays as bad as it is keeps nobody waiting for ever: it is judged after pauses, and goes on by itself once it passes.
#[tokio::test]
async fn r6_a_zone_that_stays_bad_is_judged_seldom() {
    let server = start(folder(), None, harmed("panic")).await;
    let node = Node::add(&server, "ns1").await;
    server.client.json("POST", "/api/v1/domains", &json!({ "name": "bad.test." })).await.expect(201);
    let ends = || {
        let text = server.metrics();
        let name = "godwit_controlplane_shadow_ends_total ";
        text.lines().find_map(|line| line.strip_prefix(name)).unwrap().parse::<u32>().unwrap()
    };
    let poison = put(&server, POISON, 66).await;
    assert_eq!(published(&server, &poison).await["state"], "withheld");
    assert_eq!(ends(), 2);
    let other = put(&server, "other.bad.test.", 1).await;
    assert_eq!(published(&server, &other).await["state"], "withheld");
    assert_eq!(ends(), 4, "the first is judged");
    for last in 2..6 {
        let other = put(&server, "other.bad.test.", last).await;
        assert_eq!(published(&server, &other).await["state"], "withheld");
    }
    let fix = server.client.delete(&format!("/api/v1/records/{POISON}?type=A")).await;
    let fix = fix.header("godwit-change").to_owned();
    assert_eq!(published(&server, &fix).await["state"], "withheld");
    assert_eq!(ends(), 4, "and no more for now");
    let began = Instant::now();
    while withheld_zones(&server).await > 0 {
        assert!(began.elapsed() < SOON, "it is never judged again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(given(&node, "bad.test.").await, (3, 8));
    assert_ne!(state(&server, &fix).await["state"], "withheld");
}

/// With a program that has not the fault, it goes on without another change.
#[tokio::test]
async fn r6_a_better_program_gives_the_zone_again() {
    let server = start(folder(), None, harmed("panic")).await;
    server.client.json("POST", "/api/v1/domains", &json!({ "name": "bad.test." })).await.expect(201);
    let poison = put(&server, POISON, 66).await;
    assert_eq!(published(&server, &poison).await["state"], "withheld");
    let (folder, _, token) = server.stop().await;
    let server = start(folder, Some(token), shadow()).await;
    let node = Node::add(&server, "ns1").await;
    let began = Instant::now();
    while withheld_zones(&server).await > 0 {
        assert!(began.elapsed() < SOON, "it is not judged");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(given(&node, "bad.test.").await, (3, 2));
}

/// Removing the zone is a way out as well, and what takes its name begins anew.
#[tokio::test]
async fn r6_a_zone_that_is_removed_is_withheld_no_longer() {
    let server = start(folder(), None, harmed("panic")).await;
    let node = Node::add(&server, "ns1").await;
    server.client.json("POST", "/api/v1/domains", &json!({ "name": "bad.test." })).await.expect(201);
    let poison = put(&server, POISON, 66).await;
    assert_eq!(published(&server, &poison).await["state"], "withheld");
    server.client.delete_zone("bad.test.").await;
    let made =
        server.client.json("POST", "/api/v1/domains", &json!({ "name": "bad.test." })).await.expect(201);
    assert_eq!(published(&server, made.header("godwit-change")).await["state"], "published");
    assert_eq!(withheld_zones(&server).await, 0);
    assert_eq!(given(&node, "bad.test.").await.0, 2);
}

/// What was read before it was judged is not given either.
#[tokio::test]
async fn r6_a_zone_that_was_asked_for_before_it_was_judged_is_not_given() {
    let server = start(folder(), None, harmed("loop")).await;
    let node = Node::add(&server, "ns1").await;
    server.client.json("POST", "/api/v1/domains", &json!({ "name": "bad.test." })).await.expect(201);
    let poison = put(&server, POISON, 66).await;
    assert_eq!(state(&server, &poison).await["state"], "committed", "it takes seconds to judge it");
    assert_eq!(given(&node, "bad.test.").await, (0, 2));
}

/// A child that ends for another reason costs nobody anything.
#[tokio::test]
async fn r6_one_end_of_the_shadow_withholds_nothing() {
    let folder = folder();
    let mark = folder.path().join("was-there");
    // The first has harm in it, the next one has not.
    let script = format!(
        "if [ -e {0} ]; then exec \"$@\"; else : > {0}; GODWIT_PLANTED=panic:{POISON} exec \"$@\"; fi",
        mark.display()
    );
    let program = env!("CARGO_BIN_EXE_godwit-controlplane");
    let once = Program::new("/bin/sh", &["-c", &script, "sh", program, "shadow"]);
    let server = start(folder, None, once).await;
    server.client.json("POST", "/api/v1/domains", &json!({ "name": "bad.test." })).await.expect(201);
    let change = put(&server, POISON, 66).await;
    assert_eq!(published(&server, &change).await["state"], "published");
    assert!(server.metrics().contains("shadow_ends_total 1\n"), "{}", server.metrics());
}

/// Judging takes longer than a lease holds: it is renewed all the while, or the next one would judge from the start.
#[tokio::test]
async fn r6_who_judges_for_long_stays_the_one_who_gives_sequences() {
    let slow = |config: &mut Config| config.relay.shadow_timeout_ms = 4_000;
    let begin =
        |folder, token| Server::start_judged(folder, Replica::default(), None, token, harmed("loop"), slow);
    let server = begin(folder(), None).await;
    let _other = begin(server.folder.clone(), Some(server.client.token.clone())).await;
    let made =
        server.client.json("POST", "/api/v1/domains", &json!({ "name": "bad.test." })).await.expect(201);
    published(&server, made.header("godwit-change")).await;
    let epoch =
        async || server.beside().await.query("SELECT epoch FROM relay").fetch_value::<i64>().await.unwrap();
    let before = epoch().await;
    let poison = put(&server, POISON, 66).await;
    assert_eq!(published(&server, &poison).await["state"], "withheld");
    assert_eq!(epoch().await, before, "another process has the lease");
}

/// A child whose parent is killed does not stay, whatever it is at; here it reads from somebody who says nothing.
#[test]
fn a_shadow_ends_with_its_parent() {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};
    let start = "exec 3<&0; \"$0\" shadow --memory-octets 536870912 <&3 >/dev/null & echo $!; wait";
    let mut parent = Command::new("/bin/sh")
        .args(["-c", start, env!("CARGO_BIN_EXE_godwit-controlplane")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut id = String::new();
    BufReader::new(parent.stdout.take().unwrap()).read_line(&mut id).unwrap();
    let _open = parent.stdin.take();
    let child = std::path::Path::new("/proc").join(id.trim());
    std::thread::sleep(Duration::from_millis(500));
    assert!(child.exists(), "it has a parent");
    parent.kill().unwrap();
    parent.wait().unwrap();
    let began = Instant::now();
    let is_there = || {
        // One that nobody has waited for yet has ended all the same.
        let stat = std::fs::read_to_string(child.join("stat")).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with('Z'))
    };
    while is_there() {
        assert!(began.elapsed() < SOON, "it stays");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Turned off, nothing is judged, and what was withheld is given again with the next change.
#[tokio::test]
async fn a_shadow_that_is_turned_off_withholds_nothing() {
    let server = start(folder(), None, harmed("panic")).await;
    server.client.json("POST", "/api/v1/domains", &json!({ "name": "bad.test." })).await.expect(201);
    let poison = put(&server, POISON, 66).await;
    assert_eq!(published(&server, &poison).await["state"], "withheld");
    let (folder, replica, token) = server.stop().await;
    let off = |config: &mut Config| config.relay.shadow = false;
    let server = Server::start_judged(folder, replica, None, Some(token), harmed("panic"), off).await;
    assert_eq!(state(&server, &poison).await["state"], "withheld");
    let change = put(&server, POISON, 67).await;
    assert_eq!(published(&server, &change).await["state"], "published");
    assert_eq!(withheld_zones(&server).await, 0);
}

/// Without a shadow everything is published, and it is said that nothing is judged.
#[tokio::test]
async fn r6_a_shadow_that_does_not_start_stops_nothing() {
    for program in [Program::new("/nonexistent", &[]), Program::new("/bin/true", &[])] {
        let server = start(folder(), None, program).await;
        let change = put(&server, "www.example.com.", 7).await;
        assert_eq!(published(&server, &change).await["state"], "published");
        let metrics = server.metrics();
        assert!(
            metrics.contains("shadow_running 0\n") && !metrics.contains("shadow_unjudged_total 0\n"),
            "{metrics}"
        );
    }
}

/// What the engine refuses, data planes refuse themselves: it is published as it is.
#[tokio::test]
async fn a_change_set_that_does_not_fit_is_published() {
    let server = start(folder(), None, shadow()).await;
    let node = Node::add(&server, "ns1").await;
    published(&server, &put(&server, "www.example.com.", 7).await).await;
    let apex = "example.com.".parse().unwrap();
    let kind = godwit_wire::feed::ZoneChangeKind::Update(Vec::new());
    let zones =
        vec![godwit_wire::feed::ZoneChange { zone: apex, owner: 0, base_version: 98, version: 99, kind }];
    let id = uuid::Uuid::now_v7();
    let mut payload = Vec::new();
    ChangeSet { id: id.into_bytes(), committed_at_us: 1, zones }.encode(&mut payload);
    let mut database = server.beside().await;
    let insert = "INSERT INTO changes (id, committed_at_us, actor, request_id, payload) VALUES ($1, 1, 'local', '', $2)";
    database.query(insert).bind(id).bind(payload).execute().await.unwrap();
    let enqueue = database.query("INSERT INTO outbox (change_id, root_change) VALUES ($1, $2)");
    enqueue.bind(id).bind(vec![0u8; 32]).execute().await.unwrap();
    assert_ne!(published(&server, &id.to_string()).await["state"], "withheld");
    assert_eq!(of(&change_sets(&log(&node).await), &id.to_string()).zones.len(), 1);
    assert!(server.metrics().contains("shadow_errors_total 1\n"), "{}", server.metrics());
    // The next one of the zone is judged by the zone as it is.
    published(&server, &put(&server, "www.example.com.", 8).await).await;
    assert!(server.metrics().contains("shadow_errors_total 1\n"));
}

/// Zones that were not used for long are forgotten, and read again.
#[tokio::test]
async fn the_shadow_holds_no_more_than_it_may() {
    let small = |config: &mut Config| config.relay.shadow_zones_octets = 1 << 20;
    let server = Server::start_judged(folder(), Replica::default(), None, None, shadow(), small).await;
    // 300 kB each, but for one that is larger than all that is held.
    for (zone, names) in
        [("a.test.", 600), ("b.test.", 600), ("c.test.", 600), ("d.test.", 600), ("e.test.", 3_000)]
    {
        let text = "x".repeat(250);
        let lines = (0..names).map(|n| format!("n{n} 300 IN TXT {text} {text}\n"));
        let file =
            format!("@ 300 IN SOA ns h 1 2 3 4 5\n@ 300 IN NS ns.example.\n{}", lines.collect::<String>());
        let imported = server.client.import(zone, &file).await;
        assert!(imported.status.is_success(), "{}", imported.text);
    }
    for round in 1..4 {
        for zone in ["a", "e", "b", "c", "d"] {
            let change = put(&server, &format!("www.{zone}.test."), round).await;
            assert_eq!(published(&server, &change).await["state"], "published");
        }
    }
    let metrics = server.metrics();
    // The zone that is larger came in a change set that is.
    for line in ["shadow_ends_total 0", "shadow_errors_total 0", "shadow_unjudged_total 1"] {
        assert!(metrics.contains(&format!("godwit_controlplane_{line}\n")), "{line}: {metrics}");
    }
}

/// Zones that are changed in turns with more others than it holds are not read for every change.
#[tokio::test]
async fn the_shadow_reads_no_more_than_it_may() {
    const SECOND: u64 = 1 << 20;
    let small = |config: &mut Config| config.relay.shadow_zones_octets = SECOND;
    let server = Server::start_judged(folder(), Replica::default(), None, None, shadow(), small).await;
    let text = "x".repeat(250);
    let lines: String = (0..100).map(|n| format!("n{n} 300 IN TXT {text} {text}\n")).collect();
    let zones: Vec<String> = (0..40).map(|n| format!("z{n}.test.")).collect();
    for zone in &zones {
        let file = format!("@ 300 IN SOA ns h 1 2 3 4 5\n@ 300 IN NS ns.example.\n{lines}");
        let imported = server.client.import(zone, &file).await;
        assert!(imported.status.is_success(), "{}", imported.text);
    }
    let began = Instant::now();
    for round in 0..12 {
        let put = |zone| json!({ "op": "put", "name": format!("www.{zone}"), "type": "A", "value": [format!("192.0.2.{round}")] });
        let changes: Vec<Value> = zones.iter().map(put).collect();
        let body = json!({ "changes": changes });
        let made = server.client.json("POST", "/api/v1/changes", &body).await;
        assert!(made.status.is_success(), "{}", made.text);
        assert_eq!(published(&server, made.header("godwit-change")).await["state"], "published");
    }
    let metrics = server.metrics();
    let read =
        metrics.lines().find_map(|line| line.strip_prefix("godwit_controlplane_shadow_read_octets_total "));
    let read: u64 = read.unwrap().parse().unwrap();
    let most = SECOND * (began.elapsed().as_secs() + 2);
    assert!((1..=most).contains(&read), "{read} octets, at most {most} were to be read");
    for line in ["shadow_ends_total 0", "shadow_errors_total 0", "shadow_unjudged_total 0"] {
        assert!(metrics.contains(&format!("godwit_controlplane_{line}\n")), "{line}: {metrics}");
    }
}

/// Of a zone that is larger than the shadow may hold, what is put into it is judged all the same.
#[tokio::test]
async fn r6_what_is_put_into_a_large_zone_is_judged() {
    let small = |config: &mut Config| config.relay.shadow_zones_octets = 1 << 20;
    let server = Server::start_judged(folder(), Replica::default(), None, None, harmed("panic"), small).await;
    let text = "x".repeat(250);
    let lines = (0..3_000).map(|n| format!("n{n} 300 IN TXT {text} {text}\n"));
    let file = format!("@ 300 IN SOA ns h 1 2 3 4 5\n@ 300 IN NS ns.example.\n{}", lines.collect::<String>());
    assert!(server.client.import("bad.test.", &file).await.status.is_success());
    let poison = put(&server, POISON, 66).await;
    assert_eq!(published(&server, &poison).await["state"], "withheld");
    let fix = server.client.delete(&format!("/api/v1/records/{POISON}?type=A")).await;
    assert_eq!(published(&server, fix.header("godwit-change")).await["state"], "published");
}

/// The record cache lists the zone as it is, and has nothing of it that can be served.
#[tokio::test]
async fn r6_a_zone_that_is_withheld_is_not_in_the_record_cache() {
    let redis = Redis::start(&[]).unwrap();
    let cached = |config: &mut Config| {
        bounds(config);
        config.redis.url = Some(redis.url(0));
    };
    let server =
        Server::start_judged(folder(), Replica::default(), None, None, harmed("panic"), cached).await;
    server.client.json("POST", "/api/v1/domains", &json!({ "name": "bad.test." })).await.expect(201);
    let second = Duration::from_secs(10);
    let timeouts = Timeouts { connect: second, response: second };
    let mut connection = Place::parse(&redis.url(0)).unwrap().connect(timeouts).await.unwrap();
    let mut key = b"godwit:{cache}:zone:".to_vec();
    key.extend_from_slice("bad.test.".parse::<godwit_wire::name::Name>().unwrap().as_wire());
    let mut until = async |version: u64, rrsets: usize| {
        let began = Instant::now();
        loop {
            let found: Option<Vec<u8>> =
                redis::cmd("GET").arg(&key).query_async(&mut connection).await.unwrap();
            let found = found.map(|octets| ZoneBlob::decode(&octets).unwrap());
            if found.as_ref().is_some_and(|blob| (blob.version, blob.rrsets.len()) == (version, rrsets)) {
                return;
            }
            assert!(began.elapsed() < SOON, "{found:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    until(1, 2).await;
    let poison = put(&server, POISON, 66).await;
    assert_eq!(published(&server, &poison).await["state"], "withheld");
    until(2, 0).await;
    server.client.delete(&format!("/api/v1/records/{POISON}?type=A")).await;
    until(3, 2).await;
}

/// What is sent to the database server is what it expects: an operator who looks at its log sees nothing of us.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_server_has_nothing_to_say() {
    let postgres = Postgres::start(&["log_min_messages=warning", "log_statement=none"]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(URL_FILE), postgres.create_database().unwrap()).unwrap();
    // A shadow that has just begun reads the zones whose changes it is to judge.
    let (folder, _, token) = start(Arc::new(folder), None, shadow()).await.stop().await;
    let server = start(folder, Some(token), shadow()).await;
    let said = || postgres.log().lines().filter(|line| !line.contains("LOG: ")).count();
    let before = said();
    for last in 21..=25 {
        for name in ["www.example.com.", "mail.example.com."] {
            let change = put(&server, name, last).await;
            assert_eq!(published(&server, &change).await["state"], "published");
        }
    }
    assert_eq!(said(), before, "{}", postgres.log());
    assert!(!server.metrics().contains("shadow_read_octets_total 0\n"), "nothing was read");
}
