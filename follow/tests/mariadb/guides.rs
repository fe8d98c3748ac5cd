//! The guides for mailcow, ISPConfig and iRedMail: contrib/guides/relays-from-mailcow.md,
//! contrib/guides/relays-from-ispconfig.md and contrib/guides/relays-from-iredmail.md.
//!
//! Their commands run in their order, as root, with /etc, /opt, /run and /var/lib of their own (a mount namespace), and must print
//! what is shown. The tables have the names, columns and types of those of the products, as far as the queries use them.
//!
//! Some parts are simulated:
//!
//! - `systemctl enable --now postmapd-follow` starts `postmapd-follow run`; other commands of systemctl do nothing.
//! - `docker compose exec -T mysql-mailcow` runs the command on this host, without the password of root.
//! - The port of mailcow's MariaDB is that of the server of the test.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::database::mariadb::MariaDb;
use super::database::postgres::Postgres;
use super::database::processes::{run, signal, try_run, wait_for};
use super::postmapd::POSTMAPD;
use super::program::Place;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

const SYSTEMCTL: &str = "#!/bin/sh\n\
    [ \"$*\" = 'enable --now postmapd-follow' ] || exit 0\n\
    setsid postmapd-follow run > /run/follow.log 2>&1 < /dev/null &\n\
    echo $! > /run/follow.pid\n";

const DOCKER: &str = "#!/bin/sh\n\
    [ \"$1 $2 $3 $4\" = 'compose exec -T mysql-mailcow' ] || exit 1\n\
    shift 4\n\
    for argument; do shift; case $argument in -p*) ;; *) set -- \"$@\" \"$argument\";; esac; done\n\
    exec \"$@\"\n";

/// A host with the programs, whose MariaDB is a server of the test.
struct MailHost {
    temp: TempDir,
    namespace: Child,
    port: u16,
}

impl MailHost {
    fn start(server: &MariaDb) -> Self {
        assert!(
            run(Command::new("id").arg("-u")).trim() == "0",
            "this test needs root"
        );
        let temp = tempfile::tempdir().unwrap();
        let path = |name: &str| temp.path().join(name);
        run(Command::new("cp").args(["-a", "/etc"]).arg(path("etc")));
        for (file, line) in [
            (
                "etc/passwd",
                "postmapd-follow:x:990:990::/nonexistent:/usr/sbin/nologin\n",
            ),
            ("etc/group", "postmapd:x:990:\n"),
        ] {
            let text = fs::read_to_string(path(file)).unwrap();
            fs::write(path(file), text + line).unwrap();
        }
        fs::create_dir_all(path("etc/postmapd")).unwrap();
        fs::create_dir_all(path("etc/postfix")).unwrap();
        fs::write(path("etc/postfix/main.cf"), "compatibility_level = 3.6\n").unwrap();
        fs::create_dir(path("programs")).unwrap();
        for (name, text) in [("systemctl", SYSTEMCTL), ("docker", DOCKER)] {
            fs::write(path("programs").join(name), text).unwrap();
            run(Command::new("chmod").arg("0755").arg(path("programs").join(name)));
        }
        let client = format!("[client]\nuser = root\nsocket = {}\n", server.socket().display());
        fs::write(path(".my.cnf"), client).unwrap();
        let mounts = format!(
            "mount --bind {0}/etc /etc && mount -t tmpfs tmpfs /opt && mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib \
             && mkdir -p /run/mysqld /var/lib/postmapd /opt/mailcow-dockerized/data/conf/postfix \
             && echo DBROOT=x > /opt/mailcow-dockerized/mailcow.conf && ln -s {1} /run/mysqld/mysqld.sock \
             && touch {0}/ready && exec sleep infinity",
            temp.path().display(),
            server.socket().display()
        );
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--propagation", "private", "sh", "-c", &mounts]);
        let namespace = unshare.stdin(Stdio::null()).spawn().unwrap();
        let host = Self {
            temp,
            namespace,
            port: server.port(),
        };
        wait_for("the namespace", || {
            host.temp.path().join("ready").exists().then_some(())
        });
        host
    }

    /// Runs a command in a directory, and returns what it prints and the directory afterwards.
    fn run(&self, command: &str, directory: &str) -> Result<(String, String), String> {
        let command = command.replace("127.0.0.1:13306", &format!("127.0.0.1:{}", self.port));
        let script = format!(
            "cd {directory} && OLDPWD={} && {command}\npwd > /run/directory",
            repository().display()
        );
        let mut nsenter = Command::new("nsenter");
        nsenter
            .arg("--mount")
            .args(["--target", &self.namespace.id().to_string()])
            .args(["sh", "-e", "-c", &script])
            .env_clear()
            .env("HOME", self.temp.path())
            .env(
                "PATH",
                format!(
                    "{}:{}:/usr/sbin:/usr/bin:/sbin:/bin",
                    self.temp.path().join("programs").display(),
                    POSTMAPD.parent().unwrap().display()
                ),
            )
            .stdin(Stdio::null());
        let printed = try_run(&mut nsenter)?;
        let directory = self.in_namespace(&["cat", "/run/directory"])?;
        Ok((printed, directory.trim().to_owned()))
    }

    fn in_namespace(&self, command: &[&str]) -> Result<String, String> {
        let target = self.namespace.id().to_string();
        try_run(
            Command::new("nsenter")
                .args(["--mount", "--target", &target])
                .args(command),
        )
    }

    /// Runs the commands of a guide.
    fn follow(&self, guide: &str) {
        let path = format!("contrib/guides/{guide}");
        let text = fs::read_to_string(repository().join(&path)).unwrap();
        let mut directory = repository().to_str().unwrap().to_owned();
        let commands = commands(&text);
        assert!(commands.len() >= 10, "{path}");
        for Shown {
            line,
            command,
            output,
        } in commands
        {
            let place = format!("{path}:{line}: {command}");
            let (printed, after) = self
                .run(&command, &directory)
                .unwrap_or_else(|error| panic!("{place}\n{error}"));
            directory = after;
            assert!(
                is_as_shown(&output, printed.trim_end()),
                "{place}\nprints:\n{printed}"
            );
        }
    }

    /// The exit code of a lookup, and its value.
    fn query(&self, map: &str, key: &str) -> String {
        let answer = self.run(
            &format!("postmapd query --dir /var/lib/postmapd {map} '{key}' || echo \"($?)\""),
            "/",
        );
        answer.unwrap().0.trim_end().to_owned()
    }

    /// Waits until a lookup has this answer: `postmapd-follow run` publishes changes.
    fn wait_for(&self, map: &str, key: &str, answer: &str) {
        wait_for(&format!("{map} {key}: {answer}"), || {
            (self.query(map, key) == answer).then_some(())
        });
    }
}

impl Drop for MailHost {
    fn drop(&mut self) {
        if let Ok(pid) = self.in_namespace(&["cat", "/run/follow.pid"]) {
            signal(pid.trim().parse().unwrap(), "TERM");
        }
        signal(self.namespace.id(), "KILL");
        let _ = self.namespace.wait();
    }
}

struct Shown {
    line: usize,
    command: String,
    output: Vec<String>,
}

/// The commands of blocks of kind `console`: after `# `, continued after `> `, and followed by what they print.
fn commands(text: &str) -> Vec<Shown> {
    let mut commands: Vec<Shown> = Vec::new();
    let mut is_console = false;
    for (number, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            is_console = line == "```console";
        } else if is_console {
            if let Some(command) = line.strip_prefix("# ") {
                commands.push(Shown {
                    line: number + 1,
                    command: command.to_owned(),
                    output: Vec::new(),
                });
            } else if let Some(command) = commands.last_mut() {
                match line.strip_prefix('>') {
                    Some(more) if command.output.is_empty() => {
                        command.command.push('\n');
                        command.command.push_str(more.strip_prefix(' ').unwrap_or(more));
                    }
                    _ => command.output.push(line.to_owned()),
                }
            }
        }
    }
    commands
}

/// Whether the output is as shown; `…` is any text, and a line with only `…` is any line.
fn is_as_shown(shown: &[String], printed: &str) -> bool {
    let printed: Vec<&str> = printed.lines().collect();
    shown.len() == printed.len()
        && shown.iter().zip(printed).all(|(shown, printed)| {
            let mut rest = printed;
            let mut parts = shown.split('…');
            let Some(remaining) = rest.strip_prefix(parts.next().unwrap_or_default()) else {
                return false;
            };
            rest = remaining;
            for part in parts {
                let Some(at) = rest.rfind(part) else { return false };
                rest = &rest[at + part.len()..];
            }
            rest.is_empty()
        })
}

#[test]
fn the_guide_for_mailcow_gives_each_sender_the_login_of_its_own_relay() {
    let server = MariaDb::start();
    server.sql("mysql", "CREATE DATABASE mailcow");
    server.sql(
        "mailcow",
        "CREATE TABLE relayhosts (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, hostname VARCHAR(255) NOT NULL,
           username VARCHAR(255) NOT NULL, password VARCHAR(255) NOT NULL, active TINYINT(1) NOT NULL DEFAULT 1);
         CREATE TABLE domain (domain VARCHAR(255) NOT NULL PRIMARY KEY, relayhost VARCHAR(255) NOT NULL DEFAULT '0');
         CREATE TABLE alias_domain (alias_domain VARCHAR(255) NOT NULL PRIMARY KEY, target_domain VARCHAR(255) NOT NULL);
         CREATE TABLE mailbox (username VARCHAR(255) NOT NULL PRIMARY KEY, password VARCHAR(255) NOT NULL, attributes JSON);
         CREATE TABLE alias (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, address VARCHAR(255) NOT NULL UNIQUE,
           `goto` TEXT NOT NULL, active TINYINT(1) NOT NULL DEFAULT 1);
         INSERT INTO relayhosts VALUES (1, '[rh1.example.com]:587', 'domainuser', 'domainpass', 1),
           (2, '[rh2.example.com]:587', 'boxuser', 'boxpass', 1), (3, '[open.example.com]:25', '', 'left over', 1),
           (4, '[off.example.com]:587', 'off', 'off', 0);
         INSERT INTO domain VALUES ('example.com', '1'), ('example.org', '0'), ('example.net', '4');
         INSERT INTO alias_domain VALUES ('alias.example.com', 'example.com');
         INSERT INTO mailbox VALUES ('example@example.com', 'x', '{\"relayhost\": \"2\"}'),
           ('box@example.com', 'x', '{\"relayhost\": \"0\"}'), ('open@example.com', 'x', '{\"relayhost\": \"3\"}'),
           ('off@example.com', 'x', '{\"relayhost\": \"4\"}'), ('box@example.org', 'x', NULL);
         INSERT INTO alias (address, `goto`, active) SELECT username, username, 1 FROM mailbox;
         INSERT INTO alias (address, `goto`, active) VALUES ('sales@example.com', 'example@example.com', 1),
           ('old@example.com', 'example@example.com', 0), ('@example.org', 'example@example.com', 1);",
    );
    let host = MailHost::start(&server);
    host.follow("relays-from-mailcow.md");
    let none = "(1)";
    for (sender, relay, login) in [
        ("example@example.com", "[rh2.example.com]:587", "boxuser:boxpass"),
        ("sales@example.com", "[rh2.example.com]:587", "boxuser:boxpass"),
        (
            "box@example.com",
            "[rh1.example.com]:587",
            "domainuser:domainpass",
        ),
        (
            "nobody@alias.example.com",
            "[rh1.example.com]:587",
            "domainuser:domainpass",
        ),
        // An alias and a relay that are not active: the relay of the domain.
        (
            "old@example.com",
            "[rh1.example.com]:587",
            "domainuser:domainpass",
        ),
        (
            "off@example.com",
            "[rh1.example.com]:587",
            "domainuser:domainpass",
        ),
        // A relay without a user: no login, and not that of the domain.
        ("open@example.com", "[open.example.com]:25", none),
        ("box@example.org", none, none),
        ("box@example.net", none, none),
    ] {
        assert_eq!(
            (host.query("relayhost", sender), host.query("sasl", sender)),
            (relay.to_owned(), login.to_owned()),
            "{sender}"
        );
    }
    // The service publishes a change.
    server.sql(
        "mailcow",
        "UPDATE relayhosts SET hostname = '[rh5.example.com]:587', password = 'new' WHERE id = 2",
    );
    host.wait_for("relayhost", "example@example.com", "[rh5.example.com]:587");
    assert_eq!(host.query("sasl", "example@example.com"), "boxuser:new");
    // Neither the query nor the user reads a password of a mailbox.
    let denied = host.run(
        "mariadb --user=postmapd --password=\"$(cat /etc/postmapd/follow-password)\" mailcow -e 'SELECT password FROM mailbox'",
        "/",
    );
    assert!(denied.unwrap_err().contains("denied to user"), "it is not denied");
}

#[test]
fn the_guide_for_ispconfig_gives_each_domain_its_relay_and_its_login() {
    let server = MariaDb::start();
    server.sql("mysql", "CREATE DATABASE dbispconfig");
    server.sql(
        "dbispconfig",
        "CREATE TABLE mail_domain (domain_id INT(11) UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
           server_id INT(11) UNSIGNED NOT NULL DEFAULT 0, domain VARCHAR(255) NOT NULL DEFAULT '', dkim_private MEDIUMTEXT,
           relay_host VARCHAR(255) NOT NULL DEFAULT '', relay_user VARCHAR(255) NOT NULL DEFAULT '',
           relay_pass VARCHAR(255) NOT NULL DEFAULT '', active ENUM('n', 'y') NOT NULL DEFAULT 'n') DEFAULT CHARSET = utf8;
         INSERT INTO mail_domain (server_id, domain, relay_host, relay_user, relay_pass, active) VALUES
           (1, 'example.com', '[relay1.example.net]:587', 'customer1', 'secret1', 'y'),
           (1, 'example.org', '[relay2.example.net]', '', 'left over', 'y'),
           (1, 'example.net', '[relay1.example.net]:587', 'customer3', 'secret3', 'n'),
           (2, 'other.example.com', '[relay1.example.net]:587', 'customer4', 'secret4', 'y'),
           (1, 'direct.example.com', '', '', '', 'y'),
           (1, 'user-only.example.com', '', 'customer5', 'secret5', 'y')",
    );
    let host = MailHost::start(&server);
    host.follow("relays-from-ispconfig.md");
    let none = "(1)";
    for (sender, relay, login) in [
        (
            "someone@example.com",
            "[relay1.example.net]:587",
            "customer1:secret1",
        ),
        ("someone@example.org", "[relay2.example.net]", none),
        ("someone@example.net", none, none),
        ("someone@other.example.com", none, none),
        ("someone@direct.example.com", none, none),
        ("someone@user-only.example.com", none, none),
    ] {
        assert_eq!(
            (host.query("relayhost", sender), host.query("sasl", sender)),
            (relay.to_owned(), login.to_owned()),
            "{sender}"
        );
    }
    server.sql(
        "dbispconfig",
        "UPDATE mail_domain SET active = 'y', relay_pass = 'new' WHERE domain = 'example.net'",
    );
    host.wait_for("sasl", "someone@example.net", "customer3:new");
    // A row that is no entry costs only its own domain.
    server.sql(
        "dbispconfig",
        "INSERT INTO mail_domain (server_id, domain, relay_host, active) VALUES (1, 'bad.example.com', 'a b c:x', 'y');
         UPDATE mail_domain SET relay_pass = 'newer' WHERE domain = 'example.net'",
    );
    host.wait_for("sasl", "someone@example.net", "customer3:newer");
    assert_eq!(host.query("relayhost", "someone@bad.example.com"), "(75)");
}

#[test]
fn the_guide_for_iredmail_reads_the_relays_and_keeps_the_file_of_the_logins() {
    let server = MariaDb::start();
    server.sql("mysql", "CREATE DATABASE vmail");
    server.sql(
        "vmail",
        "CREATE TABLE sender_relayhost (id BIGINT(20) UNSIGNED AUTO_INCREMENT PRIMARY KEY,
           account VARCHAR(255) NOT NULL DEFAULT '' UNIQUE, relayhost VARCHAR(255) NOT NULL DEFAULT '');
         INSERT INTO sender_relayhost (account, relayhost) VALUES ('@example.com', '[relay1.example.net]:587'),
           ('user@example.org', '[relay2.example.net]:587')",
    );
    let host = MailHost::start(&server);
    host.follow("relays-from-iredmail.md");
    for (sender, relay) in [
        ("someone@example.com", "[relay1.example.net]:587"),
        ("user@example.org", "[relay2.example.net]:587"),
        ("other@example.org", "(1)"),
    ] {
        assert_eq!(host.query("relayhost", sender), relay, "{sender}");
    }
    server.sql(
        "vmail",
        "DELETE FROM sender_relayhost WHERE account = '@example.com'",
    );
    host.wait_for("relayhost", "someone@example.com", "(1)");
    assert_eq!(host.query("sasl", "user@example.org"), "customer2:secret2");
}

#[test]
fn the_statements_for_postgresql_in_the_guide_for_iredmail_are_enough() {
    let guide = fs::read_to_string(repository().join("contrib/guides/relays-from-iredmail.md")).unwrap();
    let statement = |begin: &str| {
        let (_, rest) = guide.split_once(&format!("`{begin}")).unwrap();
        let (statement, _) = rest.split_once('`').unwrap();
        format!("{begin}{}", statement.replace('\n', " "))
    };
    let server = Postgres::start();
    server.psql(
        "mail",
        "CREATE TABLE sender_relayhost (id SERIAL PRIMARY KEY, account VARCHAR(255) NOT NULL DEFAULT '' UNIQUE,
           relayhost VARCHAR(255) NOT NULL DEFAULT '');
         INSERT INTO sender_relayhost (account, relayhost) VALUES ('@example.com', '[relay1.example.net]:587')",
    );
    for begin in ["CREATE USER", "GRANT SELECT"] {
        server.psql("mail", &statement(begin));
    }
    let (_, query) = guide.split_once("> relay = ").unwrap();
    let query = query.lines().next().unwrap();
    let place = Place::new(&server.source("postmapd"), &format!("relay = {query}"));
    let (code, text) = place.once(&[]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(
        place.table("postfix-relaymap.cf"),
        "@example.com [relay1.example.net]:587\n"
    );
}
