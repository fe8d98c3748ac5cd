//! The service of master.cf that delivers mail to `relay_domains`.
//!
//! Postfix does not query the map `transport` for these recipients: `relay_transport` delivers their mail to the server of
//! the domain. An SMTP client that logs in looks up the sender's login first, whatever the server, so this service must
//! not log in.

use super::command::{Commands, ServiceName};
use super::config::{PostfixConfig, Service};
use super::relay_services::RelayServices;

/// The service in Postfix's default `relay_transport`.
pub(super) const DEFAULT: &str = "relay";

/// The parameter that switches the login off.
pub(super) const LOGIN: &str = "smtp_sasl_auth_enable";

/// Why the service does not log in: a sentence for the user.
pub(super) const RATIONALE: &str = "It delivers mail to relay_domains, and would offer the sender's password to the servers of these domains.";

/// The service for mail to `relay_domains`, where the service of direct mail logs in.
#[derive(Debug)]
pub(crate) struct RelayDomainsService {
    /// Its name in master.cf.
    pub id: ServiceName,
    /// Its entry in master.cf, without the login; `None` if an option of the present one may contain a password.
    ///
    /// It may stand behind the present one: the last entry of a service is the one that takes effect (master(5)).
    pub entry: Option<String>,
}

impl RelayDomainsService {
    /// Returns the service that must not log in. `config`: the Postfix, if it is known. `None` if it has no such SMTP
    /// client, or if the lines for main.cf already let only the services for relays log in.
    pub(crate) fn new(config: Option<&PostfixConfig>, services: &RelayServices) -> Option<Self> {
        if services.is_separate {
            return None;
        }
        let Some(config) = config else {
            return Some(Self {
                id: ServiceName::unix(DEFAULT),
                entry: Some(format!("{DEFAULT} unix - - - - - smtp\n  -o {LOGIN}=no")),
            });
        };
        let configured = name_of(config.main_cf("relay_transport"));
        let name = if services.has(configured) {
            DEFAULT
        } else {
            configured
        };
        let service = client(config, name)?;
        let is_public = config.options(&service.id).all(|(parameter, value)| {
            parameter == "syslog_name" || (config.has_parameter(parameter) && !value.contains(':'))
        });
        let is_off = config.options(&service.id).any(|option| option == (LOGIN, "no"));
        let mut entry = format!("{name} unix {} {}", service.columns.join(" "), service.command);
        if !is_off {
            entry.extend(["\n  -o ", LOGIN, "=no"]);
        }
        Some(Self {
            id: service.id.clone(),
            entry: is_public.then_some(entry),
        })
    }

    /// Returns a command that switches its login off.
    pub(crate) fn command(&self, commands: &Commands) -> String {
        commands.set_for_service(&self.id, LOGIN, "no")
    }
}

/// Returns the service that a transport names.
pub(super) fn name_of(transport: &str) -> &str {
    transport.split(':').next().unwrap_or_default()
}

/// Returns the SMTP client of this name.
pub(super) fn client<'a>(config: &'a PostfixConfig, name: &str) -> Option<&'a Service> {
    let id = ServiceName::unix(name);
    config
        .services
        .iter()
        .find(|service| service.id == id && service.program == "smtp")
}
