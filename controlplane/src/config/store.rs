//! `[store]`.

use std::path::PathBuf;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::hidden::{Hidden, shown_without_password};
use crate::secrets::MasterPlaces;
use crate::secrets::masters::digits;
use crate::store::Place;

/// In the data folder, where nothing else is set.
const SECRETS_KEY: &str = "secrets.key";

/// `[store]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// Folder of the database. Default ./godwit-data.
    pub data: PathBuf,
    /// A database of a PostgreSQL server instead, as postgres://user:password@host:5432/database. Default none.
    #[serde(serialize_with = "shown_without_password")]
    pub url: Option<String>,
    /// A file that holds nothing but the URL, which may hold a password. Default none.
    pub url_file: Option<PathBuf>,
    /// The file with the master key of secrets in the database, 32 octets or 64 hexadecimal digits: made by the first start,
    /// needed by every other one, on every machine. Default `secrets.key` in the data folder.
    pub secrets_key_file: Option<PathBuf>,
    /// The master key itself in place of the file, as 64 hexadecimal digits: for the environment. Default none.
    pub secrets_key: Option<Hidden>,
    /// The file with the master key that is to take its place, while it is changed. Default the name of the other file with
    /// `.next` behind it.
    pub secrets_next_key_file: Option<PathBuf>,
    /// Seconds for which a start tries to reach the server of `url`. Default 30.
    pub wait_seconds: u32,
    /// Connections that read. Default 4.
    pub readers: u32,
    /// Exports at once: each has a connection of its own. Default 2.
    pub exports: u32,
    /// Days for which changes and the history of zones are kept. Default 30.
    pub history_days: u32,
    /// Seconds from one count of all digests from the records to the next; 0 for never. Default 3600.
    pub recount_seconds: u32,
}

impl Default for Store {
    fn default() -> Self {
        Store {
            data: PathBuf::from("./godwit-data"),
            url: None,
            url_file: None,
            secrets_key_file: None,
            secrets_key: None,
            secrets_next_key_file: None,
            wait_seconds: 30,
            readers: 4,
            exports: 2,
            history_days: 30,
            recount_seconds: 3_600,
        }
    }
}

impl Store {
    /// Where master keys of secrets are.
    ///
    /// # Errors
    /// When the one that was given is none.
    pub(crate) fn master_places(&self) -> anyhow::Result<MasterPlaces> {
        let file = self.secrets_key_file.clone().unwrap_or_else(|| self.data.join(SECRETS_KEY));
        let next = self.secrets_next_key_file.clone().unwrap_or_else(|| {
            let mut name = file.clone().into_os_string();
            name.push(".next");
            name.into()
        });
        let given = self.secrets_key.as_ref().map(|key| digits(&key.0).context("store.secrets_key"));
        Ok(MasterPlaces { given: given.transpose()?, file, next })
    }

    /// The database of a server, where one is set.
    ///
    /// # Errors
    /// When the file with its URL cannot be read, or holds something else.
    pub fn server(&self) -> anyhow::Result<Option<Place>> {
        let wrong = |expected| anyhow::anyhow!("expected {expected}");
        if let Some(url) = &self.url {
            return Place::of_url(url).map(Some).map_err(wrong).context("store.url");
        }
        let Some(file) = &self.url_file else { return Ok(None) };
        let context = || format!("store.url_file {}", file.display());
        let url = std::fs::read_to_string(file).with_context(context)?;
        Place::of_url(url.trim()).map(Some).map_err(wrong).with_context(context)
    }

    /// The first key whose value is out of range, and what was expected.
    pub(super) fn out_of_range(&self) -> Option<(&'static str, &'static str)> {
        let readers = 1..=64;
        [
            (self.wait_seconds <= 3_600, "store.wait_seconds", "at most 3600"),
            (readers.contains(&self.readers), "store.readers", "1 to 64"),
            (readers.contains(&self.exports), "store.exports", "1 to 64"),
            (
                self.url.as_deref().is_none_or(|url| Place::of_url(url).is_ok()),
                "store.url",
                "a URL like postgres://user@host:5432/database",
            ),
            (
                self.url.is_none() || self.url_file.is_none(),
                "store.url_file",
                "either store.url or store.url_file",
            ),
            (
                self.secrets_key.as_ref().is_none_or(|key| digits(&key.0).is_some()),
                "store.secrets_key",
                "64 hexadecimal digits, as of openssl rand -hex 32",
            ),
            (
                self.secrets_key.is_none() || self.secrets_key_file.is_none(),
                "store.secrets_key_file",
                "either store.secrets_key or store.secrets_key_file",
            ),
            ((1..=36_500).contains(&self.history_days), "store.history_days", "1 to 36500"),
            (self.recount_seconds <= 31_536_000, "store.recount_seconds", "at most 31536000"),
        ]
        .into_iter()
        .find_map(|(good, key, expected)| (!good).then_some((key, expected)))
    }
}
