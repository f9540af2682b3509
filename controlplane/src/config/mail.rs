//! `[mail]`

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use hyper::Uri;
use serde::{Deserialize, Serialize};

use super::hidden::shown_without_password;

const EXPECTED_URL: &str = "a URL like smtps://user:password@mail.example.net, or smtp://";

/// How mail is sent.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mail {
    /// `smtp`; `file` for one file each in a folder; `log` for a line each in the log; `off`. Default `off`: what needs mail fails.
    pub transport: Transport,
    /// The server, as smtps://user:password@host:465, or smtp://…:587 for one that is spoken to in the clear until TLS begins; without
    /// TLS on this machine alone, where the port is 25. Needed for `smtp`. Default none.
    #[serde(serialize_with = "shown_without_password")]
    pub url: Option<String>,
    /// A file that holds nothing but the URL, which may hold a password. Default none.
    pub url_file: Option<PathBuf>,
    /// Who it is from, as dns@example.net or Name <dns@example.net>. Needed unless `off`. Default none.
    pub from: Option<String>,
    /// The folder of `file`. Default `mail` in the data folder.
    pub folder: Option<PathBuf>,
    /// Whether `log` shows texts too: whoever reads the log can do what a mail lets its reader do. Default false.
    pub log_text: bool,
}

/// See [`Mail::transport`].
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// None is sent.
    #[default]
    Off,
    /// A line each in the log.
    Log,
    /// A file each in a folder.
    File,
    /// To a server.
    Smtp,
}

impl Mail {
    /// The first key whose value is out of range, and what was expected.
    pub(super) fn out_of_range(&self) -> Option<(&'static str, &'static str)> {
        let is_sent = self.transport != Transport::Off;
        [
            (self.url.as_deref().is_none_or(|url| server(url).is_some()), "mail.url", EXPECTED_URL),
            (
                self.url.is_none() || self.url_file.is_none(),
                "mail.url_file",
                "either mail.url or mail.url_file",
            ),
            (
                self.transport != Transport::Smtp || self.url.is_some() || self.url_file.is_some(),
                "mail.url",
                "the server, as mail.transport is smtp",
            ),
            (
                self.from.as_deref().is_none_or(|from| from.parse::<lettre::message::Mailbox>().is_ok()),
                "mail.from",
                "an address like dns@example.net",
            ),
            (!is_sent || self.from.is_some(), "mail.from", "an address, as mail.transport is not off"),
        ]
        .into_iter()
        .find_map(|(good, key, expected)| (!good).then_some((key, expected)))
    }

    /// The server as the library takes it, where one is set.
    ///
    /// # Errors
    /// When the file with its URL cannot be read, or holds something else.
    pub(crate) fn server(&self) -> anyhow::Result<Option<String>> {
        let wrong = || format!("expected {EXPECTED_URL}");
        if let Some(url) = &self.url {
            return server(url).map(Some).with_context(wrong).context("mail.url");
        }
        let Some(file) = &self.url_file else { return Ok(None) };
        let context = || format!("mail.url_file {}", file.display());
        let url = std::fs::read_to_string(file).with_context(context)?;
        server(url.trim()).map(Some).with_context(wrong).with_context(context)
    }
}

/// The same URL as the library takes it: on the way to another machine with TLS, whatever the scheme.
fn server(url: &str) -> Option<String> {
    let read: Uri = url.parse().ok()?;
    let is_bare = matches!(read.path(), "" | "/") && read.query().is_none();
    let host = read.host().filter(|host| !host.is_empty())?;
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let is_here = host == "localhost" || address.is_ok_and(super::is_here);
    let url = url.trim_end_matches('/');
    match read.scheme_str()? {
        _ if !is_bare => None,
        "smtps" => Some(url.to_owned()),
        "smtp" if is_here => Some(url.to_owned()),
        "smtp" => Some(format!("{url}?tls=required")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_elsewhere_are_spoken_to_with_tls() {
        for (url, expected) in [
            ("smtps://u:p@mail.example.net", Some("smtps://u:p@mail.example.net")),
            ("smtp://u:p@mail.example.net:2525/", Some("smtp://u:p@mail.example.net:2525?tls=required")),
            ("smtp://192.0.2.1", Some("smtp://192.0.2.1?tls=required")),
            ("smtp://127.0.0.1:25", Some("smtp://127.0.0.1:25")),
            ("smtp://[::1]:25", Some("smtp://[::1]:25")),
            ("smtp://[::ffff:127.0.0.1]:25", Some("smtp://[::ffff:127.0.0.1]:25")),
            ("smtp://localhost", Some("smtp://localhost")),
            ("smtp://mail.example.net?tls=opportunistic", None),
            ("smtp://mail.example.net/helo", None),
            ("http://mail.example.net", None),
            ("mail.example.net", None),
            ("", None),
        ] {
            assert_eq!(server(url).as_deref(), expected, "{url}");
        }
    }

    #[test]
    fn what_a_transport_needs_is_asked_for() {
        let from = Some("Godwit <dns@example.net>".to_owned());
        let url = Some("smtps://mail.example.net".to_owned());
        let good = Mail { transport: Transport::Smtp, url, from: from.clone(), ..Mail::default() };
        assert_eq!(good.out_of_range(), None);
        assert_eq!(Mail::default().out_of_range(), None);
        for (mail, key) in [
            (Mail { url: None, ..good.clone() }, "mail.url"),
            (Mail { url: Some("smtp://".to_owned()), ..good.clone() }, "mail.url"),
            (Mail { url_file: Some(PathBuf::from("x")), ..good.clone() }, "mail.url_file"),
            (Mail { from: None, ..good.clone() }, "mail.from"),
            (Mail { from: Some("a@b\r\nBcc: c@d".to_owned()), ..good }, "mail.from"),
            (Mail { transport: Transport::Log, ..Mail::default() }, "mail.from"),
        ] {
            assert_eq!(mail.out_of_range().unwrap().0, key, "{mail:?}");
        }
    }
}
