//! Promise: `postmapd bench` counts what a server does, to the request, and hides nothing that it does wrong.
//!
//! Servers that do wrong are made here, a thread for each connection. Figures that depend on the machine are only held
//! to what must be true on any.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use netstring::ReadNetstring as _;
use nix::pty::openpty;
use serde_json::Value;

use crate::harness::client::{Both, encoded, framed};
use crate::harness::daemon::{Daemon, Finished, Setup, finish};

/// What a wrong server does with a request.
enum Act {
    /// Answers with these bytes.
    Send(Vec<u8>),
    /// Likewise, a few at a time.
    Pieces(Vec<u8>),
    /// Hangs up.
    Close,
    /// Nothing, for ever.
    Nothing,
    /// Answers, and everybody waits for so long.
    After(Duration, Vec<u8>),
}

use Act::{After, Close, Nothing, Pieces, Send};

/// Starts a socketmap server that does as it is told, with the number of the request and its key, and returns its
/// endpoint. It ends with the test.
fn socketmap(act: impl Fn(usize, &str) -> Act + std::marker::Send + Sync + 'static) -> String {
    let address = serve(move |stream, number, one_at_a_time| {
        let mut reader = netstring_reader(stream.try_clone().unwrap());
        while let Ok(payload) = reader.read_netstring() {
            let (_, key) = payload.split_once(' ').unwrap();
            if !obey(stream, one_at_a_time, &mut || {
                act(number.fetch_add(1, Ordering::SeqCst), key)
            }) {
                return;
            }
        }
    });
    format!("socketmap:inet:{address}")
}

/// The same over tcp_table; the key is encoded.
fn tcp_table(act: impl Fn(usize, &str) -> Act + std::marker::Send + Sync + 'static) -> String {
    let address = serve(move |stream, number, one_at_a_time| {
        for line in BufReader::new(stream.try_clone().unwrap())
            .lines()
            .map_while(Result::ok)
        {
            let key = line.strip_prefix("get ").unwrap();
            if !obey(stream, one_at_a_time, &mut || {
                act(number.fetch_add(1, Ordering::SeqCst), key)
            }) {
                return;
            }
        }
    });
    format!("tcp:{address}")
}

fn netstring_reader(stream: TcpStream) -> crate::harness::client::Stream {
    crate::harness::client::Stream::Tcp(stream)
}

fn serve(
    connection: impl Fn(&TcpStream, &AtomicUsize, &Mutex<()>) + std::marker::Send + Sync + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let shared = Arc::new((connection, AtomicUsize::new(0), Mutex::new(())));
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let shared = Arc::clone(&shared);
            thread::spawn(move || (shared.0)(&stream, &shared.1, &shared.2));
        }
    });
    address
}

/// Whether the connection goes on.
fn obey(mut stream: &TcpStream, one_at_a_time: &Mutex<()>, act: &mut dyn FnMut() -> Act) -> bool {
    let alone = one_at_a_time.lock().unwrap();
    match act() {
        Send(bytes) => stream.write_all(&bytes).is_ok(),
        Pieces(bytes) => {
            stream.set_nodelay(true).unwrap();
            bytes.chunks(999).all(|piece| stream.write_all(piece).is_ok())
        }
        Close => false,
        Nothing => {
            drop(alone);
            let _ = stream.read_to_end(&mut Vec::new());
            false
        }
        After(time, bytes) => {
            thread::sleep(time);
            stream.write_all(&bytes).is_ok()
        }
    }
}

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

/// Runs `bench`, asking nothing but what is measured.
fn bench(setup: &Setup, args: &[&str]) -> Finished {
    bench_with(setup, args, b"")
}

fn bench_with(setup: &Setup, args: &[&str], input: &[u8]) -> Finished {
    finish(setup.command("bench").args(["--warm-up", "0"]).args(args), input)
}

#[track_caller]
fn json(finished: &Finished, code: i32) -> Value {
    assert_eq!(finished.code, Some(code), "{finished:?}");
    let json = finished.json();
    assert_eq!(json["ok"], code == 0);
    for run in json["runs"].as_array().unwrap() {
        adds_up(run);
    }
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
        ["p50", "p90", "p99", "p99_9", "p99_99", "max"].map(|name| figure(&run["latency_us"][name]));
    assert!(latency.is_sorted(), "{run}");
    let rate = figure(&run["replies_per_second"]) * figure(&run["seconds"]);
    let replies = figure(&run["replies"]);
    assert!((rate - replies).abs() <= 1.0 + replies / 100.0, "{run}");
}

/// The errors of the only run, those that there are.
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
fn every_reply_of_the_real_server_is_right_over_every_kind_of_endpoint() {
    let local = setup();
    let unix = format!("socketmap:unix:{}/socket", local.root().display());
    let daemon = Daemon::start(
        Both::ENDPOINTS
            .into_iter()
            .fold(local, Setup::listen)
            .listen(unix),
    );
    for (endpoint, map) in [
        (0, "relayhost"),
        (0, "sasl"),
        (1, "relayhost"),
        (2, "sasl"),
        (3, "relayhost"),
        (3, "sasl"),
    ] {
        let endpoint = daemon.endpoint(endpoint);
        for args in [["--connections", "1,4"], ["--rate", "20000"], ["--pipeline", "8"]] {
            let args = [&[endpoint, map, "--count", "300", "--format", "json"], &args[..]].concat();
            let json = json(&bench(&daemon.setup(), &args), 0);
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
    let args = [
        "relayhost",
        "--hits",
        "0.75",
        "--count",
        "1000",
        "--connections",
        "3",
        "--format",
        "json",
    ];
    let json = json(
        &bench(&daemon.setup(), &[&[daemon.endpoint(0)], &args[..]].concat()),
        0,
    );
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
        // A map of any name: this one is not ours.
        let args = [
            &endpoint,
            "forward",
            "--keys",
            from,
            "--count",
            "3",
            "--connections",
            "1",
        ];
        let finished = bench_with(&setup, &args, keys.as_bytes());
        assert_eq!(
            (finished.code, finished.stderr.as_str()),
            (Some(0), ""),
            "{finished:?}"
        );
        assert_eq!(*seen.lock().unwrap(), expected);
    }
}

#[test]
fn a_wrong_answer_is_counted_and_named_by_its_key_and_kind_alone() {
    let start = || {
        socketmap(|number, _| match number % 4 {
            0 => Send(ok("CANARY of the server")),
            1 => Send(framed("NOTFOUND ")),
            2 => Send(framed("TEMP CANARY again")),
            _ => Send(ok(HOP)),
        })
    };
    let setup = setup();
    let keys = b"x@one.test\ny@one.test\n";
    let args = |endpoint: String, format: &'static str| {
        let args = [
            "relayhost",
            "--keys",
            "-",
            "--count",
            "12",
            "--connections",
            "1",
            "--format",
            format,
        ];
        [vec![endpoint], args.map(String::from).to_vec()].concat()
    };
    let run =
        |args: Vec<String>| bench_with(&setup, &args.iter().map(String::as_str).collect::<Vec<_>>(), keys);
    let finished = run(args(start(), "json"));
    let json = json(&finished, 1);
    assert_eq!(errors(&json), [("wrong".to_owned(), 9)]);
    let counts = ["found", "not_found", "cannot_tell"].map(|name| whole(&json["runs"][0][name]));
    assert_eq!(counts, [6, 3, 3]);
    let finished = run(args(start(), "text"));
    assert_eq!(finished.code, Some(1));
    for line in [
        "9 errors:",
        "x@one.test: the files say found, the server said found, another value",
        "y@one.test: the files say found, the server said not found",
        "x@one.test: the files say found, the server said cannot tell",
    ] {
        assert!(finished.stdout.contains(line), "{line}\n{}", finished.stdout);
    }
    assert!(!format!("{finished:?}").contains("CANARY"));
}

#[test]
fn a_second_reply_is_seen_and_the_connection_is_not_trusted_any_more() {
    // The first reply comes again before the second.
    let endpoint = socketmap(|number, key| match number {
        0 => Send(ok(HOP)),
        1 => Send([ok(HOP), framed("NOTFOUND ")].concat()),
        _ if key.ends_with("@one.test") => Send(ok(HOP)),
        _ => Send(framed("NOTFOUND ")),
    });
    let keys = b"x@one.test\nx@nowhere.test\n";
    let args = [
        &endpoint,
        "relayhost",
        "--keys",
        "-",
        "--count",
        "6",
        "--connections",
        "1",
        "--format",
        "json",
    ];
    let json = json(&bench_with(&setup(), &args, keys), 1);
    assert_eq!(errors(&json), [("extra".to_owned(), 1), ("wrong".to_owned(), 1)]);
    assert_eq!(whole(&json["runs"][0]["reconnects"]), 1);
    assert_eq!(whole(&json["runs"][0]["replies"]), 6);
}

#[test]
fn a_connection_that_is_closed_is_a_missing_reply_and_the_others_go_on() {
    let endpoint = socketmap(|number, _| if number % 2 == 1 { Close } else { Send(ok(HOP)) });
    let args = [
        &endpoint,
        "relayhost",
        "--keys",
        "-",
        "--count",
        "6",
        "--connections",
        "1",
        "--format",
        "json",
    ];
    let json = json(&bench_with(&setup(), &args, b"x@one.test\n"), 1);
    assert_eq!(errors(&json), [("closed".to_owned(), 3)]);
    // After the last one there is nothing more to ask.
    assert_eq!(whole(&json["runs"][0]["reconnects"]), 2);
}

#[test]
fn what_is_not_the_protocol_is_told_apart_from_a_wrong_answer() {
    let setup = setup();
    let count = |endpoint: String| {
        let args = [
            &endpoint,
            "relayhost",
            "--keys",
            "-",
            "--count",
            "3",
            "--connections",
            "1",
            "--format",
            "json",
        ];
        errors(&json(&bench_with(&setup, &args, b"x@one.test\n"), 1))
    };
    for garbage in ["hello\n", "5:OK ab;", "3:OK ,", "4:what,", "100001:OK ", "0:,"] {
        assert_eq!(
            count(socketmap(move |_, _| Send(garbage.into()))),
            [("malformed".to_owned(), 3)],
            "{garbage}"
        );
    }
    for garbage in ["hello\n", "200 \n", "200 %zz\n", "300 a\n", "\n"] {
        assert_eq!(
            count(tcp_table(move |_, _| Send(garbage.into()))),
            [("malformed".to_owned(), 3)],
            "{garbage}"
        );
    }
    let long = || Send(vec![b'2'; 4096]);
    assert_eq!(
        count(tcp_table(move |_, _| long())),
        [("malformed".to_owned(), 3)]
    );
}

#[test]
fn a_long_reply_in_small_pieces_is_one_reply() {
    let long = format!("user:{}", "x".repeat(60_000));
    let setup = Setup::new().credentials(format!("[relay1.test]:587 {long}\n"));
    let endpoint = socketmap(move |_, _| Pieces(ok(&long)));
    let args = [
        &endpoint,
        "sasl",
        "--count",
        "5",
        "--connections",
        "2",
        "--format",
        "json",
    ];
    let json = json(&bench(&setup, &args), 0);
    assert_eq!(whole(&json["runs"][0]["found"]), 5);
}

#[test]
fn a_server_that_never_answers_comes_to_an_end_and_every_request_is_accounted_for() {
    for more in [["--count", "7"], ["--rate", "100"]] {
        let endpoint = socketmap(|_, _| Nothing);
        let always = [
            &endpoint,
            "relayhost",
            "--timeout",
            "100ms",
            "--connections",
            "2",
            "--format",
            "json",
        ];
        let rest: &[&str] = if more[0] == "--rate" {
            &["--duration", "200ms"]
        } else {
            &[]
        };
        let json = json(&bench(&setup(), &[&always, &more[..], rest].concat()), 1);
        let run = &json["runs"][0];
        let requests = if more[0] == "--rate" { 20 } else { 7 };
        assert_eq!((whole(&run["requests"]), whole(&run["replies"])), (requests, 0));
        assert!(whole(&run["errors"]["timeout"]) >= 2, "{run}");
    }
}

#[test]
fn a_stall_shows_in_every_request_that_should_have_been_sent_meanwhile() {
    let stalls = || {
        socketmap(|number, _| match number {
            100 => After(Duration::from_millis(200), ok(HOP)),
            _ => Send(ok(HOP)),
        })
    };
    let run = |args: &[&str]| {
        let endpoint = stalls();
        let always = [
            &endpoint,
            "relayhost",
            "--keys",
            "-",
            "--count",
            "1000",
            "--connections",
            "1",
            "--format",
            "json",
        ];
        let json = json(
            &bench_with(&setup(), &[&always, args].concat(), b"x@one.test\n"),
            0,
        );
        let latency = &json["runs"][0]["latency_us"];
        assert!(figure(&latency["max"]) >= 200_000.0, "{latency}");
        figure(&latency["p90"])
    };
    // 1000 requests in a second, of which 150 were due in the first 150 ms of the stall: each waited at least 50.
    assert!(run(&["--rate", "1000"]) >= 50_000.0);
    // The one request that was in flight.
    assert!(run(&[]) < 200_000.0);
}

#[test]
fn cannot_tell_is_an_error_unless_the_files_say_so() {
    let endpoint = || socketmap(|_, _| Send(framed("PERM you may not ask")));
    let args = [
        "sasl",
        "--keys",
        "-",
        "--count",
        "4",
        "--connections",
        "1",
        "--format",
        "json",
    ];
    let keys = b"x@bad.test\n";
    let nobody_knows = Setup::new().without_dir_flag();
    let ran = bench_with(&nobody_knows, &[&[endpoint().as_str()], &args[..]].concat(), keys);
    let found = json(&ran, 1);
    assert_eq!(errors(&found), [("cannot_tell".to_owned(), 4)]);
    assert_eq!(found["verified"], false);
    let expected = Setup::new().relaymap("@bad.test [\n");
    json(
        &bench_with(&expected, &[&[endpoint().as_str()], &args[..]].concat(), keys),
        0,
    );
}

#[test]
fn csv_has_the_figures_of_json() {
    let daemon = Daemon::start(setup());
    let args = [
        daemon.endpoint(0),
        "relayhost",
        "--count",
        "100",
        "--connections",
        "1,3",
        "--format",
    ];
    let json = json(&bench(&daemon.setup(), &[&args[..], &["json"]].concat()), 0);
    let csv = bench(&daemon.setup(), &[&args[..], &["csv"]].concat());
    assert_eq!(csv.code, Some(0));
    let rows: Vec<Vec<&str>> = csv.stdout.lines().map(|line| line.split(',').collect()).collect();
    let [names, runs @ ..] = rows.as_slice() else {
        panic!("{csv:?}")
    };
    assert_eq!(runs.len(), 2);
    for (row, run) in runs.iter().zip(json["runs"].as_array().unwrap()) {
        assert_eq!(row.len(), names.len());
        let field = |name: &str| row[names.iter().position(|other| *other == name).expect(name)];
        for name in [
            "server",
            "round",
            "connections",
            "requests",
            "replies",
            "found",
            "not_found",
            "cannot_tell",
        ] {
            assert_eq!(field(name), run[name].to_string(), "{name}");
        }
        for (name, number) in run["errors"].as_object().unwrap() {
            let name = if name == "total" {
                "errors".to_owned()
            } else {
                format!("error_{name}")
            };
            assert_eq!(field(&name), number.to_string());
        }
        for name in run["latency_us"].as_object().unwrap().keys() {
            assert!(field(&format!("{name}_us")).parse::<f64>().unwrap() > 0.0);
        }
        assert_eq!(field("endpoint"), json["servers"][0]);
        assert_eq!(field("server_cpu_us_per_reply"), "");
        assert!(field("generator_cpu").parse::<f64>().is_ok());
        assert_eq!(field("warm_up_requests"), "0");
    }
}

#[test]
fn processor_time_is_that_of_the_process_that_was_named_and_of_those_that_it_started() {
    let of = |daemon: &Daemon, more: &[&str]| {
        let args = [
            daemon.endpoint(0),
            "relayhost",
            "--count",
            "2000",
            "--connections",
            "2",
            "--format",
            "json",
        ];
        let report = json(&bench(&daemon.setup(), &[&args, more].concat()), 0);
        report["runs"][0]["server_cpu_us_per_reply"].clone()
    };
    let alone = Daemon::start(setup());
    assert!(figure(&of(&alone, &["--pid", &alone.pid().to_string()])) > 0.0);
    assert!(of(&alone, &[]).is_null());
    // The named process does nothing but wait for the server.
    let started = Daemon::start(setup().within(["unshare", "--kill-child"]));
    assert!(figure(&of(&started, &["--pid", &started.pid().to_string()])) > 1.0);
}

#[test]
fn the_warm_up_is_not_measured_but_its_errors_count() {
    let endpoint = socketmap(|number, _| Send(if number == 0 { framed("NOTFOUND ") } else { ok(HOP) }));
    let setup = setup();
    let finished = finish(
        setup
            .command("bench")
            .args([&endpoint, "relayhost", "--keys", "-", "--format", "json"])
            .args(["--connections", "1", "--warm-up", "50ms", "--count", "20"]),
        b"x@one.test\n",
    );
    let json = json(&finished, 1);
    let run = &json["runs"][0];
    assert_eq!((whole(&run["requests"]), whole(&run["errors"]["total"])), (20, 0));
    assert_eq!(whole(&run["warm_up"]["errors"]), 1);
    assert_eq!(run["warm_up"]["requests"], run["warm_up"]["replies"]);
}

#[test]
fn two_servers_are_asked_in_alternation_and_their_ratios_have_a_spread() {
    let order = Arc::new(Mutex::new(String::new()));
    let server = |name: char| {
        let order = Arc::clone(&order);
        socketmap(move |_, _| {
            order.lock().unwrap().push(name);
            Send(ok(HOP))
        })
    };
    let (a, b) = (server('A'), server('B'));
    let args = [
        &a,
        "relayhost",
        "--keys",
        "-",
        "--compare",
        &b,
        "--count",
        "2",
        "--connections",
        "1",
    ];
    let run = |format| {
        bench_with(
            &setup(),
            &[&args[..], &["--rounds", "3", "--format", format]].concat(),
            b"x@one.test\n",
        )
    };
    let json = json(&run("json"), 0);
    assert_eq!(*order.lock().unwrap(), "AABBBBAAAABB");
    assert_eq!(json["servers"], serde_json::json!([a, b]));
    let [compared] = json["comparison"].as_array().unwrap().as_slice() else {
        panic!("{json}")
    };
    assert_eq!(
        (whole(&compared["connections"]), whole(&compared["rounds"])),
        (1, 3)
    );
    for name in [
        "replies_per_second",
        "mean",
        "p50",
        "p90",
        "p99",
        "p99_9",
        "p99_99",
        "max",
    ] {
        let spread = ["min", "median", "max"].map(|name_of| figure(&compared[name][name_of]));
        assert!(spread[0] > 0.0 && spread.is_sorted(), "{name}: {compared}");
    }
    assert!(compared["server_cpu"].is_null());
    let text = run("text").stdout;
    assert!(text.contains("B to A: the median of 3 rounds"), "{text}");
}

#[test]
fn the_plot_is_well_formed_and_labelled() {
    let daemon = Daemon::start(setup());
    let at = |name: &str| daemon.root().join(name).to_str().unwrap().to_owned();
    let (one, two) = (at("one.svg"), at("two.SVG"));
    for (plot, more) in [
        (&one, &[][..]),
        (&two, &["--compare", daemon.endpoint(0), "--rounds", "1"]),
    ] {
        let args = [
            daemon.endpoint(0),
            "relayhost",
            "--count",
            "200",
            "--connections",
            "1,2,4",
            "--plot",
            plot,
        ];
        let finished = bench(&daemon.setup(), &[&args[..], more].concat());
        assert_eq!(finished.code, Some(0), "{finished:?}");
    }
    let texts = |plot| -> Vec<String> {
        let text = fs::read_to_string(plot).unwrap();
        let document = roxmltree::Document::parse(&text).unwrap();
        document
            .descendants()
            .filter(|node| node.has_tag_name("text"))
            .filter_map(|node| Some(node.text()?.to_owned()))
            .collect()
    };
    let (one, two) = (texts(one), texts(two));
    for label in [
        "latency, logarithmic",
        "share of the replies that took no longer",
        "99 %",
        "connections",
        "replies/s",
        "p50",
        "p99",
        "1 connection",
        "4 connections",
    ] {
        assert!(one.iter().any(|text| text == label), "{label}: {one:?}");
    }
    for label in ["A, 1 connection", "B, 4 connections"] {
        assert!(two.iter().any(|text| text == label), "{label}: {two:?}");
    }
    assert!(
        one.iter()
            .any(|text| text.ends_with(" µs") || text.ends_with(" ms"))
    );
    assert!(one.iter().any(|text| text.contains(daemon.endpoint(0))));
}

#[test]
fn no_password_is_in_anything_that_comes_out() {
    let daemon = Daemon::start(setup());
    let plot = daemon.root().join("plot.svg");
    let wrong = socketmap(|_, _| Send(ok("user:CANARY of the server")));
    // A line with its words in the wrong order: what should be the key is a password.
    let files = setup().credentials("@one.test user1:CANARY one\nuser:CANARY2 @one.test\nCANARY3\n");
    for format in ["text", "json", "csv"] {
        for (setup, endpoint, code) in [
            (daemon.setup(), daemon.endpoint(0), 0),
            (files.clone(), &wrong, 1),
        ] {
            let args = [
                "sasl",
                "--count",
                "50",
                "--connections",
                "1,2",
                "--plot",
                plot.to_str().unwrap(),
                "--format",
            ];
            let finished = bench(&setup, &[&[endpoint], &args[..], &[format]].concat());
            assert_eq!(finished.code, Some(code), "{finished:?}");
            let drawn = fs::read_to_string(&plot).unwrap();
            assert!(!format!("{finished:?}{drawn}").contains("CANARY"), "{finished:?}");
        }
    }
}

#[test]
fn a_server_that_is_not_there_cannot_be_measured() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let setup = Setup::new().without_dir_flag();
    let nothing = setup.root().join("nothing");
    for endpoint in [
        format!("socketmap:inet:{free}"),
        format!("tcp:{free}"),
        format!("socketmap:unix:{}", nothing.display()),
    ] {
        let finished = bench(&setup, &[&endpoint, "relayhost"]);
        assert_eq!(
            (finished.code, finished.stdout.as_str()),
            (Some(69), ""),
            "{finished:?}"
        );
        assert!(finished.stderr.contains(&endpoint), "{finished:?}");
    }
}

#[test]
fn what_cannot_be_meant_is_an_error_of_usage() {
    let setup = setup();
    let endpoint = "socketmap:inet:127.0.0.1:1";
    let empty = setup.root().join("empty");
    fs::write(&empty, "\n").unwrap();
    let empty = empty.to_str().unwrap();
    for args in [
        &[][..],
        &[endpoint],
        &["nonsense", "relayhost"],
        &[endpoint, "two words"],
        &[endpoint, "forward"],
        &[endpoint, "relayhost", "--connections", "0"],
        &[endpoint, "relayhost", "--rate", "0"],
        &[endpoint, "relayhost", "--rate", "NaN"],
        &[endpoint, "relayhost", "--hits", "2"],
        &[endpoint, "relayhost", "--duration", "0"],
        &[endpoint, "relayhost", "--duration", "soon"],
        &[endpoint, "relayhost", "--keys", "/nonexistent"],
        &[endpoint, "relayhost", "--keys", empty],
        &[endpoint, "relayhost", "--keys", empty, "--hits", "1"],
        &[endpoint, "relayhost", "--plot", "plot.gif"],
        &[endpoint, "relayhost", "--plot", "/nonexistent/plot.svg"],
        &[endpoint, "relayhost", "--rounds", "2"],
        &[endpoint, "relayhost", "--compare", "nonsense"],
        &[endpoint, "relayhost", "--pid", "4194305"],
        &[endpoint, "relayhost", "--format", "xml"],
    ] {
        let finished = bench(&setup, args);
        assert_eq!(
            (finished.code, finished.stdout.as_str()),
            (Some(2), ""),
            "{args:?}: {finished:?}"
        );
        assert!(!finished.stderr.trim().is_empty(), "{args:?}");
    }
    for name in ["plot.png", "plot", ".svg"] {
        let finished = bench(&setup, &[endpoint, "relayhost", "--plot", name]);
        assert_eq!(finished.code, Some(2), "{finished:?}");
        assert!(finished.stderr.contains("SVG"), "{finished:?}");
    }
    let nobody_knows = Setup::new().without_dir_flag();
    let finished = bench(&nobody_knows, &[endpoint, "relayhost", "--hits", "0.5"]);
    assert_eq!(finished.code, Some(2), "{finished:?}");
}

/// What a process showed at a terminal of its own, to its end.
fn shown_at_a_terminal(setup: &Setup, args: &[&str]) -> String {
    let pair = openpty(None, None).expect("a pseudo-terminal");
    let mut command = setup.command("bench");
    let mut child = command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::from(pair.slave))
        .spawn()
        .unwrap();
    // Ours of the terminal's ends is the only one left when the program has ended; reading is an error then.
    drop(command);
    let (mut shown, mut piece, mut screen) = (Vec::new(), [0; 4096], fs::File::from(pair.master));
    while let Ok(read @ 1..) = screen.read(&mut piece) {
        shown.extend_from_slice(&piece[..read]);
    }
    assert!(child.wait().unwrap().success());
    String::from_utf8(shown).unwrap()
}

#[test]
fn a_terminal_shows_how_far_it_is_and_a_pipe_does_not() {
    let daemon = Daemon::start(setup());
    let args = [
        daemon.endpoint(0),
        "relayhost",
        "--connections",
        "1",
        "--warm-up",
        "0",
        "--duration",
        "1s",
    ];
    let shown = shown_at_a_terminal(&daemon.setup(), &args);
    assert!(
        shown.contains("1/1  socketmap:inet:") && shown.contains(" replies/s  0 errors"),
        "{shown:?}"
    );
    // The line goes away in the end, and nothing is coloured.
    assert!(
        shown.ends_with("\r\u{1b}[K") && !shown.contains("\u{1b}[3"),
        "{shown:?}"
    );
    assert_eq!(
        shown_at_a_terminal(&daemon.setup().env("TERM", "dumb"), &args),
        ""
    );
    let piped = daemon.setup().run("bench", &args);
    assert_eq!((piped.code, piped.stderr.as_str()), (Some(0), ""));
}

#[test]
fn what_is_answered_is_said_and_misses_alone_are_called_that() {
    let daemon = Daemon::start(setup());
    let endpoint = daemon.endpoint(0);
    let plot = daemon.root().join("plot.svg");
    let run = |more: &[&str]| {
        // Without a directory, as it is typed first.
        let mut command = Command::new(env!("CARGO_BIN_EXE_postmapd"));
        command.env_clear().args(["bench", endpoint, "relayhost"]);
        command.args(["--connections", "1", "--warm-up", "0", "--count", "200", "--plot"]);
        let text = finish(command.arg(&plot).args(more), b"").stdout;
        (text, fs::read_to_string(&plot).unwrap())
    };
    let (text, drawn) = run(&[]);
    assert!(
        text.contains("\nof 200 replies: 0 found, 200 not found, 0 cannot tell\n")
            && text.contains("latencies of misses alone"),
        "{text}"
    );
    assert!(drawn.contains("every answer was not found"));
    let dir = daemon.setup().dir().to_str().unwrap().to_owned();
    let (text, drawn) = run(&["--dir", &dir, "--hits", "1"]);
    assert!(
        text.contains("\nof 200 replies: 200 found, 0 not found, 0 cannot tell\n")
            && !text.contains("misses"),
        "{text}"
    );
    assert!(!drawn.contains("every answer was not found"));
}

/// A generator that is stopped for a while has requests to send, and room for them, and does not send them.
#[test]
fn an_invalid_run_is_called_that_in_the_report_and_in_the_plot() {
    let daemon = Daemon::start(setup());
    let plot = daemon.root().join("plot.svg");
    let mut command = daemon.setup().command("bench");
    command.args([
        daemon.endpoint(0),
        "relayhost",
        "--connections",
        "400",
        "--rate",
        "500",
    ]);
    command
        .args(["--warm-up", "0", "--duration", "2s", "--plot"])
        .arg(&plot);
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    // It has begun by then, and goes on for more than a second.
    thread::sleep(Duration::from_millis(500));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    thread::sleep(Duration::from_millis(500));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCONT).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("\nInvalid: the generator could not keep up"),
        "{text}"
    );
    let drawn = fs::read_to_string(&plot).unwrap();
    assert!(drawn.contains("INVALID: the generator could not keep up"));
}

#[test]
fn ctrl_c_reports_what_was_measured_so_far() {
    let daemon = Daemon::start(setup());
    let mut command = daemon.setup().command("bench");
    command.args([
        daemon.endpoint(0),
        "relayhost",
        "--warm-up",
        "0",
        "--duration",
        "0.5s",
        "--connections",
        "1,2,4,8",
    ]);
    // The second of the runs has begun when the progress says so; a pipe has none, so the time has to tell.
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    thread::sleep(Duration::from_millis(1100));
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    let (text, said) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    );
    assert_eq!(output.status.code(), Some(130), "{text}{said}");
    assert!(
        said.contains("interrupted; this is what was measured so far"),
        "{said}"
    );
    let rows = text.lines().filter(|line| {
        ["1 ", "2 ", "4 ", "8 "]
            .iter()
            .any(|n| line.trim_start().starts_with(n))
            && line.contains("µs")
    });
    let rows = rows.count();
    assert!((1..4).contains(&rows), "{text}");
}
