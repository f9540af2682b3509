//! Tokens that users sign themselves: what they may, and that what was revoked is refused everywhere within a second.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};

use crate::harness::{Answer, Client, Server, beside};
use crate::office::{Office, PASSWORD, Person};
use crate::replica::Replica;

/// Somebody's key on P-256.
pub(crate) struct Signer {
    pair: EcdsaKeyPair,
    pem: String,
    sub: String,
    aud: String,
    kid: String,
}

fn now_s() -> i64 {
    i64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs())
        .unwrap()
}

impl Signer {
    /// One that nobody knows.
    pub(crate) fn new(sub: &str, aud: &str) -> Signer {
        let pair = rcgen::KeyPair::generate().unwrap();
        let der = pair.serialize_der();
        Signer {
            pair: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der, &SystemRandom::new())
                .unwrap(),
            pem: pair.public_key_pem(),
            sub: sub.to_owned(),
            aud: aud.to_owned(),
            kid: String::new(),
        }
    }

    /// What the server calls it.
    pub(crate) fn kid(&self) -> &str {
        &self.kid
    }

    fn sign(&self, claims: &Value) -> String {
        let header = json!({ "alg": "ES256", "typ": "JWT", "kid": self.kid });
        let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let message = format!("{}.{}", part(&header), part(claims));
        let signature = self.pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }

    fn claims(&self) -> Value {
        let now = now_s();
        json!({
            "iss": self.sub, "sub": self.sub, "aud": self.aud, "iat": now, "exp": now + 300,
            "jti": uuid::Uuid::new_v4().to_string(),
        })
    }

    /// A token for scopes, narrowed.
    fn token(&self, scope: &str, narrowed: &Value) -> String {
        let mut claims = self.claims();
        claims["scope"] = json!(scope);
        if !narrowed.is_null() {
            claims["godwit"] = narrowed.clone();
        }
        self.sign(&claims)
    }

    /// A client with such a token.
    pub(crate) fn client(&self, of: &Client, scope: &str, narrowed: &Value) -> Client {
        Client { token: self.token(scope, narrowed), ..of.clone() }
    }

    pub(crate) fn body(&self, more: &Value) -> Value {
        let mut body = json!({
            "name": "script", "password": PASSWORD, "public_key": self.pem, "proof": self.sign(&self.claims()),
        });
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        body
    }
}

/// An operator, logged in.
pub(crate) async fn operator(office: &Office) -> Person {
    let added = json!({ "email": "olga@example.org", "operator": true });
    let added = office.client().json("POST", "/api/v1/users", &added).await.expect(201).json();
    let reset = json!({ "token": added["token"], "password": PASSWORD });
    office.post("/api/v1/auth/password/reset", reset).await.expect(204);
    office.log_in("olga@example.org", PASSWORD).await
}

/// A key of somebody that the server knows.
pub(crate) async fn key(person: &Person, more: &Value) -> Signer {
    let me = person.client.get("/api/v1/users/me").await.expect(200).json();
    let mut signer = Signer::new(me["id"].as_str().unwrap(), &format!("http://{}", person.client.address));
    signer.kid = "new".to_owned();
    let added =
        person.client.json("POST", "/api/v1/users/me/keys", &signer.body(more)).await.expect(201).json();
    assert_eq!((&added["sub"], &added["aud"]), (&me["id"], &json!(signer.aud)));
    signer.kid = added["kid"].as_str().unwrap().to_owned();
    signer
}

fn put(name: &str, rtype: &str) -> Value {
    let value = if rtype == "A" { "192.0.2.1" } else { "\"x\"" };
    json!({ "changes": [{ "op": "put", "name": name, "type": rtype, "value": [value] }] })
}

pub(crate) async fn change(client: &Client, name: &str, rtype: &str) -> Answer {
    client.json("POST", "/api/v1/changes", &put(name, rtype)).await
}

/// How long until a client is refused with a code.
async fn until(client: &Client, code: &str) -> Duration {
    let since = Instant::now();
    loop {
        let answer = client.get("/api/v1/records?zone=example.com.").await;
        if answer.status == 401 {
            assert_eq!(answer.code(), code);
            return since.elapsed();
        }
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert!(since.elapsed() < Duration::from_secs(10), "it is taken for ever");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_key_is_added_by_who_has_its_other_half() {
    let office = Office::open().await;
    let anna = office.somebody("anna@example.org").await;
    let bert = office.somebody("bert@example.org").await;
    let id = async |person: &Person| {
        let me = person.client.get("/api/v1/users/me").await.expect(200).json();
        me["id"].as_str().unwrap().to_owned()
    };
    let aud = format!("http://{}", office.client().address);
    let (of_anna, of_bert) = (Signer::new(&id(&anna).await, &aud), Signer::new(&id(&bert).await, &aud));
    let add =
        async |person: &Person, body: Value| person.client.json("POST", "/api/v1/users/me/keys", &body).await;
    // Somebody else's key, with the proof that its owner once made; no proof; one for another place.
    assert_eq!(add(&anna, of_bert.body(&json!({}))).await.expect(422).code(), "INVALID_VALUE");
    let mixed = json!({ "name": "x", "password": PASSWORD, "public_key": of_bert.pem, "proof": of_anna.sign(&of_anna.claims()) });
    add(&anna, mixed).await.expect(422);
    let elsewhere = Signer { aud: "https://other.test".to_owned(), ..Signer::new(&of_anna.sub, &aud) };
    add(&anna, elsewhere.body(&json!({}))).await.expect(422);
    let mut old = of_anna.claims();
    old["iat"] = json!(now_s() - 600);
    old["exp"] = json!(now_s() - 300);
    add(&anna, of_anna.body(&json!({ "proof": of_anna.sign(&old) }))).await.expect(422);
    for wrong in [
        json!({ "public_key": "no key" }),
        json!({ "scope": "records:read everything" }),
        json!({ "name": "a\nb" }),
        json!({ "expires_at": "2020-01-01T00:00:00Z" }),
    ] {
        assert_eq!(add(&anna, of_anna.body(&wrong)).await.expect(422).code(), "INVALID_VALUE", "{wrong}");
    }
    // A session that is borrowed adds none.
    let borrowed = of_anna.body(&json!({ "password": "wrong password" }));
    assert_eq!(add(&anna, borrowed).await.expect(403).code(), "FORBIDDEN");
    let mut signer = of_anna;
    signer.kid = "whatever".to_owned();
    let added = add(&anna, signer.body(&json!({ "scope": "records:read" }))).await.expect(201).json();
    assert_eq!((&added["algorithm"], &added["scope"]), (&json!("ES256"), &json!("records:read")));
    let listed = anna.client.get("/api/v1/users/me/keys").await.expect(200).json();
    assert_eq!(listed["items"], json!([added]));
    // Others neither see nor delete it.
    assert_eq!(bert.client.get("/api/v1/users/me/keys").await.expect(200).json()["items"], json!([]));
    let path = format!("/api/v1/users/me/keys/{}", added["kid"].as_str().unwrap());
    assert_eq!(bert.client.delete(&path).await.expect(404).code(), "KEY_NOT_FOUND");
    anna.client.delete(&path).await.expect(204);
    assert_eq!(anna.client.delete(&path).await.expect(404).code(), "KEY_NOT_FOUND");
    office.server.stop().await;
}

#[tokio::test]
async fn a_token_may_what_it_and_its_key_and_its_account_may() {
    let office = Office::open().await;
    let olga = operator(&office).await;
    let all = key(&olga, &json!({})).await;
    let some = key(&olga, &json!({ "scope": "records:read domains:read" })).await;
    let read = "/api/v1/records?zone=example.com.";
    for (signer, scope, reads, writes, nodes) in [
        (&all, "", 403, 403, 403),
        (&all, "records:read", 200, 403, 403),
        (&all, "records:write", 403, 200, 403),
        (&all, "records:read records:write", 200, 200, 403),
        (&all, "admin", 200, 200, 200),
        (&some, "records:read records:write", 200, 403, 403),
        (&some, "admin", 200, 403, 403),
    ] {
        let client = signer.client(office.client(), scope, &Value::Null);
        assert_eq!(client.get(read).await.status.as_u16(), reads, "{scope}: reads");
        assert_eq!(change(&client, "a.example.com.", "A").await.status.as_u16(), writes, "{scope}: writes");
        assert_eq!(client.get("/api/v1/nodes").await.status.as_u16(), nodes, "{scope}: nodes");
    }
    let unknown = all.client(office.client(), "records:read records:reed", &Value::Null);
    assert_eq!(unknown.get(read).await.expect(403).code(), "INSUFFICIENT_SCOPE");
    // What an account may not its tokens may not.
    let anna = office.somebody("anna@example.org").await;
    let of_anna = key(&anna, &json!({})).await;
    let client = of_anna.client(office.client(), "admin records:read", &Value::Null);
    assert_eq!(client.get("/api/v1/nodes").await.expect(403).code(), "INSUFFICIENT_SCOPE");
    assert_eq!(client.get(read).await.expect(404).code(), "DOMAIN_NOT_FOUND");
    // A token that ends makes no operator, who does not.
    let ends = all.client(office.client(), "admin", &Value::Null);
    let new = json!({ "email": "eve@example.org", "operator": true });
    assert_eq!(ends.json("POST", "/api/v1/users", &new).await.expect(403).code(), "INSUFFICIENT_SCOPE");
    // Who manages users makes none that may more than they.
    let manager = all.client(office.client(), "users:admin", &Value::Null);
    manager.get("/api/v1/users").await.expect(200);
    let new = json!({ "email": "eve@example.org", "operator": true });
    assert_eq!(manager.json("POST", "/api/v1/users", &new).await.expect(403).code(), "INSUFFICIENT_SCOPE");
    manager.json("POST", "/api/v1/users", &json!({ "email": "eve@example.org" })).await.expect(201);
    let of_olga = format!("/api/v1/users/{}", all.sub);
    for answer in [
        manager.json("PATCH", &of_olga, &json!({ "totp": false })).await,
        manager.json("PATCH", &format!("/api/v1/users/{}", of_anna.sub), &json!({ "operator": true })).await,
        manager.send("POST", &format!("{of_olga}/link"), &[], Vec::new()).await,
        manager.delete(&of_olga).await,
    ] {
        assert_eq!(answer.expect(403).code(), "INSUFFICIENT_SCOPE");
    }
    office.server.stop().await;
}

#[tokio::test]
async fn a_token_is_narrowed_to_what_it_names() {
    let office = Office::open().await;
    let olga = operator(&office).await;
    let signer = key(&olga, &json!({})).await;
    let admin = office.client();
    admin.json("POST", "/api/v1/domains", &json!({ "name": "example.org" })).await.expect(201);
    for name in ["www.example.org.", "home.example.org.", "a.lab.example.org."] {
        change(admin, name, "A").await.expect(200);
    }
    let narrowed = |json: Value| signer.client(admin, "admin", &json);
    // One zone.
    let zone = narrowed(json!({ "zones": ["example.org."] }));
    change(&zone, "www.example.org.", "A").await.expect(200);
    assert_eq!(change(&zone, "www.example.com.", "A").await.expect(403).code(), "FORBIDDEN");
    let both = json!({ "changes": [put("b.example.org.", "A")["changes"][0], put("b.example.com.", "A")["changes"][0]] });
    zone.json("POST", "/api/v1/changes", &both).await.expect(403);
    admin.get("/api/v1/records/b.example.org.").await.expect(404);
    for path in [
        "/api/v1/domains/example.com.",
        "/api/v1/domains/example.com./export",
        "/api/v1/records?zone=example.com.",
        "/api/v1/records",
        "/api/v1/records/www.example.com.",
        "/api/v1/domains/example.com./versions",
        "/api/v1/domains/example.com.?at=1",
        "/api/v1/records?zone=example.com.&at=1",
    ] {
        assert_eq!(zone.get(path).await.expect(403).code(), "FORBIDDEN", "{path}");
    }
    zone.delete("/api/v1/domains/example.com.").await.expect(403);
    zone.json("POST", "/api/v1/domains", &json!({ "name": "new.example" })).await.expect(403);
    zone.json("PATCH", "/api/v1/domains/example.com.", &json!({ "ttl_policy": "keep" })).await.expect(403);
    zone.import(
        "example.com.",
        "@ 300 IN SOA ns1 root 1 7200 3600 1209600 60\n@ 300 IN NS ns1\nns1 300 IN A 192.0.2.1\n",
    )
    .await
    .expect(403);
    let listed = zone.get("/api/v1/domains").await.expect(200).json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    zone.get("/api/v1/domains/example.org./export").await.expect(200);
    // Some names and types of it.
    let some = narrowed(json!({ "names": ["home.example.org.", "*.lab.example.org."], "types": ["A"] }));
    for (name, rtype, status) in [
        ("home.example.org.", "A", 200),
        ("b.lab.example.org.", "A", 200),
        ("home.example.org.", "TXT", 403),
        ("www.example.org.", "A", 403),
        ("lab.example.org.", "A", 403),
        ("example.org.", "A", 403),
    ] {
        assert_eq!(change(&some, name, rtype).await.status.as_u16(), status, "{name} {rtype}");
    }
    change(admin, "home.example.org.", "TXT").await.expect(200);
    let all_types = some.delete("/api/v1/records/home.example.org.?all=true").await.expect(403);
    assert_eq!(all_types.code(), "FORBIDDEN");
    some.delete("/api/v1/records/www.example.org.?type=A").await.expect(403);
    some.delete("/api/v1/domains/example.org.").await.expect(403);
    some.get("/api/v1/domains/example.org./export").await.expect(403);
    let listed = some.get("/api/v1/records?zone=example.org.").await.expect(200).json();
    let names: Vec<&str> =
        listed["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["home.example.org.", "a.lab.example.org.", "b.lab.example.org."]);
    assert_eq!(
        some.get("/api/v1/records/home.example.org.").await.expect(200).json()["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    some.get("/api/v1/records/www.example.org.").await.expect(403);
    some.get("/api/v1/records/www.example.org.?type=A").await.expect(403);
    // From where it comes, and what nobody understands.
    narrowed(json!({ "networks": ["127.0.0.0/8"] })).get("/api/v1/nodes").await.expect(200);
    let elsewhere = narrowed(json!({ "networks": ["192.0.2.0/24"] }));
    assert_eq!(elsewhere.get("/api/v1/nodes").await.expect(403).code(), "FORBIDDEN");
    // What would narrow nothing by mistake is refused.
    for mistake in
        [json!({ "zone": ["example.org."] }), json!({ "zones": [] }), json!([]), json!({ "zones": null })]
    {
        narrowed(mistake.clone()).get("/api/v1/domains").await.expect(401);
    }
    let mut claims = signer.claims();
    claims["scope"] = json!("admin");
    claims["godwit"] = Value::Null;
    let null = Client { token: signer.sign(&claims), ..admin.clone() };
    null.get("/api/v1/domains").await.expect(401);
    // What is about everything takes a token that is not narrowed, whatever its scope.
    let new = json!({ "email": "eve@example.org" });
    for limited in [&zone, &some] {
        for (method, path) in [
            ("GET", "/api/v1/nodes"),
            ("POST", "/api/v1/nodes"),
            ("DELETE", "/api/v1/nodes/n1"),
            ("GET", "/api/v1/jobs"),
            ("POST", "/api/v1/reload"),
            ("GET", "/api/v1/users"),
            ("GET", "/api/v1/changes?state=buffered"),
            ("GET", "/api/v1/tokens"),
            ("POST", "/api/v1/rollback"),
            ("DELETE", &format!("/api/v1/users/{}", signer.sub)),
        ] {
            let answer =
                limited.send(method, path, &[("content-type", "application/json")], Vec::new()).await;
            assert!([403, 404, 405].contains(&answer.status.as_u16()), "{method} {path}: {}", answer.text);
            assert!(answer.status != 404 || path == "/api/v1/rollback", "{method} {path}");
        }
        limited.json("POST", "/api/v1/users", &new).await.expect(403);
        let dry = limited.json("POST", "/api/v1/changes?dry_run=true", &put("www.example.org.", "A")).await;
        dry.expect(403);
    }
    // Whether there is a zone, and where it stands, is not told.
    for name in ["www.example.com.", "www.nowhere.example."] {
        let put = put(name, "A");
        let answer =
            zone.json_with("POST", "/api/v1/changes", &[("if-match", "\"0\"")], &put).await.expect(403);
        assert_eq!(answer.code(), "FORBIDDEN", "{name}");
        zone.get(&format!("/api/v1/records/{name}")).await.expect(403);
    }
    let pages = zone.get("/api/v1/domains?limit=1").await.expect(200).json();
    assert_eq!((pages["items"].as_array().unwrap().len(), &pages["next"]), (1, &Value::Null));
    // Who may a name decides nothing below it.
    let names = narrowed(json!({ "names": ["home.example.org."] }));
    let ns = json!({ "changes": [{ "op": "put", "name": "home.example.org.", "type": "NS", "value": ["ns.evil.test."] }] });
    names.json("POST", "/api/v1/changes", &ns).await.expect(403);
    narrowed(json!({ "types": ["NOPE"] })).get("/api/v1/nodes").await.expect(422);
    office.server.stop().await;
}

#[tokio::test]
async fn what_is_revoked_is_refused_everywhere_within_a_second() {
    let office = Office::open().await;
    let olga = operator(&office).await;
    // Another control plane of the same database, where there can be one.
    let other = match crate::DATABASE {
        godwit_controlplane::store::Kind::Postgres => {
            let aud = format!("http://{}", office.client().address);
            let token = Some(office.client().token.clone());
            let server =
                Server::start_in(office.server.folder.clone(), Replica::default(), token, move |config| {
                    config.api.public_url = Some(aud);
                });
            Some(server.await)
        }
        godwit_controlplane::store::Kind::Sqlite => None,
    };
    let there = other.as_ref().map_or(office.client(), |server| &server.client).clone();
    let [one, two, three] =
        [key(&olga, &json!({})).await, key(&olga, &json!({})).await, key(&olga, &json!({})).await];
    let clients = [&one, &two, &three].map(|signer| signer.client(&there, "records:read", &Value::Null));
    for client in &clients {
        client.get("/api/v1/records?zone=example.com.").await.expect(200);
    }
    // A key.
    olga.client.delete(&format!("/api/v1/users/me/keys/{}", one.kid)).await.expect(204);
    let took = until(&clients[0], "UNAUTHENTICATED").await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    // A token: others of the same key go on.
    let mut claims = two.claims();
    claims["scope"] = json!("records:read");
    let revoked = Client { token: two.sign(&claims), ..there.clone() };
    revoked.get("/api/v1/records?zone=example.com.").await.expect(200);
    let revoke = json!({ "jti": claims["jti"] });
    olga.client.json("POST", "/api/v1/users/me/revoked", &revoke).await.expect(204);
    let took = until(&revoked, "TOKEN_REVOKED").await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    clients[1].get("/api/v1/records?zone=example.com.").await.expect(200);
    // An account: what it may is another.
    let admin = office.client();
    let spare = json!({ "email": "spare@example.org", "operator": true });
    admin.json("POST", "/api/v1/users", &spare).await.expect(201);
    let of_olga = format!("/api/v1/users/{}", three.sub);
    admin.json("PATCH", &of_olga, &json!({ "operator": false })).await.expect(200);
    let since = Instant::now();
    while clients[2].get("/api/v1/records?zone=example.com.").await.status != 404 {
        assert!(since.elapsed() < Duration::from_secs(1), "it may still");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    admin.delete(&of_olga).await.expect(204);
    let took = until_unknown(&clients[2]).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    if let Some(other) = other {
        other.stop().await;
    }
    office.server.stop().await;
}

/// What was revoked longer ago than is asked for again and again is known to one that begins, before it lets anybody in.
#[tokio::test]
async fn what_was_revoked_is_known_to_one_that_begins_later() {
    let office = Office::open().await;
    let olga = operator(&office).await;
    let signer = key(&olga, &json!({})).await;
    let mut claims = signer.claims();
    claims["scope"] = json!("records:read");
    let revoked = Client { token: signer.sign(&claims), ..office.client().clone() };
    revoked.get("/api/v1/records?zone=example.com.").await.expect(200);
    let revoke = json!({ "jti": claims["jti"] });
    olga.client.json("POST", "/api/v1/users/me/revoked", &revoke).await.expect(204);
    let (folder, replica, token) = office.server.stop().await;
    let mut connection = beside(folder.path()).await;
    connection.query("UPDATE revocations SET at_us = at_us - 120000000").execute().await.unwrap();
    drop(connection);
    let aud = signer.aud.clone();
    let again =
        Server::start_in(folder, replica, Some(token), move |config| config.api.public_url = Some(aud)).await;
    let client = Client { address: again.client.address, ..revoked };
    let refused = client.get("/api/v1/records?zone=example.com.").await.expect(401);
    assert_eq!(refused.code(), "TOKEN_REVOKED");
    // Others of the same key go on.
    signer
        .client(&client, "records:read", &Value::Null)
        .get("/api/v1/records?zone=example.com.")
        .await
        .expect(200);
    again.stop().await;
}

/// How long until nobody knows the key of a client.
async fn until_unknown(client: &Client) -> Duration {
    let since = Instant::now();
    while client.get("/api/v1/records?zone=example.com.").await.status != 401 {
        assert!(since.elapsed() < Duration::from_secs(10), "it is known for ever");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    since.elapsed()
}

#[tokio::test]
async fn a_token_of_a_key_for_single_use_is_good_once() {
    let office = Office::open().await;
    let olga = operator(&office).await;
    let signer = key(&olga, &json!({ "single_use": true })).await;
    let client = signer.client(office.client(), "records:read", &Value::Null);
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let client = client.clone();
        asking.spawn(async move { client.get("/api/v1/records?zone=example.com.").await });
    }
    let answers = asking.join_all().await;
    let good = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(good, 1);
    assert!(
        answers.iter().filter(|answer| answer.status != 200).all(|answer| answer.code() == "TOKEN_REVOKED")
    );
    // The next is good.
    signer
        .client(office.client(), "records:read", &Value::Null)
        .get("/api/v1/records?zone=example.com.")
        .await
        .expect(200);
    office.server.stop().await;
}

#[tokio::test]
async fn a_token_is_taken_for_what_it_is_alone() {
    let office = Office::open().await;
    let olga = operator(&office).await;
    let signer = key(&olga, &json!({})).await;
    let anna = office.somebody("anna@example.org").await;
    let of_anna = key(&anna, &json!({})).await;
    let ask = async |token: String| {
        let client = Client { token, ..office.client().clone() };
        client.get("/api/v1/records?zone=example.com.").await
    };
    let with = |name: &str, value: Value| {
        let mut claims = signer.claims();
        claims["scope"] = json!("records:read");
        claims[name] = value;
        signer.sign(&claims)
    };
    ask(with("x", json!(1))).await.expect(200);
    // Somebody else's account under one's own key.
    for (name, value) in [
        ("sub", json!(of_anna.sub)),
        ("iss", json!(of_anna.sub)),
        ("aud", json!("https://other.test")),
        ("exp", json!(now_s() - 31)),
        ("exp", json!(now_s() + 400)),
        ("iat", json!(now_s() + 60)),
        ("nbf", json!(now_s() + 60)),
        ("jti", json!("")),
    ] {
        assert_eq!(
            ask(with(name, value.clone())).await.expect(401).code(),
            "UNAUTHENTICATED",
            "{name} {value}"
        );
    }
    let forged = Signer { sub: signer.sub.clone(), kid: signer.kid.clone(), ..Signer::new("", &signer.aud) };
    ask(forged.token("admin", &Value::Null)).await.expect(401);
    for kid in ["", "x", "00000000-0000-4000-8000-000000000000", "' OR 1=1 --", "../../etc/passwd"] {
        let other = Signer { kid: kid.to_owned(), sub: signer.sub.clone(), ..Signer::new("", &signer.aud) };
        ask(other.token("admin", &Value::Null)).await.expect(401);
    }
    // A key that has ended.
    let soon = time::OffsetDateTime::now_utc() + Duration::from_secs(2);
    let soon = soon.format(&time::format_description::well_known::Rfc3339).unwrap();
    let ending = key(&olga, &json!({ "expires_at": soon })).await;
    ask(ending.token("records:read", &Value::Null)).await.expect(200);
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    assert_eq!(ask(ending.token("records:read", &Value::Null)).await.expect(401).code(), "TOKEN_REVOKED");
    office.server.stop().await;
}
