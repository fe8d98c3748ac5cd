//! The demo: a real Postfix, fake relays and postmapd on loopback; it sends mails, edits the tables, and sends mails again.
//!
//! `contrib/demo/run` builds and starts it. It needs root and Debian's postfix, uses a private instance in a temporary
//! directory, and removes everything afterwards. It runs the built `postmapd` beside its own executable, or the one that
//! `DEMO_POSTMAPD` names. Passwords are masked although they are made up, as in all output of postmapd.

#[allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "the tests' own harness, of which this is a small part"
)]
#[path = "../../tests/promises/harness/mod.rs"]
mod harness;

use harness::client::{Reply, Socketmap};
use harness::daemon::{CREDENTIALS, Daemon, RELAYMAP, Setup};
use harness::postfix::{self, DEADLINE, Postfix};
use harness::smtp_server::{self, Auth, Journal, Login, Mail, SmtpServer};
use std::io::{self, IsTerminal as _, Write as _};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Address of the recipients' own server, which requires no password and must not receive one.
const RECIPIENTS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

/// Senders of the mails of each round.
const SENDERS: [&str; 5] = [
    "ann@domain1.com",
    "Ann+News@DOMAIN1.COM",
    "bob@domain2.com",
    "dan@domain3.com",
    "eve@elsewhere.example",
];

fn main() -> ExitCode {
    let mut screen = Screen::new();
    match show(&mut screen) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of a pipe has closed it (`| head`).
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(io::stderr(), "demo: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn show(screen: &mut Screen) -> io::Result<()> {
    let begun = Instant::now();
    screen.title("postmapd: live lookup tables for a real Postfix")?;
    screen
        .line("A private Postfix, four fake servers and postmapd, on loopback, in a temporary directory.")?;
    let fixture = Fixture::set()?;
    fixture.introduce(screen)?;

    screen.title("Five mails")?;
    let before = fixture.send_all(1)?;
    screen.table(&before, &[])?;

    screen.title("An edit")?;
    let (old, new) = (
        Tables::before(&fixture.smtp_servers),
        Tables::after(&fixture.smtp_servers),
    );
    screen.diff(RELAYMAP, &old.relaymap, &new.relaymap)?;
    screen.diff(CREDENTIALS, &old.credentials, &new.credentials)?;
    let time = fixture.edit(&new)?;
    screen.line("")?;
    screen.strong(&format!(
        "Active {:.1} ms after both files were saved.",
        time.as_secs_f64() * 1000.0
    ))?;
    screen.line("No postmap, no reload, no signal; Postfix kept running and no mail waited.")?;

    screen.title("Five mails from the same senders")?;
    screen.line("To new recipients: qmgr(8) caches the relay of a sender and recipient for 30 seconds.")?;
    let after = fixture.send_all(2)?;
    screen.table(&after, &before)?;
    screen.line("")?;
    screen.line(&format!(
        "Credentials offered to the recipients' own server, though the file has some for domain3.com: {}.",
        fixture.smtp_servers.recipients.attempts().len()
    ))?;

    drop(fixture);
    screen.line(&format!(
        "Stopped and removed everything after {:.1} s.",
        begun.elapsed().as_secs_f64()
    ))?;
    screen.line("")?;
    screen.line("Next: README.md shows the main.cf lines and the files for your own Postfix.")
}

/// The SMTP servers that mail can reach.
struct SmtpServers {
    journal: Journal,
    relay_1: SmtpServer,
    relay_2: SmtpServer,
    default: SmtpServer,
    recipients: SmtpServer,
}

impl SmtpServers {
    fn start() -> io::Result<Self> {
        let journal = Journal::default();
        let relay = |name, last, user| {
            smtp_server::Setup::new(name, Ipv4Addr::new(127, 0, 0, last))
                .auth(Auth::Demanded)
                .accepting(account(user))
                .journal(&journal)
                .start()
        };
        Ok(Self {
            relay_1: relay("relay 1", 2, "relay_user_1")?,
            relay_2: relay("relay 2", 3, "relay_user_2")?,
            default: relay("default relay", 4, "default_user")?,
            recipients: smtp_server::Setup::new("recipient's server", RECIPIENTS)
                .auth(Auth::Offered)
                .journal(&journal)
                .start()?,
            journal,
        })
    }
}

/// A user and its password, which occurs only at the relay and in the credentials file.
fn account(user: &str) -> Login {
    Login::new(user, &format!("secret of {user}"))
}

/// Lines of the two table files.
struct Tables {
    relaymap: Vec<String>,
    credentials: Vec<String>,
}

impl Tables {
    fn before(smtp_servers: &SmtpServers) -> Self {
        Self::new(&smtp_servers.relay_1, "relay_user_1", smtp_servers)
    }

    /// The tables after the edit, which moves domain 1 to relay 2.
    fn after(smtp_servers: &SmtpServers) -> Self {
        Self::new(&smtp_servers.relay_2, "relay_user_2", smtp_servers)
    }

    fn new(relay_of_domain_1: &SmtpServer, user_of_domain_1: &str, smtp_servers: &SmtpServers) -> Self {
        Self {
            relaymap: vec![
                format!("@domain1.com   {}", relay_of_domain_1.next_hop()),
                format!("@domain2.com   {}", smtp_servers.relay_2.next_hop()),
                "@domain3.com".to_owned(),
            ],
            credentials: vec![
                format!("@domain1.com   {}", account(user_of_domain_1)),
                format!("@domain2.com   {}", account("relay_user_2")),
                // The domain is delivered directly: these must be offered to no server.
                format!("@domain3.com   {}", account("left_over")),
            ],
        }
    }
}

/// Joins lines to the text of a file.
fn text(lines: &[String]) -> String {
    lines.join("\n") + "\n"
}

/// All running processes, in the order in which they are stopped.
struct Fixture {
    postfix: Postfix,
    daemon: Daemon,
    smtp_servers: SmtpServers,
}

impl Fixture {
    fn set() -> io::Result<Self> {
        let postfix = postfix::Setup::new()?;
        let smtp_servers = SmtpServers::start()?;
        let tables = Tables::before(&smtp_servers);
        let default = account("default_user");
        let setup = Setup::new()
            .binary(binary()?)
            .relaymap(text(&tables.relaymap))
            .credentials(text(&tables.credentials))
            .env("RELAY_HOST", "127.0.0.4")
            .env("RELAY_PORT", smtp_servers.default.port().to_string())
            .env("RELAY_USER", default.user)
            .env("RELAY_PASSWORD", default.password);
        let daemon = Daemon::try_start(setup).map_err(io::Error::other)?;
        let postfix = postfix
            .set("smtp_tcp_port", smtp_servers.recipients.port().to_string())
            .set("sender_dependent_relayhost_maps", map(&daemon, "relayhost"))
            .set("smtp_sasl_password_maps", map(&daemon, "sasl"))
            .start()?;
        Ok(Self {
            postfix,
            daemon,
            smtp_servers,
        })
    }

    fn introduce(&self, screen: &mut Screen) -> io::Result<()> {
        let smtp_servers = &self.smtp_servers;
        screen.line("")?;
        for (server, what) in [
            (&smtp_servers.relay_1, "requires AUTH"),
            (&smtp_servers.relay_2, "requires AUTH"),
            (
                &smtp_servers.default,
                "requires AUTH; it is RELAY_HOST in the environment",
            ),
            (
                &smtp_servers.recipients,
                "offers AUTH, and must never receive a password",
            ),
        ] {
            screen.line(&format!("  {:<20}{:<20}{what}", server.name(), server.next_hop()))?;
        }
        let tables = Tables::before(smtp_servers);
        screen.file(RELAYMAP, &tables.relaymap)?;
        screen.file(CREDENTIALS, &tables.credentials)?;
        screen.file(
            "main.cf",
            &[
                format!(
                    "sender_dependent_relayhost_maps = {}",
                    map(&self.daemon, "relayhost")
                ),
                format!("smtp_sasl_password_maps = {}", map(&self.daemon, "sasl")),
            ],
        )
    }

    /// Sends a mail from each sender, each to a new recipient because qmgr(8) caches the relay of a pair for 30 s, and
    /// returns the mails as they arrived.
    fn send_all(&self, round: usize) -> io::Result<Vec<Mail>> {
        let recipients: Vec<_> = (1..=SENDERS.len())
            .map(|n| format!("recipient-{round}-{n}@[{RECIPIENTS}]"))
            .collect();
        for (sender, recipient) in SENDERS.iter().zip(&recipients) {
            self.postfix.send(sender, recipient)?;
        }
        let arrived = |recipient: &String| {
            let mail = self.smtp_servers.journal.mail_to(recipient, DEADLINE);
            mail.ok_or_else(|| {
                io::Error::other(format!(
                    "the mail to {recipient} does not arrive; the log of Postfix:\n{}",
                    self.postfix.log()
                ))
            })
        };
        recipients.iter().map(arrived).collect()
    }

    /// Saves both files as an editor does, queries the server until it returns the new answers, and returns the time that
    /// this took.
    fn edit(&self, tables: &Tables) -> io::Result<Duration> {
        let new_hop = Reply::Found(self.smtp_servers.relay_2.next_hop());
        let new_login = Reply::Found(account("relay_user_2").to_string());
        let mut client = Socketmap::to(&self.daemon, 0);
        self.daemon.replace(CREDENTIALS, text(&tables.credentials));
        self.daemon.replace(RELAYMAP, text(&tables.relaymap));
        let saved = Instant::now();
        let sender = "ann@domain1.com";
        while client.query("relayhost", sender) != new_hop || client.query("sasl", sender) != new_login {
            if saved.elapsed() > DEADLINE {
                return Err(io::Error::other(format!(
                    "the edit does not take effect; the log of postmapd:\n{}",
                    self.daemon.log()
                )));
            }
        }
        Ok(saved.elapsed())
    }
}

/// The name of a map of the server, as in main.cf.
fn map(daemon: &Daemon, name: &str) -> String {
    format!("{}:{name}", daemon.endpoint(0))
}

/// Path of the `postmapd` to run: `target/release/postmapd` for `target/release/examples/demo`.
fn binary() -> io::Result<PathBuf> {
    if let Some(path) = std::env::var_os("DEMO_POSTMAPD") {
        return Ok(path.into());
    }
    let own = std::env::current_exe()?;
    let beside = own.ancestors().nth(2).map(|directory| directory.join("postmapd"));
    beside.filter(|path| path.is_file()).ok_or_else(|| {
        io::Error::other(format!(
            "no postmapd beside {}: build it first (contrib/demo/run does), or set DEMO_POSTMAPD",
            own.display()
        ))
    })
}

/// Standard output, with colours on a terminal.
struct Screen {
    out: io::Stdout,
    colours: bool,
}

impl Screen {
    const STRONG: &str = "1";
    const FAINT: &str = "2";
    const RED: &str = "31";
    const GREEN: &str = "32";

    fn new() -> Self {
        let out = io::stdout();
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Self {
            colours: out.is_terminal() && !set("NO_COLOR") && !dumb,
            out,
        }
    }

    fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")
    }

    fn painted(&mut self, colour: &str, text: &str) -> io::Result<()> {
        if self.colours {
            writeln!(self.out, "\u{1b}[{colour}m{text}\u{1b}[0m")
        } else {
            self.line(text)
        }
    }

    fn strong(&mut self, text: &str) -> io::Result<()> {
        self.painted(Self::STRONG, text)
    }

    fn title(&mut self, text: &str) -> io::Result<()> {
        self.line("")?;
        self.strong(text)?;
        self.painted(Self::FAINT, &"-".repeat(text.chars().count()))
    }

    /// Prints a file, with its passwords masked.
    fn file(&mut self, name: &str, lines: &[String]) -> io::Result<()> {
        self.line("")?;
        self.painted(Self::FAINT, &format!("  {name}"))?;
        for line in lines {
            self.line(&format!("    {}", masked(line)))?;
        }
        Ok(())
    }

    /// Prints the changes of a file, line by line.
    fn diff(&mut self, name: &str, old: &[String], new: &[String]) -> io::Result<()> {
        self.painted(Self::FAINT, &format!("  {name}"))?;
        for (old, new) in old.iter().zip(new) {
            if old == new {
                self.line(&format!("      {}", masked(old)))?;
            } else {
                self.painted(Self::RED, &format!("    - {}", masked(old)))?;
                self.painted(Self::GREEN, &format!("    + {}", masked(new)))?;
            }
        }
        Ok(())
    }

    /// Prints the server and the login of each mail; mails that took another server in an earlier round are highlighted.
    fn table(&mut self, mails: &[Mail], earlier: &[Mail]) -> io::Result<()> {
        self.painted(Self::FAINT, &row(["mail from", "went to", "as"]))?;
        for (n, mail) in mails.iter().enumerate() {
            let login = match &mail.login {
                Some(login) => masked(&login.to_string()),
                None => "- (no AUTH)".to_owned(),
            };
            let text = row([&mail.sender, &mail.server, &login]);
            match earlier.get(n) {
                Some(old) if old.server != mail.server => {
                    self.painted(Self::GREEN, &format!("{text}   <- was {}", old.server))?;
                }
                _ => self.line(&text)?,
            }
        }
        Ok(())
    }
}

/// Formats a row of a table.
fn row([sender, server, login]: [&str; 3]) -> String {
    format!("  {sender:<24}{server:<21}{login}").trim_end().to_owned()
}

/// Masks the passwords of this demo in a text.
fn masked(text: &str) -> String {
    let mut text = text.to_owned();
    for user in ["relay_user_1", "relay_user_2", "default_user", "left_over"] {
        text = text.replace(&account(user).password, "••••••••");
    }
    text
}
