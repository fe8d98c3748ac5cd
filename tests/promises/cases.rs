//! Promise: the output of a command for the files and variables of a case is, byte for byte, the one that was reviewed.
//!
//! A case is a directory `tests/cases/COMMAND/NAME` with the files of the directory that postmapd serves and
//!
//! - `cmd`: commands of sh(1), one a line, run one after another in a copy of the directory, whose path is `$DIR` and
//!   which postmapd uses as the directory of its tables; `$REPOSITORY` is this repository. `ask MAP KEY…` starts a
//!   server there with the variables of the line, prints its warnings, and sends the keys over both protocols, and by
//!   `query`;
//! - `expected`: each command with its standard output, its standard error (`! `), and its exit code if it is not 0 (`=
//!   `). The path of the copy is `DIR` there, and its parent, which is empty, is `ROOT`.
//!
//! Credentials are private in the copy. In the text of every other file, `@DIR@` becomes the path of the copy. After an
//! intended change, `POSTMAPD_REWRITE=1 cargo test --test promises -- --include-ignored cases::` rewrites each
//! `expected`; review them with `git diff`. A password (`CANARY`) in the output always fails the test.

use crate::harness::client::{Both, Reply};
use crate::harness::daemon::{CREDENTIALS, Setup, finish};
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, SystemTime};

/// The directories of a command's cases, by name.
pub(crate) fn directories(command: &str) -> Vec<PathBuf> {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/cases")
        .join(command);
    let entries = fs::read_dir(&cases).unwrap_or_else(|error| panic!("{}: {error}", cases.display()));
    let mut directories: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    directories.sort();
    directories
}

/// Copies a case without its commands and their expected output.
fn copy(from: &Path, to: &Path, dir: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let (from, name) = (entry.as_ref().unwrap().path(), entry.unwrap().file_name());
        let to = to.join(&name);
        if from.is_dir() {
            fs::create_dir(&to).unwrap();
            copy(&from, &to, dir);
        } else if name != "cmd" && name != "expected" {
            let text = match String::from_utf8(fs::read(&from).unwrap()) {
                Ok(text) => text.replace("@DIR@", dir.to_str().unwrap()).into_bytes(),
                Err(error) => error.into_bytes(),
            };
            fs::write(&to, text).unwrap();
            let mode = if name == CREDENTIALS { 0o600 } else { 0o644 };
            fs::set_permissions(&to, PermissionsExt::from_mode(mode)).unwrap();
            // Backdates the file: Postfix waits where one of its files has just changed.
            let file = fs::File::options().write(true).open(&to).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(60))
                .unwrap();
        }
    }
}

/// The program `ask`: it saves its variables and its arguments for [`answers`].
const ASK: &str = "#!/bin/sh\nenv -0 > \"${0%/*}/variables\"; printf '%s\\0' \"$@\" > \"${0%/*}/words\"\n";

/// The answers of a server with these variables to these words: maps, each followed by its keys.
fn answers(setup: &Setup, variables: &[u8], words: &str) -> String {
    let split = |variable: &[u8]| -> Option<(Vec<u8>, Vec<u8>)> {
        let at = variable.iter().position(|byte| *byte == b'=')?;
        Some((variable[..at].to_vec(), variable[at + 1..].to_vec()))
    };
    let variables = variables.split(|byte| *byte == 0).filter_map(split);
    let setup = variables
        .filter(|(name, _)| {
            !["PATH", "PWD", "OLDPWD", "DIR", "REPOSITORY"].contains(&&*String::from_utf8_lossy(name))
        })
        .fold(setup.clone(), |setup, (name, value)| {
            setup.env(OsStr::from_bytes(&name), OsStr::from_bytes(&value))
        });
    let (daemon, mut clients) = Both::start(setup.clone());
    let (mut map, mut text) = ("relayhost", String::new());
    // The warnings before it serves: the level, the part and the message, without the time.
    let log = daemon.log();
    let warnings = log
        .lines()
        .filter_map(|line| line.split_once(' ')?.1.trim_start().into());
    for line in warnings.take_while(|line| !line.contains("listening endpoint=")) {
        if line.starts_with("WARN") || line.starts_with("ERROR") {
            writeln!(text, "! {line}").unwrap();
        }
    }
    for word in words.split_terminator('\0') {
        if ["relayhost", "sasl", "transport", "tls"].contains(&word) {
            map = word;
            continue;
        }
        let reply = clients.query(map, word);
        let query = setup.run_query(&[map, word]);
        let (answer, printed) = match &reply {
            Reply::Found(value) => (format!("found {value}"), format!("{value}\n")),
            Reply::NotFound => ("not found".to_owned(), String::new()),
            Reply::CannotTell(reason) | Reply::Refused(reason) => {
                assert!(reason.len() <= 200, "Postfix logs 200 characters: {reason:?}");
                (format!("cannot tell: {reason}"), String::new())
            }
        };
        assert_eq!(
            (query.code, query.stdout),
            (Some(reply.exit_code()), printed),
            "query {map} {word}"
        );
        writeln!(text, "{map} {word}: {answer}").unwrap();
    }
    text
}

/// The output of a case's commands, in the form of `expected`.
fn transcript(case: &Path) -> String {
    let setup = Setup::new();
    copy(case, setup.dir(), setup.dir());
    let program = Path::new(env!("CARGO_BIN_EXE_postmapd")).parent().unwrap();
    let path = std::env::var("PATH").unwrap();
    let tools = tempfile::tempdir().unwrap();
    let script = tools.path().join("ask");
    fs::write(&script, ASK).unwrap();
    fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    let commands = fs::read_to_string(case.join("cmd")).unwrap();
    let mut transcript = String::new();
    for line in commands.lines().filter(|line| !line.is_empty()) {
        writeln!(transcript, "$ {line}").unwrap();
        let mut command = Command::new("sh");
        command
            .args(["-c", line])
            .current_dir(setup.dir())
            .env_clear()
            .env(
                "PATH",
                format!("{}:{}:{path}", program.display(), tools.path().display()),
            )
            .env("DIR", setup.dir())
            .env("REPOSITORY", env!("CARGO_MANIFEST_DIR"))
            .env("POSTMAPD_DIR", setup.dir());
        let ran = finish(&mut command, b"");
        transcript += &ran.stdout;
        if let Ok(words) = fs::read_to_string(tools.path().join("words")) {
            let variables = fs::read(tools.path().join("variables")).unwrap();
            transcript += &answers(&setup, &variables, &words);
            fs::remove_file(tools.path().join("words")).unwrap();
        }
        for line in ran.stderr.lines() {
            writeln!(transcript, "! {line}").unwrap();
        }
        if ran.code != Some(0) {
            writeln!(transcript, "= {}", ran.code.unwrap()).unwrap();
        }
    }
    transcript
        .replace(setup.dir().to_str().unwrap(), "DIR")
        .replace(setup.root().to_str().unwrap(), "ROOT")
}

/// Runs every case of a command, and fails with the names of all that differ.
fn run(command: &str) {
    let is_rewritten = std::env::var_os("POSTMAPD_REWRITE").is_some();
    let mut failures = Vec::new();
    let cases = directories(command);
    // Two at a time, so that tests that measure time at the same time can.
    let some = |from: usize| -> Vec<_> {
        let some = cases.iter().skip(from).step_by(2);
        some.map(|case| (case, transcript(case))).collect()
    };
    let transcripts = thread::scope(|scope| {
        let other = scope.spawn(|| some(1));
        [some(0), other.join().unwrap()].concat()
    });
    for (case, transcript) in transcripts {
        let expected = case.join("expected");
        if transcript
            .to_uppercase()
            .lines()
            .any(|line| !line.starts_with("$ ") && line.contains("CANARY"))
        {
            failures.push(format!(
                "{}: a password is printed:\n{transcript}",
                case.display()
            ));
        } else if is_rewritten {
            fs::write(&expected, transcript).unwrap();
        } else {
            let text = fs::read_to_string(&expected).unwrap_or_default();
            if text != transcript {
                failures.push(difference(case, &text, &transcript));
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} cases differ\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// The lines that are only in one of the two texts.
fn difference(case: &Path, expected: &str, printed: &str) -> String {
    let missing = expected
        .lines()
        .filter(|line| !printed.lines().any(|other| other == *line));
    let added = printed
        .lines()
        .filter(|line| !expected.lines().any(|other| other == *line));
    let mut text = format!("{} (order and number count, too):\n", case.display());
    for (sign, line) in missing
        .map(|line| ('-', line))
        .chain(added.map(|line| ('+', line)))
    {
        writeln!(text, "{sign}{line}").unwrap();
    }
    text
}

#[test]
fn bench_output_matches_the_reviewed_cases() {
    run("bench");
}

#[test]
fn check_output_matches_the_reviewed_cases() {
    run("check");
}

#[test]
fn explain_output_matches_the_reviewed_cases() {
    run("explain");
}

#[test]
fn probe_output_matches_the_reviewed_cases() {
    run("probe");
}

#[test]
fn query_output_matches_the_reviewed_cases() {
    run("query");
}

#[test]
fn relay_output_matches_the_reviewed_cases() {
    run("relay");
}

#[test]
fn serve_errors_match_the_reviewed_cases() {
    run("serve");
}

#[test]
fn server_answers_match_the_reviewed_cases() {
    run("answers");
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn postconf_output_matches_the_reviewed_cases() {
    run("postconf");
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn import_output_matches_the_reviewed_cases() {
    run("import");
}
