//! The part of an import that concerns TLS: transports by sender, and TLS policies.

use super::super::count_of;
use super::{ExistingPostfix, Messages, TableNames, read_tables, table_names};
use crate::lookup::tls_policy::Mode;
use crate::postfix::command::ServiceName;
use crate::postfix::config::PostfixConfig;
use crate::postfix::import::convert::RELAYS;
use crate::postfix::import::dump::{self, Directories};
use crate::postfix::import::tls::{POLICIES, SmtpClient, TRANSPORTS, TlsEntries};

/// Reads the transports, whose next hops become those of `existing`, and the policies of all next hops.
pub(super) fn read(
    config: &PostfixConfig,
    directories: &Directories<'_>,
    existing: &mut ExistingPostfix,
    tables: &mut TableNames,
    messages: &mut Messages,
) -> TlsEntries {
    let mut entries = TlsEntries::default();
    let rewrite = ServiceName::unix("rewrite");
    let transports = table_names(config.value(&rewrite, TRANSPORTS));
    if !transports.is_empty() && !tables.relays.is_empty() {
        messages.note(format!(
            "main.cf: {TRANSPORTS} is not converted, because {RELAYS} is set as well; it stays in effect, and takes precedence"
        ));
    } else if !transports.is_empty() {
        let clients = smtp_clients(config);
        let read = read_tables(TRANSPORTS, &transports, directories, messages);
        existing.relays = entries.take_services(read, &clients);
        existing.relays_parameter = Some(TRANSPORTS);
        config
            .value(&rewrite, "empty_address_default_transport_maps_lookup_key")
            .as_bytes()
            .clone_into(&mut existing.null_sender_key);
        if !existing.relayhost.is_empty() {
            let default = config.value(&rewrite, "default_transport");
            let default = [default.as_bytes(), b":", &existing.relayhost].concat();
            if let Err(text) = entries.add_transport(&default, &clients) {
                messages.reject(format!("main.cf: default_transport with relayhost: {text}"));
            }
        }
        messages.note(format!(
            "main.cf: {TRANSPORTS}: put postmapd's map transport in place of the tables, and keep the services in master.cf"
        ));
        tables.relays = transports;
    }
    let policies = table_names(config.value(&ServiceName::unix("smtp"), POLICIES));
    for (number, table) in (1..).zip(&policies) {
        match dump::dump(table, number, directories) {
            Ok(dump) => {
                let mut next_hops: Vec<&[u8]> = vec![&existing.relayhost];
                next_hops.extend(existing.relays.iter().map(|entry| entry.value.expose()));
                entries.add_policies(&dump.entries, &next_hops);
            }
            // It may have no policy of a next hop, as that of an MTA-STS resolver.
            Err(error) => messages.note(format!(
                "main.cf: {POLICIES}: table {number} is not read: {error}; if it has policies of relays, add them with postmapd \
                 relay set-tls"
            )),
        }
    }
    if entries.other_policies > 0 {
        messages.note(format!(
            "main.cf: {POLICIES}: {} with keys that are not next hops here left out; keep the tables after postmapd's map tls",
            count_of(entries.other_policies, "line")
        ));
    }
    tables.policies = policies;
    entries
}

/// Returns the services of master.cf that are SMTP clients.
fn smtp_clients(config: &PostfixConfig) -> Vec<SmtpClient> {
    let services = config.services.iter();
    let clients = services.filter(|service| service.program == "smtp");
    clients
        .map(|service| SmtpClient {
            name: service.id.name.clone(),
            mode: if config
                .value(&service.id, "smtp_tls_wrappermode")
                .eq_ignore_ascii_case("yes")
            {
                Mode::Implicit
            } else {
                Mode::Starttls
            },
        })
        .collect()
}
