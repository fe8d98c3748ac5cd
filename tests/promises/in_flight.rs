//! A sender moves to another relay while its mail is queued: each mail gets the login of the relay it goes to.
//!
//! Postfix asks for the relay when a mail becomes active, and for the login when it connects, so mail that was routed
//! before an edit asks for a login after it. Each burst is sent with a real Postfix of either [`Release`] to relays that
//! accept only their own login and take their time, and the edit comes in the middle of it.

use crate::harness::admin::Admin;
use crate::harness::client::{Reply, Socketmap, TcpTable};
use crate::harness::daemon::{CREDENTIALS, Daemon, RELAYMAP, Setup};
use crate::harness::eventually;
use crate::harness::postfix::{self, DEADLINE, Release};
use crate::harness::smtp_server::{self, Auth, Journal, Login, Mail, SmtpServer};
use crate::harness::starttls::Front;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

/// Where the recipients are.
const RECIPIENT_HOST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

/// How Postfix asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Inet,
    UnixFromTheJail,
    Tcp,
}

/// What is edited while the burst is on its way, one edit after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edit {
    /// The sender has this relay and this relay's login.
    MoveTo(usize),
    /// The sender is delivered directly, and has no login.
    Exclude,
    /// The relay of the sender accepts another login from now on, and the sender has it.
    Rotate,
}

/// A burst and what disturbs it.
struct Burst {
    release: Release,
    way: Way,
    /// Whether Postfix may use a connection for more than one mail.
    cache: bool,
    tls: bool,
    mails: usize,
    edits: &'static [Edit],
}

struct Relay {
    server: SmtpServer,
    front: Option<Front>,
}

impl Relay {
    fn next_hop(&self) -> String {
        match &self.front {
            Some(front) => front.next_hop(),
            None => self.server.next_hop(),
        }
    }
}

const LOGINS: [&str; 2] = ["user-1:first", "user-2:second"];
const ROTATED: [&str; 2] = ["user-1:first-rotated", "user-2:second-rotated"];
/// Of a sender that stays at the first relay.
const STEADY: &str = "steady:stays";

fn login(text: &str) -> Login {
    let (user, password) = text.split_once(':').unwrap();
    Login::new(user, password)
}

fn relays(burst: &Burst, journal: &Journal) -> [Relay; 2] {
    [0, 1].map(|number| {
        let host = Ipv4Addr::new(127, 0, 0, if number == 0 { 2 } else { 3 });
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
        let front = burst.tls.then(|| Front::start(host, behind));
        Relay { server, front }
    })
}

/// The files when the sender has this relay (`None` for none) and this login.
fn files(relays: &[Relay; 2], relay: Option<usize>, own: &str) -> [String; 2] {
    let steady = relays[0].next_hop();
    let next_hop = relay.map(|number| relays[number].next_hop()).unwrap_or_default();
    let credentials = relay.map(|_| format!("@moving.test {own}\n")).unwrap_or_default();
    [
        format!("@moving.test {next_hop}\n@steady.test {steady}\n"),
        format!("{credentials}@steady.test {STEADY}\n"),
    ]
}

/// Both files new within a millisecond: written aside, then renamed.
fn save(daemon: &Daemon, [relay_map, credentials]: &[String; 2]) {
    let dir = daemon.dir();
    for (name, text) in [(RELAYMAP, relay_map), (CREDENTIALS, credentials)] {
        fs::write(dir.join(format!("{name}.new")), text).unwrap();
    }
    for name in [RELAYMAP, CREDENTIALS] {
        fs::rename(dir.join(format!("{name}.new")), dir.join(name)).unwrap();
    }
}

/// Starts the server so that this Postfix can ask it, and says what main.cf has for `relayhost` and for `sasl`.
fn start_for(way: Way, setup: Setup, postfix: &postfix::Setup) -> (Daemon, [String; 2]) {
    let setup = match way {
        Way::Inet => setup.listen("socketmap:inet:127.0.0.1:0"),
        Way::UnixFromTheJail => {
            let socket = postfix.queue_directory().join("postmapd/socketmap");
            fs::create_dir(socket.parent().unwrap()).unwrap();
            setup.listen(format!("socketmap:unix:{}", socket.display()))
        }
        Way::Tcp => setup
            .listen("tcp:127.0.0.1:0:relayhost")
            .listen("tcp:127.0.0.1:0:sasl"),
    };
    let daemon = Daemon::start(setup);
    let maps = ["relayhost", "sasl"].map(|map| match way {
        Way::Inet => format!("{}:{map}", daemon.endpoint(0)),
        Way::UnixFromTheJail => format!("socketmap:unix:postmapd/socketmap:{map}"),
        Way::Tcp => format!("tcp:{}", daemon.address(usize::from(map == "sasl"))),
    });
    (daemon, maps)
}

/// Sends the burst, edits in the middle of it, and sees to it that each mail arrives with the login of where it arrives.
fn send(burst: &Burst) {
    let journal = Journal::default();
    let relays = relays(burst, &journal);
    let recipient = smtp_server::Setup::new("recipient", RECIPIENT_HOST)
        .auth(Auth::Offered)
        .journal(&journal)
        .start()
        .unwrap();
    let postfix = postfix::Setup::release(burst.release)
        .unwrap()
        .chrooted(burst.way == Way::UnixFromTheJail);
    let mut own = LOGINS[0];
    let [relay_map, credentials] = files(&relays, Some(0), own);
    let (daemon, maps) = start_for(
        burst.way,
        Setup::new().relaymap(relay_map).credentials(credentials),
        &postfix,
    );
    let on = |is: bool| if is { "yes" } else { "no" };
    let mut postfix = postfix
        .set("smtp_tcp_port", recipient.port().to_string())
        .set("sender_dependent_relayhost_maps", &maps[0])
        .set("smtp_sasl_password_maps", &maps[1])
        .set("smtp_connection_cache_on_demand", on(burst.cache))
        // So that there is a queue.
        .set("default_destination_concurrency_limit", "8")
        .set("initial_destination_concurrency", "8");
    if burst.tls {
        postfix = postfix
            .set("smtp_tls_security_level", "encrypt")
            .set("smtp_sasl_tls_security_options", "noanonymous");
    }
    let postfix = postfix.start().unwrap();

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
        save(&daemon, &files(&relays, relay, own));
        let wanted = relay.map(|number| relays[number].next_hop());
        let saved = Instant::now();
        while postfix.lookup(&maps[0], "u@moving.test").unwrap() != wanted {
            assert!(saved.elapsed() < DEADLINE, "the edit has no effect");
        }
        // A mail after the edit takes the new way at once. (The queue manager remembers the last pair for 30 s.)
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
        assert_is_at_home(burst, &mail);
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

/// Whether a mail came with a login of the relay where it arrived.
fn assert_is_at_home(burst: &Burst, mail: &Mail) {
    let user = mail.login.as_ref().map(|login| login.user.as_str());
    let allowed = match (mail.server.as_str(), mail.sender.as_str()) {
        ("relay 1", "u@steady.test") => Some("steady"),
        ("relay 1", "u@moving.test") => Some("user-1"),
        ("relay 2", "u@moving.test") => Some("user-2"),
        ("recipient", "u@moving.test") if burst.edits.contains(&Edit::Exclude) => None,
        _ => panic!("{mail:?}"),
    };
    assert_eq!(user, allowed, "{mail:?}");
}

fn all_ways_and_edits(release: Release) {
    let burst = Burst {
        release,
        way: Way::Inet,
        cache: false,
        tls: false,
        mails: 200,
        edits: &[Edit::MoveTo(1)],
    };
    send(&burst);
    send(&Burst { cache: true, ..burst });
    send(&Burst {
        way: Way::UnixFromTheJail,
        edits: &[Edit::MoveTo(1), Edit::MoveTo(0)],
        ..burst
    });
    send(&Burst {
        way: Way::Tcp,
        edits: &[Edit::MoveTo(1), Edit::Exclude],
        ..burst
    });
}

fn tls_and_rotation(release: Release) {
    let burst = Burst {
        release,
        way: Way::Inet,
        cache: true,
        tls: true,
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

#[test]
fn mail_on_its_way_gets_the_login_of_its_relay_when_its_sender_moves() {
    all_ways_and_edits(Release::Installed);
}

#[test]
fn mail_on_its_way_gets_the_login_of_its_relay_when_its_sender_moves_with_postfix_3_10() {
    all_ways_and_edits(Release::Debian13);
}

#[test]
fn mail_on_its_way_gets_the_login_of_its_relay_over_tls_and_when_a_login_rotates() {
    tls_and_rotation(Release::Installed);
}

#[test]
fn mail_on_its_way_gets_the_login_of_its_relay_over_tls_and_when_a_login_rotates_with_postfix_3_10() {
    tls_and_rotation(Release::Debian13);
}

const BEFORE: [&str; 2] = [
    "@a.test [r1.test]:587\n@b.test [r1.test]:587\n",
    "@a.test a:old\n@b.test b:stays\nr1.test host:entry\n[r1.test]:587 hop:one\n",
];
const AFTER: [&str; 2] = [
    "@a.test [r2.test]:587\n@b.test [r1.test]:587\n",
    "@a.test a:new\n@b.test b:stays\nr1.test host:entry\n[r1.test]:587 hop:one\n",
];

fn start(settings: &str) -> Daemon {
    let [relay_map, credentials] = BEFORE;
    Daemon::start(
        Setup::new()
            .relaymap(relay_map)
            .credentials(credentials)
            .settings(settings)
            .listen("socketmap:inet:127.0.0.1:0")
            .listen("tcp:127.0.0.1:0:sasl"),
    )
}

fn relayhost_becomes(daemon: &Daemon, next_hop: &str) {
    let mut client = Socketmap::to(daemon, 0);
    eventually(
        || client.ask("relayhost", "u@a.test"),
        |reply| *reply == Reply::found(next_hop),
    );
}

#[test]
fn the_login_of_a_moved_sender_is_told_at_its_next_hop_over_both_protocols() {
    let daemon = start("");
    save(&daemon, &AFTER.map(ToOwned::to_owned));
    relayhost_becomes(&daemon, "[r2.test]:587");
    let mut socketmap = Socketmap::to(&daemon, 0);
    let mut tcp = TcpTable::to(&daemon, 1);
    let mut ask: [&mut dyn FnMut(&str) -> Reply; 2] =
        [&mut |key| socketmap.ask("sasl", key), &mut |key| tcp.ask(key)];
    for ask in &mut ask {
        for (next_hop, login) in [
            ("[r1.test]:587", Reply::found("a:old")),
            ("[R2.test]:587", Reply::found("a:new")),
        ] {
            let host = next_hop.trim_matches(['[', ']']).split(']').next().unwrap();
            assert_eq!(ask("u@a.test"), Reply::NotFound);
            // Even where the file has an entry for the host: it would hide the next hop.
            assert_eq!(ask(host), Reply::NotFound);
            assert_eq!(ask(next_hop), login);
        }
        assert_eq!(ask("u@a.test"), Reply::NotFound);
        assert_eq!(ask("fallback.test"), Reply::NotFound);
        assert!(ask("[fallback.test]:587").is_cannot_tell());
        // Who did not move is answered as ever, and so is mail of the null sender.
        assert_eq!(ask("u@b.test"), Reply::found("b:stays"));
        assert_eq!(ask("r1.test"), Reply::found("host:entry"));
        assert_eq!(ask("[r1.test]:587"), Reply::found("hop:one"));
    }
}

#[test]
fn what_an_edit_changed_is_remembered_for_the_time_that_is_set_and_not_longer() {
    let daemon = start("[reload]\nin_flight = 0.3\n");
    save(&daemon, &AFTER.map(ToOwned::to_owned));
    relayhost_becomes(&daemon, "[r2.test]:587");
    let mut client = Socketmap::to(&daemon, 0);
    eventually(
        || client.ask("sasl", "u@a.test"),
        |reply| *reply == Reply::found("a:new"),
    );
    let daemon = start("[reload]\nin_flight = 0\n");
    save(&daemon, &AFTER.map(ToOwned::to_owned));
    relayhost_becomes(&daemon, "[r2.test]:587");
    assert_eq!(
        Socketmap::to(&daemon, 0).ask("sasl", "u@a.test"),
        Reply::found("a:new")
    );
}

#[test]
fn status_and_metrics_count_the_senders_in_flight() {
    let [relay_map, credentials] = BEFORE;
    let (daemon, admin) = Admin::start(Setup::new().relaymap(relay_map).credentials(credentials));
    let count = || admin.metrics().value("postmapd_senders_in_flight");
    assert!(count() < 0.5);
    save(&daemon, &AFTER.map(ToOwned::to_owned));
    eventually(count, |count| (0.5..1.5).contains(count));
    assert_eq!(admin.status()["senders_in_flight"], 1);
}

#[test]
fn two_moved_senders_at_once_on_one_connection_wait() {
    let daemon = start("");
    let both = [
        AFTER[0].replace("[r1.test]:587", "[r3.test]:587"),
        AFTER[1].to_owned(),
    ];
    save(&daemon, &both);
    relayhost_becomes(&daemon, "[r2.test]:587");
    let mut client = Socketmap::to(&daemon, 0);
    assert_eq!(client.ask("sasl", "u@a.test"), Reply::NotFound);
    for key in ["u@b.test", "r1.test", "[r1.test]:587", "u@a.test"] {
        let reply = client.ask("sasl", key);
        assert!(
            reply.is_cannot_tell() && reply.reason().contains("proxy:"),
            "{key}: {reply:?}"
        );
    }
}
