//! Receive a batch, answer it, send the batch. One worker on one core, with sockets, buffers and counts of its own.
//!
//! The rules of this path: per query no allocation, no lock, no system call beyond the batched receive and send, no
//! log line, no shared counter, and no clock read that a batch can share. The snapshot is taken once per batch.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use godwit_wire::message::rcode;

use super::rate::{Limiter, Over};
use super::respond::{self, Batch, Client, DropReason, Kind, Outcome, Respond, Slot, Transport};
use crate::observe::counter::{Dropped, Limited, WorkerCounters};
use crate::observe::query_log::{Exchange, Fate, Recorder};
use crate::sys::datagrams::{BATCH, Datagrams, Wait};
use crate::sys::readiness::PollSet;
use crate::sys::socket::RECEIVE_TIMEOUT;

/// Batches that a worker still answers after it was told to stop: what had arrived by then, and not for ever.
const LAST_BATCHES: usize = 64;
/// How long a worker lets a socket rest that reports an error (out of memory, network gone), so as not to spin.
const ERROR_PAUSE: Duration = Duration::from_millis(10);

/// One UDP worker. [`run`](Self::run) is its thread.
pub struct UdpWorker<R> {
    sockets: Vec<Bound>,
    poll: PollSet,
    datagrams: Datagrams,
    round: Round,
    responder: R,
    /// None: no limits.
    limiter: Option<Limiter>,
    counters: WorkerCounters,
    /// The worker's end of the query log; `None` while that is off.
    recorder: Option<Recorder>,
    stop: Arc<AtomicBool>,
}

struct Bound {
    socket: UdpSocket,
    address: SocketAddr,
    /// The kernel's count of drops as last seen. `None`: inherited, so that the first report only sets the mark.
    overflow: Option<u32>,
}

/// The datagrams of a batch that the responder gets to see, and what it made of them.
struct Round {
    /// Number in the batch of each.
    index: [u8; BATCH],
    clients: [Client; BATCH],
    outcomes: [Outcome; BATCH],
    /// Whether a rate limit kept the answer back.
    limited: [bool; BATCH],
    count: usize,
}

impl<R: Respond> UdpWorker<R> {
    /// A worker for these sockets. `inherited` says that they were open before this process, so that drops counted
    /// by the kernel until now are not ours.
    ///
    /// # Errors
    /// When a socket does not say where it is bound.
    pub fn new(
        sockets: Vec<UdpSocket>,
        inherited: bool,
        responder: R,
        counters: WorkerCounters,
        stop: Arc<AtomicBool>,
    ) -> std::io::Result<Self> {
        let overflow = (!inherited).then_some(0);
        let sockets = sockets
            .into_iter()
            .map(|socket| Ok(Bound { address: socket.local_addr()?, socket, overflow }))
            .collect::<std::io::Result<Vec<_>>>()?;
        let poll = PollSet::new(sockets.iter().map(|bound| bound.socket.as_fd()));
        let nobody = Client { address: std::net::Ipv4Addr::UNSPECIFIED.into(), transport: Transport::Udp };
        let round = Round {
            index: [0; BATCH],
            clients: [nobody; BATCH],
            outcomes: [respond::NOTHING; BATCH],
            limited: [false; BATCH],
            count: 0,
        };
        let datagrams = Datagrams::new();
        Ok(UdpWorker {
            sockets,
            poll,
            datagrams,
            round,
            responder,
            limiter: None,
            counters,
            recorder: None,
            stop,
        })
    }

    /// With limits on how many answers of a kind one client network gets; without this there are none.
    #[must_use]
    pub fn limited(self, limiter: Limiter) -> Self {
        UdpWorker { limiter: Some(limiter), ..self }
    }

    /// Logs queries from now on.
    pub fn record(&mut self, recorder: Recorder) {
        self.recorder = Some(recorder);
    }

    /// Works until told to stop, then answers what had arrived.
    pub fn run(mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            self.turn();
        }
        for _ in 0..LAST_BATCHES {
            if self.pass(Wait::No) == 0 {
                break;
            }
        }
    }

    /// Answers what is there, or waits a bounded time for something to come.
    pub fn turn(&mut self) {
        self.counters.turns.add(1);
        // With one socket the receive itself waits; with several, `poll` does, once they are all empty.
        let wait = if self.sockets.len() == 1 { Wait::First } else { Wait::No };
        if self.pass(wait) == 0 {
            // Idle: without this look the worker would hold on to an old snapshot.
            self.responder.refresh();
            if wait == Wait::No {
                self.poll.wait(RECEIVE_TIMEOUT);
            }
        }
    }

    /// One batch from each socket; how many datagrams that were.
    fn pass(&mut self, wait: Wait) -> usize {
        (0..self.sockets.len()).map(|number| self.serve(number, wait)).sum()
    }

    fn serve(&mut self, number: usize, wait: Wait) -> usize {
        let bound = &mut self.sockets[number];
        let received = match self.datagrams.receive(bound.socket.as_fd(), wait) {
            Ok(0) => return 0,
            Ok(received) => received,
            Err(_) => {
                std::thread::sleep(ERROR_PAUSE);
                return 0;
            }
        };
        if let Some(now) = self.datagrams.take_overflow() {
            let before = bound.overflow.replace(now).unwrap_or(now);
            self.counters.overflow.add(u64::from(now.wrapping_sub(before)));
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.received();
        }
        self.admit(number, received);

        let now = Now::read();
        let mut batch = UdpBatch { datagrams: &mut self.datagrams, round: &mut self.round };
        let panics = respond::respond_batch_guarded(&mut self.responder, now.seconds, &mut batch);
        if panics > 0 {
            self.counters.panics.add(panics);
        }
        self.send(number, now);
        self.log_answers(number);
        received
    }

    /// Lines up the datagrams that may be answered at all.
    fn admit(&mut self, number: usize, received: usize) {
        let address = self.sockets[number].address;
        self.round.count = 0;
        for i in 0..received {
            let Some(source) = self.datagrams.source(i) else {
                self.counters.count_drop(Dropped::Other);
                continue;
            };
            if source.port() == 0 {
                self.refuse(i, number, Dropped::PortZero);
            } else if source.port() == address.port() && self.is_asked(i, address, source) {
                self.refuse(i, number, Dropped::Ourselves);
            } else if self.datagrams.truncated(i) {
                self.refuse(i, number, Dropped::Oversized);
            } else {
                let at = self.round.count;
                self.round.index[at] = u8::try_from(i).unwrap_or(u8::MAX);
                self.round.clients[at].address = source.ip();
                self.round.outcomes[at] = respond::NOTHING;
                self.round.limited[at] = false;
                self.round.count += 1;
            }
        }
    }

    /// Counts, and logs, a datagram that is not looked at.
    fn refuse(&mut self, i: usize, number: usize, reason: Dropped) {
        self.counters.count_drop(reason);
        if let Some(recorder) = &mut self.recorder {
            let server = self.sockets[number].address;
            if recorder.admits(self.datagrams.exchange(i).0.len(), 0) {
                log(recorder, &mut self.datagrams, i, server, |_| Fate::Dropped(reason));
            }
        }
    }

    /// Logs the datagrams of the batch, after their answers have left.
    fn log_answers(&mut self, number: usize) {
        let Some(recorder) = &mut self.recorder else { return };
        recorder.answered();
        let server = self.sockets[number].address;
        for at in 0..self.round.count {
            let outcome = self.round.outcomes[at];
            let i = usize::from(self.round.index[at]);
            if !recorder.admits(self.datagrams.exchange(i).0.len(), outcome.len) {
                continue;
            }
            log(recorder, &mut self.datagrams, i, server, |answer| match outcome.len {
                0 if self.round.limited[at] => Fate::Dropped(Dropped::RateLimited),
                0 => Fate::Dropped(dropped(outcome.drop)),
                len => Fate::Answered { rcode: outcome.rcode, response: &answer[..len] },
            });
        }
    }

    /// Whether datagram `i` claims to come from the address that it was sent to.
    fn is_asked(&self, i: usize, bound: SocketAddr, source: SocketAddr) -> bool {
        self.datagrams.destination(i).unwrap_or(bound.ip()) == source.ip()
    }

    fn send(&mut self, number: usize, now: Now) {
        for at in 0..self.round.count {
            let mut outcome = self.round.outcomes[at];
            if outcome.len == 0 {
                self.counters.count_drop(dropped(outcome.drop));
                continue;
            }
            let client = self.round.clients[at].address;
            let over = self.limiter.as_mut().and_then(|limiter| limiter.charge(now.ms, client, &outcome));
            if let Some(over) = over {
                outcome = self.limit(at, now, over);
                self.round.outcomes[at] = outcome;
                if outcome.len == 0 {
                    self.round.limited[at] = true;
                    self.counters.count_drop(Dropped::RateLimited);
                    continue;
                }
            }
            self.counters.count_answer(outcome.rcode);
            self.datagrams.queue(usize::from(self.round.index[at]), outcome.len);
        }
        let sent = self.datagrams.send(self.sockets[number].socket.as_fd());
        if sent.failed > 0 {
            self.counters.dropped[Dropped::Unsendable as usize].add(sent.failed as u64);
        }
    }

    /// What goes out of an answer over a rate limit, counted.
    #[cold]
    fn limit(&mut self, at: usize, now: Now, over: Over) -> Outcome {
        let whole = self.round.outcomes[at];
        let (action, outcome) = match over.action {
            Limited::Drop => (Limited::Drop, Outcome::NOTHING),
            // It has no records, so it is short already; and TC would only bring the client to the same error over TCP.
            Limited::Slip if whole.kind == Kind::Error => (Limited::Slip, whole),
            Limited::Slip | Limited::BadCookie => self.shorten(at, now),
            Limited::Log => (Limited::Log, whole),
        };
        self.counters.count_limited(action, over.by);
        outcome
    }

    fn shorten(&mut self, at: usize, now: Now) -> (Limited, Outcome) {
        let (packet, out) = self.datagrams.exchange(usize::from(self.round.index[at]));
        let client = &self.round.clients[at];
        let shorten = |responder: &mut R| responder.shorten(now.seconds, client, packet, out);
        let outcome = respond::guarded(&mut self.responder, shorten).unwrap_or_else(|| {
            self.counters.panics.add(1);
            Outcome::NOTHING
        });
        match (outcome.len, outcome.rcode) {
            (0, _) => (Limited::Drop, outcome),
            (_, rcode::BADCOOKIE) => (Limited::BadCookie, outcome),
            _ => (Limited::Slip, outcome),
        }
    }
}

/// Logs datagram `i`, which came to `server`, or to the address that its packet information names.
fn log(
    recorder: &mut Recorder,
    datagrams: &mut Datagrams,
    i: usize,
    server: SocketAddr,
    fate: impl Fn(&[u8]) -> Fate<'_>,
) {
    let Some(client) = datagrams.source(i) else { return };
    let ip = datagrams.destination(i).unwrap_or(server.ip());
    let server = SocketAddr::new(ip, server.port());
    let (query, answer) = datagrams.exchange(i);
    recorder.record(&Exchange { client, server, transport: Transport::Udp, query, fate: fate(answer) });
}

/// The engine's reason in our counts.
pub(super) fn dropped(reason: Option<DropReason>) -> Dropped {
    match reason {
        Some(DropReason::Short) => Dropped::Short,
        Some(DropReason::Response) => Dropped::Response,
        Some(DropReason::NoRoom) | None => Dropped::Other,
    }
}

/// The clock, read once per batch.
#[derive(Clone, Copy)]
struct Now {
    /// See [`seconds_since_epoch`].
    seconds: u32,
    /// Milliseconds since the epoch, for rates: only their low bits, which wrap.
    ms: u32,
}

impl Now {
    fn read() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let low = |value: u64| u32::try_from(value & u64::from(u32::MAX)).unwrap_or(0);
        let seconds = since.as_secs();
        Now { seconds: low(seconds), ms: low(seconds.wrapping_mul(1000) + u64::from(since.subsec_millis())) }
    }
}

/// The clock that cookies go by, in their 32 bits: RFC 9018 §4.3 has serial arithmetic, so that the wrap in 2106 is meant.
pub(super) fn seconds_since_epoch() -> u32 {
    Now::read().seconds
}

struct UdpBatch<'a> {
    datagrams: &'a mut Datagrams,
    round: &'a mut Round,
}

impl Batch for UdpBatch<'_> {
    fn len(&self) -> usize {
        self.round.count
    }

    fn slot(&mut self, i: usize) -> Slot<'_> {
        let (packet, out) = self.datagrams.exchange(usize::from(self.round.index[i]));
        Slot { client: self.round.clients[i], packet, out }
    }

    fn done(&mut self, i: usize, outcome: Outcome) {
        self.round.outcomes[i] = outcome;
    }
}
