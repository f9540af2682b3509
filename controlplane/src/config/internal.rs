//! `[internal]`.

use std::net::SocketAddr;

use godwit_wire::feed::{MAX_ANNOUNCED_URLS, MAX_URL_OCTETS};
use serde::{Deserialize, Serialize};

use super::Networks;

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
        self.named().unwrap_or_else(|| vec![format!("https://{address}")])
    }

    /// Those that `url` names.
    pub(crate) fn named(&self) -> Option<Vec<String>> {
        self.url.as_deref().map(|urls| urls.split(',').map(|url| url.trim().to_owned()).collect())
    }

    /// Nodes can be told where it is.
    fn can_be_told(&self) -> bool {
        let has_address =
            self.address().is_ok_and(|address| address.is_none_or(|address| !address.ip().is_unspecified()));
        self.url.is_some() || has_address
    }

    /// The first key whose value is out of range, and what was expected.
    pub(super) fn out_of_range(&self) -> Option<(&'static str, &'static str)> {
        let timeout = 100..=3_600_000;
        [
            (self.address().is_ok(), "internal.listen", "an address with port, or off"),
            (
                self.can_be_told(),
                "internal.url",
                "the URL where nodes find it, as internal.listen names no address",
            ),
            (
                self.url.as_deref().is_none_or(are_urls),
                "internal.url",
                "a URL like https://control.example.net:8054, or up to 16 of them separated by commas",
            ),
            (timeout.contains(&self.handshake_timeout_ms), "internal.handshake_timeout_ms", "100 to 3600000"),
            ((1..=1_000_000).contains(&self.max_connections), "internal.max_connections", "1 to 1000000"),
            (
                (1..=1_000_000).contains(&self.max_connections_per_client),
                "internal.max_connections_per_client",
                "1 to 1000000",
            ),
            ((1..=1_000_000).contains(&self.max_requests), "internal.max_requests", "1 to 1000000"),
        ]
        .into_iter()
        .find_map(|(good, key, expected)| (!good).then_some((key, expected)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_named_without_what_stands_between_them() {
        let internal =
            Internal { url: Some("https://a:8054, https://b:8054".to_owned()), ..Internal::default() };
        assert_eq!(internal.named().unwrap(), ["https://a:8054", "https://b:8054"]);
        assert_eq!(Internal::default().named(), None);
        assert_eq!(Internal::default().urls(SocketAddr::from(([127, 0, 0, 1], 1))), ["https://127.0.0.1:1"]);
    }
}
