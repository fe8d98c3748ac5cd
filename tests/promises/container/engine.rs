//! A podman for one test: its store, its containers and its mounts are in namespaces that end with it.
//!
//! It is Debian's podman, as root or as an ordinary user with a range of subordinate user numbers (rootless). Test
//! machines differ in what they permit, so there are no control groups (`cgroups=disabled`), the limits of descriptors
//! and processes are low enough for users that may not raise them, and a network is that of a namespace made by the
//! test, or none. Seccomp, capabilities, user and mount namespaces are podman's own. Nothing of the machine is changed,
//! not even its devices, whose owner crun would change.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::contrib::done;
use crate::harness::client::{Socketmap, Stream};
use crate::harness::daemon::{Finished, finish};
use crate::harness::eventually;
use crate::harness::identities::as_user;

/// The name of the image, in its build, in compose.yaml and in the manifest.
pub(super) const IMAGE: &str = "localhost/postmapd:local";

/// The number of the server's user in the image.
pub(super) const SERVER: u32 = 10451;

/// The ordinary user that runs podman, and the first of its subordinate numbers.
pub(super) const OPERATOR: u32 = 54_321;
const SUBORDINATE: u32 = 1_000_000;

pub(super) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs `contrib/container/build` without a network, and returns the archive. It may compile everything.
pub(super) fn build(engine: &str) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new("timeout");
    command.args(["900", "unshare", "--net"]);
    command.arg(repository().join("contrib/container/build"));
    command.arg(directory.path()).env("CONTAINER_ENGINE", engine);
    let built = command.output().unwrap();
    let [output, complaints] = [built.stdout, built.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(built.status.success(), "{engine}: {output}{complaints}");
    fs::read(output.lines().last().expect("the name of the archive")).unwrap()
}

/// The archive, built once.
pub(super) fn archive() -> &'static [u8] {
    static BUILT: OnceLock<Vec<u8>> = OnceLock::new();
    BUILT.get_or_init(|| build("podman"))
}

/// The user that runs podman.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PodmanUser {
    Root,
    Operator,
}

impl PodmanUser {
    /// The number on this machine of a user in a container.
    pub(super) fn outside(self, user: u32) -> u32 {
        match (self, user) {
            (Self::Root, user) => user,
            (Self::Operator, 0) => OPERATOR,
            (Self::Operator, user) => SUBORDINATE + user - 1,
        }
    }
}

/// The first process of the namespaces. It ends with its standard input, and everything in them with it.
const HOLDER: &str = r#"
set -eu
mount --make-rshared /
# On machines with both kinds of control groups crun would start nothing.
mount -t cgroup2 cgroup2 /sys/fs/cgroup
# Devices of its own: crun gives the standard input of a container, /dev/null, to the container's user.
mkdir dev
mount -t tmpfs -o mode=0755 tmpfs dev
for device in "null 1 3" "zero 1 5" "full 1 7" "random 1 8" "urandom 1 9" "tty 5 0"; do
    mknod -m 0666 "dev/${device%% *}" c ${device#* }
done
mkdir dev/pts dev/mqueue
mkdir -m 1777 dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount --rbind dev /dev
add() { cp "/etc/$1" "$1"; echo "$2" >> "$1"; mount --bind "$1" "/etc/$1"; }
add passwd "operator:x:$OPERATOR:$OPERATOR::$PWD/home:/bin/sh"
add group "operator:x:$OPERATOR:"
add subuid "operator:$SUBORDINATE:65536"
add subgid "operator:$SUBORDINATE:65536"
echo ready
exec cat > /dev/null
"#;

/// Settings for what the machine may lack, and for what podman would use by default.
const SETTINGS: &str = r#"
[containers]
cgroups = "disabled"
default_ulimits = ["nofile=10240:10240", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
"#;

/// A podman that has the image.
pub(super) struct Engine {
    who: PodmanUser,
    holder: Child,
    service: Option<Child>,
    work: TempDir,
}

impl Engine {
    pub(super) fn start(who: PodmanUser) -> Self {
        // podman accepts only short paths, whatever TMPDIR is.
        let work = tempfile::Builder::new()
            .prefix("postmapd-container-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir_in("/tmp")
            .unwrap();
        fs::write(work.path().join("containers.conf"), SETTINGS).unwrap();
        fs::create_dir(work.path().join("home")).unwrap();
        chown(
            work.path().join("home"),
            Some(who.outside(0)),
            Some(who.outside(0)),
        )
        .unwrap();
        fs::write(work.path().join("image.tar"), archive()).unwrap();
        fs::set_permissions(work.path().join("image.tar"), fs::Permissions::from_mode(0o644)).unwrap();
        let errors = work.path().join("holder");
        let mut holder = Command::new("unshare")
            .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["--propagation", "private", "sh", "-c", HOLDER])
            .env("OPERATOR", OPERATOR.to_string())
            .env("SUBORDINATE", SUBORDINATE.to_string())
            .current_dir(work.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&errors).unwrap())
            .spawn()
            .unwrap();
        let mut output = [0; 6];
        let ready = holder.stdout.as_mut().unwrap().read_exact(&mut output);
        assert!(ready.is_ok(), "{}", fs::read_to_string(errors).unwrap());
        let engine = Self {
            who,
            holder,
            service: None,
            work,
        };
        engine.podman([
            "load",
            "--quiet",
            "--input",
            engine.path("image.tar").to_str().unwrap(),
        ]);
        engine
    }

    /// A path in its directory, the same inside and outside.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    /// A program in its namespaces.
    pub(super) fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        let own = format!("/proc/{}/ns", self.holder.id());
        command
            .arg(format!("--mount={own}/mnt"))
            .arg(format!("--pid={own}/pid_for_children"))
            .arg(program);
        command
    }

    /// A program in its namespaces, as the user that runs podman.
    pub(super) fn own(&self, program: &str) -> Command {
        let user = self.who.outside(0);
        let home = self.path("home");
        let mut command = self.inside("setpriv");
        command
            .args([
                &format!("--reuid={user}"),
                &format!("--regid={user}"),
                "--clear-groups",
            ])
            .arg(program)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("CONTAINERS_CONF", self.path("containers.conf"))
            .envs(["HOME", "TMPDIR", "XDG_RUNTIME_DIR"].map(|name| (name, &home)));
        command
    }

    /// `podman` with its store in the directory.
    pub(super) fn command(&self) -> Command {
        let home = self.path("home");
        let mut command = self.own("podman");
        command.args(["--storage-driver", "vfs"]);
        for (flag, directory) in [("--root", "store"), ("--runroot", "run"), ("--tmpdir", "tmp")] {
            command.arg(flag).arg(home.join(directory));
        }
        command
    }

    /// Runs podman, which must succeed, and returns its output.
    #[track_caller]
    pub(super) fn podman<S: AsRef<str>>(&self, words: impl IntoIterator<Item = S>) -> String {
        let mut command = self.command();
        command.args(words.into_iter().map(|word| word.as_ref().to_owned()));
        done(&mut command, b"").stdout
    }

    /// Creates a directory that only a container's user can write.
    pub(super) fn directory(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).unwrap();
        let owner = Some(self.who.outside(SERVER));
        chown(&path, owner, owner).unwrap();
        path
    }

    /// Writes a file that only the server's user can read, by a new file renamed over the old one.
    pub(super) fn write(&self, path: &Path, text: &str) {
        let new = path.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
        let owner = Some(self.who.outside(SERVER));
        chown(&new, owner, owner).unwrap();
        fs::rename(new, path).unwrap();
    }

    /// Starts a container with these options and arguments, and waits until it announces that endpoint.
    #[track_caller]
    pub(super) fn run(&self, options: &[&str], endpoint: &str) -> Container<'_> {
        let name = "postmapd".to_owned();
        let words = ["run", "--detach", "--pull=never", "--name", &name];
        self.podman(words.iter().chain(options).chain(&[IMAGE]));
        self.container(name, endpoint)
    }

    /// A container started by another program, once it listens.
    #[track_caller]
    pub(super) fn container(&self, name: String, endpoint: &str) -> Container<'_> {
        let container = Container { engine: self, name };
        let line = format!("listening endpoint={endpoint}\n");
        eventually(|| container.log(), |log| log.contains(&line));
        container
    }

    /// Starts podman's Docker interface, and returns its address.
    pub(super) fn docker(&mut self) -> String {
        let socket = format!("unix://{}", self.path("docker").display());
        let mut command = self.command();
        command.args(["system", "service", "--time=0", &socket]);
        let log = File::create(self.path("docker.log")).unwrap();
        command.stdin(Stdio::piped());
        let service = command.stdout(log.try_clone().unwrap()).stderr(log).spawn();
        self.service = Some(service.unwrap());
        eventually(|| self.path("docker").exists(), |exists| *exists);
        socket
    }

    /// Connects to a socket as a user of the containers.
    pub(super) fn connect_as(&self, user: u32, socket: &Path) -> Socketmap {
        let path = socket.to_str().unwrap();
        as_user(self.who.outside(user), || Socketmap {
            stream: Stream::connect(path),
        })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        drop(self.holder.wait());
        // All processes in the namespaces have now ended.
        drop(self.service.as_mut().map(Child::wait));
    }
}

/// A container of the image. It ends with its engine.
pub(super) struct Container<'e> {
    engine: &'e Engine,
    name: String,
}

impl Container<'_> {
    /// Its output so far.
    pub(super) fn log(&self) -> String {
        let logs = finish(self.engine.command().args(["logs", &self.name]), b"");
        format!("{}{}", logs.stdout, logs.stderr)
    }

    /// `podman exec … postmapd WORDS`.
    pub(super) fn exec(&self, words: &[&str]) -> Finished {
        let mut command = self.engine.command();
        finish(command.args(["exec", &self.name, "postmapd"]).args(words), b"")
    }

    /// A podman command for it, which must succeed.
    #[track_caller]
    pub(super) fn podman(&self, words: &[&str]) -> String {
        self.engine.podman(words.iter().chain(&[self.name.as_str()]))
    }

    /// The process numbers of the server's children, which it must reap.
    pub(super) fn children(&self) -> Vec<String> {
        let mut command = self.engine.inside("sh");
        command.args(["-c", "grep -H PPid: /proc/[0-9]*/status 2>/dev/null || true"]);
        let parents = done(&mut command, b"").stdout;
        let own = format!("\t{}", self.process());
        let children = parents.lines().filter(|line| line.ends_with(&own));
        children.map(ToOwned::to_owned).collect()
    }

    /// The number of the server's process, in the namespaces of the engine.
    pub(super) fn process(&self) -> String {
        let number = self.podman(&["inspect", "--format", "{{.State.Pid}}"]);
        number.trim().to_owned()
    }

    /// A file of `/proc` about the server's process.
    pub(super) fn proc(&self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.process());
        done(self.engine.inside("cat").arg(path), b"").stdout
    }

    /// `postmap -q` by a user of this machine. `own_network`: in the container's network, as another container of its
    /// pod.
    pub(super) fn postmap(&self, user: u32, own_network: bool, map: &str, key: &str) -> Finished {
        let config = self.engine.path("postfix");
        if !config.exists() {
            fs::create_dir(&config).unwrap();
            fs::write(config.join("main.cf"), "").unwrap();
        }
        let mut command = self.engine.inside("nsenter");
        if own_network {
            command.args(["--target", &self.process(), "--net"]);
        }
        command
            .args(["setpriv", &format!("--reuid={user}"), &format!("--regid={user}")])
            .args(["--clear-groups", "postmap", "-q", key, map])
            .env("MAIL_CONFIG", config);
        finish(&mut command, b"")
    }

    /// Sends SIGTERM as `podman stop` does, and returns the exit code, which is 137 where the container had to be
    /// killed.
    pub(super) fn stop(&self) -> i32 {
        self.podman(&["stop", "--time", "1"]);
        let null = fs::metadata("/dev/null").unwrap();
        assert_eq!(
            (null.uid(), null.gid()),
            (0, 0),
            "a device of this machine was given away"
        );
        let code = self.podman(&["inspect", "--format", "{{.State.ExitCode}}"]);
        code.trim().parse().unwrap()
    }
}
