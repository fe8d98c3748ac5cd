//! The flags of the commands that read the folder, and the variable behind each.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::{DEFAULT_DIR, nearest};
use crate::diagnostic::{Finding, Findings, Place, Severity};

const PREFIX: &str = "POSTMAPD_";

/// Every variable of ours. None is called as Kubernetes calls those of a Service named postmapd.
const VARIABLES: [&str; 9] = [
    "POSTMAPD_DIR",
    "POSTMAPD_CONFIG",
    "POSTMAPD_LISTEN",
    "POSTMAPD_RECIPIENT_DELIMITER",
    "POSTMAPD_SOCKET_OWNER",
    "POSTMAPD_SOCKET_GROUP",
    "POSTMAPD_SOCKET_MODE",
    "POSTMAPD_LOG",
    "POSTMAPD_LOG_FORMAT",
];

/// A value, and where it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given<T> {
    /// The value.
    pub value: T,
    /// Where it was given.
    pub place: Place,
}

/// What every command that reads the folder may be told.
#[derive(Args, Clone, Debug, Default)]
pub struct Options {
    /// The folder with postfix-relaymap.cf and postfix-sasl-password.cf [env: POSTMAPD_DIR] [default: /etc/postmapd]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// The settings file [env: POSTMAPD_CONFIG] [default: postmapd.toml in DIR, if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// What begins an address extension, each character by itself, as in main.cf
    /// [env: POSTMAPD_RECIPIENT_DELIMITER] [default: +]
    #[arg(long, value_name = "CHARACTERS")]
    recipient_delimiter: Option<String>,
}

/// What only a server may be told.
#[derive(Args, Clone, Debug, Default)]
pub struct ServiceOptions {
    /// Where to listen, as main.cf writes it; may be given several times
    /// [env: POSTMAPD_LISTEN, separated by commas] [default: socketmap:inet:127.0.0.1:10451]
    #[arg(long, value_name = "ENDPOINT")]
    listen: Vec<String>,

    /// The owner of UNIX sockets, a name or a number [env: POSTMAPD_SOCKET_OWNER] [default: the server's user]
    #[arg(long, value_name = "USER")]
    socket_owner: Option<String>,

    /// The group of UNIX sockets, a name or a number [env: POSTMAPD_SOCKET_GROUP] [default: postfix, if it exists]
    #[arg(long, value_name = "GROUP")]
    socket_group: Option<String>,

    /// The mode of UNIX sockets [env: POSTMAPD_SOCKET_MODE] [default: 0660]
    #[arg(long, value_name = "MODE")]
    socket_mode: Option<String>,
}

impl Options {
    /// The folder.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        let variable = || variable("POSTMAPD_DIR").map(PathBuf::from);
        self.dir
            .clone()
            .or_else(variable)
            .unwrap_or_else(|| DEFAULT_DIR.into())
    }

    /// The settings file, if one was named.
    pub(super) fn config(&self) -> Option<PathBuf> {
        self.config
            .clone()
            .or_else(|| variable("POSTMAPD_CONFIG").map(PathBuf::from))
    }

    pub(super) fn recipient_delimiter(&self, findings: &mut Findings) -> Option<Given<String>> {
        let flag = self.recipient_delimiter.as_ref();
        either(
            flag,
            "--recipient-delimiter",
            "POSTMAPD_RECIPIENT_DELIMITER",
            findings,
        )
    }
}

impl ServiceOptions {
    pub(super) fn listen(&self, findings: &mut Findings) -> Option<Given<Vec<String>>> {
        if !self.listen.is_empty() {
            return Some(Given {
                value: self.listen.clone(),
                place: Place::Setting("--listen"),
            });
        }
        let given = either(None, "--listen", "POSTMAPD_LISTEN", findings)?;
        let endpoints = given
            .value
            .split(',')
            .map(str::trim)
            .filter(|text| !text.is_empty());
        Some(Given {
            value: endpoints.map(ToOwned::to_owned).collect(),
            place: given.place,
        })
    }

    pub(super) fn socket_owner(&self, findings: &mut Findings) -> Option<Given<String>> {
        either(
            self.socket_owner.as_ref(),
            "--socket-owner",
            "POSTMAPD_SOCKET_OWNER",
            findings,
        )
    }

    pub(super) fn socket_group(&self, findings: &mut Findings) -> Option<Given<String>> {
        either(
            self.socket_group.as_ref(),
            "--socket-group",
            "POSTMAPD_SOCKET_GROUP",
            findings,
        )
    }

    pub(super) fn socket_mode(&self, findings: &mut Findings) -> Option<Given<String>> {
        either(
            self.socket_mode.as_ref(),
            "--socket-mode",
            "POSTMAPD_SOCKET_MODE",
            findings,
        )
    }
}

/// A variable, if it is set to something.
fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// What a flag says, or the variable behind it.
fn either(
    flag: Option<&String>,
    flag_name: &'static str,
    variable_name: &'static str,
    findings: &mut Findings,
) -> Option<Given<String>> {
    if let Some(value) = flag {
        return Some(Given {
            value: value.clone(),
            place: Place::Setting(flag_name),
        });
    }
    let place = Place::Setting(variable_name);
    if let Ok(value) = variable(variable_name)?.into_string() {
        return Some(Given { value, place });
    }
    findings.push(
        Finding::new(Severity::Error, "not-utf-8", place)
            .says("the value is not UTF-8")
            .help("set it to plain text"),
    );
    None
}

/// A misspelt variable would otherwise be ignored in silence. It is no error: Kubernetes sets `POSTMAPD_PORT`,
/// `POSTMAPD_SERVICE_HOST` and others where a Service is named postmapd.
pub(super) fn warn_of_unknown_variables(findings: &mut Findings) {
    let set = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for name in set.filter(|name| !VARIABLES.contains(&name.as_str())) {
        let Some(word) = name.strip_prefix(PREFIX) else {
            continue;
        };
        let help = match nearest(
            word,
            VARIABLES.iter().filter_map(|known| known.strip_prefix(PREFIX)),
        ) {
            Some(near) => format!("did you mean {PREFIX}{near}?"),
            None => "postmapd serve --help lists the variables that count".to_owned(),
        };
        findings.push(
            Finding::new(
                Severity::Warning,
                "unknown-variable",
                Place::Setting("environment"),
            )
            .says(format!("{name} is no setting of postmapd and does nothing"))
            .help(help),
        );
    }
}
