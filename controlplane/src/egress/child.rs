//! The child: makes the calls that it is told, many at once. It ends with its input.

use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::sync::Arc;

use nix::sys::resource::{Resource, setrlimit};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::BufReader;
use tokio::net::unix::pipe;
use tokio::sync::{Semaphore, mpsc};

use super::AT_ONCE;
use super::call::World;
use super::frames::{self, Asked, Said, Settings};

/// Memory that it may take.
const MEMORY_OCTETS: u64 = 1 << 30;
/// Descriptors that it may have.
const DESCRIPTORS: u64 = 512;

/// Runs until the input ends. Standard input and output are the parent's.
#[must_use]
pub fn main() -> ExitCode {
    let done = alone().and_then(|()| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let done = runtime.block_on(work());
        // Whatever is under way has nobody who would hear of it.
        runtime.shutdown_background();
        done
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "godwit: what makes calls ends: {error}");
            ExitCode::from(101)
        }
    }
}

/// Has nothing but what it was given: whatever else the parent left open is closed.
fn alone() -> io::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    setrlimit(Resource::RLIMIT_AS, MEMORY_OCTETS, MEMORY_OCTETS)?;
    setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS, DESCRIPTORS)?;
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return Ok(()) };
    let number = |entry: io::Result<std::fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse::<i32>().ok();
    let open: Vec<i32> = entries.filter_map(number).filter(|descriptor| *descriptor > 2).collect();
    for descriptor in open {
        // The one that listed them is closed already.
        let _ = nix::unistd::close(descriptor);
    }
    Ok(())
}

async fn work() -> io::Result<()> {
    // Both are pipes, of which nobody else has this end.
    let input = io::stdin().as_fd().try_clone_to_owned().and_then(pipe::Receiver::from_owned_fd)?;
    let mut input = BufReader::new(input);
    let mut output = io::stdout().as_fd().try_clone_to_owned().and_then(pipe::Sender::from_owned_fd)?;
    let Some(settings) = frames::read::<Settings>(&mut input).await? else { return Ok(()) };
    let tls = Arc::new(tls(settings.authorities.as_deref())?);
    let Settings { permits, own_names, resolvers, .. } = settings;
    let world = Arc::new(World { permits, own_names, resolvers, tls });
    frames::write(&mut output, &Said::Ready).await?;
    let (said, mut saying) = mpsc::channel::<Said>(AT_ONCE);
    let writing = async move {
        while let Some(one) = saying.recv().await {
            frames::write(&mut output, &one).await?;
        }
        Ok(())
    };
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let reading = async move {
        while let Some(Asked { id, call }) = frames::read(&mut input).await? {
            let place = room.clone().acquire_owned().await.map_err(io::Error::other)?;
            let (world, said) = (world.clone(), said.clone());
            tokio::spawn(async move {
                let outcome = world.call(&call).await;
                let _ = said.send(Said::Done { id, outcome }).await;
                drop(place);
            });
        }
        Ok(())
    };
    tokio::select! {
        read = reading => read,
        written = writing => written,
    }
}

fn tls(authorities: Option<&str>) -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    // What cannot be read of them is left out: where none is left, no certificate is good.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(pem) = authorities {
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13, &TLS12]);
    let mut tls = versions.map_err(io::Error::other)?.with_root_certificates(roots).with_no_client_auth();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(tls)
}
