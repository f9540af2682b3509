//! Many tenants make zones at, above and below the same names at once, through as many control planes as the database takes: no
//! zone ends up right below one of somebody else's who has not granted that (threat model R9).

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::concurrency::seed;
use crate::harness::Client;
use crate::office::{Office, PASSWORD};
use crate::tenants::{with_tenant, zone};

const TENANTS: usize = 5;
/// Requests in flight at once.
const AT_ONCE: usize = 48;

/// Somebody with a token that lasts.
struct Tenant {
    client: Client,
    number: u64,
}

async fn tenant(office: &Office, place: usize) -> Tenant {
    let (person, number) = with_tenant(office, &format!("tenant{place}@example.org")).await;
    let token = json!({ "name": "storm", "scope": "domains:read domains:write", "password": PASSWORD });
    let token = person.client.json("POST", "/api/v1/tokens", &token).await.expect(201).json();
    let token = token["token"].as_str().unwrap().to_owned();
    Tenant { client: Client { token, ..person.client.clone() }, number }
}

/// A name somewhere in one of few trees, so that many are above or below each other.
fn any(random: &mut ChaCha8Rng, trees: usize) -> String {
    let mut name = format!("t{}.example.", random.random_range(0..trees));
    for _ in 0..[0, 0, 1, 1, 1, 2, 2, 3][random.random_range(0..8)] {
        name = format!("{}.{name}", ["a", "b"][random.random_range(0..2)]);
    }
    name
}

/// All zones with whose they are, as an operator sees them.
async fn all(operator: &Client) -> BTreeMap<String, u64> {
    let (mut zones, mut cursor) = (BTreeMap::new(), String::new());
    loop {
        let page = operator.get(&format!("/api/v1/domains?limit=1000{cursor}")).await.expect(200).json();
        for zone in page["items"].as_array().unwrap() {
            zones.insert(zone["name"].as_str().unwrap().to_owned(), zone["tenant"].as_u64().unwrap());
        }
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return zones,
        }
    }
}

async fn storm(office: &Office, addresses: &[std::net::SocketAddr]) {
    let claims = if std::env::var_os("GODWIT_LONG").is_some() { 10_000 } else { 500 };
    let trees = claims / 12;
    let seed = seed();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut tenants = Vec::new();
    for place in 0..TENANTS {
        tenants.push(tenant(office, place).await);
    }
    // The first shares one of its names with the second.
    zone(&tenants[0].client, "granted.example.").await.expect(201);
    let grant = format!("/api/v1/domains/granted.example./grants/{}", tenants[1].number);
    office.client().json("PUT", &grant, &json!({ "role": "admin" })).await.expect(200);
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    for claim in 0..claims {
        let name = if random.random_range(0..20) == 0 {
            format!("g{claim}.granted.example.")
        } else {
            any(&mut random, trees)
        };
        let tenant = &tenants[random.random_range(0..TENANTS)];
        let address = addresses[random.random_range(0..addresses.len())];
        let client = Client { address, ..tenant.client.clone() };
        let permit = room.clone().acquire_owned().await.unwrap();
        let number = tenant.number;
        running.spawn(async move {
            let answer = loop {
                let answer = zone(&client, &name).await;
                // Two met, or there is too much to do: nothing was said about the name.
                let met = answer.status == 409 && answer.text.contains("at the same moment");
                if !met && ![429, 503].contains(&answer.status.as_u16()) {
                    break answer;
                }
            };
            drop(permit);
            (name, number, answer.status.as_u16(), answer.code())
        });
    }
    let mut made: BTreeMap<String, u64> = BTreeMap::new();
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    while let Some(done) = running.join_next().await {
        let (name, number, status, code) = done.unwrap();
        if status == 201 {
            assert_eq!(made.insert(name.clone(), number), None, "{name} was made twice; GODWIT_SEED={seed}");
        } else {
            assert!([403, 409].contains(&status), "{name}: {status} {code}; GODWIT_SEED={seed}");
            *refused.entry(code).or_default() += 1;
        }
    }
    let zones = all(office.client()).await;
    for (name, number) in &made {
        assert_eq!(zones.get(name), Some(number), "{name}; GODWIT_SEED={seed}");
    }
    assert_eq!(zones.len(), made.len() + 2, "GODWIT_SEED={seed}");
    let mut below = 0;
    for (name, owner) in &zones {
        let mut above = name.split_once('.').unwrap().1;
        while !above.is_empty() {
            if let Some(other) = zones.get(above) {
                below += 1;
                let is_granted = above == "granted.example." && *owner == tenants[1].number;
                assert!(
                    other == owner || is_granted,
                    "{name} of {owner} is below {above} of {other}; GODWIT_SEED={seed}"
                );
                break;
            }
            above = above.split_once('.').unwrap().1;
        }
    }
    // All of it happened: names below one's own, and claims that came too late above and below somebody else's.
    assert!(below > claims / 50 && made.len() > claims / 10, "{below} of {}; GODWIT_SEED={seed}", made.len());
    for code in ["FORBIDDEN", "CONFLICT", "DOMAIN_EXISTS"] {
        assert!(
            refused.get(code).is_some_and(|times| *times > claims / 100),
            "{refused:?}; GODWIT_SEED={seed}"
        );
    }
    let (ours, granted): (Vec<_>, Vec<_>) = zones
        .iter()
        .filter(|(name, _)| name.ends_with(".granted.example."))
        .partition(|(_, owner)| **owner == tenants[0].number);
    assert!(!ours.is_empty() && !granted.is_empty(), "GODWIT_SEED={seed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r9_of_many_claims_at_once_no_two_owners_are_on_one_path() {
    // Tokens are good for what the API says that it is reached at.
    let public = || Some("http://127.0.0.1:9".to_owned());
    let office = Office::open_with(|config| config.api.public_url = public()).await;
    let first = office.client().address;
    let folder = office.server.folder.clone();
    let beside = match crate::DATABASE {
        godwit_controlplane::store::Kind::Sqlite => None,
        godwit_controlplane::store::Kind::Postgres => Some(
            crate::harness::Server::start_in(
                folder,
                crate::replica::Replica::default(),
                Some(office.client().token.clone()),
                |config| {
                    config.api.public_url = public();
                    config.names.require_proof = false;
                    config.names.quarantine_days = 0;
                },
            )
            .await,
        ),
    };
    let addresses: Vec<_> =
        [Some(first), beside.as_ref().map(|server| server.client.address)].into_iter().flatten().collect();
    storm(&office, &addresses).await;
    if let Some(beside) = beside {
        beside.stop().await;
    }
    office.server.stop().await;
}
