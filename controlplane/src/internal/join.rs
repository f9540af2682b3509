//! What a node has to be told to join: one line, which holds its token. Whoever has it is the node.
//!
//! ```text
//! "godwit-join:" ┆ base64url without padding (RFC 4648 §5) of {"url", "urls", "spki_sha256", "feed_keys": [current, next],
//!                                                              "digest_key", "generation", "token", "name"}
//! ```
//!
//! Hashes and keys are hexadecimal. `feed_keys` are Ed25519 public keys. `url` is the first of `urls`, for nodes that know of
//! no more.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use godwit_wire::feed::{DigestKey, VerifyingKey};
use serde::Serialize;

use crate::auth::Token;
use crate::hex;
use crate::relay::signer::Signer;
use crate::secrets::Vault;

const PREFIX: &str = "godwit-join:";

/// What is the same for all that join.
pub struct Join {
    /// Where nodes find an internal listener: ours, and those of other control planes of the database.
    pub(crate) urls: Arc<[String]>,
    /// Who it is.
    pub(crate) spki_sha256: [u8; 32],
    /// What digests are keyed with.
    pub(crate) digest_key: DigestKey,
    /// Knows the feed's keys.
    pub(crate) vault: Arc<Vault>,
    /// To sign with them at once.
    pub(crate) signer: Arc<Signer>,
}

#[derive(Serialize)]
struct Text<'a> {
    url: &'a str,
    urls: &'a [String],
    spki_sha256: String,
    feed_keys: [String; 2],
    digest_key: String,
    generation: u64,
    token: String,
    name: &'a str,
}

impl Join {
    /// The line for a node.
    pub(crate) fn line(
        &self,
        name: &str,
        token: &Token,
        keys: &[VerifyingKey; 2],
        generation: u64,
    ) -> String {
        let text = Text {
            url: self.urls.first().map_or("", String::as_str),
            urls: &self.urls,
            spki_sha256: hex::encoded(&self.spki_sha256),
            feed_keys: keys.map(|key| hex::encoded(&key.0)),
            digest_key: hex::encoded(&self.digest_key.0),
            generation,
            token: token.reveal(),
            name,
        };
        // Text and numbers always have a form in JSON.
        let json = serde_json::to_vec(&text).unwrap_or_default();
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(json))
    }
}
