//! The flags of the commands that read the folder, and the variable behind each.
//!
//! A value is read alike in a flag, a variable and the settings file ([`Given`]). One difference: a variable that is empty or
//! has whitespace alone is not set, because Compose passes variables on that have no value.

use std::env;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::Args;

use super::setting::{self, Setting};
use super::{DEFAULT_DIR, nearest};
use crate::diagnostic::{Code, Finding, Findings, Place};

const PREFIX: &str = "POSTMAPD_";

/// A value, and where it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given<T> {
    /// The value.
    pub value: T,
    /// Where it was given.
    pub place: Place,
}

impl Given<String> {
    /// A value without the whitespace around it, of which a line end may be left by a file with CR LF.
    #[must_use]
    pub fn word(text: &str, place: Place) -> Self {
        Self {
            value: text.trim_ascii().to_owned(),
            place,
        }
    }
}

impl Given<Vec<String>> {
    /// The words of one or several lists with commas.
    #[must_use]
    pub fn words<T: AsRef<str>>(texts: &[T], place: Place) -> Self {
        let words = texts.iter().flat_map(|text| text.as_ref().split(','));
        let words = words.map(str::trim_ascii).filter(|word| !word.is_empty());
        Self {
            value: words.map(ToOwned::to_owned).collect(),
            place,
        }
    }
}

/// What every command that reads the folder may be told, before its own subcommand or behind it.
#[derive(Args, Clone, Debug, Default)]
pub struct Options {
    #[arg(long, global = true, value_name = setting::DIR.value, help = setting::DIR.help())]
    dir: Option<PathBuf>,

    #[arg(long, global = true, value_name = setting::CONFIG.value, help = setting::CONFIG.help())]
    config: Option<PathBuf>,

    #[arg(long, global = true, value_name = setting::RECIPIENT_DELIMITER.value, help = setting::RECIPIENT_DELIMITER.help())]
    recipient_delimiter: Option<String>,

    #[arg(long, global = true, value_name = setting::NEXT_HOPS.value, help = setting::NEXT_HOPS.help())]
    next_hops: Option<String>,
}

/// What only a server may be told.
#[derive(Args, Clone, Debug, Default)]
pub struct ServiceOptions {
    #[arg(long, value_name = setting::LISTEN.value, help = setting::LISTEN.help())]
    listen: Vec<String>,

    #[arg(long, value_name = setting::ADMIN.value, help = setting::ADMIN.help())]
    admin: Option<String>,

    #[arg(long, value_name = setting::ALLOW_USERS.value, help = setting::ALLOW_USERS.help())]
    allow_users: Vec<String>,

    #[arg(long, value_name = setting::ALLOW_NETWORKS.value, help = setting::ALLOW_NETWORKS.help())]
    allow_networks: Vec<String>,

    #[arg(long, value_name = setting::SOCKET_OWNER.value, help = setting::SOCKET_OWNER.help())]
    socket_owner: Option<String>,

    #[arg(long, value_name = setting::SOCKET_GROUP.value, help = setting::SOCKET_GROUP.help())]
    socket_group: Option<String>,

    #[arg(long, value_name = setting::SOCKET_MODE.value, help = setting::SOCKET_MODE.help())]
    socket_mode: Option<String>,

    #[arg(long, value_name = setting::USER.value, help = setting::USER.help())]
    user: Option<String>,

    #[arg(long, value_name = setting::CONFINEMENT.value, help = setting::CONFINEMENT.help())]
    confinement: Option<String>,
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

    /// Whether the folder was named, by the flag or by the variable, and is not merely the usual one.
    #[must_use]
    pub fn names_dir(&self) -> bool {
        self.dir.is_some() || variable("POSTMAPD_DIR").is_some()
    }

    /// The settings file, if one was named.
    pub(super) fn config(&self) -> Option<PathBuf> {
        self.config
            .clone()
            .or_else(|| variable("POSTMAPD_CONFIG").map(PathBuf::from))
    }

    pub(super) fn recipient_delimiter(&self, findings: &mut Findings) -> Option<Given<String>> {
        let flag = self.recipient_delimiter.as_ref();
        either(flag, &setting::RECIPIENT_DELIMITER, findings)
    }

    pub(super) fn next_hops(&self, findings: &mut Findings) -> Option<Given<String>> {
        either(self.next_hops.as_ref(), &setting::NEXT_HOPS, findings)
    }
}

impl ServiceOptions {
    /// What a client of the admin listener may be told: its flag alone.
    #[must_use]
    pub fn of_admin(flag: Option<String>) -> Self {
        Self {
            admin: flag,
            ..Self::default()
        }
    }

    pub(super) fn listen(&self, findings: &mut Findings) -> Option<Given<Vec<String>>> {
        list(&self.listen, &setting::LISTEN, findings)
    }

    pub(super) fn allow_users(&self, findings: &mut Findings) -> Option<Given<Vec<String>>> {
        list(&self.allow_users, &setting::ALLOW_USERS, findings)
    }

    pub(super) fn allow_networks(&self, findings: &mut Findings) -> Option<Given<Vec<String>>> {
        list(&self.allow_networks, &setting::ALLOW_NETWORKS, findings)
    }

    pub(super) fn admin(&self, findings: &mut Findings) -> Option<Given<String>> {
        either(self.admin.as_ref(), &setting::ADMIN, findings)
    }

    pub(super) fn socket_owner(&self, findings: &mut Findings) -> Option<Given<String>> {
        either(self.socket_owner.as_ref(), &setting::SOCKET_OWNER, findings)
    }

    pub(super) fn socket_group(&self, findings: &mut Findings) -> Option<Given<String>> {
        either(self.socket_group.as_ref(), &setting::SOCKET_GROUP, findings)
    }

    pub(super) fn socket_mode(&self, findings: &mut Findings) -> Option<Given<String>> {
        either(self.socket_mode.as_ref(), &setting::SOCKET_MODE, findings)
    }

    pub(super) fn user(&self, findings: &mut Findings) -> Option<Given<String>> {
        either(self.user.as_ref(), &setting::USER, findings)
    }

    pub(super) fn confinement(&self, findings: &mut Findings) -> Option<Given<String>> {
        either(self.confinement.as_ref(), &setting::CONFINEMENT, findings)
    }
}

/// A variable, if it is set to something.
fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.as_bytes().trim_ascii().is_empty())
}

/// What a flag says, or the variable behind it. A variable that is not UTF-8 is an error.
pub fn either(
    flag: Option<&String>,
    setting: &'static Setting,
    findings: &mut Findings,
) -> Option<Given<String>> {
    if let (Some(value), Some(name)) = (flag, setting.flag) {
        return Some(Given::word(value, Place::Setting(name)));
    }
    let name = setting.variable?;
    let place = Place::Setting(name);
    if let Ok(value) = variable(name)?.into_string() {
        return Some(Given::word(&value, place));
    }
    findings.push(
        Finding::new(Code::BadSetting, place)
            .says("the value is not UTF-8")
            .help("set it to plain text"),
    );
    None
}

/// Likewise of a setting with several values: a flag may be given several times.
fn list(flags: &[String], setting: &'static Setting, findings: &mut Findings) -> Option<Given<Vec<String>>> {
    if let (Some(name), false) = (setting.flag, flags.is_empty()) {
        return Some(Given::words(flags, Place::Setting(name)));
    }
    let given = either(None, setting, findings)?;
    Some(Given::words(&[given.value], given.place))
}

/// A misspelt variable would otherwise be ignored in silence. It is no error: Kubernetes sets `POSTMAPD_PORT`,
/// `POSTMAPD_SERVICE_HOST` and others where a Service is named postmapd.
pub(super) fn warn_of_unknown_variables(findings: &mut Findings) {
    let set = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for name in set.filter(|name| !setting::variables().any(|known| known == name)) {
        let Some(word) = name.strip_prefix(PREFIX) else {
            continue;
        };
        let help = match nearest(
            word,
            setting::variables().filter_map(|known| known.strip_prefix(PREFIX)),
        ) {
            Some(near) => format!("did you mean {PREFIX}{near}?"),
            None => "postmapd serve --help lists the variables that count".to_owned(),
        };
        findings.push(
            Finding::new(Code::UnknownVariable, Place::Setting("environment"))
                .says(format!("{name} is no setting of postmapd and does nothing"))
                .help(help),
        );
    }
}
