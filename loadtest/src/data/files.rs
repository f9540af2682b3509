//! Writes zone files, the list of zones and the query files, once per seed and size: a stamp written last says that a
//! folder is whole.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::record::{Record, rtype};
use super::{Dataset, Source, Workload, delegations};

/// Raised whenever the same seed gives other data.
const VERSION: u32 = 1;

/// A zone and its file.
#[derive(Clone, Debug)]
pub struct ZoneFile {
    /// Absolute apex name.
    pub origin: String,
    /// Absolute path.
    pub path: PathBuf,
    /// Whether records are changed while the server runs.
    pub changes: bool,
    /// Whether it is signed.
    pub signed: bool,
}

/// The folder of one dataset.
#[must_use]
pub fn folder(root: &Path, dataset: Dataset) -> PathBuf {
    root.join(dataset.name())
}

/// The query file of a workload, in dnsperf's format.
#[must_use]
pub fn query_file(root: &Path, workload: Workload) -> PathBuf {
    root.join(format!("{}.queries", workload.name()))
}

/// Makes the files of a dataset unless they are there, and gives back its zones.
///
/// # Errors
/// A file cannot be written; the folder is then without its stamp and made again next time.
pub fn ensure(root: &Path, source: &Source, dataset: Dataset) -> Result<Vec<ZoneFile>> {
    let folder = folder(root, dataset);
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let folder = folder.canonicalize()?;
    let stamp = folder.join("stamp");
    let wanted = format!("version {VERSION} seed {} shrink {}\n", source.seed, source.shrink);
    let fresh = fs::read_to_string(&stamp).is_ok_and(|found| found == wanted);
    if !fresh {
        fs::remove_dir_all(&folder).with_context(|| format!("emptying {}", folder.display()))?;
        fs::create_dir_all(&folder)?;
        write_zones(&folder, source, dataset)?;
        fs::write(&stamp, wanted)?;
    }
    Ok(zone_files(&folder, source, dataset))
}

/// Writes the query file of a workload: `name type` lines, as dnsperf reads them.
///
/// # Errors
/// The file cannot be written.
pub fn write_queries(root: &Path, source: &Source, workload: Workload) -> Result<PathBuf> {
    let path = query_file(root, workload);
    let mut file = create(&path)?;
    for index in 0..source.question_count(workload) {
        let question = source.question(workload, index);
        writeln!(file, "{} {}", question.name, rtype::mnemonic(question.qtype))?;
    }
    file.flush().with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

fn zone_files(folder: &Path, source: &Source, dataset: Dataset) -> Vec<ZoneFile> {
    let single = |origin: &str| {
        vec![ZoneFile {
            origin: origin.to_owned(),
            path: folder.join(format!("{origin}zone")),
            changes: false,
            signed: false,
        }]
    };
    match dataset {
        Dataset::Small => single(source.small().apex),
        Dataset::Large => single(source.large().apex),
        Dataset::Delegations => single(delegations::APEX),
        Dataset::Zones => (0..source.zones().count)
            .map(|index| {
                let origin = source.zones().apex(index);
                // A hundred folders, so that none grows to 100k entries.
                let path = folder.join(format!("{:02}", index % 100)).join(format!("{origin}zone"));
                ZoneFile { origin, path, changes: false, signed: false }
            })
            .collect(),
    }
}

fn write_zones(folder: &Path, source: &Source, dataset: Dataset) -> Result<()> {
    let files = zone_files(folder, source, dataset);
    match dataset {
        Dataset::Small | Dataset::Large => {
            let zone = if dataset == Dataset::Small { source.small() } else { source.large() };
            let names = (0..zone.count).flat_map(|index| zone.records(index));
            write_zone(&files[0].path, zone.apex_records().into_iter().chain(names))
        }
        Dataset::Delegations => {
            let zone = source.delegations();
            let cuts = (0..zone.count).flat_map(|index| zone.records(index));
            write_zone(&files[0].path, zone.apex_records().into_iter().chain(cuts))
        }
        Dataset::Zones => {
            for number in 0..100 {
                fs::create_dir_all(folder.join(format!("{number:02}")))?;
            }
            let zones = source.zones();
            (0..zones.count)
                .zip(&files)
                .try_for_each(|(index, file)| write_zone(&file.path, zones.records(index).into_iter()))
        }
    }
}

/// Writes a zone file.
///
/// # Errors
/// It cannot be written.
pub fn write_zone(path: &Path, records: impl Iterator<Item = Record>) -> Result<()> {
    let mut file = create(path)?;
    for record in records {
        writeln!(file, "{record}")?;
    }
    file.flush().with_context(|| format!("writing {}", path.display()))
}

fn create(path: &Path) -> Result<BufWriter<File>> {
    let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
    Ok(BufWriter::new(file))
}
