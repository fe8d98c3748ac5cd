//! What the settings of an installed Postfix would make of a relay that was tried.
//!
//! Only what certainly changes the result of a trial is noted. `postconf --check` compares all settings.

use super::super::print_message;
use super::job::Job;
use crate::lookup::nexthop;
use crate::lookup::tls_policy::{self, Level, Mode};
use crate::postfix::command::{Commands, ServiceName};
use crate::postfix::config::PostfixConfig;
use crate::probe::{ClientSettings, LoginResult, Outcome};

/// The service that delivers where the map `transport` is not used.
const DEFAULT_SERVICE: &str = "smtp";

/// An installed Postfix.
pub(super) struct LivePostfix(PostfixConfig);

impl LivePostfix {
    /// Reads its configuration, if there is one.
    pub(super) fn read() -> Option<Self> {
        match PostfixConfig::read(Commands::default()) {
            Ok(config) => Some(Self(config)),
            Err(error) if error.is_absent() => None,
            Err(error) => {
                print_message(format_args!("the settings of Postfix are not compared: {error}"));
                None
            }
        }
    }

    /// Returns how its SMTP client finds and greets a server.
    pub(super) fn client_settings(&self) -> ClientSettings {
        let service = ServiceName::unix(DEFAULT_SERVICE);
        let has_word = |parameter: &str, wanted: &str| {
            let mut words = self.0.value(&service, parameter).split([',', ' ', ':']);
            words.any(|word| word.eq_ignore_ascii_case(wanted))
        };
        let uses = |protocol| has_word("inet_protocols", protocol) || has_word("inet_protocols", "all");
        let helo_name = self.0.value(&service, "smtp_helo_name");
        ClientSettings {
            helo_name: nexthop::is_host_name(helo_name.as_bytes()).then(|| helo_name.to_owned()),
            reads_hosts_file: has_word("smtp_host_lookup", "native"),
            uses_ipv4: uses("ipv4"),
            uses_ipv6: uses("ipv6"),
        }
    }

    /// Returns what Postfix would do otherwise, and because of which setting.
    pub(super) fn notes(&self, job: &Job, outcome: &Outcome) -> Vec<String> {
        if !outcome.connected {
            return Vec::new();
        }
        let service = self.service(job);
        let value = |parameter: &str| self.0.value(&service, parameter);
        let is_yes = |parameter: &str| value(parameter).eq_ignore_ascii_case("yes");
        let forbids_plain_text = |parameter: &str| {
            let mut words = value(parameter).split([',', ' ']);
            words.any(|word| word.eq_ignore_ascii_case("noplaintext"))
        };
        let mut notes = Vec::new();
        let mut note = |text: &str| notes.push(format!("Postfix, service {service}: {text}"));
        match job.mode() {
            Some(Mode::Implicit) if !is_yes("smtp_tls_wrappermode") => note(
                "smtp_tls_wrappermode is off, so it waits in vain for the greeting of a relay with implicit TLS",
            ),
            Some(Mode::Starttls) if is_yes("smtp_tls_wrappermode") => {
                note("smtp_tls_wrappermode is on, so it cannot use a relay with STARTTLS");
            }
            _ => {}
        }
        let level = tls_policy::parse(outcome.policy.as_bytes())
            .ok()
            .and_then(|setting| setting.policy)
            .map(|policy| policy.level);
        if level.is_some_and(|level| level > Level::May) && value("smtp_tls_policy_maps").is_empty() {
            note(
                "smtp_tls_policy_maps is empty, so smtp_tls_security_level applies and not the policy of the relay",
            );
        }
        let has_authorities = is_yes("tls_append_default_CA")
            || ["smtp_tls_CAfile", "smtp_tls_CApath"]
                .iter()
                .any(|parameter| !value(parameter).is_empty());
        let needs_authorities = matches!(level, Some(Level::Verify | Level::Secure))
            && !outcome.policy.to_ascii_lowercase().contains("tafile=");
        if needs_authorities && !has_authorities {
            note("smtp_tls_CAfile and smtp_tls_CApath are empty, so no certificate meets the policy");
        }
        if outcome.user.is_some() && !is_yes("smtp_sasl_auth_enable") {
            note("smtp_sasl_auth_enable is off, so it does not log in");
        }
        if outcome.login == LoginResult::Accepted {
            let parameter = match outcome.tls {
                Some(_) => "smtp_sasl_tls_security_options",
                None => "smtp_sasl_security_options",
            };
            let is_plain_text = |name: &String| ["PLAIN", "LOGIN"].contains(&name.as_str());
            if outcome.auth.iter().all(is_plain_text) && forbids_plain_text(parameter) {
                note(&format!(
                    "noplaintext in {parameter} forbids the mechanisms that the relay offers, so it does not log in"
                ));
            }
        }
        notes
    }

    /// Returns the service that delivers to this relay.
    fn service(&self, job: &Job) -> ServiceName {
        let uses_transport = !self
            .0
            .main_cf("sender_dependent_default_transport_maps")
            .is_empty();
        let named = job.service.as_ref().filter(|_| uses_transport);
        let named = named.map(|name| ServiceName::unix(name));
        let named = named.filter(|id| self.0.services.iter().any(|service| service.id == *id));
        named.unwrap_or_else(|| ServiceName::unix(DEFAULT_SERVICE))
    }
}
