//! Clients that take more than their share: of connections, of requests, of time, of memory. Each is told or cut off,
//! counted, and the others are served.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::harness::{Server, folder};
use crate::replica::Replica;

const PATIENCE: Duration = Duration::from_secs(60);

async fn start(adjust: impl FnOnce(&mut godwit_controlplane::config::Api)) -> Server {
    Server::start_in(folder(), Replica::default(), None, |config| adjust(&mut config.api)).await
}

async fn connect(server: &Server) -> TcpStream {
    TcpStream::connect(server.client.address).await.unwrap()
}

/// All that comes until the other side ends the connection, however it does.
async fn rest(stream: &mut TcpStream) -> String {
    let mut octets = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut octets)).await.expect("still open");
    String::from_utf8_lossy(&octets).into_owned()
}

/// What comes until it ends so.
async fn until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        let mut octets = [0; 1024];
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut octets)).await.expect(&text).unwrap();
        assert_ne!(read, 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&octets[..read]));
    }
    text
}

fn is_busy(text: &str) {
    let (head, body) = text.split_once("\r\n\r\n").expect(text);
    assert!(head.starts_with("HTTP/1.1 429 "), "{text}");
    assert!(head.contains("\r\nretry-after: 1"), "{text}");
    assert!(head.contains("\r\nx-request-id: "), "{text}");
    let body: serde_json::Value = serde_json::from_str(body).expect(text);
    assert_eq!(body["code"], "RATE_LIMITED");
    assert!(body["error"].as_str().unwrap().len() > 10 && body["request_id"].is_string());
}

/// Asks for more than any buffer on the way holds, and never reads.
#[tokio::test]
async fn a_client_that_asks_and_never_reads_is_cut() {
    let server = start(|api| api.write_timeout_ms = 300).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(server.client.address).await.unwrap();
    let ask = "GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nhost: x\r\n\r\n".repeat(20);
    stream.write_all(ask.as_bytes()).await.unwrap();
    server.until_limited("write_time").await;
    rest(&mut stream).await;
    server.client.get("/api/v1/domains").await.expect(200);
}

/// Reads all of it, slowly enough for the server to wait again and again.
#[tokio::test]
async fn a_slow_reader_who_goes_on_is_served_to_the_end() {
    let server = start(|api| (api.write_timeout_ms, api.read_octets_per_s) = (2_000, 1)).await;
    let mut stream = connect(&server).await;
    let ask = "GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nhost: x\r\n\r\n".repeat(15);
    let last = "GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(format!("{ask}{last}").as_bytes()).await.unwrap();
    let mut octets = Vec::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await.unwrap().unwrap();
        if read == 0 {
            break;
        }
        octets.extend_from_slice(&buffer[..read]);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(octets.ends_with(b"{\"status\":\"ok\"}"), "{} octets came", octets.len());
    assert_eq!(server.limited("write_time"), 0);
}

#[tokio::test]
async fn a_header_that_is_too_long_is_refused() {
    let server = start(|api| api.max_header_octets = 2_048).await;
    let mut stream = connect(&server).await;
    let head = format!("GET /health HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(4_096));
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    server.until_limited("header_octets").await;
}

/// However short each of its lines is.
#[tokio::test]
async fn a_header_of_too_many_lines_is_refused() {
    let server = start(|_| {}).await;
    for (lines, status) in [(90, "200"), (200, "431")] {
        let mut stream = connect(&server).await;
        let head = format!(
            "GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{}\r\n",
            "a: b\r\n".repeat(lines)
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = rest(&mut stream).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{lines}: {answer}");
    }
    server.until_limited("header_octets").await;
}

/// A header that drips has an end; a connection that says nothing is ended too, which is nothing to be counted.
#[tokio::test]
async fn headers_that_drip_are_cut_and_idle_connections_end() {
    let server = start(|api| api.header_timeout_ms = 400).await;
    let mut idle = connect(&server).await;
    let mut used = connect(&server).await;
    used.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(rest(&mut used).await.ends_with("{\"status\":\"ok\"}"));
    assert_eq!(rest(&mut idle).await, "");
    assert_eq!(server.limited("header_time"), 0);
    let mut dripping = connect(&server).await;
    let drip = async {
        for octet in "GET /health HTTP/1.1\r\nhost: x\r\nx: ".bytes().chain(std::iter::repeat(b'y')) {
            if dripping.write_all(&[octet]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, drip).await.expect("still open");
    server.until_limited("header_time").await;
}

/// So many connections, each of which is open and has been served.
async fn served(server: &Server, count: usize) -> Vec<TcpStream> {
    let mut open = Vec::new();
    for _ in 0..count {
        let mut stream = connect(server).await;
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        until(&mut stream, "{\"status\":\"ok\"}").await;
        open.push(stream);
    }
    open
}

async fn one_more_is_refused(server: &Server) {
    let mut over = connect(server).await;
    over.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    is_busy(&rest(&mut over).await);
}

#[tokio::test]
async fn one_client_has_so_many_connections() {
    let server = start(|api| api.max_connections_per_client = 3).await;
    let mut open = served(&server, 3).await;
    one_more_is_refused(&server).await;
    assert_eq!((server.limited("connections_per_client"), server.limited("connections")), (1, 0));
    // A place that comes free is given again.
    drop(open.pop());
    let answered = async {
        while server.client.get("/api/v1/domains").await.status != 200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, answered).await.expect("no place came free");
}

#[tokio::test]
async fn all_clients_have_so_many_connections() {
    let server = start(|api| api.max_connections = 2).await;
    let mut open = served(&server, 2).await;
    one_more_is_refused(&server).await;
    assert_eq!(server.limited("connections"), 1);
    // Those that are there are served.
    open[0].write_all(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    assert!(rest(&mut open[0]).await.starts_with("HTTP/1.1 200 "));
}

/// A write whose body is still to come.
async fn begun(server: &Server, octets: usize) -> TcpStream {
    let mut stream = connect(server).await;
    let head = format!(
        "POST /api/v1/records HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nexpect: 100-continue\r\n\
         content-type: application/json\r\ncontent-length: {octets}\r\nconnection: close\r\n\r\n",
        server.client.token
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // Its handler waits for the body.
    until(&mut stream, "HTTP/1.1 100 Continue\r\n\r\n").await;
    stream
}

#[tokio::test]
async fn so_many_requests_are_in_flight() {
    let server = start(|api| api.max_requests = 1).await;
    let body = json!({"name": "a.example.com.", "type": "A", "value": ["192.0.2.1"]}).to_string();
    let mut first = begun(&server, body.len()).await;
    let answer = server.client.get("/api/v1/domains").await.expect(429);
    assert_eq!((answer.code().as_str(), answer.header("retry-after")), ("RATE_LIMITED", "1"));
    assert_eq!(server.limited("requests"), 1);
    // Who asks whether it lives is told.
    server.client.get("/health").await.expect(200);
    server.client.get("/ready").await.expect(200);
    first.write_all(body.as_bytes()).await.unwrap();
    let answer = rest(&mut first).await;
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    server.client.get("/api/v1/domains").await.expect(200);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let server = start(|api| api.body_timeout_ms = 200).await;
    let mut stream = begun(&server, 100).await;
    stream.write_all(b"{\"name\":").await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
    assert!(answer.contains("TIMEOUT") && answer.contains("nothing was changed"), "{answer}");
    assert_eq!(server.limited("body_time"), 1);
}

#[tokio::test]
async fn bodies_share_their_room() {
    let server = start(|api| api.max_body_octets = 64 << 10).await;
    let body = |octets: usize| format!("{{\"changes\": [{}]}}", " ".repeat(octets));
    let json = [("content-type", "application/json")];
    let long = server.client.send("POST", "/api/v1/changes", &json, body(100 << 10).into()).await.expect(429);
    assert_eq!((long.code().as_str(), long.header("retry-after")), ("RATE_LIMITED", "1"));
    assert_eq!(server.limited("body_octets"), 1);
    // What was taken is free again.
    for _ in 0..3 {
        let short =
            server.client.send("POST", "/api/v1/changes", &json, body(60 << 10).into()).await.expect(400);
        assert!(short.text.contains("empty"), "{}", short.text);
    }
}

/// The wait for a data plane ends before the request does: the change is made, and that is what is said.
#[tokio::test]
async fn a_write_that_waits_longer_than_requests_may_is_told_that_it_is_made() {
    let server = start(|api| api.request_timeout_ms = 2_000).await;
    let paused = server.replica.pause().await;
    let body = json!({"type": "A", "value": ["192.0.2.7"]});
    let path = "/api/v1/records/www.example.com.?wait=applied&timeout=30s";
    let answer = server.client.json("PUT", path, &body).await.expect(200);
    assert_eq!(answer.header("godwit-applied"), "0/1");
    drop(paused);
}
