//! Promise: contrib's files for docker-mailserver, Kubernetes and Ansible are valid for these programs' own tools, and
//! the server does with them what they say.
//!
//! No container and no cluster is started here: the server runs with the settings of the files, as the user and with
//! the privileges that they set, in a directory made and changed as it would be there. container.rs starts the image.

mod ansible;
pub(crate) mod docker_mailserver;
mod follow;
mod helm;
pub(crate) mod kubernetes;

use crate::harness::client::{Reply, Socketmap};
use crate::harness::daemon::{Daemon, Finished, finish};
use crate::harness::identities::as_user;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn contrib(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib").join(name)
}

pub(crate) fn read(name: &str) -> String {
    fs::read_to_string(contrib(name)).unwrap()
}

/// The documents of a YAML file, parsed by the library that most tools use here.
pub(crate) fn yaml(text: &str) -> Vec<Value> {
    let program = "import json, sys, yaml; json.dump(list(yaml.safe_load_all(sys.stdin)), sys.stdout)";
    let json = done(
        Command::new("/usr/bin/python3").args(["-c", program]),
        text.as_bytes(),
    );
    serde_json::from_str(&json.stdout).unwrap()
}

/// Runs a program, which must succeed.
#[track_caller]
pub(crate) fn done(command: &mut Command, input: &[u8]) -> Finished {
    let finished = finish(command, input);
    assert_eq!(
        finished.code,
        Some(0),
        "{command:?}: {}{}",
        finished.stdout,
        finished.stderr
    );
    finished
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

/// Executes the server as a container runtime would start it: as this user, without a capability and any way to one.
fn confined(uid: u32, gid: u32) -> Vec<String> {
    [
        "setpriv",
        &format!("--reuid={uid}"),
        &format!("--regid={gid}"),
        "--clear-groups",
        "--bounding-set=-all",
        "--inh-caps=-all",
        "--no-new-privs",
        "--",
    ]
    .map(ToOwned::to_owned)
    .to_vec()
}

/// The reply to a user on the first listener.
fn query_as(daemon: &Daemon, uid: u32, map: &str, key: &str) -> Reply {
    as_user(uid, || Socketmap::to(daemon, 0)).query(map, key)
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn every_yaml_file_is_formatted() {
    let rules = "{extends: default, rules: {document-start: disable, line-length: {max: 130}, \
                 octal-values: {forbid-implicit-octal: false}}}";
    let directories = ["docker-mailserver", "follow", "kubernetes", "ansible"].map(contrib);
    done(
        Command::new("yamllint")
            .args(["--strict", "-d", rules])
            .args(directories),
        b"",
    );
}
