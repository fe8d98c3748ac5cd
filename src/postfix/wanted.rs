//! The parameters that Postfix needs for postmapd: the single list from which main.cf, the commands,
//! docker-mailserver's override files and the check derive.
//!
//! A parameter is listed if its default is not sufficient. Parameters that only must not interfere are in
//! [`super::conflicts`].

use std::borrow::Cow;

use super::reach::{NoName, Reach};
use crate::lookup::map::Map;

/// The daemon of Postfix that reads a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// trivial-rewrite(8), which chooses the next hop.
    Rewrite,
    /// smtp(8), which logs in at the next hop.
    Client,
}

/// What a value must satisfy; [`super::evaluate`] checks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Demand {
    /// The value is empty.
    Empty,
    /// The value is `yes`.
    Yes,
    /// The list has this map, and no other table before it.
    Table(Map),
    /// SASL mechanisms with plaintext passwords are forbidden on connections without TLS.
    WithoutTls,
    /// SASL mechanisms with plaintext passwords are allowed under TLS.
    UnderTls,
    /// TLS is used at least where the server offers it.
    Tls,
}

/// A parameter that postmapd needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The name of the parameter.
    pub parameter: &'static str,
    /// The recommended value.
    pub value: String,
    /// What a value must satisfy.
    pub demand: Demand,
    /// The daemon that reads the parameter.
    pub reader: Reader,
    /// Why Postfix needs it: a sentence for the user.
    pub why: Cow<'static, str>,
}

/// Returns all requirements of a Postfix that reaches the server by this addressing.
pub(crate) fn parameters(reach: &Reach) -> Result<Vec<Wanted>, NoName> {
    use Reader::{Client, Rewrite};
    let wanted = |parameter, value: &str, demand, reader, why| Wanted {
        parameter,
        value: value.to_owned(),
        demand,
        reader,
        why: Cow::Borrowed(why),
    };
    Ok(vec![
        wanted(
            "relayhost",
            "",
            Demand::Empty,
            Rewrite,
            "The default relay is postmapd's; with one here too, no sender could be excluded from it.",
        ),
        wanted(
            Map::RELAYHOST.parameter,
            &reach.table(Map::RELAYHOST)?,
            Demand::Table(Map::RELAYHOST),
            Rewrite,
            "By which next hop the mail of a sender leaves; a table before this one would be believed first.",
        ),
        wanted(
            "smtp_sasl_auth_enable",
            "yes",
            Demand::Yes,
            Client,
            "Without it Postfix never logs in, and the relay refuses the mail.",
        ),
        wanted(
            Map::SASL.parameter,
            &reach.table(Map::SASL)?,
            Demand::Table(Map::SASL),
            Client,
            "With which user and password Postfix logs in there.",
        ),
        wanted(
            "smtp_sender_dependent_authentication",
            "yes",
            Demand::Yes,
            Client,
            "Ask for the sender's password first; else all mail to a next hop leaves by one account.",
        ),
        wanted(
            "smtp_sasl_security_options",
            "noanonymous, noplaintext",
            Demand::WithoutTls,
            Client,
            "Without TLS, no password that can be read on the way.",
        ),
        wanted(
            "smtp_sasl_tls_security_options",
            "noanonymous",
            Demand::UnderTls,
            Client,
            "Under TLS, PLAIN and LOGIN; by default the line above would forbid them here too.",
        ),
        wanted(
            "smtp_tls_security_level",
            "may",
            Demand::Tls,
            Client,
            "TLS wherever it is offered; `encrypt` is stricter, for mail that is delivered directly too.",
        ),
    ])
}
