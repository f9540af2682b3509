//! A soak in small, with the programs that the workspace's tests have built beside this one. Where they are not built, there is
//! nothing to run, and the run says so.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The run, with little load: whatever else the machine does.
fn soak(data: &Path, seconds: &str, faults: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_godwit-loadtest"));
    command
        .args(["soak", "--rate", "1000", "--changes", "20", "--seconds", seconds, "--fault", faults])
        .arg("--data")
        .arg(data)
        .arg("--json")
        .arg(data.join("soak.json"));
    command
}

/// Processes that have the folder among their arguments.
fn left_in(data: &Path) -> Vec<String> {
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| std::fs::read(entry.unwrap().path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(data.to_str().unwrap()))
        .collect()
}

const NOT_BUILT: &str = "is not beside this program";

#[test]
fn a_short_run_is_clean() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let output = soak(&data, "30", "kill,terminate,handover,reload,broken-zone").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if said.contains(NOT_BUILT) {
        assert!(!output.status.success());
        return;
    }
    let report = std::fs::read(data.join("soak.json")).unwrap_or_else(|error| panic!("{error}: {said}"));
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    // A machine that is busy with other tests may have no time for all the queries, which is nobody's fault.
    let busy = |failure: &serde_json::Value| failure.as_str().unwrap().contains("the machine is too busy");
    let failures: Vec<_> = report["failures"].as_array().unwrap().iter().filter(|what| !busy(what)).collect();
    assert!(failures.is_empty(), "{said}");
    let results = &report["results"];
    assert!(results["happened"].as_array().unwrap().len() >= 3, "{}", results["happened"]);
    for tally in results["tallies"].as_array().unwrap() {
        assert!(tally["checked"].as_u64().unwrap() > 1_000, "{tally}");
        assert_eq!((&tally["wrong"], &tally["lost_outside"]), (&0.into(), &0.into()), "{tally}");
    }
    let writes = &results["writes"];
    assert!(writes["acknowledged"].as_u64().unwrap() > 50, "{writes}");
    assert!(
        writes["looked_up"][1].as_u64().unwrap() >= 1_000,
        "at the end, and after a kill or a stop: {writes}"
    );
    assert!(report["markdown"].as_str().unwrap().contains("answers wrong | 0 | 0"), "{}", report["markdown"]);
    assert_eq!(left_in(&data), Vec::<String>::new());
}

#[test]
fn an_interrupted_run_ends_what_it_started_and_shows_what_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut command = soak(&data, "600", "handover");
    let mut run = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let id = Pid::from_raw(i32::try_from(run.id()).unwrap());
    let mut said = String::new();
    for line in BufReader::new(run.stderr.take().unwrap()).lines() {
        said.push_str(&line.unwrap());
        if said.contains("asking") && !said.contains("interrupted") {
            kill(id, Signal::SIGTERM).unwrap();
            said.push_str(" interrupted");
        }
    }
    assert!(!run.wait().unwrap().success());
    if said.contains(NOT_BUILT) {
        return;
    }
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(data.join("soak.json")).unwrap()).unwrap();
    let failures = report["failures"].as_array().unwrap();
    assert!(failures.contains(&"interrupted".into()), "{failures:?}");
    assert_eq!(left_in(&data), Vec::<String>::new());
}
