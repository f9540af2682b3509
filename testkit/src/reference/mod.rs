//! The naive, obviously right authoritative answerer: what the engine is compared with.
//!
//! Zones are plain lists of records, and every question walks them from end to end. Nothing is prepared, cached or
//! shared with `engine`; the code follows `docs/answers.md` and the RFCs that it cites line by line. It is slow on
//! purpose: clarity is its only merit. It composes no octets; [`Expected`] says what a right response holds, and
//! which parts may be missing when they do not fit.

mod additional;
mod chain;
mod cookie;
mod denial;
mod expected;
mod lookup;
mod query;
mod zone;

use std::net::IpAddr;

use godwit_wire::name::{Name, NameRef};
use godwit_wire::rr::Rtype;

pub use cookie::server_cookie;
pub(crate) use denial::nsec3_hash;
pub use expected::{Expected, ExpectedOpt, Signature, Unit};
pub(crate) use lookup::{Found, find};
pub use query::{Broken, Query, QueryOpt, Tsig, parse};
pub use zone::{World, Zone, ZoneRecord};

/// How the query came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transport {
    /// One datagram.
    Udp,
    /// A stream; the length prefix is not part of the octets.
    Tcp,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// The source address: part of the server cookie.
    pub address: IpAddr,
    /// How.
    pub transport: Transport,
}

/// What QTYPE ANY gets (`docs/answers.md` §10).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Any {
    /// One RRset over UDP without a valid cookie, else all.
    Minimal,
    /// One RRset always.
    AlwaysMinimal,
    /// All RRsets always.
    Full,
}

/// Cookie secrets (RFC 9018 §4.4).
#[derive(Clone, Copy, Debug)]
pub struct Cookies {
    /// Server cookies are made with this one.
    pub current: [u8; 16],
    /// And still accepted with this one.
    pub previous: Option<[u8; 16]>,
    /// BADCOOKIE for a wrong one over UDP.
    pub require: bool,
}

/// The settings that change answers.
#[derive(Clone, Debug)]
pub struct Settings {
    /// ANY policy.
    pub any: Any,
    /// NSID.
    pub nsid: Option<Vec<u8>>,
    /// Cookies; `None` is off.
    pub cookies: Option<Cookies>,
    /// The largest UDP response, and the size that our OPT announces.
    pub udp_payload_max: u16,
    /// Whether CNAME and DNAME targets are followed.
    pub resolve_cname_chain: bool,
    /// How many links an answer may have.
    pub max_cname_depth: u8,
    /// What `version.bind` says.
    pub version_bind: Option<Vec<u8>>,
    /// What `id.server` says.
    pub id_server: Option<Vec<u8>>,
    /// Idle timeout announced over TCP, in units of 100 ms.
    pub tcp_keepalive: Option<u16>,
    /// Whether there is data at all.
    pub serving: bool,
    /// Apexes of zones that are known and have no data. One that is held is none.
    pub without_data: Vec<Name>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            any: Any::Minimal,
            nsid: None,
            cookies: None,
            udp_payload_max: 1232,
            resolve_cname_chain: true,
            max_cname_depth: 10,
            version_bind: None,
            id_server: None,
            tcp_keepalive: None,
            serving: true,
            without_data: Vec::new(),
        }
    }
}

/// RCODEs that appear below (RFC 6895 §2.3).
pub mod rcode {
    #![allow(missing_docs, reason = "the names are those of the IANA registry")]
    pub const NOERROR: u16 = 0;
    pub const FORMERR: u16 = 1;
    pub const SERVFAIL: u16 = 2;
    pub const NXDOMAIN: u16 = 3;
    pub const NOTIMP: u16 = 4;
    pub const REFUSED: u16 = 5;
    pub const YXDOMAIN: u16 = 6;
    pub const NOTAUTH: u16 = 9;
    pub const BADVERS: u16 = 16;
    pub const BADCOOKIE: u16 = 23;
}

/// Info codes of extended errors (RFC 8914 §4).
mod ede {
    pub(super) const NOT_READY: u16 = 14;
    pub(super) const PROHIBITED: u16 = 18;
    pub(super) const NOT_AUTHORITATIVE: u16 = 20;
}

const CLASS_IN: u16 = 1;
const CLASS_CH: u16 = 3;
const OPCODE_QUERY: u8 = 0;
const OPCODE_NOTIFY: u8 = 4;
const OPCODE_UPDATE: u8 = 5;

/// The whole answer to one message; `None` is silence.
///
/// `now`: seconds since the epoch, for cookies. The rows are those of `docs/answers.md` §1.
#[must_use]
pub fn answer(
    world: &World,
    settings: &Settings,
    client: &Client,
    now: u32,
    packet: &[u8],
) -> Option<Expected> {
    // 1: no ID to answer to. 2: a response is never answered.
    if packet.len() < 12 || packet[2] & 0x80 != 0 {
        return None;
    }
    // 3, 4: only what a QUERY looks like is known.
    match (packet[2] >> 3) & 0xF {
        OPCODE_QUERY => {}
        OPCODE_NOTIFY | OPCODE_UPDATE => return Some(Expected::header_only(packet, rcode::REFUSED)),
        _ => return Some(Expected::header_only(packet, rcode::NOTIMP)),
    }
    // 5, 6, 8.
    let query = match parse(packet) {
        Ok(query) => query,
        Err(Broken { question, opt }) => {
            let header = packet[..12].try_into().expect("12 octets");
            let broken = Query { header, question, opt, tsig: None };
            let mut expected = Expected::new(&broken, settings, client.transport);
            if let Some(opt) = &mut expected.opt {
                opt.clear_options();
            }
            return Some(expected.error(rcode::FORMERR, None));
        }
    };
    Some(admit(world, settings, client, now, &query))
}

/// Rows 7 and on: the message is sound.
fn admit(world: &World, settings: &Settings, client: &Client, now: u32, query: &Query) -> Expected {
    let mut expected = Expected::new(query, settings, client.transport);
    let opt = query.opt.as_ref();
    if opt.is_some_and(|opt| opt.version > 0) {
        expected.opt.as_mut().expect("query has OPT").clear_options();
        return expected.error(rcode::BADVERS, None);
    }
    let cookie = opt.and_then(|opt| opt.cookie.as_deref()).zip(settings.cookies);
    let cookie_is_good = cookie.is_some_and(|(octets, secrets)| {
        [Some(secrets.current), secrets.previous]
            .into_iter()
            .flatten()
            .any(|secret| cookie::is_valid(octets, &secret, client.address, now))
    });
    let Some(question) = &query.question else {
        // 9, 10.
        let for_cookie = cookie.is_some();
        return if for_cookie { expected } else { expected.error(rcode::FORMERR, None) };
    };
    // 11: no key is known here, so none can be right (RFC 8945 §5.2.1).
    if let Some(tsig) = &query.tsig {
        expected.tsig = Some(tsig.clone());
        return expected.error(rcode::NOTAUTH, None);
    }
    // 12.
    if let Some((_, secrets)) = cookie
        && secrets.require
        && !cookie_is_good
        && client.transport == Transport::Udp
    {
        return expected.error(rcode::BADCOOKIE, None);
    }
    // 13, 14.
    if question.qclass == CLASS_CH
        && let Some(text) = chaos_text(settings, &query.qname())
        && matches!(Rtype(question.qtype), Rtype::TXT | Rtype::ANY)
    {
        expected.aa = true;
        expected.answer.push(Unit::chaos(&query.qname(), text));
        return expected;
    }
    if question.qclass != CLASS_IN {
        return expected.error(rcode::REFUSED, Some(ede::NOT_AUTHORITATIVE));
    }
    match Rtype(question.qtype) {
        // 15 to 17.
        Rtype::AXFR | Rtype::IXFR => return expected.error(rcode::REFUSED, Some(ede::PROHIBITED)),
        Rtype::MAILA | Rtype::MAILB => return expected.error(rcode::NOTIMP, None),
        Rtype::OPT | Rtype::TSIG | Rtype::TKEY => return expected.error(rcode::FORMERR, None),
        _ => {}
    }
    // 18.
    if !settings.serving {
        return expected.error(rcode::SERVFAIL, Some(ede::NOT_READY));
    }
    let qtype = Rtype(question.qtype);
    // 19.
    if without_data(world, settings, &query.qname(), qtype) {
        return expected.error(rcode::SERVFAIL, Some(ede::NOT_READY));
    }
    // 20.
    if world.zone_for(&query.qname(), qtype).is_none() {
        return expected.error(rcode::REFUSED, Some(ede::NOT_AUTHORITATIVE));
    }
    let all_types = match settings.any {
        Any::Full => true,
        Any::AlwaysMinimal => false,
        Any::Minimal => client.transport == Transport::Tcp || cookie_is_good,
    };
    let dnssec_ok = opt.is_some_and(|opt| opt.dnssec_ok);
    chain::Search { world, settings, qtype, dnssec_ok, all_types }.run(&query.qname(), &mut expected);
    expected
}

/// Whether the zone that has to answer for the name is known and has no data (`docs/answers.md` §4).
fn without_data(world: &World, settings: &Settings, name: &Name, qtype: Rtype) -> bool {
    // Every zone that is known, and whether it is without data; of two of one apex the one that is held.
    let known = || {
        let held = world.zones.iter().map(|zone| (&zone.apex, false));
        held.chain(settings.without_data.iter().map(|apex| (apex, true)))
    };
    let nearest = |name: &Name| {
        known()
            .filter(|(apex, _)| name.as_ref().is_at_or_below(apex.as_ref()))
            .max_by_key(|(apex, without)| (apex.as_wire().len(), !without))
            .map(|(_, without)| without)
    };
    let is_apex = known().any(|(apex, _)| apex == name);
    // RFC 4035 §3.1.4.1: DS belongs to the parent side of the cut.
    let above = name.as_ref().parent().filter(|_| qtype == Rtype::DS && is_apex).map(NameRef::to_owned);
    above.and_then(|above| nearest(&above)).or_else(|| nearest(name)).unwrap_or(false)
}

/// RFC 4892 §2 and its older siblings.
fn chaos_text<'s>(settings: &'s Settings, qname: &Name) -> Option<&'s [u8]> {
    match qname.to_string().as_str() {
        "version.bind." | "version.server." => settings.version_bind.as_deref(),
        "id.server." | "hostname.bind." => settings.id_server.as_deref(),
        _ => None,
    }
}
