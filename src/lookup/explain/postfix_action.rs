//! What Postfix does with an answer, in a sentence.

use super::{Explanation, Reader};
use crate::lookup::address::NULL_SENDER;
use crate::lookup::map::AnswerKind;
use crate::lookup::nexthop;
use crate::lookup::tls_policy::{self, Level};
use crate::os::printable::printable;
use crate::protocol::answer::Answer;

/// Describes what Postfix does with the answer. The user of a login is named to a reader that may see it.
pub(super) fn postfix_action(explanation: &Explanation<'_>, reader: Reader) -> String {
    match (explanation.map.answers, explanation.answer) {
        (AnswerKind::NextHop, Answer::Found(list)) => {
            let attempts: Vec<String> = nexthop::elements(list.expose()).map(delivery_attempt).collect();
            attempts.join("; if that fails, it ")
        }
        (AnswerKind::NextHop, Answer::NotFound) => {
            "sends to relayhost of main.cf if that is set (it should be empty), else to the recipient's own servers"
                .to_owned()
        }
        (AnswerKind::Transport, Answer::Found(_)) => {
            "delivers by this service of master.cf to this next hop, instead of that of relayhost".to_owned()
        }
        (AnswerKind::Transport, Answer::NotFound) => "delivers by default_transport of main.cf".to_owned(),
        (AnswerKind::TlsPolicy, Answer::Found(policy)) => use_of_policy(policy.expose()).to_owned(),
        (AnswerKind::TlsPolicy, Answer::NotFound) => {
            "uses smtp_tls_security_level of the service that delivers".to_owned()
        }
        (AnswerKind::TlsPolicy, Answer::CannotTell(_)) => {
            "defers the mail (4.7.5 client TLS configuration problem) and tries the next server".to_owned()
        }
        (AnswerKind::NextHop | AnswerKind::Transport, Answer::CannotTell(_)) => {
            "rejects new mail with 451 4.3.0, defers queued mail, and retries it after minimal_backoff_time (300 s)"
                .to_owned()
        }
        (AnswerKind::Login, Answer::Found(_)) => use_of_login(explanation, reader),
        (AnswerKind::Login, Answer::NotFound) => next_login_lookup(&explanation.key).to_owned(),
        (AnswerKind::Login, Answer::CannotTell(_)) => {
            "keeps the mail (4.3.0 local data error) and tries the next server".to_owned()
        }
    }
}

fn use_of_login(explanation: &Explanation<'_>, reader: Reader) -> String {
    match reader {
        Reader::AdminClient => "logs in if the server offers AUTH".to_owned(),
        Reader::Command => {
            let user = explanation.user().map(printable).unwrap_or_default();
            let login = format!("logs in as {user} if the server offers AUTH");
            if explanation.key.contains(&b'@') {
                login
                    + "; for reload.in_flight after a change of its next hop, a running server returns not found for \
                       this key and, for the next hop, this sender's login there"
            } else {
                login
            }
        }
    }
}

/// Describes what follows after a login was not found for this key.
fn next_login_lookup(key: &[u8]) -> &'static str {
    if key == NULL_SENDER {
        "never looks this up: bounces use the credentials of their next hop"
    } else if key.contains(&b'@') {
        "looks up the server's host name, then the next hop as it is written; if neither has credentials, it \
         sends without authenticating"
    } else if !nexthop::is_bare_ipv6(key) && key.iter().any(|c| b"[:".contains(c)) {
        "sends without authenticating: this is its last lookup"
    } else {
        "looks up the next hop as it is written, if that differs; else it sends without authenticating"
    }
}

/// Describes what Postfix does with a policy.
fn use_of_policy(policy: &[u8]) -> &'static str {
    let policy = tls_policy::parse(policy).ok().and_then(|setting| setting.policy);
    match policy.map(|policy| policy.level) {
        None | Some(Level::None) => "sends without TLS",
        Some(Level::May) => "uses TLS if the server offers it, with any certificate",
        Some(Level::Encrypt) => "requires TLS with any certificate, or defers the mail (4.7.4 or 4.7.5)",
        Some(Level::Dane) => {
            "verifies the server by its TLSA records; without them, uses TLS if the server offers it"
        }
        Some(Level::DaneOnly) => "verifies the server by its TLSA records, or defers the mail (4.7.5)",
        Some(Level::Fingerprint | Level::Verify | Level::Secure) => {
            "logs in and sends if the server's certificate matches, or defers the mail (4.7.4 or 4.7.5)"
        }
    }
}

fn delivery_attempt(element: &[u8]) -> String {
    let (host, port) = nexthop::host_and_port(element);
    let port = port.map_or_else(
        || "the default port".to_owned(),
        |port| format!("port {}", printable(port)),
    );
    let host = printable(host);
    let attempt = if nexthop::server_name(element).is_some() {
        format!("connects to {host}, {port}")
    } else {
        format!("looks up the MX records of {host} and connects to those hosts, {port}")
    };
    if nexthop::uses_implicit_tls(element) {
        attempt + " (TLS from the first byte, which needs a transport with smtp_tls_wrappermode = yes)"
    } else {
        attempt
    }
}
