//! The record cache while several control planes write without pause.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use godwit_testkit::servers::Redis;
use serde_json::json;

use crate::cache::{Running, read, start};
use crate::harness::folder;
use crate::replica::Replica;

const ZONES: usize = 4;
const WRITERS: usize = 12;
/// Places that are seen while all zones are being changed.
const PLACES: usize = 5;

/// At any moment some change of each zone waits for its sequence: the cache goes on all the same, and is one moment at any time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p5_the_cache_goes_on_while_every_zone_is_changed_without_pause() {
    let redis = Redis::start(&[]).unwrap();
    let folder = folder();
    let mut running = Running::start_in(folder.clone(), redis.url(0)).await;
    let token = running.server.client.token.clone();
    let other = start(folder, Replica::default(), Some(token), &redis.url(0)).await;
    for zone in 0..ZONES {
        running.zone(&format!("z{zone}.test")).await;
    }
    running.until_level().await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let server = if writer % 2 == 0 { &running.server } else { &other };
        let (client, stop) = (server.client.clone(), stop.clone());
        writers.spawn(async move {
            let mut count = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                let change = |zone: usize| {
                    let name = format!("w{writer}.z{zone}.test.");
                    json!({"op": "put", "name": name, "type": "TXT", "value": [count.to_string()]})
                };
                let changes: Vec<_> = (0..ZONES).map(change).collect();
                client.json("POST", "/api/v1/changes", &json!({ "changes": changes })).await.expect(200);
                count += 1;
            }
            count
        });
    }
    let (mut places, mut ahead) = (BTreeSet::new(), 0);
    let deadline = Instant::now() + Duration::from_secs(60);
    while places.len() < PLACES {
        let (place, _) = read(&mut running).await.unwrap();
        if places.insert(place.sequence) && place.settled > place.sequence {
            ahead += 1;
        }
        assert!(Instant::now() < deadline, "only {places:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let written: u32 = writers.join_all().await.iter().sum();
    println!("{written} writes, {} places, {ahead} of them ahead of the log", places.len());
    assert_eq!(running.until_level().await.len(), ZONES + 1);
    other.stop().await;
}
