//! The files that a measurement is written to: the plot, and the latency distributions.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;

use super::super::Error;
use super::usage;
use crate::bench::plot;
use crate::bench::report::Report;
use crate::os::replace_file::{self, ReplaceError};

// Not a doc comment, which clap would take for that of the command.
#[derive(Args)]
pub(super) struct Files {
    /// SVG file for a plot of the result; its name must end in .svg
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,

    /// File for the latency distribution in the percentile format of HdrHistogram, in microseconds; for several numbers
    /// of connections or two servers, one file for each: for example latency-16.hgrm, latency-a-16.hgrm
    #[arg(long, value_name = "FILE")]
    hdr: Option<PathBuf>,
}

impl Files {
    /// Checks the names of the files before the measurement, which may take minutes.
    pub(super) fn check(&self) -> Result<&Self, Error> {
        for (option, path) in [("--plot", &self.plot), ("--hdr", &self.hdr)] {
            let directory = path.as_deref().and_then(Path::parent);
            let directory = directory.filter(|directory| !directory.as_os_str().is_empty());
            if directory.is_some_and(|directory| !directory.is_dir()) {
                return Err(usage(option, "the directory of this file does not exist"));
            }
        }
        let is_svg = |path: &PathBuf| {
            path.extension()
                .is_some_and(|extension| extension.eq_ignore_ascii_case("svg"))
        };
        if !self.plot.as_ref().is_none_or(is_svg) {
            return Err(usage(
                "--plot",
                "the plot is an SVG file, and its name must end in .svg",
            ));
        }
        if self.hdr.as_ref().is_some_and(|path| path.file_name().is_none()) {
            return Err(usage("--hdr", "the name of a file is needed"));
        }
        Ok(self)
    }

    /// Writes the files. A report without replies has no distribution.
    pub(super) fn write(&self, report: &Report<'_>) -> Result<(), Error> {
        if let Some(path) = &self.plot {
            write(path, plot::svg(report)).map_err(Error::system("cannot write the plot"))?;
        }
        if let Some(path) = &self.hdr {
            for distribution in report.distributions() {
                let path = if report.has_one_distribution() {
                    path.clone()
                } else {
                    with_suffix(path, &distribution.name)
                };
                write(&path, distribution.text)
                    .map_err(Error::system("cannot write the latency distribution"))?;
            }
        }
        Ok(())
    }
}

/// Follows no link of another user, as root in a directory of that user.
fn write(path: &Path, text: String) -> io::Result<()> {
    let text = text.into_bytes();
    replace_file::edit::<ReplaceError>(path, 0o644, |_| Ok(Some(text.clone().into())))
        .map(|_| ())
        .map_err(io::Error::other)
}

/// Returns the path with `-` and a suffix before the extension.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{suffix}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::with_suffix;

    #[test]
    fn the_suffix_precedes_the_extension() {
        for (path, with) in [
            ("latency.hgrm", "latency-a-16.hgrm"),
            ("/a.b/latency", "/a.b/latency-a-16"),
            ("x/.y", "x/.y-a-16"),
        ] {
            assert_eq!(with_suffix(Path::new(path), "a-16"), Path::new(with));
        }
    }
}
