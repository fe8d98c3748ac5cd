//! Why the settings of a source cannot be used.

use std::io;

use thiserror::Error;

use crate::settings::CredentialFileError;

/// Why the settings of a source cannot be used.
#[derive(Debug, Error)]
pub enum EngineSettingsError {
    /// A file that the settings name.
    #[error(transparent)]
    File(#[from] CredentialFileError),
    /// The system has no certificate authorities.
    #[error(
        "this system has no certificate authorities: {0}; install the package ca-certificates, or set ca in follow.toml"
    )]
    NoAuthorities(String),
    /// A certificate and a key that do not belong together, and everything else.
    #[error("client_cert and client_key cannot be used: {0}")]
    ClientCertificate(String),
    /// No random numbers.
    #[error("the system has no random numbers: {0}")]
    Random(#[from] io::Error),
    /// MariaDB or MySQL, without its client.
    #[cfg(not(feature = "mysql"))]
    #[error(
        "this program was built without the client for MariaDB and MySQL; build it with the feature mysql"
    )]
    NoMariaDb,
}
