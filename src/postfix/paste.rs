//! Renders the requirements as text to paste: main.cf, commands, docker-mailserver's override files.
//!
//! docker-mailserver appends postfix-main.cf to main.cf, and passes each line of postfix-master.cf that begins with a
//! letter to `postconf -P`. Comments are harmless in both.

use super::command::{Commands, ServiceName, assignment, service_assignment};
use super::reach::Reach;
use super::wanted::{Reader, Wanted};

/// Returns lines of main.cf, each below its rationale.
pub(crate) fn main_cf(wanted: &[Wanted], reach: &Reach) -> String {
    let about = format!("For main.cf. postmapd listens at {reach}.");
    lines(&[&about], wanted, reach, |one| {
        assignment(one.parameter, &one.value)
    })
}

/// Returns commands that set the same parameters, each below its rationale.
pub(crate) fn shell(wanted: &[Wanted], reach: &Reach, commands: &Commands) -> String {
    let about = format!("postmapd listens at {reach}. After these commands: postfix reload");
    lines(&[&about], wanted, reach, |one| {
        commands.set(one.parameter, &one.value)
    })
}

/// Returns docker-mailserver's postfix-main.cf, for setups that do not use docker-mailserver's own relay feature.
pub(crate) fn docker_mailserver_main(wanted: &[Wanted], reach: &Reach) -> String {
    lines(
        &[
            "docker-data/dms/config/postfix-main.cf of docker-mailserver, where its own relay feature is not in use:",
            "RELAY_HOST and DEFAULT_RELAY_HOST unset, and no postfix-relaymap.cf in that folder. Else it puts its own",
            "tables back after the next change of an account. Give postmapd a folder of its own.",
        ],
        wanted,
        reach,
        |one| assignment(one.parameter, &one.value),
    )
}

/// Returns docker-mailserver's postfix-master.cf, for setups that use its files, its variables and `setup relay`.
pub(crate) fn docker_mailserver_master(wanted: &[Wanted], reach: &Reach) -> String {
    let write = |one: &Wanted| {
        let services: &[&str] = match one.reader {
            Reader::Rewrite => &["rewrite"],
            Reader::Client => &["smtp", "relay"],
        };
        let service = |name: &&str| service_assignment(&ServiceName::unix(name), one.parameter, &one.value);
        services.iter().map(service).collect::<Vec<_>>().join("\n")
    };
    lines(
        &[
            "docker-data/dms/config/postfix-master.cf of docker-mailserver. These win over what it writes into main.cf,",
            "so RELAY_*, postfix-relaymap.cf, postfix-sasl-password.cf and `setup relay` may go on being used; postmapd",
            "reads the same files.",
        ],
        wanted,
        reach,
        write,
    )
}

/// Returns a heading, and each requirement as `write` formats it, below its rationale.
fn lines(about: &[&str], wanted: &[Wanted], reach: &Reach, write: impl Fn(&Wanted) -> String) -> String {
    let remarks = reach.remarks();
    let last = reach
        .is_for_container
        .then_some("After an edit of this file, create the container anew.");
    let heading = about.iter().copied().chain(remarks.iter().map(String::as_str));
    let mut text = String::new();
    for line in heading.chain(last) {
        text.extend(["# ", line, "\n"]);
    }
    text.push('\n');
    for one in wanted {
        text.extend(["# ", &one.why, "\n", &write(one), "\n"]);
    }
    text
}
