//! Reads a DNS message as a client would, into plain values for comparing: names uncompressed and lower-cased.
//! Written for this crate alone, so that the comparison shares no code with the server under test.

use std::fmt;

use crate::data::record::rtype;

/// A message, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The ID.
    pub id: u16,
    /// The header's second 16 bits.
    pub flags: u16,
    /// The question section's octets as they stand, case kept.
    pub question: Vec<u8>,
    /// Answer section.
    pub answer: Vec<Rr>,
    /// Authority section.
    pub authority: Vec<Rr>,
    /// Additional section.
    pub additional: Vec<Rr>,
}

impl Message {
    /// The four bits of the header; extended RCODEs do not occur in the workloads.
    #[must_use]
    pub fn rcode(&self) -> u8 {
        (self.flags & 0x0F) as u8
    }
}

/// One record: owner in wire format and lower case, RDATA with the names in it uncompressed and lower-cased.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rr {
    /// Owner name.
    pub owner: Vec<u8>,
    /// TYPE.
    pub rtype: u16,
    /// TTL; for OPT whatever the field held.
    pub ttl: u32,
    /// RDATA.
    pub rdata: Vec<u8>,
}

impl fmt::Display for Rr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut at = 0;
        while let Some(&len) = self.owner.get(at).filter(|&&len| len > 0) {
            let label = self.owner.get(at + 1..at + 1 + usize::from(len)).unwrap_or_default();
            write!(f, "{}.", String::from_utf8_lossy(label))?;
            at += 1 + usize::from(len);
        }
        write!(f, " {} {} ", self.ttl, rtype::mnemonic(self.rtype))?;
        self.rdata.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

/// Takes a message apart.
///
/// # Errors
/// What is wrong with it, for a person to read.
pub fn read(octets: &[u8]) -> Result<Message, &'static str> {
    let mut reader = Reader { octets, at: 0 };
    let id = reader.u16()?;
    let flags = reader.u16()?;
    let counts = [reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?];
    let start = reader.at;
    for _ in 0..counts[0] {
        reader.name()?;
        reader.take(4)?;
    }
    let question = octets[start..reader.at].to_vec();
    let mut section = |count| (0..count).map(|_| reader.rr()).collect::<Result<Vec<Rr>, _>>();
    let message = Message {
        id,
        flags,
        question,
        answer: section(counts[1])?,
        authority: section(counts[2])?,
        additional: section(counts[3])?,
    };
    if reader.at == octets.len() { Ok(message) } else { Err("octets after the last record") }
}

struct Reader<'a> {
    octets: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], &'static str> {
        let taken = self.octets.get(self.at..self.at + len).ok_or("ends too early")?;
        self.at += len;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, &'static str> {
        Ok(self.take(1)?[0])
    }

    fn u16(&mut self) -> Result<u16, &'static str> {
        self.take(2).map(|octets| u16::from_be_bytes([octets[0], octets[1]]))
    }

    /// A name, following compression pointers, which must point backwards (RFC 1035 §4.1.4).
    fn name(&mut self) -> Result<Vec<u8>, &'static str> {
        let mut name = Vec::new();
        let mut resume = None;
        loop {
            let start = self.at;
            let len = self.u8()?;
            match len {
                0 => {
                    name.push(0);
                    self.at = resume.unwrap_or(self.at);
                    return Ok(name);
                }
                1..=63 => {
                    name.push(len);
                    name.extend(self.take(usize::from(len))?.to_ascii_lowercase());
                    if name.len() > 255 {
                        return Err("name longer than 255 octets");
                    }
                }
                192.. => {
                    let target = usize::from(u16::from_be_bytes([len & 63, self.u8()?]));
                    if target >= start {
                        return Err("compression pointer that points forwards");
                    }
                    resume.get_or_insert(self.at);
                    self.at = target;
                }
                _ => return Err("label type that is not in use"),
            }
        }
    }

    fn rr(&mut self) -> Result<Rr, &'static str> {
        let owner = self.name()?;
        let rtype = self.u16()?;
        // In OPT the field is the payload size (RFC 6891 §6.1.2); everything else here is of class IN.
        if self.u16()? != 1 && rtype != rtype::OPT {
            return Err("a class other than IN");
        }
        let ttl = (u32::from(self.u16()?) << 16) | u32::from(self.u16()?);
        let len = usize::from(self.u16()?);
        let end = self.at + len;
        let prefix = match rtype {
            rtype::NS | rtype::CNAME => Some((0, 1)),
            rtype::MX => Some((2, 1)),
            rtype::SRV => Some((6, 1)),
            rtype::SOA => Some((0, 2)),
            _ => None,
        };
        let mut rdata = Vec::with_capacity(len);
        if let Some((fixed, names)) = prefix {
            rdata.extend(self.take(fixed)?);
            for _ in 0..names {
                rdata.extend(self.name()?);
            }
        }
        let rest = end.checked_sub(self.at).ok_or("RDATA shorter than its names")?;
        rdata.extend(self.take(rest)?);
        Ok(Rr { owner, rtype, ttl, rdata })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer to `a.test. MX` with one MX whose exchange points back into the question.
    const ANSWER: &[u8] =
        b"\x12\x34\x84\x00\x00\x01\x00\x01\x00\x00\x00\x00\x01A\x04test\x00\x00\x0f\x00\x01\
        \xc0\x0c\x00\x0f\x00\x01\x00\x00\x00\x3c\x00\x06\x00\x0a\x01m\xc0\x0e";

    #[test]
    fn compressed_names_are_read() {
        let message = read(ANSWER).unwrap();
        assert_eq!(message.question, b"\x01A\x04test\x00\x00\x0f\x00\x01");
        assert_eq!(message.answer[0].owner, b"\x01a\x04test\x00");
        assert_eq!(message.answer[0].rdata, b"\x00\x0a\x01m\x04test\x00");
        assert_eq!(message.answer[0].ttl, 60);
    }

    #[test]
    fn broken_messages_are_refused() {
        for len in 0..ANSWER.len() {
            assert!(read(&ANSWER[..len]).is_err(), "cut at {len}");
        }
        assert!(read(&[ANSWER, b"x"].concat()).is_err(), "an octet too many");
        let mut forwards = ANSWER.to_vec();
        forwards[25] = 0x30;
        assert!(read(&forwards).is_err(), "a pointer that points forwards");
    }
}
