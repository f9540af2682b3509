//! TLS to the API: whom it is believed to be. The certificates of this machine's system decide, or a file that is named.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};

use crate::output::Wrong;

/// For HTTP/1.1 with a server whose certificate comes from one of a file, or else of the system's.
///
/// # Errors
/// When there are none.
pub(super) fn config(authorities: Option<&Path>) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    match authorities {
        Some(file) => {
            let wrong = |reason: String| Wrong(format!("--ca {}: {reason}", file.display()));
            let pem = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
                roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(wrong("expected certificates in PEM".to_owned()).into());
            }
        }
        None => {
            // What of them cannot be read is no reason to do without the others.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                let reason =
                    "the system has no certificates of authorities; --ca names a file with those of the API";
                return Err(Wrong(reason.to_owned()).into());
            }
        }
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .context("TLS")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
