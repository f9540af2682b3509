//! What can go wrong between a command and the API, and what to do about it.

use std::fmt;

/// See the variants. Their text is for the person at the terminal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum ClientError {
    /// Nobody listens there.
    Refused { url: String },
    /// No connection for another reason.
    Unreachable { url: String, reason: String },
    /// The connection broke before the whole answer came.
    Lost { url: String, reason: String },
    /// No answer in time.
    Slow { url: String, seconds: u64 },
    /// What answered does not speak the API.
    NotTheApi { reason: String },
    /// The API refused.
    Api { status: u16, message: String, code: String, request_id: Option<String>, had_token: bool },
}

impl ClientError {
    /// Whether the same request may succeed a moment later. Writes carry a key that keeps them from being done twice.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            ClientError::Lost { .. } => true,
            ClientError::Api { status, .. } => matches!(status, 429 | 503),
            _ => false,
        }
    }

    /// A stable name for programs, beside those of the API.
    pub(crate) fn code(&self) -> &str {
        match self {
            ClientError::Refused { .. } => "CONNECTION_REFUSED",
            ClientError::Unreachable { .. } => "UNREACHABLE",
            ClientError::Lost { .. } => "CONNECTION_LOST",
            ClientError::Slow { .. } => "NO_ANSWER",
            ClientError::NotTheApi { .. } => "NOT_THE_API",
            ClientError::Api { code, .. } => code,
        }
    }
}

impl std::error::Error for ClientError {}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Refused { url } => {
                write!(
                    f,
                    "nobody listens at {url}: is `godwit run` running? (--url or GODWIT_URL says where)"
                )
            }
            ClientError::Unreachable { url, reason } => write!(f, "{url} cannot be reached: {reason}"),
            ClientError::Lost { url, reason } => {
                write!(
                    f,
                    "the connection to {url} was lost ({reason}); whether it was done is not known: run it again"
                )
            }
            ClientError::Slow { url, seconds } => {
                write!(
                    f,
                    "{url} did not answer within {seconds} s; whether it was done is not known: run it again"
                )
            }
            ClientError::NotTheApi { reason } => {
                write!(f, "that is not the API of Godwit: {reason} (--url or GODWIT_URL says where it is)")
            }
            ClientError::Api { message, code, request_id, had_token, .. } => {
                write!(f, "{message} ({code}")?;
                if let Some(id) = request_id {
                    write!(f, ", request {id}")?;
                }
                f.write_str(")")?;
                match (code.as_str(), had_token) {
                    ("UNAUTHENTICATED", false) => f.write_str(
                        "; give the token that the first start printed as GODWIT_TOKEN or --token-file, or make \
                         another with `godwit token create` while the server is stopped",
                    ),
                    ("UNAUTHENTICATED" | "TOKEN_REVOKED", true) => f.write_str(
                        "; this token is not valid here: `godwit token create` makes another while the server is \
                         stopped",
                    ),
                    _ => Ok(()),
                }
            }
        }
    }
}
