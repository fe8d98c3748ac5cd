//! contrib/follow and contrib/kubernetes/follow: postmapd with tables that postmapd-follow writes into a shared volume.
//! follow/tests runs postmapd-follow itself.

use super::kubernetes::{VERSIONS, named, validate};
use super::{confined, contrib, done, query_as, read, text, yaml};
use crate::harness::client::Reply;
use crate::harness::daemon::{Daemon, Finished, Setup, finish};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;

/// A directory of postmapd-follow in this state: the files of a generation, readable for one user, and links to it.
fn publish(directory: &Path, owner: u32) {
    let generation = directory.join("..0123456789abcdef0123456789abcdef");
    fs::create_dir(&generation).unwrap();
    symlink(generation.file_name().unwrap(), directory.join("..data")).unwrap();
    for (name, content) in [
        // The second entry is what becomes of a bad row.
        ("postfix-relaymap.cf", "@one.test [relay.test]:587\n@two.test [\n"),
        ("postfix-sasl-password.cf", "@one.test user:password\n"),
        (
            "source.json",
            "{\"source\":\"postgres://postmapd@db.test/mail\",\"revision\":7}",
        ),
    ] {
        let path = generation.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        chown(&path, Some(owner), None).unwrap();
        symlink(Path::new("..data").join(name), directory.join(name)).unwrap();
    }
}

/// Runs postmapd with the environment of a container, and queries it.
#[track_caller]
fn expect_answers_from_volume(environment: &[(String, String)], identity: (u32, u32), postfix: u32) {
    let setup = Setup::new();
    let [tables, socket] = ["shared", "run"].map(|name| setup.root().join(name));
    for directory in [&tables, &socket] {
        fs::create_dir(directory).unwrap();
        fs::set_permissions(directory, PermissionsExt::from_mode(0o777)).unwrap();
    }
    publish(&tables, identity.0);
    let settings = setup.dir().join("postmapd.toml");
    fs::write(&settings, read("kubernetes/base/postmapd.toml")).unwrap();
    let admin = format!("unix:{}/admin", socket.display());
    let setup = environment.iter().fold(setup, |setup, (name, value)| {
        let value = value
            .replace("/run/postmapd", socket.to_str().unwrap())
            .replace("/var/lib/postmapd", tables.to_str().unwrap())
            .replace("/etc/postmapd/postmapd.toml", settings.to_str().unwrap())
            .replace("127.0.0.1:9451", &admin);
        setup.env(name, value)
    });
    let endpoint = format!("socketmap:unix:{}/socketmap", socket.display());
    let setup = setup.without_dir_flag().within(confined(identity.0, identity.1));
    let daemon = Daemon::start(setup.announces(&[&endpoint]));
    let query = |user, map, key| query_as(&daemon, user, map, key);
    assert_eq!(
        query(postfix, "relayhost", "me@one.test"),
        Reply::found("[relay.test]:587")
    );
    assert_eq!(
        query(postfix, "sasl", "me@one.test"),
        Reply::found("user:password")
    );
    assert!(query(54321, "sasl", "me@one.test").is_refused());
    // A bad row is a temporary error for its own lookups.
    assert!(query(postfix, "relayhost", "me@two.test").is_cannot_tell());
    assert_eq!(query(postfix, "relayhost", "me@three.test"), Reply::NotFound);
}

/// The settings in a README are those of the program.
#[track_caller]
fn expect_valid_settings(readme: &str) {
    let (_, settings) = readme.split_once("```toml\n").unwrap();
    let (settings, _) = settings.split_once("```").unwrap();
    let temp = tempfile::tempdir().unwrap();
    let own = temp.path().to_str().unwrap();
    let authority = crate::harness::certificates::Authority::new("authority");
    fs::copy(authority.file(), temp.path().join("ca.crt")).unwrap();
    fs::write(temp.path().join("password"), "password\n").unwrap();
    fs::set_permissions(temp.path().join("password"), PermissionsExt::from_mode(0o440)).unwrap();
    let file = temp.path().join("follow.toml");
    fs::write(&file, settings.replace("/etc/postmapd", own)).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_postmapd")).with_file_name("postmapd-follow");
    let mut command = Command::new(program);
    done(command.args(["check", "--offline", "--config"]).arg(&file), b"");
}

fn compose(environment: &[(&str, &str)]) -> Finished {
    let directory = tempfile::tempdir().unwrap();
    fs::copy(
        contrib("follow/compose.yaml"),
        directory.path().join("compose.yaml"),
    )
    .unwrap();
    let mut command = Command::new("docker-compose");
    command
        .args(["-p", "mail", "config"])
        .current_dir(directory.path());
    finish(command.envs(environment.iter().copied()), b"")
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn compose_starts_postmapd_when_the_tables_are_in_the_common_volume() {
    let without = compose(&[]);
    assert_ne!(without.code, Some(0));
    assert!(without.stderr.contains("id -u postfix"), "{}", without.stderr);
    let config = compose(&[("POSTFIX_UID", "101")]);
    assert_eq!(config.code, Some(0), "{}", config.stderr);
    let services = &yaml(&config.stdout)[0]["services"];
    for (name, command) in [
        ("follow-once", json!(["once", "--timeout", "60s"])),
        ("follow", json!(["run"])),
        ("postmapd", json!(["serve"])),
    ] {
        let service = &services[name];
        assert_eq!(service["command"], command, "{name}");
        assert_eq!(service["user"], "10451:10451", "{name}");
        assert_eq!(
            (
                &service["read_only"],
                &service["cap_drop"],
                &service["security_opt"]
            ),
            (&json!(true), &json!(["ALL"]), &json!(["no-new-privileges:true"])),
            "{name}"
        );
        let first = &service["depends_on"]["follow-once"]["condition"];
        assert_eq!(
            first == "service_completed_successfully",
            name != "follow-once",
            "{name}"
        );
        let mounts = service["volumes"].to_string();
        assert!(mounts.contains("postmapd-tables"), "{mounts}");
    }
    assert_eq!(services["postmapd"]["network_mode"], "none");
    let environment = services["postmapd"]["environment"].as_object().unwrap();
    let environment: Vec<_> = environment
        .iter()
        .map(|(name, value)| (name.clone(), text(value).to_owned()))
        .collect();
    expect_answers_from_volume(&environment, (10451, 10451), 101);
    expect_valid_settings(&read("follow/README.md"));
}

/// The manifests of the overlay in the README, and the pod of the StatefulSet.
fn overlay() -> (String, Value) {
    let temp = tempfile::tempdir().unwrap();
    for name in ["base", "follow"] {
        let (from, to) = (contrib("kubernetes").join(name), temp.path().join(name));
        fs::create_dir(&to).unwrap();
        for file in fs::read_dir(from).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
    let own = temp.path().join("own");
    fs::create_dir(&own).unwrap();
    for name in ["follow.toml", "password", "ca.crt"] {
        fs::write(own.join(name), name).unwrap();
    }
    let readme = read("kubernetes/follow/README.md");
    let (_, kustomization) = readme.split_once("```yaml\n").unwrap();
    let (kustomization, _) = kustomization.split_once("```").unwrap();
    fs::write(own.join("kustomization.yaml"), kustomization).unwrap();
    let kubectl = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("kubernetes-validate/bin/kubectl");
    let built = done(Command::new(kubectl).arg("kustomize").arg(&own), b"").stdout;
    let documents = yaml(&built);
    let set = documents.iter().find(|one| one["kind"] == "StatefulSet").unwrap();
    let pod = set["spec"]["template"]["spec"].clone();
    (built, pod)
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_component_writes_the_tables_before_postmapd_starts_and_follows_the_database_in_a_sidecar() {
    let (built, pod) = overlay();
    for version in VERSIONS {
        let checked = validate(&built, version);
        let passed = checked.stdout.matches(" passed for resource ").count();
        assert_eq!((checked.code, passed), (Some(0), 5), "{}", checked.stdout);
    }
    let containers = pod["initContainers"].as_array().unwrap();
    let order: Vec<_> = containers.iter().map(|one| text(&one["name"])).collect();
    assert_eq!(order, ["postmapd-follow-once", "postmapd-follow", "postmapd"]);
    let [once, run, server] = [0, 1, 2].map(|at| &containers[at]);
    assert_eq!(
        (&once["args"], &once["restartPolicy"]),
        (&json!(["once", "--timeout", "60s"]), &Value::Null)
    );
    assert_eq!(
        (&run["args"], &run["restartPolicy"]),
        (&json!(["run"]), &json!("Always"))
    );
    for one in [once, run] {
        assert_eq!(one["securityContext"], server["securityContext"]);
        let secret = named(&one["volumeMounts"], "postmapd-follow");
        assert_eq!(
            (&secret["mountPath"], &secret["readOnly"]),
            (&json!("/etc/postmapd"), &json!(true))
        );
        assert_eq!(
            named(&one["volumeMounts"], "postmapd-tables")["readOnly"],
            Value::Null
        );
    }
    // A database that is away restarts nothing, and takes no pod out of service.
    for probe in ["livenessProbe", "readinessProbe"] {
        assert_eq!(
            run[probe]["httpGet"],
            json!({"path": "/healthz", "port": "follow"})
        );
    }
    assert_eq!(
        named(&server["volumeMounts"], "postmapd-tables")["readOnly"],
        true
    );
    assert_eq!(
        named(&pod["volumes"], "postmapd-tables")["emptyDir"]["medium"],
        "Memory"
    );
    let secret = &named(&pod["volumes"], "postmapd-follow")["secret"];
    assert_eq!(secret["defaultMode"], 0o440);
    let generated = yaml(&built);
    assert!(
        generated
            .iter()
            .any(|one| one["kind"] == "Secret" && one["metadata"]["name"] == secret["secretName"])
    );
    let environment: Vec<_> = server["env"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (text(&one["name"]).to_owned(), text(&one["value"]).to_owned()))
        .collect();
    expect_answers_from_volume(&environment, (10451, 0), 101);
    expect_valid_settings(&read("kubernetes/follow/README.md"));
}
