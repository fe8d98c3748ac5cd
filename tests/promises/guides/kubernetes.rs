//! contrib/guides/in-kubernetes.md, with a stand-in for kubectl (tests/systemd/stand-ins/kubectl), which runs the real
//! `kubectl kustomize`.

use std::fs;
use std::path::Path;

use super::mail_host::{MailHost, SmtpServers, within};
use super::{Page, follow};

/// A directory of an administrator, and a Postfix without any relay configuration.
const INITIAL_STATE: &str = "\
install -m 0755 /srv/checkout/target/release/postmapd /usr/bin/postmapd
postconf -X sender_dependent_relayhost_maps smtp_sasl_password_maps
postfix reload
";

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_guide_runs_a_sidecar_whose_files_are_edited_while_it_runs() {
    within(|| {
        let smtp_servers = SmtpServers::start();
        let mut host = MailHost::start(&smtp_servers);
        host.set_working_directory("/srv/deployment");
        host.output(INITIAL_STATE);
        let installed = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("kubernetes-validate");
        fs::copy(installed.join("bin/kubectl"), host.root().join("srv/kubectl")).unwrap();
        let page = Page::read("contrib/guides/in-kubernetes.md");
        let run = follow(&host, &page, |_| {});
        assert!(run > 30, "only {run} commands");
        // The pod is still the same one: it was started once.
        let starts = host.output("grep -c 'loaded generation=1 ' /run/postmapd.log");
        assert_eq!(starts.trim(), "1");
        smtp_servers.expect_no_leak(&[]);
        assert_eq!(
            smtp_servers.arrivals(),
            [
                "you@domain1.com by relay1.org as relay_user_1",
                "you@domain2.com by relay1.org as relay_user_3",
            ]
        );
    });
}
