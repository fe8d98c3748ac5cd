//! Several SMTP clients, on one connection or on one each, while edits move their senders: no login but the right one.
//!
//! A client does what `smtp_sasl_passwd_lookup` does. What is right is worked out by a model that keeps every generation
//! as plain maps.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::Exchange;
use crate::diagnostics::Findings;
use crate::lookup::address::LookupKeys;
use crate::lookup::map::Map;
use crate::lookup::reason;
use crate::lookup::search::Scratch;
use crate::lookup::snapshot::Snapshot;
use crate::lookup::table::Table;
use crate::lookup::table::spec::{CREDENTIALS, RELAY_MAP};
use crate::protocol::answer::{Answer, Reason};

const WINDOW: Duration = Duration::from_secs(900);
const SENDERS: [&str; 4] = ["a@x.test", "\"b b\"@x.test", "c@y.test", "d@z.test"];
/// Their keys in the tables, one each; then the key of all their domains, and that of all senders.
const KEYS: [&str; 6] = [
    "a@x.test",
    "\"b b\"@x.test",
    "@y.test",
    "d@z.test",
    "@.test",
    "@*",
];
/// The number of keys that can have a login.
const LOGIN_KEYS: usize = KEYS.len() - 1;
const RELAYS: [&str; 3] = ["[r1.test]:587", "[r2.test]:587", "r3.test"];
const HOSTS: [&str; 3] = ["r1.test", "r2.test", "mx.r3.test"];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Relay {
    NoEntry,
    Excluded,
    Is(usize),
}

impl Relay {
    fn number(self) -> Option<usize> {
        match self {
            Self::Is(number) => Some(number),
            Self::NoEntry | Self::Excluded => None,
        }
    }
}

/// The files of one generation.
#[derive(Clone, Debug)]
struct Generation {
    /// What the relay map has for each key.
    relays: [Relay; 6],
    /// Whether each key, relay and host has a login.
    logins: [bool; 11],
}

impl Generation {
    fn relay_map(&self) -> String {
        let lines = KEYS.iter().zip(self.relays).map(|(key, relay)| match relay {
            Relay::NoEntry => String::new(),
            Relay::Excluded => format!("{key}\n"),
            Relay::Is(number) => format!("{key} {}\n", RELAYS[number]),
        });
        lines.collect::<Vec<_>>().concat()
    }

    /// Every login is another in each generation.
    fn credentials(&self, number: usize) -> HashMap<String, String> {
        let keys = KEYS.iter().take(LOGIN_KEYS).chain(&RELAYS).chain(&HOSTS);
        let keys = keys.zip(self.logins);
        keys.filter(|(_, has)| *has)
            .map(|(key, _)| {
                (
                    (*key).to_owned(),
                    format!("{number}-{key}:p").replace([' ', '"'], "_"),
                )
            })
            .collect()
    }

    /// What the relay map has for a sender: the entry of its own key, else that of its domain's parent, else `@*`.
    fn relay_number(&self, sender: usize) -> Option<usize> {
        let entries = [sender, 4, 5].map(|key| self.relays[key]);
        let first = entries.into_iter().find(|entry| *entry != Relay::NoEntry);
        first.and_then(Relay::number)
    }

    fn relay_of(&self, sender: usize) -> Option<&'static str> {
        self.relay_number(sender).map(|relay| RELAYS[relay])
    }
}

/// A mail in the hands of one smtp(8).
#[derive(Clone, Copy, Debug)]
struct Mail {
    /// `None` where Postfix asks for no sender: the null sender's mail, or all of it as main.cf has it.
    sender: Option<usize>,
    host: &'static str,
    next_hop: &'static str,
}

/// What smtp(8) comes to.
#[derive(Clone, Debug, PartialEq)]
enum Login {
    Is(String),
    None,
    Deferred,
}

/// The login of a mail if it is asked for as of the last of these generations.
fn right(generations: &[Generation], mail: Mail) -> Login {
    match mail.sender {
        Some(sender) => right_of_sender(generations, sender, mail),
        None => right_without_sender(generations, mail),
    }
}

/// The present login of the host, or of the next hop; not none, where it was removed since senders began to move.
fn right_without_sender(generations: &[Generation], mail: Mail) -> Login {
    let last = generations.len() - 1;
    let first_move = generations
        .windows(2)
        .position(|two| two[0].relays != two[1].relays);
    let login = |key: &str, number: usize| generations[number].credentials(number).remove(key);
    for key in [mail.host, mail.next_hop] {
        if let Some(login) = login(key, last) {
            return Login::Is(login);
        }
        if first_move.is_some_and(|first| (first..last).any(|number| login(key, number).is_some())) {
            return Login::Deferred;
        }
    }
    Login::None
}

fn right_of_sender(generations: &[Generation], sender: usize, mail: Mail) -> Login {
    let plain = |number: usize| {
        let generation = &generations[number];
        let credentials = generation.credentials(number);
        let own = generation.relay_of(sender).and_then(|_| {
            credentials
                .get(KEYS[sender])
                .or_else(|| credentials.get("@.test"))
        });
        let found = own
            .or_else(|| credentials.get(mail.host))
            .or_else(|| credentials.get(mail.next_hop));
        found.cloned().map_or(Login::None, Login::Is)
    };
    let present = generations.last().unwrap().relay_of(sender);
    if generations.iter().all(|one| one.relay_of(sender) == present) {
        return plain(generations.len() - 1);
    }
    let newest = |wanted: Option<&str>| {
        let mut numbers = (0..generations.len()).rev();
        numbers.find(|number| generations[*number].relay_of(sender) == wanted)
    };
    newest(Some(mail.next_hop))
        .or_else(|| newest(None))
        .map_or(Login::Deferred, plain)
}

fn publish(before: Option<&Snapshot>, generation: &Generation, number: usize) -> Snapshot {
    let build = |map, text: String| -> Arc<Table> {
        Table::build(
            map,
            Path::new("t"),
            text.into_bytes().into(),
            &mut Findings::default(),
        )
        .into()
    };
    let credentials = generation.credentials(number);
    let lines = credentials.iter().map(|(key, login)| format!("{key} {login}\n"));
    let credentials: Vec<String> = lines.collect();
    let mut next = Snapshot {
        generation: number as u64,
        ..Snapshot::new(
            build(&RELAY_MAP, generation.relay_map()),
            build(&CREDENTIALS, credentials.concat()),
        )
    };
    if let Some(before) = before {
        let history = &before.history;
        next.history = history.with_edit(
            before.generation,
            before.tracked_tables(),
            next.tracked_tables(),
            Instant::now(),
            WINDOW,
        );
    }
    next
}

/// One smtp(8) that asks.
struct Client {
    mail: Mail,
    /// What it asks, in order.
    requests: Vec<String>,
    asked: usize,
    /// The generation when it asked first.
    since: usize,
    login: Option<Login>,
}

impl Client {
    fn new(mail: Mail) -> Self {
        let mut requests = Vec::new();
        if let Some(sender) = mail.sender.map(|sender| SENDERS[sender]) {
            requests.push(sender.to_owned());
            if sender.contains('"') {
                requests.push(sender.replace('"', ""));
            }
        }
        requests.extend([mail.host.to_owned(), mail.next_hop.to_owned()]);
        Self {
            mail,
            requests,
            asked: 0,
            since: 0,
            login: None,
        }
    }

    fn ask(&mut self, exchange: &mut Exchange, snapshot: &Snapshot, number: usize) {
        if self.asked == 0 {
            self.since = number;
        }
        let key = self.requests[self.asked].as_bytes();
        let mut scratch = Scratch::default();
        let answer = exchange.answer(snapshot, Map::SASL, key, &mut LookupKeys::default(), &mut scratch);
        self.asked += 1;
        self.login = match answer {
            Answer::Found(value) => Some(Login::Is(String::from_utf8(value.expose().to_vec()).unwrap())),
            Answer::CannotTell(_) => Some(Login::Deferred),
            Answer::NotFound if self.asked == self.requests.len() => Some(Login::None),
            Answer::NotFound => None,
        };
    }
}

impl Client {
    /// Whether a login is that of its host or next hop in one of the generations while it asked.
    fn is_own(&self, generations: &[Generation], asked_in: usize, login: &Login) -> bool {
        (self.since..self.since + asked_in).any(|number| {
            let credentials = generations[number].credentials(number);
            let mut own = [self.mail.host, self.mail.next_hop]
                .into_iter()
                .filter_map(|key| credentials.get(key));
            own.any(|own| *login == Login::Is(own.clone()))
        })
    }
}

fn generation() -> impl Strategy<Value = Generation> {
    let relay = prop_oneof![
        3 => Just(Relay::NoEntry),
        1 => Just(Relay::Excluded),
        6 => (0..RELAYS.len()).prop_map(Relay::Is),
    ];
    let login = prop::bool::weighted(0.6);
    (prop::array::uniform6(relay), prop::array::uniform11(login))
        .prop_map(|(relays, logins)| Generation { relays, logins })
}

/// A step: an edit, or a request of one of some clients. A new client takes the place of one that has its login.
fn steps() -> impl Strategy<Value = Vec<(u8, usize, usize)>> {
    prop::collection::vec((0_u8..12, 0_usize..4, 0_usize..12), 1..120)
}

/// Lets clients ask over `connections` connections, each over one of its own where there are as many as clients, and
/// says for each mail what its login was and may have been.
fn run(
    generations: &[Generation],
    steps: &[(u8, usize, usize)],
    connections: usize,
) -> Vec<(Client, Login, Vec<Login>)> {
    let mut number = 0;
    let mut snapshot = publish(None, &generations[0], 0);
    let mut exchanges: Vec<Exchange> = (0..connections).map(|_| Exchange::default()).collect();
    let mut clients: Vec<Option<Client>> = (0..4).map(|_| None).collect();
    let mut done = Vec::new();
    for &(kind, client, choice) in steps {
        if kind == 0 && number + 1 < generations.len() {
            number += 1;
            snapshot = publish(Some(&snapshot), &generations[number], number);
            continue;
        }
        let permit = clients.get_mut(client).unwrap();
        let one = permit.get_or_insert_with(|| {
            let sender = choice % SENDERS.len();
            // It became active now, or some edits ago.
            let active = &generations[number.saturating_sub(choice / SENDERS.len() % 2 * 2)];
            let relay = active.relay_number(sender);
            Client::new(Mail {
                sender: (choice < 2 * SENDERS.len()).then_some(sender),
                host: relay.map_or("mx.recipient.test", |relay| HOSTS[relay]),
                next_hop: relay.map_or("recipient.test", |relay| RELAYS[relay]),
            })
        });
        one.ask(&mut exchanges[client % connections], &snapshot, number);
        if let Some(login) = one.login.take() {
            let right = (one.since..=number).map(|last| right(&generations[..=last], one.mail));
            let right = right.collect();
            done.extend(permit.take().map(|client| (client, login, right)));
        }
    }
    done
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// On a separate connection, each mail gets the login of its sender at its next hop. If an edit takes effect during
    /// its lookups, it gets the login before or after the edit, or a temporary error.
    #[test]
    fn a_client_with_a_connection_of_its_own_gets_the_login_of_its_sender_at_its_next_hop(
        generations in prop::collection::vec(generation(), 1..6),
        steps in steps(),
    ) {
        for (client, login, right) in run(&generations, &steps, 4) {
            let may_wait = right.len() > 1;
            // Of host and next hop, an edit may come between the two.
            let is_own = client.mail.sender.is_none() && may_wait && client.is_own(&generations, right.len(), &login);
            prop_assert!(
                right.contains(&login) || (may_wait && login == Login::Deferred) || is_own,
                "{:?}: {login:?}, not {right:?}", client.mail
            );
        }
    }

    /// On one connection shared by all clients that send a sender, in any order of their requests, each gets that login or a
    /// temporary error. If an edit takes effect during its lookups, a client can get the login of its host or next hop after
    /// the edit, although its sender was not found before.
    #[test]
    fn clients_that_share_a_connection_get_no_login_but_their_own(
        generations in prop::collection::vec(generation(), 1..6),
        steps in steps(),
    ) {
        let with_sender = |&(kind, client, choice): &(u8, usize, usize)| (kind, client, choice % (2 * SENDERS.len()));
        let steps: Vec<_> = steps.iter().map(with_sender).collect();
        for (client, login, right) in run(&generations, &steps, 1) {
            let is_edited = right.len() > 1;
            let is_own = client.is_own(&generations, right.len(), &login) || login == Login::None;
            prop_assert!(
                right.contains(&login) || login == Login::Deferred || (is_edited && is_own),
                "{:?}: {login:?}, not {right:?}", client.mail
            );
        }
    }
}

/// A world in which a moved from the first relay to the second with its login, and c stays at the third.
fn moved() -> Snapshot {
    let mut logins = [true; 11];
    logins[4..].fill(false);
    let [none, first, third] = [Relay::NoEntry, Relay::Is(0), Relay::Is(2)];
    let before = Generation {
        relays: [first, none, third, first, none, none],
        logins,
    };
    let mut after = before.clone();
    after.relays[0] = Relay::Is(1);
    publish(Some(&publish(None, &before, 0)), &after, 1)
}

fn unsure(reason: Reason) -> String {
    format!("? {reason:?}")
}

fn ask(exchange: &mut Exchange, snapshot: &Snapshot, key: &str) -> String {
    exchange
        .answer(
            snapshot,
            Map::SASL,
            key.as_bytes(),
            &mut LookupKeys::default(),
            &mut Scratch::default(),
        )
        .to_text()
}

#[test]
fn two_moved_senders_at_once_are_both_told_to_wait_and_no_other_sender_is() {
    let snapshot = moved();
    let mut exchange = Exchange::default();
    assert_eq!(ask(&mut exchange, &snapshot, "a@x.test"), "-");
    assert_eq!(ask(&mut exchange, &snapshot, "r1.test"), "-");
    assert_eq!(ask(&mut exchange, &snapshot, "c@y.test"), "1-@y.test:p");
    assert_eq!(ask(&mut exchange, &snapshot, "[r1.test]:587"), "0-a@x.test:p");
    // This one has no login for itself, so that its host and next hop would follow.
    assert_eq!(ask(&mut exchange, &snapshot, "a@x.test"), "-");
    assert_eq!(ask(&mut exchange, &snapshot, "u@elsewhere.test"), "-");
    for key in ["r1.test", "[r1.test]:587", "a@x.test"] {
        assert_eq!(
            ask(&mut exchange, &snapshot, key),
            unsure(reason::SHARED_CONNECTION)
        );
    }
    assert_eq!(ask(&mut exchange, &snapshot, "c@y.test"), "1-@y.test:p");
}

#[test]
fn a_next_hop_that_the_sender_never_had_is_not_known() {
    let snapshot = moved();
    let mut exchange = Exchange::default();
    for next_hop in ["[fallback.test]:25", "r3.test"] {
        assert_eq!(ask(&mut exchange, &snapshot, "A@X.test"), "-");
        assert_eq!(ask(&mut exchange, &snapshot, "fallback.test"), "-");
        assert_eq!(
            ask(&mut exchange, &snapshot, next_hop),
            unsure(reason::NEXT_HOP_CHANGED)
        );
    }
    assert_eq!(ask(&mut exchange, &snapshot, "a@x.test"), "-");
    assert_eq!(ask(&mut exchange, &snapshot, "r2.test"), "-");
    assert_eq!(ask(&mut exchange, &snapshot, "[R2.test]:587"), "1-a@x.test:p");
}

#[test]
fn a_sender_or_host_too_long_to_be_kept_gets_a_temporary_error() {
    let snapshot = moved();
    let long = "x".repeat(super::MAX_KEPT);
    let mut exchange = Exchange::default();
    // The extension makes it another spelling of the same sender.
    assert_eq!(
        ask(&mut exchange, &snapshot, &format!("a+{long}@x.test")),
        unsure(reason::NEXT_HOP_CHANGED)
    );
    assert_eq!(ask(&mut exchange, &snapshot, "a@x.test"), "-");
    assert_eq!(
        ask(&mut exchange, &snapshot, &format!("{long}.test")),
        unsure(reason::SHARED_CONNECTION)
    );
}

#[test]
fn an_edit_between_the_host_and_the_next_hop_of_mail_without_a_sender_gets_a_temporary_error() {
    let snapshot = |generation, relay_map: &str, credentials: &str| {
        let build = |spec, text: &str| {
            let text = text.as_bytes().to_vec().into();
            Table::build(spec, Path::new("t"), text, &mut Findings::default()).into()
        };
        Snapshot {
            generation,
            ..Snapshot::new(build(&RELAY_MAP, relay_map), build(&CREDENTIALS, credentials))
        }
    };
    let before = snapshot(1, "", "[r.test]:587 u:p\n");
    let after = snapshot(2, "", "r.test u:p\n");
    let mut exchange = Exchange::default();
    assert_eq!(ask(&mut exchange, &before, "r.test"), "-");
    assert_eq!(
        ask(&mut exchange, &after, "[r.test]:587"),
        unsure(reason::LOGIN_REMOVED)
    );
    // The next mail is of one generation.
    assert_eq!(ask(&mut exchange, &after, "r.test"), "u:p");
    // What has no login before and after has none in between.
    assert_eq!(ask(&mut exchange, &before, "mx.test"), "-");
    assert_eq!(ask(&mut exchange, &after, "recipient.test"), "-");
}

/// An edit of the entry that senders fall through to moves each of them, and no sender that has an entry of its own.
#[test]
fn an_edit_of_subdomains_or_of_all_senders_moves_every_sender_it_applies_to() {
    let [none, first, second] = [Relay::NoEntry, Relay::Is(0), Relay::Is(1)];
    for wide in [4, 5] {
        let mut logins = [false; 11];
        // b, c, and the first relay.
        logins[1..=2].fill(true);
        logins[5] = true;
        let mut before = Generation {
            relays: [second, none, none, none, none, none],
            logins,
        };
        before.relays[wide] = first;
        let mut after = before.clone();
        after.relays[wide] = second;
        let before = publish(None, &before, 0);
        let snapshot = publish(Some(&before), &after, 1);
        let mut exchange = Exchange::default();
        // The mail is on its way to the first relay: the sender's own login there, or that of the relay.
        for (sender, at_first, at_second) in [
            ("b b@x.test", "0-_b_b_@x.test:p", "1-_b_b_@x.test:p"),
            ("c@y.test", "0-@y.test:p", "1-@y.test:p"),
            ("d@z.test", "0-[r1.test]:587:p", "-"),
        ] {
            for (number, login) in [(0, at_first), (1, at_second)] {
                assert_eq!(ask(&mut exchange, &snapshot, sender), "-", "{sender}");
                assert_eq!(ask(&mut exchange, &snapshot, HOSTS[number]), "-", "{sender}");
                assert_eq!(ask(&mut exchange, &snapshot, RELAYS[number]), login, "{sender}");
            }
        }
        assert_eq!(snapshot.history.moved_entries(), 1);
        let has_moved = |sender: &str| {
            let keys = LookupKeys::of(sender.as_bytes(), &snapshot.delimiters);
            snapshot.has_moved(&keys)
        };
        assert!(!has_moved("a@x.test") && !has_moved("<>"));
        assert_eq!(has_moved("x@elsewhere.example"), wide == 5);
    }
}

/// A more specific entry that an edit adds moves the senders that it applies to, from the entry they had before.
#[test]
fn a_more_specific_entry_moves_senders_away_from_a_wider_one_and_back() {
    let [none, first, second] = [Relay::NoEntry, Relay::Is(0), Relay::Is(1)];
    let generation = |relays| Generation {
        relays,
        logins: [true; 11],
    };
    let any = generation([none, none, none, none, none, first]);
    let of_domains = generation([none, none, none, none, second, first]);
    let excluded = generation([Relay::Excluded, none, none, none, second, first]);
    let mut snapshot = publish(None, &any, 0);
    for (number, next) in [&of_domains, &excluded, &any].into_iter().enumerate() {
        snapshot = publish(Some(&snapshot), next, number + 1);
    }
    let mut exchange = Exchange::default();
    for (next_hop, host, login) in [
        (RELAYS[0], HOSTS[0], "3-a@x.test:p"),
        (RELAYS[1], HOSTS[1], "1-a@x.test:p"),
        // Delivered directly, when it was excluded.
        ("recipient.test", "mx.recipient.test", "-"),
    ] {
        assert_eq!(ask(&mut exchange, &snapshot, "a@x.test"), "-");
        assert_eq!(ask(&mut exchange, &snapshot, host), "-");
        assert_eq!(ask(&mut exchange, &snapshot, next_hop), login);
    }
}
