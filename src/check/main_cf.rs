//! Checks the one parameter of main.cf that can override the files: a `relayhost`, where next hops are configured here.
//!
//! `postconf --check` checks everything else. Without a main.cf, as in a container with only the server, nothing is
//! checked, and postconf(1), which sleeps for a second before it fails, is not run.

use std::env;
use std::path::{Path, PathBuf};

use crate::diagnostics::{Code, Finding, Findings, Place};
use crate::lookup::snapshot::Snapshot;
use crate::postfix::command::Commands;
use crate::postfix::config;

/// The configuration directory of nearly every Postfix.
const DEFAULT_CONFIG_DIRECTORY: &str = "/etc/postfix";

/// Checks `relayhost` of the Postfix that `commands` address.
pub(crate) fn examine(snapshot: &Snapshot, commands: &Commands, findings: &mut Findings) {
    if !snapshot.routes_senders() {
        return;
    }
    let directory = commands
        .directory
        .clone()
        .or_else(|| env::var_os("MAIL_CONFIG").map(PathBuf::from));
    let directory = directory
        .as_deref()
        .unwrap_or(Path::new(DEFAULT_CONFIG_DIRECTORY));
    if !directory.join("main.cf").is_file() {
        return;
    }
    let Ok(relayhost) = config::parameter(commands, "relayhost") else {
        return;
    };
    if relayhost.is_empty() {
        return;
    }
    let place = Place::parameter(None, "relayhost");
    let message = if snapshot.default.is_set() {
        "main.cf sets a default relay as well, and no sender can be excluded from that one"
    } else {
        "main.cf sets a next hop for every sender without one here, excluded senders included"
    };
    findings.push(
        Finding::new(Code::RelayhostInMainCf, place)
            .message(message)
            .help(commands.set("relayhost", "")),
    );
}
