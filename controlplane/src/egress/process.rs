//! The child as a process: started, asked, and ended where it does not answer.

use std::collections::HashMap;
use std::io;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use godwit_wire::presentation::Printable;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::frames::{self, Asked, Said, Settings};
use super::{AT_ONCE, Outcome};
use crate::relay::shadow::Program;

/// How long a child may take until it is ready.
const START: Duration = Duration::from_secs(10);
/// The most octets of what a child has to say that are logged at once.
const MOST_LINE: usize = 1_000;

/// Those that wait for what came of their calls.
type Calls = HashMap<u64, oneshot::Sender<Outcome>>;

/// The same; `None` once the child has ended.
#[derive(Clone, Debug)]
struct Waiting(Arc<Mutex<Option<Calls>>>);

impl Waiting {
    fn held(&self) -> MutexGuard<'_, Option<Calls>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A child. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) process: Option<u32>,
    /// Frames on their way: who gives one up leaves no half of it.
    asked: mpsc::Sender<Vec<u8>>,
    waiting: Waiting,
    end: watch::Sender<bool>,
}

impl Running {
    /// Starts one, and waits until it is ready.
    pub(super) async fn start(program: &Program, settings: &Settings) -> io::Result<Running> {
        let mut child = program.command("godwit-egress").stderr(Stdio::piped()).spawn()?;
        let (Some(mut input), Some(output), Some(errors)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        tokio::spawn(log(errors));
        let mut output = BufReader::new(output);
        let ready = async {
            frames::write(&mut input, settings).await?;
            frames::read::<Said>(&mut output).await
        };
        match timeout(START, ready).await {
            Ok(Ok(Some(Said::Ready))) => {}
            Ok(Ok(_)) => return Err(io::Error::other("it ended, or says something else")),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
        let process = child.id();
        let waiting = Waiting(Arc::new(Mutex::new(Some(Calls::new()))));
        let (asked, asking) = mpsc::channel(AT_ONCE);
        let (end, ended) = watch::channel(false);
        tokio::spawn(run(child, input, output, asking, waiting.clone(), ended));
        Ok(Running { process, asked, waiting, end })
    }

    /// Asks it; `None` where it has ended.
    pub(super) async fn ask(&self, asked: &Asked) -> Option<Outcome> {
        let frame = frames::frame(asked).ok()?;
        let (done, outcome) = oneshot::channel();
        self.waiting.held().as_mut()?.insert(asked.id, done);
        self.asked.send(frame).await.ok()?;
        outcome.await.ok()
    }

    /// Whether it takes calls.
    pub(super) fn is_there(&self) -> bool {
        self.waiting.held().is_some() && !*self.end.borrow()
    }

    /// Ends it.
    pub(super) fn end(&self) {
        self.end.send_replace(true);
    }
}

/// Hands on what is asked and what is said, until it ends or is to end.
async fn run(
    mut child: Child,
    mut input: ChildStdin,
    mut output: BufReader<ChildStdout>,
    mut asking: mpsc::Receiver<Vec<u8>>,
    waiting: Waiting,
    mut ended: watch::Receiver<bool>,
) {
    let writing = async {
        while let Some(frame) = asking.recv().await {
            input.write_all(&frame).await?;
            input.flush().await?;
        }
        io::Result::Ok(())
    };
    let reading = async {
        while let Some(said) = frames::read::<Said>(&mut output).await? {
            let Said::Done { id, outcome } = said else { return Err(io::ErrorKind::InvalidData.into()) };
            let done = waiting.held().as_mut().and_then(|waiting| waiting.remove(&id));
            // Whoever asked may not wait for it any more.
            let _ = done.map(|done| done.send(outcome));
        }
        io::Result::Ok(())
    };
    let why = tokio::select! {
        done = writing => done.err(),
        done = reading => done.err(),
        // Also once nobody has it any more.
        _ = ended.wait_for(|end| *end) => None,
    };
    *waiting.held() = None;
    let _ = child.start_kill();
    let status = child.wait().await.map(|status| status.to_string()).unwrap_or_default();
    tracing::debug!(status, error = why.map(|why| why.to_string()), "what makes calls to others has ended");
}

/// What it has to say goes to our log.
async fn log(errors: ChildStderr) {
    let mut errors = BufReader::new(errors);
    let mut line = Vec::new();
    loop {
        line.clear();
        let most = u64::try_from(MOST_LINE).unwrap_or(u64::MAX);
        match (&mut errors).take(most).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let said = Printable(String::from_utf8_lossy(&line).trim_end()).to_string();
                tracing::warn!(said, "what makes calls to others");
            }
        }
    }
}
