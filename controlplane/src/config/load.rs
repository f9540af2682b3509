//! Layers: defaults < file < environment; the command line is laid over by the caller. A wrong value is reported with
//! the place where it was written: file and line, or variable.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use config::{Environment, File, FileFormat};
use serde::de::DeserializeOwned;

const PREFIX: &str = "GODWIT";
const SEPARATOR: &str = "__";

/// A configuration that can say what is out of range.
pub trait Checked: DeserializeOwned {
    /// Keys whose value is a list: in the environment with commas.
    const LISTS: &'static [&'static str];

    /// The first key whose value is out of range, and what was expected.
    fn out_of_range(&self) -> Option<(String, &'static str)>;
}

/// Where values come from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// A file that must exist.
    pub file: Option<PathBuf>,
    /// A file that is read when it exists and no other is named.
    pub default_file: Option<PathBuf>,
    /// The environment: names and values.
    pub environment: HashMap<String, String>,
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

impl ConfigError {
    /// For a value of the command line.
    #[must_use]
    pub fn of_command_line(key: &str, expected: &str) -> ConfigError {
        ConfigError {
            place: "command line".to_owned(),
            key: Some(key.to_owned()),
            reason: format!("expected {expected}"),
        }
    }

    /// For what the layers together lack.
    #[must_use]
    pub fn of_configuration(key: &str, expected: &str) -> ConfigError {
        ConfigError { place: "configuration".to_owned(), ..ConfigError::of_command_line(key, expected) }
    }
}

impl Sources {
    /// The named file or the default one, and this process' environment.
    #[must_use]
    pub fn of_process(file: Option<PathBuf>, default_file: &str) -> Sources {
        Sources {
            file,
            default_file: Some(Path::new(default_file).to_path_buf()),
            // Settings are text; a variable that is not cannot be one.
            environment: std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
        }
    }

    /// Reads all layers.
    ///
    /// # Errors
    /// The first thing that is wrong, the lowest layer first.
    pub fn load<T: Checked>(&self) -> Result<T, ConfigError> {
        let mut builder = config::Config::builder();
        if let Some(text) = self.text()? {
            let source = File::from_str(&text.text, text.format);
            // Alone first: what is wrong then is in this file.
            let alone = config::Config::builder().add_source(source.clone()).build();
            check::<T>(alone, |key| text.place(key))?;
            builder = builder.add_source(source);
        }
        let environment = || self.variables::<T>();
        check::<T>(config::Config::builder().add_source(environment()).build(), variable)?;
        check::<T>(builder.add_source(environment()).build(), |_| "configuration".to_owned())
    }

    fn text(&self) -> Result<Option<Text>, ConfigError> {
        let fallback = || self.default_file.as_ref().filter(|path| path.exists());
        let Some(path) = self.file.as_ref().or_else(fallback) else { return Ok(None) };
        let failed = |reason: String| ConfigError { place: path.display().to_string(), key: None, reason };
        let text =
            std::fs::read_to_string(path).map_err(|error| failed(format!("cannot be read: {error}")))?;
        let format = match path.extension().and_then(|extension| extension.to_str()) {
            Some("toml") => FileFormat::Toml,
            Some("yaml" | "yml") => FileFormat::Yaml,
            _ => return Err(failed("expected a name that ends in .toml, .yaml or .yml".to_owned())),
        };
        Ok(Some(Text { path: path.clone(), text, format }))
    }

    /// Only names with a section: other programs' variables, and ours that are no settings, have none.
    fn variables<T: Checked>(&self) -> Environment {
        let is_setting = |name: &str| {
            name.strip_prefix(PREFIX)
                .and_then(|rest| rest.strip_prefix('_'))
                .is_some_and(|key| key.contains(SEPARATOR))
        };
        let settings = self.environment.iter().filter(|(name, _)| is_setting(name));
        let mut environment = Environment::with_prefix(PREFIX)
            .prefix_separator("_")
            .separator(SEPARATOR)
            .list_separator(",")
            .try_parsing(true)
            .source(Some(settings.map(|(name, value)| (name.clone(), value.clone())).collect()));
        for key in T::LISTS {
            environment = environment.with_list_parse_key(key);
        }
        environment
    }
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
        let field = key.and_then(|key| key.rsplit('.').next());
        let line = field.and_then(|field| {
            let field = field.split('[').next().unwrap_or(field);
            self.text.lines().position(|line| {
                let name = line.trim_start_matches(['[', ' ', '\t', '"']);
                name.strip_prefix(field).is_some_and(|rest| rest.starts_with([' ', '=', ':', '"', ']', '.']))
            })
        });
        match line {
            Some(index) => format!("{path}, line {}", index + 1),
            None => path.to_string(),
        }
    }
}

fn variable(key: Option<&str>) -> String {
    match key {
        Some(key) => format!("environment variable {PREFIX}_{}", key.replace('.', SEPARATOR).to_uppercase()),
        None => "environment".to_owned(),
    }
}

fn check<T: Checked>(
    built: Result<config::Config, config::ConfigError>,
    place: impl Fn(Option<&str>) -> String,
) -> Result<T, ConfigError> {
    let read = built.and_then(config::Config::try_deserialize::<T>).map_err(|error| told(&error));
    let (key, reason) = match read {
        Ok(value) => match value.out_of_range() {
            None => return Ok(value),
            Some((key, expected)) => (Some(key), format!("expected {expected}")),
        },
        Err(wrong) => wrong,
    };
    Err(ConfigError { place: place(key.as_deref()), key, reason })
}

/// Takes the key out of the library's error, and what is wrong with it as one line.
fn told(error: &config::ConfigError) -> (Option<String>, String) {
    use config::ConfigError as Error;
    match error {
        Error::Type { key, unexpected, expected, .. } => {
            (key.clone(), format!("expected {expected}, not {unexpected}"))
        }
        Error::At { error, key, .. } => {
            let reason = one_line(&error.to_string());
            (unknown_field(key.as_deref(), &reason).or_else(|| key.clone()), reason)
        }
        Error::Message(reason) => (unknown_field(None, reason), one_line(reason)),
        Error::FileParse { cause, .. } => (None, one_line(&cause.to_string())),
        other => (None, one_line(&other.to_string())),
    }
}

/// The full key of an unknown field: the library names the section only.
fn unknown_field(section: Option<&str>, reason: &str) -> Option<String> {
    let field = reason.strip_prefix("unknown field `")?.split('`').next()?;
    Some(section.map_or_else(|| field.to_owned(), |section| format!("{section}.{field}")))
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Rate};

    fn load(name: &str, text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        let sources = Sources {
            file: Some(file),
            default_file: None,
            environment: environment.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect(),
        };
        let prefix = format!("{}/", folder.path().display());
        sources.load().map_err(|error| error.to_string().replace(&prefix, ""))
    }

    #[test]
    fn later_layers_win() {
        let text =
            "[api]\nlisten = \"127.0.0.1:1\"\nmax_connections = 5\n[defaults]\nns = [\"a.example.\"]\n";
        let environment = [
            ("GODWIT_API__MAX_CONNECTIONS", "7"),
            ("GODWIT_DEFAULTS__NS", "b.example.,c.example."),
            ("GODWIT_API__TRUSTED_PROXIES", "127.0.0.1,10.0.0.0/8"),
            ("GODWIT_LIMITS__TOKEN_READS__PER_MINUTE", "60"),
            ("GODWIT_LIMITS__TOKEN_READS__BURST", "5"),
            ("GODWIT_SEED", "1"),
            ("GODWIT_TOKEN", "gw_x"),
        ];
        let config = load("a.toml", text, &environment).unwrap();
        assert_eq!(config.api.listen.port(), 1);
        assert_eq!(config.api.max_connections, 7);
        assert_eq!(config.defaults.ns, ["b.example.", "c.example."]);
        assert!(config.api.trusted_proxies.contains([10, 1, 2, 3].into()));
        assert_eq!(config.limits.token_reads, Rate { per_minute: 60, burst: 5 });
        assert_eq!(load("a.yaml", "store:\n  readers: 2\n", &[]).unwrap().store.readers, 2);
    }

    #[test]
    fn errors_name_the_place_and_what_was_expected() {
        for (name, text, environment, expected) in [
            (
                "a.toml",
                "[api]\nmax_connections = 0\n",
                ("", ""),
                "a.toml, line 2: api.max_connections: expected 1 to",
            ),
            (
                "a.toml",
                "[api]\nmax_conections = 1\n",
                ("", ""),
                "a.toml, line 2: api.max_conections: unknown field",
            ),
            ("a.toml", "[appi]\n", ("", ""), "a.toml, line 1: appi: unknown field"),
            ("a.toml", "[api]\nlisten = \"x\"\n", ("", ""), "a.toml, line 2: api.listen"),
            (
                "a.toml",
                "[defaults]\nns = [\"a b\"]\n",
                ("", ""),
                "a.toml, line 2: defaults.ns: expected names like",
            ),
            (
                "a.toml",
                "[internal]\nlisten = \"[::]:8054\"\n",
                ("", ""),
                "a.toml: internal.url: expected the URL where nodes find it",
            ),
            (
                "a.toml",
                "[internal]\nurl = \"https://control.example.net\"\n",
                ("", ""),
                "a.toml, line 2: internal.url: expected a URL like https://",
            ),
            (
                "a.toml",
                "[internal]\nurl = \"https://a.example:1,https://b.example\"\n",
                ("", ""),
                "a.toml, line 2: internal.url: expected a URL like https://control.example.net:8054, or up to 16",
            ),
            (
                "a.toml",
                "[api]\nallow = [\"192.0.2.0/33\"]\n",
                ("", ""),
                "a.toml, line 2: api.allow: expected a network like 192.0.2.0/24 or an address, not",
            ),
            (
                "a.toml",
                "[api]\ntrusted_proxies = [\"0.0.0.0/0\"]\n",
                ("", ""),
                "a.toml, line 2: api.trusted_proxies: expected networks of proxies",
            ),
            (
                "a.toml",
                "[limits]\ntoken_reads = { per_minute = 1, burst = 0 }\n",
                ("", ""),
                "a.toml, line 2: limits.token_reads: expected per_minute up to",
            ),
            (
                "a.toml",
                "[metrics]\nlisten = \"no\"\n",
                ("", ""),
                "a.toml, line 2: metrics.listen: expected an address",
            ),
            (
                "a.yaml",
                "api:\n  max_connections: many\n",
                ("", ""),
                "a.yaml, line 2: api.max_connections: expected an",
            ),
            ("a.ini", "", ("", ""), "a.ini: expected a name that ends in"),
            (
                "a.toml",
                "",
                ("GODWIT_STORE__READERS", "0"),
                "environment variable GODWIT_STORE__READERS: store.readers: expected 1 to 64",
            ),
        ] {
            let error = load(name, text, &[environment]).unwrap_err();
            assert!(error.starts_with(expected), "{error}\nexpected: {expected}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
