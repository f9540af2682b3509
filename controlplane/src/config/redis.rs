//! `[redis]`

use std::path::PathBuf;

use anyhow::Context as _;
use redis::{ConnectionInfo, IntoConnectionInfo as _};
use serde::{Deserialize, Serialize};

use super::shown_without_password;

/// Database of the streams where only the server is named.
const STREAMS: i64 = 1;

/// Redis servers. Without one, data planes on other machines hear of changes from the control plane alone.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Redis {
    /// The server, as redis://user:password@host:6379; rediss:// for TLS. Default none.
    #[serde(serialize_with = "shown_without_password")]
    pub url: Option<String>,
    /// A file that holds nothing but the URL, which may hold a password. Default none.
    pub url_file: Option<PathBuf>,
    /// The server and database of the streams, where they are to be elsewhere. Default database 1 of `url`.
    #[serde(serialize_with = "shown_without_password")]
    pub streams_url: Option<String>,
    /// What data planes read the streams with, as redis://user:password@host:6379/1: the same server and database. The user is
    /// made to be one who can only read the feed. Default none: they ask the control plane alone.
    #[serde(serialize_with = "shown_without_password")]
    pub nodes_url: Option<String>,
    /// What all keys begin with: deployments that share a server need different ones. Default `godwit:`.
    pub prefix: String,
}

impl Default for Redis {
    fn default() -> Self {
        Redis { url: None, url_file: None, streams_url: None, nodes_url: None, prefix: "godwit:".to_owned() }
    }
}

impl Redis {
    /// Where the streams are; `None` where no server is set.
    ///
    /// # Errors
    /// When the file with the URL cannot be read, or a URL is none.
    pub fn streams(&self) -> anyhow::Result<Option<ConnectionInfo>> {
        if let Some(url) = &self.streams_url {
            return parsed(url).map(Some).context("redis.streams_url");
        }
        let (url, key) = match (&self.url, &self.url_file) {
            (Some(url), _) => (url.clone(), "redis.url".to_owned()),
            (None, Some(file)) => {
                let key = format!("redis.url_file {}", file.display());
                (std::fs::read_to_string(file).with_context(|| key.clone())?.trim().to_owned(), key)
            }
            (None, None) => return Ok(None),
        };
        let server = parsed(&url).context(key)?;
        let database = server.redis_settings().clone().set_db(STREAMS);
        Ok(Some(server.set_redis_settings(database)))
    }

    /// What data planes are told to read the streams with; `None` where they are told nothing.
    ///
    /// # Errors
    /// When the URL is none.
    pub fn nodes(&self) -> anyhow::Result<Option<(String, ConnectionInfo)>> {
        let Some(url) = &self.nodes_url else { return Ok(None) };
        Ok(Some((url.clone(), parsed(url).context("redis.nodes_url")?)))
    }

    /// The first key whose value is out of range, and what was expected.
    pub(super) fn out_of_range(&self) -> Option<(&'static str, &'static str)> {
        let is_url = |url: &Option<String>| url.as_deref().is_none_or(|url| parsed(url).is_ok());
        let expected = "a URL like redis://user@host:6379";
        [
            (is_url(&self.url), "redis.url", expected),
            (is_url(&self.streams_url), "redis.streams_url", expected),
            (is_url(&self.nodes_url), "redis.nodes_url", expected),
            (
                self.url.is_none() || self.url_file.is_none(),
                "redis.url_file",
                "either redis.url or redis.url_file",
            ),
            (
                self.prefix.len() <= 64 && !self.prefix.contains(['{', '}', ' ', '\n']),
                "redis.prefix",
                "at most 64 octets without braces and spaces",
            ),
        ]
        .into_iter()
        .find_map(|(good, key, expected)| (!good).then_some((key, expected)))
    }
}

/// The URL is not in the error: it may hold a password.
fn parsed(url: &str) -> anyhow::Result<ConnectionInfo> {
    url.into_connection_info().map_err(|_| anyhow::anyhow!("expected a URL like redis://user@host:6379"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_have_a_database_of_their_own() {
        let url = |url: &str| Some(url.to_owned());
        let database = |redis: Redis| redis.streams().unwrap().map(|server| server.redis_settings().db());
        assert_eq!(database(Redis::default()), None);
        assert_eq!(database(Redis { url: url("redis://cache.test"), ..Redis::default() }), Some(1));
        let other = Redis { streams_url: url("redis://s.test/7"), ..Redis::default() };
        assert_eq!(database(other), Some(7));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for bad in ["mysql://x", "redis//", "redis://:secret@[x"] {
            let redis = Redis { url: Some(bad.to_owned()), ..Redis::default() };
            assert_eq!(redis.out_of_range().map(|(key, _)| key), Some("redis.url"), "{bad}");
            assert!(!format!("{:#}", redis.streams().unwrap_err()).contains("secret"));
        }
        let redis = Redis { prefix: "{x}".to_owned(), ..Redis::default() };
        assert_eq!(redis.out_of_range().map(|(key, _)| key), Some("redis.prefix"));
    }
}
