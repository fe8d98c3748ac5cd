//! Flags, environment, `postmapd.toml` and secret files, into checked values.
//!
//! The order is: defaults, `postmapd.toml`, environment, flags; the later wins. An empty variable is an unset one,
//! because Compose passes variables on that nobody set. What is wrong becomes a finding with the place it came
//! from; an error among them means that the server does not start.
//!
//! - [`options`]: the flags, and the variables that begin with `POSTMAPD_`
//! - [`mod@file`]: the settings file
//! - [`relay_environment`]: the default relay's variables, and the files they may name

pub mod file;
pub mod options;
pub mod relay_environment;

use std::path::PathBuf;

use crate::address::Delimiters;
use crate::diagnostic::{Finding, Findings, Place, Severity};
use crate::endpoint::Endpoint;
use file::SettingsFile;
use options::{Given, Options, ServiceOptions};
use relay_environment::RelayEnvironment;

/// The folder that is read where nothing else is said.
pub const DEFAULT_DIR: &str = "/etc/postmapd";

/// Where is listened where nothing else is said: local, and every map by its name.
pub const DEFAULT_LISTEN: &str = "socketmap:inet:127.0.0.1:10451";

/// What is read: the folder, and what the environment says about the default relay.
pub struct Sources {
    /// The folder with the tables.
    pub dir: PathBuf,
    /// What begins an address extension.
    pub delimiters: Delimiters,
    /// The default relay's variables.
    pub relay: RelayEnvironment,
}

impl Sources {
    /// The relay map.
    #[must_use]
    pub fn relay_map(&self) -> PathBuf {
        self.dir.join("postfix-relaymap.cf")
    }

    /// The credentials.
    #[must_use]
    pub fn credentials(&self) -> PathBuf {
        self.dir.join("postfix-sasl-password.cf")
    }
}

/// Who may use the UNIX sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketAccess {
    /// The owner, a name or a number. `None` for the server's own user.
    pub owner: Option<String>,
    /// The group, a name or a number. `None` for `postfix` where there is such a group and it may be given.
    pub group: Option<String>,
    /// The mode, as chmod(1) counts it.
    pub mode: u32,
}

/// Every setting, checked.
pub struct Settings {
    /// What is read.
    pub sources: Sources,
    /// Where is listened.
    pub listen: Vec<Endpoint>,
    /// Who may use the UNIX sockets.
    pub sockets: SocketAccess,
}

impl Settings {
    /// Collects the settings. Where `findings` has an error afterwards, they are not to be used.
    pub fn collect(options: &Options, service: &ServiceOptions, findings: &mut Findings) -> Self {
        options::warn_of_unknown_variables(findings);
        let dir = options.dir();
        let file = SettingsFile::read(options.config(), &dir, findings);
        let relay = RelayEnvironment::from_process(findings);
        // Whoever set a variable to something wrong learns it before anything is served.
        relay.judge_inline(findings);
        Self {
            listen: listen(service.listen(findings).or(file.listen), findings),
            sockets: SocketAccess {
                owner: service
                    .socket_owner(findings)
                    .or(file.socket_owner)
                    .map(|given| given.value),
                group: service
                    .socket_group(findings)
                    .or(file.socket_group)
                    .map(|given| given.value),
                mode: mode(service.socket_mode(findings).or(file.socket_mode), findings),
            },
            sources: Sources {
                dir,
                delimiters: delimiters(
                    options.recipient_delimiter(findings).or(file.recipient_delimiter),
                    findings,
                ),
                relay,
            },
        }
    }
}

fn listen(given: Option<Given<Vec<String>>>, findings: &mut Findings) -> Vec<Endpoint> {
    let given = given.unwrap_or_else(|| Given {
        value: vec![DEFAULT_LISTEN.to_owned()],
        place: Place::Setting("--listen"),
    });
    let mut endpoints = Vec::new();
    for text in &given.value {
        match Endpoint::to_listen(text) {
            Ok(endpoint) => endpoints.push(endpoint),
            Err(problem) => findings.push(
                Finding::new(Severity::Error, "bad-endpoint", given.place.clone())
                    .says(format!("`{text}` is no endpoint to listen at: {problem}"))
                    .help("write for example socketmap:inet:127.0.0.1:10451"),
            ),
        }
    }
    endpoints
}

fn delimiters(given: Option<Given<String>>, findings: &mut Findings) -> Delimiters {
    let Some(given) = given else {
        return Delimiters::default();
    };
    Delimiters::new(&given.value).unwrap_or_else(|| {
        findings.push(
            Finding::new(Severity::Error, "bad-recipient-delimiter", given.place)
                .says("the recipient delimiter has a character that no address extension can begin with")
                .help("copy the value of recipient_delimiter from main.cf, for example +"),
        );
        Delimiters::default()
    })
}

fn mode(given: Option<Given<String>>, findings: &mut Findings) -> u32 {
    const DEFAULT: u32 = 0o660;
    let Some(given) = given else { return DEFAULT };
    match u32::from_str_radix(&given.value, 8) {
        Ok(mode) if mode <= 0o777 => mode,
        _ => {
            findings.push(
                Finding::new(Severity::Error, "bad-socket-mode", given.place)
                    .says("the mode of the socket is not an octal number up to 0777")
                    .help("write for example 0660"),
            );
            DEFAULT
        }
    }
}

/// The nearest of `known` to a misspelt word, if any is near.
fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(word, name), name));
    let (score, name) = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (score > 0.85).then_some(name)
}
