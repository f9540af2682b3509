//! The committed corpus of each target: every input holds, there is a valid one of each class, the seeds are those that the
//! harness makes, and no target is without its entry point or the other way round.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use godwit_fuzz_harness::{Target, targets};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

fn inputs(target: &Target) -> Vec<(String, Vec<u8>)> {
    let corpus = folder("corpus").join(target.name);
    let entries = std::fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{}: {error}", corpus.display()));
    let paths = entries.map(|entry| entry.expect("the corpus can be listed").path());
    let read = |path: PathBuf| {
        let octets = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (path.file_name().unwrap_or_default().to_string_lossy().into_owned(), octets)
    };
    paths.map(read).collect()
}

#[test]
fn every_input_of_the_corpus_holds() {
    for target in targets() {
        for (name, octets) in inputs(&target) {
            let outcome = std::panic::catch_unwind(|| (target.run)(&octets));
            assert!(outcome.is_ok(), "fuzz/corpus/{}/{name}", target.name);
        }
    }
}

#[test]
fn the_corpus_has_a_valid_input_of_each_class() {
    for target in targets() {
        let inputs = inputs(&target);
        let found: BTreeSet<String> =
            inputs.iter().flat_map(|(_, octets)| (target.classify)(octets)).collect();
        let wanted: BTreeSet<String> = target.classes.iter().cloned().collect();
        let missing: Vec<_> = wanted.difference(&found).collect();
        assert!(missing.is_empty(), "fuzz/corpus/{} has no valid input of {missing:?}", target.name);
    }
}

#[test]
fn seeds_are_committed_as_the_harness_makes_them() {
    for target in targets() {
        let inputs = inputs(&target);
        for (class, octets) in (target.seeds)() {
            let name = format!("seed-{class}");
            let same = inputs.iter().any(|(other, committed)| *other == name && *committed == octets);
            assert!(same, "fuzz/corpus/{}/{name} is out of date: make seeds writes it", target.name);
        }
    }
}

#[test]
fn every_target_has_its_entry_point() {
    let entries = std::fs::read_dir(folder("fuzz_targets")).expect("the folder exists");
    let paths = entries.map(|entry| entry.expect("the folder can be listed").path());
    let stems = paths.map(|path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned());
    let known: BTreeSet<String> = targets().iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(stems.collect::<BTreeSet<_>>(), known);
    let manifest = std::fs::read_to_string(folder("Cargo.toml")).expect("the manifest can be read");
    for name in known {
        assert!(
            manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")),
            "{name} is not in fuzz/Cargo.toml"
        );
    }
}
