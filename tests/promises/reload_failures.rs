//! Promise: a file that cannot be read, or has an error, changes nothing that works. The error is logged once, and its
//! repair takes effect without a request.
//!
//! `src/source/load/tests.rs` tests what may be in place of each file, at startup too, and
//! `src/source/decision/tests.rs` the orders of errors and repairs.

use crate::harness::client::{Reply, Socketmap};
use crate::harness::daemon::{CREDENTIALS, Daemon, RELAYMAP, SETTINGS, Setup};
use crate::harness::observer::observe;
use crate::harness::versions::{
    FILES, QUICK, REQUESTS, Versions, answers, path_of, relay, setup, text, with_versions,
};
use crate::harness::{eventually, names_place};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use std::fmt::Write as _;
use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

type NonFile = (&'static str, fn(&Path) -> io::Result<()>);

/// Some of what may be in place of a file.
const NON_FILES: [NonFile; 8] = [
    ("a FIFO", |path| Ok(mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR)?)),
    ("a directory", |path| fs::create_dir(path)),
    ("a link that leads nowhere", |path| {
        symlink("nowhere/at/all", path)
    }),
    ("a link to itself", |path| {
        // It has another name until it is moved into place.
        let name = path.file_name().unwrap().to_str().unwrap();
        symlink(name.trim_end_matches(BESIDE), path)
    }),
    ("a device without end", |path| symlink("/dev/zero", path)),
    ("a device without a byte", |path| symlink("/dev/null", path)),
    // Its first page cannot be read: EIO.
    ("a file that cannot be read", |path| {
        symlink("/proc/self/mem", path)
    }),
    ("a file of 4 GiB", |path| sparse(path, 1 << 32)),
];

fn sparse(path: &Path, length: u64) -> io::Result<()> {
    File::create(path)?.set_len(length)
}

const BESIDE: &str = ".beside";

/// Makes something and exchanges it with what is there in one step, so that nothing is missing at any time.
fn exchange(path: &Path, make: impl FnOnce(&Path) -> io::Result<()>) {
    let mut name = path.file_name().unwrap().to_owned();
    name.push(BESIDE);
    let beside = path.with_file_name(name);
    make(&beside).unwrap();
    renameat2(AT_FDCWD, &beside, AT_FDCWD, path, RenameFlags::RENAME_EXCHANGE).unwrap();
    if beside.is_dir() && !beside.is_symlink() {
        fs::remove_dir(&beside).unwrap();
    } else {
        fs::remove_file(&beside).unwrap();
    }
}

/// The errors about a file in the log after the first `seen` lines.
fn errors(daemon: &Daemon, seen: usize, name: &str) -> Vec<String> {
    let log = daemon.log();
    let lines = log.lines().skip(seen);
    lines
        .filter(|line| line.contains("ERROR") && line.contains(name))
        .map(ToOwned::to_owned)
        .collect()
}

/// Waits for an error about a file. Fails where it is logged more than once, or changes anything.
#[track_caller]
fn is_logged_once(versions: &Versions<'_>, seen: usize, file: &str, what: &str) {
    versions.wait_for_log_after(seen, |line| line.contains("ERROR") && line.contains(file));
    versions.pause(what);
    let errors = errors(versions.daemon, seen, file);
    assert_eq!(errors.len(), 1, "{what} must be logged once: {errors:?}");
}

#[test]
fn a_non_file_in_place_of_a_file_keeps_the_active_snapshot_and_its_repair_takes_effect() {
    let daemon = Daemon::start(setup(QUICK));
    with_versions(&daemon, QUICK, |versions| {
        for ((kind, make), file) in NON_FILES.into_iter().zip(FILES.into_iter().cycle()) {
            let what = format!("{kind} in place of {file}");
            let seen = daemon.log_lines();
            exchange(&versions.path(file), make);
            is_logged_once(versions, seen, file, &what);
            // A reload request logs the error once more.
            let seen = daemon.log_lines();
            daemon.hangup();
            daemon.wait_for_log_after(seen, |line| line.contains("ERROR") && line.contains(file));
            let next = versions.next_text(file);
            exchange(&versions.path(file), |path| fs::write(path, next));
            versions.wait_for_numbers(versions.next(&[file]), &what);
        }
    });
}

#[test]
fn a_non_file_in_place_of_the_settings_file_is_a_startup_error() {
    for (kind, make) in NON_FILES {
        let setup = setup(QUICK);
        exchange(&path_of(&setup, SETTINGS), make);
        let finished = setup.listen("socketmap:inet:127.0.0.1:0").serve_until_exit();
        assert_eq!(finished.code, Some(78), "with {kind}: {finished:?}");
        assert!(finished.stderr.contains(SETTINGS), "with {kind}: {finished:?}");
    }
}

#[test]
fn a_file_of_more_than_4_gib_costs_neither_time_nor_memory() {
    let daemon = Daemon::start(setup(QUICK));
    let before = daemon.memory("VmHWM");
    with_versions(&daemon, QUICK, |versions| {
        for file in FILES {
            let seen = daemon.log_lines();
            let ticks = daemon.ticks();
            exchange(&versions.path(file), |path| sparse(path, 5 << 30));
            daemon.wait_for_log_after(seen, |line| line.contains("ERROR") && line.contains(file));
            // Reading all of it would take more than half a second of processor time.
            let took = daemon.ticks() - ticks;
            assert!(took < 30, "{file}: {took} hundredths of a second");
            exchange(&versions.path(file), |path| fs::write(path, text(file, 0, QUICK)));
        }
        versions.pause("files of 5 GiB");
    });
    let grown = daemon.memory("VmHWM").saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes more");
}

/// A user without privileges, and a copy of the program that it can execute.
fn unprivileged(setup: Setup) -> Setup {
    let program = setup.root().join("postmapd");
    fs::copy(env!("CARGO_BIN_EXE_postmapd"), &program).unwrap();
    allow(&program, 0o755);
    setup.binary(program).within([
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--inh-caps=-all",
    ])
}

fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

type Prohibition = (&'static str, fn(&Path), fn(&Path));

/// Ways to make a file unreadable, and readable again.
const PROHIBITIONS: [Prohibition; 3] = [
    (
        "a file that may no longer be read",
        |path| allow(path, 0),
        |path| allow(path, 0o644),
    ),
    (
        "a directory that may no longer be entered",
        |path| allow(path.parent().unwrap(), 0),
        |path| allow(path.parent().unwrap(), 0o755),
    ),
    (
        "a new file that may not be read",
        |path| {
            let same = fs::read(path).unwrap();
            exchange(path, |path| {
                fs::write(path, same)?;
                fs::set_permissions(path, Permissions::from_mode(0o600))
            });
        },
        |path| allow(path, 0o644),
    ),
];

#[test]
#[ignore = "needs root: tests/run-all"]
fn an_unreadable_file_keeps_the_active_snapshot_until_it_is_readable() {
    let daemon = Daemon::start(unprivileged(setup(QUICK)));
    with_versions(&daemon, QUICK, |versions| {
        for file in FILES {
            for (what, forbid, allow) in PROHIBITIONS {
                let path = versions.path(file);
                let seen = daemon.log_lines();
                forbid(&path);
                let line = daemon.wait_for_log_after(seen, |line| {
                    line.contains("ERROR") && line.contains("ermission denied")
                });
                let directory = path.parent().unwrap().to_str().unwrap();
                assert!(line.contains(directory), "where? {line}");
                // With a new version, or without.
                fs::write(&path, versions.next_text(file)).unwrap();
                versions.pause(what);
                let logged = errors(&daemon, seen, file);
                assert!(logged.len() <= 1, "{what} is logged at each poll: {logged:?}");
                allow(&path);
                versions.wait_for_numbers(versions.next(&[file]), what);
            }
        }
    });
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_directory_unreadable_at_startup_answers_cannot_tell_until_it_is_readable() {
    let setup = setup(QUICK);
    allow(setup.dir(), 0);
    // The settings file is in another directory, so that it stays readable.
    let settings = setup.root().join("settings");
    fs::write(&settings, text(SETTINGS, 0, QUICK)).unwrap();
    let dir = setup.dir().to_path_buf();
    let daemon = Daemon::start(unprivileged(setup.arg("--config").arg(settings)));
    observe(&daemon, &REQUESTS, |observer| {
        observer.wait_for_rounds(60);
        let before = observer.answers();
        assert!(before.iter().flatten().all(Reply::is_cannot_tell), "{before:?}");
        for map in ["relayhost", "sasl"] {
            assert_eq!(errors(&daemon, 0, map).len(), 1, "{}", daemon.log());
        }
        allow(&dir, 0o755);
        observer.wait_for(&answers([0; 4]));
        assert_eq!(observer.answers().len(), 2, "{:?}", observer.answers());
    });
}

#[test]
fn a_missing_directory_keeps_the_active_snapshot_however_long_it_is_missing() {
    let daemon = Daemon::start(setup(QUICK));
    with_versions(&daemon, QUICK, |versions| {
        let away = daemon.root().join("away");
        for (what, is_file) in [
            ("a file in place of the directory", true),
            ("no directory", false),
        ] {
            let seen = daemon.log_lines();
            let begun = Instant::now();
            fs::rename(daemon.dir(), &away).unwrap();
            if is_file {
                fs::write(daemon.dir(), "").unwrap();
            }
            daemon.wait_for_log_after(seen, |line| line.contains("ERROR"));
            // Three times the grace period.
            eventually(|| begun.elapsed(), |waited| *waited > Duration::from_millis(300));
            versions.pause(what);
            let seen = daemon.log_lines();
            versions.pause(what);
            assert_eq!(daemon.log_lines(), seen, "logged at each poll:\n{}", daemon.log());
            // SIGHUP does not make it an empty file either.
            daemon.hangup();
            daemon.wait_for_log_after(seen, |line| line.contains("ERROR"));
            versions.are_still_active(what);
            fs::write(away.join(RELAYMAP), versions.next_text(RELAYMAP)).unwrap();
            if is_file {
                fs::remove_file(daemon.dir()).unwrap();
            }
            fs::rename(&away, daemon.dir()).unwrap();
            versions.wait_for_numbers(versions.next(&[RELAYMAP]), what);
        }
    });
}

/// Texts with errors, and the lines that the log names, each once.
const ERRORS: [(&str, &str, &[usize]); 14] = [
    (RELAYMAP, "@one.test [relay9.test]:587\n@two.test [relay9\n", &[2]),
    (
        RELAYMAP,
        "# comment\n\n@one.test [relay9.test]:587\n@two.test [relay9.test]:0\n",
        &[4],
    ),
    (
        RELAYMAP,
        "@one.test [relay9.test]:587\n\"ann smith@one.test [relay9.test]\n",
        &[2],
    ),
    (RELAYMAP, "@one.test [relay9.test]\x02\n", &[1]),
    (
        RELAYMAP,
        "@a.test [a\n@one.test [one.test]\n@b.test [b.test]:0\n",
        &[1, 3],
    ),
    (CREDENTIALS, "login.test user9:secret9\n@two.test nocolon\n", &[2]),
    (
        CREDENTIALS,
        "# passwords\n@a.test nocolon\n@b.test\x01 b:b\n",
        &[2, 3],
    ),
    (SETTINGS, "recipient_delimiter = \"~\"\nlisten = [\n", &[2]),
    (
        SETTINGS,
        "recipient_delimiter = \"~\"\n\nrecipient_delimeter = \"=\"\n",
        &[3],
    ),
    (SETTINGS, "\nrecipient_delimiter = 7\n", &[2]),
    (SETTINGS, "recipient_delimiter = \"@\"\n", &[1]),
    (
        SETTINGS,
        "recipient_delimiter = \"~\"\n[reload]\nempty_grace = -1\n",
        &[3],
    ),
    (
        SETTINGS,
        "recipient_delimiter = \"~\"\nsocket_mode = \"999\"\n",
        &[2],
    ),
    (
        SETTINGS,
        "recipient_delimiter = \"~\"\nrecipient_delimiter = \"~\"\n",
        &[2],
    ),
];

#[test]
fn a_rejected_reload_keeps_the_active_snapshot_and_logs_the_place_of_the_error() {
    let daemon = Daemon::start(setup(QUICK));
    with_versions(&daemon, QUICK, |versions| {
        for (file, text, rows) in ERRORS {
            let are_logged_once = |seen| {
                for row in rows {
                    daemon.wait_for_log_after(seen, |line| names_place(line, file, *row));
                }
                versions.pause(text);
                let errors = errors(&daemon, seen, file);
                assert_eq!(errors.len(), rows.len(), "{text}: {errors:?}");
            };
            let seen = daemon.log_lines();
            daemon.replace(file, text);
            are_logged_once(seen);
            // A valid edit of the other file waits: its passwords, or its relay, may belong to the rejected file.
            let other = if file == RELAYMAP { CREDENTIALS } else { RELAYMAP };
            versions.replace_with_next(other);
            let seen = daemon.log_lines();
            daemon.hangup();
            are_logged_once(seen);
            versions.replace_with_next(file);
            versions.wait_for_numbers(versions.next(&[file, other]), text);
        }
    });
}

/// Two senders at the ends of a table that is long enough for writing it to take some time.
const ENDS: [(&str, &str); 2] = [("relayhost", "ann@first.test"), ("relayhost", "ann@last.test")];

fn long_table(n: usize) -> String {
    let mut text = format!("@first.test {}\n", relay(n));
    for k in 0..20_000 {
        writeln!(text, "@d{k}.test [x.test]").unwrap();
    }
    text + &format!("@last.test {}\n", relay(n))
}

#[test]
fn a_file_that_is_saved_repeatedly_is_never_read_partially() {
    let ways: [fn(&Daemon, &str); 3] = [
        |daemon, text| fs::write(daemon.dir().join(RELAYMAP), text).unwrap(),
        |daemon, text| daemon.replace(RELAYMAP, text),
        |daemon, text| {
            let mut file = File::create(daemon.dir().join(RELAYMAP)).unwrap();
            for piece in text.as_bytes().chunks(4096) {
                file.write_all(piece).unwrap();
            }
        },
    ];
    let setup = Setup::new().relaymap(long_table(0));
    let daemon = Daemon::start(setup.settings("[reload]\npoll_interval = 0.02\n"));
    observe(&daemon, &ENDS, |observer| {
        let mut n = 0;
        for save in ways {
            let begun = Instant::now();
            // Without a pause.
            while begun.elapsed() < Duration::from_millis(700) {
                n += 1;
                save(&daemon, &long_table(n));
            }
            observer.wait_for(&[Reply::Found(relay(n)), Reply::Found(relay(n))]);
        }
        for pair in observer.answers() {
            assert!(
                matches!(pair[0], Reply::Found(_)),
                "the first is missing: {pair:?}"
            );
            assert_eq!(pair[0], pair[1], "half of one, half of another");
        }
    });
}

#[test]
fn a_file_whose_closing_the_kernel_did_not_report_takes_effect() {
    let daemon = Daemon::start(Setup::new().relaymap("@first.test [x.test]\n"));
    let queue_length = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let queue_length: usize = queue_length.trim().parse().unwrap();
    observe(&daemon, &[("relayhost", "ann@first.test")], |observer| {
        let mut file = File::create(daemon.dir().join(RELAYMAP)).unwrap();
        write!(file, "@first.test {}\n#", relay(1)).unwrap();
        // The server learns that the file is open for writing, and nothing more, because the kernel's queue is full.
        observer.wait_for_rounds(100);
        // Several times, with a moment for some of the events: the kernel reports one loss until that report is read, so
        // events behind it are lost without one.
        for _ in 0..4 {
            daemon.signal("STOP");
            for _ in 0..=queue_length / 2 {
                file.write_all(b"#").unwrap();
            }
            daemon.signal("CONT");
        }
        daemon.signal("STOP");
        for _ in 0..=queue_length / 2 {
            file.write_all(b"#").unwrap();
        }
        drop(file);
        daemon.signal("CONT");
        observer.wait_for(&[Reply::Found(relay(1))]);
    });
}

#[test]
fn after_a_start_with_errors_invalid_settings_are_rejected_too() {
    let routes_in_main_cf = "next_hops = \"main.cf\"\n";
    let daemon = Daemon::start(
        Setup::new()
            .relaymap("@one.test [one.test\n")
            .credentials("@two.test user:secret\n")
            .settings(routes_in_main_cf),
    );
    let mut client = Socketmap::to(&daemon, 0);
    let login = Reply::found("user:secret");
    assert_eq!(client.query("sasl", "ann@two.test"), login);
    daemon.replace(SETTINGS, format!("{routes_in_main_cf}no_such_setting = 1\n"));
    daemon.wait_for_log(|line| line.contains("reload rejected"));
    // With the default settings, it would be *not found*, and Postfix would send without authenticating.
    assert_eq!(client.query("sasl", "ann@two.test"), login);
    // Fixing an error of a table takes effect once the settings are valid again.
    daemon.replace(RELAYMAP, "@one.test [one.test]\n");
    daemon.replace(SETTINGS, routes_in_main_cf);
    client.eventually_finds("relayhost", "ann@one.test", "[one.test]");
    assert_eq!(client.query("sasl", "ann@two.test"), login);
}
