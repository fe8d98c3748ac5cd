//! contrib/guides/a-fleet-from-postgresql.md: a host with PostgreSQL, as Debian installs it, and two mail servers that
//! run postmapd on files of their own.
//!
//! The hosts share a network, in which they reach each other as db.example.com. The commands of a section run on the
//! host that its heading names, or on both mail servers, one after the other.

use std::fs;
use std::path::Path;

use super::mail_host::{INSTALL, MailHost, SmtpServers, within};
use super::page::{Command, Page, Piece};
use super::run_as_shown;

/// The hosts of each kind of section, by a part of its heading.
const SECTIONS: [(&str, &[usize]); 5] = [
    ("db.example.com", &[0]),
    ("each mail server", &[1, 2]),
    ("mail2.example.com", &[2]),
    ("mail1.example.com", &[1]),
    ("mail servers", &[1, 2]),
];

/// The database server: PostgreSQL with an empty cluster, and the programs of the checkout.
const DATABASE: [&str; 3] = [
    "pg_dropcluster --stop 15 main 2> /dev/null || true",
    "pg_createcluster --locale C.UTF-8 15 main -- --no-sync > /dev/null
     echo 'fsync = off' > /etc/postgresql/15/main/conf.d/test.conf",
    "systemctl start postgresql@15-main",
];

/// For all: the address of the database server, and directories of which each change is reported.
const EVERYWHERE: &str = "\
echo '192.0.2.1 db.example.com' >> /etc/hosts
systemctl stop postfix@-.service
mkdir -p /var/lib/postmapd && mount -t tmpfs tmpfs /var/lib/postmapd
";

/// What scp copies, from which host to which. The stand-in for scp finds it below /srv/remote.
const COPIES: [(usize, &str, &str, &[usize]); 3] = [
    (
        0,
        "db.example.com",
        "/var/lib/postgresql/postmapd/ca.crt",
        &[1, 2],
    ),
    (
        0,
        "db.example.com",
        "/var/lib/postgresql/postmapd/password",
        &[1, 2],
    ),
    (1, "mail1.example.com", "/etc/postmapd/", &[0]),
];

struct Fleet {
    hosts: Vec<MailHost>,
}

impl Fleet {
    fn start(smtp_servers: &SmtpServers) -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_postmapd")).with_file_name("postmapd-follow");
        assert!(
            program.exists(),
            "build it: cargo build --locked --package postmapd-follow"
        );
        let start = || {
            let host = MailHost::start(smtp_servers);
            fs::copy(
                &program,
                host.root().join("srv/checkout/target/release/postmapd-follow"),
            )
            .unwrap();
            host.output(EVERYWHERE);
            host
        };
        // One after the other: Postfix listens until it is stopped.
        let hosts = vec![start(), start(), start()];
        for command in DATABASE {
            hosts[0].output(command);
        }
        for host in &hosts[1..] {
            host.output(INSTALL);
            host.output("systemctl start postmapd.socket postmapd.service");
        }
        Self { hosts }
    }

    /// Makes the files that scp copies available to the host.
    fn exchange(&self, at: usize) {
        for (from, name, path, targets) in COPIES {
            let source = self.hosts[from].root().join(&path[1..]);
            if !targets.contains(&at) || !source.exists() {
                continue;
            }
            let target = self.hosts[at]
                .root()
                .join("srv/remote")
                .join(name)
                .join(&path[1..]);
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            let files = if source.is_dir() {
                let entries = fs::read_dir(&source).unwrap();
                entries.map(|entry| entry.unwrap().file_name()).collect()
            } else {
                Vec::new()
            };
            if files.is_empty() && source.is_file() {
                fs::copy(&source, &target).unwrap();
            }
            for file in files {
                fs::create_dir_all(&target).unwrap();
                if source.join(&file).is_file() {
                    fs::copy(source.join(&file), target.join(&file)).unwrap();
                }
            }
        }
    }
}

/// The command with a longer `hang` in follow.toml: a loaded machine may be slower than the default, and the log would have another
/// outage than that of the guide.
fn patient(command: &Command) -> Command {
    let setting = "\nadmin = \"unix:/run/postmapd-follow/";
    Command {
        place: command.place.clone(),
        text: command.text.replace(setting, &format!("\nhang = 30{setting}")),
        shown: command.shown.clone(),
    }
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_guide_makes_two_mail_servers_follow_a_database_and_describes_each_fault() {
    within(|| {
        let smtp_servers = SmtpServers::start();
        let mut fleet = Fleet::start(&smtp_servers);
        let page = Page::read("contrib/guides/a-fleet-from-postgresql.md");
        let mut at: &[usize] = &[];
        let mut run = 0;
        for piece in &page.pieces {
            match piece {
                Piece::Heading(_, text) => {
                    let named = SECTIONS.iter().find(|(part, _)| text.contains(part));
                    at = named.map_or(&[], |(_, hosts)| hosts);
                }
                Piece::Command(command) => {
                    assert!(!at.is_empty(), "{}: on which host?", command.place);
                    for &host in at {
                        fleet.exchange(host);
                        match command.text.strip_prefix("cd ") {
                            Some(directory) => fleet.hosts[host].set_working_directory(directory),
                            None => run_as_shown(&fleet.hosts[host], &patient(command)),
                        }
                        run += 1;
                    }
                }
                Piece::Quotation(quotation) => panic!("{}: nothing provokes this", quotation.place),
            }
        }
        assert!(run > 70, "only {run} commands");
    });
}
