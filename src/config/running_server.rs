//! The running server of a directory, and the variables that it was started with.
//!
//! `RELAY_HOST` in a unit or a container is unknown to a shell. So the commands look in /proc for processes that serve
//! the same directory, including those in a container with the same files mounted, and read their environment
//! (proc(5)). That needs no setting, no listener and no state on disk, and the kernel decides who may read: a sandboxed
//! server shows its environment to root alone. What is read stays in this process, and passwords are wiped with it.
//!
//! A process is trusted if its name is postmapd, its arguments contain `serve`, its directory is the same file as ours,
//! and it belongs to root, to the current user, or to a user or group that owns the directory or a table in it: a
//! process of another user could claim anything.
//!
//! Limits: only variables are read, not the flags of the server. A server whose environment this user may not read is
//! recognized only by an absolute `--dir`, or as the server of the default directory. A process in another PID
//! namespace (a container, seen from another one) or on another machine is not found.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::{ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User, geteuid, getpid};

use super::variables::{Variables, is_same_file, path_in_process};
use super::{DEFAULT_DIR, setting};
use crate::lookup::map::Maps;
use crate::os::secret::Secret;

/// The result of a search.
pub(super) enum SearchResult {
    /// No server of the directory.
    Nothing,
    /// A server, and its variables.
    Server(Process, Variables),
    /// A server whose environment this user may not read.
    Hidden(Process),
    /// Several servers with different variables.
    Several(Vec<Process>),
}

/// A process of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its PID.
    id: i32,
    /// The name of its user, or the ID where there is no name.
    user: String,
}

impl Process {
    /// Returns whether it is PID 1, as the server of a container is.
    pub(super) fn is_init(&self) -> bool {
        self.id == 1
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} (user {})", self.id, self.user)
    }
}

/// Looks for servers of `dir`.
pub(super) fn find(dir: &Path) -> SearchResult {
    let owners = TrustedOwners::new(dir);
    let mut hidden = None;
    let mut servers: Vec<(Process, Variables)> = Vec::new();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let own = getpid().as_raw();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    for id in numbers.filter(|id| *id != own) {
        // A process that ends meanwhile is skipped.
        match server_process(id, dir, &owners) {
            Some((process, Some(variables))) => servers.push((process, variables)),
            Some((process, None)) => hidden = Some(process),
            None => {}
        }
    }
    let Some((first, variables)) = servers.first() else {
        return hidden.map_or(SearchResult::Nothing, SearchResult::Hidden);
    };
    if servers.iter().any(|(_, other)| !other.is_same(variables)) {
        return SearchResult::Several(servers.into_iter().map(|(process, _)| process).collect());
    }
    SearchResult::Server(first.clone(), variables.clone())
}

/// Returns the process with this PID if it is a server of `dir`, and its variables if they can be read.
fn server_process(id: i32, dir: &Path, owners: &TrustedOwners) -> Option<(Process, Option<Variables>)> {
    let process = PathBuf::from(format!("/proc/{id}"));
    if fs::read(process.join("comm")).ok()?.trim_ascii() != b"postmapd" {
        return None;
    }
    let arguments = Arguments::parse(&fs::read(process.join("cmdline")).ok()?)?;
    let user = owners.user(&process)?;
    let user = Process {
        id,
        user: User::from_uid(user)
            .ok()
            .flatten()
            .map_or_else(|| user.to_string(), |user| user.name),
    };
    match read_environ(&process.join("environ")) {
        Ok(block) => {
            let named = arguments.dir.or_else(|| dir_variable(&block));
            let named = named.unwrap_or_else(|| DEFAULT_DIR.into());
            is_same_file(&path_in_process(&process, &named), dir)
                .then(|| (user, Some(Variables::from_environ(&block, &process))))
        }
        // Without its environment, only its arguments identify it.
        Err(ErrorKind::PermissionDenied) => {
            let named = arguments.dir.unwrap_or_else(|| DEFAULT_DIR.into());
            (named.is_absolute() && is_same_file(&named, dir)).then_some((user, None))
        }
        Err(_) => None,
    }
}

/// The arguments of a server.
struct Arguments {
    dir: Option<PathBuf>,
}

impl Arguments {
    /// Parses `/proc/PID/cmdline`. `None` where it is not that of a server.
    fn parse(line: &[u8]) -> Option<Self> {
        let words: Vec<&[u8]> = line.split(|c| *c == 0).skip(1).collect();
        words.contains(&&b"serve"[..]).then(|| {
            let mut dir = None;
            for (index, word) in words.iter().enumerate() {
                match word.strip_prefix(setting::DIR.flag.unwrap_or_default().as_bytes()) {
                    Some([b'=', joined @ ..]) => dir = Some(joined),
                    Some([]) => dir = words.get(index + 1).copied(),
                    _ => {}
                }
            }
            Self {
                dir: dir.map(|dir| PathBuf::from(OsStr::from_bytes(dir))),
            }
        })
    }
}

/// Reads the environment of a process. /proc reports no length, so it is read in pieces, and each piece is wiped.
fn read_environ(path: &Path) -> Result<Secret, ErrorKind> {
    // More than execve(2) accepts with the default stack limit.
    const MAX: usize = 8 << 20;
    let mut file = fs::File::open(path).map_err(|error| error.kind())?;
    let mut block = Secret::default();
    let mut piece = Secret::from(vec![0; 1 << 16]);
    while block.len() < MAX {
        match file.read(piece.expose_mut()) {
            Ok(0) => return Ok(block),
            Ok(read) => block.append(piece.expose().get(..read).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.kind()),
        }
    }
    Err(ErrorKind::FileTooLarge)
}

/// Returns the directory that an environment names.
fn dir_variable(block: &Secret) -> Option<PathBuf> {
    let mut assignments = block.expose().split(|c| *c == 0);
    let name = setting::DIR.variable?.as_bytes();
    let dir = assignments.find_map(|assignment| assignment.strip_prefix(name)?.strip_prefix(b"="))?;
    (!dir.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(dir)))
}

/// The users and groups whose processes are trusted.
struct TrustedOwners {
    users: Vec<u32>,
    groups: Vec<u32>,
}

impl TrustedOwners {
    fn new(dir: &Path) -> Self {
        let mut owners = Self {
            users: vec![0, geteuid().as_raw()],
            groups: Vec::new(),
        };
        let tables = Maps::SERVED.tables().map(|table| dir.join(table.file));
        for path in [dir.to_owned()].into_iter().chain(tables) {
            if let Ok(file) = path.metadata() {
                owners.users.push(file.uid());
                owners.groups.push(file.gid());
            }
        }
        owners
    }

    /// Returns the user of a process, if it is trusted.
    fn user(&self, process: &Path) -> Option<Uid> {
        let status = fs::read_to_string(process.join("status")).ok()?;
        let numbers = |field: &str| -> Vec<u32> {
            let line = status.lines().find_map(|line| line.strip_prefix(field));
            let words = line.into_iter().flat_map(str::split_whitespace);
            words.filter_map(|word| word.parse().ok()).collect()
        };
        let user = *numbers("Uid:").first()?;
        let mut groups = numbers("Gid:");
        groups.extend(numbers("Groups:"));
        let is_member = groups
            .iter()
            .any(|group| *group != 0 && self.groups.contains(group));
        (self.users.contains(&user) || is_member).then(|| Uid::from_raw(user))
    }
}

#[cfg(test)]
mod tests {
    use super::Arguments;
    use std::path::PathBuf;

    #[test]
    fn the_arguments_of_a_server_name_its_directory() {
        let dir = |line: &str| Arguments::parse(line.replace(' ', "\0").as_bytes()).map(|found| found.dir);
        let named = |path: &str| Some(Some(PathBuf::from(path)));
        assert_eq!(dir("postmapd serve --dir /a "), named("/a"));
        assert_eq!(dir("/usr/bin/postmapd --dir=/a serve "), named("/a"));
        assert_eq!(dir("postmapd serve "), Some(None));
        assert_eq!(dir("postmapd relay list "), None);
        assert_eq!(dir(""), None);
    }
}
