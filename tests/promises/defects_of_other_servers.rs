//! Promise: the faults found in other servers of these protocols do not occur here, and a test shows it.
//!
//! Each fault was reproduced with the named program, or found in its source. A test is named by its file in this
//! directory, or by its path.
//!
//! | program | fault | tests that show its absence here |
//! |---|---|---|
//! | podop | a key of 1 KiB or more: the connection dies | `limits::a_request_may_have_postfixs_longest_key_and_a_map_name_of_100_bytes_and_no_more` |
//! | podop | two queries in one segment: no reply, ever | `framing::replies_to_pipelined_requests_are_sent_in_one_write` |
//! | podop | an unknown map: an exception, and a temporary error | `three_answers::unknown_maps_and_malformed_requests_are_refused` |
//! | podop | a netstring that does not end in a comma is accepted | `framing::broken_framing_closes_the_connection_and_no_other` |
//! | dutty5's connector | every next hop is percent-encoded over socketmap, where Postfix decodes nothing | `defects_of_other_servers::over_socketmap_a_value_is_sent_unchanged`, `grammar::next_hops_are_returned_as_written` |
//! | dutty5's connector | a request in two writes: an error for each, and all later replies are wrong | `framing::requests_get_the_same_replies_in_one_piece_and_byte_by_byte`, `framing::any_split_of_any_requests_gets_the_same_replies` |
//! | dutty5's connector | of several requests in one segment, all but the first are lost | `framing::replies_to_pipelined_requests_are_sent_in_one_write` |
//! | dutty5's connector | out of descriptors: a busy loop that writes 50 MB of log a second | `limits::out_of_descriptors_the_server_logs_it_once_and_serves_open_connections` |
//! | dutty5's connector | an invalid file, or an answer that does not fit a line of tcp_table: "not found" | `framing::an_answer_too_long_for_a_line_is_cannot_tell_instead_of_not_found`, `limits::a_reply_longer_than_postfix_reads_is_cannot_tell`, `tests/cases/answers/wrong-relay-map`, `tests/cases/answers/wrong-credentials` |
//! | vitalvas's library | `9999999999:` makes it reserve 10 GB | `framing::the_memory_one_peer_can_use_is_limited` |
//! | vitalvas's and d--j's libraries | out of descriptors: the process ends | `limits::out_of_descriptors_the_server_logs_it_once_and_serves_open_connections`, `limits::the_server_survives_any_shortage_while_accepting_a_connection` |
//! | mta-sts-resolver | a key that is not UTF-8: the connection is closed | `defects_of_other_servers::a_key_that_is_not_utf8_is_not_found_and_the_connection_stays_open` |
//! | PostSRSd | SIGHUP: open connections are closed | `framing::idle_connections_stay_open_across_reloads` |
//! | PostSRSd, dutty5's connector | a burst of connects: delays of a second, because its queue is short | `limits::a_burst_of_connects_fits_into_the_kernels_queue` |
//! | Postfix's client, of any server that closes | it repeats a request after the end of a connection, but not if the last system call that failed had timed out: mail is deferred. So a server must not close idle connections | `src/server/session/tests.rs::an_incomplete_request_ends_the_session_at_its_deadline_and_an_idle_session_never_ends`, `defects_of_other_servers::no_request_and_no_reload_ends_a_connection`, `framing::idle_connections_stay_open_across_reloads` |

use std::io::Write as _;

use crate::defects::is_there;
use crate::harness::client::{Reply, Socketmap, TcpTable, framed, payloads};
use crate::harness::daemon::{Daemon, Setup};

const NEXT_HOP: &str = "[smtp.relay.test]:587";

fn start() -> Daemon {
    Daemon::start(
        Setup::new()
            .relaymap(format!("@one.test {NEXT_HOP}\n"))
            .credentials("@one.test user:p%5B w/ü\u{20ac}=\n")
            .listen("socketmap:inet:127.0.0.1:0")
            .listen("tcp:127.0.0.1:0:relayhost"),
    )
}

#[test]
fn over_socketmap_a_value_is_sent_unchanged() {
    let daemon = start();
    let mut client = Socketmap::to(&daemon, 0);
    for (map, expected) in [
        ("relayhost", "OK [smtp.relay.test]:587"),
        ("sasl", "OK user:p%5B w/ü€="),
    ] {
        client.request(map, "ann@one.test");
        assert_eq!(client.payload(), expected);
    }
}

#[test]
fn a_key_that_is_not_utf8_is_not_found_and_the_connection_stays_open() {
    let daemon = start();
    let mut client = Socketmap::to(&daemon, 0);
    let mut table = TcpTable::to(&daemon, 1);
    for key in [
        &b"\xff@two.test"[..],
        b"\xc3\x28@two.test",
        b"\xed\xa0\x80@two.test",
        b"ann@two.test\xfe",
    ] {
        let request = [b"relayhost ", key].concat();
        let request = [format!("{}:", request.len()).as_bytes(), &request, b","].concat();
        client.stream.write_all(&request).unwrap();
        assert_eq!(client.payload(), "NOTFOUND ", "{}", key.escape_ascii());
        assert_eq!(client.query("relayhost", "ann@one.test"), Reply::found(NEXT_HOP));
        table.send(&[b"get ", key, b"\n"].concat());
        assert_eq!(table.reply(), Reply::NotFound, "{}", key.escape_ascii());
        assert_eq!(table.query("ann@one.test"), Reply::found(NEXT_HOP));
    }
}

#[test]
fn no_request_and_no_reload_ends_a_connection() {
    let daemon = start();
    let mut client = Socketmap::to(&daemon, 0);
    for round in 0..5 {
        // All well-formed requests, whether they are answered, not found, or refused.
        for payload in [
            "relayhost ann@one.test",
            "relayhost ann@two.test",
            "sasl ann@one.test",
            "nosuchmap ann@one.test",
            "relayhost",
            "relayhost ",
            "",
        ] {
            client.stream.write_all(&framed(payload)).unwrap();
            assert_eq!(payloads(&framed(&client.payload())).len(), 1);
        }
        let seen = daemon.log_lines();
        daemon.replace("postfix-relaymap.cf", format!("@one.test [relay{round}.test]\n"));
        daemon.wait_for_log_after(seen, |line| line.contains("loaded"));
        assert_eq!(
            client.query("relayhost", "ann@one.test"),
            Reply::Found(format!("[relay{round}.test]"))
        );
    }
}

/// The rows of the table above: the program, and the tests.
fn rows() -> Vec<(&'static str, Vec<&'static str>)> {
    let lines = include_str!("defects_of_other_servers.rs").lines();
    let rows = lines.filter_map(|line| line.strip_prefix("//! | ")?.strip_suffix(" |"));
    let rows = rows.map(|row| row.split(" | ").collect::<Vec<_>>()).skip(1);
    rows.map(|row| {
        let [with, _, tests] = row.as_slice() else {
            panic!("three columns: {row:?}")
        };
        let tests = tests.split(", ").map(|test| test.trim_matches('`')).collect();
        (*with, tests)
    })
    .collect()
}

#[test]
fn every_test_in_the_list_of_foreign_defects_exists_and_runs() {
    let rows = rows();
    for (with, tests) in &rows {
        for test in tests {
            assert!(is_there(test), "{with}: there is no test {test}");
        }
    }
    // The number of known faults.
    assert_eq!(rows.len(), 15);
}
