//! A private Postfix: its own configuration, queue and log in a temporary directory, and its smtpd on a loopback port.
//!
//! Of the machine's own Postfix, only the programs are used. The instance needs root (master(8) starts as root only)
//! and Debian's `postfix` package. Where one of them is missing, [`Setup::new`] returns an error, and no test is
//! skipped. A mail to `anybody@[127.0.0.9]` needs no DNS: without a relay it is sent to that address, at the port in
//! `smtp_tcp_port`.
//!
//! The instance stops on drop, and also when the whole test process is killed: a shell waits for the end of a pipe that
//! this process holds open, then runs `postfix stop` for this instance only.
//!
//! Postfix sends no event when it defers a mail or writes a log line, so those waits poll every few milliseconds, with
//! a deadline.

#![allow(
    dead_code,
    reason = "the tests and the demo include this file, and neither uses all of it"
)]

use super::daemon::spawn;
use nix::unistd::{User, geteuid};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The timeout for every operation of Postfix. An unreachable `tcp:` table alone takes 10 s.
pub(crate) const DEADLINE: Duration = Duration::from_secs(90);

/// The poll interval.
const POLL: Duration = Duration::from_millis(20);

/// The programs used here, all in Debian's `postfix` package.
const PROGRAMS: [&str; 5] = ["postfix", "postqueue", "postmap", "sendmail", "postconf"];

/// The Postfix release that an instance runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Release {
    /// The release installed on this machine: 3.7, of Debian 12.
    Installed,
    /// Release 3.10, of Debian 13, in a root directory made by `tests/debian-13`. It shares the network, the users and
    /// the directory for temporary files with this machine, so paths below that directory mean the same inside.
    Debian13,
}

impl Release {
    pub(crate) const ALL: [Self; 2] = [Self::Installed, Self::Debian13];

    /// The directory of the release's programs.
    pub(crate) fn programs(self) -> PathBuf {
        match self {
            Self::Installed => PathBuf::from("/usr/sbin"),
            // Cargo does not set this variable for an example.
            Self::Debian13 => Path::new(option_env!("CARGO_TARGET_TMPDIR").unwrap_or("target/tmp"))
                .with_file_name("debian-13/sbin"),
        }
    }

    /// `PATH` with the release's programs first.
    pub(crate) fn path(self) -> String {
        let path = std::env::var("PATH").unwrap_or_default();
        format!("{}:{path}", self.programs().display())
    }

    /// The major and minor part of `mail_version`, on which tests depend.
    pub(crate) const fn version(self) -> &'static str {
        match self {
            Self::Installed => "3.7",
            Self::Debian13 => "3.10",
        }
    }

    fn program(self, name: &str) -> PathBuf {
        self.programs().join(name)
    }
}

/// The services of an instance, as in Debian's master.cf, without `smtp inet`, which gets its own port, and without
/// services that deliver to mailboxes and other programs. The caller chooses the chroot column where it is `CHROOT`.
const SERVICES: &str = "\
rewrite    unix  -  -  CHROOT  -      -  trivial-rewrite
smtp       unix  -  -  CHROOT  -      -  smtp
relay      unix  -  -  CHROOT  -      -  smtp
pickup     unix  n  -  n       60     1  pickup
cleanup    unix  n  -  n       -      0  cleanup
qmgr       unix  n  -  n       300    1  qmgr
tlsmgr     unix  -  -  n       1000?  1  tlsmgr
bounce     unix  -  -  n       -      0  bounce
defer      unix  -  -  n       -      0  bounce
trace      unix  -  -  n       -      0  bounce
verify     unix  -  -  n       -      1  verify
flush      unix  n  -  n       1000?  0  flush
proxymap   unix  -  -  n       -      -  proxymap
proxywrite unix  -  -  n       -      1  proxymap
showq      unix  n  -  n       -      -  showq
error      unix  -  -  n       -      -  error
retry      unix  -  -  n       -      -  error
discard    unix  -  -  n       -      -  discard
local      unix  -  n  n       -      -  local
anvil      unix  -  -  n       -      1  anvil
scache     unix  -  -  n       -      1  scache
tlsproxy   unix  -  -  CHROOT  -      0  tlsproxy
postlog    unix-dgram n - n    -      1  postlogd
";

/// The files that Debian's start script copies into the queue directory for chrooted services. (It also copies
/// libraries, which the C library of Debian 12 no longer needs.)
const CHROOT_FILES: [&str; 6] = [
    "etc/localtime",
    "etc/services",
    "etc/resolv.conf",
    "etc/hosts",
    "etc/host.conf",
    "etc/nsswitch.conf",
];

/// The directory of an instance, and the parameters of its main.cf.
pub(crate) struct Setup {
    release: Release,
    directory: tempfile::TempDir,
    parameters: BTreeMap<String, String>,
    services: String,
    chrooted: bool,
    name_server: Option<Ipv4Addr>,
}

impl Setup {
    /// Creates the directory for an instance of the installed Postfix. Fails without Postfix or without root.
    pub(crate) fn new() -> io::Result<Self> {
        Self::release(Release::Installed)
    }

    /// Creates the directory for an instance of that release. Fails without it or without root.
    pub(crate) fn release(release: Release) -> io::Result<Self> {
        let postfix = available(release)?;
        let directory = tempfile::Builder::new()
            .prefix("postmapd-postfix-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()?;
        reachable(directory.path())?;
        let root = directory.path();
        for name in ["etc", "spool", "data"] {
            fs::create_dir(root.join(name))?;
        }
        chown(root.join("data"), Some(postfix.uid.as_raw()), None)?;
        let path = |name: &str| root.join(name).display().to_string();
        let parameters = [
            ("compatibility_level", "3.6".to_owned()),
            ("queue_directory", path("spool")),
            ("data_directory", path("data")),
            ("maillog_file", path("maillog")),
            ("maillog_file_prefixes", root.display().to_string()),
            ("myhostname", "mta.test".to_owned()),
            // There are no local mailboxes: every mail is sent to another host.
            ("mydestination", String::new()),
            ("local_recipient_maps", String::new()),
            ("alias_maps", String::new()),
            ("inet_interfaces", "127.0.0.1".to_owned()),
            ("inet_protocols", "ipv4".to_owned()),
            ("mynetworks", "127.0.0.0/8".to_owned()),
            ("smtpd_relay_restrictions", "permit_mynetworks, reject".to_owned()),
            ("recipient_delimiter", "+".to_owned()),
            ("smtp_dns_support_level", "disabled".to_owned()),
            ("smtp_tls_security_level", "none".to_owned()),
            ("smtp_sasl_auth_enable", "yes".to_owned()),
            ("smtp_sender_dependent_authentication", "yes".to_owned()),
            ("smtp_sasl_security_options", "noanonymous".to_owned()),
        ];
        Ok(Self {
            release,
            directory,
            parameters: parameters
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            services: SERVICES.to_owned(),
            chrooted: false,
            name_server: None,
        })
    }

    /// The directory that contains everything else; user `postfix` can reach it.
    pub(crate) fn root(&self) -> &Path {
        self.directory.path()
    }

    /// `queue_directory`, to which a relative path of `unix:` is relative, chrooted or not.
    pub(crate) fn queue_directory(&self) -> PathBuf {
        self.root().join("spool")
    }

    /// Sets a parameter of main.cf.
    pub(crate) fn set(mut self, parameter: &str, value: impl Into<String>) -> Self {
        self.parameters.insert(parameter.to_owned(), value.into());
        self
    }

    /// Keeps the default of a parameter.
    pub(crate) fn without(mut self, parameter: &str) -> Self {
        self.parameters.remove(parameter);
        self
    }

    /// Adds services to master.cf. `CHROOT` is their chroot column as chosen by [`Self::chrooted`].
    pub(crate) fn services(mut self, services: &str) -> Self {
        self.services.push_str(services);
        self
    }

    /// Runs the services that do lookups chrooted in the queue directory, as Debian does.
    pub(crate) fn chrooted(mut self, chrooted: bool) -> Self {
        self.chrooted = chrooted;
        self
    }

    /// Makes the SMTP clients resolve mail exchangers and addresses at this server instead of this machine's.
    pub(crate) fn name_server(mut self, address: Ipv4Addr) -> Self {
        self.name_server = Some(address);
        self.without("smtp_dns_support_level")
    }

    /// Starts the instance, and returns when it accepts mail.
    pub(crate) fn start(self) -> io::Result<Postfix> {
        if self.chrooted {
            self.fill_chroot()?;
        }
        write_main_cf(self.root(), &self.parameters)?;
        if let Some(address) = self.name_server {
            let text = format!("nameserver {address}\n");
            if self.chrooted {
                fs::write(self.queue_directory().join("etc/resolv.conf"), &text)?;
            }
            fs::write(self.root().join("etc/resolv.conf"), text)?;
        }
        let guard = guard(self.release, self.root())?;
        let mut postfix = Postfix {
            port: 0,
            setup: self,
            guard,
        };
        // Another process may take the port between its choice and smtpd's bind. Three times in a row is unlikely.
        for attempt in 1.. {
            postfix.port = free_port()?;
            match postfix.try_start() {
                Ok(()) => break,
                Err(error) if attempt == 3 => return Err(error),
                Err(_) => {}
            }
        }
        Ok(postfix)
    }

    fn fill_chroot(&self) -> io::Result<()> {
        let jail = self.queue_directory();
        fs::create_dir_all(jail.join("etc"))?;
        for name in CHROOT_FILES {
            let original = Path::new("/").join(name);
            if original.is_file() {
                fs::copy(original, jail.join(name))?;
                fs::set_permissions(jail.join(name), fs::Permissions::from_mode(0o644))?;
            }
        }
        Ok(())
    }
}

/// A running instance. It stops on drop.
pub(crate) struct Postfix {
    setup: Setup,
    port: u16,
    guard: Child,
}

/// A mail in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Queued {
    id: String,
    /// `active`, `deferred`, `incoming`, `maildrop` or `hold`.
    pub(crate) queue: String,
    pub(crate) sender: String,
    pub(crate) recipients: Vec<String>,
    /// Why the first recipient is deferred, if Postfix has tried to deliver.
    pub(crate) reason: Option<String>,
}

impl Postfix {
    /// The directory that contains everything else.
    pub(crate) fn root(&self) -> &Path {
        self.setup.root()
    }

    /// `queue_directory`.
    pub(crate) fn queue_directory(&self) -> PathBuf {
        self.setup.queue_directory()
    }

    /// `config_directory`.
    pub(crate) fn config_directory(&self) -> PathBuf {
        self.root().join("etc")
    }

    /// The port of its smtpd on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Sends a mail by SMTP. A rejection by smtpd is an error with its reply.
    pub(crate) fn send(&self, sender: &str, recipient: &str) -> io::Result<()> {
        let mut session = SmtpClient::connect(self.port)?;
        session.send(sender, recipient)?;
        session.command("QUIT").map(drop)
    }

    /// Submits a mail by `sendmail`, which accepts it without a table lookup.
    pub(crate) fn submit(&self, sender: &str, recipient: &str) -> io::Result<()> {
        let sender = if sender.is_empty() { "<>" } else { sender };
        let mut command = self.program("sendmail", "-C");
        command.args(["-i", "-f", sender, "--", recipient]);
        run(command, b"Subject: a test\n\nHello.\n").map(drop)
    }

    /// The mails in the queue. A mail that moves between queues while they are listed is listed in both; the later one
    /// is returned.
    pub(crate) fn queue(&self) -> io::Result<Vec<Queued>> {
        let mut command = self.program("postqueue", "-c");
        command.arg("-j");
        let listing = run(command, b"")?;
        let mut queue: Vec<Queued> = Vec::new();
        for line in listing.lines() {
            let mail = queued(line)?;
            queue.retain(|listed| listed.id != mail.id);
            queue.push(mail);
        }
        Ok(queue)
    }

    /// Waits until the queue fulfils the condition, and returns it. After the timeout, returns an error with its last
    /// state.
    pub(crate) fn wait_for_queue(&self, condition: impl Fn(&[Queued]) -> bool) -> io::Result<Vec<Queued>> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let queue = self.queue()?;
            if condition(&queue) {
                return Ok(queue);
            }
            if Instant::now() > deadline {
                return Err(io::Error::other(format!("the queue stays as it is: {queue:?}")));
            }
            thread::sleep(POLL);
        }
    }

    /// `postqueue -f`: attempts all deferred mail now.
    pub(crate) fn flush(&self) -> io::Result<()> {
        let mut command = self.program("postqueue", "-c");
        command.arg("-f");
        run(command, b"").map(drop)
    }

    /// The log so far.
    pub(crate) fn log(&self) -> String {
        fs::read(self.root().join("maillog"))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Waits until the log has that number of lines with this text.
    pub(crate) fn wait_for_log(&self, text: &str, lines: usize) -> io::Result<()> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let log = self.log();
            if log.lines().filter(|line| line.contains(text)).count() >= lines {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(io::Error::other(format!(
                    "{text:?} is not logged {lines} times:\n{log}"
                )));
            }
            thread::sleep(POLL);
        }
    }

    /// Changes main.cf and reloads, as an administrator would; returns when master(8) has read it.
    pub(crate) fn set(&mut self, parameters: &[(&str, &str)]) -> io::Result<()> {
        for (name, value) in parameters {
            self.setup
                .parameters
                .insert((*name).to_owned(), (*value).to_owned());
        }
        write_main_cf(self.root(), &self.setup.parameters)?;
        self.reload()
    }

    /// Reloads after another program has edited the configuration. Returns when master(8) has read it.
    pub(crate) fn reload(&self) -> io::Result<()> {
        let reloads = self.log().matches("reload -- version").count();
        let mut command = self.program("postfix", "-c");
        command.arg("reload");
        run(command, b"")?;
        self.wait_for_log("reload -- version", reloads + 1)
    }

    /// `postmap -q`, Postfix's own client, run in the queue directory so that a relative `unix:` path resolves.
    pub(crate) fn lookup(&self, map: &str, key: &str) -> io::Result<Option<String>> {
        let mut command = self.program("postmap", "-c");
        command
            .args(["-q", key, map])
            .current_dir(self.queue_directory())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let output = spawn(&mut command)?.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stdout)
            .trim_end_matches('\n')
            .to_owned();
        match output.status.code() {
            Some(0) => Ok(Some(text)),
            // Errors exit with 1 too, but print a message.
            Some(1) if output.stderr.is_empty() => Ok(None),
            _ => Err(failure(&command, &String::from_utf8_lossy(&output.stderr))),
        }
    }

    /// A Postfix program for this instance. `timeout` ends a hanging one; it also ends the children of `postfix`, which
    /// is a shell script.
    fn program(&self, name: &str, configuration_flag: &str) -> Command {
        let mut command = Command::new("timeout");
        command.arg(DEADLINE.as_secs().to_string());
        if self.setup.name_server.is_some() {
            let script = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
            command.args(["unshare", "--mount", "sh", "-c", script]);
            command.arg(self.root().join("etc/resolv.conf"));
        }
        command
            .arg(self.setup.release.program(name))
            .arg(configuration_flag)
            .arg(self.root().join("etc"));
        command
    }

    fn try_start(&self) -> io::Result<()> {
        let chroot = if self.setup.chrooted { "y" } else { "n" };
        let services = self.setup.services.replace("CHROOT", chroot);
        fs::write(
            self.root().join("etc/master.cf"),
            format!("127.0.0.1:{} inet n - n - - smtpd\n{services}", self.port),
        )?;
        let mut command = self.program("postfix", "-c");
        command.arg("start");
        run(command, b"").map_err(|error| io::Error::other(format!("{error}\n{}", self.log())))?;
        Ok(())
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        if thread::panicking() {
            drop(writeln!(
                io::stderr().lock(),
                "--- the log of Postfix ---\n{}",
                self.log()
            ));
        }
        // The end of the pipe tells the guard to stop the instance.
        drop(self.guard.stdin.take());
        drop(self.guard.wait());
    }
}

/// The user of a Postfix that can be started here, or an error that says what is missing.
fn available(release: Release) -> io::Result<User> {
    let missing = |what: &str| {
        let make = match release {
            Release::Installed => "apt-get install postfix libsasl2-modules",
            Release::Debian13 => "tests/debian-13",
        };
        io::Error::other(format!(
            "{what}: a private Postfix needs root and Debian's packages; run as root after `{make}`"
        ))
    };
    for program in PROGRAMS {
        let path = release.program(program);
        if !path.is_file() {
            return Err(missing(&format!("no {} here", path.display())));
        }
    }
    if release == Release::Installed && !speaks_auth_plain() {
        return Err(missing("no SASL library for AUTH PLAIN here"));
    }
    if !geteuid().is_root() {
        return Err(missing("not root"));
    }
    User::from_name("postfix")
        .map_err(io::Error::from)?
        .ok_or_else(|| missing("no user postfix here"))
}

/// Whether smtp(8) can load the plugin that sends passwords. Without it, mail stays in the queue.
fn speaks_auth_plain() -> bool {
    let libraries = Path::new("/usr/lib");
    let directories = fs::read_dir(libraries).into_iter().flatten().flatten();
    let mut places = directories
        .map(|directory| directory.path())
        .chain([libraries.to_path_buf()]);
    places.any(|place| place.join("sasl2/libplain.so").exists())
}

/// Fails where user `postfix` cannot reach the directory.
fn reachable(directory: &Path) -> io::Result<()> {
    for part in directory.ancestors() {
        if part.metadata()?.permissions().mode() & 0o001 == 0 {
            return Err(io::Error::other(format!(
                "user postfix cannot pass through {}; set TMPDIR to a directory that every user can reach",
                part.display()
            )));
        }
    }
    Ok(())
}

fn write_main_cf(root: &Path, parameters: &BTreeMap<String, String>) -> io::Result<()> {
    let mut text = String::new();
    for (name, value) in parameters {
        text.extend([name, " = ", value, "\n"]);
    }
    // A daemon may be reading the file.
    let new = root.join("etc/main.cf.new");
    fs::write(&new, text)?;
    fs::rename(new, root.join("etc/main.cf"))
}

/// Starts the shell that stops the instance when this process closes the pipe or ends. The shell has its own process
/// group, so that a signal from the terminal does not end it too.
fn guard(release: Release, root: &Path) -> io::Result<Child> {
    Command::new("sh")
        .args(["-c", "read -r end; exec \"$1\" -c \"$2\" stop", "guard"])
        .arg(release.program("postfix"))
        .arg(root.join("etc"))
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Runs a program of Postfix to its end, and returns its output. The output is written to a file, because the daemons
/// started by `postfix start` would keep a pipe open.
fn run(mut command: Command, input: &[u8]) -> io::Result<String> {
    let mut output = tempfile::tempfile()?;
    let mut errors = tempfile::tempfile()?;
    command
        .stdin(Stdio::piped())
        .stdout(output.try_clone()?)
        .stderr(errors.try_clone()?);
    let mut child = spawn(&mut command).map_err(|error| failure(&command, &error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that has read enough may close its input.
        drop(stdin.write_all(input));
    }
    let status = child.wait()?;
    let written = written(&mut output)?;
    if status.success() {
        Ok(written)
    } else {
        let errors = self::written(&mut errors)?;
        Err(failure(&command, &format!("{status}\n{written}{errors}")))
    }
}

/// What a child has written to a file shared with this process.
fn written(file: &mut File) -> io::Result<String> {
    use std::io::Seek as _;
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn failure(command: &Command, what: &str) -> io::Error {
    io::Error::other(format!("{command:?}: {what}"))
}

/// Parses a line of `postqueue -j`.
fn queued(line: &str) -> io::Result<Queued> {
    let entry: serde_json::Value = serde_json::from_str(line)?;
    let text = |value: Option<&serde_json::Value>| {
        value
            .and_then(serde_json::Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let recipients = entry.get("recipients").and_then(serde_json::Value::as_array);
    let recipients = recipients.map(Vec::as_slice).unwrap_or_default();
    Ok(Queued {
        id: text(entry.get("queue_id")),
        queue: text(entry.get("queue_name")),
        sender: text(entry.get("sender")),
        reason: recipients
            .first()
            .and_then(|one| one.get("delay_reason"))
            .map(|reason| text(Some(reason))),
        recipients: recipients.iter().map(|one| text(one.get("address"))).collect(),
    })
}

/// A plain SMTP client for any number of mails.
pub(crate) struct SmtpClient {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
}

impl SmtpClient {
    /// Connects to 127.0.0.1 and sends EHLO.
    pub(crate) fn connect(port: u16) -> io::Result<Self> {
        let writer = TcpStream::connect(("127.0.0.1", port))?;
        writer.set_read_timeout(Some(DEADLINE))?;
        writer.set_nodelay(true)?;
        let mut client = Self {
            reader: BufReader::new(writer.try_clone()?),
            writer,
        };
        client.reply("the connection")?;
        client.command("EHLO client.test")?;
        Ok(client)
    }

    /// Sends one mail.
    pub(crate) fn send(&mut self, sender: &str, recipient: &str) -> io::Result<()> {
        let utf8 = if sender.is_ascii() && recipient.is_ascii() {
            ""
        } else {
            " SMTPUTF8"
        };
        self.command(&format!("MAIL FROM:<{sender}>{utf8}"))?;
        self.command(&format!("RCPT TO:<{recipient}>"))?;
        self.command("DATA")?;
        self.command(&format!(
            "From: <sender@client.test>\r\nTo: <{recipient}>\r\nSubject: a test\r\n\r\nHello.\r\n."
        ))
        .map(drop)
    }

    /// Sends a command, and returns its reply. A rejection is an error.
    pub(crate) fn command(&mut self, command: &str) -> io::Result<String> {
        self.writer.write_all(format!("{command}\r\n").as_bytes())?;
        self.reply(command)
    }

    fn reply(&mut self, command: &str) -> io::Result<String> {
        let mut reply = String::new();
        loop {
            let start = reply.len();
            if self.reader.read_line(&mut reply)? == 0 {
                return Err(io::Error::other(format!(
                    "smtpd closed the connection after {command}"
                )));
            }
            let line = reply.get(start..).unwrap_or_default();
            if line.as_bytes().get(3) != Some(&b'-') {
                return if line.starts_with(['2', '3']) {
                    Ok(reply)
                } else {
                    Err(io::Error::other(format!("{command}: {reply}")))
                };
            }
        }
    }
}
