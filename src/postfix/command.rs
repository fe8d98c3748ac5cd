//! `postconf` commands, quoted so that a shell runs them as printed.
//!
//! All commands that findings and `postmapd postconf --commands` print are made here. They name the configuration
//! directory that was read, unless it is Postfix's default, so that they never change another instance.

use std::fmt;
use std::path::PathBuf;

/// A service of master.cf, displayed as postconf(1) names it: `smtp/unix`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ServiceName {
    /// The first column: the service name.
    pub name: String,
    /// The second column: the service type.
    pub service_type: String,
}

impl ServiceName {
    /// Creates the name of a service that listens on a UNIX socket.
    pub(crate) fn unix(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            service_type: "unix".to_owned(),
        }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.service_type)
    }
}

/// Creates commands for one Postfix instance.
#[derive(Clone, Debug, Default)]
pub(crate) struct Commands {
    /// The configuration directory. `None` for Postfix's default.
    pub directory: Option<PathBuf>,
}

impl Commands {
    /// Returns a command that sets a parameter in main.cf.
    pub(crate) fn set(&self, parameter: &str, value: &str) -> String {
        self.postconf("-e", &assignment(parameter, value))
    }

    /// Returns a command that removes a parameter from main.cf, so that its default takes effect.
    pub(crate) fn unset(&self, parameter: &str) -> String {
        self.postconf("-X", parameter)
    }

    /// Returns a command that sets a parameter for one service. postconf 3.7 rejects whitespace in such a value; no
    /// parameter here needs it.
    pub(crate) fn set_for_service(&self, service: &ServiceName, parameter: &str, value: &str) -> String {
        self.postconf("-P", &service_assignment(service, parameter, value))
    }

    /// Returns a command that removes the `-o` of one service, so that main.cf takes effect for it.
    pub(crate) fn unset_for_service(&self, service: &ServiceName, parameter: &str) -> String {
        self.postconf("-PX", &format!("{service}/{parameter}"))
    }

    /// Returns a command that adds a service to master.cf, or replaces it. `entry`: its line.
    pub(crate) fn set_service(&self, service: &ServiceName, entry: &str) -> String {
        self.postconf("-Me", &format!("{service}={entry}"))
    }

    /// Returns a command that sets a column of master.cf.
    pub(crate) fn set_column(&self, service: &ServiceName, column: &str, value: &str) -> String {
        self.postconf("-F", &format!("{service}/{column}={value}"))
    }

    fn postconf(&self, flag: &str, argument: &str) -> String {
        let directory = self.directory.as_ref();
        let directory = directory.map(|path| format!(" -c {}", quote(&path.to_string_lossy())));
        format!(
            "postconf{} {flag} '{}'",
            directory.unwrap_or_default(),
            escape_quotes(argument)
        )
    }
}

/// Returns `name = value`, as in main.cf.
pub(crate) fn assignment(parameter: &str, value: &str) -> String {
    format!("{parameter} = {value}").trim_end().to_owned()
}

/// Returns `service/type/name=value` without whitespace, as `postconf -P` expects it.
pub(crate) fn service_assignment(service: &ServiceName, parameter: &str, value: &str) -> String {
    format!("{service}/{parameter}={}", value.replace(", ", ","))
}

/// Quotes a word for the shell, if it needs quotes.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", escape_quotes(word))
    }
}

fn escape_quotes(text: &str) -> String {
    text.replace('\'', r"'\''")
}

#[cfg(test)]
mod tests {
    use super::Commands;

    #[test]
    fn a_shell_gets_each_argument_as_one_word() {
        let plain = Commands::default();
        assert_eq!(plain.set("relayhost", ""), "postconf -e 'relayhost ='");
        let odd = Commands {
            directory: Some("/tmp/it's here".into()),
        };
        assert_eq!(odd.unset("a'b"), r"postconf -c '/tmp/it'\''s here' -X 'a'\''b'");
    }
}
