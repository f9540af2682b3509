//! The arrows between crates: what each may use directly, and what must never be linked into it.
//!
//! A new dependency needs a line here, in the same change, next to the reason in its commit.

#[path = "house/files.rs"]
mod files;
#[path = "house/metadata.rs"]
mod metadata;

use std::collections::{BTreeMap, BTreeSet};

use metadata::{linked, list, members, string};

/// What each crate may depend on directly, beside the standard library.
const ALLOWED: &[(&str, &[&str])] = &[
    // Bytes in, values out: no runtime, no sockets, no clock, no logging.
    ("godwit-wire", &["domain", "thiserror", "blake3", "ring", "memchr", "smallvec"]),
    // An answer is a function of the query and the snapshot.
    (
        "godwit-engine",
        &[
            "godwit-wire",
            "arc-swap",
            "arrayvec",
            "blake3",
            "hashbrown",
            "imbl",
            "siphasher",
            "smallvec",
            "thiserror",
            "triomphe",
        ],
    ),
    // What a place of Redis is, for both planes: they know nothing of each other, and mean the same by a URL.
    ("godwit-redis", &["redis", "thiserror", "tokio", "tracing"]),
    // Answers while database and API are down: knows neither.
    (
        "godwit-dataplane",
        &[
            "godwit-wire",
            "godwit-engine",
            "godwit-redis",
            "anyhow",
            "arc-swap",
            "base64",
            "blake3",
            "bytes",
            "caps",
            "clap",
            "config",
            "crossbeam",
            "domain",
            "getrandom",
            "http-body-util",
            "hyper",
            "hyper-util",
            "indicatif",
            "ipnet",
            "landlock",
            "libc",
            "libmimalloc-sys",
            "mimalloc",
            "prometheus-client",
            "prost",
            "redis",
            "ring",
            "rtrb",
            "rustls",
            "sd-notify",
            "seccompiler",
            "serde",
            "serde_json",
            "socket2",
            "thiserror",
            "time",
            "tokio",
            "tokio-rustls",
            "tracing",
            "tracing-subscriber",
        ],
    ),
    // Decides what is true; serving it is not its business.
    (
        "godwit-controlplane",
        &[
            "godwit-wire",
            "godwit-engine",
            "godwit-redis",
            "anyhow",
            "argon2",
            "askama",
            "axum",
            "base64",
            "blake3",
            "bytes",
            "clap",
            "config",
            "croner",
            "domain",
            "getrandom",
            "governor",
            "hashlink",
            "http-body-util",
            "hyper",
            "hyper-util",
            "idna",
            "ipnet",
            "jsonwebtoken",
            "lettre",
            "mimalloc",
            "nix",
            "percent-encoding",
            "pkcs1",
            "prometheus-client",
            "psl",
            "publicsuffix",
            "rcgen",
            "redb",
            "redis",
            "ring",
            "rustls",
            "rustls-native-certs",
            "serde",
            "serde_json",
            "serde_urlencoded",
            "sha2",
            "spki",
            "sqlx",
            "subtle",
            "thiserror",
            "time",
            "tokio",
            "tokio-rustls",
            "totp-rs",
            "tower",
            "tower-http",
            "tracing",
            "tracing-subscriber",
            "unicode-security",
            "utoipa",
            "utoipa-axum",
            "utoipa-swagger-ui",
            "uuid",
        ],
    ),
    // Wires both planes and is a client of the API for people.
    (
        "godwit",
        &[
            "godwit-wire",
            "godwit-engine",
            "godwit-dataplane",
            "godwit-controlplane",
            "anyhow",
            "base64",
            "bytes",
            "clap",
            "config",
            "getrandom",
            "http-body-util",
            "hyper",
            "hyper-util",
            "idna",
            "indicatif",
            "libc",
            "mimalloc",
            "percent-encoding",
            "rcgen",
            "ring",
            "rpassword",
            "rustls",
            "rustls-native-certs",
            "serde",
            "serde_json",
            "socket2",
            "thiserror",
            "time",
            "tokio",
            "tokio-rustls",
            "tracing",
            "tracing-subscriber",
            "uuid",
        ],
    ),
    (
        "godwit-testkit",
        &[
            "godwit-wire",
            "godwit-engine",
            "anyhow",
            "domain",
            "libc",
            "rand",
            "rand_chacha",
            "ring",
            "serde",
            "serde_json",
            "siphasher",
            "tempfile",
            "thiserror",
        ],
    ),
    // Sees a server as a client does, or it would measure itself.
    (
        "godwit-loadtest",
        &[
            "godwit-wire",
            "anyhow",
            "clap",
            "ctrlc",
            "domain",
            "hdrhistogram",
            "httparse",
            "indicatif",
            "libc",
            "nix",
            "rand",
            "rand_chacha",
            "redis",
            "serde",
            "serde_json",
            "socket2",
            "tempfile",
            "thiserror",
        ],
    ),
    (
        "godwit-benches",
        &[
            "godwit-wire",
            "godwit-engine",
            "godwit-testkit",
            "anyhow",
            "criterion",
            "foldhash",
            "hashbrown",
            "imbl",
            "libc",
            "mimalloc",
            "rand",
            "rand_chacha",
            "triomphe",
        ],
    ),
];

/// Our own crates that the tests of each crate may use besides.
const ALLOWED_IN_TESTS: &[(&str, &[&str])] = &[
    ("godwit-wire", &[]),
    ("godwit-engine", &["godwit-testkit"]),
    ("godwit-redis", &["godwit-testkit"]),
    ("godwit-dataplane", &["godwit-testkit"]),
    ("godwit-controlplane", &["godwit-testkit"]),
    ("godwit", &["godwit-testkit"]),
    ("godwit-testkit", &["godwit-engine"]),
    ("godwit-loadtest", &["godwit-testkit"]),
    ("godwit-benches", &["godwit-testkit"]),
];

/// What must not be linked, not even through others.
const NEVER_LINKED: &[(&str, &[&str])] = &[
    ("godwit-wire", &["tokio", "mio", "socket2", "tracing", "sqlx", "axum", "hyper"]),
    ("godwit-engine", &["tokio", "mio", "socket2", "tracing", "sqlx", "axum", "hyper"]),
    ("godwit-redis", &["godwit-engine", "godwit-dataplane", "godwit-controlplane", "sqlx"]),
    ("godwit-dataplane", &["godwit-controlplane", "sqlx", "sqlx-core", "libsqlite3-sys", "axum", "utoipa"]),
    ("godwit-controlplane", &["godwit-dataplane"]),
    ("godwit-loadtest", &["godwit-engine", "godwit-dataplane", "godwit-controlplane"]),
    ("godwit-testkit", &["godwit-dataplane", "godwit-controlplane"]),
    ("godwit", &["openssl-sys", "native-tls", "aws-lc-sys"]),
];

/// Everything that `godwit-wire` links on Linux, to the last crate.
const WIRE_LINKS: &[&str] = &[
    "arrayvec",
    "blake3",
    "bytes",
    "cfg-if",
    "constant_time_eq",
    "cpufeatures",
    "domain",
    "domain-macros",
    "foldhash",
    "getrandom",
    "godwit-wire",
    "hashbrown",
    "jiff",
    "jiff-core",
    "libc",
    "octseq",
    "proc-macro2",
    "quote",
    "ring",
    "serde",
    "serde_core",
    "serde_derive",
    "syn",
    "thiserror",
    "thiserror-impl",
    "unicode-ident",
    "untrusted",
];

/// Direct dependencies of a crate: those of its code and its build script, or those of its tests only.
fn direct(package: &str, tests: bool) -> BTreeSet<&'static str> {
    let dependencies = list(members()[package], "dependencies").iter();
    dependencies.filter(|d| (d["kind"] == "dev") == tests).map(|d| string(d, "name")).collect()
}

fn of<'a>(table: &[(&str, &'a [&'a str])], package: &str) -> BTreeSet<&'a str> {
    table
        .iter()
        .find(|(name, _)| *name == package)
        .map(|(_, list)| list.iter().copied().collect())
        .unwrap_or_default()
}

#[test]
fn every_crate_has_its_list() {
    let listed: BTreeSet<&str> = ALLOWED.iter().map(|(name, _)| *name).collect();
    let members: BTreeSet<&str> = members().into_keys().collect();
    assert_eq!(members, listed, "members of the workspace, and crates with a list of what they may use");
}

#[test]
fn crates_use_what_they_may() {
    let mut wrong: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in members().into_keys() {
        let allowed = of(ALLOWED, package);
        let beyond: BTreeSet<&str> = direct(package, false).difference(&allowed).copied().collect();
        if !beyond.is_empty() {
            wrong.insert(package, beyond);
        }
    }
    assert!(wrong.is_empty(), "not on the list of what the crate may use directly: {wrong:#?}");
}

#[test]
fn tests_use_our_own_crates_as_they_may() {
    for package in members().into_keys() {
        let mut allowed = of(ALLOWED, package);
        allowed.extend(of(ALLOWED_IN_TESTS, package));
        for used in direct(package, true).into_iter().filter(|name| name.starts_with("godwit")) {
            assert!(allowed.contains(used), "the tests of {package} use {used}");
        }
    }
}

#[test]
fn what_must_not_be_linked_is_not() {
    for (package, never) in NEVER_LINKED {
        let linked = linked(package);
        assert!(linked.contains(package), "{package} is not a member of the workspace");
        for name in *never {
            assert!(!linked.contains(name), "{package} links {name}");
        }
    }
}

#[test]
fn wire_links_what_is_listed() {
    let output = std::process::Command::new(env!("CARGO"))
        .args(["tree", "-p", "godwit-wire", "-e", "normal", "--prefix", "none", "--format", "{lib}|{p}"])
        .args(["--locked", "--target", "x86_64-unknown-linux-gnu"])
        .current_dir(files::root())
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("cargo tree prints text");
    let names = text.lines().filter_map(|line| line.split('|').nth(1)?.split(' ').next());
    let linked: BTreeSet<&str> = names.collect();
    assert!(linked.contains("domain"), "cargo tree printed something else: {text}");
    let allowed: BTreeSet<&str> = WIRE_LINKS.iter().copied().collect();
    let beyond: Vec<_> = linked.difference(&allowed).collect();
    assert!(beyond.is_empty(), "godwit-wire links what is not on its list: {beyond:?}");
}

/// The control plane asks the engine in two places only: before it publishes, and for a dry run.
#[test]
fn the_control_plane_uses_the_engine_where_it_may() {
    let source = files::root().join("controlplane/src");
    for path in files::rust_files(&source) {
        let inside =
            path.strip_prefix(&source).expect("the file is below the folder").to_string_lossy().into_owned();
        let may = inside.starts_with("relay/shadow") || inside.starts_with("compare/");
        let uses = files::text(&path).contains("godwit_engine");
        assert!(may || !uses, "controlplane/src/{inside} uses the engine");
    }
}
