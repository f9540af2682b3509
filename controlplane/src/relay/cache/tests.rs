//! What is written is said to be of the moment that it is of.

use godwit_redis::Place;
use godwit_testkit::servers::Redis;
use godwit_wire::feed::digest::zone_term;
use godwit_wire::feed::{ChangeSet, Digest, SigningKey, ZoneChange, ZoneChangeKind};
use godwit_wire::name::Name;
use tokio::sync::watch;

use super::*;
use crate::commit;
use crate::model::zone::{TtlPolicy, Zone};
use crate::relay::{give, terms};
use crate::secrets::FeedKeys;
use crate::store::batch::Batch;
use crate::store::{Kind, changes, relay, testing, zones};

/// What is read may be ahead of the log: it is shown with the sequence up to which it is, once that is known. Until then it was not
/// judged, and nothing of it is there.
#[tokio::test]
async fn p5_what_is_ahead_of_the_log_is_shown_with_where_it_is_level() {
    let (mut database, _place) = testing::database(Kind::Postgres).await;
    let server = Redis::start(&[]).unwrap();
    let writer = &mut database.writer;
    let digest_key = DigestKey([1; 32]);
    relay::start(writer, &digest_key, 7).await.unwrap();
    let (id, state) = (uuid::Uuid::now_v7(), relay::read(writer).await.unwrap().unwrap());
    let apex: Name = "a.test.".parse().unwrap();
    let digest = Digest::from_bytes([8; 32]);
    let zone = Zone {
        id: 0,
        apex: apex.clone(),
        owner_number: 0,
        version: 1,
        serial: 1,
        ttl_policy: TtlPolicy::Keep,
        presigned: false,
        created_at_us: 1,
        updated_at_us: 1,
        digest,
        frozen_at_us: None,
    };
    zones::insert(writer, &zone, 0).await.unwrap();
    let root_change = zone_term(&digest_key, apex.as_ref(), 1, digest);
    let change = ZoneChange {
        zone: apex.clone(),
        owner: 0,
        base_version: 0,
        version: 1,
        kind: ZoneChangeKind::Replace(Vec::new()),
    };
    let mut payload = Vec::new();
    ChangeSet { id: id.into_bytes(), committed_at_us: 1, zones: vec![change] }.encode(&mut payload);
    let new = changes::New { id, at_us: 1, actor: "a", request_id: "", payload: &payload, settled_by: None };
    let mut batch = Batch::of(writer);
    changes::insert(&mut batch, &new, root_change, None);
    batch.run(writer).await.unwrap();
    let key = Arc::new(SigningKey::from_seed(&[1; 32]).unwrap());
    let trusted = [key.verifying_key(); 2];
    let term = watch::Sender::new(Some(state.epoch));
    let keys = Keys::with_prefix("t:");
    let cache = Cache {
        holding: Holding {
            place: Place::parse(&server.url(0)).unwrap(),
            reader: None,
            term: term.subscribe(),
        },
        keys: keys.clone(),
        log: Arc::new(Log::new(state, Arc::default(), Metrics::default())),
        readers: database.readers.clone(),
        digest_key,
        signer: Arc::new(Signer::new(FeedKeys { signing: key, trusted, number: 1 })),
        overtaken: commit::channel().0.overtaken(),
        metrics: Metrics::default(),
    };
    let running = tokio::spawn(terms::run(cache));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut connection = Place::parse(&server.url(0)).unwrap().connect(Cache::TIMEOUTS).await.unwrap();
    assert_eq!(
        place::head(&mut connection, &keys).await.unwrap(),
        None,
        "nobody knows yet where it is level"
    );
    let has_blob = async |connection: &mut Connection| -> bool {
        redis::cmd("EXISTS").arg(keys.zone(apex.as_wire())).query_async(connection).await.unwrap()
    };
    assert!(!has_blob(&mut connection).await, "it was not judged yet");
    writer.control(&[commit::begin_whole(Kind::Postgres)]).await.unwrap();
    let mut state = relay::hold(writer).await.unwrap();
    give::to_all(writer, &mut state, commit::COMMIT).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    let head = loop {
        let left = place::head(&mut connection, &keys).await.unwrap();
        if let Some(head) = place::signed(&left, &trusted) {
            break head;
        }
        assert!(Instant::now() < deadline, "nothing is shown");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!((head.place.generation, head.place.sequence, head.place.settled), (7, 0, 1));
    assert_eq!(head.sum, root_change);
    assert!(has_blob(&mut connection).await);
    running.abort();
}
