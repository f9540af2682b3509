//! Real signatures, by `ldns-signzone`, read back with `domain`.

use std::process::Command;

use anyhow::{Context, Result, bail};
use domain::base::name::ToName;
use domain::base::rdata::ComposeRecordData;
use domain::zonefile::inplace::{Entry, Zonefile};
use godwit_wire::name::Name;
use godwit_wire::rr::Rtype;

use super::{run, zone_file};
use crate::reference::{Zone, ZoneRecord};

/// The chain that is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LdnsSigning {
    /// NSEC.
    Nsec,
    /// NSEC3 without iterations and salt (RFC 9276 §3.1).
    Nsec3 {
        /// Insecure delegations left out.
        opt_out: bool,
    },
}

/// Signs a zone with a fresh key; gives the signed zone and its DNSKEY as a line of a zone file.
///
/// # Errors
/// When the tools are missing or refuse the zone.
pub fn ldns_sign(zone: &Zone, signing: LdnsSigning) -> Result<(Zone, String)> {
    let folder = tempfile::tempdir().context("folder for signing")?;
    let file = folder.path().join("zone");
    std::fs::write(&file, zone_file(zone))?;
    let apex = zone.apex.to_string();
    let key = run(Command::new("ldns-keygen")
        .args(["-a", "ECDSAP256SHA256", "-k", "-r", "/dev/urandom", &apex])
        .current_dir(&folder))?;
    let key = key.trim().to_owned();
    let mut command = Command::new("ldns-signzone");
    command.current_dir(&folder).args(["-f", "signed", "-o", &apex]);
    if let LdnsSigning::Nsec3 { opt_out } = signing {
        command.arg("-n").args(["-t", "0"]);
        if opt_out {
            command.arg("-p");
        }
    }
    run(command.arg("zone").arg(&key))?;
    let signed = std::fs::read(folder.path().join("signed")).context("reading the signed zone")?;
    let dnskey = std::fs::read_to_string(folder.path().join(format!("{key}.key")))?;
    Ok((read_zone(zone, &signed)?, dnskey.trim().to_owned()))
}

fn read_zone(zone: &Zone, text: &[u8]) -> Result<Zone> {
    let mut file = Zonefile::from(text);
    let mut records = Vec::new();
    while let Some(entry) = file.next_entry().context("reading the signed zone")? {
        let Entry::Record(record) = entry else { bail!("$INCLUDE in a signed zone") };
        let mut rdata: Vec<u8> = Vec::new();
        let Ok(()) = record.data().compose_rdata(&mut rdata);
        records.push(ZoneRecord {
            owner: Name::from_wire(record.owner().to_vec().as_slice())?,
            rtype: Rtype(record.rtype().to_int()),
            ttl: record.ttl().as_secs(),
            rdata,
        });
    }
    Ok(Zone { apex: zone.apex.clone(), owner_number: zone.owner_number, records })
}
