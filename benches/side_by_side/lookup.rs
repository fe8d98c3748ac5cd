//! A lookup: `postmap -q -` with many keys, less the same with one.
//!
//! `postmap` opens the table once, looks up key after key, each after the answer to the one before, and prints what it
//! finds. Its output goes to a file, so that no reader runs meanwhile. The difference of the two runs is the time of
//! the lookups, without the process, the opening of the table and the connection. It includes reading a key and
//! printing the answer, which is the time for `static:`.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::apparatus::Result;
use crate::apparatus::entries::{self, Edition, scattered};
use crate::table::{Answers, Method, Table};

/// Keys, and the expected output of `postmap -q -`.
pub(crate) struct Keys {
    file: PathBuf,
    expected: Vec<u8>,
    pub(crate) count: u64,
}

impl Keys {
    /// Generates keys in pseudo-random order, the first of them known: three of four have an entry.
    ///
    /// Keys without one need more than one lookup in Postfix's own tables (without the extension, the domain), which
    /// `postmap` does not do: the benchmark uses keys that are found at once, or not at all.
    pub(crate) fn write(directory: &Path, name: &str, entries: u64, count: u64) -> Result<Self> {
        let file = directory.join(format!("{name}.keys"));
        let mut out = BufWriter::new(File::create_new(&file)?);
        let mut expected = Vec::new();
        for number in 0..count {
            if number % 4 == 3 {
                writeln!(out, "{}", entries::sender_without_entry(number))?;
                continue;
            }
            let mut entry = scattered(number) % entries;
            if entries::is_domain(entry) {
                // There are at least two entries, and no two domains follow each other.
                entry = if entry + 1 < entries { entry + 1 } else { entry - 1 };
            }
            let key = entries::key(entry);
            writeln!(out, "{key}")?;
            writeln!(expected, "{key}\t{}", Edition::First.next_hop(entry))?;
        }
        out.flush()?;
        Ok(Self {
            file,
            expected,
            count,
        })
    }
}

/// The keys for a table.
pub(crate) struct Requests {
    /// A single key, for the time of a process to its first answer.
    pub(crate) one: Keys,
    /// The keys for servers.
    pub(crate) few: Keys,
    /// The keys for tables in the client's process.
    pub(crate) many: Keys,
}

impl Requests {
    /// The keys for this table.
    pub(crate) fn of(&self, table: &Table) -> &Keys {
        if table.in_process() { &self.many } else { &self.few }
    }
}

/// Looks up one key and many, on an idle machine and beside a busy thread, and records how long that took.
pub(crate) fn measure(table: &mut Table, requests: &Requests) -> Result<()> {
    let times = time_of_one_and_many(table, requests).and_then(|baseline| {
        let busy = beside_busy_thread(|| time_of_one_and_many(table, requests))?;
        Ok((baseline, busy))
    });
    match times {
        Ok(((start, baseline), (_, busy))) => {
            table.starts.push(start);
            table.lookups.push(baseline);
            table.lookups_beside_busy_thread.push(busy);
            Ok(())
        }
        // An external server may fail; its row says so.
        Err(error) if matches!(table.method, Method::Elsewhere) => {
            table.skipped = Some(error.to_string());
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// The time of one key with everything around it, and of each of many without, in seconds.
fn time_of_one_and_many(table: &mut Table, requests: &Requests) -> Result<(f64, f64)> {
    let many = requests.of(table);
    let one = query(table, &requests.one)?.as_secs_f64();
    let all = query(table, many)?.as_secs_f64();
    Ok((one, (all - one) / (many.count - 1) as f64))
}

/// Runs `work` while a thread computes, so that no processor has to wake for each request.
fn beside_busy_thread<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        result
    })
}

/// Runs `postmap` with the keys, compares its output, and returns how long it ran.
pub(crate) fn query(table: &mut Table, keys: &Keys) -> Result<Duration> {
    let (output, errors) = (
        keys.file.with_extension("answers"),
        keys.file.with_extension("errors"),
    );
    let mut command = table.postmap();
    command
        .args(["-q", "-", &table.endpoint])
        .stdin(File::open(&keys.file)?)
        .stdout(File::create(&output)?)
        .stderr(File::create(&errors)?);
    let begun = Instant::now();
    let status = command.status()?;
    let took = begun.elapsed();
    let complaint = fs::read_to_string(&errors)?;
    // Exit code 1 without a message means "none was found", and the output is compared.
    if !complaint.is_empty() || !matches!(status.code(), Some(0 | 1)) {
        return Err(format!("postmap -q - {}: {status}: {}", table.endpoint, complaint.trim()).into());
    }
    let difference = difference(&fs::read(&output)?, &keys.expected);
    match (&table.method, difference) {
        // It gives every key the same answer.
        (Method::Constant, _) | (_, None) => {}
        (Method::Elsewhere, Some(difference)) => table.answers = Answers::Different(difference),
        (_, Some(difference)) => {
            return Err(format!("wrong answer from {}: {difference}", table.endpoint).into());
        }
    }
    Ok(took)
}

/// The first line that differs.
fn difference(printed: &[u8], expected: &[u8]) -> Option<String> {
    if printed == expected {
        return None;
    }
    let line = |line: Option<&[u8]>| line.unwrap_or(b"nothing").escape_ascii().to_string();
    let (mut printed, mut expected) = (printed.split(|&b| b == b'\n'), expected.split(|&b| b == b'\n'));
    loop {
        let pair = (printed.next(), expected.next());
        if pair.0 != pair.1 || pair.0.is_none() {
            return Some(format!("{} instead of {}", line(pair.0), line(pair.1)));
        }
    }
}

/// Looks up one key in a new process.
pub(crate) fn query_one(table: &Table, key: &str) -> io::Result<String> {
    let output = table
        .postmap()
        .args(["-q", key, &table.endpoint])
        .stdin(Stdio::null())
        .output()?;
    if !output.stderr.is_empty() {
        return Err(io::Error::other(
            String::from_utf8_lossy(&output.stderr).into_owned(),
        ));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}
