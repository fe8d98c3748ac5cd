//! Promise: the page of the admin listener shows the state of the server, and explains a sender, to people with any
//! browser: without scripts, with the keyboard, on a phone, in the dark. It interprets no text from files or requests.
//!
//! A headless Chromium is the oracle of what is shown.

use crate::harness::admin::{Admin, exchange, percent_encoded};
use crate::harness::browser::{Browser, Window};
use crate::harness::client::{Reply, Socketmap};
use crate::harness::daemon::{RELAYMAP, Setup};
use crate::harness::eventually;
use crate::harness::smtp_server::base64;
use std::fs;
use std::path::Path;

const DESKTOP: Window = Window {
    width: 1100,
    height: 800,
    is_dark: false,
};

const PHONE: Window = Window {
    width: 360,
    height: 740,
    is_dark: true,
};

const RELAYS: &str = "@one.test [relay1.test]:587\nboss@one.test [relay9.test]:465\n@direct.test\n";

fn setup() -> Setup {
    Setup::new()
        .relaymap(RELAYS)
        .credentials("@one.test SECRETUSER:CANARY\n")
}

fn url(admin: &Admin, path_and_query: &str) -> String {
    format!("http://{}{path_and_query}", admin.address)
}

#[test]
fn the_page_is_html_that_may_load_and_send_nothing_elsewhere() {
    let (_daemon, admin) = Admin::start(setup());
    let page = admin.get("/");
    assert_eq!(
        (page.code, page.header("content-type")),
        (200, Some("text/html; charset=utf-8"))
    );
    let policy = page.header("content-security-policy").unwrap();
    for rule in [
        "default-src 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    ] {
        assert!(policy.split("; ").any(|own| own == rule), "{rule}: {policy}");
    }
    assert!(
        !policy.contains("unsafe") && !policy.contains("script"),
        "{policy}"
    );
    for element in [
        "<script", "<img", "<link", "<iframe", "style=", "onload=", "@import", "url(",
    ] {
        assert!(!page.body.contains(element), "{element}");
    }
    for path in [
        "/",
        "/explain?map=sasl&key=x@one.test",
        "/explain",
        "/healthz",
        "/readyz",
        "/status",
        "/metrics",
        "/x",
    ] {
        let reply = admin.get(path);
        for (name, value) in [
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(reply.header(name), Some(value), "{path}");
        }
        let policy = reply.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'"), "{path}: {policy}");
        assert_eq!(reply.header("access-control-allow-origin"), None, "{path}");
    }
}

#[test]
fn a_page_of_another_site_can_read_neither_the_page_nor_an_explanation() {
    let (_daemon, admin) = Admin::start(setup());
    for path in [
        "/",
        "/?sender=x@one.test",
        "/explain?map=relayhost&key=x@one.test",
    ] {
        let get = |host: &str| {
            let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            exchange(&admin.address, &request)
        };
        for host in [admin.address.as_str(), "localhost", "mailserver:9451"] {
            assert_eq!(get(host).code, 200, "{host}");
        }
        let refused = get("attacker.example");
        assert_eq!(refused.code, 403);
        assert!(
            refused.body.contains("use an address, localhost"),
            "{}",
            refused.body
        );
        assert!(!refused.body.contains("relay1"), "{}", refused.body);
    }
    // Monitoring uses any name.
    let request = "GET /metrics HTTP/1.1\r\nHost: postmapd.mail.svc.cluster.example\r\n\r\n";
    assert_eq!(exchange(&admin.address, request).code, 200);
}

#[test]
fn the_state_counts_recent_temporary_errors() {
    let (daemon, admin) = Admin::start(setup().relaymap(format!("{RELAYS}@bad.test [x\n")));
    let state = || {
        let body = admin.get("/").body;
        let (_, state) = body.split_once("role=\"status\">").unwrap();
        state.split_once('<').unwrap().0.to_owned()
    };
    let errors = "The files have errors, and their valid entries are active. Lookups that depend on the errors return a temporary error until they are fixed.";
    assert_eq!(state(), errors);
    let mut client = Socketmap::to(&daemon, 0);
    assert!(client.query("relayhost", "x@bad.test").is_cannot_tell());
    assert!(state().starts_with(&format!("{errors} One lookup got a temporary error in the last ")));
    assert!(client.query("sasl", "x@bad.test").is_cannot_tell());
    assert!(state().starts_with(&format!("{errors} 2 lookups got a temporary error in the last ")));
    daemon.replace(RELAYMAP, RELAYS);
    eventually(state, |state| {
        state.starts_with("All files are valid and active. 2 lookups got")
    });
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn the_page_shows_files_findings_generation_and_lookups() {
    let (daemon, admin) = Admin::start(setup());
    let mut client = Socketmap::to(&daemon, 0);
    assert_eq!(
        client.query("relayhost", "x@one.test"),
        Reply::found("[relay1.test]:587")
    );
    assert_eq!(client.query("relayhost", "x@direct.test"), Reply::NotFound);
    let mut browser = Browser::start();
    browser.set_window(DESKTOP);
    browser.open(&url(&admin, "/"));
    assert_eq!(browser.complaints(), [""; 0]);
    assert_eq!(browser.requested(), [url(&admin, "/")]);
    assert_eq!(browser.text("title"), "OK – postmapd");
    assert_eq!(browser.text(".state"), "All files are valid and active.");
    assert_eq!(browser.text("#generation"), "1");
    assert!(browser.text("#age").contains("since 20"));
    assert_ne!(browser.text("#rate").split('\n').next(), Some("0"));
    let files = browser.evaluate("[...document.querySelectorAll('.file')].map(file => file.innerText)");
    let path = daemon.dir().join(RELAYMAP).display().to_string();
    let relay_map = files
        .as_array()
        .unwrap()
        .iter()
        .find_map(|file| file.as_str()?.strip_prefix(&path));
    assert_eq!(
        relay_map
            .unwrap()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" "),
        "valid table of relayhost, 3 active entries"
    );
    let row = browser.text("tbody tr");
    let row: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(row[0], "relayhost");
    assert!(row.join(" ").contains("1 in all"), "{row:?}");

    // An invalid edit: what is wrong, where, and what to do.
    daemon.replace(RELAYMAP, "@one.test [relay1.test\n");
    eventually(|| admin.get("/readyz").code, |code| *code == 503);
    browser.open(&url(&admin, "/"));
    assert_eq!(browser.text("title"), "invalid files – postmapd");
    assert_eq!(
        browser.text(".state"),
        "The files on disk are not used. Lookups are answered from the last valid version."
    );
    assert_eq!(browser.text("#generation"), "1");
    assert_eq!(
        browser.text("#differing"),
        format!("On disk, these files differ from it: {path}")
    );
    let finding = browser.text(".file .finding");
    assert!(
        finding.starts_with("error, line 1, column 11: this is not a next hop"),
        "{finding}"
    );
    assert!(
        finding.contains("write [host]:port") && finding.ends_with("bad-next-hop"),
        "{finding}"
    );

    daemon.replace(RELAYMAP, "@one.test [relay2.test]:587\n");
    eventually(|| admin.get("/readyz").code, |code| *code == 200);
    // A moment later, the server has recorded what it read.
    let differs = || admin.get("/").body.contains("id=\"differing\"");
    eventually(differs, |differs| !differs);
    browser.open(&url(&admin, "/"));
    assert_eq!(browser.text("#generation"), "2");
    assert_eq!(
        browser.evaluate("document.querySelectorAll('.finding.error, #differing').length"),
        0
    );
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn a_sender_is_explained_with_the_keyboard_alone_and_without_scripts() {
    let (daemon, admin) = Admin::start(setup());
    let mut browser = Browser::start();
    browser.set_window(DESKTOP);
    browser.open(&url(&admin, "/"));
    // No script of the page would run.
    let can_run = "const e = document.createElement('script'); e.text = 'window.ran = 1'; document.body.append(e); window.ran";
    assert_eq!(browser.evaluate(can_run), serde_json::Value::Null);
    browser.open(&url(&admin, "/"));
    let accessible = browser.accessible();
    for expected in [
        ("textbox", "Envelope sender"),
        ("button", "Explain"),
        ("heading", "Files"),
        ("main", ""),
    ] {
        let (role, name) = expected;
        assert!(
            accessible.iter().any(|(own, label)| own == role && label == name),
            "{expected:?}: {accessible:?}"
        );
    }
    browser.press("Tab", 9);
    assert_eq!(browser.evaluate("document.activeElement.id"), "sender");
    let outline = browser.evaluate("getComputedStyle(document.activeElement).outlineStyle");
    assert_eq!(outline, "solid", "the focus is visible");
    browser.type_text(" Ann+x@One.test ");
    browser.submit();
    assert_eq!(
        browser.evaluate("location.search"),
        "?sender=+Ann%2Bx%40One.test+"
    );
    assert_eq!(
        browser.evaluate("document.querySelector('#sender').value"),
        "Ann+x@One.test"
    );
    assert_eq!(
        browser.text(".summary"),
        "Mail goes to [relay1.test]:587 with a login."
    );
    let answers =
        browser.evaluate("[...document.querySelectorAll('.answer')].map(answer => answer.innerText)");
    let answers: Vec<String> = answers
        .as_array()
        .unwrap()
        .iter()
        .map(|answer| {
            answer
                .as_str()
                .unwrap()
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    let relay_map = daemon.dir().join(RELAYMAP).display().to_string();
    for (number, begins, has) in [
        (
            0,
            "Next hop found map relayhost, key Ann+x@One.test [relay1.test]:587 from ",
            format!("{relay_map}:1 because the relay map has an entry for @one.test"),
        ),
        (
            1,
            "Login found map sasl, key Ann+x@One.test ******** from ",
            "Postfix logs in if the server offers AUTH".to_owned(),
        ),
        (
            2,
            "Service and next hop found map transport, key Ann+x@One.test relay-starttls:[relay1.test]:587 from ",
            "STARTTLS".to_owned(),
        ),
        (
            3,
            "TLS policy found map tls, key [relay1.test]:587 secure match=nexthop servername=hostname because ",
            "certificate".to_owned(),
        ),
    ] {
        assert!(
            answers[number].starts_with(begins) && answers[number].contains(&has),
            "{answers:?}"
        );
    }
    assert_eq!(answers.len(), 4, "{answers:?}");
    let page = admin.get("/?sender=ann@one.test").body;
    assert!(!page.contains("CANARY") && !page.contains("SECRETUSER"), "{page}");

    for (sender, summary) in [
        (
            "x@direct.test",
            "Mail is delivered directly, or by relayhost of main.cf if that is set.",
        ),
        ("boss@one.test", "Mail goes to [relay9.test]:465 with a login."),
    ] {
        browser.open(&url(&admin, &format!("/?sender={sender}")));
        assert_eq!(browser.text(".summary"), summary);
    }
    // What no sender is.
    browser.open(&url(&admin, "/?sender=one.test"));
    assert!(
        browser
            .text("section form + .finding")
            .contains("An envelope sender is an address")
    );
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn text_from_files_and_requests_is_shown_and_never_interpreted() {
    const HOSTILE: &str =
        "\"><script>document.title='FORGED'</script><img src=x onerror=alert(1)><b>&lt;'{{7*7}}";
    let root = tempfile::tempdir().unwrap();
    // A name of a file has no slash.
    let name = HOSTILE.replace('/', "\u{2215}");
    let dir = root.path().join(&name);
    fs::create_dir(&dir).unwrap();
    let (_daemon, admin) = Admin::start(
        Setup::in_directory(&dir)
            .relaymap("@one.test [relay1.test\n<script>alert(1)</script> [r.test]\n")
            .env("RELAY_HOST", "r.test")
            .env("RELAY_USER", "u")
            .env("RELAY_PASSWORD_FILE", format!("/no/{name}")),
    );
    let mut browser = Browser::start();
    browser.set_window(DESKTOP);
    let before = {
        browser.open(&url(&admin, "/"));
        browser
            .evaluate("document.querySelectorAll('*').length")
            .as_u64()
            .unwrap()
    };
    let encoded = percent_encoded(HOSTILE);
    for sender in [
        String::new(),
        encoded.clone(),
        format!("%22{encoded}%22@one.test"),
        "%00%1b%e2%80%ae%ff@one.test".to_owned(),
    ] {
        browser.open(&url(&admin, &format!("/?sender={sender}")));
        assert_eq!(browser.requested().len(), 1, "{:?}", browser.requested());
        assert_eq!(browser.complaints(), [""; 0]);
        assert_eq!(browser.text("title"), "invalid files – postmapd");
        let elements =
            "document.querySelectorAll('script, img, b, main form ~ form, iframe, object, embed').length";
        assert_eq!(browser.evaluate(elements), 0);
        let attributes = "[...document.querySelectorAll('*')].flatMap(e => e.getAttributeNames()).filter(name => name.startsWith('on') || name == 'style').length";
        assert_eq!(browser.evaluate(attributes), 0);
        assert!(
            browser.text("#files ~ .list").contains(&name),
            "the name is shown as it is"
        );
        let text = browser.text("body");
        assert!(!text.contains(['\u{202e}', '\u{1b}', '\0']), "{text}");
    }
    assert!(browser.text("#answer").contains("\\u{202e}"), "as an escape");
    browser.open(&url(&admin, &format!("/?sender={encoded}")));
    assert_eq!(
        browser.evaluate("document.querySelector('#sender').value"),
        HOSTILE
    );
    assert!(browser.text("#answer").contains(HOSTILE));
    let after = browser
        .evaluate("document.querySelectorAll('*').length")
        .as_u64()
        .unwrap();
    assert!(after > before);
}

/// The texts of the page whose contrast to their background is below 4.5 (WCAG 2.2, 1.4.3), computed from its colours.
const LOW_CONTRAST: &str = r"
(() => {
  const parts = color => color.match(/[\d.]+/g).map(Number);
  const light = color => parts(color).slice(0, 3).map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const background = element => {
    const color = getComputedStyle(element).backgroundColor;
    return parts(color).length === 4 && parts(color)[3] === 0 ? background(element.parentElement) : color;
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const low = [];
  let checked = 0;
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim()) continue;
    checked += 1;
    const pair = [light(getComputedStyle(element).color), light(background(element))].sort((a, b) => b - a);
    const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (ratio < 4.5) low.push(`${ratio.toFixed(2)}: ${texts.currentNode.data}`);
  }
  return checked < 50 ? ['only ' + checked] : low;
})()";

/// The elements that are wider than the window, or smaller than can be read or touched.
const TOO_WIDE_OR_SMALL: &str = r"
[...document.querySelectorAll('body *')].filter(element => {
  const box = element.getBoundingClientRect();
  if (box.width <= 1 || element.closest('thead')) return false;
  const style = getComputedStyle(element);
  return box.right > document.documentElement.clientWidth + 1 || parseFloat(style.fontSize) < 13
    || ['INPUT', 'BUTTON'].includes(element.tagName) && box.height < 44;
}).map(element => element.outerHTML.slice(0, 200))";

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn the_page_is_readable_on_a_phone_and_in_the_dark() {
    let long = "a".repeat(60);
    let setup = setup().relaymap(format!(
        "{RELAYS}@{long}.{long}.test [{long}.{long}.{long}.test]:587\n  @warning.test [r.test]\n"
    ));
    let (daemon, admin) = Admin::start(setup);
    daemon.replace("postfix-relay-tls.cf", "[x.test] none,may\n");
    eventually(|| admin.get("/readyz").code, |code| *code == 503);
    let mut browser = Browser::start();
    let mut backgrounds = Vec::new();
    for is_dark in [false, true] {
        for window in [PHONE, DESKTOP] {
            browser.set_window(Window { is_dark, ..window });
            browser.open(&url(&admin, &format!("/?sender=x@{long}.{long}.test")));
            assert!(browser.text("#answer").contains(&long));
            let width = browser.evaluate("document.documentElement.scrollWidth");
            assert_eq!(width, window.width, "{is_dark}");
            assert_eq!(
                browser.evaluate(TOO_WIDE_OR_SMALL),
                serde_json::json!([]),
                "{is_dark} {}",
                window.width
            );
            assert_eq!(
                browser.evaluate(LOW_CONTRAST),
                serde_json::json!([]),
                "{is_dark} {}",
                window.width
            );
            backgrounds.push(
                browser
                    .evaluate("getComputedStyle(document.body).backgroundColor")
                    .to_string(),
            );
        }
    }
    backgrounds.dedup();
    assert_eq!(backgrounds.len(), 2, "light and dark: {backgrounds:?}");
}

/// With `POSTMAPD_REWRITE=1` this takes the picture again, which then should be optimized (`optipng`).
#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn the_picture_in_the_readme_has_the_size_of_the_page_that_it_shows() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let picture = repository.join("contrib/page.png");
    let relays = fs::read_to_string(repository.join("contrib/example/postfix-relaymap.cf")).unwrap();
    let setup = Setup::new()
        .relaymap(relays + "@domain1.com        [relay9.org]:587\n")
        .credentials(fs::read(repository.join("contrib/example/postfix-sasl-password.cf")).unwrap());
    // So that the picture has no path of this machine.
    let mount =
        "mount -t tmpfs none /srv && mkdir /srv/postmapd && mount --bind \"$0\" /srv/postmapd && exec \"$@\"";
    let dir = setup.dir().to_str().unwrap().to_owned();
    let setup = setup
        .without_dir_flag()
        .env("POSTMAPD_DIR", "/srv/postmapd")
        .within(["unshare", "--mount", "sh", "-c", mount, &dir]);
    let (daemon, admin) = Admin::start(setup);
    let mut client = Socketmap::to(&daemon, 0);
    for (map, key) in [
        ("relayhost", "user@domain1.com"),
        ("sasl", "user@domain1.com"),
        ("relayhost", "user@domain3.com"),
    ] {
        client.query(map, key);
    }
    let mut browser = Browser::start();
    browser.set_window(Window {
        width: 900,
        height: 1440,
        is_dark: false,
    });
    browser.open(&url(&admin, "/?sender=user@domain1.com"));
    let taken = base64(&browser.screenshot()).unwrap();
    if std::env::var_os("POSTMAPD_REWRITE").is_some() {
        fs::write(&picture, &taken).unwrap();
    }
    let size = |png: &[u8]| png[16..24].to_vec();
    let kept = fs::read(&picture).unwrap();
    assert_eq!(size(&kept), size(&taken));
    assert!(kept.len() < 200_000, "{} bytes", kept.len());
    assert!(include_str!("../../README.md").contains("](contrib/page.png)"));
}
