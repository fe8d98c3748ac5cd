//! A mail server for one test: this machine's systemd, journal and Postfix in their own namespaces, on a temporary copy
//! of the file system (tests/systemd/boot), and the servers to which it sends.
//!
//! Every command of a guide can be run here as root, with its effects on `/etc` and all.
//!
//! The servers: two relays at port 587 that offer STARTTLS with a certificate of an authority that the mail server
//! trusts, and accept no mail without AUTH, a third that the tests
//! start and stop, and the recipient's own server at port 25, which offers AUTH and accepts any login: a login it
//! receives is a leak. Names are in /etc/hosts (tests/systemd/host); there is no DNS.
//!
//! Everything that uses its network must run in [`within`], the drop of its parts included.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::harness::certificates::Authority;
use crate::harness::daemon::{Finished, finish};
use crate::harness::identities::Networks;
use crate::harness::smtp_server::{self, Auth, Journal, Login, SmtpServer};
use crate::harness::starttls::{Identity, Offer, TlsProxy};

/// Installs postmapd with a table for the two relays, the text of which stays in /srv/right, and makes Postfix query it.
pub(super) const INSTALL: &str = "\
install -m 0755 target/release/postmapd /usr/bin/postmapd
install -m 0644 contrib/systemd/postmapd.service contrib/systemd/postmapd.socket /usr/lib/systemd/system/
install -m 0644 contrib/systemd/sysusers.d/postmapd.conf /usr/lib/sysusers.d/
install -m 0644 contrib/systemd/tmpfiles.d/postmapd.conf /usr/lib/tmpfiles.d/
systemd-sysusers postmapd.conf
systemd-tmpfiles --create postmapd.conf
systemctl daemon-reload
mkdir /srv/right
cat > /srv/right/postfix-relaymap.cf <<'END'
@domain1.com  [relay1.org]:587
@domain2.com  [relay2.org]:587
END
cat > /srv/right/postfix-sasl-password.cf <<'END'
@domain1.com  relay_user_1:password_1
@domain2.com  relay_user_2:password_2
END
cat > /srv/right/postmapd.toml <<'END'
listen = [\"socketmap:unix:/var/spool/postfix/postmapd/socketmap\"]
admin = \"unix:/var/spool/postfix/postmapd/admin\"
END
cp /srv/right/* /etc/postmapd/
chmod 640 /etc/postmapd/*; chgrp postmapd /etc/postmapd/*
postmapd postconf --commands | sh
cp /etc/postfix/main.cf /srv/main.cf
";

/// Runs `act` in its own network namespace.
pub(super) fn within<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    Networks::new().near(0, act)
}

/// A running mail server. Everything in it ends on drop.
pub(super) struct MailHost {
    boot: Child,
    init: String,
    directory: String,
}

impl MailHost {
    /// Boots it, with a running Postfix that uses `hash:` tables, and a checkout in /srv/checkout. It trusts the
    /// authority of these servers.
    pub(super) fn start(smtp_servers: &SmtpServers) -> Self {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
        let scripts = repository.join("tests/systemd");
        let mut boot = Command::new(scripts.join("boot"))
            .args([
                scripts.join("host"),
                scripts.join("stand-ins"),
                repository.join("contrib"),
            ])
            .arg(env!("CARGO_BIN_EXE_postmapd"))
            .env("STAY", "yes")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tests/systemd/boot");
        let mut line = String::new();
        BufReader::new(boot.stdout.take().expect("a pipe"))
            .read_line(&mut line)
            .expect("a process id");
        let init = line.trim().to_owned();
        assert!(!init.is_empty(), "it did not boot; see standard error");
        let host = Self {
            boot,
            init,
            directory: "/srv/checkout".to_owned(),
        };
        let authority = std::fs::read(smtp_servers.authority.file()).expect("an authority");
        let trust = "mkdir -p /etc/ssl/certs; cat >> /etc/ssl/certs/ca-certificates.crt";
        assert_eq!(host.run_with_input(trust, &authority).code, Some(0));
        host
    }

    /// Creates a directory, and makes it the working directory of all further commands.
    pub(super) fn set_working_directory(&mut self, directory: &str) {
        self.output(&format!("mkdir -p {directory}"));
        directory.clone_into(&mut self.directory);
    }

    /// Runs a command in a shell of root, in the checkout or the working directory. Output and errors are mixed, as on
    /// a terminal.
    pub(super) fn run(&self, command: &str) -> Finished {
        self.run_with_input(command, b"")
    }

    /// Runs a command with that on standard input.
    pub(super) fn run_with_input(&self, command: &str, input: &[u8]) -> Finished {
        let root = format!("/proc/{}/root", self.init);
        finish(
            Command::new("nsenter")
                .args(["--target", &self.init])
                .args(["--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup"])
                .arg(format!("--root={root}"))
                .arg(format!("--wd={root}{}", self.directory))
                .args([
                    "env",
                    "-i",
                    "HOME=/root",
                    "LANG=C.UTF-8",
                    "TERM=dumb",
                    "SYSTEMD_PAGER=",
                ])
                .arg("PATH=/srv/stand-ins:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
                .args([
                    "timeout",
                    "60",
                    "bash",
                    "-c",
                    "exec 2>&1; cd \"$2\"; eval \"$1\"",
                    "bash",
                ])
                .args([command, &self.directory]),
            input,
        )
    }

    /// The state that helps to find out why a test fails.
    pub(super) fn state(&self) -> String {
        self.run(
            "echo '--- the log of Postfix ---'; tail -n 30 /var/log/mail.log
             echo '--- the log of postmapd ---'; journalctl -u postmapd -n 30 -o cat
             echo '--- connections ---'; ss -tanp",
        )
        .stdout
    }

    /// The path of its file system from outside.
    pub(super) fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.init))
    }

    /// The output of a command, which must succeed.
    #[track_caller]
    pub(super) fn output(&self, command: &str) -> String {
        let done = self.run(command);
        assert_eq!(done.code, Some(0), "{command}: {}", done.stdout);
        done.stdout
    }
}

impl Drop for MailHost {
    fn drop(&mut self) {
        // The end of its standard input ends it.
        drop(self.boot.stdin.take());
        drop(self.boot.wait());
    }
}

/// The logins of the two relays, as in tests/systemd/host, and one more that both accept.
pub(super) const ONE: (&str, &str) = ("relay_user_1", "password_1");
pub(super) const TWO: (&str, &str) = ("relay_user_2", "password_2");
pub(super) const NEW: (&str, &str) = ("relay_user_3", "password_3");

/// The servers to which it sends.
pub(super) struct SmtpServers {
    pub(super) journal: Journal,
    /// STARTTLS in front of the relays. They are dropped before them.
    pub(super) tls_proxies: Vec<TlsProxy>,
    authority: Authority,
    servers: Vec<SmtpServer>,
}

impl SmtpServers {
    pub(super) fn start() -> Self {
        let journal = Journal::default();
        let relay = |name: &str, logins: &[(&str, &str)]| {
            let setup = smtp_server::Setup::new(name, Ipv4Addr::LOCALHOST)
                .auth(Auth::Demanded)
                .journal(&journal);
            let setup = logins.iter().fold(setup, |setup, (user, password)| {
                setup.accepting(Login::new(user, password))
            });
            setup.start().unwrap()
        };
        let servers = vec![
            relay("relay1.org", &[ONE, NEW]),
            relay("relay2.org", &[TWO, NEW]),
            smtp_server::Setup::new("example.net", Ipv4Addr::new(127, 0, 0, 9))
                .port(25)
                .auth(Auth::Offered)
                .journal(&journal)
                .start()
                .unwrap(),
        ];
        let authority = Authority::new("authority");
        let front = |last, server: &SmtpServer, name| {
            let behind = SocketAddr::from((Ipv4Addr::LOCALHOST, server.port()));
            let address = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, last), 587);
            TlsProxy::start_with(address, behind, Offer::Starttls, authority.certificate(name))
        };
        Self {
            tls_proxies: vec![
                front(2, &servers[0], "relay1.org"),
                front(3, &servers[1], "relay2.org"),
            ],
            authority,
            servers,
            journal,
        }
    }

    /// Starts relay3.org: the first relay, with a certificate that cannot be verified.
    pub(super) fn start_self_signed(&self) -> TlsProxy {
        let behind = SocketAddr::from((Ipv4Addr::LOCALHOST, self.servers[0].port()));
        TlsProxy::start_at(SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 4), 587), behind)
    }

    /// Starts another relay at port 587 of this loopback address, behind which `server` accepts mail.
    pub(super) fn start_relay(
        &self,
        name: &str,
        last: u8,
        server: &SmtpServer,
        client_authority: Option<&Authority>,
    ) -> TlsProxy {
        let address = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, last), 587);
        let behind = SocketAddr::from((Ipv4Addr::LOCALHOST, server.port()));
        let identity = Identity {
            shown: self.authority.certificate(name),
            by_name: None,
            client_authority: client_authority.map(Authority::file),
        };
        TlsProxy::start_with(address, behind, Offer::Starttls, identity)
    }

    /// Where each mail arrived, and with which login, in order.
    pub(super) fn arrivals(&self) -> Vec<String> {
        let mails = self.journal.mails();
        let arrivals = mails.iter().map(|mail| {
            let user = mail.login.as_ref().map_or("no user", |login| &login.user);
            format!("{} by {} as {user}", mail.sender, mail.server)
        });
        arrivals.collect()
    }

    /// Promise 1, whatever failed: no relay accepted a mail without AUTH, no password was sent to a server that is not
    /// its relay or without TLS, and no mail of a relayed sender bypassed its relay.
    #[track_caller]
    pub(super) fn expect_no_leak(&self, direct: &[&str]) {
        for mail in self.journal.mails() {
            let past = mail.server == "example.net";
            assert!(
                past == mail.login.is_none() && past == direct.contains(&mail.sender.as_str()),
                "{mail:?}"
            );
        }
        for attempt in self.journal.attempts() {
            assert_ne!(attempt.server, "example.net", "{attempt:?}");
        }
        for front in &self.tls_proxies {
            assert_eq!(front.auth_in_clear_text(), Vec::<String>::new());
        }
    }
}
