//! A few answers end to end, octet by octet where it matters. The reference in `testkit` covers the rest.

use godwit_wire::feed::digest::DigestKey;
use godwit_wire::message::{Header, flag};
use godwit_wire::name::Name;
use godwit_wire::presentation;
use godwit_wire::rr::Rtype;

use super::*;
use crate::snapshot::{LoadedZone, SnapshotOptions, ZoneLoader};

pub(crate) fn load(apex: &str, records: &[(&str, &str, &str)]) -> LoadedZone {
    let apex: Name = apex.parse().unwrap();
    let mut loader = ZoneLoader::new(apex.clone(), 0);
    for (owner, rtype, rdata) in records {
        let owner: Name = owner.parse().unwrap();
        let rtype: Rtype = rtype.parse().unwrap();
        let rdata = presentation::parse_rdata(rtype, rdata, Some(apex.as_ref())).unwrap();
        loader.record(owner.as_ref(), rtype, 300, &rdata, 1).unwrap();
    }
    loader.finish().unwrap()
}

fn snapshot() -> Snapshot {
    let zone = load(
        "example.",
        &[
            ("example.", "SOA", "ns1 host 1 2 3 4 60"),
            ("example.", "NS", "ns1"),
            ("ns1.example.", "A", "192.0.2.1"),
            ("www.example.", "A", "192.0.2.2"),
            ("alias.example.", "CNAME", "www"),
            ("cut.example.", "NS", "ns.cut"),
            ("ns.cut.example.", "A", "192.0.2.3"),
            ("*.wild.example.", "TXT", "x"),
            ("d.example.", "DNAME", "example."),
            ("mail.example.", "MX", "1 www"),
        ],
    );
    let options = SnapshotOptions { hash_key: [1; 16], digest_key: DigestKey([2; 32]) };
    let snapshot = Snapshot::empty(&options).replace_zones(vec![zone]);
    snapshot.check().unwrap();
    snapshot
}

fn ask(qname: &str, qtype: Rtype) -> (Header, Vec<u8>) {
    let name: Name = qname.parse().unwrap();
    let mut packet = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    packet.extend_from_slice(name.as_wire());
    packet.extend_from_slice(&qtype.0.to_be_bytes());
    packet.extend_from_slice(&[0, 1]);
    let mut out = vec![0; 65_535];
    let client = Client { address: "192.0.2.9".parse().unwrap(), transport: Transport::Udp };
    let outcome = Answerer::new().answer(&snapshot(), &Settings::default(), &client, 0, &packet, &mut out);
    out.truncate(outcome.len);
    (Header::read(&out).unwrap(), out)
}

#[test]
fn each_kind_of_answer_has_its_sections() {
    const AA: u16 = flag::AA;
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
        let (header, octets) = ask(qname, qtype);
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
