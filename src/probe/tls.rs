//! TLS with a relay: the handshake, with any certificate, which [`super::certificate`] evaluates afterwards.
//!
//! The signature of the handshake is always verified, so the relay has the key of its certificate.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, InvalidMessage, ProtocolVersion,
    SignatureScheme, StreamOwned,
};

use super::timed_stream::TimedStream;
use crate::lookup::tls_policy::Mode;

/// A connection with TLS.
pub(super) type TlsStream = StreamOwned<ClientConnection, TimedStream>;

/// Does the handshake, and sends `name` (SNI) if there is one. Returns the reason as a text if it fails.
pub(super) fn handshake(
    mut stream: TimedStream,
    name: Option<&str>,
    address: IpAddr,
    mode: Mode,
) -> Result<TlsStream, String> {
    // The name of an address is not sent.
    let name = name.and_then(|name| ServerName::try_from(name.to_owned()).ok());
    let name = name.unwrap_or(ServerName::IpAddress(address.into()));
    let failed = |error: &dyn fmt::Display| format!("the TLS handshake failed: {error}");
    let config = config().map_err(|error| failed(&error))?;
    let mut connection = ClientConnection::new(config, name).map_err(|error| failed(&error))?;
    while connection.is_handshaking() {
        connection
            .complete_io(&mut stream)
            .map_err(|error| failed(&reason(&error, mode)))?;
    }
    Ok(StreamOwned::new(connection, stream))
}

/// Returns the version of a connection, as Postfix logs it.
pub(super) fn version(stream: &TlsStream) -> &'static str {
    match stream.conn.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        _ => "TLSv1.2",
    }
}

/// Returns the certificates that the relay has sent, its own first.
pub(super) fn certificates(stream: &TlsStream) -> &[CertificateDer<'static>] {
    stream.conn.peer_certificates().unwrap_or_default()
}

fn config() -> Result<Arc<ClientConfig>, Error> {
    let provider = rustls::crypto::ring::default_provider();
    let verifier = AnyCertificate(provider.signature_verification_algorithms);
    let config = ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(config.into())
}

fn reason(error: &io::Error, mode: Mode) -> String {
    if error.kind() == ErrorKind::TimedOut {
        return "it was not complete in time".to_owned();
    }
    if matches!(
        error.kind(),
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
    ) {
        return "the relay closed the connection".to_owned();
    }
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match tls {
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) if mode == Mode::Implicit => {
            "the relay does not begin with TLS; if it offers STARTTLS, its entry in postfix-relay-tls.cf needs the word \
             starttls"
                .to_owned()
        }
        Some(Error::PeerIncompatible(_) | Error::AlertReceived(_)) => {
            format!("{error} (TLS 1.2 and 1.3 are tried, without RSA key exchange)")
        }
        _ => error.to_string(),
    }
}

/// Accepts every certificate whose key signs the handshake.
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl fmt::Debug for AnyCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnyCertificate")
    }
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
