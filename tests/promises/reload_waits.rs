//! Promise: the server waits for a file that is missing, empty, open for writing or always changing. It delays edits of
//! other files for no more than a moment, and logs what does not take effect yet. A missing table only takes effect in
//! time, whatever is requested; and no pair is torn.
//!
//! `src/source/decision/tests.rs` tests the orders of events.

use crate::harness::admin::Admin;
use crate::harness::client::{Reply, Socketmap};
use crate::harness::daemon::{CREDENTIALS, DEADLINE, Daemon, RELAYMAP, SETTINGS, Setup};
use crate::harness::eventually;
use crate::harness::versions::{
    EVENTS_ONLY, PASSWORD, answers, link_through_data, repoint, setup, text, with_versions,
};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

const SENDER: &str = "ann@one.test";

/// Repeats something until `act` has ended.
fn repeatedly_during<R>(something: impl Fn() + Send + Sync, act: impl FnOnce() -> R) -> R {
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
            }
        });
        act()
    })
}

#[test]
fn a_file_touched_continuously_or_held_open_delays_no_other_file() {
    let pace = "poll_interval = 1";
    let (daemon, admin) = Admin::start(setup(pace));
    let waits = [
        (RELAYMAP, "changes faster than it can be read"),
        (PASSWORD, "open for writing"),
    ];
    let about = |line: &str, (file, why): (&str, &str)| line.contains(file) && line.contains(why);
    with_versions(&daemon, pace, |versions| {
        let mut held = File::options()
            .append(true)
            .open(versions.path(PASSWORD))
            .unwrap();
        held.write_all(b"x").unwrap();
        let map = versions.path(RELAYMAP);
        let touch = || {
            let file = File::options().write(true).open(&map).unwrap();
            file.set_modified(SystemTime::now()).unwrap();
            thread::sleep(Duration::from_millis(3));
        };
        repeatedly_during(touch, || {
            thread::sleep(Duration::from_millis(300));
            versions.replace_with_next(CREDENTIALS);
            versions.replace_with_next(SETTINGS);
            // The busy files keep their active content. The writer timeout would end much later.
            versions.wait_for_numbers([0, 1, 0, 1], "two files beside busy ones");
            for wait in waits {
                daemon.wait_for_log(|line| about(line, wait));
            }
            // On a busy machine the touched file may have a quiet moment.
            eventually(
                || admin.get("/readyz"),
                |ready| {
                    let is_named = |wait: &(&str, &str)| ready.body.lines().any(|line| about(line, *wait));
                    ready.code == 503 && waits.iter().all(is_named)
                },
            );
            let failed = "postmapd_reloads_total{outcome=\"failed\"}";
            assert!(admin.metrics().value(failed) >= 1.0);
        });
        for file in [RELAYMAP, PASSWORD] {
            versions.replace_with_next(file);
            versions.wait_for_numbers(versions.next(&[file]), file);
        }
        eventually(|| admin.get("/readyz").code, |code| *code == 200);
    });
    let log = daemon.log();
    for wait in waits {
        assert_eq!(log.lines().filter(|line| about(line, wait)).count(), 1, "{log}");
    }
}

#[test]
fn a_file_open_for_writing_is_read_on_close_or_after_the_writer_timeout() {
    let pace = "poll_interval = 600\nwriter_timeout = 600";
    let daemon = Daemon::start(setup(pace));
    with_versions(&daemon, pace, |versions| {
        let text = versions.next_text(RELAYMAP);
        let (one, other) = text.split_at(text.len() / 2);
        let mut file = File::create(versions.path(RELAYMAP)).unwrap();
        file.write_all(one.as_bytes()).unwrap();
        versions.pause("half a file");
        // SIGHUP may come from another program than the writer.
        daemon.hangup();
        versions.pause("half a file and a request");
        file.write_all(other.as_bytes()).unwrap();
        drop(file);
        versions.wait_for_numbers([1, 0, 0, 0], "it is closed");
    });
    let pace = "poll_interval = 600\nwriter_timeout = 0.5";
    let timeout = Duration::from_millis(500);
    let daemon = Daemon::start(setup(pace));
    with_versions(&daemon, pace, |versions| {
        let begun = Instant::now();
        let mut file = File::create(versions.path(RELAYMAP)).unwrap();
        file.write_all(versions.next_text(RELAYMAP).as_bytes()).unwrap();
        let live = versions.wait_for_numbers([1, 0, 0, 0], "it is not closed");
        assert!(live >= begun + timeout, "after {:?}", live - begun);
        // What the same program appends later takes effect too.
        file.write_all(b"@three.test [three.test]\n").unwrap();
        let mut appended = answers([1, 0, 0, 0]);
        appended[5] = Reply::found("[three.test]");
        versions.wait_for(appended, "it goes on");
    });
}

#[test]
fn a_file_being_written_at_startup_is_not_read_partially() {
    // The server announces its listener, and then checks its files once more: several tries to hit that moment.
    for _ in 0..8 {
        let daemon = Daemon::start(setup(EVENTS_ONLY));
        let text = text(RELAYMAP, 1, "");
        let (one, other) = text.split_at(text.len() / 2);
        let mut file = File::create(daemon.dir().join(RELAYMAP)).unwrap();
        file.write_all(one.as_bytes()).unwrap();
        with_versions(&daemon, EVENTS_ONLY, |versions| {
            versions.pause("half a file");
            file.write_all(other.as_bytes()).unwrap();
            drop(file);
            versions.wait_for_numbers([1, 0, 0, 0], "it is closed");
        });
    }
}

type Act = fn(&Path) -> io::Result<()>;

/// Ways to lose a file, and the requests that get a default answer once that takes effect.
const LOSSES: [(&str, Act, &[usize]); 4] = [
    (RELAYMAP, |path| fs::remove_file(path), &[0, 3, 4]),
    (CREDENTIALS, |path| File::create(path).map(drop), &[1]),
    (RELAYMAP, |path| File::create(path).map(drop), &[0, 3, 4]),
    // The settings file comes last, because the grace setting is in it.
    (SETTINGS, |path| fs::remove_file(path), &[3]),
];

#[test]
fn a_removed_or_emptied_file_takes_effect_only_after_the_empty_grace() {
    let pace = "poll_interval = 0.02\nin_flight = 0\nempty_grace = 0.4";
    let grace = Duration::from_millis(400);
    let daemon = Daemon::start(setup(pace));
    with_versions(&daemon, pace, |versions| {
        // A secret is required: without its file, the last one is kept.
        let seen = daemon.log_lines();
        fs::remove_file(versions.path(PASSWORD)).unwrap();
        let gone = Instant::now();
        daemon.wait_for_log_after(seen, |line| line.contains("ERROR") && line.contains(PASSWORD));
        eventually(|| gone.elapsed(), |waited| *waited > 2 * grace);
        versions.are_still_active(PASSWORD);
        versions.replace_with_next(PASSWORD);
        versions.wait_for_numbers([0, 0, 1, 0], PASSWORD);

        for (file, act, requests) in LOSSES {
            let seen = daemon.log_lines();
            let mut without = answers(versions.numbers);
            for request in requests {
                without[*request] = match file {
                    RELAYMAP => Reply::found("[default.test]:25"),
                    CREDENTIALS => Reply::NotFound,
                    _ => Reply::found("[two.test]"),
                };
            }
            let begun = Instant::now();
            act(&versions.path(file)).unwrap();
            for _ in 0..3 {
                versions.observer.wait_for_rounds(20);
                daemon.hangup();
            }
            daemon.wait_for_log_after(seen, |line| {
                line.contains(file) && line.contains("missing or empty")
            });
            let believed = versions.wait_for(without, file);
            assert!(believed >= begun + grace, "{file}: after {:?}", believed - begun);
            versions.replace_with_next(file);
            versions.wait_for_numbers(versions.next(&[file]), file);
        }
    });
}

/// Begins to write a file, and keeps it open.
fn hold_open(daemon: &Daemon, name: &str) -> File {
    let mut file = File::create(daemon.dir().join(name)).unwrap();
    file.write_all(b"# begins\n").unwrap();
    file
}

const MOVED: &str = "@one.test [two.test]\n@still.test [one.test]\n";

fn with_two_domains(in_flight: u32) -> (Daemon, Socketmap) {
    let setup = Setup::new()
        .relaymap("@one.test [one.test]\n@still.test [one.test]\n")
        .credentials("@one.test old:secret\n@still.test still:secret\n");
    let daemon =
        Daemon::start(setup.settings(format!("[reload]\npoll_interval = 1\nin_flight = {in_flight}\n")));
    let client = Socketmap::to(&daemon, 0);
    (daemon, client)
}

/// The requests of smtp(8) at a next hop, up to the one it gets an answer to.
fn login_at(client: &mut Socketmap, next_hop: &str) -> Reply {
    let host = next_hop.trim_matches(['[', ']']);
    let mut replies = [SENDER, host, next_hop]
        .map(|key| client.query("sasl", key))
        .into_iter();
    replies
        .find(|reply| *reply != Reply::NotFound)
        .unwrap_or(Reply::NotFound)
}

/// Waits for both files: the new login at the new relay, and the old one at the old relay for mail in flight.
fn wait_for_pair(client: &mut Socketmap, in_flight: u32) {
    eventually(
        || login_at(client, "[two.test]"),
        |reply| *reply == Reply::found("new:secret"),
    );
    assert_eq!(client.query("relayhost", SENDER), Reply::found("[two.test]"));
    if in_flight > 0 {
        assert_eq!(login_at(client, "[one.test]"), Reply::found("old:secret"));
    }
}

fn sender_moves_while_credentials_are_written(in_flight: u32) {
    let (daemon, mut client) = with_two_domains(in_flight);
    let mut file = hold_open(&daemon, CREDENTIALS);
    daemon.replace(RELAYMAP, MOVED);
    eventually(
        || client.query("relayhost", SENDER),
        |reply| *reply == Reply::found("[two.test]"),
    );
    let reply = login_at(&mut client, "[two.test]");
    assert!(reply.is_cannot_tell(), "{reply:?}");
    assert_eq!(
        client.query("sasl", "bob@still.test"),
        Reply::found("still:secret")
    );
    file.write_all(b"@one.test new:secret\n@still.test still:secret\n")
        .unwrap();
    drop(file);
    wait_for_pair(&mut client, in_flight);
}

fn sender_gets_a_login_while_the_relay_map_is_written(in_flight: u32) {
    let (daemon, mut client) = with_two_domains(in_flight);
    let mut file = hold_open(&daemon, RELAYMAP);
    daemon.replace(CREDENTIALS, "@one.test new:secret\n");
    eventually(
        || client.query("sasl", "bob@still.test"),
        |reply| *reply == Reply::NotFound,
    );
    let reply = login_at(&mut client, "[one.test]");
    assert!(reply.is_cannot_tell(), "{reply:?}");
    file.write_all(MOVED.as_bytes()).unwrap();
    drop(file);
    wait_for_pair(&mut client, in_flight);
}

#[test]
fn while_one_table_is_written_no_login_is_answered_that_may_belong_to_another_relay() {
    thread::scope(|scope| {
        for in_flight in [0, 900] {
            scope.spawn(move || sender_moves_while_credentials_are_written(in_flight));
            scope.spawn(move || sender_gets_a_login_while_the_relay_map_is_written(in_flight));
        }
    });
}

/// Both tables of one version, long enough that reading them takes some time.
fn version(dir: &Path, name: &str) {
    fs::create_dir(dir).unwrap();
    let filler = "# so that it takes a while to read\n".repeat(3000);
    fs::write(dir.join(RELAYMAP), format!("{filler}@one.test [{name}.test]\n")).unwrap();
    fs::write(dir.join(CREDENTIALS), format!("@one.test {name}:secret\n")).unwrap();
    // Each version moves the sender, and the login is requested only by sender.
    fs::write(dir.join(SETTINGS), "[reload]\nin_flight = 0\n").unwrap();
}

/// Sends requests while `race` repeatedly replaces one version by the other: every pair is of one version. It takes
/// `seconds`, and continues until there were hundreds of pairs and, if `are_seen`, both versions have been observed.
fn no_pair_is_torn(daemon: &Daemon, seconds: u64, are_seen: bool, race: impl Fn() + Send + Sync) {
    let request = || {
        daemon.hangup();
        thread::sleep(Duration::from_millis(5));
    };
    let pairs = ["a", "b"].map(|name| {
        [
            Reply::Found(format!("[{name}.test]")),
            Reply::Found(format!("{name}:secret")),
        ]
    });
    let query = || {
        let mut client = Socketmap::to(daemon, 0);
        let (begun, mut counts) = (Instant::now(), [0; 2]);
        while begun.elapsed() < Duration::from_secs(seconds)
            || counts[0] + counts[1] <= 250
            || are_seen && counts.contains(&0)
        {
            assert!(begun.elapsed() < DEADLINE, "{counts:?}");
            let pair = client.query_all(&[("relayhost", SENDER), ("sasl", SENDER)]);
            let version = pairs.iter().position(|whole| *whole == pair[..]);
            counts[version.unwrap_or_else(|| panic!("a torn pair: {pair:?}"))] += 1;
        }
    };
    repeatedly_during(race, || repeatedly_during(request, query));
}

#[test]
fn a_burst_of_swaps_never_pairs_a_relay_with_another_generations_password() {
    let setup = Setup::new();
    let volume = setup.dir().to_owned();
    version(&volume.join("..a"), "a");
    version(&volume.join("..b"), "b");
    let swap = |name| repoint(&volume.join("..data"), name);
    swap("..a");
    link_through_data(&volume, &[RELAYMAP, CREDENTIALS, SETTINGS]);
    let daemon = Daemon::start(setup);
    no_pair_is_torn(&daemon, 2, true, || {
        for last in ["..a", "..b"] {
            // Back and forth, so that a load that reads its files one after the other overlaps with a swap.
            for _ in 0..50 {
                swap("..a");
                swap("..b");
            }
            swap(last);
            // A pause, so that either version is read.
            thread::sleep(Duration::from_millis(100));
        }
    });
}

/// A directory with the version `a`, and another with `b`.
fn two_versions() -> (Setup, PathBuf, PathBuf) {
    let setup = Setup::new();
    let (dir, other) = (setup.dir().to_owned(), setup.root().join("other"));
    fs::remove_dir(&dir).unwrap();
    version(&dir, "a");
    version(&other, "b");
    (setup, dir, other)
}

#[test]
#[ignore = "takes long: tests/run-all"]
fn a_directory_exchanged_and_exchanged_back_gives_no_torn_pair() {
    let (setup, dir, other) = two_versions();
    let daemon = Daemon::start(setup);
    let exchange = || renameat2(AT_FDCWD, &dir, AT_FDCWD, &other, RenameFlags::RENAME_EXCHANGE).unwrap();
    no_pair_is_torn(&daemon, 4, false, || {
        exchange();
        thread::sleep(Duration::from_micros(300));
        exchange();
        thread::sleep(Duration::from_micros(700));
    });
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_mount_moved_over_the_directory_and_back_gives_no_torn_pair() {
    let (setup, dir, other) = two_versions();
    let away = setup.root().join("away");
    fs::create_dir(&away).unwrap();
    // A mount with a shared parent cannot be moved.
    let daemon = Daemon::start(setup.within(["unshare", "--mount", "--propagation", "private"]));
    let script = "set -e; mount --bind \"$1\" \"$2\"; while [ ! -e \"$4\" ]; do mount --move \"$2\" \"$3\"; mount --move \"$3\" \"$2\"; done";
    let stop = daemon.root().join("stop");
    let mut race = Command::new("nsenter")
        .arg("--mount")
        .arg(format!("--target={}", daemon.pid()))
        .args(["sh", "-c", script, "sh"])
        .args([&other, &away, &dir, &stop])
        .spawn()
        .unwrap();
    no_pair_is_torn(&daemon, 4, false, || thread::sleep(Duration::from_millis(1)));
    fs::write(&stop, "").unwrap();
    assert!(race.wait().unwrap().success());
}
