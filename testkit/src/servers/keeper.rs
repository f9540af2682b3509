//! A server that is killed and started again as a test says, and ends when the test process does, however that ends: a
//! shell beside it waits for the end of its standard input.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

/// `$1` folder, the rest: how to start the server. Words on standard input say what to do with it.
const KEEPER: &str = r#"
trap "" INT TERM HUP
folder=$1
shift
children() { cat "/proc/$pid/task/$pid/children" 2>/dev/null; }
start() { "$@" >>"$folder/log" 2>&1 </dev/null & pid=$!; }
start "$@"
while read -r word; do
    case $word in
        kill) kill -9 "$pid"; wait "$pid" ;;
        # With what it has started: a server of several processes.
        stop) kill -STOP "$pid" $(children) ;;
        continue) kill -CONT "$pid" $(children) ;;
        start) start "$@" ;;
    esac
    echo done
done
# PostgreSQL heeds the first at once, Redis only the second.
kill -QUIT "$pid"
kill -TERM "$pid"
kill -CONT "$pid"
wait "$pid"
rm -rf "$folder"
"#;

/// See the module.
#[derive(Debug)]
pub(super) struct Keeper {
    folder: PathBuf,
    shell: Child,
    words: Mutex<Option<(ChildStdin, BufReader<ChildStdout>)>>,
}

impl Keeper {
    /// Starts a server, with a folder of its own that goes with it and takes its `log`.
    pub(super) fn start(
        folder: &Path,
        server: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<Keeper> {
        let mut shell = Command::new("sh");
        shell.args(["-c", KEEPER, "keeper"]).arg(folder).args(server).current_dir(folder);
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut shell = shell.spawn().context("starting a shell")?;
        let words = shell.stdin.take().zip(shell.stdout.take().map(BufReader::new));
        let words = Mutex::new(words);
        Ok(Keeper { folder: folder.to_owned(), shell, words })
    }

    /// Where the server has its files.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it said.
    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// `kill`, `stop`, `continue` or `start`; it is done afterwards.
    pub(super) fn say(&self, word: &str) -> Result<()> {
        let mut words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        let (to, from) = words.as_mut().context("the server's keeper is gone")?;
        writeln!(to, "{word}").context("telling the keeper")?;
        let mut done = String::new();
        from.read_line(&mut done).context("waiting for the keeper")?;
        anyhow::ensure!(done == "done\n", "the server's keeper has ended");
        Ok(())
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // It takes the end of its input as the word to clear up.
        *self.words.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let _ = self.shell.wait();
    }
}
