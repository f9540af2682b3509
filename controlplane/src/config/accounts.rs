//! `[accounts]` and `[jwt]`.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// `[accounts]`
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Accounts {
    /// Whether strangers may register; their address is proven by mail, so it takes `[mail]`. Default true.
    pub registration: bool,
    /// Days that a session lasts. Default 30.
    pub session_days: u32,
    /// Days after which a session that is not used has ended. Default 7.
    pub idle_days: u32,
    /// Hours for which a link in a mail is good. Default 24.
    pub link_hours: u32,
}

impl Default for Accounts {
    fn default() -> Self {
        Accounts { registration: true, session_days: 30, idle_days: 7, link_hours: 24 }
    }
}

impl Accounts {
    /// The first key whose value is out of range, and what was expected.
    pub(super) fn out_of_range(&self) -> Option<(&'static str, &'static str)> {
        let days = 1..=3_650;
        [
            (days.contains(&self.session_days), "accounts.session_days", "1 to 3650"),
            (days.contains(&self.idle_days), "accounts.idle_days", "1 to 3650"),
            ((1..=720).contains(&self.link_hours), "accounts.link_hours", "1 to 720"),
        ]
        .into_iter()
        .find_map(|(holds, key, expected)| (!holds).then_some((key, expected)))
    }
}

/// `[jwt]`
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Jwt {
    /// Seconds for which a token is good, and the most for which one may be. Default 300.
    pub ttl: u32,
    /// Whether a token that was found good a moment ago is taken for that, for half a second. Default true.
    pub remember: bool,
}

impl Default for Jwt {
    fn default() -> Self {
        Jwt { ttl: 300, remember: true }
    }
}

impl Jwt {
    /// The same.
    pub(super) fn out_of_range(&self) -> Option<(&'static str, &'static str)> {
        (!(60..=3_600).contains(&self.ttl)).then_some(("jwt.ttl", "60 to 3600"))
    }
}

/// `https://host`, with a port or without; `http://` for this machine alone, as passwords go there. Tokens name it letter by
/// letter, so there is one way to write it.
pub(super) fn is_public_url(url: &str) -> bool {
    let (is_plain, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (false, rest),
        (None, Some(rest)) => (true, rest),
        (None, None) => return false,
    };
    let authority = rest.trim_end_matches('/');
    let is_good = !authority.is_empty()
        && authority.is_ascii()
        && !authority.contains(['/', '@', ' ', '?', '#'])
        && !authority.starts_with(':');
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => host,
        _ => authority,
    };
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let is_here = host == "localhost" || address.is_ok_and(super::is_here);
    is_good && (is_here || !is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_go_to_this_machine_alone_in_the_clear() {
        for good in [
            "https://dns.example.net",
            "https://dns.example.net:8443/",
            "http://127.0.0.1:8053",
            "http://[::1]:8053",
            "http://[::ffff:127.0.0.1]:8053",
            "http://localhost",
        ] {
            assert!(is_public_url(good), "{good}");
        }
        for bad in [
            "http://dns.example.net",
            "http://192.0.2.1:8053",
            "http://[::ffff:192.0.2.1]:8053",
            "https://",
            "https://:8053",
            "https://a/b",
            "https://user@a",
            "https://a b",
            "dns.example.net",
            "http://127.0.0.1.example.net",
        ] {
            assert!(!is_public_url(bad), "{bad}");
        }
    }
}
