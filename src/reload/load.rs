//! Reading the sources and judging them: the one way in which anybody here comes to a snapshot.
//!
//! Start, reload and `query` all go through [`read`] and [`Reading::judge`], so that they judge alike. All files are
//! read in one go, and those of the directory of the tables through one handle of it. If any of them, or a link or a
//! directory on the way to one, changed meanwhile, all are read again, so that what is read was there at one moment.
//! A file that keeps changing cannot be read, and neither can others whose way changes with it.
//!
//! What is missing in a folder that is there is an empty table. What cannot be read, a folder that is not there and
//! a symbolic link that leads nowhere included, is a table that cannot tell.
//!
//! Reading and judging are two steps, because most readings find what was there before, and end with its digest. What
//! an edit leaves as it was is neither kept twice nor judged again ([`crate::table::text`], [`Table::rebuild`]).

use std::collections::HashMap;
use std::hash::{BuildHasher, DefaultHasher, Hasher, RandomState};
use std::ops::{Range, RangeFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use super::content::{Content, Directory, digest_bytes};
use super::ledger::Version;
use super::way::{self, Stamps};
use crate::answer::{Map, Reason};
use crate::config::{NextHops, Settings, Sources};
use crate::diagnostic::{Code, Finding, Findings};
use crate::digest;
use crate::history::History;
use crate::routes::{Routing, Snapshot};
use crate::secret::Secret;
use crate::table::Table;
use crate::table::text::Text;
use crate::whole_file::ReadError;

/// How often sources are read that change while they are read, and how long is waited in between.
const ATTEMPTS: u32 = 10;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(10);

/// How long a file that was written to lately must stay as it was read.
const STAYS: Duration = Duration::from_millis(10);

/// Which sources are tables, in the order of [`paths`]: the relay map and the credentials.
pub(super) const TABLES: Range<usize> = 1..3;

/// Which sources are secrets.
pub(super) const SECRETS: RangeFrom<usize> = TABLES.end..;

/// All sources as of one moment, not judged yet.
pub struct Reading {
    settings_file: Arc<Content>,
    relay_map: Arc<Content<Text>>,
    credentials: Arc<Content<Text>>,
    secrets: Vec<(PathBuf, Arc<Content>)>,
    /// Which sources kept changing while they were read, in the order of [`paths`]: the text of one moment may stand
    /// beside that of another, and so they cannot be read.
    pub(super) unsettled: Vec<bool>,
    /// A digest of each file, in the order of [`paths`].
    digests: Vec<u64>,
    /// For a source that kept changing, its digest if that was the same each time.
    steady: Vec<Option<u64>>,
    /// Whether one of the tables is held, and may belong to what has changed.
    pub(super) is_unpaired: bool,
    /// The stamps of each file, in the order of [`paths`].
    pub(super) stamps: Vec<Stamps>,
}

/// Reads and judges everything for once, with nothing in force.
#[must_use]
pub fn once(sources: &Sources) -> Loaded {
    read(sources, &RandomState::new(), None).judge(sources, None)
}

/// Reads all sources as they are at one moment. `hasher` makes the digests; with it, `in_force` was read.
#[must_use]
pub fn read(sources: &Sources, hasher: &RandomState, in_force: Option<&Snapshot>) -> Reading {
    let mut attempts = 1;
    let mut steady: Vec<Option<u64>> = Vec::new();
    loop {
        let at = SystemTime::now();
        let before = stamps(sources);
        let mut reading = read_once(sources, hasher, in_force);
        reading.stamps = stamps(sources);
        reading.unsettled = way::unsettled(&before, &reading.stamps, at);
        reading.find_writers();
        let is_settled = !reading.unsettled.contains(&true);
        if !is_settled {
            let digests = reading.digests(hasher);
            if attempts == 1 {
                steady = digests.iter().copied().map(Some).collect();
            }
            for (steady, digest) in steady.iter_mut().zip(digests) {
                *steady = steady.filter(|steady| *steady == digest);
            }
        }
        if is_settled || attempts == ATTEMPTS {
            reading.steady = steady;
            reading.finish(hasher);
            return reading;
        }
        attempts += 1;
        thread::sleep(BETWEEN_ATTEMPTS);
    }
}

fn read_once(sources: &Sources, hasher: &RandomState, in_force: Option<&Snapshot>) -> Reading {
    let directory = Directory::open(sources.dir());
    let table = |path: PathBuf, table| Content::<Text>::read(&path, &directory, table, hasher).into();
    let small = |path: &Path| Content::<Secret>::read(path, &directory).into();
    Reading {
        settings_file: small(sources.settings_file()),
        relay_map: table(sources.relay_map(), in_force.map(|snapshot| &*snapshot.relay_map)),
        credentials: table(
            sources.credentials(),
            in_force.map(|snapshot| &*snapshot.credentials),
        ),
        secrets: sources
            .relay
            .files()
            .map(|path| (path.to_owned(), small(path)))
            .collect(),
        unsettled: Vec::new(),
        digests: Vec::new(),
        steady: Vec::new(),
        is_unpaired: false,
        stamps: Vec::new(),
    }
}

/// Gives a source that keeps changing the content that it has for as long as it does, and lets go of the others' files.
fn settle<T>(content: &mut Arc<Content<T>>, is_unsettled: bool) {
    if is_unsettled {
        *content = Content::Unreadable(ReadError::Changing).into();
    } else if let Some(content) = Arc::get_mut(content) {
        content.close();
    }
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
        self.each(
            |table| of(table, hasher, Text::digest),
            |small| {
                of(small, hasher, |text, digest| {
                    digest_bytes(text.expose(), digest);
                })
            },
        )
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
        fn failed<T>(content: &Content<T>) -> bool {
            content.has_failed()
        }
        self.each(failed, failed).contains(&true)
    }

    /// Notes which files somebody is in the middle of writing to, as far as that shows within [`STAYS`].
    fn find_writers(&mut self) {
        fn fresh<T>(content: &Content<T>) -> bool {
            content.is_fresh()
        }
        fn written<T>(content: &Content<T>) -> bool {
            !content.is_as_it_was()
        }
        let fresh = self.each(fresh, fresh);
        if fresh.contains(&true) {
            thread::sleep(STAYS);
            let written = self.each(written, written);
            for (unsettled, written) in self.unsettled.iter_mut().zip(written) {
                *unsettled |= written;
            }
        }
    }

    /// What is said of each source, in the order of [`paths`].
    fn each<R>(&self, table: impl Fn(&Content<Text>) -> R, small: impl Fn(&Content) -> R) -> Vec<R> {
        let mut all = vec![
            small(&self.settings_file),
            table(&self.relay_map),
            table(&self.credentials),
        ];
        all.extend(self.secrets.iter().map(|(_, content)| small(content)));
        all
    }

    fn finish(&mut self, hasher: &RandomState) {
        let [settings_file, relay_map, credentials, secrets @ ..] = self.unsettled.as_slice() else {
            return;
        };
        settle(&mut self.settings_file, *settings_file);
        settle(&mut self.relay_map, *relay_map);
        settle(&mut self.credentials, *credentials);
        for ((_, content), is_unsettled) in self.secrets.iter_mut().zip(secrets) {
            settle(content, *is_unsettled);
        }
        self.digests = self.digests(hasher);
    }

    /// A digest of all of it: equal digests, equal content.
    pub(super) fn digest(&self, hasher: &RandomState) -> u64 {
        hasher.hash_one((&self.digests, self.is_unpaired))
    }

    /// Whether it is the same content as `in_force`, of which both tables belong together.
    pub(super) fn is_as(&self, in_force: &Self) -> bool {
        self.digests == in_force.digests && !in_force.is_unpaired
    }

    /// Whether this source kept changing and had the content of `in_force` each time it was read.
    pub(super) fn is_steady(&self, source: usize, in_force: &Self) -> bool {
        let steady = self.steady.get(source).copied().flatten();
        steady.is_some() && steady == in_force.digests.get(source).copied()
    }

    /// Which sources are not there, or have not one byte, in the order of [`paths`]. A secret that is not there is an
    /// error, and not an empty one.
    pub(super) fn gone(&self) -> Vec<bool> {
        let mut gone = self.each(
            |table| table.is_gone(Text::is_empty),
            |small| small.is_gone(Secret::is_empty),
        );
        for (gone, (_, content)) in gone.iter_mut().skip(SECRETS.start).zip(&self.secrets) {
            *gone &= !matches!(**content, Content::Missing);
        }
        gone
    }

    /// Takes this source as it was read in `other`.
    pub(super) fn hold(&mut self, source: usize, other: &Self) {
        if let (Some(own), Some(others)) = (self.digests.get_mut(source), other.digests.get(source)) {
            *own = *others;
        }
        match source.checked_sub(SECRETS.start) {
            None if source == 0 => self.settings_file = Arc::clone(&other.settings_file),
            None if source == 1 => self.relay_map = Arc::clone(&other.relay_map),
            None => self.credentials = Arc::clone(&other.credentials),
            Some(secret) => {
                if let (Some(own), Some(others)) = (self.secrets.get_mut(secret), other.secrets.get(secret)) {
                    own.1 = Arc::clone(&others.1);
                }
            }
        }
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
    pub fn judge(&self, sources: &Sources, in_force: Option<&Snapshot>) -> Loaded {
        let mut findings = Findings::default();
        let mut versions = self.versions(sources);
        for path in self.orphans(sources) {
            findings.push(
                Finding::in_file(Code::ReplacedUnderItsMount, &path, None)
                    .says("the file was replaced by whoever owns its mount, and this is still the old one")
                    .help(
                        "it is mounted by itself; mount its folder instead, and start this container again",
                    ),
            );
        }
        let gone = Gone {
            // One that cannot be read is an error, or its whole folder is missing.
            settings_file: self.settings_file.is_gone(Secret::is_empty)
                || matches!(*self.settings_file, Content::Unreadable(_)),
            relay_map: self.relay_map.is_gone(Text::is_empty),
            credentials: self.credentials.is_gone(Text::is_empty),
        };
        let settings = settings(&self.settings_file, sources, &mut findings);
        let mut table = |map, path: PathBuf, content, previous| {
            table(map, &path, content, previous, sources.dir(), &mut findings)
        };
        let previous = in_force.map(|snapshot| &snapshot.relay_map);
        let has_relay_map = !matches!(*self.relay_map, Content::Missing);
        let relay_map = table(Map::Relayhost, sources.relay_map(), &*self.relay_map, previous);
        let previous = in_force.map(|snapshot| &snapshot.credentials);
        let credentials = table(Map::Sasl, sources.credentials(), &*self.credentials, previous);
        let secrets: HashMap<PathBuf, Secret> = self
            .secrets
            .iter()
            .filter_map(|(path, content)| Some((path.clone(), secret(path, content, &mut findings)?)))
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
                last_pair: None,
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
        &Content::<Secret>::read(sources.settings_file(), &Directory::open(sources.dir())),
        sources,
        findings,
    )
}

fn settings(content: &Content, sources: &Sources, findings: &mut Findings) -> Settings {
    let text = match content {
        Content::Text(file) => file.text.expose(),
        Content::Missing if !sources.needs_settings_file() => &[],
        // Where the whole folder is missing, the tables say so.
        Content::Unreadable(error)
            if error.is_not_found() && !sources.needs_settings_file() && !sources.dir().exists() =>
        {
            &[]
        }
        Content::Unreadable(ReadError::Changing) => {
            findings.push(changing(sources.settings_file()));
            &[]
        }
        Content::Missing | Content::Unreadable(_) => {
            let why = match content {
                Content::Unreadable(error) => error.to_string(),
                _ => "there is no such file".to_owned(),
            };
            findings.push(
                Finding::in_file(Code::SettingsUnreadable, sources.settings_file(), None)
                    .says(format!("the settings cannot be read: {why}"))
                    .help("mend the path or the permissions"),
            );
            &[]
        }
    };
    sources.settings(text, findings)
}

/// The finding that a file could not be read as of one moment.
pub(super) fn changing(path: &Path) -> Finding {
    Finding::in_file(Code::FilesChanging, path, None)
        .says("the file, or the way to it, changes faster than it can be read")
        .help("write each new version to a directory of its own and swap a link to it")
}

fn table(
    map: Map,
    path: &Path,
    content: &Content<Text>,
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
        Content::Unreadable(ReadError::Changing) => {
            findings.push(changing(path));
            Table::unreadable(map, Reason::FileUnreadable(map)).into()
        }
        Content::Unreadable(error) => {
            let (what, help) = if dir.is_dir() {
                (path, "mend the file or its permissions")
            } else {
                (dir, "create the folder, or name another with --dir")
            };
            findings.push(
                Finding::in_file(Code::FileUnreadable, what, None)
                    .says(format!("the {map} map cannot be read: {error}"))
                    .help(help),
            );
            Table::unreadable(map, Reason::FileUnreadable(map)).into()
        }
    }
}

fn secret(path: &Path, content: &Content, findings: &mut Findings) -> Option<Secret> {
    let why = match content {
        Content::Text(file) => return Some(file.text.clone()),
        Content::Missing => "there is no such file".to_owned(),
        Content::Unreadable(error) => error.to_string(),
    };
    findings.push(
        Finding::in_file(Code::SecretUnreadable, path, None)
            .says(format!("the file cannot be read: {why}"))
            .help("mend its path or its permissions, or unset the variable that names it"),
    );
    None
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

/// The stamps of the way to each source, in the order of [`paths`].
#[must_use]
pub(super) fn stamps(sources: &Sources) -> Vec<Stamps> {
    paths(sources).iter().map(|path| Stamps::of(path)).collect()
}
