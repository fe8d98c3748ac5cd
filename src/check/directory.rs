//! What is odd about the directory as a whole: nothing in it routes, or a file is there whose name is nearly that of a
//! table.
//!
//! A file with a misspelt name is not read, and a missing table is an empty one, so that nothing else would tell. The
//! server says the same at its start.
//!
//! Limits: of a directory the first `AT_MOST` names are looked at. Names that are a table's with something behind it
//! are taken for copies, and reported only where the table itself is missing.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use crate::config::Sources;
use crate::diagnostics::{Code, Finding, Findings};
use crate::lookup::address::SenderKeys;
use crate::lookup::routing::Routing;
use crate::lookup::snapshot::Snapshot;
use crate::lookup::table::grammar::Content;

/// How many names of a directory are looked at.
const AT_MOST: usize = 10_000;

/// How many letters may be wrong in a name that is nearly another.
const NEAR: usize = 3;

fn has_credentials_of_senders(snapshot: &Snapshot) -> bool {
    let mut keys = SenderKeys::default();
    let mut has = false;
    snapshot.credentials.for_each(|record| {
        keys.parse(record.key, &snapshot.delimiters);
        has |= keys.is_sender() && matches!(record.content, Content::Value(_));
    });
    has
}

/// What is to be said about the directory of `sources`.
pub(crate) fn examine(sources: &Sources, snapshot: &Snapshot, findings: &mut Findings) {
    let dir = sources.dir();
    let tables = [&snapshot.relay_map, &snapshot.credentials];
    // Where the directory or a table cannot be read, that is said already.
    if tables.iter().all(|table| table.is_certainly_empty())
        && !snapshot.default.is_set()
        && tables.iter().all(|table| table.findings().is_empty())
    {
        findings.push(
            Finding::in_file(Code::NothingRoutes, dir, None)
                .message("nothing here routes mail: there is no entry in either table and no default relay")
                .help("write the tables into this directory, name another with --dir, or set RELAY_HOST"),
        );
    }
    if snapshot.routing == Routing::Unknown && has_credentials_of_senders(snapshot) {
        findings.push(
            Finding::in_file(Code::NoNextHops, dir, None)
                .message(
                    "there are credentials of senders, and no relay map and no default relay: they are answered with a \
                     temporary error, and mail waits",
                )
                .help("write the relay map, set RELAY_HOST, or set next_hops = \"main.cf\" if main.cf has the relays"),
        );
    }
    let own = [
        sources.relay_map(),
        sources.credentials(),
        dir.join("postmapd.toml"),
    ];
    let Ok(entries) = fs::read_dir(dir) else { return };
    let mut names: Vec<_> = entries
        .take(AT_MOST)
        .filter_map(|entry| Some(entry.ok()?.file_name()))
        .collect();
    names.sort_unstable();
    for name in names {
        if let Some(meant) = own.iter().find(|own| is_near(&name, own)) {
            let meant = meant.file_name().unwrap_or_default().to_string_lossy();
            findings.push(
                Finding::in_file(Code::NearMissName, &dir.join(&name), None)
                    .message(format!("the file is not read: its name is nearly {meant}"))
                    .help(format!("rename it to {meant}, or move it to another directory")),
            );
        }
    }
}

/// Whether a name is nearly that of `own`, a file that is read.
fn is_near(name: &OsStr, own: &Path) -> bool {
    let (Some(name), Some(own_name)) = (name.to_str(), own.file_name().and_then(OsStr::to_str)) else {
        return false;
    };
    if name == own_name || name.starts_with('.') || name.ends_with('~') {
        return false;
    }
    let folded = name.to_lowercase();
    if folded.starts_with(own_name) && folded != own_name {
        return !own.exists();
    }
    strsim::osa_distance(&folded, own_name) <= NEAR
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::path::Path;

    use super::is_near;

    #[test]
    fn a_misspelt_name_is_near_and_a_copy_or_another_file_is_not() {
        let near = |name: &str, own: &str| is_near(OsStr::new(name), Path::new(own));
        for name in [
            "postfix-relay-map.cf",
            "postfix_relaymap.cf",
            "Postfix-RelayMap.cf",
            "postfix-relaymap.conf",
            "postfix-relaymap",
            "postfix-relaymaps.cf",
            // There is no such table in the directory of the test.
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
