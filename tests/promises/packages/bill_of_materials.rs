//! The crates that are linked in, according to contrib/package/bill-of-materials.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::{Built, digest, done, repository, target};
use crate::harness::daemon::finish;

const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// Checks bills of materials with CycloneDX's own library: prints for each line, which is a bill, its error or nothing.
const VALIDATOR: &str = "\
import json, sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from license_expression import get_spdx_licensing
schema, licences = JsonStrictValidator(SchemaVersion.V1_6), get_spdx_licensing()
for text in sys.stdin:
    wrong = schema.validate_str(text)
    said = {one['licenses'][0]['expression'] for one in json.loads(text)['components']}
    print(wrong.data.message if wrong else [error for one in said for error in licences.validate(one).errors] or '')
";

#[track_caller]
pub(super) fn validate(bills: &[&Value]) -> Vec<String> {
    let python = target().join("cyclonedx-validate/bin/python");
    let lines: Vec<String> = bills.iter().map(|bill| format!("{bill}\n")).collect();
    let checked = finish(
        Command::new(&python).args(["-c", VALIDATOR]),
        lines.concat().as_bytes(),
    );
    assert_eq!(checked.code, Some(0), "{checked:?}");
    checked.stdout.lines().map(ToOwned::to_owned).collect()
}

pub(super) fn bill(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

/// The crates of a bill of materials, as `name@version`, and its other components.
pub(super) fn components(bill: &Value) -> (BTreeSet<String>, Vec<String>) {
    let named = |component: &Value| format!("{}@{}", text(&component["name"]), text(&component["version"]));
    let all = bill["components"].as_array().unwrap();
    let (crates, others): (Vec<_>, Vec<_>) = all
        .iter()
        .partition(|component| text(&component["purl"]).starts_with("pkg:cargo/"));
    (
        crates.into_iter().map(named).collect(),
        others
            .into_iter()
            .map(|other| text(&other["name"]).to_owned())
            .collect(),
    )
}

/// The crates that Cargo compiled for the target of the static program, and not for the build machine as procedural
/// macros.
fn compiled() -> BTreeSet<String> {
    let remap = done(&mut Command::new(repository().join("contrib/package/remap")));
    let flags = ["-Ctarget-cpu=x86-64", "-Ctarget-feature=+crt-static", &remap].join("\u{1f}");
    let mut build = Command::new(env!("CARGO"));
    build
        .args(["build", "--locked", "--release", "--bin", "postmapd"])
        .args(["--message-format", "json", "--target", TRIPLE])
        .current_dir(repository())
        .env("CARGO_TARGET_DIR", target())
        .env("CARGO_ENCODED_RUSTFLAGS", flags);
    let messages = done(&mut build);
    let directory = target().join(TRIPLE);
    let of_target = messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).unwrap();
        let file = message["filenames"][0].as_str()?;
        let package = text(&message["package_id"]);
        // The program itself has a path here.
        if !Path::new(file).starts_with(&directory) || package.starts_with("path+") {
            return None;
        }
        let (place, version) = package.rsplit_once('#').unwrap();
        Some(match version.split_once('@') {
            Some((name, version)) => format!("{name}@{version}"),
            None => format!("{}@{version}", place.rsplit('/').next().unwrap()),
        })
    });
    of_target.collect()
}

/// The checksums of crates in Cargo.lock.
fn checksums() -> Vec<(String, String)> {
    let lock = fs::read_to_string(repository().join("Cargo.lock")).unwrap();
    let field = |package: &str, name: &str| {
        let start = format!("{name} = \"");
        let line = package.lines().find(|line| line.starts_with(&start))?;
        Some(line[start.len()..].trim_end_matches('"').to_owned())
    };
    lock.split("[[package]]")
        .filter_map(|package| {
            let name = format!("{}@{}", field(package, "name")?, field(package, "version")?);
            Some((name, field(package, "checksum")?))
        })
        .collect()
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_bill_of_materials_names_exactly_the_linked_crates() {
    let built = Built::by("static");
    let bill = bill(&built.beside(".cdx.json"));
    // The check detects what is wrong.
    let (mut no_purl, mut no_licence) = (bill.clone(), bill.clone());
    no_purl["components"][0]["puri"] = "pkg:cargo/one".into();
    no_licence["components"][0]["licenses"][0]["expression"] = "MIT OR Apache".into();
    let checked = validate(&[&bill, &no_purl, &no_licence]);
    assert_eq!(checked[0], "");
    assert!(
        checked[1].contains("puri") && checked[2].contains("Apache"),
        "{checked:?}"
    );
    let (crates, others) = components(&bill);
    assert_eq!(crates, compiled());
    assert_eq!(others, ["rust-std", "glibc", "libgcc"]);
    let tree = done(
        Command::new(env!("CARGO"))
            .args([
                "tree",
                "--locked",
                "--edges",
                "normal,no-proc-macro",
                "--target",
                TRIPLE,
            ])
            .args(["--prefix", "none", "--format", "{p}"])
            .current_dir(repository()),
    );
    let tree: BTreeSet<String> = tree
        .lines()
        .skip(1)
        .map(|line| {
            let mut words = line.split(' ');
            let name = words.next().unwrap();
            format!("{name}@{}", words.next().unwrap().trim_start_matches('v'))
        })
        .collect();
    assert_eq!(crates, tree);

    // Each crate with its licence and the checksum in Cargo.lock; the program with its own.
    let checksums = checksums();
    for component in bill["components"].as_array().unwrap() {
        let name = format!("{}@{}", text(&component["name"]), text(&component["version"]));
        assert!(
            !text(&component["licenses"][0]["expression"]).is_empty(),
            "{name}"
        );
        if crates.contains(&name) {
            let hash = text(&component["hashes"][0]["content"]);
            assert!(
                checksums
                    .iter()
                    .any(|known| (&*known.0, &*known.1) == (&*name, hash)),
                "{name}"
            );
        }
    }
    let program = &bill["metadata"]["component"];
    assert_eq!(text(&program["version"]), env!("CARGO_PKG_VERSION"));
    assert_eq!(text(&program["hashes"][0]["content"]), digest(&built.bytes()));

    let notices = fs::read_to_string(built.beside(".notices.txt")).unwrap();
    for name in crates.iter().map(|name| name.replace('@', " ")) {
        assert!(
            notices
                .lines()
                .any(|line| line.starts_with(&format!("{name}: ")) && line.contains("; text ")),
            "{name}"
        );
    }
}
