//! Places against real servers: behind Sentinel, and a cluster.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::Result;
use godwit_redis::{Place, Timeouts};
use godwit_testkit::servers::{Cluster, Redis, Watched};

const TIMEOUTS: Timeouts = Timeouts { connect: Duration::from_secs(10), response: Duration::from_secs(10) };
const SOON: Duration = Duration::from_secs(60);

async fn set(place: &Place, key: &str) -> Result<i64> {
    let mut connection = place.connect(TIMEOUTS).await?;
    let mut pipeline = redis::pipe();
    pipeline.atomic().incr(key, 1).get(key);
    let (_, value): (i64, i64) = pipeline.query_async(&mut connection).await?;
    Ok(value)
}

#[tokio::test]
async fn one_server_has_databases_and_users() -> Result<()> {
    let server = Redis::start(&[])?;
    let place = Place::parse(&server.url(0))?.with_database(3);
    assert_eq!(set(&place, "x").await?, 1);
    assert_eq!(server.command(3, &["GET", "x"])?.trim(), "1");
    server.command(0, &["ACL", "SETUSER", "u", "on", ">p", "~*", "+@all"])?;
    let as_user = |password| Place::parse(&format!("{}&user=u&pass={password}", server.url(3)));
    assert_eq!(set(&as_user("p")?, "x").await?, 2);
    assert!(set(&as_user("wrong")?, "x").await.is_err());
    assert!(place.ports_now(TIMEOUTS).await.is_empty());
    Ok(())
}

/// Who connects after a failover finds who was promoted, without having been told anything.
#[tokio::test]
async fn the_master_is_who_sentinel_says() -> Result<()> {
    let watched = Watched::start()?;
    let place = Place::parse(&watched.url(2))?;
    assert_eq!(set(&place, "x").await?, 1);
    assert_eq!(watched.servers[0].command(2, &["GET", "x"])?.trim(), "1");
    assert_eq!(place.ports_now(TIMEOUTS).await.len(), 3, "of Sentinel, the master and the replica");
    let deadline = Instant::now() + SOON;
    while watched.servers[1].command(2, &["GET", "x"])?.trim() != "1" {
        assert!(Instant::now() < deadline, "the replica does not follow");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    watched.fail_over()?;
    while set(&place, "x").await.is_err() {
        assert!(Instant::now() < deadline, "nobody is promoted");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(watched.servers[1].command(2, &["GET", "x"])?.trim(), "2");
    Ok(())
}

#[tokio::test]
async fn keys_with_one_tag_change_together_in_a_cluster() -> Result<()> {
    let cluster = Cluster::start()?;
    let place = Place::parse(&cluster.url())?;
    for key in ["{a}:x", "{b}:x", "{c}:x", "{d}:x"] {
        assert_eq!(set(&place, key).await?, 1);
    }
    let ports: BTreeSet<u16> = cluster.ports().iter().copied().collect();
    let one = format!("redis+cluster://127.0.0.1:{}", cluster.ports()[1]);
    let found = Place::parse(&one)?.ports_now(TIMEOUTS).await;
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), ports);
    Ok(())
}

#[tokio::test]
async fn who_does_not_answer_is_given_up() -> Result<()> {
    let server = Redis::start(&[])?;
    server.pause()?;
    let timeouts = Timeouts { connect: Duration::from_millis(300), ..TIMEOUTS };
    assert!(Place::parse(&server.url(0))?.connect(timeouts).await.is_err());
    server.go_on()?;
    Ok(())
}
