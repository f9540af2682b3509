//! The one thread behind the query log: empties the rings in turn, composes a batch, writes it.
//!
//! While the sink takes nothing, the rings are left as they are: what came first stays, what comes later is counted by the
//! workers. Memory is that of the rings, one batch and one record, whatever happens. A change of the sink's state is
//! logged once; what operators watch is the metric.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rtrb::Consumer;

use super::dnstap::Dnstap;
use super::json::Json;
use super::record::{self, MAX_RECORD_OCTETS, Record};
use super::sink::Sink;
use super::{Counts, Signals};
use crate::config::QueryLogFormat;
use crate::sys::affinity;

/// A batch is written once it has so many octets, or the rings are empty.
const BATCH_OCTETS: usize = 256 * 1024;
/// Records taken from one ring before the next one has its turn.
const TURN_RECORDS: usize = 64;
/// How long an idle logger sleeps, from when there was work last to when there was none for long. Workers cannot wake
/// it: that would be a system call of theirs. A ring must hold what comes within the longest.
const PAUSE: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(16);
/// How long one attempt to write waits for room; bounds what a stop waits for.
const WRITE_WAIT: Duration = Duration::from_millis(100);
/// How long a sink may take nothing until that is said.
const BLOCKED: Duration = Duration::from_secs(1);
/// The pause after a sink was lost; doubles up to the longest while it stays so.
const BACK_OFF: Duration = Duration::from_millis(100);
const BACK_OFF_MAX: Duration = Duration::from_secs(5);
/// How often it is looked whether the file was moved away.
const LOOK: Duration = Duration::from_secs(1);
/// How long a stop gives to what is recorded already, and to the end of the stream after that.
const LAST_WRITES: Duration = Duration::from_secs(1);
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The thread's own. [`run`](Self::run) is the thread.
pub(super) struct Logger {
    rings: Vec<Consumer<u8>>,
    /// Whose turn it is.
    turn: usize,
    record: Box<[u8]>,
    form: Form,
    batch: Batch,
    sink: Sink,
    standing: Standing,
    counts: Arc<Counts>,
    signals: Arc<Signals>,
}

enum Form {
    Json(Json),
    Dnstap(Dnstap),
}

/// How the sink is doing.
struct Standing {
    /// What was said last.
    said_up: Option<bool>,
    /// When it took something last, or had nothing to take.
    well_at: Instant,
    /// Not to be tried again before.
    rest_until: Instant,
    back_off: Duration,
    looked_at: Instant,
}

/// Records composed and not written yet.
#[derive(Default)]
struct Batch {
    octets: Vec<u8>,
    /// Where each record ends, of those not written to their end.
    ends: VecDeque<usize>,
    /// Octets written, and where the record begins that they end in.
    written: usize,
    begun: usize,
}

impl Logger {
    pub(super) fn new(
        rings: Vec<Consumer<u8>>,
        workers: &[String],
        node: &str,
        sink: Sink,
        counts: Arc<Counts>,
        signals: Arc<Signals>,
    ) -> Self {
        let form = match sink.format() {
            QueryLogFormat::Json => Form::Json(Json::new(node, workers)),
            QueryLogFormat::Dnstap => Form::Dnstap(Dnstap::new(node)),
        };
        let now = Instant::now();
        Logger {
            rings,
            turn: 0,
            record: vec![0; MAX_RECORD_OCTETS].into(),
            form,
            batch: Batch::default(),
            sink,
            standing: Standing {
                said_up: None,
                well_at: now,
                rest_until: now,
                back_off: BACK_OFF,
                looked_at: now,
            },
            counts,
            signals,
        }
    }

    /// Works until told to stop, then writes what is left as far as the sink takes it.
    pub(super) fn run(&mut self) {
        affinity::step_back();
        let mut pause = PAUSE;
        while !self.signals.stop.load(Ordering::Acquire) {
            self.look();
            if self.step() {
                pause = PAUSE;
            } else {
                std::thread::park_timeout(pause);
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
        self.finish();
    }

    /// Opens, fills or writes; whether there is more to do at once.
    fn step(&mut self) -> bool {
        if Instant::now() < self.standing.rest_until {
            return false;
        }
        if !self.sink.is_open() {
            match self.open() {
                Some(Ok(())) => self.is_up(),
                Some(Err(error)) => {
                    self.lost(&error);
                    return false;
                }
                None => return false,
            }
        }
        if self.batch.is_empty() && !self.fill() {
            self.standing.well_at = Instant::now();
            return false;
        }
        match self.sink.write(self.batch.portion(self.sink.kept_together()), WRITE_WAIT) {
            Ok(0) => {
                if self.standing.well_at.elapsed() > BLOCKED {
                    self.is_down("it takes nothing");
                }
            }
            Ok(count) => {
                self.counts.written.add(self.batch.advance(count));
                self.standing.well_at = Instant::now();
                self.standing.back_off = BACK_OFF;
                self.is_up();
            }
            Err(error) => self.lost(&error),
        }
        true
    }

    /// `None`: the file is another process' by now. (Sockets it does not share with us.)
    fn open(&mut self) -> Option<io::Result<()>> {
        if !self.sink.is_file() {
            return Some(self.sink.open());
        }
        let handed_over = self.signals.handed_over();
        (!*handed_over).then(|| self.sink.open())
    }

    /// Composes a batch from the rings, each in its turn; whether there was anything.
    fn fill(&mut self) -> bool {
        let mut empty = 0;
        while empty < self.rings.len() && self.batch.octets.len() < BATCH_OCTETS {
            let worker = self.turn;
            self.turn = (worker + 1) % self.rings.len();
            empty += 1;
            for _ in 0..TURN_RECORDS {
                if self.batch.octets.len() >= BATCH_OCTETS {
                    break;
                }
                let Some(octets) = take(&mut self.rings[worker], &mut self.record) else { break };
                empty = 0;
                let Some(record) = Record::read(octets) else { continue };
                match &mut self.form {
                    Form::Json(json) => json.append(worker, &record, &mut self.batch.octets),
                    Form::Dnstap(dnstap) => dnstap.append(&record, &mut self.batch.octets),
                }
                self.batch.end_record();
            }
        }
        !self.batch.is_empty()
    }

    /// Now and then, and when asked to: follows a file that was moved away.
    fn look(&mut self) {
        let asked = self.signals.reopen.swap(false, Ordering::Acquire);
        if !asked && self.standing.looked_at.elapsed() < LOOK {
            return;
        }
        self.standing.looked_at = Instant::now();
        if asked {
            self.standing.rest_until = self.standing.looked_at;
        }
        let signals = Arc::clone(&self.signals);
        let handed_over = signals.handed_over();
        if !*handed_over && self.sink.is_moved() {
            // Its last record whole, where it can be.
            while self.batch.is_cut()
                && let Ok(count) = self.sink.write(self.batch.current(), WRITE_WAIT)
                && count > 0
            {
                self.counts.written.add(self.batch.advance(count));
            }
            self.close();
        }
    }

    fn close(&mut self) {
        if self.batch.is_cut() {
            self.sink.abandon();
            self.counts.sink_lost.add(self.batch.skip_cut());
        } else {
            self.sink.finish(Instant::now() + LAST_WORDS);
        }
    }

    fn lost(&mut self, error: &io::Error) {
        self.is_down(&error.to_string());
        if self.sink.close_broken() {
            self.counts.sink_lost.add(self.batch.skip_cut());
        }
        self.standing.rest_until = Instant::now() + self.standing.back_off;
        self.standing.back_off = (self.standing.back_off * 2).min(BACK_OFF_MAX);
    }

    fn is_up(&mut self) {
        if self.standing.said_up.replace(true) != Some(true) {
            self.counts.sink_up.store(1, Ordering::Relaxed);
            tracing::info!(target = ?self.sink.target().to_string(), "the query log is written");
        }
    }

    fn is_down(&mut self, reason: &str) {
        if self.standing.said_up.replace(false) != Some(false) {
            self.counts.sink_up.store(0, Ordering::Relaxed);
            tracing::warn!(
                target = ?self.sink.target().to_string(),
                reason,
                "the query log is not written; what has no room is dropped and counted"
            );
        }
    }

    /// The workers have stopped: writes what they left, counts what cannot be written, and ends the stream.
    fn finish(&mut self) {
        let deadline = Instant::now() + LAST_WRITES;
        while Instant::now() < deadline && self.step() {}
        let cut = self.batch.is_cut();
        let mut left = self.batch.ends.len();
        for ring in &mut self.rings {
            while take(ring, &mut self.record).is_some() {
                left += 1;
            }
        }
        self.counts.stopped.add(left as u64);
        if cut {
            self.sink.abandon();
        } else {
            self.sink.finish(Instant::now() + LAST_WORDS);
        }
        self.counts.sink_up.store(0, Ordering::Relaxed);
    }
}

/// The next whole record of a ring.
fn take<'a>(ring: &mut Consumer<u8>, place: &'a mut [u8]) -> Option<&'a [u8]> {
    let mut prefix = [0; 4];
    // Looked at and not taken, as it is not committed: the rest of the record may still be on its way.
    let chunk = ring.read_chunk(prefix.len()).ok()?;
    let (first, second) = chunk.as_slices();
    prefix[..first.len()].copy_from_slice(first);
    prefix[first.len()..].copy_from_slice(second);
    let place = place.get_mut(..record::total(prefix)).expect("no record is longer than the longest");
    ring.pop_entire_slice(place).ok()?;
    Some(place)
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// What is to be written next: whole records, as many as fit into `octets`, or what of the first one does.
    fn portion(&self, octets: usize) -> &[u8] {
        let most = self.written.saturating_add(octets).min(self.octets.len());
        if most == self.octets.len() {
            return &self.octets[self.written..];
        }
        let whole = self.ends.partition_point(|&end| end <= most).checked_sub(1).map(|last| self.ends[last]);
        &self.octets[self.written..whole.unwrap_or(most)]
    }

    /// What is to be written of the record that was begun.
    fn current(&self) -> &[u8] {
        &self.octets[self.written..self.ends.front().copied().unwrap_or(self.written)]
    }

    /// Whether a record was begun and not written to its end.
    fn is_cut(&self) -> bool {
        self.written > self.begun
    }

    fn end_record(&mut self) {
        self.ends.push_back(self.octets.len());
    }

    /// Notes that `count` more octets were written; how many records that completed.
    fn advance(&mut self, count: usize) -> u64 {
        self.written += count;
        let mut completed = 0;
        while let Some(&end) = self.ends.front()
            && end <= self.written
        {
            self.ends.pop_front();
            self.begun = end;
            completed += 1;
        }
        self.reset_when_empty();
        completed
    }

    /// Forgets the record that was begun, if there is one; how many that are.
    fn skip_cut(&mut self) -> u64 {
        if !self.is_cut() {
            return 0;
        }
        let end = self.ends.pop_front().unwrap_or(self.written);
        (self.written, self.begun) = (end, end);
        self.reset_when_empty();
        1
    }

    /// Keeps the memory for the next batch.
    fn reset_when_empty(&mut self) {
        if self.ends.is_empty() {
            self.octets.clear();
            (self.written, self.begun) = (0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_knows_which_record_was_cut() {
        let mut batch = Batch::default();
        for record in ["one\n", "three\n", "x\n"] {
            batch.octets.extend_from_slice(record.as_bytes());
            batch.end_record();
        }
        assert_eq!(batch.advance(4), 1);
        assert!(!batch.is_cut());
        assert_eq!(batch.skip_cut(), 0);
        assert_eq!(batch.advance(2), 0);
        assert!(batch.is_cut());
        assert_eq!(batch.current(), b"ree\n");
        assert_eq!(batch.skip_cut(), 1);
        assert_eq!(batch.portion(usize::MAX), b"x\n");
        assert_eq!(batch.advance(2), 1);
        assert!(batch.is_empty() && batch.octets.is_empty() && !batch.is_cut());
    }

    #[test]
    fn a_portion_is_made_of_whole_records_where_one_fits() {
        let mut batch = Batch::default();
        for record in ["one\n", "three\n", "x\n"] {
            batch.octets.extend_from_slice(record.as_bytes());
            batch.end_record();
        }
        for (octets, expected) in
            [(3, "one"), (4, "one\n"), (9, "one\n"), (10, "one\nthree\n"), (12, "one\nthree\nx\n")]
        {
            assert_eq!(batch.portion(octets), expected.as_bytes(), "{octets}");
        }
        batch.advance(5);
        assert_eq!(batch.portion(6), b"hree\n");
        assert_eq!(batch.portion(7), b"hree\nx\n");
    }
}
