//! Who the internal listener is: a key pair that all control planes of one database share, and a certificate made anew with
//! every start. A node was told the hash of the public key (SPKI, RFC 7469 §2.4) when it was added, and looks at nothing
//! else.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context as _;
use rcgen::{CertificateParams, DnType, KeyPair, PublicKeyData as _, SanType};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::version::TLS13;
use sha2::{Digest as _, Sha256};

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// For the listener: TLS 1.3, and nothing before it.
    pub(crate) server: Arc<ServerConfig>,
    /// SHA-256 of the public key.
    pub(crate) spki_sha256: [u8; 32],
}

impl Identity {
    /// Of a key pair in PKCS #8, for a listener at an address.
    ///
    /// # Errors
    /// When it is no key pair.
    pub(crate) fn of(pkcs8: &[u8], address: IpAddr) -> anyhow::Result<Identity> {
        let pair = KeyPair::try_from(pkcs8).context("the key of the internal listener")?;
        let spki_sha256 = Sha256::digest(pair.subject_public_key_info()).into();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "godwit internal");
        params.subject_alt_names.push(SanType::IpAddress(address));
        let certificate = params.self_signed(&pair).context("the certificate of the internal listener")?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8.to_vec()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Identity { server: Arc::new(server), spki_sha256 })
    }
}
