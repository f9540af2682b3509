//! Knot DNS's configuration: zone files as they are, no journal, no signing.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::write_configuration;

pub(super) fn command(folder: &Path, port: u16, zones: &[(String, PathBuf)]) -> Result<Command> {
    let dir = folder.display();
    let mut text = format!(
        "server:\n    listen: 127.0.0.1@{port}\n    rundir: \"{dir}\"\n    udp-workers: 1\n    tcp-workers: 1\n    \
         background-workers: 1\nlog:\n  - target: stderr\n    any: info\ndatabase:\n    storage: \"{dir}\"\ntemplate:\n  - \
         id: default\n    storage: \"{dir}\"\n    semantic-checks: off\n    journal-content: none\n    \
         zonefile-load: whole\n    zonefile-sync: -1\nzone:\n"
    );
    for (apex, file) in zones {
        text.push_str(&format!("  - domain: \"{apex}\"\n    file: \"{}\"\n", file.display()));
    }
    let configuration = write_configuration(folder, "knot.conf", &text)?;
    let mut command = Command::new("knotd");
    command.arg("-c").arg(configuration);
    Ok(command)
}
