//! pgbouncer in transaction mode: each transaction of a client may be on another connection to the server.

use std::fs;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::ports::Port;
use super::postgres::{Postgres, owned_directory};
use super::processes::{as_owner, signal, wait_for};

/// A pgbouncer before a server of the tests.
pub struct PgBouncer {
    directory: TempDir,
    port: Port,
    process: Child,
}

impl PgBouncer {
    /// Starts it with so many connections to the server.
    pub fn start(server: &Postgres, connections: usize) -> Self {
        for _ in 0..20 {
            let (directory, reserved) = (owned_directory(), Port::reserve());
            let port = reserved.number();
            let path = |name: &str| directory.path().join(name);
            fs::write(path("users"), "\"reader\" \"\"\n").unwrap();
            let configuration = format!(
                "[databases]\nmail = host={} port={} dbname=mail\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
                 unix_socket_dir =\nauth_type = trust\nauth_file = {}\npool_mode = transaction\ndefault_pool_size = {connections}\n",
                server.sockets().to_str().unwrap(),
                server.port(),
                path("users").to_str().unwrap(),
            );
            fs::write(path("pgbouncer.ini"), configuration).unwrap();
            let log = fs::File::create(path("log")).unwrap();
            let mut pgbouncer = Command::new("/usr/sbin/pgbouncer");
            pgbouncer
                .arg(path("pgbouncer.ini"))
                .stdin(Stdio::null())
                .stdout(log.try_clone().unwrap())
                .stderr(log);
            let mut process = as_owner(&mut pgbouncer)
                .spawn()
                .expect("install the package pgbouncer");
            let starts = wait_for("a start of pgbouncer", || {
                if process.try_wait().unwrap().is_some() {
                    return Some(false);
                }
                TcpStream::connect(("127.0.0.1", port)).is_ok().then_some(true)
            });
            if starts {
                return Self {
                    directory,
                    port: reserved,
                    process,
                };
            }
        }
        panic!("pgbouncer does not start");
    }

    /// The setting `source` for it.
    pub fn source(&self) -> String {
        format!("postgres://reader@127.0.0.1:{}/mail", self.port.number())
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap()
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        signal(self.process.id(), "KILL");
        let _ = self.process.wait();
    }
}
