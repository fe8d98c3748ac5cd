//! Checks an installed Postfix as a whole: which service reads which parameter, what defeats postmapd or leaks a
//! password, and the command that fixes it.
//!
//! Each service is checked with the values that take effect for it: `-o` in master.cf overrides main.cf. Every
//! trivial-rewrite is checked, and the SMTP clients that `default_transport` and `relay_transport` name, because they
//! deliver the mail that postmapd routes. Other SMTP clients get mail that has its own next hop (a content filter, an
//! entry of `transport_maps`). They are checked for leaks only; if main.cf may assign transports to senders, they are
//! checked for everything, with warnings.
//!
//! An error defeats postmapd or leaks a password. A warning reports something that may be intended.

use super::judge;
use super::live::{Live, Service};
use super::obstacles::OBSTACLES;
use super::reach::{Kinship, NoName, Reach};
use super::stricter;
use super::table_list;
use super::verbose;
use super::verdict::{Cure, Site, Verdict};
use super::wanted::{self, Reader, Wanted};
use crate::config::nearest;
use crate::diagnostics::{Code, Finding, Findings, Leak, Place, Severity};
use crate::lookup::address::Delimiters;

/// Parameters beside the requirements that may name a table of this server.
const MAY_HOLD_OUR_TABLES: [&str; 5] = [
    "lmtp_sasl_password_maps",
    "address_verify_sender_dependent_relayhost_maps",
    "sender_dependent_relayhost_maps",
    "smtp_sasl_password_maps",
    "proxy_read_maps",
];

/// Checks a Postfix against the requirements of a server with this addressing. Fails if main.cf cannot name the server.
pub(crate) fn check(live: &Live, reach: &Reach, delimiters: &Delimiters) -> Result<Findings, NoName> {
    let mut check = Check {
        live,
        reach,
        findings: Vec::new(),
    };
    let mut wanted = wanted::parameters(reach)?;
    stricter::keep(&mut wanted, live);
    let rewriters: Vec<&Service> = live
        .services
        .iter()
        .filter(|service| service.program == "trivial-rewrite")
        .collect();
    if rewriters.is_empty() {
        check.add(
            Place::parameter(Some("rewrite/unix".to_owned()), "command"),
            Code::NoRewrite,
            "master.cf has no trivial-rewrite service, without which Postfix routes no mail",
            "put the line of rewrite back into master.cf".to_owned(),
        );
    }
    let mut main_route = Vec::new();
    for service in &rewriters {
        check.service(&wanted, Reader::Rewrite, service, Role::MainRoute);
        main_route.extend(check.transports(service));
    }
    for service in clients(live).filter(|service| main_route.contains(&service.id.name)) {
        check.service(&wanted, Reader::Client, service, Role::MainRoute);
    }
    let by_sender = rewriters.iter().any(|service| {
        let tables = live.value(&service.id, "sender_dependent_default_transport_maps");
        !tables.is_empty()
    });
    let role = if by_sender { Role::BySender } else { Role::Other };
    for service in clients(live).filter(|service| !main_route.contains(&service.id.name)) {
        if live
            .value(&service.id, "smtp_sasl_auth_enable")
            .eq_ignore_ascii_case("yes")
            || by_sender
        {
            check.service(&wanted, Reader::Client, service, role);
        }
    }
    check.our_tables_elsewhere();
    check.misspelt(&wanted);
    check.delimiter(delimiters);
    check.other_instances();
    let mut findings = Findings::default();
    check
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

fn clients(live: &Live) -> impl Iterator<Item = &Service> {
    let services = live.services.iter();
    services.filter(|service| service.program == "smtp" && service.id.kind == "unix")
}

struct Check<'a> {
    live: &'a Live,
    reach: &'a Reach,
    findings: Vec<Finding>,
}

impl<'a> Check<'a> {
    fn site(&self, service: &'a Service) -> Site<'a> {
        Site {
            live: self.live,
            service,
            reach: self.reach,
        }
    }

    /// Checks all parameters that a service reads.
    fn service(&mut self, wanted: &[Wanted], reader: Reader, service: &'a Service, role: Role) {
        let site = self.site(service);
        if reader == Reader::Client {
            self.verbose(service, "smtp(8)");
            if let Some(proxymap) = table_list::proxymap_for_passwords(site) {
                self.verbose(proxymap, "proxymap(8)");
            }
        }
        for wanted in wanted.iter().filter(|wanted| wanted.reader == reader) {
            self.parameter(wanted.parameter, site, role, |value| {
                judge::judge(wanted, value, site)
            });
        }
        for obstacle in OBSTACLES.iter().filter(|obstacle| obstacle.reader == reader) {
            self.parameter(obstacle.parameter, site, role, |value| {
                let stands = (obstacle.stands)(value, site);
                let verdict = || Verdict::new(obstacle.code, obstacle.message, obstacle.cure.clone());
                stands.then(verdict).into_iter().collect()
            });
        }
    }

    /// Reports a service that writes passwords into the log.
    fn verbose(&mut self, service: &Service, program: &str) {
        if verbose::is_verbose(service) {
            self.add(
                Place::parameter(Some(service.id.to_string()), "command"),
                Code::PasswordsLogged,
                &format!("with -v, {program} writes every password that it gets into the log"),
                format!(
                    "take -v out of the line of {} in master.cf, postfix reload, and change the passwords if others \
                     can read the log",
                    service.id
                ),
            );
        }
    }

    fn parameter(
        &mut self,
        parameter: &str,
        site: Site<'a>,
        role: Role,
        judge: impl Fn(&str) -> Vec<Verdict>,
    ) {
        let main_does = || {
            let verdicts = judge(self.live.main(parameter));
            verdicts
                .iter()
                .all(|verdict| verdict.code.severity() != Severity::Error)
        };
        let verdicts = judge(site.value(parameter));
        // Evaluated only if there is something to fix.
        let main_does = !verdicts.is_empty() && main_does();
        for verdict in verdicts {
            let (place, help) = self.mend(parameter, site, &verdict.cure, main_does);
            let mut finding = Finding::new(verdict.code, place).says(verdict.message).help(help);
            match (role, verdict.code.leak()) {
                (Role::MainRoute, _) | (_, Leak::All) => {}
                (Role::Other, Leak::Nothing) => continue,
                _ => finding.severity = Severity::Warning,
            }
            self.push(finding);
        }
    }

    /// Returns the place of the value, and the command or the advice that fixes it. `main_suffices`: whether the value
    /// of main.cf has no error for this service.
    fn mend(&self, parameter: &str, site: Site<'_>, cure: &Cure, main_does: bool) -> (Place, String) {
        let commands = &self.live.commands;
        let id = &site.service.id;
        let overridden = self.live.is_overridden(id, parameter);
        // Also true if the value is a default that refers to another parameter, which the service overrides.
        let own = overridden || site.value(parameter) != self.live.main(parameter);
        let help = match cure {
            Cure::Advice(advice) => advice.to_string(),
            Cure::Unjail(service) => {
                let place = Place::parameter(Some(service.to_string()), "chroot");
                return (place, commands.set_column(service, "chroot", "n"));
            }
            Cure::Unset | Cure::Value(_) if overridden && main_does => commands.unset_for(id, parameter),
            Cure::Unset if overridden => commands.unset_for(id, parameter),
            Cure::Unset => commands.unset(parameter),
            Cure::Value(value) | Cure::Here(value) if own => commands.set_for(id, parameter, value),
            Cure::Value(value) | Cure::Here(value) => commands.set(parameter, value),
        };
        (Place::parameter(own.then(|| id.to_string()), parameter), help)
    }

    /// Returns the transports of outgoing mail that this trivial-rewrite chooses, and checks them.
    fn transports(&mut self, service: &'a Service) -> Vec<String> {
        let site = self.site(service);
        let mut names = Vec::new();
        for parameter in ["default_transport", "relay_transport"] {
            let (name, next_hop) = match site.value(parameter).split_once(':') {
                Some((name, next_hop)) => (name, next_hop),
                None => (site.value(parameter), ""),
            };
            names.push(name.to_owned());
            let is_client = clients(self.live).any(|client| client.id.name == name);
            let advice = "name smtp: there, without a next hop".to_owned();
            let (place, command) = self.mend(parameter, site, &Cure::Unset, false);
            match parameter {
                "default_transport" if !is_client => self.add(
                    place,
                    Code::DefaultTransport,
                    "mail does not leave by an SMTP client of master.cf, and only that asks postmapd for a password",
                    command,
                ),
                "default_transport" if !next_hop.is_empty() => self.add(
                    place,
                    Code::DefaultTransport,
                    "its next hop is one for everyone, and wins over the sender's",
                    command,
                ),
                "relay_transport" if is_client && !next_hop.is_empty() => self.add(
                    place,
                    Code::RelayTransport,
                    "mail to relay_domains goes to that next hop whatever the sender's is, and the sender's password \
                     is offered there",
                    advice,
                ),
                _ => {}
            }
        }
        names
    }

    /// Reports tables of this server in other parameters, where replies mean something else and Postfix would log them.
    fn our_tables_elsewhere(&mut self) {
        let live = self.live;
        for (service, parameter, value) in live.everything() {
            if MAY_HOLD_OUR_TABLES.contains(&parameter) || !live.knows(parameter) {
                continue;
            }
            let is_ours = |table: &str| {
                let inner = table.strip_prefix("proxy:").unwrap_or(table);
                matches!(
                    self.reach.kinship(inner, false),
                    Kinship::Ours(_) | Kinship::Hidden(_)
                )
            };
            let (ours, others): (Vec<&str>, Vec<&str>) =
                table_list::tables(value).partition(|table| is_ours(table));
            if ours.is_empty() {
                continue;
            }
            let commands = &live.commands;
            let help = match service {
                _ if !others.is_empty() => "take postmapd's table out of it".to_owned(),
                Some(service) => commands.unset_for(service, parameter),
                None => commands.set(parameter, ""),
            };
            self.add(
                Place::parameter(service.map(ToString::to_string), parameter),
                Code::MapElsewhere,
                "it asks postmapd for something that postmapd does not answer: passwords and next hops would be taken \
                 for other things here, and logged",
                help,
            );
        }
    }

    fn misspelt(&mut self, wanted: &[Wanted]) {
        for name in &self.live.unused {
            let names = wanted.iter().map(|wanted| wanted.parameter);
            if let Some(near) = nearest(name, names) {
                self.add(
                    Place::parameter(None, name),
                    Code::UnusedParameter,
                    &format!("Postfix does not know this parameter; {near} is meant, perhaps"),
                    self.live.commands.unset(name),
                );
            }
        }
    }

    fn delimiter(&mut self, delimiters: &Delimiters) {
        if Delimiters::new(self.live.main("recipient_delimiter")).as_ref() != Some(delimiters) {
            self.add(
                Place::parameter(None, "recipient_delimiter"),
                Code::RecipientDelimiter,
                "postmapd parts address extensions otherwise than Postfix does",
                "set recipient_delimiter in postmapd.toml to the same characters".to_owned(),
            );
        }
    }

    fn other_instances(&mut self) {
        let live = self.live;
        if live.commands.directory.is_none() && !live.main("multi_instance_directories").is_empty() {
            self.add(
                Place::parameter(None, "multi_instance_directories"),
                Code::OtherInstances,
                "there are other instances of Postfix, each with a main.cf of its own",
                "check each with -c DIR".to_owned(),
            );
        }
    }

    fn add(&mut self, place: Place, code: Code, message: &str, help: String) {
        self.push(Finding::new(code, place).says(message).help(help));
    }

    /// Adds a finding, unless another service has the same.
    fn push(&mut self, finding: Finding) {
        let is_known = |known: &Finding| known.code == finding.code && known.place == finding.place;
        if !self.findings.iter().any(is_known) {
            self.findings.push(finding);
        }
    }
}
