//! Explanations as objects of JSON, for `query --explain` and the admin listener. Names and meaning are an interface
//! (contract).

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::postfix_action::postfix_action;
use super::{Explanation, MAX_NEXT_HOPS, Reader, related};
use crate::lookup::map::AnswerKind;
use crate::lookup::nexthop;
use crate::lookup::rationale::Source;
use crate::lookup::snapshot::Snapshot;
use crate::os::printable::printable;
use crate::protocol::answer::Answer;

/// Replaces a password, or a whole login.
pub(crate) const MASK: &str = "********";

/// How explanations are made into objects.
#[derive(Clone, Copy)]
pub(crate) struct Presentation<'p> {
    /// The directory of the tables.
    pub directory: &'p Path,
    /// Who reads them.
    pub reader: Reader,
    /// Makes text of bytes: [`printable`] for people, or [`String::from_utf8_lossy`] for programs.
    pub text: fn(&[u8]) -> String,
}

/// Returns bytes as text that [`printable`] has not changed, for programs.
pub(crate) fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// An explanation.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct ExplanationObject {
    /// The name of the map.
    pub map: String,
    /// The key as received.
    pub key: String,
    /// `found`, `not_found` or `cannot_tell`.
    pub outcome: String,
    /// The value if it was found, as far as the reader may see it.
    pub value: Option<String>,
    /// The keys that were tried, in order.
    pub tried: Vec<String>,
    /// What decided the answer.
    pub source: Option<SourceObject>,
    /// The rule that gives this outcome, in words.
    pub reason: String,
    /// What Postfix does with the answer.
    pub postfix: String,
    /// Whose environment the default relay comes from, if the answer depends on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// How many next hops of a long list are not explained.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub next_hops_not_explained: usize,
    /// The lookups of credentials that Postfix would do, in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Vec<ExplanationObject>>,
    /// The TLS policies of the sender's next hops.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Vec<ExplanationObject>>,
    /// The next hop of the sender, on which its credentials depend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relayhost: Option<Box<ExplanationObject>>,
}

/// What decided an answer.
#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged)]
pub(crate) enum SourceObject {
    /// A line of a file, from 1.
    Line {
        /// The path of the file.
        file: String,
        /// The line.
        line: usize,
    },
    /// An environment variable, or the file in its place.
    Variable {
        /// The name of the variable.
        variable: String,
    },
}

impl ExplanationObject {
    /// Creates the object of an explanation, with the rest of the sender's route.
    pub(crate) fn new(
        snapshot: &Snapshot,
        explanation: &Explanation<'_>,
        presentation: Presentation<'_>,
    ) -> Self {
        let mut object = Self::alone(explanation, presentation);
        let related = related(snapshot, explanation);
        let mut objects = related.iter().map(|other| Self::alone(other, presentation));
        object.next_hops_not_explained = next_hops(explanation).saturating_sub(MAX_NEXT_HOPS);
        match explanation.map.answers {
            AnswerKind::NextHop => object.credentials = Some(objects.collect()),
            AnswerKind::Login => object.relayhost = objects.next().map(Box::new),
            AnswerKind::Transport => object.tls = Some(objects.collect()),
            AnswerKind::TlsPolicy => {}
        }
        object
    }

    fn alone(explanation: &Explanation<'_>, presentation: Presentation<'_>) -> Self {
        let Presentation {
            directory,
            reader,
            text,
        } = presentation;
        Self {
            map: explanation.map.name.to_owned(),
            key: text(&explanation.key),
            outcome: explanation.answer.outcome().to_owned(),
            value: shown_value(explanation, reader),
            tried: explanation.tried.iter().map(|key| text(key)).collect(),
            source: explanation.source.map(|source| match source {
                Source::Line(table, line) => SourceObject::Line {
                    file: text(directory.join(table.file).as_os_str().as_bytes()),
                    line,
                },
                Source::Variable(variable) => SourceObject::Variable {
                    variable: variable.to_owned(),
                },
            }),
            reason: explanation.reason.clone(),
            postfix: postfix_action(explanation, reader),
            environment: None,
            next_hops_not_explained: 0,
            credentials: None,
            tls: None,
            relayhost: None,
        }
    }

    /// Returns the rest of the sender's route, in order.
    pub(crate) fn related(&self) -> impl Iterator<Item = &Self> {
        let lists = [&self.credentials, &self.tls].into_iter().flatten().flatten();
        lists.chain(self.relayhost.as_deref())
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// Returns how many next hops the answer has.
fn next_hops(explanation: &Explanation<'_>) -> usize {
    match (explanation.map.answers, explanation.answer) {
        (AnswerKind::NextHop | AnswerKind::Transport, Answer::Found(list)) => {
            nexthop::elements(list.expose()).count()
        }
        _ => 0,
    }
}

/// Returns the value as the reader may see it.
fn shown_value(explanation: &Explanation<'_>, reader: Reader) -> Option<String> {
    let Answer::Found(value) = explanation.answer else {
        return None;
    };
    Some(match (explanation.user(), reader) {
        (None, _) => printable(value.expose()),
        (Some(_), Reader::AdminClient) => MASK.to_owned(),
        (Some(user), Reader::Command) => format!("{}:{MASK}", printable(user)),
    })
}
