//! Fake SMTP servers: the relays and the recipient's own server, to which a real Postfix sends.
//!
//! A server records what matters to the promises in a [`Journal`]: each mail with its envelope and the login of its
//! session, and each AUTH attempt, even of a session that sends no mail, so that a leaked credential is detected.
//! Several servers may share one journal, in which a test then sees where a mail arrived.
//!
//! Limits: no TLS, no pipelining extension, only AUTH PLAIN and LOGIN, and the text of a mail is discarded. A server
//! rejects what it does not support with 5xx, as a real one does. A broken connection ends only its own thread.

#![allow(
    dead_code,
    reason = "the tests and the demo include this file, and neither uses all of it"
)]

use std::fmt;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The longest line that is read, far above SMTP's limit.
const LINE_LIMIT: u64 = 64 * 1024;

/// A user and a password as received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: String,
}

impl Login {
    pub(crate) fn new(user: &str, password: &str) -> Self {
        Self {
            user: user.to_owned(),
            password: password.to_owned(),
        }
    }
}

/// `user:password`, as in a credentials file.
impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.user, self.password)
    }
}

/// A mail that a server accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mail {
    /// The name of the server that accepted it.
    pub(crate) server: String,
    /// The envelope sender; empty for the null sender.
    pub(crate) sender: String,
    pub(crate) recipients: Vec<String>,
    /// The login of the connection.
    pub(crate) login: Option<Login>,
}

/// One AUTH attempt, successful or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attempt {
    /// The name of the server that received it.
    pub(crate) server: String,
    pub(crate) login: Login,
    pub(crate) accepted: bool,
}

/// All that one or more servers have received, in order. Clones share one journal.
#[derive(Clone, Default)]
pub(crate) struct Journal(Arc<Pages>);

#[derive(Default)]
struct Pages {
    seen: Mutex<Records>,
    changed: Condvar,
    /// How many more mails the servers accept before they hold mail back, if they do.
    room: Mutex<Option<usize>>,
    has_room: Condvar,
}

/// The content of a [`Journal`].
#[derive(Debug, Default)]
pub(crate) struct Records {
    pub(crate) mails: Vec<Mail>,
    pub(crate) attempts: Vec<Attempt>,
}

impl Journal {
    /// The mails so far.
    pub(crate) fn mails(&self) -> Vec<Mail> {
        self.lock().mails.clone()
    }

    /// The AUTH attempts so far.
    pub(crate) fn attempts(&self) -> Vec<Attempt> {
        self.lock().attempts.clone()
    }

    /// Waits until the condition is fulfilled. Returns `None` after the timeout.
    pub(crate) fn wait<T>(&self, timeout: Duration, condition: impl Fn(&Records) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + timeout;
        let mut seen = self.lock();
        loop {
            if let Some(granted) = condition(&seen) {
                return Some(granted);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            seen = self
                .0
                .changed
                .wait_timeout(seen, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Waits for a mail to that recipient.
    pub(crate) fn mail_to(&self, recipient: &str, timeout: Duration) -> Option<Mail> {
        self.wait(timeout, |seen| {
            let here = |mail: &&Mail| mail.recipients.iter().any(|one| one == recipient);
            seen.mails.iter().find(here).cloned()
        })
    }

    /// From now on the servers accept this many mails, and hold back others until [`Journal::release`].
    pub(crate) fn hold_after(&self, mails: usize) {
        *self.lock_room() = Some(mails);
    }

    /// Accepts the mail that is held back.
    pub(crate) fn release(&self) {
        *self.lock_room() = None;
        self.0.has_room.notify_all();
    }

    /// Waits while mail is held back. A minute later, a test that failed has to end.
    fn wait_for_room(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut room = self.lock_room();
        while let Some(mails) = *room {
            if mails > 0 {
                *room = Some(mails - 1);
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.0.has_room.wait_timeout(room, left);
            room = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock_room(&self) -> MutexGuard<'_, Option<usize>> {
        self.0.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Records> {
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, entry: impl FnOnce(&mut Records)) {
        entry(&mut self.lock());
        self.0.changed.notify_all();
    }
}

/// Whether a server supports AUTH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Auth {
    /// Not listed in the EHLO reply, and rejected.
    Unknown,
    /// Listed in the EHLO reply; mail is accepted without it too.
    Offered,
    /// Mail without it is rejected with 530.
    Demanded,
}

/// How a server behaves. By default it offers AUTH, accepts every login, and has its own journal.
pub(crate) struct Setup {
    name: String,
    host: Ipv4Addr,
    port: u16,
    auth: Auth,
    accepted: Option<Vec<Login>>,
    delay: Duration,
    journal: Journal,
}

impl Setup {
    /// A server on a loopback address. The name is for the journal.
    pub(crate) fn new(name: &str, host: Ipv4Addr) -> Self {
        Self {
            name: name.to_owned(),
            host,
            port: 0,
            auth: Auth::Offered,
            accepted: None,
            delay: Duration::ZERO,
            journal: Journal::default(),
        }
    }

    /// Sets the port, for a caller with its own network namespace. By default the system chooses.
    pub(crate) fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    pub(crate) fn auth(mut self, auth: Auth) -> Self {
        self.auth = auth;
        self
    }

    /// Accepts this login, and only those added by this function.
    pub(crate) fn accepting(mut self, login: Login) -> Self {
        self.accepted.get_or_insert_default().push(login);
        self
    }

    /// Delays the reply to each mail.
    pub(crate) fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Writes to a journal that other servers share.
    pub(crate) fn journal(mut self, journal: &Journal) -> Self {
        self.journal = journal.clone();
        self
    }

    /// Binds the port, and serves.
    pub(crate) fn start(self) -> io::Result<SmtpServer> {
        let listener = TcpListener::bind((self.host, self.port))?;
        let address = SocketAddrV4::new(self.host, listener.local_addr()?.port());
        let shared = Arc::new(Shared {
            setup: self,
            stopping: AtomicBool::new(false),
        });
        let acceptor = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Ok(SmtpServer {
            address,
            shared,
            acceptor: Some(acceptor),
        })
    }
}

/// A running server. It stops on drop.
pub(crate) struct SmtpServer {
    address: SocketAddrV4,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    setup: Setup,
    stopping: AtomicBool,
}

impl SmtpServer {
    pub(crate) fn name(&self) -> &str {
        &self.shared.setup.name
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// `[host]:port`, as a next hop is written.
    pub(crate) fn next_hop(&self) -> String {
        format!("[{}]:{}", self.address.ip(), self.address.port())
    }

    /// The mails that it accepted.
    pub(crate) fn mails(&self) -> Vec<Mail> {
        let mut mails = self.shared.setup.journal.mails();
        mails.retain(|mail| mail.server == self.name());
        mails
    }

    /// The AUTH attempts that it received.
    pub(crate) fn attempts(&self) -> Vec<Attempt> {
        let mut attempts = self.shared.setup.journal.attempts();
        attempts.retain(|attempt| attempt.server == self.name());
        attempts
    }
}

impl Drop for SmtpServer {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // This connection wakes the thread that waits in accept(2).
        drop(TcpStream::connect(self.address));
        if let Some(acceptor) = self.acceptor.take() {
            drop(acceptor.join());
        }
    }
}

/// Accepts connections, each in its own thread, until the server stops, then closes them all.
fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut sessions: Vec<(TcpStream, JoinHandle<()>)> = Vec::new();
    for stream in listener.incoming() {
        if shared.stopping.load(Ordering::SeqCst) {
            break;
        }
        sessions.retain(|(_, thread)| !thread.is_finished());
        let Ok(stream) = stream else { continue };
        let Ok(handle) = stream.try_clone() else { continue };
        let shared = Arc::clone(shared);
        let thread = thread::spawn(move || {
            // Whatever ends a session, the journal has all that came before.
            drop(Session::new(&shared.setup, stream).and_then(Session::run));
        });
        sessions.push((handle, thread));
    }
    for (stream, thread) in sessions {
        drop(stream.shutdown(Shutdown::Both));
        drop(thread.join());
    }
}

/// One connection.
struct Session<'a> {
    setup: &'a Setup,
    reader: BufReader<TcpStream>,
    writer: TcpStream,
    login: Option<Login>,
    sender: Option<String>,
    recipients: Vec<String>,
}

impl<'a> Session<'a> {
    fn new(setup: &'a Setup, stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self {
            setup,
            writer: stream.try_clone()?,
            reader: BufReader::new(stream),
            login: None,
            sender: None,
            recipients: Vec::new(),
        })
    }

    fn run(mut self) -> io::Result<()> {
        self.reply("220 relay.test ESMTP")?;
        while let Some(line) = self.line()? {
            let (verb, argument) = line.split_once(' ').unwrap_or((&line, ""));
            match verb.to_ascii_uppercase().as_str() {
                "EHLO" => {
                    self.reset();
                    self.reply(match self.setup.auth {
                        Auth::Unknown => "250-relay.test\r\n250-SMTPUTF8\r\n250 8BITMIME",
                        _ => "250-relay.test\r\n250-AUTH PLAIN LOGIN\r\n250-SMTPUTF8\r\n250 8BITMIME",
                    })?;
                }
                "HELO" | "RSET" => {
                    self.reset();
                    self.reply("250 2.0.0 Ok")?;
                }
                "NOOP" => self.reply("250 2.0.0 Ok")?,
                "AUTH" => self.authenticate(argument)?,
                "MAIL" => self.mail(argument)?,
                "RCPT" => self.recipient(argument)?,
                "DATA" => self.data()?,
                "QUIT" => return self.reply("221 2.0.0 Bye"),
                _ => self.reply("502 5.5.2 Command not recognized")?,
            }
        }
        Ok(())
    }

    fn authenticate(&mut self, argument: &str) -> io::Result<()> {
        if self.setup.auth == Auth::Unknown {
            return self.reply("503 5.5.1 Authentication not enabled");
        }
        let (mechanism, initial) = argument.split_once(' ').unwrap_or((argument, ""));
        let login = match mechanism.to_ascii_uppercase().as_str() {
            "PLAIN" => self.plain(initial)?,
            "LOGIN" => self.login(initial)?,
            _ => return self.reply("504 5.5.4 Unrecognized authentication type"),
        };
        let Some(login) = login else {
            return self.reply("501 5.5.2 Cannot decode response");
        };
        let accepted = self
            .setup
            .accepted
            .as_ref()
            .is_none_or(|accepted| accepted.contains(&login));
        self.setup.journal.write(|seen| {
            seen.attempts.push(Attempt {
                server: self.setup.name.clone(),
                login: login.clone(),
                accepted,
            });
        });
        if !accepted {
            return self.reply("535 5.7.8 Authentication credentials invalid");
        }
        self.login = Some(login);
        self.reply("235 2.7.0 Authentication successful")
    }

    /// `AUTH PLAIN`: authorization identity, user and password, each after a NUL but the first.
    fn plain(&mut self, initial: &str) -> io::Result<Option<Login>> {
        let message = self.response(initial, "334 ")?;
        Ok(message.and_then(|message| {
            let mut parts = message.splitn(3, |&byte| byte == 0).skip(1);
            Some(Login {
                user: text(parts.next()?),
                password: text(parts.next()?),
            })
        }))
    }

    /// `AUTH LOGIN`: two prompts, which are the words `Username:` and `Password:` in base64.
    fn login(&mut self, initial: &str) -> io::Result<Option<Login>> {
        let Some(user) = self.response(initial, "334 VXNlcm5hbWU6")? else {
            return Ok(None);
        };
        let password = self.response("", "334 UGFzc3dvcmQ6")?;
        Ok(password.map(|password| Login {
            user: text(&user),
            password: text(&password),
        }))
    }

    /// The client's response, requested unless it came with the command.
    fn response(&mut self, initial: &str, prompt: &str) -> io::Result<Option<Vec<u8>>> {
        if !initial.is_empty() {
            return Ok(base64(initial));
        }
        self.reply(prompt)?;
        Ok(self.line()?.as_deref().and_then(base64))
    }

    fn mail(&mut self, argument: &str) -> io::Result<()> {
        if self.setup.auth == Auth::Demanded && self.login.is_none() {
            return self.reply("530 5.7.0 Authentication required");
        }
        match path(argument, "FROM:") {
            Some(sender) => {
                self.sender = Some(sender);
                self.recipients.clear();
                self.reply("250 2.1.0 Ok")
            }
            None => self.reply("501 5.1.7 Bad sender address syntax"),
        }
    }

    fn recipient(&mut self, argument: &str) -> io::Result<()> {
        match path(argument, "TO:") {
            Some(_) if self.sender.is_none() => self.reply("503 5.5.1 Need MAIL command"),
            Some(recipient) => {
                self.recipients.push(recipient);
                self.reply("250 2.1.5 Ok")
            }
            None => self.reply("501 5.1.3 Bad recipient address syntax"),
        }
    }

    fn data(&mut self) -> io::Result<()> {
        let Some(sender) = self.sender.take().filter(|_| !self.recipients.is_empty()) else {
            return self.reply("503 5.5.1 Need RCPT command");
        };
        self.reply("354 End data with <CR><LF>.<CR><LF>")?;
        loop {
            match self.line()? {
                Some(line) if line == "." => break,
                Some(_) => {}
                // An incomplete mail is discarded.
                None => return Ok(()),
            }
        }
        thread::sleep(self.setup.delay);
        self.setup.journal.wait_for_room();
        let mail = Mail {
            server: self.setup.name.clone(),
            sender,
            recipients: std::mem::take(&mut self.recipients),
            login: self.login.clone(),
        };
        self.setup.journal.write(|seen| seen.mails.push(mail));
        self.reply("250 2.0.0 Ok: taken")
    }

    fn reset(&mut self) {
        self.sender = None;
        self.recipients.clear();
    }

    /// The next line without its end. `None` when the client has closed the connection.
    fn line(&mut self) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        let read = (&mut self.reader).take(LINE_LIMIT).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(None);
        }
        while line.pop_if(|byte| matches!(byte, b'\r' | b'\n')).is_some() {}
        Ok(Some(text(&line)))
    }

    /// Sends a reply in one write.
    fn reply(&mut self, text: &str) -> io::Result<()> {
        self.writer.write_all(format!("{text}\r\n").as_bytes())
    }
}

/// The received text, with a replacement character for what is not UTF-8.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The address in `FROM:<address> …`. A quoted local part may contain an angle bracket.
fn path(argument: &str, keyword: &str) -> Option<String> {
    let (before, rest) = argument.split_at_checked(keyword.len())?;
    if !before.eq_ignore_ascii_case(keyword) {
        return None;
    }
    let inner = rest.trim_start().strip_prefix('<')?;
    let mut quoted = false;
    let mut escaped = false;
    let end = inner.find(|c| {
        let closes = c == '>' && !quoted && !escaped;
        quoted ^= c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        closes
    })?;
    inner.get(..end).map(str::to_owned)
}

/// Decodes base64 (RFC 4648) as AUTH uses it: no whitespace, padding at the end, `=` alone for an empty response.
pub(crate) fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut bits: u32 = 0;
    let mut held = 0;
    for c in text.trim_end_matches('=').bytes() {
        let six = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(six);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from((bits >> held) & 0xff).ok()?);
        }
    }
    Some(bytes)
}
