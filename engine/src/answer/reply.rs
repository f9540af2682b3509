//! A response while it is put together: what was found → sections, in their order, until something does not fit.

use arrayvec::ArrayVec;
use godwit_wire::edns::ede;
use godwit_wire::image::{self, Anchor, Image, Part};
use godwit_wire::message::{Header, flag, rcode};
use godwit_wire::name::{MAX_NAME_OCTETS, NameRef};
use godwit_wire::query::PlainEdns;
use godwit_wire::response::{Full, Opt, Response, Section, compose_plain};
use godwit_wire::rr::Rtype;

use super::admit::{Frame, Question};
use super::alias::Chain;
use super::denial::{self, Proof, Written};
use super::lookup::{Closest, Match, Place};
use super::settings::{AnyPolicy, Kind, Outcome};
use crate::snapshot::node::{Flags, Node};
use crate::snapshot::{Snapshot, ZoneView};

/// A response while it is put together.
pub(super) struct Reply<'a, 's> {
    pub(super) snapshot: &'s Snapshot,
    pub(super) frame: &'a Frame<'a>,
    pub(super) question: &'a Question,
    pub(super) response: Response<'a>,
    pub(super) rcode: u16,
    pub(super) authoritative: bool,
    pub(super) extended_error: Option<u16>,
    /// Denial records that stand in the authority section already.
    pub(super) written: Written<'s>,
}

/// A name that is answered for, and where it stands in the message.
#[derive(Clone, Copy)]
pub(super) struct Subject<'n> {
    pub(super) name: NameRef<'n>,
    pub(super) anchor: Anchor,
}

impl Subject<'_> {
    /// Where a name at or above this one stands: its suffix of so many octets.
    pub(super) fn suffix(&self, suffix: NameRef<'_>) -> Anchor {
        self.anchor.suffix(self.name.as_wire().len().saturating_sub(suffix.as_wire().len()))
    }

    /// Where records of a wildcard go whose name this is synthesised from.
    fn synthesised(&self, source: NameRef<'_>) -> Anchor {
        self.anchor.synthesised(self.name.as_wire().len().saturating_sub(source.as_wire().len()))
    }
}

/// Answers a question for which the index gave `closest`, the longest name at or above QNAME that exists.
#[inline]
pub(super) fn respond<'s>(
    snapshot: &'s Snapshot,
    frame: &Frame<'_>,
    question: &Question,
    closest: Option<Closest<'s>>,
    packet: &[u8],
    out: &mut [u8],
) -> Outcome {
    // The common query: the name exists, nothing redirects, and the RRset needs no company.
    if question.is_plain
        && let Some(Closest { node, hash }) = closest
        && node.name().as_wire().len() == question.name().as_wire().len()
        && !node.flags().has(Flags::CUT.with(Flags::OCCLUDED))
        && is_simple(question.qtype)
        && let Some(image) = node.find(question.qtype)
        && frame.settings.without_data.is_empty()
    {
        let signatures = if question.dnssec_ok() { image.second() } else { Part::NONE };
        let flags = flag::QR | flag::AA | (question.flags & flag::RD);
        let header = Header { id: question.id, flags, ..Header::default() };
        let edns = question.plain_edns;
        let size = frame.size(edns.map(|edns| edns.udp_payload_octets), out.len());
        let opt = edns.map(|edns| PlainEdns { udp_payload_octets: frame.settings.udp_payload_max, ..edns });
        let answers = [image.first(), signatures];
        if let Some(len) = compose_plain(out, packet, question.end, header, answers, opt, size) {
            let proven = question.proven;
            return Outcome {
                len,
                rcode: rcode::NOERROR,
                drop: None,
                kind: Kind::Answer,
                account: hash,
                proven,
            };
        }
    }
    respond_any(snapshot, frame, question, closest, packet, out)
}

/// [`respond`] for whatever takes more than one copy.
fn respond_any<'s>(
    snapshot: &'s Snapshot,
    frame: &Frame<'_>,
    question: &Question,
    closest: Option<Closest<'s>>,
    packet: &[u8],
    out: &mut [u8],
) -> Outcome {
    let edns = question.edns();
    let opt = edns.as_ref().map(|edns| frame.opt(edns));
    let size = frame.size(edns.map(|edns| edns.udp_payload_octets), out.len());
    let reserved = opt.as_ref().map_or(0, Opt::octets);
    let response = Response::new(out, packet, question.end, size, reserved);
    let base_flags = flag::QR | (question.flags & flag::RD);
    let mut reply = Reply {
        snapshot,
        frame,
        question,
        response,
        rcode: rcode::NOERROR,
        authoritative: true,
        extended_error: None,
        written: Written::default(),
    };
    let first = reply.first(closest);
    let full = reply.answer(first).is_err();
    let (kind, account) = reply.account(first, closest);
    let authoritative = if reply.authoritative { flag::AA } else { 0 };
    let flags = base_flags | authoritative | if full { flag::TC } else { 0 };
    let (rcode, extended_error) = (reply.rcode, reply.extended_error);
    let opt = opt.map(|opt| Opt { extended_error, ..opt });
    let len = reply.response.finish(question.id, flags, rcode, opt.as_ref(), size);
    Outcome { kind, account, proven: question.proven, ..Outcome::sent(len, rcode) }
}

/// So many targets of an answer, and name servers of a cut, are looked at for addresses that need not be there.
const MOST_TARGETS: usize = 64;

/// Types whose RRset is the whole answer: no additional section, and no rule of their own.
#[inline]
fn is_simple(qtype: Rtype) -> bool {
    !matches!(
        qtype,
        Rtype::NS
            | Rtype::MX
            | Rtype::SRV
            | Rtype::SVCB
            | Rtype::HTTPS
            | Rtype::DS
            | Rtype::ANY
            | Rtype::RRSIG
    )
}

impl<'s> Reply<'_, 's> {
    pub(super) fn dnssec_ok(&self) -> bool {
        self.question.dnssec_ok()
    }

    /// What QNAME meets.
    fn first(&self, closest: Option<Closest<'s>>) -> Match<'s> {
        let closest = closest.map(|closest| closest.node);
        self.side_asked(Place::Everywhere(self.snapshot).classify(self.question.name(), closest))
    }

    /// Writes all sections. [`Full`] means TC: what stands in the message stays, and nothing is added but OPT.
    fn answer(&mut self, first: Match<'s>) -> Result<(), Full> {
        if self.is_without_data(self.question.name()) {
            self.rcode = rcode::SERVFAIL;
            self.authoritative = false;
            self.extended_error = Some(ede::NOT_READY);
            return Ok(());
        }
        let Some(zone) = self.zone_met(&first) else {
            self.rcode = rcode::REFUSED;
            self.authoritative = false;
            self.extended_error = Some(ede::NOT_AUTHORITATIVE);
            return Ok(());
        };
        Chain::new(self, zone.owner_number()).follow(first, zone)
    }

    /// What kind of answer was written to a QNAME that met `first`, and on whose account it goes ([`Outcome::account`]).
    fn account(&self, first: Match<'s>, closest: Option<Closest<'s>>) -> (Kind, u64) {
        let kind = match self.rcode {
            rcode::NXDOMAIN => Kind::NxDomain,
            // Records of a chain stand before a name that came out too long.
            rcode::NOERROR | rcode::YXDOMAIN => match first {
                Match::Cut(_) if !self.authoritative => Kind::Referral,
                Match::OutOfZone => Kind::Error,
                _ if self.response.count(Section::Authority) > 0
                    && self.response.count(Section::Answer) == 0 =>
                {
                    Kind::NoData
                }
                _ => Kind::Answer,
            },
            _ => Kind::Error,
        };
        let owner = match (kind, first) {
            (Kind::Error, _) | (_, Match::OutOfZone) => return (kind, 0),
            (Kind::NxDomain | Kind::NoData, Match::Exact(node) | Match::Cut(node) | Match::Dname(node)) => {
                node.apex()
            }
            (Kind::NxDomain | Kind::NoData, Match::Wildcard { source }) => source.apex(),
            (_, Match::NxDomain { encloser }) => encloser.apex(),
            (_, Match::Exact(node) | Match::Cut(node) | Match::Dname(node)) => node.name(),
            (_, Match::Wildcard { source }) => source.name(),
        };
        let known = closest.filter(|closest| closest.node.name() == owner).map(|closest| closest.hash);
        (kind, known.unwrap_or_else(|| self.snapshot.names().hash(owner.as_wire())))
    }

    /// The side of a cut that answers: for DS at an apex the zone above, when it is held (RFC 4035 §3.1.4.1).
    pub(super) fn side_asked(&self, found: Match<'s>) -> Match<'s> {
        if self.question.qtype == Rtype::DS
            && let Match::Exact(node) = found
            && node.flags().has(Flags::APEX)
            && let Some(parent) = node.name().parent().and_then(|name| self.snapshot.zone_of(name))
        {
            return Place::Zone(parent).find(node.name());
        }
        found
    }

    /// Whether the zone that has to answer for a name is known to be here and has no data (docs/answers.md §4): then nothing
    /// that is held says anything about the name.
    pub(super) fn is_without_data(&self, name: NameRef<'_>) -> bool {
        let without_data = &self.frame.settings.without_data;
        if without_data.is_empty() {
            return false;
        }
        // Of the zone nearest to a name, held or not; `None` where there is neither.
        let nearest_is_without = |name: NameRef<'_>| {
            let without = without_data.nearest_octets(name);
            let held = Place::Everywhere(self.snapshot).closest(name);
            let held = held.map(|node| node.apex().as_wire().len());
            (without.is_some() || held.is_some()).then_some(without > held)
        };
        // DS belongs to the side above (RFC 4035 §3.1.4.1).
        let from_above = self.question.qtype == Rtype::DS
            && (without_data.has(name) || self.snapshot.zone(name).is_some());
        let above = name.parent().filter(|_| from_above).and_then(nearest_is_without);
        above.or_else(|| nearest_is_without(name)).unwrap_or(false)
    }

    /// The zone that a match was made in.
    fn zone_met(&self, found: &Match<'s>) -> Option<ZoneView<'s>> {
        self.zone_of(found.node()?)
    }

    /// The zone that a match was made in, after one in `near`: mostly that zone again, which saves the look-up.
    pub(super) fn zone_met_after(&self, found: &Match<'s>, near: ZoneView<'s>) -> Option<ZoneView<'s>> {
        let node = found.node()?;
        let again = !node.flags().has(Flags::APEX) && node.apex() == near.apex();
        if again { Some(near) } else { self.zone_of(node) }
    }

    fn zone_of(&self, node: &'s Node) -> Option<ZoneView<'s>> {
        if node.flags().has(Flags::APEX) { ZoneView::of(node) } else { self.snapshot.zone(node.apex()) }
    }

    /// The RRsets that answer QTYPE at a name that exists or is synthesised: whether there were any.
    pub(super) fn positive(
        &mut self,
        subject: Subject<'_>,
        node: &'s Node,
        wildcard: bool,
    ) -> Result<bool, Full> {
        let anchor = if wildcard { subject.synthesised(node.name()) } else { subject.anchor };
        match self.question.qtype {
            Rtype::ANY => self.any(node, &anchor),
            Rtype::RRSIG => self.signatures(node, &anchor),
            qtype => {
                let Some(image) = node.find(qtype) else { return Ok(false) };
                let dnssec_ok = self.dnssec_ok();
                self.response.put(Section::Answer, node.name(), image, dnssec_ok, &anchor)?;
                Ok(true)
            }
        }
    }

    /// Whether ANY and RRSIG get one RRset (RFC 8482 §4.1).
    fn is_minimal(&self) -> bool {
        match self.frame.settings.any {
            AnyPolicy::Minimal => !self.question.proven,
            AnyPolicy::AlwaysMinimal => true,
            AnyPolicy::Full => false,
        }
    }

    fn any(&mut self, node: &'s Node, anchor: &Anchor) -> Result<bool, Full> {
        let most = if self.is_minimal() { 1 } else { usize::MAX };
        let dnssec_ok = self.dnssec_ok();
        let mut any = false;
        for (_, image) in node.rrsets().take(most) {
            self.response.put(Section::Answer, node.name(), image, dnssec_ok, anchor)?;
            any = true;
        }
        Ok(any)
    }

    fn signatures(&mut self, node: &'s Node, anchor: &Anchor) -> Result<bool, Full> {
        let most = if self.is_minimal() { 1 } else { usize::MAX };
        let mut any = false;
        let signed = node.rrsets().filter(|(_, image)| image.second().count > 0);
        for (_, image) in signed.take(most) {
            let at = self.response.position();
            self.response.put_part(Section::Answer, node.name(), image, image.second(), anchor, at)?;
            any = true;
        }
        Ok(any)
    }

    /// NODATA and NXDOMAIN: the SOA with its negative TTL (RFC 2308 §2, §3).
    pub(super) fn negative(&mut self, subject: Subject<'_>, zone: ZoneView<'s>) -> Result<(), Full> {
        let Some(soa) = zone.apex.prepared() else { return Ok(()) };
        let dnssec_ok = self.dnssec_ok();
        let anchor = subject.suffix(zone.apex());
        self.response.put(Section::Authority, zone.apex(), soa, dnssec_ok, &anchor).map(|_| ())
    }

    /// The proofs that are due, where DO is set.
    pub(super) fn prove(
        &mut self,
        zone: ZoneView<'s>,
        subject: Subject<'_>,
        proof: Proof<'s>,
    ) -> Result<(), Full> {
        if self.dnssec_ok() { denial::prove(self, zone, subject, proof) } else { Ok(()) }
    }

    /// NS of a cut, then DS or the proof that there is none, then addresses (RFC 1034 §4.3.2 step 3b).
    pub(super) fn referral(
        &mut self,
        zone: ZoneView<'s>,
        subject: Subject<'_>,
        cut: &'s Node,
        proofs: impl FnOnce(&mut Self) -> Result<(), Full>,
    ) -> Result<(), Full> {
        let Some(image) = cut.prepared() else { return Ok(()) };
        let anchor = subject.suffix(cut.name());
        let first_at = self.response.position();
        self.response.put_part(Section::Authority, cut.name(), image, image.first(), &anchor, first_at)?;
        // Behind so long a chain that names were written in full, glue has nothing to point to: the client asks again
        // with the name at the chain's end.
        if self.response.position() != first_at.saturating_add(image.first().octets.len()) {
            return Err(Full);
        }
        if self.dnssec_ok() {
            // RFC 4035 §3.1.4.
            if let Some(ds) = cut.find(Rtype::DS) {
                self.response.put(Section::Authority, cut.name(), ds, true, &anchor)?;
                proofs(self)?;
            } else {
                proofs(self)?;
                let cut_subject = Subject { name: cut.name(), anchor };
                self.prove(zone, cut_subject, Proof::NoData { node: Some(cut) })?;
            }
        }
        self.required_glue(cut, image, &anchor, first_at)?;
        if cut.flags().has(Flags::OTHER_TARGETS) {
            self.other_addresses(zone, cut, image, first_at);
        }
        Ok(())
    }

    /// In-domain glue: all of it, or TC (RFC 9471 §3.1).
    fn required_glue(
        &mut self,
        cut: &'s Node,
        image: Image<'s>,
        anchor: &Anchor,
        first_at: usize,
    ) -> Result<(), Full> {
        let glue = image.second();
        if glue.count == 0 {
            return Ok(());
        }
        if self.response.put_part(Section::Additional, cut.name(), image, glue, anchor, first_at).is_ok() {
            return Ok(());
        }
        // Not all fits: whole RRsets while they do.
        for set in image::rrset_parts(glue) {
            self.response.put_part(Section::Additional, cut.name(), image, set, anchor, first_at)?;
        }
        Ok(())
    }

    /// Addresses of the other targets in the zone: while they fit (RFC 9471 §3.2).
    fn other_addresses(&mut self, zone: ZoneView<'s>, cut: &'s Node, image: Image<'s>, first_at: usize) {
        let mut name = [0u8; MAX_NAME_OCTETS];
        for offset in image::rdata_offsets(image.first()).take(MOST_TARGETS) {
            let at = first_at.saturating_add(offset);
            let Some(target) = lower_name(self.response.message(), at, &mut name) else { continue };
            if target.is_at_or_below(cut.name()) || !target.is_at_or_below(zone.apex()) {
                continue;
            }
            let node = if target == zone.apex() { Some(zone.apex) } else { zone.zone.get(target) };
            let Some(node) = node else { continue };
            let glue = node.flags().has(Flags::CUT.with(Flags::OCCLUDED));
            let signatures = self.dnssec_ok() && !glue;
            self.addresses(node, &Anchor::at(at), signatures);
        }
    }

    /// A and AAAA of a node into the additional section, each where it fits.
    fn addresses(&mut self, node: &'s Node, anchor: &Anchor, signatures: bool) {
        for rtype in [Rtype::A, Rtype::AAAA] {
            if let Some(image) = node.find(rtype) {
                let _fits = self.response.put(Section::Additional, node.name(), image, signatures, anchor);
            }
        }
    }

    /// What goes with NS, MX, SRV, SVCB and HTTPS: the addresses of their targets, inside zones of the same owner.
    ///
    /// `at`: where the answer's RRset begins in the message.
    pub(super) fn additional(
        &mut self,
        subject: Subject<'_>,
        owner_number: u32,
        image: Image<'s>,
        at: usize,
    ) {
        let before_target = match self.question.qtype {
            Rtype::NS => 0,
            Rtype::MX | Rtype::SVCB | Rtype::HTTPS => 2,
            Rtype::SRV => 6,
            _ => return,
        };
        let mut name = [0u8; MAX_NAME_OCTETS];
        let mut done = ArrayVec::<u64, MOST_TARGETS>::new();
        for offset in image::rdata_offsets(image.first()) {
            let rdata_at = at.saturating_add(offset);
            let target_at = rdata_at.saturating_add(before_target);
            let Some(target) = lower_name(self.response.message(), target_at, &mut name) else { continue };
            let service_binding = matches!(self.question.qtype, Rtype::SVCB | Rtype::HTTPS);
            // RFC 9460 §2.4.2.
            let alias_mode =
                service_binding && self.response.message().get(rdata_at..target_at) == Some(&[0, 0]);
            let (target, anchor) = if target.is_root() {
                // RFC 9460 §2.5.2: in ServiceMode, `.` is the owner itself.
                if alias_mode || !service_binding {
                    continue;
                }
                (subject.name, subject.anchor)
            } else {
                (target, Anchor::at(target_at))
            };
            // A message over TCP has room for thousands of targets; nobody needs them all (P7).
            let hash = self.snapshot.names().hash(target.as_wire());
            if done.contains(&hash) {
                continue;
            }
            if done.try_push(hash).is_err() {
                break;
            }
            let Some(node) = self.snapshot.names().get_hashed(hash, target.as_wire()) else { continue };
            if node.flags().has(Flags::CUT.with(Flags::OCCLUDED)) || self.is_without_data(target) {
                continue;
            }
            // Never across owners: what one tenant publishes is not told for another.
            if self.zone_of(node).is_some_and(|zone| zone.owner_number() == owner_number) {
                let signatures = self.dnssec_ok();
                self.addresses(node, &anchor, signatures);
                // RFC 9460 §4.1: what the client would ask for next.
                if alias_mode
                    && target != subject.name
                    && let Some(image) = node.find(self.question.qtype)
                {
                    let _fits =
                        self.response.put(Section::Additional, node.name(), image, signatures, &anchor);
                }
            }
        }
    }
}

/// The name at `at` of a message, in lower case.
pub(super) fn lower_name<'n>(
    message: &[u8],
    at: usize,
    name: &'n mut [u8; MAX_NAME_OCTETS],
) -> Option<NameRef<'n>> {
    let (octets, _) = image::copy_name(message, at, name)?;
    let name = name.get_mut(..octets)?;
    name.make_ascii_lowercase();
    Some(NameRef::from_checked(name))
}
