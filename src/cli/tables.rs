//! The tables as a server that started now would have them, for the commands that answer from the files.

use super::{EX_USAGE, Error};
use crate::config::Sources;
use crate::config::options::Options;
use crate::diagnostics::Findings;
use crate::lookup::address::SenderKeys;
use crate::lookup::search::Scratch;
use crate::lookup::snapshot::Snapshot;
use crate::source::evaluate;

/// The files and the environment, read for this once.
pub(super) struct Tables {
    /// Where they come from.
    pub(super) sources: Sources,
    /// What answers.
    pub(super) snapshot: Snapshot,
    /// Memory for a lookup.
    pub(super) keys: SenderKeys,
    pub(super) scratch: Scratch,
    /// What is wrong with them.
    pub(super) findings: Findings,
}

impl Tables {
    /// Reads them. Wrong settings are an error of usage; what is wrong with the tables is answered as the server
    /// would.
    pub(super) fn read(options: &Options) -> Result<Self, Error> {
        let mut findings = Findings::default();
        let sources = Sources::for_command(options.clone(), &mut findings);
        sources.check_variables(&mut findings);
        evaluate::read_settings(&sources, &mut findings);
        Error::if_any(findings, EX_USAGE)?;
        let loaded = evaluate::load(&sources);
        Ok(Self {
            sources,
            snapshot: loaded.snapshot,
            keys: SenderKeys::default(),
            scratch: Scratch::default(),
            findings: loaded.findings,
        })
    }
}
