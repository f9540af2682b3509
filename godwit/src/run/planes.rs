//! The control plane beside a running data plane: opened, served, and opened again when it cannot be had. A data plane
//! that has records goes on answering meanwhile (P1); one that never had any has nothing to go on with.

use std::convert::Infallible;
use std::io::Write;
use std::time::Duration;

use godwit_controlplane::observe::metrics::Metrics;
use godwit_controlplane::{
    Applied, Config, Controlplane, FeedRequest, FeedSink, FirstStart, Position, Program,
};
use godwit_dataplane::feed::{self, Joined, Local, Request};
use godwit_dataplane::observe::metrics::Beside;
use godwit_wire::feed::DigestKey;
use tokio::signal::unix::{Signal, SignalKind};
use tokio::sync::{mpsc, oneshot, watch};

use super::listen;
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
        let Local { mut requests, applied, digest_key } = feed;
        let applied = translated(applied);
        let mut pause = PAUSE;
        loop {
            match self.once(&mut requests, applied.clone(), digest_key.clone()).await {
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

    async fn once(
        &mut self,
        requests: &mut mpsc::Receiver<Request>,
        applied: watch::Receiver<Applied>,
        digest_key: DigestKey,
    ) -> anyhow::Result<()> {
        let first = if self.has_snapshot { FirstStart::Never } else { FirstStart::ExampleZone };
        let shadow = Program::of_this_process(&["shadow"])?;
        let egress = Program::of_this_process(&["egress"])?;
        let mut stop = self.stop.clone();
        let controlplane = tokio::select! {
            opened = Controlplane::open(self.config.clone(), first, Some(digest_key)) => opened?,
            // It may wait for the database.
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        };
        let controlplane = controlplane.shadowed_by(shadow).calling_by(egress);
        if let Some(token) = controlplane.new_token() {
            show_token(&token.reveal());
        }
        // From here on there are records to serve, or will be in a moment.
        self.has_snapshot = true;
        let (scheme, address) = (controlplane.api_scheme(), controlplane.api_address()?);
        say(format_args!("godwit: API at {scheme}://{address} (described at /docs)"));
        let registry = controlplane.metrics().registry();
        self.beside.set(move || Metrics::text(&registry));
        let (hangups, look) = (listen(SignalKind::hangup())?, controlplane.reloads());
        let (taken, received) = mpsc::channel(1);
        let serving = controlplane.serve(Some(FeedSink { requests: received, applied }), self.stop.clone());
        tokio::select! {
            served = serving => served,
            () = forward(requests, taken) => anyhow::bail!("the data plane is gone"),
            never = look_on(hangups, look) => match never {},
        }
    }
}

/// At each SIGHUP, looks again at what the control plane has in files.
async fn look_on(mut hangups: Signal, look: impl Fn()) -> Infallible {
    loop {
        match hangups.recv().await {
            Some(()) => tokio::task::block_in_place(&look),
            None => std::future::pending().await,
        }
    }
}

/// The one line on standard output. The token is in the database already; whoever cannot read it here makes another.
fn show_token(token: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "admin token: {token}").and_then(|()| out.flush()).is_err() {
        tracing::error!("the admin token could not be printed; stop and use `godwit token create`");
    }
}

/// Hands on what the data plane asks, in the control plane's words: the planes do not know each other. A request that finds
/// nobody, and an answer that nobody gives, are dropped: the data plane asks again.
async fn forward(requests: &mut mpsc::Receiver<Request>, taken: mpsc::Sender<FeedRequest>) {
    while let Some(request) = requests.recv().await {
        let request = match request {
            Request::Join { answer } => {
                let answer = handed(answer, |digest_key| Joined { digest_key });
                FeedRequest::Join { answer }
            }
            Request::Index { answer } => FeedRequest::Index { answer },
            Request::Zone { apex, answer } => {
                FeedRequest::Zone { apex, answer: handed(answer, zone_in_words_of_data) }
            }
            Request::Entries { after, answer } => FeedRequest::Entries {
                after: Position {
                    generation: after.generation,
                    epoch: after.epoch,
                    sequence: after.sequence,
                    chain: after.chain,
                },
                answer: handed(answer, entries_in_words_of_data),
            },
        };
        // Who took requests is about to end.
        if taken.send(request).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Where an answer goes on its way to another.
fn handed<T: Send + 'static, U: Send + 'static>(
    to: oneshot::Sender<U>,
    in_other_words: impl FnOnce(T) -> U + Send + 'static,
) -> oneshot::Sender<T> {
    let (answer, answered) = oneshot::channel();
    tokio::spawn(async move {
        if let Ok(answer) = answered.await {
            let _ = to.send(in_other_words(answer));
        }
    });
    answer
}

fn zone_in_words_of_data(zone: godwit_controlplane::ZoneState) -> feed::ZoneState {
    let godwit_controlplane::ZoneState { blob, version, settled } = zone;
    feed::ZoneState { blob, version, settled }
}

fn entries_in_words_of_data(entries: godwit_controlplane::Entries) -> feed::Entries {
    match entries {
        godwit_controlplane::Entries::Next(entries) => feed::Entries::Next(entries),
        godwit_controlplane::Entries::Gone => feed::Entries::Gone,
        godwit_controlplane::Entries::Behind => feed::Entries::Behind,
    }
}

/// The data plane's position in the control plane's words.
fn translated(mut theirs: watch::Receiver<feed::Applied>) -> watch::Receiver<Applied> {
    let (report, ours) = watch::channel(in_words_of_control(theirs.borrow_and_update().clone()));
    tokio::spawn(async move {
        while theirs.changed().await.is_ok() {
            report.send_replace(in_words_of_control(theirs.borrow_and_update().clone()));
        }
    });
    ours
}

fn in_words_of_control(applied: feed::Applied) -> Applied {
    let feed::Applied { generation, epoch, sequence, chain, quarantined, compared: _ } = applied;
    Applied { generation, epoch, sequence, chain, quarantined }
}
