//! What is kept in Redis for data planes: the stream of changes, and the zones whole.

use std::sync::Arc;

use godwit_wire::feed::DigestKey;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::commit::Overtaken;
use crate::config::Redis;
use crate::internal::feed::{CachePlace, StreamPlace, Ways};
use crate::internal::nodes::Nodes;
use crate::observe::metrics::Metrics;
use crate::relay::cache::{self, Cache};
use crate::relay::log::Log;
use crate::relay::reader::Reader;
use crate::relay::signer::Signer;
use crate::relay::stream::{Keys, Publisher, STAYS};
use crate::relay::terms::{self, Holding};
use crate::store::Pool;

/// What is published, and by whom.
pub(super) struct Published {
    pub log: Arc<Log>,
    pub readers: Pool,
    pub digest_key: DigestKey,
    pub signer: Arc<Signer>,
    pub nodes: Arc<Nodes>,
    pub overtaken: Overtaken,
    /// The term in which this process gives sequences.
    pub term: watch::Sender<Option<u64>>,
    pub metrics: Metrics,
}

impl Published {
    /// Starts what publishes, and writes down in `ways` where nodes find it.
    ///
    /// # Errors
    /// When the configuration names no place that it may.
    pub(super) fn publish(self, config: &Redis, ways: &mut Ways) -> anyhow::Result<Vec<JoinHandle<()>>> {
        let mut publishing = Vec::new();
        let (keys, cached) =
            (Keys::with_prefix(&config.prefix), cache::place::Keys::with_prefix(&config.prefix));
        let readable = vec![
            keys.stream.clone(),
            keys.head.clone(),
            cached.index.clone(),
            cached.head.clone(),
            format!("{}*", cached.zones),
        ];
        if let Some(place) = config.streams()? {
            let told = config.nodes()?;
            let reader = told.as_ref().and_then(|(_, told)| Reader::of(told, &place, readable.clone()));
            let (stream, head) = (keys.stream.clone(), keys.head.clone());
            ways.redis = told.map(|(url, _)| StreamPlace { url, stream, head });
            let all = self.nodes.clone();
            let publisher = Publisher {
                holding: Holding { place, reader, term: self.term.subscribe() },
                keys,
                log: self.log.clone(),
                readers: self.readers.clone(),
                signer: self.signer.clone(),
                overtaken: self.overtaken.clone(),
                applied: Box::new(move |generation| all.applied_by_all(generation)),
                stays: STAYS,
                metrics: self.metrics.clone(),
            };
            publishing.push(tokio::spawn(terms::run(publisher)));
        }
        if let Some(place) = config.cache()? {
            let nodes = config.nodes_of_cache()?;
            let reader = nodes.as_ref().and_then(|(_, nodes)| Reader::of(nodes, &place, readable));
            let cache::place::Keys { index, head, zones, .. } = cached.clone();
            ways.cache =
                nodes.map(|(url, nodes)| CachePlace { url, database: nodes.database(), index, head, zones });
            let cache = Cache {
                holding: Holding { place, reader, term: self.term.subscribe() },
                keys: cached,
                log: self.log.clone(),
                readers: self.readers.clone(),
                digest_key: self.digest_key.clone(),
                signer: self.signer.clone(),
                overtaken: self.overtaken.clone(),
                metrics: self.metrics.clone(),
            };
            publishing.push(tokio::spawn(terms::run(cache)));
        }
        Ok(publishing)
    }
}
