//! contrib/guides/services-of-their-own.md.
//!
//! No SASL plug-in for XOAUTH2 is installed: the token is looked up, and no mail is sent with it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::mail_host::{INSTALL, MailHost, SmtpServers, within};
use super::page::{Page, Piece, Quotation, is_like};
use super::{DEADLINE, follow};
use crate::harness::certificates::Authority;
use crate::harness::smtp_server::{Auth, Setup};
use crate::harness::starttls::Greeted;

/// The state in which the guide begins: postmapd runs, and two domains use one relay. The host has one more address.
const BEGIN: &str = "\
cat > /etc/postmapd/postfix-relaymap.cf <<'END'
@domain1.com  [relay1.org]:587
@domain2.com  [relay1.org]:587
you@domain4.com  [smtp.office365.com]:587
END
cat > /etc/postmapd/postfix-sasl-password.cf <<'END'
@domain1.com  relay_user_1:password_1
@domain2.com  relay_user_3:password_3
you@domain4.com  you@domain4.com:password_4
END
systemctl start postmapd.socket postmapd.service
postfix reload
ip address add 192.0.2.11/32 dev lo
echo '127.0.0.5 smtp.office365.com' | tee -a /etc/hosts >> /var/spool/postfix/etc/hosts
";

const SOCKET: &str = "var/spool/postfix/postmapd/socketmap";

/// Sends a mail, and waits for a line about it that contains this text.
#[track_caller]
fn submit(host: &MailHost, sender: &str, recipient: &str, expected: &str) {
    host.output(&format!(
        "printf 'Subject: a test\\n\\nHello.\\n' | sendmail -f {sender} {recipient}"
    ));
    let is = |line: &str| line.contains(&format!("to=<{recipient}>")) && line.contains(expected);
    expect_logged(host, expected, is);
}

#[track_caller]
fn expect_logged(host: &MailHost, what: &str, is: impl Fn(&str) -> bool) {
    let begun = Instant::now();
    while !host.output("cat /var/log/mail.log").lines().any(&is) {
        assert!(begun.elapsed() < DEADLINE, "not logged: {what}\n{}", host.state());
        thread::sleep(Duration::from_millis(20));
    }
}

/// Takes the source address away while a mail is sent from it.
#[track_caller]
fn expect_quoted_without_address(host: &MailHost, quotation: &Quotation) {
    assert_eq!(quotation.whose, "postfix", "{}", quotation.place);
    host.output("ip address delete 192.0.2.11/32 dev lo");
    submit(
        host,
        "someone@domain2.com",
        "waits@example.net",
        "status=deferred",
    );
    for line in &quotation.lines {
        expect_logged(host, line, |logged| is_like(line, logged));
    }
    host.output("ip address add 192.0.2.11/32 dev lo; postsuper -d ALL");
}

/// The service has the options that `postconf --services` prints for `relay-starttls`, and this many more. It is not
/// printed itself, which would replace it.
#[track_caller]
fn expect_service_as_printed(host: &MailHost, service: &str, more: usize) {
    let options = |line: &str| -> Vec<String> { line.split(" -o ").map(ToOwned::to_owned).collect() };
    let printed = host.output("postmapd postconf --services --commands");
    assert!(!printed.contains(service), "{service} is printed: {printed}");
    let begin = "postconf -Me 'relay-starttls/unix=relay-starttls unix - - - - - smtp -o ";
    let printed = printed.lines().find_map(|line| line.strip_prefix(begin));
    let printed = printed
        .expect("relay-starttls")
        .replace("relay-starttls", service);
    let printed = options(printed.trim_end_matches('\''));
    let current = host.output(&format!("postconf -M {service}/unix | tr -s '\\n ' ' '"));
    let current = options(current.trim_end());
    assert_eq!(current[1..=printed.len()], printed, "{service}");
    assert_eq!(current.len() - 1 - printed.len(), more, "{service}");
}

/// A token is answered within a second of the edit (some milliseconds on an idle machine). On a busy machine one edit may
/// be late, but not five in a row.
fn expect_new_token_at_once(host: &MailHost) {
    let server = format!("socketmap:unix:{}", host.root().join(SOCKET).display());
    let takes_effect = |token: &str| {
        host.output(&format!(
            "echo {token} | postmapd relay add-auth you@domain4.com you@domain4.com --password-stdin"
        ));
        let edited = Instant::now();
        loop {
            let queried = Command::new(env!("CARGO_BIN_EXE_postmapd"))
                .args(["query", "--server", &server, "sasl", "you@domain4.com"])
                .output()
                .unwrap();
            if queried.stdout == format!("you@domain4.com:{token}\n").as_bytes() {
                return edited.elapsed();
            }
            assert!(edited.elapsed() < DEADLINE, "{queried:?}");
        }
    };
    let mut tokens = (3..8).map(|number| format!("access_token_{number}"));
    assert!(tokens.any(|token| takes_effect(&token) < Duration::from_secs(1)));
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_guide_gives_relays_a_source_address_a_client_certificate_and_a_token_of_their_own() {
    within(|| {
        let smtp_servers = SmtpServers::start();
        let relay = |name: &str, auth| {
            Setup::new(name, Ipv4Addr::LOCALHOST)
                .auth(auth)
                .journal(&smtp_servers.journal)
                .start()
                .unwrap()
        };
        let relay3 = relay("relay3.org", Auth::Unknown);
        let office = relay("smtp.office365.com", Auth::Demanded);
        let clients = Authority::new("clients");
        let relay3_tls = smtp_servers.start_relay("relay3.org", 4, &relay3, Some(&clients));
        let office_tls = smtp_servers.start_relay("smtp.office365.com", 5, &office, None);

        let host = MailHost::start(&smtp_servers);
        host.output(INSTALL);
        host.output(BEGIN);
        let certificate = clients.certificate("mail.example.com");
        let path = host.root().join("etc/postfix/relay3-client.pem");
        let parts = [certificate.key, certificate.chain].map(|part| fs::read(part).unwrap());
        fs::write(&path, parts.concat()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();

        let page = Page::read("contrib/guides/services-of-their-own.md");
        let run = follow(&host, &page, |piece| {
            if let Piece::Quotation(quotation) = piece {
                expect_quoted_without_address(&host, quotation);
            }
        });
        assert!(run > 25, "only {run} commands");
        expect_service_as_printed(&host, "relay-domain2", 3);
        expect_service_as_printed(&host, "relay-certificate", 1);
        expect_service_as_printed(&host, "relay-oauth", 1);
        expect_new_token_at_once(&host);

        // The controls: the other domain at the same relay, and relay3.org without the service.
        submit(&host, "someone@domain1.com", "one@example.net", "status=sent");
        host.output("postmapd relay set-tls '[relay3.org]:587' secure");
        submit(
            &host,
            "someone@domain3.com",
            "refused@example.net",
            "status=deferred (lost connection with relay3.org[127.0.0.4] while performing the EHLO handshake)",
        );

        let client = |last, name: &str| Greeted {
            from: IpAddr::V4(last),
            name: name.to_owned(),
        };
        assert_eq!(
            smtp_servers.tls_proxies[0].greeted(),
            [
                client(Ipv4Addr::new(192, 0, 2, 11), "mail.domain2.com"),
                client(Ipv4Addr::LOCALHOST, "mail.example.com"),
            ]
        );
        assert_eq!(
            smtp_servers.arrivals(),
            [
                "someone@domain2.com by relay1.org as relay_user_3",
                "someone@domain3.com by relay3.org as no user",
                "someone@domain1.com by relay1.org as relay_user_1",
            ]
        );
        let attempts = smtp_servers.journal.attempts();
        assert_eq!(attempts.len(), 2, "{attempts:?}");
        let proxies = [&smtp_servers.tls_proxies[0], &relay3_tls, &office_tls];
        for proxy in proxies {
            assert_eq!(proxy.auth_in_clear_text(), Vec::<String>::new());
            assert!(proxy.connections() > 0);
        }
    });
}
