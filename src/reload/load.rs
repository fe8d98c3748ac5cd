//! Reading the sources whole and judging them: the one way in which anybody here reads a table.
//!
//! Start, reload and `query` all go through [`load`], so that they judge alike. All files are read in one go; if
//! any of them, or a link on the way to one, changed meanwhile, all are read again, so that what is read was there
//! at one moment. Only regular files are read: a FIFO would hang, a directory says nothing.
//!
//! What is missing in a folder that is there is an empty table. What cannot be read, a folder that is not there and
//! a symbolic link that leads nowhere included, is a table that cannot tell.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File, OpenOptions};
use std::hash::Hasher;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::fcntl::OFlag;
use thiserror::Error;

use crate::answer::{Map, Reason};
use crate::config::Sources;
use crate::default_relay::DefaultRelay;
use crate::diagnostic::{Finding, Findings};
use crate::routes::Snapshot;
use crate::secret::Secret;
use crate::table::Table;

use super::way::{self, Stamp};

/// The largest file: the index counts in 32 bits.
pub const MAX_FILE: u64 = u32::MAX as u64;

/// How often sources are read that change while they are read, and how long is waited in between.
const ATTEMPTS: u32 = 10;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(10);

/// Why a file cannot be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The system says so.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A directory, a FIFO, a socket, a device.
    #[error("it is not a regular file")]
    NotAFile,
    /// More than [`MAX_FILE`].
    #[error("it is larger than 4 GiB")]
    TooLarge,
    /// It was written to meanwhile.
    #[error("it changes while it is read")]
    Changing,
}

/// What became of one table file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It was read, and has something in it.
    Read,
    /// It was read, and has not one byte in it.
    Empty,
    /// It is not there.
    Missing,
    /// It is there, or should be, and cannot be read.
    Unreadable,
}

/// The sources as of one moment.
pub struct Loaded {
    /// The relay map.
    pub relay_map: Table,
    /// Its file.
    pub relay_map_file: Presence,
    /// The credentials.
    pub credentials: Table,
    /// Their file.
    pub credentials_file: Presence,
    /// The default relay.
    pub default: DefaultRelay,
    /// What is to be said about all of it.
    pub findings: Findings,
    /// A digest of all that was read: equal digests, equal content.
    pub digest: u64,
    /// The sources changed while they were read.
    pub torn: bool,
    /// The stamps of what was read.
    pub(super) stamps: Vec<Option<Stamp>>,
}

impl Loaded {
    /// The same with tables that cannot tell.
    fn without_answers(mut self, dir: &Path) -> Self {
        self.relay_map = Table::unreadable(Map::Relayhost, Reason::FileUnreadable(Map::Relayhost));
        self.credentials = Table::unreadable(Map::Sasl, Reason::FileUnreadable(Map::Sasl));
        self.findings.push(
            Finding::error("files-changing", dir, None)
                .says("the files change faster than they can be read")
                .help(
                    "write them less often, or each new version to a folder of its own and swap a link to it",
                ),
        );
        self
    }

    /// The snapshot of what was loaded.
    #[must_use]
    pub fn into_snapshot(self, sources: &Sources, generation: u64) -> Snapshot {
        Snapshot {
            generation,
            relay_map: self.relay_map,
            credentials: self.credentials,
            default: self.default,
            delimiters: sources.delimiters.clone(),
        }
    }
}

/// Reads and judges all sources as they are at one moment.
///
/// Where they keep changing, the relay map of one generation may stand beside the credentials of another. What is
/// returned is then [`Loaded::torn`], and cannot tell anything.
#[must_use]
pub fn load(sources: &Sources) -> Loaded {
    let mut attempts = 1;
    loop {
        let before = stamps(sources);
        let mut loaded = load_once(sources);
        let after = stamps(sources);
        loaded.torn = before != after;
        loaded.stamps = after;
        if !loaded.torn {
            return loaded;
        }
        if attempts == ATTEMPTS {
            return loaded.without_answers(&sources.dir);
        }
        attempts += 1;
        thread::sleep(BETWEEN_ATTEMPTS);
    }
}

fn load_once(sources: &Sources) -> Loaded {
    let mut findings = Findings::default();
    let mut digest = DefaultHasher::new();
    let (relay_map, relay_map_file) = table(
        Map::Relayhost,
        &sources.dir,
        &sources.relay_map(),
        &mut findings,
        &mut digest,
    );
    let (credentials, credentials_file) = table(
        Map::Sasl,
        &sources.dir,
        &sources.credentials(),
        &mut findings,
        &mut digest,
    );
    let mut unreadable = Vec::new();
    let mut read_secret = |path: &Path| match read_whole(path) {
        Ok(text) => {
            hash(&mut digest, text.expose());
            Some(text)
        }
        Err(error) => {
            hash(&mut digest, error.to_string().as_bytes());
            unreadable.push(
                Finding::error("secret-unreadable", path, None)
                    .says(format!("the file cannot be read: {error}"))
                    .help("mend its path or its permissions, or unset the variable that names it"),
            );
            None
        }
    };
    let default = sources.relay.resolve(&mut read_secret, &mut findings);
    for finding in unreadable {
        findings.push(finding);
    }
    Loaded {
        relay_map,
        relay_map_file,
        credentials,
        credentials_file,
        default,
        findings,
        digest: digest.finish(),
        torn: false,
        stamps: Vec::new(),
    }
}

/// Hashes with the length, so that no two texts in a row can be taken for two others.
fn hash(digest: &mut DefaultHasher, text: &[u8]) {
    digest.write_usize(text.len());
    digest.write(text);
}

fn table(
    map: Map,
    dir: &Path,
    path: &Path,
    findings: &mut Findings,
    digest: &mut DefaultHasher,
) -> (Table, Presence) {
    match read_whole(path) {
        Ok(text) => {
            hash(digest, text.expose());
            let presence = if text.is_empty() {
                Presence::Empty
            } else {
                Presence::Read
            };
            (Table::build(map, path, text, findings), presence)
        }
        Err(ReadError::Io(error)) if error.kind() == ErrorKind::NotFound && is_missing(dir, path) => {
            hash(digest, b"missing");
            (Table::empty(map), Presence::Missing)
        }
        Err(error) => {
            hash(digest, b"unreadable");
            hash(digest, error.to_string().as_bytes());
            let (what, help) = if dir.is_dir() {
                (path, "mend the file or its permissions")
            } else {
                (dir, "create the folder, or name another with --dir")
            };
            findings.push(
                Finding::error("file-unreadable", what, None)
                    .says(format!("the {map} map cannot be read: {error}"))
                    .help(help),
            );
            (
                Table::unreadable(map, Reason::FileUnreadable(map)),
                Presence::Unreadable,
            )
        }
    }
}

/// Whether a file that was not found is not there, for certain: its folder is, and no link of its name.
fn is_missing(dir: &Path, path: &Path) -> bool {
    let no_such_name = fs::symlink_metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound);
    no_such_name && fs::read_dir(dir).is_ok()
}

/// Reads a regular file whole.
pub fn read_whole(path: &Path) -> Result<Secret, ReadError> {
    // Without O_NONBLOCK, opening a FIFO waits for a writer.
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(ReadError::NotAFile);
    }
    let expected = usize::try_from(metadata.len()).map_err(|_| ReadError::TooLarge)?;
    if metadata.len() > MAX_FILE {
        return Err(ReadError::TooLarge);
    }
    let text = read_up_to(&mut file, expected)?;
    if text.len() == expected {
        Ok(text)
    } else {
        Err(ReadError::Changing)
    }
}

/// Reads to the end, or to one byte more than `expected`. The memory is reserved at once, so that no copy of a
/// password stays behind in a smaller piece.
fn read_up_to(file: &mut File, expected: usize) -> io::Result<Secret> {
    let mut bytes = Vec::with_capacity(expected.saturating_add(1));
    let limit = u64::try_from(expected).unwrap_or(u64::MAX).saturating_add(1);
    let result = file.take(limit).read_to_end(&mut bytes);
    let text = Secret::from(bytes);
    result.map(|_| text)
}

/// Every file that is read.
#[must_use]
pub fn paths(sources: &Sources) -> Vec<PathBuf> {
    let tables = [sources.relay_map(), sources.credentials()];
    tables
        .into_iter()
        .chain(sources.relay.files().map(Path::to_path_buf))
        .collect()
}

/// The stamps of all sources and of the links that lead to them: while they stay as they are, so does the content.
#[must_use]
pub(super) fn stamps(sources: &Sources) -> Vec<Option<Stamp>> {
    paths(sources).iter().flat_map(|path| way::stamps(path)).collect()
}
