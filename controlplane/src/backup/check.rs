//! Reads a backup and checks all of it: that nothing is missing or damaged, and that the digests that are kept are those of
//! the records.

use std::collections::HashMap;
use std::io::{BufRead, Read as _};

use anyhow::{Context as _, bail, ensure};
use godwit_wire::feed::digest::{rrset_digest, zone_term};
use godwit_wire::feed::{Digest, DigestKey};
use godwit_wire::name::Name;
use godwit_wire::rr::{Rrset, Rtype};
use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};

use super::{Summary, TABLES, VERSION};
use crate::hex;
use crate::model::name_key;
use crate::store::{dump, sets};

/// No line is longer: a change of a zone of a gigabyte is not made.
const LONGEST_LINE: u64 = 1 << 30;

/// What a line says.
pub(super) enum Line {
    /// A table begins: its name, its columns.
    Table(&'static str, Vec<String>),
    /// A row of the last table.
    Row(Vec<Json>),
    /// All of it was read and is right.
    End(Summary),
}

struct Zone {
    apex: Name,
    version: u64,
    kept: Option<Digest>,
    counted: Digest,
}

/// Reads a backup line by line.
pub(super) struct Reader<R> {
    from: R,
    hash: Sha256,
    number: u64,
    tables: usize,
    columns: HashMap<String, usize>,
    width: usize,
    summary: Summary,
    key: Option<DigestKey>,
    root: Option<Digest>,
    unsequenced: Digest,
    zones: HashMap<i64, Zone>,
}

/// Checks a backup; says what it holds.
///
/// # Errors
/// What is wrong with it, and in which line.
pub fn verify(from: impl BufRead) -> anyhow::Result<Summary> {
    let mut reader = Reader::new(from)?;
    loop {
        if let Line::End(summary) = reader.next()? {
            return Ok(summary);
        }
    }
}

impl<R: BufRead> Reader<R> {
    pub(super) fn new(from: R) -> anyhow::Result<Reader<R>> {
        let mut reader = Reader {
            from,
            hash: Sha256::new(),
            number: 0,
            tables: 0,
            columns: HashMap::new(),
            width: 0,
            summary: Summary::default(),
            key: None,
            root: None,
            unsequenced: Digest::default(),
            zones: HashMap::new(),
        };
        let (octets, head) = reader.line().context("this is no backup of Godwit")?;
        let version = head["godwit_backup"].as_u64().context("this is no backup of Godwit")?;
        ensure!(version == VERSION, "the backup has version {version}, this program reads {VERSION}");
        reader.summary.made_at_us =
            head["made_at_us"].as_i64().context("the backup does not say when it was made")?;
        reader.hash.update(&octets);
        Ok(reader)
    }

    fn line(&mut self) -> anyhow::Result<(Vec<u8>, Json)> {
        self.number += 1;
        let mut octets = Vec::new();
        let read = (&mut self.from).take(LONGEST_LINE).read_until(b'\n', &mut octets);
        read.context("reading the backup")?;
        ensure!(octets.last() == Some(&b'\n'), "the backup is cut off in line {}", self.number);
        let value = serde_json::from_slice(&octets);
        Ok((octets, value.with_context(|| format!("the backup is damaged in line {}", self.number))?))
    }

    pub(super) fn next(&mut self) -> anyhow::Result<Line> {
        let (octets, line) = self.line()?;
        let number = self.number;
        let told = || format!("the backup is damaged in line {number}");
        if line.get("sha256").is_some() {
            return self.end(&line).map(Line::End);
        }
        self.hash.update(&octets);
        if let Json::Array(row) = line {
            ensure!(self.tables > 0 && row.len() == self.width, told());
            self.summary.rows += 1;
            self.count(&row).with_context(told)?;
            return Ok(Line::Row(row));
        }
        let (name, _) = TABLES.get(self.tables).with_context(told)?;
        ensure!(line["table"] == *name, "{}: expected the table {name}", told());
        let columns: Vec<String> = serde_json::from_value(line["columns"].clone()).with_context(told)?;
        self.tables += 1;
        self.width = columns.len();
        self.columns = columns.iter().cloned().enumerate().map(|(place, name)| (name, place)).collect();
        Ok(Line::Table(name, columns))
    }

    /// Digests are counted from the rows.
    fn count(&mut self, row: &[Json]) -> anyhow::Result<()> {
        let get = |name: &str| {
            self.columns.get(name).and_then(|&place| row.get(place)).with_context(|| name.to_owned())
        };
        let number = |name: &str| get(name)?.as_i64().with_context(|| name.to_owned());
        let octets = |name: &str| dump::octets(get(name)?).with_context(|| name.to_owned());
        let digest = |name: &str| -> anyhow::Result<Option<Digest>> {
            if get(name)?.is_null() {
                return Ok(None);
            }
            let octets = octets(name)?.try_into().ok().with_context(|| name.to_owned())?;
            Ok(Some(Digest::from_bytes(octets)))
        };
        match TABLES[self.tables - 1].0 {
            "relay" => {
                self.summary.generation = number("generation")?;
                self.summary.sequence = number("sequence")?;
                self.root = digest("root")?;
                self.key = digest("digest_key")?.map(|key| DigestKey(key.as_bytes()));
            }
            "zones" => {
                let apex = name_key::decode(&octets("name_key")?).context("name_key")?;
                let version = u64::try_from(number("version")?)?;
                let zone = Zone { apex, version, kept: digest("digest")?, counted: Digest::default() };
                self.zones.insert(number("id")?, zone);
                self.summary.zones += 1;
            }
            "rrsets" => {
                let id = number("zone_id")?;
                let owner = name_key::decode(&octets("owner_key")?).context("owner_key")?;
                let rrset = Rrset {
                    rtype: Rtype(u16::try_from(number("rtype")?)?),
                    ttl: u32::try_from(number("ttl")?)?,
                    rdata: sets::unpack(&octets("rdata")?).context("rdata")?,
                    rrsigs: sets::unpack(&octets("rrsigs")?).context("rrsigs")?,
                };
                let key = self.key.as_ref().context("there is no key of digests")?;
                let zone = self.zones.get_mut(&id).context("zone_id")?;
                zone.counted.add(rrset_digest(key, zone.apex.as_ref(), owner.as_ref(), &rrset));
                self.summary.rrsets += 1;
            }
            "outbox" if get("sequence")?.is_null() => {
                self.unsequenced.add(digest("root_change")?.unwrap_or_default());
            }
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, line: &Json) -> anyhow::Result<Summary> {
        let mut summary = std::mem::take(&mut self.summary);
        summary.sha256 = hex::encoded(&std::mem::take(&mut self.hash).finalize());
        ensure!(line["sha256"] == summary.sha256.as_str(), "the backup is damaged: its checksum is another");
        ensure!(self.tables == TABLES.len(), "the backup is damaged: it lacks tables");
        ensure!(line["rows"] == summary.rows, "the backup is damaged: it lacks rows");
        ensure!(
            self.from.fill_buf().context("reading the backup")?.is_empty(),
            "something follows the end of the backup"
        );
        let Some(key) = &self.key else {
            ensure!(summary.zones == 0, "the backup has zones and no key of digests");
            return Ok(summary);
        };
        let mut root = Digest::default();
        for zone in self.zones.values() {
            if zone.kept.is_some_and(|kept| kept != zone.counted) {
                bail!("the records of the zone {} are not those that its digest was kept of", zone.apex);
            }
            root.add(zone_term(key, zone.apex.as_ref(), zone.version, zone.counted));
        }
        root.sub(self.unsequenced);
        ensure!(
            self.root.is_none_or(|kept| kept == root),
            "the zones are not those that the digest of everything was kept of"
        );
        Ok(summary)
    }
}
