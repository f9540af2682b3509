//! Where a call goes: a URL in the one form that everybody reads alike. Other forms of addresses, user names and fragments are
//! refused: two programs may read two things in them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use godwit_wire::name::Name;
use hyper::http::uri::PathAndQuery;

/// The most octets of a URL.
pub(crate) const MOST_URL: usize = 2_048;
/// Where calls go to.
const PORTS: [u16; 2] = [443, 8_443];

/// See the module.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Target {
    pub(crate) host: Host,
    pub(crate) port: u16,
    /// As it is sent, with its query.
    pub(crate) path: String,
}

/// Who is called.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Host {
    Name(Name),
    Address(IpAddr),
}

impl Host {
    /// As certificates have it.
    pub(crate) fn text(&self) -> String {
        match self {
            Host::Name(name) => name.to_string().trim_end_matches('.').to_ascii_lowercase(),
            Host::Address(address) => address.to_string(),
        }
    }
}

impl Target {
    /// As `Host:` says it.
    pub(crate) fn authority(&self) -> String {
        let host = match &self.host {
            Host::Address(IpAddr::V6(address)) => format!("[{address}]"),
            host => host.text(),
        };
        if self.port == 443 { host } else { format!("{host}:{}", self.port) }
    }

    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn read(text: &str) -> Result<Target, &'static str> {
        if text.len() > MOST_URL {
            return Err("it is longer than 2048 octets");
        }
        let Some(rest) = text.strip_prefix("https://") else { return Err("it does not begin with https://") };
        if !text.bytes().all(|octet| octet.is_ascii_graphic()) || text.contains(['\\', '"', '<', '>', '`']) {
            return Err(
                "it has characters that stand in no URL; names outside ASCII are written as A-labels (xn--…)",
            );
        }
        if text.contains('#') {
            return Err("a part behind # is sent to nobody");
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err("it has a user name or a password: nobody is told such");
        }
        let (host, port) = split(authority)?;
        let port = match port {
            None => 443,
            Some(port) if port.bytes().all(|octet| octet.is_ascii_digit()) => port
                .parse()
                .ok()
                .filter(|port| PORTS.contains(port))
                .ok_or("only the ports 443 and 8443 are called")?,
            Some(_) => return Err("its port is no number"),
        };
        let path = match path.as_bytes().first() {
            None => "/".to_owned(),
            Some(b'?') => format!("/{path}"),
            Some(_) => path.to_owned(),
        };
        if path.parse::<PathAndQuery>().is_err() {
            return Err("its path is none");
        }
        Ok(Target { host: host_of(host)?, port, path })
    }
}

fn split(authority: &str) -> Result<(&str, Option<&str>), &'static str> {
    if authority.starts_with('[') {
        let end = authority.find(']').ok_or("its address has no end")?;
        let (host, rest) = authority.split_at(end + 1);
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err("there is something behind its address"),
        };
    }
    match authority.split_once(':') {
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((authority, None)),
    }
}

fn host_of(text: &str) -> Result<Host, &'static str> {
    if let Some(six) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let address: Ipv6Addr = six.parse().map_err(|_| "its IPv6 address is none")?;
        return Ok(Host::Address(address.into()));
    }
    // Four decimal numbers, none of which begins with a zero.
    if let Ok(four) = text.parse::<Ipv4Addr>() {
        return Ok(Host::Address(four.into()));
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let labels: Vec<&str> = name.split('.').collect();
    let last = labels.last().copied().unwrap_or_default();
    // What ends in a number is read as an address by browsers, and by inet_aton (WHATWG URL §3.5).
    let is_number = |label: &str| {
        let hex = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
        (!label.is_empty() && label.bytes().all(|octet| octet.is_ascii_digit()))
            || hex.is_some_and(|hex| hex.bytes().all(|octet| octet.is_ascii_hexdigit()))
    };
    if is_number(last) {
        return Err(
            "an address is written as four decimal numbers without zeros before them, or in brackets",
        );
    }
    let is_label = |label: &&str| {
        let is_good = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(is_good)
    };
    if labels.len() < 2 || !labels.iter().all(is_label) {
        return Err("its host is no name like hooks.example.net");
    }
    format!("{name}.").parse().map(Host::Name).map_err(|_| "its host is no name like hooks.example.net")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_in_one_form() {
        let read = |text: &str| {
            let target = Target::read(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            (target.host.text(), target.port, target.authority(), target.path)
        };
        let is = |host: &str, port, authority: &str, path: &str| {
            (host.to_owned(), port, authority.to_owned(), path.to_owned())
        };
        assert_eq!(read("https://hooks.example.net"), is("hooks.example.net", 443, "hooks.example.net", "/"));
        assert_eq!(
            read("https://Hooks.Example.net.:8443/a/b?c=d&e"),
            is("hooks.example.net", 8_443, "hooks.example.net:8443", "/a/b?c=d&e")
        );
        assert_eq!(read("https://a.b:443?x"), is("a.b", 443, "a.b", "/?x"));
        assert_eq!(read("https://192.0.2.1/"), is("192.0.2.1", 443, "192.0.2.1", "/"));
        assert_eq!(
            read("https://[2001:DB8:0::1]:8443/"),
            is("2001:db8::1", 8_443, "[2001:db8::1]:8443", "/")
        );
    }

    #[test]
    fn r17_other_forms_of_addresses_are_no_hosts() {
        for text in [
            "",
            "https://",
            "https:///",
            "http://hooks.example.net/",
            "HTTPS://hooks.example.net/",
            "ftp://hooks.example.net/",
            "file:///etc/passwd",
            "gopher://hooks.example.net/",
            "//hooks.example.net/",
            "hooks.example.net",
            // Other ports.
            "https://hooks.example.net:80/",
            "https://hooks.example.net:22/",
            "https://hooks.example.net:8053/",
            "https://hooks.example.net:",
            "https://hooks.example.net:0x1bb/",
            "https://hooks.example.net:+443/",
            "https://hooks.example.net:443:443/",
            "https://hooks.example.net:65979/",
            // Decimal, octal, hexadecimal, short and mixed.
            "https://2130706433/",
            "https://017700000001/",
            "https://0x7f000001/",
            "https://0x7F.0.0.1/",
            "https://0177.0.0.1/",
            "https://0177.0.0.01/",
            "https://127.1/",
            "https://127.0.1/",
            "https://127.0.0.1.2/",
            "https://127.0.0.0x1/",
            "https://00127.0.0.1/",
            "https://127.0.0.1./",
            "https://1.2.3.256/",
            "https://foo.127/",
            "https://foo.0x/",
            "https://0/",
            // Percents, other digits, other dots.
            "https://%31%32%37.0.0.1/",
            "https://127%2e0.0.1/",
            "https://①②⑦.0.0.1/",
            "https://127。0。0。1/",
            "https://ⓛocalhost.test/",
            // Names of the machine, and none.
            "https://localhost/",
            "https://localhost:8443/",
            "https://intranet/",
            "https://a..b/",
            "https://.a.b/",
            "https://a b.test/",
            "https://a.b\t.test/",
            "https://a.b\r\nHost: c.d/",
            "https://a.b/ HTTP/1.1\r\nX: y",
            // Users, and what comes behind brackets.
            "https://a.b@127.0.0.1/",
            "https://127.0.0.1@a.b/",
            "https://a.b:443@127.0.0.1/",
            "https://@a.b/",
            "https://a.b\\@127.0.0.1/",
            "https://a.b#@127.0.0.1/",
            "https://[::1/",
            "https://[::1]x/",
            "https://[::1]]/",
            "https://[fe80::1%25lo]/",
            "https://[127.0.0.1]/",
            "https://[::ffff:0177.0.0.1]/",
            "https://[a.b]/",
        ] {
            assert!(Target::read(text).is_err(), "{text}: {:?}", Target::read(text));
        }
        let long = format!("https://a.b/{}", "x".repeat(MOST_URL));
        assert!(Target::read(&long).is_err());
    }
}
