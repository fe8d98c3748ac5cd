//! Promise: `postmapd check` says of everything that is wrong, or worth knowing, where it is, what it is, why it
//! matters to Postfix and what to do, and never a password. Its errors are those of the server, no more and no fewer.

use crate::harness::daemon::{CREDENTIALS, Daemon, Finished, RELAYMAP, SETTINGS, Setup, finish};
use postmapd::diagnostic::Code;
use proptest::prelude::*;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

fn check(setup: &Setup, args: &[&str]) -> Finished {
    finish(setup.command("check").args(args), b"")
}

/// The findings for machines.
fn report(setup: &Setup, args: &[&str]) -> Value {
    let finished = check(setup, &[&["--format", "json"], args].concat());
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
}

/// Credentials that nobody else can read, as they should be.
fn private(setup: Setup) -> Setup {
    let path = setup.dir().join(CREDENTIALS);
    if path.exists() {
        fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
    }
    setup
}

/// A finding as `severity code place`; a place within the folder less the folder.
fn in_short(setup: &Setup, finding: &Value) -> String {
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

/// A path within the folder, or beside it, less what is before.
fn inside(setup: &Setup, path: &str) -> String {
    [setup.dir(), setup.root()]
        .iter()
        .find_map(|folder| Path::new(path).strip_prefix(folder).ok())
        .map_or_else(|| path.to_owned(), |rest| rest.display().to_string())
}

fn all_in_short(setup: &Setup, args: &[&str]) -> Vec<String> {
    let report = report(setup, args);
    let findings = report["findings"].as_array().unwrap();
    findings.iter().map(|finding| in_short(setup, finding)).collect()
}

/// Something wrong, all that is to be said about it, and the first of that as it is shown.
struct Case {
    setup: Setup,
    args: Vec<&'static str>,
    findings: Vec<&'static str>,
    /// The line and the caret under it.
    shown: Option<&'static str>,
}

fn case(setup: Setup, findings: &[&'static str], shown: Option<&'static str>) -> Case {
    Case {
        setup: private(setup),
        args: Vec::new(),
        findings: findings.to_vec(),
        shown,
    }
}

fn relaymap(text: &str, findings: &[&'static str], shown: &'static str) -> Case {
    case(Setup::new().relaymap(text), findings, Some(shown))
}

/// Credentials beside a relay map that has a route for `@a.test` and keeps `@direct.test` from relaying.
fn credentials(text: &str, findings: &[&'static str], shown: &'static str) -> Case {
    let setup = Setup::new().relaymap("@a.test [relay.test]:587\n@direct.test\n");
    case(setup.credentials(text), findings, Some(shown))
}

/// So that something routes.
const ROUTE: &str = "@routed.test [relay.test]:587\n";

fn settings(text: &[u8], findings: &[&'static str], shown: &'static str) -> Case {
    case(Setup::new().relaymap(ROUTE).settings(text), findings, Some(shown))
}

fn environment(variables: &[(&str, &[u8])], findings: &[&'static str]) -> Case {
    let set =
        |setup: Setup, (name, value): &(&str, &[u8])| setup.env(name, std::ffi::OsStr::from_bytes(value));
    case(
        variables.iter().fold(Setup::new().relaymap(ROUTE), set),
        findings,
        None,
    )
}

/// A variable of the default relay whose value is in a file.
fn secret_file(variable: &str, content: Option<&str>, more: &[(&str, &str)], finding: &'static str) -> Case {
    let setup = Setup::new().relaymap(ROUTE);
    let path = setup.root().join("secret");
    if let Some(content) = content {
        fs::write(&path, content).unwrap();
    }
    let setup = setup.env(variable, path);
    let set = |setup: Setup, (name, value): &(&str, &str)| setup.env(name, value);
    case(more.iter().fold(setup, set), &[finding], None)
}

/// What is in a file, all that is to be said about it, and the line of the first of that as it is shown, with its caret.
type InFile = (&'static str, &'static [&'static str], &'static str);

const IN_RELAYMAP: &[InFile] = &[
    (
        "@a.test [relay.test:587\n",
        &["error bad-next-hop postfix-relaymap.cf:1:9"],
        "@a.test [relay.test:587\n        ^",
    ),
    (
        "\n@a.test  [relay.test\n",
        &["error bad-next-hop postfix-relaymap.cf:2:10"],
        "@a.test  [relay.test\n         ^",
    ),
    (
        "@a.test [r]:25, h:0 # why\n",
        &["error bad-next-hop postfix-relaymap.cf:1:17"],
        "@a.test [r]:25, h:0 ********\n                ^",
    ),
    (
        "@b.test  two words:x\n",
        &["error bad-next-hop postfix-relaymap.cf:1:14"],
        "@b.test ********\n        ^",
    ),
    (
        "  \"open@a.test [relay.test]\n",
        &["error bad-key postfix-relaymap.cf:1:3"],
        "********\n^",
    ),
    (
        "@a.test [r]\n@b.test [r]\n@A.test [s]\n",
        &["warning duplicate-key postfix-relaymap.cf:3:1"],
        "@A.test [s]\n^",
    ),
    (
        "@a.test [r]\n\t@b.test [r]\n",
        &["warning indented-entry postfix-relaymap.cf:2:1"],
        " @b.test [r]\n^",
    ),
    (
        "a.test [r]\n",
        &["error bad-key postfix-relaymap.cf:1:1"],
        "a.test [r]\n^",
    ),
    (
        "@a.test. [r]\n",
        &["error bad-key postfix-relaymap.cf:1:8"],
        "@a.test. [r]\n       ^",
    ),
    (
        "\"ann\"@\"a test\" [r]\n",
        &["error bad-key postfix-relaymap.cf:1:7"],
        "********\n^",
    ),
    (
        "*@a.test [r]\n",
        &["warning never-asked postfix-relaymap.cf:1:1"],
        "*@a.test [r]\n^",
    ),
    (
        "* [r.test]\n",
        &["error bad-key postfix-relaymap.cf:1:1"],
        "********\n^",
    ),
    (
        "@.a.test [r]\n",
        &["error bad-key postfix-relaymap.cf:1:2"],
        "@.a.test [r]\n ^",
    ),
    (
        "ann@ [r]\n",
        &["error bad-key postfix-relaymap.cf:1:4"],
        "ann@ [r]\n   ^",
    ),
    (
        "ann [r]\n",
        &["error bad-key postfix-relaymap.cf:1:1"],
        "********\n^",
    ),
    (
        "<ann@a.test> [r]\n",
        &["error bad-key postfix-relaymap.cf:1:1"],
        "********\n^",
    ),
    (
        "[relay.test]:587 [r]\n",
        &["error bad-key postfix-relaymap.cf:1:1"],
        "[relay.test]:587 [r]\n^",
    ),
    (
        "@m\u{fc}nchen.test [r]\n",
        &["warning domain-without-xn postfix-relaymap.cf:1:1"],
        "@m\u{fc}nchen.test [r]\n^",
    ),
    (
        "ann@xn--mnchen-3ya.test [r]\n",
        &["warning domain-without-unicode postfix-relaymap.cf:1:1"],
        "ann@xn--mnchen-3ya.test [r]\n^",
    ),
    (
        "@a.test [r]:465\n",
        &["warning implicit-tls postfix-relaymap.cf:1:1"],
        "@a.test [r]:465\n^",
    ),
    (
        "@a.test [r]:25, r:submissions\n",
        &["warning implicit-tls postfix-relaymap.cf:1:1"],
        "@a.test [r]:25, r:submissions\n^",
    ),
    (
        "# good\r\n@a.test [r]\r\n",
        &["warning crlf postfix-relaymap.cf:1:7"],
        "********\n^",
    ),
    (
        "@a.test [r]\r\n@b.test [r]\r\n",
        &["warning crlf postfix-relaymap.cf:1:12"],
        "@a.test [r]\n           ^",
    ),
    (
        // Columns are counted behind the mark, as an editor counts them.
        "\u{feff}@a.test [r.t\n",
        &[
            "warning byte-order-mark postfix-relaymap.cf:1:1",
            "error bad-next-hop postfix-relaymap.cf:1:9",
        ],
        "@a.test [r.t\n^",
    ),
    (
        "@@a.test [r]\n@b.test [r]\n",
        &["error two-ats postfix-relaymap.cf:1:1"],
        "@@a.test [r]\n^",
    ),
    (
        "@a.test\u{a0}[r]:587\n",
        &["error bad-key postfix-relaymap.cf:1:8"],
        "@a.test\\u{a0}********\n       ^^^^^^",
    ),
    (
        "@a.test [r]:587\u{200b}\n",
        &["error bad-next-hop postfix-relaymap.cf:1:16"],
        "@a.test ********\\u{200b}********\n                ^^^^^^^^",
    ),
    (
        "ü@a.test [r.t\n",
        &["error bad-next-hop postfix-relaymap.cf:1:11"],
        "ü@a.test [r.t\n         ^",
    ),
];

const IN_CREDENTIALS: &[InFile] = &[
    (
        "@a.test  CANARY\n",
        &["error bad-credentials postfix-sasl-password.cf:1:10"],
        "@a.test ********\n        ^",
    ),
    (
        "@a.test :CANARY\n",
        &["error bad-credentials postfix-sasl-password.cf:1:9"],
        "@a.test ********\n        ^",
    ),
    (
        "@a.test user:CANARY\u{1}\n",
        &["error bad-credentials postfix-sasl-password.cf:1:20"],
        "@a.test ********\n        ^",
    ),
    (
        "user\u{2}:CANARY @a.test\n",
        &["error bad-key postfix-sasl-password.cf:1:5"],
        "********\n^",
    ),
    (
        "@a.test\n",
        &["warning no-credentials postfix-sasl-password.cf:1:8"],
        "@a.test\n       ^",
    ),
    (
        "@a.test u:p\n@A.test u:CANARY\n",
        &["warning duplicate-key postfix-sasl-password.cf:2:1"],
        "@A.test ********\n^",
    ),
    (
        "@direct.test u:CANARY\n",
        &["warning excluded-with-credentials postfix-sasl-password.cf:1:1"],
        "@direct.test ********\n^",
    ),
    (
        "ann@elsewhere.test u:CANARY\n",
        &["warning credentials-withheld postfix-sasl-password.cf:1:1"],
        "ann@elsewhere.test ********\n^",
    ),
    (
        "a.test u:CANARY\n",
        &["warning bare-domain postfix-sasl-password.cf:1:1"],
        "a.test ********\n^",
    ),
    (
        "<> u:CANARY\n",
        &["warning never-asked postfix-sasl-password.cf:1:1"],
        "<> ********\n^",
    ),
    (
        "[relay.test]:25 u:CANARY\n",
        &["warning never-asked postfix-sasl-password.cf:1:1"],
        "[relay.test]:25 ********\n^",
    ),
    (
        "relay.test:587 u:CANARY\n",
        &["warning never-asked postfix-sasl-password.cf:1:1"],
        "relay.test:587 ********\n^",
    ),
    (
        "@a.test user:\n",
        &["error bad-credentials postfix-sasl-password.cf:1:13"],
        "@a.test ********\n        ^",
    ),
    (
        "@a.test:user:CANARY\n",
        &["error bad-key postfix-sasl-password.cf:1:8"],
        "********\n^",
    ),
    (
        "@a.test\u{a0}user:CANARY\n",
        &["error bad-key postfix-sasl-password.cf:1:8"],
        "@a.test\\u{a0}********\n       ^^^^^^",
    ),
    (
        "[relay.test]:587\n",
        &["error bad-credentials postfix-sasl-password.cf:1:17"],
        "********\n^",
    ),
    (
        "u:CANARY relay.test:587\n",
        &["error bad-key postfix-sasl-password.cf:1:1"],
        "********\n^",
    ),
    (
        "[other.test]:587 u:CANARY\n",
        &["warning no-such-relay postfix-sasl-password.cf:1:1"],
        "[other.test]:587 ********\n^",
    ),
    (
        "other.test u:CANARY\n",
        &["warning no-such-relay postfix-sasl-password.cf:1:1"],
        "other.test ********\n^",
    ),
    (
        "@a.test \"u:CANARY\"\n",
        &["warning value-in-quotes postfix-sasl-password.cf:1:1"],
        "@a.test ********\n^",
    ),
    (
        "@a.test <user>:CANARY\n",
        &["warning placeholder postfix-sasl-password.cf:1:1"],
        "@a.test ********\n^",
    ),
    (
        "@a.test user:CANARY\u{feff}\n",
        &["warning invisible-character postfix-sasl-password.cf:1:1"],
        "@a.test ********\n^",
    ),
    (
        // Postfix asks for the name of the server first.
        "[relay.test]:587 u:CANARY\nrelay.test u:CANARY\n",
        &["warning shadowed postfix-sasl-password.cf:1:1"],
        "[relay.test]:587 ********\n^",
    ),
];

const IN_SETTINGS: &[(&[u8], &[&str], &str)] = &[
    (
        b"\n lisen = \"x\"\n",
        &["error unknown-setting postmapd.toml:2:2"],
        " lisen =********\n ^",
    ),
    (
        b"[reload]\npol = 1\n",
        &["error unknown-setting postmapd.toml:2:1"],
        "pol = 1\n^",
    ),
    (
        b"listen = [\"tcp:0.0.0.0:10453:sasl\"]\nallow_networks = [\"::1\"]\n",
        &["warning nobody-allowed postmapd.toml:1:10"],
        "listen = [\"tcp:0.0.0.0:10453:sasl\"]\n         ^",
    ),
    (
        b"socket_mode = 660\n",
        &["error bad-setting postmapd.toml:1:15"],
        "socket_mode = 660\n              ^",
    ),
    (
        b"[reload]\npoll = -1\n",
        &["error bad-setting postmapd.toml:2:8"],
        "poll = -1\n       ^",
    ),
    (
        b"reload = 5\n",
        &["error bad-setting postmapd.toml:1:10"],
        "reload = 5\n         ^",
    ),
    (
        b"socket_mode = \"999\"\n",
        &["error bad-socket-mode postmapd.toml:1:15"],
        "socket_mode = \"999\"\n              ^",
    ),
    (
        b"recipient_delimiter = \"@\"\n",
        &["error bad-recipient-delimiter postmapd.toml:1:23"],
        "recipient_delimiter =********\n                     ^",
    ),
    (
        b"listen = \"tcp:127.0.0.1:1\"\n",
        &["error bad-endpoint postmapd.toml:1:10"],
        "listen = \"tcp:127.0.0.1:1\"\n         ^",
    ),
    (
        b"admin = \"9451\"\n",
        &["error bad-admin-address postmapd.toml:1:9"],
        "admin = \"9451\"\n        ^",
    ),
    (
        b"listen = \n",
        &["error bad-toml postmapd.toml:1:10"],
        "listen = \n         ^",
    ),
    (
        b"\nsocket_mode = \"\xfc\"\n",
        &["error bad-toml postmapd.toml:2:16"],
        "socket_mode =********\n             ^",
    ),
];

/// Variables, and all that is to be said about them.
type InEnvironment = (&'static [(&'static str, &'static [u8])], &'static [&'static str]);

const IN_ENVIRONMENT: &[InEnvironment] = &[
    (
        &[("POSTMAPD_LISTEN", b"nonsense")],
        &["error bad-endpoint POSTMAPD_LISTEN"],
    ),
    (
        &[("POSTMAPD_ALLOW_USERS", b"root,no-such-user")],
        &["error no-such-user POSTMAPD_ALLOW_USERS"],
    ),
    (
        &[("POSTMAPD_ALLOW_NETWORKS", b"192.0.2.0/24,localhost")],
        &["error bad-network POSTMAPD_ALLOW_NETWORKS"],
    ),
    (
        &[("POSTMAPD_LISTEN", b"socketmap:inet:192.0.2.1:10451")],
        &["warning nobody-allowed POSTMAPD_LISTEN"],
    ),
    (
        &[("POSTMAPD_SOCKET_MODE", b"rw")],
        &["error bad-socket-mode POSTMAPD_SOCKET_MODE"],
    ),
    (
        &[("POSTMAPD_NEXT_HOPS", b"maincf")],
        &["error bad-next-hops POSTMAPD_NEXT_HOPS"],
    ),
    (
        &[("POSTMAPD_CONFINEMENT", b"perhaps")],
        &["error bad-switch POSTMAPD_CONFINEMENT"],
    ),
    (
        &[("POSTMAPD_USER", b"no-such-name")],
        &["error no-such-user POSTMAPD_USER"],
    ),
    (
        &[("POSTMAPD_RECIPIENT_DELIMITER", b"@")],
        &["error bad-recipient-delimiter POSTMAPD_RECIPIENT_DELIMITER"],
    ),
    (
        &[
            ("POSTMAPD_SOCKET_OWNER", b"no-such-name"),
            ("POSTMAPD_LISTEN", b"socketmap:unix:/run/x"),
        ],
        &["error no-such-user POSTMAPD_SOCKET_OWNER"],
    ),
    (
        &[("POSTMAPD_SOCKET_OWNER", b"\xff")],
        &["error bad-setting POSTMAPD_SOCKET_OWNER"],
    ),
    (
        &[("POSTMAPD_LOG", b"nonsense=loud")],
        &["error bad-log-setting POSTMAPD_LOG"],
    ),
    (
        &[("POSTMAPD_LOG_FORMAT", b"xml")],
        &["error bad-log-setting POSTMAPD_LOG_FORMAT"],
    ),
    (
        &[("POSTMAPD_LISTN", b"x")],
        &["warning unknown-variable environment"],
    ),
    (
        &[("RELAY_HOST", b"user:CANARY@relay")],
        &["error bad-relay-host RELAY_HOST"],
    ),
    (
        &[("RELAY_HOST", b"r"), ("RELAY_PORT", b"CANARY")],
        &["error bad-relay-host RELAY_PORT"],
    ),
    (
        &[("RELAY_HOST", b"r"), ("RELAY_PORT", b"465")],
        &[
            "warning bounces-without-relay RELAY_HOST",
            "warning implicit-tls RELAY_HOST",
        ],
    ),
    (
        &[("DEFAULT_RELAY_HOST", b"[r")],
        &["error bad-default-relay-host DEFAULT_RELAY_HOST"],
    ),
    (
        &[("DEFAULT_RELAY_HOST", b"dunno")],
        &["error bad-default-relay-host DEFAULT_RELAY_HOST"],
    ),
    (
        &[
            ("DEFAULT_RELAY_HOST", b"r"),
            ("RELAY_USER", b"u:v"),
            ("RELAY_PASSWORD", b"CANARY"),
        ],
        &["error bad-default-credentials RELAY_USER"],
    ),
    (
        &[
            ("DEFAULT_RELAY_HOST", b"r"),
            ("RELAY_USER", b"u"),
            ("RELAY_PASSWORD", b"CANARY\n"),
        ],
        &["error bad-default-credentials RELAY_PASSWORD"],
    ),
    (
        &[("DEFAULT_RELAY_HOST", b"r"), ("RELAY_PASSWORD", b"CANARY")],
        &["warning half-credentials RELAY_PASSWORD"],
    ),
    (
        &[("RELAY_USER", b"u"), ("RELAY_PASSWORD", b"CANARY")],
        &["warning credentials-without-relay RELAY_PASSWORD"],
    ),
    (
        &[("AWS_SES_USERPASS", b"u:CANARY")],
        &["warning aws-ses AWS_SES_USERPASS"],
    ),
    (
        &[
            ("DEFAULT_RELAY_HOST", b"r"),
            ("DEFAULT_RELAY_HOST_FILE", b"/nowhere"),
        ],
        &["warning variable-ignored DEFAULT_RELAY_HOST_FILE"],
    ),
    (
        &[("RELAY_HOST", b"[r]:587")],
        &["error bad-relay-host RELAY_HOST"],
    ),
    (
        &[("RELAY_HOST", "relay\u{200b}.test".as_bytes())],
        &["error bad-relay-host RELAY_HOST"],
    ),
    (
        &[
            ("DEFAULT_RELAY_HOST", b"r"),
            ("RELAY_PORT", b"tcp://10.0.0.7:587"),
        ],
        &["warning service-link RELAY_PORT"],
    ),
    (
        &[("RELAYHOST", b"CANARY")],
        &["warning foreign-variable RELAYHOST"],
    ),
    (
        &[("RELAY_PASWORD", b"CANARY")],
        &["warning unknown-variable environment"],
    ),
    (
        &[
            ("DEFAULT_RELAY_HOST", b"r"),
            ("RELAY_USER", b"'u'"),
            ("RELAY_PASSWORD", b" CANARY"),
        ],
        &[
            "warning value-in-quotes RELAY_USER",
            "warning blank-around-value RELAY_PASSWORD",
        ],
    ),
    (
        &[
            ("DEFAULT_RELAY_HOST", b"r"),
            ("RELAY_USER", b"${USER}"),
            ("RELAY_PASSWORD", "CANARY\u{a0}CANARY".as_bytes()),
        ],
        &[
            "warning placeholder RELAY_USER",
            "warning invisible-character RELAY_PASSWORD",
        ],
    ),
];

fn cases_of_files() -> Vec<Case> {
    let with_dns = {
        let mut case = relaymap(
            "@a.test [127.0.0.1], [nosuch.invalid]:25\n",
            &["warning host-without-address postfix-relaymap.cf:1:1"],
            "@a.test [127.0.0.1], [nosuch.invalid]:25\n^",
        );
        case.args.push("--dns");
        case.setup = case.setup.env("RES_OPTIONS", "timeout:1 attempts:1");
        case
    };
    let readable = case(
        Setup::new()
            .relaymap("@a.test [r.test]:587\n")
            .credentials("@a.test user:CANARY\n"),
        &["warning readable-by-others postfix-sasl-password.cf"],
        None,
    );
    let not_routed = case(
        private(Setup::new().credentials("@a.test user:CANARY\n")),
        &["warning no-next-hops "],
        None,
    );
    fs::set_permissions(
        readable.setup.dir().join(CREDENTIALS),
        PermissionsExt::from_mode(0o644),
    )
    .unwrap();
    let unreadable = Setup::new();
    fs::create_dir(unreadable.dir().join(RELAYMAP)).unwrap();
    let of_relaymap = IN_RELAYMAP
        .iter()
        .map(|(text, said, shown)| relaymap(text, said, shown));
    let of_credentials = IN_CREDENTIALS
        .iter()
        .map(|(text, said, shown)| credentials(text, said, shown));
    let others = [
        with_dns,
        case(
            Setup::new()
                .relaymap("@a.test [relay1.test], [relay9.test]\n")
                .credentials("@a.test user:CANARY\n"),
            &["warning login-for-several-relays postfix-relaymap.cf:1:1"],
            Some("@a.test [relay1.test], [relay9.test]\n^"),
        ),
        case(
            Setup::new()
                .relaymap("@a.test [relay1.test], [relay9.test]\n")
                .credentials("ann@a.test user:CANARY\n"),
            &["warning login-for-several-relays postfix-sasl-password.cf:1:1"],
            Some("ann@a.test ********\n^"),
        ),
        case(
            Setup::new()
                .relaymap("@a.test [r]\n")
                .credentials(format!("@a.test user:CANARY{}\n", "%".repeat(1400))),
            &["warning too-long-for-tcp postfix-sasl-password.cf:1:1"],
            Some("@a.test ********\n^"),
        ),
        case(
            Setup::new()
                .relaymap("@a.test [r]\n")
                .credentials(b"@a.test user:CANARY\xfc\n"),
            &["warning not-utf-8 postfix-sasl-password.cf:1:1"],
            Some("@a.test ********\n^"),
        ),
        readable,
        not_routed,
        case(unreadable, &["error file-unreadable postfix-relaymap.cf"], None),
        case(Setup::new(), &["warning nothing-routes "], None),
        case(
            Setup::new()
                .relaymap(ROUTE)
                .file("postfix-sasl-passwd.cf", "@routed.test user:CANARY\n"),
            &["warning near-miss-name postfix-sasl-passwd.cf"],
            None,
        ),
    ];
    of_relaymap.chain(of_credentials).chain(others).collect()
}

fn cases_of_settings() -> Vec<Case> {
    let named = Setup::new().relaymap(ROUTE);
    let missing = named.root().join("missing.toml");
    let of_file = IN_SETTINGS
        .iter()
        .map(|(text, said, shown)| settings(text, said, shown));
    let of_environment = IN_ENVIRONMENT
        .iter()
        .map(|(variables, said)| environment(variables, said));
    let others = [
        case(
            named.env("POSTMAPD_CONFIG", &missing),
            &["error settings-unreadable missing.toml"],
            None,
        ),
        secret_file("RELAY_HOST_FILE", None, &[], "error secret-unreadable secret"),
        secret_file(
            "RELAY_PASSWORD_FILE",
            Some("\n"),
            &[("RELAY_USER", "u"), ("DEFAULT_RELAY_HOST", "r")],
            "error empty-secret-file secret",
        ),
        secret_file("RELAY_HOST__FILE", Some("[r"), &[], "error bad-relay-host secret"),
        secret_file(
            "RELAY_PASSWORD_FILE",
            Some("CANARY\nCANARY"),
            &[("RELAY_USER", "u"), ("DEFAULT_RELAY_HOST", "r")],
            "error bad-default-credentials secret",
        ),
    ];
    of_file.chain(of_environment).chain(others).collect()
}

/// The paragraph of the text that is about this finding.
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

#[test]
fn every_kind_of_finding_has_its_place_its_line_a_reason_and_what_to_do() {
    let mut provoked = BTreeSet::new();
    let mut failures = Vec::new();
    for case in cases_of_files().into_iter().chain(cases_of_settings()) {
        let said = all_in_short(&case.setup, &case.args);
        if said != case.findings {
            failures.push(format!("expected {:?}, not {said:?}", case.findings));
            continue;
        }
        let text = check(&case.setup, &case.args).stdout;
        for finding in &case.findings {
            provoked.insert(finding.split(' ').nth(1).unwrap());
            let paragraph = paragraph(&case.setup, &text, finding);
            for part in ["= note: ", "= help: "] {
                if !paragraph.contains(part) {
                    failures.push(format!("no {part:?} in:\n{paragraph}"));
                }
            }
        }
        if let Some(shown) = case.shown {
            let (line, caret) = shown.split_once('\n').unwrap();
            let row = case.findings[0].rsplit(':').nth(1).unwrap();
            let wanted = format!("\n{row} | {line}\n  | {caret}\n").replace(" \n", "\n");
            let paragraph = paragraph(&case.setup, &text, case.findings[0]);
            if !paragraph.replace(" \n", "\n").contains(&wanted) {
                failures.push(format!("expected:{wanted}not:\n{paragraph}"));
            }
        }
        if text.contains("CANARY") {
            failures.push(format!("a password:\n{text}"));
        }
    }
    assert!(
        failures.is_empty(),
        "{} failures:\n{}",
        failures.len(),
        failures.join("\n")
    );

    let beyond_a_test = [
        // More lines than fit into the memory of a small machine.
        "file-too-large",
        // A race that is over within 100 ms.
        "files-changing",
        // Of a running server: reload_waits.rs.
        "file-open-for-writing",
        "file-gone",
        // Of a mount: reload_changes.rs.
        "replaced-under-its-mount",
        // Of a Postfix: the next test.
        "relayhost-in-main-cf",
        // Of the arguments of bench and postconf.
        "bad-argument",
        "no-endpoint",
    ];
    let missed: Vec<_> = codes()
        .into_iter()
        .filter(|code| !provoked.contains(code) && !beyond_a_test.contains(code))
        .collect();
    assert!(missed.is_empty(), "no case for {missed:?}");
}

#[test]
fn a_relayhost_in_main_cf_beside_next_hops_of_our_own_is_a_warning_with_the_command_that_mends_it() {
    let postfix = tempfile::tempdir().unwrap();
    let main_cf = postfix.path().join("main.cf");
    let directory = postfix.path().to_str().unwrap();
    fs::write(&main_cf, "compatibility_level = 3.6\nrelayhost = [r.test]:25\n").unwrap();
    let said = |setup: &Setup| all_in_short(setup, &["-c", directory]);
    let warning = ["warning relayhost-in-main-cf main.cf"];
    let routes = Setup::new().relaymap("@a.test [r.test]\n");
    let by_default = Setup::new().env("DEFAULT_RELAY_HOST", "r.test");
    assert_eq!(said(&routes), warning);
    assert_eq!(said(&by_default), warning);
    let text = check(&routes, &["-c", directory]).stdout;
    assert!(
        text.contains(&format!("= help: postconf -c {directory} -e 'relayhost ='")),
        "{text}"
    );
    // Who routes nothing here may have a relayhost there.
    let passwords_alone = private(Setup::new().credentials("[r.test]:25 u:p\n"));
    assert_eq!(said(&passwords_alone), [""; 0]);
    fs::write(&main_cf, "compatibility_level = 3.6\n").unwrap();
    assert_eq!(said(&routes), [""; 0]);
    fs::remove_file(&main_cf).unwrap();
    assert_eq!(said(&routes), [""; 0]);
}

/// The codes of findings about files, settings and the environment.
fn codes() -> BTreeSet<&'static str> {
    let codes = Code::ALL.iter().filter(|code| code.rationale().is_some());
    codes.map(|code| code.as_str()).collect()
}

#[test]
fn nobody_is_told_that_nobody_reads_on() {
    // Not a pipe whose reading end is dropped: a process that another test is just starting holds
    // a copy of every descriptor until its exec(2), and until then the pipe has a reader. Shutting
    // a socket down counts for all its descriptors.
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

#[test]
fn the_exit_code_says_whether_there_are_errors_and_with_strict_whether_there_are_warnings() {
    let good = || {
        private(
            Setup::new()
                .relaymap("@a.test [r]:587\n")
                .credentials("@a.test u:p\n"),
        )
    };
    let warned = || good().relaymap("@a.test [r]:587\n  @b.test [r]\n");
    let wrong = || good().relaymap("@a.test [r:587\n");
    for (setup, args, code, counts) in [
        (good(), [].as_slice(), 0, "no errors, no warnings"),
        (good(), &["--strict"], 0, "no errors, no warnings"),
        (warned(), &[], 0, "no errors, 1 warning"),
        (warned(), &["--strict"], 1, "no errors, 1 warning"),
        (wrong(), &[], 1, "1 error, no warnings"),
        (wrong(), &["--strict"], 1, "1 error, no warnings"),
        (Setup::new(), &[], 0, "no errors, 1 warning"),
        (Setup::new(), &["--strict"], 1, "no errors, 1 warning"),
    ] {
        let finished = check(&setup, args);
        assert_eq!(finished.code, Some(code), "{finished:?}");
        assert_eq!(
            finished.stdout.lines().last().unwrap(),
            format!("{}: {counts}", setup.dir().display())
        );
        assert_eq!(finished.stderr, "");
        let json = check(&setup, &[args, &["--format", "json"]].concat());
        assert_eq!((json.code, json.stderr.as_str()), (Some(code), ""));
    }
    for args in [
        ["--nosuchflag"].as_slice(),
        &["--format", "xml"],
        &["--format"],
        &["relayhost"],
    ] {
        let finished = check(&good(), args);
        assert_eq!(
            (finished.code, finished.stdout.as_str()),
            (Some(2), ""),
            "{args:?}: {finished:?}"
        );
        assert!(!finished.stderr.is_empty());
    }
}

#[test]
fn for_machines_there_is_one_object_with_all_findings_and_their_number() {
    let setup = private(
        Setup::new()
            .relaymap("@a.test [r\n@b.test [r]\n@b.test [r]\n")
            .credentials("@a.test u:p\n@b.test u\n")
            .env("RELAY_USER", "x"),
    );
    let report = report(&setup, &[]);
    let keys: Vec<_> = report.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["errors", "findings", "warnings"]);
    assert_eq!(
        (report["errors"].as_u64(), report["warnings"].as_u64()),
        (Some(2), Some(2))
    );
    assert_eq!(
        all_in_short(&setup, &[]),
        [
            "warning half-credentials RELAY_USER",
            "error bad-next-hop postfix-relaymap.cf:1:9",
            "warning duplicate-key postfix-relaymap.cf:3:1",
            "error bad-credentials postfix-sasl-password.cf:2:9",
        ]
    );
    for finding in report["findings"].as_array().unwrap() {
        for field in ["severity", "code", "message", "help"] {
            assert!(
                finding[field].as_str().is_some_and(|text| !text.is_empty()),
                "{finding}"
            );
        }
    }
}

/// Files, good and bad, for which check and the server must agree.
fn corpus() -> Vec<(&'static str, Vec<u8>)> {
    let relaymaps = [
        "@b.test [r]\n",
        "@b.test [r\n@c.test [r]:0\n\n@d.test h:x, h\n",
        "@b.test\n@B.test [\n",
        "\"open [r]\n\x01 [r]\n",
        "\u{feff}@b.test ::1\n  @c.test ::1\n",
        "@b.test [r]\r\n@c.test [r\r\n",
        "@b.test h # [\n@c.test # [\n@d.test [ # h\n",
        "a\\\n",
        "@b.test a,b,,c d\n@c.test ,\n",
        "\0\n",
        "",
        "# nothing\n\n",
    ];
    let credentials = [
        "@b.test u:p\n",
        "@b.test u\n@c.test :p\n[r]:587 u:p\n",
        "@b.test\n@b.test u\n",
        "u:p\n\tu:p q\n",
        "@b.test u:p\x07q\n@c.test u:p\tq\n",
        "\u{feff}\"\n@b.test x",
        "@b.test u:p\r\n@c.test u\r\n",
    ];
    let settings = [
        "",
        "listen = 1\n",
        "# x\n[reload]\npoll = 0\ngrace = 9\n",
        "=\n",
        "socket_mode = \"8\"\nx = 1\n",
    ];
    let of = |name: &'static str, texts: &[&str]| -> Vec<_> {
        texts
            .iter()
            .map(|text| (name, text.as_bytes().to_vec()))
            .collect()
    };
    [
        of(RELAYMAP, &relaymaps),
        of(CREDENTIALS, &credentials),
        of(SETTINGS, &settings),
        vec![
            (RELAYMAP, b"\xff@b.test [r\n".to_vec()),
            (CREDENTIALS, b"@b.test u:\xff\n@c.test \xff\n".to_vec()),
            (SETTINGS, b"a = \"\xff\"\n".to_vec()),
        ],
    ]
    .concat()
}

/// The errors in these lines of a log, as `file:line:column`.
fn errors_logged(setup: &Setup, log: &str) -> BTreeSet<String> {
    let folder = format!("{}/", setup.dir().display());
    let place = |line: &str| {
        let (before, _) = line.split_once(": error: ")?;
        Some(before[before.find(&folder)? + folder.len()..].to_owned())
    };
    log.lines().filter_map(place).collect()
}

fn errors_checked(setup: &Setup) -> BTreeSet<String> {
    let all = all_in_short(setup, &[]);
    let errors = all.iter().filter(|finding| finding.starts_with("error "));
    errors
        .map(|finding| finding.rsplit(' ').next().unwrap().to_owned())
        .collect()
}

#[track_caller]
fn agree_at_start(setup: &Setup) -> Result<(), TestCaseError> {
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
    // With wrong settings it does not even look at the tables.
    logged.retain(|place| is_about_settings || !place.starts_with(SETTINGS));
    let mut checked = checked;
    checked.retain(|place| !is_about_settings || place.starts_with(SETTINGS));
    prop_assert_eq!(checked, logged);
    Ok(())
}

#[test]
fn what_check_calls_an_error_the_server_logs_at_the_same_place_and_no_other() {
    for (file, text) in corpus() {
        agree_at_start(&Setup::new().relaymap("@a.test [r]\n").file(file, &text)).unwrap();
    }
}

/// A line of either file, often wrong.
fn line() -> impl Strategy<Value = String> {
    let key = "@[ab]\\.test|[ab]@a\\.test|\\[r\\]:587|\"a b\"@a\\.test|\"x|r|<>|\\PC{1,4}";
    let value = "|\\[r\\]:587|\\[r|u:p|u|h:[0-9]{1,6}|[a-z:,\\[\\]# ]{1,9}|\\PC{0,5}";
    (" {0,2}", key, "[ \t]{1,2}", value, "\n|\r\n")
        .prop_map(|(indent, key, blank, value, end)| indent + &key + &blank + &value + &end)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn check_and_the_server_agree_about_any_lines(
        relaymap in prop::collection::vec(line(), 0..6), credentials in prop::collection::vec(line(), 0..6),
    ) {
        agree_at_start(&Setup::new().relaymap(relaymap.concat()).credentials(credentials.concat()))?;
    }
}

#[test]
fn a_reload_takes_the_files_exactly_if_check_finds_no_error() {
    let (mut taken, mut kept) = (0, 0);
    for (file, text) in corpus() {
        let daemon = Daemon::start(
            Setup::new()
                .relaymap("@a.test [r]\n")
                .credentials("@a.test u:p\n"),
        );
        let seen = daemon.log_lines();
        daemon.replace(file, &text);
        // So that something differs in any case, and a reload that takes it says so.
        if file == SETTINGS {
            daemon.replace(RELAYMAP, "@a.test [new]\n");
        } else {
            daemon.replace(SETTINGS, "# new\n");
        }
        daemon.hangup();
        let line = daemon.wait_for_log_after(seen, |line| {
            line.contains("loaded generation=")
                || line.contains("are not used")
                || line.contains("is not used")
        });
        let has_errors = !errors_checked(&daemon.setup()).is_empty();
        assert_eq!(
            line.contains("are not used") || line.contains("is not used"),
            has_errors,
            "{file} {text:?}: {line}"
        );
        if has_errors {
            kept += 1;
        } else {
            taken += 1;
        }
    }
    assert!(taken >= 5 && kept >= 15, "{taken} {kept}");
}

#[test]
fn an_error_is_shown_though_hundreds_of_warnings_come_before_it() {
    let setup = private(
        Setup::new()
            .relaymap("@a.test [r]\n".repeat(500))
            .credentials("@a.test CANARY\n"),
    );
    let text = check(&setup, &[]).stdout;
    paragraph(
        &setup,
        &text,
        "error bad-credentials postfix-sasl-password.cf:1:9",
    );
    assert!(text.contains("and 299 findings more"), "{text}");
    assert_eq!(errors_checked(&setup).len(), 1);
    let log = Daemon::start(setup.clone()).log();
    assert_eq!(errors_logged(&setup, &log), errors_checked(&setup));
}

#[test]
fn a_hundred_thousand_findings_are_a_short_text_and_come_soon() {
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
        .map(private)
    };
    for (few, many) in setups(10_000).into_iter().zip(setups(100_000)) {
        for format in ["text", "json"] {
            let timed = |setup: &Setup| {
                let begun = Instant::now();
                let finished = check(setup, &["--format", format]);
                (begun.elapsed(), finished)
            };
            let (of_few, _) = timed(&few);
            let (elapsed, finished) = timed(&many);
            // Ten times as much work; what grows with the square would take a hundred times as long.
            assert!(elapsed < 40 * of_few, "{elapsed:?} after {of_few:?}");
            assert!(finished.stdout.len() < 300_000, "{} bytes", finished.stdout.len());
            assert!(!finished.stdout.contains("CANARY"));
        }
    }
}

#[test]
fn what_cannot_be_read_is_an_error_that_names_it() {
    let dangling = Setup::new();
    std::os::unix::fs::symlink("nowhere", dangling.dir().join(CREDENTIALS)).unwrap();
    let folder = Setup::new().relaymap(ROUTE);
    fs::create_dir(folder.dir().join(SETTINGS)).unwrap();
    let pipe = Setup::new();
    let made = Command::new("mkfifo")
        .arg(pipe.dir().join(RELAYMAP))
        .status()
        .unwrap();
    assert!(made.success());
    for (setup, finding) in [
        (dangling, "error file-unreadable postfix-sasl-password.cf"),
        (folder, "error settings-unreadable postmapd.toml"),
        (pipe, "error file-unreadable postfix-relaymap.cf"),
    ] {
        assert_eq!(all_in_short(&setup, &[]), [finding]);
        assert_eq!(check(&setup, &[]).code, Some(1));
    }
    let missing = Setup::new();
    fs::remove_dir(missing.dir()).unwrap();
    let said = all_in_short(&missing, &[]);
    assert!(!said.is_empty());
    for finding in said {
        assert_eq!(finding, "error file-unreadable ", "the folder is what is missing");
    }
    // A folder without files is an empty one.
    assert_eq!(check(&Setup::new(), &[]).code, Some(0));
}

#[test]
fn credentials_in_a_folder_that_others_cannot_enter_are_not_readable_by_others() {
    let setup = Setup::new()
        .relaymap("@a.test [r.test]:587\n")
        .credentials("@a.test u:p\n");
    assert_eq!(
        all_in_short(&setup, &[]),
        ["warning readable-by-others postfix-sasl-password.cf"]
    );
    for closed in [setup.dir(), setup.root()] {
        fs::set_permissions(closed, PermissionsExt::from_mode(0o750)).unwrap();
        assert_eq!(all_in_short(&setup, &[]), Vec::<String>::new());
        fs::set_permissions(closed, PermissionsExt::from_mode(0o755)).unwrap();
    }
}

#[test]
fn examples_that_are_right_give_no_warning() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/example");
    let read = |name| fs::read(example.join(name)).unwrap();
    let examples = private(
        Setup::new()
            .relaymap(read(RELAYMAP))
            .credentials(read(CREDENTIALS)),
    );
    // Every line of the contract's table.
    let contract = private(
        Setup::new()
            .relaymap(
                "@domain1.com   [relay1.org]:587\nuser@domain1.com   [other.org]:587\n@domain3.com\n\
                 user@domain2.com\n<>   [relay1.org]:587\n\"john doe\"@domain1.com h\n@list.com a:25, [2001:db8::1]:26\n",
            )
            .credentials(
                "@domain1.com   relay_user_1:password_1\nuser@domain1.com   user:password\n\
                 [relay1.org]:587   user:password\nother.org   user:password\n\"john doe\"@domain1.com u:p\n\
                 a:25 u:p\n2001:db8::1 u:p\n",
            ),
    );
    // The relay comes from main.cf, and with it the next hops.
    let elsewhere = private(
        Setup::new()
            .settings("next_hops = \"main.cf\"\n")
            .credentials("@a.test u:p\n[r.test]:587 u:p\nr2.test u:p\n[::1]:25 u:p\n"),
    );
    // Who has a next hop only with an extension, or only as one of a domain, has a use for the others' credentials.
    let some = private(
        Setup::new()
            .relaymap("ann+x@a.test [r1]\nbob@b.test [r2]\n@b.test\n")
            .credentials("ann@a.test u:p\n@b.test u:p\n"),
    );
    // A host is asked for, and where it has no credentials on purpose, the next hop is asked for, too.
    let hosts = private(
        Setup::new()
            .relaymap("@a.test [r.test]:587\n@b.test mx.test:587\n")
            .credentials("[r.test]:587 u:p\nmx.test u:p\nmx.test:587 u:p\n"),
    );
    for setup in [examples, contract, elsewhere, some, hosts] {
        assert_eq!(all_in_short(&setup, &[]), Vec::<String>::new());
    }
}

#[test]
fn of_the_cases_of_the_page_those_that_are_odd_get_a_warning_and_no_others() {
    let cases: Value = serde_json::from_str(include_str!("../relay-cases.json")).unwrap();
    let mut warned = Vec::new();
    for case in cases.as_array().unwrap() {
        let setup = private(crate::relay_cases::setup(case));
        for finding in all_in_short(&setup, &[]) {
            // Every one with RELAY_HOST and without a line for <>.
            if finding.contains("bounces-without-relay") {
                assert!(!case["env"]["RELAY_HOST"].is_null() && case["env"]["DEFAULT_RELAY_HOST"].is_null());
                continue;
            }
            warned.push(format!("{} {finding}", case["id"].as_str().unwrap()));
        }
    }
    warned.sort();
    // Each was looked at: it is true of what Postfix does.
    assert_eq!(
        warned,
        [
            "D25 warning indented-entry postfix-relaymap.cf:1:1",
            "D26 warning indented-entry postfix-relaymap.cf:2:1",
            "D27 warning indented-entry postfix-relaymap.cf:2:1",
            "D29 warning crlf postfix-relaymap.cf:1:30",
            "D31 warning duplicate-key postfix-relaymap.cf:2:1",
            "D32 warning duplicate-key postfix-relaymap.cf:2:1",
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
        ]
    );
}

/// A password, and a line that has it where it should not be.
fn line_with_password() -> impl Strategy<Value = String> {
    let key = "@a\\.test|ann@a\\.test|\\[r\\.test\\]:587|r\\.test|@a\\.test\\.|\\*";
    let password = "[=#:!\"\\\\ \\[]{0,2}CANARY[=#:!\"\\\\ ]{0,2}";
    let template = prop::sample::select(vec![
        "KEY USER:PW",
        "USER:PW KEY",
        "USER:PW",
        "PW",
        "KEY PW",
        "PW KEY",
        "# KEY USER:PW",
        "KEY=USER:PW",
        "KEY,PW",
        "KEY:PW",
        "KEY [r.test]:465 # PW",
        "KEY [r.test]:587 USER:PW",
        "KEY [r.test]:PW",
        "KEY [r.test:PW",
        "KEY USER:PW\x01",
        "\"PW KEY",
        "\tKEY\tUSER:PW",
        "KEY USER@a.test:PW",
        "USER@a.test:PW KEY",
        "listen = \"PW\"",
        "password = \"PW\"",
        "PW = 1",
        "listen = 1 # PW",
        "socket_mode = PW",
        "relay_password: PW",
        "[reload] # PW",
        "[PW]",
        "poll = \"PW\"",
        "listen = [\"PW",
        "listen = \"\"\"\\q\nPW = \\q\"\"\"",
        "[r.test]:587 USER:PW",
    ]);
    (template, key, "u|user1", password).prop_map(|(template, key, user, password)| {
        template
            .replace("KEY", &key)
            .replace("USER", &user)
            .replace("PW", &password)
    })
}

/// Variables in which a password may end up, by mistake or on purpose.
const VARIABLES: [&str; 22] = [
    "RELAYHOST",
    "RELAYHOST_PASSWORD",
    "RELAY_PASS",
    "RELAY_PASWORD",
    "SASL_PASSWD",
    "RELAY_HOST",
    "RELAY_PORT",
    "RELAY_USER",
    "RELAY_PASSWORD",
    "DEFAULT_RELAY_HOST",
    "AWS_SES_HOST",
    "AWS_SES_PORT",
    "AWS_SES_USERPASS",
    "POSTMAPD_PASSWORD",
    "POSTMAPD_LISTEN",
    "POSTMAPD_RECIPIENT_DELIMITER",
    "POSTMAPD_SOCKET_OWNER",
    "POSTMAPD_SOCKET_GROUP",
    "POSTMAPD_SOCKET_MODE",
    "POSTMAPD_LOG",
    "POSTMAPD_LOG_FORMAT",
    "POSTMAPD_LISTN",
];

#[test]
fn a_password_in_the_place_of_a_host_is_not_repeated_as_one() {
    let setup = Setup::new()
        .relaymap("@a.test CANARY\n@b.test CANARY1, h.test\n")
        .credentials("CANARY:25\n[CANARY1]:587\n")
        .env("RELAY_HOST", "CANARY2")
        .env("RES_OPTIONS", "timeout:1 attempts:1");
    for format in ["text", "json"] {
        let finished = check(&setup, &["--dns", "--format", format]);
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
        variable in prop::sample::select(VARIABLES.to_vec()), value in line_with_password(),
    ) {
        let mut texts = [String::new(), String::new(), String::new()];
        for (file, line, end) in &lines {
            texts[*file].extend([line.as_str(), end]);
            // Again: a key that is there twice is a finding of its own.
            texts[*file].extend([line.as_str(), end]);
        }
        let [relaymap, credentials, settings] = texts;
        let setup = Setup::new()
            .relaymap(relaymap)
            .credentials(credentials)
            .settings(settings)
            .env(variable, value.replace(['\0', '\n'], ""));
        for format in ["text", "json"] {
            let finished = check(&setup, &["--format", format]);
            let printed = finished.stdout + &finished.stderr;
            prop_assert!(!printed.to_uppercase().contains("CANARY"), "{} {:?}:\n{}", variable, value, printed);
        }
    }
}

#[test]
fn colours_are_for_terminals_only_and_not_with_no_color() {
    let setup = Setup::new().relaymap("@a.test [r\n");
    let plain = check(&setup, &[]).stdout;
    assert!(!plain.contains('\u{1b}'), "{plain:?}");
    let on_terminal = |variables: &[(&str, &str)]| {
        let check = setup.command("check");
        let words: Vec<_> = [check.get_program()]
            .into_iter()
            .chain(check.get_args())
            .collect();
        let quoted: Vec<_> = words
            .iter()
            .map(|word| format!("'{}'", word.to_str().unwrap()))
            .collect();
        // script(1) of util-linux gives its command a terminal.
        let mut script = Command::new("script");
        script
            .args(["--quiet", "--return", "--command", &quoted.join(" "), "/dev/null"])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("TERM", "xterm")
            .envs(variables.iter().copied());
        let finished = finish(&mut script, b"");
        assert_eq!(finished.code, Some(1), "{finished:?}");
        finished.stdout.replace('\r', "")
    };
    let coloured = on_terminal(&[]);
    assert!(coloured.contains("\u{1b}["), "{coloured:?}");
    assert_eq!(on_terminal(&[("NO_COLOR", "1")]), plain);
}
