//! What a node must know to join a deployment: one line that `godwit node add` prints, kept in the state folder.

use std::fmt;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use godwit_wire::feed::{DigestKey, VerifyingKey};
use serde::Deserialize;

/// What the line begins with.
const PREFIX: &str = "godwit-join:";
/// In the state folder.
pub const FILE: &str = "join";
/// The most octets of the line.
const MAX_OCTETS: u64 = 64 << 10;
/// The most control planes that it names.
const MAX_CONTROL_PLANES: usize = 16;

/// How to reach the control plane, and what proves that it is the right one.
#[derive(Clone)]
pub struct Join {
    /// Where control planes are; which of them is asked makes no difference.
    pub control_planes: Vec<ControlPlane>,
    /// SHA-256 of its public key (SPKI, DER): nothing else is believed.
    pub spki_sha256: [u8; 32],
    /// Those that sign the feed: the one now, and the one after it.
    pub feed_keys: Vec<VerifyingKey>,
    /// What digests are keyed with.
    pub digest_key: DigestKey,
    /// The history that there was when the node was added: an earlier one is not taken up.
    pub generation: u64,
    /// Who we are.
    pub token: String,
    /// What we are called.
    pub name: String,
    /// As it was given.
    text: String,
}

/// Where the internal listener of a control plane is.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct ControlPlane {
    /// A name, or an address.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
}

impl ControlPlane {
    /// Reads `https://host:port`.
    #[must_use]
    pub fn of_url(url: &str) -> Option<ControlPlane> {
        let authority = url.strip_prefix("https://")?.trim_end_matches('/');
        let (host, port) = authority.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || host.contains(['/', '@', ' ']) {
            return None;
        }
        Some(ControlPlane { host: host.to_owned(), port: port.parse().ok()? })
    }
}

/// `host:port`
impl fmt::Display for ControlPlane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Without secrets.
impl fmt::Debug for Join {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Join")
            .field("name", &self.name)
            .field("control_planes", &self.control_planes)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Content {
    url: String,
    /// All of them; control planes of an earlier version say one.
    #[serde(default)]
    urls: Vec<String>,
    spki_sha256: String,
    feed_keys: Vec<String>,
    digest_key: String,
    generation: u64,
    token: String,
    #[serde(default)]
    name: String,
}

impl Join {
    /// Reads the line, or the file that `@FILE` names.
    ///
    /// # Errors
    /// What is wrong with it, without what is secret in it.
    pub fn of_argument(argument: &str) -> anyhow::Result<Join> {
        match argument.strip_prefix('@') {
            Some(file) => Join::of_file(Path::new(file)),
            None => Join::parse(argument),
        }
    }

    /// Reads a file that holds the line and nothing else.
    ///
    /// # Errors
    /// It cannot be read, or holds something else.
    pub fn of_file(file: &Path) -> anyhow::Result<Join> {
        let context = || format!("join string in {}", file.display());
        let length = std::fs::metadata(file).with_context(context)?.len();
        ensure!(length <= MAX_OCTETS, "{}: {length} octets are too many", context());
        Join::parse(&std::fs::read_to_string(file).with_context(context)?).with_context(context)
    }

    fn parse(text: &str) -> anyhow::Result<Join> {
        let text = text.trim();
        let Some(encoded) = text.strip_prefix(PREFIX) else {
            bail!("expected the line that `godwit node add` prints: {PREFIX}…, or @FILE");
        };
        let damaged = "the join string is damaged; is it all there?";
        let octets = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| anyhow::anyhow!(damaged))?;
        let content: Content = serde_json::from_slice(&octets).map_err(|_| anyhow::anyhow!(damaged))?;
        let mut control_planes = Vec::new();
        for url in std::iter::once(&content.url).chain(&content.urls) {
            let one = ControlPlane::of_url(url)
                .with_context(|| format!("url \"{url}\": expected https://host:port"))?;
            if !control_planes.contains(&one) {
                control_planes.push(one);
            }
        }
        ensure!(control_planes.len() <= MAX_CONTROL_PLANES, "urls: expected at most {MAX_CONTROL_PLANES}");
        let keys: Option<Vec<VerifyingKey>> =
            content.feed_keys.iter().map(|key| octets_of(key).map(VerifyingKey)).collect();
        let keys = keys
            .filter(|keys| !keys.is_empty())
            .context("feed_keys: expected keys of 64 hexadecimal digits")?;
        Ok(Join {
            control_planes,
            spki_sha256: octets_of(&content.spki_sha256)
                .context("spki_sha256: expected 64 hexadecimal digits")?,
            feed_keys: keys,
            digest_key: DigestKey(
                octets_of(&content.digest_key).context("digest_key: expected 64 hexadecimal digits")?,
            ),
            generation: content.generation,
            token: content.token,
            name: content.name,
            text: text.to_owned(),
        })
    }

    /// The line.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

fn octets_of(hex: &str) -> Option<[u8; 32]> {
    let mut octets = [0; 32];
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    if pairs.len() != octets.len() || !rest.is_empty() {
        return None;
    }
    for (octet, pair) in octets.iter_mut().zip(pairs) {
        let text = std::str::from_utf8(pair).ok()?;
        *octet = u8::from_str_radix(text, 16).ok().filter(|_| pair.iter().all(u8::is_ascii_hexdigit))?;
    }
    Some(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(content: &str) -> String {
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(content))
    }

    #[test]
    fn a_line_says_all_that_is_needed() {
        let key = "01".repeat(32);
        let content = format!(
            r#"{{"url":"https://[::1]:8054","spki_sha256":"{key}","feed_keys":["{key}","{key}"],"digest_key":"{key}","generation":7,"token":"gn_x","name":"n1","more":1}}"#
        );
        let join = Join::of_argument(&format!(" {}\n", line(&content))).unwrap();
        let plane = |host: &str, port| ControlPlane { host: host.to_owned(), port };
        assert_eq!((&join.control_planes[..], join.generation), (&[plane("::1", 8054)][..], 7));
        // As a later version says it.
        let several = content
            .replace("\"more\":1", r#""urls":["https://[::1]:8054","https://b.test:1","https://c.test:2/"]"#);
        let several = Join::of_argument(&line(&several)).unwrap();
        let expected = [plane("::1", 8054), plane("b.test", 1), plane("c.test", 2)];
        assert_eq!(several.control_planes, expected);
        assert_eq!((join.spki_sha256, join.feed_keys.len()), ([1; 32], 2));
        assert!(!format!("{join:?}").contains("gn_x"));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("join");
        std::fs::write(&file, join.text()).unwrap();
        assert_eq!(Join::of_argument(&format!("@{}", file.display())).unwrap().text(), join.text());
    }

    #[test]
    fn what_is_wrong_is_said_without_what_is_secret() {
        let key = "01".repeat(32);
        let content = |url: &str, pin: &str, keys: &str| {
            line(&format!(
                r#"{{"url":"{url}","spki_sha256":"{pin}","feed_keys":[{keys}],"digest_key":"{key}","generation":7,"token":"secret","name":"n"}}"#
            ))
        };
        let one = format!("\"{key}\"");
        for (bad, expected) in [
            ("nonsense".to_owned(), "godwit node add"),
            (format!("{PREFIX}!"), "damaged"),
            (line("{"), "damaged"),
            (line("{\"token\":\"secret\"}"), "damaged"),
            (content("http://a:1", &key, &one), "https://host:port"),
            (content("https://a", &key, &one), "https://host:port"),
            (content("https://a:1", "zz", &one), "spki_sha256"),
            (content("https://a:1", &key, ""), "feed_keys"),
            (content("https://a:1", &key, "\"+1\""), "feed_keys"),
            ("@/nowhere/at/all".to_owned(), "/nowhere/at/all"),
        ] {
            let error = format!("{:#}", Join::of_argument(&bad).unwrap_err());
            assert!(error.contains(expected) && !error.contains("secret"), "{error}");
        }
    }
}
