//! Every setting: its names, its default, and what it means.
//!
//! Flags, variables, the settings file, `--help` and the manual all speak of a setting through its [`Setting`].

/// When a new value counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    /// When the settings file is saved.
    WhenSaved,
    /// When the server starts.
    AtStart,
}

/// A setting.
#[derive(Debug)]
pub struct Setting {
    /// The key in the settings file; before a dot stands its table.
    pub key: Option<&'static str>,
    /// The flag.
    pub flag: Option<&'static str>,
    /// The variable.
    pub variable: Option<&'static str>,
    /// What its value is called in a usage line.
    pub value: &'static str,
    /// What counts where nothing is said.
    pub default: &'static str,
    /// What it means, without a full stop.
    pub about: &'static str,
    /// When a new value counts.
    pub counts: Counts,
}

impl Setting {
    /// The help text of the flag.
    #[must_use]
    pub fn help(&self) -> String {
        let variable = self
            .variable
            .map(|name| format!(" [env: {name}]"))
            .unwrap_or_default();
        format!("{}{variable} [default: {}]", self.about, self.default)
    }
}

/// The folder.
pub static DIR: Setting = Setting {
    key: None,
    flag: Some("--dir"),
    variable: Some("POSTMAPD_DIR"),
    value: "DIR",
    default: super::DEFAULT_DIR,
    about: "The folder with postfix-relaymap.cf and postfix-sasl-password.cf",
    counts: Counts::AtStart,
};

/// The settings file.
pub static CONFIG: Setting = Setting {
    key: None,
    flag: Some("--config"),
    variable: Some("POSTMAPD_CONFIG"),
    value: "FILE",
    default: "postmapd.toml in DIR, if it is there",
    about: "The settings file",
    counts: Counts::AtStart,
};

/// Where to listen.
pub static LISTEN: Setting = Setting {
    key: Some("listen"),
    flag: Some("--listen"),
    variable: Some("POSTMAPD_LISTEN"),
    value: "ENDPOINT",
    default: super::DEFAULT_LISTEN,
    about: "Where to listen, as main.cf writes it: socketmap:inet:HOST:PORT, socketmap:unix:PATH or tcp:HOST:PORT:MAP; \
            several are separated by commas, in the settings file they may be a list; the flag may be given several times",
    counts: Counts::AtStart,
};

/// Where health and metrics are told.
pub static ADMIN: Setting = Setting {
    key: Some("admin"),
    flag: Some("--admin"),
    variable: Some("POSTMAPD_ADMIN"),
    value: "ADDRESS",
    default: "nowhere",
    about: "Where to tell health, status and metrics over HTTP: HOST:PORT or unix:PATH; see postmapd-status(1)",
    counts: Counts::AtStart,
};

/// Which local users get credentials.
pub static ALLOW_USERS: Setting = Setting {
    key: Some("allow_users"),
    flag: Some("--allow-users"),
    variable: Some("POSTMAPD_ALLOW_USERS"),
    value: "USERS",
    default: "root, postfix if there is such a user, and the server's own user",
    about: "The local users that get answers from sasl, names or numbers separated by commas, in the settings file a \
            list; all other users get those of relayhost alone",
    counts: Counts::WhenSaved,
};

/// Which other hosts may ask.
pub static ALLOW_NETWORKS: Setting = Setting {
    key: Some("allow_networks"),
    flag: Some("--allow-networks"),
    variable: Some("POSTMAPD_ALLOW_NETWORKS"),
    value: "NETWORKS",
    default: "none",
    about: "The other hosts that may connect, and ask everything: addresses or networks (192.0.2.7, 192.0.2.0/24, \
            2001:db8::/32) separated by commas, in the settings file a list; 127.0.0.0/8 admits every local user",
    counts: Counts::WhenSaved,
};

/// The owner of UNIX sockets.
pub static SOCKET_OWNER: Setting = Setting {
    key: Some("socket_owner"),
    flag: Some("--socket-owner"),
    variable: Some("POSTMAPD_SOCKET_OWNER"),
    value: "USER",
    default: "the server's user",
    about: "The owner of UNIX sockets, a name or a number",
    counts: Counts::AtStart,
};

/// The group of UNIX sockets.
pub static SOCKET_GROUP: Setting = Setting {
    key: Some("socket_group"),
    flag: Some("--socket-group"),
    variable: Some("POSTMAPD_SOCKET_GROUP"),
    value: "GROUP",
    default: "postfix, if there is such a group and the server may give it",
    about: "The group of UNIX sockets, a name or a number",
    counts: Counts::AtStart,
};

/// The mode of UNIX sockets.
pub static SOCKET_MODE: Setting = Setting {
    key: Some("socket_mode"),
    flag: Some("--socket-mode"),
    variable: Some("POSTMAPD_SOCKET_MODE"),
    value: "MODE",
    default: "0660",
    about: "The mode of UNIX sockets, an octal number (in the settings file in quotes)",
    counts: Counts::AtStart,
};

/// Who the server becomes.
pub static USER: Setting = Setting {
    key: Some("user"),
    flag: Some("--user"),
    variable: Some("POSTMAPD_USER"),
    value: "USER",
    default: "whoever starts the server",
    about: "The user that the server becomes once its sockets are bound, a name or a number; it has to be started as root, \
            and goes on to read files that are for root alone",
    counts: Counts::AtStart,
};

/// Whether the server locks itself.
pub static CONFINEMENT: Setting = Setting {
    key: Some("confinement"),
    flag: Some("--confinement"),
    variable: Some("POSTMAPD_CONFINEMENT"),
    value: "on|off",
    default: "on",
    about: "Whether the server locks itself: no new privileges, no core dump, no writing of files, no programs, no outgoing \
            TCP connections, only the capabilities and system calls that it needs",
    counts: Counts::AtStart,
};

/// What begins an address extension.
pub static RECIPIENT_DELIMITER: Setting = Setting {
    key: Some("recipient_delimiter"),
    flag: Some("--recipient-delimiter"),
    variable: Some("POSTMAPD_RECIPIENT_DELIMITER"),
    value: "CHARACTERS",
    default: "+",
    about: "What begins an address extension, each character by itself, as in main.cf",
    counts: Counts::WhenSaved,
};

/// Where next hops come from.
pub static NEXT_HOPS: Setting = Setting {
    key: Some("next_hops"),
    flag: Some("--next-hops"),
    variable: Some("POSTMAPD_NEXT_HOPS"),
    value: "postmapd|main.cf",
    default: "postmapd",
    about: "Where the next hops of senders come from. With postmapd, credentials of a sender that has no next hop here are \
            withheld, and without a relay map and a default relay the answer is a temporary error; with main.cf, they are \
            answered",
    counts: Counts::WhenSaved,
};

/// What is logged.
pub static LOG: Setting = Setting {
    key: None,
    flag: Some("--log"),
    variable: Some("POSTMAPD_LOG"),
    value: "FILTER",
    default: "info",
    about: "What is logged: off, error, warn, info, debug (with the keys of lookups) or trace",
    counts: Counts::AtStart,
};

/// The form of the log.
pub static LOG_FORMAT: Setting = Setting {
    key: None,
    flag: Some("--log-format"),
    variable: Some("POSTMAPD_LOG_FORMAT"),
    value: "text|json|journald",
    default: "journald where the journal reads standard error, else text",
    about: "The form of the log",
    counts: Counts::AtStart,
};

/// How many connections there may be.
pub static CONNECTIONS: Setting = Setting {
    key: Some("limits.connections"),
    flag: None,
    variable: None,
    value: "NUMBER",
    default: "10000, or as many as the process may open files, less 128",
    about: "How many connections are served at once, from 1 to 1048576; those that come then wait in the kernel's queue. \
            Peers that may not ask sasl have at most half of them together",
    counts: Counts::AtStart,
};

/// How many of them one peer may have.
pub static CONNECTIONS_PER_PEER: Setting = Setting {
    key: Some("limits.connections_per_peer"),
    flag: None,
    variable: None,
    value: "NUMBER",
    default: "half of the connections; a quarter for a peer that may not ask sasl",
    about: "How many of them one user, or one host, may have, and at most connections; more of it are closed at once, \
            and the log says so. A peer that may not ask sasl never has more than a quarter",
    counts: Counts::AtStart,
};

/// How often the files are compared.
pub static POLL: Setting = Setting {
    key: Some("reload.poll"),
    flag: None,
    variable: None,
    value: "SECONDS",
    default: "5",
    about: "How often the files are compared without any hint that they changed",
    counts: Counts::WhenSaved,
};

/// How long what vanished is not believed.
pub static GRACE: Setting = Setting {
    key: Some("reload.grace"),
    flag: None,
    variable: None,
    value: "SECONDS",
    default: "5",
    about: "How long a table that vanished, or was cut to not one byte, is not believed",
    counts: Counts::WhenSaved,
};

/// How long a writer is waited for.
pub static PATIENCE: Setting = Setting {
    key: Some("reload.patience"),
    flag: None,
    variable: None,
    value: "SECONDS",
    default: "30",
    about: "How long a file that is open for writing is waited for",
    counts: Counts::WhenSaved,
};

/// How long mail that is on its way gets the login of the relay it goes to.
pub static IN_FLIGHT: Setting = Setting {
    key: Some("reload.in_flight"),
    flag: None,
    variable: None,
    value: "SECONDS",
    default: "900",
    about: "How long after an edit that changes the next hop of a sender its mail that is already on its way gets the login \
            of the next hop it goes to; 0 switches this off",
    counts: Counts::WhenSaved,
};

/// Every setting, in the order in which they are explained.
pub static ALL: [&Setting; 21] = [
    &DIR,
    &CONFIG,
    &LISTEN,
    &ADMIN,
    &ALLOW_USERS,
    &ALLOW_NETWORKS,
    &SOCKET_OWNER,
    &SOCKET_GROUP,
    &SOCKET_MODE,
    &USER,
    &CONFINEMENT,
    &RECIPIENT_DELIMITER,
    &NEXT_HOPS,
    &CONNECTIONS,
    &CONNECTIONS_PER_PEER,
    &POLL,
    &GRACE,
    &PATIENCE,
    &IN_FLIGHT,
    &LOG,
    &LOG_FORMAT,
];

/// The keys of one table of the settings file: of the file itself for an empty name, else those of `[table]`.
pub fn keys(table: &str) -> impl Iterator<Item = &'static str> {
    ALL.iter().filter_map(move |setting| {
        let (own, key) = match setting.key?.split_once('.') {
            Some((own, key)) => (own, key),
            None => ("", setting.key?),
        };
        (own == table).then_some(key)
    })
}

/// The tables of the settings file.
pub static TABLES: [&str; 2] = ["limits", "reload"];

/// Every variable.
pub fn variables() -> impl Iterator<Item = &'static str> {
    ALL.iter().filter_map(|setting| setting.variable)
}

#[cfg(test)]
mod tests {
    use super::ALL;

    #[test]
    fn the_names_of_a_setting_are_one_name() {
        for setting in ALL {
            let name = setting
                .flag
                .map(|flag| flag.trim_start_matches("--").replace('-', "_"));
            if let (Some(name), Some(variable)) = (&name, setting.variable) {
                assert_eq!(variable, format!("POSTMAPD_{}", name.to_uppercase()));
            }
            if let (Some(name), Some(key)) = (&name, setting.key) {
                assert_eq!(key.replace('.', "_"), *name);
            }
            assert!(setting.key.is_some() || setting.flag.is_some());
        }
    }
}
