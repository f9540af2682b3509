//! Opaque tokens, for what cannot sign: made by somebody for themselves, or by who may do everything for nobody's account.

use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::{Accounts, By, gone, mail, name, note_change};
use crate::auth::limits::{Limits, Narrowed};
use crate::auth::scope::Scopes;
use crate::auth::{self, Caller, Login, Scope};
use crate::error::{Code, Problem};
use crate::store::tokens::{self, Token};
use crate::store::{accounts, now_us};

/// The most tokens of an account that are not revoked.
const MOST_TOKENS: i64 = 200;
/// The same of nobody's account.
const MOST_OF_NOBODY: i64 = 10_000;

/// A token to make.
pub(crate) struct NewToken {
    pub(crate) name: String,
    pub(crate) scope: String,
    pub(crate) narrowed: Narrowed,
    pub(crate) expires_at_us: Option<i64>,
    /// Of the account: a token goes on when the session that makes it has ended.
    pub(crate) password: Option<String>,
}

/// Whose tokens are meant: of an account, or of nobody's; and who asks, as the audit knows them.
#[derive(Clone, Debug)]
pub(crate) struct Holder {
    login: Option<Login>,
    actor: String,
}

impl Holder {
    /// Who asks, if they may have tokens made. A token makes no other, or a leaked one would outlive its own end: but for those
    /// of nobody's account, which have no other way.
    ///
    /// # Errors
    /// `FORBIDDEN`, `INSUFFICIENT_SCOPE`.
    pub(crate) fn of(caller: &Caller) -> Result<Holder, Problem> {
        if let Some(login) = caller.login {
            return Ok(Holder { login: Some(login), actor: caller.id.clone() });
        }
        if !caller.is_of_nobody() {
            let message =
                "a token of an account, or one that has an end or is narrowed, makes no other: log in";
            return Err(Problem::new(Code::Forbidden, message));
        }
        caller.scopes.require(Scope::Admin)?;
        Ok(Holder { login: None, actor: caller.id.clone() })
    }

    fn account(&self) -> Option<Uuid> {
        self.login.map(|login| login.account)
    }
}

/// Of a token, what the audit log is told of it when it comes and goes.
fn told(token: &Token) -> Json {
    let Token { account, name, scope, narrowed, expires_at_us, .. } = token;
    let narrowed: Json = serde_json::from_str(narrowed).unwrap_or_default();
    json!({
        "account": account, "name": name, "scope": scope, "narrowed": narrowed, "expires_at_us": expires_at_us,
    })
}

impl Accounts {
    /// Makes a token; it is nowhere afterwards but with the one who asked.
    ///
    /// # Errors
    /// `INVALID_VALUE` and others of what it is narrowed to, `CONFLICT` for one too many, or of the database.
    pub(crate) async fn add_token(
        &self,
        holder: Holder,
        new: NewToken,
        by: &By,
    ) -> Result<(auth::Token, Token), Problem> {
        let scopes = Scopes::parse(&new.scope)
            .map_err(|name| Problem::new(Code::InvalidValue, format!("\"scope\": {name} is no scope")))?;
        if scopes == Scopes::NONE {
            return Err(Problem::new(Code::InvalidValue, "\"scope\": expected at least one"));
        }
        Limits::of(&new.narrowed)?;
        let now = now_us();
        if new.expires_at_us.is_some_and(|expires| expires <= now) {
            return Err(Problem::new(Code::InvalidValue, "\"expires_at\": expected a time to come"));
        }
        if let Some(login) = holder.login {
            self.writes(login.account, by)?;
            self.confirmed(login, new.password.as_deref().unwrap_or_default(), by).await?;
        }
        let failed = |_| Problem::new(Code::Internal, "no token could be made");
        let secret = auth::Token::random().map_err(failed)?;
        let narrowed = serde_json::to_string(&new.narrowed)
            .map_err(|_| Problem::new(Code::Internal, "no token could be made"))?;
        let token = Token {
            account: holder.account(),
            name: name(Some(&new.name))?,
            narrowed,
            expires_at_us: new.expires_at_us,
            ..Token::new(Uuid::now_v7(), &secret.hash().0, &scopes.to_string(), now)
        };
        let (added, by) = (token.clone(), by.clone());
        let add = self.write(move |connection| {
            Box::pin(async move {
                let (account, actor) = (holder.account(), &holder.actor);
                if let Some(account) = account {
                    accounts::hold(connection, account).await?.ok_or_else(gone)?;
                    let what = format!("the token \"{}\"", added.name);
                    mail::enqueue(connection, &mail::Mail::Added { account, what }).await?;
                }
                let most = if account.is_some() { MOST_TOKENS } else { MOST_OF_NOBODY };
                if tokens::count_of(connection, account).await? >= most {
                    return Err(Problem::new(
                        Code::Conflict,
                        format!("there are {most} tokens: revoke one first"),
                    ));
                }
                tokens::insert(connection, &added).await?;
                let change = (Json::Null, told(&added));
                note_change(connection, &by.who(&actor), "token.create", added.id, change).await?;
                Ok(())
            })
        });
        add.await?;
        Ok((secret, token))
    }

    /// Tokens that are not revoked, behind one.
    ///
    /// # Errors
    /// Of the database.
    pub(crate) async fn tokens_of(
        &self,
        holder: &Holder,
        after: Uuid,
        limit: i64,
    ) -> Result<Vec<Token>, Problem> {
        let mut connection = self.readers.acquire().await?;
        Ok(tokens::of_account(&mut connection, holder.account(), after, limit).await?)
    }

    /// Revokes one: it is refused within a second, everywhere.
    ///
    /// # Errors
    /// `TOKEN_NOT_FOUND`, or of the database.
    pub(crate) async fn revoke(&self, holder: Holder, id: Uuid, by: &By) -> Result<(), Problem> {
        if let Some(account) = holder.account() {
            self.writes(account, by)?;
        }
        let by = by.clone();
        let revoke = self.write(move |connection| {
            Box::pin(async move {
                let actor = &holder.actor;
                let was = tokens::by_id(connection, id).await?.as_ref().map_or(Json::Null, told);
                if !tokens::revoke(connection, id, holder.account(), now_us()).await? {
                    return Err(Problem::new(Code::TokenNotFound, "you have no such token"));
                }
                note_change(connection, &by.who(&actor), "token.revoke", id, (was, Json::Null)).await?;
                Ok(())
            })
        });
        revoke.await
    }
}
