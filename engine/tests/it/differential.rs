//! The engine against the reference: whole messages, random zones, random queries.
//!
//! `GODWIT_SEED` sets the seed, `GODWIT_LONG=1` asks for a million comparisons; a failure prints what repeats it.

use godwit_engine::answer::{Answerer, Batch, Outcome, Slot};
use godwit_testkit::compare::compare;
use godwit_testkit::generate::{self, Census, GeneratedQuery, QueryOptions, Signing, WorldOptions, sign};
use godwit_testkit::message::Message;
use godwit_testkit::reference::{self, World, Zone, ZoneRecord};
use godwit_wire::name::Name;
use godwit_wire::rr::Rtype;

use crate::bridge;

const NOW: u32 = 1_800_000_000;
const SECRET: [u8; 16] = *b"a cookie secret!";
const QUERIES_PER_WORLD: u64 = 100;
const MOST_DISAGREEMENTS_SHOWN: usize = 20;

const OPTIONS: WorldOptions = WorldOptions { strict: false, signing: None };
const QUERIES: QueryOptions = QueryOptions { plain: false, cookie_secret: SECRET, now: NOW };

/// Messages of a batch and where their answers go.
struct Messages<'a> {
    queries: &'a [GeneratedQuery],
    outs: Vec<Vec<u8>>,
    outcomes: Vec<Option<Outcome>>,
}

impl Batch for Messages<'_> {
    fn len(&self) -> usize {
        self.queries.len()
    }

    fn slot(&mut self, index: usize) -> Slot<'_> {
        let query = &self.queries[index];
        Slot {
            client: bridge::client(query.transport, query.address),
            packet: &query.packet,
            out: &mut self.outs[index],
        }
    }

    fn done(&mut self, index: usize, outcome: Outcome) {
        assert!(self.outcomes[index].replace(outcome).is_none(), "done() twice for {index}");
    }
}

#[test]
fn whole_messages_agree_with_the_reference() {
    let seed = generate::seed(1);
    let worlds = if generate::long() { 10_500 } else { 200 };
    let mut census = Census::default();
    let mut disagreements = Vec::new();
    for case in 0..worlds {
        disagreements.extend(compare_world(seed, case, &mut census));
        if disagreements.len() >= MOST_DISAGREEMENTS_SHOWN {
            break;
        }
    }
    println!("GODWIT_SEED={seed}: {census}");
    assert!(disagreements.is_empty(), "GODWIT_SEED={seed}\n{}", disagreements.join("\n\n"));
    assert_eq!(census.cases(), worlds * QUERIES_PER_WORLD);
    census.assert_rich();
}

/// Compares many queries to one world; gives the disagreements as text.
fn compare_world(seed: u64, case: u64, census: &mut Census) -> Vec<String> {
    let mut random = generate::random(seed, case);
    let world = generate::world(&mut random, &OPTIONS);
    let settings = generate::settings(&mut random, SECRET);
    let snapshot = bridge::snapshot(&world);
    snapshot.check().unwrap_or_else(|fault| panic!("GODWIT_SEED={seed} world {case}: {fault}"));
    let queries: Vec<GeneratedQuery> =
        (0..QUERIES_PER_WORLD).map(|_| generate::query(&mut random, &QUERIES, &world)).collect();
    let engine_settings = bridge::settings(&settings);
    let mut answerer = Answerer::new();
    let mut batch = Messages {
        queries: &queries,
        outs: vec![vec![0; 65_535]; queries.len()],
        outcomes: vec![None; queries.len()],
    };
    answerer.answer_batch(&snapshot, &engine_settings, NOW, &mut batch);
    let mut disagreements = Vec::new();
    let mut out = vec![0; 65_535];
    for (index, query) in queries.iter().enumerate() {
        let client = bridge::client(query.transport, query.address);
        let outcome = answerer.answer(&snapshot, &engine_settings, &client, NOW, &query.packet, &mut out);
        // One by one or in a batch makes no difference.
        assert_eq!(batch.outcomes[index], Some(outcome), "GODWIT_SEED={seed} world {case} query {index}");
        assert_eq!(batch.outs[index][..outcome.len], out[..outcome.len], "GODWIT_SEED={seed} world {case}");
        let client = reference::Client { address: query.address, transport: query.transport };
        let expected = reference::answer(&world, &settings, &client, NOW, &query.packet);
        let response = (outcome.len > 0).then(|| &out[..outcome.len]);
        census.count(&world, query, expected.as_ref());
        if let Err(difference) = compare(expected.as_ref(), response) {
            disagreements.push(describe(case, &world, &settings, query, &difference));
        }
    }
    disagreements
}

/// What a person needs to see why: the query, the difference, and the records around the name.
fn describe(
    case: u64,
    world: &World,
    settings: &reference::Settings,
    query: &GeneratedQuery,
    difference: &str,
) -> String {
    let mut text = format!(
        "world {case}: {} {} {:?}, packet {:02x?}\n{settings:?}\n{difference}",
        query.qname, query.qtype, query.transport, query.packet
    );
    for zone in &world.zones {
        let related = |owner: &Name| {
            owner.as_ref().is_at_or_below(query.qname.as_ref())
                || query.qname.as_ref().is_at_or_below(owner.as_ref())
                || owner.as_ref().parent().is_some_and(|above| query.qname.as_ref().is_below(above))
        };
        text.push_str(&format!("zone {} of {}\n", zone.apex, zone.owner_number));
        for record in zone.records.iter().filter(|record| related(&record.owner)) {
            text.push_str(&format!(
                "    {record}
"
            ));
        }
    }
    text
}

/// A zone in which opt-out leaves out names at any depth (RFC 5155 §6): what encloses a name is proven by what has an NSEC3.
#[test]
fn opt_out_leaves_out_names_at_any_depth() {
    const CUT: &str = "1.2.3.4.5.6.7.8.9.a.b.c.opt.test.";
    let name = |text: &str| text.parse::<Name>().unwrap();
    let ns = || name("ns.other.").as_wire().to_vec();
    let soa = [name("ns.other.").as_wire(), name("h.other.").as_wire(), &[0; 16], &[0, 0, 1, 0]].concat();
    let mut zone = Zone { apex: name("opt.test."), owner_number: 1, records: Vec::new() };
    for (owner, rtype, rdata) in [
        ("opt.test.", Rtype::SOA, soa),
        ("opt.test.", Rtype::NS, ns()),
        ("www.opt.test.", Rtype::A, vec![192, 0, 2, 1]),
        ("here.c.opt.test.", Rtype::A, vec![192, 0, 2, 1]),
        ("insecure.ent.opt.test.", Rtype::NS, ns()),
        (CUT, Rtype::NS, ns()),
    ] {
        zone.records.push(ZoneRecord { owner: name(owner), rtype, ttl: 300, rdata });
    }
    sign(&mut generate::random(1, 0), &mut zone, Signing::Nsec3 { opt_out: true });
    let world = World { zones: vec![zone] };
    let snapshot = bridge::snapshot(&world);
    let settings = reference::Settings::default();
    let mut answerer = Answerer::new();
    let mut out = vec![0; 65_535];
    let mut denials = |qname: &str, qtype: Rtype| {
        let mut packet = vec![0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1];
        packet.extend_from_slice(name(qname).as_wire());
        packet.extend_from_slice(&qtype.0.to_be_bytes());
        // Class IN, and an OPT with DO.
        packet.extend_from_slice(&[0, 1, 0, 0, 41, 16, 0, 0, 0, 0x80, 0, 0, 0]);
        let client =
            reference::Client { address: [192, 0, 2, 9].into(), transport: reference::Transport::Udp };
        let expected = reference::answer(&world, &settings, &client, NOW, &packet);
        let to = bridge::client(client.transport, client.address);
        let outcome = answerer.answer(&snapshot, &bridge::settings(&settings), &to, NOW, &packet, &mut out);
        compare(expected.as_ref(), Some(&out[..outcome.len]))
            .unwrap_or_else(|error| panic!("{qname}: {error}"));
        let message = Message::parse(&out[..outcome.len]).unwrap();
        message.authority.iter().filter(|record| record.rtype == Rtype::NSEC3).count()
    };
    // What is proven: opt.test., or c.opt.test., with the next closer name, and its wildcard (one NSEC3 may say two of these).
    for qname in ["x.ent.opt.test.", "x.2.3.4.5.6.7.8.9.a.b.c.opt.test.", "x.b.c.opt.test."] {
        assert!(denials(qname, Rtype::A) >= 2, "{qname}");
    }
    for (qname, qtype) in [(CUT, Rtype::DS), (CUT, Rtype::A), ("insecure.ent.opt.test.", Rtype::DS)] {
        assert!(denials(qname, qtype) >= 1, "{qname}");
    }
}
