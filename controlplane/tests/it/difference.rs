//! What differs from what a node holds: the same as a comparison with all of the index, whatever happened since somebody asked last.

use godwit_wire::feed::{Difference, Index, IndexEntry, PARTS, PartSums, part_of};
use godwit_wire::name::Name;
use serde_json::json;

use crate::harness::Server;
use crate::node::Node;
use crate::replica::KEY;

const DIFFERENCE: &str = "/internal/v1/difference";

pub(crate) fn zone(n: usize) -> String {
    format!("z{n}.example.")
}

fn sums(zones: &[IndexEntry]) -> PartSums {
    let mut sums = PartSums::default();
    for entry in zones {
        sums.add(&KEY, entry.zone.as_ref(), entry.version, entry.digest);
    }
    sums
}

async fn difference(node: &Node, held: &PartSums) -> Difference {
    let given = node.send("POST", DIFFERENCE, Some(&node.token), held.encode()).await.expect(200);
    Difference::verify(&given.body, &node.feed_keys[..1]).expect("not signed by the key that was told");
    Difference::decode(&given.body).unwrap()
}

/// All zones, by either way.
pub(crate) async fn listed(node: &Node) -> Vec<IndexEntry> {
    // An index is kept for a second.
    tokio::time::sleep(std::time::Duration::from_millis(1_050)).await;
    let index = Index::decode(&node.get("/internal/v1/index").await.expect(200).body).unwrap();
    let difference = difference(node, &PartSums::default()).await;
    assert_eq!(difference.zones, index.zones);
    assert_eq!(difference.sum, sums(&index.zones).total());
    index.zones
}

/// What differs from zones that were listed before.
pub(crate) async fn differs(node: &Node, before: &[IndexEntry], changed: &[usize]) {
    let found = difference(node, &sums(before)).await;
    let changed: Vec<Name> = changed.iter().map(|n| zone(*n).parse().unwrap()).collect();
    let mut parts: Vec<u16> = changed.iter().map(|zone| part_of(&KEY, zone.as_ref())).collect();
    parts.sort_unstable();
    parts.dedup();
    assert_eq!((0..PARTS).filter(|part| found.parts.contains(*part)).collect::<Vec<_>>(), parts);
    let mut total = sums(before).without(&found.parts);
    for entry in &found.zones {
        assert!(found.parts.contains(part_of(&KEY, entry.zone.as_ref())));
        total.add(sums(std::slice::from_ref(entry)).total());
    }
    assert_eq!(total, found.sum, "what is not listed is not as it was");
}

pub(crate) async fn put(server: &Server, n: usize, octet: u8) {
    let name = format!("www.{}", zone(n));
    let step = json!({"op": "put", "name": name, "type": "A", "value": [format!("192.0.2.{octet}")]});
    server.client.json("POST", "/api/v1/changes", &json!({"changes": [step]})).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p5_what_differs_is_what_the_index_has() {
    let server = Server::start().await;
    let node = Node::add(&server, "ns1").await;
    for n in 0..40 {
        server.client.json("POST", "/api/v1/domains", &json!({"name": zone(n)})).await.expect(201);
    }
    let all = listed(&node).await;
    assert_eq!(all.len(), 41, "the zone of the harness is there too");
    differs(&node, &all, &[]).await;
    put(&server, 3, 1).await;
    differs(&node, &all, &[3]).await;
    put(&server, 3, 2).await;
    put(&server, 7, 2).await;
    server.client.delete(&format!("/api/v1/domains/{}", zone(9))).await.expect(204);
    server.client.json("POST", "/api/v1/domains", &json!({"name": zone(50)})).await.expect(201);
    differs(&node, &all, &[3, 7, 9, 50]).await;
    server.client.json("POST", "/api/v1/domains", &json!({"name": zone(9)})).await.expect(201);
    differs(&node, &all, &[3, 7, 9, 50]).await;
    let all = listed(&node).await;
    assert_eq!(all.len(), 42);

    // Nobody tells any more what changed since: all zones are read.
    put(&server, 11, 3).await;
    let mut beside = server.beside().await;
    beside.query("DELETE FROM history").execute().await.unwrap();
    differs(&node, &all, &[11]).await;
    listed(&node).await;

    let refused =
        node.send("POST", DIFFERENCE, Some(&node.token), vec![0; PartSums::OCTETS - 32]).await.expect(400);
    assert_eq!(refused.code(), "MALFORMED_REQUEST");
    node.send("POST", DIFFERENCE, Some(&node.token), vec![0; PartSums::OCTETS + 1]).await.expect(413);
}
