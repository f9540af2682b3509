//! What people type: `make help` tells every target, and `fuzz/run` fails when it has to.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use super::files::{root, text};

#[test]
fn make_help_tells_every_target() {
    let makefile = text("Makefile");
    let phony = makefile.lines().find_map(|line| line.strip_prefix(".PHONY:")).expect("the list of targets");
    let phony: BTreeSet<&str> = phony.split_whitespace().collect();
    let rules: BTreeSet<&str> = makefile
        .lines()
        .filter(|line| line.starts_with(|first: char| first.is_ascii_lowercase()))
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, rest)| !rest.starts_with('=') && !name.contains([' ', '=']))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(rules, phony, "rules, and those that are said to be no files");
    let ended = Command::new("make").args(["--no-print-directory", "help"]).current_dir(root()).output();
    let said = String::from_utf8(ended.expect("make starts").stdout).expect("text");
    // One line for each: its name, and what it is for.
    let told: BTreeSet<&str> = said
        .lines()
        .filter_map(|line| line.trim_start().split_once(' '))
        .filter(|(_, purpose)| purpose.trim().len() > 10)
        .map(|(name, _)| name)
        .collect();
    assert_eq!(told, phony, "{said}");
}

/// What a target of `fuzz/run` does, and the tests of its corpus before it.
#[derive(Clone, Copy)]
struct Run {
    inputs: u32,
    code: u8,
    corpus_code: u8,
}

fn program(path: &Path, script: &str) {
    fs::create_dir_all(path.parent().expect("in a folder")).expect("a folder of our own");
    fs::write(path, format!("#!/bin/sh\n{script}\n")).expect("a folder of our own");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a file of our own");
}

/// Runs the script in a folder where a target and the compiler are stand-ins.
fn fuzz(run: Run) -> Output {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let at = |name: &str| folder.path().join(name);
    program(&at("fuzz/run"), "");
    fs::copy(root().join("fuzz/run"), at("fuzz/run")).expect("the script");
    program(&at("bin/rustc"), "echo host: here");
    program(&at("bin/cargo"), &format!("if [ \"$1\" = test ]; then exit {}; fi", run.corpus_code));
    fs::create_dir_all(at("fuzz/fuzz_targets")).expect("a folder of our own");
    fs::write(at("fuzz/fuzz_targets/one.rs"), "").expect("a folder of our own");
    let said = format!(
        "echo '#9 DONE cov: 41 ft: 57 corp: 3/9b'; echo 'stat::number_of_executed_units: {}'; exit {}",
        run.inputs, run.code
    );
    program(&at("fuzz/target/here/release/one"), &said);
    let path = format!("{}:{}", at("bin").display(), std::env::var("PATH").unwrap_or_default());
    Command::new("bash").arg(at("fuzz/run")).arg("1").env("PATH", path).output().expect("bash starts")
}

#[test]
fn fuzzing_fails_on_a_crash_on_too_few_inputs_and_on_a_corpus_without_a_class() {
    let good = Run { inputs: 10_000, code: 0, corpus_code: 0 };
    for (what, run, expected) in [
        ("enough", good, None),
        ("enough in three times", Run { inputs: 3_334, ..good }, None),
        ("too few in three times", Run { inputs: 3_333, ..good }, Some("FAILED: fewer than 10000 inputs")),
        ("a crash", Run { code: 77, ..good }, Some("FAILED: ")),
        ("a class is missing", Run { corpus_code: 101, ..good }, Some("")),
    ] {
        let ended = fuzz(run);
        let said = String::from_utf8_lossy(&ended.stdout).into_owned();
        let errors = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.success(), expected.is_none(), "{what}: {said}{errors}");
        let expected = expected.unwrap_or("ok");
        assert!(said.contains(expected), "{what}: {said}{errors}");
        // Coverage is printed of everything that ran.
        assert_eq!(run.corpus_code == 0, said.contains(" 41 ") && said.contains(" 57 "), "{what}: {said}");
    }
}
