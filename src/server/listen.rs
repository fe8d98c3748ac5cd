//! Endpoints to listening sockets.
//!
//! A TCP socket is bound with SO_REUSEADDR, so that a restart need not wait for old connections. A UNIX socket is
//! bound so that nobody else can connect before owner, group and mode are as they shall be; a socket that is left
//! over from a server that is gone is replaced, anything else at its path is an error; and it is removed at the end.
//! Whoever can write to its folder cannot have the owner or mode of another file changed by putting that in its place.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::sys::socket::setsockopt;
use nix::sys::stat::{Mode, umask};
use nix::unistd::Group;
use nix::{setsockopt_impl, sockopt_impl};
use rustix::fs::{AtFlags, FileType, OFlags, chownat, fstat, open};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind as name, connect, listen, socket_with,
};
use rustix::process::{Gid, Uid};
use thiserror::Error;
use tracing::{debug, warn};

use super::limits::BACKLOG;
use crate::config::SocketAccess;
use crate::endpoint::{Address, Endpoint};
use crate::printable::of_path;
use crate::service_manager::handover;

/// Why there is no listening at an endpoint.
#[derive(Debug, Error)]
#[error("{endpoint}: {problem}")]
pub struct BindError {
    /// The endpoint.
    pub endpoint: String,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong with an endpoint.
#[derive(Debug, Error)]
pub enum Problem {
    /// The name of the host has no address, says the resolver.
    #[error("the host has no address: {0}; write an address, or mend the name")]
    Resolve(io::Error),
    /// Another process listens there.
    #[error("another process listens there already; stop it, or choose another endpoint")]
    InUse,
    /// The path is taken by something that is no socket.
    #[error("there is something at this path that is not a socket; remove it, or choose another path")]
    NotASocket,
    /// The folder of a socket is not there.
    #[error("the folder of the socket does not exist; create it (mkdir -p {})", of_path(.0))]
    NoFolder(PathBuf),
    /// The system refuses.
    #[error("cannot listen: {0}")]
    Refused(io::Error),
    /// Owner, group or mode cannot be set.
    #[error("owner, group or mode of the socket cannot be set: {0}")]
    Access(io::Error),
}

impl BindError {
    /// Whether the settings are not to blame: it may go better when tried again.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self.problem, Problem::InUse | Problem::Resolve(_))
    }
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::AddrInUse => Self::InUse,
            _ => Self::Refused(error),
        }
    }
}

/// A listening socket.
pub struct Listener {
    /// Where it really listens, with the port that the system chose for port 0.
    pub endpoint: Endpoint,
    /// What accepts.
    pub socket: Socket,
}

/// Either kind. It does not wait for a connection where there is none.
pub enum Socket {
    /// TCP.
    Tcp(TcpListener),
    /// UNIX, and the file that goes with it, if it is ours.
    Unix(UnixListener, Option<SocketFile>),
}

impl Socket {
    /// A socket that somebody else bound, who keeps its file.
    pub fn handed_over(socket: handover::Socket) -> io::Result<Self> {
        Ok(match socket {
            handover::Socket::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                Self::Tcp(listener)
            }
            handover::Socket::Unix(listener) => {
                listener.set_nonblocking(true)?;
                refuse_descriptors(&listener);
                Self::Unix(listener, None)
            }
        })
    }

    /// The file that is removed at the end, by its absolute path.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Tcp(_) => None,
            Self::Unix(_, file) => file.as_ref().map(|file| &*file.path),
        }
    }
}

/// Binds every endpoint. A host name with several addresses gives several listeners.
///
/// Must be called before other threads create files: it changes the umask for a moment.
pub fn bind(endpoints: &[Endpoint], access: &SocketAccess) -> Result<Vec<Listener>, BindError> {
    let mut listeners = Vec::new();
    for endpoint in endpoints {
        let sockets = bind_address(&endpoint.to_string(), &endpoint.address, access)?;
        listeners.extend(sockets.into_iter().map(|(address, socket)| Listener {
            endpoint: Endpoint {
                protocol: endpoint.protocol,
                address,
            },
            socket,
        }));
    }
    Ok(listeners)
}

/// Binds one address, which errors call `endpoint`, and says where each of its sockets really listens. The same limits
/// as those of [`bind`].
pub fn bind_address(
    endpoint: &str,
    address: &Address,
    access: &SocketAccess,
) -> Result<Vec<(Address, Socket)>, BindError> {
    let bound = match address {
        Address::Inet(host, port) => {
            resolve(host, *port).and_then(|all| all.into_iter().map(bind_tcp).collect())
        }
        Address::Unix(path) => bind_unix(endpoint, path, access).map(|bound| vec![bound]),
    };
    bound.map_err(|problem| BindError {
        endpoint: endpoint.to_owned(),
        problem,
    })
}

fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, Problem> {
    use std::net::ToSocketAddrs;
    let addresses = (host, port).to_socket_addrs().map_err(Problem::Resolve)?;
    let mut unique: Vec<SocketAddr> = Vec::new();
    for address in addresses {
        if !unique.contains(&address) {
            unique.push(address);
        }
    }
    Ok(unique)
}

fn bind_tcp(address: SocketAddr) -> Result<(Address, Socket), Problem> {
    let socket = stream_socket(if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    })?;
    set_socket_reuseaddr(&socket, true).map_err(io::Error::from)?;
    name(&socket, &address).map_err(io::Error::from)?;
    listen(&socket, BACKLOG).map_err(io::Error::from)?;
    let listener = TcpListener::from(socket);
    let local = listener.local_addr()?;
    let address = Address::Inet(local.ip().to_string(), local.port());
    Ok((address, Socket::Tcp(listener)))
}

/// `endpoint` is for the log.
fn bind_unix(endpoint: &str, path: &Path, access: &SocketAccess) -> Result<(Address, Socket), Problem> {
    make_room(path)?;
    let before = umask(Mode::from_bits_truncate(0o177));
    let open = || {
        let socket = stream_socket(AddressFamily::UNIX)?;
        refuse_descriptors(&socket);
        name(&socket, &SocketAddrUnix::new(path)?)?;
        listen(&socket, BACKLOG)?;
        Ok(UnixListener::from(socket))
    };
    let bound: io::Result<UnixListener> = open();
    umask(before);
    let listener = bound.map_err(|error| match error.kind() {
        ErrorKind::NotFound => Problem::NoFolder(path.parent().unwrap_or(Path::new("/")).into()),
        _ => error.into(),
    })?;
    let file = SocketFile::of(path)?.ok_or(Problem::NotASocket)?;
    grant(endpoint, &file, access).map_err(Problem::Access)?;
    Ok((Address::Unix(path.into()), Socket::Unix(listener, Some(file))))
}

/// Removes a socket at which nobody listens any more. A link is not followed.
fn make_room(path: &Path) -> Result<(), Problem> {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        return Err(Problem::NotASocket);
    }
    match is_left_over(path) {
        Ok(true) => Ok(fs::remove_file(path)?),
        // It answers, or it has no room for us, or it is not ours to ask: another process has it either way.
        Ok(false) | Err(_) => Err(Problem::InUse),
    }
}

/// Whether nobody listens at this socket. Does not wait: the queue of a server that hangs may be full.
fn is_left_over(path: &Path) -> io::Result<bool> {
    let socket = stream_socket(AddressFamily::UNIX)?;
    Ok(connect(&socket, &SocketAddrUnix::new(path)?) == Err(Errno::CONNREFUSED))
}

/// A socket of this family that waits for nothing.
fn stream_socket(family: AddressFamily) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(family, SocketType::STREAM, flags, None)?)
}

/// Of linux/asm-generic/socket.h, which the libc crate does not have yet.
const SO_PASSRIGHTS: libc::c_int = 83;

sockopt_impl!(
    /// Whether a peer may hand descriptors over.
    PassRights,
    SetOnly,
    libc::SOL_SOCKET,
    SO_PASSRIGHTS,
    bool
);

/// Lets nobody hand a descriptor over to a connection of this UNIX socket (SCM_RIGHTS of unix(7)). Nobody here takes one,
/// but the kernel closes it in the thread that reads, and that may take as long as its sender wishes: the close of a TCP
/// socket with SO_LINGER waits for its peer.
///
/// Limits: Linux 6.16 and later; a kernel before that has no such option. Connections that are in the queue of a socket
/// that was handed over are as its unit says.
fn refuse_descriptors(listener: &impl AsFd) {
    if let Err(error) = setsockopt(listener, PassRights, &false) {
        debug!("the kernel does not keep descriptors from being handed over: {error}");
    }
}

/// Sets owner, group and mode. The mode comes last: until then only the server's own user could connect.
fn grant(endpoint: &str, file: &SocketFile, access: &SocketAccess) -> io::Result<()> {
    let chown = |owner: Option<u32>, group: Option<u32>| {
        let (owner, group) = (owner.map(Uid::from_raw), group.map(Gid::from_raw));
        chownat(&file.handle, "", owner, group, AtFlags::EMPTY_PATH)
    };
    if access.owner.is_some() || access.group.is_some() {
        chown(access.owner, access.group)?;
    }
    if access.group.is_none()
        && let Ok(Some(postfix)) = Group::from_name("postfix")
        // A folder with its setgid bit has given it already.
        && fstat(&file.handle).map(|about| about.st_gid) != Ok(postfix.gid.as_raw())
        && let Err(error) = chown(None, Some(postfix.gid.as_raw()))
    {
        // Nobody asked for it by name, so the server goes on with its own group.
        warn!(
            "{endpoint}: the socket cannot be given to the group postfix ({error}); put the server's user into that \
             group, or say with --socket-group who may connect"
        );
    }
    // A handle of this kind has no chmod(2) of its own.
    let path = format!("/proc/self/fd/{}", file.handle.as_raw_fd());
    fs::set_permissions(path, fs::Permissions::from_mode(access.mode))
}

/// The file of a UNIX socket, removed when dropped if it is still the one that was bound.
pub struct SocketFile {
    path: PathBuf,
    /// To the file itself, wherever it is and whatever is at its path (O_PATH).
    handle: OwnedFd,
    identity: (u64, u64),
}

impl SocketFile {
    /// Of the socket that was just bound at `path`. `None` if somebody has put something else there since.
    fn of(path: &Path) -> io::Result<Option<Self>> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = open(path, flags, rustix::fs::Mode::empty())?;
        let about = fstat(&handle)?;
        let is_socket = FileType::from_raw_mode(about.st_mode) == FileType::Socket;
        Ok(is_socket.then_some(Self {
            // The server may change its folder before the end.
            path: std::path::absolute(path)?,
            handle,
            identity: (about.st_dev, about.st_ino),
        }))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let still = fs::symlink_metadata(&self.path);
        if still.is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
