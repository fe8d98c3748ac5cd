//! Where the names of users, groups and hosts are looked up.
//!
//! The C library goes by `/etc/nsswitch.conf`. glibc has the sources `files` and `dns` in itself (since 2.34), and loads
//! any other as a shared library of the machine that it runs on, with that machine's C library. In a process that has a
//! C library linked in already there are then two, and the first name that is not in `/etc/passwd` ends it
//! (`SIGSEGV` with glibc 2.36 and `passwd: files systemd`, Debian's default).
//!
//! So a static build looks users and groups up in `/etc/passwd` and `/etc/group`, and hosts in `/etc/hosts` and at the
//! name servers of `/etc/resolv.conf`, and nowhere else; a user whom only a directory service knows has to be given
//! by number. A dynamic build asks whom the machine asks, and [`configure`] does nothing there. Other C libraries
//! (musl) load no sources at all.

use std::io;

/// The user or group that has no name but a number: digits alone, and not the greatest one, which chown(2) and the kernel's
/// answers about peers take for none.
pub(crate) fn number(word: &str) -> Option<u32> {
    let is_number = !word.is_empty() && word.bytes().all(|c| c.is_ascii_digit());
    let number = word.parse().ok().filter(|_| is_number);
    number.filter(|number| *number != u32::MAX)
}

/// Says where this process looks names up. To be called before the first lookup, and before a second thread.
///
/// # Errors
/// What the C library says (no memory).
#[cfg_attr(
    not(all(target_env = "gnu", target_feature = "crt-static")),
    expect(clippy::unnecessary_wraps, reason = "it fails in a static build alone")
)]
pub(crate) fn configure() -> io::Result<()> {
    #[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
    for (database, sources) in built_in::SOURCES {
        built_in::look_up(database, sources)?;
    }
    Ok(())
}

#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
mod built_in {
    use std::ffi::{CStr, c_char, c_int};
    use std::io;

    /// Of each database that a lookup of ours can reach, the sources that need no shared library. `initgroups` is that
    /// of `group`, unless nsswitch.conf has a line for it.
    pub(super) const SOURCES: [(&CStr, &CStr); 4] = [
        (c"passwd", c"files"),
        (c"group", c"files"),
        (c"initgroups", c"files"),
        (c"hosts", c"files dns"),
    ];

    #[allow(
        unsafe_code,
        reason = "<nss.h> is the only way to say so, and neither nix nor libc has it"
    )]
    pub(super) fn look_up(database: &CStr, sources: &CStr) -> io::Result<()> {
        unsafe extern "C" {
            /// <nss.h>: 0, or -1 and errno.
            fn __nss_configure_lookup(database: *const c_char, sources: *const c_char) -> c_int;
        }
        // SAFETY: both are strings that end with NUL and live for ever; glibc parses them and keeps neither.
        match unsafe { __nss_configure_lookup(database.as_ptr(), sources.as_ptr()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}
