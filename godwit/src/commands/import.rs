//! `godwit import`: zone files → the API. A file is checked here first, with its `$INCLUDE`s, so that what is wrong is
//! told by file and line and nothing of a bad zone is sent.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use bytes::Bytes;
use godwit_controlplane::validate::{self, zone::Sets};
use godwit_dataplane::source;
use godwit_engine::snapshot::{LoadedZone, Snapshot, SnapshotOptions, ZoneView};
use godwit_wire::feed::DigestKey;
use godwit_wire::name::Name;
use godwit_wire::presentation::{Printable, write_record};
use godwit_wire::rr::{Rrset, Rtype};
use indicatif::HumanCount;
use serde::Serialize;
use serde_json::json;

use super::progress::{Progress, while_waiting};
use super::zone::{Finding, line_of};
use super::{confirmed, large_zone, not_made, origin};
use crate::cli::Import;
use crate::client::{Ask, Client, ClientError, encoded};
use crate::output::{Output, Said, Wrong, say};

/// What became of one zone.
#[derive(Debug, Serialize)]
struct Outcome {
    zone: String,
    file: PathBuf,
    /// `imported`, `failed`, or `accepted`: not made yet, the database is away.
    state: &'static str,
    /// What was accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rrsets: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    findings: Vec<Finding>,
}

/// How a zone is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct How {
    /// The most octets of a request, about.
    pub(super) max_request: usize,
    /// Names that the caller knows it to cost.
    pub(super) confirm: Option<u64>,
}

/// How much of a zone was sent.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    /// RRsets of the zone.
    pub(super) rrsets: u64,
    /// Of which new, different or gone.
    pub(super) changed: u64,
    /// The last change that was accepted and is not made yet: the database is away.
    pub(super) accepted: Option<String>,
}

/// Imports a file or all files of a folder. A bad one hurts no other.
pub(crate) fn main(import: &Import, output: Output) -> anyhow::Result<()> {
    let zones = zones(import)?;
    let mut client = Client::new(&import.target)?;
    let how = How { max_request: usize::try_from(import.max_request)?, confirm: import.confirm };
    let mut progress = Progress::new("zones", zones.len() as u64);
    let mut outcomes = Vec::with_capacity(zones.len());
    let folder = zones.len() > 1;
    let count = zones.len();
    let mut stopped = None;
    for (apex, file) in zones {
        match import_one(&mut client, &apex, &file, how, output) {
            Ok(outcome) => outcomes.push(outcome),
            Err(error) => {
                stopped = Some(error.context(format!("importing {}", file.display())));
                break;
            }
        }
        if folder {
            progress.add(1);
        }
    }
    drop(progress);
    if outcomes.is_empty()
        && let Some(error) = stopped
    {
        return Err(error);
    }
    let count_of = |state| outcomes.iter().filter(|outcome| outcome.state == state).count();
    let (imported, accepted, failed) = (count_of("imported"), count_of("accepted"), count_of("failed"));
    let not_tried = count - outcomes.len();
    let value = json!({ "zones": outcomes, "imported": imported, "accepted": accepted, "failed": failed, "not_tried": not_tried });
    output.result(&value, |out| {
        for outcome in outcomes.iter().filter(|outcome| outcome.state != "failed") {
            if let Some(change) = &outcome.change {
                writeln!(out, "{}: {}", outcome.zone, not_made(change))?;
                continue;
            }
            let (rrsets, changed) = (outcome.rrsets.unwrap_or(0), outcome.changed.unwrap_or(0));
            writeln!(out, "{}: {rrsets} RRsets, {changed} changed", outcome.zone)?;
        }
        if folder {
            let rest = if not_tried > 0 { format!(", {not_tried} not tried") } else { String::new() };
            let waiting = if accepted > 0 { format!(", {accepted} accepted") } else { String::new() };
            writeln!(out, "{imported} zones imported{waiting}, {failed} failed{rest}")?;
        }
        Ok(())
    })?;
    if let Some(error) = stopped {
        return Err(error);
    }
    if failed == 0 { Ok(()) } else { Err(Said.into()) }
}

/// The zones to import, and their files.
fn zones(import: &Import) -> anyhow::Result<Vec<(Name, PathBuf)>> {
    let path = &import.path;
    let found = path.metadata().map_err(|error| Wrong(format!("{}: {error}", path.display())))?;
    if !found.is_dir() {
        return Ok(vec![(origin::of(path, import.zone.as_deref(), "--zone")?, path.clone())]);
    }
    if import.zone.is_some() {
        return Err(Wrong(format!("--zone goes with a file, and {} is a folder", path.display())).into());
    }
    if import.confirm.is_some() {
        return Err(Wrong(format!("--confirm goes with a file, and {} is a folder", path.display())).into());
    }
    let mut zones = Vec::new();
    for entry in path.read_dir().with_context(|| path.display().to_string())? {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "zone") && file.is_file() {
            zones.push((origin::of(&file, None, "--zone")?, file));
        }
    }
    if zones.is_empty() {
        return Err(Wrong(format!("{}: no ORIGIN.zone file in this folder", path.display())).into());
    }
    zones.sort();
    Ok(zones)
}

/// # Errors
/// What would be the same for every other zone: the API is not there, the token is not valid.
fn import_one(
    client: &mut Client,
    apex: &Name,
    file: &Path,
    how: How,
    output: Output,
) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome {
        zone: apex.to_string(),
        file: file.to_owned(),
        state: "failed",
        change: None,
        rrsets: None,
        changed: None,
        error: None,
        findings: Vec::new(),
    };
    let report = while_waiting(&format!("{apex}: checking"), || source::check(apex, file));
    let Some(zone) = report.zone else {
        if !output.json {
            for finding in &report.findings {
                say(Printable(&line_of(finding)));
            }
            say(format_args!("godwit: zone {apex} is not imported"));
        }
        outcome.findings = report.findings.iter().map(Finding::of).collect();
        outcome.error = Some("the zone file is not right".to_owned());
        return Ok(outcome);
    };
    match send(client, apex, zone, how) {
        Ok(Sent { accepted: Some(change), .. }) => {
            outcome.state = "accepted";
            outcome.change = Some(change);
        }
        Ok(sent) => {
            outcome.state = "imported";
            (outcome.rrsets, outcome.changed) = (Some(sent.rrsets), Some(sent.changed));
        }
        Err(error) if is_about_this_zone(&error) => {
            if !output.json {
                let error = format!("{}: {error:#}", file.display());
                say(format_args!("godwit: zone {apex}: {}", Printable(&error)));
            }
            outcome.error = Some(format!("{error:#}"));
        }
        Err(error) => return Err(error),
    }
    Ok(outcome)
}

fn is_about_this_zone(error: &anyhow::Error) -> bool {
    match error.downcast_ref::<ClientError>() {
        Some(ClientError::Api { status, .. }) => !matches!(status, 401 | 429 | 503),
        Some(_) => false,
        None => true,
    }
}

fn send(client: &mut Client, apex: &Name, zone: LoadedZone, how: How) -> anyhow::Result<Sent> {
    let mut hash_key = [0; 16];
    getrandom::fill(&mut hash_key).context("random octets")?;
    // The engine's own view of the zone: RRsets with their signatures, each once, in canonical order.
    let options = SnapshotOptions { hash_key, digest_key: DigestKey([0; 32]) };
    let snapshot = Snapshot::empty(&options).replace_zones(vec![zone]);
    let view = snapshot.zone(apex.as_ref()).context("the zone that was just loaded")?;
    judge(&view)?;
    match text(&view, how.max_request) {
        Some(text) => {
            let count = HumanCount(view.rrsets().count() as u64);
            let what = format!("{apex}: {count} RRsets sent, to be committed and served");
            while_waiting(&what, || send_whole(client, apex, text.into(), how.confirm))
        }
        None => large_zone::send(client, apex, &view, how),
    }
}

/// Refuses what the API would refuse of a zone that a data plane could serve: of a large one a part would be sent before it is found.
fn judge(view: &ZoneView<'_>) -> anyhow::Result<()> {
    let mut sets = view.rrsets().peekable();
    while let Some((owner, first)) = sets.next() {
        let mut of_owner = Sets::from([(first.rtype, first)]);
        while let Some((_, next)) = sets.next_if(|(next, _)| *next == owner) {
            of_owner.insert(next.rtype, next);
        }
        validate::zone::owner(view.apex(), owner, &of_owner)
            .map_err(|problem| anyhow!("{}", problem.message))?;
    }
    Ok(())
}

/// One request, one change.
pub(super) fn send_whole(
    client: &mut Client,
    apex: &Name,
    text: Bytes,
    confirm: Option<u64>,
) -> anyhow::Result<Sent> {
    let (zone, confirmed) = (encoded(&apex.to_string()), confirmed(confirm));
    let path = format!("/api/v1/domains/{zone}/import?wait=applied{confirmed}");
    let answer = client.ask(&Ask::post_text(path, text))?;
    answer.note_unapplied();
    let imported = answer.json()?;
    let count = |key: &str| imported[key].as_u64().unwrap_or(0);
    Ok(Sent { rrsets: count("rrsets"), changed: count("changed"), accepted: answer.accepted() })
}

/// The zone as text, SOA first (RFC 1035 §5.2); `None` when it does not go in one request.
fn text(view: &ZoneView<'_>, max_request: usize) -> Option<String> {
    let mut text = String::new();
    let soa = view.rrset(view.apex(), Rtype::SOA).map(|soa| (view.apex(), soa));
    let rest = view.rrsets().filter(|(_, rrset)| rrset.rtype != Rtype::SOA);
    for (owner, rrset) in soa.into_iter().chain(rest) {
        write(owner, &rrset, &mut text);
        if text.len() > max_request {
            return None;
        }
    }
    Some(text)
}

/// An RRset as lines of a zone file, its signatures behind it.
pub(super) fn write(owner: godwit_wire::name::NameRef<'_>, rrset: &Rrset, text: &mut String) {
    for rdata in &rrset.rdata {
        write_record(owner, rrset.ttl, rrset.rtype, rdata, text);
    }
    for rrsig in &rrset.rrsigs {
        write_record(owner, rrset.ttl, Rtype::RRSIG, rrsig, text);
    }
}
