//! What "no such name" costs against a hit: a flood of random subdomains must not cost the server more than its ordinary work.

use std::time::Duration;

use anyhow::Result;

use crate::data::{Question, Source, Workload};
use crate::load::plan::{Plan, Shape};
use crate::load::queries::Queries;
use crate::load::{PATIENCE, udp};
use crate::measure::{self, Round};
use crate::server::{Running, SERVER_CPU};
use crate::{cpu, interrupt};

/// Sockets, and queries in flight on each.
const LOAD: (u16, u16) = (4, 128);

/// Questions for names of the small zone, all of which are there or none of which is.
#[derive(Debug)]
pub struct Questions {
    source: Source,
    missing: bool,
    queries: Queries,
}

impl Questions {
    /// As many as the workload has.
    #[must_use]
    pub fn new(source: &Source, missing: bool) -> Self {
        let count = source.question_count(Workload::Small);
        let questions: Vec<Question> = (0..count).map(|index| question(source, missing, index)).collect();
        let asked = questions.iter().map(|question| (question.name.as_str(), question.qtype));
        Questions { source: *source, missing, queries: Queries::new(false, asked) }
    }
}

fn question(source: &Source, missing: bool, index: u32) -> Question {
    let zone = source.small();
    if missing { zone.question_missing(u64::from(index)) } else { zone.question(u64::from(index)) }
}

/// Closed loop: CPU time of the server per answer, answers compared.
///
/// # Errors
/// The generator failed.
pub fn run(server: &Running, questions: &Questions, seconds: f64) -> Result<Round> {
    let plan = Plan {
        server: server.address,
        shape: Shape::Saturate { sockets: LOAD.0, window: LOAD.1 },
        warm_up: Duration::from_secs_f64(seconds / 4.0),
        duration: Duration::from_secs_f64(seconds),
        patience: PATIENCE,
        samples: 2 * measure::SAMPLES,
    };
    let mut processes = server.processes();
    processes.extend(cpu::kernel_threads(SERVER_CPU));
    let outcome = udp::saturate(&plan, LOAD.0, LOAD.1, &questions.queries, &mut || cpu::seconds(&processes))?;
    interrupt::check()?;
    let truth = |index| question(&questions.source, questions.missing, index);
    Ok(measure::judge_by(Some(&truth), &outcome, &questions.queries))
}
