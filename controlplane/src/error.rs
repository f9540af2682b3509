//! Which error belongs to which layer.
//!
//! - [`Problem`]: what a caller of the API is told, with a stable [`Code`]. `validate/`, `commit/` and `api/` speak it.
//! - [`sqlx::Error`]: what the database said. `store/` gives it as it is; it becomes a [`Problem`] here, its text goes
//!   to the log and never to the caller.
//! - `anyhow::Error`: what a person reads when a program does not start. Only `lib.rs`, `main.rs` and `config.rs`.

use axum::http::StatusCode;

use crate::observe::metrics::Limit;
use crate::store::connection::is_away;
use crate::store::deadline::is_late;

/// Stable codes of the API; each has one status.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[allow(missing_docs, reason = "the names are those of the API's documentation, see `describe`")]
pub enum Code {
    MalformedRequest,
    Unauthenticated,
    TokenRevoked,
    TotpRequired,
    Forbidden,
    InsufficientScope,
    EmailNotVerified,
    OwnershipRequired,
    NameReserved,
    RecordNotFound,
    DomainNotFound,
    ChangeNotFound,
    VersionNotFound,
    VersionGone,
    LinkExpired,
    NodeNotFound,
    JobNotFound,
    UserNotFound,
    SessionNotFound,
    KeyNotFound,
    TokenNotFound,
    TenantNotFound,
    InvitationNotFound,
    ClaimNotFound,
    WebhookNotFound,
    NotFound,
    MethodNotAllowed,
    RecordExists,
    DomainExists,
    NodeExists,
    UserExists,
    NameQuarantined,
    QuotaExceeded,
    Conflict,
    ConfirmationRequired,
    VersionConflict,
    TooLarge,
    UrlTooLong,
    UnsupportedMediaType,
    InvalidRecordType,
    InvalidTtl,
    InvalidName,
    InvalidValue,
    ReloadFailed,
    IdempotencyMismatch,
    StorageLocked,
    RateLimited,
    Internal,
    DbUnavailable,
    DbPoolTimeout,
    BufferFull,
    BufferUnavailable,
    Timeout,
}

impl Code {
    /// Every code, for the documentation and its test.
    pub const ALL: &[Code] = &[
        Code::MalformedRequest,
        Code::Unauthenticated,
        Code::TokenRevoked,
        Code::TotpRequired,
        Code::Forbidden,
        Code::InsufficientScope,
        Code::EmailNotVerified,
        Code::OwnershipRequired,
        Code::NameReserved,
        Code::RecordNotFound,
        Code::DomainNotFound,
        Code::ChangeNotFound,
        Code::VersionNotFound,
        Code::VersionGone,
        Code::LinkExpired,
        Code::NodeNotFound,
        Code::JobNotFound,
        Code::UserNotFound,
        Code::SessionNotFound,
        Code::KeyNotFound,
        Code::TokenNotFound,
        Code::TenantNotFound,
        Code::InvitationNotFound,
        Code::ClaimNotFound,
        Code::WebhookNotFound,
        Code::NotFound,
        Code::MethodNotAllowed,
        Code::RecordExists,
        Code::DomainExists,
        Code::NodeExists,
        Code::UserExists,
        Code::NameQuarantined,
        Code::QuotaExceeded,
        Code::Conflict,
        Code::ConfirmationRequired,
        Code::VersionConflict,
        Code::TooLarge,
        Code::UrlTooLong,
        Code::UnsupportedMediaType,
        Code::InvalidRecordType,
        Code::InvalidTtl,
        Code::InvalidName,
        Code::InvalidValue,
        Code::ReloadFailed,
        Code::IdempotencyMismatch,
        Code::StorageLocked,
        Code::RateLimited,
        Code::Internal,
        Code::DbUnavailable,
        Code::DbPoolTimeout,
        Code::BufferFull,
        Code::BufferUnavailable,
        Code::Timeout,
    ];

    /// As in the body.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.describe().0
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(self) -> StatusCode {
        self.describe().1
    }

    fn describe(self) -> (&'static str, StatusCode) {
        match self {
            Code::MalformedRequest => ("MALFORMED_REQUEST", StatusCode::BAD_REQUEST),
            Code::Unauthenticated => ("UNAUTHENTICATED", StatusCode::UNAUTHORIZED),
            Code::TokenRevoked => ("TOKEN_REVOKED", StatusCode::UNAUTHORIZED),
            Code::TotpRequired => ("TOTP_REQUIRED", StatusCode::UNAUTHORIZED),
            Code::Forbidden => ("FORBIDDEN", StatusCode::FORBIDDEN),
            Code::InsufficientScope => ("INSUFFICIENT_SCOPE", StatusCode::FORBIDDEN),
            Code::EmailNotVerified => ("EMAIL_NOT_VERIFIED", StatusCode::FORBIDDEN),
            Code::OwnershipRequired => ("OWNERSHIP_REQUIRED", StatusCode::FORBIDDEN),
            Code::NameReserved => ("NAME_RESERVED", StatusCode::FORBIDDEN),
            Code::RecordNotFound => ("RECORD_NOT_FOUND", StatusCode::NOT_FOUND),
            Code::DomainNotFound => ("DOMAIN_NOT_FOUND", StatusCode::NOT_FOUND),
            Code::ChangeNotFound => ("CHANGE_NOT_FOUND", StatusCode::NOT_FOUND),
            Code::VersionNotFound => ("VERSION_NOT_FOUND", StatusCode::NOT_FOUND),
            Code::VersionGone => ("VERSION_GONE", StatusCode::GONE),
            Code::LinkExpired => ("LINK_EXPIRED", StatusCode::GONE),
            Code::NodeNotFound => ("NODE_NOT_FOUND", StatusCode::NOT_FOUND),
            Code::JobNotFound => ("JOB_NOT_FOUND", StatusCode::NOT_FOUND),
            Code::UserNotFound => ("USER_NOT_FOUND", StatusCode::NOT_FOUND),
            Code::SessionNotFound => ("SESSION_NOT_FOUND", StatusCode::NOT_FOUND),
            Code::KeyNotFound => ("KEY_NOT_FOUND", StatusCode::NOT_FOUND),
            Code::TokenNotFound => ("TOKEN_NOT_FOUND", StatusCode::NOT_FOUND),
            Code::TenantNotFound => ("TENANT_NOT_FOUND", StatusCode::NOT_FOUND),
            Code::InvitationNotFound => ("INVITATION_NOT_FOUND", StatusCode::NOT_FOUND),
            Code::ClaimNotFound => ("CLAIM_NOT_FOUND", StatusCode::NOT_FOUND),
            Code::WebhookNotFound => ("WEBHOOK_NOT_FOUND", StatusCode::NOT_FOUND),
            Code::NotFound => ("NOT_FOUND", StatusCode::NOT_FOUND),
            Code::MethodNotAllowed => ("METHOD_NOT_ALLOWED", StatusCode::METHOD_NOT_ALLOWED),
            Code::RecordExists => ("RECORD_EXISTS", StatusCode::CONFLICT),
            Code::DomainExists => ("DOMAIN_EXISTS", StatusCode::CONFLICT),
            Code::NodeExists => ("NODE_EXISTS", StatusCode::CONFLICT),
            Code::UserExists => ("USER_EXISTS", StatusCode::CONFLICT),
            Code::NameQuarantined => ("NAME_QUARANTINED", StatusCode::CONFLICT),
            Code::QuotaExceeded => ("QUOTA_EXCEEDED", StatusCode::CONFLICT),
            Code::Conflict => ("CONFLICT", StatusCode::CONFLICT),
            Code::ConfirmationRequired => ("CONFIRMATION_REQUIRED", StatusCode::CONFLICT),
            Code::VersionConflict => ("VERSION_CONFLICT", StatusCode::PRECONDITION_FAILED),
            Code::TooLarge => ("TOO_LARGE", StatusCode::PAYLOAD_TOO_LARGE),
            Code::UrlTooLong => ("URL_TOO_LONG", StatusCode::URI_TOO_LONG),
            Code::UnsupportedMediaType => ("UNSUPPORTED_MEDIA_TYPE", StatusCode::UNSUPPORTED_MEDIA_TYPE),
            Code::InvalidRecordType => ("INVALID_RECORD_TYPE", StatusCode::UNPROCESSABLE_ENTITY),
            Code::InvalidTtl => ("INVALID_TTL", StatusCode::UNPROCESSABLE_ENTITY),
            Code::InvalidName => ("INVALID_NAME", StatusCode::UNPROCESSABLE_ENTITY),
            Code::InvalidValue => ("INVALID_VALUE", StatusCode::UNPROCESSABLE_ENTITY),
            Code::ReloadFailed => ("RELOAD_FAILED", StatusCode::UNPROCESSABLE_ENTITY),
            Code::IdempotencyMismatch => ("IDEMPOTENCY_MISMATCH", StatusCode::UNPROCESSABLE_ENTITY),
            Code::StorageLocked => ("STORAGE_LOCKED", StatusCode::LOCKED),
            Code::RateLimited => ("RATE_LIMITED", StatusCode::TOO_MANY_REQUESTS),
            Code::Internal => ("INTERNAL", StatusCode::INTERNAL_SERVER_ERROR),
            Code::DbUnavailable => ("DB_UNAVAILABLE", StatusCode::SERVICE_UNAVAILABLE),
            Code::DbPoolTimeout => ("DB_POOL_TIMEOUT", StatusCode::SERVICE_UNAVAILABLE),
            Code::BufferFull => ("BUFFER_FULL", StatusCode::SERVICE_UNAVAILABLE),
            Code::BufferUnavailable => ("BUFFER_UNAVAILABLE", StatusCode::SERVICE_UNAVAILABLE),
            Code::Timeout => ("TIMEOUT", StatusCode::GATEWAY_TIMEOUT),
        }
    }
}

impl Cause {
    /// Of an error of the database.
    pub(crate) fn of(error: &sqlx::Error) -> Cause {
        if is_away(error) { Cause::Away } else { Cause::Any }
    }
}

/// The most octets of a sentence: it may quote a name or a field that came with a request of any length.
const MAX_MESSAGE_OCTETS: usize = 1_000;

/// When to try again where nothing else is known: what holds a request back passes in about that time.
const RETRY_AFTER_S: u64 = 1;

/// What a caller is told.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// For programs.
    pub code: Code,
    /// For people: one sentence that names the input and what was expected. Never an internal cause.
    pub message: String,
    /// For who might try again.
    pub(crate) cause: Cause,
    /// Seconds after which to do so.
    pub(crate) retry_after_s: u64,
    /// The limit that was reached, where it is counted with the answer.
    pub(crate) limit: Option<Limit>,
    /// The account, key or token that it is about, as "key" and its id: for the audit log alone.
    pub(crate) about: Option<String>,
}

/// What a problem comes from, as far as that decides what is done next.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Cause {
    /// Whatever the code says.
    #[default]
    Any,
    /// The database cannot be reached, or cannot be written to for now.
    Away,
    /// Two transactions met: the same once more may succeed.
    Met,
}

impl Problem {
    /// A problem with its sentence, which is cut where it is too long.
    pub fn new(code: Code, message: impl Into<String>) -> Problem {
        let mut message = message.into();
        if message.len() > MAX_MESSAGE_OCTETS {
            message.truncate(message.floor_char_boundary(MAX_MESSAGE_OCTETS));
            message.push('…');
            message.shrink_to_fit();
        }
        Problem { code, message, cause: Cause::Any, retry_after_s: RETRY_AFTER_S, limit: None, about: None }
    }

    /// The same, with what it comes from.
    pub(crate) fn because(self, cause: Cause) -> Problem {
        Problem { cause, ..self }
    }

    /// The same, to be tried again after so many seconds.
    pub(crate) fn after(self, retry_after_s: u64) -> Problem {
        Problem { retry_after_s, ..self }
    }

    /// The same, with the limit that was reached.
    pub(crate) fn at(self, limit: Limit) -> Problem {
        Problem { limit: Some(limit), ..self }
    }

    /// The same, with what the audit log is told that it is about.
    pub(crate) fn about(self, what: &str, id: uuid::Uuid) -> Problem {
        Problem { about: Some(format!("{what} {id}")), ..self }
    }

    /// Whether it says nothing about the request: the same may succeed later.
    pub(crate) fn is_passing(&self) -> bool {
        let passing = [
            Code::DbUnavailable,
            Code::DbPoolTimeout,
            Code::BufferUnavailable,
            Code::StorageLocked,
            Code::RateLimited,
            Code::Timeout,
        ];
        self.cause != Cause::Any || passing.contains(&self.code)
    }

    /// Whether the transaction that it came in may be of no use any more.
    pub(crate) fn may_have_broken(&self) -> bool {
        self.is_open() && self.limit.is_none()
    }

    /// Whether the request may still be carried out: it passes, or something failed inside the server.
    pub(crate) fn is_open(&self) -> bool {
        self.is_passing() || self.code == Code::Internal
    }
}

fn is_overlap(error: &dyn sqlx::error::DatabaseError) -> bool {
    error.code().is_some_and(|code| code == "GW001") || error.message().contains("is somebody else's")
}

fn is_suspension(error: &dyn sqlx::error::DatabaseError) -> bool {
    error.code().is_some_and(|code| code == "GW002") || error.message().contains("no such tenant, or it is")
}

fn is_quarantine(error: &dyn sqlx::error::DatabaseError) -> bool {
    error.code().is_some_and(|code| code == "GW003") || error.message().contains("released by somebody else")
}

/// The cause goes to the log, once, here; the caller learns whether it is worth trying again.
impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Problem {
        match error {
            sqlx::Error::PoolTimedOut => {
                tracing::warn!("no database connection came free in time");
                Problem::new(Code::DbPoolTimeout, "all database connections are busy; try again")
            }
            // What it belongs to went away, unique violation, deadlock, serialisation failure: somebody else was at the same zone.
            sqlx::Error::Database(error)
                if error
                    .code()
                    .is_some_and(|code| matches!(&*code, "23503" | "23505" | "40P01" | "40001")) =>
            {
                tracing::info!(%error, "two changes met");
                Problem::new(
                    Code::Conflict,
                    "another change of the same zone came at the same moment; nothing was changed; look, and try again",
                )
                .because(Cause::Met)
            }
            // The schema keeps tenants apart, whatever the program thinks.
            sqlx::Error::Database(error) if is_overlap(&*error) => Problem::new(
                Code::Conflict,
                "a zone above or below it is somebody else's, who would have to grant you admin of it",
            ),
            sqlx::Error::Database(error) if is_suspension(&*error) => {
                Problem::new(Code::Forbidden, "there is no such tenant, or it is suspended")
            }
            sqlx::Error::Database(error) if is_quarantine(&*error) => {
                Problem::new(Code::NameQuarantined, "the name was somebody else's a short time ago")
            }
            error if is_late(&error) => {
                tracing::warn!(%error, "a statement was ended");
                Problem::new(Code::Timeout, "the database took too long over this; nothing was changed")
            }
            sqlx::Error::Database(error) if error.code().is_some_and(|code| code == "42501") => {
                tracing::error!(%error, "the database refused what the program had allowed");
                Problem::new(Code::Forbidden, "this is not yours to see or to change")
            }
            sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_) => {
                tracing::error!(%error, "a row could not be read");
                Problem::new(Code::Internal, "a stored row could not be read; the log has the cause")
            }
            error => {
                tracing::error!(%error, "the database failed");
                let message = "the database is not available; nothing was changed; try again";
                Problem::new(Code::DbUnavailable, message).because(Cause::of(&error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_all_different() {
        let names: std::collections::HashSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(names.len(), Code::ALL.len());
    }

    #[test]
    fn sentences_are_bounded() {
        let problem = Problem::new(Code::MalformedRequest, "é".repeat(MAX_MESSAGE_OCTETS));
        assert!(problem.message.ends_with("é…") && problem.message.len() < MAX_MESSAGE_OCTETS + 4);
        assert_eq!(Problem::new(Code::MalformedRequest, "short").message, "short");
    }

    #[test]
    fn causes_do_not_reach_the_caller() {
        let problem = Problem::from(sqlx::Error::Protocol("secret path /var/lib".into()));
        assert_eq!(problem.code, Code::DbUnavailable);
        assert!(!problem.message.contains("secret"));
    }
}
