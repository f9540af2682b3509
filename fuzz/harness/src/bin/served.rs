//! Sends a great number of packets to a running server and prints what came of them, and of the server's memory.
//!
//!     served --program target/release/godwit-dataplane [--count 100000000] [--seed 1] [--from 0]
//!
//! The packets are those of `volume` with the same seed, but for their IDs. A property that does not hold ends the run with the
//! batch that shows it, and how to repeat it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Instant;

use godwit_fuzz_harness::volume::served::Served;
use godwit_fuzz_harness::volume::{self, BATCH_PACKETS};
use godwit_fuzz_harness::{give_up, print_packets};

/// Batches between two lines of progress.
const PROGRESS_BATCHES: u64 = 1 << 17;
/// Batches until a server has all the memory that it will need.
const WARM_BATCHES: u64 = 10_000;

struct Arguments {
    program: PathBuf,
    count: u64,
    seed: u64,
    from: u64,
}

fn arguments() -> Result<Arguments, String> {
    let mut arguments = Arguments { program: PathBuf::new(), count: 100_000_000, seed: 1, from: 0 };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
        let number = || value.parse().map_err(|error| format!("{word} {value}: {error}"));
        match word.as_str() {
            "--program" => arguments.program = value.into(),
            "--count" => arguments.count = number()?,
            "--seed" => arguments.seed = number()?,
            "--from" => arguments.from = number()?,
            _ => {
                return Err(format!(
                    "unknown argument {word:?}; there are --program, --count, --seed and --from"
                ));
            }
        }
    }
    if arguments.program.as_os_str().is_empty() {
        return Err("--program is needed: the path of godwit-dataplane".to_owned());
    }
    Ok(arguments)
}

fn main() {
    let arguments = arguments().unwrap_or_else(|error| give_up(&error, 2));
    let corpus = volume::corpus();
    let mut served = Served::start(&arguments.program, arguments.seed, &corpus)
        .unwrap_or_else(|error| give_up(&format!("{}: {error}", arguments.program.display()), 1));
    let end = arguments.from + arguments.count.div_ceil(BATCH_PACKETS as u64);
    let warm = (end - arguments.from).min(WARM_BATCHES);
    let (started, mut before) = (Instant::now(), 0);
    for (done, number) in (1..).zip(arguments.from..end) {
        if catch_unwind(AssertUnwindSafe(|| served.batch(number))).is_err() {
            report(served, arguments.seed, number);
        }
        if done == warm {
            before = served.memory_octets();
        }
        if done.is_multiple_of(PROGRESS_BATCHES) {
            let rate = served.counts.0 as f64 / started.elapsed().as_secs_f64();
            println!("{} packets, {rate:.0}/s, {} octets of memory", served.counts.0, served.memory_octets());
        }
    }
    let (after, panics) = (served.memory_octets(), served.panics());
    let (packets, answers) = served.counts;
    println!(
        "{packets} packets, {answers} answers, {:.0} s; memory {before} octets after {warm} batches, {after} at the end; \
         {panics} panics",
        started.elapsed().as_secs_f64()
    );
    let grown = after > before + before / 100;
    if grown || panics > 0 {
        eprintln!("{}", if grown { "its memory grew by more than a hundredth" } else { "it panicked" });
        drop(served);
        std::process::exit(1);
    }
}

/// Says which batch it was, and ends, the server too.
fn report(served: Served<'_>, seed: u64, number: u64) -> ! {
    eprintln!("the batch again: served --seed {seed} --from {number} --count {BATCH_PACKETS}; its packets:");
    print_packets(served.last_packets());
    drop(served);
    std::process::exit(1);
}
