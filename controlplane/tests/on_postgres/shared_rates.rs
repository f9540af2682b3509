//! Several control planes on one database and one Redis: what one lets through is counted by the other.

use godwit_controlplane::Config;
use godwit_testkit::servers::Redis;
use serde_json::json;

use crate::harness::{Client, Server, folder};
use crate::rates::{at_once, counted, until_shared};
use crate::replica::Replica;

#[tokio::test]
async fn two_control_planes_share_a_limit() {
    let redis = Redis::shared();
    let prefix = redis.prefix();
    let adjust = |config: &mut Config| {
        config.limits.redis_timeout_ms = 10_000;
        config.redis.limits_url = Some(redis.url(2));
        config.redis.prefix = prefix.clone();
        config.limits.token_reads = at_once(10);
    };
    let folder = folder();
    let one = Server::start_in(folder.clone(), Replica::default(), None, adjust).await;
    let token = one.client.token.clone();
    let other = Server::start_in(folder, Replica::default(), Some(token), adjust).await;
    until_shared(&one, 1).await;
    until_shared(&other, 1).await;
    let client = counted(&one, "domains:read", json!({})).await;
    let there = Client { address: other.client.address, ..client.clone() };
    for n in 0..10 {
        let client = if n % 3 == 0 { &client } else { &there };
        let answer = client.get("/api/v1/domains").await.expect(200);
        assert_eq!(answer.header("ratelimit-remaining"), (9 - n).to_string());
    }
    for client in [&client, &there] {
        let refused = client.get("/api/v1/domains").await.expect(429);
        assert!(refused.text.contains("with this token"), "{}", refused.text);
    }
}
