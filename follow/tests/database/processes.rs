//! Processes of the tests: their user, their signals, and waiting for something.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

/// How long something that must happen may take on a slow, loaded machine.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until `condition` returns something.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The user and the group of a database server, which refuses to run as root. `None`: those of the test.
pub fn owner() -> Option<(u32, u32)> {
    static OWNER: LazyLock<Option<(u32, u32)>> = LazyLock::new(|| {
        let id = |arguments: &[&str]| {
            let output = Command::new("id").args(arguments).output().unwrap();
            assert!(output.status.success(), "id {arguments:?} failed");
            let text = String::from_utf8(output.stdout).unwrap();
            text.trim().parse::<u32>().unwrap()
        };
        (id(&["-u"]) == 0).then(|| (id(&["-u", "postgres"]), id(&["-g", "postgres"])))
    });
    *OWNER
}

/// Runs the command as the user of the database server.
pub fn as_owner(command: &mut Command) -> &mut Command {
    match owner() {
        Some((user, group)) => command.uid(user).gid(group),
        None => command,
    }
}

/// Runs a command to its end and returns what it prints.
///
/// # Panics
///
/// It fails.
pub fn run(command: &mut Command) -> String {
    try_run(command).unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Runs a command to its end and returns what it prints, or what it prints as errors.
pub fn try_run(command: &mut Command) -> Result<String, String> {
    let output = command
        .output()
        .map_err(|error| format!("it cannot be started: {error}"))?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr))
    }
}

/// Sends a signal, for example `STOP`. A process that has ended is no error.
pub fn signal(pid: u32, name: &str) {
    // The command of the shell, because not every system has the program.
    let mut kill = Command::new("sh");
    let _ = kill
        .args(["-c", &format!("kill -{name} {pid} 2>/dev/null")])
        .status();
}

/// The children of a process.
pub fn children(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parent = |child: &u32| stat(*child, 1)?.parse::<u32>().ok();
    pids.filter(|child| parent(child) == Some(pid)).collect()
}

/// A field of /proc/PID/stat, counted from the state, which is 0.
fn stat(pid: u32, field: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may have any character.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(field).map(str::to_owned)
}

/// Stops a process, and waits until it does nothing any more. It may also have ended.
pub fn stop_and_wait(pid: u32) {
    signal(pid, "STOP");
    wait_for("a process that stops", || match stat(pid, 0).as_deref() {
        None | Some("T" | "t" | "X" | "Z") => Some(()),
        Some(_) => None,
    });
}

/// Waits until a process of another parent has ended.
pub fn wait_for_the_end_of(pid: u32) {
    wait_for("the end of a process", || match stat(pid, 0).as_deref() {
        None | Some("X" | "Z") => Some(()),
        Some(_) => None,
    });
}
