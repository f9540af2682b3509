//! The child as a process: started, asked, and ended where it does not answer.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::frames::{self, Kind, Message};

/// How long a child may take until it is ready.
const START: Duration = Duration::from_secs(10);
/// How long one that ended may take to say how.
const END: Duration = Duration::from_secs(1);
/// Time is counted in turns of ours: a machine that has no time for us is not taken for a child that has no end.
const TURN: Duration = Duration::from_millis(50);

/// What a child is started with.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// A program whose arguments lead to [`super::child::main`], where the bound of its memory is added to them, or to
    /// [`egress::child::main`](crate::egress::child::main).
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, arguments: &[&str]) -> Program {
        Program { path: path.into(), arguments: arguments.iter().map(OsString::from).collect() }
    }

    /// The program of this process, the very same also where its file was replaced since.
    ///
    /// # Errors
    /// When the system does not say which it is.
    pub fn of_this_process(arguments: &[&str]) -> io::Result<Program> {
        let own = Path::new("/proc/self/exe");
        let path = if own.exists() { own.to_owned() } else { std::env::current_exe()? };
        Ok(Program::new(path, arguments))
    }

    /// It, to be started under a name as a child that is spoken to. Of our environment it has nothing: secrets may be in it.
    pub(crate) fn command(&self, name: &str) -> Command {
        let mut command = Command::new(&self.path);
        command
            .args(&self.arguments)
            .arg0(name)
            .env_clear()
            // The allocator of `godwit` would take a GiB of addresses at once, which counts as memory there.
            .env("MIMALLOC_ARENA_RESERVE", "0")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Signals of a terminal are for us.
            .process_group(0)
            .kill_on_drop(true);
        command
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Ended {
    /// It was never ready.
    NotStarted(String),
    /// It was asked something. What became of it.
    During(String),
}

/// A running child. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Child {
    process: tokio::process::Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    is_ready: bool,
}

impl Child {
    /// Starts it, without waiting until it is ready.
    pub(super) fn start(program: &Program, memory_octets: u64) -> io::Result<Child> {
        let mut command = program.command("godwit-shadow");
        command.arg("--memory-octets").arg(memory_octets.to_string());
        #[cfg(debug_assertions)]
        if let Some(harm) = std::env::var_os(super::planted::VARIABLE) {
            command.env(super::planted::VARIABLE, harm);
        }
        let mut process = command.spawn()?;
        let (Some(input), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        Ok(Child { process, input, output: BufReader::new(output), is_ready: false })
    }

    /// What it says of each zone and change set of a message: why it refuses it, empty where it does not.
    pub(super) async fn ask(&mut self, message: &Message, patience: Duration) -> Result<Vec<String>, Ended> {
        if !self.is_ready {
            let ready = in_turns(self.frame(), START).await;
            match ready {
                Some(Ok((Kind::Ready, _))) => self.is_ready = true,
                Some(Ok(_)) => return Err(Ended::NotStarted("it says something else".to_owned())),
                Some(Err(_)) => return Err(Ended::NotStarted(self.end().await)),
                None => return Err(Ended::NotStarted(format!("it was not ready within {START:?}"))),
            }
        }
        match in_turns(self.exchange(message), patience).await {
            Some(Ok(answers)) => Ok(answers),
            Some(Err(_)) => Err(Ended::During(format!("it ended the shadow ({})", self.end().await))),
            None => Err(Ended::During(format!("it took the shadow longer than {patience:?}"))),
        }
    }

    async fn exchange(&mut self, message: &Message) -> io::Result<Vec<String>> {
        self.input.write_all(&message.whole()).await?;
        self.input.flush().await?;
        let (kind, octets) = self.frame().await?;
        let answers = frames::answers(&octets, message.asked.len()).filter(|_| kind == Kind::Answers);
        answers.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    async fn frame(&mut self) -> io::Result<(Kind, Vec<u8>)> {
        let mut begin = [0; 5];
        self.output.read_exact(&mut begin).await?;
        let (kind, length) = frames::head(begin)?;
        let mut octets = vec![0; length];
        self.output.read_exact(&mut octets).await?;
        Ok((kind, octets))
    }

    /// How it ended.
    async fn end(&mut self) -> String {
        match timeout(END, self.process.wait()).await {
            Ok(Ok(status)) => status.to_string(),
            _ => "it does not say how".to_owned(),
        }
    }
}

/// Waits for work at most so long, counted while we have our turn.
async fn in_turns<T>(work: impl Future<Output = T>, patience: Duration) -> Option<T> {
    let mut work = std::pin::pin!(work);
    let mut left = patience;
    loop {
        let turn = left.min(TURN);
        match timeout(turn, &mut work).await {
            Ok(done) => return Some(done),
            Err(_) if left <= turn => return None,
            Err(_) => left -= turn,
        }
    }
}
