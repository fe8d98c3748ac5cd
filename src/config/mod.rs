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
//! - [`setting`]: every setting, with its names, its default, its meaning and how it is read
//! - [`options`]: the flags, and the variables that begin with `POSTMAPD_`
//! - [`mod@file`]: the settings file
//! - `value`: the readers of values that need more than a number or a switch
//! - [`relay_environment`]: the default relay's variables, and the files they may name
//! - [`environment`]: whose environment they come from
//! - [`variables`]: the variables as they are set there

mod allow;
pub(crate) mod environment;
pub(crate) mod file;
mod foreign_variables;
pub(crate) mod given;
pub mod options;
mod relay_environment;
mod running_server;
pub mod setting;
mod value;
mod variables;

use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

use crate::diagnostics::{Code, Findings};
use crate::lookup::address::Delimiters;
use crate::lookup::map::Maps;
use crate::lookup::peer::Allowed;
use crate::lookup::table::spec::{CREDENTIALS, RELAY_MAP, TableSpec};
use crate::net::address::Address;
use crate::net::socket_file::SocketAccess;
use crate::os::confinement::user::ServerUser;
use crate::protocol::endpoint::Endpoint;
use environment::Whose;
use options::{Options, ServiceOptions};
use relay_environment::RelayEnvironment;
use variables::Variables;

/// The folder that is read where nothing else is said.
pub(crate) const DEFAULT_DIR: &str = "/etc/postmapd";

/// Where `status` asks where nothing else is said.
pub(crate) const DEFAULT_ADMIN: &str = "127.0.0.1:9451";

/// Where is listened where nothing else is said: local, and every map by its name.
pub const DEFAULT_LISTEN: &str = "socketmap:inet:127.0.0.1:10451";

/// Where everything is read: the folder, the settings file, and what the environment says.
pub struct Sources {
    /// The maps that are answered from them.
    pub maps: Maps,
    dir: PathBuf,
    settings_file: PathBuf,
    settings_file_is_named: bool,
    options: Options,
    /// The default relay's variables.
    pub relay: RelayEnvironment,
    /// Whose environment these variables are of.
    pub environment: Whose,
}

impl Sources {
    /// Takes flags and environment, and says what is wrong with the environment by itself.
    pub(crate) fn new(options: Options, service: ServiceOptions, findings: &mut Findings) -> Self {
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
    pub(crate) fn of_command(options: Options, findings: &mut Findings) -> Self {
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
        let named = options.path(&setting::CONFIG);
        Self {
            maps: Maps::SERVED,
            settings_file_is_named: named.is_some(),
            settings_file: named.unwrap_or_else(|| dir.join("postmapd.toml")),
            dir,
            options: options.and(service),
            relay,
            environment: whose,
        }
    }

    /// Says what is wrong with the variables of the default relay by themselves.
    pub(crate) fn judge_variables(&self, findings: &mut Findings) {
        self.relay.judge_inline(findings);
    }

    /// The folder with the tables.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file of this table.
    pub(crate) fn file(&self, table: &TableSpec) -> PathBuf {
        self.dir.join(table.file)
    }

    /// The relay map.
    pub(crate) fn relay_map(&self) -> PathBuf {
        self.file(&RELAY_MAP)
    }

    /// The credentials.
    pub(crate) fn credentials(&self) -> PathBuf {
        self.file(&CREDENTIALS)
    }

    /// The settings file.
    #[must_use]
    pub fn settings_file(&self) -> &Path {
        &self.settings_file
    }

    /// Whether the settings file was named, and therefore has to be there.
    pub(crate) fn needs_settings_file(&self) -> bool {
        self.settings_file_is_named
    }

    /// The settings, with `text` as the content of the settings file. Where `findings` has an error afterwards, they
    /// are not to be used.
    pub fn settings(&self, text: &[u8], findings: &mut Findings) -> Settings {
        let mut file = file::read(&self.settings_file, text, findings);
        let mut settings = Settings::default();
        let mut listen = None;
        for setting in setting::ALL
            .iter()
            .filter(|setting| setting.kind.is_of_settings())
        {
            let given = self.options.given(setting, findings);
            let Some(given) = given.or_else(|| file.remove(setting.key?)) else {
                continue;
            };
            setting.read(&given, &mut settings, findings);
            if setting.key == setting::LISTEN.key {
                listen = Some(given);
            }
        }
        // The default listens where local users alone can connect.
        if let Some(listen) = listen {
            if listen.words().next().is_none() {
                let finding = listen.wrong(Code::BadEndpoint, "no endpoint to listen at is named");
                let help =
                    "write for example socketmap:inet:127.0.0.1:10451, or leave it out for the default";
                findings.push(finding.help(help));
            }
            allow::warn_of_the_unreachable(&settings, &listen.place, findings);
        }
        if let Some(user) = &settings.user {
            settings.sockets.owner.get_or_insert(user.uid);
        }
        settings
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

/// When changes of the files are detected and take effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReloadTiming {
    /// How often the files are checked for changes that no event reports.
    pub poll_interval: Duration,
    /// How long to wait before a missing or empty file is treated as an empty table.
    pub empty_grace: Duration,
    /// How long to wait for a program that has a file open for writing to close it.
    pub writer_timeout: Duration,
    /// How long an edit that moves a sender is kept in the history ([`crate::lookup::history`]). Zero disables it.
    pub in_flight: Duration,
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Whether it locks itself ([`crate::os::confinement`]). Counts at the start only.
    pub is_confined: bool,
    /// Which local users get credentials.
    pub allow_users: Vec<u32>,
    /// Which other hosts may ask.
    pub allow_networks: Vec<IpNet>,
    /// What begins an address extension.
    pub delimiters: Delimiters,
    /// Where next hops come from.
    pub next_hops: NextHops,
    /// How many connections there may be. Counts at the start only.
    pub limits: Limits,
    /// How soon changes count.
    pub reload_timing: ReloadTiming,
}

impl Default for Settings {
    /// Where nothing is said. What has a value by default begins with nothing here, and gets it from its definition.
    fn default() -> Self {
        let mut settings = Self {
            listen: Vec::new(),
            listen_is_default: true,
            admin: None,
            sockets: SocketAccess {
                owner: None,
                group: None,
                mode: 0,
            },
            user: None,
            is_confined: true,
            allow_users: allow::usual_users(),
            allow_networks: Vec::new(),
            delimiters: Delimiters::default(),
            next_hops: NextHops::default(),
            limits: Limits::default(),
            reload_timing: ReloadTiming {
                poll_interval: Duration::ZERO,
                empty_grace: Duration::ZERO,
                writer_timeout: Duration::ZERO,
                in_flight: Duration::ZERO,
            },
        };
        for setting in setting::ALL {
            setting.read_default(&mut settings);
        }
        settings.listen_is_default = true;
        settings
    }
}

impl Settings {
    /// Who may ask.
    pub(crate) fn allowed(&self) -> Allowed {
        Allowed::new(
            self.allow_users.iter().copied(),
            self.allow_networks.iter().copied(),
        )
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

#[cfg(test)]
impl Sources {
    /// The same with other maps than those of postmapd.
    #[must_use]
    pub fn with_maps(self, maps: Maps) -> Self {
        Self { maps, ..self }
    }

    /// The same with the default relay of these variables, one assignment a line.
    #[must_use]
    pub fn with_variables(self, text: &str) -> Self {
        let variables = Variables::of_file(&text.as_bytes().to_vec().into());
        let relay = RelayEnvironment::new(&variables, &mut Findings::default());
        Self { relay, ..self }
    }
}
