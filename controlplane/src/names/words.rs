//! Labels that nobody takes below a suffix: programs and people take them for the operator's (RFC 2142, RFC 7534, WPAD).

use super::{idna, look};

/// Those that are always reserved; one that ends in * stands for all that begin so.
const RESERVED: &[&str] = &[
    "_*",
    "www",
    "mail",
    "ns*",
    "mx",
    "api",
    "admin",
    "administrator",
    "root",
    "login",
    "postmaster",
    "hostmaster",
    "webmaster",
    "abuse",
    "security",
    "autoconfig",
    "autodiscover",
    "wpad",
    "isatap",
    "mta-sts",
    "localhost",
    "dashboard",
    "status",
    "acme",
];

/// The reserved labels of an installation.
#[derive(Clone, Debug)]
pub(crate) struct Words {
    /// What labels begin with.
    prefixes: Vec<String>,
    /// What whole labels look like.
    looks: Vec<String>,
}

impl Words {
    /// Those that are built in, and more.
    pub(crate) fn with(more: &[String]) -> Words {
        let (mut prefixes, mut looks) = (Vec::new(), Vec::new());
        for word in RESERVED.iter().copied().chain(more.iter().map(String::as_str)) {
            match word.strip_suffix('*') {
                Some(prefix) => prefixes.push(prefix.to_ascii_lowercase()),
                None => looks.push(look::of_label(word.to_ascii_lowercase().as_bytes())),
            }
        }
        Words { prefixes, looks }
    }

    /// Whether a label is one of them, or looks like one.
    pub(crate) fn have(&self, label: &[u8]) -> bool {
        let shown = idna::shown(label).to_lowercase();
        self.prefixes.iter().any(|prefix| shown.starts_with(prefix))
            || self.looks.contains(&look::of_label(label))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_labels_are_known_in_every_form() {
        let words = Words::with(&["shop".to_owned(), "pay*".to_owned()]);
        for word in RESERVED.iter().chain(&["shop", "pay*"]) {
            let word = word.replace('*', "1");
            for form in [word.clone(), word.to_uppercase()] {
                let escaped: String = form.bytes().map(|octet| format!("\\{octet:03}")).collect();
                for text in [form.clone(), escaped] {
                    let name = idna::read(&format!("{text}.dyn.example.")).unwrap();
                    assert!(words.have(name.as_ref().labels().next().unwrap()), "{text}");
                }
            }
        }
        for look_alike in ["ｗｗｗ", "аpi", "rnail", "10gin", "ns1", "ns", "nsfw", "_dmarc", "payment"] {
            let name = idna::read(&format!("{look_alike}.dyn.example.")).unwrap();
            assert!(words.have(name.as_ref().labels().next().unwrap()), "{look_alike}");
        }
        for free in ["alice", "wwww", "mails", "my-shop", "n", "status-page"] {
            assert!(!words.have(free.as_bytes()), "{free}");
        }
    }
}
