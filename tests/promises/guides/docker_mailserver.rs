//! contrib/guides/with-docker-mailserver.md, with a stand-in for docker (tests/systemd/stand-ins/docker).

use super::mail_host::{MailHost, SmtpServers, within};
use super::{Page, follow};

/// A directory with a compose.yaml, and a Postfix as in docker-mailserver: not chrooted, with its log in another place.
const INITIAL_STATE: &str = "\
install -m 0755 /srv/checkout/target/release/postmapd /usr/bin/postmapd
mkdir -p docker-data/dms/config /var/log/mail
cp ../checkout/contrib/docker-mailserver/compose.yaml compose.yaml
touch mailserver.env
cp /etc/postfix/relay_by_sender docker-data/dms/config/postfix-relaymap.cf
cp /etc/postfix/sasl_passwd docker-data/dms/config/postfix-sasl-password.cf
postconf -F '*/*/chroot = n'
postconf -X sender_dependent_relayhost_maps smtp_sasl_password_maps smtp_sasl_auth_enable
postconf -e maillog_file=/var/log/mail/mail.log
postfix reload
";

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_guide_migrates_docker_mailserver_to_postmapd_and_back_in_both_ways() {
    within(|| {
        let smtp_servers = SmtpServers::start();
        let mut host = MailHost::start(&smtp_servers);
        host.set_working_directory("/srv/mail");
        host.output(INITIAL_STATE);
        let page = Page::read("contrib/guides/with-docker-mailserver.md");
        let run = follow(&host, &page, |_| {});
        assert!(run > 35, "only {run} commands");
        smtp_servers.expect_no_leak(&[]);
        assert_eq!(
            smtp_servers.arrivals(),
            [
                "you@domain1.com by relay1.org as relay_user_1",
                "you@domain2.com by relay1.org as relay_user_3",
                "you@domain1.com by relay1.org as relay_user_1",
                "you@domain2.com by relay1.org as relay_user_3",
            ]
        );
    });
}
