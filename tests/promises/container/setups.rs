//! The image, as started by contrib's files for docker-mailserver and Kubernetes.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};

use super::engine::{Engine, PodmanUser, SERVER};
use super::{CLOSED, SOCKET, directories, is_confined, is_healthy, wait_for};
use crate::contrib::docker_mailserver::service;
use crate::contrib::kubernetes::{named, pod, write_volume};
use crate::contrib::{done, read, text};
use crate::harness::client::{Reply, Socketmap, Stream};
use crate::harness::daemon::{CREDENTIALS, RELAYMAP};
use crate::harness::eventually;
use crate::harness::identities::{Networks, uid_of};

#[test]
#[ignore = "needs root: tests/run-all"]
fn another_host_queries_over_tcp_with_the_compose_file() {
    let networks = Networks::new();
    let engine = Engine::start(PodmanUser::Root);
    let [tables, _] = directories(&engine);
    let service = service("compose.network.yaml", None, "postmapd");
    let variable = |name: &str| text(&service["environment"][name]).to_owned();
    let network = format!("--network=ns:/run/netns/{}", networks.start_command()[3]);
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
#[ignore = "needs root: tests/run-all"]
fn docker_compose_starts_postmapd_beside_a_mailserver() {
    let postfix = uid_of("postfix");
    let mut engine = Engine::start(PodmanUser::Root);
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
    // Only this service is started, because the mailserver's image is not available here.
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
    // In the other container the mount is read-only.
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
    let query = |user: u32, name: &str| container.postmap(user, false, &map(name), "me@one.test");
    assert_eq!(query(postfix, "relayhost").stdout, "[relay1.test]:587\n");
    assert_eq!(query(postfix, "sasl").stdout, "user:password-1\n");
    let refused = query(uid_of("nobody"), "sasl");
    assert!(
        refused.stderr.contains(&uid_of("nobody").to_string()),
        "{refused:?}"
    );

    // The command of the guide.
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
        || query(postfix, "relayhost").stdout,
        |hop| hop == "[relay2.test]:587\n",
    );
    compose(&["stop", "postmapd"]);
    assert_eq!(container.stop(), 0);
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_pods_sidecar_applies_updates_of_mounted_volumes() {
    let pod = pod();
    let sidecar = named(&pod["initContainers"], "postmapd");
    let engine = Engine::start(PodmanUser::Root);
    let [files, socket] = ["files", "socket"].map(|name| engine.path(name));
    for directory in [&files, &socket] {
        fs::create_dir(directory).unwrap();
    }
    // The volume belongs to root, and an emptyDir is writable for all users.
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o777)).unwrap();
    let shipped =
        [RELAYMAP, CREDENTIALS, "postmapd.toml"].map(|name| (name, read(&format!("kubernetes/base/{name}"))));
    write_volume(&files, "1", &shipped);
    let context = &sidecar["securityContext"];
    let mut options = vec![
        format!("--user={}:{}", context["runAsUser"], context["runAsGroup"]),
        format!("--volume={}:/etc/postmapd:ro", files.display()),
        format!("--volume={}:/run/postmapd", socket.display()),
    ];
    for one in sidecar["env"].as_array().unwrap() {
        options.push(format!("--env={}={}", text(&one["name"]), text(&one["value"])));
    }
    let mut options: Vec<&str> = options
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
    let sender = "me@domain1.com";
    assert_eq!(postfix.login(sender), Reply::found("relay_user_1:password_1"));
    let mut new = shipped;
    new[0].1 = "@domain1.com [relay9.org]:587\n".to_owned();
    new[1].1 = "@domain1.com user_9:password_9\n".to_owned();
    write_volume(&files, "2", &new);
    postfix.eventually_finds("relayhost", sender, "[relay9.org]:587");
    assert_eq!(postfix.login(sender), Reply::found("user_9:password_9"));
    assert_eq!(container.stop(), 0);

    // Some clusters choose a user number that the image does not contain.
    options[0] = "--user=1000660000:0";
    options.push("--replace");
    let container = engine.run(&options, SOCKET);
    let mut postfix = engine.connect_as(101, &socket.join("socketmap"));
    postfix.finds("sasl", "me@domain1.com", "user_9:password_9");
    assert_eq!(container.stop(), 0);
}
