//! Keys that seal: 32 octets for ChaCha20-Poly1305 (RFC 8439). What is sealed is bound to the place where it stands, so that it
//! cannot be put in the place of another:
//!
//! ```text
//! version u8 = 1 ┆                      nonce 12 octets, random ┆ ciphertext ┆ tag 16 octets     with a master key
//! version u8 = 2 ┆ data key i64, BE ┆ nonce 12 octets, random ┆ ciphertext ┆ tag 16 octets     with a data key
//! ```
//!
//! Bound to is the place as text (`table.column row`); in version 2 what comes before the nonce too, in front of it.

use anyhow::Context as _;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

/// Octets of a key.
pub(crate) const OCTETS: usize = 32;
const BY_MASTER: u8 = 1;
const BY_DATA_KEY: u8 = 2;

/// See the module.
#[derive(Debug)]
pub(crate) struct SealingKey(LessSafeKey);

/// With which key something is sealed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum By {
    /// A master key: data keys are, and what was sealed before there were any.
    Master,
    /// A data key, by its number.
    Data(i64),
}

impl By {
    /// What that begins with. Those with older keys begin with less.
    pub(crate) fn begin(self) -> Vec<u8> {
        match self {
            By::Master => vec![BY_MASTER],
            By::Data(key) => [&[BY_DATA_KEY][..], &key.to_be_bytes()].concat(),
        }
    }

    /// Of something that is sealed; `None` where it is nothing like it.
    pub(crate) fn of(sealed: &[u8]) -> Option<By> {
        match sealed.split_first()? {
            (&BY_MASTER, _) => Some(By::Master),
            (&BY_DATA_KEY, rest) => Some(By::Data(i64::from_be_bytes(*rest.first_chunk()?))),
            _ => None,
        }
    }

    fn bound_to(self, place: &str) -> Aad<Vec<u8>> {
        Aad::from(match self {
            By::Master => place.as_bytes().to_vec(),
            By::Data(_) => [&self.begin(), place.as_bytes()].concat(),
        })
    }
}

impl SealingKey {
    /// Of its octets.
    pub(crate) fn of(octets: &[u8; OCTETS]) -> SealingKey {
        let key = UnboundKey::new(&CHACHA20_POLY1305, octets).expect("it has the length of such a key");
        SealingKey(LessSafeKey::new(key))
    }

    /// Seals a secret for its place; `by` is this key.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub(crate) fn seal(&self, by: By, place: &str, secret: &[u8]) -> anyhow::Result<Vec<u8>> {
        let nonce = random::<NONCE_LEN>()?;
        let mut sealed = by.begin();
        sealed.extend_from_slice(&nonce);
        let mut ciphertext = secret.to_vec();
        let (nonce, bound_to) = (Nonce::assume_unique_for_key(nonce), by.bound_to(place));
        let done = self.0.seal_in_place_append_tag(nonce, bound_to, &mut ciphertext);
        done.ok().context("sealing a secret")?;
        sealed.extend_from_slice(&ciphertext);
        Ok(sealed)
    }

    /// Opens what was sealed for the same place; `None` when it was not, by this key.
    pub(crate) fn open(&self, place: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let by = By::of(sealed)?;
        let rest = sealed.get(by.begin().len()..)?;
        let (&nonce, ciphertext) = rest.split_first_chunk::<NONCE_LEN>()?;
        let mut octets = ciphertext.to_vec();
        let (nonce, bound_to) = (Nonce::assume_unique_for_key(nonce), by.bound_to(place));
        self.0.open_in_place(nonce, bound_to, &mut octets).ok().map(|secret| secret.to_vec())
    }
}

/// Octets that nobody can guess.
///
/// # Errors
/// When the system has none.
pub(crate) fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut octets = [0; N];
    getrandom::fill(&mut octets).context("random octets from the system")?;
    Ok(octets)
}
