//! Who does not mean well, all the time and at a moderate rate: floods of random subdomains and of malformed messages, and TCP
//! clients that only take room. The flood of connections, which is a fault of its own, comes and goes with a word.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::outages::Side;
use super::shared::Shared;
use crate::attack::flood::Flood;
use crate::attack::packets::{self, Mix};
use crate::attack::slow::fleet::Fleet;
use crate::data::Source;
use crate::data::record::rtype;
use crate::load::queries::Queries;
use crate::load::udp::Beside as _;

/// Messages a second of each flood to each server.
const RATE: f64 = 500.0;
/// Slow connections to each server, a quarter of each manner.
const SLOW: usize = 64;
/// Connections of the flood, to the server that it is meant for: more than the servers of a run may have.
pub const FLOOD: usize = 1_500;
/// Between two turns.
const TURN: Duration = Duration::from_micros(500);
/// Turns of connections for each of a flood: one of them does one thing only.
const FLEET_TURNS: usize = 8;

/// The word for the flood of connections.
#[derive(Debug, Default)]
pub struct ConnectionFlood {
    wanted: [AtomicBool; 2],
    /// Connections that stand, to be read at any time.
    pub standing: AtomicU64,
}

impl ConnectionFlood {
    /// Begins or ends it.
    pub fn set(&self, side: Side, wanted: bool) {
        self.wanted[side as usize].store(wanted, Ordering::Relaxed);
    }
}

/// What was offered.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct Offered {
    /// Messages of floods.
    pub messages: u64,
    /// Slow connections opened.
    pub connections: u64,
    /// Of these, closed by the servers.
    pub closed: u64,
}

/// Attacks until it is over.
///
/// # Errors
/// A socket failed.
pub fn run(shared: &Shared, source: &Source, flood: &ConnectionFlood) -> Result<Offered> {
    let mut floods = Vec::new();
    let mut fleets = Vec::new();
    for server in shared.dns {
        for mix in [Mix::RandomSubdomains, Mix::Malformed] {
            let from = [IpAddr::from([127, 0, 0, 1])];
            floods.push(Flood::new(&from, server, packets::bursts(source, mix), RATE)?);
        }
        fleets.push(fleet(server, source, SLOW)?);
    }
    let mut connections: [Option<Fleet>; 2] = [None, None];
    let mut offered = Offered::default();
    while !shared.course.over() {
        let now = Instant::now();
        floods.iter_mut().try_for_each(|flood| flood.turn(now))?;
        fleets.iter_mut().try_for_each(turns)?;
        for (side, place) in Side::BOTH.into_iter().zip(&mut connections) {
            if !flood.wanted[side as usize].load(Ordering::Relaxed) {
                note(&mut offered, place.take());
                continue;
            }
            if place.is_none() {
                *place = Some(fleet(shared.dns[side as usize], source, FLOOD)?);
            }
            let fleet = place.as_mut().expect("it was just made");
            turns(fleet)?;
            flood.standing.store(fleet.established() as u64, Ordering::Relaxed);
        }
        std::thread::sleep(TURN);
    }
    offered.messages = floods.iter().map(|flood| flood.sent().get()).sum();
    fleets
        .into_iter()
        .chain(connections.into_iter().flatten())
        .for_each(|fleet| note(&mut offered, Some(fleet)));
    Ok(offered)
}

fn turns(fleet: &mut Fleet) -> Result<()> {
    (0..FLEET_TURNS).try_for_each(|_| fleet.turn(Instant::now()))
}

fn note(offered: &mut Offered, fleet: Option<Fleet>) {
    if let Some(fleet) = fleet {
        offered.connections += fleet.counts.opened;
        offered.closed += fleet.counts.closed;
    }
}

/// Those that ask ask for the SOA of the small zone, which both servers have.
fn fleet(server: SocketAddr, source: &Source, size: usize) -> Result<Fleet> {
    let queries = Queries::new(false, std::iter::once((source.small().apex, rtype::SOA)));
    Fleet::new(server, queries.message(0), size)
}
