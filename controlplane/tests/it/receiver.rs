//! Others on the internet, as a test plays them: a name server that says what it likes, and servers with certificates. They are at
//! loopback addresses of their own, as the ports that are called are given.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, UdpSocket};
use tokio_rustls::TlsAcceptor;

/// Makes certificates that are trusted by who is told so.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("authority.pem"), pem).unwrap();
        Authority { issuer: Issuer::new(params, key), folder }
    }

    /// The file with its own.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    fn acceptor(&self, name: &str) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Says of names what addresses they have: with each question the next answer, the last one again and again.
#[derive(Clone)]
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    answers: Arc<Mutex<BTreeMap<String, VecDeque<Vec<Ipv4Addr>>>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl NameServer {
    pub(crate) async fn start() -> NameServer {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let server = NameServer { address, answers: Arc::default(), asked: Arc::default() };
        let answering = server.clone();
        tokio::spawn(async move {
            let mut octets = [0; 512];
            loop {
                let Ok((len, peer)) = socket.recv_from(&mut octets).await else { return };
                let _ = socket.send_to(&answering.answer(&octets[..len]), peer).await;
            }
        });
        server
    }

    /// From now on a name has these addresses, one answer after the other.
    pub(crate) fn has(&self, name: &str, answers: &[&[Ipv4Addr]]) {
        let answers = answers.iter().map(|addresses| addresses.to_vec()).collect();
        self.answers.lock().unwrap().insert(name.to_owned(), answers);
    }

    /// How often it was asked for the IPv4 addresses of a name.
    pub(crate) fn asked(&self, name: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| *asked == name).count()
    }

    fn answer(&self, question: &[u8]) -> Vec<u8> {
        let (mut labels, mut at) = (Vec::new(), 12);
        while question[at] != 0 {
            let len = usize::from(question[at]);
            labels.push(String::from_utf8_lossy(&question[at + 1..=at + len]).to_lowercase());
            at += len + 1;
        }
        let name = labels.join(".");
        let is_four = question[at + 2] == 1;
        let mut answer = question[..at + 5].to_vec();
        answer[2] = 0x81;
        answer[3] = 0x80;
        if is_four {
            self.asked.lock().unwrap().push(name.clone());
        }
        let mut all = self.answers.lock().unwrap();
        let Some(answers) = all.get_mut(&name) else {
            answer[3] = 0x83;
            return answer;
        };
        if is_four {
            let addresses = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
            let addresses = addresses.unwrap_or_default();
            answer[7] = u8::try_from(addresses.len()).unwrap();
            for address in addresses {
                answer.extend_from_slice(&[0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
                answer.extend_from_slice(&address.octets());
            }
        }
        answer
    }
}

/// How a server answers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Manner {
    /// With this status, and these lines of a header.
    Status(u16, String),
    /// Never.
    Hang,
    /// With a body that has no end.
    Endless,
    /// Its connections end before anything is said.
    Break,
}

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) line: String,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
    /// What it was answered.
    pub(crate) status: u16,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(is, _)| is == name).map_or("", |(_, value)| value)
    }
}

/// A server at an address of its own, port 8443.
#[derive(Clone)]
pub(crate) struct Receiver {
    pub(crate) address: Ipv4Addr,
    pub(crate) manner: Arc<Mutex<Manner>>,
    received: Arc<Mutex<Vec<Received>>>,
    connections: Arc<Mutex<usize>>,
}

pub(crate) fn ok() -> Manner {
    Manner::Status(204, String::new())
}

impl Receiver {
    /// One with a certificate for a name.
    pub(crate) async fn start(authority: &Authority, name: &str, manner: Manner) -> Receiver {
        let (address, listener) = loop {
            let [a, b, c] = rand::random::<[u8; 3]>();
            let address = Ipv4Addr::new(127, a.max(1), b, c.clamp(1, 254));
            if let Ok(listener) = TcpListener::bind((address, 8_443)).await {
                break (address, listener);
            }
        };
        let acceptor = authority.acceptor(name);
        let receiver = Receiver {
            address,
            manner: Arc::new(Mutex::new(manner)),
            received: Arc::default(),
            connections: Arc::default(),
        };
        let serving = receiver.clone();
        tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                *serving.connections.lock().unwrap() += 1;
                let (acceptor, serving) = (acceptor.clone(), serving.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        let _ = serving.serve(BufReader::new(stream)).await;
                    }
                });
            }
        });
        receiver
    }

    /// From now on it answers so.
    pub(crate) fn answers(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    async fn serve(
        &self,
        mut stream: BufReader<tokio_rustls::server::TlsStream<tokio::net::TcpStream>>,
    ) -> std::io::Result<()> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            if line.trim().is_empty() {
                break;
            }
            lines.push(line.trim().to_owned());
        }
        let line = lines.remove(0);
        let header = |line: &String| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_lowercase(), value.trim().to_owned())
        };
        let headers: Vec<(String, String)> = lines.iter().map(header).collect();
        let manner = self.manner.lock().unwrap().clone();
        if manner == Manner::Break {
            return Ok(());
        }
        let mut received = Received { line, headers, body: String::new(), status: 0 };
        let length: usize = received.header("content-length").parse().unwrap_or(0);
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        received.body = String::from_utf8(body).unwrap();
        if let Manner::Status(status, _) = manner {
            received.status = status;
        }
        self.received.lock().unwrap().push(received);
        match manner {
            Manner::Status(status, more) => {
                let answer = format!("HTTP/1.1 {status} x\r\n{more}content-length: 7\r\n\r\nplanted");
                let answer = if status == 204 { format!("HTTP/1.1 204 x\r\n{more}\r\n") } else { answer };
                stream.write_all(answer.as_bytes()).await?;
                stream.flush().await?;
                stream.shutdown().await
            }
            Manner::Endless => {
                stream.write_all(b"HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\n\r\n").await?;
                loop {
                    stream.write_all(b"400\r\n").await?;
                    stream.write_all(&[b'x'; 1_024]).await?;
                    stream.write_all(b"\r\n").await?;
                    stream.flush().await?;
                }
            }
            Manner::Hang | Manner::Break => {
                tokio::time::sleep(Duration::from_secs(600)).await;
                Ok(())
            }
        }
    }

    /// What came so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// How many connections were made to it.
    pub(crate) fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }

    /// What came, once it is so much.
    pub(crate) async fn until(&self, count: usize) -> Vec<Received> {
        let since = Instant::now();
        loop {
            let received = self.received();
            if received.len() >= count {
                return received;
            }
            assert!(
                since.elapsed() < Duration::from_secs(60),
                "{} of {count} came: {received:?}",
                received.len()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
