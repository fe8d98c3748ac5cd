//! contrib/guides/what-happens-when.md: each fault is provoked, and what the document quotes about it is logged.
//!
//! The initial state is restored before each section. A section without a test of its fault fails.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use super::mail_host::{INSTALL, MailHost, SmtpServers, within};
use super::page::{Page, Piece, Quotation, is_like};
use super::{DEADLINE, run_as_shown};
use crate::harness::postfix::SmtpClient;
use crate::harness::smtp_server::{self, Auth, SmtpServer};
use crate::harness::starttls::TlsProxy;

/// Restores the initial state, without `postfix reload` where possible, which takes two seconds. `postqueue -f` makes
/// qmgr(8) forget which relays it considers down.
const RESTORE: &str = "\
set -e
postqueue -f
postsuper -d ALL 2> /dev/null
if ! cmp -s /srv/main.cf /etc/postfix/main.cf; then cp /srv/main.cf /etc/postfix/main.cf; postfix reload; fi
rm -f /etc/postmapd/*
mount -o remount,size=1m /etc/postmapd
cp /srv/right/* /etc/postmapd/
chmod 640 /etc/postmapd/*
chgrp postmapd /etc/postmapd/*
systemctl reset-failed postmapd.socket postmapd.service 2> /dev/null || true
systemctl stop postmapd.socket postmapd.service 2> /dev/null
systemctl start postmapd.socket postmapd.service
";

struct Fixture {
    smtp_servers: SmtpServers,
    host: MailHost,
    /// relay3.org, which differs by section.
    third: Option<SmtpServer>,
    /// relay3.org with a certificate of its own.
    self_signed: Option<TlsProxy>,
    /// The replies that the sending user gets in this section.
    replies: String,
    /// Where the logs of this section begin.
    begin: usize,
    begin_of_postmapd: usize,
    sent: usize,
}

impl Fixture {
    fn start() -> Self {
        let smtp_servers = SmtpServers::start();
        let host = MailHost::start(&smtp_servers);
        host.output(INSTALL);
        Self {
            smtp_servers,
            host,
            third: None,
            self_signed: None,
            replies: String::new(),
            begin: 0,
            begin_of_postmapd: 0,
            sent: 0,
        }
    }

    /// Runs a command that must succeed.
    fn root(&self, command: &str) -> String {
        self.host.output(command)
    }

    fn section(&mut self, heading: &str) {
        self.third = None;
        self.self_signed = None;
        self.root(RESTORE);
        self.wait(
            "postmapd query --server socketmap:unix:/var/spool/postfix/postmapd/socketmap sasl x@domain1.com",
        );
        self.replies.clear();
        self.begin = self.mail_log().len();
        self.begin_of_postmapd = self.postmapd_log().len();
        self.provoke(heading);
    }

    /// Runs a command until it succeeds.
    fn wait(&self, command: &str) {
        let begun = Instant::now();
        while self.host.run(command).code != Some(0) {
            assert!(begun.elapsed() < DEADLINE, "{command}:\n{}", self.host.state());
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn mail_log(&self) -> String {
        self.root("cat /var/log/mail.log")
    }

    fn postmapd_log(&self) -> String {
        self.root("journalctl -o cat -t postmapd")
    }

    /// Sends a mail by SMTP, as a mail program does, and keeps the replies.
    fn smtp(&mut self, sender: &str, recipient: &str) {
        let result = SmtpClient::connect(25).and_then(|mut client| client.send(sender, recipient));
        if let Err(error) = result {
            let result = error.to_string();
            // The reply comes after the command that it is for.
            let reply = result.find(": 4").map_or(result.as_str(), |at| &result[at + 2..]);
            writeln!(self.replies, "{}", reply.trim_end()).unwrap();
        }
    }

    /// Submits a mail by sendmail, which accepts all mail.
    fn submit(&mut self, sender: &str) -> String {
        self.sent += 1;
        let recipient = format!("you{}@example.net", self.sent);
        let command = format!("printf 'Subject: a test\\n\\nHello.\\n' | sendmail -f '{sender}' {recipient}");
        self.root(&command);
        recipient
    }

    /// Waits for a line of Postfix about the mail to that recipient.
    fn log_has(&self, recipient: &str, what: &str) {
        self.wait(&format!(
            "grep 'to=<{recipient}>' /var/log/mail.log | grep -q -- '{what}'"
        ));
    }

    /// Starts relay3.org as it is in this section.
    fn third(&mut self, setup: impl FnOnce(smtp_server::Setup) -> smtp_server::Setup) {
        let setup_ = smtp_server::Setup::new("relay3.org", Ipv4Addr::new(127, 0, 0, 4))
            .port(587)
            .journal(&self.smtp_servers.journal);
        self.third = Some(setup(setup_).start().unwrap());
    }

    fn relay_map(&self, text: &str) {
        self.root(&format!("printf '{text}' > /etc/postmapd/postfix-relaymap.cf"));
    }

    /// Waits until the server gives that answer.
    fn answers(&self, map: &str, key: &str, value: &str) {
        let endpoint = "socketmap:unix:/var/spool/postfix/postmapd/socketmap";
        self.wait(&format!(
            "[ \"$(postmapd query --server {endpoint} {map} '{key}')\" = '{value}' ]"
        ));
    }

    #[allow(clippy::too_many_lines, reason = "a section each")]
    fn provoke(&mut self, heading: &str) {
        match heading {
            "postmapd is not running" => {
                self.root("systemctl stop postmapd.socket postmapd.service");
                self.smtp("someone@domain1.com", "you@example.net");
                let queued = self.submit("someone@domain1.com");
                self.log_has(&queued, "deferred");
            }
            "postmapd restarts or crashes" => {
                for _ in 0..3 {
                    self.root("systemctl restart postmapd");
                    let sent = self.submit("someone@domain1.com");
                    self.log_has(&sent, "status=sent");
                }
                self.root("kill -KILL $(systemctl show postmapd --property=MainPID --value)");
                let sent = self.submit("someone@domain1.com");
                self.log_has(&sent, "status=sent");
            }
            "a file gets an error while postmapd runs" => {
                self.root("echo '@domain3.com [relay3.org:587' >> /etc/postmapd/postfix-relaymap.cf");
                let sent = self.submit("someone@domain1.com");
                self.log_has(&sent, "status=sent");
            }
            "a file has an error when postmapd starts" => {
                self.root("sed -i 's/^@domain2.com .*/@domain2.com  [relay2.org:587/' /etc/postmapd/postfix-relaymap.cf; systemctl restart postmapd");
                self.smtp("someone@domain2.com", "you@example.net");
                let sent = self.submit("someone@domain1.com");
                self.log_has(&sent, "status=sent");
            }
            "the server cannot read a file" => {
                self.root("cd /etc/postmapd && cp postfix-sasl-password.cf new && chmod 0600 new && mv new postfix-sasl-password.cf");
                let sent = self.submit("someone@domain1.com");
                self.log_has(&sent, "status=sent");
            }
            "a file is missing or empty" => {
                self.root("rm /etc/postmapd/postfix-sasl-password.cf");
                let kept = self.submit("someone@domain1.com");
                self.log_has(&kept, "status=sent");
            }
            "a file is written to all the time" => {
                self.root(
                    "(echo '# not done'; exec sleep 30) >> /etc/postmapd/postfix-relaymap.cf 2>/dev/null </dev/null &",
                );
                let sent = self.submit("someone@domain1.com");
                self.log_has(&sent, "status=sent");
            }
            "a sender has a relay and no password" => {
                self.root("printf '@domain2.com relay_user_2:password_2\\n' > /etc/postmapd/postfix-sasl-password.cf");
                self.answers("sasl", "someone@domain1.com", "");
                let lost = self.submit("someone@domain1.com");
                self.log_has(&lost, "status=bounced");
            }
            "the relay rejects the password" => {
                self.root("sed -i s/password_1/pasword_1/ /etc/postmapd/postfix-sasl-password.cf");
                self.answers("sasl", "someone@domain1.com", "relay_user_1:pasword_1");
                let queued = self.submit("someone@domain1.com");
                self.log_has(&queued, "deferred");
            }
            "the relay is down" => {
                self.relay_map("@domain1.com [relay3.org]:587\\n@domain2.com [relay2.org]:587\\n");
                self.answers("relayhost", "someone@domain1.com", "[relay3.org]:587");
                let queued = self.submit("someone@domain1.com");
                self.log_has(&queued, "deferred");
                let other = self.submit("someone@domain2.com");
                self.log_has(&other, "status=sent");
            }
            "the relay's name does not exist" => {
                self.relay_map("@domain1.com [relay1.og]:587\\n");
                self.answers("relayhost", "someone@domain1.com", "[relay1.og]:587");
                let lost = self.submit("someone@domain1.com");
                self.log_has(&lost, "status=bounced");
            }
            "the relay offers no STARTTLS" => {
                self.third(|relay| relay.auth(Auth::Demanded));
                self.relay_map("@domain1.com [relay3.org]:587\\n");
                self.answers("relayhost", "someone@domain1.com", "[relay3.org]:587");
                let queued = self.submit("someone@domain1.com");
                self.log_has(&queued, "deferred");
            }
            "the relay's certificate is not valid" => {
                self.self_signed = Some(self.smtp_servers.start_self_signed());
                self.relay_map("@domain1.com [relay3.org]:587\\n");
                self.answers("relayhost", "someone@domain1.com", "[relay3.org]:587");
                let queued = self.submit("someone@domain1.com");
                self.log_has(&queued, "deferred");
            }
            "Postfix is not allowed to get passwords" => {
                self.root("echo 'allow_users = [\"root\"]' >> /etc/postmapd/postmapd.toml");
                self.wait("! su -s /bin/sh postfix -c 'postmap -q x@domain1.com socketmap:unix:/var/spool/postfix/postmapd/socketmap:sasl' 2> /dev/null");
                let queued = self.submit("someone@domain1.com");
                self.log_has(&queued, "deferred");
            }
            "two files are edited one after the other" => {
                self.relay_map("@domain1.com [relay2.org]:587\\n");
                self.answers("relayhost", "someone@domain1.com", "[relay2.org]:587");
                let queued = self.submit("someone@domain1.com");
                self.log_has(&queued, "deferred");
            }
            "Postfix still uses an old answer" => {
                let first = self.submit("someone@domain1.com");
                self.log_has(&first, "status=sent");
                self.relay_map("@domain1.com [relay2.org]:587\\n");
                self.answers("relayhost", "someone@domain1.com", "[relay2.org]:587");
                // The same sender and recipient again.
                self.root(&format!(
                    "printf 'Subject: again\\n\\nHello.\\n' | sendmail -f someone@domain1.com {first}"
                ));
                self.wait(&format!(
                    "[ $(grep -c 'to=<{first}>.*relay=relay1.org.*status=sent' /var/log/mail.log) = 2 ]"
                ));
            }
            "the disk is full" => {
                self.root("mount -o remount,size=16k /etc/postmapd; dd if=/dev/zero of=/etc/postmapd/filler bs=1k 2>/dev/null || true");
            }
            "the kernel does not report changes" => {
                // This is logged where the directory is on an overlay, as /etc is here.
                self.root("systemctl restart postmapd");
                // A user takes all the connections it can get, and then a server starts.
                self.root(
                    "POSTMAPD_LOG_FORMAT=journald setpriv --reuid=64999 --regid=64999 --clear-groups python3 -c '
import ctypes, subprocess
while ctypes.CDLL(None).inotify_init() >= 0: pass
subprocess.run([\"timeout\", \"1\", \"systemd-cat\", \"-t\", \"postmapd\", \"postmapd\", \"serve\", \"--dir\", \"/srv/right\",
    \"--listen\", \"socketmap:inet:127.0.0.1:0\", \"--admin\", \"127.0.0.1:0\"])'",
                );
            }
            "postmapd.toml has a setting that this postmapd does not know" => {
                self.root("echo 'alow_users = [\"root\"]' >> /etc/postmapd/postmapd.toml");
            }
            other => panic!("nothing provokes \"{other}\""),
        }
    }

    /// Waits until everything that the document quotes is logged.
    #[track_caller]
    fn expect_quoted(&self, quotation: &Quotation) {
        let begun = Instant::now();
        for wanted in &quotation.lines {
            loop {
                let there = match quotation.whose.as_str() {
                    "postfix" => self.mail_log()[self.begin..].to_owned(),
                    "postmapd" => self.postmapd_log()[self.begin_of_postmapd..].to_owned(),
                    "user" => self.replies.clone(),
                    other => panic!("{}: whose is {other}?", quotation.place),
                };
                if there.lines().any(|line| is_like(wanted, line)) {
                    break;
                }
                assert!(
                    begun.elapsed() < DEADLINE,
                    "{}: not logged:\n{wanted}\nbut\n{there}",
                    quotation.place
                );
                thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn each_documented_fault_behaves_as_described_and_no_mail_leaves_without_its_login() {
    within(|| {
        let page = Page::read("contrib/guides/what-happens-when.md");
        let mut fixture = Fixture::start();
        fixture.root(RESTORE);
        let mut sections = 0;
        for piece in &page.pieces {
            match piece {
                Piece::Heading(2, heading) => {
                    fixture.section(heading);
                    sections += 1;
                }
                Piece::Heading(..) => {}
                Piece::Command(command) => run_as_shown(&fixture.host, command),
                Piece::Quotation(quotation) => fixture.expect_quoted(quotation),
            }
        }
        assert!(sections >= 18, "only {sections} sections");
        fixture.smtp_servers.expect_no_leak(&[]);
    });
}
