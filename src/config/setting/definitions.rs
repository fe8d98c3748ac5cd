//! The definitions of the settings: a new one is an item of [`ALL`] and a field of [`Settings`].
//!
//! Those with a name of their own are used by it elsewhere.

use super::super::{DEFAULT_DIR, DEFAULT_LISTEN, Settings, allow, value};
use super::{Commands, Kind, Setting, SettingDefault, TakesEffect};

/// Compares settings that the settings file cannot set: flags and variables do not change while the server runs.
fn never_changes(_: &Settings, _: &Settings) -> bool {
    false
}

/// The base of settings that only the settings file can set.
const OF_FILE: Setting = Setting {
    key: None,
    flag: None,
    commands: Commands::None,
    variable: None,
    value: "",
    default: SettingDefault::Value(""),
    about: "",
    takes_effect: TakesEffect::OnReload,
    kind: Kind::Unparsed,
};

/// The directory of the tables.
pub static DIR: Setting = Setting {
    key: None,
    flag: Some("--dir"),
    commands: Commands::All,
    variable: Some("POSTMAPD_DIR"),
    value: "DIR",
    default: SettingDefault::Value(DEFAULT_DIR),
    about: "Directory of the table files, postfix-relaymap.cf and postfix-sasl-password.cf",
    takes_effect: TakesEffect::OnRestart(never_changes),
    kind: Kind::Path,
};

/// The settings file.
pub static CONFIG: Setting = Setting {
    key: None,
    flag: Some("--config"),
    commands: Commands::All,
    variable: Some("POSTMAPD_CONFIG"),
    value: "FILE",
    default: SettingDefault::Described("postmapd.toml in DIR, if it exists"),
    about: "Settings file; see postmapd.toml(5)",
    takes_effect: TakesEffect::OnRestart(never_changes),
    kind: Kind::Path,
};

/// The listeners.
pub static LISTEN: Setting = Setting {
    key: Some("listen"),
    flag: Some("--listen"),
    commands: Commands::Servers,
    variable: Some("POSTMAPD_LISTEN"),
    value: "ENDPOINT",
    default: SettingDefault::Value(DEFAULT_LISTEN),
    about: "Endpoint to listen on, written as in main.cf: socketmap:inet:HOST:PORT or socketmap:unix:PATH for every map, or \
            tcp:HOST:PORT:MAP for one. Separate several with commas, repeat the flag, or write a list in the settings \
            file",
    takes_effect: TakesEffect::OnRestart(|a, b| a.listen != b.listen),
    kind: Kind::Texts(|settings| settings.listen.clear(), value::endpoint),
};

/// The HTTP listener for health, status, metrics and the page.
pub static ADMIN: Setting = Setting {
    key: Some("admin"),
    flag: Some("--admin"),
    commands: Commands::Servers,
    variable: Some("POSTMAPD_ADMIN"),
    value: "ADDRESS",
    default: SettingDefault::Described("disabled"),
    about: "Address of the HTTP listener for health, status, metrics and a page for people: HOST:PORT or unix:PATH; see \
            postmapd-status(1)",
    takes_effect: TakesEffect::OnRestart(|a, b| a.admin != b.admin),
    kind: Kind::Text(value::admin),
};

/// The log filter.
pub static LOG: Setting = Setting {
    key: None,
    flag: Some("--log"),
    commands: Commands::Serve,
    variable: Some("POSTMAPD_LOG"),
    value: "FILTER",
    default: SettingDefault::Value("info"),
    about: "Log level: off, error, warn, info, debug (includes the keys of lookups) or trace; for single modules, a list such as \
            info,postmapd::source=debug",
    takes_effect: TakesEffect::OnRestart(never_changes),
    kind: Kind::Unparsed,
};

/// The log format.
pub static LOG_FORMAT: Setting = Setting {
    key: None,
    flag: Some("--log-format"),
    commands: Commands::Serve,
    variable: Some("POSTMAPD_LOG_FORMAT"),
    value: "text|json|journald",
    default: SettingDefault::Described("journald if standard error is connected to the journal, else text"),
    about: "Format of the log",
    takes_effect: TakesEffect::OnRestart(never_changes),
    kind: Kind::Unparsed,
};

/// Every setting, in the order in which they are documented and read: a later one may depend on an earlier one.
pub static ALL: &[&Setting] = &[
    &DIR,
    &CONFIG,
    &LISTEN,
    &ADMIN,
    &Setting {
        key: Some("allow_users"),
        flag: Some("--allow-users"),
        commands: Commands::Servers,
        variable: Some("POSTMAPD_ALLOW_USERS"),
        value: "USERS",
        default: SettingDefault::Described("root, postfix if that user exists, and the server's user"),
        about: "Local users that can query sasl: names or IDs, separated by commas or, in the settings file, as a list. Other \
                local users can query only relayhost",
        takes_effect: TakesEffect::OnReload,
        kind: Kind::Names(|settings| settings.allow_users.clear(), allow::user),
    },
    &Setting {
        key: Some("allow_networks"),
        flag: Some("--allow-networks"),
        commands: Commands::Servers,
        variable: Some("POSTMAPD_ALLOW_NETWORKS"),
        value: "NETWORKS",
        default: SettingDefault::Described("none"),
        about: "Other hosts that can connect and query every map: addresses or networks (192.0.2.7, 192.0.2.0/24, \
                2001:db8::/32), separated by commas or, in the settings file, as a list. 127.0.0.0/8 lets every local \
                user query sasl",
        takes_effect: TakesEffect::OnReload,
        kind: Kind::Texts(|settings| settings.allow_networks.clear(), allow::network),
    },
    &Setting {
        key: Some("socket_owner"),
        flag: Some("--socket-owner"),
        commands: Commands::Servers,
        variable: Some("POSTMAPD_SOCKET_OWNER"),
        value: "USER",
        default: SettingDefault::Described("the server's user"),
        about: "Owner of the UNIX sockets: a user name or ID",
        takes_effect: TakesEffect::OnRestart(|a, b| a.sockets.owner != b.sockets.owner),
        kind: Kind::Name(value::socket_owner),
    },
    &Setting {
        key: Some("socket_group"),
        flag: Some("--socket-group"),
        commands: Commands::Servers,
        variable: Some("POSTMAPD_SOCKET_GROUP"),
        value: "GROUP",
        default: SettingDefault::Described("postfix, if that group exists and the server can assign it"),
        about: "Group of the UNIX sockets: a group name or ID",
        takes_effect: TakesEffect::OnRestart(|a, b| a.sockets.group != b.sockets.group),
        kind: Kind::Name(value::socket_group),
    },
    &Setting {
        key: Some("socket_mode"),
        flag: Some("--socket-mode"),
        commands: Commands::Servers,
        variable: Some("POSTMAPD_SOCKET_MODE"),
        value: "MODE",
        default: SettingDefault::Value("0660"),
        about: "Mode of the UNIX sockets, an octal number; in the settings file, a string",
        takes_effect: TakesEffect::OnRestart(|a, b| a.sockets.mode != b.sockets.mode),
        kind: Kind::Text(value::socket_mode),
    },
    &Setting {
        key: Some("user"),
        flag: Some("--user"),
        commands: Commands::Servers,
        variable: Some("POSTMAPD_USER"),
        value: "USER",
        default: SettingDefault::Described("the user that starts the server"),
        about: "User that the server switches to once its sockets are bound: a name or ID. The server must be started as root, \
                and can still read files that only root can read",
        takes_effect: TakesEffect::OnRestart(|a, b| a.user != b.user),
        kind: Kind::Name(value::user),
    },
    &Setting {
        key: Some("sandbox"),
        flag: Some("--sandbox"),
        commands: Commands::Servers,
        variable: Some("POSTMAPD_SANDBOX"),
        value: "on|off",
        default: SettingDefault::Value("on"),
        about: "Restrict the server once its sockets are bound: no new privileges, no core dumps, no writing or executing of \
                files, no outgoing TCP connections, and only the capabilities and system calls that it needs",
        takes_effect: TakesEffect::OnRestart(|a, b| a.is_sandboxed != b.is_sandboxed),
        kind: Kind::Switch(value::sandbox),
    },
    &Setting {
        key: Some("recipient_delimiter"),
        flag: Some("--recipient-delimiter"),
        commands: Commands::All,
        variable: Some("POSTMAPD_RECIPIENT_DELIMITER"),
        value: "CHARACTERS",
        default: SettingDefault::Value("+"),
        about: "Characters that separate an address from its extension; set it to the value of recipient_delimiter in main.cf",
        takes_effect: TakesEffect::OnReload,
        kind: Kind::Text(value::recipient_delimiter),
    },
    &Setting {
        key: Some("next_hops"),
        flag: Some("--next-hops"),
        commands: Commands::All,
        variable: Some("POSTMAPD_NEXT_HOPS"),
        value: "postmapd|main.cf",
        default: SettingDefault::Value("postmapd"),
        about: "Source of the senders' next hops: postmapd, or main.cf if postmapd serves only credentials. With postmapd, a \
                sender without a next hop gets no credentials: the lookup finds nothing, or returns a temporary error if there \
                is neither a relay map nor a default relay",
        takes_effect: TakesEffect::OnReload,
        kind: Kind::Text(value::next_hops),
    },
    &Setting {
        key: Some("transport.starttls"),
        value: "SERVICE",
        default: SettingDefault::Value("relay-starttls"),
        about: "The service of master.cf that delivers to relays with STARTTLS, for the map transport; smtp delivers them with \
                the service of direct mail, and the service relay must then not log in",
        takes_effect: TakesEffect::OnReload,
        kind: Kind::Text(value::starttls_service),
        ..OF_FILE
    },
    &Setting {
        key: Some("transport.implicit"),
        value: "SERVICE",
        default: SettingDefault::Value("relay-implicit"),
        about: "The service of master.cf that delivers to relays with implicit TLS, for the map transport: one with \
                smtp_tls_wrappermode = yes",
        takes_effect: TakesEffect::OnReload,
        kind: Kind::Text(value::implicit_service),
        ..OF_FILE
    },
    &Setting {
        key: Some("limits.connections"),
        value: "NUMBER",
        default: SettingDefault::Described("10000, or the limit on open files less 128, if that is lower"),
        about: "Maximum number of open connections, from 1 to 1048576. Further clients wait in the kernel's queue. Clients that \
                cannot query sasl have at most half of these connections in total",
        takes_effect: TakesEffect::OnRestart(|a, b| a.limits.connections != b.limits.connections),
        kind: Kind::Connections(|settings| &mut settings.limits.connections),
        ..OF_FILE
    },
    &Setting {
        key: Some("limits.connections_per_peer"),
        value: "NUMBER",
        default: SettingDefault::Described(
            "half of limits.connections; a quarter for a user or host that cannot query sasl",
        ),
        about: "Maximum number of connections of one user or one host, at most limits.connections. The server closes \
                further ones immediately and logs the user or host. A user or host that cannot query sasl never has more than \
                a quarter of limits.connections",
        takes_effect: TakesEffect::OnRestart(|a, b| {
            a.limits.connections_per_peer != b.limits.connections_per_peer
        }),
        kind: Kind::Connections(|settings| &mut settings.limits.connections_per_peer),
        ..OF_FILE
    },
    &Setting {
        key: Some("reload.poll_interval"),
        value: "SECONDS",
        default: SettingDefault::Value("5"),
        about: "Time between checks for changes that the kernel does not report",
        takes_effect: TakesEffect::OnReload,
        kind: Kind::Seconds(|settings| &mut settings.reload_timing.poll_interval),
        ..OF_FILE
    },
    &Setting {
        key: Some("reload.empty_grace"),
        value: "SECONDS",
        default: SettingDefault::Value("5"),
        about: "Time before a missing or empty file is treated as empty, because programs that rewrite a file can empty or \
                remove it first",
        takes_effect: TakesEffect::OnReload,
        kind: Kind::Seconds(|settings| &mut settings.reload_timing.empty_grace),
        ..OF_FILE
    },
    &Setting {
        key: Some("reload.writer_timeout"),
        value: "SECONDS",
        default: SettingDefault::Value("30"),
        about: "Time to wait for a program to close a file that it has open for writing, before the file is read as it is",
        takes_effect: TakesEffect::OnReload,
        kind: Kind::Seconds(|settings| &mut settings.reload_timing.writer_timeout),
        ..OF_FILE
    },
    &Setting {
        key: Some("reload.in_flight"),
        value: "SECONDS",
        default: SettingDefault::Value("900"),
        about: "Time after a change of a sender's next hop during which mail that is already on its way to the old one gets the \
                login of the old one; 0 disables this",
        takes_effect: TakesEffect::OnReload,
        kind: Kind::SecondsOrZero(|settings| &mut settings.reload_timing.in_flight),
        ..OF_FILE
    },
    &Setting {
        key: Some("reload.errors"),
        flag: Some("--reload-errors"),
        commands: Commands::Servers,
        variable: Some("POSTMAPD_RELOAD_ERRORS"),
        value: "keep|holes",
        default: SettingDefault::Value("keep"),
        about: "What a reload does with a table file that has an error: keep the last valid configuration until it is fixed, or \
                apply the file as at the start, so that only the lookups that depend on the error get a temporary error \
                (holes). holes is for a directory that a program generates from a source with many authors. In both cases, \
                invalid settings, a file that cannot be read and a file without any readable entry change nothing",
        takes_effect: TakesEffect::OnReload,
        kind: Kind::Text(value::reload_errors),
    },
    &LOG,
    &LOG_FORMAT,
];
