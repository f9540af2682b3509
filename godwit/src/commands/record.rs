//! `godwit record set|delete|list`.

use std::io::{self, Write};

use godwit_wire::presentation::Printable;
use serde_json::{Value, json};

use super::{absolute, ascii, dry_run, is_accepted};
use crate::cli::{Record, RecordDelete, RecordList, RecordSet};
use crate::client::{Ask, Client, encoded};
use crate::output::{Output, Wrong, say, write_printable};

/// Carries out one of them.
pub(crate) fn main(command: Record, output: Output) -> anyhow::Result<()> {
    match command {
        Record::Set(arguments) => set(&arguments, output),
        Record::Delete(arguments) => delete(&arguments, output),
        Record::List(arguments) => list(&arguments, output),
    }
}

/// The name for the API: people leave the final dot out, so without a zone every name is absolute.
fn owner(name: &str, zone: Option<&str>) -> Result<String, Wrong> {
    let alone = absolute(name)?;
    Ok(if zone.is_some() { ascii(name)? } else { alone })
}

/// `&zone=…` where one is given.
fn in_zone(zone: Option<&str>) -> Result<String, Wrong> {
    zone.map_or(Ok(String::new()), |zone| Ok(format!("&zone={}", encoded(&absolute(zone)?))))
}

fn set(arguments: &RecordSet, output: Output) -> anyhow::Result<()> {
    let zone = arguments.zone.as_deref();
    let (owner, in_zone) = (owner(&arguments.name, zone)?, in_zone(zone)?);
    let mut sent = json!({ "name": owner, "type": arguments.rtype, "value": arguments.value });
    if let Some(ttl) = arguments.ttl {
        sent["ttl"] = ttl.into();
    }
    let mut step = sent.clone();
    step["op"] = "put".into();
    let mut client = Client::new(&arguments.target)?;
    let path = format!("/api/v1/changes?{}{in_zone}", dry_run::query(arguments.dry_run));
    let answer = client.ask(&Ask::post(path, &json!({ "changes": [step] })))?;
    if arguments.dry_run {
        return dry_run::show(&answer.json()?, output);
    }
    if is_accepted(&answer, output)? {
        return Ok(());
    }
    // What stands there now: with its TTL, and values in the form that they are kept in.
    let (name, rtype) = (encoded(&owner), encoded(&arguments.rtype));
    let path = format!("/api/v1/records/{name}?type={rtype}{in_zone}");
    let record = client.ask(&Ask::get(path)).and_then(|answer| answer.json()).unwrap_or_else(|error| {
        // It is made: a token may be allowed to write alone.
        say(format_args!(
            "godwit: it is made; what stands there now cannot be read: {}",
            Printable(&error.to_string())
        ));
        sent
    });
    output.result(&record, |out| lines(out, &record))
}

fn delete(arguments: &RecordDelete, output: Output) -> anyhow::Result<()> {
    let zone = arguments.zone.as_deref();
    let owner = owner(&arguments.name, zone)?;
    let which = match &arguments.rtype {
        Some(rtype) => format!("type={}", encoded(rtype)),
        None => "all=true".to_owned(),
    };
    let how = dry_run::query(arguments.dry_run);
    let path = format!("/api/v1/records/{}?{how}&{which}{}", encoded(&owner), in_zone(zone)?);
    let answer = Client::new(&arguments.target)?.ask(&Ask::delete(path))?;
    if arguments.dry_run {
        return dry_run::show(&answer.json()?, output);
    }
    if is_accepted(&answer, output)? {
        return Ok(());
    }
    let value = json!({ "deleted": owner, "type": arguments.rtype });
    output.result(&value, |out| match &arguments.rtype {
        Some(rtype) => writeln!(out, "deleted {owner} {rtype}"),
        None => writeln!(out, "deleted {owner}"),
    })
}

fn list(arguments: &RecordList, output: Output) -> anyhow::Result<()> {
    let mut filters = Vec::new();
    if let Some(zone) = &arguments.zone {
        filters.push(format!("zone={}", encoded(&absolute(zone)?)));
    }
    if let Some(rtype) = &arguments.rtype {
        filters.push(format!("type={}", encoded(rtype)));
    }
    if let Some(at) = &arguments.at {
        filters.push(format!("at={}", encoded(at)));
    }
    let mut path = "/api/v1/records".to_owned();
    if !filters.is_empty() {
        path = format!("{path}?{}", filters.join("&"));
    }
    let mut client = Client::new(&arguments.target)?;
    // Page by page: there may be millions.
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut first = true;
    let listed = client.list(&path, |record| {
        if output.json {
            out.write_all(if first { b"{\"items\":[\n" } else { b",\n" })?;
            serde_json::to_writer(&mut out, &record)?;
        } else {
            let mut shown = Vec::new();
            lines(&mut shown, &record)?;
            write_printable(&String::from_utf8_lossy(&shown), &mut out)?;
        }
        first = false;
        Ok(())
    });
    let listed = listed.and_then(|()| {
        if output.json {
            out.write_all(if first { b"{\"items\":[]}\n" } else { b"\n]}\n" })?;
        }
        Ok(out.flush()?)
    });
    match listed {
        // Who reads has seen enough.
        Err(error) if is_broken_pipe(&error) => Ok(()),
        other => other,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// A record as lines of a zone file.
fn lines(out: &mut dyn Write, record: &Value) -> io::Result<()> {
    let text = |key: &str| record[key].as_str().unwrap_or_default();
    for value in record["value"].as_array().into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        let ttl = record["ttl"].as_u64().map_or_else(String::new, |ttl| format!("{ttl} "));
        writeln!(out, "{} {ttl}IN {} {value}", text("name"), text("type"))?;
    }
    Ok(())
}
