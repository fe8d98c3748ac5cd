//! contrib/guides/sendmail-and-exim.md, with Debian's sendmail and Exim (tests/mail-programs).
//!
//! Both send from the command line; no daemon of theirs runs. There is no DNS, so that only sendmail, which reads
//! /etc/hosts, delivers directly.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use super::follow;
use super::mail_host::{INSTALL, MailHost, SmtpServers, within};
use super::page::Page;
use crate::harness::smtp_server::{Auth, Login, Setup};

/// Every character that a login can have in the table, and that Exim's configuration treats specially.
const ODD: (&str, &str) = ("odd+user", "pa ss:^w^^%2C+$1\\N{}\"é,<x>");

/// The state in which the guide begins: both programs are installed as Debian does it, and postmapd runs. The fake relays
/// do not close a connection after QUIT, for which sendmail waits.
const BEGIN: &str = "\
for user in Debian-exim smmta smmsp; do useradd --system --user-group --no-create-home \"$user\"; done
ldconfig
ln -sf /usr/libexec/sendmail/sendmail /usr/sbin/sendmail
hostname mail.example.com
sed -i '1i 127.0.0.1 mail.example.com' /etc/hosts
mkdir -p /etc/mail /var/spool/mqueue /var/spool/exim4 /var/log/exim4 /var/lib/exim4
chmod 700 /var/spool/mqueue
chown Debian-exim:Debian-exim /var/spool/exim4 /var/log/exim4
echo 'hosts files' > /etc/service.switch
cat > /etc/mail/sendmail.mc <<'END'
include(`/usr/share/sendmail/cf/m4/cf.m4')
OSTYPE(`linux')
define(`QUEUE_DIR', `/var/spool/mqueue')
define(`STATUS_FILE', `/dev/null')
define(`ALIAS_FILE', `')
define(`confCW_FILE', `/dev/null')
define(`confTO_QUIT', `1s')
define(`confSERVICE_SWITCH_FILE', `/etc/service.switch')
FEATURE(`nocanonify')
MAILER(`smtp')
END
cat > /etc/exim4/update-exim4.conf.conf <<'END'
dc_eximconfig_configtype='internet'
dc_other_hostnames='mail.example.com'
dc_local_interfaces='127.0.0.1'
dc_use_split_config='true'
END
echo mail.example.com > /etc/mailname
cat > /etc/postmapd/postfix-relaymap.cf <<'END'
@domain1.com  [relay1.org]:587
@domain2.com  [relay2.org]:587
@domain4.com  [relay3.org]:587
END
cat > /etc/postmapd/postfix-sasl-password.cf <<'END'
@domain1.com  relay_user_1:password_1
@domain2.com  relay_user_2:password_2
END
systemctl start postmapd.socket postmapd.service
";

/// Copies sendmail and Exim over the system.
fn install(host: &MailHost) {
    let programs = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("mail-programs/root");
    let files = Command::new("tar")
        .arg("-C")
        .arg(programs)
        .args(["-c", "."])
        .output()
        .unwrap();
    assert!(files.status.success(), "tests/mail-programs: {files:?}");
    let done = host.run_with_input("tar -C / --keep-directory-symlink -x", &files.stdout);
    assert_eq!(done.code, Some(0), "{done:?}");
}

/// Asks the server for the login of a sender.
const LOGIN: &str = "postmapd query --server socketmap:inet:127.0.0.1:10451 sasl";

#[track_caller]
fn wait_until(host: &MailHost, command: &str) {
    host.output(&format!("until {command} > /dev/null; do sleep 0.05; done"));
}

/// Sends a mail with this program.
fn submit(host: &MailHost, program: &str, sender: &str) {
    host.run(&format!(
        "printf 'Subject: a test\\n\\nHello.\\n' | {program} -odi -f '{sender}' you@example.net"
    ));
}

/// The mail waits in the queue of this program, for this reason. It is removed.
#[track_caller]
fn expect_waiting(host: &MailHost, program: &str, reason: &str) {
    let shown = host.output(&format!("{program} -bp; cat /var/log/exim4/mainlog"));
    assert!(shown.contains(reason), "{program}: {reason}\n{shown}");
    assert!(shown.contains("you@example.net"), "{program}: {shown}");
    host.output(
        "rm -rf /var/spool/mqueue/* /var/spool/exim4/input/* /var/spool/exim4/db/* /var/log/exim4/mainlog",
    );
    host.output("touch /var/log/exim4/mainlog; chown Debian-exim: /var/log/exim4/mainlog");
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn sendmail_and_exim_use_the_relay_and_the_login_of_each_sender_and_defer_when_in_doubt() {
    within(|| {
        let smtp_servers = SmtpServers::start();
        let relay3 = Setup::new("relay3.org", Ipv4Addr::LOCALHOST)
            .auth(Auth::Demanded)
            .accepting(Login::new(ODD.0, ODD.1))
            .journal(&smtp_servers.journal)
            .start()
            .unwrap();
        let relay3_tls = smtp_servers.start_relay("relay3.org", 4, &relay3, None);
        let host = MailHost::start(&smtp_servers);
        install(&host);
        host.output(INSTALL);
        host.output(BEGIN);
        let page = Page::read("contrib/guides/sendmail-and-exim.md");
        let run = follow(&host, &page, |_| {});
        assert!(run > 30, "only {run} commands");
        let mut arrivals = vec![
            "someone@domain1.com by relay1.org as relay_user_1",
            "someone@domain1.com by relay1.org as relay_user_1",
        ];
        assert_eq!(smtp_servers.arrivals(), arrivals);

        // Without a relay, sendmail delivers directly.
        submit(&host, "sendmail", "someone@other.example");
        arrivals.push("someone@other.example by example.net as no user");
        assert_eq!(
            smtp_servers.arrivals(),
            arrivals,
            "{}",
            host.run("sendmail -bp").stdout
        );

        // The whole login.
        let credentials = format!("@domain4.com {}:{}\n", ODD.0, ODD.1);
        let append = "cat >> /etc/postmapd/postfix-sasl-password.cf";
        assert_eq!(host.run_with_input(append, credentials.as_bytes()).code, Some(0));
        wait_until(&host, &format!("{LOGIN} someone@domain4.com"));
        submit(&host, "exim4", "someone@domain4.com");
        arrivals.push("someone@domain4.com by relay3.org as odd+user");
        let log = host.run("cat /var/log/exim4/mainlog").stdout;
        assert_eq!(smtp_servers.arrivals(), arrivals, "{log}");

        // After a move, the login is answered only at the next hop for some minutes.
        host.output("postmapd relay add-domain domain2.com relay1.org 587");
        host.output("echo password_3 | postmapd relay add-auth domain2.com relay_user_3 --password-stdin");
        wait_until(&host, &format!("! {LOGIN} someone@domain2.com"));
        for program in ["sendmail", "exim4"] {
            submit(&host, program, "someone@domain2.com");
            arrivals.push("someone@domain2.com by relay1.org as relay_user_3");
            let log = host.run("sendmail -bp; cat /var/log/exim4/mainlog").stdout;
            assert_eq!(smtp_servers.arrivals(), arrivals, "{program}: {log}");
        }

        // A rejected login.
        host.output("echo wrong | postmapd relay add-auth domain1.com relay_user_1 --password-stdin");
        wait_until(&host, &format!("{LOGIN} someone@domain1.com | grep -q wrong"));
        submit(&host, "exim4", "someone@domain1.com");
        expect_waiting(&host, "exim4", "authenticator failed");
        submit(&host, "sendmail", "someone@domain1.com");
        let returned = host.output("sendmail -bp; rm /var/spool/mqueue/*");
        assert!(returned.contains("MAILER-DAEMON"), "{returned}");

        // Not allowed, for either program.
        host.output("sed -i 's/^allow_users.*/allow_users = [\"postfix\"]/' /etc/postmapd/postmapd.toml");
        host.output("systemctl restart postmapd.service");
        submit(&host, "sendmail", "someone@domain1.com");
        expect_waiting(&host, "sendmail", "Temporary AUTH failure");
        submit(&host, "exim4", "someone@domain1.com");
        expect_waiting(&host, "exim4", "postmapd cannot tell the login of this sender");

        assert_eq!(smtp_servers.arrivals(), arrivals);
        smtp_servers.expect_no_leak(&["someone@other.example"]);
        assert_eq!(relay3_tls.auth_in_clear_text(), Vec::<String>::new());
    });
}
