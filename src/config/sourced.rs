//! The text of a setting, with its source.

use crate::diagnostics::{Code, Finding, Place};

/// The text of a setting, with its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sourced {
    /// The text, without whitespace around it.
    pub value: String,
    /// The flag, the variable or the position in the settings file.
    pub place: Place,
}

impl Sourced {
    /// Creates it from `text` without the whitespace around it, such as the CR of a file with CR LF.
    pub(crate) fn trimmed(text: &str, place: Place) -> Self {
        Self {
            value: text.trim_ascii().to_owned(),
            place,
        }
    }

    /// Returns the items of a comma-separated list, without empty ones.
    pub(crate) fn items(&self) -> impl Iterator<Item = Self> {
        let words = self
            .value
            .split(',')
            .map(|word| Self::trimmed(word, self.place.clone()));
        words.filter(|word| !word.value.is_empty())
    }

    /// Returns a finding about it.
    pub(super) fn finding(&self, code: Code, message: impl Into<String>) -> Finding {
        Finding::new(code, self.place.clone()).message(message)
    }
}
