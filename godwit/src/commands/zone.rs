//! `godwit zone check|list|create|delete`, and the way to what is in `rollback`.

use godwit_dataplane::source::{self, ZoneError};
use godwit_engine::snapshot::LoadedZone;
use serde::Serialize;
use serde_json::json;

use super::{absolute, confirmed, dry_run, is_accepted, origin, rollback, text};
use crate::cli::{Target, Zone, ZoneCheck, ZoneCreate};
use crate::client::{Ask, Client, encoded};
use crate::output::{Output, Said};

/// Carries out one of them.
pub(crate) fn main(command: Zone, output: Output) -> anyhow::Result<()> {
    match command {
        Zone::Check(arguments) => check(&arguments, output),
        Zone::List { target } => list(&target, output),
        Zone::Create(arguments) => create(&arguments, output),
        Zone::Delete { zone, confirm, dry_run, target } => delete(&zone, confirm, dry_run, &target, output),
        Zone::Versions { zone, target } => rollback::versions(&zone, &target, output),
        Zone::Rollback(arguments) => rollback::zone(&arguments, output),
    }
}

/// Something wrong with a zone file, as programs read it.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    file: String,
    line: Option<u32>,
    token: Option<String>,
    reason: String,
}

impl Finding {
    pub(super) fn of(error: &ZoneError) -> Self {
        Finding {
            file: error.file.clone(),
            line: error.line,
            token: error.token.clone(),
            reason: error.reason.clone(),
        }
    }
}

/// A finding as people read it and editors find it: `file:line: "token": reason`.
pub(super) fn line_of(error: &ZoneError) -> String {
    let without_zone = ZoneError { zone: None, ..error.clone() };
    without_zone.to_string()
}

fn check(arguments: &ZoneCheck, output: Output) -> anyhow::Result<()> {
    let apex = origin::of(&arguments.file, arguments.origin.as_deref(), "--origin")?;
    let report = source::check(&apex, &arguments.file);
    let good = report.findings.is_empty();
    let names = report.zone.as_ref().map(LoadedZone::name_count);
    let value = json!({
        "file": arguments.file,
        "zone": apex.to_string(),
        "ok": good,
        "records": report.records,
        "names": names,
        "findings": report.findings.iter().map(Finding::of).collect::<Vec<_>>(),
    });
    output.result(&value, |out| {
        for finding in &report.findings {
            writeln!(out, "{}", line_of(finding))?;
        }
        match (names, report.findings.len()) {
            (Some(names), _) => {
                writeln!(out, "zone {apex} is good: {} records, {names} names", report.records)
            }
            (None, 1) => writeln!(out, "zone {apex}: 1 finding"),
            (None, count) => writeln!(out, "zone {apex}: {count} findings"),
        }
    })?;
    if good { Ok(()) } else { Err(Said.into()) }
}

fn list(target: &Target, output: Output) -> anyhow::Result<()> {
    let mut zones = Vec::new();
    Client::new(target)?.list("/api/v1/domains", |zone| {
        zones.push(zone);
        Ok(())
    })?;
    output.result(&json!({ "items": zones }), |out| {
        for zone in &zones {
            writeln!(out, "{} serial {} version {}", text(zone, "name"), zone["serial"], zone["version"])?;
        }
        Ok(())
    })
}

fn create(arguments: &ZoneCreate, output: Output) -> anyhow::Result<()> {
    let mut body = json!({ "name": absolute(&arguments.zone)? });
    if !arguments.ns.is_empty() {
        let ns = arguments.ns.iter().map(|name| absolute(name));
        body["ns"] = ns.collect::<Result<Vec<String>, _>>()?.into();
    }
    let answer = Client::new(&arguments.target)?.ask(&Ask::post("/api/v1/domains?wait=applied", &body))?;
    if is_accepted(&answer, output)? {
        return Ok(());
    }
    let zone = answer.json()?;
    output
        .result(&zone, |out| writeln!(out, "created {} with serial {}", text(&zone, "name"), zone["serial"]))
}

fn delete(
    zone: &str,
    confirm: Option<u64>,
    dry: bool,
    target: &Target,
    output: Output,
) -> anyhow::Result<()> {
    let apex = absolute(zone)?;
    let path = format!("/api/v1/domains/{}?{}{}", encoded(&apex), dry_run::query(dry), confirmed(confirm));
    let answer = Client::new(target)?.ask(&Ask::delete(path))?;
    if dry {
        return dry_run::show(&answer.json()?, output);
    }
    if is_accepted(&answer, output)? {
        return Ok(());
    }
    output.result(&json!({ "deleted": apex }), |out| writeln!(out, "deleted {apex}"))
}
