//! The comparison with the truth: the right answer passes, and each way of being wrong is found.

use godwit_loadtest::data::draw::Draw;
use godwit_loadtest::data::record::{Data, Record};
use godwit_loadtest::data::truth::{Expected, compare};
use godwit_loadtest::data::{Question, Source, Workload};
use godwit_loadtest::load::queries::Queries;

use crate::responder::{compose, push};

const SOURCE: Source = Source { seed: 11, shrink: 1_000 };

fn message(question: &Question) -> Vec<u8> {
    Queries::new(false, [(question.name.as_str(), question.qtype)].into_iter()).message(0).to_vec()
}

#[test]
fn the_right_answer_passes_for_every_workload() {
    for workload in Workload::ALL {
        for index in 0..2_000 {
            let question = SOURCE.question(workload, index);
            let query = message(&question);
            let answer = compose(&query, &question.expected);
            assert_eq!(compare(&query, &answer, &question.expected), Ok(()), "{workload}: {question:?}");
        }
    }
}

#[test]
fn every_flipped_bit_is_found() {
    for workload in [Workload::Small, Workload::LargeNx, Workload::Delegations, Workload::Zones] {
        let mut draw = Draw::new(1, "flips", 0);
        for index in 0..200 {
            let question = SOURCE.question(workload, index);
            let query = message(&question);
            let right = compose(&query, &question.expected);
            for _ in 0..50 {
                let place = usize::try_from(draw.below(right.len() as u64)).unwrap();
                let bit = draw.below(8);
                // RA and AD are the server's to choose.
                if place == 3 && [0x80, 0x20].contains(&(1_u8 << bit)) {
                    continue;
                }
                let mut wrong = right.clone();
                wrong[place] ^= 1 << bit;
                // Only the case of names outside the question does not count.
                let verdict = compare(&query, &wrong, &question.expected);
                if verdict.is_ok() {
                    let read = |octets: &[u8]| godwit_loadtest::message::read(octets).unwrap();
                    assert_eq!(read(&wrong), read(&right), "{workload}, octet {place}, bit {bit}");
                    assert!(
                        place > query.len(),
                        "{workload}, octet {place}, bit {bit}: in header or question"
                    );
                }
            }
        }
    }
}

#[test]
fn records_missing_added_or_moved_are_found() {
    let stranger =
        Record { owner: "x.test.".to_owned(), ttl: 60, data: Data::A(std::net::Ipv4Addr::LOCALHOST) };
    let referral = SOURCE.question(Workload::Delegations, 0);
    let hit = SOURCE.question(Workload::Zones, 0);
    let missing = (0..)
        .map(|index| SOURCE.question(Workload::LargeNx, index))
        .find(|question| question.expected.rcode == 3)
        .unwrap();
    type Spoil = fn(&mut Expected, Record);
    let cases: [(&str, &Question, Spoil); 8] = [
        ("glue left out", &referral, |e, _| drop(e.glue.pop())),
        ("NS of a referral left out", &referral, |e, _| drop(e.authority.pop())),
        ("AA on a referral", &referral, |e, _| e.authoritative = true),
        ("answer left out", &hit, |e, _| drop(e.answer.pop())),
        ("answer twice", &hit, |e, _| e.answer.push(e.answer[0].clone())),
        ("something else added", &hit, |e, record| e.glue.push(record)),
        ("SOA of a negative answer left out", &missing, |e, _| e.authority.clear()),
        ("SOA with its own TTL", &missing, |e, _| e.authority[0].ttl = 86_400),
    ];
    for (name, question, spoil) in cases {
        let query = message(question);
        let mut spoiled = question.expected.clone();
        spoil(&mut spoiled, stranger.clone());
        let answer = compose(&query, &spoiled);
        assert!(compare(&query, &answer, &question.expected).is_err(), "{name} was not found");
    }
}

#[test]
fn what_servers_may_choose_is_free() {
    let question = (0..)
        .map(|index| SOURCE.question(Workload::Zones, index))
        .find(|question| !question.expected.helpful.is_empty())
        .unwrap();
    let query = message(&question);
    let mut generous = compose(&query, &question.expected);
    for record in question.expected.authority.iter().rev().chain(&question.expected.helpful) {
        push(&mut generous, record);
    }
    generous[9] = 2;
    generous[11] = 1;
    assert_eq!(compare(&query, &generous, &question.expected), Ok(()));
}
