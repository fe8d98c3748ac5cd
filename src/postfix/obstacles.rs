//! Parameters that postmapd does not need, and that defeat it or leak a password if they are set.
//!
//! Each is evaluated by its value alone. Checks that need more are in [`super::check`].

use std::borrow::Cow;

use super::judge::forbids_plain;
use super::stricter::has_any;
use super::verdict::{Cure, Site};
use super::wanted::Reader;
use crate::diagnostics::Code;
use crate::protocol::socketmap::MAX_REPLY;

/// A parameter that may conflict with postmapd.
pub(super) struct Obstacle {
    /// The name of the parameter.
    pub parameter: &'static str,
    /// The daemon that reads it.
    pub reader: Reader,
    /// The code of its finding.
    pub code: Code,
    /// Whether this value conflicts.
    pub stands: fn(&str, Site<'_>) -> bool,
    /// The consequence, for the user.
    pub message: &'static str,
    /// What fixes it.
    pub cure: Cure,
}

fn is_set(value: &str, _: Site<'_>) -> bool {
    !value.is_empty()
}

fn is_yes(value: &str, _: Site<'_>) -> bool {
    value.eq_ignore_ascii_case("yes")
}

fn is_no(value: &str, _: Site<'_>) -> bool {
    value.eq_ignore_ascii_case("no")
}

/// All conflicts.
pub(super) const OBSTACLES: &[Obstacle] = &[
    Obstacle {
        parameter: "transport_maps",
        reader: Reader::Rewrite,
        code: Code::TransportMaps,
        stands: is_set,
        message: "what these tables say about a recipient wins over the sender's next hop, and the host that they name \
                  is offered the sender's password",
        cure: Cure::Advice(Cow::Borrowed(
            "give their transports a service of their own in master.cf with -o smtp_sasl_auth_enable=no, unless they \
             are meant to log in",
        )),
    },
    Obstacle {
        parameter: "sender_dependent_default_transport_maps",
        reader: Reader::Rewrite,
        code: Code::SenderTransportMaps,
        stands: is_set,
        message: "a next hop in these tables wins over the one that postmapd answers",
        cure: Cure::Advice(Cow::Borrowed(
            "name transports without a next hop there, as in `slow:`",
        )),
    },
    Obstacle {
        parameter: "empty_address_relayhost_maps_lookup_key",
        reader: Reader::Rewrite,
        code: Code::NullSenderKey,
        stands: |value, _| value != "<>",
        message: "postmapd knows the null sender as <>, so bounces do not find their next hop",
        cure: Cure::Unset,
    },
    Obstacle {
        parameter: "address_verify_relayhost",
        reader: Reader::Rewrite,
        code: Code::ProbeRelayhost,
        stands: |value, site| value != site.value("relayhost"),
        message: "probes of addresses take another way than the mail that follows them",
        cure: Cure::Unset,
    },
    Obstacle {
        parameter: "address_verify_sender_dependent_relayhost_maps",
        reader: Reader::Rewrite,
        code: Code::ProbeRelayhost,
        stands: |value, site| value != site.value("sender_dependent_relayhost_maps"),
        message: "probes of addresses take another way than the mail that follows them",
        cure: Cure::Unset,
    },
    Obstacle {
        parameter: "smtp_fallback_relay",
        reader: Reader::Client,
        code: Code::FallbackRelay,
        stands: is_set,
        message: "where a sender's next hop is down, mail goes to the fallback relay, which is offered the sender's \
                  password",
        cure: Cure::Value(Cow::Borrowed("")),
    },
    Obstacle {
        parameter: "smtp_sasl_tls_verified_security_options",
        reader: Reader::Client,
        code: Code::PlainForbidden,
        // If its value equals that of the parameter above it, only that parameter is reported.
        stands: |value, site| forbids_plain(value) && value != site.value("smtp_sasl_tls_security_options"),
        message: "it forbids PLAIN and LOGIN at servers with a verified certificate, and most relays offer nothing else",
        cure: Cure::Advice(Cow::Borrowed(
            "if these relays offer PLAIN or LOGIN alone, take the words other than noanonymous out of it; that weakens \
             what was written here on purpose, so no command is proposed",
        )),
    },
    Obstacle {
        parameter: "smtp_sasl_type",
        reader: Reader::Client,
        code: Code::NoSasl,
        stands: |value, site| !site.live.sasl_types.contains(value),
        message: "the client of this Postfix cannot log in with that SASL implementation (postconf -A)",
        cure: Cure::Unset,
    },
    Obstacle {
        parameter: "smtp_sasl_mechanism_filter",
        reader: Reader::Client,
        code: Code::MechanismFilter,
        stands: |value, _| !value.is_empty() && !has_any(value, &["plain", "login"]),
        message: "it names neither PLAIN nor LOGIN, and most relays offer nothing else",
        cure: Cure::Advice(Cow::Borrowed(
            "if these relays offer PLAIN or LOGIN alone, add them to it; that weakens what was written here on purpose, \
             so no command is proposed",
        )),
    },
    Obstacle {
        parameter: "smtp_sasl_password_result_delimiter",
        reader: Reader::Client,
        code: Code::ResultDelimiter,
        stands: |value, site| {
            site.live.knows("smtp_sasl_password_result_delimiter") && !value.starts_with(':')
        },
        message: "postmapd answers user:password, and Postfix would part that elsewhere",
        cure: Cure::Unset,
    },
    Obstacle {
        parameter: "smtp_sasl_auth_soft_bounce",
        reader: Reader::Client,
        code: Code::HardBounce,
        stands: is_no,
        message: "a login that a relay refuses bounces the mail, also while a password is being changed",
        cure: Cure::Unset,
    },
    Obstacle {
        parameter: "debug_peer_list",
        reader: Reader::Client,
        code: Code::DebugPeers,
        stands: is_set,
        message: "for the servers that it names, smtp(8) logs as with -v, the passwords that it sends there among it \
                  (debug_peer_level says how much)",
        cure: Cure::Unset,
    },
    Obstacle {
        parameter: "smtp_never_send_ehlo",
        reader: Reader::Client,
        code: Code::NoEhlo,
        stands: is_yes,
        message: "without EHLO there is neither TLS nor a login",
        cure: Cure::Unset,
    },
    Obstacle {
        parameter: "smtp_discard_ehlo_keywords",
        reader: Reader::Client,
        code: Code::EhloKeywordDiscarded,
        stands: |value, _| has_any(value, &["auth", "starttls"]),
        message: "Postfix does not want to know that a server offers AUTH, or STARTTLS, so it does not log in",
        cure: Cure::Unset,
    },
    Obstacle {
        parameter: "smtp_tls_wrappermode",
        reader: Reader::Client,
        code: Code::Wrappermode,
        stands: is_yes,
        message: "every server is spoken to in TLS from the first byte, which is right for port 465 and for no other",
        cure: Cure::Unset,
    },
    Obstacle {
        parameter: "socketmap_max_reply_size",
        reader: Reader::Client,
        code: Code::ReplySize,
        stands: |value, _| value.parse::<usize>().is_ok_and(|size| size < MAX_REPLY),
        message: "a longer answer than that is an error to Postfix, and the mail stays in the queue",
        cure: Cure::Unset,
    },
];
