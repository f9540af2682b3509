//! Ed25519 signatures (RFC 8032) of what the feed carries. Where keys are kept and which ones a node trusts is not
//! decided here.
//!
//! Signed is not the value but a hash of its octets behind a context, so that a zone blob can be signed while it is
//! written, and a signature over one kind never fits another:
//!
//! ```text
//! "godwit feed 1" ┆ kind u8 ┆ BLAKE3 of all octets before the signature
//! ```

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use super::codec::{DecodeError, Kind, SIGNATURE_OCTETS, put_header, split_signature};

const CONTEXT: &[u8; 13] = b"godwit feed 1";

/// Why a signature is not accepted.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SignatureError {
    /// The header is not one, or the octets end before the signature.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// There is none.
    #[error("not signed")]
    Missing,
    /// It fits none of the keys.
    #[error("the signature fits none of the trusted keys")]
    Invalid,
    /// Octets that are not a private key.
    #[error("not an Ed25519 private key")]
    BadKey,
}

/// A private key.
#[derive(Debug)]
pub struct SigningKey(Ed25519KeyPair);

/// A public key: 32 octets (RFC 8032 §5.1.5).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct VerifyingKey(pub [u8; 32]);

impl SigningKey {
    /// Makes the key of a seed (the private key of RFC 8032 §5.1.5): 32 octets from a secure random source.
    ///
    /// # Errors
    /// [`SignatureError::BadKey`]; any 32 octets are a seed, so it is not expected.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, SignatureError> {
        Ed25519KeyPair::from_seed_unchecked(seed).map(SigningKey).map_err(|_| SignatureError::BadKey)
    }

    /// Reads a key in PKCS #8 (RFC 8410 §7).
    ///
    /// # Errors
    /// [`SignatureError::BadKey`] when the octets are something else.
    pub fn from_pkcs8(octets: &[u8]) -> Result<Self, SignatureError> {
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(octets).map(SigningKey).map_err(|_| SignatureError::BadKey)
    }

    /// The public key that belongs to it.
    #[must_use]
    pub fn verifying_key(&self) -> VerifyingKey {
        let mut octets = [0; 32];
        for (to, &from) in octets.iter_mut().zip(self.0.public_key().as_ref()) {
            *to = from;
        }
        VerifyingKey(octets)
    }

    /// Signs octets by their hash.
    pub(super) fn sign(&self, kind: Kind, hash: &[u8; 32]) -> [u8; SIGNATURE_OCTETS] {
        let mut signature = [0; SIGNATURE_OCTETS];
        for (to, &from) in signature.iter_mut().zip(self.0.sign(&message(kind, hash)).as_ref()) {
            *to = from;
        }
        signature
    }
}

/// Appends an encoding: a header, what the body appends, and with a key the signature of both.
pub(super) fn put(out: &mut Vec<u8>, kind: Kind, key: Option<&SigningKey>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    put_header(out, kind, key.is_some());
    body(out);
    if let Some(key) = key {
        put_signature(out, start, kind, key);
    }
}

/// Appends the signature of `out` from `start` on.
pub(super) fn put_signature(out: &mut Vec<u8>, start: usize, kind: Kind, key: &SigningKey) {
    let hash = blake3::hash(out.get(start..).unwrap_or_default());
    out.extend_from_slice(&key.sign(kind, hash.as_bytes()));
}

/// Checks the signature at the end of an encoding, before anything else of it is looked at.
pub(super) fn verify(bytes: &[u8], kind: Kind, keys: &[VerifyingKey]) -> Result<(), SignatureError> {
    let (rest, signature) = split_signature(bytes, kind)?;
    let signature = signature.ok_or(SignatureError::Missing)?;
    verify_hash(kind, blake3::hash(rest).as_bytes(), signature, keys)
}

/// Checks a signature of octets whose hash is known.
pub(super) fn verify_hash(
    kind: Kind,
    hash: &[u8; 32],
    signature: &[u8; SIGNATURE_OCTETS],
    keys: &[VerifyingKey],
) -> Result<(), SignatureError> {
    let message = message(kind, hash);
    let fits =
        |key: &VerifyingKey| UnparsedPublicKey::new(&ED25519, key.0).verify(&message, signature).is_ok();
    if keys.iter().any(fits) { Ok(()) } else { Err(SignatureError::Invalid) }
}

fn message(kind: Kind, hash: &[u8; 32]) -> Vec<u8> {
    let mut message = Vec::with_capacity(CONTEXT.len().saturating_add(33));
    message.extend_from_slice(CONTEXT);
    message.push(kind as u8);
    message.extend_from_slice(hash);
    message
}
