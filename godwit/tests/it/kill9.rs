//! P4: nothing acknowledged is lost. The server is killed at random moments while writers write; each keeps a ledger of
//! what it sent and what was acknowledged; after each restart the ledger is compared with the API and with DNS.
//!
//! A kill counts only when it landed while at least one write was in flight: sent whole, and never answered. 10 kills, or
//! 200 with `GODWIT_LONG=1`; `GODWIT_SEED` repeats the moments.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::dns::{self, A, TXT};
use crate::http::Api;
use crate::process::{Running, Started, wait_for};

const WRITERS: usize = 4;
/// How long writers write before a kill, in milliseconds.
const MOMENTS: std::ops::Range<u64> = 5..400;
/// So many kills for each that has to count, at most.
const ATTEMPTS_PER_KILL: usize = 3;

/// What one writer knows. Its writes are numbered from 1, one after the other; each is one change that puts a name of its
/// own and raises a counter.
#[derive(Clone, Copy, Debug, Default)]
struct Ledger {
    /// The last write that was acknowledged; all before it were, too, or have become known as committed.
    acknowledged: u32,
    /// A write that was sent whole and not answered: it may or may not be there.
    in_flight: Option<u32>,
    /// Acknowledgements in all.
    count: usize,
}

fn name_of(writer: usize, number: u32) -> String {
    format!("n{number}.w{writer}.example.com.")
}

fn counter_of(writer: usize) -> String {
    format!("counter.w{writer}.example.com.")
}

/// A different address for each write, so that an answer says which one it is from.
fn address_of(writer: usize, number: u32) -> Ipv4Addr {
    Ipv4Addr::from((10 << 24) + (u32::try_from(writer).unwrap() << 20) + number)
}

fn write_of(writer: usize, number: u32) -> Value {
    json!({"changes": [
        {"op": "put", "name": name_of(writer, number), "type": "A", "value": [address_of(writer, number).to_string()]},
        {"op": "put", "name": counter_of(writer), "type": "TXT", "value": [format!("\"{number}\"")]},
    ]})
}

/// Writes until the server is gone.
fn write_on(api: &Api, writer: usize, ledger: &mut Ledger) {
    loop {
        let number = ledger.acknowledged + 1;
        // Not sent whole: it cannot have been carried out.
        let Ok(sent) = api.send("POST", "/api/v1/changes", Some(&write_of(writer, number))) else { return };
        ledger.in_flight = Some(number);
        let Ok(answer) = sent.answer() else { return };
        assert_eq!(answer.status, 200, "{answer:?}");
        *ledger = Ledger { acknowledged: number, in_flight: None, count: ledger.count + 1 };
    }
}

#[test]
fn p4_a_kill_at_any_moment_loses_no_acknowledged_write() {
    let seed = std::env::var("GODWIT_SEED").map_or(4, |text| text.parse().expect("GODWIT_SEED is a number"));
    let wanted = if std::env::var("GODWIT_LONG").is_ok_and(|long| long == "1") { 200 } else { 10 };
    println!("GODWIT_SEED={seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);

    let mut first = Started::first();
    let (data, token) = (first.data(), first.token.clone());
    assert!(first.running.stop().success());
    let mut ledgers = [Ledger::default(); WRITERS];
    let (mut landed, mut kills) = (0, 0);
    let (mut survived, mut vanished) = (0, 0);
    let mut running = Running::start(&data);
    while landed < wanted {
        kills += 1;
        assert!(kills <= wanted * ATTEMPTS_PER_KILL, "only {landed} of {kills} kills met a write in flight");
        write_and_kill(
            &mut running,
            &token,
            &mut ledgers,
            Duration::from_millis(random.random_range(MOMENTS)),
        );
        let in_flight = ledgers.iter().filter(|ledger| ledger.in_flight.is_some()).count();
        landed += usize::from(in_flight > 0);
        running = Running::start(&data);
        let committed = settle(&running, &token, &mut ledgers, kills);
        survived += committed;
        vanished += in_flight - committed;
    }
    let written: usize = ledgers.iter().map(|ledger| ledger.count).sum();
    assert!(written >= wanted, "{written} writes only");
    everything_is_there(&running, &token, &ledgers);
    println!(
        "{kills} kills, {landed} with writes in flight; {written} writes acknowledged, all there; of those in flight \
         {survived} were committed, {vanished} were not"
    );
    restart_once_more(running, &data, &token, &ledgers);
}

fn write_and_kill(running: &mut Running, token: &str, ledgers: &mut [Ledger], moment: Duration) {
    let api = running.api(token);
    let writing = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for (writer, ledger) in ledgers.iter_mut().enumerate() {
            let (api, writing) = (&api, &writing);
            scope.spawn(move || {
                writing.store(true, Ordering::Relaxed);
                write_on(api, writer, ledger);
            });
        }
        wait_for("a writer", || writing.load(Ordering::Relaxed).then_some(()));
        // The moment of the kill is what is random here.
        std::thread::sleep(moment);
        running.kill();
    });
}

/// Compares what was written last with API and DNS, and finds out about writes that were in flight: how many of them were
/// committed.
fn settle(running: &Running, token: &str, ledgers: &mut [Ledger], kills: usize) -> usize {
    let (api, server) = (running.api(token), running.dns());
    // What is applied has everything before it applied, so that DNS must show it from here on. Each probe differs from
    // the one before: what changes nothing has nothing to wait for.
    let probe = json!({"type": "A", "value": [format!("192.0.2.{}", 2 + kills % 2)]});
    let answer = api.put("/api/v1/records/www.example.com.?wait=applied&timeout=30s", &probe);
    assert_eq!((answer.status, answer.header("godwit-applied")), (200, Some("1/1")), "{answer:?}");
    let mut committed = 0;
    for (writer, ledger) in ledgers.iter_mut().enumerate() {
        let counter = counter(&api, writer);
        let expected = [Some(ledger.acknowledged), ledger.in_flight];
        assert!(
            expected.contains(&Some(counter)),
            "writer {writer} knows {ledger:?}, the API says {counter}"
        );
        // A change is there whole or not at all.
        let next = ledger.acknowledged + 1;
        let rcode = dns::udp(server, &name_of(writer, next), A).rcode;
        assert_eq!(
            rcode,
            if counter == next { 0 } else { 3 },
            "writer {writer}, write {next}, counter {counter}"
        );
        if ledger.in_flight == Some(counter) {
            ledger.acknowledged = counter;
            committed += 1;
        }
        ledger.in_flight = None;
        shows(server, writer, ledger.acknowledged);
    }
    committed
}

fn counter(api: &Api, writer: usize) -> u32 {
    let answer = api.get(&format!("/api/v1/records/{}?type=TXT", counter_of(writer)));
    if answer.status == 404 {
        return 0;
    }
    answer.json()["value"][0].as_str().unwrap().trim_matches('"').parse().unwrap()
}

/// DNS has the last write of a writer.
fn shows(server: std::net::SocketAddr, writer: usize, number: u32) {
    if number > 0 {
        let message = dns::udp(server, &name_of(writer, number), A);
        assert_eq!(dns::addresses(&message), [address_of(writer, number)]);
        let message = dns::udp(server, &counter_of(writer), TXT);
        assert_eq!(dns::texts(&message), [number.to_string()]);
    }
}

/// Every write of the whole run, by API and by DNS.
fn everything_is_there(running: &Running, token: &str, ledgers: &[Ledger]) {
    let stored = all_records(&running.api(token));
    let server = running.dns();
    for (writer, ledger) in ledgers.iter().enumerate() {
        for number in 1..=ledger.acknowledged {
            let (name, address) = (name_of(writer, number), address_of(writer, number));
            assert_eq!(
                stored.get(&name).map(String::as_str),
                Some(address.to_string().as_str()),
                "{name} by the API"
            );
            assert_eq!(dns::addresses(&dns::udp(server, &name, A)), [address], "{name} by DNS");
        }
    }
}

/// The A records of the zone, by name.
fn all_records(api: &Api) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut cursor = String::new();
    loop {
        let page = api.get(&format!("/api/v1/records?zone=example.com.&type=A&limit=1000{cursor}")).json();
        for record in page["items"].as_array().unwrap() {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            all.insert(text(&record["name"]), text(&record["value"][0]));
        }
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

/// After an orderly stop the local snapshot alone has everything.
fn restart_once_more(mut running: Running, data: &Path, token: &str, ledgers: &[Ledger]) {
    assert!(running.stop().success());
    let again = Running::start(data);
    everything_is_there(&again, token, ledgers);
}
