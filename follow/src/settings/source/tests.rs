use postmapd::lookup::directory_source::DirectorySource;
use proptest::prelude::*;

use super::{Database, Host, Session, Source, SourceError};

fn tcp(host: &str, port: u16) -> Host {
    Host::Tcp(host.to_owned(), port)
}

#[test]
fn a_source_names_user_hosts_and_database() {
    let socket = || Host::Unix("/run/postgresql".into(), 5432);
    for (text, hosts, is_local) in [
        ("postgres://u@db.test/mail", vec![tcp("db.test", 5432)], false),
        (
            "postgresql://u@db1.test:1,192.0.2.1,[2001:db8::1]:3/mail",
            vec![tcp("db1.test", 1), tcp("192.0.2.1", 5432), tcp("2001:db8::1", 3)],
            false,
        ),
        (
            "postgres://u@localhost,127.0.0.2,[::1]/mail",
            vec![tcp("localhost", 5432), tcp("127.0.0.2", 5432), tcp("::1", 5432)],
            true,
        ),
        ("postgres://u@%2Frun%2fpostgresql/mail", vec![socket()], true),
        ("postgres://u@/mail?host=/run/postgresql", vec![socket()], true),
        (
            "postgres://u@localhost.evil.test/mail",
            vec![tcp("localhost.evil.test", 5432)],
            false,
        ),
        ("postgres://u@0.0.0.0/mail", vec![tcp("0.0.0.0", 5432)], false),
    ] {
        let source = Source::parse(text).unwrap();
        assert_eq!(source.hosts, hosts, "{text}");
        assert_eq!((source.user.as_str(), source.database.as_str()), ("u", "mail"));
        assert_eq!(source.hosts.iter().all(Host::is_local), is_local, "{text}");
        assert_eq!(source.to_string(), text);
        assert_eq!(source.session, Session::Any);
    }
    let source = Source::parse("postgres://r%40x@h/a%20b?target_session_attrs=read-write").unwrap();
    assert_eq!((source.user.as_str(), source.database.as_str()), ("r@x", "a b"));
    assert_eq!(source.session, Session::ReadWrite);
}

#[test]
fn what_is_not_a_source_is_refused() {
    for (text, error) in [
        ("", SourceError::Scheme),
        ("db.test", SourceError::Scheme),
        ("host=db.test user=u", SourceError::Scheme),
        ("sqlite://u@db.test/mail", SourceError::Scheme),
        ("Postgres://u@db.test/mail", SourceError::Scheme),
        ("mysqlx://u@db.test/mail", SourceError::Scheme),
        ("postgres://db.test/mail", SourceError::NoUser),
        ("postgres://@db.test/mail", SourceError::NoUser),
        ("postgres://u@db.test", SourceError::NoDatabase),
        ("postgres://u@db.test/", SourceError::NoDatabase),
        ("postgres://u@/mail", SourceError::NoHost(Database::PostgreSql)),
        (
            "postgres://u@db.test,/mail",
            SourceError::Host(2, Database::PostgreSql),
        ),
        (
            "postgres://u@a b/mail",
            SourceError::Host(1, Database::PostgreSql),
        ),
        (
            "postgres://u@[db.test]/mail",
            SourceError::Host(1, Database::PostgreSql),
        ),
        (
            "postgres://u@[::1/mail",
            SourceError::Host(1, Database::PostgreSql),
        ),
        ("postgres://u@a,b:0/mail", SourceError::Port(2)),
        ("postgres://u@a:+1/mail", SourceError::Port(1)),
        ("postgres://u@a:/mail", SourceError::Port(1)),
        ("postgres://u@a:65536/mail", SourceError::Port(1)),
        ("postgres://u@a/mail?sslmode=disable", SourceError::Tls),
        (
            "postgres://u@a/mail?options=-c",
            SourceError::Parameter(Database::PostgreSql),
        ),
        (
            "postgres://u@a/mail?target_session_attrs=standby",
            SourceError::SessionAttributes,
        ),
        ("postgres://u@a/ma%2", SourceError::Encoding),
        ("postgres://u@a/ma%0Ail", SourceError::Encoding),
        ("postgres://u@a/ma%ffil", SourceError::Encoding),
    ] {
        assert_eq!(Source::parse(text).unwrap_err(), error, "{text}");
    }
}

#[test]
fn a_source_of_mariadb_names_user_hosts_and_database() {
    let socket = || Host::Unix("/run/mysqld/mysqld.sock".into(), 3306);
    for (text, hosts) in [
        ("mysql://u@db.test/mail", vec![tcp("db.test", 3306)]),
        (
            "mariadb://u@db1.test:1,192.0.2.1,[2001:db8::1]:3/mail",
            vec![tcp("db1.test", 1), tcp("192.0.2.1", 3306), tcp("2001:db8::1", 3)],
        ),
        ("mysql://u@%2Frun%2Fmysqld%2Fmysqld.sock/mail", vec![socket()]),
        ("mysql://u@/mail?socket=/run/mysqld/mysqld.sock", vec![socket()]),
        (
            "mysql://u@127.0.0.1/mail?socket=/run/mysqld/mysqld.sock",
            vec![tcp("127.0.0.1", 3306), socket()],
        ),
    ] {
        let source = Source::parse(text).unwrap();
        assert_eq!((source.kind, source.hosts), (Database::MariaDb, hosts), "{text}");
        assert_eq!((source.user.as_str(), source.database.as_str()), ("u", "mail"));
        // postmapd reads it in source.json.
        let json = serde_json::json!({ "source": text }).to_string();
        assert!(DirectorySource::parse(json.as_bytes()).is_ok(), "{text}");
    }
    for (text, error) in [
        ("mysql://db.test/mail", SourceError::NoUser),
        ("mysql://u@db.test", SourceError::NoDatabase),
        ("mysql://u@/mail", SourceError::NoHost(Database::MariaDb)),
        ("mysql://u@db.test,/mail", SourceError::Host(2, Database::MariaDb)),
        (
            "mysql://u@/mail?socket=db.test",
            SourceError::Host(1, Database::MariaDb),
        ),
        ("mysql://u@/mail?socket=", SourceError::Host(1, Database::MariaDb)),
        ("mysql://u@%2Frun%2Fm.sock:3306/mail", SourceError::SocketPort(1)),
        ("mysql://u@a:0/mail", SourceError::Port(1)),
        ("mysql://u@a/mail?ssl-mode=DISABLED", SourceError::Tls),
        ("mysql://u@a/mail?require_ssl=false", SourceError::Tls),
        ("mysql://u@a/mail?verify_identity=false", SourceError::Tls),
        (
            "mysql://u@a/mail?host=b",
            SourceError::Parameter(Database::MariaDb),
        ),
        (
            "mysql://u@a/mail?target_session_attrs=any",
            SourceError::Parameter(Database::MariaDb),
        ),
        (
            "postgres://u@a/mail?socket=/run/m.sock",
            SourceError::Parameter(Database::PostgreSql),
        ),
    ] {
        assert_eq!(Source::parse(text).unwrap_err(), error, "{text}");
    }
}

#[test]
fn a_source_is_as_long_as_postmapd_reads_it() {
    let of_length = |length: usize| {
        let text = format!("postgres://u@db.test/{}", "m".repeat(length - 21));
        assert_eq!(text.len(), length);
        Source::parse(&text)
    };
    let longest = of_length(1024).unwrap();
    let json = serde_json::json!({ "source": longest.to_string() }).to_string();
    assert!(DirectorySource::parse(json.as_bytes()).is_ok());
    assert_eq!(of_length(1025).unwrap_err(), SourceError::TooLong);
}

#[test]
fn a_password_is_found_wherever_it_is() {
    for text in [
        "postgres://u:hunter2@db.test/mail",
        "postgres://u:@db.test/mail",
        "postgres://u%3Ahunter2@db.test/mail",
        "postgres://u:hun/ter2@db.test/mail",
        "postgres://u:hun@ter2@db.test/mail",
        "postgres://u:hun?ter2@db.test/mail",
        "mysql://u:hunter2@db.test/mail",
        "u:hunter2@db.test/mail",
        "postgres://u@db.test/mail?password=hunter2",
        "postgres://u@db.test/mail?sslpassword=hunter2",
        "host=db.test user=u PASSWORD=hunter2",
    ] {
        assert_eq!(Source::parse(text).unwrap_err(), SourceError::Password, "{text}");
    }
}

proptest! {
    #[test]
    fn any_password_is_refused(password in "[ -~]{1,20}") {
        let url = format!("postgres://u:{password}@db.test/mail");
        prop_assert_eq!(Source::parse(&url).unwrap_err(), SourceError::Password);
        let parameter = format!("postgres://u@db.test/mail?password={password}");
        prop_assert_eq!(Source::parse(&parameter).unwrap_err(), SourceError::Password);
    }
}
