//! `[egress]`

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Networks;

/// Calls to servers of others.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Egress {
    /// Networks that are called though they are none of the public internet: of receivers of your own. Default none.
    pub allow: Networks,
    /// Networks that are not called though they are. Default none.
    pub deny: Networks,
    /// A file with certificates (PEM) of authorities that are trusted besides those of the system. Default none.
    pub ca_file: Option<PathBuf>,
    /// Resolvers that are asked for addresses, by address and port, the next where one does not answer. Default none: those of
    /// `names.resolvers`.
    pub resolvers: Vec<String>,
}

impl Egress {
    /// The resolvers, in their order; `None` where none are set.
    #[must_use]
    pub fn resolvers(&self) -> Option<Vec<SocketAddr>> {
        let all: Vec<SocketAddr> = self.resolvers.iter().filter_map(|text| text.parse().ok()).collect();
        (!all.is_empty()).then_some(all)
    }

    /// The first key whose value is out of range, and what was expected.
    pub(super) fn out_of_range(&self) -> Option<(&'static str, &'static str)> {
        let are_good = self.resolvers.iter().all(|text| text.parse::<SocketAddr>().is_ok());
        [
            (!self.allow.has_everybody(), "egress.allow", "networks of your own, not all there are"),
            (
                are_good && self.resolvers.len() <= 3,
                "egress.resolvers",
                "at most 3 addresses with ports, like 9.9.9.9:53",
            ),
        ]
        .into_iter()
        .find_map(|(good, key, expected)| (!good).then_some((key, expected)))
    }
}
