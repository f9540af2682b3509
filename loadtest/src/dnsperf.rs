//! dnsperf beside the own generator: people know it, and it stops near 310,000 queries a second on one core.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::cpu;
use crate::server::{Running, SERVER_CPU};

/// What dnsperf printed, and what the server used meanwhile.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// Queries a second.
    pub qps: f64,
    /// Queries lost, in percent.
    pub lost_percent: f64,
    /// Server CPU-µs per completed query.
    pub cpu_us: f64,
}

/// Whether it is installed, and its version.
#[must_use]
pub fn version() -> Option<String> {
    let output = Command::new("dnsperf").arg("-h").output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    text.lines().find_map(|line| line.strip_prefix("Version ")).map(str::to_owned)
}

/// Runs it for some seconds on the generator's CPU.
///
/// # Errors
/// It cannot be run, or prints something else than usual.
pub fn run(server: &Running, queries: &Path, seconds: u64) -> Result<Figures> {
    let mut processes = server.processes();
    processes.extend(cpu::kernel_threads(SERVER_CPU));
    let before = cpu::seconds(&processes);
    let output = Command::new("dnsperf")
        .args(["-s", "127.0.0.1", "-p", &server.address.port().to_string()])
        .args(["-c", "8", "-T", "1", "-q", "512", "-l", &seconds.to_string(), "-d"])
        .arg(queries)
        .output()
        .context("running dnsperf")?;
    let used = cpu::seconds(&processes) - before;
    let text = String::from_utf8_lossy(&output.stdout);
    let value = |label: &str| -> Option<f64> {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(label))?;
        line.split_ascii_whitespace().next()?.parse().ok()
    };
    let percent = || -> Option<f64> {
        let line = text.lines().find_map(|line| line.trim().strip_prefix("Queries lost:"))?;
        line.split_once('(')?.1.split_once('%')?.0.parse().ok()
    };
    let figures = || -> Option<Figures> {
        let completed = value("Queries completed:")?.max(1.0);
        Some(Figures {
            qps: value("Queries per second:")?,
            lost_percent: percent()?,
            cpu_us: used * 1e6 / completed,
        })
    };
    figures().with_context(|| {
        format!("dnsperf printed no figures:\n{text}{}", String::from_utf8_lossy(&output.stderr))
    })
}
