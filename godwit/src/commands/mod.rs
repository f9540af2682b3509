//! The commands for people, one file each. All but `zone check`, `token create`, `token sign`, `keys make`, `audit verify` and `backup`
//! speak to the API.

pub(crate) mod audit;
pub(crate) mod backup;
mod dry_run;
pub(crate) mod export;
pub(crate) mod import;
pub(crate) mod key;
pub(crate) mod keys;
mod large_zone;
pub(crate) mod node;
mod origin;
mod progress;
pub(crate) mod record;
pub(crate) mod rollback;
pub(crate) mod token;
pub(crate) mod user;
pub(crate) mod zone;

use serde_json::json;

use crate::client::Answer;
use crate::output::{Output, Wrong};

/// Says that a change was accepted while the database is away, and is not made yet; `false` where it is made, after a line about data
/// planes that do not serve it.
fn is_accepted(answer: &Answer, output: Output) -> anyhow::Result<bool> {
    let Some(change) = answer.accepted() else {
        answer.note_unapplied();
        return Ok(false);
    };
    output.result(&json!({ "id": change, "state": "buffered" }), |out| {
        writeln!(out, "{}", not_made(&change))
    })?;
    Ok(true)
}

/// Of a change that was accepted, for people.
fn not_made(change: &str) -> String {
    format!(
        "accepted, not made yet: the database is away; GET /api/v1/changes/{change} says what becomes of it"
    )
}

/// A name as people type it, with the labels that are not ASCII as A-labels (UTS 46), which the API takes alone.
///
/// # Errors
/// Of what is no name.
fn ascii(text: &str) -> Result<String, Wrong> {
    let label = |label: &str| match label.is_ascii() {
        true => Ok(label.to_owned()),
        false => idna::domain_to_ascii_strict(label),
    };
    let labels: Result<Vec<String>, _> = text.split('.').map(label).collect();
    labels
        .map(|labels| labels.join("."))
        .map_err(|_| Wrong(format!("\"{text}\" is not a valid name: it has no form in ASCII (UTS 46)")))
}

/// A name as people type it on a command line: absolute, with or without its final dot.
///
/// # Errors
/// For no name at all: the root is written as a dot, and a variable of a script that is not set must not mean it.
fn absolute(text: &str) -> Result<String, Wrong> {
    let text = &ascii(text)?;
    if text.trim().is_empty() {
        return Err(Wrong("a name is empty; the root is written as \".\"".to_owned()));
    }
    let head = text.strip_suffix('.');
    // A dot behind an odd number of backslashes is part of a label (RFC 1035 §5.1).
    let is_dot = |head: &str| head.bytes().rev().take_while(|&octet| octet == b'\\').count() % 2 == 0;
    Ok(if head.is_some_and(is_dot) { text.to_owned() } else { format!("{text}.") })
}

/// What confirms a change, behind other parameters of a path.
fn confirmed(names: Option<u64>) -> String {
    names.map_or_else(String::new, |names| format!("&confirm={names}"))
}

/// A text inside what the API answered.
fn text<'a>(value: &'a serde_json::Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_in_a_dot_that_ends_them() {
        for (text, expected) in [
            ("example.com", Some("example.com.")),
            ("example.com.", Some("example.com.")),
            (".", Some(".")),
            ("_dmarc.B\u{fc}cher.example", Some("_dmarc.xn--bcher-kva.example.")),
            ("a\u{2024}b\u{fffd}.example", None),
            ("a\\.", Some("a\\..")),
            ("a\\\\.", Some("a\\\\.")),
            ("", None),
            (" ", None),
        ] {
            assert_eq!(absolute(text).ok().as_deref(), expected, "{text:?}");
        }
    }
}
