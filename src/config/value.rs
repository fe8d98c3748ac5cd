//! Parsers of values, which read them into the settings. An error says what to write instead.

use std::time::Duration;

use nix::unistd::{Group, User};

use super::sourced::Sourced;
use super::{Limits, NextHops, ReloadErrors, Settings};
use crate::diagnostics::{Code, Finding, Place};
use crate::lookup::address::Delimiters;
use crate::lookup::map::Maps;
use crate::lookup::tls_policy::{NotAServiceName, ServiceName};
use crate::net::address::Address;
use crate::os::name_service;
use crate::os::printable::printable;
use crate::os::sandbox::user::ServerUser;
use crate::protocol::endpoint::Endpoint;

type Read = Result<(), Finding>;

pub(super) fn endpoint(given: &Sourced, settings: &mut Settings) -> Read {
    let endpoint = Endpoint::parse_listener(&given.value, &Maps::SERVED.names()).map_err(|problem| {
        let message = format!("{} is not an endpoint: {problem}", shown_endpoint(given));
        let finding = given.finding(Code::BadEndpoint, message);
        finding.help("for example, socketmap:inet:127.0.0.1:10451")
    })?;
    settings.listen.push(endpoint);
    settings.listen_is_default = false;
    Ok(())
}

/// Returns an endpoint for a message. A value that does not begin like an endpoint may be a password, unless it is a
/// flag's.
fn shown_endpoint(given: &Sourced) -> String {
    let endpoint = &given.value;
    let is_flag = matches!(given.place, Place::Setting(name) if name.starts_with("--"));
    if is_flag || endpoint.starts_with("socketmap:") || endpoint.starts_with("tcp:") {
        format!("`{}`", printable(endpoint.as_bytes()))
    } else {
        "the value".to_owned()
    }
}

pub(super) fn admin(given: &Sourced, settings: &mut Settings) -> Read {
    let address = Address::parse(&given.value).map_err(|problem| {
        let message = format!("the value is not an address for the admin listener: {problem}");
        let finding = given.finding(Code::BadAdminAddress, message);
        // Other values may be misplaced passwords.
        let is_flag = matches!(given.place, Place::Setting(name) if name.starts_with("--"));
        if is_flag && given.value.starts_with('/') {
            finding.help(format!(
                "for a UNIX socket, write unix:{}",
                printable(given.value.as_bytes())
            ))
        } else {
            finding.help("for example, 127.0.0.1:9451 or unix:/run/postmapd/admin")
        }
    })?;
    settings.admin = Some(address);
    Ok(())
}

pub(super) fn socket_owner(given: &Sourced, settings: &mut Settings) -> Read {
    let by_name = || User::from_name(&given.value).ok().flatten();
    settings.sockets.owner = name_service::parse_id(&given.value).or_else(|| Some(by_name()?.uid.as_raw()));
    check_socket_id("user", settings.sockets.owner, given, settings)
}

pub(super) fn socket_group(given: &Sourced, settings: &mut Settings) -> Read {
    let by_name = || Group::from_name(&given.value).ok().flatten();
    settings.sockets.group = name_service::parse_id(&given.value).or_else(|| Some(by_name()?.gid.as_raw()));
    check_socket_id("group", settings.sockets.group, given, settings)
}

/// Returns an error if there is no such user or group, unless no UNIX socket needs one.
fn check_socket_id(kind: &str, number: Option<u32>, given: &Sourced, settings: &Settings) -> Read {
    let listeners = settings.listen.iter().map(|endpoint| &endpoint.address);
    let mut addresses = listeners.chain(&settings.admin);
    if number.is_some() || !addresses.any(|address| matches!(address, Address::Unix(_))) {
        return Ok(());
    }
    let shown = printable(given.value.as_bytes());
    let message = format!("the {kind} `{shown}` does not exist");
    let finding = given.finding(Code::NoSuchUser, message);
    Err(finding.help("create it, or set another one"))
}

pub(super) fn socket_mode(given: &Sourced, settings: &mut Settings) -> Read {
    let mode = u32::from_str_radix(&given.value, 8).ok();
    settings.sockets.mode = mode.filter(|mode| *mode <= 0o777).ok_or_else(|| {
        let message = "the mode of the sockets is not an octal number up to 0777";
        let finding = given.finding(Code::BadSocketMode, message);
        finding.help("for example, 0660")
    })?;
    Ok(())
}

pub(super) fn user(given: &Sourced, settings: &mut Settings) -> Read {
    let user = ServerUser::find(&given.value).ok_or_else(|| {
        let shown = printable(given.value.as_bytes());
        let message = format!("the user `{shown}` does not exist");
        let finding = given.finding(Code::NoSuchUser, message);
        finding.help("create it (adduser --system --group postmapd), or set another one")
    })?;
    settings.user = Some(user);
    Ok(())
}

/// Reads on or off, in Postfix's words or in TOML's.
pub(super) fn sandbox(given: &Sourced, settings: &mut Settings) -> Read {
    settings.is_sandboxed = match given.value.as_str() {
        "on" | "yes" | "true" => true,
        "off" | "no" | "false" => false,
        _ => {
            let finding = given.finding(Code::BadSwitch, "the value is neither on nor off");
            return Err(finding.help("set it to on or off"));
        }
    };
    Ok(())
}

pub(super) fn recipient_delimiter(given: &Sourced, settings: &mut Settings) -> Read {
    settings.delimiters = Delimiters::new(&given.value).ok_or_else(|| {
        let message = "the recipient delimiter contains a character that cannot begin an address extension";
        let finding = given.finding(Code::BadRecipientDelimiter, message);
        finding.help("copy the value of recipient_delimiter from main.cf; for example, +")
    })?;
    Ok(())
}

pub(super) fn next_hops(given: &Sourced, settings: &mut Settings) -> Read {
    settings.next_hops = match given.value.as_str() {
        "postmapd" => NextHops::Postmapd,
        "main.cf" => NextHops::MainCf,
        _ => {
            let finding = given.finding(Code::BadNextHops, "the value is neither postmapd nor main.cf");
            let help = "set it to postmapd, or to main.cf if main.cf has the next hops and postmapd only the credentials";
            return Err(finding.help(help));
        }
    };
    Ok(())
}

pub(super) fn reload_errors(given: &Sourced, settings: &mut Settings) -> Read {
    settings.reload_errors = match given.value.as_str() {
        "keep" => ReloadErrors::Keep,
        "holes" => ReloadErrors::Holes,
        _ => {
            let finding = given.finding(Code::BadSetting, "the value is neither keep nor holes");
            let help = "set it to keep, or to holes for a directory that a program generates from a source with many authors";
            return Err(finding.help(help));
        }
    };
    Ok(())
}

pub(super) fn starttls_service(given: &Sourced, settings: &mut Settings) -> Read {
    settings.services.starttls = service(given)?;
    Ok(())
}

pub(super) fn implicit_service(given: &Sourced, settings: &mut Settings) -> Read {
    settings.services.implicit = service(given)?;
    Ok(())
}

fn service(given: &Sourced) -> Result<ServiceName, Finding> {
    ServiceName::try_from(given.value.as_str()).map_err(|NotAServiceName| {
        let finding = given.finding(Code::BadService, "this is not the name of a service of master.cf");
        finding.help("write the first column of its line: letters, digits, `-` and `_`, beginning with a letter or a digit")
    })
}

/// Parses a number of seconds, from 0.01 to 86400, or 0 if `may_be_zero`.
pub(super) fn seconds(text: &str, may_be_zero: bool) -> Option<Duration> {
    let number: f64 = text.parse().ok()?;
    ((0.01..=86400.0).contains(&number) || (may_be_zero && number == 0.0))
        .then(|| Duration::from_secs_f64(number))
}

/// Parses a connection limit, from 1 to [`Limits::MAX`].
pub(super) fn connections(text: &str) -> Option<usize> {
    let number = text.parse().ok();
    number.filter(|number| (1..=Limits::MAX).contains(number))
}
