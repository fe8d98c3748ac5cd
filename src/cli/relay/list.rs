//! `postmapd relay list`: every sender with an entry, its next hop, its TLS and its user.
//!
//! It lists the answers that Postfix would get, and not the lines of the files: the senders of the relay map in its
//! order, then the other senders of the credentials file. A user that the file has for a sender and that no answer
//! contains is listed too, with the reason, and so is a disabled entry, beside the answers without it. If an answer is *cannot tell*, the text says so, JSON omits the sender, and
//! the exit code is 1.

use std::collections::HashSet;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::{Value, json};

use super::super::{EXIT_REJECTED, Error, OutputFormat, print_environment, print_message};
use super::MAX_ERRORS_SHOWN;
use super::disabled_entries::{DisabledEntries, DisabledSender};
use super::effective::{self, EffectiveRoute, Resolved};
use super::tls::HopTls;
use crate::check::logins;
use crate::config::Sources;
use crate::diagnostics::Severity;
use crate::lookup::address::{Delimiters, LookupKeys, NULL_SENDER};
use crate::lookup::nexthop;
use crate::lookup::snapshot::Snapshot;
use crate::lookup::table::{Hit, Table};
use crate::os::printable::printable;
use crate::protocol::answer::Reason;
use crate::source::evaluate;

/// A line of the list.
struct Row<'d> {
    sender: String,
    route: EffectiveRoute,
    /// The TLS of each of its next hops; empty if it has none.
    tls: Result<Vec<HopTls>, Reason>,
    excluded: bool,
    /// The user that the file has and no answer contains, and the reason.
    unused: Option<(Vec<u8>, &'static str)>,
    /// A warning about the user that Postfix gets.
    warning: Option<&'static str>,
    /// What is disabled for the sender.
    disabled: Option<&'d DisabledSender>,
}

pub(super) fn run(sources: &Sources, format: OutputFormat) -> Result<ExitCode, Error> {
    let loaded = evaluate::load(sources);
    let snapshot = &loaded.snapshot;
    let tables = [&snapshot.relay_map, &snapshot.credentials];
    let disabled = DisabledEntries::find(snapshot);
    let mut senders = senders(tables);
    let folded = |sender: &Vec<u8>| LookupKeys::of(sender, &Delimiters::default()).whole().to_vec();
    let listed: HashSet<Vec<u8>> = senders.iter().map(folded).collect();
    let others = disabled
        .senders
        .iter()
        .filter(|sender| !listed.contains(&folded(sender)));
    senders.extend(others.cloned());
    let rows = senders.iter().map(|sender| Row::of(sender, snapshot, &disabled));
    let mut out = BufWriter::new(io::stdout().lock());
    let printed = match format {
        OutputFormat::Text => print_text(rows, &mut out),
        OutputFormat::Json => print_json(rows, &mut out),
    };
    let all_known = printed
        .and_then(|all_known| out.flush().map(|()| all_known))
        .map_err(Error::system("cannot print the list"))?;
    for (next_hop, user) in &disabled.next_hops {
        print_message(format_args!(
            "disabled: the credentials of {} ({})",
            printable(next_hop),
            printable(user)
        ));
    }
    let depends_on_default = || {
        senders
            .iter()
            .any(|sender| effective::depends_on_default(sender, snapshot))
    };
    // With JSON, standard error stays empty unless something is remarkable.
    let may_print_environment = match format {
        OutputFormat::Text => !sources.environment.is_own(),
        OutputFormat::Json => sources.environment.needs_mention(),
    };
    if may_print_environment && depends_on_default() {
        print_environment(sources);
    }
    // A line whose key cannot be read may be that of a sender.
    if all_known && tables.into_iter().all(|table| table.is_complete()) {
        return Ok(ExitCode::SUCCESS);
    }
    let errors = loaded.findings.with_severity(Severity::Error);
    for finding in errors.take(MAX_ERRORS_SHOWN) {
        print_message(finding);
    }
    Ok(ExitCode::from(EXIT_REJECTED))
}

/// Returns every sender that has an entry, once.
pub(in crate::cli) fn senders(tables: [&Arc<Table>; 2]) -> Vec<Vec<u8>> {
    let mut keys = LookupKeys::default();
    let (mut in_order, mut seen) = (Vec::new(), HashSet::new());
    for table in tables {
        table.for_each(|record| {
            keys.parse(record.key, &Delimiters::default());
            if keys.is_sender() && seen.insert(keys.whole().to_vec()) {
                in_order.push(record.key.to_vec());
            }
        });
    }
    in_order
}

/// Whether the entry that decides about a sender has no next hop.
fn is_excluded(sender: &[u8], snapshot: &Snapshot) -> bool {
    let keys = LookupKeys::of(sender, &snapshot.delimiters);
    matches!(snapshot.relay_map.find_all(&keys), Hit::NoValue)
}

impl<'d> Row<'d> {
    fn of(sender: &[u8], snapshot: &Snapshot, disabled: &'d DisabledEntries) -> Self {
        let route = EffectiveRoute::find(sender, snapshot);
        let excluded = is_excluded(sender, snapshot);
        let reason = match (&route.next_hop, &route.user) {
            (Resolved::None, Resolved::None) if excluded => Some("delivered directly"),
            (Resolved::None, Resolved::None) => Some("no next hop"),
            (Resolved::Value(_), Resolved::None) if sender == NULL_SENDER => {
                Some("Postfix looks up no credentials of the null sender")
            }
            _ => None,
        };
        let unused = reason.and_then(|reason| Some((effective::stored_user(sender, snapshot)?, reason)));
        let warning = match (&route.next_hop, &route.user) {
            (Resolved::Value(list), Resolved::Value(_))
                if nexthop::has_several_operators(list)
                    && sender != NULL_SENDER
                    && logins::has_login_by_sender(snapshot, sender) =>
            {
                Some("offered to every relay in the list")
            }
            _ => None,
        };
        let tls = match &route.next_hop {
            Resolved::Value(list) => HopTls::find_all(list, snapshot),
            Resolved::None | Resolved::CannotTell(_) => Ok(Vec::new()),
        };
        Self {
            sender: printable(sender),
            route,
            tls,
            excluded,
            unused,
            warning,
            disabled: disabled.of(sender),
        }
    }

    fn user(&self) -> String {
        let user = self.user_in_use();
        match self.disabled {
            Some(disabled) => format!("{user} ({})", disabled.describe()),
            None => user,
        }
    }

    fn user_in_use(&self) -> String {
        match (&self.route.user, &self.unused, self.warning) {
            (Resolved::Value(user), _, Some(warning)) => format!("{} ({warning})", printable(user)),
            (Resolved::Value(user), _, None) => printable(user),
            (Resolved::None, Some((user, reason)), _) => format!("{} (not used: {reason})", printable(user)),
            (Resolved::None, None, _) => "-".to_owned(),
            (Resolved::CannotTell(_), ..) => "cannot tell".to_owned(),
        }
    }

    fn is_known(&self) -> bool {
        let is_unknown = |value: &Resolved| matches!(value, Resolved::CannotTell(_));
        !is_unknown(&self.route.next_hop) && !is_unknown(&self.route.user)
    }

    /// Returns the mode and the level of each next hop, each pair once.
    fn tls(&self) -> String {
        match &self.tls {
            Ok(all) if all.is_empty() => "-".to_owned(),
            Ok(all) => {
                let mut summaries: Vec<String> = all.iter().map(HopTls::summary).collect();
                summaries.dedup();
                summaries.join(", ")
            }
            Err(_) => "cannot tell".to_owned(),
        }
    }

    fn cells(&self) -> [String; 4] {
        let cell = |value: &Resolved, none: &str| match value {
            Resolved::Value(text) => printable(text),
            Resolved::None => none.to_owned(),
            Resolved::CannotTell(_) => "cannot tell".to_owned(),
        };
        let none = if self.excluded { "direct" } else { "-" };
        let next_hop = cell(&self.route.next_hop, none);
        [self.sender.clone(), next_hop, self.tls(), self.user()]
    }
}

/// The maximum width to which a column is padded, in characters: one long list of next hops does not lengthen every
/// line, and the standard library pads to 65,535 at most.
const MAX_COLUMN_WIDTH: usize = 200;

/// Prints aligned columns. Returns whether no answer is *cannot tell*.
fn print_text<'d>(rows: impl Iterator<Item = Row<'d>>, out: &mut impl Write) -> io::Result<bool> {
    let mut all_known = true;
    let rows = rows
        .inspect(|row| all_known &= row.is_known() && row.tls.is_ok())
        .map(|row| row.cells());
    let header = ["SENDER", "NEXT HOP", "TLS", "USER"].map(ToOwned::to_owned);
    let lines: Vec<[String; 4]> = [header].into_iter().chain(rows).collect();
    if lines.len() == 1 {
        return Ok(true);
    }
    let width = |of: fn(&[String; 4]) -> &String| {
        let widths = lines.iter().map(|line| of(line).chars().count());
        widths.max().unwrap_or_default().min(MAX_COLUMN_WIDTH)
    };
    let sender = width(|[sender, ..]| sender);
    let next_hop = width(|[_, next_hop, ..]| next_hop);
    let tls = width(|[_, _, tls, _]| tls);
    for [a, b, c, d] in &lines {
        writeln!(out, "{a:sender$}  {b:next_hop$}  {c:tls$}  {d}")?;
    }
    Ok(all_known)
}

/// Prints an array without the senders whose next hop or user is *cannot tell*; an unknown TLS is null. Returns whether all is known.
fn print_json<'d>(rows: impl Iterator<Item = Row<'d>>, out: &mut impl Write) -> io::Result<bool> {
    let quoted = |text: &str| Value::from(text).to_string();
    let value = |value: &Resolved| match value {
        Resolved::Value(text) => quoted(&String::from_utf8_lossy(text)),
        Resolved::None | Resolved::CannotTell(_) => Value::Null.to_string(),
    };
    let mut all_known = true;
    let mut before = "[\n  ";
    for row in rows {
        if !row.is_known() {
            all_known = false;
            continue;
        }
        let user = match (&row.route.user, &row.unused) {
            (Resolved::None, Some((user, _))) => quoted(&String::from_utf8_lossy(user)),
            (user, _) => value(user),
        };
        all_known &= row.tls.is_ok();
        let tls = match &row.tls {
            Ok(all) => {
                let objects: Vec<String> = all.iter().map(HopTls::to_json).collect();
                format!("[{}]", objects.join(", "))
            }
            Err(_) => Value::Null.to_string(),
        };
        write!(
            out,
            "{before}{{\"sender\": {}, \"nexthop\": {}, \"user\": {user}, \"excluded\": {}, \"tls\": {tls}",
            quoted(&row.sender),
            value(&row.route.next_hop),
            row.excluded
        )?;
        let unused = row.unused.as_ref().map(|(_, reason)| ("unused", *reason));
        let warning = row.warning.map(|warning| ("warning", warning));
        for (name, text) in unused.into_iter().chain(warning) {
            write!(out, ", \"{name}\": {}", quoted(text))?;
        }
        if let Some(disabled) = row.disabled {
            write!(
                out,
                ", \"disabled\": true, \"disabled_entry\": {}",
                disabled_json(disabled)
            )?;
        }
        out.write_all(b"}")?;
        before = ",\n  ";
    }
    let end = if before.starts_with('[') { "[]\n" } else { "\n]\n" };
    out.write_all(end.as_bytes())?;
    Ok(all_known)
}

/// Returns the object of a disabled entry.
fn disabled_json(disabled: &DisabledSender) -> Value {
    let text = |text: &Option<Vec<u8>>| {
        text.as_ref()
            .map(|text| String::from_utf8_lossy(text).into_owned())
    };
    json!({
        "nexthop": text(&disabled.next_hop),
        "excluded": disabled.has_route && disabled.next_hop.is_none(),
        "user": text(&disabled.user),
        "reason": disabled.reason,
    })
}
