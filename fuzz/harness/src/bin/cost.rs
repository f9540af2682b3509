//! What each packet of the corpus costs, in instructions, which do not depend on what else a machine does: the worst packet must
//! cost no more for each octet than a few times what the one in the middle does.
//!
//!     cost            runs itself under callgrind (valgrind must be installed) and prints the worst packets and the median
//!
//! A packet's octets are those that come in and those that go out: who asks for much is charged for much. What is too short
//! for a header counts as one.

use std::hint::black_box;
use std::path::Path;
use std::process::{Command, ExitCode};

use godwit_fuzz_harness::cost::{Packet, packets};

/// How often the median the worst may cost (threat model: bounded parsing and encoding).
const MOST_TIMES: f64 = 4.0;
/// Octets of the header of a message (RFC 1035 §4.1.1).
const HEADER_OCTETS: usize = 12;
/// How many of the worst are printed.
const SHOWN: usize = 12;

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--measured") {
        packets().iter().for_each(|packet| {
            black_box(packet_to_be_measured(packet));
        });
        return ExitCode::SUCCESS;
    }
    match report() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// The function whose instructions callgrind counts and dumps for each call.
#[inline(never)]
fn packet_to_be_measured(packet: &Packet) -> usize {
    packet.answer()
}

fn report() -> Result<ExitCode, String> {
    let packets = packets();
    let counts = measure(packets.len())?;
    let mut costs: Vec<(f64, u64, &Packet)> = packets
        .iter()
        .zip(counts)
        .map(|(packet, count)| {
            let octets = packet.octets().len().max(HEADER_OCTETS) + packet.answer();
            (count as f64 / octets as f64, count, packet)
        })
        .collect();
    costs.sort_by(|a, b| b.0.total_cmp(&a.0));
    let median = costs[costs.len() / 2].0;
    println!("{:>8} {:>12} {:>6} {:>6}  packet", "per octet", "instructions", "in", "out");
    for (cost, count, packet) in costs.iter().take(SHOWN) {
        println!(
            "{cost:>8.1} {count:>12} {:>6} {:>6}  {}",
            packet.octets().len(),
            packet.answer(),
            packet.name()
        );
    }
    let worst = costs[0].0;
    let times = worst / median;
    println!(
        "{} packets; median {median:.1} instructions per octet, worst {worst:.1}: {times:.2} times",
        costs.len()
    );
    if times > MOST_TIMES {
        println!("FAILED: more than {MOST_TIMES} times");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// Instructions of each packet, in their order.
fn measure(packets: usize) -> Result<Vec<u64>, String> {
    let folder = std::env::temp_dir().join(format!("godwit-cost-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let counts = measure_in(&folder, packets);
    let _ = std::fs::remove_dir_all(&folder);
    counts
}

fn measure_in(folder: &Path, packets: usize) -> Result<Vec<u64>, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let out = folder.join("out");
    let status = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", "--collect-atstart=no"])
        .args(["--toggle-collect=cost::packet_to_be_measured", "--dump-after=cost::packet_to_be_measured"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program)
        .arg("--measured")
        .status()
        .map_err(|error| format!("valgrind, which must be installed: {error}"))?;
    if !status.success() {
        return Err(format!("valgrind: {status}"));
    }
    // One file for each call, numbered from 1, with its sum.
    (1..=packets)
        .map(|number| {
            let path = folder.join(format!("out.{number}"));
            let text =
                std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            let sum = text.lines().find_map(|line| line.strip_prefix("summary: "));
            sum.and_then(|sum| sum.trim().parse().ok()).ok_or(format!("{} has no sum", path.display()))
        })
        .collect()
}
