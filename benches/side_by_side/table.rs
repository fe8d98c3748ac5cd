//! The methods of looking up the same relay map, each with its own files.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use postmapd::net::address::Address;
use postmapd::protocol::Protocol;
use postmapd::protocol::endpoint::Endpoint;

use crate::apparatus::Result;
use crate::apparatus::postmap::Postmap;
use crate::apparatus::relay_map::{self, RelayMap};
use crate::apparatus::server::Server;
use crate::lookup::{self, Keys};
use crate::postfix::{self, Postfix};

/// How a change of the source becomes an answer.
pub(crate) enum Method {
    /// Never: `static:`, for the cost of the client alone.
    Constant,
    /// `postmap` builds an indexed file of it, in this format.
    Built(&'static str),
    /// Each process reads it when it starts.
    ReadAtStart,
    /// postmapd notices the change.
    Served(Endpoint),
    /// An external server, which is not changed.
    Elsewhere,
}

/// Whether the answers are those of the source.
pub(crate) enum Answers {
    Same,
    /// They differ, for example so.
    Different(String),
}

/// One method: a row of the report.
pub(crate) struct Table {
    /// Its name in the report.
    pub(crate) name: String,
    /// Its name for `postmap`, with the map.
    pub(crate) endpoint: String,
    pub(crate) method: Method,
    /// Why it cannot be measured.
    pub(crate) skipped: Option<String>,
    pub(crate) answers: Answers,
    /// Its position in the report.
    row: usize,
    /// The source, and its replacements.
    pub(crate) source: Option<(PathBuf, RelayMap)>,
    /// The client, and its configuration.
    program: (String, PathBuf),
    /// From the start of a process to the end of its first answer and itself, in seconds.
    pub(crate) starts: Vec<f64>,
    /// The times of a lookup, in seconds.
    pub(crate) lookups: Vec<f64>,
    pub(crate) lookups_beside_busy_thread: Vec<f64>,
    /// The times from the rename of the source to the new answer, in seconds.
    pub(crate) changes: Vec<f64>,
    /// The share of `postmap` in these, in seconds.
    pub(crate) builds: Vec<f64>,
}

impl Table {
    /// The client for this table.
    pub(crate) fn postmap(&self) -> Command {
        let mut command = Command::new(&self.program.0);
        command.arg("-c").arg(&self.program.1);
        command
    }

    /// Whether a lookup stays in the client's process.
    pub(crate) fn in_process(&self) -> bool {
        match self.method {
            Method::Constant | Method::ReadAtStart => true,
            Method::Built(_) => !self.endpoint.starts_with("proxy:"),
            Method::Served(_) | Method::Elsewhere => false,
        }
    }

    /// Builds the indexed file with `postmap`, where the method has one.
    pub(crate) fn build(&self) -> Result<()> {
        if let (Method::Built(format), Some((active, _))) = (&self.method, &self.source) {
            let output = self
                .postmap()
                .arg(format!("{format}:{}", active.display()))
                .stdin(Stdio::null())
                .output()?;
            if !output.status.success() || !output.stderr.is_empty() {
                let complaint = String::from_utf8_lossy(&output.stderr);
                return Err(format!("postmap {format}: {complaint}").into());
            }
        }
        Ok(())
    }

    /// Backdates the source, as it would be in use: `texthash:` waits while a file is younger than a second or two.
    pub(crate) fn age(&self) -> Result<()> {
        if let (Method::ReadAtStart, Some((active, _))) = (&self.method, &self.source) {
            let past = SystemTime::now() - Duration::from_secs(60);
            File::options().write(true).open(active)?.set_modified(past)?;
        }
        Ok(())
    }
}

/// All methods, and the programs that they need.
pub(crate) struct Fixture {
    tables: Vec<Table>,
    /// The directory of postmapd, and the relay map that it serves.
    pub(crate) served: (PathBuf, RelayMap),
    _postmapd: Server,
    _postfix: Option<Postfix>,
}

impl Fixture {
    /// Writes, builds and starts everything, and looks up one key in each.
    pub(crate) fn set(
        postmap: &Postmap,
        relay_map: &RelayMap,
        directory: &Path,
        elsewhere: &[String],
        one: &Keys,
    ) -> Result<Self> {
        let (postmapd, served) = serve(relay_map, directory)?;
        let (postfix, proxied) = proxy(postmap, relay_map);
        let mut rows = Rows {
            postmap,
            tables: Vec::new(),
        };
        rows.push("static:", "static:[floor.example]:587".into(), Method::Constant);
        for format in ["hash", "lmdb", "cdb"] {
            rows.built(format, relay_map, directory)?;
        }
        rows.read_at_start(relay_map, directory)?;
        rows.proxied(postfix.as_ref(), proxied);
        for endpoint in &postmapd.endpoints {
            rows.served(endpoint.clone());
        }
        for endpoint in elsewhere {
            rows.push(endpoint, endpoint.clone(), Method::Elsewhere);
        }
        let mut stage = Self {
            tables: rows.tables,
            served,
            _postmapd: postmapd,
            _postfix: postfix,
        };
        for table in stage.tables() {
            table.build()?;
            table.age()?;
            match lookup::query(table, one) {
                Err(error) if matches!(table.method, Method::Elsewhere) => {
                    table.skipped = Some(error.to_string());
                }
                result => result.map(drop)?,
            }
        }
        Ok(stage)
    }

    /// Makes another table the first one.
    pub(crate) fn turn(&mut self, round: u32) {
        let by = usize::try_from(round).unwrap_or_default() * 2 + 1;
        let tables = self.tables.len().max(1);
        self.tables.rotate_left(by % tables);
    }

    /// The tables that can be measured, in the present order.
    pub(crate) fn tables(&mut self) -> impl Iterator<Item = &mut Table> {
        self.tables.iter_mut().filter(|table| table.skipped.is_none())
    }

    /// All tables, in the order of the report.
    pub(crate) fn into_rows(self) -> Vec<Table> {
        let mut tables = self.tables;
        tables.sort_by_key(|table| table.row);
        tables
    }
}

/// The rows as they are added.
struct Rows<'a> {
    postmap: &'a Postmap,
    tables: Vec<Table>,
}

impl Rows<'_> {
    fn push(&mut self, name: &str, endpoint: String, method: Method) -> Option<&mut Table> {
        self.tables.push(Table {
            name: name.to_owned(),
            endpoint,
            method,
            skipped: None,
            answers: Answers::Same,
            row: self.tables.len(),
            source: None,
            program: (self.postmap.program.clone(), self.postmap.configuration.clone()),
            starts: Vec::new(),
            lookups: Vec::new(),
            lookups_beside_busy_thread: Vec::new(),
            changes: Vec::new(),
            builds: Vec::new(),
        });
        self.tables.last_mut()
    }

    fn built(&mut self, format: &'static str, relay_map: &RelayMap, directory: &Path) -> Result<()> {
        let name = format!("{format}:");
        if !self.postmap.is_installed(format) {
            let why = match format {
                "hash" => "not in this Postfix (it needs Berkeley DB)".to_owned(),
                _ => format!("not installed (apt install postfix-{format})"),
            };
            self.skip(&name, Method::Built(format), why);
            return Ok(());
        }
        let source = source(relay_map, &directory.join(format))?;
        let endpoint = format!("{format}:{}", source.0.display());
        if let Some(table) = self.push(&name, endpoint, Method::Built(format)) {
            table.source = Some(source);
        }
        Ok(())
    }

    fn read_at_start(&mut self, relay_map: &RelayMap, directory: &Path) -> Result<()> {
        let source = source(relay_map, &directory.join("texthash"))?;
        let endpoint = format!("texthash:{}", source.0.display());
        if let Some(table) = self.push("texthash:", endpoint, Method::ReadAtStart) {
            table.source = Some(source);
        }
        Ok(())
    }

    fn proxied(&mut self, postfix: Option<&Postfix>, source: Result<(PathBuf, RelayMap)>) {
        match (postfix, source) {
            (Some(postfix), Ok(source)) => {
                let endpoint = format!("proxy:lmdb:{}", source.0.display());
                if let Some(table) = self.push("proxy:lmdb:", endpoint, Method::Built("lmdb")) {
                    table.source = Some(source);
                    table.program.1 = postfix.config_directory();
                }
            }
            (_, Err(error)) => self.skip("proxy:lmdb:", Method::Built("lmdb"), error.to_string()),
            (None, Ok(_)) => self.skip("proxy:lmdb:", Method::Built("lmdb"), "no Postfix runs".into()),
        }
    }

    fn served(&mut self, endpoint: Endpoint) {
        let name = match (endpoint.protocol, &endpoint.address) {
            (Protocol::TcpTable(_), _) => "postmapd, tcp_table",
            (Protocol::Socketmap, Address::Unix(_)) => "postmapd, socketmap over UNIX",
            (Protocol::Socketmap, _) => "postmapd, socketmap over TCP",
        };
        let queried = endpoint.lookup_table("relayhost");
        self.push(name, queried, Method::Served(endpoint));
    }

    fn skip(&mut self, name: &str, method: Method, why: String) {
        if let Some(table) = self.push(name, name.to_owned(), method) {
            table.skipped = Some(why);
        }
    }
}

/// A relay map of one table, moved into place in a new directory.
fn source(relay_map: &RelayMap, directory: &Path) -> Result<(PathBuf, RelayMap)> {
    fs::create_dir(directory)?;
    let own = relay_map.copied_to(directory)?;
    let active = directory.join("relaymap.cf");
    fs::hard_link(own.present(), &active)?;
    Ok((active, own))
}

/// Starts postmapd on its own relay map.
fn serve(relay_map: &RelayMap, directory: &Path) -> Result<(Server, (PathBuf, RelayMap))> {
    let directory = directory.join("postmapd");
    let active = directory.join("tables");
    fs::create_dir_all(&active)?;
    let own = relay_map.copied_to(&directory)?;
    let file = active.join(relay_map::NAME);
    fs::hard_link(own.present(), &file)?;
    let unix = format!("socketmap:unix:{}", directory.join("socket").display());
    let listen = [
        "socketmap:inet:127.0.0.1:0".to_owned(),
        unix,
        "tcp:127.0.0.1:0:relayhost".to_owned(),
    ];
    Ok((Server::start(&active, &listen)?, (file, own)))
}

/// Starts a private Postfix, whose proxymap(8) may read a table in its directory.
fn proxy(postmap: &Postmap, relay_map: &RelayMap) -> (Option<Postfix>, Result<(PathBuf, RelayMap)>) {
    if !postmap.is_installed("lmdb") {
        return (
            None,
            Err("lmdb is not installed (apt install postfix-lmdb)".into()),
        );
    }
    let start = || -> Result<_> {
        let setup = postfix::Setup::new()?;
        // The directory is accessible to the user `postfix`, as which proxymap(8) opens its tables.
        let source = source(relay_map, &setup.root().join("tables"))?;
        let table = format!("proxy:lmdb:{}", source.0.display());
        Ok((setup.set("proxy_read_maps", table).start()?, source))
    };
    match start() {
        Ok((postfix, source)) => (Some(postfix), Ok(source)),
        Err(error) => (None, Err(error)),
    }
}
