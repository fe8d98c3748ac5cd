//! Commands of postmapd that run to their end, and what they print.

use super::daemon::{Finished, Setup, finish};
use serde_json::Value;
use std::ffi::OsStr;

impl Setup {
    /// Runs `postmapd COMMAND --dir DIR ARGS` to its end.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, command: &str, args: &[S]) -> Finished {
        self.run_with(command, args, b"")
    }

    /// The same, with this on standard input.
    pub(crate) fn run_with<S: AsRef<OsStr>>(
        &self,
        command: &str,
        args: &[S],
        input: impl AsRef<[u8]>,
    ) -> Finished {
        finish(self.command(command).args(args), input.as_ref())
    }

    /// Runs `postmapd LINE` to its end, with the folder behind the command. Blanks part the words.
    pub(crate) fn typed(&self, line: &str) -> Finished {
        let mut words = line.split_whitespace();
        let command = words.next().expect("a command");
        finish(self.command(command).args(words), b"")
    }
}

impl Finished {
    /// Standard output, which has to be JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Fails where it has another exit code, and shows what it said then.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        self
    }
}
