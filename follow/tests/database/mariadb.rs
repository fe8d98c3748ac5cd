//! MariaDB servers in temporary directories.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::LazyLock;

use tempfile::TempDir;

use super::ports::Port;
use super::processes::{as_owner, run, signal, stop_and_wait, try_run, wait_for};
use super::server::{self, copy, keep_as_template, owned_directory};

/// Fast, small, and without files outside the data directory.
const SETTINGS: &str = "innodb_flush_log_at_trx_commit = 0\ninnodb_buffer_pool_size = 64M\ninnodb_log_file_size = 16M\n\
                        innodb_flush_method = nosync\nmax_connections = 60\nmax_allowed_packet = 64M\nskip_name_resolve\n\
                        character_set_server = utf8mb4\n";

/// An empty data directory, made once for all tests.
fn template() -> &'static Path {
    static TEMPLATE: LazyLock<PathBuf> = LazyLock::new(|| {
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let version = run(Command::new("mariadbd").arg("--version"));
        let digits: String = version.chars().filter(char::is_ascii_digit).collect();
        let template = cache.join(format!("mariadb-{digits}"));
        if template.exists() {
            return template;
        }
        let temp = owned_directory();
        let mut install = Command::new("mariadb-install-db");
        install
            .args(["--no-defaults", "--auth-root-authentication-method=normal"])
            .args(["--skip-test-db", "--innodb-log-file-size=16M"])
            .arg(format!("--datadir={}", temp.path().join("data").display()));
        run(as_owner(&mut install));
        keep_as_template(&temp.path().join("data"), &template);
        template
    });
    &TEMPLATE
}

/// A server with the database `mail`. It listens on 127.0.0.1 and on a UNIX socket.
pub struct MariaDb {
    directory: TempDir,
    port: Port,
    server: Option<Child>,
}

impl MariaDb {
    /// Starts a server with the database `mail`.
    pub fn start() -> Self {
        Self::start_with("", |_| {})
    }

    /// Starts a server with more lines of my.cnf, after `prepare` has put files beside the data directory.
    pub fn start_with(settings: &str, prepare: impl FnOnce(&Path)) -> Self {
        let directory = owned_directory();
        copy(template(), &directory.path().join("data"));
        prepare(directory.path());
        let mut server = Self {
            directory,
            port: Port::reserve(),
            server: None,
        };
        // A program that is none of the tests may take a port between its choice and its use.
        for _ in 0..20 {
            server.write_settings(settings);
            if server.try_start_again() {
                server.sql("mysql", "CREATE DATABASE mail");
                return server;
            }
            server.port = Port::reserve();
        }
        panic!("the server does not start:\n{}", server.log());
    }

    fn write_settings(&self, settings: &str) {
        let path = self.directory.path();
        let text = format!(
            "[mysqld]\ndatadir = {0}/data\nsocket = {1}\npid_file = {0}/pid\nport = {2}\nbind_address = 127.0.0.1\n\
             {SETTINGS}{settings}\n",
            path.display(),
            self.socket().display(),
            self.port()
        );
        fs::write(path.join("my.cnf"), text).unwrap();
    }

    /// Starts the server after it was stopped or killed, on the same port.
    pub fn start_again(&mut self) {
        assert!(
            self.try_start_again(),
            "the server does not start:\n{}",
            self.log()
        );
    }

    fn try_start_again(&mut self) -> bool {
        assert!(self.server.is_none(), "the server runs");
        let mut mariadb = Command::new("mariadbd");
        mariadb.arg(format!(
            "--defaults-file={}",
            self.directory.path().join("my.cnf").display()
        ));
        self.server = Some(server::spawn(&mut mariadb, self.directory.path()));
        wait_for("a start of MariaDB", || {
            if server::has_ended(&mut self.server) {
                return Some(false);
            }
            self.try_sql("mysql", "SELECT 1").is_ok().then_some(true)
        })
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Its UNIX socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    /// The directory of its files.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What it has logged since its last start.
    pub fn log(&self) -> String {
        server::log(self.directory.path())
    }

    /// The setting `source` for the UNIX socket.
    pub fn source(&self, user: &str) -> String {
        format!("mysql://{user}@/mail?socket={}", self.socket().display())
    }

    /// The setting `source` for TCP with a name or an address of this host.
    pub fn tcp_source(&self, user: &str, host: &str) -> String {
        format!("mysql://{user}@{host}:{}/mail", self.port())
    }

    /// Runs SQL as the superuser and returns the rows: one a line, with a tab between columns, and nothing escaped.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        self.try_sql(database, sql)
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Runs SQL as the superuser, and returns the rows or the error.
    pub fn try_sql(&self, database: &str, sql: &str) -> Result<String, String> {
        // From a file, because an argument has a limit.
        let file = tempfile::NamedTempFile::new_in("/tmp").unwrap();
        fs::write(file.path(), sql).unwrap();
        let mut client = self.client(database);
        client.stdin(fs::File::open(file.path()).unwrap());
        try_run(&mut client).map(|rows| rows.trim_end_matches('\n').to_owned())
    }

    /// The client of MariaDB with the options for this server, as the superuser.
    pub fn client(&self, database: &str) -> Command {
        let mut client = Command::new("mariadb");
        client
            .args(["--no-defaults", "--user=root", "--batch", "--raw"])
            .args(["--skip-column-names", "--default-character-set=utf8mb4"])
            .arg(format!("--socket={}", self.socket().display()))
            .arg(database);
        client
    }

    /// Stops it as an administrator does.
    pub fn stop(&mut self) {
        server::end(&mut self.server, "TERM");
    }

    /// Ends it at once, without a last write.
    pub fn kill(&mut self) {
        server::end(&mut self.server, "KILL");
    }

    /// Stops its process without ending it: connections stay open, and nothing answers.
    pub fn freeze(&self) {
        stop_and_wait(self.pid());
    }

    /// Continues after [`MariaDb::freeze`].
    pub fn thaw(&self) {
        signal(self.pid(), "CONT");
    }

    fn pid(&self) -> u32 {
        self.server.as_ref().expect("the server runs").id()
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        if self.server.is_some() {
            self.thaw();
            server::end(&mut self.server, "KILL");
        }
    }
}
