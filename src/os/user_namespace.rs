//! The users that the kernel does not tell apart in this process's user namespace.
//!
//! In a user namespace (rootless Podman, userns-remap of Docker, `hostUsers: false` of Kubernetes) the kernel shows all
//! users that the namespace does not map under one ID, the overflow user (user_namespaces(7)). That ID identifies no
//! user, even where the namespace maps a user of its own to it.
//!
//! Failure: where /proc cannot be read, the overflow user is treated as unknown. Other users are not affected.

use std::fs;
use std::sync::OnceLock;

/// `DEFAULT_OVERFLOWUID` of linux/highuid.h.
const DEFAULT_OVERFLOW_UID: u32 = 65_534;

/// The number of user IDs: all of 32 bits except the last, which means "none".
const ALL_USERS: u64 = u32::MAX as u64;

/// Returns the ID under which this process sees users that its namespace does not map, `None` where it maps all users.
/// It is read once: this process does not change its namespace, and a map is written once.
pub(crate) fn overflow_uid() -> Option<u32> {
    static UID: OnceLock<Option<u32>> = OnceLock::new();
    *UID.get_or_init(read_overflow_uid)
}

fn read_overflow_uid() -> Option<u32> {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let overflow = fs::read_to_string("/proc/sys/kernel/overflowuid").unwrap_or_default();
    (!maps_all_users(&map)).then(|| overflow.trim().parse().unwrap_or(DEFAULT_OVERFLOW_UID))
}

/// Returns whether a map contains all users. A nested namespace can map only what its parent maps.
fn maps_all_users(map: &str) -> bool {
    let lengths = map
        .lines()
        .filter_map(|line| line.split_ascii_whitespace().nth(2));
    lengths
        .filter_map(|length| length.parse::<u64>().ok())
        .sum::<u64>()
        >= ALL_USERS
}

#[cfg(test)]
mod tests {
    use super::maps_all_users;

    #[test]
    fn a_map_contains_all_users_or_not() {
        for (map, all) in [
            ("         0          0 4294967295\n", true),
            ("0 0 65534\n65534 65534 4294901761\n", true),
            ("0 0 4294967294\n", false),
            ("0 1000 1\n1 100000 65536\n", false),
            ("65534 1000 1\n", false),
            ("", false),
        ] {
            assert_eq!(maps_all_users(map), all, "{map}");
        }
    }
}
