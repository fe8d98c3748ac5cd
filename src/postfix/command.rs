//! `postconf` commands, written so that a shell runs them as they stand.
//!
//! Everything that a finding proposes and `postmapd postconf --commands` prints comes from here. The commands name the
//! configuration directory wherever the reading did, so that none goes to another instance.

use std::fmt;
use std::path::PathBuf;

/// A service of master.cf, as postconf(1) names it: `smtp/unix`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ServiceName {
    /// The first column.
    pub name: String,
    /// The second column.
    pub kind: String,
}

impl ServiceName {
    /// A service that listens at a UNIX socket.
    pub(crate) fn unix(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: "unix".to_owned(),
        }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.kind)
    }
}

/// Writes commands for one Postfix.
#[derive(Clone, Debug, Default)]
pub(crate) struct Commands {
    /// The configuration directory, where it is not Postfix's own default.
    pub directory: Option<PathBuf>,
}

impl Commands {
    /// Sets a parameter in main.cf.
    pub(crate) fn set(&self, parameter: &str, value: &str) -> String {
        self.postconf("-e", &assignment(parameter, value))
    }

    /// Takes a parameter out of main.cf, so that its default counts again.
    pub(crate) fn unset(&self, parameter: &str) -> String {
        self.postconf("-X", parameter)
    }

    /// Sets a parameter for one service. postconf 3.7 refuses blanks in such a value, and no parameter of ours needs
    /// them.
    pub(crate) fn set_for(&self, service: &ServiceName, parameter: &str, value: &str) -> String {
        self.postconf("-P", &service_assignment(service, parameter, value))
    }

    /// Takes the `-o` of one service away, so that main.cf counts for it again.
    pub(crate) fn unset_for(&self, service: &ServiceName, parameter: &str) -> String {
        self.postconf("-PX", &format!("{service}/{parameter}"))
    }

    /// Sets a column of master.cf.
    pub(crate) fn set_column(&self, service: &ServiceName, column: &str, value: &str) -> String {
        self.postconf("-F", &format!("{service}/{column}={value}"))
    }

    fn postconf(&self, flag: &str, argument: &str) -> String {
        let directory = self.directory.as_ref();
        let directory = directory.map(|path| format!(" -c {}", quoted(&path.to_string_lossy())));
        format!(
            "postconf{} {flag} '{}'",
            directory.unwrap_or_default(),
            escaped(argument)
        )
    }
}

/// `name = value`, as main.cf has it.
pub(crate) fn assignment(parameter: &str, value: &str) -> String {
    format!("{parameter} = {value}").trim_end().to_owned()
}

/// `service/type/name=value` without a blank, as `postconf -P` takes it.
pub(crate) fn service_assignment(service: &ServiceName, parameter: &str, value: &str) -> String {
    format!("{service}/{parameter}={}", value.replace(", ", ","))
}

/// A word for the shell, in quotes only where it needs them.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", escaped(word))
    }
}

fn escaped(text: &str) -> String {
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
