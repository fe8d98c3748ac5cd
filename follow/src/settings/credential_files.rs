//! The files that the settings name: the password, certificates and a key.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use postmapd::os::printable::printable_path;
use postmapd::os::secret::Secret;
use postmapd::os::whole_file::{MAX_TEXT, ReadError, read_secret};
use thiserror::Error;

use super::Settings;

/// A file with a password or a key that every user can read or write. It is used nevertheless: a mounted secret of a container has such
/// a mode.
#[derive(Debug, Error)]
#[error(
    "{}: warning: the file of `{setting}` is open to all users; make it private with chmod 0600, or 0640 if only its group may read it",
    printable_path(path)
)]
pub struct OpenFile {
    /// The setting.
    pub setting: &'static str,
    /// The file.
    pub path: PathBuf,
}

/// Why a file that a setting names cannot be used.
#[derive(Debug, Error)]
#[error("{}: error: the file of `{setting}` {kind}", printable_path(path))]
pub struct CredentialFileError {
    /// The setting.
    pub setting: &'static str,
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub kind: CredentialFileErrorKind,
}

/// The kinds of [`CredentialFileError`].
#[derive(Debug, Error)]
pub enum CredentialFileErrorKind {
    /// The file cannot be read.
    #[error("cannot be read: {0}; create it, or let the user of postmapd-follow read it")]
    Unreadable(ReadError),
    /// The file is empty.
    #[error("is empty; write the password to it")]
    Empty,
    /// MariaDB and MySQL: the password is not UTF-8.
    #[error("is not UTF-8; change the password, because the client library takes no other bytes")]
    NotUtf8,
    /// There is more than a password.
    #[error("has several lines; write nothing to it but the password")]
    SeveralLines,
    /// The file has no such block of PEM.
    #[error("has no line `-----BEGIN {0}-----`; convert it to PEM")]
    NotPem(&'static str),
    /// The TLS library cannot use the file.
    #[error("is unusable: {0}; check that it is a PEM file, and complete")]
    Unusable(String),
}

impl Settings {
    /// Returns the password, if there is a file with one: without its line end.
    pub fn password(&self) -> Result<Option<Secret>, CredentialFileError> {
        let Some(path) = &self.password_file else {
            return Ok(None);
        };
        let error = |kind| error("password_file", path, kind);
        let mut password = read("password_file", path)?;
        password.strip_byte_order_mark();
        password.strip_line_end();
        if password.is_empty() {
            return Err(error(CredentialFileErrorKind::Empty));
        }
        if password.expose().iter().any(|c| matches!(c, b'\n' | b'\r' | 0)) {
            return Err(error(CredentialFileErrorKind::SeveralLines));
        }
        Ok(Some(password))
    }

    /// Checks all files that the settings name. Certificates are not parsed.
    ///
    /// # Errors
    ///
    /// An error for each file.
    pub fn check_files(&self) -> Result<(), Vec<CredentialFileError>> {
        let mut errors: Vec<_> = self.password().err().into_iter().collect();
        let pem = |setting, path: &Path, kind| {
            read(setting, path).and_then(|text| expect_pem(setting, path, &text, kind))
        };
        if let Some(ca) = &self.ca {
            errors.extend(pem("ca", ca, "CERTIFICATE").err());
        }
        if let Some((client_certificate, key)) = &self.client_certificate {
            errors.extend(pem("client_cert", client_certificate, "CERTIFICATE").err());
            errors.extend(pem("client_key", key, "PRIVATE KEY").err());
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Returns the files with a credential that every user can read or write.
    #[must_use]
    pub fn open_files(&self) -> Vec<OpenFile> {
        let password = self.password_file.iter().map(|path| ("password_file", path));
        let key = self.client_certificate.iter().map(|(_, key)| ("client_key", key));
        let is_open =
            |path: &Path| fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o007 != 0);
        password
            .chain(key)
            .filter(|(_, path)| is_open(path))
            .map(|(setting, path)| OpenFile {
                setting,
                path: path.clone(),
            })
            .collect()
    }
}

fn error(setting: &'static str, path: &Path, kind: CredentialFileErrorKind) -> CredentialFileError {
    CredentialFileError {
        setting,
        path: path.to_owned(),
        kind,
    }
}

fn read(setting: &'static str, path: &Path) -> Result<Secret, CredentialFileError> {
    read_secret(path, MAX_TEXT)
        .map_err(|kind| error(setting, path, CredentialFileErrorKind::Unreadable(kind)))
}

/// Checks that a file has a PEM block; `kind` is the end of its name, as in `EC PRIVATE KEY`.
fn expect_pem(
    setting: &'static str,
    path: &Path,
    text: &Secret,
    kind: &'static str,
) -> Result<(), CredentialFileError> {
    let is_begin = |line: &[u8]| {
        let name = line
            .strip_prefix(b"-----BEGIN ")
            .and_then(|line| line.trim_ascii_end().strip_suffix(b"-----"));
        name.is_some_and(|name| name.ends_with(kind.as_bytes()))
    };
    if text.expose().split(|c| *c == b'\n').any(is_begin) {
        return Ok(());
    }
    Err(error(setting, path, CredentialFileErrorKind::NotPem(kind)))
}
