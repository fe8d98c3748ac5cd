//! Promise: the files of contrib/systemd are valid for systemd's own programs, and restrict the service as far as
//! possible.
//!
//! The units also run under a real systemd, in its own namespaces (tests/systemd). What they rely on is tested
//! separately, here and in service_manager.rs.

mod follow;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::harness::client::{Reply, Socketmap};
use crate::harness::daemon::{CREDENTIALS, Daemon, Finished, RELAYMAP, Setup, finish};
use crate::harness::identities::uid_of;
use crate::harness::systemd::boot;

fn contrib() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/systemd")
}

/// The units in a separate directory, with these examples as drop-ins, and the built program.
fn units(examples: &[&str]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let service = fs::read_to_string(contrib().join("postmapd.service")).unwrap();
    let installed = "/usr/bin/postmapd";
    assert!(service.contains(installed));
    let service = service.replace(installed, env!("CARGO_BIN_EXE_postmapd"));
    fs::write(directory.path().join("postmapd.service"), service).unwrap();
    fs::copy(
        contrib().join("postmapd.socket"),
        directory.path().join("postmapd.socket"),
    )
    .unwrap();
    // Its program is not built here, and any other will do.
    let follow = fs::read_to_string(contrib().join("postmapd-follow.service")).unwrap();
    let installed = "/usr/bin/postmapd-follow";
    assert!(follow.contains(installed));
    let follow = follow.replace(installed, env!("CARGO_BIN_EXE_postmapd"));
    fs::write(directory.path().join("postmapd-follow.service"), follow).unwrap();
    let drop_ins = directory.path().join("postmapd.service.d");
    fs::create_dir(&drop_ins).unwrap();
    for example in examples {
        let name = format!("{example}.conf");
        fs::copy(contrib().join("examples").join(&name), drop_ins.join(&name)).unwrap();
    }
    directory
}

fn analyze(directory: &TempDir, words: &[&str]) -> Finished {
    finish(
        Command::new("systemd-analyze")
            .args(words)
            .env("SYSTEMD_COLORS", "0")
            .current_dir(directory.path()),
        b"",
    )
}

/// Every example, one of which is a directory of drop-ins.
fn examples() -> Vec<String> {
    let names = fs::read_dir(contrib().join("examples")).unwrap();
    names
        .map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            name.strip_suffix(".conf").expect("a drop-in").to_owned()
        })
        .collect()
}

/// The messages of `systemd-analyze verify` about files of this repository.
fn complaints(examples: &[&str]) -> Vec<String> {
    let verified = analyze(
        &units(examples),
        &[
            "verify",
            "--man=no",
            "./postmapd.service",
            "./postmapd.socket",
            "./postmapd-follow.service",
        ],
    );
    let complaints = verified.stderr.lines().filter(|line| {
        // Before systemd 253 (Debian 12), the line before this one takes effect.
        line.contains("postmapd") && !line.contains("Failed to parse service type, ignoring: notify-reload")
    });
    let complaints: Vec<String> = complaints.map(ToOwned::to_owned).collect();
    assert!(verified.code == Some(0) || !complaints.is_empty(), "{verified:?}");
    complaints
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn systemd_reports_nothing_about_the_units() {
    assert_eq!(complaints(&[]), [""; 0]);
    let examples = examples();
    assert_eq!(examples.len(), 6, "{examples:?}");
    for example in &examples {
        assert_eq!(complaints(&[example]), [""; 0], "{example}");
    }
    // It does report a mistake.
    let directory = units(&[]);
    let wrong = "[Service]\nProtectEverything=yes\n";
    fs::write(directory.path().join("postmapd.service.d/wrong.conf"), wrong).unwrap();
    let output = analyze(&directory, &["verify", "--man=no", "./postmapd.service"]).stderr;
    assert!(output.contains("ProtectEverything"), "{output}");
}

/// The exposure level of `systemd-analyze security`, from 0 (nothing exposed) to 10.
fn exposure(examples: &[&str]) -> f64 {
    exposure_of("postmapd.service", &units(examples))
}

fn exposure_of(unit: &str, directory: &TempDir) -> f64 {
    let checked = analyze(
        directory,
        &["security", "--offline=true", "--no-pager", &format!("./{unit}")],
    );
    let figure = checked.stdout.lines().find_map(|line| {
        line.split_once(&format!("Overall exposure level for {unit}: "))
            .and_then(|(_, figure)| figure.split(' ').next()?.parse().ok())
    });
    figure.unwrap_or_else(|| panic!("{checked:?}"))
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn the_service_is_sandboxed() {
    assert!(exposure(&[]) <= 0.5, "{}", exposure(&[]));
    assert!(exposure(&["root-only-tables"]) <= 0.8);
    assert!(exposure(&["credentials", "relay-password"]) <= 0.5);
    // A network raises it more than anything else.
    assert!(exposure(&["loopback"]) <= 1.2, "{}", exposure(&["loopback"]));
}

/// A root directory in which systemd's programs created users and files from contrib.
fn installed() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("etc")).unwrap();
    fs::create_dir_all(root.path().join("var/spool/postfix")).unwrap();
    fs::write(root.path().join("etc/group"), "root:x:0:\npostfix:x:105:\n").unwrap();
    fs::write(
        root.path().join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\npostfix:x:102:105::/var/spool/postfix:/usr/sbin/nologin\n",
    )
    .unwrap();
    create(&root);
    root
}

fn create(root: &TempDir) {
    run_on(
        root,
        &[
            ("systemd-sysusers", &[], "sysusers.d/postmapd.conf"),
            ("systemd-tmpfiles", &["--create"], "tmpfiles.d/postmapd.conf"),
        ],
    );
}

/// Runs these programs with these words and files of contrib.
fn run_on(root: &TempDir, runs: &[(&str, &[&str], &str)]) {
    let at = format!("--root={}", root.path().display());
    for (program, words, file) in runs {
        let made = finish(
            Command::new(program)
                .arg(&at)
                .args(*words)
                .arg(contrib().join(file)),
            b"",
        );
        assert_eq!(made.code, Some(0), "{program}: {made:?}");
    }
}

/// The number of a name in `etc/passwd` or `etc/group`.
fn number(root: &TempDir, file: &str, name: &str) -> u32 {
    let names = fs::read_to_string(root.path().join("etc").join(file)).unwrap();
    let line = names.lines().find(|line| line.split(':').next() == Some(name));
    let line = line.unwrap_or_else(|| panic!("no {name} in {names}"));
    line.split(':').nth(2).unwrap().parse().unwrap()
}

/// Owner, group and mode.
fn access(root: &TempDir, path: &str) -> (u32, u32, u32) {
    let about = fs::symlink_metadata(root.path().join(path)).unwrap();
    (about.uid(), about.gid(), about.permissions().mode() & 0o7777)
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn user_and_directories_are_created_and_existing_ones_kept() {
    let root = installed();
    let (user, group) = (
        number(&root, "passwd", "postmapd"),
        number(&root, "group", "postmapd"),
    );
    assert!(user > 0 && user < 1000, "a system user: {user}");
    let expected = [
        ("etc/postmapd", (0, group, 0o750)),
        ("etc/postmapd/postfix-relaymap.cf", (0, group, 0o640)),
        ("etc/postmapd/postfix-sasl-password.cf", (0, group, 0o640)),
        ("var/spool/postfix/postmapd", (user, 105, 0o2750)),
    ];
    for (path, access_expected) in expected {
        assert_eq!(access(&root, path), access_expected, "{path}");
    }
    // A second run, as at each boot, loses nothing that was written.
    let table = root.path().join("etc/postmapd/postfix-relaymap.cf");
    fs::write(&table, "@one.test [relay1.test]\n").unwrap();
    create(&root);
    assert_eq!(fs::read_to_string(table).unwrap(), "@one.test [relay1.test]\n");
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn without_postfix_the_other_directories_are_still_created() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("etc")).unwrap();
    fs::write(root.path().join("etc/group"), "root:x:0:\n").unwrap();
    fs::write(root.path().join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
    let at = format!("--root={}", root.path().display());
    for (program, words, file) in [
        ("systemd-sysusers", &[][..], "sysusers.d/postmapd.conf"),
        ("systemd-tmpfiles", &["--create"][..], "tmpfiles.d/postmapd.conf"),
    ] {
        finish(
            Command::new(program)
                .arg(&at)
                .args(words)
                .arg(contrib().join(file)),
            b"",
        );
    }
    let group = number(&root, "group", "postmapd");
    assert_eq!(access(&root, "etc/postmapd"), (0, group, 0o750));
    assert!(!root.path().join("var/spool/postfix").exists());
}

/// Executes the program as the user nobody, with these options of setpriv(1), and without a way to regain privileges.
fn as_nobody(options: &[&str]) -> Vec<String> {
    let uid = uid_of("nobody").to_string();
    let mut words = vec![
        "setpriv".to_owned(),
        format!("--reuid={uid}"),
        "--no-new-privs".to_owned(),
    ];
    words.extend(options.iter().map(ToString::to_string));
    words
}

/// Copies the program to where every user can execute it.
fn executable_for_all(setup: Setup) -> Setup {
    let copy = setup.root().join("postmapd");
    fs::copy(env!("CARGO_BIN_EXE_postmapd"), &copy).unwrap();
    setup.binary(copy)
}

/// As in tmpfiles.d: root writes, a group reads.
#[test]
#[ignore = "needs root: tests/run-all"]
fn edits_of_group_readable_tables_take_effect_for_a_member_of_the_group() {
    const GROUP: u32 = 64_321;
    let setup = Setup::new()
        .relaymap("@one.test [relay1.test]\n")
        .credentials("@one.test user:one\n");
    let setup = executable_for_all(setup);
    for (path, mode) in [
        (setup.dir().to_owned(), 0o750),
        (setup.dir().join(RELAYMAP), 0o640),
        (setup.dir().join(CREDENTIALS), 0o640),
    ] {
        std::os::unix::fs::chown(&path, Some(0), Some(GROUP)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let group = format!("--regid={GROUP}");
    let daemon = Daemon::start(setup.within(as_nobody(&[
        &group,
        "--clear-groups",
        "--bounding-set=-all",
        "--inh-caps=-all",
    ])));
    let mut client = Socketmap::to(&daemon, 0);
    assert_eq!(client.query("sasl", "x@one.test"), Reply::found("user:one"));
    // root's own command keeps owner, group and mode, so that the server can still read the files.
    let edit = |words: &[&str]| {
        let edited = finish(
            Setup::in_directory(daemon.dir()).command("relay").args(words),
            b"",
        );
        assert_eq!(edited.code, Some(0), "{edited:?}");
    };
    edit(&["add-auth", "one.test", "user", "two"]);
    client.eventually_finds("sasl", "x@one.test", "user:two");
}

/// As in examples/root-only-tables.conf.
#[test]
#[ignore = "needs root: tests/run-all"]
fn edits_of_root_only_tables_take_effect_with_one_capability() {
    let setup = executable_for_all(
        Setup::new()
            .relaymap("@one.test [relay1.test]\n")
            .credentials("@one.test user:one\n"),
    );
    fs::set_permissions(setup.dir(), fs::Permissions::from_mode(0o700)).unwrap();
    for name in [RELAYMAP, CREDENTIALS] {
        fs::set_permissions(setup.dir().join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let one = [
        "--regid=65534",
        "--clear-groups",
        "--bounding-set=-all,+dac_read_search",
        "--inh-caps=-all,+dac_read_search",
        "--ambient-caps=-all,+dac_read_search",
    ];
    let daemon = Daemon::start(setup.clone().within(as_nobody(&one)));
    let mut client = Socketmap::to(&daemon, 0);
    assert_eq!(client.query("sasl", "x@one.test"), Reply::found("user:one"));
    let new = daemon.dir().join("new");
    fs::write(&new, "@one.test user:two\n").unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(new, daemon.dir().join(CREDENTIALS)).unwrap();
    client.eventually_finds("sasl", "x@one.test", "user:two");
    // Without the capability, the server answers *cannot tell*.
    fs::set_permissions(setup.dir(), fs::Permissions::from_mode(0o755)).unwrap();
    let none = [
        "--regid=65534",
        "--clear-groups",
        "--bounding-set=-all",
        "--inh-caps=-all",
    ];
    let daemon = Daemon::start(setup.within(as_nobody(&none)));
    assert!(
        Socketmap::to(&daemon, 0)
            .query("sasl", "x@one.test")
            .is_cannot_tell()
    );
}

/// As in examples/credentials.conf and examples/relay-password.conf: read-only files of the server's user.
#[test]
fn a_credentials_directory_of_systemd_can_hold_the_tables() {
    let credentials = tempfile::tempdir().unwrap();
    for (name, text) in [
        (RELAYMAP, "@one.test [relay1.test]\n"),
        (CREDENTIALS, "@one.test user:one\n"),
        ("relay-password", "secret\n"),
    ] {
        let path = credentials.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o400)).unwrap();
    }
    fs::set_permissions(credentials.path(), fs::Permissions::from_mode(0o500)).unwrap();
    let setup = Setup::in_directory(credentials.path())
        .without_dir_flag()
        .env("POSTMAPD_DIR", credentials.path())
        .env("RELAY_HOST", "smtp.relay.example")
        .env("RELAY_PORT", "587")
        .env("RELAY_USER", "relay-user")
        .env("RELAY_PASSWORD_FILE", credentials.path().join("relay-password"));
    let daemon = Daemon::start(setup);
    let mut client = Socketmap::to(&daemon, 0);
    assert_eq!(client.query("sasl", "x@one.test"), Reply::found("user:one"));
    let reply = client.query("sasl", "[smtp.relay.example]:587");
    assert_eq!(reply, Reply::found("relay-user:secret"));
}

/// The output of tests/systemd/drive on success.
const UNDER_SYSTEMD: &str = "\
# as installed
active
generation 1: 1 relayhost entries, 1 sasl entries; last reload: changed
postfix: [relay1.test] user:one
root: [relay1.test] user:one
nobody: [relay1.test] no answer
generation 1: 1 relayhost entries, 1 sasl entries; last reload: unchanged
generation 1: 1 relayhost entries, 1 sasl entries
generation 1: 1 relayhost entries, 1 sasl entries; last reload: failed (errors: 1; run postmapd check)
generation 2: 1 relayhost entries, 1 sasl entries
CapBnd: 0000000000000000
CapEff: 0000000000000000
NoNewPrivs: 1
Seccomp: 2
reload: nice 10
# restarts during lookups
[relay2.test]
# a server that hangs
NRestarts=1
[relay2.test]
# loopback
active
postfix: user:one
nobody: no answer
# without the socket unit
active
postmapd postfix 660
user:one
# tables readable only by root
active
user:one
generation 2: 1 relayhost entries, 1 sasl entries
user:two
DONE
";

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_real_systemd_starts_reloads_watches_and_replaces_the_server() {
    let program = Path::new(env!("CARGO_BIN_EXE_postmapd"));
    let (output, log) = boot("drive", [program, &contrib()]);
    assert_eq!(output, UNDER_SYSTEMD, "{log}");
}
