//! `godwit token add|list|revoke` speak to the API. `godwit token create`: straight into the database, so only while nobody else has it; `godwit token sign`: with a key of a user.

use anyhow::Context;
use godwit_controlplane::Controlplane;
use godwit_controlplane::auth::{Scope, Scopes};
use serde_json::{Value, json};

use super::text;
use crate::cli::{LogIn, Narrowed, Token, Whose};
use crate::client::{Ask, Client, encoded};
use crate::output::{Output, Wrong};
use crate::run::config::Config;
use crate::run::lock::FolderLock;
use crate::signing::{self, Beside};

/// Makes a token and prints it, once.
pub(crate) fn main(command: Token, output: Output) -> anyhow::Result<()> {
    let (scope, data, config) = match command {
        Token::Create { scope, data, config } => (scope, data, config),
        Token::Sign { key, scope, narrowed, ttl } => {
            let beside = Beside::read(&key)?;
            let mut claims = signing::claims(&beside.sub, &beside.aud, ttl)?;
            claims["scope"] = json!(scope);
            claims["godwit"] = said(narrowed);
            let token = signing::Key::read(&key)?.sign(&beside.kid, &claims)?;
            return output.result(&json!({ "token": token }), |out| writeln!(out, "{token}"));
        }
        Token::Add { title, scope, narrowed, expires, whose } => {
            return of(&whose, |client, password| {
                let body = json!({
                    "name": title, "scope": scope, "narrowed": said(narrowed), "expires_at": expires,
                    "password": password,
                });
                let added = client.ask(&Ask::post("/api/v1/tokens", &body))?.json()?;
                // The line alone, so that it can go into a file.
                output.result(&added, |out| writeln!(out, "{}", text(&added, "token")))
            });
        }
        Token::List { whose } => return of(&whose, |client, _| list(client, output)),
        Token::Revoke { id, whose } => {
            return of(&whose, |client, _| {
                client.ask(&Ask::delete(format!("/api/v1/tokens/{}", encoded(&id))))?;
                output.result(&json!({ "revoked": id }), |out| writeln!(out, "revoked {id}"))
            });
        }
    };
    if let Err(name) = Scopes::parse(&scope) {
        let all: Vec<&str> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
        return Err(Wrong(format!("--scope: {name} is none of {}", all.join(", "))).into());
    }
    let store = Config::store(config, data).map_err(|error| Wrong(error.to_string()))?;
    let data = &store.data;
    if !data.is_dir() {
        return Err(Wrong(format!("--data {}: no such folder; `godwit run` makes it", data.display())).into());
    }
    let _lock = FolderLock::take(data).context("tokens are made while the server is stopped")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let token = runtime.block_on(Controlplane::create_token(&store, &scope))?;
    let text = token.reveal();
    output.result(&json!({ "token": text, "scope": scope }), |out| writeln!(out, "{scope} token: {text}"))
}

/// As the one who logs in, or with an admin token.
fn of(
    whose: &Whose,
    work: impl FnOnce(&mut Client, Option<&str>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let Whose { email, code, target } = whose.clone();
    match email {
        Some(email) => {
            let login = LogIn { email, code, url: target.url, ca: target.ca };
            super::key::within(&login, |client, _, password| work(client, Some(password)))
        }
        None => work(&mut Client::new(&target)?, None),
    }
}

/// What a token is narrowed to, as the API reads it; a list that is left out narrows nothing.
fn said(narrowed: Narrowed) -> Value {
    let Narrowed { zones, names, types, values, networks } = narrowed;
    let lists =
        [("zones", zones), ("names", names), ("types", types), ("values", values), ("networks", networks)];
    let lists = lists.into_iter().filter(|(_, list)| !list.is_empty());
    Value::Object(lists.map(|(name, list)| (name.to_owned(), json!(list))).collect())
}

fn list(client: &mut Client, output: Output) -> anyhow::Result<()> {
    let mut tokens = Vec::new();
    client.list("/api/v1/tokens", |token| {
        tokens.push(token);
        Ok(())
    })?;
    output.result(&json!({ "items": tokens }), |out| {
        for token in &tokens {
            write!(out, "{} {}: {}", text(token, "id"), text(token, "name"), text(token, "scope"))?;
            if token["narrowed"].as_object().is_some_and(|narrowed| !narrowed.is_empty()) {
                write!(out, " {}", token["narrowed"])?;
            }
            match token["used_at"].as_str() {
                Some(at) => write!(out, ", used {at}")?,
                None => write!(out, ", never used")?,
            }
            if let Some(expires) = token["expires_at"].as_str() {
                write!(out, ", until {expires}")?;
            }
            writeln!(out)?;
        }
        Ok(())
    })
}
