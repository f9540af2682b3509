//! Nodes of several control planes on one database: what is asked goes to the next when one dies, and the keys of the feed are
//! rotated under way.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use godwit_controlplane::config::Store;
use godwit_controlplane::{Config, Controlplane};
use godwit_dataplane::feed::remote::join::{self, Join};
use godwit_testkit::servers::{Postgres, Redis};
use serde_json::{Value, json};

use crate::dns::{self, A};
use crate::http::Api;
use crate::node::{address_of, free_port, join_string, node};
use crate::plane::Plane;
use crate::process::{Running, Started, wait_for};

/// Starts control planes on a database of their own, each with the URLs of all.
fn control_planes(folder: &Path, count: usize) -> Vec<Started> {
    let database = Postgres::shared().create_database().unwrap();
    let secrets = folder.join("secrets.key");
    let ports: Vec<u16> = (0..count).map(|_| free_port()).collect();
    let urls: Vec<String> = ports.iter().map(|port| format!("https://127.0.0.1:{port}")).collect();
    let mut started: Vec<Started> = Vec::new();
    for port in &ports {
        let file = folder.join(format!("{port}.toml"));
        let text = format!(
            "[internal]\nlisten = \"127.0.0.1:{port}\"\nurl = \"{}\"\n[store]\nurl = \"{database}\"\nsecrets_key_file = \"{}\"\n",
            urls.join(", "),
            secrets.display(),
        );
        std::fs::write(&file, text).unwrap();
        let arguments = ["--config", file.to_str().unwrap()];
        started.push(match started.first() {
            None => Started::first_with(&arguments),
            Some(first) => {
                let folder = tempfile::tempdir().unwrap();
                let running = Running::launch(&folder.path().join("data"), &arguments);
                running.api_address();
                Started { running, token: first.token.clone(), folder }
            }
        });
        started[0].running.api_address();
    }
    started
}

/// Puts an address, and waits until all data planes have it: how many, of how many.
fn put_everywhere(api: &Api, octet: u8) -> String {
    let record = json!({"type": "A", "value": [format!("192.0.2.{octet}")]});
    let answer = api.put("/api/v1/records/www.example.com.?wait=applied&timeout=30s", &record);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.header("godwit-applied").unwrap().to_owned()
}

fn wait_live(api: &Api, count: usize) {
    wait_for("data planes that live", || {
        let nodes = api.get("/api/v1/nodes").json();
        let live = nodes["items"].as_array().unwrap().iter().filter(|node| node["live"] == true).count();
        (live == count).then_some(())
    });
}

/// As a control plane of the version before says it: with one URL.
fn with_one_url(line: &str) -> String {
    let octets = URL_SAFE_NO_PAD.decode(line.strip_prefix("godwit-join:").unwrap()).unwrap();
    let mut content: Value = serde_json::from_slice(&octets).unwrap();
    assert!(content.as_object_mut().unwrap().remove("urls").is_some());
    format!("godwit-join:{}", URL_SAFE_NO_PAD.encode(content.to_string()))
}

/// Where the control plane dies that it speaks to, a node asks the next, and says where it stands to that one; so does one that
/// was told of one only and has heard of the other since; and one that begins then.
#[test]
fn p1_a_node_goes_to_the_next_control_plane() {
    let folder = tempfile::tempdir().unwrap();
    let mut planes = control_planes(folder.path(), 2);
    let line = join_string(&planes[0], "n1");
    let join = Join::of_argument(&line).unwrap();
    assert_eq!(join.control_planes.len(), 2);
    let both = node(join, &folder.path().join("both"));
    let one = Join::of_argument(&with_one_url(&join_string(&planes[0], "n2"))).unwrap();
    assert_eq!(one.control_planes.len(), 1);
    let state = folder.path().join("one");
    let told_of_one = node(one, &state);
    for server in [&both, &told_of_one] {
        wait_for("the example zone", || address_of(server.addresses()[0], "www.example.com."));
    }
    told_of_one.stop();
    let api = planes[1].api();
    wait_live(&api, 2);
    planes[0].running.kill();
    assert_eq!(put_everywhere(&api, 77), "2/2");
    assert_eq!(address_of(both.addresses()[0], "www.example.com."), Some([192, 0, 2, 77].into()));
    // What it learned is in its state. One that begins now gets index and zones there too.
    let again = node(Join::of_file(&state.join(join::FILE)).unwrap(), &state);
    let new = node(Join::of_argument(&join_string(&planes[1], "n3")).unwrap(), &folder.path().join("new"));
    wait_live(&api, 4);
    assert_eq!(put_everywhere(&api, 78), "4/4");
    for server in [both, again, new] {
        assert_eq!(address_of(server.addresses()[0], "www.example.com."), Some([192, 0, 2, 78].into()));
        server.stop();
    }
}

/// Writes names one after the other until it is told to end: how many.
struct Writer {
    end: Arc<AtomicBool>,
    written: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Writer {
    fn start(api: Api) -> Writer {
        let (end, written) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (stop, count) = (Arc::clone(&end), Arc::clone(&written));
        let thread = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let name = format!("w{}.example.com.", count.load(Ordering::Relaxed));
                let put = json!({"op": "put", "name": name, "type": "A", "value": ["192.0.2.1"]});
                let answer = api.post("/api/v1/changes", &json!({"changes": [put]}));
                assert_eq!(answer.status, 200, "{answer:?}");
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Writer { end, written, thread }
    }

    fn stop(self) -> usize {
        self.end.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.written.load(Ordering::Relaxed)
    }
}

/// Rotates as soon as that is not refused any more.
fn rotate(store: &Store) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    wait_for("a rotation that is not refused", || {
        match runtime.block_on(Controlplane::rotate_feed_key(store)) {
            Ok(()) => Some(()),
            Err(error) => {
                let error = format!("{error:#}");
                assert!(error.contains("n1"), "{error}");
                std::thread::sleep(std::time::Duration::from_millis(50));
                None
            }
        }
    });
}

/// Three rotations, while it is written: a node hears of each key before it signs, from the control plane that it speaks to. It
/// follows all the time, by the stream and without it, and what was written is there; also after its next start.
#[test]
fn p9_a_node_follows_three_rotations_under_writes() {
    for with_redis in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.store.data = folder.path().join("data");
        config.store.url = Some(Postgres::shared().create_database().unwrap());
        if with_redis {
            let url = Redis::shared().url(1);
            (config.redis.url, config.redis.nodes_url) = (Some(url.clone()), Some(url));
            config.redis.prefix = Redis::shared().prefix();
        }
        let store = config.store.clone();
        let plane = Plane::start(config, None);
        let state = folder.path().join("node");
        let server = node(Join::of_argument(&plane.add("n1")).unwrap(), &state);
        let dns = server.addresses()[0];
        wait_for("the example zone", || address_of(dns, "www.example.com."));
        let api = plane.api.clone();
        wait_live(&api, 1);
        let writer = Writer::start(api.clone());
        for octet in 1..=3 {
            rotate(&store);
            assert_eq!(put_everywhere(&api, octet), "1/1");
            assert_eq!(address_of(dns, "www.example.com."), Some([192, 0, 2, octet].into()));
        }
        let resyncs = server.status().feed_resyncs.load(Ordering::Relaxed);
        assert_eq!(resyncs, 1, "it began once, and followed from there on");
        let written = writer.stop();
        assert_eq!(put_everywhere(&api, 4), "1/1");
        assert!(written > 10, "{written}");
        for n in 0..written {
            assert_eq!(dns::udp(dns, &format!("w{n}.example.com."), A).rcode, 0, "w{n} of {written} is lost");
        }
        // The join string knows none of the keys of now.
        server.stop();
        let again = node(Join::of_file(&state.join(join::FILE)).unwrap(), &state);
        wait_live(&api, 1);
        assert_eq!(put_everywhere(&api, 5), "1/1");
        assert_eq!(address_of(again.addresses()[0], "www.example.com."), Some([192, 0, 2, 5].into()));
        again.stop();
    }
}
