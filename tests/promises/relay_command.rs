//! Promise: `postmapd relay` does what docker-mailserver's `setup.sh relay` does, without its defects: the rest of a
//! file stays unchanged, no edit is lost, no password is shown, and nothing is written that the server would reject.
//!
//! The cases in tests/cases/relay have what each edit prints and writes.

mod files;
mod prompt;
mod wait;

use crate::harness::client::Socketmap;
use crate::harness::daemon::{CREDENTIALS, Daemon, Finished, Setup};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;

pub(super) fn relay(setup: &Setup, line: &str) -> Finished {
    setup.run_line(&format!("relay {line}"))
}

/// Runs it. Fails where it does not succeed and print this line. Returns standard error.
#[track_caller]
pub(super) fn done(setup: &Setup, words: &str, line: &str) -> String {
    let ran = relay(setup, words).exits(0);
    assert_eq!(ran.stdout, format!("{line}\n"), "{}", ran.stderr);
    ran.stderr
}

/// Runs it. Fails where it succeeds. Returns standard error.
#[track_caller]
pub(super) fn refused(setup: &Setup, words: &str) -> String {
    let before = all(setup);
    let ran = relay(setup, words).exits(1);
    assert_eq!((ran.stdout.as_str(), all(setup)), ("", before), "{words}");
    assert!(!ran.stderr.is_empty(), "{words}");
    ran.stderr
}

/// Every name in the directory with its content.
pub(super) fn all(setup: &Setup) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<_> = fs::read_dir(setup.dir())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read(path).unwrap())
        })
        .collect();
    all.sort();
    all
}

pub(super) fn text(setup: &Setup, name: &str) -> String {
    fs::read_to_string(setup.dir().join(name)).unwrap()
}

pub(super) fn answer(setup: &Setup, map: &str, key: &str) -> String {
    let ran = setup.run_query(&[map, key]);
    let answer = ran.stdout.strip_suffix('\n').unwrap_or("").to_owned();
    assert!(
        matches!((ran.code, answer.is_empty()), (Some(0), false) | (Some(1), true)),
        "{map} {key}: {ran:?}"
    );
    answer
}

#[test]
fn removing_the_last_entry_takes_effect_at_once() {
    let daemon = Daemon::start(Setup::new().relaymap("@one.test [a]\n"));
    let mut client = Socketmap::to(&daemon, 0);
    let setup = daemon.setup();
    done(&setup, "remove-domain one.test", "@one.test: delivered directly");
    // An empty file would only take effect after five seconds.
    let took = client.eventually_finds("relayhost", "x@one.test", "");
    assert!(took.as_secs() < 3, "{took:?}");
}

#[track_caller]
fn round_trip(setup: &Setup, password: &[u8], by_argument: bool) {
    let ran = if by_argument {
        let words = [&b"add-auth"[..], b"one.test", b"user", b"--", password];
        setup.run("relay", &words.map(OsStr::from_bytes))
    } else {
        setup.run_with(
            "relay",
            &["add-auth", "one.test", "user", "--password-stdin"],
            [password, b"\n"].concat(),
        )
    };
    assert_eq!(
        ran.code,
        Some(0),
        "{:?}: {}",
        password.escape_ascii().to_string(),
        ran.stderr
    );
    let expected = [b"user:", password, b"\n"].concat();
    let output = setup
        .command("query")
        .args(["--next-hops", "main.cf", "sasl", "x@one.test"])
        .output()
        .unwrap();
    assert_eq!(
        output.stdout.escape_ascii().to_string(),
        expected.escape_ascii().to_string()
    );
    assert_eq!(
        text_bytes(setup),
        [b"# first\n@one.test user:", password, b"\n@z.test a:b\n"].concat()
    );
}

fn text_bytes(setup: &Setup) -> Vec<u8> {
    fs::read(setup.dir().join(CREDENTIALS)).unwrap()
}

#[test]
#[ignore = "takes long: tests/run-all"]
fn any_password_that_fits_a_line_is_stored_unchanged() {
    let setup = Setup::new().credentials("# first\n@one.test old:old\n@z.test a:b\n");
    // One password a line, followed by those with whitespace and marks around them.
    let passwords = "\\1\n\\n\na\\\n\\\\\n&\na/b&c\n#\n# no comment\na # b\n:\na:b:\na b  c\na\tb\n\"\n'\n$(x)`y`\n%s%n\n-x\n\
                     --secret\n-\n[r]:25\n@one.test\npässwörd\n密码 🔑\n=";
    for password in passwords.lines().chain(["x\u{feff}", "\u{a0}nbsp\u{a0}"]) {
        for by_argument in [false, true] {
            round_trip(&setup, password.as_bytes(), by_argument);
        }
    }
    round_trip(&setup, b"latin \xFC\xFF", false);
    round_trip(&setup, &vec![b'x'; 60_000], true);
    let printable = prop::collection::vec(prop_oneof![3 => 0x20..0x7f_u8, 1 => 0x80..=0xff_u8], 1..40);
    let inner = |password: &Vec<u8>| password.first() != Some(&b' ') && password.last() != Some(&b' ');
    let mut runner = TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(60)
    });
    runner
        .run(
            &(printable.prop_filter("spaces around it", inner), any::<bool>()),
            |(password, by_argument)| {
                round_trip(&setup, &password, by_argument);
                Ok(())
            },
        )
        .unwrap();
}
