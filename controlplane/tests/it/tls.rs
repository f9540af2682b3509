//! TLS on the API, with real handshakes: a certificate that changes under open connections, files that are broken, clients that are
//! slow.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use godwit_controlplane::{Config, Controlplane, FirstStart};
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::harness::{Server, config, folder};
use crate::replica::Replica;

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const NAME: &str = "dns.example.net";
const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];
pub(crate) const H2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// Who makes certificates, and the files of the server's.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
    folder: tempfile::TempDir,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap().der().clone();
        Authority { issuer: Issuer::new(params, key), root, folder: tempfile::tempdir().unwrap() }
    }

    fn certificate(&self) -> PathBuf {
        self.folder.path().join("certificate.pem")
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    /// A certificate that ends in a year, and its key.
    fn made(&self, year: i32) -> (String, String, CertificateDer<'static>) {
        self.made_for(2_020, year)
    }

    fn made_for(&self, from: i32, year: i32) -> (String, String, CertificateDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        let made = params.signed_by(&key, &self.issuer).unwrap();
        (made.pem(), key.serialize_pem(), made.der().clone())
    }

    /// Puts another one in its place, one file behind the other, as programs that renew them do.
    pub(crate) fn renew(&self, year: i32) -> CertificateDer<'static> {
        let (certificate, key, der) = self.made(year);
        put(&self.key(), &key);
        put(&self.certificate(), &certificate);
        der
    }

    fn set(&self, config: &mut Config) {
        config.api.tls_certificate = Some(self.certificate());
        config.api.tls_key = Some(self.key());
    }

    pub(crate) async fn start(&self, adjust: impl FnOnce(&mut Config)) -> Server {
        let set = |config: &mut Config| {
            self.set(config);
            adjust(config);
        };
        Server::start_in(folder(), Replica::default(), None, set).await
    }

    pub(crate) async fn connect(&self, server: &Server, alpn: &[u8]) -> TlsStream<TcpStream> {
        self.connect_with(server.client.address, BOTH, alpn).await.unwrap()
    }

    async fn connect_with(
        &self,
        address: SocketAddr,
        versions: &[&'static SupportedProtocolVersion],
        alpn: &[u8],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        // Each is to be shown the certificate.
        config.resumption = rustls::client::Resumption::disabled();
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from(NAME).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// What a new connection is shown.
    async fn shown(&self, server: &Server) -> CertificateDer<'static> {
        let stream = self.connect(server, HTTP1).await;
        stream.get_ref().1.peer_certificates().unwrap()[0].clone()
    }
}

fn put(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}

pub(crate) fn request(server: &Server, method: &str, path: &str, body: &Value) -> Request<Full<Bytes>> {
    let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
    Request::builder()
        .method(method)
        .uri(format!("https://{NAME}{path}"))
        .header("host", NAME)
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {}", server.client.token))
        .body(Full::new(body))
        .unwrap()
}

pub(crate) type Http2 = hyper::client::conn::http2::SendRequest<Full<Bytes>>;

pub(crate) async fn http2(stream: TlsStream<TcpStream>) -> Http2 {
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

pub(crate) async fn asked(sender: &mut Http2, request: Request<Full<Bytes>>) -> (u16, String) {
    let answer = tokio::time::timeout(PATIENCE, sender.send_request(request)).await.unwrap().unwrap();
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

fn gauge(server: &Server, name: &str) -> i64 {
    let (text, name) = (server.metrics(), format!("godwit_controlplane_{name} "));
    let value = text.lines().find_map(|line| line.strip_prefix(&name));
    value.unwrap_or_else(|| panic!("no {name}in\n{text}")).parse().unwrap()
}

#[tokio::test]
async fn tls_1_2_and_1_3_are_spoken_and_nothing_before() {
    let authority = Authority::new();
    authority.renew(2_060);
    let server = authority.start(|_| {}).await;
    let address = server.client.address;
    for version in BOTH {
        for alpn in [HTTP1, H2] {
            let stream = authority.connect_with(address, &[version], alpn).await.unwrap();
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(alpn));
            if alpn == H2 {
                let mut sender = http2(stream).await;
                let (status, said) =
                    asked(&mut sender, request(&server, "GET", "/api/v1/domains", &Value::Null)).await;
                assert_eq!(status, 200, "{said}");
            } else {
                let mut stream = stream;
                stream
                    .write_all(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                    .await
                    .unwrap();
                let mut said = String::new();
                stream.read_to_string(&mut said).await.unwrap();
                assert!(said.ends_with("{\"status\":\"ok\"}"), "{said}");
            }
        }
    }
    let openssl = |more: &'static [&'static str]| async move {
        let ended = tokio::task::spawn_blocking(move || {
            let mut client = Command::new("openssl");
            client
                .args(["s_client", "-connect", &address.to_string(), "-cipher", "ALL:@SECLEVEL=0"])
                .args(more);
            client.stdin(std::process::Stdio::null()).output().unwrap()
        });
        let ended = ended.await.unwrap();
        let text =
            [ended.stdout, ended.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        (ended.status.success(), text)
    };
    let (good, text) = openssl(&["-tls1_2"]).await;
    assert!(good && text.contains("TLSv1.2"), "{text}");
    for old in [&["-tls1_1"], &["-tls1"]] {
        let (good, text) = openssl(old).await;
        assert!(!good && text.contains("alert"), "{text}");
    }
    // Whoever asks without TLS is not answered.
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut octets = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, plain.read_to_end(&mut octets)).await.expect("still open");
    assert!(!octets.starts_with(b"HTTP"), "{octets:?}");
}

/// Another certificate takes the place of the one before while clients ask without a pause and write: those that are connected go
/// on, those that come are shown it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_certificate_is_shown_and_no_connection_drops() {
    let authority = Authority::new();
    let first = authority.renew(2_060);
    let server = authority.start(|_| {}).await;
    assert_eq!(authority.shown(&server).await, first);
    assert_eq!(gauge(&server, "certificate_expiry_timestamp_seconds"), 2_840_140_800);
    // A write whose body is on its way all the time.
    let mut slow = authority.connect(&server, HTTP1).await;
    let body = json!({"name": "slow.example.com.", "type": "A", "value": ["192.0.2.1"]}).to_string();
    let head = format!(
        "POST /api/v1/records HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        server.client.token,
        body.len()
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut old = http2(authority.connect(&server, H2).await).await;
    let (ended, reads, comers) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let asking = async {
        while !ended.load(Ordering::Relaxed) {
            let (status, said) =
                asked(&mut old, request(&server, "GET", "/api/v1/domains", &Value::Null)).await;
            assert_eq!(status, 200, "{said}");
            reads.fetch_add(1, Ordering::Relaxed);
        }
    };
    let coming = async {
        while !ended.load(Ordering::Relaxed) {
            let mut new = http2(authority.connect(&server, H2).await).await;
            let body = json!({"type": "A", "value": ["192.0.2.7"]});
            let (status, said) =
                asked(&mut new, request(&server, "PUT", "/api/v1/records/www.example.com.", &body)).await;
            assert_eq!(status, 200, "{said}");
            comers.fetch_add(1, Ordering::Relaxed);
        }
    };
    let changing = async {
        let mut before = first.clone();
        for year in [2_061, 2_062] {
            let next = authority.renew(year);
            let deadline = tokio::time::Instant::now() + PATIENCE;
            loop {
                let shown = authority.shown(&server).await;
                if shown == next {
                    break;
                }
                assert!(
                    shown == before && tokio::time::Instant::now() < deadline,
                    "another one is not shown"
                );
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            before = next;
        }
        ended.store(true, Ordering::Relaxed);
    };
    tokio::join!(asking, coming, changing);
    assert!(reads.into_inner() > 20 && comers.into_inner() > 5);
    slow.write_all(body.as_bytes()).await.unwrap();
    let mut said = String::new();
    slow.read_to_string(&mut said).await.unwrap();
    assert!(said.starts_with("HTTP/1.1 201 "), "{said}");
    assert_eq!(gauge(&server, "certificate_expiry_timestamp_seconds"), 2_903_299_200);
    assert_eq!(gauge(&server, "certificate_failed"), 0);
}

/// Whatever is wrong with the files, the certificate of before is shown, and it is said.
#[tokio::test]
async fn broken_files_change_nothing_and_are_reported() {
    let authority = Authority::new();
    let first = authority.renew(2_060);
    let server = authority.start(|_| {}).await;
    let (good, good_key, other) = authority.made(2_061);
    let reload = async || {
        let mut sender = http2(authority.connect(&server, H2).await).await;
        asked(&mut sender, request(&server, "POST", "/api/v1/reload", &Value::Null)).await
    };
    let key = std::fs::read_to_string(authority.key()).unwrap();
    let certificate = std::fs::read_to_string(authority.certificate()).unwrap();
    let (ended, ended_key, _) = authority.made(2_021);
    let (coming, coming_key, _) = authority.made_for(2_059, 2_061);
    for (what, certificate, key, expected) in [
        ("half of it", &certificate[..certificate.len() / 2], key.as_str(), "certificate.pem"),
        ("nothing", "", key.as_str(), "expected a certificate"),
        ("the key of another", certificate.as_str(), good_key.as_str(), "not that of the certificate"),
        ("a certificate of another key", good.as_str(), key.as_str(), "not that of the certificate"),
        ("no key", certificate.as_str(), "planted", "expected a private key"),
        ("one that has ended", ended.as_str(), ended_key.as_str(), "has ended already"),
        ("one that has not begun", coming.as_str(), coming_key.as_str(), "is not good yet"),
    ] {
        put(&authority.certificate(), certificate);
        put(&authority.key(), key);
        let (status, said) = reload().await;
        assert!(status == 422 && said.contains("RELOAD_FAILED") && said.contains(expected), "{what}: {said}");
        assert!(!said.contains("planted"), "{said}");
        assert_eq!(authority.shown(&server).await, first, "{what}");
        assert_eq!(gauge(&server, "certificate_failed"), 1, "{what}");
    }
    std::fs::remove_file(authority.key()).unwrap();
    let (status, said) = reload().await;
    assert!(status == 422 && said.contains("key.pem"), "{said}");
    put(&authority.certificate(), &good);
    put(&authority.key(), &good_key);
    assert_eq!(reload().await.0, 200);
    assert_eq!(authority.shown(&server).await, other);
    assert_eq!(gauge(&server, "certificate_failed"), 0);
    // At the start there is none of before.
    put(&authority.key(), &key);
    let at = folder();
    let mut wrong = config(at.path());
    authority.set(&mut wrong);
    let error = Controlplane::open(wrong, FirstStart::ExampleZone, None).await.unwrap_err();
    assert!(format!("{error:#}").contains("not that of the certificate"), "{error:#}");
}

/// An API that other machines reach has TLS, or somebody has said that it needs none.
#[tokio::test]
async fn other_machines_are_not_spoken_to_in_the_clear() {
    let authority = Authority::new();
    authority.renew(2_060);
    let open = async |adjust: &dyn Fn(&mut Config)| {
        let at = folder();
        let mut config = config(at.path());
        config.api.listen = "0.0.0.0:0".parse().unwrap();
        adjust(&mut config);
        let opened = Controlplane::open(config, FirstStart::ExampleZone, None).await;
        opened.map(|opened| opened.api_scheme()).map_err(|error| format!("{error:#}"))
    };
    let refused = open(&|_| {}).await.unwrap_err();
    assert!(
        refused.contains("api.tls_certificate") && refused.contains("api.allow_plaintext = true"),
        "{refused}"
    );
    for address in ["[::]:0", "[::ffff:192.0.2.1]:0"] {
        open(&|config| config.api.listen = address.parse().unwrap()).await.unwrap_err();
    }
    assert_eq!(open(&|config| config.api.allow_plaintext = true).await.unwrap(), "http");
    assert_eq!(open(&|config| authority.set(config)).await.unwrap(), "https");
    assert_eq!(
        open(&|config| config.api.listen = "[::ffff:127.0.0.1]:0".parse().unwrap()).await.unwrap(),
        "http"
    );
    let refused =
        open(&|config| config.api.tls_certificate = Some(authority.certificate())).await.unwrap_err();
    assert!(refused.contains("api.tls_key"), "{refused}");
    let refused = open(&|config| config.api.tls_key = Some(authority.key())).await.unwrap_err();
    assert!(refused.contains("api.tls_certificate"), "{refused}");
    let plain_url = |config: &mut Config| {
        authority.set(config);
        config.api.public_url = Some("http://localhost:8053".to_owned());
    };
    let refused = open(&plain_url).await.unwrap_err();
    assert!(refused.contains("api.public_url"), "{refused}");
    // The program says so in one line.
    let program = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_godwit-controlplane"));
        let ended = command.args(["--api", "0.0.0.0:0", "--check-config"]).args(more).output().unwrap();
        (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
    };
    let (code, text) = program(&[]);
    assert!(code == Some(2) && text.lines().count() == 1 && text.contains("api.allow_plaintext"), "{text}");
    let at = folder();
    let file = at.path().join("controlplane.toml");
    std::fs::write(&file, "[api]\nallow_plaintext = true\n").unwrap();
    let (code, text) = program(&["--config", file.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{text}");
}

/// TLS that does not begin has an end, and a place among the connections of its client until then.
#[tokio::test]
async fn slow_handshakes_are_cut_and_counted() {
    let authority = Authority::new();
    authority.renew(2_060);
    let adjust = |config: &mut Config| {
        config.api.handshake_timeout_ms = 700;
        config.api.max_connections_per_client = 2;
    };
    let server = authority.start(adjust).await;
    let address = server.client.address;
    let mut silent = TcpStream::connect(address).await.unwrap();
    let mut dripping = TcpStream::connect(address).await.unwrap();
    // A record of a handshake, octet after octet.
    dripping.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]).await.unwrap();
    let mut over = TcpStream::connect(address).await.unwrap();
    let mut octets = [0; 16];
    assert!(matches!(over.read(&mut octets).await, Ok(0) | Err(_)), "a third one is let in");
    assert_eq!(server.limited("connections_per_client"), 1);
    let drip = async {
        while dripping.write_all(&[0]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let hold = async { matches!(silent.read(&mut octets).await, Ok(0) | Err(_)) };
    let (ended, ()) =
        tokio::time::timeout(PATIENCE, async { tokio::join!(hold, drip) }).await.expect("still open");
    assert!(ended);
    assert_eq!(server.limited("handshake_time"), 2);
    let mut sender = http2(authority.connect(&server, H2).await).await;
    let (status, _) = asked(&mut sender, request(&server, "GET", "/health", &Value::Null)).await;
    assert_eq!(status, 200);
}
