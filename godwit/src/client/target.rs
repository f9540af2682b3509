//! Where the API is, and who asks: the command line's URL and token, checked.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use hyper::Uri;
use hyper::header::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::tls;
use crate::cli::Target;
use crate::output::Wrong;

/// Of a token file no more is read: it may be a device.
const MAX_FILE_OCTETS: u64 = 4_096;

/// A checked target.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// As it was written, for messages.
    pub(crate) url: String,
    /// Host and port.
    pub(crate) authority: String,
    /// What stands before every path, without a final slash.
    pub(crate) base: String,
    /// The value of `Authorization`.
    pub(crate) token: Option<HeaderValue>,
    /// For whom TLS is spoken, and how; `None` without TLS.
    pub(crate) tls: Option<(ServerName<'static>, Arc<ClientConfig>)>,
}

impl Endpoint {
    pub(crate) fn of(target: &Target) -> anyhow::Result<Self> {
        let url = target.url.clone();
        if url.contains('@') {
            // Not shown: there may be a password in it.
            let reason = "--url: a user or password has no place in it; give the token as GODWIT_TOKEN";
            return Err(Wrong(reason.to_owned()).into());
        }
        let wrong = |reason: &str| Wrong(format!("--url {url}: {reason}"));
        let uri: Uri = url.parse().map_err(|_| wrong("not a URL, as http://127.0.0.1:8053"))?;
        let port = match uri.scheme_str() {
            Some("http") => 80,
            Some("https") => 443,
            _ => return Err(wrong("expected https://HOST:PORT or http://HOST:PORT").into()),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| wrong("it names no host"))?;
        let tls = if port == 443 {
            let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
            Some((name.map_err(|_| wrong("it names no host"))?, tls::config(target.ca.as_deref())?))
        } else {
            None
        };
        let authority = format!("{host}:{}", uri.port_u16().unwrap_or(port));
        let base = uri.path().trim_end_matches('/').to_owned();
        if uri.query().is_some() {
            return Err(wrong("a query has no place here").into());
        }
        Ok(Endpoint { authority, base, token: token(target)?, tls, url })
    }
}

fn token(target: &Target) -> anyhow::Result<Option<HeaderValue>> {
    let text = match (&target.token, &target.token_file) {
        (Some(token), _) => token.trim().to_owned(),
        (None, Some(file)) => token_of_file(file)?,
        (None, None) => return Ok(None),
    };
    // Never the token itself in a message.
    if text.is_empty() || !text.bytes().all(|octet| octet.is_ascii_graphic()) {
        return Err(Wrong("the token is not one: expected gw_ and 43 characters".to_owned()).into());
    }
    let mut value = HeaderValue::from_str(&format!("Bearer {text}")).context("the token")?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// The first line, which may be the one that the first start printed.
fn token_of_file(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let read =
        std::fs::File::open(file).and_then(|file| file.take(MAX_FILE_OCTETS).read_to_string(&mut text));
    read.map_err(|error| Wrong(format!("--token-file {}: {error}", file.display())))?;
    let line = text.lines().next().unwrap_or_default().trim();
    Ok(line.strip_prefix("admin token:").unwrap_or(line).trim().to_owned())
}

/// A text as one segment of a path or one value of a query (RFC 3986 §2.1).
pub(crate) fn encoded(text: &str) -> String {
    const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    utf8_percent_encode(text, ESCAPED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str) -> Result<Endpoint, String> {
        let target = Target { url: url.to_owned(), ca: None, token: None, token_file: None };
        Endpoint::of(&target).map_err(|error| error.to_string())
    }

    #[test]
    fn urls_are_read() {
        for (url, authority, base) in [
            ("http://127.0.0.1:8053", "127.0.0.1:8053", ""),
            ("http://dns.example/godwit/", "dns.example:80", "/godwit"),
            ("http://[::1]:8053/", "[::1]:8053", ""),
        ] {
            let endpoint = of(url).unwrap();
            assert_eq!((endpoint.authority.as_str(), endpoint.base.as_str()), (authority, base), "{url}");
        }
        for (url, expected) in [
            ("127.0.0.1:8053", "127.0.0.1:8053"),
            ("ftp://a", "expected https://"),
            ("http://a/?x", "query"),
            ("http://user:secret@a/", "no place in it"),
        ] {
            let error = of(url).unwrap_err();
            assert!(error.contains(expected) && !error.contains("secret"), "{url}: {error}");
        }
    }

    #[test]
    fn names_are_encoded() {
        assert_eq!(encoded("*.a_b.example."), "%2A.a_b.example.");
        assert_eq!(encoded("a/b?c d"), "a%2Fb%3Fc%20d");
    }

    #[test]
    fn a_token_is_read_from_a_file_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        for text in ["gw_x\n", "admin token: gw_x\n", "  gw_x"] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(token_of_file(&file).unwrap(), "gw_x");
        }
        let target = Target {
            url: "http://a".to_owned(),
            ca: None,
            token: Some("secret\u{e9}".to_owned()),
            token_file: None,
        };
        let error = Endpoint::of(&target).unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
