//! A node as the internal listener sees it: it knows what its join string says, and trusts nothing else.

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{Buf as _, Bytes};
use godwit_wire::feed::{Absence, VerifyingKey};
use godwit_wire::name::Name;
use http_body_util::{BodyExt as _, Full};
use hyper::{HeaderMap, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme, SupportedProtocolVersion};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::harness::Server;

#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
    pub(crate) spki_sha256: [u8; 32],
    pub(crate) feed_keys: [VerifyingKey; 2],
    pub(crate) join: Value,
}

pub(crate) struct Given {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Given {
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Given {
        assert_eq!(self.status.as_u16(), status, "{}", String::from_utf8_lossy(&self.body));
        self
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn code(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        body["code"].as_str().unwrap().to_owned()
    }

    /// Entries, each behind its length.
    pub(crate) fn entries(&self) -> Vec<Bytes> {
        let mut rest = self.body.clone();
        let mut entries = Vec::new();
        while !rest.is_empty() {
            let len = u32::from_be_bytes(rest.split_to(4)[..].try_into().unwrap());
            entries.push(rest.split_to(usize::try_from(len).unwrap()));
        }
        entries
    }
}

pub(crate) fn octets<const N: usize>(text: &str) -> [u8; N] {
    assert_eq!(text.len(), N * 2, "{text}");
    std::array::from_fn(|at| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).unwrap())
}

pub(crate) fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// A whole zone, as it is given.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct GivenZone {
    pub(crate) settled: u64,
    pub(crate) version: u64,
    pub(crate) blob: Option<Bytes>,
}

impl Node {
    /// Adds one through the API.
    pub(crate) async fn add(server: &Server, name: &str) -> Node {
        let added = server.client.json("POST", "/api/v1/nodes", &json!({ "name": name })).await.expect(201);
        Node::joins(added.json()["join"].as_str().unwrap())
    }

    /// What a join string says.
    pub(crate) fn joins(text: &str) -> Node {
        let join = Node::content(text);
        let address = join["url"].as_str().unwrap().strip_prefix("https://").unwrap().parse().unwrap();
        Node::with(&join, address)
    }

    /// The JSON of a join string.
    pub(crate) fn content(text: &str) -> Value {
        let json = URL_SAFE_NO_PAD.decode(text.strip_prefix("godwit-join:").unwrap()).unwrap();
        serde_json::from_slice(&json).unwrap()
    }

    /// Of that JSON, with the control plane at an address.
    pub(crate) fn with(join: &Value, address: SocketAddr) -> Node {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let key = |at: usize| VerifyingKey(octets(&text(&join["feed_keys"][at])));
        Node {
            address,
            token: text(&join["token"]),
            spki_sha256: octets(&text(&join["spki_sha256"])),
            feed_keys: [key(0), key(1)],
            join: join.clone(),
        }
    }

    pub(crate) async fn connect(
        &self,
        versions: &[&'static SupportedProtocolVersion],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let pinned = Pinned { spki_sha256: self.spki_sha256, provider: provider.clone() };
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(pinned))
            .with_no_client_auth();
        let stream = TcpStream::connect(self.address).await?;
        TlsConnector::from(Arc::new(config)).connect(self.address.ip().into(), stream).await
    }

    pub(crate) async fn send(&self, method: &str, path: &str, token: Option<&str>, body: Vec<u8>) -> Given {
        let stream = self.connect(&[&rustls::version::TLS13]).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let driver = tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", "control.test");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        driver.abort();
        assert_ne!(parts.status, StatusCode::INTERNAL_SERVER_ERROR, "{method} {path}");
        Given { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) async fn get(&self, path: &str) -> Given {
        self.send("GET", path, Some(&self.token), Vec::new()).await
    }

    /// What comes after a place.
    pub(crate) async fn batches(&self, generation: u64, epoch: u64, sequence: u64, chain: &[u8]) -> Given {
        let chain = hex(chain);
        let path = format!(
            "/internal/v1/batches?generation={generation}&epoch={epoch}&sequence={sequence}&chain={chain}"
        );
        self.get(&path).await
    }

    /// Whole zones; every answer has one at least.
    pub(crate) async fn zones(&self, names: &[&str]) -> Vec<GivenZone> {
        let mut zones = Vec::new();
        while zones.len() < names.len() {
            let asked = names[zones.len()..].iter().flat_map(|name| {
                let name: Name = name.parse().unwrap();
                name.as_wire().to_vec()
            });
            let given = self.send("POST", "/internal/v1/zones", Some(&self.token), asked.collect()).await;
            let mut rest = given.expect(200).body;
            assert!(!rest.is_empty());
            while !rest.is_empty() {
                let (settled, version) = (rest.get_u64(), rest.get_u64());
                let length = usize::try_from(rest.get_u32()).unwrap();
                let octets = rest.split_to(length);
                let Ok(absence) = Absence::decode(&octets) else {
                    zones.push(GivenZone { settled, version, blob: (length > 0).then_some(octets) });
                    continue;
                };
                Absence::verify(&octets, &self.feed_keys[..1]).expect("not signed by the key that was told");
                assert_eq!(absence.zone, names[zones.len()].parse().unwrap());
                assert_eq!((absence.settled, absence.version), (settled, version));
                zones.push(GivenZone { settled, version, blob: None });
            }
        }
        zones
    }

    /// Says where it stands.
    pub(crate) async fn report(&self, server: &Server, quarantined: &Value) {
        let applied = server.replica.applied.lock().unwrap().clone();
        let said = json!({
            "generation": applied.generation, "epoch": applied.epoch, "sequence": applied.sequence,
            "chain": hex(&applied.chain), "quarantined": quarantined, "version": "9.8.7", "later": "unknown",
        });
        self.say(&said).await.expect(204);
    }

    pub(crate) async fn say(&self, said: &Value) -> Given {
        self.send("POST", "/internal/v1/position", Some(&self.token), said.to_string().into()).await
    }
}

/// Trusts who has a public key of this hash, whatever else the certificate says.
#[derive(Debug)]
struct Pinned {
    spki_sha256: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let hash: [u8; 32] = Sha256::digest(spki(certificate)).into();
        if hash == self.spki_sha256 {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::General("another public key".to_owned()))
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// One element of DER: its tag, all of it, its content, and what comes after it (X.690 §8.1).
fn element(octets: &[u8]) -> (u8, &[u8], &[u8], &[u8]) {
    let (head, len) = match octets[1] {
        short @ ..0x80 => (2, usize::from(short)),
        long => {
            let count = usize::from(long & 0x7f);
            let len = octets[2..2 + count].iter().fold(0, |len, octet| (len << 8) | usize::from(*octet));
            (2 + count, len)
        }
    };
    (octets[0], &octets[..head + len], &octets[head..head + len], &octets[head + len..])
}

/// The public key of a certificate (SubjectPublicKeyInfo, RFC 5280 §4.1).
fn spki(certificate: &[u8]) -> &[u8] {
    let (_, _, content, _) = element(certificate);
    let (_, _, mut rest, _) = element(content);
    // version [0], serialNumber, signature, issuer, validity, subject.
    for _ in 0..6 {
        rest = element(rest).3;
    }
    element(rest).1
}
