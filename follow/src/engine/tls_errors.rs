//! Errors of TLS, as what an administrator has to do about them: the same for each database.

use tokio_rustls::rustls::{AlertDescription, CertificateError, Error};

/// Returns the text of an error. It has no times and no names of the certificate, so that it is the same in each attempt.
pub(super) fn tls_text(error: &Error) -> String {
    let text = match error {
        Error::InvalidCertificate(error) => match error {
            // The latter with another authority of the same name.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "the certificate is from an authority that is not trusted"
            }
            // The former also if it ends before it begins.
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the certificate has expired"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the certificate is not valid yet"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the certificate is for another name than the host in source"
            }
            // As `openssl req -x509` makes it: it may sign others, and so a client must not accept it for a host.
            CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
                "the certificate is one of an authority (CA:TRUE); issue one for the server, with basicConstraints CA:FALSE"
            }
            _ => return error.to_string(),
        },
        Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown,
        ) => "the server demands another client certificate (client_cert and client_key)",
        _ => return error.to_string(),
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio_rustls::rustls::pki_types::UnixTime;
    use tokio_rustls::rustls::{CertificateError, Error};

    use super::tls_text;

    #[test]
    fn a_certificate_that_has_expired_has_one_text_whatever_its_dates_are() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        for error in [
            CertificateError::Expired,
            CertificateError::ExpiredContext {
                time: at(2000),
                not_after: at(1000),
            },
        ] {
            let text = tls_text(&Error::InvalidCertificate(error));
            assert_eq!(text, "the certificate has expired");
        }
    }
}
