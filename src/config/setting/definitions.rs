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
    about: "The folder with postfix-relaymap.cf and postfix-sasl-password.cf",
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
    default: SettingDefault::Described("postmapd.toml in DIR, if it is there"),
    about: "The settings file",
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
    about: "Where to listen, as main.cf writes it: socketmap:inet:HOST:PORT, socketmap:unix:PATH or tcp:HOST:PORT:MAP; \
            several are separated by commas, in the settings file they may be a list; the flag may be given several times",
    takes_effect: TakesEffect::OnRestart(|a, b| a.listen != b.listen),
    kind: Kind::Texts(|settings| settings.listen.clear(), value::endpoint),
};

/// The HTTP listener for health, status and metrics.
pub static ADMIN: Setting = Setting {
    key: Some("admin"),
    flag: Some("--admin"),
    commands: Commands::Servers,
    variable: Some("POSTMAPD_ADMIN"),
    value: "ADDRESS",
    default: SettingDefault::Described("nowhere"),
    about: "Where to tell health, status and metrics over HTTP: HOST:PORT or unix:PATH; see postmapd-status(1)",
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
    about: "What is logged: off, error, warn, info, debug (with the keys of lookups) or trace",
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
    default: SettingDefault::Described("journald where the journal reads standard error, else text"),
    about: "The form of the log",
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
        default: SettingDefault::Described(
            "root, postfix if there is such a user, and the server's own user",
        ),
        about: "The local users that get answers from sasl, names or numbers separated by commas, in the settings file a \
                list; all other users get those of relayhost alone",
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
        about: "The other hosts that may connect, and ask everything: addresses or networks (192.0.2.7, 192.0.2.0/24, \
                2001:db8::/32) separated by commas, in the settings file a list; 127.0.0.0/8 admits every local user",
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
        about: "The owner of UNIX sockets, a name or a number",
        takes_effect: TakesEffect::OnRestart(|a, b| a.sockets.owner != b.sockets.owner),
        kind: Kind::Name(value::socket_owner),
    },
    &Setting {
        key: Some("socket_group"),
        flag: Some("--socket-group"),
        commands: Commands::Servers,
        variable: Some("POSTMAPD_SOCKET_GROUP"),
        value: "GROUP",
        default: SettingDefault::Described("postfix, if there is such a group and the server may give it"),
        about: "The group of UNIX sockets, a name or a number",
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
        about: "The mode of UNIX sockets, an octal number (in the settings file in quotes)",
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
        about: "The user that the server becomes once its sockets are bound, a name or a number; it has to be started as root, \
                and goes on to read files that are for root alone",
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
        about: "Whether the server locks itself: no new privileges, no core dump, no writing of files, no programs, no outgoing \
                TCP connections, only the capabilities and system calls that it needs",
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
        about: "What begins an address extension, each character by itself, as in main.cf",
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
        about: "Where the next hops of senders come from. With postmapd, credentials of a sender that has no next hop here are \
                withheld, and without a relay map and a default relay the answer is a temporary error; with main.cf, they are \
                answered",
        takes_effect: TakesEffect::OnReload,
        kind: Kind::Text(value::next_hops),
    },
    &Setting {
        key: Some("limits.connections"),
        value: "NUMBER",
        default: SettingDefault::Described("10000, or as many as the process may open files, less 128"),
        about: "How many connections are served at once, from 1 to 1048576; those that come then wait in the kernel's queue. \
                Peers that may not ask sasl have at most half of them together",
        takes_effect: TakesEffect::OnRestart(|a, b| a.limits.connections != b.limits.connections),
        kind: Kind::Connections(|settings| &mut settings.limits.connections),
        ..OF_FILE
    },
    &Setting {
        key: Some("limits.connections_per_peer"),
        value: "NUMBER",
        default: SettingDefault::Described(
            "half of the connections; a quarter for a peer that may not ask sasl",
        ),
        about: "How many of them one user, or one host, may have, and at most connections; more of it are closed at once, \
                and the log says so. A peer that may not ask sasl never has more than a quarter",
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
        about: "How often the files are compared without any hint that they changed",
        takes_effect: TakesEffect::OnReload,
        kind: Kind::Seconds(|settings| &mut settings.reload_timing.poll_interval),
        ..OF_FILE
    },
    &Setting {
        key: Some("reload.empty_grace"),
        value: "SECONDS",
        default: SettingDefault::Value("5"),
        about: "How long a table that vanished, or was cut to not one byte, is not believed",
        takes_effect: TakesEffect::OnReload,
        kind: Kind::Seconds(|settings| &mut settings.reload_timing.empty_grace),
        ..OF_FILE
    },
    &Setting {
        key: Some("reload.writer_timeout"),
        value: "SECONDS",
        default: SettingDefault::Value("30"),
        about: "How long a file that is open for writing is waited for",
        takes_effect: TakesEffect::OnReload,
        kind: Kind::Seconds(|settings| &mut settings.reload_timing.writer_timeout),
        ..OF_FILE
    },
    &Setting {
        key: Some("reload.in_flight"),
        value: "SECONDS",
        default: SettingDefault::Value("900"),
        about: "How long after an edit that changes the next hop of a sender its mail that is already on its way gets the login \
                of the next hop it goes to; 0 switches this off",
        takes_effect: TakesEffect::OnReload,
        kind: Kind::SecondsOrZero(|settings| &mut settings.reload_timing.in_flight),
        ..OF_FILE
    },
    &LOG,
    &LOG_FORMAT,
];
