//! Which pages of other origins may speak to the API from a browser: none, until `api.cors_origins` names them.
//!
//! A page that is named comes with a token in `Authorization`, as any other program. The cookie of a session is never taken from
//! it: no answer allows credentials, so that no page has a browser do what its user may. What a browser asks before it sends a
//! request (the preflight) is answered here, before anybody is asked who they are: it carries no token.

use std::time::Duration;

use axum::http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_DISPOSITION, CONTENT_TYPE, ETAG, IF_MATCH, LINK, LOCATION, RETRY_AFTER,
};
use axum::http::{HeaderName, HeaderValue, Method};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::v1::events::LAST_EVENT_ID;
use super::{deprecation, envelope, write};
use crate::rates;

/// How long a browser need not ask again.
const KEPT: Duration = Duration::from_secs(600);

/// `None` where no page of another origin may.
pub(super) fn layer(origins: &[String]) -> Option<CorsLayer> {
    let origins: Vec<HeaderValue> =
        origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect();
    if origins.is_empty() {
        return None;
    }
    let layer = CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([
            ACCEPT,
            AUTHORIZATION,
            CONTENT_TYPE,
            IF_MATCH,
            write::IDEMPOTENCY_KEY.clone(),
            envelope::REQUEST_ID.clone(),
            LAST_EVENT_ID.clone(),
        ])
        .expose_headers(exposed())
        .max_age(KEPT);
    Some(layer)
}

/// What a page may read of an answer beside what every page may.
fn exposed() -> Vec<HeaderName> {
    let ours = [&write::APPLIED, &write::CHANGE, &write::CONFIRM, &write::DRY_RUN, &write::REPLAYED];
    let common = [ETAG, LOCATION, LINK, RETRY_AFTER, CONTENT_DISPOSITION, envelope::REQUEST_ID.clone()];
    let ending = [deprecation::DEPRECATION, deprecation::SUNSET];
    common.into_iter().chain(ending).chain(ours.into_iter().chain(rates::HEADERS).cloned()).collect()
}

/// Whether a text is one origin as a browser says it (RFC 6454 §6.2): exact, so neither `*` nor `null`, and with nothing behind
/// the port.
pub(crate) fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let host = host.filter(|host| {
        let is_plain =
            |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || b"-.:[]_".contains(&octet);
        !host.is_empty() && host.len() <= 260 && host.bytes().all(is_plain)
    });
    let Some(uri) = host.and_then(|_| text.parse::<axum::http::Uri>().ok()) else { return false };
    let standard = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let has_port = authority.rsplit(']').next().is_some_and(|end| end.contains(':'));
    // A browser leaves the port of the scheme out.
    uri.host().is_some_and(|host| !host.is_empty())
        && has_port == uri.port_u16().is_some()
        && uri.port_u16() != Some(standard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_what_a_browser_says() {
        for (text, expected) in [
            ("https://dns.example.net", true),
            ("https://dns.example.net:8443", true),
            ("http://localhost:3000", true),
            ("https://[2001:db8::1]:8443", true),
            ("*", false),
            ("null", false),
            ("https://*.example.net", false),
            ("https://dns.example.net/", false),
            ("https://dns.example.net:443", false),
            ("http://dns.example.net:80", false),
            ("https://DNS.example.net", false),
            ("https://user@dns.example.net", false),
            ("https://dns.example.net:x", false),
            ("https://dns.example.net:", false),
            ("dns.example.net", false),
            ("ftp://dns.example.net", false),
            ("https://", false),
            ("", false),
        ] {
            assert_eq!(is_origin(text), expected, "{text}");
        }
    }

    #[test]
    fn nothing_is_allowed_where_no_origin_is_named() {
        assert!(layer(&[]).is_none());
        assert!(layer(&["https://dns.example.net".to_owned()]).is_some());
    }
}
