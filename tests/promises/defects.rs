//! Promise: every fault of this program that was not found by a test has a test by now: tests/DEFECTS.md.

use std::fs;
use std::path::Path;

/// The rows of the tables that have a test: the fault, and the tests.
fn rows(page: &str) -> Vec<(&str, Vec<&str>)> {
    let rows = page
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    rows.filter(|row| *row != "defect | test")
        .map(|row| {
            let (what, tests) = row
                .rsplit_once(" | ")
                .unwrap_or_else(|| panic!("two columns: {row}"));
            let tests = tests.split(", ").map(|test| {
                let test = test.strip_prefix('`').and_then(|test| test.strip_suffix('`'));
                test.unwrap_or_else(|| panic!("a test in backquotes: {row}"))
            });
            (what, tests.collect())
        })
        .collect()
}

/// Whether this source has a test of that name. `tests/run-all` runs those that are ignored, too.
fn has_test(source: &str, name: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let head = format!("fn {name}(");
    let mut functions = (0..lines.len()).filter(|at| lines[*at].starts_with(&head));
    functions.any(|at| {
        let attributes = lines[..at].iter().rev().take_while(|line| line.starts_with("#["));
        attributes.into_iter().any(|line| *line == "#[test]")
    })
}

/// Whether this test (`file::function`, the file below tests/promises or a path) or this case (`tests/cases/…`) exists.
pub(crate) fn is_there(test: &str) -> bool {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let Some((file, name)) = test.rsplit_once("::") else {
        return test.starts_with("tests/cases/") && root.join(test).join("cmd").exists();
    };
    let path = if file.contains('.') {
        root.join(file)
    } else {
        root.join(format!("tests/promises/{}.rs", file.replace("::", "/")))
    };
    fs::read_to_string(path).is_ok_and(|source| has_test(&source, name))
}

#[test]
fn every_test_in_the_list_of_defects_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("tests/DEFECTS.md")).unwrap();
    let rows = rows(&page);
    let mut missing = Vec::new();
    for (what, tests) in &rows {
        for test in tests {
            if !is_there(test) {
                missing.push(format!("{what}: there is no test {test}"));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
    assert!(rows.len() >= 30, "only {} rows", rows.len());
    assert!(!has_test("#[test]\nfn g() {}\nfn f() {}", "f"));
    assert!(has_test("#[test]\n fn f() {}", "f"));
    assert!(has_test("#[test]\n#[ignore = \"long\"]\n fn f() {}", "f"));
}
