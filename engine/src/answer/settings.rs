//! What an operator can choose about answers, and who asks.

use std::net::IpAddr;

use super::without_data::WithoutData;

/// What QTYPE ANY gets (RFC 8482).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum AnyPolicy {
    /// Over UDP without a valid server cookie one RRset; otherwise all.
    #[default]
    Minimal,
    /// Always one RRset.
    AlwaysMinimal,
    /// Always all RRsets.
    Full,
}

/// The secrets that server cookies are made with (RFC 9018).
#[derive(Clone, Eq, PartialEq)]
pub struct CookieSecrets {
    /// Makes new cookies.
    pub current: [u8; 16],
    /// Accepted too, for the time of a change of secrets: the one before, or the one to come.
    pub previous: Option<[u8; 16]>,
    /// A query over UDP with a cookie option but no valid server cookie gets BADCOOKIE (RFC 7873 §5.2.3).
    pub require: bool,
}

/// Whether there is data to answer from.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Readiness {
    /// The snapshot is what there is to serve.
    #[default]
    Serving,
    /// A feed is configured, and nothing has come from it: SERVFAIL, never NXDOMAIN.
    NoData,
}

/// The most links of an alias chain that can be configured.
pub const MAX_LINKS: u8 = 16;

/// What an operator can choose about answers.
#[derive(Clone)]
pub struct Settings {
    /// What QTYPE ANY gets.
    pub any: AnyPolicy,
    /// Our identifier for who asks (RFC 5001); none: the option is not answered.
    pub nsid: Option<Box<[u8]>>,
    /// Cookies (RFC 7873); none: the option is ignored.
    pub cookies: Option<CookieSecrets>,
    /// The largest UDP payload in octets that we send and take: 512 to 4096, 1232 to avoid fragments (RFC 9715).
    pub udp_payload_max: u16,
    /// Whether CNAME and DNAME targets are followed inside zones of one owner.
    pub resolve_cname_chain: bool,
    /// The most links in an answer; at most [`MAX_LINKS`].
    pub max_cname_depth: u8,
    /// The text for `version.bind` and `version.server`, at most 255 octets; none: REFUSED.
    pub version_bind: Option<Box<[u8]>>,
    /// The text for `id.server` and `hostname.bind`, at most 255 octets; none: REFUSED.
    pub id_server: Option<Box<[u8]>>,
    /// The idle time of TCP connections, in units of 100 ms, told to who asks (RFC 7828).
    pub tcp_keepalive: Option<u16>,
    /// Whether there is data.
    pub ready: Readiness,
    /// Zones that are known to be here and have no data: SERVFAIL for their names, never what a zone above says of them.
    pub without_data: WithoutData,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            any: AnyPolicy::default(),
            nsid: None,
            cookies: None,
            udp_payload_max: 1232,
            resolve_cname_chain: true,
            max_cname_depth: 10,
            version_bind: None,
            id_server: None,
            tcp_keepalive: None,
            ready: Readiness::default(),
            without_data: WithoutData::default(),
        }
    }
}

/// How a query came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transport {
    /// One datagram; the address may be forged.
    Udp,
    /// A connection; the address is true.
    Tcp,
}

/// Who asks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Client {
    /// The address that the query came from.
    pub address: IpAddr,
    /// How it came.
    pub transport: Transport,
}

/// Why a packet gets no answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DropReason {
    /// Fewer than 12 octets: there is no ID to answer to.
    Short,
    /// A response; to answer those makes loops.
    Response,
    /// The caller's buffer is too small for a header.
    NoRoom,
}

/// What kind of answer it is, for limits on how many of one kind go out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Kind {
    /// Records of the name asked for, or what leads from it elsewhere (CNAME, DNAME).
    Answer,
    /// To the name servers below a zone cut.
    Referral,
    /// The name exists, and has nothing of the type asked for.
    NoData,
    /// The name does not exist.
    NxDomain,
    /// Everything without records: a refusal, an error, a cookie alone.
    Error,
}

/// What came of a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Outcome {
    /// Octets of the answer; 0: send nothing.
    pub len: usize,
    /// The answer's RCODE, extended bits included; 0 when nothing is sent.
    pub rcode: u16,
    /// Why nothing is sent.
    pub drop: Option<DropReason>,
    /// What kind of answer it is.
    pub kind: Kind,
    /// What the answer is about, so that names made up at random share one number: the owner name of an [`Kind::Answer`]
    /// (the wildcard, the DNAME), the cut of a referral, the zone of NODATA and NXDOMAIN; 0 for an error and for what is
    /// not about records. A keyed hash, the same for as long as the process lives and unknown outside of it.
    pub account: u64,
    /// The client has shown that it receives at its address: TCP, or a valid server cookie.
    pub proven: bool,
}

impl Outcome {
    /// Nothing is sent, and the engine has no reason of its own for it.
    pub const NOTHING: Outcome =
        Outcome { len: 0, rcode: 0, drop: None, kind: Kind::Error, account: 0, proven: false };

    pub(super) fn dropped(reason: DropReason) -> Self {
        Outcome { drop: Some(reason), ..Outcome::NOTHING }
    }

    /// An answer about nothing in particular.
    pub(super) fn sent(len: usize, rcode: u16) -> Self {
        if len == 0 {
            Outcome::dropped(DropReason::NoRoom)
        } else {
            Outcome { len, rcode, ..Outcome::NOTHING }
        }
    }
}
