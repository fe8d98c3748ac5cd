//! The image run by hand: sandboxed, and with edits taking effect, for root and for an ordinary user.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::engine::{Engine, PodmanUser};
use super::{CLOSED, SOCKET, directories, is_confined, is_healthy, wait_for};
use crate::harness::client::Reply;
use crate::harness::daemon::{CREDENTIALS, RELAYMAP};
use crate::harness::identities::uid_of;
use crate::harness::postfix::{self, DEADLINE};
use crate::harness::smtp_server::{self, Auth, Journal, Login};

/// The promises of a container with a socket, for either user of podman.
fn is_sandboxed_and_applies_edits(who: PodmanUser) {
    const SECRET: &str = "never-to-be-logged";
    let engine = Engine::start(who);
    let [tables, socket] = directories(&engine);
    fs::write(engine.path("password"), SECRET).unwrap();
    let file = engine.path("password");
    engine.podman(["secret", "create", "relay-password", file.to_str().unwrap()]);
    let options = [
        &tables,
        &socket,
        "--secret=relay-password,uid=10451,mode=0400",
        "--env=RELAY_HOST=default.test",
        "--env=RELAY_USER=default",
        "--env=RELAY_PASSWORD_FILE=/run/secrets/relay-password",
        "--env=POSTMAPD_SOCKET_MODE=0666",
        "--env=POSTMAPD_ALLOW_USERS=root,101",
        "--env=POSTMAPD_LOG=debug",
    ];
    let container = engine.run(&[&options[..], &CLOSED[..]].concat(), SOCKET);

    // Users are identified in containers, and no other user gets a password.
    let socket = engine.path("socket/socketmap");
    let mut postfix = engine.connect_as(101, &socket);
    wait_for(&mut postfix, "relayhost", "[relay1.test]:587");
    wait_for(&mut postfix, "sasl", "user:password-1");
    let default = Reply::found(&format!("default:{SECRET}"));
    assert_eq!(postfix.query("sasl", "[default.test]:25"), default);
    let mut other = engine.connect_as(102, &socket);
    wait_for(&mut other, "relayhost", "[relay1.test]:587");
    assert!(other.query("sasl", "me@one.test").is_refused());
    if who == PodmanUser::Operator {
        // A user of this machine outside the operator's containers is unmapped there.
        let refused = container.postmap(
            102,
            false,
            &format!("socketmap:unix:{}:sasl", socket.display()),
            "me@one.test",
        );
        assert!(refused.stderr.contains("65534"), "{refused:?}");
    }

    // Edits by renaming and in place apply to an open connection.
    engine.write(
        &engine.path("tables").join(RELAYMAP),
        "@one.test [relay2.test]:587\n<>\n",
    );
    engine.write(
        &engine.path("tables").join(CREDENTIALS),
        "@one.test user:password-2\n",
    );
    wait_for(&mut postfix, "relayhost", "[relay2.test]:587");
    wait_for(&mut postfix, "sasl", "user:password-2");
    fs::write(
        engine.path("tables").join(CREDENTIALS),
        "@one.test user:password-3\n",
    )
    .unwrap();
    wait_for(&mut postfix, "sasl", "user:password-3");

    is_confined(&container);
    is_healthy(&container);
    let log = container.log();
    for secret in [SECRET, "password-1", "password-2", "password-3"] {
        assert!(!log.contains(secret), "{log}");
    }
    assert_eq!(container.stop(), 0, "{log}");
    assert!(!socket.exists(), "{log}");
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_root_container_is_sandboxed_and_applies_edits() {
    is_sandboxed_and_applies_edits(PodmanUser::Root);
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_rootless_container_is_sandboxed_and_applies_edits() {
    is_sandboxed_and_applies_edits(PodmanUser::Operator);
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_real_postfix_uses_the_relay_answered_by_the_container() {
    const RECIPIENT: &str = "[127.0.0.9]";
    let journal = Journal::default();
    let relays = [2, 3].map(|last| {
        smtp_server::Setup::new(&format!("relay {last}"), [127, 0, 0, last].into())
            .auth(Auth::Demanded)
            .journal(&journal)
            .accepting(Login::new("user", &format!("password:{last}")))
            .start()
            .unwrap()
    });
    let engine = Engine::start(PodmanUser::Root);
    let [tables, socket] = directories(&engine);
    let route = |n: usize| {
        let write = |name: &str, text: String| engine.write(&engine.path("tables").join(name), &text);
        write(CREDENTIALS, format!("@one.test user:password:{}\n", n + 2));
        write(RELAYMAP, format!("@one.test {}\n", relays[n].next_hop()));
    };
    route(0);
    let allowed = format!("--env=POSTMAPD_ALLOW_USERS={}", uid_of("postfix"));
    let options = [&tables, &socket, "--env=POSTMAPD_SOCKET_MODE=0666", &allowed];
    let container = engine.run(&[&options[..], &CLOSED[..]].concat(), SOCKET);
    let map = |name: &str| {
        format!(
            "proxy:socketmap:unix:{}:{name}",
            engine.path("socket/socketmap").display()
        )
    };
    let postfix = postfix::Setup::new()
        .unwrap()
        .chrooted(true)
        .set("sender_dependent_relayhost_maps", map("relayhost"))
        .set("smtp_sasl_password_maps", map("sasl"))
        .set("proxy_read_maps", format!("{} {}", map("relayhost"), map("sasl")))
        .start()
        .unwrap();
    for (n, relay) in relays.iter().enumerate() {
        route(n);
        let mut client = engine.connect_as(uid_of("postfix"), &engine.path("socket/socketmap"));
        wait_for(&mut client, "relayhost", &relay.next_hop());
        let recipient = format!("user-{n}@{RECIPIENT}");
        postfix.send("me@one.test", &recipient).unwrap();
        let mail = journal.mail_to(&recipient, DEADLINE).expect("the mail arrives");
        assert_eq!(mail.server, relay.name());
        let login = Login::new("user", &format!("password:{}", n + 2));
        assert_eq!(mail.login.map(|login| login.to_string()), Some(login.to_string()));
    }
    assert_eq!(container.stop(), 0);
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn over_the_loopback_of_a_pod_users_are_identified_by_number() {
    let engine = Engine::start(PodmanUser::Root);
    let [tables, _] = directories(&engine);
    // What the program does by default.
    let options = [tables.as_str(), "--env=POSTMAPD_ALLOW_USERS=101"];
    let container = engine.run(
        &[&options[..], &CLOSED[..5]].concat(),
        "socketmap:inet:127.0.0.1:10451",
    );
    let query = |user, map| {
        container.postmap(
            user,
            true,
            &format!("socketmap:inet:127.0.0.1:10451:{map}"),
            "me@one.test",
        )
    };
    assert_eq!(query(101, "relayhost").stdout, "[relay1.test]:587\n");
    assert_eq!(query(101, "sasl").stdout, "user:password-1\n");
    assert_eq!(query(102, "relayhost").stdout, "[relay1.test]:587\n");
    let refused = query(102, "sasl");
    assert!(refused.stderr.contains("102"), "{refused:?}");
    assert_eq!(container.stop(), 0);
}

/// Runtimes with a filter that denies Landlock, as old ones have, and without a filter. The socket is on a new volume,
/// which is owned as the image's directory.
#[test]
#[ignore = "needs root: tests/run-all"]
fn a_mechanism_the_runtime_forbids_is_logged_and_the_server_continues() {
    let engine = Engine::start(PodmanUser::Root);
    let [tables, _] = directories(&engine);
    let names = [
        "landlock_create_ruleset",
        "landlock_add_rule",
        "landlock_restrict_self",
    ];
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
    });
    fs::write(engine.path("seccomp.json"), profile.to_string()).unwrap();
    let without_landlock = format!("--security-opt=seccomp={}", engine.path("seccomp.json").display());
    for (filter, words) in [
        (without_landlock.as_str(), "files can be written (Landlock)"),
        (
            "--security-opt=seccomp=unconfined",
            "no file writes (Landlock ABI",
        ),
    ] {
        let options = [&tables, "--volume=new:/run/postmapd", filter, "--replace"];
        let container = engine.run(&[&options[..], &CLOSED[..]].concat(), SOCKET);
        let log = container.log();
        assert!(
            log.contains(words) && log.contains("system calls filtered"),
            "{log}"
        );
        let volume = engine.podman(["volume", "inspect", "--format", "{{.Mountpoint}}", "new"]);
        let mut client = engine.connect_as(0, &Path::new(volume.trim()).join("socketmap"));
        wait_for(&mut client, "sasl", "user:password-1");
        assert_eq!(container.stop(), 0);
    }
}
