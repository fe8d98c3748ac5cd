//! Tries a relay as Postfix's SMTP client would use it, without sending mail.
//!
//! For each next hop of a list, in order: its servers by DNS ([`resolver`]), then each address of a server until one works:
//! TCP ([`timed_stream`]), the greeting and EHLO ([`smtp`]), TLS ([`tls`]) as the policy demands ([`policy`]), the certificate
//! ([`certificate`]), the login ([`login`]), QUIT.
//!
//! A password is sent only where the policy is met, and never without TLS except to loopback. It is in no outcome: no text
//! of a relay is shown after the password was sent, because it may repeat the password.
//!
//! Limits: one time limit for a list ([`Options::timeout`]), [`MAX_ADDRESSES`] addresses for each of its next hops, and limits
//! on every reply ([`smtp`]) and on a whole connection ([`timed_stream`]). A name server is not trusted more than a relay. TLS
//! 1.2 and 1.3 only; PLAIN and LOGIN only; no DANE, no client certificate, no SRV records, no `protocols=`, `ciphers=` and
//! `exclude=`. A revoked certificate is not detected, as in Postfix. The buffers of the TLS library are not wiped.

mod authorities;
mod base64;
mod certificate;
mod hosts;
mod login;
mod name_servers;
mod outcome;
mod policy;
mod resolver;
mod session;
mod smtp;
mod timed_stream;
mod tls;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

pub(crate) use authorities::Authorities;
pub(crate) use login::Login;
pub(crate) use outcome::{Attempt, Failure, LoginResult, Outcome};
pub(crate) use resolver::Resolver;

use crate::lookup::tls_policy::Mode;
use crate::os::printable::printable;
use policy::Policy;
use resolver::Server;
use session::Session;

/// The maximum number of addresses that are tried for one next hop, as `smtp_mx_address_limit` of Postfix.
const MAX_ADDRESSES: usize = 5;

/// How to try relays.
pub(crate) struct Options {
    /// The time limit for one list of next hops, DNS included.
    pub timeout: Duration,
    /// The certificate authorities for policies without their own.
    pub authorities: Authorities,
    /// How names are resolved.
    pub resolver: Resolver,
    /// How servers are found and greeted.
    pub client: ClientSettings,
}

/// The parameters of Postfix that decide how its SMTP client finds and greets a server.
pub(crate) struct ClientSettings {
    /// The name in EHLO (`smtp_helo_name`); `None` for that of this machine.
    pub helo_name: Option<String>,
    /// Whether it reads /etc/hosts (`native` in `smtp_host_lookup`).
    pub reads_hosts_file: bool,
    /// Whether it connects over IPv4 (`inet_protocols`).
    pub uses_ipv4: bool,
    /// Whether it connects over IPv6 (`inet_protocols`).
    pub uses_ipv6: bool,
}

impl Default for ClientSettings {
    /// Returns the defaults of Postfix.
    fn default() -> Self {
        Self {
            helo_name: None,
            reads_hosts_file: false,
            uses_ipv4: true,
            uses_ipv6: true,
        }
    }
}

/// A next hop, and how Postfix speaks TLS to it.
pub(crate) struct NextHop {
    /// An element of a list, as written.
    pub text: Vec<u8>,
    /// When TLS begins.
    pub mode: Mode,
    /// The TLS policy.
    pub policy: Vec<u8>,
}

/// Returns the login that Postfix finds for a server: the host name, and the next hop as written.
pub(crate) type FindLogin<'a> = &'a (dyn Fn(&[u8], &[u8]) -> Login + Sync);

/// Tries the next hops of a list in order, until one works.
pub(crate) fn probe(next_hops: &[NextHop], find_login: FindLogin<'_>, options: &Options) -> Outcome {
    let deadline = Instant::now() + options.timeout;
    let mut failed = Vec::new();
    let mut last = Outcome::default();
    let mut left = next_hops.len();
    for next_hop in next_hops {
        left -= 1;
        last = probe_next_hop(next_hop, left > 0, deadline, find_login, options, &mut failed);
        if last.failure.is_none() {
            break;
        }
        if left > 0 {
            failed.push(Attempt::of(&last));
        }
    }
    last.attempts = failed;
    last
}

/// Tries the servers of a next hop until one works. `has_more`: whether time must be left for others.
fn probe_next_hop(
    next_hop: &NextHop,
    has_more: bool,
    deadline: Instant,
    find_login: FindLogin<'_>,
    options: &Options,
    failed: &mut Vec<Attempt>,
) -> Outcome {
    let first = Outcome::new(next_hop);
    let policy = match Policy::parse(&next_hop.policy) {
        Ok(policy) => policy,
        Err(failure) => return first.failed(failure),
    };
    let authorities = match policy.authorities(&options.authorities) {
        Ok(authorities) => authorities,
        Err(failure) => return first.failed(failure),
    };
    let servers = match options
        .resolver
        .servers(&next_hop.text, &options.client, half_until(deadline))
    {
        Ok(servers) => servers,
        Err(failure) => return first.failed(failure),
    };
    let mut addresses = addresses(&servers).take(MAX_ADDRESSES).peekable();
    let mut last = first;
    while let Some((server, address)) = addresses.next() {
        let is_last = addresses.peek().is_none() && !has_more;
        let session = Session {
            next_hop,
            policy: &policy,
            authorities: &authorities,
            client: &options.client,
            server,
            address,
            find_login,
            deadline: if is_last { deadline } else { half_until(deadline) },
        };
        last = session.run();
        // A server of the same relay has the same accounts: another refusal could lock the account.
        if last.failure.is_none() || last.login == LoginResult::Refused {
            break;
        }
        if addresses.peek().is_some() {
            failed.push(Attempt::of(&last));
        }
    }
    last
}

fn addresses(servers: &[Server]) -> impl Iterator<Item = (&Server, SocketAddr)> {
    servers
        .iter()
        .flat_map(|server| server.addresses.iter().map(move |address| (server, *address)))
}

/// Returns the moment at which half of the time is over.
fn half_until(deadline: Instant) -> Instant {
    let now = Instant::now();
    now + deadline.saturating_duration_since(now) / 2
}

/// The maximum length in bytes of a text of a relay that is shown.
const MAX_SHOWN: usize = 200;

/// Returns a text of a relay or a name server as it can be shown.
fn shown(text: &[u8]) -> String {
    match text.get(..MAX_SHOWN) {
        Some(start) if text.len() > MAX_SHOWN => printable(start) + "…",
        _ => printable(text),
    }
}
