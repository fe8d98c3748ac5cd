//! Promise: each file waits by itself. A file that is touched, emptied or held open again and again holds up no edit of
//! another for more than a moment, and what does not take effect is said; a reload that is asked for believes in no
//! missing table; and no pair is torn, whatever is exchanged above the directory, and exchanged back.

use crate::harness::admin::Admin;
use crate::harness::client::{Reply, Socketmap};
use crate::harness::daemon::{CREDENTIALS, Daemon, RELAYMAP, SETTINGS, Setup};
use crate::harness::eventually;
use crate::harness::observer::observe;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

const MAP: &str = "@one.test [one.test]\n";
const LOGIN: &str = "@one.test user:secret\n";
const REVOKED: &str = "# revoked\n";
const SENDER: &str = "ann@one.test";

fn setup() -> Setup {
    Setup::new()
        .relaymap(MAP)
        .credentials(LOGIN)
        .settings("[reload]\npoll = 1\ngrace = 5\n")
}

/// Does it every so often until `act` is done.
fn again_and_again<R>(every: Duration, something: impl Fn() + Send + Sync, act: impl FnOnce() -> R) -> R {
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(false, Ordering::Relaxed);
        }
    }
    let is_on = AtomicBool::new(true);
    thread::scope(|scope| {
        let _stop = Stop(&is_on);
        scope.spawn(|| {
            while is_on.load(Ordering::Relaxed) {
                something();
                thread::sleep(every);
            }
        });
        act()
    })
}

/// While this is done to a file every so often, a revoked password and a narrowed `allow_users` take effect, the log says
/// once what is waited for, and readiness is lost; afterwards all is well again.
fn holds_up_nothing_else(every: Duration, something: impl Fn(&Path) + Send + Sync, why: &str) {
    let (daemon, admin) = Admin::start(setup());
    let mut client = Socketmap::to(&daemon, 0);
    let map = daemon.dir().join(RELAYMAP);
    let is_about_it = |line: &&str| line.contains(RELAYMAP) && line.contains(why);
    again_and_again(
        every,
        || something(&map),
        || {
            thread::sleep(Duration::from_millis(300));
            let begun = Instant::now();
            daemon.replace(CREDENTIALS, REVOKED);
            eventually(|| client.ask("sasl", SENDER), |reply| *reply == Reply::NotFound);
            assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
            // What the busy file had is what it has.
            assert_eq!(client.ask("relayhost", SENDER), Reply::found("[one.test]"));
            daemon.replace(CREDENTIALS, LOGIN);
            eventually(
                || client.ask("sasl", SENDER),
                |reply| *reply == Reply::found("user:secret"),
            );
            let settings = fs::read_to_string(daemon.dir().join(SETTINGS)).unwrap();
            daemon.replace(SETTINGS, format!("allow_users = [\"4294967294\"]\n{settings}"));
            eventually(
                || Socketmap::to(&daemon, 0).ask("sasl", SENDER),
                |reply| matches!(reply, Reply::Refused(_)),
            );
            daemon.wait_for_log(|line| line.contains(RELAYMAP) && line.contains(why));
            eventually(|| admin.get("/readyz").code, |code| *code == 503);
            let ready = admin.get("/readyz").body;
            assert!(ready.lines().any(|line| is_about_it(&line)), "{ready}");
            assert!(
                admin
                    .metrics()
                    .value("postmapd_reloads_total{outcome=\"failed\"}")
                    >= 1.0
            );
        },
    );
    daemon.replace(RELAYMAP, "@one.test [two.test]\n");
    eventually(
        || client.ask("relayhost", SENDER),
        |reply| *reply == Reply::found("[two.test]"),
    );
    eventually(|| admin.get("/readyz").code, |code| *code == 200);
    let log = daemon.log();
    assert_eq!(log.lines().filter(is_about_it).count(), 1, "{log}");
}

#[test]
fn a_file_that_is_touched_all_the_time_holds_up_no_other() {
    holds_up_nothing_else(
        Duration::from_millis(3),
        |map| {
            let file = File::options().write(true).open(map).unwrap();
            file.set_modified(SystemTime::now()).unwrap();
        },
        "changes faster than it can be read",
    );
}

#[test]
#[ignore = "takes long: tests/run-all"]
fn a_file_that_is_emptied_again_and_again_holds_up_no_other() {
    holds_up_nothing_else(
        Duration::from_secs(3),
        |map| drop(File::create(map).unwrap()),
        "missing or empty",
    );
}

#[test]
fn a_file_that_is_held_open_holds_up_no_other() {
    let (daemon, admin) = Admin::start(setup());
    let mut client = Socketmap::to(&daemon, 0);
    let mut file = File::options()
        .append(true)
        .open(daemon.dir().join(RELAYMAP))
        .unwrap();
    std::io::Write::write_all(&mut file, b"@two").unwrap();
    daemon.replace(CREDENTIALS, REVOKED);
    let took = eventually(|| client.ask("sasl", SENDER), |reply| *reply == Reply::NotFound);
    assert!(took < Duration::from_secs(6), "{took:?}");
    daemon.wait_for_log(|line| line.contains(RELAYMAP) && line.contains("open for writing"));
    eventually(|| admin.get("/readyz").code, |code| *code == 503);
    std::io::Write::write_all(&mut file, b".test [two.test]\n").unwrap();
    drop(file);
    eventually(
        || client.ask("relayhost", "ann@two.test"),
        |reply| *reply == Reply::found("[two.test]"),
    );
    eventually(|| admin.get("/readyz").code, |code| *code == 200);
}

/// Holds a file open for writing, with more of it than a line.
fn hold_open(daemon: &Daemon, name: &str) -> File {
    let mut file = File::create(daemon.dir().join(name)).unwrap();
    std::io::Write::write_all(&mut file, b"# begins\n").unwrap();
    file
}

fn finish(mut file: File, text: &str) {
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
}

const TWO: &str = "@one.test [one.test]\n@still.test [one.test]\n";
const TWO_LOGINS: &str = "@one.test old:secret\n@still.test still:secret\n";

fn with_two_domains(in_flight: u32) -> (Daemon, Socketmap) {
    let settings = format!("[reload]\npoll = 1\nin_flight = {in_flight}\n");
    let setup = Setup::new().relaymap(TWO).credentials(TWO_LOGINS);
    let daemon = Daemon::start(setup.settings(settings));
    let client = Socketmap::to(&daemon, 0);
    (daemon, client)
}

/// What smtp(8) asks for at a next hop, and the answer on which it stops.
fn login_at(client: &mut Socketmap, next_hop: &str) -> Reply {
    let host = next_hop.trim_matches(['[', ']']);
    let mut replies = [SENDER, host, next_hop]
        .map(|key| client.ask("sasl", key))
        .into_iter();
    replies
        .find(|reply| *reply != Reply::NotFound)
        .unwrap_or(Reply::NotFound)
}

#[test]
fn a_move_while_the_credentials_are_written_shows_the_old_login_to_no_new_relay() {
    for in_flight in [0, 900] {
        let (daemon, mut client) = with_two_domains(in_flight);
        let file = hold_open(&daemon, CREDENTIALS);
        daemon.replace(RELAYMAP, "@one.test [two.test]\n@still.test [one.test]\n");
        eventually(
            || client.ask("relayhost", SENDER),
            |reply| *reply == Reply::found("[two.test]"),
        );
        let reply = login_at(&mut client, "[two.test]");
        assert!(matches!(reply, Reply::CannotTell(_)), "{reply:?}");
        assert_eq!(client.ask("sasl", "bob@still.test"), Reply::found("still:secret"));
        finish(file, "@one.test new:secret\n@still.test still:secret\n");
        eventually(
            || login_at(&mut client, "[two.test]"),
            |reply| *reply == Reply::found("new:secret"),
        );
        if in_flight > 0 {
            assert_eq!(login_at(&mut client, "[one.test]"), Reply::found("old:secret"));
        }
    }
}

#[test]
fn a_login_that_comes_while_the_relay_map_is_written_is_shown_to_no_old_relay() {
    for in_flight in [0, 900] {
        let (daemon, mut client) = with_two_domains(in_flight);
        let file = hold_open(&daemon, RELAYMAP);
        daemon.replace(CREDENTIALS, "@one.test new:secret\n");
        eventually(
            || client.ask("sasl", "bob@still.test"),
            |reply| *reply == Reply::NotFound,
        );
        let reply = login_at(&mut client, "[one.test]");
        assert!(matches!(reply, Reply::CannotTell(_)), "{reply:?}");
        finish(file, "@one.test [two.test]\n@still.test [one.test]\n");
        eventually(
            || login_at(&mut client, "[two.test]"),
            |reply| *reply == Reply::found("new:secret"),
        );
        assert_eq!(client.ask("relayhost", SENDER), Reply::found("[two.test]"));
        if in_flight > 0 {
            assert_eq!(login_at(&mut client, "[one.test]"), Reply::found("old:secret"));
        }
    }
}

#[test]
fn the_host_of_the_default_relay_waits_for_its_password_that_is_written() {
    let setup = Setup::new();
    let (host, password) = (setup.root().join("host"), setup.root().join("password"));
    fs::write(&host, "one.test\n").unwrap();
    fs::write(&password, "secret1\n").unwrap();
    let daemon = Daemon::start(
        setup
            .env("RELAY_HOST_FILE", &host)
            .env("RELAY_USER", "user")
            .env("RELAY_PASSWORD__FILE", &password),
    );
    let mut client = Socketmap::to(&daemon, 0);
    let mut file = File::create(&password).unwrap();
    std::io::Write::write_all(&mut file, b"sec").unwrap();
    let new = host.with_extension("new");
    fs::write(&new, "two.test\n").unwrap();
    fs::rename(&new, &host).unwrap();
    daemon.wait_for_log(|line| line.contains("password") && line.contains("open for writing"));
    assert_eq!(client.ask("relayhost", SENDER), Reply::found("[one.test]:25"));
    assert_eq!(client.ask("sasl", "[one.test]:25"), Reply::found("user:secret1"));
    finish(file, "ret2\n");
    eventually(
        || client.ask("relayhost", SENDER),
        |reply| *reply == Reply::found("[two.test]:25"),
    );
    assert_eq!(client.ask("sasl", "[two.test]:25"), Reply::found("user:secret2"));
}

#[test]
fn a_file_of_the_same_name_in_the_directory_above_holds_up_nothing() {
    let daemon = Daemon::start(setup());
    let mut client = Socketmap::to(&daemon, 0);
    let above = daemon.root().join(RELAYMAP);
    let file = File::create(&above).unwrap();
    let write = || std::io::Write::write_all(&mut &file, b"# not yours\n").unwrap();
    again_and_again(Duration::from_millis(1), write, || {
        for n in 0..5 {
            daemon.replace(RELAYMAP, format!("@one.test [n{n}.test]\n"));
            let expected = Reply::Found(format!("[n{n}.test]"));
            let took = eventually(|| client.ask("relayhost", SENDER), |reply| *reply == expected);
            assert!(took < Duration::from_millis(1500), "{took:?}");
        }
    });
}

#[test]
fn an_editor_that_deletes_and_creates_loses_no_table_to_reloads_in_between() {
    let daemon = Daemon::start(setup());
    observe(&daemon, &[("relayhost", SENDER), ("sasl", SENDER)], |observer| {
        for n in 0..15 {
            let path = daemon.dir().join(if n % 2 == 0 { CREDENTIALS } else { RELAYMAP });
            let text = fs::read(&path).unwrap();
            fs::remove_file(&path).unwrap();
            thread::sleep(Duration::from_millis(30));
            daemon.hangup();
            thread::sleep(Duration::from_millis(30));
            fs::write(&path, text).unwrap();
            daemon.hangup();
        }
        observer.wait_for_rounds(50);
        let whole = vec![Reply::found("[one.test]"), Reply::found("user:secret")];
        assert_eq!(observer.answers(), [whole]);
    });
}

/// Both tables of one version, long enough that reading them takes a while.
fn version(dir: &Path, name: &str) {
    use std::fmt::Write as _;
    fs::create_dir(dir).unwrap();
    let mut filler = String::new();
    for n in 0..3000 {
        writeln!(filler, "@filler{n}.test [filler.test]").unwrap();
    }
    fs::write(dir.join(RELAYMAP), format!("@one.test [{name}.test]\n{filler}")).unwrap();
    fs::write(dir.join(CREDENTIALS), format!("@one.test {name}:secret\n")).unwrap();
    // Each version moves the sender, and its login is asked for by sender alone.
    fs::write(dir.join(SETTINGS), "[reload]\nin_flight = 0\n").unwrap();
}

/// Asks while `race` makes one version of the other, again and again. Every pair is of one version, and both are seen.
fn no_pair_is_torn(daemon: &Daemon, race: impl Fn() + Send + Sync) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                race();
            }
        });
        let hangup = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                daemon.hangup();
                thread::sleep(Duration::from_millis(5));
            }
        });
        let mut client = Socketmap::to(daemon, 0);
        let begun = Instant::now();
        let (mut pairs, mut torn) = (0, Vec::new());
        while begun.elapsed() < Duration::from_secs(10) {
            let pair = client.ask_all(&[("relayhost", SENDER), ("sasl", SENDER)]);
            let is_one = ["a", "b"].iter().any(|name| {
                pair == [
                    Reply::Found(format!("[{name}.test]")),
                    Reply::Found(format!("{name}:secret")),
                ]
            });
            if !is_one {
                torn.push(pair);
            }
            pairs += 1;
        }
        done.store(true, Ordering::Relaxed);
        hangup.join().unwrap();
        assert!(torn.is_empty(), "{} of {pairs}: {:?}", torn.len(), torn.first());
        assert!(pairs > 1000, "{pairs}");
    });
}

#[test]
#[ignore = "takes long: tests/run-all"]
fn a_directory_that_is_exchanged_and_exchanged_back_gives_no_torn_pair() {
    let setup = Setup::new();
    let (dir, other) = (setup.dir().to_owned(), setup.root().join("other"));
    fs::remove_dir(&dir).unwrap();
    version(&dir, "a");
    version(&other, "b");
    let daemon = Daemon::start(setup);
    let exchange = || renameat2(AT_FDCWD, &dir, AT_FDCWD, &other, RenameFlags::RENAME_EXCHANGE).unwrap();
    no_pair_is_torn(&daemon, || {
        exchange();
        thread::sleep(Duration::from_micros(300));
        exchange();
        thread::sleep(Duration::from_micros(700));
    });
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_mount_that_is_moved_over_the_directory_and_moved_back_gives_no_torn_pair() {
    let setup = Setup::new();
    let (dir, other) = (setup.dir().to_owned(), setup.root().join("other"));
    fs::remove_dir(&dir).unwrap();
    version(&dir, "a");
    version(&other, "b");
    let away = setup.root().join("away");
    fs::create_dir(&away).unwrap();
    // A mount whose parent is shared cannot be moved.
    let daemon = Daemon::start(setup.within(["unshare", "--mount", "--propagation", "private"]));
    let script = "set -e; mount --bind \"$1\" \"$2\"; while [ ! -e \"$4\" ]; do mount --move \"$2\" \"$3\"; mount --move \"$3\" \"$2\"; done";
    let stop: PathBuf = daemon.root().join("stop");
    let mut race = Command::new("nsenter")
        .arg("--mount")
        .arg(format!("--target={}", daemon.pid()))
        .args(["sh", "-c", script, "sh"])
        .args([&other, &away, &dir, &stop])
        .spawn()
        .unwrap();
    no_pair_is_torn(&daemon, || thread::sleep(Duration::from_millis(1)));
    fs::write(&stop, "").unwrap();
    assert!(race.wait().unwrap().success());
}
