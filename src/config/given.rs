//! The text of a setting, from whichever source, and where it was given.

use crate::diagnostics::{Code, Finding, Place};

/// A value, and where it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// The value.
    pub value: String,
    /// Where it was given.
    pub place: Place,
}

impl Given {
    /// A value without the whitespace around it, of which a line end may be left by a file with CR LF.
    pub(crate) fn word(text: &str, place: Place) -> Self {
        Self {
            value: text.trim_ascii().to_owned(),
            place,
        }
    }

    /// The words of a list with commas.
    pub(crate) fn words(&self) -> impl Iterator<Item = Self> {
        let words = self
            .value
            .split(',')
            .map(|word| Self::word(word, self.place.clone()));
        words.filter(|word| !word.value.is_empty())
    }

    /// Says what is wrong with it.
    pub(super) fn wrong(&self, code: Code, message: impl Into<String>) -> Finding {
        Finding::new(code, self.place.clone()).says(message)
    }
}
