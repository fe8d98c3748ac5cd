//! `postmapd-follow once` with MariaDB: exit codes, and what stays active.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::database::mariadb::MariaDb;
use super::database::server::write_private;

/// A directory with settings, a password, and the tables.
pub struct Place {
    temp: TempDir,
}

impl Place {
    /// Writes the settings.
    pub fn new(source: &str, queries: &str) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().display();
        fs::create_dir(temp.path().join("tables")).unwrap();
        write_private(&temp.path().join("password"), b"hunter2");
        let settings = format!(
            "source = \"{source}\"\npassword_file = \"{path}/password\"\ndir = \"{path}/tables\"\nhang = 30\nstale_after = 90\n\
             [queries]\n{queries}\n"
        );
        fs::write(temp.path().join("follow.toml"), settings).unwrap();
        Self { temp }
    }

    /// The exit code of `once`, and what it prints, with a time that a slow machine does not need.
    pub fn once(&self, arguments: &[&str]) -> (i32, String) {
        self.once_within("60s", arguments)
    }

    /// The same with another time.
    pub fn once_within(&self, time: &str, arguments: &[&str]) -> (i32, String) {
        let mut program = Command::new(env!("CARGO_BIN_EXE_postmapd-follow"));
        let output = program
            .env_clear()
            .args(["once", "--timeout", time, "--config"])
            .arg(self.temp.path().join("follow.toml"))
            .args(arguments)
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).unwrap();
        assert!(!text.contains("hunter2"), "{text}");
        (output.status.code().unwrap(), text)
    }

    /// The text of a table; empty if there is none.
    pub fn table(&self, name: &str) -> String {
        let path: &Path = self.temp.path();
        fs::read_to_string(path.join("tables").join(name)).unwrap_or_default()
    }
}

#[test]
fn once_ends_with_the_documented_exit_codes_and_keeps_the_last_tables_after_an_error() {
    let mut server = MariaDb::start();
    server.sql(
        "mail",
        "CREATE TABLE relay (k VARCHAR(99), v VARCHAR(99)); INSERT INTO relay VALUES ('@example.com', '[r1]:587');
         CREATE USER reader@localhost IDENTIFIED BY 'hunter2'; GRANT SELECT ON mail.* TO reader@localhost",
    );
    let place = Place::new(&server.source("reader"), "relay = \"SELECT k, v FROM relay\"");
    let (code, text) = place.once(&[]);
    assert_eq!(code, 0, "{text}");
    assert!(text.starts_with("1 sender, 0 bad rows: "), "{text}");
    let relay = || place.table("postfix-relaymap.cf");
    let good = "@example.com [r1]:587\n";
    assert_eq!(relay(), good);
    // The last tables stay active, whatever is wrong.
    for (change, expected) in [
        ("DELETE FROM relay", "empty"),
        ("RENAME TABLE relay TO relays", "Table 'mail.relay' doesn't exist"),
        (
            "RENAME TABLE relays TO relay; REVOKE SELECT ON mail.* FROM reader@localhost",
            "to database 'mail'; correct the database in source, or grant the user SELECT on its tables",
        ),
        (
            "ALTER USER reader@localhost IDENTIFIED BY 'hunter3'",
            "Access denied for user 'reader'",
        ),
    ] {
        server.sql("mail", change);
        let (code, text) = place.once(&[]);
        assert_eq!(code, 1, "{change}: {text}");
        assert!(text.contains(expected), "{change}: {text}");
        assert_eq!(relay(), good, "{change}");
    }
    server.sql(
        "mail",
        "ALTER USER reader@localhost IDENTIFIED BY 'hunter2'; GRANT SELECT ON mail.* TO reader@localhost",
    );
    server.stop();
    // The first attempt ends at once, because the socket is gone.
    let (code, text) = place.once_within("500ms", &[]);
    assert_eq!(code, 75, "{text}");
    assert!(text.contains("cannot connect"), "{text}");
    assert_eq!(relay(), good);
    server.start_again();
    let (code, text) = place.once(&["--allow-empty"]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(relay(), "# no rows\n");
}
