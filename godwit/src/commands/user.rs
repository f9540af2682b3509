//! `godwit user add|register|verify|password|list|link|suspend|resume|remove`.

use std::io::{BufRead as _, IsTerminal as _, Read as _};

use anyhow::Context as _;
use serde_json::{Value, json};

use super::text;
use crate::cli::{Target, User};
use crate::client::{Ask, Client, encoded};
use crate::output::{Output, Wrong};

/// Of a password on standard input no more is read: it may be a device.
const MAX_PASSWORD_OCTETS: u64 = 4_096;

/// Carries out one of them.
pub(crate) fn main(command: User, output: Output) -> anyhow::Result<()> {
    match command {
        User::Add { email, name, operator, target } => {
            let body = json!({ "email": email, "name": name, "operator": operator });
            let added = Client::new(&target)?.ask(&Ask::post("/api/v1/users", &body))?.json()?;
            // The line alone, so that it can go on to the one that it is for.
            output.result(&added, |out| writeln!(out, "{}", text(&added, "link")))
        }
        User::Register { email, name, target } => {
            let body = json!({ "email": email, "name": name, "password": chosen()? });
            let sent = Client::new(&target)?.ask(&Ask::post("/api/v1/auth/register", &body))?.json()?;
            output.result(&sent, |out| {
                writeln!(out, "a mail goes to {email}; follow the link in it, or: godwit user verify gl_…")
            })
        }
        User::Verify { link, target } => {
            let body = json!({ "token": link, "password": asked("Password")? });
            let made = Client::new(&target)?.ask(&Ask::post("/api/v1/auth/verify", &body))?.json()?;
            output.result(&made, |out| writeln!(out, "{} has an account now", text(&made, "email")))
        }
        User::Password { link, target } => {
            let body = json!({ "token": link, "password": chosen()? });
            Client::new(&target)?.ask(&Ask::post("/api/v1/auth/password/reset", &body))?;
            output.result(&json!({ "changed": true }), |out| writeln!(out, "chosen; log in with it"))
        }
        User::List { target } => list(&target, output),
        User::Link { email, target } => {
            let mut client = Client::new(&target)?;
            let id = id(&mut client, &email)?;
            let ask = Ask {
                body: Default::default(),
                media_type: None,
                ..Ask::post(path(&id, "/link"), &Value::Null)
            };
            let linked = client.ask(&ask)?.json()?;
            output.result(&linked, |out| writeln!(out, "{}", text(&linked, "link")))
        }
        User::Suspend { email, target } => suspend(&email, true, &target, output),
        User::Resume { email, target } => suspend(&email, false, &target, output),
        User::Remove { email, target } => {
            let mut client = Client::new(&target)?;
            let id = id(&mut client, &email)?;
            client.ask(&Ask::delete(path(&id, "")))?;
            output.result(&json!({ "removed": email }), |out| writeln!(out, "removed {email}"))
        }
    }
}

fn list(target: &Target, output: Output) -> anyhow::Result<()> {
    let mut users = Vec::new();
    Client::new(target)?.list("/api/v1/users", |user| {
        users.push(user);
        Ok(())
    })?;
    output.result(&json!({ "items": users }), |out| {
        for user in &users {
            write!(out, "{}", text(user, "email"))?;
            for (key, word) in [("operator", "operator"), ("totp", "codes")] {
                if user[key] == true {
                    write!(out, " {word}")?;
                }
            }
            if user["password"] != true {
                write!(out, " without password")?;
            }
            if let Some(since) = user["suspended_at"].as_str() {
                write!(out, " suspended since {since}")?;
            }
            writeln!(out)?;
        }
        Ok(())
    })
}

fn suspend(email: &str, suspended: bool, target: &Target, output: Output) -> anyhow::Result<()> {
    let mut client = Client::new(target)?;
    let id = id(&mut client, email)?;
    let user = client.ask(&Ask::patch(path(&id, ""), &json!({ "suspended": suspended })))?.json()?;
    let done = if suspended { "suspended" } else { "let in again" };
    output.result(&user, |out| writeln!(out, "{email} {done}"))
}

/// The id of who has an address.
fn id(client: &mut Client, email: &str) -> anyhow::Result<String> {
    let found = client.ask(&Ask::get(format!("/api/v1/users?email={}", encoded(email))))?.json()?;
    let id = found["items"][0]["id"].as_str().map(ToOwned::to_owned);
    id.with_context(|| format!("there is no user with the address {email}"))
}

fn path(id: &str, rest: &str) -> String {
    format!("/api/v1/users/{id}{rest}")
}

/// A new password: on a terminal it is asked for twice.
fn chosen() -> anyhow::Result<String> {
    let password = asked("Password, at least 10 characters")?;
    if std::io::stdin().is_terminal() && password != asked("The same again")? {
        return Err(Wrong("the two are not the same".to_owned()).into());
    }
    Ok(password)
}

/// Asked for on a terminal, where it is not shown; else the first line of standard input.
pub(super) fn asked(what: &str) -> anyhow::Result<String> {
    let input = std::io::stdin();
    if input.is_terminal() {
        return Ok(rpassword::prompt_password(format!("{what}: "))?);
    }
    let mut line = String::new();
    let read = std::io::BufReader::new(input.lock().take(MAX_PASSWORD_OCTETS)).read_line(&mut line);
    read.context("the password on standard input")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
