//! What RDATA of each type looks like in presentation format: one table, from which it is both read and written.
//! The types whose text is no mere row of fields have a file of their own: LOC, APL, HIP, IPSECKEY, SVCB.

use crate::rr::Rtype;

/// One piece of RDATA in presentation format.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Piece {
    U8,
    U16,
    U32,
    /// 32 bits of seconds, which may be written with units.
    Seconds,
    /// 32 bits of seconds since 1970 (RFC 4034 §3.2).
    Timestamp,
    /// A record type: its mnemonic, or `TYPEnnn`.
    Type,
    /// A DNSSEC algorithm: number or mnemonic (RFC 4034 §A.1).
    Algorithm,
    /// A certificate type: number or mnemonic (RFC 4398 §2.1).
    CertificateType,
    /// A scheme of DSYNC: number or mnemonic (RFC 9859 §2.1).
    Scheme,
    Name,
    /// A character string: at most 255 octets behind their length.
    String,
    /// One character string or none, the last piece.
    MaybeString,
    /// One or more character strings, the last piece.
    Strings,
    /// All octets that are left, as one quoted string of any length.
    Text,
    /// The same, of at least one octet (RFC 7553 §4.4).
    SomeText,
    /// A CAA property tag: letters and digits behind their length (RFC 8659 §4.1.1).
    Tag,
    Ipv4,
    Ipv6,
    /// All octets that are left, hexadecimal.
    Hex,
    /// All octets that are left, base 64.
    Base64,
    /// Octets behind their length, hexadecimal, `-` for none (RFC 5155 §3.3).
    Salt,
    /// Octets behind their length, base 32 (RFC 5155 §3.3).
    Hash,
    /// A set of record types (RFC 4034 §4.1.2), the last piece.
    Types,
    /// So many octets, `xx-xx-…` (RFC 7043 §3.2).
    Eui(u8),
    /// 64 bits as four groups, `xxxx:xxxx:xxxx:xxxx` (RFC 6742 §2.1.2).
    Locator,
}

/// How RDATA of a type is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Form {
    Pieces(&'static [Piece]),
    Loc,
    Apl,
    Hip,
    Ipseckey,
    Svcb,
    /// As RFC 3597 §5 has it only.
    Generic,
}

/// The form of a type. The most frequent types stand first.
pub(crate) fn form(rtype: Rtype) -> Form {
    use Piece::{
        Algorithm, Base64, CertificateType, Eui, Hash, Hex, Ipv4, Ipv6, Locator, MaybeString, Name, Salt,
        Scheme, Seconds, SomeText, String, Strings, Tag, Text, Timestamp, Type, Types, U8, U16, U32,
    };
    Form::Pieces(match rtype {
        Rtype::A => &[Ipv4],
        Rtype::AAAA => &[Ipv6],
        Rtype::NS
        | Rtype::CNAME
        | Rtype::PTR
        | Rtype::DNAME
        | Rtype::MD
        | Rtype::MF
        | Rtype::MB
        | Rtype::MG
        | Rtype::MR => &[Name],
        Rtype::SOA => &[Name, Name, U32, Seconds, Seconds, Seconds, Seconds],
        Rtype::MX | Rtype::AFSDB | Rtype::RT | Rtype::KX | Rtype::LP => &[U16, Name],
        Rtype::TXT | Rtype::SPF | NINFO | AVC | RESINFO | WALLET => &[Strings],
        Rtype::SRV => &[U16, U16, U16, Name],
        Rtype::CAA => &[U8, Tag, Text],
        Rtype::NAPTR => &[U16, U16, String, String, String, Name],
        Rtype::DS | Rtype::CDS | TA | DLV => &[U16, Algorithm, U8, Hex],
        Rtype::DNSKEY | Rtype::CDNSKEY | Rtype::KEY | RKEY => &[U16, U8, Algorithm, Base64],
        Rtype::RRSIG | Rtype::SIG => &[Type, Algorithm, U8, U32, Timestamp, Timestamp, U16, Name, Base64],
        Rtype::NSEC => &[Name, Types],
        Rtype::NSEC3 => &[U8, U8, U16, Salt, Hash, Types],
        Rtype::NSEC3PARAM => &[U8, U8, U16, Salt],
        Rtype::TLSA | Rtype::SMIMEA => &[U8, U8, U8, Hex],
        Rtype::SSHFP => &[U8, U8, Hex],
        Rtype::CSYNC => &[U32, U16, Types],
        Rtype::ZONEMD => &[U32, U8, U8, Hex],
        Rtype::URI => &[U16, U16, SomeText],
        Rtype::CERT => &[CertificateType, U16, Algorithm, Base64],
        Rtype::OPENPGPKEY | Rtype::DHCID => &[Base64],
        Rtype::DSYNC => &[Type, Scheme, U16, Name],
        Rtype::HINFO => &[String, String],
        Rtype::MINFO | Rtype::RP | Rtype::TALINK => &[Name, Name],
        Rtype::PX => &[U16, Name, Name],
        X25 => &[String],
        ISDN => &[String, MaybeString],
        GPOS => &[String, String, String],
        Rtype::EUI48 => &[Eui(6)],
        Rtype::EUI64 => &[Eui(8)],
        Rtype::NID | Rtype::L64 => &[U16, Locator],
        Rtype::L32 => &[U16, Ipv4],
        Rtype::LOC => return Form::Loc,
        Rtype::APL => return Form::Apl,
        Rtype::HIP => return Form::Hip,
        Rtype::IPSECKEY => return Form::Ipseckey,
        Rtype::SVCB | Rtype::HTTPS => return Form::Svcb,
        _ => return Form::Generic,
    })
}

// Rare types, which nothing else in Godwit names.
const X25: Rtype = Rtype(19);
const ISDN: Rtype = Rtype(20);
const GPOS: Rtype = Rtype(27);
const NINFO: Rtype = Rtype(56);
const RKEY: Rtype = Rtype(57);
const AVC: Rtype = Rtype(258);
const RESINFO: Rtype = Rtype(261);
const WALLET: Rtype = Rtype(262);
const TA: Rtype = Rtype(32768);
const DLV: Rtype = Rtype(32769);
