//! What may be set for `godwit run`: one typed structure made of the sections of both planes, read once, in the order
//! defaults < file < environment < command line.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use godwit_controlplane::config::load::Checked;
use godwit_controlplane::config::{
    Accounts, Api, Audit, Buffer, ConfigError, Defaults, Egress, Guard, Internal, Jobs, Jwt, Limits, Mail,
    Names, Relay, Sources, Store,
};
use godwit_dataplane::config::{Answers, Cookies, Feed, Log, Metrics, QueryLog, RateLimit, Tcp, Udp};
use serde::{Deserialize, Serialize};

use crate::cli;

/// Read when present and no other file is named.
const DEFAULT_FILE: &str = "/etc/godwit/godwit.toml";
/// Folder of the local snapshot, in the data folder.
const SNAPSHOT_FOLDER: &str = "snapshot";

/// Everything that may be set. `Config::default()` is what runs without any setting.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Addresses for DNS, workers, user.
    pub(super) server: Server,
    /// The API's listener and its limits.
    pub(super) api: Api,
    /// The listener that data planes on other machines ask. Off unless `internal.listen` is set.
    pub(super) internal: Internal,
    /// The data folder.
    pub(super) store: Store,
    /// What takes writes while the database server is away.
    pub(super) buffer: Buffer,
    /// What is done with changes before they are published.
    pub(super) relay: Relay,
    /// Who may have an account, and for how long they are logged in.
    pub(super) accounts: Accounts,
    /// The audit log.
    pub(super) audit: Audit,
    /// Tokens of who has logged in.
    pub(super) jwt: Jwt,
    /// How many requests somebody may send.
    pub(super) limits: Limits,
    /// Which names tenants make zones of.
    pub(super) names: Names,
    /// Calls to servers of others.
    pub(super) egress: Egress,
    /// What new zones start with.
    pub(super) defaults: Defaults,
    /// Which changes have to be confirmed.
    pub(super) guard: Guard,
    /// Work outside of requests.
    pub(super) jobs: Jobs,
    /// How mail is sent.
    pub(super) mail: Mail,
    /// What applying a change may take.
    pub(super) feed: Feed,
    /// Datagrams.
    pub(super) udp: Udp,
    /// Connections.
    pub(super) tcp: Tcp,
    /// What is answered.
    pub(super) answers: Answers,
    /// DNS cookies (RFC 7873).
    pub(super) cookies: Cookies,
    /// How many answers one client network gets over UDP.
    pub(super) rate_limit: RateLimit,
    /// Metrics and health of both planes over HTTP.
    pub(super) metrics: Metrics,
    /// Logs.
    pub(super) log: Log,
    /// The log of queries.
    pub(super) query_log: QueryLog,
}

/// `[server]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Server {
    /// Addresses with ports to answer at, each by UDP and TCP. Default: none given, which means 127.0.0.1:5300.
    pub(super) listen: Vec<SocketAddr>,
    /// Workers for UDP, and as many for TCP. Default: one per CPU that the process may use.
    pub(super) workers: Option<NonZeroUsize>,
    /// The user to become once all sockets are bound. Default: stay who we are.
    pub(super) user: Option<String>,
    /// Milliseconds that TCP connections get to end after a stop was asked for. Default 5000.
    pub(super) drain_timeout_ms: u64,
}

impl Default for Server {
    fn default() -> Self {
        let server = godwit_dataplane::config::Server::default();
        Server {
            listen: server.listen,
            workers: server.workers,
            user: server.user,
            drain_timeout_ms: server.drain_timeout_ms,
        }
    }
}

impl Checked for Config {
    const LISTS: &'static [&'static str] = &[
        "server.listen",
        "defaults.ns",
        "names.reserved",
        "names.resolvers",
        "rate_limit.exempt",
        "api.cors_origins",
        "api.trusted_proxies",
        "api.allow",
        "api.deny",
        "internal.allow",
        "internal.deny",
        "egress.allow",
        "egress.deny",
        "egress.resolvers",
    ];

    fn out_of_range(&self) -> Option<(String, &'static str)> {
        self.dataplane()
            .out_of_range()
            .or_else(|| self.controlplane().out_of_range())
            .map(|(key, expected)| (key.to_owned(), expected))
    }
}

impl Config {
    /// Reads all layers.
    ///
    /// # Errors
    /// The first thing that is wrong, with the place where it was written.
    pub(super) fn load(arguments: cli::Run) -> Result<Self, ConfigError> {
        let sources = Sources::of_process(arguments.config.clone(), DEFAULT_FILE);
        let mut config: Config = sources.load()?;
        config.override_with(arguments);
        if let Some((key, expected)) = config.out_of_range() {
            return Err(ConfigError::of_command_line(&key, expected));
        }
        match config.dataplane().missing().or_else(|| config.controlplane().missing()) {
            Some((key, expected)) => Err(ConfigError::of_configuration(key, expected)),
            None => Ok(config),
        }
    }

    /// Where the database is, for who works on it while the server is stopped.
    ///
    /// # Errors
    /// The first thing that is wrong, with the place where it was written.
    pub(crate) fn store(file: Option<PathBuf>, data: Option<PathBuf>) -> Result<Store, ConfigError> {
        let mut store = Sources::of_process(file, DEFAULT_FILE).load::<Config>()?.store;
        if let Some(data) = data {
            store.data = data;
        }
        Ok(store)
    }

    /// The same, and the file that says where the audit log stood.
    ///
    /// # Errors
    /// See there.
    pub(crate) fn audit(
        file: Option<PathBuf>,
        data: Option<PathBuf>,
    ) -> Result<(Store, PathBuf), ConfigError> {
        let mut config = Sources::of_process(file, DEFAULT_FILE).load::<Config>()?;
        if let Some(data) = data {
            config.store.data = data;
        }
        let anchors = config.controlplane().audit_anchors();
        Ok((config.store, anchors))
    }

    /// The command line is the last word; lists on it replace those from below.
    fn override_with(&mut self, arguments: cli::Run) {
        let cli::Run { data, config: _, dns, api, metrics, workers, check_config: _ } = arguments;
        if let Some(data) = data {
            self.store.data = data;
        }
        if !dns.is_empty() {
            self.server.listen = dns;
        }
        if let Some(api) = api {
            self.api.listen = api;
        }
        if metrics.is_some() {
            self.metrics.listen = metrics;
        }
        if workers.is_some() {
            self.server.workers = workers;
        }
    }

    /// The data plane's part.
    pub(super) fn dataplane(&self) -> godwit_dataplane::Config {
        let Server { listen, workers, user, drain_timeout_ms } = self.server.clone();
        godwit_dataplane::Config {
            server: godwit_dataplane::config::Server {
                listen,
                workers,
                user,
                drain_timeout_ms,
                state: Some(self.store.data.join(SNAPSHOT_FOLDER)),
                ..godwit_dataplane::config::Server::default()
            },
            feed: self.feed.clone(),
            udp: self.udp.clone(),
            tcp: self.tcp.clone(),
            answers: self.answers.clone(),
            cookies: self.cookies.clone(),
            rate_limit: self.rate_limit.clone(),
            metrics: self.metrics.clone(),
            log: self.log.clone(),
            query_log: self.query_log.clone(),
            ..godwit_dataplane::Config::default()
        }
    }

    /// The control plane's part. Its metrics are shown beside those of the data plane, its logs go the same way.
    pub(super) fn controlplane(&self) -> godwit_controlplane::Config {
        let listen = self.internal.listen.clone().unwrap_or_else(|| "off".to_owned());
        godwit_controlplane::Config {
            api: self.api.clone(),
            internal: Internal { listen: Some(listen), ..self.internal.clone() },
            store: self.store.clone(),
            buffer: self.buffer.clone(),
            relay: self.relay.clone(),
            limits: self.limits,
            defaults: self.defaults.clone(),
            guard: self.guard,
            jobs: self.jobs,
            audit: self.audit.clone(),
            names: self.names.clone(),
            egress: self.egress.clone(),
            mail: self.mail.clone(),
            accounts: self.accounts,
            jwt: self.jwt,
            ..godwit_controlplane::Config::default()
        }
    }

    /// The effective values as text that can be read back as a configuration file (JSON, which is YAML). Secrets
    /// stand in files of their own and are not in it.
    pub(super) fn to_text(&self) -> String {
        serde_json::to_string_pretty(self).expect("maps with text keys, numbers and text are always JSON")
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use godwit_controlplane::config::MailTransport;

    use super::*;

    fn run(arguments: &[&str]) -> cli::Run {
        match cli::Arguments::try_parse_from(["godwit", "run"].iter().chain(arguments)).unwrap().command {
            cli::Command::Run(run) => run,
            other => panic!("{other:?}"),
        }
    }

    fn loaded(text: &str, environment: &[(&str, &str)], arguments: &[&str]) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("godwit.toml");
        std::fs::write(&file, text).unwrap();
        let environment =
            environment.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        let sources = Sources { file: Some(file), default_file: None, environment };
        let prefix = format!("{}/", folder.path().display());
        let mut config: Config = sources.load().map_err(|error| error.to_string().replace(&prefix, ""))?;
        config.override_with(run(arguments));
        Ok(config)
    }

    #[test]
    fn later_layers_win_and_reach_their_plane() {
        let text = "[server]\nlisten = [\"127.0.0.1:1\"]\nworkers = 2\n[api]\nlisten = \"127.0.0.1:2\"\n\
                    [answers]\nnsid = \"ns1\"\n[defaults]\nns = [\"a.example.\"]\n";
        let environment = [
            ("GODWIT_SERVER__LISTEN", "127.0.0.1:3,[::1]:3"),
            ("GODWIT_STORE__READERS", "2"),
            ("GODWIT_JOBS__WORKERS", "3"),
            ("GODWIT_MAIL__TRANSPORT", "log"),
            ("GODWIT_MAIL__FROM", "dns@example.net"),
            ("GODWIT_RATE_LIMIT__EXEMPT", "192.0.2.0/24,2001:db8::/32"),
        ];
        let config = loaded(text, &environment, &["--data", "d", "--api", "127.0.0.1:4"]).unwrap();
        let (data, control) = (config.dataplane(), config.controlplane());
        assert_eq!(data.server.listen.len(), 2);
        assert_eq!(data.server.workers.unwrap().get(), 2);
        assert_eq!(data.server.state.unwrap().to_str(), Some("d/snapshot"));
        assert_eq!(data.answers.nsid.as_deref(), Some("ns1"));
        assert_eq!(data.rate_limit.exempt.len(), 2);
        assert_eq!((control.api.listen.port(), control.store.readers), (4, 2));
        assert_eq!(control.store.data.to_str(), Some("d"));
        assert_eq!(control.defaults.ns, ["a.example."]);
        assert_eq!((control.jobs.workers, control.mail.transport), (3, MailTransport::Log));
    }

    #[test]
    fn errors_name_file_line_and_what_was_expected() {
        for (text, environment, expected) in [
            ("[server]\nstate = \"x\"\n", ("", ""), "godwit.toml, line 2: server.state: unknown field"),
            (
                "[udp]\npayload_octets = 9\n",
                ("", ""),
                "godwit.toml, line 2: udp.payload_octets: expected 512 to 4096",
            ),
            ("[rate_limit]\nslip = 11\n", ("", ""), "godwit.toml, line 2: rate_limit.slip: expected 0 to 10"),
            ("[store]\nreaders = 0\n", ("", ""), "godwit.toml, line 2: store.readers: expected 1 to"),
            ("", ("GODWIT_API__LISTEN", "x"), "environment variable GODWIT_API__LISTEN: api.listen"),
        ] {
            let error = loaded(text, &[environment], &[]).unwrap_err();
            assert!(error.starts_with(expected), "{error}\nexpected: {expected}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn effective_values_can_be_read_back() {
        let config = loaded("[metrics]\nlisten = \"off\"\n", &[], &["--dns", "127.0.0.1:9"]).unwrap();
        let again: Config = serde_json::from_str(&config.to_text()).unwrap();
        assert_eq!(again.to_text(), config.to_text());
    }
}
