//! Promise: once it listens, the server has no privilege that it does not need, and still notices every edit.
//!
//! The privileges of the process are read from /proc. What Landlock denies is tried by a thread of the test with the
//! same restrictions, because the server cannot be told to misbehave.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;
use std::thread;

use nix::errno::Errno;
use nix::sys::stat::Mode;
use postmapd::os::sandbox::{landlock, seccomp};
use rustix::net::{AddressFamily, SocketType};

use crate::harness::client::{Reply, Socketmap, TcpTable};
use crate::harness::daemon::{CREDENTIALS, Daemon, RELAYMAP, SETTINGS, Setup};
use crate::harness::eventually;
use crate::harness::identities::{as_user, uid_of};

const SENDER: &str = "ann@one.test";
const NEXT_HOP: &str = "[relay.test]:587";

const DAC_OVERRIDE: u64 = 1 << 1;
const DAC_READ_SEARCH: u64 = 1 << 2;
const FOWNER: u64 = 1 << 3;

fn credentials(n: usize) -> String {
    format!("@one.test user:password{n}\n")
}

fn password(n: usize) -> Reply {
    Reply::Found(format!("user:password{n}"))
}

fn setup() -> Setup {
    Setup::new()
        .relaymap(format!("@one.test {NEXT_HOP}\n"))
        .credentials(credentials(0))
}

/// A thread of the server at one moment.
#[derive(Debug, Clone)]
struct Thread {
    name: String,
    /// The lines of /proc/PID/task/TID/status, proc(5).
    status: HashMap<String, String>,
}

impl Thread {
    /// Returns `None` where the thread has ended since it was listed.
    fn at(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(path.join("status")).ok()?;
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        let mut status: HashMap<String, String> = lines
            .map(|(field, value)| (field.to_owned(), value.trim().to_owned()))
            .collect();
        let name = status.remove("Name")?;
        Some(Self { name, status })
    }

    #[track_caller]
    fn field(&self, field: &str) -> &str {
        let value = self.status.get(field);
        value.unwrap_or_else(|| panic!("{} has no {field}: {:?}", self.name, self.status))
    }
}

/// All threads, once all that the server starts have begun, which may be after it has announced its sockets.
#[track_caller]
fn threads(daemon: &Daemon) -> Vec<Thread> {
    // A thread has the name of its creator until it sets its own.
    let are_all = |threads: &Vec<Thread>| {
        let with = |name: &str| threads.iter().filter(|thread| thread.name == name).count();
        ["postmapd", "reload", "control"].map(with) == [1, 1, 1]
    };
    let mut threads = Vec::new();
    eventually(
        || {
            let listed = fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
            threads = listed
                .filter_map(|thread| Thread::at(&thread.unwrap().path()))
                .collect();
            threads.clone()
        },
        are_all,
    );
    threads
}

/// Checks the privileges of each thread, and that none is inherited by other programs.
#[track_caller]
fn capabilities(daemon: &Daemon) -> Vec<(String, u64)> {
    let of = |thread: Thread| {
        let set = thread.field("CapPrm");
        assert_eq!(thread.field("CapEff"), set, "{thread:?}");
        for inheritable in ["CapInh", "CapAmb"] {
            assert_eq!(hex(thread.field(inheritable)), 0, "{thread:?}");
        }
        (thread.name.clone(), hex(set))
    };
    threads(daemon).into_iter().map(of).collect()
}

/// Those of the `wanted` capabilities that this system grants to root at all.
fn given(wanted: u64) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("CapPrm:"));
    hex(line.unwrap().trim()) & wanted
}

/// The capabilities of the reading threads: the one for reading, where the system grants it.
fn reading() -> u64 {
    if given(DAC_READ_SEARCH) == 0 {
        DAC_OVERRIDE
    } else {
        DAC_READ_SEARCH
    }
}

fn hex(set: &str) -> u64 {
    u64::from_str_radix(set, 16).unwrap()
}

#[track_caller]
fn expect_in_all_threads(daemon: &Daemon, field: &str, value: &str) {
    for thread in threads(daemon) {
        assert_eq!(thread.field(field), value, "{field} of {}", thread.name);
    }
}

/// The limit of the core file size, soft and hard.
fn core_limit(daemon: &Daemon) -> Vec<String> {
    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).unwrap();
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max core file size"));
    line.unwrap()
        .split_whitespace()
        .take(2)
        .map(ToOwned::to_owned)
        .collect()
}

const UNLIMITED_CORE: [&str; 4] = ["sh", "-c", "ulimit -c unlimited; exec \"$@\"", "sh"];

#[test]
fn the_server_keeps_no_privilege_it_does_not_need() {
    let daemon = Daemon::start(setup().arg("--admin=127.0.0.1:0").within(UNLIMITED_CORE));
    expect_in_all_threads(&daemon, "NoNewPrivs", "1");
    expect_in_all_threads(&daemon, "Seccomp", "2");
    for (thread, set) in capabilities(&daemon) {
        assert_eq!(set, given(DAC_OVERRIDE | DAC_READ_SEARCH | FOWNER), "{thread}");
    }
    assert_eq!(core_limit(&daemon), ["0", "0"]);
    let message = daemon.wait_for_log(|line| line.contains("sandbox enabled"));
    for word in [
        "no new privileges",
        "no core dump",
        "Landlock ABI",
        "system calls",
    ] {
        assert!(message.contains(word), "{message}");
    }
    let log = daemon.log();
    assert!(!log.contains("WARN"), "{log}");
}

#[test]
fn the_sandbox_can_be_disabled_by_flag_variable_and_settings_file() {
    for setup in [
        setup().arg("--sandbox=off"),
        setup().env("POSTMAPD_SANDBOX", "no"),
        setup().settings("sandbox = false\n"),
        // The flag overrides the file.
        setup().settings("sandbox = true\n").arg("--sandbox=off"),
    ] {
        let daemon = Daemon::start(setup.within(UNLIMITED_CORE));
        expect_in_all_threads(&daemon, "NoNewPrivs", "0");
        expect_in_all_threads(&daemon, "Seccomp", "0");
        assert_eq!(core_limit(&daemon), ["unlimited", "unlimited"]);
        daemon.wait_for_log(|line| line.contains("WARN") && line.contains("sandboxing is disabled"));
    }
    let finished = setup().settings("sandbox = \"perhaps\"\n").serve_until_exit();
    assert_eq!(finished.code, Some(78), "{finished:?}");
    assert!(finished.stderr.contains("postmapd.toml:1:11"), "{finished:?}");
}

#[test]
fn a_crash_leaves_no_core_dump() {
    for signal in ["ABRT", "QUIT", "ILL"] {
        let setup = setup();
        // The tests may have been started with SIGQUIT ignored (by a shell's `&`), which programs inherit.
        let shell = format!(
            "ulimit -c unlimited; cd '{}'; exec env --default-signal=QUIT \"$@\"",
            setup.root().display()
        );
        let mut daemon = Daemon::start(setup.clone().within(["sh", "-c", &shell, "sh"]));
        let status = daemon.end_by(signal);
        assert!(status.signal().is_some() && !status.core_dumped(), "{status:?}");
        let left: Vec<_> = fs::read_dir(setup.root())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["tables"]);
    }
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn another_process_of_the_same_user_cannot_read_the_servers_environment() {
    let daemon_user = uid_of("daemon");
    let user = daemon_user.to_string();
    let started = |setup: Setup| {
        let words = ["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"];
        Daemon::start(setup.env("RELAY_HOST", "relay.test").within(words))
    };
    let read = |daemon: &Daemon| {
        let path = format!("/proc/{}/environ", daemon.pid());
        as_user(daemon_user, || fs::read_to_string(path))
    };
    let daemon = started(setup());
    assert_eq!(read(&daemon).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    let daemon = started(setup().arg("--sandbox=off"));
    assert!(read(&daemon).unwrap().contains("RELAY_HOST"));
}

/// Runs `act` in a thread restricted by `lock`. The other threads of this process are not restricted.
fn locked<T: Send>(lock: impl FnOnce() + Send, act: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            lock();
            act()
        });
        match thread.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

#[track_caller]
fn expect_errno<T>(result: io::Result<T>, errno: Errno) {
    let error = result.err().expect("an error");
    assert_eq!(error.raw_os_error(), Some(errno as i32), "{error}");
}

#[test]
fn landlock_denies_every_write_and_no_read() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    for directory in ["run", "tables", "later"] {
        fs::create_dir(at(directory)).unwrap();
    }
    for file in ["run/socket", "tables/file", "later/file"] {
        fs::write(at(file), "text").unwrap();
    }
    symlink("tables", at("link")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (swap, swapped) = std::sync::mpsc::channel();
    let (locked_now, is_locked) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        let at = &at;
        scope.spawn(move || {
            // The restrictions include the ways to replace a directory.
            is_locked.recv().unwrap();
            fs::remove_file(at("link")).unwrap();
            symlink(at("later"), at("link")).unwrap();
            fs::rename(at("tables"), at("before")).unwrap();
            fs::create_dir(at("tables")).unwrap();
            fs::write(at("tables/file"), "new").unwrap();
            swap.send(()).unwrap();
        });
        locked(
            || {
                let abi = landlock::restrict(&[&at("run")]).unwrap();
                assert!(abi.contains("ABI"), "{abi}");
            },
            move || {
                let denied = Errno::EACCES;
                expect_errno(fs::write(at("tables/file"), ""), denied);
                expect_errno(fs::write(at("tables/new"), ""), denied);
                expect_errno(fs::write(at("run/new"), ""), denied);
                expect_errno(fs::create_dir(at("tables/directory")), denied);
                expect_errno(fs::remove_file(at("tables/file")), denied);
                expect_errno(fs::rename(at("tables/file"), at("tables/other")), denied);
                expect_errno(symlink("file", at("tables/other")), denied);
                expect_errno(Command::new("/bin/true").status(), denied);
                expect_errno(TcpStream::connect(address), denied);
                expect_errno(TcpListener::bind("127.0.0.1:0"), denied);
                // What the restrictions are for.
                fs::remove_file(at("run/socket")).unwrap();
                assert_eq!(fs::read_to_string(at("link/file")).unwrap(), "text");
                locked_now.send(()).unwrap();
                swapped.recv().unwrap();
                assert_eq!(fs::read_to_string(at("tables/file")).unwrap(), "new");
                assert_eq!(
                    fs::canonicalize(at("link")).unwrap(),
                    fs::canonicalize(at("later")).unwrap()
                );
                assert_eq!(fs::read_dir(at("link")).unwrap().count(), 1);
            },
        );
    });
}

#[test]
fn the_system_call_filter_denies_calls_the_server_never_makes() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    fs::write(at("file"), "text").unwrap();
    let listener = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    locked(
        || seccomp::install().unwrap(),
        || {
            let denied = Errno::EPERM;
            let nix = |result: nix::Result<()>| result.map_err(io::Error::from);
            let rustix = |result: rustix::io::Result<()>| result.map_err(io::Error::from);
            expect_errno(Command::new("/bin/true").status(), denied);
            expect_errno(
                fs::set_permissions(at("file"), fs::Permissions::from_mode(0o777)),
                denied,
            );
            expect_errno(chown(at("file"), Some(1), Some(1)), denied);
            expect_errno(fs::rename(at("file"), at("other")), denied);
            expect_errno(fs::hard_link(at("file"), at("other")), denied);
            expect_errno(symlink("file", at("other")), denied);
            expect_errno(fs::create_dir(at("directory")), denied);
            expect_errno(nix(nix::unistd::mkfifo(&at("pipe"), Mode::S_IRUSR)), denied);
            expect_errno(nix(nix::unistd::chroot(root.path())), denied);
            expect_errno(
                rustix(rustix::thread::move_into_link_name_space(
                    std::os::fd::AsFd::as_fd(&File::open("/proc/self/ns/net").unwrap()),
                    None,
                )),
                denied,
            );
            let packet = rustix::net::socket(AddressFamily::PACKET, SocketType::RAW, None);
            expect_errno(packet.map_err(io::Error::from), denied);
            expect_errno(TcpListener::bind("127.0.0.1:0"), denied);
            // What the server needs.
            thread::spawn(|| ()).join().unwrap();
            UnixStream::connect(at("socket")).unwrap();
            rustix::net::socket(AddressFamily::NETLINK, SocketType::RAW, None).unwrap();
            assert_eq!(fs::read_to_string(at("file")).unwrap(), "text");
            fs::remove_file(at("socket")).unwrap();
        },
    );
    drop(listener);
}

/// Started as root, which alone can read the files, to change to user `daemon`.
fn dropped(setup: Setup) -> Setup {
    for name in [RELAYMAP, CREDENTIALS] {
        fs::set_permissions(setup.dir().join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    fs::set_permissions(setup.dir(), fs::Permissions::from_mode(0o700)).unwrap();
    setup.arg("--user=daemon")
}

/// Replaces a file by a new version that only root can read from its first byte on.
fn replace_for_root(daemon: &Daemon, name: &str, text: &str) {
    let new = daemon.root().join("new");
    fs::write(&new, "").unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&new, text).unwrap();
    fs::rename(&new, daemon.dir().join(name)).unwrap();
    let about = fs::metadata(daemon.dir().join(name)).unwrap();
    assert_eq!((about.uid(), about.mode() & 0o777), (0, 0o600));
}

/// Edits as root in every way, and checks that each edit takes effect.
#[track_caller]
fn expect_edits_to_take_effect(daemon: &Daemon) {
    let mut client = Socketmap::to(daemon, 0);
    let mut expect = |n| eventually(|| client.query("sasl", SENDER), |reply| *reply == password(n));
    expect(0);
    replace_for_root(daemon, CREDENTIALS, &credentials(1));
    expect(1);
    fs::write(daemon.dir().join(CREDENTIALS), credentials(2)).unwrap();
    expect(2);
    // The directory itself is replaced.
    let before = daemon.root().join("before");
    fs::rename(daemon.dir(), &before).unwrap();
    fs::create_dir(daemon.dir()).unwrap();
    fs::set_permissions(daemon.dir(), fs::Permissions::from_mode(0o700)).unwrap();
    fs::copy(before.join(RELAYMAP), daemon.dir().join(RELAYMAP)).unwrap();
    replace_for_root(daemon, CREDENTIALS, &credentials(3));
    expect(3);
    // A symbolic link to another directory.
    let elsewhere = daemon.root().join("elsewhere");
    fs::rename(daemon.dir(), &elsewhere).unwrap();
    symlink(&elsewhere, daemon.dir()).unwrap();
    replace_for_root(daemon, CREDENTIALS, &credentials(4));
    expect(4);
    daemon.hangup();
    replace_for_root(daemon, CREDENTIALS, &credentials(5));
    expect(5);
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn as_another_user_the_server_still_reads_every_edit_of_root_only_files() {
    let daemon = Daemon::start(dropped(setup()).arg("--admin=127.0.0.1:0"));
    let me = uid_of("daemon").to_string();
    for (name, ids) in [("Uid", &me), ("Gid", &me)] {
        expect_in_all_threads(&daemon, name, &[ids.as_str(); 4].join("\t"));
    }
    expect_in_all_threads(&daemon, "Groups", &me);
    for (thread, set) in capabilities(&daemon) {
        // The reading threads have the one capability. The threads for peers and for the admin listener have none.
        let reads = thread == "reload" || thread.starts_with("notify");
        assert_eq!(set, if reads { reading() } else { 0 }, "{thread}");
    }
    assert_eq!(core_limit(&daemon), ["0", "0"]);
    daemon.wait_for_log(|line| line.contains("sandbox enabled measures=user daemon"));
    expect_edits_to_take_effect(&daemon);
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_reading_thread_works_with_the_fewer_privileges_of_a_container() {
    // Docker's default includes CAP_DAC_OVERRIDE, but not CAP_DAC_READ_SEARCH.
    let docker = [
        "setpriv",
        "--bounding-set",
        "-dac_read_search",
        "--inh-caps",
        "-dac_read_search",
    ];
    let daemon = Daemon::start(dropped(setup()).within(docker));
    let reader = capabilities(&daemon)
        .into_iter()
        .find(|(thread, _)| thread == "reload");
    assert_eq!(reader.unwrap().1, DAC_OVERRIDE);
    expect_edits_to_take_effect(&daemon);

    let neither = ["setpriv", "--bounding-set", "-dac_read_search,-dac_override"];
    let finished = dropped(setup()).within(neither).serve_until_exit();
    assert_eq!(finished.code, Some(78), "{finished:?}");
    assert!(finished.stderr.contains("CAP_DAC_READ_SEARCH"), "{finished:?}");
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn without_the_sandbox_the_server_still_changes_its_user() {
    let daemon = Daemon::start(dropped(setup()).arg("--sandbox=off"));
    expect_in_all_threads(&daemon, "NoNewPrivs", "0");
    expect_in_all_threads(
        &daemon,
        "Uid",
        &[uid_of("daemon").to_string().as_str(); 4].join("\t"),
    );
    expect_edits_to_take_effect(&daemon);
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn root_and_the_configured_user_may_both_query_credentials() {
    let socket = |setup: &Setup| format!("socketmap:unix:{}/socket", setup.root().display());
    let setup = dropped(setup());
    let endpoint = socket(&setup);
    let setup = setup
        .listen(endpoint)
        .listen("tcp:127.0.0.1:0:sasl")
        .arg("--socket-mode=0666");
    let daemon = Daemon::start(setup);
    let about = fs::metadata(daemon.address(0)).unwrap();
    assert_eq!(about.uid(), uid_of("daemon"));
    for (user, may) in [
        ("root", true),
        ("daemon", true),
        ("postfix", true),
        ("nobody", false),
    ] {
        let uid = uid_of(user);
        let replies = as_user(uid, || {
            let tcp = TcpTable::to(&daemon, 1).query(SENDER);
            [Socketmap::to(&daemon, 0).query("sasl", SENDER), tcp]
        });
        for reply in replies {
            assert_eq!(reply == password(0), may, "{user}: {reply:?}");
        }
    }
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_user_the_server_cannot_change_to_is_a_startup_error_with_a_fix() {
    for (setup, words) in [
        (
            setup().arg("--user=no-such-user"),
            ["--user", "`no-such-user`", "adduser"],
        ),
        (
            setup().env("POSTMAPD_USER", "4294967294"),
            ["POSTMAPD_USER", "4294967294", "adduser"],
        ),
        (
            setup().settings("\nuser = \"no-such-user\"\n"),
            ["postmapd.toml:2:8", "`no-such-user`", "adduser"],
        ),
        (
            setup()
                .arg("--user=daemon")
                .within(["setpriv", "--reuid", "65534", "--clear-groups"]),
            ["daemon", "not started as root", "the setting user"],
        ),
    ] {
        let finished = setup.serve_until_exit();
        assert_eq!(finished.code, Some(78), "{finished:?}");
        for word in words {
            assert!(finished.stderr.contains(word), "no {word} in {}", finished.stderr);
        }
    }
    // A process of that user needs no privilege to change to it.
    let me = uid_of("daemon").to_string();
    let words = ["setpriv", "--reuid", &me, "--regid", &me, "--clear-groups"];
    let daemon = Daemon::start(setup().settings(format!("user = {me}\n")).within(words));
    assert_eq!(Socketmap::to(&daemon, 0).query("sasl", SENDER), password(0));
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_socket_is_removed_at_exit_if_permitted_and_otherwise_replaced_at_the_next_start() {
    let setup = setup();
    let own = setup.root().join("own");
    fs::create_dir(&own).unwrap();
    chown(&own, Some(uid_of("daemon")), None).unwrap();
    let (removed, stays) = (own.join("socket"), setup.root().join("socket"));
    let setup = dropped(setup)
        .listen(format!("socketmap:unix:{}", removed.display()))
        .listen(format!("socketmap:unix:{}", stays.display()));
    for _ in 0..2 {
        let mut daemon = Daemon::start(setup.clone());
        let message = daemon.wait_for_log(|line| line.contains("cannot remove its sockets"));
        assert!(
            message.contains(&*setup.root().to_string_lossy()) && !message.contains("/own"),
            "{message}"
        );
        for n in [0, 1] {
            assert_eq!(Socketmap::to(&daemon, n).query("sasl", SENDER), password(0));
        }
        assert!(daemon.terminate().success());
        assert!(!removed.exists() && stays.exists());
    }
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_sandboxed_server_removes_its_socket_from_another_users_directory() {
    let setup = setup();
    let directory = setup.root().join("run");
    fs::create_dir(&directory).unwrap();
    chown(&directory, Some(uid_of("postfix")), None).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o1700)).unwrap();
    let socket = directory.join("socket");
    let mut daemon = Daemon::start(
        setup
            .listen(format!("socketmap:unix:{}", socket.display()))
            .arg("--socket-owner=mail"),
    );
    assert!(socket.exists());
    daemon.terminate();
    assert!(!socket.exists());
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn a_missing_kernel_mechanism_is_logged_once_and_the_server_continues() {
    let inject = "inject=landlock_create_ruleset,seccomp:error=ENOSYS";
    let strace = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", inject];
    let daemon = Daemon::start(setup().within(strace));
    for word in ["Landlock", "seccomp"] {
        daemon.wait_for_log(|line| line.contains("WARN") && line.contains(word));
        let log = daemon.log();
        let message: Vec<_> = log
            .lines()
            .filter(|line| line.contains("WARN") && line.contains(word))
            .collect();
        assert_eq!(message.len(), 1, "{log}");
        assert!(message[0].contains("sandbox is incomplete"), "{log}");
    }
    expect_in_all_threads(&daemon, "NoNewPrivs", "1");
    let mut client = Socketmap::to(&daemon, 0);
    assert_eq!(client.query("sasl", SENDER), password(0));
    daemon.replace(CREDENTIALS, credentials(1));
    eventually(|| client.query("sasl", SENDER), |reply| *reply == password(1));
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn an_edited_startup_setting_is_logged_as_needing_a_restart() {
    let daemon = Daemon::start(setup());
    daemon.replace(SETTINGS, "user = \"daemon\"\nsandbox = false\n");
    for name in ["user", "sandbox"] {
        daemon.wait_for_log(|line| {
            line.contains("takes effect on restart") && line.contains(&format!("setting={name}"))
        });
    }
    expect_in_all_threads(&daemon, "Uid", "0\t0\t0\t0");
    expect_in_all_threads(&daemon, "Seccomp", "2");
}

/// How often a text occurs in the memory of the process.
fn occurrences(daemon: &Daemon, text: &str) -> usize {
    let maps = fs::read_to_string(format!("/proc/{}/maps", daemon.pid())).unwrap();
    let memory = File::open(format!("/proc/{}/mem", daemon.pid())).unwrap();
    let mut found = 0;
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (from, to) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
        let (from, to) = (hex(from), hex(to));
        let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
        if memory.read_exact_at(&mut bytes, from).is_ok() {
            found += memchr::memmem::find_iter(&bytes, text).count();
        }
    }
    found
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn passwords_stay_in_memory_only_in_the_active_table() {
    let long = "x".repeat(3000);
    let secret = |n: usize| format!("a-password-{n}-that-is-nowhere-else");
    let table = |n: usize| {
        let secret = secret(n);
        format!("@one.test user:{secret}\n@two.test user:{secret}{long}\n@three.test user:{secret} %{long}\n")
    };
    let setup = setup()
        .relaymap("@one.test [r.test]\n@two.test [r.test]\n@three.test [r.test]\n")
        .credentials(table(0))
        .listen("socketmap:inet:127.0.0.1:0")
        .listen("tcp:127.0.0.1:0:sasl");
    let daemon = Daemon::start(setup);
    let query = |n: usize| {
        let secret = secret(n);
        let holds = |reply: &Reply| matches!(reply, Reply::Found(value) if value.contains(&secret));
        let mut clients = Vec::new();
        for _ in 0..3 {
            let (mut socketmap, mut tcp) = (Socketmap::to(&daemon, 0), TcpTable::to(&daemon, 1));
            for sender in ["a@one.test", "a@two.test", "a@three.test", "a@one.test"] {
                eventually(|| socketmap.query("sasl", sender), holds);
                tcp.query(sender);
            }
            // Several requests in one write, for which the buffer grows.
            let requests = ["a@one.test", "a@two.test", "a@three.test"].map(|sender| ("sasl", sender));
            assert!(socketmap.query_all(&requests).iter().all(holds));
            // Every second client closes its connection.
            clients.push(socketmap);
        }
        clients
    };
    let in_table = 3;
    let waiting = query(0);
    eventually(|| occurrences(&daemon, &secret(0)), |count| *count == in_table);
    daemon.replace(CREDENTIALS, table(1));
    let others = query(1);
    eventually(|| occurrences(&daemon, &secret(0)), |count| *count == 0);
    eventually(|| occurrences(&daemon, &secret(1)), |count| *count == in_table);
    drop((waiting, others));
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_replaced_default_relay_password_is_wiped_from_memory() {
    let secret = |n: usize| format!("a-default-password-{n}-that-is-nowhere-else");
    let setup = Setup::new();
    let file = setup.root().join("password");
    fs::write(&file, secret(0)).unwrap();
    let daemon = Daemon::start(
        setup
            .env("RELAY_HOST", "relay.test")
            .env("RELAY_USER", "user")
            .env("RELAY_PASSWORD_FILE", &file),
    );
    let mut client = Socketmap::to(&daemon, 0);
    let mut expect = |n: usize| {
        let expected = Reply::Found(format!("user:{}", secret(n)));
        eventually(
            || client.query("sasl", "[relay.test]:25"),
            |reply| *reply == expected,
        );
        eventually(|| occurrences(&daemon, &secret(n)), |count| *count == 1);
    };
    expect(0);
    fs::write(&file, secret(1)).unwrap();
    expect(1);
    eventually(|| occurrences(&daemon, &secret(0)), |count| *count == 0);
}
