//! The two files: generated, the same each time, written without being held in memory, replaced by rename.
//!
//! The relay map changes as `relay_map` describes. There is a second edition of both files, of which every line differs
//! from the first and has the same length.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::apparatus::Result;
use super::apparatus::entries::{self, Edition};
use super::apparatus::relay_map::{self, MARKER, RelayMap};
use super::client::{Connection, Request};

/// The file name that postmapd reads.
const CREDENTIALS: &str = "postfix-sasl-password.cf";

/// The timeout for a reload.
const TIMEOUT: Duration = Duration::from_secs(300);

/// The interval between requests for the marker: short compared with a reload, long compared with a lookup, so that the
/// requests disturb neither.
const REQUEST_INTERVAL: Duration = Duration::from_micros(200);

/// The files of one size.
pub(crate) struct Tables {
    pub(crate) entries: u64,
    directory: PathBuf,
    relay_map: RelayMap,
    credentials: PathBuf,
    /// The relay map and the credentials of the second edition.
    second: [PathBuf; 2],
}

impl Tables {
    /// Writes them into `directory`, which is created.
    pub(crate) fn write(directory: &Path, entries: u64) -> Result<Self> {
        let active = directory.join("tables");
        fs::create_dir_all(&active)?;
        let credentials = directory.join("credentials.cf");
        let second = [directory.join("second-0.cf"), directory.join("second-1.cf")];
        let relay_map = RelayMap::write(directory, entries)?;
        relay_map::write(&second[0], entries, Edition::Second)?;
        write_credentials(&credentials, entries, Edition::First)?;
        write_credentials(&second[1], entries, Edition::Second)?;
        fs::hard_link(relay_map.present(), active.join(relay_map::NAME))?;
        fs::hard_link(&credentials, active.join(CREDENTIALS))?;
        Ok(Self {
            entries,
            directory: active,
            relay_map,
            credentials,
            second,
        })
    }

    /// The directory that is served.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The relay map, as one of its copies; the output of `postmap` is beside it, outside the served directory.
    pub(crate) fn relay_map(&self) -> &Path {
        self.relay_map.present()
    }

    /// The sizes of the relay map and of the credentials.
    pub(crate) fn sizes(&self) -> io::Result<[u64; 2]> {
        let metadata = |name| fs::metadata(self.directory.join(name));
        Ok([metadata(relay_map::NAME)?.len(), metadata(CREDENTIALS)?.len()])
    }

    /// Replaces the relay map by one with another marker. Returns the time from the rename to the first reply of the
    /// new generation, on a connection that was open before.
    pub(crate) fn replace_and_wait(&mut self, address: SocketAddr) -> Result<Duration> {
        self.wait(address, |tables| {
            let relay_map = tables.relay_map.next()?;
            tables.put(&relay_map, None)
        })
    }

    /// Replaces both files by those in which every line differs. Returns the time in the same way.
    pub(crate) fn rewrite_and_wait(&mut self, address: SocketAddr) -> Result<Duration> {
        self.wait(address, |tables| {
            let [relay_map, credentials] = &tables.second;
            tables.relay_map.make_next(relay_map)?;
            tables.put(relay_map, Some(credentials))
        })
    }

    /// Restores the first edition.
    pub(crate) fn restore(&mut self) -> io::Result<()> {
        let relay_map = self.relay_map.next()?;
        self.put(&relay_map, Some(&self.credentials)).map(drop)
    }

    fn wait(
        &mut self,
        address: SocketAddr,
        replace: impl FnOnce(&mut Self) -> io::Result<Instant>,
    ) -> Result<Duration> {
        let mut connection = Connection::to(address)?;
        let mut answers = |hop: &str| {
            let request = Request::new("relayhost", MARKER, Some(hop));
            connection.query(&request).map(|reply| reply == request.reply)
        };
        if !answers(&self.relay_map.marker_hop())? {
            return Err("the marker is not where it was left".into());
        }
        let replaced = replace(self)?;
        let hop = self.relay_map.marker_hop();
        while !answers(&hop)? {
            if replaced.elapsed() > TIMEOUT {
                return Err("the reload does not come".into());
            }
            thread::sleep(REQUEST_INTERVAL);
        }
        Ok(replaced.elapsed())
    }

    /// Moves a relay map into place, and with it credentials. Returns the time before.
    fn put(&self, relay_map: &Path, credentials: Option<&PathBuf>) -> io::Result<Instant> {
        let active = [relay_map::NAME, CREDENTIALS].map(|name| self.directory.join(name));
        let files = [Some(relay_map), credentials.map(PathBuf::as_path)];
        let files: Vec<_> = files
            .into_iter()
            .zip(&active)
            .filter_map(|(file, active)| Some((file?, active.as_path())))
            .collect();
        relay_map::put(&files)
    }
}

fn write_credentials(path: &Path, entries: u64, edition: Edition) -> io::Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create_new(path)?);
    for entry in 0..entries {
        writeln!(file, "{}  {}", entries::key(entry), edition.credentials(entry))?;
    }
    file.flush()?;
    file.get_ref().sync_all()
}
