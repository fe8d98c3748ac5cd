//! Promise: `postmapd relay` does what docker-mailserver's `setup.sh relay` does, without its defects: nothing else of
//! a file changes, no edit is lost, no password is seen, and what the server would refuse is never written.

mod files;
mod prompt;

use crate::harness::client::{Reply, Socketmap};
use crate::harness::daemon::{CREDENTIALS, Daemon, Finished, RELAYMAP, Setup};
use crate::harness::{eventually, names_place};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;

pub(super) fn relay<S: AsRef<OsStr>>(setup: &Setup, args: &[S]) -> Finished {
    setup.run("relay", args)
}

/// Runs it, and fails where it does not end well; returns standard error.
#[track_caller]
pub(super) fn done<S: AsRef<OsStr>>(setup: &Setup, args: &[S], line: &str) -> String {
    let ran = relay(setup, args);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(0), &*format!("{line}\n")),
        "{}",
        ran.stderr
    );
    ran.stderr
}

/// Runs it, and fails where it is not refused; returns standard error.
#[track_caller]
pub(super) fn refused<S: AsRef<OsStr> + std::fmt::Debug>(setup: &Setup, args: &[S]) -> String {
    let before = all(setup);
    let ran = relay(setup, args);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(1), ""),
        "{args:?}: {}",
        ran.stderr
    );
    assert_eq!(all(setup), before, "{args:?}");
    assert!(!ran.stderr.is_empty(), "{args:?}");
    ran.stderr
}

/// Every name in the folder, and what stands there.
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
    let ran = setup.query(&[map, key]);
    let answer = ran.stdout.strip_suffix('\n').unwrap_or("").to_owned();
    assert!(
        matches!((ran.code, answer.is_empty()), (Some(0), false) | (Some(1), true)),
        "{map} {key}: {ran:?}"
    );
    answer
}

#[test]
fn the_cases_of_docker_mailservers_own_tests_come_out_as_there() {
    let setup = Setup::new();
    for (args, file, line, key, expected) in [
        // B12 to B14
        (
            &["add-domain", "example1.org", "smtp.relay1.com", "2525"][..],
            RELAYMAP,
            "@example1.org [smtp.relay1.com]:2525",
            "x@example1.org",
            "[smtp.relay1.com]:2525",
        ),
        (
            &["add-domain", "example2.org", "smtp.relay2.com"],
            RELAYMAP,
            "@example2.org [smtp.relay2.com]:25",
            "x@example2.org",
            "[smtp.relay2.com]:25",
        ),
        (
            &["add-domain", "example3.org", "smtp.relay3.com", "2525"],
            RELAYMAP,
            "@example3.org [smtp.relay3.com]:2525",
            "x@example3.org",
            "[smtp.relay3.com]:2525",
        ),
        (
            &["add-domain", "example3.org", "smtp.relay.com", "587"],
            RELAYMAP,
            "@example3.org [smtp.relay.com]:587",
            "x@example3.org",
            "[smtp.relay.com]:587",
        ),
        // B15 and B16
        (
            &["add-auth", "example1.org", "smtp_user", "smtp_pass"],
            CREDENTIALS,
            "@example1.org smtp_user:smtp_pass",
            "x@example1.org",
            "smtp_user:smtp_pass",
        ),
        (
            &["add-auth", "example2.org", "smtp_user2", "smtp_pass2"],
            CREDENTIALS,
            "@example2.org smtp_user2:smtp_pass2",
            "x@example2.org",
            "smtp_user2:smtp_pass2",
        ),
        (
            &["add-auth", "example2.org", "smtp_user2", "smtp_pass_new"],
            CREDENTIALS,
            "@example2.org smtp_user2:smtp_pass_new",
            "x@example2.org",
            "smtp_user2:smtp_pass_new",
        ),
        // B17
        (
            &["exclude-domain", "example.org"],
            RELAYMAP,
            "@example.org",
            "x@example.org",
            "",
        ),
    ] {
        for _twice in 0..2 {
            let ran = relay(&setup, args);
            assert_eq!(ran.code, Some(0), "{args:?}: {}", ran.stderr);
            let (domain, _) = line.split_once(' ').unwrap_or((line, ""));
            let text = text(&setup, file);
            let lines: Vec<_> = text.lines().filter(|line| line.starts_with(domain)).collect();
            assert_eq!(lines, [line], "{args:?}");
        }
        let map = if file == RELAYMAP { "relayhost" } else { "sasl" };
        assert_eq!(answer(&setup, map, key), expected, "{args:?}");
    }
}

#[test]
fn nothing_but_the_entry_changes_and_twice_is_as_once() {
    let before =
        "\u{feff}# relays, by hand\r\n\r\n@One.Test\t\t[old.test]:25  # why\r\n  @two.test [x]\r\n\t# end";
    let setup = Setup::new().relaymap(before);
    done(
        &setup,
        &["add-domain", "one.TEST", "new.test", "587"],
        "@one.TEST: [new.test]:587 without credentials",
    );
    let changed = before.replace("[old.test]:25", "[new.test]:587");
    assert_eq!(text(&setup, RELAYMAP), changed);
    done(
        &setup,
        &["exclude-domain", "three.test"],
        "@three.test: delivered directly",
    );
    let added = changed + "\r\n@three.test\r\n";
    assert_eq!(text(&setup, RELAYMAP), added);
    let stamp = || {
        use std::os::unix::fs::MetadataExt as _;
        let metadata = fs::metadata(setup.dir().join(RELAYMAP)).unwrap();
        (metadata.ino(), metadata.ctime_nsec(), metadata.mtime_nsec())
    };
    let unchanged = stamp();
    for args in [
        &["add-domain", "@ONE.test", "[new.test]:587"][..],
        &["exclude-domain", "THREE.test"],
    ] {
        assert_eq!(relay(&setup, args).code, Some(0), "{args:?}");
    }
    assert_eq!((text(&setup, RELAYMAP), stamp()), (added, unchanged));
}

#[test]
fn what_is_removed_is_gone_and_what_is_not_there_is_exit_code_1() {
    let setup = Setup::new()
        .relaymap("@one.test [a]\n# keep\n@ONE.test [b]\n@two.test\n")
        .credentials("[a]:25 u:p\na u:p\n@one.test u:p\nx@one.test u:p\n");
    done(
        &setup,
        &["remove-domain", "one.test"],
        "@one.test: delivered directly",
    );
    assert_eq!(text(&setup, RELAYMAP), "# keep\n@two.test\n");
    for args in [
        &["remove-domain", "one.test"][..],
        &["remove-domain", "x@two.test"],
        &["remove-auth", "two.test"],
        &["remove-auth", "[b]:25"],
    ] {
        assert!(refused(&setup, args).contains("no entry for"), "{args:?}");
    }
    let hint = refused(&setup, &["remove-auth", "a"]);
    assert!(hint.contains("--next-hop"), "{hint}");
    for args in [
        &["remove-auth", "--next-hop", "A"][..],
        &["remove-auth", "[A]:25"],
        &["remove-auth", "X@one.test"],
        &["remove-auth", "one.test"],
    ] {
        assert_eq!(relay(&setup, args).code, Some(0), "{args:?}");
    }
    assert_eq!(text(&setup, CREDENTIALS), "\n");
    assert!(refused(&Setup::new(), &["remove-auth", "one.test"]).contains(CREDENTIALS));
}

#[test]
fn a_server_believes_at_once_that_the_last_entry_is_gone() {
    let daemon = Daemon::start(Setup::new().relaymap("@one.test [a]\n"));
    let mut client = Socketmap::to(&daemon, 0);
    let setup = daemon.setup();
    done(
        &setup,
        &["remove-domain", "one.test"],
        "@one.test: delivered directly",
    );
    // An empty file would not be believed for five seconds.
    let took = eventually(
        || client.ask("relayhost", "x@one.test"),
        |reply| *reply == Reply::NotFound,
    );
    assert!(took.as_secs() < 3, "{took:?}");
}

#[test]
fn every_key_that_the_files_may_have_can_be_set_and_removed() {
    let setup = Setup::new();
    for key in [
        "<>",
        "x@one.test",
        "\"john doe\"@one.test",
        "\"a@b\"@one.test",
        "@münchen.test",
        "x@[192.0.2.1]",
    ] {
        assert_eq!(
            relay(&setup, &["add-domain", key, "2001:db8::1", "submission"]).code,
            Some(0)
        );
        assert_eq!(
            answer(&setup, "relayhost", key),
            "[2001:db8::1]:submission",
            "{key}"
        );
        assert_eq!(relay(&setup, &["exclude-domain", key]).code, Some(0), "{key}");
        assert_eq!(relay(&setup, &["remove-domain", key]).code, Some(0), "{key}");
        assert_eq!(text(&setup, RELAYMAP), "\n", "{key}");
    }
    for (key, flag, written) in [
        ("one.test", None, "@one.test"),
        ("[r.test]:587", None, "[r.test]:587"),
        ("r.test:587", None, "r.test:587"),
        ("r.test", Some("--next-hop"), "r.test"),
        ("\"a b\"@one.test", None, "\"a b\"@one.test"),
    ] {
        let args: Vec<_> = ["add-auth", key, "u", "p"].into_iter().chain(flag).collect();
        assert_eq!(relay(&setup, &args).code, Some(0), "{key}");
        assert_eq!(text(&setup, CREDENTIALS).trim_start(), format!("{written} u:p\n"));
        let args: Vec<_> = ["remove-auth", key].into_iter().chain(flag).collect();
        assert_eq!(relay(&setup, &args).code, Some(0), "{key}");
    }
}

#[test]
fn what_cannot_be_is_refused_with_its_reason_and_nothing_is_written() {
    let setup = Setup::new();
    for (args, reason) in [
        (&["add-domain", "", "r.test"][..], "empty"),
        (&["add-domain", "@", "r.test"], "empty"),
        (&["exclude-domain", ""], "empty"),
        (&["exclude-domain", "@"], "empty"),
        (&["add-auth", "", "u", "CANARY"], "empty"),
        (&["add-domain", "@@one.test", "r.test"], "two @"),
        (&["add-domain", "*.one.test", "r.test"], "wildcards"),
        (&["add-domain", "@*", "r.test"], "wildcards"),
        (
            &["add-domain", "one.test\u{a0}", "r.test"],
            "U+00A0 (no-break space)",
        ),
        (
            &["add-domain", "@one.test\u{200b}", "r.test"],
            "U+200B (zero width space)",
        ),
        (&["add-domain", "@a.test,@b.test", "r.test"], "`,`"),
        (&["add-domain", "mailto:u@one.test", "r.test"], "quote"),
        (&["add-domain", "'u@one.test'", "r.test"], "quotes"),
        (&["add-domain", "@one.test:[r.test]:587", "r.test"], "`:`"),
        (&["add-domain", "one.test", "https://smtp.test", "587"], "URL"),
        (&["add-domain", "one.test", "smtp:[r.test]:587"], "transport"),
        (&["add-auth", "one.test\u{a0}", "u", "CANARY"], "U+00A0"),
        (&["add-auth", "@@one.test", "u", "CANARY"], "two @"),
        (&["add-domain", "one..test", "r.test"], "no domain"),
        (&["add-domain", "one.test\n@two.test", "r.test"], "line end"),
        (&["add-domain", "one test", "r.test"], "no domain"),
        (&["add-domain", "john doe@one.test", "r.test"], "quote"),
        (&["add-domain", "[r.test]:25", "one.test"], "next hop"),
        (&["add-domain", "one.test", ""], "no relay"),
        (&["add-domain", "one.test", "[r.test"], "bracket"),
        (&["add-domain", "one.test", "r.test", "text"], "port"),
        (&["add-domain", "one.test", "r.test", "0"], "port"),
        (&["add-domain", "one.test", "r.test", "65536"], "port"),
        (&["add-domain", "one.test", "r.test:587", "25"], "port already"),
        (&["add-domain", "one.test", "dunno"], "exclude-domain"),
        (&["add-domain", "one.test", "a,b"], "no relay"),
        (&["add-auth", "one.test", "", "CANARY"], "user is empty"),
        (&["add-auth", "one.test", "a:b", "CANARY"], "`:`"),
        (&["add-auth", "one.test", "a\nb", "CANARY"], "line end"),
        (&["add-auth", "one.test", " a", "CANARY"], "blank"),
        (&["add-auth", "one.test", "u", ""], "password is empty"),
        (
            &["add-auth", "one.test", "u", "CANARY\n@two.test x:y"],
            "line end",
        ),
        (&["add-auth", "one.test", "u", "CANARY\x01"], "control"),
        (&["add-auth", "one.test", "u", "CANARY\x7f"], "control"),
        (&["add-auth", "one.test", "u", "CANARY "], "blank"),
        (&["add-auth", "one.test", "u", "\tCANARY"], "blank"),
        (&["add-auth", "one.test", "u", "--CANARY"], "misspelt"),
        (&["add-auth", "<>", "u", "CANARY"], "null sender"),
        (&["add-auth", "[r.test]:0", "u", "CANARY"], "port"),
        (&["add-auth", "[a],[b]", "u", "CANARY"], "each by itself"),
        (&["add-auth", "one.test", "u", &"CANARY".repeat(11_000)], "longer"),
    ] {
        let stderr = refused(&setup, args);
        assert!(
            stderr.contains(reason) && stderr.contains("nothing was written"),
            "{args:?}: {stderr}"
        );
        assert!(!stderr.contains("CANARY"), "{args:?}: {stderr}");
    }
    assert!(all(&setup).is_empty());
}

#[test]
fn words_that_cannot_be_understood_are_not_repeated_where_one_may_be_a_password() {
    let setup = Setup::new();
    for args in [
        &["add-auth", "one.test", "u", "pass", "CANARY"][..],
        &["add-auth", "one.test", "u", "CANARY", "--CANARY"],
        &["add-auth", "one.test", "--CANARY=x", "CANARY"],
        &["add-auth", "one.test", "u", "CANARY", "--password-stdin"],
        &["add-auth", "one.test", "u", "CANARY", "--next-hop=CANARY"],
        &["add-auth", "one.test"],
        &["add-auth"],
        &["add-domain", "one.test"],
        &["add-domain"],
        &["exclude-domain"],
        &["list", "--format", "yaml"],
        &["nosuch"],
        &[],
    ] {
        let ran = relay(&setup, args);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{args:?}");
        assert!(
            !ran.stderr.is_empty() && !ran.stderr.contains("CANARY"),
            "{args:?}: {}",
            ran.stderr
        );
    }
    assert!(all(&setup).is_empty());
    let help = relay(&setup, &["add-auth", "--help"]);
    assert!(
        help.code == Some(0) && help.stdout.contains("list of processes"),
        "{help:?}"
    );
}

#[track_caller]
fn round_trip(setup: &Setup, password: &[u8], by_argument: bool) {
    let ran = if by_argument {
        let words = [&b"add-auth"[..], b"one.test", b"user", b"--", password];
        relay(setup, &words.map(OsStr::from_bytes))
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
fn standard_input_is_read_as_a_secret_file_is() {
    for (input, warns) in [
        ("pw", false),
        ("pw\n", false),
        ("pw\r\n", false),
        ("pw\r", false),
        ("\u{feff}pw\r\n", true),
    ] {
        let setup = Setup::new();
        let ran = setup.run_with(
            "relay",
            &["add-auth", "one.test", "user", "--password-stdin"],
            input.as_bytes(),
        );
        assert_eq!(ran.code, Some(0), "{input:?}: {}", ran.stderr);
        assert_eq!(text_bytes(&setup), b"@one.test user:pw\n", "{input:?}");
        assert_eq!(ran.stderr.contains("byte order mark"), warns, "{}", ran.stderr);
        let file = Setup::new().file("secret", input);
        let file = file.env("RELAY_HOST", "r.test").env("RELAY_USER", "user");
        let path = file.dir().join("secret");
        let file = file.env("RELAY_PASSWORD_FILE", path);
        let asked = file.query(&["sasl", "[r.test]:25"]);
        assert_eq!(asked.stdout, "user:pw\n", "{input:?}: {}", asked.stderr);
        let checked = file.run("check", &[""; 0]);
        assert_eq!(
            checked.stdout.contains("[byte-order-mark]"),
            warns,
            "{}",
            checked.stdout
        );
    }
}

#[test]
#[ignore = "takes long: tests/run-all"]
fn any_password_that_a_line_can_hold_comes_back_as_it_was() {
    let setup = Setup::new().credentials("# first\n@one.test old:old\n@z.test a:b\n");
    for password in [
        r"\1",
        r"\n",
        r"a\",
        r"\\",
        "&",
        "a/b&c",
        "#",
        "# no comment",
        "a # b",
        ":",
        "a:b:",
        "a b  c",
        "a\tb",
        "\"",
        "'",
        "$(x)`y`",
        "%s%n",
        "-x",
        "--secret",
        "-",
        "[r]:25",
        "@one.test",
        "pässwörd",
        "密码 🔑",
        "=",
        "x\u{feff}",
        "\u{a0}nbsp\u{a0}",
    ] {
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
            &(printable.prop_filter("blanks around it", inner), any::<bool>()),
            |(password, by_argument)| {
                round_trip(&setup, &password, by_argument);
                Ok(())
            },
        )
        .unwrap();
}

#[test]
fn standard_input_gives_one_line_and_no_more() {
    let setup = Setup::new();
    let give =
        |input: &[u8]| setup.run_with("relay", &["add-auth", "one.test", "u", "--password-stdin"], input);
    for input in ["secret", "secret\n", "secret\r\n"] {
        assert_eq!(give(input.as_bytes()).code, Some(0), "{input:?}");
        assert_eq!(text(&setup, CREDENTIALS), "@one.test u:secret\n");
    }
    let before = all(&setup);
    for input in [
        &b""[..],
        b"\n",
        b"CANARY\nsecond",
        b"CANARY\n\n",
        b"CANARY \n",
        b"CAN\0ARY",
        b"CANARY\r\r\n",
    ] {
        let ran = give(input);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{input:?}");
        assert!(!ran.stderr.contains("CAN"), "{}", ran.stderr);
    }
    assert_eq!(give(&vec![b'x'; 1 << 20]).code, Some(1));
    assert_eq!(all(&setup), before);
}

#[test]
fn a_file_that_the_server_would_refuse_is_never_written_and_one_that_the_edit_mends_is() {
    let setup = Setup::new()
        .relaymap("@one.test [a]\n@bad.test [broken\n")
        .credentials("@one.test nocolonCANARY\n");
    for args in [
        &["add-domain", "two.test", "r.test"][..],
        &["add-domain", "one.test", "r.test"],
        &["exclude-domain", "one.test"],
        &["remove-domain", "one.test"],
    ] {
        let stderr = refused(&setup, args);
        assert!(
            names_place(&stderr, RELAYMAP, 2) && stderr.contains("not written"),
            "{stderr}"
        );
    }
    let stderr = refused(&setup, &["add-auth", "two.test", "u", "p"]);
    assert!(names_place(&stderr, CREDENTIALS, 1), "{stderr}");
    // The other file has an error still, and that is said: a running server goes on with what it had.
    let ran = relay(&setup, &["add-domain", "bad.test", "r.test"]).exits(0);
    assert_eq!(text(&setup, RELAYMAP), "@one.test [a]\n@bad.test [r.test]:25\n");
    assert!(
        names_place(&ran.stderr, CREDENTIALS, 1) && ran.stderr.contains("running server"),
        "{}",
        ran.stderr
    );
    done(&setup, &["add-auth", "one.test", "u", "p"], "@one.test: [a] as u");
    assert_eq!(text(&setup, CREDENTIALS), "@one.test u:p\n");
    let bad = Setup::new().relaymap("@one.test\0 [a]\n@bad.test [a\n");
    assert!(names_place(
        &refused(&bad, &["remove-domain", "bad.test"]),
        RELAYMAP,
        1
    ));
}

#[track_caller]
fn warned(setup: &Setup, args: &[&str], line: &str, warning: &str) {
    let stderr = done(setup, args, line);
    // Of the password among the arguments, which is another test's.
    let lines = stderr
        .lines()
        .filter(|line| !line.contains("was on the command line"));
    let stderr = lines.collect::<Vec<_>>().join("\n");
    assert_eq!(stderr.is_empty(), warning.is_empty(), "{args:?}: {stderr}");
    assert!(
        stderr.contains(warning) && !stderr.contains("CANARY"),
        "{args:?}: {stderr}"
    );
}

#[test]
fn one_line_says_what_holds_and_warnings_say_what_matters() {
    let setup = Setup::new();
    let warned = |args: &[&str], line: &str, warning: &str| warned(&setup, args, line, warning);
    warned(
        &["add-auth", "domain1.com", "relay_user_1", "CANARY"],
        "@domain1.com: no next hop is known here",
        "next_hops = \"main.cf\"",
    );
    warned(
        &["add-domain", "domain1.com", "relay1.org", "587"],
        "@domain1.com: [relay1.org]:587 as relay_user_1",
        "",
    );
    warned(
        &["add-domain", "boss@domain1.com", "relay9.org"],
        "boss@domain1.com: [relay9.org]:25 as relay_user_1",
        "",
    );
    warned(
        &["add-domain", "domain2.com", "relay2.org"],
        "@domain2.com: [relay2.org]:25 without credentials",
        "add-auth @domain2.com",
    );
    warned(
        &["add-auth", "[relay2.org]:25", "hop", "CANARY"],
        "[relay2.org]:25: mail by it is sent as hop",
        "",
    );
    warned(
        &["add-domain", "domain2.com", "relay2.org"],
        "@domain2.com: [relay2.org]:25 as hop",
        "",
    );
    for port in ["465", "smtps", "submissions"] {
        warned(
            &["add-domain", "domain1.com", "relay1.org", port],
            &format!("@domain1.com: [relay1.org]:{port} as relay_user_1"),
            "smtp_tls_wrappermode",
        );
    }
    warned(
        &["add-auth", "domain4.com", "u", "CANARY"],
        "@domain4.com: delivered directly",
        "no next hop",
    );
    warned(
        &["exclude-domain", "domain1.com"],
        "@domain1.com: delivered directly",
        "remove-auth @domain1.com",
    );
    warned(
        &["exclude-domain", "domain5.com"],
        "@domain5.com: delivered directly",
        "",
    );
}

#[test]
fn of_a_next_hop_the_line_says_whose_credentials_its_mail_gets() {
    let setup = Setup::new().relaymap("@domain2.com [relay2.org]:25\n");
    let warned = |args: &[&str], line: &str, warning: &str| warned(&setup, args, line, warning);
    warned(
        &["add-auth", "relay2.org", "host", "CANARY", "--next-hop"],
        "relay2.org: mail by it is sent as host",
        "",
    );
    warned(
        &["add-auth", "[relay2.org]:25", "hop2", "CANARY"],
        "[relay2.org]:25: mail by it is sent as host",
        "remove-auth --next-hop relay2.org",
    );
    warned(
        &["remove-auth", "relay2.org", "--next-hop"],
        "relay2.org: no credentials, except those that a sender has",
        "",
    );
    warned(
        &["add-auth", "[relay7.org]:25", "u", "CANARY"],
        "[relay7.org]:25: mail by it is sent as u",
        "not used",
    );
    warned(
        &["remove-auth", "[relay7.org]:25"],
        "[relay7.org]:25: no credentials, except those that a sender has",
        "",
    );
    let with_default = setup.clone().env("DEFAULT_RELAY_HOST", "[relay7.org]:25");
    done(
        &with_default,
        &["add-auth", "[relay7.org]:25", "u", "CANARY"],
        "[relay7.org]:25: mail by it is sent as u",
    );
}

#[test]
fn the_environment_counts_for_what_holds_as_it_does_for_the_server() {
    let setup = Setup::new()
        .relaymap("@domain1.com\n@domain2.com [relay2.org]:25\n")
        .credentials("@domain1.com relay_user_1:CANARY\n");
    let with_default = setup
        .clone()
        .env("RELAY_HOST", "default.test")
        .env("RELAY_USER", "default")
        .env("RELAY_PASSWORD", "CANARY");
    done(
        &with_default,
        &["remove-domain", "domain2.com"],
        "@domain2.com: [default.test]:25 as default",
    );
    done(
        &with_default,
        &["exclude-domain", "domain2.com"],
        "@domain2.com: delivered directly",
    );
    done(
        &with_default,
        &["remove-domain", "domain1.com"],
        "@domain1.com: [default.test]:25 as relay_user_1",
    );
    // A wrong one does not keep anybody from an edit, and is said.
    let wrong = setup.clone().env("RELAY_HOST", "a b");
    let ran = relay(&wrong, &["remove-domain", "domain2.com"]);
    assert!(
        ran.code == Some(0) && ran.stderr.contains("RELAY_HOST"),
        "{ran:?}"
    );
}

#[test]
fn the_list_has_every_sender_its_next_hop_and_its_user_and_no_password() {
    let setup = Setup::new()
        .relaymap(
            "# c\n@domain1.com [relay1.org]:587\nboss@domain1.com [relay9.org]:587, [relay8.org]\n@domain3.com\n\
             @Domain1.com [duplicate]\n<> [relay1.org]:587\n\"j d\"@domain3.com dunno\n",
        )
        .credentials(
            "@domain1.com relay_user_1:CANARY\n[relay1.org]:587 hop:CANARY\nx@domain1.com \"q\\é:CANARY\n\
             boss@domain1.com\nx@domain3.com u:CANARY\n@other.com u:CANARY\n",
        );
    let json = relay(&setup, &["list", "--format", "json"]);
    assert_eq!((json.code, json.stderr.as_str()), (Some(0), ""));
    let rows = json.json();
    let row = |sender: &str, nexthop: Option<&str>, user: Option<&str>, excluded: bool| serde_json::json!({"sender": sender, "nexthop": nexthop, "user": user, "excluded": excluded});
    let unused = |sender: &str, excluded: bool, why: &str| serde_json::json!({"sender": sender, "nexthop": null, "user": "u", "excluded": excluded, "unused": why});
    assert_eq!(
        rows,
        serde_json::Value::Array(vec![
            row(
                "@domain1.com",
                Some("[relay1.org]:587"),
                Some("relay_user_1"),
                false
            ),
            row(
                "boss@domain1.com",
                Some("[relay9.org]:587, [relay8.org]"),
                None,
                false
            ),
            row("@domain3.com", None, None, true),
            row("<>", Some("[relay1.org]:587"), Some("hop"), false),
            row("\"j d\"@domain3.com", None, None, true),
            row("x@domain1.com", Some("[relay1.org]:587"), Some("\"q\\é"), false),
            unused("x@domain3.com", true, "delivered directly"),
            unused("@other.com", false, "no next hop"),
        ])
    );
    let list = relay(&setup, &["list"]);
    assert_eq!(list.code, Some(0));
    assert!(!format!("{list:?}{json:?}").contains("CANARY"));
    let lines: Vec<_> = list.stdout.lines().collect();
    assert_eq!(lines.len(), 9);
    let column = lines[0].find("NEXT HOP").unwrap();
    assert!(
        lines[1][column..].starts_with("[relay1.org]:587  "),
        "{}",
        list.stdout
    );
    assert!(lines[3][column..].starts_with("direct  "), "{}", list.stdout);
    assert!(
        lines[7].ends_with("u (not used: delivered directly)"),
        "{}",
        list.stdout
    );
    assert!(lines[8].ends_with("u (not used: no next hop)"), "{}", list.stdout);
    // Not one entry depends on the default relay but the last, and whose it would be is said.
    assert!(
        list.stderr.contains("environment of this command"),
        "{}",
        list.stderr
    );
    let empty = Setup::new();
    assert_eq!(relay(&empty, &["list"]).stdout, "");
    assert_eq!(relay(&empty, &["list", "--format=json"]).stdout, "[]\n");
}

#[test]
fn a_password_on_the_command_line_is_taken_with_a_warning_and_one_that_is_not_there_without() {
    let setup = Setup::new().relaymap("@one.test [a.test]\n");
    let stderr = done(
        &setup,
        &["add-auth", "one.test", "u", "CANARY"],
        "@one.test: [a.test] as u",
    );
    assert!(
        stderr.contains("on the command line") && stderr.contains("--password-stdin"),
        "{stderr}"
    );
    assert!(!stderr.contains("CANARY"));
    let ran = setup.run_with(
        "relay",
        &["add-auth", "one.test", "u", "--password-stdin"],
        b"other\n",
    );
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
}

#[test]
fn a_login_that_several_relays_would_be_offered_is_marked_in_the_list_and_after_an_edit() {
    let setup = Setup::new()
        .relaymap(
            "@one.test [relay1.test]:587, [relay9.test]:587\n@two.test [smtp1.p.test], [smtp2.p.test]\n",
        )
        .credentials("@one.test u:CANARY\n@two.test v:CANARY\n");
    let list = relay(&setup, &["list"]);
    assert!(
        list.stdout.contains("  u (offered to every relay of the list)\n"),
        "{list:?}"
    );
    assert!(list.stdout.ends_with("  v\n"), "{list:?}");
    let json = relay(&setup, &["list", "--format", "json"]).json();
    assert_eq!(json[0]["warning"], "offered to every relay of the list");
    assert!(json[1].get("warning").is_none() && json[0].get("unused").is_none());
    let ran = setup.run_with(
        "relay",
        &["add-auth", "one.test", "w", "--password-stdin"],
        b"CANARY\n",
    );
    assert!(ran.stderr.contains("every relay of its list"), "{ran:?}");
    // What it says to do is right.
    let by_next_hop = setup
        .clone()
        .credentials("[relay1.test]:587 one:CANARY\n[relay9.test]:587 nine:CANARY\n@two.test v:CANARY\n");
    assert!(!relay(&by_next_hop, &["list"]).stdout.contains("offered"));
    assert_eq!(answer(&setup, "sasl", "[relay1.test]:587"), "one:CANARY");
    assert_eq!(answer(&setup, "sasl", "[relay9.test]:587"), "nine:CANARY");
}

#[test]
fn the_list_says_where_it_cannot_tell() {
    let setup = Setup::new().relaymap("@one.test [a]\n@two.test [b\n");
    let list = relay(&setup, &["list"]);
    assert_eq!(list.code, Some(1));
    assert!(
        list.stdout.contains("@one.test  [a]") && list.stdout.contains("cannot tell"),
        "{list:?}"
    );
    assert!(names_place(&list.stderr, RELAYMAP, 2));
    let json = relay(&setup, &["list", "--format", "json"]);
    let rows = json.json();
    assert_eq!((json.code, rows.as_array().unwrap().len()), (Some(1), 1));
    let missing = Setup::in_folder(&setup.root().join("nowhere"));
    let list = relay(&missing, &["list"]);
    assert!(list.code == Some(1) && list.stderr.contains("--dir"), "{list:?}");
    assert!(
        relay(&missing, &["add-domain", "a.test", "r"])
            .stderr
            .contains("--dir")
    );
}

#[test]
fn the_folder_may_be_named_before_or_behind_the_subcommand_or_by_the_environment() {
    let setup = Setup::new().without_dir_flag();
    let dir = setup.dir().to_str().unwrap().to_owned();
    for (args, key) in [
        (&["--dir", &dir, "exclude-domain", "a.test"][..], "@a.test\n"),
        (&["exclude-domain", "--dir", &dir, "b.test"], "@b.test\n"),
        (&["exclude-domain", "c.test", "--dir", &dir], "@c.test\n"),
    ] {
        assert_eq!(relay(&setup, args).code, Some(0), "{args:?}");
        assert!(text(&setup, RELAYMAP).contains(key));
    }
    let setup = setup.env("POSTMAPD_DIR", &dir);
    assert_eq!(relay(&setup, &["exclude-domain", "d.test"]).code, Some(0));
    assert_eq!(text(&setup, RELAYMAP), "@a.test\n@b.test\n@c.test\n@d.test\n");
}
