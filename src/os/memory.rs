//! Memory that is needed no more, given back to the system.
//!
//! glibc keeps what is freed for later, however much it is, unless it lies at the end of a heap. A table that was
//! replaced would stay in the resident memory of the process until the next reload happens to use its place.
//!
//! Other C libraries (musl) give it back by themselves; there this does nothing.

/// Gives back what is free in whole pages. Takes milliseconds where much is, during which other threads may have to
/// wait if they allocate.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    {
        #[allow(
            unsafe_code,
            reason = "neither the standard library nor nix has malloc_trim(3)"
        )]
        // SAFETY: it takes a number of bytes to keep and no pointer, and glibc lets any thread call it at any time.
        unsafe {
            libc::malloc_trim(0);
        }
    }
}
