//! Secrets at rest, from outside: what a dump, Redis and logs show, and keys that are changed while everybody goes on. What is
//! sealed is opened here by the description of its form alone.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use godwit_controlplane::store::Kind;
use godwit_redis::{Place, Timeouts};
use godwit_testkit::servers::Redis;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use serde_json::{Value, json};
use totp_rs::Secret;

use crate::accounts::code;
use crate::concurrency::seed;
use crate::harness::{Client, Server, URL_FILE, beside, folder};
use crate::office::{Office, PASSWORD, letters};
use crate::program;

const TIMEOUTS: Timeouts = Timeouts { connect: Duration::from_secs(10), response: Duration::from_secs(10) };

/// Opens as the description of the form says.
fn open(key: &[u8], begin: &[u8], place: &str, sealed: &[u8]) -> Option<Vec<u8>> {
    let sealed = sealed.strip_prefix(begin)?;
    let (nonce, ciphertext) = sealed.split_at_checked(12)?;
    let bound_to =
        if begin.len() > 1 { [begin, place.as_bytes()].concat() } else { place.as_bytes().to_vec() };
    let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).unwrap());
    let nonce = Nonce::try_assume_unique_for_key(nonce).unwrap();
    let mut octets = ciphertext.to_vec();
    key.open_in_place(nonce, Aad::from(bound_to), &mut octets).ok().map(|octets| octets.to_vec())
}

fn seal_with_master(key: &[u8], place: &str, secret: &[u8]) -> Vec<u8> {
    let nonce: [u8; 12] = rand::random();
    let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).unwrap());
    let mut octets = secret.to_vec();
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place), &mut octets).unwrap();
    [&[1][..], &nonce, &octets].concat()
}

/// The master key, the data keys and all secrets of a folder's database, opened.
async fn opened(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let master = std::fs::read(folder.join("secrets.key")).unwrap();
    let mut connection = beside(folder).await;
    let mut found = vec![("master key".to_owned(), master.clone())];
    let mut keys = std::collections::BTreeMap::new();
    let wrapped = connection.query("SELECT data_key_id, master_id, sealed FROM wrapped_keys");
    for row in wrapped.fetch_all().await.unwrap() {
        let (key, id): (i64, String) = (row.get(0).unwrap(), row.get(1).unwrap());
        let sealed: Vec<u8> = row.get(2).unwrap();
        let place = format!("wrapped_keys.sealed {key} {id}");
        let octets = open(&master, &[1], &place, &sealed).expect("the master key opens a data key");
        found.push((format!("data key {key}"), octets.clone()));
        keys.insert(key, octets);
    }
    let by_data_key = |place: &str, sealed: &[u8]| {
        let key = i64::from_be_bytes(sealed[1..9].try_into().unwrap());
        open(&keys[&key], &sealed[..9], place, sealed).unwrap_or_else(|| panic!("{place} does not open"))
    };
    let secrets = connection.query("SELECT name, sealed FROM secrets");
    for row in secrets.fetch_all().await.unwrap() {
        let (name, sealed): (String, Vec<u8>) = (row.get(0).unwrap(), row.get(1).unwrap());
        let place = format!("secrets.sealed {name}");
        found.push((name, by_data_key(&place, &sealed)));
    }
    let people = connection.query("SELECT id, totp FROM accounts WHERE totp IS NOT NULL");
    for row in people.fetch_all().await.unwrap() {
        let (id, sealed): (uuid::Uuid, Vec<u8>) = (row.get(0).unwrap(), row.get(1).unwrap());
        let place = format!("accounts.totp {id}");
        found.push((place.clone(), by_data_key(&place, &sealed)));
    }
    found
}

/// All that a copy of the database would show.
fn dump(folder: &Path) -> Vec<u8> {
    match crate::DATABASE {
        Kind::Sqlite => ["godwit.sqlite", "godwit.sqlite-wal"]
            .iter()
            .flat_map(|file| std::fs::read(folder.join(file)).unwrap_or_default())
            .collect(),
        Kind::Postgres => {
            let url = std::fs::read_to_string(folder.join(URL_FILE)).unwrap();
            let dump = Command::new("pg_dump").arg(&url).output().unwrap();
            assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
            dump.stdout
        }
    }
}

/// A running program that logs all that it can, into a file.
struct Logging {
    child: Child,
    address: SocketAddr,
    token: String,
}

impl Drop for Logging {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Logging {
    fn start(data: &Path, log: &Path, settings: &[(&str, &str)]) -> Logging {
        let mut command = Command::new(env!("CARGO_BIN_EXE_godwit-controlplane"));
        let url = data.join(URL_FILE);
        if url.exists() {
            command.env("GODWIT_STORE__URL_FILE", url);
        }
        let log = std::fs::File::create(log).unwrap();
        let child = command
            .args(["--api", "127.0.0.1:0", "--internal", "127.0.0.1:0", "--metrics", "off", "--data"])
            .arg(data)
            .env("GODWIT_LOG__FILTER", "trace")
            .envs(settings.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut started = Logging { child, address: SocketAddr::from(([0; 4], 0)), token: String::new() };
        let (found, address) = std::sync::mpsc::channel();
        let mut stderr = BufReader::new(started.child.stderr.take().unwrap());
        std::thread::spawn(move || {
            let (mut log, mut line) = (log, Vec::new());
            while stderr.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                std::io::Write::write_all(&mut log, &line).unwrap();
                if let Some(address) = String::from_utf8_lossy(&line).trim().strip_prefix("api: http://") {
                    let _ = found.send(address.parse().unwrap());
                }
                line.clear();
            }
        });
        let mut line = String::new();
        let mut stdout = BufReader::new(started.child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        started.token = line.trim().strip_prefix("admin token: ").expect(&line).to_owned();
        started.address =
            address.recv_timeout(Duration::from_secs(60)).expect("the program says where it listens");
        // It is to say nothing else there.
        std::thread::spawn(move || {
            let mut rest = String::new();
            let _ = stdout.read_to_string(&mut rest);
            assert_eq!(rest, "");
        });
        started
    }

    fn client(&self) -> Client {
        Client { address: self.address, token: self.token.clone() }
    }
}

/// Whoever has a copy of the database, all that is in Redis, and the most talkative log there is, has none of what was planted:
/// passwords, codes, tokens, keys, and the passwords of other servers.
#[tokio::test]
async fn no_dump_and_no_log_holds_a_secret() {
    let redis =
        Redis::start(&["--user", "planted", "on", ">planted-redis-password", "~*", "&*", "+@all"]).unwrap();
    let redis_url = format!("{}&user=planted&pass=planted-redis-password", redis.url(0));
    let data = folder();
    let (mail, log) = (data.path().join("mail"), data.path().join("log"));
    let mut running = Logging::start(
        data.path(),
        &log,
        &[
            ("GODWIT_REDIS__URL", &redis_url),
            ("GODWIT_MAIL__TRANSPORT", "file"),
            ("GODWIT_MAIL__FOLDER", mail.to_str().unwrap()),
            ("GODWIT_MAIL__FROM", "godwit@dns.test"),
            ("GODWIT_MAIL__URL", "smtps://user:planted-mail-password@127.0.0.1:1"),
        ],
    );
    let client = running.client();
    let letter = async |page: &str| {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        loop {
            let found = letters(&mail).into_iter().find_map(|file| {
                let text = std::fs::read_to_string(&file).unwrap().replace("=\r\n", "").replace("=3D", "=");
                let (_, rest) = text.split_once(page)?.1.split_once("token=")?;
                std::fs::remove_file(file).unwrap();
                Some(rest[..rest.find(char::is_whitespace).unwrap_or(rest.len())].to_owned())
            });
            match found {
                Some(link) => return link,
                None => assert!(tokio::time::Instant::now() < deadline, "no letter came"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let post = async |client: &Client, path: &str, body: Value, status: u16| -> Value {
        let answer = client.json("POST", path, &body).await.expect(status);
        if answer.text.is_empty() { Value::Null } else { answer.json() }
    };
    let (email, wrong) = ("anna@example.org", "planted-wrong-password");
    let register = json!({ "email": email, "password": PASSWORD, "name": "Anna" });
    post(&client, "/api/v1/auth/register", register, 202).await;
    let first = letter("/account/verify").await;
    post(&client, "/api/v1/auth/verify", json!({ "token": first, "password": PASSWORD }), 201).await;
    post(&client, "/api/v1/auth/login", json!({ "email": email, "password": wrong }), 401).await;
    let login = json!({ "email": email, "password": PASSWORD });
    let tokens = post(&client, "/api/v1/auth/login", login.clone(), 200).await;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let anna = Client { token: text(&tokens["access_token"]), ..client.clone() };
    let with_cookie = json!({ "email": email, "password": PASSWORD, "cookie": true });
    let cookie = client.json("POST", "/api/v1/auth/login", &with_cookie).await.expect(204);
    let cookie = cookie.header("set-cookie").split(['=', ';']).nth(1).unwrap().to_owned();
    assert!(cookie.len() > 20, "{cookie}");
    let offered = post(&anna, "/api/v1/users/me/totp", json!({ "password": PASSWORD }), 200).await;
    let secret = text(&offered["secret"]);
    let confirm = json!({ "code": code(&secret, 0) });
    let given = post(&anna, "/api/v1/users/me/totp/confirm", confirm, 200).await;
    post(&client, "/api/v1/auth/password/forgot", json!({ "email": email }), 202).await;
    let second = letter("/account/password").await;
    let refreshed =
        post(&client, "/api/v1/auth/refresh", json!({ "refresh_token": tokens["refresh_token"] }), 200).await;
    let made =
        post(&client, "/api/v1/tokens", json!({ "name": "router", "scope": "records:read" }), 201).await;
    let node = post(&client, "/api/v1/nodes", json!({ "name": "ns1" }), 201).await;
    let join = text(&node["join"]);
    post(&client, "/api/v1/domains", json!({ "name": "example.net." }), 201).await;
    post(&client, "/api/v1/keys/rotate", Value::Null, 400).await;
    let begun = client.send("POST", "/api/v1/keys/rotate", &[], Vec::new()).await.expect(202).json();
    until_done(&client, &begun).await;
    // A wrong address in Redis' URL and such are errors with causes: those are logged, too.
    client.get("/api/v1/keys").await.expect(200);

    let mut planted: Vec<(String, Vec<u8>)> = opened(data.path()).await;
    let names: Vec<&str> = planted.iter().map(|(name, _)| name.as_str()).collect();
    for name in
        ["master key", "data key 2", "feed_key", "feed_key_next", "internal_key", "issuer_key", "refresh_key"]
    {
        assert!(names.contains(&name), "{names:?}");
    }
    assert!(names.iter().any(|name| name.starts_with("accounts.totp")) && !names.contains(&"data key 1"));
    let texts = [
        ("a password", PASSWORD.to_owned()),
        ("a wrong password", wrong.to_owned()),
        ("the admin token", client.token.clone()),
        ("a token", text(&made["token"])),
        ("an access token", anna.token.clone()),
        ("another access token", text(&refreshed["access_token"])),
        ("a refresh token", text(&tokens["refresh_token"])),
        ("another refresh token", text(&refreshed["refresh_token"])),
        ("a cookie", cookie),
        ("the secret of codes", secret.clone()),
        ("a recovery code", text(&given["recovery_codes"][0])),
        ("a link", first[3..].to_owned()),
        ("a link that was not used", second[3..].to_owned()),
        ("what a node was told", join.trim_start_matches("godwit-join:").to_owned()),
        ("the password of Redis", "planted-redis-password".to_owned()),
        ("the password of the mail server", "planted-mail-password".to_owned()),
    ];
    planted.extend(texts.map(|(name, text)| (name.to_owned(), text.into_bytes())));
    planted.push((
        "the secret of codes".to_owned(),
        Secret::try_from_base32(&secret).unwrap().as_ref().to_vec(),
    ));

    let in_redis = all_of(&redis_url).await;
    // Ended as by an operator: all that it holds is on disk then.
    let ended = Command::new("kill").arg(running.child.id().to_string()).status().unwrap();
    assert!(ended.success());
    let ended = tokio::task::spawn_blocking(move || running.child.wait().unwrap());
    assert!(tokio::time::timeout(Duration::from_secs(60), ended).await.unwrap().unwrap().success());

    let logged = std::fs::read(&log).unwrap();
    let places = [
        ("the database", dump(data.path()), &b"anna@example.org"[..]),
        ("Redis", in_redis, b"example"),
        ("the log", logged, b"request"),
    ];
    for (place, content, known) in &places {
        let holds = |text: &[u8]| content.windows(text.len()).any(|window| window == text);
        assert!(holds(known), "this is not {place}");
        for (name, secret) in &planted {
            let hex: String = secret.iter().map(|octet| format!("{octet:02x}")).collect();
            let base64 = {
                use base64::Engine as _;
                base64::engine::general_purpose::STANDARD_NO_PAD.encode(secret)
            };
            for form in [secret.as_slice(), hex.as_bytes(), base64.as_bytes()] {
                assert!(!holds(form), "{place} holds {name}: {}", String::from_utf8_lossy(form));
            }
        }
    }
}

/// All that is in both databases of a Redis, as it is there.
async fn all_of(url: &str) -> Vec<u8> {
    let mut all = Vec::new();
    for database in [0, 1] {
        let place = Place::parse(url).unwrap().with_database(database);
        let mut connection = place.connect(TIMEOUTS).await.unwrap();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        let keys: Vec<Vec<u8>> = loop {
            let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
            if !keys.is_empty() {
                break keys;
            }
            assert!(tokio::time::Instant::now() < deadline, "nothing came to database {database}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        for key in keys {
            all.extend_from_slice(&key);
            let kind: String = redis::cmd("TYPE").arg(&key).query_async(&mut connection).await.unwrap();
            let mut read = match kind.as_str() {
                "string" => redis::cmd("GET"),
                "hash" => redis::cmd("HGETALL"),
                "stream" => redis::cmd("XRANGE"),
                kind => panic!("a key of type {kind} is not looked at"),
            };
            read.arg(&key);
            if kind == "stream" {
                read.arg("-").arg("+");
            }
            let value: redis::Value = read.query_async(&mut connection).await.unwrap();
            octets_of(&value, &mut all);
        }
    }
    all
}

fn octets_of(value: &redis::Value, all: &mut Vec<u8>) {
    match value {
        redis::Value::BulkString(octets) => all.extend_from_slice(octets),
        redis::Value::Array(values) => values.iter().for_each(|value| octets_of(value, all)),
        redis::Value::Map(pairs) => pairs.iter().for_each(|(key, value)| {
            octets_of(key, all);
            octets_of(value, all);
        }),
        redis::Value::SimpleString(text) => all.extend_from_slice(text.as_bytes()),
        redis::Value::Nil | redis::Value::Int(_) => {}
        other => panic!("a value of another kind is not looked at: {other:?}"),
    }
}

/// Waits until the job of a rotation is done.
async fn until_done(client: &Client, begun: &Value) {
    let path = format!("/api/v1/jobs/{}", begun["job"].as_str().unwrap());
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let job = client.get(&path).await.expect(200).json();
        if job["state"] == "done" {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline && job["state"] != "failed", "{job}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What is asked from an address of this machine of its own: each is another client to the limits of logging in.
async fn login_from(number: usize, client: &Client, body: &Value) -> (u16, String) {
    let [high, low] = u16::try_from(number).unwrap().to_be_bytes();
    let from = SocketAddr::from((Ipv4Addr::new(127, 7, high, low), 0));
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(from).unwrap();
    let stream = socket.connect(client.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = hyper::Request::post("/api/v1/auth/login").header("host", "api.test");
    let request = request.header("content-type", "application/json");
    let body = http_body_util::Full::new(bytes::Bytes::from(serde_json::to_vec(body).unwrap()));
    let response = sender.send_request(request.body(body).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let octets = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&octets).into_owned())
}

/// People log in with codes, look at what is theirs and ask for secrets of their own while keys are changed again and again, the
/// master key too: nobody is refused. Where the database is a server's, a second control plane has to hear of it by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_changed_while_everybody_goes_on() {
    let reached_at = |config: &mut godwit_controlplane::Config| {
        config.api.public_url = Some("https://dns.test".to_owned());
    };
    let office = Office::open_with(reached_at).await;
    let folder = office.server.folder.clone();
    let other = match crate::DATABASE {
        Kind::Sqlite => None,
        Kind::Postgres => {
            let (token, mail) = (Some(office.client().token.clone()), office.mail.clone());
            let replica = crate::replica::Replica::default();
            // Either of them sends what mail there is.
            let start = Server::start_in(folder.clone(), replica, token, move |config| {
                reached_at(config);
                config.mail.transport = godwit_controlplane::config::MailTransport::File;
                config.mail.folder = Some(mail);
                config.mail.from = Some("godwit@dns.test".to_owned());
            });
            Some(start.await)
        }
    };
    let there = other.as_ref().map_or_else(|| office.client().clone(), |other| other.client.clone());
    let mut people = Vec::new();
    for n in 0..4 {
        let email = format!("user{n}@example.org");
        let person = office.somebody(&email).await;
        let ask = json!({ "password": PASSWORD });
        let offered = person.client.json("POST", "/api/v1/users/me/totp", &ask).await.expect(200).json();
        let confirm = json!({ "code": code(offered["secret"].as_str().unwrap(), 0) });
        let given = person.client.json("POST", "/api/v1/users/me/totp/confirm", &confirm).await;
        let codes = given.expect(200).json()["recovery_codes"].as_array().unwrap().clone();
        people.push((email, codes, person));
    }
    let undecided = office.somebody("undecided@example.org").await;
    let (logins, reads, seals) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let ended = AtomicBool::new(false);
    let clients = [office.client().clone(), there];
    let logging_in = async {
        // A recovery code is compared once the secret of the app was opened, and is good once.
        for round in 0..9 {
            for (at, (email, codes, _)) in people.iter().enumerate() {
                let body = json!({ "email": email, "password": PASSWORD, "code": codes[round] });
                let number = round * people.len() + at;
                let (status, said) = login_from(number, &clients[number % 2], &body).await;
                assert_eq!(status, 200, "login {number}: {said}");
                logins.fetch_add(1, Ordering::Relaxed);
            }
        }
        ended.store(true, Ordering::Relaxed);
    };
    let reading = async {
        while !ended.load(Ordering::Relaxed) {
            for (at, (_, _, person)) in people.iter().enumerate() {
                let here = Client { address: clients[at % 2].address, ..person.client.clone() };
                here.get("/api/v1/users/me").await.expect(200);
                clients[at % 2].get("/api/v1/domains").await.expect(200);
                reads.fetch_add(2, Ordering::Relaxed);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let sealing = async {
        // With what came before, no more than one client may try at once.
        for turn in 0..5 {
            if ended.load(Ordering::Relaxed) {
                break;
            }
            let here = Client { address: clients[turn % 2].address, ..undecided.client.clone() };
            let ask = json!({ "password": PASSWORD });
            here.json("POST", "/api/v1/users/me/totp", &ask).await.expect(200);
            seals.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let changing = async {
        let (mut rotations, mut masters) = (0, std::collections::BTreeSet::new());
        let place = folder.path().join("secrets.key");
        let post = async |path: &str| clients[1].send("POST", path, &[], Vec::new()).await;
        while !ended.load(Ordering::Relaxed) {
            let begun = post("/api/v1/keys/rotate").await.expect(202).json();
            let again = post("/api/v1/keys/rotate").await;
            assert!(again.status == 409 || again.status == 202, "{}", again.text);
            until_done(office.client(), &begun).await;
            if again.status == 202 {
                until_done(office.client(), &again.json()).await;
            }
            let keys = clients[0].get("/api/v1/keys").await.expect(200).json();
            assert_eq!(keys["items"].as_array().unwrap().len(), 1, "{keys}");
            let next = godwit_controlplane::make_master_key(&folder.path().join("secrets.key.next")).unwrap();
            post("/api/v1/keys/rewrap").await.expect(200);
            let refused = post("/api/v1/keys/rewrap/finish").await.expect(409);
            assert!(refused.text.contains(&next), "{}", refused.text);
            std::fs::rename(folder.path().join("secrets.key.next"), &place).unwrap();
            // Other control planes have to have said that they have it.
            let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
            let keys = loop {
                let finished = post("/api/v1/keys/rewrap/finish").await;
                if finished.status == 200 {
                    break finished.json();
                }
                assert!(
                    finished.status == 409 && tokio::time::Instant::now() < deadline,
                    "{}",
                    finished.text
                );
                tokio::time::sleep(Duration::from_millis(100)).await;
            };
            assert_eq!(
                (&keys["master"], &keys["items"][0]["masters"]),
                (&json!(next), &json!([next])),
                "{keys}"
            );
            masters.insert(next);
            rotations += 1;
        }
        assert!(rotations >= 2 && masters.len() == rotations, "{rotations} rotations show little");
    };
    tokio::join!(logging_in, reading, sealing, changing);
    assert_eq!(logins.into_inner(), 36);
    assert!(reads.into_inner() > 40 && seals.into_inner() > 2);
    // All of it opens with what is there now, here and after a start.
    let found = opened(folder.path()).await;
    assert_eq!(found.iter().filter(|(name, _)| name.starts_with("accounts.totp")).count(), 5);
    if let Some(other) = other {
        other.stop().await;
    }
    let (folder, replica, token) = office.server.stop().await;
    let server = Server::start_in(folder, replica, Some(token), |_| {}).await;
    server.client.get("/api/v1/keys").await.expect(200);
    server.stop().await;
}

/// A rotation that is ended again and again by a `kill -9` comes to its end, and nothing is lost: what is sealed with the old key
/// opens with it until it is sealed anew.
#[tokio::test]
async fn a_rotation_that_is_killed_goes_on() {
    const PEOPLE: usize = 4_000;
    let kills = if std::env::var_os("GODWIT_LONG").is_some() { 30 } else { 3 };
    let seed = seed();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let folder = folder();
    let settings = [("GODWIT_JOBS__LEASE_SECONDS", "5")];
    let mut program = program::start_with(folder.path(), &settings);
    program.kill();
    // As an older version sealed it: with the master key itself.
    let master = std::fs::read(folder.path().join("secrets.key")).unwrap();
    let mut connection = beside(folder.path()).await;
    let mut secrets = std::collections::BTreeMap::new();
    connection.control(&["BEGIN"]).await.unwrap();
    for n in 0..PEOPLE {
        let (id, secret): (uuid::Uuid, [u8; 20]) = (uuid::Uuid::now_v7(), random.random());
        let sealed = seal_with_master(&master, &format!("accounts.totp {id}"), &secret);
        let insert = connection.query("INSERT INTO accounts (id, email, email_key, name, is_operator, totp, totp_step, created_at_us) VALUES ($1, $2, $2, '', false, $3, 0, 1)");
        insert.bind(id).bind(format!("{n}@example.org")).bind(sealed).execute().await.unwrap();
        secrets.insert(format!("accounts.totp {id}"), secret.to_vec());
    }
    connection.control(&["COMMIT"]).await.unwrap();
    drop(connection);

    let mut program = program::start_with(folder.path(), &settings);
    let begun =
        program.client().send("POST", "/api/v1/keys/rotate", &[], Vec::new()).await.expect(202).json();
    let mut left = vec![PEOPLE as i64];
    for _ in 0..kills {
        // The one before had it until its lease is over. Then it goes on, and is killed there.
        let mut connection = beside(folder.path()).await;
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        let count =
            "SELECT count(*) FROM accounts WHERE totp IS NOT NULL AND id > $1 AND substr(totp, 1, 1) = $2";
        let now = loop {
            let count = connection.query(count).bind(uuid::Uuid::nil()).bind(&[1u8][..]);
            let now = count.fetch_value::<i64>().await.unwrap();
            if now < *left.last().unwrap() {
                break now;
            }
            assert!(tokio::time::Instant::now() < deadline, "it does not go on: {left:?}, seed {seed}");
            tokio::time::sleep(Duration::from_millis(random.random_range(1..20))).await;
        };
        program.kill();
        left.push(now);
        drop(connection);
        program = program::start_with(folder.path(), &settings);
    }
    until_done(&program.client(), &begun).await;
    let keys = program.client().get("/api/v1/keys").await.expect(200).json();
    assert_eq!(
        (keys["items"].as_array().unwrap().len(), &keys["items"][0]["id"]),
        (1, &json!(2)),
        "seed {seed}"
    );
    drop(program);
    let found: std::collections::BTreeMap<String, Vec<u8>> =
        opened(folder.path()).await.into_iter().collect();
    let people = found.into_iter().filter(|(name, _)| name.starts_with("accounts.totp"));
    assert!(people.eq(secrets), "seed {seed}");
    println!("of {PEOPLE}, left at each kill: {left:?}");
    assert!(left[1] > 0 && left.len() > kills, "no kill came in the middle: {left:?}");
}

/// The program as an operator starts it: with the key in its environment, which it shows to nobody, and with a wrong one.
#[test]
fn a_start_with_a_wrong_key_says_which_is_expected() {
    let folder = folder();
    let mut first = program::start_with(folder.path(), &[]);
    first.kill();
    let key = std::fs::read(folder.path().join("secrets.key")).unwrap();
    let hex = |key: &[u8]| key.iter().map(|octet| format!("{octet:02x}")).collect::<String>();
    std::fs::remove_file(folder.path().join("secrets.key")).unwrap();
    drop(program::start_with(folder.path(), &[("GODWIT_STORE__SECRETS_KEY", &hex(&key))]));
    let start = |key: &str, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_godwit-controlplane"));
        let url = folder.path().join(URL_FILE);
        if url.exists() {
            command.env("GODWIT_STORE__URL_FILE", url);
        }
        let free = "127.0.0.1:0";
        command.args(["--api", free, "--internal", free, "--metrics", "off", "--data"]).arg(folder.path());
        let ended = command.args(more).env("GODWIT_STORE__SECRETS_KEY", key).output().unwrap();
        let [out, err] = [ended.stdout, ended.stderr].map(|text| String::from_utf8(text).unwrap());
        (ended.status.code(), out, err)
    };
    let (code, shown, _) = start(&hex(&key), &["--check-config"]);
    assert!(code == Some(0) && shown.contains("(hidden)") && !shown.contains(&hex(&key)), "{shown}");
    let wrong = hex(&[0xab; 32]);
    let (code, out, error) = start(&wrong, &[]);
    // Behind what is logged, in one line.
    let error = error.lines().last().unwrap_or_default().to_owned();
    let expected = error.split("the master key ").nth(1).and_then(|rest| rest.split(':').next());
    assert!(code == Some(1) && out.is_empty() && error.starts_with("godwit-controlplane: "), "{error}");
    assert!(
        expected.is_some_and(|id| id.len() == 16) && error.contains("store.secrets_key has the key "),
        "{error}"
    );
    assert!(!error.contains(&wrong) && !error.contains(&hex(&key)), "{error}");
    let (code, _, error) = start("planted", &[]);
    assert!(code == Some(2) && error.contains("store.secrets_key") && !error.contains("planted"), "{error}");
}
