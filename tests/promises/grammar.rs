//! Promise: each line of the two files means what the contract says, and questionable lines are reported with their
//! place.

use crate::harness::client::{Both, Reply, Socketmap};
use crate::harness::daemon::{CREDENTIALS, Daemon, RELAYMAP, Setup};
use crate::harness::names_place;

/// A relay map that gives `user0@one.test` the first value, `user1@one.test` the second, and so on.
fn with_values(values: &[&str]) -> String {
    let line = |(place, value)| format!("user{place}@one.test {value}\n");
    let lines: Vec<String> = values.iter().enumerate().map(line).collect();
    lines.concat()
}

#[test]
fn next_hops_are_returned_as_written() {
    let values = [
        "[relay1.test]:587",
        "[relay1.test]",
        "relay1.test:587",
        "relay1.test",
        "Relay1.Test:25",
        "[192.0.2.1]:2525",
        "192.0.2.1",
        "[2001:db8::25]:587",
        "[IPv6:2001:db8::25]:587",
        "[relay1.test]:1",
        "[relay1.test]:65535",
        "[relay1.test]:smtp",
        "[relay1.test]:smtps",
        "[relay1.test]:submission",
        "relay1.test:submissions",
        "[relay1.test]:587, [relay2.test]:587",
        "[relay1.test]:587,relay2.test",
        "[relay1.test]:587 \t relay2.test",
        "xn--strae-oqa.test",
    ];
    let (_daemon, mut clients) = Both::start(Setup::new().relaymap(with_values(&values)));
    for (place, value) in values.iter().enumerate() {
        clients.finds("relayhost", &format!("user{place}@one.test"), value);
    }
}

#[test]
fn a_value_that_makes_smtp_exit_is_an_error_with_its_place() {
    // Each of these ends Postfix's smtp(8), which delays all mail for a minute.
    let values = [
        "[relay1.test",
        "relay1.test]:25",
        "relay1.test:badservice",
        "[relay1.test]:0",
        "[relay1.test]:65536",
        "[relay1.test]:",
        ":",
        ":25",
        "[]",
        "[]:25",
        "::1",
        "[IPv6:zz]",
        "smtp:[relay1.test]:25",
        "inet:relay1.test:25",
        "unix:/path",
        "[relay1.test]25",
        "relay1.test:25x",
        "a..b",
        "-relay1.test",
        "user@relay1.test",
        "[relay1.test]:25;x",
        "https://relay1.test",
        "[relay1.test]:587#comment",
        ",",
        "[relay1.test]:25, [relay2.test",
    ];
    let (daemon, mut clients) = Both::start(Setup::new().relaymap(with_values(&values)));
    for (place, value) in values.iter().enumerate() {
        let reply = clients.relayhost(&format!("user{place}@one.test"));
        assert!(reply.is_cannot_tell(), "{value}: {reply:?}");
        daemon.wait_for_log(|line| names_place(line, RELAYMAP, place + 1));
    }
}

#[test]
fn a_comment_begins_at_a_line_or_in_the_relay_map_after_whitespace() {
    let (_daemon, mut clients) = Both::start(
        Setup::new()
            .relaymap(
                "# comment\n   # indented\n\t#tab\n\n   \n@one.test [relay1.test]:587 # one\n\
                 @two.test [relay2.test]\t#two\n@direct.test # three\n#@three.test [relay3.test]\n",
            )
            .credentials(
                "# comment\n@one.test user:a # b\n@two.test user:#hash\n\n  # @three.test x:y\n#@four.test x:y\n",
            ),
    );
    assert_eq!(clients.relayhost("x@one.test"), Reply::found("[relay1.test]:587"));
    assert_eq!(clients.relayhost("x@two.test"), Reply::found("[relay2.test]"));
    assert_eq!(clients.relayhost("x@direct.test"), Reply::NotFound);
    assert_eq!(clients.relayhost("x@three.test"), Reply::NotFound);
    assert_eq!(clients.sasl("x@one.test"), Reply::found("user:a # b"));
    assert_eq!(clients.sasl("x@two.test"), Reply::found("user:#hash"));
    assert_eq!(clients.sasl("x@four.test"), Reply::NotFound);
}

#[test]
fn a_credential_is_verbatim_without_the_whitespace_around_it() {
    let values = [
        "user:p#a:s\"s'w\\o$r%d",
        "user: leading",
        "user:inner  spaces",
        "us er:password",
        "user@one.test:password",
        "user:pässwörd😀",
        "user:%41%zz$(id)`id`;&|<>*?{}[]~^!",
        "user::",
        "user:\"quoted\"",
        "\"user\":password",
    ];
    let separators = [" ", "\t", "  \t ", "          "];
    let text: Vec<String> = values
        .iter()
        .enumerate()
        .map(|(place, value)| {
            format!(
                "user{place}@one.test{}{value} \t \n",
                separators[place % separators.len()]
            )
        })
        .collect();
    let (_daemon, mut clients) = Both::start(
        Setup::new()
            .settings("next_hops = \"main.cf\"\n")
            .credentials(text.concat()),
    );
    for (place, value) in values.iter().enumerate() {
        clients.finds("sasl", &format!("user{place}@one.test"), value);
    }
}

#[test]
fn carriage_returns_and_a_missing_final_newline_are_accepted() {
    let (_daemon, mut clients) = Both::start(
        Setup::new()
            .relaymap("# comment\r\n\r\n@one.test [relay1.test]\r\n@direct.test\r\n@two.test [relay2.test]")
            .credentials("@one.test user1:secret1\r\n@two.test user2:secret2"),
    );
    assert_eq!(clients.relayhost("x@one.test"), Reply::found("[relay1.test]"));
    assert_eq!(clients.relayhost("x@direct.test"), Reply::NotFound);
    assert_eq!(clients.relayhost("x@two.test"), Reply::found("[relay2.test]"));
    assert_eq!(clients.sasl("x@one.test"), Reply::found("user1:secret1"));
    assert_eq!(clients.sasl("x@two.test"), Reply::found("user2:secret2"));
}

#[test]
fn an_indented_line_is_an_entry_with_a_warning() {
    let (daemon, mut clients) = Both::start(
        Setup::new()
            .relaymap("  @zero.test [relay0.test]\n@one.test [relay1.test]\n\t@two.test [relay2.test]\n")
            .credentials("@one.test user1:secret1\n @two.test user2:secret2\n"),
    );
    for n in 0..3 {
        let sender = format!("x@{}.test", ["zero", "one", "two"][n]);
        assert_eq!(
            clients.relayhost(&sender),
            Reply::Found(format!("[relay{n}.test]"))
        );
    }
    assert_eq!(clients.sasl("x@one.test"), Reply::found("user1:secret1"));
    assert_eq!(clients.sasl("x@two.test"), Reply::found("user2:secret2"));
    for (file, row) in [(RELAYMAP, 1), (RELAYMAP, 3), (CREDENTIALS, 2)] {
        daemon.wait_for_log(|line| line.contains("WARN") && names_place(line, file, row));
    }
}

#[test]
fn of_duplicate_keys_the_first_wins_and_the_second_is_a_warning() {
    let (daemon, mut clients) = Both::start(
        Setup::new()
            .relaymap(
                "@one.test [relay1.test]\n@ONE.Test [relay9.test]\n@straße.test [relay2.test]\n\
                 @STRASSE.test [relay9.test]\n@direct.test\n@direct.test [relay9.test]\n",
            )
            .credentials("@one.test user1:secret1\n@one.test user9:secret9\n"),
    );
    assert_eq!(clients.relayhost("x@one.test"), Reply::found("[relay1.test]"));
    assert_eq!(clients.relayhost("x@strasse.test"), Reply::found("[relay2.test]"));
    assert_eq!(clients.relayhost("x@direct.test"), Reply::NotFound);
    assert_eq!(clients.sasl("x@one.test"), Reply::found("user1:secret1"));
    for (file, row) in [(RELAYMAP, 2), (RELAYMAP, 4), (RELAYMAP, 6), (CREDENTIALS, 2)] {
        daemon.wait_for_log(|line| line.contains("WARN") && names_place(line, file, row));
    }
}

#[test]
fn a_credential_without_a_value_is_a_warning_and_an_exclusion_is_not() {
    let (daemon, _clients) = Both::start(
        Setup::new()
            .relaymap("@one.test\n@two.test \n")
            .credentials("@x.test a:b\nann@x.test\n"),
    );
    daemon.wait_for_log(|line| line.contains("WARN") && names_place(line, CREDENTIALS, 2));
    assert!(!daemon.log().contains(RELAYMAP), "{}", daemon.log());
}

#[test]
fn a_large_table_is_read_completely() {
    let count = 20_000;
    let lines: Vec<String> = (0..count)
        .map(|n| format!("user{n}@domain{n}.test [relay{n}.test]:587\n"))
        .collect();
    let daemon = Daemon::start(Setup::new().relaymap(lines.concat()));
    let keys: Vec<String> = (0..count).map(|n| format!("user{n}@domain{n}.test")).collect();
    let mut client = Socketmap::to(&daemon, 0);
    for (start, keys) in keys.chunks(500).enumerate() {
        let requests: Vec<(&str, &str)> = keys.iter().map(|key| ("relayhost", key.as_str())).collect();
        for (place, reply) in client.query_all(&requests).into_iter().enumerate() {
            assert_eq!(
                reply,
                Reply::Found(format!("[relay{}.test]:587", start * 500 + place))
            );
        }
    }
}
