//! Access control: `allow_users` and `allow_networks`, which become [`crate::lookup::peer::Allowed`].
//!
//! User names become IDs when the settings are read. The defaults are `root`, `postfix` (where that user exists) and
//! the server's own user, and no network.

use std::net::IpAddr;

use ipnet::IpNet;
use nix::unistd::{Uid, User, geteuid};

use super::Settings;
use super::sourced::Sourced;
use crate::diagnostics::{Code, Finding, Findings, Place};
use crate::net::address::Address;
use crate::os::name_service;
use crate::os::printable::printable;

/// Returns the users allowed by default.
pub(super) fn default_users() -> Vec<u32> {
    let postfix = User::from_name("postfix").ok().flatten().map(|user| user.uid);
    let users = [Uid::from_raw(0), geteuid()].into_iter().chain(postfix);
    users.map(Uid::as_raw).collect()
}

pub(super) fn user(given: &Sourced, settings: &mut Settings) -> Result<(), Finding> {
    let uid = uid(&given.value).map_err(|why| {
        let shown = printable(given.value.as_bytes());
        let message = format!("the user `{shown}` cannot be allowed: {why}");
        let finding = given.finding(Code::NoSuchUser, message);
        finding.help("use a name that this machine knows, or the user's ID")
    })?;
    settings.allow_users.push(uid);
    Ok(())
}

/// Returns the ID of a user, given as a name or an ID.
fn uid(word: &str) -> Result<u32, String> {
    if word.bytes().all(|c| c.is_ascii_digit()) {
        return name_service::parse_id(word).ok_or_else(|| format!("an ID is at most {}", u32::MAX - 1));
    }
    match User::from_name(word) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        Ok(None) => Err("no user has this name".to_owned()),
        Err(error) => Err(format!("the name cannot be looked up: {error}")),
    }
}

pub(super) fn network(given: &Sourced, settings: &mut Settings) -> Result<(), Finding> {
    let network = parse(&given.value).map_err(|help| {
        let shown = printable(given.value.as_bytes());
        let message = format!("`{shown}` is neither an address nor a network");
        given.finding(Code::BadNetwork, message).help(help)
    })?;
    settings.allow_networks.push(network);
    Ok(())
}

/// Parses `address` or `address/length`; an IPv6 address may have brackets, as in Postfix's `mynetworks`. The error
/// says what to write instead.
fn parse(word: &str) -> Result<IpNet, String> {
    let example = || "for example, 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32".to_owned();
    let plain = match word.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, length)) => format!("{address}{length}"),
        None => word.to_owned(),
    };
    let network = match plain.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => plain.parse().map_err(|_| example())?,
    };
    // Peers are compared in IPv4 form.
    let network = match (network.addr().to_canonical(), network) {
        (address @ IpAddr::V4(_), IpNet::V6(mapped)) => {
            let length = mapped.prefix_len().checked_sub(96).ok_or_else(example)?;
            IpNet::new(address, length).map_err(|_| example())?
        }
        (_, network) => network,
    };
    if network == network.trunc() {
        Ok(network)
    } else {
        // Postfix rejects such a network, too: the address or the length is a mistake.
        let (whole, one) = (network.trunc(), network.addr());
        Err(format!(
            "the address has bits set after the prefix length; write {whole} for the network, or {one} for the host"
        ))
    }
}

/// Warns of listeners for other hosts where no other host is allowed. Their clients would only see closed connections.
pub(super) fn warn_unreachable_listeners(settings: &Settings, listen: &Place, findings: &mut Findings) {
    if settings.allowed().allows_other_hosts() {
        return;
    }
    for endpoint in &settings.listen {
        let Address::Inet(host, _) = &endpoint.address else {
            continue;
        };
        let Ok(address) = host.parse::<IpAddr>() else {
            continue;
        };
        if address.to_canonical().is_loopback() {
            continue;
        }
        let clients = if address.is_unspecified() {
            "no other host"
        } else {
            "no client"
        };
        findings.push(
            Finding::new(Code::NobodyAllowed, listen.clone())
                .message(format!(
                    "{clients} can connect to {endpoint}: allow_networks names no other host"
                ))
                .help("add the hosts to allow_networks, which lets them query everything, passwords included, or listen on 127.0.0.1"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::parse;
    use crate::config::Settings;
    use crate::config::setting::with_key;
    use crate::config::sourced::Sourced;
    use crate::diagnostics::{Findings, Place};

    #[test]
    fn networks_are_written_as_in_main_cf() {
        for (written, read) in [
            ("192.0.2.7", "192.0.2.7/32"),
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("[2001:db8::]/32", "2001:db8::/32"),
            ("[::1]", "::1/128"),
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ] {
            assert_eq!(parse(written).unwrap().to_string(), read, "{written}");
        }
        for wrong in [
            "",
            "localhost",
            "192.0.2",
            "192.0.2.0/33",
            "192.0.2.0/",
            "192.0.2.0/+8",
            "192.0.2.0/255.255.255.0",
            "/8",
            "[::1",
            "::1]",
            "[[::1]]",
            "::ffff:192.0.2.0/80",
            "2001:db8::/129",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        let help = parse("192.0.2.7/24").unwrap_err();
        assert!(
            help.contains("192.0.2.0/24") && help.contains("or 192.0.2.7 "),
            "{help}"
        );
    }

    #[test]
    fn users_are_names_or_ids() {
        let read = |words: &str| {
            let (mut settings, mut findings) = (Settings::default(), Findings::default());
            let given = Sourced::trimmed(words, Place::Setting("--allow-users"));
            let setting = with_key("", "allow_users").unwrap();
            setting.read(&given, &mut settings, &mut findings);
            (settings.allow_users, findings.errors())
        };
        assert_eq!(read("root, 1001,65534"), (vec![0, 1001, 65534], 0));
        assert_eq!(read(""), (vec![], 0));
        assert_eq!(read("4294967294"), (vec![u32::MAX - 1], 0));
        for wrong in [
            "4294967295",
            "4294967296",
            "-1",
            "+1",
            "no-such-user",
            "1 2",
            "0x0",
        ] {
            assert_eq!(read(wrong), (vec![], 1), "{wrong}");
        }
        assert!(Settings::default().allow_users.contains(&0));
    }
}
