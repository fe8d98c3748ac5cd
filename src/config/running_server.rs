//! The server that runs for a directory, and the variables that it was started with.
//!
//! `RELAY_HOST` in a unit or a container is unknown to a shell. So the commands look into /proc for processes that serve the
//! same directory, be it in a container with the same files mounted, and read their environment as proc(5) shows it. That
//! needs no setting, no listener and no state on a disk, and the kernel decides who may look: a server that has locked itself
//! shows its environment to root alone. What is read stays in this process, and passwords are wiped with it.
//!
//! A process counts if its name is postmapd, its arguments have `serve`, its directory is the same file as ours, and it
//! is root's, ours, or of a user or group that owns the directory or a table in it: another user's process could tell us
//! anything.
//!
//! Limits: variables alone count, not the flags of the server. A server whose environment this user may not see is
//! recognised by an absolute `--dir`, or as that of the usual directory, alone. A process of another namespace of processes (a container,
//! seen from another one) is not found, and neither is one of another machine.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::{ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User, geteuid, getpid};

use super::variables::{Variables, is_same_file, seen_by};
use super::{DEFAULT_DIR, setting};
use crate::lookup::map::Maps;
use crate::os::secret::Secret;

/// What a search finds.
pub(super) enum Found {
    /// No server of the directory.
    Nothing,
    /// A server, and its variables.
    Server(Process, Variables),
    /// A server whose environment this user may not see.
    Hidden(Process),
    /// Several servers with different variables.
    Several(Vec<Process>),
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    id: i32,
    /// Its user, by name where there is one.
    user: String,
}

impl Process {
    /// Whether it is the first of its namespace, as the server of a container is.
    pub(super) fn is_first(&self) -> bool {
        self.id == 1
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} (user {})", self.id, self.user)
    }
}

/// Looks for servers of `dir`.
pub(super) fn find(dir: &Path) -> Found {
    let owners = Owners::of(dir);
    let mut hidden = None;
    let mut servers: Vec<(Process, Variables)> = Vec::new();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let own = getpid().as_raw();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    for id in numbers.filter(|id| *id != own) {
        // A process that ends meanwhile is none.
        match server(id, dir, &owners) {
            Some((process, Some(variables))) => servers.push((process, variables)),
            Some((process, None)) => hidden = Some(process),
            None => {}
        }
    }
    let Some((first, variables)) = servers.first() else {
        return hidden.map_or(Found::Nothing, Found::Hidden);
    };
    if servers.iter().any(|(_, other)| !other.are_same(variables)) {
        return Found::Several(servers.into_iter().map(|(process, _)| process).collect());
    }
    Found::Server(first.clone(), variables.clone())
}

/// The process of this number if it is a server of `dir`, and its variables if they can be seen.
fn server(id: i32, dir: &Path, owners: &Owners) -> Option<(Process, Option<Variables>)> {
    let process = PathBuf::from(format!("/proc/{id}"));
    if fs::read(process.join("comm")).ok()?.trim_ascii() != b"postmapd" {
        return None;
    }
    let arguments = Arguments::of(&fs::read(process.join("cmdline")).ok()?)?;
    let user = owners.user(&process)?;
    let user = Process {
        id,
        user: User::from_uid(user)
            .ok()
            .flatten()
            .map_or_else(|| user.to_string(), |user| user.name),
    };
    match environment(&process.join("environ")) {
        Ok(block) => {
            let named = arguments.dir.or_else(|| dir_in(&block));
            let named = named.unwrap_or_else(|| DEFAULT_DIR.into());
            is_same_file(&seen_by(&process, &named), dir)
                .then(|| (user, Some(Variables::of_environment(&block, &process))))
        }
        // Where nothing of it can be seen, its arguments are all that there is to go by.
        Err(ErrorKind::PermissionDenied) => {
            let named = arguments.dir.unwrap_or_else(|| DEFAULT_DIR.into());
            (named.is_absolute() && is_same_file(&named, dir)).then_some((user, None))
        }
        Err(_) => None,
    }
}

/// What the arguments of a server say.
struct Arguments {
    dir: Option<PathBuf>,
}

impl Arguments {
    /// Those in `/proc/PID/cmdline`, or none where they are not those of a server.
    fn of(line: &[u8]) -> Option<Self> {
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

/// The environment of a process. /proc says no length, so it is read piece by piece, and each piece is wiped.
fn environment(path: &Path) -> Result<Secret, ErrorKind> {
    // More than execve(2) accepts with the usual limit of the stack.
    const MOST: usize = 8 << 20;
    let mut file = fs::File::open(path).map_err(|error| error.kind())?;
    let mut block = Secret::default();
    let mut piece = Secret::from(vec![0; 1 << 16]);
    while block.len() < MOST {
        match file.read(piece.expose_mut()) {
            Ok(0) => return Ok(block),
            Ok(read) => block.append(piece.expose().get(..read).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.kind()),
        }
    }
    Err(ErrorKind::FileTooLarge)
}

/// The directory that an environment names.
fn dir_in(block: &Secret) -> Option<PathBuf> {
    let mut assignments = block.expose().split(|c| *c == 0);
    let name = setting::DIR.variable?.as_bytes();
    let dir = assignments.find_map(|assignment| assignment.strip_prefix(name)?.strip_prefix(b"="))?;
    (!dir.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(dir)))
}

/// Whose processes are believed.
struct Owners {
    users: Vec<u32>,
    groups: Vec<u32>,
}

impl Owners {
    fn of(dir: &Path) -> Self {
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

    /// The user of a process that is believed.
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
        let dir = |line: &str| Arguments::of(line.replace(' ', "\0").as_bytes()).map(|found| found.dir);
        let named = |path: &str| Some(Some(PathBuf::from(path)));
        assert_eq!(dir("postmapd serve --dir /a "), named("/a"));
        assert_eq!(dir("/usr/bin/postmapd --dir=/a serve "), named("/a"));
        assert_eq!(dir("postmapd serve "), Some(None));
        assert_eq!(dir("postmapd relay list "), None);
        assert_eq!(dir(""), None);
    }
}
