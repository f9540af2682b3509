//! Zone files: whatever is read is valid, and each record written as a line reads back as itself.

use godwit_wire::presentation;
use godwit_wire::rdata;
use godwit_wire::zonefile::{self, Includes, Options, Record};

use crate::{Target, holding, names, samples, zones};

/// Enough to see what a file does; `$GENERATE` can make a million of a line.
const MAX_RECORDS: usize = 50;

/// Two files: one with a record, and one that includes itself.
struct Files;

impl Includes for Files {
    fn open(&mut self, file: &str, _from: &str) -> Result<(String, Vec<u8>), String> {
        match file {
            "one" => Ok((file.to_owned(), b"included A 192.0.2.7\n".to_vec())),
            "self" => Ok((file.to_owned(), b"$INCLUDE self\n".to_vec())),
            _ => Err("no such file".to_owned()),
        }
    }
}

fn options() -> Options {
    Options { default_ttl: Some(300), ..Options::new(samples::name("plain.test."), "input") }
}

/// Checks the properties.
pub fn run(data: &[u8]) {
    let mut records = 0;
    let mut sink = |record: Record<'_>| {
        records += 1;
        if records > MAX_RECORDS {
            return Err("enough".to_owned());
        }
        check(record);
        Ok(())
    };
    // An error ends the reading; that it is one of the file and not a panic is what counts.
    if let Err(error) = zonefile::read(data, &options(), &mut Files, &mut sink) {
        assert!(!error.to_string().is_empty());
    }
}

fn check(record: Record<'_>) {
    assert_eq!(rdata::validate(record.rtype, record.rdata), Ok(()));
    let mut line = String::new();
    presentation::write_record(record.owner, record.ttl, record.rtype, record.rdata, &mut line);
    let mut again = 0;
    let mut sink = |other: Record<'_>| {
        again += 1;
        assert_eq!(
            (other.owner, other.ttl, other.rtype, other.rdata),
            (record.owner, record.ttl, record.rtype, record.rdata),
            "{line}"
        );
        Ok(())
    };
    if let Err(error) = zonefile::read(line.as_bytes(), &options(), &mut Files, &mut sink) {
        panic!("{line}: {error}");
    }
    assert_eq!(again, 1, "{line}");
}

const CLASSES: &[(&str, &str)] = &[
    ("whole-zone", ""),
    ("ttl-directive", "$TTL 1h30m\na A 192.0.2.1\n"),
    ("origin-directive", "$ORIGIN sub.plain.test.\na A 192.0.2.1\n"),
    ("generate-directive", "$GENERATE 0-6/2 host-${0,3,d} A 192.0.2.$\n"),
    ("include-directive", "$INCLUDE one\n$INCLUDE one other\n"),
    ("parentheses", "@ 60 IN SOA ns hostmaster ( 1 ; serial\n 7200\n 3600 1209600 60 )\n"),
    ("quoted", "a TXT \"one ; two\" \"\"\n"),
    ("escaped", "a\\.b\\032c TXT \\\"\\065\n"),
    ("generic-type", "a CLASS1 TYPE65280 \\# 3 01 02 03\n"),
    ("same-owner", "a A 192.0.2.1\n  A 192.0.2.2\n\tAAAA ::1\n"),
    ("class-and-ttl", "a IN 60 A 192.0.2.1\nb 60 IN A 192.0.2.2\n"),
    ("comment", "; a comment\na A 192.0.2.1 ; another\n"),
    ("crlf", "a A 192.0.2.1\r\nb A 192.0.2.2\r\n"),
];

/// What in a text shows that it is of a class.
fn shows(class: &str, text: &str) -> bool {
    match class {
        "whole-zone" => text.contains("SOA") && text.contains("NS") && text.lines().count() > 20,
        "ttl-directive" => text.contains("$TTL"),
        "origin-directive" => text.contains("$ORIGIN"),
        "generate-directive" => text.contains("$GENERATE"),
        "include-directive" => text.contains("$INCLUDE"),
        "parentheses" => text.contains("( "),
        "quoted" => text.contains('"'),
        "escaped" => text.contains('\\'),
        "generic-type" => text.contains("TYPE"),
        "same-owner" => text.contains("\n "),
        "class-and-ttl" => text.contains("IN 60") && text.contains("60 IN"),
        "comment" => text.contains(';'),
        _ => text.contains("\r\n"),
    }
}

pub(crate) fn target() -> Target {
    Target {
        name: "zonefile",
        run,
        classes: names(&CLASSES.iter().map(|(class, _)| *class).collect::<Vec<_>>()),
        classify: |data| {
            let Ok(text) = std::str::from_utf8(data) else { return Vec::new() };
            let read = zonefile::read(data, &options(), &mut Files, &mut |_| Ok(()));
            if read.is_ok_and(|summary| summary.records > 0) {
                let shown: Vec<_> = CLASSES.iter().map(|(class, _)| (*class, shows(class, text))).collect();
                holding(&shown)
            } else {
                Vec::new()
            }
        },
        seeds: || {
            let text = |class: &&str, text: &str| {
                if *class == "whole-zone" { zones::PLAIN.to_owned() } else { text.to_owned() }
            };
            CLASSES
                .iter()
                .map(|(class, seed)| ((*class).to_owned(), text(class, seed).into_bytes()))
                .collect()
        },
    }
}
