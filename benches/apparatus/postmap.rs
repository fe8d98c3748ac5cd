//! `postmap`, which builds the indexed file that Postfix reads: the method without postmapd.

use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::Result;

/// Where Debian has Postfix's programs, which may not be in `PATH`.
const DIRECTORIES: [&str; 2] = ["", "/usr/sbin/"];

/// The fastest of Postfix's formats for lookups in a file.
pub(crate) const FORMATS: [&str; 2] = ["lmdb", "cdb"];

/// The timeout for a build. The time of `postmap cdb:` grows faster than the table: two seconds for a million entries,
/// and eleven minutes for ten.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(300);

/// A build that takes longer is measured only once, and not in each run.
const REPEATED_BELOW: Duration = Duration::from_secs(20);

/// The interval between checks whether a build has ended.
const CHECK_INTERVAL: Duration = Duration::from_micros(200);

/// The outcome of a build.
#[derive(Clone, Copy)]
pub(crate) enum Built {
    /// The format is not installed.
    NotInstalled,
    /// It took this long.
    In(Duration),
    /// It took longer than [`TIMEOUT`].
    GivenUp,
}

impl Built {
    /// Whether another run need not build again.
    pub(crate) fn is_enough(self) -> bool {
        !matches!(self, Self::In(took) if took < REPEATED_BELOW)
    }
}

/// The programs and the formats that are installed.
pub(crate) struct Postmap {
    /// Postfix's version, if Postfix is installed.
    pub(crate) version: Option<String>,
    pub(crate) program: String,
    /// A configuration for the benchmark: `postmap` does nothing without one, and the system's is not used.
    pub(crate) configuration: PathBuf,
    formats: Vec<String>,
}

impl Postmap {
    /// Looks for the programs. The report says what is missing.
    pub(crate) fn find(directory: &Path) -> Result<Self> {
        let configuration = directory.join("postfix");
        fs::create_dir(&configuration)?;
        // Postfix's present defaults instead of those before 2015.
        fs::write(configuration.join("main.cf"), "compatibility_level = 2\n")?;
        let mut found = Self {
            version: None,
            program: String::new(),
            configuration,
            formats: Vec::new(),
        };
        for directory in DIRECTORIES {
            let postconf = format!("{directory}postconf");
            let Some(version) = found.output(&postconf, &["-d", "-h", "mail_version"])? else {
                continue;
            };
            found.version = Some(version.trim().to_owned());
            let formats = found.output(&postconf, &["-m"])?.unwrap_or_default();
            found.formats = formats.lines().map(str::to_owned).collect();
            found.program = format!("{directory}postmap");
            break;
        }
        Ok(found)
    }

    /// Whether this type of table is installed.
    pub(crate) fn is_installed(&self, format: &str) -> bool {
        self.formats.iter().any(|installed| installed == format)
    }

    /// `postmap` without arguments, with the benchmark's configuration or another.
    pub(crate) fn command(&self, configuration: Option<&Path>) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("-c")
            .arg(configuration.unwrap_or(&self.configuration));
        command
    }

    fn output(&self, program: &str, arguments: &[&str]) -> Result<Option<String>> {
        let command = Command::new(program)
            .arg("-c")
            .arg(&self.configuration)
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output();
        match command {
            Ok(output) => Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Builds the indexed file of `table` in this format, and removes it.
    pub(crate) fn build(&self, format: &str, table: &Path) -> Result<Built> {
        if !self.is_installed(format) {
            return Ok(Built::NotInstalled);
        }
        let begun = Instant::now();
        let mut child = self
            .command(None)
            .arg(format!("{format}:{}", table.display()))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            if begun.elapsed() > TIMEOUT {
                child.kill()?;
                child.wait()?;
                break None;
            }
            thread::sleep(CHECK_INTERVAL);
        };
        let took = begun.elapsed();
        let mut complaint = String::new();
        if let Some(mut stderr) = child.stderr.take() {
            stderr.read_to_string(&mut complaint)?;
        }
        // A warning would add to its time.
        if !complaint.is_empty() || status.is_some_and(|status| !status.success()) {
            return Err(format!("postmap {format}: {complaint}").into());
        }
        for suffix in [format.to_owned(), format!("{format}.tmp")] {
            match fs::remove_file(table.with_extension(format!("cf.{suffix}"))) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        Ok(status.map_or(Built::GivenUp, |_| Built::In(took)))
    }
}
