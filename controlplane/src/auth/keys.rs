//! Public keys of users: read from what they send, and remembered while nothing is heard of them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hashlink::LruCache;
use pkcs1::RsaPublicKey;
use spki::SubjectPublicKeyInfoOwned;
use spki::der::asn1::ObjectIdentifier;
use spki::der::{Decode as _, DecodePem as _};
use uuid::Uuid;

use super::access::Access;
use super::jwt::{Algorithm, VerifyingKey};
use super::scope::Scopes;
use crate::error::{Code, Problem};
use crate::store::keys;

/// How long a key is taken for what it was, if nothing is heard.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Keys that are remembered.
const MOST: usize = 10_000;
/// The longest text of a key.
const MOST_TEXT: usize = 8 << 10;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// Bits of an RSA modulus.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=4_096;

/// A key as it verifies.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) id: Uuid,
    pub(crate) account: Uuid,
    pub(crate) verifying: VerifyingKey,
    /// The most that its tokens may.
    pub(crate) scopes: Scopes,
    pub(crate) single_use: bool,
    pub(crate) expires_at_us: Option<i64>,
    /// Of its account.
    pub(crate) is_operator: bool,
    /// Of its account.
    pub(crate) is_suspended: bool,
}

impl Key {
    pub(super) fn of(stored: &keys::Key) -> Option<Key> {
        let algorithm = Algorithm::parse(&stored.algorithm)?;
        Some(Key {
            id: stored.id,
            account: stored.account,
            verifying: VerifyingKey::new(algorithm, &stored.public_key),
            scopes: Scopes::parse(&stored.scope).ok()?,
            single_use: stored.single_use,
            expires_at_us: stored.expires_at_us,
            is_operator: stored.is_operator,
            is_suspended: stored.is_suspended,
        })
    }
}

/// A key, what its account may in which zone, and when both were looked up.
type Kept = (Instant, Arc<Key>, Access);

/// Keys that were looked up.
#[derive(Debug)]
pub(crate) struct Keys(Mutex<LruCache<Uuid, Kept>>);

impl Default for Keys {
    fn default() -> Keys {
        Keys(Mutex::new(LruCache::new(MOST)))
    }
}

impl Keys {
    /// A key that was looked up a moment ago, and what its account may.
    pub(super) fn remembered(&self, id: Uuid) -> Option<(Arc<Key>, Access)> {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, key, access) = keys.get(&id)?;
        (at.elapsed() < REMEMBERED).then(|| (key.clone(), access.clone()))
    }

    /// Remembers one.
    pub(super) fn keep(&self, key: Key, access: Access) -> (Arc<Key>, Access) {
        let key = Arc::new(key);
        let kept = (Instant::now(), key.clone(), access.clone());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key.id, kept);
        (key, access)
    }

    /// Forgets those of which something was heard.
    pub(crate) fn forget(&self, is_meant: impl Fn(&Key, &Access) -> bool) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|_, (_, key, access)| !is_meant(key, access));
    }
}

/// A public key as it was sent (`-----BEGIN PUBLIC KEY-----`, RFC 7468 §13): its algorithm, and its octets.
///
/// # Errors
/// `INVALID_VALUE`, with what was expected.
pub(crate) fn parse(pem: &str) -> Result<(Algorithm, Vec<u8>), Problem> {
    let wrong = |what: &str| Problem::new(Code::InvalidValue, format!("\"public_key\": {what}"));
    let expected = || wrong("expected PEM that begins with -----BEGIN PUBLIC KEY-----");
    let pem = pem.trim();
    // Whoever sends the other half has shown it: it is good no more.
    if pem.contains("PRIVATE KEY") {
        return Err(wrong("this is a private key; make another, and send its public half"));
    }
    if pem.len() > MOST_TEXT {
        return Err(expected());
    }
    let info = SubjectPublicKeyInfoOwned::from_pem(pem).map_err(|_| expected())?;
    let octets = info.subject_public_key.as_bytes().ok_or_else(expected)?;
    let parameters = info.algorithm.parameters.as_ref();
    match info.algorithm.oid {
        RSA => {
            let key = RsaPublicKey::from_der(octets).map_err(|_| expected())?;
            let modulus = key.modulus.as_bytes();
            let zeros = modulus.first().map_or(0, |first| first.leading_zeros() as usize);
            let bits = modulus.len() * 8 - zeros;
            if !RSA_BITS.contains(&bits) {
                return Err(wrong(&format!("an RSA key of {bits} bits; expected 2048 to 4096")));
            }
            if key.public_exponent.as_bytes() != [1, 0, 1] {
                return Err(wrong("an RSA key whose exponent is not 65537"));
            }
            Ok((Algorithm::Rs256, octets.to_vec()))
        }
        EC => {
            let curve = parameters.and_then(|any| any.decode_as::<ObjectIdentifier>().ok());
            if curve != Some(P256) || octets.len() != 65 || octets[0] != 4 {
                return Err(wrong("an elliptic curve other than P-256, or a compressed point"));
            }
            Ok((Algorithm::Es256, octets.to_vec()))
        }
        ED25519 if octets.len() == 32 => Ok((Algorithm::EdDsa, octets.to_vec())),
        _ => Err(wrong("expected RSA of 2048 to 4096 bits, P-256 or Ed25519")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(algorithm: &'static rcgen::SignatureAlgorithm) -> (rcgen::KeyPair, String) {
        let pair = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let pem = pair.public_key_pem();
        (pair, pem)
    }

    /// Made by `openssl rsa -pubout`.
    const RSA_2048: &str = include_str!("../../tests/keys/rsa2048.pub.pem");
    const RSA_1024: &str = include_str!("../../tests/keys/rsa1024.pub.pem");
    const RSA_E3: &str = include_str!("../../tests/keys/rsa2048-e3.pub.pem");
    const P384: &str = include_str!("../../tests/keys/p384.pub.pem");

    #[test]
    fn keys_of_the_three_kinds_are_read() {
        let (pair, text) = pem(&rcgen::PKCS_ECDSA_P256_SHA256);
        let (algorithm, octets) = parse(&format!("\n{text}\n")).unwrap();
        assert_eq!((algorithm, octets.len()), (Algorithm::Es256, 65));
        assert!(parse(&pair.serialize_pem()).unwrap_err().message.contains("private key"));
        let (_, text) = pem(&rcgen::PKCS_ED25519);
        let (algorithm, octets) = parse(&text).unwrap();
        assert_eq!((algorithm, octets.len()), (Algorithm::EdDsa, 32));
        assert_eq!(parse(RSA_2048).unwrap().0, Algorithm::Rs256);
    }

    #[test]
    fn others_are_refused_with_what_was_expected() {
        for (text, said) in [
            (RSA_1024, "1024 bits"),
            (RSA_E3, "exponent"),
            (P384, "P-256"),
            ("", "BEGIN PUBLIC KEY"),
            ("ssh-ed25519 AAAA", "BEGIN PUBLIC KEY"),
            ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "BEGIN PUBLIC KEY"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "BEGIN PUBLIC KEY"),
        ] {
            let refused = parse(text).unwrap_err();
            assert_eq!(refused.code, Code::InvalidValue);
            assert!(refused.message.contains(said), "{}", refused.message);
        }
    }
}
