//! The built postmapd, started on a directory and ended on drop, with its log and its memory.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use postmapd::net::address::Address;
use postmapd::protocol::endpoint::Endpoint;

use super::Result;

/// The timeout for a startup.
const TIMEOUT: Duration = Duration::from_secs(300);

/// Memory that has not changed for this long is considered constant.
const SETTLED: Duration = Duration::from_millis(300);

/// A running server.
pub(crate) struct Server {
    child: Child,
    lines: Receiver<String>,
    /// Its endpoints, in the order of the arguments.
    pub(crate) endpoints: Vec<Endpoint>,
    /// The time from the start of the process to its announcement of the endpoints.
    pub(crate) start: Duration,
}

impl Server {
    /// Starts it on the tables in `directory`, with an empty environment.
    pub(crate) fn start(directory: &Path, listen: &[String]) -> Result<Self> {
        let begun = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_postmapd"))
            .args(["serve", "--dir"])
            .arg(directory)
            .args(listen.iter().flat_map(|endpoint| ["--listen", endpoint]))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let log = child.stderr.take().ok_or("the server has no standard error")?;
        let (sender, lines) = mpsc::channel();
        // The thread ends with the server, which has the only open end of the pipe.
        thread::spawn(move || {
            for line in BufReader::new(log).lines().map_while(std::result::Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut server = Self {
            child,
            lines,
            endpoints: Vec::new(),
            start: Duration::ZERO,
        };
        let mut printed = Vec::new();
        while server.endpoints.len() < listen.len() {
            let line = server.lines.recv_timeout(TIMEOUT);
            let line = line.map_err(|_| format!("the server does not start; it says {printed:#?}"))?;
            if let Some((_, endpoint)) = line.split_once("listening endpoint=") {
                server
                    .endpoints
                    .push(Endpoint::parse_listener(endpoint.trim(), &["relayhost", "sasl"])?);
            }
            printed.push(line);
        }
        server.start = begun.elapsed();
        Ok(server)
    }

    /// The address of the first endpoint, which is a TCP one.
    pub(crate) fn address(&self) -> Result<SocketAddr> {
        match self.endpoints.first().map(|endpoint| &endpoint.address) {
            Some(Address::Inet(host, port)) => Ok(SocketAddr::new(host.parse()?, *port)),
            _ => Err("the server does not listen on TCP".into()),
        }
    }

    /// Resident memory in bytes, once it is constant.
    pub(crate) fn settled_memory(&self) -> Result<u64> {
        let begun = Instant::now();
        let mut last = self.status("VmRSS:")?;
        let mut since = Instant::now();
        while since.elapsed() < SETTLED && begun.elapsed() < TIMEOUT {
            thread::sleep(Duration::from_millis(20));
            let now = self.status("VmRSS:")?;
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
        Ok(last)
    }

    /// Restarts the measurement of peak memory. Where the system does not permit that, the peak is the one since the
    /// start.
    pub(crate) fn reset_peak(&self) {
        // The number is that of proc_pid_clear_refs(5).
        if let Err(error) = fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5") {
            eprintln!("the peak of the memory is that since the start: {error}");
        }
    }

    /// The peak of its resident memory since [`Server::reset_peak`], in bytes.
    pub(crate) fn peak_memory(&self) -> Result<u64> {
        self.status("VmHWM:")
    }

    fn status(&self, name: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kilobytes = line.and_then(|line| line.split_whitespace().next());
        let kilobytes: u64 = kilobytes.ok_or("the kernel does not tell the memory")?.parse()?;
        Ok(kilobytes * 1024)
    }

    /// The durations logged by the server for the reloads since the last call: reading, validating and indexing,
    /// without the debounce time.
    pub(crate) fn durations_of_reloads(&self) -> Vec<Duration> {
        let microseconds = |line: String| {
            let (_, rest) = line.split_once("duration_us=")?;
            rest.split_whitespace().next()?.parse().ok()
        };
        self.lines
            .try_iter()
            .filter_map(microseconds)
            .map(Duration::from_micros)
            .collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has no state to save, and its sockets are on loopback.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
