//! RDATA of any type: two octets of type, then RDATA. What is valid has a canonical form that is its own canonical form, a
//! presentation format that reads back where it may be written, and an image that reads back
//! but for the case of names.

use godwit_wire::image::{self, Image};
use godwit_wire::name::NameRef;
use godwit_wire::presentation;
use godwit_wire::rdata;
use godwit_wire::rr::{Rrset, Rtype};

use crate::{Target, samples};

fn split(data: &[u8]) -> Option<(Rtype, &[u8])> {
    let (rtype, octets) = data.split_first_chunk()?;
    Some((Rtype(u16::from_be_bytes(*rtype)), octets))
}

/// Checks the properties.
pub fn run(data: &[u8]) {
    let Some((rtype, octets)) = split(data) else { return };
    let canonical = rdata::canonical(rtype, octets).into_owned();
    let text = presentation::format_rdata(rtype, octets);
    if rdata::validate(rtype, octets).is_err() {
        return;
    }
    assert_eq!(rdata::validate(rtype, &canonical), Ok(()));
    assert_eq!(rdata::canonical(rtype, &canonical), &canonical[..]);
    // What is kept already may be what nobody may write any more: its text says it, and is refused.
    let is_new = rdata::validate_new(rtype, octets);
    match presentation::parse_rdata(rtype, &text, None) {
        Ok(again) => assert_eq!((&*again, is_new), (octets, Ok(())), "{rtype} {text}"),
        Err(error) => assert!(is_new.is_err(), "{rtype} {text}: {error}"),
    }
    if rtype != Rtype::RRSIG {
        let rrset = Rrset::new(rtype, 300, vec![octets.into()], Vec::new());
        let mut out = Vec::new();
        if image::build(NameRef::ROOT, &rrset, &mut out).is_ok() {
            // A name in it that is compressed takes the case of the name it points to (RFC 4343 §4.1).
            let again = Image::read(&out).to_rrset(NameRef::ROOT, rtype);
            let forms: Vec<_> = again.rdata.iter().map(|octets| rdata::canonical(rtype, octets)).collect();
            assert_eq!(forms, [canonical]);
        }
    }
}

pub(crate) fn target() -> Target {
    Target {
        name: "rdata",
        run,
        classes: samples::RDATA.iter().map(|(rtype, _)| (*rtype).to_owned()).collect(),
        classify: |data| match split(data) {
            Some((rtype, octets)) if rdata::validate(rtype, octets).is_ok() => vec![rtype.to_string()],
            _ => Vec::new(),
        },
        seeds: || {
            let all = samples::RDATA.iter();
            all.map(|(class, text)| {
                let (rtype, octets) = samples::rdata(class, text);
                ((*class).to_owned(), [&rtype.0.to_be_bytes()[..], &octets].concat())
            })
            .collect()
        },
    }
}
