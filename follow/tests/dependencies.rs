//! Nothing of postmapd-follow is in postmapd: cargo resolves postmapd as it does without this member, and compiles all that is in
//! it as before.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .canonicalize()
        .unwrap()
}

/// The output of cargo in a directory.
fn cargo(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout).unwrap()
}

/// The crates of postmapd with their versions and features, those for builds and tests included.
fn tree(directory: &Path) -> Vec<String> {
    let format = ["--prefix", "depth", "--format", " {p} {f}"];
    let text = cargo(
        directory,
        &[&["tree", "--offline", "--edges", "all"][..], &format].concat(),
    );
    let root = directory.to_str().unwrap();
    text.lines().map(|line| line.replace(root, "ROOT")).collect()
}

#[test]
fn the_dependencies_of_postmapd_are_the_same_without_this_member() {
    let (with, temp) = (tree(&repository()), tempfile::tempdir().unwrap());
    let without = temp.path().canonicalize().unwrap();
    for name in ["src", "tests", "benches", "contrib", "templates", "README.md"] {
        symlink(repository().join(name), without.join(name)).unwrap();
    }
    fs::copy(repository().join("Cargo.lock"), without.join("Cargo.lock")).unwrap();
    let manifest = fs::read_to_string(repository().join("Cargo.toml")).unwrap();
    let alone = manifest.replace("members = [\"follow\"]", "members = []");
    assert_ne!(alone, manifest);
    fs::write(without.join("Cargo.toml"), alone).unwrap();
    assert_eq!(with, tree(&without));
    assert!(
        with.len() > 100 && with.iter().all(|line| !line.contains("follow")),
        "{with:?}"
    );
}

#[test]
fn cargo_builds_postmapd_alone_unless_this_member_is_named() {
    let text = cargo(
        &repository(),
        &["metadata", "--offline", "--no-deps", "--format-version", "1"],
    );
    let metadata: serde_json::Value = serde_json::from_str(&text).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let names = |key: &str| {
        let ids = metadata[key].as_array().unwrap();
        let members = packages.iter().filter(|package| ids.contains(&package["id"]));
        let mut names: Vec<&str> = members.map(|member| member["name"].as_str().unwrap()).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(names("workspace_default_members"), ["postmapd"]);
    assert_eq!(names("workspace_members"), ["postmapd", "postmapd-follow"]);
}

#[test]
fn no_crate_of_postmapd_is_compiled_for_the_size_of_postmapd_follow() {
    let manifest = fs::read_to_string(repository().join("Cargo.toml")).unwrap();
    let overrides = manifest
        .lines()
        .filter_map(|line| line.strip_prefix("[profile.release.package.")?.strip_suffix(']'));
    let overrides: Vec<&str> = overrides.collect();
    let names = |package: &str| {
        let edges = ["--edges", "normal,build", "--prefix", "none"];
        let text = cargo(
            &repository(),
            &[&["tree", "--offline", "--package", package][..], &edges].concat(),
        );
        let names = text
            .lines()
            .filter_map(|line| Some(line.split_once(' ')?.0.to_owned()));
        names.collect::<Vec<String>>()
    };
    let (ours, follower) = (names("postmapd"), names("postmapd-follow"));
    assert!(overrides.contains(&"mysql_async"), "{overrides:?}");
    for name in overrides {
        assert!(
            follower.iter().any(|other| other == name),
            "{name} is in no program"
        );
        assert!(!ours.iter().any(|other| other == name), "{name} is in postmapd");
    }
}
