//! A mail server: a directory, a postmapd-follow that writes it, and a `postmapd serve` that reads it.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::client::{Client, Reply};
use super::process::{Process, ending_with_the_test};
use super::{FOLLOW, POSTMAPD, eventually};

/// The settings of `postmapd serve`. The pairs of a moved sender would be those of before the move for the time in_flight,
/// which has tests of its own; here each reply shows the state that is active.
const SERVE: &str = "[reload]\nerrors = \"holes\"\nin_flight = 0\n";

pub(crate) struct MailServer {
    /// Everything of this server.
    home: PathBuf,
    follower: Option<Process>,
    serve: Option<Process>,
}

impl MailServer {
    /// Creates the directory and the settings in a directory that does not exist yet. `settings` are those of follow.toml
    /// beside `dir` and `admin`.
    pub(crate) fn new(home: PathBuf, settings: &str) -> Self {
        fs::create_dir_all(home.join("tables")).unwrap();
        fs::write(home.join("tables/postmapd.toml"), SERVE).unwrap();
        let server = Self {
            home,
            follower: None,
            serve: None,
        };
        server.set(settings);
        server
    }

    /// Replaces follow.toml.
    pub(crate) fn set(&self, settings: &str) {
        let home = self.home.to_str().unwrap();
        let own = format!("dir = \"{home}/tables\"\nadmin = \"unix:{home}/follow.admin\"\n");
        fs::write(self.home.join("follow.toml"), format!("{own}{settings}")).unwrap();
    }

    /// The directory that is served.
    pub(crate) fn tables(&self) -> PathBuf {
        self.home.join("tables")
    }

    /// follow.toml.
    pub(crate) fn settings(&self) -> PathBuf {
        self.home.join("follow.toml")
    }

    pub(crate) fn start_follower(&mut self) {
        let mut command = ending_with_the_test(FOLLOW);
        command.args(["run", "--config"]).arg(self.settings());
        self.follower = Some(Process::start(&mut command, &self.home.join("follow.log")));
    }

    pub(crate) fn follower(&mut self) -> &mut Process {
        self.follower.as_mut().unwrap()
    }

    /// Ends the follower by SIGKILL.
    pub(crate) fn kill_follower(&mut self) {
        self.follower.take().unwrap().kill();
    }

    /// Ends the follower by SIGTERM.
    pub(crate) fn stop_follower(&mut self) {
        let follower = self.follower.take().unwrap();
        assert_eq!(follower.stop(), Some(0), "{}", self.follower_log());
    }

    /// Everything that followers of this server have logged.
    pub(crate) fn follower_log(&self) -> String {
        fs::read_to_string(self.home.join("follow.log")).unwrap_or_default()
    }

    /// Starts the server, and waits until it answers.
    pub(crate) fn start_serve(&mut self) {
        let mut command = ending_with_the_test(&*POSTMAPD);
        command.args(["serve", "--dir"]).arg(self.tables());
        command
            .arg("--listen")
            .arg(format!("socketmap:unix:{}", self.socket().display()))
            .arg("--admin")
            .arg(format!("unix:{}", self.home.join("serve.admin").display()));
        let serve = Process::start(&mut command, &self.home.join("serve.log"));
        let serve = self.serve.insert(serve);
        let socket = self.home.join("socketmap");
        eventually(
            || {
                assert!(serve.is_running(), "{}", serve.log_text());
                UnixStream::connect(&socket).is_ok()
            },
            |connected| *connected,
        );
    }

    pub(crate) fn serve(&self) -> &Process {
        self.serve.as_ref().unwrap()
    }

    pub(crate) fn stop_serve(&mut self) {
        assert_eq!(self.serve.take().unwrap().stop(), Some(0));
    }

    /// The socket on which the server listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.home.join("socketmap")
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.socket())
    }

    /// The status that the server reports.
    pub(crate) fn serve_status(&self) -> Value {
        let (code, body) = get(&self.home.join("serve.admin"), "/status").unwrap();
        assert_eq!(code, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// A value of the metrics of postmapd-follow, if it has one.
    pub(crate) fn follower_metric(&self, name: &str) -> Option<f64> {
        let (_, body) = get(&self.home.join("follow.admin"), "/metrics")?;
        body.lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }

    /// The code and the body of a page of postmapd-follow.
    pub(crate) fn follower_page(&self, path: &str) -> Option<(u16, String)> {
        get(&self.home.join("follow.admin"), path)
    }

    /// Waits until the server answers with this value.
    #[track_caller]
    pub(crate) fn wait_for_answer(&self, map: &str, key: &str, expected: &Reply) {
        let mut client = self.client();
        eventually(
            || (client.ask_one(map, key), self.follower_log()),
            |(reply, _)| reply == expected,
        );
    }
}

/// Gets a page over HTTP, unless nothing listens.
fn get(socket: &Path, path: &str) -> Option<(u16, String)> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(super::DEADLINE)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut response = String::new();
    stream.read_to_string(&mut response).ok()?;
    let (head, body) = response.split_once("\r\n\r\n")?;
    let code = head.split(' ').nth(1)?.parse().ok()?;
    Some((code, body.to_owned()))
}
