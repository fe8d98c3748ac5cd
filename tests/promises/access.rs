//! Promise: credentials are answered only to allowed users and networks, and no other client ever gets "not found"
//! instead.
//!
//! The clients are threads with the identity of another user, or in another network namespace.

use std::io::{BufReader, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::{fmt, fs};

use crate::harness::admin::{Admin, exchange};
use crate::harness::client::{Reply, Socketmap, Stream, TcpTable, framed};
use crate::harness::daemon::{Daemon, SETTINGS, Setup, finish};
use crate::harness::eventually;
use crate::harness::identities::{Networks, as_user, uid_of};

const ROOT: u32 = 0;
/// A user number without a name.
const UNNAMED_USER: u32 = 54321;

const NEXT_HOP: &str = "[relay.test]:587";
const CREDENTIALS: &str = "user:password";
const SENDER: &str = "ann@one.test";

fn setup() -> Setup {
    Setup::new()
        .relaymap(format!("@one.test {NEXT_HOP}\n"))
        .credentials(format!("@one.test {CREDENTIALS}\n"))
}

/// Every kind of endpoint, all reachable by every user of one host.
fn everywhere(setup: Setup) -> Setup {
    let socket = format!("socketmap:unix:{}/socket", setup.root().display());
    setup
        .listen("socketmap:inet:127.0.0.1:0")
        .listen("socketmap:inet:[::1]:0")
        .listen("socketmap:inet:[::]:0")
        .listen(socket)
        .listen("tcp:127.0.0.1:0:sasl")
        .listen("tcp:127.0.0.1:0:relayhost")
        .arg("--socket-mode")
        .arg("0666")
}

/// A way to reach an endpoint.
enum Transport {
    Socketmap(String),
    TcpTable { relayhost: String, sasl: String },
}

impl Transport {
    /// Sends one request on a new connection.
    fn query(&self, map: &str) -> Reply {
        let connect = |address: &str| Stream::connect(address);
        match self {
            Self::Socketmap(address) => Socketmap {
                stream: connect(address),
            }
            .query(map, SENDER),
            Self::TcpTable { relayhost, sasl } => TcpTable {
                stream: BufReader::new(connect(if map == "sasl" { sasl } else { relayhost })),
            }
            .query(SENDER),
        }
    }

    /// The replies of both maps.
    fn query_both(&self) -> [Reply; 2] {
        ["relayhost", "sasl"].map(|map| self.query(map))
    }

    fn is_unix(&self) -> bool {
        matches!(self, Self::Socketmap(address) if address.starts_with('/'))
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socketmap(address) => write!(f, "socketmap at {address}"),
            Self::TcpTable { sasl, .. } => write!(f, "tcp_table at {sasl}"),
        }
    }
}

/// The port of the n-th endpoint.
fn port(daemon: &Daemon, n: usize) -> &str {
    daemon.address(n).rsplit_once(':').unwrap().1
}

/// All ways to the endpoints of [`everywhere`].
fn transports(daemon: &Daemon) -> Vec<Transport> {
    let socketmaps = [
        daemon.address(0).to_owned(),
        daemon.address(1).to_owned(),
        // A socket for IPv6 and IPv4 gets the IPv4-mapped address of an IPv4 client.
        format!("127.0.0.1:{}", port(daemon, 2)),
        format!("[::1]:{}", port(daemon, 2)),
        format!("[::ffff:127.0.0.1]:{}", port(daemon, 2)),
        format!("[::ffff:127.0.0.1]:{}", port(daemon, 0)),
        daemon.address(3).to_owned(),
    ];
    let tcp_table = Transport::TcpTable {
        sasl: daemon.address(4).to_owned(),
        relayhost: daemon.address(5).to_owned(),
    };
    socketmaps
        .into_iter()
        .map(Transport::Socketmap)
        .chain([tcp_table])
        .collect()
}

/// The reason of a refusal, in either protocol.
#[track_caller]
fn refusal(reply: &Reply) -> &str {
    assert!(reply.is_refused() || reply.is_cannot_tell(), "{reply:?}");
    assert!(!reply.reason().contains(CREDENTIALS));
    reply.reason()
}

#[track_caller]
fn expect_allowed(daemon: &Daemon, uid: u32) {
    for transport in transports(daemon) {
        let replies = as_user(uid, || transport.query_both());
        let expected = [Reply::found(NEXT_HOP), Reply::found(CREDENTIALS)];
        assert_eq!(replies, expected, "user {uid} over {transport}");
    }
}

#[track_caller]
fn expect_refused(daemon: &Daemon, uid: u32, words: &[&str]) {
    for transport in transports(daemon) {
        let [relayhost, sasl] = as_user(uid, || transport.query_both());
        assert_eq!(relayhost, Reply::found(NEXT_HOP), "user {uid} over {transport}");
        assert_eq!(
            sasl.is_refused(),
            matches!(transport, Transport::Socketmap(_)),
            "user {uid} over {transport}: {sasl:?}"
        );
        let reason = refusal(&sasl);
        for word in words.iter().chain(&["allow_users"]) {
            assert!(
                reason.contains(word),
                "user {uid} over {transport}: no {word} in {reason}"
            );
        }
    }
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn by_default_only_root_and_postfix_get_credentials() {
    let daemon = Daemon::start(everywhere(setup()));
    expect_allowed(&daemon, ROOT);
    expect_allowed(&daemon, uid_of("postfix"));
    expect_refused(&daemon, uid_of("nobody"), &["nobody", "65534"]);
    expect_refused(&daemon, uid_of("daemon"), &["daemon", "1"]);
    expect_refused(&daemon, UNNAMED_USER, &["54321"]);
    // A refusal leaves the connection and the server running.
    let mut client = as_user(UNNAMED_USER, || Socketmap::to(&daemon, 0));
    for _ in 0..3 {
        refusal(&client.query("sasl", SENDER));
        assert_eq!(client.query("relayhost", SENDER), Reply::found(NEXT_HOP));
    }
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_servers_own_user_gets_credentials() {
    let me = UNNAMED_USER.to_string();
    let setup = everywhere(setup());
    std::os::unix::fs::chown(setup.root(), Some(UNNAMED_USER), None).unwrap();
    let daemon = Daemon::start(setup.within(["setpriv", "--reuid", &me, "--regid", &me, "--clear-groups"]));
    expect_allowed(&daemon, UNNAMED_USER);
    expect_allowed(&daemon, ROOT);
    expect_allowed(&daemon, uid_of("postfix"));
    expect_refused(&daemon, uid_of("daemon"), &["daemon"]);
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn allow_users_accepts_names_and_numbers_and_replaces_the_default() {
    let settings = [
        everywhere(setup()).arg("--allow-users=daemon,54321"),
        everywhere(setup())
            .arg("--allow-users=daemon")
            .arg("--allow-users=54321"),
        everywhere(setup()).env("POSTMAPD_ALLOW_USERS", "1, 54321"),
        everywhere(setup()).settings("allow_users = [\"daemon\", 54321]\n"),
        // The environment overrides the file, and the flag overrides both.
        everywhere(setup())
            .settings("allow_users = \"root\"\n")
            .env("POSTMAPD_ALLOW_USERS", "nobody")
            .arg("--allow-users=54321,1"),
    ];
    for setup in settings {
        let daemon = Daemon::start(setup);
        expect_allowed(&daemon, uid_of("daemon"));
        expect_allowed(&daemon, UNNAMED_USER);
        expect_refused(&daemon, ROOT, &["root", "0"]);
    }
    let no_users = Daemon::start(everywhere(setup()).settings("allow_users = []\n"));
    expect_refused(&no_users, ROOT, &["root"]);
}

/// The number of sockets connected to these addresses for which the kernel reports root, because they have no owner.
fn ownerless(addresses: &[String]) -> usize {
    let port = |address: &str| address.rsplit_once(':').unwrap().1.parse::<u16>().unwrap();
    let ends: Vec<_> = addresses
        .iter()
        .map(|address| format!(":{:04X}", port(address)))
        .collect();
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap());
    let is_ownerless = |line: &&str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (remote, state, uid, inode) = (fields[2], fields[3], fields[7], fields[9]);
        // FIN_WAIT2 or TIME_WAIT
        ends.iter().any(|end| remote.ends_with(end))
            && ["05", "06"].contains(&state)
            && uid == "0"
            && inode == "0"
    };
    tables
        .iter()
        .flat_map(|table| table.lines().skip(1))
        .filter(is_ownerless)
        .count()
}

/// Waits until the server has read all requests and answered them.
fn wait_for_answers(daemon: &Daemon, count: usize) {
    let answered = |daemon: &Daemon| {
        let log = daemon.log();
        log.lines()
            .filter(|line| {
                line.contains("DEBUG") && (line.contains("request refused") || line.contains("lookup"))
            })
            .count()
    };
    eventually(|| answered(daemon), |answered| *answered >= count);
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_client_that_closes_before_it_is_accepted_is_never_mistaken_for_root() {
    const CLIENTS: usize = 20;
    let daemon = Daemon::start(everywhere(setup()).env("POSTMAPD_LOG", "debug"));
    let addresses = [
        daemon.address(0).to_owned(),
        daemon.address(1).to_owned(),
        format!("127.0.0.1:{}", port(&daemon, 2)),
    ];
    // Nothing is accepted before all have closed. For such a socket, the kernel reports user 0.
    daemon.signal("STOP");
    let query_and_close = |times: usize| {
        for address in addresses.iter().cycle().take(times) {
            let mut client = Stream::connect(address);
            client.write_all(&framed(&format!("sasl {SENDER}"))).unwrap();
        }
    };
    as_user(UNNAMED_USER, || query_and_close(CLIENTS));
    eventually(|| ownerless(&addresses), |count| *count == CLIENTS);
    daemon.signal("CONT");
    wait_for_answers(&daemon, CLIENTS);
    assert!(!daemon.log().contains("outcome"), "{}", daemon.log());
    // Then without a pause of the server.
    as_user(UNNAMED_USER, || query_and_close(10 * CLIENTS));
    wait_for_answers(&daemon, 11 * CLIENTS);
    assert!(!daemon.log().contains("outcome"), "{}", daemon.log());
}

#[test]
fn a_client_that_has_shut_down_its_writing_side_is_still_identified() {
    let daemon = Daemon::start(everywhere(setup()));
    for n in 0..4 {
        daemon.signal("STOP");
        let mut client = Socketmap::to(&daemon, n);
        client.request("sasl", SENDER);
        client.stream.finish_sending();
        daemon.signal("CONT");
        assert_eq!(client.reply(), Reply::found(CREDENTIALS));
    }
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn an_edit_of_allow_users_applies_to_open_connections_at_once() {
    let daemon = Daemon::start(everywhere(setup()));
    for n in 0..4 {
        let mut root = Socketmap::to(&daemon, n);
        let mut other = as_user(UNNAMED_USER, || Socketmap::to(&daemon, n));
        assert_eq!(root.query("sasl", SENDER), Reply::found(CREDENTIALS));
        refusal(&other.query("sasl", SENDER));

        daemon.replace(SETTINGS, "allow_users = [54321]\n");
        other.eventually_finds("sasl", SENDER, CREDENTIALS);
        refusal(&root.query("sasl", SENDER));

        daemon.replace(SETTINGS, "");
        root.eventually_finds("sasl", SENDER, CREDENTIALS);
        refusal(&other.query("sasl", SENDER));

        // An invalid list changes nothing.
        let seen = daemon.log_lines();
        daemon.replace(SETTINGS, "allow_users = [\"no-such-user\"]\n");
        daemon.wait_for_log_after(seen, |line| line.contains("reload rejected"));
        assert_eq!(root.query("sasl", SENDER), Reply::found(CREDENTIALS));
        daemon.replace(SETTINGS, "");
        daemon.wait_for_log_after(seen, |line| line.contains("match the active configuration again"));
    }
}

fn refusals_in_log(daemon: &Daemon) -> Vec<String> {
    let log = daemon.log();
    log.lines()
        .filter(|line| line.contains("refused a client"))
        .map(ToOwned::to_owned)
        .collect()
}

/// Waits until there are this many, because a line may come after the client has its reply. Returns all.
fn wait_for_refusals_in_log(daemon: &Daemon, number: usize) -> Vec<String> {
    eventually(|| refusals_in_log(daemon), |refusals| refusals.len() >= number);
    refusals_in_log(daemon)
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_refusal_is_logged_once_per_peer() {
    let daemon = Daemon::start(everywhere(setup()));
    let (one, other) = (uid_of("nobody"), uid_of("daemon"));
    for uid in [one, other, one, other] {
        for transport in transports(&daemon) {
            for _ in 0..3 {
                refusal(&as_user(uid, || transport.query("sasl")));
            }
        }
    }
    let messages = wait_for_refusals_in_log(&daemon, 2);
    assert_eq!(messages.len(), 2, "{messages:?}");
    assert!(
        messages[0].contains("user nobody (65534)") && messages[0].contains("WARN"),
        "{messages:?}"
    );
    assert!(messages[1].contains("user daemon (1)"), "{messages:?}");
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_network_of_loopback_admits_every_local_user() {
    let daemon = Daemon::start(everywhere(setup()).arg("--allow-networks=127.0.0.0/8"));
    for uid in [ROOT, uid_of("nobody"), UNNAMED_USER] {
        expect_allowed(&daemon, uid);
    }
    assert_eq!(refusals_in_log(&daemon), [""; 0]);
}

/// Connects and sends a request. The connection closes without a reply.
#[track_caller]
fn expect_closed(address: &str) {
    let mut stream = Stream::connect(address);
    // The write fails where the server has already closed.
    drop(stream.write_all(&framed(&format!("relayhost {SENDER}"))));
    assert_eq!(stream.read_until_closed(), b"");
}

/// The addresses of a listener on all addresses, as seen from the other network namespace.
fn over_network(daemon: &Daemon) -> [String; 2] {
    let port = port(daemon, 0);
    [format!("192.0.2.1:{port}"), format!("[2001:db8::1]:{port}")]
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn another_host_is_disconnected_unless_its_network_is_allowed_and_then_gets_both_maps() {
    let networks = Networks::new();
    let setup = setup()
        .listen("socketmap:inet:[::]:0")
        .within(networks.start_command())
        .settings("allow_networks = [\"198.51.100.0/24\"]\n");
    let daemon = Daemon::start(setup);
    let addresses = over_network(&daemon);
    for address in addresses.iter().cycle().take(6) {
        networks.far(|| expect_closed(address));
    }
    let messages = wait_for_refusals_in_log(&daemon, 2);
    assert_eq!(messages.len(), 2, "{messages:?}");
    for (line, peer) in messages.iter().zip(["192.0.2.2 ", "2001:db8::2 "]) {
        assert!(
            line.contains(peer) && line.contains("allow_networks"),
            "{messages:?}"
        );
    }
    // The server's own address that is not a loopback address does not bypass the list of users.
    for address in &addresses {
        networks.near(ROOT, || expect_closed(address));
    }
    // Clients over loopback are identified as before.
    let port = port(&daemon, 0);
    for address in [format!("127.0.0.1:{port}"), format!("[::1]:{port}")] {
        let query = || {
            Socketmap {
                stream: Stream::connect(&address),
            }
            .query("sasl", SENDER)
        };
        assert_eq!(networks.near(ROOT, query), Reply::found(CREDENTIALS));
        refusal(&networks.near(UNNAMED_USER, query));
    }

    let seen = daemon.log_lines();
    daemon.replace(SETTINGS, "allow_networks = [\"192.0.2.2\", \"2001:db8::/64\"]\n");
    daemon.wait_for_log_after(seen, |line| line.contains("generation"));
    let mut clients = addresses.map(|address| {
        networks.far(|| Socketmap {
            stream: Stream::connect(&address),
        })
    });
    for client in &mut clients {
        assert_eq!(client.query("relayhost", SENDER), Reply::found(NEXT_HOP));
        assert_eq!(client.query("sasl", SENDER), Reply::found(CREDENTIALS));
    }

    // An edit closes no connection, but what was allowed is refused from now on.
    daemon.replace(SETTINGS, "");
    let [one, two] = &mut clients;
    eventually(|| one.query("sasl", SENDER), Reply::is_refused);
    for client in [one, two] {
        for map in ["relayhost", "sasl"] {
            let reply = client.query(map, SENDER);
            assert!(
                reply.is_refused() && reply.reason().contains("allow_networks"),
                "{reply:?}"
            );
        }
    }
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn another_host_sees_senders_on_the_admin_listener_where_it_may_query_the_maps() {
    let networks = Networks::new();
    let setup = setup()
        .within(networks.start_command())
        .arg("--admin")
        .arg("[::]:0");
    let daemon = Daemon::start(setup);
    let (_, port) = Admin::of(&daemon)
        .address
        .rsplit_once(':')
        .map(|(host, port)| (host.to_owned(), port.to_owned()))
        .unwrap();
    let get = |host: &str, path: &str| {
        exchange(
            &format!("{host}:{port}"),
            &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        )
    };
    let explain = format!("/explain?map=relayhost&key={SENDER}");
    let page = format!("/?sender={SENDER}");
    let shows_next_hop = |host: &str, far: bool| {
        let ask = || (get(host, &explain), get(host, &page), get(host, "/metrics").code);
        let (explained, page, metrics) = if far {
            networks.far(ask)
        } else {
            networks.near(UNNAMED_USER, ask)
        };
        assert_eq!((page.code, metrics), (200, 200));
        let texts = [&explained.body, &page.body].map(|body| body.contains(NEXT_HOP));
        assert_eq!(texts[0], texts[1], "{}", explained.body);
        if !texts[0] {
            assert_eq!(explained.code, 403);
            for body in [&explained.body, &page.body] {
                assert!(body.contains("not in allow_networks of postmapd"), "{body}");
            }
            assert!(!page.body.contains("<form"), "{}", page.body);
        }
        texts[0]
    };
    assert!(!shows_next_hop("192.0.2.1", true) && !shows_next_hop("[2001:db8::1]", true));
    assert!(shows_next_hop("127.0.0.1", false) && shows_next_hop("[::1]", false));
    let seen = daemon.log_lines();
    daemon.replace(SETTINGS, "allow_networks = [\"192.0.2.2\"]\n");
    daemon.wait_for_log_after(seen, |line| line.contains("generation"));
    assert!(shows_next_hop("192.0.2.1", true) && !shows_next_hop("[2001:db8::1]", true));
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_network_of_loopback_admits_no_other_host() {
    let networks = Networks::new();
    let setup = setup()
        .listen("socketmap:inet:[::]:0")
        .within(networks.start_command())
        .arg("--allow-networks=127.0.0.0/8,::1");
    let daemon = Daemon::start(setup);
    for address in over_network(&daemon) {
        networks.far(|| expect_closed(&address));
    }
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_unix_socket_identifies_a_user_in_another_network_namespace() {
    let networks = Networks::new();
    let setup = setup();
    let socket = format!("socketmap:unix:{}/socket", setup.root().display());
    let daemon = Daemon::start(setup.listen(socket).arg("--socket-mode").arg("0666"));
    let query = || Socketmap::to(&daemon, 0).query("sasl", SENDER);
    assert_eq!(networks.near(ROOT, query), Reply::found(CREDENTIALS));
    refusal(&networks.near(UNNAMED_USER, query));
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_unix_socket_identifies_the_user_of_a_process_outside_the_pid_namespace() {
    // Simulates a client in another container: only the server is in its own PID namespace.
    let words = ["unshare", "--pid", "--fork", "--kill-child"];
    let daemon = Daemon::start(everywhere(setup()).within(words));
    expect_allowed(&daemon, ROOT);
    expect_refused(&daemon, UNNAMED_USER, &[&UNNAMED_USER.to_string()]);
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_user_not_mapped_in_this_user_namespace_is_refused() {
    // Only root is mapped there. All other users appear as 65534, which is `nobody` elsewhere.
    let daemon = Daemon::start(everywhere(setup()).within(["unshare", "--user", "--map-root-user"]));
    expect_allowed(&daemon, ROOT);
    for uid in [uid_of("postfix"), uid_of("daemon"), UNNAMED_USER] {
        expect_refused(&daemon, uid, &["65534"]);
    }
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn without_peer_identification_over_tcp_no_client_gets_credentials_there() {
    // The server calls connect(2) only for its requests to the kernel.
    let words = "strace -D -f -qq -o /dev/null -e trace=connect -e inject=connect:error=EACCES";
    let daemon = Daemon::start(everywhere(setup()).within(words.split(' ')));
    let messages = daemon.wait_for_log(|line| line.contains("sock_diag"));
    assert!(
        messages.contains("WARN") && messages.contains("UNIX socket"),
        "{messages}"
    );
    for transport in transports(&daemon) {
        let [relayhost, sasl] = transport.query_both();
        assert_eq!(relayhost, Reply::found(NEXT_HOP), "{transport}");
        if transport.is_unix() {
            assert_eq!(sasl, Reply::found(CREDENTIALS), "{transport}");
        } else {
            let reason = refusal(&sasl);
            assert!(
                reason.contains("unidentified") && reason.contains("allow_users"),
                "{reason}"
            );
        }
    }
    assert_eq!(wait_for_refusals_in_log(&daemon, 1).len(), 1);
}

#[test]
fn an_unreachable_listener_gives_a_warning_at_startup() {
    let warned = |setup: Setup| {
        let daemon = Daemon::start(setup);
        daemon.wait_for_log(|line| line.contains("listening endpoint="));
        let log = daemon.log();
        log.lines()
            .any(|line| line.contains("WARN") && line.contains("allow_networks"))
    };
    for endpoint in [
        "socketmap:inet:0.0.0.0:0",
        "socketmap:inet:[::]:0",
        "tcp:0.0.0.0:0:sasl",
    ] {
        assert!(warned(setup().listen(endpoint)), "{endpoint}");
        let some = setup().arg("--allow-networks=192.0.2.0/24");
        assert!(!warned(some.listen(endpoint)), "{endpoint}");
    }
    for endpoint in [
        "socketmap:inet:127.0.0.1:0",
        "socketmap:inet:[::1]:0",
        "socketmap:inet:localhost:0",
    ] {
        let setup = setup();
        let listens = if endpoint.contains("localhost") {
            setup
                .env("POSTMAPD_LISTEN", endpoint)
                .announces(&["socketmap:inet:127.0.0.1:0"])
        } else {
            setup.listen(endpoint)
        };
        assert!(!warned(listens), "{endpoint}");
    }
}

/// Runs a program as this user.
fn run_as(user: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", user, "--regid", user, "--clear-groups"]);
    command
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn query_shows_the_reason_of_a_refusal_and_exits_as_for_cannot_tell() {
    let daemon = Daemon::start(everywhere(setup()));
    // A copy, because the user may not read the build directory.
    let program = daemon.root().join("postmapd");
    fs::copy(env!("CARGO_BIN_EXE_postmapd"), &program).unwrap();
    fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    for n in 0..5 {
        let query = |map: &str, user: &str| {
            let mut command = run_as(user);
            command
                .arg(&program)
                .args(["query", "--server", daemon.endpoint(n), map, SENDER]);
            finish(&mut command, b"")
        };
        let refused = query("sasl", "65534");
        assert_eq!(
            (refused.code, refused.stdout.as_str()),
            (Some(75), ""),
            "{refused:?}"
        );
        let messages = &refused.stderr;
        assert!(
            messages.contains("nobody (65534)") && messages.contains("allow_users"),
            "{messages}"
        );
        assert_eq!(query("sasl", "0").stdout, format!("{CREDENTIALS}\n"));
        if n < 4 {
            assert_eq!(query("relayhost", "65534").stdout, format!("{NEXT_HOP}\n"));
        }
    }
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn postmap_gets_credentials_as_root_and_an_error_as_any_other_user() {
    let daemon = Daemon::start(everywhere(setup()));
    let configuration = daemon.root();
    fs::write(configuration.join("main.cf"), "compatibility_level = 3.6\n").unwrap();
    let postmap = |user: &str, table: &str| {
        let mut command = run_as(user);
        command
            .args(["postmap", "-c"])
            .arg(configuration)
            .args(["-q", SENDER, table]);
        finish(&mut command, b"")
    };
    for n in [0, 3] {
        let [relayhost, sasl] = ["relayhost", "sasl"].map(|map| format!("{}:{map}", daemon.endpoint(n)));
        assert_eq!(postmap("0", &sasl).stdout, format!("{CREDENTIALS}\n"));
        assert_eq!(postmap("65534", &relayhost).stdout, format!("{NEXT_HOP}\n"));
        let refused = postmap("65534", &sasl);
        assert_eq!(
            (refused.code, refused.stdout.as_str()),
            (Some(1), ""),
            "{refused:?}"
        );
        assert!(
            refused.stderr.contains("permanent error: user nobody (65534)"),
            "{refused:?}"
        );
    }
}

/// Starts a program as user 65534 of its own user namespace with this map. The map is written from outside, because
/// only there may it include all users.
fn with_user_namespace(setup: Setup, map: &str) -> Setup {
    let script = "(until [ \"$(readlink /proc/$$/ns/user)\" != \"$(readlink /proc/self/ns/user)\" ]; do :; done\n\
                  printf \"$2\" > /proc/$$/uid_map && printf \"$2\" > /proc/$$/gid_map && echo go > \"$1/pipe\") &\n\
                  exec unshare --user sh -c 'read go < \"$1/pipe\"; shift 2; exec setpriv --reuid=65534 --regid=65534 \
                  --clear-groups \"$@\"' sh \"$@\"";
    nix::unistd::mkfifo(&setup.root().join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let root = setup.root().to_str().unwrap().to_owned();
    let words = ["sh", "-c", script, "sh", &root, map];
    setup.within(words)
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn in_a_user_namespace_the_overflow_user_gets_no_credentials_even_as_the_servers_own_user() {
    for setup in [
        everywhere(setup()),
        everywhere(setup()).arg("--allow-users=65534,0"),
    ] {
        fs::set_permissions(setup.root(), fs::Permissions::from_mode(0o777)).unwrap();
        // Root and user 65534 (user 54321 of the host) are mapped, and no others.
        let daemon = Daemon::start(with_user_namespace(setup, "0 0 1\\n65534 54321 1\\n"));
        expect_allowed(&daemon, ROOT);
        // Users that are not mapped, among them the host's 65534, and the one that is mapped to 65534.
        for uid in [uid_of("daemon"), uid_of("nobody"), 4711, UNNAMED_USER] {
            expect_refused(&daemon, uid, &["unidentified"]);
        }
    }
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn in_a_user_namespace_that_maps_all_users_65534_is_an_ordinary_user() {
    let setup = everywhere(setup());
    fs::set_permissions(setup.root(), fs::Permissions::from_mode(0o777)).unwrap();
    let daemon = Daemon::start(with_user_namespace(setup, "0 0 4294967295\\n"));
    expect_allowed(&daemon, uid_of("nobody"));
    expect_refused(&daemon, uid_of("daemon"), &["daemon"]);
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_network_that_admits_all_local_users_admits_unmapped_users_too() {
    let setup = everywhere(setup()).arg("--allow-networks=127.0.0.0/8");
    fs::set_permissions(setup.root(), fs::Permissions::from_mode(0o777)).unwrap();
    let daemon = Daemon::start(with_user_namespace(setup, "0 0 1\\n65534 54321 1\\n"));
    expect_allowed(&daemon, 4711);
}
