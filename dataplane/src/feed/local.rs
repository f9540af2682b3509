//! The feed of the same process: a channel of requests. The same octets and the same checks as between machines.

use std::time::Duration;

use bytes::Bytes;
use godwit_engine::snapshot::Position;
use godwit_wire::feed::{DigestKey, PartSums};
use godwit_wire::name::Name;
use tokio::sync::{mpsc, oneshot, watch};

use super::follower::Applied;
use super::source::{ANSWER_OCTETS, Entries, Joined, Lost, Source, ZoneState};

/// How long an answer is waited for once somebody has taken the request.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same for the index, which takes a look at every zone.
const PATIENCE_INDEX: Duration = Duration::from_secs(30);
/// Requests that wait to be taken: see [`Requests::ask`].
const CAPACITY: usize = 1;
/// Zones that are asked for before the first of them is waited for.
const AT_ONCE: usize = 8;

/// The other side of the feed. Dropping it ends the feed; what is served stays.
#[derive(Debug)]
pub struct Local {
    /// What is asked. One side may take over from another; a request whose answer is dropped is asked again.
    pub requests: mpsc::Receiver<Request>,
    /// Where the data plane stands; its first value is the place of the local snapshot.
    pub applied: watch::Receiver<Applied>,
    /// What the digests are keyed with: a new deployment adopts it.
    pub digest_key: DigestKey,
}

/// What a data plane asks.
#[derive(Debug)]
pub enum Request {
    /// First of each connection, and again after an answer was lost: which key digests are made with.
    Join {
        /// Takes it.
        answer: oneshot::Sender<Joined>,
    },
    /// All zones with their versions and digests.
    Index {
        /// Takes the octets of `wire::feed::Index`.
        answer: oneshot::Sender<Bytes>,
    },
    /// One zone.
    Zone {
        /// Which.
        apex: Name,
        /// Takes it.
        answer: oneshot::Sender<ZoneState>,
    },
    /// What comes after a position. Answered as soon as there is something, or after about a second with just a head.
    Entries {
        /// The position. Its epoch is the latest that was heard of there, which may be later than that of the batch.
        after: Position,
        /// Takes them.
        answer: oneshot::Sender<Entries>,
    },
}

/// The asking end.
#[derive(Debug)]
pub(super) struct Requests(mpsc::Sender<Request>);

impl Requests {
    pub(super) fn new() -> (Self, mpsc::Receiver<Request>) {
        let (sender, receiver) = mpsc::channel(CAPACITY);
        (Requests(sender), receiver)
    }

    /// While nobody is there the request waits: who comes finds it, and is asked without a pause. That somebody has taken
    /// it shows in its place being free again.
    async fn ask<T>(
        &self,
        request: Request,
        answer: oneshot::Receiver<T>,
        patience: Duration,
    ) -> Result<T, Lost> {
        self.0.send(request).await.map_err(|_| Lost::Ended)?;
        self.answer(answer, patience).await
    }

    async fn answer<T>(&self, answer: oneshot::Receiver<T>, patience: Duration) -> Result<T, Lost> {
        drop(self.0.reserve().await.map_err(|_| Lost::Ended)?);
        match tokio::time::timeout(patience, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) | Err(_) => Err(Lost::Again),
        }
    }
}

impl Source for Requests {
    async fn join(&mut self) -> Result<Joined, Lost> {
        let (answer, receiver) = oneshot::channel();
        self.ask(Request::Join { answer }, receiver, PATIENCE).await
    }

    /// In one process there is no network to be spared.
    async fn difference(&mut self, _: &PartSums) -> Result<Option<Bytes>, Lost> {
        Ok(None)
    }

    async fn index(&mut self) -> Result<Bytes, Lost> {
        let (answer, receiver) = oneshot::channel();
        self.ask(Request::Index { answer }, receiver, PATIENCE_INDEX).await
    }

    async fn zones(&mut self, apexes: Vec<Name>) -> Result<Vec<(Name, Option<ZoneState>)>, Lost> {
        let mut answers = Vec::with_capacity(apexes.len());
        let (mut apexes, mut octets) = (apexes.into_iter(), 0);
        while octets < ANSWER_OCTETS {
            let mut asked = Vec::with_capacity(AT_ONCE);
            for apex in apexes.by_ref().take(AT_ONCE) {
                let (answer, receiver) = oneshot::channel();
                let request = Request::Zone { apex: apex.clone(), answer };
                self.0.send(request).await.map_err(|_| Lost::Ended)?;
                asked.push((apex, receiver));
            }
            if asked.is_empty() {
                break;
            }
            for (apex, receiver) in asked {
                match self.answer(receiver, PATIENCE).await {
                    Ok(state) => {
                        octets += state.octets();
                        answers.push((apex, Some(state)));
                    }
                    Err(Lost::Again) => answers.push((apex, None)),
                    Err(Lost::Ended) => return Err(Lost::Ended),
                }
            }
        }
        Ok(answers)
    }

    async fn entries(&mut self, after: Position) -> Result<Entries, Lost> {
        let (answer, receiver) = oneshot::channel();
        self.ask(Request::Entries { after, answer }, receiver, PATIENCE).await
    }
}
