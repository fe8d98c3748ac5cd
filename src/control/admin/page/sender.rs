//! The box that explains a sender: the answers of all maps about its mail, and what Postfix does with them.

use crate::control::admin::View;
use crate::control::admin::access::AccessError;
use crate::control::admin::query::form_value;
use crate::lookup::address::NULL_SENDER;
use crate::lookup::explain::object::{ExplanationObject, Presentation, SourceObject};
use crate::lookup::explain::{Reader, explain};
use crate::lookup::map::{AnswerKind, Map};
use crate::lookup::search::Scratch;
use crate::lookup::snapshot::Snapshot;
use crate::os::printable::printable;

/// The box and its answers.
#[derive(Default)]
pub(super) struct Sender {
    /// Why the client may not use it.
    pub(super) refused: Option<String>,
    /// The sender as entered.
    pub(super) entered: String,
    /// What is wrong with what was entered.
    pub(super) problem: Option<String>,
    /// What happens to its mail. Empty if nothing was entered.
    pub(super) summary: String,
    pub(super) answers: Vec<AnswerRow>,
    /// How many next hops of a long list are not explained.
    pub(super) next_hops_not_explained: usize,
}

/// An answer.
pub(super) struct AnswerRow {
    /// What it is.
    pub(super) title: &'static str,
    pub(super) map: String,
    pub(super) key: String,
    /// The outcome, which is also a class of the style.
    pub(super) outcome: String,
    /// The outcome in words.
    pub(super) outcome_name: String,
    pub(super) value: Option<String>,
    /// The line or the variable that decided.
    pub(super) source: Option<String>,
    pub(super) reason: String,
    pub(super) tried: String,
    pub(super) postfix: String,
}

impl Sender {
    pub(super) fn new(
        view: &View,
        snapshot: &Snapshot,
        access: Result<(), AccessError>,
        query: Option<&str>,
    ) -> Self {
        if let Err(error) = access {
            return Self {
                refused: Some(error.to_string()),
                ..Self::default()
            };
        }
        let entered = match form_value(query, "sender") {
            Ok(entered) => entered.unwrap_or_default(),
            Err(error) => {
                return Self {
                    problem: Some(error.to_string()),
                    ..Self::default()
                };
            }
        };
        let key = entered.trim_ascii();
        if key.is_empty() {
            return Self::default();
        }
        let presentation = Presentation {
            directory: &view.directory,
            reader: Reader::AdminClient,
            text: printable,
        };
        let explained = |map| {
            let mut scratch = Scratch::default();
            let explanation = explain(snapshot, map, key, &mut scratch);
            ExplanationObject::new(snapshot, &explanation, presentation)
        };
        let is_of_sender = |map: &Map| matches!(map.answers, AnswerKind::NextHop | AnswerKind::Transport);
        let objects: Vec<_> = view
            .counters
            .maps()
            .iter()
            .filter(is_of_sender)
            .map(explained)
            .collect();
        Self {
            refused: None,
            entered: printable(key),
            problem: (key != NULL_SENDER && !key.contains(&b'@')).then(|| {
                "An envelope sender is an address, such as user@example.com, or <> for bounces.".to_owned()
            }),
            summary: summary(&objects),
            next_hops_not_explained: objects.first().map_or(0, |object| object.next_hops_not_explained),
            answers: objects
                .iter()
                .flat_map(|object| [object].into_iter().chain(object.related()))
                .map(AnswerRow::new)
                .collect(),
        }
    }
}

/// Says in a sentence what happens to the mail, from the explanations of the next hop and the service.
fn summary(objects: &[ExplanationObject]) -> String {
    let Some((next_hop, others)) = objects.split_first() else {
        return String::new();
    };
    let Some(value) = &next_hop.value else {
        return match next_hop.outcome.as_str() {
            "not_found" => "Mail is delivered directly, or by relayhost of main.cf if that is set.",
            _ => "Mail waits: the next hop is not known.",
        }
        .to_owned();
    };
    let is_list = value.contains([',', ' ', '\t']);
    let logins = || next_hop.related().map(|login| login.outcome.as_str());
    let login = if is_list {
        "; the login at each is below"
    } else if logins().any(|outcome| outcome == "cannot_tell") {
        ", and waits: the login is not known"
    } else if logins().any(|outcome| outcome == "found") {
        " with a login"
    } else {
        " without a login"
    };
    let mut others = others.iter();
    let waits = if others.any(|other| other.outcome == "cannot_tell") {
        " Where main.cf uses the map transport, it waits."
    } else {
        ""
    };
    format!("Mail goes to {value}{login}.{waits}")
}

impl AnswerRow {
    fn new(object: &ExplanationObject) -> Self {
        let answers = Map::named(&object.map).map(|map| map.answers);
        Self {
            title: match answers {
                Some(AnswerKind::NextHop) | None => "Next hop",
                Some(AnswerKind::Login) => "Login",
                Some(AnswerKind::Transport) => "Service and next hop",
                Some(AnswerKind::TlsPolicy) => "TLS policy",
            },
            map: object.map.clone(),
            key: object.key.clone(),
            outcome: object.outcome.clone(),
            outcome_name: object.outcome.replace('_', " "),
            value: object.value.clone(),
            source: object.source.as_ref().map(|source| match source {
                SourceObject::Line { file, line } => format!("{file}:{line}"),
                SourceObject::Variable { variable } => variable.clone(),
            }),
            reason: object.reason.clone(),
            tried: object.tried.join(", "),
            postfix: object.postfix.clone(),
        }
    }
}
