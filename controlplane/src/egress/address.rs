//! Which addresses are called: those of the public internet, in the form that means them and nothing else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::config::Networks;

/// Of IPv4 what is not called, and what it is (IANA IPv4 Special-Purpose Address Registry, and what clouds have besides).
const NOT_FOUR: &[(Ipv4Addr, u8, &str)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8, "of this network"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "private"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "shared by a provider's customers"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "of the machine itself"),
    // Azure's services for machines, at a public address.
    (Ipv4Addr::new(168, 63, 129, 16), 32, "of a cloud's metadata"),
    // With 169.254.169.254, the metadata of most clouds.
    (Ipv4Addr::new(169, 254, 0, 0), 16, "of the link"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "private"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "of protocols"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "for documentation"),
    (Ipv4Addr::new(192, 31, 196, 0), 24, "of protocols"),
    (Ipv4Addr::new(192, 52, 193, 0), 24, "of protocols"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "translated"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "private"),
    (Ipv4Addr::new(192, 175, 48, 0), 24, "of protocols"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "for measurements"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "for documentation"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "for documentation"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "of a group"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "reserved"),
];

/// The only part of IPv6 that is given to machines on the internet (RFC 4291 §2.4): what is mapped, translated by the well-known
/// prefixes (64:ff9b::), unique local, of a link or of a group is outside of it.
const GLOBAL: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// What is not called inside of it (IANA IPv6 Special-Purpose Address Registry).
const NOT_SIX: &[(Ipv6Addr, u8, &str)] = &[
    // Teredo and ORCHID among them.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, "of protocols, or translated"),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, "for documentation"),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, "translated (6to4)"),
    (Ipv6Addr::new(0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0), 48, "of protocols"),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, "for documentation"),
];

/// Which addresses may be called, as an operator has set it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Permits {
    /// Networks that are called whatever they are.
    pub(crate) allow: Networks,
    /// Networks that are not called, whatever they are.
    pub(crate) deny: Networks,
    /// Where this control plane listens.
    pub(crate) own: Vec<SocketAddr>,
}

impl Permits {
    /// Refuses an address with what it is; `here`: the addresses of this machine.
    ///
    /// # Errors
    /// Why it is not called.
    pub(crate) fn judge(&self, address: SocketAddr, here: &[IpAddr]) -> Result<(), &'static str> {
        let ip = address.ip();
        let is_here = here.contains(&ip) || here.contains(&ip.to_canonical());
        let is_own = |own: &SocketAddr| {
            own.port() == address.port()
                && (own.ip() == ip.to_canonical()
                    || (own.ip().is_unspecified() && (is_here || ip.to_canonical().is_loopback())))
        };
        // Not even where the network is allowed.
        if self.own.iter().any(is_own) {
            return Err("of this server");
        }
        if self.deny.contains(ip) || self.deny.contains(ip.to_canonical()) {
            return Err("of a network in egress.deny");
        }
        if self.allow.contains(ip) {
            return Ok(());
        }
        if let Some(why) = why_not(ip) {
            return Err(why);
        }
        if is_here { Err("of this machine") } else { Ok(()) }
    }
}

/// What an address is that is not one of the public internet.
pub(crate) fn why_not(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => NOT_FOUR.iter().find_map(|&(network, length, what)| {
            Ipv4Net::new(network, length).is_ok_and(|network| network.contains(&address)).then_some(what)
        }),
        IpAddr::V6(address) => {
            let is_in = |(network, length): (Ipv6Addr, u8)| {
                Ipv6Net::new(network, length).is_ok_and(|network| network.contains(&address))
            };
            if address.to_ipv4_mapped().is_some() {
                return Some("an IPv4 address in another form");
            }
            if !is_in(GLOBAL) {
                return Some("not of the public internet");
            }
            // An IPv4 address as the end of one of any network (ISATAP, RFC 5214 §6.1).
            if let [_, _, _, _, 0 | 0x200, 0x5efe, _, _] = address.segments() {
                return Some("an IPv4 address in another form");
            }
            let known = NOT_SIX.iter().find(|&&(network, length, _)| is_in((network, length)));
            known.map(|&(_, _, what)| what)
        }
    }
}

/// The addresses of this machine.
pub(crate) fn here() -> Vec<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    let address = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?;
        let four = address.as_sockaddr_in().map(|four| IpAddr::V4(four.ip()));
        four.or_else(|| address.as_sockaddr_in6().map(|six| IpAddr::V6(six.ip())))
    };
    interfaces.filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r17_only_addresses_of_the_public_internet_are_called() {
        for refused in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.100.100.200",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            // Compatible, mapped, translated by the well-known prefixes, of a local one.
            "::127.0.0.1",
            "::8.8.8.8",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::ffff:0:8.8.8.8",
            "64:ff9b::10.0.0.1",
            "64:ff9b::8.8.8.8",
            "64:ff9b:1::8.8.8.8",
            "100::1",
            // Teredo, ORCHID, benchmarks, documentation, 6to4.
            "2001::1",
            "2001:0:7f00:1::",
            "2001:2::1",
            "2001:10::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "2002:808:808::1",
            "2a00:1450::5efe:10.0.0.1",
            "2a00:1450::200:5efe:10.0.0.1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fdff::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(why_not(refused.parse().unwrap()).is_some(), "{refused}");
        }
        for called in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2003::1",
            "2606:4700::1111",
            "2a00:1450:4001::200e",
        ] {
            assert_eq!(why_not(called.parse().unwrap()), None, "{called}");
        }
    }

    #[test]
    fn r17_what_is_our_own_is_not_called_even_where_its_network_is_allowed() {
        let networks = |texts: &[&str]| -> Networks {
            texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>().try_into().unwrap()
        };
        let own: Vec<SocketAddr> = vec!["10.1.1.1:8443".parse().unwrap(), "0.0.0.0:443".parse().unwrap()];
        let permits = Permits { allow: networks(&["10.0.0.0/8"]), deny: networks(&["8.8.8.0/24"]), own };
        let here: Vec<IpAddr> = vec!["10.1.1.1".parse().unwrap(), "203.1.1.1".parse().unwrap()];
        for (address, expected) in [
            ("10.2.2.2:8443", Ok(())),
            ("10.1.1.1:8443", Err("of this server")),
            ("[::ffff:10.1.1.1]:8443", Err("of this server")),
            ("10.1.1.1:443", Err("of this server")),
            ("203.1.1.1:443", Err("of this server")),
            ("203.1.1.1:8443", Err("of this machine")),
            ("[::ffff:203.1.1.1]:8443", Err("an IPv4 address in another form")),
            ("[::ffff:10.2.2.2]:8443", Err("an IPv4 address in another form")),
            ("8.8.8.8:443", Err("of a network in egress.deny")),
            ("8.8.4.4:443", Ok(())),
            ("192.168.0.1:443", Err("private")),
        ] {
            assert_eq!(permits.judge(address.parse().unwrap(), &here), expected, "{address}");
        }
    }
}
