//! `[query_log]`: whether queries are logged, in which form, and where to. What is logged is described in
//! `docs/query-log.md`; the log itself is `observe::query_log`.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The least room of a ring: the largest record, a query and an answer of 65,535 octets each, fits into it.
pub const MIN_RING_OCTETS: usize = 1 << 18;
/// The most room of a ring: more would only make old news of what is logged.
pub const MAX_RING_OCTETS: usize = 1 << 30;

/// `[query_log]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueryLog {
    /// `off` (default): who asks for what is nobody's business unless an operator decides so; `sampled`; or `full`.
    pub mode: QueryLogMode,
    /// With `sampled`, one in so many queries is logged, drawn at random. Default 100.
    pub sample_one_in: NonZeroU32,
    /// `json` (default), one object per line, or `dnstap`.
    pub format: QueryLogFormat,
    /// A file's path, `unix:/path` or `tcp:ADDRESS:PORT` of somebody who listens there, or `stdout`. No default.
    pub target: Option<QueryLogTarget>,
    /// Room in octets for what each worker has logged and nobody has written yet, 262144–1073741824. Default
    /// 2097152: some 25 ms of what a worker under full load logs. There are two workers per CPU, one for UDP, one for
    /// TCP.
    pub ring_octets: usize,
    /// How this server is named in the log. Default: the name of the host.
    pub node: Option<String>,
}

impl Default for QueryLog {
    fn default() -> Self {
        QueryLog {
            mode: QueryLogMode::Off,
            sample_one_in: NonZeroU32::new(100).expect("100 is not 0"),
            format: QueryLogFormat::Json,
            target: None,
            ring_octets: 2 << 20,
            node: None,
        }
    }
}

impl QueryLog {
    /// Whether a target is named where one is needed.
    #[must_use]
    pub fn has_target(&self) -> bool {
        self.mode == QueryLogMode::Off || self.target.is_some()
    }
}

/// See [`QueryLog::mode`].
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum QueryLogMode {
    /// Nothing is logged.
    #[default]
    Off,
    /// One in so many queries.
    Sampled,
    /// Every query.
    Full,
}

/// See [`QueryLog::format`].
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum QueryLogFormat {
    /// An object per line.
    #[default]
    Json,
    /// Frame streams of dnstap messages.
    Dnstap,
}

/// See [`QueryLog::target`].
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum QueryLogTarget {
    /// Standard output.
    Stdout,
    /// A file, which is made or appended to; a named pipe or a device may stand there too.
    File(PathBuf),
    /// A stream socket in the file system.
    Unix(PathBuf),
    /// A TCP socket.
    Tcp(SocketAddr),
}

impl FromStr for QueryLogTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is not \"stdout\", \"unix:/path\", \"tcp:ADDRESS:PORT\", or a path that begins with / or ."
            )
        };
        if text == "stdout" {
            return Ok(QueryLogTarget::Stdout);
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(wrong()) } else { Ok(QueryLogTarget::Unix(path.into())) };
        }
        if let Some(address) = text.strip_prefix("tcp:") {
            return address.parse().map(QueryLogTarget::Tcp).map_err(|_| wrong());
        }
        // A path must look like one, or every slip of the pen would be a file in the working folder.
        if text.starts_with(['/', '.']) { Ok(QueryLogTarget::File(text.into())) } else { Err(wrong()) }
    }
}

impl TryFrom<String> for QueryLogTarget {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for QueryLogTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QueryLogTarget::Stdout => f.write_str("stdout"),
            QueryLogTarget::File(path) => path.display().fmt(f),
            QueryLogTarget::Unix(path) => write!(f, "unix:{}", path.display()),
            QueryLogTarget::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

impl From<QueryLogTarget> for String {
    fn from(value: QueryLogTarget) -> String {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_and_written() {
        for (text, expected) in [
            ("stdout", Some(QueryLogTarget::Stdout)),
            ("/var/log/q", Some(QueryLogTarget::File("/var/log/q".into()))),
            ("./q", Some(QueryLogTarget::File("./q".into()))),
            ("unix:/run/tap", Some(QueryLogTarget::Unix("/run/tap".into()))),
            ("tcp:[::1]:6000", Some(QueryLogTarget::Tcp("[::1]:6000".parse().unwrap()))),
            ("tcp:nowhere", None),
            ("unix:", None),
            ("syslog", None),
            ("", None),
        ] {
            let target = text.parse::<QueryLogTarget>();
            assert_eq!(target.as_ref().ok(), expected.as_ref(), "{text}");
            if let Ok(target) = target {
                assert_eq!(String::from(target), text);
            }
        }
    }
}
