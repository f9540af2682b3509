//! The command line of `godwit-dataplane`. It only says what overrides the layers below; see `load`.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Parser;

use super::OrOff;

const EXAMPLES: &str = "\
Examples:
  godwit-dataplane --zone example.org=example.org.zone
      serve one zone file at 127.0.0.1:5300, by UDP and TCP
  godwit-dataplane --listen 0.0.0.0:53 --listen '[::]:53' --user nobody --zones /etc/godwit/zones
      serve every ORIGIN.zone file of a folder on all addresses, as nobody once the sockets are bound
  godwit-dataplane --state /var/lib/godwit/node --join @/etc/godwit/join
      be a node of a control plane, from a line that `godwit node add` prints
  godwit-dataplane --config /etc/godwit/dataplane.toml --check-config
      say what is wrong with a configuration, or print the values that would be used

Signals: SIGHUP reloads what changed, SIGTERM and SIGINT drain and stop, SIGUSR2 starts the program at the same
path, hands it the sockets and stops when it is ready.

Every setting may also come from the environment as GODWIT_SECTION__KEY, for example GODWIT_TCP__IDLE_TIMEOUT_MS.";

/// An authoritative DNS server: answers from zone files, or as a node of a control plane.
#[derive(Debug, Default, Parser)]
#[command(name = "godwit-dataplane", version, after_help = EXAMPLES)]
pub struct Arguments {
    /// Configuration file, TOML or YAML [default: /etc/godwit/dataplane.toml when present]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Address to answer at, by UDP and TCP; may be repeated [default: 127.0.0.1:5300]
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Vec<SocketAddr>,

    /// Serve a zone from a zone file; may be repeated
    #[arg(long, value_name = "NAME=FILE", value_parser = zone)]
    pub zone: Vec<(String, PathBuf)>,

    /// Serve many zones: a file of `origin<TAB>file` lines, or a folder of ORIGIN.zone files
    #[arg(long, value_name = "PATH")]
    pub zones: Option<PathBuf>,

    /// Workers for UDP, and as many for TCP [default: one per CPU]
    #[arg(long, value_name = "N")]
    pub workers: Option<NonZeroUsize>,

    /// Folder for the local snapshot
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,

    /// Take records from a control plane: the line that `godwit node add` prints; kept in --state
    #[arg(long, value_name = "STRING|@FILE")]
    pub join: Option<String>,

    /// Become this user once the sockets are bound
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,

    /// Where to serve metrics and health, or "off" [default: 127.0.0.1:9153 when free]
    #[arg(long, value_name = "ADDR:PORT|off")]
    pub metrics: Option<OrOff>,

    /// Check the configuration, print the values that would be used, and exit
    #[arg(long)]
    pub check_config: bool,
}

fn zone(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, file)) if !name.is_empty() && !file.is_empty() => {
            Ok((name.to_owned(), PathBuf::from(file)))
        }
        _ => Err("expected NAME=FILE, as in example.org=example.org.zone".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_bad_flag_names_itself() {
        for (arguments, expected) in [
            (["--listen", "localhost"], "--listen"),
            (["--zone", "example.org"], "NAME=FILE"),
            (["--workers", "0"], "--workers"),
            (["--metrics", "never"], "nor \"off\""),
        ] {
            let error = Arguments::try_parse_from(["godwit-dataplane"].iter().chain(&arguments)).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
    }
}
