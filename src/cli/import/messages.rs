//! The messages of an import, and the names of the tables that they are about.

use std::io::{self, Write};

use super::super::Error;
use crate::lookup::nexthop;
use crate::lookup::table::key;
use crate::lookup::table::spec::CREDENTIALS;
use crate::os::printable::printable;
use crate::postfix::import::convert::{PASSWORDS, Remark};
use crate::postfix::import::tls::POLICIES;

/// The tables of each list, as main.cf names them.
pub(super) struct TableNames {
    pub(super) relays: Vec<String>,
    pub(super) passwords: Vec<String>,
    pub(super) policies: Vec<String>,
}

/// The messages for standard error, all printed before anything is written.
#[derive(Default)]
pub(super) struct Messages {
    lines: Vec<String>,
    pub(super) is_rejected: bool,
}

impl Messages {
    pub(super) fn note(&mut self, text: impl Into<String>) {
        self.lines.push(text.into());
    }

    pub(super) fn reject(&mut self, text: impl Into<String>) {
        self.is_rejected = true;
        self.lines.push(text.into());
    }

    pub(super) fn remark(&mut self, remark: &Remark, tables: &TableNames) {
        let list = match remark.parameter {
            PASSWORDS => &tables.passwords,
            POLICIES => &tables.policies,
            _ => &tables.relays,
        };
        let table = remark.table.checked_sub(1).and_then(|at| list.get(at));
        let table = table.map_or("", String::as_str);
        // What is neither a sender nor a next hop may be a misplaced password.
        let is_key = key::validate(CREDENTIALS.format, &remark.key).is_ok();
        let is_next_hop = || nexthop::validate(&remark.key).is_ok();
        let key = if is_key && (!remark.key.contains(&b':') || is_next_hop()) {
            printable(&remark.key)
        } else {
            "(key not shown)".to_owned()
        };
        // The name of a table inside main.cf is its content.
        let table = match table.strip_prefix("proxy:").unwrap_or(table).split_once(':') {
            Some((kind @ ("inline" | "static"), _)) => format!("table {} ({kind}:)", remark.table),
            _ => table.to_owned(),
        };
        let key = if remark.key.is_empty() {
            String::new()
        } else {
            key + ": "
        };
        let line = format!("{}: {table}: {key}{}", remark.parameter, remark.text);
        if remark.is_error {
            self.reject(line);
        } else {
            self.note(line);
        }
    }

    pub(super) fn print(&self) -> Result<(), Error> {
        let mut err = io::stderr().lock();
        let mut print = || {
            for line in &self.lines {
                writeln!(err, "postmapd: {}", printable(line.as_bytes()))?;
            }
            if self.is_rejected {
                writeln!(err, "postmapd: nothing was written")?;
            }
            Ok(())
        };
        print().map_err(Error::system("cannot print"))
    }
}
