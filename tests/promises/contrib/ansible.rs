//! contrib/ansible: the role runs on this host, in a mount namespace in which /etc, /usr/local and /var/spool are
//! temporary copies. No service is started, because there may be no systemd here. units.rs tests the unit under a
//! systemd.

use super::{contrib, done};
use std::fs;
use std::process::Command;

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn ansible_lint_reports_nothing() {
    let home = tempfile::tempdir().unwrap();
    done(
        Command::new("ansible-lint")
            .args([
                "--offline",
                "--nocolor",
                "--strict",
                "--profile",
                "production",
                "playbook.yml",
                "roles",
            ])
            .current_dir(contrib("ansible"))
            .env("HOME", home.path())
            .env("ANSIBLE_HOME", home.path())
            .env("XDG_CACHE_HOME", home.path()),
        b"",
    );
}

/// Runs the role three times, the last time with another password, inspects the result, and runs it once more.
const RUNS: &str = r#"
set -eu
mount -t tmpfs tmpfs "$WORK"
for directory in etc usr/local var/spool; do
    mkdir -p "$WORK/new/$directory" "$WORK/work/$directory"
    mount -t overlay overlay -o "lowerdir=/$directory,upperdir=$WORK/new/$directory,workdir=$WORK/work/$directory" "/$directory"
done
mkdir "$WORK/home" "$WORK/spool" "$WORK/data"
rm -rf /etc/postmapd /etc/postfix /etc/sysusers.d /etc/tmpfiles.d /var/spool/postfix/postmapd
mkdir /etc/postfix
cp /usr/share/postfix/master.cf.dist /etc/postfix/master.cf
# A relayhost is in the way, and Postfix does not run.
cat > /etc/postfix/main.cf <<END
compatibility_level = 3.6
queue_directory = $WORK/spool
data_directory = $WORK/data
relayhost = [old.test]
recipient_delimiter = +-
END
printf '%s' "$PLAYBOOK" > "$WORK/playbook.yml"
play() {
    echo "RUN $1"
    ansible-playbook -i localhost, --diff "$WORK/playbook.yml" -e "password=$1"
}
play never-to-be-seen-1
cp -p /etc/postfix/main.cf "$WORK/main.cf"
play never-to-be-seen-1
play never-to-be-seen-2
echo "RESULT"
[ ! /etc/postfix/main.cf -nt "$WORK/main.cf" ]
postmapd postconf --check --strict
stat -c '%n %U %G %a' /etc/postmapd/* "$WORK/spool/postmapd" /etc/default/postmapd
drop_ins=/etc/systemd/system/postmapd.service.d
systemd-analyze verify --man=no /etc/systemd/system/postmapd.service
systemd-analyze security --offline=true --no-pager /etc/systemd/system/postmapd.service | grep -o 'Overall.*[0-9]'
cmp /etc/systemd/system/postmapd.service "$SYSTEMD/postmapd.service"
ls "$drop_ins"
cat "$drop_ins/here.conf"
cat /etc/default/postmapd
# The server as its unit has it: that user, that group alone, no capability.
socket=$WORK/spool/postmapd/socketmap
setpriv --reuid=postmapd --regid=postmapd --clear-groups --bounding-set=-all --no-new-privs \
    timeout 20 postmapd serve 2> "$WORK/log" &
server=$!
until [ -S "$socket" ] || ! kill -0 $server; do sleep 0.01; done
cat "$WORK/log"
setpriv --reuid=postfix --regid=postfix --clear-groups postmap -q me@one.test "socketmap:unix:$socket:sasl"
kill $server
wait $server
# Over TCP, the unit has to let it.
listen='{postmapd_settings: {listen: ["socketmap:inet:192.0.2.1:10451"], allow_networks: [192.0.2.0/24]}}'
ansible-playbook -i localhost, "$WORK/playbook.yml" -e "password=never-to-be-seen-2" -e "$listen"
cmp "$drop_ins/loopback.conf" "$SYSTEMD/examples/loopback.conf"
grep IPAddressAllow=192.0.2.0/24 "$drop_ins/here.conf"
systemd-analyze verify --man=no /etc/systemd/system/postmapd.service
"#;

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_role_is_idempotent_and_a_new_password_restarts_nothing() {
    let work = tempfile::tempdir().unwrap();
    let here = work.path().display();
    let playbook = format!(
        r#"- hosts: localhost
  connection: local
  gather_facts: false
  roles:
    - role: postmapd
      postmapd_binary: {binary}
      postmapd_socket_directory: {here}/spool/postmapd
      postmapd_settings:
        listen: ["socketmap:unix:{here}/spool/postmapd/socketmap"]
        recipient_delimiter: +-
        reload: {{poll_interval: 7}}
      postmapd_environment: {{RELAY_HOST: default.test, RELAY_PORT: 587}}
      postmapd_manage_service: false
      postmapd_relaymap: "@one.test [relay.test]:587\n"
      postmapd_credentials: "@one.test user:{{{{ password }}}}\n"
"#,
        binary = env!("CARGO_BIN_EXE_postmapd")
    );
    let mut command = Command::new("unshare");
    command
        .args(["-m", "sh", "-c", RUNS])
        .env("WORK", work.path())
        .env("PLAYBOOK", playbook)
        .env("SYSTEMD", contrib("systemd"))
        .env("HOME", work.path().join("home"))
        .env("ANSIBLE_ROLES_PATH", contrib("ansible/roles"))
        .env("ANSIBLE_NOCOLOR", "1")
        .env("ANSIBLE_PYTHON_INTERPRETER", "/usr/bin/python3");
    // Its output is written to a file, because it may take longer than the usual timeout.
    let output = fs::File::create(work.path().with_extension("log")).unwrap();
    let status = command
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .stdin(std::process::Stdio::null())
        .status()
        .unwrap();
    let output = fs::read_to_string(work.path().with_extension("log")).unwrap();
    fs::remove_file(work.path().with_extension("log")).unwrap();
    assert!(status.success(), "{output}");

    let (runs, result) = output.split_once("RESULT\n").unwrap();
    let runs: Vec<&str> = runs.split("RUN never").skip(1).collect();
    assert_eq!(runs.len(), 3, "{output}");
    for (run, (changes, handlers)) in runs.iter().zip([
        ("changed=16 ", true),
        ("changed=0 ", false),
        ("changed=1 ", false),
    ]) {
        assert!(
            run.contains(changes) && run.contains("failed=0 "),
            "{changes}{run}"
        );
        assert_eq!(run.contains("RUNNING HANDLER"), handlers, "{run}");
        // The differences that are shown do not contain a password.
        assert!(!run.contains("user:never-to-be-seen"), "{run}");
    }
    for line in [
        "/etc/postmapd/postfix-relaymap.cf root postmapd 640",
        "/etc/postmapd/postfix-sasl-password.cf root postmapd 640",
        "/etc/postmapd/postmapd.toml root postmapd 640",
        "/etc/default/postmapd root root 600",
        &format!("{here}/spool/postmapd postmapd postfix 2750"),
        "RELAY_HOST=\"default.test\"",
        "RELAY_PORT=\"587\"",
        "user:never-to-be-seen-2",
        "Overall exposure level for postmapd.service: 0.5",
        "ExecStart=/usr/local/bin/postmapd serve",
        "EnvironmentFile=-/etc/default/postmapd",
        &format!("ReadWritePaths={here}/spool/postmapd"),
    ] {
        assert!(result.lines().any(|own| own == line), "{line}\n{result}");
    }
}
