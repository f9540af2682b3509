//! One running control plane: what is opened in which order, and how it ends.

mod beside;
mod ending;
mod publish;
mod serve;

use std::fs::File;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use godwit_wire::feed::DigestKey;
use tokio::net::TcpListener;

use crate::api::server::certificate::Certificates;
use crate::audit::ChainKey;
use crate::auth::Token;
use crate::auth::cookie::CookieKey;
use crate::auth::jwt::issuer::Issuer;
use crate::auth::refresh::RefreshKey;
use crate::buffer::{Bounds, Buffer};
use crate::config::Config;
use crate::internal::tls::Identity;
use crate::mail::Mailer;
use crate::names::Rules;
use crate::observe::metrics::Metrics;
use crate::relay::shadow::Program;
use crate::secrets::{FeedKeys, Vault};
use crate::start::{FirstStart, await_database, first_start, go_on, gone, history, lock_of, place};
use crate::store::relay::FeedState;
use crate::store::revocations::Revoked;
use crate::store::{Database, Kind, Place, revocations};
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
    /// What makes calls to servers of others.
    caller: Option<Program>,
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
        let wait = Duration::from_secs(u64::from(config.store.wait_seconds));
        let mut database = await_database(place, config.store.readers, config.store.exports, wait).await?;
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
            caller: None,
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

    /// This, with a program that makes calls to servers of others; its arguments lead to
    /// [`egress::child::main`](crate::egress::child::main). Without, none are made.
    #[must_use]
    pub fn calling_by(self, program: Program) -> Controlplane {
        Controlplane { caller: Some(program), ..self }
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
