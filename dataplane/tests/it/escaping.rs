//! Names are what strangers choose. Whatever octets they have: nothing that shows a name to people or programs passes
//! them on raw.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::time::Duration;

use godwit_wire::name::Name;

use super::process::command;
use super::query_log::{ask_tcp, dnstap_read, folder, full, lines, query};

/// Names of which every octet value is in one, and what terminals, shells, quotes and parsers trip over, each below
/// `example.org.` where it can be. The octets of the label first.
fn labels() -> Vec<Vec<u8>> {
    let all: Vec<u8> = (0..=255).collect();
    let mut labels: Vec<Vec<u8>> = all.chunks(32).map(<[u8]>::to_vec).collect();
    labels.extend((0..=255u8).map(|octet| vec![octet]));
    for text in [
        &b"\"},{\"qname\":\"x"[..],
        b"\\",
        b"\\\"",
        b"a.b",
        b"\x1b[31mred\x1b[0m",
        b"\x1b]0;title\x07",
        b"\r\nInjected: yes",
        b"line\nline",
        b"\0nul",
        b"\xff\xfe\xc0\x80",
        b"\xed\xa0\x80",
        "\u{202e}evil\u{2028}".as_bytes(),
        b"\xc2\x9b31m",
        b"<script>alert(1)</script>",
        b"{{7*7}}${7*7}`id`",
        b"--- \n...",
    ] {
        labels.push(text.to_vec());
    }
    labels
}

fn wire_name(label: &[u8]) -> Vec<u8> {
    let mut name = vec![u8::try_from(label.len()).unwrap()];
    name.extend_from_slice(label);
    name.extend_from_slice(b"\x07example\x03org\x00");
    name
}

/// Asks for all of them, half over UDP and half over TCP; the names in the order asked.
fn ask_all(address: std::net::SocketAddr) -> Vec<Vec<u8>> {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let names: Vec<Vec<u8>> = labels().iter().map(|label| wire_name(label)).collect();
    let mut buffer = [0; 4096];
    for (name, id) in names.iter().zip(0..) {
        let message = query(id, name);
        if id % 2 == 0 {
            client.send(&message).unwrap();
            client.recv(&mut buffer).unwrap();
        } else {
            ask_tcp(address, &message);
        }
    }
    names
}

/// Nothing but printable ASCII, line ends and the blanks of a listing.
fn assert_printable(text: &[u8], what: &str) {
    for (at, octet) in text.iter().enumerate() {
        let fine = matches!(octet, b' '..=b'~' | b'\n');
        let around = &text[at.saturating_sub(60)..(at + 20).min(text.len())];
        assert!(fine, "{what}: octet {octet} raw in {:?}", around.escape_ascii().to_string());
    }
}

#[test]
fn names_of_any_octets_are_escaped_in_the_query_log_and_come_back() {
    let folder = folder();
    let path = folder.path().join("queries.json");
    let mut process = full(&folder, "json", path.to_str().unwrap());
    let names = ask_all(process.address());
    let (_, metrics) = process.get("/metrics");
    assert!(process.stop().success());

    assert_printable(&std::fs::read(&path).unwrap(), "the query log");
    let mut lines = lines(&path);
    assert_eq!(lines.len(), names.len());
    lines.sort_by_key(|line| line["id"].as_u64());
    for (line, name) in lines.iter().zip(&names) {
        let text = line["qname"].as_str().unwrap();
        let lower = name.to_ascii_lowercase();
        let back = lower_escaped(text).parse::<Name>().unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(back.as_ref().as_wire(), lower, "{text}");
        // Its own case: what is a letter stands there as it was sent.
        let letters =
            |octets: &[u8]| -> Vec<u8> { octets.iter().copied().filter(u8::is_ascii_alphabetic).collect() };
        assert_eq!(letters(text.as_bytes()), letters(name), "{text}");
    }
    // Neither the server's own log nor the metrics say anything of names.
    assert_printable(metrics.as_bytes(), "the metrics");
    for shown in [process.log(), metrics] {
        assert!(!shown.contains("script") && !shown.contains("Injected"), "{shown}");
    }
    assert_printable(process.log().as_bytes(), "the log");
}

/// The names that we compare with are in lower case, and this is a name in presentation format.
fn lower_escaped(text: &str) -> String {
    text.to_ascii_lowercase()
}

#[test]
fn names_of_any_octets_pass_through_dnstap_whole() {
    let folder = folder();
    let path = folder.path().join("queries.tap");
    let mut process = full(&folder, "dnstap", path.to_str().unwrap());
    let names = ask_all(process.address());
    assert!(process.stop().success());
    let documents = dnstap_read(&path);
    assert_eq!(documents.len(), 2 * names.len());
    // The reader escapes by itself; that it gets through shows that the frames are sound, and its ids that none is lost.
    let mut ids = BTreeSet::new();
    for document in &documents {
        assert_printable(document.replace('\t', " ").as_bytes(), "dnstap-read");
        let id = document.lines().find_map(|line| line.trim().strip_prefix("id: ")).unwrap();
        ids.insert(id.parse::<usize>().unwrap());
    }
    assert_eq!(ids.len(), names.len());
}

#[test]
fn zone_files_that_are_wrong_are_reported_without_raw_octets() {
    let folder = folder();
    let zones = folder.path().join("zones");
    std::fs::create_dir(&zones).unwrap();
    // The octets as the owner, the type, the RDATA, a directive, an included file, in quotes and in a comment.
    for (number, label) in labels().iter().enumerate() {
        let head = b"$TTL 60\n@ SOA ns hostmaster 1 2 3 4 5\n@ NS ns\nns A 192.0.2.1\n";
        for (place, (before, after)) in [
            (&b""[..], &b" A nowhere\n"[..]),
            (b"a ", b" 192.0.2.1\n"),
            (b"a MX ", b"\n"),
            (b"a CNAME ", b" and more\n"),
            (b"$", b" x\n"),
            (b"$INCLUDE ", b"\n"),
            (b"$ORIGIN ", b" ; \n"),
            (b"a TXT \"", b"\" (\n"),
        ]
        .iter()
        .enumerate()
        {
            let text = [&head[..], before, label, after].concat();
            std::fs::write(zones.join(format!("z{number}-{place}.test.zone")), text).unwrap();
        }
    }
    let mut process = full(&folder, "json", "/dev/null");
    let log = process.log();
    assert!(log.lines().count() > 500, "{log}");
    assert_printable(log.as_bytes(), "the log");
    for line in log.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
    assert!(process.stop().success());

    // As text, for people.
    let config = folder.path().join("dataplane.toml");
    std::fs::write(&config, "[log]\nformat = \"text\"\n").unwrap();
    let mut process = super::process::Process::spawn(command().args([
        "--listen",
        "127.0.0.1:0",
        "--metrics",
        "off",
        "--config",
        config.to_str().unwrap(),
        "--zones",
        zones.to_str().unwrap(),
    ]));
    assert!(process.log().lines().count() > 500);
    assert_printable(process.log().as_bytes(), "the log as text");
    assert!(process.stop().success());
}

#[test]
fn errors_of_the_configuration_are_one_printable_line() {
    let folder = folder();
    let config = folder.path().join("dataplane.toml");
    let tricky = "\u{1b}[31m\u{7}\u{202e}x\u{9b}";
    let escaped = r"\u001b[31m\u0007\u202ex\u009b\n";
    for text in [
        format!("[query_log]\ntarget = \"{escaped}\"\n"),
        format!("[udp]\nsteering = \"{escaped}\"\n"),
        format!("[server]\nlisten = [\"{escaped}\"]\n"),
        format!("[server]\n\"{escaped}\" = 1\n"),
        format!("[tcp]\nmax_connections = \"{escaped}\"\n"),
        format!("[\"{escaped}\"]\nx = 1\n"),
        format!("[server]\nuser = \"{escaped}\"\n[metrics]\nlisten = \"{escaped}\"\n"),
        format!("[log]\nlevel = \"{escaped}=x\"\n"),
        format!("{tricky}\n"),
    ] {
        std::fs::write(&config, &text).unwrap();
        let output = command().arg("--config").arg(&config).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{text:?}");
        assert_printable(&output.stderr, &text);
        assert_eq!(output.stderr.iter().filter(|octet| **octet == b'\n').count(), 1, "{text:?}");
    }
    let output = command().args(["--config", tricky]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_printable(&output.stderr, "a file that is not there");
}
