//! The addresses in /etc/hosts.
//!
//! Limit: [`MAX_SIZE`] bytes of the file are read.

use std::fs::File;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::Path;

/// The maximum number of bytes that are read.
const MAX_SIZE: u64 = 1 << 20;

/// The lines of a file in the format of hosts(5).
#[derive(Default)]
pub(super) struct Hosts(String);

impl Hosts {
    /// Reads a file. One that cannot be read has no hosts.
    pub(super) fn read(path: &Path) -> Self {
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| file.take(MAX_SIZE).read_to_end(&mut bytes));
        Self(read.map_or_else(
            |_| String::new(),
            |_| String::from_utf8_lossy(&bytes).into_owned(),
        ))
    }

    /// Returns the addresses of a name, in the order of the file, IPv6 before IPv4.
    pub(super) fn addresses(&self, name: &str) -> Vec<IpAddr> {
        let mut addresses: Vec<IpAddr> = Vec::new();
        for line in self.0.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            let address = words.next().and_then(|word| word.parse().ok());
            if let Some(address) = address
                && words.any(|word| word.eq_ignore_ascii_case(name))
                && !addresses.contains(&address)
            {
                addresses.push(address);
            }
        }
        addresses.sort_by_key(IpAddr::is_ipv4);
        addresses
    }
}

#[cfg(test)]
mod tests {
    use super::Hosts;

    #[test]
    fn a_name_has_the_addresses_of_all_its_lines() {
        let hosts = Hosts(
            "# comment\n127.0.0.1\tlocalhost Relay.test # relay2.test\n::1 relay.test\n127.0.0.1 relay.test\nx relay.test\n"
                .into(),
        );
        let addresses: Vec<String> = hosts
            .addresses("relay.TEST")
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(addresses, ["::1", "127.0.0.1"]);
        assert!(hosts.addresses("relay2.test").is_empty());
    }
}
