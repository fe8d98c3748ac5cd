//! pgbouncer in transaction mode: each transaction of a client may be on another connection to the server.

use std::fs;
use std::net::TcpStream;
use std::process::{Child, Command};

use tempfile::TempDir;

use super::ports::Port;
use super::postgres::Postgres;
use super::processes::wait_for;
use super::server::{self, owned_directory};

/// A pgbouncer before a server of the tests.
pub struct PgBouncer {
    directory: TempDir,
    port: Port,
    process: Option<Child>,
}

impl PgBouncer {
    /// Starts it with so many connections to the server.
    pub fn start(server: &Postgres, connections: usize) -> Self {
        for _ in 0..20 {
            let mut pgbouncer = Self {
                directory: owned_directory(),
                port: Port::reserve(),
                process: None,
            };
            if pgbouncer.try_start(server, connections) {
                return pgbouncer;
            }
        }
        panic!("pgbouncer does not start");
    }

    fn try_start(&mut self, server: &Postgres, connections: usize) -> bool {
        let (directory, port) = (self.directory.path(), self.port.number());
        fs::write(directory.join("users"), "\"reader\" \"\"\n").unwrap();
        let configuration = format!(
            "[databases]\nmail = host={} port={} dbname=mail\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = trust\nauth_file = {}\npool_mode = transaction\ndefault_pool_size = {connections}\n",
            server.sockets().to_str().unwrap(),
            server.port(),
            directory.join("users").to_str().unwrap(),
        );
        fs::write(directory.join("pgbouncer.ini"), configuration).unwrap();
        let mut pgbouncer = Command::new("/usr/sbin/pgbouncer");
        pgbouncer.arg(directory.join("pgbouncer.ini"));
        self.process = Some(server::spawn(&mut pgbouncer, directory));
        wait_for("a start of pgbouncer", || {
            if server::has_ended(&mut self.process) {
                return Some(false);
            }
            TcpStream::connect(("127.0.0.1", port)).is_ok().then_some(true)
        })
    }

    /// The setting `source` for it.
    pub fn source(&self) -> String {
        format!("postgres://reader@127.0.0.1:{}/mail", self.port.number())
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        server::log(self.directory.path())
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        server::end(&mut self.process, "KILL");
    }
}
