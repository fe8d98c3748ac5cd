//! Reading the sources and judging them: the one way in which anybody here comes to a snapshot.
//!
//! Start, reload and `query` all go through [`read`] and [`Reading::judge`], so that they judge alike. All files are
//! read in one go; if any of them, or a link on the way to one, changed meanwhile, all are read again, so that what
//! is read was there at one moment.
//!
//! What is missing in a folder that is there is an empty table. What cannot be read, a folder that is not there and
//! a symbolic link that leads nowhere included, is a table that cannot tell.
//!
//! Reading and judging are two steps, because most readings find what was there before, and end with its digest.

use std::collections::HashMap;
use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::way::{self, Stamp};
use crate::answer::{Map, Reason};
use crate::config::{Settings, Sources};
use crate::diagnostic::{Finding, Findings};
use crate::routes::Snapshot;
use crate::secret::Secret;
use crate::table::Table;
use crate::whole_file::{self, ReadError, WholeFile};

/// How often sources are read that change while they are read, and how long is waited in between.
const ATTEMPTS: u32 = 10;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(10);

/// How long a file that was written to lately must stay as it was read.
const STAYS: Duration = Duration::from_millis(10);

/// What stands under the name of one source.
pub enum Content {
    /// This text.
    Text(WholeFile),
    /// Nothing: the folder is there, and has no such name.
    Missing,
    /// Something that cannot be read.
    Unreadable(ReadError),
}

impl Content {
    fn of(path: &Path) -> Self {
        match whole_file::read(path) {
            Ok(file) => Self::Text(file),
            Err(error) if error.is_not_found() && is_missing(path) => Self::Missing,
            Err(error) => Self::Unreadable(error),
        }
    }

    /// Whether there is not one byte.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        match self {
            Self::Text(file) => file.text.is_empty(),
            Self::Missing => true,
            Self::Unreadable(_) => false,
        }
    }

    /// With the kind and the length, so that no two contents in a row can be taken for two others.
    fn digest(&self, digest: &mut impl Hasher) {
        let mut add = |kind, bytes: &[u8]| {
            digest.write_u8(kind);
            digest.write_usize(bytes.len());
            digest.write(bytes);
        };
        match self {
            Self::Text(file) => add(0, file.text.expose()),
            Self::Missing => add(1, &[]),
            Self::Unreadable(error) => add(2, error.to_string().as_bytes()),
        }
    }
}

/// Whether a file that was not found is not there, for certain: its folder is, and no link of its name.
fn is_missing(path: &Path) -> bool {
    let no_such_name = fs::symlink_metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    no_such_name && fs::read_dir(folder.unwrap_or(Path::new("."))).is_ok()
}

/// All sources as of one moment, not judged yet.
pub struct Reading {
    settings_file: Content,
    relay_map: Content,
    credentials: Content,
    secrets: Vec<(PathBuf, Content)>,
    /// The sources kept changing while they were read: the relay map of one generation may stand beside the
    /// credentials of another, and nothing of it may be used.
    pub(super) torn: bool,
    /// A digest of all of it: equal digests, equal content.
    pub(super) digest: u64,
    /// The stamps of all of it.
    pub(super) stamps: Vec<Option<Stamp>>,
}

/// Reads all sources as they are at one moment. `hasher` makes the digest.
#[must_use]
pub fn read(sources: &Sources, hasher: &RandomState) -> Reading {
    let mut before = stamps(sources);
    let mut attempts = 1;
    loop {
        let mut reading = read_once(sources, hasher);
        reading.stamps = stamps(sources);
        reading.torn = before != reading.stamps || !reading.stays();
        if !reading.torn || attempts == ATTEMPTS {
            return reading;
        }
        attempts += 1;
        thread::sleep(BETWEEN_ATTEMPTS);
        before = stamps(sources);
    }
}

fn read_once(sources: &Sources, hasher: &RandomState) -> Reading {
    let mut digest = hasher.build_hasher();
    let mut content = |path: &Path| {
        let content = Content::of(path);
        content.digest(&mut digest);
        content
    };
    let settings_file = content(sources.settings_file());
    let relay_map = content(&sources.relay_map());
    let credentials = content(&sources.credentials());
    let secrets = sources
        .relay
        .files()
        .map(|path| (path.to_owned(), content(path)))
        .collect();
    Reading {
        settings_file,
        relay_map,
        credentials,
        secrets,
        torn: false,
        digest: digest.finish(),
        stamps: Vec::new(),
    }
}

impl Reading {
    /// Whether nobody is in the middle of writing to what was read, as far as that shows within [`STAYS`].
    fn stays(&self) -> bool {
        let secrets = self.secrets.iter().map(|(_, content)| content);
        let contents = [&self.settings_file, &self.relay_map, &self.credentials]
            .into_iter()
            .chain(secrets);
        let fresh: Vec<&WholeFile> = contents
            .filter_map(|content| match content {
                Content::Text(file) if file.is_fresh() => Some(file),
                _ => None,
            })
            .collect();
        if !fresh.is_empty() {
            thread::sleep(STAYS);
        }
        fresh.into_iter().all(WholeFile::is_as_it_was)
    }
}

/// The sources as of one moment, judged.
pub struct Loaded {
    /// The snapshot, to which only its generation is missing.
    pub snapshot: Snapshot,
    /// The settings.
    pub settings: Settings,
    /// What is to be said about all of it.
    pub findings: Findings,
    /// Which files are not there, or have not one byte.
    pub gone: Gone,
}

/// Which files are not there, or have not one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone {
    /// The settings file.
    pub settings_file: bool,
    /// The relay map.
    pub relay_map: bool,
    /// The credentials.
    pub credentials: bool,
}

impl Reading {
    /// Judges what was read.
    #[must_use]
    pub fn judge(self, sources: &Sources) -> Loaded {
        let mut findings = Findings::default();
        if self.torn {
            findings.push(
                Finding::error("files-changing", sources.dir(), None)
                    .says("the files change faster than they can be read")
                    .help("write each new version to a folder of its own and swap a link to it"),
            );
        }
        let gone = Gone {
            // One that cannot be read is an error, or its whole folder is missing.
            settings_file: self.settings_file.is_gone()
                || matches!(self.settings_file, Content::Unreadable(_)),
            relay_map: self.relay_map.is_gone(),
            credentials: self.credentials.is_gone(),
        };
        let settings = settings(self.settings_file, sources, &mut findings);
        let mut table = |map, path: PathBuf, content| {
            if self.torn {
                Table::unreadable(map, Reason::FileUnreadable(map))
            } else {
                table(map, &path, content, sources.dir(), &mut findings)
            }
        };
        let relay_map = table(Map::Relayhost, sources.relay_map(), self.relay_map);
        let credentials = table(Map::Sasl, sources.credentials(), self.credentials);
        let secrets: HashMap<PathBuf, Secret> = self
            .secrets
            .into_iter()
            .filter_map(|(path, content)| secret(path, content, &mut findings))
            .collect();
        let default = sources
            .relay
            .resolve(&mut |path| secrets.get(path).cloned(), &mut findings);
        Loaded {
            snapshot: Snapshot {
                generation: 1,
                relay_map,
                credentials,
                default,
                delimiters: settings.delimiters.clone(),
            },
            settings,
            findings,
            gone,
        }
    }
}

/// Reads and judges the settings alone, before anything else is known to be right.
pub fn first_settings(sources: &Sources, findings: &mut Findings) -> Settings {
    settings(Content::of(sources.settings_file()), sources, findings)
}

fn settings(content: Content, sources: &Sources, findings: &mut Findings) -> Settings {
    let text = match content {
        Content::Text(file) => file.text,
        Content::Missing if !sources.needs_settings_file() => Secret::default(),
        // Where the whole folder is missing, the tables say so.
        Content::Unreadable(error)
            if error.is_not_found() && !sources.needs_settings_file() && !sources.dir().exists() =>
        {
            Secret::default()
        }
        Content::Missing | Content::Unreadable(_) => {
            let why = match content {
                Content::Unreadable(error) => error.to_string(),
                _ => "there is no such file".to_owned(),
            };
            findings.push(
                Finding::error("settings-unreadable", sources.settings_file(), None)
                    .says(format!("the settings cannot be read: {why}"))
                    .help("mend the path or the permissions"),
            );
            Secret::default()
        }
    };
    sources.settings(text.expose(), findings)
}

fn table(map: Map, path: &Path, content: Content, dir: &Path, findings: &mut Findings) -> Table {
    match content {
        Content::Text(file) => Table::build(map, path, file.text, findings),
        Content::Missing => Table::empty(map),
        Content::Unreadable(error) => {
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
            Table::unreadable(map, Reason::FileUnreadable(map))
        }
    }
}

fn secret(path: PathBuf, content: Content, findings: &mut Findings) -> Option<(PathBuf, Secret)> {
    let why = match content {
        Content::Text(file) => return Some((path, file.text)),
        Content::Missing => "there is no such file".to_owned(),
        Content::Unreadable(error) => error.to_string(),
    };
    findings.push(
        Finding::error("secret-unreadable", &path, None)
            .says(format!("the file cannot be read: {why}"))
            .help("mend its path or its permissions, or unset the variable that names it"),
    );
    None
}

/// The stamps of those files that are gone: a file that is cut to nothing again and again was not gone all the time.
#[must_use]
pub(super) fn stamps_of_gone(sources: &Sources, gone: Gone) -> Vec<Option<Stamp>> {
    let files = [
        (gone.settings_file, sources.settings_file().to_owned()),
        (gone.relay_map, sources.relay_map()),
        (gone.credentials, sources.credentials()),
    ];
    files
        .iter()
        .filter(|(gone, _)| *gone)
        .flat_map(|(_, path)| way::stamps(path))
        .collect()
}

/// Every file that is read.
#[must_use]
pub fn paths(sources: &Sources) -> Vec<PathBuf> {
    let files = [
        sources.settings_file().to_owned(),
        sources.relay_map(),
        sources.credentials(),
    ];
    files
        .into_iter()
        .chain(sources.relay.files().map(Path::to_path_buf))
        .collect()
}

/// The stamps of all sources and of the links that lead to them: while they stay as they are, so does the content.
#[must_use]
pub(super) fn stamps(sources: &Sources) -> Vec<Option<Stamp>> {
    paths(sources).iter().flat_map(|path| way::stamps(path)).collect()
}
