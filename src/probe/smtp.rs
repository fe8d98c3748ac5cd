//! The dialogue with a relay: commands, and replies (RFC 5321, section 4.2).
//!
//! Limits: [`MAX_REPLY`] bytes for a reply, of one line or of many. Postfix cuts a line at 2048 bytes and reads on. A text
//! after the greeting, EHLO or STARTTLS is shown in part and escaped, any other never.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};

use thiserror::Error;

use super::shown;

/// The maximum size of a reply in bytes.
const MAX_REPLY: usize = 64 << 10;

/// The size of a read, in bytes.
const READ_SIZE: usize = 4096;

/// What a reply answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Greeting,
    Ehlo,
    StartTls,
    Auth,
    Quit,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Greeting => "greeting",
            Self::Ehlo => "reply to EHLO",
            Self::StartTls => "reply to STARTTLS",
            Self::Auth => "reply to AUTH",
            Self::Quit => "reply to QUIT",
        })
    }
}

/// Why there is no reply.
#[derive(Debug, Error)]
pub(super) enum SmtpError {
    #[error("no complete {0} came in time")]
    TimedOut(Step),
    #[error("the relay closed the connection, and sent no complete {0}")]
    Closed(Step),
    #[error("the {0} has more than {size} KiB", size = MAX_REPLY >> 10)]
    TooLong(Step),
    #[error("the {0} is no reply of an SMTP server")]
    NotSmtp(Step),
    #[error("the relay begins with TLS")]
    BeginsWithTls,
    #[error("no {0}: {1}")]
    Io(Step, io::Error),
}

impl SmtpError {
    fn new(step: Step, error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::TimedOut => Self::TimedOut(step),
            ErrorKind::UnexpectedEof
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe => Self::Closed(step),
            _ => Self::Io(step, error),
        }
    }
}

/// A complete reply.
#[derive(Debug)]
pub(super) struct Reply {
    /// The three digits.
    pub code: u16,
    /// The texts of its lines.
    pub lines: Vec<Vec<u8>>,
}

impl Reply {
    /// Whether the command succeeded.
    pub(super) fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// Returns the code and the beginning of the text, as they can be shown.
    pub(super) fn shown(&self) -> String {
        let text = self.lines.join(&b' ');
        format!("{} {}", self.code, shown(&text)).trim_end().to_owned()
    }

    /// Returns the code and the enhanced status code (RFC 3463), without the text.
    pub(super) fn codes(&self) -> String {
        match self.enhanced_code() {
            Some(enhanced) => format!("{} {enhanced}", self.code),
            None => self.code.to_string(),
        }
    }

    /// Returns the enhanced status code, such as 5.7.8.
    pub(super) fn enhanced_code(&self) -> Option<&str> {
        let word = self.lines.first()?.split(|c| *c == b' ').next()?;
        let text = std::str::from_utf8(word).ok()?;
        let mut parts = text.split('.');
        let is_number =
            |part: &str| (1..=3).contains(&part.len()) && part.bytes().all(|c| c.is_ascii_digit());
        let class = parts.next().filter(|class| ["2", "4", "5"].contains(class));
        let (subject, detail) = (parts.next()?, parts.next()?);
        let is_code = class.is_some() && is_number(subject) && is_number(detail) && parts.next().is_none();
        is_code.then_some(text)
    }
}

/// Commands and replies over a connection.
pub(super) struct Dialogue<S> {
    stream: S,
    /// What has arrived and is no reply yet.
    received: Vec<u8>,
}

impl<S: Read + Write> Dialogue<S> {
    /// Begins a dialogue.
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            received: Vec::new(),
        }
    }

    /// Returns the connection, for the operations that are not SMTP.
    pub(super) fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Returns the connection, and whether the relay has sent more than its last reply.
    pub(super) fn into_stream(self) -> (S, bool) {
        (self.stream, !self.received.is_empty())
    }

    /// Sends a command, which may contain a password and is in no error, and reads its reply.
    pub(super) fn command(&mut self, step: Step, line: &[u8]) -> Result<Reply, SmtpError> {
        self.stream
            .write_all(line)
            .and_then(|()| self.stream.flush())
            .map_err(|error| SmtpError::new(step, error))?;
        self.reply(step)
    }

    /// Reads a reply.
    pub(super) fn reply(&mut self, step: Step) -> Result<Reply, SmtpError> {
        let mut lines = Vec::new();
        let mut size = 0;
        loop {
            let line = self.line(step, MAX_REPLY.saturating_sub(size))?;
            size += line.len() + b"\r\n".len();
            let (code, rest) = line.split_first_chunk::<3>().ok_or(SmtpError::NotSmtp(step))?;
            let [hundreds @ b'2'..=b'5', tens @ b'0'..=b'9', ones @ b'0'..=b'9'] = code else {
                return Err(SmtpError::NotSmtp(step));
            };
            let digit = |c: &u8| u16::from(c - b'0');
            let code = digit(hundreds) * 100 + digit(tens) * 10 + digit(ones);
            let is_last = match rest.first() {
                None | Some(b' ') => true,
                Some(b'-') => false,
                Some(_) => return Err(SmtpError::NotSmtp(step)),
            };
            lines.push(rest.get(1..).unwrap_or_default().to_vec());
            if is_last {
                return Ok(Reply { code, lines });
            }
        }
    }

    /// Reads a line of at most `limit` bytes, and returns it without its end.
    fn line(&mut self, step: Step, limit: usize) -> Result<Vec<u8>, SmtpError> {
        let mut searched = 0;
        loop {
            let unsearched = self.received.get(searched..).unwrap_or_default();
            if let Some(end) = memchr::memchr(b'\n', unsearched) {
                let rest = self.received.split_off(searched + end + 1);
                let mut line = std::mem::replace(&mut self.received, rest);
                line.pop();
                line.pop_if(|last| *last == b'\r');
                if line.len() >= limit {
                    return Err(SmtpError::TooLong(step));
                }
                return Ok(line);
            }
            searched = self.received.len();
            if searched >= limit {
                return Err(SmtpError::TooLong(step));
            }
            // A TLS record: an alert or a handshake, and the major version.
            if step == Step::Greeting && matches!(self.received.as_slice(), [0x15 | 0x16, 3, ..]) {
                return Err(SmtpError::BeginsWithTls);
            }
            let mut block = [0; READ_SIZE];
            match self.stream.read(&mut block) {
                Ok(0) => return Err(SmtpError::Closed(step)),
                Ok(read) => self
                    .received
                    .extend_from_slice(block.get(..read).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(SmtpError::new(step, error)),
            }
        }
    }
}

/// Returns the mechanisms in a reply to EHLO: the words after `AUTH`, and after the `AUTH=` of old servers. Words that
/// cannot be names of mechanisms (RFC 4422, section 3.1) are left out.
pub(super) fn mechanisms(ehlo: &Reply) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for line in ehlo.lines.iter().skip(1) {
        let Some(words) = keyword(line, b"AUTH") else {
            continue;
        };
        for word in words.split(u8::is_ascii_whitespace) {
            let is_name = (1..=20).contains(&word.len())
                && word
                    .iter()
                    .all(|c| c.is_ascii_alphanumeric() || b"-_".contains(c));
            let name = String::from_utf8_lossy(word).to_ascii_uppercase();
            if is_name && !all.contains(&name) && all.len() < MAX_MECHANISMS {
                all.push(name);
            }
        }
    }
    all
}

/// The maximum number of mechanisms that are kept. Cyrus SASL has some 15.
const MAX_MECHANISMS: usize = 32;

/// Whether a reply to EHLO offers STARTTLS.
pub(super) fn offers_starttls(ehlo: &Reply) -> bool {
    let mut lines = ehlo.lines.iter().skip(1);
    lines.any(|line| keyword(line, b"STARTTLS").is_some())
}

/// Returns what follows a keyword at the beginning of a line, if the line begins with it.
fn keyword<'a>(line: &'a [u8], keyword: &[u8]) -> Option<&'a [u8]> {
    let (word, rest) = line.split_at_checked(keyword.len())?;
    match rest.first() {
        _ if !word.eq_ignore_ascii_case(keyword) => None,
        None | Some(b' ' | b'=' | b'\t') => Some(rest.get(1..).unwrap_or_default()),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read, Write};

    use proptest::collection::vec;
    use proptest::prelude::{any, proptest};

    use super::{Dialogue, SmtpError, Step, mechanisms, offers_starttls};

    proptest! {
        #[test]
        fn no_reply_causes_a_panic(
            text in "([25]?[0-9]{0,3}[- x]?(AUTH|auth=|STARTTLS)?[ a-zA-Z=.0-9\\PC]{0,20}[\r\n]{0,3}){0,6}",
            rest in vec(any::<u8>(), 0..20),
            piece in 1_usize..9,
        ) {
            let mut text = text.into_bytes();
            text.extend(rest);
            if let Ok(reply) = dialogue(text, piece).reply(Step::Greeting) {
                let _ = (mechanisms(&reply), offers_starttls(&reply), reply.codes(), reply.shown());
            }
        }
    }

    /// A relay that sends this text, in pieces of that size, and then closes the connection.
    struct Script {
        text: Vec<u8>,
        piece: usize,
    }

    impl Read for Script {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let size = self.piece.min(self.text.len()).min(buffer.len());
            let rest = self.text.split_off(size);
            let sent = std::mem::replace(&mut self.text, rest);
            buffer[..size].copy_from_slice(&sent);
            Ok(size)
        }
    }

    impl Write for Script {
        fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
            Ok(buffer.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn dialogue(text: impl Into<Vec<u8>>, piece: usize) -> Dialogue<Script> {
        Dialogue::new(Script {
            text: text.into(),
            piece,
        })
    }

    #[test]
    fn a_reply_is_the_same_however_it_is_split() {
        let text =
            "250-relay\r\n250-AUTH PLAIN login\n250-auth=LOGIN X-é\r\n250-STARTTLS\r\n250 AUTHX FOO\r\n";
        for piece in [1, 2, 7, 4096] {
            let reply = dialogue(text, piece).reply(Step::Ehlo).unwrap();
            assert_eq!(reply.code, 250);
            assert_eq!(mechanisms(&reply), ["PLAIN", "LOGIN"]);
            assert!(offers_starttls(&reply));
        }
    }

    #[test]
    fn what_is_no_reply_is_an_error() {
        for text in [
            "hello\r\n",
            "2\r\n",
            "\r\n",
            "250x\r\n",
            "999 a\r\n",
            "-1 a\r\n",
            "\u{feff}220 a\r\n",
        ] {
            let error = dialogue(text, 4096).reply(Step::Greeting).unwrap_err();
            assert!(
                matches!(error, SmtpError::NotSmtp(Step::Greeting)),
                "{text:?}: {error}"
            );
        }
        let error = dialogue("220-a\r\n220", 4096).reply(Step::Greeting).unwrap_err();
        assert!(matches!(error, SmtpError::Closed(_)), "{error}");
        let error = dialogue(b"\x15\x03\x01\x00\x02".to_vec(), 4096)
            .reply(Step::Greeting)
            .unwrap_err();
        assert!(matches!(error, SmtpError::BeginsWithTls), "{error}");
    }

    #[test]
    fn a_reply_has_at_most_64_kib_in_one_line_or_in_many() {
        let long_line = format!("220 {}\r\n", "x".repeat(70_000));
        let endless_line = "x".repeat(70_000);
        let many_lines = "220-x\r\n".repeat(10_000);
        for text in [long_line, endless_line, many_lines] {
            let error = dialogue(text, 1000).reply(Step::Greeting).unwrap_err();
            assert!(matches!(error, SmtpError::TooLong(_)), "{error}");
        }
        let almost = format!("220 {}\r\n", "x".repeat(65_000));
        assert_eq!(dialogue(almost, 1000).reply(Step::Greeting).unwrap().code, 220);
    }

    #[test]
    fn the_codes_of_a_reply_have_no_text_of_the_relay() {
        for (text, codes) in [
            ("535 5.7.8 wrong: secret\r\n", "535 5.7.8"),
            ("535-5.7.9 x\r\n535 5.7.9 y\r\n", "535 5.7.9"),
            ("535 secret\r\n", "535"),
            ("535 5.secret.8 x\r\n", "535"),
            ("535 5.7.8.9\r\n", "535"),
            ("454\r\n", "454"),
        ] {
            assert_eq!(dialogue(text, 4096).reply(Step::Auth).unwrap().codes(), codes);
        }
    }
}
