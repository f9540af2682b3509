//! What runs in a control plane, and in which order it ends.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{Notify, Semaphore, oneshot, watch};

use super::publish::Published;
use super::{Controlplane, ending};
use crate::accounts::mail::Letters;
use crate::accounts::{Accounts, Settings};
use crate::api::admission::BodyRoom;
use crate::api::client::Access;
use crate::api::server::Transport;
use crate::api::{self, App};
use crate::audit::anchors::Anchors;
use crate::audit::keeper::{ANCHOR, Keeper, LOOK};
use crate::audit::noted;
use crate::auth::password::Passwords;
use crate::auth::revoked::Listener;
use crate::auth::{Authenticator, used};
use crate::buffer::replay::Replay;
use crate::cleanup::{Forget, Kept};
use crate::commit;
use crate::commit::writer::{Here, Line, Sequences, Writer};
use crate::config::{AccessList, Config, MailTransport, Networks};
use crate::egress::{AT_ONCE, Egress};
use crate::events::Hub;
use crate::events::latest::Latest;
use crate::internal::exchange::Exchange;
use crate::internal::feed::Ways;
use crate::internal::join::Join;
use crate::internal::nodes::Nodes;
use crate::internal::planes::Planes;
use crate::internal::{self, Internal};
use crate::jobs::runner::Runner;
use crate::jobs::{self, Kinds, Lane};
use crate::mail::Trial;
use crate::names::DAY_US;
use crate::names::check::{Check, Terms};
use crate::names::claims::Claims;
use crate::names::delegation::Delegation;
use crate::names::suffixes::Suffixes;
use crate::places::Places;
use crate::rates::Rates;
use crate::relay::feed::{Feed, Listing};
use crate::relay::lead::Relay;
use crate::relay::log::Log;
use crate::relay::progress::{Progress, Publications};
use crate::relay::recount::hourly::Hourly;
use crate::relay::shadow::Shadow;
use crate::relay::signer::Signer;
use crate::relay::{Applied, FeedSink};
use crate::secrets::rotation::Rotation;
use crate::stop::{Stop, stopped};
use crate::store::relay::FeedState;
use crate::store::{Database, Kind};
use crate::tenants::Tenants;
use crate::validate::name;
use crate::webhooks::Webhooks;
use crate::webhooks::deliver::Deliver;
use crate::webhooks::follow::Follower;

/// Of how many WebSockets it is not known yet whose they are, and of how many of one client.
const UNKNOWN: usize = 256;
const UNKNOWN_PER_CLIENT: usize = 32;

impl Controlplane {
    /// Serves until `stop` says so: first the listeners end, then the writer, then the relay, the database last.
    ///
    /// # Errors
    /// When the database does not close well; what was acknowledged is safe all the same.
    pub async fn serve(self, sink: Option<FeedSink>, stop: Stop) -> anyhow::Result<()> {
        let internal_address = self.internal_address()?;
        let Controlplane {
            config,
            database,
            state,
            digest_key,
            vault,
            feed_keys,
            issuer,
            refresh,
            cookies,
            revoked,
            audit_key,
            public_url,
            listener,
            certificates,
            internal,
            metrics,
            buffer,
            shadow,
            caller,
            mailer,
            rules,
            new_token: _,
            _lock,
        } = self;
        let own = [config.api.listen, listener.local_addr()?].into_iter().chain(internal_address).collect();
        let mut reached_at = config.internal.named().unwrap_or_default();
        reached_at.push(public_url.to_string());
        let egress = Egress::of(&config, caller, own, &reached_at, metrics.clone())?;
        let views = database.views();
        let Database { place, writer, readers, exports, guarded } = database;
        let (committer, queues) = commit::channel();
        let publications = Arc::new(Publications::default());
        let log = Arc::new(Log::new(state, publications.clone(), metrics.clone()));
        let applied = sink.as_ref().map(|sink| sink.applied.clone());
        let progress = applied.clone().map(|applied| Arc::new(Progress::new(applied, state.generation)));
        let nodes = Arc::new(Nodes::default());
        let signer = Arc::new(Signer::new(feed_keys));
        let urls: Arc<[String]> =
            internal_address.map_or_else(Arc::default, |address| config.internal.urls(address).into());
        let join = internal.as_ref().map(|(_, identity)| Join {
            urls: urls.clone(),
            spki_sha256: identity.spki_sha256,
            digest_key: digest_key.clone(),
            vault: vault.clone(),
            signer: signer.clone(),
        });
        let jobs = jobs::Handle::default();
        let has_mail = config.mail.transport != MailTransport::Off;
        let settings = Settings::of(&config.accounts, has_mail);
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let authenticator = Authenticator::new(issuer.clone(), cookies, settings.idle(), config.jwt.remember);
        #[cfg(debug_assertions)]
        let authenticator =
            if config.api.without_checks { authenticator.without_checks() } else { authenticator };
        let authenticator = Arc::new(authenticator);
        for (revoked, until_us) in &revoked {
            authenticator.heard(revoked, *until_us);
        }
        let listener_of_revocations =
            Listener { readers: readers.clone(), authenticator: authenticator.clone(), stop: stop.clone() };
        let hearing = tokio::spawn(listener_of_revocations.run());
        let noting = tokio::spawn(used::keep(authenticator.clone(), committer.clone(), stop.clone()));
        let (noted, notes) = noted::channel(metrics.clone());
        // What is answered last is written down and chained too: both end when no request is left.
        let (end_keeping, keeping_stop) = watch::channel(false);
        let (end_chaining, chaining_stop) = watch::channel(false);
        let keeping = tokio::spawn(noted::keep(notes, committer.clone(), metrics.clone(), keeping_stop));
        let accounts = Accounts::new(
            committer.clone(),
            authenticator.clone(),
            jobs.clone(),
            readers.clone(),
            vault.clone(),
            Passwords::new(cpus, metrics.clone())?,
            refresh,
            issuer.clone(),
            settings,
        );
        let hub = Arc::new(Hub::new(log.clone()));
        let telling = tokio::spawn(hub.clone().follow(stop.clone()));
        let mut rates = Rates::new(config.limits, &digest_key, metrics.clone());
        if let Some(place) = config.redis.limits()? {
            rates = rates.shared(place, &config.redis.prefix, stop.clone());
        }
        let delegation = Delegation::of(&config).map(Arc::new);
        let app = Arc::new(App {
            committer: committer.clone(),
            buffer: buffer.clone(),
            readers: readers.clone(),
            views: views.clone(),
            log: log.clone(),
            publications,
            hub: hub.clone(),
            listeners: Places::new(config.api.max_listeners, config.api.max_listeners_per_account),
            unknown: Places::new(UNKNOWN, UNKNOWN_PER_CLIENT),
            latest: Latest::default(),
            stop: stop.clone(),
            planes: Planes::new(progress.clone(), nodes.clone(), log.clone()),
            join,
            certificates: certificates.clone(),
            vault: vault.clone(),
            metrics: metrics.clone(),
            authenticator: authenticator.clone(),
            noted,
            accounts,
            tenants: Tenants::new(committer.clone(), authenticator.clone(), views.clone(), config.quotas),
            suffixes: Suffixes { committer: committer.clone(), views: views.clone(), rules: rules.clone() },
            claims: Claims {
                committer: committer.clone(),
                views: views.clone(),
                rules: rules.clone(),
                jobs: jobs.clone(),
                delegation: delegation.clone(),
            },
            webhooks: Webhooks {
                committer: committer.clone(),
                views: views.clone(),
                vault: vault.clone(),
                egress: egress.clone(),
                log: log.clone(),
                jobs: jobs.clone(),
            },
            public_url: public_url.clone(),
            origins: config.api.cors_origins.clone(),
            access: Arc::new(Access {
                proxies: config.api.trusted_proxies.clone(),
                list: AccessList { allow: config.api.allow.clone(), deny: config.api.deny.clone() },
                metrics: metrics.clone(),
            }),
            rates: Arc::new(rates),
            request_timeout: Duration::from_millis(config.api.request_timeout_ms),
            body_timeout: Duration::from_millis(config.api.body_timeout_ms),
            export_timeout: Duration::from_millis(config.api.export_timeout_ms),
            in_flight: Arc::new(Semaphore::new(config.api.max_requests)),
            body_room: BodyRoom::new(config.api.max_body_octets, metrics.clone()),
            jobs: jobs.clone(),
            default_ns: config.defaults.ns.iter().filter_map(|text| name::absolute(text).ok()).collect(),
        });
        let woken = Arc::new(Notify::new());
        let (close, closed) = oneshot::channel();
        let writing = tokio::spawn(
            Writer {
                line: Line::of(writer),
                guarded: None,
                acts_for: None,
                place: place.clone(),
                queues,
                sequences: match place.kind() {
                    Kind::Sqlite => {
                        Sequences::Here(Box::new(Here { state, doubtful: false, log: log.clone() }))
                    }
                    Kind::Postgres => Sequences::Afterwards(woken.clone()),
                },
                digest_key: digest_key.clone(),
                closed,
                metrics: metrics.clone(),
                guard: config.guard,
                quotas: config.quotas,
                rules,
            }
            .run(),
        );
        let (end_relay, relay_stop) = watch::channel(false);
        let term = watch::Sender::new(None);
        let relaying = match place.kind() {
            Kind::Sqlite => {
                metrics.leader(!state.is_overtaken());
                term.send_replace(Some(state.epoch));
                None
            }
            Kind::Postgres => {
                let (place, log, metrics) = (place.clone(), log.clone(), metrics.clone());
                let shadow = match shadow.filter(|_| config.relay.shadow) {
                    Some(program) => Shadow::of(program, &config.relay, place.clone(), metrics.clone()),
                    None => Shadow::off(metrics.clone()),
                };
                let term = term.clone();
                Some(tokio::spawn(Relay { place, log, woken, metrics, shadow, term, stop: relay_stop }.run()))
            }
        };
        let mut ways = Ways { urls, signer: Some(signer.clone()), ..Ways::default() };
        let published = Published {
            log: log.clone(),
            readers: readers.clone(),
            digest_key: digest_key.clone(),
            signer: signer.clone(),
            nodes: nodes.clone(),
            overtaken: committer.overtaken(),
            term: term.clone(),
            metrics: metrics.clone(),
        };
        let mut publishing = published.publish(&config.redis, &mut ways)?;
        let recounting = (config.store.recount_seconds > 0).then(|| {
            let hourly = Hourly {
                place: place.clone(),
                digest_key: digest_key.clone(),
                metrics: metrics.clone(),
                term: term.subscribe(),
                every: Duration::from_secs(u64::from(config.store.recount_seconds)),
                stop: stop.clone(),
            };
            tokio::spawn(hourly.run())
        });
        let keeper = Keeper {
            place: place.clone(),
            committer: committer.clone(),
            readers: readers.clone(),
            key: audit_key,
            term: term.subscribe(),
            anchors: Anchors::at(config.audit_anchors()),
            kept: Duration::from_secs(u64::from(config.audit.days) * 86_400),
            look: LOOK,
            anchor: ANCHOR,
            metrics: metrics.clone(),
            stop: chaining_stop,
        };
        let chaining = tokio::spawn(keeper.run());
        let follower = Follower {
            committer: committer.clone(),
            readers: readers.clone(),
            log: log.clone(),
            term: term.subscribe(),
            jobs: jobs.clone(),
            metrics: metrics.clone(),
            stop: stop.clone(),
        };
        let following = tokio::spawn(follower.run());
        let feeding = sink.map(|sink| {
            let overtaken = Some(committer.overtaken());
            let digest_key = digest_key.clone();
            let feed = Feed {
                log: log.clone(),
                readers: readers.clone(),
                digest_key,
                signer: None,
                overtaken,
                listing: None,
            };
            tokio::spawn(feed.serve(sink.requests))
        });
        let exchange = Exchange {
            place: place.clone(),
            nodes,
            vault: vault.clone(),
            signer: signer.clone(),
            metrics: metrics.clone(),
            stop: stop.clone(),
        };
        let exchanging = tokio::spawn(exchange.run());
        let asking = internal.map(|(listener, identity)| {
            let signer = Some(signer);
            let feed = Feed {
                log: log.clone(),
                readers: readers.clone(),
                digest_key,
                signer,
                overtaken: None,
                listing: Some(Listing::default()),
            };
            publishing.push(tokio::spawn(feed.clone().keep_listing()));
            let access = Access {
                proxies: Networks::default(),
                list: AccessList { allow: config.internal.allow.clone(), deny: config.internal.deny.clone() },
                metrics: metrics.clone(),
            };
            let internal = Internal::new(app.clone(), feed, config.internal.max_requests, ways);
            let router = internal::router(internal, access);
            let transport =
                Transport::tls(identity.server, Duration::from_millis(config.internal.handshake_timeout_ms));
            let limits = api::server::Limits {
                connections: config.internal.max_connections,
                connections_per_client: config.internal.max_connections_per_client,
                ..limits(&config)
            };
            let (metrics, stop) = (metrics.clone(), stopped(stop.clone()));
            tokio::spawn(api::server::serve(listener, transport, router, limits, metrics, stop))
        });
        let letters = Letters {
            committer: committer.clone(),
            mailer: has_mail.then(|| mailer.clone()),
            public_url,
            link_us: settings.link_us(),
        };
        let check = Check {
            committer: committer.clone(),
            resolvers: config.names.resolvers().into(),
            delegation,
            terms: Terms {
                grace_us: i64::from(config.names.grace_days) * DAY_US,
                freezes: config.names.require_proof,
                frozen_days: Some(config.names.frozen_days).filter(|days| *days > 0),
            },
        };
        let rotation = Rotation { vault: vault.clone(), committer: committer.clone() };
        let days = |days: u32| Duration::from_secs(u64::from(days) * 86_400);
        let kept = Kept { history: days(config.store.history_days), jobs: days(config.jobs.kept_days) };
        let expiry = Forget::expired(committer.clone(), kept);
        let cleanup = Forget::over(committer.clone(), kept);
        let kinds = Kinds::default().with(letters).with(Trial(mailer)).with(check).with(rotation);
        let deliver = Deliver {
            committer: committer.clone(),
            readers: readers.clone(),
            vault: vault.clone(),
            egress,
            metrics: metrics.clone(),
        };
        let workers = config.jobs.workers;
        let calls = if workers == 0 { 0 } else { AT_ONCE };
        let runner = Runner {
            committer: committer.clone(),
            readers: readers.clone(),
            lanes: vec![Lane::plain(kinds.with(expiry).with(cleanup), workers), deliver.lane(calls)],
            handle: jobs,
            config: config.jobs,
            metrics: metrics.clone(),
            stop: stop.clone(),
        };
        let doing = tokio::spawn(runner.run());
        let replaying =
            buffer.clone().map(|buffer| tokio::spawn(Replay::new(buffer, app.clone()).run(stop.clone())));
        if let Some(progress) = progress {
            tokio::spawn(async move { progress.follow().await });
        }
        let router = api::router(app);
        let transport = match &certificates {
            Some(certificates) => {
                let handshake_timeout = Duration::from_millis(config.api.handshake_timeout_ms);
                Transport::tls(certificates.server()?, handshake_timeout)
            }
            None => Transport::Plain,
        };
        let watching = certificates.map(|certificates| tokio::spawn(certificates.watch(stop.clone())));
        api::server::serve(listener, transport, router, limits(&config), metrics, stopped(stop)).await;
        let beside = [
            ("internal listener", asking),
            ("reports of nodes", Some(exchanging)),
            ("jobs", Some(doing)),
            ("revocations", Some(hearing)),
            ("uses of tokens", Some(noting)),
            ("events", Some(telling)),
            ("webhooks", Some(following)),
            ("buffer", replaying),
            ("count of digests", recounting),
            ("certificate", watching),
        ];
        ending::tasks(ending::TASKS, beside).await;
        // One after the other: what was noted is chained as well.
        for (name, end, ending) in
            [("audit notes", end_keeping, keeping), ("audit log", end_chaining, chaining)]
        {
            let _ = end.send(true);
            ending::tasks(ending::TASKS, [(name, Some(ending))]).await;
        }
        drop(committer);
        // No request is let in any more: the writer ends when its queue is empty, the relay when all has its sequence, and the
        // data plane takes that up: one that never had anything would have nothing to start from.
        let _ = close.send(());
        let writer = ending::task("writer", ending::WRITER, writing).await;
        let _ = end_relay.send(true);
        if let Some(relaying) = relaying {
            ending::task("relay", ending::LEVEL, relaying).await;
        }
        if let Some(applied) = applied {
            ending::phase("data plane", ending::LEVEL, level(applied, log.end())).await;
        }
        for ending in feeding.into_iter().chain(publishing) {
            ending.abort();
        }
        // One that was cut takes its connection with it, and what was not committed.
        let writer = writer.context("the writer did not end, so that the database was not closed")?;
        let database = Database { place, writer, readers, exports, guarded };
        if let Some(closed) = ending::phase("database", ending::DATABASE, database.close()).await {
            closed.context("closing the database")?;
        }
        if let Some(buffer) = buffer {
            ending::phase("buffer's file", ending::DATABASE, buffer.close()).await;
        }
        tracing::info!("the control plane stopped");
        Ok(())
    }
}

/// Until a data plane has applied all up to the end of the log.
async fn level(mut applied: watch::Receiver<Applied>, end: FeedState) {
    let is_level =
        |applied: &Applied| applied.generation == end.generation && applied.sequence >= end.sequence;
    let _ = applied.wait_for(is_level).await;
}

/// The limits of the listener.
fn limits(config: &Config) -> api::server::Limits {
    let api = &config.api;
    api::server::Limits {
        connections: api.max_connections,
        connections_per_client: api.max_connections_per_client,
        header_octets: api.max_header_octets,
        header_timeout: Duration::from_millis(api.header_timeout_ms),
        write_timeout: Duration::from_millis(api.write_timeout_ms),
        read_octets_per_s: api.read_octets_per_s,
        drain_timeout: Duration::from_millis(api.drain_timeout_ms),
    }
}
