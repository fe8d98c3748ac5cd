//! The machine of a run, without which no figure means anything.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use serde::Serialize;

use super::postmap::Postmap;

/// The load averages of one, five and fifteen minutes.
pub(crate) fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// Date, machine, versions and command line.
#[derive(Serialize)]
pub(crate) struct Machine {
    date: String,
    processor: String,
    cores: usize,
    gigabytes: f64,
    kernel: String,
    postmapd: &'static str,
    /// The commit that was built, if the source is in a repository.
    commit: Option<String>,
    rustc: String,
    postfix: Option<String>,
    load_before: String,
    load_after: String,
    command: String,
}

impl Machine {
    /// The present machine and time. `benchmark` is Cargo's name of the benchmark.
    pub(crate) fn seen(benchmark: &str, postmap: &Postmap, load_before: String) -> Self {
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpu
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kilobytes = memory
            .lines()
            .next()
            .and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        let arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
        let words: Vec<String> = ["cargo", "bench", "--bench", benchmark, "--"]
            .into_iter()
            .map(str::to_owned)
            .chain(arguments)
            .collect();
        Self {
            date: output_of(Command::new("date").arg("+%F")),
            processor: model.map_or("unknown CPU", |(_, model)| model).to_owned(),
            cores: thread::available_parallelism().map_or(0, usize::from),
            gigabytes: kilobytes.map_or(0.0, |kilobytes: f64| (kilobytes / 1024.0 / 1024.0).round()),
            kernel: kernel.trim().to_owned(),
            postmapd: env!("CARGO_PKG_VERSION"),
            commit: commit(),
            rustc: output_of(Command::new("rustc").arg("--version")),
            postfix: postmap.version.clone(),
            load_before,
            load_after: load(),
            command: words.join(" "),
        }
    }
}

/// In Markdown, which is also readable as text.
impl Display for Machine {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let commit = self.commit.as_deref();
        write!(
            f,
            "{date}, {processor}, {cores} cores, {gigabytes} GiB, Linux {kernel}; postmapd {postmapd}{commit}, {rustc}, \
             Postfix {postfix}.\n\
             Load averages before and after: {before} and {after}. (With {cores} cores, more than a few tenths before \
             means that others were at work.)\n\n    {command}\n",
            date = self.date,
            processor = self.processor,
            cores = self.cores,
            gigabytes = self.gigabytes,
            kernel = self.kernel,
            postmapd = self.postmapd,
            commit = commit.map(|commit| format!(" ({commit})")).unwrap_or_default(),
            rustc = self.rustc,
            postfix = self.postfix.as_deref().unwrap_or("not installed"),
            before = self.load_before,
            after = self.load_after,
            command = self.command,
        )
    }
}

/// The commit of the source directory, and whether files were changed since.
fn commit() -> Option<String> {
    let git = |arguments: &[&str]| {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR"));
        output_of(Command::new("git").arg("-C").arg(directory).args(arguments))
    };
    let commit = git(&["rev-parse", "--short", "HEAD"]);
    let changed = !git(&["status", "--porcelain", "--untracked-files=no"]).is_empty();
    let note = if changed { " and changes" } else { "" };
    (!commit.is_empty()).then(|| format!("commit {commit}{note}"))
}

fn output_of(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).trim().to_owned()
}
