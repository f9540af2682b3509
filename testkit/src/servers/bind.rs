//! BIND's configuration: authoritative only, its checks of what zones should look like off.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::write_configuration;

pub(super) fn command(folder: &Path, port: u16, zones: &[(String, PathBuf)]) -> Result<Command> {
    let dir = folder.display();
    let mut text = format!(
        "options {{\n  directory \"{dir}\";\n  listen-on port {port} {{ 127.0.0.1; }};\n  listen-on-v6 {{ none; }};\n  \
         pid-file \"{dir}/named.pid\";\n  session-keyfile none;\n  recursion no;\n  dnssec-validation no;\n  \
         notify no;\n  minimal-responses yes;\n  minimal-any yes;\n  zero-no-soa-ttl no;\n  empty-zones-enable no;\n  check-integrity no;\n  \
         check-sibling no;\n  check-names primary ignore;\n  check-mx ignore;\n  check-mx-cname ignore;\n  check-srv-cname ignore;\n  check-wildcard no;\n  \
         version none;\n}};\ncontrols {{ }};\n"
    );
    for (apex, file) in zones {
        text.push_str(&format!("zone \"{apex}\" {{ type primary; file \"{}\"; }};\n", file.display()));
    }
    let configuration = write_configuration(folder, "named.conf", &text)?;
    let mut command = Command::new("named");
    command.arg("-g").arg("-4").args(["-n", "1"]).arg("-c").arg(configuration);
    Ok(command)
}
