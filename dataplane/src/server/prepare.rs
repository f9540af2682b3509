//! What a process settles before it reads what others wrote: who it is, what it is closed to, where it shows its
//! metrics, and how it answers.

use std::net::TcpListener;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::Context;
use godwit_engine::answer::{AnyPolicy, CookieSecrets, Settings};

use super::random;
use crate::config::{Any, Config, DEFAULT_METRICS, OrOff, Steering};
use crate::sandbox::folders::Folders;
use crate::sandbox::{self, Confinement};
use crate::serve::secrets::{self, Secrets};
use crate::serve::sockets::Sockets;
use crate::source::Sources;
use crate::sys::{privilege, socket};

/// Sets what of the sockets depends on the CPUs, after all are bound in their order.
pub(super) fn steer(config: &Config, sockets: &Sockets, cpus: &[usize]) -> anyhow::Result<()> {
    if config.udp.steering != Steering::Cpu || sockets.inherited {
        return Ok(());
    }
    for (i, worker) in sockets.workers.iter().enumerate() {
        for udp in &worker.udp {
            socket::prefer_cpu(udp.as_fd(), cpus[i % cpus.len()])?;
            if i == 0 {
                socket::steer_by_cpu(udp.as_fd()).context("udp.steering = \"cpu\"")?;
            }
        }
    }
    Ok(())
}

/// Files that a process has open, or opens now and then, beside its sockets and TCP connections: zone files, the local snapshot,
/// logs, those who look at the metrics, a successor's pipes; in `godwit run` the database and clients of the API.
const OTHER_FILES: usize = 256;

/// Lets there be as many TCP connections as the limit of open files has room for, if those are fewer than configured. At that
/// number the slowest makes room for newcomers; without, connections would take the last descriptor, and no zone file could be read.
pub(super) fn fit_open_files(config: &mut Config, open_files: u64, sockets: &Sockets) {
    let open_files = usize::try_from(open_files).unwrap_or(usize::MAX);
    // Each socket has a copy for a handover, each TCP worker its epoll set.
    let sockets = 2 * sockets.descriptors().count() + sockets.workers.len();
    let room = open_files.saturating_sub(sockets + OTHER_FILES.min(open_files / 4)).max(1);
    if room < config.tcp.max_connections {
        tracing::warn!(
            open_files,
            max_connections = room,
            configured = config.tcp.max_connections,
            "the limit of open files leaves room for fewer TCP connections than tcp.max_connections"
        );
        config.tcp.max_connections = room;
    }
}

/// Where metrics are served. An address that was asked for must be had; the default one may be taken, as by a second
/// data plane on the same machine.
pub(super) fn metrics_listener(
    config: &Config,
    inherited: Option<TcpListener>,
) -> anyhow::Result<Option<TcpListener>> {
    if config.metrics.listen == Some(OrOff::Off) {
        return Ok(None);
    }
    if inherited.is_some() {
        return Ok(inherited);
    }
    match config.metrics.listen {
        Some(OrOff::At(address)) => {
            let listener =
                TcpListener::bind(address).with_context(|| format!("serving metrics at {address}"))?;
            Ok(Some(listener))
        }
        _ => Ok(TcpListener::bind(DEFAULT_METRICS)
            .inspect_err(|error| {
                tracing::warn!(address = DEFAULT_METRICS, %error, "metrics are not served; see --metrics");
            })
            .ok()),
    }
}

pub(super) fn become_user(config: &Config, handover: bool) -> anyhow::Result<()> {
    if handover && !privilege::is_root() {
        // The process before us became who we are, and there is no way on from there.
        return Ok(());
    }
    let Some(name) = &config.server.user else {
        if privilege::is_root() {
            tracing::warn!("running as root; server.user (or --user) names a user to become");
        }
        return Ok(());
    };
    let user = privilege::user(name).context("server.user")?;
    if let Some(folder) = &config.server.state
        && !folder.exists()
    {
        // Made while we still may, for who we will be.
        std::fs::create_dir_all(folder)
            .and_then(|()| std::os::unix::fs::chown(folder, Some(user.uid), Some(user.gid)))
            .with_context(|| format!("making the state folder {}", folder.display()))?;
    }
    privilege::become_user(&user).with_context(|| format!("becoming user \"{name}\""))
}

/// What a process is closed for, besides its configuration.
#[derive(Clone, Debug)]
pub(super) struct Confine<'a> {
    /// What a handover starts; `None` for a process that is not ours alone.
    pub(super) program: Option<&'a Path>,
    /// TCP ports elsewhere that records come from.
    pub(super) elsewhere: Vec<u16>,
    /// We come after another process, which is closed.
    pub(super) handover: bool,
}

/// Closes the process, when it is ours alone: what has taken effect, and which folders stay open.
pub(super) fn confine(
    config: &Config,
    sources: Option<&mut Sources>,
    Confine { program, elsewhere, handover }: Confine<'_>,
) -> anyhow::Result<(Confinement, Option<Folders>)> {
    let Some(program) = program else {
        tracing::info!("not confined: this process does more than to answer queries");
        return Ok((Confinement::found(), None));
    };
    let folders = Folders::of(config, program, sources, elsewhere);
    let inherited = if handover { Confinement::inherited()? } else { None };
    let confinement = sandbox::close(&config.sandbox, &folders, inherited)?;
    Ok((confinement, (confinement.landlock > 0).then_some(folders)))
}

pub(super) fn settings(config: &Config) -> anyhow::Result<Settings> {
    let text = |value: &Option<String>| value.as_ref().map(|text| text.as_bytes().into());
    let answers = &config.answers;
    Ok(Settings {
        any: match answers.any {
            Any::Minimal => AnyPolicy::Minimal,
            Any::AlwaysMinimal => AnyPolicy::AlwaysMinimal,
            Any::Full => AnyPolicy::Full,
        },
        nsid: text(&answers.nsid),
        cookies: if config.cookies.enabled { Some(cookies(config)?) } else { None },
        udp_payload_max: config.udp.payload_octets,
        resolve_cname_chain: answers.resolve_cname_chain,
        max_cname_depth: answers.max_cname_depth,
        version_bind: text(&answers.version_bind),
        id_server: text(&answers.id_server),
        // RFC 7828 §3.1: in units of 100 milliseconds.
        tcp_keepalive: Some(u16::try_from(config.tcp.idle_timeout_ms / 100).unwrap_or(u16::MAX)),
        ..Settings::default()
    })
}

fn cookies(config: &Config) -> anyhow::Result<CookieSecrets> {
    let secrets = match &config.cookies.secrets_file {
        Some(path) => secrets::read(path)?,
        None => Secrets { current: random()?, previous: None },
    };
    Ok(with_secrets(secrets, config.cookies.require))
}

pub(super) fn with_secrets(secrets: Secrets, require: bool) -> CookieSecrets {
    CookieSecrets { current: secrets.current, previous: secrets.previous, require }
}
