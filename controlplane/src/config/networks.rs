//! Lists of networks, as several sections and tenants have them, and who is let in by them.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

/// Networks; one that is written without a length is one address.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Networks(Vec<IpNet>);

/// A text that is no network.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("expected a network like 192.0.2.0/24 or an address, not \"{0}\"")]
pub struct NoNetwork(String);

impl TryFrom<Vec<String>> for Networks {
    type Error = NoNetwork;

    fn try_from(texts: Vec<String>) -> Result<Networks, NoNetwork> {
        let read = |text: String| {
            let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            network.ok().and_then(canonical).ok_or(NoNetwork(text))
        };
        texts.into_iter().map(read).collect::<Result<_, _>>().map(Networks)
    }
}

/// Addresses are asked for in their canonical form, so networks of IPv4 that are written as ones of IPv6 (`::ffff:192.0.2.0/120`) are
/// those of IPv4: nothing would ever be in them. `None` where one is more than all of IPv4.
fn canonical(network: IpNet) -> Option<IpNet> {
    let IpNet::V6(six) = network else { return Some(network) };
    let Some(address) = six.addr().to_ipv4_mapped() else { return Some(network) };
    Ipv4Net::new(address, six.prefix_len().checked_sub(96)?).ok().map(IpNet::V4)
}

impl From<Networks> for Vec<String> {
    fn from(networks: Networks) -> Vec<String> {
        networks.0.iter().map(ToString::to_string).collect()
    }
}

impl Networks {
    /// Whether an address, in its canonical form, is in one of them.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them is everybody's.
    pub(super) fn has_everybody(&self) -> bool {
        self.0.iter().any(|network| network.prefix_len() == 0)
    }
}

/// Which networks requests are taken from.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct AccessList {
    /// None: any.
    pub(crate) allow: Networks,
    /// Also where `allow` has them.
    pub(crate) deny: Networks,
}

impl AccessList {
    /// Whether somebody may ask from an address, in its canonical form.
    pub(crate) fn lets_in(&self, client: IpAddr) -> bool {
        !self.deny.contains(client) && (self.allow.is_empty() || self.allow.contains(client))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Result<Networks, NoNetwork> {
        texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>().try_into()
    }

    #[test]
    fn an_address_is_a_network_of_one() {
        let some = networks(&["192.0.2.0/24", "198.51.100.7", "2001:db8::/32"]).unwrap();
        for (address, is_in) in [
            ("192.0.2.255", true),
            ("192.0.3.0", false),
            ("198.51.100.7", true),
            ("198.51.100.8", false),
            ("2001:db8:1::1", true),
            ("2001:db9::", false),
        ] {
            assert_eq!(some.contains(address.parse().unwrap()), is_in, "{address}");
        }
        assert!(!some.has_everybody() && networks(&["::/0"]).unwrap().has_everybody());
    }

    #[test]
    fn networks_of_ipv4_that_are_written_as_ones_of_ipv6_are_those_of_ipv4() {
        let some =
            networks(&["::ffff:192.0.2.66", "::ffff:198.51.100.0/120", "::ffff:c0a8:100/128"]).unwrap();
        for (address, is_in) in [
            ("192.0.2.66", true),
            ("192.0.2.67", false),
            ("198.51.100.255", true),
            ("198.51.101.0", false),
            ("192.168.1.0", true),
        ] {
            assert_eq!(some.contains(address.parse().unwrap()), is_in, "{address}");
        }
        let all = networks(&["::ffff:0:0/96"]).unwrap();
        assert!(all.contains("192.0.2.1".parse().unwrap()) && all.has_everybody());
        assert!(!networks(&["::1/128", "2001:db8::/96"]).unwrap().contains("0.0.0.1".parse().unwrap()));
    }

    #[test]
    fn who_is_denied_is_denied_whatever_is_allowed() {
        for (allow, deny, address, lets_in) in [
            (&[][..], &[][..], "192.0.2.1", true),
            (&["192.0.2.0/24"], &[], "192.0.2.1", true),
            (&["192.0.2.0/24"], &[], "192.0.3.1", false),
            (&["192.0.2.0/24"], &["192.0.2.1"], "192.0.2.1", false),
            (&["192.0.2.0/24"], &["192.0.2.1"], "192.0.2.2", true),
            (&[], &["2001:db8::/32"], "2001:db9::1", true),
            (&[], &["2001:db8::/32"], "2001:db8::1", false),
        ] {
            let list = AccessList { allow: networks(allow).unwrap(), deny: networks(deny).unwrap() };
            assert_eq!(list.lets_in(address.parse().unwrap()), lets_in, "{allow:?} {deny:?} {address}");
        }
    }

    #[test]
    fn what_is_no_network_is_quoted() {
        for text in ["", "example.com", "192.0.2.0/33", "192.0.2", "::ffff:0:0/95", "::ffff:192.0.2.1/24"] {
            assert_eq!(networks(&["192.0.2.1", text]), Err(NoNetwork(text.to_owned())));
        }
    }
}
