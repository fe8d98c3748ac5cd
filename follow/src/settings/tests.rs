use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;

use super::source::{Database, Session};
use super::{Empty, Settings, Tls};

const SOURCE: &str = "source = \"postgres://reader@db.test/mail\"\n";

fn parse(text: &str) -> Result<Settings, Vec<String>> {
    let parsed = Settings::parse(Path::new("follow.toml"), text.as_bytes());
    parsed.map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

/// The errors of a file that has a source.
fn errors(text: &str) -> String {
    parse(&format!("{SOURCE}{text}")).expect_err(text).join("\n")
}

#[test]
fn a_source_is_enough_and_the_rest_has_defaults() {
    let settings = parse(SOURCE).unwrap();
    assert_eq!(settings.source.to_string(), "postgres://reader@db.test/mail");
    assert_eq!(settings.source.session, Session::Any);
    assert_eq!(settings.tls, Tls::VerifyFull);
    assert_eq!(settings.dir, Path::new("/var/lib/postmapd"));
    assert_eq!(settings.schema, "postmapd");
    let durations = [settings.poll, settings.hang, settings.stale_after];
    assert_eq!(durations, [1, 2, 60].map(Duration::from_secs));
    assert_eq!((settings.password_file, settings.ca), (None, None));
    assert_eq!((settings.client_certificate, settings.admin), (None, None));
    assert!(settings.sandbox);
    assert_eq!(settings.queries, None);
}

#[test]
fn every_setting_is_read() {
    let settings = parse(
        r#"source = "postgres://reader@db1.test,db2.test:5433/mail"
           password_file = "/etc/postmapd/db-password"
           tls = "verify-full"
           ca = "/etc/postmapd/ca.pem"
           client_cert = "/etc/postmapd/client.pem"
           client_key = "/etc/postmapd/client.key"
           dir = "/run/postmapd/tables"
           hang = "1500ms"
           stale_after = "2m"
           admin = "127.0.0.1:9452"
           sandbox = "off"
           [queries]
           relay = "SELECT sender, nexthop FROM relays;"
           credentials = """
             with x as (select 1) SELECT key, u, p FROM x
           """
           tls = "VALUES ('r.test', 'encrypt')"
           version = "SELECT max(id) FROM changes"
           every = 3
           empty = "allow"
        "#,
    )
    .unwrap();
    assert_eq!(settings.source.hosts.len(), 2);
    assert_eq!(
        settings.password_file,
        Some(PathBuf::from("/etc/postmapd/db-password"))
    );
    assert_eq!(settings.ca, Some(PathBuf::from("/etc/postmapd/ca.pem")));
    let certificate = ["/etc/postmapd/client.pem", "/etc/postmapd/client.key"].map(PathBuf::from);
    assert_eq!(settings.client_certificate, Some(certificate.into()));
    assert_eq!(settings.dir, Path::new("/run/postmapd/tables"));
    assert_eq!(settings.hang, Duration::from_millis(1500));
    assert_eq!(settings.stale_after, Duration::from_secs(120));
    assert_eq!(settings.interval(), Duration::from_secs(3));
    assert_eq!(settings.admin.unwrap().to_string(), "127.0.0.1:9452");
    assert!(!settings.sandbox);
    let queries = settings.queries.unwrap();
    assert_eq!(queries.relay.unwrap(), "SELECT sender, nexthop FROM relays");
    assert_eq!(
        queries.credentials.unwrap(),
        "with x as (select 1) SELECT key, u, p FROM x"
    );
    assert_eq!(queries.tls.unwrap(), "VALUES ('r.test', 'encrypt')");
    assert_eq!(queries.version.unwrap(), "SELECT max(id) FROM changes");
    assert_eq!(queries.empty, Empty::Allow);
    let settings = parse(&format!("{SOURCE}schema = \"mail_relays\"\npoll = 0.5")).unwrap();
    assert_eq!(settings.schema, "mail_relays");
    assert_eq!(settings.poll, Duration::from_millis(500));
    assert_eq!(settings.interval(), settings.poll);
}

#[test]
fn mariadb_needs_queries_and_queries_replace_the_schema_and_its_poll() {
    const MARIADB: &str = "source = \"mysql://reader@db.test/mail\"\n";
    const QUERIES: &str = "[queries]\nrelay = \"SELECT 1, 2\"";
    let settings = parse(&format!("{MARIADB}{QUERIES}")).unwrap();
    assert_eq!(settings.source.kind, Database::MariaDb);
    let errors = |text: String| parse(&text).expect_err(&text).join("\n");
    let error = errors(MARIADB.to_owned());
    assert!(
        error.starts_with("follow.toml: error: `source` is MariaDB or MySQL, and [queries] is missing"),
        "{error}"
    );
    for source in [SOURCE, MARIADB] {
        for (setting, expected) in [
            (
                "schema = \"mail\"",
                "follow.toml:2:10: error: `schema` has no effect with [queries]; remove it",
            ),
            (
                "poll = 2",
                "follow.toml:2:8: error: `poll` has no effect with [queries]; set every",
            ),
        ] {
            let error = errors(format!("{source}{setting}\n{QUERIES}"));
            assert!(
                error.starts_with(expected) && error.lines().count() == 1,
                "{error}"
            );
        }
    }
    let socket = "source = \"mysql://reader@/mail?socket=/run/mysqld/mysqld.sock\"\n";
    assert_eq!(parse(&format!("{socket}{QUERIES}")).unwrap().tls, Tls::Off);
    let error = errors(format!("{MARIADB}tls = \"off\"\n{QUERIES}"));
    assert!(
        error.contains("`tls` is off, and host 1 of `source` is reached over a network"),
        "{error}"
    );
}

#[test]
fn a_password_in_the_source_is_an_error_and_is_not_shown() {
    let errors = parse("source = \"postgres://u:hunter2@db.test/mail\"\n").unwrap_err();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(
        errors[0].starts_with("follow.toml:1:10: error: `source` is not usable: there is a password in it"),
        "{errors:?}"
    );
    assert!(
        errors[0].contains("password_file") && !errors[0].contains("hunter"),
        "{errors:?}"
    );
}

#[test]
fn tls_is_off_only_where_no_network_is_between_and_there_is_nothing_in_between() {
    let with = |host: &str, tls: &str| {
        parse(&format!("source = \"postgres://u@{host}/mail\"\n{tls}"))
            .map(|settings| settings.tls)
            .map_err(|errors| errors.join("\n"))
    };
    let off = "tls = \"off\"";
    for host in [
        "%2Frun%2Fpostgresql",
        "127.0.0.1",
        "[::1]:5433",
        "localhost",
        "127.0.0.1,%2Frun",
    ] {
        assert_eq!(with(host, off), Ok(Tls::Off), "{host}");
    }
    for (host, number) in [
        ("db.test", 1),
        ("192.0.2.1", 1),
        ("127.0.0.1,db.test", 2),
        ("[2001:db8::1]", 1),
    ] {
        let error = with(host, off).unwrap_err();
        let expected = format!("follow.toml:2:7: error: `tls` is off, and host {number} of `source`");
        assert!(error.starts_with(&expected), "{error}");
        assert_eq!(with(host, ""), Ok(Tls::VerifyFull));
    }
    // UNIX sockets have no TLS.
    assert_eq!(with("%2Frun%2Fpostgresql", ""), Ok(Tls::Off));
    assert_eq!(with("127.0.0.1", ""), Ok(Tls::VerifyFull));
    for word in [
        "prefer",
        "require",
        "verify-ca",
        "disable",
        "allow",
        "Off",
        "verify_full",
    ] {
        let error = with("127.0.0.1", &format!("tls = \"{word}\"")).unwrap_err();
        assert!(
            error.starts_with("follow.toml:2:7: error: `tls` must be"),
            "{error}"
        );
    }
    for setting in ["ca", "client_cert", "client_key"] {
        let error = with("127.0.0.1", &format!("{off}\n{setting} = \"/etc/x\"")).unwrap_err();
        assert!(error.contains(&format!("`{setting}` has no effect")), "{error}");
    }
}

#[test]
fn an_unknown_name_is_an_error_with_a_suggestion() {
    for (text, expected) in [
        (
            "pasword_file = \"/x\"",
            "follow.toml:2:1: error: unknown setting `pasword_file`; did you mean password_file?",
        ),
        ("sourec = \"x\"", "unknown setting `sourec`; did you mean source?"),
        (
            "[queries]\nrelays = \"SELECT 1\"",
            "follow.toml:3:1: error: unknown setting `relays`; did you mean relay?",
        ),
        (
            "[queries]\npoll = 1",
            "unknown setting; the settings here are relay, credentials, tls",
        ),
        ("[querys]", "did you mean queries?"),
    ] {
        let errors = errors(text);
        assert!(errors.contains(expected), "{errors}");
    }
    // It may be a password.
    let errors = errors("hunter2hunter2 = 1");
    assert!(
        errors.contains("unknown setting; the settings here are source, "),
        "{errors}"
    );
    assert!(!errors.contains("hunter"), "{errors}");
}

#[test]
fn every_wrong_value_is_reported_with_its_position() {
    for (text, expected) in [
        (
            "poll = 0",
            "follow.toml:2:8: error: `poll` must be a number of seconds",
        ),
        ("poll = -1", "`poll` must be"),
        ("poll = nan", "`poll` must be"),
        ("poll = 1e9", "`poll` must be"),
        ("hang = \"fast\"", "`hang` must be"),
        ("hang = true", "`hang` must be"),
        (
            "stale_after = 1",
            "`stale_after` (60 seconds unless it is set) must be longer",
        ),
        (
            "poll = 100",
            "`stale_after` (60 seconds unless it is set) must be longer",
        ),
        (
            "[queries]\nrelay = \"SELECT 1\"\nevery = 100",
            "`stale_after` (60 seconds unless it is set) must be longer",
        ),
        ("dir = \"tables\"", "`dir` must be an absolute path"),
        ("dir = \"\"", "`dir` must be a string that is not empty"),
        ("password_file = 1", "`password_file` must be a string"),
        ("schema = \"mail; DROP TABLE relay\"", "`schema` must be a name"),
        ("schema = \"Mail\"", "`schema` must be a name"),
        ("schema = \"1mail\"", "`schema` must be a name"),
        ("sandbox = 1", "`sandbox` must be true or false"),
        ("sandbox = \"strict\"", "`sandbox` must be true or false"),
        (
            "admin = \"9452\"",
            "`admin` is not an address: host and port are missing",
        ),
        (
            "client_cert = \"/x\"",
            "`client_cert` is set and `client_key` is not",
        ),
        (
            "client_key = \"/x\"",
            "`client_key` is set and `client_cert` is not",
        ),
        ("queries = 1", "`queries` must be a table"),
        ("[queries]", "follow.toml:2:2: error: [queries] has none of"),
        ("[queries]\nversion = \"SELECT 1\"", "[queries] has none of"),
        (
            "[queries]\nrelay = \"DELETE FROM relay\"",
            "`relay` must be one query",
        ),
        ("[queries]\nrelay = \"SELECT 1\"\nempty = true", "`empty` must be"),
        (
            "[queries]\nrelay = \"SELECT 1\"\nempty = \"yes\"",
            "`empty` must be \"refuse\" or \"allow\"",
        ),
        ("poll = ", "follow.toml:2:8: error: "),
        ("poll = 1\npoll = 2", "duplicate key"),
    ] {
        let errors = errors(text);
        assert!(errors.contains(expected), "{text}: {errors}");
    }
    let all = errors("poll = 0\ndir = \"x\"\nschema = \"X\"");
    assert_eq!(all.lines().count(), 3, "{all}");
    let missing = parse("poll = 1").unwrap_err().join("\n");
    assert!(
        missing.starts_with("follow.toml: error: `source` is not set"),
        "{missing}"
    );
    assert!(parse("").unwrap_err().join("\n").contains("`source` is not set"));
    let wrong = Settings::parse(Path::new("follow.toml"), b"source = \"\xff\"").unwrap_err();
    assert_eq!(wrong.len(), 1);
    assert!(wrong[0].to_string().contains("not UTF-8"));
}

#[test]
fn the_files_that_the_settings_name_are_checked() {
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str| temp.path().join(name).to_str().unwrap().to_owned();
    let write = |name: &str, mode: u32, text: &str| {
        fs::write(path(name), text).unwrap();
        fs::set_permissions(path(name), Permissions::from_mode(mode)).unwrap();
    };
    let settings = parse(&format!(
        "{SOURCE}password_file = \"{}\"\nca = \"{}\"\nclient_cert = \"{}\"\nclient_key = \"{}\"",
        path("password"),
        path("ca"),
        path("cert"),
        path("key")
    ))
    .unwrap();
    let errors = || {
        let errors = settings.check_files().err().unwrap_or_default();
        errors
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert_eq!(errors().matches("cannot be read").count(), 4, "{}", errors());
    let certificate = "subject\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let key = "-----BEGIN EC PRIVATE KEY-----\r\nAAAA\r\n-----END EC PRIVATE KEY-----\r\n";
    let write_good = || {
        write("password", 0o600, "hunter2\n");
        write("ca", 0o644, certificate);
        write("cert", 0o644, certificate);
        write("key", 0o640, key);
    };
    write_good();
    assert_eq!(errors(), "");
    assert!(settings.password().unwrap().unwrap().expose() == b"hunter2");
    for (name, mode, text, expected) in [
        ("password", 0o600, "\n", "`password_file` is empty"),
        (
            "password",
            0o600,
            "hunter2\nhunter3\n",
            "`password_file` has several lines",
        ),
        (
            "key",
            0o600,
            certificate,
            "`client_key` has no line `-----BEGIN PRIVATE KEY-----`",
        ),
        ("ca", 0o644, key, "`ca` has no line `-----BEGIN CERTIFICATE-----`"),
        ("cert", 0o644, "", "`client_cert` has no line"),
    ] {
        write_good();
        write(name, mode, text);
        let errors = errors();
        assert!(
            errors.contains(expected) && errors.lines().count() == 1,
            "{errors}"
        );
        assert!(!errors.contains("hunter"), "{errors}");
    }
    write_good();
    assert!(settings.open_files().is_empty());
    write("password", 0o644, "hunter2\n");
    write("key", 0o602, key);
    assert_eq!(errors(), "");
    let warnings: Vec<_> = settings.open_files().iter().map(ToString::to_string).collect();
    for (warning, setting) in warnings.iter().zip(["password_file", "client_key"]) {
        assert!(
            warning.contains(&format!("warning: the file of `{setting}` is open to all users")),
            "{warning}"
        );
    }
    assert_eq!(warnings.len(), 2);
}

proptest! {
    #[test]
    fn no_text_of_the_file_is_in_an_error(secret in "[A-Z]{12}") {
        for text in [
            format!("source = \"postgres://u:{secret}@db.test/mail\""),
            format!("source = \"mysql://u:{secret}@db.test/mail\""),
            format!("source = \"mysql://u@db.test/mail?socket={secret}\""),
            format!("source = \"{secret}\""),
            format!("source = {secret}"),
            format!("{secret} = 1"),
            secret.clone(),
            format!("{SOURCE}tls = \"{secret}\""),
            format!("{SOURCE}schema = \"{secret}\""),
            format!("{SOURCE}admin = \"{secret}\""),
            format!("{SOURCE}poll = \"{secret}\""),
            format!("{SOURCE}dir = \"{secret}\""),
            format!("{SOURCE}[queries]\nrelay = \"{secret}\""),
            format!("{SOURCE}[queries]\nempty = \"{secret}\""),
            format!("{SOURCE}[queries]\n{secret} = \"x\""),
        ] {
            let errors = parse(&text).expect_err(&text).join("\n");
            prop_assert!(!errors.contains(&secret), "{}", errors);
        }
    }
}
