//! The files of the active generation, held open: a change is detected without reading them, and a file that another program has
//! removed can still be read.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What changes when a file is replaced or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    number: u64,
    length: u64,
    modified: (i64, i64),
}

impl Identity {
    fn new(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            number: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

struct HeldFile {
    name: &'static str,
    file: File,
    identity: Identity,
}

/// Open files of a generation, as they were when they were opened.
pub(super) struct HeldFiles(Vec<HeldFile>);

impl HeldFiles {
    /// Opens files of a whole generation.
    pub(super) fn open(generation: &Path, names: impl Iterator<Item = &'static str>) -> io::Result<Self> {
        let open = |name| {
            let file = File::open(generation.join(name))?;
            let identity = Identity::new(&file.metadata()?);
            Ok(HeldFile { name, file, identity })
        };
        names.map(open).collect::<io::Result<_>>().map(Self)
    }

    /// Whether a generation has these files, as they were when they were opened.
    pub(super) fn are_in(&self, generation: &Path) -> bool {
        self.0.iter().all(|held| {
            let metadata = fs::symlink_metadata(generation.join(held.name));
            metadata.is_ok_and(|metadata| Identity::new(&metadata) == held.identity)
        })
    }

    /// Returns a file, to be read from its beginning by one reader at a time.
    pub(super) fn file(&self, name: &str) -> io::Result<File> {
        let held = self.0.iter().find(|held| held.name == name);
        let mut file = held.ok_or(ErrorKind::NotFound)?.file.try_clone()?;
        file.rewind()?;
        Ok(file)
    }
}
