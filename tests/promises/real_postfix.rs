//! A real Postfix sends real mail through the right relay with the right credentials, and edits take effect at once.
//!
//! Each promise is tested for each way in which Postfix can reach a table: `socketmap:inet:`, `socketmap:unix:` with
//! chrooted services, `proxy:socketmap:` and `tcp:`. For each there are a private Postfix, and two relays and a default
//! relay that accept no mail without AUTH and only their own logins. The recipient's own server offers AUTH and accepts
//! any login: a login it receives is a leak. All tests run with each [`Release`] of Postfix.
//!
//! Postfix caches for 30 s how it resolved the last pair of sender and recipient, so every recipient is used only once.

use crate::harness::daemon::{CREDENTIALS, Daemon, RELAYMAP, SETTINGS, Setup};
use crate::harness::postfix::{self, DEADLINE, Postfix, Release};
use crate::harness::smtp_server::{self, Auth, Journal, Login, Mail, SmtpServer};
use std::cell::Cell;
use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Instant;

/// How Postfix reaches the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    /// `socketmap:inet:`, no service chrooted.
    Inet,
    /// `socketmap:unix:` with a path relative to the queue directory, the querying services chrooted.
    UnixFromTheChroot,
    /// `proxy:socketmap:inet:`, queried by proxymap(8), which is not chrooted.
    Proxy,
    /// `tcp:`, with a port for each map.
    Tcp,
}

impl Transport {
    const SOCKET: &str = "postmapd/socketmap";

    fn chrooted(self) -> bool {
        matches!(self, Self::UnixFromTheChroot | Self::Proxy)
    }

    /// Adds the listeners to a setup.
    fn listen(self, setup: Setup, postfix: &postfix::Setup) -> Setup {
        match self {
            Self::Inet | Self::Proxy => setup.listen("socketmap:inet:127.0.0.1:0"),
            Self::UnixFromTheChroot => {
                let socket = postfix.queue_directory().join(Self::SOCKET);
                fs::create_dir(socket.parent().unwrap()).unwrap();
                setup.listen(format!("socketmap:unix:{}", socket.display()))
            }
            Self::Tcp => setup
                .listen("tcp:127.0.0.1:0:relayhost")
                .listen("tcp:127.0.0.1:0:sasl"),
        }
    }

    /// The values in main.cf for `relayhost` and for `sasl`.
    fn maps(self, daemon: &Daemon) -> [String; 2] {
        ["relayhost", "sasl"].map(|map| match self {
            Self::Inet => format!("{}:{map}", daemon.endpoint(0)),
            Self::UnixFromTheChroot => format!("socketmap:unix:{}:{map}", Self::SOCKET),
            Self::Proxy => format!("proxy:{}:{map}", daemon.endpoint(0)),
            Self::Tcp => format!("tcp:{}", daemon.address(usize::from(map == "sasl"))),
        })
    }
}

/// The relays and the recipient's server, and the text of the two files for them.
struct SmtpServers {
    journal: Journal,
    one: SmtpServer,
    two: SmtpServer,
    default: SmtpServer,
    recipient: SmtpServer,
}

/// The address of the recipient's own server, to which mail is sent.
const RECIPIENT_HOST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

/// Where a mail arrived, and with which login: `server`, or `server as user:password`.
type Arrival = String;

/// The logins at the relays. The passwords have what real ones have: colons, whitespace, quotes, percent signs.
const ONE: (&str, &str) = ("relay_user_1", "pw:with:colons");
const TWO: (&str, &str) = ("relay_user_2", r#"p%20 w#"\$"#);
const BOSS: (&str, &str) = ("boss", "größer");
const JOHN: (&str, &str) = ("john", "quoted");
const DEFAULT: (&str, &str) = ("default_user", "default:password");
const BOUNCES: (&str, &str) = ("bounces", "of next hop one");
const NEW_ONE: (&str, &str) = ("relay_user_1", "rotated");
const NEW_TWO: (&str, &str) = ("relay_user_2b", "rotated, too");
/// In the credentials file, for a server that is not used.
const LEAK: (&str, &str) = ("leak", "never-to-be-offered");

fn login((user, password): (&str, &str)) -> Login {
    Login::new(user, password)
}

impl SmtpServers {
    fn start() -> Self {
        let journal = Journal::default();
        let relay = |name, last, logins: &[(&str, &str)]| {
            logins
                .iter()
                .fold(
                    smtp_server::Setup::new(name, Ipv4Addr::new(127, 0, 0, last))
                        .auth(Auth::Demanded)
                        .journal(&journal),
                    |setup, &known| setup.accepting(login(known)),
                )
                .start()
                .unwrap()
        };
        Self {
            one: relay("relay one", 2, &[ONE, JOHN, BOUNCES, NEW_ONE, NEW_TWO]),
            two: relay("relay two", 3, &[TWO, BOSS, ONE, NEW_TWO]),
            default: relay("default relay", 4, &[DEFAULT]),
            recipient: smtp_server::Setup::new("recipient", RECIPIENT_HOST)
                .auth(Auth::Offered)
                .journal(&journal)
                .start()
                .unwrap(),
            journal,
        }
    }

    fn relaymap(&self) -> String {
        let (one, two) = (self.one.next_hop(), self.two.next_hop());
        format!(
            "# who leaves by which relay\n\
             @domain1.com  {one}\n\
             @domain2.com  {two}\n\
             boss@domain1.com  {two}\n\
             \"john doe\"@domain2.com  {one}\n\
             @domain3.com\n\
             direct@domain1.com\n"
        )
    }

    fn credentials() -> String {
        let line = |key: &str, (user, password): (&str, &str)| format!("{key}  {user}:{password}\n");
        [
            line("@domain1.com", ONE),
            line("@domain2.com", TWO),
            line("boss@domain1.com", BOSS),
            line("\"john doe\"@domain2.com", JOHN),
            line("@domain3.com", LEAK),
            line("direct@domain1.com", LEAK),
        ]
        .concat()
    }

    /// Domain 1 moves to the other relay with a rotated password, the null sender gets a relay, and domain 3 gets one
    /// too.
    fn relaymap_after_the_edit(&self) -> String {
        let (one, two) = (self.one.next_hop(), self.two.next_hop());
        format!(
            "@domain1.com  {two}\n\
             @domain2.com  {one}\n\
             @domain3.com  {one}\n\
             <>  {one}\n"
        )
    }

    fn credentials_after_the_edit(&self) -> String {
        let (one, (user, password)) = (self.one.next_hop(), BOUNCES);
        format!(
            "@domain1.com  {}\n@domain2.com  {}\n@domain3.com  {}\n{one}  {user}:{password}\n",
            login(NEW_TWO),
            login(NEW_TWO),
            login(NEW_ONE),
        )
    }
}

/// Everything between a sender and a recipient. The fields are dropped in this order.
struct Fixture {
    postfix: Postfix,
    daemon: Daemon,
    maps: [String; 2],
    smtp_servers: SmtpServers,
    sent: Cell<usize>,
}

impl Fixture {
    fn start(release: Release, transport: Transport) -> Self {
        let smtp_servers = SmtpServers::start();
        let postfix = postfix::Setup::release(release)
            .unwrap()
            .chrooted(transport.chrooted());
        let (user, password) = DEFAULT;
        let setup = Setup::new()
            .relaymap(smtp_servers.relaymap())
            .credentials(SmtpServers::credentials())
            .env("RELAY_HOST", "127.0.0.4")
            .env("RELAY_PORT", smtp_servers.default.port().to_string())
            .env("RELAY_USER", user)
            .env("RELAY_PASSWORD", password);
        // Where SMTP clients share a connection, mail of a sender that has just moved would wait.
        let setup = if transport == Transport::Proxy {
            setup.settings("[reload]\nin_flight = 0\n")
        } else {
            setup
        };
        let daemon = Daemon::start(transport.listen(setup, &postfix));
        let maps = transport.maps(&daemon);
        let postfix = postfix
            .set("smtp_tcp_port", smtp_servers.recipient.port().to_string())
            .set("sender_dependent_relayhost_maps", &maps[0])
            .set("smtp_sasl_password_maps", &maps[1])
            .start()
            .unwrap();
        Self {
            postfix,
            daemon,
            maps,
            smtp_servers,
            sent: Cell::new(0),
        }
    }

    /// A recipient that was not used before.
    fn fresh_recipient(&self) -> String {
        self.sent.set(self.sent.get() + 1);
        format!("recipient-{}@[{RECIPIENT_HOST}]", self.sent.get())
    }

    /// Sends a mail by SMTP, and returns its recipient.
    fn send(&self, sender: &str) -> String {
        let recipient = self.fresh_recipient();
        self.postfix.send(sender, &recipient).unwrap();
        recipient
    }

    /// Waits for the mail to that recipient, at any server.
    fn arrival(&self, recipient: &str) -> Arrival {
        let mail = self.smtp_servers.journal.mail_to(recipient, DEADLINE);
        arrival(&mail.unwrap_or_else(|| panic!("the mail to {recipient} does not arrive")))
    }

    /// Sends a mail from each sender, and compares where they arrive, and with which login.
    fn expect(&self, expected: &[(&str, Arrival)]) {
        let recipients: Vec<_> = expected.iter().map(|(sender, _)| self.send(sender)).collect();
        self.expect_at(&recipients, expected);
    }

    /// Compares where the mails to these recipients arrive.
    fn expect_at(&self, recipients: &[String], expected: &[(&str, Arrival)]) {
        let surprises: Vec<_> = expected
            .iter()
            .zip(recipients)
            .map(|((sender, expected), recipient)| (sender, expected, self.arrival(recipient)))
            .filter(|(_, expected, arrival)| *expected != arrival)
            .map(|(sender, expected, arrival)| {
                format!("mail from <{sender}> arrived at {arrival}, not at {expected}")
            })
            .collect();
        assert!(surprises.is_empty(), "{}", surprises.join("\n"));
    }

    /// Checks that no server received credentials that it does not know, and the recipient's own server none at all.
    fn expect_no_stray_credentials(&self) {
        let attempts = self.smtp_servers.journal.attempts();
        let strays: Vec<_> = attempts
            .iter()
            .filter(|attempt| !attempt.accepted || attempt.server == "recipient")
            .collect();
        assert_eq!(strays, Vec::<&smtp_server::Attempt>::new());
    }

    /// Waits until Postfix's own client gets that answer from the server.
    fn wait_for_answer(&self, map: usize, key: &str, value: &str) {
        let deadline = Instant::now() + DEADLINE;
        while self.postfix.lookup(&self.maps[map], key).unwrap().as_deref() != Some(value) {
            assert!(Instant::now() < deadline, "the edit has not taken effect");
        }
    }
}

fn arrival(mail: &Mail) -> Arrival {
    match &mail.login {
        Some(login) => at(&mail.server, (&login.user, &login.password)),
        None => mail.server.clone(),
    }
}

/// The arrival at a relay.
fn at(server: &str, known: (&str, &str)) -> Arrival {
    format!("{server} as {}", login(known))
}

/// The arrival at the recipient's own server, without AUTH.
fn direct() -> Arrival {
    "recipient".into()
}

fn each_mail_uses_the_relay_and_the_credentials_of_its_sender(release: Release, transport: Transport) {
    let fixture = Fixture::start(release, transport);
    fixture.expect(&[
        ("ann@domain1.com", at("relay one", ONE)),
        ("bob@domain2.com", at("relay two", TWO)),
        ("boss@domain1.com", at("relay two", BOSS)),
        ("boss+holiday@domain1.com", at("relay two", BOSS)),
        ("Boss+Holiday@DOMAIN1.COM", at("relay two", BOSS)),
        ("ANN+tag@Domain1.Com", at("relay one", ONE)),
        (r#""mary ann"@domain1.com"#, at("relay one", ONE)),
        (r#""john doe"@domain2.com"#, at("relay one", JOHN)),
        (r#""John Doe+x"@domain2.com"#, at("relay one", JOHN)),
        ("stranger@elsewhere.test", at("default relay", DEFAULT)),
        // RELAY_HOST applies to senders that have a domain.
        ("", direct()),
    ]);
    fixture.expect_no_stray_credentials();
}

fn an_edit_of_both_files_applies_to_the_next_mail(release: Release, transport: Transport) {
    let fixture = Fixture::start(release, transport);
    let (one, two) = (
        fixture.smtp_servers.one.next_hop(),
        fixture.smtp_servers.two.next_hop(),
    );
    let before = [
        ("ann@domain1.com", at("relay one", ONE)),
        ("bob@domain2.com", at("relay two", TWO)),
        ("dan@domain3.com", direct()),
        ("", direct()),
    ];
    fixture.expect(&before);

    // Mail is sent continuously during the edit.
    let in_between: Vec<_> = (0..20)
        .map(|n| {
            if n == 5 {
                // Saves as careful programs do: a new file renamed over the old one.
                fixture
                    .daemon
                    .replace(CREDENTIALS, fixture.smtp_servers.credentials_after_the_edit());
                fixture
                    .daemon
                    .replace(RELAYMAP, fixture.smtp_servers.relaymap_after_the_edit());
            }
            fixture.send("ann@domain1.com")
        })
        .collect();
    // The credentials were saved first. (postmap(1) gets none for a sender that has just moved:
    // tests/promises/in_flight.rs.)
    fixture.wait_for_answer(0, "ann@domain1.com", &two);
    fixture.expect(&[
        ("ann@domain1.com", at("relay two", NEW_TWO)),
        ("bob@domain2.com", at("relay one", NEW_TWO)),
        ("dan@domain3.com", at("relay one", NEW_ONE)),
        // The null sender has no credentials of its own and gets those of its next hop.
        ("", at("relay one", BOUNCES)),
        // The edit removed this sender's entry, so that of its domain applies.
        ("boss@domain1.com", at("relay two", NEW_TWO)),
    ]);
    // Postfix requests the relay first and the password later, and two files are two edits. So a mail in between may
    // have an old relay and new credentials. It is never delivered directly or without a login.
    let known = [
        ("relay one", ONE),
        ("relay one", NEW_TWO),
        ("relay two", NEW_TWO),
        ("relay two", ONE),
    ]
    .map(|(server, known)| at(server, known));
    for recipient in &in_between {
        let arrival = fixture.arrival(recipient);
        assert!(known.contains(&arrival), "{recipient}: {arrival}");
    }

    // Saves as an editor without a swap file does: rewrites the same file.
    fs::write(fixture.daemon.dir().join(CREDENTIALS), SmtpServers::credentials()).unwrap();
    fs::write(
        fixture.daemon.dir().join(RELAYMAP),
        fixture.smtp_servers.relaymap(),
    )
    .unwrap();
    fixture.wait_for_answer(0, "ann@domain1.com", &one);
    fixture.expect(&before);
    fixture.expect_no_stray_credentials();
}

fn an_excluded_sender_reaches_the_recipients_server_without_any_auth(release: Release, transport: Transport) {
    let fixture = Fixture::start(release, transport);
    fixture.expect(&[
        ("dan@domain3.com", direct()),
        ("Dan+x@DOMAIN3.com", direct()),
        (r#""dan dan"@domain3.com"#, direct()),
        ("direct@domain1.com", direct()),
        ("direct+x@domain1.com", direct()),
    ]);
    assert_eq!(fixture.smtp_servers.recipient.attempts(), []);
    // No other server received those credentials.
    assert_eq!(fixture.smtp_servers.journal.attempts(), []);
    assert_eq!(fixture.smtp_servers.recipient.mails().len(), 5);
}

fn with_the_server_killed_all_mail_waits_and_is_delivered_correctly_after_its_restart(
    release: Release,
    transport: Transport,
) {
    let mut fixture = Fixture::start(release, transport);
    fixture.expect(&[("ann@domain1.com", at("relay one", ONE))]);
    fixture.daemon.kill();

    let mut expected = vec![
        ("dan@domain3.com", direct()),
        ("ann@domain1.com", at("relay one", ONE)),
        ("stranger@elsewhere.test", at("default relay", DEFAULT)),
        ("", direct()),
    ];
    if transport == Transport::Tcp {
        // A `tcp:` client tries ten times at intervals of a second, for one mail after another.
        expected.truncate(2);
    }
    // sendmail(1) does no lookup; smtpd(8) would reject the mail for now, and cache that.
    let recipients: Vec<_> = expected
        .iter()
        .map(|(sender, _)| {
            let recipient = fixture.fresh_recipient();
            fixture.postfix.submit(sender, &recipient).unwrap();
            recipient
        })
        .collect();
    let queue = fixture
        .postfix
        .wait_for_queue(|queue| {
            let deferred = queue
                .iter()
                .filter(|mail| mail.queue == "deferred" && mail.reason.is_some());
            deferred.count() == expected.len()
        })
        .unwrap();
    for mail in &queue {
        assert_eq!(
            mail.reason.as_deref(),
            Some("address resolver failure"),
            "{mail:?}"
        );
    }
    assert_eq!(
        fixture.smtp_servers.journal.mails().len(),
        1,
        "only the one from before"
    );
    assert_eq!(fixture.smtp_servers.journal.attempts().len(), 1);

    fixture.daemon = Daemon::start(fixture.daemon.setup());
    assert_eq!(
        transport.maps(&fixture.daemon),
        fixture.maps,
        "the same ports and sockets"
    );
    // qmgr(8) caches its last failure for 30 s, as it does a success; another mail replaces it.
    fixture.expect(&[("bob@domain2.com", at("relay two", TWO))]);
    fixture.postfix.flush().unwrap();
    fixture.expect_at(&recipients, &expected);
    fixture.postfix.wait_for_queue(<[_]>::is_empty).unwrap();
    fixture.expect_no_stray_credentials();
}

fn with_only_the_password_unknown_mail_waits_and_is_not_sent_unauthenticated(
    release: Release,
    transport: Transport,
) {
    let mut fixture = Fixture::start(release, transport);
    // A table without a server has the next hop of ann's mail, so that Postfix goes on to request her password. This
    // relay would accept mail without one.
    let open = smtp_server::Setup::new("open relay", Ipv4Addr::new(127, 0, 0, 5))
        .journal(&fixture.smtp_servers.journal)
        .start()
        .unwrap();
    let table = fixture.postfix.root().join("etc/relays");
    fs::write(&table, format!("@domain1.com {}\n", open.next_hop())).unwrap();
    let relays = format!("texthash:{}", table.display());
    fixture
        .postfix
        .set(&[("sender_dependent_relayhost_maps", &relays)])
        .unwrap();
    fixture.expect(&[("ann@domain1.com", at("open relay", ONE))]);
    fixture.daemon.kill();

    let recipient = fixture.fresh_recipient();
    fixture.postfix.submit("ann@domain1.com", &recipient).unwrap();
    let queue = fixture
        .postfix
        .wait_for_queue(|queue| {
            queue
                .iter()
                .any(|mail| mail.queue == "deferred" && mail.reason.is_some())
        })
        .unwrap();
    let reason = queue[0].reason.as_deref().unwrap_or_default();
    assert!(
        reason.starts_with("local data error while talking to"),
        "{queue:?}"
    );
    assert_eq!(
        fixture.smtp_servers.journal.mails().len(),
        1,
        "only the one from before"
    );
    assert_eq!(fixture.smtp_servers.journal.attempts().len(), 1);

    fixture.daemon = Daemon::start(fixture.daemon.setup());
    fixture.postfix.flush().unwrap();
    assert_eq!(fixture.arrival(&recipient), at("open relay", ONE));
}

/// Every promise, with each release, in each way.
macro_rules! with {
    ($($of:ident: $release:expr => {$($module:ident: $transport:expr,)*})*) => {$(
        mod $of {
            use super::{Release, Transport};

            $(mod $module {
                use super::{Release, Transport};

                #[test]
                #[ignore = "needs root: tests/run-all"]
                fn each_mail_uses_the_relay_and_the_credentials_of_its_sender() {
                    super::super::each_mail_uses_the_relay_and_the_credentials_of_its_sender($release, $transport);
                }

                #[test]
                #[ignore = "needs root: tests/run-all"]
                fn an_edit_of_both_files_applies_to_the_next_mail() {
                    super::super::an_edit_of_both_files_applies_to_the_next_mail($release, $transport);
                }

                #[test]
                #[ignore = "needs root: tests/run-all"]
                fn an_excluded_sender_reaches_the_recipients_server_without_any_auth() {
                    super::super::an_excluded_sender_reaches_the_recipients_server_without_any_auth($release, $transport);
                }

                #[test]
                #[ignore = "needs root: tests/run-all"]
                fn with_the_server_killed_all_mail_waits_and_is_delivered_correctly_after_its_restart() {
                    super::super::with_the_server_killed_all_mail_waits_and_is_delivered_correctly_after_its_restart($release, $transport);
                }

                #[test]
                #[ignore = "needs root: tests/run-all"]
                fn with_only_the_password_unknown_mail_waits_and_is_not_sent_unauthenticated() {
                    super::super::with_only_the_password_unknown_mail_waits_and_is_not_sent_unauthenticated($release, $transport);
                }
            })*
        }
    )*};
}

with! {
    postfix_3_7: Release::Installed => {
        socketmap_inet: Transport::Inet,
        socketmap_unix_from_the_chroot: Transport::UnixFromTheChroot,
        proxy_socketmap_inet: Transport::Proxy,
        tcp_table: Transport::Tcp,
    }
    postfix_3_10: Release::Debian13 => {
        socketmap_inet: Transport::Inet,
        socketmap_unix_from_the_chroot: Transport::UnixFromTheChroot,
        proxy_socketmap_inet: Transport::Proxy,
        tcp_table: Transport::Tcp,
    }
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_tested_postfix_releases_are_those_that_the_readme_names() {
    let readme = include_str!("../../README.md").replace('\n', " ");
    for release in Release::ALL {
        let postconf = Command::new(release.programs().join("postconf"))
            .args(["-d", "-h", "mail_version"])
            .output()
            .unwrap();
        let version = String::from_utf8_lossy(&postconf.stdout).into_owned();
        let expected = release.version();
        assert!(version.starts_with(&format!("{expected}.")), "{version}");
        assert!(readme.contains(&format!("Postfix {expected} ")), "{expected}");
    }
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn mail_waits_in_the_queue_while_postfix_may_not_query_its_password() {
    for release in Release::ALL {
        mail_waits_while_its_password_may_not_be_queried(release);
    }
}

fn mail_waits_while_its_password_may_not_be_queried(release: Release) {
    let fixture = Fixture::start(release, Transport::Inet);
    fixture.expect(&[("ann@domain1.com", at("relay one", ONE))]);
    let seen = fixture.daemon.log_lines();
    fixture.daemon.replace(SETTINGS, "allow_users = [\"root\"]\n");
    fixture
        .daemon
        .wait_for_log_after(seen, |line| line.contains("generation"));

    // smtp(8) may send the request on a connection it already has.
    let recipient = fixture.fresh_recipient();
    fixture.postfix.submit("bob@domain2.com", &recipient).unwrap();
    let queue = fixture
        .postfix
        .wait_for_queue(|queue| {
            queue
                .iter()
                .any(|mail| mail.queue == "deferred" && mail.reason.is_some())
        })
        .unwrap();
    let reason = queue[0].reason.as_deref().unwrap_or_default();
    assert!(
        reason.starts_with("local data error while talking to"),
        "{queue:?}"
    );
    // Postfix's log has the user and the reason.
    let message = "permanent error: user postfix (";
    fixture.postfix.wait_for_log(message, 1).unwrap();
    assert!(fixture.postfix.log().contains("allow_users of postmapd"));
    assert_eq!(
        fixture.smtp_servers.journal.mails().len(),
        1,
        "only the one from before"
    );
    assert_eq!(fixture.smtp_servers.journal.attempts().len(), 1);

    let seen = fixture.daemon.log_lines();
    fixture.daemon.replace(SETTINGS, "");
    fixture
        .daemon
        .wait_for_log_after(seen, |line| line.contains("generation"));
    fixture.postfix.flush().unwrap();
    assert_eq!(fixture.arrival(&recipient), at("relay two", TWO));
    fixture.expect_no_stray_credentials();
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn half_a_login_of_the_default_relay_keeps_the_mail_of_postfix_3_7() {
    half_a_login_keeps_mail(Release::Installed);
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn half_a_login_of_the_default_relay_keeps_the_mail_of_postfix_3_10() {
    half_a_login_keeps_mail(Release::Debian13);
}

fn half_a_login_keeps_mail(release: Release) {
    let journal = Journal::default();
    // This relay would accept mail without a login.
    let open = smtp_server::Setup::new("open relay", Ipv4Addr::new(127, 0, 0, 5))
        .journal(&journal)
        .start()
        .unwrap();
    let setup = Setup::new()
        .env("RELAY_HOST", "127.0.0.5")
        .env("RELAY_PORT", open.port().to_string())
        .env("RELAY_USER", ONE.0);
    let mut daemon = Daemon::start(setup);
    let maps = Transport::Inet.maps(&daemon);
    let postfix = postfix::Setup::release(release)
        .unwrap()
        .set("sender_dependent_relayhost_maps", &maps[0])
        .set("smtp_sasl_password_maps", &maps[1])
        .start()
        .unwrap();
    let recipient = format!("recipient@[{RECIPIENT_HOST}]");
    postfix.submit("ann@else.test", &recipient).unwrap();
    let queue = postfix
        .wait_for_queue(|queue| {
            queue
                .iter()
                .any(|mail| mail.queue == "deferred" && mail.reason.is_some())
        })
        .unwrap();
    let reason = queue[0].reason.as_deref().unwrap_or_default();
    assert!(
        reason.starts_with("local data error while talking to"),
        "{queue:?}"
    );
    assert_eq!((journal.mails().len(), journal.attempts().len()), (0, 0));

    // With the other half, the mail is sent.
    daemon.kill();
    let daemon = Daemon::start(daemon.setup().env("RELAY_PASSWORD", ONE.1));
    assert_eq!(Transport::Inet.maps(&daemon), maps, "the same ports");
    postfix.flush().unwrap();
    let mail = journal.mail_to(&recipient, DEADLINE).expect("the mail arrives");
    assert_eq!(arrival(&mail), at("open relay", ONE));
}

/// The control: with Postfix's own tables, the leak that the server prevents does occur, and the fake server detects
/// it.
#[test]
#[ignore = "needs root: tests/run-all"]
fn with_plain_tables_postfix_sends_an_excluded_senders_password_to_the_recipients_server() {
    for release in Release::ALL {
        with_plain_tables_a_password_goes_to_the_recipients_server(release);
    }
}

fn with_plain_tables_a_password_goes_to_the_recipients_server(release: Release) {
    let smtp_servers = SmtpServers::start();
    let setup = postfix::Setup::release(release).unwrap();
    let table = |name: &str, text: String| {
        let path = setup.root().join("etc").join(name);
        fs::write(&path, text).unwrap();
        format!("texthash:{}", path.display())
    };
    let relays = table("relays", smtp_servers.relaymap());
    let passwords = table("passwords", SmtpServers::credentials());
    let postfix = setup
        .set("smtp_tcp_port", smtp_servers.recipient.port().to_string())
        .set("sender_dependent_relayhost_maps", relays)
        .set("smtp_sasl_password_maps", passwords)
        .start()
        .unwrap();
    for (sender, recipient, expected) in [
        ("ann@domain1.com", "one@[127.0.0.9]", at("relay one", ONE)),
        ("dan@domain3.com", "two@[127.0.0.9]", at("recipient", LEAK)),
    ] {
        postfix.send(sender, recipient).unwrap();
        let mail = smtp_servers.journal.mail_to(recipient, DEADLINE).unwrap();
        assert_eq!(arrival(&mail), expected);
    }
}
