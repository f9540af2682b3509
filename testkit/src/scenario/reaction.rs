//! What a scenario says must come back, and whether it did.

use anyhow::Result;

use crate::message::{Message, Record};

/// A stated response.
#[derive(Clone, Debug, Default)]
pub struct Reaction {
    /// The RCODE, extended.
    pub rcode: u16,
    /// AA.
    pub aa: bool,
    /// TC.
    pub tc: bool,
    /// RD.
    pub rd: bool,
    /// Whether the question is echoed.
    pub question: bool,
    /// The OPT.
    pub opt: Option<StatedOpt>,
    /// Answer, authority and additional section without OPT, each sorted.
    pub sections: [Vec<Record>; 3],
}

/// A stated OPT.
#[derive(Clone, Debug)]
pub struct StatedOpt {
    /// The UDP payload size announced.
    pub udp_payload_octets: u16,
    /// DO.
    pub dnssec_ok: bool,
    /// All options but the cookie, sorted.
    pub options: Vec<(u16, Vec<u8>)>,
    /// Whether there is a cookie: the client's 8 octets and 16 of ours (RFC 9018 §4).
    pub cookie: bool,
}

impl Default for StatedOpt {
    fn default() -> Self {
        StatedOpt { udp_payload_octets: 1232, dnssec_ok: false, options: Vec::new(), cookie: false }
    }
}

const COOKIE: u16 = 10;

impl Reaction {
    /// What of a response is not as stated.
    ///
    /// # Errors
    /// When the octets are not a message.
    pub fn faults(&self, query: &[u8], octets: &[u8]) -> Result<Vec<String>> {
        let got = Message::parse(octets)?;
        let mut faults = Vec::new();
        let mut check = |what: &str, same: bool| {
            if !same {
                faults.push(format!("{what} is not as stated"));
            }
        };
        check("ID", query.starts_with(&octets[..2]));
        check("opcode", got.opcode == (query[2] >> 3) & 15);
        check("RCODE", got.rcode == self.rcode);
        check("AA", got.aa == self.aa);
        check("TC", got.tc == self.tc);
        check("RD", got.rd == self.rd);
        check("QR, RA, Z, AD or CD", got.qr && !got.ra && !got.z && !got.ad && !got.cd);
        check("question", self.question_is_right(query, octets, &got));
        check("OPT", self.opt_is_right(query, &got));
        for (place, (stated, given)) in
            ["answer", "authority", "additional"].into_iter().zip(self.sections.iter().zip(got.sections()))
        {
            check(place, stated == given);
        }
        if !faults.is_empty() {
            faults.push(format!("got\n{got}stated\n{self:#?}"));
        }
        Ok(faults)
    }

    /// Octet for octet, case kept.
    fn question_is_right(&self, query: &[u8], octets: &[u8], got: &Message) -> bool {
        if !self.question {
            return got.questions.is_empty();
        }
        let [question] = &got.questions[..] else { return false };
        let end = 12 + question.qname.len() + 4;
        octets.get(12..end) == query.get(12..end)
    }

    fn opt_is_right(&self, query: &[u8], got: &Message) -> bool {
        let (Some(stated), Some(opt)) = (&self.opt, &got.opt) else {
            return self.opt.is_none() && got.opt.is_none();
        };
        let cookie = opt.options.iter().find(|(code, _)| *code == COOKIE).map(|(_, value)| value);
        let cookie_is_right = match cookie {
            None => !stated.cookie,
            // The client's half stands somewhere in its query.
            Some(value) => {
                stated.cookie
                    && value.len() == 24
                    && value[8..12] == [1, 0, 0, 0]
                    && query.windows(8).any(|octets| octets == &value[..8])
            }
        };
        let others = opt.options.iter().filter(|(code, _)| *code != COOKIE);
        cookie_is_right
            && opt.version == 0
            && opt.udp_payload_octets == stated.udp_payload_octets
            && opt.other_flags == 0
            && opt.dnssec_ok == stated.dnssec_ok
            && others.eq(&stated.options)
    }
}
