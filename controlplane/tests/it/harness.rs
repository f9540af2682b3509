//! A control plane on a free port with its data in a folder of its own, and a client.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use godwit_controlplane::auth::Token;
use godwit_controlplane::observe::metrics::Metrics;
use godwit_controlplane::store::{Connection, Kind, Place};
use godwit_controlplane::{Config, Controlplane, FirstStart, Program};
use godwit_testkit::servers::Postgres;
use http_body_util::{BodyExt as _, Full};
use hyper::{HeaderMap, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::replica::{KEY, Replica, Resync};

pub(crate) struct Server {
    pub(crate) client: Client,
    pub(crate) replica: Replica,
    pub(crate) resync: Option<Arc<Resync>>,
    pub(crate) folder: Arc<tempfile::TempDir>,
    /// Where nodes ask.
    pub(crate) internal: Option<SocketAddr>,
    metrics: Metrics,
    failures: Failures,
    stop: watch::Sender<bool>,
    running: JoinHandle<anyhow::Result<()>>,
}

/// Whatever a test is about, and however its requests were sent: none was answered with 500. Looked at when the server goes.
struct Failures {
    metrics: Metrics,
    are_meant: bool,
}

impl Drop for Failures {
    fn drop(&mut self) {
        let text = Metrics::text(&self.metrics.registry());
        let failed: Vec<&str> = text
            .lines()
            .filter(|line| line.contains("requests_total{") && line.contains("status=\"500\""))
            .collect();
        if !self.are_meant && !failed.is_empty() && !std::thread::panicking() {
            panic!("the server failed inside: {failed:?}");
        }
    }
}

#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Fails with the body when the status is another.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Answer {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self
    }
}

/// File in a folder of [`folder`] with the URL of its database, where that is one of a server.
pub(crate) const URL_FILE: &str = "database-url";

/// A folder for the data of one server after another, and a database for them.
pub(crate) fn folder() -> Arc<tempfile::TempDir> {
    let folder = tempfile::tempdir().unwrap();
    if crate::DATABASE == Kind::Postgres {
        let url = Postgres::shared().create_prepared(migrate).unwrap();
        std::fs::write(folder.path().join(URL_FILE), url).unwrap();
    }
    Arc::new(folder)
}

/// Brings a database to our schema.
fn migrate(url: &str) {
    let place = Place::of_url(url).unwrap();
    let migrating = std::thread::spawn(move || {
        tokio::runtime::Runtime::new().unwrap().block_on(async { place.migrate().await })
    });
    migrating.join().unwrap().unwrap();
}

/// The same with a copy of the database of another one, whose server is stopped, and of the key to its secrets.
pub(crate) fn copy_of(other: &Path) -> Arc<tempfile::TempDir> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(other.join("secrets.key"), folder.path().join("secrets.key")).unwrap();
    match crate::DATABASE {
        Kind::Sqlite => {
            std::fs::copy(other.join("godwit.sqlite"), folder.path().join("godwit.sqlite")).unwrap();
        }
        Kind::Postgres => {
            let url = std::fs::read_to_string(other.join(URL_FILE)).unwrap();
            let copy = Postgres::shared().copy_database(&url).unwrap();
            std::fs::write(folder.path().join(URL_FILE), copy).unwrap();
        }
    }
    Arc::new(folder)
}

pub(crate) fn config(folder: &Path) -> Config {
    let mut config = Config::default();
    config.api.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config.internal.listen = Some("127.0.0.1:0".to_owned());
    config.store.data = folder.to_path_buf();
    let url = folder.join(URL_FILE);
    config.store.url_file = url.exists().then_some(url);
    // Several servers of a test may have one folder.
    config.buffer.enabled = false;
    config
}

/// A connection to a folder's database, beside those of its server.
pub(crate) async fn beside(folder: &Path) -> Connection {
    let file = || Place::File(folder.join("godwit.sqlite"));
    let place = config(folder).store.server().unwrap().unwrap_or_else(file);
    place.connect().await.unwrap()
}

/// Keeps everybody else from changing zones, until ROLLBACK; they can be read.
pub(crate) async fn hold(connection: &mut Connection) {
    let statements: &[&str] = match connection.kind() {
        Kind::Sqlite => &["BEGIN IMMEDIATE"],
        Kind::Postgres => &["BEGIN", "LOCK TABLE zones IN EXCLUSIVE MODE"],
    };
    connection.control(statements).await.unwrap();
}

/// What judges changes.
pub(crate) fn shadow() -> Program {
    Program::new(env!("CARGO_BIN_EXE_godwit-controlplane"), &["shadow"])
}

/// What makes calls to servers of others.
pub(crate) fn caller() -> Program {
    Program::new(env!("CARGO_BIN_EXE_godwit-controlplane"), &["egress"])
}

impl Server {
    /// A new one with the example zone.
    pub(crate) async fn start() -> Server {
        Server::start_in(folder(), Replica::default(), None, |_| {}).await
    }

    /// One in a folder; the token is that of an earlier start, if there was one.
    pub(crate) async fn start_in(
        folder: Arc<tempfile::TempDir>,
        replica: Replica,
        token: Option<String>,
        adjust: impl FnOnce(&mut Config),
    ) -> Server {
        let (sink, resync) = replica.sink();
        Server::start_with(folder, replica, Some((sink, resync)), token, adjust).await
    }

    pub(crate) async fn start_with(
        folder: Arc<tempfile::TempDir>,
        replica: Replica,
        sink: Option<(godwit_controlplane::FeedSink, Arc<Resync>)>,
        token: Option<String>,
        adjust: impl FnOnce(&mut Config),
    ) -> Server {
        Server::start_judged(folder, replica, sink, token, shadow(), adjust).await
    }

    /// The same with another program that judges changes before they are published.
    pub(crate) async fn start_judged(
        folder: Arc<tempfile::TempDir>,
        replica: Replica,
        sink: Option<(godwit_controlplane::FeedSink, Arc<Resync>)>,
        token: Option<String>,
        shadow: Program,
        adjust: impl FnOnce(&mut Config),
    ) -> Server {
        let mut config = config(folder.path());
        adjust(&mut config);
        let controlplane = Controlplane::open(config, FirstStart::ExampleZone, Some(KEY)).await.unwrap();
        let controlplane = controlplane.shadowed_by(shadow).calling_by(caller());
        let address = controlplane.api_address().unwrap();
        let internal = controlplane.internal_address().unwrap();
        let token = controlplane.new_token().map(Token::reveal).or(token).unwrap();
        let metrics = controlplane.metrics();
        let (stop, stopping) = watch::channel(false);
        let (sink, resync) = sink.unzip();
        let running = tokio::spawn(controlplane.serve(sink, stopping));
        Server {
            client: Client { address, token },
            replica,
            resync,
            folder,
            internal,
            failures: Failures { metrics: metrics.clone(), are_meant: false },
            metrics,
            stop,
            running,
        }
    }

    /// Stops it as an operator does; gives what a restart needs.
    pub(crate) async fn stop(self) -> (Arc<tempfile::TempDir>, Replica, String) {
        self.stop.send(true).unwrap();
        tokio::time::timeout(Duration::from_secs(30), self.running).await.unwrap().unwrap().unwrap();
        drop(self.failures);
        (self.folder, self.replica, self.client.token)
    }

    /// This test makes it fail inside.
    pub(crate) fn fails_on_purpose(&mut self) {
        self.failures.are_meant = true;
    }

    /// Its counters.
    pub(crate) fn metrics(&self) -> String {
        Metrics::text(&self.metrics.registry())
    }

    /// How often a limit was reached.
    pub(crate) fn limited(&self, limit: &str) -> u64 {
        let text = self.metrics();
        let name = format!("godwit_controlplane_limited_total{{limit=\"{limit}\"}} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&name));
        value.unwrap_or_else(|| panic!("no {name}in\n{text}")).parse().unwrap()
    }

    /// Waits until a limit was reached.
    pub(crate) async fn until_limited(&self, limit: &str) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        while self.limited(limit) == 0 {
            assert!(tokio::time::Instant::now() < deadline, "{limit} was never reached");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// See [`beside`].
    pub(crate) async fn beside(&self) -> Connection {
        beside(self.folder.path()).await
    }
}

impl Client {
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Answer {
        let stream = tokio::net::TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let driver = tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", "api.test");
        if !headers.iter().any(|(name, _)| *name == "authorization") {
            request = request.header("authorization", format!("Bearer {}", self.token));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response =
            sender.send_request(request.body(Full::new(Bytes::from(body))).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let octets = body.collect().await.unwrap().to_bytes();
        drop(sender);
        driver.abort();
        let answer = Answer {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8_lossy(&octets).into_owned(),
        };
        // Our own mistakes are never the expected outcome of a test.
        assert_ne!(answer.status, StatusCode::INTERNAL_SERVER_ERROR, "{method} {path}: {}", answer.text);
        answer
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], Vec::new()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, &[], Vec::new()).await
    }

    /// Deletes a zone, with the confirmation that it needs.
    pub(crate) async fn delete_zone(&self, apex: &str) {
        let path = format!("/api/v1/domains/{apex}");
        let dry = self.delete(&format!("{path}?dry_run=true")).await.expect(200);
        let names = dry.header("godwit-confirm");
        let confirm = if names.is_empty() { String::new() } else { format!("&confirm={names}") };
        self.delete(&format!("{path}?wait=applied{confirm}")).await.expect(204);
    }

    pub(crate) async fn json(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.json_with(method, path, &[], body).await
    }

    pub(crate) async fn json_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Answer {
        let mut all = vec![("content-type", "application/json")];
        all.extend_from_slice(headers);
        self.send(method, path, &all, serde_json::to_vec(body).unwrap()).await
    }

    pub(crate) async fn import(&self, zone: &str, text: &str) -> Answer {
        let path = format!("/api/v1/domains/{zone}/import?wait=applied");
        self.send("POST", &path, &[("content-type", "text/dns")], text.into()).await
    }
}
