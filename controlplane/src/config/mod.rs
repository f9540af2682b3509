//! What an operator may set: one typed structure, read once. Where its values come from is [`load`].
//!
//! Every key stands in a section, so that the environment can name it as `GODWIT_SECTION__KEY`. An unknown key is an
//! error.

mod accounts;
mod audit;
mod egress;
mod jobs;
mod limits;
pub mod load;
mod mail;
mod names;
mod networks;
mod redis;
mod relay;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::Context as _;
use godwit_wire::feed::{MAX_ANNOUNCED_URLS, MAX_URL_OCTETS};
use serde::{Deserialize, Serialize, Serializer};

use crate::api::cors;
use crate::secrets::MasterPlaces;
use crate::secrets::masters::digits;
use crate::store::Place;
use crate::store::place::without_password;

pub use accounts::{Accounts, Jwt};
pub use audit::Audit;
pub use egress::Egress;
pub use jobs::Jobs;
pub use limits::{Limits, Rate};
pub use load::{ConfigError, Sources};
pub use mail::{Mail, Transport as MailTransport};
pub use names::Names;
pub use networks::{Networks, NoNetwork};
pub use redis::Redis;
pub use relay::Relay;

/// In the data folder, where nothing else is set.
const SECRETS_KEY: &str = "secrets.key";
/// The same.
const BUFFER: &str = "buffer.redb";
/// The same.
const MAIL: &str = "mail";
/// The same.
const AUDIT_ANCHORS: &str = "audit-anchors.jsonl";

/// Everything that may be set. `Config::default()` is what runs without any setting.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The listener and its limits.
    pub api: Api,
    /// The listener that data planes on other machines ask.
    pub internal: Internal,
    /// The database.
    pub store: Store,
    /// What takes writes while the database server is away.
    pub buffer: Buffer,
    /// What is done with changes before they are published.
    pub relay: Relay,
    /// Redis, from which data planes on other machines hear of changes.
    pub redis: Redis,
    /// Who may have an account, and for how long they are logged in.
    pub accounts: Accounts,
    /// The audit log.
    pub audit: Audit,
    /// Tokens of who has logged in.
    pub jwt: Jwt,
    /// How many requests somebody may send.
    pub limits: Limits,
    /// Which names tenants make zones of.
    pub names: Names,
    /// Calls to servers of others.
    pub egress: Egress,
    /// What new zones start with.
    pub defaults: Defaults,
    /// Which changes have to be confirmed.
    pub guard: Guard,
    /// Work outside of requests.
    pub jobs: Jobs,
    /// How mail is sent.
    pub mail: Mail,
    /// Metrics over HTTP.
    pub metrics: Metrics,
    /// Logs.
    pub log: Log,
}

/// `[api]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Api {
    /// Address and port. Default 127.0.0.1:8053. One that other machines can reach takes a certificate, or `allow_plaintext`.
    pub listen: SocketAddr,
    /// The program does not keep tenants apart, for tests of what the database does by itself. In no release.
    #[cfg(debug_assertions)]
    #[serde(skip)]
    pub without_checks: bool,
    /// The file with its certificate and those above it (PEM). It is read again when it has changed. Default none: no TLS.
    pub tls_certificate: Option<PathBuf>,
    /// The file with the key of the certificate (PEM). Default none.
    pub tls_key: Option<PathBuf>,
    /// Whether other machines may reach it without TLS: passwords and tokens go over the network in the clear then, so for one
    /// that nobody but a proxy reaches that has TLS itself. Default false.
    pub allow_plaintext: bool,
    /// How the API is reached: what its tokens are good for (`aud`), and where the links in mails lead. Default `https://`, or
    /// `http://` without TLS, and the address, so needed where that is none that others can reach.
    pub public_url: Option<String>,
    /// Origins of pages that may speak to the API from a browser, with a token, as `https://dns.example.net`: exact, without a path.
    /// Default none: its own pages alone.
    pub cors_origins: Vec<String>,
    /// Networks of proxies that are believed whom they speak for (`X-Forwarded-For`, `Forwarded`). Default none.
    pub trusted_proxies: Networks,
    /// Networks that requests may come from. Default none: any.
    pub allow: Networks,
    /// Networks that they may not come from, also where `allow` has them. Default none.
    pub deny: Networks,
    /// Milliseconds that a request may take until its answer begins. Default 30000.
    pub request_timeout_ms: u64,
    /// Milliseconds of these that its body may take to come. Default 20000.
    pub body_timeout_ms: u64,
    /// Milliseconds that TLS may take to begin. Default 10000.
    pub handshake_timeout_ms: u64,
    /// Milliseconds that a connection may be open, or idle after an answer, until a whole header has come. Default 10000.
    pub header_timeout_ms: u64,
    /// Milliseconds that an answer may wait for a client that does not read. Default 10000.
    pub write_timeout_ms: u64,
    /// The slowest that a client may read, in octets a second, once its answer has to wait for it: who reads slower uses up
    /// `write_timeout_ms`. Over HTTP/2 each answer by itself. Default 8192.
    pub read_octets_per_s: u32,
    /// Milliseconds that an export may take, a slow reader included. Default 300000.
    pub export_timeout_ms: u64,
    /// Milliseconds that open requests get to end after a stop was asked for. Default 5000.
    pub drain_timeout_ms: u64,
    /// Connections at once. Default 1024.
    pub max_connections: usize,
    /// Of which one client may have so many: one IPv4 address, or one IPv6 network of 64 bits. Default 128. All who come
    /// through a proxy are one client.
    pub max_connections_per_client: usize,
    /// Requests in flight at once, answers that are not read yet included. Default 512.
    pub max_requests: usize,
    /// Who may listen to events at once. Default 1024.
    pub max_listeners: usize,
    /// Of whom so many may be of one account. Default 64.
    pub max_listeners_per_account: usize,
    /// Octets of a request's header, its first line included. Default 16384.
    pub max_header_octets: usize,
    /// Octets of the bodies of all requests in flight together. Default 134217728.
    pub max_body_octets: usize,
}

impl Default for Api {
    fn default() -> Self {
        Api {
            #[cfg(debug_assertions)]
            without_checks: false,
            listen: SocketAddr::from(([127, 0, 0, 1], 8053)),
            tls_certificate: None,
            tls_key: None,
            allow_plaintext: false,
            public_url: None,
            cors_origins: Vec::new(),
            trusted_proxies: Networks::default(),
            allow: Networks::default(),
            deny: Networks::default(),
            handshake_timeout_ms: 10_000,
            request_timeout_ms: 30_000,
            body_timeout_ms: 20_000,
            header_timeout_ms: 10_000,
            write_timeout_ms: 10_000,
            read_octets_per_s: 8_192,
            export_timeout_ms: 300_000,
            drain_timeout_ms: 5_000,
            max_connections: 1_024,
            max_connections_per_client: 128,
            max_requests: 512,
            max_listeners: 1024,
            max_listeners_per_account: 64,
            max_header_octets: 16 << 10,
            max_body_octets: 128 << 20,
        }
    }
}

impl Api {
    /// How an API at an address is reached, without a slash at the end.
    #[must_use]
    pub fn reached_at(&self, address: SocketAddr) -> String {
        let url = self.public_url.as_deref().map(|url| url.trim_end_matches('/').to_owned());
        url.unwrap_or_else(|| format!("{}://{address}", self.scheme()))
    }

    /// `https`, or `http` where it has no certificate.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.tls_certificate.is_some() { "https" } else { "http" }
    }

    /// The first key that is missing, with all layers together, and what was expected.
    fn missing(&self) -> Option<(&'static str, &'static str)> {
        let public_is_plain = self.public_url.as_deref().is_some_and(|url| url.starts_with("http://"));
        [
            (
                self.tls_certificate.is_none() || self.tls_key.is_some(),
                "api.tls_key",
                "the file with the key of api.tls_certificate",
            ),
            (
                self.tls_key.is_none() || self.tls_certificate.is_some(),
                "api.tls_certificate",
                "the file with the certificate of api.tls_key",
            ),
            (
                self.tls_certificate.is_some() || self.allow_plaintext || is_here(self.listen.ip()),
                "api.tls_certificate",
                "a certificate (with api.tls_key), as other machines can reach api.listen and passwords and tokens would go \
                 there in the clear; or api.allow_plaintext = true, where nobody but a proxy with TLS can reach it",
            ),
            (
                self.tls_certificate.is_none() || !public_is_plain,
                "api.public_url",
                "a URL like https://dns.example.net, as the API has TLS",
            ),
        ]
        .into_iter()
        .find_map(|(good, key, expected)| (!good).then_some((key, expected)))
    }
}

/// An address that this machine alone reaches.
fn is_here(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// `[internal]`. How long a header may take and be, how long an answer may wait to be read, and how long requests get to end
/// is as `[api]` says.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Internal {
    /// Address and port, or `off`. Default 127.0.0.1:8054: nobody on another machine can ask until it is set.
    pub listen: Option<String>,
    /// What nodes are told; of several control planes on one database all of them, separated by commas: a node goes to the next
    /// when one does not answer. Default `https://` and the address, so needed where that is none they can reach.
    pub url: Option<String>,
    /// Networks that nodes may ask from. Default none: any.
    pub allow: Networks,
    /// Networks that they may not, also where `allow` has them. Default none.
    pub deny: Networks,
    /// Milliseconds that TLS may take to begin. Default 10000.
    pub handshake_timeout_ms: u64,
    /// Connections at once. Default 1024.
    pub max_connections: usize,
    /// Of which one client may have so many: one IPv4 address, or one IPv6 network of 64 bits. Default 128.
    pub max_connections_per_client: usize,
    /// Requests in flight at once; a node has one nearly all the time. Default 1024.
    pub max_requests: usize,
}

impl Default for Internal {
    fn default() -> Self {
        Internal {
            listen: None,
            url: None,
            allow: Networks::default(),
            deny: Networks::default(),
            handshake_timeout_ms: 10_000,
            max_connections: 1_024,
            max_connections_per_client: 128,
            max_requests: 1_024,
        }
    }
}

impl Internal {
    /// Where it listens; `None` when it is off.
    ///
    /// # Errors
    /// When the text is neither an address with port nor `off`.
    pub fn address(&self) -> Result<Option<SocketAddr>, std::net::AddrParseError> {
        match self.listen.as_deref() {
            Some("off") => Ok(None),
            Some(text) => text.parse().map(Some),
            None => Ok(Some(SocketAddr::from(([127, 0, 0, 1], 8054)))),
        }
    }

    /// What nodes are told of a listener at an address: the first is asked first.
    #[must_use]
    pub fn urls(&self, address: SocketAddr) -> Vec<String> {
        match &self.url {
            Some(urls) => urls.split(',').map(|url| url.trim().to_owned()).collect(),
            None => vec![format!("https://{address}")],
        }
    }

    /// Nodes can be told where it is.
    fn can_be_told(&self) -> bool {
        let has_address =
            self.address().is_ok_and(|address| address.is_none_or(|address| !address.ip().is_unspecified()));
        self.url.is_some() || has_address
    }
}

/// `[store]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// Folder of the database. Default ./godwit-data.
    pub data: PathBuf,
    /// A database of a PostgreSQL server instead, as postgres://user:password@host:5432/database. Default none.
    #[serde(serialize_with = "shown_without_password")]
    pub url: Option<String>,
    /// A file that holds nothing but the URL, which may hold a password. Default none.
    pub url_file: Option<PathBuf>,
    /// The file with the master key of secrets in the database, 32 octets or 64 hexadecimal digits: made by the first start,
    /// needed by every other one, on every machine. Default `secrets.key` in the data folder.
    pub secrets_key_file: Option<PathBuf>,
    /// The master key itself in place of the file, as 64 hexadecimal digits: for the environment. Default none.
    pub secrets_key: Option<Hidden>,
    /// The file with the master key that is to take its place, while it is changed. Default the name of the other file with
    /// `.next` behind it.
    pub secrets_next_key_file: Option<PathBuf>,
    /// Seconds for which a start tries to reach the server of `url`. Default 30.
    pub wait_seconds: u32,
    /// Connections that read. Default 4.
    pub readers: u32,
    /// Exports at once: each has a connection of its own. Default 2.
    pub exports: u32,
    /// Days for which changes and the history of zones are kept. Default 30.
    pub history_days: u32,
    /// Seconds from one count of all digests from the records to the next; 0 for never. Default 3600.
    pub recount_seconds: u32,
}

impl Default for Store {
    fn default() -> Self {
        Store {
            data: PathBuf::from("./godwit-data"),
            url: None,
            url_file: None,
            secrets_key_file: None,
            secrets_key: None,
            secrets_next_key_file: None,
            wait_seconds: 30,
            readers: 4,
            exports: 2,
            history_days: 30,
            recount_seconds: 3_600,
        }
    }
}

impl Store {
    /// Where master keys of secrets are.
    ///
    /// # Errors
    /// When the one that was given is none.
    pub(crate) fn master_places(&self) -> anyhow::Result<MasterPlaces> {
        let file = self.secrets_key_file.clone().unwrap_or_else(|| self.data.join(SECRETS_KEY));
        let next = self.secrets_next_key_file.clone().unwrap_or_else(|| {
            let mut name = file.clone().into_os_string();
            name.push(".next");
            name.into()
        });
        let given = self.secrets_key.as_ref().map(|key| digits(&key.0).context("store.secrets_key"));
        Ok(MasterPlaces { given: given.transpose()?, file, next })
    }

    /// The database of a server, where one is set.
    ///
    /// # Errors
    /// When the file with its URL cannot be read, or holds something else.
    pub fn server(&self) -> anyhow::Result<Option<Place>> {
        let wrong = |expected| anyhow::anyhow!("expected {expected}");
        if let Some(url) = &self.url {
            return Place::of_url(url).map(Some).map_err(wrong).context("store.url");
        }
        let Some(file) = &self.url_file else { return Ok(None) };
        let context = || format!("store.url_file {}", file.display());
        let url = std::fs::read_to_string(file).with_context(context)?;
        Place::of_url(url.trim()).map(Some).map_err(wrong).with_context(context)
    }
}

/// A setting that is shown to nobody.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Hidden(pub String);

/// In place of what is not shown.
const HIDDEN: &str = "(hidden)";

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Serialize for Hidden {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        HIDDEN.serialize(serializer)
    }
}

/// `[buffer]`: writes are accepted (202) while the database server is away. Not with SQLite.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Buffer {
    /// Whether they are; otherwise they are refused (503). Default true.
    pub enabled: bool,
    /// The file that they are kept in, of this process alone. Default `buffer.redb` in the data folder.
    pub file: Option<PathBuf>,
    /// Octets of the writes that are kept at once. Default 268435456.
    pub max_octets: u64,
    /// How many are. Default 100000.
    pub max_changes: u64,
    /// Seconds for which a token is taken after the database was last asked about it. Default 3600.
    pub token_seconds: u64,
}

impl Default for Buffer {
    fn default() -> Self {
        Buffer {
            enabled: true,
            file: None,
            max_octets: 256 << 20,
            max_changes: 100_000,
            token_seconds: 3_600,
        }
    }
}

impl Config {
    /// The file of the buffer.
    #[must_use]
    pub fn buffer_file(&self) -> PathBuf {
        self.buffer.file.clone().unwrap_or_else(|| self.store.data.join(BUFFER))
    }

    /// The file that says where the audit log stood, minute by minute.
    #[must_use]
    pub fn audit_anchors(&self) -> PathBuf {
        self.audit.anchors.clone().unwrap_or_else(|| self.store.data.join(AUDIT_ANCHORS))
    }

    /// The folder of mail that is kept in files.
    #[must_use]
    pub fn mail_folder(&self) -> PathBuf {
        self.mail.folder.clone().unwrap_or_else(|| self.store.data.join(MAIL))
    }
}

/// Some of what nodes can be told, separated by commas.
fn are_urls(urls: &str) -> bool {
    urls.split(',').count() as u64 <= MAX_ANNOUNCED_URLS && urls.split(',').all(|url| is_url(url.trim()))
}

/// `https://host:port`, which is all that nodes read.
fn is_url(url: &str) -> bool {
    let authority = url.strip_prefix("https://").map(|rest| rest.trim_end_matches('/'));
    let parts = authority.and_then(|authority| authority.rsplit_once(':'));
    url.len() <= MAX_URL_OCTETS
        && url.is_ascii()
        && parts.is_some_and(|(host, port)| {
            !host.is_empty() && !host.contains(['/', '@', ' ']) && port.parse::<u16>().is_ok()
        })
}

fn shown_without_password<S: Serializer>(url: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    url.as_deref().map(without_password).serialize(serializer)
}

/// `[defaults]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Defaults {
    /// Name servers of zones that are made without. Default localhost: right for one machine alone, so set it.
    pub ns: Vec<String>,
}

impl Default for Defaults {
    fn default() -> Self {
        Defaults { ns: vec!["localhost.".to_owned()] }
    }
}

/// `[guard]`. Deleting a zone that has more than SOA and NS has to be confirmed always.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Guard {
    /// Names whose records a change may take away unconfirmed where nothing but SOA and NS is left of the zone then. Default
    /// 1: a client that puts one name and deletes it again, as for an ACME challenge, has nothing to confirm.
    pub emptied_names: u64,
    /// Names of a zone that a change may change or take away unconfirmed, however small the zone. Default 1000.
    pub changed_names: u64,
    /// Percent of the names of a zone that it may, however many these are. Default 20.
    pub changed_percent: u8,
}

impl Default for Guard {
    fn default() -> Self {
        Guard { emptied_names: 1, changed_names: 1_000, changed_percent: 20 }
    }
}

/// `[metrics]`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Address and port, or `off`. Default 127.0.0.1:9154.
    pub listen: Option<String>,
}

/// `[log]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// What is logged: a level, or levels by module as in `info,godwit_controlplane=debug`. Default info.
    pub filter: String,
}

impl Default for Log {
    fn default() -> Self {
        Log { filter: "info".to_owned() }
    }
}

impl Config {
    /// The first key whose value is out of range, and what was expected.
    #[must_use]
    pub fn out_of_range(&self) -> Option<(&'static str, &'static str)> {
        let readers = 1..=64;
        let timeout = 100..=3_600_000;
        [
            (
                self.api.public_url.as_deref().is_none_or(accounts::is_public_url),
                "api.public_url",
                "a URL like https://dns.example.net, without a path",
            ),
            (
                self.mail.transport == MailTransport::Off
                    || self.api.public_url.is_some()
                    || is_here(self.api.listen.ip()),
                "api.public_url",
                "the URL that others reach it at, as links in mails lead there",
            ),
            (
                self.api.cors_origins.iter().all(|origin| cors::is_origin(origin)),
                "api.cors_origins",
                "origins like https://dns.example.net, without a path; neither * nor null",
            ),
            (
                !self.api.trusted_proxies.has_everybody(),
                "api.trusted_proxies",
                "networks of proxies, not of everybody",
            ),
            (timeout.contains(&self.api.handshake_timeout_ms), "api.handshake_timeout_ms", "100 to 3600000"),
            (timeout.contains(&self.api.request_timeout_ms), "api.request_timeout_ms", "100 to 3600000"),
            (timeout.contains(&self.api.body_timeout_ms), "api.body_timeout_ms", "100 to 3600000"),
            (timeout.contains(&self.api.header_timeout_ms), "api.header_timeout_ms", "100 to 3600000"),
            (timeout.contains(&self.api.write_timeout_ms), "api.write_timeout_ms", "100 to 3600000"),
            (self.api.read_octets_per_s > 0, "api.read_octets_per_s", "at least 1"),
            (
                (100..=86_400_000).contains(&self.api.export_timeout_ms),
                "api.export_timeout_ms",
                "100 to 86400000",
            ),
            (self.store.wait_seconds <= 3_600, "store.wait_seconds", "at most 3600"),
            (self.api.drain_timeout_ms <= 3_600_000, "api.drain_timeout_ms", "at most 3600000"),
            ((1..=1_000_000).contains(&self.api.max_connections), "api.max_connections", "1 to 1000000"),
            (
                (1..=1_000_000).contains(&self.api.max_connections_per_client),
                "api.max_connections_per_client",
                "1 to 1000000",
            ),
            ((1..=1_000_000).contains(&self.api.max_requests), "api.max_requests", "1 to 1000000"),
            ((1..=1_000_000).contains(&self.api.max_listeners), "api.max_listeners", "1 to 1000000"),
            (
                (1..=1_000_000).contains(&self.api.max_listeners_per_account),
                "api.max_listeners_per_account",
                "1 to 1000000",
            ),
            (
                (1_024..=64 << 10).contains(&self.api.max_header_octets),
                "api.max_header_octets",
                "1024 to 65536",
            ),
            // One body of the largest kind has to fit.
            (self.api.max_body_octets >= 32 << 20, "api.max_body_octets", "at least 33554432"),
            (self.internal.address().is_ok(), "internal.listen", "an address with port, or off"),
            (
                self.internal.can_be_told(),
                "internal.url",
                "the URL where nodes find it, as internal.listen names no address",
            ),
            (
                self.internal.url.as_deref().is_none_or(are_urls),
                "internal.url",
                "a URL like https://control.example.net:8054, or up to 16 of them separated by commas",
            ),
            (
                timeout.contains(&self.internal.handshake_timeout_ms),
                "internal.handshake_timeout_ms",
                "100 to 3600000",
            ),
            (
                (1..=1_000_000).contains(&self.internal.max_connections),
                "internal.max_connections",
                "1 to 1000000",
            ),
            (
                (1..=1_000_000).contains(&self.internal.max_connections_per_client),
                "internal.max_connections_per_client",
                "1 to 1000000",
            ),
            ((1..=1_000_000).contains(&self.internal.max_requests), "internal.max_requests", "1 to 1000000"),
            (readers.contains(&self.store.readers), "store.readers", "1 to 64"),
            (readers.contains(&self.store.exports), "store.exports", "1 to 64"),
            (
                self.store.url.as_deref().is_none_or(|url| Place::of_url(url).is_ok()),
                "store.url",
                "a URL like postgres://user@host:5432/database",
            ),
            (
                self.store.url.is_none() || self.store.url_file.is_none(),
                "store.url_file",
                "either store.url or store.url_file",
            ),
            (
                self.store.secrets_key.as_ref().is_none_or(|key| digits(&key.0).is_some()),
                "store.secrets_key",
                "64 hexadecimal digits, as of openssl rand -hex 32",
            ),
            (
                self.store.secrets_key.is_none() || self.store.secrets_key_file.is_none(),
                "store.secrets_key_file",
                "either store.secrets_key or store.secrets_key_file",
            ),
            (
                (1_024..=1 << 40).contains(&self.buffer.max_octets),
                "buffer.max_octets",
                "1024 to 1099511627776",
            ),
            ((1..=10_000_000).contains(&self.buffer.max_changes), "buffer.max_changes", "1 to 10000000"),
            (self.buffer.token_seconds <= 604_800, "buffer.token_seconds", "at most 604800"),
            ((1..=36_500).contains(&self.store.history_days), "store.history_days", "1 to 36500"),
            (self.store.recount_seconds <= 31_536_000, "store.recount_seconds", "at most 31536000"),
            (!self.defaults.ns.is_empty(), "defaults.ns", "at least one name server"),
            (
                self.defaults.ns.iter().all(|ns| crate::validate::name::absolute(ns).is_ok()),
                "defaults.ns",
                "names like ns1.example.net.",
            ),
            (self.guard.changed_percent <= 100, "guard.changed_percent", "0 to 100"),
            (
                self.metrics_address("127.0.0.1:9154").is_ok(),
                "metrics.listen",
                "an address with port, or off",
            ),
        ]
        .into_iter()
        .find_map(|(good, key, expected)| (!good).then_some((key, expected)))
        .or_else(|| self.accounts.out_of_range())
        .or_else(|| self.jwt.out_of_range())
        .or_else(|| self.relay.out_of_range())
        .or_else(|| self.redis.out_of_range())
        .or_else(|| self.limits.out_of_range())
        .or_else(|| self.jobs.out_of_range())
        .or_else(|| self.mail.out_of_range())
        .or_else(|| self.audit.out_of_range())
        .or_else(|| self.names.out_of_range())
        .or_else(|| self.egress.out_of_range())
    }

    /// The first key that is missing, and what was expected. For all layers together: one may have what another lacks.
    #[must_use]
    pub fn missing(&self) -> Option<(&'static str, &'static str)> {
        self.api.missing()
    }

    /// Where metrics are served; `None` when they are off.
    ///
    /// # Errors
    /// When the text is neither an address with port nor `off`.
    pub fn metrics_address(&self, default: &str) -> Result<Option<SocketAddr>, std::net::AddrParseError> {
        match self.metrics.listen.as_deref().unwrap_or(default) {
            "off" => Ok(None),
            text => text.parse().map(Some),
        }
    }
}

impl load::Checked for Config {
    const LISTS: &'static [&'static str] = &[
        "defaults.ns",
        "names.reserved",
        "names.resolvers",
        "api.cors_origins",
        "api.trusted_proxies",
        "api.allow",
        "api.deny",
        "internal.allow",
        "internal.deny",
        "egress.allow",
        "egress.deny",
        "egress.resolvers",
    ];

    fn out_of_range(&self) -> Option<(String, &'static str)> {
        Config::out_of_range(self).map(|(key, expected)| (key.to_owned(), expected))
    }
}
