//! `[accounts]` and `[jwt]`.

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
}

impl Default for Jwt {
    fn default() -> Self {
        Jwt { ttl: 300 }
    }
}

impl Jwt {
    /// The same.
    pub(super) fn out_of_range(&self) -> Option<(&'static str, &'static str)> {
        (!(60..=3_600).contains(&self.ttl)).then_some(("jwt.ttl", "60 to 3600"))
    }
}

/// `https://host`, with a port or without: tokens name it letter by letter, so there is one way to write it.
pub(super) fn is_public_url(url: &str) -> bool {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    rest.map(|rest| rest.trim_end_matches('/')).is_some_and(|host| {
        !host.is_empty()
            && host.is_ascii()
            && !host.contains(['/', '@', ' ', '?', '#'])
            && !host.starts_with(':')
    })
}
