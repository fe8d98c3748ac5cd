//! Checks the services of master.cf that deliver to relays.

use super::{Checker, Role, smtp_clients};
use crate::diagnostics::{Code, Finding, Place, Severity};
use crate::lookup::map::Map;
use crate::postfix::addressing::Unaddressable;
use crate::postfix::config::Service;
use crate::postfix::issue::{Duty, Fix};
use crate::postfix::relay_domains;
use crate::postfix::relay_services::{self, RelayServices};
use crate::postfix::requirements::{Daemon, Requirement};
use crate::postfix::service_limits;
use crate::postfix::table_list;

impl Checker<'_> {
    /// Checks the services that deliver to relays. `direct`: those that deliver other mail.
    pub(super) fn check_relay_services(
        &mut self,
        requirements: &[Requirement],
        relay_services: &RelayServices,
        direct: &[String],
    ) -> Result<(), Unaddressable> {
        let config = self.config;
        for relay in relay_services.iter() {
            let Some(service) = smtp_clients(config).find(|service| service.id == relay.id()) else {
                let place = Place::parameter(Some(relay.id().to_string()), "command");
                let mut finding = Finding::new(Code::NoRelayService, place)
                    .message(
                        "the map transport names this service, and master.cf has no such SMTP client: mail to the \
                         relays that need it stays in the queue",
                    )
                    .help(relay.command(self.addressing, &config.commands)?);
                if !relay.is_used {
                    finding.severity = Severity::Warning;
                }
                self.push(finding);
                continue;
            };
            let is_direct = direct.contains(&relay.name);
            let duty = if is_direct && !relay.is_implicit {
                Duty::Any
            } else {
                relay.duty()
            };
            let own = relay_services::of_service(requirements, duty);
            self.check_service(&own, Daemon::Smtp, service, Role::MainRoute, duty);
            for name in direct.iter().filter(|name| **name != relay.name) {
                for (limit, own) in service_limits::missing(config, name, relay) {
                    self.add(
                        Place::parameter(None, &own),
                        Code::LimitsByName,
                        &format!("{limit} does not apply to mail that this service delivers to relays"),
                        config.commands.set(&own, &format!("${limit}")),
                    );
                }
            }
        }
        Ok(())
    }

    /// Reports a service that delivers mail to `relay_domains` without the map `transport`, and logs in.
    pub(super) fn check_relay_domains(&mut self, rewriter: &Service, relay_services: &RelayServices) {
        const TRANSPORT: &str = "relay_transport";
        let config = self.config;
        let value = |parameter| config.value(&rewriter.id, parameter);
        // With the map relayhost, the mail goes to the sender's relay.
        if value("relay_domains").is_empty() || !value(Map::RELAYHOST.parameter).is_empty() {
            return;
        }
        let name = relay_domains::name_of(value(TRANSPORT));
        let Some(service) = relay_domains::client(config, name).filter(|service| self.offers_logins(service))
        else {
            return;
        };
        let (place, help) = if relay_services.has(name) {
            let can_deliver = !relay_services.has(relay_domains::DEFAULT)
                && relay_domains::client(config, relay_domains::DEFAULT).is_some();
            let fix = if can_deliver {
                Fix::Value(relay_domains::DEFAULT.into())
            } else {
                Fix::Advice(
                    "set it to an SMTP client in master.cf with -o smtp_sasl_auth_enable=no that is not a service for \
                     relays"
                        .into(),
                )
            };
            self.place_and_help(TRANSPORT, self.context(rewriter, Duty::Any), &fix, false)
        } else {
            (
                Place::parameter(Some(service.id.to_string()), relay_domains::LOGIN),
                config
                    .commands
                    .set_for_service(&service.id, relay_domains::LOGIN, "no"),
            )
        };
        self.add(
            place,
            Code::LoginForRelayDomains,
            "mail to relay_domains goes to the servers of these domains by a service that logs in, and Postfix offers them \
             the sender's password",
            help,
        );
    }

    /// Whether this SMTP client offers the login of a sender to each server.
    pub(super) fn offers_logins(&self, service: &Service) -> bool {
        let context = self.context(service, Duty::Any);
        let is_yes = |parameter| context.value(parameter).eq_ignore_ascii_case("yes");
        is_yes(relay_domains::LOGIN)
            && is_yes("smtp_sender_dependent_authentication")
            && table_list::queries(context, Map::SASL, context.value(Map::SASL.parameter))
    }

    /// Reports relays with implicit TLS, if no service for them can be in use.
    pub(super) fn check_implicit_relays(&mut self, main_route: &[String]) {
        let config = self.config;
        let begins_with_tls = |service: &Service| {
            let wrappermode = config.value(&service.id, "smtp_tls_wrappermode");
            wrappermode.eq_ignore_ascii_case("yes")
        };
        let mut clients = smtp_clients(config).filter(|service| main_route.contains(&service.id.name));
        if !clients.any(begins_with_tls) {
            self.add(
                Place::parameter(None, Map::TRANSPORT.parameter),
                Code::NoServices,
                "a relay uses implicit TLS, for which Postfix needs a service in master.cf; mail to it stays in the queue",
                "use the lines that `postmapd postconf --services` prints".to_owned(),
            );
        }
    }
}
