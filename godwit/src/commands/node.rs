//! `godwit node add|list|remove`.

use serde_json::json;

use super::text;
use crate::cli::{Node, Target};
use crate::client::{Ask, Client, encoded};
use crate::output::Output;

/// Carries out one of them.
pub(crate) fn main(command: Node, output: Output) -> anyhow::Result<()> {
    match command {
        Node::Add { name, target } => add(&name, &target, output),
        Node::List { target } => list(&target, output),
        Node::Remove { name, target } => remove(&name, &target, output),
    }
}

fn add(name: &str, target: &Target, output: Output) -> anyhow::Result<()> {
    let ask = Ask::post("/api/v1/nodes", &json!({ "name": name }));
    let added = Client::new(target)?.ask(&ask)?.json()?;
    // The line alone, so that it can go into a file.
    output.result(&added, |out| writeln!(out, "{}", text(&added, "join")))
}

fn list(target: &Target, output: Output) -> anyhow::Result<()> {
    let mut nodes = Vec::new();
    Client::new(target)?.list("/api/v1/nodes", |node| {
        nodes.push(node);
        Ok(())
    })?;
    output.result(&json!({ "items": nodes }), |out| {
        for node in &nodes {
            let lives = if node["live"] == true { "live" } else { "dead" };
            write!(out, "{} {lives}", text(node, "node"))?;
            if let Some(address) = node["address"].as_str() {
                write!(out, " at {address}")?;
            }
            if let Some(version) = node["version"].as_str() {
                write!(out, " version {version}")?;
            }
            match node["silent_seconds"].as_f64() {
                None => write!(out, " never heard of")?,
                Some(seconds) => {
                    write!(out, " sequence {} behind by {}", node["sequence"], node["lag_sequences"])?;
                    if node["live"] != true {
                        write!(out, " silent for {seconds:.0} s")?;
                    }
                }
            }
            if node["digests"] == "differs" {
                write!(out, " digests differ")?;
            }
            match node["quarantined_zones"].as_u64() {
                None | Some(0) => writeln!(out)?,
                Some(zones) => writeln!(out, " zones in quarantine: {zones}")?,
            }
        }
        Ok(())
    })
}

fn remove(name: &str, target: &Target, output: Output) -> anyhow::Result<()> {
    let path = format!("/api/v1/nodes/{}", encoded(name));
    Client::new(target)?.ask(&Ask::delete(path))?;
    output.result(&json!({ "removed": name }), |out| writeln!(out, "removed {name}"))
}
