//! Everything that is wrong with one zone file, for who writes it: `godwit zone check FILE`.

use std::path::Path;

use godwit_engine::snapshot::{LoadedZone, ZoneLoader};
use godwit_wire::name::Name;
use godwit_wire::zonefile::{self, Options, Record};

use super::error::ZoneError;
use super::file::{Confined, OPERATOR, placed, read_regular};
use super::place::Places;

/// So many findings are kept: a file that is no zone file has one on every line.
const MAX_FINDINGS: usize = 1_000;

/// What was found.
pub struct Report {
    /// What is wrong, in the order of the file; at most 1,000, of which the last says when there were more.
    pub findings: Vec<ZoneError>,
    /// Records that are right.
    pub records: u64,
    /// The zone, when nothing is wrong.
    pub zone: Option<LoadedZone>,
}

/// Reads and loads one zone and collects all that is wrong with it. Blocks.
#[must_use]
pub fn check(apex: &Name, path: &Path) -> Report {
    let text = match read_regular(path) {
        Ok(text) => text,
        Err(error) => {
            let finding = ZoneError::of_file(Some(apex), path, error.to_string());
            return Report { findings: vec![finding], records: 0, zone: None };
        }
    };
    let mut loader = ZoneLoader::new(apex.clone(), OPERATOR);
    let mut places = Places::default();
    let mut findings = Vec::new();
    let mut left_out = 0u64;
    let mut report = |error| {
        if findings.len() < MAX_FINDINGS - 1 {
            findings.push(ZoneError::of_text(apex, error));
        } else {
            left_out += 1;
        }
    };
    let options = Options::new(apex.clone(), path.display().to_string());
    let mut sink = |record: Record<'_>| {
        let line = places.number(record.file, record.line);
        loader
            .record(record.owner, record.rtype, record.ttl, record.rdata, line)
            .map_err(|error| error.to_string())
    };
    let summary = zonefile::check(&text.octets, &options, &mut Confined::new(path), &mut sink, &mut report);
    let zone = match loader.finish() {
        Ok(zone) => findings.is_empty().then_some(zone),
        // With records left out, what the rest lacks is no finding of its own.
        Err(error) if findings.is_empty() => {
            findings.push(placed(apex, path, &places, &error));
            None
        }
        Err(_) => None,
    };
    if left_out > 0 {
        findings.push(ZoneError::of_file(Some(apex), path, format!("and {left_out} more findings")));
    }
    Report { findings, records: summary.records, zone }
}
