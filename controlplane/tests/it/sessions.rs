//! Sessions, as people, browsers and programs keep them: how they go on, are seen, and end.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Answer, Client};
use crate::office::{Office, PASSWORD};

#[tokio::test]
async fn a_refresh_token_is_good_once_and_ends_its_session_when_it_comes_twice() {
    let office = Office::open().await;
    let anna = office.somebody("anna@example.org").await;
    let other = office.log_in("anna@example.org", PASSWORD).await;
    let refresh = |token: &str| office.post("/api/v1/auth/refresh", json!({ "refresh_token": token }));
    let next = office.person(&refresh(&anna.refresh).await.expect(200).json());
    assert_eq!(next.session, anna.session);
    next.client.get("/api/v1/users/me").await.expect(200);
    let last = office.person(&refresh(&next.refresh).await.expect(200).json());
    let reused = refresh(&anna.refresh).await.expect(401);
    assert_eq!(reused.code(), "TOKEN_REVOKED");
    last.until_refused().await;
    assert_eq!(refresh(&last.refresh).await.expect(401).code(), "TOKEN_REVOKED");
    // The other session has nothing to do with it.
    other.client.get("/api/v1/users/me").await.expect(200);
    for made_up in ["", "gr_", "gr_AAAA", &anna.refresh[..70], "gw_x"] {
        assert_eq!(refresh(made_up).await.expect(401).code(), "UNAUTHENTICATED", "{made_up}");
    }
    let logout = json!({ "refresh_token": other.refresh });
    office.post("/api/v1/auth/logout", logout.clone()).await.expect(204);
    office.post("/api/v1/auth/logout", logout).await.expect(204);
    other.until_refused().await;
    office.server.stop().await;
}

/// Of many that come with the same token one gets the next, and that is good no more: it was in two hands.
#[tokio::test]
async fn of_many_exchanges_at_once_one_counts() {
    let office = Office::open().await;
    let anna = office.somebody("anna@example.org").await;
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (client, token) = (office.client().clone(), anna.refresh.clone());
        asking.spawn(async move {
            let body = serde_json::to_vec(&json!({ "refresh_token": token })).unwrap();
            client.send("POST", "/api/v1/auth/refresh", &[("content-type", "application/json")], body).await
        });
    }
    let answers = asking.join_all().await;
    let good: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 200).collect();
    assert_eq!(good.len(), 1);
    let next = office.person(&good[0].json());
    next.until_refused().await;
    office.server.stop().await;
}

#[tokio::test]
async fn another_password_ends_the_sessions_of_before() {
    let office = Office::open().await;
    let anna = office.somebody("anna@example.org").await;
    let other = office.log_in("anna@example.org", PASSWORD).await;
    let change = |present: &str, next: &str| {
        let body = json!({ "password": present, "new_password": next });
        let client = anna.client.clone();
        async move { client.json("POST", "/api/v1/users/me/password", &body).await }
    };
    assert_eq!(change("wrong password", "a new password").await.expect(403).code(), "FORBIDDEN");
    assert_eq!(change(PASSWORD, "short").await.expect(422).code(), "INVALID_VALUE");
    change(PASSWORD, "a new password").await.expect(204);
    other.until_refused().await;
    anna.client.get("/api/v1/users/me").await.expect(200);
    office.letter("anna@example.org", "was changed").await;
    // By a link: a password that is refused does not use it up, and all sessions end.
    let forgot = json!({ "email": "ANNA@example.org" });
    office.post("/api/v1/auth/password/forgot", forgot.clone()).await.expect(202);
    let link = office.link("anna@example.org", "/account/password").await;
    let reset = |token: &str, password: &str| {
        office.post("/api/v1/auth/password/reset", json!({ "token": token, "password": password }))
    };
    assert_eq!(reset(&link, "short").await.expect(422).code(), "INVALID_VALUE");
    reset(&link, "the third password").await.expect(204);
    assert_eq!(reset(&link, "the fourth password").await.expect(410).code(), "LINK_EXPIRED");
    anna.until_refused().await;
    office.log_in("anna@example.org", "the third password").await;
    for old in [PASSWORD, "a new password"] {
        office
            .post("/api/v1/auth/login", json!({ "email": "anna@example.org", "password": old }))
            .await
            .expect(401);
    }
    office.server.stop().await;
}

#[tokio::test]
async fn sessions_are_seen_and_ended() {
    let office = Office::open().await;
    let anna = office.somebody("anna@example.org").await;
    let bert = office.somebody("bert@example.org").await;
    let other = office.log_in("anna@example.org", PASSWORD).await;
    let third = office.log_in("anna@example.org", PASSWORD).await;
    let listed = anna.client.get("/api/v1/users/me/sessions").await.expect(200).json();
    let listed = listed["items"].as_array().unwrap();
    assert_eq!(listed.len(), 3);
    let current: Vec<&Value> = listed.iter().filter(|session| session["current"] == true).collect();
    assert_eq!(
        (current.len(), &current[0]["id"], &current[0]["address"]),
        (1, &json!(anna.session), &json!("127.0.0.1"))
    );
    for foreign in [bert.session.as_str(), "x", "0199f3d2-7c1a-7d41-9e7b-3f0d5a1b2c3d"] {
        let path = format!("/api/v1/users/me/sessions/{foreign}");
        assert_eq!(anna.client.delete(&path).await.expect(404).code(), "SESSION_NOT_FOUND");
    }
    bert.client.get("/api/v1/users/me").await.expect(200);
    anna.client.delete(&format!("/api/v1/users/me/sessions/{}", other.session)).await.expect(204);
    other.until_refused().await;
    assert_eq!(
        anna.client.delete("/api/v1/users/me/sessions").await.expect(200).json(),
        json!({ "ended": 1 })
    );
    third.until_refused().await;
    anna.client.get("/api/v1/users/me").await.expect(200);
    office.server.stop().await;
}

#[tokio::test]
async fn tokens_that_we_did_not_make_are_refused() {
    let office = Office::open().await;
    let anna = office.somebody("anna@example.org").await;
    let good = anna.client.token.clone();
    let parts: Vec<&str> = good.split('.').collect();
    let none = format!("eyJhbGciOiJub25lIiwia2lkIjoiayJ9.{}.", parts[1]);
    let cut = good[..good.len() - 4].to_owned();
    let long = format!("{good}{}", "A".repeat(9_000));
    for token in
        ["", ".", "a.b.c", "..", &none, &cut, &long, &format!("{}.{}.", parts[0], parts[1]), &anna.refresh]
    {
        let client = Client { token: token.to_owned(), ..anna.client.clone() };
        let answer = client.get("/api/v1/users/me").await.expect(401);
        assert_eq!(answer.code(), "UNAUTHENTICATED", "{token}");
    }
    // Another deployment's is none of ours.
    let other = Office::open().await;
    let client = Client { address: other.client().address, token: good };
    client.get("/api/v1/users/me").await.expect(401);
    anna.client.get("/api/v1/users/me").await.expect(200);
    office.server.stop().await;
    other.server.stop().await;
}

/// A browser keeps its session in a cookie that scripts do not see, and that pages of others cannot use.
#[tokio::test]
async fn a_browser_logs_in_with_a_cookie() {
    let office = Office::open().await;
    let anna = office.somebody("anna@example.org").await;
    let login = json!({ "email": "anna@example.org", "password": PASSWORD, "cookie": true });
    let answer = office.post("/api/v1/auth/login", login).await.expect(204);
    let set = answer.header("set-cookie").to_owned();
    for attribute in ["__Host-godwit=gs_", "; Path=/", "; Secure", "; HttpOnly", "; SameSite=Strict"] {
        assert!(set.contains(attribute), "{set}");
    }
    let cookie = set.split(';').next().unwrap();
    let send = async |method: &str, path: &str, more: &[(&str, &str)], body: &str| {
        let mut headers =
            vec![("authorization", ""), ("cookie", cookie), ("content-type", "application/json")];
        headers.extend_from_slice(more);
        office.client().send(method, path, &headers, body.as_bytes().to_vec()).await
    };
    let me = send("GET", "/api/v1/users/me", &[], "").await.expect(200).json();
    assert_eq!(me["email"], "anna@example.org");
    let rename = r#"{"name":"A"}"#;
    let here = format!("http://{}", office.client().address);
    for elsewhere in [&[][..], &[("sec-fetch-site", "cross-site")], &[("origin", "https://evil.test")]] {
        let refused = send("PATCH", "/api/v1/users/me", elsewhere, rename).await.expect(403);
        assert_eq!(refused.code(), "FORBIDDEN", "{elsewhere:?}");
        send("POST", "/api/v1/auth/logout", elsewhere, "{}").await.expect(403);
    }
    send("PATCH", "/api/v1/users/me", &[("sec-fetch-site", "same-origin")], rename).await.expect(200);
    send("PATCH", "/api/v1/users/me", &[("origin", &here)], rename).await.expect(200);
    // A token of a login has a session of its own; both are listed.
    let listed = anna.client.get("/api/v1/users/me/sessions").await.expect(200).json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 2);
    let forged = format!("{}A", &cookie[..cookie.len() - 1]);
    let headers = [("authorization", ""), ("cookie", forged.as_str())];
    let is_same = forged == cookie;
    let answer = office.client().send("GET", "/api/v1/users/me", &headers, Vec::new()).await;
    assert_eq!(answer.status == 200, is_same);
    let out =
        send("POST", "/api/v1/auth/logout", &[("sec-fetch-site", "same-origin")], "{}").await.expect(204);
    assert!(out.header("set-cookie").contains("Max-Age=0"), "{}", out.header("set-cookie"));
    let since = std::time::Instant::now();
    while send("GET", "/api/v1/users/me", &[], "").await.status != 401 {
        assert!(since.elapsed() < Duration::from_secs(1), "it goes on after a second");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    anna.client.get("/api/v1/users/me").await.expect(200);
    office.server.stop().await;
}
