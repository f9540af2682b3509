//! What the two servers hold and what they are asked: names that stay, names that are not there, and names that change, whose
//! right answer stands in the ledger. Every answer is compared as a whole.

use std::net::Ipv4Addr;
use std::time::Instant;

use super::ledger::{History, Past, State};
use super::outages::{Allowed, Side};
use super::shared::Shared;
use crate::data::Source;
use crate::data::draw::Draw;
use crate::data::flat::Flat;
use crate::data::record::{Data, Record, rtype};
use crate::data::truth::{Expected, compare, negative_soa};
use crate::load::queries::Queries;
use crate::message::{self, Message};

/// Zones that are made through the API, besides the small one that floods are made for.
const ZONES: [&str; 19] = [
    "z01.test.",
    "z02.test.",
    "z03.test.",
    "z04.test.",
    "z05.test.",
    "z06.test.",
    "z07.test.",
    "z08.test.",
    "z09.test.",
    "z10.test.",
    "z11.test.",
    "z12.test.",
    "z13.test.",
    "z14.test.",
    "z15.test.",
    "z16.test.",
    "z17.test.",
    "z18.test.",
    "z19.test.",
];
/// Names of each of them.
const NAMES: u64 = 500;
/// Names that change, in each zone of `godwit run`.
const CHANGING: usize = 25;
/// The zone whose file changes.
pub const RELOADED: &str = "reload.test.";
/// Its names, all of which change with each reload.
const RELOADED_NAMES: usize = 50;
/// Different questions for each server; they are asked in a circle.
const QUESTIONS: u64 = 4_096;
/// The TTL of names that change.
const TTL: u32 = 60;
/// SOA MINIMUM of the zones made through the API: the TTL of their negative answers.
const MINIMUM: u32 = 60;

/// The zones of `godwit run`.
#[must_use]
pub fn zones(source: &Source) -> Vec<Flat> {
    let more = ZONES.iter().map(|apex| Flat { seed: source.seed, apex, count: NAMES });
    std::iter::once(source.small()).chain(more).collect()
}

/// A name that changes, by its number below [`changing_count`].
#[must_use]
pub fn changing_name(number: usize) -> String {
    format!("c{}.{}", number / zone_count(), changing_apex(number))
}

/// The zone of a name that changes.
#[must_use]
pub fn changing_apex(number: usize) -> &'static str {
    match number % zone_count() {
        0 => "small.test.",
        place => ZONES[place - 1],
    }
}

const fn zone_count() -> usize {
    ZONES.len() + 1
}

/// Names of `godwit run` that change.
#[must_use]
pub const fn changing_count() -> usize {
    CHANGING * zone_count()
}

/// The address that says which state of a name an answer shows: 198.18.0.0/15 is for benchmarks (RFC 2544), and has room for
/// 131,072 of them.
#[must_use]
pub fn address(version: u32) -> Ipv4Addr {
    Ipv4Addr::from(0xC612_0000 | (version & 0x1_FFFF))
}

/// The record of a name that changes.
#[must_use]
pub fn record(owner: String, address: Ipv4Addr) -> Record {
    Record { owner, ttl: TTL, data: Data::A(address) }
}

/// The zone file that changes, at this version: SOA serial and all addresses.
#[must_use]
pub fn reloaded_zone(version: u32) -> Vec<Record> {
    let mut zone = vec![
        soa(RELOADED, version),
        Record { owner: RELOADED.to_owned(), ttl: TTL, data: Data::Ns("ns1.hosting.test.".to_owned()) },
    ];
    zone.extend((0..RELOADED_NAMES).map(|number| record(reloaded_name(number), address(version))));
    zone
}

fn reloaded_name(number: usize) -> String {
    format!("v{number}.{RELOADED}")
}

/// The SOA of a zone that changes.
#[must_use]
pub fn soa(apex: &str, serial: u32) -> Record {
    let numbers = [serial, 7_200, 3_600, 1_209_600, MINIMUM];
    let data = Data::Soa("ns1.hosting.test.".to_owned(), format!("hostmaster.{apex}"), numbers);
    Record { owner: apex.to_owned(), ttl: TTL, data }
}

/// What the answer to a question must be.
#[derive(Clone, Debug)]
enum Answer {
    /// This, always.
    Fixed(Expected),
    /// The name is not there. The serial of the SOA is free: it rises with every change.
    Missing(&'static str),
    /// What the ledger says of this name.
    Changing(usize),
}

/// What was found out about an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is right.
    Right,
    /// SERVFAIL while that is allowed.
    NotReady,
    /// What is wrong with it.
    Wrong(String),
}

/// All questions for one server, with their answers.
#[derive(Debug)]
pub struct Questions {
    side: Side,
    /// The messages.
    pub queries: Queries,
    names: Vec<(String, u16)>,
    answers: Vec<Answer>,
}

impl Questions {
    /// For one of the servers.
    #[must_use]
    pub fn new(source: &Source, side: Side) -> Self {
        let zones = if side == Side::Run { zones(source) } else { vec![source.small()] };
        let asked: Vec<(String, u16, Answer)> = (0..QUESTIONS)
            .map(|index| {
                let mut draw = Draw::new(source.seed, side.name(), index);
                let zone = zones[draw.below(zones.len() as u64) as usize];
                match draw.below(100) {
                    0..25 => changing(side, &mut draw),
                    25..35 => missing(side, zone, &mut draw),
                    _ => {
                        let question = zone.question(draw.bits() >> 32);
                        (question.name, question.qtype, Answer::Fixed(question.expected))
                    }
                }
            })
            .collect();
        Questions::of(side, asked)
    }

    /// One question for each name that changes, in their order.
    #[must_use]
    pub fn of_changing_names(side: Side) -> Self {
        let names: Vec<(String, usize)> = match side {
            Side::Run => (0..changing_count()).map(|number| (changing_name(number), number)).collect(),
            Side::Dataplane => (0..RELOADED_NAMES).map(|number| (reloaded_name(number), 0)).collect(),
        };
        let asked = names.into_iter().map(|(name, number)| (name, rtype::A, Answer::Changing(number)));
        Questions::of(side, asked.collect())
    }

    fn of(side: Side, asked: Vec<(String, u16, Answer)>) -> Self {
        let queries = Queries::new(false, asked.iter().map(|(name, qtype, _)| (name.as_str(), *qtype)));
        let (names, answers) = asked.into_iter().map(|(name, qtype, answer)| ((name, qtype), answer)).unzip();
        Questions { side, queries, names, answers }
    }

    /// The question itself, for people.
    #[must_use]
    pub fn show(&self, index: u32) -> String {
        let (name, qtype) = &self.names[index as usize];
        format!("{name} {}", rtype::mnemonic(*qtype))
    }

    /// Judges the answer to a question asked and answered at these moments. `query` is the message as sent.
    #[must_use]
    pub fn judge(
        &self,
        index: u32,
        query: &[u8],
        answer: &[u8],
        (asked, answered): (Instant, Instant),
        shared: &Shared,
    ) -> Verdict {
        let allowed = match self.side {
            Side::Run => shared.outages.allowed(asked, answered),
            Side::Dataplane => Allowed::Current,
        };
        // RCODE 2: SERVFAIL.
        if allowed == Allowed::NotReady && answer.get(3).is_some_and(|flags| flags & 0x0F == 2) {
            return Verdict::NotReady;
        }
        let found = match &self.answers[index as usize] {
            Answer::Fixed(expected) => compare(query, answer, expected),
            Answer::Missing(apex) => missing_is_right(query, answer, apex),
            Answer::Changing(number) => {
                let mut histories = shared.histories(self.side);
                let past = match allowed {
                    Allowed::Current => None,
                    Allowed::Snapshot(past) => Some(past),
                    // What comes without a snapshot comes change by change.
                    Allowed::NotReady => Some(Past(shared.course.started)),
                };
                let owner = &self.names[index as usize].0;
                let (apex, history) = match self.side {
                    Side::Run => (changing_apex(*number), &mut histories[*number]),
                    Side::Dataplane => (RELOADED, &mut histories[0]),
                };
                let judged = change_is_right(query, answer, (owner, apex), history, (asked, answered, past));
                judged.map(|state| {
                    // A swap is seen by every worker with its next batch, so one answer speaks for all.
                    if self.side == Side::Dataplane {
                        history.seen(state, answered);
                    }
                })
            }
        };
        found.map_or_else(Verdict::Wrong, |()| Verdict::Right)
    }
}

fn changing(side: Side, draw: &mut Draw) -> (String, u16, Answer) {
    let (name, number) = match side {
        Side::Run => {
            let number = draw.below(changing_count() as u64) as usize;
            (changing_name(number), number)
        }
        Side::Dataplane => (reloaded_name(draw.below(RELOADED_NAMES as u64) as usize), 0),
    };
    (name, rtype::A, Answer::Changing(number))
}

fn missing(side: Side, zone: Flat, draw: &mut Draw) -> (String, u16, Answer) {
    let question = zone.question_missing(draw.bits() >> 32);
    let answer = match side {
        Side::Run => Answer::Missing(zone.apex),
        Side::Dataplane => Answer::Fixed(question.expected),
    };
    (question.name, question.qtype, answer)
}

/// NXDOMAIN with the SOA of a zone whose serial is free.
fn missing_is_right(query: &[u8], answer: &[u8], apex: &str) -> Result<(), String> {
    let read = message::read(answer).map_err(|reason| format!("answer unreadable: {reason}"))?;
    compare(query, answer, &nothing(&read, apex))
}

/// The answer for a name that is not there, with the serial that the answer itself has.
fn nothing(read: &Message, apex: &str) -> Expected {
    // The serial is followed by four more numbers at the end of the RDATA (RFC 1035 §3.3.13).
    let serial = read
        .authority
        .iter()
        .find(|rr| rr.rtype == rtype::SOA)
        .and_then(|rr| rr.rdata.last_chunk::<20>()?.first_chunk::<4>().copied());
    let serial = u32::from_be_bytes(serial.unwrap_or_default());
    Expected {
        rcode: 3,
        authoritative: true,
        authority: vec![negative_soa(&soa(apex, serial))],
        ..Expected::default()
    }
}

/// The state that a right answer shows.
fn change_is_right(
    query: &[u8],
    answer: &[u8],
    (owner, apex): (&str, &str),
    history: &History,
    (asked, answered, past): (Instant, Instant, Option<Past>),
) -> Result<State, String> {
    let read = message::read(answer).map_err(|reason| format!("answer unreadable: {reason}"))?;
    let state = match (read.rcode(), &read.answer[..]) {
        (3, []) => None,
        (0, [rr]) => {
            let octets = <[u8; 4]>::try_from(&rr.rdata[..]).map_err(|_| format!("no address: {rr}"))?;
            Some(Ipv4Addr::from(octets))
        }
        (rcode, records) => return Err(format!("RCODE {rcode} with {} records", records.len())),
    };
    let expected = match state {
        None => nothing(&read, apex),
        Some(address) => Expected {
            authoritative: true,
            answer: vec![record(owner.to_owned(), address)],
            authority: Vec::new(),
            ..Expected::default()
        },
    };
    compare(query, answer, &expected)?;
    history.check(state, asked, answered, past)?;
    Ok(state)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::SocketAddr;
    use std::time::Duration;

    use super::*;
    use crate::data::record::name_wire;

    const SOURCE: Source = Source { seed: 1, shrink: 1_000 };

    #[test]
    fn names_that_change_differ_and_lie_in_their_zones() {
        let names: HashSet<String> = (0..changing_count()).map(changing_name).collect();
        assert_eq!(names.len(), changing_count());
        assert!((0..changing_count()).all(|n| changing_name(n).ends_with(changing_apex(n))));
        let apexes: HashSet<&str> = (0..changing_count()).map(changing_apex).collect();
        assert_eq!(apexes, zones(&SOURCE).iter().map(|zone| zone.apex).collect());
    }

    /// An authoritative answer with this RCODE and these records.
    fn answer(query: &[u8], rcode: u8, records: &[Record]) -> Vec<u8> {
        let mut answer = query.to_vec();
        answer[2] |= 0x84;
        answer[3] = rcode;
        answer[7] = u8::try_from(records.len()).unwrap();
        for record in records {
            answer.extend(name_wire(&record.owner));
            answer.extend([rtype::A.to_be_bytes(), [0, 1]].concat());
            answer.extend(record.ttl.to_be_bytes());
            answer.extend([0, 4]);
            answer.extend(record.data.wire());
        }
        answer
    }

    #[test]
    fn a_wrong_answer_is_found_and_a_right_one_passes() {
        let history = || History::new(Some(address(1)), Instant::now());
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        let histories = [(0..changing_count()).map(|_| history()).collect(), vec![history()]];
        let shared = Shared::new(Duration::from_secs(60), [nowhere; 2], histories);
        let questions = Questions::of_changing_names(Side::Run);
        let query = questions.queries.message(0).to_vec();
        let judge = |answer: &[u8]| {
            let now = Instant::now();
            questions.judge(0, &query, answer, (now, now), &shared)
        };
        let says = |version| answer(&query, 0, &[record(changing_name(0), address(version))]);
        let wrong = |verdict, part: &str| {
            assert!(matches!(&verdict, Verdict::Wrong(why) if why.contains(part)), "{verdict:?}, not {part}");
        };
        assert_eq!(judge(&says(1)), Verdict::Right);
        wrong(judge(&says(2)), "a state that never was");
        shared.histories(Side::Run)[0].ask(Some(address(2)), Instant::now());
        assert_eq!(
            (judge(&says(1)), judge(&says(2))),
            (Verdict::Right, Verdict::Right),
            "while it is written"
        );
        shared.histories(Side::Run)[0].acknowledge(true, Instant::now());
        assert_eq!(judge(&says(2)), Verdict::Right);
        wrong(judge(&says(1)), "an old state");
        wrong(judge(&answer(&query, 3, &[])), "authority section");
        wrong(judge(&answer(&query, 2, &[])), "RCODE 2");
        let another = Record { ttl: 61, ..record(changing_name(0), address(2)) };
        wrong(judge(&answer(&query, 0, &[another])), "answer section");
        shared.outages.begin_catch_up(None);
        assert_eq!(judge(&answer(&query, 2, &[])), Verdict::NotReady);
    }

    #[test]
    fn every_kind_of_question_is_asked() {
        for side in Side::BOTH {
            let questions = Questions::new(&SOURCE, side);
            let count = |wanted: fn(&Answer) -> bool| questions.answers.iter().filter(|a| wanted(a)).count();
            assert!(count(|answer| matches!(answer, Answer::Changing(_))) > 800, "{side:?}");
            assert!(count(|answer| matches!(answer, Answer::Fixed(_))) > 2_000, "{side:?}");
            assert_eq!(count(|answer| matches!(answer, Answer::Missing(_))) > 300, side == Side::Run);
        }
    }
}
