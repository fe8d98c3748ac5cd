//! Checks an installed Postfix as a whole: which service reads which parameter, what defeats postmapd or leaks a
//! password, and the command that fixes it.
//!
//! Each service is checked with the values that take effect for it: `-o` in master.cf overrides main.cf. Every
//! trivial-rewrite is checked, and the SMTP clients that deliver the mail that postmapd routes: those that
//! `default_transport` and `relay_transport` name, or, where Postfix queries the map `transport`, those that its answers
//! name. Other SMTP clients get mail that has its own next hop (a content filter, an
//! entry of `transport_maps`). They are checked for leaks only; if main.cf may assign transports to senders, they are
//! checked for everything, with warnings.
//!
//! An error defeats postmapd or leaks a password. A warning reports something that may be intended.

use super::addressing::{Addressing, TableOwner, Unaddressable};
use super::config::{PostfixConfig, Service};
use super::conflicts::CONFLICTS;
use super::evaluate;
use super::issue::{Duty, Fix, Issue, ServiceContext};
use super::relay_services::RelayServices;
use super::requirements::{self, Daemon, Requirement, Route};
use super::stricter;
use super::table_list;
use super::verbose;
use crate::config::nearest;
use crate::diagnostics::{Code, Finding, Findings, Leak, Place, Severity};
use crate::lookup::address::Delimiters;
use crate::lookup::map::Map;

/// Parameters beside the requirements that may name a table of this server.
const MAY_NAME_OWN_TABLES: [&str; 6] = [
    "lmtp_sasl_password_maps",
    "address_verify_sender_dependent_relayhost_maps",
    "sender_dependent_relayhost_maps",
    "smtp_sasl_password_maps",
    "smtp_tls_policy_maps",
    "proxy_read_maps",
];

/// Parameters that differ between services for relays and those for other mail, so that they are set in master.cf.
const SET_BY_SERVICE: [&str; 4] = [
    "smtp_sasl_auth_enable",
    "smtp_tls_policy_maps",
    "smtp_tls_security_level",
    "smtp_tls_wrappermode",
];

/// Checks a Postfix against the requirements of a server with this addressing. Fails if main.cf cannot name the server.
/// `relay_services`: the services that the answers of `transport` name.
pub(crate) fn check(
    config: &PostfixConfig,
    addressing: &Addressing,
    delimiters: &Delimiters,
    relay_services: &RelayServices,
) -> Result<Findings, Unaddressable> {
    let mut checker = Checker {
        config,
        addressing,
        findings: Vec::new(),
    };
    let rewriters: Vec<&Service> = config
        .services
        .iter()
        .filter(|service| service.program == "trivial-rewrite")
        .collect();
    let transports = Map::TRANSPORT.parameter;
    let uses_services = rewriters.iter().any(|service| {
        let context = checker.context(service, Duty::Any);
        table_list::queries(context, Map::TRANSPORT, context.value(transports))
    });
    let route = if uses_services {
        Route::Services
    } else {
        Route::NextHops
    };
    let mut requirements = requirements::all(addressing, Some(config), route)?;
    stricter::keep(&mut requirements, config, addressing);
    if rewriters.is_empty() {
        checker.add(
            Place::parameter(Some("rewrite/unix".to_owned()), "command"),
            Code::NoRewrite,
            "master.cf has no trivial-rewrite service, and Postfix cannot route mail without it",
            "restore the rewrite service in master.cf".to_owned(),
        );
    }
    let mut main_route = Vec::new();
    for service in &rewriters {
        checker.check_service(
            &requirements,
            Daemon::TrivialRewrite,
            service,
            Role::MainRoute,
            Duty::Any,
        );
        main_route.extend(checker.check_transports(service, route));
        if uses_services {
            checker.check_relay_domains(service, relay_services);
        }
    }
    let by_sender = rewriters
        .iter()
        .any(|service| !config.value(&service.id, transports).is_empty());
    if uses_services {
        checker.check_relay_services(&requirements, relay_services, &main_route)?;
    } else {
        for service in smtp_clients(config).filter(|service| main_route.contains(&service.id.name)) {
            checker.check_service(&requirements, Daemon::Smtp, service, Role::MainRoute, Duty::Any);
        }
        if relay_services.has_implicit && !by_sender {
            checker.check_implicit_relays(&main_route);
        }
    }
    let is_checked = |service: &&Service| {
        let name = &service.id.name;
        if uses_services {
            relay_services.iter().any(|relay| relay.name == *name)
        } else {
            main_route.contains(name)
        }
    };
    let by_other_table = by_sender && !uses_services;
    let role = if by_other_table {
        Role::BySender
    } else {
        Role::Other
    };
    for service in smtp_clients(config).filter(|service| !is_checked(service)) {
        if config
            .value(&service.id, "smtp_sasl_auth_enable")
            .eq_ignore_ascii_case("yes")
            || by_other_table
        {
            checker.check_service(&requirements, Daemon::Smtp, service, role, Duty::Any);
        }
    }
    checker.check_inner_transports();
    checker.check_misplaced_tables();
    checker.check_misspelt(&requirements);
    checker.check_delimiter(delimiters);
    checker.check_other_instances();
    let mut findings = Findings::default();
    checker
        .findings
        .into_iter()
        .for_each(|finding| findings.push(finding));
    Ok(findings)
}

/// Which mail an SMTP client delivers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// All mail that postmapd routes.
    MainRoute,
    /// Possibly mail that a table of senders assigns to this transport, which keeps the next hop.
    BySender,
    /// Only mail that has its own next hop.
    Other,
}

/// Whether this parameter may query this map beside the one that must.
fn is_for(map: Map, parameter: &str) -> bool {
    match parameter {
        "lmtp_tls_policy_maps" | "tlsproxy_client_policy_maps" => map == Map::TLS,
        "address_verify_sender_dependent_default_transport_maps" => map == Map::TRANSPORT,
        _ => map == Map::TRANSPORT && map.parameter == parameter,
    }
}

fn smtp_clients(config: &PostfixConfig) -> impl Iterator<Item = &Service> {
    let services = config.services.iter();
    services.filter(|service| service.program == "smtp" && service.id.service_type == "unix")
}

mod inner_transports;
mod relays;

struct Checker<'a> {
    config: &'a PostfixConfig,
    addressing: &'a Addressing,
    findings: Vec<Finding>,
}

impl<'a> Checker<'a> {
    fn context(&self, service: &'a Service, duty: Duty) -> ServiceContext<'a> {
        ServiceContext {
            config: self.config,
            service,
            addressing: self.addressing,
            duty,
        }
    }

    /// Checks all parameters that a service reads.
    fn check_service(
        &mut self,
        requirements: &[Requirement],
        daemon: Daemon,
        service: &'a Service,
        role: Role,
        duty: Duty,
    ) {
        let context = self.context(service, duty);
        if daemon == Daemon::Smtp {
            self.check_verbose(service, "smtp(8)");
            if let Some(proxymap) = table_list::proxymap_for_passwords(context) {
                self.check_verbose(proxymap, "proxymap(8)");
            }
        }
        for requirement in requirements
            .iter()
            .filter(|requirement| requirement.daemon == daemon)
        {
            self.check_parameter(requirement.parameter, context, role, |value| {
                evaluate::evaluate(requirement, value, context)
            });
        }
        for conflict in CONFLICTS.iter().filter(|conflict| conflict.daemon == daemon) {
            self.check_parameter(conflict.parameter, context, role, |value| {
                let applies = (conflict.applies)(value, context);
                let issue = || Issue::new(conflict.code, conflict.message, conflict.fix.clone());
                applies.then(issue).into_iter().collect()
            });
        }
    }

    /// Reports a service that writes passwords into the log.
    fn check_verbose(&mut self, service: &Service, program: &str) {
        if verbose::is_verbose(service) {
            self.add(
                Place::parameter(Some(service.id.to_string()), "command"),
                Code::PasswordsLogged,
                &format!("with -v, {program} logs every password that it receives"),
                format!(
                    "remove -v from {} in master.cf, run postfix reload, and change the passwords if other users can \
                     read the log",
                    service.id
                ),
            );
        }
    }

    fn check_parameter(
        &mut self,
        parameter: &str,
        context: ServiceContext<'a>,
        role: Role,
        evaluate: impl Fn(&str) -> Vec<Issue>,
    ) {
        let main_suffices = || {
            let issues = evaluate(self.config.main_cf(parameter));
            issues
                .iter()
                .all(|issue| issue.code.severity() != Severity::Error)
        };
        let issues = evaluate(context.value(parameter));
        // Evaluated only if there is something to fix.
        let main_suffices = !issues.is_empty() && main_suffices();
        for issue in issues {
            let (place, help) = self.place_and_help(parameter, context, &issue.fix, main_suffices);
            let mut finding = Finding::new(issue.code, place).message(issue.message).help(help);
            match (role, issue.code.leak()) {
                (Role::MainRoute, _) | (_, Leak::All) => {}
                (Role::Other, Leak::Nothing) => continue,
                _ => finding.severity = Severity::Warning,
            }
            self.push(finding);
        }
    }

    /// Returns the place of the value, and the command or the advice that fixes it. `main_suffices`: whether the value
    /// of main.cf has no error for this service.
    fn place_and_help(
        &self,
        parameter: &str,
        context: ServiceContext<'_>,
        fix: &Fix,
        main_suffices: bool,
    ) -> (Place, String) {
        let commands = &self.config.commands;
        let id = &context.service.id;
        let overridden = self.config.is_overridden(id, parameter);
        // Also true if the value is a default that refers to another parameter, which the service overrides.
        let in_master_cf = overridden || context.value(parameter) != self.config.main_cf(parameter);
        let help = match fix {
            Fix::Advice(advice) => advice.to_string(),
            Fix::DisableChroot(service) => {
                let place = Place::parameter(Some(service.to_string()), "chroot");
                return (place, commands.set_column(service, "chroot", "n"));
            }
            Fix::Unset | Fix::Value(_) if overridden && main_suffices => {
                commands.unset_for_service(id, parameter)
            }
            Fix::Value(value) if context.duty != Duty::Any && SET_BY_SERVICE.contains(&parameter) => {
                let place = Place::parameter(Some(id.to_string()), parameter);
                return (place, commands.set_for_service(id, parameter, value));
            }
            Fix::Unset if overridden => commands.unset_for_service(id, parameter),
            Fix::Unset => commands.unset(parameter),
            Fix::Value(value) | Fix::ValueInPlace(value) if in_master_cf => {
                commands.set_for_service(id, parameter, value)
            }
            Fix::Value(value) | Fix::ValueInPlace(value) => commands.set(parameter, value),
        };
        (
            Place::parameter(in_master_cf.then(|| id.to_string()), parameter),
            help,
        )
    }

    /// Returns the transports of outgoing mail that this trivial-rewrite chooses, and checks them.
    fn check_transports(&mut self, service: &'a Service, route: Route) -> Vec<String> {
        let context = self.context(service, Duty::Any);
        let mut names = Vec::new();
        for parameter in ["default_transport", "relay_transport"] {
            let (name, next_hop) = match context.value(parameter).split_once(':') {
                Some((name, next_hop)) => (name, next_hop),
                None => (context.value(parameter), ""),
            };
            names.push(name.to_owned());
            let is_client = smtp_clients(self.config).any(|client| client.id.name == name);
            let advice = "set it to a transport without a next hop, for example smtp:".to_owned();
            let (place, command) = self.place_and_help(parameter, context, &Fix::Unset, false);
            match parameter {
                // They deliver only mail that has no relay.
                _ if route == Route::Services => {}
                "default_transport" if !is_client => self.add(
                    place,
                    Code::DefaultTransport,
                    "this transport is not an SMTP client in master.cf, and only SMTP clients query postmapd for \
                     passwords",
                    command,
                ),
                "default_transport" if !next_hop.is_empty() => self.add(
                    place,
                    Code::DefaultTransport,
                    "its next hop applies to all mail and overrides the sender's",
                    command,
                ),
                "relay_transport" if is_client && !next_hop.is_empty() => self.add(
                    place,
                    Code::RelayTransport,
                    "mail to relay_domains goes to this next hop instead of the sender's, and Postfix offers it the \
                     sender's password",
                    advice,
                ),
                _ => {}
            }
        }
        names
    }

    /// Reports tables of this server in other parameters, where replies mean something else and Postfix would log them.
    fn check_misplaced_tables(&mut self) {
        let config = self.config;
        for (service, parameter, value) in config.all_values() {
            if MAY_NAME_OWN_TABLES.contains(&parameter) || !config.has_parameter(parameter) {
                continue;
            }
            // A default has such a table only from another parameter ($transport_maps), which is reported.
            if service.is_none() && config.written_in_main_cf(parameter).is_none() {
                continue;
            }
            let is_own_table = |table: &str| {
                let inner = table.strip_prefix("proxy:").unwrap_or(table);
                match self.addressing.table_owner(inner, false) {
                    TableOwner::ThisServer(map) | TableOwner::Unreachable(map) => !is_for(map, parameter),
                    _ => false,
                }
            };
            let (own, others): (Vec<&str>, Vec<&str>) =
                table_list::tables(value).partition(|table| is_own_table(table));
            if own.is_empty() {
                continue;
            }
            let commands = &config.commands;
            let help = match service {
                _ if !others.is_empty() => "remove postmapd's table from it".to_owned(),
                Some(service) => commands.unset_for_service(service, parameter),
                None => commands.set(parameter, ""),
            };
            self.add(
                Place::parameter(service.map(ToString::to_string), parameter),
                Code::MapElsewhere,
                "postmapd has no map for this parameter: Postfix would use passwords and next hops for another \
                 purpose, and log them",
                help,
            );
        }
    }

    fn check_misspelt(&mut self, requirements: &[Requirement]) {
        for name in &self.config.unused {
            let names = requirements.iter().map(|requirement| requirement.parameter);
            if let Some(near) = nearest(name, names) {
                self.add(
                    Place::parameter(None, name),
                    Code::UnusedParameter,
                    &format!("Postfix has no such parameter; it resembles {near}"),
                    self.config.commands.unset(name),
                );
            }
        }
    }

    fn check_delimiter(&mut self, delimiters: &Delimiters) {
        let of_postfix = self.config.main_cf("recipient_delimiter");
        if Delimiters::new(of_postfix).as_ref() == Some(delimiters) {
            return;
        }
        let list = |characters: &str| match characters {
            "" => "no character".to_owned(),
            _ => characters.to_owned(),
        };
        // A value that is not a delimiter may be a secret in the wrong place.
        let is_delimiter = of_postfix.bytes().all(|c| c.is_ascii_punctuation());
        let (theirs, value) = if is_delimiter {
            (list(of_postfix), format!("{of_postfix:?}"))
        } else {
            ("other characters".to_owned(), "the same characters".to_owned())
        };
        let ours = list(&delimiters.to_string());
        self.add(
            Place::parameter(None, "recipient_delimiter"),
            Code::RecipientDelimiter,
            &format!("Postfix splits address extensions at {theirs}, postmapd at {ours}"),
            format!("set recipient_delimiter in postmapd.toml to {value}"),
        );
    }

    fn check_other_instances(&mut self) {
        let config = self.config;
        if config.commands.directory.is_none() && !config.main_cf("multi_instance_directories").is_empty() {
            self.add(
                Place::parameter(None, "multi_instance_directories"),
                Code::OtherInstances,
                "Postfix has other instances, each with its own main.cf",
                "check each with -c DIR".to_owned(),
            );
        }
    }

    fn add(&mut self, place: Place, code: Code, message: &str, help: String) {
        self.push(Finding::new(code, place).message(message).help(help));
    }

    /// Adds a finding, unless another service has the same.
    fn push(&mut self, finding: Finding) {
        let is_duplicate = |known: &Finding| known.code == finding.code && known.place == finding.place;
        if !self.findings.iter().any(is_duplicate) {
            self.findings.push(finding);
        }
    }
}
