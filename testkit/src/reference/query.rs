//! A query, read octet by octet in the plainest way, with every reason for FORMERR that `docs/answers.md` §2 lists.

use godwit_wire::name::Name;

use crate::message::Question;

/// A sound query.
#[derive(Clone, Debug)]
pub struct Query {
    /// The first 12 octets.
    pub header: [u8; 12],
    /// The question, unless QDCOUNT is 0.
    pub question: Option<Question>,
    /// Its OPT.
    pub opt: Option<QueryOpt>,
    /// Its TSIG.
    pub tsig: Option<Tsig>,
}

/// What the OPT of a query says.
#[derive(Clone, Debug, Default)]
pub struct QueryOpt {
    /// UDP payload size as sent.
    pub udp_payload_octets: u16,
    /// Version.
    pub version: u8,
    /// DO.
    pub dnssec_ok: bool,
    /// The first COOKIE option.
    pub cookie: Option<Vec<u8>>,
    /// NSID asked for.
    pub nsid: bool,
    /// TCP keepalive asked for.
    pub keepalive: bool,
}

/// What of a query's TSIG comes back in an error (RFC 8945 §5.3.2).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tsig {
    /// The key's name.
    pub key: Name,
    /// The algorithm's name.
    pub algorithm: Name,
    /// Time signed and fudge, 8 octets.
    pub time_and_fudge: Vec<u8>,
}

/// FORMERR, and what can still be echoed.
#[derive(Clone, Debug)]
pub struct Broken {
    /// The question, when that much was sound.
    pub question: Option<Question>,
    /// The OPT, as far as it was met (RFC 6891 §7).
    pub opt: Option<QueryOpt>,
}

impl Query {
    /// QNAME in lower case.
    ///
    /// # Panics
    /// When there is no question.
    #[must_use]
    pub fn qname(&self) -> Name {
        let question = self.question.as_ref().expect("a query with a question");
        Name::from_wire(&question.qname).expect("checked when read")
    }
}

/// Reads a message of at least 12 octets whose opcode is QUERY.
///
/// # Errors
/// [`Broken`]: FORMERR.
pub fn parse(packet: &[u8]) -> Result<Query, Broken> {
    let mut reader = Reader { packet, at: 12 };
    let count = |at: usize| usize::from(u16::from_be_bytes([packet[at], packet[at + 1]]));
    let question = match count(4) {
        0 => None,
        1 => Some(reader.question().ok_or(Broken { question: None, opt: None })?),
        // RFC 9619 §4: never more than one.
        _ => return Err(Broken { question: None, opt: None }),
    };
    let mut query = Query {
        header: packet[..12].try_into().expect("12 octets"),
        question: question.clone(),
        opt: None,
        tsig: None,
    };
    let read = reader.records(count(6) + count(8), count(10), &mut query);
    if read.is_some() && reader.at == packet.len() {
        return Ok(query);
    }
    Err(Broken { question, opt: query.opt })
}

struct Reader<'a> {
    packet: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let taken = self.packet.get(self.at..self.at + len)?;
        self.at += len;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|octets| u16::from_be_bytes([octets[0], octets[1]]))
    }

    fn question(&mut self) -> Option<Question> {
        Some(Question { qname: self.plain_name()?, qtype: self.u16()?, qclass: self.u16()? })
    }

    /// A name without compression, in its own case.
    fn plain_name(&mut self) -> Option<Vec<u8>> {
        let start = self.at;
        loop {
            let len = usize::from(self.take(1)?[0]);
            // RFC 1035 §2.3.4; 11 would be a pointer, 01 and 10 are no label types.
            if len > 63 {
                return None;
            }
            self.take(len)?;
            if self.at - start > 255 {
                return None;
            }
            if len == 0 {
                return Some(self.packet[start..self.at].to_vec());
            }
        }
    }

    /// Steps over a name that may be compressed; the pointer is not followed.
    fn skip_name(&mut self) -> Option<()> {
        let start = self.at;
        loop {
            match usize::from(self.take(1)?[0]) {
                0 => return Some(()),
                len @ 1..=63 => self.take(len)?,
                0xC0.. => return self.take(1).map(|_| ()),
                _ => return None,
            };
            if self.at - start > 255 {
                return None;
            }
        }
    }

    fn records(&mut self, before: usize, additional: usize, query: &mut Query) -> Option<()> {
        for index in 0..before + additional {
            let start = self.at;
            self.skip_name()?;
            let owner = &self.packet[start..self.at];
            let rtype = self.u16()?;
            let class = self.u16()?;
            let ttl = self.take(4)?;
            let len = usize::from(self.u16()?);
            let rdata = self.take(len)?;
            if rtype == 41 {
                // RFC 6891 §6.1.1: one, in the additional section, owned by the root.
                if index < before || query.opt.is_some() || owner != [0] {
                    return None;
                }
                let opt = query.opt.insert(QueryOpt {
                    udp_payload_octets: class,
                    version: ttl[1],
                    dnssec_ok: ttl[2] & 0x80 != 0,
                    ..QueryOpt::default()
                });
                if opt.version == 0 {
                    read_options(opt, rdata)?;
                }
            }
            if rtype == 250 {
                // RFC 8945 §5.1: the last record of the message.
                if index < before || index + 1 != before + additional {
                    return None;
                }
                query.tsig = Some(read_tsig(owner, rdata)?);
            }
        }
        Some(())
    }
}

fn read_options(opt: &mut QueryOpt, mut rdata: &[u8]) -> Option<()> {
    while !rdata.is_empty() {
        let (head, rest) = rdata.split_at_checked(4)?;
        let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([head[2], head[3]])))?;
        match u16::from_be_bytes([head[0], head[1]]) {
            3 => opt.nsid = true,
            // RFC 7873 §5.2: the first one counts. §5.2.2: lengths.
            10 if opt.cookie.is_none() => match value.len() {
                8 | 16..=40 => opt.cookie = Some(value.to_vec()),
                _ => return None,
            },
            11 => opt.keepalive = true,
            _ => {}
        }
        rdata = rest;
    }
    Some(())
}

/// Key name, algorithm, time and fudge, and that MAC and original ID are there; the rest is not looked at.
fn read_tsig(owner: &[u8], rdata: &[u8]) -> Option<Tsig> {
    let mut reader = Reader { packet: rdata, at: 0 };
    let algorithm = reader.plain_name()?;
    let time_and_fudge = reader.take(8)?.to_vec();
    // RFC 8945 §4.2: MAC size, MAC, original ID.
    let mac_octets = reader.u16()?;
    reader.take(mac_octets.into())?;
    reader.take(2)?;
    Some(Tsig {
        key: Name::from_wire(owner).ok()?,
        algorithm: Name::from_wire(&algorithm).ok()?,
        time_and_fudge,
    })
}
