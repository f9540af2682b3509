//! RDATA from wire format into presentation format, piece by piece as the table says. What does not fit its type, or
//! would not read back to the same octets, is written as `\# length hex` (RFC 3597 §5), so that reading always
//! gives back what was written.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::fields::{Form, Piece, form};
use super::octets::Octets;
use super::radix::Radix;
use super::{apl, bitmap, escape, hip, ipseckey, loc, mnemonic, names, number, svcb};
use crate::rr::Rtype;

/// Appends the RDATA as text.
pub(crate) fn rdata(rtype: Rtype, octets: &[u8], out: &mut String) {
    let start = out.len();
    if typed(rtype, octets, out).is_none() {
        out.truncate(start);
        generic(octets, out);
    }
}

fn generic(octets: &[u8], out: &mut String) {
    // Writing to a string cannot fail.
    let _ = write!(out, "\\# {}", octets.len());
    if !octets.is_empty() {
        out.push(' ');
        Radix::Hex.write(octets, out);
    }
}

pub(crate) fn typed(rtype: Rtype, octets: &[u8], out: &mut String) -> Option<()> {
    let mut octets = Octets::new(octets);
    match form(rtype) {
        Form::Pieces(pieces) => {
            for (index, &piece) in pieces.iter().enumerate() {
                let before = out.len();
                if index > 0 {
                    out.push(' ');
                }
                let after_blank = out.len();
                write_piece(piece, &mut octets, out)?;
                if out.len() == after_blank {
                    out.truncate(before);
                }
            }
        }
        Form::Loc => loc::write(&mut octets, out)?,
        Form::Apl => apl::write(&mut octets, out)?,
        Form::Hip => hip::write(&mut octets, out)?,
        Form::Ipseckey => ipseckey::write(&mut octets, out)?,
        Form::Svcb => svcb::write(&mut octets, out)?,
        Form::Generic => return None,
    }
    octets.is_empty().then_some(())
}

pub(crate) fn display(value: impl std::fmt::Display, out: &mut String) -> Option<()> {
    write!(out, "{value}").ok()
}

fn write_piece(piece: Piece, octets: &mut Octets<'_>, out: &mut String) -> Option<()> {
    match piece {
        Piece::Ipv4 => display(Ipv4Addr::from(octets.array::<4>()?), out),
        Piece::Ipv6 => display(Ipv6Addr::from(octets.array::<16>()?), out),
        Piece::Name => names::write(octets.name()?, out),
        Piece::U8 | Piece::Algorithm => display(octets.u8()?, out),
        Piece::U16 => display(octets.u16()?, out),
        Piece::U32 | Piece::Seconds => display(octets.u32()?, out),
        Piece::Timestamp => {
            number::write_timestamp(octets.u32()?, out);
            Some(())
        }
        Piece::Type => display(Rtype(octets.u16()?), out),
        Piece::CertificateType => mnemonic::write_certificate_type(octets.u16()?, out),
        Piece::Scheme => mnemonic::write_scheme(octets.u8()?, out),
        Piece::String => {
            escape::write_quoted(octets.string()?, out);
            Some(())
        }
        Piece::MaybeString if octets.is_empty() => Some(()),
        Piece::MaybeString => {
            escape::write_quoted(octets.string()?, out);
            Some(())
        }
        Piece::Strings => strings(octets, out),
        Piece::Text => {
            escape::write_quoted(octets.rest(), out);
            Some(())
        }
        Piece::SomeText if octets.is_empty() => None,
        Piece::SomeText => {
            escape::write_quoted(octets.rest(), out);
            Some(())
        }
        Piece::Tag => {
            let tag = octets.string()?;
            let text = str::from_utf8(tag).ok()?;
            let valid = !tag.is_empty() && tag.iter().all(u8::is_ascii_alphanumeric);
            valid.then(|| out.push_str(text))
        }
        Piece::Hex => some(octets.rest(), Radix::Hex, out),
        Piece::Base64 => some(octets.rest(), Radix::Base64, out),
        Piece::Salt => {
            let salt = octets.string()?;
            if salt.is_empty() {
                out.push('-');
                return Some(());
            }
            some(salt, Radix::Hex, out)
        }
        Piece::Hash => some(octets.string()?, Radix::Base32Hex, out),
        Piece::Types => bitmap::write(octets, out),
        Piece::Eui(count) => {
            for (index, octet) in octets.take(usize::from(count))?.iter().enumerate() {
                write!(out, "{}{octet:02x}", if index > 0 { "-" } else { "" }).ok()?;
            }
            Some(())
        }
        Piece::Locator => {
            for index in 0..4 {
                write!(out, "{}{:04x}", if index > 0 { ":" } else { "" }, octets.u16()?).ok()?;
            }
            Some(())
        }
    }
}

fn strings(octets: &mut Octets<'_>, out: &mut String) -> Option<()> {
    escape::write_quoted(octets.string()?, out);
    while !octets.is_empty() {
        out.push(' ');
        escape::write_quoted(octets.string()?, out);
    }
    Some(())
}

/// Octets in letters; none at all has no text.
pub(crate) fn some(octets: &[u8], radix: Radix, out: &mut String) -> Option<()> {
    if octets.is_empty() {
        return None;
    }
    radix.write(octets, out);
    Some(())
}
