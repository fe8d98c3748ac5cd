//! The options that say where the settings are, and who connects.

use std::path::PathBuf;

use clap::Args;

use super::error::Error;
use crate::settings::source::{Database, Host, Source};
use crate::settings::{Settings, Tls};

/// Where the settings are.
#[derive(Args)]
pub(super) struct ConfigOption {
    /// The settings file [env: POSTMAPD_FOLLOW_CONFIG]
    #[arg(
        long = "config",
        value_name = "FILE",
        env = "POSTMAPD_FOLLOW_CONFIG",
        hide_env = true,
        default_value = "/etc/postmapd/follow.toml"
    )]
    pub(super) path: PathBuf,
}

impl ConfigOption {
    /// Reads the settings and checks the files that they name.
    pub(super) fn read(&self) -> Result<Settings, Error> {
        let settings = Settings::read(&self.path).map_err(Error::Settings)?;
        settings.check_files().map_err(Error::Files)?;
        Ok(settings)
    }
}

/// Who connects to change the tables: the user of the settings reads them, and needs no other right.
#[derive(Args)]
pub(super) struct OwnerOptions {
    #[command(flatten)]
    config: ConfigOption,

    /// The database and the user that owns the tables, instead of the setting source; without a password
    #[arg(long, value_name = "URL")]
    source: Option<String>,

    /// The file with the password of this user, instead of the setting password_file
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl OwnerOptions {
    /// Returns the user of the setting source, which reads the tables.
    pub(super) fn reader(&self) -> Result<String, Error> {
        let path = &self.config.path;
        if !path.exists() {
            return Err(Error::NoReader(path.clone()));
        }
        let settings = Settings::read(path).map_err(Error::Settings)?;
        Ok(settings.source.user)
    }

    /// Reads the settings, with the source and the password file of the options. On the host of the database there may be no
    /// settings file; the options are enough there.
    pub(super) fn read(&self) -> Result<Settings, Error> {
        let path = &self.config.path;
        let settings = match &self.source {
            Some(source) if !path.exists() => {
                let source = Source::parse(source)?.to_string();
                Settings::parse(path, format!("source = {source:?}\n").as_bytes())
            }
            _ => Settings::read(path),
        };
        let mut settings = settings.map_err(Error::Settings)?;
        if settings.queries.is_some() {
            return Err(Error::NotOurSchema);
        }
        if let Some(source) = &self.source {
            settings.source = Source::parse(source)?;
            // The password of another user.
            settings.password_file = None;
            // `off` was for the hosts of the setting.
            if !settings.source.hosts.iter().all(Host::is_local) {
                settings.tls = Tls::VerifyFull;
            }
        }
        if settings.source.kind != Database::PostgreSql {
            return Err(Error::NotOurSchema);
        }
        if let Some(path) = &self.password_file {
            settings.password_file = Some(path.clone());
        }
        settings.check_files().map_err(Error::Files)?;
        Ok(settings)
    }
}
