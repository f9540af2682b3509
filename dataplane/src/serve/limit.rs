//! How many TCP connections there may be, of one client, of one network and in all, and how much memory they may hold
//! together, ours and the kernel's.
//!
//! The budget has two parts. For every place [`IDLE_OCTETS`] and [`ALLOWANCE_OCTETS`] are set aside, whether it is taken
//! or not; what is left is spare, for those that hold more. So no storm of connections that hold much can keep a
//! newcomer out, or an ordinary answer back: only who holds more than its allowance can be closed for memory.
//!
//! Shared between the TCP workers and locked when a connection comes or goes, never per message. Who has to go when
//! places or memory run out is `tcp::evict`'s business. Rates of answers are not limited here.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::observe::counter::Closed;
use crate::sys::socket::TCP_WAITING_OCTETS;

/// Bounds of TCP service (RFC 7766 §6.2, RFC 9210 §4.4).
#[derive(Clone, Debug)]
pub struct TcpLimits {
    /// How long a connection may ask nothing.
    pub idle_timeout: Duration,
    /// How long one message may take from its first octet to its last.
    pub message_deadline: Duration,
    /// How long answers may wait to be fetched.
    pub send_deadline: Duration,
    /// Connections in all.
    pub max_connections: usize,
    /// Connections of one client: an IPv4 address, or an IPv6 /64.
    pub max_connections_per_client: usize,
    /// Connections of one network, so that none can take all places.
    pub max_connections_per_network: usize,
    /// Leading bits that the IPv4 addresses of a network share.
    pub network_ipv4_bits: u8,
    /// Likewise for IPv6.
    pub network_ipv6_bits: u8,
    /// Queries that one connection may ask before it is closed.
    pub max_queries_per_connection: u64,
    /// Octets of answers composed before they are written; while a write is incomplete, nothing more is read.
    pub max_unsent_octets: usize,
    /// Octets that all connections together may hold: [`IDLE_OCTETS`] each, partial messages, unsent answers, and what
    /// waits in the kernel. With less than [`IDLE_OCTETS`] + [`ALLOWANCE_OCTETS`] for each place, none may hold more than
    /// its allowance.
    pub max_memory_octets: usize,
}

impl Default for TcpLimits {
    fn default() -> Self {
        TcpLimits {
            idle_timeout: Duration::from_secs(10),
            message_deadline: Duration::from_millis(500),
            send_deadline: Duration::from_secs(5),
            max_connections: 10_000,
            max_connections_per_client: 256,
            max_connections_per_network: 1024,
            network_ipv4_bits: 24,
            network_ipv6_bits: 48,
            max_queries_per_connection: 1_000_000,
            max_unsent_octets: 64 * 1024,
            max_memory_octets: 256 << 20,
        }
    }
}

impl TcpLimits {
    /// Octets that connections may hold together beyond the allowance of each.
    #[must_use]
    pub fn spare_octets(&self) -> usize {
        let places = self.max_connections.saturating_mul(IDLE_OCTETS + ALLOWANCE_OCTETS);
        self.max_memory_octets.saturating_sub(places)
    }

    /// Connections that may wait to be accepted. They are in no table yet and charged to nobody; so many hold a twentieth of
    /// the budget at most, which comes on top of it.
    #[must_use]
    pub fn max_waiting(&self) -> usize {
        self.max_memory_octets / WAITING_PART / TCP_WAITING_OCTETS
    }
}

/// What a connection is charged while it holds nothing: its place and its share of the tables of clients and networks
/// (together under 1 KiB), and the kernel's socket and descriptor.
pub const IDLE_OCTETS: usize = 4096;
/// What each may hold beside its place whatever the others hold: enough for a query that comes in pieces and for most
/// answers, as the kernel counts them.
pub const ALLOWANCE_OCTETS: usize = 8192;
/// Charges are rounded up to this, so that the figure that all workers share is written when much changes, not at
/// every message.
const GRAIN_OCTETS: usize = 1024;
/// The part of places and of memory that quiet connections leave free for newcomers is one over this.
const RESERVE: usize = 16;
/// What those that wait to be accepted may hold is one over this of the budget.
const WAITING_PART: usize = 20;

/// Counts the connections that exist against [`TcpLimits`].
#[derive(Debug)]
pub struct Admission {
    limits: TcpLimits,
    total: AtomicUsize,
    /// What is held and charged, for those who watch.
    memory_octets: AtomicUsize,
    /// What is held beyond the allowances, at most [`TcpLimits::spare_octets`].
    beyond_octets: AtomicUsize,
    tables: Mutex<Tables>,
}

/// Connections by who has them. An entry goes with its last connection.
#[derive(Debug, Default)]
struct Tables {
    clients: HashMap<IpAddr, usize>,
    networks: HashMap<IpAddr, Arc<AtomicUsize>>,
}

impl Admission {
    /// Nobody is in yet.
    #[must_use]
    pub fn new(limits: TcpLimits) -> Arc<Self> {
        Arc::new(Admission {
            limits,
            total: AtomicUsize::new(0),
            memory_octets: AtomicUsize::new(0),
            beyond_octets: AtomicUsize::new(0),
            tables: Mutex::default(),
        })
    }

    /// The bounds.
    #[must_use]
    pub fn limits(&self) -> &TcpLimits {
        &self.limits
    }

    /// Connections that are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Octets that connections are charged.
    #[must_use]
    pub fn memory_octets(&self) -> usize {
        self.memory_octets.load(Ordering::Relaxed)
    }

    /// Octets that connections hold beyond the allowance of each.
    #[must_use]
    pub fn beyond_octets(&self) -> usize {
        self.beyond_octets.load(Ordering::Relaxed)
    }

    /// How long a connection may ask nothing at the moment: a quarter of the usual when three quarters of all places or
    /// of the spare memory are taken.
    #[must_use]
    pub fn idle_timeout(&self) -> Duration {
        let scarce = |taken: usize, all: usize| taken > all / 4 * 3;
        if scarce(self.connections(), self.limits.max_connections)
            || scarce(self.beyond_octets(), self.limits.spare_octets())
        {
            self.limits.idle_timeout / 4
        } else {
            self.limits.idle_timeout
        }
    }

    /// Connections too many for newcomers to find a place wherever they come in.
    #[must_use]
    pub fn crowding(&self) -> usize {
        excess(self.connections(), self.limits.max_connections)
    }

    /// Octets too many for a large answer to find memory.
    #[must_use]
    pub fn memory_pressure(&self) -> usize {
        excess(self.beyond_octets(), self.limits.spare_octets())
    }

    /// Lets a connection in.
    ///
    /// # Errors
    /// Which limit it would break.
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Ticket, Closed> {
        let client = prefix(address, 32, 64);
        let network_key = prefix(address, self.limits.network_ipv4_bits, self.limits.network_ipv6_bits);
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        // What no closing of others can mend is said first.
        let of_client = tables.clients.get(&client).copied().unwrap_or(0);
        if of_client >= self.limits.max_connections_per_client {
            return Err(Closed::ClientLimit);
        }
        let of_network = tables.networks.get(&network_key).map_or(0, |count| count.load(Ordering::Relaxed));
        if of_network >= self.limits.max_connections_per_network {
            return Err(Closed::NetworkLimit);
        }
        if self.connections() >= self.limits.max_connections {
            return Err(Closed::TotalLimit);
        }
        tables.clients.insert(client, of_client + 1);
        let network = Arc::clone(tables.networks.entry(network_key).or_default());
        network.fetch_add(1, Ordering::Relaxed);
        self.total.fetch_add(1, Ordering::Relaxed);
        self.memory_octets.fetch_add(IDLE_OCTETS, Ordering::Relaxed);
        Ok(Ticket { admission: Arc::clone(self), client, network_key, network, charged_octets: IDLE_OCTETS })
    }
}

/// How much of what is taken would have to be given back for the reserve to be free.
fn excess(taken: usize, all: usize) -> usize {
    taken.saturating_sub(all.saturating_sub((all / RESERVE).max(1)))
}

/// The address with all but its leading bits cleared.
fn prefix(address: IpAddr, ipv4_bits: u8, ipv6_bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(ipv4_bits.into())).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(ipv6_bits.into())).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
    }
}

/// A connection's place. Dropping it gives the place and the octets back.
#[derive(Debug)]
pub struct Ticket {
    admission: Arc<Admission>,
    client: IpAddr,
    network_key: IpAddr,
    /// Connections of its network.
    network: Arc<AtomicUsize>,
    charged_octets: usize,
}

impl Ticket {
    /// Says how many octets the connection holds now beside its place; whether the budget of all allows it. When not, it
    /// is charged all the same until somebody gives way.
    #[must_use]
    pub fn hold(&mut self, octets: usize) -> bool {
        self.charge(IDLE_OCTETS + octets.next_multiple_of(GRAIN_OCTETS));
        self.beyond_octets() == 0 || self.admission.beyond_octets() <= self.admission.limits.spare_octets()
    }

    /// Octets that it is charged beyond its allowance.
    #[must_use]
    pub fn beyond_octets(&self) -> usize {
        beyond(self.charged_octets)
    }

    fn charge(&mut self, octets: usize) {
        let before = std::mem::replace(&mut self.charged_octets, octets);
        change(&self.admission.memory_octets, before, octets);
        change(&self.admission.beyond_octets, beyond(before), beyond(octets));
    }

    /// Connections of its network, itself included.
    #[must_use]
    pub fn network_connections(&self) -> usize {
        self.network.load(Ordering::Relaxed)
    }
}

fn beyond(charged_octets: usize) -> usize {
    charged_octets.saturating_sub(IDLE_OCTETS + ALLOWANCE_OCTETS)
}

/// Writes what all share only when there is something to write.
fn change(total: &AtomicUsize, before: usize, after: usize) {
    if after > before {
        total.fetch_add(after - before, Ordering::Relaxed);
    } else if after < before {
        total.fetch_sub(before - after, Ordering::Relaxed);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.charge(0);
        self.admission.total.fetch_sub(1, Ordering::Relaxed);
        let mut tables = self.admission.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = tables.clients.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                tables.clients.remove(&self.client);
            }
        }
        if self.network.fetch_sub(1, Ordering::Relaxed) == 1 {
            tables.networks.remove(&self.network_key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn places_are_counted_by_client_and_in_all() {
        let limits = TcpLimits { max_connections: 3, max_connections_per_client: 2, ..TcpLimits::default() };
        let admission = Admission::new(limits);
        let first = admission.admit(address("192.0.2.1")).unwrap();
        let _second = admission.admit(address("192.0.2.1")).unwrap();
        assert_eq!(admission.admit(address("192.0.2.1")).unwrap_err(), Closed::ClientLimit);
        // Two addresses of one /64 are one client; there is one place left in all.
        let _third = admission.admit(address("2001:db8::1")).unwrap();
        assert_eq!(admission.admit(address("2001:db8:1::1")).unwrap_err(), Closed::TotalLimit);
        drop(first);
        let _fourth = admission.admit(address("2001:db8::2")).unwrap();
        assert_eq!(admission.connections(), 3);
        assert_eq!(admission.tables.lock().unwrap().clients.len(), 2);
    }

    #[test]
    fn places_are_counted_by_network() {
        for (bits, inside, outside) in [
            ((24, 48), ["192.0.2.1", "192.0.2.200", "192.0.2.3"], "192.0.3.1"),
            ((16, 48), ["192.0.2.1", "192.0.3.1", "192.0.255.3"], "192.1.0.1"),
            ((0, 48), ["192.0.2.1", "10.0.0.1", "203.0.113.1"], "2001:db8::1"),
            ((32, 48), ["192.0.2.1", "192.0.2.1", "192.0.2.1"], "192.0.2.2"),
            ((24, 48), ["2001:db8:1::1", "2001:db8:1:2::1", "2001:db8:1:ffff::1"], "2001:db8:2::1"),
            ((24, 0), ["2001:db8::1", "2001:db9::1", "::1"], "192.0.2.1"),
        ] {
            let limits = TcpLimits {
                max_connections_per_network: 2,
                network_ipv4_bits: bits.0,
                network_ipv6_bits: bits.1,
                ..TcpLimits::default()
            };
            let admission = Admission::new(limits);
            let tickets = inside[..2].iter().map(|client| admission.admit(address(client)).unwrap());
            let tickets: Vec<Ticket> = tickets.collect();
            assert_eq!(tickets[0].network_connections(), 2);
            assert_eq!(admission.admit(address(inside[2])).unwrap_err(), Closed::NetworkLimit, "{bits:?}");
            let other = admission.admit(address(outside)).unwrap();
            drop(tickets);
            assert_eq!(admission.tables.lock().unwrap().networks.len(), 1);
            let again = admission.admit(address(inside[2])).unwrap();
            drop((other, again));
            assert!(admission.tables.lock().unwrap().networks.is_empty());
        }
    }

    #[test]
    fn the_byte_budget_is_shared_and_given_back() {
        let spare = 100 * GRAIN_OCTETS;
        let budget = 3 * (IDLE_OCTETS + ALLOWANCE_OCTETS) + spare;
        let limits = TcpLimits { max_connections: 3, max_memory_octets: budget, ..TcpLimits::default() };
        assert_eq!(limits.spare_octets(), spare);
        let admission = Admission::new(limits);
        let mut first = admission.admit(address("192.0.2.1")).unwrap();
        let mut second = admission.admit(address("192.0.2.2")).unwrap();
        assert!(first.hold(ALLOWANCE_OCTETS + 60 * GRAIN_OCTETS - 1));
        assert!(second.hold(ALLOWANCE_OCTETS + 40 * GRAIN_OCTETS));
        assert_eq!((first.beyond_octets(), admission.beyond_octets()), (60 * GRAIN_OCTETS, spare));
        assert!(!second.hold(ALLOWANCE_OCTETS + 40 * GRAIN_OCTETS + 1));
        // Whatever they hold, there is a place for a newcomer, and room for its ordinary answers: all of the budget, and
        // one grain over it until somebody gives way.
        let mut third = admission.admit(address("192.0.2.3")).unwrap();
        assert!(third.hold(ALLOWANCE_OCTETS));
        assert_eq!(admission.memory_octets(), budget + GRAIN_OCTETS);
        assert!(!third.hold(ALLOWANCE_OCTETS + 1));
        assert!(first.hold(10));
        drop((first, second, third));
        let all = (admission.memory_octets(), admission.beyond_octets(), admission.connections());
        assert_eq!(all, (0, 0, 0));
        assert!(admission.tables.lock().unwrap().clients.is_empty());
    }

    #[test]
    fn idle_connections_get_less_time_when_places_or_memory_run_out() {
        let spare = 64 * GRAIN_OCTETS;
        let max_memory_octets = 4 * (IDLE_OCTETS + ALLOWANCE_OCTETS) + spare;
        let limits = TcpLimits { max_connections: 4, max_memory_octets, ..TcpLimits::default() };
        let admission = Admission::new(limits);
        let mut tickets: Vec<_> =
            (0..4).map(|i| admission.admit(IpAddr::from([192, 0, 2, i])).unwrap()).collect();
        assert_eq!(admission.idle_timeout(), Duration::from_millis(2500));
        assert_eq!((admission.crowding(), admission.memory_pressure()), (1, 0));
        tickets.truncate(1);
        assert_eq!((admission.idle_timeout(), admission.crowding()), (Duration::from_secs(10), 0));
        assert!(tickets[0].hold(ALLOWANCE_OCTETS + spare));
        assert_eq!(admission.idle_timeout(), Duration::from_millis(2500));
        assert_eq!(admission.memory_pressure(), spare / RESERVE);
    }
}
