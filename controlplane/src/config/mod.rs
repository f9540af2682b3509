//! What an operator may set: one typed structure, read once. Where its values come from is [`load`].
//!
//! Every key stands in a section, so that the environment can name it as `GODWIT_SECTION__KEY`. An unknown key is an
//! error.

mod accounts;
mod api;
mod audit;
mod egress;
mod hidden;
mod internal;
mod jobs;
mod limits;
pub mod load;
mod mail;
mod names;
mod networks;
mod quotas;
mod redis;
mod relay;
mod store;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use accounts::{Accounts, Jwt};
pub use api::Api;
pub use audit::Audit;
pub use egress::Egress;
pub use hidden::Hidden;
pub use internal::Internal;
pub use jobs::Jobs;
pub use limits::{Limits, Rate};
pub use load::{ConfigError, Sources};
pub use mail::{Mail, Transport as MailTransport};
pub use names::Names;
pub(crate) use networks::AccessList;
pub use networks::{Networks, NoNetwork};
pub use quotas::Quotas;
pub use redis::Redis;
pub use relay::Relay;
pub use store::Store;

/// In the data folder, where nothing else is set.
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
    /// How much tenants may have.
    pub quotas: Quotas,
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

/// An address that this machine alone reaches.
fn is_here(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
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
        [
            (
                self.mail.transport == MailTransport::Off
                    || self.api.public_url.is_some()
                    || is_here(self.api.listen.ip()),
                "api.public_url",
                "the URL that others reach it at, as links in mails lead there",
            ),
            (
                (1_024..=1 << 40).contains(&self.buffer.max_octets),
                "buffer.max_octets",
                "1024 to 1099511627776",
            ),
            ((1..=10_000_000).contains(&self.buffer.max_changes), "buffer.max_changes", "1 to 10000000"),
            (self.buffer.token_seconds <= 604_800, "buffer.token_seconds", "at most 604800"),
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
        .or_else(|| self.api.out_of_range())
        .or_else(|| self.internal.out_of_range())
        .or_else(|| self.store.out_of_range())
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
