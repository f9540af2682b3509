//! TLS to the control plane: 1.3, and one public key that is believed, whatever the certificate says.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, PeerIncompatible,
    SignatureScheme,
};

/// Believes the certificate with this public key and no other.
#[derive(Debug)]
struct Pin {
    spki_sha256: [u8; 32],
    provider: Arc<CryptoProvider>,
}

/// Another key than that of the join string.
#[derive(Debug, thiserror::Error)]
#[error("the control plane has another key than the join string says")]
struct AnotherKey;

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let key = certificate.subject_public_key_info();
        let digest = ::ring::digest::digest(&::ring::digest::SHA256, key.as_ref());
        if digest.as_ref() == self.spki_sha256 {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(AnotherKey)))))
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls13RequiredForQuic))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// How to connect.
///
/// # Errors
/// The library lacks TLS 1.3.
pub(super) fn config(spki_sha256: [u8; 32]) -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(ring::default_provider());
    let pin = Arc::new(Pin { spki_sha256, provider: Arc::clone(&provider) });
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(pin)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::Mutex;
    use std::time::Duration;

    use bytes::Bytes;
    use godwit_wire::feed::{Digest, Head, SigningKey};
    use hyper::{Method, StatusCode};
    use rustls::ServerConfig;
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::feed::remote::client::{self, Client, Places};
    use crate::feed::remote::join::ControlPlane;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Speaks TLS 1.3 and HTTP as it should, with a key pair of its own, and answers everything with octets that the
    /// deployment has signed. Whatever is said to it inside of TLS it keeps.
    struct Impostor {
        address: SocketAddr,
        spki_sha256: [u8; 32],
        heard: Arc<Mutex<Vec<u8>>>,
        connections: Arc<Mutex<usize>>,
    }

    impl Impostor {
        async fn start(answer: Vec<u8>) -> Impostor {
            let pair = rcgen::KeyPair::generate().unwrap();
            // The very names that the genuine one has.
            let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()])
                .unwrap()
                .self_signed(&pair)
                .unwrap();
            let parsed = ParsedCertificate::try_from(certificate.der()).unwrap();
            let digest =
                ::ring::digest::digest(&::ring::digest::SHA256, parsed.subject_public_key_info().as_ref());
            let spki_sha256 = digest.as_ref().try_into().unwrap();
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pair.serialize_der()));
            let server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_protocol_versions(&[&rustls::version::TLS13])
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![certificate.der().clone()], key)
                .unwrap();
            let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let address = listener.local_addr().unwrap();
            let (heard, connections) = (Arc::<Mutex<Vec<u8>>>::default(), Arc::<Mutex<usize>>::default());
            let (keep, count) = (Arc::clone(&heard), Arc::clone(&connections));
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    *count.lock().unwrap() += 1;
                    let (acceptor, keep, answer) = (acceptor.clone(), Arc::clone(&keep), answer.clone());
                    tokio::spawn(async move {
                        let mut stream = acceptor.accept(stream).await.ok()?;
                        let mut octets = [0; 4096];
                        loop {
                            let length = stream.read(&mut octets).await.ok().filter(|length| *length > 0)?;
                            keep.lock().unwrap().extend_from_slice(&octets[..length]);
                            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", answer.len());
                            stream.write_all(head.as_bytes()).await.ok()?;
                            stream.write_all(&answer).await.ok()?;
                        }
                        #[expect(unreachable_code, reason = "says what the block gives")]
                        Some(())
                    });
                }
            });
            Impostor { address, spki_sha256, heard, connections }
        }

        /// A client that believes this key and no other.
        fn client(&self, spki_sha256: [u8; 32]) -> Client {
            let plane = ControlPlane { host: "127.0.0.1".to_owned(), port: self.address.port() };
            let places = [(plane, vec![self.address])];
            Client::new(&Places::new(config(spki_sha256).unwrap(), &places, "gn_secret").unwrap())
        }

        fn heard(&self) -> String {
            String::from_utf8_lossy(&self.heard.lock().unwrap()).into_owned()
        }
    }

    /// Whoever has another key learns nothing from us, the token least of all, however right all else is that it says.
    #[tokio::test]
    async fn p9_an_impostor_never_sees_the_token() {
        let mut signed = Vec::new();
        let head =
            Head { generation: 1, epoch: 1, sequence: 0, chain: [0; 32], root_digest: Digest::default() };
        head.encode_signed(&SigningKey::from_seed(&[1; 32]).unwrap(), &mut signed);
        let server = Impostor::start(signed.clone()).await;
        let ask =
            async |client: &mut Client| client.ask(Method::GET, "/internal/v1/head", None, PATIENCE).await;
        // Asked with the key that it has it is no impostor: then it is given the token, and what it says is taken.
        let answer = ask(&mut server.client(server.spki_sha256)).await.unwrap();
        assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &signed[..]));
        assert!(server.heard().contains("gn_secret"));
        server.heard.lock().unwrap().clear();

        let mut client = server.client([7; 32]);
        for _ in 0..3 {
            let error = format!("{:#}", ask(&mut client).await.unwrap_err());
            assert!(error.contains("AnotherKey"), "{error}");
        }
        let told = client
            .ask(Method::POST, "/internal/v1/position", Some(client::octets(Bytes::new())), PATIENCE)
            .await;
        assert!(told.is_err());
        assert_eq!(server.heard(), "");
        assert_eq!(*server.connections.lock().unwrap(), 5, "it was spoken to, and not told anything");
    }
}
