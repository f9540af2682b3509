//! `godwit token create`: straight into the database, so only while nobody else has it; `godwit token sign`: with a key of a user.

use anyhow::Context;
use godwit_controlplane::Controlplane;
use serde_json::json;

use crate::cli::Token;
use crate::output::{Output, Wrong};
use crate::run::config::Config;
use crate::run::lock::FolderLock;
use crate::signing::{self, Beside};

/// Makes a token and prints it, once.
pub(crate) fn main(command: Token, output: Output) -> anyhow::Result<()> {
    let (scope, data, config) = match command {
        Token::Create { scope, data, config } => (scope, data, config),
        Token::Sign { key, scope, zones, names, types, networks, ttl } => {
            let beside = Beside::read(&key)?;
            let mut claims = signing::claims(&beside.sub, &beside.aud, ttl)?;
            claims["scope"] = json!(scope);
            let lists = [("zones", zones), ("names", names), ("types", types), ("networks", networks)];
            for (name, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
                claims["godwit"][name] = json!(list);
            }
            let token = signing::Key::read(&key)?.sign(&beside.kid, &claims)?;
            return output.result(&json!({ "token": token }), |out| writeln!(out, "{token}"));
        }
    };
    if scope != "admin" {
        return Err(Wrong(format!("--scope {scope}: expected admin, the only one so far")).into());
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
