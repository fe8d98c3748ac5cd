//! `source.json`: where the files of a directory come from, and their digests.
//!
//! `postmapd serve` reports it in `/status`, on its page and as metrics, and `postmapd relay` refuses to edit such a directory.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::engine::State;

/// Where the files come from, and as of which state of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// The source, without a password.
    pub source: String,
    /// The state of its tables.
    pub state: State,
}

impl Provenance {
    /// Whether it is the same state of the same source. The time of a state is for people, and a source that does not say it
    /// has another one after each connect.
    pub(super) fn is_same_state(&self, other: &Self) -> bool {
        let identity = |of: &Self| (of.source.clone(), of.state.revision, of.state.version.clone());
        identity(self) == identity(other)
    }
}

/// The content of the file.
#[derive(Deserialize, Serialize)]
pub(super) struct SourceFile {
    source: String,
    revision: Option<u64>,
    version: String,
    committed: String,
    /// The digest of each file, by its name.
    pub(super) digests: BTreeMap<String, String>,
}

impl SourceFile {
    pub(super) fn new(provenance: &Provenance, digests: BTreeMap<String, String>) -> Self {
        Self {
            source: provenance.source.clone(),
            revision: provenance.state.revision,
            version: provenance.state.version.clone(),
            committed: humantime::format_rfc3339_millis(provenance.state.committed).to_string(),
            digests,
        }
    }

    /// Returns the provenance, or `None` if the time is not one.
    pub(super) fn provenance(&self) -> Option<Provenance> {
        Some(Provenance {
            source: self.source.clone(),
            state: State {
                revision: self.revision,
                version: self.version.clone(),
                committed: humantime::parse_rfc3339(&self.committed).ok()?,
            },
        })
    }
}
