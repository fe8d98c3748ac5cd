//! The parameters that Postfix needs for postmapd: the one list from which main.cf, the commands, docker-mailserver's
//! override files and the check all come.
//!
//! A parameter stands here if its default does not do. What merely must not get in the way stands in
//! [`super::obstacles`].

use std::borrow::Cow;

use super::reach::{NoName, Reach};
use crate::lookup::map::Map;

/// Which programs of Postfix read a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// trivial-rewrite(8), which chooses the next hop.
    Rewrite,
    /// smtp(8), which logs in there.
    Client,
}

/// What a value must be like; [`super::judge`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Demand {
    /// Empty.
    Empty,
    /// `yes`.
    Yes,
    /// This map, and no other table before it.
    Table(Map),
    /// No plain password while the connection is not encrypted.
    WithoutTls,
    /// Plain passwords while it is.
    UnderTls,
    /// TLS at least where the server offers it.
    Tls,
}

/// A parameter that postmapd needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Its name.
    pub parameter: &'static str,
    /// The value that is recommended.
    pub value: String,
    /// What a value must be like to do.
    pub demand: Demand,
    /// The daemon that reads it.
    pub reader: Reader,
    /// Why.
    pub why: Cow<'static, str>,
}

/// Everything, for the Postfix that reaches the server so.
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
