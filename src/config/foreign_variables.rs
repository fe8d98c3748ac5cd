//! Variables that have no effect here: those of other images that relay mail, those of old versions of
//! docker-mailserver, and misspelt ones.
//!
//! Each is a warning that names what to set instead. Sources: the README of each image (bokysan/docker-postfix, panubo
//! and catatnight, loganmarchione/docker-postfixrelay, turgon37/docker-smtp-relay, wader/postfix-relay, Mailu).
//!
//! Limits: names without a reference to a relay (`SMTP_HOST`, `SMTP_PASSWORD`) may be meant for another program in the
//! same environment, and are ignored.

use super::variables::Variables;
use crate::diagnostics::{Code, Finding, Findings, Place};

/// Names of other images, in upper case, each with its replacement here.
const FOREIGN: &[(&str, &str)] = &[
    (
        "RELAYHOST",
        "RELAY_HOST and RELAY_PORT, or DEFAULT_RELAY_HOST, which accepts [host]:port",
    ),
    ("RELAYHOST_PORT", "RELAY_PORT"),
    ("RELAYHOST_USERNAME", "RELAY_USER"),
    ("RELAYHOST_USER", "RELAY_USER"),
    ("RELAYHOST_PASSWORD", "RELAY_PASSWORD"),
    ("RELAYHOST_PASSWORD_FILE", "RELAY_PASSWORD_FILE"),
    (
        "RELAYHOST_PASSWORDMAP",
        "postfix-sasl-password.cf, with one line for each relay",
    ),
    (
        "RELAYHOST_AUTH",
        "RELAY_USER and RELAY_PASSWORD; setting both is enough",
    ),
    ("RELAY_USERNAME", "RELAY_USER"),
    ("RELAY_USERNAME_FILE", "RELAY_USER_FILE"),
    ("RELAY_LOGIN", "RELAY_USER"),
    ("RELAY_AUTH_USER", "RELAY_USER"),
    ("RELAYUSER", "RELAY_USER"),
    ("RELAY_PASS", "RELAY_PASSWORD"),
    ("RELAY_PASS_FILE", "RELAY_PASSWORD_FILE"),
    ("RELAY_PASSWD", "RELAY_PASSWORD"),
    ("RELAY_AUTH_PASSWORD", "RELAY_PASSWORD"),
    ("RELAYPASSWORD", "RELAY_PASSWORD"),
    ("RELAYPASS", "RELAY_PASSWORD"),
    ("RELAYPORT", "RELAY_PORT"),
    ("RELAY_HOSTNAME", "RELAY_HOST"),
    ("RELAY_HOST_NAME", "RELAY_HOST"),
    ("RELAY_HOST_PORT", "RELAY_PORT"),
    ("RELAY_SERVER", "RELAY_HOST"),
    ("RELAY_SMTP", "RELAY_HOST"),
    ("DEFAULT_RELAYHOST", "DEFAULT_RELAY_HOST"),
    (
        "DEFAULT_RELAY_PORT",
        "DEFAULT_RELAY_HOST, which accepts [host]:port",
    ),
    (
        "DEFAULT_RELAY_USER",
        "RELAY_USER, which also applies to DEFAULT_RELAY_HOST",
    ),
    (
        "DEFAULT_RELAY_PASSWORD",
        "RELAY_PASSWORD, which also applies to DEFAULT_RELAY_HOST",
    ),
    ("SMTP_RELAY", "RELAY_HOST"),
    ("SMTP_RELAY_HOST", "RELAY_HOST"),
    ("SMTP_RELAY_PORT", "RELAY_PORT"),
    ("SMTP_RELAY_USER", "RELAY_USER"),
    ("SMTP_RELAY_USERNAME", "RELAY_USER"),
    ("SMTP_RELAY_PASSWORD", "RELAY_PASSWORD"),
    (
        "POSTFIX_RELAYHOST",
        "DEFAULT_RELAY_HOST, which accepts [host]:port",
    ),
    ("POSTFIX_RELAY_HOST", "RELAY_HOST"),
    (
        "SASL_PASSWD",
        "postfix-sasl-password.cf, which has the same format",
    ),
];

/// Names of docker-mailserver until 2018, each with its replacement here.
const AWS_SES: &[(&str, &str)] = &[
    ("AWS_SES_HOST", "RELAY_HOST"),
    ("AWS_SES_PORT", "RELAY_PORT"),
    ("AWS_SES_USERPASS", "RELAY_USER and RELAY_PASSWORD"),
];

/// The names of postmapd, of which others may be misspellings.
const OWN: &[&str] = &[
    "RELAY_HOST",
    "RELAY_PORT",
    "RELAY_USER",
    "RELAY_PASSWORD",
    "DEFAULT_RELAY_HOST",
];

/// Adds a warning for each variable that is set and has no effect.
pub(super) fn warn_foreign_variables(variables: &Variables, findings: &mut Findings) {
    for name in variables.names() {
        let upper = name.to_ascii_uppercase();
        let replacement =
            |list: &'static [(&'static str, &'static str)]| list.iter().find(|(other, _)| *other == upper);
        let finding = if let Some((old, new)) = replacement(AWS_SES) {
            Finding::new(Code::AwsSes, Place::Setting(old))
                .message("this variable no longer has an effect")
                .help(format!("use {new}"))
        } else if let Some((other, new)) = replacement(FOREIGN)
            && !is_service_link_variable(variables, other)
        {
            Finding::new(Code::ForeignVariable, Place::Setting(other))
                .message("this variable belongs to another image, and has no effect here")
                .help(format!("use {new}"))
        } else if let Some(own) = misspelt(name) {
            Finding::new(Code::UnknownVariable, Place::Setting("environment"))
                .message(format!("{name} is not a variable of postmapd and has no effect"))
                .help(format!("did you mean {own}?"))
        } else {
            continue;
        };
        findings.push(finding);
    }
}

/// Returns whether Kubernetes or a Docker link set the variable for a service of that name.
fn is_service_link_variable(variables: &Variables, name: &str) -> bool {
    variables
        .get(name)
        .is_some_and(|value| is_service_link(value.expose()))
}

/// Returns whether a value is that of `NAME_PORT` for a service: `tcp://10.0.0.7:587`.
pub(super) fn is_service_link(value: &[u8]) -> bool {
    [&b"tcp://"[..], b"udp://", b"sctp://"]
        .iter()
        .any(|scheme| value.starts_with(scheme))
}

/// Returns the variable of postmapd that differs in one letter: wrong, missing, extra, or exchanged with its neighbour.
fn misspelt(name: &str) -> Option<String> {
    let plain = ["__FILE", "_FILE", ""]
        .into_iter()
        .find_map(|end| Some((name.strip_suffix(end)?, end)));
    let (plain, end) = plain?;
    let upper = plain.to_ascii_uppercase();
    let near = |own: &&&str| strsim::osa_distance(&upper, own) <= 1;
    let own = OWN.iter().find(near)?;
    // An exact name is not a misspelling; `relay_host` is one.
    (plain != *own).then(|| format!("{own}{end}"))
}

#[cfg(test)]
mod tests {
    use super::{FOREIGN, OWN, misspelt};

    #[test]
    fn a_misspelt_name_is_recognized_and_an_exact_one_is_not() {
        for (name, own) in [
            ("RELAY_PASWORD", Some("RELAY_PASSWORD")),
            ("RELAY_HOTS", Some("RELAY_HOST")),
            ("relay_host", Some("RELAY_HOST")),
            ("RELAY_PASSWOD_FILE", Some("RELAY_PASSWORD_FILE")),
            ("RELAY_USERS", Some("RELAY_USER")),
            ("DEFAULT_RELAY_HSOT__FILE", Some("DEFAULT_RELAY_HOST__FILE")),
            ("RELAY_NETS", None),
            ("RELAY_DOMAINS", None),
            ("RELAY_TLS", None),
            ("RELAY_SERVICE_HOST", None),
        ] {
            assert_eq!(misspelt(name).as_deref(), own, "{name}");
        }
        for own in OWN {
            for end in ["", "_FILE", "__FILE"] {
                assert_eq!(misspelt(&format!("{own}{end}")), None);
            }
            assert!(FOREIGN.iter().all(|(other, _)| other != own));
        }
    }
}
