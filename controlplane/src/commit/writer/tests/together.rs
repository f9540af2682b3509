//! Plain changes that are carried out together are what they would be one behind the other, whatever becomes of some of them.

use std::collections::BTreeMap;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::error::Cause;
use crate::model::change::IfMatch;

/// What the planted fault refuses.
const REFUSED_TTL: u32 = 666;

fn put(owner: &str, octet: u8, ttl: u32) -> Operation {
    Operation::Put {
        owner: owner.parse().unwrap(),
        rtype: Rtype::A,
        ttl: Some(ttl),
        rdata: vec![vec![192, 0, 2, octet].into()],
        mode: PutMode::Upsert,
        zone: None,
    }
}

fn code(result: &Result<Done, Problem>) -> Result<(), Code> {
    result.as_ref().map(|_| ()).map_err(|problem| problem.code)
}

/// Sends requests that wait together, and then lets the writer begin; what became of each.
async fn group(
    writer: Writer,
    running: &Running,
    requests: Vec<(Request, Respond)>,
) -> Vec<Result<Done, Problem>> {
    let mut waiting = Vec::new();
    for (request, respond) in requests {
        let committer = running.committer.clone();
        waiting.push(tokio::spawn(async move { committer.commit(request, respond).await }));
        queued(&running.committer.jobs, waiting.len()).await;
    }
    tokio::spawn(writer.run());
    let mut done = Vec::new();
    for one in waiting {
        done.push(in_time("it is answered", one).await.unwrap());
    }
    done
}

/// Zones at rest, in the database of a writer that does nothing yet.
async fn with_zones(writer: &mut Writer, names: &[&str]) {
    for (now_us, name) in (1..).zip(names) {
        let request = request(zone(name, PutMode::Create), false);
        let connection = &mut writer.line.connection;
        let mut plan = Plan::make(connection, &request, &Known::default(), &writer.rules).await.unwrap();
        let mut batch = Batch::of(connection);
        let with = With { digest_key: &writer.digest_key, sequence: None, rules: &writer.rules, now_us };
        record::write(&mut batch, connection, &request, &mut plan, with).await.unwrap();
        batch.run(connection).await.unwrap();
    }
}

/// Every record and version, after it was seen that all digests are those of the records. SOAs have serials, which follow the clock.
async fn content(running: &Running, key: &DigestKey) -> BTreeMap<String, String> {
    let mut connection = running.place.connect().await;
    let mut all = BTreeMap::new();
    for (_, entry) in zones::index(&mut connection, None, 10).await.unwrap() {
        all.insert(entry.zone.to_string(), entry.version.to_string());
        for (owner, rrset) in records(&mut connection, key, &entry).await {
            if rrset.rtype != Rtype::SOA {
                all.insert(format!("{owner} {}", rrset.rtype), format!("{} {:?}", rrset.ttl, rrset.rdata));
            }
        }
    }
    all
}

/// A change of one of few records, so that most of them meet.
fn any(random: &mut ChaCha8Rng) -> Request {
    let mut operation = || {
        let apex = ["a.test.", "sub.a.test.", "b.test."][random.random_range(0..3)];
        let owner: Name = match random.random_range(0..4) {
            0 => apex.parse().unwrap(),
            n => format!("w{n}.{apex}").parse().unwrap(),
        };
        let (rtype, octet) = (Rtype::A, random.random_range(1..4));
        let rdata: Vec<Box<[u8]>> = vec![vec![192, 0, 2, octet].into()];
        let (ttl, zone) = (Some(u32::from(octet) * 100), None);
        match random.random_range(0..6) {
            0 | 1 => Operation::Put { owner, rtype, ttl, rdata, mode: PutMode::Upsert, zone },
            2 => Operation::Put { owner, rtype, ttl, rdata, mode: PutMode::Create, zone },
            3 => Operation::AddValues { owner, rtype, ttl, rdata, zone },
            4 => Operation::RemoveValues { owner, rtype, rdata, zone },
            _ => Operation::Delete { owner, rtype: Some(rtype), zone },
        }
    };
    let (first, second) = (operation(), operation());
    let mut request = request(first, false);
    if random.random_bool(0.3) {
        request.operations.push(second);
    } else if random.random_bool(0.3) {
        request.if_match = Some(IfMatch::Versions(vec![random.random_range(1..20)]));
    }
    request
}

async fn together_is_one_behind_the_other(mut writer: Writer, running: Running) {
    const APEXES: [&str; 3] = ["a.test.", "sub.a.test.", "b.test."];
    let seed = std::env::var("GODWIT_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(7);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (mut other, beside) = at_rest(writer.line.connection.kind()).await;
    with_zones(&mut writer, &APEXES).await;
    with_zones(&mut other, &APEXES).await;
    let key = writer.digest_key.clone();
    let requests: Vec<Request> = (0..200).map(|_| any(&mut random)).collect();
    let again = |request: &Request| Request { id: Uuid::now_v7(), ..request.clone() };
    let sent = requests.iter().map(|request| (again(request), respond())).collect();
    let together = group(writer, &running, sent).await;
    tokio::spawn(other.run());
    let mut made = 0;
    for (place, (request, together)) in requests.into_iter().zip(together).enumerate() {
        let what = format!("{:?}", request.operations);
        let alone = beside.committer.commit(request, respond()).await;
        assert_eq!(code(&together), code(&alone), "GODWIT_SEED={seed}, request {place}: {what}");
        made += usize::from(alone.is_ok());
    }
    assert!((50..180).contains(&made), "{made} were made: nothing is said of others");
    assert_eq!(content(&running, &key).await, content(&beside, &key).await, "GODWIT_SEED={seed}");
}

/// The database refuses one, and another panics: the others are made, each once.
async fn where_one_fails_the_others_are_made(mut writer: Writer, running: Running) {
    with_zones(&mut writer, &["a.test.", "b.test."]).await;
    writer.line.connection.control(&[refusing(writer.line.connection.kind())]).await.unwrap();
    let key = writer.digest_key.clone();
    let ask = |owner, octet, ttl| (request(put(owner, octet, ttl), false), respond());
    let (panicking, _) = ask("p.b.test.", 9, 300);
    let panics: Respond = Box::new(|_, _| panic!("planted"));
    let requests = vec![
        ask("w.a.test.", 1, 300),
        ask("x.a.test.", 2, REFUSED_TTL),
        ask("w.a.test.", 3, 300),
        (panicking, panics),
        ask("w.b.test.", 4, 300),
    ];
    let done = group(writer, &running, requests).await;
    let codes: Vec<_> = done.iter().map(code).collect();
    let refused = Err(Code::DbUnavailable);
    assert_eq!(codes, [Ok(()), refused, Ok(()), Err(Code::Internal), Ok(())]);
    assert_eq!(done[1].as_ref().unwrap_err().cause, Cause::Any, "the database is there");
    let content = content(&running, &key).await;
    let has = |what: &str| content.get(what).map(String::as_str);
    assert_eq!((has("a.test."), has("b.test.")), (Some("3"), Some("2")), "versions: {content:?}");
    assert_eq!(has("w.a.test. A"), Some("300 [[192, 0, 2, 3]]"));
    assert_eq!((has("x.a.test. A"), has("p.b.test. A")), (None, None));
    let changes = running.count("SELECT count(*) FROM changes").await;
    assert_eq!(changes, 2 + 3, "of two zones and three changes");
}

/// A row that cannot be read is in the way of those who need it.
async fn what_is_damaged_is_no_harm_to_others(mut writer: Writer, running: Running) {
    with_zones(&mut writer, &["a.test.", "b.test.", "c.test."]).await;
    let connection = &mut writer.line.connection;
    connection
        .control(&["UPDATE zones SET digest = NULL WHERE version = 1 AND updated_at_us = 1"])
        .await
        .unwrap();
    let damage = match connection.kind() {
        Kind::Sqlite => "UPDATE rrsets SET rdata = x'ff' WHERE zone_id = (SELECT max(id) FROM zones)",
        Kind::Postgres => "UPDATE rrsets SET rdata = '\\xff' WHERE zone_id = (SELECT max(id) FROM zones)",
    };
    connection.control(&[damage]).await.unwrap();
    let ask = |owner| (request(put(owner, 1, 300), false), respond());
    let done = group(writer, &running, vec![ask("w.a.test."), ask("w.b.test."), ask("w.c.test.")]).await;
    let codes: Vec<_> = done.iter().map(code).collect();
    assert_eq!(codes, [Err(Code::Internal), Ok(()), Err(Code::Internal)]);
}

/// One is refused when a part of it is in the database already: it takes away more than is sent at once, and then cannot go on.
async fn who_is_refused_late_leaves_nothing(mut writer: Writer, running: Running) {
    const TYPES: std::ops::Range<u16> = 65_280..65_380;
    with_zones(&mut writer, &["a.test.", "b.test."]).await;
    let connection = &mut writer.line.connection;
    let [many, other]: [Name; 2] = ["w.a.test.", "w.b.test."].map(|name| name.parse().unwrap());
    let zone = zones::by_name(connection, many.as_ref().parent().unwrap()).await.unwrap().unwrap();
    let rrsets: Vec<Rrset> =
        TYPES.map(|rtype| Rrset::new(Rtype(rtype), 300, vec![[1].into()], Vec::new())).collect();
    let puts: Vec<(&Name, &Rrset)> = rrsets.iter().map(|rrset| (&many, rrset)).collect();
    let mut batch = Batch::of(connection);
    rrsets::put(&mut batch, connection, zone.id, &puts).await.unwrap();
    batch.run(connection).await.unwrap();
    let without_soa = "DELETE FROM rrsets WHERE rtype = 6 AND zone_id = (SELECT max(id) FROM zones)";
    connection.control(&[without_soa]).await.unwrap();
    let mut late = request(Operation::Delete { owner: many.clone(), rtype: None, zone: None }, false);
    late.operations.push(put(&other.to_string(), 1, 300));
    let good = request(put("x.a.test.", 2, 300), false);
    let done = group(writer, &running, vec![(late, respond()), (good, respond())]).await;
    let codes: Vec<_> = done.iter().map(code).collect();
    assert_eq!(codes, [Err(Code::Conflict), Ok(())]);
    let left = running.count("SELECT count(*) FROM rrsets WHERE rtype >= 65280").await;
    assert_eq!(usize::try_from(left).unwrap(), TYPES.len());
    assert_eq!(running.count("SELECT max(version) FROM zones").await, 2, "of the good one");
}

fn refusing(kind: Kind) -> &'static str {
    match kind {
        Kind::Sqlite => {
            "CREATE TRIGGER planted BEFORE INSERT ON rrsets WHEN NEW.ttl = 666 BEGIN SELECT RAISE(ABORT, 'planted'); END"
        }
        Kind::Postgres => "ALTER TABLE rrsets ADD CONSTRAINT planted CHECK (ttl <> 666)",
    }
}

on_both! {
    together_is_one_behind_the_other,
    where_one_fails_the_others_are_made,
    what_is_damaged_is_no_harm_to_others,
    who_is_refused_late_leaves_nothing,
}
