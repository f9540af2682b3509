//! Keys with which somebody signs tokens of their own, and tokens that are good no more before their time.

use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::{Accounts, By, US_PER_S, gone, mail, name, note_change};
use crate::auth::jwt::{SKEW_S, VerifyingKey};
use crate::auth::scope::Scopes;
use crate::auth::{Login, keys as public};
use crate::error::{Code, Problem};
use crate::store::keys::{self, Key};
use crate::store::revocations::{self, Revoked};
use crate::store::{accounts, audit, now_us};

/// The most keys of an account.
const MOST_KEYS: i64 = 50;

/// A key to add.
pub(crate) struct NewKey<'a> {
    pub(crate) name: &'a str,
    /// The account's password: a key goes on when the session that adds it has ended.
    pub(crate) password: &'a str,
    /// In PEM.
    pub(crate) public_key: &'a str,
    /// A JWT that the key signed.
    pub(crate) proof: &'a str,
    /// The most that its tokens may; all that the account may when left out.
    pub(crate) scope: Option<&'a str>,
    pub(crate) single_use: bool,
    pub(crate) expires_at_us: Option<i64>,
}

/// Of a key, what the audit log is told of it when it comes and goes.
fn told(key: &Key) -> Json {
    let Key { name, algorithm, scope, single_use, expires_at_us, .. } = key;
    json!({
        "name": name, "algorithm": algorithm, "scope": scope, "single_use": single_use, "expires_at_us": expires_at_us,
    })
}

impl Accounts {
    /// Adds a key whose other half the one who sends it has.
    ///
    /// # Errors
    /// `INVALID_VALUE`, `CONFLICT` for one too many, or of the database.
    pub(crate) async fn add_key(&self, login: Login, new: NewKey<'_>, by: &By) -> Result<Key, Problem> {
        self.writes(login.account, by)?;
        let (algorithm, public_key) = public::parse(new.public_key)?;
        self.authenticator.check_proof(
            new.proof,
            &VerifyingKey::new(algorithm, &public_key),
            login.account,
        )?;
        let scope = new.scope.unwrap_or("admin");
        let scopes = Scopes::parse(scope)
            .map_err(|name| Problem::new(Code::InvalidValue, format!("\"scope\": {name} is no scope")))?;
        let now = now_us();
        if new.expires_at_us.is_some_and(|expires| expires <= now) {
            return Err(Problem::new(Code::InvalidValue, "\"expires_at\": expected a time to come"));
        }
        self.confirmed(login, new.password, by).await?;
        let mut key = Key {
            // Random, and not by time: it says nothing.
            id: Uuid::new_v4(),
            account: login.account,
            name: name(Some(new.name))?,
            algorithm: algorithm.as_str().to_owned(),
            public_key,
            scope: scopes.to_string(),
            single_use: new.single_use,
            created_at_us: now,
            expires_at_us: new.expires_at_us,
            is_operator: false,
            is_suspended: false,
        };
        let (added, by) = (key.clone(), by.clone());
        let add = self.write(move |connection| {
            Box::pin(async move {
                let account = accounts::hold(connection, added.account).await?.ok_or_else(gone)?;
                if keys::count(connection, account.id).await? >= MOST_KEYS {
                    let message = format!("there are {MOST_KEYS} keys: delete one first");
                    return Err(Problem::new(Code::Conflict, message));
                }
                keys::insert(connection, &added).await?;
                let what = format!("the key \"{}\"", added.name);
                mail::enqueue(connection, &mail::Mail::Added { account: account.id, what }).await?;
                let change = (Json::Null, told(&added));
                note_change(connection, &by.who(&account.id), "key.add", added.id, change).await?;
                Ok(account.is_operator)
            })
        });
        key.is_operator = add.await?;
        Ok(key)
    }

    /// The keys of an account.
    ///
    /// # Errors
    /// Of the database.
    pub(crate) async fn keys(&self, login: Login) -> Result<Vec<Key>, Problem> {
        let mut connection = self.readers.acquire().await?;
        Ok(keys::of_account(&mut connection, login.account).await?)
    }

    /// Deletes a key: what it signed is refused within a second, everywhere.
    ///
    /// # Errors
    /// `KEY_NOT_FOUND`, or of the database.
    pub(crate) async fn delete_key(&self, login: Login, id: Uuid, by: &By) -> Result<(), Problem> {
        self.writes(login.account, by)?;
        let by = by.clone();
        let delete = self.write(move |connection| {
            Box::pin(async move {
                let was = keys::by_id(connection, id).await?.as_ref().map_or(Json::Null, told);
                if !keys::delete(connection, id, login.account).await? {
                    return Err(Problem::new(Code::KeyNotFound, "you have no such key"));
                }
                revocations::tell(connection, &Revoked::Key(id)).await?;
                note_change(connection, &by.who(&login.account), "key.delete", id, (was, Json::Null)).await?;
                Ok(())
            })
        });
        delete.await?;
        self.authenticator.heard(&Revoked::Key(id), now_us());
        Ok(())
    }

    /// Refuses a token of an account from now on, by its `jti`.
    ///
    /// # Errors
    /// `INVALID_VALUE`, or of the database.
    pub(crate) async fn revoke_token(&self, account: Uuid, jti: &str, by: &By) -> Result<(), Problem> {
        self.writes(account, by)?;
        if !(1..=128).contains(&jti.len()) || jti.chars().any(char::is_control) {
            return Err(Problem::new(Code::InvalidValue, "\"jti\": expected 1 to 128 octets of text"));
        }
        // As long as one that is made at this moment could be good.
        let lives_s = self.issuer.lifetime_s().saturating_add(2 * SKEW_S);
        let until_us = now_us().saturating_add(lives_s.saturating_mul(US_PER_S));
        let revoked = Revoked::Token(account, jti.to_owned());
        let (told, by) = (revoked.clone(), by.clone());
        let revoke = self.write(move |connection| {
            Box::pin(async move {
                revocations::tell_until(connection, &told, until_us).await?;
                let Revoked::Token(_, jti) = &told else { return Ok(()) };
                audit::note(connection, &by.who(&account), "jwt.revoke", jti).await?;
                Ok(())
            })
        });
        revoke.await?;
        self.authenticator.heard(&revoked, until_us);
        Ok(())
    }
}
