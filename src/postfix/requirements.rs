//! The parameters that Postfix needs for postmapd: the single list from which main.cf, the commands,
//! docker-mailserver's override files and the check derive.
//!
//! A parameter is listed if its default is not sufficient. Parameters that only must not interfere are in
//! [`super::conflicts`].

use std::borrow::Cow;
use std::path::Path;

use super::addressing::{Addressing, Unaddressable};
use super::config::PostfixConfig;
use crate::lookup::map::Map;

/// The file of certificate authorities on Debian and in docker-mailserver.
pub(crate) const CA_FILE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The same on other systems: Fedora and RHEL, SUSE, Alpine.
const OTHER_CA_FILES: [&str; 3] = [
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The parameter of Postfix 3.10 and later that makes it obey `TLS-Required: no` in a message.
pub(crate) const TLS_REQUIRED: &str = "tls_required_enable";

/// The daemon of Postfix that reads a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Daemon {
    /// trivial-rewrite(8), which chooses the next hop.
    TrivialRewrite,
    /// smtp(8), which logs in at the next hop.
    Smtp,
}

/// What a value must satisfy; [`super::evaluate`] checks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expectation {
    /// The value is empty.
    Empty,
    /// The value is `yes`.
    Yes,
    /// The list has this map, and no other table before it.
    Table(Map),
    /// SASL mechanisms with plaintext passwords are forbidden on connections without TLS.
    NoPlaintextWithoutTls,
    /// SASL mechanisms with plaintext passwords are allowed under TLS.
    PlaintextUnderTls,
    /// TLS is used at least where the server offers it.
    Tls,
    /// TLS is mandatory, because the service delivers to relays only.
    MandatoryTls,
    /// TLS starts without STARTTLS.
    ImplicitTls,
    /// There are certificate authorities, if certificates are verified.
    CertificateAuthorities,
    /// No message switches the verification of certificates off.
    NoTlsRequired,
}

/// A parameter that postmapd needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Requirement {
    /// The name of the parameter.
    pub parameter: &'static str,
    /// The recommended value.
    pub value: String,
    /// What a value must satisfy.
    pub expectation: Expectation,
    /// The daemon that reads the parameter.
    pub daemon: Daemon,
    /// Why Postfix needs it: a sentence for the user.
    pub rationale: Cow<'static, str>,
    /// Whether the parameter may be unknown to this Postfix, so that its line is printed as a comment.
    pub is_optional: bool,
}

/// How mail gets to the relays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// By the service of all other mail, to the next hop of the sender. All relays use STARTTLS.
    NextHops,
    /// By services of master.cf, which the map `transport` names.
    Services,
}

fn requirement(
    parameter: &'static str,
    value: &str,
    expectation: Expectation,
    daemon: Daemon,
    rationale: &'static str,
) -> Requirement {
    Requirement {
        parameter,
        value: value.to_owned(),
        expectation,
        daemon,
        rationale: Cow::Borrowed(rationale),
        is_optional: false,
    }
}

/// Returns all requirements of a Postfix that reaches the server by this addressing. `config`: the Postfix, if it is
/// known.
///
/// The requirements of `smtp(8)` are those of a service that delivers to relays.
pub(crate) fn all(
    addressing: &Addressing,
    config: Option<&PostfixConfig>,
    route: Route,
) -> Result<Vec<Requirement>, Unaddressable> {
    use Daemon::{Smtp, TrivialRewrite};
    let mut all = vec![requirement(
        "relayhost",
        "",
        Expectation::Empty,
        TrivialRewrite,
        "postmapd provides the default relay. A relayhost here would apply to excluded senders too.",
    )];
    match route {
        Route::NextHops => all.push(requirement(
            Map::RELAYHOST.parameter,
            &addressing.table(Map::RELAYHOST)?,
            Expectation::Table(Map::RELAYHOST),
            TrivialRewrite,
            "The next hop of each sender. A table before this one would take precedence.",
        )),
        Route::Services => all.extend([
            requirement(
                Map::RELAYHOST.parameter,
                "",
                Expectation::Empty,
                TrivialRewrite,
                "The map transport replaces it. With both, relay_domains would use the next hop without its service.",
            ),
            requirement(
                Map::TRANSPORT.parameter,
                &addressing.table(Map::TRANSPORT)?,
                Expectation::Table(Map::TRANSPORT),
                TrivialRewrite,
                "The service and next hop of each sender. A table before this one would take precedence.",
            ),
        ]),
    }
    all.extend([
        requirement(
            "smtp_sasl_auth_enable",
            "yes",
            Expectation::Yes,
            Smtp,
            "Without it, Postfix never logs in, and relays reject the mail.",
        ),
        requirement(
            Map::SASL.parameter,
            &addressing.table(Map::SASL)?,
            Expectation::Table(Map::SASL),
            Smtp,
            "The user and password for each sender or next hop.",
        ),
        requirement(
            "smtp_sender_dependent_authentication",
            "yes",
            Expectation::Yes,
            Smtp,
            "Look up the sender's password first. Otherwise, all mail to a next hop uses the same account.",
        ),
        requirement(
            "smtp_sasl_security_options",
            "noanonymous, noplaintext",
            Expectation::NoPlaintextWithoutTls,
            Smtp,
            "Without TLS, send no password that can be read in transit.",
        ),
        requirement(
            "smtp_sasl_tls_security_options",
            "noanonymous",
            Expectation::PlaintextUnderTls,
            Smtp,
            "Under TLS, allow PLAIN and LOGIN. By default, the line above would forbid them here too.",
        ),
        requirement(
            "smtp_tls_security_level",
            "may",
            Expectation::Tls,
            Smtp,
            "Use TLS if the server offers it. `encrypt` is stricter, and also applies to directly delivered mail.",
        ),
    ]);
    all.extend(tls_policy(addressing)?);
    all.push(requirement(
        "smtp_tls_CAfile",
        ca_file(addressing),
        Expectation::CertificateAuthorities,
        Smtp,
        "Who may certify relays. Without certificate authorities, every certificate is invalid, and mail waits.",
    ));
    all.extend(tls_required(addressing, config));
    Ok(all)
}

/// Returns the requirement of the TLS policy of each relay; `None` if only tcp_table listeners exist, and none of them
/// serves it.
fn tls_policy(addressing: &Addressing) -> Result<Option<Requirement>, Unaddressable> {
    let table = match addressing.table(Map::TLS) {
        Ok(table) => table,
        Err(Unaddressable::NoListener(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(Some(requirement(
        Map::TLS.parameter,
        &table,
        Expectation::Table(Map::TLS),
        Daemon::Smtp,
        "Verify the certificate of each relay before the login. Without it, any server in its place gets the password.",
    )))
}

/// Returns the requirement that no message switches the verification off; `None` for a Postfix that cannot do so. In
/// docker-mailserver, a Postfix that does not know the parameter ignores it.
fn tls_required(addressing: &Addressing, config: Option<&PostfixConfig>) -> Option<Requirement> {
    if config.is_some_and(|config| !config.has_parameter(TLS_REQUIRED)) {
        return None;
    }
    Some(Requirement {
        is_optional: config.is_none() && !addressing.is_in_container,
        ..requirement(
            TLS_REQUIRED,
            "no",
            Expectation::NoTlsRequired,
            Daemon::Smtp,
            "Since Postfix 3.10: ignore the header `TLS-Required: no`, which makes it log in without verifying \
             certificates.",
        )
    })
}

/// Returns the requirement of a service that delivers to relays only: mandatory TLS.
pub(crate) fn mandatory_tls() -> Requirement {
    requirement(
        "smtp_tls_security_level",
        "secure",
        Expectation::MandatoryTls,
        Daemon::Smtp,
        "For mail whose relay has just been removed, so that it has no policy.",
    )
}

/// Returns the requirement of a service for implicit TLS.
pub(crate) fn implicit_tls() -> Requirement {
    requirement(
        "smtp_tls_wrappermode",
        "yes",
        Expectation::ImplicitTls,
        Daemon::Smtp,
        "TLS from the first byte, as on port 465.",
    )
}

/// Returns the file of certificate authorities of this system, where Postfix is here.
fn ca_file(addressing: &Addressing) -> &'static str {
    let exists = |file: &&&str| !addressing.is_in_container && Path::new(file).exists();
    let all = std::iter::once(&CA_FILE).chain(&OTHER_CA_FILES);
    all.clone().find(exists).copied().unwrap_or(CA_FILE)
}
