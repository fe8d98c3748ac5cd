//! The rows of the tables, in Markdown.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

/// A figure beside its goal.
pub(crate) struct Row {
    test: Option<u32>,
    what: String,
    goal: String,
    measured: String,
}

/// Returns the row of a test of the plan.
pub(crate) fn row(test: u32, what: &str, goal: &str, measured: String) -> Row {
    Row {
        test: Some(test),
        what: what.to_owned(),
        goal: goal.to_owned(),
        measured,
    }
}

/// Returns the row of a constant of the model.
pub(crate) fn point(what: &str, measured: String) -> Row {
    Row {
        test: None,
        what: what.to_owned(),
        goal: String::new(),
        measured,
    }
}

pub(crate) fn print_head() {
    println!("| test | what | goal | measured |\n|---:|---|---|---|");
}

impl Display for Row {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let test = self.test.map(|test| test.to_string()).unwrap_or_default();
        write!(
            f,
            "| {test} | {} | {} | {} |",
            self.what, self.goal, self.measured
        )
    }
}

pub(crate) fn milliseconds(duration: Duration) -> String {
    let milliseconds = duration.as_secs_f64() * 1e3;
    if milliseconds < 10.0 {
        format!("{milliseconds:.1} ms")
    } else if milliseconds < 10_000.0 {
        format!("{milliseconds:.0} ms")
    } else {
        format!("{:.1} s", milliseconds / 1e3)
    }
}

/// The load averages of one, five and fifteen minutes.
pub(crate) fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// The machine of the run, without which no figure means anything.
pub(crate) fn machine() -> String {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let output = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        output.map_or_else(
            |_| "unknown".to_owned(),
            |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        )
    };
    let info = text("/proc/cpuinfo");
    let processor = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let postgres = crate::database::postgres::programs().join("postgres");
    format!(
        "{}, {}, {} cores, Linux {}; postmapd {} (commit {}), {}, {}. Load averages at the start: {}",
        output("date", &["-u", "+%F"]),
        processor.map_or("unknown processor", |(_, model)| model),
        thread::available_parallelism().map_or(0, usize::from),
        text("/proc/sys/kernel/osrelease").trim(),
        env!("CARGO_PKG_VERSION"),
        output("git", &["rev-parse", "--short", "HEAD"]),
        output("rustc", &["--version"]),
        output(postgres.to_str().unwrap(), &["--version"]),
        load(),
    )
}
