//! Round trips of every type, texts that must and must not be read, and another parser's opinion.

use domain::base::iana::Class;
use domain::base::rdata::ComposeRecordData;
use domain::zonefile::inplace::{Entry, Zonefile};
use proptest::prelude::*;

use super::fields::{Form, Piece, form};
use super::*;
use crate::name::Name;

/// Every type with a text form of its own.
fn typed() -> Vec<Rtype> {
    (1..=u16::MAX).map(Rtype).filter(|&rtype| rtype.is_data() && form(rtype) != Form::Generic).collect()
}

fn wire_name() -> impl Strategy<Value = Vec<u8>> {
    let label = prop_oneof![
        4 => "[a-zA-Z0-9_-]{1,12}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 1..=63),
    ];
    prop::collection::vec(label, 0..4).prop_map(|labels| {
        let mut name = Vec::new();
        for label in labels {
            if name.len() + label.len() < 250 {
                name.push(u8::try_from(label.len()).unwrap());
                name.extend(label);
            }
        }
        name.push(0);
        name
    })
}

fn octets(least: usize, most: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), least..=most)
}

fn with_length(octets: Vec<u8>) -> Vec<u8> {
    [vec![u8::try_from(octets.len()).unwrap()], octets].concat()
}

fn bitmap_octets() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::btree_map(any::<u8>(), (octets(0, 31), 1..=255u8), 0..4).prop_map(|windows| {
        windows
            .into_iter()
            .flat_map(|(number, (mut bits, last))| {
                bits.push(last);
                [vec![number], with_length(bits)].concat()
            })
            .collect()
    })
}

/// Wire format of one piece.
fn piece_octets(piece: Piece) -> BoxedStrategy<Vec<u8>> {
    match piece {
        Piece::U8 | Piece::Algorithm | Piece::Scheme => octets(1, 1).boxed(),
        Piece::U16 | Piece::Type | Piece::CertificateType => octets(2, 2).boxed(),
        Piece::U32 | Piece::Seconds | Piece::Timestamp | Piece::Ipv4 => octets(4, 4).boxed(),
        Piece::Ipv6 => octets(16, 16).boxed(),
        Piece::Locator => octets(8, 8).boxed(),
        Piece::Eui(count) => octets(count.into(), count.into()).boxed(),
        Piece::Name => wire_name().boxed(),
        Piece::String | Piece::Salt => octets(0, 255).prop_map(with_length).boxed(),
        Piece::Hash => octets(1, 255).prop_map(with_length).boxed(),
        Piece::MaybeString => {
            prop::option::of(octets(0, 255).prop_map(with_length)).prop_map(Option::unwrap_or_default).boxed()
        }
        Piece::Strings => prop::collection::vec(octets(0, 255).prop_map(with_length), 1..4)
            .prop_map(|strings| strings.concat())
            .boxed(),
        Piece::Text => octets(0, 600).boxed(),
        Piece::SomeText | Piece::Hex | Piece::Base64 => octets(1, 300).boxed(),
        Piece::Tag => "[a-zA-Z0-9]{1,20}".prop_map(|tag| with_length(tag.into_bytes())).boxed(),
        Piece::Types => bitmap_octets().boxed(),
    }
}

fn loc_octets() -> impl Strategy<Value = Vec<u8>> {
    let size = (0..=9u8, 0..=9u8).prop_map(|(digit, power)| if digit == 0 { 0 } else { digit << 4 | power });
    let coordinate = |degrees: u32| {
        let arc = degrees * 3_600_000;
        (1u32 << 31) - arc..=(1u32 << 31) + arc
    };
    (prop::array::uniform3(size), coordinate(90), coordinate(180), any::<u32>()).prop_map(
        |(sizes, latitude, longitude, altitude)| {
            let numbers = [latitude, longitude, altitude].map(u32::to_be_bytes).concat();
            [vec![0], sizes.to_vec(), numbers].concat()
        },
    )
}

fn apl_octets() -> impl Strategy<Value = Vec<u8>> {
    let item = (any::<bool>(), any::<bool>(), 0..=32u8, octets(0, 3), 1..=255u8).prop_map(
        |(ipv6, negated, prefix, mut part, last)| {
            part.push(last);
            let len = u8::try_from(part.len()).unwrap() | if negated { 0x80 } else { 0 };
            [vec![0, if ipv6 { 2 } else { 1 }, prefix, len], part].concat()
        },
    );
    prop::collection::vec(item, 0..4).prop_map(|items| items.concat())
}

fn hip_octets() -> impl Strategy<Value = Vec<u8>> {
    (octets(1, 40), any::<u8>(), octets(1, 300), prop::collection::vec(wire_name(), 0..3)).prop_map(
        |(tag, algorithm, key, servers)| {
            let key_len = u16::try_from(key.len()).unwrap().to_be_bytes();
            let head = [u8::try_from(tag.len()).unwrap(), algorithm, key_len[0], key_len[1]];
            [head.to_vec(), tag, key, servers.concat()].concat()
        },
    )
}

fn ipseckey_octets() -> impl Strategy<Value = Vec<u8>> {
    let gateway = prop_oneof![
        Just((0u8, Vec::new())),
        octets(4, 4).prop_map(|octets| (1, octets)),
        octets(16, 16).prop_map(|octets| (2, octets)),
        wire_name().prop_map(|name| (3, name)),
    ];
    (any::<u8>(), gateway, any::<u8>(), octets(0, 100)).prop_map(
        |(precedence, (kind, gateway), algorithm, key)| {
            [vec![precedence, kind, algorithm], gateway, key].concat()
        },
    )
}

fn svcb_octets() -> impl Strategy<Value = Vec<u8>> {
    let protocols =
        prop::collection::vec(octets(1, 20).prop_map(with_length), 1..4).prop_map(|list| list.concat());
    let value =
        |key: u16, octets: BoxedStrategy<Vec<u8>>| prop::option::of(octets.prop_map(move |v| (key, v)));
    let repeat =
        |size: usize| (1..4usize).prop_flat_map(move |count| octets(size * count, size * count)).boxed();
    (
        any::<u16>(),
        wire_name(),
        (
            value(1, protocols.boxed()),
            value(2, Just(Vec::new()).boxed()),
            value(3, octets(2, 2).boxed()),
            value(4, repeat(4)),
            value(5, octets(1, 60).boxed()),
            value(6, repeat(16)),
            value(7, octets(1, 60).boxed()),
            value(8, Just(Vec::new()).boxed()),
            value(9, repeat(2)),
            value(4711, octets(0, 60).boxed()),
        ),
        any::<bool>(),
    )
        .prop_map(|(priority, target, (a, b, c, d, e, f, g, h, i, j), mandatory)| {
            // RFC 9460 §7.1.1.
            let b = b.filter(|_| a.is_some());
            let mut params: Vec<(u16, Vec<u8>)> =
                [a, b, c, d, e, f, g, h, i, j].into_iter().flatten().collect();
            if mandatory && !params.is_empty() {
                let keys = params.iter().flat_map(|(key, _)| key.to_be_bytes()).collect();
                params.insert(0, (0, keys));
            }
            let mut octets = [priority.to_be_bytes().to_vec(), target].concat();
            for (key, value) in params {
                octets.extend(key.to_be_bytes());
                octets.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
                octets.extend(value);
            }
            octets
        })
}

/// Valid RDATA of a type, such that its own form can say it.
fn valid_rdata(rtype: Rtype) -> BoxedStrategy<Vec<u8>> {
    match form(rtype) {
        Form::Pieces(pieces) => pieces.iter().fold(Just(Vec::new()).boxed(), |before, &piece| {
            (before, piece_octets(piece)).prop_map(|(before, piece)| [before, piece].concat()).boxed()
        }),
        Form::Loc => loc_octets().boxed(),
        Form::Apl => apl_octets().boxed(),
        Form::Hip => hip_octets().boxed(),
        Form::Ipseckey => ipseckey_octets().boxed(),
        Form::Svcb => svcb_octets().boxed(),
        Form::Generic => octets(0, 300).boxed(),
    }
}

fn some_rdata() -> impl Strategy<Value = (Rtype, Vec<u8>)> {
    prop::sample::select(typed()).prop_flat_map(|rtype| (Just(rtype), valid_rdata(rtype)))
}

/// The RDATA that `domain` reads, names uncompressed.
fn domain_reads(rtype: Rtype, text: &str) -> Result<Vec<u8>, String> {
    let line = format!("o. 60 IN {rtype} {text}\n");
    let mut file = Zonefile::from(line.as_str());
    file.set_default_class(Class::IN);
    match file.next_entry().map_err(|error| error.to_string())? {
        Some(Entry::Record(record)) => {
            let mut octets = Vec::new();
            record.data().compose_rdata(&mut octets).unwrap();
            Ok(octets)
        }
        other => Err(format!("{other:?}")),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 2_000 }))]

    #[test]
    fn typed_text_reads_back((rtype, rdata) in some_rdata()) {
        prop_assert_eq!(rdata::validate(rtype, &rdata), Ok(()));
        let text = format_rdata(rtype, &rdata);
        prop_assert!(!text.starts_with("\\#"), "{rtype} has no text: {text}");
        prop_assert!(text.bytes().all(|octet| (b' '..=b'~').contains(&octet)), "{text:?}");
        prop_assert_eq!(&*parse_rdata(rtype, &text, None).unwrap(), &rdata[..], "{} {}", rtype, text);
        // The same through the form of unknown types.
        let mut text = String::new();
        write::rdata(Rtype(65534), &rdata, &mut text);
        prop_assert_eq!(&*parse_rdata(rtype, &text, None).unwrap(), &rdata[..], "{} {}", rtype, text);
    }

    #[test]
    fn any_valid_octets_read_back(
        rtype in prop_oneof![prop::sample::select(typed()), any::<u16>().prop_map(Rtype)],
        rdata in prop_oneof![octets(0, 40), octets(0, 2000)],
    ) {
        prop_assume!(rdata::validate_new(rtype, &rdata).is_ok());
        let text = format_rdata(rtype, &rdata);
        prop_assert_eq!(&*parse_rdata(rtype, &text, None).unwrap(), &rdata[..], "{} {}", rtype, text);
    }

    #[test]
    fn any_text_gives_valid_rdata_or_an_error(
        rtype in prop::sample::select(typed()),
        text in prop_oneof!["[ -~]{0,60}", "[0-9a-fA-F:./ \\\\\"()-]{0,60}", any::<String>()],
    ) {
        if let Ok(rdata) = parse_rdata(rtype, &text, Some(NameRef::ROOT)) {
            prop_assert_eq!(rdata::validate(rtype, &rdata), Ok(()));
            let again = format_rdata(rtype, &rdata);
            prop_assert_eq!(parse_rdata(rtype, &again, None).unwrap(), rdata);
        }
    }

    #[test]
    fn another_parser_reads_the_same(
        (rtype, rdata) in prop::sample::select(vec![
            "A", "AAAA", "NS", "CNAME", "PTR", "DNAME", "SOA", "MX", "TXT", "SRV", "NAPTR", "DS", "CDS", "DNSKEY", "CDNSKEY",
            "RRSIG", "NSEC", "NSEC3", "NSEC3PARAM", "TLSA", "SSHFP", "ZONEMD", "OPENPGPKEY", "HINFO", "MINFO", "RP", "CAA",
        ])
        .prop_map(|rtype| rtype.parse::<Rtype>().unwrap())
        .prop_flat_map(|rtype| (Just(rtype), valid_rdata(rtype)))
    ) {
        let text = format_rdata(rtype, &rdata);
        match domain_reads(rtype, &text) {
            // Both directions: what it reads is what we wrote.
            Ok(theirs) => prop_assert_eq!(theirs, rdata, "{} {}", rtype, text),
            // It has no empty quoted strings, and fewer types in bitmaps.
            Err(error) => prop_assert!(
                text.contains("\"\"") || text.contains("TYPE") || rtype == Rtype::CAA || rtype == Rtype::NSEC3,
                "{rtype} {text}: {error}"
            ),
        }
    }
}

#[test]
fn texts_of_the_documents_read() {
    let origin: Name = "example.".parse().unwrap();
    for (rtype, text, written) in [
        ("A", "192.0.2.1", "192.0.2.1"),
        ("AAAA", "2001:DB8:0::1", "2001:db8::1"),
        ("MX", "10 mail", "10 mail.example."),
        ("TXT", r#"a "b c" d\;e"#, r#""a" "b c" "d;e""#),
        ("TXT", "\"caf\u{e9}\"", r#""caf\195\169""#),
        (
            "SOA",
            "ns host 2024010101 1h 15M 2w 1d",
            "ns.example. host.example. 2024010101 3600 900 1209600 86400",
        ),
        ("TYPE65280", r"\# 4 0A 00 00 01", r"\# 4 0A000001"),
        ("TYPE65280", r"\# 0", r"\# 0"),
        ("A", r"\# 4 0a000001", "10.0.0.1"),
        // RFC 1876 §4, RFC 7553 §4, RFC 3123 §6, RFC 8005 §6, RFC 4025 §3.3, RFC 6742, RFC 7043.
        (
            "LOC",
            "42 21 54 N 71 06 18 W -24m 30m",
            "42 21 54.000 N 71 6 18.000 W -24.00m 30.00m 10000.00m 10.00m",
        ),
        ("LOC", "42 N 71 W 0", "42 0 0.000 N 71 0 0.000 W 0.00m 1.00m 10000.00m 10.00m"),
        ("LOC", "90 S 180 E 10m 1m 20m 5.5m", "90 0 0.000 S 180 0 0.000 E 10.00m 1.00m 20.00m 5.00m"),
        ("URI", "10 1 \"ftp://ftp1.example.com/public\"", "10 1 \"ftp://ftp1.example.com/public\""),
        ("APL", "1:192.168.32.0/21 !1:192.168.38.0/28", "1:192.168.32.0/21 !1:192.168.38.0/28"),
        ("APL", "2:FF00::/8", "2:ff00::/8"),
        (
            "HIP",
            "2 200100107B1A74DF365639CC39F1D578 AwEA rvs",
            "2 200100107B1A74DF365639CC39F1D578 AwEA rvs.example.",
        ),
        ("IPSECKEY", "10 1 2 192.0.2.38 AQNR", "10 1 2 192.0.2.38 AQNR"),
        ("IPSECKEY", "10 0 2 . AQNR", "10 0 2 . AQNR"),
        ("NID", "10 14:4fff:ff20:ee64", "10 0014:4fff:ff20:ee64"),
        ("L32", "10 10.1.2.0", "10 10.1.2.0"),
        ("LP", "10 l64-subnet1", "10 l64-subnet1.example."),
        ("EUI48", "00-00-5E-00-53-2a", "00-00-5e-00-53-2a"),
        ("EUI64", "00-00-5e-ef-10-00-00-2a", "00-00-5e-ef-10-00-00-2a"),
        ("CSYNC", "66 3 A NS AAAA", "66 3 A NS AAAA"),
        ("DSYNC", "CDS notify 5359 cds", "CDS NOTIFY 5359 cds.example."),
        ("CERT", "PGP 0 0 AQNR", "PGP 0 0 AQNR"),
        ("CERT", "3 0 RSASHA256 AQ NR", "PGP 0 8 AQNR"),
        ("AFSDB", "1 afs", "1 afs.example."),
        ("DS", "60485 RSASHA1 1 2BB183 AF5F", "60485 5 1 2BB183AF5F"),
        ("NSEC", "@ A MX RRSIG NSEC TYPE1234", "example. A MX RRSIG NSEC TYPE1234"),
        (
            "NSEC3",
            "1 1 12 - 2t7b4g4vsa5smi47k61mv5bv1a22bojr A",
            "1 1 12 - 2T7B4G4VSA5SMI47K61MV5BV1A22BOJR A",
        ),
        ("CAA", "0 issue \"ca.example; policy=ev\"", "0 issue \"ca.example; policy=ev\""),
        ("NAPTR", "100 50 \"s\" \"z3950+I2L\" \"\" _z", "100 50 \"s\" \"z3950+I2L\" \"\" _z.example."),
        // RFC 9460 appendix D.
        ("HTTPS", "0 foo.example.com.", "0 foo.example.com."),
        ("SVCB", "16 foo port=53", "16 foo.example. port=53"),
        ("SVCB", "1 foo. key667=hello", "1 foo. key667=\"hello\""),
        ("SVCB", r#"1 foo. key667="hello\210qoo""#, r#"1 foo. key667="hello\210qoo""#),
        (
            "SVCB",
            r#"16 f. alpn=h2,h3-19 mandatory=ipv4hint,alpn ipv4hint=192.0.2.1"#,
            r#"16 f. mandatory=alpn,ipv4hint alpn="h2,h3-19" ipv4hint=192.0.2.1"#,
        ),
        ("SVCB", r#"16 f. alpn="f\\\\oo\\,bar,h2""#, r#"16 f. alpn="f\\\\oo\\,bar,h2""#),
        ("SVCB", r"16 f. alpn=f\\\092oo\092,bar,h2", r#"16 f. alpn="f\\\\oo\\,bar,h2""#),
        ("HTTPS", "1 . alpn=h2 no-default-alpn ech=AEQ=", "1 . alpn=\"h2\" no-default-alpn ech=AEQ="),
        ("HTTPS", "1 . dohpath=/dns-query{?dns} key19=x", "1 . dohpath=\"/dns-query{?dns}\" key19=\"x\""),
    ] {
        let rtype: Rtype = rtype.parse().unwrap();
        let rdata = parse_rdata(rtype, text, Some(origin.as_ref()));
        let rdata = rdata.unwrap_or_else(|error| panic!("{rtype} {text}: {error}"));
        assert_eq!(format_rdata(rtype, &rdata), written, "{rtype} {text}");
    }
}

#[test]
fn wrong_texts_are_refused_with_the_token() {
    for (rtype, text, token, expected) in [
        ("A", "192.0.2.256", Some("192.0.2.256"), "an IPv4 address"),
        ("A", "", None, "an IPv4 address"),
        ("A", "192.0.2.1 x", Some("x"), "nothing more"),
        ("A", "192.0.2.1\n192.0.2.2", None, "one line"),
        ("AAAA", "2001:db8::g", Some("2001:db8::g"), "an IPv6 address"),
        ("MX", "mail 10", Some("mail"), "0 to 65535"),
        ("MX", "10 mail", Some("mail"), "final dot"),
        ("TXT", "", None, "a character string"),
        ("TXT", "\"a", Some("a"), "closing quote"),
        ("NS", "a..b.", Some("a..b."), "empty labels"),
        ("URI", "1 2 \"\"", Some(""), "at least one octet"),
        ("LOC", "91 N 0 E 0", Some("91"), "a latitude"),
        ("LOC", "90 0 1 N 0 E 0", Some("N"), "a latitude"),
        ("LOC", "1 N 0 E", None, "an altitude"),
        ("TYPE65280", "abc", Some("abc"), "RFC 3597"),
        ("TYPE65280", "\\# 2 0a", Some("2"), "1, as so many octets follow"),
        ("A", "\\# 3 0a0000", Some("3"), "valid RDATA"),
        ("SVCB", "1 foo. key1=", Some("key1="), "the form of this key"),
        ("SVCB", "1 foo. key3=x", Some("key3=x"), "the form of this key"),
        ("SVCB", "1 foo. no-default-alpn", Some("no-default-alpn"), "alpn beside it"),
        ("HTTPS", "\\# 16 0001 00 0003 0002 01bb 0001 0003 026832", Some("16"), "the order of their keys"),
        ("SVCB", "1 f. port=1 port=2", Some("port"), "once only"),
        ("SVCB", "1 f. mandatory=alpn", Some("mandatory=alpn"), "all present"),
        ("SVCB", "1 f. mandatory=mandatory", Some("mandatory=mandatory"), "without mandatory"),
        ("SVCB", "1 f. no-default-alpn=abc", Some("no-default-alpn=abc"), "without a value"),
        ("SVCB", "1 f. alpn=", Some("alpn="), "a value"),
        ("SVCB", "1 f. foo=bar", Some("foo=bar"), "a service parameter"),
        ("ANY", "x", Some("ANY"), "stand in a zone"),
        ("EUI48", "00-00-5e-00-53", Some("00-00-5e-00-53"), "6 octets"),
        ("L64", "1 1:2:3", Some("1:2:3"), "four groups"),
        ("APL", "3:1.2.3.4/8", Some("3:1.2.3.4/8"), "an address prefix"),
        ("CAA", "0 is-sue \"x\"", Some("is-sue"), "a property tag"),
    ] {
        let rtype: Rtype = rtype.parse().unwrap();
        let error = parse_rdata(rtype, text, None).unwrap_err();
        assert_eq!(error.token.as_deref(), token, "{rtype} {text}: {error}");
        assert!(error.expected.contains(expected), "{rtype} {text}: {error}");
    }
}

#[test]
fn long_strings_have_a_limit() {
    let most = "a".repeat(255);
    assert!(parse_rdata(Rtype::TXT, &most, None).is_ok());
    assert!(parse_rdata(Rtype::TXT, &format!("{most}a"), None).is_err());
    // 256 strings of 255 octets and their lengths are one octet more than RDATA may have.
    let many = |count| vec![most.clone(); count].join(" ");
    assert!(parse_rdata(Rtype::TXT, &many(255), None).is_ok());
    assert!(parse_rdata(Rtype::TXT, &many(256), None).is_err());
}

#[test]
fn every_type_name_reads_back() {
    for number in (0..=u16::MAX).step_by(if cfg!(miri) { 97 } else { 1 }) {
        let rtype = Rtype(number);
        assert_eq!(rtype.to_string().parse(), Ok(rtype));
    }
}

#[test]
fn a_record_is_one_line() {
    let owner: Name = r"a\.b.example.".parse().unwrap();
    let mut out = String::new();
    write_record(owner.as_ref(), 300, Rtype::A, &[192, 0, 2, 1], &mut out);
    assert_eq!(out, "a\\.b.example. 300 IN A 192.0.2.1\n");
}
