//! The manual pages and the completions are those of this program, and are well-formed.

use std::fs;
use std::path::Path;
use std::process::Command;

use postmapd::diagnostics::Code;

#[path = "../../contrib/manual/pages.rs"]
mod pages;

fn contrib() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib")
}

#[test]
fn the_manual_pages_and_completions_are_up_to_date() {
    for (path, content) in pages::all().unwrap() {
        let there = fs::read(contrib().join(&path)).unwrap_or_default();
        assert!(
            there == content,
            "contrib/{path} is not up to date; run: cargo run --example manual"
        );
    }
}

#[test]
fn no_manual_page_remains_of_a_removed_command() {
    let current: Vec<String> = pages::all().unwrap().into_iter().map(|(path, _)| path).collect();
    for directory in ["man", "completions"] {
        for entry in fs::read_dir(contrib().join(directory)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let path = format!("{directory}/{name}");
            let is_written_by_hand = ["postmapd-tables.5", "postmapd-log.7"].contains(&name.as_str());
            assert!(current.contains(&path) || is_written_by_hand, "{path}");
        }
    }
}

#[test]
fn every_code_of_a_finding_is_in_the_manual_with_its_severity() {
    let pages = pages::all().unwrap();
    let text = |name: &str| {
        let path = format!("man/{name}");
        let (_, page) = pages.iter().find(|(of, _)| *of == path).unwrap();
        String::from_utf8(page.clone()).unwrap().replace("\\-", "-")
    };
    let both = text("postmapd-check.1") + &text("postmapd-postconf.1");
    for code in Code::ALL {
        let entry = format!(".BR {code} \" ({}", code.severity());
        assert_eq!(both.matches(&entry).count(), 1, "{entry}");
    }
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn groff_reports_nothing_about_the_manual_pages() {
    for entry in fs::read_dir(contrib().join("man")).unwrap() {
        let page = entry.unwrap().path();
        let ran = Command::new("groff")
            .args(["-man", "-ww", "-z", "-Tutf8"])
            .arg(&page)
            .output()
            .expect("groff, which tests/run-all installs");
        let messages = String::from_utf8_lossy(&ran.stderr);
        assert!(
            ran.status.success() && messages.is_empty(),
            "{}: {messages}",
            page.display()
        );
    }
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn the_shells_accept_the_completions() {
    for (shell, name) in [
        ("bash", "postmapd.bash"),
        ("zsh", "_postmapd"),
        ("fish", "postmapd.fish"),
    ] {
        let ran = Command::new(shell)
            .arg("-n")
            .arg(contrib().join("completions").join(name))
            .output()
            .unwrap_or_else(|error| panic!("{shell}, which tests/run-all installs: {error}"));
        assert!(
            ran.status.success(),
            "{shell}: {}",
            String::from_utf8_lossy(&ran.stderr)
        );
    }
}
