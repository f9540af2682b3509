//! What a dry run says: which answers would change, for people.

use std::io::{self, Write};

use serde_json::Value;

use crate::output::Output;

/// How a write is sent: tried, or made and waited for.
pub(super) fn query(dry_run: bool) -> &'static str {
    if dry_run { "dry_run=true" } else { "wait=applied" }
}

/// Prints what the API said of a dry run.
pub(super) fn show(answer: &Value, output: Output) -> anyhow::Result<()> {
    output.result(answer, |out| write(&answer["dry_run"], out))
}

/// Answers that would change, each with the one before behind `-` and the one after behind `+`.
pub(super) fn write(said: &Value, out: &mut dyn Write) -> io::Result<()> {
    let Some(items) = said["answers"]["items"].as_array() else {
        let why = said["why"].as_str().unwrap_or("the server does not say which");
        return writeln!(out, "nothing was changed; which answers would change is not known: {why}");
    };
    if items.is_empty() {
        return writeln!(out, "nothing was changed; no answer would change");
    }
    for item in items {
        let text = |key: &str| item[key].as_str().unwrap_or_default();
        match text("type") {
            "*" => writeln!(out, "{} all other types", text("name"))?,
            rtype => writeln!(out, "{} {rtype}", text("name"))?,
        }
        for (sign, key) in [('-', "before"), ('+', "after")] {
            let answer = &item[key];
            let kind = match answer["kind"].as_str().unwrap_or_default() {
                "nodata" => "no such records",
                "nxdomain" => "no such name",
                "referral" => "referral",
                "answer" => "",
                _ => answer["rcode"].as_str().unwrap_or_default(),
            };
            if !kind.is_empty() {
                writeln!(out, "  {sign} {kind}")?;
            }
            for record in answer["records"].as_array().into_iter().flatten() {
                writeln!(out, "  {sign} {}", record.as_str().unwrap_or_default())?;
            }
        }
    }
    if let Some(more @ 1..) = said["answers"]["more"].as_u64() {
        writeln!(out, "and {more} more")?;
    }
    if said["answers"]["compared"] == "zones" {
        writeln!(
            out,
            "only the zones of the change, and those directly above and below them, were looked at"
        )?;
    }
    writeln!(out, "nothing was changed")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn changes_of_answers_are_shown_as_lines() {
        let said = json!({"answers": {"compared": "everything", "more": 2, "items": [
            {"name": "a.example.", "type": "A", "before": {"rcode": "NXDOMAIN", "kind": "nxdomain", "records": []},
             "after": {"rcode": "NOERROR", "kind": "answer", "records": ["a.example. 300 IN A 192.0.2.1"]}},
            {"name": "a.example.", "type": "*", "except": ["A"],
             "before": {"rcode": "NXDOMAIN", "kind": "nxdomain", "records": []},
             "after": {"rcode": "NOERROR", "kind": "nodata", "records": []}},
        ]}});
        let shown = |said: &Value| {
            let mut out = Vec::new();
            write(said, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let expected = "a.example. A\n  - no such name\n  + a.example. 300 IN A 192.0.2.1\na.example. all other types\n  \
                        - no such name\n  + no such records\nand 2 more\nnothing was changed\n";
        assert_eq!(shown(&said), expected);
        let none = json!({"answers": {"compared": "everything", "more": 0, "items": []}});
        assert_eq!(shown(&none), "nothing was changed; no answer would change\n");
        assert!(shown(&json!({"answers": null, "why": "too large"})).contains("not known: too large"));
    }
}
