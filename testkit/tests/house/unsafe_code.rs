//! Unsafe code stands in the places named here and nowhere else. The compiler denies it by the workspace's lints; what
//! is checked is that every crate takes those lints, and that exceptions are made in these files only.

use super::files::{root, rust_files, text};
use super::metadata::{members, string};

/// Files and folders whose code may be unsafe: system calls, prefetching, allocators of tests.
const MAY: &[&str] = &["dataplane/src/sys/", "engine/src/snapshot/prefetch.rs"];

/// A test's or benchmark's own allocator, which only counts or measures.
fn is_test_allocator(path: &str, text: &str) -> bool {
    (path.contains("/tests/") || path.starts_with("benches/")) && text.contains("GlobalAlloc for")
}

#[test]
fn exceptions_stand_where_they_may() {
    let root = root();
    let own = "testkit/tests/house/unsafe_code.rs";
    let mut exceptions = 0;
    for path in rust_files(&root) {
        let inside =
            path.strip_prefix(&root).expect("the file is below the root").to_string_lossy().into_owned();
        let content = text(&path);
        if inside == own || !(content.contains("expect(unsafe_code") || content.contains("allow(unsafe_code"))
        {
            continue;
        }
        exceptions += 1;
        let may = MAY.iter().any(|place| inside.starts_with(place)) || is_test_allocator(&inside, &content);
        assert!(may, "{inside} allows unsafe code");
    }
    assert!(exceptions > 0, "no exception found: the search is broken");
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    for (name, package) in members() {
        let manifest = text(string(package, "manifest_path"));
        assert!(manifest.contains("[lints]\nworkspace = true"), "{name} does not take the workspace's lints");
    }
}

#[test]
fn wire_and_engine_deny_what_can_panic() {
    for (path, more) in
        [("wire/src/lib.rs", "clippy::arithmetic_side_effects"), ("engine/src/lib.rs", "clippy::panic")]
    {
        let text = text(path);
        for lint in
            ["clippy::unwrap_used", "clippy::expect_used", "clippy::panic", "clippy::indexing_slicing", more]
        {
            assert!(text.contains(lint), "{path} does not deny {lint}");
        }
    }
}
