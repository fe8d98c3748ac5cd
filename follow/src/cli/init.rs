//! `postmapd-follow init`: creates the tables of postmapd.

use std::process::ExitCode;

use clap::Args;

use super::config::OwnerOptions;
use super::error::Error;
use super::print;
use super::runtime::block_on;
use crate::engine::Engine;
use crate::engine::postgres::Postgres;
use crate::schema;
use crate::settings::Settings;

/// What the statements are called in errors.
const WHAT: &str = "the creation of the tables";

#[derive(Args)]
#[command(after_help = "\
Prints the statements that create the tables relay, credential and relay_tls in the schema (setting schema) with their triggers, and \
that give the user in source the right to read them. With --apply, it runs them in one transaction; the user then needs the right \
to create a schema, so name the owner of the database with --source.

A schema that exists is not changed.

Exit codes: 0 printed, created, or there already, 1 errors, 2 usage, 75 the source cannot be reached.

Examples:
  postmapd-follow init | psql mail
  postmapd-follow init --apply --source postgres://owner@db.example.com/mail --password-file /etc/postmapd/owner-password")]
pub(super) struct Init {
    /// Run the statements
    #[arg(long)]
    apply: bool,

    /// The user that reads the tables, if it is not the one in the setting source
    #[arg(long, value_name = "ROLE")]
    reader: Option<String>,

    #[command(flatten)]
    owner: OwnerOptions,
}

impl Init {
    pub(super) fn run(&self) -> ExitCode {
        self.init().unwrap_or_else(|error| error.of_owner().print())
    }

    fn init(&self) -> Result<ExitCode, Error> {
        let settings = self.owner.read()?;
        let reader = match &self.reader {
            Some(reader) => reader.clone(),
            None => self.owner.reader()?,
        };
        let ddl = schema::ddl(&settings.schema, Some(&reader));
        let text = if self.apply { create(&settings, &ddl)? } else { ddl };
        print(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Runs the statements, and returns what to print.
fn create(settings: &Settings, ddl: &str) -> Result<String, Error> {
    let mut engine = Postgres::new(settings)?;
    let name = &settings.schema;
    block_on(async {
        let mut connection = engine.connect().await?;
        // The name has no quotes (the setting `schema`).
        let query = format!("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = '{name}'");
        let exists = !connection.texts(WHAT, &query, 1).await?.is_empty();
        if exists {
            return Ok(format!("the schema {name} exists, and was not changed\n"));
        }
        connection.execute(WHAT, ddl).await?;
        Ok(format!("created the schema {name}\n"))
    })?
}
