//! The manual pages, the completions and the example of the settings are those of this program, and are well-formed.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use postmapd_follow::settings::Settings;
use postmapd_follow::settings::definitions::ALL;

#[path = "../manual/pages.rs"]
mod pages;

fn contrib() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/follow")
}

#[test]
fn the_manual_pages_and_completions_are_up_to_date() {
    let pages = pages::all().unwrap();
    for (path, content) in &pages {
        let there = fs::read(contrib().join(path)).unwrap_or_default();
        assert!(
            there == *content,
            "contrib/follow/{path} is not up to date; run: cargo run -p postmapd-follow --example follow-manual"
        );
    }
    // None remains of a removed command.
    for directory in ["man", "completions"] {
        for entry in fs::read_dir(contrib().join(directory)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let path = format!("{directory}/{name}");
            assert!(pages.iter().any(|(of, _)| *of == path), "{path}");
        }
    }
}

#[test]
fn the_examples_of_the_settings_are_valid() {
    let page = fs::read_to_string(contrib().join("man/postmapd-follow.toml.5")).unwrap();
    let examples: Vec<&str> = page
        .split(".EX\n")
        .skip(1)
        .map(|rest| rest.split(".EE").next().unwrap())
        .filter(|example| example.contains("source ="))
        .collect();
    assert_eq!(examples.len(), 2);
    for example in examples {
        let text = example.replace("\\-", "-");
        Settings::parse(Path::new("/follow.toml"), text.as_bytes()).unwrap();
    }
    let file = contrib().join("follow.toml");
    Settings::read(&file).unwrap();
    // Each setting is in the file, also those that are comments.
    let text = fs::read_to_string(file).unwrap();
    for setting in ALL {
        let line = |line: &str| {
            line.trim_start_matches('#')
                .starts_with(&format!("{} = ", setting.name))
        };
        assert!(text.lines().any(line), "{}", setting.name);
    }
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn groff_and_the_shells_report_nothing_about_the_pages_and_completions() {
    let expect_silence = |words: &[&str], file: &Path| {
        let [program, options @ ..] = words else {
            unreachable!()
        };
        let ran = Command::new(program).args(options).arg(file).output().unwrap();
        let messages = String::from_utf8_lossy(&ran.stderr);
        assert!(
            ran.status.success() && messages.is_empty(),
            "{}: {messages}",
            file.display()
        );
    };
    for entry in fs::read_dir(contrib().join("man")).unwrap() {
        expect_silence(&["groff", "-man", "-ww", "-z", "-Tutf8"], &entry.unwrap().path());
    }
    for (shell, name) in [
        ("bash", "postmapd-follow.bash"),
        ("zsh", "_postmapd-follow"),
        ("fish", "postmapd-follow.fish"),
    ] {
        expect_silence(&[shell, "-n"], &contrib().join("completions").join(name));
    }
}
