//! Reading the sources.
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
//! an edit leaves as it was is neither kept twice nor judged again ([`crate::lookup::table::text`], [`crate::lookup::table::Table::rebuild`]).

use std::hash::{BuildHasher, DefaultHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use super::content::{Content, Directory, digest_bytes};
use super::decision::{Role, Seen};
use super::judge::Loaded;
use super::ledger::Version;
use super::way::{self, Stamps};
use crate::config::Sources;
use crate::diagnostics::{Code, Finding, Findings};
use crate::lookup::default_relay::DefaultRelay;
use crate::lookup::snapshot::Snapshot;
use crate::lookup::table::spec::TableSpec;
use crate::lookup::table::text::Text;
use crate::os::digest;
use crate::os::secret::Secret;
use crate::os::whole_file::ReadError;

/// How often sources are read that change while they are read, and how long is waited in between.
const ATTEMPTS: u32 = 10;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(10);

/// How long a file that was written to lately must stay as it was read.
const STAYS: Duration = Duration::from_millis(10);

/// All sources as of one moment, not judged yet.
pub(crate) struct Reading {
    pub(super) settings_file: Arc<Content>,
    pub(super) tables: Vec<(&'static TableSpec, Arc<Content<Text>>)>,
    pub(super) secrets: Vec<(PathBuf, Arc<Content>)>,
    /// Which sources kept changing while they were read, in the order of [`paths`]: the text of one moment may stand
    /// beside that of another, and so they cannot be read.
    pub(super) unsettled: Vec<bool>,
    /// A digest of each file, in the order of [`paths`].
    pub(super) digests: Vec<u64>,
    /// What is said of each file, in the order of [`paths`].
    pub(super) versions: Vec<Version>,
    /// The default relay, with what is wrong with it, where it was made of the secrets already. They are kept nowhere else.
    pub(super) default: Option<(Arc<DefaultRelay>, Findings)>,
    /// For a source that kept changing, its digest if that was the same each time.
    steady: Vec<Option<u64>>,
    /// The stamps of each file, in the order of [`paths`].
    pub(super) stamps: Vec<Stamps>,
}

/// Reads and judges everything for once, with nothing in force.
#[must_use]
pub(crate) fn once(sources: &Sources) -> Loaded {
    read(sources, &RandomState::new(), None).judge(sources, None)
}

/// Reads all sources as they are at one moment. `hasher` makes the digests; with it, `in_force` was read.
#[must_use]
pub(crate) fn read(sources: &Sources, hasher: &RandomState, in_force: Option<&Snapshot>) -> Reading {
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
            reading.finish(sources, hasher);
            return reading;
        }
        attempts += 1;
        thread::sleep(BETWEEN_ATTEMPTS);
    }
}

fn read_once(sources: &Sources, hasher: &RandomState, in_force: Option<&Snapshot>) -> Reading {
    let directory = Directory::open(sources.dir());
    let table = |spec| {
        let previous = in_force.and_then(|snapshot| snapshot.table(spec));
        Content::<Text>::read(&sources.file(spec), &directory, previous.map(Arc::as_ref), hasher).into()
    };
    let small = |path: &Path| Content::<Secret>::read(path, &directory).into();
    Reading {
        settings_file: small(sources.settings_file()),
        tables: sources.maps.tables().map(|spec| (spec, table(spec))).collect(),
        secrets: sources
            .relay
            .files()
            .map(|path| (path.to_owned(), small(path)))
            .collect(),
        unsettled: Vec::new(),
        digests: Vec::new(),
        versions: Vec::new(),
        default: None,
        steady: Vec::new(),
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
        let mut versions = vec![self.settings_file.version(sources.settings_file(), None, |text| {
            Some(digest::plain([text.expose()]))
        })];
        versions.extend(
            self.tables
                .iter()
                .map(|(spec, content)| content.version(&sources.file(spec), Some(spec), |_| None)),
        );
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
    pub(super) fn orphans(&self, sources: &Sources) -> Vec<PathBuf> {
        let tables = self
            .tables
            .iter()
            .map(|(spec, content)| (sources.file(spec), content.is_orphan()));
        let settings = (sources.settings_file().to_owned(), self.settings_file.is_orphan());
        let secrets = self
            .secrets
            .iter()
            .map(|(path, content)| (path.clone(), content.is_orphan()));
        tables
            .chain([settings])
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

    /// Notes which files a program is in the middle of writing to, as far as that shows within [`STAYS`].
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
        let mut all = vec![small(&self.settings_file)];
        all.extend(self.tables.iter().map(|(_, content)| table(content)));
        all.extend(self.secrets.iter().map(|(_, content)| small(content)));
        all
    }

    fn finish(&mut self, sources: &Sources, hasher: &RandomState) {
        let mut unsettled = self.unsettled.iter().copied();
        settle(&mut self.settings_file, unsettled.next().unwrap_or_default());
        for ((_, content), is_unsettled) in self.tables.iter_mut().zip(&mut unsettled) {
            settle(content, is_unsettled);
        }
        for ((_, content), is_unsettled) in self.secrets.iter_mut().zip(unsettled) {
            settle(content, is_unsettled);
        }
        self.digests = self.digests(hasher);
        self.versions = self.versions(sources);
    }

    /// Takes the default relay that was made of the secrets, and forgets these.
    pub(super) fn keep_default(&mut self, default: &Arc<DefaultRelay>, findings: Findings) {
        self.default = Some((Arc::clone(default), findings));
        for (_, content) in &mut self.secrets {
            if let Some(content) = Arc::get_mut(content) {
                content.forget_text();
            }
        }
    }

    /// What it saw of each source, in the order of [`paths`]. `before` are the stamps of the reading before it.
    pub(super) fn seen(&self, before: &[Stamps]) -> Vec<Seen> {
        let each = self.digests.iter().zip(self.gone()).zip(&self.unsettled);
        let seen = each
            .enumerate()
            .map(|(source, ((content, is_empty), is_unsettled))| Seen {
                content: *content,
                is_empty,
                is_unsettled: *is_unsettled,
                steady: self.steady.get(source).copied().flatten(),
                written_since: None,
                is_untouched: before.get(source) == self.stamps.get(source),
            });
        seen.collect()
    }

    /// Of each source, whether being missing or empty would change something, where this is what `snapshot` was made of. A
    /// table that cannot tell matters too: a directory that appears is filled one file after the other.
    pub(super) fn matters(&self, snapshot: &Snapshot) -> Vec<bool> {
        let mut matters: Vec<bool> = self.gone().into_iter().map(|is_gone| !is_gone).collect();
        if let [settings, others @ ..] = matters.as_mut_slice() {
            // Settings that cannot be read are an error, or their whole directory is missing.
            *settings &= !matches!(*self.settings_file, Content::Unreadable(_));
            for (matters, (spec, _)) in others.iter_mut().zip(&self.tables) {
                let table = snapshot.table(spec);
                *matters = !table.is_some_and(|table| table.is_empty_for_certain());
            }
        }
        matters
    }

    /// Which sources are not there, or have not one byte, in the order of [`paths`]. A secret that is not there is an
    /// error, and not an empty one.
    pub(super) fn gone(&self) -> Vec<bool> {
        let mut gone = self.each(
            |table| table.is_gone(Text::is_empty),
            |small| small.is_gone(Secret::is_empty),
        );
        for (gone, (_, content)) in gone.iter_mut().skip(1 + self.tables.len()).zip(&self.secrets) {
            *gone &= !matches!(**content, Content::Missing);
        }
        gone
    }

    /// Takes this source as it was read in `other`.
    pub(super) fn hold(&mut self, source: usize, other: &Self) {
        if let (Some(own), Some(others)) = (self.digests.get_mut(source), other.digests.get(source)) {
            *own = *others;
        }
        if let (Some(own), Some(others)) = (self.versions.get_mut(source), other.versions.get(source)) {
            own.clone_from(others);
        }
        let Some(after_settings) = source.checked_sub(1) else {
            self.settings_file = Arc::clone(&other.settings_file);
            return;
        };
        match (
            self.tables.get_mut(after_settings),
            other.tables.get(after_settings),
        ) {
            (Some((_, own)), Some((_, others))) => *own = Arc::clone(others),
            // All secrets are held, or none.
            _ => self.default.clone_from(&other.default),
        }
    }
}

/// The finding that a file could not be read as of one moment.
pub(super) fn changing(path: &Path) -> Finding {
    Finding::in_file(Code::FilesChanging, path, None)
        .says("the file, or the way to it, changes faster than it can be read")
        .help("write each new version to a directory of its own and swap a link to it")
}

/// Every file that is read.
#[must_use]
pub(crate) fn paths(sources: &Sources) -> Vec<PathBuf> {
    let tables = sources.maps.tables().map(|spec| sources.file(spec));
    [sources.settings_file().to_owned()]
        .into_iter()
        .chain(tables)
        .chain(sources.relay.files().map(Path::to_path_buf))
        .collect()
}

/// What each of them is for.
#[must_use]
pub(super) fn roles(sources: &Sources) -> Vec<Role> {
    let tables = sources.maps.tables().map(|spec| Role::Table(spec.format.values));
    let secrets = sources.relay.files().map(|_| Role::Secret);
    [Role::Settings]
        .into_iter()
        .chain(tables)
        .chain(secrets)
        .collect()
}

/// The stamps of the way to each source, in the order of [`paths`].
#[must_use]
pub(super) fn stamps(sources: &Sources) -> Vec<Stamps> {
    paths(sources).iter().map(|path| Stamps::of(path)).collect()
}

#[cfg(test)]
mod tests;
