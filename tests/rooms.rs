//! The modules are as the tour in src/lib.rs draws them: each is on a floor, and uses only modules of lower floors.

#![allow(clippy::expect_used, reason = "a test ends where something fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The floor of each module, from the table of the tour.
fn floors(tour: &str) -> BTreeMap<String, u32> {
    let rows = tour.lines().filter_map(|line| line.strip_prefix("//! | "));
    let floors = rows.filter_map(|row| {
        let (floor, rest) = row.split_once(" | [`")?;
        let (module, _) = rest.split_once('`')?;
        let module = module.trim_start_matches("mod@");
        Some((module.to_owned(), floor.trim().parse().ok()?))
    });
    floors.collect()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The code of a file without its tests and its comments.
fn code(text: &str) -> String {
    let code = text.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    code.lines().filter(is_code).collect::<Vec<_>>().join("\n")
}

/// The modules that code names as `crate::module`.
fn used(code: &str) -> BTreeSet<String> {
    let is_of_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let after = code.split("crate::").skip(1);
    let names = after.flat_map(|rest| {
        // `use crate::{one, two::Three}` names several.
        let list = rest.strip_prefix('{').and_then(|list| list.split("};").next());
        let names: Vec<&str> = match list {
            Some(list) => list.split(',').map(str::trim).collect(),
            None => vec![rest],
        };
        names
            .into_iter()
            .map(|name| {
                name.split(|letter| !is_of_name(letter))
                    .next()
                    .unwrap_or_default()
                    .to_owned()
            })
            .collect::<Vec<_>>()
    });
    names.filter(|name| !name.is_empty()).collect()
}

#[test]
fn each_module_uses_only_modules_of_lower_floors() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let tour = fs::read_to_string(src.join("lib.rs")).expect("the tour");
    let floors = floors(&tour);
    let mut wrong = Vec::new();
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut arrows = 0;
    for file in files {
        let path = file.strip_prefix(&src).expect("a source");
        let first = path.components().next().expect("a name").as_os_str();
        let own = first.to_string_lossy().trim_end_matches(".rs").to_owned();
        let is_tests = path
            .components()
            .any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs");
        if own == "lib" || own == "main" || is_tests {
            continue;
        }
        let Some(own_floor) = floors.get(&own) else {
            wrong.push(format!("{own} is on no floor of the tour in src/lib.rs"));
            continue;
        };
        for module in used(&code(&fs::read_to_string(&file).expect("a source"))) {
            if module == own {
                continue;
            }
            arrows += 1;
            match floors.get(&module) {
                Some(floor) if floor < own_floor => {}
                Some(floor) => wrong.push(format!(
                    "src/{}: {own} (floor {own_floor}) uses {module} (floor {floor})",
                    path.display()
                )),
                None => wrong.push(format!("src/{}: {module} is on no floor", path.display())),
            }
        }
    }
    wrong.sort();
    wrong.dedup();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // A search that finds nothing would find nothing wrong.
    assert!(
        arrows > 100 && floors.len() >= 14,
        "{arrows} uses of {} modules",
        floors.len()
    );
}

#[test]
fn uses_are_found_however_they_are_written() {
    let found = used(&code(
        "use crate::one::{self, Thing};\nuse crate::{two, three::Four};\n// crate::comment\nlet x = crate::five::six();\n#[cfg(test)]\nmod tests { use crate::seven; }",
    ));
    let found: Vec<&str> = found.iter().map(String::as_str).collect();
    assert_eq!(found, ["five", "one", "three", "two"]);
}
