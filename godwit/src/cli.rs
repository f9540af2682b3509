//! The command line. What each command does is in `commands/` and `run/`.

mod keys;
mod people;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use godwit_dataplane::config::OrOff;

pub(crate) use keys::Keys;
pub(crate) use people::{Key, LogIn, Narrowed, Token, User, Whose};

const EXAMPLES: &str = "\
Examples:
  godwit run                                        serve DNS at 127.0.0.1:5300 and the API at 127.0.0.1:8053
  export GODWIT_TOKEN=gw_…                          the token that the first start printed
  godwit record set www.example.com A 192.0.2.99    answered as soon as this returns
  godwit zone check example.org.zone                what is wrong with a zone file, by line
  godwit import /etc/nsd/zones                      bring in every ORIGIN.zone file of a folder
  godwit export example.com -o example.com.zone     the zone as a zone file

Exit codes: 0 done, 1 failed, 2 wrong flag or configuration.";

/// Answers DNS from records that change through an API.
#[derive(Debug, Parser)]
#[command(name = "godwit", version, after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Arguments {
    /// Print results, and errors, as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start both planes with all data in one folder
    Run(Run),
    /// Check zone files; list, create and delete zones
    #[command(subcommand)]
    Zone(Zone),
    /// Make or replace zones from zone files, through the API
    Import(Import),
    /// Write a zone as a zone file
    Export(Export),
    /// Set, delete and list records
    #[command(subcommand)]
    Record(Record),
    /// Make every zone what it was after a sequence
    Rollback(RollbackAll),
    /// Add, list and remove data planes on other machines
    #[command(subcommand)]
    Node(Node),
    /// Add, list, suspend and remove users; register as one
    #[command(subcommand)]
    User(User),
    /// Add, list and remove the keys with which you sign tokens
    #[command(subcommand)]
    Key(Key),
    /// List and change what secrets in the database are sealed with
    #[command(subcommand)]
    Keys(Keys),
    /// Make, list and revoke tokens; sign them with a key
    #[command(subcommand)]
    Token(Token),
    /// Back up the database, check backups, and put them back
    #[command(subcommand)]
    Backup(Backup),
    /// Check that the audit log is as it was written
    #[command(subcommand)]
    Audit(Audit),
    /// What judges changes before they are published; started by `godwit run` itself
    #[command(hide = true)]
    Shadow {
        /// Memory that it may take
        #[arg(long, value_name = "N")]
        memory_octets: u64,
    },
    /// What makes calls to servers of others; started by `godwit run` itself
    #[command(hide = true)]
    Egress,
}

/// Where the database is.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// Folder of the database [default: ./godwit-data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Configuration of the server, where it says where the database is; /etc/godwit/godwit.toml when present
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Check each row of the audit log, their order, and that its end is where it was; the server may run
    #[command(after_help = "\
It needs the database, and the key that secrets are sealed with (secrets.key in the data folder). That the end was cut off is seen by
the anchors: the file audit-anchors.jsonl in the data folder, or copies of it that are kept elsewhere. With several servers on one
database each has such a file: name all of them.

Exit codes: 0 whole, 1 not, or it could not be checked.

Examples:
  godwit audit verify --data /var/lib/godwit
  godwit audit verify --config /etc/godwit/godwit.toml --anchors a/audit-anchors.jsonl --anchors b/audit-anchors.jsonl")]
    Verify {
        /// Anchors; may be repeated [default: the file that the configuration names, where it is there]
        #[arg(long, value_name = "FILE")]
        anchors: Vec<PathBuf>,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Backup {
    /// Write all that the database holds to one file, from one moment; the server may run
    #[command(after_help = "\
The key that secrets are sealed with (secrets.key in the data folder) is not in it: keep a copy of that elsewhere.

Example:
  godwit backup create --out godwit.backup --data /var/lib/godwit")]
    Create {
        /// The file, which is there whole or not at all; - is standard output
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Check all of a backup, the digests of its zones included, and say what it holds
    Verify {
        /// The backup
        file: PathBuf,
    },
    /// Put a backup into a database without zones, of either kind; every server on it must be stopped. Data planes that
    /// have seen later changes follow it
    #[command(after_help = "\
Example:
  godwit backup restore godwit.backup --data /var/lib/godwit")]
    Restore {
        /// The backup
        file: PathBuf,
        /// Also where the database holds zones: all zones, tokens, nodes, history and the audit log that it has are lost
        #[arg(long)]
        replace: bool,
        #[command(flatten)]
        place: Place,
    },
}

const RUN_EXAMPLES: &str = "\
The first start makes the database and an example zone (example.com), and prints on standard output one line,
\"admin token: gw_…\". It is not shown again; `godwit token create` makes another.

Examples:
  godwit run
      data in ./godwit-data, DNS at 127.0.0.1:5300, the API at http://127.0.0.1:8053 (browse it at /docs)
  godwit run --data /var/lib/godwit --dns 0.0.0.0:53 --dns '[::]:53'
      answer on all addresses; server.user in the configuration names a user to become once the sockets are bound
  godwit run --config godwit.toml --check-config
      say what is wrong with a configuration, or print the values that would be used

Signals: SIGTERM and SIGINT drain and stop, a second one stops at once.

Every setting may also come from the environment as GODWIT_SECTION__KEY, for example GODWIT_API__LISTEN.";

#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLES)]
pub(crate) struct Run {
    /// Folder of the database and the local snapshot [default: ./godwit-data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,

    /// Configuration file, TOML or YAML [default: /etc/godwit/godwit.toml when present]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Address to answer DNS at, by UDP and TCP; may be repeated [default: 127.0.0.1:5300]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) dns: Vec<SocketAddr>,

    /// Where the API listens [default: 127.0.0.1:8053]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) api: Option<SocketAddr>,

    /// Where to serve metrics and health of both planes, or "off" [default: 127.0.0.1:9153 when free]
    #[arg(long, value_name = "ADDR:PORT|off")]
    pub(crate) metrics: Option<OrOff>,

    /// Workers for UDP, and as many for TCP [default: one per CPU]
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<NonZeroUsize>,

    /// Check the configuration, print the values that would be used, and exit
    #[arg(long)]
    pub(crate) check_config: bool,
}

/// How to reach the API.
#[derive(Clone, Debug, Args)]
pub(crate) struct Target {
    /// The API
    #[arg(long, value_name = "URL", env = "GODWIT_URL", default_value = "http://127.0.0.1:8053")]
    pub(crate) url: String,

    /// A file with the certificates that the API's comes from (PEM), where the system does not know them
    #[arg(long, value_name = "FILE", env = "GODWIT_CA")]
    pub(crate) ca: Option<PathBuf>,

    /// The token; better given as GODWIT_TOKEN or --token-file, since others may see the command line
    #[arg(
        long,
        value_name = "TOKEN",
        env = "GODWIT_TOKEN",
        hide_env_values = true,
        conflicts_with = "token_file"
    )]
    pub(crate) token: Option<String>,

    /// A file with the token, alone or as `godwit run` printed it
    #[arg(long, value_name = "FILE", env = "GODWIT_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Zone {
    /// Say everything that is wrong with a zone file; needs no server
    #[command(after_help = "\
Examples:
  godwit zone check example.org.zone
  godwit zone check --origin example.org db.external")]
    Check(ZoneCheck),
    /// List the zones
    List {
        #[command(flatten)]
        target: Target,
    },
    /// Create a zone with nothing but SOA and NS
    #[command(after_help = "\
Example:
  godwit zone create example.org --ns ns1.example.net --ns ns2.example.net")]
    Create(ZoneCreate),
    /// Delete a zone with all its records
    Delete {
        /// Its apex
        zone: String,
        /// How many names it has, where it has records: what the refusal says without
        #[arg(long, value_name = "NAMES")]
        confirm: Option<u64>,
        /// Change nothing, and say which answers would change
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        target: Target,
    },
    /// List the versions of a zone that are kept, the newest first; of one that was deleted too
    Versions {
        /// Its apex
        zone: String,
        #[command(flatten)]
        target: Target,
    },
    /// Make a zone what it was; one that was deleted is there again
    #[command(after_help = "\
The zone gets a new version with the records, TTLs and SOA that it had; its serial goes on.

Examples:
  godwit zone versions example.com
  godwit zone rollback example.com --to 17 --dry-run
  godwit zone rollback example.com --at 2026-11-20T19:00:00Z")]
    Rollback(ZoneRollback),
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("state").required(true))]
pub(crate) struct ZoneRollback {
    /// Its apex
    pub(crate) zone: String,
    /// A version of it
    #[arg(long, value_name = "VERSION", group = "state")]
    pub(crate) to: Option<u64>,
    /// A time (RFC 3339)
    #[arg(long, value_name = "TIME", group = "state")]
    pub(crate) at: Option<String>,
    /// How many names it costs, where that is much of a large zone: what the refusal says without
    #[arg(long, value_name = "NAMES")]
    pub(crate) confirm: Option<u64>,
    /// Change nothing, and say which answers would change
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Everything that was changed after the sequence is taken back, whoever changed it: zones made since are removed, zones deleted
since are there again. It is one change; where that would be more than 500,000 RRsets or 10,000 zones it is several, of which
each is whole. When it is interrupted, run it again with the same sequence: it goes on with what is missing.

It says what would change and asks. Where nobody can answer it needs --confirm.

Examples:
  godwit zone versions example.com          which sequence a change had
  godwit rollback --to 4711 --dry-run
  godwit rollback --to 4711 --confirm")]
pub(crate) struct RollbackAll {
    /// The sequence of the last change that shall count
    #[arg(long, value_name = "SEQUENCE")]
    pub(crate) to: u64,
    /// Do not ask
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) confirm: bool,
    /// Change nothing, and say what would change
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Debug, Args)]
pub(crate) struct ZoneCheck {
    /// The zone file
    pub(crate) file: PathBuf,
    /// The zone's apex [default: from the file's name (ORIGIN.zone, db.ORIGIN) or its first $ORIGIN]
    #[arg(long, value_name = "NAME")]
    pub(crate) origin: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ZoneCreate {
    /// Its apex
    pub(crate) zone: String,
    /// A name server of it; may be repeated [default: those of the configuration]
    #[arg(long, value_name = "NAME")]
    pub(crate) ns: Vec<String>,
    #[command(flatten)]
    pub(crate) target: Target,
}

/// The longest request for zone files and changes that the API takes.
const MAX_REQUEST: u64 = 32 << 20;

#[derive(Debug, Args)]
#[command(after_help = "\
The zone becomes exactly what the file says, TTLs included. Importing the same file again changes nothing. A file too
large for one request goes in several changes, of which each is whole; when that is interrupted, import again: only
what is missing is sent.

Examples:
  godwit import example.org.zone
  godwit import db.external --zone example.org
  godwit import /etc/nsd/zones")]
pub(crate) struct Import {
    /// A zone file, or a folder of ORIGIN.zone files
    pub(crate) path: PathBuf,
    /// The zone's apex, for a file [default: from the file's name (ORIGIN.zone, db.ORIGIN) or its first $ORIGIN]
    #[arg(long, value_name = "NAME")]
    pub(crate) zone: Option<String>,
    /// Send requests of at most about so many octets, for an API behind something that takes less than it does
    #[arg(long, value_name = "OCTETS", default_value_t = MAX_REQUEST, value_parser = clap::value_parser!(u64).range(1024..=MAX_REQUEST))]
    pub(crate) max_request: u64,
    /// How many names a zone loses or has changed, where that is much of it: what the refusal says without
    #[arg(long, value_name = "NAMES")]
    pub(crate) confirm: Option<u64>,
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The zone's apex
    pub(crate) zone: String,
    /// The zone as it was: in a version, like 17, or at a time, like 2026-11-20T19:00:00Z
    #[arg(long, value_name = "VERSION|TIME")]
    pub(crate) at: Option<String>,
    /// Write to this file, whole or not at all [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Record {
    /// Create or replace the records of one name and type; returns when they are served
    #[command(after_help = "\
Examples:
  godwit record set www.example.com A 192.0.2.1 192.0.2.2 --ttl 60
  godwit record set example.com MX '10 mail.example.com.'
  godwit record set www --zone example.com TXT '\"hello world\"'")]
    Set(RecordSet),
    /// Delete the records of a name, or those of one type
    Delete(RecordDelete),
    /// List records
    List(RecordList),
}

#[derive(Debug, Args)]
pub(crate) struct RecordSet {
    /// Owner name; absolute unless --zone is given
    pub(crate) name: String,
    /// Type, as A or TYPE65280
    #[arg(value_name = "TYPE")]
    pub(crate) rtype: String,
    /// Values in presentation format: `"10 mail.example.com."` for MX, and a text as `'"v=spf1 mx -all"'`, quotes and all
    #[arg(required = true)]
    pub(crate) value: Vec<String>,
    /// Seconds, 60 to 86400 [default: that of the records before, or 300]
    #[arg(long)]
    pub(crate) ttl: Option<u32>,
    /// The zone that names are relative to (unless they end in a dot)
    #[arg(long)]
    pub(crate) zone: Option<String>,
    /// Change nothing, and say which answers would change
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Debug, Args)]
pub(crate) struct RecordDelete {
    /// Owner name; absolute unless --zone is given
    pub(crate) name: String,
    /// Type [default: all types]
    #[arg(value_name = "TYPE")]
    pub(crate) rtype: Option<String>,
    /// The zone that the name is relative to (unless it ends in a dot)
    #[arg(long)]
    pub(crate) zone: Option<String>,
    /// Change nothing, and say which answers would change
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Debug, Args)]
pub(crate) struct RecordList {
    /// Records of this zone only
    pub(crate) zone: Option<String>,
    /// Records of this type only
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) rtype: Option<String>,
    /// The zone as it was: in a version, like 17, or at a time, like 2026-11-20T19:00:00Z
    #[arg(long, value_name = "VERSION|TIME", requires = "zone")]
    pub(crate) at: Option<String>,
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Node {
    /// Add a data plane, and print what it has to be told to join: one line, not to be had again
    #[command(after_help = "\
The line holds the token of the node: whoever has it is given every zone. The server needs internal.listen.

Example:
  (umask 077 && godwit node add ns1 > ns1.join)
  godwit-dataplane --listen 192.0.2.53:53 --state /var/lib/godwit --join @ns1.join")]
    Add {
        /// Its name: letters, digits and hyphens
        name: String,
        #[command(flatten)]
        target: Target,
    },
    /// List the data planes: who lives, and how far each has come
    List {
        #[command(flatten)]
        target: Target,
    },
    /// Remove a data plane: its token is refused within a second. It goes on answering from what it has
    Remove {
        /// Its name
        name: String,
        #[command(flatten)]
        target: Target,
    },
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
            (&["run", "--dns", "localhost"][..], "--dns"),
            (&["run", "--workers", "0"], "--workers"),
            (&["run", "--metrics", "never"], "nor \"off\""),
            (&["record", "set", "www.example.com.", "A"], "<VALUE>"),
            (&["zone", "list", "--token", "a", "--token-file", "b"], "--token-file"),
            (&["zone", "rollback", "example.com"], "--to"),
            (&["zone", "rollback", "example.com", "--to", "1", "--at", "t"], "--at"),
            (&["rollback"], "--to"),
        ] {
            let error = Arguments::try_parse_from(["godwit"].iter().chain(arguments)).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
    }
}
