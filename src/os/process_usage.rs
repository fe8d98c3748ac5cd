//! What this process uses of the system: memory, processor time and file descriptors.
//!
//! The sources are readable in the sandbox: it restricts no reading, clock_gettime(2) and getrlimit(2) are allowed, and
//! a process may always list its own descriptors, even if it is not dumpable (proc(5)).
//!
//! Limits: what the system does not provide is missing, for example without a mounted /proc. To count the descriptors,
//! all of them are listed, which takes a millisecond for some thousand.

use std::fs;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};
use rustix::param::page_size;
use rustix::time::{ClockId, clock_gettime};

/// What this process uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessUsage {
    /// The resident memory in bytes, shared pages included.
    pub resident_bytes: Option<u64>,
    /// The user and system time of all its threads, ended ones included.
    pub cpu_time: Duration,
    /// The number of open file descriptors.
    pub open_descriptors: Option<u64>,
    /// The maximum number of open file descriptors: the soft limit.
    pub max_descriptors: Option<u64>,
}

impl ProcessUsage {
    /// Reads it.
    pub(crate) fn read() -> Self {
        let cpu_time = clock_gettime(ClockId::ProcessCPUTime);
        Self {
            resident_bytes: fs::read_to_string("/proc/self/statm")
                .ok()
                .and_then(|statm| resident_bytes(&statm)),
            cpu_time: Duration::try_from(cpu_time).unwrap_or_default(),
            open_descriptors: open_descriptors(),
            max_descriptors: getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft),
        }
    }
}

/// Returns the resident memory from the text of /proc/PID/statm, whose second number is in pages.
fn resident_bytes(statm: &str) -> Option<u64> {
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    pages.checked_mul(page_size().try_into().ok()?)
}

/// Returns the number of open descriptors, without the one that lists them.
fn open_descriptors() -> Option<u64> {
    let entries = fs::read_dir("/proc/self/fd").ok()?;
    let count = entries.flatten().count();
    u64::try_from(count.saturating_sub(1)).ok()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::Instant;

    use super::{ProcessUsage, page_size, resident_bytes};

    #[test]
    fn memory_is_the_second_number_in_pages() {
        let page = u64::try_from(page_size()).unwrap();
        assert_eq!(resident_bytes("5000 7 3 1 0 9 0\n"), Some(7 * page));
        for text in ["", "5000", "5000 x", "1 18446744073709551615"] {
            assert_eq!(resident_bytes(text), None, "{text}");
        }
    }

    #[test]
    fn descriptors_and_processor_time_are_those_of_this_process() {
        // Other tests open files too, at the same time, but not as many.
        let files: Vec<File> = (0..200).map(|_| File::open("/dev/null").unwrap()).collect();
        let before = ProcessUsage::read();
        let open = before.open_descriptors.unwrap();
        assert!(
            open >= 200 && open <= before.max_descriptors.unwrap(),
            "{before:?}"
        );
        assert!(before.resident_bytes.unwrap() > 100_000, "{before:?}");
        drop(files);
        let begun = Instant::now();
        let mut usage = before;
        while usage.cpu_time == before.cpu_time && begun.elapsed().as_secs() < 20 {
            usage = ProcessUsage::read();
        }
        assert!(usage.cpu_time > before.cpu_time);
    }
}
