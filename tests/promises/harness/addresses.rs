//! Loopback addresses for servers that need a fixed port, such as 465.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

/// Returns a loopback address that no other test uses, of this or of another process.
pub(crate) fn unused_loopback_address() -> Ipv4Addr {
    static BLOCK: OnceLock<(u8, UdpSocket)> = OnceLock::new();
    static USED: AtomicU16 = AtomicU16::new(0);
    // A process owns a block of the addresses as long as it has this socket. Other tests use 127.0.0.0/16.
    let (block, _) = BLOCK.get_or_init(|| {
        let claim = |block| {
            Some((
                block,
                UdpSocket::bind((Ipv4Addr::new(127, block, 255, 254), 1)).ok()?,
            ))
        };
        (64..=191)
            .find_map(claim)
            .expect("an unused block of 127.0.0.0/8")
    });
    let [high, low] = (USED.fetch_add(1, Ordering::SeqCst) + 1).to_be_bytes();
    Ipv4Addr::new(127, *block, high, low)
}
