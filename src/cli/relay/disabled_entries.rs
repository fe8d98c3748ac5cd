//! The disabled entries of both files, for the list.
//!
//! A reason from a file may be a part of a password, where a person wrote the comment. So it is shown only if no word of it
//! looks like a login.

use std::collections::HashMap;

use crate::lookup::address::{Delimiters, LookupKeys};
use crate::lookup::snapshot::Snapshot;
use crate::lookup::table::Table;
use crate::lookup::table::disabled;
use crate::os::printable::printable;

/// What is disabled for one sender.
#[derive(Default)]
pub(super) struct DisabledSender {
    /// Whether it has a relay map entry.
    pub(super) has_route: bool,
    /// The next hop of that entry; `None` for direct delivery.
    pub(super) next_hop: Option<Vec<u8>>,
    /// The user of the credentials.
    pub(super) user: Option<Vec<u8>>,
    /// Why; `None` if there is no reason, or none that can be shown.
    pub(super) reason: Option<String>,
}

/// All disabled entries.
#[derive(Default)]
pub(super) struct DisabledEntries {
    /// Their senders as written, in the order of the files.
    pub(super) senders: Vec<Vec<u8>>,
    by_key: HashMap<Vec<u8>, DisabledSender>,
    /// The next hops with disabled credentials, and their users.
    pub(super) next_hops: Vec<(Vec<u8>, Vec<u8>)>,
}

impl DisabledEntries {
    /// Finds those of the two tables.
    pub(super) fn find(snapshot: &Snapshot) -> Self {
        let mut found = Self::default();
        found.add(&snapshot.relay_map);
        found.add(&snapshot.credentials);
        found
    }

    fn add(&mut self, table: &Table) {
        let text = table.text();
        let is_secret = table.spec().is_secret();
        for entry in disabled::find_all(table.spec().format, text.expose()) {
            let Some(entry) = entry.entry else { continue };
            let keys = LookupKeys::of(entry.key, &Delimiters::default());
            let user = || entry.value.map(|login| user_of(login).to_vec());
            if !keys.is_sender() {
                self.next_hops
                    .push((entry.key.to_vec(), user().unwrap_or_default()));
                continue;
            }
            let sender = self.by_key.entry(keys.whole().to_vec()).or_insert_with(|| {
                self.senders.push(entry.key.to_vec());
                DisabledSender::default()
            });
            // The first of several is the one that is enabled.
            if is_secret && sender.user.is_none() {
                sender.user = user();
            } else if !is_secret && !sender.has_route {
                sender.has_route = true;
                sender.next_hop = entry.value.map(<[u8]>::to_vec);
            }
            let reason = Some(entry.reason).filter(|reason| can_be_shown(reason));
            sender.reason = sender.reason.take().or_else(|| reason.map(printable));
        }
    }

    /// Returns what is disabled for this sender, as written.
    pub(super) fn of(&self, sender: &[u8]) -> Option<&DisabledSender> {
        let keys = LookupKeys::of(sender, &Delimiters::default());
        self.by_key.get(keys.whole())
    }
}

impl DisabledSender {
    /// Returns it in words.
    pub(super) fn describe(&self) -> String {
        let route = match &self.next_hop {
            Some(next_hop) => printable(next_hop),
            None if self.has_route => "direct".to_owned(),
            None => "its credentials".to_owned(),
        };
        let user = self
            .user
            .as_ref()
            .map_or_else(String::new, |user| format!(" as {}", printable(user)));
        let reason = self
            .reason
            .as_ref()
            .map_or_else(String::new, |reason| format!(": {reason}"));
        format!("disabled: {route}{user}{reason}")
    }
}

/// Returns the user of a login.
fn user_of(login: &[u8]) -> &[u8] {
    let end = memchr::memchr(b':', login).unwrap_or_default();
    login.get(..end).unwrap_or_default()
}

/// Whether no word of a reason has text before and after a colon, as a login has.
fn can_be_shown(reason: &[u8]) -> bool {
    let is_login = |word: &[u8]| {
        let mut inner = word.iter().skip(1).rev().skip(1);
        inner.any(|c| *c == b':')
    };
    !reason.is_empty() && !reason.split(u8::is_ascii_whitespace).any(is_login)
}
