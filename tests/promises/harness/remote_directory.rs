//! A directory on a FUSE file system that decides what every call returns.
//!
//! It simulates a directory on a file server: files change without any event, calls fail or hang, and the metadata may
//! differ from what a read returns. It is mounted in the mount namespace of one daemon, and ends with it. The protocol
//! is that of the kernel's `fuse.h`, limited to what reading needs.

use super::daemon::Daemon;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// The error of open, read or stat.
pub(crate) const EIO: i32 = 5;
pub(crate) const ESTALE: i32 = 116;
const ENOENT: i32 = 2;
const ENOSYS: i32 = 38;

/// A file on the server.
#[derive(Clone, Default)]
pub(crate) struct Remote {
    pub(crate) text: Vec<u8>,
    /// The size in the metadata, where it is wrong.
    pub(crate) length: Option<u64>,
    /// The modification time in the metadata.
    pub(crate) time: u64,
    pub(crate) lookup_fails: Option<i32>,
    pub(crate) open_fails: Option<i32>,
    /// An offset, from which on reads fail with this error.
    pub(crate) read_fails: Option<(u64, i32)>,
}

type Hook = Box<dyn FnMut(&mut Files, &str) + Send>;
type Files = BTreeMap<String, Remote>;

#[derive(Default)]
struct State {
    files: Files,
    /// Runs after a file was read to its end.
    after_read: Option<Hook>,
    hangs: bool,
    /// The number of calls that wait while the server hangs.
    waiting: usize,
    reads: usize,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// The directory. It ends after the daemon that has mounted it.
pub(crate) struct RemoteDirectory {
    shared: Arc<Shared>,
    server: Option<JoinHandle<()>>,
}

impl RemoteDirectory {
    /// The program that starts the daemon in its own mount namespace.
    pub(crate) const WITHIN: [&'static str; 2] = ["unshare", "--mount"];

    /// Mounts a directory with these files over the daemon's.
    pub(crate) fn mount(daemon: &Daemon, files: &[(&str, String)]) -> Self {
        let device = File::options()
            .read(true)
            .write(true)
            .open("/dev/fuse")
            .expect("FUSE; the tests need it, and to be root");
        let shared = Arc::new(Shared::default());
        for (name, text) in files {
            shared
                .lock()
                .files
                .insert((*name).to_owned(), Remote::of(text, 1));
        }
        let status = Command::new("nsenter")
            .args(["--mount", &format!("--target={}", daemon.pid())])
            .args(["mount", "-i", "-t", "fuse", "-o"])
            .arg("fd=0,rootmode=40000,user_id=0,group_id=0,allow_other")
            .arg("postmapd-test")
            .arg(daemon.dir())
            .stdin(device.try_clone().expect("another descriptor"))
            .status()
            .expect("nsenter");
        assert!(status.success(), "the directory is not mounted: {status}");
        let serving = Arc::clone(&shared);
        Self {
            shared,
            server: Some(thread::spawn(move || serving.serve(device))),
        }
    }

    /// Changes the files on the server in one step.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Files)) {
        change(&mut self.shared.lock().files);
    }

    /// Saves a file with a new modification time.
    pub(crate) fn save(&self, name: &str, text: &str) {
        self.change(|files| {
            let time = files.get(name).map_or(1, |file| file.time + 1);
            files.insert(name.to_owned(), Remote::of(text, time));
        });
    }

    /// Runs `hook` whenever a file was read to its end.
    pub(crate) fn after_read(&self, hook: impl FnMut(&mut Files, &str) + Send + 'static) {
        self.shared.lock().after_read = Some(Box::new(hook));
    }

    /// Answers no call until it is called with `false`.
    pub(crate) fn hang(&self, hangs: bool) {
        self.shared.lock().hangs = hangs;
        self.shared.changed.notify_all();
    }

    /// The number of waiting calls.
    pub(crate) fn waiting(&self) -> usize {
        self.shared.lock().waiting
    }

    /// The number of reads so far.
    pub(crate) fn reads(&self) -> usize {
        self.shared.lock().reads
    }
}

impl Drop for RemoteDirectory {
    fn drop(&mut self) {
        // A daemon that waits for an answer could not end. Drop the directory after the daemon.
        self.hang(false);
        if let Some(server) = self.server.take() {
            let failed = server.join().is_err();
            assert!(!failed || thread::panicking(), "the file system failed");
        }
    }
}

impl Remote {
    pub(crate) fn of(text: &str, time: u64) -> Self {
        Self {
            text: text.into(),
            time,
            ..Self::default()
        }
    }
}

/// A reply, built field by field.
#[derive(Default)]
struct Reply(Vec<u8>);

impl Reply {
    fn u16(mut self, values: &[u16]) -> Self {
        self.0.extend(values.iter().flat_map(|value| value.to_ne_bytes()));
        self
    }

    fn u32(mut self, values: &[u32]) -> Self {
        self.0.extend(values.iter().flat_map(|value| value.to_ne_bytes()));
        self
    }

    fn u64(mut self, values: &[u64]) -> Self {
        self.0.extend(values.iter().flat_map(|value| value.to_ne_bytes()));
        self
    }

    fn attributes(self, node: u64, file: Option<&Remote>) -> Self {
        let (mode, size, time) = file.map_or((0o040_755, 0, 1), |file| {
            let size = file.length.unwrap_or(file.text.len() as u64);
            (0o100_644, size, file.time)
        });
        self.u64(&[node, size, size.div_ceil(512), time, time, time])
            .u32(&[0, 0, 0, mode, 1, 0, 0, 0, 4096, 0])
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

const ROOT: u64 = 1;

/// Names keep their numbers for the life of the file system.
#[derive(Default)]
struct Nodes(Vec<String>);

impl Nodes {
    fn number(&mut self, name: &str) -> u64 {
        let found = self.0.iter().position(|known| known == name);
        let index = found.unwrap_or_else(|| {
            self.0.push(name.to_owned());
            self.0.len() - 1
        });
        index as u64 + ROOT + 1
    }

    fn name(&self, node: u64) -> &str {
        &self.0[usize::try_from(node - ROOT - 1).expect("a node")]
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, mut device: File) {
        let mut nodes = Nodes::default();
        let mut buffer = vec![0; 1 << 17];
        // The loop ends in an error, when the file system is no longer mounted.
        while let Ok(length) = device.read(&mut buffer) {
            let request = &buffer[..length];
            let unique = u64_at(request, 8);
            let (error, body) = match self.answer(request, &mut nodes) {
                None => continue,
                Some(Ok(reply)) => (0, reply.0),
                Some(Err(error)) => (error, Vec::new()),
            };
            let mut reply = Vec::new();
            reply.extend(
                u32::try_from(16 + body.len())
                    .expect("a short reply")
                    .to_ne_bytes(),
            );
            reply.extend((-error).to_ne_bytes());
            reply.extend(unique.to_ne_bytes());
            reply.extend(body);
            // The process that sent the request may have been killed meanwhile.
            drop(device.write(&reply));
        }
    }

    /// `None` where the kernel expects no reply.
    fn answer(&self, request: &[u8], nodes: &mut Nodes) -> Option<Result<Reply, i32>> {
        const LOOKUP: u32 = 1;
        const FORGET: u32 = 2;
        const GETATTR: u32 = 3;
        const OPEN: u32 = 14;
        const READ: u32 = 15;
        const STATFS: u32 = 17;
        const RELEASE: u32 = 18;
        const FLUSH: u32 = 25;
        const INIT: u32 = 26;
        const OPENDIR: u32 = 27;
        const READDIR: u32 = 28;
        const RELEASEDIR: u32 = 29;
        const INTERRUPT: u32 = 36;
        const BATCH_FORGET: u32 = 42;
        const DIRECT_IO: u32 = 1;
        let (operation, node, arguments) = (u32_at(request, 4), u64_at(request, 16), &request[40..]);
        if [FORGET, BATCH_FORGET, INTERRUPT].contains(&operation) {
            return None;
        }
        let mut state = self.lock();
        state.waiting += 1;
        while state.hangs {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting -= 1;
        let state = &mut *state;
        Some(match operation {
            INIT => {
                let (minor, write) = (31, 4096);
                let sizes = Reply::default()
                    .u32(&[7, minor, 0, 0])
                    .u16(&[1, 1])
                    .u32(&[write, 1]);
                Ok(sizes.u16(&[1, 0]).u32(&[0; 8]))
            }
            LOOKUP => {
                let name = arguments.split(|byte| *byte == 0).next().unwrap_or_default();
                let name = std::str::from_utf8(name).expect("a name in ASCII");
                match state.files.get(name) {
                    Some(Remote {
                        lookup_fails: Some(error),
                        ..
                    }) => Err(*error),
                    // Disables the kernel's cache.
                    Some(file) => {
                        let node = nodes.number(name);
                        Ok(Reply::default()
                            .u64(&[node, 0, 0, 0])
                            .u32(&[0, 0])
                            .attributes(node, Some(file)))
                    }
                    None => Err(ENOENT),
                }
            }
            GETATTR if node == ROOT => Ok(Reply::default().u64(&[0]).u32(&[0, 0]).attributes(node, None)),
            GETATTR => match state.files.get(nodes.name(node)) {
                Some(Remote {
                    lookup_fails: Some(error),
                    ..
                }) => Err(*error),
                Some(file) => Ok(Reply::default()
                    .u64(&[0])
                    .u32(&[0, 0])
                    .attributes(node, Some(file))),
                None => Err(ESTALE),
            },
            OPENDIR => Ok(Reply::default().u64(&[0]).u32(&[0, 0])),
            OPEN => match state.files.get(nodes.name(node)) {
                Some(Remote {
                    open_fails: Some(error),
                    ..
                }) => Err(*error),
                Some(_) => Ok(Reply::default().u64(&[0]).u32(&[DIRECT_IO, 0])),
                None => Err(ESTALE),
            },
            READ => state.read(nodes.name(node), u64_at(arguments, 8), u32_at(arguments, 16)),
            STATFS => Ok(Reply::default()
                .u64(&[0; 5])
                .u32(&[4096, 255, 4096, 0])
                .u32(&[0; 6])),
            RELEASE | FLUSH | READDIR | RELEASEDIR => Ok(Reply::default()),
            _ => Err(ENOSYS),
        })
    }
}

impl State {
    fn read(&mut self, name: &str, offset: u64, size: u32) -> Result<Reply, i32> {
        self.reads += 1;
        let Some(file) = self.files.get(name) else {
            return Err(ESTALE);
        };
        if let Some((from, error)) = file.read_fails
            && offset + u64::from(size) > from
        {
            return Err(error);
        }
        let begin = usize::try_from(offset)
            .expect("a short file")
            .min(file.text.len());
        let end = (begin + size as usize).min(file.text.len());
        let reply = Reply(file.text[begin..end].to_vec());
        if end == file.text.len()
            && !reply.0.is_empty()
            && let Some(mut hook) = self.after_read.take()
        {
            hook(&mut self.files, name);
            self.after_read = Some(hook);
        }
        Ok(reply)
    }
}
