//! The control plane beside a running data plane: opened, served, and opened again when it cannot be had. A data plane
//! that has records goes on answering meanwhile (P1); one that never had any has nothing to go on with.

use std::io::Write;
use std::time::Duration;

use godwit_controlplane::observe::metrics::Metrics;
use godwit_controlplane::{Applied, Config, Controlplane, FeedSink, FirstStart};
use godwit_dataplane::feed::{Local, local};
use godwit_dataplane::observe::metrics::Beside;
use tokio::sync::watch;

use crate::output::say;

/// The pause before the control plane is opened again; doubles up to the longest.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// What the control plane is started with.
pub(super) struct Planes {
    pub(super) config: Config,
    /// The data plane has a snapshot to answer from.
    pub(super) has_snapshot: bool,
    /// Where its metrics are shown.
    pub(super) beside: Beside,
    /// Becomes true when it is time to stop.
    pub(super) stop: watch::Receiver<bool>,
}

impl Planes {
    /// Until `stop`.
    ///
    /// # Errors
    /// When the control plane does not start and there is nothing to serve without it.
    pub(super) async fn run(mut self, feed: Local) -> anyhow::Result<()> {
        let applied = translated(feed.applied);
        let mut pause = PAUSE;
        loop {
            let (batches, digest_key) = (feed.batches.clone(), feed.digest_key.clone());
            let sink = FeedSink { batches, applied: applied.clone(), digest_key };
            match self.once(sink).await {
                Ok(()) => {}
                Err(error) if self.has_snapshot => {
                    let error = format!("{error:#}");
                    let again_s = pause.as_secs();
                    tracing::error!(
                        error,
                        again_s,
                        "no API: the control plane cannot run; DNS is answered as before"
                    );
                }
                Err(error) => return Err(error),
            }
            let wait = async { tokio::time::timeout(pause, self.stop.wait_for(|stop| *stop)).await.is_ok() };
            if wait.await {
                return Ok(());
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn once(&mut self, sink: FeedSink) -> anyhow::Result<()> {
        let first = if self.has_snapshot { FirstStart::Never } else { FirstStart::ExampleZone };
        let controlplane = Controlplane::open(self.config.clone(), first).await?;
        if let Some(token) = controlplane.new_token() {
            show_token(&token.reveal());
        }
        // From here on there are records to serve, or will be in a moment.
        self.has_snapshot = true;
        say(format_args!("godwit: API at http://{} (described at /docs)", controlplane.api_address()?));
        let registry = controlplane.metrics().registry();
        self.beside.set(move || Metrics::text(&registry));
        controlplane.serve(Some(sink), self.stop.clone()).await
    }
}

/// The one line on standard output. The token is in the database already; whoever cannot read it here makes another.
fn show_token(token: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "admin token: {token}").and_then(|()| out.flush()).is_err() {
        tracing::error!("the admin token could not be printed; stop and use `godwit token create`");
    }
}

/// The data plane's position in the control plane's words: the planes do not know each other.
fn translated(mut theirs: watch::Receiver<local::Applied>) -> watch::Receiver<Applied> {
    let (report, ours) = watch::channel(in_words_of_control(theirs.borrow_and_update().clone()));
    tokio::spawn(async move {
        while theirs.changed().await.is_ok() {
            report.send_replace(in_words_of_control(theirs.borrow_and_update().clone()));
        }
    });
    ours
}

fn in_words_of_control(applied: local::Applied) -> Applied {
    let local::Applied {
        generation,
        epoch,
        sequence,
        chain,
        resyncs,
        quarantined,
        awaits_everything,
        uncertain,
    } = applied;
    Applied { generation, epoch, sequence, chain, resyncs, quarantined, awaits_everything, uncertain }
}
