//! Promise: where no event comes, a poll by content finds the change, and the log says once that the server polls. A
//! file server that fails, hangs or returns wrong data costs no answer.
//!
//! The file server is simulated by the test ([`RemoteDirectory`]). The overlay, the other file system without events, is
//! the kernel's.

use crate::harness::client::{Reply, Socketmap};
use crate::harness::daemon::{CREDENTIALS, Daemon, RELAYMAP, Setup};
use crate::harness::eventually;
use crate::harness::remote_directory::{EIO, ESTALE, Remote, RemoteDirectory};
use crate::harness::versions::{
    EVENTS_ONLY, FILES, IN_DIRECTORY, Versions, answers, fill, relay, setup, text, with_default_relay,
    with_versions,
};
use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Mounts a directory with the first versions over that of a running server.
fn with_file_server(pace: &str, act: impl FnOnce(&mut Daemon, &RemoteDirectory)) {
    // The directory is dropped after the daemon that has mounted it.
    let directory;
    let setup = setup(pace).relaymap(text(RELAYMAP, 9, pace));
    let mut daemon = Daemon::start(setup.within(RemoteDirectory::WITHIN));
    directory = RemoteDirectory::mount(&daemon, &IN_DIRECTORY.map(|file| (file, text(file, 0, pace))));
    let mut client = Socketmap::to(&daemon, 0);
    eventually(
        || client.query("relayhost", "ann@one.test"),
        |reply| *reply == Reply::Found(relay(0)),
    );
    act(&mut daemon, &directory);
    // A hanging call would delay the end of the daemon.
    directory.hang(false);
}

/// Waits until the files were read several times more.
fn wait_for_reads(directory: &RemoteDirectory) {
    let before = directory.reads();
    // There are three files, and each ends in a separate read.
    eventually(|| directory.reads(), |now| *now > before + 18);
}

/// Fails unless the log mentions polling once, with these words.
#[track_caller]
fn logs_polling_once(daemon: &Daemon, words: &[&str]) {
    let log = daemon.log();
    let messages: Vec<_> = log.lines().filter(|line| line.contains("polling")).collect();
    assert_eq!(messages.len(), 1, "{log}");
    assert!(
        words.iter().all(|word| messages[0].contains(word)),
        "no {words:?}: {messages:?}"
    );
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn changes_on_a_file_server_are_found_by_a_poll_despite_stale_metadata_and_polling_is_logged_once() {
    let pace = "poll_interval = 0.05\nempty_grace = 600";
    with_file_server(pace, |daemon, directory| {
        with_versions(daemon, pace, |versions| {
            for _ in 0..3 {
                let saved = Instant::now();
                directory.save(RELAYMAP, &versions.next_text(RELAYMAP));
                directory.save(CREDENTIALS, &versions.next_text(CREDENTIALS));
                let effective_at =
                    versions.wait_for_numbers(versions.next(&[RELAYMAP, CREDENTIALS]), "both are saved");
                assert!(
                    effective_at < saved + Duration::from_secs(2),
                    "found after {:?}",
                    effective_at - saved
                );
            }
            // An NFS client that caches metadata shows the same size and the same time.
            for file in [RELAYMAP, CREDENTIALS] {
                directory.change(|files| files.get_mut(file).unwrap().text = versions.next_text(file).into());
                versions.wait_for_numbers(versions.next(&[file]), "the metadata stay");
            }
            // A file cut to zero bytes, or removed, does not take effect before it is filled.
            directory.save(RELAYMAP, "");
            wait_for_reads(directory);
            directory.change(|files| drop(files.remove(RELAYMAP)));
            wait_for_reads(directory);
            directory.save(RELAYMAP, &versions.next_text(RELAYMAP));
            versions.wait_for_numbers(versions.next(&[RELAYMAP]), "it is filled again");
        });
        logs_polling_once(daemon, &[daemon.dir().to_str().unwrap()]);
    });
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn files_that_change_while_they_are_read_are_read_again() {
    let pace = "poll_interval = 0.05";
    with_file_server(pace, |daemon, directory| {
        with_versions(daemon, pace, |versions| {
            // After each read of the relay map, both files become the next version. So the credentials read after it
            // are of another version.
            let version = Arc::new(AtomicUsize::new(0));
            let counter = Arc::clone(&version);
            directory.after_read(move |files, name| {
                let n = counter.load(Ordering::Relaxed) + 1;
                if name == RELAYMAP && n <= 40 {
                    counter.store(n, Ordering::Relaxed);
                    for file in [RELAYMAP, CREDENTIALS] {
                        files.insert(file.to_owned(), Remote::of(&text(file, n, ""), n as u64 + 1));
                    }
                }
            });
            versions.observer.wait_for(&answers([40, 40, 0, 0]));
            for seen in versions.observer.answers() {
                let n = crate::harness::versions::generation(&seen[0]);
                assert_eq!(seen, answers([n, n, 0, 0]));
            }
            assert_eq!(version.load(Ordering::Relaxed), 40);
        });
    });
}

type Fault = (&'static str, fn(&mut Remote));

/// The faults of a file server with one file.
const FAULTS: [Fault; 8] = [
    ("no metadata", |file| file.lookup_fails = Some(EIO)),
    ("a stale handle", |file| file.lookup_fails = Some(ESTALE)),
    ("not opened", |file| file.open_fails = Some(EIO)),
    ("nothing read", |file| file.read_fails = Some((0, EIO))),
    ("half of it read", |file| {
        file.text = format!("@one.test [half.test]\n{}", "#\n".repeat(150_000)).into();
        file.read_fails = Some((200_000, EIO));
    }),
    ("stale at the end", |file| file.read_fails = Some((0, ESTALE))),
    // The file is truncated, or grows, while it is read.
    ("shorter than it should be", |file| file.length = Some(1_000_000)),
    ("longer than it should be", |file| file.length = Some(20)),
];

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_failing_file_server_keeps_the_active_snapshot_is_logged_once_and_recovers() {
    // The grace period is short: a failing read is not a missing file, however long it fails.
    let pace = "poll_interval = 0.05\nempty_grace = 0.1";
    with_file_server(pace, |daemon, directory| {
        with_versions(daemon, pace, |versions| {
            for (n, (fault, make)) in FAULTS.into_iter().enumerate() {
                let file = [RELAYMAP, CREDENTIALS][n % 2];
                let seen = daemon.log_lines();
                directory.change(|files| {
                    let file = files.get_mut(file).unwrap();
                    file.time += 1;
                    make(file);
                });
                if n < 6 {
                    daemon.wait_for_log_after(seen, |line| line.contains("ERROR") && line.contains(file));
                }
                let failed = Instant::now();
                // Without metadata nothing is read, so this waits for several polls by the clock.
                eventually(|| failed.elapsed(), |waited| *waited > Duration::from_millis(200));
                let log = daemon.log();
                let errors = log.lines().skip(seen);
                let errors = errors.filter(|line| line.contains("ERROR") && line.contains(".cf"));
                assert!(errors.count() <= 1, "{fault}:\n{log}");
                versions.are_still_active(fault);
                let text = versions.next_text(file);
                directory
                    .change(|files| drop(files.insert(file.to_owned(), Remote::of(&text, 100 + n as u64))));
                versions.wait_for_numbers(versions.next(&[file]), fault);
            }
        });
    });
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_hanging_file_server_delays_neither_lookups_nor_shutdown() {
    let pace = "poll_interval = 0.05";
    with_file_server(pace, |daemon, directory| {
        with_versions(daemon, pace, |versions| {
            directory.hang(true);
            eventually(|| directory.waiting(), |waiting| *waiting > 0);
            directory.save(RELAYMAP, &versions.next_text(RELAYMAP));
            daemon.hangup();
            versions.observer.wait_for_rounds(200);
            versions.are_still_active("it hangs");
            // Nor does it delay a new connection.
            let begun = Instant::now();
            let mut client = Socketmap::to(daemon, 0);
            assert_eq!(client.query("relayhost", "ann@one.test"), Reply::Found(relay(0)));
            assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
            directory.hang(false);
            versions.wait_for_numbers([1, 0, 0, 0], "it answers again");
        });
        directory.hang(true);
        eventually(|| directory.waiting(), |waiting| *waiting > 0);
        daemon.signal("TERM");
        // The kernel does not end a process with a pending call. The server does what it can: it accepts no further
        // request.
        eventually(
            || TcpStream::connect(daemon.address(0)).is_err(),
            |refused| *refused,
        );
        directory.hang(false);
        assert_eq!(daemon.wait_for_exit().code(), Some(0));
    });
}

/// A setting for frequent polls.
const POLL: &str = "poll_interval = 0.1";

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_change_in_the_lower_layer_of_an_overlay_is_found_by_a_poll_and_polling_is_logged_once() {
    // A change below a running container, by its image or its host, is visible but causes no event.
    let setup = setup(POLL);
    let lower = setup.root().join("lower");
    for name in ["lower", "upper", "work"] {
        fs::create_dir(setup.root().join(name)).unwrap();
    }
    fill(&lower, &IN_DIRECTORY, 0, POLL);
    // The upper layer of an overlay cannot be on every file system, but it always can be on a tmpfs.
    let script = "cd \"$1\" && mount -t tmpfs none upper && mkdir upper/u upper/w && \
                  mount -t overlay -o lowerdir=lower,upperdir=upper/u,workdir=upper/w none tables && \
                  shift && exec \"$@\"";
    let root = setup.root().to_str().unwrap().to_owned();
    let daemon = Daemon::start(setup.within(["unshare", "--mount", "sh", "-c", script, "sh", &root]));
    with_versions(&daemon, POLL, |versions| {
        for file in IN_DIRECTORY {
            fs::write(lower.join(file), versions.next_text(file)).unwrap();
            versions.wait_for_numbers(versions.next(&[file]), "the lower layer changes");
        }
    });
    logs_polling_once(&daemon, &[]);
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_file_system_mounted_over_the_directory_and_unmounted_is_detected() {
    // The kernel sends no event for a mount.
    let setup = setup(POLL);
    let other = setup.root().join("other");
    fs::create_dir(&other).unwrap();
    fill(&other, &IN_DIRECTORY, 1, POLL);
    let daemon = Daemon::start(setup.within(["unshare", "--mount"]));
    let inside = |command: &[&Path]| {
        let target = format!("--target={}", daemon.pid());
        let status = Command::new("nsenter")
            .args(["--mount", &target])
            .args(command)
            .status();
        assert!(status.unwrap().success(), "{command:?}");
    };
    with_versions(&daemon, POLL, |versions| {
        inside(&[Path::new("mount"), Path::new("--bind"), &other, daemon.dir()]);
        versions.wait_for_numbers([1, 1, 0, 1], "a mount");
        inside(&[Path::new("umount"), daemon.dir()]);
        versions.wait_for_numbers([0; 4], "the end of the mount");
    });
}

#[test]
fn a_replaced_ancestor_directory_is_detected() {
    // It is none of the directories that contain the files or their links.
    let outer = Setup::new();
    let root = outer.root().join("a");
    let make = |root: &Path, n| {
        fs::create_dir_all(root.join("b/tables")).unwrap();
        fill(&root.join("b/tables"), &FILES, n, POLL);
    };
    make(&root, 0);
    let setup = Setup::in_directory(&root.join("b/tables"));
    let daemon = Daemon::start(with_default_relay(setup));
    with_versions(&daemon, POLL, |versions| {
        for n in 1..=2 {
            let new = outer.root().join("new");
            make(&new, n);
            fs::rename(&root, outer.root().join(format!("old{n}"))).unwrap();
            fs::rename(&new, &root).unwrap();
            versions.wait_for_numbers([n; 4], "it is replaced");
        }
    });
}

#[test]
fn a_change_whose_event_was_lost_in_an_overflow_takes_effect() {
    let daemon = Daemon::start(setup(EVENTS_ONLY));
    let queue = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let queue: usize = queue.trim().parse().unwrap();
    with_versions(&daemon, EVENTS_ONLY, |versions| {
        daemon.signal("STOP");
        // Each change makes two events or more.
        let other = daemon.dir().join("other");
        for _ in 0..=queue / 2 {
            fs::write(&other, "").unwrap();
            fs::remove_file(&other).unwrap();
        }
        versions.replace_with_next(RELAYMAP);
        daemon.signal("CONT");
        versions.wait_for_numbers([1, 0, 0, 0], "an overflow");
    });
    // Where the kernel reports changes, the log does not mention polling.
    daemon.hangup();
    daemon.wait_for_log(|line| line.contains("nothing changed"));
    assert!(!daemon.log().contains("polling"), "{}", daemon.log());
}

/// Executes a program without a single inotify instance.
const WITHOUT_INOTIFY: [&str; 7] = [
    "unshare",
    "--user",
    "--map-root-user",
    "sh",
    "-c",
    "echo 0 > /proc/sys/user/max_inotify_instances && exec \"$@\"",
    "sh",
];

#[test]
#[ignore = "needs root: tests/run-all"]
fn with_inotify_exhausted_changes_are_found_by_a_poll_and_polling_is_logged_once() {
    let daemon = Daemon::start(setup(POLL).within(WITHOUT_INOTIFY));
    let ways: [fn(&Versions<'_>); 3] = [
        |versions| versions.replace_with_next(RELAYMAP),
        |versions| fs::write(versions.path(RELAYMAP), versions.next_text(RELAYMAP)).unwrap(),
        |versions| {
            fs::remove_file(versions.path(RELAYMAP)).unwrap();
            versions.pause("a file that is missing");
            fs::write(versions.path(RELAYMAP), "").unwrap();
            versions.pause("a file that is empty");
            fs::write(versions.path(RELAYMAP), versions.next_text(RELAYMAP)).unwrap();
        },
    ];
    with_versions(&daemon, POLL, |versions| {
        for edit in ways {
            edit(versions);
            versions.wait_for_numbers(versions.next(&[RELAYMAP]), "an edit");
        }
    });
    logs_polling_once(&daemon, &["max_user_instances"]);
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_missing_permission_is_not_reported_as_a_limit_of_inotify() {
    // A user with only search permission for a directory reads the files in it and cannot watch it.
    let setup = setup(POLL);
    fs::set_permissions(setup.dir(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    let other = ["setpriv", "--reuid=4711", "--regid=4711", "--clear-groups"];
    let daemon = Daemon::start(setup.within(other));
    daemon.wait_for_log(|line| line.contains("by polling"));
    logs_polling_once(
        &daemon,
        &["ermission denied", "chmod", daemon.dir().to_str().unwrap()],
    );
    let log = daemon.log();
    assert!(!log.contains("max_user") && !log.contains("raise"), "{log}");
}
