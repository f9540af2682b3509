//! A few answers end to end, octet by octet where it matters. The reference in `testkit` covers the rest.

use godwit_wire::feed::digest::DigestKey;
use godwit_wire::message::{Header, flag};
use godwit_wire::name::Name;
use godwit_wire::presentation;
use godwit_wire::rr::Rtype;

use super::*;
use crate::snapshot::{LoadedZone, SnapshotOptions, ZoneLoader};

fn load(apex: &str, records: &[(&str, &str, &str)]) -> LoadedZone {
    load_for(0, apex, records)
}

/// The zone of a tenant. Relative names in RDATA end at the apex.
fn load_for(owner_number: u32, apex: &str, records: &[(&str, &str, &str)]) -> LoadedZone {
    let apex: Name = apex.parse().unwrap();
    let mut loader = ZoneLoader::new(apex.clone(), owner_number);
    for (owner, rtype, rdata) in records {
        let owner: Name = owner.parse().unwrap();
        let rtype: Rtype = rtype.parse().unwrap();
        let rdata = presentation::parse_rdata(rtype, rdata, Some(apex.as_ref())).unwrap();
        loader.record(owner.as_ref(), rtype, 300, &rdata, 1).unwrap();
    }
    loader.finish().unwrap()
}

fn snapshot_of(zones: Vec<LoadedZone>) -> Snapshot {
    let options = SnapshotOptions { hash_key: [1; 16], digest_key: DigestKey([2; 32]) };
    let snapshot = Snapshot::empty(&options).replace_zones(zones);
    snapshot.check().unwrap();
    snapshot
}

fn snapshot() -> Snapshot {
    snapshot_of(vec![load(
        "example.",
        &[
            ("example.", "SOA", "ns1 host 1 2 3 4 60"),
            ("example.", "NS", "ns1"),
            ("ns1.example.", "A", "192.0.2.1"),
            ("www.example.", "A", "192.0.2.2"),
            ("www.example.", "TXT", "text"),
            ("alias.example.", "CNAME", "www"),
            ("cut.example.", "NS", "ns.cut"),
            ("ns.cut.example.", "A", "192.0.2.3"),
            ("*.wild.example.", "TXT", "x"),
            ("d.example.", "DNAME", "example."),
            ("mail.example.", "MX", "1 www"),
        ],
    )])
}

fn packet(qname: &str, qtype: Rtype) -> Vec<u8> {
    let name: Name = qname.parse().unwrap();
    let mut packet = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    packet.extend_from_slice(name.as_wire());
    packet.extend_from_slice(&qtype.0.to_be_bytes());
    packet.extend_from_slice(&[0, 1]);
    packet
}

fn ask(qname: &str, qtype: Rtype) -> (Header, Vec<u8>) {
    ask_of(&snapshot(), &Settings::default(), Transport::Udp, &packet(qname, qtype))
}

fn ask_of(
    snapshot: &Snapshot,
    settings: &Settings,
    transport: Transport,
    packet: &[u8],
) -> (Header, Vec<u8>) {
    let mut out = vec![0; 65_535];
    let client = Client { address: "192.0.2.9".parse().unwrap(), transport };
    let outcome = Answerer::new().answer(snapshot, settings, &client, 0, packet, &mut out);
    out.truncate(outcome.len);
    (Header::read(&out).unwrap(), out)
}

/// Answers counted: answer, authority, additional.
fn counts(snapshot: &Snapshot, transport: Transport, qname: &str, qtype: Rtype) -> (u16, u16, u16) {
    let (header, _) = ask_of(snapshot, &Settings::default(), transport, &packet(qname, qtype));
    (header.ancount, header.nscount, header.arcount)
}

#[test]
fn each_kind_of_answer_has_its_sections() {
    const AA: u16 = flag::AA;
    // One for all of them: making it takes seconds under Miri.
    let snapshot = snapshot();
    for (qname, qtype, rcode, aa, counts) in [
        ("www.example.", Rtype::A, 0, AA, (1, 0, 0)),
        ("WWW.example.", Rtype::A, 0, AA, (1, 0, 0)),
        ("www.example.", Rtype::AAAA, 0, AA, (0, 1, 0)),
        ("nope.example.", Rtype::A, 3, AA, (0, 1, 0)),
        ("a.b.nope.example.", Rtype::A, 3, AA, (0, 1, 0)),
        ("wild.example.", Rtype::A, 0, AA, (0, 1, 0)),
        ("a.b.wild.example.", Rtype::TXT, 0, AA, (1, 0, 0)),
        ("a.b.wild.example.", Rtype::A, 0, AA, (0, 1, 0)),
        ("alias.example.", Rtype::A, 0, AA, (2, 0, 0)),
        ("cut.example.", Rtype::A, 0, 0, (0, 1, 1)),
        ("ns.cut.example.", Rtype::A, 0, 0, (0, 1, 1)),
        ("x.y.cut.example.", Rtype::A, 0, 0, (0, 1, 1)),
        ("cut.example.", Rtype::DS, 0, AA, (0, 1, 0)),
        ("www.d.example.", Rtype::A, 0, AA, (3, 0, 0)),
        ("mail.example.", Rtype::MX, 0, AA, (1, 0, 1)),
        ("example.", Rtype::NS, 0, AA, (1, 0, 1)),
        ("other.", Rtype::A, 5, 0, (0, 0, 0)),
    ] {
        let (header, octets) = ask_of(&snapshot, &Settings::default(), Transport::Udp, &packet(qname, qtype));
        assert_eq!(header.flags & 0x0F, rcode, "{qname} {qtype}");
        assert_eq!(header.flags & AA, aa, "{qname} {qtype}");
        assert_eq!((header.ancount, header.nscount, header.arcount), counts, "{qname} {qtype} {octets:?}");
    }
}

#[test]
fn an_answer_is_the_image_with_a_pointer_to_the_question() {
    let (_, octets) = ask("www.example.", Rtype::A);
    assert_eq!(octets[29..], [0xC0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 192, 0, 2, 2]);
}

const SOA: (&str, &str, &str) = ("example.", "SOA", "ns host 1 2 3 4 60");
const NS: (&str, &str, &str) = ("example.", "NS", "ns.other.");

/// Two tenants: what one publishes is not told in answers for the other (I9).
#[test]
fn aliases_and_additional_data_stop_at_the_owner() {
    let other = [
        ("other.", "SOA", "ns host 1 2 3 4 60"),
        ("other.", "NS", "ns"),
        ("ns.other.", "A", "192.0.2.1"),
        ("www.other.", "A", "192.0.2.1"),
    ];
    let ours = [SOA, NS, ("a.example.", "CNAME", "www.other."), ("m.example.", "MX", "1 www.other.")];
    for (owner_number, alias, mail) in [(7, (2, 0, 0), (1, 0, 1)), (8, (1, 0, 0), (1, 0, 0))] {
        let snapshot =
            snapshot_of(vec![load_for(7, "example.", &ours), load_for(owner_number, "other.", &other)]);
        assert_eq!(counts(&snapshot, Transport::Udp, "a.example.", Rtype::A), alias, "owner {owner_number}");
        assert_eq!(counts(&snapshot, Transport::Udp, "m.example.", Rtype::MX), mail, "owner {owner_number}");
    }
}

#[test]
fn chains_end_at_their_limit_and_loops_at_once() {
    let mut records = vec![SOA, NS, ("loop.example.", "CNAME", "loop2"), ("loop2.example.", "CNAME", "loop")];
    let names: Vec<(String, String)> =
        (0..20).map(|at| (format!("c{at}.example."), format!("c{}", at + 1))).collect();
    records.extend(names.iter().map(|(owner, target)| (owner.as_str(), "CNAME", target.as_str())));
    let snapshot = snapshot_of(vec![load("example.", &records)]);
    assert_eq!(counts(&snapshot, Transport::Tcp, "c0.example.", Rtype::A), (10, 0, 0));
    assert_eq!(counts(&snapshot, Transport::Tcp, "loop.example.", Rtype::A), (2, 0, 0));
    let settings = Settings { max_cname_depth: 255, ..Settings::default() };
    let (header, _) = ask_of(&snapshot, &settings, Transport::Tcp, &packet("c0.example.", Rtype::A));
    assert_eq!(header.ancount, u16::from(MAX_LINKS), "no setting goes beyond the bound");
}

/// RFC 8482: who has not shown to receive at its address gets little for little.
#[test]
fn any_over_udp_gets_one_rrset() {
    let snapshot = snapshot();
    assert_eq!(counts(&snapshot, Transport::Udp, "www.example.", Rtype::ANY).0, 1);
    assert_eq!(counts(&snapshot, Transport::Tcp, "www.example.", Rtype::ANY).0, 2);
}

#[test]
fn nothing_to_serve_is_servfail_and_never_nxdomain() {
    let settings = Settings { ready: Readiness::NoData, ..Settings::default() };
    for name in ["www.example.", "nope.example.", "elsewhere."] {
        let (header, _) = ask_of(&snapshot(), &settings, Transport::Udp, &packet(name, Rtype::A));
        assert_eq!(header.flags & 0x0F, 2, "{name}");
    }
}

#[test]
fn responses_and_scraps_are_not_answered() {
    let mut response = packet("www.example.", Rtype::A);
    response[2] |= 0x80;
    let client = Client { address: "192.0.2.9".parse().unwrap(), transport: Transport::Udp };
    for (octets, reason) in [(&response[..], DropReason::Response), (&response[..11], DropReason::Short)] {
        let mut out = [0; 512];
        let outcome = Answerer::new().answer(&snapshot(), &Settings::default(), &client, 0, octets, &mut out);
        assert_eq!((outcome.len, outcome.drop), (0, Some(reason)));
        assert_eq!(out, [0; 512]);
    }
}

/// A zone that is nested in another hides it, and when it goes the other shows again.
#[test]
fn nested_zones_hide_and_show_what_is_around_them() {
    let outer = [
        SOA,
        NS,
        ("sub.example.", "NS", "ns.sub"),
        ("ns.sub.example.", "A", "192.0.2.1"),
        ("sub.example.", "DS", "1 8 2 0000000000000000000000000000000000000000000000000000000000000000"),
    ];
    let inner = [
        ("sub.example.", "SOA", "ns host 1 2 3 4 60"),
        ("sub.example.", "NS", "ns"),
        ("w.sub.example.", "A", "192.0.2.2"),
    ];
    let alone = snapshot_of(vec![load("example.", &outer)]);
    let both = alone.replace_zones(vec![load("sub.example.", &inner)]);
    both.check().unwrap();
    assert_eq!(counts(&alone, Transport::Udp, "w.sub.example.", Rtype::A), (0, 1, 1), "a referral");
    assert_eq!(counts(&both, Transport::Udp, "w.sub.example.", Rtype::A), (1, 0, 0), "an answer");
    assert_eq!(counts(&both, Transport::Udp, "ns.sub.example.", Rtype::A), (0, 1, 0), "the glue is hidden");
    assert_eq!(counts(&both, Transport::Udp, "sub.example.", Rtype::DS), (1, 0, 0), "the parent side's");
    let without = both.remove_zones(&["sub.example.".parse().unwrap()]);
    without.check().unwrap();
    assert_eq!(without.root_digest(), alone.root_digest());
    assert_eq!(counts(&without, Transport::Udp, "w.sub.example.", Rtype::A), (0, 1, 1), "a referral again");
}

fn outcome_of(
    snapshot: &Snapshot,
    settings: &Settings,
    transport: Transport,
    packet: &[u8],
) -> (Outcome, Vec<u8>) {
    let mut out = vec![0; 65_535];
    let client = Client { address: "192.0.2.9".parse().unwrap(), transport };
    let outcome = Answerer::new().answer(snapshot, settings, &client, 0, packet, &mut out);
    out.truncate(outcome.len);
    (outcome, out)
}

/// What names made up at random have in common is their account; what somebody may rightly ask apart has one of its own.
#[test]
fn each_answer_has_its_kind_and_account() {
    let snapshot = snapshot_of(vec![
        load(
            "example.",
            &[
                ("example.", "SOA", "ns1 host 1 2 3 4 60"),
                ("example.", "NS", "ns1"),
                ("www.example.", "A", "192.0.2.2"),
                ("www.example.", "TXT", "text"),
                ("mail.example.", "MX", "1 www"),
                ("alias.example.", "CNAME", "www"),
                ("astray.example.", "CNAME", "nothing"),
                ("cut.example.", "NS", "ns.cut"),
                ("ns.cut.example.", "A", "192.0.2.3"),
                ("*.wild.example.", "TXT", "x"),
                ("d.example.", "DNAME", "wild.example."),
            ],
        ),
        load(
            "sub.example.",
            &[("sub.example.", "SOA", "ns host 1 2 3 4 60"), ("sub.example.", "NS", "ns.other.")],
        ),
    ]);
    let of = |name: &str| {
        let name: Name = name.parse().unwrap();
        snapshot.names().hash(name.as_wire())
    };
    for (qname, qtype, kind, account) in [
        ("www.example.", Rtype::A, Kind::Answer, "www.example."),
        ("WWW.example.", Rtype::TXT, Kind::Answer, "www.example."),
        ("www.example.", Rtype::ANY, Kind::Answer, "www.example."),
        ("mail.example.", Rtype::MX, Kind::Answer, "mail.example."),
        ("alias.example.", Rtype::A, Kind::Answer, "alias.example."),
        ("a.wild.example.", Rtype::TXT, Kind::Answer, "*.wild.example."),
        ("b.c.wild.example.", Rtype::TXT, Kind::Answer, "*.wild.example."),
        ("x.d.example.", Rtype::TXT, Kind::Answer, "d.example."),
        ("y.z.d.example.", Rtype::TXT, Kind::Answer, "d.example."),
        ("www.example.", Rtype::AAAA, Kind::NoData, "example."),
        ("wild.example.", Rtype::A, Kind::NoData, "example."),
        ("a.wild.example.", Rtype::A, Kind::NoData, "example."),
        ("cut.example.", Rtype::DS, Kind::NoData, "example."),
        ("nothing.example.", Rtype::A, Kind::NxDomain, "example."),
        // Made up below each name there is, they still share one.
        ("nothing.www.example.", Rtype::A, Kind::NxDomain, "example."),
        ("astray.example.", Rtype::A, Kind::NxDomain, "example."),
        ("nothing.sub.example.", Rtype::A, Kind::NxDomain, "sub.example."),
        ("cut.example.", Rtype::A, Kind::Referral, "cut.example."),
        ("a.b.cut.example.", Rtype::A, Kind::Referral, "cut.example."),
        ("ns.cut.example.", Rtype::A, Kind::Referral, "cut.example."),
    ] {
        let (outcome, _) = outcome_of(&snapshot, &Settings::default(), Transport::Udp, &packet(qname, qtype));
        assert_eq!((outcome.kind, outcome.account), (kind, of(account)), "{qname} {qtype}");
        assert!(!outcome.proven);
        let (outcome, _) = outcome_of(&snapshot, &Settings::default(), Transport::Tcp, &packet(qname, qtype));
        assert_eq!((outcome.kind, outcome.account, outcome.proven), (kind, of(account), true), "{qname}");
    }
    for octets in [packet("elsewhere.", Rtype::A), packet("www.example.", Rtype::AXFR), vec![0; 12]] {
        let (outcome, _) = outcome_of(&snapshot, &Settings::default(), Transport::Udp, &octets);
        assert_eq!((outcome.kind, outcome.account, outcome.proven), (Kind::Error, 0, false));
        assert!(outcome.len > 0);
    }
}

/// The query with an OPT record, and in it these options.
fn with_options(qname: &str, options: &[u8]) -> Vec<u8> {
    let mut packet = packet(qname, Rtype::A);
    packet[11] = 1;
    packet.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0]);
    packet.extend_from_slice(&u16::try_from(options.len()).unwrap().to_be_bytes());
    packet.extend_from_slice(options);
    packet
}

fn cookie_option(cookie: &[u8]) -> Vec<u8> {
    let mut option = vec![0, 10, 0, u8::try_from(cookie.len()).unwrap()];
    option.extend_from_slice(cookie);
    option
}

/// A client is proven by a cookie that it got from us, and by no other; whatever was answered before.
#[test]
fn a_valid_server_cookie_proves_a_client_and_only_then() {
    let cookies = Some(CookieSecrets { current: [3; 16], previous: None, require: false });
    let settings = Settings { cookies, ..Settings::default() };
    let snapshot = snapshot();
    let first = with_options("www.example.", &cookie_option(&[1; 8]));
    let (outcome, octets) = outcome_of(&snapshot, &settings, Transport::Udp, &first);
    assert!(!outcome.proven);
    let cookie = &octets[octets.len() - 24..];
    let good = with_options("www.example.", &cookie_option(cookie));
    assert!(outcome_of(&snapshot, &settings, Transport::Udp, &good).0.proven);
    // The same answerer goes on: nothing stays of the one before.
    let mut answerer = Answerer::new();
    let client = Client { address: "192.0.2.9".parse().unwrap(), transport: Transport::Udp };
    let mut forged = good.clone();
    *forged.last_mut().unwrap() ^= 1;
    let scrap = [good[..13].to_vec(), vec![64]].concat();
    let mut out = vec![0; 4096];
    for (octets, proven) in
        [(&good, true), (&first, false), (&good, true), (&forged, false), (&good, true), (&scrap, false)]
    {
        let outcome = answerer.answer(&snapshot, &settings, &client, 0, octets, &mut out);
        assert_eq!(outcome.proven, proven, "{octets:?}");
    }
}

/// RFC 2181 §9, RFC 7873 §5.2.3: TC for those who can only come back over TCP, BADCOOKIE for those who know cookies.
#[test]
fn a_shortened_answer_says_how_to_come_back_and_nothing_else() {
    let cookies = Some(CookieSecrets { current: [3; 16], previous: None, require: false });
    let settings = Settings { cookies, nsid: Some([b'n'; 200].into()), ..Settings::default() };
    let client = Client { address: "192.0.2.9".parse().unwrap(), transport: Transport::Udp };
    let mut out = vec![0; 512];
    let mut short = |settings: &Settings, octets: &[u8]| {
        let outcome = shorten(settings, &client, 0, octets, &mut out);
        (outcome, out[..outcome.len].to_vec())
    };
    let plain = packet("WWW.example.", Rtype::A);
    let (outcome, octets) = short(&settings, &plain);
    assert_eq!(outcome.rcode, 0);
    assert_eq!(octets[..12], [0, 7, 0x83, 0, 0, 1, 0, 0, 0, 0, 0, 0], "QR, RD, TC");
    assert_eq!(octets[12..], plain[12..]);

    // As long as the query, which had an NSID option of no octets besides.
    let (_, octets) = short(&settings, &with_options("www.example.", &[0, 3, 0, 0]));
    assert_eq!((octets[2] & 2, octets.len()), (2, plain.len() + 11));

    let known = with_options("www.example.", &cookie_option(&[1; 8]));
    let (outcome, octets) = short(&settings, &known);
    assert_eq!((outcome.rcode, octets[2] & 2), (23, 0));
    assert_eq!(octets.len(), known.len() + 16);
    let good = with_options("www.example.", &cookie_option(&octets[octets.len() - 24..]));
    assert!(outcome_of(&snapshot(), &settings, Transport::Udp, &good).0.proven);
    // A client with a good cookie is not limited; if it were, TC is what helps.
    assert_eq!(short(&settings, &good).0.rcode, 0);
    // Without cookies of ours there is nothing to come back with.
    assert_eq!(short(&Settings::default(), &known).0.rcode, 0);

    let mut response = plain.clone();
    response[2] |= 0x80;
    for octets in [&plain[..11], &plain[..14], &response] {
        assert_eq!(short(&settings, octets).0.len, 0);
    }
}
