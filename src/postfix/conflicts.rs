//! Parameters that postmapd does not need, and that defeat it or leak a password if they are set.
//!
//! Each is evaluated by its value alone. Checks that need more are in [`super::check`].

use std::borrow::Cow;

use super::evaluate::forbids_plain;
use super::issue::{Duty, Fix, ServiceContext};
use super::requirements::Daemon;
use super::stricter::has_any;
use super::table_list::{has_policies, queries};
use crate::diagnostics::Code;
use crate::lookup::map::Map;
use crate::protocol::socketmap::MAX_REPLY;

/// A parameter that may conflict with postmapd.
pub(super) struct Conflict {
    /// The name of the parameter.
    pub parameter: &'static str,
    /// The daemon that reads it.
    pub daemon: Daemon,
    /// The code of its finding.
    pub code: Code,
    /// Whether this value conflicts.
    pub applies: fn(&str, ServiceContext<'_>) -> bool,
    /// The consequence, for the user.
    pub message: &'static str,
    /// What fixes it.
    pub fix: Fix,
}

fn is_set(value: &str, _: ServiceContext<'_>) -> bool {
    !value.is_empty()
}

fn is_yes(value: &str, _: ServiceContext<'_>) -> bool {
    value.eq_ignore_ascii_case("yes")
}

fn is_no(value: &str, _: ServiceContext<'_>) -> bool {
    value.eq_ignore_ascii_case("no")
}

/// Whether a filter of SASL mechanisms that does not name XOAUTH2 passes it.
fn may_pass_xoauth2(filter: &str) -> bool {
    filter.is_empty() || has_any(filter, &["static:all", "static:rest"])
}

/// All conflicts.
pub(super) const CONFLICTS: &[Conflict] = &[
    Conflict {
        parameter: "transport_maps",
        daemon: Daemon::TrivialRewrite,
        code: Code::TransportMaps,
        applies: is_set,
        message: "a recipient's entry in these tables overrides the sender's next hop, and Postfix offers the \
                  sender's password to the host that the entry names",
        fix: Fix::Advice(Cow::Borrowed(
            "unless these hosts require a login, give their transports a separate service in master.cf with \
             -o smtp_sasl_auth_enable=no",
        )),
    },
    Conflict {
        parameter: "sender_dependent_default_transport_maps",
        daemon: Daemon::TrivialRewrite,
        code: Code::SenderTransportMaps,
        applies: |value, context| !value.is_empty() && !queries(context, Map::TRANSPORT, value),
        message: "a next hop in these tables overrides the one from postmapd",
        fix: Fix::Advice(Cow::Borrowed(
            "use only transports without a next hop there, for example `slow:`",
        )),
    },
    Conflict {
        parameter: "empty_address_relayhost_maps_lookup_key",
        daemon: Daemon::TrivialRewrite,
        code: Code::NullSenderKey,
        applies: |value, _| value != "<>",
        message: "postmapd expects <> as the null sender, so bounces get no next hop",
        fix: Fix::Unset,
    },
    Conflict {
        parameter: "address_verify_relayhost",
        daemon: Daemon::TrivialRewrite,
        code: Code::ProbeRelayhost,
        applies: |value, context| value != context.value("relayhost"),
        message: "address verification probes take another route than the mail itself",
        fix: Fix::Unset,
    },
    Conflict {
        parameter: "address_verify_sender_dependent_relayhost_maps",
        daemon: Daemon::TrivialRewrite,
        code: Code::ProbeRelayhost,
        applies: |value, context| value != context.value("sender_dependent_relayhost_maps"),
        message: "address verification probes take another route than the mail itself",
        fix: Fix::Unset,
    },
    Conflict {
        parameter: "smtp_fallback_relay",
        daemon: Daemon::Smtp,
        code: Code::FallbackRelay,
        applies: is_set,
        message: "if a sender's next hop is down, mail goes to the fallback relay, and Postfix offers it the sender's \
                  password",
        fix: Fix::Value(Cow::Borrowed("")),
    },
    Conflict {
        parameter: "smtp_sasl_tls_verified_security_options",
        daemon: Daemon::Smtp,
        code: Code::PlainForbidden,
        // If its value equals that of the parameter above it, only that parameter is reported.
        applies: |value, context| {
            forbids_plain(value) && value != context.value("smtp_sasl_tls_security_options")
        },
        message: "this value forbids PLAIN and LOGIN for servers with a verified certificate, and most relays offer \
                  only these",
        fix: Fix::Advice(Cow::Borrowed(
            "if your relays offer only PLAIN or LOGIN, remove the words other than noanonymous; no command is \
             proposed, because this weakens an explicit setting",
        )),
    },
    Conflict {
        parameter: "smtp_sasl_type",
        daemon: Daemon::Smtp,
        code: Code::NoSasl,
        applies: |value, context| !context.config.sasl_types.contains(value),
        message: "the SMTP client of this Postfix does not support this SASL implementation (postconf -A lists the \
                  supported ones)",
        fix: Fix::Unset,
    },
    Conflict {
        parameter: "smtp_sasl_mechanism_filter",
        daemon: Daemon::Smtp,
        code: Code::MechanismFilter,
        applies: |value, _| {
            const LOGIN: [&str; 5] = ["plain", "login", "xoauth2", "static:all", "static:rest"];
            !value.is_empty() && !has_any(value, &LOGIN)
        },
        message: "this filter allows neither PLAIN nor LOGIN, and most relays offer only these",
        fix: Fix::Advice(Cow::Borrowed(
            "if your relays offer only PLAIN or LOGIN, add them to it; no command is proposed, because this weakens \
             an explicit setting",
        )),
    },
    Conflict {
        parameter: "smtp_sasl_mechanism_filter",
        daemon: Daemon::Smtp,
        code: Code::Xoauth2Plugin,
        applies: |value, context| {
            context.config.has_xoauth2 && !has_any(value, &["xoauth2", "!xoauth2"]) && may_pass_xoauth2(value)
        },
        message: "a SASL plug-in for XOAUTH2 is installed, and Postfix prefers it where a relay offers XOAUTH2: the login \
                  with an ordinary password fails there",
        fix: Fix::Advice(Cow::Borrowed(
            "set it to `!xoauth2, static:rest`, and give the relays that use tokens a service with `xoauth2` (via= in \
             postfix-relay-tls.cf), or remove the plug-in",
        )),
    },
    Conflict {
        parameter: "smtp_sasl_password_result_delimiter",
        daemon: Daemon::Smtp,
        code: Code::ResultDelimiter,
        applies: |value, context| {
            context
                .config
                .has_parameter("smtp_sasl_password_result_delimiter")
                && !value.starts_with(':')
        },
        message: "postmapd returns user:password, and Postfix would split it at another character",
        fix: Fix::Unset,
    },
    Conflict {
        parameter: "smtp_sasl_auth_soft_bounce",
        daemon: Daemon::Smtp,
        code: Code::HardBounce,
        applies: is_no,
        message: "mail bounces if a relay rejects the login, even while a password is being changed",
        fix: Fix::Unset,
    },
    Conflict {
        parameter: "debug_peer_list",
        daemon: Daemon::Smtp,
        code: Code::DebugPeers,
        applies: is_set,
        message: "for the servers in this list, smtp(8) logs as with -v, including the passwords that it sends to \
                  them (debug_peer_level sets the amount)",
        fix: Fix::Unset,
    },
    Conflict {
        parameter: "smtp_never_send_ehlo",
        daemon: Daemon::Smtp,
        code: Code::NoEhlo,
        applies: is_yes,
        message: "without EHLO, Postfix can neither use TLS nor log in",
        fix: Fix::Unset,
    },
    Conflict {
        parameter: "smtp_discard_ehlo_keywords",
        daemon: Daemon::Smtp,
        code: Code::EhloKeywordDiscarded,
        applies: |value, _| has_any(value, &["auth", "starttls"]),
        message: "Postfix ignores that a server offers AUTH or STARTTLS, so it does not log in",
        fix: Fix::Unset,
    },
    Conflict {
        parameter: "smtp_tls_connection_reuse",
        daemon: Daemon::Smtp,
        code: Code::ConnectionReuse,
        applies: |value, context| is_yes(value, context) && has_policies(context),
        message: "on a connection that is open already, Postfix does not look up the policy: after an edit, a relay whose \
                  certificate is no longer valid gets mail for up to five minutes",
        fix: Fix::Unset,
    },
    Conflict {
        parameter: "smtp_tls_wrappermode",
        daemon: Daemon::Smtp,
        code: Code::Wrappermode,
        applies: |value, context| is_yes(value, context) && context.duty != Duty::Implicit,
        message: "Postfix uses implicit TLS for every server, which is correct only for port 465",
        fix: Fix::Unset,
    },
    Conflict {
        parameter: "socketmap_max_reply_size",
        daemon: Daemon::Smtp,
        code: Code::ReplySize,
        applies: |value, _| value.parse::<usize>().is_ok_and(|size| size < MAX_REPLY),
        message: "Postfix treats a longer reply as an error, and the mail stays in the queue",
        fix: Fix::Unset,
    },
];
