//! The packages of postmapd-follow, beside those of postmapd: the same formats, the same files in each.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use super::bill_of_materials::{bill, components, text, validate};
use super::other_formats::{ACCEPTED_OF_BOTH, checkout, common, files};
use super::{ACCEPTED, Built, digest, done, names_no_path_of_this_machine, repository, target};
use crate::harness::systemd::boot;

/// The package of postmapd-follow, which the scripts write beside that of postmapd.
fn beside(built: &Built) -> PathBuf {
    let name = built.path.file_name().unwrap().to_str().unwrap();
    let path = built
        .directory
        .path()
        .join(name.replacen("postmapd", "postmapd-follow", 1));
    assert!(path.exists(), "{}", path.display());
    path
}

/// Extracts a Debian package.
fn extract(package: &Path, directory: &Path) {
    done(Command::new("dpkg-deb").arg("-x").arg(package).arg(directory));
}

fn of_the_deb() -> BTreeSet<String> {
    static FILES: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
        let built = Built::by("deb");
        let directory = tempfile::tempdir().unwrap();
        extract(&beside(&built), directory.path());
        let files = files(directory.path());
        assert!(
            files.contains("bin/postmapd-follow") && files.len() > 12,
            "{files:?}"
        );
        files
    });
    FILES.clone()
}

/// The crates of a bill of materials and of `cargo tree` for postmapd-follow.
#[track_caller]
fn has_a_bill_of_its_crates(path: &Path, program: &[u8]) {
    let bill = bill(path);
    assert_eq!(validate(&[&bill]), [""]);
    assert_eq!(text(&bill["metadata"]["component"]["name"]), "postmapd-follow");
    assert_eq!(
        text(&bill["metadata"]["component"]["hashes"][0]["content"]),
        digest(program)
    );
    let tree = done(
        Command::new(env!("CARGO"))
            .args(["tree", "--locked", "--offline", "--package", "postmapd-follow"])
            .args(["--edges", "normal,no-proc-macro", "--prefix", "none"])
            .args(["--target", "x86_64-unknown-linux-gnu", "--format", "{p}"])
            .current_dir(repository()),
    );
    let tree: BTreeSet<String> = tree
        .lines()
        .skip(1)
        .map(|line| {
            let mut words = line.split(' ');
            let name = words.next().unwrap();
            format!("{name}@{}", words.next().unwrap().trim_start_matches('v'))
        })
        .collect();
    let (crates, _) = components(&bill);
    assert_eq!(crates, tree);
    assert!(crates.iter().any(|name| name.starts_with("postgres-protocol@")));
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_package_of_the_follower_passes_lintian_and_is_reproducible() {
    let (built, again) = (Built::by("deb"), Built::by("deb"));
    let (package, other) = (beside(&built), beside(&again));
    assert_eq!(
        digest(&fs::read(&package).unwrap()),
        digest(&fs::read(other).unwrap())
    );
    let mut check = Command::new("sha256sum");
    let sum = format!("{}.sha256", package.display());
    done(
        check
            .args(["--check", "--strict", &sum])
            .current_dir(built.directory.path()),
    );
    let checked = Command::new("lintian")
        .args(["--fail-on", "error,warning", "--display-info"])
        .args(["--suppress-tags", ACCEPTED.join(",").as_str()])
        .arg(&package)
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success() && output.is_empty(), "{output}");
    let files = built.directory.path().join("files");
    extract(&package, &files);
    let program = fs::read(files.join("usr/bin/postmapd-follow")).unwrap();
    names_no_path_of_this_machine(&program);
    let size = program.len();
    assert!(size <= 7_500_000, "{size}");
    let bill = files.join("usr/share/doc/postmapd-follow/postmapd-follow.cdx.json");
    has_a_bill_of_its_crates(&bill, &program);
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_rpm_of_the_follower_passes_rpmlint_and_has_the_files_of_the_deb() {
    let built = Built::by("rpm");
    let package = beside(&built);
    let filters = built.directory.path().join("filters");
    fs::write(&filters, ACCEPTED_OF_BOTH).unwrap();
    let checked = done(Command::new("rpmlint").arg("-r").arg(&filters).arg(&package));
    assert!(checked.contains("0 errors, 0 warnings"), "{checked}");
    let packed = built.directory.path().join("packed");
    fs::create_dir(&packed).unwrap();
    done(
        Command::new("sh")
            .args(["-c", "rpm2cpio \"$0\" | cpio --quiet -id"])
            .arg(&package)
            .current_dir(&packed),
    );
    assert_eq!(files(&packed), of_the_deb());
    let requires = done(Command::new("rpm").args(["-qp", "--requires"]).arg(&package));
    assert!(!requires.contains("libc"), "{requires}");
    // The static program, with a bill of materials of its own.
    let program = fs::read(packed.join("usr/bin/postmapd-follow")).unwrap();
    names_no_path_of_this_machine(&program);
    let bill = packed.join("usr/share/doc/postmapd-follow/postmapd-follow.cdx.json");
    has_a_bill_of_its_crates(&bill, &program);
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_recipe_for_alpine_packs_the_files_of_the_deb_of_the_follower() {
    let name = format!("postmapd-follow-{}-x86_64-linux", env!("CARGO_PKG_VERSION"));
    let copy = checkout(&format!("target/package/{name}"));
    let packed = copy.path().join("packed");
    let run = "set -eu; startdir=$PWD subpkgdir=$0 pkgdir=; . ./APKBUILD; follow";
    done(
        Command::new("sh")
            .args(["-c", run])
            .arg(&packed)
            .current_dir(copy.path().join("contrib/package/alpine")),
    );
    let mut expected = of_the_deb();
    expected.retain(|name| !name.starts_with("lib/"));
    expected.insert("etc/init.d/postmapd-follow".to_owned());
    assert_eq!(files(&packed), expected);
    for script in ["postmapd-follow.initd", "postmapd-follow.pre-install"] {
        done(
            Command::new("sh")
                .arg("-n")
                .arg(repository().join("contrib/package/alpine").join(script)),
        );
    }
}

/// The names of files that makepkg has packed for Arch; other_formats.rs makes both packages.
#[track_caller]
pub(super) fn arch_has_the_files_of_the_deb(package: &Path) {
    let listed = done(Command::new("bsdtar").arg("-tf").arg(package));
    let (_, files): (BTreeSet<_>, BTreeSet<_>) = common(&listed)
        .into_iter()
        .partition(|name| name.contains("share/licenses") || !name.contains('/'));
    assert_eq!(files, of_the_deb());
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_static_follower_needs_no_file_of_the_system_to_look_up_hosts() {
    let program = target().join("package").join(format!(
        "postmapd-follow-{}-x86_64-linux",
        env!("CARGO_PKG_VERSION")
    ));
    let libraries = done(Command::new("readelf").arg("-dW").arg(&program));
    assert!(!libraries.contains("NEEDED"), "{libraries}");
    let root = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(root.path().join(name), text).unwrap();
    fs::copy(&program, root.path().join("postmapd-follow")).unwrap();
    for directory in ["etc", "tables"] {
        fs::create_dir(root.path().join(directory)).unwrap();
    }
    // What a container runtime provides.
    write("etc/hosts", "127.0.0.1 db.test\n");
    write("etc/resolv.conf", "nameserver 127.0.0.1\n");
    let certificates = Path::new("/etc/ssl/certs/ca-certificates.crt");
    fs::copy(certificates, root.path().join("ca.pem")).unwrap();
    let once = |host: &str, timeout: &str| {
        write(
            "follow.toml",
            &format!("source = \"postgres://u@{host}/mail\"\ndir = \"/tables\"\nca = \"/ca.pem\"\n"),
        );
        let mut command = Command::new("unshare");
        let script = "ip link set lo up; exec chroot \"$0\" /postmapd-follow once --timeout \"$1\" --config /follow.toml";
        command
            .args(["--net", "sh", "-ec", script])
            .arg(root.path())
            .arg(timeout);
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(75), "{text}");
        text
    };
    for (host, expected) in [
        ("db.test", "db.test:5432: cannot connect"),
        ("other.test", "other.test:5432: the name has no address"),
    ] {
        // The first attempt may take longer than a second on a loaded machine.
        let mut timeouts = ["1s", "10s", "60s"].into_iter();
        let mut printed = String::new();
        while !printed.contains(expected) {
            let timeout = timeouts.next().unwrap_or_else(|| panic!("{printed}"));
            printed = once(host, timeout);
        }
    }
}

/// The output of tests/systemd/drive-follow on success.
const FOLLOWED: &str = "\
# installed
[relay1.test]
exit code 0
postmapd.service: active running enabled
postmapd-follow.service: inactive dead enabled
/var/lib/postmapd postmapd-follow postmapd 2750
postmapd
[relay1.test]
exit code 0
# without a source
postmapd.service: active running enabled
postmapd-follow.service: activating start enabled
exit code 75
exit code 75
# with a source
[relay2.test]
exit code 0
postmapd-follow.service: active running enabled
user:secret
exit code 0
postmapd-follow postmapd 640
postmapd-follow postmapd 640
postmapd-follow postmapd 2750
CapBnd: 0000000000000000
CapEff: 0000000000000000
NoNewPrivs: 1
Seccomp: 2
[relay3.test]
exit code 0
# the source is away
postmapd.service: active running enabled
postmapd-follow.service: active running enabled
[relay3.test]
exit code 0
# removed
[relay3.test]
exit code 0
[relay1.test]
exit code 0
/etc/postmapd:
follow-password
follow.toml
postfix-relaymap.cf
postfix-sasl-password.cf
postmapd.toml

/var/lib/postmapd:
notes
DONE
";

/// An installation changes no answer; the drop-in makes postmapd serve the directory, which cannot tell before the first state of
/// the source, and has the last one without the source.
#[test]
#[ignore = "needs root: tests/run-all"]
fn both_packages_follow_a_database_under_systemd() {
    let built = Built::by("deb");
    let renamed = |from: &Path, name: &str| {
        let path = built.directory.path().join(name);
        fs::rename(from, &path).unwrap();
        path
    };
    let follow = renamed(&beside(&built), "postmapd-follow.deb");
    let packages = [renamed(&built.path, "postmapd.deb"), follow];
    let (output, log) = boot("drive-follow", packages);
    assert_eq!(output, FOLLOWED, "{log}");
}
