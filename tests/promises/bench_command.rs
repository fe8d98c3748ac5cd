//! Promise: `postmapd bench` accounts for every request, and hides no fault of a server.
//!
//! Figures that depend on the machine are only
//! compared with bounds that hold on any machine.

mod faulty_server;
pub(crate) mod interrupt;
mod report;

use std::fs;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use crate::harness::client::{Both, encoded, framed};
use crate::harness::daemon::{Daemon, Finished, Setup, finish};
use faulty_server::Action::{After, Close, Nothing, Pieces, Send};
use faulty_server::{socketmap, tcp_table};

fn ok(value: &str) -> Vec<u8> {
    framed(&format!("OK {value}"))
}

/// The next hop of `userN@one.test` in [`setup`].
const HOP: &str = "[relay1.test]:587";

fn setup() -> Setup {
    Setup::new()
        .relaymap(format!(
            "@one.test {HOP}\nann@two.test [relay2.test]:2525\n@direct.test\n"
        ))
        .credentials(
            "@one.test user1:CANARY one\nann@two.test user2:CANARY two\n[relay1.test]:587 hop:CANARY three\n",
        )
}

/// Runs `bench` with the words of this line and these keys, without a warm-up or any other request.
fn bench_of(setup: &Setup, keys: &str, line: &str) -> Finished {
    let words = line.split_whitespace();
    finish(
        setup.command("bench").args(["--warm-up", "0"]).args(words),
        keys.as_bytes(),
    )
}

fn bench(setup: &Setup, line: &str) -> Finished {
    bench_of(setup, "", line)
}

/// The report for that number of requests for these keys over one connection. Fails the test for another exit code.
#[track_caller]
fn report_of(setup: &Setup, endpoint: &str, map: &str, keys: &str, count: usize, code: i32) -> Value {
    let line = format!("{endpoint} {map} --keys - --count {count} --connections 1 --format json");
    json(&bench_of(setup, keys, &line), code)
}

#[track_caller]
fn json(finished: &Finished, code: i32) -> Value {
    assert_eq!(finished.code, Some(code), "{finished:?}");
    let json = finished.json();
    assert_eq!(json["ok"], code == 0);
    json["runs"].as_array().unwrap().iter().for_each(adds_up);
    json
}

fn figure(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn whole(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no count"))
}

#[track_caller]
fn adds_up(run: &Value) {
    let count = |name: &str| whole(&run[name]);
    let error = |name: &str| whole(&run["errors"][name]);
    let missing = ["malformed", "closed", "timeout", "unsent"]
        .map(error)
        .iter()
        .sum::<u64>();
    let other = ["wrong", "cannot_tell", "extra", "connect"]
        .map(error)
        .iter()
        .sum::<u64>();
    assert_eq!(count("requests"), count("replies") + missing, "{run}");
    assert_eq!(
        count("replies"),
        count("found") + count("not_found") + count("cannot_tell"),
        "{run}"
    );
    assert_eq!(error("total"), missing + other, "{run}");
    let latency =
        ["min", "p50", "p90", "p99", "p99_9", "p99_99", "max"].map(|name| figure(&run["latency_us"][name]));
    assert!(latency.is_sorted(), "{run}");
    let rate = figure(&run["replies_per_second"]) * figure(&run["seconds"]);
    let replies = figure(&run["replies"]);
    assert!((rate - replies).abs() <= 1.0 + replies / 100.0, "{run}");
}

/// The errors of the only run that are not zero.
#[track_caller]
fn errors(json: &Value) -> Vec<(String, u64)> {
    let [run] = json["runs"].as_array().unwrap().as_slice() else {
        panic!("{json}")
    };
    let errors = run["errors"].as_object().unwrap().iter();
    errors
        .filter(|(name, number)| *name != "total" && whole(number) > 0)
        .map(|(name, number)| (name.clone(), whole(number)))
        .collect()
}

#[test]
fn every_reply_of_the_real_server_is_correct_over_every_kind_of_endpoint() {
    let local = setup();
    let unix = format!("socketmap:unix:{}/socket", local.root().display());
    let daemon = Daemon::start(
        Both::ENDPOINTS
            .into_iter()
            .fold(local, Setup::listen)
            .listen(unix),
    );
    let asked = "0 relayhost, 0 sasl, 1 relayhost, 2 sasl, 5 relayhost, 5 sasl";
    for (endpoint, map) in asked.split(", ").map(|asked| asked.split_once(' ').unwrap()) {
        let endpoint = daemon.endpoint(endpoint.parse().unwrap());
        for how in ["--connections 1,4", "--rate 20000", "--pipeline 8"] {
            let line = format!("{endpoint} {map} --count 300 --format json {how}");
            let json = json(&bench(&daemon.setup(), &line), 0);
            assert_eq!(json["verified"], true);
            for run in json["runs"].as_array().unwrap() {
                assert_eq!((whole(&run["requests"]), whole(&run["replies"])), (300, 300));
            }
        }
    }
}

#[test]
fn the_share_of_hits_is_exact() {
    let daemon = Daemon::start(setup());
    let line = format!(
        "{} relayhost --hits 0.75 --count 1000 --connections 3 --format json",
        daemon.endpoint(0)
    );
    let json = json(&bench(&daemon.setup(), &line), 0);
    let run = &json["runs"][0];
    assert_eq!((whole(&run["found"]), whole(&run["not_found"])), (750, 250));
    assert_eq!(whole(&json["keys"]), 1000);
}

#[test]
fn keys_come_from_a_file_or_from_standard_input_in_their_order() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&seen);
    let endpoint = tcp_table(move |_, key| {
        record.lock().unwrap().push(key.to_owned());
        Send(b"500 not found\n".to_vec())
    });
    let setup = Setup::new().without_dir_flag();
    let keys = "x y@one.test\r\n\n<>\n";
    let file = setup.root().join("keys");
    fs::write(&file, keys).unwrap();
    let expected = [encoded(b"x y@one.test"), "<>".into(), encoded(b"x y@one.test")];
    for from in [file.to_str().unwrap(), "-"] {
        seen.lock().unwrap().clear();
        // Bench accepts a map of any name, such as this one of another server.
        let line = format!("{endpoint} forward --keys {from} --count 3 --connections 1");
        assert_eq!(bench_of(&setup, keys, &line).exits(0).stderr, "");
        assert_eq!(*seen.lock().unwrap(), expected);
    }
}

#[test]
fn a_wrong_answer_is_counted_and_shown_by_key_and_kind_only() {
    let run = |format: &str| {
        let endpoint = socketmap(|number, _| match number % 4 {
            0 => Send(ok("CANARY of the server")),
            1 => Send(framed("NOTFOUND ")),
            2 => Send(framed("TEMP CANARY again")),
            _ => Send(ok(HOP)),
        });
        let line = format!("{endpoint} relayhost --keys - --count 12 --connections 1 --format {format}");
        bench_of(&setup(), "x@one.test\ny@one.test\n", &line)
    };
    let json = json(&run("json"), 1);
    assert_eq!(errors(&json), [("wrong".to_owned(), 9)]);
    let counts = ["found", "not_found", "cannot_tell"].map(|name| whole(&json["runs"][0][name]));
    assert_eq!(counts, [6, 3, 3]);
    let finished = run("text").exits(1);
    for line in [
        "9 errors:",
        "x@one.test: expected found, received found with another value",
        "y@one.test: expected found, received not found",
        "x@one.test: expected found, received cannot tell",
    ] {
        assert!(finished.stdout.contains(line), "{line}\n{}", finished.stdout);
    }
    assert!(!format!("{finished:?}").contains("CANARY"));
}

#[test]
fn a_duplicate_reply_is_detected_and_ends_use_of_the_connection() {
    // The first reply is sent again before the second.
    let endpoint = socketmap(|number, key| match number {
        0 => Send(ok(HOP)),
        1 => Send([ok(HOP), framed("NOTFOUND ")].concat()),
        _ if key.ends_with("@one.test") => Send(ok(HOP)),
        _ => Send(framed("NOTFOUND ")),
    });
    let keys = "x@one.test\nx@nowhere.test\n";
    let json = report_of(&setup(), &endpoint, "relayhost", keys, 6, 1);
    assert_eq!(errors(&json), [("extra".to_owned(), 1), ("wrong".to_owned(), 1)]);
    assert_eq!(whole(&json["runs"][0]["reconnects"]), 1);
    assert_eq!(whole(&json["runs"][0]["replies"]), 6);
}

#[test]
fn a_closed_connection_counts_as_missing_replies_and_the_others_continue() {
    let endpoint = socketmap(|number, _| if number % 2 == 1 { Close } else { Send(ok(HOP)) });
    let json = report_of(&setup(), &endpoint, "relayhost", "x@one.test\n", 6, 1);
    assert_eq!(errors(&json), [("closed".to_owned(), 3)]);
    // After the last reply no request is left, so there is no further reconnect.
    assert_eq!(whole(&json["runs"][0]["reconnects"]), 2);
}

#[test]
fn a_protocol_error_is_distinguished_from_a_wrong_answer() {
    let setup = setup();
    let is_malformed = |endpoint: &str, reply: &[u8]| {
        let json = report_of(&setup, endpoint, "relayhost", "x@one.test\n", 3, 1);
        let reply = reply.escape_ascii();
        assert_eq!(errors(&json), [("malformed".to_owned(), 3)], "{reply}");
    };
    for reply in ["hello\n", "5:OK ab;", "3:OK ,", "4:what,", "100001:OK ", "0:,"] {
        is_malformed(&socketmap(move |_, _| Send(reply.into())), reply.as_bytes());
    }
    let long = "2".repeat(4096);
    for reply in ["hello\n", "200 \n", "200 %zz\n", "300 a\n", "\n", &long] {
        let bytes = reply.as_bytes().to_vec();
        is_malformed(&tcp_table(move |_, _| Send(bytes.clone())), reply.as_bytes());
    }
}

#[test]
fn a_long_reply_in_small_pieces_is_one_reply() {
    let long = format!("user:{}", "x".repeat(60_000));
    let setup = Setup::new().credentials(format!("[relay1.test]:587 {long}\n"));
    let endpoint = socketmap(move |_, _| Pieces(ok(&long)));
    let line = format!("{endpoint} sasl --count 5 --connections 2 --format json");
    let json = json(&bench(&setup, &line), 0);
    assert_eq!(whole(&json["runs"][0]["found"]), 5);
}

#[test]
fn bench_ends_on_a_server_that_never_answers_and_accounts_for_every_request() {
    for (how, requests) in [("--count 7", 7), ("--rate 100 --duration 200ms", 20)] {
        let endpoint = socketmap(|_, _| Nothing);
        let line = format!("{endpoint} relayhost --timeout 100ms --connections 2 --format json {how}");
        let json = json(&bench(&setup(), &line), 1);
        let run = &json["runs"][0];
        assert_eq!((whole(&run["requests"]), whole(&run["replies"])), (requests, 0));
        assert!(whole(&run["errors"]["timeout"]) >= 2, "{run}");
    }
}

#[test]
fn a_stall_is_measured_in_every_request_that_was_due_during_it() {
    let run = |how: &str| {
        let endpoint = socketmap(|number, _| match number {
            100 => After(Duration::from_millis(200), ok(HOP)),
            _ => Send(ok(HOP)),
        });
        let line = format!("{endpoint} relayhost --keys - --count 1000 --connections 1 --format json {how}");
        let json = json(&bench_of(&setup(), "x@one.test\n", &line), 0);
        let latency = &json["runs"][0]["latency_us"];
        assert!(figure(&latency["max"]) >= 200_000.0, "{latency}");
        figure(&latency["p90"])
    };
    // At 1000 requests a second, 150 were due in the first 150 ms of the stall: each waited at least 50 ms.
    assert!(run("--rate 1000") >= 50_000.0);
    // Only the request in flight is delayed.
    assert!(run("") < 200_000.0);
}

#[test]
fn cannot_tell_is_an_error_unless_the_files_say_so() {
    let report = |setup: &Setup, code| {
        let endpoint = socketmap(|_, _| Send(framed("PERM not allowed")));
        report_of(setup, &endpoint, "sasl", "x@bad.test\n", 4, code)
    };
    let found = report(&Setup::new().without_dir_flag(), 1);
    assert_eq!(errors(&found), [("cannot_tell".to_owned(), 4)]);
    assert_eq!(found["verified"], false);
    report(&Setup::new().relaymap("@bad.test [\n"), 0);
}

#[test]
fn cpu_time_is_that_of_the_named_process_and_its_children() {
    let of = |daemon: &Daemon, more: &str| {
        let line = format!(
            "{} relayhost --count 2000 --connections 2 --format json {more}",
            daemon.endpoint(0)
        );
        let report = json(&bench(&daemon.setup(), &line), 0);
        report["runs"][0]["server_cpu_us_per_reply"].clone()
    };
    let alone = Daemon::start(setup());
    assert!(figure(&of(&alone, &format!("--pid {}", alone.pid()))) > 0.0);
    assert!(of(&alone, "").is_null());
    // The named process only waits for the server.
    let started = Daemon::start(setup().within(["unshare", "--kill-child"]));
    assert!(figure(&of(&started, &format!("--pid {}", started.pid()))) > 1.0);
}

#[test]
fn errors_of_the_warm_up_are_reported_and_its_times_are_not() {
    let endpoint = socketmap(|number, _| Send(if number == 0 { framed("NOTFOUND ") } else { ok(HOP) }));
    let line =
        format!("{endpoint} relayhost --keys - --format json --connections 1 --warm-up 50ms --count 20");
    let words: Vec<&str> = line.split(' ').collect();
    let json = json(&setup().run_with("bench", &words, "x@one.test\n"), 1);
    let run = &json["runs"][0];
    assert_eq!((whole(&run["requests"]), whole(&run["errors"]["total"])), (20, 0));
    assert_eq!(whole(&run["warm_up"]["errors"]), 1);
    assert_eq!(run["warm_up"]["requests"], run["warm_up"]["replies"]);
}

#[test]
fn two_servers_are_measured_in_alternation_and_their_ratios_have_a_spread() {
    let order = Arc::new(Mutex::new(String::new()));
    let [a, b] = ['A', 'B'].map(|name| {
        let order = Arc::clone(&order);
        socketmap(move |_, _| {
            order.lock().unwrap().push(name);
            Send(ok(HOP))
        })
    });
    let run = |format: &str| {
        let line = format!(
            "{a} relayhost --keys - --compare {b} --count 2 --connections 1 --rounds 3 --format {format}"
        );
        bench_of(&setup(), "x@one.test\n", &line)
    };
    let json = json(&run("json"), 0);
    assert_eq!(*order.lock().unwrap(), "AABBBBAAAABB");
    assert_eq!(json["servers"], serde_json::json!([a, b]));
    let [compared] = json["comparison"].as_array().unwrap().as_slice() else {
        panic!("{json}")
    };
    let counts = ["connections", "rounds"].map(|name| whole(&compared[name]));
    assert_eq!(counts, [1, 3]);
    for name in "replies_per_second mean p50 p90 p99 p99_9 p99_99 max".split(' ') {
        let spread = ["min", "median", "max"].map(|name_of| figure(&compared[name][name_of]));
        assert!(spread[0] > 0.0 && spread.is_sorted(), "{name}: {compared}");
    }
    assert!(compared["server_cpu"].is_null());
    let text = run("text").stdout;
    assert!(text.contains("B relative to A: median of 3 rounds"), "{text}");
}

#[test]
fn no_password_is_in_any_output_of_bench() {
    let daemon = Daemon::start(setup());
    let plot = daemon.root().join("plot.svg");
    let wrong = socketmap(|_, _| Send(ok("user:CANARY of the server")));
    // A line with its words in the wrong order, so that a password is in place of the key.
    let files = setup().credentials("@one.test user1:CANARY one\nuser:CANARY2 @one.test\nCANARY3\n");
    for format in ["text", "json", "csv"] {
        for (setup, endpoint, code) in [
            (daemon.setup(), daemon.endpoint(0), 0),
            (files.clone(), &wrong, 1),
        ] {
            let line = format!(
                "{endpoint} sasl --count 50 --connections 1,2 --plot {} --format {format}",
                plot.display()
            );
            let finished = bench(&setup, &line).exits(code);
            let drawn = fs::read_to_string(&plot).unwrap();
            assert!(!format!("{finished:?}{drawn}").contains("CANARY"), "{finished:?}");
        }
    }
}

#[test]
fn an_unreachable_server_cannot_be_measured() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let setup = Setup::new().without_dir_flag();
    let nothing = setup.root().join("nothing");
    for endpoint in [
        format!("socketmap:inet:{free}"),
        format!("tcp:{free}"),
        format!("socketmap:unix:{}", nothing.display()),
    ] {
        let finished = bench(&setup, &format!("{endpoint} relayhost")).exits(69);
        assert!(
            finished.stdout.is_empty() && finished.stderr.contains(&endpoint),
            "{finished:?}"
        );
    }
}
