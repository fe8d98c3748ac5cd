//! A sender moves to another relay while its mail is queued: each mail gets the login of the relay it is sent to.
//!
//! Postfix requests the relay when a mail becomes active, and the login when it connects. So mail routed before an edit
//! requests its login after it. A real Postfix of each [`Release`] sends each burst to slow relays that accept only
//! their own login, and the edit comes in the middle of it.

mod answers;
mod waiting;

use crate::harness::daemon::{CREDENTIALS, Daemon, RELAYMAP, Setup};
use crate::harness::name_server::{NameServer, mail_exchangers};
use crate::harness::postfix::{self, DEADLINE, Release};
use crate::harness::smtp_server::{self, Auth, Journal, Login, Mail, SmtpServer};
use crate::harness::starttls::TlsProxy;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The address of the recipients' server.
const RECIPIENT_HOST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

/// The protocol that Postfix uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Inet,
    UnixFromTheChroot,
    Tcp,
}

/// An edit during the burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edit {
    /// Gives the sender this relay and this relay's login.
    MoveTo(usize),
    /// Gives the sender direct delivery and no login.
    Exclude,
    /// Changes the login that the sender's relay accepts, and the sender's login with it.
    Rotate,
}

/// A burst, and the edits during it.
struct Burst {
    release: Release,
    transport: Transport,
    /// Whether Postfix may use a connection for more than one mail.
    cache: bool,
    tls: bool,
    next_hops: NextHops,
    keys: Keys,
    mails: usize,
    edits: &'static [Edit],
}

/// How the relay map names the relays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NextHops {
    /// By address, in brackets.
    Hosts,
    /// By a domain without brackets, whose mail exchangers Postfix resolves at the name server at this address.
    Domains(Ipv4Addr),
}

/// The keys of the logins in the credentials file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keys {
    Senders,
    /// By next hop, with `smtp_sender_dependent_authentication = no` in main.cf.
    NextHops,
}

struct Relay {
    server: SmtpServer,
    front: Option<TlsProxy>,
    domain: Option<&'static str>,
}

impl Relay {
    fn next_hop(&self) -> String {
        match (&self.front, self.domain) {
            (Some(front), _) => front.next_hop(),
            (None, Some(domain)) => format!("{domain}:{}", self.server.port()),
            (None, None) => self.server.next_hop(),
        }
    }
}

const RELAY_HOSTS: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3)];
const RELAY_DOMAINS: [&str; 2] = ["relay1.test", "relay2.test"];

const LOGINS: [&str; 2] = ["user-1:first", "user-2:second"];
const ROTATED: [&str; 2] = ["user-1:first-rotated", "user-2:second-rotated"];
/// The login of a sender that stays at the first relay.
const STEADY: &str = "steady:stays";

fn login(text: &str) -> Login {
    let (user, password) = text.split_once(':').unwrap();
    Login::new(user, password)
}

fn relays(burst: &Burst, journal: &Journal) -> [Relay; 2] {
    [0, 1].map(|number| {
        let host = RELAY_HOSTS[number];
        let mut setup = smtp_server::Setup::new(["relay 1", "relay 2"][number], host)
            .auth(Auth::Demanded)
            .accepting(login(LOGINS[number]))
            .delay(Duration::from_millis(100))
            .journal(journal);
        if number == 0 {
            setup = setup.accepting(login(STEADY));
        }
        if burst.edits.contains(&Edit::Rotate) {
            setup = setup.accepting(login(ROTATED[number]));
        }
        let server = setup.start().unwrap();
        let behind = SocketAddr::V4(SocketAddrV4::new(host, server.port()));
        let front = burst.tls.then(|| TlsProxy::start(host, behind));
        let domain = matches!(burst.next_hops, NextHops::Domains(_)).then(|| RELAY_DOMAINS[number]);
        Relay {
            server,
            front,
            domain,
        }
    })
}

/// The two files for a sender with this relay (`None` for none) and this login.
fn files(keys: Keys, relays: &[Relay; 2], relay: Option<usize>, own: &str) -> [String; 2] {
    let steady = relays[0].next_hop();
    let next_hop = relay.map(|number| relays[number].next_hop()).unwrap_or_default();
    let credentials = match keys {
        Keys::Senders => {
            let credentials = relay.map(|_| format!("@moving.test {own}\n")).unwrap_or_default();
            format!("{credentials}@steady.test {STEADY}\n")
        }
        // The other sender stays at its relay with its login.
        Keys::NextHops if relay == Some(1) => format!("{steady} {}\n{next_hop} {own}\n", LOGINS[0]),
        Keys::NextHops => format!("{steady} {}\n", LOGINS[0]),
    };
    [
        format!("@moving.test {next_hop}\n@steady.test {steady}\n"),
        credentials,
    ]
}

/// Replaces both files within a millisecond: writes both aside, then renames them.
fn save(daemon: &Daemon, [relay_map, credentials]: &[String; 2]) {
    let dir = daemon.dir();
    for (name, text) in [(RELAYMAP, relay_map), (CREDENTIALS, credentials)] {
        fs::write(dir.join(format!("{name}.new")), text).unwrap();
    }
    for name in [RELAYMAP, CREDENTIALS] {
        fs::rename(dir.join(format!("{name}.new")), dir.join(name)).unwrap();
    }
}

/// Starts the server such that this Postfix can reach it. Returns main.cf's values for `relayhost` and for `sasl`.
fn start_for(transport: Transport, setup: Setup, postfix: &postfix::Setup) -> (Daemon, [String; 2]) {
    let setup = match transport {
        Transport::Inet => setup.listen("socketmap:inet:127.0.0.1:0"),
        Transport::UnixFromTheChroot => {
            let socket = postfix.queue_directory().join("postmapd/socketmap");
            fs::create_dir(socket.parent().unwrap()).unwrap();
            setup.listen(format!("socketmap:unix:{}", socket.display()))
        }
        Transport::Tcp => setup
            .listen("tcp:127.0.0.1:0:relayhost")
            .listen("tcp:127.0.0.1:0:sasl"),
    };
    let daemon = Daemon::start(setup);
    let maps = ["relayhost", "sasl"].map(|map| match transport {
        Transport::Inet => format!("{}:{map}", daemon.endpoint(0)),
        Transport::UnixFromTheChroot => format!("socketmap:unix:postmapd/socketmap:{map}"),
        Transport::Tcp => format!("tcp:{}", daemon.address(usize::from(map == "sasl"))),
    });
    (daemon, maps)
}

/// Starts a Postfix that queries these maps and delivers directly to that port.
fn start_postfix(burst: &Burst, setup: postfix::Setup, maps: &[String; 2], port: u16) -> postfix::Postfix {
    let on = |is: bool| if is { "yes" } else { "no" };
    let mut setup = setup
        .set(
            "smtp_sender_dependent_authentication",
            on(burst.keys == Keys::Senders),
        )
        .set("smtp_tcp_port", port.to_string())
        .set("sender_dependent_relayhost_maps", &maps[0])
        .set("smtp_sasl_password_maps", &maps[1])
        .set("smtp_connection_cache_on_demand", on(burst.cache))
        // This makes a queue build up.
        .set("default_destination_concurrency_limit", "8")
        .set("initial_destination_concurrency", "8");
    if burst.tls {
        setup = setup
            .set("smtp_tls_security_level", "encrypt")
            .set("smtp_sasl_tls_security_options", "noanonymous");
    }
    if let NextHops::Domains(address) = burst.next_hops {
        setup = setup.name_server(address);
    }
    setup.start().unwrap()
}

/// One burst at a time: several at once are submitted so slowly that most mail has arrived before the edit.
fn burst_lock() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends the burst, edits in the middle of it, and checks that each mail arrives with the login of the relay it arrives
/// at.
fn send(burst: &Burst) {
    let _alone = burst_lock();
    let journal = Journal::default();
    let relays = relays(burst, &journal);
    let recipient = smtp_server::Setup::new("recipient", RECIPIENT_HOST)
        .auth(Auth::Offered)
        .journal(&journal)
        .start()
        .unwrap();
    let postfix = postfix::Setup::release(burst.release)
        .unwrap()
        .chrooted(burst.transport == Transport::UnixFromTheChroot);
    let mut own = LOGINS[0];
    let [relay_map, credentials] = files(burst.keys, &relays, Some(0), own);
    let (daemon, maps) = start_for(
        burst.transport,
        Setup::new().relaymap(relay_map).credentials(credentials),
        &postfix,
    );
    let _name_server = match burst.next_hops {
        NextHops::Hosts => None,
        NextHops::Domains(address) => Some(NameServer::start(
            address,
            mail_exchangers(&RELAY_DOMAINS, &RELAY_HOSTS),
        )),
    };
    let postfix = start_postfix(burst, postfix, &maps, recipient.port());

    // However slowly the mails are submitted, most are queued when the edit comes.
    journal.hold_after(burst.mails / 4);
    let mut sent = Vec::new();
    let mut submit = |sender: &str| {
        let to = format!("to-{}@[{RECIPIENT_HOST}]", sent.len());
        postfix.send(sender, &to).unwrap();
        sent.push(to.clone());
        to
    };
    for number in 0..burst.mails {
        submit(if number % 8 == 7 {
            "u@steady.test"
        } else {
            "u@moving.test"
        });
    }
    let mut relay = Some(0);
    let mut before_edits = Vec::new();
    for edit in burst.edits {
        let queued = burst.mails - journal.mails().len().min(burst.mails);
        before_edits.push(queued);
        match *edit {
            Edit::MoveTo(number) => (relay, own) = (Some(number), LOGINS[number]),
            Edit::Exclude => relay = None,
            Edit::Rotate => own = ROTATED[relay.unwrap()],
        }
        save(&daemon, &files(burst.keys, &relays, relay, own));
        let wanted = relay.map(|number| relays[number].next_hop());
        let saved = Instant::now();
        while postfix.lookup(&maps[0], "u@moving.test").unwrap() != wanted {
            assert!(saved.elapsed() < DEADLINE, "the edit has no effect");
        }
        journal.release();
        // A mail after the edit is sent to the new relay at once. (The queue manager caches the last pair for 30 s.)
        let to = submit("u@moving.test");
        let mail = journal.mail_to(&to, DEADLINE);
        let mail = mail.unwrap_or_else(|| panic!("the mail to {to} does not arrive: {}", postfix.log()));
        let arrived = match relay {
            Some(number) => (relays[number].server.name(), Some(login(own))),
            None => ("recipient", None),
        };
        assert_eq!((mail.server.as_str(), mail.login), (arrived.0, arrived.1));
    }
    for to in &sent {
        let mail = journal.mail_to(to, DEADLINE);
        let mail = mail.unwrap_or_else(|| panic!("the mail to {to} does not arrive: {}", postfix.log()));
        assert_own_login(burst, &mail);
    }
    assert!(
        before_edits
            .first()
            .is_some_and(|queued| *queued >= burst.mails / 4),
        "too few mails were on their way: {before_edits:?}"
    );
    let refused: Vec<_> = journal
        .attempts()
        .into_iter()
        .filter(|attempt| !attempt.accepted)
        .collect();
    assert_eq!(refused, [], "logins that a relay refused");
    let log = postfix.log();
    assert!(!log.contains("status=deferred"), "{log}");
    assert!(
        recipient.attempts().is_empty(),
        "a login was shown to the recipient's server"
    );
}

/// Checks that a mail came with a login of the relay it arrived at.
fn assert_own_login(burst: &Burst, mail: &Mail) {
    let user = mail.login.as_ref().map(|login| login.user.as_str());
    let allowed = match (mail.server.as_str(), mail.sender.as_str()) {
        ("relay 1", "u@steady.test") if burst.keys == Keys::Senders => Some("steady"),
        ("relay 1", _) => Some("user-1"),
        ("relay 2", "u@moving.test") => Some("user-2"),
        ("recipient", "u@moving.test") if burst.edits.contains(&Edit::Exclude) => None,
        _ => panic!("{mail:?}"),
    };
    assert_eq!(user, allowed, "{mail:?}");
}

fn all_ways_and_edits(release: Release) {
    let burst = Burst {
        release,
        transport: Transport::Inet,
        cache: false,
        tls: false,
        next_hops: NextHops::Hosts,
        keys: Keys::Senders,
        mails: 200,
        edits: &[Edit::MoveTo(1)],
    };
    send(&burst);
    send(&Burst { cache: true, ..burst });
    send(&Burst {
        transport: Transport::UnixFromTheChroot,
        edits: &[Edit::MoveTo(1), Edit::MoveTo(0)],
        ..burst
    });
    send(&Burst {
        transport: Transport::Tcp,
        edits: &[Edit::MoveTo(1), Edit::Exclude],
        ..burst
    });
}

fn tls_and_rotation(release: Release) {
    let burst = Burst {
        release,
        transport: Transport::Inet,
        cache: true,
        tls: true,
        next_hops: NextHops::Hosts,
        keys: Keys::Senders,
        mails: 64,
        edits: &[Edit::MoveTo(1)],
    };
    send(&burst);
    send(&Burst {
        tls: false,
        cache: false,
        edits: &[Edit::Exclude],
        ..burst
    });
    send(&Burst {
        tls: false,
        cache: false,
        edits: &[Edit::Rotate, Edit::MoveTo(1)],
        ..burst
    });
}

/// Each release of Postfix has its own name server.
fn mail_exchangers_and_logins_by_next_hop(release: Release, name_server: Ipv4Addr) {
    let burst = Burst {
        release,
        transport: Transport::Inet,
        cache: false,
        tls: false,
        next_hops: NextHops::Domains(name_server),
        keys: Keys::Senders,
        mails: 64,
        edits: &[Edit::MoveTo(1), Edit::MoveTo(0)],
    };
    send(&burst);
    send(&Burst {
        keys: Keys::NextHops,
        edits: &[Edit::MoveTo(1)],
        ..burst
    });
    send(&Burst {
        next_hops: NextHops::Hosts,
        keys: Keys::NextHops,
        edits: &[Edit::MoveTo(1), Edit::Exclude],
        ..burst
    });
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn mail_in_flight_gets_the_login_of_its_relay_when_its_sender_moves() {
    all_ways_and_edits(Release::Installed);
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn mail_in_flight_gets_the_login_of_its_relay_when_its_sender_moves_with_postfix_3_10() {
    all_ways_and_edits(Release::Debian13);
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn mail_in_flight_gets_the_login_of_its_relay_over_tls_and_when_a_login_rotates() {
    tls_and_rotation(Release::Installed);
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn mail_in_flight_gets_the_login_of_its_relay_over_tls_and_when_a_login_rotates_with_postfix_3_10() {
    tls_and_rotation(Release::Debian13);
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn mail_in_flight_gets_the_login_of_its_relay_by_mail_exchangers_and_with_logins_by_next_hop() {
    mail_exchangers_and_logins_by_next_hop(Release::Installed, Ipv4Addr::new(127, 0, 53, 7));
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn mail_in_flight_gets_the_login_of_its_relay_by_mail_exchangers_and_with_logins_by_next_hop_with_postfix_3_10()
 {
    mail_exchangers_and_logins_by_next_hop(Release::Debian13, Ipv4Addr::new(127, 0, 53, 10));
}
