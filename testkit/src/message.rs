//! A response as a value that can be compared: read from octets with `domain`, names in lower case, RDATA
//! uncompressed and canonical, sections sorted, options of the OPT picked apart.
//!
//! Nothing here shares code with what composes responses. The order of records inside a section is not kept, as
//! it means nothing (RFC 1034 §3.6).

use std::fmt;

use anyhow::{Context, Result, bail, ensure};
use domain::base::iana;
use domain::base::name::ToName;
use domain::base::rdata::ComposeRecordData;
use domain::base::{Message as DomainMessage, ParsedName, ParsedRecord};
use domain::dep::octseq::Parser;
use domain::rdata::AllRecordData;
use godwit_wire::name::Name;
use godwit_wire::rr::Rtype;

/// One record of a response, or of a zone.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Record {
    /// The owner, in lower case.
    pub owner: Name,
    /// The type.
    pub rtype: Rtype,
    /// The class; 1 is IN.
    pub class: u16,
    /// Seconds.
    pub ttl: u32,
    /// RDATA: names uncompressed, canonical (RFC 4034 §6.2).
    pub rdata: Vec<u8>,
}

/// One line, so that a difference reads like a zone file.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = iana::Class::from_int(self.class);
        write!(f, "{} {} {class} {} ", self.owner, self.ttl, self.rtype)?;
        match parse_rdata(self.rtype, &self.rdata) {
            Some(rdata) => write!(f, "{rdata}"),
            None => {
                write!(f, "\\# {} ", self.rdata.len())?;
                self.rdata.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
            }
        }
    }
}

/// The question as it was echoed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Question {
    /// QNAME octets, in the case that they came in.
    pub qname: Vec<u8>,
    /// QTYPE.
    pub qtype: u16,
    /// QCLASS.
    pub qclass: u16,
}

/// The OPT record of a response (RFC 6891 §6.1).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Opt {
    /// The UDP payload size that the server announces.
    pub udp_payload_octets: u16,
    /// The version.
    pub version: u8,
    /// The DO bit.
    pub dnssec_ok: bool,
    /// The other 15 flag bits.
    pub other_flags: u16,
    /// Codes and values of all options, sorted.
    pub options: Vec<(u16, Vec<u8>)>,
}

/// A whole response.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Message {
    /// Octets on the wire.
    pub octets: usize,
    /// ID.
    pub id: u16,
    /// Opcode.
    pub opcode: u8,
    /// The RCODE, with the OPT's upper eight bits (RFC 6891 §6.1.3).
    pub rcode: u16,
    /// QR.
    pub qr: bool,
    /// AA.
    pub aa: bool,
    /// TC.
    pub tc: bool,
    /// RD.
    pub rd: bool,
    /// RA.
    pub ra: bool,
    /// Z.
    pub z: bool,
    /// AD.
    pub ad: bool,
    /// CD.
    pub cd: bool,
    /// The question section.
    pub questions: Vec<Question>,
    /// The answer section, sorted.
    pub answer: Vec<Record>,
    /// The authority section, sorted.
    pub authority: Vec<Record>,
    /// The additional section without OPT, sorted.
    pub additional: Vec<Record>,
    /// OPT.
    pub opt: Option<Opt>,
}

impl Message {
    /// Reads a response.
    ///
    /// # Errors
    /// When the octets are not one whole message, or hold something no server may send: octets behind the last
    /// record, two OPTs, an OPT outside the additional section.
    pub fn parse(octets: &[u8]) -> Result<Message> {
        let message = DomainMessage::from_octets(octets).context("shorter than a header")?;
        let header = message.header();
        let mut parsed = Message {
            octets: octets.len(),
            id: header.id(),
            opcode: header.opcode().to_int(),
            rcode: u16::from(header.rcode().to_int()),
            qr: header.qr(),
            aa: header.aa(),
            tc: header.tc(),
            rd: header.rd(),
            ra: header.ra(),
            z: header.z(),
            ad: header.ad(),
            cd: header.cd(),
            questions: Vec::new(),
            answer: Vec::new(),
            authority: Vec::new(),
            additional: Vec::new(),
            opt: None,
        };
        let mut questions = message.question();
        for question in questions.by_ref() {
            let question = question.context("question section")?;
            parsed.questions.push(Question {
                qname: question.qname().to_vec().as_slice().to_vec(),
                qtype: question.qtype().to_int(),
                qclass: question.qclass().to_int(),
            });
        }
        let mut end = 12 + questions_octets(octets, parsed.questions.len())?;
        let mut section = questions.answer().context("answer section")?;
        for place in 0..3 {
            for record in section.by_ref() {
                let record = record.with_context(|| format!("section {place}"))?;
                end = record_end(octets, end)?;
                if record.rtype() == iana::Rtype::OPT {
                    ensure!(place == 2, "OPT outside the additional section");
                    ensure!(parsed.opt.is_none(), "two OPTs");
                    parsed.take_opt(&record)?;
                    continue;
                }
                let record = read_record(&record)?;
                match place {
                    0 => parsed.answer.push(record),
                    1 => parsed.authority.push(record),
                    _ => parsed.additional.push(record),
                }
            }
            match section.next_section().context("next section")? {
                Some(next) => section = next,
                None => break,
            }
        }
        ensure!(end == octets.len(), "{} octets behind the last record", octets.len() - end);
        parsed.answer.sort();
        parsed.authority.sort();
        parsed.additional.sort();
        Ok(parsed)
    }

    /// Answer, authority and additional section, in this order.
    #[must_use]
    pub fn sections(&self) -> [&Vec<Record>; 3] {
        [&self.answer, &self.authority, &self.additional]
    }

    fn take_opt(&mut self, record: &ParsedRecord<'_, &[u8]>) -> Result<()> {
        ensure!(record.owner().to_vec().as_slice() == [0], "OPT's owner is not the root");
        let ttl = record.ttl().as_secs();
        let [upper, version, _, _] = ttl.to_be_bytes();
        let flags = u16::try_from(ttl & 0xFFFF).expect("sixteen bits");
        let mut rdata = raw_rdata(record)?;
        let mut options = Vec::new();
        while !rdata.is_empty() {
            let Some((head, rest)) = rdata.split_at_checked(4) else { bail!("OPT option cut short") };
            let code = u16::from_be_bytes([head[0], head[1]]);
            let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
            let Some((value, rest)) = rest.split_at_checked(len) else { bail!("OPT option too long") };
            options.push((code, value.to_vec()));
            rdata = rest.to_vec();
        }
        options.sort();
        self.rcode |= u16::from(upper) << 4;
        self.opt = Some(Opt {
            udp_payload_octets: record.class().to_int(),
            version,
            dnssec_ok: flags & 0x8000 != 0,
            other_flags: flags & 0x7FFF,
            options,
        });
        Ok(())
    }
}

/// In the shape of `dig`'s output, for differences that a person reads.
impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            ";; opcode {} rcode {} id {} flags:",
            self.opcode,
            iana::OptRcode::masked_from_int(self.rcode),
            self.id
        )?;
        for (set, name) in [
            (self.qr, "qr"),
            (self.aa, "aa"),
            (self.tc, "tc"),
            (self.rd, "rd"),
            (self.ra, "ra"),
            (self.z, "z"),
            (self.ad, "ad"),
            (self.cd, "cd"),
        ] {
            if set {
                write!(f, " {name}")?;
            }
        }
        writeln!(f, "; {} octets", self.octets)?;
        if let Some(opt) = &self.opt {
            write!(f, ";; OPT size {} version {} do {}", opt.udp_payload_octets, opt.version, opt.dnssec_ok)?;
            writeln!(f, " flags {:#x} options {:02x?}", opt.other_flags, opt.options)?;
        }
        for question in &self.questions {
            let name =
                Name::from_wire(&question.qname).map_or_else(|e| e.to_string(), |name| name.to_string());
            writeln!(f, ";; question: {name} class {} type {}", question.qclass, Rtype(question.qtype))?;
        }
        for (name, section) in
            [("answer", &self.answer), ("authority", &self.authority), ("additional", &self.additional)]
        {
            for record in section {
                writeln!(f, "{name:>10}: {record}")?;
            }
        }
        Ok(())
    }
}

/// RDATA with names uncompressed and in lower case; opaque where `domain` does not know the type or
/// cannot read it.
#[must_use]
pub fn canonical_rdata(rtype: Rtype, rdata: &[u8]) -> Vec<u8> {
    match parse_rdata(rtype, rdata) {
        Some(parsed) => compose_canonical(&parsed),
        None => rdata.to_vec(),
    }
}

type AnyData<'a> = AllRecordData<&'a [u8], ParsedName<&'a [u8]>>;

fn parse_rdata(rtype: Rtype, rdata: &[u8]) -> Option<AnyData<'_>> {
    use domain::base::rdata::ParseAnyRecordData;
    let mut parser = Parser::from_ref(rdata);
    let parsed = AnyData::parse_any_rdata(iana::Rtype::from_int(rtype.0), &mut parser).ok()?;
    (parser.remaining() == 0).then_some(parsed)
}

fn compose_canonical(data: &AnyData<'_>) -> Vec<u8> {
    let mut octets = Vec::new();
    let Ok(()) = data.compose_canonical_rdata(&mut octets);
    octets
}

fn read_record(record: &ParsedRecord<'_, &[u8]>) -> Result<Record> {
    let owner = Name::from_wire(record.owner().to_vec().as_slice()).context("owner name")?;
    let rtype = Rtype(record.rtype().to_int());
    let rdata = match record.to_any_record::<AnyData<'_>>() {
        Ok(record) => compose_canonical(record.data()),
        Err(_) => raw_rdata(record)?,
    };
    Ok(Record { owner, rtype, class: record.class().to_int(), ttl: record.ttl().as_secs(), rdata })
}

fn raw_rdata(record: &ParsedRecord<'_, &[u8]>) -> Result<Vec<u8>> {
    use domain::base::rdata::UnknownRecordData;
    let record = record
        .to_record::<UnknownRecordData<&[u8]>>()
        .context("RDATA")?
        .context("RDATA that is not opaque")?;
    Ok(record.data().data().to_vec())
}

/// Octets of so many questions behind the header. `domain` does not say where a section ends.
fn questions_octets(message: &[u8], count: usize) -> Result<usize> {
    let mut at = 12;
    for _ in 0..count {
        at = skip_name(message, at)? + 4;
    }
    Ok(at - 12)
}

fn record_end(message: &[u8], at: usize) -> Result<usize> {
    let at = skip_name(message, at)? + 10;
    let Some(len) = message.get(at - 2..at) else { bail!("record cut short") };
    Ok(at + usize::from(u16::from_be_bytes([len[0], len[1]])))
}

fn skip_name(message: &[u8], mut at: usize) -> Result<usize> {
    loop {
        match message.get(at) {
            None => bail!("name cut short"),
            Some(0) => return Ok(at + 1),
            Some(&len) if len >= 0xC0 => return Ok(at + 2),
            Some(&len) => at += 1 + usize::from(len),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressed_and_mixed_case_read_the_same() {
        // w. NS W. twice: with and without compression, in another case.
        let plain = [
            0, 1, 0x84, 0, 0, 1, 0, 1, 0, 0, 0, 0, 1, b'w', 0, 0, 2, 0, 1, 1, b'w', 0, 0, 2, 0, 1, 0, 0, 0,
            9, 0, 3, 1, b'w', 0,
        ];
        let packed = [
            0, 1, 0x84, 0, 0, 1, 0, 1, 0, 0, 0, 0, 1, b'W', 0, 0, 2, 0, 1, 0xC0, 12, 0, 2, 0, 1, 0, 0, 0, 9,
            0, 2, 0xC0, 12,
        ];
        let (plain, packed) = (Message::parse(&plain).unwrap(), Message::parse(&packed).unwrap());
        assert_eq!(plain.answer, packed.answer);
        assert_ne!(plain.questions, packed.questions, "the question keeps its case");
        assert_eq!(plain.answer[0].to_string(), "w. 9 IN NS w.");
    }

    #[test]
    fn octets_behind_the_message_are_an_error() {
        let mut octets = vec![0, 1, 0x84, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(Message::parse(&octets).is_ok());
        octets.push(0);
        assert!(Message::parse(&octets).unwrap_err().to_string().contains("behind"));
    }
}
