//! The certificate authorities that are trusted.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, TrustAnchor};
use thiserror::Error;

use crate::os::printable::printable_path;

/// Why there are no certificate authorities.
#[derive(Debug, Error)]
pub(crate) enum AuthoritiesError {
    /// A file cannot be read, or is no PEM file.
    #[error("cannot read {file}: {reason}")]
    Unreadable {
        /// The path.
        file: String,
        /// The reason.
        reason: String,
    },
    /// A file has no certificate.
    #[error("there is no certificate in {0}")]
    Empty(String),
}

/// Trusted certificate authorities. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Authorities(Arc<[Authority]>);

struct Authority {
    certificate: CertificateDer<'static>,
    /// `None` if the certificate cannot be an authority.
    anchor: Option<TrustAnchor<'static>>,
}

impl Authorities {
    /// Returns those of the system, or of `SSL_CERT_FILE` and `SSL_CERT_DIR`.
    pub(crate) fn of_system() -> Self {
        Self::new(rustls_native_certs::load_native_certs().certs)
    }

    /// Returns those of PEM files.
    pub(crate) fn from_files(files: &[PathBuf]) -> Result<Self, AuthoritiesError> {
        let mut all = Vec::new();
        for file in files {
            let unreadable = |error: pem::Error| AuthoritiesError::Unreadable {
                file: printable_path(file),
                reason: match error {
                    pem::Error::Io(error) => error.to_string(),
                    _ => "it is no PEM file".to_owned(),
                },
            };
            let before = all.len();
            for certificate in CertificateDer::pem_file_iter(file).map_err(unreadable)? {
                all.push(certificate.map_err(unreadable)?);
            }
            if all.len() == before {
                return Err(AuthoritiesError::Empty(printable_path(file)));
            }
        }
        Ok(Self::new(all))
    }

    fn new(certificates: Vec<CertificateDer<'static>>) -> Self {
        let authorities = certificates.into_iter().map(|certificate| Authority {
            anchor: webpki::anchor_from_trusted_cert(&certificate)
                .ok()
                .map(|anchor| anchor.to_owned()),
            certificate,
        });
        Self(authorities.collect())
    }

    /// Returns them as the library needs them.
    pub(super) fn anchors(&self) -> Vec<TrustAnchor<'static>> {
        let anchors = self.0.iter().map(|authority| authority.anchor.clone());
        anchors.flatten().collect()
    }

    /// Whether this certificate is one of them.
    pub(super) fn contain(&self, certificate: &CertificateDer<'_>) -> bool {
        let mut all = self.0.iter();
        all.any(|authority| authority.certificate == *certificate)
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
