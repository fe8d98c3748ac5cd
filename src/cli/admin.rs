//! The running server, as the commands reach it: over its admin listener.
//!
//! `/status` says of each file which version the server has read last, and whether it is active. A command compares that
//! with the file on disk ([`PresentVersion::of`]): by the metadata that identify a version ([`VersionId`]), which say
//! nothing about the content; or, for a file without credentials, by its digest, which also works where a file system
//! keeps no inode numbers. The generation is not compared, because another edit can have caused it.

use std::io;
use std::path::Path;

use super::{EX_USAGE, Error};
use crate::config::options::{Options, ServiceOptions};
use crate::config::setting;
use crate::config::{DEFAULT_ADMIN, Sources};
use crate::control::admin::client::{self, AdminError, AdminErrorKind, Reply};
use crate::control::admin::status::{FileStatus, Status};
use crate::diagnostics::{Code, Finding, Findings};
use crate::lookup::table::spec::TableSpec;
use crate::net::address::Address;
use crate::os::digest;
use crate::os::version_id::VersionId;
use crate::os::whole_file;
use crate::source::evaluate;

/// The admin listener of the running server.
pub(super) struct AdminListener {
    address: Address,
    /// Whether it is configured: otherwise it is the default address.
    is_configured: bool,
}

impl AdminListener {
    /// Finds it as the server does: by the flag, the variable or the settings file. Errors of other settings do not matter:
    /// the server still has its active ones.
    pub(super) fn find(options: &Options, flag: Option<&String>) -> Result<Self, Error> {
        let mut findings = Findings::default();
        let service = ServiceOptions::from_admin_flag(flag.cloned());
        let sources = Sources::unchecked(options.clone(), service, &mut findings);
        let settings = evaluate::read_settings(&sources, &mut findings);
        if let Some(address) = settings.admin {
            return Ok(Self {
                address,
                is_configured: true,
            });
        }
        let mut relevant = Findings::default();
        let is_about_admin =
            |finding: &&Finding| matches!(finding.code, Code::BadAdminAddress | Code::SettingsUnreadable);
        findings
            .iter()
            .filter(is_about_admin)
            .for_each(|finding| relevant.push(finding.clone()));
        Error::fail_on_errors(relevant, EX_USAGE)?;
        let address = Address::parse(DEFAULT_ADMIN)
            .map_err(|_| Error::system(setting::ADMIN.about)(io::ErrorKind::InvalidInput.into()))?;
        Ok(Self {
            address,
            is_configured: false,
        })
    }

    /// Requests a path.
    pub(super) fn get(&self, path: &str) -> Result<Reply, AdminError> {
        client::get(&self.address, path)
    }

    /// Requests the status.
    pub(super) fn status(&self) -> Result<Status, AdminError> {
        self.parse_status(&self.get("/status")?)
    }

    /// Parses the response to `/status`.
    pub(super) fn parse_status(&self, reply: &Reply) -> Result<Status, AdminError> {
        let status = match reply.code {
            200 => serde_json::from_slice(&reply.body).ok(),
            _ => None,
        };
        status.ok_or_else(|| self.error(AdminErrorKind::NotAdmin))
    }

    pub(super) fn error(&self, kind: AdminErrorKind) -> AdminError {
        AdminError {
            address: self.address.clone(),
            kind,
        }
    }

    /// Describes an error of a request, and what to set if no address is configured.
    pub(super) fn describe(&self, error: &AdminError) -> String {
        if self.is_configured {
            return error.to_string();
        }
        format!(
            "no admin listener is configured, and the default address does not answer: {error}\nset admin = \
             \"{DEFAULT_ADMIN}\" (or \"unix:PATH\") in postmapd.toml and restart the server, or set {variable} or \
             --admin to the address that the server was started with",
            variable = setting::ADMIN.variable.unwrap_or_default()
        )
    }

    /// Returns its address, as the setting is written.
    pub(super) fn address(&self) -> String {
        self.address.setting_value()
    }
}

/// Returns the help text of --admin: the same address as the server's, for a client.
pub(super) fn admin_help() -> String {
    let variable = setting::ADMIN.variable.unwrap_or_default();
    format!(
        "The server's admin listener, HOST:PORT or unix:PATH [env: {variable}] [default: {DEFAULT_ADMIN}]"
    )
}

/// Returns what a status says about this table.
pub(super) fn table_status<'s>(status: &'s Status, table: &TableSpec) -> Option<&'s FileStatus> {
    let mut files = status.files.iter();
    files.find(|file| file.map.as_deref() == Some(table.label))
}

/// What the server has done with the present version of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PresentVersion {
    /// It is active.
    Active,
    /// It was read and is not active, or is active with errors.
    Invalid,
    /// It was not read yet, or waits for another file.
    Pending,
}

impl PresentVersion {
    /// Compares the file at `path` with what the server said about it before.
    pub(super) fn of(file: &FileStatus, path: &Path) -> Self {
        let is_read = file.stat == VersionId::read(path).map(|version| version.to_string());
        match file.valid {
            true if is_read || has_digest(file, path) => Self::Active,
            false if is_read => Self::Invalid,
            _ => Self::Pending,
        }
    }
}

/// Whether the file at `path` has the digest of the active version. A keyed digest cannot be computed here.
fn has_digest(file: &FileStatus, path: &Path) -> bool {
    let Some(active) = file
        .digest
        .as_ref()
        .filter(|digest| digest.starts_with("sha256:"))
    else {
        return false;
    };
    whole_file::read(path).is_ok_and(|present| digest::plain([present.text.expose()]) == *active)
}
