//! RDATA of every type with a form of its own in presentation format, and change sets of every form: what the seeds are
//! made from.

use godwit_wire::feed::{Batch, ChangeSet, OwnedRrset, RrsetChange, SigningKey, ZoneChange, ZoneChangeKind};
use godwit_wire::name::Name;
use godwit_wire::presentation;
use godwit_wire::rr::{Rrset, Rtype};

/// One record of each type.
pub(crate) const RDATA: &[(&str, &str)] = &[
    ("A", "192.0.2.1"),
    ("NS", "ns.example."),
    ("CNAME", "Target.Example."),
    ("SOA", "ns.example. host\\.master.example. 1 7200 3600 1209600 60"),
    ("PTR", "host.example."),
    ("HINFO", "\"cpu\" os"),
    ("MINFO", "a.example. b.example."),
    ("MX", "10 mail.example."),
    ("TXT", "\"one two\" three \\000\\255 \"\""),
    ("RP", "mbox.example. ."),
    ("AFSDB", "1 afs.example."),
    ("RT", "2 relay.example."),
    ("KX", "3 kx.example."),
    ("AAAA", "2001:db8::ffff:192.0.2.1"),
    ("LOC", "52 14 05.000 N 00 08 50.000 E 10.00m 1m 100m 10m"),
    ("SRV", "0 5 443 srv.example."),
    ("NAPTR", "100 10 \"u\" \"E2U+sip\" \"!^.*$!sip:info@example.com!\" ."),
    ("CERT", "1 12345 8 AAECAwQ="),
    ("DNAME", "target.example."),
    ("APL", "1:192.0.2.0/24 !2:2001:db8::/32"),
    ("DS", "12345 13 2 49FD46E6C4B45C55D4AC49FD46E6C4B45C55D4AC49FD46E6C4B45C55D4AC1234"),
    ("SSHFP", "4 2 49FD46E6C4B45C55D4AC49FD46E6C4B45C55D4AC49FD46E6C4B45C55D4AC1234"),
    ("IPSECKEY", "10 1 2 192.0.2.38 AQNRU3mG7TVTO2BkR47usntb102uFJtugbo6BSGvgqt4AQ=="),
    ("RRSIG", "A 13 2 300 20360101000000 20260101000000 12345 example. AAECAwQ="),
    ("NSEC", "next.example. A NS SOA MX RRSIG NSEC TYPE65280"),
    ("DNSKEY", "257 3 13 AAECAwQFBgcICQ=="),
    ("DHCID", "AAIBY2/AuCccgoJbsaxcQc9TUapptP69lOjxfNuVAA2kjEA="),
    ("NSEC3", "1 1 0 AABBCCDD 2T7B4G4VSA5SMI47K61MV5BV1A22BOJR A RRSIG"),
    ("NSEC3PARAM", "1 0 0 -"),
    ("TLSA", "3 1 1 49FD46E6C4B45C55D4AC49FD46E6C4B45C55D4AC49FD46E6C4B45C55D4AC1234"),
    ("SMIMEA", "3 1 1 49FD46E6C4B45C55D4AC49FD46E6C4B45C55D4AC49FD46E6C4B45C55D4AC1234"),
    ("HIP", "2 200100107B1A74DF365639CC39F1D578 AwEAAbdxyhNuSutc5EMzxTs9LBPC rvs.example."),
    ("CDS", "0 0 0 00"),
    ("CDNSKEY", "0 3 0 AA=="),
    ("OPENPGPKEY", "AAECAwQFBgcICQ=="),
    ("CSYNC", "66 3 A NS AAAA"),
    (
        "ZONEMD",
        "2018031500 1 1 FEBE3D4CE2EC2FFA4BA99D46CD69D6D29711E55217057BEE7EB1A7B641A47BA7FED2DD5B97AE499FAFA4F22C6BD647DE",
    ),
    ("SVCB", "0 svc.example."),
    ("HTTPS", "1 . alpn=\"h2,h3\" port=8443 ipv4hint=192.0.2.1 ipv6hint=2001:db8::1 key667=\"hello\""),
    ("EUI48", "00-00-5e-00-53-2a"),
    ("EUI64", "00-00-5e-ef-10-00-00-2a"),
    ("NID", "10 0014:4fff:ff20:ee64"),
    ("L32", "10 10.1.2.0"),
    ("L64", "10 2001:0DB8:1140:1000"),
    ("LP", "10 l64-subnet1.example."),
    ("URI", "10 1 \"ftp://ftp1.example.com/public\""),
    ("CAA", "0 issue \"ca.example.net; policy=ev\""),
    ("TYPE65280", "\\# 4 DEADBEEF"),
];

pub(crate) fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

/// The octets of a sample.
pub(crate) fn rdata(rtype: &str, text: &str) -> (Rtype, Box<[u8]>) {
    let rtype: Rtype = rtype.parse().expect("a type");
    match presentation::parse_rdata(rtype, text, None) {
        Ok(octets) => (rtype, octets),
        Err(error) => panic!("{rtype} {text}: {error}"),
    }
}

pub(crate) fn owned(owner: &str, rtype: &str, texts: &[&str], signed: bool) -> OwnedRrset {
    let records = texts.iter().map(|text| rdata(rtype, text).1).collect();
    let rtype: Rtype = rtype.parse().expect("a type");
    let rrsig = format!("{rtype} 13 2 300 20360101000000 20260101000000 12345 plain.test. AAECAwQ=");
    let rrsigs = if signed { vec![rdata("RRSIG", &rrsig).1] } else { Vec::new() };
    OwnedRrset { owner: name(owner), rrset: Rrset::new(rtype, 300, records, rrsigs) }
}

fn zone_change(zone: &str, base_version: u64, kind: ZoneChangeKind) -> ZoneChange {
    ZoneChange { zone: name(zone), owner: 0, base_version, version: base_version + 1, kind }
}

fn update(zone: &str, base_version: u64, changes: Vec<RrsetChange>) -> ZoneChange {
    zone_change(zone, base_version, ZoneChangeKind::Update(changes))
}

fn apex(zone: &str) -> Vec<OwnedRrset> {
    vec![
        owned(zone, "SOA", &["ns.test. hostmaster.test. 2 7200 3600 1209600 60"], false),
        owned(zone, "NS", &["ns.test."], false),
    ]
}

/// A change set of each form, all of them fit to be applied to the zone `plain.test.` at version 1.
pub(crate) fn change_sets() -> Vec<(&'static str, ChangeSet)> {
    let of = |zones| ChangeSet { id: [7; 16], committed_at_us: 1_700_000_000_000_000, zones };
    let put = |owned| RrsetChange::Put(owned);
    let delete = |owner, rtype| RrsetChange::Delete { owner: name(owner), rtype };
    let www = owned("www.plain.test.", "A", &["192.0.2.1", "192.0.2.2"], false);
    let unknown = owned("a.b.c.plain.test.", "TYPE65280", &["\\# 0"], false);
    let signed = owned("www.plain.test.", "AAAA", &["2001:db8::1"], true);
    let mut replacement = apex("plain.test.");
    replacement.push(owned("sub.plain.test.", "NS", &["ns.sub.plain.test."], false));
    replacement.push(owned("ns.sub.plain.test.", "A", &["192.0.2.53"], false));
    let new: Vec<RrsetChange> = apex("new.test.").into_iter().map(put).collect();
    let root: Vec<RrsetChange> = apex(".").into_iter().map(put).collect();
    vec![
        ("empty", of(vec![])),
        ("put", of(vec![update("plain.test.", 1, vec![put(www.clone())])])),
        ("put-signed", of(vec![update("plain.test.", 1, vec![put(signed)])])),
        ("put-unknown-type", of(vec![update("plain.test.", 1, vec![put(unknown)])])),
        ("delete", of(vec![update("plain.test.", 1, vec![delete("sub.plain.test.", Rtype::NS)])])),
        ("replace", of(vec![zone_change("plain.test.", 1, ZoneChangeKind::Replace(replacement))])),
        ("remove", of(vec![zone_change("plain.test.", 1, ZoneChangeKind::Remove)])),
        ("new-zone", of(vec![update("new.test.", 0, new.clone())])),
        ("root-zone", of(vec![update(".", 0, root)])),
        ("several-zones", of(vec![update("plain.test.", 1, vec![put(www)]), update("new.test.", 0, new)])),
    ]
}

/// The classes that a change set belongs to.
pub(crate) fn classes_of(change_set: &ChangeSet) -> Vec<String> {
    let zones = &change_set.zones;
    let puts = |test: fn(&OwnedRrset) -> bool| {
        zones.iter().any(|zone| match &zone.kind {
            ZoneChangeKind::Update(changes) => {
                changes.iter().any(|change| matches!(change, RrsetChange::Put(owned) if test(owned)))
            }
            _ => false,
        })
    };
    let deletes = |change: &RrsetChange| matches!(change, RrsetChange::Delete { .. });
    let kind = |test: fn(&ZoneChangeKind) -> bool| zones.iter().any(|zone| test(&zone.kind));
    super::holding(&[
        ("empty", zones.is_empty()),
        ("put", puts(|_| true)),
        ("put-signed", puts(|owned| !owned.rrset.rrsigs.is_empty())),
        ("put-unknown-type", puts(|owned| owned.rrset.rtype.0 >= 65_280)),
        (
            "delete",
            zones.iter().any(
                |zone| matches!(&zone.kind, ZoneChangeKind::Update(changes) if changes.iter().any(deletes)),
            ),
        ),
        ("replace", kind(|kind| matches!(kind, ZoneChangeKind::Replace(_)))),
        ("remove", kind(|kind| matches!(kind, ZoneChangeKind::Remove))),
        ("new-zone", zones.iter().any(|zone| zone.base_version == 0)),
        ("root-zone", zones.iter().any(|zone| zone.zone.as_ref().is_root())),
        ("several-zones", zones.len() > 1),
    ])
}

/// The names of all classes of change sets.
pub(crate) fn change_set_classes() -> Vec<String> {
    change_sets().into_iter().map(|(class, _)| class.to_owned()).collect()
}

pub(crate) fn batch(change_sets: Vec<ChangeSet>) -> Batch {
    Batch { generation: 1, epoch: 2, first_sequence: 3, previous_chain: [4; 32], change_sets }
}

pub(crate) fn signing_key() -> SigningKey {
    SigningKey::from_seed(&[5; 32]).expect("any seed is a key")
}

/// Octets that an encoder appends.
pub(crate) fn octets(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out);
    out
}

/// Whether the header of something in the feed says that it is signed.
pub(crate) fn is_signed(octets: &[u8]) -> bool {
    octets.get(7).is_some_and(|flags| flags & 1 == 1)
}
