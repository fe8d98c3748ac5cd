//! TLS with the server: it proves its name before it gets the name of a user.
//!
//! There is no mode in which a server without TLS, or one whose certificate is for another name, is used
//! ([`crate::settings::Tls`]).

use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::errors::{handshake, lost};
use crate::engine::{EngineErrorKind, EngineSettingsError};
use crate::settings::{CredentialFileError, CredentialFileErrorKind, Settings};

/// Asks for TLS: the length of the message, and a number in place of the version of the protocol.
const REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// Reads the certificates and the key of the settings.
pub(super) fn connector(settings: &Settings) -> Result<TlsConnector, EngineSettingsError> {
    let roots = match &settings.ca {
        Some(path) => authorities(path)?,
        None => authorities_of_system()?,
    };
    let failed = |error: &dyn ToString| EngineSettingsError::ClientCertificate(error.to_string());
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

fn authorities(path: &Path) -> Result<RootCertStore, EngineSettingsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("ca", path)? {
        let added = roots.add(certificate);
        added.map_err(|error| not_pem("ca", path, error.to_string()))?;
    }
    Ok(roots)
}

fn authorities_of_system() -> Result<RootCertStore, EngineSettingsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let error = found.errors.first().map(ToString::to_string);
        let none = || "there is no file with them".to_owned();
        return Err(EngineSettingsError::NoAuthorities(error.unwrap_or_else(none)));
    }
    Ok(roots)
}

fn certificates(
    setting: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, EngineSettingsError> {
    let error = |error: &PemError| unusable(setting, path, error);
    let all = CertificateDer::pem_file_iter(path).map_err(|e| error(&e))?;
    let all = all.collect::<Result<Vec<_>, _>>().map_err(|e| error(&e))?;
    if all.is_empty() {
        return Err(error(&PemError::NoItemsFound));
    }
    Ok(all)
}

fn unusable(setting: &'static str, path: &Path, error: &PemError) -> EngineSettingsError {
    let reason = match error {
        PemError::Io(error) => error.to_string(),
        PemError::NoItemsFound => "it has none of what it should have".to_owned(),
        // The text of the error may be a part of the file.
        _ => "it is no PEM file".to_owned(),
    };
    not_pem(setting, path, reason)
}

fn not_pem(setting: &'static str, path: &Path, reason: String) -> EngineSettingsError {
    EngineSettingsError::File(CredentialFileError {
        setting,
        path: path.to_owned(),
        kind: CredentialFileErrorKind::Unusable(reason),
    })
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
