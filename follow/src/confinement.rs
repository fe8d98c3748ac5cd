//! The rights that the program drops once its directory is open, its files are read and its listener is bound, and before it
//! connects to the source.
//!
//! A server that exploits a fault to run its own code here should find a process that can only do its task. So the program
//!
//! - writes only in and below its directory, runs no program, and opens TCP connections only to the ports of its source and
//!   to 53, for name servers (Landlock);
//! - makes no system call that only an attacker would make (seccomp);
//! - gains no privileges, has no capabilities (as root: only those for files), dumps no core, and no other process of its
//!   user reads its memory.
//!
//! Reading is restricted by file permissions alone, so that names resolve as before: the C library reads its files and
//! modules when it needs them, and asks name servers over UDP or the daemons of the system over UNIX sockets.
//!
//! Limits: the kernel restricts TCP connections by port, not by address, and only from Linux 6.7 on. The settings
//! `IPAddressDeny=` and `IPAddressAllow=` of the unit restrict addresses on every kernel.

use std::path::Path;

use postmapd::net::address::Address;
use postmapd::os::sandbox::landlock::Exceptions;
use postmapd::os::sandbox::{drop_capabilities, restrict};
use tracing::{info, warn};

use crate::settings::Settings;
use crate::settings::source::Host;

/// The port of name servers.
const DNS: u16 = 53;

/// The first Landlock ABI that restricts TCP connections: Linux 6.7.
const ABI_OF_TCP: i32 = 4;

/// What is enforced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confinement {
    /// The restrictions, for the log.
    pub measures: Vec<String>,
    /// Whether TCP connections are possible only to the ports of the source and of name servers.
    pub restricts_connections: bool,
}

/// Drops the rights that the program does not need, for the calling thread and those that it starts. There should be no other
/// thread. What this kernel lacks is logged, and the program runs without it.
#[must_use]
pub fn enter(settings: &Settings) -> Confinement {
    if !settings.sandbox {
        warn!("sandboxing is disabled by the setting sandbox");
        return Confinement::default();
    }
    let sockets: Vec<&Path> = socket(settings).and_then(Path::parent).into_iter().collect();
    let ports = ports(settings);
    let mut measures = Vec::new();
    if drop_capabilities() {
        measures.push("capabilities reduced".to_owned());
    }
    let restrictions = restrict(&Exceptions {
        removable: &sockets,
        writable: &[&settings.dir],
        ports: &ports,
    });
    measures.extend(restrictions.measures);
    let restricts_connections = restrictions.landlock.is_some_and(|version| version >= ABI_OF_TCP);
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    let ports = ports.join(", ");
    if restricts_connections && ports.is_empty() {
        measures.push("no TCP connections".to_owned());
    } else if restricts_connections {
        measures.push(format!("TCP connections only to ports {ports}"));
    } else {
        warn!(
            %ports,
            "the kernel cannot restrict TCP connections to these ports (Linux 6.7 can); set IPAddressDeny= and IPAddressAllow= in the unit"
        );
    }
    info!(measures = %measures.join(", "), "sandbox enabled");
    Confinement {
        measures,
        restricts_connections,
    }
}

/// The socket of the listener, which the program removes at its end.
fn socket(settings: &Settings) -> Option<&Path> {
    match &settings.admin {
        Some(Address::Unix(path)) => Some(path),
        _ => None,
    }
}

/// The ports to which the program connects, in ascending order.
fn ports(settings: &Settings) -> Vec<u16> {
    let hosts = settings.source.hosts.iter();
    let mut ports: Vec<u16> = hosts
        .filter_map(|host| match host {
            Host::Tcp(_, port) => Some(*port),
            Host::Unix(..) => None,
        })
        .collect();
    if !ports.is_empty() {
        ports.push(DNS);
    }
    ports.sort_unstable();
    ports.dedup();
    ports
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::ports;
    use crate::settings::Settings;

    fn ports_of(source: &str) -> Vec<u16> {
        let text = format!("source = \"{source}\"\n");
        ports(&Settings::parse(Path::new("/follow.toml"), text.as_bytes()).unwrap())
    }

    #[test]
    fn connections_are_possible_to_the_ports_of_all_hosts_and_to_name_servers() {
        assert_eq!(
            ports_of("postgres://u@db1.test,db2.test:6432/mail"),
            [53, 5432, 6432]
        );
        assert_eq!(ports_of("postgres://u@db1.test,db2.test/mail"), [53, 5432]);
        // Without a name, there is nothing to resolve.
        assert!(ports_of("postgres://u@%2Frun%2Fpostgresql/mail").is_empty());
    }
}
