//! `/explain`: why the running server gives an answer, as JSON. Names and meaning are an interface (contract).

use std::path::Path;
use std::time::SystemTime;

use humantime::format_rfc3339_millis;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::View;
use super::query::{EncodingError, parameter};
use crate::lookup::explain::object::{ExplanationObject, Presentation, lossy};
use crate::lookup::explain::{Reader, explain};
use crate::lookup::search::Scratch;
use crate::os::printable::enumeration;

/// An explanation by a running server.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct ServerExplanation {
    /// The explanation. Logins are masked as a whole.
    #[serde(flatten)]
    pub explanation: ExplanationObject,
    /// The snapshot that it is of.
    #[serde(flatten)]
    pub snapshot: SnapshotState,
}

/// The active snapshot, compared with the files.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct SnapshotState {
    /// The number of the snapshot, from 1.
    pub generation: u64,
    /// Since when it has been active, in RFC 3339 format, in UTC.
    pub loaded: String,
    /// For how many seconds it has been active.
    pub age_seconds: u64,
    /// The files that differ from it on disk, or have changed since the last read.
    pub differing_files: Vec<String>,
}

impl SnapshotState {
    /// Returns the state as of now. `text` makes text of paths. Reads metadata of files.
    pub(super) fn new(view: &View, text: fn(&Path) -> String) -> Self {
        // Before the snapshot: a reload in between makes a file differ for a moment longer than it does, never shorter.
        let differing_files = view.reload_status.differing_files();
        let generation = view.active_snapshot.load().generation;
        let active_since = view.reload_status.report().active_since;
        let age = SystemTime::now().duration_since(active_since);
        Self {
            generation,
            loaded: format_rfc3339_millis(active_since).to_string(),
            // If the clock was set back, a past time may be in the future.
            age_seconds: age.unwrap_or_default().as_secs(),
            differing_files: differing_files.iter().map(|path| text(path)).collect(),
        }
    }
}

/// Why a request has no explanation.
#[derive(Debug, Error)]
pub(super) enum ExplainError {
    /// A parameter is missing.
    #[error("the query must have both parts, percent-encoded: /explain?map=MAP&key=KEY")]
    Missing,
    /// A parameter cannot be decoded.
    #[error(transparent)]
    Encoding(#[from] EncodingError),
    /// The map does not exist.
    #[error("there is no such map; the maps are {0}")]
    NoSuchMap(String),
}

/// Returns the explanation that this query asks for.
pub(super) fn answer(view: &View, query: Option<&str>) -> Result<ServerExplanation, ExplainError> {
    let (Some(map), Some(key)) = (parameter(query, "map")?, parameter(query, "key")?) else {
        return Err(ExplainError::Missing);
    };
    let maps = view.counters.maps();
    let Some((_, map)) = maps.named(&map) else {
        return Err(ExplainError::NoSuchMap(enumeration(&maps.names(), "and")));
    };
    let state = SnapshotState::new(view, |path| path.to_string_lossy().into_owned());
    let snapshot = view.active_snapshot.load_full();
    let mut scratch = Scratch::default();
    let explanation = explain(&snapshot, map, &key, &mut scratch);
    let presentation = Presentation {
        directory: &view.directory,
        reader: Reader::AdminClient,
        text: lossy,
    };
    Ok(ServerExplanation {
        explanation: ExplanationObject::new(&snapshot, &explanation, presentation),
        snapshot: SnapshotState {
            generation: snapshot.generation,
            ..state
        },
    })
}
