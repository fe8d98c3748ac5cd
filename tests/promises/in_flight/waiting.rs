//! Mail on its way to a relay for which its sender's login is no longer known waits, and is then sent to the new relay.
//!
//! The answer is a temporary error, which smtp(8) logs as a local data error. No relay receives a login that is not its
//! own, or a mail without a login.

use super::{LOGINS, burst_lock, login, save};
use crate::harness::daemon::{Daemon, Setup};
use crate::harness::postfix::{self, DEADLINE, Release};
use crate::harness::smtp_server::{self, Auth, Journal, SmtpServer};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

const MAILS: usize = 48;
const FALLBACK_LOGIN: &str = "fallback:its-own";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    /// `smtp_fallback_relay`, and the relay before the move is down from the beginning. Logins are by next hop. The
    /// fallback relay accepts mail with its own login until the sender moves. From then on, it is no known relay of the
    /// sender, so mail that comes to it waits.
    FallbackFromTheBeginning,
    /// `smtp_fallback_relay`, and the relay before the move goes down after it. Logins are by sender, and the fallback
    /// relay receives none of them.
    FallbackAfterTheMove,
    /// `smtp_sender_dependent_authentication = no`: the edit replaces one next hop and its login by another.
    NextHopAndLoginReplaced,
}

impl Case {
    fn has_fallback(self) -> bool {
        self != Self::NextHopAndLoginReplaced
    }

    fn files(self, relay: &str, own: &str, fallback: &SmtpServer) -> [String; 2] {
        let fallback = fallback.next_hop();
        let credentials = match self {
            Self::FallbackFromTheBeginning => format!("{relay} {own}\n{fallback} {FALLBACK_LOGIN}\n"),
            Self::FallbackAfterTheMove => format!("@moving.test {own}\n"),
            Self::NextHopAndLoginReplaced => format!("{relay} {own}\n"),
        };
        [format!("@moving.test {relay}\n"), credentials]
    }
}

fn relay(name: &str, number: u8, own: &str, journal: &Journal) -> SmtpServer {
    smtp_server::Setup::new(name, Ipv4Addr::new(127, 0, 0, number))
        .auth(Auth::Demanded)
        .accepting(login(own))
        .delay(Duration::from_millis(200))
        .journal(journal)
        .start()
        .unwrap()
}

fn send(release: Release, case: Case) {
    let _alone = burst_lock();
    let journal = Journal::default();
    let mut first = Some(relay("relay 1", 2, LOGINS[0], &journal));
    let second = relay("relay 2", 3, LOGINS[1], &journal);
    let fallback = relay("fallback", 4, FALLBACK_LOGIN, &journal);
    let next_hops = [first.as_ref().unwrap().next_hop(), second.next_hop()];
    if case == Case::FallbackFromTheBeginning {
        first = None;
    }
    let [relay_map, credentials] = case.files(&next_hops[0], LOGINS[0], &fallback);
    let daemon = Daemon::start(
        Setup::new()
            .relaymap(relay_map)
            .credentials(credentials)
            .listen("socketmap:inet:127.0.0.1:0"),
    );
    let map = |name| format!("{}:{name}", daemon.endpoint(0));
    let mut postfix = postfix::Setup::release(release)
        .unwrap()
        .set("sender_dependent_relayhost_maps", map("relayhost"))
        .set("smtp_sasl_password_maps", map("sasl"))
        .set("smtp_connection_cache_on_demand", "no")
        .set("default_destination_concurrency_limit", "8")
        .set("initial_destination_concurrency", "8");
    if case.has_fallback() {
        postfix = postfix.set("smtp_fallback_relay", fallback.next_hop());
    } else {
        postfix = postfix.set("smtp_sender_dependent_authentication", "no");
    }
    let postfix = postfix.start().unwrap();
    // However slowly the mails are submitted, most are queued when the edit comes.
    journal.hold_after(MAILS / 4);
    let recipients: Vec<String> = (0..MAILS).map(|number| format!("to-{number}@far.test")).collect();
    for to in &recipients {
        postfix.send("u@moving.test", to).unwrap();
    }
    let arrived = journal.mails().len();
    assert!(arrived < MAILS * 3 / 4, "{arrived} of {MAILS} mails were through");
    save(&daemon, &case.files(&next_hops[1], LOGINS[1], &fallback));
    let saved = Instant::now();
    while postfix
        .lookup(&map("relayhost"), "u@moving.test")
        .unwrap()
        .as_deref()
        != Some(&next_hops[1])
    {
        assert!(saved.elapsed() < DEADLINE, "the edit has no effect");
    }
    journal.release();
    if case == Case::FallbackAfterTheMove {
        drop(first.take());
    }
    // Waiting mail is attempted now instead of in five minutes.
    postfix
        .wait_for_queue(|queue| queue.iter().all(|mail| mail.queue == "deferred"))
        .unwrap();
    let waited = postfix.queue().unwrap().len();
    assert!(waited > 0, "no mail had to wait");
    postfix.flush().unwrap();
    let flushed = Instant::now();
    for to in &recipients {
        // A mail that was on its way from the maildrop may have been deferred since.
        while journal.mail_to(to, Duration::from_secs(2)).is_none() {
            let log = postfix.log();
            let of_mail: Vec<&str> = log.lines().filter(|line| line.contains(to)).collect();
            assert!(flushed.elapsed() < DEADLINE, "{to}: {of_mail:?}");
            postfix.flush().unwrap();
        }
    }

    let log = postfix.log();
    assert!(!log.contains("status=bounced"), "{log}");
    for line in log.lines().filter(|line| line.contains("status=deferred")) {
        assert!(line.contains("local data error while talking to"), "{line}");
    }
    let own = [
        ("relay 1", LOGINS[0]),
        ("relay 2", LOGINS[1]),
        ("fallback", FALLBACK_LOGIN),
    ];
    for attempt in journal.attempts() {
        let shown = attempt.login.to_string();
        assert!(
            own.contains(&(attempt.server.as_str(), shown.as_str())),
            "{attempt:?}"
        );
    }
    let is_used = !fallback.mails().is_empty();
    assert_eq!(is_used, case == Case::FallbackFromTheBeginning);
    assert!(!second.mails().is_empty());
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn waiting_mail_gets_the_right_login_with_a_fallback_relay_and_the_first_down_from_the_beginning() {
    for release in Release::ALL {
        send(release, Case::FallbackFromTheBeginning);
    }
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn waiting_mail_gets_the_right_login_with_a_fallback_relay_and_the_first_down_after_the_move() {
    for release in Release::ALL {
        send(release, Case::FallbackAfterTheMove);
    }
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn waiting_mail_gets_the_right_login_when_one_next_hop_replaces_another() {
    for release in Release::ALL {
        send(release, Case::NextHopAndLoginReplaced);
    }
}
