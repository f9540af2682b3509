//! `godwit zone versions`, `godwit zone rollback` and `godwit rollback`.

use std::io::{self, BufRead as _, IsTerminal as _, Write};

use anyhow::bail;
use serde_json::{Value, json};

use super::progress::while_waiting;
use super::{absolute, confirmed, dry_run, is_accepted, text};
use crate::cli::{RollbackAll, Target, ZoneRollback};
use crate::client::{Ask, Client, encoded};
use crate::output::{Output, Wrong, say, write_printable};

/// Lists the versions of a zone.
pub(super) fn versions(zone: &str, target: &Target, output: Output) -> anyhow::Result<()> {
    let apex = absolute(zone)?;
    let mut versions = Vec::new();
    Client::new(target)?.list(&format!("/api/v1/domains/{}/versions", encoded(&apex)), |version| {
        versions.push(version);
        Ok(())
    })?;
    output.result(&json!({ "items": versions }), |out| {
        for version in &versions {
            write!(out, "{} {} serial {}", version["version"], text(version, "at"), version["serial"])?;
            if let Some(sequence) = version["sequence"].as_u64() {
                write!(out, " sequence {sequence}")?;
            }
            if let Some(action) = version["action"].as_str().or(version["kind"].as_str()) {
                write!(out, " {action} by {}", version["actor"].as_str().unwrap_or("?"))?;
                write!(out, ", RRsets put {} deleted {}", version["put"], version["deleted"])?;
            }
            let note = if version["readable"] == false { ", not readable" } else { "" };
            writeln!(out, "{note}")?;
        }
        Ok(())
    })
}

/// Makes a zone what it was.
pub(super) fn zone(arguments: &ZoneRollback, output: Output) -> anyhow::Result<()> {
    let apex = absolute(&arguments.zone)?;
    let body = match (&arguments.to, &arguments.at) {
        (Some(version), _) => json!({ "version": version }),
        (None, at) => json!({ "at": at }),
    };
    let (query, confirm) = (dry_run::query(arguments.dry_run), confirmed(arguments.confirm));
    let path = format!("/api/v1/domains/{}/rollback?{query}{confirm}", encoded(&apex));
    let mut client = Client::new(&arguments.target)?;
    let answer = while_waiting(&format!("{apex}: rolling back"), || client.ask(&Ask::post(path, &body)))?;
    if arguments.dry_run {
        return dry_run::show(&answer.json()?, output);
    }
    if is_accepted(&answer, output)? {
        return Ok(());
    }
    let zone = answer.json()?;
    output.result(&zone, |out| {
        let is = match (arguments.to, arguments.at.as_deref()) {
            (Some(version), _) => format!("what it was in version {version}"),
            (None, at) => format!("what it was at {}", at.unwrap_or_default()),
        };
        writeln!(out, "{apex} is {is}: version {} serial {}", zone["version"], zone["serial"])
    })
}

/// Makes everything what it was.
pub(crate) fn all(arguments: &RollbackAll, output: Output) -> anyhow::Result<()> {
    let body = json!({ "to": arguments.to });
    let mut client = Client::new(&arguments.target)?;
    let mut send = |dry: bool, confirm: Option<u64>| -> anyhow::Result<(Value, Option<u64>)> {
        let path = format!("/api/v1/rollback?{}{}", dry_run::query(dry), confirmed(confirm));
        let answer = while_waiting("rolling back", || client.ask(&Ask::post(path, &body)))?;
        answer.note_unapplied();
        Ok((answer.json()?, answer.to_be_confirmed()))
    };
    let (planned, mut confirm) = send(true, None)?;
    if arguments.dry_run {
        return output.result(&planned, |out| {
            write_zones(&planned, out)?;
            dry_run::write(&planned["dry_run"], out)
        });
    }
    if !arguments.confirm && !is_confirmed(&planned, arguments.to)? {
        bail!("nothing was changed");
    }
    // Each of them is whole: interrupted in between, the next run goes on.
    let mut made = Vec::new();
    loop {
        let (one, _) = send(false, confirm)?;
        let left = one["left"].as_u64().unwrap_or(0);
        if left > 0 {
            say(format_args!("godwit: change {} is made; {left} zones are left", text(&one, "id")));
        }
        made.push(one);
        if left == 0 {
            break;
        }
        // What was confirmed is all of it; how many names the next part costs, nobody has said yet.
        (_, confirm) = send(true, None)?;
    }
    output.result(&json!({ "to": arguments.to, "changes": made }), |out| {
        made.iter().try_for_each(|one| write_zones(one, out))?;
        let changes = if made.len() == 1 { "1 change".to_owned() } else { format!("{} changes", made.len()) };
        writeln!(out, "everything is what it was after sequence {}, by {changes}", arguments.to)
    })
}

/// Says what would change, and asks whether it shall.
fn is_confirmed(planned: &Value, to: u64) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        return Err(
            Wrong("nobody is there to be asked: say --confirm, or look with --dry-run".to_owned()).into()
        );
    }
    let mut shown = Vec::new();
    write_zones(planned, &mut shown)?;
    write_printable(&String::from_utf8_lossy(&shown), &mut io::stderr().lock())?;
    say(format_args!("Everything after sequence {to} is taken back. Type the sequence to go on:"));
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim() == to.to_string())
}

fn write_zones(answer: &Value, out: &mut dyn Write) -> io::Result<()> {
    for zone in answer["zones"].as_array().into_iter().flatten() {
        match text(zone, "kind") {
            "remove" => writeln!(out, "{} removed: it was made since", text(zone, "name"))?,
            "create" => writeln!(out, "{} back, with {} RRsets", text(zone, "name"), zone["rrsets"])?,
            _ => writeln!(out, "{} changed in {} RRsets", text(zone, "name"), zone["rrsets"])?,
        }
    }
    if let Some(more @ 1..) = answer["more"].as_u64() {
        writeln!(out, "and {more} more zones")?;
    }
    if let Some(left @ 1..) = answer["left"].as_u64() {
        writeln!(out, "{left} zones do not fit into the first change")?;
    }
    Ok(())
}
