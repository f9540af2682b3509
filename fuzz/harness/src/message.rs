//! Writes queries octet by octet, right ones and wrong ones, without the code under test.

/// A query to be written.
#[derive(Clone)]
pub(crate) struct Query<'a> {
    pub(crate) flags: u16,
    /// QNAME in presentation format without escapes; `None` for no question.
    pub(crate) qname: Option<&'a str>,
    pub(crate) qtype: u16,
    pub(crate) qclass: u16,
    pub(crate) edns: Option<Edns>,
    /// Whether a TSIG record stands last.
    pub(crate) tsig: bool,
}

/// The OPT record of a query.
#[derive(Clone)]
pub(crate) struct Edns {
    pub(crate) payload_octets: u16,
    pub(crate) version: u8,
    pub(crate) dnssec_ok: bool,
    /// Code and octets of each.
    pub(crate) options: Vec<(u16, Vec<u8>)>,
}

impl Query<'_> {
    pub(crate) fn of(qname: &str, qtype: u16) -> Query<'_> {
        Query { flags: 0x0100, qname: Some(qname), qtype, qclass: 1, edns: None, tsig: false }
    }

    pub(crate) fn edns(self, payload_octets: u16, dnssec_ok: bool) -> Self {
        Query { edns: Some(Edns { payload_octets, version: 0, dnssec_ok, options: Vec::new() }), ..self }
    }

    pub(crate) fn option(mut self, code: u16, octets: &[u8]) -> Self {
        let plain = Edns { payload_octets: 1232, version: 0, dnssec_ok: false, options: Vec::new() };
        self.edns.get_or_insert(plain).options.push((code, octets.to_vec()));
        self
    }

    pub(crate) fn octets(&self) -> Vec<u8> {
        let additional = u16::from(self.edns.is_some()) + u16::from(self.tsig);
        let mut out = Vec::new();
        for word in [0x1234, self.flags, u16::from(self.qname.is_some()), 0, 0, additional] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        if let Some(qname) = self.qname {
            out.extend_from_slice(&wire_name(qname));
            out.extend_from_slice(&self.qtype.to_be_bytes());
            out.extend_from_slice(&self.qclass.to_be_bytes());
        }
        if let Some(Edns { payload_octets, version, dnssec_ok, options }) = &self.edns {
            let mut rdata = Vec::new();
            for (code, octets) in options {
                rdata.extend_from_slice(&code.to_be_bytes());
                rdata.extend_from_slice(&(octets.len() as u16).to_be_bytes());
                rdata.extend_from_slice(octets);
            }
            out.extend_from_slice(&[0, 0, 41]);
            out.extend_from_slice(&payload_octets.to_be_bytes());
            out.extend_from_slice(&[0, *version, u8::from(*dnssec_ok) << 7, 0]);
            out.extend_from_slice(&(rdata.len() as u16).to_be_bytes());
            out.extend_from_slice(&rdata);
        }
        if self.tsig {
            // RFC 8945 §4.2: owner is the key's name, class ANY, TTL 0.
            let rdata =
                [&wire_name("hmac-sha256")[..], &[0; 6], &[1, 44], &[0, 2, 9, 9], &[0x12, 0x34], &[0; 4]];
            let rdata = rdata.concat();
            out.extend_from_slice(&wire_name("key.test"));
            out.extend_from_slice(&[0, 250, 0, 255, 0, 0, 0, 0]);
            out.extend_from_slice(&(rdata.len() as u16).to_be_bytes());
            out.extend_from_slice(&rdata);
        }
        out
    }
}

pub(crate) fn wire_name(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in text.split('.').filter(|label| !label.is_empty()) {
        out.push(label.len() as u8);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out
}
