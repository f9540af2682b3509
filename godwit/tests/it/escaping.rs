//! Names and values of any octets through the API, its errors, the logs and the command line: nothing shows them raw.

use std::io::{Read, Write};
use std::net::TcpListener;

use serde_json::{Value, json};

use crate::process::{Started, godwit, output};

/// Controls, escape sequences, what turns or hides text, quotes and markup, as JSON text can hold them.
const TRICKY: &[&str] = &[
    "\u{1b}[31mred\u{1b}[0m",
    "\u{1b}]0;title\u{7}",
    "a\r\nInjected: yes",
    "nul\0",
    "\u{7f}\u{9b}31m",
    "\u{202e}evil\u{2028}",
    "<script>alert(1)</script>",
    "\"},{\"x\":\"",
    "\\",
    "\\999",
];

/// Printable ASCII, line ends, and what our own sentences have besides.
fn is_fine(char: char) -> bool {
    matches!(char, ' '..='~' | '\n' | '…' | '§')
}

/// Nothing but what [`is_fine`].
fn assert_printable(text: &str, what: &str) {
    let raw = text.chars().find(|char| !is_fine(*char));
    assert_eq!(raw, None, "{what}: {text:?}");
}

#[test]
fn names_of_any_octets_are_shown_escaped_by_api_and_command_line() {
    let started = Started::first();
    let api = started.api();
    let mut names = Vec::new();
    for chunk in (0..=255u8).collect::<Vec<u8>>().chunks(32) {
        let label: String = chunk.iter().map(|octet| format!("\\{octet:03}")).collect();
        names.push(format!("{label}.example.com."));
    }
    let changes: Vec<Value> = names
        .iter()
        .flat_map(|name| {
            let text: String = name.split_once(".example").unwrap().0.to_owned();
            [
                json!({ "op": "put", "name": name, "type": "TXT", "value": [format!("\"{text}\"")] }),
                json!({ "op": "put", "name": name, "type": "MX", "value": [format!("1 {name}")] }),
            ]
        })
        .collect();
    let answer = api.post("/api/v1/changes?wait=applied", &json!({ "changes": changes }));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_printable(&answer.text, "the answer to a change");
    let listed = api.get("/api/v1/records?limit=1000");
    assert_printable(&listed.text, "the list");
    for arguments in [&["record", "list"][..], &["record", "list", "--json"], &["zone", "list"]] {
        let ended = output(started.command().args(arguments));
        assert!(ended.status.success());
        let text = String::from_utf8(ended.stdout).unwrap();
        assert_printable(&text, &arguments.join(" "));
    }
    let text = String::from_utf8(output(started.command().args(["record", "list"])).stdout).unwrap();
    assert_eq!(text.lines().filter(|line| line.contains(" IN MX 1 ")).count(), names.len());

    // What is wrong is named in an error, in its way of writing things.
    for tricky in TRICKY {
        for body in [
            json!({ "name": format!("{tricky}.example.com."), "type": "A", "value": ["192.0.2.1"] }),
            json!({ "name": "a.example.com.", "type": tricky, "value": ["192.0.2.1"] }),
            json!({ "name": "a.example.com.", "type": "A", "value": [tricky] }),
            json!({ "name": "a.example.com.", "type": "CNAME", "value": [format!("{tricky} x")] }),
            json!({ "name": "a.example.com.", "type": "A", "value": ["192.0.2.1"], *tricky: 1 }),
        ] {
            let answer = api.post("/api/v1/records", &body);
            let refused = (400..500).contains(&answer.status);
            // A backslash and markup can stand in a name.
            assert!(refused || answer.status == 201, "{body}: {answer:?}");
            assert!(answer.text.chars().all(is_fine), "{body}: {answer:?}");
            let shown = answer.json();
            let error = shown["error"].as_str().unwrap_or_default();
            assert!(!error.chars().any(char::is_control), "{body}: {error:?}");
        }
        // A null octet cannot be in an argument.
        if !tricky.contains('\0') {
            for arguments in
                [["record", "set", tricky, "A", "192.0.2.1"], ["record", "set", "a.example.com", "A", tricky]]
            {
                let ended = output(started.command().args(arguments));
                assert_printable(&String::from_utf8(ended.stderr).unwrap(), "an error of the command line");
                assert_printable(&String::from_utf8(ended.stdout).unwrap(), "what the command line says");
            }
        }
    }
    assert_printable(&started.running.stderr(), "the log");
    assert!(!started.running.stderr().contains("Injected"));
    let metrics = crate::http::Api { address: started.running.metrics(), token: String::new() };
    assert_printable(&metrics.get("/metrics").text, "the metrics");
}

/// Whatever a server sends: a terminal gets no orders from it.
#[test]
fn what_a_server_sends_is_escaped_on_a_terminal() {
    let tricky: String = TRICKY.concat();
    for (status, body) in [
        (
            "200 OK",
            json!({ "items": [{ "name": tricky, "type": tricky, "ttl": 1, "value": [tricky, tricky] }], "next": null }),
        ),
        ("422 Unprocessable Content", json!({ "error": tricky, "code": tricky, "request_id": tricky })),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]).unwrap();
            let body = body.to_string();
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all((head + &body).as_bytes()).unwrap();
        });
        let ended = output(godwit().args(["record", "list", "--url", &url, "--token", "gw_x"]));
        serving.join().unwrap();
        let (stdout, stderr) =
            (String::from_utf8(ended.stdout).unwrap(), String::from_utf8(ended.stderr).unwrap());
        assert!(stdout.contains("red") || stderr.contains("red"), "{stdout}{stderr}");
        assert_printable(&stdout, "standard output");
        assert_printable(&stderr, "standard error");
    }
}

#[test]
fn zone_files_that_are_wrong_are_reported_printable() {
    let folder = tempfile::tempdir().unwrap();
    let head = "$TTL 60\n@ SOA ns hostmaster 1 2 3 4 5\n@ NS ns\nns A 192.0.2.1\n";
    for (number, tricky) in TRICKY.iter().enumerate() {
        for (place, text) in [
            format!("{tricky} A nowhere\n"),
            format!("a {tricky} 192.0.2.1\n"),
            format!("a A {tricky}\n"),
            format!("${tricky} x\n"),
            format!("$INCLUDE {tricky}\n"),
            format!("$INCLUDE \"{tricky}\"\n"),
        ]
        .iter()
        .enumerate()
        {
            let file = folder.path().join(format!("{number}-{place}.zone"));
            std::fs::write(&file, format!("{head}{text}")).unwrap();
            for json in [&[][..], &["--json"]] {
                let ended = output(
                    godwit().args(["zone", "check", file.to_str().unwrap(), "--origin", "a.test"]).args(json),
                );
                assert_printable(&String::from_utf8(ended.stdout).unwrap(), text);
                assert_printable(&String::from_utf8(ended.stderr).unwrap(), text);
            }
        }
    }
}
