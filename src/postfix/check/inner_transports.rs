//! Checks the parameters that deliver some mail to a server of one's own: mail to virtual mailboxes, local mail, mail for
//! a content filter.
//!
//! An SMTP client that logs in looks up the sender's login first, whatever the server, and offers it to every server that
//! has AUTH. These parameters name a server that is no relay of the sender.
//!
//! Limits: a server on this machine is not reported, because a content filter there is usual, and has no AUTH.

use super::{Checker, smtp_clients};
use crate::diagnostics::{Code, Place};
use crate::lookup::nexthop::{self, HostKind};
use crate::postfix::relay_domains;

/// Parameters of the form `service:next hop`.
const PARAMETERS: [&str; 5] = [
    "virtual_transport",
    "local_transport",
    "mailbox_transport",
    "fallback_transport",
    "content_filter",
];

impl Checker<'_> {
    /// Reports the parameters that name another server and a service that logs in.
    pub(super) fn check_inner_transports(&mut self) {
        let config = self.config;
        for (service, parameter, value) in config.all_values() {
            let Some((name, next_hop)) = value.split_once(':') else {
                continue;
            };
            let is_inner = PARAMETERS.contains(&parameter)
                && !next_hop.starts_with("unix:")
                && nexthop::host_kind(next_hop.trim_start_matches("inet:").as_bytes()) != HostKind::Loopback;
            let offers_logins =
                smtp_clients(config).any(|client| client.id.name == name && self.offers_logins(client));
            if !is_inner || !offers_logins {
                continue;
            }
            let logs_in = |service: &str| {
                relay_domains::client(config, service).is_none_or(|client| self.offers_logins(client))
            };
            let help = if logs_in(relay_domains::DEFAULT) {
                format!(
                    "name an SMTP client of master.cf with -o {}=no in it, instead of {name}",
                    relay_domains::LOGIN
                )
            } else {
                format!(
                    "write {}:{next_hop}, which does not log in",
                    relay_domains::DEFAULT
                )
            };
            self.add(
                Place::parameter(service.map(ToString::to_string), parameter),
                Code::LoginForInnerServer,
                "mail for this server is delivered by a service that logs in, and Postfix offers the server the \
                 sender's password",
                help,
            );
        }
    }
}
