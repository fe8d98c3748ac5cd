//! Errors of the server and of the connection, as what an administrator has to do about them.
//!
//! A message is shown only if the class of its SQLSTATE cannot have values of rows or parts of a query in its messages: a conversion
//! that fails names the value, which may be a password in the wrong column.

use std::io;
use std::time::Duration;

use humantime::format_duration;
use tokio_rustls::rustls::Error as TlsError;

use super::messages::ServerError;
use crate::engine::EngineErrorKind;
use crate::engine::tls_errors::tls_text;

/// What was being done when the server reported an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The login.
    Login,
    /// A query, as the settings name it.
    Query(&'static str),
}

impl Phase {
    /// Returns the error for one that the server reports.
    pub(super) fn error(self, error: &ServerError) -> EngineErrorKind {
        let class = error.code.get(..2).unwrap_or_default().to_owned();
        let text = text(error);
        match (error.code.as_str(), class.as_str(), self) {
            (_, "28", _) => EngineErrorKind::Login(text),
            ("42501", ..) => EngineErrorKind::Rights(text),
            // What is to be created exists, or a role does not.
            ("42P06" | "42P07" | "42710" | "42704", _, Self::Query(query)) => {
                EngineErrorKind::Query { query, message: text }
            }
            (_, "3D", _) => EngineErrorKind::Tables(text, "correct the database in source"),
            (_, "3F" | "42", _) => EngineErrorKind::Tables(text, self.help()),
            // A value that cannot be converted, and a query that no server runs or that writes: the next attempt has the same result.
            (code, class, Self::Query(query))
                if query.starts_with("[queries]") && (class == "22" || class == "0A" || code == "25006") =>
            {
                EngineErrorKind::Result { query, reason: text }
            }
            // Shutting down, starting up, too many connections, and what a pooler reports for a server that is away.
            (_, "57" | "53" | "08", Self::Login) => EngineErrorKind::Connect(text),
            ("57P01" | "57P02" | "57P03" | "57P05", ..) | (_, "08", _) => EngineErrorKind::Lost(text),
            (_, _, Self::Login) => EngineErrorKind::Login(text),
            (_, _, Self::Query(query)) => EngineErrorKind::Query { query, message: text },
        }
    }

    fn help(self) -> &'static str {
        match self {
            Self::Query(query) if query.starts_with("[queries]") => "correct the query in follow.toml",
            _ => "create them with `postmapd-follow init`, or correct the setting schema",
        }
    }
}

/// Returns the message and the SQLSTATE, or only the latter.
fn text(error: &ServerError) -> String {
    let shown = [
        "08", "0A", "23", "25", "28", "3D", "3F", "39", "40", "42", "53", "54", "55", "57", "58",
    ];
    let ServerError { code, message } = error;
    match code.get(..2) {
        // The message has the part of the query at which it is.
        _ if code == "42601" => "syntax error (42601)".to_owned(),
        Some(class) if shown.contains(&class) => format!("{message} ({code})"),
        Some("22") => {
            format!("a value of a row cannot be converted, and the message may contain it (SQLSTATE {code})")
        }
        _ => format!("an error whose message may contain a value (SQLSTATE {code})"),
    }
}

/// Returns the error for no answer within the time.
pub(super) fn hang(after: Duration) -> EngineErrorKind {
    EngineErrorKind::Hang(format_duration(after).to_string())
}

/// Returns the error of a connection that has ended.
pub(super) fn lost(error: &io::Error) -> EngineErrorKind {
    // With TLS 1.3, the server rejects a client certificate after the handshake of the client.
    if let Some(tls @ TlsError::AlertReceived(_)) = tls_error(error) {
        return EngineErrorKind::Tls(tls_text(tls));
    }
    EngineErrorKind::Lost(match error.kind() {
        io::ErrorKind::UnexpectedEof => "the server or a host between closed it".to_owned(),
        _ => error.to_string(),
    })
}

/// Returns the error of a handshake.
pub(super) fn handshake(error: &io::Error) -> EngineErrorKind {
    match tls_error(error) {
        Some(tls) => EngineErrorKind::Tls(tls_text(tls)),
        // A server that is being stopped, or a host between whose server is away: no certificate is wrong.
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            EngineErrorKind::Lost("the server or a host between closed it in the TLS handshake".to_owned())
        }
        None => EngineErrorKind::Lost(error.to_string()),
    }
}

fn tls_error(error: &io::Error) -> Option<&TlsError> {
    error.get_ref()?.downcast_ref()
}
