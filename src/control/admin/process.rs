//! The metrics of the process.

use std::time::SystemTime;

use super::exposition::{Exposition, Kind, seconds, timestamp};
use crate::os::process_usage::ProcessUsage;

/// Adds the metrics of this process, which started at `started`, with the names that all client libraries of Prometheus give them.
/// One that the system does not provide is missing.
pub fn render(started: SystemTime, text: &mut Exposition) {
    let usage = ProcessUsage::read();
    text.family(
        "process_cpu_seconds_total",
        Kind::Counter,
        "User and system time of the process in seconds.",
    );
    text.sample(&[], seconds(usage.cpu_time));
    text.family(
        "process_start_time_seconds",
        Kind::Gauge,
        "Unix time at which the process started.",
    );
    text.sample(&[], timestamp(started));
    let of_system = [
        (
            "process_resident_memory_bytes",
            "Resident memory in bytes.",
            usage.resident_bytes,
        ),
        (
            "process_open_fds",
            "Open file descriptors.",
            usage.open_descriptors,
        ),
        (
            "process_max_fds",
            "The most file descriptors that can be open.",
            usage.max_descriptors,
        ),
    ];
    for (name, help, value) in of_system {
        if let Some(value) = value {
            text.family(name, Kind::Gauge, help);
            text.sample(&[], value);
        }
    }
}
