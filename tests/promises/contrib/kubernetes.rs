//! contrib/kubernetes.

use super::{confined, contrib, done, query_as, read, text, yaml};
use crate::harness::client::{Reply, Socketmap};
use crate::harness::daemon::{Daemon, Finished, Setup, finish};
use crate::harness::eventually;
use crate::harness::identities::as_user;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

/// The oldest version with sidecar containers, and the newest that the validator supports.
pub(super) const VERSIONS: [&str; 2] = ["1.29", "1.37"];

fn manifest() -> String {
    read("kubernetes/base/postfix.yaml")
}

/// `kubernetes-validate --strict`, which rejects every field that is not in the schema.
pub(super) fn validate(manifest: &str, version: &str) -> Finished {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("kubernetes-validate");
    let mut command = Command::new(program.join("bin/kubernetes-validate"));
    finish(
        command.args(["--strict", "-k", version, "-"]),
        manifest.as_bytes(),
    )
}

/// The pod of the StatefulSet.
pub(crate) fn pod() -> Value {
    let documents = yaml(&manifest());
    let set = documents.iter().find(|one| one["kind"] == "StatefulSet").unwrap();
    set["spec"]["template"]["spec"].clone()
}

/// The element of a list with that name.
pub(crate) fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    let mut all = list.as_array().unwrap().iter();
    all.find(|one| one["name"] == name)
        .unwrap_or_else(|| panic!("no {name} in {list}"))
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_manifest_conforms_to_the_strict_schemas() {
    let manifest = manifest();
    for version in VERSIONS {
        let checked = validate(&manifest, version);
        let passed = checked.stdout.matches(" passed for resource ").count();
        assert_eq!((checked.code, passed), (Some(0), 2), "{}", checked.stdout);
        // The validator does detect mistakes.
        for (right, wrong) in [
            ("livenessProbe:", "livenesProbe:"),
            ("runAsUser: 10451", "runAsUser: postmapd"),
            ("sizeLimit: 1Mi", "size: 1Mi"),
        ] {
            let checked = validate(&manifest.replace(right, wrong), version);
            assert_eq!(checked.code, Some(1), "{wrong}: {}", checked.stdout);
        }
    }
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn the_kustomization_generates_what_the_manifest_mounts() {
    let kustomization = &yaml(&read("kubernetes/base/kustomization.yaml"))[0];
    let resources = kustomization["resources"].as_array().unwrap();
    assert_eq!(resources.as_slice(), ["postfix.yaml"]);
    // Otherwise each edit would start a new pod.
    assert_eq!(kustomization["generatorOptions"]["disableNameSuffixHash"], true);
    let pod = pod();
    let sources = &named(&pod["volumes"], "postmapd-files")["projected"]["sources"];
    for (generator, source) in [("configMapGenerator", "configMap"), ("secretGenerator", "secret")] {
        let made = &kustomization[generator][0];
        let mut mounted = sources.as_array().unwrap().iter();
        assert!(mounted.any(|one| one[source]["name"] == made["name"]), "{source}");
        for file in made["files"].as_array().unwrap() {
            let path = contrib("kubernetes/base").join(text(file));
            assert!(path.is_file(), "{}", path.display());
        }
    }
    // kubelet does not update a subPath.
    for mount in named(&pod["initContainers"], "postmapd")["volumeMounts"]
        .as_array()
        .unwrap()
    {
        assert!(mount["subPath"].is_null() && mount["subPathExpr"].is_null());
    }
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn the_container_of_the_manifest_is_sandboxed() {
    let pod = pod();
    let context = &named(&pod["initContainers"], "postmapd")["securityContext"];
    for (name, value) in [
        ("runAsNonRoot", Value::from(true)),
        ("allowPrivilegeEscalation", Value::from(false)),
        ("readOnlyRootFilesystem", Value::from(true)),
        ("capabilities", serde_json::json!({"drop": ["ALL"]})),
        ("seccompProfile", serde_json::json!({"type": "RuntimeDefault"})),
    ] {
        assert_eq!(context[name], value, "{name}");
    }
    let socket = named(
        &named(&pod["containers"], "postfix")["volumeMounts"],
        "postmapd-socket",
    );
    assert_eq!(socket["readOnly"], true);
}

/// Through `proxy:`, mail of a sender that has just moved would wait.
#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn the_socket_is_at_the_path_that_postfix_queries_without_proxymap() {
    let socket = named(
        &named(&pod()["containers"], "postfix")["volumeMounts"],
        "postmapd-socket",
    )
    .clone();
    let server = format!("socketmap:unix:{}/socketmap", text(&socket["mountPath"]));
    let setup = Setup::new();
    let printed = done(setup.command("postconf").args(["--server", &server]), b"").stdout;
    let map = "smtp_sasl_password_maps = socketmap:unix:postmapd/socketmap:sasl";
    assert!(printed.lines().any(|line| line == map), "{printed}");
}

/// Writes a version of the volume as kubelet does: a new directory, to which `..data` leads after one rename. The files
/// belong to root:root and have the mode of the volume.
pub(crate) fn write_volume(volume: &Path, version: &str, files: &[(&str, String)]) {
    let directory = volume.join(format!("..{version}"));
    fs::create_dir(&directory).unwrap();
    for (name, text) in files {
        let path = directory.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o440)).unwrap();
        let link = volume.join(name);
        if link.symlink_metadata().is_err() {
            symlink(Path::new("..data").join(name), link).unwrap();
        }
    }
    symlink(format!("..{version}"), volume.join("..data_tmp")).unwrap();
    fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_sidecar_applies_volume_updates_and_answers_passwords_only_to_postfix() {
    let pod = pod();
    let container = named(&pod["initContainers"], "postmapd");
    assert_eq!(container["args"], serde_json::json!(["serve"]));
    let mode = &named(&pod["volumes"], "postmapd-files")["projected"]["defaultMode"];
    assert_eq!(mode, 0o440);
    let number = |name: &str| u32::try_from(container["securityContext"][name].as_u64().unwrap()).unwrap();
    let (uid, gid) = (number("runAsUser"), number("runAsGroup"));

    let setup = Setup::new();
    let own = setup.dir().to_path_buf();
    let shipped = ["postfix-relaymap.cf", "postfix-sasl-password.cf", "postmapd.toml"]
        .map(|name| (name, read(&format!("kubernetes/base/{name}"))));
    write_volume(&own, "1", &shipped);
    // An emptyDir is writable for all users.
    let socket = setup.root().join("run");
    fs::create_dir(&socket).unwrap();
    fs::set_permissions(&socket, PermissionsExt::from_mode(0o777)).unwrap();
    let admin = format!("unix:{}/admin", socket.display());
    let environment = container["env"].as_array().unwrap().iter();
    let setup = environment.fold(setup, |setup, one| {
        let value = text(&one["value"])
            .replace("/run/postmapd", socket.to_str().unwrap())
            .replace("/etc/postmapd", own.to_str().unwrap())
            .replace("127.0.0.1:9451", &admin);
        setup.env(text(&one["name"]), value)
    });
    let endpoint = format!("socketmap:unix:{}/socketmap", socket.display());
    let setup = setup.without_dir_flag().within(confined(uid, gid));
    let daemon = Daemon::start(setup.announces(&[&endpoint]));
    // An image with only the program does not contain the group postfix; the test machine does.
    let log = daemon.log();
    let mut warnings = log.lines().filter(|line| line.contains("WARN"));
    assert!(
        warnings.all(|line| line.contains("group of the socket to postfix")),
        "{log}"
    );

    // Each probe, with the program found in PATH.
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let command = container[probe]["exec"]["command"].as_array().unwrap();
        let words: Vec<&str> = command.iter().map(text).collect();
        assert_eq!(words[0], "postmapd", "{probe}");
        let mut alive = daemon.setup().command(words[1]);
        done(alive.args(&words[2..]), b"");
    }

    let mut postfix = as_user(101, || Socketmap::to(&daemon, 0));
    let found = Reply::found;
    assert_eq!(
        postfix.query("relayhost", "me@domain1.com"),
        found("[relay1.org]:587")
    );
    assert_eq!(
        postfix.query("sasl", "me@domain1.com"),
        found("relay_user_1:password_1")
    );
    assert_eq!(
        query_as(&daemon, 54321, "relayhost", "me@domain1.com"),
        found("[relay1.org]:587")
    );
    assert!(query_as(&daemon, 54321, "sasl", "me@domain1.com").is_refused());

    // All files change in one step, and with them the allowed users; the connection stays open.
    let new = [
        ("postfix-relaymap.cf", "@domain1.com [relay9.org]:587\n"),
        ("postfix-sasl-password.cf", "@domain1.com user_9:password_9\n"),
        ("postmapd.toml", "allow_users = [0, 101, 54321]\n"),
    ]
    .map(|(name, text)| (name, text.to_owned()));
    write_volume(&own, "2", &new);
    let [hop, password] = ["[relay9.org]:587", "user_9:password_9"].map(found);
    eventually(
        || postfix.query("relayhost", "me@domain1.com"),
        |reply| *reply == hop,
    );
    assert_eq!(postfix.login("me@domain1.com"), password);
    let mut other = as_user(54321, || Socketmap::to(&daemon, 0));
    assert_eq!(other.login("me@domain1.com"), password);
}

#[test]
fn check_finds_nothing_in_the_files_of_the_base() {
    // With the modes of the volume, and not of a repository that is readable for all users.
    let files = ["postfix-relaymap.cf", "postfix-sasl-password.cf", "postmapd.toml"];
    let setup = Setup::new();
    for name in files {
        let path = setup.dir().join(name);
        fs::write(&path, read(&format!("kubernetes/base/{name}"))).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o440)).unwrap();
    }
    done(setup.command("check").arg("--strict"), b"");
}
