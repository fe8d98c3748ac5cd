//! The CPU time of processes, from /proc.
//!
//! `/proc/PID/task/*/schedstat` has nanoseconds for each thread, but forgets threads that end. `/proc/PID/stat` has the
//! whole process, in ticks of usually 10 ms. The first is used if the threads are the same before and after, otherwise
//! the second.
//!
//! A server may answer in processes that it starts, for example one for each connection. They are included
//! (`/proc/PID/task/*/children`, if the kernel has it, as those of distributions do), except those that end before the
//! measurement does.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use super::number::{round, to_f64};

/// The CPU time that processes have used up to a moment.
pub(super) struct CpuTimes {
    processes: BTreeMap<u32, Process>,
}

#[derive(Default)]
struct Process {
    /// User and system time of the process, in nanoseconds.
    total: u64,
    /// The threads, by id.
    threads: Vec<Thread>,
    /// The child processes that have not ended.
    children: Vec<u32>,
}

/// The time that a thread has run, and waited for a processor, in nanoseconds.
struct Thread {
    id: u32,
    running: u64,
    waiting: u64,
}

/// The CPU time between two moments, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CpuUsage {
    /// The time of running.
    pub running: u64,
    /// The time of waiting for a processor while ready to run.
    pub waiting: u64,
}

impl CpuTimes {
    /// Reads the CPU time of these processes and their descendants. Fails if one of `pids` does not exist.
    pub(super) fn read(pids: &[u32]) -> io::Result<Self> {
        let mut processes = BTreeMap::new();
        for pid in pids {
            processes.insert(*pid, Process::read(*pid)?);
        }
        let children = |process: &Process| process.children.clone();
        let mut started: Vec<u32> = processes.values().flat_map(children).collect();
        while let Some(pid) = started.pop() {
            if processes.contains_key(&pid) {
                continue;
            }
            // It may have ended since it was listed.
            if let Ok(process) = Process::read(pid) {
                started.extend(&process.children);
                processes.insert(pid, process);
            }
        }
        Ok(Self { processes })
    }

    /// Returns the CPU time used, and the time spent waiting for a processor, since `before`. Processes that have ended do
    /// not count.
    pub(super) fn usage_since(&self, before: &Self) -> CpuUsage {
        let mut usage = CpuUsage::default();
        // A process that started after `before` had used nothing.
        let new = Process::default();
        for (pid, process) in &self.processes {
            let earlier = before.processes.get(pid).unwrap_or(&new);
            let ids = |process: &Process| process.threads.iter().map(|thread| thread.id).collect::<Vec<_>>();
            if !process.threads.is_empty() && ids(process) == ids(earlier) {
                for (thread, earlier) in process.threads.iter().zip(&earlier.threads) {
                    usage.running += thread.running.saturating_sub(earlier.running);
                    usage.waiting += thread.waiting.saturating_sub(earlier.waiting);
                }
            } else {
                // The times of threads that have ended are lost. Those of the process do not include waiting.
                usage.running += process.total.saturating_sub(earlier.total);
            }
        }
        usage
    }
}

impl Process {
    fn read(pid: u32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let ticks = parse_ticks(&stat).ok_or(io::ErrorKind::InvalidData)?;
        let second = to_f64(rustix::param::clock_ticks_per_second().max(1));
        // Threads start and end while the directory is read: one that cannot be read has ended.
        let mut threads = Vec::new();
        let mut children = Vec::new();
        for task in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
            let id = task.file_name().to_str().and_then(|name| name.parse().ok());
            let schedstat = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            let mut fields = schedstat.split_ascii_whitespace().map(str::parse);
            if let (Some(id), Some(Ok(running)), Some(Ok(waiting))) = (id, fields.next(), fields.next()) {
                threads.push(Thread { id, running, waiting });
            }
            let started = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            let numbers = started.split_ascii_whitespace();
            children.extend(numbers.filter_map(|number| number.parse::<u32>().ok()));
        }
        threads.sort_unstable_by_key(|thread| thread.id);
        Ok(Self {
            total: round(to_f64(ticks) * 1e9 / second),
            threads,
            children,
        })
    }
}

/// Returns utime + stime of proc(5), in ticks. The name in parentheses may contain whitespace and parentheses.
fn parse_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let utime: u64 = fields.next()?.parse().ok()?;
    let stime: u64 = fields.next()?.parse().ok()?;
    Some(utime + stime)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::thread;
    use std::time::{Duration, Instant};

    use super::{CpuTimes, parse_ticks};

    #[test]
    fn cpu_time_is_parsed_after_any_process_name() {
        let stat = "42 (a ) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 17 4 0 0 20 0 1 0 100 1000 10";
        assert_eq!(parse_ticks(stat), Some(21));
        assert_eq!(parse_ticks("42"), None);
    }

    #[test]
    fn the_cpu_time_of_a_busy_process_grows() {
        let me = [std::process::id()];
        let before = CpuTimes::read(&me).unwrap();
        let mut work = 0_u64;
        loop {
            work = std::hint::black_box(work.wrapping_mul(31).wrapping_add(1));
            if work.is_multiple_of(1024) && CpuTimes::read(&me).unwrap().usage_since(&before).running > 0 {
                break;
            }
        }
        assert!(CpuTimes::read(&[u32::MAX]).is_err());
    }

    #[test]
    fn the_cpu_time_of_child_processes_is_included() {
        // Works in a child process until standard input ends, while the measured process waits.
        let mut shell = Command::new("sh")
            .args(["-c", "(while :; do :; done) & read line; kill $!; wait"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = [shell.id()];
        let before = CpuTimes::read(&pid).unwrap();
        let started_at = Instant::now();
        while CpuTimes::read(&pid).unwrap().usage_since(&before).running < 20_000_000 {
            assert!(started_at.elapsed() < Duration::from_secs(20));
            thread::sleep(Duration::from_millis(1));
        }
        drop(shell.stdin.take());
        shell.wait().unwrap();
    }
}
