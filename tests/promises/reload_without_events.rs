//! Promise: where no event comes, a poll by content finds the change, and the log says once that it polls; a file
//! server that fails, hangs or lies costs no answer.
//!
//! The file server is the test itself ([`RemoteFolder`]). An overlay, the other file system without events, is the
//! kernel's.

use crate::harness::client::{Reply, Socketmap};
use crate::harness::daemon::{CREDENTIALS, DEADLINE, Daemon, RELAYMAP, SETTINGS, Setup};
use crate::harness::eventually;
use crate::harness::observer::{Observer, observe};
use crate::harness::remote_folder::{EIO, ESTALE, Remote, RemoteFolder};
use crate::live_reload::{relay, table};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const SENDERS: [(&str, &str); 3] = [
    ("relayhost", "ann@one.test"),
    ("relayhost", "ann@two.test"),
    ("sasl", "login.test"),
];

fn versions(map: usize, credentials: usize) -> Vec<Reply> {
    vec![
        Reply::Found(relay(map)),
        Reply::found("[two.test]"),
        Reply::Found(format!("user{credentials}:secret{credentials}")),
    ]
}

fn credentials(n: usize) -> String {
    format!("login.test user{n}:secret{n}\n")
}

fn settings(grace: f64) -> String {
    format!("[reload]\npoll = 0.05\ngrace = {grace}\n")
}

/// Mounts a folder with the first version over that of a running server, and acts when that is answered.
fn on_a_file_server(grace: f64, act: impl FnOnce(&Daemon, &RemoteFolder, &Observer)) {
    let setup = Setup::new().settings(settings(grace));
    // The folder is dropped after the daemon that has mounted it.
    let folder;
    let daemon = Daemon::start(setup.within(RemoteFolder::WITHIN));
    let files = [
        (RELAYMAP, table(0)),
        (CREDENTIALS, credentials(0)),
        (SETTINGS, settings(grace)),
    ];
    folder = RemoteFolder::mount(&daemon, &files);
    let mut client = Socketmap::to(&daemon, 0);
    eventually(
        || client.ask("relayhost", "ann@one.test"),
        |reply| *reply == Reply::Found(relay(0)),
    );
    observe(&daemon, &SENDERS, |observer| {
        observer.wait_for(&versions(0, 0));
        act(&daemon, &folder, observer);
    });
    // Whatever hangs would hold up the end of the daemon.
    folder.hang(false);
}

/// Waits until the files were read several times more.
fn several_readings(folder: &RemoteFolder) {
    let before = folder.reads();
    // Three files, and the end of each is a read of its own.
    eventually(|| folder.reads(), |now| *now > before + 30);
}

fn errors(daemon: &Daemon, seen: usize) -> Vec<String> {
    let log = daemon.log();
    let lines = log.lines().skip(seen);
    lines
        .filter(|line| line.contains("ERROR") && line.contains(".cf"))
        .map(ToOwned::to_owned)
        .collect()
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn changes_on_a_file_server_are_found_by_a_poll_and_the_log_says_so_once() {
    on_a_file_server(5.0, |daemon, folder, observer| {
        for n in 1..4 {
            let saved = Instant::now();
            folder.change(|files| {
                files.insert(RELAYMAP.to_owned(), Remote::of(&table(n), n as u64 + 1));
                files.insert(CREDENTIALS.to_owned(), Remote::of(&credentials(n), n as u64 + 1));
            });
            let took = observer
                .wait_for(&versions(n, n))
                .saturating_duration_since(saved);
            assert!(took < Duration::from_secs(2), "found after {took:?}");
        }
        several_readings(folder);
        assert_eq!(
            observer.answers(),
            (0..4).map(|n| versions(n, n)).collect::<Vec<_>>()
        );
        let log = daemon.log();
        let said: Vec<_> = log.lines().filter(|line| line.contains("polling")).collect();
        assert_eq!(said.len(), 1, "{log}");
        assert!(
            said[0].contains(daemon.dir().to_str().unwrap()),
            "where? {said:?}"
        );
    });
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_change_that_no_metadata_show_is_found_by_its_content() {
    // As a client of NFS sees it that keeps metadata for a while: the same length, the same time.
    on_a_file_server(5.0, |_, folder, observer| {
        folder.change(|files| files.get_mut(RELAYMAP).unwrap().text = table(1).into());
        observer.wait_for(&versions(1, 0));
        folder.change(|files| files.get_mut(CREDENTIALS).unwrap().text = credentials(2).into());
        observer.wait_for(&versions(1, 2));
    });
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_file_that_a_file_server_fails_to_read_changes_nothing_is_said_once_and_recovers() {
    type Fault = (&'static str, fn(&mut Remote));
    let faults: [Fault; 6] = [
        ("no metadata", |file| file.lookup_fails = Some(EIO)),
        ("a stale handle", |file| file.lookup_fails = Some(ESTALE)),
        ("not opened", |file| file.open_fails = Some(EIO)),
        ("nothing read", |file| file.read_fails = Some((0, EIO))),
        ("half of it read", |file| {
            file.text = format!("@one.test [half.test]\n{}", "#\n".repeat(150_000)).into();
            file.read_fails = Some((200_000, EIO));
        }),
        ("stale at the end", |file| file.read_fails = Some((0, ESTALE))),
    ];
    // No grace to speak of: what fails is not gone, however long it fails.
    on_a_file_server(0.1, |daemon, folder, observer| {
        let mut expected = vec![versions(0, 0)];
        let mut numbers = [0, 0];
        for (n, (fault, make)) in (1..).zip(faults) {
            for (which, name) in [RELAYMAP, CREDENTIALS].into_iter().enumerate() {
                let seen = daemon.log_lines();
                folder.change(|files| make(files.get_mut(name).unwrap()));
                daemon.wait_for_log_after(seen, |line| line.contains("ERROR") && line.contains(name));
                let failed = Instant::now();
                // Without metadata nothing is read: several polls by the clock.
                eventually(|| failed.elapsed(), |waited| *waited > Duration::from_millis(300));
                assert_eq!(errors(daemon, seen).len(), 1, "{fault}:\n{}", daemon.log());
                assert_eq!(observer.answers(), expected, "{fault} of {name}");
                numbers[which] = n;
                let text = if which == 0 { table(n) } else { credentials(n) };
                folder.change(|files| {
                    files.insert(name.to_owned(), Remote::of(&text, 100 + n as u64));
                });
                let now = versions(numbers[0], numbers[1]);
                observer.wait_for(&now);
                expected.push(now);
            }
        }
        assert_eq!(observer.answers(), expected);
    });
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_file_of_another_length_than_its_metadata_say_is_never_answered_half() {
    on_a_file_server(0.1, |_, folder, observer| {
        // Shorter than it should be, as if it were cut while it is read, and longer, as if it grew.
        for length in [1_000_000, 20] {
            folder.change(|files| {
                let file = files.get_mut(RELAYMAP).unwrap();
                file.text = table(7).into();
                file.length = Some(length);
                file.time += 1;
            });
            several_readings(folder);
            assert_eq!(observer.answers(), [versions(0, 0)], "{length}");
        }
        folder.save(RELAYMAP, &table(1));
        observer.wait_for(&versions(1, 0));
    });
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn files_that_change_between_one_and_the_other_are_read_again() {
    // Each time that the relay map has been read, both files become the next version, and so the credentials beside
    // it are of another one.
    on_a_file_server(5.0, |_, folder, observer| {
        let version = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&version);
        folder.after_read(move |files, name| {
            let n = counter.load(Ordering::Relaxed) + 1;
            if name == RELAYMAP && n <= 40 {
                counter.store(n, Ordering::Relaxed);
                files.insert(RELAYMAP.to_owned(), Remote::of(&table(n), n as u64 + 1));
                files.insert(CREDENTIALS.to_owned(), Remote::of(&credentials(n), n as u64 + 1));
            }
        });
        observer.wait_for(&versions(40, 40));
        for answers in observer.answers() {
            let n = crate::live_reload::generation(&answers[0]);
            assert_eq!(answers, versions(n, n));
        }
        assert_eq!(version.load(Ordering::Relaxed), 40);
    });
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_file_cut_to_nothing_on_a_file_server_is_not_believed_before_it_is_filled() {
    on_a_file_server(600.0, |_, folder, observer| {
        folder.save(RELAYMAP, "");
        several_readings(folder);
        folder.change(|files| drop(files.remove(RELAYMAP)));
        several_readings(folder);
        folder.save(RELAYMAP, &table(1));
        observer.wait_for(&versions(1, 0));
        assert_eq!(observer.answers(), [versions(0, 0), versions(1, 0)]);
    });
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_file_server_that_hangs_holds_up_no_lookup() {
    on_a_file_server(5.0, |daemon, folder, observer| {
        folder.hang(true);
        eventually(|| folder.waiting(), |waiting| *waiting > 0);
        folder.save(RELAYMAP, &table(1));
        daemon.hangup();
        observer.wait_for_rounds(200);
        // Nor a connection that is new.
        let begun = Instant::now();
        let mut client = Socketmap::to(daemon, 0);
        assert_eq!(client.ask("relayhost", "ann@one.test"), Reply::Found(relay(0)));
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        folder.hang(false);
        observer.wait_for(&versions(1, 0));
        assert_eq!(observer.answers(), [versions(0, 0), versions(1, 0)]);
    });
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_server_ends_although_its_file_server_hangs() {
    let setup = Setup::new().settings(settings(5.0));
    let folder;
    let mut daemon = Daemon::start(setup.within(RemoteFolder::WITHIN));
    folder = RemoteFolder::mount(&daemon, &[(RELAYMAP, table(0)), (SETTINGS, settings(5.0))]);
    let mut client = Socketmap::to(&daemon, 0);
    eventually(
        || client.ask("relayhost", "ann@one.test"),
        |reply| *reply == Reply::Found(relay(0)),
    );
    folder.hang(true);
    eventually(|| folder.waiting(), |waiting| *waiting > 0);
    daemon.signal("TERM");
    // The kernel lets nobody go whose call has no answer, but what the server can do it does: it takes no question
    // any more.
    drop(client);
    let begun = Instant::now();
    eventually(
        || std::net::TcpStream::connect(daemon.address(0)).is_err(),
        |refused| *refused,
    );
    assert!(begun.elapsed() < DEADLINE / 2);
    folder.hang(false);
    assert_eq!(daemon.wait_for_exit().code(), Some(0));
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_change_in_the_lower_layer_of_an_overlay_is_found_by_a_poll_and_the_log_says_so_once() {
    // What an image or a host changes below a running container shows, but nobody is told.
    let setup = Setup::new();
    let lower = setup.root().join("lower");
    for name in ["lower", "upper", "work"] {
        fs::create_dir(setup.root().join(name)).unwrap();
    }
    fs::write(lower.join(RELAYMAP), table(0)).unwrap();
    fs::write(lower.join(CREDENTIALS), credentials(0)).unwrap();
    fs::write(lower.join(SETTINGS), settings(5.0)).unwrap();
    // The upper layer of an overlay cannot be on any file system, but on a temporary one it always can.
    let script = "cd \"$1\" && mount -t tmpfs none upper && mkdir upper/u upper/w && \
                  mount -t overlay -o lowerdir=lower,upperdir=upper/u,workdir=upper/w none tables && \
                  shift && exec \"$@\"";
    let root = setup.root().to_str().unwrap().to_owned();
    let daemon = Daemon::start(setup.within(["unshare", "--mount", "sh", "-c", script, "sh", &root]));
    observe(&daemon, &SENDERS, |observer| {
        observer.wait_for(&versions(0, 0));
        fs::write(lower.join(RELAYMAP), table(1)).unwrap();
        observer.wait_for(&versions(1, 0));
        fs::write(lower.join(CREDENTIALS), credentials(2)).unwrap();
        observer.wait_for(&versions(1, 2));
        assert_eq!(
            observer.answers(),
            [versions(0, 0), versions(1, 0), versions(1, 2)]
        );
    });
    let log = daemon.log();
    assert_eq!(
        log.lines().filter(|line| line.contains("polling")).count(),
        1,
        "{log}"
    );
}
