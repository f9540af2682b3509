//! Layers: defaults < file < environment < command line. A wrong value is reported with the place where it was
//! written: file and line, variable, or flag.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use config::{Environment, File, FileFormat};

use super::Config;
use super::cli::Arguments;
use crate::source::Sources;

/// Read when present and no other file is named.
pub const DEFAULT_FILE: &str = "/etc/godwit/dataplane.toml";
const PREFIX: &str = "GODWIT";
const SEPARATOR: &str = "__";

/// What the configuration is made of.
#[derive(Debug, Default)]
pub struct Layers {
    /// A file that must exist.
    pub file: Option<PathBuf>,
    /// A file that is read when it exists and no other is named.
    pub default_file: Option<PathBuf>,
    /// The environment: names and values.
    pub environment: HashMap<String, String>,
    /// The command line.
    pub arguments: Arguments,
}

/// Something in the configuration is wrong: one line with the place, the key and what was expected.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfigError {
    place: String,
    key: Option<String>,
    reason: String,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.reason)
    }
}

/// Reads all layers.
///
/// # Errors
/// The first thing that is wrong, the lowest layer first.
pub fn load(layers: Layers) -> Result<Config, ConfigError> {
    let file = read_file(&layers)?;
    let mut builder = config::Config::builder();
    if let Some(file) = &file {
        let source = File::from_str(&file.text, file.format);
        // Alone first: what is wrong then is in this file.
        let alone = config::Config::builder().add_source(source.clone()).build();
        let checked = alone.and_then(config::Config::try_deserialize::<Config>);
        check(checked, |key| file.place(key))?;
        builder = builder.add_source(source);
    }
    let environment = || environment(&layers.environment);
    let alone = config::Config::builder().add_source(environment()).build();
    check(alone.and_then(config::Config::try_deserialize::<Config>), variable)?;
    builder = builder.add_source(environment());

    let merged = builder.build().and_then(config::Config::try_deserialize::<Config>);
    let mut config = check_value(merged).map_err(|(key, reason)| ConfigError {
        place: "configuration".to_owned(),
        key,
        reason,
    })?;
    config.file = file.map(|file| file.path);
    named_once(&layers.arguments.zone)?;
    override_with(&mut config, layers.arguments);
    if let Some((key, expected)) = config.out_of_range() {
        return Err(ConfigError {
            place: "command line".to_owned(),
            key: Some(key.to_owned()),
            reason: format!("expected {expected}"),
        });
    }
    if let Err(error) = Sources::new(&config.zones.files, None) {
        let (place, key) = ("configuration".to_owned(), Some("zones.files".to_owned()));
        return Err(ConfigError { place, key, reason: error.to_string() });
    }
    if let Some((key, expected)) = config.missing() {
        let (place, key) = ("configuration".to_owned(), Some(key.to_owned()));
        return Err(ConfigError { place, key, reason: format!("expected {expected}") });
    }
    Ok(config)
}

/// A configuration file that was read.
struct Text {
    path: PathBuf,
    text: String,
    format: FileFormat,
}

impl Text {
    /// File and, when the key is found in it, line.
    fn place(&self, key: Option<&str>) -> String {
        let path = self.path.display();
        match key.and_then(|key| line_of(&self.text, key)) {
            Some(line) => format!("{path}, line {line}"),
            None => path.to_string(),
        }
    }
}

fn read_file(layers: &Layers) -> Result<Option<Text>, ConfigError> {
    let fallback = || layers.default_file.as_ref().filter(|path| path.exists());
    let Some(path) = layers.file.as_ref().or_else(fallback) else { return Ok(None) };
    let failed = |reason: String| ConfigError { place: path.display().to_string(), key: None, reason };
    let text = std::fs::read_to_string(path).map_err(|error| failed(format!("cannot be read: {error}")))?;
    let format = match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => FileFormat::Toml,
        Some("yaml" | "yml" | "json") => FileFormat::Yaml,
        _ => return Err(failed("expected a name that ends in .toml, .yaml or .yml".to_owned())),
    };
    Ok(Some(Text { path: path.clone(), text, format }))
}

/// Only names with a section: other programs' variables, and our own that are no settings, have none.
fn environment(variables: &HashMap<String, String>) -> Environment {
    let settings = variables
        .iter()
        .filter(|(name, _)| {
            name.strip_prefix(PREFIX)
                .and_then(|rest| rest.strip_prefix('_'))
                .is_some_and(|key| key.contains(SEPARATOR))
        })
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    Environment::with_prefix(PREFIX)
        .prefix_separator("_")
        .separator(SEPARATOR)
        .list_separator(",")
        .with_list_parse_key("server.listen")
        .with_list_parse_key("sandbox.read")
        .with_list_parse_key("sandbox.write")
        .with_list_parse_key("rate_limit.exempt")
        .try_parsing(true)
        .source(Some(settings))
}

fn variable(key: Option<&str>) -> String {
    match key {
        Some(key) => format!("environment variable {PREFIX}_{}", key.replace('.', SEPARATOR).to_uppercase()),
        None => "environment".to_owned(),
    }
}

fn check(
    result: Result<Config, config::ConfigError>,
    place: impl Fn(Option<&str>) -> String,
) -> Result<(), ConfigError> {
    let wrong = match check_value(result) {
        Ok(config) => match config.out_of_range() {
            Some((key, expected)) => (Some(key.to_owned()), format!("expected {expected}")),
            None => return Ok(()),
        },
        Err(wrong) => wrong,
    };
    Err(ConfigError { place: place(wrong.0.as_deref()), key: wrong.0, reason: wrong.1 })
}

/// Takes the key out of the library's error, and what is wrong with it as one line.
fn check_value(result: Result<Config, config::ConfigError>) -> Result<Config, (Option<String>, String)> {
    use config::ConfigError as Error;
    result.map_err(|error| match error {
        Error::Type { key, unexpected, expected, .. } => {
            (key, format!("expected {expected}, not {unexpected}"))
        }
        Error::At { error, key, .. } => {
            let reason = one_line(&error.to_string());
            (unknown_field(key.as_deref(), &reason).or(key), reason)
        }
        Error::Message(reason) => (unknown_field(None, &reason), one_line(&reason)),
        Error::FileParse { cause, .. } => (None, one_line(&cause.to_string())),
        other => (None, one_line(&other.to_string())),
    })
}

/// The full key of an unknown field: the library names the section only.
fn unknown_field(section: Option<&str>, reason: &str) -> Option<String> {
    let field = reason.strip_prefix("unknown field `")?.split('`').next()?;
    Some(match section {
        Some(section) => format!("{section}.{field}"),
        None => field.to_owned(),
    })
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The line on which `section.key` is set, counted from 1; that of the section when the key stands alone.
///
/// Understands what configuration files are made of: TOML's `[section]`, `section.key =`, and YAML's nesting.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let key = key.split('[').next().unwrap_or(key);
    let (section, field) = key.split_once('.').unwrap_or(("", key));
    let mut current = String::new();
    for (line, number) in text.lines().zip(1..) {
        let indented = line.starts_with([' ', '\t']);
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            header.trim().clone_into(&mut current);
            if section.is_empty() && current == field || current == key {
                return Some(number);
            }
            continue;
        }
        let name =
            line.split(['=', ':']).next().unwrap_or_default().trim().trim_matches(['"', '\'', '{', ' ']);
        if name.is_empty() || line.starts_with('#') {
            continue;
        }
        if name == key || (current == section && name == field) {
            return Some(number);
        }
        if !indented && line.ends_with(':') {
            name.clone_into(&mut current);
            if section.is_empty() && name == field {
                return Some(number);
            }
        }
    }
    None
}

/// Of a zone that is named twice on the command line nobody can say which file is meant.
fn named_once(zones: &[(String, PathBuf)]) -> Result<(), ConfigError> {
    let twice =
        zones.iter().enumerate().find(|(at, (name, _))| zones[..*at].iter().any(|(other, _)| other == name));
    match twice {
        None => Ok(()),
        Some((_, (name, file))) => Err(ConfigError {
            place: "command line".to_owned(),
            key: Some("--zone".to_owned()),
            reason: format!("{name} is named twice, the second time as {}", file.display()),
        }),
    }
}

/// The command line is the last word; lists on it replace those from below.
fn override_with(config: &mut Config, arguments: Arguments) {
    if !arguments.listen.is_empty() {
        config.server.listen = arguments.listen;
    }
    if !arguments.zone.is_empty() || arguments.zones.is_some() {
        config.zones.files = arguments.zone.into_iter().collect();
        config.zones.path = arguments.zones;
    }
    if arguments.workers.is_some() {
        config.server.workers = arguments.workers;
    }
    if arguments.join.is_some() {
        config.server.join = arguments.join;
    }
    if arguments.state.is_some() {
        config.server.state = arguments.state;
    }
    if arguments.user.is_some() {
        config.server.user = arguments.user;
    }
    if arguments.metrics.is_some() {
        config.metrics.listen = arguments.metrics;
    }
}

/// The layers of a program start.
impl Layers {
    /// The default file, this process' environment, and the command line.
    #[must_use]
    pub fn of_process(arguments: Arguments) -> Self {
        Layers {
            file: arguments.config.clone(),
            default_file: Some(Path::new(DEFAULT_FILE).to_path_buf()),
            // Settings are text; a variable that is not cannot be one.
            environment: std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
            arguments,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::config::{Any, OrOff};

    fn layers(
        name: &str,
        text: &str,
        environment: &[(&str, &str)],
        arguments: &[&str],
    ) -> (tempfile::TempDir, Layers) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        let layers = Layers {
            file: Some(file),
            default_file: None,
            environment: environment
                .iter()
                .map(|&(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            arguments: Arguments::parse_from(["godwit-dataplane"].iter().chain(arguments)),
        };
        (folder, layers)
    }

    fn loaded(
        name: &str,
        text: &str,
        environment: &[(&str, &str)],
        arguments: &[&str],
    ) -> Result<Config, String> {
        let (folder, layers) = layers(name, text, environment, arguments);
        let prefix = format!("{}/", folder.path().display());
        load(layers).map_err(|error| error.to_string().replace(&prefix, ""))
    }

    #[test]
    fn a_zone_has_a_name_and_one_file() {
        for (arguments, reason) in [
            (
                ["--zone", "a.test=a", "--zone", "a.test=b"],
                "command line: --zone: a.test is named twice, the second time as b",
            ),
            (
                ["--zone", "a.test=a", "--zone", "A.test.=b"],
                "configuration: zones.files: zone a.test.: a: the zone is also given as b",
            ),
            (
                ["--zone", "a.test=a", "--zone", "a..test=b"],
                "configuration: zones.files: b: \"a..test\" is not a domain name to serve it as",
            ),
        ] {
            assert_eq!(loaded("a.toml", "", &[], &arguments).unwrap_err(), reason);
        }
    }

    #[test]
    fn later_layers_win() {
        let text = "[server]\nlisten = [\"127.0.0.1:1\"]\nworkers = 2\n[tcp]\nidle_timeout_ms = 2000\nmax_connections = 5\n\
                    [answers]\nany = \"full\"\n[zones.files]\n\"example.org\" = \"a\"\n";
        let environment =
            [("GODWIT_TCP__IDLE_TIMEOUT_MS", "3000"), ("GODWIT_SEED", "7"), ("GODWIT_SERVER__WORKERS", "3")];
        let config = loaded("a.toml", text, &environment, &["--workers", "4", "--metrics", "off"]).unwrap();
        assert_eq!(config.server.listen, ["127.0.0.1:1".parse().unwrap()]);
        assert_eq!((config.tcp.idle_timeout_ms, config.tcp.max_connections), (3000, 5));
        assert_eq!(config.server.workers.unwrap().get(), 4);
        assert_eq!(config.metrics.listen, Some(OrOff::Off));
        assert_eq!(config.answers.any, Any::Full);
        assert_eq!(config.zones.files["example.org"], Path::new("a"));
        assert_eq!(config.tcp.message_deadline_ms, 500);
        let yaml = "server:\n  listen: ['127.0.0.1:1', '[::1]:2']\ncookies:\n  require: true\n";
        let config =
            loaded("a.yaml", yaml, &[("GODWIT_SERVER__LISTEN", "127.0.0.1:8,127.0.0.1:9")], &[]).unwrap();
        assert_eq!(config.server.listen.len(), 2);
        assert_eq!(config.server.listen[1].port(), 9);
        assert!(config.cookies.require);
        let exempt = [("GODWIT_RATE_LIMIT__EXEMPT", "192.0.2.0/24,2001:db8::/32")];
        let config = loaded("a.toml", "[rate_limit]\nmode = \"log-only\"\n", &exempt, &[]).unwrap();
        assert_eq!(config.rate_limit.mode, crate::config::Mode::LogOnly);
        assert_eq!(config.rate_limit.exempt.len(), 2);
    }

    #[test]
    fn errors_name_the_place_and_what_was_expected() {
        for (name, text, environment, expected) in [
            (
                "a.toml",
                "[tcp]\nidle_timeout_ms = 10\n",
                ("", ""),
                "a.toml, line 2: tcp.idle_timeout_ms: expected at least 100",
            ),
            (
                "a.toml",
                "# c\n[tcp]\nmax_connections = \"many\"\n",
                ("", ""),
                "a.toml, line 3: tcp.max_connections: expected an integer, not string \"many\"",
            ),
            ("a.toml", "[udp]\nsteering = \"x\"\n", ("", ""), "a.toml, line 2: udp.steering: "),
            ("a.toml", "[server]\nlisten = [\"nowhere\"]\n", ("", ""), "a.toml, line 2: server.listen"),
            (
                "a.toml",
                "[tcp]\nidle_timout_ms = 1\n",
                ("", ""),
                "a.toml, line 2: tcp.idle_timout_ms: unknown field",
            ),
            ("a.toml", "[tcpp]\n", ("", ""), "a.toml, line 1: tcpp: unknown field"),
            ("a.toml", "[tcp\n", ("", ""), "a.toml: TOML parse error at line 1"),
            (
                "a.yaml",
                "tcp:\n  idle_timout_ms: 1\n",
                ("", ""),
                "a.yaml, line 2: tcp.idle_timout_ms: unknown field",
            ),
            (
                "a.toml",
                "[rate_limit]\nslip = 11\n",
                ("", ""),
                "a.toml, line 2: rate_limit.slip: expected 0 to 10",
            ),
            (
                "a.toml",
                "[rate_limit]\nexempt = [\"192.0.2.0/33\"]\n",
                ("", ""),
                "a.toml, line 2: rate_limit.exempt",
            ),
            ("a.ini", "", ("", ""), "a.ini: expected a name that ends in"),
            (
                "a.toml",
                "",
                ("GODWIT_TCP__MAX_CONNECTIONS", "x"),
                "environment variable GODWIT_TCP__MAX_CONNECTIONS: tcp.max_connections: expected an integer",
            ),
            (
                "a.toml",
                "",
                ("GODWIT_TPC__MAX_CONNECTIONS", "1"),
                "environment variable GODWIT_TPC: tpc: unknown field",
            ),
        ] {
            let error = loaded(name, text, &[environment], &[]).unwrap_err();
            assert!(error.starts_with(expected), "{error}\nexpected: {expected}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_named_file_must_exist_and_the_default_need_not() {
        let missing = Some(PathBuf::from("/nonexistent/dataplane.toml"));
        let error = load(Layers { file: missing.clone(), ..Layers::default() }).unwrap_err();
        assert!(error.to_string().starts_with("/nonexistent/dataplane.toml: cannot be read"), "{error}");
        assert!(load(Layers { default_file: missing, ..Layers::default() }).is_ok());
    }

    #[test]
    fn effective_values_can_be_read_back() {
        let text = "[answers]\nnsid = \"ns1\"\n[metrics]\nlisten = \"127.0.0.1:9\"\n[zones.files]\n\"example.org\" = \"a\"\n";
        let config = loaded("a.toml", text, &[], &[]).unwrap();
        let again = loaded("b.yaml", &config.to_text(), &[], &[]).unwrap();
        assert_eq!(config.to_text(), again.to_text());
        assert!(config.to_text().contains("\"ns1\""));
    }
}
