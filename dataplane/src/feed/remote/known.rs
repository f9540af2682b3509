//! What a node has learned since it was added: the keys that it trusts now, where control planes are, and where in Redis
//! the feed is. Kept in the state folder, so that it holds at the next start whoever can be asked then.
//!
//! Keys are taken from an announcement that is signed by one that is trusted already, so that neither who has Redis nor who
//! has the key of the control plane's TLS can name one. What is announced takes the place of what was known, but for a while
//! in which control planes may still sign with the key before: one that has been rotated away is not trusted for ever.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use godwit_wire::feed::{Announcement, DecodeError, VerifyingKey};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::elsewhere::Elsewhere;
use super::hex;
use super::join::{ControlPlane, Join};
use crate::state::{self, disk::Disk};

/// In the state folder.
const FILE: &str = "known";
/// The most octets of it.
const MAX_OCTETS: u64 = 64 << 10;
/// How long a key is trusted after another was announced in its place: control planes go over within seconds.
const GRACE: Duration = Duration::from_secs(60);

/// See the module.
pub(super) struct Known {
    inner: Mutex<Inner>,
    /// What it was learned with: of another join string nothing is taken over.
    of: String,
    file: Option<PathBuf>,
}

struct Inner {
    /// Of the announcement; 0 before any.
    number: u64,
    keys: Vec<VerifyingKey>,
    /// Those before, and until when.
    before: Option<(Vec<VerifyingKey>, Instant)>,
    urls: Vec<String>,
    announcement: Vec<u8>,
    elsewhere: Elsewhere,
    /// It is not what the file holds.
    is_new: bool,
}

/// What is in the file.
#[derive(Deserialize, Serialize)]
struct Kept {
    of: String,
    announcement: String,
    #[serde(flatten)]
    elsewhere: Elsewhere,
}

/// What an announcement has changed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Learned {
    pub(super) keys: bool,
    pub(super) urls: bool,
}

/// Why an announcement is not believed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Unbelieved {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error("it is not signed by the first of its keys")]
    Unsigned,
    #[error("it is signed by a key that this node does not trust; remove the node and add it again")]
    Stranger,
    #[error("it names other keys under a number that is known")]
    Conflict,
}

impl Known {
    /// What was learned with this join string, as the state folder has it.
    pub(super) fn load(join: &Join, folder: Option<&Path>) -> Known {
        let inner = Inner {
            number: 0,
            keys: join.feed_keys.clone(),
            before: None,
            urls: Vec::new(),
            announcement: Vec::new(),
            elsewhere: Elsewhere::default(),
            is_new: false,
        };
        let known = Known {
            inner: Mutex::new(inner),
            of: hex(digest(&SHA256, join.text().as_bytes()).as_ref()),
            file: folder.map(|folder| folder.join(FILE)),
        };
        if let Some(file) = known.file.as_deref().filter(|file| file.exists())
            && let Err(error) = known.read(file)
        {
            let error = format!("{error:#}");
            tracing::error!(file = %file.display(), error, "what was learned of the control plane is lost; going by the join string");
        }
        known
    }

    fn read(&self, file: &Path) -> anyhow::Result<()> {
        let length = std::fs::metadata(file)?.len();
        ensure!(length <= MAX_OCTETS, "{length} octets are too many");
        let kept: Kept = serde_json::from_slice(&std::fs::read(file)?)?;
        if kept.of != self.of {
            return Ok(());
        }
        let mut inner = self.inner();
        if !kept.announcement.is_empty() {
            let octets = URL_SAFE_NO_PAD.decode(&kept.announcement).context("announcement")?;
            let announcement = signed_by_itself(&octets).context("announcement")?;
            (inner.number, inner.keys, inner.urls) =
                (announcement.number, announcement.keys, announcement.urls);
            inner.announcement = octets;
        }
        inner.elsewhere = kept.elsewhere;
        Ok(())
    }

    /// What signatures are checked with at this moment.
    pub(super) fn keys(&self) -> Vec<VerifyingKey> {
        let mut inner = self.inner();
        inner.before.take_if(|(_, until)| Instant::now() >= *until);
        let before = inner.before.iter().flat_map(|(keys, _)| keys);
        inner.keys.iter().chain(before).copied().collect()
    }

    /// What is trusted from now on, for the control plane to know: without those that soon will not be.
    pub(super) fn trusted(&self) -> Vec<VerifyingKey> {
        self.inner().keys.clone()
    }

    /// Where control planes are: what was announced, then what the join string says.
    pub(super) fn control_planes(&self, join: &Join) -> Vec<ControlPlane> {
        let mut all: Vec<ControlPlane> = Vec::new();
        for one in self.announced().into_iter().chain(join.control_planes.iter().cloned()) {
            if !all.contains(&one) {
                all.push(one);
            }
        }
        all
    }

    /// Where control planes are, as they announce it.
    pub(super) fn announced(&self) -> Vec<ControlPlane> {
        self.inner().urls.iter().filter_map(|url| ControlPlane::of_url(url)).collect()
    }

    /// Where in Redis the feed is, if anywhere.
    pub(super) fn elsewhere(&self) -> Elsewhere {
        self.inner().elsewhere.clone()
    }

    /// Takes what a control plane says of that; whether it is something else than before.
    pub(super) fn elsewhere_is(&self, elsewhere: Elsewhere) -> bool {
        let mut inner = self.inner();
        let is_moved = inner.elsewhere != elsewhere;
        inner.elsewhere = elsewhere;
        inner.is_new |= is_moved;
        is_moved
    }

    /// Takes an announcement, if it is to be believed. An older one than is known changes nothing.
    pub(super) fn learn(&self, octets: &[u8]) -> Result<Learned, Unbelieved> {
        let mut inner = self.inner();
        if octets == inner.announcement {
            return Ok(Learned::default());
        }
        let Announcement { number, keys, urls } = signed_by_itself(octets)?;
        if number < inner.number {
            return Ok(Learned::default());
        }
        if !keys.first().is_some_and(|signer| inner.keys.contains(signer)) {
            return Err(Unbelieved::Stranger);
        }
        let learned = Learned { keys: keys != inner.keys, urls: urls != inner.urls };
        if learned.keys && number == inner.number {
            return Err(Unbelieved::Conflict);
        }
        if learned.keys {
            let before = std::mem::replace(&mut inner.keys, keys);
            inner.before = Some((before, Instant::now() + GRACE));
        }
        (inner.number, inner.urls, inner.announcement) = (number, urls, octets.to_vec());
        inner.is_new = true;
        Ok(learned)
    }

    /// Brings down to the disk what was learned since the last time. Where that fails it holds until the end of the process,
    /// and can be learned again.
    pub(super) fn keep(&self) {
        let Some(file) = &self.file else { return };
        let mut inner = self.inner();
        if !std::mem::take(&mut inner.is_new) {
            return;
        }
        let announcement = URL_SAFE_NO_PAD.encode(&inner.announcement);
        let kept = Kept { of: self.of.clone(), announcement, elsewhere: inner.elsewhere.clone() };
        drop(inner);
        // Text always has a form in JSON.
        let octets = serde_json::to_vec(&kept).unwrap_or_default();
        if let Err(error) = state::put(&Disk::default(), file, |file| file.write_all(&octets)) {
            let error = format!("{error:#}");
            tracing::error!(file = %file.display(), error, "what was learned of the control plane could not be written");
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An announcement that the first of its keys has signed: whoever names keys has the one that signs now.
fn signed_by_itself(octets: &[u8]) -> Result<Announcement, Unbelieved> {
    let announcement = Announcement::decode(octets)?;
    let signer = announcement.keys.first().map(std::slice::from_ref).unwrap_or_default();
    Announcement::verify(octets, signer).map_err(|_| Unbelieved::Unsigned)?;
    Ok(announcement)
}

#[cfg(test)]
mod tests {
    use godwit_wire::feed::SigningKey;

    use super::*;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&[seed; 32]).unwrap()
    }

    fn public(seeds: &[u8]) -> Vec<VerifyingKey> {
        seeds.iter().map(|seed| key(*seed).verifying_key()).collect()
    }

    /// Of number, keys and URLs, signed by a key.
    fn announced(number: u64, keys: &[u8], urls: &[&str], by: u8) -> Vec<u8> {
        let urls = urls.iter().map(|url| (*url).to_owned()).collect();
        let mut octets = Vec::new();
        Announcement { number, keys: public(keys), urls }.encode_signed(&key(by), &mut octets);
        octets
    }

    fn joined(keys: &[u8], token: &str) -> Join {
        let keys: Vec<String> = public(keys).iter().map(|key| hex(&key.0)).collect();
        let zeros = "00".repeat(32);
        let content = serde_json::json!({
            "url": "https://a.test:1", "spki_sha256": zeros, "feed_keys": keys, "digest_key": zeros,
            "generation": 1, "token": token, "name": "n",
        });
        Join::of_argument(&format!("godwit-join:{}", URL_SAFE_NO_PAD.encode(content.to_string()))).unwrap()
    }

    const KEYS: Learned = Learned { keys: true, urls: false };
    const NOTHING: Learned = Learned { keys: false, urls: false };

    #[test]
    fn p9_keys_are_learned_from_who_is_trusted_and_from_nobody_else() {
        let known = Known::load(&joined(&[1, 2], "x"), None);
        assert_eq!(known.learn(&announced(5, &[1, 2], &[], 1)), Ok(NOTHING));
        // Another key, whoever signs; the next key alone is not one that signs now and names others.
        for (keys, by, error) in [
            (&[9, 3][..], 9, Unbelieved::Stranger),
            (&[2, 9], 9, Unbelieved::Unsigned),
            (&[9, 2], 2, Unbelieved::Unsigned),
            (&[1, 9], 2, Unbelieved::Unsigned),
        ] {
            assert_eq!(known.learn(&announced(9, keys, &[], by)), Err(error), "{keys:?} by {by}");
        }
        assert_eq!(known.learn(&announced(5, &[1, 9], &[], 1)), Err(Unbelieved::Conflict));
        let mut unsigned = Vec::new();
        Announcement { number: 9, keys: public(&[1, 9]), urls: Vec::new() }.encode(&mut unsigned);
        assert_eq!(known.learn(&unsigned), Err(Unbelieved::Unsigned));
        assert!(matches!(known.learn(b"GDWT"), Err(Unbelieved::Decode(_))));
        assert_eq!(known.trusted(), public(&[1, 2]));

        assert_eq!(known.learn(&announced(6, &[2, 3], &[], 2)), Ok(KEYS));
        assert_eq!(known.trusted(), public(&[2, 3]));
        assert_eq!(known.keys(), public(&[2, 3, 1, 2]), "control planes may sign with it for a moment");
        // What was announced once comes again: nothing goes back, and the key before names none any more.
        assert_eq!(known.learn(&announced(5, &[1, 2], &[], 1)), Ok(NOTHING));
        assert_eq!(known.learn(&announced(7, &[1, 9], &[], 1)), Err(Unbelieved::Stranger));
        known.inner().before.as_mut().unwrap().1 = Instant::now();
        assert_eq!(known.keys(), public(&[2, 3]), "a key that was rotated away is not trusted for ever");
    }

    #[test]
    fn what_was_learned_holds_at_the_next_start_and_with_this_join_string_alone() {
        let folder = tempfile::tempdir().unwrap();
        let join = joined(&[1, 2], "x");
        let known = Known::load(&join, Some(folder.path()));
        let urls = ["https://b.test:2", "nonsense", "https://a.test:1"];
        assert_eq!(known.learn(&announced(6, &[2, 3], &urls, 2)), Ok(Learned { keys: true, urls: true }));
        let stream = super::super::stream::Place {
            url: "redis://r:6379".into(),
            stream: "s".into(),
            head: "h".into(),
        };
        let place = Elsewhere { redis: Some(stream), cache: None };
        assert!(known.elsewhere_is(place.clone()) && !known.elsewhere_is(place.clone()));
        known.keep();
        let again = Known::load(&join, Some(folder.path()));
        assert_eq!((again.keys(), again.elsewhere()), (public(&[2, 3]), place));
        let planes: Vec<u16> = again.control_planes(&join).iter().map(|plane| plane.port).collect();
        assert_eq!(planes, [2, 1]);
        assert_eq!(again.learn(&announced(5, &[1, 2], &[], 1)), Ok(NOTHING));
        // Added again: what the new line says counts.
        let other = Known::load(&joined(&[7, 8], "y"), Some(folder.path()));
        assert_eq!((other.keys(), other.elsewhere()), (public(&[7, 8]), Elsewhere::default()));
        // Damaged at any octet: the join string, or what was written, and nothing else.
        let file = folder.path().join(FILE);
        let good = std::fs::read(&file).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 4;
            std::fs::write(&file, bad).unwrap();
            let found = Known::load(&join, Some(folder.path())).keys();
            assert!(found == public(&[1, 2]) || found == public(&[2, 3]), "octet {at}");
        }
    }
}
