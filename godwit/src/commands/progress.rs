//! How far a long command is, or that it goes on: a bar on a terminal, a line every few seconds elsewhere, on standard
//! error. Nothing is said about what is done at once.

use std::io::IsTerminal;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressStyle};

use crate::output::say;

/// How long a command runs before anything is said, and how often a line is printed.
const SILENCE: Duration = Duration::from_secs(1);
const LINE_INTERVAL: Duration = Duration::from_secs(3);
/// How often what turns on a terminal turns.
const SPINNER_INTERVAL: Duration = Duration::from_millis(100);

/// Of one stretch of work with a known length.
pub(super) struct Progress {
    what: String,
    total: u64,
    done: u64,
    started: Instant,
    next_line: Instant,
    bar: Option<ProgressBar>,
    terminal: bool,
}

impl Progress {
    /// `what` is done `total` times, as in "example.org.: RRsets".
    pub(super) fn new(what: impl Into<String>, total: u64) -> Self {
        let now = Instant::now();
        let terminal = std::io::stderr().is_terminal();
        Progress {
            what: what.into(),
            total,
            done: 0,
            started: now,
            next_line: now + LINE_INTERVAL,
            bar: None,
            terminal,
        }
    }

    /// So many more are done.
    pub(super) fn add(&mut self, count: u64) {
        self.done += count;
        let now = Instant::now();
        if self.terminal {
            if self.bar.is_none() && now.duration_since(self.started) >= SILENCE {
                self.bar = Some(bar(&self.what, self.total));
            }
            if let Some(bar) = &self.bar {
                bar.set_position(self.done);
            }
        } else if now >= self.next_line {
            self.next_line = now + LINE_INTERVAL;
            say(format_args!("{} {} of {}", self.what, HumanCount(self.done), HumanCount(self.total)));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// Does something of which nobody can say how far it is, like a request that the server works on, and says how long it has
/// been going on: `what` goes before that, as in "example.org.: checking".
pub(super) fn while_waiting<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let (done, ended) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || say_until(&ended, what));
        let output = work();
        drop(done);
        output
    })
}

/// Until the other end of the channel is gone.
fn say_until(ended: &mpsc::Receiver<()>, what: &str) {
    let started = Instant::now();
    let goes_on = |time: Duration| ended.recv_timeout(time) == Err(RecvTimeoutError::Timeout);
    if !std::io::stderr().is_terminal() {
        while goes_on(LINE_INTERVAL) {
            say(format_args!("{what}, {} s so far", started.elapsed().as_secs()));
        }
    } else if goes_on(SILENCE) {
        let spinner = ProgressBar::new_spinner().with_message(what.to_owned()).with_elapsed(SILENCE);
        if let Ok(style) = ProgressStyle::with_template("{msg} {spinner} {elapsed}") {
            spinner.set_style(style);
        }
        while goes_on(SPINNER_INTERVAL) {
            spinner.tick();
        }
        spinner.finish_and_clear();
    }
}

fn bar(what: &str, total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total).with_message(what.to_owned());
    let template = "{msg} {wide_bar} {human_pos}/{human_len} {eta}";
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
