//! What the database servers have in common: a directory of their user, their templates, the start and the end.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use rustix::fs::statvfs;
use tempfile::TempDir;

use super::processes::{as_owner, owner, run, signal};

/// The memory in bytes that the servers of a dozen tests do not need.
const ENOUGH: u64 = 4 << 30;

/// A temporary directory that the user of the server can use: in memory if there is enough, where a cluster, which has a thousand
/// files, takes a tenth of the time.
pub fn owned_directory() -> TempDir {
    static PARENT: LazyLock<&Path> = LazyLock::new(|| {
        let memory = Path::new("/dev/shm");
        let is_enough = statvfs(memory).is_ok_and(|size| size.f_bavail * size.f_frsize >= ENOUGH);
        if is_enough { memory } else { Path::new("/tmp") }
    });
    owned_directory_in(&PARENT)
}

/// The same in another directory.
pub fn owned_directory_in(parent: &Path) -> TempDir {
    let temp = tempfile::tempdir_in(parent).unwrap();
    if let Some((user, group)) = owner() {
        chown(temp.path(), Some(user), Some(group)).unwrap();
    }
    temp
}

/// Writes a file that only the server can read, for example a certificate and its key.
pub fn write_private(path: &Path, text: &[u8]) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    if let Some((user, group)) = owner() {
        chown(path, Some(user), Some(group)).unwrap();
    }
}

/// Copies a directory with its owners and modes.
pub fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").arg("-a").arg(from).arg(to));
}

/// Keeps a data directory as `template`, for all tests.
pub fn keep_as_template(data: &Path, template: &Path) {
    // Another test binary may do the same, and a directory with this name is whole.
    let temp = tempfile::tempdir_in(template.parent().unwrap()).unwrap();
    let copied = temp.path().join("data");
    copy(data, &copied);
    if let Err(error) = fs::rename(copied, template) {
        assert!(template.exists(), "{error}");
    }
}

/// Starts a server as its user, with a file `log` in its directory.
pub fn spawn(command: &mut Command, directory: &Path) -> Child {
    let log = File::create(directory.join("log")).unwrap();
    command
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    let server = as_owner(command).spawn();
    server.unwrap_or_else(|error| panic!("{command:?}: {error}; install its package"))
}

/// What a server has logged since its last start.
pub fn log(directory: &Path) -> String {
    fs::read_to_string(directory.join("log")).unwrap_or_default()
}

/// Whether a server has ended without a signal of the test. There is then none any more.
pub fn has_ended(server: &mut Option<Child>) -> bool {
    let has_ended = server
        .as_mut()
        .is_none_or(|server| server.try_wait().unwrap().is_some());
    if has_ended {
        *server = None;
    }
    has_ended
}

/// Ends a server by a signal, if it runs.
pub fn end(server: &mut Option<Child>, name: &str) {
    if let Some(mut server) = server.take() {
        signal(server.id(), name);
        server.wait().unwrap();
    }
}
