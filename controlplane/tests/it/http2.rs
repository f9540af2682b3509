//! HTTP/2, by a library and by hand: its limits, who keeps answers waiting or gives requests up, and how a connection ends.

use std::time::{Duration, Instant};

use godwit_controlplane::Config;
use godwit_controlplane::store::Kind;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::harness::Server;
use crate::lifecycle::{LOCK_LIMIT, hold_readers, until_waiting};
use crate::tls::{Authority, H2, NAME, PATIENCE, asked, http2, request};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Fields of a request (RFC 7541), none of them indexed but those that are always there.
fn fields(method: u8, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![method, 0x87];
    let text = |block: &mut Vec<u8>, text: &str| {
        if text.len() < 127 {
            block.push(u8::try_from(text.len()).unwrap());
        } else {
            block.push(127);
            let mut rest = text.len() - 127;
            while rest >= 128 {
                block.push(u8::try_from(rest % 128).unwrap() | 128);
                rest /= 128;
            }
            block.push(u8::try_from(rest).unwrap());
        }
        block.extend_from_slice(text.as_bytes());
    };
    block.push(0x04);
    text(&mut block, path);
    block.push(0x01);
    text(&mut block, NAME);
    for (name, value) in more {
        block.push(0);
        text(&mut block, name);
        text(&mut block, value);
    }
    block
}

const GET: u8 = 0x82;
const POST: u8 = 0x83;

/// The next frame: kind, stream and payload; `None` at the end.
async fn next(stream: &mut TlsStream<TcpStream>) -> Option<(u8, u32, Vec<u8>)> {
    let read = async {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.ok()?;
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(len).unwrap()];
        stream.read_exact(&mut payload).await.ok()?;
        Some((head[3], u32::from_be_bytes(head[5..9].try_into().unwrap()) & !(1 << 31), payload))
    };
    tokio::time::timeout(PATIENCE, read).await.expect("still open, and silent")
}

/// A connection over which frames are spoken by hand; `settings`: of this client.
async fn by_hand(authority: &Authority, server: &Server, settings: &[u8]) -> TlsStream<TcpStream> {
    let mut stream = authority.connect(server, H2).await;
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, settings)].concat()).await.unwrap();
    stream
}

/// Until the connection ends; what it was told at the end (RFC 9113 §7), where it was.
async fn goaway(stream: &mut TlsStream<TcpStream>) -> Option<u32> {
    let mut code = None;
    while let Some((kind, _, payload)) = next(stream).await {
        if kind == GOAWAY {
            code = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
        }
    }
    code
}

/// What a server says that it allows is what it allows.
#[tokio::test]
async fn http2_has_its_limits() {
    let authority = Authority::new();
    authority.renew(2_060);
    let server = authority.start(|config| config.api.header_timeout_ms = 60_000).await;
    let mut stream = by_hand(&authority, &server, &[]).await;
    let (kind, _, settings) = next(&mut stream).await.unwrap();
    assert_eq!(kind, SETTINGS);
    let said: std::collections::BTreeMap<u16, u32> = settings
        .chunks_exact(6)
        .map(|one| (u16::from_be_bytes([one[0], one[1]]), u32::from_be_bytes(one[2..].try_into().unwrap())))
        .collect();
    // MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_HEADER_LIST_SIZE (RFC 9113 §6.5.2).
    assert_eq!(
        (said.get(&3), said.get(&4), said.get(&6)),
        (Some(&100), Some(&65_536), Some(&16_384)),
        "{said:?}"
    );
    // One request more than there may be is refused (REFUSED_STREAM), and none of the others.
    let (token, mut refused) = (format!("Bearer {}", server.client.token), Vec::new());
    let more =
        [("authorization", token.as_str()), ("content-type", "application/json"), ("content-length", "9")];
    for number in 0..101u32 {
        let head = frame(HEADERS, END_HEADERS, number * 2 + 1, &fields(POST, "/api/v1/records", &more));
        stream.write_all(&head).await.unwrap();
    }
    while refused.is_empty() {
        let (kind, number, payload) = next(&mut stream).await.expect("the connection ended");
        if kind == RESET {
            refused.push((number, payload));
        }
    }
    assert_eq!(refused, [(201, 7u32.to_be_bytes().to_vec())]);
    drop(stream);
    // A header that is too long.
    let mut sender = http2(authority.connect(&server, H2).await).await;
    let mut long = request(&server, "GET", "/health", &Value::Null);
    for name in ["x-a", "x-b"] {
        long.headers_mut().insert(name, "y".repeat(9_000).parse().unwrap());
    }
    assert_eq!(asked(&mut sender, long).await.0, 431);
    let (status, _) = asked(&mut sender, request(&server, "GET", "/health", &Value::Null)).await;
    assert_eq!(status, 200);
}

/// Requests that are given up as soon as they are made, whether they were looked at or not (CVE-2023-44487), end the connection.
#[tokio::test]
async fn requests_that_are_given_up_again_and_again_end_the_connection() {
    let authority = Authority::new();
    authority.renew(2_060);
    let server = authority.start(|config| config.api.header_timeout_ms = 60_000).await;
    let mut stream = by_hand(&authority, &server, &[]).await;
    let mut burst = Vec::new();
    for number in 0..2_000u32 {
        burst.extend(frame(HEADERS, END_HEADERS | END_STREAM, number * 2 + 1, &fields(GET, "/health", &[])));
        burst.extend(frame(RESET, 0, number * 2 + 1, &8u32.to_be_bytes()));
    }
    let _ = stream.write_all(&burst).await;
    // ENHANCE_YOUR_CALM, where that still comes through.
    let code = goaway(&mut stream).await;
    assert!(matches!(code, None | Some(11)), "{code:?}");

    let mut stream = by_hand(&authority, &server, &[]).await;
    let token = format!("Bearer {}", server.client.token);
    let more =
        [("authorization", token.as_str()), ("content-type", "application/json"), ("content-length", "9")];
    let mut given_up = 0;
    for number in 0..1_000u32 {
        let head = frame(HEADERS, END_HEADERS, number * 2 + 1, &fields(POST, "/api/v1/records", &more));
        if stream.write_all(&head).await.is_err() {
            break;
        }
        // It waits for its body by now.
        tokio::time::sleep(Duration::from_millis(3)).await;
        if stream.write_all(&frame(RESET, 0, number * 2 + 1, &8u32.to_be_bytes())).await.is_err() {
            break;
        }
        given_up += 1;
        if server.limited("resets") > 0 {
            break;
        }
    }
    assert!((100..1_000).contains(&given_up), "{given_up}");
    assert_eq!(server.limited("resets"), 1);
    goaway(&mut stream).await;
    // Who finishes what they ask is not counted.
    let mut sender = http2(authority.connect(&server, H2).await).await;
    for _ in 0..300 {
        let (status, _) = asked(&mut sender, request(&server, "GET", "/health", &Value::Null)).await;
        assert_eq!(status, 200);
    }
    assert_eq!(server.limited("resets"), 1);
}

/// What was looked up for a request ends with it: where the client gives up that one alone, and where all of its connection ends.
#[tokio::test]
async fn a_request_of_http2_that_is_given_up_ends_its_statement() {
    if crate::DATABASE == Kind::Sqlite {
        // Nothing keeps who reads waiting there.
        return;
    }
    let authority = Authority::new();
    authority.renew(2_060);
    let server = authority.start(|_| {}).await;
    let (mut holder, mut watcher) = (server.beside().await, server.beside().await);
    let mut sender = http2(authority.connect(&server, H2).await).await;
    // The data plane has what there is, and reads no zones.
    let body = json!({"name": "settled.example.com.", "type": "TXT", "value": ["x"]});
    let put = request(&server, "POST", "/api/v1/records?wait=applied&timeout=20s", &body);
    assert_eq!(asked(&mut sender, put).await.0, 201);
    let mut stream = by_hand(&authority, &server, &[]).await;
    let token = format!("Bearer {}", server.client.token);
    let ask = fields(GET, "/api/v1/domains", &[("authorization", token.as_str())]);
    for (begin, is_reset) in [(1u32, true), (13, false)] {
        hold_readers(&mut holder).await;
        // More than there are connections: those that were given up keep none from others.
        let requests = || (0..6u32).map(|number| begin + number * 2);
        for number in requests() {
            let head = frame(HEADERS, END_HEADERS | END_STREAM, number, &ask);
            stream.write_all(&head).await.unwrap();
        }
        until_waiting(&mut watcher, 4).await;
        let began = Instant::now();
        if is_reset {
            for number in requests() {
                stream.write_all(&frame(RESET, 0, number, &8u32.to_be_bytes())).await.unwrap();
            }
        } else {
            // Another one, so that there is one to go on with.
            drop(std::mem::replace(&mut stream, by_hand(&authority, &server, &[]).await));
        }
        until_waiting(&mut watcher, 0).await;
        assert!(began.elapsed() < LOCK_LIMIT - Duration::from_secs(1), "{:?}", began.elapsed());
        holder.control(&["ROLLBACK"]).await.unwrap();
        let (status, _) = asked(&mut sender, request(&server, "GET", "/api/v1/domains", &Value::Null)).await;
        assert_eq!(status, 200);
    }
}

/// A client that opens no window for its answer is cut; so is one that has no request, or does not come to the end of its header.
#[tokio::test]
async fn http2_waits_for_nobody_for_ever() {
    let authority = Authority::new();
    authority.renew(2_060);
    let adjust = |config: &mut Config| {
        config.api.write_timeout_ms = 600;
        config.api.header_timeout_ms = 500;
    };
    let server = authority.start(adjust).await;
    // INITIAL_WINDOW_SIZE 0.
    let mut stream = by_hand(&authority, &server, &[0, 4, 0, 0, 0, 0]).await;
    let ask = fields(GET, "/docs/swagger-ui-bundle.js", &[]);
    stream.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &ask)).await.unwrap();
    let mut data = 0;
    while let Some((kind, _, payload)) = next(&mut stream).await {
        data += if kind == DATA { payload.len() } else { 0 };
    }
    assert_eq!((data, server.limited("write_time")), (0, 1));
    // Without the preface, without a request, and in the middle of a header.
    let mut silent = authority.connect(&server, H2).await;
    let mut idle = by_hand(&authority, &server, &[]).await;
    let mut half = by_hand(&authority, &server, &[]).await;
    half.write_all(&frame(HEADERS, END_STREAM, 1, &[0x82, 0x87])).await.unwrap();
    for (what, stream) in [("silent", &mut silent), ("idle", &mut idle), ("half", &mut half)] {
        let code = goaway(stream).await;
        assert!(matches!(code, None | Some(0)), "{what}: {code:?}");
    }
    // Whoever asks now and then is let be.
    let mut sender = http2(authority.connect(&server, H2).await).await;
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        let (status, _) = asked(&mut sender, request(&server, "GET", "/health", &Value::Null)).await;
        assert_eq!(status, 200);
    }
    assert_eq!(server.limited("write_time"), 1);
}

const WINDOW_UPDATE: u8 = 8;

/// The last piece of an answer, which for most is the only one, is waited for as all others are, whatever else the client asks
/// meanwhile; and the request is in flight until then.
#[tokio::test]
async fn http2_waits_for_the_last_octet_of_an_answer() {
    let authority = Authority::new();
    authority.renew(2_060);
    let adjust = |config: &mut Config| {
        config.api.write_timeout_ms = 1_500;
        config.api.header_timeout_ms = 60_000;
        config.api.max_requests = 3;
    };
    let server = authority.start(adjust).await;
    // INITIAL_WINDOW_SIZE 1.
    let mut stream = by_hand(&authority, &server, &[0, 4, 0, 0, 0, 1]).await;
    let token = format!("Bearer {}", server.client.token);
    let ask = |path: &str| fields(GET, path, &[("authorization", token.as_str())]);
    let mut number = 1u32;
    for _ in 0..3 {
        let head = frame(HEADERS, END_HEADERS | END_STREAM, number, &ask("/api/v1/domains"));
        stream.write_all(&head).await.unwrap();
        number += 2;
    }
    let mut begun = 0;
    while begun < 3 {
        let (kind, _, payload) = next(&mut stream).await.expect("the connection ended");
        begun += if kind == DATA { payload.len() } else { 0 };
    }
    let mut other = http2(authority.connect(&server, H2).await).await;
    let domains = || request(&server, "GET", "/api/v1/domains", &Value::Null);
    assert_eq!(asked(&mut other, domains()).await.0, 429, "nothing of them is in flight");
    let (mut reading, mut writing) = tokio::io::split(stream);
    let ended = async {
        let mut rest = Vec::new();
        let _ = reading.read_to_end(&mut rest).await;
    };
    let asking = async {
        loop {
            let head = frame(HEADERS, END_HEADERS | END_STREAM, number, &fields(GET, "/health", &[]));
            if writing.write_all(&head).await.is_err() {
                std::future::pending::<()>().await;
            }
            number += 2;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    tokio::select! {
        () = ended => {}
        () = asking => {}
        () = tokio::time::sleep(PATIENCE) => panic!("what is not read is kept"),
    }
    assert_eq!(server.limited("write_time"), 1);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while asked(&mut other, domains()).await.0 != 200 {
        assert!(tokio::time::Instant::now() < deadline, "they are in flight for ever");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whoever opens the window a little now and then is cut as one who opens none; who reads faster than is asked is not.
#[tokio::test]
async fn http2_is_read_at_a_rate() {
    let authority = Authority::new();
    authority.renew(2_060);
    let adjust = |config: &mut Config| {
        config.api.write_timeout_ms = 1_000;
        config.api.read_octets_per_s = 4_096;
        config.api.header_timeout_ms = 60_000;
    };
    let server = authority.start(adjust).await;
    // Pieces of 2048 octets: half a second's.
    for (pause_ms, pieces, is_cut) in [(100, 30, false), (800, 30, true)] {
        let mut stream = by_hand(&authority, &server, &[0, 4, 0, 0, 0, 0]).await;
        let ask = fields(GET, "/docs/swagger-ui-bundle.js", &[]);
        stream.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &ask)).await.unwrap();
        let (mut reading, mut writing) = tokio::io::split(stream);
        let ended = async {
            let mut rest = Vec::new();
            let _ = reading.read_to_end(&mut rest).await;
        };
        let dripping = async {
            for _ in 0..pieces {
                tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                let update = frame(WINDOW_UPDATE, 0, 1, &2_048u32.to_be_bytes());
                if writing.write_all(&update).await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let cut = tokio::select! {
            () = ended => true,
            () = dripping => false,
        };
        assert_eq!(cut, is_cut, "every {pause_ms} ms");
        assert_eq!(server.limited("write_time"), u64::from(is_cut));
    }
}

/// A stop lets requests of HTTP/2 end, too.
#[tokio::test]
async fn a_stop_lets_requests_of_http2_end() {
    let authority = Authority::new();
    authority.renew(2_060);
    let server = authority.start(|_| {}).await;
    let paused = server.replica.pause().await;
    let mut sender = http2(authority.connect(&server, H2).await).await;
    let body = json!({"type": "A", "value": ["192.0.2.7"]});
    let path = "/api/v1/records/www.example.com.?wait=applied&timeout=2s";
    let writing = sender.send_request(request(&server, "PUT", path, &body));
    let stopping = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let stopped = server.stop();
        tokio::join!(stopped, async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            drop(paused);
        })
    };
    let (written, _) = tokio::join!(writing, stopping);
    assert_eq!(written.unwrap().status(), 200);
}
