//! `[redis]`

use std::path::PathBuf;

use anyhow::Context as _;
use godwit_redis::Place;
use serde::{Deserialize, Serialize};

use super::hidden::shown_without_password;

/// Databases of what is kept where only the server is named.
const CACHE: i64 = 0;
const STREAMS: i64 = 1;
const LIMITS: i64 = 2;

/// Redis servers. Without one, data planes on other machines hear of changes from the control plane alone.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Redis {
    /// The server, as redis://user:password@host:6379; redis+sentinel://host:26379,…/MASTER for the one that Sentinel names,
    /// redis+cluster://host:6379,… for a cluster; rediss for TLS. Default none.
    #[serde(serialize_with = "shown_without_password")]
    pub url: Option<String>,
    /// A file that holds nothing but the URL, which may hold a password. Default none.
    pub url_file: Option<PathBuf>,
    /// The server and database of the streams, where they are to be elsewhere. Default database 1 of `url`.
    #[serde(serialize_with = "shown_without_password")]
    pub streams_url: Option<String>,
    /// Whether the record cache is kept. Where it is not, nothing of it is written, and data planes are not told of one. Default
    /// true.
    pub cache: bool,
    /// The server and database of the record cache, where it is to be elsewhere. Default database 0 of `url`.
    #[serde(serialize_with = "shown_without_password")]
    pub cache_url: Option<String>,
    /// The server and database of the rate limits, where they are to be elsewhere. Default database 2 of `url`.
    #[serde(serialize_with = "shown_without_password")]
    pub limits_url: Option<String>,
    /// What data planes read the streams with, as redis://user:password@host:6379/1: the same server and database. The user is
    /// made to be one who can only read the feed. Default none: they ask the control plane alone.
    #[serde(serialize_with = "shown_without_password")]
    pub nodes_url: Option<String>,
    /// What data planes read the record cache with. Default database 0 of `nodes_url`, where `cache_url` is not set.
    #[serde(serialize_with = "shown_without_password")]
    pub nodes_cache_url: Option<String>,
    /// What all keys begin with: deployments that share a server need different ones. Default `godwit:`.
    pub prefix: String,
}

impl Default for Redis {
    fn default() -> Self {
        Redis {
            url: None,
            url_file: None,
            streams_url: None,
            cache: true,
            cache_url: None,
            limits_url: None,
            nodes_url: None,
            nodes_cache_url: None,
            prefix: "godwit:".to_owned(),
        }
    }
}

impl Redis {
    /// Where the streams are; `None` where no server is set.
    ///
    /// # Errors
    /// When the file with the URL cannot be read, or a URL is none.
    pub fn streams(&self) -> anyhow::Result<Option<Place>> {
        self.role(self.streams_url.as_deref(), "redis.streams_url", STREAMS)
    }

    /// Where the record cache is; `None` where none is kept, or no server is set.
    ///
    /// # Errors
    /// When the file with the URL cannot be read, or a URL is none.
    pub fn cache(&self) -> anyhow::Result<Option<Place>> {
        if !self.cache {
            return Ok(None);
        }
        self.role(self.cache_url.as_deref(), "redis.cache_url", CACHE)
    }

    /// Where the rate limits are counted; `None` where no server is set.
    ///
    /// # Errors
    /// When the file with the URL cannot be read, or a URL is none.
    pub fn limits(&self) -> anyhow::Result<Option<Place>> {
        self.role(self.limits_url.as_deref(), "redis.limits_url", LIMITS)
    }

    fn role(&self, own: Option<&str>, key: &'static str, database: i64) -> anyhow::Result<Option<Place>> {
        if let Some(url) = own {
            return Place::parse(url).map(Some).context(key);
        }
        let (url, key) = match (&self.url, &self.url_file) {
            (Some(url), _) => (url.clone(), "redis.url".to_owned()),
            (None, Some(file)) => {
                let key = format!("redis.url_file {}", file.display());
                (std::fs::read_to_string(file).with_context(|| key.clone())?.trim().to_owned(), key)
            }
            (None, None) => return Ok(None),
        };
        Ok(Some(Place::parse(&url).context(key)?.with_database(database)))
    }

    /// What data planes are told to read the streams with; `None` where they are told nothing.
    ///
    /// # Errors
    /// When the URL is none.
    pub fn nodes(&self) -> anyhow::Result<Option<(String, Place)>> {
        let Some(url) = &self.nodes_url else { return Ok(None) };
        Ok(Some((url.clone(), Place::parse(url).context("redis.nodes_url")?)))
    }

    /// What data planes are told to read the record cache with; `None` where they are told nothing.
    ///
    /// # Errors
    /// When the URL is none.
    pub fn nodes_of_cache(&self) -> anyhow::Result<Option<(String, Place)>> {
        if let Some(url) = &self.nodes_cache_url {
            return Ok(Some((url.clone(), Place::parse(url).context("redis.nodes_cache_url")?)));
        }
        let streams_alone = self.cache_url.is_some() || self.url.is_none() && self.url_file.is_none();
        let nodes = self.nodes()?.filter(|_| !streams_alone);
        Ok(nodes.map(|(url, place)| (url, place.with_database(CACHE))))
    }

    /// The first key whose value is out of range, and what was expected.
    pub(super) fn out_of_range(&self) -> Option<(&'static str, &'static str)> {
        let is_url = |url: &Option<String>| url.as_deref().is_none_or(|url| Place::parse(url).is_ok());
        let expected = "a URL like redis://user@host:6379, redis+sentinel://host:26379/MASTER or redis+cluster://host:6379";
        [
            (is_url(&self.url), "redis.url", expected),
            (is_url(&self.streams_url), "redis.streams_url", expected),
            (is_url(&self.cache_url), "redis.cache_url", expected),
            (is_url(&self.limits_url), "redis.limits_url", expected),
            (is_url(&self.nodes_url), "redis.nodes_url", expected),
            (is_url(&self.nodes_cache_url), "redis.nodes_cache_url", expected),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_have_a_database_of_their_own() {
        let url = |url: &str| Some(url.to_owned());
        let database = |redis: Redis| redis.streams().unwrap().map(|place| place.database());
        assert_eq!(database(Redis::default()), None);
        assert_eq!(database(Redis { url: url("redis://cache.test"), ..Redis::default() }), Some(1));
        let other = Redis { streams_url: url("redis://s.test/7"), ..Redis::default() };
        assert_eq!(database(other), Some(7));
    }

    #[test]
    fn roles_are_databases_of_one_server_or_wherever_their_urls_point() {
        let url = |url: &str| Some(url.to_owned());
        let shown = |redis: &Redis| {
            [redis.cache(), redis.streams()].map(|place| place.unwrap().map(|place| place.to_string()))
        };
        let redis = Redis { cache: true, url: url("redis+sentinel://s.test/main"), ..Redis::default() };
        assert_eq!(redis.cache().unwrap().unwrap().database(), 0);
        assert_eq!(redis.streams().unwrap().unwrap().database(), 1);
        assert_eq!(redis.limits().unwrap().unwrap().database(), 2);
        let redis = Redis {
            cache: true,
            cache_url: url("redis+cluster://c.test"),
            url: url("redis://a.test"),
            ..Redis::default()
        };
        assert_eq!(shown(&redis), [url("redis+cluster://c.test"), url("redis://a.test:6379/1")]);
        let redis = Redis { cache: true, cache_url: url("redis://c.test/4"), ..Redis::default() };
        assert_eq!(shown(&redis), [url("redis://c.test:6379/4"), None]);
        let redis = Redis { cache: false, url: url("redis://a.test"), ..redis };
        assert_eq!(shown(&redis), [None, url("redis://a.test:6379/1")]);
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
