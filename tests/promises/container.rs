//! Promise: the container image is small, contains only the program, is sandboxed as the program is, and applies edits.
//!
//! The image built by contrib/container/build runs in a real podman, as root and rootless, by hand and with contrib's
//! files: docker-compose itself starts compose.yaml. There is no cluster; the tests simulate kubelet.

mod by_hand;
mod engine;
mod follow_image;
mod image;
mod setups;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::harness::client::{Reply, Socketmap};
use crate::harness::daemon::{CREDENTIALS, RELAYMAP};
use crate::harness::eventually;
use engine::{Container, Engine};

/// The restrictions that operators are advised to set.
const CLOSED: [&str; 6] = [
    "--network=none",
    "--read-only",
    "--read-only-tmpfs=false",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
    "--env=POSTMAPD_LISTEN=socketmap:unix:/run/postmapd/socketmap",
];
const SOCKET: &str = "socketmap:unix:/run/postmapd/socketmap";

/// A directory of the engine with two tables, and one for the socket, as options of podman.
fn directories(engine: &Engine) -> [String; 2] {
    let tables = engine.directory("tables");
    engine.write(&tables.join(RELAYMAP), "@one.test [relay1.test]:587\n<>\n");
    engine.write(&tables.join(CREDENTIALS), "@one.test user:password-1\n");
    let socket = engine.directory("socket");
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o755)).unwrap();
    [
        format!("--volume={}:/etc/postmapd:ro", tables.display()),
        format!("--volume={}:/run/postmapd", socket.display()),
    ]
}

fn wait_for(client: &mut Socketmap, map: &str, value: &str) {
    let wanted = Reply::found(value);
    let mut query = |map| match map {
        "sasl" => client.login("me@one.test"),
        map => client.query(map, "me@one.test"),
    };
    eventually(|| query(map), |reply| *reply == wanted);
}

/// Checks the restrictions set by the runtime, and those set by the program.
fn is_confined(container: &Container<'_>) {
    let status = container.proc("status");
    let of = |name: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
        line.unwrap_or_else(|| panic!("no {name} in {status}")).to_owned()
    };
    for set in ["CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(of(set), "0000000000000000", "{set}");
    }
    assert_eq!(of("NoNewPrivs"), "1");
    // The runtime's filter of system calls, and two of the program's own.
    assert_eq!(
        (of("Seccomp").as_str(), of("Seccomp_filters").as_str()),
        ("2", "3")
    );
    assert!(of("NSpid").ends_with("\t1"), "{status}");
    let mounts = container.proc("mountinfo");
    let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/"));
    let options = root.and_then(|line| line.split(' ').nth(5)).unwrap();
    assert!(options.starts_with("ro,"), "{mounts}");
    let log = container.log();
    assert!(
        log.contains("no file writes (Landlock ABI") && log.contains("system calls filtered"),
        "{log}"
    );
}

/// Checks that health checks succeed, and leave no process behind for the server to reap.
fn is_healthy(container: &Container<'_>) {
    for _ in 0..3 {
        let alive = container.exec(&["status", "--alive"]);
        assert_eq!((alive.code, alive.stdout.as_str()), (Some(0), ""), "{alive:?}");
    }
    container.podman(&["healthcheck", "run"]);
    let check = container.exec(&["check", "--strict"]);
    assert_eq!(check.code, Some(0), "{check:?}");
    assert_eq!(container.children(), [""; 0]);
}
