//! What is done outside of requests, as an operator sees it: mail as the job that there is.

use std::time::{Duration, Instant};

use godwit_controlplane::Config;
use godwit_controlplane::config::MailTransport;
use godwit_controlplane::store::Kind;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

use crate::harness::{Client, Server, folder};
use crate::program::start_with;
use crate::replica::Replica;

const TO: &str = "ada@example.org";

async fn server(adjust: impl FnOnce(&mut Config)) -> Server {
    Server::start_in(folder(), Replica::default(), None, adjust).await
}

async fn test_mail(client: &Client) -> String {
    let job = client.json("POST", "/api/v1/mail/test", &json!({"to": TO})).await.expect(202).json();
    job["id"].as_str().unwrap().to_owned()
}

async fn job(client: &Client, id: &str) -> Value {
    client.get(&format!("/api/v1/jobs/{id}")).await.expect(200).json()
}

async fn until(client: &Client, id: &str, state: &str) -> Value {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let job = job(client, id).await;
        if job["state"] == state {
            return job;
        }
        assert!(Instant::now() < deadline, "never {state}: {job}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A job that nobody here does.
pub(crate) async fn add_unknown(server: &Server) -> String {
    let id = Uuid::now_v7();
    let mut beside = server.beside().await;
    let insert = "INSERT INTO jobs (id, kind, payload, state, run_at_us, attempts, max_attempts, created_at_us) VALUES ($1, 'of.tomorrow', '{\"a\":1}', 'waiting', 1, 0, 3, 1)";
    beside.query(insert).bind(id).execute().await.unwrap();
    id.to_string()
}

async fn audited(server: &Server, action: &str, object: &str) -> i64 {
    let count = "SELECT count(*) FROM audit WHERE action = $1 AND object = $2";
    server.beside().await.query(count).bind(action).bind(object).fetch_value().await.unwrap()
}

#[tokio::test]
async fn mail_arrives_and_its_job_is_done() {
    let server = server(|config| {
        config.mail.transport = MailTransport::File;
        config.mail.from = Some("dns@example.net".to_owned());
    })
    .await;
    let id = test_mail(&server.client).await;
    let job = until(&server.client, &id, "done").await;
    assert_eq!((&job["kind"], &job["attempts"]), (&json!("mail.test"), &json!(1)));
    assert_eq!(job["payload"], json!({"to": TO}));
    assert!(job["finished_at"].is_string() && job["last_error"].is_null(), "{job}");
    let mut files = std::fs::read_dir(server.folder.path().join("mail")).unwrap();
    let text = std::fs::read_to_string(files.next().unwrap().unwrap().path()).unwrap();
    assert!(files.next().is_none() && text.contains(TO), "{text}");
    assert_eq!(audited(&server, "mail.test", &id).await, 1);
    let counted = "godwit_controlplane_jobs_total{kind=\"mail.test\",outcome=\"done\"} 1";
    // That follows what the database has.
    let deadline = Instant::now() + Duration::from_secs(10);
    while !server.metrics().contains(counted) {
        assert!(Instant::now() < deadline, "{}", server.metrics());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for (body, status) in [(json!({"to": "x".repeat(255)}), 422), (json!({}), 400), (json!({"to": 1}), 400)] {
        server.client.json("POST", "/api/v1/mail/test", &body).await.expect(status);
    }
}

#[tokio::test]
async fn what_is_given_up_is_tried_again_when_somebody_says_so() {
    let server = server(|_| {}).await;
    let id = test_mail(&server.client).await;
    let failed = until(&server.client, &id, "failed").await;
    assert_eq!(failed["last_error"], "no mail is sent here: mail.transport is off in the configuration");
    let path = format!("/api/v1/jobs/{id}/retry");
    let again = server.client.send("POST", &path, &[], vec![]).await.expect(200).json();
    assert_eq!((&again["state"], &again["attempts"]), (&json!("waiting"), &json!(0)));
    until(&server.client, &id, "failed").await;
    assert_eq!(audited(&server, "job.retry", &id).await, 1);
    let ended = server.client.send("POST", &format!("/api/v1/jobs/{id}/cancel"), &[], vec![]).await;
    assert_eq!(ended.expect(409).code(), "CONFLICT");
}

#[tokio::test]
async fn jobs_are_listed_looked_up_and_cancelled() {
    let server = server(|_| {}).await;
    let client = &server.client;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(add_unknown(&server).await);
    }
    let failed = test_mail(client).await;
    until(client, &failed, "failed").await;
    let listed = async |query: &str| {
        let page = client.get(&format!("/api/v1/jobs{query}")).await.expect(200).json();
        let items: Vec<String> = page["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|job| job["id"].as_str().unwrap().to_owned())
            .collect();
        (items, page["next"].as_str().map(str::to_owned))
    };
    assert_eq!(listed("?state=failed").await, (vec![failed.clone()], None));
    assert_eq!(listed("?kind=mail.test&state=waiting").await, (vec![], None));
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let (mut page, next) = listed(&format!("?kind=of.tomorrow&limit=2{cursor}")).await;
        assert!(page.len() <= 2);
        all.append(&mut page);
        let Some(next) = next else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(all, ids.iter().rev().cloned().collect::<Vec<_>>(), "the latest first");
    let waiting = job(client, &ids[0]).await;
    assert_eq!((&waiting["state"], &waiting["attempts"]), (&json!("waiting"), &json!(0)), "nobody does it");
    let path = format!("/api/v1/jobs/{}/cancel", ids[0]);
    let cancelled = client.send("POST", &path, &[], vec![]).await.expect(200).json();
    assert_eq!((&cancelled["id"], &cancelled["state"]), (&json!(ids[0]), &json!("cancelled")));
    assert_eq!(client.send("POST", &path, &[], vec![]).await.expect(409).code(), "CONFLICT");
    assert_eq!(audited(&server, "job.cancel", &ids[0]).await, 1);
    let path = format!("/api/v1/jobs/{}/retry", ids[1]);
    assert_eq!(client.send("POST", &path, &[], vec![]).await.expect(409).code(), "CONFLICT");
    for id in ["x", &Uuid::now_v7().to_string()] {
        for (method, path) in [("GET", ""), ("POST", "/cancel"), ("POST", "/retry")] {
            let answer = client.send(method, &format!("/api/v1/jobs/{id}{path}"), &[], vec![]).await;
            assert_eq!(answer.expect(404).code(), "JOB_NOT_FOUND");
        }
    }
    for query in ["?state=lost", "?cursor=AAAA", "?limit=0", "?a=b"] {
        let answer = client.get(&format!("/api/v1/jobs{query}")).await.expect(400);
        assert_eq!(answer.code(), "MALFORMED_REQUEST", "{query}");
    }
}

/// The one job of a kind that waits for the clock.
async fn regular(client: &Client, kind: &str) -> Value {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let page = client.get(&format!("/api/v1/jobs?kind={kind}&state=waiting")).await.expect(200).json();
        let items = page["items"].as_array().unwrap();
        assert!(items.len() < 2, "{page}");
        if let Some(job) = items.first() {
            return job.clone();
        }
        assert!(Instant::now() < deadline, "{kind} never waits");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What is done by the clock waits from the start, once however often that is, and does what it is for.
#[tokio::test]
async fn what_is_done_by_the_clock_is_a_job() {
    let server = Server::start().await;
    let mut ids = Vec::new();
    for kind in ["claims.check", "cleanup", "expiry"] {
        let job = regular(&server.client, kind).await;
        assert_eq!(job["schedule"], json!("*/5 * * * *"), "{job}");
        ids.push((kind, job["id"].clone()));
    }
    let (folder, replica, token) = server.stop().await;
    let server = Server::start_in(folder, replica, Some(token), |_| {}).await;
    let mut beside = server.beside().await;
    let keep = "INSERT INTO idempotency (caller, key, request_hash, response, created_at_us) VALUES ('c', 'k', $1, $1, 1)";
    beside.query(keep).bind(&[0; 32][..]).execute().await.unwrap();
    beside.query("UPDATE jobs SET run_at_us = 1 WHERE kind = 'expiry'").execute().await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let left = "SELECT count(*) FROM idempotency WHERE key = 'k'";
        let left: i64 = beside.query(left).fetch_value().await.unwrap();
        if left == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "an answer of 1970 is kept");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for (kind, id) in ids {
        let job = regular(&server.client, kind).await;
        assert_eq!(
            (&job["id"], &job["attempts"], &job["last_error"]),
            (&id, &json!(0), &Value::Null),
            "{job}"
        );
    }
}

#[tokio::test]
async fn a_running_job_is_cancelled_at_once() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("smtp://{}", silent.local_addr().unwrap());
    let server = server(|config| {
        config.mail.transport = MailTransport::Smtp;
        config.mail.url = Some(url);
        config.mail.from = Some("dns@example.net".to_owned());
    })
    .await;
    let id = test_mail(&server.client).await;
    let (mut connection, _) = silent.accept().await.unwrap();
    assert_eq!(job(&server.client, &id).await["state"], "running");
    let path = format!("/api/v1/jobs/{id}/cancel");
    server.client.send("POST", &path, &[], vec![]).await.expect(200);
    // Its worker lets go of the connection.
    let ended = tokio::time::timeout(Duration::from_secs(5), connection.read(&mut [0; 1])).await;
    assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
    assert_eq!(job(&server.client, &id).await["state"], "cancelled");
}

/// Speaks SMTP as far as DATA; then whether the message is taken.
async fn converse(stream: TcpStream, takes: bool) -> bool {
    let mut stream = BufReader::new(stream);
    let mut answer = "220 sink\r\n";
    loop {
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return false;
        }
        let mut line = String::new();
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
            return false;
        }
        answer = match line.as_str() {
            "DATA\r\n" if !takes => return true,
            "DATA\r\n" => "354 go on\r\n",
            ".\r\n" => {
                stream.write_all(b"250 taken\r\n").await.unwrap();
                return true;
            }
            line if line.contains("example") || line.starts_with("EHLO") => "250 good\r\n",
            _ => "",
        };
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_goes_on_after_kill_minus_9() {
    let sink = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("smtp://{}", sink.local_addr().unwrap());
    // Of a file nobody else can have it: what a lease was for is not waited for.
    let lease = if crate::DATABASE == Kind::Sqlite { "600" } else { "2" };
    let settings = [
        ("GODWIT_MAIL__TRANSPORT", "smtp"),
        ("GODWIT_MAIL__URL", url.as_str()),
        ("GODWIT_MAIL__FROM", "dns@example.net"),
        ("GODWIT_JOBS__LEASE_SECONDS", lease),
    ];
    let folder = folder();
    let mut program = start_with(folder.path(), &settings);
    let id = test_mail(&program.client()).await;
    let (stream, _) = sink.accept().await.unwrap();
    assert!(converse(stream, false).await, "the message is about to be sent");
    program.kill();
    let program = start_with(folder.path(), &settings);
    let accepted = tokio::time::timeout(Duration::from_secs(30), sink.accept()).await;
    let (stream, _) = accepted.expect("nobody goes on with it").unwrap();
    assert!(converse(stream, true).await);
    let job = until(&program.client(), &id, "done").await;
    assert_eq!(job["attempts"], 2);
}
