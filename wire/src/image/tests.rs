//! Images built, read back, and put into messages.

use super::*;
use crate::name::Name;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn wire(text: &str) -> Box<[u8]> {
    name(text).as_wire().into()
}

fn mx(preference: u8, target: &str) -> Box<[u8]> {
    [&[0, preference], name(target).as_wire()].concat().into()
}

fn image_of(owner: &str, rrset: &Rrset) -> Vec<u8> {
    let mut octets = Vec::new();
    build(name(owner).as_ref(), rrset, &mut octets).unwrap();
    octets
}

#[test]
fn another_ttl_is_all_that_changes() {
    let soa = [&*wire("ns.example."), &*wire("host.example."), &[7; 20]].concat().into_boxed_slice();
    let mut rrset = Rrset::new(Rtype::SOA, 1, vec![soa], vec![vec![9; 40].into(), vec![8; 40].into()]);
    let before = image_of("example.", &rrset);
    rrset.ttl = 0x0102_0304;
    assert_eq!(with_ttl(Image::read(&before), rrset.ttl), image_of("example.", &rrset));
}

#[test]
fn images_read_back() {
    let soa = [&*wire("ns.Example."), &*wire("host.example."), &[7; 20]].concat().into_boxed_slice();
    let rows = [
        (
            "www.example.",
            Rrset::new(Rtype::A, 60, vec![[192, 0, 2, 1].into(), [192, 0, 2, 2].into()], vec![]),
        ),
        (
            "example.",
            Rrset::new(
                Rtype::NS,
                1,
                vec![wire("ns1.example."), wire("ns2.other."), wire("ns3.other.")],
                vec![],
            ),
        ),
        (
            "example.",
            Rrset::new(
                Rtype::MX,
                1,
                vec![mx(1, "a.b.c."), mx(2, "x.b.c."), mx(3, "b.c."), mx(4, ".")],
                vec![],
            ),
        ),
        ("example.", Rrset::new(Rtype::SOA, 1, vec![soa], vec![vec![9; 40].into()])),
        ("*.example.", Rrset::new(Rtype::CNAME, 1, vec![wire("*.example.")], vec![])),
        (".", Rrset::new(Rtype::NS, 1, vec![wire("a.root."), wire("b.root.")], vec![])),
        ("e.", Rrset::new(Rtype(65534), 1, vec![Box::new([])], vec![])),
    ];
    for (owner, rrset) in rows {
        let octets = image_of(owner, &rrset);
        let back = Image::read(&octets).to_rrset(name(owner).as_ref(), rrset.rtype);
        let lower = |set: &Rrset| {
            set.rdata.iter().map(|rdata| rdata::canonical(set.rtype, rdata).into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(lower(&back), lower(&rrset), "{owner}");
        assert_eq!((back.ttl, back.rrsigs), (rrset.ttl, rrset.rrsigs));
    }
}

#[test]
fn suffixes_are_shared() {
    let set = Rrset::new(
        Rtype::NS,
        1,
        vec![wire("ns1.long-provider.net."), wire("ns2.long-provider.net.")],
        vec![],
    );
    let octets = image_of("example.", &set);
    // The second target is a label and a pointer: 4 + 2 octets.
    let lengths: Vec<usize> =
        records(Image::read(&octets).first().octets).map(|record| record.rdata.len()).collect();
    assert_eq!(lengths, [23, 6]);
}

/// The name at `at` of a message, pointers followed.
fn name_in(message: &[u8], at: usize) -> String {
    let (mut at, mut out) = (at, Vec::new());
    loop {
        match message[at] {
            0 => break out.push(0),
            len @ 1..=63 => {
                out.extend_from_slice(&message[at..=at + usize::from(len)]);
                at += usize::from(len) + 1;
            }
            _ => at = usize::from(read_u16(message, at).unwrap() & 0x3FFF),
        }
    }
    Name::from_wire(&out).unwrap().to_string()
}

#[test]
fn pointers_are_set_for_where_the_owner_stands() {
    let set = Rrset::new(
        Rtype::MX,
        1,
        vec![mx(1, "mail.example."), mx(2, "mx.other."), mx(3, "m2.other.")],
        vec![],
    );
    let octets = image_of("example.", &set);
    let part = Image::read(&octets).first();
    for (qname, skip) in [("example.", 0), ("a.b.example.", 4)] {
        let mut message = vec![0; 12];
        message.extend_from_slice(name(qname).as_wire());
        message.resize(message.len() + 4, 0);
        let at = message.len();
        message.resize(512, 0);
        let end = place(part, &Anchor::QNAME.suffix(skip), at, &mut message, at).unwrap();
        assert_eq!(end - at, part.octets.len());
        let mut record_at = at;
        for target in ["mail.example.", "mx.other.", "m2.other."] {
            assert_eq!(name_in(&message, record_at), "example.");
            assert_eq!(name_in(&message, record_at + 14), target);
            record_at += 12 + usize::from(read_u16(&message, record_at + 10).unwrap());
        }
    }
}

#[test]
fn wildcards_take_the_name_that_was_asked_for() {
    let set = Rrset::new(Rtype::CNAME, 1, vec![wire("t.example.")], vec![]);
    let octets = image_of("*.example.", &set);
    let mut message = vec![0; 12];
    message.extend_from_slice(name("x.yy.example.").as_wire());
    let at = message.len();
    message.resize(512, 0);
    let skip = name("x.yy.example.").as_wire().len() - name("*.example.").as_wire().len();
    place(Image::read(&octets).first(), &Anchor::QNAME.synthesised(skip), at, &mut message, at).unwrap();
    assert_eq!(name_in(&message, at), "x.yy.example.");
    assert_eq!(name_in(&message, at + 12), "t.example.");
}

#[test]
fn a_label_that_ends_like_a_pointer_is_none() {
    let set = Rrset::new(Rtype::NS, 1, vec![[2, b'a', 0xC3, 0].into()], vec![]);
    let octets = image_of("example.", &set);
    let mut message = [0; 100];
    let at = 12;
    place(Image::read(&octets).first(), &Anchor::at(80), at, &mut message, at).unwrap();
    assert_eq!(message[24..28], [2, b'a', 0xC3, 0]);
}

#[test]
fn what_is_too_large_is_refused_whole() {
    let set = Rrset { rtype: Rtype(65280), ttl: 0, rdata: vec![vec![0; 65_535].into(); 257], rrsigs: vec![] };
    let mut out = vec![1, 2, 3];
    assert_eq!(build(name("a.").as_ref(), &set, &mut out), Err(TooLarge));
    assert_eq!(out, [1, 2, 3]);
}
