//! Promise: what contrib/package builds can be installed, run, upgraded and removed completely. The static program runs
//! on any Linux on x86-64, and loads no library of the host. The bill of materials names its crates.
//!
//! `tests/run-all` builds both before the tests. The package is installed under a real systemd, in its own namespaces
//! (tests/systemd).

mod bill_of_materials;
mod follow;
mod other_formats;

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use self::bill_of_materials::{bill, components, text, validate};
use crate::harness::client::{Reply, Socketmap};
use crate::harness::daemon::{Daemon, Finished, Setup, finish};
use crate::harness::systemd::boot;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Cargo's target directory.
fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// Runs a program without a timeout; it must succeed.
#[track_caller]
fn done(command: &mut Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let stdout = String::from_utf8(stdout).unwrap();
    assert!(
        status.success(),
        "{command:?}: {status}\n{stdout}{}",
        String::from_utf8_lossy(&stderr)
    );
    stdout
}

/// The output of `contrib/package/NAME`, in a separate directory.
struct Built {
    directory: TempDir,
    path: PathBuf,
}

impl Built {
    fn by(script: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new(repository().join("contrib/package").join(script));
        let output = done(
            command
                .arg(directory.path())
                .env("CARGO_TARGET_DIR", target())
                .current_dir("/"),
        );
        let path = PathBuf::from(output.lines().last().unwrap());
        assert_eq!(path.parent(), Some(directory.path()));
        Self { directory, path }
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(&self.path).unwrap()
    }

    /// A file next to it with the same name and this ending.
    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(ending);
        name.into()
    }

    #[track_caller]
    fn has_its_checksum(&self) {
        let mut check = Command::new("sha256sum");
        let output = done(
            check
                .args(["--check", "--strict"])
                .arg(self.beside(".sha256"))
                .current_dir(self.directory.path()),
        );
        let name = self.path.file_name().unwrap().to_str().unwrap();
        assert_eq!(output, format!("{name}: OK\n"));
    }
}

/// Checks that it contains no path of the build machine.
#[track_caller]
fn names_no_path_of_this_machine(bytes: &[u8]) {
    let home = std::env::var("HOME").unwrap();
    let cargo = std::env::var("CARGO_HOME").unwrap_or_else(|_| format!("{home}/.cargo"));
    for path in [
        env!("CARGO_MANIFEST_DIR"),
        &cargo,
        &format!("{home}/."),
        target().to_str().unwrap(),
    ] {
        assert!(memchr::memmem::find(bytes, path.as_bytes()).is_none(), "{path}");
    }
}

fn example() -> PathBuf {
    repository().join("contrib/example")
}

/// Serves the example directory at a UNIX socket, and checks that it answers from the files before and after an edit.
fn serves(program: &Path, within: &[&str]) {
    let setup = Setup::new();
    for name in ["postfix-relaymap.cf", "postfix-sasl-password.cf"] {
        fs::copy(example().join(name), setup.dir().join(name)).unwrap();
    }
    let socket = format!("socketmap:unix:{}", setup.root().join("socket").display());
    let mut daemon = Daemon::start(setup.within(within).binary(program).listen(socket));
    let mut client = Socketmap::to(&daemon, 0);
    for (map, key, reply) in [
        (
            "relayhost",
            "someone@domain1.com",
            Reply::found("[relay1.org]:587"),
        ),
        (
            "relayhost",
            "Someone+news@DOMAIN2.com",
            Reply::found("[relay2.org]:2525"),
        ),
        ("relayhost", "someone@domain3.com", Reply::NotFound),
        (
            "sasl",
            "someone@domain1.com",
            Reply::found("relay_user_1:password_1"),
        ),
    ] {
        assert_eq!(client.query(map, key), reply, "{map} {key}: {}", daemon.log());
    }
    daemon.replace("postfix-relaymap.cf", "@domain1.com [relay3.org]\n");
    client.eventually_finds("relayhost", "someone@domain1.com", "[relay3.org]");
    assert!(daemon.terminate().success(), "{}", daemon.log());
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_static_program_needs_nothing_but_a_kernel() {
    let built = Built::by("static");
    built.has_its_checksum();
    let headers = done(Command::new("readelf").arg("-lW").arg(&built.path));
    assert!(headers.contains("LOAD"), "{headers}");
    assert!(!headers.contains("INTERP"), "{headers}");
    let libraries = done(Command::new("readelf").arg("-dW").arg(&built.path));
    assert!(!libraries.contains("NEEDED"), "{libraries}");
    names_no_path_of_this_machine(&built.bytes());

    // In a root directory that contains nothing else.
    let root = tempfile::tempdir().unwrap();
    fs::copy(&built.path, root.path().join("postmapd")).unwrap();
    for name in ["postfix-relaymap.cf", "postfix-sasl-password.cf"] {
        fs::copy(example().join(name), root.path().join(name)).unwrap();
    }
    let answer = done(Command::new("chroot").arg(root.path()).args([
        "/postmapd",
        "query",
        "--dir",
        "/",
        "relayhost",
        "a@domain1.com",
    ]));
    assert_eq!(answer, "[relay1.org]:587\n");

    serves(&built.path, &[]);
}

/// The first x86-64 processors: what later ones added is an illegal instruction.
const OLDEST: [&str; 3] = ["qemu-x86_64", "-cpu", "qemu64,-pni,-cx16"];

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_static_program_runs_on_the_oldest_processor() {
    // The emulator does reject newer instructions: popcnt came years later.
    let directory = tempfile::tempdir().unwrap();
    let (source, newer) = (directory.path().join("newer.c"), directory.path().join("newer"));
    fs::write(
        &source,
        "int main(void) { __asm__(\"popcnt %eax, %eax\"); return 0; }\n",
    )
    .unwrap();
    done(
        Command::new("cc")
            .args(["-static", "-o"])
            .arg(&newer)
            .arg(&source),
    );
    let [qemu, options @ ..] = OLDEST;
    let status = Command::new(qemu)
        .args(options)
        .arg(&newer)
        .current_dir(directory.path())
        .output()
        .unwrap()
        .status;
    assert_eq!(status.signal(), Some(4), "SIGILL: {status}");

    let built = Built::by("static");
    let run = |words: &[&str]| {
        let mut command = Command::new(qemu);
        command.args(options).arg(&built.path).args(words);
        finish(command.arg("--dir").arg(example()), b"")
    };
    let asked = run(&["query", "relayhost", "a@domain1.com"]);
    assert_eq!(asked.stdout, "[relay1.org]:587\n", "{asked:?}");
    let checked = run(&["check"]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    serves(&built.path, &OLDEST);
}

/// The files that a program tries to open where nsswitch.conf names sources for which the C library must load
/// modules, and there is no network.
fn opened(program: &Path, words: &[&str]) -> (Finished, String) {
    let directory = tempfile::tempdir().unwrap();
    let (switch, log) = (
        directory.path().join("nsswitch.conf"),
        directory.path().join("log"),
    );
    fs::write(
        &switch,
        "passwd: files systemd\ngroup: files systemd\ninitgroups: systemd\nhosts: mymachines files resolve dns\n",
    )
    .unwrap();
    let inside = "mount --bind \"$1\" /etc/nsswitch.conf; log=$2; shift 2; \
        exec strace -f -o \"$log\" -e trace=open,openat -- \"$@\"";
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--net", "sh", "-ec", inside, "sh"])
        .arg(&switch)
        .arg(&log)
        .arg(program)
        .args(words);
    let finished = finish(&mut command, b"");
    (finished, fs::read_to_string(log).unwrap())
}

/// Two C libraries in one process, the one linked in and that of a module of the host, ended it (SIGSEGV) at the first
/// name that is not in /etc/passwd.
#[test]
#[ignore = "needs root: tests/run-all"]
fn the_static_program_loads_no_library_of_the_host_to_resolve_names() {
    let built = Built::by("static");
    let dynamic = Path::new(env!("CARGO_BIN_EXE_postmapd"));
    let example = example();
    let serve = [
        "serve",
        "--dir",
        example.to_str().unwrap(),
        "--allow-users",
        "postfix,no-such-user",
        "--socket-group",
        "no-such-group",
        "--listen",
        "socketmap:unix:/nonexistent/socket",
    ];
    let (refused, files) = opened(&built.path, &serve);
    assert_eq!(refused.code, Some(78), "{refused:?}");
    for name in ["no-such-user", "no-such-group"] {
        assert!(refused.stderr.contains(&format!("`{name}`")), "{refused:?}");
    }
    // Names in the files are found there.
    assert!(!refused.stderr.contains("`postfix`"), "{refused:?}");
    for file in ["/etc/passwd", "/etc/group"] {
        assert!(files.contains(&format!("\"{file}\"")), "{files}");
    }
    assert!(!files.contains(".so"), "{files}");
    // A dynamic program does load the modules here.
    let (_, files) = opened(dynamic, &serve);
    assert!(files.contains("/libnss_systemd.so"), "{files}");

    let query = [
        "query",
        "--server",
        "socketmap:inet:no-such-host.invalid:10451",
        "relayhost",
        "a@domain1.com",
    ];
    let (failed, files) = opened(&built.path, &query);
    assert_eq!(failed.code, Some(75), "{failed:?}");
    for file in ["/etc/hosts", "/etc/resolv.conf"] {
        assert!(files.contains(&format!("\"{file}\"")), "{files}");
    }
    assert!(!files.contains(".so"), "{files}");
    let (_, files) = opened(dynamic, &query);
    assert!(files.contains("/libnss_mymachines.so"), "{files}");
}

fn digest(bytes: &[u8]) -> String {
    let bytes = Sha256::digest(bytes);
    let words: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    words.concat()
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_package_passes_lintian_and_is_reproducible() {
    let (built, again) = (Built::by("deb"), Built::by("deb"));
    built.has_its_checksum();
    assert_eq!(digest(&built.bytes()), digest(&again.bytes()));
    let checked = Command::new("lintian")
        .args(["--fail-on", "error,warning", "--display-info"])
        .args(["--suppress-tags", ACCEPTED.join(",").as_str()])
        .arg(&built.path)
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success() && output.is_empty(), "{output}");

    let files = built.directory.path().join("files");
    done(Command::new("dpkg-deb").arg("-x").arg(&built.path).arg(&files));
    let program = fs::read(files.join("usr/bin/postmapd")).unwrap();
    names_no_path_of_this_machine(&program);
    let bill = bill(&files.join("usr/share/doc/postmapd/postmapd.cdx.json"));
    assert_eq!(validate(&[&bill]), [""]);
    assert_eq!(
        text(&bill["metadata"]["component"]["hashes"][0]["content"]),
        digest(&program)
    );
    assert_eq!(components(&bill).1, ["rust-std"]);
    let libraries = done(
        Command::new("readelf")
            .arg("-dW")
            .arg(files.join("usr/bin/postmapd")),
    );
    assert!(
        libraries.contains("NEEDED") && libraries.contains("libc.so.6"),
        "{libraries}"
    );
}

/// The messages of lintian that are only informational and accepted.
const ACCEPTED: [&str; 3] = [
    // The compiler's version, which is left as the linker wrote it.
    "binary-has-unneeded-section",
    // It applies to C only.
    "hardening-no-fortify-functions",
    // No other init system notifies a service of a reload.
    "package-supports-alternative-init-but-no-init.d-script",
];

/// The output of tests/systemd/drive-package on success.
const INSTALLED: &str = "\
# installed
postmapd.service: active running enabled
postmapd.socket: active running disabled
. root postmapd 750
postfix-relaymap.cf root postmapd 640
postfix-sasl-password.cf root postmapd 640
postmapd.toml root postmapd 640
postfix: no answer
postmapd VERSION
1
postmapd
smtp_sasl_password_maps = socketmap:unix:postmapd/socketmap:sasl
reloaded
# edited
[relay1.test]
@one.test: [relay1.test] as user
user:secret
root: [relay1.test] user:secret
nobody: no answer no answer
# upgraded during lookups
[relay1.test] user:secret
99 install ok installed
active running enabled
another process
the same socket
2a3
> postfix-relaymap.cf.dpkg-dist root root 644
# New words.
# removed
inactive dead
/etc/postmapd:
postfix-relaymap.cf
postfix-relaymap.cf.dpkg-dist
postfix-sasl-password.cf
postmapd.toml

/var/spool/postfix/postmapd:
# installed again
user:secret
# purged
notes
> etc/group
> etc/gshadow
> etc/passwd
> etc/shadow
postmapd:/nonexistent:/usr/sbin/nologin
DONE
";

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_package_can_be_installed_queried_upgraded_removed_and_purged() {
    let built = Built::by("deb");
    let package = built.directory.path().join("postmapd.deb");
    fs::rename(&built.path, &package).unwrap();
    let (output, log) = boot("drive-package", [package]);
    assert_eq!(
        output,
        INSTALLED.replace("VERSION", env!("CARGO_PKG_VERSION")),
        "{log}"
    );
}
