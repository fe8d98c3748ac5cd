//! A generation: a directory with the files of one state of the source.
//!
//! Its name is random. A name that was used before would lead a server that still reads the old files to the new ones, and a
//! program that numbers them from 1 after each start would write into the active generation.
//!
//! `source.json` is written last and has the digests of the other files, so a generation that was not written to its end, or
//! not flushed before a loss of power, is detected ([`Generation::read`]). The digests are keyed, because `/status` may
//! show them and a plain digest of credentials would allow passwords to be tried. The key is a file of the generation.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use postmapd::lookup::table::spec::{CREDENTIALS, RELAY_MAP, RELAY_TLS, TableSpec};
use postmapd::os::digest;
use postmapd::os::secret::Secret;
use postmapd::os::whole_file::{MAX_FILE, MAX_TEXT, read_secret};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

use super::disk::Disk;
use super::error::{DirectoryError, DirectoryErrorKind};
use super::provenance::{Provenance, SourceFile};

/// The files that a generation may have.
pub(super) const TABLES: [&TableSpec; 3] = [&RELAY_MAP, &CREDENTIALS, &RELAY_TLS];

/// The file that says where the others come from.
pub(super) const SOURCE_FILE: &str = "source.json";

/// The file with the key of the digests.
const KEY_FILE: &str = "digest-key";

const KEY_LENGTH: usize = 32;
const NAME_LENGTH: usize = 16;

/// Whether the group of the directory can read the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readers {
    Owner,
    Group,
}

impl Readers {
    fn file_mode(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Group => 0o640,
        }
    }

    fn directory_mode(self) -> u32 {
        match self {
            Self::Owner => 0o700,
            Self::Group => 0o750,
        }
    }
}

/// A whole generation.
pub(super) struct Generation {
    /// The name in the directory.
    pub(super) name: String,
    /// The names of the files to which the directory has links.
    pub(super) files: Vec<&'static str>,
    pub(super) provenance: Provenance,
}

impl Generation {
    /// Whether a file of the directory has the name of a generation.
    pub(super) fn is_name(name: &str) -> bool {
        name.strip_prefix("..").is_some_and(|digits| {
            digits.len() == 2 * NAME_LENGTH && digits.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
        })
    }

    /// Writes one into the directory `parent`. After an error, nothing of it remains, if it can be removed.
    pub(super) fn write(
        disk: &dyn Disk,
        parent: &Path,
        readers: Readers,
        tables: &[(&'static TableSpec, &Secret)],
        provenance: &Provenance,
    ) -> Result<Self, DirectoryError> {
        let name = random_name().map_err(DirectoryErrorKind::system("get random bytes", parent))?;
        let path = parent.join(&name);
        disk.create_directory(&path, readers.directory_mode())
            .map_err(DirectoryErrorKind::system("create it", &path))?;
        match write_files(disk, &path, readers, tables, provenance) {
            Ok(files) => Ok(Self {
                name,
                files,
                provenance: provenance.clone(),
            }),
            Err(error) => {
                // What cannot be removed now is removed after the next flush.
                let _ = disk.remove_directory(&path);
                Err(error)
            }
        }
    }

    /// Reads the generation `name`, if it is whole.
    pub(super) fn read(parent: &Path, name: &str) -> Option<Self> {
        let path = parent.join(name);
        let source = read_secret(&path.join(SOURCE_FILE), MAX_TEXT).ok()?;
        let source: SourceFile = serde_json::from_slice(source.expose()).ok()?;
        let key = read_secret(&path.join(KEY_FILE), MAX_TEXT).ok()?;
        if key.len() != KEY_LENGTH {
            return None;
        }
        let mut files = vec![SOURCE_FILE];
        for (file, expected) in &source.digests {
            let spec = TABLES.into_iter().find(|spec| spec.file == file)?;
            let text = read_secret(&path.join(spec.file), MAX_FILE).ok()?;
            if digest::keyed_with(key.expose(), [text.expose()]).as_ref() != Some(expected) {
                return None;
            }
            files.push(spec.file);
        }
        Some(Self {
            name: name.to_owned(),
            files,
            provenance: source.provenance()?,
        })
    }

    /// Flushes the files and the directory that has their names.
    pub(super) fn sync(&self, disk: &dyn Disk, parent: &Path) -> Result<(), DirectoryError> {
        let path = parent.join(&self.name);
        let files = self.files.iter().chain([&KEY_FILE]).map(|file| path.join(file));
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

fn write_files(
    disk: &dyn Disk,
    path: &Path,
    readers: Readers,
    tables: &[(&'static TableSpec, &Secret)],
    provenance: &Provenance,
) -> Result<Vec<&'static str>, DirectoryError> {
    let write = |path: PathBuf, mode, content: &[u8]| {
        disk.write(&path, mode, content)
            .map_err(DirectoryErrorKind::system("write it", path))
    };
    let mut key = Secret::from(vec![0; KEY_LENGTH]);
    fill_randomly(key.expose_mut()).map_err(DirectoryErrorKind::system("get random bytes", path))?;
    write(path.join(KEY_FILE), 0o600, key.expose())?;
    let mut files = vec![SOURCE_FILE];
    let mut digests = BTreeMap::new();
    for (spec, text) in tables {
        write(path.join(spec.file), readers.file_mode(), text.expose())?;
        digests.extend(
            digest::keyed_with(key.expose(), [text.expose()]).map(|digest| (spec.file.to_owned(), digest)),
        );
        files.push(spec.file);
    }
    let source = path.join(SOURCE_FILE);
    let mut json = serde_json::to_vec(&SourceFile::new(provenance, digests))
        .map_err(|error| DirectoryErrorKind::system("write it", &source)(error.into()))?;
    json.push(b'\n');
    write(source, readers.file_mode(), &json)?;
    Ok(files)
}

fn random_name() -> io::Result<String> {
    let mut bytes = [0; NAME_LENGTH];
    fill_randomly(&mut bytes)?;
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("..{}", digits.concat()))
}

fn fill_randomly(bytes: &mut [u8]) -> io::Result<()> {
    let length = bytes.len();
    // So few bytes come at once.
    match getrandom(bytes, GetRandomFlags::empty()) {
        Ok(filled) if filled == length => Ok(()),
        Ok(_) => Err(Errno::IO.into()),
        Err(error) => Err(error.into()),
    }
}
