//! Where it ran: without this no figure means anything.

use std::fs;
use std::process::Command;
use std::thread;

use super::postmap::Postmap;

/// The load averages of one, five and fifteen minutes.
pub(crate) fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// Date, machine, versions and command line, in Markdown.
pub(crate) fn describe(postmap: &Postmap, load_before: &str) -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown CPU", |(_, model)| model);
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory
        .lines()
        .next()
        .and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    let gigabytes: f64 = memory.map_or(0.0, |kilobytes: f64| kilobytes / 1024.0 / 1024.0);
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    format!(
        "{date}, {model}, {cores} cores, {gigabytes:.0} GiB, Linux {kernel}; postmapd {ours}, {rustc}, Postfix {postfix}.\n\
         Load averages before and after: {load_before} and {load_after}. (With {cores} cores, more than a few tenths before \
         means that others were at work.)\n\n    cargo bench --bench reload -- {arguments}\n",
        date = said(Command::new("date").arg("+%F")),
        kernel = kernel.trim(),
        ours = env!("CARGO_PKG_VERSION"),
        rustc = said(Command::new("rustc").arg("--version")),
        postfix = postmap.version.as_deref().unwrap_or("not installed"),
        load_after = load(),
        arguments = arguments.join(" "),
    )
}

fn said(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).trim().to_owned()
}
