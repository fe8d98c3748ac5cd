//! Relays with a fault before TLS, or without TLS.

use std::io;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::relay::{self, Client, HOST, Scripted};
use super::{PASSWORD, USER, error, good, has_password, object, probe, sender};
use crate::harness::smtp_server::{Auth, Login, Setup as Relay};

/// What `probe` reports of a relay that does not get as far as a login, with at most a second for it.
#[track_caller]
fn fault(relay: &Scripted, tls: &str) -> Value {
    let object = object(&sender(&relay.next_hop(), tls), "@a.test --timeout 1", 1);
    assert_eq!(
        (&object["ok"], &object["login"]),
        (&json!(false), &json!("not_tried"))
    );
    assert_eq!(object["connected"], json!(true));
    assert!(!has_password(&relay.lines().concat()), "{:?}", relay.lines());
    object
}

#[test]
fn a_silent_relay_ends_at_the_timeout() {
    let object = fault(&relay::silent(), "");
    assert!(
        error(&object).contains("no complete greeting came in time"),
        "{object}"
    );
    // So does a relay with implicit TLS behave to a client that waits.
    assert!(error(&object).contains("implicit"), "{object}");
}

#[test]
fn a_relay_that_sends_a_byte_at_a_time_ends_at_the_timeout() {
    let relay = Scripted::start(|client| {
        client.send("220 ")?;
        loop {
            client.send("x")?;
            thread::sleep(Duration::from_millis(20));
        }
    });
    let object = fault(&relay, "");
    assert!(error(&object).contains("in time"), "{object}");
}

#[test]
fn a_relay_that_sends_too_much_is_given_up() {
    let greeting = format!("220 {}\r\n", "x".repeat(100_000));
    let object = fault(&relay::greeting(greeting), "");
    assert!(
        error(&object).contains("the greeting has more than 64 KiB"),
        "{object}"
    );
    for line in ["220-x\r\n", "x"] {
        let endless = Scripted::start(move |client| {
            loop {
                client.send(line.repeat(1000))?;
            }
        });
        let object = fault(&endless, "");
        let reasons = ["more than 64 KiB", "no reply of an SMTP server"];
        assert!(
            reasons.iter().any(|reason| error(&object).contains(reason)),
            "{object}"
        );
    }
}

#[test]
fn a_long_greeting_and_a_reply_of_many_lines_are_no_faults() {
    let relay = Scripted::start(|client| {
        client.send(format!("220 {}\r\n", "x".repeat(10_000)))?;
        client.line()?;
        client.send(format!("{}250 AUTH PLAIN\r\n", "250-x\r\n".repeat(500)))?;
        client.line()?;
        client.send("235 2.7.0 ok\r\n")?;
        client.line()?;
        client.send("221 bye\r\n")
    });
    let object = object(&sender(&relay.next_hop(), ""), "@a.test", 0);
    assert_eq!(object["login"], json!("accepted"));
}

#[test]
fn garbage_is_shown_escaped_or_not_at_all() {
    for (text, reason) in [
        (&b"\x1b[2J\x07hello\r\n"[..], "no reply of an SMTP server"),
        (b"\xff\xfe\0\n", "no reply of an SMTP server"),
        (b"HTTP/1.1 400 Bad Request\r\n", "no reply of an SMTP server"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "begins with TLS"),
        (b"554 \x1b]0;title\x07no\r\n", "\\u{1b}]0;title"),
    ] {
        let object = fault(&relay::greeting(text), "");
        assert!(error(&object).contains(reason), "{object}");
        assert!(!object.to_string().contains("\\u001b"), "{object}");
    }
}

#[test]
fn a_relay_that_rejects_at_once_is_quoted() {
    let object = fault(&relay::greeting("421 4.7.0 Too many connections\r\n"), "");
    assert_eq!(error(&object), "the greeting is 421 4.7.0 Too many connections");
    let closes = Scripted::start(|_| Ok(()));
    assert!(error(&fault(&closes, "")).contains("closed the connection"));
}

#[test]
fn a_relay_at_which_no_server_listens_fails() {
    let object = object(&sender(&relay::closed_port(), ""), "@a.test", 1);
    assert_eq!(
        (&object["connected"], &object["address"]),
        (&json!(false), &json!("127.0.0.1"))
    );
    assert!(error(&object).contains("Connection refused"), "{object}");
}

#[test]
fn without_starttls_no_password_is_sent_where_the_policy_requires_tls() {
    let relay = good();
    for policy in [
        "encrypt",
        "secure match=relay.test",
        "verify",
        "fingerprint match=00:11",
    ] {
        let code = if policy.starts_with("fingerprint") { 75 } else { 1 };
        let object = object(&sender(&relay.next_hop(), policy), "@a.test", code);
        assert_eq!(
            (&object["ok"], &object["login"]),
            (&json!(false), &json!("not_tried"))
        );
        if code == 1 {
            assert!(error(&object).contains("does not offer STARTTLS"), "{object}");
            assert_eq!(object["policy"], json!(policy));
        }
    }
    assert_eq!(relay.attempts(), []);
}

#[test]
fn text_between_starttls_and_tls_ends_the_trial() {
    let relay = Scripted::start(|client| {
        client.send("220 relay.test\r\n")?;
        client.line()?;
        client.send("250-relay.test\r\n250 STARTTLS\r\n")?;
        client.line()?;
        client.send("220 go\r\n250 AUTH PLAIN\r\n")?;
        client.read_on()
    });
    let object = fault(&relay, "");
    assert!(error(&object).contains("between STARTTLS and TLS"), "{object}");
}

#[test]
fn a_relay_that_agrees_to_tls_and_does_not_speak_it_ends_the_trial() {
    let agreeing = |then: fn(&mut Client) -> io::Result<()>| {
        Scripted::start(move |client| {
            client.send("220 relay.test\r\n")?;
            client.line()?;
            client.send("250-relay.test\r\n250 STARTTLS\r\n")?;
            client.line()?;
            client.send("220 go\r\n")?;
            then(client)
        })
    };
    let endless_alerts: fn(&mut Client) -> io::Result<()> = |client| {
        // Warnings of TLS 1.2, which a client may ignore.
        loop {
            client.send(b"\x15\x03\x03\x00\x02\x01\x5a".repeat(1000))?;
        }
    };
    let drop_connection: fn(&mut Client) -> io::Result<()> = |client| client.line().map(drop);
    let garbage: fn(&mut Client) -> io::Result<()> = |client| {
        // After the ClientHello, so that it is not text between STARTTLS and TLS.
        client.byte()?;
        client.send("250 fine\r\n".repeat(100))?;
        client.read_on()
    };
    for (then, reason) in [
        (
            Client::read_on as fn(&mut Client) -> io::Result<()>,
            "not complete in time",
        ),
        (garbage, "the TLS handshake failed"),
        (endless_alerts, ""),
        (drop_connection, ""),
    ] {
        let relay = agreeing(then);
        let object = fault(&relay, "encrypt");
        assert!(error(&object).contains(reason), "{object}");
        assert_eq!(object["tls"], Value::Null);
    }
}

#[test]
fn a_refused_starttls_is_a_failure_though_the_policy_allows_plain_text() {
    let relay = Scripted::start(|client| {
        client.send("220 relay.test\r\n")?;
        client.line()?;
        client.send("250-AUTH PLAIN\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n")?;
        client.line()?;
        client.send("454 4.7.0 TLS not available\r\n")?;
        client.read_on()
    });
    let object = fault(&relay, "");
    assert!(error(&object).contains("454 4.7.0 TLS not available"), "{object}");
}

#[test]
fn a_refused_login_is_reported_with_its_codes_alone() {
    let relay = Relay::new("relay", HOST)
        .accepting(Login::new("other", "x"))
        .start()
        .unwrap();
    let object = object(&sender(&relay.next_hop(), ""), "@a.test", 1);
    assert_eq!(
        (&object["login"], &object["user"]),
        (&json!("refused"), &json!(USER))
    );
    assert_eq!(
        error(&object),
        "login refused (535 5.7.8): the user or the password is wrong"
    );
    assert_eq!(relay.attempts().len(), 1);
}

#[test]
fn a_relay_that_repeats_the_password_does_not_get_it_into_the_output() {
    for auth in [
        "535 5.7.8 s3cret-p:w is wrong for AHJlbGF5X3VzZXIAczNjcmV0LXA6dw==\r\n",
        "535-s3cret-p:w\r\n535 s3cret-p:w\r\n",
        "s3cret-p:w\r\n",
        "334 czNjcmV0LXA6dw==\r\n",
        "454 s3cret\r\n",
    ] {
        let relay = relay::replying("250-relay.test\r\n250 AUTH PLAIN\r\n", auth);
        let setup = sender(&relay.next_hop(), "");
        // The functions look for the password in both formats.
        assert_eq!(object(&setup, "@a.test", 1)["login"], json!("refused"));
        probe(&setup, "@a.test").exits(1);
        assert!(
            has_password(&relay.lines().concat()),
            "the password was not sent: {PASSWORD}"
        );
    }
}

#[test]
fn a_relay_with_credentials_that_offers_no_auth_fails() {
    let relay = Relay::new("relay", HOST).auth(Auth::Unknown).start().unwrap();
    let with_login = object(&sender(&relay.next_hop(), ""), "@a.test", 1);
    assert!(error(&with_login).contains("offers no AUTH"), "{with_login}");
    assert_eq!(
        (&with_login["auth"], &with_login["login"]),
        (&json!([]), &json!("not_tried"))
    );
    let without = sender(&relay.next_hop(), "").credentials("");
    let without = object(&without, "@a.test", 0);
    assert_eq!((&without["ok"], &without["user"]), (&json!(true), &Value::Null));
}

#[test]
fn of_the_mechanisms_plain_and_login_are_tried() {
    let login_only = Scripted::start(|client| {
        client.send("220 relay.test\r\n")?;
        client.line()?;
        client.send("250-relay.test\r\n250 AUTH CRAM-MD5 LOGIN\r\n")?;
        client.line()?;
        client.send("334 VXNlcm5hbWU6\r\n")?;
        client.line()?;
        client.send("334 UGFzc3dvcmQ6\r\n")?;
        client.line()?;
        client.send("235 2.7.0 ok\r\n")?;
        client.line()?;
        client.send("221 bye\r\n")
    });
    let object_of_login = object(&sender(&login_only.next_hop(), ""), "@a.test", 0);
    assert_eq!(object_of_login["login"], json!("accepted"));
    let sent = login_only.lines();
    assert_eq!(
        sent[1..],
        [
            "AUTH LOGIN\r\n",
            "cmVsYXlfdXNlcg==\r\n",
            "czNjcmV0LXA6dw==\r\n",
            "QUIT\r\n"
        ]
    );

    let neither = relay::replying("250-relay.test\r\n250 AUTH CRAM-MD5 XOAUTH2\r\n", "535 no\r\n");
    let object_of_neither = object(&sender(&neither.next_hop(), ""), "@a.test", 75);
    assert!(
        error(&object_of_neither).contains("CRAM-MD5 and XOAUTH2"),
        "{object_of_neither}"
    );
    assert!(!neither.lines().iter().any(|line| line.starts_with("AUTH")));
}

#[test]
fn no_mail_is_begun_and_the_session_ends_with_quit() {
    let relay = relay::replying("250-relay.test\r\n250 AUTH PLAIN\r\n", "235 2.7.0 ok\r\n");
    probe(&sender(&relay.next_hop(), ""), "@a.test").exits(0);
    let verbs: Vec<String> = relay
        .lines()
        .iter()
        .map(|line| line.split_whitespace().next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(verbs, ["EHLO", "AUTH", "QUIT"]);
}
