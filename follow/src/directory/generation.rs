//! A generation: a directory with the files of one state of the source.
//!
//! Its name is random. A name that was used before would lead a server that still reads the old files to the new ones, and a
//! program that numbers them from 1 after each start would write into the active generation.
//!
//! `source.json` is written last and has the digests of the other files, so a generation that was not written to its end, or
//! not flushed before a loss of power, is detected ([`Generation::read`]). The digests are keyed, because `/status` may
//! show them and a plain digest of credentials would allow passwords to be tried. The key is a file of the generation, and
//! each generation has that of the one before: a file without changes is the same one in both, with the same digest, and equal
//! digests are equal texts.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use postmapd::os::secret::Secret;
use postmapd::os::whole_file::{MAX_TEXT, read_secret};

use super::disk::Disk;
use super::error::{DirectoryError, DirectoryErrorKind};
use super::lines::{Counts, measure};
use super::provenance::{Provenance, SourceFile};
use crate::engine::Table;
use crate::random;

/// The file that says where the others come from.
pub(super) const SOURCE_FILE: &str = "source.json";

/// The file with the key of the digests.
pub(super) const KEY_FILE: &str = "digest-key";

const KEY_LENGTH: usize = 32;
const NAME_LENGTH: usize = 16;

/// Whether the group of the directory can read the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readers {
    Owner,
    Group,
}

impl Readers {
    pub(super) fn file_mode(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Group => 0o640,
        }
    }

    pub(super) fn directory_mode(self) -> u32 {
        match self {
            Self::Owner => 0o700,
            Self::Group => 0o750,
        }
    }

    /// Whether these can read a generation in the directory `parent`, and no others.
    fn are_of(self, parent: &Path, path: &Path, files: impl Iterator<Item = &'static str>) -> bool {
        let group = |path: &Path| fs::metadata(path).ok().map(|metadata| metadata.gid());
        let has = |path: &Path, mode| {
            let metadata = fs::metadata(path).ok();
            metadata.is_some_and(|metadata| metadata.mode() & 0o777 == mode)
                && (self == Self::Owner || group(path) == group(parent))
        };
        has(path, self.directory_mode())
            && files
                .chain([SOURCE_FILE])
                .all(|file| has(&path.join(file), self.file_mode()))
    }
}

/// The file of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TableFile {
    pub(super) digest: String,
    pub(super) counts: Counts,
}

/// A whole generation.
pub(super) struct Generation {
    /// The name in the directory.
    pub(super) name: String,
    pub(super) files: BTreeMap<Table, TableFile>,
    /// The key of their digests.
    pub(super) key: Secret,
    pub(super) provenance: Provenance,
    /// Whether those can read it that the directory has now.
    pub(super) has_current_modes: bool,
}

impl Generation {
    /// Whether a file of the directory has the name of a generation.
    pub(super) fn is_name(name: &str) -> bool {
        name.strip_prefix("..").is_some_and(|digits| {
            digits.len() == 2 * NAME_LENGTH && digits.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
        })
    }

    /// Reads the generation `name`, if it is whole.
    pub(super) fn read(parent: &Path, name: &str, readers: Readers) -> Option<Self> {
        let path = parent.join(name);
        let source = read_secret(&path.join(SOURCE_FILE), MAX_TEXT).ok()?;
        let source: SourceFile = serde_json::from_slice(source.expose()).ok()?;
        let key = read_secret(&path.join(KEY_FILE), MAX_TEXT).ok()?;
        if key.len() != KEY_LENGTH {
            return None;
        }
        let mut files = BTreeMap::new();
        for (name, expected) in &source.digests {
            let table = Table::ALL.into_iter().find(|table| table.spec().file == name)?;
            let (digest, counts) = measure(&path.join(name), table.spec(), &key).ok()?;
            if digest != *expected {
                return None;
            }
            files.insert(table, TableFile { digest, counts });
        }
        Some(Self {
            name: name.to_owned(),
            has_current_modes: readers.are_of(parent, &path, files.keys().map(|table| table.spec().file)),
            files,
            key,
            provenance: source.provenance()?,
        })
    }

    /// Returns the names of the files to which the directory has links.
    pub(super) fn linked_files(&self) -> impl Iterator<Item = &'static str> {
        let tables = self.files.keys().map(|table| table.spec().file);
        [SOURCE_FILE].into_iter().chain(tables)
    }

    /// Flushes the files and the directory that has their names.
    pub(super) fn sync(&self, disk: &dyn Disk, parent: &Path) -> Result<(), DirectoryError> {
        let path = parent.join(&self.name);
        let files = self.linked_files().chain([KEY_FILE]).map(|file| path.join(file));
        for path in files.chain([path.clone()]) {
            disk.sync(&path)
                .map_err(DirectoryErrorKind::system("flush it to the disk", path))?;
        }
        Ok(())
    }
}

/// Returns the time of the last change of a generation, for the choice among several whole ones.
pub(super) fn changed_at(parent: &Path, name: &str) -> Option<SystemTime> {
    parent
        .join(name)
        .join(SOURCE_FILE)
        .metadata()
        .ok()?
        .modified()
        .ok()
}

/// Returns a key for the digests of the files of a directory.
pub(super) fn random_key() -> io::Result<Secret> {
    let mut key = Secret::from(vec![0; KEY_LENGTH]);
    random::fill(key.expose_mut())?;
    Ok(key)
}

/// Returns the name of a new generation.
pub(super) fn random_name() -> io::Result<String> {
    let mut bytes = [0; NAME_LENGTH];
    random::fill(&mut bytes)?;
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("..{}", digits.concat()))
}
