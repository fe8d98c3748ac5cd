//! strace(1) on the lookup thread only, whose number is that of the process.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use super::daemon::Daemon;

/// Attaches strace with these arguments, until it is ended.
#[track_caller]
pub(crate) fn attach<S: AsRef<OsStr>>(daemon: &Daemon, args: impl IntoIterator<Item = S>) -> Child {
    let mut strace = Command::new("strace")
        .args(["-p", &daemon.pid().to_string()])
        .args(args)
        .stderr(Stdio::piped())
        .spawn()
        .expect("strace (apt-get install strace)");
    let mut message = String::new();
    BufReader::new(strace.stderr.take().expect("a pipe"))
        .read_line(&mut message)
        .expect("a line");
    assert!(message.contains("attached"), "{message}");
    strace
}
