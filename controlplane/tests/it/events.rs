//! Events: in order, each once, of what one sees alone, and what was missed is known or told.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use crate::harness::{Client, Server};
use crate::keys::operator;
use crate::office::Office;
use crate::replica::Replica;
use crate::tenants::{id, with_tenant, zone};

/// Somebody who listens.
pub(crate) struct Listening {
    body: Incoming,
    text: String,
    _driver: tokio::task::JoinHandle<()>,
}

impl Listening {
    pub(crate) async fn to(client: &Client, path: &str, headers: &[(&str, &str)]) -> Listening {
        Listening::try_to(client, path, headers).await.unwrap()
    }

    /// The error: the status that it was refused with.
    pub(crate) async fn try_to(
        client: &Client,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Listening, u16> {
        let stream = tokio::net::TcpStream::connect(client.address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let driver = tokio::spawn(async move { drop(connection.await) });
        let mut request = Request::builder().uri(path).header("host", "api.test");
        request = request.header("authorization", format!("Bearer {}", client.token));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
        if response.status() != 200 {
            return Err(response.status().as_u16());
        }
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Ok(Listening { body: response.into_body(), text: String::new(), _driver: driver })
    }

    /// The next event: name, id and data; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<(String, String, Value)> {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    let found = event.lines().find_map(|line| line.strip_prefix(name));
                    found.unwrap_or_default().to_owned()
                };
                let told = (field("event: "), field("id: "), field("data: "));
                self.text = rest.to_owned();
                if !told.0.is_empty() {
                    return Some((told.0, told.1, serde_json::from_str(&told.2).unwrap()));
                }
                continue;
            }
            let frame = tokio::time::timeout_at(deadline, self.body.frame()).await;
            let frame = frame.expect("nothing was told in 20 s")?.ok()?;
            self.text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
    }

    /// The next event with a name.
    async fn next_of(&mut self, name: &str) -> (String, Value) {
        loop {
            let (event, id, data) = self.next().await.expect("the end");
            if event == name {
                return (id, data);
            }
        }
    }
}

pub(crate) async fn put(client: &Client, name: &str, value: &str) -> String {
    let body = json!({ "changes": [{ "op": "put", "name": name, "type": "TXT", "value": [format!("\"{value}\"")] }] });
    let answer = client.json("POST", "/api/v1/changes", &body).await.expect(200);
    answer.header("godwit-change").to_owned()
}

/// Until all that was before is published; the last change.
pub(crate) async fn settled(client: &Client) -> String {
    let first = json!({ "changes": [{ "op": "put", "name": "first.example.com.", "type": "A", "value": ["192.0.2.1"] }] });
    let answer = client.json("POST", "/api/v1/changes?wait=applied", &first).await.expect(200);
    answer.header("godwit-change").to_owned()
}

#[tokio::test]
async fn what_happens_is_told_in_order_and_gone_on_with_behind_a_change() {
    let server = Server::start().await;
    let client = &server.client;
    settled(client).await;
    let mut all = Listening::to(client, "/api/v1/events?topics=zone,record,change", &[]).await;
    let first = put(client, "a.example.com.", "one").await;
    // In canonical order: the SOA of the apex, which every change raises, first.
    let (name, event_id, soa) = all.next().await.unwrap();
    assert_eq!((name.as_str(), event_id.as_str(), &soa["type"]), ("record", "", &json!("SOA")));
    let (_, record) = all.next_of("record").await;
    let is = json!({ "zone": "example.com.", "name": "a.example.com.", "type": "TXT", "ttl": 300, "value": ["\"one\""], "change": first });
    assert_eq!(record, is);
    let (name, event_id, told) = all.next().await.unwrap();
    assert_eq!((name.as_str(), event_id.as_str()), ("zone", ""));
    assert_eq!(
        (&told["name"], &told["kind"], &told["version"]),
        (&json!("example.com."), &json!("update"), &json!(3))
    );
    let (event_id, change) = all.next_of("change").await;
    assert_eq!(
        (event_id.as_str(), &change["id"], &change["zones"]),
        (first.as_str(), &json!(first), &json!(["example.com."]))
    );
    let mut ids = Vec::new();
    for n in 0..20 {
        ids.push(put(client, "a.example.com.", &format!("n{n}")).await);
    }
    client.delete("/api/v1/records/a.example.com.?type=TXT").await.expect(204);
    let mut heard = Vec::new();
    for _ in 0..21 {
        heard.push(all.next_of("change").await.1);
    }
    let told: Vec<&Value> = heard.iter().map(|change| &change["id"]).collect();
    assert_eq!(told[..20], ids.iter().map(|id| json!(id)).collect::<Vec<_>>().iter().collect::<Vec<_>>());
    let sequences: Vec<u64> = heard.iter().map(|change| change["sequence"].as_u64().unwrap()).collect();
    assert!(sequences.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{sequences:?}");
    // Who comes back goes on where they were.
    for (path, headers) in [
        ("/api/v1/events?topics=change".to_owned(), vec![("last-event-id", ids[14].as_str())]),
        (format!("/api/v1/events?topics=change&after={}", ids[14]), vec![]),
    ] {
        let mut again = Listening::to(client, &path, &headers).await;
        for id in &ids[15..] {
            assert_eq!(again.next_of("change").await.0, *id);
        }
    }
    let mut gone =
        Listening::to(client, &format!("/api/v1/events?topics=record&after={}", ids[19]), &[]).await;
    let (_, deleted) = gone.next_of("record").await;
    let is = json!({ "zone": "example.com.", "name": "a.example.com.", "type": "TXT", "value": null, "change": heard[20]["id"] });
    assert!(deleted == is || gone.next_of("record").await.1 == is, "{deleted}");
    // What never was is not known.
    let unknown = uuid::Uuid::now_v7().to_string();
    let mut lost = Listening::to(client, "/api/v1/events", &[("last-event-id", &unknown)]).await;
    assert_eq!(lost.next().await.unwrap().0, "resync");
    for (query, status, code) in [
        ("topics=zones", 422, "INVALID_VALUE"),
        ("topics=", 422, "INVALID_VALUE"),
        ("after=17", 422, "INVALID_VALUE"),
        ("zone=a%20b", 422, "INVALID_NAME"),
        ("topic=zone", 400, "MALFORMED_REQUEST"),
    ] {
        let answer = client.get(&format!("/api/v1/events?{query}")).await.expect(status);
        assert_eq!(answer.code(), code, "{query}");
    }
    server.stop().await;
    // The end is an end, and not a break.
    assert!(all.next().await.is_none());
}

#[tokio::test]
async fn nobody_hears_of_what_they_do_not_see() {
    let office = Office::open().await;
    let (anna, _) = with_tenant(&office, "anna@example.org").await;
    let (bert, his) = with_tenant(&office, "bert@example.org").await;
    for topic in ["node", "job"] {
        let answer = anna.client.get(&format!("/api/v1/events?topics={topic}")).await.expect(403);
        assert_eq!(answer.code(), "INSUFFICIENT_SCOPE");
    }
    let mut hers = Listening::to(&anna.client, "/api/v1/events", &[]).await;
    let mut of_bert = Listening::to(&bert.client, "/api/v1/events", &[]).await;
    let mut all = Listening::to(office.client(), "/api/v1/events?topics=change", &[]).await;
    put(office.client(), "secret.example.com.", "operator").await;
    zone(&anna.client, "anna.test.").await.expect(201);
    let hers_made = put(&anna.client, "www.anna.test.", "hers").await;
    zone(&bert.client, "bert.test.").await.expect(201);
    let his_made = put(&bert.client, "www.bert.test.", "his").await;
    for (listening, zone, last) in
        [(&mut hers, "anna.test.", &hers_made), (&mut of_bert, "bert.test.", &his_made)]
    {
        loop {
            let (event, id, data) = listening.next().await.unwrap();
            match event.as_str() {
                "record" => assert_eq!(data["zone"], json!(zone)),
                "zone" => assert_eq!(data["name"], json!(zone)),
                "change" => assert_eq!(data["zones"], json!([zone])),
                other => panic!("{other}: {data}"),
            }
            if id == *last {
                break;
            }
        }
    }
    for _ in 0..5 {
        all.next_of("change").await;
    }
    // What is granted is heard of from then on.
    let grant = format!("/api/v1/domains/anna.test./grants/{his}");
    anna.client.json("PUT", &grant, &json!({ "role": "viewer" })).await.expect(200);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let shared = put(&anna.client, "x.anna.test.", "shared").await;
    assert_eq!(of_bert.next_of("change").await.0, shared);
    // A session that ends, ends it within a second.
    let olga = operator(&office).await;
    let mut listening = Listening::to(&olga.client, "/api/v1/events?topics=change", &[]).await;
    let path = format!("/api/v1/users/{}", id(&olga).await);
    let spare = json!({ "email": "spare@example.org", "operator": true });
    office.client().json("POST", "/api/v1/users", &spare).await.expect(201);
    let since = std::time::Instant::now();
    office.client().json("PATCH", &path, &json!({ "suspended": true })).await.expect(200);
    let (event, _, data) = listening.next().await.unwrap();
    assert!(since.elapsed() < Duration::from_millis(1_200), "{:?}", since.elapsed());
    assert_eq!((event.as_str(), &data["code"]), ("end", &json!("TOKEN_REVOKED")));
    assert!(listening.next().await.is_none());
    office.server.stop().await;
}

#[tokio::test]
async fn data_planes_and_jobs_are_told_of_to_operators() {
    let office = Office::open().await;
    let mut listening = Listening::to(office.client(), "/api/v1/events?topics=node,job", &[]).await;
    let (_, node) = listening.next_of("node").await;
    assert_eq!((&node["node"], &node["state"]), (&json!("local"), &json!("live")));
    office.register("anna@example.org", "long enough").await;
    loop {
        let (_, job) = listening.next_of("job").await;
        assert_eq!(job["kind"], json!("mail"));
        if job["state"] == json!("done") {
            break;
        }
    }
    office.server.stop().await;
}

/// Records of a change that says much are not told one by one, whether it is heard, or read later from memory or the database.
#[tokio::test]
async fn of_a_large_change_it_is_told_which_zone_to_read() {
    let server = Server::start().await;
    let client = &server.client;
    let before = settled(client).await;
    let events = "/api/v1/events?topics=zone,record,change";
    let mut all = Listening::to(client, events, &[]).await;
    let put_many = |n: usize| {
        let put = move |m: usize| {
            let value = format!("\"{n} {}\"", "x".repeat(200));
            json!({ "op": "put", "name": format!("n{m}.example.com."), "type": "TXT", "value": [value] })
        };
        json!({ "changes": (0..400).map(put).collect::<Vec<_>>() })
    };
    let large = client.json("POST", "/api/v1/changes", &put_many(0)).await.expect(200);
    let large = large.header("godwit-change").to_owned();
    let last = put(client, "a.example.com.", "after").await;
    let told = async |listening: &mut Listening| {
        let (name, _, data) = listening.next().await.unwrap();
        assert_eq!((name.as_str(), &data["zone"]), ("resync", &json!("example.com.")), "{data}");
        let (name, _, data) = listening.next().await.unwrap();
        assert_eq!((name.as_str(), &data["change"]), ("zone", &json!(large)));
        assert_eq!(listening.next().await.unwrap().1, large);
        let (name, ..) = listening.next().await.unwrap();
        assert_eq!(name, "record");
        assert_eq!(listening.next_of("change").await.0, last);
    };
    told(&mut all).await;
    let mut again = Listening::to(client, events, &[("last-event-id", &before)]).await;
    told(&mut again).await;
    // With nobody listening nothing is in memory any more; what is read may be so large.
    drop((all, again));
    tokio::time::sleep(Duration::from_millis(100)).await;
    let (folder, replica, token) = server.stop().await;
    let server = Server::start_in(folder, replica, Some(token), |_| {}).await;
    let client = &server.client;
    let mut again = Listening::to(client, events, &[("last-event-id", &before)]).await;
    told(&mut again).await;
    let mut changes = 0;
    for n in 0..110 {
        client.json("POST", "/api/v1/changes", &put_many(n + 1)).await.expect(200);
        changes += 1;
    }
    settled(client).await;
    let (folder, replica, token) = server.stop().await;
    let server = Server::start_in(folder, replica, Some(token), |_| {}).await;
    let mut late = Listening::to(&server.client, events, &[("last-event-id", &last)]).await;
    let (name, _, data) = late.next().await.unwrap();
    assert_eq!((name.as_str(), &data["zone"]), ("resync", &Value::Null), "{changes} were read: {data}");
    server.stop().await;
}

/// Who is told to go, goes within a second, with whatever they came.
#[tokio::test]
async fn what_is_revoked_ends_what_is_listened_to_with_it() {
    let office = Office::open().await;
    let (anna, _) = with_tenant(&office, "anna@example.org").await;
    let other = office.log_in("anna@example.org", crate::office::PASSWORD).await;
    let token = |client: Client| async move {
        let body = json!({ "name": "listens", "scope": "domains:read", "password": crate::office::PASSWORD });
        let made = client.json("POST", "/api/v1/tokens", &body).await.expect(201).json();
        (Client { token: made["token"].as_str().unwrap().to_owned(), ..client }, made["id"].clone())
    };
    let (hers, her_id) = token(anna.client.clone()).await;
    let (nobodys, nobodys_id) = token(office.client().clone()).await;
    let events = "/api/v1/events?topics=change";
    let mut stays = Listening::to(&anna.client, events, &[]).await;
    let path = |id: &Value| format!("/api/v1/tokens/{}", id.as_str().unwrap());
    for what in ["her token", "nobody's token", "another session"] {
        let mut listening = match what {
            "her token" => Listening::to(&hers, events, &[]).await,
            "nobody's token" => Listening::to(&nobodys, events, &[]).await,
            _ => Listening::to(&other.client, events, &[]).await,
        };
        let since = std::time::Instant::now();
        match what {
            "her token" => anna.client.delete(&path(&her_id)).await.expect(204),
            "nobody's token" => office.client().delete(&path(&nobodys_id)).await.expect(204),
            _ => office
                .post("/api/v1/auth/logout", json!({ "refresh_token": other.refresh }))
                .await
                .expect(204),
        };
        let (event, ..) = listening.next().await.unwrap();
        assert_eq!(event, "end", "{what}");
        assert!(since.elapsed() < Duration::from_millis(1_200), "{what}: {:?}", since.elapsed());
    }
    zone(&anna.client, "anna.test.").await.expect(201);
    stays.next_of("change").await;
    office.server.stop().await;
}

/// Neither one account nor who is let in nowhere takes what all others need.
#[tokio::test]
async fn one_account_listens_so_often_and_who_asks_is_in_flight() {
    let office = Office::open_with(|config| {
        config.api.max_listeners_per_account = 2;
        config.api.max_requests = 4;
    })
    .await;
    let (anna, _) = with_tenant(&office, "anna@example.org").await;
    let (bert, _) = with_tenant(&office, "bert@example.org").await;
    let events = "/api/v1/events?topics=change";
    let mut listening = Vec::new();
    for client in [&anna.client, &anna.client, &bert.client, &bert.client, office.client()] {
        listening.push(Listening::to(client, events, &[]).await);
    }
    for client in [&anna.client, &bert.client] {
        assert_eq!(Listening::try_to(client, events, &[]).await.err(), Some(429));
    }
    // Those who listen are not in flight.
    anna.client.get("/api/v1/users/me").await.expect(200);
    // Who sends a body is, until it has come: with as many as may be nobody is looked at.
    let mut slow = Vec::new();
    for _ in 0..4 {
        let mut stream = tokio::net::TcpStream::connect(office.client().address).await.unwrap();
        let head = format!(
            "POST /api/v1/domains HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
             content-length: 100\r\n\r\n",
            office.client().token,
        );
        tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    let stranger = Client { token: "gw_nobody".to_owned(), ..office.client().clone() };
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while Listening::try_to(&stranger, events, &[]).await.err() != Some(429) {
        assert!(std::time::Instant::now() < deadline, "they are looked at for ever");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(slow);
    office.server.stop().await;
}

/// A control plane tells of what another one of the same database took, and of what was before it began.
#[tokio::test]
async fn each_control_plane_tells_the_same() {
    if crate::DATABASE == godwit_controlplane::store::Kind::Sqlite {
        return;
    }
    let one = Server::start().await;
    let before = put(&one.client, "a.example.com.", "before").await;
    let since = put(&one.client, "a.example.com.", "since").await;
    one.client.json("POST", "/api/v1/changes?wait=applied", &json!({ "changes": [{ "op": "put", "name": "b.example.com.", "type": "A", "value": ["192.0.2.1"] }] })).await.expect(200);
    let token = Some(one.client.token.clone());
    let two = Server::start_in(one.folder.clone(), Replica::default(), token, |_| {}).await;
    let mut there =
        Listening::to(&two.client, "/api/v1/events?topics=change", &[("last-event-id", &before)]).await;
    assert_eq!(there.next_of("change").await.0, since);
    there.next_of("change").await;
    let made = put(&one.client, "c.example.com.", "one").await;
    assert_eq!(there.next_of("change").await.0, made);
    let mut here =
        Listening::to(&one.client, "/api/v1/events?topics=change", &[("last-event-id", &made)]).await;
    let made = put(&two.client, "c.example.com.", "two").await;
    assert_eq!(there.next_of("change").await.0, made);
    assert_eq!(here.next_of("change").await.0, made);
    // Who goes to another control plane hears nothing twice, though that may hear of it later.
    for n in 0..10 {
        let known = put(&one.client, "c.example.com.", &format!("known {n}")).await;
        while here.next_of("change").await.0 != known {}
        let mut moved =
            Listening::to(&two.client, "/api/v1/events?topics=change", &[("last-event-id", &known)]).await;
        let next = put(&one.client, "c.example.com.", &format!("next {n}")).await;
        assert_eq!(moved.next().await.unwrap().1, next, "{n}");
        while here.next_of("change").await.0 != next {}
    }
    two.stop().await;
    one.stop().await;
}

#[tokio::test]
async fn a_thousand_may_listen_and_no_more_than_may() {
    const MANY: usize = 1_000;
    let office = Office::open_with(|config| {
        config.api.max_connections = 2 * MANY;
        config.api.max_connections_per_client = 2 * MANY;
        config.api.max_listeners = MANY;
        config.api.max_listeners_per_account = 2 * MANY;
    })
    .await;
    let client = office.client();
    settled(client).await;
    let mut all = Vec::new();
    for _ in 0..MANY {
        all.push(Listening::to(client, "/api/v1/events?topics=change", &[]).await);
    }
    let one_more = Listening::try_to(client, "/api/v1/events", &[]).await;
    assert_eq!(one_more.err(), Some(429), "one more than may listens");
    assert_eq!(office.server.limited("listeners"), 1);
    // Requests have places of their own.
    let mut made = Vec::new();
    for n in 0..5 {
        made.push(put(client, "a.example.com.", &n.to_string()).await);
    }
    for listening in &mut all {
        for change in &made {
            assert_eq!(listening.next_of("change").await.0, *change);
        }
    }
    // Who has gone makes room for another.
    drop(all.split_off(MANY - 1));
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while Listening::try_to(client, "/api/v1/events?topics=change", &[]).await.is_err() {
        assert!(std::time::Instant::now() < deadline, "there is no place");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    office.server.stop().await;
}
