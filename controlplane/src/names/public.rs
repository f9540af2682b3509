//! Names below which strangers register: the public suffix list, that which is built in or one of a file. Both sections count,
//! and so does whatever is not listed: of that the last label.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::Context as _;
use godwit_wire::name::NameRef;
use psl::{Info, Psl as _};
use publicsuffix::List;

use super::idna;

/// The most octets of a file: the list has 300,000.
const MOST_OCTETS: u64 = 16 << 20;

/// See the module.
#[derive(Debug)]
pub(crate) struct Public {
    file: Option<(PathBuf, Mutex<Held>)>,
}

/// What was read from a file.
#[derive(Debug)]
struct Held {
    list: List,
    /// Of the file, when it was read.
    stamp: Option<(SystemTime, u64)>,
}

impl Public {
    /// That of a file, where there is one.
    ///
    /// # Errors
    /// When it cannot be read, or has no rules.
    pub(crate) fn of(file: Option<&Path>) -> anyhow::Result<Public> {
        let file = file.map(|path| {
            let stamp = stamp(path);
            let list = read(path).with_context(|| format!("names.public_suffix_list {}", path.display()))?;
            anyhow::Ok((path.to_path_buf(), Mutex::new(Held { list, stamp })))
        });
        Ok(Public { file: file.transpose()? })
    }

    /// Whether strangers register below a name.
    pub(crate) fn has(&self, name: NameRef<'_>) -> bool {
        let labels: Vec<&[u8]> = name.labels().collect();
        self.suffix_labels(&labels) >= labels.len()
    }

    /// Whether a name is on the list, and not just unknown to it.
    pub(crate) fn lists(&self, name: NameRef<'_>) -> bool {
        let labels: Vec<&[u8]> = name.labels().collect();
        let octets = labels.iter().map(|label| label.len()).sum::<usize>() + labels.len().saturating_sub(1);
        let info = self.find(&labels);
        info.typ.is_some() && info.len == octets
    }

    /// How many labels of a name, from its end, are a public suffix.
    fn suffix_labels(&self, labels: &[&[u8]]) -> usize {
        let (mut octets, suffix) = (0, self.find(labels).len);
        let is_within = |label: &&&[u8]| {
            octets += label.len() + usize::from(octets > 0);
            octets <= suffix
        };
        // At least the last one.
        labels.iter().rev().take_while(is_within).count().max(1)
    }

    fn find(&self, labels: &[&[u8]]) -> Info {
        let labels = labels.iter().rev().copied();
        let Some((path, held)) = &self.file else { return psl::List.find(labels) };
        let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamp(path);
        if now.is_some() && now != held.stamp {
            match read(path) {
                Ok(list) => {
                    tracing::info!(file = %path.display(), "the public suffix list was read again");
                    held.list = list;
                }
                Err(error) => {
                    tracing::warn!(file = %path.display(), %error, "the public suffix list stays as it was");
                }
            }
            held.stamp = now;
        }
        held.list.find(labels)
    }
}

/// When a file was last changed, and how long it is.
fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// Reads a list as it is published (<https://publicsuffix.org/list/>).
fn read(path: &Path) -> anyhow::Result<List> {
    let octets = std::fs::metadata(path)?.len();
    anyhow::ensure!(octets <= MOST_OCTETS, "it has {octets} octets: a list has at most {MOST_OCTETS}");
    let text = std::fs::read_to_string(path)?;
    let mut rules = String::with_capacity(text.len());
    for line in text.lines() {
        rules.push_str(&in_ascii(line));
        rules.push('\n');
    }
    let list: List =
        rules.parse().map_err(|error| anyhow::anyhow!("it is no public suffix list: {error}"))?;
    anyhow::ensure!(!list.is_empty(), "it has no rules");
    Ok(list)
}

/// A line with A-labels: names are looked up so.
fn in_ascii(line: &str) -> String {
    if line.is_ascii() || line.trim_start().starts_with("//") {
        return line.to_owned();
    }
    let (mark, rule) = line.strip_prefix('!').map_or(("", line), |rule| ("!", rule));
    let rule = rule.split_whitespace().next().unwrap_or_default();
    let label = |label: &str| match idna::read(label) {
        Ok(name) => name.to_string().trim_end_matches('.').to_owned(),
        Err(_) => label.to_owned(),
    };
    let labels: Vec<String> =
        rule.split('.').map(|one| if one == "*" { one.to_owned() } else { label(one) }).collect();
    format!("{mark}{}", labels.join("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use godwit_wire::name::Name;

    fn has(public: &Public, text: &str) -> bool {
        public.has(idna::read(text).unwrap().as_ref())
    }

    #[test]
    fn suffixes_of_both_sections_and_unknown_ends_are_public() {
        let public = Public::of(None).unwrap();
        for suffix in [
            ".",
            "com.",
            "co.uk.",
            "CO.UK.",
            "github.io.",
            "s3.amazonaws.com.",
            "xn--p1ai.",
            "рф.",
            "公司.cn.",
            "unknown-end.",
            "test.",
            "anything.ck.",
            "www.kawasaki.jp.",
        ] {
            assert!(has(&public, suffix), "{suffix}");
        }
        for own in [
            "example.com.",
            "example.co.uk.",
            "someone.github.io.",
            "www.ck.",
            "city.kawasaki.jp.",
            "a.test.",
            "пример.рф.",
            "a.b.unknown-end.",
            r"\000a.com.",
        ] {
            assert!(!has(&public, own), "{own}");
        }
        let listed = |text: &str| public.lists(text.parse::<Name>().unwrap().as_ref());
        assert!(listed("com.") && listed("github.io.") && !listed("test.") && !listed("example.com."));
    }

    #[test]
    fn a_file_replaces_what_is_built_in_and_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("list.dat");
        assert!(Public::of(Some(&file)).is_err());
        std::fs::write(&file, "// nothing\n").unwrap();
        assert!(Public::of(Some(&file)).is_err());
        let text = "// ===BEGIN ICANN DOMAINS===\ntest\n*.wild.test\n!own.wild.test\nбг.test\n// ===END ICANN DOMAINS===\n// ===BEGIN PRIVATE DOMAINS===\ndyn.test\n// ===END PRIVATE DOMAINS===\n";
        std::fs::write(&file, text).unwrap();
        let public = Public::of(Some(&file)).unwrap();
        for suffix in ["test.", "dyn.test.", "any.wild.test.", "бг.test.", "com.", "nowhere."] {
            assert!(has(&public, suffix), "{suffix}");
        }
        for own in ["co.uk.", "own.wild.test.", "a.dyn.test.", "a.test."] {
            assert!(!has(&public, own), "{own}");
        }
        assert!(!has(&public, "more.test."));
        std::fs::write(&file, format!("{text}more.test\n")).unwrap();
        assert!(has(&public, "more.test."));
        // What is none leaves what was there.
        std::fs::write(&file, "").unwrap();
        assert!(has(&public, "more.test."));
    }
}
