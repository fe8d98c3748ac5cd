//! Configuration: flags, environment, `postmapd.toml` and secret files, read into checked values.
//!
//! The order is: defaults, `postmapd.toml`, environment, flags; the later wins. An empty variable is treated as unset,
//! because Compose passes on variables without a value. Each error becomes a finding with its place. With an error, the
//! server does not start, or, while it runs, keeps its settings.
//!
//! [`Sources`] say where to read, and stay the same for the life of the process. [`Settings`] are the result of one
//! reading of flags, environment and settings file.
//!
//! - [`allow`]: access control
//! - [`setting`]: every setting, with its names, default, meaning and how it is read
//! - [`options`]: the flags, and the variables that begin with `POSTMAPD_`
//! - [`mod@file`]: the settings file
//! - `value`: parsers of values that need more than a number or a switch
//! - [`relay_environment`]: the default relay's variables, and the files they may name
//! - [`environment`]: which environment they come from
//! - [`variables`]: the variables as they are set there

mod allow;
pub(crate) mod environment;
pub(crate) mod file;
mod foreign_variables;
pub mod options;
mod relay_environment;
mod running_server;
pub mod setting;
pub(crate) mod sourced;
mod value;
mod variables;

use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

use crate::diagnostics::{Code, Findings};
use crate::lookup::address::Delimiters;
use crate::lookup::directory_source;
use crate::lookup::map::Maps;
use crate::lookup::peer::Allowed;
use crate::lookup::relay_tls::Services;
use crate::lookup::table::spec::{CREDENTIALS, RELAY_MAP, TableSpec};
use crate::net::address::Address;
use crate::net::socket_file::SocketAccess;
use crate::os::sandbox::user::ServerUser;
use crate::protocol::endpoint::Endpoint;
use environment::EnvironmentOrigin;
use options::{Options, ServiceOptions};
use relay_environment::RelayEnvironment;
use variables::Variables;

/// The default directory.
pub(crate) const DEFAULT_DIR: &str = "/etc/postmapd";

/// The name of the settings file in the directory.
const SETTINGS_FILE: &str = "postmapd.toml";

/// The default address that `status` connects to.
pub(crate) const DEFAULT_ADMIN: &str = "127.0.0.1:9451";

/// The default endpoint: local, and every map by its name.
pub const DEFAULT_LISTEN: &str = "socketmap:inet:127.0.0.1:10451";

/// Where to read from: the directory, the settings file, the flags and the environment.
pub struct Sources {
    /// The maps that are served from them.
    pub maps: Maps,
    dir: PathBuf,
    settings_file: PathBuf,
    settings_file_is_named: bool,
    options: Options,
    /// The default relay's variables.
    pub relay: RelayEnvironment,
    /// The origin of these variables.
    pub environment: EnvironmentOrigin,
}

impl Sources {
    /// Takes flags and environment, and adds findings about the environment.
    pub(crate) fn new(options: Options, service: ServiceOptions, findings: &mut Findings) -> Self {
        let sources = Self::unchecked(options, service, findings);
        // An operator should see an invalid variable before anything is served.
        sources.check_variables(findings);
        sources
    }

    /// Like [`Sources::new`], but findings about the default relay are added only when all is read and evaluated.
    pub fn unchecked(options: Options, service: ServiceOptions, findings: &mut Findings) -> Self {
        let environment = (Variables::from_process(), EnvironmentOrigin::Own);
        Self::in_environment(options, service, environment, findings)
    }

    /// Returns the sources of a command that answers from the files, with the environment of the server
    /// ([`environment`]). Findings about the default relay are added only when all is read and evaluated.
    pub(crate) fn for_command(options: Options, findings: &mut Findings) -> Self {
        let environment = environment::for_command(&options.dir());
        Self::in_environment(options, ServiceOptions::default(), environment, findings)
    }

    /// Returns the sources of a running server, whose status names its directory and its settings file, as far as they are
    /// known here: the flags and `POSTMAPD_` variables are those of this command.
    pub(crate) fn of_server(options: &Options, dir: &Path, settings_file: Option<&Path>) -> Self {
        let environment = environment::for_command(dir);
        let service = ServiceOptions::default();
        let mut sources =
            Self::in_environment(options.clone(), service, environment, &mut Findings::default());
        dir.clone_into(&mut sources.dir);
        sources.settings_file_is_named = settings_file.is_some();
        sources.settings_file = settings_file.map_or_else(|| dir.join(SETTINGS_FILE), Path::to_owned);
        sources
    }

    /// Returns the sources of a command for a directory that is to take the place of a server's: where it has no settings
    /// file or no file of variables, those of the server remain.
    pub(crate) fn to_replace(server: &Self, options: Options, findings: &mut Findings) -> Self {
        let dir = options.dir();
        if variables::is_same_file(&dir, &server.dir) {
            return Self::for_command(options, findings);
        }
        let service = ServiceOptions::default();
        let mut sources = if let Some(environment) = environment::in_file(&dir) {
            Self::in_environment(options, service, environment, findings)
        } else {
            let none = (Variables::default(), server.environment.for_replacement());
            let sources = Self::in_environment(options, service, none, findings);
            Self {
                relay: server.relay.clone(),
                ..sources
            }
        };
        let has_own = sources.settings_file_is_named || sources.settings_file.exists();
        if !has_own && server.settings_file.exists() {
            sources.settings_file.clone_from(&server.settings_file);
        }
        sources
    }

    fn in_environment(
        options: Options,
        service: ServiceOptions,
        (variables, origin): (Variables, EnvironmentOrigin),
        findings: &mut Findings,
    ) -> Self {
        options::warn_unknown_variables(findings);
        let relay = RelayEnvironment::new(&variables, findings);
        let dir = options.dir();
        let named = options.path(&setting::CONFIG);
        Self {
            maps: Maps::SERVED,
            settings_file_is_named: named.is_some(),
            settings_file: named.unwrap_or_else(|| dir.join(SETTINGS_FILE)),
            dir,
            options: options.merge(service),
            relay,
            environment: origin,
        }
    }

    /// Adds findings about the variables of the default relay, without the files that they name.
    pub(crate) fn check_variables(&self, findings: &mut Findings) {
        self.relay.check_inline(findings);
    }

    /// Returns the directory of the tables.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the path of this table.
    pub(crate) fn file(&self, table: &TableSpec) -> PathBuf {
        self.dir.join(table.file)
    }

    /// Returns the path of the relay map.
    pub(crate) fn relay_map(&self) -> PathBuf {
        self.file(&RELAY_MAP)
    }

    /// Returns the path of the credentials.
    pub(crate) fn credentials(&self) -> PathBuf {
        self.file(&CREDENTIALS)
    }

    /// Returns the path of the file that says where the content of the directory is from.
    pub(crate) fn directory_source(&self) -> PathBuf {
        self.dir.join(directory_source::FILE)
    }

    /// Returns the path of the settings file.
    #[must_use]
    pub fn settings_file(&self) -> &Path {
        &self.settings_file
    }

    /// Returns whether the settings file was named explicitly, and therefore must exist.
    pub(crate) fn needs_settings_file(&self) -> bool {
        self.settings_file_is_named
    }

    /// Returns the settings, with `text` as the content of the settings file. If `findings` has an error afterwards,
    /// they must not be used.
    pub fn settings(&self, text: &[u8], findings: &mut Findings) -> Settings {
        let mut file = file::read(&self.settings_file, text, findings);
        let mut settings = Settings::default();
        let mut listen = None;
        for setting in setting::ALL
            .iter()
            .filter(|setting| setting.kind.is_in_settings())
        {
            let given = self.options.value(setting, findings);
            let Some(given) = given.or_else(|| file.remove(setting.key?)) else {
                continue;
            };
            setting.read(&given, &mut settings, findings);
            if setting.key == setting::LISTEN.key {
                listen = Some(given);
            }
        }
        // The default listens where only local users can connect.
        if let Some(listen) = listen {
            if listen.items().next().is_none() {
                let finding = listen.finding(Code::BadEndpoint, "the list of endpoints is empty");
                let help = "add one, for example socketmap:inet:127.0.0.1:10451, or remove the setting to use the default";
                findings.push(finding.help(help));
            }
            allow::warn_unreachable_listeners(&settings, &listen.place, findings);
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

/// What a reload does with tables that have invalid entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReloadErrors {
    /// It keeps the active configuration.
    #[default]
    Keep,
    /// It applies them, as the start does: lookups that depend on an invalid entry get a temporary error.
    Holes,
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

/// Connection limits. The server chooses those that are not set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The maximum number of connections.
    pub connections: Option<usize>,
    /// The maximum number of connections of one user or one host.
    pub connections_per_peer: Option<usize>,
}

impl Limits {
    /// The greatest possible limit: Linux gives no process more descriptors (`fs.nr_open`).
    pub const MAX: usize = 1 << 20;
}

/// Every setting, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The listeners. Takes effect on restart.
    pub listen: Vec<Endpoint>,
    /// Whether `listen` is the default.
    pub listen_is_default: bool,
    /// The address of the HTTP listener for health, status and metrics. Takes effect on restart.
    pub admin: Option<Address>,
    /// Owner, group and mode of UNIX sockets. Takes effect on restart.
    pub sockets: SocketAccess,
    /// The user that the server becomes. Takes effect on restart.
    pub user: Option<ServerUser>,
    /// Whether the server enters its sandbox ([`crate::os::sandbox`]). Takes effect on restart.
    pub is_sandboxed: bool,
    /// The IDs of the local users that get credentials.
    pub allow_users: Vec<u32>,
    /// The networks of other hosts that may connect.
    pub allow_networks: Vec<IpNet>,
    /// The characters that begin an address extension.
    pub delimiters: Delimiters,
    /// Where next hops come from.
    pub next_hops: NextHops,
    /// The services of master.cf that deliver to relays.
    pub services: Services,
    /// The connection limits. Takes effect on restart.
    pub limits: Limits,
    /// When changes of the files are detected and take effect.
    pub reload_timing: ReloadTiming,
    /// What a reload does with tables that have invalid entries.
    pub reload_errors: ReloadErrors,
}

impl Default for Settings {
    /// Returns the defaults. Fields whose default is a value start empty, and are read from their definition.
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
            is_sandboxed: true,
            allow_users: allow::default_users(),
            allow_networks: Vec::new(),
            delimiters: Delimiters::default(),
            next_hops: NextHops::default(),
            services: Services::default(),
            limits: Limits::default(),
            reload_timing: ReloadTiming {
                poll_interval: Duration::ZERO,
                empty_grace: Duration::ZERO,
                writer_timeout: Duration::ZERO,
                in_flight: Duration::ZERO,
            },
            reload_errors: ReloadErrors::default(),
        };
        for setting in setting::ALL {
            setting.read_default(&mut settings);
        }
        settings.listen_is_default = true;
        settings
    }
}

impl Settings {
    /// Returns the clients that may connect and ask.
    pub(crate) fn allowed(&self) -> Allowed {
        Allowed::new(
            self.allow_users.iter().copied(),
            self.allow_networks.iter().copied(),
        )
    }
}

/// Returns the known name that is nearest to a misspelt one, if one is near, or else one that has it as a part.
#[must_use]
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known
        .into_iter()
        .map(|known| (strsim::jaro_winkler(name, known), known));
    let (near, rest): (Vec<_>, Vec<_>) = scored.partition(|(score, _)| *score > 0.85);
    let nearest = near.into_iter().max_by(|a, b| a.0.total_cmp(&b.0));
    let has_part = |known: &&str| known.split('_').any(|part| part == name);
    nearest
        .map(|(_, known)| known)
        .or_else(|| rest.into_iter().map(|(_, known)| known).find(has_part))
}

#[cfg(test)]
impl Sources {
    /// Replaces the maps by other maps than those of postmapd.
    #[must_use]
    pub fn with_maps(self, maps: Maps) -> Self {
        Self { maps, ..self }
    }

    /// Replaces the default relay by that of these variables, one assignment a line.
    #[must_use]
    pub fn with_variables(self, text: &str) -> Self {
        let variables = Variables::parse_file(&text.as_bytes().to_vec().into());
        let relay = RelayEnvironment::new(&variables, &mut Findings::default());
        Self { relay, ..self }
    }
}
