//! The cookie of a browser that has logged in: the name of its session, which nobody can make up.
//!
//! ```text
//! __Host-godwit=gs_ + base64url( session UUID 16 octets ┆ HMAC-SHA-256 of it 32 octets )
//! ```
//!
//! The prefix has browsers take it from this host alone, over TLS (or from the machine itself), for all its paths; scripts do not see it; and it
//! goes along with requests of our own pages alone (RFC 6265bis §4.1).

use axum::http::HeaderMap;
use axum::http::header::{COOKIE, HeaderValue, ORIGIN};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use uuid::Uuid;

const NAME: &str = "__Host-godwit";
const PREFIX: &str = "gs_";
const OCTETS: usize = 16 + 32;
const ATTRIBUTES: &str = "Path=/; Secure; HttpOnly; SameSite=Strict";

/// What makes them and knows them again.
pub(crate) struct CookieKey(hmac::Key);

impl std::fmt::Debug for CookieKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CookieKey")
    }
}

impl CookieKey {
    /// Of the secret that refresh tokens are made with: another key, so that neither passes for the other.
    pub(crate) fn of(secret: &[u8]) -> CookieKey {
        let refresh = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let own = hmac::sign(&refresh, b"godwit session cookie");
        CookieKey(hmac::Key::new(hmac::HMAC_SHA256, own.as_ref()))
    }

    /// `Set-Cookie` for a session that lasts so long.
    pub(crate) fn set(&self, session: Uuid, lasts_s: i64) -> Option<HeaderValue> {
        let mut octets = session.as_bytes().to_vec();
        octets.extend_from_slice(hmac::sign(&self.0, session.as_bytes()).as_ref());
        let value = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(octets));
        let mut header =
            HeaderValue::from_str(&format!("{NAME}={value}; {ATTRIBUTES}; Max-Age={lasts_s}")).ok()?;
        header.set_sensitive(true);
        Some(header)
    }

    /// The session that a cookie names; `None` when it was not made with this key.
    pub(crate) fn read(&self, value: &str) -> Option<Uuid> {
        let octets = URL_SAFE_NO_PAD.decode(value.strip_prefix(PREFIX)?).ok()?;
        let octets: [u8; OCTETS] = octets.try_into().ok()?;
        let (session, tag) = octets.split_at(16);
        hmac::verify(&self.0, session, tag).ok()?;
        Uuid::from_slice(session).ok()
    }
}

/// `Set-Cookie` that takes it away.
pub(crate) fn clear() -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("{NAME}=; {ATTRIBUTES}; Max-Age=0")).ok()
}

/// The value of the cookie that comes with a request. Of several the first: a host has one of this name.
pub(crate) fn value(headers: &HeaderMap) -> Option<&str> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';'));
    pairs.find_map(|pair| pair.trim().strip_prefix(NAME)?.strip_prefix('='))
}

/// Whether a request that changes something comes from a page of ours: browsers say which it was, older ones by `Origin` alone.
pub(crate) fn is_from_here(headers: &HeaderMap, here: &str) -> bool {
    match headers.get("sec-fetch-site").map(HeaderValue::as_bytes) {
        Some(site) => matches!(site, b"same-origin" | b"none"),
        None => headers.get(ORIGIN).is_some_and(|origin| origin.as_bytes() == here.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::refresh::{Refresh, RefreshKey};

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).unwrap());
        headers
    }

    #[test]
    fn only_what_was_made_with_the_key_names_a_session() {
        let (key, session) = (CookieKey::of(&[7; 32]), Uuid::now_v7());
        let set = key.set(session, 60).unwrap();
        let set = set.to_str().unwrap();
        assert!(set.starts_with("__Host-godwit=gs_") && set.ends_with("; Max-Age=60"), "{set}");
        for attribute in ["Path=/", "Secure", "HttpOnly", "SameSite=Strict"] {
            assert!(set.contains(attribute), "{set}");
        }
        let pair = set.split(';').next().unwrap();
        let headers = headers("cookie", &format!("a=b; {pair}; __Host-godwit2=x"));
        let value = value(&headers).unwrap();
        assert_eq!(key.read(value), Some(session));
        assert_eq!(CookieKey::of(&[8; 32]).read(value), None);
        let refresh = RefreshKey::of(&[7; 32]).reveal(Refresh { session, exchanges: 0 });
        for other in
            ["", "gs_", &value[3..], &value[..value.len() - 2], &refresh, &refresh.replace("gr_", "gs_")]
        {
            assert_eq!(key.read(other), None, "{other}");
        }
    }

    #[test]
    fn pages_of_others_change_nothing() {
        let here = "https://dns.example.net";
        for (name, value, expected) in [
            ("sec-fetch-site", "same-origin", true),
            ("sec-fetch-site", "none", true),
            ("sec-fetch-site", "same-site", false),
            ("sec-fetch-site", "cross-site", false),
            ("sec-fetch-site", "", false),
            ("origin", here, true),
            ("origin", "https://dns.example.net.evil.test", false),
            ("origin", "http://dns.example.net", false),
            ("origin", "null", false),
            ("referer", "https://dns.example.net/", false),
        ] {
            assert_eq!(is_from_here(&headers(name, value), here), expected, "{name}: {value}");
        }
    }
}
