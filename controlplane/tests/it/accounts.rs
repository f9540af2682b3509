//! Accounts, as people and programs see them: over HTTP, with the mail that goes out.

use std::time::Duration;

use godwit_controlplane::store::Kind;
use serde_json::{Value, json};
use totp_rs::{Algorithm, Builder, Secret};

use crate::harness::{Answer, Server};
use crate::office::{Office, PASSWORD, letters};

fn said(answer: &Answer) -> (u16, String, String) {
    let json = answer.json();
    (answer.status.as_u16(), answer.code(), json["error"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn an_account_is_made_when_its_address_is_proven() {
    let office = Office::open().await;
    office.register("Anna@Example.org", PASSWORD).await;
    let login = json!({ "email": "anna@example.org", "password": PASSWORD });
    let before = office.post("/api/v1/auth/login", login.clone()).await.expect(403);
    assert_eq!(before.code(), "EMAIL_NOT_VERIFIED");
    let token = office.link("Anna@Example.org", "/account/verify").await;
    let verify =
        |password: &str| office.post("/api/v1/auth/verify", json!({ "token": token, "password": password }));
    assert_eq!(verify("wrong password").await.expect(403).code(), "FORBIDDEN");
    let user = verify(PASSWORD).await.expect(201).json();
    assert_eq!((&user["email"], &user["operator"]), (&json!("Anna@Example.org"), &json!(false)));
    let again = verify(PASSWORD).await.expect(410);
    assert_eq!(again.code(), "LINK_EXPIRED");
    let tokens = office.post("/api/v1/auth/login", login).await.expect(200).json();
    assert_eq!((&tokens["token_type"], &tokens["expires_in"]), (&json!("Bearer"), &json!(300)));
    let anna = office.person(&tokens);
    let me = anna.client.get("/api/v1/users/me").await.expect(200).json();
    assert_eq!((&me["id"], &me["name"]), (&user["id"], &json!("Anna")));
    // It has no zones, and what is not its own it cannot touch.
    for path in ["/api/v1/nodes", "/api/v1/users", "/api/v1/jobs"] {
        assert_eq!(anna.client.get(path).await.expect(403).code(), "INSUFFICIENT_SCOPE", "{path}");
    }
    assert_eq!(anna.client.get("/api/v1/domains").await.expect(200).json()["items"], json!([]));
    let put = json!({ "changes": [{ "op": "put", "name": "a.example.com.", "type": "A", "value": ["192.0.2.1"] }] });
    anna.client.json("POST", "/api/v1/changes", &put).await.expect(404);
    office.server.stop().await;
}

#[tokio::test]
async fn strangers_do_not_learn_who_has_an_account() {
    let office = Office::open().await;
    office.somebody("anna@example.org").await;
    // Registering again is answered as the first time; the mail tells.
    office.register("anna@example.org", "another password").await;
    let letter = office.letter("anna@example.org", "has an account already").await;
    assert!(!letter.contains("token="), "{letter}");
    // Nor by logging in with what was registered: it waits either way.
    office.register("anna@example.org", "password of a thief").await;
    office.register("nobody@example.org", "password of a thief").await;
    let thief = async |email: &str| {
        let before = checks(&office.server);
        let login = json!({ "email": email, "password": "password of a thief" });
        let answer = said(&office.post("/api/v1/auth/login", login).await);
        (answer, checks(&office.server) - before)
    };
    let of_anna = thief("anna@example.org").await;
    assert_eq!((of_anna.0.1.as_str(), &of_anna), ("EMAIL_NOT_VERIFIED", &thief("nobody@example.org").await));
    office.letter("anna@example.org", "has an account already").await;
    office.letter("nobody@example.org", "/account/verify").await;
    let wrong = json!({ "email": "anna@example.org", "password": "wrong password" });
    let nobody = json!({ "email": "somebody@example.org", "password": "wrong password" });
    let wrong = said(&office.post("/api/v1/auth/login", wrong).await);
    assert_eq!(wrong, said(&office.post("/api/v1/auth/login", nobody).await));
    assert_eq!((wrong.0, wrong.1.as_str()), (401, "UNAUTHENTICATED"));
    office.somebody("bert@example.org").await;
    // And no sooner: as much is worked out for nobody as for somebody.
    let work = async |email: &str, password: &str| {
        let before = checks(&office.server);
        office.post("/api/v1/auth/login", json!({ "email": email, "password": password })).await.expect(401);
        checks(&office.server) - before
    };
    let long = "x".repeat(2_000);
    for (email, password) in
        [("bert@example.org", "wrong"), ("somebody@example.org", "wrong"), ("somebody@example.org", &long)]
    {
        assert_eq!(work(email, password).await, 1, "{email}");
    }
    for email in ["nobody@example.org", "anna@example.org"] {
        let sent = office.post("/api/v1/auth/password/forgot", json!({ "email": email })).await.expect(202);
        assert_eq!(sent.json(), json!({ "state": "sent" }));
    }
    office.link("anna@example.org", "/account/password").await;
    assert!(letters(&office.mail).is_empty(), "nobody@example.org got mail");
    office.server.stop().await;
}

/// Whoever registers somebody else's address gets nothing of the account that its owner makes.
#[tokio::test]
async fn a_registration_is_proven_by_its_own_link() {
    let office = Office::open().await;
    office.register("anna@example.org", PASSWORD).await;
    let of_anna = office.link("anna@example.org", "/account/verify").await;
    office.register("anna@example.org", "password of a thief").await;
    let of_thief = office.link("anna@example.org", "/account/verify").await;
    let verify = |token: &str, password: &str| {
        office.post("/api/v1/auth/verify", json!({ "token": token, "password": password }))
    };
    // Also where she follows the link that the thief had sent to her.
    verify(&of_thief, PASSWORD).await.expect(403);
    verify(&of_anna, PASSWORD).await.expect(201);
    verify(&of_thief, "password of a thief").await.expect(410);
    let thief = json!({ "email": "anna@example.org", "password": "password of a thief" });
    office.post("/api/v1/auth/login", thief).await.expect(401);
    office.log_in("anna@example.org", PASSWORD).await;
    office.server.stop().await;
}

/// How many passwords were worked on.
fn checks(server: &Server) -> u64 {
    let text = server.metrics();
    let value = text.lines().find_map(|line| line.strip_prefix("godwit_controlplane_password_checks_total "));
    value.unwrap_or_else(|| panic!("{text}")).parse().unwrap()
}

/// The code of an app for a secret, so many steps from now.
pub(crate) fn code(secret: &str, steps: u64) -> String {
    let totp =
        Builder::new().with_algorithm(Algorithm::SHA1).with_secret(Secret::try_from_base32(secret).unwrap());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    totp.build().unwrap().generate(now + steps * 30).to_string()
}

#[tokio::test]
async fn codes_are_asked_for_and_work_once() {
    let office = Office::open().await;
    let anna = office.somebody("anna@example.org").await;
    let offer = |password: &str| {
        let (client, body) = (anna.client.clone(), json!({ "password": password }));
        async move { client.json("POST", "/api/v1/users/me/totp", &body).await }
    };
    offer("wrong password").await.expect(403);
    let offered = offer(PASSWORD).await.expect(200).json();
    let secret = offered["secret"].as_str().unwrap();
    assert!(offered["url"].as_str().unwrap().contains(&format!("secret={secret}")));
    // Not before a code of it was seen.
    office.log_in("anna@example.org", PASSWORD).await;
    let confirm = |code: String| {
        let (client, body) = (anna.client.clone(), json!({ "code": code }));
        async move { client.json("POST", "/api/v1/users/me/totp/confirm", &body).await }
    };
    confirm("000000x".to_owned()).await.expect(403);
    let confirmed = code(secret, 0);
    let given = confirm(confirmed.clone()).await.expect(200).json();
    let recovery: Vec<&str> =
        given["recovery_codes"].as_array().unwrap().iter().map(|code| code.as_str().unwrap()).collect();
    assert_eq!(recovery.len(), 10);
    offer(PASSWORD).await.expect(409);
    let login = |code: Option<&str>| {
        let mut body = json!({ "email": "anna@example.org", "password": PASSWORD });
        if let Some(code) = code {
            body["code"] = json!(code);
        }
        office.post("/api/v1/auth/login", body)
    };
    assert_eq!(login(None).await.expect(401).code(), "TOTP_REQUIRED");
    assert_eq!(login(Some("")).await.expect(401).code(), "UNAUTHENTICATED");
    assert_eq!(
        login(Some(&confirmed)).await.expect(401).code(),
        "UNAUTHENTICATED",
        "it was used to begin with"
    );
    let next = code(secret, 1);
    login(Some(&next)).await.expect(200);
    assert_eq!(login(Some(&next)).await.expect(401).code(), "UNAUTHENTICATED", "used");
    login(Some(&recovery[0].to_uppercase())).await.expect(200);
    assert_eq!(login(Some(recovery[0])).await.expect(401).code(), "UNAUTHENTICATED", "used");
    assert_eq!(anna.client.get("/api/v1/users/me").await.expect(200).json()["recovery_codes_left"], 9);
    let end = json!({ "password": PASSWORD, "code": recovery[1] });
    let none = json!({ "password": PASSWORD });
    assert_eq!(
        anna.client.json("DELETE", "/api/v1/users/me/totp", &none).await.expect(401).code(),
        "TOTP_REQUIRED"
    );
    anna.client.json("DELETE", "/api/v1/users/me/totp", &end).await.expect(204);
    office.letter("anna@example.org", "asks for no codes").await;
    // So many attempts were made that others have to wait: from elsewhere, and by a session, it goes on.
    assert_eq!(anna.client.get("/api/v1/users/me").await.expect(200).json()["totp"], false);
    office.server.stop().await;
}

#[tokio::test]
async fn another_address_is_proven_before_it_counts() {
    let office = Office::open().await;
    let anna = office.somebody("anna@example.org").await;
    office.somebody("bert@example.org").await;
    // A link that was sent before is good no more once the address is another.
    office.post("/api/v1/auth/password/forgot", json!({ "email": "anna@example.org" })).await.expect(202);
    let old_link = office.link("anna@example.org", "/account/password").await;
    let ask = |email: &str, password: &str| {
        let (client, body) = (anna.client.clone(), json!({ "password": password, "email": email }));
        async move { client.json("POST", "/api/v1/users/me/email", &body).await }
    };
    ask("anna@example.net", "wrong password").await.expect(403);
    ask("no address", PASSWORD).await.expect(422);
    ask("bert@example.org", PASSWORD).await.expect(202);
    let taken = office.link("bert@example.org", "/account/email").await;
    let confirm = |token: &str| office.post("/api/v1/auth/email", json!({ "token": token }));
    assert_eq!(confirm(&taken).await.expect(409).code(), "USER_EXISTS");
    ask("anna@example.net", PASSWORD).await.expect(202);
    let link = office.link("anna@example.net", "/account/email").await;
    assert_eq!(anna.client.get("/api/v1/users/me").await.expect(200).json()["email"], "anna@example.org");
    assert_eq!(
        confirm(&taken).await.expect(410).code(),
        "LINK_EXPIRED",
        "the last that was asked for counts"
    );
    confirm(&link).await.expect(204);
    assert_eq!(anna.client.get("/api/v1/users/me").await.expect(200).json()["email"], "anna@example.net");
    office.letter("anna@example.org", "has the address anna@example.net now").await;
    let reset = json!({ "token": old_link, "password": "a new password" });
    office.post("/api/v1/auth/password/reset", reset).await.expect(410);
    office.log_in("anna@example.net", PASSWORD).await;
    office
        .post("/api/v1/auth/login", json!({ "email": "anna@example.org", "password": PASSWORD }))
        .await
        .expect(401);
    office.server.stop().await;
}

#[tokio::test]
async fn who_leaves_takes_everything_along() {
    let office = Office::open().await;
    let anna = office.somebody("anna@example.org").await;
    let renamed = anna.client.json("PATCH", "/api/v1/users/me", &json!({ "name": "Änna" })).await.expect(200);
    assert_eq!(renamed.json()["name"], "Änna");
    let export = anna.client.get("/api/v1/users/me/export").await.expect(200);
    assert!(export.header("content-disposition").contains("account.json"));
    let kept = export.json();
    assert_eq!((&kept["user"]["name"], kept["sessions"].as_array().unwrap().len()), (&json!("Änna"), 1));
    let done: Vec<&str> =
        kept["audit"].as_array().unwrap().iter().map(|deed| deed["action"].as_str().unwrap()).collect();
    assert_eq!(done, ["user.rename", "login", "user.verify"]);
    assert!(!export.text.contains("argon2"));
    let leave = |body: Value| {
        let client = anna.client.clone();
        async move { client.json("DELETE", "/api/v1/users/me", &body).await }
    };
    leave(json!({ "password": "wrong password" })).await.expect(403);
    leave(json!({ "password": PASSWORD })).await.expect(204);
    anna.until_refused().await;
    office.post("/api/v1/auth/refresh", json!({ "refresh_token": anna.refresh })).await.expect(401);
    office
        .post("/api/v1/auth/login", json!({ "email": "anna@example.org", "password": PASSWORD }))
        .await
        .expect(401);
    office.letter("anna@example.org", "was deleted").await;
    // The address is free again.
    office.somebody("anna@example.org").await;
    office.server.stop().await;
}

#[tokio::test]
async fn operators_manage_accounts() {
    let office = Office::open().await;
    let admin = office.client();
    let added = json!({ "email": "olga@example.org", "name": "Olga", "operator": true });
    let added = admin.json("POST", "/api/v1/users", &added).await.expect(201).json();
    assert_eq!((&added["user"]["operator"], &added["user"]["password"]), (&json!(true), &json!(false)));
    let again = json!({ "email": "OLGA@example.org" });
    assert_eq!(admin.json("POST", "/api/v1/users", &again).await.expect(409).code(), "USER_EXISTS");
    let first = added["token"].as_str().unwrap();
    assert!(added["link"].as_str().unwrap().ends_with(&format!("/account/password?token={first}")));
    let id = added["user"]["id"].as_str().unwrap();
    let linked = admin.json("POST", &format!("/api/v1/users/{id}/link"), &json!({})).await;
    assert_eq!(linked.status.as_u16(), 400, "it takes no body");
    let linked =
        admin.send("POST", &format!("/api/v1/users/{id}/link"), &[], Vec::new()).await.expect(201).json();
    let reset = |token: &str| {
        office.post("/api/v1/auth/password/reset", json!({ "token": token, "password": PASSWORD }))
    };
    reset(first).await.expect(410);
    reset(linked["token"].as_str().unwrap()).await.expect(204);
    let olga = office.log_in("olga@example.org", PASSWORD).await;
    // She may do everything that the token may.
    olga.client.get("/api/v1/nodes").await.expect(200);
    olga.client.get("/api/v1/nodes").await.expect(200);
    let anna = office.somebody("anna@example.org").await;
    let listed = olga.client.get("/api/v1/users?limit=1").await.expect(200).json();
    assert_eq!(listed["items"][0]["email"], "olga@example.org");
    let next = format!("/api/v1/users?limit=1&cursor={}", listed["next"].as_str().unwrap());
    let listed = olga.client.get(&next).await.expect(200).json();
    assert_eq!((&listed["items"][0]["email"], &listed["next"]), (&json!("anna@example.org"), &Value::Null));
    let path = format!("/api/v1/users/{}", listed["items"][0]["id"].as_str().unwrap());
    // Not by somebody else.
    for (method, path) in [("GET", path.as_str()), ("DELETE", &path), ("GET", "/api/v1/users")] {
        assert_eq!(
            anna.client.send(method, path, &[], Vec::new()).await.expect(403).code(),
            "INSUFFICIENT_SCOPE"
        );
    }
    anna.client.json("PATCH", &path, &json!({ "operator": true })).await.expect(403);
    anna.client.json("POST", "/api/v1/users", &json!({ "email": "x@example.org" })).await.expect(403);
    olga.client.json("PATCH", &path, &json!({ "suspended": true })).await.expect(200);
    anna.until_refused().await;
    office.post("/api/v1/auth/refresh", json!({ "refresh_token": anna.refresh })).await.expect(401);
    let login = json!({ "email": "anna@example.org", "password": PASSWORD });
    assert_eq!(office.post("/api/v1/auth/login", login).await.expect(403).code(), "FORBIDDEN");
    olga.client
        .json("PATCH", &path, &json!({ "suspended": false, "totp": false, "name": "A" }))
        .await
        .expect(200);
    let anna = office.log_in("anna@example.org", PASSWORD).await;
    olga.client.json("PATCH", &path, &json!({ "totp": true })).await.expect(422);
    // What she may is decided with each request, not when her token was made.
    let of_olga = format!("/api/v1/users/{id}");
    for last in [json!({ "operator": false }), json!({ "suspended": true })] {
        assert_eq!(admin.json("PATCH", &of_olga, &last).await.expect(409).code(), "CONFLICT");
    }
    assert_eq!(admin.delete(&of_olga).await.expect(409).code(), "CONFLICT");
    olga.client.json("PATCH", &path, &json!({ "operator": true })).await.expect(200);
    admin.json("PATCH", &of_olga, &json!({ "operator": false })).await.expect(200);
    tokio::time::sleep(Duration::from_millis(600)).await;
    olga.client.get("/api/v1/nodes").await.expect(403);
    // Her token was made when she was none: it says less than she may now.
    anna.client.get("/api/v1/nodes").await.expect(403);
    let anna = office.person(
        &office
            .post("/api/v1/auth/refresh", json!({ "refresh_token": anna.refresh }))
            .await
            .expect(200)
            .json(),
    );
    anna.client.get("/api/v1/nodes").await.expect(200);
    anna.client.delete(&of_olga).await.expect(204);
    anna.client.get(&of_olga).await.expect(404);
    for unknown in ["/api/v1/users/x", "/api/v1/users/0199f3d2-7c1a-7d41-9e7b-3f0d5a1b2c3d"] {
        assert_eq!(admin.get(unknown).await.expect(404).code(), "USER_NOT_FOUND");
    }
    // The token of the first start is nobody's account.
    assert_eq!(admin.get("/api/v1/users/me").await.expect(403).code(), "FORBIDDEN");
    office.server.stop().await;
}

#[tokio::test]
async fn attempts_are_bounded() {
    let office = Office::open().await;
    let login = || office.post("/api/v1/auth/login", json!({ "email": "anna@example.org", "password": "x" }));
    for _ in 0..10 {
        login().await.expect(401);
    }
    let refused = login().await.expect(429);
    assert_eq!(refused.code(), "RATE_LIMITED");
    let after: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=31).contains(&after), "{after}");
    office.server.stop().await;
}

/// What a request about people must not be; and that it changes nothing.
#[tokio::test]
async fn requests_that_are_wrong_are_refused() {
    let office = Office::open().await;
    let json = [("content-type", "application/json")];
    for (body, status) in [
        ("", 400),
        ("{", 400),
        ("[]", 400),
        (r#"{"email":"a@example.org"}"#, 400),
        (r#"{"email":"a@example.org","password":"long enough","x":1}"#, 400),
        (r#"{"email":"a@example.org","email":"b@example.org","password":"long enough"}"#, 400),
        (r#"{"email":1,"password":"long enough"}"#, 400),
        (r#"{"email":"a@example.org\r\nBcc: b@example.org","password":"long enough"}"#, 422),
        (r#"{"email":"a@example.org","password":"short"}"#, 422),
        (r#"{"email":"a@example.org","password":"long enough","name":"a\nb"}"#, 422),
    ] {
        let answer = office.client().send("POST", "/api/v1/auth/register", &json, body.into()).await;
        assert_eq!(answer.status.as_u16(), status, "{body}: {}", answer.text);
    }
    let good = br#"{"email":"a@example.org","password":"long enough"}"#;
    office.client().send("POST", "/api/v1/auth/register", &[], good.to_vec()).await.expect(415);
    office.client().send("POST", "/api/v1/auth/register?x=1", &json, good.to_vec()).await.expect(400);
    let long = vec![b' '; (1 << 20) + 1];
    office.client().send("POST", "/api/v1/auth/register", &json, long).await.expect(413);
    office.client().get("/api/v1/auth/register").await.expect(405);
    assert!(letters(&office.mail).is_empty());
    office.server.stop().await;
}

/// Somebody who has the database, and not the key that is kept apart, can log in as nobody.
#[tokio::test]
async fn the_database_holds_no_secret() {
    let office = Office::open().await;
    let anna = office.somebody("anna@example.org").await;
    let offered = anna
        .client
        .json("POST", "/api/v1/users/me/totp", &json!({ "password": PASSWORD }))
        .await
        .expect(200)
        .json();
    let secret = offered["secret"].as_str().unwrap().to_owned();
    let confirm = json!({ "code": code(&secret, 0) });
    let given = anna.client.json("POST", "/api/v1/users/me/totp/confirm", &confirm).await.expect(200).json();
    office.post("/api/v1/auth/password/forgot", json!({ "email": "anna@example.org" })).await.expect(202);
    let link = office.link("anna@example.org", "/account/password").await;
    let octets = Secret::try_from_base32(&secret).unwrap();
    let secrets: Vec<Vec<u8>> = [
        PASSWORD,
        &secret,
        &link,
        &link[3..],
        &anna.refresh,
        &anna.client.token,
        given["recovery_codes"][0].as_str().unwrap(),
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .chain([octets.as_ref().to_vec()])
    .collect();
    let (folder, ..) = office.server.stop().await;
    let dump = match crate::DATABASE {
        Kind::Sqlite => std::fs::read(folder.path().join("godwit.sqlite")).unwrap(),
        Kind::Postgres => {
            let url = std::fs::read_to_string(folder.path().join(crate::harness::URL_FILE)).unwrap();
            let dump = std::process::Command::new("pg_dump").arg(&url).output().unwrap();
            assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
            dump.stdout
        }
    };
    let holds = |text: &[u8]| dump.windows(text.len()).any(|window| window == text);
    assert!(holds(b"anna@example.org"), "this is not the database");
    for secret in secrets {
        assert!(!holds(&secret), "the database holds {}", String::from_utf8_lossy(&secret));
        let hex: String = secret.iter().map(|octet| format!("{octet:02x}")).collect();
        assert!(!holds(hex.as_bytes()), "the database holds {hex}");
    }
}

/// Whoever opens a link, as mail servers do, uses nothing up: the button does.
#[tokio::test]
async fn pages_that_are_looked_at_use_nothing_up() {
    let office = Office::open().await;
    office.register("anna@example.org", PASSWORD).await;
    let token = office.link("anna@example.org", "/account/verify").await;
    let path = format!("/account/verify?token={token}");
    for _ in 0..3 {
        let page = office.client().send("GET", &path, &[("authorization", "")], Vec::new()).await.expect(200);
        assert!(
            page.text.contains(&format!("value=\"{token}\""))
                && page.header("content-type").starts_with("text/html")
        );
        let policy = page.header("content-security-policy");
        assert!(
            policy.contains("default-src 'none'")
                && policy.contains("form-action 'self'")
                && !policy.contains("unsafe"),
            "{policy}"
        );
        assert_eq!(
            (page.header("referrer-policy"), page.header("cache-control")),
            ("no-referrer", "no-store")
        );
    }
    let form = [("content-type", "application/x-www-form-urlencoded"), ("authorization", "")];
    let push = |path: &'static str, body: String| {
        let client = office.client().clone();
        async move { client.send("POST", path, &form, body.into()).await }
    };
    assert!(
        push("/account/verify", format!("token={token}&password=correct+horse+battery"))
            .await
            .expect(200)
            .text
            .contains("account is made")
    );
    assert!(
        push("/account/verify", format!("token={token}&password=correct+horse+battery"))
            .await
            .expect(410)
            .text
            .contains("was used")
    );
    push("/account/forgot", "email=anna%40example.org".to_owned()).await.expect(200);
    let token = office.link("anna@example.org", "/account/password").await;
    let short = push("/account/password", format!("token={token}&password=short")).await.expect(422);
    assert!(short.text.contains("at least 10"), "{}", short.text);
    push("/account/password", format!("token={token}&password=a+new+password")).await.expect(200);
    office.log_in("anna@example.org", "a new password").await;
    // What is put into a page cannot get out of its place.
    let page = office
        .client()
        .get("/account/password?token=%22%3E%3Cscript%3Ealert(1)%3C/script%3E")
        .await
        .expect(200);
    assert!(!page.text.contains("<script"), "{}", page.text);
    office.server.stop().await;
}

/// Where no mail is sent nobody is told that it was.
#[tokio::test]
async fn without_mail_operators_give_links() {
    let server = Server::start().await;
    let json = [("content-type", "application/json")];
    let register = br#"{"email":"anna@example.org","password":"correct horse"}"#;
    let forgot = br#"{"email":"anna@example.org"}"#;
    for (path, body) in
        [("/api/v1/auth/register", register.to_vec()), ("/api/v1/auth/password/forgot", forgot.to_vec())]
    {
        let refused = server.client.send("POST", path, &json, body).await.expect(403);
        assert_eq!(refused.code(), "FORBIDDEN", "{path}");
    }
    let added = server
        .client
        .json("POST", "/api/v1/users", &json!({ "email": "anna@example.org" }))
        .await
        .expect(201)
        .json();
    let reset = json!({ "token": added["token"], "password": PASSWORD });
    server.client.json("POST", "/api/v1/auth/password/reset", &reset).await.expect(204);
    let login = json!({ "email": "anna@example.org", "password": PASSWORD });
    server.client.json("POST", "/api/v1/auth/login", &login).await.expect(200);
    server.stop().await;
}
