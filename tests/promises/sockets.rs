//! Promise: a UNIX socket is accessible only to its owner and its group, replaces no other file, and is removed with
//! its server.
//!
//! No client can pass a descriptor over it, where the kernel supports that. settings.rs tests that a stale socket is
//! replaced, and that other files are not.

use std::fs;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::unistd::Group;
use rustix::cmsg_space;
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::harness::client::Socketmap;
use crate::harness::daemon::{Daemon, Finished, Setup, finish};
use crate::harness::identities::{as_user, uid_of};

fn setup() -> (Setup, PathBuf) {
    let setup = Setup::new().relaymap("@one.test [relay1.test]\n");
    let path = setup.root().join("socket");
    (setup.listen(format!("socketmap:unix:{}", path.display())), path)
}

fn group(name: &str) -> u32 {
    Group::from_name(name).unwrap().unwrap().gid.as_raw()
}

/// Owner, group and mode.
fn access(path: &Path) -> (u32, u32, u32) {
    let about = fs::symlink_metadata(path).unwrap();
    assert!(about.file_type().is_socket());
    (about.uid(), about.gid(), about.permissions().mode() & 0o7777)
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn by_default_the_socket_is_accessible_only_to_root_and_the_group_postfix() {
    let (setup, path) = setup();
    let daemon = Daemon::start(setup);
    assert_eq!(access(&path), (0, group("postfix"), 0o660));
    // In effect, another user cannot even connect.
    let refused = as_user(uid_of("nobody"), || UnixStream::connect(&path).map(drop));
    assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
    let mut client = as_user(group("postfix"), || Socketmap::to(&daemon, 0));
    client.finds("relayhost", "x@one.test", "[relay1.test]");
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn owner_group_and_mode_of_the_socket_are_as_configured() {
    let daemon_user = uid_of("daemon");
    let (by_name, path) = setup();
    let words = [
        "--socket-owner=daemon",
        "--socket-group=mail",
        "--socket-mode=0640",
    ];
    let daemon = Daemon::start(words.iter().fold(by_name, Setup::arg));
    assert_eq!(access(&path), (daemon_user, group("mail"), 0o640));
    drop(daemon);
    let (by_number, path) = setup();
    let words = [
        "--socket-owner=54321",
        "--socket-group=54322",
        "--socket-mode=600",
    ];
    let _daemon = Daemon::start(words.iter().fold(by_number, Setup::arg));
    assert_eq!(access(&path), (54321, 54322, 0o600));
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn the_socket_refuses_connections_until_owner_group_and_mode_are_set() {
    let (setup, path) = setup();
    // Independent of the umask, and checked by the kernel's own record of the calls.
    let calls = setup.root().join("calls");
    let shell = format!(
        "umask 0; exec strace -D -f -qq -o {} -e trace=umask,bind,listen,fchownat,chmod,fchmodat \"$@\"",
        calls.display()
    );
    let mut daemon = Daemon::start(setup.within(["sh", "-c", &shell, "sh"]));
    assert_eq!(access(&path).2, 0o660);
    daemon.terminate();
    let calls = fs::read_to_string(calls).unwrap();
    let at = |call: &str| {
        let found = calls.lines().position(|line| line.contains(call));
        found.unwrap_or_else(|| panic!("no {call} in:\n{calls}"))
    };
    let order = [
        at("umask(0177)"),
        at("bind("),
        at("listen("),
        at("fchownat("),
        at("chmod"),
    ];
    assert!(order.is_sorted(), "{order:?}:\n{calls}");
}

/// Starts it where it must fail, and name the path.
#[track_caller]
fn refused(setup: &Setup, path: &Path) -> Finished {
    let finished = setup.serve_until_exit();
    assert!(matches!(finished.code, Some(69 | 78)), "{finished:?}");
    assert!(finished.stderr.contains(&*path.to_string_lossy()), "{finished:?}");
    finished
}

#[test]
fn a_file_in_place_of_the_socket_is_an_error_and_is_kept() {
    let (setup, path) = setup();
    let target = setup.root().join("target");

    fs::create_dir(&path).unwrap();
    assert_eq!(refused(&setup, &path).code, Some(78));
    fs::remove_dir(&path).unwrap();

    // A symbolic link is no socket, whatever its target: nothing, a file, or a stale socket.
    symlink(&target, &path).unwrap();
    assert_eq!(refused(&setup, &path).code, Some(78));
    fs::write(&target, "precious").unwrap();
    assert_eq!(refused(&setup, &path).code, Some(78));
    assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
    fs::remove_file(&target).unwrap();
    drop(UnixListener::bind(&target).unwrap());
    assert_eq!(refused(&setup, &path).code, Some(78));
    assert!(target.exists() && path.is_symlink());
    fs::remove_file(&path).unwrap();

    let mut pipe = std::process::Command::new("mkfifo");
    assert_eq!(finish(pipe.arg(&path), b"").code, Some(0));
    assert_eq!(refused(&setup, &path).code, Some(78));
    assert!(path.exists());
}

#[test]
fn the_socket_of_a_hanging_server_is_not_replaced_and_does_not_delay_the_startup() {
    let (setup, path) = setup();
    let hanging = rustix::net::socket(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::STREAM,
        None,
    )
    .unwrap();
    rustix::net::bind(&hanging, &rustix::net::SocketAddrUnix::new(&path).unwrap()).unwrap();
    rustix::net::listen(&hanging, 0).unwrap();
    // Its queue has room for one connection, and another connect would wait forever.
    let _waiting = UnixStream::connect(&path).unwrap();
    assert_eq!(refused(&setup, &path).code, Some(69));
    assert!(path.exists());

    // A socket of another type, in use by another program.
    fs::remove_file(&path).unwrap();
    let _datagrams = UnixDatagram::bind(&path).unwrap();
    assert_eq!(refused(&setup, &path).code, Some(69));
    assert!(path.exists());
}

#[test]
fn at_exit_the_server_removes_its_own_socket_and_no_other() {
    let (setup, path) = setup();
    let mut daemon = Daemon::start(setup.clone());
    daemon.terminate();
    assert!(!path.exists());

    let mut daemon = Daemon::start(setup);
    fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    daemon.terminate();
    assert!(path.exists());
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn without_the_privilege_to_set_the_group_of_the_socket_the_server_logs_it_and_serves() {
    let me = uid_of("daemon").to_string();
    let (setup, _) = setup();
    let directory = setup.root().join("run");
    fs::create_dir(&directory).unwrap();
    std::os::unix::fs::chown(&directory, Some(uid_of("daemon")), None).unwrap();
    let socket = directory.join("socket");
    let setup = Setup::in_directory(setup.dir()).listen(format!("socketmap:unix:{}", socket.display()));
    let words = ["setpriv", "--reuid", &me, "--regid", &me, "--clear-groups"];
    let daemon = Daemon::start(setup.clone().within(words));
    daemon.wait_for_log(|line| line.contains("WARN") && line.contains("group of the socket to postfix"));
    assert_eq!(access(&socket), (uid_of("daemon"), uid_of("daemon"), 0o660));
    drop(daemon);
    // Where the group is configured, that is an error.
    let finished = setup
        .within(words)
        .arg("--socket-group=postfix")
        .serve_until_exit();
    assert_eq!(finished.code, Some(78), "{finished:?}");
}

/// The server would close the descriptor, and closing a TCP socket with SO_LINGER waits as long as its sender wants.
#[test]
fn the_socket_refuses_passed_descriptors_where_the_kernel_supports_it() {
    let (setup, path) = setup();
    let daemon = Daemon::start(setup);
    let peer = UnixStream::connect(&path).unwrap();
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut message = SendAncillaryBuffer::new(&mut space);
    let descriptors = [peer.as_fd()];
    assert!(message.push(SendAncillaryMessage::ScmRights(&descriptors)));
    let handed_over = sendmsg(&peer, &[IoSlice::new(b"2")], &mut message, SendFlags::empty());
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let numbers = release
        .split(['.', '-'])
        .map(str::parse::<u32>)
        .map_while(Result::ok);
    if numbers.take(2).ge([6, 16]) {
        assert_eq!(handed_over, Err(Errno::PERM), "Linux {release}");
    } else {
        // This kernel cannot refuse it yet (SECURITY.md), and the server does not receive it.
        assert_eq!(handed_over, Ok(1), "Linux {release}");
    }
    Socketmap::to(&daemon, 0).finds("relayhost", "x@one.test", "[relay1.test]");
}
