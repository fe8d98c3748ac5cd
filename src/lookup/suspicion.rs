//! Values that are valid but almost certainly a mistake, by the marks that other programs leave on them.
//!
//! `docker run --env-file` keeps quotes, an unfilled template leaves placeholders, and text copied from a web page has
//! invisible characters. The relay rejects such a login, and Postfix logs only that rejection. Messages never contain
//! the value.
//!
//! Limits: a password may have any of these marks on purpose, so each is a warning and never an error.

use crate::diagnostics::Code;
use crate::os::invisible::Invisible;

/// What is suspicious about a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suspicion {
    /// It has an invisible character.
    Invisible(Invisible),
    /// It starts and ends with the same kind of quote.
    Quoted,
    /// It is a placeholder: `${USER}`, `{USER}`, `<user>`.
    Placeholder,
    /// It starts or ends with whitespace.
    SurroundingWhitespace,
}

impl Suspicion {
    /// Returns the first suspicion about `value`.
    #[must_use]
    pub(crate) fn first_in(value: &[u8]) -> Option<Self> {
        if let Some(invisible) = Invisible::first(value) {
            return Some(Self::Invisible(invisible));
        }
        if matches!(value, [b'"', .., b'"'] | [b'\'', .., b'\'']) {
            return Some(Self::Quoted);
        }
        let around = [value.first(), value.last()];
        if around.into_iter().flatten().any(|c| matches!(c, b' ' | b'\t')) {
            return Some(Self::SurroundingWhitespace);
        }
        is_placeholder(value).then_some(Self::Placeholder)
    }

    /// Returns the code of its finding.
    #[must_use]
    pub(crate) fn code(self) -> Code {
        match self {
            Self::Invisible(_) => Code::InvisibleCharacter,
            Self::Quoted => Code::ValueInQuotes,
            Self::Placeholder => Code::Placeholder,
            Self::SurroundingWhitespace => Code::WhitespaceAroundValue,
        }
    }

    /// Describes the suspicion about the value of `what`, without the value.
    #[must_use]
    pub(crate) fn message(self, what: &str) -> String {
        match self {
            Self::Invisible(invisible) => format!(
                "{what} contains an invisible character, {}, at byte {}",
                invisible.name(),
                invisible.offset + 1
            ),
            Self::Quoted => format!("{what} is in quotes, which are part of it"),
            Self::Placeholder => format!("{what} is a placeholder that was not replaced"),
            Self::SurroundingWhitespace => format!("{what} starts or ends with whitespace"),
        }
    }

    /// Returns how to fix the value.
    #[must_use]
    pub(crate) fn help(self) -> &'static str {
        match self {
            Self::Invisible(_) => "type the value instead of copying it",
            Self::Quoted => {
                "remove the quotes: Docker's env_file and a list under environment: in compose.yaml keep them"
            }
            Self::Placeholder => {
                "write the value instead; check that the template was rendered and its variable was set"
            }
            Self::SurroundingWhitespace => "remove the whitespace",
        }
    }
}

/// Whether this is a name between the marks of a template, or a shell variable.
fn is_placeholder(value: &[u8]) -> bool {
    let is_name = |name: &[u8]| {
        name.first().is_some_and(u8::is_ascii_alphabetic)
            && name
                .iter()
                .all(|c| c.is_ascii_alphanumeric() || b"_-. ".contains(c))
    };
    // Longer marks come before their prefixes.
    let marks: [(&[u8], &[u8]); 7] = [
        (b"${{", b"}}"),
        (b"{{", b"}}"),
        (b"${", b"}"),
        (b"$(", b")"),
        (b"{", b"}"),
        (b"<", b">"),
        (b"%", b"%"),
    ];
    let between = marks.into_iter().find_map(|(before, after)| {
        let inner = value.strip_prefix(before)?.strip_suffix(after)?.trim_ascii();
        // A field of a template starts with a dot.
        Some(inner.strip_prefix(b".").unwrap_or(inner))
    });
    let is_shell_variable = |name: &[u8]| {
        is_name(name)
            && name
                .iter()
                .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || *c == b'_')
    };
    between.is_some_and(is_name) || value.strip_prefix(b"$").is_some_and(is_shell_variable)
}

#[cfg(test)]
mod tests {
    use super::Suspicion;

    #[test]
    fn marks_left_by_other_programs_are_recognised() {
        let code =
            |value: &str| Suspicion::first_in(value.as_bytes()).map(|suspicion| suspicion.code().as_str());
        for value in ["\"user\"", "'user'", "\"\""] {
            assert_eq!(code(value), Some("value-in-quotes"), "{value}");
        }
        for value in [
            "{USER}",
            "${USER}",
            "<user>",
            "$USER",
            "$RELAY_USER",
            "{{ user }}",
            "${{ secrets.USER }}",
            "$(user)",
            "<your user name>",
            "%USER%",
            "{{ .Values.user }}",
        ] {
            assert_eq!(code(value), Some("placeholder"), "{value}");
        }
        for value in [" user", "user ", "\tuser"] {
            assert_eq!(code(value), Some("blank-around-value"), "{value}");
        }
        assert_eq!(code("user\u{200b}"), Some("invisible-character"));
        for value in [
            "",
            "user",
            "\"",
            "u\"ser\"",
            "two words",
            "$",
            "$2y$10$abc",
            "{}",
            "<>",
            "a{USER}b",
            "<4711>",
            "$ecret",
            "p<a>",
            "user@domain.example",
            "%41%42c",
            "50%",
        ] {
            assert_eq!(code(value), None, "{value}");
        }
    }
}
