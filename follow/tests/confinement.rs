//! Promise: once it is confined, the follower connects only to its source and to name servers, writes only its directory, runs no
//! program, and still does its task.
//!
//! The program cannot be told to misbehave, so a thread of the test tries it with the same restrictions.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test ends where something fails"
)]

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use postmapd_follow::confinement::{self, Confinement};
use postmapd_follow::settings::Settings;

/// Permission denied: Landlock.
const EACCES: i32 = 13;
/// Operation not permitted: seccomp.
const EPERM: i32 = 1;

fn settings(text: &str) -> Settings {
    Settings::parse(Path::new("/follow.toml"), text.as_bytes()).unwrap()
}

/// Settings with a source at this port of the loopback interface.
fn source_at(port: u16, dir: &Path) -> Settings {
    settings(&format!(
        "source = \"postgres://u@127.0.0.1:{port}/mail\"\ntls = \"off\"\ndir = \"{}\"\n",
        dir.display()
    ))
}

/// Runs `act` in a confined thread. The other threads of this process are not confined.
fn confined<T: Send>(settings: &Settings, act: impl FnOnce(Confinement) -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| act(confinement::enter(settings)));
        match thread.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

#[track_caller]
fn expect_errno<T>(result: io::Result<T>, errno: i32) {
    let error = result.err().expect("an error");
    assert_eq!(error.raw_os_error(), Some(errno), "{error}");
}

/// A field of the status of this thread, proc(5).
fn status(field: &str) -> String {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let value = status.lines().find_map(|line| line.strip_prefix(field));
    value.unwrap().trim_start_matches(':').trim().to_owned()
}

#[test]
fn a_confined_follower_connects_only_to_the_port_of_its_source() {
    let temp = tempfile::tempdir().unwrap();
    let (source, other) = (
        TcpListener::bind("127.0.0.1:0").unwrap(),
        TcpListener::bind("127.0.0.1:0").unwrap(),
    );
    let [source, other_address] = [&source, &other].map(|listener| listener.local_addr().unwrap());
    confined(&source_at(source.port(), temp.path()), |confinement| {
        assert!(confinement.restricts_connections, "{confinement:?}");
        TcpStream::connect(source).unwrap();
        expect_errno(TcpStream::connect(other_address), EACCES);
        // It listens before it is confined.
        expect_errno(TcpListener::bind("127.0.0.1:0"), EACCES);
        expect_errno(UnixListener::bind(temp.path().join("socket")), EACCES);
        // Threads that it starts later have the same restrictions.
        let connected = thread::spawn(move || TcpStream::connect(other_address));
        expect_errno(connected.join().unwrap(), EACCES);
        // A listener that was bound before accepts.
        other.set_nonblocking(true).unwrap();
        assert_eq!(other.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    });
}

#[test]
fn without_a_host_on_a_network_there_are_no_tcp_connections() {
    let temp = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let database = UnixListener::bind(temp.path().join(".s.PGSQL.5432")).unwrap();
    let directory = temp.path().display().to_string();
    let text = format!(
        "source = \"postgres://u@{}/mail\"\ndir = \"{directory}\"\n",
        directory.replace('/', "%2F")
    );
    confined(&settings(&text), |_| {
        expect_errno(TcpStream::connect(listener.local_addr().unwrap()), EACCES);
        UnixStream::connect(temp.path().join(".s.PGSQL.5432")).unwrap();
    });
    drop(database);
}

#[test]
fn a_confined_follower_writes_only_its_directory() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    for directory in ["tables", "run", "other"] {
        fs::create_dir(at(directory)).unwrap();
        fs::write(at(directory).join("file"), "text").unwrap();
    }
    let mut settings = source_at(5432, &at("tables"));
    settings.admin = Some(postmapd::net::address::Address::Unix(at("run/admin")));
    let admin = UnixListener::bind(at("run/admin")).unwrap();
    confined(&settings, |_| {
        expect_errno(fs::write(at("other/file"), ""), EACCES);
        expect_errno(fs::write(at("other/new"), ""), EACCES);
        expect_errno(fs::write(at("run/new"), ""), EACCES);
        expect_errno(fs::create_dir(at("other/directory")), EACCES);
        expect_errno(fs::remove_file(at("other/file")), EACCES);
        expect_errno(fs::rename(at("other/file"), at("other/renamed")), EACCES);
        expect_errno(symlink("file", at("other/link")), EACCES);
        // Neither out of its directory nor into it.
        expect_errno(fs::hard_link(at("tables/file"), at("other/link")), EACCES);
        assert!(fs::rename(at("other/file"), at("tables/moved")).is_err());
        // What a publication does.
        for generation in ["..1", "..2"] {
            fs::create_dir(at("tables").join(generation)).unwrap();
        }
        let (old, new) = (at("tables/..1/file"), at("tables/..2/file"));
        fs::write(&old, "text").unwrap();
        fs::set_permissions(&old, fs::Permissions::from_mode(0o600)).unwrap();
        fs::hard_link(&old, &new).unwrap();
        fs::File::open(&new).unwrap().sync_all().unwrap();
        symlink("..2", at("tables/..data.next")).unwrap();
        fs::rename(at("tables/..data.next"), at("tables/..data")).unwrap();
        fs::File::open(at("tables")).unwrap().sync_all().unwrap();
        fs::remove_dir_all(at("tables/..1")).unwrap();
        assert_eq!(fs::read_to_string(at("tables/..data/file")).unwrap(), "text");
        // What the end does.
        fs::remove_file(at("run/admin")).unwrap();
        assert_eq!(fs::read_to_string(at("other/file")).unwrap(), "text");
    });
    drop(admin);
}

#[test]
fn a_confined_follower_runs_no_program_and_gains_no_privilege() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("file");
    fs::write(&file, "text").unwrap();
    confined(&source_at(5432, temp.path()), |confinement| {
        expect_errno(Command::new("/bin/true").status(), EPERM);
        expect_errno(std::os::unix::fs::chown(&file, Some(1), Some(1)), EPERM);
        expect_errno(std::os::unix::fs::chroot(temp.path()), EPERM);
        assert_eq!([status("NoNewPrivs"), status("Seccomp")], ["1", "2"]);
        for word in [
            "no new privileges",
            "no core dumps",
            "only in its directory",
            "system calls",
        ] {
            assert!(
                confinement.measures.iter().any(|measure| measure.contains(word)),
                "{confinement:?}"
            );
        }
    });
}

#[test]
fn the_sandbox_can_be_disabled() {
    let temp = tempfile::tempdir().unwrap();
    let mut settings = source_at(5432, temp.path());
    settings.sandbox = false;
    confined(&settings, |confinement| {
        assert_eq!(confinement, Confinement::default());
        assert_eq!([status("NoNewPrivs"), status("Seccomp")], ["0", "0"]);
        assert!(Command::new("/bin/true").status().unwrap().success());
    });
}

/// Answers one question for the address of a name: over UDP that the answer is too long, and over TCP with the address.
fn answer(query: &[u8], address: Option<Ipv4Addr>) -> Vec<u8> {
    // RFC 1035: the header, one question (a name, its type and class), and an answer with a pointer to the name.
    let name_end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap();
    let is_address = query[name_end + 1..name_end + 3] == [0, 1];
    let address = address.filter(|_| is_address);
    let truncated = if is_address && address.is_none() { 0x02 } else { 0 };
    let mut reply = query[..2].to_vec();
    reply.extend([
        0x85 | truncated,
        0x80,
        0,
        1,
        0,
        u8::from(address.is_some()),
        0,
        0,
        0,
        0,
    ]);
    reply.extend(&query[12..name_end + 5]);
    if let Some(address) = address {
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4]);
        reply.extend(address.octets());
    }
    reply
}

const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 7);

/// Serves DNS on 127.0.0.1:53 until the process ends.
fn serve_names() {
    let (udp, tcp) = (
        UdpSocket::bind("127.0.0.1:53").unwrap(),
        TcpListener::bind("127.0.0.1:53").unwrap(),
    );
    thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, client)) = udp.recv_from(&mut query) {
            udp.send_to(&answer(&query[..length], None), client).unwrap();
        }
    });
    thread::spawn(move || {
        for client in tcp.incoming() {
            let mut client = client.unwrap();
            let mut length = [0; 2];
            // A client can query two types on one connection.
            while client.read_exact(&mut length).is_ok() {
                let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
                client.read_exact(&mut query).unwrap();
                let reply = answer(&query, Some(ADDRESS));
                client
                    .write_all(&u16::try_from(reply.len()).unwrap().to_be_bytes())
                    .unwrap();
                client.write_all(&reply).unwrap();
            }
        }
    });
}

fn resolve(name: &str) -> Vec<IpAddr> {
    let addresses = (name, 5432).to_socket_addrs();
    addresses
        .unwrap()
        .map(|address: SocketAddr| address.ip())
        .collect()
}

/// The part of the test below that runs in namespaces of its own.
fn resolve_names() {
    serve_names();
    let temp = tempfile::tempdir().unwrap();
    let directory = temp.path().display();
    let settings = settings(&format!(
        "source = \"postgres://u@db.test/mail\"\ndir = \"{directory}\"\n"
    ));
    confined(&settings, |confinement| {
        assert!(confinement.restricts_connections, "{confinement:?}");
        // By a name server, which answers over UDP that the client must use TCP; by /etc/hosts; and by a module.
        assert_eq!(resolve("db.test"), [IpAddr::from(ADDRESS)]);
        assert!(resolve("localhost").contains(&IpAddr::from(Ipv4Addr::LOCALHOST)));
        assert_eq!(resolve("hosts.test"), [IpAddr::from([127, 0, 0, 8])]);
    });
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn names_resolve_in_the_sandbox_through_files_and_name_servers() {
    const INSIDE: &str = "POSTMAPD_TEST_INSIDE";
    if std::env::var_os(INSIDE).is_some() {
        return resolve_names();
    }
    let temp = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| -> PathBuf {
        let path = temp.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let files = [
        write("resolv.conf", "nameserver 127.0.0.1\n"),
        write("hosts", "127.0.0.1 localhost\n127.0.0.8 hosts.test\n"),
        // myhostname is a module of systemd, and is left out where it is not installed.
        write("nsswitch.conf", "hosts: files myhostname dns\n"),
    ];
    let script = "ip link set lo up
        mount --bind \"$1\" \"$(realpath /etc/resolv.conf)\"; mount --bind \"$2\" /etc/hosts; mount --bind \"$3\" /etc/nsswitch.conf
        exec \"$4\" --exact names_resolve_in_the_sandbox_through_files_and_name_servers --ignored --nocapture";
    let output = Command::new("unshare")
        .args(["--mount", "--net", "sh", "-ec", script, "sh"])
        .args(&files)
        .arg(std::env::current_exe().unwrap())
        .env(INSIDE, "")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
