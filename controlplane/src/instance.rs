//! One running control plane: what is opened in which order, and how it ends.

use std::fs::File;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use godwit_wire::feed::DigestKey;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore, oneshot, watch};

use crate::accounts::mail::Letters;
use crate::accounts::{Accounts, Settings};
use crate::api::admission::BodyRoom;
use crate::api::client::Access;
use crate::api::server::Transport;
use crate::api::server::certificate::Certificates;
use crate::api::{self, App};
use crate::audit::anchors::Anchors;
use crate::audit::keeper::{ANCHOR, Keeper, LOOK};
use crate::audit::{ChainKey, noted};
use crate::auth::cookie::CookieKey;
use crate::auth::jwt::issuer::Issuer;
use crate::auth::password::Passwords;
use crate::auth::refresh::RefreshKey;
use crate::auth::revoked::Listener;
use crate::auth::{self, Authenticator, Scopes, Token, used};
use crate::buffer::replay::Replay;
use crate::buffer::{Bounds, Buffer};
use crate::commit;
use crate::commit::writer::{Here, Line, PRUNE_EVERY, Sequences, Writer};
use crate::config::{Config, MailTransport, Networks, Store};
use crate::events::Hub;
use crate::internal::exchange::Exchange;
use crate::internal::feed::{CachePlace, StreamPlace, Ways};
use crate::internal::join::Join;
use crate::internal::nodes::Nodes;
use crate::internal::planes::Planes;
use crate::internal::tls::Identity;
use crate::internal::{self, Internal};
use crate::jobs::runner::Runner;
use crate::jobs::{self, Kinds};
use crate::mail::{Mailer, Trial};
use crate::names::check::Check;
use crate::names::claims::Claims;
use crate::names::suffixes::Suffixes;
use crate::names::{DAY_US, Rules};
use crate::observe::metrics::Metrics;
use crate::rates::Rates;
use crate::relay::cache::{self, Cache};
use crate::relay::feed::{Feed, Listing};
use crate::relay::lead::Relay;
use crate::relay::log::Log;
use crate::relay::progress::{Progress, Publications};
use crate::relay::reader::Reader;
use crate::relay::recount::hourly::Hourly;
use crate::relay::shadow::{Program, Shadow};
use crate::relay::signer::Signer;
use crate::relay::stream::{Keys, Publisher, STAYS};
use crate::relay::terms::{self, Holding};
use crate::relay::{Applied, FeedSink};
use crate::secrets::rotation::Rotation;
use crate::secrets::{FeedKeys, Vault};
use crate::start::{
    first_start, go_on, gone, history, lock_of, new_generation, open_beside, open_database, place, said,
};
use crate::store::relay::FeedState;
use crate::store::revocations::{self, Revoked};
use crate::store::schema::Step;
use crate::store::{Database, Kind, Place};
use crate::tenants::Tenants;
use crate::validate::name;

/// How long a data plane gets, when it is time to stop, to take up what was committed last.
const LEVEL_TIMEOUT: Duration = Duration::from_secs(5);

/// Becomes true when it is time to stop; also when its sender is gone.
pub type Stop = watch::Receiver<bool>;

/// What a new database holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FirstStart {
    /// No zones.
    Empty,
    /// `example.com` with a `www` that has an address.
    ExampleZone,
    /// There must be one that is not new: a data plane has zones of it, which an empty one would take away.
    Never,
}

/// A control plane whose database is open and whose address is bound.
#[derive(Debug)]
pub struct Controlplane {
    config: Config,
    database: Database,
    state: FeedState,
    digest_key: DigestKey,
    vault: Arc<Vault>,
    feed_keys: FeedKeys,
    issuer: Arc<Issuer>,
    refresh: RefreshKey,
    cookies: CookieKey,
    /// What is good no more, before anybody is let in.
    revoked: Vec<(Revoked, i64)>,
    audit_key: ChainKey,
    public_url: Arc<str>,
    listener: TcpListener,
    /// What it shows of itself; `None` without TLS.
    certificates: Option<Arc<Certificates>>,
    /// The one that nodes ask, and who it is.
    internal: Option<(TcpListener, Identity)>,
    new_token: Option<Token>,
    metrics: Metrics,
    /// What takes writes while the database is away.
    buffer: Option<Arc<Buffer>>,
    /// What judges change sets before they are published.
    shadow: Option<Program>,
    /// What jobs send mail with.
    mailer: Arc<Mailer>,
    /// Which names tenants make zones of.
    rules: Arc<Rules>,
    /// Of the data folder, held as long as the database in it is open.
    _lock: Option<File>,
}

/// Names a deployment, its database, and every restored copy of it: what tokens of ours say as their issuer.
fn instance_id(digest_key: &DigestKey) -> uuid::Uuid {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &digest_key.0);
    let mut octets = [0; 16];
    octets.copy_from_slice(&ring::hmac::sign(&key, b"godwit instance id").as_ref()[..16]);
    uuid::Builder::from_custom_bytes(octets).into_uuid()
}

impl Controlplane {
    /// Locks the data folder, opens the database, makes what a first start needs, and binds the API's address. `digest_key`:
    /// what a data plane's digests are keyed with already; a new database takes it over.
    ///
    /// # Errors
    /// When any of it fails, with the path or address that it failed at.
    pub async fn open(
        config: Config,
        first: FirstStart,
        digest_key: Option<DigestKey>,
    ) -> anyhow::Result<Controlplane> {
        if let Some((key, expected)) = config.missing() {
            anyhow::bail!("{key}: expected {expected}");
        }
        let mailer = Mailer::of(&config)?;
        let metrics = Metrics::default();
        let certificates = match (&config.api.tls_certificate, &config.api.tls_key) {
            (Some(certificate), Some(key)) => {
                let opened = Certificates::open(certificate.clone(), key.clone(), metrics.clone());
                Some(opened.context("the certificate of the API")?)
            }
            _ => None,
        };
        let rules = Arc::new(Rules::of(&config.names)?);
        let place = place(&config.store)?;
        let lock = lock_of(&place, &config.store)?;
        if let Place::File(file) = &place
            && first == FirstStart::Never
            && !file.try_exists().with_context(|| format!("database {place}"))?
        {
            return Err(gone(&place));
        }
        let mut database = open_database(place, config.store.readers, config.store.exports).await?;
        let digest_key = history(&mut database.writer, digest_key).await.context("history of the feed")?;
        let writer = &mut database.writer;
        let vault = Vault::unlock(writer, config.store.master_places()?).await.context("secrets")?;
        let feed_keys = vault.feed_keys(writer).await?;
        let internal_key = vault.internal_key(writer).await?;
        let issuer_key = vault.issuer_key(writer).await?;
        let refresh_key = vault.refresh_key(writer).await?;
        let audit_key = vault.audit_key(writer).await?;
        let (refresh, cookies) = (RefreshKey::of(&refresh_key), CookieKey::of(&refresh_key));
        let revoked = revocations::since(writer, 0).await.context("what was revoked")?;
        let new_token =
            first_start(&mut database, &config, first, &digest_key).await.context("first start")?;
        let state = go_on(&mut database.writer).await.context("state of the feed")?;
        let buffer = buffer(&config, &database.place, &metrics)?;
        let listen = config.api.listen;
        let listener = TcpListener::bind(listen).await.with_context(|| format!("API address {listen}"))?;
        let public_url: Arc<str> = config.api.reached_at(listener.local_addr()?).into();
        let (id, ttl) = (instance_id(&digest_key), i64::from(config.jwt.ttl));
        let issuer = Arc::new(Issuer::new(&issuer_key, id, public_url.to_string(), ttl)?);
        let internal = match config.internal.address()? {
            Some(listen) => {
                let identity = Identity::of(&internal_key, listen.ip())?;
                let bound = TcpListener::bind(listen).await;
                Some((bound.with_context(|| format!("internal address {listen}"))?, identity))
            }
            None => None,
        };
        Ok(Controlplane {
            config,
            database,
            state,
            digest_key,
            vault: Arc::new(vault),
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
            new_token,
            metrics,
            buffer,
            shadow: None,
            mailer: Arc::new(mailer),
            rules,
            _lock: lock,
        })
    }

    /// This, with a program that judges change sets before they are published, where the database is one of a server and the
    /// configuration wants it. Without, nothing is judged.
    #[must_use]
    pub fn shadowed_by(self, program: Program) -> Controlplane {
        Controlplane { shadow: Some(program), ..self }
    }

    /// Makes a token beside a control plane that does not run.
    ///
    /// # Errors
    /// When the folder is in use or the database cannot be opened.
    pub async fn create_token(store: &Store, scope: &str) -> anyhow::Result<Token> {
        Scopes::parse(scope).map_err(|name| anyhow::anyhow!("scope \"{name}\" is none"))?;
        let (mut database, _lock) = open_beside(store).await?;
        let token = auth::create(&mut database.writer, scope).await?;
        database.close().await?;
        Ok(token)
    }

    /// Starts a new generation beside a control plane that does not run: data planes that have seen later changes than
    /// this database (a restored copy) take it as the truth all the same.
    ///
    /// # Errors
    /// When the folder is in use or the database cannot be opened.
    pub async fn start_generation(store: &Store) -> anyhow::Result<()> {
        let (mut database, _lock) = open_beside(store).await?;
        history(&mut database.writer, None).await?;
        let started = new_generation(&mut database.writer).await?;
        anyhow::ensure!(started, "the clock is behind the start of the present generation");
        database.close().await?;
        Ok(())
    }

    /// Makes the feed's next key the one that signs, and a new next one. A database of a server may be in use: who uses it
    /// signs with that key a moment later.
    ///
    /// # Errors
    /// When a node would not know the key, the folder is in use, or the database or its secrets cannot be opened.
    pub async fn rotate_feed_key(store: &Store) -> anyhow::Result<()> {
        let (mut database, _lock) = open_beside(store).await?;
        history(&mut database.writer, None).await?;
        let vault = Vault::unlock(&mut database.writer, store.master_places()?).await.context("secrets")?;
        vault.rotate(&mut database.writer).await?;
        database.close().await?;
        Ok(())
    }

    /// Brings the schema of a database up to date; gives its steps. A database of a server may be in use.
    ///
    /// # Errors
    /// When the folder is in use, the database cannot be had, or its schema is newer than this program.
    pub async fn migrate(store: &Store) -> anyhow::Result<Vec<Step>> {
        let place = place(store)?;
        let _lock = lock_of(&place, store)?;
        let done = async {
            place.migrate().await?;
            place.steps().await
        };
        done.await.map_err(said).with_context(|| format!("database {place}"))
    }

    /// The steps of the schema, and whether the database has them. It may be in use.
    ///
    /// # Errors
    /// When the database cannot be had.
    pub async fn schema(store: &Store) -> anyhow::Result<Vec<Step>> {
        let place = place(store)?;
        place.steps().await.map_err(said).with_context(|| format!("database {place}"))
    }

    /// The administrator's token that a first start made. It is not shown again: print it.
    #[must_use]
    pub fn new_token(&self) -> Option<&Token> {
        self.new_token.as_ref()
    }

    /// Where the API listens.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn api_address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// `https`, or `http` where it has no certificate.
    #[must_use]
    pub fn api_scheme(&self) -> &'static str {
        self.config.api.scheme()
    }

    /// Looks at what is in files and may change while it runs, the certificate; what is wrong is logged.
    pub fn reloads(&self) -> impl Fn() + Send + use<> {
        let certificates = self.certificates.clone();
        move || {
            if let Some(Err(error)) = certificates.as_ref().map(|certificates| certificates.look()) {
                let error = format!("{error:#}");
                tracing::error!(
                    error,
                    "the certificate of the API cannot be changed; the one of before is shown"
                );
            }
        }
    }

    /// Where nodes ask; `None` when they cannot.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn internal_address(&self) -> std::io::Result<Option<SocketAddr>> {
        self.internal.as_ref().map(|(listener, _)| listener.local_addr()).transpose()
    }

    /// Its counters, to be served.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

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
            mailer,
            rules,
            new_token: _,
            _lock,
        } = self;
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
        let keeping = tokio::spawn(noted::keep(notes, committer.clone(), metrics.clone(), stop.clone()));
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
        let app = Arc::new(App {
            committer: committer.clone(),
            buffer: buffer.clone(),
            readers: readers.clone(),
            views: views.clone(),
            log: log.clone(),
            publications,
            hub: hub.clone(),
            listeners: Arc::new(Semaphore::new(config.api.max_listeners)),
            stop: stop.clone(),
            planes: Planes::new(progress.clone(), nodes.clone(), log.clone()),
            join,
            certificates: certificates.clone(),
            vault: vault.clone(),
            metrics: metrics.clone(),
            authenticator: authenticator.clone(),
            noted,
            accounts,
            tenants: Tenants::new(committer.clone(), authenticator.clone(), views.clone()),
            suffixes: Suffixes { committer: committer.clone(), views: views.clone(), rules: rules.clone() },
            claims: Claims {
                committer: committer.clone(),
                views: views.clone(),
                rules: rules.clone(),
                jobs: jobs.clone(),
            },
            public_url: public_url.clone(),
            access: Arc::new(Access {
                proxies: config.api.trusted_proxies.clone(),
                allow: config.api.allow.clone(),
                deny: config.api.deny.clone(),
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
                history_kept: Duration::from_secs(u64::from(config.store.history_days) * 86_400),
                jobs_kept: Duration::from_secs(u64::from(config.jobs.kept_days) * 86_400),
                guard: config.guard,
                rules,
                prune_every: PRUNE_EVERY,
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
        let mut publishing = Vec::new();
        let (keys, cached) =
            (Keys::with_prefix(&config.redis.prefix), cache::place::Keys::with_prefix(&config.redis.prefix));
        let readable = vec![
            keys.stream.clone(),
            keys.head.clone(),
            cached.index.clone(),
            cached.head.clone(),
            format!("{}*", cached.zones),
        ];
        if let Some(place) = config.redis.streams()? {
            let told = config.redis.nodes()?;
            let reader = told.as_ref().and_then(|(_, told)| Reader::of(told, &place, readable.clone()));
            let (stream, head) = (keys.stream.clone(), keys.head.clone());
            ways.redis = told.map(|(url, _)| StreamPlace { url, stream, head });
            let all = nodes.clone();
            let publisher = Publisher {
                holding: Holding { place, reader, term: term.subscribe() },
                keys,
                log: log.clone(),
                readers: readers.clone(),
                signer: signer.clone(),
                overtaken: committer.overtaken(),
                applied: Box::new(move |generation| all.applied_by_all(generation)),
                stays: STAYS,
                metrics: metrics.clone(),
            };
            publishing.push(tokio::spawn(terms::run(publisher)));
        }
        if let Some(place) = config.redis.cache()? {
            let nodes = config.redis.nodes_of_cache()?;
            let reader = nodes.as_ref().and_then(|(_, nodes)| Reader::of(nodes, &place, readable));
            let cache::place::Keys { index, head, zones, .. } = cached.clone();
            ways.cache =
                nodes.map(|(url, nodes)| CachePlace { url, database: nodes.database(), index, head, zones });
            let cache = Cache {
                holding: Holding { place, reader, term: term.subscribe() },
                keys: cached,
                log: log.clone(),
                readers: readers.clone(),
                digest_key: digest_key.clone(),
                signer: signer.clone(),
                overtaken: committer.overtaken(),
                metrics: metrics.clone(),
            };
            publishing.push(tokio::spawn(terms::run(cache)));
        }
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
            stop: stop.clone(),
        };
        let chaining = tokio::spawn(keeper.run());
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
                allow: config.internal.allow.clone(),
                deny: config.internal.deny.clone(),
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
            readers: readers.clone(),
            resolvers: config.names.resolvers().into(),
            grace_us: i64::from(config.names.grace_days) * DAY_US,
        };
        let rotation = Rotation { vault: vault.clone(), committer: committer.clone() };
        let runner = Runner {
            committer: committer.clone(),
            readers: readers.clone(),
            kinds: Kinds::default().with(letters).with(Trial(mailer)).with(check).with(rotation),
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
        let ending =
            asking.into_iter().chain([exchanging, doing, hearing, noting, telling, keeping, chaining]);
        for ending in ending.chain(replaying).chain(recounting).chain(watching) {
            let _ = ending.await;
        }
        drop(committer);
        // No request is let in any more: the writer ends when its queue is empty, the relay when all has its sequence, and the
        // data plane takes that up: one that never had anything would have nothing to start from.
        let _ = close.send(());
        let writer = writing.await.context("the writer ended in a panic")?;
        let _ = end_relay.send(true);
        if let Some(relaying) = relaying {
            let _ = tokio::time::timeout(LEVEL_TIMEOUT, relaying).await;
        }
        if let Some(applied) = applied {
            let _ = tokio::time::timeout(LEVEL_TIMEOUT, level(applied, log.end())).await;
        }
        for ending in feeding.into_iter().chain(publishing) {
            ending.abort();
        }
        Database { place, writer, readers, exports, guarded }
            .close()
            .await
            .context("closing the database")?;
        if let Some(buffer) = buffer {
            buffer.close().await;
        }
        tracing::info!("the control plane stopped");
        Ok(())
    }
}

/// What takes writes while the database is away: a server can be.
fn buffer(config: &Config, place: &Place, metrics: &Metrics) -> anyhow::Result<Option<Arc<Buffer>>> {
    if place.kind() == Kind::Sqlite || !config.buffer.enabled {
        return Ok(None);
    }
    let bounds = Bounds { octets: config.buffer.max_octets, changes: config.buffer.max_changes };
    let tokens_for = Duration::from_secs(config.buffer.token_seconds);
    let file = config.buffer_file();
    Buffer::open(&file, place.clone(), bounds, tokens_for, metrics.clone()).map(Arc::new).map(Some)
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

/// Resolves when it is time to stop.
pub(crate) async fn stopped(mut stop: Stop) {
    let _ = stop.wait_for(|stop| *stop).await;
}
