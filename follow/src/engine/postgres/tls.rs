//! TLS with the server: it proves its name before it gets the name of a user.
//!
//! There is no mode in which a server without TLS, or one whose certificate is for another name, is used
//! ([`crate::settings::Tls`]).

use std::path::Path;
use std::sync::Arc;

use postmapd::os::printable::printable_path;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::errors::{handshake, lost};
use crate::engine::EngineErrorKind;
use crate::settings::Settings;

/// Asks for TLS: the length of the message, and a number in place of the version of the protocol.
const REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// Why a certificate or a key cannot be used.
#[derive(Debug, Error)]
pub enum TlsSettingsError {
    /// A file of the settings.
    #[error(
        "{path}: error: the file of `{setting}` is unusable: {reason}; check that it is a PEM file, and complete"
    )]
    File {
        /// The setting.
        setting: &'static str,
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The system has no certificate authorities.
    #[error(
        "this system has no certificate authorities: {0}; install the package ca-certificates, or set ca in follow.toml"
    )]
    NoAuthorities(String),
    /// A certificate and a key that do not belong together, and everything else.
    #[error("client_cert and client_key cannot be used: {0}")]
    ClientCertificate(String),
}

/// Reads the certificates and the key of the settings.
pub(super) fn connector(settings: &Settings) -> Result<TlsConnector, TlsSettingsError> {
    let roots = match &settings.ca {
        Some(path) => authorities(path)?,
        None => authorities_of_system()?,
    };
    let failed = |error: &dyn ToString| TlsSettingsError::ClientCertificate(error.to_string());
    let config = ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?
        .with_root_certificates(roots);
    let config = match &settings.client_certificate {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates("client_cert", certificate)?;
            let key =
                PrivateKeyDer::from_pem_file(key).map_err(|error| unusable("client_key", key, &error))?;
            config
                .with_client_auth_cert(chain, key)
                .map_err(|error| failed(&error))?
        }
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

fn authorities(path: &Path) -> Result<RootCertStore, TlsSettingsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("ca", path)? {
        roots.add(certificate).map_err(|error| TlsSettingsError::File {
            setting: "ca",
            path: printable_path(path),
            reason: error.to_string(),
        })?;
    }
    Ok(roots)
}

fn authorities_of_system() -> Result<RootCertStore, TlsSettingsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let error = found.errors.first().map(ToString::to_string);
        let none = || "there is no file with them".to_owned();
        return Err(TlsSettingsError::NoAuthorities(error.unwrap_or_else(none)));
    }
    Ok(roots)
}

fn certificates(
    setting: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsSettingsError> {
    let error = |error: &PemError| unusable(setting, path, error);
    let all = CertificateDer::pem_file_iter(path).map_err(|e| error(&e))?;
    let all = all.collect::<Result<Vec<_>, _>>().map_err(|e| error(&e))?;
    if all.is_empty() {
        return Err(error(&PemError::NoItemsFound));
    }
    Ok(all)
}

fn unusable(setting: &'static str, path: &Path, error: &PemError) -> TlsSettingsError {
    TlsSettingsError::File {
        setting,
        path: printable_path(path),
        reason: match error {
            PemError::Io(error) => error.to_string(),
            PemError::NoItemsFound => "it has none of what it should have".to_owned(),
            // The text of the error may be a part of the file.
            _ => "it is no PEM file".to_owned(),
        },
    }
}

/// Asks the server for TLS and does the handshake. Nothing else is sent before that.
pub(super) async fn connect(
    mut stream: TcpStream,
    host: &str,
    connector: &TlsConnector,
) -> Result<TlsStream<TcpStream>, EngineErrorKind> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| {
        EngineErrorKind::Tls("the host in source is neither a name nor an address".to_owned())
    })?;
    stream.write_all(&REQUEST).await.map_err(|error| lost(&error))?;
    // Exactly one byte: what follows without TLS is given to TLS, which rejects it.
    let mut answer = [0];
    stream
        .read_exact(&mut answer)
        .await
        .map_err(|error| lost(&error))?;
    if answer != *b"S" {
        return Err(EngineErrorKind::NoTls);
    }
    connector
        .connect(name, stream)
        .await
        .map_err(|error| handshake(&error))
}
