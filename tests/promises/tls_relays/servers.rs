//! The relays, the recipients' own servers, their certificates, and the name server that knows them all.

use super::site::Options;
use crate::harness::addresses::unused_loopback_address;
use crate::harness::certificates::Authority;
use crate::harness::name_server::{NameServer, Record};
use crate::harness::smtp_server::{self, Auth, Journal, SmtpServer};
use crate::harness::starttls::{Identity, Offer, TlsProxy};
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

/// The domain of the recipients. Its server offers AUTH, and STARTTLS with a certificate that cannot be verified.
pub(super) const RECIPIENT_DOMAIN: &str = "recipient.test";
/// A domain of `relay_domains`. Its server offers the same.
pub(super) const INNER_DOMAIN: &str = "inner.test";

/// The names of another domain that some servers present.
pub(super) const OTHER_NAME: &str = "other.test";

/// The certificates that a relay shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shows {
    /// That of its own name, by the CA in `smtp_tls_CAfile`.
    Own,
    /// The same, but expired.
    Expired,
    /// The same, but by a CA that Postfix does not know.
    OfOtherAuthority,
    /// That of another name, by the CA in `smtp_tls_CAfile`.
    OtherName,
    /// Its own only to a client that sends its name (SNI), else that of another name.
    OwnByName,
    /// None: it offers no TLS.
    NoTls,
}

/// A relay, at an address of its own. It accepts no mail without AUTH, and every login.
#[derive(Debug, Clone, Copy)]
pub(super) struct Relay {
    pub(super) host: &'static str,
    pub(super) port: u16,
    pub(super) offer: Offer,
    pub(super) shows: Shows,
}

/// All servers. The fields are dropped in this order.
pub(super) struct Servers {
    /// By host. A server without TLS has none.
    pub(super) proxies: HashMap<&'static str, TlsProxy>,
    pub(super) journal: Journal,
    pub(super) name_server_address: Ipv4Addr,
    _behind: Vec<SmtpServer>,
    _name_server: NameServer,
    /// Postfix knows the first one only.
    authorities: [Authority; 2],
}

impl Servers {
    pub(super) fn start(options: &Options<'_>) -> Self {
        let journal = Journal::default();
        let authorities = ["ca", "other-ca"].map(Authority::new);
        let mut behind = Vec::new();
        let mut proxies = HashMap::new();
        let exchangers = options
            .exchangers
            .iter()
            .map(|(domain, exchanger)| ((*domain).to_owned(), Record::Exchanger((*exchanger).to_owned())));
        let hosts = options
            .hosts
            .iter()
            .map(|(host, address)| ((*host).to_owned(), Record::Address(*address)));
        let mut records: Vec<_> = exchangers.chain(hosts).collect();
        let mut start = |relay: &Relay, auth: Auth| {
            let address = unused_loopback_address();
            records.push((relay.host.to_owned(), Record::Address(address)));
            let setup = smtp_server::Setup::new(relay.host, address)
                .auth(auth)
                .delay(options.delay)
                .journal(&journal);
            if let Some(identity) = identity(relay, &authorities) {
                let server = setup.start().unwrap();
                let proxy = TlsProxy::start_with(
                    SocketAddrV4::new(address, relay.port),
                    SocketAddr::from((address, server.port())),
                    relay.offer,
                    identity,
                );
                proxies.insert(relay.host, proxy);
                behind.push(server);
            } else {
                behind.push(setup.port(relay.port).start().unwrap());
            }
        };
        for relay in options.relays {
            start(relay, Auth::Demanded);
        }
        for host in ["mx.recipient.test", "mx.inner.test"] {
            let server = Relay {
                host,
                port: 25,
                offer: Offer::Starttls,
                shows: Shows::OfOtherAuthority,
            };
            start(&server, Auth::Offered);
        }
        for domain in [RECIPIENT_DOMAIN, INNER_DOMAIN] {
            records.push((domain.to_owned(), Record::Exchanger(format!("mx.{domain}"))));
        }
        let name_server_address = unused_loopback_address();
        Self {
            proxies,
            journal,
            name_server_address,
            _behind: behind,
            _name_server: NameServer::start(name_server_address, records),
            authorities,
        }
    }

    /// The value of `smtp_tls_CAfile`.
    pub(super) fn ca_file(&self) -> String {
        self.authorities[0].file().display().to_string()
    }
}

/// The certificates of a relay. The first authority is the one that Postfix knows.
fn identity(relay: &Relay, [known, other]: &[Authority; 2]) -> Option<Identity> {
    let host = relay.host;
    Some(match relay.shows {
        Shows::Own => known.certificate(host).into(),
        Shows::Expired => known.expired_certificate(host).into(),
        Shows::OfOtherAuthority => other.certificate(host).into(),
        Shows::OtherName => known.certificate(OTHER_NAME).into(),
        Shows::OwnByName => Identity {
            shown: known.certificate(OTHER_NAME),
            by_name: Some((host.to_owned(), known.certificate(host))),
            client_authority: None,
        },
        Shows::NoTls => return None,
    })
}
