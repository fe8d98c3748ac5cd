//! Extended attributes: access control lists, labels, and what users put there.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fsetxattr};
use rustix::io::{Errno, Result};

/// The most that Linux lets the names, or one value, have.
const MOST: usize = 65_536;

/// Copies all of them. A label that only the system may set is left to the system.
pub(super) fn copy(from: &File, to: &File) -> io::Result<()> {
    let mut names = vec![0; MOST];
    let length = match flistxattr(from, names.as_mut_slice()) {
        Ok(length) => length,
        Err(Errno::NOTSUP | Errno::NOSYS) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let names = names.get(..length).unwrap_or_default();
    for name in names.split(|c| *c == 0).filter(|name| !name.is_empty()) {
        match copy_one(OsStr::from_bytes(name), from, to) {
            Ok(()) => {}
            Err(Errno::PERM | Errno::NOTSUP | Errno::ACCESS) if !name.starts_with(b"system.") => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn copy_one(name: &OsStr, from: &File, to: &File) -> Result<()> {
    let mut value = vec![0; MOST];
    let length = fgetxattr(from, name, value.as_mut_slice())?;
    fsetxattr(
        to,
        name,
        value.get(..length).unwrap_or_default(),
        XattrFlags::empty(),
    )
}
