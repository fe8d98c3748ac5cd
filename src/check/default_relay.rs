//! Checks the default relay: which of its three forms applies, and to which senders.
//!
//! `@*` of the relay map replaces `RELAY_HOST`, and neither applies to bounces. `DEFAULT_RELAY_HOST` does, unless `<>` has an
//! entry.

use std::path::Path;

use super::warning;
use crate::diagnostics::{Code, Finding, Findings, Place, Position};
use crate::lookup::address::{ANY_SENDER, NULL_SENDER};
use crate::lookup::snapshot::Snapshot;
use crate::lookup::table::Hit;
use crate::protocol::answer::Answer;

/// Checks the default relay of `snapshot`, whose relay map is the file `path`.
pub(super) fn examine(snapshot: &Snapshot, path: &Path, findings: &mut Findings) {
    let relay_map = &snapshot.relay_map;
    let of_any = relay_map.entry_hit(ANY_SENDER.into());
    let line = relay_map.locate([ANY_SENDER.into()]).map(|(_, line)| line);
    let bounces_have_entry = relay_map.entry_hit(NULL_SENDER.into()).is_some();
    if let Some(line) = line {
        for (_, variable) in snapshot.default.next_hops() {
            if variable == "RELAY_HOST" || bounces_have_entry {
                findings.push(unused(variable, line, bounces_have_entry));
            }
        }
    }
    let default = |has_domain| snapshot.default.next_hop(has_domain);
    if bounces_have_entry || !matches!(default(false), Answer::NotFound) {
        return;
    }
    let (place, name) = match (of_any, line) {
        (Some(Hit::Value(_)), Some(line)) => {
            let line = u32::try_from(line).unwrap_or(u32::MAX);
            let at = Position { line, column: 1 };
            (Place::File(path.to_owned(), Some(at)), "@*")
        }
        (None, _) if matches!(default(true), Answer::Found(_)) => {
            (Place::Setting("RELAY_HOST"), "RELAY_HOST")
        }
        _ => return,
    };
    findings.push(
        warning(Code::BouncesWithoutRelay)
            .at(place)
            .message(format!(
                "{name} applies only to senders with a domain; bounces have none and are delivered directly"
            ))
            .help(
                "add the line <> [host]:port to the relay map, or <> alone if direct delivery is intended; or set \
                 DEFAULT_RELAY_HOST, which also applies to bounces",
            ),
    );
}

/// Returns the warning about a variable that entries of the relay map replace, `@*` on this line among them.
fn unused(variable: &'static str, line: usize, bounces_have_entry: bool) -> Finding {
    let also = if variable != "RELAY_HOST" && bounces_have_entry {
        ", and <> has an entry"
    } else {
        ""
    };
    warning(Code::DefaultRelayUnused)
        .at(Place::Setting(variable))
        .message(format!(
            "{variable} is not used: line {line} of the relay map is the default relay (@*){also}"
        ))
        .help(
            "unset it, or remove that line; the login of @* has the next hop as its key, and RELAY_USER is for the next \
             hop of RELAY_HOST",
        )
}
