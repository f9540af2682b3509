//! Cookies between several nodes with one secrets file, while the secrets change, and where they are required.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tempfile::TempDir;

use super::client::{A, Answer, Client, ask_tcp, query};
use super::process::{Process, ZONE, command, zone_folder};
use super::reflector::eventually;

const FIRST: &str = "00112233445566778899aabbccddeeff";
const SECOND: &str = "ffeeddccbbaa99887766554433221100";
const BADCOOKIE: u16 = 23;

/// A node that requires cookies, with a secrets file of its own copy, as nodes on machines of their own have.
struct Node {
    folder: TempDir,
    process: Process,
}

impl Node {
    fn start(secrets: &str) -> Self {
        let folder = zone_folder(&[("example.org", ZONE)]);
        write_whole(&folder.path().join("secrets"), secrets);
        let mut command = command();
        command.args(["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--workers", "2", "--zones"]);
        command.arg(folder.path());
        command.env("GODWIT_COOKIES__SECRETS_FILE", folder.path().join("secrets"));
        command.env("GODWIT_COOKIES__REQUIRE", "true");
        let process = Process::spawn(&mut command);
        Node { folder, process }
    }

    fn address(&self) -> SocketAddr {
        self.process.address()
    }

    /// Puts another file in the place of the secrets, and waits until it was read.
    fn change(&self, secrets: &str) {
        let changes = || self.process.log().matches("the cookie secrets have changed").count();
        let before = changes();
        write_whole(&self.folder.path().join("secrets"), secrets);
        self.process.signal("HUP");
        eventually("the secrets are read again", || changes() > before);
    }

    fn failed(&self) -> bool {
        self.process.metric("godwit_dataplane_cookie_secrets_failed") > 0.5
    }
}

/// As one should: the file is never seen half written.
fn write_whole(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(beside, path).unwrap();
}

fn ask(node: &Node, cookie: Option<&[u8]>) -> Answer {
    Client::at("127.0.0.1", node.address()).ask(&query("www.example.org.", A, cookie))
}

/// A cookie from this node.
fn cookie_of(node: &Node) -> Vec<u8> {
    let answer = ask(node, Some(&[7; 8]));
    assert_eq!(answer.rcode(), BADCOOKIE);
    answer.cookie().unwrap()
}

fn is_accepted(node: &Node, cookie: &[u8]) -> bool {
    match ask(node, Some(cookie)).rcode() {
        0 => true,
        BADCOOKIE => false,
        rcode => panic!("RCODE {rcode}"),
    }
}

/// RFC 9018 §3: any node of an anycast address takes the cookies of the others.
#[test]
fn nodes_with_the_same_secrets_accept_each_others_cookies() {
    let nodes = [Node::start(FIRST), Node::start(FIRST)];
    let stranger = Node::start(SECOND);
    for from in &nodes {
        let cookie = cookie_of(from);
        for to in &nodes {
            assert!(is_accepted(to, &cookie));
        }
        assert!(!is_accepted(&stranger, &cookie));
    }
}

#[test]
fn where_cookies_are_required_who_knows_them_must_show_a_good_one() {
    let node = Node::start(FIRST);
    assert_eq!(ask(&node, None).rcode(), 0, "who does not speak cookies is answered");
    let refused = ask(&node, Some(&[7; 8]));
    assert_eq!((refused.rcode(), refused.header().ancount), (BADCOOKIE, 0));
    let cookie = refused.cookie().unwrap();
    assert_eq!(cookie[..8], [7; 8]);
    let answer = ask(&node, Some(&cookie));
    assert_eq!((answer.rcode(), answer.header().ancount), (0, 1));
    let other = Client::at("127.0.0.2", node.address()).ask(&query("www.example.org.", A, Some(&cookie)));
    assert_eq!(other.rcode(), BADCOOKIE, "another client's");
    let mut forged = cookie;
    forged[20] ^= 1;
    assert!(!is_accepted(&node, &forged));
    let over_tcp = ask_tcp(node.address(), &query("www.example.org.", A, Some(&[7; 8])));
    assert_eq!((over_tcp.rcode(), over_tcp.header().ancount), (0, 1), "whose address is true anyway");
}

/// The three steps of docs/dataplane.md on two nodes, one after the other, while a client goes on asking both in turn: it is
/// never refused. Nothing of the first secret is accepted in the end.
#[test]
fn secrets_change_on_all_nodes_without_a_refused_client() {
    let nodes = [Node::start(FIRST), Node::start(FIRST)];
    let of_first = cookie_of(&nodes[0]);
    let (stop, asked) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            let clients = nodes.each_ref().map(|node| Client::at("127.0.0.1", node.address()));
            let mut cookie = of_first.clone();
            let mut refused = 0u32;
            while !stop.load(Ordering::Relaxed) {
                for client in &clients {
                    let answer = client.ask(&query("www.example.org.", A, Some(&cookie)));
                    refused += u32::from(answer.rcode() != 0);
                    cookie = answer.cookie().unwrap();
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            }
            refused
        });
        for step in [format!("{FIRST}\n{SECOND}\n"), format!("{SECOND}\n{FIRST}\n"), format!("{SECOND}\n")] {
            for node in &nodes {
                node.change(&step);
            }
            // In place of the hour that cookies last: until the client has a new one from either.
            let before = asked.load(Ordering::Relaxed);
            eventually("the client has asked both", || asked.load(Ordering::Relaxed) >= before + 4);
        }
        stop.store(true, Ordering::Relaxed);
        assert_eq!(client.join().unwrap(), 0, "refused of {}", asked.load(Ordering::Relaxed));
    });
    for node in &nodes {
        assert!(!is_accepted(node, &of_first), "the secret is still in use");
        assert!(is_accepted(node, &cookie_of(&nodes[0])));
    }
}

/// A secret that is only accepted makes no cookies, so that nodes which do not know it yet are not given any.
#[test]
fn the_second_secret_accepts_and_the_first_makes() {
    let both = Node::start(&format!("{FIRST}\n{SECOND}\n"));
    let (first, second) = (Node::start(FIRST), Node::start(SECOND));
    assert!(is_accepted(&first, &cookie_of(&both)) && !is_accepted(&second, &cookie_of(&both)));
    assert!(is_accepted(&both, &cookie_of(&first)) && is_accepted(&both, &cookie_of(&second)));
}

#[test]
fn a_wrong_secrets_file_keeps_the_secrets_and_is_reported() {
    let node = Node::start(FIRST);
    let cookie = cookie_of(&node);
    let path = node.folder.path().join("secrets");
    assert!(!node.failed());
    for wrong in [Some("secret-of-the-house\n"), Some(""), None, Some(&SECOND[..31])] {
        match wrong {
            Some(text) => write_whole(&path, text),
            None => std::fs::remove_file(&path).unwrap(),
        }
        let reports = || node.process.log().matches("the cookie secrets stay as they are").count();
        let before = reports();
        node.process.signal("HUP");
        eventually("it is reported", || reports() > before);
        assert!(node.failed());
        assert!(is_accepted(&node, &cookie), "{wrong:?}");
        assert!(is_accepted(&node, &cookie_of(&node)));
    }
    write_whole(&path, FIRST);
    node.process.signal("HUP");
    eventually("the fault is gone", || !node.failed());
    assert!(is_accepted(&node, &cookie));
    let log = node.process.log();
    assert!(!log.contains("secret-of-the-house") && !log.contains(&SECOND[..31]), "{log}");
}
