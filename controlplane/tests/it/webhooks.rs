//! Webhooks: servers that are told what happens, signed, at least once and in order, and of which none keeps others waiting.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use godwit_controlplane::Config;
use godwit_controlplane::store::Kind;
use ring::hmac;
use serde_json::{Value, json};

use crate::egress::networks;
use crate::harness::{Client, Server};
use crate::keys::operator;
use crate::office::Office;
use crate::receiver::{Authority, Manner, NameServer, Received, Receiver, ok};
use crate::tenants::{id, join, with_tenant, zone};

/// Receivers that may be called, and an office whose server calls them.
struct World {
    office: Office,
    receivers: Vec<Receiver>,
    authority: Authority,
    names: NameServer,
}

fn host(at: usize) -> String {
    format!("hooks{at}.test")
}

fn url(at: usize) -> String {
    format!("https://{}:8443/in?to={at}", host(at))
}

/// What has a server call receivers of a test.
fn calls(authority: PathBuf, names: String, allowed: Vec<Ipv4Addr>) -> impl FnOnce(&mut Config) {
    move |config| {
        config.egress.ca_file = Some(authority);
        config.egress.resolvers = vec![names];
        config.egress.allow = networks(&allowed);
    }
}

impl World {
    async fn open(manners: &[Manner]) -> World {
        let (authority, names) = (Authority::new(), NameServer::start().await);
        let mut receivers = Vec::new();
        for (at, manner) in manners.iter().enumerate() {
            let receiver = Receiver::start(&authority, &host(at), manner.clone()).await;
            names.has(&host(at), &[&[receiver.address]]);
            receivers.push(receiver);
        }
        let allowed = receivers.iter().map(|receiver| receiver.address).collect();
        let office = Office::open_with(calls(authority.file(), names.address.to_string(), allowed)).await;
        // What was made before has its sequence: of it nobody is told.
        put(office.client(), "first.example.com.", "first").await;
        World { office, receivers, authority, names }
    }

    /// Another server in the place of the one that there was, with all that this left.
    async fn restarted(self) -> World {
        let World { office, receivers, authority, names } = self;
        let mail = office.mail;
        let (folder, replica, token) = office.server.stop().await;
        let allowed = receivers.iter().map(|receiver| receiver.address).collect();
        let adjust = calls(authority.file(), names.address.to_string(), allowed);
        let server = Server::start_in(folder, replica, Some(token), |config| {
            config.names.require_proof = false;
            adjust(config);
        });
        let office = Office { server: server.await, mail };
        World { office, receivers, authority, names }
    }

    /// Does not wait for the rest of a webhook that has failed.
    async fn hurry(&self) {
        let mut connection = self.office.server.beside().await;
        let hurried = connection
            .query("UPDATE jobs SET run_at_us = 0 WHERE kind = 'webhook.deliver' AND state = 'waiting'");
        hurried.execute().await.unwrap();
    }
}

async fn hook(client: &Client, body: &Value) -> Value {
    client.json("POST", "/api/v1/webhooks", body).await.expect(201).json()
}

fn path(hook: &Value) -> String {
    format!("/api/v1/webhooks/{}", hook["id"].as_str().unwrap())
}

async fn put(client: &Client, name: &str, text: &str) {
    let body = json!({ "changes": [{ "op": "put", "name": name, "type": "TXT", "value": [format!("\"{text}\"")] }] });
    client.json("POST", "/api/v1/changes?wait=applied", &body).await.expect(200);
}

fn body(received: &Received) -> Value {
    serde_json::from_str(&received.body).unwrap()
}

/// The texts of records that were told, in order.
fn texts(received: &[Received]) -> Vec<String> {
    let mut texts = Vec::new();
    for received in received {
        for event in body(received)["events"].as_array().unwrap() {
            if event["event"] == json!("record") && event["data"]["type"] == json!("TXT") {
                texts.push(event["data"]["value"][0].as_str().unwrap().trim_matches('"').to_owned());
            }
        }
    }
    texts
}

/// Until something holds of a webhook.
async fn until(client: &Client, hook: &Value, holds: impl Fn(&Value) -> bool) -> Value {
    let since = Instant::now();
    loop {
        let now = client.get(&path(hook)).await.expect(200).json();
        if holds(&now) {
            return now;
        }
        assert!(since.elapsed() < Duration::from_secs(60), "{now}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn deliveries(client: &Client, hook: &Value) -> Vec<Value> {
    let page = client.get(&format!("{}/deliveries?limit=1000", path(hook))).await.expect(200).json();
    page["items"].as_array().unwrap().clone()
}

fn signature(secret: &str, received: &Received) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let (at, id) = (received.header("godwit-webhook-timestamp"), received.header("godwit-webhook-id"));
    let tag = hmac::sign(&key, format!("{at}.{id}.{}", received.body).as_bytes());
    let hex: String = tag.as_ref().iter().map(|octet| format!("{octet:02x}")).collect();
    format!("v1={hex}")
}

#[tokio::test]
async fn a_tenant_is_told_of_the_zones_that_it_sees_signed_and_in_order() {
    let world = World::open(&[ok(), ok(), ok()]).await;
    let office = &world.office;
    let (anna, hers) = with_tenant(office, "anna@example.org").await;
    let (bert, his) = with_tenant(office, "bert@example.org").await;
    zone(&anna.client, "anna.test.").await.expect(201);
    put(&anna.client, "a.anna.test.", "before").await;
    let made = hook(&anna.client, &json!({ "url": url(0), "topics": ["record", "zone", "change"] })).await;
    let secret = made["secret"].as_str().unwrap().to_owned();
    assert!(secret.starts_with("gwh_") && secret.len() == 47, "{secret}");
    assert_eq!((&made["tenant"], &made["enabled"]), (&json!(hers), &json!(true)));
    let of_bert = hook(&bert.client, &json!({ "url": url(1), "topics": ["record"] })).await;
    let of_all = hook(office.client(), &json!({ "url": url(2), "topics": ["record"] })).await;
    assert_eq!(of_all["tenant"], json!(0));
    zone(&bert.client, "bert.test.").await.expect(201);
    let mut expected = Vec::new();
    for n in 0..5 {
        put(&anna.client, "a.anna.test.", &format!("anna {n}")).await;
        put(&bert.client, "b.bert.test.", &format!("bert {n}")).await;
        expected.extend([format!("anna {n}"), format!("bert {n}")]);
    }
    let all = &world.receivers[2].until(11).await;
    assert_eq!(texts(all), expected);
    let of_anna = world.receivers[0].until(5).await;
    assert_eq!(texts(&of_anna), (0..5).map(|n| format!("anna {n}")).collect::<Vec<_>>());
    let mut last = 0;
    for received in &of_anna {
        let body = body(received);
        assert_eq!(received.line, "POST /in?to=0 HTTP/1.1");
        assert_eq!(received.header("content-type"), "application/json");
        assert_eq!(received.header("godwit-webhook-id"), body["id"].as_str().unwrap());
        assert_eq!(received.header("godwit-webhook-signature"), signature(&secret, received));
        let at: i64 = received.header("godwit-webhook-timestamp").parse().unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        assert!((i64::try_from(now).unwrap() - at).abs() < 120, "{at}");
        assert_eq!(
            (&body["webhook"], &body["kind"], &body["complete"]),
            (&made["id"], &json!("change"), &json!(true))
        );
        let sequence = body["sequence"].as_u64().unwrap();
        assert!(sequence > last, "{sequence} behind {last}");
        last = sequence;
        let events: Vec<&str> =
            body["events"].as_array().unwrap().iter().map(|event| event["event"].as_str().unwrap()).collect();
        assert!(
            events.contains(&"zone") && events.contains(&"change") && events.contains(&"record"),
            "{body}"
        );
        assert!(!received.body.contains("bert"), "{body}");
    }
    // A zone of somebody else's, from when it is granted.
    let granted = world.receivers[1].until(6).await.len();
    let grant = format!("/api/v1/domains/anna.test./grants/{his}");
    anna.client.json("PUT", &grant, &json!({ "role": "viewer" })).await.expect(200);
    put(&anna.client, "a.anna.test.", "for both").await;
    let of_bert_all = world.receivers[1].until(granted + 1).await;
    assert_eq!(texts(&of_bert_all).last().unwrap(), "for both");
    assert!(texts(&of_bert_all)[..5].iter().all(|text| text.starts_with("bert")), "{of_bert_all:?}");
    let told = deliveries(&bert.client, &of_bert).await;
    assert_eq!(told.len(), of_bert_all.len());
    for delivery in &told {
        assert_eq!(delivery["kind"], json!("change"));
        assert!(delivery["state"] == json!("waiting") || delivery["status"] == json!(204), "{delivery}");
    }
    // Not what it is told is in any answer of ours, nor what it answers.
    assert!(told.iter().all(|delivery| !delivery.to_string().contains("bert ")));
    office
        .server
        .metrics()
        .lines()
        .find(|line| line.contains("webhook_deliveries_total{outcome=\"delivered\"}"))
        .unwrap();
    world.office.server.stop().await;
}

#[tokio::test]
async fn what_was_not_taken_is_sent_again_under_the_same_id_and_in_order_and_behind_a_restart() {
    let world = World::open(&[Manner::Status(503, String::new())]).await;
    let admin = world.office.client().clone();
    let made = hook(&admin, &json!({ "url": url(0), "topics": ["record"] })).await;
    for n in 0..3 {
        put(&admin, "a.example.com.", &format!("{n}")).await;
    }
    let first = world.receivers[0].until(1).await;
    let now = until(&admin, &made, |now| now["failures"] == json!(1)).await;
    assert!(now["failing_since"].is_string() && now["next_at"].is_string(), "{now}");
    let since = Instant::now();
    let waiting = loop {
        let waiting = deliveries(&admin, &made).await;
        if waiting.len() == 3 {
            break waiting;
        }
        assert!(waiting.len() < 3 && since.elapsed() < Duration::from_secs(60), "{waiting:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let tried = waiting.last().unwrap();
    assert_eq!((&tried["state"], &tried["attempts"]), (&json!("waiting"), &json!(1)));
    assert_eq!((&tried["status"], &tried["error"]), (&json!(503), &json!("it answered 503")));
    // It rests: nothing of it is sent meanwhile, also not what comes behind it.
    assert_eq!(world.receivers[0].received().len(), 1);
    world.hurry().await;
    world.receivers[0].until(2).await;
    until(&admin, &made, |now| now["failures"] == json!(2)).await;
    let world = world.restarted().await;
    let admin = Client { address: world.office.client().address, ..admin };
    put(&admin, "a.example.com.", "3").await;
    world.receivers[0].answers(ok());
    world.hurry().await;
    let received = world.receivers[0].until(6).await;
    let taken: Vec<Received> = received.iter().filter(|one| one.status == 204).cloned().collect();
    assert_eq!(texts(&taken), ["0", "1", "2", "3"]);
    let ids: Vec<String> =
        received.iter().map(|received| received.header("godwit-webhook-id").to_owned()).collect();
    assert_eq!((&ids[0], &ids[1], &ids[2]), (&ids[0], &ids[0], &ids[0]));
    assert!(ids[3] != ids[0] && ids[4] != ids[3] && ids[5] != ids[4], "{ids:?}");
    assert_eq!(first[0].body, received[2].body);
    let now = until(&admin, &made, |now| now["next_at"].is_null()).await;
    assert_eq!((&now["failures"], &now["failing_since"]), (&json!(0), &Value::Null));
    world.office.server.stop().await;
}

/// The jobs that send something to a webhook, the latest first.
async fn sending(admin: &Client, hook: &Value, state: &str) -> Vec<Value> {
    let page =
        admin.get(&format!("/api/v1/jobs?kind=webhook.deliver&state={state}")).await.expect(200).json();
    let of_it = |job: &&Value| job["payload"]["webhook"] == hook["id"];
    page["items"].as_array().unwrap().iter().filter(of_it).cloned().collect()
}

/// What is to be sent is a job, which is seen, tried now, and cancelled; what waits then is sent with what comes behind it.
#[tokio::test]
async fn what_is_sent_is_a_job_that_is_seen_and_cancelled() {
    let world = World::open(&[Manner::Status(503, String::new())]).await;
    let admin = world.office.client().clone();
    let (anna, hers) = with_tenant(&world.office, "anna@example.org").await;
    let made = hook(&anna.client, &json!({ "url": url(0), "topics": ["record"] })).await;
    zone(&anna.client, "anna.test.").await.expect(201);
    until(&anna.client, &made, |now| now["failures"] == json!(1)).await;
    let resting = sending(&admin, &made, "waiting").await;
    assert_eq!(resting.len(), 1, "{resting:?}");
    assert_eq!((&resting[0]["tenant"], &resting[0]["last_error"]), (&json!(hers), &json!("it answered 503")));
    let now = anna.client.get(&path(&made)).await.expect(200).json();
    assert_eq!(now["next_at"], resting[0]["run_at"]);
    let cancel = format!("/api/v1/jobs/{}/cancel", resting[0]["id"].as_str().unwrap());
    admin.send("POST", &cancel, &[], vec![]).await.expect(200);
    assert_eq!(anna.client.get(&path(&made)).await.expect(200).json()["next_at"], Value::Null);
    world.receivers[0].answers(ok());
    put(&anna.client, "a.anna.test.", "behind it").await;
    let received = world.receivers[0].until(3).await;
    assert_eq!(received[0].body, received[1].body);
    assert_eq!(texts(&received[2..]), ["behind it"]);
    until(&anna.client, &made, |now| now["next_at"].is_null()).await;
    assert!(sending(&admin, &made, "waiting").await.is_empty());
    assert!(!sending(&admin, &made, "done").await.is_empty());
    world.office.server.stop().await;
}

/// Who owns the tenant hears of it by mail, without what may be a secret of the URL.
#[tokio::test]
async fn that_a_webhook_was_turned_off_is_told_by_mail() {
    let world = World::open(&[Manner::Status(410, String::new())]).await;
    let (anna, _) = with_tenant(&world.office, "anna@example.org").await;
    let made = hook(&anna.client, &json!({ "url": url(0), "topics": ["record"] })).await;
    zone(&anna.client, "anna.test.").await.expect(201);
    until(&anna.client, &made, |now| now["enabled"] == json!(false)).await;
    let text = world.office.letter("anna@example.org", "A webhook of yours was turned off").await;
    for part in [made["id"].as_str().unwrap(), "hooks0.test:8443", "it answered 410"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!text.contains("to=0"), "{text}");
    world.office.server.stop().await;
}

/// It waits, and is sent as soon as the tenant is not suspended any more.
#[tokio::test]
async fn of_a_tenant_that_is_suspended_nothing_is_sent() {
    let world = World::open(&[ok()]).await;
    let admin = world.office.client().clone();
    let (anna, hers) = with_tenant(&world.office, "anna@example.org").await;
    let made = hook(&anna.client, &json!({ "url": url(0), "topics": ["record"] })).await;
    zone(&anna.client, "anna.test.").await.expect(201);
    put(&anna.client, "a.anna.test.", "before").await;
    world.receivers[0].until(2).await;
    until(&anna.client, &made, |now| now["next_at"].is_null()).await;
    let tenant = format!("/api/v1/tenants/{hers}");
    admin.json("PATCH", &tenant, &json!({ "suspended": true })).await.expect(200);
    put(&admin, "a.anna.test.", "meanwhile").await;
    let since = Instant::now();
    loop {
        // It was looked at, and waits for a long time.
        let waiting = sending(&admin, &made, "waiting").await;
        if waiting.first().is_some_and(|job| job["run_at"].as_str() > job["created_at"].as_str()) {
            assert_eq!(waiting[0]["attempts"], json!(0), "nothing has failed");
            break;
        }
        assert!(since.elapsed() < Duration::from_secs(30), "{waiting:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(world.receivers[0].received().len(), 2);
    admin.json("PATCH", &tenant, &json!({ "suspended": false })).await.expect(200);
    let received = world.receivers[0].until(3).await;
    assert_eq!(texts(&received[2..]), ["meanwhile"]);
    world.office.server.stop().await;
}

/// Of all jobs those who act for tenants in the database see when their own webhooks are sent something, and have that done now.
#[tokio::test]
async fn the_database_shows_tenants_no_jobs_but_those_of_their_webhooks() {
    if crate::DATABASE == Kind::Sqlite {
        return;
    }
    let world = World::open(&[Manner::Status(503, String::new())]).await;
    let (anna, hers) = with_tenant(&world.office, "anna@example.org").await;
    let (bert, his) = with_tenant(&world.office, "bert@example.org").await;
    let mut hooks = Vec::new();
    for somebody in [&anna, &bert] {
        let made = hook(&somebody.client, &json!({ "url": url(0), "topics": ["record"] })).await;
        somebody.client.send("POST", &format!("{}/test", path(&made)), &[], Vec::new()).await.expect(202);
        until(&somebody.client, &made, |now| now["failures"] == json!(1)).await;
        hooks.push(made["id"].as_str().unwrap().to_owned());
    }
    let mut connection = world.office.server.beside().await;
    connection.control(&["SET ROLE godwit_tenant"]).await.unwrap();
    let acts_for = "SELECT set_config('godwit.account', $1, false)";
    connection.query(acts_for).bind(id(&anna).await.as_str()).fetch_value::<String>().await.unwrap();
    let rows = connection.query("SELECT once FROM jobs").fetch_all().await.unwrap();
    let seen: Vec<String> = rows.iter().map(|row| row.get(0).unwrap()).collect();
    assert!(!seen.is_empty() && seen.iter().all(|once| once.ends_with(&hooks[0])), "{seen:?}");
    let refused = connection.query("SELECT payload FROM jobs").execute().await.unwrap_err();
    assert_eq!(refused.as_database_error().unwrap().code().unwrap(), "42501");
    let hurried = connection.query("UPDATE jobs SET run_at_us = 1 WHERE state = 'waiting'").execute().await;
    assert_eq!(hurried.unwrap(), 1);
    let (own, others) = (&hooks[0], &hooks[1]);
    for (kind, once, about, tenant) in [
        ("mail", own, own, hers),
        ("webhook.deliver", others, others, his),
        ("webhook.deliver", own, others, hers),
        ("webhook.deliver", own, own, his),
    ] {
        let insert = "INSERT INTO jobs (id, kind, tenant, payload, once, state, run_at_us, attempts, max_attempts, created_at_us) VALUES ($1, $2, $3, $4, $5, 'waiting', 1, 0, 1, 1)";
        let insert = connection.query(insert).bind(uuid::Uuid::now_v7()).bind(kind);
        let insert = insert.bind(i64::try_from(tenant).unwrap()).bind(format!("{{\"webhook\":\"{about}\"}}"));
        let made = insert.bind(format!("webhook.deliver {once}")).execute().await.unwrap_err();
        assert!(made.to_string().contains("row-level security"), "{kind} {once} {about} {tenant}: {made}");
    }
    drop(connection);
    world.office.server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_written_down_is_told_once_it_can() {
    let world = World::open(&[ok()]).await;
    let admin = world.office.client().clone();
    let made = hook(&admin, &json!({ "url": url(0), "topics": ["record"] })).await;
    put(&admin, "a.example.com.", "before").await;
    world.receivers[0].until(1).await;
    let mut connection = world.office.server.beside().await;
    let (full, empty) = match connection.kind() {
        Kind::Sqlite => (
            "CREATE TRIGGER full BEFORE INSERT ON deliveries BEGIN SELECT RAISE(ABORT, 'full'); END",
            "DROP TRIGGER full",
        ),
        Kind::Postgres => (
            "CREATE FUNCTION no_room() RETURNS TRIGGER LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''full''; END'; \
             CREATE TRIGGER no_room BEFORE INSERT ON deliveries FOR EACH ROW EXECUTE FUNCTION no_room()",
            "DROP TRIGGER no_room ON deliveries",
        ),
    };
    connection.control(&[full]).await.unwrap();
    for n in 0..3 {
        put(&admin, "a.example.com.", &format!("{n}")).await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let received = world.receivers[0].received();
    assert_eq!(received.len(), 1, "{received:?}");
    connection.control(&[empty]).await.unwrap();
    let received = world.receivers[0].until(4).await;
    assert_eq!(texts(&received), ["before", "0", "1", "2"]);
    until(&admin, &made, |now| now["next_at"].is_null()).await;
    assert_eq!(deliveries(&admin, &made).await.len(), 4);
    world.office.server.stop().await;
}

#[tokio::test]
async fn r17_servers_of_some_tenants_that_hang_delay_nobody_else() {
    let world = World::open(&[Manner::Hang, ok()]).await;
    let admin = world.office.client().clone();
    let made = hook(&admin, &json!({ "url": url(1), "topics": ["record"] })).await;
    // As many as would fill all places there are.
    let mut hooks = Vec::new();
    for tenant in 0..4 {
        let made = json!({ "name": format!("Tenant {tenant}") });
        let made = admin.json("POST", "/api/v1/tenants", &made).await.expect(201).json();
        for _ in 0..20 {
            let body = json!({ "url": url(0), "topics": ["record"], "tenant": made["number"] });
            hooks.push(path(&hook(&admin, &body).await));
        }
    }
    let mut testing = tokio::task::JoinSet::new();
    for path in hooks {
        let admin = admin.clone();
        let test =
            async move { admin.send("POST", &format!("{path}/test"), &[], Vec::new()).await.expect(202) };
        testing.spawn(test);
    }
    testing.join_all().await;
    world.receivers[0].until(8).await;
    let since = Instant::now();
    for n in 0..5 {
        put(&admin, "a.example.com.", &format!("{n}")).await;
    }
    world.receivers[1].until(5).await;
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
    assert_eq!(texts(&world.receivers[1].received()), ["0", "1", "2", "3", "4"]);
    until(&admin, &made, |now| now["next_at"].is_null()).await;
    world.office.server.stop().await;
}

#[tokio::test]
async fn one_to_which_nothing_could_be_delivered_for_three_days_is_turned_off_and_says_why() {
    let world = World::open(&[Manner::Status(500, String::new())]).await;
    let admin = world.office.client().clone();
    let made = hook(&admin, &json!({ "url": url(0), "topics": ["record"] })).await;
    put(&admin, "a.example.com.", "0").await;
    until(&admin, &made, |now| now["failures"] == json!(1)).await;
    let mut connection = world.office.server.beside().await;
    let long_ago = "UPDATE webhooks SET failing_since_us = failing_since_us - 259200000000";
    connection.query(long_ago).execute().await.unwrap();
    world.hurry().await;
    let off = until(&admin, &made, |now| now["enabled"] == json!(false)).await;
    let why = off["disabled_because"].as_str().unwrap();
    assert!(why.contains("three days") && why.contains("it answered 500"), "{off}");
    assert!(off["disabled_at"].is_string() && off["next_at"].is_null(), "{off}");
    let rows = admin.get("/api/v1/audit?action=webhook.disable").await.expect(200).json();
    assert_eq!(rows["items"][0]["object"], made["id"]);
    // Nothing is told while it is off.
    put(&admin, "a.example.com.", "1").await;
    let conflict = admin.send("POST", &format!("{}/test", path(&made)), &[], Vec::new()).await.expect(409);
    assert_eq!(conflict.code(), "CONFLICT");
    world.receivers[0].answers(ok());
    let on = admin.json("PATCH", &path(&made), &json!({ "enabled": true })).await.expect(200).json();
    assert_eq!(
        (&on["enabled"], &on["failures"], &on["disabled_because"]),
        (&json!(true), &json!(0), &Value::Null)
    );
    put(&admin, "a.example.com.", "2").await;
    let received = world.receivers[0].until(5).await;
    let kinds: Vec<(Value, u16)> =
        received.iter().map(|one| (body(one)["kind"].clone(), one.status)).collect();
    let expected = [("change", 500), ("change", 500), ("change", 204), ("resync", 204), ("change", 204)];
    let expected = expected.map(|(kind, status)| (json!(kind), status));
    assert_eq!(kinds, expected, "{received:?}");
    assert_eq!(texts(&received[4..]), ["2"]);
    // One that wants no more gets no more.
    world.receivers[0].answers(Manner::Status(410, String::new()));
    put(&admin, "a.example.com.", "3").await;
    let off = until(&admin, &made, |now| now["enabled"] == json!(false)).await;
    assert!(off["disabled_because"].as_str().unwrap().contains("410"), "{off}");
    world.office.server.stop().await;
}

#[tokio::test]
async fn r20_secrets_of_webhooks_are_sealed_and_sealed_anew_with_another_key() {
    let world = World::open(&[ok()]).await;
    let (anna, _) = with_tenant(&world.office, "anna@example.org").await;
    let made = hook(&anna.client, &json!({ "url": url(0), "topics": ["record"] })).await;
    let secret = made["secret"].as_str().unwrap();
    for text in [anna.client.get(&path(&made)).await.text, anna.client.get("/api/v1/webhooks").await.text] {
        assert!(!text.contains("secret") && !text.contains(secret), "{text}");
    }
    let mut connection = world.office.server.beside().await;
    let sealed = async |connection: &mut godwit_controlplane::store::Connection| -> Vec<u8> {
        connection.query("SELECT secret FROM webhooks").fetch_value().await.unwrap()
    };
    let before = sealed(&mut connection).await;
    assert!(!before.windows(secret.len()).any(|part| part == secret.as_bytes()));
    // Who acts for tenants in the database has nothing of it, sealed or not.
    if connection.kind() == Kind::Postgres {
        connection.control(&["SET ROLE godwit_tenant"]).await.unwrap();
        let refused = connection.query("SELECT secret FROM webhooks").execute().await.unwrap_err();
        assert_eq!(refused.as_database_error().unwrap().code().unwrap(), "42501");
        connection.control(&["RESET ROLE"]).await.unwrap();
    }
    let admin = world.office.client();
    let begun = admin.send("POST", "/api/v1/keys/rotate", &[], Vec::new()).await.expect(202).json();
    let job = format!("/api/v1/jobs/{}", begun["job"].as_str().unwrap());
    let since = Instant::now();
    while admin.get(&job).await.expect(200).json()["state"] != json!("done") {
        assert!(since.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_ne!(sealed(&mut connection).await, before);
    let keys: i64 = connection.query("SELECT count(*) FROM data_keys").fetch_value().await.unwrap();
    assert_eq!(keys, 1);
    let test = format!("{}/test", path(&made));
    let delivery = anna.client.send("POST", &test, &[], Vec::new()).await.expect(202).json();
    let received = &world.receivers[0].until(1).await[0];
    assert_eq!(body(received)["kind"], json!("test"));
    assert_eq!(received.header("godwit-webhook-id"), delivery["delivery"].as_str().unwrap());
    assert_eq!(received.header("godwit-webhook-signature"), signature(secret, received));
    world.office.server.stop().await;
}

#[tokio::test]
async fn webhooks_are_made_by_admins_for_servers_that_are_called() {
    let world = World::open(&[ok()]).await;
    let office = &world.office;
    let (anna, hers) = with_tenant(office, "anna@example.org").await;
    let eva = office.somebody("eva@example.org").await;
    let olga = operator(office).await;
    let refused = async |client: &Client, body: Value, code: &str, words: &str| {
        let answer = client.json("POST", "/api/v1/webhooks", &body).await;
        assert_eq!(answer.code(), code, "{body}: {}", answer.text);
        assert!(answer.text.contains(words), "{body}: {}", answer.text);
    };
    let topics = || json!(["record"]);
    for (url, words) in [
        ("http://hooks.example.net/", "https://"),
        ("https://hooks.example.net:25/", "443 and 8443"),
        ("https://127.0.0.1/", "of the machine itself"),
        ("https://169.254.169.254/latest/meta-data", "of the link"),
        ("https://[::ffff:10.0.0.1]/", "in another form"),
        ("https://2130706433/", "four decimal numbers"),
        ("https://localhost/", "no name"),
        ("https://a@hooks.example.net/", "user name"),
        ("", "https://"),
    ] {
        refused(&anna.client, json!({ "url": url, "topics": topics() }), "INVALID_VALUE", words).await;
    }
    for wrong in [json!([]), json!(["node"]), json!(["record", "record"]), json!(["Record"])] {
        refused(&anna.client, json!({ "url": url(0), "topics": wrong }), "INVALID_VALUE", "topics").await;
    }
    let body = || json!({ "url": url(0), "topics": topics(), "tenant": hers });
    refused(&eva.client, body(), "FORBIDDEN", "").await;
    refused(&eva.client, json!({ "url": url(0), "topics": topics(), "tenant": 0 }), "FORBIDDEN", "").await;
    refused(
        office.client(),
        json!({ "url": url(0), "topics": topics(), "tenant": 99 }),
        "TENANT_NOT_FOUND",
        "",
    )
    .await;
    let made = hook(&anna.client, &body()).await;
    let by_operator = hook(&olga.client, &body()).await;
    assert_eq!(by_operator["tenant"], json!(hers));
    // Who edits its zones does not see it.
    join(&anna.client, hers, &eva, "editor").await;
    assert_eq!(eva.client.get(&path(&made)).await.expect(404).code(), "WEBHOOK_NOT_FOUND");
    assert_eq!(eva.client.get("/api/v1/webhooks").await.expect(200).json()["items"], json!([]));
    let eva_id = id(&eva).await;
    let member = format!("/api/v1/tenants/{hers}/members/{eva_id}");
    anna.client.json("PUT", &member, &json!({ "role": "admin" })).await.expect(200);
    eva.client.get(&path(&made)).await.expect(200);
    let patch = json!({ "url": "https://127.0.0.1/" });
    assert_eq!(anna.client.json("PATCH", &path(&made), &patch).await.expect(422).code(), "INVALID_VALUE");
    let patch =
        json!({ "url": "https://other.example.net/", "topics": ["change", "zone"], "enabled": false });
    let changed = anna.client.json("PATCH", &path(&made), &patch).await.expect(200).json();
    assert_eq!(
        (&changed["url"], &changed["topics"]),
        (&json!("https://other.example.net/"), &patch["topics"])
    );
    assert_eq!(changed["disabled_because"], json!("it was turned off by hand"));
    for _ in 2..20 {
        hook(&anna.client, &body()).await;
    }
    refused(&anna.client, body(), "CONFLICT", "at most 20").await;
    let page = anna.client.get("/api/v1/webhooks?limit=15").await.expect(200).json();
    let next = page["next"].as_str().unwrap();
    let rest = anna.client.get(&format!("/api/v1/webhooks?limit=15&cursor={next}")).await.expect(200).json();
    assert_eq!((page["items"].as_array().unwrap().len(), rest["items"].as_array().unwrap().len()), (15, 5));
    anna.client.delete(&path(&made)).await.expect(204);
    assert_eq!(anna.client.get(&path(&made)).await.expect(404).code(), "WEBHOOK_NOT_FOUND");
    assert_eq!(anna.client.get("/api/v1/webhooks/x").await.expect(404).code(), "WEBHOOK_NOT_FOUND");
    world.office.server.stop().await;
}
