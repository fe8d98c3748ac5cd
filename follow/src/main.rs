//! The postmapd-follow program: run the command line, print its errors, end with its code.

use std::process::ExitCode;

fn main() -> ExitCode {
    postmapd_follow::cli::run()
}
