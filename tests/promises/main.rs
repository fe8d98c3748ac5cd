//! The promises of postmapd, each in a separate file, tested on the built binary.
//!
//! The tests use `postmapd` as Postfix or an administrator does: over its sockets and on its command line. Oracles are
//! independent programs and libraries: Postfix itself, `postmap`, the `netstring` crate.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on must fail, loudly and at the line where it happened"
)]

mod access;
mod admin;
mod against_server;
mod bench_command;
mod blocked_log;
mod cases;
mod check_command;
mod claims;
mod clients;
mod container;
mod contrib;
mod costs;
mod defects;
mod defects_of_other_servers;
mod directory_source;
mod environment;
mod explain_command;
mod explain_of_server;
mod framing;
mod grammar;
mod guides;
mod harness;
mod import_command;
mod in_flight;
mod invalid_tables;
mod limits;
mod log_messages;
mod manual;
mod monitoring;
mod packages;
mod page;
mod postconf_command;
mod probe_command;
mod query_command;
mod readme;
mod real_postfix;
mod relay_cases;
mod relay_command;
mod reload_changes;
mod reload_failures;
mod reload_holes;
mod reload_memory;
mod reload_soak;
mod reload_waits;
mod reload_without_events;
mod same_as_postmap;
mod sandbox;
mod search;
mod secrets;
mod service_manager;
mod setting_definitions;
mod setting_texts;
mod settings;
mod sockets;
mod status_command;
mod system_faults;
mod three_answers;
mod tls_relays;
mod units;
mod untrusted_text;
