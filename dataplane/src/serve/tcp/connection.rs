//! One connection: what it has sent and not been answered, what it was answered and has not fetched, and its turn.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use godwit_wire::framing::{Messages, PREFIX_OCTETS, impossible, whole_message};
use godwit_wire::message::MAX_MESSAGE_OCTETS;
use socket2::SockRef;

use crate::observe::counter::{Closed, Counters};
use crate::observe::query_log::{Exchange, Fate, Recorder};
use crate::serve::limit::{TcpLimits, Ticket};
use crate::serve::respond::{
    Batch, Client, NOTHING, Outcome, Respond, Slot, Transport, respond_batch_guarded,
};
use crate::serve::udp::dropped;
use crate::sys::readiness::Interest;
use crate::sys::socket::{
    KernelQueues, TCP_NARROW_QUEUE_OCTETS, TCP_RECEIVE_QUEUE_OCTETS, TCP_SEGMENT_OCTETS,
    TCP_SEND_QUEUE_OCTETS, kernel_queues, widen,
};

/// Octets read in one turn of a connection.
const READ_OCTETS: usize = 16 * 1024;
/// Messages answered in one turn of a connection.
const TURN_MESSAGES: usize = 128;
/// Messages looked up together.
const CHUNK: usize = 16;
/// A connection that sends so much at once gets more room in the kernel: some queries, which may well be segments of their own, of
/// which few fit before. Most never do.
const WIDEN_OCTETS: usize = 256;
/// How long a connection that we ended may take to notice. Closing at once could reset it and lose what was sent.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// Buffers of the thread, lent to each connection for its turn.
pub(super) struct Turn {
    now: Instant,
    seconds: u32,
    read: Box<[u8]>,
    /// Room for the answers of a chunk, the largest possible for each; touched only as far as answers reach.
    slots: Box<[u8]>,
    /// Answers of this turn with their prefixes, one after the other.
    out: Box<[u8]>,
    out_len: usize,
    max_unsent_octets: usize,
    max_queries: u64,
    /// The worker's end of the query log; `None` while that is off.
    recorder: Option<Recorder>,
}

impl Turn {
    pub(super) fn new(limits: &TcpLimits) -> Self {
        let out_octets = limits.max_unsent_octets + PREFIX_OCTETS + MAX_MESSAGE_OCTETS;
        Turn {
            now: Instant::now(),
            seconds: 0,
            read: vec![0; READ_OCTETS].into(),
            slots: vec![0; CHUNK * MAX_MESSAGE_OCTETS].into(),
            out: vec![0; out_octets].into(),
            out_len: 0,
            max_unsent_octets: limits.max_unsent_octets,
            max_queries: limits.max_queries_per_connection,
            recorder: None,
        }
    }

    pub(super) fn record(&mut self, recorder: Recorder) {
        self.recorder = Some(recorder);
    }

    pub(super) fn records(&self) -> bool {
        self.recorder.is_some()
    }

    /// Logs a message, whose answer stands in `slot`.
    fn log(&mut self, ends: Ends, query: &[u8], slot: usize, outcome: Outcome) {
        let Some(recorder) = &mut self.recorder else { return };
        if !recorder.admits(query.len(), outcome.len) {
            return;
        }
        let from = slot * MAX_MESSAGE_OCTETS;
        let fate = match outcome.len {
            0 => Fate::Dropped(dropped(outcome.drop)),
            len => Fate::Answered { rcode: outcome.rcode, response: &self.slots[from..from + len] },
        };
        let Ends { client, server } = ends;
        recorder.record(&Exchange { client, server, transport: Transport::Tcp, query, fate });
    }

    /// Puts the answer of a slot behind the others, with its prefix.
    fn append(&mut self, slot: usize, len: usize) {
        let from = slot * MAX_MESSAGE_OCTETS;
        let start = self.out_len + PREFIX_OCTETS;
        let prefix = u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes();
        self.out[self.out_len..start].copy_from_slice(&prefix);
        self.out[start..start + len].copy_from_slice(&self.slots[from..from + len]);
        self.out_len = start + len;
    }

    /// Sets the time for the turns that follow.
    pub(super) fn begin(&mut self, now: Instant, seconds: u32) {
        self.now = now;
        self.seconds = seconds;
    }
}

/// The two ends of a connection, for the query log.
#[derive(Clone, Copy, Debug)]
struct Ends {
    client: SocketAddr,
    server: SocketAddr,
}

impl Ends {
    fn of(client: SocketAddr, socket: &TcpStream) -> Self {
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        Ends { client, server: socket.local_addr().unwrap_or(nowhere) }
    }
}

/// What a connection is to do after its turn.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Next {
    /// Wait for what [`Connection::interest`] says.
    Wait,
    /// Get another turn: whole messages are left.
    Again,
    /// End.
    Close(Closed),
}

pub(super) struct Connection {
    socket: TcpStream,
    token: u64,
    client: Client,
    /// Known where queries are logged.
    ends: Option<Ends>,
    ticket: Ticket,
    /// Octets read and not answered: a partial message, or whole ones that wait for their turn.
    input: Vec<u8>,
    /// Answers from `output_at` on that could not be written yet. While there are any, nothing is read.
    output: Vec<u8>,
    output_at: usize,
    /// What its queues take in the kernel: as told last, and at most what was sent since.
    kernel: KernelQueues,
    /// It has its full room there for what it sends.
    wide: bool,
    queries: u64,
    /// When the last message came whole, or the connection itself.
    active: Instant,
    /// Since when a message is partial.
    partial_since: Option<Instant>,
    /// Since when answers wait to be fetched.
    unsent_since: Option<Instant>,
    /// We are done with it, for this reason, since then: the rest is sent, what comes is not read as messages.
    ending: Option<(Closed, Instant)>,
    /// It stands in the worker's line of those that get another turn.
    pub(super) queued: bool,
}

impl Connection {
    pub(super) fn new(socket: TcpStream, token: u64, client: Client, ticket: Ticket, now: Instant) -> Self {
        Connection {
            socket,
            token,
            client,
            ends: None,
            ticket,
            input: Vec::new(),
            output: Vec::new(),
            output_at: 0,
            kernel: KernelQueues::default(),
            wide: false,
            queries: 0,
            active: now,
            partial_since: None,
            unsent_since: None,
            ending: None,
            queued: false,
        }
    }

    /// Looks up what the query log says of a connection, once.
    pub(super) fn name_ends(&mut self, client: SocketAddr) {
        self.ends = Some(Ends::of(client, &self.socket));
    }

    pub(super) fn token(&self) -> u64 {
        self.token
    }

    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Why we ended it, if we did.
    pub(super) fn reason(&self) -> Option<Closed> {
        self.ending.map(|(reason, _)| reason)
    }

    pub(super) fn interest(&self) -> Interest {
        if self.unsent_since.is_some() { Interest::Write } else { Interest::Read }
    }

    /// Since when it asks nothing, if nothing is under way.
    pub(super) fn quiet_since(&self) -> Option<Instant> {
        let quiet = self.input.is_empty() && self.unsent_since.is_none() && self.ending.is_none();
        quiet.then_some(self.active)
    }

    /// Since when it makes no progress, or is told that no more will come.
    pub(super) fn slow_since(&self) -> Instant {
        self.ending.map_or(self.active, |(_, since)| since)
    }

    /// Whether a message, or the wait for answers to be fetched, began so lately.
    pub(super) fn has_begun_within(&self, now: Instant, time: Duration) -> bool {
        self.partial_since.or(self.unsent_since).is_some_and(|since| now.duration_since(since) < time)
    }

    /// Whether it ever asked anything.
    pub(super) fn has_asked(&self) -> bool {
        self.queries > 0
    }

    /// Whether it is quiet only because we have not read yet what it asks, as after a pause of ours.
    pub(super) fn has_asked_unread(&self) -> bool {
        let mut octet = [std::mem::MaybeUninit::uninit()];
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        self.quiet_since().is_some()
            && SockRef::from(&self.socket).recv_with_flags(&mut octet, flags).is_ok_and(|count| count > 0)
    }

    /// Octets that it is charged beyond its allowance.
    pub(super) fn beyond_octets(&self) -> usize {
        self.ticket.beyond_octets()
    }

    /// Connections of its network, itself included.
    pub(super) fn network_connections(&self) -> usize {
        self.ticket.network_connections()
    }

    /// Charges it what it holds now; whether the budget of all allows it.
    pub(super) fn charge(&mut self) -> bool {
        // While nothing is read, all that the kernel takes in may come at any moment.
        let to_read = match (self.unsent_since, self.wide) {
            (None, _) => self.kernel.receive_octets,
            (Some(_), true) => TCP_RECEIVE_QUEUE_OCTETS,
            (Some(_), false) => TCP_NARROW_QUEUE_OCTETS,
        };
        let queues = to_read + self.kernel.send_octets;
        self.ticket.hold(self.input.capacity() + self.output.capacity() + queues)
    }

    /// Asks the kernel what it holds for this connection, if it may hold anything, and charges that.
    pub(super) fn weigh(&mut self) {
        if self.kernel != KernelQueues::default() || self.unsent_since.is_some() {
            self.kernel = kernel_queues(self.socket.as_fd()).unwrap_or_default();
            let _ = self.charge();
        }
    }

    /// Which deadline has passed.
    pub(super) fn overdue(&self, now: Instant, idle_timeout: Duration, limits: &TcpLimits) -> Option<Closed> {
        let passed = |since: Instant, limit| now.duration_since(since) > limit;
        if let Some(since) = self.unsent_since {
            return passed(since, limits.send_deadline).then_some(Closed::SlowReader);
        }
        if let Some((reason, since)) = self.ending {
            return passed(since, LINGER).then_some(reason);
        }
        if let Some(since) = self.partial_since {
            return passed(since, limits.message_deadline).then_some(Closed::SlowMessage);
        }
        // All answers went to the kernel, and it could not deliver them: they are no newer than the last query.
        if self.kernel.send_octets > 0 && passed(self.active, limits.send_deadline) {
            return Some(Closed::SlowReader);
        }
        (passed(self.active, idle_timeout) && !self.has_asked_unread()).then_some(Closed::Idle)
    }

    /// Ends it from our side: what is unsent still goes out.
    pub(super) fn dismiss(&mut self, reason: Closed, now: Instant) {
        self.ending = Some((reason, now));
        self.input = Vec::new();
        self.partial_since = None;
        if self.unsent_since.is_none() {
            let _ = self.socket.shutdown(Shutdown::Write);
        }
    }

    /// One bounded piece of work: write what waits, else read, answer and write.
    pub(super) fn turn<R: Respond>(
        &mut self,
        turn: &mut Turn,
        responder: &mut R,
        counters: &Counters,
    ) -> Next {
        if self.unsent_since.is_some() {
            match self.write_rest() {
                Ok(true) => {}
                Ok(false) => return Next::Wait,
                Err(_) => return Next::Close(Closed::Client),
            }
            if let Some((reason, _)) = self.ending {
                self.dismiss(reason, turn.now);
                return Next::Wait;
            }
        }
        if self.ending.is_some() {
            return self.discard(turn);
        }
        if whole_message(&self.input) {
            let input = std::mem::take(&mut self.input);
            self.answer(&input, turn, responder, counters)
        } else {
            self.read(turn, responder, counters)
        }
    }

    fn read<R: Respond>(&mut self, turn: &mut Turn, responder: &mut R, counters: &Counters) -> Next {
        let count = match receive(&self.socket, &mut turn.read) {
            // The client is done asking. Every whole message was answered before this was read.
            Ok(0) => return Next::Close(Closed::Client),
            Ok(count) => count,
            Err(error) if is_temporary(&error) => return Next::Wait,
            Err(_) => return Next::Close(Closed::Client),
        };
        if !self.wide && count >= WIDEN_OCTETS {
            // Without, it is only slower.
            self.wide = widen(self.socket.as_fd()).is_ok();
        }
        if self.input.is_empty() {
            // The common case: the messages are answered where they were read.
            let read = std::mem::take(&mut turn.read);
            let next = self.answer(&read[..count], turn, responder, counters);
            turn.read = read;
            next
        } else {
            self.input.extend_from_slice(&turn.read[..count]);
            if !whole_message(&self.input) && !impossible(&self.input) {
                // Kept where it grows: copied for every segment, a long message in small ones would cost the square of
                // its length.
                self.partial_since.get_or_insert(turn.now);
                return Next::Wait;
            }
            let input = std::mem::take(&mut self.input);
            self.answer(&input, turn, responder, counters)
        }
    }

    /// Answers the whole messages at the start of `octets`, as far as the turn goes, and keeps the rest.
    fn answer<R: Respond>(
        &mut self,
        octets: &[u8],
        turn: &mut Turn,
        responder: &mut R,
        counters: &Counters,
    ) -> Next {
        let mut rest = octets;
        let mut answered = 0;
        let mut end = None;
        turn.out_len = 0;
        while answered < TURN_MESSAGES && self.unsent_since.is_none() {
            let room = CHUNK.min(usize::try_from(turn.max_queries - self.queries).unwrap_or(CHUNK));
            let chunk = Chunk::split(rest, room);
            if chunk.count == 0 {
                break;
            }
            let Ok(done) = self.answer_chunk(&chunk, turn, responder, counters) else {
                return Next::Close(Closed::Client);
            };
            rest = chunk.after(done, rest);
            answered += done;
            self.queries += done as u64;
            if self.queries >= turn.max_queries {
                end = Some(Closed::QueryLimit);
                break;
            }
        }
        if self.write(turn).is_err() {
            return Next::Close(Closed::Client);
        }
        if answered > 0 {
            self.active = turn.now;
            self.partial_since = None;
        }
        if let Some(reason) = end.or_else(|| impossible(rest).then_some(Closed::Malformed)) {
            self.dismiss(reason, turn.now);
            return Next::Wait;
        }
        self.input = rest.to_vec();
        if whole_message(rest) {
            // It waits for us, not we for it.
            self.partial_since = None;
            return if self.unsent_since.is_some() { Next::Wait } else { Next::Again };
        }
        if rest.is_empty() {
            self.partial_since = None;
        } else {
            self.partial_since.get_or_insert(turn.now);
        }
        Next::Wait
    }

    /// Answers the messages of a chunk; how many. Fewer than all when the client stops fetching: the others are answered
    /// anew when it goes on.
    fn answer_chunk<R: Respond>(
        &mut self,
        chunk: &Chunk<'_>,
        turn: &mut Turn,
        responder: &mut R,
        counters: &Counters,
    ) -> io::Result<usize> {
        if let Some(recorder) = &mut turn.recorder {
            recorder.received();
        }
        let mut batch =
            TcpBatch { chunk, client: self.client, slots: &mut turn.slots, outcomes: [NOTHING; CHUNK] };
        let panics = respond_batch_guarded(responder, turn.seconds, &mut batch);
        if panics > 0 {
            counters.panics.add(panics);
        }
        let outcomes = batch.outcomes;
        if let Some(recorder) = &mut turn.recorder {
            recorder.answered();
        }
        for (number, outcome) in outcomes[..chunk.count].iter().enumerate() {
            if let Some(ends) = self.ends {
                turn.log(ends, chunk.messages[number], number, *outcome);
            }
            if outcome.len == 0 {
                counters.count_drop(dropped(outcome.drop));
                continue;
            }
            counters.count_answer(outcome.rcode);
            turn.append(number, outcome.len);
            if turn.out_len >= turn.max_unsent_octets {
                self.write(turn)?;
                if self.unsent_since.is_some() {
                    return Ok(number + 1);
                }
            }
        }
        Ok(chunk.count)
    }

    /// Writes the answers of this turn; what the client has no room for is kept.
    fn write(&mut self, turn: &mut Turn) -> io::Result<()> {
        let out = &turn.out[..turn.out_len];
        turn.out_len = 0;
        if out.is_empty() {
            return Ok(());
        }
        // At most one write of a turn stays incomplete: after it, nothing more is answered.
        let sent = if self.unsent_since.is_some() { 0 } else { self.send(out)? };
        if sent < out.len() {
            self.output.extend_from_slice(&out[sent..]);
            self.unsent_since.get_or_insert(turn.now);
        }
        Ok(())
    }

    /// Writes what waits; whether all of it went.
    fn write_rest(&mut self) -> io::Result<bool> {
        let rest = std::mem::take(&mut self.output);
        let sent = self.send(&rest[self.output_at..]);
        self.output = rest;
        self.output_at += sent?;
        if self.output_at < self.output.len() {
            return Ok(false);
        }
        self.output = Vec::new();
        self.output_at = 0;
        self.unsent_since = None;
        Ok(true)
    }

    /// Gives the kernel what it has room for; how much that was.
    fn send(&mut self, octets: &[u8]) -> io::Result<usize> {
        let sent = send(&self.socket, octets)?;
        let took = if sent == 0 { 0 } else { sent + TCP_SEGMENT_OCTETS };
        self.kernel.send_octets = (self.kernel.send_octets + took).min(TCP_SEND_QUEUE_OCTETS);
        Ok(sent)
    }

    /// Reads on after the end, so that the last answers are not lost to a reset.
    fn discard(&mut self, turn: &mut Turn) -> Next {
        match receive(&self.socket, &mut turn.read) {
            Err(error) if is_temporary(&error) => Next::Wait,
            Ok(count) if count > 0 => Next::Wait,
            _ => Next::Close(Closed::Client),
        }
    }
}

/// Whole messages that stand one after the other.
struct Chunk<'a> {
    messages: [&'a [u8]; CHUNK],
    count: usize,
}

impl<'a> Chunk<'a> {
    /// Takes up to `room` messages from the start of `octets`, none that is too short for a header.
    fn split(octets: &'a [u8], room: usize) -> Self {
        let mut chunk = Chunk { messages: [&[]; CHUNK], count: 0 };
        for (place, message) in chunk.messages.iter_mut().take(room).zip(Messages::new(octets)) {
            *place = message;
            chunk.count += 1;
        }
        chunk
    }

    /// What follows the first `done` messages in the octets that they were taken from.
    fn after(&self, done: usize, octets: &'a [u8]) -> &'a [u8] {
        let taken = self.messages[..done].iter().map(|message| PREFIX_OCTETS + message.len()).sum();
        &octets[taken..]
    }
}

struct TcpBatch<'a> {
    chunk: &'a Chunk<'a>,
    client: Client,
    slots: &'a mut [u8],
    outcomes: [Outcome; CHUNK],
}

impl Batch for TcpBatch<'_> {
    fn len(&self) -> usize {
        self.chunk.count
    }

    fn slot(&mut self, index: usize) -> Slot<'_> {
        let from = index * MAX_MESSAGE_OCTETS;
        let out = &mut self.slots[from..from + MAX_MESSAGE_OCTETS];
        Slot { client: self.client, packet: self.chunk.messages[index], out }
    }

    fn done(&mut self, index: usize, outcome: Outcome) {
        self.outcomes[index] = outcome;
    }
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Reads without waiting, whatever mode the socket is in: accepted sockets then need no call to set it.
fn receive(socket: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    crate::sys::socket::receive_now(socket.as_fd(), buffer)
}

/// Writes without waiting; 0 when there is no room.
fn send(socket: &TcpStream, octets: &[u8]) -> io::Result<usize> {
    match SockRef::from(socket).send_with_flags(octets, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) {
        Err(error) if is_temporary(&error) => Ok(0),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has no answers.
    struct Mute;

    impl Respond for Mute {
        fn refresh(&mut self) {}
        fn respond_batch<B: Batch>(&mut self, _: u32, batch: &mut B) {
            (0..batch.len()).for_each(|i| batch.done(i, NOTHING));
        }
        fn respond(&mut self, _: u32, _: &Client, _: &[u8], _: &mut [u8]) -> Outcome {
            NOTHING
        }
        fn reset(&mut self) {}
    }

    #[test]
    fn p7_a_message_in_small_segments_is_not_copied_for_each() {
        use std::io::Write;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_nodelay(true).unwrap();
        let (socket, address) = listener.accept().unwrap();
        let who = Client { address: address.ip(), transport: Transport::Tcp };
        let admission = crate::serve::limit::Admission::new(TcpLimits::default());
        let ticket = admission.admit(who.address).unwrap();
        let mut connection = Connection::new(socket, 1, who, ticket, Instant::now());
        let mut turn = Turn::new(admission.limits());
        let message = [&4000u16.to_be_bytes()[..], &[7; 4000]].concat();
        let (mut moves, mut capacity) = (0, 0);
        for (octet, number) in message.iter().zip(1..) {
            client.write_all(&[*octet]).unwrap();
            // What was sent arrives at once here; should it not, the turn finds nothing to read.
            while connection.input.len() < number && connection.queries == 0 {
                assert_eq!(connection.turn(&mut turn, &mut Mute, &Counters::default()), Next::Wait);
            }
            moves += usize::from(connection.input.capacity() != capacity);
            capacity = connection.input.capacity();
            assert_eq!(connection.partial_since.is_some(), connection.queries == 0);
        }
        assert_eq!((connection.queries, connection.input.capacity()), (1, 0));
        assert!(moves < 40, "the octets read moved {moves} times");
    }
}
