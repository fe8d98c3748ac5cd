//! Replays the seeds of fuzzing, and the inputs in which it found something, on their targets.
//!
//! fuzz/README.md says what the targets assert, and how to fuzz for longer. No libFuzzer and no special build is needed
//! here: the bodies of the targets are plain functions.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a target that finds something must fail, loudly and at the line where it happened"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

#[allow(
    unreachable_pub,
    clippy::pedantic,
    missing_docs,
    reason = "a crate of its own when it is built for libFuzzer"
)]
#[path = "../fuzz/src/lib.rs"]
mod fuzz;

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(name)
}

/// The names in a directory, without their extension.
fn names(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    entries
        .map(|entry| {
            entry
                .unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        })
        .collect()
}

/// Runs the target on every file of a directory, and returns how many there are.
fn replay(target: fuzz::targets::Target, directory: &Path) -> usize {
    let mut files: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    for file in &files {
        let data = fs::read(file).unwrap();
        let outcome = std::panic::catch_unwind(|| target(&data));
        assert!(outcome.is_ok(), "{} fails", file.display());
    }
    files.len()
}

fn replay_all(name: &str) {
    let (_, target) = fuzz::targets::ALL
        .into_iter()
        .find(|(own, _)| *own == name)
        .unwrap();
    let seeds = replay(target, &directory("seeds").join(name));
    assert!(seeds > 0, "{name} has no seeds");
    let found = directory("found").join(name);
    if found.exists() {
        assert!(replay(target, &found) > 0, "{} is empty", found.display());
    }
}

macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            replay_all(stringify!($name));
        })*

        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

targets! { netstring, tcp_table, relaymap, credentials, relay_tls, transport, settings, session, editor, generations }

/// An input of `generations`: edits with a generation after each, most of them without a finding about the file, which
/// is then edited as a table too.
fn edits() -> impl Strategy<Value = Vec<u8>> {
    let what = prop_oneof![4 => prop::sample::select(&[1_u8, 2, 4, 6][..]), 1 => 0..8_u8];
    let edit = (what, any::<u8>(), 0..16_u8, any::<u8>());
    let edits = prop::collection::vec(edit, 1..=6);
    (any::<[u8; 2]>(), edits).prop_map(|(begin, edits)| {
        let edits = edits.into_iter();
        let edits = edits.flat_map(|(what, place, many, of)| [what, place, many, of, 0, 0, 0, 0]);
        begin.into_iter().chain(edits).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Edits beyond those that were recorded: a table after edits equals the table that is read from scratch, and
    /// answers as the plain reader does.
    #[test]
    fn after_random_edits_a_table_equals_one_that_was_read_from_scratch(data in edits()) {
        fuzz::targets::generations(&data);
    }
}

/// Each target has its binary, its seeds and its test, and no case belongs to a target that was removed.
#[test]
fn every_target_is_replayed() {
    let targets: BTreeSet<String> = fuzz::targets::ALL
        .into_iter()
        .map(|(name, _)| name.to_owned())
        .collect();
    assert_eq!(
        NAMES
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<BTreeSet<_>>(),
        targets
    );
    assert_eq!(names(&directory("fuzz_targets")), targets);
    assert_eq!(names(&directory("seeds")), targets);
    assert!(names(&directory("found")).is_subset(&targets));
    let manifest = fs::read_to_string(directory("Cargo.toml")).unwrap();
    for name in targets {
        let binary = fs::read_to_string(directory("fuzz_targets").join(format!("{name}.rs"))).unwrap();
        assert!(binary.contains(&format!("targets::{name}(data)")), "{binary}");
        assert!(
            manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")),
            "{name}"
        );
    }
}
