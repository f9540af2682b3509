//! A query as the server needs it: header, the one question, OPT, and where a TSIG stands. Nothing else is looked at.
//!
//! Parsing borrows the packet, allocates nothing, follows no compression pointer, and looks at each octet at most
//! twice.

use crate::edns::{Edns, EdnsError};
use crate::message::{HEADER_OCTETS, Header, flag, read_u16, read_u32};
use crate::name::{MAX_LABEL_OCTETS, MAX_NAME_OCTETS};
use crate::rr::Rtype;

/// Where the question section begins, and so the QNAME.
pub const QNAME_AT: usize = HEADER_OCTETS;

/// What is wrong with a query, and where.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{reason} at octet {offset}")]
pub struct ParseError {
    /// The octet at which it shows.
    pub offset: usize,
    /// What it is.
    pub reason: Reason,
    /// Where the question ends, when that much was sound and can be echoed.
    pub question_end: Option<usize>,
    /// The OPT that was met before or where it shows, without its options: the response has one then (RFC 6891 §7).
    pub edns: Option<Edns>,
}

/// Why a query does not parse.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Reason {
    /// QDCOUNT is above 1 (RFC 9619 §4).
    #[error("more than one question")]
    Questions,
    /// The QNAME is not a name, or is compressed: there is nothing before it to point to.
    #[error("bad QNAME")]
    Qname,
    /// The packet ends inside something.
    #[error("message ends too early")]
    Short,
    /// A name in a later record is not one.
    #[error("bad owner name")]
    Owner,
    /// More than one OPT (RFC 6891 §6.1.1).
    #[error("more than one OPT")]
    Opts,
    /// An OPT whose owner is not the root, or outside the additional section (RFC 6891 §6.1.1, §6.1.2).
    #[error("misplaced OPT")]
    MisplacedOpt,
    /// An EDNS option does not parse.
    #[error("bad EDNS option")]
    Option,
    /// A COOKIE option of an impossible length.
    #[error("bad cookie length")]
    Cookie,
    /// A TSIG that is not the last record (RFC 8945 §5.1).
    #[error("misplaced TSIG")]
    MisplacedTsig,
    /// Octets after the last record.
    #[error("octets after the message")]
    Trailing,
}

/// The question of a query.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Question<'a> {
    /// The name as it was sent: uncompressed, in the client's own case.
    pub qname: &'a [u8],
    /// How many labels it has, the root label not counted.
    pub labels: u8,
    /// The type asked for.
    pub qtype: Rtype,
    /// The class asked for.
    pub qclass: u16,
}

/// A parsed query.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Query<'a> {
    /// Its header.
    pub header: Header,
    /// Its question; absent when QDCOUNT is 0.
    pub question: Option<Question<'a>>,
    /// One past the question's last octet; the header's end without a question.
    pub question_end: usize,
    /// Its OPT record.
    pub edns: Option<Edns>,
    /// Where the TSIG record begins.
    pub tsig_at: Option<usize>,
}

/// A query as nearly every resolver sends it: opcode QUERY, one question of a data type in class IN, and nothing else
/// but one OPT of version 0 without options.
///
/// What it says is what [`Query::parse`] would; it only says it sooner.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Plain {
    /// The ID.
    pub id: u16,
    /// The header's second word.
    pub flags: u16,
    /// Octets of the QNAME at octet 12, root label included.
    pub name_octets: u8,
    /// Its labels, the root label not counted.
    pub labels: u8,
    /// The type asked for, one that data can have.
    pub qtype: Rtype,
    /// Its OPT.
    pub edns: Option<PlainEdns>,
}

/// An OPT of version 0 without options.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PlainEdns {
    /// As [`Edns::udp_payload_octets`].
    pub udp_payload_octets: u16,
    /// As [`Edns::dnssec_ok`].
    pub dnssec_ok: bool,
}

impl Plain {
    /// Reads such a query; `None` for everything else, which [`Query::parse`] then has to say more about.
    #[must_use]
    #[inline]
    pub fn read(packet: &[u8]) -> Option<Plain> {
        let &[a, b, c, d, 0, 1, 0, 0, 0, 0, 0, arcount] = packet.first_chunk::<HEADER_OCTETS>()? else {
            return None;
        };
        let flags = u16::from_be_bytes([c, d]);
        if flags & (flag::QR | flag::OPCODE) != 0 {
            return None;
        }
        let (name_octets, labels) = qname_len(packet).ok()?;
        let (&[e, f, 0, 1], rest) =
            packet.get(QNAME_AT.saturating_add(name_octets)..)?.split_first_chunk::<4>()?
        else {
            return None;
        };
        let qtype = Rtype(u16::from_be_bytes([e, f]));
        let edns = match (arcount, rest) {
            (0, []) => None,
            (1, &[0, 0, 41, g, h, _, 0, flags, _, 0, 0]) => Some(PlainEdns {
                udp_payload_octets: u16::from_be_bytes([g, h]),
                dnssec_ok: flags & 0x80 != 0,
            }),
            _ => return None,
        };
        let name_octets = u8::try_from(name_octets).ok().filter(|_| qtype.is_data())?;
        Some(Plain { id: u16::from_be_bytes([a, b]), flags, name_octets, labels, qtype, edns })
    }
}

impl<'a> Query<'a> {
    /// Reads a message of at least a header, of opcode QUERY.
    ///
    /// # Errors
    /// [`ParseError`]: what does not parse is FORMERR to the client.
    #[inline]
    pub fn parse(packet: &'a [u8], header: Header) -> Result<Query<'a>, ParseError> {
        let fail = |offset, reason| ParseError { offset, reason, question_end: None, edns: None };
        let mut query =
            Query { header, question: None, question_end: HEADER_OCTETS, edns: None, tsig_at: None };
        match header.qdcount {
            0 => {}
            1 => {
                let (len, labels) = qname_len(packet).map_err(|reason| fail(QNAME_AT, reason))?;
                let end = QNAME_AT.saturating_add(len);
                let short = || fail(packet.len(), Reason::Short);
                let qname = packet.get(QNAME_AT..end).ok_or_else(short)?;
                let qtype = Rtype(read_u16(packet, end).ok_or_else(short)?);
                let qclass = read_u16(packet, end.saturating_add(2)).ok_or_else(short)?;
                query.question = Some(Question { qname, labels, qtype, qclass });
                query.question_end = end.saturating_add(4);
            }
            // RFC 9619 §4.
            _ => return Err(fail(4, Reason::Questions)),
        }
        match query.read_records(packet) {
            Ok(()) => Ok(query),
            Err((offset, reason)) => {
                let question_end = Some(query.question_end);
                Err(ParseError { offset, reason, question_end, edns: query.edns.map(Edns::without_options) })
            }
        }
    }

    /// Walks the records behind the question for OPT and TSIG.
    #[inline]
    fn read_records(&mut self, packet: &[u8]) -> Result<(), (usize, Reason)> {
        let mut at = self.question_end;
        let before_additional = u32::from(self.header.ancount).saturating_add(u32::from(self.header.nscount));
        let total = before_additional.saturating_add(u32::from(self.header.arcount));
        for index in 0..total {
            // Each record takes at least 11 octets, so a count that lies ends at the packet's end.
            let start = at;
            let owner_end = skip_name(packet, at).ok_or((at, Reason::Owner))?;
            let short = (packet.len(), Reason::Short);
            let rtype = Rtype(read_u16(packet, owner_end).ok_or(short)?);
            let rdata_at = owner_end.saturating_add(10);
            let rdlength = read_u16(packet, owner_end.saturating_add(8)).ok_or(short)?;
            let end = rdata_at.saturating_add(usize::from(rdlength));
            let rdata = packet.get(rdata_at..end).ok_or(short)?;
            match rtype {
                Rtype::OPT => {
                    if index < before_additional || packet.get(start) != Some(&0) {
                        return Err((start, Reason::MisplacedOpt));
                    }
                    if self.edns.is_some() {
                        return Err((start, Reason::Opts));
                    }
                    let class = read_u16(packet, owner_end.saturating_add(2)).ok_or(short)?;
                    let ttl = read_u32(packet, owner_end.saturating_add(4)).ok_or(short)?;
                    let edns = self.edns.insert(Edns::new(class, ttl));
                    edns.read_options(rdata).map_err(|error| match error {
                        EdnsError::Option => (rdata_at, Reason::Option),
                        EdnsError::Cookie => (rdata_at, Reason::Cookie),
                    })?;
                }
                Rtype::TSIG => {
                    if index < before_additional || index.saturating_add(1) != total {
                        return Err((start, Reason::MisplacedTsig));
                    }
                    self.tsig_at = Some(start);
                }
                _ => {}
            }
            at = end;
        }
        if at < packet.len() { Err((at, Reason::Trailing)) } else { Ok(()) }
    }
}

/// The length of the QNAME, root label included, and how many labels come before that.
#[inline]
fn qname_len(packet: &[u8]) -> Result<(usize, u8), Reason> {
    let octets = packet.get(QNAME_AT..).unwrap_or_default();
    let mut at = 0usize;
    let mut labels = 0u8;
    loop {
        let len = usize::from(*octets.get(at).ok_or(Reason::Short)?);
        at = at.saturating_add(len).saturating_add(1);
        if len > MAX_LABEL_OCTETS || at > MAX_NAME_OCTETS {
            return Err(Reason::Qname);
        }
        if len == 0 {
            return Ok((at, labels));
        }
        labels = labels.saturating_add(1);
    }
}

/// Where the possibly compressed name at `at` ends. A pointer ends it and is not followed.
fn skip_name(packet: &[u8], at: usize) -> Option<usize> {
    let mut next = at;
    loop {
        let len = *packet.get(next)?;
        match len {
            0 => return next.checked_add(1),
            1..=63 => next = next.checked_add(usize::from(len))?.checked_add(1)?,
            0xC0..=0xFF => {
                packet.get(next.checked_add(1)?)?;
                return next.checked_add(2);
            }
            _ => return None,
        }
        if next.saturating_sub(at) > MAX_NAME_OCTETS {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ID 1, RD, then the counts, then the octets.
    fn packet(counts: [u8; 4], rest: &[u8]) -> Vec<u8> {
        let [qd, an, ns, ar] = counts;
        let mut packet = vec![0, 1, 1, 0, 0, qd, 0, an, 0, ns, 0, ar];
        packet.extend_from_slice(rest);
        packet
    }

    fn parse(packet: &[u8]) -> Result<Query<'_>, ParseError> {
        Query::parse(packet, Header::read(packet).unwrap())
    }

    const QUESTION: &[u8] = &[3, b'w', b'W', b'w', 0, 0, 1, 0, 1];
    const OPT: &[u8] = &[0, 0, 41, 4, 208, 0, 0, 128, 0, 0, 0];
    const TSIG: &[u8] = &[1, b'k', 0, 0, 250, 0, 255, 0, 0, 0, 0, 0, 1, 9];

    #[test]
    fn a_plain_query_parses() {
        let octets = packet([1, 0, 0, 2], &[QUESTION, OPT, TSIG].concat());
        let query = parse(&octets).unwrap();
        let question = query.question.unwrap();
        assert_eq!(question.qname, &[3, b'w', b'W', b'w', 0]);
        assert_eq!(question.labels, 1);
        assert_eq!((question.qtype, question.qclass), (Rtype::A, 1));
        assert_eq!(query.question_end, 12 + QUESTION.len());
        assert_eq!(query.tsig_at, Some(12 + QUESTION.len() + OPT.len()));
        let edns = query.edns.unwrap();
        assert!(edns.dnssec_ok);
        assert_eq!(edns.udp_payload_octets, 1232);
    }

    #[test]
    fn each_malformed_class_has_its_reason() {
        let rows: &[(&str, [u8; 4], Vec<u8>, Reason)] = &[
            ("two questions", [2, 0, 0, 0], [QUESTION, QUESTION].concat(), Reason::Questions),
            ("no octets for the question", [1, 0, 0, 0], vec![], Reason::Short),
            ("half a question", [1, 0, 0, 0], QUESTION[..7].to_vec(), Reason::Short),
            ("a compressed QNAME", [1, 0, 0, 0], vec![0xC0, 12, 0, 1, 0, 1], Reason::Qname),
            ("label type 01", [1, 0, 0, 0], vec![0x41, 0, 0, 1, 0, 1], Reason::Qname),
            (
                "a QNAME of 256 octets",
                [1, 0, 0, 0],
                [[1, b'a'].repeat(128), vec![0; 5]].concat(),
                Reason::Qname,
            ),
            ("octets behind", [1, 0, 0, 0], [QUESTION, &[0]].concat(), Reason::Trailing),
            ("an OPT not counted", [1, 0, 0, 0], [QUESTION, OPT].concat(), Reason::Trailing),
            ("two OPTs", [1, 0, 0, 2], [QUESTION, OPT, OPT].concat(), Reason::Opts),
            ("OPT as an answer", [1, 1, 0, 0], [QUESTION, OPT].concat(), Reason::MisplacedOpt),
            ("TSIG before OPT", [1, 0, 0, 2], [QUESTION, TSIG, OPT].concat(), Reason::MisplacedTsig),
            ("a record missing", [1, 0, 0, 2], [QUESTION, OPT].concat(), Reason::Owner),
            ("RDLENGTH past the end", [1, 0, 0, 1], [QUESTION, &OPT[..9], &[0, 1]].concat(), Reason::Short),
            (
                "an option past the end",
                [1, 0, 0, 1],
                [QUESTION, &OPT[..9], &[0, 4, 0, 3, 0, 1]].concat(),
                Reason::Option,
            ),
        ];
        for (what, counts, rest, reason) in rows {
            let octets = packet(*counts, rest);
            assert_eq!(parse(&octets).map_err(|error| error.reason), Err(*reason), "{what}");
        }
    }

    #[test]
    fn an_error_keeps_the_opt_that_was_met() {
        let nsid_and_half_an_option = [QUESTION, &OPT[..9], &[0, 7, 0, 3, 0, 0, 0, 3, 0]].concat();
        for (what, counts, rest, met) in [
            ("octets behind", [1, 0, 0, 1], [QUESTION, OPT, &[0]].concat(), true),
            ("two OPTs", [1, 0, 0, 2], [QUESTION, OPT, OPT].concat(), true),
            ("half an option", [1, 0, 0, 1], nsid_and_half_an_option, true),
            ("OPT as an answer", [1, 1, 0, 0], [QUESTION, OPT].concat(), false),
            ("broken before it", [1, 0, 0, 2], [QUESTION, &[0x41], OPT].concat(), false),
        ] {
            let edns = parse(&packet(counts, &rest)).unwrap_err().edns;
            assert_eq!(edns, met.then(|| Edns::new(1232, 0x8000)), "{what}");
        }
    }

    #[test]
    fn the_short_way_reads_what_the_long_way_reads() {
        for octets in [packet([1, 0, 0, 1], &[QUESTION, OPT].concat()), packet([1, 0, 0, 0], QUESTION)] {
            assert_agree(&octets, Plain::read(&octets).unwrap());
        }
        // One thing out of the ordinary each: the long way decides.
        let other_class = [&QUESTION[..8], &[3]].concat();
        let any = [&QUESTION[..6], &[255, 0, 1]].concat();
        let version = [QUESTION, &OPT[..6], &[1], &OPT[7..]].concat();
        for octets in [
            packet([1, 0, 0, 0], &other_class),
            packet([1, 0, 0, 0], &any),
            packet([1, 0, 0, 1], &version),
            packet([1, 0, 0, 2], &[QUESTION, OPT].concat()),
            packet([1, 1, 0, 0], &[QUESTION, OPT].concat()),
            packet([1, 0, 0, 0], &[QUESTION, &[0]].concat()),
            packet([2, 0, 0, 0], QUESTION),
            packet([1, 0, 0, 0], &[0xC0, 12, 0, 1, 0, 1]),
        ] {
            assert_eq!(Plain::read(&octets), None, "{octets:?}");
        }
    }

    fn assert_agree(octets: &[u8], plain: Plain) {
        let query = parse(octets).unwrap();
        let question = query.question.unwrap();
        assert_eq!(usize::from(plain.name_octets), question.qname.len());
        assert_eq!((plain.labels, plain.qtype, 1), (question.labels, question.qtype, question.qclass));
        assert_eq!((plain.id, plain.flags), (query.header.id, query.header.flags));
        let edns = plain.edns.map(|edns| (edns.udp_payload_octets, edns.dnssec_ok));
        assert_eq!(edns, query.edns.map(|edns| (edns.udp_payload_octets, edns.dnssec_ok)));
    }

    #[test]
    fn counts_that_lie_cost_no_more_than_the_packet() {
        let octets = packet([1, 255, 255, 255], &[QUESTION, &[0xC0; 40]].concat());
        assert!(parse(&octets).is_err());
    }

    #[test]
    fn no_question_is_left_to_the_caller() {
        let octets = packet([0, 0, 0, 1], OPT);
        let query = parse(&octets).unwrap();
        assert_eq!(query.question, None);
        assert!(query.edns.is_some());
    }

    proptest::proptest! {
        #[test]
        fn any_octets_give_a_value_or_an_error(octets in proptest::collection::vec(proptest::prelude::any::<u8>(), 12..300)) {
            let _ = Query::parse(&octets, Header::read(&octets).unwrap());
        }

        #[test]
        fn both_ways_agree(qname in "[a-zA-Z0-9]{1,20}", qtype: u16, payload: u16, flags: u16, edns: bool) {
            let [c, d] = (flags & 0x07FF).to_be_bytes();
            let [e, f] = qtype.to_be_bytes();
            let [g, h] = payload.to_be_bytes();
            let mut octets = vec![1, 2, c, d, 0, 1, 0, 0, 0, 0, 0, u8::from(edns), u8::try_from(qname.len()).unwrap()];
            octets.extend_from_slice(qname.as_bytes());
            octets.extend_from_slice(&[0, e, f, 0, 1]);
            if edns {
                octets.extend_from_slice(&[0, 0, 41, g, h, 0, 0, d, 0, 0, 0]);
            }
            match Plain::read(&octets) {
                Some(plain) => assert_agree(&octets, plain),
                None => assert!(!Rtype(qtype).is_data()),
            }
        }
    }
}
