//! The login: AUTH PLAIN or LOGIN, the two mechanisms that need no cryptography (RFC 4954).
//!
//! The texts of the replies are not shown, because they may repeat the password; their codes are.

use std::io::{Read, Write};

use super::base64;
use super::outcome::{Failure, LoginResult};
use super::smtp::{Dialogue, Reply, SmtpError, Step};
use crate::os::secret::Secret;

/// The login of a sender at a server, as Postfix finds it.
pub(crate) enum Login {
    /// There is none: Postfix sends without authenticating.
    None,
    /// `user:password`.
    Found(Secret),
    /// A temporary error, and its reason.
    CannotTell(String),
}

/// A mechanism that can be tried.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mechanism {
    Plain,
    Login,
}

impl Mechanism {
    /// Returns the one to use, if a relay offers one of them.
    pub(super) fn choose(offered: &[String]) -> Option<Self> {
        let has = |name: &str| offered.iter().any(|mechanism| mechanism == name);
        match (has("PLAIN"), has("LOGIN")) {
            (true, _) => Some(Self::Plain),
            (false, true) => Some(Self::Login),
            (false, false) => None,
        }
    }
}

/// Logs in. Returns what the relay makes of it, and why it is no success.
pub(super) fn log_in<S: Read + Write>(
    dialogue: &mut Dialogue<S>,
    mechanism: Mechanism,
    login: &Secret,
) -> (LoginResult, Option<Failure>) {
    let (user, password) = split(login.expose());
    let reply = match mechanism {
        Mechanism::Plain => plain(dialogue, user, password),
        Mechanism::Login => in_two_steps(dialogue, user, password),
    };
    match reply {
        Ok(reply) if reply.code == 235 => (LoginResult::Accepted, None),
        Ok(reply) => (LoginResult::Refused, Some(refused(&reply))),
        // The password was sent.
        Err(error) => (
            LoginResult::Refused,
            Some(Failure::Failed(format!("the login has no result: {error}"))),
        ),
    }
}

/// Splits `user:password` at the first colon, as Postfix does.
pub(super) fn split(login: &[u8]) -> (&[u8], &[u8]) {
    let colon = memchr::memchr(b':', login).unwrap_or(login.len());
    let (user, rest) = login.split_at_checked(colon).unwrap_or((login, &[]));
    (user, rest.get(1..).unwrap_or_default())
}

/// Returns a line of a password in base64, with room for it, so that no part is left in memory.
fn line(before: &[u8], secret: &[u8]) -> Secret {
    let mut line = Secret::with_capacity(before.len() + secret.len().div_ceil(3) * 4 + 2);
    line.append(before);
    base64::append(secret, &mut line);
    line.append(b"\r\n");
    line
}

fn plain<S: Read + Write>(
    dialogue: &mut Dialogue<S>,
    user: &[u8],
    password: &[u8],
) -> Result<Reply, SmtpError> {
    let mut message = Secret::with_capacity(user.len() + password.len() + 2);
    for part in [&b"\0"[..], user, b"\0", password] {
        message.append(part);
    }
    dialogue.command(Step::Auth, line(b"AUTH PLAIN ", message.expose()).expose())
}

fn in_two_steps<S: Read + Write>(
    dialogue: &mut Dialogue<S>,
    user: &[u8],
    password: &[u8],
) -> Result<Reply, SmtpError> {
    let mut reply = dialogue.command(Step::Auth, b"AUTH LOGIN\r\n")?;
    for part in [user, password] {
        if reply.code != 334 {
            return Ok(reply);
        }
        reply = dialogue.command(Step::Auth, line(b"", part).expose())?;
    }
    Ok(reply)
}

/// Describes a refusal by its codes.
fn refused(reply: &Reply) -> Failure {
    let codes = reply.codes();
    let meaning = match (reply.enhanced_code(), reply.code) {
        (Some("5.7.9"), _) | (_, 534) => "the relay wants another mechanism, or an app password",
        (Some("5.7.11"), _) | (_, 538) => "the relay wants TLS first",
        (_, 535) => "the user or the password is wrong",
        (_, 400..=499) => "a temporary error of the relay",
        (_, 300..=399) => "the relay asks for more than a user and a password",
        _ => "the reason is in the log of the relay",
    };
    Failure::Failed(format!("login refused ({codes}): {meaning}"))
}
