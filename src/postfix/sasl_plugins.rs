//! The plug-ins of Cyrus SASL on this machine.
//!
//! Limits: only their file names are read, in the directories of Debian, Fedora and Alpine; where Postfix runs in another
//! container, its plug-ins are not seen.

use std::fs;
use std::path::{Path, PathBuf};

/// Whether a plug-in for XOAUTH2 is installed.
pub(super) fn has_xoauth2() -> bool {
    let of_architectures = list(Path::new("/usr/lib"));
    let all = ["/usr/lib", "/usr/lib64"]
        .map(PathBuf::from)
        .into_iter()
        .chain(of_architectures);
    all.flat_map(|directory| list(&directory.join("sasl2")))
        .any(|file| is_xoauth2(&file))
}

fn is_xoauth2(file: &Path) -> bool {
    let name = file
        .file_name()
        .map(|name| name.to_string_lossy().to_ascii_lowercase());
    name.is_some_and(|name| name.contains("oauth2") && name.contains(".so"))
}

/// Returns the paths in a directory; none if it cannot be read.
fn list(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}
