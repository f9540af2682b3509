//! Honest queries over TCP: for each server one connection that stays, with some queries behind one another on it, and new ones
//! for single queries. What a closed connection leaves unanswered is asked once more over a new one, as RFC 7766 §6.2.4 wants of
//! clients.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::outages::{Side, Transport};
use super::questions::Questions;
use super::shared::Shared;

/// Who has no answer by then has lost the query.
const PATIENCE: Duration = Duration::from_secs(5);
/// Queries behind one another on the connection that stays.
const PIPELINED: u32 = 4;
/// Between two groups of them: below every idle timeout.
const GROUP_EVERY: Duration = Duration::from_millis(20);
/// Between two connections for one query each.
const CONNECT_EVERY: Duration = Duration::from_millis(50);
/// How often a connection is tried.
const TRIES: usize = 2;
/// Between the tries: whoever closed has gone, and whoever comes is there.
const RETRY_AFTER: Duration = Duration::from_millis(20);

/// How a thread uses its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// One that stays.
    Long,
    /// A new one for each query.
    New,
}

/// Asks one server until it is over.
pub fn run(shared: &Shared, side: Side, questions: &Questions, how: Use) {
    let server = shared.dns[side as usize];
    let (every, group) = match how {
        Use::Long => (GROUP_EVERY, PIPELINED),
        Use::New => (CONNECT_EVERY, 1),
    };
    let len = questions.queries.len();
    // Not the same questions as the other threads at the same time.
    let mut first = if how == Use::Long { len / 3 } else { 2 * len / 3 };
    let mut stream = None;
    while shared.course.wait(every) {
        let due = Instant::now();
        let mut open: Vec<u32> = (0..group).map(|number| (first + number) % len).collect();
        first = (first + group) % len;
        shared.tally(side).sent[1] += u64::from(group);
        for attempt in 0..TRIES {
            if attempt > 0 {
                shared.tally(side).retried += open.len() as u64;
                std::thread::sleep(RETRY_AFTER);
            }
            // Gone when anything failed.
            stream = stream
                .or_else(|| connect(server))
                .and_then(|stream| ask(shared, side, questions, stream, &mut open));
            if open.is_empty() {
                break;
            }
        }
        if how == Use::New {
            stream = None;
        }
        for query in open {
            shared.lost(side, Transport::Tcp, due, &|| questions.show(query));
        }
    }
}

fn connect(server: SocketAddr) -> Option<TcpStream> {
    let stream = TcpStream::connect_timeout(&server, PATIENCE).ok()?;
    stream.set_nodelay(true).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    Some(stream)
}

/// Asks all of `open` at once and takes out what was answered. Gives the connection back while it is good.
fn ask(
    shared: &Shared,
    side: Side,
    questions: &Questions,
    mut stream: TcpStream,
    open: &mut Vec<u32>,
) -> Option<TcpStream> {
    let asked = Instant::now();
    let mut octets = Vec::new();
    for (id, &query) in (0_u16..).zip(open.iter()) {
        let message = questions.queries.message(query);
        octets.extend(u16::try_from(message.len()).expect("queries are short").to_be_bytes());
        octets.extend(id.to_be_bytes());
        octets.extend(&message[2..]);
    }
    stream.write_all(&octets).ok()?;
    // IDs are places in the list as it was sent; answers may come in any order (RFC 7766 §6.2.1.1).
    let sent = open.clone();
    let mut answer = Vec::new();
    while !open.is_empty() {
        read_message(&mut stream, &mut answer)?;
        let answered = Instant::now();
        let id = answer.first_chunk::<2>().map(|id| usize::from(u16::from_be_bytes(*id)));
        let query = id.and_then(|id| sent.get(id).copied());
        let Some(query) = query.filter(|&query| questions.queries.is_answer(query, &answer)) else {
            shared.tally(side).strays += 1;
            return None;
        };
        let place = open.iter().position(|&other| other == query)?;
        open.swap_remove(place);
        let mut message = questions.queries.message(query).to_vec();
        message[..2].copy_from_slice(&answer[..2]);
        let verdict = questions.judge(query, &message, &answer, (asked, answered), shared);
        shared.judged(side, verdict, &|| format!("{} (TCP)", questions.show(query)));
    }
    Some(stream)
}

/// One message with its length before it (RFC 1035 §4.2.2); none when the connection is closed or too slow.
fn read_message(stream: &mut TcpStream, message: &mut Vec<u8>) -> Option<()> {
    let mut len = [0; 2];
    exactly(stream, &mut len)?;
    message.resize(usize::from(u16::from_be_bytes(len)), 0);
    exactly(stream, message)
}

fn exactly(stream: &mut TcpStream, mut into: &mut [u8]) -> Option<()> {
    while !into.is_empty() {
        match stream.read(into) {
            Ok(0) => return None,
            Ok(read) => into = &mut into[read..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    Some(())
}
