//! RDATA in presentation format: two octets of type, then text. What is read is valid, and what is written of it reads back.

use godwit_wire::presentation;
use godwit_wire::rdata;
use godwit_wire::rr::Rtype;

use crate::{Target, samples};

fn split(data: &[u8]) -> Option<(Rtype, &str)> {
    let (rtype, text) = data.split_first_chunk()?;
    Some((Rtype(u16::from_be_bytes(*rtype)), std::str::from_utf8(text).ok()?))
}

/// Checks the properties.
pub fn run(data: &[u8]) {
    let Some((rtype, text)) = split(data) else { return };
    let origin = samples::name("origin.example.");
    if let Ok(octets) = presentation::parse_rdata(rtype, text, Some(origin.as_ref())) {
        assert_eq!(rdata::validate(rtype, &octets), Ok(()), "{rtype} {text}");
        let written = presentation::format_rdata(rtype, &octets);
        let again = presentation::parse_rdata(rtype, &written, None);
        assert_eq!(again.as_deref(), Ok(&*octets), "{rtype} {text} was written as {written}");
    }
}

pub(crate) fn target() -> Target {
    Target {
        name: "presentation",
        run,
        classes: samples::RDATA.iter().map(|(rtype, _)| (*rtype).to_owned()).collect(),
        classify: |data| match split(data) {
            Some((rtype, text)) if presentation::parse_rdata(rtype, text, None).is_ok() => {
                vec![rtype.to_string()]
            }
            _ => Vec::new(),
        },
        seeds: || {
            let all = samples::RDATA.iter();
            all.map(|(class, text)| {
                let (rtype, _) = samples::rdata(class, text);
                ((*class).to_owned(), [&rtype.0.to_be_bytes()[..], text.as_bytes()].concat())
            })
            .collect()
        },
    }
}
