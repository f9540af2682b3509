//! How requests end before they are answered, how the program starts and how it stops.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use godwit_controlplane::store::{Connection, Kind};
use godwit_wire::rr::Rtype;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use crate::harness::{Server, folder, hold};
use crate::program::{self, command};
use crate::replica::Replica;

/// How many statements the server keeps waiting for a lock: what reads zones, and what the writer writes.
const WAITING: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                       AND application_name = 'godwit' AND state = 'active' AND wait_event_type = 'Lock' \
                       AND (query LIKE 'SELECT % FROM zones WHERE name_key %' OR query LIKE 'WITH s1 AS (UPDATE zones %')";
/// As long as a statement waits for a lock when nobody ends it.
pub(crate) const LOCK_LIMIT: Duration = Duration::from_secs(5);

pub(crate) async fn until_waiting(connection: &mut Connection, expected: i64) {
    let deadline = Instant::now() + Duration::from_secs(4);
    loop {
        let waiting: i64 = connection.query(WAITING).fetch_value().await.unwrap();
        if waiting == expected {
            return;
        }
        if Instant::now() >= deadline {
            let all = "SELECT coalesce(string_agg(wait_event_type || ': ' || query, '; '), '') FROM pg_stat_activity \
                       WHERE datname = current_database() AND application_name = 'godwit' AND state <> 'idle'";
            let all: String = connection.query(all).fetch_value().await.unwrap();
            panic!("{waiting} statements wait, not {expected}: {all}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The data plane has what there is, and reads no zones.
async fn settle(server: &Server) {
    let body = json!({"name": "settled.example.com.", "type": "TXT", "value": ["x"]});
    server.client.json("POST", "/api/v1/records?wait=applied&timeout=20s", &body).await.expect(201);
}

/// Nobody can read zones until it ends.
pub(crate) async fn hold_readers(connection: &mut Connection) {
    connection.control(&["BEGIN", "LOCK TABLE zones IN ACCESS EXCLUSIVE MODE"]).await.unwrap();
}

/// Sends a request, and does not wait for the answer.
async fn ask(server: &Server, method: &str, path: &str, body: &str) -> tokio::net::TcpStream {
    let mut stream = tokio::net::TcpStream::connect(server.client.address).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: api.test\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        server.client.token,
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// It is said in time, and the server does not work on for nobody.
#[tokio::test]
async fn a_request_whose_time_is_over_ends_its_statement() {
    if crate::DATABASE == Kind::Sqlite {
        // Nothing keeps who reads waiting there.
        return;
    }
    let adjust = |config: &mut godwit_controlplane::Config| {
        config.api.request_timeout_ms = 2_000;
        config.api.body_timeout_ms = 1_000;
    };
    let server = Server::start_in(folder(), Replica::default(), None, adjust).await;
    let (mut holder, mut watcher) = (server.beside().await, server.beside().await);
    settle(&server).await;
    hold_readers(&mut holder).await;
    let began = Instant::now();
    let asking = server.client.clone();
    let asked = tokio::spawn(async move { asking.get("/api/v1/domains").await });
    until_waiting(&mut watcher, 1).await;
    let answer = asked.await.unwrap().expect(504);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(answer.text.contains("the database took too long"), "{}", answer.text);
    until_waiting(&mut watcher, 0).await;
    assert!(began.elapsed() < LOCK_LIMIT - Duration::from_millis(500), "{:?}", began.elapsed());
    holder.control(&["ROLLBACK"]).await.unwrap();
    server.client.get("/api/v1/domains").await.expect(200);
}

#[tokio::test]
async fn a_caller_who_goes_away_ends_the_statement() {
    if crate::DATABASE == Kind::Sqlite {
        return;
    }
    let server = Server::start().await;
    let (mut holder, mut watcher) = (server.beside().await, server.beside().await);
    settle(&server).await;
    hold_readers(&mut holder).await;
    // More than there are connections: those who are gone keep none from others.
    let mut callers = Vec::new();
    for _ in 0..6 {
        callers.push(ask(&server, "GET", "/api/v1/domains", "").await);
    }
    until_waiting(&mut watcher, 4).await;
    let began = Instant::now();
    drop(callers);
    until_waiting(&mut watcher, 0).await;
    assert!(began.elapsed() < LOCK_LIMIT - Duration::from_secs(1), "{:?}", began.elapsed());
    holder.control(&["ROLLBACK"]).await.unwrap();
    server.client.get("/api/v1/domains").await.expect(200);
}

/// What the writer has begun to write goes on; what still waits for its turn is withdrawn whole.
#[tokio::test]
async fn a_write_whose_caller_goes_away_is_made_whole_or_not_at_all() {
    let server = Server::start().await;
    let (mut holder, mut watcher) = (server.beside().await, server.beside().await);
    for round in 0..3 {
        match crate::DATABASE {
            Kind::Postgres => {
                holder.control(&["BEGIN", "LOCK TABLE changes IN EXCLUSIVE MODE"]).await.unwrap();
            }
            Kind::Sqlite => hold(&mut holder).await,
        }
        let put = |name: &str| json!({"op": "put", "name": format!("{name}{round}.example.com."), "type": "TXT", "value": ["x"]});
        let body = json!({"changes": [put("one"), put("other")]}).to_string();
        let caller = ask(&server, "POST", "/api/v1/changes", &body).await;
        match crate::DATABASE {
            Kind::Postgres => until_waiting(&mut watcher, 1).await,
            Kind::Sqlite => tokio::time::sleep(Duration::from_millis(300)).await,
        }
        drop(caller);
        tokio::time::sleep(Duration::from_millis(200)).await;
        holder.control(&["ROLLBACK"]).await.unwrap();
        // Behind it.
        let last = json!({"type": "TXT", "value": [format!("{round}")]});
        let last_path = "/api/v1/records/www.example.com.";
        server.client.json("PUT", &format!("{last_path}?type=TXT&wait=applied"), &last).await;
        let mut made = 0;
        for name in ["one", "other"] {
            let path = format!("/api/v1/records/{name}{round}.example.com.?type=TXT");
            made += usize::from(server.client.get(&path).await.status == 200);
        }
        let expected = if crate::DATABASE == Kind::Postgres { 2 } else { 0 };
        assert_eq!(made, expected, "of two steps of one change");
    }
}

fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap().success());
}

/// A request on its way that never ends, for a program that has heard of it.
fn never_ending(address: std::net::SocketAddr, token: &str) -> TcpStream {
    let mut open = TcpStream::connect(address).unwrap();
    let request = format!(
        "POST /api/v1/domains HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: 99\r\n\r\n{{"
    );
    open.write_all(request.as_bytes()).unwrap();
    open
}

/// A request that can end does, and is answered; one that cannot is cut, which is said, and is no failure.
#[tokio::test]
async fn a_stop_answers_what_is_on_its_way_and_cuts_what_does_not_end() {
    let folder = folder();
    let settings = [("GODWIT_API__DRAIN_TIMEOUT_MS", "1500"), ("GODWIT_LOG__FILTER", "warn")];
    let mut program = program::start_with(folder.path(), &settings);
    let token = program.client().token;
    let never = never_ending(program.address, &token);
    let mut ends = TcpStream::connect(program.address).unwrap();
    let body = r#"{"name": "a.example."}"#;
    let head = format!(
        "POST /api/v1/domains HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    ends.write_all(head.as_bytes()).unwrap();
    program.client().get("/api/v1/domains").await.expect(200);
    signal(program.child.id(), "TERM");
    program.until_refusing().await;
    ends.write_all(body.as_bytes()).unwrap();
    let mut answer = [0; 12];
    ends.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 201");
    let began = Instant::now();
    let status = program.child.wait().unwrap();
    assert!(status.success() && began.elapsed() < Duration::from_secs(20), "{status} {:?}", began.elapsed());
    let said = program.said("requests were still open").await;
    assert!(!said.contains("took too long and was cut"), "{said}");
    drop(never);
}

#[tokio::test]
async fn a_second_signal_ends_the_program_at_once_and_says_so() {
    let folder = folder();
    let settings = [("GODWIT_API__DRAIN_TIMEOUT_MS", "60000"), ("GODWIT_LOG__FILTER", "warn")];
    let mut program = program::start_with(folder.path(), &settings);
    let never = never_ending(program.address, &program.client().token);
    program.client().get("/api/v1/domains").await.expect(200);
    signal(program.child.id(), "TERM");
    program.until_refusing().await;
    let began = Instant::now();
    signal(program.child.id(), "INT");
    assert_eq!(program.child.wait().unwrap().code(), Some(130));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    program.said("a second signal").await;
    drop(never);
}

/// What was committed last reaches the data plane of the process before the stop is over: its next start may have nothing but
/// the snapshot that it leaves.
#[tokio::test]
async fn p1_a_stop_waits_until_the_data_plane_of_the_process_has_all() {
    let server = Server::start().await;
    settle(&server).await;
    let replica = server.replica.clone();
    let paused = replica.pause().await;
    let last = json!({"name": "last.example.com.", "type": "TXT", "value": ["x"]});
    server.client.json("POST", "/api/v1/records", &last).await.expect(201);
    let stopping = tokio::spawn(server.stop());
    // Long enough for all else of a stop, and shorter than the data plane is waited for.
    tokio::time::sleep(Duration::from_secs(3)).await;
    drop(paused);
    stopping.await.unwrap();
    assert!(replica.rrset("last.example.com.", Rtype::TXT).is_some(), "it was committed, and is not there");
    replica.assert_content();
}

/// A server that takes connections and says nothing: that is said, with where it is, when the time to wait for it is over; and a
/// signal ends the wait.
#[test]
fn a_start_waits_so_long_for_its_database_and_says_which() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let start = |wait_s: &str| {
        command()
            .args(["--api", "127.0.0.1:0", "--internal", "off", "--metrics", "off", "--data"])
            .arg(folder.path())
            .env("GODWIT_STORE__URL", format!("postgres://godwit:secret@127.0.0.1:{port}/godwit"))
            .env("GODWIT_STORE__WAIT_SECONDS", wait_s)
            .env("GODWIT_BUFFER__ENABLED", "false")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let began = Instant::now();
    let ended = start("1").wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    let last = said.lines().last().unwrap();
    assert!(last.contains(&format!("database godwit at 127.0.0.1, port {port}, tried for 1 s")), "{said}");
    assert!(!said.contains("secret"), "{said}");
    let mut waiting = start("600");
    std::thread::sleep(Duration::from_secs(1));
    signal(waiting.id(), "TERM");
    let began = Instant::now();
    assert!(waiting.wait().unwrap().success());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

/// In whichever order machines come up.
#[tokio::test]
async fn a_database_that_comes_up_later_is_waited_for() {
    if crate::DATABASE == Kind::Sqlite {
        return;
    }
    let postgres = godwit_testkit::servers::Postgres::start(&[]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(crate::harness::URL_FILE), postgres.create_database().unwrap())
        .unwrap();
    postgres.kill().unwrap();
    let data = folder.path().to_path_buf();
    let starting = std::thread::spawn(move || program::start_with(&data, &[]));
    tokio::time::sleep(Duration::from_secs(2)).await;
    postgres.again().unwrap();
    let program = starting.join().unwrap();
    program.client().get("/api/v1/domains").await.expect(200);
}
