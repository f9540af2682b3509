//! The reference against NSD, Knot DNS and BIND on the same zones, unsigned and signed by `ldns-signzone`.
//!
//! Each tolerated difference is a row of [`tolerated::ROWS`] with the RFC section that decides, and of
//! `docs/differences.md`. `GODWIT_SEED` sets the seed, `GODWIT_LONG=1` asks for many more zones.

#[path = "peers/tolerated.rs"]
mod tolerated;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use godwit_testkit::compare;
use godwit_testkit::generate::{self, Census, Outcome, QueryOptions, Signing, WorldOptions};
use godwit_testkit::message::Message;
use godwit_testkit::reference::{self, Client, Settings, Transport};
use godwit_testkit::servers::{LdnsSigning, Peer, Server, ldns_sign};
use tolerated::{Case, ROWS};

const QUERIES: u64 = 400;
const MOST_SHOWN: usize = 12;
/// The most worlds that are added for want of a case.
const MOST_MORE_WORLDS: u64 = 10;
/// The kinds of answer that are not compared: over TCP everything fits, and what QTYPE ANY gets is each server's own affair
/// (RFC 8482).
const NOT_HERE: [Outcome; 2] = [Outcome::ReferralWithTruncatedGlue, Outcome::Any];

#[test]
fn unsigned_answers_agree() {
    run(None, 10);
}

#[test]
fn answers_signed_with_nsec_agree() {
    run(Some(LdnsSigning::Nsec), 20);
}

#[test]
fn answers_signed_with_nsec3_agree() {
    run(Some(LdnsSigning::Nsec3 { opt_out: false }), 30);
}

#[test]
fn answers_signed_with_opt_out_agree() {
    run(Some(LdnsSigning::Nsec3 { opt_out: true }), 40);
}

/// What a run has seen.
#[derive(Default)]
struct Tally {
    census: Census,
    tolerated: BTreeMap<(Peer, &'static str), u64>,
    disagreements: Vec<String>,
    comparisons: u64,
}

fn run(signing: Option<LdnsSigning>, first: u64) {
    let seed = generate::seed(3);
    let worlds = if generate::long() { 25 } else { 2 };
    let mut tally = Tally::default();
    // So many worlds, and more until there was no hard case that none of them had.
    for case in 0..worlds + MOST_MORE_WORLDS {
        if case >= worlds && tally.census.missing() == NOT_HERE {
            break;
        }
        one_world(seed, first * 1000 + case, signing, &mut tally);
        if tally.disagreements.len() >= MOST_SHOWN {
            break;
        }
    }
    println!("GODWIT_SEED={seed} {signing:?}: {} comparisons, {}", tally.comparisons, tally.census);
    for ((peer, row), count) in &tally.tolerated {
        println!("tolerated: {peer:?}: {row}: {count}");
    }
    assert!(tally.disagreements.is_empty(), "GODWIT_SEED={seed}\n{}", tally.disagreements.join("\n\n"));
    assert_eq!(tally.census.missing(), NOT_HERE, "GODWIT_SEED={seed}: {}", tally.census);
    // Most of what is compared must agree without any row.
    let tolerated: u64 = tally.tolerated.values().sum();
    assert!(
        tolerated * 4 < tally.comparisons,
        "{tolerated} of {} are tolerated differences",
        tally.comparisons
    );
}

fn one_world(seed: u64, case: u64, signing: Option<LdnsSigning>, tally: &mut Tally) {
    let place = format!("GODWIT_SEED={seed} world {case}");
    let mut random = generate::random(seed, case);
    let options = WorldOptions { strict: true, signing: Some(Signing::None) };
    let mut world = generate::world(&mut random, &options);
    if let Some(signing) = signing {
        for zone in &mut world.zones {
            (*zone, _) = ldns_sign(zone, signing).unwrap_or_else(|error| panic!("{place}: {error:#}"));
        }
    }
    let start = |peer| Server::start(peer, &world).unwrap_or_else(|error| panic!("{place}: {error:#}"));
    let servers = Peer::OTHERS.map(|peer| (peer, start(peer)));
    let queries = QueryOptions { plain: true, cookie_secret: [0; 16], now: 0 };
    // Servers are asked again over TCP when they truncate, so nothing is missing for want of room.
    let client = Client { address: IpAddr::V4(Ipv4Addr::LOCALHOST), transport: Transport::Tcp };
    for _ in 0..QUERIES {
        let query = generate::query(&mut random, &queries, &world);
        let expected = reference::answer(&world, &Settings::default(), &client, 0, &query.packet);
        tally.census.count(&world, &query, expected.as_ref());
        let expected = expected.expect("sound queries are answered");
        for (peer, server) in &servers {
            let asked = format!("{place}: {peer:?} {} {}", query.qname, query.qtype);
            let octets = server.ask(&query.packet).unwrap_or_else(|error| panic!("{asked}: {error:#}"));
            let got = Message::parse(&octets).unwrap_or_else(|error| panic!("{asked}: {error:#}"));
            tally.comparisons += 1;
            let case = Case { world: &world, query: &query, expected: &expected, got: &got };
            let differences = case.differences();
            if differences.is_empty() {
                continue;
            }
            match ROWS.iter().find(|row| row.peers.contains(peer) && (row.applies)(&case)) {
                Some(row) => *tally.tolerated.entry((*peer, row.what)).or_default() += 1,
                None => tally.disagreements.push(format!(
                    "{asked}: {differences:?}\n{got}--- expected\n{}",
                    compare::show(&expected)
                )),
            }
        }
    }
}

#[test]
fn each_tolerated_difference_is_documented() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/differences.md");
    let text = std::fs::read_to_string(path).expect("docs/differences.md");
    for row in ROWS {
        let line = text.lines().find(|line| line.contains(row.what));
        let line = line.unwrap_or_else(|| panic!("docs/differences.md lacks: {}", row.what));
        assert!(line.contains(row.decided_by), "{line}\nlacks {}", row.decided_by);
    }
}
