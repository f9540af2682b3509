//! Every command for people: what it does, its JSON, and what it says when something is wrong.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::dns::{self, A, TXT};
use crate::process::{Started, godwit, output};

pub(crate) const ZONE: &str = "\
$TTL 1h
@ IN SOA ns1 hostmaster 7 2h 1h 2w 60
@ IN NS ns1
ns1 IN A 192.0.2.53
www 30 IN A 192.0.2.80
text IN TXT \"a b\" c
";

/// Standard output of a command that succeeds.
pub(crate) fn said(command: &mut Command) -> String {
    let ended = output(command);
    let (stdout, stderr) =
        (String::from_utf8(ended.stdout).unwrap(), String::from_utf8(ended.stderr).unwrap());
    assert_eq!(ended.status.code(), Some(0), "{command:?}: {stdout}{stderr}");
    stdout
}

pub(crate) fn said_json(command: &mut Command) -> Value {
    let text = said(command.arg("--json"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Exit code and standard error of a command that fails.
pub(crate) fn refused(command: &mut Command) -> (i32, String) {
    let ended = output(command);
    let code = ended.status.code().unwrap();
    assert_ne!(code, 0, "{command:?}");
    (code, String::from_utf8(ended.stderr).unwrap())
}

pub(crate) fn file(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn zone_check_names_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let good = file(folder.path(), "example.org.zone", ZONE);
    assert!(said(godwit().args(["zone", "check", &good])).contains("zone example.org. is good: 5 records"));
    let value = said_json(godwit().args(["zone", "check", &good]));
    assert_eq!(
        (&value["ok"], &value["zone"], &value["findings"]),
        (&json!(true), &json!("example.org."), &json!([]))
    );

    let bad = file(folder.path(), "db", &format!("{ZONE}mail IN A 192.0.2.300\nx IN MX 10\n"));
    let ended = output(godwit().args(["zone", "check", "--origin", "example.org", &bad]));
    let stdout = String::from_utf8(ended.stdout).unwrap();
    assert_eq!(ended.status.code(), Some(1));
    for start in [format!("{bad}:7: \"192.0.2.300\""), format!("{bad}:8: ")] {
        assert!(stdout.lines().any(|line| line.starts_with(&start)), "{start}\n{stdout}");
    }
    let ended = output(godwit().args(["zone", "check", "--json", "--origin", "example.org", &bad]));
    let value: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!((&value["ok"], &value["findings"][0]["line"]), (&json!(false), &json!(7)), "{value}");

    let (code, stderr) = refused(godwit().args(["zone", "check", &bad]));
    assert_eq!(code, 2);
    assert!(stderr.contains("which zone is it? Say --origin NAME"), "{stderr}");
    let missing = output(godwit().args(["zone", "check", "/nonexistent/a.example.zone"]));
    assert_eq!(missing.status.code(), Some(1));
}

#[test]
fn records_are_set_listed_and_deleted() {
    let started = Started::first();
    let run = |arguments: &[&str]| said(started.command().args(arguments));
    let server = started.running.dns();

    let text = run(&["record", "set", "www.example.com", "A", "192.0.2.99", "192.0.2.98", "--ttl", "60"]);
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["www.example.com. 60 IN A 192.0.2.98", "www.example.com. 60 IN A 192.0.2.99"]);
    assert_eq!(dns::addresses(&dns::udp(server, "www.example.com.", A)).len(), 2);
    let value =
        said_json(started.command().args(["record", "set", "t", "TXT", "\"x y\"", "--zone", "example.com"]));
    assert_eq!(value, json!({"name": "t.example.com.", "type": "TXT", "ttl": 300, "value": ["\"x y\""]}));
    assert_eq!(dns::texts(&dns::udp(server, "t.example.com.", TXT)), ["x y"]);

    let listed = run(&["record", "list", "example.com"]);
    assert!(listed.starts_with("example.com. "), "{listed}");
    assert!(listed.contains("www.example.com. 60 IN A 192.0.2.99\n"), "{listed}");
    let value = said_json(started.command().args(["record", "list", "--type", "TXT"]));
    assert_eq!(value["items"].as_array().unwrap().len(), 1, "{value}");
    let value = said_json(started.command().args(["record", "list", "example.com", "--type", "MX"]));
    assert_eq!(value, json!({"items": []}));

    assert_eq!(run(&["record", "delete", "www.example.com", "A"]), "deleted www.example.com. A\n");
    assert_eq!(dns::udp(server, "www.example.com.", A).rcode, 3);
    assert_eq!(
        said_json(started.command().args(["record", "delete", "t.example.com"]))["deleted"],
        "t.example.com."
    );
    assert_eq!(dns::udp(server, "t.example.com.", TXT).rcode, 3);

    let (code, stderr) = refused(started.command().args(["record", "set", "www.example.com", "A", "1.2.3"]));
    assert_eq!(code, 1);
    assert!(stderr.contains("INVALID_VALUE") && stderr.contains("request "), "{stderr}");
    let (_, stderr) = refused(started.command().args(["--json", "record", "delete", "no.example.com", "A"]));
    let error: Value = serde_json::from_str(&stderr).unwrap();
    assert_eq!(error["code"], "RECORD_NOT_FOUND");
    assert!(error["request_id"].is_string(), "{error}");
}

#[test]
fn more_than_a_page_is_listed() {
    let started = Started::first();
    let steps: Vec<Value> = (0..1500)
        .map(|n| json!({"op": "put", "name": format!("n{n}.example.com."), "type": "A", "value": ["192.0.2.1"]}))
        .collect();
    assert_eq!(started.api().post("/api/v1/changes", &json!({ "changes": steps })).status, 200);
    let listed = said(started.command().args(["record", "list", "example.com", "--type", "A"]));
    assert_eq!(
        listed.lines().filter(|line| line.starts_with('n') && line.ends_with("192.0.2.1")).count(),
        1500
    );
}

#[test]
fn zones_are_created_listed_and_deleted() {
    let started = Started::first();
    let text = said(started.command().args(["zone", "create", "example.net", "--ns", "ns.example.org"]));
    assert!(text.starts_with("created example.net. with serial "), "{text}");
    assert!(said(started.command().args(["zone", "list"])).contains("example.net. serial "));
    let listed = said_json(started.command().args(["zone", "list"]));
    assert_eq!(listed["items"].as_array().unwrap().len(), 2, "{listed}");
    assert_eq!(dns::udp(started.running.dns(), "example.net.", 2).answer.len(), 1);
    let (_, stderr) = refused(started.command().args(["zone", "create", "example.net"]));
    assert!(stderr.contains("DOMAIN_EXISTS"), "{stderr}");
    assert_eq!(said(started.command().args(["zone", "delete", "example.net"])), "deleted example.net.\n");
    let (_, stderr) = refused(started.command().args(["zone", "delete", "example.com"]));
    assert!(stderr.contains("CONFIRMATION_REQUIRED") && stderr.contains("--confirm 3"), "{stderr}");
    let confirmed = said(started.command().args(["zone", "delete", "example.com", "--confirm", "3"]));
    assert_eq!(confirmed, "deleted example.com.\n");
    // REFUSED: not ours any more.
    assert_eq!(dns::udp(started.running.dns(), "example.net.", 2).rcode, 5);
}

#[test]
fn an_import_is_served_exported_and_repeatable() {
    let started = Started::first();
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), "example.org.zone", ZONE);
    assert_eq!(said(started.command().args(["import", &path])), "example.org.: 5 RRsets, 5 changed\n");
    let message = dns::udp(started.running.dns(), "www.example.org.", A);
    assert_eq!((dns::addresses(&message).len(), message.answer[0].ttl), (1, 30), "TTLs are kept");
    let value = said_json(started.command().args(["import", &path]));
    assert_eq!((&value["zones"][0]["changed"], &value["failed"]), (&json!(0), &json!(0)), "{value}");

    let text = said(started.command().args(["export", "example.org"]));
    assert!(text.lines().next().unwrap().contains("SOA"), "{text}");
    assert!(text.contains("192.0.2.80"), "{text}");
    let value = said_json(started.command().args(["export", "example.org"]));
    assert_eq!(value, json!({"zone": "example.org.", "text": text}));
    let exported = folder.path().join("out.zone");
    let exported = exported.to_str().unwrap();
    assert!(said(started.command().args(["export", "example.org", "-o", exported])).contains("written to"));
    assert_eq!(std::fs::read_to_string(exported).unwrap(), text);
    let again = said_json(started.command().args(["import", exported, "--zone", "example.org"]));
    assert_eq!(again["zones"][0]["changed"], 0, "{again}");

    let (_, stderr) = refused(started.command().args(["export", "nowhere.example"]));
    assert!(stderr.contains("DOMAIN_NOT_FOUND"), "{stderr}");
}

#[test]
fn a_folder_is_imported_and_a_bad_file_hurts_no_other() {
    let started = Started::first();
    let folder = tempfile::tempdir().unwrap();
    file(folder.path(), "a.example.zone", ZONE);
    file(folder.path(), "part", "extra IN A 192.0.2.77\n");
    file(folder.path(), "b.example.zone", &format!("{ZONE}$INCLUDE part\n"));
    let bad = file(folder.path(), "bad.example.zone", &format!("{ZONE}oops IN A nowhere\n"));
    let ended = output(started.command().arg("import").arg(folder.path()));
    let (stdout, stderr) =
        (String::from_utf8(ended.stdout).unwrap(), String::from_utf8(ended.stderr).unwrap());
    assert_eq!(ended.status.code(), Some(1));
    assert!(stdout.ends_with("2 zones imported, 1 failed\n"), "{stdout}");
    assert!(stderr.contains(&format!("{bad}:7: \"nowhere\"")), "{stderr}");
    let server = started.running.dns();
    assert_eq!(dns::addresses(&dns::udp(server, "extra.b.example.", A)).len(), 1);
    assert_eq!(dns::addresses(&dns::udp(server, "www.a.example.", A)).len(), 1);
    assert_eq!(dns::udp(server, "www.bad.example.", A).rcode, 5);
}

/// A zone that does not fit in one request: new, then changed, then interrupted and gone on with.
#[test]
fn a_large_zone_goes_in_pieces_and_becomes_what_the_file_says() {
    let started = Started::first();
    let folder = tempfile::tempdir().unwrap();
    let names = |range: std::ops::Range<u32>, address: &str| -> String {
        range.map(|n| format!("n{n} IN A {address}\n")).collect()
    };
    let import = |text: &str| {
        let path = file(folder.path(), "big.example.zone", text);
        let mut command = started.command();
        said_json(command.args(["import", &path, "--max-request", "4096"]))["zones"][0].take()
    };
    let first = format!("{ZONE}{}", names(0..500, "192.0.2.1"));
    let outcome = import(&first);
    assert_eq!((&outcome["rrsets"], &outcome["changed"]), (&json!(505), &json!(505)), "{outcome}");
    assert_eq!(import(&first)["changed"], 0, "again changes nothing");

    // 100 new, 100 different, 300 the same, 100 gone; a name that changes its type.
    let second =
        format!("{ZONE}{}{}n100 IN CNAME www\n", names(101..400, "192.0.2.1"), names(400..600, "192.0.2.2"));
    let second = second.replace("text IN TXT \"a b\" c\n", "");
    let outcome = import(&second);
    // n400–n599 put; n0–n99 and text deleted; n100: A deleted, CNAME put.
    assert_eq!(outcome["changed"], 200 + 100 + 1 + 2, "{outcome}");
    let server = started.running.dns();
    for (name, rcode) in [("n0", 3), ("n101", 0), ("n599", 0), ("text", 3), ("n100", 0)] {
        assert_eq!(dns::udp(server, &format!("{name}.big.example."), A).rcode, rcode, "{name}");
    }

    // Half of the way back was gone before: only the rest is sent.
    let steps: Vec<Value> = (400..600)
        .map(|n| json!({"op": "put", "name": format!("n{n}.big.example."), "type": "A", "ttl": 3600, "value": ["192.0.2.1"]}))
        .collect();
    assert_eq!(started.api().post("/api/v1/changes", &json!({ "changes": steps })).status, 200);
    let third = second.replace("192.0.2.2\n", "192.0.2.1\n");
    assert_eq!(import(&third)["changed"], 0, "nothing is left to send");
    let exported = said(started.command().args(["export", "big.example"]));
    assert_eq!(exported.lines().count(), 3 + 2 + 299 + 200, "{exported}");
}

/// Each change is a small part; the whole is not.
#[test]
fn r18_a_large_zone_in_pieces_is_confirmed_as_a_whole() {
    let started = Started::first();
    let folder = tempfile::tempdir().unwrap();
    let import = |address: &str| {
        let names: String = (0..1_100).map(|n| format!("n{n} IN A {address}\n")).collect();
        let path = file(folder.path(), "big.example.zone", &format!("{ZONE}{names}"));
        let mut command = started.command();
        command.args(["import", &path, "--max-request", "16384"]);
        command
    };
    said(&mut import("192.0.2.1"));
    let (_, stderr) = refused(&mut import("192.0.2.2"));
    let sentence = "this would change or take away 1100 of the";
    assert!(stderr.contains(sentence) && stderr.contains("--confirm 1100"), "{stderr}");
    let (_, stderr) = refused(import("192.0.2.2").args(["--confirm", "1099"]));
    assert!(stderr.contains(sentence), "{stderr}");
    let outcome = said_json(import("192.0.2.2").args(["--confirm", "1100"]));
    assert_eq!(outcome["zones"][0]["changed"], 1_100, "{outcome}");
}

#[test]
fn errors_say_what_to_do() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{free}");
    let (code, stderr) = refused(godwit().args(["zone", "list", "--url", &url]));
    assert_eq!(code, 1);
    assert!(stderr.contains("is `godwit run` running?") && stderr.contains(&url), "{stderr}");
    let (_, stderr) = refused(godwit().args(["--json", "zone", "list", "--url", &url]));
    assert_eq!(serde_json::from_str::<Value>(&stderr).unwrap()["code"], "CONNECTION_REFUSED");
    let (code, stderr) = refused(godwit().args(["zone", "list", "--url", "ftp://127.0.0.1:1"]));
    assert_eq!(code, 2);
    assert!(stderr.contains("expected https://"), "{stderr}");
    let with_ca = ["zone", "list", "--url", "https://127.0.0.1:1", "--ca", "/nonexistent"];
    let (code, stderr) = refused(godwit().args(with_ca));
    assert_eq!(code, 2);
    assert!(stderr.contains("--ca /nonexistent"), "{stderr}");
    let (code, stderr) = refused(godwit().args(["zone", "list", "--token-file", "/nonexistent"]));
    assert_eq!(code, 2);
    assert!(stderr.contains("--token-file /nonexistent"), "{stderr}");
    let (code, stderr) = refused(godwit().args(["import", "/nonexistent"]));
    assert_eq!(code, 2);
    assert!(stderr.contains("/nonexistent"), "{stderr}");
    let (code, _) = refused(godwit().args(["token", "create", "--scope", "root"]));
    assert_eq!(code, 2);
}

#[test]
fn tokens_are_taken_from_variable_flag_and_file() {
    let started = Started::first();
    let list = || {
        let mut command = started.command();
        command.env_remove("GODWIT_TOKEN").args(["zone", "list"]);
        command
    };
    let (_, stderr) = refused(&mut list());
    assert!(stderr.contains("UNAUTHENTICATED") && stderr.contains("GODWIT_TOKEN"), "{stderr}");
    let (_, stderr) = refused(list().args(["--token", "gw_wrong"]));
    assert!(stderr.contains("not valid here"), "{stderr}");
    said(list().args(["--token", &started.token]));
    // What the first start printed may be kept as it was.
    let kept = file(started.folder.path(), "token", &format!("admin token: {}\n", started.token));
    said(list().args(["--token-file", &kept]));
}

/// What a command says that is given a text on standard input.
fn fed(command: &mut Command, text: &str) -> String {
    use std::process::Stdio;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success(), "{command:?}: {}", String::from_utf8_lossy(&ended.stderr));
    String::from_utf8(ended.stdout).unwrap()
}

#[test]
fn users_are_added_choose_a_password_and_are_suspended() {
    let started = Started::first();
    let user = |arguments: &[&str]| {
        let mut command = started.command();
        command.arg("user").args(arguments);
        command
    };
    let link = said(&mut user(&["add", "anna@example.org", "--name", "Anna", "--operator"]));
    let secret = link.trim().split_once("token=").unwrap().1.to_owned();
    assert_eq!(said(&mut user(&["list"])), "anna@example.org operator without password\n");
    fed(&mut user(&["password", &secret]), "correct horse battery\n");
    assert_eq!(said(&mut user(&["list"])), "anna@example.org operator\n");
    let (_, stderr) = refused(&mut user(&["add", "Anna@example.org"]));
    assert!(stderr.contains("USER_EXISTS"), "{stderr}");
    let (_, stderr) = refused(&mut user(&["suspend", "anna@example.org"]));
    assert!(stderr.contains("only operator"), "{stderr}");
    said(&mut user(&["add", "bert@example.org"]));
    let again = said_json(&mut user(&["link", "bert@example.org"]));
    assert!(again["link"].as_str().unwrap().contains("token=gl_"));
    said(&mut user(&["suspend", "BERT@example.org"]));
    assert!(said(&mut user(&["list"])).contains("bert@example.org without password suspended since "));
    said(&mut user(&["resume", "bert@example.org"]));
    said(&mut user(&["remove", "bert@example.org"]));
    let (_, stderr) = refused(&mut user(&["remove", "bert@example.org"]));
    assert!(stderr.contains("no user with the address bert@example.org"), "{stderr}");
    // Mail is off: nobody is told that one was sent.
    let mut register = user(&["register", "carl@example.org"]);
    let (_, stderr) = refused(register.stdin(std::process::Stdio::null()));
    assert!(stderr.contains("FORBIDDEN"), "{stderr}");
}

/// The whole way of somebody who signs their own tokens: added, a password chosen, a key added, a token signed and used.
#[test]
fn a_key_is_added_and_signs_tokens() {
    let started = Started::first();
    let mut add = started.command();
    let link = said(add.args(["user", "add", "anna@example.org", "--operator"]));
    let secret = link.trim().split_once("token=").unwrap().1.to_owned();
    fed(started.command().args(["user", "password", &secret]), "correct horse battery\n");
    let folder = started.folder.path();
    let files = ["made.pem", "rsa.pem", "ed25519.pem", "p256.pem"];
    for (file, made_by) in [
        ("rsa.pem", "openssl genpkey -algorithm rsa -pkeyopt rsa_keygen_bits:2048 -out"),
        ("ed25519.pem", "openssl genpkey -algorithm ed25519 -out"),
        ("p256.pem", "openssl genpkey -algorithm ec -pkeyopt ec_paramgen_curve:P-256 -out"),
    ] {
        let mut parts = made_by.split(' ');
        let mut openssl = Command::new(parts.next().unwrap());
        assert!(output(openssl.args(parts).arg(folder.join(file))).status.success(), "{made_by}");
    }
    // Without the token of the first start: who logs in needs none.
    let anna = |arguments: &[&str]| {
        let mut command = started.command();
        command
            .env_remove("GODWIT_TOKEN")
            .env("GODWIT_EMAIL", "anna@example.org")
            .current_dir(folder)
            .args(arguments);
        command
    };
    let with = |token: &str, arguments: &[&str]| {
        let mut command = started.command();
        command.env("GODWIT_TOKEN", token).args(arguments);
        command
    };
    for file in files {
        let added = fed(
            &mut anna(&["key", "add", file, "--scope", "records:read records:write"]),
            "correct horse battery\n",
        );
        assert!(added.contains("godwit token sign"), "{added}");
        let beside: Value =
            serde_json::from_slice(&std::fs::read(folder.join(format!("{file}.json"))).unwrap()).unwrap();
        let mut names: Vec<&str> = beside.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["aud", "kid", "sub", "url"]);
        let token =
            said(&mut anna(&["token", "sign", "--key", file, "--scope", "records:read records:write"]));
        said(&mut with(token.trim(), &["record", "set", "key.example.com", "A", "192.0.2.7"]));
        let narrow = said(&mut anna(&[
            "token",
            "sign",
            "--key",
            file,
            "--scope",
            "records:write",
            "--name",
            "other.example.com",
        ]));
        let (_, stderr) =
            refused(&mut with(narrow.trim(), &["record", "set", "key.example.com", "A", "192.0.2.8"]));
        assert!(stderr.contains("FORBIDDEN"), "{stderr}");
    }
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(folder.join("made.pem")).unwrap().permissions().mode() & 0o777, 0o600);
    let listed = fed(&mut anna(&["key", "list"]), "correct horse battery\n");
    assert_eq!(listed.lines().count(), 4, "{listed}");
    let kid = listed.split(' ').next().unwrap().to_owned();
    fed(&mut anna(&["key", "remove", &kid]), "correct horse battery\n");
    let token = said(&mut anna(&["token", "sign", "--key", "made.pem", "--scope", "records:read"]));
    let (_, stderr) = refused(&mut with(token.trim(), &["record", "list", "example.com"]));
    assert!(stderr.contains("UNAUTHENTICATED"), "{stderr}");
    // For what cannot sign.
    let add = [
        "token",
        "add",
        "router",
        "--scope",
        "records:read records:write",
        "--name",
        "home.example.com",
        "--value",
        "198.51.100.0/24",
    ];
    let router = fed(&mut anna(&add), "correct horse battery\n");
    said(&mut with(router.trim(), &["record", "set", "home.example.com", "A", "198.51.100.7"]));
    refused(&mut with(router.trim(), &["record", "set", "home.example.com", "A", "192.0.2.7"]));
    let listed = fed(&mut anna(&["token", "list"]), "correct horse battery\n");
    assert!(
        listed.contains("router: records:read records:write {") && listed.lines().count() == 1,
        "{listed}"
    );
    let id = listed.split(' ').next().unwrap().to_owned();
    fed(&mut anna(&["token", "revoke", &id]), "correct horse battery\n");
    let of_nobody = said(started.command().args(["token", "list"]));
    assert!(of_nobody.contains(": admin, ") && of_nobody.lines().count() == 1, "{of_nobody}");
    let (_, stderr) = refused(&mut anna(&["token", "sign", "--key", "none.pem", "--scope", "admin"]));
    assert!(stderr.contains("none.pem.json"), "{stderr}");
}

/// Something else listens there.
#[test]
fn what_is_not_the_api_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1024]).unwrap();
        stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno").unwrap();
    });
    let (code, stderr) = refused(godwit().args(["zone", "list", "--url", &url]));
    serving.join().unwrap();
    assert_eq!(code, 1);
    assert!(stderr.contains("not the API of Godwit") && stderr.contains("404"), "{stderr}");
}

/// The connection ends before the answer: the write is sent again, under the key of the first time, so that the API
/// carries it out once.
#[test]
fn a_write_whose_connection_broke_is_sent_again_under_the_same_key() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = std::thread::spawn(move || {
        let mut keys = Vec::new();
        for answer in
            ["", "HTTP/1.1 201 Created\r\nContent-Length: 32\r\n\r\n{\"name\":\"a.example.\",\"serial\":7}"]
        {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = String::new();
            while !request.ends_with('}') {
                let mut buffer = [0; 1024];
                let length = stream.read(&mut buffer).unwrap();
                assert!(length > 0, "{request}");
                request.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
            }
            let key = request.lines().find_map(|line| line.strip_prefix("idempotency-key: ")).unwrap();
            keys.push(key.to_owned());
            stream.write_all(answer.as_bytes()).unwrap();
        }
        keys
    });
    let text = said(godwit().args(["zone", "create", "a.example", "--url", &url]));
    assert_eq!(text, "created a.example. with serial 7\n");
    let keys = serving.join().unwrap();
    assert_eq!(keys[0], keys[1]);
}

#[test]
fn help_and_version_are_there() {
    assert!(said(godwit().arg("--version")).starts_with("godwit 0."));
    for arguments in
        [&["--help"][..], &["run", "--help"], &["import", "--help"], &["record", "set", "--help"]]
    {
        let help = said(godwit().args(arguments));
        assert!(help.contains("Example"), "{help}");
    }
}
