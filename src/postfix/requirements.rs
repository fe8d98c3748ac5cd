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
            "The default relay is postmapd's; with one here too, no sender could be excluded from it.",
        ),
        requirement(
            Map::RELAYHOST.parameter,
            &addressing.table(Map::RELAYHOST)?,
            Expectation::Table(Map::RELAYHOST),
            TrivialRewrite,
            "By which next hop the mail of a sender leaves; a table before this one would be believed first.",
        ),
        requirement(
            "smtp_sasl_auth_enable",
            "yes",
            Expectation::Yes,
            Smtp,
            "Without it Postfix never logs in, and the relay refuses the mail.",
        ),
        requirement(
            Map::SASL.parameter,
            &addressing.table(Map::SASL)?,
            Expectation::Table(Map::SASL),
            Smtp,
            "With which user and password Postfix logs in there.",
        ),
        requirement(
            "smtp_sender_dependent_authentication",
            "yes",
            Expectation::Yes,
            Smtp,
            "Ask for the sender's password first; else all mail to a next hop leaves by one account.",
        ),
        requirement(
            "smtp_sasl_security_options",
            "noanonymous, noplaintext",
            Expectation::NoPlaintextWithoutTls,
            Smtp,
            "Without TLS, no password that can be read on the way.",
        ),
        requirement(
            "smtp_sasl_tls_security_options",
            "noanonymous",
            Expectation::PlaintextUnderTls,
            Smtp,
            "Under TLS, PLAIN and LOGIN; by default the line above would forbid them here too.",
        ),
        requirement(
            "smtp_tls_security_level",
            "may",
            Expectation::Tls,
            Smtp,
            "TLS wherever it is offered; `encrypt` is stricter, for mail that is delivered directly too.",
        ),
    ])
}
