//! The servers that are compared: how each is found, named, configured and started.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::bound::parent_bound;
use super::setup::{RateLimit, Setup};
use crate::data::files::ZoneFile;

/// A server, or the reflector that marks the floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// godwit-dataplane from this workspace.
    Godwit,
    /// NSD.
    Nsd,
    /// Knot DNS.
    Knot,
    /// BIND 9.
    Bind,
    /// PowerDNS with its bind backend.
    Powerdns,
    /// `godwit run`: both planes in one process, only in the churn run.
    #[value(skip)]
    GodwitRun,
    /// Own reflector: sets QR, appends 16 octets.
    Echo,
}

impl Kind {
    /// All that are compared, in the order of rounds and tables.
    pub const ALL: [Kind; 6] = [Kind::Godwit, Kind::Nsd, Kind::Knot, Kind::Bind, Kind::Powerdns, Kind::Echo];

    /// For tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Godwit => "Godwit",
            Kind::GodwitRun => "Godwit (run)",
            Kind::Nsd => "NSD",
            Kind::Knot => "Knot DNS",
            Kind::Bind => "BIND",
            Kind::Powerdns => "PowerDNS",
            Kind::Echo => "echo floor",
        }
    }

    /// Whether it is one of the others' servers.
    #[must_use]
    pub fn is_peer(self) -> bool {
        !matches!(self, Kind::Godwit | Kind::GodwitRun | Kind::Echo)
    }

    /// Whether its zones can be changed while it runs: through the API, or by UPDATE.
    #[must_use]
    pub fn takes_changes(self) -> bool {
        matches!(self, Kind::GodwitRun | Kind::Bind | Kind::Knot)
    }

    /// Where its program is, unless it is not installed. Godwit's is the one beside this program.
    #[must_use]
    pub fn program(self) -> Option<PathBuf> {
        let own = std::env::current_exe().ok()?;
        let name = match self {
            Kind::Echo => return Some(own),
            Kind::Godwit => {
                return Some(own.parent()?.join("godwit-dataplane")).filter(|path| path.is_file());
            }
            Kind::GodwitRun => return Some(own.parent()?.join("godwit")).filter(|path| path.is_file()),
            Kind::Nsd => "nsd",
            Kind::Knot => "knotd",
            Kind::Bind => "named",
            Kind::Powerdns => "pdns_server",
        };
        let path = std::env::var_os("PATH").unwrap_or_default();
        // Servers live where a plain user's PATH does not look.
        std::env::split_paths(&path)
            .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
            .map(|folder| folder.join(name))
            .find(|candidate| candidate.is_file())
    }

    /// What the program says about its version, one line.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn version(self, program: &Path) -> Result<String> {
        let flag = match self {
            Kind::Nsd => "-v",
            Kind::Knot | Kind::Bind => "-V",
            Kind::Godwit | Kind::GodwitRun | Kind::Powerdns | Kind::Echo => "--version",
        };
        let output = Command::new(program)
            .arg(flag)
            .output()
            .with_context(|| format!("running {} {flag}", program.display()))?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let line = text.lines().find(|line| line.contains(|c: char| c.is_ascii_digit())).unwrap_or("?");
        // PowerDNS prefixes the time of day.
        Ok(line.find("PowerDNS").map_or(line, |at| &line[at..]).trim().to_owned())
    }

    /// Writes what the server needs into `folder` and gives back its command and, for the report, its configuration
    /// without the list of zones.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn prepare(
        self,
        program: &Path,
        folder: &Path,
        port: u16,
        setup: &Setup<'_>,
    ) -> Result<(Command, String)> {
        let path = |name: &str| folder.join(name).display().to_string();
        let rate_limit = self.rate_limit(setup.rate_limit);
        let template = |text: &str| {
            text.replace("@ADDRESS@", &setup.address.to_string())
                .replace("@PORT@", &port.to_string())
                .replace("@DIR@", &folder.display().to_string())
                .replace("@TCP@", &setup.tcp_connections.to_string())
                .replace("@RATE_LIMIT@", rate_limit)
                .replace("@MORE@", self.more(setup))
        };
        let (file, text, args): (&str, String, Vec<String>) = match self {
            Kind::Nsd => (
                "nsd.conf",
                template(include_str!("../../servers/nsd.conf")),
                vec!["-d".into(), "-c".into(), path("nsd.conf")],
            ),
            Kind::Knot => (
                "knot.conf",
                template(include_str!("../../servers/knot.conf")),
                vec!["-c".into(), path("knot.conf")],
            ),
            Kind::Bind => (
                "named.conf",
                template(include_str!("../../servers/named.conf")),
                ["-f", "-4", "-n", "1", "-c"]
                    .map(str::to_owned)
                    .into_iter()
                    .chain([path("named.conf")])
                    .collect(),
            ),
            Kind::Powerdns => (
                "pdns.conf",
                template(include_str!("../../servers/pdns.conf")),
                vec![format!("--config-dir={}", folder.display())],
            ),
            Kind::Godwit => {
                let listen = format!("{}:{port}", setup.address);
                let args = [
                    "--listen",
                    &listen,
                    "--zones",
                    &path("zones.conf"),
                    "--workers",
                    "1",
                    "--state",
                    &path("state"),
                    "--metrics",
                    "off",
                ];
                ("command", String::new(), args.map(str::to_owned).to_vec())
            }
            Kind::GodwitRun => {
                let (dns, api) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{}", port + 1));
                let args = [
                    "run",
                    "--data",
                    &path("data"),
                    "--dns",
                    &dns,
                    "--api",
                    &api,
                    "--workers",
                    "1",
                    "--metrics",
                    "off",
                ];
                ("command", String::new(), args.map(str::to_owned).to_vec())
            }
            Kind::Echo => {
                let listen = format!("127.0.0.1:{port}");
                ("command", String::new(), vec!["echo".into(), "--listen".into(), listen])
            }
        };
        let line = format!("{} {}", program.display(), args.join(" "));
        fs::write(folder.join(file), format!("{text}\n"))?;
        fs::write(folder.join("zones.conf"), self.zone_list(setup.zones))?;
        let mut command = parent_bound(program, None);
        command.args(args).stdin(Stdio::null());
        let settings = self.environment(program, setup.rate_limit);
        let shown: String = settings.iter().map(|(key, value)| format!("{key}={value} ")).collect();
        command.envs(settings);
        Ok((command, format!("$ {shown}{line}\n{text}")))
    }

    /// What the configuration file says about response rate limiting.
    fn rate_limit(self, rate_limit: RateLimit) -> &'static str {
        match (self, rate_limit) {
            // NSD limits unless told otherwise; Knot DNS and BIND only when told.
            (Kind::Nsd, RateLimit::Off) => "rrl-ratelimit: 0\n  rrl-whitelist-ratelimit: 0",
            (Kind::Nsd, RateLimit::Tuned) => "rrl-ratelimit: 10\n  rrl-slip: 2",
            (Kind::Knot, RateLimit::Tuned) => "mod-rrl:\n  - id: default\n    rate-limit: 10\n    slip: 2",
            (Kind::Bind, RateLimit::Tuned) => "rate-limit { responses-per-second 10; slip 2; };",
            _ => "",
        }
    }

    /// Settings by environment: Godwit's, whose configuration is its command line.
    fn environment(self, program: &Path, rate_limit: RateLimit) -> Vec<(&'static str, &'static str)> {
        let has = || super::setup::has_rate_limit(program);
        match (self, rate_limit) {
            (Kind::Godwit, RateLimit::Off) if has() => vec![super::setup::GODWIT_OFF],
            (Kind::Godwit, RateLimit::Tuned) if has() => super::setup::GODWIT_TUNED.to_vec(),
            _ => Vec::new(),
        }
    }

    /// What has its place elsewhere in the file.
    fn more(self, setup: &Setup<'_>) -> &'static str {
        match self {
            Kind::Knot if setup.rate_limit == RateLimit::Tuned => "global-module: mod-rrl/default",
            // Without it, the bind backend knows no DNSSEC.
            Kind::Powerdns if setup.signed() => "bind-dnssec-db=dnssec.sqlite",
            _ => "",
        }
    }

    /// The zones in the server's own language.
    fn zone_list(self, zones: &[ZoneFile]) -> String {
        let mut list = if self == Kind::Knot { "zone:\n".to_owned() } else { String::new() };
        for ZoneFile { origin, path, changes, .. } in zones {
            let (origin, path) = (origin.as_str(), path.display());
            // UPDATE messages are taken only where records change during the run.
            let (bind, knot) = if *changes {
                (" allow-update { 127.0.0.1; };", "\n    acl: updates\n    journal-content: changes")
            } else {
                ("", "")
            };
            let written = match self {
                Kind::Nsd => writeln!(list, "zone:\n  name: \"{origin}\"\n  zonefile: \"{path}\""),
                Kind::Knot => writeln!(list, "  - domain: {origin}\n    file: \"{path}\"{knot}"),
                Kind::Bind => {
                    writeln!(list, "zone \"{origin}\" {{ type primary; file \"{path}\";{bind} }};")
                }
                Kind::Powerdns => {
                    writeln!(list, "zone \"{origin}\" {{ type master; file \"{path}\"; }};")
                }
                Kind::Godwit => writeln!(list, "{origin}\t{path}"),
                Kind::GodwitRun | Kind::Echo => Ok(()),
            };
            written.expect("writing to a String does not fail");
        }
        list
    }
}
