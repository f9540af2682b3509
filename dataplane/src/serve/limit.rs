//! How many TCP connections there may be, of one client and in all, and how much memory they may hold together.
//!
//! Shared between the TCP workers and locked when a connection comes or goes, never per message. Rates of answers
//! are not limited here.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::observe::counter::Closed;

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
    /// Queries that one connection may ask before it is closed.
    pub max_queries_per_connection: u64,
    /// Octets of answers composed before they are written; while a write is incomplete, nothing more is read.
    pub max_unsent_octets: usize,
    /// Octets that all connections together may hold in partial messages and unsent answers.
    pub max_buffered_octets: usize,
}

impl Default for TcpLimits {
    fn default() -> Self {
        TcpLimits {
            idle_timeout: Duration::from_secs(10),
            message_deadline: Duration::from_millis(500),
            send_deadline: Duration::from_secs(5),
            max_connections: 10_000,
            max_connections_per_client: 256,
            max_queries_per_connection: 1_000_000,
            max_unsent_octets: 64 * 1024,
            max_buffered_octets: 256 << 20,
        }
    }
}

/// Counts the connections that exist against [`TcpLimits`].
#[derive(Debug)]
pub struct Admission {
    limits: TcpLimits,
    total: AtomicUsize,
    buffered_octets: AtomicUsize,
    clients: Mutex<HashMap<IpAddr, usize>>,
}

impl Admission {
    /// Nobody is in yet.
    #[must_use]
    pub fn new(limits: TcpLimits) -> Arc<Self> {
        Arc::new(Admission {
            limits,
            total: AtomicUsize::new(0),
            buffered_octets: AtomicUsize::new(0),
            clients: Mutex::default(),
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

    /// Octets that connections hold.
    #[must_use]
    pub fn buffered_octets(&self) -> usize {
        self.buffered_octets.load(Ordering::Relaxed)
    }

    /// How long a connection may ask nothing at the moment: a quarter of the usual when three quarters of all
    /// connections are taken.
    #[must_use]
    pub fn idle_timeout(&self) -> Duration {
        if self.connections() > self.limits.max_connections / 4 * 3 {
            self.limits.idle_timeout / 4
        } else {
            self.limits.idle_timeout
        }
    }

    /// Lets a connection in.
    ///
    /// # Errors
    /// Which limit it would break.
    pub fn admit(self: &Arc<Self>, client: IpAddr) -> Result<Ticket, Closed> {
        let client = aggregate(client);
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if self.total.load(Ordering::Relaxed) >= self.limits.max_connections {
            return Err(Closed::TotalLimit);
        }
        let count = clients.entry(client).or_insert(0);
        if *count >= self.limits.max_connections_per_client {
            return Err(Closed::ClientLimit);
        }
        *count += 1;
        self.total.fetch_add(1, Ordering::Relaxed);
        Ok(Ticket { admission: Arc::clone(self), client, buffered_octets: 0 })
    }
}

/// What one subscriber usually holds: an IPv4 address, or an IPv6 /64.
fn aggregate(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}

/// A connection's place. Dropping it gives the place and the octets back.
#[derive(Debug)]
pub struct Ticket {
    admission: Arc<Admission>,
    client: IpAddr,
    buffered_octets: usize,
}

impl Ticket {
    /// Says how many octets the connection holds now; whether the budget of all allows it.
    #[must_use]
    pub fn hold(&mut self, octets: usize) -> bool {
        let total = &self.admission.buffered_octets;
        if octets > self.buffered_octets {
            let more = octets - self.buffered_octets;
            let before = total.fetch_add(more, Ordering::Relaxed);
            self.buffered_octets = octets;
            before.saturating_add(more) <= self.admission.limits.max_buffered_octets
        } else {
            total.fetch_sub(self.buffered_octets - octets, Ordering::Relaxed);
            self.buffered_octets = octets;
            true
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let _ = self.hold(0);
        self.admission.total.fetch_sub(1, Ordering::Relaxed);
        let mut clients = self.admission.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = clients.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                clients.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_by_client_and_in_all() {
        let limits = TcpLimits { max_connections: 3, max_connections_per_client: 2, ..TcpLimits::default() };
        let admission = Admission::new(limits);
        let first = admission.admit("192.0.2.1".parse().unwrap()).unwrap();
        let _second = admission.admit("192.0.2.1".parse().unwrap()).unwrap();
        assert_eq!(admission.admit("192.0.2.1".parse().unwrap()).unwrap_err(), Closed::ClientLimit);
        // Two addresses of one /64 are one client; there is one place left in all.
        let _third = admission.admit("2001:db8::1".parse().unwrap()).unwrap();
        assert_eq!(admission.admit("2001:db8:1::1".parse().unwrap()).unwrap_err(), Closed::TotalLimit);
        drop(first);
        let _fourth = admission.admit("2001:db8::2".parse().unwrap()).unwrap();
        assert_eq!(admission.connections(), 3);
        assert_eq!(admission.clients.lock().unwrap().len(), 2);
    }

    #[test]
    fn the_byte_budget_is_shared_and_given_back() {
        let admission = Admission::new(TcpLimits { max_buffered_octets: 100, ..TcpLimits::default() });
        let mut first = admission.admit("192.0.2.1".parse().unwrap()).unwrap();
        let mut second = admission.admit("192.0.2.2".parse().unwrap()).unwrap();
        assert!(first.hold(60));
        assert!(second.hold(40));
        assert!(!second.hold(41));
        assert!(first.hold(10));
        drop((first, second));
        assert_eq!((admission.buffered_octets(), admission.connections()), (0, 0));
        assert!(admission.clients.lock().unwrap().is_empty());
    }

    #[test]
    fn idle_connections_get_less_time_when_places_run_out() {
        let admission = Admission::new(TcpLimits { max_connections: 4, ..TcpLimits::default() });
        let tickets: Vec<_> =
            (0..4).map(|i| admission.admit(IpAddr::from([192, 0, 2, i])).unwrap()).collect();
        assert_eq!(admission.idle_timeout(), Duration::from_millis(2500));
        drop(tickets);
        assert_eq!(admission.idle_timeout(), Duration::from_secs(10));
    }
}
