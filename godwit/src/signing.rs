//! Keys of users: read from their file, and tokens that they sign (RFC 7515, RFC 7519).

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::KeyPair;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::output::Wrong;

/// The longest file of a key.
const MOST_OCTETS: u64 = 64 << 10;

/// What stands beside a key, so that a script needs nothing else: `me.pem.json`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Beside {
    /// Names the key.
    pub(crate) kid: String,
    /// Whose it is.
    pub(crate) sub: String,
    /// What its tokens are for.
    pub(crate) aud: String,
    /// Where the API is.
    pub(crate) url: String,
}

impl Beside {
    /// The file that it stands in.
    pub(crate) fn path(key: &Path) -> PathBuf {
        let mut path = key.as_os_str().to_owned();
        path.push(".json");
        path.into()
    }

    /// Reads it.
    pub(crate) fn read(key: &Path) -> anyhow::Result<Beside> {
        let path = Beside::path(key);
        let told = || format!("{}: written by `godwit key add`", path.display());
        let text = std::fs::read_to_string(&path).with_context(told)?;
        serde_json::from_str(&text).with_context(told)
    }

    /// Writes it.
    pub(crate) fn write(&self, key: &Path) -> anyhow::Result<()> {
        let path = Beside::path(key);
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(&path, text).with_context(|| path.display().to_string())
    }
}

/// A private key.
pub(crate) struct Key {
    how: How,
    /// The other half, in PEM.
    pub(crate) public_pem: String,
}

enum How {
    Rs256(RsaKeyPair),
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
}

impl Key {
    /// Reads a file in PEM.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Key> {
        let mut pem = String::new();
        let read = File::open(path).and_then(|file| file.take(MOST_OCTETS).read_to_string(&mut pem));
        read.map_err(|error| Wrong(format!("{}: {error}", path.display())))?;
        Key::of_pem(&pem).map_err(|reason| Wrong(format!("{}: {reason}", path.display())).into())
    }

    /// Makes one on P-256, in a file that nobody else may read.
    pub(crate) fn make(path: &Path) -> anyhow::Result<Key> {
        let pem = KeyPair::generate().context("a key")?.serialize_pem();
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let written = file.and_then(|mut file| {
            file.write_all(pem.as_bytes())?;
            file.sync_all()
        });
        written.with_context(|| path.display().to_string())?;
        Key::read(path)
    }

    fn of_pem(pem: &str) -> Result<Key, String> {
        if pem.contains("BEGIN EC PRIVATE KEY") || pem.contains("BEGIN RSA PRIVATE KEY") {
            let how = "convert it with: openssl pkcs8 -topk8 -nocrypt -in OLD -out NEW";
            return Err(format!("a key in an older form; {how}"));
        }
        if pem.contains("BEGIN ENCRYPTED PRIVATE KEY") {
            return Err(
                "a key behind a passphrase; keep it without, in a file that you alone can read".to_owned()
            );
        }
        let expected = "expected -----BEGIN PRIVATE KEY-----, of RSA (2048 to 4096 bits), P-256 or Ed25519";
        let pair = KeyPair::from_pem(pem).map_err(|_| expected.to_owned())?;
        let der = pair.serialize_der();
        let es256 = || {
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der, &SystemRandom::new())
                .map(How::Es256)
        };
        let eddsa = || Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map(How::EdDsa);
        let how = RsaKeyPair::from_pkcs8(&der).map(How::Rs256).or_else(|_| es256()).or_else(|_| eddsa());
        let how = how.map_err(|_| expected.to_owned())?;
        Ok(Key { how, public_pem: pair.public_key_pem() })
    }

    /// A token with these claims.
    pub(crate) fn sign(&self, kid: &str, claims: &Value) -> anyhow::Result<String> {
        let alg = match self.how {
            How::Rs256(_) => "RS256",
            How::Es256(_) => "ES256",
            How::EdDsa(_) => "EdDSA",
        };
        let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let message = format!("{}.{}", part(&json!({ "alg": alg, "typ": "JWT", "kid": kid })), part(claims));
        let failed = |_| anyhow::anyhow!("the key does not sign");
        let random = SystemRandom::new();
        let signature = match &self.how {
            How::Rs256(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature).map_err(failed)?;
                signature
            }
            How::Es256(pair) => pair.sign(&random, message.as_bytes()).map_err(failed)?.as_ref().to_vec(),
            How::EdDsa(pair) => pair.sign(message.as_bytes()).as_ref().to_vec(),
        };
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// The claims of a token for somebody, good from now on.
pub(crate) fn claims(sub: &str, aud: &str, ttl_s: u64) -> anyhow::Result<Value> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    Ok(json!({
        "iss": sub, "sub": sub, "aud": aud, "iat": since, "exp": since + ttl_s,
        "jti": uuid::Uuid::new_v4().to_string(),
    }))
}
