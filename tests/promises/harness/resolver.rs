//! Runs trivial-rewrite(8), the program of Postfix that chooses the next hop, without a running instance.
//!
//! With `-S` it answers one request on its standard input, which must be a socket. The request is that of
//! `resolve_clnt.c`: name and value pairs, each ended by a NUL, and an empty name at the end. It reads main.cf and
//! opens the tables as under master(8), but does not read master.cf: a caller passes the `-o` options set there. Tables
//! behind `proxy:` need a running proxymap(8), so they cannot be queried here.

use std::collections::HashMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::daemon::DEADLINE;

/// A domain that no test configures: without a relay, it is itself the next hop of mail to it.
const ELSEWHERE: &str = "elsewhere.test";

/// `RESOLVE_FLAG_ERROR` and `RESOLVE_FLAG_FAIL`: an invalid address, and a failed table lookup.
const FAILED: u32 = (1 << 2) | (1 << 3);

/// The number of concurrent requests.
const CONCURRENCY: usize = 4;

/// One configuration of Postfix.
pub(crate) struct Resolver {
    pub(crate) config_directory: PathBuf,
    pub(crate) queue_directory: PathBuf,
    /// The `-o` options of `rewrite/unix` in master.cf.
    pub(crate) overrides: Vec<(String, String)>,
}

impl Resolver {
    /// The next hop of mail from each sender to a foreign domain, or `None` where it is delivered directly. A sender is
    /// in internal form: without quotes, and empty for the null sender.
    #[track_caller]
    pub(crate) fn next_hops(&self, senders: &[String]) -> Vec<Option<String>> {
        let mut next_hops = Vec::with_capacity(senders.len());
        for some in senders.chunks(CONCURRENCY) {
            let asked: Vec<_> = some.iter().map(|sender| self.query(sender)).collect();
            for (sender, (stream, child)) in some.iter().zip(asked) {
                next_hops.push(answer(sender, stream, child));
            }
        }
        next_hops
    }

    fn query(&self, sender: &str) -> (UnixStream, Child) {
        let program = Path::new("/usr/lib/postfix/sbin/trivial-rewrite");
        assert!(
            program.exists(),
            "no {}: apt-get install postfix",
            program.display()
        );
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(DEADLINE)).unwrap();
        let output = theirs.try_clone().unwrap();
        let options = self.overrides.iter();
        let child = Command::new(program)
            .arg("-S")
            .args(options.flat_map(|(name, value)| ["-o".to_owned(), format!("{name}={value}")]))
            .env("MAIL_CONFIG", &self.config_directory)
            .current_dir(&self.queue_directory)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(OwnedFd::from(output)))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let recipient = format!("somebody@{ELSEWHERE}");
        let words = ["request", "resolve", "sender", sender, "address", &recipient, ""];
        let request: Vec<u8> = words
            .iter()
            .flat_map(|word| [word.as_bytes(), b"\0"].concat())
            .collect();
        ours.write_all(&request).unwrap();
        (ours, child)
    }
}

#[track_caller]
fn answer(sender: &str, mut stream: UnixStream, mut child: Child) -> Option<String> {
    let mut reply = Vec::new();
    let mut block = [0; 4096];
    // The attributes end in an empty name.
    while !reply.ends_with(b"\0\0") {
        match stream.read(&mut block) {
            Ok(read @ 1..) => reply.extend_from_slice(&block[..read]),
            // With a deadline on the socket, a pause of this process interrupts the call.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            ended => panic!("trivial-rewrite does not resolve {sender:?}: {ended:?} after {reply:?}"),
        }
    }
    drop(stream.shutdown(Shutdown::Both));
    child.wait().unwrap();
    let text = String::from_utf8(reply).unwrap();
    let words: Vec<&str> = text.split('\0').collect();
    // `flags` comes twice; the second one is used.
    let attributes: HashMap<&str, &str> = words.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
    let flags: u32 = attributes["flags"].parse().unwrap();
    assert_eq!(
        flags & FAILED,
        0,
        "trivial-rewrite cannot resolve {sender:?}: {text:?}"
    );
    let next_hop = attributes["nexthop"];
    (next_hop != ELSEWHERE).then(|| next_hop.to_owned())
}
