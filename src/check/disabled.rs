//! Checks the comments that hold disabled entries: one that cannot be enabled is not what it seems to be.

use std::path::Path;

use super::warning;
use crate::diagnostics::{Code, Findings, Place, Position};
use crate::lookup::table::Table;
use crate::lookup::table::disabled;

/// Warns of each malformed one in the file `path` of this table.
pub(super) fn examine(table: &Table, path: &Path, findings: &mut Findings) {
    let text = table.text();
    let all = disabled::find_all(table.spec().format, text.expose());
    for disabled in all.iter().filter(|disabled| disabled.entry.is_none()) {
        let at = Position {
            line: disabled.number,
            column: 1,
        };
        findings.push(
            warning(Code::BadDisabledEntry)
                .at(Place::File(path.to_owned(), Some(at)))
                .message("the comment starts like a disabled entry, and has no valid entry after a `|`")
                .help(
                    "write `# postmapd:disabled REASON | ENTRY`, with a reason without `|` or with none, or begin the \
                     comment with another word",
                ),
        );
    }
}
