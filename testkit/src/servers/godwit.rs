//! Godwit's own data plane as an operator starts it, built first when it is not there.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result};

use super::run;

pub(super) fn command(port: u16, zones: &[(String, PathBuf)]) -> Result<Command> {
    let mut command = Command::new(program()?);
    command.args(["--listen", &format!("127.0.0.1:{port}"), "--workers", "1", "--metrics", "off"]);
    for (apex, file) in zones {
        command.arg("--zone").arg(format!("{apex}={}", file.display()));
    }
    Ok(command)
}

/// The path of `godwit-dataplane`, as cargo says it.
fn program() -> Result<PathBuf> {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    if let Some(program) = PROGRAM.get() {
        return Ok(program.clone());
    }
    // Who runs all tests has built all programs: for this one alone libraries would be built once more.
    if let Some(folder) = std::env::var_os("GODWIT_PROGRAMS") {
        return Ok(PathBuf::from(folder).join("godwit-dataplane"));
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let text = run(Command::new(cargo).current_dir(env!("CARGO_MANIFEST_DIR")).args([
        "build",
        "--quiet",
        "--locked",
        "--package",
        "godwit-dataplane",
        "--bin",
        "godwit-dataplane",
        "--message-format",
        "json",
    ]))
    .context("building godwit-dataplane")?;
    let executable = text
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "godwit-dataplane")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .context("cargo names no executable for godwit-dataplane")?;
    Ok(PROGRAM.get_or_init(|| executable).clone())
}
