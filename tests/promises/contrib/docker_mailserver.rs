//! contrib/docker-mailserver. postconf_command.rs tests that mail leaves by the right relay, with DMS's values in
//! main.cf and master.cf and either variant over them, for the same lines with another endpoint.

use super::{confined, contrib, done, query_as, read, text, yaml};
use crate::harness::client::Reply;
use crate::harness::daemon::{Daemon, Finished, Setup, finish};
use crate::harness::identities::uid_of;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;

#[test]
fn the_override_files_match_the_output_of_postconf() {
    for (directory, endpoint) in [
        ("socket", "socketmap:unix:/run/postmapd/socketmap"),
        ("network", "socketmap:inet:postmapd:10451"),
    ] {
        for file in ["main", "master"] {
            let mut command = Setup::new().command("postconf");
            command.args([&format!("--docker-mailserver={file}"), "--server", endpoint]);
            let name = format!("docker-mailserver/{directory}/postfix-{file}.cf");
            assert_eq!(done(&mut command, b"").stdout, read(&name), "{name}");
        }
    }
}

/// `docker-compose config` of a file, in a directory as in the guide.
fn compose(file: &str, postfix: Option<u32>) -> Finished {
    let directory = tempfile::tempdir().unwrap();
    fs::copy(
        contrib("docker-mailserver").join(file),
        directory.path().join(file),
    )
    .unwrap();
    fs::write(directory.path().join("mailserver.env"), "").unwrap();
    let mut command = Command::new("docker-compose");
    command.args(["-f", file, "config"]).current_dir(directory.path());
    if let Some(number) = postfix {
        command.env("POSTFIX_UID", number.to_string());
    }
    finish(&mut command, b"")
}

/// The service of that name.
pub(crate) fn service(file: &str, postfix: Option<u32>, name: &str) -> Value {
    let config = compose(file, postfix);
    assert_eq!(config.code, Some(0), "{file}: {}", config.stderr);
    yaml(&config.stdout)[0]["services"][name].clone()
}

/// Sets the environment of the service, with its paths replaced.
fn with_environment(setup: Setup, service: &Value, replace: &[(&str, &str)]) -> Setup {
    let environment = service["environment"].as_object().unwrap();
    environment.iter().fold(setup, |setup, (name, value)| {
        let value = replace.iter().fold(text(value).to_owned(), |value, (old, new)| {
            value.replace(old, new)
        });
        setup.env(name, value)
    })
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn a_compose_file_without_the_user_of_postfix_is_reported() {
    let config = compose("compose.yaml", None);
    assert_ne!(config.code, Some(0));
    assert!(
        config.stderr.contains("see with-docker-mailserver.md"),
        "{}",
        config.stderr
    );
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn only_postfix_in_the_other_container_gets_passwords_over_the_socket() {
    let postfix = uid_of("postfix");
    let service = service("compose.yaml", Some(postfix), "postmapd");
    assert_eq!(service["user"], "10451:10451");
    let setup = Setup::new()
        .relaymap("@one.test [relay.test]:587\n")
        .credentials("@one.test user:password\n");
    let [own, theirs] = ["run", "theirs"].map(|name| setup.root().join(name));
    for directory in [&own, &theirs] {
        fs::create_dir(directory).unwrap();
    }
    // As the volume is mounted: mode=0755,uid=10451,gid=10451.
    fs::set_permissions(&own, PermissionsExt::from_mode(0o755)).unwrap();
    chown(&own, Some(10451), Some(10451)).unwrap();
    let admin = format!("unix:{}/admin", own.display());
    let replace = [
        ("/run/postmapd", own.to_str().unwrap()),
        ("127.0.0.1:9451", admin.as_str()),
    ];
    let endpoint = format!("socketmap:unix:{}/socketmap", own.display());
    let setup = with_environment(setup, &service, &replace).within(confined(10451, 10451));
    let daemon = Daemon::start(setup.announces(&[&endpoint]));
    // The service's health check.
    let mut alive = daemon.setup().without_dir_flag().command("status");
    done(alive.arg("--alive"), b"");

    let next_hop = Reply::found("[relay.test]:587");
    let password = Reply::found("user:password");
    for user in [0, postfix] {
        assert_eq!(query_as(&daemon, user, "sasl", "me@one.test"), password, "{user}");
    }
    for user in [uid_of("nobody"), 10451] {
        assert_eq!(query_as(&daemon, user, "relayhost", "me@one.test"), next_hop);
        let refused = query_as(&daemon, user, "sasl", "me@one.test");
        assert!(
            refused.is_refused() && refused.reason().contains(&user.to_string()),
            "{refused:?}"
        );
    }

    // Through a read-only mount, by Postfix's own client.
    let script = "mount --bind \"$1\" \"$2\" && mount -o remount,bind,ro \"$2\" || exit 99\n\
                  ! touch \"$2/mine\" 2>/dev/null || exit 98\n\
                  MAIL_CONFIG=$4 exec setpriv --reuid=postfix --regid=postfix --clear-groups \
                  postmap -q me@one.test socketmap:unix:\"$2/socketmap\":\"$3\"";
    let config = daemon.root().join("etc");
    fs::create_dir(&config).unwrap();
    fs::write(config.join("main.cf"), "").unwrap();
    for (map, expected) in [("relayhost", "[relay.test]:587\n"), ("sasl", "user:password\n")] {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", script, "sh"]);
        command.args([&own, &theirs]).arg(map).arg(&config);
        assert_eq!(done(&mut command, b"").stdout, expected);
    }
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn over_the_network_only_the_mailserver_may_query() {
    let [mailserver, postmapd] =
        ["mailserver", "postmapd"].map(|name| service("compose.network.yaml", None, name));
    let address = |service: &Value| text(&service["networks"]["postmapd"]["ipv4_address"]).to_owned();
    assert_eq!(
        text(&postmapd["environment"]["POSTMAPD_ALLOW_NETWORKS"]),
        address(&mailserver)
    );
    assert_ne!(address(&mailserver), address(&postmapd));
    // The port in the override files, and settings without a finding. access.rs tests which clients are allowed.
    assert_eq!(
        text(&postmapd["environment"]["POSTMAPD_LISTEN"]),
        "socketmap:inet:0.0.0.0:10451"
    );
    let routed = Setup::new().relaymap("@one.test [relay.test]:587\n");
    let setup = with_environment(routed, &postmapd, &[]);
    let check = done(setup.command("check").arg("--strict"), b"");
    assert_eq!(check.stderr, "");
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn both_compose_files_sandbox_the_server_alike() {
    let services = [
        service("compose.yaml", Some(1), "postmapd"),
        service("compose.network.yaml", None, "postmapd"),
    ];
    for name in [
        "user",
        "read_only",
        "cap_drop",
        "security_opt",
        "healthcheck",
        "image",
    ] {
        assert_eq!(services[0][name], services[1][name], "{name}");
        assert!(!services[0][name].is_null(), "{name}");
    }
    assert_eq!(services[0]["network_mode"], "none");
}
