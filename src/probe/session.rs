//! One connection to one server, from the greeting to QUIT.

use std::io::{self, ErrorKind, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rustls::pki_types::UnixTime;

use super::authorities::Authorities;
use super::certificate::{self, Names};
use super::login::{self, Login, Mechanism};
use super::outcome::{EXPIRY_WARNING_DAYS, Failure, LoginResult, Outcome};
use super::policy::{Demand, Policy, ServerNameToSend};
use super::resolver::Server;
use super::smtp::{self, Dialogue, Reply, SmtpError, Step};
use super::timed_stream::TimedStream;
use super::tls::{self, TlsStream};
use super::{ClientSettings, FindLogin, NextHop};
use crate::lookup::nexthop;
use crate::lookup::tls_policy::{Level, Mode};
use crate::os::printable::{enumeration, printable};
use crate::os::secret::Secret;

/// How long the reply to QUIT is waited for, which changes nothing.
const QUIT_TIMEOUT: Duration = Duration::from_secs(2);

/// The name of this machine in EHLO.
const HOST_NAME_FILE: &str = "/proc/sys/kernel/hostname";

/// A connection to one address of a server.
pub(super) struct Session<'a> {
    pub(super) next_hop: &'a NextHop,
    pub(super) policy: &'a Policy,
    pub(super) authorities: &'a Authorities,
    pub(super) client: &'a ClientSettings,
    pub(super) server: &'a Server,
    pub(super) address: SocketAddr,
    pub(super) find_login: FindLogin<'a>,
    pub(super) deadline: Instant,
}

/// A dialogue with TLS or without.
enum Connection {
    Plain(Dialogue<TimedStream>),
    Tls(Box<Dialogue<TlsStream>>),
}

/// A part of the trial, and why it failed.
type Trial<T> = Result<T, Failure>;

impl Session<'_> {
    /// Tries the server, and returns what was found up to where the trial ended.
    pub(super) fn run(&self) -> Outcome {
        let mut outcome = Outcome::new(self.next_hop);
        outcome.host = printable(self.server.host.as_bytes());
        outcome.address = Some(self.address.ip().to_string());
        if self.server.is_from_hosts_file && !self.client.reads_hosts_file {
            outcome.warnings.push(
                "the address is from /etc/hosts, which Postfix reads only with smtp_host_lookup = native"
                    .to_owned(),
            );
        }
        if !self.policy.ignored.is_empty() {
            outcome.warnings.push(format!(
                "{} of the TLS policy is not tried",
                enumeration(&self.policy.ignored, "and")
            ));
        }
        if let Err(failure) = self.try_server(&mut outcome) {
            outcome.failure = Some(failure);
        }
        outcome
    }

    fn try_server(&self, outcome: &mut Outcome) -> Trial<()> {
        let stream = TimedStream::connect(self.address, self.deadline).map_err(|error| {
            failed(format!(
                "cannot connect to {}: {}",
                self.address,
                connect_error(&error)
            ))
        })?;
        outcome.connected = true;
        let own_name = self.client.helo_name.clone().unwrap_or_else(|| own_name(&stream));
        let mut connection = match self.next_hop.mode {
            Mode::Implicit => self.begin_tls(stream, outcome)?,
            Mode::Starttls => Connection::Plain(Dialogue::new(stream)),
        };
        let greeting = connection
            .reply(Step::Greeting)
            .map_err(|error| self.failed(&error))?;
        if !greeting.is_positive() {
            return Err(rejected(Step::Greeting, &greeting));
        }
        let mut ehlo = self.say_hello(&mut connection, &own_name)?;
        if let Connection::Plain(dialogue) = connection {
            outcome.auth_before_tls = smtp::mechanisms(&ehlo);
            if self.policy.level == Level::None {
                connection = Connection::Plain(dialogue);
            } else if smtp::offers_starttls(&ehlo) {
                connection = self.start_tls(dialogue, outcome)?;
                ehlo = self.say_hello(&mut connection, &own_name)?;
            } else if self.policy.requires_tls() {
                Connection::Plain(dialogue).quit();
                return Err(failed(
                    "the policy requires TLS, and the relay does not offer STARTTLS".to_owned(),
                ));
            } else {
                connection = Connection::Plain(dialogue);
            }
        }
        outcome.auth = smtp::mechanisms(&ehlo);
        let result = self.log_in(&mut connection, outcome);
        connection.quit();
        result
    }

    fn say_hello(&self, connection: &mut Connection, own_name: &str) -> Trial<Reply> {
        let reply = connection
            .command(Step::Ehlo, format!("EHLO {own_name}\r\n").as_bytes())
            .map_err(|error| self.failed(&error))?;
        if reply.is_positive() {
            return Ok(reply);
        }
        Err(rejected(Step::Ehlo, &reply))
    }

    fn start_tls(&self, mut dialogue: Dialogue<TimedStream>, outcome: &mut Outcome) -> Trial<Connection> {
        let reply = dialogue
            .command(Step::StartTls, b"STARTTLS\r\n")
            .map_err(|error| self.failed(&error))?;
        if !reply.is_positive() {
            return Err(rejected(Step::StartTls, &reply));
        }
        let (stream, has_more) = dialogue.into_stream();
        if has_more {
            return Err(failed(
                "the relay, or a machine on the way, sends text between STARTTLS and TLS".to_owned(),
            ));
        }
        self.begin_tls(stream, outcome)
    }

    /// Begins TLS, and evaluates the certificate. Fails if it does not meet the policy.
    fn begin_tls(&self, stream: TimedStream, outcome: &mut Outcome) -> Trial<Connection> {
        let (next_hop, _) = nexthop::host_and_port(&self.next_hop.text);
        let next_hop = String::from_utf8_lossy(next_hop);
        let name = self.policy.server_name.as_ref().map(|name| match name {
            ServerNameToSend::Hostname => self.server.host.as_str(),
            ServerNameToSend::NextHop => &*next_hop,
            ServerNameToSend::Name(name) => name.as_str(),
        });
        let stream =
            tls::handshake(stream, name, self.address.ip(), self.next_hop.mode).map_err(|error| {
                let is_opportunistic = self.policy.level == Level::May;
                let note = if is_opportunistic {
                    "; at the level may, Postfix goes on without TLS"
                } else {
                    ""
                };
                failed(error + note)
            })?;
        outcome.tls = Some(tls::version(&stream));
        let names = Names {
            host: &self.server.host,
            next_hop: &next_hop,
        };
        let evaluation = certificate::evaluate(
            tls::certificates(&stream),
            &self.policy.demand,
            &names,
            self.authorities,
            UnixTime::now(),
        );
        outcome.days_left = evaluation.days_left;
        if let Some(days @ ..EXPIRY_WARNING_DAYS) = evaluation.days_left
            && evaluation.error.is_none()
        {
            outcome.warnings.push(match days {
                ..0 => "the certificate has expired".to_owned(),
                0 => "the certificate expires within a day".to_owned(),
                1 => "the certificate expires in 1 day".to_owned(),
                days => format!("the certificate expires in {days} days"),
            });
        }
        outcome.verified = match self.policy.demand {
            Demand::Nothing | Demand::Dane => None,
            Demand::Names(_) | Demand::Digests(_) => Some(evaluation.error.is_none()),
        };
        let mut connection = Connection::Tls(Box::new(Dialogue::new(stream)));
        match evaluation.error {
            Some(error) => {
                connection.quit();
                Err(failed(error))
            }
            None => Ok(connection),
        }
    }

    /// Logs in, where Postfix has a login and the policy is met.
    fn log_in(&self, connection: &mut Connection, outcome: &mut Outcome) -> Trial<()> {
        if self.policy.demand == Demand::Dane {
            return Err(Failure::NotTried(
                "DANE cannot be tried here, so no password was sent: try posttls-finger(1) with -l dane"
                    .to_owned(),
            ));
        }
        let login = (self.find_login)(self.server.host.as_bytes(), &self.next_hop.text);
        let login = match login {
            Login::None => return Ok(()),
            Login::Found(login) => login,
            Login::CannotTell(reason) => {
                return Err(Failure::NotTried(format!("the login is unknown: {reason}")));
            }
        };
        let (user, _) = login::split(login.expose());
        outcome.user = Some(printable(user));
        if outcome.auth.is_empty() {
            return Err(failed(
                "the relay offers no AUTH, so Postfix sends without authenticating".to_owned(),
            ));
        }
        let Some(mechanism) = Mechanism::choose(&outcome.auth) else {
            return Err(Failure::NotTried(format!(
                "of the mechanisms {} none can be tried here",
                enumeration(&outcome.auth, "and")
            )));
        };
        if outcome.tls.is_none() {
            if !self.address.ip().to_canonical().is_loopback() {
                return Err(failed(
                    "there is no TLS, and no password is sent without it: nor does Postfix with noplaintext in \
                     smtp_sasl_security_options"
                        .to_owned(),
                ));
            }
            outcome.warnings.push(
                "the login is without TLS: Postfix does not log in with noplaintext in smtp_sasl_security_options"
                    .to_owned(),
            );
        }
        let (result, failure) = connection.log_in(mechanism, &login);
        outcome.login = result;
        match failure {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    /// Returns an error of the dialogue, with what is likely to be its cause.
    fn failed(&self, error: &SmtpError) -> Failure {
        let hint = match (error, self.next_hop.mode) {
            (SmtpError::BeginsWithTls, _) | (SmtpError::TimedOut(Step::Greeting), Mode::Starttls) => {
                "; if it is a relay for implicit TLS, its entry in postfix-relay-tls.cf needs the word implicit"
            }
            _ => "",
        };
        failed(format!("{error}{hint}"))
    }
}

impl Connection {
    fn reply(&mut self, step: Step) -> Result<Reply, SmtpError> {
        match self {
            Self::Plain(dialogue) => dialogue.reply(step),
            Self::Tls(dialogue) => dialogue.reply(step),
        }
    }

    fn command(&mut self, step: Step, line: &[u8]) -> Result<Reply, SmtpError> {
        match self {
            Self::Plain(dialogue) => dialogue.command(step, line),
            Self::Tls(dialogue) => dialogue.command(step, line),
        }
    }

    fn log_in(&mut self, mechanism: Mechanism, login: &Secret) -> (LoginResult, Option<Failure>) {
        match self {
            Self::Plain(dialogue) => login::log_in(dialogue, mechanism, login),
            Self::Tls(dialogue) => login::log_in(dialogue, mechanism, login),
        }
    }

    /// Ends the session. The result changes nothing.
    fn quit(&mut self) {
        match self {
            Self::Plain(dialogue) => {
                dialogue.stream().limit_to(QUIT_TIMEOUT);
                let _ = dialogue.command(Step::Quit, b"QUIT\r\n");
            }
            Self::Tls(dialogue) => {
                dialogue.stream().sock.limit_to(QUIT_TIMEOUT);
                let _ = dialogue.command(Step::Quit, b"QUIT\r\n");
                dialogue.stream().conn.send_close_notify();
                let _ = dialogue.stream().flush();
            }
        }
    }
}

fn failed(text: String) -> Failure {
    Failure::Failed(text)
}

fn rejected(step: Step, reply: &Reply) -> Failure {
    failed(format!("the {step} is {}", reply.shown()))
}

fn connect_error(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::TimedOut => "no reply in time".to_owned(),
        // Without the number of the error.
        _ => error.to_string().split(" (os error").take(1).collect(),
    }
}

/// Returns the name of this machine if it is complete, else its address, as EHLO demands.
fn own_name(stream: &TimedStream) -> String {
    let name = std::fs::read_to_string(HOST_NAME_FILE).unwrap_or_default();
    let name = name.trim();
    if name.contains('.') && nexthop::is_host_name(name.as_bytes()) {
        return name.to_owned();
    }
    match stream.local_addr().map(|address| address.ip()) {
        Ok(IpAddr::V6(address)) => format!("[IPv6:{address}]"),
        Ok(IpAddr::V4(address)) => format!("[{address}]"),
        Err(_) => "localhost".to_owned(),
    }
}
