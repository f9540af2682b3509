//! Queries: any octets give a query or an error, what it points at lies in the message, and names have one shape.

use godwit_wire::message::Header;
use godwit_wire::name;
use godwit_wire::query::Query;

use crate::message::Query as Written;
use crate::{Target, holding, names};

/// Checks the properties.
pub fn run(data: &[u8]) {
    let Some(header) = Header::read(data) else {
        assert!(data.len() < 12, "a whole header is refused");
        return;
    };
    let mut written = [0; 12];
    header.write(&mut written);
    assert_eq!(&written, &data[..12], "a header does not read back");
    match Query::parse(data, header) {
        Ok(query) => {
            assert!(query.question_end <= data.len());
            assert!(query.tsig_at.is_none_or(|at| at >= query.question_end && at < data.len()));
            if let Some(question) = query.question {
                assert_eq!(name::wire_len(question.qname), Ok(question.qname.len()));
            }
        }
        Err(error) => {
            assert!(error.offset <= data.len(), "{error:?}");
            assert!(error.question_end.is_none_or(|end| end <= data.len()), "{error:?}");
        }
    }
}

fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let www = || Written::of("www.plain.test", 1);
    vec![
        ("plain", www().octets()),
        ("root", Written::of("", 2).octets()),
        ("upper-case", Written::of("WwW.pLaIn.TeSt", 28).octets()),
        ("no-question", Written { qname: None, ..www().option(10, &[1; 8]) }.octets()),
        ("chaos", Written { qclass: 3, ..Written::of("version.bind", 16) }.octets()),
        ("edns", www().edns(1232, false).octets()),
        ("dnssec-ok", www().edns(4096, true).octets()),
        ("cookie", www().option(10, &[1; 8]).octets()),
        ("server-cookie", www().option(10, &[1; 24]).octets()),
        ("nsid", www().option(3, &[]).octets()),
        ("keepalive", www().option(11, &[]).octets()),
        ("unknown-option", www().option(65_001, b"octets").octets()),
        ("tsig", Written { tsig: true, ..www().edns(1232, false) }.octets()),
    ]
}

fn classify(data: &[u8]) -> Vec<String> {
    let Some(header) = Header::read(data) else { return Vec::new() };
    let Ok(query) = Query::parse(data, header) else { return Vec::new() };
    let question = query.question;
    let edns = query.edns;
    holding(&[
        ("plain", question.is_some() && edns.is_none()),
        ("root", question.is_some_and(|question| question.qname == [0])),
        ("upper-case", question.is_some_and(|question| question.qname.iter().any(u8::is_ascii_uppercase))),
        ("no-question", question.is_none() && edns.is_some()),
        ("chaos", question.is_some_and(|question| question.qclass == 3)),
        ("edns", edns.is_some()),
        ("dnssec-ok", edns.is_some_and(|edns| edns.dnssec_ok)),
        ("cookie", edns.is_some_and(|edns| edns.cookie.is_some_and(|cookie| cookie.server().is_empty()))),
        (
            "server-cookie",
            edns.is_some_and(|edns| edns.cookie.is_some_and(|cookie| !cookie.server().is_empty())),
        ),
        ("nsid", edns.is_some_and(|edns| edns.nsid)),
        ("keepalive", edns.is_some_and(|edns| edns.keepalive)),
        ("unknown-option", edns.is_some() && data.windows(2).any(|octets| octets == 65_001u16.to_be_bytes())),
        ("tsig", query.tsig_at.is_some()),
    ])
}

pub(crate) fn target() -> Target {
    Target {
        name: "query",
        run,
        classes: names(&seeds().iter().map(|(class, _)| *class).collect::<Vec<_>>()),
        classify,
        seeds: || seeds().into_iter().map(|(class, octets)| (class.to_owned(), octets)).collect(),
    }
}
