//! An HTTP client for the admin listener and other servers, which shares no code with the server.

use super::client::Stream;
use super::daemon::{Daemon, Setup};
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};

/// An HTTP reply.
#[derive(Debug)]
pub(crate) struct HttpReply {
    pub(crate) code: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl HttpReply {
    /// Reads the reply, up to where the server closes the connection.
    #[track_caller]
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
        let (head, body) = text
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("no reply of HTTP: {text:?}"));
        let code = head
            .strip_prefix("HTTP/1.1 ")
            .or_else(|| head.strip_prefix("HTTP/1.0 "))
            .and_then(|rest| rest.get(..3)?.parse().ok())
            .unwrap_or_else(|| panic!("no status line: {head:?}"));
        Self {
            code,
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }

    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (own, value) = line.split_once(':')?;
            own.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    /// The body, parsed as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// Sends these bytes and reads the reply up to the end of the connection.
#[track_caller]
pub(crate) fn exchange(address: &str, request: &str) -> HttpReply {
    let mut stream = Stream::connect(address);
    stream.write_all(request.as_bytes()).expect("a request is sent");
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).expect("a reply");
    HttpReply::read(&reply)
}

/// Encodes every byte for a URL.
pub(crate) fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        write!(encoded, "%{byte:02x}").expect("a string");
    }
    encoded
}

/// The address of a daemon's admin listener.
pub(crate) struct Admin {
    pub(crate) address: String,
}

impl Admin {
    /// Adds an admin listener to a setup, such that [`Admin::of`] finds it.
    pub(crate) fn wanted(setup: Setup) -> Setup {
        setup.arg("--admin").arg("127.0.0.1:0")
    }

    /// The address of this daemon's admin listener.
    pub(crate) fn of(daemon: &Daemon) -> Self {
        let line = daemon.wait_for_log(|line| line.contains("listening for admin requests"));
        let (_, address) = line.trim_end().split_once("address=").expect("an address");
        Self {
            address: address.to_owned(),
        }
    }

    /// Starts a daemon with an admin listener.
    pub(crate) fn start(setup: Setup) -> (Daemon, Self) {
        let daemon = Daemon::start(Self::wanted(setup));
        let admin = Self::of(&daemon);
        (daemon, admin)
    }

    /// Requests a path.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> HttpReply {
        self.get_as(path, "*/*")
    }

    /// Requests a path in a format.
    #[track_caller]
    pub(crate) fn get_as(&self, path: &str, accept: &str) -> HttpReply {
        let request = format!("GET {path} HTTP/1.1\r\nHost: admin\r\nAccept: {accept}\r\n\r\n");
        exchange(&self.address, &request)
    }

    /// The metrics in Prometheus' text format.
    #[track_caller]
    pub(crate) fn metrics(&self) -> Metrics {
        Metrics(self.get("/metrics").body)
    }

    /// The reply of `/status`.
    #[track_caller]
    pub(crate) fn status(&self) -> serde_json::Value {
        self.get("/status").json()
    }
}

/// Metrics in Prometheus' text format.
pub(crate) struct Metrics(pub(crate) String);

impl Metrics {
    /// The value of a series, as written.
    #[track_caller]
    pub(crate) fn value(&self, series: &str) -> f64 {
        let line = self
            .0
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        let value = line.unwrap_or_else(|| panic!("no {series} in:\n{}", self.0));
        value.parse().expect("a number")
    }

    /// The series of a family that are not zero, without the family's name.
    pub(crate) fn not_zero(&self, family: &str) -> Vec<(String, String)> {
        let of_family = self.0.lines().filter_map(|line| line.strip_prefix(family));
        of_family
            .filter(|rest| rest.starts_with('{'))
            .filter_map(|rest| rest.rsplit_once(' '))
            .filter(|(_, value)| *value != "0")
            .map(|(labels, value)| (labels.to_owned(), value.to_owned()))
            .collect()
    }
}
