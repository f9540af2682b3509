//! What must hold of every answer, by a walk over its octets that shares no code with what wrote them: a tenth of the time
//! of reading each record, which the whole check of [`crate::answer`] does.

use godwit_engine::answer::{Outcome, Settings, Transport};

use super::expected_drop;

const HEADER_OCTETS: usize = 12;
const OPT: u16 = 41;
/// FORMERR, where an answer has no OPT whatever the query had (docs/answers.md §1 row 6).
const FORMERR: u16 = 1;
/// What is answered at all (docs/answers.md).
const RCODES: [u16; 10] = [0, FORMERR, 2, 3, 4, 5, 6, 9, 16, 23];

/// Checks one answer, empty for silence.
///
/// # Panics
/// When a property does not hold.
pub(super) fn check(
    packet: &[u8],
    answer: &[u8],
    transport: Transport,
    settings: &Settings,
    outcome: Outcome,
) {
    assert_eq!(outcome.drop, expected_drop(packet), "silence is for responses and what is no header");
    if outcome.drop.is_some() {
        assert!(answer.is_empty());
        return;
    }
    let rcode = answered(packet, answer, transport, settings.udp_payload_max);
    assert_eq!(rcode, outcome.rcode, "the RCODE that is counted is the one that is sent");
}

/// Checks one answer that came, from a server that sends at most `udp_payload_max` octets over UDP; its RCODE.
///
/// # Panics
/// When a property does not hold.
pub(super) fn answered(packet: &[u8], answer: &[u8], transport: Transport, udp_payload_max: u16) -> u16 {
    header(packet, answer);
    let seen = walk(packet, answer);
    assert!(seen.opt_count <= 1, "two OPTs");
    let most = match (transport, seen.opt_count) {
        (Transport::Tcp, _) => usize::from(u16::MAX),
        (Transport::Udp, 0) => 512,
        (Transport::Udp, _) => usize::from(udp_payload_max),
    };
    assert!(answer.len() <= most, "{} octets where {most} are the most", answer.len());
    let rcode = u16::from(answer[3] & 0x0F) | seen.extended_rcode << 4;
    assert!(RCODES.contains(&rcode), "RCODE {rcode}");
    let truncated = answer[2] & 0x02 != 0;
    assert!(!truncated || transport == Transport::Udp, "truncated over TCP");
    assert!(!truncated || rcode != FORMERR, "an error that is truncated");
    rcode
}

fn header(packet: &[u8], answer: &[u8]) {
    assert!(answer.len() >= HEADER_OCTETS, "an answer has a header");
    assert_eq!(answer[..2], packet[..2], "the ID is that of the query");
    // QR set, opcode and RD those of the query; AA and TC are free.
    assert_eq!(answer[2] & 0xF9, 0x80 | packet[2] & 0x79, "QR, opcode, RD");
    assert_eq!(answer[3] & 0xF0, 0, "RA, Z, AD and CD are 0");
}

#[derive(Default)]
struct Seen {
    opt_count: usize,
    extended_rcode: u16,
}

/// Steps over the question and every record: nothing is cut short, nothing follows, pointers lead backwards.
fn walk(packet: &[u8], answer: &[u8]) -> Seen {
    let count = |at: usize| u16::from_be_bytes([answer[at], answer[at + 1]]);
    let mut at = HEADER_OCTETS;
    match count(4) {
        0 => {}
        1 => {
            at = name_end(answer, at) + 4;
            assert_eq!(
                answer[HEADER_OCTETS..at],
                packet[HEADER_OCTETS..at],
                "the question is that of the query"
            );
        }
        more => panic!("{more} questions"),
    }
    let mut seen = Seen::default();
    let records = u32::from(count(6)) + u32::from(count(8)) + u32::from(count(10));
    for _ in 0..records {
        let fixed = name_end(answer, at);
        let [t0, t1, _, _, extended, _, _, _, l0, l1] =
            *answer[fixed..].first_chunk().expect("a record is cut short");
        if u16::from_be_bytes([t0, t1]) == OPT {
            assert_eq!(answer[at], 0, "the owner of OPT is the root");
            seen.opt_count += 1;
            seen.extended_rcode = u16::from(extended);
        }
        at = fixed + 10 + usize::from(u16::from_be_bytes([l0, l1]));
    }
    assert_eq!(at, answer.len(), "the answer ends where its last record ends");
    seen
}

/// Where the name at `at` ends. A pointer leads to before the name that it stands in.
fn name_end(answer: &[u8], at: usize) -> usize {
    let mut end = at;
    loop {
        match answer[end] {
            0 => return end + 1,
            length @ 1..=63 => end += 1 + usize::from(length),
            high => {
                assert!(high >= 0xC0, "a label of an unknown kind");
                let to = usize::from(u16::from_be_bytes([high & 0x3F, answer[end + 1]]));
                assert!(to >= HEADER_OCTETS && to < at, "a pointer at {end} to {to}");
                return end + 2;
            }
        }
    }
}
