//! What is kept of a request that was accepted, and how it lies on the disk.
//!
//! The request itself is kept, not what this version made of it: it is read and judged again when its turn comes, by whatever
//! version runs then.
//!
//! ```text
//! 1 octet    version of this layout
//! 32 octets  SHA-256 of all that follows
//! 4 octets   length of the head, big endian
//! head       JSON
//! body       octets, as they came
//! ```

use std::net::IpAddr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::auth::limits::Narrowed;
use crate::store::audit::Who;

const VERSION: u8 = 1;
const HASH_OCTETS: usize = 32;
const LENGTH_OCTETS: usize = 4;
const HEAD_AT: usize = 1 + HASH_OCTETS + LENGTH_OCTETS;

/// A request that was accepted.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) head: Head,
    pub(crate) body: Bytes,
}

/// All of a request but its body.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Head {
    /// What the change was called, and will be.
    pub(crate) change: Uuid,
    pub(crate) accepted_at_us: i64,
    /// The token's id.
    pub(crate) caller: String,
    /// What they are narrowed to.
    #[serde(default)]
    pub(crate) narrowed: Narrowed,
    /// The key or the token of an account that they came with.
    #[serde(default)]
    pub(crate) came_with: Option<Uuid>,
    /// The address that it came from, and what it came with, as the audit log has it.
    #[serde(default)]
    pub(crate) client: Option<IpAddr>,
    #[serde(default)]
    pub(crate) brought: Option<String>,
    pub(crate) request_id: String,
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) content_type: Option<String>,
    /// Each line of it.
    pub(crate) if_match: Vec<String>,
    pub(crate) key: Option<Key>,
}

/// An `Idempotency-Key`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Key {
    pub(crate) key: String,
    /// See [`crate::model::change::Idempotency`].
    pub(crate) request_hash: [u8; 32],
}

impl Head {
    /// Who asked, and how they came, as the audit log has it.
    pub(crate) fn who(&self) -> Who {
        Who {
            actor: self.caller.clone(),
            client: self.client,
            came_with: self.brought.clone(),
            request_id: self.request_id.clone(),
            tenant: None,
        }
    }
}

impl Entry {
    /// As it lies on the disk.
    pub(crate) fn encode(&self) -> Vec<u8> {
        // Text, numbers and lists of them always have a form in JSON.
        let head = serde_json::to_vec(&self.head).unwrap_or_default();
        let mut octets = Vec::with_capacity(HEAD_AT + head.len() + self.body.len());
        octets.push(VERSION);
        octets.extend_from_slice(&[0; HASH_OCTETS]);
        octets.extend_from_slice(&u32::try_from(head.len()).unwrap_or(u32::MAX).to_be_bytes());
        octets.extend_from_slice(&head);
        octets.extend_from_slice(&self.body);
        let hash = Sha256::digest(&octets[1 + HASH_OCTETS..]);
        octets[1..=HASH_OCTETS].copy_from_slice(&hash);
        octets
    }

    /// Reads it back.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn decode(octets: &[u8]) -> Result<Entry, &'static str> {
        let (version, rest) = octets.split_first().ok_or("it is empty")?;
        if *version != VERSION {
            return Err("it was written by a later version");
        }
        let (hash, rest) = rest.split_at_checked(HASH_OCTETS).ok_or("it is too short")?;
        if Sha256::digest(rest)[..] != *hash {
            return Err("its checksum does not fit");
        }
        let (length, rest) = rest.split_first_chunk::<LENGTH_OCTETS>().ok_or("it is too short")?;
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let (head, body) = rest.split_at_checked(length).ok_or("its length does not fit")?;
        let head = serde_json::from_slice(head).map_err(|_| "its head cannot be read")?;
        Ok(Entry { head, body: Bytes::copy_from_slice(body) })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn entry(number: u8, body: &[u8]) -> Entry {
        let head = Head {
            change: Uuid::from_u128(u128::from(number)),
            accepted_at_us: 1_700_000_000_000_000 + i64::from(number),
            caller: "caller".to_owned(),
            narrowed: Narrowed { types: vec!["A".to_owned()], ..Narrowed::default() },
            came_with: (number % 3 == 1).then(|| Uuid::from_u128(u128::from(number))),
            client: (number % 2 == 1).then(|| IpAddr::from([192, 0, 2, number])),
            brought: (number % 2 == 1).then(|| format!("key {number}")),
            request_id: format!("request-{number}"),
            method: "PUT".to_owned(),
            target: "/api/v1/records/www.example.com.?type=A".to_owned(),
            content_type: Some("application/json".to_owned()),
            if_match: vec!["\"1\"".to_owned()],
            key: (number % 2 == 1).then(|| Key { key: format!("k{number}"), request_hash: [number; 32] }),
        };
        Entry { head, body: Bytes::copy_from_slice(body) }
    }

    #[test]
    fn an_entry_reads_back_and_any_damaged_octet_is_seen() {
        for body in [&b""[..], b"{}", &[0xFF; 300]] {
            let entry = entry(1, body);
            let octets = entry.encode();
            let back = Entry::decode(&octets).unwrap();
            assert_eq!((back.head, &back.body[..]), (entry.head, body));
            for at in 0..octets.len() {
                let mut damaged = octets.clone();
                damaged[at] ^= 0x20;
                assert!(Entry::decode(&damaged).is_err(), "octet {at}");
                assert!(Entry::decode(&octets[..at]).is_err(), "cut at {at}");
            }
        }
    }
}
