//! The tables as a server that starts now has them, for the commands that answer from the files.

use super::{EX_USAGE, Error};
use crate::config::Sources;
use crate::config::options::Options;
use crate::diagnostics::Findings;
use crate::lookup::address::LookupKeys;
use crate::lookup::search::Scratch;
use crate::lookup::snapshot::Snapshot;
use crate::source::evaluate;

/// The files and the environment, read once.
pub(super) struct Tables {
    pub(super) sources: Sources,
    pub(super) snapshot: Snapshot,
    /// Memory for lookups.
    pub(super) keys: LookupKeys,
    pub(super) scratch: Scratch,
    /// The findings about the files and the environment.
    pub(super) findings: Findings,
}

impl Tables {
    /// Reads them. Invalid settings are a usage error; for invalid tables, lookups answer as on the server.
    pub(super) fn read(options: &Options) -> Result<Self, Error> {
        let mut findings = Findings::default();
        let sources = Sources::for_command(options.clone(), &mut findings);
        sources.check_variables(&mut findings);
        evaluate::read_settings(&sources, &mut findings);
        Error::fail_on_errors(findings, EX_USAGE)?;
        let loaded = evaluate::load(&sources);
        Ok(Self {
            sources,
            snapshot: loaded.snapshot,
            keys: LookupKeys::default(),
            scratch: Scratch::default(),
            findings: loaded.findings,
        })
    }
}
