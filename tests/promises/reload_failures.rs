//! Promise: what cannot be read, or not yet, or not whole, changes nothing that works; it is said once, and its repair
//! goes live by itself.

use crate::harness::client::{Reply, Socketmap, Stream};
use crate::harness::daemon::{CREDENTIALS, DEADLINE, Daemon, RELAYMAP, SETTINGS, Setup};
use crate::harness::observer::{Observer, observe};
use crate::harness::{eventually, names_place};
use crate::live_reload::{relay, table};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use std::fmt::Write as _;
use std::fs::{self, File, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// The secret file of [`setup`], beside the folder.
const PASSWORD: &str = "password";

/// Each file that is read.
const SUBJECTS: [&str; 4] = [RELAYMAP, CREDENTIALS, PASSWORD, SETTINGS];

/// Polls often, and believes soon that a table is gone, so that only what must not happen does not.
const QUICK: &str = "[reload]\npoll = 0.02\ngrace = 0.1\n";

/// The n-th text of a file.
fn text(subject: &str, n: usize) -> String {
    match subject {
        RELAYMAP => format!(
            "# {n}\n@one.test {}\nann@two.test [ann.test]\n@two.test [two.test]\n",
            relay(n)
        ),
        CREDENTIALS => format!("login.test user{n}:secret{n}\n@one.test user{n}:secret{n}\n"),
        PASSWORD => format!("secret{n}\n"),
        _ => format!("recipient_delimiter = \"{}\"\n# {n}\n{QUICK}", ["=", "-"][n % 2]),
    }
}

/// What is asked: every file has its say.
const QUESTIONS: [(&str, &str); 6] = [
    ("relayhost", "ann@one.test"),
    ("sasl", "login.test"),
    ("sasl", "[default.test]:25"),
    ("relayhost", "ann=x@two.test"),
    ("relayhost", "ann-x@two.test"),
    ("relayhost", "ann@three.test"),
];

/// The answers where the texts of [`SUBJECTS`] with these numbers are in force.
fn answers([map, credentials, password, settings]: [usize; 4]) -> Vec<Reply> {
    let mut two = [Reply::found("[ann.test]"), Reply::found("[two.test]")];
    two.rotate_left(settings % 2);
    let [one, other] = two;
    vec![
        Reply::Found(relay(map)),
        Reply::Found(format!("user{credentials}:secret{credentials}")),
        Reply::Found(format!("user:secret{password}")),
        one,
        other,
        Reply::found("[default.test]:25"),
    ]
}

fn path_of(setup: &Setup, subject: &str) -> PathBuf {
    match subject {
        PASSWORD => setup.root().join(PASSWORD),
        _ => setup.dir().join(subject),
    }
}

fn setup() -> Setup {
    let setup = Setup::new();
    for subject in SUBJECTS {
        fs::write(path_of(&setup, subject), text(subject, 0)).unwrap();
    }
    let password = path_of(&setup, PASSWORD);
    setup
        .env("RELAY_HOST", "default.test")
        .env("RELAY_USER", "user")
        .env("RELAY_PASSWORD_FILE", password)
}

/// What may stand where a file should be.
type Obstacle = (&'static str, fn(&Path));

const OBSTACLES: [Obstacle; 11] = [
    ("a FIFO", |path| {
        mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    }),
    ("a directory", |path| fs::create_dir(path).unwrap()),
    ("a link that leads nowhere", |path| {
        symlink("nowhere/at/all", path).unwrap();
    }),
    ("a link that leads through a file", |path| {
        symlink("/dev/null/x", path).unwrap();
    }),
    ("a link to itself", |path| {
        // It has another name until it is put in place.
        let name = path.file_name().unwrap().to_str().unwrap();
        symlink(name.trim_end_matches(BESIDE), path).unwrap();
    }),
    ("a device without end", |path| symlink("/dev/zero", path).unwrap()),
    ("a device without a byte", |path| {
        symlink("/dev/null", path).unwrap();
    }),
    ("a socket", |path| drop(UnixListener::bind(path).unwrap())),
    // Its first page is not there: EIO.
    ("a file that fails when it is read", |path| {
        symlink("/proc/self/mem", path).unwrap();
    }),
    ("a file of 4 GiB", |path| sparse(path, 1 << 32)),
    ("a file of more than 1 GiB", |path| sparse(path, (1 << 30) + 1)),
];

fn sparse(path: &Path, length: u64) {
    File::create(path).unwrap().set_len(length).unwrap();
}

const BESIDE: &str = ".beside";

/// Makes something and exchanges it for what is there in one step, so that nothing is ever missing.
fn exchange(path: &Path, make: impl FnOnce(&Path)) {
    let mut name = path.file_name().unwrap().to_owned();
    name.push(BESIDE);
    let beside = path.with_file_name(name);
    make(&beside);
    renameat2(AT_FDCWD, &beside, AT_FDCWD, path, RenameFlags::RENAME_EXCHANGE).unwrap();
    if beside.is_dir() && !beside.is_symlink() {
        fs::remove_dir(&beside).unwrap();
    } else {
        fs::remove_file(&beside).unwrap();
    }
}

/// How often the thread that reads has gone to sleep.
///
/// `None` where that thread cannot be seen for the moment: it gives itself its name, and others come and go.
fn sleeps(daemon: &Daemon) -> Option<u64> {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid())).ok()?;
    let reload = tasks
        .filter_map(|task| Some(task.ok()?.path()))
        .find(|task| fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "reload"))?;
    let status = fs::read_to_string(reload.join("status")).ok()?;
    let mut lines = status.lines();
    let number = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
    number.trim().parse().ok()
}

/// Waits until the files were compared several times without any hint.
#[track_caller]
fn several_polls(daemon: &Daemon) {
    let mut first = None;
    let more = || {
        let now = sleeps(daemon)?;
        Some(now - *first.get_or_insert(now))
    };
    eventually(more, |more| *more >= Some(10));
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

/// Puts every obstacle in the place of one file of a running server, and the next version after each.
fn obstacles_while_running(subject: usize) {
    let name = SUBJECTS[subject];
    let daemon = Daemon::start(setup());
    let path = path_of(&daemon.setup(), name);
    observe(&daemon, &QUESTIONS, |observer| {
        let mut state = [0; 4];
        let mut expected = vec![answers(state)];
        observer.wait_for(&answers(state));
        for (n, (obstacle, make)) in (1..).zip(OBSTACLES) {
            let seen = daemon.log_lines();
            exchange(&path, make);
            daemon.wait_for_log_after(seen, |line| line.contains("ERROR") && line.contains(name));
            several_polls(&daemon);
            assert_eq!(
                errors(&daemon, seen, name).len(),
                1,
                "{obstacle} is to be said once:\n{}",
                daemon.log()
            );
            // Whoever asks is told again.
            let seen = daemon.log_lines();
            daemon.hangup();
            daemon.wait_for_log_after(seen, |line| line.contains("ERROR") && line.contains(name));
            assert_eq!(observer.answers(), expected, "with {obstacle} in place of {name}");
            state[subject] = n;
            exchange(&path, |path| fs::write(path, text(name, n)).unwrap());
            observer.wait_for(&answers(state));
            expected.push(answers(state));
            assert_eq!(
                observer.answers(),
                expected,
                "after {obstacle} in place of {name}"
            );
        }
    });
}

#[test]
fn what_is_no_file_in_place_of_the_relay_map_changes_nothing_and_its_repair_is_live() {
    obstacles_while_running(0);
}

#[test]
fn what_is_no_file_in_place_of_the_credentials_changes_nothing_and_its_repair_is_live() {
    obstacles_while_running(1);
}

#[test]
fn what_is_no_file_in_place_of_a_secret_changes_nothing_and_its_repair_is_live() {
    obstacles_while_running(2);
}

#[test]
fn what_is_no_file_in_place_of_the_settings_changes_nothing_and_its_repair_is_live() {
    obstacles_while_running(3);
}

/// Starts a server with every obstacle in the place of one file. `unsure` are the answers that cannot be told then.
fn obstacles_at_the_start(subject: usize, unsure: &[usize]) {
    let name = SUBJECTS[subject];
    for (obstacle, make) in OBSTACLES {
        let setup = setup();
        let path = path_of(&setup, name);
        exchange(&path, make);
        let daemon = Daemon::start(setup);
        observe(&daemon, &QUESTIONS, |observer| {
            several_polls(&daemon);
            let answered = observer.answers();
            let [answered] = answered.as_slice() else {
                panic!("the answers change: {answered:?}");
            };
            if subject < 2 {
                let of_sender = Socketmap::to(&daemon, 0).ask("sasl", "ann@one.test");
                assert!(of_sender.is_cannot_tell(), "{obstacle}: {of_sender:?}");
            }
            for (n, answer) in answered.iter().enumerate() {
                if unsure.contains(&n) {
                    assert!(
                        answer.is_cannot_tell(),
                        "with {obstacle} for {name}: {:?} is answered {answer:?}",
                        QUESTIONS[n]
                    );
                } else {
                    assert_eq!(*answer, answers([0; 4])[n], "{:?}", QUESTIONS[n]);
                }
            }
            assert_eq!(
                errors(&daemon, 0, name).len(),
                1,
                "{obstacle} is to be said once:\n{}",
                daemon.log()
            );
            exchange(&path, |path| fs::write(path, text(name, 0)).unwrap());
            observer.wait_for(&answers([0; 4]));
            assert_eq!(observer.answers().len(), 2, "{:?}", observer.answers());
        });
    }
}

#[test]
#[ignore = "takes long: tests/run-all"]
fn what_is_no_file_in_place_of_the_relay_map_costs_its_answers_at_the_start() {
    // And the passwords of senders: without a relay they would go to the recipient's own server.
    obstacles_at_the_start(0, &[0, 3, 4, 5]);
}

#[test]
#[ignore = "takes long: tests/run-all"]
fn what_is_no_file_in_place_of_the_credentials_costs_its_answers_at_the_start() {
    // And those of the default relay: an entry of the file would win over them.
    obstacles_at_the_start(1, &[1, 2]);
}

#[test]
#[ignore = "takes long: tests/run-all"]
fn what_is_no_file_in_place_of_a_secret_costs_its_answers_at_the_start() {
    obstacles_at_the_start(2, &[2]);
}

#[test]
fn what_is_no_file_in_place_of_the_settings_is_no_start() {
    for (obstacle, make) in OBSTACLES {
        let setup = setup();
        exchange(&path_of(&setup, SETTINGS), make);
        let finished = setup.listen("socketmap:inet:127.0.0.1:0").serve_until_exit();
        assert_eq!(finished.code, Some(78), "with {obstacle}: {finished:?}");
        assert!(
            finished.stderr.contains(SETTINGS),
            "with {obstacle}: {finished:?}"
        );
    }
}

/// A number of the process's status, in KiB.
fn status(daemon: &Daemon, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':')
        .trim_end_matches("kB")
        .trim()
        .parse()
        .unwrap()
}

#[test]
fn a_file_of_more_than_4_gib_costs_neither_time_nor_memory() {
    let daemon = Daemon::start(setup());
    let before = status(&daemon, "VmHWM");
    observe(&daemon, &QUESTIONS, |observer| {
        observer.wait_for(&answers([0; 4]));
        for subject in SUBJECTS {
            let seen = daemon.log_lines();
            let path = path_of(&daemon.setup(), subject);
            let begun = Instant::now();
            exchange(&path, |path| sparse(path, 5 << 30));
            daemon.wait_for_log_after(seen, |line| line.contains("ERROR") && line.contains(subject));
            let took = begun.elapsed();
            assert!(took < Duration::from_secs(3), "{subject}: {took:?}");
            exchange(&path, |path| fs::write(path, text(subject, 0)).unwrap());
        }
        several_polls(&daemon);
        assert_eq!(observer.answers(), [answers([0; 4])]);
    });
    let grown = status(&daemon, "VmHWM").saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB more");
}

/// A user without any right of his own, and a copy of the program that he may start.
fn unprivileged(setup: Setup) -> Setup {
    let program = setup.root().join("postmapd");
    fs::copy(env!("CARGO_BIN_EXE_postmapd"), &program).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
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

/// Forbids one file after the other while the server runs. `forbid` makes it unreadable, `mend` readable again.
fn forbidden_while_running(forbid: impl Fn(&Path), mend: impl Fn(&Path)) {
    let daemon = Daemon::start(unprivileged(setup()));
    observe(&daemon, &QUESTIONS, |observer| {
        observer.wait_for(&answers([0; 4]));
        for subject in SUBJECTS {
            let path = path_of(&daemon.setup(), subject);
            let seen = daemon.log_lines();
            forbid(&path);
            let line = daemon.wait_for_log_after(seen, |line| {
                line.contains("ERROR") && line.contains("ermission denied")
            });
            let folder = path.parent().unwrap().to_str().unwrap();
            assert!(line.contains(folder), "where? {line}");
            several_polls(&daemon);
            let log = daemon.log();
            let said = log
                .lines()
                .skip(seen)
                .filter(|line| line.contains(subject))
                .count();
            assert!(said <= 1, "said at each poll:\n{log}");
            let seen = daemon.log_lines();
            mend(&path);
            daemon.wait_for_log_after(seen, |line| line.contains("again"));
        }
        assert_eq!(observer.answers(), [answers([0; 4])]);
        // It lives.
        daemon.replace(RELAYMAP, text(RELAYMAP, 1));
        observer.wait_for(&answers([1, 0, 0, 0]));
    });
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_file_that_may_no_longer_be_read_changes_nothing() {
    forbidden_while_running(|path| allow(path, 0), |path| allow(path, 0o644));
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_folder_that_may_no_longer_be_entered_changes_nothing() {
    forbidden_while_running(
        |path| allow(path.parent().unwrap(), 0),
        |path| allow(path.parent().unwrap(), 0o755),
    );
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_new_file_that_may_not_be_read_changes_nothing_until_it_may() {
    let daemon = Daemon::start(unprivileged(setup()));
    observe(&daemon, &QUESTIONS, |observer| {
        observer.wait_for(&answers([0; 4]));
        let mut state = [0; 4];
        let mut expected = vec![answers(state)];
        for (n, subject) in SUBJECTS.into_iter().enumerate() {
            let path = path_of(&daemon.setup(), subject);
            let seen = daemon.log_lines();
            exchange(&path, |path| {
                fs::write(path, text(subject, 1)).unwrap();
                allow(path, 0o600);
            });
            daemon.wait_for_log_after(seen, |line| {
                line.contains("ERROR") && line.contains(subject) && line.contains("ermission denied")
            });
            several_polls(&daemon);
            assert_eq!(errors(&daemon, seen, subject).len(), 1, "{}", daemon.log());
            assert_eq!(observer.answers(), expected);
            allow(&path, 0o644);
            state[n] = 1;
            observer.wait_for(&answers(state));
            expected.push(answers(state));
        }
        assert_eq!(observer.answers(), expected);
    });
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_folder_that_may_not_be_entered_at_the_start_answers_nothing_until_it_may() {
    let setup = setup();
    allow(setup.dir(), 0);
    // The settings are not in it, so that they are known.
    let settings = setup.root().join("settings");
    fs::write(&settings, text(SETTINGS, 0)).unwrap();
    let dir = setup.dir().to_path_buf();
    let daemon = Daemon::start(unprivileged(setup.arg("--config").arg(settings)));
    observe(&daemon, &QUESTIONS, |observer| {
        several_polls(&daemon);
        let before = observer.answers();
        assert!(before.iter().flatten().all(Reply::is_cannot_tell), "{before:?}");
        let log = daemon.log();
        for map in ["relayhost", "sasl"] {
            let said = log
                .lines()
                .filter(|line| line.contains("ERROR") && line.contains(map));
            assert_eq!(said.count(), 1, "{log}");
        }
        allow(&dir, 0o755);
        observer.wait_for(&answers([0; 4]));
        assert_eq!(observer.answers().len(), 2, "{:?}", observer.answers());
    });
}

#[test]
fn a_file_in_place_of_the_folder_changes_nothing() {
    let daemon = Daemon::start(setup());
    observe(&daemon, &QUESTIONS, |observer| {
        observer.wait_for(&answers([0; 4]));
        let away = daemon.root().join("away");
        let seen = daemon.log_lines();
        fs::rename(daemon.dir(), &away).unwrap();
        fs::write(daemon.dir(), "").unwrap();
        daemon.wait_for_log_after(seen, |line| line.contains("ERROR"));
        several_polls(&daemon);
        let seen = daemon.log_lines();
        several_polls(&daemon);
        assert_eq!(daemon.log_lines(), seen, "said at each poll:\n{}", daemon.log());
        fs::write(away.join(RELAYMAP), text(RELAYMAP, 1)).unwrap();
        fs::remove_file(daemon.dir()).unwrap();
        fs::rename(&away, daemon.dir()).unwrap();
        observer.wait_for(&answers([1, 0, 0, 0]));
        assert_eq!(observer.answers(), [answers([0; 4]), answers([1, 0, 0, 0])]);
    });
}

#[test]
fn every_error_of_both_files_is_said_once_and_again_to_whoever_asks() {
    let daemon = Daemon::start(setup());
    let wrong = [
        (
            RELAYMAP,
            "@a.test [a\n@one.test [one.test]\n@b.test [b.test]:0\n",
            [1, 3],
        ),
        (
            CREDENTIALS,
            "# passwords\n@a.test nocolon\n@b.test\x01 b:b\n",
            [2, 3],
        ),
    ];
    observe(&daemon, &QUESTIONS, |observer| {
        observer.wait_for(&answers([0; 4]));
        let mut seen = daemon.log_lines();
        for (name, text, _) in wrong {
            daemon.replace(name, text);
        }
        for round in 0..3 {
            if round > 0 {
                seen = daemon.log_lines();
                daemon.hangup();
            }
            for (name, _, rows) in wrong {
                for row in rows {
                    daemon.wait_for_log_after(seen, |line| names_place(line, name, row));
                }
            }
            several_polls(&daemon);
            let log = daemon.log();
            for (name, _, rows) in wrong {
                for row in rows {
                    let said = log.lines().skip(seen).filter(|line| names_place(line, name, row));
                    assert_eq!(said.count(), 1, "{name}:{row} is to be said once:\n{log}");
                }
            }
        }
        // An edit that mends one of four errors says nothing that is known.
        let seen = daemon.log_lines();
        daemon.replace(RELAYMAP, "@a.test [a\n@one.test [one.test]\n@b.test [b.test]\n");
        daemon.wait_for_log_after(seen, |line| line.contains("errors=3"));
        assert_eq!(errors(&daemon, seen, ".cf:").len(), 0, "{}", daemon.log());
        // Mended one after the other, they count when the last one is.
        daemon.replace(RELAYMAP, text(RELAYMAP, 1));
        observer.wait_for_rounds(60);
        daemon.replace(CREDENTIALS, text(CREDENTIALS, 1));
        observer.wait_for(&answers([1, 1, 0, 0]));
        assert_eq!(observer.answers(), [answers([0; 4]), answers([1, 1, 0, 0])]);
    });
}

/// Two senders at the ends of a table with so much in between that writing it takes a while.
const ENDS: [(&str, &str); 2] = [("relayhost", "ann@first.test"), ("relayhost", "ann@last.test")];

fn long_table(n: usize) -> String {
    let mut text = format!("@first.test {}\n", relay(n));
    for k in 0..20_000 {
        writeln!(text, "@d{k}.test [x.test]").unwrap();
    }
    text + &format!("@last.test {}\n", relay(n))
}

/// Saves a long table again and again, without a pause, while somebody asks for both of its ends.
fn changes_while_it_is_read(save: impl Fn(&Daemon, &str) + Sync) {
    let daemon = Daemon::start(Setup::new().relaymap(long_table(0)).settings(QUICK));
    let saving = AtomicBool::new(true);
    thread::scope(|scope| {
        scope.spawn(|| {
            let begun = Instant::now();
            let mut n = 1;
            while begun.elapsed() < Duration::from_millis(1500) {
                save(&daemon, &long_table(n));
                n += 1;
            }
            save(&daemon, &long_table(9999));
            saving.store(false, Ordering::Relaxed);
        });
        observe(&daemon, &ENDS, |observer| {
            eventually(|| saving.load(Ordering::Relaxed), |saving| !saving);
            observer.wait_for(&[Reply::Found(relay(9999)), Reply::Found(relay(9999))]);
            for pair in observer.answers() {
                assert!(
                    matches!(pair[0], Reply::Found(_)),
                    "the first is missing: {pair:?}"
                );
                assert_eq!(pair[0], pair[1], "half of one, half of another");
            }
        });
    });
}

#[test]
fn a_file_written_in_place_again_and_again_is_never_answered_half() {
    changes_while_it_is_read(|daemon, text| fs::write(daemon.dir().join(RELAYMAP), text).unwrap());
}

#[test]
fn a_table_that_was_empty_for_a_moment_is_not_believed_because_judging_the_other_took_long() {
    let credentials = |n: usize| {
        (0..150_000).fold(String::new(), |mut text, k| {
            writeln!(text, "user{k}@d.test u:p{n}").unwrap();
            text
        })
    };
    let setup = Setup::new().relaymap(text(RELAYMAP, 0)).settings(QUICK);
    let daemon = Daemon::start(setup.credentials(credentials(0)));
    let question = [("relayhost", "x@one.test")];
    observe(&daemon, &question, |observer| {
        let seen = daemon.log_lines();
        let next = credentials(1);
        daemon.replace(CREDENTIALS, next);
        fs::write(daemon.dir().join(RELAYMAP), "").unwrap();
        // The reading has begun by then, and the credentials are not judged yet.
        thread::sleep(Duration::from_millis(150));
        daemon.replace(RELAYMAP, text(RELAYMAP, 0));
        daemon.wait_for_log_after(seen, |line| line.contains("loaded generation=2"));
        observer.wait_for_rounds(60);
        assert_eq!(
            observer.answers().len(),
            1,
            "{:?}\n{}",
            observer.answers(),
            daemon.log()
        );
    });
}

#[test]
fn a_file_replaced_again_and_again_is_never_answered_half() {
    changes_while_it_is_read(|daemon, text| daemon.replace(RELAYMAP, text));
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_file_written_in_small_pieces_again_and_again_is_never_answered_half() {
    changes_while_it_is_read(|daemon, text| {
        let mut file = File::create(daemon.dir().join(RELAYMAP)).unwrap();
        for piece in text.as_bytes().chunks(4096) {
            file.write_all(piece).unwrap();
        }
    });
}

#[test]
fn a_writer_that_does_not_close_is_waited_for_up_to_patience() {
    let daemon = Daemon::start(setup());
    let patience = Duration::from_secs(1);
    daemon.replace(SETTINGS, text(SETTINGS, 0) + "patience = 1\n");
    daemon.wait_for_log(|line| line.contains("loaded generation=2"));
    observe(&daemon, &QUESTIONS, |observer| {
        observer.wait_for(&answers([0; 4]));
        let begun = Instant::now();
        let mut file = File::create(daemon.dir().join(RELAYMAP)).unwrap();
        file.write_all(text(RELAYMAP, 1).as_bytes()).unwrap();
        let live = observer.wait_for(&answers([1, 0, 0, 0]));
        assert!(live >= begun + patience, "after {:?}", live - begun);
        assert!(live < begun + 4 * patience, "after {:?}", live - begun);
        // What the same writer adds later is no less live.
        file.write_all(b"@three.test [three.test]\n").unwrap();
        let mut expected = answers([1, 0, 0, 0]);
        expected[5] = Reply::found("[three.test]");
        observer.wait_for(&expected);
        assert_eq!(
            observer.answers(),
            [answers([0; 4]), answers([1, 0, 0, 0]), expected]
        );
    });
}

#[test]
fn a_file_that_is_open_for_writing_is_not_read_half_when_somebody_asks_to_read_again() {
    // Whoever sends SIGHUP need not be the one who writes.
    let daemon = Daemon::start(setup());
    observe(&daemon, &QUESTIONS, |observer| {
        observer.wait_for(&answers([0; 4]));
        let text = text(RELAYMAP, 1);
        let (one, other) = text.split_at(text.len() / 2);
        let mut file = File::create(daemon.dir().join(RELAYMAP)).unwrap();
        file.write_all(one.as_bytes()).unwrap();
        observer.wait_for_rounds(60);
        daemon.hangup();
        observer.wait_for_rounds(100);
        file.write_all(other.as_bytes()).unwrap();
        drop(file);
        observer.wait_for(&answers([1, 0, 0, 0]));
        assert_eq!(observer.answers(), [answers([0; 4]), answers([1, 0, 0, 0])]);
    });
}

/// The grace of the tests that measure it.
const GRACE: Duration = Duration::from_millis(600);

/// Longer than any test.
const LONG: Duration = Duration::from_secs(600);

fn with_grace(grace: Duration) -> Setup {
    Setup::new()
        .relaymap(table(0))
        .credentials("login.test user0:secret0\n")
        .settings(format!(
            "[reload]\npoll = 0.02\nin_flight = 0\ngrace = {}\n",
            grace.as_secs_f64()
        ))
}

const SENDERS: [(&str, &str); 3] = [
    ("relayhost", "ann@one.test"),
    ("relayhost", "ann@two.test"),
    ("sasl", "login.test"),
];

/// The answers with these numbers of the relay map and the credentials; `None` where that file has no entry.
fn pair(map: Option<usize>, credentials: Option<usize>) -> Vec<Reply> {
    vec![
        map.map_or(Reply::NotFound, |n| Reply::Found(relay(n))),
        map.map_or(Reply::NotFound, |_| Reply::found("[two.test]")),
        credentials.map_or(Reply::NotFound, |n| Reply::Found(format!("user{n}:secret{n}"))),
    ]
}

/// Fails unless the table that `act` takes away is there during the grace, and gone soon after it.
#[track_caller]
fn gone_after_grace(gone: &[Reply], act: impl FnOnce(&Daemon), meanwhile: impl Fn(&Daemon, &Observer)) {
    let daemon = Daemon::start(with_grace(GRACE));
    observe(&daemon, &SENDERS, |observer| {
        observer.wait_for(&pair(Some(0), Some(0)));
        let begun = Instant::now();
        act(&daemon);
        meanwhile(&daemon, observer);
        let believed = observer.wait_for(gone);
        assert!(believed >= begun + GRACE, "after {:?}", believed - begun);
        assert!(believed < begun + 5 * GRACE, "after {:?}", believed - begun);
        assert_eq!(observer.answers(), [pair(Some(0), Some(0)), gone.to_vec()]);
        // And a table that comes back is live.
        daemon.replace(RELAYMAP, table(2));
        daemon.replace(CREDENTIALS, "login.test user2:secret2\n");
        observer.wait_for(&pair(Some(2), Some(2)));
    });
}

#[test]
fn a_removed_relay_map_is_empty_after_the_grace_and_not_before() {
    gone_after_grace(
        &pair(None, Some(0)),
        |daemon| fs::remove_file(daemon.dir().join(RELAYMAP)).unwrap(),
        |_, _| {},
    );
}

#[test]
fn a_table_cut_to_nothing_counts_after_the_grace_and_not_before() {
    gone_after_grace(
        &pair(None, Some(0)),
        |daemon| drop(File::create(daemon.dir().join(RELAYMAP)).unwrap()),
        |_, _| {},
    );
    gone_after_grace(
        &pair(Some(0), None),
        |daemon| daemon.replace(CREDENTIALS, ""),
        |_, _| {},
    );
}

#[test]
fn a_table_of_comments_alone_counts_at_once() {
    let daemon = Daemon::start(with_grace(LONG));
    observe(&daemon, &SENDERS, |observer| {
        observer.wait_for(&pair(Some(0), Some(0)));
        daemon.replace(RELAYMAP, "# nobody goes by a relay today\n");
        observer.wait_for(&pair(None, Some(0)));
        fs::write(daemon.dir().join(CREDENTIALS), "# nobody\n\n# at all\n").unwrap();
        observer.wait_for(&pair(None, None));
    });
}

#[test]
fn a_reload_that_is_asked_for_gives_a_missing_table_the_same_grace() {
    gone_after_grace(
        &pair(None, Some(0)),
        |daemon| fs::remove_file(daemon.dir().join(RELAYMAP)).unwrap(),
        |daemon, observer| {
            for _ in 0..3 {
                observer.wait_for_rounds(30);
                daemon.hangup();
            }
            daemon.wait_for_log(|line| line.contains(RELAYMAP) && line.contains("missing or empty"));
        },
    );
}

#[test]
fn a_removed_folder_is_not_an_empty_one_however_long_it_lasts() {
    let daemon = Daemon::start(with_grace(GRACE));
    observe(&daemon, &SENDERS, |observer| {
        observer.wait_for(&pair(Some(0), Some(0)));
        let begun = Instant::now();
        fs::remove_dir_all(daemon.dir()).unwrap();
        daemon.wait_for_log(|line| line.contains("ERROR"));
        eventually(|| begun.elapsed(), |waited| *waited > 2 * GRACE);
        assert_eq!(observer.answers(), [pair(Some(0), Some(0))]);
        // Nor does SIGHUP make it one.
        let seen = daemon.log_lines();
        daemon.hangup();
        daemon.wait_for_log_after(seen, |line| line.contains("ERROR"));
        fs::create_dir(daemon.dir()).unwrap();
        fs::write(daemon.dir().join(CREDENTIALS), "login.test user1:secret1\n").unwrap();
        observer.wait_for_rounds(100);
        fs::write(daemon.dir().join(RELAYMAP), table(1)).unwrap();
        observer.wait_for(&pair(Some(1), Some(1)));
        assert_eq!(
            observer.answers(),
            [pair(Some(0), Some(0)), pair(Some(1), Some(1))]
        );
    });
}

/// A server whose log goes wherever a test sends it, so that nobody learns its port from it.
struct Unheard {
    child: Child,
    setup: Setup,
    socket: PathBuf,
}

impl Unheard {
    fn start(within: &[&str], stderr: Stdio) -> Self {
        let setup = Setup::new()
            .relaymap(table(0))
            .credentials("login.test user0:secret0\n")
            .within(within);
        let socket = setup.root().join("socket");
        let child = setup
            .command("serve")
            .arg("--listen")
            .arg(format!("socketmap:unix:{}", socket.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let unheard = Self { child, setup, socket };
        eventually(
            || UnixStream::connect(&unheard.socket).is_ok(),
            |connected| *connected,
        );
        // It listens before it reads, and answers afterwards.
        let first = unheard.client().ask("relayhost", "ann@one.test");
        assert_eq!(first, Reply::Found(relay(0)));
        unheard
    }

    fn client(&self) -> Socketmap {
        Socketmap {
            stream: Stream::connect(self.socket.to_str().unwrap()),
        }
    }

    fn replace(&self, text: &str) {
        let new = self.setup.root().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, self.setup.dir().join(RELAYMAP)).unwrap();
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status();
        assert!(status.unwrap().success());
    }

    /// Edits, good and bad, and a signal, each of which would be a line of the log; then the end.
    fn goes_on(mut self) {
        let mut client = self.client();
        let mut asked = 0;
        let mut wait_for = |n: usize| {
            eventually(
                || client.ask("relayhost", "ann@one.test"),
                |reply| *reply == Reply::Found(relay(n)),
            );
            asked += 1;
        };
        wait_for(0);
        self.replace(&table(1));
        wait_for(1);
        for n in 2..5 {
            self.replace("@one.test [relay\n@two.test two words more:x\n");
            self.signal("HUP");
            wait_for(n - 1);
            self.replace(&table(n));
            wait_for(n);
        }
        let mut another = self.client();
        assert_eq!(another.ask("relayhost", "ann@one.test"), Reply::Found(relay(4)));
        assert_eq!(another.ask("sasl", "login.test"), Reply::found("user0:secret0"));
        self.signal("TERM");
        let ended = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(ended.elapsed() < DEADLINE, "it does not end");
            thread::sleep(Duration::from_millis(1));
        };
        assert_eq!(status.code(), Some(0), "{status}");
    }
}

impl Drop for Unheard {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn a_log_on_a_full_disk_stops_nothing() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    Unheard::start(&[], full.into()).goes_on();
}

#[test]
fn a_log_that_is_closed_from_the_start_stops_nothing() {
    let within = ["sh", "-c", "exec \"$@\" 2>&-", "sh"];
    Unheard::start(&within, Stdio::null()).goes_on();
}

#[test]
fn a_log_whose_reader_went_away_stops_nothing() {
    let mut unheard = Unheard::start(&[], Stdio::piped());
    drop(unheard.child.stderr.take());
    unheard.goes_on();
}

#[test]
fn a_log_that_nobody_reads_holds_up_no_lookup() {
    let mut unheard = Unheard::start(&[], Stdio::piped());
    let mut client = unheard.client();
    // More errors than a pipe holds, in several versions.
    for n in 0..8 {
        let mut text = String::new();
        for k in 0..500 {
            writeln!(text, "@k{k}n{n}.test [relay").unwrap();
        }
        unheard.replace(&text);
        for _ in 0..100 {
            assert_eq!(client.ask("relayhost", "ann@one.test"), Reply::Found(relay(0)));
            thread::sleep(Duration::from_millis(1));
        }
        unheard.signal("HUP");
    }
    assert_eq!(
        unheard.client().ask("relayhost", "ann@one.test"),
        Reply::Found(relay(0))
    );
    // It was as full as a pipe can be.
    let mut log = vec![0; 65536];
    unheard
        .child
        .stderr
        .as_mut()
        .unwrap()
        .read_exact(&mut log)
        .unwrap();
    // And when somebody reads again, everything goes on.
    let mut stderr = unheard.child.stderr.take().unwrap();
    let reader = thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
    unheard.replace(&table(1));
    eventually(
        || client.ask("relayhost", "ann@one.test"),
        |reply| *reply == Reply::Found(relay(1)),
    );
    drop(unheard);
    drop(reader.join());
}

#[test]
fn files_that_were_touched_all_through_the_start_count_when_that_ends() {
    let setup = Setup::new()
        .relaymap("@one.test [one.test]\n")
        .credentials("")
        .settings(QUICK);
    let path = setup.dir().join(RELAYMAP);
    let starting = AtomicBool::new(true);
    thread::scope(|scope| {
        let touching = scope.spawn(|| {
            // The content is the same all the time: only the time of the file moves. The kernel reports that as
            // writing, which ends when the file is closed.
            let file = File::options().write(true).open(path).unwrap();
            while starting.load(Ordering::Relaxed) {
                file.set_modified(SystemTime::now()).unwrap();
                // More often than a reading takes that looks whether a fresh file stays as it is, and not so often
                // that the kernel drops events.
                thread::sleep(Duration::from_millis(1));
            }
        });
        let daemon = Daemon::try_start(setup);
        starting.store(false, Ordering::Relaxed);
        touching.join().unwrap();
        let daemon = daemon.unwrap();
        let mut client = Socketmap::to(&daemon, 0);
        eventually(
            || client.ask("relayhost", "ann@one.test"),
            |reply| *reply == Reply::found("[one.test]"),
        );
    });
}
