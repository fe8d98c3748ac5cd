//! PostgreSQL servers in temporary directories.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use tempfile::TempDir;

use super::ports::Port;
use super::processes::{
    as_owner, children, owner, run, signal, stop_and_wait, try_run, wait_for, wait_for_the_end_of,
};
use super::server::{self, copy, keep_as_template, owned_directory, owned_directory_in, write_private};

/// Users log in over the UNIX socket without a password, and over TCP with one.
const ACCESS: &str = "local all all trust\nlocal replication all trust\nhost all all all scram-sha-256\n";

/// Fast, small, and without a log of what is normal.
const SETTINGS: &str = "fsync = off\nfull_page_writes = off\nshared_buffers = 16MB\nmax_connections = 60\n\
                        max_wal_senders = 4\nmax_replication_slots = 4\nhot_standby = on\nlog_checkpoints = off\n\
                        password_encryption = scram-sha-256\n";

/// The programs of the newest installed PostgreSQL.
pub fn programs() -> &'static Path {
    static PROGRAMS: LazyLock<PathBuf> = LazyLock::new(|| {
        let versions = fs::read_dir("/usr/lib/postgresql").expect("install the package postgresql-15");
        let newest = versions
            .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<u32>().ok())
            .max();
        let newest = newest.expect("install the package postgresql-15");
        PathBuf::from(format!("/usr/lib/postgresql/{newest}/bin"))
    });
    &PROGRAMS
}

/// A cluster with the empty database `mail`, made once for all tests.
fn template() -> &'static Path {
    static TEMPLATE: LazyLock<PathBuf> = LazyLock::new(|| {
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let version = run(Command::new(programs().join("postgres")).arg("--version"));
        let digits: String = version.chars().filter(char::is_ascii_digit).collect();
        // Only its owner can copy it.
        let user = if owner().is_some() { "root" } else { "user" };
        let template = cache.join(format!("postgresql-{digits}-mail-{user}"));
        if template.exists() {
            return template;
        }
        let temp = owned_directory();
        let data = temp.path().join("data");
        let mut initdb = Command::new(programs().join("initdb"));
        initdb
            .arg(&data)
            .args([
                "--no-sync",
                "--username=postgres",
                "--auth=trust",
                "--encoding=UTF8",
            ])
            .args(["--locale=C", "--no-instructions"]);
        run(as_owner(&mut initdb));
        let statement = temp.path().join("statement");
        fs::write(&statement, "CREATE DATABASE mail\n").unwrap();
        let mut single = Command::new(programs().join("postgres"));
        single
            .arg("--single")
            .arg("-D")
            .arg(&data)
            .arg("postgres")
            .stdin(fs::File::open(&statement).unwrap());
        run(as_owner(&mut single));
        keep_as_template(&data, &template);
        template
    });
    &TEMPLATE
}

/// The directory of a server with these settings. A benchmark measures flushes to a disk.
fn directory_with(settings: &str) -> TempDir {
    if settings.contains("fsync = on") {
        owned_directory_in(Path::new("/tmp"))
    } else {
        owned_directory()
    }
}

/// A server with the database `mail`. It listens on 127.0.0.1 and on a UNIX socket.
pub struct Postgres {
    directory: TempDir,
    port: Port,
    server: Option<Child>,
}

impl Postgres {
    /// Starts a server with the database `mail`.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// Starts a server with more lines of postgresql.conf.
    pub fn start_with(settings: &str) -> Self {
        let directory = directory_with(settings);
        let data = directory.path().join("data");
        copy(template(), &data);
        Self::start_in(directory, settings)
    }

    /// Starts a standby of this server.
    pub fn start_standby(&self) -> Self {
        self.start_standby_with("")
    }

    /// Starts a standby with more lines of postgresql.conf; it refuses limits below those of this server.
    pub fn start_standby_with(&self, settings: &str) -> Self {
        let directory = directory_with(settings);
        let data = directory.path().join("data");
        let mut backup = Command::new(programs().join("pg_basebackup"));
        backup
            .args([
                "--checkpoint=fast",
                "--no-sync",
                "--write-recovery-conf",
                "--wal-method=stream",
            ])
            .args(["--username=postgres", "--no-password", "--pgdata"])
            .arg(&data)
            .arg("--host")
            .arg(self.sockets())
            .arg(format!("--port={}", self.port()));
        run(as_owner(&mut backup));
        Self::start_in(directory, settings)
    }

    fn start_in(directory: TempDir, settings: &str) -> Self {
        let data = directory.path().join("data");
        fs::write(data.join("pg_hba.conf"), ACCESS).unwrap();
        let mut server = Self {
            directory,
            port: Port::reserve(),
            server: None,
        };
        let listen = "listen_addresses = '127.0.0.1'";
        let sockets = server.sockets().to_str().unwrap().to_owned();
        let text = format!("{SETTINGS}{listen}\nunix_socket_directories = '{sockets}'\n{settings}\n");
        fs::write(data.join("postgresql.conf"), text).unwrap();
        // A program that is none of the tests may take a port between its choice and its use.
        for _ in 0..20 {
            if server.try_start_again() {
                return server;
            }
            server.port = Port::reserve();
        }
        panic!("the server does not start:\n{}", server.log());
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
        let mut postgres = Command::new(programs().join("postgres"));
        postgres
            .arg("-D")
            .arg(self.data())
            .arg(format!("--port={}", self.port()));
        self.server = Some(server::spawn(&mut postgres, self.directory.path()));
        wait_for("a start of PostgreSQL", || {
            if server::has_ended(&mut self.server) {
                return Some(false);
            }
            self.try_psql("postgres", "SELECT 1").is_ok().then_some(true)
        })
    }

    /// Its port, on 127.0.0.1 and in the name of its UNIX socket.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The directory of its UNIX socket.
    pub fn sockets(&self) -> &Path {
        self.directory.path()
    }

    /// Its data directory.
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// The process that starts all others.
    pub fn pid(&self) -> u32 {
        self.server.as_ref().expect("the server runs").id()
    }

    /// What it has logged since its last start.
    pub fn log(&self) -> String {
        server::log(self.directory.path())
    }

    /// The setting `source` for the UNIX socket.
    pub fn source(&self, user: &str) -> String {
        let directory = self.sockets().to_str().unwrap().replace('/', "%2F");
        format!("postgres://{user}@{directory}:{}/mail", self.port())
    }

    /// The setting `source` for TCP with a name or an address of this host.
    pub fn tcp_source(&self, user: &str, host: &str) -> String {
        format!("postgres://{user}@{host}:{}/mail", self.port())
    }

    /// Runs SQL as the superuser, each statement in a transaction of its own unless it begins one, and returns the rows:
    /// one a line, with `|` between columns.
    pub fn psql(&self, database: &str, sql: &str) -> String {
        self.try_psql(database, sql)
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Runs SQL, and returns the rows or the error.
    pub fn try_psql(&self, database: &str, sql: &str) -> Result<String, String> {
        self.try_psql_as("postgres", database, sql)
    }

    /// Runs SQL as another user.
    pub fn try_psql_as(&self, user: &str, database: &str, sql: &str) -> Result<String, String> {
        // From a file, because an argument has a limit and `-c` would make one transaction of all.
        let file = tempfile::NamedTempFile::new_in("/tmp").unwrap();
        fs::write(file.path(), sql).unwrap();
        try_run(self.psql_command(user, database).arg("--file").arg(file.path()))
            .map(|rows| rows.trim_end_matches('\n').to_owned())
    }

    /// psql with the options for this server, for example for a session with several transactions.
    pub fn psql_command(&self, user: &str, database: &str) -> Command {
        let mut psql = Command::new(programs().join("psql"));
        psql.env_clear()
            .env("PGCLIENTENCODING", "SQL_ASCII")
            .env("PGCONNECT_TIMEOUT", "60")
            .args([
                "--no-psqlrc",
                "--no-align",
                "--tuples-only",
                "--quiet",
                "--no-password",
            ])
            .args([
                "--set",
                "ON_ERROR_STOP=1",
                "--username",
                user,
                "--dbname",
                database,
            ])
            .arg("--host")
            .arg(self.sockets())
            .arg(format!("--port={}", self.port()));
        psql
    }

    /// Locks a table of the database `mail` for all others, and waits until it is.
    pub fn lock(&self, table: &str) -> Lock<'_> {
        let mut psql = self.psql_command("postgres", "mail");
        let statements = format!("BEGIN; LOCK {table}; SELECT pg_sleep(600)");
        let psql = psql.args(["-c", &statements]);
        let lock = Lock {
            server: self,
            psql: psql.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap(),
        };
        let locks = format!(
            "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted AND relation = '{table}'::regclass"
        );
        wait_for("a lock", || (self.psql("mail", &locks) == "1").then_some(()));
        lock
    }

    /// Replaces pg_hba.conf, which says who may connect, and reads it.
    pub fn set_access(&self, lines: &str) {
        fs::write(self.data().join("pg_hba.conf"), lines).unwrap();
        self.reload();
    }

    /// Adds a line to postgresql.conf and reads it; some settings take effect on restart.
    pub fn set(&self, setting: &str) {
        let path = self.data().join("postgresql.conf");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, format!("{text}{setting}\n")).unwrap();
        self.reload();
    }

    fn reload(&self) {
        let loaded = "SELECT pg_conf_load_time()";
        let before = self.psql("postgres", loaded);
        signal(self.pid(), "HUP");
        wait_for("a reload of PostgreSQL", || {
            (self.psql("postgres", loaded) != before).then_some(())
        });
    }

    /// Writes a file into the data directory, for example a certificate and its key.
    pub fn write_private(&self, name: &str, text: &[u8]) {
        write_private(&self.data().join(name), text);
    }

    /// Makes a standby a server that accepts writes.
    pub fn promote(&self) {
        self.psql("postgres", "SELECT pg_promote(true, 60)");
        wait_for("a promotion", || {
            (self.psql("postgres", "SELECT pg_is_in_recovery()") == "f").then_some(())
        });
    }

    /// Stops it as an administrator does: connections end, and nothing is lost.
    pub fn stop(&mut self) {
        server::end(&mut self.server, "INT");
    }

    /// Ends all its processes at once, without a last write.
    pub fn kill(&mut self) {
        let server = self.pid();
        // Stopped first, so that it does not start others.
        stop_and_wait(server);
        let children = children(server);
        for pid in &children {
            signal(*pid, "KILL");
        }
        server::end(&mut self.server, "KILL");
        // As long as one of them has the shared memory, the next server refuses to start.
        children.into_iter().for_each(wait_for_the_end_of);
        // A killed server leaves both.
        let _ = fs::remove_file(self.data().join("postmaster.pid"));
    }

    /// Stops all its processes without ending them: connections stay open, and nothing answers.
    pub fn freeze(&self) {
        stop_and_wait(self.pid());
        children(self.pid()).into_iter().for_each(stop_and_wait);
    }

    /// Continues after [`Postgres::freeze`].
    pub fn thaw(&self) {
        for pid in children(self.pid()) {
            signal(pid, "CONT");
        }
        signal(self.pid(), "CONT");
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.server.is_some() {
            self.thaw();
            server::end(&mut self.server, "QUIT");
        }
    }
}

/// A lock of a table, until it is dropped.
pub struct Lock<'a> {
    server: &'a Postgres,
    psql: Child,
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        let end = "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid()";
        let _ = self.server.try_psql("mail", end);
        let _ = self.psql.kill();
        let _ = self.psql.wait();
    }
}
