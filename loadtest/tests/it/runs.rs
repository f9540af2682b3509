//! Whole runs of the program: right answers pass, wrong ones and lost ones make it fail.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

use godwit_loadtest::data::Source;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::responder::{Fault, Responder};

const SOURCE: Source = Source { seed: 1, shrink: 1_000 };

/// `ask` for a third of a second at a rate that any machine keeps up with.
fn ask(fault: Fault, rate: &str) -> Output {
    let responder = Responder::start(SOURCE, fault);
    Command::new(env!("CARGO_BIN_EXE_godwit-loadtest"))
        .args(["ask", "--workload", "small", "--shrink", "1000", "--seconds", "0.3", "--rate", rate])
        .args(["--server", &responder.address.to_string()])
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn right_answers_pass() {
    let output = ask(Fault::None, "2000");
    assert!(output.status.success(), "{}", said(&output));
    let figures: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(figures["compared"].as_u64().unwrap() >= 1_000, "{figures}");
    assert_eq!(figures["different"], 0);
    assert!(figures["latency_us"][0].as_f64().unwrap() > 0.0);
}

#[test]
fn a_flipped_bit_in_one_answer_of_a_hundred_fails_the_run() {
    let output = ask(Fault::Flip, "2000");
    assert!(!output.status.success());
    assert!(said(&output).contains("answers differ"), "{}", said(&output));
}

#[test]
fn one_lost_query_of_a_hundred_fails_the_run() {
    let output = ask(Fault::Drop, "2000");
    assert!(!output.status.success());
    assert!(said(&output).contains("were lost"), "{}", said(&output));
}

/// With any of the peers installed the whole comparison runs, in small; with none it says so.
#[test]
fn the_comparison_runs_and_cleans_up() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let json = folder.path().join("results.json");
    let output = Command::new(env!("CARGO_BIN_EXE_godwit-loadtest"))
        .args(["compare", "--workload", "small-edns,delegations", "--server", "nsd,knot,echo"])
        .args(["--shrink", "1000", "--seconds", "0.3", "--warm-up", "0.1", "--rounds", "2", "--no-dnsperf"])
        .args(["--window", "16", "--data", data.to_str().unwrap(), "--json", json.to_str().unwrap()])
        .output()
        .unwrap();
    if said(&output).contains("no peer is installed") {
        assert!(!output.status.success());
        return;
    }
    assert!(output.status.success(), "{}", said(&output));
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let rounds = report["results"]["rounds"]["delegations"].as_object().unwrap();
    assert!(rounds.len() >= 2, "a peer and the reflector: {rounds:?}");
    for (server, rounds) in rounds {
        for round in rounds.as_array().unwrap() {
            assert!(round["cpu_us"].as_f64().unwrap() > 0.0, "{server}: {round}");
            let compared = round["compared"].as_u64().unwrap();
            assert!(server == "echo" || compared >= 1_000, "{server}: {compared} compared");
        }
    }
    let left: Vec<_> = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with("work-")), "{left:?}");
}

/// BIND under UPDATE messages, where it is installed; where it is not, the run has nothing to show and says so.
#[test]
fn records_change_while_queries_are_answered() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("churn.json");
    let output = Command::new(env!("CARGO_BIN_EXE_godwit-loadtest"))
        .args(["churn", "--server", "bind", "--shrink", "1000", "--rounds", "1", "--seconds", "0.5"])
        .args(["--rate", "1000", "--changes", "50", "--singles", "3"])
        .args(["--data", folder.path().to_str().unwrap(), "--json", json.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    if said(&output).contains("is left out") {
        return;
    }
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let results = &report["results"];
    assert_eq!(results["visibility"]["bind"]["changes"], 3, "{results}");
    assert!(results["changes"]["bind"][0]["acknowledged"].as_u64().unwrap() > 25, "{results}");
    assert!(results["busy"]["bind"][0]["latency_us"][1].as_f64().unwrap() > 0.0, "{results}");
    assert!(report["markdown"].as_str().unwrap().contains("UPDATE (RFC 2136)"));
}

/// SIGTERM in the middle of a measurement: servers, folders and the program itself go.
#[test]
fn an_interrupted_run_ends_what_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut run = Command::new(env!("CARGO_BIN_EXE_godwit-loadtest"))
        .args([
            "compare",
            "--workload",
            "small",
            "--server",
            "nsd,knot,bind,powerdns,echo",
            "--shrink",
            "1000",
        ])
        .args(["--seconds", "1", "--rounds", "100", "--no-dnsperf", "--window", "16"])
        .args(["--data", data.to_str().unwrap(), "--json", data.join("results.json").to_str().unwrap()])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let id = Pid::from_raw(i32::try_from(run.id()).unwrap());
    let mut said = String::new();
    for line in BufReader::new(run.stderr.take().unwrap()).lines() {
        said.push_str(&line.unwrap());
        if said.contains("round 1") && !said.contains("interrupted") {
            // The first measurement is over, the second under way.
            let _ = kill(id, Signal::SIGTERM);
        }
    }
    assert!(!run.wait().unwrap().success());
    if said.contains("no peer is installed") {
        return;
    }
    assert!(said.contains("interrupted"), "{said}");
    let left: Vec<String> = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| std::fs::read(entry.unwrap().path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(data.to_str().unwrap()))
        .collect();
    assert!(left.is_empty(), "still running: {left:?}");
    let work = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(work.into_iter().all(|name| !name.to_string_lossy().starts_with("work-")));
}

/// Every attack in small on the peers that are installed; reflection only where namespaces can be made.
#[test]
fn attacks_run_and_clean_up() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let json = folder.path().join("attack.json");
    let run = Command::new(env!("CARGO_BIN_EXE_godwit-loadtest"))
        .args([
            "attack-dns",
            "--server",
            "nsd,bind",
            "--shrink",
            "1000",
            "--seconds",
            "1",
            "--connections",
            "40",
        ])
        .args(["--data", data.to_str().unwrap(), "--json", json.to_str().unwrap()])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let namespaces = format!("godwit-{}-", run.id());
    let output = run.wait_with_output().unwrap();
    if said(&output).contains("no peer is installed") {
        assert!(!output.status.success());
        return;
    }
    assert!(output.status.success(), "{}", said(&output));
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let results = &report["results"];
    let absent = results["absent"].to_string();
    for (server, slow) in results["slow"].as_object().unwrap() {
        // Whether a peer serves them in a quarter of a second is not ours to promise.
        assert!(slow["honest"]["begun"].as_u64().unwrap() > 0, "{server}: {slow}");
        assert_eq!(slow["honest"]["wrong"].as_u64(), Some(0), "{server}: {slow}");
        assert!(slow["fleet"]["opened"].as_u64().unwrap() >= 40, "{server}: {slow}");
        assert!(results["overload"]["malformed"][server]["offers"][1]["offered"].as_f64().unwrap() > 0.0);
        assert!(results["negative"][server][1][0]["compared"].as_u64().unwrap() > 0, "{server}");
        if !absent.contains("the signed zone") {
            let worst = &results["amplification"]["worst name and type, EDNS 4096, DO"][server];
            assert!(worst["messages"].as_f64().unwrap() > 1.0, "{server}: {worst}");
        }
        if !absent.contains("reflection") {
            let without = &results["reflection"]["one"]["off"][server];
            assert!(without["octets"].as_f64().unwrap() > 1_000.0, "{server}: {without}");
        }
    }
    let work = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(work.into_iter().all(|name| !name.to_string_lossy().starts_with("work-")));
    let left = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    assert!(left.into_iter().all(|entry| !entry.file_name().to_string_lossy().starts_with(&namespaces)));
}
