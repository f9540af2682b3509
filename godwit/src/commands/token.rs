//! `godwit token create`: straight into the database, so only while nobody else has it.

use anyhow::Context;
use godwit_controlplane::Controlplane;
use serde_json::json;

use crate::cli::Token;
use crate::output::{Output, Wrong};
use crate::run::config::Config;
use crate::run::lock::FolderLock;

/// Makes a token and prints it, once.
pub(crate) fn main(command: Token, output: Output) -> anyhow::Result<()> {
    let Token::Create { scope, data, config } = command;
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
