//! A response in the caller's buffer: the question echoed, then sections in order, room kept for OPT, whole RRsets
//! or nothing.

use crate::edns::{OPT_OCTETS, option};
use crate::image::{self, Anchor, Image, Part};
use crate::message::{HEADER_OCTETS, Header, read_u16};
use crate::name::{self, MAX_NAME_OCTETS, NameRef};
use crate::query::PlainEdns;
use crate::rr::Rtype;

/// The sections that hold records.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Section {
    /// Answer.
    Answer,
    /// Authority.
    Authority,
    /// Additional.
    Additional,
}

/// What was to be written does not fit into the message's size.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("does not fit")]
pub struct Full;

/// Octets of the server's whole cookie with the client's part before it (RFC 9018 §4).
pub const COOKIE_OCTETS: usize = 24;

/// The OPT record of a response.
#[derive(Clone, Copy, Debug, Default)]
pub struct Opt<'a> {
    /// The largest UDP payload that we take.
    pub udp_payload_octets: u16,
    /// DO, echoed (RFC 3225 §3).
    pub dnssec_ok: bool,
    /// The client's cookie and ours.
    pub cookie: Option<[u8; COOKIE_OCTETS]>,
    /// Who answers (RFC 5001).
    pub nsid: Option<&'a [u8]>,
    /// How long an idle connection stays, in units of 100 ms (RFC 7828 §3.1).
    pub keepalive: Option<u16>,
    /// The info code of an Extended DNS Error; left out where it does not fit (RFC 8914 §3).
    pub extended_error: Option<u16>,
}

impl Opt<'_> {
    /// The octets it takes, the extended error not counted.
    #[must_use]
    pub fn octets(&self) -> usize {
        let cookie = if self.cookie.is_some() { COOKIE_OCTETS.saturating_add(4) } else { 0 };
        let nsid = self.nsid.map_or(0, |id| id.len().saturating_add(4));
        let keepalive = if self.keepalive.is_some() { 6 } else { 0 };
        OPT_OCTETS.saturating_add(cookie).saturating_add(nsid).saturating_add(keepalive)
    }
}

/// A response as it grows.
#[derive(Debug)]
pub struct Response<'b> {
    message: &'b mut [u8],
    at: usize,
    /// No record may end behind this; what OPT needs is kept behind it.
    limit: usize,
    counts: [u16; 3],
    has_question: bool,
}

/// A state of a response to go back to.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    at: usize,
    counts: [u16; 3],
}

impl<'b> Response<'b> {
    /// Begins a response to `packet`, whose question ends at `question_end` and is echoed with its case
    /// (12: without a question).
    ///
    /// `size`: the most octets that the client takes. `opt_octets`: what of them [`Response::finish`] will need.
    #[must_use]
    #[inline]
    pub fn new(
        message: &'b mut [u8],
        packet: &[u8],
        question_end: usize,
        size: usize,
        opt_octets: usize,
    ) -> Response<'b> {
        let size = size.min(message.len());
        let echoed = packet.get(..question_end).and_then(|question| {
            message.get_mut(..question_end)?.copy_from_slice(question);
            Some(question_end)
        });
        let at = echoed.unwrap_or(HEADER_OCTETS.min(message.len()));
        Response {
            message,
            at,
            limit: size.saturating_sub(opt_octets).max(at),
            counts: [0; 3],
            has_question: at > HEADER_OCTETS,
        }
    }

    /// Where the next record will begin.
    #[must_use]
    #[inline]
    pub fn position(&self) -> usize {
        self.at
    }

    /// Octets still free for records.
    #[must_use]
    pub fn room(&self) -> usize {
        self.limit.saturating_sub(self.at)
    }

    /// How many records a section has.
    #[must_use]
    pub fn count(&self, section: Section) -> u16 {
        let [answer, authority, additional] = self.counts;
        match section {
            Section::Answer => answer,
            Section::Authority => authority,
            Section::Additional => additional,
        }
    }

    /// The message so far.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        self.message.get(..self.at).unwrap_or_default()
    }

    /// The state now.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark { at: self.at, counts: self.counts }
    }

    /// Takes back all that was written since.
    pub fn reset(&mut self, mark: Mark) {
        self.at = mark.at;
        self.counts = mark.counts;
    }

    #[inline]
    fn add(&mut self, section: Section, records: u16) {
        let [answer, authority, additional] = &mut self.counts;
        let count = match section {
            Section::Answer => answer,
            Section::Authority => authority,
            Section::Additional => additional,
        };
        *count = count.saturating_add(records);
    }

    /// Writes the first part of an image, and the second when `both`; returns where the first part begins.
    ///
    /// `owner` is the name that the image was built for; `anchor` says where it stands in this message.
    ///
    /// # Errors
    /// [`Full`], with nothing written.
    #[inline]
    pub fn put(
        &mut self,
        section: Section,
        owner: NameRef<'_>,
        image: Image<'_>,
        both: bool,
        anchor: &Anchor,
    ) -> Result<usize, Full> {
        let mark = self.mark();
        let first_at = self.at;
        self.put_part(section, owner, image, image.first(), anchor, first_at)?;
        if both && let Err(full) = self.put_part(section, owner, image, image.second(), anchor, first_at) {
            self.reset(mark);
            return Err(full);
        }
        Ok(first_at)
    }

    /// Writes one part of an image whose first part begins at `first_at`.
    ///
    /// # Errors
    /// [`Full`], with nothing written.
    #[inline]
    pub fn put_part(
        &mut self,
        section: Section,
        owner: NameRef<'_>,
        image: Image<'_>,
        part: Part<'_>,
        anchor: &Anchor,
        first_at: usize,
    ) -> Result<(), Full> {
        if part.octets.len() > self.room() {
            return Err(Full);
        }
        let message = self.message.get_mut(..self.limit).ok_or(Full)?;
        if let Some(end) = image::place(part, anchor, first_at, message, self.at) {
            self.at = end;
            self.add(section, part.count);
            return Ok(());
        }
        self.put_expanded(section, owner, image, part, anchor)
    }

    /// Writes a part with every name in full: for messages so long that pointers do not reach.
    #[cold]
    fn put_expanded(
        &mut self,
        section: Section,
        owner: NameRef<'_>,
        image: Image<'_>,
        part: Part<'_>,
        anchor: &Anchor,
    ) -> Result<(), Full> {
        let mark = self.mark();
        // Long messages go over TCP, and seldom; this path may allocate.
        let mut rdata = Vec::new();
        for record in image::records(part.octets) {
            let pointer = read_u16(record.fixed, 0).unwrap_or(0);
            let name = image.owner_of(pointer, owner, anchor, self.message());
            rdata.clear();
            image.expand(owner, record, &mut rdata);
            let written = name.and_then(|name| {
                self.put_octets(&name)?;
                self.put_octets(record.fixed.get(2..10).unwrap_or_default())?;
                self.put_octets(&u16::try_from(rdata.len()).ok()?.to_be_bytes())?;
                self.put_octets(&rdata)
            });
            if written.is_none() {
                self.reset(mark);
                return Err(Full);
            }
        }
        self.add(section, part.count);
        Ok(())
    }

    fn put_octets(&mut self, octets: &[u8]) -> Option<()> {
        let end = self.at.checked_add(octets.len()).filter(|&end| end <= self.limit)?;
        self.message.get_mut(self.at..end)?.copy_from_slice(octets);
        self.at = end;
        Some(())
    }

    /// Writes the CNAME that a DNAME implies (RFC 6672 §3.1): `prefix` and the DNAME's target, which stands whole in
    /// this message at `target_at`. Returns where the new name begins.
    ///
    /// # Errors
    /// [`Full`], with nothing written.
    pub fn put_synthesised_cname(
        &mut self,
        owner: &Anchor,
        ttl: u32,
        prefix: &[u8],
        target: NameRef<'_>,
        target_at: usize,
    ) -> Result<usize, Full> {
        let mark = self.mark();
        let mut name_at = 0;
        let written = (|| {
            self.put_anchor(owner)?;
            let [a, b] = Rtype::CNAME.0.to_be_bytes();
            let [c, d, e, f] = ttl.to_be_bytes();
            self.put_octets(&[a, b, 0, 1, c, d, e, f])?;
            let pointer = u16::try_from(target_at).ok().filter(|&at| at < 0x4000);
            let tail_octets = if pointer.is_some() { 2 } else { target.as_wire().len() };
            let length = u16::try_from(prefix.len().saturating_add(tail_octets)).ok()?;
            self.put_octets(&length.to_be_bytes())?;
            name_at = self.at;
            self.put_octets(prefix)?;
            match pointer {
                Some(at) => self.put_octets(&(0xC000 | at).to_be_bytes()),
                None => self.put_octets(target.as_wire()),
            }
        })();
        if written.is_none() {
            self.reset(mark);
            return Err(Full);
        }
        self.add(Section::Answer, 1);
        Ok(name_at)
    }

    /// Writes a name that stands elsewhere in the message, as a pointer where one reaches.
    fn put_anchor(&mut self, anchor: &Anchor) -> Option<()> {
        match anchor.position(self.message()) {
            Some(at) => self.put_octets(&(0xC000 | u16::try_from(at).ok()?).to_be_bytes()),
            None => {
                let name = anchor.name(self.message())?;
                self.put_octets(&name)
            }
        }
    }

    /// Writes an image whose owner is `prefix` and a name that stands at `anchor`: a denial record's owner, whose
    /// first labels are nowhere in the message yet. Both parts.
    ///
    /// # Errors
    /// [`Full`], with nothing written.
    pub fn put_with_new_owner(
        &mut self,
        section: Section,
        owner: NameRef<'_>,
        prefix_octets: usize,
        image: Image<'_>,
        anchor: &Anchor,
    ) -> Result<(), Full> {
        let mark = self.mark();
        let mut owner_at = None;
        for part in [image.first(), image.second()] {
            for record in image::records(part.octets) {
                let start = self.at;
                let written = (|| {
                    match owner_at {
                        Some(at) => self.put_anchor(&Anchor::at(at))?,
                        None => {
                            self.put_octets(owner.as_wire().get(..prefix_octets)?)?;
                            self.put_anchor(anchor)?;
                        }
                    }
                    self.put_octets(record.fixed.get(2..)?)?;
                    self.put_octets(record.rdata)
                })();
                if written.is_none() {
                    self.reset(mark);
                    return Err(Full);
                }
                owner_at.get_or_insert(start);
            }
            self.add(section, part.count);
        }
        Ok(())
    }

    /// Ends the message: OPT when given, then the header with `flags` (all of its second word but the RCODE).
    /// Returns the message's length. `rcode` has 12 bits; without OPT only the lower 4 can be said.
    #[must_use]
    #[inline]
    pub fn finish(mut self, id: u16, flags: u16, rcode: u16, opt: Option<&Opt<'_>>, size: usize) -> usize {
        let mut additional = self.count(Section::Additional);
        if let Some(opt) = opt {
            self.limit = size.min(self.message.len());
            if self.put_opt(opt, rcode).is_some() {
                additional = additional.saturating_add(1);
            }
        }
        let header = Header {
            id,
            flags: flags | (rcode & 0x0F),
            qdcount: u16::from(self.has_question),
            ancount: self.count(Section::Answer),
            nscount: self.count(Section::Authority),
            arcount: additional,
        };
        header.write(self.message);
        self.at
    }

    #[inline]
    fn put_opt(&mut self, opt: &Opt<'_>, rcode: u16) -> Option<()> {
        let [size_high, size_low] = opt.udp_payload_octets.to_be_bytes();
        let [_, extended_rcode] = (rcode >> 4).to_be_bytes();
        let dnssec_ok = if opt.dnssec_ok { 0x80 } else { 0 };
        let length_at = self.at.saturating_add(9);
        self.put_octets(&[0, 0, 41, size_high, size_low, extended_rcode, 0, dnssec_ok, 0, 0, 0])?;
        if opt.cookie.is_none()
            && opt.nsid.is_none()
            && opt.keepalive.is_none()
            && opt.extended_error.is_none()
        {
            return Some(());
        }
        // The OPT itself is owed (RFC 6891 §6.1.1), and says half of the RCODE; each option is there where it fits.
        if let Some(cookie) = &opt.cookie {
            self.put_option(option::COOKIE, cookie);
        }
        if let Some(nsid) = opt.nsid {
            self.put_option(option::NSID, nsid);
        }
        if let Some(keepalive) = opt.keepalive {
            self.put_option(option::TCP_KEEPALIVE, &keepalive.to_be_bytes());
        }
        if let Some(code) = opt.extended_error {
            self.put_option(option::EXTENDED_ERROR, &code.to_be_bytes());
        }
        let length = self.at.saturating_sub(length_at).saturating_sub(2);
        let length = u16::try_from(length).ok()?;
        *self.message.get_mut(length_at..)?.first_chunk_mut()? = length.to_be_bytes();
        Some(())
    }

    /// An option, where it fits.
    fn put_option(&mut self, code: u16, value: &[u8]) {
        let before = self.mark();
        let written = (|| {
            self.put_octets(&code.to_be_bytes())?;
            self.put_octets(&u16::try_from(value.len()).ok()?.to_be_bytes())?;
            self.put_octets(value)
        })();
        if written.is_none() {
            self.reset(before);
        }
    }

    /// Writes one record with RDATA made up for this answer (RFC 8482 §4.2, CHAOS TXT), owned by the QNAME.
    ///
    /// # Errors
    /// [`Full`], with nothing written.
    pub fn put_made_up(&mut self, rtype: Rtype, class: u16, ttl: u32, rdata: &[&[u8]]) -> Result<(), Full> {
        let mark = self.mark();
        let written = (|| {
            let length = rdata.iter().fold(0usize, |sum, piece| sum.saturating_add(piece.len()));
            self.put_anchor(&Anchor::QNAME)?;
            self.put_octets(&rtype.0.to_be_bytes())?;
            self.put_octets(&class.to_be_bytes())?;
            self.put_octets(&ttl.to_be_bytes())?;
            self.put_octets(&u16::try_from(length).ok()?.to_be_bytes())?;
            rdata.iter().try_for_each(|piece| self.put_octets(piece))
        })();
        if written.is_none() {
            self.reset(mark);
            return Err(Full);
        }
        self.add(Section::Answer, 1);
        Ok(())
    }
}

/// A whole response of one section: question, records that need no pointers set, and an OPT without options.
///
/// `answers` are one RRset's records and, or nothing, its RRSIGs. `None`, with `out` in disorder, when it does not fit
/// into `size`, or pointers have to be set: then [`Response`] does it.
#[must_use]
#[inline]
pub fn compose_plain(
    out: &mut [u8],
    packet: &[u8],
    question_end: usize,
    header: Header,
    answers: [Part<'_>; 2],
    opt: Option<PlainEdns>,
    size: usize,
) -> Option<usize> {
    let [records, signatures] = answers;
    if !records.plain {
        return None;
    }
    let records_end = question_end.checked_add(records.octets.len())?;
    let signatures_end = records_end.checked_add(signatures.octets.len())?;
    let end = if opt.is_some() { signatures_end.checked_add(OPT_OCTETS)? } else { signatures_end };
    if end > size {
        return None;
    }
    out.get_mut(..question_end)?.copy_from_slice(packet.get(..question_end)?);
    out.get_mut(question_end..records_end)?.copy_from_slice(records.octets);
    if !signatures.octets.is_empty() {
        out.get_mut(records_end..signatures_end)?.copy_from_slice(signatures.octets);
    }
    if let Some(opt) = opt {
        let [a, b] = opt.udp_payload_octets.to_be_bytes();
        let dnssec_ok = if opt.dnssec_ok { 0x80 } else { 0 };
        let octets: [u8; OPT_OCTETS] = [0, 0, 41, a, b, 0, 0, dnssec_ok, 0, 0, 0];
        out.get_mut(signatures_end..end)?.copy_from_slice(&octets);
    }
    let ancount = records.count.checked_add(signatures.count)?;
    Header { qdcount: 1, ancount, nscount: 0, arcount: u16::from(opt.is_some()), ..header }.write(out);
    Some(end)
}

/// Appends to a finished message the TSIG that says that the key of the query's TSIG is not known: the same key name, algorithm, time and fudge,
/// no MAC, error BADKEY (RFC 8945 §5.3.2). Returns the new length; `None` when the query's TSIG does not parse.
///
/// # Errors
/// [`Full`] when it does not fit into `size`; the message is then unusable.
pub fn append_tsig_error(
    message: &mut [u8],
    len: usize,
    size: usize,
    packet: &[u8],
    tsig_at: usize,
) -> Result<Option<usize>, Full> {
    let Some(tsig) = Tsig::read(packet, tsig_at) else { return Ok(None) };
    let limit = size.min(message.len());
    let mut writer = Response { message, at: len, limit, counts: [0; 3], has_question: false };
    tsig.put_bad_key(&mut writer).ok_or(Full)?;
    let end = writer.at;
    let header = Header::read(message).ok_or(Full)?;
    Header { arcount: header.arcount.saturating_add(1), ..header }.write(message);
    Ok(Some(end))
}

/// What of a query's TSIG an error repeats.
struct Tsig<'a> {
    key: [u8; MAX_NAME_OCTETS],
    key_octets: usize,
    algorithm: &'a [u8],
    /// 8 octets.
    time_and_fudge: &'a [u8],
    original_id: [u8; 2],
}

impl<'a> Tsig<'a> {
    fn read(packet: &'a [u8], at: usize) -> Option<Tsig<'a>> {
        let mut key = [0u8; MAX_NAME_OCTETS];
        let (key_octets, fixed_at) = image::copy_name(packet, at, &mut key)?;
        let rdata_at = fixed_at.checked_add(10)?;
        let rdata_octets = usize::from(read_u16(packet, fixed_at.checked_add(8)?)?);
        let rdata = packet.get(rdata_at..)?.get(..rdata_octets)?;
        // RFC 8945 §4.2: algorithm, time, fudge, MAC size, MAC, original ID, error, other.
        let (algorithm, rest) = rdata.split_at_checked(name::wire_len(rdata).ok()?)?;
        let (time_and_fudge, rest) = rest.split_at_checked(8)?;
        let mac_octets = usize::from(read_u16(rest, 0)?);
        let original_id = *rest.get(mac_octets.checked_add(2)?..)?.first_chunk()?;
        Some(Tsig { key, key_octets, algorithm, time_and_fudge, original_id })
    }

    /// Writes the record that says BADKEY; `None` where it does not fit.
    fn put_bad_key(&self, response: &mut Response<'_>) -> Option<()> {
        const BADKEY: u16 = 17;
        response.put_octets(self.key.get(..self.key_octets)?)?;
        // Type TSIG, class ANY, TTL 0.
        response.put_octets(&[0, 250, 0, 255, 0, 0, 0, 0])?;
        let length = u16::try_from(self.algorithm.len().checked_add(16)?).ok()?;
        response.put_octets(&length.to_be_bytes())?;
        response.put_octets(self.algorithm)?;
        response.put_octets(self.time_and_fudge)?;
        response.put_octets(&[0, 0])?;
        response.put_octets(&self.original_id)?;
        response.put_octets(&BADKEY.to_be_bytes())?;
        response.put_octets(&[0, 0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_that_does_not_fit_is_left_out_and_the_opt_stays() {
        let nsid = [b'n'; 100];
        let opt = Opt {
            udp_payload_octets: 1232,
            dnssec_ok: false,
            cookie: Some([7; COOKIE_OCTETS]),
            nsid: Some(&nsid),
            keepalive: Some(3),
            extended_error: None,
        };
        const BADCOOKIE: u16 = 23;
        for (size, options) in
            [(26, 0), (29, 6), (50, 6), (51, 28), (57, 34), (154, 34), (155, 132), (161, 138)]
        {
            let mut message = [0; 200];
            let response =
                Response::new(&mut message, &[0; HEADER_OCTETS], HEADER_OCTETS, size, opt.octets());
            let length = response.finish(1, 0, BADCOOKIE, Some(&opt), size);
            assert_eq!(length, HEADER_OCTETS + OPT_OCTETS + options, "{size}");
            assert_eq!(
                (message[11], message[17], message[3]),
                (1, 1, 7),
                "{size}: an OPT that says BADCOOKIE"
            );
            assert_eq!(usize::from(message[22]), options, "{size}");
        }
    }
}
