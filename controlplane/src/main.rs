//! `godwit-controlplane`: arguments → configuration → run.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use godwit_controlplane::config::{ConfigError, Sources};
use godwit_controlplane::egress;
use godwit_controlplane::observe::{endpoint, log};
use godwit_controlplane::relay::shadow;
use godwit_controlplane::{Config, Controlplane, FirstStart, Program, on_signals};
use godwit_wire::presentation::Printable;
use tokio::signal::unix::{SignalKind, signal};

/// The API and the database of Godwit, without a data plane in the process.
#[derive(Debug, Parser)]
#[command(
    name = "godwit-controlplane",
    version,
    after_help = "\
Examples:
  godwit-controlplane
  godwit-controlplane --data /var/lib/godwit --api 127.0.0.1:8053
  GODWIT_STORE__URL=postgres://godwit@db.example.net/godwit godwit-controlplane
  godwit-controlplane --internal 192.0.2.10:8054
  godwit-controlplane migrate status --data /var/lib/godwit
  godwit-controlplane rotate-feed-key --data /var/lib/godwit
  GODWIT_API__LISTEN=127.0.0.1:9000 godwit-controlplane --check-config"
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Configuration file (TOML or YAML); /etc/godwit/controlplane.toml when present
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Folder of the database
    #[arg(long, value_name = "DIR", global = true)]
    data: Option<PathBuf>,
    /// Where the API listens
    #[arg(long, value_name = "ADDR:PORT")]
    api: Option<SocketAddr>,
    /// Where data planes on other machines ask, or off
    #[arg(long, value_name = "ADDR:PORT|off")]
    internal: Option<String>,
    /// Where metrics are served, or off
    #[arg(long, value_name = "ADDR:PORT|off")]
    metrics: Option<String>,
    /// Start a new generation and exit: data planes that have seen later changes than this database, because it was
    /// restored from a copy, take it as the truth
    #[arg(long)]
    new_generation: bool,
    /// Check the configuration, print the effective values, and exit
    #[arg(long)]
    check_config: bool,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum Command {
    /// The schema of the database, which every start brings up to date
    #[command(subcommand)]
    Migrate(Migrate),
    /// Make the feed's next key the one that signs, and a new next one; refused while a node does not know it
    RotateFeedKey,
    /// What judges changes before they are published; started by the program itself
    #[command(hide = true)]
    Shadow {
        /// Memory that it may take
        #[arg(long, value_name = "N")]
        memory_octets: u64,
    },
    /// What makes calls to servers of others; started by the program itself
    #[command(hide = true)]
    Egress,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum Migrate {
    /// Bring the schema up to date, and exit
    Up,
    /// List the steps of the schema and whether the database has them
    Status,
}

const DEFAULT_METRICS: &str = "127.0.0.1:9154";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(Command::Shadow { memory_octets }) = arguments.command {
        return shadow::child::main(memory_octets);
    }
    if let Some(Command::Egress) = arguments.command {
        return egress::child::main();
    }
    let (check, new_generation, command) =
        (arguments.check_config, arguments.new_generation, arguments.command);
    let config = match configure(arguments) {
        Ok(config) => config,
        Err(error) => {
            say(Printable(&error.to_string()));
            return ExitCode::from(2);
        }
    };
    if check {
        return match serde_json::to_string_pretty(&config) {
            Ok(text) => {
                let _ = writeln!(std::io::stdout().lock(), "{text}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                say(error);
                ExitCode::FAILURE
            }
        };
    }
    let done = match command {
        Some(Command::Migrate(migrate)) => migrated(&config, migrate),
        Some(Command::RotateFeedKey) => rotate_feed_key(&config),
        // Not reached: they were seen to before the configuration was read.
        Some(Command::Shadow { .. } | Command::Egress) => Ok(()),
        None if new_generation => start_generation(&config),
        None => run(config),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(format_args!("godwit-controlplane: {}", Printable(&format!("{error:#}"))));
            ExitCode::FAILURE
        }
    }
}

/// Says a line on standard error. Whoever closed it does not want to know, which is no reason to stop.
fn say(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

fn configure(arguments: Arguments) -> Result<Config, ConfigError> {
    let sources = Sources::of_process(arguments.config, "/etc/godwit/controlplane.toml");
    let mut config: Config = sources.load()?;
    if let Some(data) = arguments.data {
        config.store.data = data;
    }
    if let Some(api) = arguments.api {
        config.api.listen = api;
    }
    if arguments.internal.is_some() {
        config.internal.listen = arguments.internal;
    }
    if arguments.metrics.is_some() {
        config.metrics.listen = arguments.metrics;
    }
    if let Some((key, expected)) = config.out_of_range() {
        return Err(ConfigError::of_command_line(key, expected));
    }
    match config.missing() {
        Some((key, expected)) => Err(ConfigError::of_configuration(key, expected)),
        None => Ok(config),
    }
}

fn start_generation(config: &Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    runtime.block_on(Controlplane::start_generation(&config.store))
}

fn rotate_feed_key(config: &Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    runtime.block_on(Controlplane::rotate_feed_key(&config.store))
}

fn migrated(config: &Config, migrate: Migrate) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    let steps = runtime.block_on(async {
        match migrate {
            Migrate::Up => Controlplane::migrate(&config.store).await,
            Migrate::Status => Controlplane::schema(&config.store).await,
        }
    })?;
    let mut out = std::io::stdout().lock();
    for step in steps {
        let state = if step.applied { "applied" } else { "pending" };
        writeln!(out, "{:04} {state} {}", step.number, step.name).context("standard output")?;
    }
    Ok(())
}

/// At each SIGHUP, has what changed in files looked at now, and not a moment later.
fn reload_on_hangup(reload: impl Fn() + Send + 'static) -> anyhow::Result<()> {
    let mut hangup = signal(SignalKind::hangup()).context("listening for signals")?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            reload();
        }
    });
    Ok(())
}

fn run(config: Config) -> anyhow::Result<()> {
    log::start(&config.log.filter)?;
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    runtime.block_on(async {
        // Before anything else: a start may wait for the database, and is ended as a run is.
        let mut stop = on_signals()?;
        let metrics_address = config.metrics_address(DEFAULT_METRICS)?;
        let shadow = Program::of_this_process(&["shadow"]).context("which program this is")?;
        let egress = Program::of_this_process(&["egress"]).context("which program this is")?;
        let opened = tokio::select! {
            opened = Controlplane::open(config, FirstStart::Empty, None) => opened?,
            _ = stop.wait_for(|stop| *stop) => {
                tracing::info!("stopped before it had started");
                return Ok(());
            }
        };
        let controlplane = opened.shadowed_by(shadow).calling_by(egress);
        if let Some(token) = controlplane.new_token() {
            let shown = writeln!(std::io::stdout().lock(), "admin token: {}", token.reveal());
            shown.context("the admin token could not be printed; `godwit token create` makes another")?;
        }
        say(format_args!("api: {}://{}", controlplane.api_scheme(), controlplane.api_address()?));
        reload_on_hangup(controlplane.reloads())?;
        if let Some(address) = metrics_address {
            let bound =
                endpoint::serve(address, controlplane.metrics().registry(), controlplane.metrics()).await?;
            say(format_args!("metrics: http://{bound}/metrics"));
        }
        if let Some(address) = controlplane.internal_address()? {
            say(format_args!("internal: https://{address}"));
        }
        controlplane.serve(None, stop).await
    })
}
