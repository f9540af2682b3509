//! Whether somebody to whom much is sent, or who listens, still may have it: what they came with is looked at again when something is
//! heard of that concerns them.

use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::super::App;
use crate::auth::{self, Caller, cookie};
use crate::commit::Committer;
use crate::error::{Code, Problem};
use crate::store::revocations::Revoked;

/// How soon it is looked again, once that could not be known.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What somebody came with.
#[derive(Debug)]
pub(super) enum Shown {
    Token(String),
    Cookie(String),
}

impl Shown {
    /// What a request came with.
    pub(super) fn of(headers: &HeaderMap) -> Option<Shown> {
        let cookie = || cookie::value(headers).map(|value| Shown::Cookie(value.to_owned()));
        auth::bearer(headers).map(|token| Shown::Token(token.to_owned())).or_else(cookie)
    }

    /// Who that is; that their session is in use is written down by the one who is given.
    ///
    /// # Errors
    /// What speaks against it, or the database's.
    pub(super) async fn who(&self, app: &App, in_use: Option<&Committer>) -> Result<Caller, Problem> {
        match self {
            Shown::Token(token) => app.authenticator.authenticate(&app.readers, token).await,
            Shown::Cookie(value) => app.authenticator.of_cookie(&app.readers, in_use, value).await,
        }
    }

    /// Who somebody is now, where they were. It is no use of a session: nobody does anything.
    ///
    /// # Errors
    /// What speaks against it, or the database's.
    pub(super) async fn again(&self, app: &App, before: &Caller) -> Result<Caller, Problem> {
        let caller = self.who(app, None).await?;
        let access = caller.access.asking_from(before.access.client());
        Ok(Caller { access, ..caller })
    }
}

/// Somebody to whom something is sent for a while.
pub(super) struct Reader {
    app: Arc<App>,
    shown: Shown,
    caller: Caller,
    news: broadcast::Receiver<Revoked>,
}

impl Reader {
    /// Who asked.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` for who came with nothing.
    pub(super) fn new(app: &Arc<App>, headers: &HeaderMap, caller: Caller) -> Result<Reader, Problem> {
        let nobody = || Problem::new(Code::Unauthenticated, "this needs a token");
        let shown = Shown::of(headers).ok_or_else(nobody)?;
        Ok(Reader { app: app.clone(), shown, caller, news: app.authenticator.news() })
    }

    /// Resolves when they may not have it any more, as `may` says of who they are then: with why.
    pub(super) async fn refused(mut self, may: impl Fn(&Caller) -> bool) -> Problem {
        // What was revoked after they were let in, and before it was listened to, is not heard.
        let mut is_due = true;
        loop {
            if is_due {
                match self.shown.again(&self.app, &self.caller).await {
                    Ok(caller) => {
                        self.caller = caller;
                        if !may(&self.caller) {
                            return Problem::new(
                                Code::Forbidden,
                                "what is sent is not theirs to see any more",
                            );
                        }
                        is_due = false;
                    }
                    // While the database is away what was known counts, as everywhere.
                    Err(problem) if problem.is_open() => tokio::time::sleep(LOOK_AGAIN).await,
                    Err(problem) => return problem,
                }
                continue;
            }
            match self.news.recv().await {
                Ok(revoked) => is_due = self.caller.is_concerned_by(&revoked),
                Err(RecvError::Lagged(_)) => is_due = true,
                // This process ends, and what is sent with it.
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
    }
}
