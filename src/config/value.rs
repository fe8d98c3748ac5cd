//! Reads the values of the settings that need more than their kind says: each reader sets its field, or says what is wrong
//! and what to write, and leaves the field as it is.

use nix::unistd::{Group, User};

use super::options::Given;
use super::{NextHops, Settings};
use crate::address::Delimiters;
use crate::confinement::user::ServerUser;
use crate::diagnostic::{Code, Finding, Findings, Place};
use crate::endpoint::Endpoint;
use crate::name_service;
use crate::net::address::Address;
use crate::printable::printable;

pub(super) fn listen(given: &Given<String>, settings: &mut Settings, findings: &mut Findings) {
    let mut endpoints = Vec::new();
    for text in given.words() {
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
    if given.words().next().is_none() {
        findings.push(
            Finding::new(Code::BadEndpoint, given.place.clone())
                .says("no endpoint to listen at is named")
                .help("write for example socketmap:inet:127.0.0.1:10451, or leave it out for the default"),
        );
    }
    settings.listen = endpoints;
    settings.listen_is_default = false;
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

pub(super) fn admin(given: &Given<String>, settings: &mut Settings, findings: &mut Findings) {
    match Address::parse(&given.value) {
        Ok(address) => settings.admin = Some(address),
        Err(problem) => findings.push(
            Finding::new(Code::BadAdminAddress, given.place.clone())
                .says(format!("this is no address for the admin listener: {problem}"))
                .help("write for example 127.0.0.1:9451, or unix:/run/postmapd/admin"),
        ),
    }
}

pub(super) fn socket_owner(given: &Given<String>, settings: &mut Settings, findings: &mut Findings) {
    let by_name = |name: &str| User::from_name(name).ok().flatten().map(|user| user.uid.as_raw());
    settings.sockets.owner = number("user", by_name, given, settings, findings);
}

pub(super) fn socket_group(given: &Given<String>, settings: &mut Settings, findings: &mut Findings) {
    let by_name = |name: &str| {
        Group::from_name(name)
            .ok()
            .flatten()
            .map(|group| group.gid.as_raw())
    };
    settings.sockets.group = number("group", by_name, given, settings, findings);
}

/// The number of a user or a group, which is given by its number or its name.
fn number(
    kind: &str,
    by_name: impl Fn(&str) -> Option<u32>,
    given: &Given<String>,
    settings: &Settings,
    findings: &mut Findings,
) -> Option<u32> {
    let number = name_service::number(&given.value).or_else(|| by_name(&given.value));
    // Where there is no such socket, there need be no such user.
    let mut addresses = settings.listen.iter().map(|endpoint| &endpoint.address);
    let mut addresses = addresses.by_ref().chain(&settings.admin);
    if number.is_none() && addresses.any(|address| matches!(address, Address::Unix(_))) {
        let shown = printable(given.value.as_bytes());
        findings.push(
            Finding::new(Code::NoSuchUser, given.place.clone())
                .says(format!("there is no {kind} `{shown}` for the sockets"))
                .help("name another, or create it"),
        );
    }
    number
}

pub(super) fn socket_mode(given: &Given<String>, settings: &mut Settings, findings: &mut Findings) {
    match u32::from_str_radix(&given.value, 8) {
        Ok(mode) if mode <= 0o777 => settings.sockets.mode = mode,
        _ => findings.push(
            Finding::new(Code::BadSocketMode, given.place.clone())
                .says("the mode of the socket is not an octal number up to 0777")
                .help("write for example 0660"),
        ),
    }
}

pub(super) fn user(given: &Given<String>, settings: &mut Settings, findings: &mut Findings) {
    settings.user = ServerUser::find(&given.value);
    if settings.user.is_none() {
        let shown = printable(given.value.as_bytes());
        findings.push(
            Finding::new(Code::NoSuchUser, given.place.clone())
                .says(format!("there is no user `{shown}` that the server could become"))
                .help("create it (adduser --system --group postmapd), or name another"),
        );
    }
}

pub(super) fn recipient_delimiter(given: &Given<String>, settings: &mut Settings, findings: &mut Findings) {
    match Delimiters::new(&given.value) {
        Some(delimiters) => settings.delimiters = delimiters,
        None => findings.push(
            Finding::new(Code::BadRecipientDelimiter, given.place.clone())
                .says("the recipient delimiter has a character that no address extension can begin with")
                .help("copy the value of recipient_delimiter from main.cf, for example +"),
        ),
    }
}

pub(super) fn next_hops(given: &Given<String>, settings: &mut Settings, findings: &mut Findings) {
    match given.value.as_str() {
        "postmapd" => settings.next_hops = NextHops::Postmapd,
        "main.cf" => settings.next_hops = NextHops::MainCf,
        _ => findings.push(
            Finding::new(Code::BadNextHops, given.place.clone())
                .says("this does not say where next hops come from")
                .help(
                    "write postmapd, or main.cf if main.cf has the relays and postmapd the credentials alone",
                ),
        ),
    }
}
