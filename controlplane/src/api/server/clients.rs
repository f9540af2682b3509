//! How many connections there are, in all and for each client. A client is an IPv4 address, or the network of 64 bits that
//! an IPv6 address is in: whoever has one address of it has them all.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use crate::observe::metrics::Limit;
use crate::places::{self, Full, Places};

/// Bits of an IPv6 address that are those of its network (RFC 4291 §2.5.1).
const NETWORK: u128 = !0 << 64;

/// See the module.
#[derive(Debug)]
pub(super) struct Clients(Arc<Places<IpAddr>>);

/// The place of one connection; free again when it is dropped.
pub(super) type Place = places::Place<IpAddr>;

impl Clients {
    pub(super) fn new(most: usize, most_of_one: usize) -> Clients {
        Clients(Places::new(most, most_of_one))
    }

    /// A place for one more connection, or the limit that forbids it.
    pub(super) fn admit(&self, address: IpAddr) -> Result<Place, Limit> {
        self.0.admit(client_of(address)).map_err(|full| match full {
            Full::All => Limit::Connections,
            Full::Own => Limit::ConnectionsPerClient,
        })
    }

    /// Resolves when no connection is left.
    pub(super) async fn gone(&self) {
        self.0.all_free().await;
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

    #[test]
    fn a_network_is_one_client() {
        let clients = Clients::new(3, 1);
        let admit = |address: &str| clients.admit(address.parse().unwrap());
        let first = admit("192.0.2.1").unwrap();
        assert_eq!(admit("::ffff:192.0.2.1").unwrap_err(), Limit::ConnectionsPerClient);
        let _network = admit("2001:db8::1").unwrap();
        assert_eq!(admit("2001:db8:0:0:ffff::").unwrap_err(), Limit::ConnectionsPerClient);
        let _other = admit("2001:db8:0:1::").unwrap();
        assert_eq!(admit("192.0.2.9").unwrap_err(), Limit::Connections);
        drop(first);
        admit("192.0.2.9").unwrap();
    }
}
