//! Arbitrary rows, of which about half are valid: whole texts, parts in any order, and one character that is changed.

use proptest::prelude::*;

use super::Candidate;

/// Texts of any of these parts.
fn parts(parts: &'static [&'static str], most: usize) -> BoxedStrategy<String> {
    prop::collection::vec(prop::sample::select(parts), 0..=most)
        .prop_map(|parts| parts.concat())
        .boxed()
}

/// A text with one character replaced or added, so that what is nearly valid occurs.
fn nearly(text: impl Strategy<Value = String> + 'static) -> BoxedStrategy<String> {
    const CHARACTERS: &[char] = &[
        '\u{a0}',
        '\u{200b}',
        '\u{2019}',
        '\u{ff0e}',
        '\u{200d}',
        'é',
        '中',
        '\n',
        '\r',
        '\t',
        ' ',
        '#',
        '"',
        '\\',
        '@',
        ':',
        '[',
        ']',
        ',',
        '.',
        '-',
        '_',
        '*',
        '<',
        '0',
        '9',
        '\'',
        '=',
        '$',
        '\u{1}',
        '\u{7f}',
        '\u{85}',
        '\u{feff}',
        '\u{10fffd}',
    ];
    (
        text,
        prop::option::weighted(
            0.15,
            (
                any::<prop::sample::Index>(),
                prop::sample::select(CHARACTERS),
                any::<bool>(),
            ),
        ),
    )
        .prop_map(|(text, change)| {
            let Some((at, character, replaces)) = change else {
                return text;
            };
            let mut characters: Vec<char> = text.chars().collect();
            let at = at.index(characters.len() + 1);
            if replaces && at < characters.len() {
                characters[at] = character;
            } else {
                characters.insert(at, character);
            }
            characters.into_iter().collect()
        })
        .boxed()
}

const LABELS: &[&str] = &[
    "a",
    "example",
    "com",
    "xn--a",
    "x_y",
    "1",
    "255",
    "256",
    "münchen",
    "日本",
    "-a",
    "a-",
    ".",
    "..",
    "",
    "a234567890123456789012345678901234567890123456789012345678901234",
    "a23456789012345678901234567890123456789012345678901234567890123",
];
const ADDRESSES: &[&str] = &[
    "192.0.2.1",
    "256.0.2.1",
    "1.2.3",
    "01.2.3.4",
    "1.2.3.4.5",
    "::",
    "::1",
    "2001:db8::1",
    "1:2:3:4:5:6:7:8",
    "1:2:3:4:5:6:7::",
    "::2:3:4:5:6:7:8",
    "1:2:3:4::5:6:7:8",
    "1:2:3:4:5:6:7:8:9",
    "::ffff:192.0.2.1",
    "1:2:3:4:5:6:192.0.2.1",
    "1::2::3",
    "12345::",
    "::g",
    "fe80::1%eth0",
    "1:2:3:4:5:6::192.0.2.1",
];

fn host() -> BoxedStrategy<String> {
    prop_oneof![
        6 => prop::sample::select(&["a.example", "xn--a.x_y.example", "1.a", "relay", "192.0.2.255"][..]).prop_map(str::to_owned),
        3 => prop::collection::vec(prop::sample::select(LABELS), 1..=4).prop_map(|labels| labels.join(".")),
        1 => prop::collection::vec(prop::sample::select(LABELS), 5..=8).prop_map(|labels| labels.join(".")),
        2 => prop::sample::select(ADDRESSES).prop_map(str::to_owned),
        1 => prop::sample::select(ADDRESSES).prop_map(|address| format!("IPv6:{address}")),
        1 => parts(LABELS, 3),
    ]
    .boxed()
}

fn next_hop() -> BoxedStrategy<String> {
    const PORTS: &[&str] = &[
        "",
        "",
        "",
        ":25",
        ":587",
        ":465",
        ":65535",
        ":65536",
        ":99999",
        ":0",
        ":00025",
        ":smtp",
        ":smtps",
        ":Smtp",
        ":submissions",
        ":http",
        ":",
        ":1x",
        ":123456",
    ];
    let port = || prop::sample::select(PORTS);
    prop_oneof![
        2 => (host(), port()).prop_map(|(host, port)| format!("[{host}]{port}")),
        2 => (host(), port()).prop_map(|(host, port)| format!("{host}{port}")),
        1 => prop::sample::select(&["DUNNO", "smtp:[a]", "https://a", "relay:25", "*", ".", "[a", "a]"][..]).prop_map(str::to_owned),
    ]
    .boxed()
}

fn list() -> BoxedStrategy<String> {
    let separator = prop::sample::select(&[",", " ", ", ", " , ", "\t", ",,", ";", " # "][..]);
    prop_oneof![
        3 => next_hop(),
        1 => (next_hop(), separator, next_hop()).prop_map(|(a, separator, b)| format!("{a}{separator}{b}")),
    ]
    .boxed()
}

fn sender() -> BoxedStrategy<String> {
    const LOCAL: &[&str] = &[
        "",
        "",
        "user",
        "a.b",
        "a..b",
        ".a",
        "a.",
        "ü",
        "o'brien",
        "a+b",
        "\"john doe\"",
        "\"\"",
        "\"a\\\"b\"",
        "\"a@b\"",
        "\"a\\\\\"",
        "\"a",
        "a b",
        "a,b",
        "mailto:a",
        "@",
        "#a",
        "a#b",
        "\"é\"",
        "$a",
        "(a)",
        "\u{2019}",
        "\"a\u{a0}b\"",
    ];
    prop_oneof![
        5 => (prop::sample::select(LOCAL), host()).prop_map(|(local, host)| format!("{local}@{host}")),
        1 => (prop::sample::select(LOCAL), host()).prop_map(|(local, host)| format!("{local}@[{host}]")),
        1 => host().prop_map(|host| format!("@.{host}")),
        1 => prop::sample::select(&["<>", "\"<>\"", "@*", "@.", "@", "*", "", "null", "<<<<<<< HEAD", "$ANSIBLE_VAULT;1.1", "user@*"][..]).prop_map(str::to_owned),
        1 => host(),
    ]
    .boxed()
}

fn tls() -> BoxedStrategy<String> {
    const WORDS: &[&str] = &[
        "implicit",
        "STARTTLS",
        "none",
        "may",
        "encrypt",
        "dane",
        "Dane-only",
        "fingerprint",
        "verify",
        "secure",
        "match=nexthop",
        "MATCH=.a.example:b",
        "match=",
        "servername=hostname",
        "servername=a..b",
        "servername=1.2",
        "servername=1.2.x",
        "protocols=>=TLSv1.2",
        "protocols=!SSLv2:!TLSv1",
        "protocols=>=SSLv2",
        "protocols=<=0x304",
        "protocols=",
        "ciphers=high",
        "ciphers=best",
        "exclude=aNULL",
        "tafile=/a",
        "connection_reuse=yes",
        "enable_rpk=maybe",
        "via=relay-2",
        "via=:",
        "secur",
        "verify_depth=3",
        "exclude=a#b",
        "match=é",
        "match=a,match=b",
    ];
    let separator = prop::sample::select(&[" ", ", ", ",", "\t", "  "][..]);
    let any = (
        prop::collection::vec(prop::sample::select(WORDS), 0..=5),
        separator,
    )
        .prop_map(|(words, separator)| words.join(separator));
    let ordered = (
        prop::sample::select(&["", "implicit ", "starttls, "][..]),
        prop::sample::select(&WORDS[2..10]),
        prop::collection::vec(prop::sample::select(&WORDS[10..]), 0..=2),
    )
        .prop_map(|(mode, level, words)| format!("{mode}{level} {}", words.join(" ")).trim_end().to_owned());
    prop_oneof![1 => any, 2 => ordered].boxed()
}

/// Returns any row of any table.
pub(crate) fn candidate() -> BoxedStrategy<Candidate> {
    let user = || {
        prop::sample::select(
            &[
                "u",
                "user@a.example",
                "a b",
                " u",
                "u ",
                "a:b",
                "ü",
                "#u",
                "",
                "\u{a0}",
            ][..],
        )
        .prop_map(str::to_owned)
    };
    let password = || {
        prop::sample::select(
            &[
                "p", " p", "p ", "p:q", "#", "\"\\'$%", "pä", "", "\u{3000}", "a\tb", "DUNNO",
            ][..],
        )
        .prop_map(str::to_owned)
    };
    prop_oneof![
        (nearly(sender()), prop::option::weighted(0.8, nearly(list()))).prop_map(|(key, value)| Candidate {
            table: "relay",
            key,
            values: [value, None],
        }),
        (
            prop_oneof![nearly(sender()), nearly(next_hop())],
            prop::option::weighted(0.8, nearly(user())),
            prop::option::weighted(0.8, nearly(password())),
        )
            .prop_map(|(key, user, password)| Candidate {
                table: "credential",
                key,
                values: [user, password],
            }),
        (
            nearly(prop_oneof![3 => next_hop(), 1 => Just("*".to_owned())]),
            nearly(tls())
        )
            .prop_map(|(key, value)| Candidate {
                table: "relay_tls",
                key,
                values: [Some(value), None],
            }),
    ]
    .boxed()
}
