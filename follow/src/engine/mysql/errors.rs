//! Errors of the client library and of the server, without values of rows.
//!
//! A message of the server is shown only if its number is known to be about names (of users, hosts, tables and columns). Other
//! messages may quote values or parts of a query: of these, only the number is shown.

use std::io;

use mysql_async::{DriverError, Error, IoError, ServerError, TlsError};
use postmapd::os::printable::printable;
use tokio_rustls::rustls;

use crate::engine::EngineErrorKind;
use crate::engine::tls_errors::tls_text;

/// The longest part of a message that is shown, in characters.
const MAX_MESSAGE: usize = 300;

/// What to do about a database that does not exist, or that the user may not see: the server does not tell which.
const CORRECT_DATABASE: &str = "correct the database in source, or grant the user SELECT on its tables";

/// In place of a message that may have values of rows.
const MESSAGE_NOT_SHOWN: &str =
    "the message is not shown, because it may have values of rows; run the query by hand";

/// What to do about tables that do not exist.
const CORRECT_QUERIES: &str = "correct the database in source, or the tables and columns in [queries]";

/// Returns the error of `query`.
pub(super) fn error(query: &'static str, error: &Error) -> EngineErrorKind {
    match error {
        Error::Server(error) => server_error(query, error),
        Error::Io(IoError::Io(error)) => io_error(error),
        Error::Io(IoError::Tls(TlsError::Tls(error))) => EngineErrorKind::Tls(shown(&tls_text(error))),
        Error::Io(IoError::Tls(error)) => EngineErrorKind::Tls(shown(&error.to_string())),
        Error::Driver(DriverError::NoClientSslFlagFromServer) => EngineErrorKind::NoTls,
        Error::Driver(DriverError::NoKeyFound) => {
            EngineErrorKind::Tls("the file of client_key has no private key".to_owned())
        }
        Error::Driver(DriverError::LocalInfile(_)) => EngineErrorKind::Result {
            query,
            reason: "the server asks for a file of this host, which is never sent".to_owned(),
        },
        Error::Driver(
            DriverError::UnknownAuthPlugin { .. }
            | DriverError::CleartextPluginDisabled
            | DriverError::MysqlOldPasswordDisabled,
        ) => EngineErrorKind::Login(
            "it asks for another kind of login than mysql_native_password and caching_sha2_password"
                .to_owned(),
        ),
        Error::Driver(DriverError::ConnectionClosed) => {
            EngineErrorKind::Lost("the server has closed it".to_owned())
        }
        // The texts of the others may contain what the server sent.
        Error::Driver(_) | Error::Other(_) | Error::Url(_) => {
            EngineErrorKind::Lost("the server does not speak the protocol of MariaDB and MySQL".to_owned())
        }
    }
}

/// Returns the error of a connection.
pub(super) fn io_error(error: &io::Error) -> EngineErrorKind {
    use io::ErrorKind as Kind;

    if let Some(error) = error.get_ref() {
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return EngineErrorKind::Tls(shown(&tls_text(error)));
        }
        if is_too_large(error) {
            return EngineErrorKind::Lost("the server sends a row with more than 16 MB".to_owned());
        }
    }
    match error.kind() {
        // The text of tokio-util about an end within a packet.
        Kind::Other if error.to_string().starts_with("bytes remaining") => {
            EngineErrorKind::Lost("the server or the network has closed it".to_owned())
        }
        Kind::UnexpectedEof | Kind::ConnectionReset | Kind::BrokenPipe | Kind::ConnectionAborted => {
            EngineErrorKind::Lost("the server or the network has closed it".to_owned())
        }
        Kind::InvalidData | Kind::Other => {
            EngineErrorKind::Lost("the server does not speak the protocol of MariaDB and MySQL".to_owned())
        }
        _ => EngineErrorKind::Connect(shown(&error.to_string())),
    }
}

fn is_too_large(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    // The type is in a crate that the library does not export.
    error.to_string().contains("max_allowed_packet")
}

/// Returns the error that the server reports for `query`.
fn server_error(query: &'static str, error: &ServerError) -> EngineErrorKind {
    let message = || shown(&error.message);
    let numbered = |text: &str| format!("error {} ({}): {text}", error.code, shown(&error.state));
    // https://mariadb.com/kb/en/mariadb-error-codes/
    match error.code {
        // ACCESS_DENIED, ACCESS_DENIED_NO_PASSWORD, HOST_NOT_PRIVILEGED, HOST_IS_BLOCKED, MUST_CHANGE_PASSWORD (two),
        // ACCOUNT_HAS_BEEN_LOCKED (two), SECURE_TRANSPORT_REQUIRED
        1045 | 1698 | 1130 | 1129 | 1820 | 1862 | 3118 | 4151 | 3159 => EngineErrorKind::Login(message()),
        // DBACCESS_DENIED, BAD_DB
        1044 | 1049 => EngineErrorKind::Tables(message(), CORRECT_DATABASE),
        // TABLEACCESS_DENIED, COLUMNACCESS_DENIED, SPECIFIC_ACCESS_DENIED, PROCACCESS_DENIED
        1142 | 1143 | 1227 | 1370 => EngineErrorKind::Rights(message()),
        // NO_DB, BAD_TABLE, BAD_FIELD, NON_UNIQ, UNKNOWN_TABLE, NO_SUCH_TABLE, SP_DOES_NOT_EXIST, VIEW_INVALID
        1046 | 1051 | 1054 | 1052 | 1109 | 1146 | 1305 | 1356 => {
            EngineErrorKind::Tables(message(), CORRECT_QUERIES)
        }
        // WITH_COL_WRONG_LIST of MariaDB, VIEW_WRONG_LIST of MySQL
        4002 | 1353 => EngineErrorKind::Result {
            query,
            reason: "the number of its columns is wrong; relay and tls have two, credentials has three"
                .to_owned(),
        },
        // PARSE_ERROR quotes the query, which may have a password in it.
        1064 => EngineErrorKind::Result {
            query,
            reason: numbered(&match error.message.rsplit_once(" at line ") {
                Some((_, line)) if line.bytes().all(|c| c.is_ascii_digit()) => {
                    format!(
                        "the syntax is wrong on line {line} of the query, or the server needs another one"
                    )
                }
                _ => "the syntax is wrong, or the server needs another one".to_owned(),
            }),
        },
        // STATEMENT_TIMEOUT, QUERY_TIMEOUT
        1969 | 3024 => EngineErrorKind::Query {
            query,
            message: numbered("it takes longer than hang; raise hang, or set version in [queries]"),
        },
        // CANT_EXECUTE_IN_READ_ONLY_TRANSACTION
        1792 => EngineErrorKind::Result {
            query,
            reason: numbered(&message()),
        },
        // TRUNCATED_WRONG_VALUE, DIVISION_BY_ZERO, TRUNCATED_WRONG_VALUE_FOR_FIELD, WRONG_VALUE_FOR_TYPE, SIGNAL_EXCEPTION,
        // DATA_OUT_OF_RANGE: the next attempt has the same result.
        1292 | 1365 | 1366 | 1411 | 1644 | 1690 => EngineErrorKind::Result {
            query,
            reason: numbered(MESSAGE_NOT_SHOWN),
        },
        // CON_COUNT, TOO_MANY_USER_CONNECTIONS, USER_LIMIT_REACHED, SERVER_SHUTDOWN, LOCK_WAIT_TIMEOUT, LOCK_DEADLOCK,
        // QUERY_INTERRUPTED, CONNECTION_KILLED
        1040 | 1203 | 1226 | 1053 | 1205 | 1213 | 1317 | 1927 => EngineErrorKind::Query {
            query,
            message: numbered(&message()),
        },
        _ => EngineErrorKind::Query {
            query,
            message: numbered(MESSAGE_NOT_SHOWN),
        },
    }
}

/// Returns a message with escapes, and not longer than an error may be.
fn shown(text: &str) -> String {
    let text = printable(text.as_bytes());
    if text.chars().count() <= MAX_MESSAGE {
        return text;
    }
    text.chars().take(MAX_MESSAGE).chain("...".chars()).collect()
}

#[cfg(test)]
mod tests {
    use mysql_async::{Error, ServerError};

    use super::error;
    use crate::engine::EngineErrorKind;

    fn reported(code: u16, message: &str) -> EngineErrorKind {
        let server = ServerError {
            code,
            message: message.to_owned(),
            state: "HY000".to_owned(),
        };
        error("[queries] relay", &Error::Server(server))
    }

    #[test]
    fn a_message_of_the_server_that_may_quote_a_value_is_not_shown() {
        for (code, message) in [
            (1062, "Duplicate entry 'hunter2' for key 'PRIMARY'"),
            (1064, "You have an error near 'hunter2' at line 3"),
            (1064, "You have an error near ' at line hunter2"),
            (1292, "Truncated incorrect INTEGER value: 'hunter2'"),
            (1366, "Incorrect string value: 'hunter2'"),
            (1690, "BIGINT value is out of range in 'hunter2'"),
            (60_000, "hunter2"),
        ] {
            let text = reported(code, message).to_string();
            assert!(!text.contains("hunter"), "{text}");
            assert!(text.contains(&code.to_string()), "{text}");
        }
        let text = reported(1064, "You have an error near 'x' at line 3").to_string();
        assert!(text.contains("on line 3 of the query"), "{text}");
    }

    #[test]
    fn the_number_of_an_error_of_the_server_decides_what_it_means() {
        use EngineErrorKind as Kind;

        let names = "SELECT command denied to user 'u'@'h' for table `t`";
        assert!(matches!(reported(1045, "Access denied"), Kind::Login(text) if text == "Access denied"));
        assert!(matches!(reported(1142, names), Kind::Rights(text) if text == names));
        assert!(matches!(
            reported(1146, "Table 'a.b' doesn't exist"),
            Kind::Tables(..)
        ));
        assert!(matches!(reported(4002, "x"), Kind::Result { .. }));
        assert!(reported(1040, "Too many connections").is_temporary());
        for code in [1064, 1644, 1792] {
            assert!(!reported(code, "x").is_temporary());
        }
        // A line end would be another line of the log.
        let text = reported(1045, "a\nb\u{202e}").to_string();
        assert!(!text.contains(['\n', '\u{202e}']), "{text}");
        assert!(reported(1045, &"x".repeat(5000)).to_string().len() < 500);
    }
}
