//! Programs that end with this one, however that ends.

use std::path::Path;
use std::process::Command;

/// Of util-linux.
const SETPRIV: &str = "/usr/bin/setpriv";

/// The program, ended by the kernel should the thread that starts it die without the chance to end it (where setpriv is there); as
/// another user, which only root may have it do.
#[must_use]
pub fn parent_bound(program: &Path, user: Option<&str>) -> Command {
    if user.is_none() && !Path::new(SETPRIV).is_file() {
        return Command::new(program);
    }
    let mut command = Command::new(SETPRIV);
    if let Some(user) = user {
        command.arg(format!("--reuid={user}")).arg(format!("--regid={user}")).arg("--clear-groups");
    }
    command.args(["--pdeathsig", "TERM", "--"]).arg(program);
    command
}
