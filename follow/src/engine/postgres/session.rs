//! A session: login, queries over the simple protocol, and notifications.
//!
//! This is a client of its own for the few messages that it needs, and the library that has the rest of the protocol does SCRAM:
//! the client libraries prepare every statement whose rows they stream (a pooler in transaction mode mixes up the names), answer a
//! server that asks for the password in clear text, accept rows in UTF-8 only, and allocate whatever length a server names.
//!
//! Each step, a message sent or something received, has the deadline `hang`.

use std::io;
use std::ops::Range;
use std::time::Duration;

use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postmapd::os::secret::Secret;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::errors::{Phase, hang, lost};
use super::messages::{
    Columns, Input, MAX_COLUMNS, ServerError, message, packet, take_count, take_i32, unexpected,
};
use crate::engine::EngineErrorKind;

/// Version 3.0 of the protocol.
const VERSION: [u8; 4] = 196_608_u32.to_be_bytes();

/// The most rounds of SCRAM: the server chooses, and each costs time. PostgreSQL's default is 4,096.
const MAX_ROUNDS: u32 = 1_000_000;

/// How much of the input of COPY is sent at once, in bytes.
const COPY_CHUNK: usize = 64 << 10;

/// A connection of bytes.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// How much of a password the way to the server may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// TLS with a server that has proved its name, or a UNIX socket.
    Private,
    /// A TCP port of this host, at which another user's program may listen while the server is away: no password in clear text.
    Loopback,
}

/// Who logs in.
pub(super) struct Login {
    /// The user.
    pub(super) user: String,
    /// The database.
    pub(super) database: String,
    /// The password.
    pub(super) password: Option<Secret>,
}

/// A session.
pub(super) struct Session {
    stream: Box<dyn Stream>,
    input: Input,
    hang: Duration,
    /// Whether the texts of the database have no encoding, so that a row may have any bytes.
    is_without_encoding: bool,
    is_notified: bool,
}

impl Session {
    /// Logs in.
    pub(super) async fn start(
        stream: Box<dyn Stream>,
        login: &Login,
        way: Way,
        hang: Duration,
    ) -> Result<Self, EngineErrorKind> {
        let mut session = Self {
            stream,
            input: Input::default(),
            hang,
            is_without_encoding: false,
            is_notified: false,
        };
        let (user, database) = (login.user.as_bytes(), login.database.as_bytes());
        let parameters: [&[u8]; 5] = [
            &VERSION,
            b"client_encoding\0UTF8\0application_name\0postmapd-follow\0user\0",
            user,
            b"\0database\0",
            database,
        ];
        session.send(&packet(&[&parameters.concat(), b"\0\0"])?).await?;
        session.log_in(login, way).await?;
        Ok(session)
    }

    /// Whether the texts of the database have no encoding.
    pub(super) fn is_without_encoding(&self) -> bool {
        self.is_without_encoding
    }

    async fn log_in(&mut self, login: &Login, way: Way) -> Result<(), EngineErrorKind> {
        loop {
            let (kind, body) = self.next().await?;
            match kind {
                b'R' => self.authenticate(body, login, way).await?,
                b'E' => {
                    let error = ServerError::parse(self.input.body(body));
                    return Err(Phase::Login.error(&error));
                }
                // The keys to cancel queries.
                b'K' => {}
                b'Z' => return Ok(()),
                _ => self.note(kind, body)?,
            }
        }
    }

    async fn authenticate(
        &mut self,
        body: Range<usize>,
        login: &Login,
        way: Way,
    ) -> Result<(), EngineErrorKind> {
        let refused = |reason: &str| Err(EngineErrorKind::Login(reason.to_owned()));
        let mut body = self.input.body(body);
        let method = take_i32(&mut body)?;
        if method == 0 {
            return Ok(());
        }
        let Some(password) = &login.password else {
            return refused("it asks for a password, and password_file is not set");
        };
        let password = password.expose();
        match method {
            3 if way == Way::Private => {
                let answer = message(b'p', &[password, b"\0"])?;
                self.send(&answer).await
            }
            3 => refused(
                "it asks for the password in clear text over TCP without TLS; set scram-sha-256 in its pg_hba.conf",
            ),
            5 => {
                let salt = *body.first_chunk().ok_or_else(unexpected)?;
                let hash = md5_hash(login.user.as_bytes(), password, salt);
                let answer = message(b'p', &[hash.as_bytes(), b"\0"])?;
                self.send(&answer).await
            }
            10 => {
                let mechanism = SCRAM_SHA_256.as_bytes();
                if !body.split(|c| *c == 0).any(|offered| offered == mechanism) {
                    return refused("it offers no SCRAM-SHA-256");
                }
                self.scram(password).await
            }
            _ => refused("it asks for a method other than a password or a certificate"),
        }
    }

    /// Proves to know the password without sending it, and demands that the server knows it too.
    async fn scram(&mut self, password: &[u8]) -> Result<(), EngineErrorKind> {
        let failed =
            || EngineErrorKind::Login("it does not prove that it knows the password itself".to_owned());
        let mut scram = ScramSha256::new(password, ChannelBinding::unsupported());
        let length = u32::try_from(scram.message().len()).map_err(|_| unexpected())?;
        let first = [
            SCRAM_SHA_256.as_bytes(),
            b"\0",
            &length.to_be_bytes(),
            scram.message(),
        ];
        self.send(&message(b'p', &first)?).await?;
        let challenge = self.sasl(11).await?;
        if rounds(self.input.body(challenge.clone())).is_none_or(|rounds| rounds > MAX_ROUNDS) {
            return Err(failed());
        }
        scram.update(self.input.body(challenge)).map_err(|_| failed())?;
        self.send(&message(b'p', &[scram.message()])?).await?;
        let proof = self.sasl(12).await?;
        scram.finish(self.input.body(proof)).map_err(|_| failed())
    }

    /// Waits for a step of SASL.
    async fn sasl(&mut self, step: i32) -> Result<Range<usize>, EngineErrorKind> {
        let (kind, range) = self.next().await?;
        let mut body = self.input.body(range.clone());
        if kind == b'E' {
            return Err(Phase::Login.error(&ServerError::parse(body)));
        }
        if kind != b'R' || take_i32(&mut body)? != step {
            return Err(unexpected());
        }
        Ok(range.start + 4..range.end)
    }

    /// Runs statements, and calls `handle` with each row. `columns` is their number in each result, if it is known.
    ///
    /// # Errors
    ///
    /// `query` names the statements in errors.
    pub(super) async fn query(
        &mut self,
        query: &'static str,
        sql: &str,
        columns: Option<usize>,
        handle: impl FnMut(&Columns<'_>),
    ) -> Result<(), EngineErrorKind> {
        let result = self.run(query, sql, columns, handle).await?;
        result.map_err(|error| Phase::Query(query).error(&error))
    }

    /// Runs statements; an error that the server reports is a result, after which the session can be used.
    pub(super) async fn run(
        &mut self,
        query: &'static str,
        sql: &str,
        columns: Option<usize>,
        mut handle: impl FnMut(&Columns<'_>),
    ) -> Result<Result<(), ServerError>, EngineErrorKind> {
        if sql.contains('\0') {
            let reason = "it contains a NUL".to_owned();
            return Err(EngineErrorKind::Result { query, reason });
        }
        self.send(&message(b'Q', &[sql.as_bytes(), b"\0"])?).await?;
        let mut result = Ok(());
        // The number of columns of the result that comes.
        let mut described = None;
        loop {
            let (kind, body) = match self.next().await {
                // The error after which the server has closed the connection says why.
                Err(EngineErrorKind::Lost(_)) if result.is_err() => return Ok(result),
                next => next?,
            };
            match kind {
                b'D' => {
                    let row = Columns::parse(self.input.body(body))?;
                    // A column that does not come would be NULL, which is a value.
                    if described != Some(row.count()) {
                        return Err(unexpected());
                    }
                    handle(&row);
                }
                b'T' => {
                    let count = take_count(&mut self.input.body(body))?;
                    let reason = match columns {
                        Some(expected) if expected != count => {
                            format!("it has {count} columns, and {expected} are needed")
                        }
                        None if count > MAX_COLUMNS => {
                            format!("it has {count} columns, and may have {MAX_COLUMNS}")
                        }
                        _ => {
                            described = Some(count);
                            continue;
                        }
                    };
                    return Err(EngineErrorKind::Result { query, reason });
                }
                b'E' if result.is_ok() => result = Err(ServerError::parse(self.input.body(body))),
                // The end of a statement, or none.
                b'C' | b'I' | b'E' => {}
                b'Z' => return Ok(result),
                _ => self.note(kind, body)?,
            }
        }
    }

    /// Sends rows in the text format of COPY as the input of the statement `sql`.
    ///
    /// # Errors
    ///
    /// `query` names the statement in errors.
    pub(super) async fn copy_in(
        &mut self,
        query: &'static str,
        sql: &str,
        rows: &Secret,
    ) -> Result<(), EngineErrorKind> {
        self.send(&message(b'Q', &[sql.as_bytes(), b"\0"])?).await?;
        let mut result = Ok(());
        loop {
            let (kind, body) = self.next().await?;
            match kind {
                b'G' => {
                    for chunk in rows.expose().chunks(COPY_CHUNK) {
                        self.send(&message(b'd', &[chunk])?).await?;
                    }
                    self.send(&message(b'c', &[])?).await?;
                }
                b'E' if result.is_ok() => {
                    let error = ServerError::parse(self.input.body(body));
                    result = Err(Phase::Query(query).error(&error));
                }
                b'C' | b'E' => {}
                b'Z' => return result,
                _ => self.note(kind, body)?,
            }
        }
    }

    /// Sets how long each further step may take.
    pub(super) fn set_hang(&mut self, hang: Duration) {
        self.hang = hang;
    }

    /// Waits for a notification, or for the end of the connection, which the next query reports. To be dropped at any time.
    pub(super) async fn notification(&mut self) {
        while !self.is_notified {
            match self.input.take() {
                Ok(Some((kind, body))) if self.note(kind, body.clone()).is_ok() => {}
                Ok(None) if self.fill().await.is_ok() => {}
                _ => return,
            }
        }
        self.is_notified = false;
    }

    /// Forgets the notifications that came before.
    pub(super) fn clear_notification(&mut self) {
        self.is_notified = false;
    }

    /// Takes a message that may come at any time.
    fn note(&mut self, kind: u8, body: Range<usize>) -> Result<(), EngineErrorKind> {
        match kind {
            b'A' => self.is_notified = true,
            b'S' if self.input.body(body.clone()) == b"server_encoding\0SQL_ASCII\0" => {
                self.is_without_encoding = true;
            }
            // Other parameters, and notices.
            b'S' | b'N' => {}
            // For example, the server is being stopped.
            b'E' => {
                let error = ServerError::parse(self.input.body(body));
                return Err(EngineErrorKind::Lost(error.message));
            }
            _ => return Err(unexpected()),
        }
        Ok(())
    }

    async fn send(&mut self, message: &Secret) -> Result<(), EngineErrorKind> {
        let hang_after = self.hang;
        let all = async {
            self.stream.write_all(message.expose()).await?;
            self.stream.flush().await
        };
        match timeout(hang_after, all).await {
            Ok(result) => result.map_err(|error| lost(&error)),
            Err(_) => Err(hang(hang_after)),
        }
    }

    async fn next(&mut self) -> Result<(u8, Range<usize>), EngineErrorKind> {
        loop {
            if let Some(message) = self.input.take()? {
                return Ok(message);
            }
            let hang_after = self.hang;
            match timeout(hang_after, self.fill()).await {
                Ok(filled) => filled?,
                Err(_) => return Err(hang(hang_after)),
            }
        }
    }

    async fn fill(&mut self) -> Result<(), EngineErrorKind> {
        let received = self.stream.read(self.input.room()).await;
        match received {
            Ok(0) => Err(lost(&io::ErrorKind::UnexpectedEof.into())),
            Ok(length) => {
                self.input.received(length);
                Ok(())
            }
            Err(error) => Err(lost(&error)),
        }
    }
}

/// Returns the rounds that a challenge of SCRAM asks for.
fn rounds(challenge: &[u8]) -> Option<u32> {
    let mut attributes = challenge.split(|c| *c == b',');
    let rounds = attributes.find_map(|attribute| attribute.strip_prefix(b"i="))?;
    std::str::from_utf8(rounds).ok()?.parse().ok()
}
