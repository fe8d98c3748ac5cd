//! Renders the requirements as text to paste: main.cf, commands, docker-mailserver's override files.
//!
//! docker-mailserver appends postfix-main.cf to main.cf, and passes each line of postfix-master.cf that begins with a
//! letter to `postconf -P`. Comments are harmless in both.

use super::addressing::Addressing;
use super::command::{Commands, ServiceName, assignment, service_assignment};
use super::requirements::{Daemon, Requirement};

/// Returns lines of main.cf, each below its rationale.
pub(crate) fn main_cf(requirements: &[Requirement], addressing: &Addressing) -> String {
    let about = format!("For main.cf. postmapd listens on {addressing}.");
    render(&[&about], requirements, addressing, |requirement| {
        assignment(requirement.parameter, &requirement.value)
    })
}

/// Returns commands that set the same parameters, each below its rationale.
pub(crate) fn shell(requirements: &[Requirement], addressing: &Addressing, commands: &Commands) -> String {
    let about = format!("postmapd listens on {addressing}. After these commands, run: postfix reload");
    render(&[&about], requirements, addressing, |requirement| {
        commands.set(requirement.parameter, &requirement.value)
    })
}

/// Returns docker-mailserver's postfix-main.cf, for setups that do not use docker-mailserver's own relay feature.
pub(crate) fn docker_mailserver_main(requirements: &[Requirement], addressing: &Addressing) -> String {
    render(
        &[
            "docker-data/dms/config/postfix-main.cf, for a docker-mailserver that does not use its own relay feature:",
            "RELAY_HOST and DEFAULT_RELAY_HOST are unset, and that directory has no postfix-relaymap.cf. Otherwise,",
            "docker-mailserver restores its own tables at the next account change. Give postmapd its own directory.",
        ],
        requirements,
        addressing,
        |requirement| assignment(requirement.parameter, &requirement.value),
    )
}

/// Returns docker-mailserver's postfix-master.cf, for setups that use its files, its variables and `setup relay`.
pub(crate) fn docker_mailserver_master(requirements: &[Requirement], addressing: &Addressing) -> String {
    let write = |requirement: &Requirement| {
        let services: &[&str] = match requirement.daemon {
            Daemon::TrivialRewrite => &["rewrite"],
            Daemon::Smtp => &["smtp", "relay"],
        };
        let service = |name: &&str| {
            service_assignment(
                &ServiceName::unix(name),
                requirement.parameter,
                &requirement.value,
            )
        };
        services.iter().map(service).collect::<Vec<_>>().join("\n")
    };
    render(
        &[
            "docker-data/dms/config/postfix-master.cf of docker-mailserver. These lines override its main.cf, so",
            "RELAY_*, postfix-relaymap.cf, postfix-sasl-password.cf and `setup relay` can remain in use: postmapd",
            "reads the same files.",
        ],
        requirements,
        addressing,
        write,
    )
}

/// Returns a heading, and each requirement as `write` formats it, below its rationale.
fn render(
    about: &[&str],
    requirements: &[Requirement],
    addressing: &Addressing,
    write: impl Fn(&Requirement) -> String,
) -> String {
    let remarks = addressing.remarks();
    let last = addressing
        .is_in_container
        .then_some("After editing this file, recreate the container.");
    let heading = about.iter().copied().chain(remarks.iter().map(String::as_str));
    let mut text = String::new();
    for line in heading.chain(last) {
        text.extend(["# ", line, "\n"]);
    }
    text.push('\n');
    for requirement in requirements {
        text.extend(["# ", &requirement.rationale, "\n", &write(requirement), "\n"]);
    }
    text
}
