//! Promise: an edit is live without a signal, on connections that stay open, and a bad edit is not.
//!
//! "Live" means within half a second. A machine that is busy with other tests may be late once, but not three times.

use crate::harness::client::{Both, Reply, Socketmap};
use crate::harness::daemon::{CREDENTIALS, Daemon, RELAYMAP, Setup};
use crate::harness::{eventually, names_place};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

pub(crate) const LIVE: Duration = Duration::from_millis(500);

pub(crate) fn relay(n: usize) -> String {
    format!("[relay{n}.test]:587")
}

pub(crate) fn table(n: usize) -> String {
    format!("# generation {n}\n@one.test {}\n@two.test [two.test]\n", relay(n))
}

pub(crate) fn setup() -> Setup {
    Setup::new()
        .relaymap(table(0))
        .credentials("login.test user0:secret0\n@two.test two:secret\n")
}

/// Tries an edit three times, each with the next generation, and asks on one connection all the while.
///
/// Every answer on the way is the old or the new one, and the other entry is never away.
pub(crate) fn edits_are_live(daemon: &Daemon, mut edit: impl FnMut(usize)) {
    let mut client = Socketmap::to(daemon, 0);
    let old = client.ask("relayhost", "ann@one.test");
    let mut late = Vec::new();
    let mut before = old;
    for generation in 1..=3 {
        let wanted = Reply::Found(relay(generation));
        edit(generation);
        let edited = Instant::now();
        loop {
            let replies = client.ask_all(&[("relayhost", "ann@one.test"), ("relayhost", "ann@two.test")]);
            let took = edited.elapsed();
            assert_eq!(
                replies[1],
                Reply::found("[two.test]"),
                "an entry that nobody touched"
            );
            if replies[0] == wanted {
                if took > LIVE {
                    late.push(took);
                }
                break;
            }
            assert_eq!(replies[0], before, "neither the old answer nor the new one");
            assert!(
                took < Duration::from_secs(15),
                "the edit does not go live; the log:\n{}",
                daemon.log()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        before = wanted;
    }
    assert!(late.len() < 3, "live after {late:?}");
}

#[test]
fn a_file_renamed_over_the_old_one_is_live() {
    let daemon = Daemon::start(setup());
    edits_are_live(&daemon, |n| daemon.replace(RELAYMAP, table(n)));
}

#[test]
fn a_file_written_in_place_is_live_and_never_seen_half() {
    let daemon = Daemon::start(setup());
    edits_are_live(&daemon, |n| {
        fs::write(daemon.dir().join(RELAYMAP), table(n)).unwrap();
    });
}

/// Writes a table with its one entry missing, and lets go of the file only after `meanwhile`.
fn write_in_two_steps(daemon: &Daemon, n: usize, meanwhile: impl FnOnce()) {
    let mut file = File::create(daemon.dir().join(RELAYMAP)).unwrap();
    file.write_all(b"@two.test [two.test]\n").unwrap();
    meanwhile();
    file.write_all(format!("@one.test {}\n", relay(n)).as_bytes())
        .unwrap();
}

#[test]
fn a_file_that_is_still_open_for_writing_is_not_read_half() {
    let daemon = Daemon::start(setup());
    let mut client = Socketmap::to(&daemon, 0);
    // A first edit, so that the server is past its start.
    daemon.replace(
        RELAYMAP,
        "@two.test [two.test]\n@one.test [relay0.test]:587\n# edited\n",
    );
    daemon.wait_for_log(|line| line.contains("generation=2"));
    edits_are_live(&daemon, |n| {
        write_in_two_steps(&daemon, n, || {
            let opened = Instant::now();
            while opened.elapsed() < Duration::from_millis(600) {
                assert_eq!(
                    client.ask("relayhost", "ann@one.test"),
                    Reply::Found(relay(n - 1))
                );
                std::thread::sleep(Duration::from_millis(1));
            }
        });
    });
}

#[test]
fn a_file_that_somebody_begins_to_write_at_the_start_is_not_read_half() {
    // The server says that it listens, and looks at its files once more: several tries to meet that moment.
    for _ in 0..8 {
        let daemon = Daemon::start(setup());
        let mut client = Socketmap::to(&daemon, 0);
        write_in_two_steps(&daemon, 1, || {
            for _ in 0..40 {
                assert_eq!(client.ask("relayhost", "ann@one.test"), Reply::Found(relay(0)));
            }
        });
        eventually(
            || client.ask("relayhost", "ann@one.test"),
            |reply| *reply == Reply::Found(relay(1)),
        );
    }
}

#[test]
fn a_file_deleted_and_created_again_is_live_and_never_missed() {
    let daemon = Daemon::start(setup());
    edits_are_live(&daemon, |n| {
        fs::remove_file(daemon.dir().join(RELAYMAP)).unwrap();
        fs::write(daemon.dir().join(RELAYMAP), table(n)).unwrap();
    });
}

#[test]
fn lines_appended_are_live() {
    let daemon = Daemon::start(setup());
    let mut client = Socketmap::to(&daemon, 0);
    for n in 0..3 {
        let key = format!("new{n}@three.test");
        assert_eq!(client.ask("relayhost", &key), Reply::NotFound);
        let mut file = File::options()
            .append(true)
            .open(daemon.dir().join(RELAYMAP))
            .unwrap();
        file.write_all(format!("{key} {}\n", relay(n)).as_bytes())
            .unwrap();
        drop(file);
        eventually(
            || client.ask("relayhost", &key),
            |reply| *reply == Reply::Found(relay(n)),
        );
        assert_eq!(client.ask("relayhost", "ann@one.test"), Reply::Found(relay(0)));
    }
}

#[test]
fn an_edit_by_sed_is_live() {
    let daemon = Daemon::start(setup());
    edits_are_live(&daemon, |n| {
        let script = format!("s/relay{}/relay{n}/", n - 1);
        let status = Command::new("sed")
            .arg("-i")
            .arg(script)
            .arg(daemon.dir().join(RELAYMAP))
            .status()
            .unwrap();
        assert!(status.success());
    });
}

#[test]
fn a_file_with_an_older_time_and_the_same_size_is_live() {
    let daemon = Daemon::start(setup());
    edits_are_live(&daemon, |n| {
        let new = daemon.dir().join("new");
        fs::write(&new, table(n)).unwrap();
        let past = SystemTime::now() - Duration::from_secs(86_400);
        File::options()
            .write(true)
            .open(&new)
            .unwrap()
            .set_modified(past)
            .unwrap();
        fs::rename(new, daemon.dir().join(RELAYMAP)).unwrap();
    });
}

/// Points a symbolic link elsewhere in one step, as Kubernetes does.
pub(crate) fn repoint(link: &Path, target: &Path) {
    let new = link.with_file_name("..new");
    symlink(target, &new).unwrap();
    fs::rename(new, link).unwrap();
}

#[test]
fn a_symbolic_link_to_another_file_is_live() {
    let setup = setup();
    let elsewhere = setup.root().to_path_buf();
    fs::write(elsewhere.join("table0"), table(0)).unwrap();
    repoint(&setup.dir().join(RELAYMAP), &elsewhere.join("table0"));
    let daemon = Daemon::start(setup);
    edits_are_live(&daemon, |n| {
        let target = elsewhere.join(format!("table{n}"));
        fs::write(&target, table(n)).unwrap();
        repoint(&daemon.dir().join(RELAYMAP), &target);
    });
}

#[test]
fn the_target_of_a_symbolic_link_is_live() {
    let setup = setup();
    let target = setup.root().join("target");
    fs::write(&target, table(0)).unwrap();
    repoint(&setup.dir().join(RELAYMAP), &target);
    let daemon = Daemon::start(setup);
    edits_are_live(&daemon, |n| {
        if n == 2 {
            fs::write(&target, table(n)).unwrap();
        } else {
            let new = target.with_extension("new");
            fs::write(&new, table(n)).unwrap();
            fs::rename(new, &target).unwrap();
        }
    });
}

/// Both files of a generation, in a folder of their own.
pub(crate) fn version(dir: &Path, n: usize) {
    let folder = dir.join(format!("..version{n}"));
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join(RELAYMAP), table(n)).unwrap();
    fs::write(
        folder.join(CREDENTIALS),
        format!("login.test user{n}:secret{n}\n"),
    )
    .unwrap();
}

/// A folder as Kubernetes mounts one: both files are links through `..data`, and that is a link to a version.
pub(crate) fn mounted() -> Setup {
    let setup = Setup::new();
    version(setup.dir(), 0);
    symlink("..version0", setup.dir().join("..data")).unwrap();
    for name in [RELAYMAP, CREDENTIALS] {
        symlink(Path::new("..data").join(name), setup.dir().join(name)).unwrap();
    }
    setup
}

#[test]
fn a_swapped_folder_link_is_live() {
    let daemon = Daemon::start(mounted());
    edits_are_live(&daemon, |n| {
        version(daemon.dir(), n);
        repoint(&daemon.dir().join("..data"), Path::new(&format!("..version{n}")));
        fs::remove_dir_all(daemon.dir().join(format!("..version{}", n - 1))).unwrap();
    });
}

#[test]
fn a_swap_of_the_whole_folder_is_live() {
    let outer = Setup::new();
    let link = outer.root().join("link");
    version(outer.root(), 0);
    symlink("..version0", &link).unwrap();
    let daemon = Daemon::start(Setup::in_folder(&link));
    edits_are_live(&daemon, |n| {
        version(outer.root(), n);
        repoint(&link, Path::new(&format!("..version{n}")));
    });
}

#[test]
fn a_burst_of_swaps_never_pairs_a_relay_with_another_generations_password() {
    let daemon = Daemon::start(mounted());
    let (last, flips_each) = (30, 100);
    for n in 1..=last {
        version(daemon.dir(), n);
    }
    let swap = |n| repoint(&daemon.dir().join("..data"), Path::new(&format!("..version{n}")));
    let flipping = AtomicBool::new(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1..=last {
                // To and fro, so that a reading that takes its files one after the other meets a swap in between.
                for _ in 0..flips_each {
                    swap(n - 1);
                    swap(n);
                }
                // A rest now and then, so that what is watched for is not only looked at on request.
                std::thread::sleep(Duration::from_millis(n as u64 % 3 * 20));
            }
            flipping.store(false, Ordering::Relaxed);
        });
        scope.spawn(|| {
            while flipping.load(Ordering::Relaxed) {
                daemon.hangup();
            }
        });
        let mut client = Socketmap::to(&daemon, 0);
        let mut seen = BTreeSet::new();
        let mut ended = None;
        loop {
            let pair = client.ask_all(&[("relayhost", "ann@one.test"), ("sasl", "login.test")]);
            let generation = generation(&pair[0]);
            let password = Reply::Found(format!("user{generation}:secret{generation}"));
            assert_eq!(pair[1], password, "beside the relay of generation {generation}");
            seen.insert(generation);
            if !flipping.load(Ordering::Relaxed) {
                if generation == last {
                    break;
                }
                let since = *ended.get_or_insert_with(Instant::now);
                assert!(
                    since.elapsed() < Duration::from_secs(15),
                    "the last one does not come: {seen:?}"
                );
            }
        }
        assert!(seen.len() > 3, "nothing was seen of the burst: {seen:?}");
    });
}

/// The n of `[relayn.test]:587`.
pub(crate) fn generation(reply: &Reply) -> usize {
    let Reply::Found(value) = reply else {
        panic!("no relay: {reply:?}")
    };
    value
        .trim_start_matches("[relay")
        .trim_end_matches(".test]:587")
        .parse()
        .unwrap()
}

#[test]
fn a_removed_file_becomes_an_empty_table_after_a_while() {
    let daemon = Daemon::start(setup());
    let mut client = Socketmap::to(&daemon, 0);
    fs::remove_file(daemon.dir().join(RELAYMAP)).unwrap();
    // Not at once: the one who deletes may be about to create.
    let replies = client.ask_all(&[("relayhost", "ann@one.test"); 50]);
    assert!(replies.iter().all(|reply| *reply == Reply::Found(relay(0))));
    eventually(
        || client.ask("relayhost", "ann@one.test"),
        |reply| *reply == Reply::NotFound,
    );
}

#[test]
fn files_that_appear_are_live() {
    let daemon = Daemon::start(Setup::new());
    let mut client = Socketmap::to(&daemon, 0);
    assert_eq!(client.ask("relayhost", "ann@one.test"), Reply::NotFound);
    daemon.replace(RELAYMAP, table(0));
    eventually(
        || client.ask("relayhost", "ann@one.test"),
        |reply| *reply == Reply::Found(relay(0)),
    );
    fs::write(daemon.dir().join(CREDENTIALS), "login.test user:secret\n").unwrap();
    eventually(
        || client.ask("sasl", "login.test"),
        |reply| *reply == Reply::found("user:secret"),
    );
}

#[test]
fn a_file_with_an_error_leaves_the_last_good_snapshot_and_says_where() {
    let (daemon, mut clients) = Both::start(setup());
    for (bad, row) in [
        ("@one.test [relay9.test]:587\n@two.test [relay9\n", 2),
        (
            "# comment\n\n@one.test [relay9.test]:587\n@two.test [relay9.test]:0\n",
            4,
        ),
        (
            "@one.test [relay9.test]:587\n\"ann smith@one.test [relay9.test]\n",
            2,
        ),
        ("@one.test [relay9.test]\x02\n", 1),
    ] {
        let seen = daemon.log_lines();
        daemon.replace(RELAYMAP, bad);
        daemon.wait_for_log_after(seen, |line| names_place(line, RELAYMAP, row));
        assert_eq!(clients.relayhost("ann@one.test"), Reply::Found(relay(0)));
        assert_eq!(clients.relayhost("ann@two.test"), Reply::found("[two.test]"));
        assert_eq!(clients.relayhost("ann@three.test"), Reply::NotFound);
        assert_eq!(clients.sasl("login.test"), Reply::found("user0:secret0"));
    }
    daemon.replace(RELAYMAP, table(1));
    eventually(
        || clients.socketmap.ask("relayhost", "ann@one.test"),
        |reply| *reply == Reply::Found(relay(1)),
    );
}

#[test]
fn credentials_with_an_error_leave_the_last_good_snapshot_of_both_files() {
    let (daemon, mut clients) = Both::start(setup());
    let seen = daemon.log_lines();
    daemon.replace(CREDENTIALS, "login.test user1:secret1\n@two.test nocolon\n");
    daemon.wait_for_log_after(seen, |line| names_place(line, CREDENTIALS, 2));
    // The good relay map beside it waits: its passwords are the ones that are not there yet.
    daemon.replace(RELAYMAP, table(1));
    let seen = daemon.log_lines();
    daemon.hangup();
    daemon.wait_for_log_after(seen, |line| names_place(line, CREDENTIALS, 2));
    assert_eq!(clients.sasl("login.test"), Reply::found("user0:secret0"));
    assert_eq!(clients.relayhost("ann@one.test"), Reply::Found(relay(0)));
    daemon.replace(CREDENTIALS, "login.test user1:secret1\n");
    eventually(
        || clients.socketmap.ask("sasl", "login.test"),
        |reply| *reply == Reply::found("user1:secret1"),
    );
    assert_eq!(clients.relayhost("ann@one.test"), Reply::Found(relay(1)));
}

#[test]
fn a_file_that_can_no_longer_be_read_leaves_the_last_good_snapshot() {
    let (daemon, mut clients) = Both::start(setup());
    let path = daemon.dir().join(RELAYMAP);
    let seen = daemon.log_lines();
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    daemon.wait_for_log_after(seen, |line| line.contains(RELAYMAP));
    assert_eq!(clients.relayhost("ann@one.test"), Reply::Found(relay(0)));
    assert_eq!(clients.sasl("login.test"), Reply::found("user0:secret0"));
    fs::remove_dir(&path).unwrap();
    fs::write(&path, table(1)).unwrap();
    eventually(
        || clients.socketmap.ask("relayhost", "ann@one.test"),
        |reply| *reply == Reply::Found(relay(1)),
    );
}

#[test]
fn holes_of_the_start_close_when_the_file_is_repaired() {
    let (daemon, mut clients) = Both::start(Setup::new().relaymap("@one.test [relay\n"));
    assert!(clients.relayhost("ann@one.test").is_cannot_tell());
    daemon.wait_for_log(|line| names_place(line, RELAYMAP, 1));
    daemon.replace(RELAYMAP, table(1));
    eventually(
        || clients.socketmap.ask("relayhost", "ann@one.test"),
        |reply| *reply == Reply::Found(relay(1)),
    );
}

#[test]
fn hangup_reads_again() {
    let (daemon, mut clients) = Both::start(setup());
    daemon.replace(RELAYMAP, "@one.test [relay\n");
    daemon.wait_for_log(|line| names_place(line, RELAYMAP, 1));
    for _ in 0..2 {
        // Nothing has changed, and yet it looks.
        let seen = daemon.log_lines();
        daemon.hangup();
        daemon.wait_for_log_after(seen, |line| names_place(line, RELAYMAP, 1));
    }
    assert_eq!(clients.relayhost("ann@one.test"), Reply::Found(relay(0)));
}

#[test]
fn a_reload_is_one_line_and_a_lookup_is_none() {
    let (daemon, mut clients) = Both::start(setup());
    for n in 1..4 {
        let seen = daemon.log_lines();
        daemon.replace(RELAYMAP, table(n));
        eventually(
            || clients.socketmap.ask("relayhost", "ann@one.test"),
            |reply| *reply == Reply::Found(relay(n)),
        );
        let line = daemon.wait_for_log_after(seen, |line| line.contains("generation"));
        for word in ["entries", "warnings", "duration"] {
            assert!(line.contains(word), "no {word} in {line}");
        }
        for _ in 0..100 {
            clients.relayhost("ann@one.test");
            clients.sasl("nobody@nowhere.test");
        }
        // The first round may still see lines of the start.
        let log = daemon.log();
        let new: Vec<&str> = log.lines().skip(seen).collect();
        assert!(new.len() == 1 || n == 1, "{new:?}");
    }
}

#[test]
fn secret_files_are_live_too() {
    let setup = Setup::new();
    let (host, password) = (setup.root().join("host"), setup.root().join("password"));
    fs::write(&host, "first.test\n").unwrap();
    fs::write(&password, "secret1\n").unwrap();
    let (_daemon, mut clients) = Both::start(
        setup
            .env("RELAY_HOST_FILE", &host)
            .env("RELAY_USER", "user")
            .env("RELAY_PASSWORD__FILE", &password),
    );
    assert_eq!(clients.relayhost("ann@one.test"), Reply::found("[first.test]:25"));
    assert_eq!(clients.sasl("[first.test]:25"), Reply::found("user:secret1"));

    fs::write(&password, "secret2\n").unwrap();
    eventually(
        || clients.socketmap.ask("sasl", "[first.test]:25"),
        |reply| *reply == Reply::found("user:secret2"),
    );

    let new = host.with_extension("new");
    fs::write(&new, "second.test\n").unwrap();
    fs::rename(&new, &host).unwrap();
    eventually(
        || clients.socketmap.ask("relayhost", "ann@one.test"),
        |reply| *reply == Reply::found("[second.test]:25"),
    );
    assert_eq!(clients.sasl("[second.test]:25"), Reply::found("user:secret2"));
    // Mail may be on its way there.
    let reply = clients.sasl("[first.test]:25");
    assert!(matches!(reply, Reply::CannotTell(_)), "{reply:?}");
}

#[test]
fn a_secret_file_that_appears_is_live() {
    let setup = Setup::new();
    let password = setup.root().join("password");
    let (_daemon, mut clients) = Both::start(
        setup
            .env("RELAY_HOST", "default.test")
            .env("RELAY_USER", "user")
            .env("RELAY_PASSWORD_FILE", &password),
    );
    assert!(clients.sasl("[default.test]:25").is_cannot_tell());
    fs::write(&password, "secret\n").unwrap();
    eventually(
        || clients.socketmap.ask("sasl", "[default.test]:25"),
        |reply| *reply == Reply::found("user:secret"),
    );
}

#[test]
fn a_secret_file_that_goes_leaves_the_last_good_value() {
    let setup = Setup::new();
    let password = setup.root().join("password");
    fs::write(&password, "secret\n").unwrap();
    let (daemon, mut clients) = Both::start(
        setup
            .env("RELAY_HOST", "default.test")
            .env("RELAY_USER", "user")
            .env("RELAY_PASSWORD_FILE", &password),
    );
    let seen = daemon.log_lines();
    fs::remove_file(&password).unwrap();
    daemon.wait_for_log_after(seen, |line| {
        line.contains("RELAY_PASSWORD") || line.contains("password")
    });
    assert_eq!(clients.sasl("[default.test]:25"), Reply::found("user:secret"));
}
