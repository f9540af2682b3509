//! Processes: on which CPU they run, the CPU time and the memory they use, and which kernel threads work beside them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// Pins the calling thread, and with it all that it starts from now on.
///
/// # Errors
/// There is no such CPU.
pub fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu).context("CPU number")?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("pinning to CPU {cpu}"))
}

/// The process and all its descendants, as they are now.
#[must_use]
pub fn tree(root: i32) -> Vec<i32> {
    let parents: Vec<(i32, i32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, parent(pid)?)))
        .collect();
    let mut tree = vec![root];
    let mut at = 0;
    while let Some(&process) = tree.get(at) {
        tree.extend(parents.iter().filter(|(_, parent)| *parent == process).map(|(pid, _)| *pid));
        at += 1;
    }
    tree
}

/// The fourth field of /proc/PID/stat (proc(5)); the second, the command, may hold spaces and parentheses.
fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Kernel threads that handle packets on a CPU and so work for the server there: its ksoftirqd and all threaded NAPI.
#[must_use]
pub fn kernel_threads(cpu: usize) -> Vec<i32> {
    let own = format!("ksoftirqd/{cpu}");
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| {
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            comm.trim_end() == own || comm.starts_with("napi/")
        })
        .collect()
}

/// User and system time of these processes so far, all their threads, in seconds. A process that is gone counts nothing.
#[must_use]
pub fn seconds(processes: &[i32]) -> f64 {
    processes.iter().filter_map(|&pid| process_seconds(pid)).sum()
}

/// The process's own CPU clock, in nanoseconds where /proc/PID/stat has ticks of 10 ms.
fn process_seconds(pid: i32) -> Option<f64> {
    let clock = clock_getcpuclockid(Pid::from_raw(pid)).ok()?;
    let time = clock_gettime(clock).ok()?;
    Some(time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9)
}

/// Proportional set size of these processes together, in octets: shared pages count once.
#[must_use]
pub fn pss(processes: &[i32]) -> u64 {
    processes
        .iter()
        .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok())
        .filter_map(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
            line.trim().trim_end_matches(" kB").parse::<u64>().ok()
        })
        .map(|kib| kib * 1_024)
        .sum()
}

/// Resident size of these processes together, in octets; from now on [`highest_resident`] counts from here.
#[must_use]
pub fn resident(processes: &[i32]) -> u64 {
    for pid in processes {
        // 5: the high-water mark starts anew (proc(5)).
        let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
    }
    of_status(processes, "VmRSS:")
}

/// The highest resident size of these processes, added up, in octets.
#[must_use]
pub fn highest_resident(processes: &[i32]) -> u64 {
    of_status(processes, "VmHWM:")
}

fn of_status(processes: &[i32], field: &str) -> u64 {
    processes
        .iter()
        .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/status")).ok())
        .filter_map(|text| {
            let value = text.lines().find_map(|line| line.strip_prefix(field))?;
            value.trim().trim_end_matches(" kB").parse::<u64>().ok()
        })
        .map(|kib| kib * 1_024)
        .sum()
}

/// Open descriptors of these processes together.
#[must_use]
pub fn descriptors(processes: &[i32]) -> usize {
    processes.iter().filter_map(|pid| fs::read_dir(format!("/proc/{pid}/fd")).ok()).map(Iterator::count).sum()
}

/// How many CPUs there are.
#[must_use]
pub fn count() -> usize {
    (0..).take_while(|cpu| Path::new(&format!("/sys/devices/system/cpu/cpu{cpu}")).exists()).count()
}

/// The CPU's model, for the report.
#[must_use]
pub fn model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or_else(|| "unknown CPU".to_owned(), |(_, model)| model.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_is_seen_with_its_time_and_memory() {
        let me = i32::try_from(std::process::id()).unwrap();
        let before = seconds(&[me]);
        let mut value = 1_u64;
        while seconds(&[me]) < before + 0.02 {
            value = std::hint::black_box(value.wrapping_mul(3));
        }
        assert!(pss(&[me]) > 100_000);
        let resident = resident(&[me]);
        assert!(resident > 100_000 && highest_resident(&[me]) >= resident);
        assert!(descriptors(&[me]) >= 3);
        assert!(parent(me).is_some());
    }

    #[test]
    fn a_child_is_in_the_tree() {
        let mut child = std::process::Command::new("sleep").arg("30").spawn().unwrap();
        let id = i32::try_from(child.id()).unwrap();
        let found = tree(i32::try_from(std::process::id()).unwrap()).contains(&id);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found);
    }
}
