//! `[api]`.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Networks, accounts, is_here};
use crate::api::cors;

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
    pub(super) fn missing(&self) -> Option<(&'static str, &'static str)> {
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

    /// The first key whose value is out of range, and what was expected.
    pub(super) fn out_of_range(&self) -> Option<(&'static str, &'static str)> {
        let timeout = 100..=3_600_000;
        [
            (
                self.public_url.as_deref().is_none_or(accounts::is_public_url),
                "api.public_url",
                "a URL like https://dns.example.net, without a path",
            ),
            (
                self.cors_origins.iter().all(|origin| cors::is_origin(origin)),
                "api.cors_origins",
                "origins like https://dns.example.net, without a path; neither * nor null",
            ),
            (
                !self.trusted_proxies.has_everybody(),
                "api.trusted_proxies",
                "networks of proxies, not of everybody",
            ),
            (timeout.contains(&self.handshake_timeout_ms), "api.handshake_timeout_ms", "100 to 3600000"),
            (timeout.contains(&self.request_timeout_ms), "api.request_timeout_ms", "100 to 3600000"),
            (timeout.contains(&self.body_timeout_ms), "api.body_timeout_ms", "100 to 3600000"),
            (timeout.contains(&self.header_timeout_ms), "api.header_timeout_ms", "100 to 3600000"),
            (timeout.contains(&self.write_timeout_ms), "api.write_timeout_ms", "100 to 3600000"),
            (self.read_octets_per_s > 0, "api.read_octets_per_s", "at least 1"),
            (
                (100..=86_400_000).contains(&self.export_timeout_ms),
                "api.export_timeout_ms",
                "100 to 86400000",
            ),
            (self.drain_timeout_ms <= 3_600_000, "api.drain_timeout_ms", "at most 3600000"),
            ((1..=1_000_000).contains(&self.max_connections), "api.max_connections", "1 to 1000000"),
            (
                (1..=1_000_000).contains(&self.max_connections_per_client),
                "api.max_connections_per_client",
                "1 to 1000000",
            ),
            ((1..=1_000_000).contains(&self.max_requests), "api.max_requests", "1 to 1000000"),
            ((1..=1_000_000).contains(&self.max_listeners), "api.max_listeners", "1 to 1000000"),
            (
                (1..=1_000_000).contains(&self.max_listeners_per_account),
                "api.max_listeners_per_account",
                "1 to 1000000",
            ),
            ((1_024..=64 << 10).contains(&self.max_header_octets), "api.max_header_octets", "1024 to 65536"),
            // One body of the largest kind has to fit.
            (self.max_body_octets >= 32 << 20, "api.max_body_octets", "at least 33554432"),
        ]
        .into_iter()
        .find_map(|(good, key, expected)| (!good).then_some((key, expected)))
    }
}
