//! The variables of the default relay: those of this process, of a running server, or of the file of variables beside
//! the tables.
//!
//! Values are secrets from the moment they are read, because any of them may contain a password. Only what can concern
//! the default relay is kept; the rest of an environment is wiped at once.

use std::env;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::os::secret::Secret;

/// Variables and their values. An empty value is treated as unset, because Compose passes on variables without a value.
#[derive(Clone, Default)]
pub(crate) struct Variables {
    values: Vec<(String, Secret)>,
    /// The directory in /proc of the process that has these variables, if it is another one.
    process: Option<PathBuf>,
}

impl Variables {
    /// Returns the variables of this process.
    pub(crate) fn from_process() -> Self {
        let mut variables = Self::default();
        for (name, value) in env::vars_os() {
            variables.insert(name.as_bytes(), Secret::from(value.into_vec()));
        }
        variables
    }

    /// Parses `/proc/PID/environ` of the process with this directory in /proc.
    pub(crate) fn from_environ(block: &Secret, process: &Path) -> Self {
        let mut variables = Self {
            process: Some(process.to_owned()),
            ..Self::default()
        };
        for assignment in block.expose().split(|c| *c == 0) {
            if let Some((name, value)) = split_assignment(assignment) {
                variables.insert(name, Secret::from(value.to_vec()));
            }
        }
        variables
    }

    /// Parses a file as systemd does (`EnvironmentFile=`): one assignment a line, optionally with quotes around the
    /// value, and comments that begin with `#` or `;`.
    ///
    /// Limits: values cannot continue on the next line, and in double quotes only a quote, a backslash, `$` and a
    /// backtick can be escaped.
    pub(crate) fn parse_file(text: &Secret) -> Self {
        let mut variables = Self::default();
        for line in text.expose().split(|c| *c == b'\n') {
            let line = line.trim_ascii();
            if line.starts_with(b"#") || line.starts_with(b";") {
                continue;
            }
            if let Some((name, value)) = split_assignment(line) {
                variables.insert(name.trim_ascii(), unquoted(value.trim_ascii()));
            }
        }
        variables
    }

    /// Keeps a variable if it can concern the default relay. The last of a name wins.
    fn insert(&mut self, name: &[u8], value: Secret) {
        let Ok(name) = std::str::from_utf8(name) else {
            return;
        };
        let upper = name.to_ascii_uppercase();
        if !["RELAY", "AWS_SES_", "SASL_PASSW"]
            .iter()
            .any(|word| upper.contains(word))
        {
            return;
        }
        self.values.retain(|(other, _)| other != name);
        if !value.is_empty() {
            self.values.push((name.to_owned(), value));
        }
    }

    /// Returns the value of a variable, if it is set.
    pub(crate) fn get(&self, name: &str) -> Option<&Secret> {
        self.values
            .iter()
            .find_map(|(own, value)| (own == name).then_some(value))
    }

    /// Returns the names of the variables that are set.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.values.iter().map(|(name, _)| name.as_str())
    }

    /// Returns the path of the file that a variable names, for this process.
    pub(crate) fn file(&self, name: &str) -> Option<PathBuf> {
        let named = std::ffi::OsStr::from_bytes(self.get(name)?.expose());
        let named = Path::new(named);
        let Some(process) = &self.process else {
            return Some(named.to_owned());
        };
        let there = path_in_process(process, named);
        let is_here = named.is_absolute() && is_same_file(named, &there);
        Some(if is_here { named.to_owned() } else { there })
    }

    /// Returns whether both have the same variables.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let has_all = |own: &Self, other: &Self| {
            own.values
                .iter()
                .all(|(name, value)| other.get(name) == Some(value))
        };
        has_all(self, other) && has_all(other, self)
    }
}

/// Returns the path by which this process reaches `path` of another one, given that one's directory in /proc.
pub(super) fn path_in_process(process: &Path, path: &Path) -> PathBuf {
    match path.strip_prefix("/") {
        Ok(within) => process.join("root").join(within),
        Err(_) => process.join("cwd").join(path),
    }
}

/// Returns whether two paths lead to one file.
pub(super) fn is_same_file(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |path: &Path| path.metadata().ok().map(|file| (file.dev(), file.ino()));
    id(one).is_some_and(|found| id(other) == Some(found))
}

fn split_assignment(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, value) = text.split_at_checked(memchr::memchr(b'=', text)?)?;
    Some((name, value.strip_prefix(b"=")?))
}

/// Returns a value without the quotes that systemd removes.
fn unquoted(value: &[u8]) -> Secret {
    match value {
        [b'\'', inner @ .., b'\''] => Secret::from(inner.to_vec()),
        [b'"', inner @ .., b'"'] => {
            let mut plain = Secret::with_capacity(inner.len());
            let mut rest = inner.iter();
            while let Some(c) = rest.next() {
                let escaped = if *c == b'\\' { rest.clone().next() } else { None };
                match escaped {
                    Some(next @ (b'"' | b'\\' | b'$' | b'`')) => {
                        rest.next();
                        plain.append(&[*next]);
                    }
                    _ => plain.append(&[*c]),
                }
            }
            plain
        }
        _ => Secret::from(value.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::Variables;
    use crate::os::secret::Secret;

    #[test]
    fn a_file_of_variables_is_parsed_as_systemd_does() {
        let text = "# RELAY_HOST=no\n; RELAY_HOST=no\nRELAY_HOST=old.test\n RELAY_HOST = relay.test \n\
                    RELAY_USER='a b'\nRELAY_PASSWORD=\"p\\\"\\\\\\$ =#\"\nHOME=/root\nRELAY_PORT=\nnonsense\n";
        let variables = Variables::parse_file(&Secret::from(text.as_bytes().to_vec()));
        let get = |name| {
            variables
                .get(name)
                .map(|value| String::from_utf8(value.expose().to_vec()).unwrap())
        };
        assert_eq!(get("RELAY_HOST").unwrap(), "relay.test");
        assert_eq!(get("RELAY_USER").unwrap(), "a b");
        assert_eq!(get("RELAY_PASSWORD").unwrap(), "p\"\\$ =#");
        assert_eq!((get("RELAY_PORT"), get("HOME")), (None, None));
    }
}
