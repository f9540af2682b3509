//! What `cargo metadata` says about the workspace and everything it links.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

/// The answer of `cargo metadata`, asked once.
pub(crate) fn metadata() -> &'static Value {
    static METADATA: OnceLock<Value> = OnceLock::new();
    METADATA.get_or_init(|| {
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--locked"])
            .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
            .current_dir(super::files::root())
            .output()
            .expect("cargo starts");
        assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
    })
}

/// A list inside the metadata.
pub(crate) fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A text inside the metadata; empty when it is absent.
pub(crate) fn string<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// The packages of this workspace by name.
pub(crate) fn members() -> BTreeMap<&'static str, &'static Value> {
    let ids: BTreeSet<&str> =
        list(metadata(), "workspace_members").iter().filter_map(Value::as_str).collect();
    let ours = list(metadata(), "packages").iter().filter(|package| ids.contains(string(package, "id")));
    ours.map(|package| (string(package, "name"), package)).collect()
}

/// The packages that end up in a build of `package`: its normal dependencies, theirs, and so on. With the features that
/// the whole workspace asks for, so never fewer than in a build of that package alone.
pub(crate) fn linked(package: &str) -> BTreeSet<&'static str> {
    let nodes: BTreeMap<&str, &Value> =
        list(&metadata()["resolve"], "nodes").iter().map(|node| (string(node, "id"), node)).collect();
    let names: BTreeMap<&str, &'static str> = list(metadata(), "packages")
        .iter()
        .map(|package| (string(package, "id"), string(package, "name")))
        .collect();
    let mut found = BTreeSet::new();
    let mut open: Vec<&str> = names.iter().filter(|(_, name)| **name == package).map(|(id, _)| *id).collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = open.pop() {
        if !seen.insert(id) {
            continue;
        }
        found.insert(names[id]);
        for dependency in list(nodes[id], "deps") {
            if list(dependency, "dep_kinds").iter().any(|kind| kind["kind"].is_null()) {
                open.push(string(dependency, "pkg"));
            }
        }
    }
    found
}
