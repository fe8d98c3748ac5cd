//! The sources of user, group and host names.
//!
//! The C library follows `/etc/nsswitch.conf`. glibc contains the sources `files` and `dns` (since 2.34), and loads any
//! other as a shared library of the machine, together with that machine's C library. In a statically linked process
//! there are then two C libraries, and the first name that is not in `/etc/passwd` crashes it (`SIGSEGV` with glibc
//! 2.36 and `passwd: files systemd`, Debian's default).
//!
//! So a static build looks up users and groups in `/etc/passwd` and `/etc/group`, and hosts in `/etc/hosts` and at the
//! name servers of `/etc/resolv.conf`, and nowhere else. Users that only a directory service knows must be given by
//! number there. A dynamic build uses the machine's sources, and [`configure`] does nothing. Other C libraries (musl)
//! load no sources.

use std::io;

/// Parses a user or group ID: digits alone, and not the greatest 32-bit number, which means "none" to chown(2) and in
/// the kernel's credentials of peers.
pub(crate) fn parse_id(word: &str) -> Option<u32> {
    let is_digits = !word.is_empty() && word.bytes().all(|c| c.is_ascii_digit());
    let number = word.parse().ok().filter(|_| is_digits);
    number.filter(|number| *number != u32::MAX)
}

/// Restricts a static build to the sources it contains. Call it before the first lookup and before starting a thread.
///
/// # Errors
///
/// The error of the C library (out of memory).
pub fn configure() -> io::Result<()> {
    #[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
    for (database, sources) in built_in::SOURCES {
        built_in::set_sources(database, sources)?;
    }
    Ok(())
}

#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
mod built_in {
    use std::ffi::{CStr, c_char, c_int};
    use std::io;

    /// The databases that this program looks names up in, each with the sources that need no shared library.
    /// `initgroups` uses those of `group`, unless nsswitch.conf has a line for it.
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
    /// Replaces the sources of `database` in nsswitch.conf, for this process.
    pub(super) fn set_sources(database: &CStr, sources: &CStr) -> io::Result<()> {
        unsafe extern "C" {
            /// <nss.h>: returns 0, or -1 and sets errno.
            fn __nss_configure_lookup(database: *const c_char, sources: *const c_char) -> c_int;
        }
        // SAFETY: both end with NUL and live during the call, after which glibc keeps neither. No other thread exists yet,
        // so none looks a name up at the same time (see `configure`).
        match unsafe { __nss_configure_lookup(database.as_ptr(), sources.as_ptr()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}
