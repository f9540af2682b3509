//! Tokens that we make ourselves, for who has logged in: signed with a key of all control planes of one database (ES256), and
//! read like everybody's.

use jsonwebtoken::{EncodingKey, Header, encode};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{Algorithm, Claims, Expected, Refused, VerifyingKey, crypto, verify};
use crate::auth::scope::Scopes;
use crate::error::{Code, Problem};
use crate::hex;

/// Octets of the hash that names the key.
const KID_OCTETS: usize = 16;

/// See the module.
pub(crate) struct Issuer {
    /// Names this instance: the same for all control planes of one database, and after a restore.
    id: String,
    /// How the API is reached.
    audience: String,
    lifetime_s: i64,
    kid: String,
    signing: EncodingKey,
    verifying: VerifyingKey,
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer").field("id", &self.id).field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl Issuer {
    /// With a key pair on P-256 (PKCS #8).
    ///
    /// # Errors
    /// When it is none.
    pub(crate) fn new(key: &[u8], id: Uuid, audience: String, lifetime_s: i64) -> anyhow::Result<Issuer> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key, &SystemRandom::new());
        let pair = pair.map_err(|error| anyhow::anyhow!("the key of the issuer: {error}"))?;
        let public = pair.public_key().as_ref();
        let kid = hex::encoded(&Sha256::digest(public)[..KID_OCTETS]);
        Ok(Issuer {
            id: id.to_string(),
            audience,
            lifetime_s,
            kid,
            signing: EncodingKey::from_ec_der(key),
            verifying: VerifyingKey::new(Algorithm::Es256, public),
        })
    }

    /// Seconds for which its tokens are good.
    pub(crate) fn lifetime_s(&self) -> i64 {
        self.lifetime_s
    }

    /// How the API is reached.
    pub(crate) fn audience(&self) -> &str {
        &self.audience
    }

    /// Whether a token says that it is one of these.
    pub(crate) fn is_named(&self, kid: &str) -> bool {
        self.kid == kid
    }

    /// A token for an account that goes on with a session.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub(crate) fn issue(
        &self,
        account: Uuid,
        session: Uuid,
        scopes: Scopes,
        now_s: i64,
    ) -> Result<String, Problem> {
        crypto::install();
        let claims = Claims {
            iss: self.id.clone(),
            sub: account,
            aud: self.audience.clone(),
            exp: now_s.saturating_add(self.lifetime_s),
            iat: now_s,
            nbf: None,
            jti: Uuid::new_v4().to_string(),
            sid: Some(session),
            scope: scopes.to_string(),
            godwit: None,
        };
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(jsonwebtoken::Algorithm::ES256) };
        let failed = |error| {
            tracing::error!(%error, "a token could not be signed");
            Problem::new(Code::Internal, "the token could not be signed")
        };
        encode(&header, &claims, &self.signing).map_err(failed)
    }

    /// What one of these claims.
    pub(crate) fn read(&self, token: &str, now_s: i64) -> Result<Claims, Refused> {
        let expected =
            Expected { issuer: &self.id, audience: &self.audience, lifetime_s: self.lifetime_s, now_s };
        verify(token, &self.verifying, expected)
    }
}
