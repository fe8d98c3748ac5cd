//! The services of master.cf that deliver to relays, for the map `transport`.
//!
//! Implicit TLS is a property of a service (`smtp_tls_wrappermode`); no policy and no port switches it on. A service of
//! its own also keeps the login away from directly delivered mail.

use std::collections::BTreeSet;

use super::addressing::{Addressing, Unaddressable};
use super::command::{Commands, ServiceName};
use super::config::PostfixConfig;
use super::issue::Duty;
use super::requirements::{self, Expectation, Requirement};
use crate::lookup::map::Map;
use crate::lookup::relay_tls::{RelayTls, Services};
use crate::lookup::tls_policy::Mode;

/// The service of Postfix that delivers all mail by default. As the service for STARTTLS, it makes another one for it
/// unnecessary.
const DIRECT: &str = "smtp";

/// A service that delivers to relays.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RelayService {
    /// Its name.
    pub name: String,
    /// Whether it begins with TLS.
    pub is_implicit: bool,
    /// Whether a relay of the directory needs it now.
    pub is_used: bool,
    /// Whether only entries of the TLS file name it (`via=`), so that the administrator may have given it more options.
    is_own: bool,
}

/// The services that the settings and the directory name.
#[derive(Debug)]
pub(crate) struct RelayServices {
    all: Vec<RelayService>,
    /// Whether a relay of the directory uses implicit TLS.
    pub has_implicit: bool,
    /// Whether relays with STARTTLS have a service of their own.
    pub is_separate: bool,
}

impl RelayServices {
    /// Returns the services that the settings name, and those of single relays (`via=`).
    pub(crate) fn new(services: &Services, relays: &RelayTls) -> Self {
        let used: BTreeSet<(&str, bool)> = relays
            .services()
            .map(|(service, mode)| (service.as_str(), mode == Mode::Implicit))
            .collect();
        let named = [
            (services.starttls.as_str(), false),
            (services.implicit.as_str(), true),
        ];
        let others = used.iter().copied().filter(|service| !named.contains(service));
        let service = |(name, is_implicit): (&str, bool)| RelayService {
            name: name.to_owned(),
            is_implicit,
            is_used: used.contains(&(name, is_implicit)),
            is_own: !named.iter().any(|(named, _)| *named == name),
        };
        Self {
            all: named.into_iter().chain(others).map(service).collect(),
            has_implicit: used.iter().any(|(_, is_implicit)| *is_implicit),
            is_separate: services.starttls.as_str() != DIRECT,
        }
    }

    /// Returns the services.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &RelayService> {
        self.all.iter()
    }

    /// Whether a service of this name is among them.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.iter().any(|service| service.name == name)
    }

    /// Returns the services that master.cf needs beside those of every Postfix. One with `via=` that it has is not among
    /// them: its other options would be lost.
    pub(crate) fn to_add(&self, config: Option<&PostfixConfig>) -> impl Iterator<Item = &RelayService> {
        let exists = move |service: &RelayService| {
            let mut present = config.into_iter().flat_map(|config| &config.services);
            present.any(|present| present.id == service.id())
        };
        self.iter()
            .filter(move |service| service.name != DIRECT && !(service.is_own && exists(service)))
    }
}

impl RelayService {
    /// Returns its name in master.cf.
    pub(crate) fn id(&self) -> ServiceName {
        ServiceName::unix(&self.name)
    }

    /// Returns what it delivers.
    pub(crate) fn duty(&self) -> Duty {
        if self.is_implicit {
            Duty::Implicit
        } else {
            Duty::Starttls
        }
    }

    /// Returns which mail it is for, as a sentence.
    pub(crate) fn rationale(&self) -> String {
        let mode = if self.is_implicit {
            "implicit TLS, as on port 465"
        } else {
            "STARTTLS"
        };
        format!("Relays with {mode}. `secure` is for a relay that has just been removed, and has no policy.")
    }

    /// Returns its parameters that differ from main.cf. A table through proxymap(8) is not among them, because
    /// proxymap(8) approves only tables of main.cf.
    pub(crate) fn options(&self, addressing: &Addressing) -> Result<Vec<(String, String)>, Unaddressable> {
        let mut options = vec![("syslog_name".to_owned(), format!("postfix/{}", self.name))];
        let mut add = |parameter: &str, value: &str| options.push((parameter.to_owned(), value.to_owned()));
        if self.is_implicit {
            add("smtp_tls_wrappermode", "yes");
        }
        add("smtp_tls_security_level", "secure");
        let policies = addressing.table(Map::TLS)?;
        if !is_proxied(&policies) {
            add(Map::TLS.parameter, &policies);
        }
        add("smtp_sasl_auth_enable", "yes");
        Ok(options)
    }

    /// Returns its entry in master.cf, with each option after `separator`.
    pub(crate) fn entry(&self, options: &[(String, String)], separator: &str) -> String {
        let mut entry = format!("{} unix - - - - - smtp", self.name);
        for (parameter, value) in options {
            entry.extend([separator, "-o ", parameter, "=", &value.replace(", ", ",")]);
        }
        entry
    }

    /// Returns a command that adds it to master.cf.
    pub(crate) fn command(
        &self,
        addressing: &Addressing,
        commands: &Commands,
    ) -> Result<String, Unaddressable> {
        let entry = self.entry(&self.options(addressing)?, " ");
        Ok(commands.set_service(&self.id(), &entry))
    }
}

/// Returns the requirements of main.cf beside separate services, from those of a service that delivers to relays: other
/// mail is sent without a login.
pub(crate) fn of_direct_mail(mut requirements: Vec<Requirement>) -> Vec<Requirement> {
    requirements.retain(|requirement| {
        requirement.expectation != Expectation::Table(Map::TLS) || is_proxied(&requirement.value)
    });
    for requirement in &mut requirements {
        if requirement.parameter == "smtp_sasl_auth_enable" {
            "no".clone_into(&mut requirement.value);
            requirement.rationale =
                "Only the services for relays log in, so no other server is offered a password.".into();
        }
    }
    requirements
}

/// Returns the requirements of one service, from those of a service that delivers to relays and other mail.
pub(crate) fn of_service(requirements: &[Requirement], duty: Duty) -> Vec<Requirement> {
    let mut own = requirements.to_vec();
    if duty != Duty::Any {
        own.retain(|requirement| requirement.expectation != Expectation::Tls);
        own.push(requirements::mandatory_tls());
    }
    if duty == Duty::Implicit {
        own.push(requirements::implicit_tls());
    }
    own
}

fn is_proxied(table: &str) -> bool {
    table.starts_with("proxy:")
}
