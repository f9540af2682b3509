//! Mail to people, one at a time, without attachments. A failure says whether sending the same again may help, so that a job can do
//! that.
//!
//! What goes into a header is parsed (addresses) or refused where it holds a control character (the subject): nobody can add a
//! header or a recipient through it. Texts may hold links that let their reader do something: no log shows them unless the
//! configuration says so.

mod folder;
mod trial;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use lettre::address::Address;
use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::transport::smtp::Error as SmtpError;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use tokio::time::timeout;

use crate::config::{Config, MailTransport};
use crate::jobs::Failure;

pub use trial::{MAIL_TEST, Recipient, Trial};

/// How long a server may take to let us in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long it may take for all of a message. Many look at one for some seconds before they take it.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// The most octets of a subject.
const MAX_SUBJECT_OCTETS: usize = 500;
/// The most octets of a text.
const MAX_TEXT_OCTETS: usize = 64 << 10;

/// A message to somebody.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Message {
    /// An address alone, without a name.
    pub to: String,
    /// One line.
    pub subject: String,
    /// Plain text.
    pub text: String,
}

/// Why a message was not sent.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum MailError {
    /// The same may be sent later.
    #[error("{0}")]
    Passing(String),
    /// It will not, as it is.
    #[error("{0}")]
    Final(String),
}

impl From<MailError> for Failure {
    fn from(error: MailError) -> Failure {
        match error {
            MailError::Passing(sentence) => Failure::Passing(sentence),
            MailError::Final(sentence) => Failure::Final(sentence),
        }
    }
}

/// Sends mail as the configuration says.
#[derive(Debug)]
pub struct Mailer {
    from: Option<Mailbox>,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Off,
    Log { shows_text: bool },
    Folder(PathBuf),
    Smtp(Box<AsyncSmtpTransport<Tokio1Executor>>),
}

impl Mailer {
    /// As a configuration says. Nothing is sent or looked up.
    ///
    /// # Errors
    /// When the file with the server's URL cannot be read, or something in it is no URL.
    pub fn of(config: &Config) -> anyhow::Result<Mailer> {
        let mail = &config.mail;
        let way = match mail.transport {
            MailTransport::Off => Way::Off,
            MailTransport::Log => Way::Log { shows_text: mail.log_text },
            MailTransport::File => Way::Folder(config.mail_folder()),
            MailTransport::Smtp => {
                let url = mail.server()?.context("mail.url is not set")?;
                // Its error may quote the URL, with the password.
                let builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(&url)
                    .map_err(|_| anyhow::anyhow!("mail.url: expected the URL of a server"))?;
                Way::Smtp(Box::new(builder.timeout(Some(CONNECT_TIMEOUT)).build()))
            }
        };
        let from = mail.from.as_deref().map(str::parse).transpose().context("mail.from")?;
        Ok(Mailer { from, way })
    }

    /// Sends one; it is out of our hands then, or in the folder, or in the log.
    ///
    /// # Errors
    /// [`MailError::Passing`]: the server cannot be reached, does not answer, or says to come again (4xx); the folder cannot be written.
    /// [`MailError::Final`]: mail is off, the message is none, or the server does not want it (5xx).
    pub async fn send(&self, message: &Message) -> Result<(), MailError> {
        let to = address(&message.to)?;
        if message.subject.chars().any(char::is_control) || message.subject.len() > MAX_SUBJECT_OCTETS {
            return Err(MailError::Final("the subject is not one line of at most 500 octets".to_owned()));
        }
        if message.text.len() > MAX_TEXT_OCTETS {
            return Err(MailError::Final("the text is longer than 65536 octets".to_owned()));
        }
        let off = || {
            let sentence = "no mail is sent here: mail.transport is off in the configuration";
            MailError::Final(sentence.to_owned())
        };
        let from = self.from.clone().ok_or_else(off)?;
        let composed = lettre::Message::builder()
            .from(from)
            .to(Mailbox::new(None, to))
            .subject(message.subject.as_str())
            .header(ContentType::TEXT_PLAIN)
            .body(message.text.clone())
            .map_err(|error| MailError::Final(format!("the message cannot be composed: {error}")))?;
        match &self.way {
            Way::Off => Err(off()),
            Way::Log { shows_text } => {
                let text = if *shows_text { message.text.as_str() } else { "(not shown: mail.log_text)" };
                tracing::info!(to = message.to, subject = message.subject, text, "mail");
                Ok(())
            }
            Way::Folder(folder) => folder::keep(folder.clone(), composed.formatted()).await,
            Way::Smtp(transport) => match timeout(SEND_TIMEOUT, transport.send(composed)).await {
                Ok(sent) => sent.map(drop).map_err(|error| refused(&error)),
                Err(_) => Err(MailError::Passing("the mail server did not answer in time".to_owned())),
            },
        }
    }
}

/// Reads an address, which will stand in a header and in a command.
fn address(text: &str) -> Result<Address, MailError> {
    let wrong = || MailError::Final("the recipient is not an address like name@example.net".to_owned());
    if text.chars().any(|char| char.is_control() || char.is_whitespace()) {
        return Err(wrong());
    }
    text.parse().map_err(|_| wrong())
}

fn refused(error: &SmtpError) -> MailError {
    if error.is_permanent() {
        return MailError::Final(format!("the mail server does not want it: {error}"));
    }
    if error.is_client() {
        return MailError::Final(format!("it cannot be given to the mail server: {error}"));
    }
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    MailError::Passing(format!("the mail server did not take it: {error}{cause}"))
}

#[cfg(test)]
mod tests;
