//! `postmapd relay list`: every sender with an entry, its next hop and its user.
//!
//! What is listed are the answers that Postfix would get, and not the lines of the files: the senders of the relay map
//! in its order, then those of the credentials file that it has not. A user that the file has for a sender and that no
//! answer names is shown too, with the reason. Where an answer cannot be told, the text says so, JSON leaves the sender
//! out, and the exit code is 1.

use std::collections::HashSet;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::Value;

use super::super::{Error, OutputFormat, REFUSED, say, say_environment};
use super::edit::MOST_ERRORS;
use super::standing::{self, Standing, Told};
use crate::check::logins;
use crate::config::Sources;
use crate::diagnostics::Severity;
use crate::lookup::address::{Delimiters, NULL_SENDER, SenderKeys};
use crate::lookup::nexthop;
use crate::lookup::snapshot::Snapshot;
use crate::lookup::table::{Hit, Table};
use crate::os::printable::printable;
use crate::source::evaluate;

/// One sender.
struct Row {
    sender: String,
    standing: Standing,
    excluded: bool,
    /// The user that the file has and that no lookup is answered with, and why.
    unused: Option<(Vec<u8>, &'static str)>,
    /// What is wrong with the user that Postfix is told.
    warning: Option<&'static str>,
}

pub(super) fn run(sources: &Sources, form: OutputFormat) -> Result<ExitCode, Error> {
    let loaded = evaluate::load(sources);
    let snapshot = &loaded.snapshot;
    let tables = [&snapshot.relay_map, &snapshot.credentials];
    let senders = senders(tables);
    let rows = senders.iter().map(|sender| Row::of(sender, snapshot));
    let mut out = BufWriter::new(io::stdout().lock());
    let printed = match form {
        OutputFormat::Text => print_text(rows, &mut out),
        OutputFormat::Json => print_json(rows, &mut out),
    };
    let all_sure = printed
        .and_then(|all_sure| out.flush().map(|()| all_sure))
        .map_err(Error::system("cannot print the list"))?;
    let needs_default = || {
        senders
            .iter()
            .any(|sender| standing::needs_default(sender, snapshot))
    };
    // For machines there is nothing on standard error where nothing is remarkable.
    let may_say = match form {
        OutputFormat::Text => !sources.environment.is_own(),
        OutputFormat::Json => sources.environment.needs_mention(),
    };
    if may_say && needs_default() {
        say_environment(sources);
    }
    // A line whose key cannot be read may be that of a sender.
    if all_sure && tables.into_iter().all(|table| table.is_complete()) {
        return Ok(ExitCode::SUCCESS);
    }
    let errors = loaded.findings.with_severity(Severity::Error);
    for finding in errors.take(MOST_ERRORS) {
        say(finding);
    }
    Ok(ExitCode::from(REFUSED))
}

/// Every sender that has an entry, once.
fn senders(tables: [&Arc<Table>; 2]) -> Vec<Vec<u8>> {
    let mut keys = SenderKeys::default();
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

/// Whether the entry that answers for a sender has no destination.
fn is_excluded(sender: &[u8], snapshot: &Snapshot) -> bool {
    let keys = SenderKeys::of(sender, &snapshot.delimiters);
    matches!(snapshot.relay_map.find(keys.in_order()), Hit::NoValue)
}

impl Row {
    fn of(sender: &[u8], snapshot: &Snapshot) -> Self {
        let standing = Standing::of(sender, snapshot);
        let excluded = is_excluded(sender, snapshot);
        let reason = match (&standing.next_hop, &standing.user) {
            (Told::None, Told::None) if excluded => Some("delivered directly"),
            (Told::None, Told::None) => Some("no next hop"),
            (Told::Is(_), Told::None) if sender == NULL_SENDER => {
                Some("Postfix asks for no credentials of the null sender")
            }
            _ => None,
        };
        let unused = reason.and_then(|reason| Some((standing::user_in_file(sender, snapshot)?, reason)));
        let warning = match (&standing.next_hop, &standing.user) {
            (Told::Is(list), Told::Is(_))
                if nexthop::has_several_operators(list)
                    && sender != NULL_SENDER
                    && logins::has_login_by_sender(snapshot, sender) =>
            {
                Some("offered to every relay of the list")
            }
            _ => None,
        };
        Self {
            sender: printable(sender),
            standing,
            excluded,
            unused,
            warning,
        }
    }

    fn user(&self) -> String {
        match (&self.standing.user, &self.unused, self.warning) {
            (Told::Is(user), _, Some(warning)) => format!("{} ({warning})", printable(user)),
            (Told::Is(user), _, None) => printable(user),
            (Told::None, Some((user, reason)), _) => format!("{} (not used: {reason})", printable(user)),
            (Told::None, None, _) => "-".to_owned(),
            (Told::Unsure(_), ..) => "cannot tell".to_owned(),
        }
    }

    fn is_sure(&self) -> bool {
        let unsure = |told: &Told| matches!(told, Told::Unsure(_));
        !unsure(&self.standing.next_hop) && !unsure(&self.standing.user)
    }

    fn cells(&self) -> [String; 3] {
        let cell = |told: &Told, none: &str| match told {
            Told::Is(text) => printable(text),
            Told::None => none.to_owned(),
            Told::Unsure(_) => "cannot tell".to_owned(),
        };
        let none = if self.excluded { "direct" } else { "-" };
        [
            self.sender.clone(),
            cell(&self.standing.next_hop, none),
            self.user(),
        ]
    }
}

/// The widest column to which cells are filled up, in characters: one long list of next hops does not make every line as
/// long, and the standard library fills up to 65 535.
const WIDEST: usize = 200;

/// Prints aligned columns; says whether every answer could be told.
fn print_text(rows: impl Iterator<Item = Row>, out: &mut impl Write) -> io::Result<bool> {
    let mut all_sure = true;
    let rows = rows
        .inspect(|row| all_sure &= row.is_sure())
        .map(|row| row.cells());
    let head = ["SENDER", "NEXT HOP", "USER"].map(ToOwned::to_owned);
    let lines: Vec<[String; 3]> = [head].into_iter().chain(rows).collect();
    if lines.len() == 1 {
        return Ok(true);
    }
    let width = |of: fn(&[String; 3]) -> &String| lines.iter().map(|line| of(line).chars().count()).max();
    let sender = width(|[sender, ..]| sender).unwrap_or_default().min(WIDEST);
    let next_hop = width(|[_, next_hop, _]| next_hop).unwrap_or_default().min(WIDEST);
    for [a, b, c] in &lines {
        writeln!(out, "{a:sender$}  {b:next_hop$}  {c}")?;
    }
    Ok(all_sure)
}

/// Prints an array, and leaves out what cannot be told; says whether every answer could be.
fn print_json(rows: impl Iterator<Item = Row>, out: &mut impl Write) -> io::Result<bool> {
    let quoted = |text: &str| Value::from(text).to_string();
    let told = |told: &Told| match told {
        Told::Is(text) => quoted(&String::from_utf8_lossy(text)),
        Told::None | Told::Unsure(_) => Value::Null.to_string(),
    };
    let mut all_sure = true;
    let mut before = "[\n  ";
    for row in rows {
        if !row.is_sure() {
            all_sure = false;
            continue;
        }
        let user = match (&row.standing.user, &row.unused) {
            (Told::None, Some((user, _))) => quoted(&String::from_utf8_lossy(user)),
            (user, _) => told(user),
        };
        write!(
            out,
            "{before}{{\"sender\": {}, \"nexthop\": {}, \"user\": {user}, \"excluded\": {}",
            quoted(&row.sender),
            told(&row.standing.next_hop),
            row.excluded
        )?;
        let unused = row.unused.as_ref().map(|(_, reason)| ("unused", *reason));
        let warning = row.warning.map(|warning| ("warning", warning));
        for (name, text) in unused.into_iter().chain(warning) {
            write!(out, ", \"{name}\": {}", quoted(text))?;
        }
        out.write_all(b"}")?;
        before = ",\n  ";
    }
    let end = if before.starts_with('[') { "[]\n" } else { "\n]\n" };
    out.write_all(end.as_bytes())?;
    Ok(all_sure)
}
