//! Checks the directory as a whole: nothing in it routes mail, or a file name is nearly that of a table.
//!
//! A file with a misspelt name is not read, and a missing table is an empty one, so nothing else would report it. The
//! server logs the same findings when it starts.
//!
//! Limits: the first [`MAX_NAMES`] names of a directory. A name that continues that of a table is taken for a copy, and
//! reported only if the table itself is missing.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use crate::config::Sources;
use crate::diagnostics::{Code, Finding, Findings};
use crate::lookup::address::LookupKeys;
use crate::lookup::routing::Routing;
use crate::lookup::snapshot::Snapshot;
use crate::lookup::table::grammar::Content;
use crate::lookup::table::spec::RELAY_TLS;

/// The maximum number of names of a directory that are checked.
const MAX_NAMES: usize = 10_000;

/// The maximum edit distance of a name that is nearly another, in characters.
const MAX_DISTANCE: usize = 3;

fn has_credentials_of_senders(snapshot: &Snapshot) -> bool {
    let mut keys = LookupKeys::default();
    let mut is_found = false;
    snapshot.credentials.for_each(|record| {
        keys.parse(record.key, &snapshot.delimiters);
        is_found |= keys.is_sender() && matches!(record.content, Content::Value(_));
    });
    is_found
}

/// Checks the directory of `sources`.
pub(crate) fn examine(sources: &Sources, snapshot: &Snapshot, findings: &mut Findings) {
    let dir = sources.dir();
    let tables = [&snapshot.relay_map, &snapshot.credentials];
    // A directory or table that cannot be read is reported already.
    if tables.iter().all(|table| table.is_certainly_empty())
        && !snapshot.default.is_set()
        && tables.iter().all(|table| table.findings().is_empty())
    {
        findings.push(
            Finding::in_file(Code::NothingRoutes, dir, None)
                .message("nothing here routes mail: both tables are empty, and there is no default relay")
                .help("add entries to the tables, name another directory with --dir, or set RELAY_HOST"),
        );
    }
    if snapshot.routing == Routing::Unknown && has_credentials_of_senders(snapshot) {
        findings.push(
            Finding::in_file(Code::NoNextHops, dir, None)
                .message(
                    "there are credentials of senders, but no relay map and no default relay: lookups of these \
                     credentials return a temporary error, and mail stays in the queue",
                )
                .help("write the relay map, set RELAY_HOST, or set next_hops = \"main.cf\" if main.cf sets the relays"),
        );
    }
    let read_files = [
        sources.relay_map(),
        sources.credentials(),
        sources.file(&RELAY_TLS),
        dir.join("postmapd.toml"),
    ];
    let Ok(entries) = fs::read_dir(dir) else { return };
    let mut names: Vec<_> = entries
        .take(MAX_NAMES)
        .filter_map(|entry| Some(entry.ok()?.file_name()))
        .collect();
    names.sort_unstable();
    for name in names {
        let near = read_files.iter().filter(|file| is_near_miss(&name, file));
        if let Some(intended) = near.min_by_key(|file| distance(&name, file)) {
            let intended = intended.file_name().unwrap_or_default().to_string_lossy();
            findings.push(
                Finding::in_file(Code::NearMissName, &dir.join(&name), None)
                    .message(format!(
                        "postmapd does not read this file, although its name is similar to {intended}"
                    ))
                    .help(format!(
                        "rename it to {intended}, or move it to another directory"
                    )),
            );
        }
    }
}

fn distance(name: &OsStr, file: &Path) -> usize {
    let file_name = file.file_name().unwrap_or_default();
    strsim::osa_distance(
        &name.to_string_lossy().to_lowercase(),
        &file_name.to_string_lossy(),
    )
}

/// Whether `name` is nearly the name of `file`, which is read.
fn is_near_miss(name: &OsStr, file: &Path) -> bool {
    let (Some(name), Some(file_name)) = (name.to_str(), file.file_name().and_then(OsStr::to_str)) else {
        return false;
    };
    if name == file_name || name.starts_with('.') || name.ends_with('~') {
        return false;
    }
    let folded = name.to_lowercase();
    if folded.starts_with(file_name) && folded != file_name {
        return !file.exists();
    }
    strsim::osa_distance(&folded, file_name) <= MAX_DISTANCE
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::path::Path;

    use super::is_near_miss;

    #[test]
    fn a_misspelt_name_is_a_near_miss_and_a_copy_or_another_file_is_not() {
        let near = |name: &str, file: &str| is_near_miss(OsStr::new(name), Path::new(file));
        for name in [
            "postfix-relay-map.cf",
            "postfix_relaymap.cf",
            "Postfix-RelayMap.cf",
            "postfix-relaymap.conf",
            "postfix-relaymap",
            "postfix-relaymaps.cf",
            // The table does not exist in the directory of the test.
            "postfix-relaymap.cf.txt",
        ] {
            assert!(near(name, "postfix-relaymap.cf"), "{name}");
        }
        assert!(near("postfix-sasl-passwd.cf", "postfix-sasl-password.cf"));
        for name in [
            "postfix-relaymap.cf",
            "postfix-relaymap.cf~",
            ".postfix-relaymap.cf.swp",
            "postfix-main.cf",
            "postfix-accounts.cf",
            "postfix-virtual.cf",
            "postmapd.env",
            "README.md",
        ] {
            assert!(!near(name, "postfix-relaymap.cf"), "{name}");
        }
    }
}
