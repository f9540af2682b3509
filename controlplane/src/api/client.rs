//! Whom a request comes from, and whether anybody may ask from there.
//!
//! The peer of a connection is the client, unless it is a proxy that is trusted (`api.trusted_proxies`): then the client is whom
//! the proxy speaks for. Each proxy writes whom it was asked by at the end of `X-Forwarded-For` (or `Forwarded`, RFC 7239), so these
//! are read from the right, as long as those named are trusted proxies themselves; what stands further left anybody may have
//! written. `X-Forwarded-Proto`, `X-Forwarded-Host` and the like decide nothing: how the API is reached is configured.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::FORWARDED;
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;

use super::whence::Asker;
use crate::config::{AccessList, Networks};
use crate::error::{Code, Problem};
use crate::observe::metrics::{Limit, Metrics};

const X_FORWARDED_FOR: &str = "x-forwarded-for";
/// The longest path with its parameters. The longest that is of use names two names, each octet of which is written as `%5C255`.
const MAX_URL_OCTETS: usize = 8 << 10;

/// Whom a request comes from, in its extensions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Client(pub(crate) IpAddr);

/// Who may ask a listener, and whom it believes.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub(crate) proxies: Networks,
    pub(crate) list: AccessList,
    pub(crate) metrics: Metrics,
}

/// Lets in who may ask, before anything else of a request is looked at. It holds for probes, too: who is outside does not even learn
/// that somebody is here.
pub(crate) async fn within(
    State(access): State<Arc<Access>>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip().to_canonical());
    let peer = peer.ok_or_else(|| Problem::new(Code::Internal, "it is not known where this comes from"))?;
    let client = access.client(peer, request.headers())?;
    // Before it is let in: where it is refused, further out is told from where.
    let asker = request.extensions().get::<Asker>();
    if let Some(asker) = asker {
        asker.comes_from(client);
    }
    if !access.list.lets_in(client) {
        if let Some(asker) = asker {
            asker.stays_outside();
        }
        access.metrics.limited(Limit::Networks);
        return Err(Problem::new(Code::Forbidden, "requests are not taken from this address"));
    }
    if request.uri().path_and_query().is_some_and(|url| url.as_str().len() > MAX_URL_OCTETS) {
        access.metrics.limited(Limit::UrlOctets);
        let message = format!("the URL is longer than {MAX_URL_OCTETS} octets");
        return Err(Problem::new(Code::UrlTooLong, message));
    }
    request.extensions_mut().insert(Client(client));
    Ok(next.run(request).await)
}

impl Access {
    /// Whom a request comes from.
    fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Result<IpAddr, Problem> {
        if !self.proxies.contains(peer) {
            return Ok(peer);
        }
        let of_x = headers.contains_key(X_FORWARDED_FOR).then(|| self.last(peer, plain(headers)));
        let of_forwarded = headers.contains_key(FORWARDED).then(|| self.last(peer, forwarded(headers)));
        match (of_x, of_forwarded) {
            // A proxy that writes one of them passes on the other as somebody sent it: which one it is, is not known here.
            (Some(one), Some(other)) if one != other => {
                let message = "Forwarded and X-Forwarded-For name different clients";
                Err(Problem::new(Code::MalformedRequest, message))
            }
            (Some(client), _) | (None, Some(client)) => Ok(client),
            (None, None) => Ok(peer),
        }
    }

    /// The last of these, from the right, that a trusted proxy speaks for. Where one says nothing that is understood, it is the
    /// client itself.
    fn last(&self, peer: IpAddr, named: impl Iterator<Item = Option<IpAddr>>) -> IpAddr {
        let mut client = peer;
        for hop in named {
            let Some(hop) = hop else { return client };
            client = hop;
            if !self.proxies.contains(client) {
                break;
            }
        }
        client
    }
}

/// Those named in `X-Forwarded-For`, from the right.
fn plain(headers: &HeaderMap) -> impl Iterator<Item = Option<IpAddr>> {
    let lines: Vec<&[u8]> = headers.get_all(X_FORWARDED_FOR).iter().map(HeaderValue::as_bytes).collect();
    lines.into_iter().rev().flat_map(|line| line.rsplit(|&octet| octet == b',')).map(address)
}

/// Those named in `Forwarded`, from the right.
fn forwarded(headers: &HeaderMap) -> impl Iterator<Item = Option<IpAddr>> {
    let lines: Vec<&[u8]> = headers.get_all(FORWARDED).iter().map(HeaderValue::as_bytes).collect();
    lines.into_iter().rev().flat_map(|line| rsplit_unquoted(line, b',')).map(|element| {
        let mut named = rsplit_unquoted(element, b';').filter_map(|pair| {
            let at = pair.iter().position(|&octet| octet == b'=')?;
            let (name, value) = pair.split_at(at);
            name.trim_ascii().eq_ignore_ascii_case(b"for").then(|| value[1..].trim_ascii())
        });
        // RFC 7239 §4: each parameter comes once.
        let value = named.next().filter(|_| named.next().is_none())?;
        let quoted = value.strip_prefix(b"\"").map(|value| value.strip_suffix(b"\""));
        address(quoted.unwrap_or(Some(value))?)
    })
}

/// Parts between separators that are not within quotes, from the right: a quote that somebody opened further left and left open
/// hides nothing of what a proxy has written behind it. A quote behind a backslash is part of what is quoted (RFC 9110 §5.6.4): a
/// proxy writes the host as the client sent it, with any quotes that it likes.
fn rsplit_unquoted(line: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let line = rest?;
        let mut is_quoted = false;
        for at in (0..line.len()).rev() {
            match line[at] {
                b'"' if !is_escaped(&line[..at]) => is_quoted = !is_quoted,
                octet if octet == separator && !is_quoted => {
                    rest = Some(&line[..at]);
                    return Some(&line[at + 1..]);
                }
                _ => {}
            }
        }
        rest = None;
        Some(line)
    })
}

/// Whether what comes next is escaped: the backslashes before it that do not escape each other are one too many.
fn is_escaped(before: &[u8]) -> bool {
    before.iter().rev().take_while(|&&octet| octet == b'\\').count() % 2 == 1
}

/// An address as proxies write it: alone, or with a port; that of IPv6 in brackets, or alone without.
fn address(octets: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(octets.trim_ascii()).ok()?;
    let (host, port) = match text.strip_prefix('[').map(|text| text.split_once(']')) {
        Some(in_brackets) => {
            let (host, rest) = in_brackets?;
            (IpAddr::V6(host.parse().ok()?), rest)
        }
        None => match text.parse() {
            Ok(address) => (address, ""),
            Err(_) => {
                let (host, _) = text.split_once(':')?;
                (IpAddr::V4(host.parse().ok()?), &text[host.len()..])
            }
        },
    };
    let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    is_port.then(|| host.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Networks {
        Networks::try_from(texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    fn access() -> Access {
        let proxies = networks(&["10.0.0.0/8", "2001:db8::/32"]);
        Access { proxies, list: AccessList::default(), metrics: Metrics::default() }
    }

    fn client(peer: &str, headers: &[(&'static str, &[u8])]) -> Result<String, Code> {
        let mut all = HeaderMap::new();
        for (name, value) in headers {
            all.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        let client = access().client(peer.parse().unwrap(), &all);
        client.map(|client| client.to_string()).map_err(|problem| problem.code)
    }

    #[test]
    fn who_is_no_proxy_speaks_for_nobody() {
        let said: &[(&str, &[u8])] = &[(X_FORWARDED_FOR, b"203.0.113.9"), ("forwarded", b"for=198.51.100.1")];
        assert_eq!(client("192.0.2.1", said).unwrap(), "192.0.2.1");
    }

    #[test]
    fn the_client_is_the_last_that_a_proxy_speaks_for() {
        for (said, expected) in [
            (&["203.0.113.9"][..], "203.0.113.9"),
            (&["203.0.113.9:4711"], "203.0.113.9"),
            (&["::ffff:203.0.113.9"], "203.0.113.9"),
            (&["[2001:db9::1]:443"], "2001:db9::1"),
            (&["2001:db9::1"], "2001:db9::1"),
            // What others wrote further left is not looked at.
            (&["198.51.100.1, 203.0.113.9"], "203.0.113.9"),
            (&["127.0.0.1,x,203.0.113.9 , 10.1.1.1"], "203.0.113.9"),
            (&["198.51.100.1", "203.0.113.9, 10.0.0.7"], "203.0.113.9"),
            (&["\"", "203.0.113.9"], "203.0.113.9"),
            // Of proxies alone the first asks for itself.
            (&["10.0.0.7, 10.0.0.8"], "10.0.0.7"),
            // A proxy that says nothing of use asks for itself.
            (&[""], "10.0.0.1"),
            (&["203.0.113.9, unknown"], "10.0.0.1"),
            (&["203.0.113.9, 10.0.0.7:x"], "10.0.0.1"),
            (&["203.0.113.9, unknown, 10.0.0.7"], "10.0.0.7"),
            (&["203.0.113.9,"], "10.0.0.1"),
            (&["[2001:db9::1"], "10.0.0.1"),
            (&["[203.0.113.9]"], "10.0.0.1"),
        ] {
            let said: Vec<_> = said.iter().map(|line| (X_FORWARDED_FOR, line.as_bytes())).collect();
            assert_eq!(client("10.0.0.1", &said).as_deref(), Ok(expected), "{said:?}");
        }
        assert_eq!(client("10.0.0.1", &[]).unwrap(), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &[(X_FORWARDED_FOR, b"203.0.113.9, \xff")]).unwrap(), "10.0.0.1");
    }

    #[test]
    fn forwarded_says_the_same() {
        for (said, expected) in [
            (&["for=203.0.113.9"][..], "203.0.113.9"),
            (&["proto=https;FOR=203.0.113.9 ;by=10.0.0.1"], "203.0.113.9"),
            (&["for=\"203.0.113.9:80\""], "203.0.113.9"),
            (&["for=\"[2001:db9::1]:4711\""], "2001:db9::1"),
            (&["for=198.51.100.1, for=203.0.113.9", "for=10.0.0.7"], "203.0.113.9"),
            // What is in quotes is none of it.
            (&["for=203.0.113.9;host=\"a,for=198.51.100.1\""], "203.0.113.9"),
            (&["for=203.0.113.9;host=\"a;for=198.51.100.1\""], "203.0.113.9"),
            // Nor what is in them behind quotes that the client sent, as a proxy that writes its host escapes them.
            (&["for=203.0.113.9;host=\"a\\\",for=198.51.100.1;x=\\\"\""], "203.0.113.9"),
            (&["for=203.0.113.9;host=\"a\\\",for=198.51.100.1\""], "203.0.113.9"),
            (&["for=203.0.113.9;host=\"\\\",for=198.51.100.1,\\\"\";proto=https"], "203.0.113.9"),
            (&["for=203.0.113.9;host=\"\\\\\";by=10.0.0.1"], "203.0.113.9"),
            (&["for=198.51.100.1, for=203.0.113.9;host=\"a\\\\\\\"\""], "203.0.113.9"),
            // One that is escaped where nothing is quoted is not understood.
            (&["for=198.51.100.1, for=203.0.113.9;host=\"a\\\""], "10.0.0.1"),
            // A quote that is never closed hides nothing.
            (&["for=\"198.51.100.1, for=203.0.113.9"], "203.0.113.9"),
            (&["for=\"", "for=203.0.113.9"], "203.0.113.9"),
            (&["for=unknown"], "10.0.0.1"),
            (&["for=_hidden"], "10.0.0.1"),
            (&["proto=https"], "10.0.0.1"),
            (&["for=203.0.113.9;for=198.51.100.1"], "10.0.0.1"),
            (&["for="], "10.0.0.1"),
            (&["="], "10.0.0.1"),
        ] {
            let said: Vec<_> = said.iter().map(|line| ("forwarded", line.as_bytes())).collect();
            assert_eq!(client("10.0.0.1", &said).as_deref(), Ok(expected), "{said:?}");
        }
    }

    /// A proxy passes on the one of the two that it does not write.
    #[test]
    fn both_have_to_say_the_same() {
        let both = |one: &'static str, other: &'static str| {
            client("10.0.0.1", &[(X_FORWARDED_FOR, one.as_bytes()), ("forwarded", other.as_bytes())])
        };
        assert_eq!(both("203.0.113.9", "for=203.0.113.9").unwrap(), "203.0.113.9");
        for (one, other) in
            [("203.0.113.9", "for=10.0.0.5"), ("10.0.0.5", "for=203.0.113.9"), ("203.0.113.9", "for=_x")]
        {
            assert_eq!(both(one, other), Err(Code::MalformedRequest), "{one} {other}");
        }
    }

    #[test]
    fn whatever_is_said_is_read() {
        use proptest::prelude::*;
        proptest!(|(said in proptest::collection::vec("[\\x20-\\x7e]{0,40}", 0..4), x: bool)| {
            let name = if x { X_FORWARDED_FOR } else { "forwarded" };
            let said: Vec<_> = said.iter().map(|line| (name, line.as_bytes())).collect();
            prop_assert!(client("10.0.0.1", &said).is_ok());
            prop_assert_eq!(client("192.0.2.1", &said).unwrap(), "192.0.2.1");
        });
    }
}
