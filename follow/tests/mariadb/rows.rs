//! Rows, and which state they are in.

use std::fs;

use postmapd_follow::directory::{Directory, Provenance};
use postmapd_follow::engine::Table;

use super::database::mariadb::MariaDb;
use super::follower::{Columns, Follower, Recorded};

/// A table with every kind of text that is no line of a file.
const CORPUS: &str = r#"
CREATE TABLE sender (id INT PRIMARY KEY AUTO_INCREMENT, k VARBINARY(700), v VARBINARY(700), p VARBINARY(700));
INSERT INTO sender (k, v, p) VALUES
  ('@example.com', '[relay.example.com]:587', 'secret'),
  ('@direct.example.com', NULL, NULL),
  ('@empty.example.com', '', ''),
  (NULL, '[relay.example.com]:587', 'x'),
  ('', '[relay.example.com]:587', 'x'),
  ('@lf.example.com', '[relay.example.com]:587\n@evil.example\t[evil.example]:25', 'x\n@evil.example y:z'),
  ('@cr.example.com\r', '[relay.example.com]:587\r', 'x\r'),
  ('@nul.example.com\0', '\0', '\0\0'),
  ('\t@tab.example.com', '[relay.example.com]:587\t', '\tx\t'),
  ('#comment@example.com', '# comment', '# comment'),
  ('"quoted user"@example.com', '"[relay.example.com]"', '"x"'),
  ('back\\slash@example.com', 'back\\slash', 'back\\slash'),
  ('\'; DROP TABLE sender; --', '\'; DROP TABLE sender; --', '`'),
  ('@trailing.example.com', '[relay.example.com]:587 ', 'x '),
  (UNHEX('EFBBBF61'), UNHEX('FF'), UNHEX('FE00C3')),
  ('größe@example.com', '[größe.example.com]', 'größe'),
  (REPEAT('k', 700), REPEAT('v', 700), REPEAT('p', 700));
"#;

/// The rows as the client of MariaDB prints them in hexadecimal digits, in which nothing is escaped.
fn printed(server: &MariaDb, columns: &[&str], from: &str) -> Vec<Columns> {
    let hexadecimal: Vec<String> = columns.iter().map(|column| format!("HEX({column})")).collect();
    let text = server.sql("mail", &format!("SELECT {} {from}", hexadecimal.join(", ")));
    let column = |text: &str| match text {
        "NULL" => None,
        digits => Some(
            digits
                .as_bytes()
                .chunks(2)
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
                .collect(),
        ),
    };
    text.lines()
        .map(|line| line.split('\t').map(column).collect())
        .collect()
}

/// A key that is NULL is passed on as an empty one.
fn with_keys(mut rows: Vec<Columns>) -> Vec<Columns> {
    for row in &mut rows {
        row[0].get_or_insert_default();
    }
    rows
}

fn follow(server: &MariaDb, queries: &str) -> Follower {
    Follower::new(&format!(
        "source = \"{}\"\nhang = 30\n[queries]\n{queries}",
        server.source("root")
    ))
}

#[test]
fn the_rows_are_those_that_the_client_prints_whatever_their_bytes_are() {
    let server = MariaDb::start();
    server.sql("mail", CORPUS);
    let mut follower = follow(
        &server,
        "relay = \"SELECT k, v FROM sender ORDER BY id DESC\"\n\
         credentials = \"SELECT k, v, p FROM sender ORDER BY id; \"\n\
         tls = '''WITH x AS (SELECT * FROM sender) SELECT v, k FROM x ORDER BY id -- all of them'''",
    );
    let mut connection = follower.connect();
    let (_, read) = follower.read(&mut connection);
    assert_eq!(read.tables, [Table::Relay, Table::Credentials, Table::Tls]);
    for (table, columns, from) in [
        (Table::Relay, &["k", "v"][..], "FROM sender ORDER BY id DESC"),
        (Table::Credentials, &["k", "v", "p"], "FROM sender ORDER BY id"),
        (Table::Tls, &["v", "k"], "FROM sender ORDER BY id"),
    ] {
        let printed = with_keys(printed(&server, columns, from));
        assert_eq!(printed.len(), 17);
        assert_eq!(read.rows[&table], printed, "{table:?}");
    }
    // Twice the same: nothing of the first transaction is left.
    let (_, again) = follower.read(&mut connection);
    assert_eq!(again.rows, read.rows);
}

#[test]
fn each_row_with_any_bytes_is_one_entry_or_a_bad_row() {
    let server = MariaDb::start();
    server.sql("mail", CORPUS);
    let mut follower = follow(
        &server,
        "relay = \"SELECT k, v FROM sender\"\ncredentials = \"SELECT k, p, p FROM sender\"",
    );
    let mut connection = follower.connect();
    let temp = tempfile::tempdir().unwrap();
    let mut directory = Directory::open(temp.path(), &[Table::Relay, Table::Credentials]).unwrap();
    let mut staging = directory.stage().unwrap();
    let state = follower.read_into(&mut connection, &mut staging);
    let source = server.source("root");
    assert_eq!(
        [Table::Relay, Table::Credentials].map(|table| staging.rows(table)),
        [17, 17]
    );
    assert!((10..30).contains(&staging.bad_rows()), "{}", staging.bad_rows());
    directory.publish(staging, &Provenance { source, state }).unwrap();
    for (file, good) in [
        ("postfix-relaymap.cf", "@example.com [relay.example.com]:587"),
        ("postfix-sasl-password.cf", "@example.com secret:secret"),
    ] {
        let text = fs::read(temp.path().join(file)).unwrap();
        let text = String::from_utf8_lossy(&text);
        assert!(text.lines().any(|line| line == good), "{file}: {text}");
        assert!(!text.contains("@evil"), "{file}: {text}");
        assert!(text.lines().count() <= 17, "{file}: {text}");
    }
}

#[test]
fn texts_are_utf_8_whatever_the_character_set_of_their_columns_and_numbers_are_digits() {
    let server = MariaDb::start_with(
        "character_set_server = latin1\nskip_character_set_client_handshake = 1",
        |_| {},
    );
    server.sql(
        "mail",
        "CREATE TABLE t (l VARCHAR(9) CHARACTER SET latin1, u VARCHAR(9) CHARACTER SET utf8mb4, n INT, d DECIMAL(9, 2));
         INSERT INTO t VALUES (X'E9', X'F09F9880', -7, 1.50)",
    );
    let mut follower = follow(
        &server,
        "relay = \"SELECT l, u FROM t\"\ncredentials = \"SELECT n, d, CONCAT(l, u) FROM t\"",
    );
    let mut connection = follower.connect();
    let (_, read) = follower.read(&mut connection);
    let column = |text: &str| Some(text.as_bytes().to_vec());
    assert_eq!(read.rows[&Table::Relay], [[column("é"), column("😀")]]);
    assert_eq!(
        read.rows[&Table::Credentials],
        [[column("-7"), column("1.50"), column("é😀")]]
    );
}

#[test]
fn a_result_without_rows_is_an_empty_table() {
    let server = MariaDb::start();
    server.sql("mail", "CREATE TABLE sender (k TEXT, v TEXT)");
    let mut follower = follow(&server, "relay = \"SELECT k, v FROM sender\"");
    let mut connection = follower.connect();
    let (empty, read) = follower.read(&mut connection);
    assert_eq!((read.tables, read.rows.len()), (vec![Table::Relay], 0));
    server.sql("mail", "INSERT INTO sender VALUES ('@example.com', NULL)");
    assert_ne!(follower.state(&mut connection).version, empty.version);
    server.sql("mail", "DELETE FROM sender");
    assert_eq!(follower.state(&mut connection).version, empty.version);
}

#[test]
fn the_version_differs_after_every_change_of_a_row_and_only_then() {
    let server = MariaDb::start();
    server.sql(
        "mail",
        "CREATE TABLE relay (k VARCHAR(99) PRIMARY KEY, v VARCHAR(99));
         CREATE TABLE credential (k VARCHAR(99) PRIMARY KEY, u VARCHAR(99) CHARACTER SET latin1, p VARBINARY(99), note TEXT);
         INSERT INTO relay VALUES ('@a', '[r1]'), ('@b', '[r2]'), ('@c', '');
         INSERT INTO credential VALUES ('@a', 'u1', 'pw-1', ''), ('@b', 'u2', 'pw-2', ''), ('@c', NULL, NULL, '');",
    );
    let queries = "relay = \"SELECT k, v FROM relay\"\ncredentials = \"SELECT k, u, p FROM credential\"";
    let mut follower = follow(&server, queries);
    let mut connection = follower.connect();
    let (first, _) = follower.read(&mut connection);
    assert_eq!(first.revision, None);
    let mut versions = vec![first.version.clone()];
    for change in [
        "UPDATE credential SET p = 'pw-3' WHERE k = '@a'",
        // Two rows exchange a value.
        "UPDATE credential SET p = IF(k = '@a', 'pw-2', 'pw-3') WHERE k IN ('@a', '@b')",
        // Two columns exchange a value, and a letter moves from one column to the next.
        "UPDATE credential SET u = 'pw-2', p = 'u1' WHERE k = '@a'",
        "UPDATE credential SET u = 'pw-', p = '2u1' WHERE k = '@a'",
        // NULL and empty, the case of letters, a space at the end.
        "UPDATE relay SET v = NULL WHERE k = '@c'",
        "UPDATE relay SET v = '[R1]' WHERE k = '@a'",
        "UPDATE relay SET v = '[R1] ' WHERE k = '@a'",
        "INSERT INTO relay VALUES ('@d', '[r4]')",
        "DELETE FROM credential WHERE k = '@b'",
    ] {
        server.sql("mail", change);
        let state = follower.state(&mut connection);
        assert!(!versions.contains(&state.version), "{change}");
        assert_eq!(follower.read(&mut connection).0, state);
        versions.push(state.version);
    }
    let last = follower.state(&mut connection);
    for no_change in [
        "UPDATE credential SET note = 'another column'",
        "UPDATE relay SET v = v",
        "ALTER TABLE relay ENGINE = InnoDB",
        "DELETE FROM relay WHERE k = '@d'; INSERT INTO relay VALUES ('@d', '[r4]')",
    ] {
        server.sql("mail", no_change);
        assert_eq!(follower.state(&mut connection), last, "{no_change}");
    }
    // Another connection sees the same state, and another process hides the fingerprint with another key.
    let mut other = follower.connect();
    assert_eq!(follower.state(&mut other).version, last.version);
    let mut restarted = follow(&server, queries);
    let mut other = restarted.connect();
    assert_ne!(restarted.state(&mut other).version, last.version);
}

#[test]
fn a_sum_of_crc_32_misses_two_rows_that_exchange_a_value_and_the_fingerprint_does_not() {
    let server = MariaDb::start();
    server.sql(
        "mail",
        "CREATE TABLE credential (k VARCHAR(99) PRIMARY KEY, u VARCHAR(99), p VARCHAR(99));
         INSERT INTO credential VALUES ('@a.example.com', 'u', 'secret-1'), ('@b.example.com', 'u', 'secret-2')",
    );
    let crc = || {
        server.sql(
            "mail",
            "SELECT COUNT(*), BIT_XOR(CRC32(CONCAT_WS('|', k, u, p))) FROM credential",
        )
    };
    let mut follower = follow(&server, "credentials = \"SELECT k, u, p FROM credential\"");
    let mut connection = follower.connect();
    let (state, before) = (follower.state(&mut connection), crc());
    server.sql(
        "mail",
        "UPDATE credential SET p = IF(p = 'secret-1', 'secret-2', 'secret-1')",
    );
    assert_eq!(crc(), before);
    assert_ne!(follower.state(&mut connection).version, state.version);
}

#[test]
fn the_query_version_replaces_the_fingerprint() {
    let server = MariaDb::start();
    server.sql(
        "mail",
        "CREATE TABLE relay (k VARCHAR(99), v VARCHAR(99));
         INSERT INTO relay VALUES ('@a', '[r1]');
         CREATE TABLE changed (number INT); INSERT INTO changed VALUES (7)",
    );
    let mut follower = follow(
        &server,
        "relay = \"SELECT k, v FROM relay\"\nversion = \"SELECT number FROM changed\"",
    );
    let mut connection = follower.connect();
    let (state, _) = follower.read(&mut connection);
    server.sql("mail", "UPDATE relay SET v = '[r2]'");
    assert_eq!(follower.state(&mut connection), state);
    server.sql("mail", "UPDATE changed SET number = 8");
    assert_ne!(follower.state(&mut connection).version, state.version);
}

#[test]
fn a_row_of_megabytes_is_passed_on_and_a_larger_one_is_an_error() {
    let server = MariaDb::start();
    server.sql("mail", "CREATE TABLE relay (k VARCHAR(99), v LONGTEXT)");
    server.sql(
        "mail",
        "INSERT INTO relay VALUES ('@a', REPEAT('x', 8000000)), ('@b', '[r2]')",
    );
    let mut follower = follow(
        &server,
        "relay = \"SELECT k, v FROM relay\"\nversion = \"SELECT 1\"",
    );
    let mut connection = follower.connect();
    let (_, Recorded { rows, .. }) = follower.read(&mut connection);
    let lengths: Vec<_> = rows[&Table::Relay]
        .iter()
        .map(|row| row[1].as_ref().unwrap().len())
        .collect();
    assert_eq!(lengths, [8_000_000, 4]);
    server.sql(
        "mail",
        "UPDATE relay SET v = REPEAT('x', 20000000) WHERE k = '@a'",
    );
    let (reading, _) = follower.try_read(&mut connection);
    let message = reading.unwrap_err().to_string();
    assert!(message.contains("more than 16 MB"), "{message}");
}
