//! Flags, environment, `postmapd.toml` and secret files, into checked values.
//!
//! The order is: defaults, `postmapd.toml`, environment, flags; the later wins. An empty variable is an unset one,
//! because Compose passes variables on that nobody set. What is wrong becomes a finding with the place it came
//! from; an error among them means that the server does not start, or, while it runs, that nothing changes.
//!
//! [`Sources`] say where to read, and stay as they are for the life of the process; [`Settings`] are what the flags,
//! the environment and the settings file come to as of one reading of that file.
//!
//! - [`allow`]: who may ask
//! - [`setting`]: every setting, with its names, its default and its meaning
//! - [`options`]: the flags, and the variables that begin with `POSTMAPD_`
//! - [`mod@file`]: the settings file
//! - [`relay_environment`]: the default relay's variables, and the files they may name
//! - [`environment`]: whose environment they come from
//! - [`variables`]: the variables as they are set there

pub mod allow;
pub mod environment;
pub mod file;
mod foreign_variables;
pub mod options;
pub mod relay_environment;
mod running_server;
pub mod setting;
pub mod variables;

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{Group, User};

use crate::address::Delimiters;
use crate::confinement::user::ServerUser;
use crate::diagnostic::{Code, Finding, Findings, Place};
use crate::endpoint::{Address, Endpoint};
use crate::name_service;
use crate::net::socket_file::SocketAccess;
use crate::peer::Allowed;
use crate::printable::printable;
use environment::Whose;
use file::SettingsFile;
use options::{Given, Options, ServiceOptions};
use relay_environment::RelayEnvironment;
use variables::Variables;

/// The folder that is read where nothing else is said.
pub const DEFAULT_DIR: &str = "/etc/postmapd";

/// The relay map in the folder.
const RELAY_MAP_FILE: &str = "postfix-relaymap.cf";
/// The credentials in the folder.
const CREDENTIALS_FILE: &str = "postfix-sasl-password.cf";

/// Where `status` asks where nothing else is said.
pub const DEFAULT_ADMIN: &str = "127.0.0.1:9451";

/// Where is listened where nothing else is said: local, and every map by its name.
pub const DEFAULT_LISTEN: &str = "socketmap:inet:127.0.0.1:10451";

/// Where everything is read: the folder, the settings file, and what the environment says.
pub struct Sources {
    dir: PathBuf,
    settings_file: PathBuf,
    settings_file_is_named: bool,
    options: Options,
    service: ServiceOptions,
    /// The default relay's variables.
    pub relay: RelayEnvironment,
    /// Whose environment these variables are of.
    pub environment: Whose,
}

impl Sources {
    /// Takes flags and environment, and says what is wrong with the environment by itself.
    pub fn new(options: Options, service: ServiceOptions, findings: &mut Findings) -> Self {
        let sources = Self::not_judged(options, service, findings);
        // Whoever set a variable to something wrong learns it before anything is served.
        sources.judge_variables(findings);
        sources
    }

    /// Likewise, but what is wrong with the default relay is only said when all is read and judged.
    pub fn not_judged(options: Options, service: ServiceOptions, findings: &mut Findings) -> Self {
        let environment = (Variables::of_process(), Whose::Own);
        Self::in_environment(options, service, environment, findings)
    }

    /// The sources of a command that answers from the files, in the environment that counts for it ([`environment`]).
    /// What is wrong with the default relay is only said when all is read and judged.
    pub fn of_command(options: Options, findings: &mut Findings) -> Self {
        let environment = environment::of_command(&options.dir());
        Self::in_environment(options, ServiceOptions::default(), environment, findings)
    }

    fn in_environment(
        options: Options,
        service: ServiceOptions,
        (variables, whose): (Variables, Whose),
        findings: &mut Findings,
    ) -> Self {
        options::warn_of_unknown_variables(findings);
        let relay = RelayEnvironment::new(&variables, findings);
        let dir = options.dir();
        let named = options.config();
        Self {
            settings_file_is_named: named.is_some(),
            settings_file: named.unwrap_or_else(|| dir.join("postmapd.toml")),
            dir,
            options,
            service,
            relay,
            environment: whose,
        }
    }

    /// Says what is wrong with the variables of the default relay by themselves.
    pub fn judge_variables(&self, findings: &mut Findings) {
        self.relay.judge_inline(findings);
    }

    /// The folder with the tables.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The relay map.
    #[must_use]
    pub fn relay_map(&self) -> PathBuf {
        self.dir.join(RELAY_MAP_FILE)
    }

    /// The credentials.
    #[must_use]
    pub fn credentials(&self) -> PathBuf {
        self.dir.join(CREDENTIALS_FILE)
    }

    /// The settings file.
    #[must_use]
    pub fn settings_file(&self) -> &Path {
        &self.settings_file
    }

    /// Whether the settings file was named, and therefore has to be there.
    #[must_use]
    pub fn needs_settings_file(&self) -> bool {
        self.settings_file_is_named
    }

    /// The settings, with `text` as the content of the settings file. Where `findings` has an error afterwards, they
    /// are not to be used.
    pub fn settings(&self, text: &[u8], findings: &mut Findings) -> Settings {
        let file = SettingsFile::parse(&self.settings_file, text, findings);
        let service = &self.service;
        let given = service.listen(findings).or(file.listen);
        let listen_is_default = given.is_none();
        let listen = listen(given, findings);
        let admin = service.admin(findings).or(file.admin);
        let admin = admin.and_then(|given| admin_address(&given, findings));
        // Where there is no such socket, there need be no such user.
        let mut addresses = listen
            .value
            .iter()
            .map(|endpoint| &endpoint.address)
            .chain(&admin);
        let has_files = addresses.any(|address| matches!(address, Address::Unix(_)));
        let owner = service.socket_owner(findings).or(file.socket_owner);
        let group = service.socket_group(findings).or(file.socket_group);
        let allowed = Allowed::new(
            allow::users(service.allow_users(findings).or(file.allow_users), findings),
            allow::networks(service.allow_networks(findings).or(file.allow_networks), findings),
        );
        allow::warn_of_the_unreachable(&listen, &allowed, findings);
        let user = service.user(findings).or(file.user);
        let user = user.and_then(|given| server_user(&given, findings));
        let owner = owner.and_then(|given| number("user", given, has_files, findings));
        Settings {
            allowed,
            sockets: SocketAccess {
                owner: owner.or(user.as_ref().map(|user| user.uid)),
                group: group.and_then(|given| number("group", given, has_files, findings)),
                mode: mode(service.socket_mode(findings).or(file.socket_mode), findings),
            },
            user,
            is_confined: is_on(service.confinement(findings).or(file.confinement), findings),
            listen: listen.value,
            listen_is_default,
            admin,
            delimiters: delimiters(
                self.options
                    .recipient_delimiter(findings)
                    .or(file.recipient_delimiter),
                findings,
            ),
            next_hops: next_hops(self.options.next_hops(findings).or(file.next_hops), findings),
            limits: file.limits,
            pace: file.pace,
        }
    }
}

/// Where the next hops of senders come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NextHops {
    /// From the relay map and the default relay.
    #[default]
    Postmapd,
    /// From main.cf, so that credentials need no next hop here.
    MainCf,
}

/// How soon changes of the files are seen and believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How often the files are compared without any hint.
    pub poll: Duration,
    /// How long a table that vanished, or was cut to nothing, is not believed.
    pub grace: Duration,
    /// How long a file that is open for writing is waited for.
    pub patience: Duration,
    /// How long an edit that moves a sender is remembered ([`crate::history`]). Zero for not at all.
    pub in_flight: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            poll: Duration::from_secs(5),
            grace: Duration::from_secs(5),
            patience: Duration::from_secs(30),
            in_flight: Duration::from_secs(15 * 60),
        }
    }
}

/// How many connections there may be; what is not said is for the server to choose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// In all.
    pub connections: Option<usize>,
    /// Of one user, or one host.
    pub connections_per_peer: Option<usize>,
}

impl Limits {
    /// The most that may be set: Linux gives no process more descriptors (`fs.nr_open`).
    pub const MOST: usize = 1 << 20;
}

/// Every setting, checked.
#[derive(Clone)]
pub struct Settings {
    /// Where is listened. Counts at the start only.
    pub listen: Vec<Endpoint>,
    /// Whether nobody said where to listen, and `listen` is the usual place.
    pub listen_is_default: bool,
    /// Where health, status and metrics are told, if anywhere. Counts at the start only.
    pub admin: Option<Address>,
    /// Who may use the UNIX sockets. Counts at the start only.
    pub sockets: SocketAccess,
    /// Who the server becomes, if somebody is named. Counts at the start only.
    pub user: Option<ServerUser>,
    /// Whether it locks itself ([`crate::confinement`]). Counts at the start only.
    pub is_confined: bool,
    /// Who may ask.
    pub allowed: Allowed,
    /// What begins an address extension.
    pub delimiters: Delimiters,
    /// Where next hops come from.
    pub next_hops: NextHops,
    /// How many connections there may be. Counts at the start only.
    pub limits: Limits,
    /// How soon changes count.
    pub pace: Pace,
}

fn listen(given: Option<Given<Vec<String>>>, findings: &mut Findings) -> Given<Vec<Endpoint>> {
    let given = given.unwrap_or_else(|| Given {
        value: vec![DEFAULT_LISTEN.to_owned()],
        place: Place::Setting("--listen"),
    });
    let mut endpoints = Vec::new();
    if given.value.is_empty() {
        findings.push(
            Finding::new(Code::BadEndpoint, given.place.clone())
                .says("no endpoint to listen at is named")
                .help("write for example socketmap:inet:127.0.0.1:10451, or leave it out for the default"),
        );
    }
    for text in &given.value {
        match Endpoint::to_listen(text) {
            Ok(endpoint) => endpoints.push(endpoint),
            Err(problem) => findings.push(
                Finding::new(Code::BadEndpoint, given.place.clone())
                    .says(format!(
                        "{} is no endpoint to listen at: {problem}",
                        name(text, &given.place)
                    ))
                    .help("write for example socketmap:inet:127.0.0.1:10451"),
            ),
        }
    }
    Given {
        value: endpoints,
        place: given.place,
    }
}

fn admin_address(given: &Given<String>, findings: &mut Findings) -> Option<Address> {
    let problem = match Address::parse(&given.value) {
        Ok(address) => return Some(address),
        Err(problem) => problem,
    };
    findings.push(
        Finding::new(Code::BadAdminAddress, given.place.clone())
            .says(format!("this is no address for the admin listener: {problem}"))
            .help("write for example 127.0.0.1:9451, or unix:/run/postmapd/admin"),
    );
    None
}

/// An endpoint as it may be named: what does not even begin like one may be a password, unless it was typed as a flag.
fn name(endpoint: &str, place: &Place) -> String {
    let is_flag = matches!(place, Place::Setting(name) if name.starts_with("--"));
    if is_flag || endpoint.starts_with("socketmap:") || endpoint.starts_with("tcp:") {
        format!("`{}`", printable(endpoint.as_bytes()))
    } else {
        "this".to_owned()
    }
}

fn delimiters(given: Option<Given<String>>, findings: &mut Findings) -> Delimiters {
    let Some(given) = given else {
        return Delimiters::default();
    };
    Delimiters::new(&given.value).unwrap_or_else(|| {
        findings.push(
            Finding::new(Code::BadRecipientDelimiter, given.place)
                .says("the recipient delimiter has a character that no address extension can begin with")
                .help("copy the value of recipient_delimiter from main.cf, for example +"),
        );
        Delimiters::default()
    })
}

fn next_hops(given: Option<Given<String>>, findings: &mut Findings) -> NextHops {
    let Some(given) = given else {
        return NextHops::default();
    };
    match given.value.as_str() {
        "postmapd" => NextHops::Postmapd,
        "main.cf" => NextHops::MainCf,
        _ => {
            findings.push(
                Finding::new(Code::BadNextHops, given.place)
                    .says("this does not say where next hops come from")
                    .help("write postmapd, or main.cf if main.cf has the relays and postmapd the credentials alone"),
            );
            NextHops::default()
        }
    }
}

/// The number of a user or a group, which is given by its number or its name.
fn number(kind: &'static str, given: Given<String>, is_needed: bool, findings: &mut Findings) -> Option<u32> {
    let name = &given.value;
    let number = name_service::number(name).or_else(|| match kind {
        "user" => User::from_name(name).ok().flatten().map(|user| user.uid.as_raw()),
        _ => Group::from_name(name)
            .ok()
            .flatten()
            .map(|group| group.gid.as_raw()),
    });
    if number.is_none() && is_needed {
        findings.push(
            Finding::new(Code::NoSuchUser, given.place)
                .says(format!(
                    "there is no {kind} `{}` for the sockets",
                    printable(name.as_bytes())
                ))
                .help("name another, or create it"),
        );
    }
    number
}

fn server_user(given: &Given<String>, findings: &mut Findings) -> Option<ServerUser> {
    let user = ServerUser::find(&given.value);
    if user.is_none() {
        findings.push(
            Finding::new(Code::NoSuchUser, given.place.clone())
                .says(format!(
                    "there is no user `{}` that the server could become",
                    printable(given.value.as_bytes())
                ))
                .help("create it (adduser --system --group postmapd), or name another"),
        );
    }
    user
}

/// Whether a switch is on, which it is where nothing is said. In Postfix's words, or in TOML's.
fn is_on(given: Option<Given<String>>, findings: &mut Findings) -> bool {
    let Some(given) = given else { return true };
    match given.value.as_str() {
        "on" | "yes" | "true" => true,
        "off" | "no" | "false" => false,
        _ => {
            findings.push(
                Finding::new(Code::BadSwitch, given.place)
                    .says("this is neither on nor off")
                    .help("write on or off"),
            );
            true
        }
    }
}

fn mode(given: Option<Given<String>>, findings: &mut Findings) -> u32 {
    const DEFAULT: u32 = 0o660;
    let Some(given) = given else { return DEFAULT };
    match u32::from_str_radix(&given.value, 8) {
        Ok(mode) if mode <= 0o777 => mode,
        _ => {
            findings.push(
                Finding::new(Code::BadSocketMode, given.place)
                    .says("the mode of the socket is not an octal number up to 0777")
                    .help("write for example 0660"),
            );
            DEFAULT
        }
    }
}

/// The nearest of `known` to a misspelt word, if any is near.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(word, name), name));
    let (score, name) = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (score > 0.85).then_some(name)
}
