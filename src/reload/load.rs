//! Reading the sources and judging them: the one way in which anybody here comes to a snapshot.
//!
//! Start, reload and `query` all go through [`read`] and [`Reading::judge`], so that they judge alike. All files are
//! read in one go; if any of them, or a link on the way to one, changed meanwhile, all are read again, so that what
//! is read was there at one moment.
//!
//! What is missing in a folder that is there is an empty table. What cannot be read, a folder that is not there and
//! a symbolic link that leads nowhere included, is a table that cannot tell.
//!
//! Reading and judging are two steps, because most readings find what was there before, and end with its digest. What
//! an edit leaves as it was is neither kept twice nor judged again ([`crate::table::text`], [`Table::rebuild`]).

use std::collections::HashMap;
use std::hash::{BuildHasher, DefaultHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::content::{Content, digest_bytes};
use super::ledger::Version;
use super::way::{self, Stamp};
use crate::answer::{Map, Reason};
use crate::config::{NextHops, Settings, Sources};
use crate::diagnostic::{Finding, Findings};
use crate::digest;
use crate::history::History;
use crate::routes::{Routing, Snapshot};
use crate::secret::Secret;
use crate::table::Table;
use crate::table::text::Text;

/// How often sources are read that change while they are read, and how long is waited in between.
const ATTEMPTS: u32 = 10;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(10);

/// How long a file that was written to lately must stay as it was read.
const STAYS: Duration = Duration::from_millis(10);

/// All sources as of one moment, not judged yet.
pub struct Reading {
    settings_file: Content,
    relay_map: Content<Text>,
    credentials: Content<Text>,
    secrets: Vec<(PathBuf, Content)>,
    /// The sources kept changing while they were read: the relay map of one generation may stand beside the
    /// credentials of another, and nothing of it may be used.
    pub(super) torn: bool,
    /// A digest of all of it: equal digests, equal content.
    pub(super) digest: u64,
    /// A digest of each file, in the order of [`paths`].
    digests: Vec<u64>,
    /// The stamps of all of it.
    pub(super) stamps: Vec<Option<Stamp>>,
}

/// Reads and judges everything for once, with nothing in force.
#[must_use]
pub fn once(sources: &Sources) -> Loaded {
    read(sources, &RandomState::new(), None).judge(sources, None)
}

/// Reads all sources as they are at one moment. `hasher` makes the digests; with it, `in_force` was read.
#[must_use]
pub fn read(sources: &Sources, hasher: &RandomState, in_force: Option<&Snapshot>) -> Reading {
    let mut before = stamps(sources);
    let mut attempts = 1;
    loop {
        let mut reading = read_once(sources, hasher, in_force);
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

fn read_once(sources: &Sources, hasher: &RandomState, in_force: Option<&Snapshot>) -> Reading {
    let relay_map = in_force.map(|snapshot| &*snapshot.relay_map);
    let credentials = in_force.map(|snapshot| &*snapshot.credentials);
    let mut reading = Reading {
        settings_file: Content::<Secret>::read(sources.settings_file()),
        relay_map: Content::<Text>::read(&sources.relay_map(), relay_map, hasher),
        credentials: Content::<Text>::read(&sources.credentials(), credentials, hasher),
        secrets: sources
            .relay
            .files()
            .map(|path| (path.to_owned(), Content::<Secret>::read(path)))
            .collect(),
        torn: false,
        digest: 0,
        digests: Vec::new(),
        stamps: Vec::new(),
    };
    reading.digests = reading.digests(hasher);
    reading.digest = hasher.hash_one(&reading.digests);
    reading
}

impl Reading {
    fn digests(&self, hasher: &RandomState) -> Vec<u64> {
        fn of<T>(
            content: &Content<T>,
            hasher: &RandomState,
            of_text: impl Fn(&T, &mut DefaultHasher),
        ) -> u64 {
            let mut digest = hasher.build_hasher();
            content.digest(&mut digest, of_text);
            digest.finish()
        }
        let small = |content: &Content| {
            of(content, hasher, |text, digest| {
                digest_bytes(text.expose(), digest);
            })
        };
        let mut digests = vec![
            small(&self.settings_file),
            of(&self.relay_map, hasher, Text::digest),
            of(&self.credentials, hasher, Text::digest),
        ];
        digests.extend(self.secrets.iter().map(|(_, content)| small(content)));
        digests
    }

    /// What was read, file by file, in the order of [`paths`].
    fn versions(&self, sources: &Sources) -> Vec<Version> {
        let table = |path: PathBuf, map, content: &Content<Text>| content.version(&path, Some(map), |_| None);
        let mut versions = vec![
            self.settings_file.version(sources.settings_file(), None, |text| {
                Some(digest::plain([text.expose()]))
            }),
            table(sources.relay_map(), Map::Relayhost, &self.relay_map),
            table(sources.credentials(), Map::Sasl, &self.credentials),
        ];
        let secrets = self.secrets.iter();
        versions.extend(
            secrets.map(|(path, content)| content.version(path, None, |text| digest::keyed([text.expose()]))),
        );
        for (version, digest) in versions.iter_mut().zip(&self.digests) {
            version.content = *digest;
        }
        versions
    }

    /// The files that are mounted here by themselves and have been replaced where they come from.
    fn orphans(&self, sources: &Sources) -> Vec<PathBuf> {
        let tables = [
            (sources.relay_map(), self.relay_map.is_orphan()),
            (sources.credentials(), self.credentials.is_orphan()),
            (sources.settings_file().to_owned(), self.settings_file.is_orphan()),
        ];
        let secrets = self
            .secrets
            .iter()
            .map(|(path, content)| (path.clone(), content.is_orphan()));
        tables
            .into_iter()
            .chain(secrets)
            .filter_map(|(path, is_orphan)| is_orphan.then_some(path))
            .collect()
    }

    /// Whether the system has failed to read any of it, which it may do no more when asked again.
    pub(super) fn has_failed(&self) -> bool {
        let mut others = self
            .secrets
            .iter()
            .map(|(_, content)| content)
            .chain([&self.settings_file]);
        self.relay_map.has_failed() || self.credentials.has_failed() || others.any(Content::has_failed)
    }

    /// Whether nobody is in the middle of writing to what was read, as far as that shows within [`STAYS`].
    fn stays(&self) -> bool {
        let tables = [&self.relay_map, &self.credentials];
        let secrets = self.secrets.iter().map(|(_, content)| content);
        let mut others = [&self.settings_file].into_iter().chain(secrets);
        if !tables.into_iter().any(Content::is_fresh) && !others.clone().any(Content::is_fresh) {
            return true;
        }
        thread::sleep(STAYS);
        tables.into_iter().all(Content::is_as_it_was) && others.all(Content::is_as_it_was)
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
    /// What was read, file by file.
    pub versions: Vec<Version>,
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
    /// Judges what was read. What reads as it does in `in_force` is taken from there.
    #[must_use]
    pub fn judge(self, sources: &Sources, in_force: Option<&Snapshot>) -> Loaded {
        let mut findings = Findings::default();
        let mut versions = self.versions(sources);
        if self.torn {
            findings.push(
                Finding::error("files-changing", sources.dir(), None)
                    .says("the files change faster than they can be read")
                    .help("write each new version to a folder of its own and swap a link to it"),
            );
        }
        for path in self.orphans(sources) {
            findings.push(
                Finding::warning("replaced-under-its-mount", &path, None)
                    .says("the file was replaced by whoever owns its mount, and this is still the old one")
                    .help(
                        "it is mounted by itself; mount its folder instead, and start this container again",
                    ),
            );
        }
        let gone = Gone {
            // One that cannot be read is an error, or its whole folder is missing.
            settings_file: self.settings_file.is_gone(Secret::is_empty)
                || matches!(self.settings_file, Content::Unreadable(_)),
            relay_map: self.relay_map.is_gone(Text::is_empty),
            credentials: self.credentials.is_gone(Text::is_empty),
        };
        let settings = settings(self.settings_file, sources, &mut findings);
        let mut table = |map, path: PathBuf, content, previous| {
            if self.torn {
                Table::unreadable(map, Reason::FileUnreadable(map)).into()
            } else {
                table(map, &path, content, previous, sources.dir(), &mut findings)
            }
        };
        let previous = in_force.map(|snapshot| &snapshot.relay_map);
        let has_relay_map = !matches!(self.relay_map, Content::Missing);
        let relay_map = table(Map::Relayhost, sources.relay_map(), self.relay_map, previous);
        let previous = in_force.map(|snapshot| &snapshot.credentials);
        let credentials = table(Map::Sasl, sources.credentials(), self.credentials, previous);
        let secrets: HashMap<PathBuf, Secret> = self
            .secrets
            .into_iter()
            .filter_map(|(path, content)| secret(path, content, &mut findings))
            .collect();
        let default = sources
            .relay
            .resolve(&mut |path| secrets.get(path).cloned(), &mut findings);
        for version in &mut versions {
            version.errors_of_table = match version.map {
                Some(Map::Relayhost) => relay_map.findings().errors(),
                Some(Map::Sasl) => credentials.findings().errors(),
                None => 0,
            };
        }
        Loaded {
            versions,
            snapshot: Snapshot {
                generation: 1,
                relay_map,
                credentials,
                routing: match settings.next_hops {
                    NextHops::MainCf => Routing::MainCf,
                    NextHops::Postmapd if has_relay_map || default.is_set() => Routing::Here,
                    NextHops::Postmapd => Routing::Unknown,
                },
                default: default.into(),
                delimiters: settings.delimiters.clone(),
                allowed: settings.allowed.clone(),
                history: History::default(),
            },
            settings,
            findings,
            gone,
        }
    }
}

/// Reads and judges the settings alone, before anything else is known to be right.
pub fn first_settings(sources: &Sources, findings: &mut Findings) -> Settings {
    settings(
        Content::<Secret>::read(sources.settings_file()),
        sources,
        findings,
    )
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

fn table(
    map: Map,
    path: &Path,
    content: Content<Text>,
    previous: Option<&Arc<Table>>,
    dir: &Path,
    findings: &mut Findings,
) -> Arc<Table> {
    match content {
        Content::Text(file) => {
            let table = Table::rebuild(previous, map, path, &file.text);
            findings.append(table.findings());
            table
        }
        Content::Missing => Table::empty(map).into(),
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
            Table::unreadable(map, Reason::FileUnreadable(map)).into()
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
