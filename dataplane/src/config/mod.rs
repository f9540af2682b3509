//! What an operator may set: one typed structure, read once. Where its values come from is `load`, the command line
//! is `cli`. Nothing else in this crate reads the environment or a configuration file.
//!
//! Every key stands in a section, so that the environment can name it as `GODWIT_SECTION__KEY`. An unknown key is an
//! error.

pub mod cli;
mod feed;
mod load;
pub mod query_log;
mod rate_limit;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use feed::Feed;
pub use load::{ConfigError, DEFAULT_FILE, Layers, load};
pub use query_log::{QueryLog, QueryLogFormat, QueryLogMode, QueryLogTarget};
pub use rate_limit::{Mode, RateLimit};

use crate::serve::limit::TcpLimits;
use crate::sys::socket::UdpOptions;

/// Everything that may be set. `Config::default()` is what runs without any setting.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Addresses, workers, user, folders.
    pub server: Server,
    /// Zone files.
    pub zones: Zones,
    /// What applying a change may take.
    pub feed: Feed,
    /// Datagrams.
    pub udp: Udp,
    /// Connections.
    pub tcp: Tcp,
    /// What is answered.
    pub answers: Answers,
    /// DNS cookies (RFC 7873).
    pub cookies: Cookies,
    /// How many answers one client network gets over UDP.
    pub rate_limit: RateLimit,
    /// Metrics and health over HTTP.
    pub metrics: Metrics,
    /// What the process keeps itself from.
    pub sandbox: Sandbox,
    /// Logs.
    pub log: Log,
    /// The log of queries.
    pub query_log: QueryLog,
    /// The file that was read, if one was. Not to be set: it says where a successor will read.
    #[serde(skip)]
    pub file: Option<PathBuf>,
}

/// The address served when none is given.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:5300";
/// Where metrics are served when nothing is said.
pub const DEFAULT_METRICS: &str = "127.0.0.1:9153";

/// `[server]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Addresses with ports to answer at, each by UDP and TCP. Default: none given, which means 127.0.0.1:5300, or
    /// the sockets that a supervisor hands over.
    pub listen: Vec<SocketAddr>,
    /// Workers for UDP, and as many for TCP. Default: one per CPU that the process may use; each UDP worker stays on
    /// one of them.
    pub workers: Option<NonZeroUsize>,
    /// The user to become once all sockets are bound. Default: stay who we are.
    pub user: Option<String>,
    /// Folder for the local snapshot, from which a start needs nothing else. Default: none is kept.
    pub state: Option<PathBuf>,
    /// What `godwit node add` printed, or `@FILE` with it: records come from that control plane. Default: what is kept in
    /// `state` from an earlier start.
    #[serde(skip_serializing)]
    pub join: Option<String>,
    /// Milliseconds that TCP connections get to end after a stop was asked for. Default 5000.
    pub drain_timeout_ms: u64,
    /// Milliseconds that a new process may take at a handover until it says that it is ready; after that it is
    /// ended and the old one goes on. Default 600000, as loading may take long.
    pub handover_timeout_ms: u64,
}

impl Default for Server {
    fn default() -> Self {
        Server {
            listen: Vec::new(),
            workers: None,
            user: None,
            state: None,
            join: None,
            drain_timeout_ms: 5_000,
            handover_timeout_ms: 600_000,
        }
    }
}

/// `[zones]`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Zones {
    /// Zone file by origin. Default: none.
    pub files: BTreeMap<String, PathBuf>,
    /// A file of `origin<TAB>zone file` lines, or a folder of `ORIGIN.zone` files. Default: none.
    pub path: Option<PathBuf>,
}

/// `[udp]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Udp {
    /// The longest answer over UDP in octets, 512–4096, whatever the client offers. Default 1232, which passes
    /// unfragmented nearly everywhere (RFC 9715).
    pub payload_octets: u16,
    /// Room for queries that wait, in octets. Default 655360: some 1,700 queries, under 10 ms of
    /// full load; more would only add delay.
    pub receive_buffer_octets: usize,
    /// Room for answers that wait, in octets. Default 1048576.
    pub send_buffer_octets: usize,
    /// Which worker gets a datagram: `hash` of its addresses (default), or the `cpu` that received it, where each
    /// CPU has its own receive queue.
    pub steering: Steering,
}

impl Default for Udp {
    fn default() -> Self {
        let options = UdpOptions::default();
        Udp {
            payload_octets: 1232,
            receive_buffer_octets: options.receive_buffer_octets,
            send_buffer_octets: options.send_buffer_octets,
            steering: Steering::Hash,
        }
    }
}

impl Udp {
    /// For the sockets.
    #[must_use]
    pub fn options(&self) -> UdpOptions {
        UdpOptions {
            receive_buffer_octets: self.receive_buffer_octets,
            send_buffer_octets: self.send_buffer_octets,
        }
    }
}

/// See [`Udp::steering`].
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Steering {
    /// By addresses and ports.
    #[default]
    Hash,
    /// By receiving CPU.
    Cpu,
}

/// `[tcp]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tcp {
    /// Milliseconds that a connection may ask nothing. Default 10000; a quarter of it when places run out.
    pub idle_timeout_ms: u64,
    /// Milliseconds from a message's first octet to its last. Default 500.
    pub message_deadline_ms: u64,
    /// Milliseconds that answers may wait to be fetched. Default 5000.
    pub send_deadline_ms: u64,
    /// Connections in all. Default 10000.
    pub max_connections: usize,
    /// Connections of one IPv4 address or IPv6 /64. Default 256.
    pub max_connections_per_client: usize,
    /// Connections of one network. Default 1024.
    pub max_connections_per_network: usize,
    /// Leading bits that the IPv4 addresses of one network share, 1–32. Default 24.
    pub network_ipv4_bits: u8,
    /// Likewise for IPv6, 1–128. Default 48.
    pub network_ipv6_bits: u8,
    /// Queries of one connection. Default 1000000: what a turn costs is bounded otherwise; this only moves
    /// long-lived clients to a new place now and then.
    pub max_queries_per_connection: u64,
    /// Octets of answers to compose before writing. Default 65536.
    pub max_unsent_octets: usize,
    /// Octets that all connections together may hold, those in the kernel's queues included; 4096 are counted for each
    /// that holds nothing, and 12288 are set aside for each of `max_connections`. Default 268435456.
    pub max_memory_octets: usize,
}

impl Default for Tcp {
    fn default() -> Self {
        let limits = TcpLimits::default();
        let milliseconds = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Tcp {
            idle_timeout_ms: milliseconds(limits.idle_timeout),
            message_deadline_ms: milliseconds(limits.message_deadline),
            send_deadline_ms: milliseconds(limits.send_deadline),
            max_connections: limits.max_connections,
            max_connections_per_client: limits.max_connections_per_client,
            max_connections_per_network: limits.max_connections_per_network,
            network_ipv4_bits: limits.network_ipv4_bits,
            network_ipv6_bits: limits.network_ipv6_bits,
            max_queries_per_connection: limits.max_queries_per_connection,
            max_unsent_octets: limits.max_unsent_octets,
            max_memory_octets: limits.max_memory_octets,
        }
    }
}

impl Tcp {
    /// For the workers.
    #[must_use]
    pub fn limits(&self) -> TcpLimits {
        TcpLimits {
            idle_timeout: Duration::from_millis(self.idle_timeout_ms),
            message_deadline: Duration::from_millis(self.message_deadline_ms),
            send_deadline: Duration::from_millis(self.send_deadline_ms),
            max_connections: self.max_connections,
            max_connections_per_client: self.max_connections_per_client,
            max_connections_per_network: self.max_connections_per_network,
            network_ipv4_bits: self.network_ipv4_bits,
            network_ipv6_bits: self.network_ipv6_bits,
            max_queries_per_connection: self.max_queries_per_connection,
            max_unsent_octets: self.max_unsent_octets,
            max_memory_octets: self.max_memory_octets,
        }
    }
}

/// `[answers]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Answers {
    /// QTYPE ANY (RFC 8482). Default `minimal`.
    pub any: Any,
    /// The name server identifier (RFC 5001), sent to who asks for it. Default: none.
    pub nsid: Option<String>,
    /// The answer to `version.bind CH TXT`. Default: none, refused.
    pub version_bind: Option<String>,
    /// The answer to `id.server CH TXT` (RFC 4892). Default: none, refused.
    pub id_server: Option<String>,
    /// Follow CNAME and DNAME inside zones of the same owner. Default true.
    pub resolve_cname_chain: bool,
    /// Links followed at most, 1–10. Default 10.
    pub max_cname_depth: u8,
}

impl Default for Answers {
    fn default() -> Self {
        Answers {
            any: Any::Minimal,
            nsid: None,
            version_bind: None,
            id_server: None,
            resolve_cname_chain: true,
            max_cname_depth: 10,
        }
    }
}

/// See [`Answers::any`].
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Any {
    /// One RRset over UDP without a valid server cookie, else all.
    #[default]
    Minimal,
    /// One RRset always.
    AlwaysMinimal,
    /// All RRsets always.
    Full,
}

/// `[cookies]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cookies {
    /// Whether cookies are given and checked. Default true.
    pub enabled: bool,
    /// A file with the secret that all servers of an anycast address share: 32 hexadecimal digits on the first line;
    /// on the second, if there is one, another secret whose cookies are accepted too. Read again at SIGHUP. Default: random
    /// at each start.
    pub secrets_file: Option<PathBuf>,
    /// Answer BADCOOKIE over UDP to who sends a cookie, but no valid server cookie. Default false.
    pub require: bool,
}

impl Default for Cookies {
    fn default() -> Self {
        Cookies { enabled: true, secrets_file: None, require: false }
    }
}

/// `[metrics]`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Address with port for `/metrics`, `/health` and `/ready`, or `off`. Default 127.0.0.1:9153 when that is free.
    pub listen: Option<OrOff>,
}

/// An address, or none.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum OrOff {
    /// Not served.
    Off,
    /// Served there.
    At(SocketAddr),
}

impl FromStr for OrOff {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(OrOff::Off);
        }
        text.parse()
            .map(OrOff::At)
            .map_err(|_| format!("\"{text}\" is not an address with a port, as 127.0.0.1:9153, nor \"off\""))
    }
}

impl TryFrom<String> for OrOff {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for OrOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OrOff::Off => f.write_str("off"),
            OrOff::At(address) => address.fmt(f),
        }
    }
}

impl From<OrOff> for String {
    fn from(value: OrOff) -> String {
        value.to_string()
    }
}

/// `[sandbox]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sandbox {
    /// `on` (default): what the kernel has of it; `required`: no start where the kernel lacks a part; `off`.
    pub mode: SandboxMode,
    /// Close the file system and TCP ports with landlock. Default true.
    pub landlock: bool,
    /// Allow only the system calls that are needed, with seccomp. Default true.
    pub seccomp: bool,
    /// Folders to be read from later besides those of the zone files at the start: where a list may name new ones, or the
    /// folder above one that is exchanged whole. Default: none.
    pub read: Vec<PathBuf>,
    /// Folders to be written to besides the state folder. Default: none.
    pub write: Vec<PathBuf>,
}

impl Default for Sandbox {
    fn default() -> Self {
        Sandbox { mode: SandboxMode::On, landlock: true, seccomp: true, read: Vec::new(), write: Vec::new() }
    }
}

/// See [`Sandbox::mode`].
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SandboxMode {
    /// Best effort.
    #[default]
    On,
    /// All or nothing.
    Required,
    /// Privileges are dropped by `server.user` alone.
    Off,
}

/// `[log]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `text`, `json`, or `auto` (default): text on a terminal, JSON otherwise.
    pub format: LogFormat,
    /// What is logged: `error`, `warn`, `info` (default), `debug`, or a filter by module.
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Log { format: LogFormat::Auto, level: "info".to_owned() }
    }
}

/// See [`Log::format`].
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// By what standard error is.
    #[default]
    Auto,
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl Config {
    /// What no type can say: the first key that is out of its range, and what was expected.
    #[must_use]
    pub fn out_of_range(&self) -> Option<(&'static str, &'static str)> {
        let depth = self.answers.max_cname_depth;
        let tcp = &self.tcp;
        [
            ((512..=4096).contains(&self.udp.payload_octets), "udp.payload_octets", "512 to 4096"),
            (self.udp.receive_buffer_octets >= 4096, "udp.receive_buffer_octets", "at least 4096"),
            (self.udp.send_buffer_octets >= 4096, "udp.send_buffer_octets", "at least 4096"),
            ((1..=10).contains(&depth), "answers.max_cname_depth", "1 to 10"),
            (tcp.idle_timeout_ms >= 100, "tcp.idle_timeout_ms", "at least 100"),
            (tcp.message_deadline_ms >= 10, "tcp.message_deadline_ms", "at least 10"),
            (tcp.send_deadline_ms >= 10, "tcp.send_deadline_ms", "at least 10"),
            (tcp.max_connections >= 1, "tcp.max_connections", "at least 1"),
            (tcp.max_connections_per_client >= 1, "tcp.max_connections_per_client", "at least 1"),
            (tcp.max_connections_per_network >= 1, "tcp.max_connections_per_network", "at least 1"),
            ((1..=32).contains(&tcp.network_ipv4_bits), "tcp.network_ipv4_bits", "1 to 32"),
            ((1..=128).contains(&tcp.network_ipv6_bits), "tcp.network_ipv6_bits", "1 to 128"),
            (tcp.max_queries_per_connection >= 1, "tcp.max_queries_per_connection", "at least 1"),
            ((1024..=16 << 20).contains(&tcp.max_unsent_octets), "tcp.max_unsent_octets", "1024 to 16777216"),
            (tcp.max_memory_octets >= 1 << 20, "tcp.max_memory_octets", "at least 1048576"),
            (self.server.workers.is_none_or(|n| n.get() <= 1024), "server.workers", "1 to 1024"),
            (ring_fits(self.query_log.ring_octets), "query_log.ring_octets", "262144 to 1073741824"),
            (short_text(self.query_log.node.as_ref()), "query_log.node", "at most 255 octets"),
            (short_text(self.answers.nsid.as_ref()), "answers.nsid", "at most 255 octets"),
            (short_text(self.answers.version_bind.as_ref()), "answers.version_bind", "at most 255 octets"),
            (short_text(self.answers.id_server.as_ref()), "answers.id_server", "at most 255 octets"),
        ]
        .into_iter()
        .chain(self.feed.ranges())
        .chain(self.rate_limit.ranges())
        .find(|(right, ..)| !right)
        .map(|(_, key, expected)| (key, expected))
    }

    /// What one key makes another one need, once all layers are put together: a layer alone may well lack it.
    #[must_use]
    pub fn missing(&self) -> Option<(&'static str, &'static str)> {
        let Tcp { max_memory_octets, max_connections, .. } = self.tcp;
        [
            (self.query_log.has_target(), "query_log.target", "a target, as query_log.mode is not off"),
            (
                self.server.join.is_none() || self.server.state.is_some(),
                "server.state",
                "a folder (--state DIR), as server.join (--join) is set",
            ),
            (
                self.server.join.is_none() || (self.zones.files.is_empty() && self.zones.path.is_none()),
                "zones",
                "no zone files, as records come from the control plane of server.join (--join)",
            ),
            (
                max_memory_octets / TCP_PLACE_OCTETS >= max_connections,
                "tcp.max_memory_octets",
                "at least 16384 for each of tcp.max_connections",
            ),
        ]
        .into_iter()
        .find(|(right, ..)| !right)
        .map(|(_, key, expected)| (key, expected))
    }

    /// The effective values as text that can be read back as a configuration file (JSON, which is YAML). Secrets
    /// stand in files of their own and are not in it.
    #[must_use]
    pub fn to_text(&self) -> String {
        serde_json::to_string_pretty(self).expect("maps with text keys, numbers and text are always JSON")
    }
}

/// The least memory for each TCP connection that there may be: what is set aside for it, and a third of that again for
/// those that hold more.
const TCP_PLACE_OCTETS: usize = 16_384;

fn ring_fits(octets: usize) -> bool {
    (query_log::MIN_RING_OCTETS..=query_log::MAX_RING_OCTETS).contains(&octets)
}

/// One character string (RFC 1035 §3.3).
fn short_text(text: Option<&String>) -> bool {
    text.is_none_or(|text| text.len() <= 255)
}
