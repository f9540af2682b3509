//! How many connections there are, in all and for each client. A client is an IPv4 address, or the network of 64 bits that
//! an IPv6 address is in: whoever has one address of it has them all.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::observe::metrics::Limit;

/// Bits of an IPv6 address that are those of its network (RFC 4291 §2.5.1).
const NETWORK: u128 = !0 << 64;

/// See the module. Holds an entry for each client that has a connection, and no others.
#[derive(Debug)]
pub(super) struct Clients {
    most: u32,
    most_of_one: usize,
    places: Arc<Semaphore>,
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// The place of one connection; free again when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    clients: Arc<Clients>,
    client: IpAddr,
    _place: OwnedSemaphorePermit,
}

impl Clients {
    pub(super) fn new(most: usize, most_of_one: usize) -> Clients {
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        let places = Arc::new(Semaphore::new(usize::try_from(most).unwrap_or(Semaphore::MAX_PERMITS)));
        Clients { most, most_of_one, places, open: Mutex::default() }
    }

    /// A place for one more connection, or the limit that forbids it.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Place, Limit> {
        let client = client_of(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.get(&client).copied().unwrap_or(0);
        if count >= self.most_of_one {
            return Err(Limit::ConnectionsPerClient);
        }
        let place = self.places.clone().try_acquire_owned().map_err(|_| Limit::Connections)?;
        open.insert(client, count + 1);
        Ok(Place { clients: self.clone(), client, _place: place })
    }

    /// Resolves when no connection is left.
    pub(super) async fn gone(&self) {
        let _ = self.places.acquire_many(self.most).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.clients.open.lock().unwrap_or_else(PoisonError::into_inner);
        match open.get_mut(&self.client) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                open.remove(&self.client);
            }
        }
    }
}

pub(crate) fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & NETWORK).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(clients: &Arc<Clients>, address: &str) -> Result<Place, Limit> {
        clients.admit(address.parse().unwrap())
    }

    #[test]
    fn places_are_counted_and_come_free() {
        let clients = Arc::new(Clients::new(3, 2));
        let first = admit(&clients, "192.0.2.1").unwrap();
        let second = admit(&clients, "::ffff:192.0.2.1").unwrap();
        assert_eq!(admit(&clients, "192.0.2.1").unwrap_err(), Limit::ConnectionsPerClient);
        let other = admit(&clients, "2001:db8::1").unwrap();
        assert_eq!(admit(&clients, "192.0.2.9").unwrap_err(), Limit::Connections);
        drop(first);
        let again = admit(&clients, "2001:db8::2").unwrap();
        drop(second);
        assert_eq!(admit(&clients, "2001:db8:0:0:ffff::").unwrap_err(), Limit::ConnectionsPerClient);
        drop(admit(&clients, "2001:db8:0:1::").unwrap());
        drop((other, again));
        assert!(clients.open.lock().unwrap().is_empty(), "who is gone is forgotten");
    }
}
