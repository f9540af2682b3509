//! How many requests somebody may send, counted by one control plane and in Redis.

use std::time::{Duration, Instant};

use godwit_controlplane::Config;
use godwit_controlplane::config::{Limits, Rate};
use godwit_testkit::servers::Redis;
use serde_json::{Value, json};

use crate::harness::{Answer, Client, Server, folder};
use crate::replica::Replica;

const SOON: Duration = Duration::from_secs(60);

/// So slow that nothing comes back while a test runs.
pub(crate) const fn at_once(burst: u32) -> Rate {
    Rate { per_minute: 1, burst }
}

async fn start(adjust: impl FnOnce(&mut Limits)) -> Server {
    Server::start_in(folder(), Replica::default(), None, |config| adjust(&mut config.limits)).await
}

/// A client whose token is narrowed: one that is counted.
pub(crate) async fn counted(server: &Server, scope: &str, narrowed: Value) -> Client {
    let body = json!({ "name": "x", "scope": scope, "narrowed": narrowed });
    let added = server.client.json("POST", "/api/v1/tokens", &body).await.expect(201).json();
    Client { token: added["token"].as_str().unwrap().to_owned(), ..server.client.clone() }
}

async fn writer(server: &Server) -> Client {
    counted(server, "records:write records:read", json!({})).await
}

async fn put(client: &Client, names: &[&str]) -> Answer {
    let put = |name: &&str| json!({ "op": "put", "name": name, "type": "TXT", "value": ["\"x\""] });
    let changes: Vec<_> = names.iter().map(put).collect();
    client.json("POST", "/api/v1/changes", &json!({ "changes": changes })).await
}

/// Limit, remaining, reset, policy.
fn standing(answer: &Answer) -> [&str; 4] {
    ["limit", "remaining", "reset", "policy"].map(|what| answer.header(&format!("ratelimit-{what}")))
}

#[tokio::test]
async fn a_token_is_told_how_it_stands_and_refused() {
    let server = start(|limits| limits.token_reads = Rate { per_minute: 6, burst: 3 }).await;
    let client = counted(&server, "domains:read", json!({})).await;
    for remaining in ["2", "1", "0"] {
        let answer = client.get("/api/v1/domains").await.expect(200);
        let [limit, left, reset, policy] = standing(&answer);
        assert_eq!((limit, left, policy), ("3", remaining, "3;w=30"));
        assert!((1..=30).contains(&reset.parse::<u64>().unwrap()), "{reset}");
    }
    let refused = client.get("/api/v1/domains").await.expect(429);
    assert_eq!((refused.code().as_str(), server.limited("rate_token")), ("RATE_LIMITED", 1));
    let after: u64 = refused.header("retry-after").parse().unwrap();
    assert!((2..=10).contains(&after), "{after}");
    let [limit, left, reset, policy] = standing(&refused);
    assert_eq!((limit, left, policy), ("3", "0", "3;w=30"));
    assert_eq!(reset, refused.header("retry-after"));
    assert!(refused.text.contains("with this token"), "{}", refused.text);
    // Another token has a bucket of its own, and so has what is written.
    let other = counted(&server, "domains:read", json!({})).await;
    assert_eq!(standing(&other.get("/api/v1/domains").await.expect(200))[1], "2");
    client.json("POST", "/api/v1/domains", &json!({ "name": "a.test" })).await.expect(403);
    // It is not refused for ever.
    tokio::time::sleep(Duration::from_secs(after)).await;
    client.get("/api/v1/domains").await.expect(200);
}

/// Nobody who may do everything is counted, for their address neither; but who is not known is, before anything is looked up.
#[tokio::test]
async fn operators_are_not_counted_and_strangers_are() {
    let one = at_once(1);
    let server = start(|limits| {
        *limits = Limits {
            address_reads: one,
            address_writes: one,
            account_reads: one,
            account_writes: one,
            token_reads: one,
            token_writes: one,
            zone_writes: one,
            ..*limits
        };
    })
    .await;
    for _ in 0..5 {
        let answer = server.client.get("/api/v1/domains").await.expect(200);
        assert_eq!(standing(&answer), [""; 4]);
        put(&server.client, &["a.example.com."]).await.expect(200);
    }
    let nobody = Client { token: "gw_nothing".to_owned(), ..server.client.clone() };
    let unknown = nobody.get("/api/v1/domains").await.expect(401);
    assert_eq!(standing(&unknown)[..2], ["1", "0"]);
    for client in [&nobody, &server.client] {
        let refused = client.get("/api/v1/domains").await.expect(429);
        assert!(refused.text.contains("from this address"), "{}", refused.text);
    }
    assert_eq!(server.limited("rate_address"), 2);
    for path in ["/health", "/ready"] {
        assert_eq!(standing(&nobody.get(path).await.expect(200)), [""; 4], "{path}");
    }
}

#[tokio::test]
async fn operators_are_counted_where_that_is_wanted() {
    let server = start(|limits| (limits.operators, limits.token_reads) = (true, at_once(1))).await;
    server.client.get("/api/v1/domains").await.expect(200);
    server.client.get("/api/v1/domains").await.expect(429);
    let server = start(|limits| {
        (limits.enabled, limits.operators, limits.token_reads) = (false, true, at_once(1));
    })
    .await;
    for _ in 0..3 {
        assert_eq!(standing(&server.client.get("/api/v1/domains").await.expect(200)), [""; 4]);
    }
}

/// However many tokens an account has.
#[tokio::test]
async fn an_account_has_one_bucket() {
    let office = crate::office::Office::open_with(|config| {
        config.limits = Limits { account_reads: at_once(3), ..config.limits };
    })
    .await;
    let olga = crate::keys::operator(&office).await;
    let mut tokens = Vec::new();
    for _ in 0..2 {
        let narrowed = json!({ "zones": ["example.com."] });
        let body = json!({ "name": "x", "scope": "records:read", "narrowed": narrowed, "password": crate::office::PASSWORD });
        let added = olga.client.json("POST", "/api/v1/tokens", &body).await.expect(201).json();
        let token = added["token"].as_str().unwrap().to_owned();
        tokens.push(Client { token, ..olga.client.clone() });
    }
    let path = "/api/v1/records?zone=example.com.";
    for client in [&tokens[0], &tokens[1], &tokens[0]] {
        client.get(path).await.expect(200);
    }
    let refused = tokens[1].get(path).await.expect(429);
    assert!(refused.text.contains("of this account"), "{}", refused.text);
    assert_eq!(office.server.limited("rate_account"), 1);
    office.server.stop().await;
}

#[tokio::test]
async fn a_zone_has_a_bucket_that_all_share() {
    let server = start(|limits| limits.zone_writes = at_once(4)).await;
    server.client.json("POST", "/api/v1/domains", &json!({ "name": "other.test" })).await.expect(201);
    let (one, other) = (writer(&server).await, writer(&server).await);
    put(&one, &["a.example.com."]).await.expect(200);
    let answer = put(&other, &["b.example.com.", "c.example.com.", "d.other.test."]).await.expect(200);
    assert_eq!(standing(&answer)[..2], ["4", "2"], "once for each of its zones");
    let body = json!({ "type": "TXT", "value": ["\"y\""] });
    one.json("PUT", "/api/v1/records/a.example.com.", &body).await.expect(200);
    let body = json!({ "name": "e", "type": "TXT", "value": ["\"y\""] });
    one.json("POST", "/api/v1/records?zone=example.com.", &body).await.expect(201);
    for client in [&one, &other] {
        let refused = put(client, &["f.other.test.", "f.example.com."]).await.expect(429);
        assert!(refused.text.contains("for this zone"), "{}", refused.text);
    }
    assert_eq!(server.limited("rate_zone"), 2);
    // Nothing of it was made, and the other zone was not counted for it.
    one.get("/api/v1/records/f.other.test.").await.expect(404);
    for _ in 0..3 {
        put(&one, &["g.other.test."]).await.expect(200);
    }
    put(&one, &["g.other.test."]).await.expect(429);
}

/// Who may not change a zone does not use up what others may.
#[tokio::test]
async fn what_is_forbidden_is_not_counted_for_the_zone() {
    for redis in [None, Some(Redis::shared())] {
        let server = Server::start_in(folder(), Replica::default(), None, |config| {
            config.limits.zone_writes = at_once(2);
            in_redis(config, redis);
        })
        .await;
        if redis.is_some() {
            until_shared(&server, 1).await;
        }
        let stranger = counted(&server, "records:write", json!({ "names": ["home.example.com."] })).await;
        for _ in 0..5 {
            put(&stranger, &["www.example.com."]).await.expect(403);
        }
        let owner = writer(&server).await;
        for _ in 0..2 {
            put(&owner, &["www.example.com."]).await.expect(200);
        }
        put(&owner, &["www.example.com."]).await.expect(429);
    }
}

/// Nor who learns that it is somebody else's, or fails before that: neither is refused as one who may not.
#[tokio::test]
async fn what_a_stranger_tries_is_not_counted_for_the_zone() {
    let office = crate::office::Office::open_with(|config| config.limits.zone_writes = at_once(2)).await;
    let eva = office.somebody("eva@example.org").await.client;
    eva.json("POST", "/api/v1/domains", &json!({ "name": "eva.test." })).await.expect(201);
    for n in 0..3 {
        eva.json("POST", "/api/v1/domains", &json!({ "name": "example.com." })).await.expect(409);
        // Of her own zone two, which are over then.
        let status = if n < 2 { 409 } else { 429 };
        put(&eva, &["a.eva.test.", "a.eva.test.", "x.example.com.", "y.example.com."]).await.expect(status);
    }
    let owner = writer(&office.server).await;
    for _ in 0..2 {
        put(&owner, &["www.example.com."]).await.expect(200);
    }
    put(&owner, &["www.example.com."]).await.expect(429);
    office.server.stop().await;
}

/// Also what never comes as far as a change.
#[tokio::test]
async fn requests_that_are_wrong_are_counted() {
    let server = start(|limits| limits.token_writes = at_once(2)).await;
    let client = writer(&server).await;
    for _ in 0..2 {
        client.json("POST", "/api/v1/changes", &json!({ "nonsense": 1 })).await.expect(400);
    }
    client.json("POST", "/api/v1/changes", &json!({ "nonsense": 1 })).await.expect(429);
}

#[tokio::test]
async fn logins_are_counted_by_themselves() {
    let server = start(|limits| limits.address_logins = at_once(2)).await;
    let login = async |path: &str| {
        let body = json!({ "email": "anna@example.org", "password": "x" });
        server.client.json_with("POST", path, &[("authorization", "")], &body).await
    };
    assert_eq!(standing(&login("/api/v1/auth/login").await.expect(401))[..2], ["2", "1"]);
    login("/api/v1/auth/refresh").await.expect(400);
    let refused = login("/api/v1/auth/login").await.expect(429);
    assert!(refused.text.contains("from this address"), "{}", refused.text);
    server.client.get("/api/v1/domains").await.expect(200);
}

fn in_redis(config: &mut Config, redis: Option<&Redis>) {
    let Some(redis) = redis else { return };
    // A machine that is busy is not one whose Redis is away.
    config.limits.redis_timeout_ms = 10_000;
    config.redis.limits_url = Some(redis.url(2));
    config.redis.prefix = redis.prefix();
}

pub(crate) fn metric(server: &Server, name: &str) -> u64 {
    let (text, name) = (server.metrics(), format!("godwit_controlplane_{name} "));
    text.lines().find_map(|line| line.strip_prefix(&name)).expect(&name).parse().unwrap()
}

pub(crate) async fn until_shared(server: &Server, shared: u64) {
    let began = Instant::now();
    while metric(server, "rates_shared") != shared {
        assert!(began.elapsed() < SOON, "rates_shared is not {shared}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// How often Redis ran the script.
fn scripts(redis: &Redis) -> u64 {
    let text = redis.command(0, &["INFO", "commandstats"]).unwrap();
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:calls=")));
        line.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
    };
    of("eval") + of("evalsha")
}

#[tokio::test]
async fn redis_is_asked_once_for_a_request_and_is_told_no_secret() {
    let redis = Redis::start(&[]).unwrap();
    let server = Server::start_in(folder(), Replica::default(), None, |config| {
        in_redis(config, Some(&redis));
        (config.redis.limits_url, config.redis.url) = (None, Some(redis.url(0)));
        config.redis.prefix = "t:".to_owned();
        let slow = at_once(100);
        config.limits = Limits {
            address_reads: slow,
            address_writes: slow,
            token_reads: slow,
            token_writes: slow,
            zone_writes: slow,
            ..config.limits
        };
    })
    .await;
    until_shared(&server, 1).await;
    let client = counted(&server, "records:write domains:read", json!({})).await;
    let before = scripts(&redis);
    client.get("/api/v1/domains").await.expect(200);
    assert_eq!(scripts(&redis) - before, 1, "of one that reads");
    put(&client, &["a.example.com."]).await.expect(200);
    assert_eq!(scripts(&redis) - before, 2, "of a change");
    client.json("POST", "/api/v1/changes", &json!({})).await.expect(400);
    assert_eq!(scripts(&redis) - before, 3, "of one that is wrong");
    server.client.get("/api/v1/domains").await.expect(200);
    assert_eq!(scripts(&redis) - before, 3, "of who is not counted");
    let keys = redis.command(2, &["KEYS", "*"]).unwrap();
    let keys: Vec<&str> = keys.split_whitespace().collect();
    // Of address, token and zone; what is read and what is written.
    assert_eq!(keys.len(), 5, "{keys:?}");
    for key in keys {
        let name = key.strip_prefix("t:{limits}:").unwrap_or_else(|| panic!("{key}"));
        assert_eq!(name.len(), 22, "{key}");
        let left: i64 = redis.command(2, &["PTTL", key]).unwrap().trim().parse().unwrap();
        assert!((1..=180_000).contains(&left), "{key}: {left}");
    }
}

/// It is neither without a limit then, nor closed; nobody waits long, and it is said once.
#[tokio::test]
async fn while_redis_is_away_this_process_counts_alone() {
    let redis = Redis::start(&[]).unwrap();
    let server = Server::start_in(folder(), Replica::default(), None, |config| {
        in_redis(config, Some(&redis));
        config.limits.redis_timeout_ms = 1_000;
        config.limits.token_reads = at_once(6);
    })
    .await;
    until_shared(&server, 1).await;
    let client = counted(&server, "domains:read", json!({})).await;
    for remaining in ["5", "4"] {
        assert_eq!(standing(&client.get("/api/v1/domains").await.expect(200))[1], remaining);
    }
    redis.pause().unwrap();
    let began = Instant::now();
    for remaining in ["3", "2"] {
        // It goes on from what Redis said.
        assert_eq!(standing(&client.get("/api/v1/domains").await.expect(200))[1], remaining);
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!((metric(&server, "rates_shared"), metric(&server, "rates_lost_total")), (0, 1));
    redis.go_on().unwrap();
    until_shared(&server, 1).await;
    // Redis was not told of all, and nobody is refused for that; what is over here is over.
    client.get("/api/v1/domains").await.expect(200);
    redis.kill().unwrap();
    let mut let_in = 0;
    while client.get("/api/v1/domains").await.status == 200 {
        let_in += 1;
        assert!(let_in <= 6, "without a limit");
    }
    assert_eq!((server.limited("rate_token"), metric(&server, "rates_lost_total")), (1, 2));
    redis.again().unwrap();
    until_shared(&server, 1).await;
}
