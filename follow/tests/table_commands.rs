//! `postmapd-follow init`, `check`, `load` and `dump`, as an administrator runs them, with a real PostgreSQL.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test ends where something fails"
)]

mod database;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use database::postgres::Postgres;
use tempfile::TempDir;

/// What a command has done.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

/// A server, and the settings of a follower for it.
struct Site {
    server: Postgres,
    temp: TempDir,
}

impl Site {
    fn new() -> Self {
        let server = Postgres::start();
        server.psql("mail", "CREATE ROLE reader LOGIN");
        let site = Self {
            temp: TempDir::new_in("/tmp").unwrap(),
            server,
        };
        let source = site.server.source("reader");
        let dir = site.path("tables");
        fs::create_dir(&dir).unwrap();
        let text = format!(
            "source = \"{source}\"\ndir = \"{}\"\nhang = 30\nstale_after = 600\n",
            dir.display()
        );
        fs::write(site.path("follow.toml"), text).unwrap();
        site
    }

    /// A site with the tables of postmapd.
    fn with_tables() -> Self {
        let site = Self::new();
        let created = site.run(&["init", "--apply", "--source", &site.owner()]);
        assert_eq!(
            (created.code, created.out.as_str()),
            (Some(0), "created the schema postmapd\n"),
            "{created:?}"
        );
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    /// The source for the owner of the tables.
    fn owner(&self) -> String {
        self.server.source("postgres")
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let output = Command::new(env!("CARGO_BIN_EXE_postmapd-follow"))
            .env_clear()
            .env("POSTMAPD_FOLLOW_CONFIG", self.path("follow.toml"))
            .args(arguments)
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let ran = Ran {
            code: output.status.code(),
            out: text(output.stdout),
            err: text(output.stderr),
        };
        assert!(!format!("{ran:?}").contains("CANARY"), "{ran:?}");
        ran
    }

    fn load(&self, directory: &Path, more: &[&str]) -> Ran {
        let owner = self.owner();
        let all = [&["load", directory.to_str().unwrap(), "--source", &owner], more].concat();
        self.run(&all)
    }

    /// Writes the files of a directory.
    fn files(&self, name: &str, files: [(&str, &str); 2]) -> PathBuf {
        let directory = self.path(name);
        fs::create_dir_all(&directory).unwrap();
        for (file, text) in files {
            fs::write(directory.join(file), text).unwrap();
        }
        directory
    }

    fn count(&self, what: &str) -> String {
        self.server
            .psql("mail", &format!("SELECT count(*) FROM postmapd.{what}"))
    }

    fn revision(&self) -> String {
        self.server
            .psql("mail", "SELECT revision, version FROM postmapd.state")
    }
}

const RELAYS: (&str, &str) = (
    "postfix-relaymap.cf",
    "@one.test [relay1.test]:587 # a comment\n@two.test [relay2.test]:587, [relay3.test]:587\n@direct.test\n<> [relay1.test]:587\n",
);
const LOGINS: (&str, &str) = (
    "postfix-sasl-password.cf",
    "@one.test user:CANARY1 with space, 'quotes' \"and\" \\backslash\\ #:\n[relay2.test]:587 two:CANARY2\nnone@one.test\n",
);

#[test]
fn init_prints_what_apply_runs_and_the_reader_of_the_settings_may_read_and_not_write() {
    let site = Site::new();
    let printed = site.run(&["init"]);
    assert_eq!((printed.code, printed.err.as_str()), (Some(0), ""));
    let applied = Site::with_tables();
    site.server.psql("mail", &printed.out);
    for site in [&site, &applied] {
        let read = "SELECT count(*) FROM postmapd.relay, postmapd.credential, postmapd.relay_tls, postmapd.state, postmapd.change";
        assert_eq!(site.server.try_psql_as("reader", "mail", read).unwrap(), "0");
        let write = "INSERT INTO postmapd.relay VALUES ('@a.test', NULL)";
        let error = site.server.try_psql_as("reader", "mail", write).unwrap_err();
        assert!(error.contains("permission denied"), "{error}");
    }
    let dump = |site: &Site| {
        let query = "SELECT table_name, column_name, domain_name, is_nullable FROM information_schema.columns \
                     WHERE table_schema = 'postmapd' ORDER BY 1, 2";
        site.server.psql("mail", query)
    };
    assert_eq!(dump(&site), dump(&applied));
    // Once more changes nothing.
    let before = applied.revision();
    let again = applied.run(&["init", "--apply", "--source", &applied.owner()]);
    assert_eq!(again.out, "the schema postmapd exists, and was not changed\n");
    assert_eq!(applied.revision(), before);
    // On the host of the database there may be no settings.
    let bare = Site::new();
    fs::remove_file(bare.path("follow.toml")).unwrap();
    let created = bare.run(&["init", "--apply", "--source", &bare.owner(), "--reader", "reader"]);
    assert_eq!(created.out, "created the schema postmapd\n", "{created:?}");
    let refused = bare.run(&["init", "--source", &bare.owner()]);
    assert!(refused.err.contains("name it with --reader"), "{refused:?}");
    // The user that reads has no right to create it.
    let denied = Site::new().run(&["init", "--apply"]);
    assert_eq!(denied.code, Some(1), "{denied:?}");
    assert!(
        denied
            .err
            .contains("the user has no right to create or change the tables: permission denied"),
        "{denied:?}"
    );
    assert!(
        denied.err.ends_with("name one that has it with --source\n"),
        "{denied:?}"
    );
}

#[test]
fn another_source_of_the_owner_uses_tls_on_a_network_and_is_postgresql() {
    let site = Site::new();
    // The settings have a UNIX socket. This address leads to the server, which has no TLS, and is not one of loopback.
    let source = site.server.tcp_source("postgres", "0.0.0.0");
    let remote = site.run(&["init", "--apply", "--source", &source]);
    assert_eq!((remote.code, remote.out.as_str()), (Some(1), ""), "{remote:?}");
    assert!(!remote.err.contains("tls = \"off\""), "{remote:?}");
    let mariadb = site.run(&["init", "--source", "mysql://owner@127.0.0.1/mail"]);
    assert_eq!((mariadb.code, mariadb.out.as_str()), (Some(1), ""), "{mariadb:?}");
    assert!(mariadb.err.contains("in PostgreSQL"), "{mariadb:?}");
}

#[test]
fn what_is_loaded_is_dumped_as_the_same_entries_and_no_value_is_shown_or_logged() {
    let site = Site::with_tables();
    site.server.set("log_statement = all");
    let directory = site.files("files", [RELAYS, LOGINS]);
    let ran = site.load(&directory, &[]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");
    for line in [
        "relay: @one.test: added\n",
        "relay: 4 added, 0 changed, 0 removed, 0 unchanged\n",
        "credential: 3 added, 0 changed, 0 removed, 0 unchanged\n",
    ] {
        assert!(ran.out.contains(line), "{ran:?}");
    }
    let copy = site.path("copy");
    let dumped = site.run(&["dump", copy.to_str().unwrap()]);
    assert_eq!(dumped.code, Some(0), "{dumped:?}");
    let sorted = |path: PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        let mut lines: Vec<String> = text
            .lines()
            .map(|line| line.trim_end_matches(" # a comment").to_owned())
            .collect();
        lines.sort();
        lines
    };
    for (name, _) in [RELAYS, LOGINS] {
        assert_eq!(sorted(copy.join(name)), sorted(directory.join(name)), "{name}");
    }
    // The same again is no new state, and neither is a dump.
    let before = site.revision();
    let again = site.load(&copy, &[]);
    assert_eq!(again.code, Some(0), "{again:?}");
    assert!(
        again
            .out
            .contains("relay: 0 added, 0 changed, 0 removed, 4 unchanged\n"),
        "{again:?}"
    );
    assert_eq!(site.revision(), before);
    assert!(!site.server.log().contains("CANARY"));
    // A dump replaces nothing.
    let refused = site.run(&["dump", copy.to_str().unwrap()]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("the file exists"), "{refused:?}");
}

#[test]
fn rows_are_changed_and_removed_only_with_force_and_all_tables_in_one_transaction() {
    let site = Site::with_tables();
    assert_eq!(
        site.load(&site.files("files", [RELAYS, LOGINS]), &[]).code,
        Some(0)
    );
    let before = site.revision();
    let new = site.files(
        "new",
        [
            (
                RELAYS.0,
                "@ONE.test [relay1.test]:587\n@two.test [moved.test]:587\n@new.test\n<> [relay1.test]:587\n",
            ),
            (LOGINS.0, "@new.test user:CANARY9\nsecretword user:CANARY8\n"),
        ],
    );
    for (more, code, message) in [
        (&[][..], 1, "rows would be changed or removed; --force"),
        (&["--dry-run"][..], 0, "nothing was changed (--dry-run)"),
    ] {
        let ran = site.load(&new, more);
        assert_eq!(ran.code, Some(code), "{ran:?}");
        assert!(ran.err.contains(message), "{ran:?}");
        for line in [
            "relay: @ONE.test: added\n",
            "relay: @one.test: removed\n",
            "relay: @two.test: changed\n",
            "relay: 2 added, 1 changed, 2 removed, 1 unchanged\n",
            // A bare word may be a password in the wrong column.
            "credential: ********: added\n",
            "credential: 2 added, 0 changed, 3 removed, 0 unchanged\n",
        ] {
            assert!(ran.out.contains(line), "{line}: {ran:?}");
        }
        assert_eq!(site.revision(), before);
    }
    let ran = site.load(&new, &["--force"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");
    let keys = "SELECT string_agg(key, ' ' ORDER BY key COLLATE \"C\") FROM postmapd.relay";
    assert_eq!(site.server.psql("mail", keys), "<> @ONE.test @new.test @two.test");
    // One file alone changes its own table.
    fs::remove_file(new.join(LOGINS.0)).unwrap();
    fs::write(new.join(RELAYS.0), "@only.test\n").unwrap();
    assert_eq!(site.load(&new, &["--force"]).code, Some(0));
    assert_eq!(
        (site.count("relay"), site.count("credential")),
        ("1".to_owned(), "2".to_owned())
    );
}

#[test]
fn a_file_with_an_error_or_an_entry_that_the_tables_reject_loads_nothing_and_is_named() {
    let site = Site::with_tables();
    let before = site.revision();
    let bad = site.files("bad", [(RELAYS.0, "@one.test [relay1.test\n"), LOGINS]);
    let ran = site.load(&bad, &[]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("postfix-relaymap.cf:1:"), "{ran:?}");
    // The grammar accepts a port with zeros before it, the table does not.
    let rejected = site.files(
        "rejected",
        [
            (
                RELAYS.0,
                "@one.test [relay1.test]:587\n@two.test [relay1.test]:00587\n",
            ),
            LOGINS,
        ],
    );
    let ran = site.load(&rejected, &[]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let message = "postfix-relaymap.cf: the entry @two.test is rejected by the constraint is_next_hop of the table relay";
    assert!(ran.err.contains(message), "{ran:?}");
    let empty = site.path("empty");
    fs::create_dir(&empty).unwrap();
    let ran = site.load(&empty, &[]);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.err
            .contains("the directory does not exist, or has no postfix-relaymap.cf"),
        "{ran:?}"
    );
    assert_eq!(site.revision(), before);
    // The user that only reads cannot load.
    let files = site.files("files", [RELAYS, LOGINS]);
    let ran = site.run(&["load", files.to_str().unwrap()]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("permission denied"), "{ran:?}");
}

#[test]
fn check_connects_and_validates_every_row() {
    let mut site = Site::with_tables();
    let ran = site.run(&["check"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");
    assert!(
        ran.out.contains("no errors\n") && ran.out.contains("state: revision 1, committed 20"),
        "{ran:?}"
    );
    assert_eq!(
        site.load(&site.files("files", [RELAYS, LOGINS]), &[]).code,
        Some(0)
    );
    let ran = site.run(&["check"]);
    assert!(
        ran.out
            .contains("relay: 4 rows\ncredentials: 3 rows\ntls: 0 rows\n"),
        "{ran:?}"
    );
    // A table of other software, by a query.
    site.server.psql(
        "mail",
        "CREATE TABLE theirs (sender text, relay text); GRANT SELECT ON theirs TO reader; \
         INSERT INTO theirs VALUES ('@ok.test', '[r.test]:587'), ('@bad.test', E'CANARY\\n@evil.test [evil.test]')",
    );
    let settings = fs::read_to_string(site.path("follow.toml")).unwrap();
    let with_query =
        format!("{settings}\n[queries]\nrelay = \"SELECT sender, relay FROM theirs ORDER BY sender DESC\"\n");
    fs::write(site.path("follow.toml"), with_query).unwrap();
    let ran = site.run(&["check"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let message = "error: relay: row 2 (key @bad.test): column nexthop: ";
    assert!(
        ran.err.contains(message) && ran.out.contains("follow.toml: 1 bad row\n"),
        "{ran:?}"
    );
    // Not reachable, and not needed.
    site.server.stop();
    assert_eq!(site.run(&["check"]).code, Some(75));
    assert_eq!(site.run(&["check", "--offline"]).code, Some(0));
}

#[test]
fn a_server_sees_the_tables_before_a_load_or_those_after_it() {
    let site = Site::with_tables();
    let text = |version: usize| {
        let lines = |value: &dyn Fn(usize) -> String| -> String {
            let lines = (0..2000).map(|number| format!("@domain{number}.test {}\n", value(number)));
            lines.collect::<Vec<_>>().concat()
        };
        [
            lines(&|_| format!("[relay{version}.test]:587")),
            lines(&|_| format!("user:password{version}")),
        ]
    };
    let load = |version| {
        let [relays, logins] = text(version);
        let directory = site.files("files", [(RELAYS.0, &relays), (LOGINS.0, &logins)]);
        site.load(&directory, &["--force"])
    };
    assert_eq!(load(0).code, Some(0));
    let read = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT string_agg(DISTINCT n, ' ') FROM \
                (SELECT nexthop AS n FROM postmapd.relay UNION SELECT password FROM postmapd.credential) AS u; COMMIT";
    let seen = std::thread::scope(|scope| {
        let loads = scope.spawn(|| (1..6).for_each(|version| assert_eq!(load(version).code, Some(0))));
        let mut seen = Vec::new();
        while !loads.is_finished() {
            seen.push(site.server.psql("mail", read));
        }
        loads.join().unwrap();
        seen
    });
    for state in &seen {
        let whole = (0..6).any(|version| *state == format!("[relay{version}.test]:587 password{version}"));
        assert!(whole, "{state}");
    }
}
