//! Promise: the container image is small, holds nothing but the program, and is as closed and as live as the program is.
//!
//! The image that contrib/container/build makes runs in a real podman, as root and rootless, by hand and as contrib's
//! files have it: docker-compose itself starts compose.yaml. There is no cluster; what kubelet would do is done here.

mod engine;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::contrib::docker_mailserver::service;
use crate::contrib::kubernetes::{bring, named, pod};
use crate::contrib::{done, read, text};
use crate::harness::client::{Reply, Socketmap, Stream};
use crate::harness::daemon::{CREDENTIALS, RELAYMAP};
use crate::harness::elsewhere::{Networks, uid_of};
use crate::harness::eventually;
use crate::harness::postfix::{self, DEADLINE};
use crate::harness::smtp_server::{self, Auth, Journal, Login};
use engine::{Container, Engine, IMAGE, SERVER, Who, archive, build};

/// What an operator is advised to take away from it.
const CLOSED: [&str; 6] = [
    "--network=none",
    "--read-only",
    "--read-only-tmpfs=false",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
    "--env=POSTMAPD_LISTEN=socketmap:unix:/run/postmapd/socketmap",
];
const SOCKET: &str = "socketmap:unix:/run/postmapd/socketmap";

/// Two tables in a folder of the engine, and another one for the socket, as options of podman.
fn folders(engine: &Engine) -> [String; 2] {
    let tables = engine.folder("tables");
    engine.write(&tables.join(RELAYMAP), "@one.test [relay1.test]:587\n");
    engine.write(&tables.join(CREDENTIALS), "@one.test user:password-1\n");
    let socket = engine.folder("socket");
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o755)).unwrap();
    [
        format!("--volume={}:/etc/postmapd:ro", tables.display()),
        format!("--volume={}:/run/postmapd", socket.display()),
    ]
}

/// Asks until the answer is that.
#[track_caller]
fn wait_for(client: &mut Socketmap, map: &str, value: &str) {
    let wanted = Reply::found(value);
    eventually(|| client.ask(map, "me@one.test"), |reply| *reply == wanted);
}

fn list(archive: &Path) -> String {
    done(
        Command::new("tar")
            .args(["--numeric-owner", "-t", "-v", "-f"])
            .arg(archive),
        b"",
    )
    .stdout
}

/// Takes an archive apart: the configuration, and what is in its one layer (mode, owner, name).
fn contents(archive: &Path) -> (Value, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    done(
        Command::new("tar")
            .arg("-x")
            .arg("-f")
            .arg(archive)
            .arg("-C")
            .arg(folder.path()),
        b"",
    );
    let json = |name: &str| -> Value {
        serde_json::from_slice(&fs::read(folder.path().join(name)).unwrap()).unwrap()
    };
    let manifest = json("manifest.json");
    assert_eq!(manifest[0]["RepoTags"], json!([IMAGE]));
    assert_eq!(manifest[0]["Layers"].as_array().unwrap().len(), 1);
    let layer = list(&folder.path().join(text(&manifest[0]["Layers"][0])));
    let mut files: Vec<String> = layer
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            format!("{} {} {}", words[0], words[1], words[5].trim_end_matches('/'))
        })
        .collect();
    files.sort_by(|one, other| one.rsplit(' ').next().cmp(&other.rsplit(' ').next()));
    (json(text(&manifest[0]["Config"])), files)
}

#[test]
fn the_image_holds_the_program_two_names_and_two_folders() {
    let size = fs::metadata(archive()).unwrap().len();
    assert!(size < 10_000_000, "{size}");
    let (config, files) = contents(archive());
    let expected = [
        "drwxr-xr-x 0/0 etc",
        "-rw-r--r-- 0/0 etc/group",
        "-rw-r--r-- 0/0 etc/passwd",
        "drwxr-xr-x 0/0 etc/postmapd",
        "drwxr-xr-x 0/0 run",
        "drwxr-xr-x 10451/10451 run/postmapd",
        "drwxr-xr-x 0/0 usr",
        "drwxr-xr-x 0/0 usr/bin",
        "-rwxr-xr-x 0/0 usr/bin/postmapd",
    ];
    assert_eq!(files, expected);
    let config = &config["config"];
    let user = format!("{SERVER}:{SERVER}");
    for (name, value) in [
        ("User", json!(user)),
        ("Entrypoint", json!(["postmapd"])),
        ("Cmd", json!(["serve"])),
        ("StopSignal", json!("SIGTERM")),
        ("Env", json!(["PATH=/usr/bin", "POSTMAPD_ADMIN=127.0.0.1:9451"])),
        ("ExposedPorts", json!({"10451/tcp": {}, "9451/tcp": {}})),
    ] {
        assert_eq!(config[name], value, "{name}");
    }
    let health = &config["Healthcheck"]["Test"];
    assert_eq!(*health, json!(["CMD", "postmapd", "status", "--alive"]));
    let label = |name: &str| config["Labels"][format!("org.opencontainers.image.{name}")].clone();
    assert_eq!(label("version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(label("licenses"), env!("CARGO_PKG_LICENSE"));
    assert_eq!(label("title"), env!("CARGO_PKG_NAME"));

    // What contrib's files say about it.
    for compose in ["compose.yaml", "compose.network.yaml"] {
        let service = service(compose, Some(1), "postmapd");
        assert_eq!(service["image"], IMAGE);
        assert_eq!(service["user"], user);
        assert_eq!(service["healthcheck"]["test"], *health);
    }
    let pod = pod();
    let sidecar = named(&pod["initContainers"], "postmapd");
    assert_eq!(sidecar["image"], IMAGE);
    assert_eq!(sidecar["securityContext"]["runAsUser"], SERVER);
}

#[test]
fn one_program_gives_one_image() {
    let folder = tempfile::tempdir().unwrap();
    let again = build(folder.path(), "podman");
    assert!(
        fs::read(archive()).unwrap() == fs::read(again).unwrap(),
        "two builds differ"
    );
    // Another builder writes its layer otherwise, with the same in it.
    let (mut own, own_files) = contents(archive());
    let (mut other, other_files) = contents(&build(folder.path(), "buildah"));
    assert_eq!(own_files, other_files);
    own["rootfs"].take();
    other["rootfs"].take();
    assert_eq!(own, other);
}

/// Everything that is promised of a container that has a socket, whoever runs podman.
fn is_closed_and_live(who: Who) {
    const SECRET: &str = "never-to-be-logged";
    let engine = Engine::start(who);
    let [tables, socket] = folders(&engine);
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
        "--env=POSTMAPD_ALLOW_USERS=0,101",
        "--env=POSTMAPD_LOG=debug",
    ];
    let container = engine.run(&[&options[..], &CLOSED[..]].concat(), SOCKET);

    // Users are who they are in containers, and nobody else gets a password.
    let socket = engine.path("socket/socketmap");
    let mut postfix = engine.connect_as(101, &socket);
    wait_for(&mut postfix, "relayhost", "[relay1.test]:587");
    wait_for(&mut postfix, "sasl", "user:password-1");
    let default = Reply::found(&format!("default:{SECRET}"));
    assert_eq!(postfix.ask("sasl", "[default.test]:25"), default);
    let mut other = engine.connect_as(102, &socket);
    wait_for(&mut other, "relayhost", "[relay1.test]:587");
    assert!(other.ask("sasl", "me@one.test").is_refused());
    if who == Who::Operator {
        // A user of this machine, and of none of the operator's containers, is nobody there.
        let refused = container.postmap(
            102,
            false,
            &format!("socketmap:unix:{}:sasl", socket.display()),
            "me@one.test",
        );
        assert!(refused.stderr.contains("65534"), "{refused:?}");
    }

    // An edit by renaming, and one in place, count for an open connection.
    engine.write(
        &engine.path("tables").join(RELAYMAP),
        "@one.test [relay2.test]:587\n",
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

/// What the runtime takes from it, and what it takes from itself.
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
    // The runtime's filter of system calls, and its own two.
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
        log.contains("no writing (Landlock ABI") && log.contains("system calls filtered"),
        "{log}"
    );
}

/// Health checks succeed, and leave no process behind for the server to bury.
fn is_healthy(container: &Container<'_>) {
    for _ in 0..3 {
        let alive = container.exec(&["status", "--alive"]);
        assert_eq!((alive.code, alive.stdout.as_str()), (Some(0), ""), "{alive:?}");
    }
    container.podman(&["healthcheck", "run"]);
    assert_eq!(container.exec(&["check", "--strict"]).code, Some(0));
    assert_eq!(container.children(), [""; 0]);
}

#[test]
fn a_container_of_root_is_closed_and_live() {
    is_closed_and_live(Who::Root);
}

#[test]
fn a_rootless_container_is_closed_and_live() {
    is_closed_and_live(Who::Operator);
}

#[test]
fn a_real_postfix_sends_by_the_relay_that_the_container_names() {
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
    let engine = Engine::start(Who::Root);
    let [tables, socket] = folders(&engine);
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
        let recipient = format!("somebody-{n}@{RECIPIENT}");
        postfix.send("me@one.test", &recipient).unwrap();
        let mail = journal.mail_to(&recipient, DEADLINE).expect("the mail arrives");
        assert_eq!(mail.server, relay.name());
        let login = Login::new("user", &format!("password:{}", n + 2));
        assert_eq!(mail.login.map(|login| login.to_string()), Some(login.to_string()));
    }
    assert_eq!(container.stop(), 0);
}

#[test]
fn another_host_asks_over_tcp_as_compose_has_it() {
    let networks = Networks::new();
    let engine = Engine::start(Who::Root);
    let [tables, _] = folders(&engine);
    let service = service("compose.network.yaml", None, "postmapd");
    let variable = |name: &str| text(&service["environment"][name]).to_owned();
    let network = format!("--network=ns:/run/netns/{}", networks.starter()[3]);
    let listen = variable("POSTMAPD_LISTEN");
    let options = [
        &tables,
        &network,
        &format!("--env=POSTMAPD_LISTEN={listen}"),
        "--env=POSTMAPD_ALLOW_NETWORKS=192.0.2.2",
    ];
    let container = engine.run(&[&options[..], &CLOSED[1..5]].concat(), &listen);
    let (mut far, mut near) = (
        networks.far(|| Stream::connect("192.0.2.1:10451")),
        networks.near(0, || Stream::connect("192.0.2.1:10451")),
    );
    assert_eq!(near.read_until_closed(), b"");
    let mut client = Socketmap {
        stream: std::mem::replace(&mut far, near),
    };
    wait_for(&mut client, "relayhost", "[relay1.test]:587");
    wait_for(&mut client, "sasl", "user:password-1");
    assert_eq!(container.stop(), 0);
}

#[test]
fn docker_compose_starts_it_beside_a_mailserver() {
    let postfix = uid_of("postfix");
    let mut engine = Engine::start(Who::Root);
    let docker = engine.docker();
    let project = engine.path("project");
    let tables = project.join("docker-data/postmapd");
    fs::create_dir_all(&tables).unwrap();
    chown(&tables, Some(SERVER), Some(SERVER)).unwrap();
    engine.write(&tables.join(RELAYMAP), "@one.test [relay1.test]:587\n");
    engine.write(&tables.join(CREDENTIALS), "@one.test user:password-1\n");
    fs::write(
        project.join("compose.yaml"),
        read("docker-mailserver/compose.yaml"),
    )
    .unwrap();
    fs::write(project.join("mailserver.env"), "").unwrap();
    fs::write(project.join(".env"), format!("POSTFIX_UID={postfix}\n")).unwrap();
    let compose = |words: &[&str]| {
        let mut command = engine.inside("docker-compose");
        let file = project.join("compose.yaml");
        command
            .arg("--file")
            .arg(file)
            .args(words)
            .env("DOCKER_HOST", &docker);
        done(&mut command, b"").stdout
    };
    // The service alone, and not what it is beside: that image is not here.
    compose(&["up", "--detach", "postmapd"]);
    let container = engine.container("project_postmapd_1".to_owned(), SOCKET);
    is_confined(&container);
    is_healthy(&container);

    let volume = [
        "volume",
        "inspect",
        "--format",
        "{{.Mountpoint}}",
        "project_postmapd-socket",
    ];
    let volume = engine.podman(volume).trim().to_owned();
    // As the other container has it: there the mount is read-only.
    let theirs = engine.path("theirs");
    fs::create_dir(&theirs).unwrap();
    done(
        engine
            .inside("mount")
            .args(["--bind", "-o", "ro", &volume])
            .arg(&theirs),
        b"",
    );
    let map = |name: &str| format!("socketmap:unix:{}/socketmap:{name}", theirs.display());
    let ask = |user: u32, name: &str| container.postmap(user, false, &map(name), "me@one.test");
    assert_eq!(ask(postfix, "relayhost").stdout, "[relay1.test]:587\n");
    assert_eq!(ask(postfix, "sasl").stdout, "user:password-1\n");
    let refused = ask(uid_of("nobody"), "sasl");
    assert!(
        refused.stderr.contains(&uid_of("nobody").to_string()),
        "{refused:?}"
    );

    // As the guide has it.
    let list = compose(&["exec", "-T", "postmapd", "postmapd", "relay", "list"]);
    assert!(list.contains("[relay1.test]:587"), "{list}");
    let add = [
        "exec",
        "-T",
        "postmapd",
        "postmapd",
        "relay",
        "add-domain",
        "one.test",
        "relay2.test",
        "587",
    ];
    compose(&add);
    eventually(
        || ask(postfix, "relayhost").stdout,
        |hop| hop == "[relay2.test]:587\n",
    );
    compose(&["stop", "postmapd"]);
    assert_eq!(container.stop(), 0);
}

#[test]
fn the_sidecar_of_a_pod_takes_over_what_kubelet_brings() {
    let pod = pod();
    let sidecar = named(&pod["initContainers"], "postmapd");
    let engine = Engine::start(Who::Root);
    let [files, socket] = ["files", "socket"].map(|name| engine.path(name));
    for folder in [&files, &socket] {
        fs::create_dir(folder).unwrap();
    }
    // The volume belongs to root, and an emptyDir is for everybody.
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o777)).unwrap();
    let shipped =
        [RELAYMAP, CREDENTIALS, "postmapd.toml"].map(|name| (name, read(&format!("kubernetes/base/{name}"))));
    bring(&files, "1", &shipped);
    let context = &sidecar["securityContext"];
    let mut options = vec![
        format!("--user={}:{}", context["runAsUser"], context["runAsGroup"]),
        format!("--volume={}:/etc/postmapd:ro", files.display()),
        format!("--volume={}:/run/postmapd", socket.display()),
    ];
    for one in sidecar["env"].as_array().unwrap() {
        options.push(format!("--env={}={}", text(&one["name"]), text(&one["value"])));
    }
    let options: Vec<&str> = options
        .iter()
        .map(String::as_str)
        .chain(CLOSED[..5].iter().copied())
        .collect();
    let container = engine.run(&options, SOCKET);
    is_confined(&container);
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let words = sidecar[probe]["exec"]["command"].as_array().unwrap();
        let words: Vec<&str> = words.iter().map(text).collect();
        assert_eq!(words[0], "postmapd");
        assert_eq!(container.exec(&words[1..]).code, Some(0), "{probe}");
    }
    let mut postfix = engine.connect_as(101, &socket.join("socketmap"));
    let mut ask = |map: &str| postfix.ask(map, "me@domain1.com");
    assert_eq!(ask("sasl"), Reply::found("relay_user_1:password_1"));
    let mut new = shipped;
    new[0].1 = "@domain1.com [relay9.org]:587\n".to_owned();
    new[1].1 = "@domain1.com user_9:password_9\n".to_owned();
    bring(&files, "2", &new);
    eventually(
        || ask("relayhost"),
        |reply| *reply == Reply::found("[relay9.org]:587"),
    );
    assert_eq!(ask("sasl"), Reply::found("user_9:password_9"));
    assert_eq!(container.stop(), 0);
}

#[test]
fn over_the_loopback_of_a_pod_users_are_known_by_their_numbers() {
    let engine = Engine::start(Who::Root);
    let [tables, _] = folders(&engine);
    // What the program does by itself.
    let options = [tables.as_str(), "--env=POSTMAPD_ALLOW_USERS=101"];
    let container = engine.run(
        &[&options[..], &CLOSED[..5]].concat(),
        "socketmap:inet:127.0.0.1:10451",
    );
    let ask = |user, map| {
        container.postmap(
            user,
            true,
            &format!("socketmap:inet:127.0.0.1:10451:{map}"),
            "me@one.test",
        )
    };
    assert_eq!(ask(101, "relayhost").stdout, "[relay1.test]:587\n");
    assert_eq!(ask(101, "sasl").stdout, "user:password-1\n");
    assert_eq!(ask(102, "relayhost").stdout, "[relay1.test]:587\n");
    let refused = ask(102, "sasl");
    assert!(refused.stderr.contains("102"), "{refused:?}");
    assert_eq!(container.stop(), 0);
}

/// A runtime whose filter knows no Landlock, as old ones have it, and one that has no filter.
#[test]
fn what_a_runtime_forbids_is_said_and_does_not_stop_the_server() {
    let engine = Engine::start(Who::Root);
    let [tables, socket] = folders(&engine);
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
        ("--security-opt=seccomp=unconfined", "no writing (Landlock ABI"),
    ] {
        let options = [&tables, &socket, filter, "--replace"];
        let container = engine.run(&[&options[..], &CLOSED[..]].concat(), SOCKET);
        let log = container.log();
        assert!(
            log.contains(words) && log.contains("system calls filtered"),
            "{log}"
        );
        let mut client = engine.connect_as(0, &engine.path("socket/socketmap"));
        wait_for(&mut client, "sasl", "user:password-1");
        assert_eq!(container.stop(), 0);
    }
}
