//! Limits of qmgr(8) that a main.cf has for one service, by its name, and that therefore do not apply to the services for
//! relays.

use super::config::PostfixConfig;
use super::relay_services::RelayService;

/// The ends of the names of these parameters (`postconf(5)`: *transport*_destination_concurrency_limit).
const SUFFIXES: [&str; 8] = [
    "_destination_concurrency_failed_cohort_limit",
    "_destination_concurrency_limit",
    "_destination_concurrency_negative_feedback",
    "_destination_concurrency_positive_feedback",
    "_destination_rate_delay",
    "_destination_recipient_limit",
    "_initial_destination_concurrency",
    "_transport_rate_delay",
];

/// Returns the parameters of main.cf for the service `direct` that have no counterpart for `relay`, each with the
/// counterpart.
pub(super) fn missing(config: &PostfixConfig, direct: &str, relay: &RelayService) -> Vec<(String, String)> {
    let names = SUFFIXES
        .iter()
        .map(|suffix| (format!("{direct}{suffix}"), format!("{}{suffix}", relay.name)));
    let is_set = |name: &str| config.written_in_main_cf(name).is_some();
    names
        .filter(|(direct, own)| is_set(direct) && !is_set(own))
        .collect()
}
