//! The dialect as tables, the limits, random octets, and two other readers' opinions: `domain`'s parser and BIND's
//! `named-checkzone`.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use domain::base::iana::Class;
use domain::base::name::ToName;
use domain::base::rdata::ComposeRecordData;
use domain::zonefile::inplace::{Entry, Zonefile};
use proptest::prelude::*;

use super::*;
use crate::presentation::{format_rdata, write_record};
use crate::rdata;

fn options() -> Options {
    Options::new("example.".parse().unwrap(), "zone")
}

/// Files by name, for `$INCLUDE`.
struct Files(BTreeMap<String, String>);

impl Includes for Files {
    fn open(&mut self, file: &str, _from: &str) -> Result<(String, Vec<u8>), String> {
        match self.0.get(file) {
            Some(text) => Ok((file.to_owned(), text.clone().into_bytes())),
            None => Err("not found".to_owned()),
        }
    }
}

/// The records as lines, `owner ttl IN type rdata`.
fn lines_with(text: &str, includes: &mut dyn Includes) -> Result<Vec<String>, String> {
    let mut lines = Vec::new();
    let mut sink = |record: Record<'_>| {
        assert_eq!(rdata::validate(record.rtype, record.rdata), Ok(()));
        let mut line = String::new();
        write_record(record.owner, record.ttl, record.rtype, record.rdata, &mut line);
        lines.push(line.trim_end().to_owned());
        Ok(())
    };
    match read(text.as_bytes(), &options(), includes, &mut sink) {
        Ok(summary) => {
            assert_eq!(summary.records, u64::try_from(lines.len()).unwrap());
            Ok(lines)
        }
        Err(error) => Err(error.to_string()),
    }
}

fn lines(text: &str) -> Result<Vec<String>, String> {
    lines_with(text, &mut NoIncludes)
}

#[test]
fn the_dialect_is_read() {
    for (name, text, expected) in [
        ("plain", "www 300 IN A 192.0.2.1\n", vec!["www.example. 300 IN A 192.0.2.1"]),
        ("no newline at the end", "www 300 A 192.0.2.1", vec!["www.example. 300 IN A 192.0.2.1"]),
        ("class before TTL", "www IN 300 A 192.0.2.1", vec!["www.example. 300 IN A 192.0.2.1"]),
        (
            "class by number, type by number",
            "w CLASS1 3 TYPE1 192.0.2.1",
            vec!["w.example. 3 IN A 192.0.2.1"],
        ),
        ("lower case", "WWW 300 in a 192.0.2.1", vec!["www.example. 300 IN A 192.0.2.1"]),
        ("CRLF", "$TTL 5\r\nw A 192.0.2.1\r\n\r\n", vec!["w.example. 5 IN A 192.0.2.1"]),
        (
            "TTL units",
            "$TTL 1h30m\nw A 192.0.2.1\nx 2w A 192.0.2.2",
            vec!["w.example. 5400 IN A 192.0.2.1", "x.example. 1209600 IN A 192.0.2.2"],
        ),
        (
            "blank owner",
            "w 3 A 192.0.2.1\n  A 192.0.2.2\n\t; only a comment\n   \n\tTXT a",
            vec!["w.example. 3 IN A 192.0.2.1", "w.example. 3 IN A 192.0.2.2", "w.example. 3 IN TXT \"a\""],
        ),
        (
            "origin",
            "$ORIGIN sub\n@ 3 A 192.0.2.1\n$ORIGIN other.\nw NS n",
            vec!["sub.example. 3 IN A 192.0.2.1", "w.other. 3 IN NS n.other."],
        ),
        (
            "last TTL without $TTL",
            "a 3 A 192.0.2.1\nb A 192.0.2.1\nc 4 A 192.0.2.1\nd A 192.0.2.1",
            vec![
                "a.example. 3 IN A 192.0.2.1",
                "b.example. 3 IN A 192.0.2.1",
                "c.example. 4 IN A 192.0.2.1",
                "d.example. 4 IN A 192.0.2.1",
            ],
        ),
        (
            "$TTL before the last TTL",
            "$TTL 9\na 3 A 192.0.2.1\nb A 192.0.2.1",
            vec!["a.example. 3 IN A 192.0.2.1", "b.example. 9 IN A 192.0.2.1"],
        ),
        (
            "SOA minimum for want of a TTL",
            "@ SOA n h 1 2 3 4 1m\nw A 192.0.2.1",
            vec!["example. 60 IN SOA n.example. h.example. 1 2 3 4 60", "w.example. 60 IN A 192.0.2.1"],
        ),
        (
            "parentheses",
            "@ 3 IN SOA ns host ( ; open\n 1 ; serial\n 2h\n 3 4\n5 )\nw A 192.0.2.1",
            vec!["example. 3 IN SOA ns.example. host.example. 1 7200 3 4 5", "w.example. 3 IN A 192.0.2.1"],
        ),
        ("parentheses before the type", "w ( 3\n\tA\n192.0.2.1 )\n", vec!["w.example. 3 IN A 192.0.2.1"]),
        ("escapes in owners", r"a\.b 3 A 192.0.2.1", vec![r"a\.b.example. 3 IN A 192.0.2.1"]),
        (
            "a type's name as owner",
            "A 3 A 192.0.2.1\n3 3 A 192.0.2.1",
            vec!["a.example. 3 IN A 192.0.2.1", "3.example. 3 IN A 192.0.2.1"],
        ),
        ("an owner with a dollar", r"\$TTL 3 A 192.0.2.1", vec![r"\$ttl.example. 3 IN A 192.0.2.1"]),
        ("unknown type", r"w 3 TYPE65280 \# 2 0a0b", vec![r"w.example. 3 IN TYPE65280 \# 2 0A0B"]),
        ("generic form of a known type", r"w 3 A \# 4 ( c000 0201 )", vec!["w.example. 3 IN A 192.0.2.1"]),
        (
            "generate",
            "$TTL 3\n$GENERATE 1-3/2 h$ A 192.0.2.$",
            vec!["h1.example. 3 IN A 192.0.2.1", "h3.example. 3 IN A 192.0.2.3"],
        ),
        (
            "generate, quoted",
            "$GENERATE 1-1 h${9,3,x} 1m IN MX \"10 m$\"",
            vec!["h00a.example. 60 IN MX 10 m1.example."],
        ),
        (
            "generate, rest of line",
            "$GENERATE 1-1 h$ 3 TXT a$ \"b $\" ; c",
            vec!["h1.example. 3 IN TXT \"a1\" \"b 1\""],
        ),
        (
            "generate, nibbles",
            "$GENERATE 26-26 ${0,3,n} 3 PTR h$",
            vec!["a.1.example. 3 IN PTR h26.example."],
        ),
    ] {
        let expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
        assert_eq!(lines(text), Ok(expected), "{name}");
    }
}

#[test]
fn errors_name_file_line_token_and_what_was_expected() {
    for (text, expected) in [
        ("w 3 A 192.0.2.1\nw 3 A 192.0.2.999\n", "zone:2: \"192.0.2.999\": expected an IPv4 address"),
        ("w A 192.0.2.1", "zone:1: expected a TTL, as there is no $TTL and no TTL before this record"),
        ("  A 192.0.2.1", "zone:1: expected an owner name, as no record before this one has one"),
        ("w 3 CH A 192.0.2.1", "zone:1: \"CH\": expected class IN, the only one that is served"),
        ("w 3 CLASS3 A 192.0.2.1", "zone:1: \"CLASS3\": expected class IN, the only one that is served"),
        ("w 3 IN NOPE x", "zone:1: \"NOPE\": expected a record type, or class IN"),
        ("w 3 ANY x", "zone:1: \"ANY\": expected a record type that can stand in a zone"),
        ("w 2147483648 A 192.0.2.1", "zone:1: \"2147483648\": expected a TTL of at most 2147483647 seconds"),
        ("w 3x A 192.0.2.1", "zone:1: \"3x\": expected a TTL in seconds, or with units as in 1h30m or 2w"),
        ("$TTL", "zone:1: expected a TTL"),
        ("$FOO bar", "zone:1: \"$FOO\": expected $ORIGIN, $TTL, $INCLUDE or $GENERATE"),
        ("$ORIGIN a. b.", "zone:1: \"b.\": expected nothing more on this line"),
        ("w 3 A (\n\n 192.0.2.x )", "zone:3: \"192.0.2.x\": expected an IPv4 address"),
        ("\nw 3 A ( 192.0.2.1\n\n", "zone:2: \"(\": expected a \")\" before the end of the file"),
        ("w 3 TXT \"a\nb\"", "zone:1: \"a\": expected a closing quote on the same line"),
        ("\n\n$GENERATE 1-2 a$ 3 A 192.0.2.$x", "zone:3: \"192.0.2.1x\": expected an IPv4 address"),
        (
            "$GENERATE 2-1 a$ 3 A 192.0.2.$",
            "zone:1: \"2-1\": expected a range as 1-100 or 0-255/2, from 0 to 2147483647",
        ),
        ("$INCLUDE x", "zone:1: \"x\": expected a file that can be included: no $INCLUDE here"),
        ("\"w\" 3 A 192.0.2.1", "zone:1: \"w\": expected a domain name"),
    ] {
        assert_eq!(lines(text), Err(expected.to_owned()), "{text:?}");
    }
}

#[test]
fn the_sink_can_refuse_a_record() {
    let mut sink = |record: Record<'_>| {
        if record.rtype == Rtype::A { Err(format!("no {} here", record.owner)) } else { Ok(()) }
    };
    let text = b"w 3 TXT a\n\nw 3 A (\n192.0.2.1 )\n";
    let error = read(text, &options(), &mut NoIncludes, &mut sink).unwrap_err();
    assert_eq!(error.to_string(), "zone:3: no w.example. here");
}

#[test]
fn checking_finds_every_error_and_every_good_record() {
    let text = "w 3 A x\nw 3 A 192.0.2.1\nw 3 SOA a b ( x\n1\n2 3 )\n$TTL z\nv 3 A 192.0.2.2\nu 3 A (\n";
    let mut owners = Vec::new();
    let mut errors = Vec::new();
    let summary = check(
        text.as_bytes(),
        &options(),
        &mut NoIncludes,
        &mut |record| {
            owners.push(record.owner.to_string());
            Ok(())
        },
        &mut |error| errors.push(error.line),
    );
    assert_eq!(owners, ["w.example.", "v.example."]);
    assert_eq!(errors, [1, 3, 6, 8]);
    assert_eq!((summary.records, summary.errors), (2, 4));
}

#[test]
fn included_files_keep_the_origin_and_owner_of_the_including_one() {
    let mut files = Files(BTreeMap::from([
        ("a".into(), "  A 192.0.2.1\n$ORIGIN x.\nw A 192.0.2.2\n$INCLUDE \"b c\"\n".into()),
        ("b c".into(), "v A 192.0.2.3\n$TTL 7".into()),
    ]));
    let text = "o 3 TXT a\n$INCLUDE a sub ; comment\n  A 192.0.2.4\nv A 192.0.2.5";
    assert_eq!(
        lines_with(text, &mut files).unwrap(),
        [
            "o.example. 3 IN TXT \"a\"",
            "o.example. 3 IN A 192.0.2.1",
            "w.x. 3 IN A 192.0.2.2",
            "v.x. 3 IN A 192.0.2.3",
            "o.example. 7 IN A 192.0.2.4",
            "v.example. 7 IN A 192.0.2.5",
        ]
    );
    let mut files = Files(BTreeMap::from([("a".into(), "\n\nw 3 A x".into())]));
    assert_eq!(lines_with("\n$INCLUDE a", &mut files).unwrap_err(), "a:3: \"x\": expected an IPv4 address");
}

#[test]
fn including_is_bounded() {
    let mut files = Files(BTreeMap::from([("a".into(), "$INCLUDE a".into())]));
    assert_eq!(
        lines_with("$INCLUDE a", &mut files).unwrap_err(),
        "a:1: \"a\": expected a file that does not include itself"
    );
    let chain = |depth: usize| {
        Files(
            (0..depth)
                .map(|i| (i.to_string(), format!("w 3 A 192.0.2.1\n$INCLUDE {}", i + 1)))
                .chain([(depth.to_string(), String::new())])
                .collect(),
        )
    };
    assert_eq!(
        lines_with("$INCLUDE 0", &mut chain(MAX_INCLUDE_DEPTH - 1)).unwrap().len(),
        MAX_INCLUDE_DEPTH - 1
    );
    assert_eq!(
        lines_with("$INCLUDE 0", &mut chain(MAX_INCLUDE_DEPTH)).unwrap_err(),
        "9:2: \"10\": expected files included at most 10 deep"
    );
}

// A hundred thousand files are too many for Miri.
#[cfg(not(miri))]
#[test]
fn the_count_of_includes_is_bounded() {
    /// An empty file under any name.
    struct Empty;
    impl Includes for Empty {
        fn open(&mut self, file: &str, _from: &str) -> Result<(String, Vec<u8>), String> {
            Ok((file.to_owned(), Vec::new()))
        }
    }
    let count = usize::try_from(MAX_INCLUDES).unwrap();
    assert!(lines_with(&"$INCLUDE a\n".repeat(count), &mut Empty).unwrap().is_empty());
    assert_eq!(
        lines_with(&"$INCLUDE a\n".repeat(count + 1), &mut Empty).unwrap_err(),
        "zone:100001: \"a\": expected at most 100000 included files"
    );
}

// So are a million records.
#[cfg(not(miri))]
#[test]
fn generating_is_bounded() {
    let mut count = 0u64;
    let mut sink = |_: Record<'_>| {
        count += 1;
        Ok(())
    };
    let text = b"$GENERATE 1-999999 a$ 3 A 192.0.2.1\n$GENERATE 1-2 b$ 3 A 192.0.2.1\n";
    let error = read(text, &options(), &mut NoIncludes, &mut sink).unwrap_err();
    assert_eq!(
        error.to_string(),
        "zone:2: \"1-2\": expected at most 1000000 records from all $GENERATE of a zone"
    );
    assert_eq!(count, 999_999);

    let string = format!(" \"{}\"", "a".repeat(255));
    let text = format!("$GENERATE 1-6000 a$ 3 TXT {}\n", string.repeat(200));
    let mut octets = 0;
    let mut sink = |record: Record<'_>| {
        octets += record.owner.as_wire().len() + record.rdata.len();
        Ok(())
    };
    let error = read(text.as_bytes(), &options(), &mut NoIncludes, &mut sink).unwrap_err();
    assert_eq!(
        error.to_string(),
        "zone:1: \"1-6000\": expected at most 256 MiB of records from all $GENERATE of a zone"
    );
    assert!(octets <= MAX_GENERATED_OCTETS && octets > MAX_GENERATED_OCTETS - 100_000, "{octets}");
}

#[test]
fn work_is_linear_in_the_text() {
    // Each of these took quadratic time if a token, a comment or a parenthesis were looked at again and again.
    let size = if cfg!(miri) { 200 } else { 2_000_000 };
    for unit in [
        "a", " ", "(", ")", "\"", "\\", "\\0", ";", "\n", "a ", "a\n", "( \n", "\"a\" ", "$", "a.", "1",
        "1h", "\\# ",
    ] {
        let text = unit.repeat(size / unit.len());
        let texts = [
            text.clone(),
            format!("a 3 TXT {text}"),
            format!("a 3 NSEC {text}"),
            format!("$GENERATE 1-2 {text}"),
        ];
        for text in texts {
            let started = std::time::Instant::now();
            let mut errors = 0u64;
            check(text.as_bytes(), &options(), &mut NoIncludes, &mut |_| Ok(()), &mut |_| errors += 1);
            // Quadratic would be hours; linear is a second even in a slow build on a busy machine.
            assert!(started.elapsed().as_secs() < 60, "{unit:?}");
        }
    }
}

/// The lines that `domain` makes of the same text.
fn domain_lines(text: &str) -> Result<Vec<String>, String> {
    let mut file = Zonefile::from(text);
    file.set_default_class(Class::IN);
    file.set_origin("example.".parse().unwrap());
    let mut lines = Vec::new();
    while let Some(entry) = file.next_entry().map_err(|error| error.to_string())? {
        let Entry::Record(record) = entry else { continue };
        let owner = Name::from_wire(record.owner().to_vec().as_slice()).unwrap();
        let mut octets = Vec::new();
        record.data().compose_rdata(&mut octets).unwrap();
        let mut line = String::new();
        let rtype = Rtype(record.rtype().to_int());
        write_record(owner.as_ref(), record.ttl().as_secs(), rtype, &octets, &mut line);
        lines.push(line.trim_end().to_owned());
    }
    Ok(lines)
}

/// An entry in the dialect that `domain` reads too, ended by a line feed.
fn shared_entry() -> impl Strategy<Value = String> {
    // No `@` in RDATA: there `domain` takes it for a label (RFC 1035 §5.1 has it for the origin everywhere).
    let name = || {
        prop_oneof![
            5 => "[a-zA-Z0-9_-]{1,10}(\\.[a-zA-Z0-9_-]{1,10}){0,2}\\.?",
            1 => r"[a-z]\\\.[a-z]\\0[0-9]{2}[a-z]\\\\",
            1 => Just("*.w".to_owned()),
        ]
    };
    let rdata = prop_oneof![
        any::<[u8; 4]>().prop_map(|octets| format!("A {}", std::net::Ipv4Addr::from(octets))),
        any::<[u8; 16]>().prop_map(|octets| format!("aaaa {}", std::net::Ipv6Addr::from(octets))),
        (prop::sample::select(vec!["NS", "CNAME", "ptr", "DNAME", "TYPE2"]), name())
            .prop_map(|(t, n)| format!("{t} {n}")),
        (any::<u16>(), name()).prop_map(|(p, n)| format!("MX {p}\t{n}")),
        (any::<[u16; 3]>(), name()).prop_map(|([a, b, c], n)| format!("SRV ( {a} {b}\n {c} ; x\n) {n}")),
        prop::collection::vec(
            prop_oneof!["\"[ -!#-\\[\\]-~]{0,40}\"", "[a-zA-Z0-9=_-]{1,20}", r#""a\\"b\\;\\065\\255 \\\\""#],
            1..4
        )
        .prop_map(|strings| format!("TXT {}", strings.join(" "))),
        (name(), name(), any::<[u32; 5]>()).prop_map(|(m, r, n)| {
            format!("SOA {m} {r} (\n\t{}\n\t{} {} {}\n\t{} )", n[0], n[1], n[2], n[3], n[4])
        }),
        (any::<u16>(), prop::collection::vec(any::<u8>(), 1..40)).prop_map(|(tag, digest)| {
            let mut hex = String::new();
            digest.iter().for_each(|octet| hex.push_str(&format!("{octet:02x}")));
            format!("DS {tag} 8 2 {hex}")
        }),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(|octets| {
            let mut hex = String::new();
            octets.iter().for_each(|octet| hex.push_str(&format!("{octet:02x}")));
            format!("TYPE65281 \\# {} {hex}", octets.len())
        }),
    ];
    let owner = prop_oneof![6 => name(), 1 => Just("@".to_owned()), 2 => Just(String::new())];
    let ttl_class = prop_oneof![
        Just(String::new()),
        Just("IN".to_owned()),
        (0..=crate::rr::MAX_TTL).prop_map(|ttl| ttl.to_string()),
        (0..=crate::rr::MAX_TTL).prop_map(|ttl| format!("{ttl} in")),
        (0..=crate::rr::MAX_TTL).prop_map(|ttl| format!("CLASS1 {ttl}")),
    ];
    let end = prop_oneof![Just("\n"), Just("\r\n"), Just(" ; comment (\"\n"), Just("\n\n  \n;\n")];
    let record = (owner, ttl_class, rdata, end).prop_map(|(o, t, r, e)| format!("{o} {t} {r}{e}"));
    prop_oneof![
        12 => record,
        1 => name().prop_map(|name| format!("$ORIGIN {}\n", if name.ends_with('.') { name } else { format!("{name}.") })),
        1 => (0..=crate::rr::MAX_TTL).prop_map(|ttl| format!("$TTL {ttl}\n")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 1_000 }))]

    #[test]
    fn another_parser_reads_the_same(entries in prop::collection::vec(shared_entry(), 1..30)) {
        // A first record needs owner and TTL.
        let text = format!("@ 3600 IN NS ns\n{}", entries.concat());
        let (ours, theirs) = (lines(&text), domain_lines(&text));
        match theirs {
            Ok(theirs) => prop_assert_eq!(ours, Ok(theirs), "{}", text),
            // Names that are too long with their origin, and the like: both must refuse.
            Err(error) => prop_assert!(ours.is_err(), "{error}: {text}"),
        }
    }

    #[test]
    fn any_octets_give_records_or_errors(text in prop::collection::vec(any::<u8>(), 0..400)) {
        no_panic(&text);
    }

    #[test]
    fn any_line_noise_gives_records_or_errors(text in "[a-c@.\\\\\"();$ \t\r\n0-9{},/-]{0,200}") {
        no_panic(text.as_bytes());
    }

    #[test]
    fn any_words_give_records_or_errors(
        words in prop::collection::vec(
            prop_oneof![
                prop::sample::select(vec![
                    "$GENERATE", "$TTL", "$ORIGIN", "$INCLUDE", "1-3", "0-9/3", "a$", "${1,3,x}", "\n", "\n", "\n ", "(", ")", "IN",
                    "3", "1h", "A", "192.0.2.1", "TXT", "\"a\"", "\\#", "4", "0a000001", "SVCB", "alpn=", "LOC", "N", "E", "@", ";",
                ]).prop_map(str::to_owned),
                any::<u16>().prop_map(|number| Rtype(number).to_string()),
            ],
            0..40,
        )
    ) {
        no_panic(words.join(" ").as_bytes());
    }
}

/// Reads both ways; every record must be valid.
fn no_panic(text: &[u8]) {
    let mut sink = |record: Record<'_>| {
        assert_eq!(rdata::validate(record.rtype, record.rdata), Ok(()));
        assert!(NameRef::from_wire(record.owner.as_wire()).is_ok());
        Ok(())
    };
    let first = read(text, &options(), &mut NoIncludes, &mut sink).err();
    let mut errors = Vec::new();
    check(text, &options(), &mut NoIncludes, &mut sink, &mut |error| errors.push(error));
    assert_eq!(first.as_ref(), errors.first());
}

/// What another server's checker prints of the zone, read again.
fn printed_lines(text: &str, checker: &str, package: &str, arguments: &[&str]) -> Vec<String> {
    let folder = std::env::temp_dir().join(format!("godwit-{checker}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("zone");
    fs::write(&file, text).unwrap();
    let output =
        Command::new(checker).args(arguments).arg("example.").arg(&file).output().unwrap_or_else(|error| {
            panic!("{checker}, of the package {package}, is needed to compare with: {error}")
        });
    fs::remove_dir_all(&folder).unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !printed.is_empty(), "{checker} refuses the zone: {printed}{errors}");
    sorted(lines(&printed).unwrap())
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines.dedup();
    lines
}

#[test]
fn bind_reads_the_same() {
    // Its dialect with all that `domain`'s parser does not know.
    let text = include_str!("../../testdata/bind.zone");
    let ours = sorted(lines(text).unwrap());
    let arguments = ["-D", "-q", "-i", "none", "-k", "ignore", "-n", "ignore", "-M", "ignore", "-o", "-"];
    assert_eq!(ours, printed_lines(text, "named-checkzone", "bind9-utils", &arguments));
    assert!(ours.len() > 100, "{}", ours.len());
}

#[test]
fn nsd_reads_the_same() {
    // The same zone without what NSD does not have: $GENERATE, relative names in $ORIGIN, and some types.
    let unknown = ["$GENERATE", "hip\t", "ninfo\t", "talink\t", "avc\t"];
    let text: Vec<&str> = include_str!("../../testdata/bind.zone")
        .lines()
        .filter(|line| !unknown.iter().any(|start| line.starts_with(start)))
        .collect();
    let text = text.join("\n").replace("$ORIGIN deeper\n", "$ORIGIN deeper.sub.example.\n");
    // It lower-cases the names in RDATA of the types of RFC 1035.
    let lower = |lines: Vec<String>| sorted(lines.iter().map(|line| line.to_ascii_lowercase()).collect());
    let ours = lower(lines(&text).unwrap());
    assert_eq!(ours, lower(printed_lines(&format!("{text}\n"), "nsd-checkzone", "nsd", &["-p"])));
    assert!(ours.len() > 80, "{}", ours.len());
}

#[test]
fn what_is_written_is_read_back() {
    let text = include_str!("../../testdata/bind.zone");
    let written = lines(text).unwrap();
    assert_eq!(lines(&written.join("\n")).unwrap(), written);
    // The forms of the types themselves are there, not only that of unknown types.
    let generic = written.iter().filter(|line| line.contains("\\#")).count();
    assert!(generic <= 3, "{generic}");
    assert_eq!(format_rdata(Rtype(65_280), &[]), "\\# 0");
}
