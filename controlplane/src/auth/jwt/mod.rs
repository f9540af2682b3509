//! JSON Web Tokens (RFC 7519, RFC 8725): which key signed one is in its header (`kid`), and that key alone decides how it is
//! verified. The library reads and verifies it; what it claims is judged here, each claim by its type and range.

mod crypto;
pub(crate) mod issuer;

use jsonwebtoken::{DecodingKey, Header, Validation, decode, decode_header};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::limits::{self, Narrowed};

/// The longest token.
const MOST_OCTETS: usize = 8 << 10;
/// The longest name of a key.
const MOST_KID: usize = 64;
/// The longest name of a token.
const MOST_JTI: usize = 128;
/// How far clocks may differ, either way.
pub(crate) const SKEW_S: i64 = 30;

/// How a key verifies. A token can only agree.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Algorithm {
    /// RSA PKCS #1 v1.5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// As headers and the database name it (RFC 7518 §3.1, RFC 8037 §3.1).
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Algorithm::Rs256 => "RS256",
            Algorithm::Es256 => "ES256",
            Algorithm::EdDsa => "EdDSA",
        }
    }

    /// Reads [`Algorithm::as_str`].
    pub(crate) fn parse(text: &str) -> Option<Algorithm> {
        let all = [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa];
        all.into_iter().find(|algorithm| algorithm.as_str() == text)
    }

    fn named(self) -> jsonwebtoken::Algorithm {
        match self {
            Algorithm::Rs256 => jsonwebtoken::Algorithm::RS256,
            Algorithm::Es256 => jsonwebtoken::Algorithm::ES256,
            Algorithm::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

/// A public key that verifies tokens.
#[derive(Clone)]
pub(crate) struct VerifyingKey {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl std::fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerifyingKey").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

impl VerifyingKey {
    /// Of the key's octets: `RSAPublicKey` in DER (RFC 8017 §A.1.1), an uncompressed point of P-256, or 32 octets of Ed25519.
    pub(crate) fn new(algorithm: Algorithm, octets: &[u8]) -> VerifyingKey {
        let key = match algorithm {
            Algorithm::Rs256 => DecodingKey::from_rsa_der(octets),
            Algorithm::Es256 => DecodingKey::from_ec_der(octets),
            Algorithm::EdDsa => DecodingKey::from_ed_der(octets),
        };
        VerifyingKey { algorithm, key }
    }
}

/// What a token claims. Others of its claims are not looked at (RFC 7519 §4).
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Claims {
    /// Who made it.
    pub(crate) iss: String,
    /// Whose it is.
    pub(crate) sub: Uuid,
    /// For whom.
    pub(crate) aud: String,
    /// Seconds since the epoch.
    pub(crate) exp: i64,
    /// Seconds since the epoch.
    pub(crate) iat: i64,
    /// Seconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) nbf: Option<i64>,
    /// Names it.
    pub(crate) jti: String,
    /// Of those that we made ourselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sid: Option<Uuid>,
    /// Names of scopes, with spaces between.
    #[serde(default)]
    pub(crate) scope: String,
    /// What it is narrowed to.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "limits::written")]
    pub(crate) godwit: Option<Narrowed>,
}

/// What must hold of a token beside its signature.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) audience: &'a str,
    /// The most seconds from `iat` to `exp`.
    pub(crate) lifetime_s: i64,
    /// Seconds since the epoch.
    pub(crate) now_s: i64,
}

/// Why a token is refused. For the log: who sent it learns as much as the sentence says.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("it is no JWT that is taken here")]
    Malformed,
    #[error("its header names a key or a condition that is not taken from tokens")]
    Header,
    #[error("no key here has its kid")]
    UnknownKey,
    #[error("its signature is not that of its key")]
    Signature,
    #[error("a claim is missing or of the wrong type")]
    Claims,
    #[error("iss is not who may make it")]
    Issuer,
    #[error("aud is not this server")]
    Audience,
    #[error("it has expired")]
    Expired,
    #[error("it is not valid yet: the clocks differ")]
    Early,
    #[error("exp is too far from iat")]
    Lifetime,
    #[error("jti is empty, too long, or no text")]
    Jti,
}

/// The name of the key that a token says to be signed with.
pub(crate) fn kid(token: &str) -> Result<String, Refused> {
    header(token)?.kid.filter(|kid| (1..=MOST_KID).contains(&kid.len())).ok_or(Refused::UnknownKey)
}

/// A header that brings nothing which is to be ours.
fn header(token: &str) -> Result<Header, Refused> {
    if token.len() > MOST_OCTETS {
        return Err(Refused::Malformed);
    }
    let header = decode_header(token).map_err(|_| Refused::Malformed)?;
    // A key is ours or none (RFC 8725 §3.10), and a condition that is not understood refuses (RFC 7515 §4.1.11).
    let Header { jku, jwk, x5u, x5c, x5t, x5t_s256, crit, enc, zip, typ, cty, .. } = &header;
    let brings_key = jku.is_some()
        || jwk.is_some()
        || x5u.is_some()
        || x5c.is_some()
        || x5t.is_some()
        || x5t_s256.is_some();
    let is_other = crit.is_some() || enc.is_some() || zip.is_some() || cty.is_some();
    if brings_key || is_other || typ.as_ref().is_some_and(|typ| !typ.eq_ignore_ascii_case("JWT")) {
        return Err(Refused::Header);
    }
    Ok(header)
}

/// That who sends a key has its other half: a token of that key, whatever its header calls it.
pub(crate) fn verify_proof(
    token: &str,
    key: &VerifyingKey,
    expected: Expected<'_>,
) -> Result<Claims, Refused> {
    header(token)?;
    verify(token, key, expected)
}

/// What a token claims, once it is known to be signed with a key, and to be meant for here and now.
pub(crate) fn verify(token: &str, key: &VerifyingKey, expected: Expected<'_>) -> Result<Claims, Refused> {
    use jsonwebtoken::errors::ErrorKind;

    crypto::install();
    let mut validation = Validation::new(key.algorithm.named());
    // The signature, by the one algorithm of the key, and nothing else: the rest is judged below.
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    let decoded = decode::<Claims>(token, &key.key, &validation).map_err(|error| match error.kind() {
        ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm => Refused::Signature,
        ErrorKind::Json(_) => Refused::Claims,
        _ => Refused::Malformed,
    })?;
    let claims = decoded.claims;
    let Expected { issuer, audience, lifetime_s, now_s } = expected;
    // Equal times of the far past and future do not overflow.
    let later = |time: i64| time.saturating_add(SKEW_S);
    if claims.iss != issuer {
        return Err(Refused::Issuer);
    }
    if claims.aud != audience {
        return Err(Refused::Audience);
    }
    if now_s >= later(claims.exp) {
        return Err(Refused::Expired);
    }
    if claims.iat > later(now_s) || claims.nbf.is_some_and(|nbf| nbf > later(now_s)) {
        return Err(Refused::Early);
    }
    if !(1..=lifetime_s).contains(&claims.exp.saturating_sub(claims.iat)) {
        return Err(Refused::Lifetime);
    }
    if !(1..=MOST_JTI).contains(&claims.jti.len()) || claims.jti.chars().any(char::is_control) {
        return Err(Refused::Jti);
    }
    Ok(claims)
}

#[cfg(test)]
mod tests;
