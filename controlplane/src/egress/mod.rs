//! Calls to servers of others, where a tenant says which (threat model R17): made by a child process of the same program, which has
//! no database, no environment and no descriptors but the pipes to us.
//!
//! - [`child`]: the other side; `call`: one call there;
//! - `address`: which addresses are called; `target`: which URLs;
//! - `frames`: what is said between the two; `process`: starts it, and sees to its end.
//!
//! It is https alone, to ports 443 and 8443. A name is looked up once, by resolvers of the configuration, each of its addresses is
//! judged, and what is connected to is an address that was judged. No redirect is followed. Five seconds are all that a call takes, by
//! the child's clock, and one more by ours: a child that does not answer by then is ended, and another one started. Of an answer nobody
//! is told more than its status.

pub(crate) mod address;
mod call;
pub mod child;
mod frames;
mod process;
mod target;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout};

use crate::config::{self, Config};
use crate::observe::metrics::{CallOutcome, Metrics};
use crate::relay::shadow::Program;
use address::Permits;
use frames::{Asked, Settings};
use process::Running;
use target::{Host, Target};

/// All that a call takes.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// So much longer the child itself is waited for.
const SLACK: Duration = Duration::from_secs(1);
/// The pause before another one is started where one did not start.
const START_AGAIN: Duration = Duration::from_secs(2);
/// Calls at once.
pub(crate) const AT_ONCE: usize = 64;
/// A request that is to be sent, by POST.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Call {
    /// Where.
    pub url: String,
    /// Its headers, besides those that every request has.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: String,
}

/// What came of a call. The sentences may be shown to whose call it is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Outcome {
    /// It was answered.
    Answered {
        /// HTTP status.
        status: u16,
    },
    /// It was not made: it must not be.
    Refused(String),
    /// It was not answered.
    Failed(String),
    /// Nothing is known of it, and whom it was for has no part in that.
    Lost(String),
}

/// Has calls made. Clones share the child.
#[derive(Clone, Debug)]
pub struct Egress(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    program: Option<Program>,
    settings: Settings,
    /// Numbers calls.
    next: AtomicU64,
    slot: tokio::sync::Mutex<Slot>,
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct Slot {
    running: Option<Arc<Running>>,
    /// Not before.
    start_at: Option<Instant>,
}

impl Egress {
    /// As a configuration says; `own`: where this control plane listens; `names`: URLs under which it is reached. Without a program every
    /// call is lost.
    ///
    /// # Errors
    /// When the file with authorities cannot be read.
    pub fn of(
        config: &Config,
        program: Option<Program>,
        own: Vec<SocketAddr>,
        names: &[String],
        metrics: Metrics,
    ) -> anyhow::Result<Egress> {
        let authorities = match &config.egress.ca_file {
            None => None,
            Some(file) => {
                let text = std::fs::read_to_string(file);
                Some(text.with_context(|| format!("egress.ca_file {}", file.display()))?)
            }
        };
        let config::Egress { allow, deny, .. } = config.egress.clone();
        let own_names = names.iter().filter_map(|url| host_of(url)).collect();
        let resolvers = config.egress.resolvers().unwrap_or_else(|| config.names.resolvers());
        let settings = Settings { permits: Permits { allow, deny, own }, own_names, resolvers, authorities };
        let (next, slot) = (AtomicU64::new(0), tokio::sync::Mutex::default());
        Ok(Egress(Arc::new(Inner { program, settings, next, slot, metrics })))
    }

    /// Whether calls could go to a URL, as far as that can be said without looking its name up.
    ///
    /// # Errors
    /// Why they could not.
    pub(crate) fn would_call(&self, url: &str) -> Result<(), String> {
        let target = Target::read(url)?;
        let settings = &self.0.settings;
        match &target.host {
            Host::Name(_) if settings.own_names.contains(&target.host.text()) => {
                Err("its name is that of this server".to_owned())
            }
            Host::Name(_) => Ok(()),
            Host::Address(address) => {
                let judged = settings.permits.judge(SocketAddr::new(*address, target.port), &address::here());
                judged.map_err(|why| format!("its address is {why}, and is not called"))
            }
        }
    }

    /// Makes a call.
    pub async fn call(&self, call: Call) -> Outcome {
        let outcome = self.made(call).await;
        self.0.metrics.called(match &outcome {
            Outcome::Answered { .. } => CallOutcome::Answered,
            Outcome::Refused(_) => CallOutcome::Refused,
            Outcome::Failed(_) => CallOutcome::Failed,
            Outcome::Lost(_) => CallOutcome::Lost,
        });
        outcome
    }

    async fn made(&self, call: Call) -> Outcome {
        let lost = |why: &str| Outcome::Lost(why.to_owned());
        let running = match self.running().await {
            Ok(running) => running,
            Err(error) => {
                tracing::error!(%error, "what makes calls to others could not be started");
                return lost("what makes calls could not be started");
            }
        };
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        match timeout(PATIENCE + SLACK, running.ask(&Asked { id, call })).await {
            Ok(Some(outcome)) => outcome,
            Ok(None) => lost("what makes calls has ended"),
            Err(_) => {
                tracing::error!(
                    "what makes calls to others does not answer: it is ended, and another one started"
                );
                running.end();
                lost("what makes calls did not answer")
            }
        }
    }

    /// The child that runs, or another one.
    async fn running(&self) -> io::Result<Arc<Running>> {
        let mut slot = self.0.slot.lock().await;
        if let Some(running) = &slot.running {
            if running.is_there() {
                return Ok(running.clone());
            }
            slot.running = None;
            self.0.metrics.caller_ended();
        }
        if slot.start_at.is_some_and(|at| Instant::now() < at) {
            return Err(io::Error::other("it did not start a moment ago"));
        }
        let program =
            self.0.program.as_ref().ok_or_else(|| io::Error::other("there is no program for it"))?;
        match Running::start(program, &self.0.settings).await {
            Ok(running) => Ok(slot.running.insert(Arc::new(running)).clone()),
            Err(error) => {
                slot.start_at = Some(Instant::now() + START_AGAIN);
                Err(error)
            }
        }
    }

    /// The id of the child's process, of one that runs.
    pub async fn process(&self) -> Option<u32> {
        let slot = self.0.slot.lock().await;
        slot.running.as_ref().and_then(|running| running.process)
    }
}

/// The name, or address, in a URL.
fn host_of(url: &str) -> Option<String> {
    let uri: hyper::Uri = url.parse().ok()?;
    let host = uri.host()?.trim_end_matches('.').to_ascii_lowercase();
    // Of an address it is known where it listens.
    (host.parse::<IpAddr>().is_err() && !host.starts_with('[')).then_some(host)
}
