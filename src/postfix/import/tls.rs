//! Converts transports by sender and TLS policies to lines of the relay map and the TLS file.
//!
//! - A transport `service:next hop` becomes the next hop of its sender, and `via=service` for that next hop, so that the
//!   map `transport` returns the same value. The mode is that of the service's `smtp_tls_wrappermode`.
//! - A TLS policy of a next hop is copied. Policies of other keys are for mail that is delivered directly; they are left
//!   out, because postmapd returns policies of its next hops only.
//!
//! Errors are a transport without a next hop (`smtp:`), one of a service that is not an SMTP client (`error:`), a next hop
//! with two services, and a policy that Postfix refuses.

use std::collections::BTreeMap;

use super::convert::{Entry, Remark};
use crate::lookup::address::fold_into;
use crate::lookup::nexthop;
use crate::lookup::tls_policy::{self, Mode, ServiceName};
use crate::os::secret::Secret;

/// The parameter with the transports.
pub(crate) const TRANSPORTS: &str = "sender_dependent_default_transport_maps";
/// The parameter with the TLS policies.
pub(crate) const POLICIES: &str = "smtp_tls_policy_maps";

/// A service of master.cf that is an SMTP client.
pub(crate) struct SmtpClient {
    /// Its name.
    pub name: String,
    /// Whether it speaks implicit TLS.
    pub mode: Mode,
}

/// The entries of the TLS file, by folded next hop.
#[derive(Default)]
pub(crate) struct TlsEntries {
    entries: BTreeMap<Vec<u8>, TlsEntry>,
    /// Notes on the entries that are not converted.
    pub remarks: Vec<Remark>,
    /// The number of policies that are for other keys than next hops.
    pub other_policies: usize,
}

#[derive(Default)]
struct TlsEntry {
    mode: Option<Mode>,
    policy: Vec<u8>,
    service: Option<ServiceName>,
}

fn folded(next_hop: &[u8]) -> Vec<u8> {
    let mut folded = Vec::new();
    fold_into(next_hop, &mut folded);
    folded
}

impl TlsEntries {
    fn reject(&mut self, parameter: &'static str, entry: &Entry, text: &'static str) {
        self.remarks.push(Remark {
            is_error: true,
            parameter,
            table: entry.table,
            key: entry.key.clone(),
            text,
        });
    }

    /// Adds the services of these transports, and returns the next hops in their place.
    pub(crate) fn take_services(&mut self, transports: Vec<Entry>, clients: &[SmtpClient]) -> Vec<Entry> {
        let next_hops = transports.into_iter().filter_map(|transport| {
            if nexthop::is_dunno(transport.value.expose()) {
                return Some(transport);
            }
            match self.add_transport(transport.value.expose(), clients) {
                Ok(next_hops) => Some(Entry {
                    value: next_hops,
                    ..transport
                }),
                Err(text) => {
                    self.reject(TRANSPORTS, &transport, text);
                    None
                }
            }
        });
        next_hops.collect()
    }

    /// Adds the service of a transport for each of its next hops, and returns these.
    pub(crate) fn add_transport(
        &mut self,
        transport: &[u8],
        clients: &[SmtpClient],
    ) -> Result<Secret, &'static str> {
        let colon = memchr::memchr(b':', transport).unwrap_or(transport.len());
        let (service, next_hops) = transport.split_at_checked(colon).unwrap_or_default();
        let next_hops = next_hops.strip_prefix(b":").unwrap_or_default().trim_ascii();
        let client = clients.iter().find(|client| client.name.as_bytes() == service);
        let (Some(client), Ok(service)) = (client, ServiceName::try_from(service)) else {
            return Err(
                "the service of the transport is not an SMTP client of master.cf, which postmapd cannot represent",
            );
        };
        if next_hops.is_empty() {
            return Err(
                "the transport has no next hop, so it depends on other parameters; write service:[host]:port, or \
                 remove the entry and exclude the sender afterwards (postmapd relay exclude-domain)",
            );
        }
        if nexthop::validate(next_hops).is_err() {
            return Err("the next hop of the transport is not valid; correct it in the table");
        }
        for next_hop in nexthop::elements(next_hops) {
            let entry = self.entries.entry(folded(next_hop)).or_default();
            if entry.service.as_ref().is_some_and(|known| *known != service) {
                return Err(
                    "the next hop of the transport has another service for another sender, and postmapd has one service \
                     for a next hop",
                );
            }
            entry.service = Some(service.clone());
            entry.mode = (client.mode != Mode::of_port(next_hop)).then_some(client.mode);
        }
        Ok(Secret::from(next_hops.to_vec()))
    }

    /// Adds the policies of these next hops, and counts the others.
    pub(crate) fn add_policies(&mut self, policies: &[Entry], next_hops: &[&[u8]]) {
        let next_hops: Vec<Vec<u8>> = next_hops
            .iter()
            .flat_map(|list| nexthop::elements(list))
            .map(folded)
            .collect();
        for policy in policies {
            let key = folded(&policy.key);
            if !next_hops.contains(&key) {
                self.other_policies += 1;
                continue;
            }
            let value = policy.value.expose();
            let is_policy = tls_policy::parse(value).is_ok_and(|setting| {
                setting.mode.is_none() && setting.service.is_none() && setting.policy.is_some()
            });
            if !is_policy {
                self.reject(
                    POLICIES,
                    policy,
                    "Postfix would refuse the policy, and defer the mail; correct it in the table",
                );
                continue;
            }
            let entry = self.entries.entry(key).or_default();
            if entry.policy.is_empty() {
                value.clone_into(&mut entry.policy);
            }
        }
    }

    /// Returns the lines of the TLS file.
    pub(crate) fn lines(&self) -> Secret {
        let mut text = Vec::new();
        for (next_hop, entry) in &self.entries {
            let mode = entry.mode.map(|mode| mode.name().as_bytes().to_vec());
            let service = entry
                .service
                .as_ref()
                .map(|service| format!("via={service}").into_bytes());
            let policy = Some(entry.policy.clone()).filter(|policy| !policy.is_empty());
            let words: Vec<Vec<u8>> = [mode, policy, service].into_iter().flatten().collect();
            text.extend([next_hop.as_slice(), b"\t", &words.join(&b' '), b"\n"].concat());
        }
        Secret::from(text)
    }
}
