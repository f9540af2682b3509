//! What never reaches a look-up: silence, FORMERR, NOTIMP, BADVERS, BADCOOKIE, REFUSED, questions about the server.
//!
//! The order of the checks is that of `docs/answers.md` §1; the first that applies decides.

use godwit_wire::edns::{Edns, ede};
use godwit_wire::message::{HEADER_OCTETS, Header, class, flag, opcode, rcode};
use godwit_wire::name::{MAX_NAME_OCTETS, NameRef};
use godwit_wire::query::{Plain, PlainEdns, QNAME_AT, Query};
use godwit_wire::response::{Full, Opt, Response, append_tsig_error};
use godwit_wire::rr::Rtype;

use super::cookie;
use super::settings::{Client, DropReason, Kind, Outcome, Readiness, Settings, Transport};

/// The question of a query that goes on to the zones, with what of its OPT concerns the answer.
#[derive(Clone)]
pub(super) struct Question {
    /// QNAME in lower case.
    name: [u8; MAX_NAME_OCTETS + 1],
    name_octets: u8,
    pub(super) labels: u8,
    pub(super) qtype: Rtype,
    pub(super) id: u16,
    /// The header's second word.
    pub(super) flags: u16,
    /// One past the question in the packet.
    pub(super) end: usize,
    edns: Option<Edns>,
    /// The OPT of a plain query; `edns` is then as some earlier query left it.
    pub(super) plain_edns: Option<PlainEdns>,
    /// The whole query was plain.
    pub(super) is_plain: bool,
    /// The client has shown that it receives at its address: TCP, or a valid server cookie.
    pub(super) proven: bool,
}

impl Question {
    pub(super) fn blank() -> Self {
        Question {
            name: [0; MAX_NAME_OCTETS + 1],
            name_octets: 1,
            labels: 0,
            qtype: Rtype(0),
            id: 0,
            flags: 0,
            end: HEADER_OCTETS,
            edns: None,
            plain_edns: None,
            is_plain: false,
            proven: false,
        }
    }

    #[inline]
    pub(super) fn name(&self) -> NameRef<'_> {
        NameRef::from_checked(self.name.get(..usize::from(self.name_octets)).unwrap_or(&[0]))
    }

    /// Whether RRSIGs and proofs are wanted.
    #[inline]
    pub(super) fn dnssec_ok(&self) -> bool {
        if self.is_plain {
            self.plain_edns.is_some_and(|edns| edns.dnssec_ok)
        } else {
            self.edns.as_ref().is_some_and(|edns| edns.dnssec_ok)
        }
    }

    /// Its OPT record.
    pub(super) fn edns(&self) -> Option<Edns> {
        if self.is_plain { self.plain_edns.map(PlainEdns::into) } else { self.edns }
    }

    #[inline]
    fn set_plain(&mut self, packet: &[u8], plain: Plain, transport: Transport) {
        let end = QNAME_AT + usize::from(plain.name_octets);
        self.set_name(packet.get(QNAME_AT..end).unwrap_or(&[0]), plain.labels);
        self.qtype = plain.qtype;
        self.id = plain.id;
        self.flags = plain.flags;
        self.end = end + 4;
        self.plain_edns = plain.edns;
        self.is_plain = true;
        self.proven = transport == Transport::Tcp;
    }

    #[inline]
    fn set_name(&mut self, qname: &[u8], labels: u8) {
        if let Some(slot) = self.name.get_mut(..qname.len()) {
            slot.copy_from_slice(qname);
            self.name_octets = u8::try_from(qname.len()).unwrap_or(u8::MAX);
            self.labels = labels;
        }
        // Sixteen octets at a time, what is behind the name included, so that no loop goes octet by octet. Length octets
        // are below `A`, so lowering all of it is right.
        let (chunks, _) = self.name.as_chunks_mut::<16>();
        for chunk in chunks.iter_mut().take(qname.len().div_ceil(16)) {
            *chunk = chunk.map(|octet| octet.to_ascii_lowercase());
        }
    }
}

/// What the reply to a packet needs besides its records.
pub(super) struct Frame<'a> {
    pub(super) settings: &'a Settings,
    pub(super) client: Client,
    pub(super) now: u32,
}

impl Frame<'_> {
    /// The OPT record of the response to a query with this one.
    #[inline]
    pub(super) fn opt(&self, edns: &Edns) -> Opt<'_> {
        let cookie = self
            .settings
            .cookies
            .as_ref()
            .zip(edns.cookie.as_ref())
            .map(|(secrets, theirs)| cookie::make(secrets, theirs, self.client.address, self.now));
        Opt {
            udp_payload_octets: self.settings.udp_payload_max,
            dnssec_ok: edns.dnssec_ok,
            cookie,
            nsid: self.settings.nsid.as_deref().filter(|_| edns.nsid),
            keepalive: self
                .settings
                .tcp_keepalive
                .filter(|_| edns.keepalive && self.client.transport == Transport::Tcp),
            extended_error: None,
        }
    }

    /// The most octets of the response (RFC 1035 §4.2.1, RFC 6891 §6.2.3). `udp_payload_octets`: as the query's OPT says.
    #[inline]
    pub(super) fn size(&self, udp_payload_octets: Option<u16>, room: usize) -> usize {
        let size = match (self.client.transport, udp_payload_octets) {
            (Transport::Tcp, _) => godwit_wire::message::MAX_MESSAGE_OCTETS,
            (Transport::Udp, None) => 512,
            (Transport::Udp, Some(octets)) => usize::from(octets.min(self.settings.udp_payload_max).max(512)),
        };
        size.min(room)
    }
}

/// Reads a packet into `question`, or answers it at once.
#[inline]
pub(super) fn admit(
    frame: &Frame<'_>,
    packet: &[u8],
    out: &mut [u8],
    question: &mut Question,
) -> Result<(), Outcome> {
    if let Some(plain) = Plain::read(packet)
        && frame.settings.ready == Readiness::Serving
    {
        question.set_plain(packet, plain, frame.client.transport);
        return Ok(());
    }
    admit_any(frame, packet, out, question)
}

/// [`admit`] for what is not plain.
fn admit_any(
    frame: &Frame<'_>,
    packet: &[u8],
    out: &mut [u8],
    question: &mut Question,
) -> Result<(), Outcome> {
    // As the query before left it: what is refused early has shown nothing, unless it came over TCP.
    question.proven = frame.client.transport == Transport::Tcp;
    let Some(header) = Header::read(packet) else { return Err(Outcome::dropped(DropReason::Short)) };
    if header.is_response() {
        return Err(Outcome::dropped(DropReason::Response));
    }
    match header.opcode() {
        opcode::QUERY => {}
        // Not enabled, and their bodies are not looked at.
        opcode::UPDATE | opcode::NOTIFY => return Err(header_only(&header, rcode::REFUSED, out)),
        _ => return Err(header_only(&header, rcode::NOTIMP, out)),
    }
    let query = match Query::parse(packet, header) {
        Ok(query) => query,
        Err(error) => {
            let question_end = error.question_end.filter(|_| header.qdcount == 1).unwrap_or(HEADER_OCTETS);
            let query = Query { header, question: None, question_end, edns: None, tsig_at: None };
            let reply = Reply { frame, packet, query: &query };
            // RFC 6891 §7.
            return Err(reply.send(rcode::FORMERR, error.edns.as_ref(), None, out));
        }
    };
    let reply = Reply { frame, packet, query: &query };
    if let Some(edns) = &query.edns {
        // RFC 6891 §6.1.3.
        if edns.version != 0 {
            return Err(reply.send(rcode::BADVERS, Some(&edns.without_options()), None, out));
        }
    }
    let Some(asked) = query.question else {
        // RFC 7873 §5.4: a query for a cookie alone; without, RFC 9619 §4.
        let for_cookie =
            frame.settings.cookies.is_some() && query.edns.is_some_and(|edns| edns.cookie.is_some());
        let rcode = if for_cookie { rcode::NOERROR } else { rcode::FORMERR };
        return Err(reply.send(rcode, query.edns.as_ref(), None, out));
    };
    if let Some(tsig_at) = query.tsig_at {
        return Err(reply.bad_key(tsig_at, out));
    }
    if let (Some(secrets), Some(cookie)) = (&frame.settings.cookies, query.edns.and_then(|edns| edns.cookie))
    {
        question.proven |= cookie::is_valid(secrets, &cookie, frame.client.address, frame.now);
        // RFC 7873 §5.2.3.
        if secrets.require && !question.proven {
            return Err(reply.send(rcode::BADCOOKIE, query.edns.as_ref(), None, out));
        }
    }
    if asked.qclass != class::IN {
        return Err(reply.other_class(asked.qname, asked.qtype, asked.qclass, out));
    }
    // Only 128–255 and OPT are of special meaning; data types pass at once.
    if !asked.qtype.is_data() {
        reply.meta_type(asked.qtype, out)?;
    }
    if frame.settings.ready == Readiness::NoData {
        return Err(reply.send(rcode::SERVFAIL, query.edns.as_ref(), Some(ede::NOT_READY), out));
    }
    question.set_name(asked.qname, asked.labels);
    question.is_plain = false;
    question.qtype = asked.qtype;
    question.id = header.id;
    question.flags = header.flags;
    question.end = query.question_end;
    question.edns = query.edns;
    Ok(())
}

/// A response of 12 octets: ID, opcode and RD of the query, and an RCODE.
fn header_only(header: &Header, rcode: u16, out: &mut [u8]) -> Outcome {
    if out.len() < HEADER_OCTETS {
        return Outcome::dropped(DropReason::NoRoom);
    }
    let flags = flag::QR | (header.flags & (flag::OPCODE | flag::RD)) | rcode;
    Header { id: header.id, flags, ..Header::default() }.write(out);
    Outcome::sent(HEADER_OCTETS, rcode)
}

/// A response that has no records.
pub(super) struct Reply<'a> {
    pub(super) frame: &'a Frame<'a>,
    pub(super) packet: &'a [u8],
    pub(super) query: &'a Query<'a>,
}

impl Reply<'_> {
    fn flags(&self) -> u16 {
        flag::QR | (self.query.header.flags & flag::RD)
    }

    /// Answers with the question echoed and no records.
    fn send(&self, rcode: u16, edns: Option<&Edns>, extended_error: Option<u16>, out: &mut [u8]) -> Outcome {
        self.send_with(0, rcode, edns, extended_error, out)
    }

    /// [`Reply::send`] with `flags` besides those that every response has.
    pub(super) fn send_with(
        &self,
        flags: u16,
        rcode: u16,
        edns: Option<&Edns>,
        extended_error: Option<u16>,
        out: &mut [u8],
    ) -> Outcome {
        let opt = edns.map(|edns| Opt { extended_error, ..self.frame.opt(edns) });
        let size = self.frame.size(edns.map(|edns| edns.udp_payload_octets), out.len());
        let reserved = opt.as_ref().map_or(0, Opt::octets);
        let response = Response::new(out, self.packet, self.query.question_end, size, reserved);
        let len = response.finish(self.query.header.id, self.flags() | flags, rcode, opt.as_ref(), size);
        Outcome::sent(len, rcode)
    }

    /// Nobody's key is known here (RFC 8945 §5.2.1, §5.3.2).
    fn bad_key(&self, tsig_at: usize, out: &mut [u8]) -> Outcome {
        const NOTAUTH: u16 = 9;
        let outcome = self.send(NOTAUTH, self.query.edns.as_ref(), None, out);
        let size = self.frame.size(self.query.edns.map(|edns| edns.udp_payload_octets), out.len());
        match append_tsig_error(out, outcome.len, size, self.packet, tsig_at) {
            Ok(Some(len)) => Outcome::sent(len, NOTAUTH),
            // A TSIG that does not parse (RFC 8945 §5.2): as for all that does not, the question is echoed.
            Ok(None) => {
                let edns = self.query.edns.map(Edns::without_options);
                self.send(rcode::FORMERR, edns.as_ref(), None, out)
            }
            // Names so long that not even the TSIG has room: it does over TCP (RFC 8945 §5.3).
            Err(Full) => self.send_with(flag::TC, NOTAUTH, self.query.edns.as_ref(), None, out),
        }
    }

    /// Class CH, and the rest (RFC 4892 §2).
    fn other_class(&self, qname: &[u8], qtype: Rtype, qclass: u16, out: &mut [u8]) -> Outcome {
        let is = |text: &[u8]| qname.eq_ignore_ascii_case(text);
        let settings = self.frame.settings;
        let text = match qclass {
            class::CH if !matches!(qtype, Rtype::TXT | Rtype::ANY) => None,
            class::CH if is(b"\x07version\x04bind\0") || is(b"\x07version\x06server\0") => {
                settings.version_bind.as_deref()
            }
            class::CH if is(b"\x02id\x06server\0") || is(b"\x08hostname\x04bind\0") => {
                settings.id_server.as_deref()
            }
            _ => None,
        };
        let Some(text) = text.filter(|text| text.len() <= 255) else {
            return self.send(rcode::REFUSED, self.query.edns.as_ref(), Some(ede::NOT_AUTHORITATIVE), out);
        };
        let edns = self.query.edns.as_ref();
        let opt = edns.map(|edns| self.frame.opt(edns));
        let size = self.frame.size(edns.map(|edns| edns.udp_payload_octets), out.len());
        let reserved = opt.as_ref().map_or(0, Opt::octets);
        let mut response = Response::new(out, self.packet, self.query.question_end, size, reserved);
        let length = [u8::try_from(text.len()).unwrap_or(u8::MAX)];
        let full = response.put_made_up(Rtype::TXT, class::CH, 0, &[&length, text]).is_err();
        let truncated = if full { flag::TC } else { 0 };
        let flags = self.flags() | flag::AA | truncated;
        let len = response.finish(self.query.header.id, flags, rcode::NOERROR, opt.as_ref(), size);
        // Of no zone, so of no account.
        Outcome { kind: Kind::Answer, ..Outcome::sent(len, rcode::NOERROR) }
    }

    fn meta_type(&self, qtype: Rtype, out: &mut [u8]) -> Result<(), Outcome> {
        let edns = self.query.edns.as_ref();
        match qtype {
            // RFC 5936 §2.2.1, RFC 8914 §4.19: nobody is allowed transfers here.
            Rtype::AXFR | Rtype::IXFR => Err(self.send(rcode::REFUSED, edns, Some(ede::PROHIBITED), out)),
            Rtype::MAILA | Rtype::MAILB => Err(self.send(rcode::NOTIMP, edns, None, out)),
            // RFC 6895 §3.1: not for questions.
            Rtype::OPT | Rtype::TSIG | Rtype::TKEY => Err(self.send(rcode::FORMERR, edns, None, out)),
            _ => Ok(()),
        }
    }
}
