//! Promise: README.md and SECURITY.md claim only what tests check.
//!
//! tests/claims.txt has, for each paragraph, list item and table row of the two documents, the tests that check it. A
//! paragraph without a line there fails, and so does a line without its paragraph or test.

use crate::defects::is_there;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The paragraphs, list items and table rows of a document, each as one line, without headings and fenced blocks.
fn parts(page: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    let (mut is_fenced, mut goes_on) = (false, false);
    for line in page.lines() {
        if line.starts_with("```") {
            is_fenced = !is_fenced;
            goes_on = false;
            continue;
        }
        let is_heading = line.starts_with('#');
        let is_rule = line.starts_with('|') && line.chars().all(|c| "|- ".contains(c));
        if is_fenced || is_heading || is_rule || line.trim().is_empty() {
            goes_on = false;
            continue;
        }
        let is_numbered = line
            .split_once(". ")
            .is_some_and(|(number, _)| number.parse::<u8>().is_ok());
        let begins = line.starts_with('|') || line.starts_with("- ") || is_numbered;
        match parts.last_mut() {
            Some(last) if goes_on && !begins => {
                last.push(' ');
                last.push_str(line.trim());
            }
            _ => parts.push(line.trim().to_owned()),
        }
        goes_on = !line.starts_with('|');
    }
    parts
}

/// For each document, how its parts begin, and the tests of each.
fn claims() -> BTreeMap<String, Vec<(String, String)>> {
    let mut claims: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    let mut page = String::new();
    for line in read("tests/claims.txt").lines() {
        match line.split_once(" => ") {
            _ if line.is_empty() || line.starts_with("# ") => {}
            Some((begins, held)) => {
                let claim = (begins.to_owned(), held.to_owned());
                claims.entry(page.clone()).or_default().push(claim);
            }
            None => line.clone_into(&mut page),
        }
    }
    claims
}

#[test]
fn every_paragraph_of_readme_and_security_is_mapped_to_its_tests() {
    for (page, claims) in claims() {
        let parts = parts(&read(&page));
        assert!(parts.len() >= 40, "{page}: {}", parts.len());
        for part in &parts {
            let lines = claims
                .iter()
                .filter(|(begins, _)| part.starts_with(begins.as_str()));
            assert_eq!(
                lines.count(),
                1,
                "{page}: in tests/claims.txt is not one line for\n{part}"
            );
        }
        for (begins, _) in &claims {
            let there = parts.iter().filter(|part| part.starts_with(begins.as_str()));
            assert_eq!(
                there.count(),
                1,
                "{page} has not one part that begins with\n{begins}"
            );
        }
    }
}

#[test]
fn every_test_in_the_list_of_claims_exists_and_runs() {
    let mut tests = 0;
    for (begins, held) in claims().into_values().flatten() {
        if held.starts_with('[') {
            assert!(held.ends_with(']'), "{begins}");
            continue;
        }
        for name in held.split_whitespace() {
            let is_measured = name.starts_with("benches/") && !read(name).is_empty();
            assert!(is_measured || is_there(name), "{begins}: there is no test {name}");
            tests += usize::from(!is_measured);
        }
    }
    assert!(tests > 100, "{tests}");
}

/// The files with `unsafe` in a line that is no comment.
fn with_unsafe(directory: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            with_unsafe(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let is_unsafe = |line: &str| !line.trim_start().starts_with("//") && line.contains("unsafe {");
            if text.lines().any(is_unsafe) {
                let root = Path::new(env!("CARGO_MANIFEST_DIR"));
                found.push(path.strip_prefix(root).unwrap().display().to_string());
            }
        }
    }
}

#[test]
fn unsafe_code_is_only_where_the_documentation_says() {
    let mut found = Vec::new();
    with_unsafe(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    let page = read("SECURITY.md");
    found.sort();
    assert_eq!(found, ["src/os/allocator.rs", "src/os/name_service.rs"]);
    for file in found {
        assert!(page.contains(&format!("`{file}`")), "{file}");
    }
}
