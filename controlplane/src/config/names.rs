//! `[names]`

use std::net::SocketAddr;
use std::path::PathBuf;

use godwit_wire::name::Name;
use serde::{Deserialize, Serialize};

use crate::validate::name;

/// Which names tenants make zones of.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Names {
    /// Whether a tenant has to prove that a name is its own before it makes a zone of it. Default true; without, tenants are
    /// trusted.
    pub require_proof: bool,
    /// Days for which a name that a tenant gave up is given to nobody else: longer than a certificate for it lives. Default 200.
    pub quarantine_days: u32,
    /// Labels that nobody takes below a suffix, besides those that are built in; one that ends in * stands for all that begin
    /// so. Default none.
    pub reserved: Vec<String>,
    /// A file with a public suffix list in place of the one that is built in; read again when it changes. Default none.
    pub public_suffix_list: Option<PathBuf>,
    /// Resolvers that are asked for the proof of a name, by address and port: two have to have seen it. Default 9.9.9.9:53 and
    /// 1.1.1.1:53.
    pub resolvers: Vec<String>,
    /// Days for which the proof of a name may be gone until it counts no more. Default 14.
    pub grace_days: u32,
    /// Days for which zones of such a name are frozen until they are released. Default 30; 0: never.
    pub frozen_days: u32,
    /// A domain of yours below which all names lead to your name servers: each claim gets two of them, and is proven where the zone
    /// above delegates its name to one. Default none.
    pub name_servers: Option<String>,
    /// The port at which servers of zones above are asked. Default 53; another one is for tests.
    pub parent_port: u16,
}

impl Default for Names {
    fn default() -> Self {
        Names {
            require_proof: true,
            quarantine_days: 200,
            reserved: Vec::new(),
            public_suffix_list: None,
            resolvers: vec!["9.9.9.9:53".to_owned(), "1.1.1.1:53".to_owned()],
            grace_days: 14,
            frozen_days: 30,
            name_servers: None,
            parent_port: 53,
        }
    }
}

impl Names {
    /// The resolvers, each once.
    #[must_use]
    pub fn resolvers(&self) -> Vec<SocketAddr> {
        let mut all: Vec<SocketAddr> = self.resolvers.iter().filter_map(|text| text.parse().ok()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The domain of name servers, absolute.
    #[must_use]
    pub fn name_servers(&self) -> Option<Name> {
        name::absolute(self.name_servers.as_deref()?).ok()
    }

    /// The first key whose value is out of range, and what was expected.
    pub(super) fn out_of_range(&self) -> Option<(&'static str, &'static str)> {
        let mut addresses: Vec<_> = self.resolvers().iter().map(|at| at.ip().to_canonical()).collect();
        addresses.sort_unstable();
        addresses.dedup();
        let on_this_machine = addresses.iter().copied().all(super::is_here);
        let are_good =
            self.resolvers().len() == self.resolvers.len() && (2..=8).contains(&self.resolvers.len());
        let is_label = |label: &String| {
            let label = label.strip_suffix('*').unwrap_or(label);
            let is_good = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_';
            (1..=63).contains(&label.len()) && label.bytes().all(is_good)
        };
        [
            (self.quarantine_days <= 3_650, "names.quarantine_days", "at most 3650"),
            (self.reserved.iter().all(is_label), "names.reserved", "labels like shop, or shop*"),
            // Two ports of one address are one resolver, but for tests.
            (
                are_good && (addresses.len() >= 2 || on_this_machine),
                "names.resolvers",
                "2 to 8 addresses with ports, like 9.9.9.9:53, of different machines",
            ),
            ((1..=365).contains(&self.grace_days), "names.grace_days", "1 to 365"),
            (
                // With room for a label of 32 letters before it.
                self.name_servers.is_none()
                    || self.name_servers().is_some_and(|name| (2..=222).contains(&name.as_wire().len())),
                "names.name_servers",
                "a domain like ns.example.",
            ),
            (self.parent_port > 0, "names.parent_port", "1 to 65535"),
            (self.frozen_days <= 3_650, "names.frozen_days", "at most 3650"),
        ]
        .into_iter()
        .find_map(|(good, key, expected)| (!good).then_some((key, expected)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_machine_is_one_resolver() {
        for (resolvers, are_good) in [
            (&["9.9.9.9:53", "1.1.1.1:53"][..], true),
            (&["9.9.9.9:53", "[2620:fe::fe]:53"], true),
            (&["9.9.9.9:53", "9.9.9.9:5353"], false),
            (&["9.9.9.9:53", "[::ffff:9.9.9.9]:53"], false),
            (&["9.9.9.9:53"], false),
            (&["127.0.0.1:53", "[::ffff:127.0.0.1]:5353"], true),
        ] {
            let resolvers_of = resolvers.iter().map(|&text| text.to_owned()).collect();
            let names = Names { resolvers: resolvers_of, ..Names::default() };
            let expected = (!are_good).then_some("names.resolvers");
            assert_eq!(names.out_of_range().map(|(key, _)| key), expected, "{resolvers:?}");
        }
    }

    #[test]
    fn name_servers_of_claims_have_room_below_their_domain() {
        let long = |last: usize| format!("{0}.{0}.{0}.{1}.", "a".repeat(63), "b".repeat(last));
        for (text, is_good) in [
            ("ns.example.", true),
            ("NS.example", true),
            (&long(28), true),
            (&long(29), false),
            (".", false),
            ("", false),
            ("ns example.", false),
        ] {
            let names = Names { name_servers: Some(text.to_owned()), ..Names::default() };
            let expected = (!is_good).then_some("names.name_servers");
            assert_eq!(names.out_of_range().map(|(key, _)| key), expected, "{text}");
        }
    }
}
