//! Scenarios: queries and the exact reaction to each, as text, by RFC section.
//!
//! ```text
//! # A comment.
//! settings nsid=node-1 cookies=on
//!
//! zone example. owner=1
//! example. 300 SOA ns1.example. host.example. 1 7200 3600 1209600 60
//! end
//!
//! case RFC 1034 §4.3.2 step 3a: a hit
//! udp www.example. A edns do
//! NOERROR aa opt do
//! answer www.example. 300 A 192.0.2.1
//!
//! case RFC 1035 §4.1.1: a message shorter than a header
//! udp raw 1234 0100 00
//! silence
//! ```
//!
//! A query is `udp` or `tcp`, then a name and a type with any of `rd`, `class=CH`, `opcode=5`, `edns`, `do`, `size=1232`,
//! `version=1`, `nsid`, `keepalive`, `cookie=HEX`, `cookie=good`; or `raw` and the octets: hexadecimal digits in any groups, and names in quotes.
//!
//! A reaction is `silence`; or an RCODE with the flags `aa`, `tc`, `rd`, then `no-question` when none is echoed, then `opt` when there is an OPT, with `do`, `size=N` unless it is 1232,
//! `nsid=TEXT`, `keepalive=N`, `ede=N`, `cookie` as it holds; the records of each section follow, in any order. What is not stated must not be there.

mod reaction;
mod read;

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::reference::{Settings, Transport, World};

pub use reaction::Reaction;
pub use read::read;

/// The time at which scenarios play: seconds since the epoch.
pub const NOW: u32 = 1_800_000_000;
/// The secret of `cookie=good`.
pub const COOKIE_SECRET: [u8; 16] = [0x11; 16];
/// Who asks.
pub const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// One file of scenarios.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The file's name without its ending.
    pub name: String,
    /// What answers are made from.
    pub world: World,
    /// How.
    pub settings: Settings,
    /// The queries, in order.
    pub cases: Vec<Case>,
}

/// One query and its reaction.
#[derive(Clone, Debug)]
pub struct Case {
    /// RFC section and what it is about.
    pub title: String,
    /// Where it stands in the file.
    pub line: usize,
    /// How the query comes.
    pub transport: Transport,
    /// The query's octets.
    pub packet: Vec<u8>,
    /// What comes back; `None` is silence.
    pub reaction: Option<Reaction>,
}

/// The folder of the scenarios that every part of Godwit is held to.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../dataplane/tests/scenarios")
}

/// Reads every `.scenario` file of [`folder`], in the order of their names.
///
/// # Errors
/// When one does not read, or there is none.
pub fn all() -> Result<Vec<Scenario>> {
    let folder = folder();
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .with_context(|| format!("reading {}", folder.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|ending| ending == "scenario"));
    files.sort();
    ensure!(!files.is_empty(), "no scenarios in {}", folder.display());
    files
        .iter()
        .map(|file| {
            let text = std::fs::read_to_string(file)?;
            let name = file.file_stem().unwrap_or_default().to_string_lossy();
            read(&name, &text).with_context(|| file.display().to_string())
        })
        .collect()
}

impl Case {
    /// Whether the reaction is the stated one.
    ///
    /// # Errors
    /// A text for people with the case, what differs and the response.
    pub fn check(&self, scenario: &str, response: Option<&[u8]>) -> Result<(), String> {
        let fault = match (&self.reaction, response) {
            (None, None) => return Ok(()),
            (Some(reaction), Some(octets)) => match reaction.faults(&self.packet, octets) {
                Ok(faults) if faults.is_empty() => return Ok(()),
                Ok(faults) => faults.join("\n"),
                Err(error) => format!("{error:#}: {octets:02x?}"),
            },
            (None, Some(octets)) => format!("expected silence, got {octets:02x?}"),
            (Some(_), None) => "got silence".to_owned(),
        };
        Err(format!("{scenario}.scenario:{}: {}\n{fault}", self.line, self.title))
    }
}
