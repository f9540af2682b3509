//! A node of a control plane: joined by the line that the command prints, and on its own when all else is gone.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use godwit_dataplane::config::{Config, OrOff};
use godwit_dataplane::feed::remote::Remote;
use godwit_dataplane::feed::remote::join::Join;
use godwit_dataplane::{Records, Server, Start};
use godwit_testkit::servers::Redis;
use serde_json::json;

use crate::dns::{self, A};
use crate::plane::Plane;
use crate::process::{Started, output, wait_for};

/// A port that nobody has at this moment.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A first start that nodes can reach.
fn reachable(folder: &Path) -> Started {
    let file = folder.join("godwit.toml");
    let listen = format!("127.0.0.1:{}", free_port());
    std::fs::write(&file, format!("[internal]\nlisten = \"{listen}\"\n")).unwrap();
    Started::first_with(&["--config", file.to_str().unwrap()])
}

pub(crate) fn join_string(started: &Started, name: &str) -> String {
    started.running.api_address();
    let added = output(started.command().args(["node", "add", name]));
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    let printed = String::from_utf8(added.stdout).unwrap();
    printed.lines().find(|line| line.starts_with("godwit-join:")).unwrap().to_owned()
}

pub(crate) fn node(join: Join, state: &Path) -> Server {
    let mut config = Config::default();
    config.server.listen = vec!["127.0.0.1:0".parse().unwrap()];
    config.server.workers = std::num::NonZeroUsize::new(1);
    config.server.state = Some(state.to_owned());
    config.metrics.listen = Some(OrOff::Off);
    let records = Records::Remote(Remote::new(join, Some(state)).unwrap());
    Server::start(config, Start { records, ..Start::default() }).unwrap()
}

pub(crate) fn address_of(server: SocketAddr, name: &str) -> Option<Ipv4Addr> {
    let message = dns::udp(server, name, A);
    (message.rcode == 0).then(|| dns::addresses(&message)[0])
}

/// What is said to be applied is in the next answer of the node; without the control plane it answers, and starts, as before.
#[test]
fn p1_a_node_hears_of_changes_and_answers_without_anybody() {
    let folder = tempfile::tempdir().unwrap();
    let mut started = reachable(folder.path());
    let join = Join::of_argument(&join_string(&started, "n1")).unwrap();
    let state = folder.path().join("node");
    let server = node(join, &state);
    let dns = server.addresses()[0];
    assert_eq!(dns::udp(dns, "www.example.com.", A).rcode, 2, "SERVFAIL until it has records");
    wait_for("the example zone", || address_of(dns, "www.example.com."));
    let api = started.api();
    wait_for("both data planes", || {
        let nodes = api.get("/api/v1/nodes").json();
        let live = nodes["items"].as_array().unwrap().iter().filter(|node| node["live"] == true);
        (live.count() == 2).then_some(())
    });
    for number in 2..=20u8 {
        let record = json!({"type": "A", "value": [format!("192.0.2.{number}")]});
        let answer = api.put("/api/v1/records/www.example.com.?wait=applied&timeout=30s", &record);
        assert_eq!((answer.status, answer.header("godwit-applied")), (200, Some("2/2")), "{answer:?}");
        assert_eq!(address_of(dns, "www.example.com."), Some(Ipv4Addr::new(192, 0, 2, number)));
    }
    // It says so itself whether it holds what the heads say.
    wait_for("the digests to be compared", || {
        let nodes = api.get("/api/v1/nodes").json();
        let node =
            nodes["items"].as_array().unwrap().iter().find(|node| node["node"] == "n1").cloned().unwrap();
        (node["digests"] == "equal" && node["compared_sequence"] == node["sequence"]).then_some(())
    });
    started.running.kill();
    assert_eq!(address_of(dns, "www.example.com."), Some(Ipv4Addr::new(192, 0, 2, 20)));
    server.stop();
    // From what it kept itself: the join string and its snapshot.
    let again = node(Join::of_file(&state.join("join")).unwrap(), &state);
    assert_eq!(address_of(again.addresses()[0], "www.example.com."), Some(Ipv4Addr::new(192, 0, 2, 20)));
    again.stop();
}

/// A node that has nothing begins from the record cache while no control plane is there; what is forged in it is not served.
#[test]
fn p1_a_node_begins_from_the_record_cache_without_a_control_plane() {
    let folder = tempfile::tempdir().unwrap();
    let redis = Redis::start(&[]).unwrap();
    let mut config = godwit_controlplane::Config::default();
    config.store.data = folder.path().join("data");
    config.redis.url = Some(redis.url(0));
    config.redis.nodes_url = Some(format!("{}&user=node&pass=secret", redis.url(1)));
    let plane = Plane::start(config, None);
    let join = Join::of_argument(&plane.add("n1")).unwrap();
    let first = node(join.clone(), &folder.path().join("first"));
    wait_for("the example zone", || address_of(first.addresses()[0], "www.example.com."));
    let record = json!({"type": "A", "value": ["192.0.2.77"]});
    assert_eq!(plane.api.put("/api/v1/records/www.example.com.?wait=applied", &record).status, 200);
    plane.api.post("/api/v1/domains", &json!({"name": "example.org."}));
    let has = |zone: &str| redis.command(0, &["HKEYS", "godwit:{cache}:index"]).unwrap().contains(zone);
    wait_for("both zones in the cache", || has("org").then_some(()));
    drop(plane);
    first.stop();
    let begin = |name: &str| {
        let state = folder.path().join(name);
        std::fs::create_dir(&state).unwrap();
        std::fs::copy(folder.path().join("first/known"), state.join("known")).unwrap();
        node(join.clone(), &state)
    };
    let second = begin("second");
    let answered = wait_for("the zone", || address_of(second.addresses()[0], "www.example.com."));
    assert_eq!(answered, Ipv4Addr::new(192, 0, 2, 77));
    second.stop();
    // An index that says something else.
    redis.command(0, &["HSET", "godwit:{cache}:index", "x", "y"]).unwrap();
    let third = begin("third");
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert_eq!(dns::udp(third.addresses()[0], "www.example.com.", A).rcode, 2, "nothing is better than that");
    third.stop();
}

/// Another control plane at the same place, with other keys: nothing of it is believed.
#[test]
fn p9_a_node_believes_nobody_else_at_the_same_place() {
    let folder = tempfile::tempdir().unwrap();
    let started = reachable(folder.path());
    let other = reachable(folder.path());
    let join = Join::of_argument(&join_string(&started, "n1")).unwrap();
    let elsewhere = Join::of_argument(&join_string(&other, "n1")).unwrap();
    // The key of the TLS certificate is another one; and where it is not, that of the signatures is.
    let (mut other_place, mut other_keys) = (join.clone(), elsewhere.clone());
    other_place.control_planes = elsewhere.control_planes;
    other_keys.feed_keys = join.feed_keys;
    for join in [other_place, other_keys] {
        let server = node(join, &folder.path().join("node"));
        std::thread::sleep(std::time::Duration::from_millis(700));
        assert_eq!(dns::udp(server.addresses()[0], "www.example.com.", A).rcode, 2);
        server.stop();
        std::fs::remove_dir_all(folder.path().join("node")).unwrap();
    }
}

#[test]
fn nodes_are_listed_and_removed_by_command() {
    let folder = tempfile::tempdir().unwrap();
    let started = reachable(folder.path());
    join_string(&started, "n1");
    let twice = output(started.command().args(["node", "add", "n1"]));
    assert!(!twice.status.success() && String::from_utf8_lossy(&twice.stderr).contains("n1"));
    let listed = String::from_utf8(output(started.command().args(["node", "list"])).stdout).unwrap();
    assert!(listed.contains("n1") && listed.contains("local"), "{listed}");
    assert!(output(started.command().args(["node", "remove", "n1"])).status.success());
    let listed = String::from_utf8(output(started.command().args(["node", "list"])).stdout).unwrap();
    assert!(!listed.contains("n1"), "{listed}");
}
