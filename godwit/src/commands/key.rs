//! `godwit key add|list|remove`, for who has an account: each logs in, and out again.

use std::path::Path;

use serde_json::{Value, json};

use super::text;
use super::user::asked;
use crate::cli::{Key, LogIn, Target};
use crate::client::{Ask, Client, encoded};
use crate::output::{Output, say};
use crate::signing::{self, Beside};

/// Seconds for which a proof is good: it is used at once.
const PROOF_S: u64 = 60;

/// Carries out one of them.
pub(crate) fn main(command: Key, output: Output) -> anyhow::Result<()> {
    match command {
        Key::Add { file, name, scope, single_use, expires, login } => {
            let key = if file.exists() {
                signing::Key::read(&file)?
            } else {
                say(format_args!("godwit: made a key on P-256 in {}", file.display()));
                signing::Key::make(&file)?
            };
            within(&login, |client, me, password| {
                let name = name.unwrap_or_else(|| name_of(&file));
                let (sub, aud) = (text(me, "id"), text(me, "aud"));
                let proof = key.sign("new", &signing::claims(sub, aud, PROOF_S)?)?;
                let body = json!({
                    "name": name, "password": password, "public_key": key.public_pem, "proof": proof, "scope": scope,
                    "single_use": single_use, "expires_at": expires,
                });
                let added = client.ask(&Ask::post("/api/v1/users/me/keys", &body))?.json()?;
                let beside = Beside {
                    kid: text(&added, "kid").to_owned(),
                    sub: text(&added, "sub").to_owned(),
                    aud: text(&added, "aud").to_owned(),
                    url: login.url.clone(),
                };
                beside.write(&file)?;
                output.result(&added, |out| {
                    writeln!(out, "added {}; tokens: godwit token sign --key {}", beside.kid, file.display())
                })
            })
        }
        Key::List { login } => within(&login, |client, _, _| {
            let listed = client.ask(&Ask::get("/api/v1/users/me/keys"))?.json()?;
            output.result(&listed, |out| {
                for key in listed["items"].as_array().into_iter().flatten() {
                    let (kid, name) = (text(key, "kid"), text(key, "name"));
                    write!(out, "{kid} {} {name}: {}", text(key, "algorithm"), text(key, "scope"))?;
                    if key["single_use"] == true {
                        write!(out, ", each token once")?;
                    }
                    if let Some(expires) = key["expires_at"].as_str() {
                        write!(out, ", until {expires}")?;
                    }
                    writeln!(out)?;
                }
                Ok(())
            })
        }),
        Key::Remove { kid, login } => within(&login, |client, _, _| {
            client.ask(&Ask::delete(format!("/api/v1/users/me/keys/{}", encoded(&kid))))?;
            output.result(&json!({ "removed": kid }), |out| writeln!(out, "removed {kid}"))
        }),
    }
}

/// Does something as who logs in, and ends the session whatever comes of it.
pub(super) fn within(
    login: &LogIn,
    work: impl FnOnce(&mut Client, &Value, &str) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let target = |token: Option<String>| Target {
        url: login.url.clone(),
        ca: login.ca.clone(),
        token,
        token_file: None,
    };
    let mut stranger = Client::new(&target(None))?;
    let password = asked("Password")?;
    let body = json!({ "email": login.email, "password": password, "code": login.code });
    let tokens = stranger.ask(&Ask::post("/api/v1/auth/login", &body))?.json()?;
    let mut client = Client::new(&target(Some(text(&tokens, "access_token").to_owned())))?;
    let done = client
        .ask(&Ask::get("/api/v1/users/me"))
        .and_then(|me| me.json())
        .map_err(anyhow::Error::from)
        .and_then(|me| work(&mut client, &me, &password));
    let logout = json!({ "refresh_token": tokens["refresh_token"] });
    let ended = stranger.ask(&Ask::post("/api/v1/auth/logout", &logout));
    done?;
    ended?;
    Ok(())
}

/// What a key is called where nothing is said.
fn name_of(file: &Path) -> String {
    file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
