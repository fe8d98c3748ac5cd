//! Commands of postmapd run to their end, and their output.

use super::daemon::{Finished, Setup, finish};
use serde_json::Value;
use std::ffi::OsStr;

impl Setup {
    /// Runs `postmapd COMMAND --dir DIR ARGS` to its end.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, command: &str, args: &[S]) -> Finished {
        self.run_with(command, args, b"")
    }

    /// Runs `postmapd COMMAND --dir DIR ARGS` to its end with this standard input.
    pub(crate) fn run_with<S: AsRef<OsStr>>(
        &self,
        command: &str,
        args: &[S],
        input: impl AsRef<[u8]>,
    ) -> Finished {
        finish(self.command(command).args(args), input.as_ref())
    }

    /// Runs `postmapd LINE` to its end, with the directory after the command. Whitespace separates the words.
    pub(crate) fn run_line(&self, line: &str) -> Finished {
        let mut words = line.split_whitespace();
        let command = words.next().expect("a command");
        finish(self.command(command).args(words), b"")
    }
}

impl Finished {
    /// Standard output, parsed as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Fails the test, with the output, where the exit code is another one.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        self
    }
}
