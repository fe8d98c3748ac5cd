//! The memory allocator.
//!
//! glibc keeps freed memory for later use, whatever its size, unless it is at the end of a heap. Without [`trim`], a
//! replaced table would stay in the resident memory of the process until a later reload happens to reuse it.
//!
//! Other C libraries (musl) return it automatically; there this module does nothing.

/// Returns free whole pages to the system. Takes milliseconds where there is much to return; other threads that
/// allocate may wait meanwhile.
pub(crate) fn trim() {
    #[cfg(target_env = "gnu")]
    {
        #[allow(
            unsafe_code,
            reason = "neither the standard library nor nix has malloc_trim(3)"
        )]
        // SAFETY: the argument is a number of bytes to keep, not a pointer, and glibc permits the call from any thread.
        unsafe {
            libc::malloc_trim(0);
        }
    }
}
