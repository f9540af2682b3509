//! The certificate of the API: read from files, and again when they have changed. Connections that are there go on; those that
//! come are shown the new one. Files that cannot be used change nothing.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rustls::ServerConfig;
use rustls::crypto::ring::{default_provider, sign};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::validity::{self, Validity};
use crate::observe::metrics::Metrics;
use crate::stop::{Stop, stopped};
use crate::store::now_us;

/// How often it is looked whether the files have changed.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// From so long before its end on it is said that a certificate ends, so often.
const ENDS_SOON_S: i64 = 14 * 86_400;
const SAY_EVERY: Duration = Duration::from_secs(6 * 3_600);
/// The most that is read of a file.
const MAX_OCTETS: u64 = 1 << 20;

/// See the module.
pub(crate) struct Certificates {
    certificate: PathBuf,
    key: PathBuf,
    now: RwLock<Used>,
    metrics: Metrics,
}

/// What is shown.
#[derive(Clone)]
struct Used {
    key: Arc<CertifiedKey>,
    /// Of what was in both files.
    hash: [u8; 32],
    /// In seconds since the epoch.
    begins_at: i64,
    ends_at: i64,
}

impl Used {
    fn is_good(&self) -> bool {
        (self.begins_at..self.ends_at).contains(&now_s())
    }
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.used().key)
    }
}

impl Certificates {
    /// Reads both files (PEM).
    ///
    /// # Errors
    /// When they cannot be read, or are no certificate with its key.
    pub(crate) fn open(
        certificate: PathBuf,
        key: PathBuf,
        metrics: Metrics,
    ) -> anyhow::Result<Arc<Certificates>> {
        let used = Files::read(&certificate, &key)?.used()?;
        metrics.certificate(used.ends_at, false);
        say_when_it_ends(&used);
        Ok(Arc::new(Certificates { certificate, key, now: RwLock::new(used), metrics }))
    }

    /// What the listener needs: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1.
    ///
    /// # Errors
    /// When the library has none of it.
    pub(crate) fn server(self: &Arc<Certificates>) -> anyhow::Result<Arc<ServerConfig>> {
        let mut server = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(server))
    }

    fn used(&self) -> Used {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks whether there is another one, and shows it from now on; whether there was.
    ///
    /// # Errors
    /// When the files cannot be used: then it is as before.
    pub(crate) fn look(&self) -> anyhow::Result<bool> {
        let before = self.used();
        let found = Files::read(&self.certificate, &self.key).and_then(|files| {
            // Nearly always.
            if files.hash == before.hash {
                return Ok(None);
            }
            let found = files.used()?;
            let is_over = found.ends_at <= now_s() && before.ends_at > found.ends_at;
            ensure!(!is_over, "{}: the certificate has ended already", self.certificate.display());
            let is_early = found.begins_at > now_s() && before.is_good();
            ensure!(!is_early, "{}: the certificate is not good yet", self.certificate.display());
            Ok(Some(found))
        });
        match found {
            Ok(None) => {
                self.metrics.certificate(before.ends_at, false);
                Ok(false)
            }
            Ok(Some(found)) => {
                self.metrics.certificate(found.ends_at, false);
                tracing::info!(ends_at = found.ends_at, "another certificate is shown from now on");
                say_when_it_ends(&found);
                *self.now.write().unwrap_or_else(PoisonError::into_inner) = found;
                Ok(true)
            }
            Err(error) => {
                self.metrics.certificate(before.ends_at, true);
                Err(error)
            }
        }
    }

    /// Looks again and again until it is time to stop. Between the writing of one file and of the other they do not belong
    /// together: that is said when it is so the second time.
    pub(crate) async fn watch(self: Arc<Certificates>, stop: Stop) {
        let mut stop = std::pin::pin!(stopped(stop));
        let mut failed: Option<String> = None;
        let mut is_said = false;
        let mut say_at = Instant::now() + SAY_EVERY;
        loop {
            tokio::select! {
                () = &mut stop => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            match self.look() {
                Ok(_) => (failed, is_said) = (None, false),
                Err(error) => {
                    let error = format!("{error:#}");
                    let is_again = failed.as_ref() == Some(&error);
                    if is_again && !is_said {
                        tracing::error!(
                            error,
                            "the certificate of the API cannot be changed; the one of before is shown"
                        );
                        is_said = true;
                    }
                    if !is_again {
                        (failed, is_said) = (Some(error), false);
                    }
                }
            }
            if Instant::now() >= say_at {
                say_at = Instant::now() + SAY_EVERY;
                say_when_it_ends(&self.used());
            }
        }
    }
}

fn say_when_it_ends(used: &Used) {
    let left = used.ends_at - now_s();
    if left <= 0 {
        tracing::error!(ends_at = used.ends_at, "the certificate of the API has ended: clients refuse it");
    } else if left < ENDS_SOON_S {
        let days = left / 86_400;
        tracing::warn!(ends_at = used.ends_at, days, "the certificate of the API ends soon");
    }
}

fn now_s() -> i64 {
    now_us() / 1_000_000
}

/// What is in both files.
struct Files<'a> {
    certificate: &'a PathBuf,
    key: &'a PathBuf,
    chain_octets: Vec<u8>,
    key_octets: Vec<u8>,
    hash: [u8; 32],
}

impl Files<'_> {
    fn read<'a>(certificate: &'a PathBuf, key: &'a PathBuf) -> anyhow::Result<Files<'a>> {
        let (chain_octets, key_octets) = (octets(certificate)?, octets(key)?);
        let mut hash = Sha256::new();
        hash.update((chain_octets.len() as u64).to_be_bytes());
        hash.update(&chain_octets);
        hash.update(&key_octets);
        Ok(Files { certificate, key, chain_octets, key_octets, hash: hash.finalize().into() })
    }

    /// A certificate with its key.
    fn used(&self) -> anyhow::Result<Used> {
        let (certificate, key) = (self.certificate.display(), self.key.display());
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&self.chain_octets)
            .collect::<Result<_, _>>()
            .with_context(|| certificate.to_string())?;
        let Some(first) = chain.first() else { bail!("{certificate}: expected a certificate in PEM") };
        let validity =
            validity::of(first).with_context(|| format!("{certificate}: the certificate cannot be read"))?;
        // Whatever the library says of a key, nothing of it is shown.
        let private = PrivateKeyDer::from_pem_slice(&self.key_octets).ok();
        let private = private.with_context(|| format!("{key}: expected a private key in PEM"))?;
        let signing = sign::any_supported_type(&private).ok();
        let signing =
            signing.with_context(|| format!("{key}: expected a key of RSA, P-256, P-384 or Ed25519"))?;
        let certified = CertifiedKey::new(chain, signing);
        let belongs = certified.keys_match().is_ok();
        ensure!(belongs, "{key}: the key is not that of the certificate {certificate}");
        let Validity { begins_at, ends_at } = validity;
        Ok(Used { key: Arc::new(certified), hash: self.hash, begins_at, ends_at })
    }
}

fn octets(path: &PathBuf) -> anyhow::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut octets = Vec::new();
    let file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
    file.take(MAX_OCTETS + 1).read_to_end(&mut octets).with_context(|| path.display().to_string())?;
    ensure!(octets.len() as u64 <= MAX_OCTETS, "{}: more than {MAX_OCTETS} octets", path.display());
    Ok(octets)
}
