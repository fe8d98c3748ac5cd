//! `postmapd query --explain`: why a key has its answer, and what Postfix does with it.
//!
//! For an envelope sender both halves are shown, whichever map is queried: the next hop, and the credentials in the
//! order in which Postfix queries them. A password is never shown, only that there is one, and for which user.

use std::io::{self, Write};

use serde::Serialize;

use super::OutputFormat;
use crate::config::Sources;
use crate::lookup::address::{LookupKeys, NULL_SENDER};
use crate::lookup::explain::{self, Explanation};
use crate::lookup::map::{AnswerKind, Map};
use crate::lookup::nexthop;
use crate::lookup::rationale::Source;
use crate::lookup::search::Scratch;
use crate::lookup::snapshot::Snapshot;
use crate::lookup::tls_policy::{self, Level};
use crate::os::printable::{json, printable, printable_path};
use crate::protocol::answer::Answer;

/// Replaces a password.
const MASK: &str = "********";

/// Prints why `key` has its answer, and returns the answer.
pub(super) fn print<'a>(
    snapshot: &'a Snapshot,
    sources: &Sources,
    map: Map,
    key: &[u8],
    format: OutputFormat,
    scratch: &'a mut Scratch,
    out: &mut impl Write,
) -> io::Result<Answer<'a>> {
    let explanation = explain::explain(snapshot, map, key, scratch);
    let related = related(snapshot, &explanation);
    match format {
        OutputFormat::Text => {
            print_text(&explanation, sources, out)?;
            for other in &related {
                writeln!(out)?;
                print_text(other, sources, out)?;
            }
            if depends_on_default(&explanation) || related.iter().any(depends_on_default) {
                writeln!(out, "\nevaluated with {}", sources.environment)?;
            }
            writeln!(out)?;
        }
        OutputFormat::Json => {
            let mut object = ExplanationObject::new(&explanation, sources);
            if depends_on_default(&explanation) || related.iter().any(depends_on_default) {
                object.environment = Some(sources.environment.to_string());
            }
            let mut objects = related.iter().map(|other| ExplanationObject::new(other, sources));
            match map.answers {
                AnswerKind::NextHop => object.credentials = Some(objects.collect()),
                AnswerKind::Login => object.relayhost = objects.next().map(Box::new),
                AnswerKind::Transport => object.tls = Some(objects.collect()),
                AnswerKind::TlsPolicy => {}
            }
            json::write(&object, &mut *out)?;
            writeln!(out)?;
        }
    }
    Ok(explanation.answer)
}

/// Whether the answer depends on the default relay, and so on the environment.
fn depends_on_default(explanation: &Explanation<'_>) -> bool {
    explanation.map.answers != AnswerKind::Login && !matches!(explanation.source, Some(Source::Line(..)))
}

/// Returns the rest of a sender's route: the credentials for its next hops, or their TLS policies, or its next hop.
fn related<'a>(snapshot: &'a Snapshot, explanation: &Explanation<'a>) -> Vec<Explanation<'a>> {
    let keys = LookupKeys::of(&explanation.key, &snapshot.delimiters);
    match (explanation.map.answers, explanation.answer) {
        (AnswerKind::NextHop, Answer::Found(list)) => {
            let mut all: Vec<Explanation<'_>> = Vec::new();
            for next_hop in nexthop::elements(list.expose()) {
                for lookup in explain::credentials(snapshot, &explanation.key, Some(next_hop)) {
                    if !all.iter().any(|known| known.key == lookup.key) {
                        all.push(lookup);
                    }
                }
            }
            all
        }
        (AnswerKind::NextHop, Answer::NotFound) => explain::credentials(snapshot, &explanation.key, None),
        (AnswerKind::Transport, _) => match snapshot.next_hop(&keys) {
            Answer::Found(list) => nexthop::elements(list.expose())
                .map(|next_hop| explain::tls_policy(snapshot, next_hop))
                .collect(),
            Answer::NotFound | Answer::CannotTell(_) => Vec::new(),
        },
        (AnswerKind::Login, _) if keys.is_sender() => vec![explain::next_hop(snapshot, &explanation.key)],
        _ => Vec::new(),
    }
}

fn print_text(explanation: &Explanation<'_>, sources: &Sources, out: &mut impl Write) -> io::Result<()> {
    let tried: Vec<String> = explanation.tried.iter().map(|key| printable(key)).collect();
    writeln!(out, "{} {}", explanation.map, printable(&explanation.key))?;
    writeln!(out, "  tried    {}", tried.join(", "))?;
    let outcome = explanation.answer.outcome().replace('_', " ");
    match shown_value(explanation) {
        Some(value) => writeln!(out, "  answer   {outcome}: {value}")?,
        None => writeln!(out, "  answer   {outcome}")?,
    }
    match explanation.source {
        Some(Source::Line(table, line)) => {
            writeln!(out, "  from     {}:{line}", printable_path(&sources.file(table)))?;
        }
        Some(Source::Variable(name)) => writeln!(out, "  from     {name}")?,
        None => {}
    }
    writeln!(out, "  because  {}", printable(explanation.reason.as_bytes()))?;
    writeln!(out, "  Postfix  {}", postfix_action(explanation))
}

/// Returns the value as it may be shown: of credentials, the user.
fn shown_value(explanation: &Explanation<'_>) -> Option<String> {
    let Answer::Found(value) = explanation.answer else {
        return None;
    };
    Some(match explanation.map.answers {
        AnswerKind::NextHop | AnswerKind::Transport | AnswerKind::TlsPolicy => printable(value.expose()),
        AnswerKind::Login => format!("{}:{MASK}", user(explanation)),
    })
}

fn user(explanation: &Explanation<'_>) -> String {
    match explanation.answer {
        Answer::Found(value) if explanation.map.answers == AnswerKind::Login => {
            let user = value.expose().split(|c| *c == b':').next();
            printable(user.unwrap_or_default())
        }
        _ => String::new(),
    }
}

/// Describes what Postfix does with the answer.
fn postfix_action(explanation: &Explanation<'_>) -> String {
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
        (AnswerKind::Login, Answer::Found(_)) => {
            let login = format!("logs in as {} if the server offers AUTH", user(explanation));
            if explanation.key.contains(&b'@') {
                login
                    + "; for reload.in_flight after a change of its next hop, a running server returns not found for \
                       this key and, for the next hop, this sender's login there"
            } else {
                login
            }
        }
        (AnswerKind::Login, Answer::NotFound) => {
            let next = if explanation.key == NULL_SENDER {
                "never looks this up: bounces use the credentials of their next hop"
            } else if explanation.key.contains(&b'@') {
                "looks up the server's host name, then the next hop as it is written; if neither has credentials, it \
                 sends without authenticating"
            } else if !nexthop::is_bare_ipv6(&explanation.key)
                && explanation.key.iter().any(|c| b"[:".contains(c))
            {
                "sends without authenticating: this is its last lookup"
            } else {
                "looks up the next hop as it is written, if that differs; else it sends without authenticating"
            };
            next.to_owned()
        }
        (AnswerKind::Login, Answer::CannotTell(_)) => {
            "keeps the mail (4.3.0 local data error) and tries the next server".to_owned()
        }
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

/// An explanation in JSON. Names and meaning are an interface.
#[derive(Serialize)]
struct ExplanationObject {
    map: &'static str,
    key: String,
    outcome: &'static str,
    value: Option<String>,
    tried: Vec<String>,
    source: Option<SourceObject>,
    reason: String,
    postfix: String,
    /// Whose environment the default relay comes from, if the answer depends on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<String>,
    /// The lookups of credentials that Postfix would do, in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    credentials: Option<Vec<ExplanationObject>>,
    /// The TLS policies of the sender's next hops.
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<Vec<ExplanationObject>>,
    /// The next hop of the sender, on which its credentials depend.
    #[serde(skip_serializing_if = "Option::is_none")]
    relayhost: Option<Box<ExplanationObject>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum SourceObject {
    Line { file: String, line: usize },
    Variable { variable: &'static str },
}

impl ExplanationObject {
    fn new(explanation: &Explanation<'_>, sources: &Sources) -> Self {
        Self {
            map: explanation.map.name,
            key: String::from_utf8_lossy(&explanation.key).into_owned(),
            outcome: explanation.answer.outcome(),
            value: shown_value(explanation),
            tried: explanation
                .tried
                .iter()
                .map(|key| String::from_utf8_lossy(key).into_owned())
                .collect(),
            source: explanation.source.map(|source| match source {
                Source::Line(table, line) => SourceObject::Line {
                    file: sources.file(table).to_string_lossy().into_owned(),
                    line,
                },
                Source::Variable(variable) => SourceObject::Variable { variable },
            }),
            reason: explanation.reason.clone(),
            postfix: postfix_action(explanation),
            environment: None,
            credentials: None,
            tls: None,
            relayhost: None,
        }
    }
}
