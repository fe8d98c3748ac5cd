//! The image made by contrib/container/build: small, containing only the program, and reproducible.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use super::CLOSED;
use super::engine::{Engine, IMAGE, OPERATOR, PodmanUser, SERVER, archive, build, repository};
use crate::contrib::docker_mailserver::service;
use crate::contrib::kubernetes::{named, pod};
use crate::contrib::{done, read, text};
use crate::harness::eventually;

/// The parts of an archive.
pub(super) struct Image {
    pub(super) config: Value,
    /// Mode, owner and name of everything in the only layer.
    pub(super) files: Vec<String>,
    pub(super) program: Vec<u8>,
}

impl Image {
    fn of(archive: &[u8]) -> Self {
        Self::of_program("postmapd", archive)
    }

    /// The image of a program, which has its name.
    pub(super) fn of_program(program: &str, archive: &[u8]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tar = |words: &[&str], input: &[u8]| {
            let mut command = Command::new("tar");
            done(
                command.arg("--numeric-owner").args(words).current_dir(&directory),
                input,
            )
            .stdout
        };
        tar(&["-x"], archive);
        let read = |name: &str| fs::read(directory.path().join(name)).unwrap();
        let json = |name: &str| -> Value { serde_json::from_slice(&read(name)).unwrap() };
        let image = &json("manifest.json")[0];
        let name = format!("localhost/{program}:local");
        assert_eq!(image["RepoTags"], json!([name]));
        assert_eq!(image["Layers"].as_array().unwrap().len(), 1);
        let layer = text(&image["Layers"][0]);
        let mut files: Vec<String> = tar(&["-t", "-v", "-f", layer], b"")
            .lines()
            .map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                format!("{} {} {}", words[0], words[1], words[5].trim_end_matches('/'))
            })
            .collect();
        files.sort_by(|one, other| one.rsplit(' ').next().cmp(&other.rsplit(' ').next()));
        let path = format!("usr/bin/{program}");
        tar(&["-x", "-f", layer, &path], b"");
        Self {
            config: json(text(&image["Config"])),
            files,
            program: read(&path),
        }
    }
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_image_contains_only_the_program_two_users_and_two_directories() {
    assert!(archive().len() < 10_000_000, "{}", archive().len());
    let Image { config, files, .. } = Image::of(archive());
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

    // What contrib's files say about the image.
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
#[ignore = "needs root: tests/run-all"]
fn the_same_program_gives_the_same_image() {
    assert!(build("podman") == archive(), "two builds differ");
    // Built by an ordinary user in another directory.
    let engine = Engine::start(PodmanUser::Operator);
    fs::create_dir_all(engine.path("contrib/container")).unwrap();
    let script = "contrib/container/build";
    for name in ["Containerfile", "passwd", "group"].map(|name| format!("contrib/container/{name}")) {
        fs::copy(repository().join(&name), engine.path(&name)).unwrap();
    }
    for name in ["Cargo.toml", script] {
        fs::copy(repository().join(name), engine.path(name)).unwrap();
    }
    fs::write(engine.path("program"), Image::of(archive()).program).unwrap();
    let mut command = engine.own(engine.path(script).to_str().unwrap());
    command.arg(engine.path("home/image")).arg(engine.path("program"));
    let output = done(&mut command, b"").stdout;
    let other = fs::read(output.lines().last().unwrap()).unwrap();
    assert!(other == archive(), "two builds differ: {output}");
    // The build leaves nothing behind, and neither does one that runs at the same time.
    let is_own = |path: &PathBuf| fs::metadata(path).is_ok_and(|about| about.uid() == OPERATOR);
    let left = || {
        let mut all = fs::read_dir("/tmp").unwrap().flatten().map(|entry| entry.path());
        all.find(is_own)
    };
    eventually(left, Option::is_none);
    // Another builder encodes the layer differently, with the same content.
    let [mut one, mut other] = [archive(), &build("buildah")].map(Image::of);
    assert_eq!(one.files, other.files);
    assert!(one.program == other.program);
    for image in [&mut one, &mut other] {
        image.config["rootfs"].take();
    }
    assert_eq!(one.config, other.config);
}

#[test]
fn the_guide_shows_the_commands_that_the_tests_run() {
    let guide = read("container/README.md");
    for option in CLOSED
        .iter()
        .filter(|option| **option != "--read-only-tmpfs=false")
    {
        assert!(guide.contains(&option.replacen('=', " ", 1)), "{option}");
    }
    assert!(guide.contains(&format!("postmapd-{}-image.tar", env!("CARGO_PKG_VERSION"))));
}
