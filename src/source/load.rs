//! Reads the sources.
//!
//! Start, reload and `query` all use [`read`] and [`RawSources::evaluate`], so they all come to the same result. All
//! files are read together, those of the table directory through one handle of it. If any of them, or a link or
//! directory on a path, changed meanwhile, all are read again, so that the result existed at one moment. A file that
//! keeps changing is unreadable, and so are the others whose path changes with it.
//!
//! A missing file in an existing directory is an empty table. Anything unreadable, such as a missing directory or a
//! dangling symbolic link, is a table that cannot tell.
//!
//! Reading and evaluating are two steps, because most reads find the active content, and end after comparing digests.
//! What an edit leaves unchanged is neither stored twice nor evaluated again ([`crate::lookup::table::text`],
//! [`crate::lookup::table::Table::rebuild`]).

use std::hash::{BuildHasher, DefaultHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use super::decision::{Role, SourceState};
use super::path_walk::{self, PathStat};
use super::reload_status::FileVersion;
use super::source_file::{Directory, SourceFile, digest_bytes};
use crate::config::Sources;
use crate::diagnostics::{Code, Finding, Findings};
use crate::lookup::default_relay::DefaultRelay;
use crate::lookup::directory_source::DirectorySource;
use crate::lookup::snapshot::Snapshot;
use crate::lookup::table::spec::TableSpec;
use crate::lookup::table::text::Text;
use crate::os::digest;
use crate::os::secret::Secret;
use crate::os::version_id::VersionId;
use crate::os::whole_file::ReadError;

/// How often sources that change during a read are read, and the pause in between.
const ATTEMPTS: u32 = 10;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(10);

/// How long a recently written file must stay unchanged after it was read.
const WRITER_CHECK: Duration = Duration::from_millis(10);

/// All sources as of one moment, not evaluated yet.
pub(crate) struct RawSources {
    pub(super) settings_file: Arc<SourceFile>,
    pub(super) tables: Vec<(&'static TableSpec, Arc<SourceFile<Text>>)>,
    pub(super) secrets: Vec<(PathBuf, Arc<SourceFile>)>,
    pub(super) directory_source: Arc<SourceFile>,
    /// Which sources kept changing during the read, in the order of [`paths`]. Their text may be a mixture of two
    /// versions, so they count as unreadable.
    pub(super) unsettled: Vec<bool>,
    /// The digest of each file, in the order of [`paths`].
    pub(super) digests: Vec<u64>,
    /// The version of each file for the reload status, in the order of [`paths`].
    pub(super) versions: Vec<FileVersion>,
    /// The default relay made of the secrets, and its findings, once it was made. The secrets themselves are then
    /// wiped.
    pub(super) default: Option<(Arc<DefaultRelay>, Findings)>,
    /// For each source that kept changing, its digest if that was the same at each attempt.
    steady: Vec<Option<u64>>,
    /// The metadata of each path, in the order of [`paths`].
    pub(super) stats: Vec<PathStat>,
}

/// Reads all sources as of one moment. `hasher` makes the digests; `active` must have been read with the same one.
#[must_use]
pub(crate) fn read(sources: &Sources, hasher: &RandomState, active: Option<&Snapshot>) -> RawSources {
    let mut attempts = 1;
    let mut steady: Vec<Option<u64>> = Vec::new();
    loop {
        let at = SystemTime::now();
        let before = path_stats(sources);
        let mut raw = read_once(sources, hasher, active);
        raw.stats = path_stats(sources);
        raw.unsettled = path_walk::may_have_changed(&before, &raw.stats, at);
        raw.detect_writers();
        let is_settled = !raw.unsettled.contains(&true);
        if !is_settled {
            let digests = raw.digests(hasher);
            if attempts == 1 {
                steady = digests.iter().copied().map(Some).collect();
            }
            for (steady, digest) in steady.iter_mut().zip(digests) {
                *steady = steady.filter(|steady| *steady == digest);
            }
        }
        if is_settled || attempts == ATTEMPTS {
            raw.steady = steady;
            raw.finish(sources, hasher);
            return raw;
        }
        attempts += 1;
        thread::sleep(BETWEEN_ATTEMPTS);
    }
}

fn read_once(sources: &Sources, hasher: &RandomState, active: Option<&Snapshot>) -> RawSources {
    let directory = Directory::open(sources.dir());
    let table = |spec| {
        let previous = active.and_then(|snapshot| snapshot.table(spec));
        SourceFile::<Text>::read(&sources.file(spec), &directory, previous.map(Arc::as_ref), hasher).into()
    };
    let small = |path: &Path| SourceFile::<Secret>::read(path, &directory).into();
    RawSources {
        settings_file: small(sources.settings_file()),
        tables: sources.maps.tables().map(|spec| (spec, table(spec))).collect(),
        secrets: sources
            .relay
            .files()
            .map(|path| (path.to_owned(), small(path)))
            .collect(),
        directory_source: small(&sources.directory_source()),
        unsettled: Vec::new(),
        digests: Vec::new(),
        versions: Vec::new(),
        default: None,
        steady: Vec::new(),
        stats: Vec::new(),
    }
}

/// Marks a source that keeps changing as unreadable, and closes the file of any other.
fn finish_file<T>(source_file: &mut Arc<SourceFile<T>>, is_unsettled: bool) {
    if is_unsettled {
        *source_file = SourceFile::Unreadable(ReadError::Changing).into();
    } else if let Some(source_file) = Arc::get_mut(source_file) {
        source_file.close();
    }
}

impl RawSources {
    fn digests(&self, hasher: &RandomState) -> Vec<u64> {
        fn digest_of<T>(
            source_file: &SourceFile<T>,
            hasher: &RandomState,
            digest_text: impl Fn(&T, &mut DefaultHasher),
        ) -> u64 {
            let mut digest = hasher.build_hasher();
            source_file.digest(&mut digest, digest_text);
            digest.finish()
        }
        self.map_files(
            |table| digest_of(table, hasher, Text::digest),
            |small| {
                digest_of(small, hasher, |text, digest| {
                    digest_bytes(text.expose(), digest);
                })
            },
        )
    }

    /// Returns the version of each file, in the order of [`paths`].
    fn versions(&self, sources: &Sources) -> Vec<FileVersion> {
        let mut versions = vec![self.settings_file.version(sources.settings_file(), None, |text| {
            Some(digest::plain([text.expose()]))
        })];
        versions.extend(
            self.tables
                .iter()
                .map(|(spec, source_file)| source_file.version(&sources.file(spec), Some(spec), |_| None)),
        );
        let secrets = self.secrets.iter();
        versions.extend(secrets.map(|(path, source_file)| {
            source_file.version(path, None, |text| digest::keyed([text.expose()]))
        }));
        versions.push(
            self.directory_source
                .version(&sources.directory_source(), None, |text| {
                    let text = text.expose();
                    match DirectorySource::parse(text) {
                        Ok(_) => Some(digest::plain([text])),
                        // It may have a password.
                        Err(_) => digest::keyed([text]),
                    }
                }),
        );
        for (version, digest) in versions.iter_mut().zip(&self.digests) {
            version.content = *digest;
        }
        versions
    }

    /// Returns the files that are bind mounts of their own and were replaced where they come from.
    pub(super) fn unlinked_files(&self, sources: &Sources) -> Vec<PathBuf> {
        let tables = self
            .tables
            .iter()
            .map(|(spec, source_file)| (sources.file(spec), source_file.is_unlinked()));
        let settings = (
            sources.settings_file().to_owned(),
            self.settings_file.is_unlinked(),
        );
        let secrets = self
            .secrets
            .iter()
            .map(|(path, source_file)| (path.clone(), source_file.is_unlinked()));
        let directory_source = (sources.directory_source(), self.directory_source.is_unlinked());
        tables
            .chain([settings])
            .chain(secrets)
            .chain([directory_source])
            .filter_map(|(path, is_unlinked)| is_unlinked.then_some(path))
            .collect()
    }

    /// Whether the system failed to read any file, which another attempt may not repeat.
    pub(super) fn has_io_error(&self) -> bool {
        fn failed<T>(source_file: &SourceFile<T>) -> bool {
            source_file.has_io_error()
        }
        self.map_files(failed, failed).contains(&true)
    }

    /// Marks the files that a program is writing to as unsettled, as far as that shows within [`WRITER_CHECK`].
    fn detect_writers(&mut self) {
        fn fresh<T>(source_file: &SourceFile<T>) -> bool {
            source_file.is_recently_modified()
        }
        fn written<T>(source_file: &SourceFile<T>) -> bool {
            !source_file.is_unchanged()
        }
        let fresh = self.map_files(fresh, fresh);
        if fresh.contains(&true) {
            thread::sleep(WRITER_CHECK);
            let written = self.map_files(written, written);
            for (unsettled, written) in self.unsettled.iter_mut().zip(written) {
                *unsettled |= written;
            }
        }
    }

    /// Applies a function to each source, in the order of [`paths`].
    fn map_files<R>(
        &self,
        table: impl Fn(&SourceFile<Text>) -> R,
        small: impl Fn(&SourceFile) -> R,
    ) -> Vec<R> {
        let mut all = vec![small(&self.settings_file)];
        all.extend(self.tables.iter().map(|(_, source_file)| table(source_file)));
        all.extend(self.secrets.iter().map(|(_, source_file)| small(source_file)));
        all.push(small(&self.directory_source));
        all
    }

    fn finish(&mut self, sources: &Sources, hasher: &RandomState) {
        let mut unsettled = self.unsettled.iter().copied();
        finish_file(&mut self.settings_file, unsettled.next().unwrap_or_default());
        for ((_, source_file), is_unsettled) in self.tables.iter_mut().zip(&mut unsettled) {
            finish_file(source_file, is_unsettled);
        }
        for ((_, source_file), is_unsettled) in self.secrets.iter_mut().zip(&mut unsettled) {
            finish_file(source_file, is_unsettled);
        }
        finish_file(&mut self.directory_source, unsettled.next().unwrap_or_default());
        self.digests = self.digests(hasher);
        self.versions = self.versions(sources);
    }

    /// Returns which version of each file was read, in the order of [`paths`]. `None` for one that kept changing, and for
    /// one that does not exist.
    pub(super) fn version_ids(&self) -> Vec<Option<VersionId>> {
        let stats = self.stats.iter().zip(&self.unsettled);
        stats
            .map(|(stat, is_unsettled)| stat.version_id().filter(|_| !is_unsettled))
            .collect()
    }

    /// Stores the default relay that was made of the secrets, and wipes these.
    pub(super) fn set_default_relay(&mut self, default: &Arc<DefaultRelay>, findings: Findings) {
        self.default = Some((Arc::clone(default), findings));
        for (_, source_file) in &mut self.secrets {
            if let Some(source_file) = Arc::get_mut(source_file) {
                source_file.wipe_text();
            }
        }
    }

    /// Returns what was seen of each source, in the order of [`paths`]. `before` is the metadata at the last read.
    pub(super) fn seen(&self, before: &[PathStat]) -> Vec<SourceState> {
        let each = self
            .digests
            .iter()
            .zip(self.empty_or_missing())
            .zip(&self.unsettled);
        let seen = each
            .enumerate()
            .map(|(source, ((content, is_empty), is_unsettled))| SourceState {
                content: *content,
                is_empty,
                is_unsettled: *is_unsettled,
                steady: self.steady.get(source).copied().flatten(),
                written_since: None,
                is_unchanged: before.get(source) == self.stats.get(source),
            });
        seen.collect()
    }

    /// For each source, returns whether answers would change if it were missing or empty. `snapshot` must have been built
    /// from these sources.
    ///
    /// A table that is not known to be empty counts as well: in a new directory, its file may still have to be created.
    pub(super) fn loss_changes_answers(&self, snapshot: &Snapshot) -> Vec<bool> {
        let has_content: Vec<bool> = self
            .empty_or_missing()
            .iter()
            .map(|is_empty_or_missing| !is_empty_or_missing)
            .collect();
        // Unreadable settings are reported, or their whole directory is missing.
        let settings = has_content.first().copied().unwrap_or_default()
            && !matches!(*self.settings_file, SourceFile::Unreadable(_));
        let tables = self.tables.iter().map(|(spec, _)| {
            let table = snapshot.table(spec);
            table.is_none_or(|table| !table.is_certainly_empty())
        });
        let secrets = has_content.iter().copied().skip(1 + self.tables.len());
        let secrets = secrets.take(self.secrets.len());
        let all = [settings].into_iter().chain(tables).chain(secrets);
        all.chain([false]).collect()
    }

    /// Returns which sources are missing or have no byte, in the order of [`paths`]. A missing secret is an error, so
    /// it does not count.
    pub(super) fn empty_or_missing(&self) -> Vec<bool> {
        let mut empty = self.map_files(
            |table| table.is_empty_or_missing(Text::is_empty),
            |small| small.is_empty_or_missing(Secret::is_empty),
        );
        for (empty, (_, source_file)) in empty.iter_mut().skip(1 + self.tables.len()).zip(&self.secrets) {
            *empty &= !matches!(**source_file, SourceFile::Missing);
        }
        empty
    }

    /// Replaces this source by the one in `other`.
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
        if after_settings == self.tables.len() + self.secrets.len() {
            self.directory_source = Arc::clone(&other.directory_source);
            return;
        }
        match (
            self.tables.get_mut(after_settings),
            other.tables.get(after_settings),
        ) {
            (Some((_, own)), Some((_, others))) => *own = Arc::clone(others),
            // Secrets are held all together or not at all.
            _ => self.default.clone_from(&other.default),
        }
    }
}

/// The finding for a file that cannot be read as of one moment.
pub(super) fn changing_finding(path: &Path) -> Finding {
    Finding::in_file(Code::FilesChanging, path, None)
        .message("the file, or a link or directory of its path, changes faster than it can be read")
        .help("write each new version to a new directory, and switch a symbolic link to it")
}

/// Returns the path of every source: the settings, the tables, the secrets, and the source of the directory.
#[must_use]
pub(crate) fn paths(sources: &Sources) -> Vec<PathBuf> {
    let tables = sources.maps.tables().map(|spec| sources.file(spec));
    [sources.settings_file().to_owned()]
        .into_iter()
        .chain(tables)
        .chain(sources.relay.files().map(Path::to_path_buf))
        .chain([sources.directory_source()])
        .collect()
}

/// Returns the role of each source, in the order of [`paths`].
#[must_use]
pub(super) fn roles(sources: &Sources) -> Vec<Role> {
    let tables = sources.maps.tables().map(|spec| Role::Table(spec.format.values));
    let secrets = sources.relay.files().map(|_| Role::Secret);
    [Role::Settings]
        .into_iter()
        .chain(tables)
        .chain(secrets)
        .chain([Role::DirectorySource])
        .collect()
}

/// Reads the metadata of everything on the path of each source, in the order of [`paths`].
#[must_use]
pub(super) fn path_stats(sources: &Sources) -> Vec<PathStat> {
    paths(sources).iter().map(|path| PathStat::read(path)).collect()
}

#[cfg(test)]
mod tests;
