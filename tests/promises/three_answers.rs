//! Promise: found, not found and cannot tell are three answers, and whatever is unsure is *cannot tell*.
//!
//! The tests that start with broken files look at the first snapshot, where there is no good one to fall back to.

use crate::harness::client::{Both, Reply, Socketmap, TcpTable};
use crate::harness::daemon::{CREDENTIALS, Daemon, RELAYMAP, SETTINGS, Setup};
use crate::harness::eventually;
use std::fs;

/// main.cf has the relays, and the server the credentials alone.
const MAIN_CF: &str = "next_hops = \"main.cf\"\n";

/// Two domains and their credentials.
fn two_domains() -> Setup {
    Setup::new()
        .relaymap("@one.test [relay1.test]:587\n@two.test [relay2.test]:2525\n@direct.test\n")
        .credentials(
            "@one.test user1:secret1\n@two.test user2:secret2\n@direct.test user3:secret3\n\
             @elsewhere.test user4:secret4\n[relay1.test]:587 hop:hopsecret\nrelay2.test host:hostsecret\n",
        )
}

#[test]
fn found_and_not_found_have_the_words_of_their_protocol() {
    let (daemon, mut clients) = Both::start(two_domains());
    clients.socketmap.request("relayhost", "ann@one.test");
    assert_eq!(clients.socketmap.payload(), "OK [relay1.test]:587");
    clients.socketmap.request("relayhost", "ann@nowhere.test");
    assert_eq!(clients.socketmap.payload(), "NOTFOUND ");
    let mut table = TcpTable::to(&daemon, 1);
    table.send(b"get ann@one.test\n");
    assert_eq!(table.line(), b"200 [relay1.test]:587");
    table.send(b"get ann@nowhere.test\n");
    assert!(table.line().starts_with(b"500 "));
}

#[test]
fn missing_files_are_empty_tables() {
    let (_daemon, mut clients) = Both::start(Setup::new());
    for key in ["ann@one.test", "@one.test", "<>", "\"<>\""] {
        assert_eq!(clients.relayhost(key), Reply::NotFound, "{key}");
        assert_eq!(clients.sasl(key), Reply::NotFound, "{key}");
    }
    assert_eq!(clients.sasl("[relay1.test]:587"), Reply::NotFound);
}

#[test]
fn a_missing_folder_is_not_an_empty_table() {
    let setup = Setup::new();
    fs::remove_dir(setup.dir()).unwrap();
    let setup = Both::ENDPOINTS.into_iter().fold(setup, Setup::listen);
    // Whether it refuses to start or cannot tell, it never says that a sender has no relay.
    if let Ok(daemon) = Daemon::try_start(setup) {
        let mut clients = Both::to(&daemon);
        assert!(clients.relayhost("ann@one.test").is_cannot_tell());
        assert!(clients.sasl("ann@one.test").is_cannot_tell());
    }
}

#[test]
fn an_entry_with_an_error_cannot_tell_for_its_key_and_for_what_falls_through_it() {
    let (_daemon, mut clients) = Both::start(
        Setup::new()
            .relaymap(
                "@one.test [relay1.test\n\
                 good@one.test [relay2.test]:587\n\
                 bad@two.test [relay3.test]:99999\n\
                 @two.test [relay4.test]:587\n\
                 direct@one.test\n",
            )
            .env("RELAY_HOST", "default.test"),
    );
    // Its own key, and every sender who would have fallen through to it.
    for key in [
        "@one.test",
        "ann@one.test",
        "ann+x@ONE.test",
        "bad@two.test",
        "bad+x@two.test",
    ] {
        assert!(clients.relayhost(key).is_cannot_tell(), "{key}");
    }
    // Whoever is found earlier, or elsewhere, is found; the rest of the table is whole.
    assert_eq!(
        clients.relayhost("good@one.test"),
        Reply::found("[relay2.test]:587")
    );
    assert_eq!(
        clients.relayhost("good+x@one.test"),
        Reply::found("[relay2.test]:587")
    );
    assert_eq!(
        clients.relayhost("ann@two.test"),
        Reply::found("[relay4.test]:587")
    );
    assert_eq!(clients.relayhost("direct@one.test"), Reply::NotFound);
    assert_eq!(
        clients.relayhost("ann@three.test"),
        Reply::found("[default.test]:25")
    );
    assert_eq!(clients.relayhost("<>"), Reply::NotFound);
}

#[test]
fn a_good_line_does_not_stand_in_for_the_bad_one_that_wins_over_it() {
    let (_daemon, mut clients) =
        Both::start(Setup::new().relaymap("@one.test [relay1.test\n@one.test [relay2.test]\n"));
    assert!(clients.relayhost("ann@one.test").is_cannot_tell());
}

#[test]
fn credentials_without_a_colon_cannot_tell_for_their_key() {
    let (_daemon, mut clients) = Both::start(Setup::new().settings(MAIN_CF).credentials(
        "@one.test nocolon\nann@one.test ann:secret\nbob@two.test nocolon\n@two.test two:secret\n[relay1.test]:587 nocolon\n",
    ));
    for key in [
        "@one.test",
        "bob@one.test",
        "bob@two.test",
        "bob+x@two.test",
        "[RELAY1.test]:587",
    ] {
        assert!(clients.sasl(key).is_cannot_tell(), "{key}");
    }
    assert_eq!(clients.sasl("ann@one.test"), Reply::found("ann:secret"));
    assert_eq!(clients.sasl("ann@two.test"), Reply::found("two:secret"));
    assert_eq!(clients.sasl("relay1.test"), Reply::NotFound);
    assert_eq!(clients.relayhost("bob@one.test"), Reply::NotFound);
}

#[test]
fn a_control_byte_in_a_value_cannot_tell_for_its_key() {
    let (_daemon, mut clients) = Both::start(
        Setup::new()
            .relaymap("@one.test [relay1.test]:587\x01\n@two.test [relay2.test]\n")
            .credentials(
                "@two.test user:sec\0ret\n[relay2.test] user:sec\x7fret\n[relay3.test] user:secret\n",
            ),
    );
    assert!(clients.relayhost("ann@one.test").is_cannot_tell());
    assert_eq!(clients.relayhost("ann@two.test"), Reply::found("[relay2.test]"));
    assert!(clients.sasl("ann@two.test").is_cannot_tell());
    assert!(clients.sasl("[relay2.test]").is_cannot_tell());
    assert_eq!(clients.sasl("[relay3.test]"), Reply::found("user:secret"));
}

#[test]
fn a_line_whose_key_cannot_be_read_leaves_only_what_is_found() {
    let (_daemon, mut clients) = Both::start(
        two_domains()
            .relaymap("@one.test [relay1.test]:587\n\"ann smith@two.test [relay9.test]:587\n")
            .env("RELAY_HOST", "default.test"),
    );
    assert_eq!(
        clients.relayhost("ann@one.test"),
        Reply::found("[relay1.test]:587")
    );
    // Not found, and the default that stands for it, might have been the entry that nobody can read.
    for key in ["ann@nowhere.test", "<>", "\"<>\""] {
        assert!(clients.relayhost(key).is_cannot_tell(), "{key}");
    }
    assert!(clients.sasl("ann@elsewhere.test").is_cannot_tell());
    assert_eq!(clients.sasl("ann@one.test"), Reply::found("user1:secret1"));
    assert_eq!(clients.sasl("[relay1.test]:587"), Reply::found("hop:hopsecret"));
}

#[test]
fn a_credentials_line_whose_key_cannot_be_read_leaves_only_what_is_found() {
    let (_daemon, mut clients) = Both::start(
        two_domains()
            .credentials("@one.test user1:secret1\n\"ann smith@two.test user:secret\n")
            .env("RELAY_HOST", "default.test")
            .env("RELAY_USER", "default")
            .env("RELAY_PASSWORD", "defaultsecret"),
    );
    assert_eq!(clients.sasl("ann@one.test"), Reply::found("user1:secret1"));
    for key in [
        "ann@two.test",
        "relay9.test",
        "[relay9.test]:587",
        "[default.test]:25",
    ] {
        assert!(clients.sasl(key).is_cannot_tell(), "{key}");
    }
    assert_eq!(
        clients.relayhost("ann@two.test"),
        Reply::found("[relay2.test]:2525")
    );
    assert_eq!(
        clients.relayhost("ann@nowhere.test"),
        Reply::found("[default.test]:25")
    );
}

#[test]
fn a_relay_map_that_cannot_be_read_cannot_tell_anything_about_senders() {
    let setup = two_domains()
        .env("RELAY_HOST", "default.test")
        .env("DEFAULT_RELAY_HOST", "other.test");
    fs::remove_file(setup.dir().join(RELAYMAP)).unwrap();
    fs::create_dir(setup.dir().join(RELAYMAP)).unwrap();
    let (_daemon, mut clients) = Both::start(setup);
    for key in ["ann@one.test", "ann@nowhere.test", "<>", "\"<>\""] {
        assert!(clients.relayhost(key).is_cannot_tell(), "{key}");
    }
    // Where relayhost cannot tell, neither can sasl for that sender; next hops are another matter.
    assert!(clients.sasl("ann@one.test").is_cannot_tell());
    assert!(clients.sasl("ann@nowhere.test").is_cannot_tell());
    assert_eq!(clients.sasl("[relay1.test]:587"), Reply::found("hop:hopsecret"));
}

#[test]
fn credentials_that_cannot_be_read_cannot_tell_anything_but_relays_go_on() {
    let setup = two_domains()
        .env("RELAY_HOST", "default.test")
        .env("RELAY_USER", "default")
        .env("RELAY_PASSWORD", "defaultsecret");
    fs::remove_file(setup.dir().join(CREDENTIALS)).unwrap();
    fs::create_dir(setup.dir().join(CREDENTIALS)).unwrap();
    let (_daemon, mut clients) = Both::start(setup);
    for key in [
        "ann@one.test",
        "ann@nowhere.test",
        "relay1.test",
        "[relay1.test]:587",
        "[default.test]:25",
    ] {
        assert!(clients.sasl(key).is_cannot_tell(), "{key}");
    }
    assert_eq!(
        clients.relayhost("ann@one.test"),
        Reply::found("[relay1.test]:587")
    );
    assert_eq!(
        clients.relayhost("ann@nowhere.test"),
        Reply::found("[default.test]:25")
    );
    assert_eq!(clients.relayhost("ann@direct.test"), Reply::NotFound);
}

#[test]
fn where_relayhost_cannot_tell_neither_can_sasl() {
    let (_daemon, mut clients) =
        Both::start(two_domains().relaymap("@one.test [relay1.test\n@two.test [relay2.test]:2525\n"));
    assert!(clients.sasl("ann@one.test").is_cannot_tell());
    // Even without credentials the answer would be a guess about the route; with them it must not be given.
    assert_eq!(clients.sasl("ann@two.test"), Reply::found("user2:secret2"));
    assert_eq!(clients.sasl("[relay1.test]:587"), Reply::found("hop:hopsecret"));
}

#[test]
fn a_password_file_that_is_missing_cannot_tell_for_the_default_next_hop_only() {
    for variable in ["RELAY_PASSWORD_FILE", "RELAY_PASSWORD__FILE"] {
        let setup = two_domains()
            .env("RELAY_HOST", "default.test")
            .env("RELAY_USER", "default");
        let missing = setup.root().join("no-such-secret");
        let (_daemon, mut clients) = Both::start(setup.env(variable, missing));
        assert!(clients.sasl("[default.test]:25").is_cannot_tell());
        assert_eq!(clients.sasl("[relay1.test]:587"), Reply::found("hop:hopsecret"));
        assert_eq!(clients.sasl("ann@one.test"), Reply::found("user1:secret1"));
        assert_eq!(clients.sasl("[relay9.test]:25"), Reply::NotFound);
        assert_eq!(
            clients.relayhost("ann@nowhere.test"),
            Reply::found("[default.test]:25")
        );
    }
}

#[test]
fn an_entry_answers_for_the_default_next_hop_even_where_the_password_file_is_missing() {
    let setup = Setup::new()
        .credentials("[default.test]:25 file:filesecret\n")
        .env("RELAY_HOST", "default.test")
        .env("RELAY_USER", "default");
    let missing = setup.root().join("no-such-secret");
    let (_daemon, mut clients) = Both::start(setup.env("RELAY_PASSWORD_FILE", missing));
    assert_eq!(clients.sasl("[default.test]:25"), Reply::found("file:filesecret"));
}

#[test]
fn a_host_file_that_is_missing_cannot_tell_for_whoever_needs_the_default() {
    let setup = two_domains();
    let missing = setup.root().join("no-such-host");
    let (_daemon, mut clients) = Both::start(setup.env("RELAY_HOST_FILE", missing));
    assert!(clients.relayhost("ann@nowhere.test").is_cannot_tell());
    assert!(clients.sasl("ann@elsewhere.test").is_cannot_tell());
    assert_eq!(
        clients.relayhost("ann@one.test"),
        Reply::found("[relay1.test]:587")
    );
    assert_eq!(clients.relayhost("ann@direct.test"), Reply::NotFound);
    assert_eq!(clients.relayhost("<>"), Reply::NotFound);
    assert_eq!(clients.sasl("ann@one.test"), Reply::found("user1:secret1"));
    assert_eq!(clients.sasl("ann@direct.test"), Reply::NotFound);
}

#[test]
fn no_such_map_and_what_is_no_request_are_refused() {
    let (daemon, mut clients) = Both::start(two_domains());
    assert!(clients.socketmap.ask("nosuchmap", "ann@one.test").is_refused());
    assert!(clients.socketmap.ask("", "ann@one.test").is_refused());
    assert!(clients.socketmap.ask("RELAYHOSTS", "ann@one.test").is_refused());
    // An unknown map is an answer, not the end of the connection.
    assert_eq!(
        clients.relayhost("ann@one.test"),
        Reply::found("[relay1.test]:587")
    );

    for payload in ["", "relayhost", "hello"] {
        let mut client = Socketmap::to(&daemon, 0);
        netstring::WriteNetstring::write_netstring(&mut client.stream, payload).unwrap();
        assert!(client.reply().is_refused(), "{payload:?}");
    }
    for line in [
        "\n",
        "hello\n",
        "get\n",
        "gett ann@one.test\n",
        "put ann@one.test [x]\n",
        "get %zz\n",
        "get a%4\n",
    ] {
        let mut client = TcpTable::to(&daemon, 1);
        client.send(line.as_bytes());
        assert!(client.reply().is_cannot_tell(), "{line:?}");
    }
}

#[test]
fn no_reason_holds_a_key_a_value_or_a_credential() {
    let (daemon, mut clients) = Both::start(
        Setup::new()
            .relaymap("@one.test [CANARYHOST\n")
            .credentials("@one.test CANARYLOGIN:CANARYPASSWORD\n[CANARYHOP]:25 CANARYVALUE\n"),
    );
    let mut reasons = vec![
        clients.relayhost("canarysender@one.test").reason().to_owned(),
        clients.sasl("canarysender@one.test").reason().to_owned(),
        clients.sasl("[CANARYHOP]:25").reason().to_owned(),
        clients
            .socketmap
            .ask("nosuchmap", "canarysender@one.test")
            .reason()
            .to_owned(),
    ];
    let mut table = TcpTable::to(&daemon, 2);
    table.send(b"put canarysender@one.test CANARYVALUE\n");
    reasons.push(table.reply().reason().to_owned());
    for reason in reasons {
        assert!(!reason.is_empty());
        assert!(!reason.to_lowercase().contains("canary"), "{reason:?}");
        assert!(reason.len() <= 200, "Postfix logs 200 characters: {reason:?}");
    }
}

#[test]
fn credentials_are_withheld_from_senders_without_a_next_hop() {
    let (_daemon, mut clients) = Both::start(two_domains());
    assert_eq!(clients.sasl("ann@one.test"), Reply::found("user1:secret1"));
    // Postfix would offer these to the recipient's own server.
    assert_eq!(clients.sasl("ann@elsewhere.test"), Reply::NotFound);
    assert_eq!(clients.sasl("@elsewhere.test"), Reply::NotFound);
    assert_eq!(clients.sasl("ann@direct.test"), Reply::NotFound);
    // Next hops and hosts are asked only of those who have one.
    assert_eq!(clients.sasl("[relay1.test]:587"), Reply::found("hop:hopsecret"));
    assert_eq!(clients.sasl("relay2.test"), Reply::found("host:hostsecret"));
}

#[test]
fn a_default_relay_is_a_next_hop_and_brings_the_credentials_back() {
    for variable in ["RELAY_HOST", "DEFAULT_RELAY_HOST"] {
        let (_daemon, mut clients) = Both::start(two_domains().env(variable, "default.test"));
        assert_eq!(
            clients.sasl("ann@elsewhere.test"),
            Reply::found("user4:secret4"),
            "{variable}"
        );
        assert_eq!(clients.sasl("ann@direct.test"), Reply::NotFound, "{variable}");
    }
}

#[test]
fn a_relay_map_in_which_nothing_is_left_releases_no_password() {
    for text in ["", "# nothing left\n", "# @one.test [relay1.test]:587\n"] {
        let (_daemon, mut clients) = Both::start(two_domains().relaymap(text));
        for sender in ["ann@one.test", "ann@elsewhere.test", "nobody@nowhere.test"] {
            assert_eq!(clients.relayhost(sender), Reply::NotFound, "{text:?}");
            assert_eq!(clients.sasl(sender), Reply::NotFound, "{text:?}");
        }
        assert_eq!(
            clients.sasl("[relay1.test]:587"),
            Reply::found("hop:hopsecret"),
            "{text:?}"
        );
    }
}

#[test]
fn without_a_relay_map_and_a_default_a_password_is_not_released_until_main_cf_is_said_to_have_the_relays() {
    let credentials = "@one.test user1:secret1\n[relay1.test]:587 hop:hopsecret\n";
    let (daemon, mut clients) = Both::start(Setup::new().credentials(credentials));
    assert!(clients.sasl("ann@one.test").reason().contains("next_hops"));
    // A sender without a password has none, and what is kept by next hop is for that relay alone.
    assert_eq!(clients.sasl("nobody@nowhere.test"), Reply::NotFound);
    assert_eq!(clients.sasl("[relay1.test]:587"), Reply::found("hop:hopsecret"));
    daemon.replace(SETTINGS, MAIN_CF);
    eventually(
        || clients.socketmap.ask("sasl", "ann@one.test"),
        |reply| *reply == Reply::found("user1:secret1"),
    );
    daemon.replace(RELAYMAP, "@one.test\n");
    eventually(
        || clients.socketmap.ask("sasl", "ann@one.test"),
        |reply| *reply == Reply::NotFound,
    );
}

#[test]
fn a_relay_map_that_is_lost_while_the_server_runs_releases_no_password() {
    let settings = "[reload]\ngrace = 0.05\nin_flight = 0\n";
    let (daemon, mut clients) = Both::start(two_domains().settings(settings));
    assert_eq!(clients.sasl("ann@elsewhere.test"), Reply::NotFound);
    fs::remove_file(daemon.dir().join(RELAYMAP)).unwrap();
    // By one protocol: the edit may take effect between two questions.
    eventually(
        || clients.socketmap.ask("relayhost", "ann@one.test"),
        |reply| *reply == Reply::NotFound,
    );
    assert!(clients.sasl("ann@one.test").is_cannot_tell());
    assert!(clients.sasl("ann@elsewhere.test").is_cannot_tell());
}

#[test]
fn the_flag_and_the_variable_say_that_main_cf_has_the_relays_and_nothing_else_is_taken() {
    let setup = || Setup::new().credentials("@one.test user1:secret1\n");
    let (_daemon, mut clients) = Both::start(setup().arg("--next-hops").arg("main.cf"));
    assert_eq!(clients.sasl("ann@one.test"), Reply::found("user1:secret1"));
    let variable = setup().env("POSTMAPD_NEXT_HOPS", "main.cf");
    assert_eq!(variable.query(&["sasl", "ann@one.test"]).code, Some(0));
    let wrong = setup().settings("next_hops = \"maincf\"\n").serve_until_exit();
    assert_eq!(wrong.code, Some(78));
    assert!(wrong.stderr.contains("postmapd.toml:1:13"), "{}", wrong.stderr);
}

#[test]
fn an_exclusion_is_an_entry_and_makes_the_server_one_that_routes() {
    let (_daemon, mut clients) = Both::start(two_domains().relaymap("@direct.test\n"));
    assert_eq!(clients.sasl("ann@direct.test"), Reply::NotFound);
    assert_eq!(clients.sasl("ann@one.test"), Reply::NotFound);
}

#[test]
fn dunno_in_any_case_is_no_destination() {
    for dunno in ["DUNNO", "dunno", "Dunno"] {
        let (_daemon, mut clients) = Both::start(
            Setup::new()
                .relaymap(format!("ann@one.test {dunno}\n@one.test [relay1.test]\n"))
                .credentials("@one.test user1:secret1\n")
                .env("DEFAULT_RELAY_HOST", "default.test"),
        );
        assert_eq!(clients.relayhost("ann@one.test"), Reply::NotFound);
        assert_eq!(clients.relayhost("ann+x@one.test"), Reply::NotFound);
        assert_eq!(clients.sasl("ann@one.test"), Reply::NotFound);
        assert_eq!(clients.relayhost("bob@one.test"), Reply::found("[relay1.test]"));
    }
}

#[test]
fn a_credentials_key_without_a_value_ends_the_search() {
    let (_daemon, mut clients) = Both::start(
        Setup::new()
            .settings(MAIN_CF)
            .credentials("ann@one.test\n@one.test user1:secret1\n"),
    );
    assert_eq!(clients.sasl("ann@one.test"), Reply::NotFound);
    assert_eq!(clients.sasl("ann+x@one.test"), Reply::NotFound);
    assert_eq!(clients.sasl("bob@one.test"), Reply::found("user1:secret1"));
}

#[test]
fn relay_host_is_for_senders_with_a_domain() {
    let (_daemon, mut clients) = Both::start(
        Setup::new()
            .relaymap("@direct.test\nown@direct.test [own.test]\n")
            .env("RELAY_HOST", "default.test")
            .env("RELAY_PORT", "587"),
    );
    assert_eq!(
        clients.relayhost("ann@one.test"),
        Reply::found("[default.test]:587")
    );
    assert_eq!(
        clients.relayhost("\"a b\"@one.test"),
        Reply::found("[default.test]:587")
    );
    assert_eq!(
        clients.relayhost("ann@[192.0.2.1]"),
        Reply::found("[default.test]:587")
    );
    assert_eq!(clients.relayhost("ann@direct.test"), Reply::NotFound);
    assert_eq!(clients.relayhost("own@direct.test"), Reply::found("[own.test]"));
    for null in ["<>", "\"<>\"", "root"] {
        assert_eq!(clients.relayhost(null), Reply::NotFound, "{null}");
    }
}

#[test]
fn relay_host_is_bracketed_once() {
    for (host, served) in [
        ("default.test", "[default.test]:25"),
        ("[default.test]", "[default.test]:25"),
        ("192.0.2.1", "[192.0.2.1]:25"),
        ("2001:db8::25", "[2001:db8::25]:25"),
        ("[2001:db8::25]", "[2001:db8::25]:25"),
    ] {
        let (_daemon, mut clients) = Both::start(Setup::new().env("RELAY_HOST", host));
        assert_eq!(clients.relayhost("ann@one.test"), Reply::found(served));
    }
}

#[test]
fn default_relay_host_is_for_everyone_as_it_is_given() {
    for given in ["default.test", "[default.test]:587", "[a.test]:587, [b.test]:587"] {
        let (_daemon, mut clients) = Both::start(
            Setup::new()
                .relaymap("@direct.test\n")
                .env("DEFAULT_RELAY_HOST", given),
        );
        for key in ["ann@one.test", "<>", "\"<>\"", "root"] {
            assert_eq!(clients.relayhost(key), Reply::found(given), "{key}");
        }
        assert_eq!(clients.relayhost("ann@direct.test"), Reply::NotFound);
    }
}

#[test]
fn an_entry_for_the_null_sender_wins_over_the_default() {
    for entry in ["<> [bounces.test]\n", "\"<>\" [bounces.test]\n"] {
        let (_daemon, mut clients) = Both::start(
            Setup::new()
                .relaymap(entry)
                .env("DEFAULT_RELAY_HOST", "default.test"),
        );
        assert_eq!(clients.relayhost("<>"), Reply::found("[bounces.test]"));
        assert_eq!(clients.relayhost("\"<>\""), Reply::found("[bounces.test]"));
    }
    let (_daemon, mut clients) = Both::start(
        Setup::new()
            .relaymap("<>\n")
            .env("DEFAULT_RELAY_HOST", "default.test"),
    );
    assert_eq!(clients.relayhost("<>"), Reply::NotFound);
    assert_eq!(clients.relayhost("\"<>\""), Reply::NotFound);
}

#[test]
fn with_both_defaults_each_has_its_senders_and_both_have_the_credentials() {
    let (_daemon, mut clients) = Both::start(
        Setup::new()
            .env("RELAY_HOST", "domains.test")
            .env("DEFAULT_RELAY_HOST", "[null.test]:587")
            .env("RELAY_USER", "default")
            .env("RELAY_PASSWORD", "secret"),
    );
    assert_eq!(
        clients.relayhost("ann@one.test"),
        Reply::found("[domains.test]:25")
    );
    assert_eq!(clients.relayhost("<>"), Reply::found("[null.test]:587"));
    assert_eq!(clients.relayhost("\"<>\""), Reply::found("[null.test]:587"));
    assert_eq!(clients.sasl("[domains.test]:25"), Reply::found("default:secret"));
    assert_eq!(clients.sasl("[null.test]:587"), Reply::found("default:secret"));
}

#[test]
fn default_credentials_are_for_the_exact_next_hop() {
    let (_daemon, mut clients) = Both::start(
        Setup::new()
            .env("RELAY_HOST", "default.test")
            .env("RELAY_PORT", "587")
            .env("RELAY_USER", "default")
            .env("RELAY_PASSWORD", "sec:ret"),
    );
    assert_eq!(
        clients.sasl("[default.test]:587"),
        Reply::found("default:sec:ret")
    );
    assert_eq!(
        clients.sasl("[DEFAULT.Test]:587"),
        Reply::found("default:sec:ret")
    );
    for other in [
        "default.test",
        "default.test:587",
        "[default.test]",
        "[default.test]:25",
        "ann@one.test",
        "@default.test",
        "ann@default.test",
        "<>",
        "\"<>\"",
    ] {
        assert_eq!(clients.sasl(other), Reply::NotFound, "{other}");
    }
}

#[test]
fn default_credentials_are_for_each_element_of_a_list() {
    for list in [
        "[a.test]:587, [b.test]:587",
        "[a.test]:587,[b.test]:587",
        "[a.test]:587 [b.test]:587",
    ] {
        let (_daemon, mut clients) = Both::start(
            Setup::new()
                .env("DEFAULT_RELAY_HOST", list)
                .env("RELAY_USER", "default")
                .env("RELAY_PASSWORD", "secret"),
        );
        assert_eq!(clients.relayhost("ann@one.test"), Reply::found(list));
        assert_eq!(
            clients.sasl("[a.test]:587"),
            Reply::found("default:secret"),
            "{list}"
        );
        assert_eq!(
            clients.sasl("[b.test]:587"),
            Reply::found("default:secret"),
            "{list}"
        );
        for other in ["a.test", "b.test", "[a.test]", "[c.test]:587"] {
            assert_eq!(clients.sasl(other), Reply::NotFound, "{other} of {list}");
        }
    }
}

#[test]
fn an_entry_of_the_file_wins_over_the_default_credentials() {
    let (_daemon, mut clients) = Both::start(
        Setup::new()
            .credentials("[Default.TEST]:25 file:filesecret\n")
            .env("RELAY_HOST", "default.test")
            .env("RELAY_USER", "default")
            .env("RELAY_PASSWORD", "secret"),
    );
    assert_eq!(clients.sasl("[default.test]:25"), Reply::found("file:filesecret"));
}

#[test]
fn default_credentials_need_both_a_user_and_a_password_and_half_of_them_is_cannot_tell() {
    for (user, password, is_unsure) in [("", "secret", true), ("default", "", true), ("", "", false)] {
        let (_daemon, mut clients) = Both::start(
            Setup::new()
                .env("RELAY_HOST", "default.test")
                .env("RELAY_USER", user)
                .env("RELAY_PASSWORD", password),
        );
        let answer = clients.sasl("[default.test]:25");
        assert!(
            if is_unsure {
                answer.is_cannot_tell()
            } else {
                answer == Reply::NotFound
            },
            "{user:?} {password:?}: {answer:?}"
        );
    }
}

#[test]
fn the_value_of_a_file_loses_one_newline_and_nothing_else() {
    for (content, password) in [
        ("secret", "secret"),
        ("secret\n", "secret"),
        (" s#c:ret ", " s#c:ret "),
    ] {
        let setup = Setup::new().env("RELAY_HOST", "default.test");
        let (user, secret) = (setup.root().join("user"), setup.root().join("password"));
        fs::write(&user, "default\n").unwrap();
        fs::write(&secret, content).unwrap();
        let (_daemon, mut clients) = Both::start(
            setup
                .env("RELAY_USER__FILE", user)
                .env("RELAY_PASSWORD_FILE", secret),
        );
        assert_eq!(
            clients.sasl("[default.test]:25"),
            Reply::found(&format!("default:{password}"))
        );
    }
}

#[test]
fn host_and_port_come_from_files_too() {
    for suffix in ["_FILE", "__FILE"] {
        let setup = Setup::new();
        let (host, port) = (setup.root().join("host"), setup.root().join("port"));
        fs::write(&host, "default.test\n").unwrap();
        fs::write(&port, "2525\n").unwrap();
        let (_daemon, mut clients) = Both::start(
            setup
                .env(format!("RELAY_HOST{suffix}"), host)
                .env(format!("RELAY_PORT{suffix}"), port),
        );
        assert_eq!(
            clients.relayhost("ann@one.test"),
            Reply::found("[default.test]:2525")
        );
    }
}
