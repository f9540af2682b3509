//! The cryptography behind the library that reads and writes JWTs: `ring`, which verifies all three algorithms that are
//! taken, and which everything else here stands on already.

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::signature::{Signer, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, signature};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair,
    RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};

static RING: CryptoProvider = CryptoProvider {
    signer_factory: |algorithm, key| match algorithm {
        Algorithm::ES256 => EcSigner::of(key).map(|signer| Box::new(signer) as Box<dyn JwtSigner>),
        // Others are only verified.
        _ => Err(ErrorKind::InvalidAlgorithm.into()),
    },
    verifier_factory: |algorithm, key| {
        WithRing::of(*algorithm, key).map(|verifier| Box::new(verifier) as Box<dyn JwtVerifier>)
    },
    // No key comes as a JWK through the library.
    key_utils: KeyUtils::new_unimplemented(),
};

/// Has the library use this. Any number of times: there is no other in this process.
pub(super) fn install() {
    let _ = RING.install_default();
}

/// Signs with a P-256 key.
struct EcSigner(EcdsaKeyPair);

impl EcSigner {
    fn of(key: &EncodingKey) -> Result<EcSigner, Error> {
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.as_bytes(), &SystemRandom::new());
        pair.map(EcSigner).map_err(|_| ErrorKind::InvalidEcdsaKey.into())
    }
}

impl Signer<Vec<u8>> for EcSigner {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        let signed = self.0.sign(&SystemRandom::new(), message).map_err(|_| signature::Error::new())?;
        Ok(signed.as_ref().to_vec())
    }
}

impl JwtSigner for EcSigner {
    fn algorithm(&self) -> Algorithm {
        Algorithm::ES256
    }
}

/// Verifies with a public key.
struct WithRing {
    algorithm: Algorithm,
    by: &'static dyn VerificationAlgorithm,
    key: Vec<u8>,
}

impl WithRing {
    fn of(algorithm: Algorithm, key: &DecodingKey) -> Result<WithRing, Error> {
        let by: &'static dyn VerificationAlgorithm = match algorithm {
            Algorithm::RS256 => &RSA_PKCS1_2048_8192_SHA256,
            Algorithm::ES256 => &ECDSA_P256_SHA256_FIXED,
            Algorithm::EdDSA => &ED25519,
            _ => return Err(ErrorKind::InvalidAlgorithm.into()),
        };
        Ok(WithRing { algorithm, by, key: key.try_get_as_bytes()?.to_vec() })
    }
}

impl Verifier<Vec<u8>> for WithRing {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let verified = UnparsedPublicKey::new(self.by, &self.key).verify(message, signature);
        verified.map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for WithRing {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
