//! The postmapd program: run the command line, print one error, end with its code.

use std::io::{self, Write};
use std::process::ExitCode;

use postmapd::os::printable::printable;

fn main() -> ExitCode {
    match postmapd::cli::run() {
        Ok(code) => code,
        Err(error) if error.is_broken_pipe() => error.exit_code(),
        Err(error) => {
            for line in error.to_string().lines() {
                // Standard error may be closed; the exit code tells it all the same.
                let _ = writeln!(io::stderr(), "postmapd: {}", printable(line.as_bytes()));
            }
            error.exit_code()
        }
    }
}
