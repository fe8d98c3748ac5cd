//! The TLS of next hops: the arguments of `set-tls`, what takes effect after an edit, and the column of `list`.

use std::path::Path;

use serde_json::Value;

use super::RelayError;
use super::key::ArgumentError;
use crate::config::Sources;
use crate::diagnostics::Findings;
use crate::lookup::address::fold_into;
use crate::lookup::nexthop;
use crate::lookup::reason;
use crate::lookup::relay_tls::{Origin, RelayTls};
use crate::lookup::snapshot::Snapshot;
use crate::lookup::table::spec::RELAY_TLS;
use crate::lookup::table::{Table, key};
use crate::lookup::tls_policy::{self, Mode};
use crate::os::printable::{enumeration, printable};
use crate::os::secret::Secret;
use crate::protocol::answer::Reason;
use crate::source::evaluate;

/// Returns the key of an entry.
pub(super) fn entry_key(argument: &[u8]) -> Result<Vec<u8>, ArgumentError> {
    match key::validate(RELAY_TLS.format, argument) {
        // At the beginning of a line, `#` starts a comment.
        Ok(()) if !argument.is_empty() && !argument.starts_with(b"#") => Ok(argument.to_vec()),
        Ok(()) => Err(ArgumentError::NoNextHop),
        Err(error) => Err(ArgumentError::TlsKey(error.kind)),
    }
}

/// Returns the value of an entry from its words.
pub(super) fn entry_value<'a>(
    key: &[u8],
    words: impl Iterator<Item = &'a [u8]>,
) -> Result<Vec<u8>, ArgumentError> {
    let value = words.collect::<Vec<_>>().join(&b' ');
    if value.iter().any(u8::is_ascii_control) {
        return Err(ArgumentError::ControlInTls);
    }
    let setting = tls_policy::parse(&value).map_err(|error| ArgumentError::Tls(error.kind))?;
    if setting.conflicts_with(setting.mode_for(key)) {
        return Err(ArgumentError::Tls(tls_policy::TlsErrorKind::ImplicitWithoutTls));
    }
    Ok(value)
}

/// Rejects a text of the TLS file with an entry that does not fit a next hop that it applies to.
pub(super) fn reject_conflicts(sources: &Sources, text: &Secret) -> Result<(), RelayError> {
    let loaded = evaluate::load(sources);
    let tls = Table::build(&RELAY_TLS, Path::new(""), text.clone(), &mut Findings::default());
    let snapshot = &loaded.snapshot;
    let (_, conflicts) = RelayTls::new(
        &snapshot.relay_map,
        &snapshot.default,
        &tls,
        &loaded.settings.services,
    );
    let weak = conflicts.weak_policies;
    match weak.into_iter().find(|weak| weak.key.is_some()) {
        Some(weak) => Err(RelayError::WeakTls {
            next_hop: printable(&weak.next_hop),
        }),
        None => Ok(()),
    }
}

/// How mail to a next hop is encrypted.
pub(in crate::cli) struct HopTls {
    pub(in crate::cli) next_hop: Vec<u8>,
    pub(in crate::cli) mode: Mode,
    pub(in crate::cli) policy: Vec<u8>,
    /// The service that the entry names.
    service: Option<String>,
}

impl HopTls {
    /// Looks up a next hop, whether a sender has it or not.
    pub(in crate::cli) fn find(next_hop: &[u8], snapshot: &Snapshot) -> Result<Self, Reason> {
        let mut folded = Vec::new();
        fold_into(next_hop, &mut folded);
        let setting = snapshot.tls_decision(&folded)?.setting;
        let mode = setting.mode_for(&folded);
        if setting.conflicts_with(mode) {
            return Err(reason::WEAK_TLS);
        }
        Ok(Self {
            next_hop: next_hop.to_vec(),
            mode,
            policy: match setting.policy {
                Some(policy) => policy.text.into(),
                None => tls_policy::computed(next_hop, mode).to_vec(),
            },
            service: setting.service.map(|service| service.to_string()),
        })
    }

    /// Looks up all next hops of a list.
    pub(in crate::cli) fn find_all(list: &[u8], snapshot: &Snapshot) -> Result<Vec<Self>, Reason> {
        let mut all = nexthop::elements(list).map(|next_hop| Self::find(next_hop, snapshot));
        let all = all.by_ref().collect::<Result<_, _>>()?;
        // Where main.cf uses the map transport, no mail leaves if the elements need different services.
        let is_configured = snapshot
            .table(&RELAY_TLS)
            .is_some_and(|table| !table.is_certainly_empty());
        if is_configured || snapshot.default.has_tls() {
            snapshot.relay_tls.service(list)?;
        }
        Ok(all)
    }

    /// Returns it as a JSON object. Names and meaning are an interface.
    pub(super) fn to_json(&self) -> String {
        let quoted = |text: &[u8]| Value::from(String::from_utf8_lossy(text)).to_string();
        let service = self.service.as_ref();
        format!(
            "{{\"nexthop\": {}, \"mode\": {}, \"policy\": {}{}}}",
            quoted(&self.next_hop),
            quoted(self.mode.name().as_bytes()),
            quoted(&self.policy),
            service.map_or_else(String::new, |service| format!(
                ", \"service\": {}",
                quoted(service.as_bytes())
            ))
        )
    }

    /// Returns the mode and the level.
    pub(super) fn summary(&self) -> String {
        let level = self.policy.split(|c| matches!(c, b' ' | b'\t' | b',')).next();
        format!("{} {}", self.mode.name(), printable(level.unwrap_or_default()))
    }
}

/// Returns what is effective for the key of an entry after an edit, without the key, and the warning about it.
pub(super) fn summarize(key: &[u8], snapshot: &Snapshot) -> (String, Option<String>) {
    let mut folded = Vec::new();
    fold_into(key, &mut folded);
    let is_host =
        key == b"*" || !(key.starts_with(b"[") || key.contains(&b':')) || nexthop::is_bare_ipv6(key);
    if is_host && !snapshot.relay_tls.has_next_hop(&folded) {
        let applies = |next_hop: &&[u8]| {
            let decision = snapshot.tls_decision(next_hop);
            decision.is_ok_and(|decision| decision.origin == Origin::Entry(folded.as_slice().into()))
        };
        let mut next_hops: Vec<String> = snapshot
            .relay_tls
            .next_hops()
            .filter(applies)
            .map(printable)
            .collect();
        next_hops.sort();
        return if next_hops.is_empty() {
            ("applies to no next hop".to_owned(), None)
        } else {
            (format!("applies to {}", enumeration(&next_hops, "and")), None)
        };
    }
    let line = match HopTls::find(key, snapshot) {
        Ok(tls) => {
            let via = tls.service.as_ref().map(|service| format!(" via={service}"));
            format!(
                "{} {}{}",
                tls.mode.name(),
                printable(&tls.policy),
                via.unwrap_or_default()
            )
        }
        Err(reason) => format!("the TLS policy is unknown: {reason}"),
    };
    let warning = (!snapshot.relay_tls.has_next_hop(&folded)).then(|| {
        format!(
            "warning: no sender has the next hop {}; write it as in the relay map, or give a domain this next hop",
            printable(key)
        )
    });
    (line, warning)
}
