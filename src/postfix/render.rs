//! Renders the requirements as text to paste: main.cf, commands, docker-mailserver's override files.
//!
//! docker-mailserver appends postfix-main.cf to main.cf, and passes each line of postfix-master.cf that begins with a
//! letter to `postconf -P`. Comments are harmless in both.

use super::addressing::{Addressing, Unaddressable};
use super::command::{Commands, ServiceName, assignment, service_assignment};
use super::relay_domains::{self, RelayDomainsService};
use super::relay_services::{RelayService, RelayServices};
use super::requirements::{Daemon, Expectation, Requirement};

/// Returns lines of main.cf, each below its rationale.
pub(crate) fn main_cf(requirements: &[Requirement], addressing: &Addressing, remarks: &[&str]) -> String {
    let about = format!("For main.cf. postmapd listens on {addressing}.");
    let about: Vec<&str> = [about.as_str()]
        .into_iter()
        .chain(remarks.iter().copied())
        .collect();
    render(&about, requirements, addressing, |requirement| {
        assignment(requirement.parameter, &requirement.value)
    })
}

/// Returns commands that set the same parameters, each below its rationale.
pub(crate) fn shell(
    requirements: &[Requirement],
    addressing: &Addressing,
    commands: &Commands,
    remarks: &[&str],
) -> String {
    let about = format!("postmapd listens on {addressing}. After these commands, run: postfix reload");
    let about: Vec<&str> = [about.as_str()]
        .into_iter()
        .chain(remarks.iter().copied())
        .collect();
    render(&about, requirements, addressing, |requirement| {
        commands.set(requirement.parameter, &requirement.value)
    })
}

/// What docker-mailserver's own policy table would lose.
const MTA_STS: &str = "With ENABLE_MTA_STS=1, add its table behind the one in smtp_tls_policy_maps, after a comma: \
                       socketmap:unix:/var/run/mta-sts/daemon.sock:postfix";

/// Returns docker-mailserver's postfix-main.cf, for setups that do not use docker-mailserver's own relay feature.
pub(crate) fn docker_mailserver_main(
    requirements: &[Requirement],
    addressing: &Addressing,
    remarks: &[&str],
) -> String {
    let about = [
        "docker-data/dms/config/postfix-main.cf, for a docker-mailserver that does not use its own relay feature:",
        "RELAY_HOST and DEFAULT_RELAY_HOST are unset, and that directory has no postfix-relaymap.cf. Otherwise,",
        "docker-mailserver restores its own tables at the next account change. Give postmapd its own directory.",
        MTA_STS,
    ];
    render(
        &[&about, remarks].concat(),
        requirements,
        addressing,
        |requirement| assignment(requirement.parameter, &requirement.value),
    )
}

/// Returns docker-mailserver's postfix-master.cf, for setups that use its files, its variables and `setup relay`.
pub(crate) fn docker_mailserver_master(
    requirements: &[Requirement],
    addressing: &Addressing,
    remarks: &[&str],
) -> String {
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
    let about = [
        "docker-data/dms/config/postfix-master.cf of docker-mailserver. These lines override its main.cf, so",
        "RELAY_*, postfix-relaymap.cf, postfix-sasl-password.cf and `setup relay` can remain in use: postmapd",
        "reads the same files.",
        MTA_STS,
    ];
    render(&[&about, remarks].concat(), requirements, addressing, write)
}

/// Returns main.cf for the services, and then the services for master.cf.
pub(crate) fn services(
    requirements: &[Requirement],
    services: &[&RelayService],
    relay_domains: Option<&RelayDomainsService>,
    addressing: &Addressing,
) -> Result<String, Unaddressable> {
    let mut text = main_cf(requirements, addressing, &[]);
    text += "\n# For master.cf. After editing both files, run: postfix reload\n\n";
    for service in services {
        let entry = service.entry(&service.options(addressing)?, "\n  ");
        text.extend(["# ", &service.rationale(), "\n", &entry, "\n"]);
    }
    if let Some(service) = relay_domains {
        let name = &service.id.name;
        let why = relay_domains::RATIONALE;
        let lines = match &service.entry {
            Some(entry) => {
                format!(
                    "# The service {name} without its login, in place of the present entry. {why}\n{entry}\n"
                )
            }
            None => format!(
                "# Add -o {}=no to the entry of {name}. {why}\n",
                relay_domains::LOGIN
            ),
        };
        text.push_str(&lines);
    }
    Ok(text)
}

/// Returns commands that set the same in main.cf and master.cf.
pub(crate) fn services_shell(
    requirements: &[Requirement],
    services: &[&RelayService],
    relay_domains: Option<&RelayDomainsService>,
    addressing: &Addressing,
    commands: &Commands,
) -> Result<String, Unaddressable> {
    // First the services: main.cf must not name one that does not exist.
    let about = format!("postmapd listens on {addressing}. After these commands, run: postfix reload");
    let mut text = heading(&[&about], addressing);
    for service in services {
        let command = service.command(addressing, commands)?;
        text.extend(["# ", &service.rationale(), "\n", &command, "\n"]);
    }
    text += &without_login(relay_domains, commands);
    text += &body(requirements, |requirement| {
        commands.set(requirement.parameter, &requirement.value)
    });
    Ok(text)
}

/// Returns docker-mailserver's user-patches.sh with the services. postfix-master.cf cannot add a service, because
/// `postconf -P` does not.
///
/// Parameters are set for services, which docker-mailserver leaves alone when it writes its own relays into main.cf.
pub(crate) fn docker_mailserver_services(
    requirements: &[Requirement],
    services: &RelayServices,
    addressing: &Addressing,
) -> Result<String, Unaddressable> {
    let commands = Commands::default();
    let of = |daemon| {
        requirements
            .iter()
            .filter(move |requirement| requirement.daemon == daemon)
    };

    let set = |service: &str, parameter: &str, value: &str| {
        commands.set_for_service(&ServiceName::unix(service), parameter, value) + "\n"
    };
    let mut text = "#!/bin/bash\n".to_owned();
    text += &heading(
        &[
            "docker-data/dms/config/user-patches.sh of docker-mailserver; if you have one, add these lines to it.",
            "RELAY_*, postfix-relaymap.cf, postfix-sasl-password.cf and `setup relay` can remain in use: postmapd reads",
            "the same files.",
            if services.is_separate { "" } else { MTA_STS },
        ],
        addressing,
    );
    for service in services.to_add(None) {
        let mut options = service.options(addressing)?;
        for requirement in of(Daemon::Smtp).filter(|requirement| requirement.expectation != Expectation::Tls)
        {
            if !options
                .iter()
                .any(|(parameter, _)| parameter == requirement.parameter)
            {
                options.push((requirement.parameter.to_owned(), requirement.value.clone()));
            }
        }
        let command = commands.set_service(&service.id(), &service.entry(&options, " "));
        text.extend(["# ", &service.rationale(), "\n", &command, "\n"]);
    }
    if services.is_separate {
        text += "# Only these services log in, so no other server is offered a password.\n";
        for name in ["smtp", "relay"] {
            text += &set(name, "smtp_sasl_auth_enable", "no");
        }
    } else {
        text += "# Relays with STARTTLS, and directly delivered mail.\n";
        for requirement in of(Daemon::Smtp) {
            text += &set("smtp", requirement.parameter, &requirement.value);
        }
        text += &without_login(RelayDomainsService::new(None, services).as_ref(), &commands);
    }
    for requirement in of(Daemon::TrivialRewrite) {
        text.extend(["# ", &requirement.rationale, "\n"]);
        text += &set("rewrite", requirement.parameter, &requirement.value);
    }
    Ok(text)
}

/// Returns a command that switches the login of the service for `relay_domains` off, below its rationale.
fn without_login(relay_domains: Option<&RelayDomainsService>, commands: &Commands) -> String {
    relay_domains.map_or_else(String::new, |service| {
        format!(
            "# The service {} without its login. {}\n{}\n",
            service.id.name,
            relay_domains::RATIONALE,
            service.command(commands)
        )
    })
}

/// Returns a heading, and each requirement as `write` formats it, below its rationale.
fn render(
    about: &[&str],
    requirements: &[Requirement],
    addressing: &Addressing,
    write: impl Fn(&Requirement) -> String,
) -> String {
    heading(about, addressing) + &body(requirements, write)
}

/// Returns each requirement as `write` formats it, below its rationale.
fn body(requirements: &[Requirement], write: impl Fn(&Requirement) -> String) -> String {
    let mut text = String::new();
    for requirement in requirements {
        text.extend(["# ", &requirement.rationale, "\n"]);
        for line in write(requirement).lines() {
            let comment = if requirement.is_optional { "#" } else { "" };
            text.extend([comment, line, "\n"]);
        }
    }
    text
}

/// Returns a heading as comments, and an empty line.
fn heading(about: &[&str], addressing: &Addressing) -> String {
    let remarks = addressing.remarks();
    let last = addressing
        .is_in_container
        .then_some("After editing this file, recreate the container.");
    let heading = about.iter().copied().chain(remarks.iter().map(String::as_str));
    let mut text = String::new();
    for line in heading.chain(last).filter(|line| !line.is_empty()) {
        text.extend(["# ", line, "\n"]);
    }
    text.push('\n');
    text
}
