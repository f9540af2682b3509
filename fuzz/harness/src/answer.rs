//! Answers to any packet: one octet that chooses transport and settings, then the packet. Whatever is answered is a whole
//! message that other code than ours reads, a response to what was asked, and no larger than the client takes; and it is
//! the same alone as in a batch.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::OnceLock;

use domain::base::Message;
use godwit_engine::answer::{
    Answerer, AnyPolicy, Batch, Client, CookieSecrets, DropReason, Outcome, Readiness, Settings, Slot,
    Transport,
};
use godwit_engine::snapshot::Snapshot;

use crate::message::{Edns, Query};
use crate::{Target, names, zones};

pub(crate) const NOW: u32 = 1_800_000_000;
const ROOM: usize = 65_535;

pub(crate) fn snapshot() -> &'static Snapshot {
    static SNAPSHOT: OnceLock<Snapshot> = OnceLock::new();
    SNAPSHOT.get_or_init(zones::all)
}

/// Bit 0: TCP; 1: cookies; 2: they are required; 3–4: the policy for ANY; 5: everything optional is on; 6: aliases are not
/// followed; 7: there is no data.
pub(crate) fn choose(knobs: u8) -> (Transport, Settings) {
    let on = |bit: u8| knobs & (1 << bit) != 0;
    let text = |text: &[u8]| on(5).then(|| Box::from(text));
    let settings = Settings {
        any: match (knobs >> 3) & 3 {
            0 => AnyPolicy::Minimal,
            1 => AnyPolicy::AlwaysMinimal,
            _ => AnyPolicy::Full,
        },
        nsid: text(b"ns1"),
        cookies: on(1).then_some(CookieSecrets { current: [7; 16], previous: Some([8; 16]), require: on(2) }),
        version_bind: text(b"godwit"),
        id_server: text(b"ns1"),
        tcp_keepalive: on(5).then_some(100),
        resolve_cname_chain: !on(6),
        ready: if on(7) { Readiness::NoData } else { Readiness::Serving },
        ..Settings::default()
    };
    (if on(0) { Transport::Tcp } else { Transport::Udp }, settings)
}

pub(crate) fn client(transport: Transport) -> Client {
    Client { address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 200)), transport }
}

/// The same packet three times.
struct Three<'a> {
    client: Client,
    packet: &'a [u8],
    out: [Vec<u8>; 3],
    outcomes: [Option<Outcome>; 3],
}

impl Batch for Three<'_> {
    fn len(&self) -> usize {
        3
    }

    fn slot(&mut self, index: usize) -> Slot<'_> {
        Slot { client: self.client, packet: self.packet, out: &mut self.out[index] }
    }

    fn done(&mut self, index: usize, outcome: Outcome) {
        assert!(self.outcomes[index].replace(outcome).is_none(), "answered twice");
    }
}

/// Checks the properties.
pub fn run(data: &[u8]) {
    let Some((&knobs, packet)) = data.split_first() else { return };
    let (transport, settings) = choose(knobs);
    let mut answerer = Answerer::new();
    let mut out = vec![0; ROOM];
    let outcome = answerer.answer(snapshot(), &settings, &client(transport), NOW, packet, &mut out);
    match outcome.drop {
        Some(reason) => {
            assert_eq!(outcome.len, 0);
            let expected = match packet {
                [_, _, flags, ..] if packet.len() >= 12 && flags & 0x80 != 0 => DropReason::Response,
                _ => DropReason::Short,
            };
            assert_eq!(reason, expected, "there is always room");
            return;
        }
        None => check(packet, &out[..outcome.len], transport, outcome),
    }
    let out_in_batch = || vec![0xFF; ROOM];
    let mut three = Three {
        client: client(transport),
        packet,
        out: [out_in_batch(), out_in_batch(), out_in_batch()],
        outcomes: [None; 3],
    };
    answerer.answer_batch(snapshot(), &settings, NOW, &mut three);
    for (octets, other) in three.out.iter().zip(three.outcomes) {
        assert_eq!(other, Some(outcome));
        assert_eq!(&octets[..outcome.len], &out[..outcome.len], "another answer in a batch than alone");
    }
}

fn check(packet: &[u8], answer: &[u8], transport: Transport, outcome: Outcome) {
    assert!(answer.len() >= 12, "an answer has a header");
    assert_eq!(answer[..2], packet[..2], "the ID is that of the query");
    assert_eq!(answer[2] & 0x80, 0x80, "QR is set");
    assert_eq!(answer[2] & 0x78, packet[2] & 0x78, "the opcode is that of the query");
    if transport == Transport::Udp {
        // Nobody gets more than we send at most, nor more than twelve octets and a question when it said nothing.
        assert!(answer.len() <= 1232, "{} octets", answer.len());
    }
    let message = Message::from_octets(answer).expect("the answer has a header");
    let rcode = u16::from(message.header().rcode().to_int());
    assert_eq!(rcode, outcome.rcode & 0xF);
    for question in message.question() {
        question.expect("the question reads");
    }
    assert!(message.header_counts().qdcount() <= 1);
    let sections = [
        message.answer().expect("the answer section begins"),
        message.authority().expect("the authority section begins"),
        message.additional().expect("the additional section begins"),
    ];
    for section in sections {
        for record in section {
            let record = record.expect("the record reads");
            // Reads the RDATA, names in it decompressed.
            let _ = record.to_any_record::<domain::rdata::AllRecordData<_, _>>();
        }
    }
    if message.header().tc() {
        assert_eq!(transport, Transport::Udp, "truncated over TCP");
    }
}

/// What the seeds ask, with the knobs for it.
fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let seed = |knobs: u8, query: &Query<'_>| [&[knobs], &query.octets()[..]].concat();
    let plain = |qname, qtype| seed(0, &Query::of(qname, qtype));
    let signed = |qname, qtype| seed(0, &Query::of(qname, qtype).edns(1232, true));
    let truncated_packet = |cut: usize| {
        let mut octets = plain("www.plain.test", 1);
        octets.truncate(octets.len() - cut);
        octets
    };
    let two_questions = {
        let mut octets = plain("www.plain.test", 1);
        octets[6] = 2;
        octets
    };
    let pointer_loop = [
        &[0][..],
        &Query { qname: None, ..Query::of("", 1) }.octets()[..4],
        &[0, 1, 0, 0, 0, 0, 0, 0],
        &[0xC0, 12, 0, 1, 0, 1],
    ]
    .concat();
    vec![
        ("hit", plain("www.plain.test", 1)),
        ("hit-mixed-case", plain("wWw.PlAiN.tEsT", 28)),
        ("hit-signed", signed("www.nsec.test", 1)),
        ("nodata", plain("www.plain.test", 15)),
        ("nodata-nsec", signed("www.nsec.test", 15)),
        ("nodata-nsec3", signed("www.nsec3.test", 15)),
        ("nxdomain", plain("nope.plain.test", 1)),
        ("nxdomain-nsec", signed("nope.nsec.test", 1)),
        ("nxdomain-nsec3", signed("a.nope.nsec3.test", 1)),
        ("cname", plain("chain.plain.test", 1)),
        ("cname-loop", plain("loop.plain.test", 1)),
        ("cname-across", signed("across.plain.test", 1)),
        ("cname-other-owner", plain("across.other.test", 1)),
        ("dname", plain("x.dn.plain.test", 1)),
        ("dname-across", signed("www.dnacross.plain.test", 1)),
        ("referral", plain("x.sub.plain.test", 1)),
        ("referral-signed", signed("x.safe.nsec.test", 1)),
        ("referral-nsec3", signed("x.sub.nsec3.test", 1)),
        ("referral-many", seed(0, &Query::of("many.plain.test", 1).edns(512, false))),
        ("ds-at-cut", signed("safe.nsec.test", 43)),
        ("wildcard", plain("x.wild.plain.test", 1)),
        ("wildcard-nsec", signed("x.wild.nsec.test", 1)),
        ("wildcard-nsec3", signed("x.wild.nsec3.test", 1)),
        ("wildcard-nodata", signed("x.wild.nsec.test", 28)),
        ("wildcard-alias", plain("x.walias.plain.test", 1)),
        ("empty-non-terminal", plain("b.ent.plain.test", 1)),
        ("below-empty-non-terminal", plain("c.ent.plain.test", 1)),
        ("truncated", plain("big.plain.test", 16)),
        ("large-over-tcp", seed(1, &Query::of("big.plain.test", 16))),
        ("any-minimal", plain("plain.test", 255)),
        ("any-full", seed(0b1_0001, &Query::of("nsec.test", 255).edns(1232, true))),
        ("additional", plain("_sip._udp.plain.test", 33)),
        ("https", plain("_https.plain.test", 65)),
        ("nested", plain("www.nested.rich.test", 1)),
        ("nested-unannounced", plain("below.hidden.rich.test", 1)),
        ("cname-into-nested", signed("into.rich.test", 1)),
        ("cname-long-chain", plain("link1.rich.test", 1)),
        ("cname-into-cut", plain("into-cut.rich.test", 1)),
        ("dname-circle", plain("x.circle.rich.test", 1)),
        (
            "dname-too-long",
            plain(
                "a-label-that-makes-it-long.another-label-that-makes-it-long.one-more-label-that-makes-it-long.and-one-more-of-them-because-it-takes.grow.rich.test",
                1,
            ),
        ),
        ("referral-glue-cut", seed(0, &Query::of("x.wide.rich.test", 1).edns(1232, true))),
        ("referral-mixed", plain("x.mixed.rich.test", 1)),
        ("crowd", seed(1, &Query::of("crowd.rich.test", 1))),
        ("heavy", seed(1, &Query::of("heavy.rich.test", 16).edns(1232, true))),
        ("additional-many", seed(1, &Query::of("_many._tcp.rich.test", 33))),
        ("any-types", seed(0b1_0001, &Query::of("types.rich.test", 255))),
        ("unknown-type", plain("unknown.plain.test", 65_280)),
        ("refused", plain("www.example.net", 1)),
        ("chaos", seed(0b10_0000, &Query { qclass: 3, ..Query::of("version.bind", 16) })),
        ("nsid", seed(0b10_0000, &Query::of("www.plain.test", 1).option(3, &[]))),
        ("keepalive", seed(0b10_0001, &Query::of("www.plain.test", 1).option(11, &[]))),
        ("cookie", seed(0b10, &Query::of("www.plain.test", 1).option(10, &[1; 8]))),
        ("badcookie", seed(0b110, &Query::of("www.plain.test", 1).option(10, &[1; 24]))),
        ("cookie-alone", seed(0b10, &Query { qname: None, ..Query::of("", 1) }.option(10, &[1; 8]))),
        ("no-data", seed(0b1000_0000, &Query::of("www.plain.test", 1))),
        ("badvers", {
            let mut query = Query::of("www.plain.test", 1).edns(1232, false);
            query.edns = query.edns.map(|edns| Edns { version: 1, ..edns });
            seed(0, &query)
        }),
        ("notimp", seed(0, &Query { flags: 0x1000, ..Query::of("plain.test", 6) })),
        ("update", seed(0, &Query { flags: 0x2800, ..Query::of("plain.test", 6) })),
        ("notify", seed(0, &Query { flags: 0x2000, ..Query::of("plain.test", 6) })),
        ("axfr", seed(1, &Query::of("plain.test", 252))),
        ("tsig", seed(0, &Query { tsig: true, ..Query::of("www.plain.test", 1) })),
        ("formerr-cut", truncated_packet(3)),
        ("formerr-two-questions", two_questions),
        ("formerr-pointer", pointer_loop),
        ("short", vec![0, 1, 2, 3]),
        ("response", seed(0, &Query { flags: 0x8000, ..Query::of("www.plain.test", 1) })),
    ]
}

/// What became of an input, in the classes that can be told from the answer alone; the rest are the seeds themselves.
fn classify(data: &[u8]) -> Vec<String> {
    let Some((&knobs, packet)) = data.split_first() else { return Vec::new() };
    let (transport, settings) = choose(knobs);
    let mut out = vec![0; ROOM];
    let outcome = Answerer::new().answer(snapshot(), &settings, &client(transport), NOW, packet, &mut out);
    if let Some(reason) = outcome.drop {
        return names(&[if reason == DropReason::Short { "dropped: short" } else { "dropped: response" }]);
    }
    let octets = &out[..outcome.len];
    let count = |at: usize| u16::from_be_bytes([octets[at], octets[at + 1]]);
    let has = |rtype: u16| {
        let message = Message::from_octets(octets).expect("the answer has a header");
        let sections = [message.answer(), message.authority(), message.additional()];
        sections
            .into_iter()
            .flatten()
            .flatten()
            .any(|record| record.is_ok_and(|r| r.rtype().to_int() == rtype))
    };
    let authoritative = octets[2] & 4 != 0;
    crate::holding(&[
        ("answer", outcome.rcode == 0 && authoritative && count(6) > 0),
        ("nodata", outcome.rcode == 0 && authoritative && count(6) == 0 && has(6)),
        ("nxdomain", outcome.rcode == 3),
        ("referral", outcome.rcode == 0 && !authoritative && count(6) == 0 && count(8) > 0),
        ("truncated", octets[2] & 2 != 0),
        ("rrsig", has(46)),
        ("nsec", has(47) && count(8) > 0),
        ("nsec3", has(50)),
        ("cname", has(5)),
        ("dname", has(39)),
        ("opt", has(41)),
        (
            "chaos",
            outcome.rcode == 0
                && count(4) == 1
                && octets[octets.len().min(12)..].windows(2).any(|o| o == [0, 3]),
        ),
        ("large", outcome.len > 1232),
        ("formerr", outcome.rcode == 1),
        ("servfail", outcome.rcode == 2),
        ("notimp", outcome.rcode == 4),
        ("refused", outcome.rcode == 5),
        ("notauth-or-refused-update", packet[2] & 0x78 == 0x28),
        ("badvers", outcome.rcode == 16),
        ("badcookie", outcome.rcode == 23),
    ])
}

const CLASSES: &[&str] = &[
    "answer",
    "nodata",
    "nxdomain",
    "referral",
    "truncated",
    "rrsig",
    "nsec",
    "nsec3",
    "cname",
    "dname",
    "opt",
    "chaos",
    "large",
    "formerr",
    "servfail",
    "notimp",
    "refused",
    "notauth-or-refused-update",
    "badvers",
    "badcookie",
    "dropped: short",
    "dropped: response",
];

pub(crate) fn target() -> Target {
    Target {
        name: "answer",
        run,
        classes: names(CLASSES),
        classify,
        seeds: || seeds().into_iter().map(|(class, octets)| (class.to_owned(), octets)).collect(),
    }
}
