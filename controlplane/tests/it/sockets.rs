//! WebSockets: who they are let in with, what they are told, and how they end.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::events::{put, settled};
use crate::harness::{Client, Server};
use crate::office::{Office, PASSWORD};
use crate::tenants::{with_tenant, zone};

const PATIENCE: Duration = Duration::from_secs(20);

/// Somebody with a WebSocket.
struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    /// The error: the status and the code that it was refused with.
    async fn open(client: &Client, query: &str, headers: &[(&str, &str)]) -> Result<Socket, (u16, Value)> {
        let stream = TcpStream::connect(client.address).await.unwrap();
        let url = format!("ws://{}/api/v1/ws{query}", client.address);
        let mut request = url.into_client_request().unwrap();
        for (name, value) in headers {
            let name = tokio_tungstenite::tungstenite::http::HeaderName::from_bytes(name.as_bytes()).unwrap();
            request.headers_mut().append(name, value.parse().unwrap());
        }
        match client_async(request, stream).await {
            Ok((socket, _)) => Ok(Socket(socket)),
            Err(Error::Http(response)) => {
                let status = response.status().as_u16();
                let body = response.body().clone().unwrap_or_default();
                Err((status, serde_json::from_slice::<Value>(&body).unwrap_or_default()["code"].clone()))
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// One whose first message says who they are.
    async fn of(client: &Client, topics: &str) -> Socket {
        let mut socket = Socket::open(client, "", &[]).await.unwrap();
        socket.say(json!({ "token": client.token, "topics": topics })).await;
        socket
    }

    async fn say(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    /// The next event; the error: how it was closed.
    async fn next(&mut self) -> Result<Value, Option<(CloseCode, String)>> {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.0.next()).await.expect("nothing was told in 20 s");
            match next {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(frame))) => {
                    return Err(frame.map(|frame| (frame.code, frame.reason.to_string())));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(None),
            }
        }
    }

    /// The next event with a name.
    async fn next_of(&mut self, name: &str) -> Value {
        loop {
            let event = self.next().await.unwrap();
            if event["event"] == name {
                return event;
            }
        }
    }

    /// What it is ended with: the code, and how it is closed.
    async fn end(&mut self) -> (String, CloseCode) {
        let end = self.next_of("end").await;
        let (code, _) = self.next().await.unwrap_err().expect("it was closed without a word");
        (end["data"]["code"].as_str().unwrap().to_owned(), code)
    }
}

#[tokio::test]
async fn a_socket_tells_what_happens_to_who_says_who_they_are() {
    let server = Server::start().await;
    let client = &server.client;
    settled(client).await;
    let bearer = format!("Bearer {}", client.token);
    let named = format!("godwit.v1, bearer.{}", client.token);
    let topics = "?topics=zone,record,change";
    let mut sockets = vec![
        Socket::open(client, topics, &[("authorization", &bearer)]).await.unwrap(),
        Socket::open(client, topics, &[("sec-websocket-protocol", &named)]).await.unwrap(),
        Socket::of(client, "zone,record,change").await,
    ];
    // Whoever said it last is heard from then on.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let first = put(client, "a.example.com.", "one").await;
    for socket in &mut sockets {
        assert_eq!(socket.next_of("record").await["data"]["type"], "SOA");
        let record = socket.next().await.unwrap();
        let is = json!({ "event": "record", "data": { "zone": "example.com.", "name": "a.example.com.", "type": "TXT", "ttl": 300, "value": ["\"one\""], "change": first } });
        assert_eq!(record, is);
        let zone = socket.next().await.unwrap();
        assert_eq!((&zone["event"], &zone["data"]["kind"]), (&json!("zone"), &json!("update")));
        let change = socket.next().await.unwrap();
        assert_eq!((&change["event"], &change["id"]), (&json!("change"), &json!(first)));
    }
    // Who comes back goes on where they were.
    let second = put(client, "a.example.com.", "two").await;
    let mut again = Socket::open(client, "", &[]).await.unwrap();
    again.say(json!({ "token": client.token, "topics": "change", "after": first })).await;
    assert_eq!(again.next().await.unwrap()["id"], json!(second));
    let mut lost = Socket::open(client, &format!("?after={}", uuid::Uuid::now_v7()), &[]).await.unwrap();
    lost.say(json!({ "token": client.token })).await;
    assert_eq!(lost.next().await.unwrap()["event"], "resync");
    // They have nothing more to say.
    again.say(json!({ "topics": "zone" })).await;
    assert_eq!(again.next().await.unwrap_err().unwrap().0, CloseCode::Policy);
    let stopping = tokio::spawn(server.stop());
    let last = async {
        loop {
            if let Err(closed) = sockets[0].next().await {
                break closed;
            }
        }
    };
    assert_eq!(last.await.unwrap().0, CloseCode::Away);
    stopping.await.unwrap();
}

#[tokio::test]
async fn a_socket_is_for_who_may() {
    let office = Office::open().await;
    let (anna, _) = with_tenant(&office, "anna@example.org").await;
    let (bert, _) = with_tenant(&office, "bert@example.org").await;
    let client = &anna.client;
    // Each of these opens one that ends.
    let token = client.token.as_str();
    for (first, code) in [
        (json!({ "token": "gw_x" }), "UNAUTHENTICATED"),
        (json!({ "token": token, "topics": "node" }), "INSUFFICIENT_SCOPE"),
        (json!({ "token": token, "topics": "zones" }), "INVALID_VALUE"),
        (json!({ "token": token, "after": "17" }), "INVALID_VALUE"),
        (json!({ "token": token, "topic": "zone" }), "MALFORMED_REQUEST"),
        (json!({}), "MALFORMED_REQUEST"),
        (json!("x"), "MALFORMED_REQUEST"),
        (json!({ "token": "x".repeat(15_000) }), "UNAUTHENTICATED"),
    ] {
        let mut socket = Socket::open(client, "", &[]).await.unwrap();
        socket.say(first.clone()).await;
        assert_eq!(socket.end().await, (code.to_owned(), CloseCode::Policy), "{first}");
    }
    // What was refused is written down, a moment later.
    let deadline = std::time::Instant::now() + PATIENCE;
    let noted = "/api/v1/audit?action=request&outcome=refused";
    while !office.client().get(noted).await.expect(200).text.contains("/api/v1/ws") {
        assert!(std::time::Instant::now() < deadline, "nobody hears of it");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut long = Socket::open(client, "", &[]).await.unwrap();
    let _ = long.0.send(Message::text("x".repeat(1 << 20))).await;
    long.next().await.unwrap_err();
    // And each of these none.
    let bearer = format!("Bearer {token}");
    let cookie = json!({ "email": "anna@example.org", "password": PASSWORD, "cookie": true });
    let logged_in = office.post("/api/v1/auth/login", cookie).await.expect(204);
    let cookie = logged_in.header("set-cookie").split(';').next().unwrap().to_owned();
    for (query, headers, expected) in [
        ("?topics=job", vec![("authorization", bearer.as_str())], (403, json!("INSUFFICIENT_SCOPE"))),
        ("?zone=a%20b", vec![("authorization", &bearer)], (422, json!("INVALID_NAME"))),
        ("?topic=zone", vec![("authorization", &bearer)], (400, json!("MALFORMED_REQUEST"))),
        ("", vec![("sec-websocket-protocol", "godwit.v1, bearer.gw_x")], (401, json!("UNAUTHENTICATED"))),
        ("", vec![("cookie", cookie.as_str())], (403, json!("FORBIDDEN"))),
        ("", vec![("cookie", &cookie), ("origin", "https://elsewhere.test")], (403, json!("FORBIDDEN"))),
        ("", vec![("cookie", &cookie), ("sec-fetch-site", "cross-site")], (403, json!("FORBIDDEN"))),
    ] {
        let refused = Socket::open(client, query, &headers).await.err();
        assert_eq!(refused, Some(expected), "{query} {headers:?}");
    }
    assert_eq!(client.get("/api/v1/ws").await.expect(400).code(), "MALFORMED_REQUEST");
    let own = [("cookie", cookie.as_str()), ("sec-fetch-site", "same-origin")];
    let mut by_cookie = Socket::open(client, "?topics=change", &own).await.unwrap();
    // Everybody hears of what they see.
    let mut hers = Socket::of(client, "zone,record,change").await;
    let mut his = Socket::of(&bert.client, "zone,record,change").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    zone(client, "anna.test.").await.expect(201);
    zone(&bert.client, "bert.test.").await.expect(201);
    by_cookie.next_of("change").await;
    assert_eq!(hers.next_of("zone").await["data"]["name"], "anna.test.");
    loop {
        let event = his.next().await.unwrap();
        assert!(!event.to_string().contains("anna"), "{event}");
        if event["event"] == "change" {
            break;
        }
    }
    // What is revoked ends it within a second.
    let since = std::time::Instant::now();
    client.send("DELETE", "/api/v1/users/me/sessions", &[], vec![]).await.expect(200);
    let ended = tokio::select! {
        ended = by_cookie.end() => ended,
        () = tokio::time::sleep(PATIENCE) => panic!("it goes on"),
    };
    assert_eq!(ended, ("TOKEN_REVOKED".to_owned(), CloseCode::Policy));
    assert!(since.elapsed() < Duration::from_millis(1_200), "{:?}", since.elapsed());
    office.server.stop().await;
}

/// Who does not say who they are keeps nobody out, and is not waited for.
#[tokio::test]
async fn a_socket_waits_for_the_first_message_and_not_for_ever() {
    let server = Server::start().await;
    let client = &server.client;
    let mut silent = Vec::new();
    for _ in 0..32 {
        silent.push(Socket::open(client, "", &[]).await.unwrap());
    }
    let one_more = Socket::open(client, "", &[]).await.err();
    assert_eq!(one_more, Some((429, json!("RATE_LIMITED"))));
    // Who says it at once needs no such place.
    let bearer = format!("Bearer {}", client.token);
    let _known = Socket::open(client, "", &[("authorization", &bearer)]).await.unwrap();
    for socket in &mut silent {
        assert_eq!(socket.end().await, ("TIMEOUT".to_owned(), CloseCode::Policy));
    }
    Socket::of(client, "change").await.0.close(None).await.unwrap();
    server.stop().await;
}

/// Connections that became WebSockets are connections.
#[tokio::test]
async fn sockets_are_connections_and_places_come_free() {
    const MANY: usize = 1_000;
    let office = Office::open_with(|config| {
        config.api.max_connections = MANY + 50;
        config.api.max_connections_per_client = MANY + 1;
        config.api.max_listeners = MANY;
        config.api.max_listeners_per_account = MANY;
    })
    .await;
    let client = office.client();
    settled(client).await;
    let bearer = format!("Bearer {}", client.token);
    let headers = [("authorization", bearer.as_str())];
    let mut all = Vec::new();
    for _ in 0..MANY {
        all.push(Socket::open(client, "?topics=change", &headers).await.unwrap());
    }
    // Of the one connection more that a client may have.
    let full = Socket::open(client, "", &headers).await.err();
    assert_eq!(full, Some((429, json!("RATE_LIMITED"))));
    let keeps = TcpStream::connect(client.address).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(office.server.limited("connections_per_client"), 0);
    assert_eq!(client.get("/api/v1/domains").await.status, 429, "they are no connections any more");
    drop(keeps);
    let made = loop {
        let body = json!({ "changes": [{ "op": "put", "name": "a.example.com.", "type": "A", "value": ["192.0.2.9"] }] });
        let answer = client.json("POST", "/api/v1/changes", &body).await;
        if answer.status == 200 {
            break answer.header("godwit-change").to_owned();
        }
        assert_eq!(answer.status, 429);
    };
    for socket in &mut all {
        assert_eq!(socket.next_of("change").await["id"], json!(made));
    }
    // Who has gone makes room for another.
    drop(all.split_off(MANY - 1));
    let deadline = std::time::Instant::now() + PATIENCE;
    while Socket::open(client, "", &headers).await.is_err() {
        assert!(std::time::Instant::now() < deadline, "there is no place");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    office.server.stop().await;
}
