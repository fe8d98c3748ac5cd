//! `source.json`: where the files of a directory come from, and their digests.
//!
//! `postmapd serve` reports it in `/status`, on its page and as metrics, and `postmapd relay` refuses to edit such a directory.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// Where the files come from, and as of which state of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// The source, without a password.
    pub source: String,
    /// The number of the state, for people, if the source counts its states. After a failover it may use a number again for
    /// other rows.
    pub revision: Option<u64>,
    /// The identity of the state: equal for equal rows only.
    pub version: String,
    /// When the source committed it.
    pub committed: SystemTime,
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
            revision: provenance.revision,
            version: provenance.version.clone(),
            committed: humantime::format_rfc3339_millis(provenance.committed).to_string(),
            digests,
        }
    }

    /// Returns the provenance, or `None` if the time is not one.
    pub(super) fn provenance(&self) -> Option<Provenance> {
        Some(Provenance {
            source: self.source.clone(),
            revision: self.revision,
            version: self.version.clone(),
            committed: humantime::parse_rfc3339(&self.committed).ok()?,
        })
    }
}
