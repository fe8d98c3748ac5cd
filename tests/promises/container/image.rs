//! What contrib/container/build makes: small, nothing in it but the program, the same each time.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::engine::{Engine, IMAGE, OPERATOR, SERVER, Who, archive, build, repository};
use crate::contrib::docker_mailserver::service;
use crate::contrib::kubernetes::{named, pod};
use crate::contrib::{done, text};
use crate::harness::eventually;

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

/// The program in an archive.
fn program(archive: &Path) -> Vec<u8> {
    let script = r#"tar -x -O -f "$1" --wildcards '*.tar' | tar -x -O usr/bin/postmapd"#;
    let taken = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(archive)
        .output();
    taken.unwrap().stdout
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
    let same = |other: &Path| fs::read(archive()).unwrap() == fs::read(other).unwrap();
    assert!(same(&again), "two builds differ");
    // An ordinary user, and another folder.
    let engine = Engine::start(Who::Operator);
    fs::create_dir_all(engine.path("contrib/container")).unwrap();
    let script = "contrib/container/build";
    for name in ["Containerfile", "passwd", "group"].map(|name| format!("contrib/container/{name}")) {
        fs::copy(repository().join(&name), engine.path(&name)).unwrap();
    }
    for name in ["Cargo.toml", script] {
        fs::copy(repository().join(name), engine.path(name)).unwrap();
    }
    fs::write(engine.path("program"), program(archive())).unwrap();
    let mut command = engine.own(engine.path(script).to_str().unwrap());
    let own = done(
        command.arg(engine.path("home/image")).arg(engine.path("program")),
        b"",
    )
    .stdout;
    assert!(
        same(Path::new(own.lines().last().unwrap())),
        "two builds differ: {own}"
    );
    // It leaves nothing behind, and neither does one that runs beside this.
    let is_own = |path: &PathBuf| fs::metadata(path).is_ok_and(|about| about.uid() == OPERATOR);
    let left = || {
        let mut all = fs::read_dir("/tmp").unwrap().flatten().map(|entry| entry.path());
        all.find(is_own)
    };
    eventually(left, Option::is_none);
    // Another builder writes its layer otherwise, with the same in it.
    let (mut own, own_files) = contents(archive());
    let (mut other, other_files) = contents(&build(folder.path(), "buildah"));
    assert_eq!(own_files, other_files);
    own["rootfs"].take();
    other["rootfs"].take();
    assert_eq!(own, other);
}
