//! Zones from making to deleting, imports and exports.

use godwit_wire::rr::Rtype;
use serde_json::json;

use crate::harness::Server;

#[tokio::test]
async fn a_zone_lives_through_the_api_and_is_served() {
    let server = Server::start().await;
    let client = &server.client;
    let body = json!({"name": "Example.ORG", "ns": ["ns1.example.net.", "ns2.example.net."], "soa": {"minimum": 300}});
    let made = client.json("POST", "/api/v1/domains?wait=applied", &body).await.expect(201);
    assert_eq!(made.header("location"), "/api/v1/domains/example.org.");
    assert_eq!(made.header("etag"), "\"1\"");
    let domain = made.json();
    assert_eq!(domain["name"], "example.org.");
    assert_eq!(domain["ns"], json!(["ns1.example.net.", "ns2.example.net."]));
    assert_eq!(
        domain["soa"],
        json!({"mname": "ns1.example.net.", "rname": "hostmaster.example.org.", "refresh": 7200, "retry": 3600,
               "expire": 1_209_600, "minimum": 300})
    );
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let serial = domain["serial"].as_u64().unwrap();
    assert!(now.abs_diff(serial) < 60, "{serial}");
    assert_eq!(client.get("/api/v1/domains/example.org").await.expect(200).json(), domain);

    let patched = client
        .json(
            "PATCH",
            "/api/v1/domains/example.org.",
            &json!({"soa": {"refresh": 1800}, "ttl_policy": "keep"}),
        )
        .await
        .expect(200)
        .json();
    assert_eq!((&patched["soa"]["refresh"], &patched["soa"]["minimum"]), (&json!(1800), &json!(300)));
    assert!(patched["serial"].as_u64().unwrap() > serial);
    // With that policy, TTLs are as they come.
    let short = json!({"name": "a.example.org.", "type": "A", "ttl": 5, "value": ["192.0.2.1"]});
    client.json("POST", "/api/v1/records", &short).await.expect(201);

    let records = json!({"records": [
        {"name": "@", "type": "MX", "value": ["10 mail"]},
        {"name": "mail", "type": "AAAA", "value": ["2001:db8::1"]},
    ]});
    let put =
        client.json("PUT", "/api/v1/domains/example.org.?wait=applied", &records).await.expect(200).json();
    assert_eq!(put["soa"], patched["soa"], "what is not written stays");
    assert_eq!(server.replica.rrset("a.example.org.", Rtype::A), None);
    assert!(server.replica.rrset("mail.example.org.", Rtype::AAAA).is_some());

    client.delete("/api/v1/domains/example.org.?wait=applied&confirm=2").await.expect(204);
    client.get("/api/v1/domains/example.org.").await.expect(404);
    assert_eq!(server.replica.rrset("mail.example.org.", Rtype::AAAA), None);
    server.replica.assert_content();
}

#[tokio::test]
async fn a_zone_that_comes_back_goes_on_above_its_old_serial_and_version() {
    let server = Server::start().await;
    let ahead = "@ 60 IN SOA ns1 h 3900000000 1 1 1 1\n@ 60 NS ns1\n";
    let first = server.client.import("example.net.", ahead).await.expect(201).json();
    assert_eq!(first["domain"]["serial"], 3_900_000_000u32, "a serial ahead of the time is kept");
    server.client.delete("/api/v1/domains/example.net.").await.expect(204);
    let again =
        server.client.json("POST", "/api/v1/domains?wait=applied", &json!({"name": "example.net."})).await;
    let again = again.expect(201).json();
    assert_eq!(again["serial"], 3_900_000_001u32);
    assert_eq!(again["version"], 3);
    server.replica.assert_content();
}

#[tokio::test]
async fn a_zone_file_comes_in_and_goes_out_unchanged() {
    let server = Server::start().await;
    let text = "$ORIGIN example.net.\n$TTL 1d\n@ IN SOA ns1 hostmaster 7 2h 1h 2w 1m\n@ NS ns1\nns1 5 A 192.0.2.1\n\
                $GENERATE 1-3 h$ A 192.0.2.$\nw 30 TXT \"x\" ( \"y\" )\n*.w A 192.0.2.9\nsub NS ns.sub\nns.sub A 192.0.2.2\n";
    let imported = server.client.import("example.net.", text).await.expect(201).json();
    assert_eq!((&imported["rrsets"], &imported["changed"]), (&json!(10), &json!(10)));
    assert_eq!(imported["domain"]["ttl_policy"], "keep");
    let exported = server.client.get("/api/v1/domains/example.net./export").await.expect(200);
    assert!(exported.header("content-type").starts_with("text/dns"));
    assert!(exported.text.starts_with("example.net. 86400 IN SOA "), "{}", exported.text);
    assert_eq!(exported.text.lines().count(), 10);
    assert!(exported.text.contains("ns1.example.net. 5 IN A 192.0.2.1\n"));

    // The same again changes nothing; one record less is one change.
    let again = server.client.import("example.net.", &exported.text).await.expect(200).json();
    assert_eq!((&again["changed"], &again["domain"]["version"]), (&json!(0), &json!(1)));
    let less: String = exported
        .text
        .lines()
        .filter(|line| !line.starts_with("h2."))
        .fold(String::new(), |all, line| all + line + "\n");
    let less = server.client.import("example.net.", &less).await.expect(200).json();
    // The record and the SOA.
    assert_eq!((&less["changed"], &less["domain"]["version"]), (&json!(2), &json!(2)));
    server.client.get("/api/v1/records/h2.example.net.").await.expect(404);
    server.replica.assert_content();
}

#[tokio::test]
async fn a_bad_zone_file_is_refused_whole_and_the_place_is_named() {
    let server = Server::start().await;
    let text = "@ 60 IN SOA ns1 h 1 1 1 1 1\n@ 60 NS ns1\nwww 60 A 192.0.2.1\nbad 60 A 192.0.2.256\n";
    let answer = server.client.import("example.net.", text).await.expect(422);
    assert_eq!(answer.code(), "INVALID_VALUE");
    let said = answer.json()["error"].as_str().unwrap().to_owned();
    assert!(said.contains("4") && said.contains("192.0.2.256"), "{said}");
    server.client.get("/api/v1/domains/example.net.").await.expect(404);
}

#[tokio::test]
async fn a_signed_zone_changes_as_a_whole_only() {
    let server = Server::start().await;
    let signed = |serial: u32| {
        format!(
            "@ 60 IN SOA ns1 h {serial} 1 1 1 1\n@ 60 NS ns1\nw 60 A 192.0.2.1\n\
             w 60 RRSIG A 13 3 60 20300101000000 20200101000000 1 example.net. AAAA\n"
        )
    };
    let first = server.client.import("example.net.", &signed(5)).await.expect(201).json();
    assert_eq!((&first["domain"]["signed"], &first["domain"]["serial"]), (&json!(true), &json!(5)));
    let set = server.replica.rrset("w.example.net.", Rtype::A).unwrap();
    assert_eq!(set.rrsigs.len(), 1);
    let alone = json!({"type": "A", "value": ["192.0.2.2"]});
    let answer = server.client.json("PUT", "/api/v1/records/w.example.net.", &alone).await.expect(409);
    assert_eq!(answer.code(), "CONFLICT");
    // Signed anew it needs a serial that follows; Godwit cannot raise one that is signed.
    let stale = signed(5).replace("192.0.2.1", "192.0.2.3");
    assert_eq!(server.client.import("example.net.", &stale).await.expect(409).code(), "CONFLICT");
    let fresh = signed(6).replace("192.0.2.1", "192.0.2.3");
    assert_eq!(server.client.import("example.net.", &fresh).await.expect(200).json()["domain"]["serial"], 6);
    server.replica.assert_content();
}
