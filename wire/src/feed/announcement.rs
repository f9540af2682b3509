//! The signed statement of which keys the feed is signed with, now and next, and where control planes are asked. A node that
//! trusts the key that signed it follows rotations of the key by it, without being told by hand.
//!
//! Who may be believed, and whether it is newer than what is known, is for who reads it.

use super::codec::{Cursor, DecodeError, Kind, Reason, put_count, put_octets};
use super::signature::VerifyingKey;
use super::signed::{Body, signed};

/// The most keys of an announcement.
pub const MAX_ANNOUNCED_KEYS: u64 = 4;
/// The most URLs of an announcement.
pub const MAX_ANNOUNCED_URLS: u64 = 16;
/// The most octets of a URL.
pub const MAX_URL_OCTETS: usize = 512;

/// What keys there are, and whom to ask.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Announcement {
    /// Rises with every change of the keys. Of one number the keys are always the same.
    pub number: u64,
    /// The key that signs the feed, and this; behind it those that will.
    pub keys: Vec<VerifyingKey>,
    /// Where control planes are, each as `https://host:port`; what they say is printable ASCII here, and no more.
    pub urls: Vec<String>,
}

signed!(Announcement);

impl Body for Announcement {
    const KIND: Kind = Kind::Announcement;

    fn read(cursor: &mut Cursor<'_>) -> Result<Self, DecodeError> {
        let number = cursor.u64()?;
        let at_keys = cursor.clone();
        let count = cursor.count("keys of an announcement", MAX_ANNOUNCED_KEYS, 32)?;
        if count == 0 {
            return Err(at_keys.error(Reason::Empty("key in an announcement")));
        }
        let keys = (0..count).map(|_| cursor.array().map(VerifyingKey)).collect::<Result<_, _>>()?;
        let count = cursor.count("URLs of an announcement", MAX_ANNOUNCED_URLS, 2)?;
        let urls = (0..count).map(|_| url(cursor)).collect::<Result<_, _>>()?;
        Ok(Announcement { number, keys, urls })
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.number.to_be_bytes());
        put_count(out, self.keys.len());
        for key in &self.keys {
            out.extend_from_slice(&key.0);
        }
        put_count(out, self.urls.len());
        for url in &self.urls {
            put_octets(out, url.as_bytes());
        }
    }
}

fn url(cursor: &mut Cursor<'_>) -> Result<String, DecodeError> {
    let at = cursor.clone();
    let octets = cursor.octets()?;
    let is_good = (1..=MAX_URL_OCTETS).contains(&octets.len()) && octets.iter().all(u8::is_ascii_graphic);
    match std::str::from_utf8(octets) {
        Ok(text) if is_good => Ok(text.to_owned()),
        _ => Err(at.error(Reason::Url)),
    }
}
