//! contrib/guides/replace-hash-on-a-host.md.

use super::mail_host::{MailHost, SmtpServers, within};
use super::{Page, follow};

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_guide_migrates_a_host_with_hash_tables_to_postmapd_and_back() {
    within(|| {
        let smtp_servers = SmtpServers::start();
        let host = MailHost::start(&smtp_servers);
        let page = Page::read("contrib/guides/replace-hash-on-a-host.md");
        let run = follow(&host, &page, |_| {});
        assert!(run > 30, "only {run} commands");
        smtp_servers.expect_no_leak(&[]);
        assert_eq!(
            smtp_servers.arrivals(),
            [
                "someone@domain1.com by relay1.org as relay_user_1",
                "someone@domain2.com by relay1.org as relay_user_3",
                "someone@domain2.com by relay2.org as relay_user_2",
            ]
        );
    });
}
