//! A fleet: a PostgreSQL, postmapd-follow and `postmapd serve` on several servers, and clients that ask them. These tests have
//! small sizes and check no times; `cargo bench --package postmapd-follow --bench fleet` runs the same with the sizes of a
//! fleet, and prints what it measures.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a test ends where something fails, and the benchmark uses what the tests do not"
)]

mod apparatus;
#[path = "../database/mod.rs"]
mod database;
mod scenarios;

use std::time::Duration;

use scenarios::{
    bad_rows, cost, failover, hints, kills, latency, outages, rejections, restarts, starts, transfer,
};

#[test]
fn every_server_answers_with_each_change() {
    let size = latency::Size {
        servers: 4,
        senders: 1000,
        changes: 5,
        notify: true,
    };
    assert_eq!(latency::measure(&size).answers.count(), 20);
}

#[test]
fn every_server_answers_with_each_change_while_the_database_sends_no_notification() {
    let size = latency::Size {
        servers: 2,
        senders: 1000,
        changes: 3,
        notify: false,
    };
    assert_eq!(latency::measure(&size).answers.count(), 6);
}

#[test]
fn no_relay_has_the_login_of_another_transaction_while_followers_are_killed() {
    let size = kills::Size {
        senders: 1000,
        kills: 6,
        pause: Duration::from_millis(50),
    };
    let measured = kills::kill_followers(&size);
    assert!(measured.checked.is_right(), "{:?}", measured.checked);
    assert!(
        measured.checked.pairs > 100 && measured.checked.newest > 1,
        "{:?}",
        measured.checked
    );
}

#[test]
fn no_relay_has_the_login_of_another_transaction_while_the_database_is_killed() {
    let size = kills::Size {
        senders: 1000,
        kills: 3,
        pause: Duration::from_millis(50),
    };
    let measured = kills::kill_database(&size);
    assert!(measured.checked.is_right(), "{:?}", measured.checked);
    assert!(
        measured.checked.pairs > 100 && measured.checked.newest > 1,
        "{:?}",
        measured.checked
    );
}

/// The lines that a follower may log: that the database is away, and once more if the reason changes.
const LINES_OF_AN_OUTAGE: usize = 3;

#[test]
fn no_answer_changes_while_the_database_is_killed_stopped_or_frozen() {
    for outage in outages::OUTAGES {
        let measured = outages::measure(outage, 2, 1000, Duration::from_secs(1));
        assert!(measured.replies > 10, "{outage:?}");
        assert!(
            measured.lines <= LINES_OF_AN_OUTAGE,
            "{outage:?}: {}",
            measured.lines
        );
    }
}

#[test]
fn a_change_without_a_notification_is_followed() {
    for silence in hints::SILENCES {
        hints::measure(silence, 2, 1000, 3);
    }
}

#[test]
fn a_failover_that_loses_a_commit_leaves_no_row_of_it() {
    failover::measure(1000);
}

#[test]
fn a_start_without_the_database_answers_from_the_directory() {
    starts::measure(1000);
}

#[test]
fn a_start_without_the_database_and_without_a_directory_cannot_tell() {
    starts::without_a_directory(1000);
}

#[test]
fn a_database_whose_logins_take_longer_than_hang_is_followed() {
    starts::with_slow_logins(100);
}

#[test]
fn a_bad_row_of_a_query_stops_no_other_change() {
    bad_rows::measure(5000);
}

#[test]
fn the_last_tables_remain_while_the_database_has_others() {
    rejections::keep_the_last_tables(500);
}

#[test]
fn an_empty_result_is_taken_if_the_settings_allow_it() {
    rejections::take_an_empty_table_if_allowed(500);
}

#[test]
fn idle_followers_cost_the_database_little() {
    let measured = cost::measure(4, 1000, Duration::from_secs(2));
    // A core has room for more than a hundred followers, whatever else the machine does; the program is not optimised here.
    assert!(measured.database < 0.5, "{}", measured.database);
    assert!(
        measured.follower_memory < 64 << 20,
        "{}",
        measured.follower_memory
    );
    assert!(measured.backend_memory < 16 << 20, "{}", measured.backend_memory);
}

#[test]
fn followers_that_start_at_once_have_one_connection_each() {
    restarts::measure(30, 1000);
}

#[test]
fn a_directory_is_loaded_in_one_step_and_dumped_again() {
    transfer::check(1000);
}
