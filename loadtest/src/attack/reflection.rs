//! Reflection: an attacker asks with a victim's address as the source, and the server answers the victim. What arrives there with
//! rate limiting is held against what arrives without, in the network of [`super::namespaces`].

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use super::flood::Flood;
use super::namespaces::{ATTACKER, Namespaces, Place, SERVER, VICTIM};
use super::packets::{self, Burst, Mix};
use super::{amplification, zone};
use crate::data::files::ZoneFile;
use crate::data::{Source, Workload};
use crate::load::plan::{Plan, Shape};
use crate::load::queries::Queries;
use crate::load::udp;
use crate::server::Running;
use crate::server::kind::Kind;
use crate::server::probe::Probe;
use crate::server::setup::{RateLimit, Setup};
use crate::{interrupt, measure};

/// Forged queries a second. Far above every limit, and far below what any server answers in a second.
const RATE: f64 = 10_000.0;
/// Honest queries a second from the attacker's own network, which no limit may touch.
const STRANGER_RATE: u32 = 8;
/// Limits need a moment to bite: this share of the time goes before the measurement.
const WARM_UP: f64 = 0.5;
/// How long answers to honest queries are waited for.
const PATIENCE: Duration = Duration::from_millis(300);

/// What the forged queries ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Asked {
    /// One long answer that fits a datagram, again and again: the DNSKEY RRset with its signatures.
    One,
    /// A thousand names that are there.
    Names,
    /// Names that are not there, signed denial.
    Missing,
}

impl Asked {
    /// In the order of the table.
    pub const ALL: [Asked; 3] = [Asked::One, Asked::Names, Asked::Missing];

    fn bursts(self, source: &Source) -> Vec<Burst> {
        let of = |messages: &[Vec<u8>]| {
            let messages: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
            Burst::new(&messages)
        };
        match self {
            Asked::One => vec![of(&amplification::attack(&[("", 48)], packets::BURST))],
            Asked::Names => packets::bursts(source, Mix::Hits),
            Asked::Missing => (0..packets::BURST)
                .map(|number| {
                    let name = format!("missing-{number:02}.");
                    of(&amplification::attack(&[(name.as_str(), 1)], packets::BURST))
                })
                .collect(),
        }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Asked::One => "one long answer",
            Asked::Names => "many names",
            Asked::Missing => "signed NXDOMAIN",
        })
    }
}

/// What one server sent to the victim.
#[derive(Clone, Debug, Serialize)]
pub struct Reflected {
    /// Octets a second at the victim, Ethernet headers included.
    pub octets: f64,
    /// Packets a second.
    pub packets: f64,
    /// Forged queries a second.
    pub forged: f64,
    /// The share of a stranger's queries that was answered in full meanwhile.
    pub stranger: f64,
}

/// Starts the server in its namespace with this rate limiting, and measures each kind of question.
///
/// # Errors
/// The server does not start, or the generator failed.
pub fn run(
    namespaces: &Namespaces,
    (kind, program): (Kind, &Path),
    work: &Path,
    zones: &[ZoneFile],
    source: &Source,
    rate_limit: RateLimit,
    seconds: f64,
) -> Result<Vec<(Asked, Reflected)>> {
    let setup = Setup { address: SERVER, rate_limit, ..Setup::local(zones) };
    let launched = {
        let _inside = namespaces.enter(Place::Server)?;
        Running::launch(kind, program, work, &setup)
    };
    let mut server = launched?;
    let _inside = namespaces.enter(Place::Attacker)?;
    // As many questions as no limit minds.
    server.await_answers(Instant::now(), &Probe::spread(source, Workload::Small, 4))?;
    let mut found = Vec::new();
    for asked in Asked::ALL {
        interrupt::check()?;
        let reflected = measure(namespaces, server.address, source, asked, seconds)
            .with_context(|| format!("{} under forged queries", kind.name()))?;
        server.check_alive()?;
        found.push((asked, reflected));
    }
    Ok(found)
}

fn measure(
    namespaces: &Namespaces,
    server: SocketAddr,
    source: &Source,
    asked: Asked,
    seconds: f64,
) -> Result<Reflected> {
    let queries = Queries::of(source, Workload::Small);
    let plan = Plan {
        server,
        shape: Shape::Rate { sockets: 1, per_second: STRANGER_RATE },
        warm_up: Duration::from_secs_f64(seconds * WARM_UP),
        duration: Duration::from_secs_f64(seconds),
        patience: PATIENCE,
        samples: measure::SAMPLES,
    };
    let from = [IpAddr::V4(VICTIM); 4];
    let mut flood = Flood::new(&from, server, asked.bursts(source), RATE)?;
    let sent = flood.sent();
    let mut instants = Vec::with_capacity(2);
    let mut at_instant = || {
        instants.push((Instant::now(), sent.get(), namespaces.arrived()));
        0.0
    };
    let outcome = udp::at_rate(&plan, 1, STRANGER_RATE, &queries, &mut at_instant, &mut flood)?;
    interrupt::check()?;
    let truth = |index| source.question(Workload::Small, index);
    let round = measure::judge_by(Some(&truth), &outcome, &queries);
    let mut instants = instants.into_iter();
    let (Some((from, first_sent, first)), Some((to, last_sent, last))) = (instants.next(), instants.next())
    else {
        anyhow::bail!("the measurement did not come to its end");
    };
    let (first, last) = (first?, last?);
    let seconds = (to - from).as_secs_f64().max(1e-9);
    let full = outcome.matched.saturating_sub(round.different as u64) as f64 / outcome.sent.max(1) as f64;
    Ok(Reflected {
        octets: (last.0 - first.0) as f64 / seconds,
        packets: (last.1 - first.1) as f64 / seconds,
        forged: (last_sent - first_sent) as f64 / seconds,
        stranger: full,
    })
}

/// Where the forged queries come from, for the report.
#[must_use]
pub fn describe() -> String {
    format!(
        "{RATE:.0} forged queries a second, {VICTIM} as source, from {ATTACKER}; zones {} and the small one",
        zone::APEX
    )
}
