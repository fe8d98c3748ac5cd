//! The kernel's socket diagnostics (sock_diag(7)): which local user has the other end of a TCP connection.
//!
//! One query in one datagram and one answer, on a netlink socket that is kept open: 1.5 µs, however many sockets there are. The
//! kernel answers within the send, so nothing here blocks.
//!
//! Two answers look like a user and are not one. Accepting them would make every client root:
//!
//! - A client that has already closed leaves a socket without an owner, which the kernel reports with user 0 and inode 0. So only
//!   a socket that has an inode, and that is connected, has a user.
//! - Where there is no such connection, the kernel falls back to a listening socket at that address. So both
//!   ends of the socket in the answer are compared with those of the connection.
//!
//! Limits: a socket belongs to the user that created it, whichever process holds it now. Connections of another network namespace are not
//! seen. A user that this user namespace does not map has the number 65534.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use bytes::{Buf, BufMut, TryGetError};
use rustix::io::Errno;
use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with,
};

// linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h, net/tcp_states.h
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NO_COOKIE: u64 = u64::MAX;
const TCP_ESTABLISHED: u8 = 1;
const TCP_FIN_WAIT1: u8 = 4;
const TCP_FIN_WAIT2: u8 = 5;
const TCP_LISTEN: u8 = 10;

/// The length of `nlmsghdr` and `inet_diag_req_v2`.
const QUESTION: u32 = 16 + 56;

/// How many answers to other queries are skipped: there is at most one, of a query that failed halfway.
const STRAYS: usize = 8;

/// A netlink socket for queries to the kernel.
pub(super) struct SockDiag {
    socket: OwnedFd,
    sequence: u32,
}

impl SockDiag {
    /// Opens the socket.
    pub(super) fn open() -> io::Result<Self> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            Some(SOCK_DIAG),
        )?;
        // Connected to the kernel, so that no other process can send an answer.
        connect(&socket, &SocketAddrNetlink::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Returns the user who connected from `client` to `server`. `None` if there is no such connection on this host, or the client
    /// has closed it.
    pub(super) fn user(&mut self, client: SocketAddr, server: SocketAddr) -> io::Result<Option<u32>> {
        let (client, server) = (canonical(client), canonical(server));
        let socket = self.ask(client, server)?;
        Ok(socket.and_then(|socket| socket.user(client, server)))
    }

    /// Whether the kernel answers at all: queries a listener that exists, because for a connection that it does not find the kernel
    /// gives the same error as without the module.
    pub(super) fn finds(&mut self, listener: SocketAddr) -> io::Result<bool> {
        let listener = canonical(listener);
        let unconnected = match listener.ip() {
            IpAddr::V4(_) => SocketAddr::from(([0; 4], 0)),
            IpAddr::V6(_) => SocketAddr::from(([0_u16; 8], 0)),
        };
        let socket = self.ask(listener, unconnected)?;
        Ok(socket.is_some_and(|socket| socket.state == TCP_LISTEN))
    }

    fn ask(&mut self, local: SocketAddr, remote: SocketAddr) -> io::Result<Option<Socket>> {
        self.sequence = self.sequence.wrapping_add(1);
        let question = question(self.sequence, local, remote);
        send(&self.socket, &question, SendFlags::empty())?;
        let mut answer = [0; 1024];
        for _ in 0..=STRAYS {
            let (length, _) = recv(&self.socket, &mut answer[..], RecvFlags::empty())?;
            let answer = answer.get(..length).unwrap_or_default();
            match Answer::read(answer).map_err(|_| io::ErrorKind::InvalidData)? {
                Answer { sequence, .. } if sequence != self.sequence => {}
                Answer { content, .. } => return content,
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }
}

/// Builds the query: `nlmsghdr`, `inet_diag_req_v2`.
fn question(sequence: u32, local: SocketAddr, remote: SocketAddr) -> Vec<u8> {
    let family = if local.is_ipv4() && remote.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let mut question = Vec::new();
    question.put_u32_ne(QUESTION);
    question.put_u16_ne(SOCK_DIAG_BY_FAMILY);
    question.put_u16_ne(NLM_F_REQUEST);
    question.put_u32_ne(sequence);
    question.put_u32_ne(0);
    question.put_u8(u8::try_from(family.as_raw()).unwrap_or_default());
    question.put_u8(6); // IPPROTO_TCP
    question.put_u16(0); // no extensions
    question.put_u32_ne(u32::MAX); // any state
    question.put_u16(local.port());
    question.put_u16(remote.port());
    for address in [local, remote] {
        match address.ip() {
            IpAddr::V4(address) => {
                question.put_slice(&address.octets());
                question.put_bytes(0, 12);
            }
            IpAddr::V6(address) => question.put_slice(&address.octets()),
        }
    }
    question.put_u32_ne(0); // any interface
    question.put_u64_ne(NO_COOKIE);
    question
}

/// A message of the kernel: the query that it answers, and the socket, if there is one.
struct Answer {
    sequence: u32,
    content: io::Result<Option<Socket>>,
}

impl Answer {
    fn read(mut bytes: &[u8]) -> Result<Self, TryGetError> {
        let _length = bytes.try_get_u32_ne()?;
        let kind = bytes.try_get_u16_ne()?;
        let _flags = bytes.try_get_u16_ne()?;
        let sequence = bytes.try_get_u32_ne()?;
        let _port = bytes.try_get_u32_ne()?;
        let content = match kind {
            SOCK_DIAG_BY_FAMILY => Ok(Some(Socket::read(bytes)?)),
            NLMSG_ERROR => match Errno::from_raw_os_error(bytes.try_get_i32_ne()?.saturating_neg()) {
                Errno::NOENT => Ok(None),
                errno => Err(errno.into()),
            },
            _ => Err(io::ErrorKind::InvalidData.into()),
        };
        Ok(Self { sequence, content })
    }
}

/// The parts of an `inet_diag_msg` that count here.
struct Socket {
    state: u8,
    local: SocketAddr,
    remote: SocketAddr,
    uid: u32,
    inode: u32,
}

impl Socket {
    fn read(mut bytes: &[u8]) -> Result<Self, TryGetError> {
        let family = bytes.try_get_u8()?;
        let state = bytes.try_get_u8()?;
        let _timer_and_retransmissions = bytes.try_get_u16()?;
        let ports = [bytes.try_get_u16()?, bytes.try_get_u16()?];
        let mut addresses = [IpAddr::V6(Ipv6Addr::UNSPECIFIED); 2];
        for address in &mut addresses {
            let all = bytes.try_get_u128()?;
            *address = if u16::from(family) == AddressFamily::INET.as_raw() {
                // The first four of sixteen bytes.
                IpAddr::from(u32::try_from(all >> 96).unwrap_or_default().to_be_bytes())
            } else {
                IpAddr::from(all.to_be_bytes())
            };
        }
        let [(local, local_port), (remote, remote_port)] =
            [(addresses[0], ports[0]), (addresses[1], ports[1])];
        let _interface = bytes.try_get_u32_ne()?;
        let _cookie = bytes.try_get_u64_ne()?;
        let _expires = bytes.try_get_u32_ne()?;
        let _queues = bytes.try_get_u64_ne()?;
        Ok(Self {
            state,
            local: canonical(SocketAddr::new(local, local_port)),
            remote: canonical(SocketAddr::new(remote, remote_port)),
            uid: bytes.try_get_u32_ne()?,
            inode: bytes.try_get_u32_ne()?,
        })
    }

    /// Returns the user, if this is the connection from `client` to `server` and the client still has it.
    fn user(&self, client: SocketAddr, server: SocketAddr) -> Option<u32> {
        let is_the_one = self.local == client && self.remote == server;
        // A client that has shut down its sending direction still waits for replies.
        let is_had = matches!(self.state, TCP_ESTABLISHED | TCP_FIN_WAIT1 | TCP_FIN_WAIT2) && self.inode != 0;
        (is_the_one && is_had).then_some(self.uid)
    }
}

/// An IPv4 address in its own form, on whatever kind of socket it was seen; without scope and flow label.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

    use nix::unistd::geteuid;

    use super::{Answer, SockDiag, Socket, TCP_ESTABLISHED, TCP_LISTEN, canonical};

    /// A connection: its listener, its two ends, and their addresses.
    fn connected(listen: &str, connect: &str) -> (TcpListener, TcpStream, TcpStream, [SocketAddr; 2]) {
        let listener = TcpListener::bind(listen).unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect((connect, port)).unwrap();
        let (server, address) = listener.accept().unwrap();
        let ends = [address, server.local_addr().unwrap()];
        (listener, client, server, ends)
    }

    const WAYS: [(&str, &str); 4] = [
        ("127.0.0.1:0", "127.0.0.1"),
        ("[::1]:0", "::1"),
        ("[::]:0", "127.0.0.1"),
        ("[::]:0", "::ffff:127.0.0.1"),
    ];

    #[test]
    fn the_user_of_a_connection_is_known_over_ipv4_and_ipv6() {
        let mut kernel = SockDiag::open().unwrap();
        let me = geteuid().as_raw();
        for (listen, connect) in WAYS {
            let (listener, client, _server, [from, to]) = connected(listen, connect);
            assert!(kernel.finds(listener.local_addr().unwrap()).unwrap(), "{listen}");
            assert_eq!(kernel.user(from, to).unwrap(), Some(me), "{listen} {connect}");
            // Half closed is not closed.
            client.shutdown(Shutdown::Write).unwrap();
            assert_eq!(kernel.user(from, to).unwrap(), Some(me), "{listen} {connect}");
        }
    }

    #[test]
    fn a_client_that_has_closed_has_no_user() {
        let mut kernel = SockDiag::open().unwrap();
        for (listen, connect) in WAYS {
            let (_listener, mut client, server, [from, to]) = connected(listen, connect);
            client.write_all(b"request").unwrap();
            drop(client);
            // The answer of the kernel before the check: user 0.
            let answer = kernel.ask(canonical(from), canonical(to)).unwrap().unwrap();
            assert_eq!(answer.inode, 0, "{listen} {connect}");
            assert_eq!(kernel.user(from, to).unwrap(), None, "{listen} {connect}");
            drop(server);
            assert_eq!(kernel.user(from, to).unwrap(), None, "{listen} {connect}");
        }
    }

    #[test]
    fn a_listener_is_not_mistaken_for_a_connection() {
        let mut kernel = SockDiag::open().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let elsewhere = SocketAddr::from(([127, 0, 0, 1], 1));
        // The kernel falls back to the listener, and reports this user.
        let answer = kernel.ask(address, elsewhere).unwrap().unwrap();
        assert_eq!((answer.state, answer.uid), (TCP_LISTEN, geteuid().as_raw()));
        assert_eq!(kernel.user(address, elsewhere).unwrap(), None);
        drop(listener);
        assert!(kernel.ask(address, elsewhere).unwrap().is_none());
        assert_eq!(kernel.user(address, elsewhere).unwrap(), None);
        assert!(!kernel.finds(address).unwrap());
    }

    #[test]
    fn an_answer_about_another_connection_is_ignored() {
        let [client, server, other] = [1, 2, 3].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let socket = |state, local, remote, inode| Socket {
            state,
            local,
            remote,
            uid: 0,
            inode,
        };
        let user = |socket: Socket| socket.user(client, server);
        assert_eq!(user(socket(TCP_ESTABLISHED, client, server, 7)), Some(0));
        assert_eq!(user(socket(TCP_ESTABLISHED, server, client, 7)), None);
        assert_eq!(user(socket(TCP_ESTABLISHED, client, other, 7)), None);
        assert_eq!(user(socket(TCP_ESTABLISHED, other, server, 7)), None);
        assert_eq!(user(socket(TCP_ESTABLISHED, client, server, 0)), None);
        for state in (0..=16).filter(|state| ![1, 4, 5].contains(state)) {
            assert_eq!(user(socket(state, client, server, 7)), None, "state {state}");
        }
    }

    #[test]
    fn a_truncated_answer_or_one_of_another_kind_is_an_error() {
        for length in 0..88 {
            let mut message = vec![0; length];
            if let Some(kind) = message.get_mut(4) {
                *kind = 20;
            }
            assert!(Answer::read(&message).is_err(), "{length}");
        }
        // NLMSG_DONE
        let mut message = vec![0; 88];
        message[4] = 3;
        assert!(Answer::read(&message).unwrap().content.is_err());
    }
}
