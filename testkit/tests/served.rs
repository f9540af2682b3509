//! Godwit's data plane over real sockets: it answers as the reference does, and tools that validate believe what it serves
//! of signed zones.

#[path = "served/rebuilt.rs"]
mod rebuilt;

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

use godwit_testkit::compare::compare;
use godwit_testkit::generate::{self, QueryOptions, Signing, WorldOptions};
use godwit_testkit::reference::{self, Client, Settings, Transport, World, Zone};
use godwit_testkit::scenario;
use godwit_testkit::servers::{self, LdnsSigning, Peer, Server, ldns_sign};
use godwit_wire::name::Name;
use godwit_wire::rr::Rtype;

const QUERIES: u64 = 400;

#[test]
fn answers_over_sockets_are_those_of_the_reference() {
    let seed = generate::seed(5);
    for (case, signing) in
        [Signing::None, Signing::Nsec, Signing::Nsec3 { opt_out: true }].into_iter().enumerate()
    {
        let mut random = generate::random(seed, case as u64);
        let options = WorldOptions { strict: true, signing: Some(signing) };
        let world = generate::world(&mut random, &options);
        let server = Server::start(Peer::Godwit, &world).unwrap_or_else(|error| panic!("{error:#}"));
        let queries = QueryOptions { plain: true, cookie_secret: [0; 16], now: 0 };
        for _ in 0..QUERIES {
            let query = generate::query(&mut random, &queries, &world);
            let client = Client { address: IpAddr::V4(Ipv4Addr::LOCALHOST), transport: query.transport };
            let expected = reference::answer(&world, &Settings::default(), &client, 0, &query.packet);
            let response = match query.transport {
                Transport::Udp => servers::ask_udp(server.address(), &query.packet),
                Transport::Tcp => servers::ask_tcp(server.address(), &query.packet),
            };
            let place = format!("GODWIT_SEED={seed} {signing:?} {} {}", query.qname, query.qtype);
            let response = response.unwrap_or_else(|error| panic!("{place}: {error:#}"));
            if let Err(difference) = compare(expected.as_ref(), Some(&response)) {
                panic!("{place}\n{difference}");
            }
        }
    }
}

/// A zone with each kind of answer that has a proof, and a delegation that is secure and one that is not.
fn zone() -> Zone {
    let text = "settings any=minimal\nzone signed.test. owner=0\n\
        signed.test. 300 SOA ns1.signed.test. host.signed.test. 1 7200 3600 1209600 60\n\
        signed.test. 300 NS ns1.signed.test.\n\
        ns1.signed.test. 300 A 127.0.0.1\n\
        www.signed.test. 300 A 192.0.2.1\n\
        alias.signed.test. 300 CNAME www.signed.test.\n\
        *.w.signed.test. 300 TXT \"made\"\n\
        *.c.signed.test. 300 CNAME www.signed.test.\n\
        a.b.ent.signed.test. 300 A 192.0.2.2\n\
        d.signed.test. 300 DNAME ent.signed.test.\n\
        secure.signed.test. 300 NS ns.secure.signed.test.\n\
        secure.signed.test. 300 DS 1 13 2 0000000000000000000000000000000000000000000000000000000000000000\n\
        ns.secure.signed.test. 300 A 192.0.2.3\n\
        insecure.signed.test. 300 NS ns.insecure.signed.test.\n\
        ns.insecure.signed.test. 300 A 192.0.2.4\n\
        end\ncase RFC 1035: none\nudp signed.test. SOA\nsilence\n";
    scenario::read("signed", text).unwrap_or_else(|error| panic!("{error:#}")).world.zones.remove(0)
}

const CHAINS: [LdnsSigning; 3] =
    [LdnsSigning::Nsec, LdnsSigning::Nsec3 { opt_out: false }, LdnsSigning::Nsec3 { opt_out: true }];

#[test]
fn delv_accepts_the_signed_answers() {
    // With opt-out a wildcard's answer is insecure by design (RFC 5155 §9.2), so there is nothing to accept.
    for signing in [LdnsSigning::Nsec, LdnsSigning::Nsec3 { opt_out: false }] {
        let (zone, dnskey) = ldns_sign(&zone(), signing).unwrap_or_else(|error| panic!("{error:#}"));
        let world = World { zones: vec![zone] };
        let server = Server::start(Peer::Godwit, &world).unwrap_or_else(|error| panic!("{error:#}"));
        let anchors = server.folder().join("anchors");
        std::fs::write(&anchors, trust_anchor(&dnskey)).expect("folder of the server");
        for (name, rtype, expected) in [
            ("signed.test.", "SOA", "; fully validated"),
            ("signed.test.", "DNSKEY", "; fully validated"),
            ("www.signed.test.", "A", "; fully validated"),
            ("www.signed.test.", "TXT", "; negative response, fully validated"),
            ("b.ent.signed.test.", "A", "; negative response, fully validated"),
            ("nothing.signed.test.", "A", "; negative response, fully validated"),
            ("x.a.b.ent.signed.test.", "A", "; negative response, fully validated"),
            ("any.w.signed.test.", "TXT", "; fully validated"),
            ("x.y.w.signed.test.", "TXT", "; fully validated"),
            ("any.w.signed.test.", "A", "; negative response, fully validated"),
            ("alias.signed.test.", "A", "; fully validated"),
            ("any.c.signed.test.", "A", "; fully validated"),
            ("a.b.d.signed.test.", "A", "; fully validated"),
            ("secure.signed.test.", "DS", "; fully validated"),
        ] {
            let output = Command::new("delv")
                .args(["@127.0.0.1", "-p", &server.address().port().to_string(), "-a"])
                .arg(&anchors)
                .args(["+root=signed.test", name, rtype])
                .output()
                .expect("delv (Debian package bind9-dnsutils) starts");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(text.lines().any(|line| line == expected), "{signing:?} {name} {rtype}:\n{text}{errors}");
            assert!(
                !text.contains("unsigned") && !text.contains("resolution failed"),
                "{signing:?} {name}:\n{text}"
            );
        }
    }
}

/// `trust-anchors` of BIND from a DNSKEY line: owner, class, type, flags, protocol, algorithm, key.
fn trust_anchor(dnskey: &str) -> String {
    let line = dnskey.split(';').next().unwrap_or_default();
    let words: Vec<&str> = line.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "DNSKEY").expect("a DNSKEY record");
    let [flags, protocol, algorithm, key @ ..] = &words[at + 1..] else { panic!("{dnskey}") };
    format!(
        "trust-anchors {{ \"signed.test.\" static-key {flags} {protocol} {algorithm} \"{}\"; }};\n",
        key.concat()
    )
}

#[test]
fn ldns_verifies_the_zone_put_together_from_answers() {
    for signing in CHAINS {
        let (zone, _) = ldns_sign(&zone(), signing).unwrap_or_else(|error| panic!("{error:#}"));
        let records = zone.records.len();
        let world = World { zones: vec![zone] };
        let server = Server::start(Peer::Godwit, &world).unwrap_or_else(|error| panic!("{error:#}"));
        let rebuilt = rebuilt::zone(&server, &world.zones[0]).unwrap_or_else(|error| panic!("{error:#}"));
        assert_eq!(rebuilt.records.len(), records, "{signing:?}: every record comes in some answer");
        let file = server.folder().join("rebuilt");
        std::fs::write(&file, servers::zone_file(&rebuilt)).expect("folder of the server");
        let verdict = servers::run(Command::new("ldns-verify-zone").arg(&file));
        verdict.unwrap_or_else(|error| panic!("{signing:?}: {error:#}"));
        // The same zone with one record more is not believed, so the verdict says something.
        let mut forged = rebuilt;
        let www: Name = "www.signed.test.".parse().expect("a name");
        let mut record = forged.rrset(&www, Rtype::A)[0].clone();
        record.rdata[3] ^= 1;
        forged.records.push(record);
        std::fs::write(&file, servers::zone_file(&forged)).expect("folder of the server");
        assert!(servers::run(Command::new("ldns-verify-zone").arg(&file)).is_err(), "{signing:?}: forged");
    }
}
