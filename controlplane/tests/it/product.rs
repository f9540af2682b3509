//! The API as programs and browsers of others meet it: origins, compression, media types, request ids, routes that will go.

use godwit_controlplane::Config;
use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{Answer, Server, folder};
use crate::office::Office;
use crate::program;
use crate::replica::Replica;

const PAGE: &str = "https://dns.example.net";
const RECORDS: &str = "/api/v1/records";

async fn with(adjust: impl FnOnce(&mut Config)) -> Server {
    Server::start_in(folder(), Replica::default(), None, adjust).await
}

async fn preflight(server: &Server, origin: &str, method: &str) -> Answer {
    let headers = [
        ("authorization", ""),
        ("origin", origin),
        ("access-control-request-method", method),
        ("access-control-request-headers", "authorization,content-type,idempotency-key,if-match"),
    ];
    server.client.send("OPTIONS", RECORDS, &headers, Vec::new()).await
}

#[tokio::test]
async fn pages_of_other_origins_may_nothing_until_they_are_named() {
    let server = Server::start().await;
    assert_eq!(preflight(&server, PAGE, "PUT").await.status, StatusCode::METHOD_NOT_ALLOWED);
    let answer =
        server.client.send("GET", "/api/v1/domains", &[("origin", PAGE)], Vec::new()).await.expect(200);
    assert!(
        answer.headers.keys().all(|name| !name.as_str().starts_with("access-control")),
        "{:?}",
        answer.headers
    );
}

#[tokio::test]
async fn a_page_that_is_named_may_speak_to_the_api_with_a_token_and_never_with_a_cookie() {
    let server = with(|config| config.api.cors_origins = vec![PAGE.to_owned()]).await;
    // Before it is known who asks.
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
        let asked = preflight(&server, PAGE, method).await.expect(200);
        assert_eq!(asked.header("access-control-allow-origin"), PAGE);
        assert!(asked.header("access-control-allow-methods").contains(method), "{method}");
        for header in ["authorization", "content-type", "idempotency-key", "if-match", "x-request-id"] {
            assert!(asked.header("access-control-allow-headers").contains(header), "{header}");
        }
        assert_eq!(asked.header("access-control-allow-credentials"), "");
        assert_eq!(asked.header("access-control-max-age"), "600");
    }
    let body = json!({"type": "A", "value": ["192.0.2.9"]});
    let path = format!("{RECORDS}/www.example.com.");
    let put = server.client.json_with("PUT", &path, &[("origin", PAGE)], &body).await.expect(200);
    assert_eq!(put.header("access-control-allow-origin"), PAGE);
    assert!(put.header("vary").to_lowercase().contains("origin"));
    // All that ours say and no page may read by itself.
    let exposed = put.header("access-control-expose-headers").to_owned();
    for name in put.headers.keys().map(hyper::header::HeaderName::as_str) {
        let is_ours =
            ["godwit-", "ratelimit-", "x-request-id", "etag"].iter().any(|ours| name.starts_with(ours));
        assert!(!is_ours || exposed.split(',').any(|one| one.trim() == name), "{name} is not in {exposed}");
    }
    for name in ["retry-after", "location", "deprecation", "sunset"] {
        assert!(exposed.contains(name), "{name}");
    }
    // An error, too, else the page would not know what is wrong.
    let refused = [("origin", PAGE), ("authorization", "Bearer gw_x")];
    let refused = server.client.send("GET", "/api/v1/domains", &refused, Vec::new()).await.expect(401);
    assert_eq!(
        (refused.header("access-control-allow-origin"), refused.header("access-control-allow-credentials")),
        (PAGE, "")
    );
    for other in
        ["https://dns.example.net.evil.test", "http://dns.example.net", "https://dns.example.net:444", "null"]
    {
        let asked = preflight(&server, other, "PUT").await;
        assert_eq!(asked.header("access-control-allow-origin"), "", "{other}");
        let answer = server.client.send("GET", "/api/v1/domains", &[("origin", other)], Vec::new()).await;
        assert_eq!(answer.header("access-control-allow-origin"), "", "{other}");
    }
}

#[test]
fn an_origin_that_is_none_is_an_error_of_the_configuration() {
    for origin in ["*", "null", "https://dns.example.net/", "dns.example.net"] {
        let checked = program::command()
            .arg("--check-config")
            .env("GODWIT_API__CORS_ORIGINS", origin)
            .output()
            .unwrap();
        let said = String::from_utf8(checked.stderr).unwrap();
        assert_eq!(checked.status.code(), Some(2), "{origin}: {said}");
        assert!(said.contains("api.cors_origins") && said.lines().count() == 1, "{origin}: {said}");
    }
}

/// What stands behind the head of an answer, with the head.
async fn raw(server: &Server, method: &str, path: &str, headers: &[(&str, &str)]) -> (String, Vec<u8>) {
    let mut stream = tokio::net::TcpStream::connect(server.client.address).await.unwrap();
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{request}\r\n").as_bytes()).await.unwrap();
    let mut octets = Vec::new();
    stream.read_to_end(&mut octets).await.unwrap();
    let end = octets.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let body = octets.split_off(end + 4);
    (String::from_utf8(octets).unwrap().to_lowercase(), body)
}

/// A body in chunks as one.
fn joined(mut chunks: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    loop {
        let end = chunks.windows(2).position(|two| two == b"\r\n").unwrap();
        let length = usize::from_str_radix(std::str::from_utf8(&chunks[..end]).unwrap(), 16).unwrap();
        if length == 0 {
            return whole;
        }
        whole.extend_from_slice(&chunks[end + 2..end + 2 + length]);
        chunks = &chunks[end + 4 + length..];
    }
}

fn unzipped(octets: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut gzip = std::process::Command::new("gzip")
        .arg("-dc")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let (mut input, octets) = (gzip.stdin.take().unwrap(), octets.to_vec());
    let writing = std::thread::spawn(move || input.write_all(&octets));
    let output = gzip.wait_with_output().unwrap();
    writing.join().unwrap().unwrap();
    assert!(output.status.success());
    output.stdout
}

#[tokio::test]
async fn long_answers_are_compressed_for_who_asks_and_short_ones_are_not() {
    let server = Server::start().await;
    let rrsets: Vec<Value> = (0..300)
        .map(|n| json!({"op": "put", "name": format!("host-{n}.example.com."), "type": "A", "value": ["192.0.2.7"]}))
        .collect();
    server
        .client
        .json("POST", "/api/v1/changes?wait=applied", &json!({ "changes": rrsets }))
        .await
        .expect(200);
    let bearer = format!("Bearer {}", server.client.token);
    let (token, gzip) = (("authorization", bearer.as_str()), ("accept-encoding", "br, gzip;q=0.8"));
    for path in ["/api/v1/records?zone=example.com.&limit=1000", "/api/v1/domains/example.com./export"] {
        let plain = server.client.get(path).await.expect(200);
        let (head, body) = raw(&server, "GET", path, &[token, gzip]).await;
        assert!(head.contains("content-encoding: gzip") && head.contains("vary: accept-encoding"), "{head}");
        assert!(!head.contains("content-length"), "{head}");
        let body = joined(&body);
        assert!(body.len() * 4 < plain.text.len(), "{path}: {} of {}", body.len(), plain.text.len());
        assert!(unzipped(&body) == plain.text.as_bytes(), "{path}: something else");
        // Octets that are others have a tag that is another, which names the same version.
        let tag = plain.header("etag").to_owned();
        if !tag.is_empty() {
            let marked = tag.replacen('"', "", 1).replace('"', "-gzip\"");
            assert!(head.contains(&format!("etag: \"{marked}")), "{tag}: {head}");
            let body = json!({"type": "A", "value": ["192.0.2.11"]});
            let headers = [("if-match", format!("\"{marked}"))];
            let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let put = format!("{RECORDS}/www.example.com.");
            server.client.json_with("PUT", &put, &headers, &body).await.expect(200);
            server.client.json_with("PUT", &put, &headers, &body).await.expect(412);
        }
        for headers in
            [&[token][..], &[token, ("accept-encoding", "gzip;q=0")], &[token, ("accept-encoding", "br")]]
        {
            assert!(!raw(&server, "GET", path, headers).await.0.contains("content-encoding"), "{headers:?}");
        }
    }
    let short = raw(&server, "GET", "/api/v1/domains/example.com.", &[token, gzip]).await.0;
    assert!(short.contains("200 ok") && !short.contains("content-encoding"), "{short}");
}

/// What a browser can be made to ask for by a page of somebody else is not compressed, nor what holds secrets or costs strangers
/// nothing to ask for.
#[tokio::test]
async fn what_its_length_could_tell_of_is_not_compressed() {
    let office = Office::open().await;
    let anna = office.somebody("anna@example.org").await;
    for n in 0..7 {
        let body = json!({"email": "anna@example.org", "password": crate::office::PASSWORD});
        office.post("/api/v1/auth/login", body).await.expect(200);
        let step = json!({"op": "put", "name": format!("h{n}.example.com."), "type": "TXT", "value": ["x".repeat(200)]});
        office.client().json("POST", "/api/v1/changes", &json!({"changes": [step]})).await.expect(200);
    }
    let gzip = ("accept-encoding", "gzip");
    let (admin, anna) =
        (format!("Bearer {}", office.client().token), format!("Bearer {}", anna.client.token));
    let list = "/api/v1/records?zone=example.com.";
    let compressed = raw(&office.server, "GET", list, &[("authorization", &admin), gzip]).await.0;
    assert!(compressed.contains("content-encoding"), "{compressed}");
    for (what, path, headers) in [
        ("with a cookie", list, vec![("authorization", admin.as_str()), ("cookie", "x=y"), gzip]),
        ("of one's own", "/api/v1/users/me/sessions", vec![("authorization", anna.as_str()), gzip]),
        ("of strangers", "/api/v1/openapi.json", vec![gzip]),
        (
            "of strangers who say that they are none",
            "/api/v1/openapi.json",
            vec![("authorization", "Bearer x"), gzip],
        ),
        ("pages", "/docs/swagger-ui-bundle.js", vec![gzip]),
    ] {
        let (head, body) = raw(&office.server, "GET", path, &headers).await;
        assert!(head.contains("200 ok") && body.len() > 1_400, "{what}: {head} {}", body.len());
        assert!(!head.contains("content-encoding"), "{what}: {head}");
    }
    office.server.stop().await;
}

/// RFC 9110 §12.5.1: what there is is sent to who accepts something else; and a body is what its type says, whatever
/// parameters stand behind it.
#[tokio::test]
async fn media_types_are_read_and_a_wish_that_cannot_be_met_is_passed_over() {
    let server = Server::start().await;
    for accept in
        ["application/json", "*/*", "text/html", "application/xml;q=0.9", "application/json;q=0", "x"]
    {
        let answer =
            server.client.send("GET", "/api/v1/domains", &[("accept", accept)], Vec::new()).await.expect(200);
        assert_eq!(answer.header("content-type"), "application/json", "{accept}");
        let answer =
            server.client.send("GET", "/api/v1/nothing", &[("accept", accept)], Vec::new()).await.expect(404);
        assert_eq!(
            (answer.header("content-type"), answer.code().as_str()),
            ("application/json", "NOT_FOUND")
        );
    }
    let body = json!({"type": "A", "value": ["192.0.2.9"]}).to_string();
    let path = format!("{RECORDS}/www.example.com.");
    for (given, expected) in [
        ("application/json; charset=utf-8", 200),
        ("Application/JSON;charset=\"UTF-8\"", 200),
        ("application/json ; profile=x", 200),
        ("application/problem+json", 415),
        ("application/x-www-form-urlencoded", 415),
        ("text/json", 415),
        ("", 415),
    ] {
        let answer = server.client.send("PUT", &path, &[("content-type", given)], body.clone().into()).await;
        assert_eq!(answer.status.as_u16(), expected, "{given}: {}", answer.text);
    }
    // Octets that are no UTF-8 are no JSON, whatever is said of them.
    let latin = b"{\"type\":\"TXT\",\"value\":[\"\xe4\"]}".to_vec();
    let given = [("content-type", "application/json; charset=iso-8859-1")];
    server.client.send("PUT", &path, &given, latin).await.expect(400);
}

/// Whoever gives a request its name finds it in the answer, the log, the audit log and the change.
#[tokio::test]
async fn a_request_is_found_again_by_its_id() {
    let folder = folder();
    let mut program = program::start_with(folder.path(), &[("GODWIT_LOG__FILTER", "info")]);
    let client = program.client();
    client.json("POST", "/api/v1/domains", &json!({"name": "example.com."})).await.expect(201);
    let id = "order-4711.retry_2";
    let body = json!({"name": "www.example.com.", "type": "A", "value": ["192.0.2.1"]});
    let made = client.json_with("POST", RECORDS, &[("x-request-id", id)], &body).await.expect(201);
    assert_eq!(made.header("x-request-id"), id);
    let log = program.said(id).await;
    let line = log.lines().find(|line| line.contains(id)).unwrap();
    assert!(line.contains(RECORDS) && line.contains("201"), "{line}");
    let change = made.header("godwit-change");
    let audited = client.get(&format!("/api/v1/audit?change={change}")).await.expect(200).json();
    assert_eq!(audited["items"][0]["request_id"], id, "{audited}");
    let change = client.get(&format!("/api/v1/changes/{change}")).await.expect(200).json();
    assert_eq!(change["request_id"], id, "{change}");
    // An error says it in its body; one that is harmful is not taken.
    let refused =
        client.json_with("POST", RECORDS, &[("x-request-id", "again")], &body).await.expect(409).json();
    assert_eq!(refused["request_id"], "again");
    let long = "x".repeat(65);
    for harmful in ["a b", "a\"b", "", long.as_str()] {
        let answer = client.send("GET", "/api/v1/domains", &[("x-request-id", harmful)], Vec::new()).await;
        assert_ne!(answer.header("x-request-id"), harmful);
        assert_eq!(answer.header("x-request-id").len(), 36, "{harmful}");
    }
    program.kill();
}

/// What the description says of a route is what its answers say, good ones and others.
#[tokio::test]
async fn routes_that_will_go_say_so_in_the_description_and_in_each_answer() {
    let server = Server::start().await;
    let description = server.client.get("/api/v1/openapi.json").await.json();
    let mut deprecated = 0;
    for (path, operations) in description["paths"].as_object().unwrap() {
        for (verb, operation) in operations.as_object().unwrap() {
            let is_said = operation["deprecated"] == json!(true);
            deprecated += usize::from(is_said);
            let asked: String = path
                .split('/')
                .map(|part| if part.starts_with('{') { "/www.example.com." } else { part })
                .map(|part| format!("/{}", part.trim_start_matches('/')))
                .collect();
            let asked = &asked[1..];
            for token in ["Bearer gw_x", &format!("Bearer {}", server.client.token)] {
                if path == "/api/v1/events" || (verb != "get" && token != "Bearer gw_x") {
                    continue;
                }
                let headers = [("authorization", token)];
                let answer = server.client.send(&verb.to_uppercase(), asked, &headers, Vec::new()).await;
                let since = answer.header("deprecation");
                assert_eq!(!since.is_empty(), is_said, "{verb} {path}: {since}");
                assert_eq!(answer.header("link").contains("rel=\"deprecation\""), is_said, "{verb} {path}");
                assert!(
                    since.is_empty() || since[1..].parse::<i64>().is_ok() && since.starts_with('@'),
                    "{since}"
                );
            }
        }
    }
    assert_eq!(deprecated, 5, "the other path of records");
    // It is served all the same.
    server.client.get("/api/v1/dns-records/www.example.com.").await.expect(200);
}

/// However a request was sent, and whatever the test is about: see `Failures` of the harness.
#[tokio::test]
async fn a_test_whose_server_fails_inside_fails() {
    for is_meant in [false, true] {
        let mut server = Server::start().await;
        let mut database = server.beside().await;
        let damage = database.query("UPDATE rrsets SET rdata = $1").bind(vec![7u8]);
        assert!(damage.execute().await.unwrap() > 0);
        let token = format!("Bearer {}", server.client.token);
        let path = "/api/v1/records?zone=example.com.";
        let (head, body) = raw(&server, "GET", path, &[("authorization", &token)]).await;
        let body = String::from_utf8(body).unwrap();
        assert!(head.starts_with("http/1.1 500") && body.contains("INTERNAL"), "{head}{body}");
        if is_meant {
            server.fails_on_purpose();
        }
        let gone = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(server)));
        assert_eq!(gone.is_err(), !is_meant);
    }
}
