//! A database with the schema of postmapd, and mail servers that follow it.

use std::path::Path;

use tempfile::TempDir;

use super::client::Reply;
use super::mail_server::MailServer;
use super::senders;
use super::sql::Sql;
use crate::database::postgres::Postgres;

/// Settings of a server that has room for all followers. In the benchmark, commits are on the disk before they are acknowledged, as
/// in production.
pub(crate) const SERVER: &str = if cfg!(test) {
    "max_connections = 300\n"
} else {
    "fsync = on\nfull_page_writes = on\nshared_buffers = 256MB\nmax_connections = 300\nmax_wal_size = 4GB\n"
};

pub(crate) struct Fleet {
    pub(crate) postgres: Postgres,
    pub(crate) servers: Vec<MailServer>,
    /// Of the database.
    pub(crate) sql: Sql,
    directory: TempDir,
}

impl Fleet {
    /// Starts a database with this many senders, and creates the mail servers, of which nothing runs.
    pub(crate) fn new(servers: usize, senders: u64) -> Self {
        let postgres = Postgres::start_with(SERVER);
        init(&postgres);
        let mut sql = connect(&postgres);
        senders::fill(&mut sql, "postmapd", senders);
        let directory = tempfile::Builder::new()
            .prefix("postmapd-fleet-")
            .tempdir_in("/tmp")
            .unwrap();
        let source = postgres.source("reader");
        let servers = (0..servers)
            .map(|number| {
                MailServer::new(
                    directory.path().join(number.to_string()),
                    &format!("source = \"{source}\"\ntls = \"off\"\n"),
                )
            })
            .collect();
        Self {
            postgres,
            servers,
            sql,
            directory,
        }
    }

    /// The same, with all programs running and answering.
    pub(crate) fn start(servers: usize, senders: u64) -> Self {
        let mut fleet = Self::new(servers, senders);
        fleet.start_all();
        fleet
    }

    /// Starts the programs of all mail servers, and waits until they answer from the database.
    pub(crate) fn start_all(&mut self) {
        for server in &mut self.servers {
            server.start_follower();
        }
        for server in &mut self.servers {
            wait_for_generation(server);
            server.start_serve();
        }
        self.wait_for_transaction(0, 0);
    }

    /// Adds a mail server with other settings, of which nothing runs.
    pub(crate) fn add(&mut self, settings: &str) -> &mut MailServer {
        let home = self.directory.path().join(self.servers.len().to_string());
        self.servers.push(MailServer::new(home, settings));
        self.servers.last_mut().unwrap()
    }

    /// A directory for other files.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Connects again after the database was restarted.
    pub(crate) fn reconnect(&mut self) {
        self.sql = connect(&self.postgres);
    }

    /// Changes the relay and the login of a sender.
    pub(crate) fn change_one(&mut self, sender: u64, transaction: u64) {
        self.sql.run(&senders::change_one(sender, transaction));
        self.sql.run("COMMIT");
    }

    /// Waits until all servers answer for this sender as this transaction wrote it.
    #[track_caller]
    pub(crate) fn wait_for_transaction(&self, sender: u64, transaction: u64) {
        let key = senders::sender(sender);
        for server in &self.servers {
            server.wait_for_answer("relayhost", &key, &Reply::found(&senders::next_hop(transaction)));
            server.wait_for_answer("sasl", &key, &Reply::found(&senders::login(transaction)));
        }
    }
}

/// Waits until the directory has a generation.
#[track_caller]
pub(crate) fn wait_for_generation(server: &mut MailServer) {
    let tables = server.tables();
    super::eventually(
        || (tables.join("source.json").exists(), server.follower_log()),
        |(exists, _)| *exists,
    );
}

/// Connects to the database as its superuser.
pub(crate) fn connect(postgres: &Postgres) -> Sql {
    Sql::connect(postgres)
}

/// Creates the schema and the reader, as an administrator does with the output of `postmapd-follow init`.
pub(crate) fn init(postgres: &Postgres) {
    postgres.psql("mail", "CREATE ROLE reader LOGIN");
    postgres.psql("mail", &postmapd_follow::schema::ddl("postmapd", Some("reader")));
}
