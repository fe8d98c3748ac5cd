//! A lookup: `postmap -q -` with many keys, less the same with one.
//!
//! `postmap` opens the table once, asks key after key, each when the former is answered, and prints what is found. Its
//! output goes to a file, so that nobody else runs meanwhile. The difference of the two runs is so many lookups, without
//! the process, the opening of the table and the connection; reading a key and printing the answer is in it, and is what
//! `static:` costs.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::apparatus::Result;
use crate::apparatus::entries::{self, Edition, scattered};
use crate::table::{Answers, Table, Way};

/// Keys, and what `postmap -q -` is to print.
pub(crate) struct Keys {
    file: PathBuf,
    expected: Vec<u8>,
    pub(crate) count: u64,
}

impl Keys {
    /// Makes up keys in an order that looks like chance, the first of them known: of four, three have an entry.
    ///
    /// Those that have none need more than one lookup in Postfix's own tables (without the extension, the domain), which
    /// `postmap` does not do: the benchmark asks for what is found at once, or not at all.
    pub(crate) fn write(folder: &Path, name: &str, entries: u64, count: u64) -> Result<Self> {
        let file = folder.join(format!("{name}.keys"));
        let mut out = BufWriter::new(File::create_new(&file)?);
        let mut expected = Vec::new();
        for number in 0..count {
            if number % 4 == 3 {
                writeln!(out, "{}", entries::stranger(number))?;
                continue;
            }
            let mut entry = scattered(number) % entries;
            if entries::is_domain(entry) {
                // There are two entries at least, and no two domains follow each other.
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

/// What a table is asked.
pub(crate) struct Questions {
    /// For how long a process takes to its first answer.
    pub(crate) one: Keys,
    /// For servers.
    pub(crate) few: Keys,
    /// For tables in the process of whoever asks.
    pub(crate) many: Keys,
}

impl Questions {
    /// Those for a table.
    pub(crate) fn of(&self, table: &Table) -> &Keys {
        if table.in_process() { &self.many } else { &self.few }
    }
}

/// Asks a table one key and many, on a quiet machine and beside a busy thread, and keeps how long that took.
pub(crate) fn measure(table: &mut Table, questions: &Questions) -> Result<()> {
    let times = one_and_many(table, questions).and_then(|quiet| {
        let busy = beside_busy_thread(|| one_and_many(table, questions))?;
        Ok((quiet, busy))
    });
    match times {
        Ok(((start, quiet), (_, busy))) => {
            table.starts.push(start);
            table.lookups.push(quiet);
            table.lookups_beside_busy_thread.push(busy);
            Ok(())
        }
        // Somebody else's server may fail; its row says so.
        Err(error) if matches!(table.way, Way::Elsewhere) => {
            table.skipped = Some(error.to_string());
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// How long one key takes with everything around it, and each of many without, in seconds.
fn one_and_many(table: &mut Table, questions: &Questions) -> Result<(f64, f64)> {
    let many = questions.of(table);
    let one = ask(table, &questions.one)?.as_secs_f64();
    let all = ask(table, many)?.as_secs_f64();
    Ok((one, (all - one) / (many.count - 1) as f64))
}

/// Does something while a thread computes, so that no processor has to be woken for each question.
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

/// Has `postmap` ask for the keys, compares what it prints, and says how long it ran.
pub(crate) fn ask(table: &mut Table, keys: &Keys) -> Result<Duration> {
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
    // 1 without a complaint is "none was found", which the comparison is about.
    if !complaint.is_empty() || !matches!(status.code(), Some(0 | 1)) {
        return Err(format!("postmap -q - {}: {status}: {}", table.endpoint, complaint.trim()).into());
    }
    let difference = difference(&fs::read(&output)?, &keys.expected);
    match (&table.way, difference) {
        // It answers the same to everybody.
        (Way::Constant, _) | (_, None) => {}
        (Way::Elsewhere, Some(difference)) => table.answers = Answers::Different(difference),
        (_, Some(difference)) => {
            return Err(format!("wrong answer from {}: {difference}", table.endpoint).into());
        }
    }
    Ok(took)
}

/// The first line that is not as it should be.
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

/// Asks a process that starts now for one key.
pub(crate) fn ask_for(table: &Table, key: &str) -> io::Result<String> {
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
