//! `godwit keys list|rotate|rewrap` speak to the API; `godwit keys make` needs no server.

use std::time::Duration;

use anyhow::bail;
use serde_json::{Value, json};

use super::text;
use crate::cli::{Keys, Target};
use crate::client::{Ask, Client, encoded};
use crate::output::{Output, Wrong, say};

/// How often it is looked whether a rotation has come to its end.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// Carries out one of them.
pub(crate) fn main(command: Keys, output: Output) -> anyhow::Result<()> {
    match command {
        Keys::List { target } => {
            let keys = Client::new(&target)?.ask(&Ask::get("/api/v1/keys"))?.json()?;
            listed(&keys, output)
        }
        Keys::Rotate { no_wait, target } => rotate(&target, no_wait, output),
        Keys::Rewrap { finish, target } => {
            let path = if finish { "/api/v1/keys/rewrap/finish" } else { "/api/v1/keys/rewrap" };
            let keys = Client::new(&target)?.ask(&without_body(path))?.json()?;
            listed(&keys, output)
        }
        Keys::Make { file } => {
            let made = godwit_controlplane::make_master_key(&file);
            let id = made.map_err(|error| Wrong(format!("{error:#}")))?;
            let made = json!({ "id": id, "file": file });
            output.result(&made, |out| writeln!(out, "{id} {}", file.display()))
        }
    }
}

fn without_body(path: &str) -> Ask {
    Ask { method: hyper::Method::POST, ..Ask::get(path) }
}

fn rotate(target: &Target, no_wait: bool, output: Output) -> anyhow::Result<()> {
    let mut client = Client::new(target)?;
    let begun = client.ask(&without_body("/api/v1/keys/rotate"))?.json()?;
    let key = &begun["key"];
    if !no_wait {
        let path = format!("/api/v1/jobs/{}", encoded(text(&begun, "job")));
        say(format_args!(
            "godwit: data key {key} seals from now on; what older ones have sealed is sealed anew"
        ));
        loop {
            let job = client.ask(&Ask::get(path.as_str()))?.json()?;
            match text(&job, "state") {
                "waiting" | "running" => std::thread::sleep(LOOK_EVERY),
                "done" => break,
                state => bail!("the job keys.rotate is {state}: {}", text(&job, "last_error")),
            }
        }
    }
    output.result(&begun, |out| writeln!(out, "data key {key}"))
}

fn listed(keys: &Value, output: Output) -> anyhow::Result<()> {
    output.result(keys, |out| {
        for key in keys["items"].as_array().into_iter().flatten() {
            let masters = key["masters"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let masters: Vec<&str> = masters.collect();
            writeln!(
                out,
                "data key {} of {}, opened by master key {}",
                key["id"],
                text(key, "created_at"),
                masters.join(" or ")
            )?;
        }
        match keys["master"].as_str() {
            Some(id) => writeln!(out, "the server has master key {id}"),
            None => writeln!(out, "the server has no master key in its place"),
        }
    })
}
