//! The modules are as in the tour in src/lib.rs: each has a layer, and uses only modules of lower layers. Those of postmapd-follow
//! are as in the table in follow/src/lib.rs: each uses only modules above it.

#![allow(clippy::expect_used, reason = "a test ends where something fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The layer of each module, from the table of the tour.
fn layers(tour: &str) -> BTreeMap<String, usize> {
    let rows = tour.lines().filter_map(|line| line.strip_prefix("//! | "));
    let layers = rows.filter_map(|row| {
        let (layer, rest) = row.split_once(" | [`")?;
        let (module, _) = rest.split_once('`')?;
        let module = module.trim_start_matches("mod@");
        Some((module.to_owned(), layer.trim().parse().ok()?))
    });
    layers.collect()
}

/// The place of each module in a table without layers.
fn places(table: &str) -> BTreeMap<String, usize> {
    let rows = table.lines().filter_map(|line| line.strip_prefix("//! | "));
    let modules = rows.filter_map(|row| {
        row.strip_prefix('[')
            .unwrap_or(row)
            .strip_prefix('`')?
            .split_once('`')
    });
    modules
        .enumerate()
        .map(|(place, (module, _))| (module.to_owned(), place))
        .collect()
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory") {
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

/// The paths in code that begin with `crate::` or `super::` (`roots`), with each name of a list in braces separately.
/// Each `super` is a step up from `own`, the path of the module.
fn paths(code: &str, roots: &[&'static str], own: &[String]) -> BTreeSet<Vec<String>> {
    let is_of_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let mut paths = BTreeSet::new();
    for (root, rest) in roots
        .iter()
        .flat_map(|root| code.split(root).skip(1).map(move |rest| (*root, rest)))
    {
        let mut path = match root {
            "crate::" => Vec::new(),
            _ => own.split_last().map_or(Vec::new(), |(_, parent)| parent.to_vec()),
        };
        let mut rest = rest;
        loop {
            if let Some(list) = rest.strip_prefix('{') {
                // `use crate::{one, two::Three}` names several.
                let list = list.split("};").next().unwrap_or_default();
                for item in list.split(',').map(str::trim) {
                    let name: String = item.chars().take_while(|letter| is_of_name(*letter)).collect();
                    if !name.is_empty() && name != "self" {
                        paths.insert([path.clone(), vec![name]].concat());
                    }
                }
                paths.insert(path);
                break;
            }
            let end = rest.find(|letter| !is_of_name(letter)).unwrap_or(rest.len());
            let (name, after) = rest.split_at(end);
            match name {
                "" => {}
                "super" => drop(path.pop()),
                _ => path.push(name.to_owned()),
            }
            let Some(after) = after.strip_prefix("::") else {
                paths.insert(path);
                break;
            };
            rest = after;
        }
    }
    paths
}

/// The modules of the first level that code names as `crate::module`.
fn used(code: &str) -> BTreeSet<String> {
    let paths = paths(code, &["crate::"], &[]);
    paths
        .into_iter()
        .filter_map(|path| path.into_iter().next())
        .collect()
}

/// The path of the module of a file in `src`.
fn module(path: &Path) -> Vec<String> {
    let path = path.with_extension("");
    let parts = path
        .components()
        .map(|part| part.as_os_str().to_string_lossy().into_owned());
    parts.filter(|part| part != "mod").collect()
}

fn is_tests(path: &Path) -> bool {
    let mut parts = path.components();
    parts.any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs")
}

/// A path from a module back to itself, if there is one.
fn cycle(uses: &BTreeMap<Vec<String>, BTreeSet<Vec<String>>>) -> Option<Vec<String>> {
    fn visit<'a>(
        module: &'a Vec<String>,
        uses: &'a BTreeMap<Vec<String>, BTreeSet<Vec<String>>>,
        way: &mut Vec<&'a Vec<String>>,
        done: &mut BTreeSet<&'a Vec<String>>,
    ) -> Option<Vec<String>> {
        if let Some(begin) = way.iter().position(|other| *other == module) {
            let cycle = way.iter().skip(begin).chain([&module]);
            return Some(cycle.map(|module| module.join("::")).collect());
        }
        if done.contains(module) {
            return None;
        }
        way.push(module);
        let found = uses
            .get(module)
            .into_iter()
            .flatten()
            .find_map(|next| visit(next, uses, way, done));
        way.pop();
        done.insert(module);
        found
    }
    let mut done = BTreeSet::new();
    uses.keys()
        .find_map(|module| visit(module, uses, &mut Vec::new(), &mut done))
}

/// The modules that each module uses, at all levels.
fn uses(src: &Path) -> BTreeMap<Vec<String>, BTreeSet<Vec<String>>> {
    let mut files = Vec::new();
    sources(src, &mut files);
    let codes: BTreeMap<Vec<String>, String> = files
        .iter()
        .map(|file| (file.strip_prefix(src).expect("a source"), file))
        .filter(|(path, _)| !is_tests(path))
        .map(|(path, file)| (module(path), code(&text(file))))
        .collect();
    let mut uses = BTreeMap::new();
    for (module, code) in &codes {
        let named = paths(code, &["crate::", "super::"], module)
            .into_iter()
            .filter_map(|path| {
                // The module is the longest prefix of the path that is one.
                let lengths = (1..=path.len()).rev();
                lengths
                    .filter_map(|length| Some(path.get(..length)?.to_vec()))
                    .find(|begin| codes.contains_key(begin))
            });
        // A module and the modules in it are one unit.
        let others = named.filter(|other| !other.starts_with(module) && !module.starts_with(other));
        uses.insert(module.clone(), others.collect::<BTreeSet<_>>());
    }
    uses
}

#[test]
fn no_modules_depend_on_each_other_in_a_cycle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (src, least) in [("src", 400), ("follow/src", 90)] {
        let uses = uses(&root.join(src));
        let arrows: usize = uses.values().map(BTreeSet::len).sum();
        assert!(arrows > least, "{src}: {arrows} uses of {} modules", uses.len());
        assert_eq!(cycle(&uses), None, "{src}");
    }
    // An existing cycle is found.
    let mut uses = uses(&root.join("src"));
    let search = vec!["lookup".to_owned(), "search".to_owned()];
    let map = vec!["lookup".to_owned(), "map".to_owned()];
    uses.get_mut(&search).expect("a module").insert(map);
    assert!(cycle(&uses).is_some_and(|cycle| cycle.contains(&"lookup::search".to_owned())));
}

/// The uses of modules that are not of lower layers, and the number of all uses.
fn wrong_uses(src: &Path, layers: &BTreeMap<String, usize>) -> (BTreeSet<String>, usize) {
    let mut wrong = BTreeSet::new();
    let mut files = Vec::new();
    sources(src, &mut files);
    let mut arrows = 0;
    for file in files {
        let path = file.strip_prefix(src).expect("a source");
        let first = path.components().next().expect("a name").as_os_str();
        let own = first.to_string_lossy().trim_end_matches(".rs").to_owned();
        if own == "lib" || own == "main" || is_tests(path) {
            continue;
        }
        let Some(own_layer) = layers.get(&own) else {
            wrong.insert(format!("{own} is not in the table of lib.rs"));
            continue;
        };
        for module in used(&code(&fs::read_to_string(&file).expect("a source"))) {
            if module == own {
                continue;
            }
            arrows += 1;
            match layers.get(&module) {
                Some(layer) if layer < own_layer => {}
                Some(layer) => {
                    let path = path.display();
                    wrong.insert(format!(
                        "{path}: {own} (layer {own_layer}) uses {module} (layer {layer})"
                    ));
                }
                None => drop(wrong.insert(format!("{}: {module} has no layer", path.display()))),
            }
        }
    }
    (wrong, arrows)
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).expect("a source")
}

#[test]
fn each_module_uses_only_modules_of_lower_layers() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let layers = layers(&text(&src.join("lib.rs")));
    let (wrong, arrows) = wrong_uses(&src, &layers);
    assert_eq!(wrong, BTreeSet::new());
    // A search that finds nothing would not fail.
    assert!(
        arrows > 100 && layers.len() >= 14,
        "{arrows} uses of {} modules",
        layers.len()
    );
}

#[test]
fn each_module_of_postmapd_follow_uses_only_modules_above_it_in_the_table() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("follow/src");
    let mut places = places(&text(&src.join("lib.rs")));
    let (wrong, arrows) = wrong_uses(&src, &places);
    assert_eq!(wrong, BTreeSet::new());
    assert!(
        arrows > 50 && places.len() >= 14,
        "{arrows} uses of {} modules",
        places.len()
    );
    // A use of a module below is found.
    places.insert("rows".to_owned(), usize::MAX);
    assert!(!wrong_uses(&src, &places).0.is_empty());
}

#[test]
fn every_form_of_use_is_found() {
    let found = used(&code(
        "use crate::one::{self, Thing};\nuse crate::{two, three::Four};\n// crate::comment\nlet x = crate::five::six();\n#[cfg(test)]\nmod tests { use crate::seven; }",
    ));
    let found: Vec<&str> = found.iter().map(String::as_str).collect();
    assert_eq!(found, ["five", "one", "three", "two"]);
}
