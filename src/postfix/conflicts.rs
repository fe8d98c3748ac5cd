//! Parameters that postmapd does not need, and that defeat it or leak a password if they are set.
//!
//! Each is evaluated by its value alone. Checks that need more are in [`super::check`].

use std::borrow::Cow;

use super::evaluate::forbids_plain;
use super::issue::{Fix, ServiceContext};
use super::requirements::Daemon;
use super::stricter::has_any;
use crate::diagnostics::Code;
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

/// All conflicts.
pub(super) const CONFLICTS: &[Conflict] = &[
    Conflict {
        parameter: "transport_maps",
        daemon: Daemon::TrivialRewrite,
        code: Code::TransportMaps,
        applies: is_set,
        message: "what these tables say about a recipient wins over the sender's next hop, and the host that they name \
                  is offered the sender's password",
        fix: Fix::Advice(Cow::Borrowed(
            "give their transports a service of their own in master.cf with -o smtp_sasl_auth_enable=no, unless they \
             are meant to log in",
        )),
    },
    Conflict {
        parameter: "sender_dependent_default_transport_maps",
        daemon: Daemon::TrivialRewrite,
        code: Code::SenderTransportMaps,
        applies: is_set,
        message: "a next hop in these tables wins over the one that postmapd answers",
        fix: Fix::Advice(Cow::Borrowed(
            "name transports without a next hop there, as in `slow:`",
        )),
    },
    Conflict {
        parameter: "empty_address_relayhost_maps_lookup_key",
        daemon: Daemon::TrivialRewrite,
        code: Code::NullSenderKey,
        applies: |value, _| value != "<>",
        message: "postmapd knows the null sender as <>, so bounces do not find their next hop",
        fix: Fix::Unset,
    },
    Conflict {
        parameter: "address_verify_relayhost",
        daemon: Daemon::TrivialRewrite,
        code: Code::ProbeRelayhost,
        applies: |value, context| value != context.value("relayhost"),
        message: "probes of addresses take another way than the mail that follows them",
        fix: Fix::Unset,
    },
    Conflict {
        parameter: "address_verify_sender_dependent_relayhost_maps",
        daemon: Daemon::TrivialRewrite,
        code: Code::ProbeRelayhost,
        applies: |value, context| value != context.value("sender_dependent_relayhost_maps"),
        message: "probes of addresses take another way than the mail that follows them",
        fix: Fix::Unset,
    },
    Conflict {
        parameter: "smtp_fallback_relay",
        daemon: Daemon::Smtp,
        code: Code::FallbackRelay,
        applies: is_set,
        message: "where a sender's next hop is down, mail goes to the fallback relay, which is offered the sender's \
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
        message: "it forbids PLAIN and LOGIN at servers with a verified certificate, and most relays offer nothing else",
        fix: Fix::Advice(Cow::Borrowed(
            "if these relays offer PLAIN or LOGIN alone, take the words other than noanonymous out of it; that weakens \
             what was written here on purpose, so no command is proposed",
        )),
    },
    Conflict {
        parameter: "smtp_sasl_type",
        daemon: Daemon::Smtp,
        code: Code::NoSasl,
        applies: |value, context| !context.config.sasl_types.contains(value),
        message: "the client of this Postfix cannot log in with that SASL implementation (postconf -A)",
        fix: Fix::Unset,
    },
    Conflict {
        parameter: "smtp_sasl_mechanism_filter",
        daemon: Daemon::Smtp,
        code: Code::MechanismFilter,
        applies: |value, _| !value.is_empty() && !has_any(value, &["plain", "login"]),
        message: "it names neither PLAIN nor LOGIN, and most relays offer nothing else",
        fix: Fix::Advice(Cow::Borrowed(
            "if these relays offer PLAIN or LOGIN alone, add them to it; that weakens what was written here on purpose, \
             so no command is proposed",
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
        message: "postmapd answers user:password, and Postfix would part that elsewhere",
        fix: Fix::Unset,
    },
    Conflict {
        parameter: "smtp_sasl_auth_soft_bounce",
        daemon: Daemon::Smtp,
        code: Code::HardBounce,
        applies: is_no,
        message: "a login that a relay refuses bounces the mail, also while a password is being changed",
        fix: Fix::Unset,
    },
    Conflict {
        parameter: "debug_peer_list",
        daemon: Daemon::Smtp,
        code: Code::DebugPeers,
        applies: is_set,
        message: "for the servers that it names, smtp(8) logs as with -v, the passwords that it sends there among it \
                  (debug_peer_level says how much)",
        fix: Fix::Unset,
    },
    Conflict {
        parameter: "smtp_never_send_ehlo",
        daemon: Daemon::Smtp,
        code: Code::NoEhlo,
        applies: is_yes,
        message: "without EHLO there is neither TLS nor a login",
        fix: Fix::Unset,
    },
    Conflict {
        parameter: "smtp_discard_ehlo_keywords",
        daemon: Daemon::Smtp,
        code: Code::EhloKeywordDiscarded,
        applies: |value, _| has_any(value, &["auth", "starttls"]),
        message: "Postfix does not want to know that a server offers AUTH, or STARTTLS, so it does not log in",
        fix: Fix::Unset,
    },
    Conflict {
        parameter: "smtp_tls_wrappermode",
        daemon: Daemon::Smtp,
        code: Code::Wrappermode,
        applies: is_yes,
        message: "every server is spoken to in TLS from the first byte, which is right for port 465 and for no other",
        fix: Fix::Unset,
    },
    Conflict {
        parameter: "socketmap_max_reply_size",
        daemon: Daemon::Smtp,
        code: Code::ReplySize,
        applies: |value, _| value.parse::<usize>().is_ok_and(|size| size < MAX_REPLY),
        message: "a longer answer than that is an error to Postfix, and the mail stays in the queue",
        fix: Fix::Unset,
    },
];
