//! Promise: a request is determined by its bytes, however they arrive, and invalid bytes affect no other client.
//!
//! The oracle for socketmap is the `netstring` crate; for `tcp_table` it is socketmap with the same bytes.

use crate::harness::client::{Both, Reply, Socketmap, Stream, TcpTable, encoded, framed, payloads};
use crate::harness::daemon::{Daemon, Setup};
use crate::harness::eventually;
use proptest::prelude::*;
use rustix::net::{SendFlags, send};
use std::fs;
use std::io::{Read as _, Write as _};

const HOP: &str = "[relay1.test]:587";

/// Requests of all kinds as one stream of bytes. The server answers each and keeps the connection open.
fn socketmap_requests() -> (Vec<u8>, usize) {
    let payloads = [
        "relayhost ann@one.test",
        "sasl ann@one.test",
        "relayhost nobody@nowhere.test",
        "nosuchmap ann@one.test",
        "relayhost bad@bad.test",
        "relayhost with space, comma:1, and\ttab\nline@one.test",
        "relayhost ünï@one.test",
        "sasl [relay1.test]:587",
    ];
    (
        payloads.iter().flat_map(|payload| framed(payload)).collect(),
        payloads.len(),
    )
}

fn tcp_table_requests() -> Vec<u8> {
    b"get ann@one.test\nget nobody@nowhere.test\nget bad@bad.test\nget with%20blank%0A@one.test\r\nget %C3%BC@ONE.test\n"
        .to_vec()
}

fn setup() -> Setup {
    Setup::new()
        .relaymap("@one.test [relay1.test]:587\n@bad.test [relay\n")
        .credentials("@one.test user:p w%:,\n[relay1.test]:587 hop:secret\n")
}

/// All replies to these bytes, sent in these pieces.
///
/// Between two pieces, a request on another connection is answered. So the server has read the first piece before the
/// second is sent; otherwise the kernel would join them again.
fn replies(daemon: &Daemon, endpoint: usize, pieces: &[&[u8]]) -> Vec<u8> {
    let mut other = Socketmap::to(daemon, 0);
    let mut stream = Stream::to(daemon, endpoint);
    for (place, piece) in pieces.iter().enumerate() {
        if place > 0 {
            other.finds("relayhost", "ann@one.test", HOP);
        }
        stream.write_all(piece).unwrap();
    }
    stream.finish_sending();
    stream.read_until_closed()
}

/// The bytes, cut at these places.
fn cut<'a>(bytes: &'a [u8], places: &[usize]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = places.iter().map(|place| place % bytes.len()).collect();
    places.sort_unstable();
    places.push(bytes.len());
    let mut from = 0;
    places
        .iter()
        .map(|&to| {
            let piece = &bytes[from..to];
            from = to;
            piece
        })
        .filter(|piece| !piece.is_empty())
        .collect()
}

/// A server for which main.cf has the relays.
fn credentials_alone() -> Setup {
    Setup::new().settings("next_hops = \"main.cf\"\n")
}

#[test]
fn requests_get_the_same_replies_in_one_piece_and_byte_by_byte() {
    let (daemon, _clients) = Both::start(setup());
    let (bytes, count) = socketmap_requests();
    let whole = replies(&daemon, 0, &[&bytes]);
    assert_eq!(payloads(&whole).len(), count, "{}", whole.escape_ascii());
    let lines = tcp_table_requests();
    let whole_lines = replies(&daemon, 1, &[&lines]);
    let count = whole_lines.split_inclusive(|&byte| byte == b'\n').count();
    assert_eq!(count, 5, "{}", whole_lines.escape_ascii());
    for (endpoint, bytes, whole) in [(0, bytes, whole), (1, lines, whole_lines)] {
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        let replies = replies(&daemon, endpoint, &single);
        let (one, other) = (replies.escape_ascii(), whole.escape_ascii());
        assert_eq!(one.to_string(), other.to_string());
    }
}

#[test]
fn any_split_of_any_requests_gets_the_same_replies() {
    let setup = Both::ENDPOINTS.into_iter().fold(setup(), Setup::listen);
    let unix = format!("socketmap:unix:{}/socket", setup.root().display());
    let daemon = Daemon::start(setup.listen(unix));
    let (netstrings, _) = socketmap_requests();
    let lines = tcp_table_requests();
    let whole_netstrings = replies(&daemon, 0, &[&netstrings]);
    let whole_lines = replies(&daemon, 1, &[&lines]);
    proptest!(ProptestConfig::with_cases(48), |(places in prop::collection::vec(any::<usize>(), 1..12))| {
        prop_assert_eq!(&replies(&daemon, 0, &cut(&netstrings, &places)), &whole_netstrings);
        prop_assert_eq!(&replies(&daemon, Both::ENDPOINTS.len(), &cut(&netstrings, &places)), &whole_netstrings);
        prop_assert_eq!(&replies(&daemon, 1, &cut(&lines, &places)), &whole_lines);
    });
}

#[test]
fn any_key_gets_exactly_one_reply_that_an_independent_decoder_reads() {
    let (daemon, _clients) = Both::start(setup());
    proptest!(ProptestConfig::with_cases(128), |(
        keys in prop::collection::vec((prop_oneof!["relayhost", "sasl", "[a-z]{0,9}"], any::<String>()), 1..20)
    )| {
        let requests: Vec<u8> = keys.iter().flat_map(|(map, key)| framed(&format!("{map} {key}"))).collect();
        let bytes = replies(&daemon, 0, &[&requests]);
        let payloads = payloads(&bytes);
        prop_assert_eq!(payloads.len(), keys.len());
        for payload in &payloads {
            Reply::from_socketmap(payload);
        }
        // Encoding these payloads with the independent crate gives the received bytes.
        let again: Vec<u8> = payloads.iter().flat_map(|payload| framed(payload)).collect();
        prop_assert_eq!(again, bytes);
    });
}

#[test]
fn any_bytes_as_a_key_get_the_same_answer_over_both_protocols() {
    let (daemon, _clients) = Both::start(setup());
    let mut table = TcpTable::to(&daemon, 1);
    for byte in 0..=u8::MAX {
        let key = [&[byte], b"ann@one.test".as_slice()].concat();
        let request = [
            format!("{}:relayhost ", key.len() + 10).into_bytes(),
            key.clone(),
            b",".to_vec(),
        ]
        .concat();
        let socketmap = payloads(&replies(&daemon, 0, &[&request]));
        let [payload] = socketmap.as_slice() else {
            panic!("one reply to byte {byte:#x}, not {socketmap:?}")
        };
        let expected = Reply::from_socketmap(payload);

        for line in [
            encoded_whole(&key).to_uppercase(),
            encoded_whole(&key).to_lowercase(),
            encoded(&key),
        ] {
            table.send(format!("get {line}\n").as_bytes());
            let reply = table.reply();
            if expected.is_refused() {
                assert!(
                    reply.is_cannot_tell(),
                    "{line}: {reply:?}, but socketmap says {expected:?}"
                );
                table = TcpTable::to(&daemon, 1);
            } else {
                assert_eq!(reply, expected, "{line}");
            }
        }
        if byte == b' ' || byte.is_ascii_graphic() {
            assert_eq!(expected, Reply::found(HOP), "byte {byte:#x}");
        }
    }
}

/// Encodes every byte as an escape.
fn encoded_whole(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| format!("{text}%{byte:02x}"))
}

/// A file with the first value for `user0@one.test`, the second for `user1@one.test`, and so on.
fn numbered(values: &[String]) -> String {
    let line = |(place, value)| format!("user{place}@one.test {value}\n");
    let lines: Vec<String> = values.iter().enumerate().map(line).collect();
    lines.concat()
}

#[test]
fn any_value_of_a_table_is_answered_unchanged_over_both_protocols() {
    // Every printable byte, and every byte that UTF-8 has. A value cannot begin or end with whitespace.
    let printable: String = (b' '..=b'~').map(char::from).collect();
    let mut beyond: String = ('\u{80}'..='\u{7ff}')
        .filter(|c| !c.is_control() && !c.is_whitespace())
        .collect();
    beyond.push_str("\u{800}\u{d7ff}\u{ffff}\u{10000}\u{40000}\u{fffff}\u{10ffff}");
    let beyond: Vec<char> = beyond.chars().collect();
    let mut values = vec![format!("user:{printable}:")];
    values.extend(
        beyond
            .chunks(200)
            .map(|some| format!("u:{}", some.iter().collect::<String>())),
    );

    let (_daemon, mut clients) = Both::start(credentials_alone().credentials(numbered(&values)));
    for (place, value) in values.iter().enumerate() {
        clients.finds("sasl", &format!("user{place}@one.test"), value);
    }
}

#[test]
fn any_password_is_answered_unchanged_over_both_protocols() {
    proptest!(ProptestConfig::with_cases(24), |(passwords in prop::collection::vec("[^\\pC\\s]\\PC{0,60}[^\\pC\\s]", 1..20))| {
        let values: Vec<String> = passwords.iter().map(|password| format!("user:{password}")).collect();
        let (_daemon, mut clients) = Both::start(credentials_alone().credentials(numbered(&values)));
        for (place, value) in values.iter().enumerate() {
            prop_assert_eq!(clients.sasl(&format!("user{place}@one.test")), Reply::found(value));
        }
    });
}

#[test]
fn broken_framing_closes_the_connection_and_no_other() {
    let (daemon, mut others) = Both::start(setup());
    let good = framed("relayhost ann@one.test");
    let digits = "1".repeat(65);
    let zeros = "0".repeat(64);
    for broken in [
        "9999999999:",
        "18446744073709551615:x",
        "18446744073709551616:x",
        "99999999999999999999999999:x",
        digits.as_str(),
        zeros.as_str(),
        "022:relayhost ann@one.test,",
        "+22:relayhost ann@one.test,",
        "-1:x,",
        " 22:relayhost ann@one.test,",
        "22 :relayhost ann@one.test,",
        "22:relayhost ann@one.test;",
        "21:relayhost ann@one.test,",
        ":,",
        "x",
        "\n",
        "get ann@one.test\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "EHLO localhost\r\n",
    ] {
        // The request before it is answered, those after it are not.
        let mut stream = Stream::to(&daemon, 0);
        let bytes = [good.clone(), broken.as_bytes().to_vec(), good.clone()].concat();
        stream.write_all(&bytes).unwrap();
        let replies = stream.read_until_closed();
        let replies = payloads(&replies);
        assert_eq!(
            replies.first().map(String::as_str),
            Some("OK [relay1.test]:587"),
            "{broken:?}"
        );
        assert!(
            replies.len() == 2 && Reply::from_socketmap(&replies[1]).is_refused(),
            "{broken:?} is answered with {replies:?}"
        );
        others.finds("relayhost", "ann@one.test", HOP);
    }
}

#[test]
fn a_truncated_request_gets_an_error_or_no_reply() {
    let (daemon, _others) = Both::start(setup());
    for partial in ["22:relayhost ann@one.test", "22:relayhost ann@", "22:", "2"] {
        let bytes = replies(&daemon, 0, &[partial.as_bytes()]);
        let refused = payloads(&bytes)
            .iter()
            .all(|payload| Reply::from_socketmap(payload).is_refused());
        assert!(refused, "{partial:?} is answered with {}", bytes.escape_ascii());
    }
    let bytes = replies(&daemon, 1, &[b"get ann@one.test"]);
    assert!(
        bytes.is_empty() || bytes.starts_with(b"400 "),
        "{}",
        bytes.escape_ascii()
    );
}

#[test]
fn the_memory_one_peer_can_use_is_limited() {
    let (daemon, mut others) = Both::start(setup());
    others.relayhost("ann@one.test");
    let (before, peak_before) = (memory(&daemon, "VmRSS:"), memory(&daemon, "VmPeak:"));
    let mut held = Vec::new();
    for length in ["9999999999:", "99999999:", "100000:", "9999:"] {
        for _ in 0..50 {
            let mut stream = Stream::to(&daemon, 0);
            stream.write_all(length.as_bytes()).unwrap();
            // Where it is refused, the rest meets a closed connection.
            drop(stream.write_all(&[b'x'; 9000]));
            held.push(stream);
        }
    }
    for _ in 0..50 {
        let mut stream = Stream::to(&daemon, 1);
        drop(stream.write_all(&vec![b'x'; 100_000]));
        held.push(stream);
    }
    others.finds("relayhost", "ann@one.test", HOP);
    // Address space is cheap, and allocators reserve 64 MB of it for a thread; the announced length is 500 GB.
    let (after, peak_after) = (memory(&daemon, "VmRSS:"), memory(&daemon, "VmPeak:"));
    assert!(
        after < before + 16_384,
        "resident memory grew from {before} kB to {after} kB"
    );
    assert!(
        peak_after < peak_before + 524_288,
        "address space grew from {peak_before} kB to {peak_after} kB"
    );
}

/// A line of `/proc/PID/status`, in kB.
fn memory(daemon: &Daemon, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn replies_to_pipelined_requests_are_sent_in_one_write() {
    let setup = setup();
    let unix = format!("socketmap:unix:{}/socket", setup.root().display());
    let daemon = Daemon::start(setup.listen("socketmap:inet:127.0.0.1:0").listen(unix));
    for endpoint in [0, 1] {
        let mut stream = Stream::to(&daemon, endpoint);
        for _ in 0..50 {
            let burst: Vec<u8> = (0..20).flat_map(|_| framed("relayhost ann@one.test")).collect();
            let expected: Vec<u8> = (0..20).flat_map(|_| framed("OK [relay1.test]:587")).collect();
            // The requests arrive in one piece, so the first read gets all replies if one write sent them.
            stream.write_all(&burst).unwrap();
            let mut buffer = [0; 4096];
            let read = stream.read(&mut buffer).unwrap();
            assert_eq!(
                buffer[..read].escape_ascii().to_string(),
                expected.escape_ascii().to_string()
            );
        }
    }
}

#[test]
fn idle_connections_stay_open_across_reloads() {
    let (daemon, mut clients) = Both::start(setup());
    clients.finds("relayhost", "ann@one.test", HOP);
    for round in 2..6 {
        let seen = daemon.log_lines();
        daemon.replace(
            "postfix-relaymap.cf",
            format!("@one.test [relay{round}.test]:587\n"),
        );
        daemon.hangup();
        daemon.wait_for_log_after(seen, |_| true);
        let expected = Reply::Found(format!("[relay{round}.test]:587"));
        let mut other = Socketmap::to(&daemon, 0);
        eventually(
            || other.query("relayhost", "ann@one.test"),
            |reply| *reply == expected,
        );
        assert_eq!(clients.relayhost("ann@one.test"), expected);
    }
}

#[test]
fn a_client_that_has_shut_down_its_writing_side_still_gets_its_replies() {
    let (daemon, _clients) = Both::start(setup());
    let requests: Vec<u8> = (0..2000).flat_map(|_| framed("relayhost ann@one.test")).collect();
    let mut stream = Stream::to(&daemon, 0);
    stream.write_all(&requests).unwrap();
    stream.finish_sending();
    let replies = payloads(&stream.read_until_closed());
    assert_eq!(replies.len(), 2000);
    assert!(replies.iter().all(|reply| reply == "OK [relay1.test]:587"));

    let mut stream = Stream::to(&daemon, 1);
    stream.write_all(&b"get ann@one.test\n".repeat(2000)).unwrap();
    stream.finish_sending();
    assert_eq!(
        stream.read_until_closed(),
        b"200 [relay1.test]:587\n".repeat(2000)
    );
}

/// A read stops at urgent data (send(2), MSG_OOB), whatever comes after it. Postfix sends none.
#[test]
fn requests_after_urgent_data_are_answered_without_further_input() {
    let daemon = Daemon::start(setup());
    let mut client = Socketmap::to(&daemon, 0);
    // All of it has arrived before the server reads.
    daemon.signal("STOP");
    client.request("relayhost", "x@none.test");
    let Stream::Tcp(tcp) = &client.stream else {
        panic!("the first endpoint is TCP");
    };
    send(tcp, b"!", SendFlags::OOB).unwrap();
    client.request("relayhost", "y@none.test");
    daemon.signal("CONT");
    for _ in 0..2 {
        assert_eq!(client.reply(), Reply::NotFound);
    }
}

#[test]
fn a_client_that_does_not_read_delays_no_other_and_gets_every_reply_later() {
    let (daemon, mut others) = Both::start(setup());
    let mut stream = Stream::to(&daemon, 0);
    let burst: Vec<u8> = (0..20_000)
        .flat_map(|_| framed("relayhost ann@one.test"))
        .collect();
    let mut writer = match &stream {
        Stream::Tcp(stream) => stream.try_clone().unwrap(),
        Stream::Unix(_) => unreachable!("an inet endpoint"),
    };
    let writing = std::thread::spawn(move || writer.write_all(&burst));
    for _ in 0..100 {
        others.finds("relayhost", "ann@one.test", HOP);
    }
    let expected: Vec<u8> = (0..20_000).flat_map(|_| framed("OK [relay1.test]:587")).collect();
    let mut got = vec![0; expected.len()];
    stream.read_exact(&mut got).unwrap();
    writing.join().unwrap().unwrap();
    assert!(got == expected, "replies are lost or out of order");
}

#[test]
fn an_answer_too_long_for_a_line_is_cannot_tell_instead_of_not_found() {
    let fits = format!("u:{}", "x".repeat(4096 - "200 u:\n".len()));
    let encoded_too_long = format!("u:{}", "%".repeat(1400));
    let (daemon, _clients) = Both::start(credentials_alone().credentials(format!(
        "fits@one.test {fits}\nlong@one.test {fits}x\nlonger@one.test {fits}{fits}\nencoded@one.test {encoded_too_long}\n"
    )));
    let mut socketmap = Socketmap::to(&daemon, 0);
    let mut table = TcpTable::to(&daemon, 2);
    assert_eq!(table.query("fits@one.test"), Reply::found(&fits));
    for (key, value) in [
        ("long@one.test", format!("{fits}x")),
        ("longer@one.test", format!("{fits}{fits}")),
        ("encoded@one.test", encoded_too_long),
    ] {
        let mut table = TcpTable::to(&daemon, 2);
        assert!(table.query(key).is_cannot_tell(), "{key}");
        assert_eq!(socketmap.query("sasl", key), Reply::Found(value), "{key}");
    }
}
