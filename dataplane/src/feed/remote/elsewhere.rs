//! Where in Redis the feed is to be had besides the control plane, as it says itself.

use std::time::Duration;

use godwit_redis::{Place, Timeouts};
use serde::{Deserialize, Serialize};

use super::{cache, stream};

/// How long the servers may take to say which they are.
const TIMEOUTS: Timeouts = Timeouts { connect: Duration::from_secs(3), response: Duration::from_secs(3) };

/// See the module.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Elsewhere {
    /// A stream of batches.
    #[serde(default)]
    pub(super) redis: Option<stream::Place>,
    /// The record cache.
    #[serde(default)]
    pub(super) cache: Option<cache::Place>,
}

impl Elsewhere {
    /// TCP ports of all servers that are there now.
    pub(super) async fn ports_now(&self) -> Vec<u16> {
        let servers =
            [self.redis.as_ref().map(stream::Place::server), self.cache.as_ref().map(cache::Place::server)];
        let mut ports = Vec::new();
        for server in servers.into_iter().flatten() {
            match server {
                Ok(server) => ports.extend(Place::ports_now(&server, TIMEOUTS).await),
                Err(error) => tracing::warn!(%error, "the control plane names a Redis that is none"),
            }
        }
        ports.sort_unstable();
        ports.dedup();
        ports
    }
}
