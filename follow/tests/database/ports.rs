//! Ports of 127.0.0.1 for servers that cannot choose one themselves.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::{TcpListener, UdpSocket};

/// A port at which nothing listens: no service of this time has it.
pub const CLOSED: u16 = 1;

/// Below the ports that the kernel gives to connections and to listeners without a port (ip(7), ip_local_port_range).
const FIRST: u16 = 12_000;
const COUNT: u16 = 18_000;

/// A port that no other server of the tests gets while this exists, also while nothing listens at it.
pub struct Port {
    number: u16,
    /// Bound to the same number of UDP, which no server uses: tests in other processes see that.
    _reservation: UdpSocket,
}

impl Port {
    /// Reserves a port at which nothing listens.
    ///
    /// # Panics
    ///
    /// There is none.
    pub fn reserve() -> Self {
        let mut offset = RandomState::new().hash_one(0);
        for _ in 0..COUNT {
            offset = (offset + 1) % u64::from(COUNT);
            let number = FIRST + u16::try_from(offset).unwrap();
            let Ok(reservation) = UdpSocket::bind(("127.0.0.1", number)) else {
                continue;
            };
            if TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Self {
                    number,
                    _reservation: reservation,
                };
            }
        }
        panic!("no port is free");
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }
}
