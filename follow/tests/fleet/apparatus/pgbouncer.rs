//! A pgbouncer in transaction mode, through which neither LISTEN nor a named statement works.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::process::Process;
use crate::database::postgres::{Postgres, owned_directory};
use crate::database::processes::{as_owner, wait_for};
use std::os::unix::net::UnixStream;
use std::process::Command;

pub(crate) struct Pgbouncer {
    directory: TempDir,
    port: u16,
    _process: Process,
}

impl Pgbouncer {
    pub(crate) fn start(postgres: &Postgres) -> Self {
        // It has no meaning but in the name of the socket.
        let (directory, port) = (owned_directory(), 6432);
        let (home, sockets) = (directory.path().to_str().unwrap(), postgres.sockets());
        let (sockets, database_port) = (sockets.to_str().unwrap(), postgres.port());
        let settings = format!(
            "[databases]\nmail = host={sockets} port={database_port} dbname=mail\n\
             [pgbouncer]\nlisten_port = {port}\nunix_socket_dir = {home}\nauth_type = any\nauth_file =\n\
             pool_mode = transaction\ndefault_pool_size = 2\nlogfile = {home}/log\npidfile = {home}/pid\n"
        );
        // auth_type = any takes the user of the server from here.
        let settings = settings.replace("dbname=mail", "dbname=mail user=reader");
        let file = directory.path().join("pgbouncer.ini");
        fs::write(&file, settings).unwrap();
        let mut command = Command::new("/usr/sbin/pgbouncer");
        command.arg(&file).current_dir(directory.path());
        let process = Process::start(as_owner(&mut command), &directory.path().join("output"));
        let pgbouncer = Self {
            directory,
            port,
            _process: process,
        };
        wait_for("a start of pgbouncer", || {
            UnixStream::connect(pgbouncer.socket()).ok()
        });
        pgbouncer
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join(format!(".s.PGSQL.{}", self.port))
    }

    /// The setting `source`.
    pub(crate) fn source(&self, user: &str) -> String {
        let directory = self.directory.path().to_str().unwrap().replace('/', "%2F");
        format!("postgres://{user}@{directory}:{}/mail", self.port)
    }
}
