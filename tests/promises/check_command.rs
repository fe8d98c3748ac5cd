//! Promise: `postmapd check` reports everything that is wrong, or worth knowing, with its place, why it matters to
//! Postfix and how to fix it, and never a password. Its errors are exactly those of the server.
//!
//! The cases in tests/cases/check have its output for invalid files.

use crate::harness::daemon::{CREDENTIALS, Daemon, RELAYMAP, SETTINGS, Setup, finish};
use postmapd::diagnostics::Code;
use proptest::prelude::*;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// Makes the credentials readable only by their owner, as they should be.
fn with_private_credentials(setup: Setup) -> Setup {
    let path = setup.dir().join(CREDENTIALS);
    if path.exists() {
        fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
    }
    setup
}

/// A finding as `severity code place`; a place in the directory is relative to it.
fn summary(setup: &Setup, finding: &Value) -> String {
    let mut place = match (&finding["file"], finding.get("setting")) {
        (Value::String(file), None) => inside(setup, file),
        (Value::Null, Some(Value::String(setting))) => setting.clone(),
        other => panic!("neither a file nor a setting: {other:?}"),
    };
    for part in ["line", "column"] {
        if let Some(number) = finding[part].as_u64() {
            write!(place, ":{number}").unwrap();
        }
    }
    let word = |field: &str| finding[field].as_str().unwrap().to_owned();
    format!("{} {} {place}", word("severity"), word("code"))
}

/// A path in the directory, or next to it, without what precedes it.
fn inside(setup: &Setup, path: &str) -> String {
    [setup.dir(), setup.root()]
        .iter()
        .find_map(|directory| Path::new(path).strip_prefix(directory).ok())
        .map_or_else(|| path.to_owned(), |rest| rest.display().to_string())
}

fn summaries(setup: &Setup, words: &str) -> Vec<String> {
    let report = setup.run_line(&format!("check --format json {words}")).json();
    let findings = report["findings"].as_array().unwrap();
    findings.iter().map(|finding| summary(setup, finding)).collect()
}

/// The paragraph of the text about this finding.
fn paragraph<'a>(setup: &Setup, text: &'a str, finding: &str) -> &'a str {
    let mut words = finding.splitn(3, ' ');
    let mut word = || words.next().unwrap();
    let (severity, code, place) = (word(), word(), word());
    let heading = format!(": {severity}[{code}]: ");
    let is_meant = |paragraph: &&str| {
        paragraph
            .split_once(&heading)
            .is_some_and(|(before, _)| before == place || inside(setup, before) == place)
    };
    let found = text.split("\n\n").find(is_meant);
    found.unwrap_or_else(|| panic!("nothing about {finding} in:\n{text}"))
}

/// All codes have a case in tests/cases/check, run by `cases::check_output_matches_the_reviewed_cases`.
#[test]
fn every_finding_has_a_place_its_line_a_rationale_and_a_fix() {
    let mut provoked = BTreeSet::new();
    for case in crate::cases::directories("check") {
        let text = fs::read_to_string(case.join("expected")).unwrap();
        for finding in text.split("\n\n") {
            let mut lines = finding.lines().filter(|line| !line.starts_with('$'));
            let heading = lines.find_map(|line| line.split_once("]: "));
            let Some((before, _)) = heading else { continue };
            let Some((place, code)) = before.split_once(": error[").or(before.split_once(": warning["))
            else {
                continue;
            };
            assert!(
                !place.is_empty() && finding.contains(" = note: ") && finding.contains(" = help: "),
                "{}:\n{finding}",
                case.display()
            );
            provoked.insert(code.to_owned());
        }
    }
    let beyond_a_test = [
        // It needs more lines than fit into the memory of a small machine.
        "file-too-large",
        // It needs a race that ends within 100 ms.
        "files-changing",
        // It needs a running server: reload_waits.rs.
        "file-open-for-writing",
        "file-gone",
        // It needs a mount: reload_changes.rs.
        "replaced-under-its-mount",
        // They need Postfix, or a name server: see the next tests.
        "relayhost-in-main-cf",
        "host-without-address",
        // They are about arguments of bench and postconf.
        "bad-argument",
        "no-endpoint",
    ];
    let missed: Vec<_> = codes()
        .into_iter()
        .filter(|code| !provoked.contains(*code) && !beyond_a_test.contains(code))
        .collect();
    assert!(missed.is_empty(), "no case for {missed:?}");
}

#[test]
fn a_host_without_an_address_is_reported_with_its_line() {
    let setup = Setup::new()
        .relaymap("@a.test [127.0.0.1], [nosuch.invalid]:25\n")
        .env("RES_OPTIONS", "timeout:1 attempts:1");
    let finding = "warning host-without-address postfix-relaymap.cf:1:1";
    assert_eq!(summaries(&setup, "--dns"), [finding]);
    let text = setup.run_line("check --dns").stdout;
    let paragraph = paragraph(&setup, &text, finding);
    for part in [
        "\n1 | @a.test [127.0.0.1], [nosuch.invalid]:25\n  | ^\n",
        "= note: ",
        "= help: ",
    ] {
        assert!(paragraph.contains(part), "{text}");
    }
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn relayhost_in_main_cf_beside_a_relay_map_is_a_warning_with_the_command_that_fixes_it() {
    let postfix = tempfile::tempdir().unwrap();
    let main_cf = postfix.path().join("main.cf");
    let directory = postfix.path().to_str().unwrap();
    fs::write(&main_cf, "compatibility_level = 3.6\nrelayhost = [r.test]:25\n").unwrap();
    let findings = |setup: &Setup| summaries(setup, &format!("-c {directory}"));
    let warning = ["warning relayhost-in-main-cf main.cf"];
    let routes = Setup::new().relaymap("@a.test [r.test]\n");
    let by_default = Setup::new().env("DEFAULT_RELAY_HOST", "[r.test]");
    assert_eq!(findings(&routes), warning);
    assert_eq!(findings(&by_default), warning);
    let text = routes.run_line(&format!("check -c {directory}")).stdout;
    assert!(
        text.contains(&format!("= help: postconf -c {directory} -e 'relayhost ='")),
        "{text}"
    );
    // Without a relay map here, relayhost in main.cf is correct.
    let passwords_alone = with_private_credentials(Setup::new().credentials("[r.test]:25 u:p\n"));
    assert_eq!(findings(&passwords_alone), [""; 0]);
    fs::write(&main_cf, "compatibility_level = 3.6\n").unwrap();
    assert_eq!(findings(&routes), [""; 0]);
    fs::remove_file(&main_cf).unwrap();
    assert_eq!(findings(&routes), [""; 0]);
}

/// The codes of findings about files, settings and the environment.
fn codes() -> BTreeSet<&'static str> {
    let codes = Code::ALL.iter().filter(|code| code.rationale().is_some());
    codes.map(|code| code.as_str()).collect()
}

#[test]
fn a_closed_output_ends_check_without_a_message() {
    // This is not a pipe with a closed reading end: a process that another test is just starting holds a copy of every
    // descriptor until its exec(2), and until then the pipe has a reader. Shutting a socket down affects all its
    // descriptors.
    let (reader, writer) = UnixStream::pair().unwrap();
    reader.shutdown(Shutdown::Both).unwrap();
    let ended = Setup::new()
        .relaymap("@a.test [\n".repeat(50))
        .command("check")
        .stdout(OwnedFd::from(writer))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(ended.stderr).unwrap(), "");
    assert_eq!(ended.status.code(), Some(141));
}

/// Files, valid and invalid, for which check and the server must agree.
fn sample_files() -> Vec<(&'static str, Vec<u8>)> {
    let relaymaps = "@b.test [r]\n|@b.test [r\n@c.test [r]:0\n\n@d.test h:x, h\n|@b.test\n@B.test [\n|\"open [r]\n\x01 [r]\n|\
                     \u{feff}@b.test ::1\n  @c.test ::1\n|@b.test [r]\r\n@c.test [r\r\n|@b.test h # [\n@c.test # [\n@d.test [ # h\n|\
                     a\\\n|@b.test a,b,,c d\n@c.test ,\n|\0\n||# nothing\n\n";
    let credentials = "@b.test u:p\n|@b.test u\n@c.test :p\n[r]:587 u:p\n|@b.test\n@b.test u\n|u:p\n\tu:p q\n|\
                       @b.test u:p\x07q\n@c.test u:p\tq\n|\u{feff}\"\n@b.test x|@b.test u:p\r\n@c.test u\r\n";
    let settings =
        "|listen = 1\n|# x\n[reload]\npoll_interval = 0\nempty_grace = 9\n|=\n|socket_mode = \"8\"\nx = 1\n";
    let texts = [
        (RELAYMAP, relaymaps),
        (CREDENTIALS, credentials),
        (SETTINGS, settings),
    ];
    let all = texts
        .iter()
        .flat_map(|(file, texts)| texts.split('|').map(|text| (*file, text.as_bytes().to_vec())));
    all.chain([
        (RELAYMAP, b"\xff@b.test [r\n".to_vec()),
        (CREDENTIALS, b"@b.test u:\xff\n@c.test \xff\n".to_vec()),
        (SETTINGS, b"a = \"\xff\"\n".to_vec()),
    ])
    .collect()
}

/// The errors in these lines of a log, as `file:line:column`.
fn errors_logged(setup: &Setup, log: &str) -> BTreeSet<String> {
    let directory = format!("{}/", setup.dir().display());
    let place = |line: &str| {
        let (before, _) = line.split_once(": error: ")?;
        Some(before[before.find(&directory)? + directory.len()..].to_owned())
    };
    log.lines().filter_map(place).collect()
}

fn errors_checked(setup: &Setup) -> BTreeSet<String> {
    let all = summaries(setup, "");
    let errors = all.iter().filter(|finding| finding.starts_with("error "));
    errors
        .map(|finding| finding.rsplit(' ').next().unwrap().to_owned())
        .collect()
}

#[track_caller]
fn agree_at_startup(setup: &Setup) -> Result<(), TestCaseError> {
    let checked = errors_checked(setup);
    let is_about_settings = checked.iter().any(|place| place.starts_with(SETTINGS));
    let log = if is_about_settings {
        let finished = setup.clone().serve_with("socketmap:inet:127.0.0.1:0");
        prop_assert_eq!(finished.code, Some(78), "{:?}", finished);
        finished.stderr
    } else {
        Daemon::start(setup.clone()).log()
    };
    let mut logged = errors_logged(setup, &log);
    // With invalid settings, it does not read the tables.
    logged.retain(|place| is_about_settings || !place.starts_with(SETTINGS));
    let mut checked = checked;
    checked.retain(|place| !is_about_settings || place.starts_with(SETTINGS));
    prop_assert_eq!(checked, logged);
    Ok(())
}

#[test]
fn check_and_the_server_report_the_same_errors_at_the_same_places() {
    for (file, text) in sample_files() {
        agree_at_startup(&Setup::new().relaymap("@a.test [r]\n").file(file, &text)).unwrap();
    }
}

/// A line of either file, often an invalid one.
fn line() -> impl Strategy<Value = String> {
    let key = "@[ab]\\.test|[ab]@a\\.test|\\[r\\]:587|\"a b\"@a\\.test|\"x|r|<>|\\PC{1,4}";
    let value = "|\\[r\\]:587|\\[r|u:p|u|h:[0-9]{1,6}|[a-z:,\\[\\]# ]{1,9}|\\PC{0,5}";
    (" {0,2}", key, "[ \t]{1,2}", value, "\n|\r\n")
        .prop_map(|(indent, key, space, value, end)| indent + &key + &space + &value + &end)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn check_and_the_server_agree_on_arbitrary_lines(
        relaymap in prop::collection::vec(line(), 0..6), credentials in prop::collection::vec(line(), 0..6),
    ) {
        agree_at_startup(&Setup::new().relaymap(relaymap.concat()).credentials(credentials.concat()))?;
    }
}

#[test]
fn a_reload_accepts_the_files_exactly_if_check_finds_no_error() {
    let (mut taken, mut kept) = (0, 0);
    for (file, text) in sample_files() {
        let daemon = Daemon::start(
            Setup::new()
                .relaymap("@a.test [r]\n")
                .credentials("@a.test u:p\n"),
        );
        let seen = daemon.log_lines();
        daemon.replace(file, &text);
        // This makes the text differ in any case, so that an accepted reload is logged.
        if file == SETTINGS {
            daemon.replace(RELAYMAP, "@a.test [new]\n");
        } else {
            daemon.replace(SETTINGS, "# new\n");
        }
        daemon.hangup();
        let is_kept = |line: &str| line.contains("reload rejected");
        let line =
            daemon.wait_for_log_after(seen, |line| line.contains("loaded generation=") || is_kept(line));
        let has_errors = !errors_checked(&daemon.setup()).is_empty();
        assert_eq!(is_kept(&line), has_errors, "{file} {text:?}: {line}");
        kept += usize::from(has_errors);
        taken += usize::from(!has_errors);
    }
    assert!(taken >= 5 && kept >= 15, "{taken} {kept}");
}

#[test]
fn an_error_after_hundreds_of_warnings_is_shown() {
    let setup = with_private_credentials(
        Setup::new()
            .relaymap("@a.test [r]\n".repeat(500))
            .credentials("@a.test CANARY\n"),
    );
    let text = setup.run_line("check").stdout;
    paragraph(
        &setup,
        &text,
        "error bad-credentials postfix-sasl-password.cf:1:9",
    );
    assert!(text.contains("299 more findings not shown"), "{text}");
    assert_eq!(errors_checked(&setup).len(), 1);
    let log = Daemon::start(setup.clone()).log();
    assert_eq!(errors_logged(&setup, &log), errors_checked(&setup));
}

#[test]
#[ignore = "takes long: tests/run-all"]
fn a_hundred_thousand_findings_are_summarised_quickly() {
    let setups = |lines: usize| {
        let many = |line: &dyn Fn(usize) -> String| (0..lines).map(line).collect::<String>();
        let routes = || many(&|n| format!("u{n}@a.test [r{n}.test]:587\n"));
        let credentials = |line: &dyn Fn(usize) -> String| {
            let setup = Setup::new().relaymap(routes());
            setup.credentials(many(line))
        };
        [
            Setup::new().relaymap(many(&|n| format!("u{n}@a.test [r{n}\n"))),
            Setup::new().relaymap(many(&|_| "@a.test [r]\n".into())),
            Setup::new().relaymap(many(&|n| format!("u{n} [r]:465\n"))),
            credentials(&|n| format!("[r{n}.test]:25 u:CANARY\n")),
            credentials(&|n| format!("host{n}.test u:CANARY\n")),
            credentials(&|n| format!("@d{n}.test u:CANARY\n")),
        ]
        .map(with_private_credentials)
    };
    for (few, many) in setups(10_000).into_iter().zip(setups(100_000)) {
        for format in ["text", "json"] {
            let timed = |setup: &Setup| {
                let begun = Instant::now();
                let finished = setup.run_line(&format!("check --format {format}"));
                (begun.elapsed(), finished)
            };
            let (of_few, _) = timed(&few);
            let (elapsed, finished) = timed(&many);
            // It is ten times as much work. At quadratic cost it would take a hundred times as long.
            assert!(elapsed < 40 * of_few, "{elapsed:?} after {of_few:?}");
            assert!(finished.stdout.len() < 300_000, "{} bytes", finished.stdout.len());
            assert!(!finished.stdout.contains("CANARY"));
        }
    }
}

#[test]
fn credentials_in_a_directory_closed_to_others_are_not_reported_as_readable() {
    let setup = Setup::new()
        .relaymap("@a.test [r.test]:587\n")
        .credentials("@a.test u:p\n");
    assert_eq!(
        summaries(&setup, ""),
        ["warning readable-by-others postfix-sasl-password.cf"]
    );
    for closed in [setup.dir(), setup.root()] {
        fs::set_permissions(closed, PermissionsExt::from_mode(0o750)).unwrap();
        assert_eq!(summaries(&setup, ""), Vec::<String>::new());
        fs::set_permissions(closed, PermissionsExt::from_mode(0o755)).unwrap();
    }
}

#[test]
fn the_example_gives_no_warning() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/example");
    let read = |name| fs::read(example.join(name)).unwrap();
    let examples = with_private_credentials(
        Setup::new()
            .relaymap(read(RELAYMAP))
            .credentials(read(CREDENTIALS)),
    );
    assert_eq!(summaries(&examples, ""), Vec::<String>::new());
}

#[test]
fn only_the_questionable_documented_cases_get_a_warning() {
    let cases: Value = serde_json::from_str(include_str!("../relay-cases.json")).unwrap();
    let mut warned = Vec::new();
    for case in cases.as_array().unwrap() {
        let setup = with_private_credentials(crate::relay_cases::setup(case));
        for finding in summaries(&setup, "") {
            // Every case with RELAY_HOST and without a line for <> has this finding.
            if finding.contains("bounces-without-relay") {
                assert!(!case["env"]["RELAY_HOST"].is_null() && case["env"]["DEFAULT_RELAY_HOST"].is_null());
                continue;
            }
            warned.push(format!("{} {finding}", case["id"].as_str().unwrap()));
        }
    }
    warned.sort();
    // Each of these was reviewed: it is true of Postfix's behaviour.
    assert_eq!(
        warned,
        [
            "D25 warning indented-entry postfix-relaymap.cf:1:1",
            "D26 warning indented-entry postfix-relaymap.cf:2:1",
            "D27 warning indented-entry postfix-relaymap.cf:2:1",
            "D29 warning crlf postfix-relaymap.cf:1:30",
            "D31 warning duplicate-key postfix-relaymap.cf:2:1",
            "D32 warning duplicate-key postfix-relaymap.cf:2:1",
            "D35 warning unverifiable-relay postfix-relaymap.cf:1:1",
            "D46 warning login-for-several-relays postfix-relaymap.cf:1:1",
            "D49 warning domain-without-xn postfix-relaymap.cf:1:1",
            "S09 warning half-credentials RELAY_USER",
            "S28 warning no-such-relay postfix-sasl-password.cf:1:1",
            "S29 warning no-such-relay postfix-sasl-password.cf:1:1",
            "S30 warning no-such-relay postfix-sasl-password.cf:1:1",
            "S31 warning no-credentials postfix-sasl-password.cf:1:13",
            "S33 warning duplicate-key postfix-sasl-password.cf:2:1",
            "S35 warning crlf postfix-sasl-password.cf:1:47",
            "S36 warning excluded-with-credentials postfix-sasl-password.cf:3:1",
            "S37 warning no-next-hops ",
            "S39 warning indented-entry postfix-sasl-password.cf:2:1",
            "S40 warning indented-entry postfix-sasl-password.cf:2:1",
            "S42 warning bare-domain postfix-sasl-password.cf:1:1",
            "S44 warning shared-policy DEFAULT_RELAY_HOST",
        ]
    );
}

/// A password, and a line that has it in a wrong place.
fn line_with_password() -> impl Strategy<Value = String> {
    let key = "@a\\.test|ann@a\\.test|\\[r\\.test\\]:587|r\\.test|@a\\.test\\.|\\*";
    let password = "[=#:!\"\\\\ \\[]{0,2}CANARY[=#:!\"\\\\ ]{0,2}";
    let templates = "KEY USER:PW|USER:PW KEY|USER:PW|PW|KEY PW|PW KEY|# KEY USER:PW|KEY=USER:PW|KEY,PW|KEY:PW|KEY [r.test]:465 # PW|\
                     KEY [r.test]:587 USER:PW|KEY [r.test]:PW|KEY [r.test:PW|KEY USER:PW\x01|\"PW KEY|\tKEY\tUSER:PW|\
                     KEY USER@a.test:PW|USER@a.test:PW KEY|listen = \"PW\"|password = \"PW\"|PW = 1|listen = 1 # PW|\
                     socket_mode = PW|relay_password: PW|[reload] # PW|[PW]|poll_interval = \"PW\"|listen = [\"PW|\
                     listen = \"\"\"\\q\nPW = \\q\"\"\"|[r.test]:587 USER:PW";
    let template = prop::sample::select(templates.split('|').collect::<Vec<_>>());
    (template, key, "u|user1", password).prop_map(|(template, key, user, password)| {
        template
            .replace("KEY", &key)
            .replace("USER", &user)
            .replace("PW", &password)
    })
}

/// Variables that may contain a password, by mistake or on purpose.
const VARIABLES: &str = "RELAYHOST RELAYHOST_PASSWORD RELAY_PASS RELAY_PASWORD SASL_PASSWD RELAY_HOST RELAY_PORT RELAY_USER \
                         RELAY_PASSWORD DEFAULT_RELAY_HOST AWS_SES_HOST AWS_SES_PORT AWS_SES_USERPASS POSTMAPD_PASSWORD \
                         POSTMAPD_LISTEN POSTMAPD_RECIPIENT_DELIMITER POSTMAPD_SOCKET_OWNER POSTMAPD_SOCKET_GROUP \
                         POSTMAPD_SOCKET_MODE POSTMAPD_LOG POSTMAPD_LOG_FORMAT POSTMAPD_LISTN";

#[test]
fn a_password_in_place_of_a_host_is_not_printed() {
    let setup = Setup::new()
        .relaymap("@a.test CANARY\n@b.test CANARY1, h.test\n")
        .credentials("CANARY:25\n[CANARY1]:587\n")
        .env("RELAY_HOST", "CANARY2")
        .env("RES_OPTIONS", "timeout:1 attempts:1");
    for format in ["text", "json"] {
        let finished = setup.run_line(&format!("check --dns --format {format}"));
        let printed = (finished.stdout + &finished.stderr).to_uppercase();
        assert!(printed.contains("NEVER-ASKED") && printed.contains("HOST-WITHOUT-ADDRESS"));
        assert!(!printed.contains("CANARY"), "{printed}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn no_password_is_ever_printed(
        lines in prop::collection::vec((0_usize..3, line_with_password(), "\n|\n\n|\r\n"), 1..9),
        variable in prop::sample::select(VARIABLES.split(' ').collect::<Vec<_>>()), value in line_with_password(),
    ) {
        let mut texts = [String::new(), String::new(), String::new()];
        for (file, line, end) in &lines {
            texts[*file].extend([line.as_str(), end]);
            // The line is repeated, because a duplicate key is another finding.
            texts[*file].extend([line.as_str(), end]);
        }
        let [relaymap, credentials, settings] = texts;
        let setup = Setup::new()
            .relaymap(relaymap)
            .credentials(credentials)
            .settings(settings)
            .env(variable, value.replace(['\0', '\n'], ""));
        for format in ["text", "json"] {
            let finished = setup.run_line(&format!("check --format {format}"));
            let printed = finished.stdout + &finished.stderr;
            prop_assert!(!printed.to_uppercase().contains("CANARY"), "{} {:?}:\n{}", variable, value, printed);
        }
    }
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn colours_are_used_on_terminals_only_and_not_with_no_color() {
    let setup = Setup::new().relaymap("@a.test [r\n");
    let plain = setup.run_line("check").stdout;
    assert!(!plain.contains('\u{1b}'), "{plain:?}");
    let on_terminal = |variables: &[(&str, &str)]| {
        // script(1) of util-linux gives its command a terminal.
        let mut script = Command::new("script");
        script
            .args([
                "--quiet",
                "--return",
                "--command",
                "\"$POSTMAPD\" check --dir \"$DIR\"",
                "/dev/null",
            ])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("TERM", "xterm")
            .env("POSTMAPD", env!("CARGO_BIN_EXE_postmapd"))
            .env("DIR", setup.dir())
            .envs(variables.iter().copied());
        finish(&mut script, b"").exits(1).stdout.replace('\r', "")
    };
    let coloured = on_terminal(&[]);
    assert!(coloured.contains("\u{1b}["), "{coloured:?}");
    assert_eq!(on_terminal(&[("NO_COLOR", "1")]), plain);
}
