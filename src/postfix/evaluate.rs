//! Evaluates one value of a required parameter, as one service sees it: whether it is sufficient, and if not, why and
//! what fixes it.
//!
//! Sufficient values are accepted even if they differ from those in [`super::requirements`]: `encrypt` for `may`,
//! docker-mailserver's `noanonymous` where TLS is mandatory, a relay table through `proxy:`.

use std::path::{Path, PathBuf};

use super::issue::{Fix, Issue, ServiceContext};
use super::requirements::{Expectation, Requirement};
use super::stricter;
use super::table_list::{self, has_policies};
use crate::diagnostics::Code;
use crate::lookup::map::Map;

/// Whether Postfix uses TLS, in Postfix's own terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TlsUse {
    Off,
    Opportunistic,
    Mandatory,
}

/// Returns the issues of a value that this parameter has, or could have, in this context.
pub(super) fn evaluate(requirement: &Requirement, value: &str, context: ServiceContext<'_>) -> Vec<Issue> {
    let fix = || Fix::Value(requirement.value.clone().into());
    let mut issues = Vec::new();
    match requirement.expectation {
        Expectation::Empty if value.is_empty() => {}
        Expectation::Empty if requirement.parameter == Map::RELAYHOST.parameter => issues.push(Issue::new(
            Code::BothMaps,
            "the map transport replaces this parameter: with both, mail to relay_domains goes to the sender's next \
             hop, but not by the service of the relay",
            fix(),
        )),
        Expectation::Empty => issues.push(Issue::new(
            Code::RelayhostSet,
            "Postfix uses this next hop for every sender that postmapd excludes, and for bounces",
            fix(),
        )),
        Expectation::Yes if value.eq_ignore_ascii_case("yes") => {}
        Expectation::Yes if requirement.parameter == "smtp_sasl_auth_enable" => issues.push(Issue::new(
            Code::AuthOff,
            "Postfix never logs in, and relays reject its mail",
            fix(),
        )),
        Expectation::Yes => issues.push(Issue::new(
            Code::SenderAuthOff,
            "Postfix does not look up the sender's own password, so it sends mail with the account of the next hop, \
             or without a login",
            fix(),
        )),
        Expectation::Table(map) => issues.extend(table_list::evaluate(map, value, &requirement.value, context)),
        Expectation::NoPlaintextWithoutTls => check_without_tls(requirement, value, context, &mut issues),
        Expectation::PlaintextUnderTls => {
            if forbids_plain(value) {
                let is_explicit = context.config.is_explicit(&context.service.id, requirement.parameter);
                issues.push(Issue::new(
                    Code::PlainForbidden,
                    "this value forbids PLAIN and LOGIN under TLS too, and most relays offer only these, so their \
                     mail stays in the queue",
                    if is_explicit || forbids_plain(&requirement.value) {
                        Fix::Advice(WEAKENING_ADVICE.into())
                    } else {
                        fix()
                    },
                ));
            }
            issues.extend(check_noanonymous(requirement, value));
        }
        Expectation::Tls => {
            if tls_use(value, context) == TlsUse::Off {
                let consequence = if forbids_plain(context.value("smtp_sasl_security_options")) {
                    "Postfix must not send a password without it, so mail that needs a login stays in the queue"
                } else {
                    "passwords and mail can be read in transit"
                };
                issues.push(Issue::new(
                    Code::TlsOff,
                    format!("TLS is off: {consequence}"),
                    fix(),
                ));
            }
        }
        Expectation::MandatoryTls if tls_use(value, context) != TlsUse::Mandatory => issues.push(Issue::new(
            Code::RelayLevelLow,
            "this service delivers to relays, and mail to one that has no policy would be sent without TLS to a \
             server that offers none",
            fix(),
        )),
        Expectation::ImplicitTls if !value.eq_ignore_ascii_case("yes") => issues.push(Issue::new(
            Code::NoWrappermode,
            "this service delivers to relays with implicit TLS, but waits for a greeting in clear text, until it \
             gives up",
            fix(),
        )),
        Expectation::NoTlsRequired if has_policies(context) && !value.eq_ignore_ascii_case("no") => {
            issues.push(Issue::new(
                Code::TlsNotRequired,
                "a message with the header `TLS-Required: no` is sent without verifying the relay's certificate, and \
                 Postfix logs in at any server in its place",
                fix(),
            ));
        }
        Expectation::CertificateAuthorities => issues.extend(check_authorities(requirement, context)),
        Expectation::MandatoryTls | Expectation::ImplicitTls | Expectation::NoTlsRequired => {}
    }
    issues
}

/// Checks that a service that verifies certificates finds certificate authorities.
fn check_authorities(requirement: &Requirement, context: ServiceContext<'_>) -> Option<Issue> {
    const ALL_WAIT: &str = "every certificate is invalid, and mail to relays waits";
    let level = context.value("smtp_tls_security_level").to_ascii_lowercase();
    if !has_policies(context) && !["verify", "secure"].contains(&level.as_str()) {
        return None;
    }
    let (file, path) = (context.value("smtp_tls_CAfile"), context.value("smtp_tls_CApath"));
    let queue_directory = Path::new(context.value("queue_directory"));
    // In a jail, the path is read after chroot(2), the file before.
    let path_from_here = match Path::new(path).strip_prefix("/") {
        Ok(inside) if context.service.chrooted => queue_directory.join(inside),
        _ => PathBuf::from(path),
    };
    let is_missing = |path: &Path| matches!(path.try_exists(), Ok(false));
    let issue = |code, message| {
        Some(Issue::new(
            code,
            message,
            Fix::Value(requirement.value.clone().into()),
        ))
    };
    match (file, path) {
        ("", "") => issue(
            Code::NoAuthorities,
            format!("Postfix has no certificate authorities: {ALL_WAIT}"),
        ),
        ("", _) if context.service.chrooted && is_missing(&path_from_here) => Some(Issue::new(
            Code::AuthoritiesOutsideChroot,
            format!("a chrooted service finds no smtp_tls_CApath in the queue directory: {ALL_WAIT}"),
            Fix::Advice(
                "use smtp_tls_CAfile, which Postfix reads before it enters the chroot, or copy the directory into the \
                 queue directory"
                    .into(),
            ),
        )),
        ("", _) => None,
        _ if is_missing(Path::new(file)) => Some(Issue::new(
            Code::NoAuthorities,
            format!("smtp_tls_CAfile does not exist, and Postfix then uses no TLS at all: {ALL_WAIT}"),
            Fix::Advice("install the package ca-certificates, or correct the path".into()),
        )),
        _ => None,
    }
}

/// The advice for words of main.cf that are stricter than what postmapd needs.
const WEAKENING_ADVICE: &str = "if your relays offer only PLAIN or LOGIN, remove the words other than noanonymous; no \
                       command is proposed, because this weakens an explicit setting";

fn check_without_tls(
    requirement: &Requirement,
    value: &str,
    context: ServiceContext<'_>,
    issues: &mut Vec<Issue>,
) {
    let fix = || Fix::Value(requirement.value.clone().into());
    issues.extend(check_noanonymous(requirement, value));
    if forbids_plain(value) {
        return;
    }
    let level = tls_use(context.value("smtp_tls_security_level"), context);
    // The levels of postmapd's policies are the administrator's own, for a relay.
    let has_other_policies = table_list::tables(context.value(Map::TLS.parameter))
        .any(|table| !table_list::queries(context, Map::TLS, table));
    let may_be_lowered = has_other_policies || !context.value("smtp_tls_per_site").is_empty();
    if level != TlsUse::Mandatory {
        issues.push(Issue::new(
            Code::PasswordInCleartext,
            "without noplaintext, Postfix sends the password in clear text to a server that offers AUTH but no TLS",
            fix(),
        ));
    } else if may_be_lowered {
        issues.push(Issue::new(
            Code::TlsPolicyMayLower,
            "TLS is mandatory, but a TLS policy table can lower the level for a server, and Postfix then sends it the \
             password in clear text",
            fix(),
        ));
    }
}

/// Checks for `noanonymous`. The fix keeps the other words of the value.
fn check_noanonymous(requirement: &Requirement, value: &str) -> Option<Issue> {
    (!stricter::has_any(value, &["noanonymous"])).then(|| {
        Issue::new(
            Code::AnonymousAllowed,
            "without noanonymous, Postfix can authenticate anonymously if a server offers it",
            match stricter::unite(&requirement.value, value) {
                Some(value) => Fix::ValueInPlace(value.into()),
                None => Fix::Value(requirement.value.clone().into()),
            },
        )
    })
}

/// Whether the value names a security property that SASL's PLAIN and LOGIN lack.
pub(super) fn forbids_plain(value: &str) -> bool {
    const LACKING_IN_PLAIN: [&str; 5] = [
        "noplaintext",
        "noactive",
        "nodictionary",
        "forward_secrecy",
        "mutual_auth",
    ];
    stricter::has_any(value, &LACKING_IN_PLAIN)
}

fn tls_use(level: &str, context: ServiceContext<'_>) -> TlsUse {
    let is_yes = |parameter| context.value(parameter).eq_ignore_ascii_case("yes");
    match level.to_ascii_lowercase().as_str() {
        "" if is_yes("smtp_enforce_tls") => TlsUse::Mandatory,
        "" if is_yes("smtp_use_tls") => TlsUse::Opportunistic,
        "" | "none" => TlsUse::Off,
        // `dane` is equivalent to `may` where a domain has no TLSA record.
        "may" | "dane" => TlsUse::Opportunistic,
        _ => TlsUse::Mandatory,
    }
}
