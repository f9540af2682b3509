//! Names that tenants prove to be theirs by delegating them to name servers of a claim (threat model R10).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::net::{TcpListener, UdpSocket};

use crate::claims::{checked, claim, path, refused};
use crate::office::{Office, Person};
use crate::responder::{asked, serve};
use crate::tenants::{with_tenant, zone};

const A: u16 = 1;
const NS: u16 = 2;

/// What a server says of a name and a type.
#[derive(Clone)]
enum Says {
    /// It has these.
    Has(Vec<Vec<u8>>),
    /// Others do: name servers.
    Refers(Vec<Vec<u8>>),
    /// It serves no such zone.
    Refuses,
}

/// A name server, or a resolver, that knows some names; of others it says that they are not there. By UDP it says little.
#[derive(Clone)]
struct Speaker {
    address: SocketAddr,
    /// By name, small, with its final dot.
    says: Arc<Mutex<BTreeMap<(String, u16), Says>>>,
    /// How often it was asked.
    asked: Arc<AtomicUsize>,
}

impl Speaker {
    fn at(udp: UdpSocket, tcp: TcpListener) -> Speaker {
        let address = udp.local_addr().unwrap();
        let speaker = Speaker { address, says: Arc::default(), asked: Arc::default() };
        let answering = speaker.clone();
        serve(udp, tcp, move |question, is_udp| {
            let mut answer = answering.answer(question);
            if is_udp && answer.len() > 150 {
                // Cut (RFC 1035 §4.1.1).
                answer.truncate(question.len());
                answer[2] |= 2;
                answer[6..12].fill(0);
            }
            vec![answer]
        });
        speaker
    }

    /// One for each of these addresses, at one port.
    async fn start<const N: usize>(hosts: [&str; N]) -> [Speaker; N] {
        'other: loop {
            let mut sockets = Vec::new();
            let mut port = 0;
            for host in hosts {
                let Ok(udp) = UdpSocket::bind((host, port)).await else { continue 'other };
                port = udp.local_addr().unwrap().port();
                let Ok(tcp) = TcpListener::bind((host, port)).await else { continue 'other };
                sockets.push((udp, tcp));
            }
            let speakers: Vec<Speaker> =
                sockets.into_iter().map(|(udp, tcp)| Speaker::at(udp, tcp)).collect();
            return speakers.try_into().ok().unwrap();
        }
    }

    fn answer(&self, question: &[u8]) -> Vec<u8> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let (name, at) = asked(question);
        let rtype = u16::from_be_bytes([question[at], question[at + 1]]);
        let says = self.says.lock().unwrap().get(&(name, rtype)).cloned();
        let mut answer = question[..at + 4].to_vec();
        let (records, rtype, place) = match says {
            None => {
                answer[2] |= 0x84;
                answer[3] = 3;
                return answer;
            }
            Some(Says::Refuses) => {
                answer[2] |= 0x80;
                answer[3] = 5;
                return answer;
            }
            Some(Says::Has(records)) => {
                answer[2] |= 0x84;
                (records, rtype, 7)
            }
            Some(Says::Refers(records)) => {
                answer[2] |= 0x80;
                (records, NS, 9)
            }
        };
        answer[place] = u8::try_from(records.len()).unwrap();
        for record in records {
            answer.extend_from_slice(&[0xC0, 12]);
            answer.extend_from_slice(&rtype.to_be_bytes());
            answer.extend_from_slice(&[0, 1, 0, 0, 0, 60]);
            answer.extend_from_slice(&u16::try_from(record.len()).unwrap().to_be_bytes());
            answer.extend_from_slice(&record);
        }
        answer
    }

    fn says(&self, name: &str, rtype: u16, says: Says) {
        self.says.lock().unwrap().insert((name.to_owned(), rtype), says);
    }

    fn refers(&self, name: &str, to: &[&str]) {
        self.says(name, NS, Says::Refers(to.iter().map(|to| wire(to)).collect()));
    }

    /// As a resolver that leads to these name servers of a zone, which are at these addresses.
    fn leads(&self, zone: &str, servers: &[(&str, [u8; 4])]) {
        self.says(zone, NS, Says::Has(servers.iter().map(|(server, _)| wire(server)).collect()));
        for (server, address) in servers {
            self.says(server, A, Says::Has(vec![address.to_vec()]));
        }
    }
}

fn wire(name: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in name.split_terminator('.') {
        wire.push(u8::try_from(label.len()).unwrap());
        wire.extend_from_slice(label.as_bytes());
    }
    wire.push(0);
    wire
}

fn servers(claim: &Value) -> Vec<String> {
    let all = claim["name_servers"].as_array().unwrap().iter();
    all.map(|name| name.as_str().unwrap().to_owned()).collect()
}

const ONE: (&str, [u8; 4]) = ("ns1.above.example.", [127, 0, 0, 1]);
const TWO: (&str, [u8; 4]) = ("ns2.above.example.", [127, 0, 0, 2]);
const LIAR: (&str, [u8; 4]) = ("ns3.above.example.", [127, 0, 0, 3]);

/// A server that asks two resolvers of the test, which lead to two servers of the zone above; and one that lies, to which nobody leads.
async fn office(is_allowed: bool) -> (Office, [Speaker; 2], [Speaker; 3]) {
    let [one] = Speaker::start(["127.0.0.1"]).await;
    let [other] = Speaker::start(["127.0.0.1"]).await;
    let above = Speaker::start(["127.0.0.1", "127.0.0.2", "127.0.0.3"]).await;
    let resolvers = [one, other];
    resolvers.iter().for_each(|resolver| resolver.leads("above.example.", &[ONE, TWO]));
    let addresses = resolvers.iter().map(|resolver| resolver.address.to_string()).collect();
    let port = above[0].address.port();
    let office = Office::open_with(|config| {
        config.names = godwit_controlplane::config::Names::default();
        config.names.resolvers = addresses;
        config.names.name_servers = Some("ns.operator.example.".to_owned());
        config.names.parent_port = port;
        if is_allowed {
            config.egress.allow = vec!["127.0.0.0/8".to_owned()].try_into().unwrap();
        }
    });
    (office.await, resolvers, above)
}

/// Refers all servers to these for a name.
fn delegate(above: &[Speaker], name: &str, to: &[&str]) {
    above.iter().for_each(|server| server.refers(name, to));
}

/// Looks for the proof of a claim, and makes sure that nothing comes of it; gives what was found.
async fn pending(person: &Person, made: &Value, why: &str) -> String {
    let found = checked(&person.client, made).await;
    assert_eq!(found["state"], json!("pending"), "{why}: {found}");
    refused(person, found["name"].as_str().unwrap()).await;
    found["found"].as_str().unwrap().to_owned()
}

const NAME: &str = "custom.above.example.";
const ELSEWHERE: &str = "ns1.elsewhere.example.";

#[tokio::test]
async fn r10_a_name_is_proven_by_being_delegated_to_name_servers_of_its_claim() {
    let (office, _resolvers, above) = office(true).await;
    let (anna, _) = with_tenant(&office, "anna@example.org").await;
    let (bert, _) = with_tenant(&office, "bert@example.org").await;
    let made = claim(&anna.client, NAME).await;
    let own = servers(&made);
    let others = [claim(&bert.client, NAME).await, claim(&anna.client, "other.above.example.").await];
    let mut all: Vec<String> = others.iter().flat_map(servers).chain(own.clone()).collect();
    let (_, token) = made["txt"]["value"].as_str().unwrap().split_once('=').unwrap();
    for name in &all {
        let label = name.strip_suffix(".ns.operator.example.").unwrap();
        assert!(label.len() == 32 && label.bytes().all(|octet| octet.is_ascii_hexdigit()), "{name}");
        assert_ne!(label, token);
    }
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 6);
    assert_eq!(servers(&anna.client.get(&path(&made)).await.expect(200).json()), own);
    let said = pending(&anna, &made, "nothing is there").await;
    assert!(said.contains("the delegation: 0 of 2 resolvers have seen it, 2 have not"), "{said}");
    delegate(&above, NAME, &[ELSEWHERE, "x.ns.operator.example."]);
    pending(&anna, &made, "to somebody else").await;
    for (whose, claim) in ["another tenant's claim", "another name's claim"].iter().zip(&others) {
        let theirs = servers(claim);
        delegate(&above, NAME, &[&theirs[0], &theirs[1]]);
        pending(&anna, &made, whose).await;
    }
    // What somebody has there who serves both zones is no word of the zone above.
    for server in &above {
        server.says(NAME, NS, Says::Has(own.iter().map(|name| wire(name)).collect()));
    }
    pending(&anna, &made, "in a zone of its own").await;
    delegate(&above, NAME, &[ELSEWHERE, &own[1].to_uppercase()]);
    let found = checked(&anna.client, &made).await;
    assert_eq!(found["state"], json!("verified"), "{found}");
    zone(&anna.client, NAME).await.expect(201);
    zone(&anna.client, "deep.custom.above.example.").await.expect(201);
    office.server.stop().await;
}

#[tokio::test]
async fn r10_two_servers_of_the_zone_above_have_to_say_so() {
    let (office, _resolvers, [one, two, _]) = office(true).await;
    let (anna, _) = with_tenant(&office, "anna@example.org").await;
    let made = claim(&anna.client, NAME).await;
    let own = servers(&made);
    one.refers(NAME, &[&own[0]]);
    two.refers(NAME, &[ELSEWHERE]);
    pending(&anna, &made, "the other one denies it").await;
    two.says(NAME, NS, Says::Refuses);
    pending(&anna, &made, "the other one does not say").await;
    two.refers(NAME, &[&own[1]]);
    assert_eq!(checked(&anna.client, &made).await["state"], json!("verified"));
    office.server.stop().await;
}

#[tokio::test]
async fn r10_two_resolvers_have_to_lead_to_the_zone_above() {
    let (office, resolvers, [one, two, liar]) = office(true).await;
    let (anna, _) = with_tenant(&office, "anna@example.org").await;
    let made = claim(&anna.client, NAME).await;
    let own = servers(&made);
    delegate(&[one, two], NAME, &[ELSEWHERE]);
    liar.refers(NAME, &[&own[0], &own[1]]);
    resolvers[1].leads("above.example.", &[LIAR]);
    let said = pending(&anna, &made, "one leads somewhere else").await;
    assert!(said.contains("the delegation: 1 of 2 resolvers have seen it, 1 have not"), "{said}");
    office.server.stop().await;
}

/// Whoever had the name of a name server would answer for the zones that are delegated to it.
#[tokio::test]
async fn r10_no_tenant_takes_a_name_of_name_servers() {
    let (office, _resolvers, _above) = office(true).await;
    let (anna, _) = with_tenant(&office, "anna@example.org").await;
    let (bert, _) = with_tenant(&office, "bert@example.org").await;
    let own = servers(&claim(&anna.client, NAME).await);
    for name in [&own[0], &format!("deep.{}", own[1])] {
        assert_eq!(zone(&bert.client, name).await.expect(403).code(), "NAME_RESERVED", "{name}");
        let claim = bert.client.json("POST", "/api/v1/claims", &json!({ "name": name })).await;
        assert_eq!(claim.expect(403).code(), "NAME_RESERVED", "{name}");
    }
    // Not even where the operator shares the domain.
    zone(office.client(), "ns.operator.example.").await.expect(201);
    office.client().json("PUT", "/api/v1/suffixes/ns.operator.example.", &json!({})).await.expect(200);
    assert_eq!(zone(&bert.client, &own[0]).await.expect(403).code(), "NAME_RESERVED");
    office.server.stop().await;
}

/// What nobody says is no proof of the opposite.
#[tokio::test]
async fn r10_a_claim_lapses_when_its_delegation_is_gone() {
    let (office, resolvers, above) = office(true).await;
    let (anna, _) = with_tenant(&office, "anna@example.org").await;
    let made = claim(&anna.client, NAME).await;
    let own = servers(&made);
    delegate(&above, NAME, &[&own[0], &own[1]]);
    let state = async || checked(&anna.client, &made).await["state"].as_str().unwrap().to_owned();
    assert_eq!(state().await, "verified");
    let mut beside = office.server.beside().await;
    let age = "UPDATE claims SET seen_at_us = seen_at_us - 15 * 86400000000 WHERE state = 'verified'";
    assert_eq!(beside.query(age).execute().await.unwrap(), 1);
    assert_eq!(state().await, "verified", "it is seen again");
    assert_eq!(beside.query(age).execute().await.unwrap(), 1);
    drop(beside);
    delegate(&above, NAME, &[ELSEWHERE]);
    resolvers[0].leads("above.example.", &[]);
    assert_eq!(state().await, "verified", "one cannot say");
    resolvers[0].leads("above.example.", &[ONE, TWO]);
    assert_eq!(state().await, "lapsed");
    refused(&anna, NAME).await;
    delegate(&above, NAME, &[&own[0], &own[1]]);
    assert_eq!(state().await, "verified");
    zone(&anna.client, NAME).await.expect(201);
    office.server.stop().await;
}

/// Whoever takes a name that its owner forgot to take out of the zone above gets none of it ("sitting ducks").
#[tokio::test]
async fn r10_a_delegation_that_was_left_behind_proves_nothing_for_anybody_else() {
    let (office, _resolvers, above) = office(true).await;
    let (anna, _) = with_tenant(&office, "anna@example.org").await;
    let (bert, _) = with_tenant(&office, "bert@example.org").await;
    let made = claim(&anna.client, NAME).await;
    let own = servers(&made);
    delegate(&above, NAME, &[&own[0], &own[1]]);
    assert_eq!(checked(&anna.client, &made).await["state"], json!("verified"));
    zone(&anna.client, NAME).await.expect(201);
    anna.client.delete_zone(NAME).await;
    anna.client.delete(&path(&made)).await.expect(204);
    for person in [&bert, &anna] {
        let anew = claim(&person.client, NAME).await;
        assert!(servers(&anew).iter().all(|name| !own.contains(name)));
        assert_eq!(checked(&person.client, &anew).await["state"], json!("pending"));
        refused(person, NAME).await;
        person.client.delete(&path(&anew)).await.expect(204);
    }
    office.server.stop().await;
}

/// Whose zone is above says where its servers are.
#[tokio::test]
async fn r10_servers_above_are_asked_on_the_public_internet_alone() {
    let (office, _resolvers, above) = office(false).await;
    let (anna, _) = with_tenant(&office, "anna@example.org").await;
    let made = claim(&anna.client, NAME).await;
    let own = servers(&made);
    delegate(&above, NAME, &[&own[0], &own[1]]);
    let found = checked(&anna.client, &made).await;
    assert_eq!(found["state"], json!("pending"), "{found}");
    assert!(found["found"].as_str().unwrap().contains("2 did not say"), "{found}");
    assert!(above.iter().all(|server| server.asked.load(Ordering::Relaxed) == 0));
    office.server.stop().await;
}
