//! Slow TCP clients: what ten thousand connections that only take room cost those who ask over UDP, how much memory the server
//! holds for them, and whether honest clients still get a connection.

pub mod fleet;
pub mod honest;

use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::Serialize;

use self::fleet::Fleet;
use self::honest::Honest;
use super::zone;
use crate::data::record::rtype;
use crate::data::{Source, Workload};
use crate::load::PATIENCE;
use crate::load::plan::{Plan, Shape};
use crate::load::queries::Queries;
use crate::load::udp::{self, Beside, Nothing};
use crate::measure::{self, Round};
use crate::server::{Running, SERVER_CPU};
use crate::{cpu, interrupt};

/// Connections of the fleet, if descriptors allow.
pub const CONNECTIONS: usize = 10_000;
/// Descriptors that this program needs for other things.
const OTHER_DESCRIPTORS: u64 = 500;
/// Queries a second over UDP.
pub const RATE: u32 = 20_000;
/// How long the fleet may take to come up.
const FILL: Duration = Duration::from_secs(5);

/// What one server did.
#[derive(Clone, Debug, Serialize)]
pub struct Slow {
    /// UDP with nobody else there.
    pub quiet: Round,
    /// UDP while the fleet stands.
    pub stormy: Round,
    /// Connections wanted.
    pub wanted: usize,
    /// Connections that stood when the measurement began and when it ended.
    pub standing: [usize; 2],
    /// What became of the connections.
    pub fleet: fleet::Counts,
    /// What became of honest clients.
    pub honest: honest::Counts,
    /// The highest resident size while the fleet stood over the size before it came, octets.
    pub growth: u64,
    /// The 99th percentile of what the generator itself spent on the fleet between two batches, µs: so much of the latency under
    /// the storm may be its own.
    pub own_us: f64,
}

/// How many connections the descriptors of this process allow, at most [`CONNECTIONS`].
#[must_use]
pub fn size() -> usize {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 0 };
    // Servers inherit the limit, and need as many.
    let granted = if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft };
    usize::try_from(granted.saturating_sub(OTHER_DESCRIPTORS)).unwrap_or(CONNECTIONS).min(CONNECTIONS)
}

/// Measures UDP alone, then with the fleet and honest TCP clients beside.
///
/// # Errors
/// The generator failed.
pub fn run(
    server: &Running,
    source: &Source,
    signed: bool,
    connections: usize,
    seconds: f64,
) -> Result<Slow> {
    let queries = Queries::of(source, Workload::Small);
    let plan = Plan {
        server: server.address,
        shape: Shape::Rate { sockets: 4, per_second: RATE },
        warm_up: Duration::from_secs_f64(seconds / 4.0),
        duration: Duration::from_secs_f64(seconds),
        patience: PATIENCE,
        samples: 2 * measure::SAMPLES,
    };
    let mut processes = server.processes();
    processes.extend(cpu::kernel_threads(SERVER_CPU));
    let udp = |beside: &mut dyn Beside| -> Result<Round> {
        let outcome = udp::at_rate(&plan, 4, RATE, &queries, &mut || cpu::seconds(&processes), beside)?;
        interrupt::check()?;
        let truth = |index| source.question(Workload::Small, index);
        Ok(measure::judge_by(Some(&truth), &outcome, &queries))
    };
    let quiet = udp(&mut Nothing)?;
    let before = cpu::resident(&server.processes());
    // The longer the answer, the sooner nothing more fits; without that zone it is a refusal.
    let asked = if signed { zone::LONG } else { source.small().apex };
    let long = Queries::new(false, std::iter::once((asked, rtype::TXT)));
    let mut storm = Storm {
        fleet: Fleet::new(server.address, long.message(0), connections)?,
        honest: Honest::new(server.address, source)?,
        own: Histogram::new_with_max(1_000_000_000, 2)?,
    };
    storm.fleet.fill(FILL)?;
    let standing = storm.fleet.established();
    let stormy = udp(&mut storm)?;
    storm.honest.finish()?;
    Ok(Slow {
        quiet,
        stormy,
        wanted: connections,
        standing: [standing, storm.fleet.established()],
        fleet: storm.fleet.counts,
        growth: cpu::highest_resident(&server.processes()).saturating_sub(before),
        honest: storm.honest.counts,
        own_us: storm.own.value_at_quantile(0.99) as f64 / 1_000.0,
    })
}

/// The fleet and the honest clients, on the generator's thread.
struct Storm {
    fleet: Fleet,
    honest: Honest,
    own: Histogram<u64>,
}

impl Beside for Storm {
    fn turn(&mut self, now: Instant) -> Result<()> {
        self.fleet.turn(now)?;
        self.honest.turn(now)?;
        self.own.saturating_record(now.elapsed().as_nanos() as u64);
        Ok(())
    }
}
