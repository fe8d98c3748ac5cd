//! Relays with TLS at names of their own, a `postmapd` that knows them, and a Postfix that uses both.

use super::servers::{INNER_DOMAIN, Relay, Servers};
use crate::harness::daemon::{CREDENTIALS, Daemon, RELAY_TLS, RELAYMAP, Setup};
use crate::harness::eventually;
use crate::harness::postfix::{self, DEADLINE, Postfix, Queued, Release};
use crate::harness::smtp_server::{Journal, Mail};
use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// A domain of `mydestination`.
pub(super) const LOCAL_DOMAIN: &str = "local.test";

/// The service for [`INNER_DOMAIN`] beside a service `smtp` that authenticates. Postfix asks `sasl` for the sender
/// whatever server it has connected to, and does not ask `transport` for recipients in `relay_domains`.
const INNER_SERVICE: &str = "to-inner";

/// The lines of main.cf and master.cf with which Postfix uses the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `transport` and `tls`, and a service for each mode. `smtp`, which delivers directly, does not authenticate.
    TwoServices,
    /// `transport` and `tls`, and a service for implicit TLS. `smtp` delivers by STARTTLS and directly.
    OneService,
    /// `relayhost` and `tls`, without a service for implicit TLS.
    RelayhostAndPolicies,
    /// `relayhost` alone: the lines of README.md before there was TLS for each relay.
    Relayhost,
}

impl Form {
    /// Adds the lines to main.cf and master.cf.
    fn configure(self, postfix: postfix::Setup, endpoint: &str, ca_file: &str) -> postfix::Setup {
        let map = |name: &str| format!("{endpoint}:{name}");
        let implicit = || service("relay-implicit", "-o smtp_tls_wrappermode=yes", &map("tls"));
        let postfix = postfix
            .set("relayhost", "")
            .set("smtp_sasl_password_maps", map("sasl"))
            .set("smtp_sasl_security_options", "noanonymous, noplaintext")
            .set("smtp_sasl_tls_security_options", "noanonymous")
            .set("smtp_tls_security_level", "may");
        match self {
            Self::TwoServices => postfix
                .set("sender_dependent_default_transport_maps", map("transport"))
                .set("smtp_sasl_auth_enable", "no")
                .set("smtp_tls_CAfile", ca_file)
                .services(&service("relay-starttls", "", &map("tls")))
                .services(&implicit()),
            Self::OneService => postfix
                .set("sender_dependent_default_transport_maps", map("transport"))
                .set("smtp_tls_policy_maps", map("tls"))
                .set("smtp_tls_CAfile", ca_file)
                .services(&implicit())
                .services(&format!(
                    "{INNER_SERVICE} unix - - CHROOT - - smtp\n  -o smtp_sasl_auth_enable=no\n"
                ))
                .set("relay_transport", INNER_SERVICE),
            Self::RelayhostAndPolicies => postfix
                .set("sender_dependent_relayhost_maps", map("relayhost"))
                .set("smtp_tls_policy_maps", map("tls"))
                .set("smtp_tls_CAfile", ca_file)
                // Where a server waits for TLS, the SMTP client waits for its greeting.
                .set("smtp_helo_timeout", "8s"),
            Self::Relayhost => postfix.set("sender_dependent_relayhost_maps", map("relayhost")),
        }
    }
}

/// What is started.
#[derive(Clone, Copy)]
pub(super) struct Options<'a> {
    pub(super) release: Release,
    pub(super) form: Form,
    /// Whether the SMTP clients are chrooted. The server then listens on a UNIX socket.
    pub(super) chrooted: bool,
    /// Parameters of main.cf beside those of the form.
    pub(super) parameters: &'a [(&'a str, &'a str)],
    pub(super) relays: &'a [Relay],
    /// Domains, and the names of their mail exchangers.
    pub(super) exchangers: &'a [(&'a str, &'a str)],
    /// The names of servers that the test starts itself.
    pub(super) hosts: &'a [(&'a str, Ipv4Addr)],
    /// The environment of `postmapd`.
    pub(super) environment: &'a [(&'a str, &'a str)],
    /// How long a server takes to accept a mail.
    pub(super) delay: Duration,
}

impl<'a> Options<'a> {
    pub(super) const fn new(release: Release, form: Form, relays: &'a [Relay]) -> Self {
        Self {
            release,
            form,
            chrooted: false,
            parameters: &[],
            relays,
            exchangers: &[],
            hosts: &[],
            environment: &[],
            delay: Duration::ZERO,
        }
    }
}

/// The text of the three files.
#[derive(Debug, Clone, Default)]
pub(super) struct Files {
    pub(super) relay_map: String,
    pub(super) credentials: String,
    pub(super) relay_tls: String,
}

impl Files {
    /// Adds an entry to the relay map.
    pub(super) fn add_next_hop(&mut self, key: &str, next_hop: &str) {
        self.relay_map.extend([key, " ", next_hop, "\n"]);
    }

    pub(super) fn add_login(&mut self, key: &str, login: &str) {
        self.credentials.extend([key, " ", login, "\n"]);
    }

    pub(super) fn add_tls(&mut self, key: &str, value: &str) {
        self.relay_tls.extend([key, " ", value, "\n"]);
    }
}

/// Where a mail is, once Postfix has tried to deliver it: `server`, `server as user:password` or `deferred: reason`.
pub(super) type Outcome = String;

/// Everything between a sender and a recipient. The fields are dropped in this order.
pub(super) struct Site {
    pub(super) postfix: Postfix,
    pub(super) daemon: Daemon,
    /// Of `socketmap:`, for main.cf.
    endpoint: String,
    pub(super) journal: Journal,
    servers: Servers,
}

impl Site {
    pub(super) fn start(options: &Options<'_>, files: &Files) -> Self {
        let servers = Servers::start(options);
        let postfix = postfix::Setup::release(options.release)
            .unwrap()
            .chrooted(options.chrooted)
            .name_server(servers.name_server_address);
        let (daemon, endpoint) = start_daemon(options, &postfix, files);
        let mailboxes = postfix.root().join("mailboxes");
        fs::create_dir(&mailboxes).unwrap();
        fs::set_permissions(&mailboxes, std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
        let postfix = postfix
            .set("relay_domains", INNER_DOMAIN)
            .set("mydestination", LOCAL_DOMAIN)
            .set("mail_spool_directory", mailboxes.display().to_string());
        let mut postfix = options.form.configure(postfix, &endpoint, &servers.ca_file());
        if options.release == Release::Debian13 && options.form != Form::Relayhost {
            postfix = postfix.set("tls_required_enable", "no");
        }
        for (name, value) in options.parameters {
            postfix = postfix.set(name, *value);
        }
        Self {
            postfix: postfix.start().unwrap(),
            daemon,
            endpoint,
            journal: servers.journal.clone(),
            servers,
        }
    }

    /// Waits until Postfix has tried to deliver the mails to these recipients, and returns the outcomes.
    #[track_caller]
    pub(super) fn outcomes(&self, recipients: &[String]) -> Vec<Outcome> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            // A mail leaves the queue after it is in the journal.
            let queue = self.postfix.queue().unwrap();
            let mails = self.journal.mails();
            let outcomes: Vec<_> = recipients
                .iter()
                .map(|recipient| outcome(recipient, &mails, &queue).ok_or(recipient))
                .collect();
            if outcomes.iter().all(Result::is_ok) {
                return outcomes.into_iter().flatten().collect();
            }
            assert!(
                Instant::now() < deadline,
                "Postfix has not tried to deliver all mail: {outcomes:?}"
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Checks that each login that a server received is one that belongs to it, and that none was sent in clear text.
    #[track_caller]
    pub(super) fn assert_no_login_but(&self, expected: &[(&str, String)]) {
        let strays: Vec<_> = self
            .journal
            .attempts()
            .into_iter()
            .filter(|attempt| {
                let is = |(server, login): &(&str, String)| {
                    attempt.server == *server && attempt.login.to_string() == *login
                };
                !expected.iter().any(is)
            })
            .collect();
        assert_eq!(
            strays,
            [],
            "logins that reached a server to which they do not belong"
        );
        for (host, proxy) in &self.servers.proxies {
            assert_eq!(proxy.auth_in_clear_text(), Vec::<String>::new(), "at {host}");
        }
    }

    /// The answer to Postfix's own client.
    pub(super) fn lookup(&self, map: &str, key: &str) -> Option<String> {
        let map = format!("{}:{map}", self.endpoint);
        self.postfix.lookup(&map, key).unwrap()
    }

    /// Saves these files, and waits until the sender has this answer of `relayhost`.
    #[track_caller]
    pub(super) fn move_to(&self, files: &Files, sender: &str, next_hop: &str) {
        self.save(&[(RELAYMAP, &files.relay_map), (CREDENTIALS, &files.credentials)]);
        eventually(
            || self.lookup("relayhost", sender),
            |answer| answer.as_deref() == Some(next_hop),
        );
    }

    /// Replaces the TLS file, and waits until the next hop has this answer of `tls`.
    #[track_caller]
    pub(super) fn edit_tls(&self, text: &str, next_hop: &str, policy: &str) {
        self.save(&[(RELAY_TLS, text)]);
        eventually(
            || self.lookup("tls", next_hop),
            |answer| answer.as_deref() == Some(policy),
        );
    }

    /// What `postconf --check` proposes for findings of this kind.
    pub(super) fn commands_for(&self, release: Release, code: &str) -> Vec<String> {
        let directory = self.postfix.config_directory().display().to_string();
        let line = format!(
            "postconf --check --format json --listen {} -c {directory}",
            self.endpoint
        );
        let checked = self.daemon.setup().env("PATH", release.path()).run_line(&line);
        let report = checked.json();
        let findings = report["findings"].as_array().unwrap().iter();
        let findings = findings.filter(|finding| finding["code"] == code);
        findings
            .map(|finding| finding["help"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Runs a command that changes the configuration, and has Postfix read it.
    pub(super) fn reconfigure(&self, release: Release, command: &str) {
        let mut shell = Command::new("sh");
        shell.args(["-euc", command]).env("PATH", release.path());
        assert!(shell.status().unwrap().success(), "{command}");
        self.postfix.reload().unwrap();
    }

    /// The number of connections with TLS to this relay so far.
    pub(super) fn connections(&self, host: &str) -> usize {
        self.servers.proxies[host].connections()
    }

    /// Replaces files within a millisecond: writes them aside, then renames them.
    fn save(&self, files: &[(&str, &str)]) {
        let dir = self.daemon.dir();
        for (name, text) in files {
            fs::write(dir.join(format!("{name}.new")), text).unwrap();
        }
        for (name, _) in files {
            fs::rename(dir.join(format!("{name}.new")), dir.join(name)).unwrap();
        }
    }
}

fn start_daemon(options: &Options<'_>, postfix: &postfix::Setup, files: &Files) -> (Daemon, String) {
    let mut setup = Setup::new()
        .relaymap(&files.relay_map)
        .credentials(&files.credentials);
    if !files.relay_tls.is_empty() {
        setup = setup.file(RELAY_TLS, &files.relay_tls);
    }
    for (name, value) in options.environment {
        setup = setup.env(name, value);
    }
    if options.form == Form::OneService {
        setup = setup.settings("[transport]\nstarttls = \"smtp\"\n");
    }
    if options.chrooted {
        let socket = postfix.queue_directory().join("postmapd/socketmap");
        fs::create_dir(socket.parent().unwrap()).unwrap();
        let daemon = Daemon::start(setup.listen(format!("socketmap:unix:{}", socket.display())));
        (daemon, "socketmap:unix:postmapd/socketmap".to_owned())
    } else {
        let daemon = Daemon::start(setup.listen("socketmap:inet:127.0.0.1:0"));
        let endpoint = daemon.endpoint(0).to_string();
        (daemon, endpoint)
    }
}

/// A service of master.cf that delivers to relays, with this option more.
fn service(name: &str, option: &str, policies: &str) -> String {
    format!(
        "{name} unix - - CHROOT - - smtp\n  -o syslog_name=postfix/{name}\n  {option}\n  \
         -o smtp_tls_security_level=secure\n  -o smtp_tls_policy_maps={policies}\n  -o smtp_sasl_auth_enable=yes\n"
    )
}

fn outcome(recipient: &str, mails: &[Mail], queue: &[Queued]) -> Option<Outcome> {
    let is_recipient = |one: &String| one == recipient;
    if let Some(mail) = mails.iter().find(|mail| mail.recipients.iter().any(is_recipient)) {
        return Some(match &mail.login {
            Some(login) => format!("{} as {login}", mail.server),
            None => mail.server.clone(),
        });
    }
    let queued = queue
        .iter()
        .find(|mail| mail.recipients.iter().any(is_recipient))?;
    let is_tried = queued.queue == "deferred";
    let reason = queued.reason.as_ref().filter(|_| is_tried)?;
    Some(format!("deferred: {reason}"))
}
