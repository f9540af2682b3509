//! Every promise and protection that is listed has a patch that removes it, and every patch is listed. That the tests
//! turn red is shown by `make proof`, which takes minutes.

use std::collections::BTreeMap;

/// Where the rows stand, one file per area.
const ROWS: &str = "docs/proof.d";
/// What `make proof` applies.
const PATCHES: &str = "testkit/planted";

fn files(folder: &str, extension: &str) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(super::files::root().join(folder)).expect("the folder exists");
    let paths = entries.map(|entry| entry.expect("the folder can be listed").path());
    let wanted = paths.filter(|path| path.extension().is_some_and(|found| found == extension));
    wanted
        .map(|path| {
            (path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), super::files::text(path))
        })
        .collect()
}

/// The rows of the tables in a text: what is promised, and the whole row.
fn rows(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| line.starts_with('|'));
    // The first row of a table is its head, the second the line below it.
    lines
        .skip(2)
        .filter(|line| !line.starts_with("|-") && !line.starts_with("| -"))
        .map(str::to_owned)
        .collect()
}

/// The last word of a command, which names the test.
fn filter(command: &str) -> &str {
    let before_options = command.split(" -- ").next().unwrap_or_default();
    let word = before_options.split_whitespace().last().unwrap_or_default();
    word.rsplit("::").next().unwrap_or_default()
}

#[test]
fn every_patch_names_its_test_and_has_its_row() {
    let all_rows: Vec<String> = files(ROWS, "md").values().flat_map(|text| rows(text)).collect();
    for (name, patch) in files(PATCHES, "patch") {
        let first = patch.lines().next().unwrap_or_default();
        let command = first.strip_prefix("# test: ").unwrap_or_default();
        assert!(command.starts_with("cargo test -p godwit"), "{PATCHES}/{name}.patch: first line: {first:?}");
        let test = filter(command);
        assert!(
            all_rows.iter().any(|row| row.contains(test)),
            "no row of {ROWS} names {test}, the test of {name}.patch"
        );
    }
}

#[test]
fn every_row_has_its_patch() {
    let patches = files(PATCHES, "patch");
    assert!(!patches.is_empty());
    let tests: Vec<&str> =
        patches.values().map(|patch| filter(patch.lines().next().unwrap_or_default())).collect();
    for (area, text) in files(ROWS, "md") {
        let rows = rows(&text);
        assert!(!rows.is_empty(), "{ROWS}/{area}.md has no rows");
        for row in rows {
            let has = tests.iter().any(|test| row.contains(test));
            assert!(has, "{ROWS}/{area}.md: no patch in {PATCHES} turns the test of this row red: {row}");
        }
    }
}

/// `docs/proof.md` is the areas' rows behind one another; `GODWIT_UPDATE=1` writes it.
#[test]
fn the_list_for_readers_is_complete() {
    let mut expected = super::files::text("docs/proof.head.md");
    for (area, text) in files(ROWS, "md") {
        expected.push_str(&format!("\n## {area}\n\n{}\n", text.trim_end()));
    }
    if std::env::var_os("GODWIT_UPDATE").is_some() {
        std::fs::write(super::files::root().join("docs/proof.md"), &expected)
            .expect("docs/proof.md can be written");
    }
    assert!(
        super::files::text("docs/proof.md") == expected,
        "docs/proof.md is out of date: make proof-table writes it"
    );
}
