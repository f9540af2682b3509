//! Who is asking: what they may, and what they came with.

use std::sync::Arc;

use uuid::Uuid;

use super::access::Access;
use super::limits::Limits;
use super::scope::{Scope, Scopes};
use crate::store::revocations::Revoked;

/// Who is asking.
#[derive(Clone, Debug)]
pub struct Caller {
    /// What the audit knows them by: the token's id, or the account's.
    pub id: String,
    /// What they may do.
    pub(crate) scopes: Scopes,
    /// What they are narrowed to, each by itself.
    pub(crate) limits: Arc<Limits>,
    /// Which zones they see, and what they may there.
    pub(crate) access: Access,
    /// Who has logged in, and in which session.
    pub(crate) login: Option<Login>,
    /// What they came with, where that is an account's.
    pub(crate) by: Option<By>,
    /// What they came with has an end, or is narrowed.
    pub(crate) is_bounded: bool,
    /// What they came with is good once, and is still to be used up.
    pub(crate) spends: bool,
    /// Known from memory alone: the database could not be asked.
    pub(crate) unchecked: bool,
}

/// Who has logged in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Login {
    pub(crate) account: Uuid,
    pub(crate) session: Uuid,
}

/// What somebody with an account came with, who has not logged in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum By {
    /// A JWT that a key signed.
    Key { account: Uuid, key: Uuid, jti: String },
    /// An opaque token.
    Token { account: Uuid, token: Uuid },
}

impl By {
    pub(crate) fn account(&self) -> Uuid {
        match self {
            By::Key { account, .. } | By::Token { account, .. } => *account,
        }
    }
}

impl Caller {
    /// The account that they are of; `None` of who has a token that is nobody's.
    pub(crate) fn account(&self) -> Option<Uuid> {
        let logged_in = self.login.map(|login| login.account);
        logged_in.or_else(|| self.by.as_ref().map(By::account))
    }

    /// Whether they are of an account.
    pub(crate) fn is_of_account(&self) -> bool {
        self.account().is_some()
    }

    /// Whether it is about them, or what they came with, that something is good no more, or not as it was.
    pub(crate) fn is_concerned_by(&self, revoked: &Revoked) -> bool {
        match (revoked, &self.by) {
            (Revoked::Key(id), Some(By::Key { key, .. })) => key == id,
            (Revoked::Token(of, named), Some(By::Key { account, jti, .. })) => account == of && jti == named,
            (Revoked::Key(_) | Revoked::Token(..), _) => false,
            (Revoked::Tenant(number), _) => self.access.acts_for(*number),
            (Revoked::Account(id), _) => match self.account() {
                Some(account) => account == *id,
                None => self.id == id.to_string(),
            },
        }
    }

    /// Whether they came with a token of nobody's account that is not bounded: as the one of the first start.
    pub(crate) fn is_of_nobody(&self) -> bool {
        !self.is_of_account() && !self.is_bounded
    }

    /// The session, the key or the token of an account that they came with.
    pub(crate) fn came_with(&self) -> Option<Uuid> {
        let session = self.login.map(|login| login.session);
        session.or(self.by.as_ref().map(|by| match by {
            By::Key { key: id, .. } | By::Token { token: id, .. } => *id,
        }))
    }

    /// The same as the audit log has it: what it is, and its id.
    pub(crate) fn brought(&self) -> String {
        match (self.login, &self.by) {
            (Some(login), _) => format!("session {}", login.session),
            (None, Some(By::Key { key, .. })) => format!("key {key}"),
            (None, Some(By::Token { token, .. })) => format!("token {token}"),
            (None, None) => format!("token {}", self.id),
        }
    }

    /// Somebody whose right to a request was checked when it came.
    pub(crate) fn checked_before(id: String, limits: Arc<Limits>, access: Access) -> Caller {
        Caller {
            id,
            scopes: Scopes::of(Scope::Admin),
            limits,
            access,
            login: None,
            by: None,
            is_bounded: false,
            spends: false,
            unchecked: false,
        }
    }
}
