//! How far a long command is: a bar on a terminal, a line every few seconds elsewhere, on standard error. Nothing is
//! said about what is done at once.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressStyle};

use crate::output::say;

/// How long a command runs before anything is said, and how often a line is printed.
const SILENCE: Duration = Duration::from_secs(1);
const LINE_INTERVAL: Duration = Duration::from_secs(3);

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

fn bar(what: &str, total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total).with_message(what.to_owned());
    let template = "{msg} {wide_bar} {human_pos}/{human_len} {eta}";
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
