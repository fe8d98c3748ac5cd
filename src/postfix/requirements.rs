//! The parameters that Postfix needs for postmapd: the single list from which main.cf, the commands,
//! docker-mailserver's override files and the check derive.
//!
//! A parameter is listed if its default is not sufficient. Parameters that only must not interfere are in
//! [`super::conflicts`].

use std::borrow::Cow;

use super::addressing::{Addressing, Unaddressable};
use crate::lookup::map::Map;

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
}

/// Returns all requirements of a Postfix that reaches the server by this addressing.
pub(crate) fn all(addressing: &Addressing) -> Result<Vec<Requirement>, Unaddressable> {
    use Daemon::{Smtp, TrivialRewrite};
    let requirement = |parameter, value: &str, expectation, daemon, rationale| Requirement {
        parameter,
        value: value.to_owned(),
        expectation,
        daemon,
        rationale: Cow::Borrowed(rationale),
    };
    Ok(vec![
        requirement(
            "relayhost",
            "",
            Expectation::Empty,
            TrivialRewrite,
            "postmapd provides the default relay. A relayhost here would apply to excluded senders too.",
        ),
        requirement(
            Map::RELAYHOST.parameter,
            &addressing.table(Map::RELAYHOST)?,
            Expectation::Table(Map::RELAYHOST),
            TrivialRewrite,
            "The next hop of each sender. A table before this one would take precedence.",
        ),
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
    ])
}
