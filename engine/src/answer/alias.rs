//! Following CNAME and DNAME inside one owner's zones, bounded (design: at most `max_cname_depth` links).

use arrayvec::ArrayVec;
use godwit_wire::image::{self, Anchor};
use godwit_wire::message::rcode;
use godwit_wire::name::{MAX_NAME_OCTETS, NameRef};
use godwit_wire::response::{Full, Section};
use godwit_wire::rr::Rtype;

use super::denial::Proof;
use super::lookup::{self, Match};
use super::reply::{Reply, Subject, lower_name};
use super::settings::MAX_LINKS;
use crate::snapshot::ZoneView;
use crate::snapshot::node::{Flags, Node};

/// Room for all links, and the name that they begin with.
const MOST_LINKS: usize = MAX_LINKS as usize + 1;

/// A link that was synthesised from a wildcard, and so needs a proof that its name does not exist.
#[derive(Clone, Copy)]
struct WildcardLink<'s> {
    zone: ZoneView<'s>,
    source: &'s Node,
    anchor: Anchor,
}

/// A chain of aliases from QNAME on.
pub(super) struct Chain<'r, 'a, 's> {
    reply: &'r mut Reply<'a, 's>,
    /// The owner of the zone that QNAME is in.
    owner_number: u32,
    /// Keyed hashes of the names that were looked up. Two names with one hash would end a chain early: nobody
    /// outside knows the key, and one pair in 2⁶⁴ is not worth the names themselves.
    seen: ArrayVec<u64, MOST_LINKS>,
    links: usize,
    wildcards: ArrayVec<WildcardLink<'s>, MOST_LINKS>,
    /// The DNAMEs written, and where their targets stand: none comes twice (RFC 2181 §5).
    dnames: ArrayVec<(&'s Node, usize), MOST_LINKS>,
}

/// How a chain goes on after a look-up.
enum Step {
    /// The response is whole.
    Done,
    /// At this octet of the message stands the next name.
    Next(usize),
}

impl<'r, 'a, 's> Chain<'r, 'a, 's> {
    /// A chain that begins in a zone of this owner.
    pub(super) fn new(reply: &'r mut Reply<'a, 's>, owner_number: u32) -> Self {
        Chain {
            reply,
            owner_number,
            seen: ArrayVec::new(),
            links: 0,
            wildcards: ArrayVec::new(),
            dnames: ArrayVec::new(),
        }
    }

    /// Answers from what QNAME met in `zone`, and from what each target meets in turn.
    pub(super) fn follow(mut self, first: Match<'s>, zone: ZoneView<'s>) -> Result<(), Full> {
        let question = self.reply.question;
        let names = self.reply.snapshot.names();
        let mut buffer = [0u8; MAX_NAME_OCTETS];
        let mut subject = Subject { name: question.name(), anchor: Anchor::QNAME };
        let (mut found, mut zone) = (first, zone);
        let settings = self.reply.frame.settings;
        let depth = usize::from(settings.max_cname_depth.min(MAX_LINKS));
        loop {
            let Step::Next(name_at) = self.step(zone, subject, found)? else { return Ok(()) };
            self.links += 1;
            if self.seen.is_empty() {
                let _bounded_by_links = self.seen.try_push(names.hash(question.name().as_wire()));
            }
            if !settings.resolve_cname_chain || self.links >= depth {
                return self.prove_links();
            }
            let Some(name) = lower_name(self.reply.response.message(), name_at, &mut buffer) else {
                return self.prove_links();
            };
            // One hash for the name serves the search for loops and the look-up.
            let hash = names.hash(name.as_wire());
            let looped = self.seen.contains(&hash) || self.seen.try_push(hash).is_err();
            // In a loop, and where another owner's zone begins or one without data, the links so far are the answer.
            if looped || self.reply.is_without_data(name) {
                return self.prove_links();
            }
            found = self.reply.side_asked(lookup::find_hashed(self.reply.snapshot, name, hash));
            match self.reply.zone_met_after(&found, zone) {
                Some(met) if met.owner_number() == self.owner_number => zone = met,
                _ => return self.prove_links(),
            }
            subject = Subject { name, anchor: Anchor::at(name_at) };
        }
    }

    fn step(&mut self, zone: ZoneView<'s>, subject: Subject<'_>, found: Match<'s>) -> Result<Step, Full> {
        let qtype = self.reply.question.qtype;
        match found {
            Match::OutOfZone => Ok(Step::Done),
            Match::Cut(cut) => {
                // The parent side answers for DS (RFC 4035 §3.1.4.1).
                if qtype == Rtype::DS && cut.name() == subject.name {
                    return self.exact(zone, subject, cut);
                }
                self.reply.authoritative = self.links > 0;
                let Chain { reply, wildcards, .. } = self;
                reply.referral(zone, subject, cut, |reply| prove_links(reply, wildcards))?;
                Ok(Step::Done)
            }
            Match::Dname(node) => self.dname(subject, node),
            Match::Exact(node) => self.exact(zone, subject, node),
            Match::Wildcard { source } => self.wildcard(zone, subject, source),
            Match::NxDomain { encloser } => {
                self.reply.rcode = rcode::NXDOMAIN;
                self.reply.negative(subject, zone)?;
                self.prove_links()?;
                self.reply.prove(zone, subject, Proof::NxDomain { encloser })?;
                Ok(Step::Done)
            }
        }
    }

    /// The name exists (RFC 1034 §4.3.2 step 3a).
    fn exact(&mut self, zone: ZoneView<'s>, subject: Subject<'_>, node: &'s Node) -> Result<Step, Full> {
        let at = self.reply.response.position();
        if self.reply.positive(subject, node, false)? {
            self.prove_links()?;
            self.additional(zone, subject, node, at);
            return Ok(Step::Done);
        }
        if let Some(step) = self.cname(subject, node, false)? {
            return Ok(step);
        }
        self.reply.negative(subject, zone)?;
        self.prove_links()?;
        self.reply.prove(zone, subject, Proof::NoData { node: Some(node) })?;
        Ok(Step::Done)
    }

    /// The name does not exist and is synthesised (RFC 4592 §3.3.1).
    fn wildcard(&mut self, zone: ZoneView<'s>, subject: Subject<'_>, source: &'s Node) -> Result<Step, Full> {
        let at = self.reply.response.position();
        if self.reply.positive(subject, source, true)? {
            self.prove_links()?;
            self.reply.prove(zone, subject, Proof::WildcardAnswer { source })?;
            self.additional(zone, subject, source, at);
            return Ok(Step::Done);
        }
        if let Some(step) = self.cname(subject, source, true)? {
            let _bounded_by_links =
                self.wildcards.try_push(WildcardLink { zone, source, anchor: subject.anchor });
            return Ok(step);
        }
        self.reply.negative(subject, zone)?;
        self.prove_links()?;
        self.reply.prove(zone, subject, Proof::WildcardNoData { source })?;
        Ok(Step::Done)
    }

    fn additional(&mut self, zone: ZoneView<'s>, subject: Subject<'_>, node: &'s Node, at: usize) {
        if let Some(image) = node.find(self.reply.question.qtype) {
            self.reply.additional(subject, zone.owner_number(), image, at);
        }
    }

    /// A stored CNAME, unless that itself is asked for.
    fn cname(&mut self, subject: Subject<'_>, node: &'s Node, wildcard: bool) -> Result<Option<Step>, Full> {
        let followed = !matches!(self.reply.question.qtype, Rtype::CNAME | Rtype::ANY);
        let image = node.find(Rtype::CNAME).filter(|_| followed && node.flags().has(Flags::CNAME));
        let Some(image) = image else { return Ok(None) };
        let skip = subject.name.as_wire().len().saturating_sub(node.name().as_wire().len());
        let anchor = if wildcard { subject.anchor.synthesised(skip) } else { subject.anchor };
        let dnssec_ok = self.reply.dnssec_ok();
        let at = self.reply.response.put(Section::Answer, node.name(), image, dnssec_ok, &anchor)?;
        // Where names were written in full, the RDATA is not where the image has it.
        let at = image::first_rdata(self.reply.response.message(), at).ok_or(Full)?;
        Ok(Some(Step::Next(at)))
    }

    /// A DNAME above the name, and the CNAME that it implies (RFC 6672 §3.1).
    fn dname(&mut self, subject: Subject<'_>, node: &'s Node) -> Result<Step, Full> {
        let Some(image) = node.find(Rtype::DNAME) else { return Ok(Step::Done) };
        let owner = subject.suffix(node.name());
        let written = self.dnames.iter().find(|(written, _)| written.name() == node.name());
        let target_at = match written {
            Some(&(_, target_at)) => target_at,
            None => {
                let dnssec_ok = self.reply.dnssec_ok();
                let at = self.reply.response.put(Section::Answer, node.name(), image, dnssec_ok, &owner)?;
                let target_at = image::first_rdata(self.reply.response.message(), at).ok_or(Full)?;
                let _bounded_by_links = self.dnames.try_push((node, target_at));
                target_at
            }
        };
        let mut buffer = [0u8; MAX_NAME_OCTETS];
        let target = lower_name(self.reply.response.message(), target_at, &mut buffer).ok_or(Full)?;
        let prefix_octets = subject.name.as_wire().len().saturating_sub(node.name().as_wire().len());
        let prefix = subject.name.as_wire().get(..prefix_octets).unwrap_or_default();
        if prefix.len() + target.as_wire().len() > MAX_NAME_OCTETS {
            // RFC 6672 §2.2.
            self.reply.rcode = rcode::YXDOMAIN;
            self.prove_links()?;
            return Ok(Step::Done);
        }
        let anchor = subject.anchor;
        let at =
            self.reply.response.put_synthesised_cname(&anchor, image.ttl(), prefix, target, target_at)?;
        if matches!(self.reply.question.qtype, Rtype::CNAME | Rtype::ANY) {
            // RFC 1034 §4.3.2 step 3a: a CNAME that QTYPE matches is the answer (docs/answers.md §7).
            self.prove_links()?;
            return Ok(Step::Done);
        }
        Ok(Step::Next(at))
    }

    fn prove_links(&mut self) -> Result<(), Full> {
        prove_links(self.reply, &self.wildcards)
    }
}

/// The proofs of links that wildcards made: in their order, before that of the chain's end.
fn prove_links<'s>(reply: &mut Reply<'_, 's>, wildcards: &[WildcardLink<'s>]) -> Result<(), Full> {
    if !reply.dnssec_ok() {
        return Ok(());
    }
    for link in wildcards {
        let mut buffer = [0u8; MAX_NAME_OCTETS];
        let Some(octets) = link.anchor.copy_name(reply.response.message(), &mut buffer) else { continue };
        let Some(name) = buffer.get_mut(..octets) else { continue };
        name.make_ascii_lowercase();
        let subject = Subject { name: NameRef::from_checked(name), anchor: link.anchor };
        reply.prove(link.zone, subject, Proof::WildcardAnswer { source: link.source })?;
    }
    Ok(())
}
