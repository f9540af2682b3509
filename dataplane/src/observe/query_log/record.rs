//! One message and what became of it, as octets in a ring between a worker and the logger.
//!
//! ```text
//! 0       4            12           20          36    38          54    56  57  58  59  60     62     64        66        68        70    72
//! +-------+------------+------------+-----------+-----+-----------+-----+---+---+---+---+------+------+---------+---------+---------+-----+
//! | total | received_us| answered_us| client    |port | server    |port | 4 |tcp|drop| 0 |rcode |query |response | query   |response | 0   |
//! |       |            |            |           |     |           |     | 6 |   |    |   |      |len   |len      | kept    |kept     |     |
//! +-------+------------+------------+-----------+-----+-----------+-----+---+---+---+---+------+------+---------+---------+---------+-----+
//! followed by the octets kept of the query, then those of the response
//! ```
//!
//! Numbers stand in the machine's own order: the octets never leave the process.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::query_log::MIN_RING_OCTETS;
use crate::observe::counter::{DROPPED, Dropped};
use crate::serve::respond::Transport;
use crate::sys::datagrams::PACKET_OCTETS;

/// Octets of a record before those of the messages.
pub(super) const HEAD_OCTETS: usize = 72;
/// The most octets that a record has.
pub(super) const MAX_RECORD_OCTETS: usize = HEAD_OCTETS + 2 * MAX_MESSAGE_OCTETS;
/// So every record finds room, once the ring is empty.
const _: () = assert!(MAX_RECORD_OCTETS <= MIN_RING_OCTETS);
const MAX_MESSAGE_OCTETS: usize = godwit_wire::message::MAX_MESSAGE_OCTETS;

/// A message received, and what became of it.
#[derive(Clone, Copy, Debug)]
pub struct Exchange<'a> {
    /// Who sent it.
    pub client: SocketAddr,
    /// Where it was sent to.
    pub server: SocketAddr,
    /// By which way.
    pub transport: Transport,
    /// The message.
    pub query: &'a [u8],
    /// What became of it.
    pub fate: Fate<'a>,
}

/// See [`Exchange::fate`].
#[derive(Clone, Copy, Debug)]
pub enum Fate<'a> {
    /// It was answered.
    Answered {
        /// The whole RCODE, of which the response's header holds four bits.
        rcode: u16,
        /// The answer.
        response: &'a [u8],
    },
    /// It was not.
    Dropped(Dropped),
}

/// How much of the messages is kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Keep {
    /// Of a query what UDP takes, of a response the header.
    Heads,
    /// All of both.
    Whole,
}

impl Keep {
    /// Octets of the record of a query and a response of so many.
    pub(super) fn record_octets(self, query_octets: usize, response_octets: usize) -> usize {
        let (query_room, response_room) = self.octets();
        HEAD_OCTETS + query_octets.min(query_room) + response_octets.min(response_room)
    }

    fn octets(self) -> (usize, usize) {
        match self {
            Keep::Heads => (PACKET_OCTETS, godwit_wire::message::HEADER_OCTETS),
            Keep::Whole => (MAX_MESSAGE_OCTETS, MAX_MESSAGE_OCTETS),
        }
    }
}

/// When a message came and when its answer was ready, in microseconds since the epoch.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Times {
    pub(super) received_us: i64,
    pub(super) answered_us: i64,
}

/// The head of a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Head {
    pub(super) times: Times,
    pub(super) client: SocketAddr,
    pub(super) server: SocketAddr,
    pub(super) tcp: bool,
    /// Why it was not answered, as a number of [`DROPPED`].
    pub(super) dropped: Option<usize>,
    pub(super) rcode: u16,
    /// Octets that the messages had.
    pub(super) query_octets: u16,
    pub(super) response_octets: u16,
    /// Octets that are kept of them.
    query_kept: u16,
    response_kept: u16,
}

impl Head {
    /// The head for an exchange, and the parts of its messages that are kept. Allocates nothing.
    pub(super) fn of<'a>(exchange: &Exchange<'a>, times: Times, keep: Keep) -> (Head, &'a [u8], &'a [u8]) {
        let (query_room, response_room) = keep.octets();
        let (dropped, rcode, response) = match exchange.fate {
            Fate::Answered { rcode, response } => (None, rcode, response),
            Fate::Dropped(reason) => (Some(reason as usize), 0, &[][..]),
        };
        let query_part = &exchange.query[..exchange.query.len().min(query_room)];
        let response_part = &response[..response.len().min(response_room)];
        let head = Head {
            times,
            client: exchange.client,
            server: exchange.server,
            tcp: exchange.transport == Transport::Tcp,
            dropped,
            rcode,
            query_octets: short(exchange.query.len()),
            response_octets: short(response.len()),
            query_kept: short(query_part.len()),
            response_kept: short(response_part.len()),
        };
        (head, query_part, response_part)
    }

    /// Octets of the whole record.
    pub(super) fn total(&self) -> usize {
        HEAD_OCTETS + usize::from(self.query_kept) + usize::from(self.response_kept)
    }

    pub(super) fn to_octets(self) -> [u8; HEAD_OCTETS] {
        let mut octets = [0; HEAD_OCTETS];
        let total = u32::try_from(self.total()).unwrap_or(u32::MAX);
        octets[..4].copy_from_slice(&total.to_ne_bytes());
        octets[4..12].copy_from_slice(&self.times.received_us.to_ne_bytes());
        octets[12..20].copy_from_slice(&self.times.answered_us.to_ne_bytes());
        write_address(self.client, &mut octets[20..38]);
        write_address(self.server, &mut octets[38..56]);
        octets[56] = if self.client.is_ipv4() { 4 } else { 6 };
        octets[57] = u8::from(self.tcp);
        octets[58] = self.dropped.map_or(0, |reason| 1 + u8::try_from(reason).unwrap_or(u8::MAX - 1));
        let shorts =
            [self.rcode, self.query_octets, self.response_octets, self.query_kept, self.response_kept];
        for (place, value) in octets[60..70].chunks_exact_mut(2).zip(shorts) {
            place.copy_from_slice(&value.to_ne_bytes());
        }
        octets
    }

    fn from_octets(octets: &[u8; HEAD_OCTETS]) -> Head {
        let short = |at: usize| u16::from_ne_bytes([octets[at], octets[at + 1]]);
        let long = |at: usize| {
            let mut value = [0; 8];
            value.copy_from_slice(&octets[at..at + 8]);
            i64::from_ne_bytes(value)
        };
        let ipv4 = octets[56] == 4;
        Head {
            times: Times { received_us: long(4), answered_us: long(12) },
            client: read_address(&octets[20..38], ipv4),
            server: read_address(&octets[38..56], ipv4),
            tcp: octets[57] != 0,
            dropped: usize::from(octets[58]).checked_sub(1).filter(|&reason| reason < DROPPED.len()),
            rcode: short(60),
            query_octets: short(62),
            response_octets: short(64),
            query_kept: short(66),
            response_kept: short(68),
        }
    }
}

/// A record as the logger reads it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    pub(super) head: Head,
    /// What is kept of the query.
    pub(super) query: &'a [u8],
    /// What is kept of the response; empty when there was none.
    pub(super) response: &'a [u8],
}

/// How many octets the record has that begins with these four.
pub(super) fn total(octets: [u8; 4]) -> usize {
    usize::try_from(u32::from_ne_bytes(octets)).unwrap_or(usize::MAX)
}

impl<'a> Record<'a> {
    /// Reads a whole record; `None` for octets that [`Head::to_octets`] did not make.
    pub(super) fn read(octets: &'a [u8]) -> Option<Self> {
        let (head, rest) = octets.split_first_chunk::<HEAD_OCTETS>()?;
        let head = Head::from_octets(head);
        let (query, rest) = rest.split_at_checked(usize::from(head.query_kept))?;
        let response = rest.get(..usize::from(head.response_kept))?;
        Some(Record { head, query, response })
    }

    /// Whether all of the query is kept.
    pub(super) fn has_whole_query(&self) -> bool {
        self.query.len() == usize::from(self.head.query_octets)
    }
}

/// A message has at most 65,535 octets: what carries it says so (RFC 768, RFC 1035 §4.2.2).
fn short(octets: usize) -> u16 {
    u16::try_from(octets).unwrap_or(u16::MAX)
}

fn write_address(address: SocketAddr, place: &mut [u8]) {
    match address.ip() {
        IpAddr::V4(ip) => place[..4].copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => place[..16].copy_from_slice(&ip.octets()),
    }
    place[16..18].copy_from_slice(&address.port().to_ne_bytes());
}

fn read_address(octets: &[u8], ipv4: bool) -> SocketAddr {
    let port = u16::from_ne_bytes([octets[16], octets[17]]);
    let ip = if ipv4 {
        Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]).into()
    } else {
        let mut ip = [0; 16];
        ip.copy_from_slice(&octets[..16]);
        Ipv6Addr::from(ip).into()
    };
    SocketAddr::new(ip, port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_out_as_they_went_in() {
        let query = [7; 5000];
        let answered = Fate::Answered { rcode: 23, response: &[9; 600] };
        for (ends, transport, fate, keep) in [
            (["192.0.2.1:53", "192.0.2.2:5300"], Transport::Udp, answered, Keep::Heads),
            (["[2001:db8::1]:1", "[::1]:65535"], Transport::Tcp, answered, Keep::Whole),
            (["[::1]:9", "[::1]:53"], Transport::Udp, Fate::Dropped(Dropped::Short), Keep::Heads),
        ] {
            let [client, server] = ends.map(|end| end.parse().unwrap());
            let exchange = Exchange { client, server, transport, query: &query, fate };
            let times = Times { received_us: 1, answered_us: i64::MAX };
            let (head, query_part, response_part) = Head::of(&exchange, times, keep);
            let octets = [&head.to_octets()[..], query_part, response_part].concat();
            assert_eq!(octets.len(), total(*octets.first_chunk().unwrap()));
            let response_octets = if matches!(fate, Fate::Dropped(_)) { 0 } else { 600 };
            assert_eq!(octets.len(), keep.record_octets(query.len(), response_octets));
            let record = Record::read(&octets).unwrap();
            assert_eq!(record.head, head);
            assert_eq!((record.head.client, record.head.server), (client, server));
            assert_eq!(record.head.query_octets, 5000);
            assert_eq!(record.has_whole_query(), keep == Keep::Whole);
            let (kept, response) = match (fate, keep) {
                (Fate::Dropped(_), _) => (2048, 0),
                (_, Keep::Heads) => (2048, 12),
                (_, Keep::Whole) => (5000, 600),
            };
            assert_eq!((record.query, record.response), (&query[..kept], &[9; 600][..response]));
            assert_eq!(
                record.head.dropped.map(|reason| DROPPED[reason]),
                match fate {
                    Fate::Dropped(_) => Some("short"),
                    Fate::Answered { .. } => None,
                }
            );
            assert!(Record::read(&octets[..octets.len() - 1]).is_none());
        }
    }
}
