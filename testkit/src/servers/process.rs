//! Programs that tests start: found or missed with a clear word, and ended with the test.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, ensure};

/// A child process that is killed and reaped when dropped.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    /// Starts a program with its output going to a file.
    ///
    /// # Errors
    /// When it cannot be started; for a missing one, what to install.
    pub fn start(mut command: Command, log: &Path) -> Result<Process> {
        let output = File::create(log).with_context(|| format!("creating {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().with_context(|| missing(&command))?;
        Ok(Process(child))
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.0.try_wait().context("asking for a child's state")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing left to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a program to its end and gives what it wrote.
///
/// # Errors
/// When it is missing or fails, with all it wrote.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| missing(command))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}\n{text}{errors}", output.status);
    Ok(text)
}

fn missing(command: &Command) -> String {
    format!(
        "cannot start {:?}; the tests need these packages (Debian's names): bind9 bind9-dnsutils knot nsd ldnsutils",
        command.get_program()
    )
}
