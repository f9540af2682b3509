//! NSD's configuration: one process that answers, nothing kept between runs.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::write_configuration;

pub(super) fn command(folder: &Path, port: u16, zones: &[(String, PathBuf)]) -> Result<Command> {
    let dir = folder.display();
    let mut text = format!(
        "server:\n  ip-address: 127.0.0.1@{port}\n  server-count: 1\n  username: \"\"\n  chroot: \"\"\n  zonesdir: \"{dir}\"\n  \
         database: \"\"\n  pidfile: \"{dir}/nsd.pid\"\n  xfrdfile: \"{dir}/xfrd.state\"\n  xfrdir: \"{dir}\"\n  \
         zonelistfile: \"{dir}/zone.list\"\n  minimal-responses: yes\n  refuse-any: yes\n  rrl-ratelimit: 0\n  \
         hide-version: yes\n  verbosity: 1\nremote-control:\n  control-enable: no\n"
    );
    for (apex, file) in zones {
        text.push_str(&format!("zone:\n  name: \"{apex}\"\n  zonefile: \"{}\"\n", file.display()));
    }
    let configuration = write_configuration(folder, "nsd.conf", &text)?;
    let mut command = Command::new("nsd");
    command.arg("-d").arg("-c").arg(configuration);
    Ok(command)
}
