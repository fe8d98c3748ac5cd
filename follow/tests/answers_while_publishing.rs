//! A running server while states are published: what a client gets belongs to one state, and each state is loaded once.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where something fails"
)]

mod server;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::SystemTime;

use postmapd_follow::directory::{Directory, Provenance, Published};
use postmapd_follow::engine::{Extent, Rows, State, Table};
use postmapd_follow::rows::Row;
use server::POSTMAPD;
use server::admin::Admin;
use server::client::{Reply, Socketmap};
use server::daemon::{Daemon, Setup};
use server::eventually;

const SENDERS: u64 = 200;
const STATES: u64 = 200;

/// The pairs that each client asks for at least.
const MIN_PAIRS: u64 = 10_000;

/// Mail in flight gets the login of its old relay for a while, which hides the new one of the sender.
const SETTINGS: &str = "[reload]\nerrors = \"holes\"\nin_flight = 0\n";

fn sender(number: u64) -> String {
    // In the order of the bytes.
    format!("u{number:04}@a.test")
}

/// Publishes a state, in which each sender has the number of the state in its relay and its password.
fn publish(directory: &mut Directory, number: u64, extent: Extent, tables: &[Table]) {
    publish_without_rows(directory, number, extent, tables, None);
}

/// Publishes a state in which one of the tables has no rows.
fn publish_without_rows(
    directory: &mut Directory,
    number: u64,
    extent: Extent,
    tables: &[Table],
    empty: Option<Table>,
) {
    let mut staging = directory.stage().unwrap();
    staging.begin(extent);
    let (next_hop, password) = (format!("[r{number}.test]:587"), format!("p{number}"));
    for table in tables {
        staging.table(*table);
        for sender in (0..SENDERS).map(sender) {
            let key = sender.as_bytes();
            if empty == Some(*table) {
                if extent == Extent::Changes {
                    staging.removed(key);
                }
                continue;
            }
            staging.row(match table {
                Table::Relay => Row::Relay {
                    key,
                    next_hop: Some(next_hop.as_bytes()),
                },
                Table::Credentials => Row::Credentials {
                    key,
                    user: Some(b"user"),
                    password: Some(password.as_bytes()),
                },
                Table::Tls => panic!("no rows of it here"),
            });
        }
    }
    let provenance = Provenance {
        source: "postgres://reader@db.test/mail".to_owned(),
        state: State {
            revision: Some(number),
            version: number.to_string(),
            committed: SystemTime::now(),
        },
    };
    let published = directory.publish(staging, &provenance).unwrap();
    assert_eq!(published, Published::Changed);
    directory.sync().unwrap();
}

const BOTH: [Table; 2] = [Table::Relay, Table::Credentials];

/// A server, and the directory that it reads, in which state 0 is active.
fn start() -> (Daemon, Admin, Directory) {
    let setup = Setup::new().binary(&*POSTMAPD).settings(SETTINGS);
    let mut directory = Directory::open(setup.dir(), &BOTH).unwrap();
    publish(&mut directory, 0, Extent::Everything, &BOTH);
    let (daemon, admin) = Admin::start(setup);
    (daemon, admin, directory)
}

/// The number in a reply that was found: `[r7.test]:587` or `user:p7`.
fn number(reply: &Reply) -> u64 {
    let Reply::Found(value) = reply else {
        panic!("{reply:?}");
    };
    let number = value
        .strip_prefix("[r")
        .and_then(|rest| rest.strip_suffix(".test]:587"))
        .or_else(|| value.strip_prefix("user:p"));
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("{value}"))
}

#[test]
fn no_client_gets_the_relay_of_one_state_with_the_password_of_another() {
    let (daemon, _, mut directory) = start();
    let (published, is_done) = (AtomicU64::new(0), AtomicBool::new(false));
    let pairs = thread::scope(|scope| {
        let clients: Vec<_> = (0..2_u64)
            .map(|client| {
                let (published, is_done, daemon) = (&published, &is_done, &daemon);
                scope.spawn(move || {
                    let mut socketmap = Socketmap::to(daemon, 0);
                    let (mut pairs, mut last) = (0_u64, 0);
                    while !is_done.load(Ordering::Acquire) || pairs < MIN_PAIRS {
                        let senders: Vec<String> = (0..4)
                            .map(|n| sender((client + pairs + 17 * n) % SENDERS))
                            .collect();
                        let requests: Vec<(&str, &str)> = senders
                            .iter()
                            .flat_map(|sender| [("relayhost", sender.as_str()), ("sasl", sender.as_str())])
                            .collect();
                        let replies = socketmap.query_all(&requests);
                        let newest = published.load(Ordering::Acquire) + 1;
                        for pair in replies.chunks(2) {
                            let (relay, password) = (number(&pair[0]), number(&pair[1]));
                            assert_eq!(relay, password, "{replies:?}");
                            assert!((last..=newest).contains(&relay), "{last}, {relay}, {newest}");
                            last = relay;
                            pairs += 1;
                        }
                    }
                    pairs
                })
            })
            .collect();
        let mut socketmap = Socketmap::to(&daemon, 0);
        for state in 1..=STATES {
            let extent = if state.is_multiple_of(2) {
                Extent::Everything
            } else {
                Extent::Changes
            };
            publish(&mut directory, state, extent, &BOTH);
            published.store(state, Ordering::Release);
            // Two of three are followed by the next one at once.
            if state.is_multiple_of(3) || state == STATES {
                let key = sender(0);
                eventually(
                    || number(&socketmap.query("relayhost", &key)),
                    |number| *number == state,
                );
            }
        }
        is_done.store(true, Ordering::Release);
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .sum::<u64>()
    });
    assert!(pairs >= 2 * MIN_PAIRS, "{pairs}");
}

/// The replies of a state for each sender, relay and login, if one of the tables has no rows.
fn replies(number: u64, empty: Option<Table>) -> [Reply; 2] {
    let found = |value: String, is_empty: bool| {
        if is_empty {
            Reply::NotFound
        } else {
            Reply::Found(value)
        }
    };
    [
        found(format!("[r{number}.test]:587"), empty == Some(Table::Relay)),
        // A sender without a relay has no login.
        found(format!("user:p{number}"), empty.is_some()),
    ]
}

#[test]
fn a_table_that_loses_its_last_row_takes_effect_together_with_the_other_one() {
    let (daemon, admin, mut directory) = start();
    let mut socketmap = Socketmap::to(&daemon, 0);
    let sender = sender(0);
    let mut before = replies(0, None);
    let states = [
        (Extent::Changes, Some(Table::Relay)),
        (Extent::Changes, None),
        (Extent::Everything, Some(Table::Relay)),
        (Extent::Everything, None),
        (Extent::Changes, Some(Table::Credentials)),
        (Extent::Everything, None),
        (Extent::Everything, Some(Table::Credentials)),
    ];
    for (number, (extent, empty)) in (1..).zip(states) {
        publish_without_rows(&mut directory, number, extent, &BOTH, empty);
        let after = replies(number, empty);
        eventually(
            || {
                let pair = socketmap.query_all(&[("relayhost", sender.as_str()), ("sasl", sender.as_str())]);
                assert!(pair == before || pair == after, "of two states: {pair:?}");
                pair
            },
            |pair| *pair == after,
        );
        before = after;
    }
    // The server has waited for none of the files.
    assert_eq!(admin.status()["generation"], 1 + states.len());
}

#[test]
fn each_published_state_is_loaded_once() {
    let (daemon, admin, mut directory) = start();
    let mut socketmap = Socketmap::to(&daemon, 0);
    let both: &[Table] = &BOTH;
    let publications = [
        (Extent::Everything, both),
        (Extent::Changes, both),
        (Extent::Changes, &[Table::Relay]),
        (Extent::Changes, &[Table::Credentials]),
    ];
    let key = sender(SENDERS - 1);
    for (state, (extent, tables)) in (1..=20).zip(publications.into_iter().cycle()) {
        publish(&mut directory, state, extent, tables);
        let map = if tables.contains(&Table::Relay) {
            "relayhost"
        } else {
            "sasl"
        };
        eventually(|| number(&socketmap.query(map, &key)), |number| *number == state);
    }
    let status = admin.status();
    assert_eq!(status["generation"], 21);
    assert_eq!(status["source"]["revision"], 20);
    let reloads = admin.metrics().not_zero("postmapd_reloads_total");
    let of = |outcome: &str| reloads.iter().find(|(labels, _)| labels.contains(outcome));
    assert_eq!(of("\"changed\"").unwrap().1, "20", "{reloads:?}");
    assert_eq!(of("\"failed\""), None);
}
