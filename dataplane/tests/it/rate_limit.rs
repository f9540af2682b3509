//! Rate limits from outside: what a flooded network gets, and what everybody else gets meanwhile.
//!
//! A client network is a /24 of 127.0.0.0/8, whose exemption is switched off here. A flood from forged addresses of a victim is
//! one that is sent from the victim's socket: where the answers go is the same.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::client::{A, Answer, Client, ask_tcp, query};
use super::process::{Process, command, zone_folder};

const NSEC: u16 = 47;
const TXT: u16 = 16;

/// What all tests set. One worker, or each would have a share.
const BASE: &str = "exempt_loopback = false\n";

struct Server {
    _folder: TempDir,
    process: Process,
}

/// A zone with many names, a wildcard, a cut with glue.
fn zone(names: usize) -> String {
    let mut text = "\
$TTL 300
@ IN SOA ns1 hostmaster 1 7200 3600 1209600 60
@ IN NS ns1
ns1 IN A 192.0.2.1
www IN A 192.0.2.80
www IN TXT \"some text that makes it a worthwhile answer to reflect, as they have in large zones\"
*.wild IN TXT \"some text that makes it a worthwhile answer to reflect, as they have in large zones\"
cut IN NS ns1.cut
cut IN NS ns2.cut
ns1.cut IN A 192.0.2.2
ns1.cut IN AAAA 2001:db8::2
ns2.cut IN A 192.0.2.3
ns2.cut IN AAAA 2001:db8::3
"
    .to_owned();
    for number in 0..names {
        writeln!(text, "n{number} IN A 192.0.2.4\nn{number} IN TXT \"{}\"", "x".repeat(100)).unwrap();
    }
    text
}

impl Server {
    fn start(settings: &str) -> Self {
        Self::with_workers("1", settings)
    }

    fn with_workers(workers: &str, settings: &str) -> Self {
        let folder = zone_folder(&[("example.org", &zone(2000))]);
        let file = folder.path().join("dataplane.toml");
        std::fs::write(&file, format!("[rate_limit]\n{BASE}{settings}")).unwrap();
        let mut command = command();
        command.args([
            "--listen",
            "127.0.0.1:0",
            "--metrics",
            "127.0.0.1:0",
            "--workers",
            workers,
            "--config",
        ]);
        command.arg(file).arg("--zones").arg(folder.path());
        Server { process: Process::spawn(&mut command), _folder: folder }
    }

    fn client(&self, address: &str) -> Client {
        Client::at(address, self.process.address())
    }

    /// A client whom no limit holds up, for a look at how far the server has come: there is one worker with one queue, so what
    /// was sent before is done.
    fn proven(&self) -> Proven {
        let client = self.client("127.9.9.9");
        let first = client.ask(&query("www.example.org", A, Some(&[9; 8])));
        Proven { client, query: query("www.example.org", A, Some(&first.cookie().unwrap())) }
    }

    fn limited(&self, action: &str, kind: &str) -> u64 {
        self.count(&format!("rate_limited_total{{action=\"{action}\",kind=\"{kind}\"}}"))
    }

    fn count(&self, name: &str) -> u64 {
        let value = self.process.metric(&format!("godwit_dataplane_{name}"));
        assert!(value >= 0.0 && value.fract() == 0.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count, as just looked"
        )]
        let value = value as u64;
        value
    }
}

struct Proven {
    client: Client,
    query: Vec<u8>,
}

impl Proven {
    fn wait(&self) -> Answer {
        let answer = self.client.ask(&self.query);
        assert_eq!((answer.header().ancount, answer.is_truncated()), (1, false));
        answer
    }
}

/// A kind of answer to be limited: a query for it by number, and what is counted.
struct Case {
    name: &'static str,
    kind: &'static str,
    query: fn(usize) -> Vec<u8>,
}

const CASES: &[Case] = &[
    Case { name: "one name", kind: "answer", query: |_| query("www.example.org", TXT, None) },
    Case {
        name: "below a wildcard",
        kind: "answer",
        query: |i| query(&format!("r{i}.wild.example.org"), TXT, None),
    },
    Case { name: "referrals", kind: "referral", query: |i| query(&format!("r{i}.cut.example.org"), A, None) },
    Case {
        name: "no data",
        kind: "nodata",
        query: |i| query(&format!("n{}.example.org", i % 2000), NSEC, None),
    },
    Case { name: "no such names", kind: "nxdomain", query: |i| query(&format!("r{i}.example.org"), A, None) },
    Case {
        name: "no such names below all names",
        kind: "nxdomain",
        query: |i| query(&format!("r{i}.n{}.example.org", i % 2000), A, None),
    },
    Case { name: "errors", kind: "error", query: |i| query(&format!("r{i}.example.com"), A, None) },
];

/// What a client got.
#[derive(Default)]
struct Got {
    whole: usize,
    short: usize,
    octets: usize,
}

impl Got {
    fn add(&mut self, answers: &[Answer]) {
        for answer in answers {
            if answer.is_truncated() {
                let header = answer.header();
                assert_eq!((header.ancount, header.nscount, header.arcount), (0, 0, 0));
                self.short += 1;
            } else {
                self.whole += 1;
            }
            self.octets += answer.0.len();
        }
    }
}

/// Sends `count` queries in runs that fit into the server's queue, so that it is the limits alone that drop.
fn flood(proven: &Proven, victim: &Client, count: usize, query: impl Fn(usize) -> Vec<u8>) -> Got {
    const RUN: usize = 250;
    let mut got = Got::default();
    for from in (0..count).step_by(RUN) {
        for i in from..count.min(from + RUN) {
            victim.send(&query(i));
        }
        proven.wait();
        got.add(&victim.received());
    }
    got
}

/// Each answer is one of four things, each counted once under its kind; an error over its limit goes out as it is, being as
/// short as can be.
#[test]
fn every_kind_is_limited_and_counted_exactly() {
    for case in CASES {
        let server = Server::start("answers_per_second = 5\ntotal_per_second = 0\nslip = 2\n");
        let proven = server.proven();
        let victim = server.client("127.0.1.1");
        let count = 500;
        let got = flood(&proven, &victim, count, case.query);
        let (slip, drop) = (server.limited("slip", case.kind), server.limited("drop", case.kind));
        assert!(slip > 0 && drop > 0, "{}: {slip} {drop}", case.name);
        assert_eq!(got.whole + got.short + usize::try_from(drop).unwrap(), count, "{}", case.name);
        assert_eq!(server.count("dropped_total{reason=\"rate_limited\"}"), drop);
        if case.kind == "error" {
            assert_eq!(got.short, 0);
        } else {
            assert_eq!(got.short as u64, slip, "{}", case.name);
        }
        // Nothing under another kind.
        let (_, text) = server.process.get("/metrics");
        let counted: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("godwit_dataplane_rate_limited_total") && !line.ends_with(" 0"))
            .collect();
        assert_eq!(counted.len(), 2, "{counted:?}");
    }
}

/// RFC 7873 §5.2.3: who knows cookies comes back over UDP, proven, and then has no limit.
#[test]
fn a_client_with_cookies_is_told_badcookie_and_comes_back() {
    let server = Server::start("answers_per_second = 5\ntotal_per_second = 0\nslip = 1\n");
    let proven = server.proven();
    let client = server.client("127.0.1.1");
    let first = query("www.example.org", TXT, Some(&[1; 8]));
    let mut answers = Vec::new();
    for _ in 0..100 {
        client.send(&first);
    }
    proven.wait();
    answers.extend(client.received());
    let refused: Vec<&Answer> = answers.iter().filter(|answer| answer.rcode() == 23).collect();
    assert!(!refused.is_empty() && answers.iter().all(|answer| !answer.is_truncated()));
    assert_eq!(server.limited("badcookie", "answer"), refused.len() as u64);
    assert_eq!(server.count("queries_total{transport=\"udp\",rcode=\"BADCOOKIE\"}"), refused.len() as u64);
    let good = query("www.example.org", TXT, refused[0].cookie().as_deref());
    for _ in 0..200 {
        let answer = client.ask(&good);
        assert_eq!((answer.rcode(), answer.header().ancount), (0, 1));
    }
}

#[test]
fn log_only_counts_and_changes_nothing() {
    for (mode, counts) in [("log-only", true), ("off", false)] {
        let settings =
            format!("mode = \"{mode}\"\nanswers_per_second = 5\ntotal_per_second = 10\nslip = 1\n");
        let server = Server::start(&settings);
        let proven = server.proven();
        let victim = server.client("127.0.1.1");
        let got = flood(&proven, &victim, 500, CASES[0].query);
        assert_eq!((got.whole, got.short), (500, 0), "{mode}");
        assert_eq!(server.limited("log", "answer") > 0, counts, "{mode}");
        assert_eq!(server.limited("drop", "answer") + server.limited("slip", "answer"), 0);
        assert_eq!(server.count("dropped_total{reason=\"rate_limited\"}"), 0);
    }
}

#[test]
fn tcp_cookies_and_exempt_networks_have_no_limit() {
    let settings = "answers_per_second = 1\ntotal_per_second = 1\nslip = 0\nexempt = [\"127.0.3.0/24\"]\n";
    let server = Server::start(settings);
    let proven = server.proven();
    let www = query("www.example.org", TXT, None);
    let got = flood(&proven, &server.client("127.0.3.1"), 200, |_| www.clone());
    assert_eq!((got.whole, got.short), (200, 0), "exempt");
    for _ in 0..50 {
        assert_eq!(ask_tcp(server.process.address(), &www).header().ancount, 1);
        proven.wait();
    }
    assert_eq!(server.count("dropped_total{reason=\"rate_limited\"}"), 0);
}

/// A flood from as many ports as one likes, which meets every worker, gets what one rate allows and not one rate from each.
#[test]
fn workers_share_one_rate() {
    let server = Server::with_workers("2", "answers_per_second = 10\ntotal_per_second = 0\nslip = 0\n");
    let victims: Vec<Client> = (0..100).map(|_| server.client("127.0.1.1")).collect();
    let www = CASES[0].query;
    let started = Instant::now();
    for number in 0..20 {
        victims.iter().for_each(|victim| victim.send(&www(number)));
    }
    let answered = || server.count("queries_total{transport=\"udp\",rcode=\"NOERROR\"}");
    let dropped = || server.limited("drop", "answer");
    super::reflector::eventually("all are answered or dropped", || answered() + dropped() == 2000);
    // The buckets, and what came back meanwhile.
    let allowed = 10 + started.elapsed().as_millis() / 100 + 2;
    let allowed = u64::try_from(allowed).unwrap();
    assert!((2..=allowed).contains(&answered()), "{} of {allowed}", answered());
}

/// On without a word in the configuration, but not for loopback. However long the flood takes: no more gets through than that
/// time allows, and a bucket's worth.
#[test]
fn limits_are_on_by_default() {
    let server = Server::start("");
    let proven = server.proven();
    let victim = server.client("127.0.1.1");
    let started = Instant::now();
    let got = flood(&proven, &victim, 20_000, CASES[0].query);
    let allowed = 200 * (2 + usize::try_from(started.elapsed().as_secs()).unwrap());
    assert!(server.limited("drop", "answer") > 0);
    assert!(got.whole <= allowed && got.short <= allowed, "{} and {} of {allowed}", got.whole, got.short);
    println!("{} whole and {} short answers of 20000, {} octets", got.whole, got.short, got.octets);

    let folder = zone_folder(&[("example.org", &zone(1))]);
    let mut command = command();
    command.args(["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--workers", "1", "--zones"]);
    command.arg(folder.path());
    let server = Server { process: Process::spawn(&mut command), _folder: folder };
    let proven = server.proven();
    let got = flood(&proven, &server.client("127.0.1.1"), 5000, CASES[0].query);
    assert_eq!((got.whole, got.short), (5000, 0), "loopback");
}

/// R13: of what a spoofed victim would receive, at most one part in twenty reaches it, whatever is asked for in its name; a
/// client elsewhere loses nothing meanwhile, nor does one in the victim's own network that has a cookie.
#[test]
fn p7_a_spoofed_victim_receives_at_most_a_twentieth() {
    let long = std::env::var_os("GODWIT_LONG").is_some();
    let count = if long { 200_000 } else { 20_000 };
    let many = Case {
        name: "many existing names",
        kind: "total",
        query: |i| query(&format!("n{}.example.org", i % 2000), TXT, None),
    };
    let server = Server::start("answers_per_second = 10\ntotal_per_second = 20\n");
    let proven = server.proven();
    for (network, case) in CASES.iter().chain([&many]).enumerate() {
        // Errors are no longer than their queries: nothing is gained by reflecting them.
        if case.kind == "error" {
            continue;
        }
        let victim = server.client(&format!("127.1.{network}.1"));
        let neighbour = server.client(&format!("127.1.{network}.77"));
        let elsewhere = server.client(&format!("127.2.{network}.1"));
        let whole_octets = proven_octets(&proven, case);
        let cookie = neighbour.ask(&query("ns1.example.org", A, Some(&[5; 8]))).cookie().unwrap();
        let mut got = Got::default();
        for run in 0..10 {
            let part = flood(&proven, &victim, count / 10, |i| (case.query)(run * (count / 10) + i));
            got.whole += part.whole;
            got.short += part.short;
            got.octets += part.octets;
            // One query a run: ten are within the limits, whatever the flood does.
            let answer = elsewhere.ask(&(case.query)(run));
            assert!(!answer.is_truncated(), "{}: elsewhere", case.name);
            let answer = neighbour.ask(&query("www.example.org", TXT, Some(&cookie)));
            assert_eq!(answer.header().ancount, 1, "{}: with a cookie", case.name);
        }
        assert!(server.limited("drop", case.kind) > 0);
        let share = got.octets * 100 / (whole_octets * count);
        println!(
            "{}: {} whole and {} short answers, {} octets, of {count} answers with {} octets: {share} %",
            case.name,
            got.whole,
            got.short,
            got.octets,
            whole_octets * count
        );
        assert!(got.octets * 20 <= whole_octets * count, "{}: {share} %", case.name);
    }
}

/// Octets of an answer of this case when nothing limits it. All of a case are about as long; the shortest counts.
fn proven_octets(proven: &Proven, case: &Case) -> usize {
    (0..10)
        .map(|i| {
            let mut message = (case.query)(i);
            let cookie = &proven.query[proven.query.len() - 24..];
            message[11] = 1;
            message.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 28, 0, 10, 0, 24]);
            message.extend_from_slice(cookie);
            // Without the OPT record that the plain query does not have.
            proven.client.ask(&message).0.len() - 39
        })
        .min()
        .unwrap()
}

/// In the middle of a flood for the very thing that it wants, a client without a cookie still learns how to come back: with TC
/// over TCP, or with BADCOOKIE over UDP.
#[test]
fn a_real_client_in_a_flooded_network_gets_its_answer() {
    let server = Server::start("answers_per_second = 20\ntotal_per_second = 0\n");
    let proven = server.proven();
    let victim = server.client("127.0.1.1");
    let www = query("www.example.org", TXT, None);
    // Uses up what there is at the start.
    flood(&proven, &victim, 500, |_| www.clone());
    for cookie in [None, Some(&[1; 8][..])] {
        let client = server.client("127.0.1.77");
        let message = query("www.example.org", TXT, cookie);
        // Now first, now among the others: whose query comes when a bucket has something again is chance.
        let deadline = Instant::now() + Duration::from_secs(60);
        let told = (0..).take_while(|_| Instant::now() < deadline).find_map(|round| {
            let before = round % 5;
            (0..before).for_each(|_| victim.send(&www));
            client.send(&message);
            (before..4).for_each(|_| victim.send(&www));
            proven.wait();
            client.received().into_iter().find(|answer| answer.is_truncated() || answer.rcode() == 23)
        });
        let told = told.expect("TC or BADCOOKIE");
        let answer = if cookie.is_none() {
            assert!(told.is_truncated());
            ask_tcp(server.process.address(), &message)
        } else {
            client.ask(&query("www.example.org", TXT, told.cookie().as_deref()))
        };
        assert_eq!((answer.rcode(), answer.header().ancount), (0, 1));
    }
    assert!(server.limited("slip", "answer") > 0 && server.limited("badcookie", "answer") > 0);
}

/// The log says that limits bite, once, and of what kind; never whom.
#[test]
fn the_log_says_that_limits_bite_and_not_whom() {
    let server = Server::start("answers_per_second = 5\n");
    let proven = server.proven();
    let victim = server.client("127.0.1.1");
    flood(&proven, &victim, 500, CASES[4].query);
    let lines = || server.process.log().matches("answers are over a rate limit").count();
    super::reflector::eventually("it is logged", || lines() == 1);
    flood(&proven, &victim, 500, CASES[4].query);
    let log = server.process.log();
    let line = log.lines().find(|line| line.contains("answers are over a rate limit")).unwrap();
    assert!(line.contains("nxdomain") && !log.contains("127.0.1.") && !log.contains("r1.example"), "{log}");
    assert_eq!(lines(), 1);
}
