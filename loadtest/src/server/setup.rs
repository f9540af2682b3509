//! What differs from run to run in how a server is set up: address, ceilings, rate limiting, signed zones.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::data::files::ZoneFile;

/// Response rate limiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RateLimit {
    /// Switched off.
    Off,
    /// As the server comes.
    Default,
    /// Ten answers a second for one client network, every second one over it truncated: what the servers' manuals suggest
    /// to start from. PowerDNS has none.
    Tuned,
}

/// How a server is set up.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// Where it listens.
    pub address: Ipv4Addr,
    /// What it serves.
    pub zones: &'a [ZoneFile],
    /// Its rate limiting.
    pub rate_limit: RateLimit,
    /// TCP connections that it may have.
    pub tcp_connections: u32,
}

/// TCP connections where a run does not attack them: more than it opens.
const TCP_CONNECTIONS: u32 = 1_000;

impl<'a> Setup<'a> {
    /// On loopback, without rate limiting: for measuring speed.
    #[must_use]
    pub fn local(zones: &'a [ZoneFile]) -> Self {
        Setup {
            address: Ipv4Addr::LOCALHOST,
            zones,
            rate_limit: RateLimit::Off,
            tcp_connections: TCP_CONNECTIONS,
        }
    }

    /// Whether a zone is signed.
    #[must_use]
    pub fn signed(&self) -> bool {
        self.zones.iter().any(|zone| zone.signed)
    }
}

/// Switches Godwit's rate limiting off.
pub const GODWIT_OFF: (&str, &str) = ("GODWIT_RATE_LIMIT__MODE", "off");
/// Godwit's rate limiting as [`RateLimit::Tuned`] describes it.
pub const GODWIT_TUNED: [(&str, &str); 2] =
    [("GODWIT_RATE_LIMIT__ANSWERS_PER_SECOND", "10"), ("GODWIT_RATE_LIMIT__SLIP", "2")];

/// Whether this build of Godwit has rate limiting: a build without knows none of its keys.
#[must_use]
pub fn has_rate_limit(program: &Path) -> bool {
    let output = Command::new(program).args(["--check-config", "--listen", "127.0.0.1:5300"]).output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("rate_limit"))
}

/// Tells PowerDNS that its zones are signed already.
///
/// # Errors
/// `pdnsutil` is missing or fails.
pub fn presign(folder: &Path, zones: &[ZoneFile]) -> Result<()> {
    let config = format!("--config-dir={}", folder.display());
    let run = |args: &[&str]| -> Result<()> {
        let output = Command::new("pdnsutil")
            .arg(&config)
            .args(args)
            .current_dir(folder)
            .output()
            .context("running pdnsutil")?;
        let said = [output.stdout, output.stderr].concat();
        anyhow::ensure!(output.status.success(), "pdnsutil {args:?}: {}", String::from_utf8_lossy(&said));
        Ok(())
    };
    run(&["create-bind-db", "dnssec.sqlite"])?;
    for zone in zones.iter().filter(|zone| zone.signed) {
        run(&["set-presigned", &zone.origin])?;
        run(&["set-nsec3", &zone.origin, "1 0 0 -"])?;
    }
    Ok(())
}
