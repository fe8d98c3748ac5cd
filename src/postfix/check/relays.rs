//! Checks the services of master.cf that deliver to relays.

use super::{Checker, Role, smtp_clients};
use crate::diagnostics::{Code, Finding, Place, Severity};
use crate::lookup::map::Map;
use crate::postfix::addressing::Unaddressable;
use crate::postfix::config::Service;
use crate::postfix::issue::Duty;
use crate::postfix::relay_services::{self, RelayServices};
use crate::postfix::requirements::{Daemon, Requirement};
use crate::postfix::service_limits;

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
