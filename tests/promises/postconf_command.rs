//! Promise: `postmapd postconf` prints what Postfix needs, and `--check` reports whatever defeats it or leaks a
//! password.
//!
//! The oracle is Postfix: a private instance gets what is printed, and mail must leave by the right relay with the
//! right login, under TLS. Each mistake is made by postconf in a real configuration directory. Each command that a
//! finding proposes is run as printed, and must fix the mistake. The cases in tests/cases/postconf have the printed
//! text.

use crate::harness::certificates::self_signed;
use crate::harness::daemon::{Daemon, Finished, Setup, finish};
use crate::harness::postfix::{self, DEADLINE, Postfix, Release};
use crate::harness::smtp_server::{self, Auth, Journal, Login, SmtpServer};
use crate::harness::starttls::{Offer, TlsProxy};
use serde_json::Value;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// Runs a script of commands, as an administrator would paste them.
#[track_caller]
fn sh(script: &str) -> Finished {
    let finished = finish(Command::new("sh").args(["-eu", "-c", script]), b"");
    assert_eq!(finished.code, Some(0), "{script}\n{}", finished.stderr);
    finished
}

/// `postconf -c DIR …`.
#[track_caller]
fn postconf<S: AsRef<std::ffi::OsStr>>(directory: &Path, arguments: &[S]) -> String {
    let mut command = Command::new("postconf");
    let finished = finish(command.arg("-c").arg(directory).args(arguments), b"");
    assert_eq!(finished.code, Some(0), "{command:?}: {}", finished.stderr);
    finished.stdout
}

/// The printed lines without comments.
fn lines(printed: &str) -> Vec<&str> {
    let all = printed.lines();
    all.filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect()
}

#[track_caller]
fn printed(setup: &Setup, line: &str) -> String {
    setup.run_line(&format!("postconf {line}")).exits(0).stdout
}

/// A configuration directory as in Debian's package, with no running Postfix.
struct Configuration {
    directory: tempfile::TempDir,
    /// How to start postmapd.
    setup: Setup,
}

impl Configuration {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let etc = directory.path().join("etc");
        fs::create_dir(&etc).unwrap();
        fs::copy("/usr/share/postfix/master.cf.dist", etc.join("master.cf"))
            .expect("Debian's master.cf: apt-get install postfix");
        let main = format!(
            "compatibility_level = 3.6\nqueue_directory = {0}/spool\ndata_directory = {0}/data\n\
             recipient_delimiter = +\nmydestination =\nsmtp_sasl_security_options = noanonymous\n",
            directory.path().display()
        );
        fs::write(etc.join("main.cf"), main).unwrap();
        let configuration = Self {
            directory,
            setup: Setup::new(),
        };
        configuration.backdate();
        configuration
    }

    /// A configuration with everything that is printed for these listeners.
    fn right(listen: &[&str]) -> Self {
        Self::right_with(listen, Layout::NextHops)
    }

    fn right_with(listen: &[&str], layout: Layout) -> Self {
        let mut configuration = Self::new();
        if layout == Layout::Smtp {
            configuration.setup = configuration.setup.settings("[transport]\nstarttls = \"smtp\"\n");
        }
        let listen: Vec<String> = listen
            .iter()
            .map(|endpoint| endpoint.replace("QUEUE", &configuration.queue().display().to_string()))
            .collect();
        configuration.setup = configuration.setup.env("POSTMAPD_LISTEN", listen.join(","));
        let flag = if layout == Layout::NextHops {
            ""
        } else {
            "--services"
        };
        let line = format!("--commands {flag} -c {}", configuration.etc().display());
        let commands = printed(&configuration.setup, &line);
        for command in lines(&commands) {
            configuration.run(command);
        }
        configuration
    }

    fn etc(&self) -> PathBuf {
        self.directory.path().join("etc")
    }

    fn queue(&self) -> PathBuf {
        self.directory.path().join("spool")
    }

    fn main_cf(&self) -> String {
        fs::read_to_string(self.etc().join("main.cf")).unwrap()
    }

    /// The texts of main.cf and master.cf.
    fn files(&self) -> [String; 2] {
        ["main.cf", "master.cf"].map(|name| fs::read_to_string(self.etc().join(name)).unwrap())
    }

    fn restore(&self, files: &[String; 2]) {
        for (name, text) in ["main.cf", "master.cf"].into_iter().zip(files) {
            fs::write(self.etc().join(name), text).unwrap();
        }
        self.backdate();
    }

    /// Runs commands that change the configuration.
    #[track_caller]
    fn run(&self, script: &str) {
        sh(script);
        self.backdate();
    }

    /// Backdates main.cf: every program of Postfix waits until it is a second old, and these tests make many changes.
    fn backdate(&self) {
        let main_cf = fs::File::options().write(true).open(self.etc().join("main.cf"));
        let before = SystemTime::now() - Duration::from_secs(10);
        main_cf.unwrap().set_modified(before).unwrap();
    }

    fn check(&self, arguments: &[&str]) -> Finished {
        let mut command = self.setup.command("postconf");
        command.arg("--check").arg("-c").arg(self.etc()).args(arguments);
        finish(&mut command, b"")
    }

    /// The findings of `--check --format json`.
    #[track_caller]
    fn findings(&self) -> Vec<Finding> {
        let finished = self.check(&["--format", "json"]);
        let report = finished.json();
        let findings: Vec<Finding> = report["findings"]
            .as_array()
            .unwrap()
            .iter()
            .map(Finding::from)
            .collect();
        let errors = findings.iter().filter(|finding| finding.is_error).count();
        assert_eq!(report["errors"], errors);
        assert_eq!(report["warnings"], findings.len() - errors);
        assert_eq!(finished.code, Some(i32::from(errors > 0)));
        findings
    }

    #[track_caller]
    fn edit(&self, mistake: &str) {
        let (flag, argument) = mistake.split_once(' ').unwrap();
        let queue = self.queue().display().to_string();
        postconf(&self.etc(), &[flag, &argument.replace("QUEUE", &queue)]);
        self.backdate();
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    is_error: bool,
    code: String,
    /// `main.cf: relayhost` or `master.cf: smtp/unix: relayhost`.
    place: String,
    help: String,
}

impl From<&Value> for Finding {
    fn from(finding: &Value) -> Self {
        let text = |name: &str| finding[name].as_str().unwrap().to_owned();
        assert!(!text("message").is_empty());
        let file = text("file");
        let service = finding["service"].as_str();
        let service = service.map_or(String::new(), |service| format!("{service}: "));
        Self {
            is_error: text("severity") == "error",
            code: text("code"),
            place: format!("{file}: {service}{}", text("parameter")),
            help: text("help"),
        }
    }
}

const INET: &[&str] = &["socketmap:inet:127.0.0.1:10451"];
const INSIDE: &[&str] = &["socketmap:unix:QUEUE/postmapd/socketmap"];
const OUTSIDE: &[&str] = &["socketmap:unix:/run/postmapd/socketmap"];
const V6: &[&str] = &["socketmap:inet:[::1]:10451"];
const TCP: &[&str] = &["tcp:127.0.0.1:10452:relayhost", "tcp:127.0.0.1:10453:sasl"];
const EVERYWHERE: &[&str] = &["socketmap:inet:0.0.0.0:10451"];

/// What is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// The lines without services.
    NextHops,
    /// Those with services.
    Services,
    /// Those with services, and smtp for STARTTLS.
    Smtp,
}

/// A mistake of tests/postconf-mistakes.txt.
#[derive(Debug)]
struct Mistake<'a> {
    listen: &'static [&'static str],
    layout: Layout,
    /// Whether it is no mistake.
    is_fine: bool,
    is_error: bool,
    code: &'a str,
    place: &'a str,
    edits: Vec<&'a str>,
}

fn mistakes(text: &str) -> Vec<Mistake<'_>> {
    let mut mistakes: Vec<Mistake> = Vec::new();
    for line in text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        if let Some(edit) = line.strip_prefix("    ") {
            mistakes.last_mut().unwrap().edits.push(edit);
            continue;
        }
        let mut words = line.splitn(4, ' ');
        let mut word = || words.next().unwrap_or_default();
        let (listen, severity, code, place) = (word(), word(), word(), word());
        mistakes.push(Mistake {
            listen: match listen {
                "inet" | "services" | "smtp" => INET,
                "inside" => INSIDE,
                "outside" => OUTSIDE,
                "v6" => V6,
                "tcp" => TCP,
                "everywhere" => EVERYWHERE,
                _ => panic!("{line}"),
            },
            layout: match listen {
                "services" => Layout::Services,
                "smtp" => Layout::Smtp,
                _ => Layout::NextHops,
            },
            is_fine: severity == "fine",
            is_error: severity == "error",
            code,
            place,
            edits: Vec::new(),
        });
    }
    mistakes
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn each_mistake_is_reported_at_its_place_and_the_proposed_command_fixes_it() {
    let mut fixed = 0;
    let all = [INET, INSIDE, OUTSIDE, V6, TCP, EVERYWHERE].map(|listen| (listen, Layout::NextHops));
    let with_services = [(INET, Layout::Services), (INET, Layout::Smtp)];
    let rights = all.into_iter().chain(with_services).map(|(listen, layout)| {
        let configuration = Configuration::right_with(listen, layout);
        let findings = configuration.findings();
        let codes: Vec<&str> = findings.iter().map(|finding| finding.code.as_str()).collect();
        let expected: &[&str] = if listen == OUTSIDE {
            &["sasl-through-proxy"]
        } else {
            &[]
        };
        assert_eq!(codes, expected, "{listen:?}");
        ((listen, layout), configuration.files(), configuration)
    });
    let rights: Vec<_> = rights.collect();
    for mistake in mistakes(include_str!("../postconf-mistakes.txt")) {
        let Mistake {
            listen,
            layout,
            is_fine,
            is_error,
            code,
            place,
            edits,
        } = mistake;
        let mut all = rights.iter();
        let (_, files, configuration) = all.find(|(these, ..)| *these == (listen, layout)).unwrap();
        configuration.restore(files);
        for edit in &edits {
            configuration.edit(edit);
        }
        let findings = configuration.findings();
        if is_fine {
            assert_eq!(findings, [], "{listen:?} {edits:?}");
            expect_no_findings(&configuration.check(&["--strict"]));
            continue;
        }
        let named = |findings: &[Finding]| {
            let mut all = findings.iter();
            all.find(|finding| finding.code == code && finding.place == place)
                .cloned()
        };
        let finding =
            named(&findings).unwrap_or_else(|| panic!("{edits:?} is not {code} at {place}: {findings:#?}"));
        assert_eq!(finding.is_error, is_error, "{edits:?}: {findings:#?}");
        assert!(!finding.help.is_empty(), "{finding:?}");
        let text = configuration.check(&[]).stdout;
        let line = format!("{place}: {}: ", if is_error { "error" } else { "warning" });
        assert!(text.lines().any(|text| text.starts_with(&line)), "{line}\n{text}");
        if finding.help.starts_with("postconf ") {
            configuration.run(&finding.help);
            let after = configuration.findings();
            assert_eq!(named(&after), None, "{} does not help: {after:#?}", finding.help);
            fixed += 1;
        }
        // All proposed commands together give a Postfix without an error, unless a finding only advises.
        let mut left = configuration.findings();
        for _ in 0..3 {
            let commands = left.iter().map(|finding| finding.help.as_str());
            let script: Vec<&str> = commands.filter(|help| help.starts_with("postconf ")).collect();
            if script.is_empty() {
                break;
            }
            for command in script {
                configuration.run(command);
            }
            left = configuration.findings();
        }
        assert!(
            left.iter().all(|finding| !finding.help.starts_with("postconf ")),
            "after {edits:?}: {left:#?}"
        );
    }
    assert!(fixed > 50, "only {fixed} were fixed by a command");
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn the_printed_lines_and_commands_give_the_same_main_cf() {
    for listen in [INET, INSIDE, OUTSIDE, TCP, V6] {
        let by_commands = Configuration::right(listen);
        let directory = by_commands.etc().display().to_string();
        // The commands as one script change nothing more.
        let before = by_commands.files();
        by_commands.run(&printed(
            &by_commands.setup,
            &format!("--commands -c {directory}"),
        ));
        assert_eq!(by_commands.files(), before);
        let text = printed(&by_commands.setup, &format!("-c {directory}"));
        let pasted = Configuration::new();
        let name_of = |line: &str| line.split(" =").next().unwrap_or_default().to_owned();
        let own: Vec<String> = lines(&text).into_iter().map(name_of).collect();
        let rest: Vec<String> = pasted
            .main_cf()
            .lines()
            .filter(|line| !own.contains(&name_of(line)))
            .map(|line| line.to_owned() + "\n")
            .collect();
        fs::write(pasted.etc().join("main.cf"), rest.concat() + &text).unwrap();
        let by_lines = Configuration::new();
        for line in lines(&text) {
            postconf(&by_lines.etc(), &["-e", line]);
            by_lines.backdate();
        }

        let settings = |configuration: &Configuration| {
            let here = configuration.directory.path().display().to_string();
            postconf(&configuration.etc(), &["-n"]).replace(&here, "HERE")
        };
        assert_eq!(settings(&pasted), settings(&by_commands));
        assert_eq!(settings(&by_lines), settings(&by_commands));
        let main_cf = |configuration: &Configuration| {
            let here = configuration.directory.path().display().to_string();
            configuration.main_cf().replace(&here, "HERE")
        };
        assert_eq!(main_cf(&by_lines), main_cf(&by_commands));
        assert_eq!(by_commands.check(&[]).code, Some(0));
    }
}

/// The oracles are postconf, which shows both files as Postfix reads them, and `postfix check`.
#[test]
#[ignore = "needs root: tests/run-all"]
fn the_printed_services_and_commands_give_the_same_main_cf_and_master_cf() {
    for (listen, layout) in [
        (INET, Layout::Services),
        (INSIDE, Layout::Services),
        (OUTSIDE, Layout::Services),
        (V6, Layout::Smtp),
    ] {
        let by_commands = Configuration::right_with(listen, layout);
        let directory = by_commands.etc().display().to_string();
        let text = printed(&by_commands.setup, &format!("--services -c {directory}"));
        let (main, master) = text.split_once("\n# For master.cf").unwrap();
        let pasted = Configuration::new();
        let own: Vec<&str> = lines(main)
            .iter()
            .filter_map(|line| line.split(" =").next())
            .collect();
        let rest = pasted.main_cf();
        let rest = rest
            .lines()
            .filter(|line| !own.contains(&line.split(" =").next().unwrap_or_default()));
        let rest: String = rest.map(|line| line.to_owned() + "\n").collect();
        fs::write(pasted.etc().join("main.cf"), rest + main).unwrap();
        if master.contains("\nrelay unix ") {
            assert!(master.contains("in place of the present entry"), "{master}");
            pasted.edit("-MX relay/unix");
        }
        let [_, before] = pasted.files();
        fs::write(
            pasted.etc().join("master.cf"),
            format!("{before}\n# For master.cf{master}"),
        )
        .unwrap();
        pasted.backdate();

        // The order of services has no effect.
        let settings = |configuration: &Configuration| {
            let here = configuration.directory.path().display().to_string();
            let files = ["-n", "-M", "-P"].map(|flag| postconf(&configuration.etc(), &[flag]));
            let files = files.concat().replace(&here, "HERE");
            let mut lines: Vec<&str> = files.lines().collect();
            lines.sort_unstable();
            lines.join("\n")
        };
        let expected = settings(&by_commands);
        assert_eq!(settings(&pasted), expected);
        let services = expected
            .lines()
            .filter(|line| line.contains(" unix ") && line.contains("relay-"));
        assert_eq!(services.count(), if layout == Layout::Smtp { 1 } else { 2 });
        for name in ["spool", "data"] {
            fs::create_dir(pasted.directory.path().join(name)).unwrap();
        }
        let mut check = Command::new("postfix");
        let checked = finish(check.arg("-c").arg(pasted.etc()).arg("check"), b"");
        assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    }
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_sasl_plug_in_that_breaks_passwords_is_reported() {
    let mut configuration = Configuration::right(INET);
    let directory = fs::read_dir("/usr/lib").unwrap();
    let directory = directory.map(|entry| entry.unwrap().path().join("sasl2"));
    let directory = directory.into_iter().find(|path| path.is_dir());
    let directory = directory.expect("apt-get install libsasl2-modules");
    let plug_in = directory.join("libkdexoauth2.so.2");
    let script = format!(
        "mount -t tmpfs none {}; touch {}; exec \"$@\"",
        directory.display(),
        plug_in.display()
    );
    configuration.setup = configuration
        .setup
        .within(["unshare", "--mount", "sh", "-euc", &script, "sh"]);
    let expected = |filter: &str| {
        configuration.edit(&format!("-e smtp_sasl_mechanism_filter={filter}"));
        configuration
            .findings()
            .into_iter()
            .map(|finding| (finding.is_error, finding.code, finding.place))
            .collect::<Vec<_>>()
    };
    let place = "main.cf: smtp_sasl_mechanism_filter".to_owned();
    let warning = vec![(false, "xoauth2-plug-in".to_owned(), place)];
    assert_eq!(expected(""), warning);
    assert_eq!(expected("static:all"), warning);
    for filter in ["!xoauth2, static:rest", "xoauth2", "plain, login"] {
        assert_eq!(expected(filter), [], "{filter}");
    }
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn check_does_not_wait_for_a_hanging_postconf() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("postconf");
    fs::write(&program, "#!/bin/sh\nexec sleep 60\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!(
        "{}:{}",
        directory.path().display(),
        std::env::var("PATH").unwrap()
    );
    let finished = finish(
        Setup::new().env("PATH", path).command("postconf").arg("--check"),
        b"",
    );
    assert_eq!((finished.code, finished.stdout.as_str()), (Some(69), ""));
    assert!(finished.stderr.contains("did not finish"), "{}", finished.stderr);
}

// Tests with a running Postfix follow.

const ONE: (&str, &str) = ("relay_user_1", "pw:with:colons");
const TWO: (&str, &str) = ("relay_user_2", "p%20 w#");
const PLAIN: (&str, &str) = ("plain", "never-in-clear-text");

/// Two relays with TLS, one server that offers AUTH without TLS, and the recipient's own server.
struct SmtpServers {
    journal: Journal,
    one: TlsProxy,
    two: TlsProxy,
    without_tls: SmtpServer,
    recipient: SmtpServer,
    behind: [SmtpServer; 2],
}

impl SmtpServers {
    fn start() -> Self {
        let journal = Journal::default();
        let relay = |name, (user, password)| {
            smtp_server::Setup::new(name, Ipv4Addr::new(127, 0, 0, 8))
                .auth(Auth::Demanded)
                .accepting(Login::new(user, password))
                .journal(&journal)
                .start()
                .unwrap()
        };
        let offering = |name, last| {
            smtp_server::Setup::new(name, Ipv4Addr::new(127, 0, 0, last))
                .auth(Auth::Offered)
                .journal(&journal)
                .start()
                .unwrap()
        };
        let behind = [relay("relay one", ONE), relay("relay two", TWO)];
        let address = |server: &SmtpServer| SocketAddr::from(([127, 0, 0, 8], server.port()));
        Self {
            one: TlsProxy::start(Ipv4Addr::new(127, 0, 0, 2), address(&behind[0])),
            two: TlsProxy::start(Ipv4Addr::new(127, 0, 0, 3), address(&behind[1])),
            without_tls: offering("without tls", 4),
            recipient: offering("recipient", 9),
            behind,
            journal,
        }
    }

    fn daemon(&self) -> Setup {
        let line = |key: &str, (user, password): (&str, &str)| format!("{key} {user}:{password}\n");
        Setup::new()
            .relaymap(format!(
                "@one.test {}\n@two.test {}\n@plain.test {}\n@direct.test\n",
                self.one.next_hop(),
                self.two.next_hop(),
                self.without_tls.next_hop()
            ))
            .credentials(
                [
                    line("@one.test", ONE),
                    line("@two.test", TWO),
                    line("@plain.test", PLAIN),
                ]
                .concat(),
            )
    }

    /// A Postfix without any relay configuration.
    fn postfix(&self, release: Release) -> postfix::Setup {
        [
            "smtp_tls_security_level",
            "smtp_sasl_auth_enable",
            "smtp_sender_dependent_authentication",
            "smtp_sasl_security_options",
        ]
        .into_iter()
        .fold(postfix::Setup::release(release).unwrap(), postfix::Setup::without)
        .set("smtp_tcp_port", self.recipient.port().to_string())
    }

    /// Checks that each sender's mail leaves by the right relay, with the right login, under TLS, and that no password
    /// leaks.
    fn expect_all_right(&self, postfix: &Postfix) {
        let expected = [
            ("ann@one.test", "relay one", Some(ONE)),
            ("bob@two.test", "relay two", Some(TWO)),
            ("Ann+x@ONE.test", "relay one", Some(ONE)),
            ("dan@direct.test", "recipient", None),
        ];
        for (n, (sender, server, login)) in expected.into_iter().enumerate() {
            let recipient = format!("recipient-{n}@[127.0.0.9]");
            postfix.send(sender, &recipient).unwrap();
            let mail = self.journal.mail_to(&recipient, DEADLINE);
            let mail = mail.unwrap_or_else(|| panic!("the mail from {sender} does not arrive"));
            let login = login.map(|(user, password)| Login::new(user, password));
            assert_eq!((mail.server.as_str(), mail.login), (server, login), "{sender}");
        }
        postfix.send("eve@plain.test", "plain@[127.0.0.9]").unwrap();
        let waiting = postfix
            .wait_for_queue(|queue| queue.iter().any(|mail| mail.reason.is_some()))
            .unwrap();
        assert_eq!(waiting.len(), 1, "{waiting:?}");
        assert_eq!(self.without_tls.attempts(), []);
        assert_eq!(self.recipient.attempts(), []);
        for front in [&self.one, &self.two] {
            assert_eq!(front.auth_in_clear_text(), Vec::<String>::new());
        }
    }
}

/// The servers above, postmapd, and a running Postfix.
struct Fixture {
    smtp_servers: SmtpServers,
    daemon: Daemon,
    postfix: Postfix,
    release: Release,
}

impl Fixture {
    /// Starts postmapd at this endpoint, or at the default one, and a Postfix with this setup.
    fn start(
        release: Release,
        listen: impl FnOnce(&postfix::Setup) -> String,
        set: impl FnOnce(postfix::Setup, &SmtpServers) -> postfix::Setup,
    ) -> Self {
        let smtp_servers = SmtpServers::start();
        let setup = set(smtp_servers.postfix(release), &smtp_servers);
        let daemon = Daemon::start(smtp_servers.daemon().listen(listen(&setup)));
        let postfix = setup.start().unwrap();
        Self {
            smtp_servers,
            daemon,
            postfix,
            release,
        }
    }

    /// A setup with which postmapd's commands find the programs of this release.
    fn setup(&self) -> Setup {
        self.daemon.setup().env("PATH", self.release.path())
    }

    fn directory(&self) -> String {
        self.postfix.config_directory().display().to_string()
    }

    /// The output of `postmapd postconf` for this server and this Postfix.
    #[track_caller]
    fn printed(&self, flags: &str) -> String {
        let line = format!(
            "--listen {} -c {} {flags}",
            self.daemon.endpoint(0),
            self.directory()
        );
        printed(&self.setup(), &line)
    }

    /// Runs the printed commands with the programs of this release.
    #[track_caller]
    fn follow(&self) {
        self.run(&self.printed("--commands"));
    }

    /// Runs these commands with the programs of this release, and then reloads Postfix.
    #[track_caller]
    fn run(&self, commands: &str) {
        let programs = format!("\n{}/postconf", self.release.programs().display());
        sh(&format!("\n{commands}").replace("\npostconf", &programs));
        self.postfix.reload().unwrap();
    }

    /// Adds a relay with implicit TLS, for implicit.test.
    fn add_implicit(&self) -> TlsProxy {
        let directory = self.daemon.root();
        let behind = SocketAddr::from(([127, 0, 0, 8], self.smtp_servers.behind[0].port()));
        let proxy = TlsProxy::start_with(
            SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 5), 0),
            behind,
            Offer::Implicit,
            self_signed(directory, "relay.test"),
        );
        let add = |name: &str, line: &str| {
            let old = fs::read_to_string(self.daemon.dir().join(name)).unwrap_or_default();
            self.daemon.replace(name, format!("{old}{line}\n"));
        };
        add("postfix-relay-tls.cf", &format!("{} implicit", proxy.next_hop()));
        add(
            "postfix-sasl-password.cf",
            &format!("@implicit.test {}:{}", ONE.0, ONE.1),
        );
        add(
            "postfix-relaymap.cf",
            &format!("@implicit.test {}", proxy.next_hop()),
        );
        self.daemon
            .wait_for_log(|log| log.contains("relayhost_entries=5") && log.contains("sasl_entries=4"));
        proxy
    }

    /// Checks that mail of implicit.test leaves by its relay.
    #[track_caller]
    fn expect_implicit(&self, recipient: &str) {
        self.postfix.send("ann@implicit.test", recipient).unwrap();
        let mail = self.smtp_servers.journal.mail_to(recipient, DEADLINE);
        let mail = mail.unwrap_or_else(|| panic!("the mail to {recipient} does not arrive"));
        assert_eq!(
            (mail.server.as_str(), mail.login),
            ("relay one", Some(Login::new(ONE.0, ONE.1)))
        );
    }

    fn check(&self) -> Finished {
        let line = format!("--check --strict --listen {}", self.daemon.endpoint(0));
        self.setup()
            .run_line(&format!("postconf {line} -c {}", self.directory()))
    }

    /// Checks that `--check` finds nothing, and that mail is sent correctly.
    #[track_caller]
    fn expect_all_right(&self) {
        expect_no_findings(&self.check());
        self.smtp_servers.expect_all_right(&self.postfix);
    }
}

#[track_caller]
fn expect_no_findings(check: &Finished) {
    assert_eq!(
        (check.code, check.stdout.as_str(), check.stderr.as_str()),
        (Some(0), "", "")
    );
}

fn inet(_: &postfix::Setup) -> String {
    "socketmap:inet:127.0.0.1:0".to_owned()
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_printed_lines_send_mail_through_the_right_relay_with_the_right_login() {
    for release in Release::ALL {
        the_printed_lines_make_mail_go_out(release, false);
    }
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_printed_lines_work_in_the_chroot() {
    for release in Release::ALL {
        the_printed_lines_make_mail_go_out(release, true);
    }
}

fn the_printed_lines_make_mail_go_out(release: Release, chrooted: bool) {
    let listen = |setup: &postfix::Setup| {
        if !chrooted {
            return inet(setup);
        }
        let directory = setup.queue_directory().join("postmapd");
        fs::create_dir(&directory).unwrap();
        format!("socketmap:unix:{}/socketmap", directory.display())
    };
    let fixture = Fixture::start(release, listen, |setup, _| setup.chrooted(chrooted));
    assert_eq!(fixture.check().code, Some(1));
    let text = fixture.printed("");
    let is_in_jail = text.contains("= socketmap:unix:postmapd/socketmap:sasl\n");
    assert_eq!(is_in_jail, chrooted);
    let directory = fixture.postfix.config_directory();
    postconf(&directory, &[&["-e"], lines(&text).as_slice()].concat());
    fixture.postfix.reload().unwrap();
    fixture.expect_all_right();
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_printed_services_send_mail_with_either_kind_of_tls() {
    for release in Release::ALL {
        for (chrooted, starttls) in [
            (false, "relay-starttls"),
            (true, "relay-starttls"),
            (false, "smtp"),
        ] {
            let fixture = Fixture::start(release, inet, |setup, _| setup.chrooted(chrooted));
            fixture.daemon.replace(
                "postmapd.toml",
                format!("[transport]\nstarttls = \"{starttls}\"\n"),
            );
            let proxy = fixture.add_implicit();
            let plain = fixture.printed("");
            assert!(plain.contains("postmapd postconf --services"), "{plain}");
            fixture.run(&fixture.printed("--services --commands"));
            fixture.expect_all_right();
            fixture.expect_implicit("implicit@[127.0.0.9]");
            assert_eq!(proxy.auth_in_clear_text(), Vec::<String>::new());
            // The mail to the server without TLS stays.
            fixture.postfix.wait_for_queue(|queue| queue.len() == 1).unwrap();
            let log = fixture.postfix.log();
            assert!(log.contains("postfix/relay-implicit/smtp["), "{log}");
            assert_eq!(
                log.contains("postfix/relay-starttls/smtp["),
                starttls != "smtp",
                "{log}"
            );
        }
    }
}

/// user-patches.sh runs once, after docker-mailserver has written main.cf.
#[test]
#[ignore = "needs root: tests/run-all"]
fn docker_mailserver_sends_mail_with_the_printed_user_patches() {
    for release in Release::ALL {
        let set = |setup: postfix::Setup, smtp_servers: &SmtpServers| {
            like_docker_mailserver(setup)
                .set("relayhost", smtp_servers.without_tls.next_hop())
                .set(
                    "sender_dependent_relayhost_maps",
                    "texthash:/etc/postfix/relayhost_map",
                )
                .set("smtp_sasl_password_maps", "texthash:/etc/postfix/sasl_passwd")
                .set("smtp_sasl_auth_enable", "yes")
                .set("smtp_sender_dependent_authentication", "yes")
        };
        let fixture = Fixture::start(release, inet, set);
        let _proxy = fixture.add_implicit();
        let line = format!(
            "--docker-mailserver --services --server {}",
            fixture.daemon.endpoint(0)
        );
        let script = printed(&fixture.setup(), &line);
        let directory = format!("postconf -c {} ", fixture.directory());
        fixture.run(&script.replace("postconf ", &directory));
        fixture.expect_all_right();
        fixture.expect_implicit("implicit@[127.0.0.9]");
    }
}

/// The parameters that Debian 12's Postfix does not have. The others are in tests/postconf-mistakes.txt.
#[test]
#[ignore = "needs root: tests/run-all"]
fn mistakes_in_parameters_of_a_newer_postfix_are_reported_and_the_proposed_command_fixes_them() {
    let fixture = Fixture::start(Release::Debian13, inet, |setup, _| setup);
    fixture.follow();
    expect_no_findings(&fixture.check());
    for (parameter, value) in [
        ("tls_required_enable", "yes"),
        ("smtp_sasl_password_result_delimiter", "|"),
    ] {
        let postconf = format!("postconf -c {}", fixture.directory());
        fixture.run(&format!("{postconf} -e '{parameter} = {value}'"));
        let check = fixture.check().exits(1);
        let (line, rest) = check.stdout.split_once('\n').unwrap();
        assert!(
            line.starts_with(&format!("main.cf: {parameter}: error: ")),
            "{line}"
        );
        assert_eq!(rest, "1 error, 0 warnings\n");
        let (_, command) = line.rsplit_once("; ").unwrap();
        fixture.run(command);
        expect_no_findings(&fixture.check());
    }
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_printed_lines_work_for_a_socket_outside_the_chroot() {
    for release in Release::ALL {
        let mut directory = tempfile::Builder::new();
        let directory = directory
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()
            .unwrap();
        let listen = |_: &postfix::Setup| format!("socketmap:unix:{}/socket", directory.path().display());
        let fixture = Fixture::start(release, listen, |setup, _| setup.chrooted(true));
        fixture.follow();
        let output = fixture.check().stdout;
        assert!(
            output.starts_with("main.cf: smtp_sasl_password_maps: warning: proxymap(8) sends")
                && output.ends_with("\n0 errors, 1 warning\n"),
            "{output}"
        );
        fixture.smtp_servers.expect_all_right(&fixture.postfix);
    }
}

/// The oracle is Postfix: whether each reported leak is real, and whether the proposed command ends it.
#[test]
#[ignore = "needs root: tests/run-all"]
fn parameters_that_log_passwords_are_reported_in_advance() {
    for release in Release::ALL {
        let fixture = Fixture::start(release, inet, |setup, _| setup);
        let Fixture {
            postfix,
            smtp_servers,
            ..
        } = &fixture;
        fixture.follow();
        let mut number = 0;
        let mut logged = |edits: &[[&str; 2]]| {
            for edit in edits {
                postconf(&postfix.config_directory(), edit);
            }
            postfix.reload().unwrap();
            let before = postfix.log().len();
            number += 1;
            let recipient = format!("recipient-{number}@[127.0.0.9]");
            postfix.send("ann@one.test", &recipient).unwrap();
            smtp_servers.journal.mail_to(&recipient, DEADLINE).unwrap();
            postfix.wait_for_queue(<[_]>::is_empty).unwrap();
            postfix.log()[before..].matches(ONE.1).count()
        };
        let named = |code: &str| {
            let check = fixture.check();
            let is_named = check.stdout.contains(code);
            assert_eq!(check.code, Some(i32::from(is_named)), "{}", check.stdout);
            assert!(!check.stdout.contains(ONE.1));
            is_named
        };
        assert_eq!(logged(&[]), 0);
        assert!(!named("log"));
        assert!(logged(&[["-F", "smtp/unix/command=smtp -v"]]) > 0, "{release:?}");
        assert!(named("master.cf: smtp/unix: command: error: with -v"));
        assert_eq!(logged(&[["-F", "smtp/unix/command=smtp"]]), 0);
        assert!(logged(&[["-e", "debug_peer_list=127.0.0.2"]]) > 0, "{release:?}");
        assert!(named("main.cf: debug_peer_list: error: "));
        assert_eq!(logged(&[["-X", "debug_peer_list"]]), 0);
        assert!(!named("log"));
    }
}

/// The main.cf of docker-mailserver while its own relay feature is not used, where it matters here.
fn like_docker_mailserver(setup: postfix::Setup) -> postfix::Setup {
    setup
        .set("smtputf8_enable", "no")
        .set("smtp_tls_security_level", "none")
        .set("smtp_tls_loglevel", "1")
        .set("mydestination", "$myhostname, localhost.$mydomain, localhost")
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn docker_mailserver_sends_mail_with_the_printed_postfix_main_cf() {
    for release in Release::ALL {
        let fixture = Fixture::start(release, inet, |setup, _| like_docker_mailserver(setup));
        let line = format!("--docker-mailserver=main --server {}", fixture.daemon.endpoint(0));
        let text = printed(&fixture.setup(), &line);
        // docker-mailserver does so before it starts Postfix: it appends, and rewrites the file without duplicates. (A
        // running postlogd that warns of duplicates may block itself.)
        let directory = fixture.postfix.config_directory();
        let aside = tempfile::tempdir().unwrap();
        let old = fs::read_to_string(directory.join("main.cf")).unwrap();
        fs::write(aside.path().join("main.cf"), old + &text).unwrap();
        let mut command = Command::new(release.programs().join("postconf"));
        let read = finish(command.arg("-c").arg(aside.path()).arg("-n"), b"");
        assert_eq!(read.code, Some(0), "{}", read.stderr);
        let new: Vec<String> = read
            .stdout
            .lines()
            .filter(|line| !line.starts_with("config_directory"))
            .map(|line| line.to_owned() + "\n")
            .collect();
        fs::write(directory.join("main.cf.new"), new.concat()).unwrap();
        fs::rename(directory.join("main.cf.new"), directory.join("main.cf")).unwrap();
        fixture.postfix.reload().unwrap();
        fixture.expect_all_right();
    }
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn docker_mailservers_postfix_master_cf_overrides_its_own_relay_feature() {
    for release in Release::ALL {
        // The configuration for DEFAULT_RELAY_HOST and its two files, which it writes after each change of an account.
        let set = |setup: postfix::Setup, smtp_servers: &SmtpServers| {
            like_docker_mailserver(setup)
                .set("relayhost", smtp_servers.without_tls.next_hop())
                .set(
                    "sender_dependent_relayhost_maps",
                    "texthash:/etc/postfix/relayhost_map",
                )
                .set("smtp_sasl_password_maps", "texthash:/etc/postfix/sasl_passwd")
                .set("smtp_sasl_auth_enable", "yes")
                .set("smtp_sasl_security_options", "noanonymous")
                .set("smtp_sender_dependent_authentication", "yes")
        };
        let fixture = Fixture::start(release, inet, set);
        assert_eq!(fixture.check().code, Some(1));
        let line = format!(
            "--docker-mailserver=master --server {}",
            fixture.daemon.endpoint(0)
        );
        for line in lines(&printed(&fixture.setup(), &line)) {
            assert!(!line.contains(' '), "postconf -P of 3.7 takes no space: {line}");
            postconf(&fixture.postfix.config_directory(), &["-P", line]);
        }
        fixture.postfix.reload().unwrap();
        fixture.expect_all_right();
    }
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_next_hop_in_default_transport_defeats_postmapd_as_the_check_says() {
    for release in Release::ALL {
        let fixture = Fixture::start(release, inet, |setup, _| setup);
        let Fixture {
            postfix,
            smtp_servers,
            ..
        } = &fixture;
        fixture.follow();
        let wrong = format!("default_transport = smtp:{}", smtp_servers.without_tls.next_hop());
        postconf(&postfix.config_directory(), &["-e", &wrong]);
        postfix.reload().unwrap();
        postfix.send("dan@direct.test", "one@[127.0.0.9]").unwrap();
        let mail = smtp_servers.journal.mail_to("one@[127.0.0.9]", DEADLINE).unwrap();
        assert_eq!(mail.server, "without tls");
        let check = fixture.check().exits(1);
        let (_, command) = check.stdout.lines().next().unwrap().rsplit_once("; ").unwrap();
        sh(command);
        postfix.reload().unwrap();
        smtp_servers.expect_all_right(postfix);
    }
}
