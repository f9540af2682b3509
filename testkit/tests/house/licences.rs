//! The licences and sources of everything that is linked, against the lists of `deny.toml`: the same that `cargo deny`
//! reads, checked here so that it needs no further program. Advisories need a database and are not looked at.

use std::collections::BTreeSet;

use super::metadata::{linked, list, members, metadata, string};

/// The texts in quotes of a list in `deny.toml`.
fn quoted(deny: &str, key: &str) -> BTreeSet<String> {
    let start = deny.find(&format!("\n{key} = [")).unwrap_or_else(|| panic!("deny.toml has no list {key}"));
    let rest = &deny[start..];
    let list = &rest[..rest.find("\n]").expect("the list ends with its bracket on a line of its own")];
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Whether a licence expression (SPDX) is met by the allowed licences. Parentheses stand around whole alternatives
/// only, which is all that occurs.
fn is_met(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let expression = expression.replace('/', " OR ").replace(") AND (", ")&(");
    let all = |text: &str| text.split(" AND ").all(|licence| allowed.contains(licence.trim()));
    let any = |text: &str| text.split(" OR ").any(all);
    if !expression.contains('(') {
        return any(&expression);
    }
    // "(a OR b) AND c": every part has to be met by itself.
    let mut parts = Vec::new();
    let mut depth = 0;
    let mut part = String::new();
    for piece in expression.replace('&', " AND ").split_inclusive(['(', ')']) {
        part.push_str(piece.trim_end_matches(['(', ')']));
        match piece.chars().last() {
            Some('(') => depth += 1,
            Some(')') => depth -= 1,
            _ => {}
        }
        if depth <= 1 && piece.ends_with(['(', ')']) {
            parts.push(std::mem::take(&mut part));
        }
    }
    parts.push(part);
    let parts =
        parts.iter().map(|part| part.trim().trim_start_matches("AND ").trim_end_matches(" AND").trim());
    parts.filter(|part| !part.is_empty() && *part != "AND").all(any)
}

#[test]
fn every_licence_is_allowed() {
    let deny = super::files::text("deny.toml");
    let allowed = quoted(&deny, "allow");
    assert!(allowed.contains("MIT"), "{allowed:?}");
    let exceptions = quoted(&deny, "exceptions");
    let linked: BTreeSet<&str> = members().into_keys().flat_map(linked).collect();
    let mut wrong = Vec::new();
    for package in list(metadata(), "packages") {
        let (name, licence) = (string(package, "name"), string(package, "license"));
        if linked.contains(name) && !is_met(licence, &allowed) && !exceptions.contains(name) {
            wrong.push(format!("{name}: {licence:?}"));
        }
    }
    assert!(wrong.is_empty(), "licences that deny.toml does not allow: {wrong:#?}");
}

#[test]
fn everything_comes_from_the_registry_or_from_here() {
    for package in list(metadata(), "packages") {
        let source = string(package, "source");
        let known = source.is_empty() || source == "registry+https://github.com/rust-lang/crates.io-index";
        assert!(known, "{} comes from {source}", string(package, "name"));
    }
}

#[test]
fn expressions_are_read_as_they_are_meant() {
    let allowed = ["MIT", "Apache-2.0", "Unicode-3.0"].map(str::to_owned).into();
    for (expression, met) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("MIT OR GPL-3.0", true),
        ("MIT/Apache-2.0", true),
        ("MIT AND GPL-3.0", false),
        ("(MIT OR GPL-3.0) AND Unicode-3.0", true),
        ("(MIT OR Apache-2.0) AND GPL-3.0", false),
        ("Unicode-3.0 AND (GPL-2.0 OR GPL-3.0)", false),
        ("(MIT OR Apache-2.0) AND (GPL-3.0 OR LGPL-3.0)", false),
        ("", false),
    ] {
        assert_eq!(is_met(expression, &allowed), met, "{expression}");
    }
}
