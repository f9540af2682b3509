//! DNS over TCP (RFC 7766): length-prefixed messages, pipelined, many answers in one write.
//!
//! One thread with one epoll set serves many connections, apart from the UDP workers, so that neither can starve the
//! other. A connection gets a bounded turn (octets read, messages answered, octets composed), then the next one. The
//! answers of a turn leave in one write. What is read, answered and written within a turn lives in buffers of the
//! thread; a connection owns memory only for a partial message or for answers that it did not fetch yet.
//!
//! Answers leave in the order of the queries, since none has to wait for anything.

mod connection;
mod evict;

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use self::connection::{Connection, LINGER, Next, Turn};
use self::evict::{Line, Need, QUIET, Scarce};
use super::limit::{Admission, Ticket};
use super::respond::{Client, Respond, Transport};
use super::udp::seconds_since_epoch;
use crate::observe::counter::{Closed, WorkerCounters};
use crate::observe::query_log::Recorder;
use crate::sys::readiness::{Epoll, Interest};

/// Events fetched at a time.
const EVENTS: usize = 256;
/// Connections accepted in a turn.
const ACCEPTS: usize = 64;
/// How often deadlines are looked at, and the longest an idle thread sleeps.
const SWEEP: Duration = Duration::from_millis(100);
/// How often room is made for one newcomer: those of other workers may take it first.
const PLACE_TRIES: usize = 4;
/// The most connections closed so that one more answer or partial message finds memory.
const MEMORY_CLOSES: usize = 64;
/// How long the listener rests when the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// One TCP worker. [`run`](Self::run) is its thread.
pub struct TcpWorker<R> {
    epoll: Epoll,
    listeners: Vec<TcpListener>,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// Connections with whole messages left over from their last turn.
    again: Vec<u64>,
    /// Who makes room for newcomers.
    for_places: Line,
    /// Who makes room for those that need memory.
    for_memory: Line,
    /// Makes tokens of connections that share a place, one after the other, differ.
    generation: u32,
    turn: Turn,
    responder: R,
    admission: Arc<Admission>,
    counters: WorkerCounters,
    stop: Arc<AtomicBool>,
    drain_timeout: Duration,
    swept: Instant,
    /// Dropped when we accept no more.
    accepting: Arc<()>,
}

/// Tokens from here on are listeners.
const LISTENER: u64 = u64::MAX - 0xFFFF;

impl<R: Respond> TcpWorker<R> {
    /// A worker that accepts from these listeners. After `stop` is set, connections have `drain_timeout` to end.
    ///
    /// # Errors
    /// When there is no file descriptor left.
    pub fn new(
        listeners: Vec<TcpListener>,
        responder: R,
        admission: Arc<Admission>,
        counters: WorkerCounters,
        stop: Arc<AtomicBool>,
        drain_timeout: Duration,
    ) -> std::io::Result<Self> {
        let epoll = Epoll::new(EVENTS)?;
        for (token, listener) in (LISTENER..).zip(&listeners) {
            epoll.add(listener.as_fd(), token, Interest::Read)?;
        }
        let turn = Turn::new(admission.limits());
        Ok(TcpWorker {
            epoll,
            listeners,
            connections: Vec::new(),
            free: Vec::new(),
            again: Vec::new(),
            for_places: Line::new(Scarce::Places),
            for_memory: Line::new(Scarce::Memory),
            generation: 0,
            turn,
            responder,
            admission,
            counters,
            stop,
            drain_timeout,
            swept: Instant::now(),
            accepting: Arc::default(),
        })
    }

    /// Holds on to this as long as it accepts connections.
    #[must_use]
    pub fn accepting(self, accepting: Arc<()>) -> Self {
        TcpWorker { accepting, ..self }
    }

    /// Logs queries from now on.
    pub fn record(&mut self, recorder: Recorder) {
        self.turn.record(recorder);
    }

    /// Works until told to stop, then until the last connection has ended or the drain timeout has passed.
    pub fn run(mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            self.step();
        }
        // Who had connected by now is served; who comes later is left to the process that has the listener too.
        let now = Instant::now();
        self.turn.begin(now, seconds_since_epoch());
        for number in 0..self.listeners.len() {
            self.accept(number, now);
            let _ = self.epoll.remove(self.listeners[number].as_fd());
        }
        self.listeners.clear();
        self.accepting = Arc::default();
        // At the deadline the rest are told too; closing them at once could reset them and lose what was sent.
        let deadline = now + self.drain_timeout;
        while self.connections.iter().any(Option::is_some) && Instant::now() < deadline + LINGER {
            self.step();
            let now = Instant::now();
            self.dismiss(now, if now < deadline { QUIET } else { Duration::ZERO });
        }
        for place in 0..self.connections.len() {
            self.close(place, Closed::Stopping);
        }
    }

    fn step(&mut self) {
        self.counters.turns.add(1);
        let timeout = if self.again.is_empty() { SWEEP } else { Duration::ZERO };
        let count = self.epoll.wait(timeout);
        let now = Instant::now();
        if count == 0 {
            self.responder.refresh();
        }
        self.turn.begin(now, seconds_since_epoch());
        for i in 0..count {
            let token = self.epoll.token(i);
            if token >= LISTENER {
                self.accept(usize::try_from(token - LISTENER).unwrap_or(0), now);
            } else if let Some(place) = self.place(token) {
                // A broken connection says so when it is read or written. One that is in the line waits there.
                if self.connections[place].as_ref().is_some_and(|connection| !connection.queued) {
                    self.serve(place, token, now);
                }
            }
        }
        // Those left over stand behind those that have new events: each gets one turn per step.
        for token in std::mem::take(&mut self.again) {
            if let Some(place) = self.place(token) {
                self.serve(place, token, now);
            }
        }
        if now.duration_since(self.swept) >= SWEEP {
            self.swept = now;
            self.sweep(now);
        }
    }

    /// Where the connection of this token is, unless it has ended.
    fn place(&self, token: u64) -> Option<usize> {
        let place = usize::try_from(token & u64::from(u32::MAX)).ok()?;
        let connection = self.connections.get(place)?.as_ref()?;
        (connection.token() == token).then_some(place)
    }

    fn serve(&mut self, place: usize, token: u64, now: Instant) {
        let Some(connection) = &mut self.connections[place] else { return };
        let before = connection.interest();
        connection.queued = false;
        match connection.turn(&mut self.turn, &mut self.responder, &self.counters) {
            Next::Close(reason) => return self.close(place, reason),
            Next::Again => {
                connection.queued = true;
                self.again.push(token);
            }
            Next::Wait => {}
        }
        let interest = connection.interest();
        if interest != before && self.epoll.change(connection.socket().as_fd(), token, interest).is_err() {
            return self.close(place, Closed::Client);
        }
        self.settle(place, token, now);
    }

    /// Charges a connection what it holds. When that is more than the budget of all allows, slower ones are closed, and
    /// if there are none, or too little is had of them, it is closed itself.
    fn settle(&mut self, place: usize, token: u64, now: Instant) {
        let fits = |worker: &mut Self| worker.connections[place].as_mut().is_none_or(Connection::charge);
        if !fits(self) {
            // What was sent is charged until the kernel is asked.
            if let Some(connection) = &mut self.connections[place] {
                connection.weigh();
            }
            let spare = self.admission.limits().spare_octets();
            for _ in 0..MEMORY_CLOSES {
                if fits(self) || !self.free_memory(Some(token), spare, now) {
                    break;
                }
            }
            if !fits(self) {
                return self.close(place, Closed::Memory);
            }
        }
        if self.connections[place].as_ref().is_some_and(|connection| connection.beyond_octets() > 0) {
            self.for_memory.tell();
        }
    }

    /// Closes the slowest of those that hold much; whether there was one. Not when the kernel, asked what it really holds,
    /// says that this one holds little, or that all together hold no more than `enough`.
    fn free_memory(&mut self, except: Option<u64>, enough: usize, now: Instant) -> bool {
        let next = self.for_memory.next(&self.connections, Need::Now, except, now);
        let Some(place) = next else { return false };
        let Some(connection) = &mut self.connections[place] else { return false };
        connection.weigh();
        if connection.beyond_octets() > 0 && self.admission.beyond_octets() > enough {
            self.close(place, Closed::Memory);
        }
        true
    }

    /// Closes the slowest for a place; whether there was one.
    fn free_place(&mut self, need: Need, except: Option<u64>, now: Instant) -> bool {
        let slowest = self.for_places.next(&self.connections, need, except, now);
        if let Some(place) = slowest {
            self.close(place, Closed::Evicted);
        }
        slowest.is_some()
    }

    fn accept(&mut self, number: usize, now: Instant) {
        for _ in 0..ACCEPTS {
            let Some(listener) = self.listeners.get(number) else { return };
            let (socket, address) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                // The connection was gone before we took it: the next may be fine.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => continue,
                Err(_) => {
                    // No file descriptor or memory left. Asking again at once would only spin.
                    self.counters.count_close(Closed::TotalLimit);
                    self.free_place(Need::Now, None, now);
                    std::thread::sleep(ACCEPT_PAUSE);
                    return;
                }
            };
            match self.admit(address.ip(), now) {
                Ok(ticket) => self.welcome(socket, address, ticket, now),
                Err(reason) => self.counters.count_close(reason),
            }
        }
    }

    /// Lets a newcomer in, in the place of a slower one if need be.
    fn admit(&mut self, address: IpAddr, now: Instant) -> Result<Ticket, Closed> {
        let mut admitted = self.admission.admit(address);
        for _ in 0..PLACE_TRIES {
            if !matches!(admitted, Err(Closed::TotalLimit)) || !self.free_place(Need::Now, None, now) {
                break;
            }
            admitted = self.admission.admit(address);
        }
        admitted
    }

    /// Gives a newcomer its place and its first turn.
    fn welcome(&mut self, socket: TcpStream, address: SocketAddr, ticket: Ticket, now: Instant) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        self.generation = self.generation.wrapping_add(1) & 0x7FFF_FFFF;
        let token = u64::from(self.generation) << 32 | place as u64;
        if self.epoll.add(socket.as_fd(), token, Interest::Read).is_err() {
            self.free.push(place);
            self.counters.count_close(Closed::TotalLimit);
            return;
        }
        self.counters.accepted.add(1);
        let client = Client { address: address.ip(), transport: Transport::Tcp };
        let mut connection = Connection::new(socket, token, client, ticket, now);
        if self.turn.records() {
            connection.name_ends(address);
        }
        self.connections[place] = Some(connection);
        // An honest client's query has come with it by now. Once that is read, it is no stranger to those who come next.
        self.serve(place, token, now);
        if self.admission.crowding() > 0 {
            self.free_place(Need::Reserve, Some(token), now);
        }
    }

    /// Ends connections whose deadline has passed, then the slowest of what is too much for the reserve to be free: a
    /// newcomer may come to a worker that has nobody to close.
    fn sweep(&mut self, now: Instant) {
        let idle_timeout = self.admission.idle_timeout();
        let (mut count, mut beyond_octets) = (0, 0);
        for place in 0..self.connections.len() {
            let Some(connection) = &mut self.connections[place] else { continue };
            connection.weigh();
            if let Some(reason) = connection.overdue(now, idle_timeout, self.admission.limits()) {
                self.close(place, reason);
            } else {
                count += 1;
                beyond_octets += connection.beyond_octets();
            }
        }
        let mut places = share(self.admission.crowding(), count, self.admission.connections());
        while places > 0 && self.free_place(Need::Reserve, None, now) {
            places -= 1;
        }
        let all = self.admission.beyond_octets();
        let octets = share(self.admission.memory_pressure(), beyond_octets, all);
        let enough = all.saturating_sub(octets);
        while octets > 0 && self.admission.beyond_octets() > enough && self.free_memory(None, enough, now) {}
    }

    /// While stopping: tells connections that have asked nothing for `quiet` that no more will come.
    fn dismiss(&mut self, now: Instant, quiet: Duration) {
        for connection in self.connections.iter_mut().flatten() {
            if connection.quiet_since().is_some_and(|since| now.duration_since(since) >= quiet) {
                connection.dismiss(Closed::Stopping, now);
            }
        }
    }

    fn close(&mut self, place: usize, reason: Closed) {
        if let Some(connection) = self.connections[place].take() {
            self.counters.count_close(connection.reason().unwrap_or(reason));
            // Taken out by hand: a copy of the descriptor may live on in a child process.
            let _ = self.epoll.remove(connection.socket().as_fd());
            self.free.push(place);
        }
    }
}

/// What of `excess` is a worker's to give back that has `own` of `all`: rounded up, so that together they give enough.
fn share(excess: usize, own: usize, all: usize) -> usize {
    let share = (excess as u128 * own as u128).div_ceil(all.max(1) as u128);
    usize::try_from(share).unwrap_or(usize::MAX).min(excess)
}
