//! Runs a great number of packets through the query path and prints what came of them, and how fast.
//!
//!     volume [--count 1000000000] [--seed 1] [--from 0] [--jobs 1]
//!
//! Packets come in batches; `--from` is the number of the first batch. The same seed makes the same packets, however many
//! threads there are. A property that does not hold ends the run with the batch that shows it, and how to repeat it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use godwit_fuzz_harness::volume::{self, BATCH_PACKETS, Census, Volume};
use godwit_fuzz_harness::{give_up, print_packets};

/// Batches between two lines of progress.
const PROGRESS_BATCHES: u64 = 1 << 19;

struct Arguments {
    count: u64,
    seed: u64,
    from: u64,
    jobs: u64,
}

fn arguments() -> Result<Arguments, String> {
    let mut arguments = Arguments { count: 10_000_000, seed: 1, from: 0, jobs: 1 };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let place = match word.as_str() {
            "--count" => &mut arguments.count,
            "--seed" => &mut arguments.seed,
            "--from" => &mut arguments.from,
            "--jobs" => &mut arguments.jobs,
            _ => {
                return Err(format!(
                    "unknown argument {word:?}; there are --count, --seed, --from and --jobs"
                ));
            }
        };
        let value = words.next().ok_or_else(|| format!("{word} needs a number"))?;
        *place = value.parse().map_err(|error| format!("{word} {value}: {error}"))?;
    }
    Ok(arguments)
}

fn main() {
    let arguments = arguments().unwrap_or_else(|error| give_up(&error, 2));
    let corpus = volume::corpus();
    let jobs = arguments.jobs.max(1);
    let end = arguments.from + arguments.count.div_ceil(BATCH_PACKETS as u64);
    println!(
        "seed {}, batches {} to {end} of {BATCH_PACKETS} packets, {} packets to start from, {jobs} threads",
        arguments.seed,
        arguments.from,
        corpus.len()
    );
    let started = Instant::now();
    let done = AtomicU64::new(0);
    let mut census = Census::default();
    let work = |job: u64| {
        let mut volume = Volume::new(arguments.seed, &corpus);
        for number in (arguments.from + job..end).step_by(jobs as usize) {
            if catch_unwind(AssertUnwindSafe(|| volume.batch(number))).is_err() {
                report(&volume, arguments.seed, number);
            }
            let all = done.fetch_add(1, Ordering::Relaxed) + 1;
            if all.is_multiple_of(PROGRESS_BATCHES) {
                let executions = all * BATCH_PACKETS as u64;
                let rate = executions as f64 / started.elapsed().as_secs_f64();
                println!("{executions} executions, {rate:.0}/s");
            }
        }
        volume
    };
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..jobs).map(|job| scope.spawn(move || work(job))).collect();
        for thread in threads {
            census.add(thread.join().expect("findings end the process before").census());
        }
    });
    let seconds = started.elapsed().as_secs_f64();
    for ((rcode, truncated), count) in &census.outcomes {
        let outcome = rcode.map_or("silence".to_owned(), |rcode| format!("RCODE {rcode}"));
        println!("{outcome:>10}{}: {count}", if *truncated { " TC" } else { "" });
    }
    println!(
        "{} executions, {} of them checked record by record, {} octets answered, {seconds:.0} s, {:.0} executions/s, \
         nothing found",
        census.executions,
        census.checked_whole,
        census.answered_octets,
        census.executions as f64 / seconds
    );
}

/// Says which batch it was, and ends.
fn report(volume: &Volume<'_>, seed: u64, number: u64) -> ! {
    eprintln!("the batch again: volume --seed {seed} --from {number} --count {BATCH_PACKETS}; its packets:");
    print_packets(volume.last_packets());
    std::process::exit(1);
}
