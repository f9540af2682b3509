//! What a right response holds: header, question, OPT, and the units (an RRset with its RRSIGs) of each section in the
//! order in which they are added while they fit.

use godwit_wire::name::Name;
use godwit_wire::rr::Rtype;

use super::query::{Query, Tsig};
use super::zone::Zone;
use super::{CLASS_CH, CLASS_IN, Settings, Transport};
use crate::message::{Question, Record, canonical_rdata};

/// An RRset with the RRSIGs that go with it: whole in a message, or not there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unit {
    /// Its records, canonical.
    pub records: Vec<Record>,
    /// Whether the response is truncated without it (`docs/answers.md` §11).
    pub required: bool,
}

impl Unit {
    /// The RRset of a zone as it is sent: owner replaced when synthesised, RRSIGs beside it with DO.
    pub(super) fn new(zone: &Zone, source: &Name, rtype: Rtype, owner: &Name, dnssec_ok: bool) -> Unit {
        let rrset = zone.rrset(source, rtype);
        let ttl = rrset.first().expect("the RRset is there").ttl;
        let rrsigs = if dnssec_ok { zone.rrsigs(source, rtype) } else { Vec::new() };
        let records = rrset
            .iter()
            .chain(&rrsigs)
            .map(|record| Record {
                owner: owner.clone(),
                rtype: record.rtype,
                class: CLASS_IN,
                // RFC 4034 §3: an RRSIG has the TTL of what it covers.
                ttl,
                rdata: canonical_rdata(record.rtype, &record.rdata),
            })
            .collect();
        Unit { records, required: true }
    }

    /// Only the RRSIGs of an RRset: what QTYPE RRSIG asks for.
    pub(super) fn signatures(zone: &Zone, source: &Name, covered: Rtype, owner: &Name) -> Unit {
        let mut unit = Unit::new(zone, source, covered, owner, true);
        unit.records.retain(|record| record.rtype == Rtype::RRSIG);
        unit
    }

    /// A CNAME made from a DNAME (RFC 6672 §3.1): its TTL, no RRSIG.
    pub(super) fn synthesised_cname(owner: &Name, target: &Name, ttl: u32) -> Unit {
        let record = Record {
            owner: owner.clone(),
            rtype: Rtype::CNAME,
            class: CLASS_IN,
            ttl,
            rdata: target.as_wire().to_vec(),
        };
        Unit { records: vec![record], required: true }
    }

    /// One TXT record about the server itself.
    pub(super) fn chaos(owner: &Name, text: &[u8]) -> Unit {
        let mut rdata = vec![u8::try_from(text.len()).expect("at most 255 octets of text")];
        rdata.extend_from_slice(text);
        let record = Record { owner: owner.clone(), rtype: Rtype::TXT, class: CLASS_CH, ttl: 0, rdata };
        Unit { records: vec![record], required: true }
    }

    /// Caps the TTL of all its records.
    pub(super) fn with_ttl_at_most(mut self, ttl: u32) -> Unit {
        for record in &mut self.records {
            record.ttl = record.ttl.min(ttl);
        }
        self
    }
}

/// The OPT of a response.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ExpectedOpt {
    /// What we announce.
    pub udp_payload_octets: u16,
    /// As in the query.
    pub dnssec_ok: bool,
    /// NSID.
    pub nsid: Option<Vec<u8>>,
    /// The client's half of the cookie; the server's half must be 16 octets of version 1.
    pub client_cookie: Option<[u8; 8]>,
    /// Units of 100 ms.
    pub keepalive: Option<u16>,
    /// Info code of the extended error.
    pub extended_error: Option<u16>,
}

impl ExpectedOpt {
    pub(super) fn clear_options(&mut self) {
        let bare = ExpectedOpt {
            udp_payload_octets: self.udp_payload_octets,
            dnssec_ok: self.dnssec_ok,
            ..ExpectedOpt::default()
        };
        *self = bare;
    }
}

/// The TSIG of an error to an unknown key.
pub type Signature = Tsig;

/// A right response.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Expected {
    /// ID of the query.
    pub id: u16,
    /// Opcode of the query.
    pub opcode: u8,
    /// RD of the query.
    pub rd: bool,
    /// AA.
    pub aa: bool,
    /// RCODE, extended.
    pub rcode: u16,
    /// Echoed question.
    pub question: Option<Question>,
    /// OPT.
    pub opt: Option<ExpectedOpt>,
    /// TSIG with BADKEY.
    pub tsig: Option<Signature>,
    /// Answer section in order.
    pub answer: Vec<Unit>,
    /// Authority section in order.
    pub authority: Vec<Unit>,
    /// Additional section in order, required units first.
    pub additional: Vec<Unit>,
    /// The most octets the response may have.
    pub limit: usize,
}

impl Expected {
    /// Header only: for what was not read any further.
    pub(super) fn header_only(packet: &[u8], rcode: u16) -> Expected {
        Expected {
            id: u16::from_be_bytes([packet[0], packet[1]]),
            opcode: (packet[2] >> 3) & 0xF,
            rd: packet[2] & 1 != 0,
            aa: false,
            rcode,
            question: None,
            opt: None,
            tsig: None,
            answer: Vec::new(),
            authority: Vec::new(),
            additional: Vec::new(),
            limit: 512,
        }
    }

    /// The start of a response to a sound query: question and OPT in place, sections empty.
    pub(super) fn new(query: &Query, settings: &Settings, transport: Transport) -> Expected {
        let mut expected = Expected::header_only(&query.header, super::rcode::NOERROR);
        expected.question.clone_from(&query.question);
        expected.limit = match (transport, &query.opt) {
            (Transport::Tcp, _) => 65_535,
            (Transport::Udp, None) => 512,
            // RFC 6891 §6.2.3: below 512 is 512.
            (Transport::Udp, Some(opt)) => {
                usize::from(opt.udp_payload_octets.min(settings.udp_payload_max).max(512))
            }
        };
        expected.opt = query.opt.as_ref().map(|opt| ExpectedOpt {
            udp_payload_octets: settings.udp_payload_max,
            dnssec_ok: opt.dnssec_ok,
            nsid: settings.nsid.clone().filter(|_| opt.nsid),
            client_cookie: opt
                .cookie
                .as_ref()
                .filter(|_| settings.cookies.is_some())
                .map(|cookie| cookie[..8].try_into().expect("8 octets")),
            // RFC 7828 §3.3.2: never over UDP.
            keepalive: settings.tcp_keepalive.filter(|_| opt.keepalive && transport == Transport::Tcp),
            extended_error: None,
        });
        expected
    }

    /// This response as an error.
    pub(super) fn error(mut self, rcode: u16, extended_error: Option<u16>) -> Expected {
        self.rcode = rcode;
        if let Some(opt) = &mut self.opt {
            opt.extended_error = extended_error;
        }
        self
    }

    /// Adds to the authority section what is not there yet.
    pub(super) fn add_authority(&mut self, units: impl IntoIterator<Item = Unit>) {
        for unit in units {
            if !self.authority.contains(&unit) {
                self.authority.push(unit);
            }
        }
    }
}
